//! The mark: whether a volume was left cleanly, and which epochs ended in a crash.

use super::{FormatError, field};
use crate::crypto::{mac, mac_matches};
use crate::secret::Key256;

/// The most crashed epochs that a mark lists. Those before them are forgotten, and what was new in
/// them is read strictly again.
pub const EPOCHS_MOST: usize = 32;
/// The most bytes of a mark.
pub const MARK_MAX: usize = HEAD + 8 * EPOCHS_MOST + MAC_LEN;
/// The space that each of the two marks has in the file: one sector, which is old or new.
pub const MARK_SPACE: usize = 512;

const _: () = assert!(MARK_MAX <= MARK_SPACE);

const MAGIC: [u8; 8] = *b"ENVLPMRK";
const VERSION: u16 = 1;
const HEAD: usize = 32;
const MAC_LEN: usize = 32;
/// What the whole mark of a volume without a journal was, its MAC behind it.
const OLD_CLEAN: &[u8] = b"clean\n";
const OLD_IN_USE: &[u8] = b"in use\n";

/// Whether a volume was left cleanly.
///
/// ```text
///  0  magic "ENVLPMRK"      8
///  8  version = 1           2
/// 10  in use                1   1 while a writer has the volume open; 0: left cleanly
/// 11  journal               1   1: there is a journal of this epoch
/// 12  number of epochs      4   at most 32
/// 16  epoch                 8   the last opening for writing, random, not 0
/// 24  generation            8   counts the writes of the mark
/// 32  epochs                    8 each: those that ended in a crash and are not all recovered yet, oldest first
///  .  MAC                  32   HMAC-SHA-256 under the record key over "mark" and all before it
/// ```
///
/// It stands twice in its file, at 0 and at 512: an even generation in the first place, an odd one in the
/// second. The valid one with the higher generation counts.
///
/// A mark of the text "clean" or "in use" and a line feed, with its MAC, is that of a volume that never had a journal.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Mark {
    /// A writer has the volume open, or ended without closing it.
    pub in_use: bool,
    /// The last opening for writing; 0 when there was none with a journal.
    pub epoch: u64,
    /// Counts the writes of the mark.
    pub generation: u64,
    /// There is a journal of that epoch.
    pub journal: bool,
    /// Openings that ended in a crash, and after which not every file has been looked at yet.
    pub crashed: Vec<u64>,
}

impl Mark {
    /// The bytes on disk.
    pub fn seal(&self, record_key: &Key256) -> Vec<u8> {
        let skip = self.crashed.len().saturating_sub(EPOCHS_MOST);
        let crashed = &self.crashed[skip..];
        let mut out = Vec::with_capacity(MARK_MAX);
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(&[u8::from(self.in_use), u8::from(self.journal)]);
        out.extend_from_slice(&(crashed.len() as u32).to_le_bytes());
        out.extend_from_slice(&self.epoch.to_le_bytes());
        out.extend_from_slice(&self.generation.to_le_bytes());
        for epoch in crashed {
            out.extend_from_slice(&epoch.to_le_bytes());
        }
        let tag = mac(record_key, &[b"mark", &out]);
        out.extend_from_slice(&tag);
        out
    }

    /// Where a mark of this generation stands in its file.
    pub fn place(&self) -> u64 {
        self.generation % 2 * MARK_SPACE as u64
    }

    /// Reads the file of a mark: the newest that is authentic.
    pub fn open_file(bytes: &[u8], record_key: &Key256) -> Result<Self, FormatError> {
        if bytes.len() < 2 * MARK_SPACE {
            return Self::open(bytes, record_key);
        }
        let marks = bytes.chunks(MARK_SPACE).take(2).map(|space| {
            let count = u32::from_le_bytes(field(space, 12)?) as usize;
            let len = HEAD + 8 * count.min(EPOCHS_MOST) + MAC_LEN;
            Self::open(&space[..len], record_key)
        });
        let mut failure = FormatError::Short;
        marks
            .filter_map(|mark| mark.inspect_err(|error| failure = *error).ok())
            .max_by_key(|mark| mark.generation)
            .ok_or(failure)
    }

    /// Parses and authenticates a mark.
    pub fn open(bytes: &[u8], record_key: &Key256) -> Result<Self, FormatError> {
        let (text, tag) = bytes
            .split_last_chunk::<MAC_LEN>()
            .ok_or(FormatError::Short)?;
        if !mac_matches(record_key, &[b"mark", text], tag) {
            return Err(FormatError::Unauthentic);
        }
        if text == OLD_CLEAN || text == OLD_IN_USE {
            return Ok(Self {
                in_use: text == OLD_IN_USE,
                ..Self::default()
            });
        }
        if field::<8>(text, 0)? != MAGIC {
            return Err(FormatError::Magic);
        }
        let version = u16::from_le_bytes(field(text, 8)?);
        if version != VERSION {
            return Err(FormatError::Version(version));
        }
        let count = u32::from_le_bytes(field(text, 12)?) as usize;
        let epochs = text.get(HEAD..).ok_or(FormatError::Short)?;
        if text[10] > 1 || text[11] > 1 || count > EPOCHS_MOST || epochs.len() != 8 * count {
            return Err(FormatError::Malformed("the mark"));
        }
        Ok(Self {
            in_use: text[10] == 1,
            journal: text[11] == 1,
            epoch: u64::from_le_bytes(field(text, 16)?),
            generation: u64::from_le_bytes(field(text, 24)?),
            crashed: epochs
                .as_chunks::<8>()
                .0
                .iter()
                .map(|epoch| u64::from_le_bytes(*epoch))
                .collect(),
        })
    }
}
