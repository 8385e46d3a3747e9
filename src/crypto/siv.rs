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

    /// Encrypts `text` in place; the synthetic IV. `headers` are RFC 5297's associated data strings,
    /// in order. Allocates nothing.
    ///
    /// # Panics
    /// With more than 126 headers.
    pub fn seal_in_place(&self, headers: &[&[u8]], text: &mut [u8]) -> [u8; Self::OVERHEAD] {
        self.cipher()
            .encrypt_inout_detached(headers, text.into())
            .expect("fewer than 127 headers")
            .into()
    }

    /// Decrypts `text` in place.
    ///
    /// # Errors
    /// [`CryptoError::Unauthentic`]; `text` is then what it was.
    pub fn open_in_place(
        &self,
        headers: &[&[u8]],
        iv: &[u8; Self::OVERHEAD],
        text: &mut [u8],
    ) -> Result<(), CryptoError> {
        let tag: &Tag = iv.into();
        self.cipher()
            .decrypt_inout_detached(headers, text.into(), tag)
            .map_err(|_| CryptoError::Unauthentic)
    }

    /// Encrypts: synthetic IV (16 bytes), then the ciphertext (as long as `plain`).
    ///
    /// # Panics
    /// With more than 126 headers.
    pub fn seal(&self, headers: &[&[u8]], plain: &[u8]) -> Vec<u8> {
        let mut out = vec![0; Self::OVERHEAD + plain.len()];
        let (iv, text) = out.split_at_mut(Self::OVERHEAD);
        text.copy_from_slice(plain);
        iv.copy_from_slice(&self.seal_in_place(headers, text));
        out
    }

    /// Decrypts what [`SivKey::seal`] made.
    ///
    /// # Errors
    /// [`CryptoError::Unauthentic`].
    pub fn open(&self, headers: &[&[u8]], sealed: &[u8]) -> Result<Vec<u8>, CryptoError> {
        let (iv, text) = sealed.split_first_chunk().ok_or(CryptoError::Unauthentic)?;
        let mut plain = text.to_vec();
        self.open_in_place(headers, iv, &mut plain)?;
        Ok(plain)
    }
}
