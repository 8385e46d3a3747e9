//! A build without aws-lc: HMAC keys, and a plain word about key pairs.

use serde_json::{Value, json};

use super::*;

/// An operation of the account root: its answer, or the exception.
fn done(kms: &Kms, operation: &str, body: &Value) -> Result<Value> {
    let answer = api::call(&kms.owner(), operation, body.to_string().as_bytes())?;
    Ok(serde_json::from_slice(&answer).unwrap_or(Value::Null))
}

#[test]
fn key_pairs_are_refused_and_leave_no_key_behind() {
    let fixture = Fixture::new();
    for spec in KeySpec::ALL.iter().filter(|spec| spec.is_asymmetric()) {
        let body = json!({"KeySpec": spec, "KeyUsage": spec.usages()[0]});
        let refused = done(&fixture.kms, "CreateKey", &body).unwrap_err();
        assert_eq!(refused.code(), "UnsupportedOperationException");
        assert!(refused.message().contains("aws-lc"), "{refused}");
    }
    let listed = done(&fixture.kms, "ListKeys", &json!({})).unwrap();
    assert_eq!(listed["Keys"], json!([]));
    let id = fixture.key();
    let pair = json!({"KeyId": id, "KeyPairSpec": "RSA_2048"});
    let refused = refused(done(&fixture.kms, "GenerateDataKeyPair", &pair));
    assert_eq!(refused, "UnsupportedOperationException");
}

#[test]
fn hmac_keys_work() {
    let fixture = Fixture::new();
    let body = json!({"KeySpec": "HMAC_384", "KeyUsage": "GENERATE_VERIFY_MAC"});
    let made = done(&fixture.kms, "CreateKey", &body).unwrap();
    let arn = &made["KeyMetadata"]["Arn"];
    let mut body = json!({"KeyId": arn, "Message": "AAAA", "MacAlgorithm": "HMAC_SHA_384"});
    body["Mac"] = done(&fixture.kms, "GenerateMac", &body).unwrap()["Mac"].clone();
    let verified = done(&fixture.kms, "VerifyMac", &body).unwrap();
    assert_eq!(verified["MacValid"], json!(true));
    body["Message"] = json!("AAAB");
    assert_eq!(
        refused(done(&fixture.kms, "VerifyMac", &body)),
        "KMSInvalidMacException"
    );
}
