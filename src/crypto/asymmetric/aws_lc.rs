//! The backend of asymmetric keys: aws-lc-rs, and ed25519-dalek for Ed25519ph, which it lacks.

use aws_lc_rs::agreement::{self, ECDH_P256, ECDH_P384, ECDH_P521, X25519};
use aws_lc_rs::digest::{self, Digest};
use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der, PublicKeyX509Der};
use aws_lc_rs::key_wrap::{AES_256, KeyEncryptionKey, KeyWrapPadded};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{
    KeySize, OAEP_SHA1_MGF1SHA1, OAEP_SHA256_MGF1SHA256, OaepAlgorithm, OaepPrivateDecryptingKey,
    OaepPublicEncryptingKey, PrivateDecryptingKey, PublicEncryptingKey,
};
use aws_lc_rs::signature::{
    self as sig, EcdsaKeyPair, EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair as _, PqdsaKeyPair,
    PqdsaSigningAlgorithm, RsaEncoding, RsaKeyPair, UnparsedPublicKey, VerificationAlgorithm,
};
use ed25519_dalek::Digest as _;
use zeroize::Zeroizing;

use super::super::CryptoError;
use super::job::{Input, Job};
use super::{Hash, KeyPair, KeyPairSpec, OaepHash};
use crate::secret::{Key256, SecretBytes, SecretText};

