//! The pure-Rust backend: the RustCrypto crates.

use aes_gcm::aead::{AeadInOut, KeyInit};
use aes_gcm::{Aes256Gcm, Nonce, Tag};
use hmac::{Hmac, Mac};
use sha2::{Digest, Sha224, Sha256, Sha384, Sha512};
use zeroize::Zeroizing;

use super::{CryptoError, HmacHash, NONCE_LEN, TAG_LEN};

pub(crate) struct Gcm(Aes256Gcm);

/// What the crates refuse only for lengths that the types here rule out.
const FIXED: &str = "lengths are fixed by the types";

impl Gcm {
    pub(crate) fn new(key: &[u8; 32]) -> Self {
        Self(Aes256Gcm::new(key.into()))
    }

    pub(crate) fn seal(
        &self,
        nonce: &[u8; NONCE_LEN],
        aad: &[u8],
        plain: &[u8],
        cipher: &mut [u8],
    ) -> [u8; TAG_LEN] {
        cipher.copy_from_slice(plain);
        self.seal_in_place(nonce, aad, cipher)
    }

    pub(crate) fn seal_in_place(
        &self,
        nonce: &[u8; NONCE_LEN],
        aad: &[u8],
        data: &mut [u8],
    ) -> [u8; TAG_LEN] {
        let nonce: &Nonce<_> = nonce.into();
        self.0
            .encrypt_inout_detached(nonce, aad, data.into())
            .expect(FIXED)
            .into()
    }

    pub(crate) fn open_in_place(
        &self,
        nonce: &[u8; NONCE_LEN],
        aad: &[u8],
        tag: &[u8; TAG_LEN],
        data: &mut [u8],
    ) -> Result<(), CryptoError> {
        let nonce: &Nonce<_> = nonce.into();
        let tag: &Tag = tag.into();
        self.0
            .decrypt_inout_detached(nonce, aad, data.into(), tag)
            .map_err(|_| CryptoError::Unauthentic)
    }
}

/// What HMAC doesn't refuse.
const ANY: &str = "HMAC takes any key length";

pub(crate) struct HmacSha256(Hmac<Sha256>);

impl HmacSha256 {
    pub(crate) fn new(key: &[u8]) -> Self {
        Self(<Hmac<Sha256> as KeyInit>::new_from_slice(key).expect(ANY))
    }

    pub(crate) fn tag(&self, parts: &[&[u8]]) -> [u8; 32] {
        let mut mac = self.0.clone();
        for part in parts {
            mac.update(part);
        }
        mac.finalize().into_bytes().into()
    }
}

pub(crate) fn hmac_sha256(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    HmacSha256::new(key).tag(parts)
}

pub(crate) fn hmac(hash: HmacHash, key: &[u8], message: &[u8]) -> Vec<u8> {
    fn tag<M: Mac + KeyInit>(key: &[u8], message: &[u8]) -> Vec<u8> {
        let mac = <M as KeyInit>::new_from_slice(key).expect(ANY);
        mac.chain_update(message).finalize().into_bytes().to_vec()
    }
    match hash {
        HmacHash::Sha224 => tag::<Hmac<Sha224>>(key, message),
        HmacHash::Sha256 => tag::<Hmac<Sha256>>(key, message),
        HmacHash::Sha384 => tag::<Hmac<Sha384>>(key, message),
        HmacHash::Sha512 => tag::<Hmac<Sha512>>(key, message),
    }
}

pub(crate) fn hkdf_sha256(secret: &[u8], salt: &[u8], info: &[&[u8]], out: &mut [u8]) {
    hkdf::Hkdf::<Sha256>::new(Some(salt), secret)
        .expand_multi_info(info, out)
        .expect(FIXED);
}

pub(crate) fn kbkdf_hmac_sha256(secret: &[u8], fixed: &[u8], out: &mut [u8]) {
    let prf = HmacSha256::new(secret);
    for (counter, piece) in (1u32..).zip(out.chunks_mut(32)) {
        let block = Zeroizing::new(prf.tag(&[&counter.to_be_bytes(), fixed]));
        piece.copy_from_slice(&block[..piece.len()]);
    }
}

pub(crate) fn sha256(parts: &[&[u8]]) -> [u8; 32] {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part);
    }
    hash.finalize().into()
}
