//! The journal's header and records.
//!
//! A journal file is a page of headers and a ring of records:
//!
//! ```text
//!     0  header, even generations    512
//!   512  header, odd generations     512   the valid one with the higher generation counts
//!  1024  unused                     3072
//!  4096  records, one behind the other; behind the last that fits before the end, the next stands at 4096
//! ```
//!
//! Everything is authenticated under a key of its epoch, so that no record of another volume,
//! another epoch or another hand is ever taken for one: AES-256-GCM of nothing, with the bytes
//! before the nonce as associated data. The key is HKDF-SHA-256 of the volume's journal key with
//! salt = volume id ‖ epoch and info = "envelopefs journal epoch".

use super::{ENTRY_LEN, Entry, FileId, FormatError, PAGE, VolumeId, field};
use crate::crypto::{AeadKey, NONCE_LEN, Sealed, TAG_LEN, hkdf_sha256};
use crate::secret::Key256;

/// Where the records start.
pub const RING_AT: u64 = PAGE as u64;
/// Bytes in a header.
pub const JOURNAL_HEADER_LEN: usize = 512;
/// Bytes of a record before its extents.
pub const RECORD_HEAD: usize = 80;
/// Bytes of one extent's description.
pub const EXTENT_LEN: usize = 16;
/// Bytes behind a record's body.
pub const RECORD_TAIL: usize = NONCE_LEN + TAG_LEN;
/// The most bytes of a record.
pub const JOURNAL_RECORD_MAX: usize = 2 << 20;

const HEADER_MAGIC: [u8; 8] = *b"ENVLPJNL";
const RECORD_MAGIC: [u8; 4] = *b"EJR1";
const VERSION: u16 = 1;
const HEADER_AAD: usize = 80;
/// Records start at multiples of this.
const ALIGN: usize = 4;

/// The key of one epoch's journal.
pub struct JournalKey(AeadKey);

impl JournalKey {
    /// Derives it from the volume's journal key.
    pub fn derive(journal: &Key256, volume: &VolumeId, epoch: u64) -> Self {
        let mut salt = [0; 24];
        salt[..16].copy_from_slice(&volume.0);
        salt[16..].copy_from_slice(&epoch.to_le_bytes());
        Self(AeadKey::new(&hkdf_sha256(
            journal,
            &salt,
            &[b"envelopefs journal epoch"],
        )))
    }

    /// Nonce and tag of what stands before them.
    pub fn tag(&self, bytes: &[u8]) -> [u8; RECORD_TAIL] {
        let sealed = self.0.seal(bytes, &[], &mut []);
        let mut out = [0; RECORD_TAIL];
        out[..NONCE_LEN].copy_from_slice(&sealed.nonce);
        out[NONCE_LEN..].copy_from_slice(&sealed.tag);
        out
    }

    fn authentic(&self, bytes: &[u8], tail: &[u8]) -> bool {
        let (Ok(nonce), Ok(tag)) = (field(tail, 0), field(tail, NONCE_LEN)) else {
            return false;
        };
        self.0
            .open_in_place(&Sealed { nonce, tag }, bytes, &mut [])
            .is_ok()
    }
}

/// The journal's header: where its records begin.
///
/// ```text
///  0  magic "ENVLPJNL"      8
///  8  version = 1           2
/// 10  zero                  6
/// 16  volume id            16
/// 32  epoch                 8   the opening of the volume that writes this journal
/// 40  generation            8   counts the headers of the file, over all epochs
/// 48  tail                  8   where the first record that counts stands
/// 56  tail sequence         8   its sequence number
/// 64  length                8   of the journal file: the ring ends there
/// 72  previous epoch        8   whose journal was here before, and was replayed
/// 80  nonce 12, tag 16
/// 108 zero, up to 512
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct JournalHeader {
    /// Whose journal this is.
    pub volume: VolumeId,
    /// The epoch that writes it.
    pub epoch: u64,
    /// Counts the headers of the file, over all epochs: the greatest is the newest.
    pub generation: u64,
    /// Where the first record that counts stands.
    pub tail: u64,
    /// That record's sequence number.
    pub sequence: u64,
    /// Where the ring ends.
    pub length: u64,
    /// The epoch whose journal was here before, and was replayed; 0: none.
    pub previous: u64,
}

