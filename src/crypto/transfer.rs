//! Key material on its way from one store to another.
//!
//! HPKE in authenticated mode (RFC 9180, mode 2), single shot, with DHKEM(X25519, HKDF-SHA256),
//! HKDF-SHA256 and AES-256-GCM. Sealed from one [`TransferKey`] to the public key of another: nobody
//! else can open it, and who opens it knows who sealed it. What both must agree on (the
//! purpose, the stores, the keys) is `info`, which enters the key schedule; what stands in the clear beside
//! the ciphertext is `aad`. Either one changed: it doesn't open.
//!
//! Each message has an ephemeral key of its own, so the nonce that HPKE derives is used once.

use zeroize::Zeroizing;

use super::asymmetric::{x25519, x25519_public};
use super::{AeadKey, CryptoError, NONCE_LEN, Sealed, TAG_LEN, backend, random};
use crate::secret::{Key256, Secret, SecretText};

/// Bytes in a public key.
pub const TRANSFER_PUBLIC_LEN: usize = 32;
/// `mode_auth`.
const MODE: u8 = 2;
/// `"KEM" ‖ kem_id`: DHKEM(X25519, HKDF-SHA256).
const KEM_SUITE: &[u8] = b"KEM\x00\x20";
/// `"HPKE" ‖ kem_id ‖ kdf_id ‖ aead_id`: HKDF-SHA256, AES-256-GCM.
const SUITE: &[u8] = b"HPKE\x00\x20\x00\x01\x00\x02";

/// A store's key pair for transfers.
pub struct TransferKey {
    private: Key256,
    public: [u8; TRANSFER_PUBLIC_LEN],
}

impl TransferKey {
    /// From 32 random bytes, which the store keeps.
    ///
    /// # Errors
    /// [`CryptoError::Unavailable`].
    pub fn new(private: Key256) -> Result<Self, CryptoError> {
        let public = x25519_public(&private)?;
        Ok(Self { private, public })
    }

    /// The public key, to hand to other stores.
    pub fn public(&self) -> &[u8; TRANSFER_PUBLIC_LEN] {
        &self.public
    }

    /// Seals to the owner of a public key: encapsulated key, ciphertext, tag.
    ///
    /// # Errors
    /// [`CryptoError::InvalidKey`] when `to` is no usable public key.
    pub fn seal(
        &self,
        to: &[u8; TRANSFER_PUBLIC_LEN],
        info: &[u8],
        aad: &[u8],
        plain: &[u8],
    ) -> Result<Vec<u8>, CryptoError> {
        self.seal_with(&Self::new(random::random_key())?, to, info, aad, plain)
    }

    fn seal_with(
        &self,
        ephemeral: &Self,
        to: &[u8; TRANSFER_PUBLIC_LEN],
        info: &[u8],
        aad: &[u8],
        plain: &[u8],
    ) -> Result<Vec<u8>, CryptoError> {
        let shared = [x25519(&ephemeral.private, to)?, x25519(&self.private, to)?];
        let (key, nonce) = schedule(&shared, [&ephemeral.public, to, &self.public], info);
        let mut out = ephemeral.public.to_vec();
        let start = out.len();
        out.resize(start + plain.len(), 0);
        let sealed = key.seal_with_nonce(nonce, aad, plain, &mut out[start..]);
        out.extend_from_slice(&sealed.tag);
        Ok(out)
    }

    /// Opens what the owner of the public key `from` sealed to this key.
    ///
    /// # Errors
    /// [`CryptoError::Unauthentic`].
    pub fn open(
        &self,
        from: &[u8; TRANSFER_PUBLIC_LEN],
        info: &[u8],
        aad: &[u8],
        sealed: &[u8],
    ) -> Result<SecretText, CryptoError> {
        let refused = CryptoError::Unauthentic;
        let (encapsulated, rest) = sealed.split_first_chunk().ok_or(refused)?;
        let (cipher, tag) = rest.split_last_chunk::<TAG_LEN>().ok_or(refused)?;
        let secret = |peer| {
            x25519(&self.private, peer).map_err(|error| match error {
                CryptoError::InvalidKey => refused,
                other => other,
            })
        };
        let shared = [secret(encapsulated)?, secret(from)?];
        let (key, nonce) = schedule(&shared, [encapsulated, &self.public, from], info);
        let mut plain = Zeroizing::new(vec![0; cipher.len()]);
        key.open(&Sealed { nonce, tag: *tag }, aad, cipher, &mut plain)?;
        Ok(plain)
    }
}

/// `AuthEncap`'s secret and the key schedule (RFC 9180 §4.1, §5.1): key and nonce of the message.
/// `public`: the encapsulated key, the receiver's, the sender's.
fn schedule(
    shared: &[Key256; 2],
    public: [&[u8; TRANSFER_PUBLIC_LEN]; 3],
    info: &[u8],
) -> (AeadKey, [u8; NONCE_LEN]) {
    let [ephemeral, sender] = shared.each_ref().map(Secret::expose);
    let prk = extract(KEM_SUITE, &[], b"eae_prk", &[ephemeral, sender]);
    let public = public.map(<[u8; 32]>::as_slice);
    let shared: Key256 = expand(KEM_SUITE, &prk, b"shared_secret", &public);

    let psk_id = extract(SUITE, &[], b"psk_id_hash", &[]);
    let info = extract(SUITE, &[], b"info_hash", &[info]);
    let context: [&[u8]; 3] = [&[MODE], psk_id.expose(), info.expose()];
    let secret = extract(SUITE, shared.expose(), b"secret", &[]);
    let key: Key256 = expand(SUITE, &secret, b"key", &context);
    let nonce: Secret<NONCE_LEN> = expand(SUITE, &secret, b"base_nonce", &context);
    (AeadKey::new(&key), *nonce.expose())
}

/// `LabeledExtract` (RFC 9180 §4).
fn extract(suite: &[u8], salt: &[u8], label: &[u8], ikm: &[&[u8]]) -> Key256 {
    let mut parts = vec![b"HPKE-v1", suite, label];
    parts.extend_from_slice(ikm);
    let mut prk = backend::hmac_sha256(salt, &parts);
    Key256::take_from(&mut prk)
}

/// `LabeledExpand` (RFC 9180 §4) to at most 32 bytes: one block of HKDF-Expand (RFC 5869 §2.3).
fn expand<const N: usize>(suite: &[u8], prk: &Key256, label: &[u8], info: &[&[u8]]) -> Secret<N> {
    const { assert!(N <= 32, "one block") };
    let len = (N as u16).to_be_bytes();
    let mut parts = vec![&len[..], b"HPKE-v1", suite, label];
    parts.extend_from_slice(info);
    parts.push(&[1]);
    let block = Zeroizing::new(backend::hmac_sha256(prk.expose(), &parts));
    Secret::init(|out| out.copy_from_slice(&block[..N]))
}

#[cfg(all(test, feature = "aws-lc"))]
mod tests;