/// How a spec's keys are made and used in aws-lc.
enum Family {
    Rsa(KeySize),
    Ec(&'static EcdsaSigningAlgorithm),
    Ed25519,
    MlDsa(&'static PqdsaSigningAlgorithm),
}

fn family(spec: KeyPairSpec) -> Family {
    match spec {
        KeyPairSpec::Rsa2048 => Family::Rsa(KeySize::Rsa2048),
        KeyPairSpec::Rsa3072 => Family::Rsa(KeySize::Rsa3072),
        KeyPairSpec::Rsa4096 => Family::Rsa(KeySize::Rsa4096),
        KeyPairSpec::NistP256 => Family::Ec(&sig::ECDSA_P256_SHA256_ASN1_SIGNING),
        KeyPairSpec::NistP384 => Family::Ec(&sig::ECDSA_P384_SHA384_ASN1_SIGNING),
        KeyPairSpec::NistP521 => Family::Ec(&sig::ECDSA_P521_SHA512_ASN1_SIGNING),
        KeyPairSpec::Secp256k1 => Family::Ec(&sig::ECDSA_P256K1_SHA256_ASN1_SIGNING),
        KeyPairSpec::Ed25519 => Family::Ed25519,
        KeyPairSpec::MlDsa44 => Family::MlDsa(&sig::ML_DSA_44_SIGNING),
        KeyPairSpec::MlDsa65 => Family::MlDsa(&sig::ML_DSA_65_SIGNING),
        KeyPairSpec::MlDsa87 => Family::MlDsa(&sig::ML_DSA_87_SIGNING),
    }
}

pub(super) fn generate(spec: KeyPairSpec) -> Result<KeyPair, CryptoError> {
    let signer = match family(spec) {
        Family::Rsa(size) => RsaKeyPair::generate(size).map(Signer::Rsa),
        Family::Ec(algorithm) => EcdsaKeyPair::generate(algorithm).map(Signer::Ec),
        Family::Ed25519 => Ed25519KeyPair::generate().map(Signer::Ed25519),
        Family::MlDsa(algorithm) => PqdsaKeyPair::generate(algorithm).map(Signer::MlDsa),
    };
    signer.map_err(internal)?.key_pair()
}

pub(super) fn from_pkcs8(spec: KeyPairSpec, private: &[u8]) -> Result<KeyPair, CryptoError> {
    if let Family::Rsa(size) = family(spec) {
        // The one type that says how many bits, not bytes, the modulus has.
        let key = PrivateDecryptingKey::from_pkcs8(private).map_err(invalid)?;
        if key.key_size_bits() != size.len() * 8 {
            return Err(CryptoError::InvalidKey);
        }
    }
    Signer::new(spec, private)?.key_pair()
}

/// A parsed private key that signs.
pub(super) enum Signer {
    Rsa(RsaKeyPair),
    Ec(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
    MlDsa(PqdsaKeyPair),
}

impl Signer {
    pub(super) fn new(spec: KeyPairSpec, private: &[u8]) -> Result<Self, CryptoError> {
        let signer = match family(spec) {
            Family::Rsa(size) => {
                let key = RsaKeyPair::from_pkcs8(private).map_err(invalid)?;
                if key.public_modulus_len() != size.len() {
                    return Err(CryptoError::InvalidKey);
                }
                Self::Rsa(key)
            }
            Family::Ec(algorithm) => {
                Self::Ec(EcdsaKeyPair::from_pkcs8(algorithm, private).map_err(invalid)?)
            }
            Family::Ed25519 => Self::Ed25519(Ed25519KeyPair::from_pkcs8(private).map_err(invalid)?),
            Family::MlDsa(algorithm) => {
                Self::MlDsa(PqdsaKeyPair::from_pkcs8(algorithm, private).map_err(invalid)?)
            }
        };
        Ok(signer)
    }

    /// Both halves, encoded.
    fn key_pair(&self) -> Result<KeyPair, CryptoError> {
        let public: PublicKeyX509Der<'_> = match self {
            Self::Rsa(key) => key.public_key().as_der(),
            Self::Ec(key) => key.public_key().as_der(),
            Self::Ed25519(key) => key.public_key().as_der(),
            Self::MlDsa(key) => key.public_key().as_der(),
        }
        .map_err(invalid)?;
        // An ML-DSA key without its seed has no encoding here: refused like any other bad key.
        let private: Pkcs8V1Der<'_> = match self {
            Self::Rsa(key) => key.as_der(),
            Self::Ec(key) => return pair(key.to_pkcs8v1().map_err(invalid)?.as_ref(), public),
            Self::Ed25519(key) => key.as_der(),
            Self::MlDsa(key) => key.private_key().as_der(),
        }
        .map_err(invalid)?;
        pair(private.as_ref(), public)
    }

    pub(super) fn sign(&self, job: Job<'_>) -> Result<Vec<u8>, CryptoError> {
        let random = SystemRandom::new();
        match (self, job) {
            (Self::Rsa(key), Job::Rsa { pss, hash, input }) => {
                let encoding: &'static dyn RsaEncoding = match (pss, hash) {
                    (true, Hash::Sha256) => &sig::RSA_PSS_SHA256,
                    (true, Hash::Sha384) => &sig::RSA_PSS_SHA384,
                    (true, Hash::Sha512) => &sig::RSA_PSS_SHA512,
                    (false, Hash::Sha256) => &sig::RSA_PKCS1_SHA256,
                    (false, Hash::Sha384) => &sig::RSA_PKCS1_SHA384,
                    (false, Hash::Sha512) => &sig::RSA_PKCS1_SHA512,
                };
                let mut signature = vec![0; key.public_modulus_len()];
                match input {
                    Input::Message(message) => key.sign(encoding, &random, message, &mut signature),
                    Input::Digest(digest) => {
                        key.sign_digest(encoding, &imported(hash, digest)?, &mut signature)
                    }
                }
                .map_err(internal)?;
                Ok(signature)
            }
            (Self::Ec(key), Job::Ecdsa { hash, input }) => {
                let signature = match input {
                    Input::Message(message) => key.sign(&random, message),
                    Input::Digest(digest) => key.sign_digest(&imported(hash, digest)?),
                };
                Ok(signature.map_err(internal)?.as_ref().to_vec())
            }
            (Self::Ed25519(key), Job::Ed25519(message)) => {
                let signature = key.try_sign(message).map_err(internal)?;
                Ok(signature.as_ref().to_vec())
            }
            (Self::Ed25519(key), Job::Ed25519ph(message)) => prehashed(key)?
                .sign_prehashed(ed25519_dalek::Sha512::new_with_prefix(message), None)
                .map(|signature| signature.to_bytes().to_vec())
                .map_err(internal),
            (Self::MlDsa(key), Job::MlDsa(message)) => {
                let mut signature = vec![0; key.algorithm().signature_len()];
                key.sign(message, &mut signature).map_err(internal)?;
                Ok(signature)
            }
            _ => Err(CryptoError::Algorithm),
        }
    }
}

/// The key as ed25519-dalek has it.
fn prehashed(key: &Ed25519KeyPair) -> Result<ed25519_dalek::SigningKey, CryptoError> {
    use aws_lc_rs::encoding::{AsBigEndian, Curve25519SeedBin};
    let seed: Curve25519SeedBin<'_> = key
        .seed()
        .and_then(|seed| seed.as_be_bytes())
        .map_err(internal)?;
    let seed: &[u8; 32] = seed.as_ref().try_into().map_err(internal)?;
    Ok(ed25519_dalek::SigningKey::from_bytes(seed))
}

