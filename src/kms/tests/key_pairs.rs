//! Key pairs and HMAC keys: what they do, what they refuse, in which state.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::*;
use crate::crypto::{KeyPair, KeyPairSpec};

/// An operation of the account root: its answer, or the name of the exception.
pub(super) fn done(
    kms: &Kms,
    operation: &str,
    body: &Value,
) -> std::result::Result<Value, &'static str> {
    match api::call(&kms.owner(), operation, body.to_string().as_bytes()) {
        Ok(answer) => Ok(serde_json::from_slice(&answer).unwrap_or(Value::Null)),
        Err(error) => Err(error.code()),
    }
}

pub(super) fn base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

pub(super) fn bytes(value: &Value) -> Vec<u8> {
    STANDARD.decode(value.as_str().expect("a blob")).unwrap()
}

/// A new key: its ARN.
fn key(kms: &Kms, spec: &str, usage: &str) -> String {
    let made = done(
        kms,
        "CreateKey",
        &json!({"KeySpec": spec, "KeyUsage": usage}),
    )
    .unwrap();
    made["KeyMetadata"]["Arn"].as_str().unwrap().to_owned()
}

/// `body` with some members set.
pub(super) fn with(body: &Value, members: &Value) -> Value {
    let mut body = body.clone();
    for (name, value) in members.as_object().unwrap() {
        body[name] = value.clone();
    }
    body
}

/// In each state, an operation that uses the key's material does what the key-state table says.
fn follows_the_states(kms: &Kms, arn: &str, operation: &str, body: &Value) {
    let id = json!({"KeyId": arn});
    let dry = with(body, &json!({"DryRun": true}));
    let dry = |kms| done(kms, operation, &dry).err();
    if operation != "GetPublicKey" {
        assert_eq!(dry(kms), Some("DryRunOperationException"), "{operation}");
    }
    done(kms, "DisableKey", &id).unwrap();
    assert_eq!(done(kms, operation, body).err(), Some("DisabledException"));
    if operation != "GetPublicKey" {
        assert_eq!(dry(kms), Some("DisabledException"), "{operation}");
    }
    done(kms, "ScheduleKeyDeletion", &id).unwrap();
    let pending = Some("KMSInvalidStateException");
    assert_eq!(done(kms, operation, body).err(), pending);
    done(kms, "CancelKeyDeletion", &id).unwrap();
    done(kms, "EnableKey", &id).unwrap();
    done(kms, operation, body).unwrap();
    let missing = json!({"KeyId": "12345678-1234-4234-8234-123456789012"});
    let missing = done(kms, operation, &with(body, &missing));
    assert_eq!(missing.err(), Some("NotFoundException"), "{operation}");
}

const SIGNING: [(&str, &[&str]); 11] = [
    ("RSA_2048", RSA),
    ("RSA_3072", RSA),
    ("RSA_4096", RSA),
    ("ECC_NIST_P256", &["ECDSA_SHA_256"]),
    ("ECC_NIST_P384", &["ECDSA_SHA_384"]),
    ("ECC_NIST_P521", &["ECDSA_SHA_512"]),
    ("ECC_SECG_P256K1", &["ECDSA_SHA_256"]),
    (
        "ECC_NIST_EDWARDS25519",
        &["ED25519_SHA_512", "ED25519_PH_SHA_512"],
    ),
    ("ML_DSA_44", &["ML_DSA_SHAKE_256"]),
    ("ML_DSA_65", &["ML_DSA_SHAKE_256"]),
    ("ML_DSA_87", &["ML_DSA_SHAKE_256"]),
];
const RSA: &[&str] = &[
    "RSASSA_PSS_SHA_256",
    "RSASSA_PSS_SHA_384",
    "RSASSA_PSS_SHA_512",
    "RSASSA_PKCS1_V1_5_SHA_256",
    "RSASSA_PKCS1_V1_5_SHA_384",
    "RSASSA_PKCS1_V1_5_SHA_512",
];

