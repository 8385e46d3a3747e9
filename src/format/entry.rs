//! Block entries: what opens a block.

use super::{FormatError, field};
use crate::crypto::Sealed;

/// Bytes in a block entry.
pub const ENTRY_LEN: usize = 32;

/// What kind of block an entry is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EntryFlags {
    /// A block at its place in a group. Number 0.
    Block,
    /// The bytes of an inline file. Number 1.
    Inline,
}

/// The entry of a block that was written.
///
/// ```text
///  0  nonce            12
/// 12  tag              16
/// 28  key generation    1   which of the file's data keys sealed it
/// 29  flags             1   0 block, 1 inline
/// 30  sequence          2   counts the writes of this block, wrapping
/// ```
///
/// All zero is a hole: a block never written. The last four bytes are in the block's associated data.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Entry {
    /// Nonce and tag of the seal.
    pub sealed: Sealed,
    /// Which data key of the file sealed it.
    pub key_generation: u8,
    /// Block or inline.
    pub flags: EntryFlags,
    /// How often the block was written, modulo 2^16.
    pub sequence: u16,
}

impl Entry {
    /// The entry's last four bytes, which the seal authenticates.
    pub fn authenticated(key_generation: u8, flags: EntryFlags, sequence: u16) -> [u8; 4] {
        let [low, high] = sequence.to_le_bytes();
        [key_generation, flags as u8, low, high]
    }

    /// The bytes on disk.
    pub fn encode(&self) -> [u8; ENTRY_LEN] {
        let mut out = [0; ENTRY_LEN];
        out[..12].copy_from_slice(&self.sealed.nonce);
        out[12..28].copy_from_slice(&self.sealed.tag);
        out[28..].copy_from_slice(&Self::authenticated(
            self.key_generation,
            self.flags,
            self.sequence,
        ));
        out
    }

    /// Parses [`ENTRY_LEN`] bytes; `None` is a hole.
    pub fn parse(bytes: &[u8; ENTRY_LEN]) -> Result<Option<Self>, FormatError> {
        if *bytes == [0; ENTRY_LEN] {
            return Ok(None);
        }
        let flags = match bytes[29] {
            0 => EntryFlags::Block,
            1 => EntryFlags::Inline,
            _ => return Err(FormatError::Malformed("unknown flags in a block entry")),
        };
        Ok(Some(Self {
            sealed: Sealed {
                nonce: field(bytes, 0)?,
                tag: field(bytes, 12)?,
            },
            key_generation: bytes[28],
            flags,
            sequence: u16::from_le_bytes(field(bytes, 30)?),
        }))
    }
}
