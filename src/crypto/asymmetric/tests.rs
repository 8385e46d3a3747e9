use aws_lc_rs::digest;
use aws_lc_rs::key_wrap::{AES_128, AES_256, AesBlockCipher, KeyEncryptionKey, KeyWrapPadded};

use super::*;

const ALGORITHMS: [SigningAlgorithm; 12] = {
    use Hash::{Sha256, Sha384, Sha512};
    use SigningAlgorithm::{Ecdsa, Ed25519, Ed25519ph, MlDsa, RsaPkcs1, RsaPss};
    [
        RsaPss(Sha256),
        RsaPss(Sha384),
        RsaPss(Sha512),
        RsaPkcs1(Sha256),
        RsaPkcs1(Sha384),
        RsaPkcs1(Sha512),
        Ecdsa(Sha256),
        Ecdsa(Sha384),
        Ecdsa(Sha512),
        Ed25519,
        Ed25519ph,
        MlDsa,
    ]
};

fn digest_of(hash: Hash, message: &[u8]) -> Vec<u8> {
    let algorithm = match hash {
        Hash::Sha256 => &digest::SHA256,
        Hash::Sha384 => &digest::SHA384,
        Hash::Sha512 => &digest::SHA512,
    };
    digest::digest(algorithm, message).as_ref().to_vec()
}

fn hash_of(algorithm: SigningAlgorithm) -> Option<Hash> {
    match algorithm {
        SigningAlgorithm::RsaPss(hash)
        | SigningAlgorithm::RsaPkcs1(hash)
        | SigningAlgorithm::Ecdsa(hash) => Some(hash),
        _ => None,
    }
}

/// Signs a message and its digest; each signature is good for both forms and for nothing else.
fn signs(spec: KeyPairSpec, pair: &KeyPair, other: &KeyPair, algorithm: SigningAlgorithm) {
    let key = SigningKey::new(spec, pair.private.expose()).unwrap();
    let public = VerifyingKey::new(spec, &pair.public);
    let (message, changed) = ([7; 64], [8; 64]);
    let digest = hash_of(algorithm).map(|hash| digest_of(hash, &message));
    let mut forms = vec![match algorithm {
        SigningAlgorithm::Ed25519ph => (Message::Digest(&message), Message::Digest(&changed)),
        _ => (Message::Raw(&message), Message::Raw(&changed)),
    }];
    if let Some(digest) = &digest {
        forms.push((
            Message::Digest(digest),
            Message::Digest(&changed[..digest.len()]),
        ));
    }
    for (form, _) in &forms {
        let signature = key.sign(algorithm, *form).unwrap();
        for (form, changed) in &forms {
            let case = format!("{spec:?} {algorithm:?} {form:?}");
            assert_eq!(
                public.verify(algorithm, *form, &signature),
                Ok(()),
                "{case}"
            );
            let refused = Err(CryptoError::Unauthentic);
            assert_eq!(
                public.verify(algorithm, *changed, &signature),
                refused,
                "{case}"
            );
            let stranger = VerifyingKey::new(spec, &other.public);
            assert_eq!(
                stranger.verify(algorithm, *form, &signature),
                refused,
                "{case}"
            );
            for at in [0, signature.len() / 2, signature.len() - 1] {
                let mut bent = signature.clone();
                bent[at] ^= 1;
                assert_eq!(public.verify(algorithm, *form, &bent), refused, "{case}");
                assert_eq!(public.verify(algorithm, *form, &signature[..at]), refused);
            }
            let longer = [&signature[..], &[0]].concat();
            assert_eq!(public.verify(algorithm, *form, &longer), refused, "{case}");
        }
    }
}

