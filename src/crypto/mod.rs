//! AEAD, key derivation, MAC, hashes, signatures and randomness, behind one face. No I/O.
//!
//! Two backends give the same bytes: `aws-lc` (aws-lc-rs, the default) and `rust-crypto`
//! (`aes-gcm`, `hmac`, `hkdf`, `sha2`; pure Rust). AES-SIV and Argon2id come from RustCrypto in both.
//! Asymmetric keys ([`KeyPair`] and what is made from it, [`TransferKey`]) exist with `aws-lc` only:
//! the pure-Rust build answers [`CryptoError::Unavailable`].
//!
//! The types can't be misused: a nonce is made by the seal that uses it ([`AeadKey::seal`] returns
//! a [`Sealed`]), it can't be chosen or used twice; keys are [`crate::secret::Secret`]s.

mod aead;
mod asymmetric;
#[cfg(feature = "aws-lc")]
pub(crate) mod aws_lc;
mod derive;
mod hmac;
mod passphrase;
mod random;
#[cfg(feature = "rust-crypto")]
#[cfg_attr(feature = "aws-lc", allow(dead_code))] // then it is only held against the other
pub(crate) mod rust_crypto;
mod siv;
mod transfer;

#[cfg(feature = "aws-lc")]
use aws_lc as backend;
#[cfg(all(feature = "rust-crypto", not(feature = "aws-lc")))]
use rust_crypto as backend;
#[cfg(not(any(feature = "aws-lc", feature = "rust-crypto")))]
compile_error!("choose a crypto backend: feature `aws-lc` (default) or `rust-crypto`");

pub use aead::{AeadKey, NONCE_LEN, Sealed, TAG_LEN};
pub use asymmetric::{
    AgreementKey, DecryptionKey, EncryptionKey, Hash, ImportWrapping, KeyPair, KeyPairSpec,
    Message, OaepHash, SigningAlgorithm, SigningKey, VerifyingKey, WrappingKeySpec,
};
pub use derive::{MacKey, hkdf_sha256, hmac_sha256, kbkdf_hmac_sha256, mac, mac_matches, sha256};
pub use hmac::{HmacHash, HmacKey};
pub use passphrase::{Argon2Cost, argon2id};
pub use random::{fill_random, random_array, random_key};
pub use siv::SivKey;
pub use transfer::{TRANSFER_PUBLIC_LEN, TransferKey};

use crate::secret::TooLong;

impl From<TooLong> for CryptoError {
    fn from(_: TooLong) -> Self {
        Self::Parameter
    }
}

/// Why a cryptographic operation failed. Says nothing more, on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CryptoError {
    /// The ciphertext, its tag or its associated data is not what was sealed under this key.
    #[error("authentication failed: the data was changed, or the key is another")]
    Unauthentic,
    /// A parameter is outside what the algorithm takes (Argon2 cost, output length).
    #[error("a cryptographic parameter is out of range")]
    Parameter,
    /// The algorithm is none of this kind of key.
    #[error("the algorithm doesn't work with this kind of key")]
    Algorithm,
    /// A message is longer than the key takes, or its type or length doesn't fit the algorithm.
    #[error("the message's type or length doesn't fit the algorithm")]
    Message,
    /// Bytes that are no key of the wanted kind.
    #[error("the key is damaged, or of another kind than it should be")]
    InvalidKey,
    /// The library failed where its input was good.
    #[error("the cryptographic library failed (no memory or no randomness)")]
    Internal,
    /// Asymmetric keys, in a build without aws-lc.
    #[error(
        "this build of envelopefs has no asymmetric keys (it was made without the feature aws-lc)"
    )]
    Unavailable,
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_vectors;
