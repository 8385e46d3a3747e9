//! AES-256-SIV (RFC 5297): deterministic authenticated encryption, for names.

use aes_siv::siv::Aes256Siv;
use aes_siv::{KeyInit, Tag};

use super::CryptoError;
use crate::secret::Secret;

/// An AES-SIV key with 512 bits (two 256-bit halves).
pub struct SivKey(Secret<64>);

impl SivKey {
    /// Bytes that a seal adds: the synthetic IV.
    pub const OVERHEAD: usize = 16;

    /// Takes the key.
    pub fn new(key: Secret<64>) -> Self {
        Self(key)
    }

    fn cipher(&self) -> Aes256Siv {
        Aes256Siv::new(self.0.expose().into())
    }

    /// Encrypts: synthetic IV (16 bytes), then the ciphertext (as long as `plain`). `headers` are
    /// RFC 5297's associated data strings, in order.
    ///
    /// # Panics
    /// With more than 126 headers.
    pub fn seal(&self, headers: &[&[u8]], plain: &[u8]) -> Vec<u8> {
        let mut out = vec![0; Self::OVERHEAD + plain.len()];
        let (iv, text) = out.split_at_mut(Self::OVERHEAD);
        text.copy_from_slice(plain);
        // S2V takes 126 headers; the callers pass one or two.
        let tag = self
            .cipher()
            .encrypt_inout_detached(headers, text.into())
            .expect("fewer than 127 headers");
        iv.copy_from_slice(&tag);
        out
    }

    /// Decrypts what [`SivKey::seal`] made.
    ///
    /// # Errors
    /// [`CryptoError::Unauthentic`].
    pub fn open(&self, headers: &[&[u8]], sealed: &[u8]) -> Result<Vec<u8>, CryptoError> {
        let (iv, text) = sealed
            .split_at_checked(Self::OVERHEAD)
            .ok_or(CryptoError::Unauthentic)?;
        let tag: &Tag = iv.try_into().map_err(|_| CryptoError::Unauthentic)?;
        let mut plain = text.to_vec();
        self.cipher()
            .decrypt_inout_detached(headers, plain.as_mut_slice().into(), tag)
            .map_err(|_| CryptoError::Unauthentic)?;
        Ok(plain)
    }
}
