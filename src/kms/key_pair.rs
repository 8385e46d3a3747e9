//! CMKs that are key pairs or HMAC keys: their specs and algorithms in the terms of the crypto
//! room, and what is done with their material.

use super::cache::CachedKey;
use super::error::{KmsError, Result};
use super::id::MaterialId;
use super::spec::{EncryptionAlgorithmSpec, KeySpec, MacAlgorithmSpec, SigningAlgorithmSpec};
use crate::crypto::{
    AgreementKey, CryptoError, DecryptionKey, EncryptionKey, Hash, HmacHash, HmacKey, KeyPair,
    KeyPairSpec, Message, OaepHash, SigningAlgorithm, SigningKey, VerifyingKey,
};
use crate::secret::{SecretBytes, SecretText};

impl KeySpec {
    /// The kind of its key pair, where it is one.
    pub(super) fn key_pair(self) -> Option<KeyPairSpec> {
        use KeyPairSpec as K;
        match self {
            Self::Rsa2048 => Some(K::Rsa2048),
            Self::Rsa3072 => Some(K::Rsa3072),
            Self::Rsa4096 => Some(K::Rsa4096),
            Self::EccNistP256 => Some(K::NistP256),
            Self::EccNistP384 => Some(K::NistP384),
            Self::EccNistP521 => Some(K::NistP521),
            Self::EccSecgP256k1 => Some(K::Secp256k1),
            Self::EccNistEdwards25519 => Some(K::Ed25519),
            Self::MlDsa44 => Some(K::MlDsa44),
            Self::MlDsa65 => Some(K::MlDsa65),
            Self::MlDsa87 => Some(K::MlDsa87),
            Self::SymmetricDefault
            | Self::Hmac224
            | Self::Hmac256
            | Self::Hmac384
            | Self::Hmac512 => None,
        }
    }

    /// The hash of its HMAC, where it is for that.
    pub(super) fn hmac(self) -> Option<HmacHash> {
        match self {
            Self::Hmac224 => Some(HmacHash::Sha224),
            Self::Hmac256 => Some(HmacHash::Sha256),
            Self::Hmac384 => Some(HmacHash::Sha384),
            Self::Hmac512 => Some(HmacHash::Sha512),
            _ => None,
        }
    }
}

impl SigningAlgorithmSpec {
    fn algorithm(self) -> SigningAlgorithm {
        use Hash::{Sha256, Sha384, Sha512};
        use SigningAlgorithm as S;
        match self {
            Self::RsassaPssSha256 => S::RsaPss(Sha256),
            Self::RsassaPssSha384 => S::RsaPss(Sha384),
            Self::RsassaPssSha512 => S::RsaPss(Sha512),
            Self::RsassaPkcs1V15Sha256 => S::RsaPkcs1(Sha256),
            Self::RsassaPkcs1V15Sha384 => S::RsaPkcs1(Sha384),
            Self::RsassaPkcs1V15Sha512 => S::RsaPkcs1(Sha512),
            Self::EcdsaSha256 => S::Ecdsa(Sha256),
            Self::EcdsaSha384 => S::Ecdsa(Sha384),
            Self::EcdsaSha512 => S::Ecdsa(Sha512),
            Self::MlDsaShake256 => S::MlDsa,
            Self::Ed25519Sha512 => S::Ed25519,
            Self::Ed25519PhSha512 => S::Ed25519ph,
        }
    }
}

impl MacAlgorithmSpec {
    fn hash(self) -> HmacHash {
        match self {
            Self::HmacSha224 => HmacHash::Sha224,
            Self::HmacSha256 => HmacHash::Sha256,
            Self::HmacSha384 => HmacHash::Sha384,
            Self::HmacSha512 => HmacHash::Sha512,
        }
    }
}

impl EncryptionAlgorithmSpec {
    /// The hash of RSAES-OAEP, where it is that.
    pub(super) fn oaep(self) -> Option<OaepHash> {
        match self {
            Self::SymmetricDefault => None,
            Self::RsaesOaepSha1 => Some(OaepHash::Sha1),
            Self::RsaesOaepSha256 => Some(OaepHash::Sha256),
        }
    }
}

