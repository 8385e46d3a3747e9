//! Operations as JSON.

use parking_lot::Mutex;
use serde_json::{Value, json};

use super::audit::{Event, Recorder};
use super::*;

/// Does an operation as JSON.
fn call(kms: &Kms, operation: &str, body: &Value) -> Result<Value> {
    let answer = api::call(&kms.owner(), operation, body.to_string().as_bytes())?;
    Ok(serde_json::from_slice(&answer).unwrap_or(Value::Null))
}

/// Keeps a line for each record.
#[derive(Default)]
struct Lines(Mutex<Vec<String>>);

impl Recorder for Lines {
    fn record(&self, event: &Event<'_>) -> Result<()> {
        let mut parameters = Vec::new();
        if let Some(shown) = event.parameters {
            shown.write_json(&mut parameters)?;
        }
        self.0.lock().push(format!(
            "{} {} {} {}",
            event.operation,
            event.error.map_or("done", KmsError::code),
            event.keys.len(),
            String::from_utf8(parameters).unwrap(),
        ));
        Ok(())
    }
}

#[test]
fn operations_are_json_in_and_json_out() {
    let fixture = Fixture::new();
    let id = fixture.key();
    let body = json!({
        "KeyId": id.to_string(), "Plaintext": "aGVsbG8=", "EncryptionContext": {"a": "b"},
        "Unknown": [1, 2], "EncryptionAlgorithm": null, "GrantTokens": null, "DryRun": null,
    });
    let made = call(&fixture.kms, "Encrypt", &body).unwrap();
    assert_eq!(made["KeyId"], fixture.kms.key_arn(&id));
    assert_eq!(made["EncryptionAlgorithm"], "SYMMETRIC_DEFAULT");
    assert_eq!(made.as_object().unwrap().len(), 3);
}

#[test]
fn bad_requests_have_the_exceptions_of_aws() {
    let fixture = Fixture::new();
    let id = fixture.key().to_string();
    let refusal = |body: &str| refused(api::call(&fixture.kms.owner(), "Encrypt", body.as_bytes()));
    assert_eq!(refusal("{"), "SerializationException");
    assert_eq!(refusal("[]"), "SerializationException");
    assert_eq!(refusal(""), "ValidationException");
    assert_eq!(refusal(r#"{"KeyId": 5}"#), "SerializationException");
    assert_eq!(
        refusal(r#"{"KeyId": "", "Plaintext": "YQ=="}"#),
        "ValidationException"
    );
    let body = |plaintext: &str| format!(r#"{{"KeyId": "{id}", "Plaintext": "{plaintext}"}}"#);
    assert_eq!(refusal(&body("")), "ValidationException");
    assert_eq!(refusal(&body("%")), "SerializationException");
    let algorithm =
        format!(r#"{{"KeyId": "{id}", "Plaintext": "YQ==", "EncryptionAlgorithm": "ROT13"}}"#);
    assert_eq!(refusal(&algorithm), "ValidationException");
    let dry = format!(r#"{{"KeyId": "{id}", "Plaintext": "YQ==", "DryRun": true}}"#);
    assert_eq!(refusal(&dry), "DryRunOperationException");
    assert_eq!(
        refused(api::call(&fixture.kms.owner(), "Frobnicate", b"{}")),
        "UnknownOperationException"
    );
}

#[test]
fn every_operation_is_recorded_and_without_its_plaintext() {
    let fixture = Fixture::new();
    let id = fixture.key();
    let lines = Arc::new(Lines::default());
    assert!(
        fixture
            .kms
            .set_recorder(Arc::clone(&lines) as Arc<dyn Recorder>)
    );
    let body = json!({"KeyId": id.to_string(), "Plaintext": "aGVsbG8="});
    call(&fixture.kms, "Encrypt", &body).unwrap();
    fixture.kms.disable_key(&id.into()).unwrap();
    call(&fixture.kms, "Encrypt", &body).unwrap_err();
    call(&fixture.kms, "Encrypt", &json!({"KeyId": 1})).unwrap_err();
    let key = format!(r#"{{"keyId":"{id}"}}"#);
    let shown = format!(r#"{{"keyId":"{id}","encryptionAlgorithm":"SYMMETRIC_DEFAULT"}}"#);
    assert_eq!(
        *lines.0.lock(),
        [
            format!("Encrypt done 1 {shown}"),
            format!("DisableKey done 1 {key}"),
            format!("Encrypt DisabledException 1 {shown}"),
            "Encrypt SerializationException 0 ".to_owned(),
        ]
    );
}

/// Refuses to record.
struct Full;

impl Recorder for Full {
    fn record(&self, _: &Event<'_>) -> Result<()> {
        Err(KmsError::Unrecorded("the disk is full".to_owned()))
    }
}

#[test]
fn what_cannot_be_recorded_is_refused() {
    let fixture = Fixture::new();
    let body = json!({"KeyId": fixture.key().to_string(), "Plaintext": "aGVsbG8="});
    fixture.kms.set_recorder(Arc::new(Full));
    let error = call(&fixture.kms, "Encrypt", &body).unwrap_err();
    assert_eq!(
        (error.code(), error.http_status()),
        ("KMSInternalException", 500)
    );
}

/// Which records may wait: those of what a volume does with data keys, when it is done.
#[test]
fn only_a_volume_s_uses_wait() {
    #[derive(Default)]
    struct Seen(Mutex<Vec<(String, bool)>>);
    impl Recorder for Seen {
        fn record(&self, event: &Event<'_>) -> Result<()> {
            let name = format!(
                "{}{}",
                event.operation,
                if event.error.is_some() { "!" } else { "" }
            );
            self.0.lock().push((name, event.may_wait));
            Ok(())
        }
    }
    let fixture = Fixture::new();
    let kms = &fixture.kms;
    let key = fixture.key();
    let volume = short::volume();
    let (caller, context) = (kms.volume_caller(&volume), volume_context(&volume));
    let client = kms.client(&caller);
    // Its grant is made.
    client.generate_data_key_for_volume(&key, &context).unwrap();
    let seen = Arc::new(Seen::default());
    assert!(kms.set_recorder(Arc::clone(&seen) as Arc<dyn Recorder>));
    let made = client.generate_data_key_for_volume(&key, &context).unwrap();
    client.decrypt_data_key(&made.blob, &context).unwrap();
    kms.owner()
        .generate_data_key_for_volume(&key, &context)
        .unwrap();
    kms.disable_key(&key.into()).unwrap();
    assert!(client.decrypt_data_key(&made.blob, &context).is_err());
    let expected = [
        ("GenerateDataKey", true),
        ("Decrypt", true),
        ("GenerateDataKey", false),
        ("DisableKey", false),
        ("Decrypt!", false),
    ];
    assert_eq!(
        *seen.0.lock(),
        expected.map(|(name, waits)| (name.to_owned(), waits))
    );
}
