//! Imported key material: tokens, wrappings, expiry, the same material again.

use aws_lc_rs::key_wrap::{AES_256, KeyEncryptionKey, KeyWrapPadded};
use serde_json::{Value, json};

use super::key_pairs::{base64, bytes, done, with};
use super::*;
use crate::crypto::{EncryptionKey, KeyPair, KeyPairSpec, OaepHash};

/// A new key without material: its ARN.
fn empty_key(kms: &Kms, spec: &str, usage: &str) -> String {
    let body = json!({"Origin": "EXTERNAL", "KeySpec": spec, "KeyUsage": usage});
    let made = done(kms, "CreateKey", &body).unwrap();
    assert_eq!(made["KeyMetadata"]["KeyState"], json!("PendingImport"));
    made["KeyMetadata"]["Arn"].as_str().unwrap().to_owned()
}

/// Wraps as the owner of key material does.
fn wrap(parameters: &Value, spec: KeyPairSpec, algorithm: &str, material: &[u8]) -> String {
    let public = bytes(&parameters["PublicKey"]);
    let public = EncryptionKey::new(spec, &public).unwrap();
    let hash = if algorithm.ends_with("256") {
        OaepHash::Sha256
    } else {
        OaepHash::Sha1
    };
    if algorithm.starts_with("RSAES") {
        return base64(&public.encrypt(hash, material).unwrap());
    }
    let aes = [5; 32];
    let mut wrapped = vec![0; material.len() + 15];
    let key = KeyEncryptionKey::new(&AES_256, &aes).unwrap();
    let len = key.wrap_with_padding(material, &mut wrapped).unwrap().len();
    let head = public.encrypt(hash, &aes).unwrap();
    base64(&[&head, &wrapped[..len]].concat())
}

/// The request that imports `material` for good, wrapped under a key of 2048 bits.
fn import(kms: &Kms, arn: &str, algorithm: &str, material: &[u8]) -> Value {
    import_under(
        kms,
        arn,
        ("RSA_2048", KeyPairSpec::Rsa2048),
        algorithm,
        material,
    )
}

fn import_under(
    kms: &Kms,
    arn: &str,
    (wrapping, spec): (&str, KeyPairSpec),
    algorithm: &str,
    material: &[u8],
) -> Value {
    let body = json!({"KeyId": arn, "WrappingAlgorithm": algorithm, "WrappingKeySpec": wrapping});
    let parameters = done(kms, "GetParametersForImport", &body).unwrap();
    assert_eq!(parameters["KeyId"], json!(arn));
    json!({
        "KeyId": arn,
        "ImportToken": parameters["ImportToken"],
        "EncryptedKeyMaterial": wrap(&parameters, spec, algorithm, material),
        "ExpirationModel": "KEY_MATERIAL_DOES_NOT_EXPIRE",
    })
}

fn state(kms: &Kms, arn: &str) -> Value {
    let described = done(kms, "DescribeKey", &json!({"KeyId": arn})).unwrap();
    described["KeyMetadata"]["KeyState"].clone()
}

/// Key material as its owner has it.
enum Material<'a> {
    Bytes(&'a [u8]),
    Pair(&'a KeyPair),
}

/// A key's spec and usage, its material, the wrapping algorithms, the wrapping key's kind.
type Case<'a> = (
    &'a str,
    &'a str,
    Material<'a>,
    &'a [&'a str],
    (&'a str, KeyPairSpec),
);

/// A time as JSON has it: seconds since 1970.
#[allow(clippy::cast_precision_loss)] // milliseconds of this century fit
fn seconds(time: Timestamp) -> f64 {
    time.millis() as f64 / 1000.0
}

