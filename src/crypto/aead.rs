//! AES-256-GCM (NIST SP 800-38D) with 96-bit random nonces and 128-bit tags.

use super::{CryptoError, backend, random};
use crate::secret::{Key256, Secret};

/// Bytes in a nonce.
pub const NONCE_LEN: usize = 12;
/// Bytes in a tag.
pub const TAG_LEN: usize = 16;

/// What a seal adds to the ciphertext: the nonce it drew and the tag it computed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sealed {
    /// The 96-bit nonce, drawn at random by the seal.
    pub nonce: [u8; NONCE_LEN],
    /// The 128-bit authentication tag.
    pub tag: [u8; TAG_LEN],
}

/// An AES-256-GCM key, expanded. At most 2^32 seals of one key (SP 800-38D §8.3); who keeps a key
/// for long counts them.
pub struct AeadKey(backend::Gcm);

impl AeadKey {
    /// Expands a 256-bit key.
    pub fn new(key: &Key256) -> Self {
        Self(backend::Gcm::new(key.expose()))
    }

    /// A key and the nonce of its one message, which were derived together.
    ///
    /// # Panics
    /// Never: 44 bytes have a first 32.
    pub fn with_nonce(derived: &Secret<{ 32 + NONCE_LEN }>) -> (Self, [u8; NONCE_LEN]) {
        let mut nonce = [0; NONCE_LEN];
        let (key, rest) = derived.expose().split_first_chunk().expect("44 bytes");
        nonce.copy_from_slice(rest);
        (Self(backend::Gcm::new(key)), nonce)
    }

    /// Encrypts `plain` into `cipher` (same length) under a fresh random nonce.
    ///
    /// # Panics
    /// Never for equal lengths; the callers' slices are of one block.
    pub fn seal(&self, aad: &[u8], plain: &[u8], cipher: &mut [u8]) -> Sealed {
        let nonce = random::nonce();
        let tag = self.0.seal(&nonce, aad, plain, cipher);
        Sealed { nonce, tag }
    }

    /// Encrypts `data` in place under a fresh random nonce.
    pub fn seal_in_place(&self, aad: &[u8], data: &mut [u8]) -> Sealed {
        let nonce = random::nonce();
        let tag = self.0.seal_in_place(&nonce, aad, data);
        Sealed { nonce, tag }
    }

    /// Decrypts `data` in place.
    ///
    /// # Errors
    /// [`CryptoError::Unauthentic`]; `data` is then zeroed, so that unauthenticated plaintext can't leak.
    pub fn open_in_place(
        &self,
        sealed: &Sealed,
        aad: &[u8],
        data: &mut [u8],
    ) -> Result<(), CryptoError> {
        let result = self.0.open_in_place(&sealed.nonce, aad, &sealed.tag, data);
        if result.is_err() {
            data.fill(0);
        }
        result
    }

    /// Decrypts `cipher` into `plain` (same length).
    ///
    /// # Errors
    /// [`CryptoError::Unauthentic`]; `plain` is then zeroed.
    pub fn open(
        &self,
        sealed: &Sealed,
        aad: &[u8],
        cipher: &[u8],
        plain: &mut [u8],
    ) -> Result<(), CryptoError> {
        plain.copy_from_slice(cipher);
        self.open_in_place(sealed, aad, plain)
    }

    /// Encrypts under a given nonce: for wrapping under a key that is used once (its nonce may
    /// then be derived with the key) and for known-answer tests.
    pub(crate) fn seal_with_nonce(
        &self,
        nonce: [u8; NONCE_LEN],
        aad: &[u8],
        plain: &[u8],
        cipher: &mut [u8],
    ) -> Sealed {
        let tag = self.0.seal(&nonce, aad, plain, cipher);
        Sealed { nonce, tag }
    }
}
