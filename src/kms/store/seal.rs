//! Secret values as they stand in the database.

use super::super::error::{KmsError, Result};
use crate::crypto::{AeadKey, NONCE_LEN, Sealed, TAG_LEN, hkdf_sha256};
use crate::secret::{Key256, Secret};

/// Seals secret values under the root key: `nonce ‖ ciphertext ‖ tag`, AES-256-GCM.
///
/// The associated data is the value's table, row id and generation, so that a value can't be moved
/// to another place.
pub(in crate::kms) struct Sealer(AeadKey);

/// Where a value stands.
#[derive(Clone, Copy)]
pub(in crate::kms) struct Place<'a> {
    /// The table.
    pub(in crate::kms) table: &'static str,
    /// What names the row.
    pub(in crate::kms) id: &'a str,
    /// The value's version.
    pub(in crate::kms) generation: i64,
}

impl Place<'_> {
    fn associated_data(self) -> Vec<u8> {
        format!("{}|{}|{}", self.table, self.id, self.generation).into_bytes()
    }
}

impl Sealer {
    /// For the values of the keystore with this root key.
    pub(super) fn new(root: &Key256) -> Self {
        Self(AeadKey::new(&hkdf_sha256(
            root,
            b"",
            &[b"envelopefs keystore values v1"],
        )))
    }

    /// Under a key derived from a protector, for the root key itself.
    pub(super) fn for_root(key: &Key256) -> Self {
        Self(AeadKey::new(key))
    }

    pub(in crate::kms) fn seal<const N: usize>(
        &self,
        place: Place<'_>,
        secret: &Secret<N>,
    ) -> Vec<u8> {
        let mut out = vec![0; NONCE_LEN + N];
        let sealed = self.0.seal(
            &place.associated_data(),
            secret.expose(),
            &mut out[NONCE_LEN..],
        );
        out[..NONCE_LEN].copy_from_slice(&sealed.nonce);
        out.extend_from_slice(&sealed.tag);
        out
    }

    pub(in crate::kms) fn open<const N: usize>(
        &self,
        place: Place<'_>,
        stored: &[u8],
    ) -> Result<Secret<N>> {
        let damaged = || {
            KmsError::Damaged(format!(
                "the secret of {} {} (generation {}) does not open",
                place.table, place.id, place.generation
            ))
        };
        let (nonce, rest) = stored
            .split_first_chunk::<NONCE_LEN>()
            .ok_or_else(damaged)?;
        let (cipher, tag) = rest.split_last_chunk::<TAG_LEN>().ok_or_else(damaged)?;
        let cipher: &[u8; N] = cipher.try_into().map_err(|_| damaged())?;
        let sealed = Sealed {
            nonce: *nonce,
            tag: *tag,
        };
        Secret::try_init(|out| self.0.open(&sealed, &place.associated_data(), cipher, out))
            .map_err(|_| damaged())
    }
}
