//! Envelope slots: the wrapped data keys of a file.

use super::{FormatError, STATIC_LEN, VolumeId, field};
use crate::crypto::{mac, mac_matches};
use crate::secret::Key256;

/// Bytes in a slot.
pub const SLOT_LEN: usize = 448;
/// Where the MAC of a slot starts.
pub const SLOT_MAC_AT: usize = SLOT_LEN - 32;
/// The most wrapped keys in a slot.
pub const WRAPPED_KEYS_MAX: usize = 4;
const KEYS_AT: usize = 16;

/// Which of a file's data keys a wrapped key is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum KeyRole {
    /// Seals new blocks. Number 1.
    Current,
    /// Still opens blocks while a re-encrypt is under way. Number 2.
    Previous,
}

/// One wrapped data key: exactly the `CiphertextBlob` that the key manager returned.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct WrappedKey {
    /// The number by which block entries name this data key.
    pub key_generation: u8,
    /// Current or previous.
    pub role: KeyRole,
    /// The key manager's blob.
    pub blob: Vec<u8>,
}

/// An envelope slot. The valid one with the higher generation counts; a rewrap writes the other.
///
/// ```text
///   0  generation        8   0: the slot was never written
///   8  wrapped keys      1   how many, 1..=4
///   9  zero              7
///  16  wrapped keys    400   each: key generation 1, role 1, length 2, blob; then zeros
/// 416  MAC              32   HMAC-SHA-256 under the file's header key over
///                            "slot", volume id, static part, bytes 0..416
/// ```
///
/// The header key derives from the data key, so the MAC commits to the data key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Slot {
    /// Counts the writes of a file's slots.
    pub generation: u64,
    /// The wrapped keys.
    pub keys: Vec<WrappedKey>,
}

impl Slot {
    /// The bytes on disk, with the MAC.
    ///
    /// # Errors
    /// [`FormatError::Malformed`] when the keys don't fit.
    pub fn seal(
        &self,
        header_key: &Key256,
        volume: &VolumeId,
        static_part: &[u8; STATIC_LEN],
    ) -> Result<[u8; SLOT_LEN], FormatError> {
        let mut out = [0; SLOT_LEN];
        if self.generation == 0 || !(1..=WRAPPED_KEYS_MAX).contains(&self.keys.len()) {
            return Err(FormatError::Malformed(
                "a slot has a generation and one to four keys",
            ));
        }
        out[..8].copy_from_slice(&self.generation.to_le_bytes());
        out[8] = self.keys.len() as u8;
        let mut at = KEYS_AT;
        for key in &self.keys {
            let end = at + 4 + key.blob.len();
            if end > SLOT_MAC_AT {
                return Err(FormatError::Malformed("the wrapped keys don't fit a slot"));
            }
            out[at] = key.key_generation;
            out[at + 1] = match key.role {
                KeyRole::Current => 1,
                KeyRole::Previous => 2,
            };
            out[at + 2..at + 4].copy_from_slice(&(key.blob.len() as u16).to_le_bytes());
            out[at + 4..end].copy_from_slice(&key.blob);
            at = end;
        }
        let tag = mac(
            header_key,
            &[b"slot", &volume.0, static_part, &out[..SLOT_MAC_AT]],
        );
        out[SLOT_MAC_AT..].copy_from_slice(&tag);
        Ok(out)
    }

    /// Parses [`SLOT_LEN`] bytes without authenticating them; `None` is a slot never written.
    /// Whoever has unwrapped the key calls [`Slot::authentic`] before trusting anything in it.
    pub fn parse(bytes: &[u8]) -> Result<Option<Self>, FormatError> {
        let bytes: [u8; SLOT_LEN] = field(bytes, 0)?;
        if bytes == [0; SLOT_LEN] {
            return Ok(None);
        }
        let generation = u64::from_le_bytes(field(&bytes, 0)?);
        let count = usize::from(bytes[8]);
        if generation == 0 || !(1..=WRAPPED_KEYS_MAX).contains(&count) || bytes[9..16] != [0; 7] {
            return Err(FormatError::Malformed("the head of an envelope slot"));
        }
        let mut rest = &bytes[KEYS_AT..SLOT_MAC_AT];
        let mut keys = Vec::with_capacity(count);
        for _ in 0..count {
            let (head, tail) = rest.split_at_checked(4).ok_or(FormatError::Short)?;
            let role = match head[1] {
                1 => KeyRole::Current,
                2 => KeyRole::Previous,
                _ => return Err(FormatError::Malformed("the role of a wrapped key")),
            };
            let len = usize::from(u16::from_le_bytes([head[2], head[3]]));
            let (blob, tail) = tail.split_at_checked(len).ok_or(FormatError::Short)?;
            keys.push(WrappedKey {
                key_generation: head[0],
                role,
                blob: blob.to_vec(),
            });
            rest = tail;
        }
        if rest.iter().any(|&byte| byte != 0) {
            return Err(FormatError::Malformed(
                "bytes behind the wrapped keys of a slot",
            ));
        }
        Ok(Some(Self { generation, keys }))
    }

    /// Whether the MAC of the slot's bytes is right for this key, volume and static part.
    pub fn authentic(
        bytes: &[u8; SLOT_LEN],
        header_key: &Key256,
        volume: &VolumeId,
        static_part: &[u8; STATIC_LEN],
    ) -> bool {
        let (head, tag) = bytes.split_at(SLOT_MAC_AT);
        let Ok(tag) = tag.try_into() else {
            return false;
        };
        mac_matches(header_key, &[b"slot", &volume.0, static_part, head], tag)
    }

    /// The wrapped keys that wrap the current data key: one for each CMK that can open the file.
    pub fn current(&self) -> impl Iterator<Item = &WrappedKey> + Clone {
        self.keys.iter().filter(|key| key.role == KeyRole::Current)
    }

    /// Those that wrap the data key before it: there are none unless a re-encrypt is under way.
    pub fn previous(&self) -> impl Iterator<Item = &WrappedKey> + Clone {
        self.keys.iter().filter(|key| key.role == KeyRole::Previous)
    }
}
