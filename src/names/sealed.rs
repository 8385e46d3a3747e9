//! Nonce (12 bytes), tag (16), ciphertext: what a random-nonce seal is stored as.

use crate::crypto::{AeadKey, NONCE_LEN, Sealed, TAG_LEN};

/// Bytes that a seal adds.
pub(super) const OVERHEAD: usize = NONCE_LEN + TAG_LEN;

/// Seals the parts of `plain`, put together.
pub(super) fn seal(key: &AeadKey, aad: &[u8], plain: &[&[u8]]) -> Vec<u8> {
    let plain = plain.concat();
    let mut out = vec![0; OVERHEAD + plain.len()];
    let (head, cipher) = out.split_at_mut(OVERHEAD);
    let Sealed { nonce, tag } = key.seal(aad, &plain, cipher);
    head[..NONCE_LEN].copy_from_slice(&nonce);
    head[NONCE_LEN..].copy_from_slice(&tag);
    out
}

/// Opens what [`seal`] made; None when it isn't that.
pub(super) fn open(key: &AeadKey, aad: &[u8], stored: &[u8]) -> Option<Vec<u8>> {
    let (nonce, rest) = stored.split_first_chunk()?;
    let (tag, cipher) = rest.split_first_chunk()?;
    let mut plain = vec![0; cipher.len()];
    key.open(
        &Sealed {
            nonce: *nonce,
            tag: *tag,
        },
        aad,
        cipher,
        &mut plain,
    )
    .ok()?;
    Some(plain)
}
