//! Randomness. Keys come straight from the system; nonces and ids from a per-thread ChaCha12
//! generator that the system seeds and reseeds (`rand::rng`).

use rand::rngs::SysRng;
use rand::{Rng, TryRng};

use super::NONCE_LEN;
use crate::secret::Secret;

/// Fills a buffer with random bytes for ids, salts and nonces.
pub fn fill_random(out: &mut [u8]) {
    rand::rng().fill_bytes(out);
}

/// `N` random bytes, for ids and salts.
pub fn random_array<const N: usize>() -> [u8; N] {
    let mut out = [0; N];
    fill_random(&mut out);
    out
}

/// A new random key, drawn from the system's generator.
///
/// # Panics
/// When the system has no randomness (getrandom(2) fails): there is nothing safe to do then.
pub fn random_key<const N: usize>() -> Secret<N> {
    Secret::init(|out| {
        SysRng
            .try_fill_bytes(out)
            .expect("getrandom(2) gives random bytes");
    })
}

pub(super) fn nonce() -> [u8; NONCE_LEN] {
    random_array()
}
