//! AEAD, key derivation, MAC, hashes and randomness, behind one face. No I/O.
//!
//! Two backends give the same bytes: `aws-lc` (aws-lc-rs, the default) and `rust-crypto`
//! (`aes-gcm`, `hmac`, `hkdf`, `sha2`; pure Rust). AES-SIV and Argon2id come from RustCrypto in both.
//!
//! The types can't be misused: a nonce is made by the seal that uses it ([`AeadKey::seal`] returns
//! a [`Sealed`]), it can't be chosen or used twice; keys are [`crate::secret::Secret`]s.

mod aead;
#[cfg(feature = "aws-lc")]
pub(crate) mod aws_lc;
mod derive;
mod passphrase;
mod random;
#[cfg(feature = "rust-crypto")]
#[cfg_attr(feature = "aws-lc", allow(dead_code))] // then it is only held against the other
pub(crate) mod rust_crypto;
mod siv;

#[cfg(feature = "aws-lc")]
use aws_lc as backend;
#[cfg(all(feature = "rust-crypto", not(feature = "aws-lc")))]
use rust_crypto as backend;
#[cfg(not(any(feature = "aws-lc", feature = "rust-crypto")))]
compile_error!("choose a crypto backend: feature `aws-lc` (default) or `rust-crypto`");

pub use aead::{AeadKey, NONCE_LEN, Sealed, TAG_LEN};
pub use derive::{hkdf_sha256, hmac_sha256, kbkdf_hmac_sha256, mac, mac_matches, sha256};
pub use passphrase::{Argon2Cost, argon2id};
pub use random::{fill_random, random_array, random_key};
pub use siv::SivKey;

/// Why a cryptographic operation failed. Says nothing more, on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CryptoError {
    /// The ciphertext, its tag or its associated data is not what was sealed under this key.
    #[error("authentication failed: the data was changed, or the key is another")]
    Unauthentic,
    /// A parameter is outside what the algorithm takes (Argon2 cost, output length).
    #[error("a cryptographic parameter is out of range")]
    Parameter,
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_vectors;