/// How long a digest for an algorithm is; none where it takes whole messages only.
fn digest_len(algorithm: &str) -> Option<usize> {
    match algorithm {
        "ED25519_SHA_512" | "ML_DSA_SHAKE_256" => None,
        _ if algorithm.ends_with("256") => Some(32),
        _ if algorithm.ends_with("384") => Some(48),
        _ => Some(64),
    }
}

#[test]
fn every_kind_of_key_signs_with_its_own_algorithms() {
    let fixture = Fixture::new();
    let kms = &fixture.kms;
    for (spec, algorithms) in SIGNING {
        let arn = key(kms, spec, "SIGN_VERIFY");
        let public = done(kms, "GetPublicKey", &json!({"KeyId": arn})).unwrap();
        let mut listed: Vec<&str> = public["SigningAlgorithms"]
            .as_array()
            .unwrap()
            .iter()
            .map(|algorithm| algorithm.as_str().unwrap())
            .collect();
        listed.sort_unstable();
        let mut all = algorithms.to_vec();
        all.sort_unstable();
        assert_eq!(listed, all);
        for algorithm in SigningAlgorithmSpec::ALL {
            let algorithm = algorithm.as_str();
            let raw =
                json!({"KeyId": arn, "Message": base64(&[1; 4096]), "SigningAlgorithm": algorithm});
            let digest = with(
                &raw,
                &json!({
                    "Message": base64(&vec![2; digest_len(algorithm).unwrap_or(64)]),
                    "MessageType": "DIGEST",
                }),
            );
            if !algorithms.contains(&algorithm) {
                let refused = done(kms, "Sign", &raw).err();
                assert_eq!(
                    refused,
                    Some("InvalidKeyUsageException"),
                    "{spec} {algorithm}"
                );
                continue;
            }
            for (body, taken) in [
                (&raw, algorithm != "ED25519_PH_SHA_512"),
                (&digest, digest_len(algorithm).is_some()),
            ] {
                let signed = done(kms, "Sign", body);
                if !taken {
                    assert_eq!(signed.err(), Some("ValidationException"), "{algorithm}");
                    continue;
                }
                let signed = signed.unwrap();
                assert_eq!(signed["KeyId"], json!(arn));
                assert_eq!(signed["SigningAlgorithm"], json!(algorithm));
                let body = with(body, &json!({"Signature": signed["Signature"]}));
                let verified = done(kms, "Verify", &body).unwrap();
                assert_eq!(
                    verified,
                    json!({"KeyId": arn, "SignatureValid": true, "SigningAlgorithm": algorithm})
                );
                let mut bent = bytes(&signed["Signature"]);
                *bent.last_mut().unwrap() ^= 1;
                let bent = with(&body, &json!({"Signature": base64(&bent)}));
                let refused = done(kms, "Verify", &bent).err();
                assert_eq!(refused, Some("KMSInvalidSignatureException"));
            }
        }
    }
}