#[test]
fn every_kind_of_key_signs_with_its_algorithms_and_no_others() {
    for spec in KeyPairSpec::ALL {
        let (pair, other) = (
            KeyPair::generate(spec).unwrap(),
            KeyPair::generate(spec).unwrap(),
        );
        assert!(!pair.private.same_as(&other.private));
        // What is kept is read again as the same key.
        let again = KeyPair::from_pkcs8(spec, pair.private.expose()).unwrap();
        assert!(again.private.same_as(&pair.private) && again.public == pair.public);
        let key = SigningKey::new(spec, pair.private.expose()).unwrap();
        let public = VerifyingKey::new(spec, &pair.public);
        for algorithm in ALGORITHMS {
            if spec.signing_algorithms().contains(&algorithm) {
                signs(spec, &pair, &other, algorithm);
                continue;
            }
            let refused = Some(CryptoError::Algorithm);
            for message in [Message::Raw(b"m"), Message::Digest(&[0; 64])] {
                assert_eq!(key.sign(algorithm, message).err(), refused);
                assert_eq!(public.verify(algorithm, message, &[0; 64]).err(), refused);
            }
        }
        for other in KeyPairSpec::ALL.into_iter().filter(|other| *other != spec) {
            let read = KeyPair::from_pkcs8(other, pair.private.expose());
            assert_eq!(
                read.err(),
                Some(CryptoError::InvalidKey),
                "{spec:?} as {other:?}"
            );
        }
    }
}

#[test]
fn messages_must_fit_their_algorithm() {
    use SigningAlgorithm as S;
    let refused = [
        (
            KeyPairSpec::Rsa2048,
            S::RsaPss(Hash::Sha256),
            Message::Digest(&[0; 31]),
        ),
        (
            KeyPairSpec::Rsa2048,
            S::RsaPss(Hash::Sha512),
            Message::Digest(&[0; 32]),
        ),
        (
            KeyPairSpec::NistP384,
            S::Ecdsa(Hash::Sha384),
            Message::Digest(&[0; 64]),
        ),
        (
            KeyPairSpec::NistP256,
            S::Ecdsa(Hash::Sha256),
            Message::ExternalMu(&[0; 64]),
        ),
        (KeyPairSpec::Ed25519, S::Ed25519, Message::Digest(&[0; 64])),
        (KeyPairSpec::Ed25519, S::Ed25519ph, Message::Raw(&[0; 64])),
        (
            KeyPairSpec::Ed25519,
            S::Ed25519ph,
            Message::Digest(&[0; 32]),
        ),
        (KeyPairSpec::MlDsa44, S::MlDsa, Message::Digest(&[0; 64])),
        (
            KeyPairSpec::MlDsa44,
            S::MlDsa,
            Message::ExternalMu(&[0; 64]),
        ),
    ];
    for (spec, algorithm, message) in refused {
        let pair = KeyPair::generate(spec).unwrap();
        let signed = SigningKey::new(spec, pair.private.expose())
            .unwrap()
            .sign(algorithm, message);
        assert_eq!(
            signed.err(),
            Some(CryptoError::Message),
            "{algorithm:?} {message:?}"
        );
        let verified = VerifyingKey::new(spec, &pair.public).verify(algorithm, message, &[0; 64]);
        assert_eq!(verified.err(), Some(CryptoError::Message));
    }
}

#[test]
fn ed25519ph_is_that_of_rfc_8032() {
    // RFC 8032 §7.3: the message is "abc"; no 64 bytes, so beside the gate of `Job`.
    let seed = hex::decode("833fe62409237b9d62ec77587520911e9a759cec1d19755b7da901b96dca3d42");
    let expected = "98a70222f0b8121aa9d30f813d683f809e462b469c7ff87639499bb94e6dae41\
                    31f85042463c2a355a2003d062adf5aaa10b8c61e636062aaad11c2a26083406";
    let prefix = hex::decode("302e020100300506032b657004220420").unwrap();
    let pkcs8 = [prefix, seed.unwrap()].concat();
    let pair = KeyPair::from_pkcs8(KeyPairSpec::Ed25519, &pkcs8).unwrap();
    let signer = backend::Signer::new(KeyPairSpec::Ed25519, pair.private.expose()).unwrap();
    let signature = signer.sign(job::Job::Ed25519ph(b"abc")).unwrap();
    assert_eq!(hex::encode(&signature), expected);
    let job = job::Job::Ed25519ph(b"abc");
    backend::verify(KeyPairSpec::Ed25519, &pair.public, job, &signature).unwrap();
}