#[test]
fn material_of_every_kind_is_imported_in_every_wrapping() {
    use Material::{Bytes, Pair};
    let fixture = Fixture::new();
    let kms = &fixture.kms;
    let private = |spec| KeyPair::generate(spec).unwrap();
    let rsa = private(KeyPairSpec::Rsa2048);
    let p256 = private(KeyPairSpec::NistP256);
    let p521 = private(KeyPairSpec::NistP521);
    let ed25519 = private(KeyPairSpec::Ed25519);
    let ml_dsa = private(KeyPairSpec::MlDsa44);
    let oaep = ["RSAES_OAEP_SHA_1", "RSAES_OAEP_SHA_256"];
    let kwp = ["RSA_AES_KEY_WRAP_SHA_1", "RSA_AES_KEY_WRAP_SHA_256"];
    let all = [oaep, kwp].concat();
    let (rsa_2048, rsa_3072, rsa_4096) = (
        ("RSA_2048", KeyPairSpec::Rsa2048),
        ("RSA_3072", KeyPairSpec::Rsa3072),
        ("RSA_4096", KeyPairSpec::Rsa4096),
    );
    let (encrypt, sign, mac) = ("ENCRYPT_DECRYPT", "SIGN_VERIFY", "GENERATE_VERIFY_MAC");
    let kinds: [Case<'_>; 10] = [
        (
            "SYMMETRIC_DEFAULT",
            encrypt,
            Bytes(&[1; 32]),
            &all,
            rsa_2048,
        ),
        (
            "SYMMETRIC_DEFAULT",
            encrypt,
            Bytes(&[1; 32]),
            &kwp[..1],
            rsa_4096,
        ),
        ("HMAC_224", mac, Bytes(&[2; 28]), &oaep[1..], rsa_2048),
        ("HMAC_512", mac, Bytes(&[3; 64]), &kwp[1..], rsa_2048),
        ("RSA_2048", encrypt, Pair(&rsa), &kwp, rsa_2048),
        ("ECC_NIST_P256", sign, Pair(&p256), &all, rsa_2048),
        (
            "ECC_NIST_P256",
            "KEY_AGREEMENT",
            Pair(&p256),
            &kwp[1..],
            rsa_2048,
        ),
        ("ECC_NIST_P521", sign, Pair(&p521), &oaep[..1], rsa_3072),
        (
            "ECC_NIST_EDWARDS25519",
            sign,
            Pair(&ed25519),
            &oaep[1..],
            rsa_2048,
        ),
        ("ML_DSA_44", sign, Pair(&ml_dsa), &kwp[1..], rsa_2048),
    ];
    for (spec, usage, material, algorithms, wrapping) in kinds {
        for algorithm in algorithms {
            let arn = empty_key(kms, spec, usage);
            let (bytes_of, pair) = match &material {
                Bytes(bytes) => (*bytes, None),
                Pair(pair) => (pair.private.expose(), Some(pair)),
            };
            let body = import_under(kms, &arn, wrapping, algorithm, bytes_of);
            let imported = done(kms, "ImportKeyMaterial", &body).unwrap();
            assert_eq!(imported["KeyId"], json!(arn));
            let symmetric = spec == "SYMMETRIC_DEFAULT";
            assert_eq!(imported.get("KeyMaterialId").is_some(), symmetric);
            assert_eq!(state(kms, &arn), json!("Enabled"));
            if let Some(pair) = pair {
                let public = done(kms, "GetPublicKey", &json!({"KeyId": arn})).unwrap();
                assert_eq!(bytes(&public["PublicKey"]), pair.public);
            }
        }
    }
}

#[test]
fn an_hmac_key_that_was_imported_is_the_one_that_was_imported() {
    let fixture = Fixture::new();
    let kms = &fixture.kms;
    let arn = empty_key(kms, "HMAC_256", "GENERATE_VERIFY_MAC");
    let body = json!({"KeyId": arn, "Message": base64(b"what do ya want for nothing?"),
        "MacAlgorithm": "HMAC_SHA_256"});
    let pending = done(kms, "GenerateMac", &body).err();
    assert_eq!(pending, Some("KMSInvalidStateException"));
    let secret = [0x0B; 32];
    let request = import(kms, &arn, "RSAES_OAEP_SHA_256", &secret);
    done(kms, "ImportKeyMaterial", &request).unwrap();
    let made = done(kms, "GenerateMac", &body).unwrap();
    let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, &secret);
    let expected = aws_lc_rs::hmac::sign(&key, b"what do ya want for nothing?");
    assert_eq!(bytes(&made["Mac"]), expected.as_ref());
}