pub(super) fn verify(
    spec: KeyPairSpec,
    public: &[u8],
    job: Job<'_>,
    signature: &[u8],
) -> Result<(), CryptoError> {
    let (algorithm, hash, input): (&'static dyn VerificationAlgorithm, _, _) = match job {
        Job::Rsa { pss, hash, input } => {
            let algorithm = match (pss, hash) {
                (true, Hash::Sha256) => &sig::RSA_PSS_2048_8192_SHA256,
                (true, Hash::Sha384) => &sig::RSA_PSS_2048_8192_SHA384,
                (true, Hash::Sha512) => &sig::RSA_PSS_2048_8192_SHA512,
                (false, Hash::Sha256) => &sig::RSA_PKCS1_2048_8192_SHA256,
                (false, Hash::Sha384) => &sig::RSA_PKCS1_2048_8192_SHA384,
                (false, Hash::Sha512) => &sig::RSA_PKCS1_2048_8192_SHA512,
            };
            (algorithm, hash, input)
        }
        Job::Ecdsa { hash, input } => {
            let algorithm = match family(spec) {
                Family::Ec(algorithm) => &**algorithm,
                _ => return Err(CryptoError::Algorithm),
            };
            (algorithm, hash, input)
        }
        Job::Ed25519(message) => (&sig::ED25519, Hash::Sha512, Input::Message(message)),
        Job::Ed25519ph(message) => return verify_prehashed(public, message, signature),
        Job::MlDsa(message) => {
            let algorithm = match spec {
                KeyPairSpec::MlDsa44 => &sig::ML_DSA_44,
                KeyPairSpec::MlDsa65 => &sig::ML_DSA_65,
                KeyPairSpec::MlDsa87 => &sig::ML_DSA_87,
                _ => return Err(CryptoError::Algorithm),
            };
            (algorithm, Hash::Sha512, Input::Message(message))
        }
    };
    let key = UnparsedPublicKey::new(algorithm, public);
    match input {
        Input::Message(message) => key.verify(message, signature),
        Input::Digest(digest) => key.verify_digest(&imported(hash, digest)?, signature),
    }
    .map_err(|_| CryptoError::Unauthentic)
}

/// The strict verification of ed25519-dalek: no key or R of small order.
fn verify_prehashed(public: &[u8], message: &[u8], signature: &[u8]) -> Result<(), CryptoError> {
    // RFC 8410 §4: the point is the last 32 of 44 bytes.
    let point: &[u8; 32] = public.last_chunk().ok_or(CryptoError::InvalidKey)?;
    let key = ed25519_dalek::VerifyingKey::from_bytes(point).map_err(invalid)?;
    let refused = |_| CryptoError::Unauthentic;
    let signature = ed25519_dalek::Signature::from_slice(signature).map_err(refused)?;
    let hash = ed25519_dalek::Sha512::new_with_prefix(message);
    key.verify_prehashed_strict(hash, None, &signature)
        .map_err(refused)
}

/// A digest of the length that [`Job`] has checked.
fn imported(hash: Hash, digest: &[u8]) -> Result<Digest, CryptoError> {
    let algorithm = match hash {
        Hash::Sha256 => &digest::SHA256,
        Hash::Sha384 => &digest::SHA384,
        Hash::Sha512 => &digest::SHA512,
    };
    Digest::import_less_safe(digest, algorithm).map_err(|_| CryptoError::Message)
}

fn oaep(hash: OaepHash) -> &'static OaepAlgorithm {
    match hash {
        OaepHash::Sha1 => &OAEP_SHA1_MGF1SHA1,
        OaepHash::Sha256 => &OAEP_SHA256_MGF1SHA256,
    }
}

pub(super) fn oaep_encrypt(
    public: &[u8],
    hash: OaepHash,
    plaintext: &[u8],
) -> Result<Vec<u8>, CryptoError> {
    let key = PublicEncryptingKey::from_der(public).map_err(invalid)?;
    let key = OaepPublicEncryptingKey::new(key).map_err(internal)?;
    let mut out = vec![0; key.ciphertext_size()];
    let len = key
        .encrypt(oaep(hash), plaintext, &mut out, None)
        .map_err(internal)?
        .len();
    out.truncate(len);
    Ok(out)
}

/// A parsed RSA private key that decrypts.
pub(super) struct Decrypter(OaepPrivateDecryptingKey);

