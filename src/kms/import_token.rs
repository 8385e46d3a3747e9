//! The import token: what GetParametersForImport gives and ImportKeyMaterial takes back.
//!
//! It holds the private wrapping key, so the keystore keeps nothing for imports that never come. It
//! is sealed under the root key with the name of the CMK as associated data: only this keystore
//! opens it, and only for the key that it was made for.

use super::clock::Timestamp;
use super::error::{KmsError, Result};
use super::store::{Sealer, Slot};
use crate::crypto::{CryptoError, DecryptionKey, ImportWrapping, OaepHash, WrappingKeySpec};
use crate::secret::{SecretBytes, SecretText};

/// The layout of what is sealed: version, wrapping, wrapping key's kind, end (milliseconds since
/// 1970-01-01 UTC, little-endian), private key in PKCS#8.
const VERSION: u8 = 1;
const HEAD_LEN: usize = 11;

/// The bytes of a token that stand for these.
const WRAPPINGS: [(u8, ImportWrapping); 4] = [
    (1, ImportWrapping::Oaep(OaepHash::Sha1)),
    (2, ImportWrapping::Oaep(OaepHash::Sha256)),
    (3, ImportWrapping::AesKwp(OaepHash::Sha1)),
    (4, ImportWrapping::AesKwp(OaepHash::Sha256)),
];
const SPECS: [(u8, WrappingKeySpec); 3] = [
    (1, WrappingKeySpec::Rsa2048),
    (2, WrappingKeySpec::Rsa3072),
    (3, WrappingKeySpec::Rsa4096),
];

/// The end of a token's time and what opens material wrapped for it.
pub(super) struct ImportToken {
    pub(super) wrapping: ImportWrapping,
    pub(super) spec: WrappingKeySpec,
    pub(super) valid_to: Timestamp,
    /// The private wrapping key in PKCS#8.
    private: SecretBytes,
}

fn slot(arn: &str) -> Slot<'_> {
    Slot {
        table: "import token",
        id: arn,
        generation: 0,
    }
}

fn code<T: PartialEq>(of: &T, among: &[(u8, T)]) -> u8 {
    let found = among.iter().find(|(_, value)| value == of);
    found.map_or(0, |(code, _)| *code)
}

fn value<T: Copy>(of: u8, among: &[(u8, T)]) -> Result<T> {
    let found = among.iter().find(|(code, _)| *code == of);
    found
        .map(|(_, value)| *value)
        .ok_or(KmsError::InvalidImportToken)
}

impl ImportToken {
    /// A token for material wrapped under the public key of `private`.
    pub(super) fn new(
        wrapping: ImportWrapping,
        spec: WrappingKeySpec,
        valid_to: Timestamp,
        private: SecretBytes,
    ) -> Self {
        Self {
            wrapping,
            spec,
            valid_to,
            private,
        }
    }

    /// Its sealed form, for the key of this ARN.
    pub(super) fn seal(&self, sealer: &Sealer, arn: &str) -> Vec<u8> {
        let private = self.private.expose();
        let mut plain = SecretText::new(Vec::with_capacity(HEAD_LEN + private.len()));
        plain.extend_from_slice(&[
            VERSION,
            code(&self.wrapping, &WRAPPINGS),
            code(&self.spec, &SPECS),
        ]);
        plain.extend_from_slice(&self.valid_to.millis().to_le_bytes());
        plain.extend_from_slice(private);
        sealer.seal_bytes(slot(arn), &plain)
    }

    /// Opens a token that was sealed for the key of this ARN.
    ///
    /// # Errors
    /// [`KmsError::InvalidImportToken`].
    pub(super) fn open(sealer: &Sealer, arn: &str, sealed: &[u8]) -> Result<Self> {
        let plain = sealer
            .open_bytes(slot(arn), sealed)
            .map_err(|_| KmsError::InvalidImportToken)?;
        let Some(([VERSION, wrapping, spec, valid_to @ ..], private)) =
            plain.expose().split_first_chunk::<HEAD_LEN>()
        else {
            return Err(KmsError::InvalidImportToken);
        };
        Ok(Self {
            wrapping: value(*wrapping, &WRAPPINGS)?,
            spec: value(*spec, &SPECS)?,
            valid_to: Timestamp::from_millis(i64::from_le_bytes(*valid_to)),
            private: SecretBytes::copy_of(private).ok_or(KmsError::InvalidImportToken)?,
        })
    }

    /// Unwraps material.
    ///
    /// # Errors
    /// [`CryptoError::Unauthentic`] when it was not wrapped for this token.
    pub(super) fn unwrap(&self, wrapped: &[u8]) -> std::result::Result<SecretText, CryptoError> {
        let key = DecryptionKey::new(self.spec.key_pair(), self.private.expose())?;
        self.wrapping.unwrap(self.spec, &key, wrapped)
    }
}
