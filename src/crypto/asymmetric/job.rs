//! The one place where an algorithm is held against a key and a message against the algorithm.

use super::super::CryptoError;
use super::spec::{Hash, KeyPairSpec, Message, SigningAlgorithm};

/// Something to sign or to verify that fits together.
pub(super) enum Job<'a> {
    Rsa {
        pss: bool,
        hash: Hash,
        input: Input<'a>,
    },
    Ecdsa {
        hash: Hash,
        input: Input<'a>,
    },
    Ed25519(&'a [u8]),
    Ed25519ph(&'a [u8]),
    MlDsa(&'a [u8]),
}

/// What is hashed, or its digest, which has the hash's length.
pub(super) enum Input<'a> {
    Message(&'a [u8]),
    Digest(&'a [u8]),
}

impl<'a> Job<'a> {
    pub(super) fn new(
        spec: KeyPairSpec,
        algorithm: SigningAlgorithm,
        message: Message<'a>,
    ) -> Result<Self, CryptoError> {
        if !spec.signing_algorithms().contains(&algorithm) {
            return Err(CryptoError::Algorithm);
        }
        let input = |hash: Hash| match message {
            Message::Raw(message) => Ok(Input::Message(message)),
            Message::Digest(digest) if digest.len() == hash.bytes() => Ok(Input::Digest(digest)),
            Message::Digest(_) | Message::ExternalMu(_) => Err(CryptoError::Message),
        };
        match (algorithm, message) {
            (SigningAlgorithm::RsaPss(hash), _) => Ok(Self::Rsa {
                pss: true,
                hash,
                input: input(hash)?,
            }),
            (SigningAlgorithm::RsaPkcs1(hash), _) => Ok(Self::Rsa {
                pss: false,
                hash,
                input: input(hash)?,
            }),
            (SigningAlgorithm::Ecdsa(hash), _) => Ok(Self::Ecdsa {
                hash,
                input: input(hash)?,
            }),
            (SigningAlgorithm::Ed25519, Message::Raw(message)) => Ok(Self::Ed25519(message)),
            (SigningAlgorithm::Ed25519ph, Message::Digest(digest))
                if digest.len() == Hash::Sha512.bytes() =>
            {
                Ok(Self::Ed25519ph(digest))
            }
            (SigningAlgorithm::MlDsa, Message::Raw(message)) => Ok(Self::MlDsa(message)),
            (
                SigningAlgorithm::Ed25519 | SigningAlgorithm::Ed25519ph | SigningAlgorithm::MlDsa,
                _,
            ) => Err(CryptoError::Message),
        }
    }
}
