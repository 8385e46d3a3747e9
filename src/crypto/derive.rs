//! Key derivation, message authentication, hashing.

use smallvec::SmallVec;

use super::backend;
use crate::secret::{Key256, Secret, same_bytes};

/// HKDF-SHA-256 (RFC 5869) of a key: `salt`, and `info` as the parts put together.
///
/// `N` is at most 64.
pub fn hkdf_sha256<const N: usize>(key: &Key256, salt: &[u8], info: &[&[u8]]) -> Secret<N> {
    Secret::init(|out| backend::hkdf_sha256(key.expose(), salt, info, out))
}

/// KDF in counter mode with HMAC-SHA-256 as PRF (NIST SP 800-108r1 §4.1): 32-bit big-endian
/// counter before the fixed input, which is `fixed` as the parts put together.
///
/// `N` is at most 64.
pub fn kbkdf_hmac_sha256<const N: usize>(key: &Key256, fixed: &[&[u8]]) -> Secret<N> {
    // In one piece, without an allocation for inputs of usual length.
    let mut input = SmallVec::<[u8; 128]>::new();
    for part in fixed {
        input.extend_from_slice(part);
    }
    Secret::init(|out| backend::kbkdf_hmac_sha256(key.expose(), &input, out))
}

/// HMAC-SHA-256 (RFC 2104, FIPS 198-1) over the parts put together.
///
/// Whoever joins parts of variable length puts their lengths in.
pub fn mac(key: &Key256, parts: &[&[u8]]) -> [u8; 32] {
    backend::hmac_sha256(key.expose(), parts)
}

/// A key of [`mac`], set up for many tags.
pub struct MacKey(backend::HmacSha256);

impl MacKey {
    /// Sets up a key.
    pub fn new(key: &Key256) -> Self {
        Self(backend::HmacSha256::new(key.expose()))
    }

    /// As [`mac`].
    pub fn tag(&self, parts: &[&[u8]]) -> [u8; 32] {
        self.0.tag(parts)
    }

    /// As [`mac_matches`].
    pub fn matches(&self, parts: &[&[u8]], tag: &[u8; 32]) -> bool {
        same_bytes(&self.tag(parts), tag)
    }
}

/// HMAC-SHA-256 under a key of any length, for protocols that make their keys themselves.
pub fn hmac_sha256(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    backend::hmac_sha256(key, parts)
}

/// Whether `tag` is the HMAC-SHA-256 of the parts; compares in constant time.
pub fn mac_matches(key: &Key256, parts: &[&[u8]], tag: &[u8; 32]) -> bool {
    same_bytes(&backend::hmac_sha256(key.expose(), parts), tag)
}

/// SHA-256 (FIPS 180-4) over the parts put together.
pub fn sha256(parts: &[&[u8]]) -> [u8; 32] {
    backend::sha256(parts)
}