#[test]
fn sign_and_verify_refuse_what_does_not_fit() {
    let fixture = Fixture::new();
    let kms = &fixture.kms;
    let arn = key(kms, "ECC_NIST_P384", "SIGN_VERIFY");
    let body =
        json!({"KeyId": arn, "Message": base64(b"message"), "SigningAlgorithm": "ECDSA_SHA_384"});
    let signature = done(kms, "Sign", &body).unwrap()["Signature"].clone();
    let verify = with(&body, &json!({"Signature": signature}));
    for (operation, body) in [("Sign", &body), ("Verify", &verify)] {
        let refused = |members: Value| done(kms, operation, &with(body, &members)).err();
        let invalid = Some("ValidationException");
        assert_eq!(refused(json!({"Message": ""})), invalid);
        assert_eq!(refused(json!({"Message": base64(&[0; 4097])})), invalid);
        assert_eq!(refused(json!({"SigningAlgorithm": "ECDSA"})), invalid);
        assert_eq!(refused(json!({"MessageType": "HASH"})), invalid);
        assert_eq!(refused(json!({"MessageType": "DIGEST"})), invalid);
        assert_eq!(refused(json!({"MessageType": "EXTERNAL_MU"})), invalid);
        let usage = Some("InvalidKeyUsageException");
        assert_eq!(refused(json!({"SigningAlgorithm": "ECDSA_SHA_256"})), usage);
        for (spec, other) in [
            ("SYMMETRIC_DEFAULT", "ENCRYPT_DECRYPT"),
            ("RSA_2048", "ENCRYPT_DECRYPT"),
            ("ECC_NIST_P384", "KEY_AGREEMENT"),
            ("HMAC_384", "GENERATE_VERIFY_MAC"),
        ] {
            let other = key(kms, spec, other);
            assert_eq!(refused(json!({"KeyId": other})), usage, "{spec}");
        }
        follows_the_states(kms, &arn, operation, body);
    }
    let changed = with(&verify, &json!({"Message": base64(b"Message")}));
    let wrong = Some("KMSInvalidSignatureException");
    assert_eq!(done(kms, "Verify", &changed).err(), wrong);
    // An alias names a key as well as its id.
    let alias = json!({"AliasName": "alias/signer", "TargetKeyId": arn});
    done(kms, "CreateAlias", &alias).unwrap();
    let by_alias = with(&verify, &json!({"KeyId": "alias/signer"}));
    assert_eq!(done(kms, "Verify", &by_alias).unwrap()["KeyId"], json!(arn));
    // ML-DSA signs no message representatives yet: that it does not is said, not guessed around.
    let arn = key(kms, "ML_DSA_44", "SIGN_VERIFY");
    let mu = json!({"KeyId": arn, "Message": base64(&[0; 64]), "MessageType": "EXTERNAL_MU",
        "SigningAlgorithm": "ML_DSA_SHAKE_256"});
    let refused = done(kms, "Sign", &mu).err();
    assert_eq!(refused, Some("UnsupportedOperationException"));
}

#[test]
fn hmac_keys_make_and_verify_codes() {
    let fixture = Fixture::new();
    let kms = &fixture.kms;
    for (bits, len) in [("224", 28), ("256", 32), ("384", 48), ("512", 64)] {
        let arn = key(kms, &format!("HMAC_{bits}"), "GENERATE_VERIFY_MAC");
        let algorithm = format!("HMAC_SHA_{bits}");
        let body = json!({"KeyId": arn, "Message": base64(b"message"), "MacAlgorithm": algorithm});
        let made = done(kms, "GenerateMac", &body).unwrap();
        let mac = bytes(&made["Mac"]);
        assert_eq!(mac.len(), len);
        assert_eq!(
            (&made["KeyId"], &made["MacAlgorithm"]),
            (&json!(arn), &json!(algorithm))
        );
        assert_eq!(done(kms, "GenerateMac", &body).unwrap(), made);
        let body = with(&body, &json!({"Mac": made["Mac"]}));
        let verified = done(kms, "VerifyMac", &body).unwrap();
        assert_eq!(
            verified,
            json!({"KeyId": arn, "MacValid": true, "MacAlgorithm": algorithm})
        );
        let mut bent = mac.clone();
        bent[0] ^= 1;
        for wrong in [&bent[..], &mac[..len - 1], &[&mac[..], &[0]].concat()] {
            let body = with(&body, &json!({"Mac": base64(wrong)}));
            let refused = done(kms, "VerifyMac", &body).err();
            assert_eq!(refused, Some("KMSInvalidMacException"));
        }
        for operation in ["GenerateMac", "VerifyMac"] {
            for other in MacAlgorithmSpec::ALL {
                if other.as_str() != algorithm {
                    let body = with(&body, &json!({"MacAlgorithm": other}));
                    let refused = done(kms, operation, &body).err();
                    assert_eq!(refused, Some("InvalidKeyUsageException"));
                }
            }
        }
    }
    let arn = key(kms, "HMAC_256", "GENERATE_VERIFY_MAC");
    let body = json!({"KeyId": arn, "Message": base64(b"message"), "MacAlgorithm": "HMAC_SHA_256"});
    let mac = done(kms, "GenerateMac", &body).unwrap()["Mac"].clone();
    let verify = with(&body, &json!({"Mac": mac}));
    for (operation, body) in [("GenerateMac", &body), ("VerifyMac", &verify)] {
        let refused = |members: Value| done(kms, operation, &with(body, &members)).err();
        let invalid = Some("ValidationException");
        assert_eq!(refused(json!({"Message": ""})), invalid);
        assert_eq!(refused(json!({"Message": base64(&[0; 4097])})), invalid);
        assert_eq!(refused(json!({"MacAlgorithm": "HMAC_MD5"})), invalid);
        let other = key(kms, "SYMMETRIC_DEFAULT", "ENCRYPT_DECRYPT");
        assert_eq!(
            refused(json!({"KeyId": other})),
            Some("InvalidKeyUsageException")
        );
        follows_the_states(kms, &arn, operation, body);
    }
}