impl JournalHeader {
    /// Where a header of this generation stands.
    pub fn place(&self) -> u64 {
        self.generation % 2 * JOURNAL_HEADER_LEN as u64
    }

    /// The bytes on disk.
    pub fn seal(&self, key: &JournalKey) -> [u8; JOURNAL_HEADER_LEN] {
        let mut out = [0; JOURNAL_HEADER_LEN];
        out[..8].copy_from_slice(&HEADER_MAGIC);
        out[8..10].copy_from_slice(&VERSION.to_le_bytes());
        out[16..32].copy_from_slice(&self.volume.0);
        let fields = [
            self.epoch,
            self.generation,
            self.tail,
            self.sequence,
            self.length,
            self.previous,
        ];
        for (i, field) in fields.iter().enumerate() {
            out[32 + 8 * i..][..8].copy_from_slice(&field.to_le_bytes());
        }
        let tag = key.tag(&out[..HEADER_AAD]);
        out[HEADER_AAD..HEADER_AAD + RECORD_TAIL].copy_from_slice(&tag);
        out
    }

    /// Parses and authenticates a header of this volume, of whatever epoch, with the volume's
    /// journal key; also gives the epoch's key.
    pub fn open(
        bytes: &[u8],
        journal: &Key256,
        volume: &VolumeId,
    ) -> Result<(Self, JournalKey), FormatError> {
        if field::<8>(bytes, 0)? != HEADER_MAGIC {
            return Err(FormatError::Magic);
        }
        let version = u16::from_le_bytes(field(bytes, 8)?);
        if version != VERSION {
            return Err(FormatError::Version(version));
        }
        let number = |at| field(bytes, at).map(u64::from_le_bytes);
        let header = Self {
            volume: VolumeId(field(bytes, 16)?),
            epoch: number(32)?,
            generation: number(40)?,
            tail: number(48)?,
            sequence: number(56)?,
            length: number(64)?,
            previous: number(72)?,
        };
        let key = JournalKey::derive(journal, volume, header.epoch);
        let tail = bytes
            .get(HEADER_AAD..HEADER_AAD + RECORD_TAIL)
            .ok_or(FormatError::Short)?;
        if header.volume != *volume || !key.authentic(&bytes[..HEADER_AAD], tail) {
            return Err(FormatError::Unauthentic);
        }
        if field::<6>(bytes, 10)? != [0; 6] || header.tail < RING_AT || header.tail > header.length
        {
            return Err(FormatError::Malformed("the journal's header"));
        }
        Ok((header, key))
    }
}

/// What becomes of the size of a cipher file when a record is replayed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Resize {
    /// Nothing.
    Keep,
    /// It has so many bytes at the least.
    AtLeast(u64),
    /// It has just so many bytes.
    Exactly(u64),
}

/// One step of the journal.
///
/// ```text
///  0  magic "EJR1"          4
///  4  kind                  1   1 change, 2 done: the records of this file before it are at home, 3 offer
///  5  size                  1   0 as it is, 1 at least, 2 exactly
///  6  extents               2   n
///  8  length                4   of the whole record, a multiple of 4
/// 12  length of the path    2
/// 14  zero                  2
/// 16  sequence              8   one more than that of the record before it
/// 24  epoch                 8
/// 32  file id              16
/// 48  inode                 8   of the cipher file: where to look first
/// 56  cipher size           8   what `size` is about
/// 64  body                  4   bytes of all extents
/// 68  zero                 12
/// 80  n extents        n x 16   offset in the cipher file 8, length 4, zero 4
///  .  path                      stored names from the root, `/` between them: where to look next
///  .  body                      the bytes of the extents one behind the other
///  .  zero                      up to a multiple of 4
///  .  nonce 12, tag 16
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct JournalRecord {
    /// Counts the records of an epoch.
    pub sequence: u64,
    /// What the record says.
    pub kind: RecordKind,
    /// The file.
    pub file: FileId,
    /// Its inode below.
    pub inode: u64,
    /// Its stored path, when that was known and short enough.
    pub path: Vec<u8>,
    /// What becomes of its size.
    pub resize: Resize,
    /// Where bytes go: offset in the cipher file, offset in the record, length.
    pub extents: Vec<(u64, usize, usize)>,
    /// Bytes of the whole record.
    pub len: usize,
}

