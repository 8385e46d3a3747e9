//! Sealing and opening of a `CiphertextBlob` under one key material.
//!
//! Each blob has a wrapping key and nonce of its own, derived from the material and a random
//! 128-bit salt, so no number of wraps comes near the bound of random GCM nonces:
//!
//! `key ‖ nonce = KBKDF-HMAC-SHA-256(material, label ‖ 0x00 ‖ salt ‖ prefix ‖ [352])`
//! (NIST SP 800-108r1 §4.1; `prefix` is the header before the salt, `[352]` the output's length in
//! bits, 32 bits big-endian), then AES-256-GCM with the header and the canonical encryption
//! context as associated data.

use super::context::EncryptionContext;
use crate::crypto::{AeadKey, CryptoError, NONCE_LEN, Sealed, kbkdf_hmac_sha256};
use crate::format::blob::{Blob, BlobHeader, HEADER_LEN, OVERHEAD, PREFIX_LEN};
use crate::secret::{Key256, Secret};

const LABEL: &[u8] = b"envelopefs kms wrap v1";
/// Room for the associated data of a file's data key.
const AAD_ROOM: usize = 256;
/// Bytes derived: key and nonce.
const DERIVED: usize = 32 + NONCE_LEN;

fn wrapping_key(material: &Key256, header: &[u8; HEADER_LEN]) -> (AeadKey, [u8; NONCE_LEN]) {
    let (prefix, salt) = header.split_at(PREFIX_LEN);
    let bits = (DERIVED as u32 * 8).to_be_bytes();
    let derived: Secret<DERIVED> = kbkdf_hmac_sha256(material, &[LABEL, &[0], salt, prefix, &bits]);
    AeadKey::with_nonce(&derived)
}

fn associated_data(header: &[u8; HEADER_LEN], context: &EncryptionContext) -> Vec<u8> {
    let mut aad = Vec::with_capacity(AAD_ROOM);
    aad.extend_from_slice(header);
    context.write_canonical(&mut aad);
    aad
}

/// Wraps `plain`, whose length the caller has checked. The header's salt must be new.
pub(super) fn seal(
    material: &Key256,
    header: &BlobHeader,
    context: &EncryptionContext,
    plain: &[u8],
) -> Vec<u8> {
    let header = header.encode();
    let (key, nonce) = wrapping_key(material, &header);
    let mut blob = Vec::with_capacity(OVERHEAD + plain.len());
    blob.extend_from_slice(&header);
    blob.resize(HEADER_LEN + plain.len(), 0);
    let aad = associated_data(&header, context);
    let sealed = key.seal_with_nonce(nonce, &aad, plain, &mut blob[HEADER_LEN..]);
    blob.extend_from_slice(&sealed.tag);
    blob
}

/// Unwraps into `plain`, which is as long as the blob's ciphertext.
pub(super) fn open(
    material: &Key256,
    blob: &Blob<'_>,
    context: &EncryptionContext,
    plain: &mut [u8],
) -> Result<(), CryptoError> {
    let (key, nonce) = wrapping_key(material, blob.header_bytes);
    let aad = associated_data(blob.header_bytes, context);
    key.open(
        &Sealed {
            nonce,
            tag: *blob.tag,
        },
        &aad,
        blob.ciphertext,
        plain,
    )
}