#[test]
fn public_keys_are_given_out_with_what_they_are_for() {
    let fixture = Fixture::new();
    let kms = &fixture.kms;
    let cases = [
        (
            "RSA_2048",
            "ENCRYPT_DECRYPT",
            KeyPairSpec::Rsa2048,
            "EncryptionAlgorithms",
        ),
        (
            "RSA_2048",
            "SIGN_VERIFY",
            KeyPairSpec::Rsa2048,
            "SigningAlgorithms",
        ),
        (
            "ECC_NIST_P256",
            "KEY_AGREEMENT",
            KeyPairSpec::NistP256,
            "KeyAgreementAlgorithms",
        ),
        (
            "ML_DSA_65",
            "SIGN_VERIFY",
            KeyPairSpec::MlDsa65,
            "SigningAlgorithms",
        ),
    ];
    for (spec, usage, _, algorithms) in cases {
        let arn = key(kms, spec, usage);
        let body = json!({"KeyId": arn});
        let public = done(kms, "GetPublicKey", &body).unwrap();
        assert_eq!(public["KeyId"], json!(arn));
        assert_eq!(
            (&public["KeySpec"], &public["KeyUsage"]),
            (&json!(spec), &json!(usage))
        );
        for list in [
            "EncryptionAlgorithms",
            "SigningAlgorithms",
            "KeyAgreementAlgorithms",
        ] {
            let given = public[list].as_array().is_some_and(|list| !list.is_empty());
            assert_eq!(given, list == algorithms, "{spec} {usage} {list}");
        }
        let old = public["CustomerMasterKeySpec"].as_str();
        assert_eq!(old, Some(spec).filter(|spec| !spec.starts_with("ML")));
        assert_eq!(done(kms, "GetPublicKey", &body).unwrap(), public);
        follows_the_states(kms, &arn, "GetPublicKey", &body);
    }
    for (spec, usage) in [
        ("SYMMETRIC_DEFAULT", "ENCRYPT_DECRYPT"),
        ("HMAC_256", "GENERATE_VERIFY_MAC"),
    ] {
        let refused = done(
            kms,
            "GetPublicKey",
            &json!({"KeyId": key(kms, spec, usage)}),
        );
        assert_eq!(refused.err(), Some("UnsupportedOperationException"));
    }
}

