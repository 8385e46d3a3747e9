//! Deletion, tags, last uses, descriptions.

#![allow(clippy::cast_precision_loss)] // times are seconds with a fraction in the protocol

use serde_json::{Value, json};

use super::*;

fn root(kms: &Kms, operation: &str, body: &Value) -> Result<Value> {
    let answer = api::call(&kms.owner(), operation, body.to_string().as_bytes())?;
    Ok(serde_json::from_slice(&answer).unwrap_or(Value::Null))
}

/// Whether the keystore's files have a run of bytes.
fn holds(dir: &Path, bytes: &[u8]) -> bool {
    ["keystore.db", "keystore.db-wal"].iter().any(|name| {
        let file = std::fs::read(dir.join(name)).unwrap_or_default();
        file.windows(bytes.len()).any(|window| window == bytes)
    })
}

#[test]
fn a_deleted_key_is_gone_for_good_and_until_then_can_be_had_back() {
    let fixture = Fixture::new();
    let (kms, clock) = (&fixture.kms, &fixture.clock);
    let (id, keep) = (fixture.key(), fixture.key());
    let key = json!({ "KeyId": id.to_string() });
    kms.create_alias(&alias("alias/gone"), &id.into()).unwrap();
    let blob = kms.encrypt(&id.into(), b"x", &context()).unwrap().blob;
    let sealed: Vec<u8> = kms
        .store
        .read(|sql| {
            let query = "SELECT sealed FROM materials WHERE key = ?1";
            Ok(sql.query_row(query, [id.to_string()], |row| row.get(0))?)
        })
        .unwrap();
    assert!(holds(&fixture.path(), &sealed));
    for (days, exception) in [(6, "ValidationException"), (31, "ValidationException")] {
        let body = json!({ "KeyId": id.to_string(), "PendingWindowInDays": days });
        assert_eq!(refused(root(kms, "ScheduleKeyDeletion", &body)), exception);
    }
    let body = json!({ "KeyId": id.to_string(), "PendingWindowInDays": 7 });
    let scheduled = root(kms, "ScheduleKeyDeletion", &body).unwrap();
    assert_eq!(scheduled["KeyState"], "PendingDeletion");
    assert_eq!(scheduled["KeyId"], kms.key_arn(&id));
    let seconds = clock.now().plus_days(7).millis() as f64 / 1000.0;
    assert_eq!(scheduled["DeletionDate"], json!(seconds));
    let invalid = "KMSInvalidStateException";
    assert_eq!(refused(kms.encrypt(&id.into(), b"x", &context())), invalid);
    assert_eq!(refused(kms.enable_key(&id.into())), invalid);
    assert_eq!(refused(root(kms, "ScheduleKeyDeletion", &body)), invalid);
    assert_eq!(
        refused(root(
            kms,
            "CancelKeyDeletion",
            &json!({ "KeyId": keep.to_string() })
        )),
        invalid
    );

    clock.pass_days(6);
    root(kms, "CancelKeyDeletion", &key).unwrap();
    assert_eq!(
        kms.describe_key(&id.into()).unwrap().key_state,
        KeyState::Disabled
    );
    kms.enable_key(&id.into()).unwrap();
    kms.decrypt(&blob, &context(), None).unwrap();

    root(kms, "ScheduleKeyDeletion", &body).unwrap();
    clock.pass_days(7);
    // Nobody has looked after the keys since; the first use finds it gone.
    let gone = "NotFoundException";
    assert_eq!(refused(kms.describe_key(&id.into())), gone);
    let another = fixture.another();
    for kms in [kms, &another] {
        assert_eq!(refused(kms.describe_key(&id.into())), gone);
        assert_eq!(refused(kms.resolve(&reference("alias/gone"))), gone);
        assert_eq!(refused(kms.decrypt(&blob, &context(), None)), DENIED);
    }
    drop(another);
    assert!(!holds(&fixture.path(), &sealed));
    kms.describe_key(&keep.into()).unwrap();
}

const DENIED: &str = "AccessDeniedException";

