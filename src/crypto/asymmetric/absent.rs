//! The backend of a build without aws-lc: there are no asymmetric keys.
//!
//! The key types have no values, so that what works on a key need not be written.

use super::super::CryptoError;
use super::job::Job;
use super::{KeyPair, KeyPairSpec, OaepHash};
use crate::secret::{Key256, SecretBytes, SecretText};

const ABSENT: CryptoError = CryptoError::Unavailable;

pub(super) enum Signer {}
pub(super) enum Decrypter {}
pub(super) enum Agreement {}

pub(super) fn generate(_: KeyPairSpec) -> Result<KeyPair, CryptoError> {
    Err(ABSENT)
}

pub(super) fn from_pkcs8(_: KeyPairSpec, _: &[u8]) -> Result<KeyPair, CryptoError> {
    Err(ABSENT)
}

pub(super) fn verify(_: KeyPairSpec, _: &[u8], _: Job<'_>, _: &[u8]) -> Result<(), CryptoError> {
    Err(ABSENT)
}

pub(super) fn oaep_encrypt(_: &[u8], _: OaepHash, _: &[u8]) -> Result<Vec<u8>, CryptoError> {
    Err(ABSENT)
}

pub(super) fn kwp_unwrap(_: &[u8], _: &[u8]) -> Result<SecretText, CryptoError> {
    Err(ABSENT)
}

pub(in crate::crypto) fn x25519_public(_: &Key256) -> Result<[u8; 32], CryptoError> {
    Err(ABSENT)
}

pub(in crate::crypto) fn x25519(_: &Key256, _: &[u8; 32]) -> Result<Key256, CryptoError> {
    Err(ABSENT)
}

impl Signer {
    pub(super) fn new(_: KeyPairSpec, _: &[u8]) -> Result<Self, CryptoError> {
        Err(ABSENT)
    }

    pub(super) fn sign(&self, _: Job<'_>) -> Result<Vec<u8>, CryptoError> {
        match *self {}
    }
}

impl Decrypter {
    pub(super) fn new(_: KeyPairSpec, _: &[u8]) -> Result<Self, CryptoError> {
        Err(ABSENT)
    }

    pub(super) fn decrypt(&self, _: OaepHash, _: &[u8]) -> Result<SecretText, CryptoError> {
        match *self {}
    }
}

impl Agreement {
    pub(super) fn new(_: KeyPairSpec, _: &[u8]) -> Result<Self, CryptoError> {
        Err(ABSENT)
    }

    pub(super) fn agree(&self, _: &[u8]) -> Result<SecretBytes, CryptoError> {
        match *self {}
    }
}