#[test]
fn data_key_pairs_open_under_their_key() {
    let fixture = Fixture::new();
    let kms = &fixture.kms;
    let arn = key(kms, "SYMMETRIC_DEFAULT", "ENCRYPT_DECRYPT");
    let specs = [
        ("RSA_2048", KeyPairSpec::Rsa2048),
        ("RSA_3072", KeyPairSpec::Rsa3072),
        ("RSA_4096", KeyPairSpec::Rsa4096),
        ("ECC_NIST_P256", KeyPairSpec::NistP256),
        ("ECC_NIST_P384", KeyPairSpec::NistP384),
        ("ECC_NIST_P521", KeyPairSpec::NistP521),
        ("ECC_SECG_P256K1", KeyPairSpec::Secp256k1),
        ("ECC_NIST_EDWARDS25519", KeyPairSpec::Ed25519),
    ];
    for (name, spec) in specs {
        let context = json!({"purpose": name});
        let body = json!({"KeyId": arn, "KeyPairSpec": name, "EncryptionContext": context});
        let made = done(kms, "GenerateDataKeyPair", &body).unwrap();
        assert_eq!(
            (&made["KeyId"], &made["KeyPairSpec"]),
            (&json!(arn), &json!(name))
        );
        let private = bytes(&made["PrivateKeyPlaintext"]);
        let pair = KeyPair::from_pkcs8(spec, &private).unwrap();
        assert_eq!(pair.public, bytes(&made["PublicKey"]));
        let blob = &made["PrivateKeyCiphertextBlob"];
        let opened = json!({"CiphertextBlob": blob, "EncryptionContext": context});
        let opened = done(kms, "Decrypt", &opened).unwrap();
        assert_eq!(bytes(&opened["Plaintext"]), private);
        assert_eq!(opened["KeyMaterialId"], made["KeyMaterialId"]);
        let refused = done(kms, "Decrypt", &json!({"CiphertextBlob": blob}));
        assert_eq!(refused.err(), Some("InvalidCiphertextException"));

        let other = done(kms, "GenerateDataKeyPairWithoutPlaintext", &body).unwrap();
        assert_eq!(other.get("PrivateKeyPlaintext"), None);
        assert_eq!(other.as_object().unwrap().len(), 5);
        assert_ne!(other["PublicKey"], made["PublicKey"]);
        let blob = &other["PrivateKeyCiphertextBlob"];
        let opened = json!({"CiphertextBlob": blob, "EncryptionContext": context});
        let private = bytes(&done(kms, "Decrypt", &opened).unwrap()["Plaintext"]);
        let pair = KeyPair::from_pkcs8(spec, &private).unwrap();
        assert_eq!(pair.public, bytes(&other["PublicKey"]));
    }
    let body = json!({"KeyId": arn, "KeyPairSpec": "ECC_NIST_P256"});
    for operation in ["GenerateDataKeyPair", "GenerateDataKeyPairWithoutPlaintext"] {
        let refused = |members: Value| done(kms, operation, &with(&body, &members)).err();
        assert_eq!(
            refused(json!({"KeyPairSpec": "RSA_1024"})),
            Some("ValidationException")
        );
        for spec in ["SM2", "ML_KEM_768"] {
            let unsupported = Some("UnsupportedOperationException");
            assert_eq!(refused(json!({"KeyPairSpec": spec})), unsupported);
        }
        for (spec, usage) in [
            ("RSA_2048", "ENCRYPT_DECRYPT"),
            ("HMAC_256", "GENERATE_VERIFY_MAC"),
        ] {
            let other = key(kms, spec, usage);
            assert_eq!(
                refused(json!({"KeyId": other})),
                Some("InvalidKeyUsageException")
            );
        }
        follows_the_states(kms, &arn, operation, &body);
    }
    let enclave = with(
        &body,
        &json!({"Recipient": {"AttestationDocument": "AA=="}}),
    );
    let refused = done(kms, "GenerateDataKeyPair", &enclave).err();
    assert_eq!(refused, Some("UnsupportedOperationException"));
}