impl Decrypter {
    pub(super) fn new(spec: KeyPairSpec, private: &[u8]) -> Result<Self, CryptoError> {
        let key = PrivateDecryptingKey::from_pkcs8(private).map_err(invalid)?;
        if spec.rsa_bytes() != Some(key.key_size_bytes()) {
            return Err(CryptoError::InvalidKey);
        }
        Ok(Self(OaepPrivateDecryptingKey::new(key).map_err(internal)?))
    }

    pub(super) fn decrypt(
        &self,
        hash: OaepHash,
        ciphertext: &[u8],
    ) -> Result<SecretText, CryptoError> {
        let mut out = Zeroizing::new(vec![0; self.0.min_output_size()]);
        let len = self
            .0
            .decrypt(oaep(hash), ciphertext, &mut out, None)
            .map_err(|_| CryptoError::Unauthentic)?
            .len();
        // Only shortens: what is cut off is wiped with the rest of the capacity.
        out.truncate(len);
        Ok(out)
    }
}

/// A parsed private key for ECDH.
pub(super) struct Agreement(agreement::PrivateKey);

impl Agreement {
    pub(super) fn new(spec: KeyPairSpec, private: &[u8]) -> Result<Self, CryptoError> {
        let algorithm = match spec {
            KeyPairSpec::NistP256 => &ECDH_P256,
            KeyPairSpec::NistP384 => &ECDH_P384,
            KeyPairSpec::NistP521 => &ECDH_P521,
            _ => return Err(CryptoError::Algorithm),
        };
        agreement::PrivateKey::from_private_key_der(algorithm, private)
            .map(Self)
            .map_err(invalid)
    }

    pub(super) fn agree(&self, peer: &[u8]) -> Result<SecretBytes, CryptoError> {
        // aws-lc-rs also reads bare points, which begin with 2 to 7: the caller has seen a SEQUENCE.
        let peer = agreement::UnparsedPublicKey::new(self.0.algorithm(), peer);
        agreement::agree(&self.0, peer, CryptoError::InvalidKey, |secret| {
            SecretBytes::copy_of(secret).ok_or(CryptoError::InvalidKey)
        })
    }
}

/// AES-256-KWP unwrapping (RFC 5649, NIST SP 800-38F §6.3).
pub(super) fn kwp_unwrap(key: &[u8], wrapped: &[u8]) -> Result<SecretText, CryptoError> {
    let refused = |_| CryptoError::Unauthentic;
    let key = KeyEncryptionKey::new(&AES_256, key).map_err(refused)?;
    let mut out = Zeroizing::new(vec![0; wrapped.len()]);
    let len = key
        .unwrap_with_padding(wrapped, &mut out)
        .map_err(refused)?
        .len();
    out.truncate(len);
    Ok(out)
}

/// The X25519 public key of a private one (RFC 7748).
pub(in crate::crypto) fn x25519_public(private: &Key256) -> Result<[u8; 32], CryptoError> {
    let key =
        agreement::PrivateKey::from_private_key(&X25519, private.expose()).map_err(invalid)?;
    let public = key.compute_public_key().map_err(internal)?;
    public.as_ref().try_into().map_err(internal)
}

/// The X25519 function (RFC 7748 §6.1); a peer of small order is refused.
pub(in crate::crypto) fn x25519(private: &Key256, peer: &[u8; 32]) -> Result<Key256, CryptoError> {
    let key =
        agreement::PrivateKey::from_private_key(&X25519, private.expose()).map_err(invalid)?;
    let peer = agreement::UnparsedPublicKey::new(&X25519, peer);
    agreement::agree(&key, peer, CryptoError::InvalidKey, |secret| {
        Key256::try_init(|out| {
            let secret: &[u8; 32] = secret.try_into().map_err(internal)?;
            out.copy_from_slice(secret);
            Ok(())
        })
    })
}

fn pair(private: &[u8], public: PublicKeyX509Der<'_>) -> Result<KeyPair, CryptoError> {
    Ok(KeyPair {
        private: SecretBytes::copy_of(private).ok_or(CryptoError::InvalidKey)?,
        public: public.as_ref().to_vec(),
    })
}

fn invalid<E>(_: E) -> CryptoError {
    CryptoError::InvalidKey
}

/// What aws-lc refuses for no reason that these types leave open: no memory, no randomness.
fn internal<E>(_: E) -> CryptoError {
    CryptoError::Internal
}
