//! Secret values as they stand in the database.

use super::super::error::{KmsError, Result};
use crate::crypto::{AeadKey, NONCE_LEN, Sealed, TAG_LEN, hkdf_sha256, mac, mac_matches};
use crate::secret::{Key256, Secret, SecretBytes};

/// Seals secret values under the root key: `nonce ‖ ciphertext ‖ tag`, AES-256-GCM.
///
/// The associated data is the value's table, row id and generation, so that a value can't be moved
/// to another place.
pub(in crate::kms) struct Sealer {
    values: AeadKey,
    /// For tags of what leaves the keystore and comes back, and of what is told again by its tag.
    tags: Key256,
}

/// Where a value stands.
#[derive(Clone, Copy)]
pub(in crate::kms) struct Slot<'a> {
    /// The table.
    pub(in crate::kms) table: &'static str,
    /// What names the row.
    pub(in crate::kms) id: &'a str,
    /// The value's version.
    pub(in crate::kms) generation: i64,
}

impl Slot<'_> {
    fn associated_data(self) -> Vec<u8> {
        format!("{}|{}|{}", self.table, self.id, self.generation).into_bytes()
    }

    fn damaged(&self) -> KmsError {
        KmsError::Damaged(format!(
            "the secret of {} {} (generation {}) does not open",
            self.table, self.id, self.generation
        ))
    }
}

impl Sealer {
    /// For the values of the keystore with this root key.
    pub(super) fn new(root: &Key256) -> Self {
        Self {
            values: AeadKey::new(&hkdf_sha256(root, b"", &[b"envelopefs keystore values v1"])),
            tags: hkdf_sha256(root, b"", &[b"envelopefs keystore tags v1"]),
        }
    }

    /// Under a key derived from a protector, for the root key itself.
    pub(super) fn for_root(key: &Key256) -> Self {
        Self {
            values: AeadKey::new(key),
            tags: hkdf_sha256(key, b"", &[b"envelopefs keystore tags v1"]),
        }
    }

    /// The tag of some bytes, for one purpose.
    pub(in crate::kms) fn tag(&self, purpose: &str, bytes: &[u8]) -> [u8; 32] {
        mac(&self.tags, &[purpose.as_bytes(), &[0], bytes])
    }

    /// Whether `tag` is that of the bytes; in constant time.
    pub(in crate::kms) fn tag_matches(&self, purpose: &str, bytes: &[u8], tag: &[u8; 32]) -> bool {
        mac_matches(&self.tags, &[purpose.as_bytes(), &[0], bytes], tag)
    }

    pub(in crate::kms) fn seal<const N: usize>(
        &self,
        slot: Slot<'_>,
        secret: &Secret<N>,
    ) -> Vec<u8> {
        self.seal_bytes(slot, secret.expose())
    }

    pub(in crate::kms) fn seal_bytes(&self, slot: Slot<'_>, secret: &[u8]) -> Vec<u8> {
        let mut out = vec![0; NONCE_LEN + secret.len()];
        let sealed = self
            .values
            .seal(&slot.associated_data(), secret, &mut out[NONCE_LEN..]);
        out[..NONCE_LEN].copy_from_slice(&sealed.nonce);
        out.extend_from_slice(&sealed.tag);
        out
    }

    pub(in crate::kms) fn open<const N: usize>(
        &self,
        slot: Slot<'_>,
        stored: &[u8],
    ) -> Result<Secret<N>> {
        let (sealed, cipher) = parts(stored).ok_or_else(|| slot.damaged())?;
        let cipher: &[u8; N] = cipher.try_into().map_err(|_| slot.damaged())?;
        Secret::try_init(|out| {
            self.values
                .open(&sealed, &slot.associated_data(), cipher, out)
        })
        .map_err(|_| slot.damaged())
    }

    pub(in crate::kms) fn open_bytes(&self, slot: Slot<'_>, stored: &[u8]) -> Result<SecretBytes> {
        let (sealed, cipher) = parts(stored).ok_or_else(|| slot.damaged())?;
        SecretBytes::try_init(cipher.len(), |out| {
            self.values
                .open(&sealed, &slot.associated_data(), cipher, out)
        })
        .map_err(|_| slot.damaged())
    }
}

/// A stored value's nonce and tag, and its ciphertext.
fn parts(stored: &[u8]) -> Option<(Sealed, &[u8])> {
    let (nonce, rest) = stored.split_first_chunk::<NONCE_LEN>()?;
    let (cipher, tag) = rest.split_last_chunk::<TAG_LEN>()?;
    let sealed = Sealed {
        nonce: *nonce,
        tag: *tag,
    };
    Some((sealed, cipher))
}