#[test]
fn two_keys_derive_the_same_secret() {
    let fixture = Fixture::new();
    let kms = &fixture.kms;
    let public = |arn: &str| {
        let public = done(kms, "GetPublicKey", &json!({"KeyId": arn})).unwrap();
        public["PublicKey"].clone()
    };
    let body = |arn: &str, peer: &Value| json!({"KeyId": arn, "KeyAgreementAlgorithm": "ECDH", "PublicKey": peer});
    for (spec, len) in [
        ("ECC_NIST_P256", 32),
        ("ECC_NIST_P384", 48),
        ("ECC_NIST_P521", 66),
    ] {
        let (a, b) = (
            key(kms, spec, "KEY_AGREEMENT"),
            key(kms, spec, "KEY_AGREEMENT"),
        );
        let ours = done(kms, "DeriveSharedSecret", &body(&a, &public(&b))).unwrap();
        let theirs = done(kms, "DeriveSharedSecret", &body(&b, &public(&a))).unwrap();
        assert_eq!(ours["SharedSecret"], theirs["SharedSecret"]);
        assert_eq!(bytes(&ours["SharedSecret"]).len(), len);
        assert_eq!(ours["KeyId"], json!(a));
        assert_eq!(ours["KeyAgreementAlgorithm"], json!("ECDH"));
        assert_eq!(ours["KeyOrigin"], json!("AWS_KMS"));
        follows_the_states(kms, &a, "DeriveSharedSecret", &body(&a, &public(&b)));
    }
    let arn = key(kms, "ECC_NIST_P256", "KEY_AGREEMENT");
    let good = public(&arn);
    let signer = key(kms, "ECC_NIST_P256", "SIGN_VERIFY");
    let other = public(&key(kms, "ECC_NIST_P384", "KEY_AGREEMENT"));
    let refused = |body: &Value| done(kms, "DeriveSharedSecret", body).err();
    assert_eq!(
        refused(&body(&signer, &good)),
        Some("InvalidKeyUsageException")
    );
    let invalid = Some("ValidationException");
    assert_eq!(refused(&body(&arn, &other)), invalid);
    assert_eq!(refused(&body(&arn, &json!(base64(b"point")))), invalid);
    assert_eq!(refused(&body(&arn, &json!(""))), invalid);
    let dry = with(&body(&arn, &other), &json!({"DryRun": true}));
    assert_eq!(refused(&dry), invalid);
    let algorithm = with(
        &body(&arn, &good),
        &json!({"KeyAgreementAlgorithm": "X25519"}),
    );
    assert_eq!(refused(&algorithm), invalid);
    let enclave = with(&body(&arn, &good), &json!({"Recipient": {}}));
    assert_eq!(refused(&enclave), Some("UnsupportedOperationException"));
}

#[test]
fn rsa_keys_encrypt_and_decrypt() {
    let fixture = Fixture::new();
    let kms = &fixture.kms;
    let arn = key(kms, "RSA_2048", "ENCRYPT_DECRYPT");
    for (algorithm, max) in [("RSAES_OAEP_SHA_1", 214), ("RSAES_OAEP_SHA_256", 190)] {
        let body = json!({"KeyId": arn, "Plaintext": base64(&vec![7; max]), "EncryptionAlgorithm": algorithm});
        let sealed = done(kms, "Encrypt", &body).unwrap();
        assert_eq!(sealed["EncryptionAlgorithm"], json!(algorithm));
        assert_eq!(bytes(&sealed["CiphertextBlob"]).len(), 256);
        let open = json!({"KeyId": arn, "CiphertextBlob": sealed["CiphertextBlob"], "EncryptionAlgorithm": algorithm});
        let opened = done(kms, "Decrypt", &open).unwrap();
        assert_eq!(bytes(&opened["Plaintext"]), vec![7; max]);
        assert_eq!(opened["KeyId"], json!(arn));
        assert_eq!(opened["EncryptionAlgorithm"], json!(algorithm));
        let long = with(&body, &json!({"Plaintext": base64(&vec![7; max + 1])}));
        assert_eq!(
            done(kms, "Encrypt", &long).err(),
            Some("ValidationException")
        );
        let other = if max == 214 {
            "RSAES_OAEP_SHA_256"
        } else {
            "RSAES_OAEP_SHA_1"
        };
        let refused = |members: Value| done(kms, "Decrypt", &with(&open, &members)).err();
        let invalid = Some("InvalidCiphertextException");
        assert_eq!(refused(json!({"EncryptionAlgorithm": other})), invalid);
        assert_eq!(
            refused(json!({"CiphertextBlob": base64(&[0; 256])})),
            invalid
        );
        assert_eq!(
            refused(json!({"CiphertextBlob": base64(&[0; 10])})),
            invalid
        );
        let another = key(kms, "RSA_2048", "ENCRYPT_DECRYPT");
        assert_eq!(refused(json!({"KeyId": another})), invalid);
        // A ciphertext of RSA does not say whose it is.
        let mut nameless = open.clone();
        nameless.as_object_mut().unwrap().remove("KeyId");
        assert_eq!(
            done(kms, "Decrypt", &nameless).err(),
            Some("ValidationException")
        );
        let context = json!({"EncryptionContext": {"a": "b"}});
        let with_context = done(kms, "Encrypt", &with(&body, &context)).err();
        assert_eq!(with_context, Some("ValidationException"));
        assert_eq!(refused(context), Some("ValidationException"));
        follows_the_states(kms, &arn, "Encrypt", &body);
        follows_the_states(kms, &arn, "Decrypt", &open);
    }
    let refused = |arn: &str, algorithm: Option<&str>| {
        let mut body = json!({"KeyId": arn, "Plaintext": "YQ=="});
        if let Some(algorithm) = algorithm {
            body["EncryptionAlgorithm"] = json!(algorithm);
        }
        done(kms, "Encrypt", &body).err()
    };
    let usage = Some("InvalidKeyUsageException");
    assert_eq!(refused(&arn, None), usage);
    assert_eq!(refused(&arn, Some("SYMMETRIC_DEFAULT")), usage);
    let symmetric = key(kms, "SYMMETRIC_DEFAULT", "ENCRYPT_DECRYPT");
    assert_eq!(refused(&symmetric, Some("RSAES_OAEP_SHA_1")), usage);
    let signer = key(kms, "RSA_2048", "SIGN_VERIFY");
    assert_eq!(refused(&signer, Some("RSAES_OAEP_SHA_1")), usage);
    assert_eq!(refused(&arn, Some("SM2PKE")), Some("ValidationException"));
}