/// A new key pair, or the refusal of a build that has none.
pub(super) fn generate(spec: KeyPairSpec) -> Result<KeyPair> {
    KeyPair::generate(spec).map_err(|error| failed("a new key pair", error))
}

/// What a failure of the crypto room means for a key.
pub(super) fn failed(arn: &str, error: CryptoError) -> KmsError {
    match error {
        CryptoError::Unavailable => KmsError::UnsupportedOperation(error.to_string()),
        CryptoError::Algorithm => KmsError::InvalidKeyUsage(format!("{arn}: {error}.")),
        CryptoError::Message => KmsError::Validation(format!("{arn}: {error}.")),
        CryptoError::Unauthentic => KmsError::InvalidCiphertext,
        CryptoError::InvalidKey | CryptoError::Internal | CryptoError::Parameter => {
            KmsError::Damaged(format!("the key material of {arn} can't be used: {error}"))
        }
    }
}

impl CachedKey {
    /// Whether `algorithm` is among those of the key.
    ///
    /// # Errors
    /// [`KmsError::InvalidKeyUsage`].
    pub(super) fn check_algorithm<A: PartialEq + std::fmt::Display>(
        &self,
        algorithm: A,
        among: &[A],
    ) -> Result<()> {
        if among.contains(&algorithm) {
            return Ok(());
        }
        Err(KmsError::InvalidKeyUsage(format!(
            "Algorithm {algorithm} and key spec {} are incompatible.",
            self.row.spec
        )))
    }

    fn failed(&self, error: CryptoError) -> KmsError {
        failed(&self.arn, error)
    }

    /// The kind of the key pair.
    ///
    /// # Errors
    /// [`KmsError::UnsupportedOperation`] when it is none.
    pub(super) fn key_pair_spec(&self) -> Result<KeyPairSpec> {
        self.row.spec.key_pair().ok_or_else(|| {
            KmsError::UnsupportedOperation(format!(
                "{} is no key pair: its key spec is {}.",
                self.arn, self.row.spec
            ))
        })
    }

    /// The public key: SubjectPublicKeyInfo DER. It is made from the private one at its first use.
    pub(super) fn public_key(&self) -> Result<&[u8]> {
        let (_, secret) = self.current()?;
        if let Some(public) = self.public.get() {
            return Ok(public);
        }
        let public = KeyPair::from_pkcs8(self.key_pair_spec()?, secret.expose())
            .map(|pair| pair.public)
            .map_err(|error| self.failed(error))?;
        Ok(self.public.get_or_init(|| public))
    }

    /// Whether the key can sign, or verify, the message with the algorithm.
    ///
    /// # Errors
    /// [`KmsError::InvalidKeyUsage`], [`KmsError::Validation`].
    pub(super) fn check_message(
        &self,
        algorithm: SigningAlgorithmSpec,
        message: Message<'_>,
    ) -> Result<()> {
        self.check_algorithm(algorithm, self.row.spec.signing_algorithms())?;
        match (algorithm, message) {
            (SigningAlgorithmSpec::MlDsaShake256, Message::ExternalMu(mu)) if mu.len() == 64 => {
                return Err(KmsError::UnsupportedOperation(
                    "MessageType EXTERNAL_MU is not supported: the library that signs takes no \
                     message representatives. Give the message itself as RAW."
                        .to_owned(),
                ));
            }
            _ => {}
        }
        self.key_pair_spec()?
            .can_sign(algorithm.algorithm(), message)
            .map_err(|error| match error {
                CryptoError::Message => KmsError::Validation(format!(
                    "The MessageType or the length of the Message does not fit {algorithm}."
                )),
                other => self.failed(other),
            })
    }