#[test]
fn parameters_are_for_keys_that_take_imports() {
    let fixture = Fixture::new();
    let kms = &fixture.kms;
    let own = done(kms, "CreateKey", &json!({})).unwrap()["KeyMetadata"]["Arn"].clone();
    let arn = empty_key(kms, "SYMMETRIC_DEFAULT", "ENCRYPT_DECRYPT");
    let body = json!({"KeyId": arn, "WrappingAlgorithm": "RSAES_OAEP_SHA_256", "WrappingKeySpec": "RSA_2048"});
    let parameters = done(kms, "GetParametersForImport", &body).unwrap();
    // A day later, in seconds since 1970.
    let day_later = seconds(fixture.kms.now().plus_days(1));
    assert_eq!(parameters["ParametersValidTo"].as_f64(), Some(day_later));
    assert_eq!(bytes(&parameters["PublicKey"]).len(), 294);
    let refused = |members: Value| {
        let answer = done(kms, "GetParametersForImport", &with(&body, &members));
        answer.err().unwrap()
    };
    let unsupported = "UnsupportedOperationException";
    assert_eq!(refused(json!({"KeyId": own})), unsupported);
    assert_eq!(
        refused(json!({"WrappingAlgorithm": "RSAES_PKCS1_V1_5"})),
        unsupported
    );
    assert_eq!(refused(json!({"WrappingAlgorithm": "SM2PKE"})), unsupported);
    assert_eq!(refused(json!({"WrappingKeySpec": "SM2"})), unsupported);
    assert_eq!(
        refused(json!({"WrappingAlgorithm": "ROT13"})),
        "ValidationException"
    );
    assert_eq!(
        refused(json!({"WrappingKeySpec": "RSA_1024"})),
        "ValidationException"
    );
    let missing = "12345678-1234-4234-8234-123456789012";
    assert_eq!(refused(json!({"KeyId": missing})), "NotFoundException");
    // Too long for RSAES-OAEP.
    let p521 = empty_key(kms, "ECC_NIST_P521", "SIGN_VERIFY");
    assert_eq!(refused(json!({"KeyId": p521})), unsupported);
    let rsa = empty_key(kms, "RSA_2048", "SIGN_VERIFY");
    let body_of_rsa = json!({"KeyId": rsa, "WrappingKeySpec": "RSA_4096"});
    assert_eq!(refused(body_of_rsa), unsupported);
    done(kms, "ScheduleKeyDeletion", &json!({"KeyId": arn})).unwrap();
    assert_eq!(refused(json!({})), "KMSInvalidStateException");
}

#[test]
fn tokens_are_for_one_key_and_one_day() {
    let fixture = Fixture::new();
    let kms = &fixture.kms;
    let arn = empty_key(kms, "SYMMETRIC_DEFAULT", "ENCRYPT_DECRYPT");
    let other = empty_key(kms, "SYMMETRIC_DEFAULT", "ENCRYPT_DECRYPT");
    let body = import(kms, &arn, "RSAES_OAEP_SHA_256", &[1; 32]);
    let refused = |body: &Value| done(kms, "ImportKeyMaterial", body).err().unwrap();
    assert_eq!(
        refused(&with(&body, &json!({"KeyId": other}))),
        "InvalidImportTokenException"
    );
    let mut token = bytes(&body["ImportToken"]);
    token[40] ^= 1;
    let bent = with(&body, &json!({"ImportToken": base64(&token)}));
    assert_eq!(refused(&bent), "InvalidImportTokenException");
    let bent = with(&body, &json!({"ImportToken": base64(b"token")}));
    assert_eq!(refused(&bent), "InvalidImportTokenException");
    // The wrapping key of another token.
    let second = import(kms, &arn, "RSAES_OAEP_SHA_256", &[1; 32]);
    let mixed = with(&body, &json!({"ImportToken": second["ImportToken"]}));
    assert_eq!(refused(&mixed), "InvalidCiphertextException");
    let garbage = with(&body, &json!({"EncryptedKeyMaterial": base64(&[0; 256])}));
    assert_eq!(refused(&garbage), "InvalidCiphertextException");
    // Material that is none.
    for material in [&[1; 31][..], &[1; 33]] {
        let body = import(kms, &arn, "RSAES_OAEP_SHA_256", material);
        assert_eq!(refused(&body), "IncorrectKeyMaterialException");
    }
    let ecc = empty_key(kms, "ECC_NIST_P256", "SIGN_VERIFY");
    let wrong = KeyPair::generate(KeyPairSpec::NistP384).unwrap().private;
    for material in [wrong.expose(), &[7; 32]] {
        let body = import(kms, &ecc, "RSA_AES_KEY_WRAP_SHA_256", material);
        assert_eq!(refused(&body), "IncorrectKeyMaterialException");
    }
    assert_eq!(state(kms, &arn), json!("PendingImport"));
    // An hour before its end it still works; another process opens it too.
    fixture.clock.pass_days(1);
    assert_eq!(refused(&body), "ExpiredImportTokenException");
    fixture.clock.pass_days(-1);
    done(&fixture.another(), "ImportKeyMaterial", &body).unwrap();
    assert_eq!(state(kms, &arn), json!("Enabled"));
    done(kms, "ScheduleKeyDeletion", &json!({"KeyId": arn})).unwrap();
    assert_eq!(refused(&body), "KMSInvalidStateException");
}