#[test]
fn re_encryption_goes_from_any_kind_to_any_kind() {
    let fixture = Fixture::new();
    let kms = &fixture.kms;
    let rsa = key(kms, "RSA_2048", "ENCRYPT_DECRYPT");
    let symmetric = key(kms, "SYMMETRIC_DEFAULT", "ENCRYPT_DECRYPT");
    let body =
        json!({"KeyId": symmetric, "Plaintext": base64(b"moved"), "EncryptionContext": {"a": "b"}});
    let first = done(kms, "Encrypt", &body).unwrap();
    let there = done(
        kms,
        "ReEncrypt",
        &json!({
            "CiphertextBlob": first["CiphertextBlob"], "SourceEncryptionContext": {"a": "b"},
            "DestinationKeyId": rsa, "DestinationEncryptionAlgorithm": "RSAES_OAEP_SHA_256",
        }),
    )
    .unwrap();
    assert_eq!(
        there["SourceEncryptionAlgorithm"],
        json!("SYMMETRIC_DEFAULT")
    );
    assert_eq!(
        there["DestinationEncryptionAlgorithm"],
        json!("RSAES_OAEP_SHA_256")
    );
    assert_eq!(
        (&there["SourceKeyId"], &there["KeyId"]),
        (&json!(symmetric), &json!(rsa))
    );
    let back = json!({
        "CiphertextBlob": there["CiphertextBlob"], "SourceKeyId": rsa,
        "SourceEncryptionAlgorithm": "RSAES_OAEP_SHA_256", "DestinationKeyId": symmetric,
    });
    let back_again = done(kms, "ReEncrypt", &back).unwrap();
    let open = json!({"CiphertextBlob": back_again["CiphertextBlob"]});
    let opened = done(kms, "Decrypt", &open).unwrap();
    assert_eq!(bytes(&opened["Plaintext"]), b"moved");
    let wrong = with(
        &back,
        &json!({"SourceEncryptionAlgorithm": "RSAES_OAEP_SHA_1"}),
    );
    let invalid = Some("InvalidCiphertextException");
    assert_eq!(done(kms, "ReEncrypt", &wrong).err(), invalid);
    let dry = with(&back, &json!({"DryRun": true}));
    assert_eq!(
        done(kms, "ReEncrypt", &dry).err(),
        Some("DryRunOperationException")
    );
}