/// What a record says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RecordKind {
    /// These bytes go home.
    Change,
    /// What earlier records of this file say is at home.
    Done,
    /// Blocks that nobody was promised are about to be overwritten in place. Each extent stands at
    /// a block's place in the cipher file, and has the new entry and length: should the process end
    /// before the entry is written, the block can be read all the same.
    Offer,
}

/// Bytes that an offer says of a block: its new entry, and its new length.
pub const OFFER_LEN: usize = ENTRY_LEN + 4;

/// What an offer says of a block.
pub fn offer(entry: &Entry, len: usize) -> [u8; OFFER_LEN] {
    let mut out = [0; OFFER_LEN];
    out[..ENTRY_LEN].copy_from_slice(&entry.encode());
    out[ENTRY_LEN..].copy_from_slice(&(len as u32).to_le_bytes());
    out
}

/// Reads [`offer`].
///
/// # Errors
/// [`FormatError`] for bytes that no writer writes.
pub fn parse_offer(bytes: &[u8]) -> Result<(Entry, usize), FormatError> {
    let wrong = FormatError::Malformed("an offer");
    let entry = Entry::parse(&field(bytes, 0)?)?.ok_or(wrong)?;
    let len = u32::from_le_bytes(field(bytes, ENTRY_LEN)?) as usize;
    if bytes.len() == OFFER_LEN && len <= PAGE {
        Ok((entry, len))
    } else {
        Err(wrong)
    }
}

/// A record that is being put together.
pub struct RecordBuilder {
    bytes: Vec<u8>,
    extents: usize,
    body_at: usize,
}

impl RecordBuilder {
    /// Starts a record of `extents` extents in `bytes`, which is cleared.
    pub fn new(
        mut bytes: Vec<u8>,
        kind: RecordKind,
        (file, inode, path): (&FileId, u64, &[u8]),
        resize: Resize,
        extents: usize,
    ) -> Self {
        let (size, cipher_size) = match resize {
            Resize::Keep => (0, 0),
            Resize::AtLeast(len) => (1, len),
            Resize::Exactly(len) => (2, len),
        };
        let path = if path.len() <= PAGE { path } else { &[] };
        bytes.clear();
        bytes.resize(RECORD_HEAD + extents * EXTENT_LEN, 0);
        bytes[..4].copy_from_slice(&RECORD_MAGIC);
        bytes[4] = match kind {
            RecordKind::Change => 1,
            RecordKind::Done => 2,
            RecordKind::Offer => 3,
        };
        bytes[5] = size;
        bytes[6..8].copy_from_slice(&(extents as u16).to_le_bytes());
        bytes[12..14].copy_from_slice(&(path.len() as u16).to_le_bytes());
        bytes[32..48].copy_from_slice(&file.0);
        bytes[48..56].copy_from_slice(&inode.to_le_bytes());
        bytes[56..64].copy_from_slice(&cipher_size.to_le_bytes());
        bytes.extend_from_slice(path);
        let body_at = bytes.len();
        Self {
            bytes,
            extents: 0,
            body_at,
        }
    }

    /// Adds an extent; where its bytes stand in the record.
    pub fn extent(&mut self, offset: u64, body: &[u8]) -> usize {
        let at = RECORD_HEAD + self.extents * EXTENT_LEN;
        self.bytes[at..at + 8].copy_from_slice(&offset.to_le_bytes());
        self.bytes[at + 8..at + 12].copy_from_slice(&(body.len() as u32).to_le_bytes());
        self.extents += 1;
        self.bytes.extend_from_slice(body);
        self.bytes.len() - body.len()
    }

    /// Bytes of the record when it is sealed.
    pub fn sealed_len(&self) -> usize {
        self.bytes.len().next_multiple_of(ALIGN) + RECORD_TAIL
    }