#[test]
fn a_key_is_deleted_wherever_the_keystore_is_open() {
    let fixture = Fixture::new();
    let id = fixture.key();
    let other = fixture.another();
    other.check_usable(Via::User, &id).unwrap();
    let body = json!({ "KeyId": id.to_string(), "PendingWindowInDays": 30 });
    root(&fixture.kms, "ScheduleKeyDeletion", &body).unwrap();
    fixture.clock.pass_days(29);
    assert_eq!(other.maintain().unwrap(), Maintained::default());
    fixture.clock.pass_days(1);
    assert_eq!(other.maintain().unwrap().destroyed, [id]);
    assert_eq!(other.maintain().unwrap(), Maintained::default());
    assert_eq!(
        refused(fixture.kms.check_usable(Via::User, &id)),
        "NotFoundException"
    );
}

#[test]
fn tags_have_their_bounds() {
    let fixture = Fixture::new();
    let kms = &fixture.kms;
    let id = fixture.key().to_string();
    let tag = |tags: Value| root(kms, "TagResource", &json!({ "KeyId": id, "Tags": tags }));
    tag(json!([{ "TagKey": "b", "TagValue": "1" }, { "TagKey": "a", "TagValue": "" }])).unwrap();
    tag(json!([{ "TagKey": "b", "TagValue": "2" }])).unwrap();
    let listed = root(kms, "ListResourceTags", &json!({ "KeyId": id })).unwrap();
    assert_eq!(
        listed["Tags"],
        json!([{ "TagKey": "a", "TagValue": "" }, { "TagKey": "b", "TagValue": "2" }])
    );
    for (tags, exception) in [
        (
            json!([{ "TagKey": "aws:x", "TagValue": "" }]),
            "TagException",
        ),
        (json!([{ "TagKey": "a<", "TagValue": "" }]), "TagException"),
        (
            json!([{ "TagKey": "c", "TagValue": "" }, { "TagKey": "c", "TagValue": "" }]),
            "TagException",
        ),
        (
            json!([{ "TagKey": "", "TagValue": "" }]),
            "ValidationException",
        ),
        (
            json!([{ "TagKey": "x".repeat(129), "TagValue": "" }]),
            "ValidationException",
        ),
        (
            json!([{ "TagKey": "x", "TagValue": "y".repeat(257) }]),
            "ValidationException",
        ),
        (json!([{ "TagKey": "x" }]), "ValidationException"),
    ] {
        assert_eq!(refused(tag(tags.clone())), exception, "{tags}");
    }
    let many: Vec<Value> = (0..48)
        .map(|n| json!({ "TagKey": format!("n{n}"), "TagValue": "" }))
        .collect();
    tag(json!(many)).unwrap();
    assert_eq!(
        refused(tag(json!([{ "TagKey": "one-more", "TagValue": "" }]))),
        "LimitExceededException"
    );
    let untag = json!({ "KeyId": id, "TagKeys": ["a", "missing"] });
    root(kms, "UntagResource", &untag).unwrap();
    let mut page = json!({ "KeyId": id, "Limit": 20 });
    let mut seen = 0;
    loop {
        let part = root(kms, "ListResourceTags", &page).unwrap();
        seen += part["Tags"].as_array().unwrap().len();
        if part["Truncated"] == json!(false) {
            break;
        }
        page["Marker"] = part["NextMarker"].clone();
    }
    assert_eq!(seen, 49);
    let made = root(
        kms,
        "CreateKey",
        &json!({ "Tags": [{ "TagKey": "k", "TagValue": "v" }] }),
    )
    .unwrap();
    let id = &made["KeyMetadata"]["KeyId"];
    let listed = root(kms, "ListResourceTags", &json!({ "KeyId": id })).unwrap();
    assert_eq!(listed["Tags"], json!([{ "TagKey": "k", "TagValue": "v" }]));
}