#[test]
fn policies_see_what_is_asked_for() {
    let fixture = Fixture::new();
    let kms = &fixture.kms;
    let denied = Some("AccessDeniedException");
    let deny = |arn: &str, action: &str, condition: Value| {
        let policy = json!({"Version": "2012-10-17", "Statement": [
            {"Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::000000000000:root"},
             "Action": "kms:*", "Resource": "*"},
            {"Effect": "Deny", "Principal": "*", "Action": action, "Resource": "*",
             "Condition": {"StringEquals": condition}},
        ]});
        let body = json!({"KeyId": arn, "Policy": policy.to_string()});
        done(kms, "PutKeyPolicy", &body).unwrap();
    };
    let signer = key(kms, "RSA_2048", "SIGN_VERIFY");
    let sign = json!({"KeyId": signer, "Message": base64(&[1; 32]), "SigningAlgorithm": "RSASSA_PSS_SHA_256"});
    deny(
        &signer,
        "kms:Sign",
        json!({"kms:SigningAlgorithm": "RSASSA_PSS_SHA_256"}),
    );
    assert_eq!(done(kms, "Sign", &sign).err(), denied);
    let other = json!({"SigningAlgorithm": "RSASSA_PKCS1_V1_5_SHA_256"});
    done(kms, "Sign", &with(&sign, &other)).unwrap();
    deny(&signer, "kms:Sign", json!({"kms:MessageType": "RAW"}));
    assert_eq!(done(kms, "Sign", &sign).err(), denied);
    done(kms, "Sign", &with(&sign, &json!({"MessageType": "DIGEST"}))).unwrap();

    let hmac = key(kms, "HMAC_256", "GENERATE_VERIFY_MAC");
    let mac = json!({"KeyId": hmac, "Message": "AAAA", "MacAlgorithm": "HMAC_SHA_256"});
    deny(
        &hmac,
        "kms:GenerateMac",
        json!({"kms:MacAlgorithm": "HMAC_SHA_256"}),
    );
    assert_eq!(done(kms, "GenerateMac", &mac).err(), denied);
    deny(
        &hmac,
        "kms:GenerateMac",
        json!({"kms:MacAlgorithm": "HMAC_SHA_512"}),
    );
    done(kms, "GenerateMac", &mac).unwrap();

    let symmetric = key(kms, "SYMMETRIC_DEFAULT", "ENCRYPT_DECRYPT");
    let pair = json!({"KeyId": symmetric, "KeyPairSpec": "ECC_NIST_P256"});
    deny(
        &symmetric,
        "kms:GenerateDataKeyPair*",
        json!({"kms:DataKeyPairSpec": "ECC_NIST_P256"}),
    );
    for operation in ["GenerateDataKeyPair", "GenerateDataKeyPairWithoutPlaintext"] {
        assert_eq!(done(kms, operation, &pair).err(), denied);
        let other = json!({"KeyPairSpec": "ECC_NIST_P384"});
        done(kms, operation, &with(&pair, &other)).unwrap();
    }

    let empty = done(kms, "CreateKey", &json!({"Origin": "EXTERNAL"})).unwrap();
    let empty = empty["KeyMetadata"]["Arn"].as_str().unwrap();
    let parameters = json!({"KeyId": empty, "WrappingAlgorithm": "RSAES_OAEP_SHA_256",
        "WrappingKeySpec": "RSA_2048"});
    deny(
        empty,
        "kms:GetParametersForImport",
        json!({"kms:WrappingKeySpec": "RSA_2048"}),
    );
    assert_eq!(
        done(kms, "GetParametersForImport", &parameters).err(),
        denied
    );
    deny(
        empty,
        "kms:ImportKeyMaterial",
        json!({"kms:ExpirationModel": "KEY_MATERIAL_EXPIRES"}),
    );
    done(kms, "GetParametersForImport", &parameters).unwrap();
    let import = json!({"KeyId": empty, "ImportToken": "AAAA", "EncryptedKeyMaterial": "AAAA"});
    assert_eq!(done(kms, "ImportKeyMaterial", &import).err(), denied);
    let model = json!({"ExpirationModel": "KEY_MATERIAL_DOES_NOT_EXPIRE"});
    let refused = done(kms, "ImportKeyMaterial", &with(&import, &model)).err();
    assert_eq!(refused, Some("InvalidImportTokenException"));
}
