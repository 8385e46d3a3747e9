//! What kinds of keys there are and which algorithms are theirs.

use super::super::CryptoError;
use super::job::Job;

/// The kind of a key pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KeyPairSpec {
    /// RSA with a modulus of 2048 bits.
    Rsa2048,
    /// RSA with a modulus of 3072 bits.
    Rsa3072,
    /// RSA with a modulus of 4096 bits.
    Rsa4096,
    /// NIST P-256 (secp256r1).
    NistP256,
    /// NIST P-384 (secp384r1).
    NistP384,
    /// NIST P-521 (secp521r1).
    NistP521,
    /// secp256k1, the curve of crypto-currencies.
    Secp256k1,
    /// Ed25519 (RFC 8032).
    Ed25519,
    /// ML-DSA-44 (FIPS 204).
    MlDsa44,
    /// ML-DSA-65 (FIPS 204).
    MlDsa65,
    /// ML-DSA-87 (FIPS 204).
    MlDsa87,
}

/// The hash of a signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Hash {
    /// SHA-256.
    Sha256,
    /// SHA-384.
    Sha384,
    /// SHA-512.
    Sha512,
}

impl Hash {
    /// Bytes in a digest.
    pub fn bytes(self) -> usize {
        match self {
            Self::Sha256 => 32,
            Self::Sha384 => 48,
            Self::Sha512 => 64,
        }
    }
}

/// A signature algorithm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SigningAlgorithm {
    /// RSASSA-PSS (RFC 8017 §8.1): MGF1 with the same hash, a salt as long as the digest.
    RsaPss(Hash),
    /// RSASSA-PKCS1-v1_5 (RFC 8017 §8.2).
    RsaPkcs1(Hash),
    /// ECDSA (FIPS 186-5 §6). The hash is the curve's: SHA-256 for P-256 and secp256k1, SHA-384
    /// for P-384, SHA-512 for P-521.
    Ecdsa(Hash),
    /// Ed25519 (RFC 8032 §5.1), of a message.
    Ed25519,
    /// Ed25519ph (RFC 8032 §5.1, no context), of a SHA-512 digest, *which it hashes again*: so does AWS KMS.
    Ed25519ph,
    /// ML-DSA (FIPS 204 §5.2), hedged, no context, of a message.
    MlDsa,
}

/// What is signed.
#[derive(Clone, Copy, Debug)]
pub enum Message<'a> {
    /// The message itself, hashed by the algorithm.
    Raw(&'a [u8]),
    /// The message's digest under the algorithm's hash.
    Digest(&'a [u8]),
    /// ML-DSA's message representative µ, 64 bytes (FIPS 204 §6.2). aws-lc-rs can't sign it:
    /// answered with [`super::CryptoError::Message`] for now.
    ExternalMu(&'a [u8]),
}

/// The hash of RSAES-OAEP and of its mask generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OaepHash {
    /// SHA-1, whose weakness doesn't touch OAEP.
    Sha1,
    /// SHA-256.
    Sha256,
}

impl OaepHash {
    fn bytes(self) -> usize {
        match self {
            Self::Sha1 => 20,
            Self::Sha256 => 32,
        }
    }
}

impl KeyPairSpec {
    /// Every spec.
    pub const ALL: [Self; 11] = [
        Self::Rsa2048,
        Self::Rsa3072,
        Self::Rsa4096,
        Self::NistP256,
        Self::NistP384,
        Self::NistP521,
        Self::Secp256k1,
        Self::Ed25519,
        Self::MlDsa44,
        Self::MlDsa65,
        Self::MlDsa87,
    ];

    /// The algorithms that keys of this kind sign with, in the order of the AWS KMS documentation.
    pub fn signing_algorithms(self) -> &'static [SigningAlgorithm] {
        use Hash::{Sha256, Sha384, Sha512};
        use SigningAlgorithm as S;
        match self {
            Self::Rsa2048 | Self::Rsa3072 | Self::Rsa4096 => &[
                S::RsaPkcs1(Sha256),
                S::RsaPkcs1(Sha384),
                S::RsaPkcs1(Sha512),
                S::RsaPss(Sha256),
                S::RsaPss(Sha384),
                S::RsaPss(Sha512),
            ],
            Self::NistP256 | Self::Secp256k1 => &[S::Ecdsa(Sha256)],
            Self::NistP384 => &[S::Ecdsa(Sha384)],
            Self::NistP521 => &[S::Ecdsa(Sha512)],
            Self::Ed25519 => &[S::Ed25519, S::Ed25519ph],
            Self::MlDsa44 | Self::MlDsa65 | Self::MlDsa87 => &[S::MlDsa],
        }
    }

    /// Whether a key of this kind can sign, or verify, this message with this algorithm.
    ///
    /// # Errors
    /// [`CryptoError::Algorithm`] when the algorithm is none of this key's;
    /// [`CryptoError::Message`] when the message's type or length doesn't fit the algorithm.
    pub fn can_sign(
        self,
        algorithm: SigningAlgorithm,
        message: Message<'_>,
    ) -> Result<(), CryptoError> {
        Job::new(self, algorithm, message).map(|_| ())
    }

    /// Whether keys of this kind agree on secrets (ECDH).
    pub fn agrees(self) -> bool {
        self.agreement_algorithm().is_some()
    }

    /// The DER `AlgorithmIdentifier` (RFC 5480: id-ecPublicKey, the named curve) of keys that agree.
    pub(super) fn agreement_algorithm(self) -> Option<&'static [u8]> {
        match self {
            Self::NistP256 => {
                Some(b"\x30\x13\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07")
            }
            Self::NistP384 => {
                Some(b"\x30\x10\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x05\x2b\x81\x04\x00\x22")
            }
            Self::NistP521 => {
                Some(b"\x30\x10\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x05\x2b\x81\x04\x00\x23")
            }
            Self::Rsa2048
            | Self::Rsa3072
            | Self::Rsa4096
            | Self::Secp256k1
            | Self::Ed25519
            | Self::MlDsa44
            | Self::MlDsa65
            | Self::MlDsa87 => None,
        }
    }

    /// Whether keys of this kind encrypt and decrypt.
    pub fn encrypts(self) -> bool {
        self.rsa_bytes().is_some()
    }

    /// The most bytes that one encryption takes (RFC 8017 §7.1.1), for kinds that encrypt.
    pub fn max_plaintext(self, hash: OaepHash) -> Option<usize> {
        Some(self.rsa_bytes()? - 2 * hash.bytes() - 2)
    }

    /// Bytes in the modulus of an RSA key.
    pub(super) fn rsa_bytes(self) -> Option<usize> {
        match self {
            Self::Rsa2048 => Some(256),
            Self::Rsa3072 => Some(384),
            Self::Rsa4096 => Some(512),
            Self::NistP256
            | Self::NistP384
            | Self::NistP521
            | Self::Secp256k1
            | Self::Ed25519
            | Self::MlDsa44
            | Self::MlDsa65
            | Self::MlDsa87 => None,
        }
    }
}
