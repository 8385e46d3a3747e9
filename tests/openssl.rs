//! Asymmetric keys against OpenSSL: what one made, the other reads; what one signed or encrypted, the other
//! verifies or decrypts.
#![cfg(feature = "aws-lc")]

use std::fs;
use std::path::Path;
use std::process::Command;

use envelopefs::crypto::{
    AgreementKey, DecryptionKey, EncryptionKey, Hash, ImportWrapping, KeyPair, KeyPairSpec,
    Message, OaepHash, SigningAlgorithm, SigningKey, VerifyingKey, WrappingKeySpec,
};

/// Kinds that every OpenSSL knows (ML-DSA came with 3.5).
const SPECS: [(KeyPairSpec, &[&str]); 8] = [
    (
        KeyPairSpec::Rsa2048,
        &["RSA", "-pkeyopt", "rsa_keygen_bits:2048"],
    ),
    (
        KeyPairSpec::Rsa3072,
        &["RSA", "-pkeyopt", "rsa_keygen_bits:3072"],
    ),
    (
        KeyPairSpec::Rsa4096,
        &["RSA", "-pkeyopt", "rsa_keygen_bits:4096"],
    ),
    (
        KeyPairSpec::NistP256,
        &["EC", "-pkeyopt", "ec_paramgen_curve:P-256"],
    ),
    (
        KeyPairSpec::NistP384,
        &["EC", "-pkeyopt", "ec_paramgen_curve:P-384"],
    ),
    (
        KeyPairSpec::NistP521,
        &["EC", "-pkeyopt", "ec_paramgen_curve:P-521"],
    ),
    (
        KeyPairSpec::Secp256k1,
        &["EC", "-pkeyopt", "ec_paramgen_curve:secp256k1"],
    ),
    (KeyPairSpec::Ed25519, &["ED25519"]),
];

