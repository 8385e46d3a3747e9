//! The volume record: what a cipher directory is.

use serde::{Deserialize, Serialize};

use super::{FormatError, VolumeId, field};
use crate::crypto::{hkdf_sha256, mac, mac_matches};
use crate::secret::Key256;

/// The most bytes of a stored record.
pub const RECORD_MAX: usize = 16 * 1024;

const MAGIC: [u8; 8] = *b"ENVLPVOL";
const VERSION: u16 = 1;
const HEAD: usize = 16;
const MAC_LEN: usize = 32;

/// How names are stored.
#[derive(
    Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, bincode::Encode, bincode::Decode,
)]
#[serde(rename_all = "lowercase")]
pub enum NameEncoding {
    /// AES-256-SIV under the volume's name key.
    Encrypted,
    /// As they are.
    Plain,
}

/// What a cipher directory is: its identity, its CMK, its wrapped volume key.
///
/// Stored twice, as
///
/// ```text
///  0  magic "ENVLPVOL"      8
///  8  version = 1           2
/// 10  zero                  2
/// 12  length of the body    4
/// 16  body                      bincode 2, standard configuration, of this type
///  .  MAC                  32   HMAC-SHA-256 under the record key (from the volume key) over all before it
/// ```
///
/// The valid copy with the higher generation counts.
#[derive(Clone, PartialEq, Eq, Debug, bincode::Encode, bincode::Decode)]
pub struct VolumeRecord {
    /// Counts the writes of the record.
    pub generation: u64,
    /// The volume's identity.
    pub volume_id: VolumeId,
    /// Features that a reader must know; none are defined yet.
    pub features: u64,
    /// How names are stored.
    pub names: NameEncoding,
    /// When the volume was made, in seconds since 1970.
    pub created: i64,
    /// The key manager's blobs that wrap the volume key, one for each CMK that can open the volume.
    pub volume_keys: Vec<Vec<u8>>,
}

/// What derives from the volume key.
pub struct VolumeSecrets {
    /// For the `names` room: names, symlink targets, extended attributes.
    pub names: Key256,
    /// Authenticates the volume record.
    pub record: Key256,
    /// Authenticates kept change times.
    pub ctimes: Key256,
}

impl VolumeSecrets {
    /// Derives the keys.
    pub fn derive(volume_key: &Key256, volume: &VolumeId) -> Self {
        let key = |label: &[u8]| hkdf_sha256(volume_key, &volume.0, &[b"envelopefs ", label]);
        Self {
            names: key(b"names"),
            record: key(b"record"),
            ctimes: key(b"ctimes"),
        }
    }
}

fn config() -> impl bincode::config::Config {
    bincode::config::standard().with_limit::<RECORD_MAX>()
}

impl VolumeRecord {
    /// The bytes on disk.
    ///
    /// # Errors
    /// [`FormatError::Malformed`] when the record is longer than [`RECORD_MAX`].
    pub fn seal(&self, record_key: &Key256) -> Result<Vec<u8>, FormatError> {
        let body = bincode::encode_to_vec(self, config())
            .map_err(|_| FormatError::Malformed("the volume record is too long"))?;
        let mut out = Vec::with_capacity(HEAD + body.len() + MAC_LEN);
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(&[0; 2]);
        out.extend_from_slice(&(body.len() as u32).to_le_bytes());
        out.extend_from_slice(&body);
        if out.len() + MAC_LEN > RECORD_MAX {
            return Err(FormatError::Malformed("the volume record is too long"));
        }
        let tag = mac(record_key, &[&out]);
        out.extend_from_slice(&tag);
        Ok(out)
    }

    /// Parses a record without authenticating it (its key is wrapped inside): the caller unwraps
    /// the volume key, then asks [`VolumeRecord::authentic`].
    pub fn parse(bytes: &[u8]) -> Result<Self, FormatError> {
        if field::<8>(bytes, 0)? != MAGIC {
            return Err(FormatError::Magic);
        }
        let version = u16::from_le_bytes(field(bytes, 8)?);
        if version != VERSION {
            return Err(FormatError::Version(version));
        }
        let len = u32::from_le_bytes(field(bytes, 12)?) as usize;
        if field::<2>(bytes, 10)? != [0; 2] || bytes.len() > RECORD_MAX {
            return Err(FormatError::Malformed("the head of the volume record"));
        }
        let body = bytes
            .get(HEAD..)
            .and_then(|rest| rest.len().checked_sub(MAC_LEN).map(|end| &rest[..end]))
            .filter(|body| body.len() == len)
            .ok_or(FormatError::Short)?;
        let (record, used): (Self, usize) = bincode::decode_from_slice(body, config())
            .map_err(|_| FormatError::Malformed("the body of the volume record"))?;
        if used != body.len() || record.volume_keys.is_empty() {
            return Err(FormatError::Malformed("the body of the volume record"));
        }
        if record.features != 0 {
            return Err(FormatError::Flags(record.features as u32));
        }
        Ok(record)
    }

    /// Whether the record's MAC is right under the volume's record key.
    pub fn authentic(bytes: &[u8], record_key: &Key256) -> bool {
        bytes
            .split_last_chunk::<MAC_LEN>()
            .is_some_and(|(head, tag)| mac_matches(record_key, &[head], tag))
    }
}