#[test]
fn the_last_use_of_a_key_is_known_to_all() {
    let fixture = Fixture::new();
    let (kms, clock) = (&fixture.kms, &fixture.clock);
    let id = fixture.key();
    let body = json!({ "KeyId": id.to_string() });
    let created = clock.now().millis() as f64 / 1000.0;
    let unused = root(kms, "GetKeyLastUsage", &body).unwrap();
    assert_eq!(
        unused,
        json!({
            "KeyId": id.to_string(), "KeyLastUsage": {},
            "TrackingStartDate": created, "KeyCreationDate": created,
        })
    );
    clock.pass_days(1);
    kms.encrypt(&id.into(), b"x", &context()).unwrap();
    kms.encrypt(&fixture.key().into(), b"x", &context())
        .unwrap();
    let used = root(kms, "GetKeyLastUsage", &body).unwrap();
    assert_eq!(used["KeyLastUsage"]["Operation"], "Encrypt");
    let at = clock.now().millis() as f64 / 1000.0;
    assert_eq!(used["KeyLastUsage"]["Timestamp"], json!(at));
    assert_eq!(
        used["KeyLastUsage"]["CloudTrailEventId"]
            .as_str()
            .unwrap()
            .len(),
        36
    );
    // As the record has it, which is a UUID of version 4.
    let event = used["KeyLastUsage"]["CloudTrailEventId"].as_str().unwrap();
    assert!(
        &event[14..15] == "4" && "89ab".contains(&event[19..20]),
        "{event}"
    );
    // A refused use is none.
    clock.pass_days(1);
    let wrong = EncryptionContext::new();
    let blob = kms.encrypt(&id.into(), b"x", &context()).unwrap().blob;
    clock.pass_days(1);
    kms.decrypt(&blob, &wrong, None).err().unwrap();
    let used = root(kms, "GetKeyLastUsage", &body).unwrap();
    assert_eq!(used["KeyLastUsage"]["Operation"], "Encrypt");
    // Others see it once it is written down.
    kms.maintain().unwrap();
    let other = fixture.another();
    assert_eq!(root(&other, "GetKeyLastUsage", &body).unwrap(), used);
    other.decrypt(&blob, &context(), None).unwrap();
    drop(other);
    let used = root(kms, "GetKeyLastUsage", &body).unwrap();
    assert_eq!(used["KeyLastUsage"]["Operation"], "Decrypt");
}

#[test]
fn descriptions_change() {
    let fixture = Fixture::new();
    let kms = &fixture.kms;
    let id = fixture.key();
    let body = |text: &str| json!({ "KeyId": id.to_string(), "Description": text });
    root(kms, "UpdateKeyDescription", &body("new")).unwrap();
    assert_eq!(kms.describe_key(&id.into()).unwrap().description, "new");
    root(kms, "UpdateKeyDescription", &body("")).unwrap();
    assert_eq!(
        refused(root(kms, "UpdateKeyDescription", &body(&"x".repeat(8193)))),
        "ValidationException"
    );
    assert_eq!(kms.describe_key(&id.into()).unwrap().description, "");
}

#[test]
fn access_keys_are_kept_with_their_secrets() {
    let fixture = Fixture::new();
    let kms = &fixture.kms;
    let own = kms.create_access_key(None).unwrap();
    let alice = kms.create_access_key(Some("alice")).unwrap();
    assert_eq!((own.secret.len(), own.info.access_key_id.len()), (40, 20));
    assert!(!holds(&fixture.path(), own.secret.as_bytes()));
    let other = fixture.another();
    let found = other
        .access_key(&alice.info.access_key_id)
        .unwrap()
        .unwrap();
    assert_eq!(found.principal, Principal::User("alice".to_owned()));
    assert_eq!(&found.secret[..], alice.secret.as_bytes());
    let found = other.access_key(&own.info.access_key_id).unwrap().unwrap();
    assert_eq!(found.principal, Principal::Root);
    assert!(other.access_key("AKIAUNKNOWN").unwrap().is_none());
    assert_eq!(other.list_access_keys(None).unwrap().len(), 2);
    assert_eq!(
        other.list_access_keys(Some("alice")).unwrap(),
        std::slice::from_ref(&alice.info)
    );
    other.delete_access_key(&alice.info.access_key_id).unwrap();
    assert!(kms.access_key(&alice.info.access_key_id).unwrap().is_none());
    assert_eq!(
        refused(kms.delete_access_key(&alice.info.access_key_id)),
        "NotFoundException"
    );
    for name in ["", "a b", &"x".repeat(65), "a/b", "root:"] {
        assert!(kms.create_access_key(Some(name)).is_err(), "{name}");
    }
}
