//! The `CiphertextBlob`: what the key manager returns when it encrypts.
//!
//! ```text
//! offset  bytes
//!      0      1  version (1)
//!      1      1  flags; bit 0: the key id is that of a multi-Region key
//!      2     16  key id
//!     18      8  the first bytes of the key material's id
//!     26     16  salt of the wrapping key
//!     42      n  ciphertext, as long as the plaintext (1..=4096)
//!   42+n     16  tag
//! ```
//!
//! A wrapped 32-byte data key is [`DATA_KEY_LEN`] bytes. Which key wrapped it can be told without
//! any key ([`BlobHeader::parse`]); that the blob is genuine, only by opening it.

use std::ops::RangeInclusive;

/// Bytes before the salt: version, flags, key id, material.
pub const PREFIX_LEN: usize = 26;
/// Bytes in a salt.
pub const SALT_LEN: usize = 16;
/// Bytes before the ciphertext.
pub const HEADER_LEN: usize = PREFIX_LEN + SALT_LEN;
/// Bytes in a tag.
pub const TAG_LEN: usize = 16;
/// Bytes that a blob has more than its plaintext.
pub const OVERHEAD: usize = HEADER_LEN + TAG_LEN;
/// How long a plaintext can be, in bytes.
pub const PLAINTEXT_LEN: RangeInclusive<usize> = 1..=4096;
/// Bytes in the blob of a 32-byte data key.
pub const DATA_KEY_LEN: usize = OVERHEAD + 32;

const VERSION: u8 = 1;
const FLAG_MULTI_REGION: u8 = 1;

/// Why bytes are no `CiphertextBlob`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BlobError {
    /// Shorter or longer than any blob.
    #[error("a wrapped key can't be {0} bytes long")]
    Length(usize),
    /// Another format version, or no blob at all.
    #[error("wrapped key of format version {0}; this program knows version {VERSION}")]
    Version(u8),
    /// Flags that this version does not define.
    #[error("wrapped key with unknown flags {0:#04x}")]
    Flags(u8),
}

/// What a blob says in the clear.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlobHeader {
    /// The id of the CMK.
    pub key_id: [u8; 16],
    /// Whether the id is that of a multi-Region key (`mrk-...`).
    pub multi_region: bool,
    /// The first eight bytes of the key material's id.
    pub material: [u8; 8],
    /// What makes the wrapping key of this blob its own.
    pub salt: [u8; SALT_LEN],
}

impl BlobHeader {
    /// The header's bytes.
    pub fn encode(&self) -> [u8; HEADER_LEN] {
        let mut out = [0; HEADER_LEN];
        out[0] = VERSION;
        out[1] = if self.multi_region {
            FLAG_MULTI_REGION
        } else {
            0
        };
        out[2..18].copy_from_slice(&self.key_id);
        out[18..PREFIX_LEN].copy_from_slice(&self.material);
        out[PREFIX_LEN..].copy_from_slice(&self.salt);
        out
    }

    /// Reads the header of a whole blob.
    ///
    /// # Errors
    /// [`BlobError`] when the bytes are no blob.
    pub fn parse(blob: &[u8]) -> Result<Self, BlobError> {
        Blob::parse(blob).map(|blob| blob.header)
    }
}

/// A blob taken apart; nothing in it is verified yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Blob<'a> {
    /// The header, read.
    pub header: BlobHeader,
    /// The header's bytes, which the tag covers.
    pub header_bytes: &'a [u8; HEADER_LEN],
    /// The ciphertext.
    pub ciphertext: &'a [u8],
    /// The tag.
    pub tag: &'a [u8; TAG_LEN],
}

impl<'a> Blob<'a> {
    /// Takes a blob apart.
    ///
    /// # Errors
    /// [`BlobError`] when the bytes are no blob.
    pub fn parse(blob: &'a [u8]) -> Result<Self, BlobError> {
        let wrong_length = BlobError::Length(blob.len());
        let (header_bytes, rest) = blob.split_first_chunk::<HEADER_LEN>().ok_or(wrong_length)?;
        let (ciphertext, tag) = rest.split_last_chunk::<TAG_LEN>().ok_or(wrong_length)?;
        if !PLAINTEXT_LEN.contains(&ciphertext.len()) {
            return Err(wrong_length);
        }
        if header_bytes[0] != VERSION {
            return Err(BlobError::Version(header_bytes[0]));
        }
        if header_bytes[1] & !FLAG_MULTI_REGION != 0 {
            return Err(BlobError::Flags(header_bytes[1]));
        }
        let mut header = BlobHeader {
            key_id: [0; 16],
            multi_region: header_bytes[1] & FLAG_MULTI_REGION != 0,
            material: [0; 8],
            salt: [0; SALT_LEN],
        };
        header.key_id.copy_from_slice(&header_bytes[2..18]);
        header
            .material
            .copy_from_slice(&header_bytes[18..PREFIX_LEN]);
        header.salt.copy_from_slice(&header_bytes[PREFIX_LEN..]);
        Ok(Self {
            header,
            header_bytes,
            ciphertext,
            tag,
        })
    }
}

#[cfg(test)]
mod tests;