/// Runs openssl in `dir`; the words are one text, cut at blanks.
fn openssl(dir: &Path, words: &str) -> bool {
    let output = Command::new("openssl")
        .args(words.split_whitespace())
        .current_dir(dir)
        .output()
        .expect("openssl is installed");
    if !output.status.success() {
        eprintln!(
            "openssl {words}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    output.status.success()
}

/// Two keys of a spec with their files `priv.der`, `pub.der` in a directory: one that this
/// program made, one that OpenSSL made.
fn keys(spec: KeyPairSpec, generate: &[&str]) -> Vec<(KeyPair, tempfile::TempDir)> {
    let ours = tempfile::tempdir().unwrap();
    let pair = KeyPair::generate(spec).unwrap();
    fs::write(ours.path().join("priv.der"), pair.private.expose()).unwrap();

    let theirs = tempfile::tempdir().unwrap();
    let words = format!("genpkey -out key.pem -algorithm {}", generate.join(" "));
    assert!(openssl(theirs.path(), &words));
    let words = "pkcs8 -topk8 -nocrypt -in key.pem -outform DER -out priv.der";
    assert!(openssl(theirs.path(), words));
    let der = fs::read(theirs.path().join("priv.der")).unwrap();
    let imported = KeyPair::from_pkcs8(spec, &der).unwrap();

    let both = vec![(pair, ours), (imported, theirs)];
    for (pair, dir) in &both {
        let words = "pkey -in priv.der -inform DER -pubout -outform DER -out pub.der";
        assert!(openssl(dir.path(), words));
        assert_eq!(fs::read(dir.path().join("pub.der")).unwrap(), pair.public);
    }
    both
}

/// OpenSSL's words for an algorithm on a digest of the message.
fn signing_words(algorithm: SigningAlgorithm) -> (&'static str, String) {
    let name = |hash| match hash {
        Hash::Sha256 => "sha256",
        Hash::Sha384 => "sha384",
        Hash::Sha512 => "sha512",
    };
    match algorithm {
        SigningAlgorithm::RsaPss(hash) => (
            name(hash),
            format!(
                "-pkeyopt digest:{} -pkeyopt rsa_padding_mode:pss -pkeyopt rsa_pss_saltlen:digest",
                name(hash)
            ),
        ),
        SigningAlgorithm::RsaPkcs1(hash) | SigningAlgorithm::Ecdsa(hash) => {
            (name(hash), format!("-pkeyopt digest:{}", name(hash)))
        }
        other => panic!("{other:?} signs no digest"),
    }
}

#[test]
fn signatures_of_each_are_good_for_the_other() {
    let message = b"a message that is signed";
    for (spec, generate) in SPECS {
        for (pair, dir) in keys(spec, generate) {
            let dir = dir.path();
            fs::write(dir.join("message"), message).unwrap();
            let key = SigningKey::new(spec, pair.private.expose()).unwrap();
            let public = VerifyingKey::new(spec, &pair.public);
            for algorithm in spec.signing_algorithms() {
                let algorithm = *algorithm;
                // OpenSSL has Ed25519ph since 3.4 only; RFC 8032's own vector holds it.
                if algorithm == SigningAlgorithm::Ed25519ph {
                    continue;
                }
                let case = format!("{spec:?} {algorithm:?}");
                let signature = key.sign(algorithm, Message::Raw(message)).unwrap();
                fs::write(dir.join("sig"), &signature).unwrap();
                let (digest, how) = if algorithm == SigningAlgorithm::Ed25519 {
                    (None, "-rawin -in message".to_owned())
                } else {
                    let (hash, words) = signing_words(algorithm);
                    assert!(openssl(
                        dir,
                        &format!("dgst -{hash} -binary -out digest message")
                    ));
                    let digest = fs::read(dir.join("digest")).unwrap();
                    (Some(digest), format!("-in digest {words}"))
                };
                let verify = format!(
                    "pkeyutl -verify -pubin -inkey pub.der -keyform DER -sigfile sig {how}"
                );
                assert!(openssl(dir, &verify), "{case}");
                if let Some(digest) = &digest {
                    let signature = key.sign(algorithm, Message::Digest(digest)).unwrap();
                    fs::write(dir.join("sig"), signature).unwrap();
                    assert!(openssl(dir, &verify), "{case}, of a digest");
                }
                let sign = format!("pkeyutl -sign -inkey priv.der -keyform DER -out sig {how}");
                assert!(openssl(dir, &sign), "{case}");
                let theirs = fs::read(dir.join("sig")).unwrap();
                let verified = public.verify(algorithm, Message::Raw(message), &theirs);
                assert_eq!(verified, Ok(()), "{case}");
            }
        }
    }
}

#[test]
fn ciphertexts_of_each_open_for_the_other() {
    for (spec, generate) in SPECS.into_iter().filter(|(spec, _)| spec.encrypts()) {
        for (pair, dir) in keys(spec, generate) {
            let dir = dir.path();
            let private = DecryptionKey::new(spec, pair.private.expose()).unwrap();
            let public = EncryptionKey::new(spec, &pair.public).unwrap();
            for (hash, name) in [(OaepHash::Sha1, "sha1"), (OaepHash::Sha256, "sha256")] {
                let plain = vec![0x5A; spec.max_plaintext(hash).unwrap()];
                fs::write(dir.join("plain"), &plain).unwrap();
                let how = format!(
                    "-keyform DER -pkeyopt rsa_padding_mode:oaep -pkeyopt rsa_oaep_md:{name} \
                     -pkeyopt rsa_mgf1_md:{name}"
                );
                let encrypt =
                    format!("pkeyutl -encrypt -pubin -inkey pub.der -in plain -out cipher {how}");
                assert!(openssl(dir, &encrypt));
                let cipher = fs::read(dir.join("cipher")).unwrap();
                assert_eq!(private.decrypt(hash, &cipher).unwrap().as_slice(), plain);

                fs::write(dir.join("cipher"), public.encrypt(hash, &plain).unwrap()).unwrap();
                let decrypt =
                    format!("pkeyutl -decrypt -inkey priv.der -in cipher -out opened {how}");
                assert!(openssl(dir, &decrypt));
                assert_eq!(fs::read(dir.join("opened")).unwrap(), plain);
            }
        }
    }
}

#[test]
fn shared_secrets_are_the_same() {
    for (spec, generate) in SPECS.into_iter().filter(|(spec, _)| spec.agrees()) {
        let both = keys(spec, generate);
        let [(ours, our_dir), (theirs, their_dir)] = &both[..] else {
            panic!("two keys");
        };
        fs::copy(
            our_dir.path().join("pub.der"),
            their_dir.path().join("peer.der"),
        )
        .unwrap();
        let words = "pkeyutl -derive -inkey priv.der -keyform DER -peerkey peer.der -peerform DER -out secret";
        assert!(openssl(their_dir.path(), words));
        let secret = fs::read(their_dir.path().join("secret")).unwrap();
        let key = AgreementKey::new(spec, ours.private.expose()).unwrap();
        assert_eq!(key.agree(&theirs.public).unwrap().expose(), secret);
    }
}

#[test]
fn material_that_openssl_wrapped_is_unwrapped() {
    // The steps of the AWS KMS developer guide, "Step 3: Encrypt the key material".
    let spec = WrappingKeySpec::Rsa3072;
    let pair = KeyPair::generate(spec.key_pair()).unwrap();
    let key = DecryptionKey::new(spec.key_pair(), pair.private.expose()).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    fs::write(dir.join("pub.der"), &pair.public).unwrap();
    fs::write(dir.join("aes"), [7; 32]).unwrap();
    let material = KeyPair::generate(KeyPairSpec::Rsa2048).unwrap().private;
    fs::write(dir.join("material"), material.expose()).unwrap();
    assert!(openssl(
        dir,
        "pkeyutl -encrypt -pubin -keyform DER -inkey pub.der -in aes -out head \
         -pkeyopt rsa_padding_mode:oaep -pkeyopt rsa_oaep_md:sha256 -pkeyopt rsa_mgf1_md:sha256",
    ));
    let aes = hex::encode([7; 32]);
    assert!(openssl(
        dir,
        &format!("enc -id-aes256-wrap-pad -iv A65959A6 -K {aes} -in material -out rest"),
    ));
    let head = fs::read(dir.join("head")).unwrap();
    let wrapped = [head.clone(), fs::read(dir.join("rest")).unwrap()].concat();
    let unwrapped = ImportWrapping::AesKwp(OaepHash::Sha256).unwrap(spec, &key, &wrapped);
    assert_eq!(unwrapped.unwrap().as_slice(), material.expose());
    let unwrapped = ImportWrapping::Oaep(OaepHash::Sha256).unwrap(spec, &key, &head);
    assert_eq!(unwrapped.unwrap().as_slice(), [7; 32]);
}

/// A keystore, and an operation of its owner: JSON in, JSON out.
mod kms {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use envelopefs::kms::{CreateOptions, Kms, ProtectorInput, api};
    use serde_json::Value;

    pub struct Keystore {
        kms: Kms,
        _dir: tempfile::TempDir,
    }

    impl Keystore {
        pub fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let protector = ProtectorInput::key(vec![1; 32].into()).unwrap();
            let path = dir.path().join("ks");
            let kms = Kms::create(&path, &protector, &CreateOptions::default()).unwrap();
            Self { kms, _dir: dir }
        }

        pub fn call(&self, operation: &str, body: &Value) -> Value {
            let answer = api::call(&self.kms.owner(), operation, body.to_string().as_bytes());
            serde_json::from_slice(&answer.unwrap()).unwrap()
        }

        /// A new key's ARN, with its public key as OpenSSL's `pub.der` in `dir`.
        pub fn key(&self, spec: &str, usage: &str, dir: &std::path::Path) -> String {
            let body = serde_json::json!({"KeySpec": spec, "KeyUsage": usage});
            let made = self.call("CreateKey", &body);
            let arn = made["KeyMetadata"]["Arn"].as_str().unwrap().to_owned();
            let public = self.call("GetPublicKey", &serde_json::json!({"KeyId": arn}));
            std::fs::write(dir.join("pub.der"), unbase64(&public["PublicKey"])).unwrap();
            arn
        }
    }

    pub fn base64(bytes: &[u8]) -> String {
        STANDARD.encode(bytes)
    }

    pub fn unbase64(value: &Value) -> Vec<u8> {
        STANDARD.decode(value.as_str().unwrap()).unwrap()
    }
}

#[test]
fn openssl_encrypts_with_a_public_key_that_was_given_out() {
    let keystore = kms::Keystore::new();
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let arn = keystore.key("RSA_4096", "ENCRYPT_DECRYPT", dir);
    fs::write(dir.join("plain"), b"sealed outside").unwrap();
    for (algorithm, hash) in [
        ("RSAES_OAEP_SHA_1", "sha1"),
        ("RSAES_OAEP_SHA_256", "sha256"),
    ] {
        let words = format!(
            "pkeyutl -encrypt -pubin -keyform DER -inkey pub.der -in plain -out cipher \
             -pkeyopt rsa_padding_mode:oaep -pkeyopt rsa_oaep_md:{hash} -pkeyopt rsa_mgf1_md:{hash}"
        );
        assert!(openssl(dir, &words));
        let cipher = fs::read(dir.join("cipher")).unwrap();
        let opened = keystore.call(
            "Decrypt",
            &serde_json::json!({
                "KeyId": arn, "EncryptionAlgorithm": algorithm, "CiphertextBlob": kms::base64(&cipher),
            }),
        );
        assert_eq!(kms::unbase64(&opened["Plaintext"]), b"sealed outside");
    }
}

#[test]
fn openssl_verifies_what_a_key_signed() {
    let keystore = kms::Keystore::new();
    let message = b"signed inside";
    let cases = [
        ("RSA_2048", "RSASSA_PKCS1_V1_5_SHA_512", "-sha512"),
        (
            "RSA_3072",
            "RSASSA_PSS_SHA_384",
            "-sha384 -sigopt rsa_padding_mode:pss -sigopt rsa_pss_saltlen:digest",
        ),
        ("ECC_NIST_P256", "ECDSA_SHA_256", "-sha256"),
        ("ECC_NIST_P384", "ECDSA_SHA_384", "-sha384"),
        ("ECC_NIST_P521", "ECDSA_SHA_512", "-sha512"),
        ("ECC_SECG_P256K1", "ECDSA_SHA_256", "-sha256"),
    ];
    for (spec, algorithm, how) in cases {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        let arn = keystore.key(spec, "SIGN_VERIFY", dir);
        fs::write(dir.join("message"), message).unwrap();
        let signed = keystore.call(
            "Sign",
            &serde_json::json!({
                "KeyId": arn, "SigningAlgorithm": algorithm, "Message": kms::base64(message),
            }),
        );
        fs::write(dir.join("sig"), kms::unbase64(&signed["Signature"])).unwrap();
        let verify = format!("dgst -keyform DER -verify pub.der -signature sig {how}");
        assert!(openssl(dir, &format!("{verify} message")), "{spec}");
        fs::write(dir.join("other"), b"Signed inside").unwrap();
        assert!(!openssl(dir, &format!("{verify} other")), "{spec}");
    }
}

#[test]
fn openssl_opens_what_a_data_key_pair_is_for() {
    let keystore = kms::Keystore::new();
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let cmk = keystore.call("CreateKey", &serde_json::json!({}))["KeyMetadata"]["Arn"].clone();
    let body = serde_json::json!({"KeyId": cmk, "KeyPairSpec": "ECC_NIST_P256"});
    let made = keystore.call("GenerateDataKeyPair", &body);
    let private = kms::unbase64(&made["PrivateKeyPlaintext"]);
    fs::write(dir.join("priv.der"), private).unwrap();
    let words = "pkey -in priv.der -inform DER -pubout -outform DER -out pub.der";
    assert!(openssl(dir, words));
    let public = kms::unbase64(&made["PublicKey"]);
    assert_eq!(fs::read(dir.join("pub.der")).unwrap(), public);
}