    /// Signs.
    pub(super) fn sign(
        &self,
        algorithm: SigningAlgorithmSpec,
        message: Message<'_>,
    ) -> Result<(Vec<u8>, MaterialId)> {
        let (material, secret) = self.current()?;
        let signature = SigningKey::new(self.key_pair_spec()?, secret.expose())
            .and_then(|key| key.sign(algorithm.algorithm(), message))
            .map_err(|error| self.failed(error))?;
        Ok((signature, *material))
    }

    /// Whether a signature is the message's.
    ///
    /// # Errors
    /// [`KmsError::InvalidSignature`] when it is not.
    pub(super) fn verify(
        &self,
        algorithm: SigningAlgorithmSpec,
        message: Message<'_>,
        signature: &[u8],
    ) -> Result<MaterialId> {
        let (material, _) = self.current()?;
        VerifyingKey::new(self.key_pair_spec()?, self.public_key()?)
            .verify(algorithm.algorithm(), message, signature)
            .map_err(|error| match error {
                CryptoError::Unauthentic => KmsError::InvalidSignature,
                other => self.failed(other),
            })?;
        Ok(*material)
    }

    /// The key of an HMAC, and the id of its material.
    pub(super) fn hmac(&self, algorithm: MacAlgorithmSpec) -> Result<(HmacKey, MaterialId)> {
        self.check_algorithm(algorithm, self.row.spec.mac_algorithms())?;
        let (material, secret) = self.current()?;
        let key = SecretBytes::copy_of(secret.expose())
            .ok_or(CryptoError::InvalidKey)
            .and_then(|secret| HmacKey::new(algorithm.hash(), secret))
            .map_err(|error| self.failed(error))?;
        Ok((key, *material))
    }

    /// The secret that this key and a peer's public key agree on.
    ///
    /// # Errors
    /// [`KmsError::Validation`] when the peer's key is none on this key's curve.
    pub(super) fn agree(&self, peer: &[u8]) -> Result<(SecretBytes, MaterialId)> {
        let (material, secret) = self.current()?;
        let agreed = AgreementKey::new(self.key_pair_spec()?, secret.expose())
            .map_err(|error| self.failed(error))?
            .agree(peer)
            .map_err(|error| match error {
                CryptoError::InvalidKey => KmsError::Validation(format!(
                    "The public key is no DER-encoded X.509 public key of the kind {}.",
                    self.row.spec
                )),
                other => self.failed(other),
            })?;
        Ok((agreed, *material))
    }

    /// Encrypts with an RSA key.
    ///
    /// # Errors
    /// [`KmsError::Validation`] when there is more than the key takes.
    pub(super) fn rsa_encrypt(
        &self,
        hash: OaepHash,
        plaintext: &[u8],
    ) -> Result<(Vec<u8>, MaterialId)> {
        let spec = self.key_pair_spec()?;
        if let Some(max) = spec
            .max_plaintext(hash)
            .filter(|max| plaintext.len() > *max)
        {
            return Err(KmsError::Validation(format!(
                "Plaintext has {} bytes, but with this algorithm a key of the kind {} takes at \
                 most {max}.",
                plaintext.len(),
                self.row.spec
            )));
        }
        let (material, _) = self.current()?;
        let ciphertext = EncryptionKey::new(spec, self.public_key()?)
            .and_then(|key| key.encrypt(hash, plaintext))
            .map_err(|error| self.failed(error))?;
        Ok((ciphertext, *material))
    }

    /// Decrypts with an RSA key.
    ///
    /// # Errors
    /// [`KmsError::InvalidCiphertext`].
    pub(super) fn rsa_decrypt(
        &self,
        hash: OaepHash,
        ciphertext: &[u8],
    ) -> Result<(SecretText, MaterialId)> {
        let (material, secret) = self.current()?;
        let plaintext = DecryptionKey::new(self.key_pair_spec()?, secret.expose())
            .and_then(|key| key.decrypt(hash, ciphertext))
            .map_err(|error| self.failed(error))?;
        Ok((plaintext, *material))
    }
}