#[test]
fn oaep_takes_as_much_as_aws_says() {
    // AWS KMS developer guide, "RSA key specs for encryption and decryption".
    let sizes = [
        (KeyPairSpec::Rsa2048, 214, 190),
        (KeyPairSpec::Rsa3072, 342, 318),
        (KeyPairSpec::Rsa4096, 470, 446),
    ];
    for (spec, sha1, sha256) in sizes {
        let pair = KeyPair::generate(spec).unwrap();
        let public = EncryptionKey::new(spec, &pair.public).unwrap();
        let private = DecryptionKey::new(spec, pair.private.expose()).unwrap();
        for (hash, max, other) in [
            (OaepHash::Sha1, sha1, OaepHash::Sha256),
            (OaepHash::Sha256, sha256, OaepHash::Sha1),
        ] {
            assert_eq!(spec.max_plaintext(hash), Some(max));
            let full = vec![0xA5; max + 1];
            assert_eq!(
                public.encrypt(hash, &full).err(),
                Some(CryptoError::Message)
            );
            for plain in [&full[..max], &full[..1], &[]] {
                let cipher = public.encrypt(hash, plain).unwrap();
                assert_eq!(Some(cipher.len()), spec.rsa_bytes());
                assert_eq!(private.decrypt(hash, &cipher).unwrap().as_slice(), plain);
                let refused = Some(CryptoError::Unauthentic);
                assert_eq!(private.decrypt(other, &cipher).err(), refused);
                assert_eq!(private.decrypt(hash, &cipher[1..]).err(), refused);
                let mut changed = cipher;
                changed[100] ^= 1;
                assert_eq!(private.decrypt(hash, &changed).err(), refused);
            }
        }
    }
    let private = KeyPair::generate(KeyPairSpec::NistP256).unwrap();
    let refused = Some(CryptoError::Algorithm);
    assert_eq!(
        DecryptionKey::new(KeyPairSpec::NistP256, private.private.expose()).err(),
        refused
    );
    assert_eq!(
        EncryptionKey::new(KeyPairSpec::NistP256, &private.public).err(),
        refused
    );
}

#[test]
fn two_keys_on_a_curve_agree() {
    let lengths = [
        (KeyPairSpec::NistP256, 32),
        (KeyPairSpec::NistP384, 48),
        (KeyPairSpec::NistP521, 66),
    ];
    for (spec, len) in lengths {
        let (a, b) = (
            KeyPair::generate(spec).unwrap(),
            KeyPair::generate(spec).unwrap(),
        );
        let key = AgreementKey::new(spec, a.private.expose()).unwrap();
        let ours = key.agree(&b.public).unwrap();
        let theirs = AgreementKey::new(spec, b.private.expose())
            .unwrap()
            .agree(&a.public)
            .unwrap();
        assert!(ours.same_as(&theirs));
        assert_eq!(ours.expose().len(), len);
        let refused = Some(CryptoError::InvalidKey);
        // Not on this curve, no SubjectPublicKeyInfo, more than one.
        for (other, _) in lengths.into_iter().filter(|(other, _)| *other != spec) {
            let stranger = KeyPair::generate(other).unwrap();
            assert_eq!(key.agree(&stranger.public).err(), refused);
        }
        let point = &b.public[b.public.len() - (2 * len + 1)..];
        assert_eq!((point[0], key.agree(point).err()), (4, refused));
        assert_eq!(key.agree(&[&b.public[..], &[0]].concat()).err(), refused);
        let mut off = b.public.clone();
        *off.last_mut().unwrap() ^= 1;
        assert_eq!(key.agree(&off).err(), refused);
        assert_eq!(key.agree(&[]).err(), refused);
    }
    for spec in [KeyPairSpec::Secp256k1, KeyPairSpec::Ed25519] {
        let private = KeyPair::generate(spec).unwrap().private;
        assert_eq!(
            AgreementKey::new(spec, private.expose()).err(),
            Some(CryptoError::Algorithm)
        );
    }
}

