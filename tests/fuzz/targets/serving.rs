//! What clients of the key manager send: signatures, requests in JSON, key policies.

use std::sync::OnceLock;

use envelopefs::kms::policy::{Decision, Facts, Policy, Question};
use envelopefs::kms::{CreateOptions, EncryptionContext, Kms, ProtectorInput, Timestamp, api};
use envelopefs::serve::sigv4::{Authorization, Request};

use super::Input;

/// A piece each for the `Authorization` header, another header's name and value, path and query, and
/// the body.
pub fn sigv4(data: &[u8]) {
    let mut input = Input(data);
    let [authorization, name, value, path, query] = [(); 5].map(|()| input.piece());
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    let (name, path, query) = (text(name), text(path), text(query));
    let headers = [
        ("authorization", authorization),
        ("host", b"kms.us-east-1.amazonaws.com".as_slice()),
        ("x-amz-date", b"20150830T123600Z"),
        (name.as_str(), value),
    ];
    let request = Request {
        method: "POST",
        path: &path,
        query: &query,
        headers: &headers,
        body: input.0,
    };
    if let Ok(given) = Authorization::of(&request) {
        // Nobody guesses a secret.
        let now = Timestamp::from_millis(1_440_938_160_000);
        assert!(
            given
                .verify(&request, b"no client has this secret", now)
                .is_err()
        );
    }
}

struct Manager {
    kms: Kms,
    key: String,
    _dir: tempfile::TempDir,
}

fn manager() -> &'static Manager {
    static MANAGER: OnceLock<Manager> = OnceLock::new();
    MANAGER.get_or_init(|| {
        let dir = tempfile::tempdir().expect("a folder");
        let input = ProtectorInput::key(vec![1; 32].into()).expect("a key");
        let kms = Kms::create(&dir.path().join("ks"), &input, &CreateOptions::default())
            .expect("a keystore");
        let made = api::call(&kms.owner(), "CreateKey", b"{}").expect("a key");
        let made: serde_json::Value = serde_json::from_slice(&made).expect("JSON");
        let key = made["KeyMetadata"]["KeyId"]
            .as_str()
            .expect("an id")
            .to_owned();
        Manager {
            kms,
            key,
            _dir: dir,
        }
    })
}

/// An operation's number, and a request; `KEY` stands for a key that there is.
pub fn request(data: &[u8]) {
    let mut input = Input(data);
    let which = usize::from(input.byte()) % api::OPERATIONS.len();
    let operation = api::OPERATIONS[which];
    // To make a pair of RSA keys takes seconds.
    let body = String::from_utf8_lossy(input.0).replace("RSA_", "HMAC_");
    let manager = manager();
    let body = body.replace("KEY", &manager.key);
    match api::call(&manager.kms.owner(), operation, body.as_bytes()) {
        Ok(answer) => assert!(
            answer.is_empty() || serde_json::from_slice::<serde_json::Value>(&answer).is_ok(),
            "{operation}"
        ),
        Err(error) => assert_ne!(error.code(), "KMSInternalException", "{operation}: {error}"),
    }
}

/// A document.
pub fn policy(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let Ok(policy) = Policy::parse(&text) else {
        return;
    };
    let context = EncryptionContext::new().with("a", "b").with("app", "one");
    let facts = Facts {
        encryption_context: Some(&context),
        time: Some(Timestamp::from_millis(1_440_938_160_000)),
        source_ip: Some("192.0.2.1"),
        multi_region: Some(false),
        ..Facts::default()
    };
    for (principal_arn, is_root) in [
        ("arn:aws:iam::111122223333:root", true),
        ("arn:aws:iam::111122223333:user/alice", false),
    ] {
        let question = Question {
            principal_arn,
            account: "111122223333",
            is_root,
            action: "kms:Decrypt",
            resource: "arn:aws:kms:us-east-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab",
            facts: &facts,
        };
        let decided = policy.decide(&question);
        assert_eq!(decided, policy.decide(&question));
        let unknown = Question {
            action: "kms:NoSuchThing",
            ..question
        };
        assert_eq!(policy.decide(&unknown), Decision::Silent);
        let _ = policy.would_lock_out(&question);
    }
}
