//! Unwrapping of key material that was wrapped, elsewhere, for import into a key.

use super::super::CryptoError;
use super::{DecryptionKey, KeyPairSpec, OaepHash, backend};
use crate::secret::SecretText;

/// The kind of the key pair that wraps material.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WrappingKeySpec {
    /// RSA with a modulus of 2048 bits.
    Rsa2048,
    /// RSA with a modulus of 3072 bits.
    Rsa3072,
    /// RSA with a modulus of 4096 bits.
    Rsa4096,
}

impl WrappingKeySpec {
    /// The key pair's kind.
    pub fn key_pair(self) -> KeyPairSpec {
        match self {
            Self::Rsa2048 => KeyPairSpec::Rsa2048,
            Self::Rsa3072 => KeyPairSpec::Rsa3072,
            Self::Rsa4096 => KeyPairSpec::Rsa4096,
        }
    }
}

/// How material is wrapped for import.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ImportWrapping {
    /// The material under the wrapping key: RSAES-OAEP.
    Oaep(OaepHash),
    /// RSAES-OAEP of an AES-256 key, then the material wrapped under that: AES-KWP (RFC 5649).
    /// PKCS#11 calls it `CKM_RSA_AES_KEY_WRAP`.
    AesKwp(OaepHash),
}

impl ImportWrapping {
    /// Unwraps.
    ///
    /// # Errors
    /// [`CryptoError::Unauthentic`] for whatever reason, so that nobody learns which;
    /// [`CryptoError::Unavailable`].
    pub fn unwrap(
        self,
        spec: WrappingKeySpec,
        key: &DecryptionKey,
        wrapped: &[u8],
    ) -> Result<SecretText, CryptoError> {
        match self {
            Self::Oaep(hash) => key.decrypt(hash, wrapped),
            Self::AesKwp(hash) => {
                let (head, rest) = spec
                    .key_pair()
                    .rsa_bytes()
                    .and_then(|len| wrapped.split_at_checked(len))
                    .ok_or(CryptoError::Unauthentic)?;
                backend::kwp_unwrap(&key.decrypt(hash, head)?, rest)
            }
        }
    }
}