#[test]
fn expiry_is_asked_for_in_one_way() {
    let fixture = Fixture::new();
    let kms = &fixture.kms;
    let arn = empty_key(kms, "SYMMETRIC_DEFAULT", "ENCRYPT_DECRYPT");
    let good = import(kms, &arn, "RSAES_OAEP_SHA_256", &[1; 32]);
    let mut bare = good.clone();
    bare.as_object_mut().unwrap().remove("ExpirationModel");
    let in_days = |days: i64| seconds(Timestamp::from_millis(kms.now().millis() + days * DAY));
    let refused = |body: &Value, members: Value| {
        let answer = done(kms, "ImportKeyMaterial", &with(body, &members));
        answer.err()
    };
    let invalid = Some("ValidationException");
    assert_eq!(refused(&bare, json!({})), invalid);
    assert_eq!(refused(&good, json!({"ValidTo": in_days(1)})), invalid);
    assert_eq!(refused(&bare, json!({"ValidTo": in_days(-1)})), invalid);
    assert_eq!(refused(&bare, json!({"ValidTo": in_days(366)})), invalid);
    assert_eq!(refused(&good, json!({"ExpirationModel": "NEVER"})), invalid);
    assert_eq!(refused(&good, json!({"ImportType": "SOME"})), invalid);
    assert_eq!(refused(&good, json!({"KeyMaterialId": "ab"})), invalid);
    assert_eq!(
        refused(&good, json!({"KeyMaterialDescription": "<b>"})),
        invalid
    );
    let id = "a".repeat(64);
    let both = json!({"KeyMaterialId": id, "ImportType": "NEW_KEY_MATERIAL"});
    assert_eq!(refused(&good, both), invalid);
    let hmac = empty_key(kms, "HMAC_256", "GENERATE_VERIFY_MAC");
    let hmac = import(kms, &hmac, "RSAES_OAEP_SHA_256", &[1; 32]);
    assert_eq!(
        refused(&hmac, json!({"ImportType": "NEW_KEY_MATERIAL"})),
        invalid
    );

    let body = with(
        &bare,
        &json!({"ValidTo": in_days(30), "ExpirationModel": "KEY_MATERIAL_EXPIRES"}),
    );
    done(kms, "ImportKeyMaterial", &body).unwrap();
    let described = done(kms, "DescribeKey", &json!({"KeyId": arn})).unwrap();
    let metadata = &described["KeyMetadata"];
    assert_eq!(metadata["ValidTo"].as_f64(), Some(in_days(30)));
    assert_eq!(metadata["ExpirationModel"], json!("KEY_MATERIAL_EXPIRES"));
    let sealed = json!({"KeyId": arn, "Plaintext": "YQ=="});
    let sealed = done(kms, "Encrypt", &sealed).unwrap();
    fixture.clock.pass_days(31);
    assert_eq!(state(kms, &arn), json!("PendingImport"));
    let open = json!({"CiphertextBlob": sealed["CiphertextBlob"]});
    assert_eq!(
        done(kms, "Decrypt", &open).err(),
        Some("KMSInvalidStateException")
    );
    // Only the same material may come back, and then opens what it sealed.
    let other = import(kms, &arn, "RSAES_OAEP_SHA_1", &[2; 32]);
    assert_eq!(
        refused(&other, json!({})),
        Some("IncorrectKeyMaterialException")
    );
    let same = import(kms, &arn, "RSA_AES_KEY_WRAP_SHA_1", &[1; 32]);
    done(kms, "ImportKeyMaterial", &same).unwrap();
    assert_eq!(
        bytes(&done(kms, "Decrypt", &open).unwrap()["Plaintext"]),
        b"a"
    );
}
