//! Asymmetric keys: RSA, elliptic curves, ML-DSA. For the key specs of AWS KMS.
//!
//! A private key lies in locked memory as PKCS#8 DER (RFC 5208), a public key is a
//! SubjectPublicKeyInfo (RFC 5280). What a key does is a type of its own, made from those bytes for
//! one use: [`SigningKey`], [`VerifyingKey`], [`DecryptionKey`], [`EncryptionKey`], [`AgreementKey`].
//! A key can't be used for what its kind does not do: [`KeyPairSpec`] decides at one place each
//! ([`SigningAlgorithm`] against the key in `job`, encryption and agreement where their keys are made).
//!
//! All of it is aws-lc's: a build without it answers [`CryptoError::Unavailable`].

#[cfg(not(feature = "aws-lc"))]
mod absent;
#[cfg(feature = "aws-lc")]
mod aws_lc;
mod import;
#[cfg_attr(not(feature = "aws-lc"), allow(dead_code))] // nothing signs then
mod job;
mod spec;

#[cfg(not(feature = "aws-lc"))]
use absent as backend;
#[cfg(feature = "aws-lc")]
use aws_lc as backend;

pub use import::{ImportWrapping, WrappingKeySpec};
pub use spec::{Hash, KeyPairSpec, Message, OaepHash, SigningAlgorithm};

pub(super) use backend::{x25519, x25519_public};

use super::CryptoError;
use crate::secret::{SecretBytes, SecretText};

/// A private key with its public one, encoded.
pub struct KeyPair {
    /// The private key: PKCS#8 DER. ML-DSA: the seed form of RFC 9881.
    pub private: SecretBytes,
    /// The public key: SubjectPublicKeyInfo DER.
    pub public: Vec<u8>,
}

impl KeyPair {
    /// A new key.
    ///
    /// # Errors
    /// [`CryptoError::Unavailable`].
    pub fn generate(spec: KeyPairSpec) -> Result<Self, CryptoError> {
        backend::generate(spec)
    }

    /// Reads a private key that was made elsewhere: PKCS#8 DER with nothing after it. What is kept
    /// is encoded anew: attributes and other freedoms of the encoding are gone.
    ///
    /// # Errors
    /// [`CryptoError::InvalidKey`] when it is no key of this spec, or an inconsistent one;
    /// [`CryptoError::Unavailable`].
    pub fn from_pkcs8(spec: KeyPairSpec, private: &[u8]) -> Result<Self, CryptoError> {
        one_der_sequence(private)?;
        backend::from_pkcs8(spec, private)
    }
}

/// A private key that signs.
pub struct SigningKey {
    spec: KeyPairSpec,
    key: backend::Signer,
}

impl SigningKey {
    /// From a [`KeyPair`]'s private key, exposed for this call.
    ///
    /// # Errors
    /// [`CryptoError::InvalidKey`], [`CryptoError::Unavailable`].
    pub fn new(spec: KeyPairSpec, private: &[u8]) -> Result<Self, CryptoError> {
        let key = backend::Signer::new(spec, private)?;
        Ok(Self { spec, key })
    }

    /// Signs. ECDSA signatures are DER (RFC 3279 §2.2.3), the others as long as their standards say.
    ///
    /// # Errors
    /// [`CryptoError::Algorithm`] when the algorithm is none of this key's;
    /// [`CryptoError::Message`] when the message's type or length doesn't fit the algorithm.
    pub fn sign(
        &self,
        algorithm: SigningAlgorithm,
        message: Message<'_>,
    ) -> Result<Vec<u8>, CryptoError> {
        self.key.sign(job::Job::new(self.spec, algorithm, message)?)
    }
}

/// A public key that verifies signatures.
pub struct VerifyingKey<'a> {
    spec: KeyPairSpec,
    public: &'a [u8],
}

impl<'a> VerifyingKey<'a> {
    /// From a [`KeyPair`]'s public key.
    pub fn new(spec: KeyPairSpec, public: &'a [u8]) -> Self {
        Self { spec, public }
    }

    /// Whether a signature is of this key over this message.
    ///
    /// # Errors
    /// [`CryptoError::Unauthentic`] when it is not; otherwise as [`SigningKey::sign`].
    pub fn verify(
        &self,
        algorithm: SigningAlgorithm,
        message: Message<'_>,
        signature: &[u8],
    ) -> Result<(), CryptoError> {
        let job = job::Job::new(self.spec, algorithm, message)?;
        backend::verify(self.spec, self.public, job, signature)
    }
}

/// An RSA public key that encrypts (RSAES-OAEP, RFC 8017 §7.1, MGF1 with the same hash, no label).
pub struct EncryptionKey<'a> {
    spec: KeyPairSpec,
    public: &'a [u8],
}