#[test]
fn a_private_key_is_one_der_value() {
    let spec = KeyPairSpec::NistP256;
    let pair = KeyPair::generate(spec).unwrap();
    let private = pair.private.expose();
    let refused = Some(CryptoError::InvalidKey);
    assert_eq!(
        KeyPair::from_pkcs8(spec, &[private, &[0]].concat()).err(),
        refused
    );
    for len in 0..private.len() {
        assert_eq!(KeyPair::from_pkcs8(spec, &private[..len]).err(), refused);
    }
}

fn kwp(cipher: &'static AesBlockCipher, key: &[u8], material: &[u8]) -> Vec<u8> {
    let mut out = vec![0; material.len() + 15];
    let key = KeyEncryptionKey::new(cipher, key).unwrap();
    key.wrap_with_padding(material, &mut out).unwrap().to_vec()
}

#[test]
fn wrapped_material_is_unwrapped() {
    let material = KeyPair::generate(KeyPairSpec::Rsa2048).unwrap().private;
    for spec in [
        WrappingKeySpec::Rsa2048,
        WrappingKeySpec::Rsa3072,
        WrappingKeySpec::Rsa4096,
    ] {
        let pair = KeyPair::generate(spec.key_pair()).unwrap();
        let public = EncryptionKey::new(spec.key_pair(), &pair.public).unwrap();
        let private = DecryptionKey::new(spec.key_pair(), pair.private.expose()).unwrap();
        let unwrap =
            |wrapping: ImportWrapping, wrapped: &[u8]| wrapping.unwrap(spec, &private, wrapped);
        let refused = Some(CryptoError::Unauthentic);
        for (hash, other) in [
            (OaepHash::Sha1, OaepHash::Sha256),
            (OaepHash::Sha256, OaepHash::Sha1),
        ] {
            let wrapped = public.encrypt(hash, &[9; 32]).unwrap();
            let wrapping = ImportWrapping::Oaep(hash);
            assert_eq!(unwrap(wrapping, &wrapped).unwrap().as_slice(), &[9; 32]);
            assert_eq!(unwrap(ImportWrapping::Oaep(other), &wrapped).err(), refused);
            assert_eq!(
                unwrap(ImportWrapping::AesKwp(hash), &wrapped).err(),
                refused
            );

            let wrapping = ImportWrapping::AesKwp(hash);
            let head = public.encrypt(hash, &[3; 32]).unwrap();
            let wrapped = [head, kwp(&AES_256, &[3; 32], material.expose())].concat();
            let unwrapped = unwrap(wrapping, &wrapped).unwrap();
            assert_eq!(unwrapped.as_slice(), material.expose());
            assert_eq!(
                unwrap(ImportWrapping::AesKwp(other), &wrapped).err(),
                refused
            );
            assert_eq!(unwrap(ImportWrapping::Oaep(hash), &wrapped).err(), refused);
            for at in [0, 300, wrapped.len() - 1] {
                let mut changed = wrapped.clone();
                changed[at] ^= 1;
                assert_eq!(unwrap(wrapping, &changed).err(), refused);
                assert_eq!(unwrap(wrapping, &wrapped[..at]).err(), refused);
            }
            // AWS asks for an AES key of 256 bits.
            let head = public.encrypt(hash, &[3; 16]).unwrap();
            let short = [head, kwp(&AES_128, &[3; 16], material.expose())].concat();
            assert_eq!(unwrap(wrapping, &short).err(), refused);
        }
    }
}