    /// The bytes on disk.
    pub fn seal(mut self, key: &JournalKey, epoch: u64, sequence: u64) -> Vec<u8> {
        let body = self.bytes.len() - self.body_at;
        let len = self.sealed_len();
        self.bytes.resize(len - RECORD_TAIL, 0);
        self.bytes[8..12].copy_from_slice(&(len as u32).to_le_bytes());
        self.bytes[16..24].copy_from_slice(&sequence.to_le_bytes());
        self.bytes[24..32].copy_from_slice(&epoch.to_le_bytes());
        self.bytes[64..68].copy_from_slice(&(body as u32).to_le_bytes());
        let tag = key.tag(&self.bytes);
        self.bytes.extend_from_slice(&tag);
        self.bytes
    }
}

impl JournalRecord {
    /// The length that the start of a record claims, if this is one with that sequence number.
    ///
    /// # Errors
    /// [`FormatError`] when there is no record here.
    pub fn peek(bytes: &[u8], epoch: u64, sequence: u64) -> Result<usize, FormatError> {
        if field::<4>(bytes, 0)? != RECORD_MAGIC
            || u64::from_le_bytes(field(bytes, 16)?) != sequence
            || u64::from_le_bytes(field(bytes, 24)?) != epoch
        {
            return Err(FormatError::Magic);
        }
        let len = u32::from_le_bytes(field(bytes, 8)?) as usize;
        if (RECORD_HEAD + RECORD_TAIL..=JOURNAL_RECORD_MAX).contains(&len)
            && len.is_multiple_of(ALIGN)
        {
            Ok(len)
        } else {
            Err(FormatError::Malformed("the length of a journal record"))
        }
    }

    /// Parses and authenticates a whole record.
    ///
    /// # Errors
    /// [`FormatError`]; the record is then torn, or another's.
    pub fn open(
        bytes: &[u8],
        key: &JournalKey,
        epoch: u64,
        sequence: u64,
    ) -> Result<Self, FormatError> {
        let len = Self::peek(bytes, epoch, sequence)?;
        let bytes = bytes.get(..len).ok_or(FormatError::Short)?;
        let (head, tail) = bytes.split_at(len - RECORD_TAIL);
        if !key.authentic(head, tail) {
            return Err(FormatError::Unauthentic);
        }
        let wrong = FormatError::Malformed("a journal record");
        let count = usize::from(u16::from_le_bytes(field(head, 6)?));
        let path_len = usize::from(u16::from_le_bytes(field(head, 12)?));
        let cipher_size = u64::from_le_bytes(field(head, 56)?);
        let body_len = u32::from_le_bytes(field(head, 64)?) as usize;
        let path_at = RECORD_HEAD + count * EXTENT_LEN;
        let body_at = path_at + path_len;
        let path = head.get(path_at..body_at).ok_or(wrong)?.to_vec();
        if head[14..16] != [0; 2]
            || head[68..RECORD_HEAD] != [0; 12]
            || (body_at + body_len).next_multiple_of(ALIGN) != head.len()
            || i64::try_from(cipher_size).is_err()
        {
            return Err(wrong);
        }
        let mut extents = Vec::with_capacity(count);
        let mut at = body_at;
        for i in 0..count {
            let extent = &head[RECORD_HEAD + i * EXTENT_LEN..];
            let offset = u64::from_le_bytes(field(extent, 0)?);
            let len = u32::from_le_bytes(field(extent, 8)?) as usize;
            let end = offset.checked_add(len as u64).ok_or(wrong)?;
            if i64::try_from(end).is_err() || at + len > body_at + body_len {
                return Err(wrong);
            }
            extents.push((offset, at, len));
            at += len;
        }
        if at != body_at + body_len {
            return Err(wrong);
        }
        Ok(Self {
            sequence,
            kind: match head[4] {
                1 => RecordKind::Change,
                2 => RecordKind::Done,
                3 => RecordKind::Offer,
                _ => return Err(wrong),
            },
            file: FileId(field(head, 32)?),
            inode: u64::from_le_bytes(field(head, 48)?),
            path,
            resize: match head[5] {
                0 => Resize::Keep,
                1 => Resize::AtLeast(cipher_size),
                2 => Resize::Exactly(cipher_size),
                _ => return Err(wrong),
            },
            extents,
            len,
        })
    }
}

#[cfg(test)]
mod tests;
