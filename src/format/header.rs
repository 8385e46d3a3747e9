//! The static part of a file's header, and where the parts of page 0 stand.

use super::{ENTRY_LEN, FileId, FormatError, PAGE, SLOT_LEN, STATE_LEN, field};

/// Bytes in the static part.
pub const STATIC_LEN: usize = 64;
/// Where envelope slot A starts.
pub const SLOT_A_AT: usize = STATIC_LEN;
/// Where envelope slot B starts: the second 512-byte sector, so that one torn sector leaves the other slot.
pub const SLOT_B_AT: usize = 512;
/// Where the state starts.
pub const STATE_AT: usize = SLOT_B_AT + SLOT_LEN;
/// Bytes in the header: static part, both slots, state.
pub const HEADER_LEN: usize = STATE_AT + STATE_LEN;
/// Where the block entries of the head group start.
pub const ENTRIES_AT: usize = HEADER_LEN;
/// Where the bytes of an inline file start.
pub const INLINE_AT: usize = ENTRIES_AT + ENTRY_LEN;
/// The longest inline file, in bytes.
pub const INLINE_MAX: usize = PAGE - INLINE_AT;

const _: () = assert!(SLOT_A_AT + SLOT_LEN == SLOT_B_AT && HEADER_LEN == 1024);

const MAGIC: [u8; 8] = *b"ENVLPFS\0";
const VERSION: u16 = 1;

/// Which algorithms a file uses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Suite {
    /// AES-256-GCM blocks, HKDF-SHA-256 derivation, HMAC-SHA-256 header MAC. Number 1.
    Aes256GcmHkdfSha256,
}

/// The part of a header that never changes while its data key lives.
///
/// ```text
///  0  magic "ENVLPFS\0"     8
///  8  format version = 1    2
/// 10  suite                 2
/// 12  flags = 0             4   unknown flags are refused
/// 16  file id              16
/// 32  zero                 32
/// ```
///
/// Authenticated by the MAC of each envelope slot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StaticPart {
    /// The algorithms.
    pub suite: Suite,
    /// The file's identity, random, bound to its data key.
    pub file_id: FileId,
}

impl StaticPart {
    /// The bytes on disk.
    pub fn encode(&self) -> [u8; STATIC_LEN] {
        let mut out = [0; STATIC_LEN];
        out[..8].copy_from_slice(&MAGIC);
        out[8..10].copy_from_slice(&VERSION.to_le_bytes());
        out[10..12].copy_from_slice(&1u16.to_le_bytes());
        out[16..32].copy_from_slice(&self.file_id.0);
        out
    }

    /// Parses the first [`STATIC_LEN`] bytes.
    pub fn parse(bytes: &[u8]) -> Result<Self, FormatError> {
        if field::<8>(bytes, 0)? != MAGIC {
            return Err(FormatError::Magic);
        }
        let version = u16::from_le_bytes(field(bytes, 8)?);
        if version != VERSION {
            return Err(FormatError::Version(version));
        }
        let suite = u16::from_le_bytes(field(bytes, 10)?);
        if suite != 1 {
            return Err(FormatError::Suite(suite));
        }
        let flags = u32::from_le_bytes(field(bytes, 12)?);
        if flags != 0 {
            return Err(FormatError::Flags(flags));
        }
        if field::<32>(bytes, 32)? != [0; 32] {
            return Err(FormatError::Malformed(
                "the reserved bytes of a header are zero",
            ));
        }
        Ok(Self {
            suite: Suite::Aes256GcmHkdfSha256,
            file_id: FileId(field(bytes, 16)?),
        })
    }
}