impl<'a> EncryptionKey<'a> {
    /// From a [`KeyPair`]'s public key.
    ///
    /// # Errors
    /// [`CryptoError::Algorithm`] when keys of this spec don't encrypt.
    pub fn new(spec: KeyPairSpec, public: &'a [u8]) -> Result<Self, CryptoError> {
        spec.rsa_bytes().ok_or(CryptoError::Algorithm)?;
        Ok(Self { spec, public })
    }

    /// Encrypts at most [`KeyPairSpec::max_plaintext`] bytes.
    ///
    /// # Errors
    /// [`CryptoError::Message`] when there are more; [`CryptoError::InvalidKey`].
    pub fn encrypt(&self, hash: OaepHash, plaintext: &[u8]) -> Result<Vec<u8>, CryptoError> {
        if self
            .spec
            .max_plaintext(hash)
            .is_none_or(|max| plaintext.len() > max)
        {
            return Err(CryptoError::Message);
        }
        backend::oaep_encrypt(self.public, hash, plaintext)
    }
}

/// An RSA private key that decrypts.
pub struct DecryptionKey {
    key: backend::Decrypter,
}

impl DecryptionKey {
    /// From a [`KeyPair`]'s private key, exposed for this call.
    ///
    /// # Errors
    /// [`CryptoError::Algorithm`] when keys of this spec don't decrypt;
    /// [`CryptoError::InvalidKey`], [`CryptoError::Unavailable`].
    pub fn new(spec: KeyPairSpec, private: &[u8]) -> Result<Self, CryptoError> {
        spec.rsa_bytes().ok_or(CryptoError::Algorithm)?;
        let key = backend::Decrypter::new(spec, private)?;
        Ok(Self { key })
    }

    /// Decrypts.
    ///
    /// # Errors
    /// [`CryptoError::Unauthentic`] for whatever reason, so that nobody learns which.
    pub fn decrypt(&self, hash: OaepHash, ciphertext: &[u8]) -> Result<SecretText, CryptoError> {
        self.key.decrypt(hash, ciphertext)
    }
}

/// A private key on a NIST curve that agrees on secrets (ECDH, NIST SP 800-56A §5.7.1.2).
pub struct AgreementKey {
    /// The `AlgorithmIdentifier` of keys on this curve.
    algorithm: &'static [u8],
    key: backend::Agreement,
}

impl AgreementKey {
    /// From a [`KeyPair`]'s private key, exposed for this call.
    ///
    /// # Errors
    /// [`CryptoError::Algorithm`] when keys of this spec don't agree on secrets;
    /// [`CryptoError::InvalidKey`], [`CryptoError::Unavailable`].
    pub fn new(spec: KeyPairSpec, private: &[u8]) -> Result<Self, CryptoError> {
        let algorithm = spec.agreement_algorithm().ok_or(CryptoError::Algorithm)?;
        let key = backend::Agreement::new(spec, private)?;
        Ok(Self { algorithm, key })
    }

    /// The shared secret with a peer: the X coordinate, big-endian, as long as the curve's field
    /// elements (32, 48, 66 bytes).
    ///
    /// # Errors
    /// [`CryptoError::InvalidKey`] when `peer` is no SubjectPublicKeyInfo of a point on this
    /// key's curve.
    pub fn agree(&self, peer: &[u8]) -> Result<SecretBytes, CryptoError> {
        // Curves that are spelt out instead of named are not for a peer to choose (RFC 5480 §2.1.1).
        if !one_der_sequence(peer)?.starts_with(self.algorithm) {
            return Err(CryptoError::InvalidKey);
        }
        self.key.agree(peer)
    }
}

/// The contents of bytes that are one DER SEQUENCE from the first to the last: the parsers of
/// aws-lc look no further than the end of the outermost value.
fn one_der_sequence(der: &[u8]) -> Result<&[u8], CryptoError> {
    let (len, contents) = match *der {
        [0x30, len, ref rest @ ..] if len < 0x80 => (usize::from(len), rest),
        [0x30, 0x81, len, ref rest @ ..] if len >= 0x80 => (usize::from(len), rest),
        [0x30, 0x82, high, low, ref rest @ ..] if high > 0 => {
            (usize::from(high) << 8 | usize::from(low), rest)
        }
        _ => return Err(CryptoError::InvalidKey),
    };
    if contents.len() == len {
        Ok(contents)
    } else {
        Err(CryptoError::InvalidKey)
    }
}

#[cfg(all(test, feature = "aws-lc"))]
mod tests;
#[cfg(all(test, not(feature = "aws-lc")))]
mod tests_absent;
#[cfg(all(test, feature = "aws-lc"))]
mod tests_vectors;
