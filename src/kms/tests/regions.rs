//! Multi-Region keys, in one keystore.

use serde_json::{Value, json};

use super::*;

fn in_region(kms: &Kms, region: &str, operation: &str, body: &Value) -> Result<Value> {
    let caller = kms.caller(Principal::Root).in_region(region.parse()?);
    let answer = api::call(&kms.client(&caller), operation, body.to_string().as_bytes())?;
    Ok(serde_json::from_slice(&answer).unwrap_or(Value::Null))
}

const HOME: &str = "us-east-1";
const AWAY: &str = "eu-west-1";

/// A multi-Region key with a replica.
fn with_replica(kms: &Kms) -> String {
    let made = in_region(kms, HOME, "CreateKey", &json!({ "MultiRegion": true })).unwrap();
    let id = made["KeyMetadata"]["KeyId"].as_str().unwrap().to_owned();
    let body = json!({
        "KeyId": id, "ReplicaRegion": AWAY, "Description": "replica",
        "Tags": [{ "TagKey": "where", "TagValue": "away" }],
    });
    in_region(kms, HOME, "ReplicateKey", &body).unwrap();
    id
}

fn state(kms: &Kms, region: &str, id: &str) -> String {
    let described = in_region(kms, region, "DescribeKey", &json!({ "KeyId": id })).unwrap();
    described["KeyMetadata"]["KeyState"]
        .as_str()
        .unwrap()
        .to_owned()
}

#[test]
fn a_replica_decrypts_what_the_primary_encrypted() {
    let fixture = Fixture::new();
    let kms = &fixture.kms;
    let id = with_replica(kms);
    assert!(id.starts_with("mrk-") && id.len() == 36);
    let context = json!({ "a": "b" });
    let encrypt = json!({ "KeyId": id, "Plaintext": "aGk=", "EncryptionContext": context });
    for (from, to) in [(HOME, AWAY), (AWAY, HOME)] {
        let made = in_region(kms, from, "Encrypt", &encrypt).unwrap();
        assert!(made["KeyId"].as_str().unwrap().contains(from));
        let decrypt =
            json!({ "CiphertextBlob": made["CiphertextBlob"], "EncryptionContext": context });
        let opened = in_region(kms, to, "Decrypt", &decrypt).unwrap();
        assert_eq!(opened["Plaintext"], "aGk=");
        assert!(opened["KeyId"].as_str().unwrap().contains(to));
    }
    let described = in_region(kms, AWAY, "DescribeKey", &json!({ "KeyId": id })).unwrap();
    let metadata = &described["KeyMetadata"];
    assert_eq!(metadata["MultiRegion"], json!(true));
    let arn = |region: &str| format!("arn:aws:kms:{region}:000000000000:key/{id}");
    assert_eq!(
        metadata["MultiRegionConfiguration"],
        json!({
            "MultiRegionKeyType": "REPLICA",
            "PrimaryKey": { "Arn": arn(HOME), "Region": HOME },
            "ReplicaKeys": [{ "Arn": arn(AWAY), "Region": AWAY }],
        })
    );
    // Each Region lists its own; a single-Region key is in one alone.
    let single = fixture.key();
    let listed = in_region(kms, AWAY, "ListKeys", &json!({})).unwrap();
    assert_eq!(
        listed["Keys"],
        json!([{ "KeyId": id, "KeyArn": arn(AWAY) }])
    );
    assert_eq!(
        refused(in_region(
            kms,
            AWAY,
            "DescribeKey",
            &json!({ "KeyId": single.to_string() })
        )),
        "NotFoundException"
    );
    assert_eq!(
        refused(in_region(
            kms,
            AWAY,
            "DescribeKey",
            &json!({ "KeyId": arn(HOME) })
        )),
        "NotFoundException"
    );
}

