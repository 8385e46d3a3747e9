//! HMAC (RFC 2104, FIPS 198-1) as a key's only use, with the hashes and key lengths of AWS KMS.

use rand::TryRng;
use rand::rngs::SysRng;
use zeroize::Zeroizing;

use super::{CryptoError, backend};
use crate::secret::{SecretBytes, same_bytes};

/// The hash of an HMAC key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HmacHash {
    /// SHA-224.
    Sha224,
    /// SHA-256.
    Sha256,
    /// SHA-384.
    Sha384,
    /// SHA-512.
    Sha512,
}

impl HmacHash {
    /// Bytes in a key and in a tag: the digest's length.
    pub fn bytes(self) -> usize {
        match self {
            Self::Sha224 => 28,
            Self::Sha256 => 32,
            Self::Sha384 => 48,
            Self::Sha512 => 64,
        }
    }
}

/// An HMAC key. It works with its own hash only.
pub struct HmacKey {
    hash: HmacHash,
    key: SecretBytes,
}

impl HmacKey {
    /// A new random key.
    ///
    /// # Panics
    /// When the system has no randomness (getrandom(2) fails): there is nothing safe to do then.
    pub fn generate(hash: HmacHash) -> SecretBytes {
        let mut bytes = Zeroizing::new([0; 64]);
        SysRng
            .try_fill_bytes(&mut bytes[..])
            .expect("getrandom(2) gives random bytes");
        SecretBytes::copy_of(&bytes[..hash.bytes()]).expect("an HMAC key is short")
    }

    /// From a key's bytes.
    ///
    /// # Errors
    /// [`CryptoError::InvalidKey`] when there are not [`HmacHash::bytes`] of them.
    pub fn new(hash: HmacHash, key: SecretBytes) -> Result<Self, CryptoError> {
        if key.expose().len() == hash.bytes() {
            Ok(Self { hash, key })
        } else {
            Err(CryptoError::InvalidKey)
        }
    }

    /// The message's tag.
    pub fn mac(&self, message: &[u8]) -> Vec<u8> {
        backend::hmac(self.hash, self.key.expose(), message)
    }

    /// Whether a tag is the message's; compares in constant time.
    pub fn matches(&self, message: &[u8], tag: &[u8]) -> bool {
        same_bytes(&self.mac(message), tag)
    }
}
