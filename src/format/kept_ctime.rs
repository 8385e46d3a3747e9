//! The change time that a file shows although its header was rewritten.

use super::{FormatError, VolumeId, field};
use crate::crypto::{mac, mac_matches};
use crate::secret::Key256;

/// Bytes in a [`KeptCtime`].
pub const KEPT_CTIME_LEN: usize = 64;
const AUTHENTICATED: usize = 32;

/// A rewrite of a header moves the file's ctime below; this remembers what it was before.
///
/// ```text
///  0  inode number below   8
///  8  ctime after          8   seconds since 1970
/// 16  ctime before         8   seconds since 1970
/// 24  ctime after          4   nanoseconds
/// 28  ctime before         4   nanoseconds
/// 32  MAC                 32   HMAC-SHA-256 of "ctime", the volume id and bytes 0..32
/// ```
///
/// It holds for as long as the ctime below is the one that the rewrite gave: with the next change
/// the file shows its own again. `.envelopefs/ctimes` holds these sorted by inode number, and
/// `.envelopefs/ctimes.log` those that are not sorted in yet, in the order in which they came.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct KeptCtime {
    /// The inode number below.
    pub ino: u64,
    /// The ctime that the rewrite gave: seconds, nanoseconds.
    pub after: (i64, u32),
    /// The ctime that is shown in its place.
    pub before: (i64, u32),
}

impl KeptCtime {
    /// The bytes on disk.
    pub fn seal(&self, key: &Key256, volume: &VolumeId) -> [u8; KEPT_CTIME_LEN] {
        let mut out = [0; KEPT_CTIME_LEN];
        out[..8].copy_from_slice(&self.ino.to_le_bytes());
        out[8..16].copy_from_slice(&self.after.0.to_le_bytes());
        out[16..24].copy_from_slice(&self.before.0.to_le_bytes());
        out[24..28].copy_from_slice(&self.after.1.to_le_bytes());
        out[28..32].copy_from_slice(&self.before.1.to_le_bytes());
        let tag = mac(key, &[b"ctime", &volume.0, &out[..AUTHENTICATED]]);
        out[AUTHENTICATED..].copy_from_slice(&tag);
        out
    }

    /// Parses [`KEPT_CTIME_LEN`] bytes without authenticating them.
    ///
    /// # Errors
    /// [`FormatError::Short`], [`FormatError::Malformed`].
    pub fn parse(bytes: &[u8]) -> Result<Self, FormatError> {
        let nanos = |at| {
            let nanos = u32::from_le_bytes(field(bytes, at)?);
            if nanos < 1_000_000_000 {
                Ok(nanos)
            } else {
                Err(FormatError::Malformed("the nanoseconds of a kept ctime"))
            }
        };
        Ok(Self {
            ino: u64::from_le_bytes(field(bytes, 0)?),
            after: (i64::from_le_bytes(field(bytes, 8)?), nanos(24)?),
            before: (i64::from_le_bytes(field(bytes, 16)?), nanos(28)?),
        })
    }

    /// Whether this volume wrote these bytes.
    pub fn authentic(bytes: &[u8], key: &Key256, volume: &VolumeId) -> bool {
        let Ok(tag) = field::<32>(bytes, AUTHENTICATED) else {
            return false;
        };
        mac_matches(key, &[b"ctime", &volume.0, &bytes[..AUTHENTICATED]], &tag)
    }
}