#[test]
fn replicas_share_rotation_and_nothing_else() {
    let fixture = Fixture::new();
    let kms = &fixture.kms;
    let id = with_replica(kms);
    let key = json!({ "KeyId": id });
    let unsupported = "UnsupportedOperationException";
    for operation in [
        "EnableKeyRotation",
        "DisableKeyRotation",
        "RotateKeyOnDemand",
    ] {
        assert_eq!(refused(in_region(kms, AWAY, operation, &key)), unsupported);
    }
    in_region(kms, HOME, "EnableKeyRotation", &key).unwrap();
    let status = in_region(kms, AWAY, "GetKeyRotationStatus", &key).unwrap();
    assert_eq!(status["KeyRotationEnabled"], json!(true));
    let encrypt = json!({ "KeyId": id, "Plaintext": "aGk=" });
    let old = in_region(kms, AWAY, "Encrypt", &encrypt).unwrap();
    let material = |region| {
        let described = in_region(kms, region, "DescribeKey", &key).unwrap();
        described["KeyMetadata"]["CurrentKeyMaterialId"].clone()
    };
    let before = material(HOME);
    in_region(kms, HOME, "RotateKeyOnDemand", &key).unwrap();
    assert_ne!(material(HOME), before);
    assert_eq!(material(HOME), material(AWAY));
    let opened = json!({ "CiphertextBlob": old["CiphertextBlob"] });
    in_region(kms, HOME, "Decrypt", &opened).unwrap();

    // A due rotation is the primary's, whoever finds it.
    fixture.clock.pass_days(366);
    let before = in_region(kms, AWAY, "ListKeyRotations", &key).unwrap();
    in_region(kms, HOME, "Encrypt", &encrypt).unwrap();
    let after = in_region(kms, AWAY, "ListKeyRotations", &key).unwrap();
    let count = |listed: &Value| listed["Rotations"].as_array().unwrap().len();
    assert_eq!((count(&before), count(&after)), (1, 2));

    // State, description, tags, aliases, grants and policies are each key's own.
    in_region(kms, AWAY, "DisableKey", &key).unwrap();
    assert_eq!(
        (state(kms, HOME, &id), state(kms, AWAY, &id)),
        ("Enabled".into(), "Disabled".into())
    );
    let tags = |region| in_region(kms, region, "ListResourceTags", &key).unwrap()["Tags"].clone();
    assert_eq!(
        (tags(HOME), tags(AWAY)),
        (
            json!([]),
            json!([{ "TagKey": "where", "TagValue": "away" }])
        )
    );
    let alias = json!({ "AliasName": "alias/x", "TargetKeyId": id });
    in_region(kms, AWAY, "CreateAlias", &alias).unwrap();
    in_region(kms, HOME, "CreateAlias", &alias).unwrap();
    in_region(kms, AWAY, "DeleteAlias", &json!({ "AliasName": "alias/x" })).unwrap();
    in_region(kms, HOME, "DescribeKey", &json!({ "KeyId": "alias/x" })).unwrap();
}

#[test]
fn the_primary_moves() {
    let fixture = Fixture::new();
    let kms = &fixture.kms;
    let id = with_replica(kms);
    let to = |region: &str| json!({ "KeyId": id, "PrimaryRegion": region });
    let update = |from: &str, to: &Value| in_region(kms, from, "UpdatePrimaryRegion", to);
    assert_eq!(
        refused(update(AWAY, &to(AWAY))),
        "UnsupportedOperationException"
    );
    assert_eq!(
        refused(update(HOME, &to("eu-north-1"))),
        "NotFoundException"
    );
    assert_eq!(refused(update(HOME, &to("nowhere"))), "ValidationException");
    update(HOME, &to(AWAY)).unwrap();
    let described = in_region(kms, HOME, "DescribeKey", &json!({ "KeyId": id })).unwrap();
    let configuration = &described["KeyMetadata"]["MultiRegionConfiguration"];
    assert_eq!(configuration["MultiRegionKeyType"], "REPLICA");
    assert_eq!(configuration["PrimaryKey"]["Region"], AWAY);
    in_region(kms, AWAY, "RotateKeyOnDemand", &json!({ "KeyId": id })).unwrap();
    let replicate = json!({ "KeyId": id, "ReplicaRegion": "eu-north-1" });
    assert_eq!(
        refused(in_region(kms, HOME, "ReplicateKey", &replicate)),
        "UnsupportedOperationException"
    );
    in_region(kms, AWAY, "ReplicateKey", &replicate).unwrap();
    assert_eq!(
        refused(in_region(kms, AWAY, "ReplicateKey", &replicate)),
        "AlreadyExistsException"
    );
    let single = json!({ "KeyId": fixture.key().to_string(), "ReplicaRegion": AWAY });
    assert_eq!(
        refused(in_region(kms, HOME, "ReplicateKey", &single)),
        "UnsupportedOperationException"
    );
}

#[test]
fn a_primary_is_deleted_after_its_replicas() {
    let fixture = Fixture::new();
    let (kms, clock) = (&fixture.kms, &fixture.clock);
    let id = with_replica(kms);
    let body = |days| json!({ "KeyId": id, "PendingWindowInDays": days });
    let primary = in_region(kms, HOME, "ScheduleKeyDeletion", &body(7)).unwrap();
    assert_eq!(primary["KeyState"], "PendingReplicaDeletion");
    assert!(primary.get("DeletionDate").is_none());
    let described = in_region(kms, HOME, "DescribeKey", &json!({ "KeyId": id })).unwrap();
    assert_eq!(
        described["KeyMetadata"]["PendingDeletionWindowInDays"],
        json!(7)
    );
    clock.pass_days(40);
    kms.maintain().unwrap();
    assert_eq!(state(kms, HOME, &id), "PendingReplicaDeletion");
    // The replica still decrypts.
    let encrypt = json!({ "KeyId": id, "Plaintext": "aGk=" });
    in_region(kms, AWAY, "Encrypt", &encrypt).unwrap();
    let replica = in_region(kms, AWAY, "ScheduleKeyDeletion", &body(10)).unwrap();
    assert_eq!(replica["KeyState"], "PendingDeletion");
    clock.pass_days(10);
    assert_eq!(kms.maintain().unwrap().destroyed.len(), 1);
    assert_eq!(state(kms, HOME, &id), "PendingDeletion");
    clock.pass_days(6);
    kms.maintain().unwrap();
    assert_eq!(state(kms, HOME, &id), "PendingDeletion");
    clock.pass_days(1);
    assert_eq!(
        refused(in_region(kms, HOME, "DescribeKey", &json!({ "KeyId": id }))),
        "NotFoundException"
    );
    let left: i64 = kms
        .store
        .read(|sql| {
            let count = "SELECT (SELECT count(*) FROM materials) + (SELECT count(*) FROM key_sets)";
            Ok(sql.query_row(count, [], |row| row.get(0))?)
        })
        .unwrap();
    assert_eq!(left, 0);
}

#[test]
fn a_volume_finds_its_key_in_any_region() {
    let fixture = Fixture::new();
    let kms = &fixture.kms;
    let made = in_region(kms, AWAY, "CreateKey", &json!({})).unwrap();
    let id: KeyId = made["KeyMetadata"]["KeyId"]
        .as_str()
        .unwrap()
        .parse()
        .unwrap();
    let arn: KeyRef = reference(made["KeyMetadata"]["Arn"].as_str().unwrap());
    assert_eq!(kms.resolve(&arn).unwrap(), id);
    let key = kms.generate_data_key(Via::Volume, &id, &context()).unwrap();
    let opened = kms
        .decrypt_data_key(Via::Volume, &key.blob, &context())
        .unwrap();
    assert!(opened.same_as(&key.plaintext));
    assert!(kms.key_arn(&id).contains(AWAY));
    assert_eq!(
        refused(kms.check_usable(Via::User, &id)),
        "NotFoundException"
    );
}
