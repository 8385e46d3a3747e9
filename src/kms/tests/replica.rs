//! Replicas in another keystore.

use serde_json::{Value, json};

use super::*;

fn call(kms: &Kms, operation: &str, body: &Value) -> Result<Value> {
    let answer = api::call(&kms.owner(), operation, body.to_string().as_bytes())?;
    Ok(serde_json::from_slice(&answer).unwrap_or(Value::Null))
}

/// A second keystore, on another machine.
fn second(fixture: &Fixture, name: &str, region: &str) -> Kms {
    Kms::create_with_clock(
        &fixture.dir.path().join(name),
        &key_input(2),
        &CreateOptions {
            region: region.to_owned(),
            ..CreateOptions::default()
        },
        Arc::clone(&fixture.clock) as Arc<dyn Clock>,
    )
    .unwrap()
}

fn multi_region_key(kms: &Kms) -> (KeyId, KeyRef) {
    let made = call(kms, "CreateKey", &json!({ "MultiRegion": true })).unwrap();
    let id: KeyId = made["KeyMetadata"]["KeyId"]
        .as_str()
        .unwrap()
        .parse()
        .unwrap();
    (id, id.into())
}

#[test]
fn a_volumes_key_goes_to_another_machine_and_on_alone() {
    let fixture = Fixture::new();
    let here = &fixture.kms;
    let there = second(&fixture, "there", "eu-west-1");
    let (id, key) = multi_region_key(here);
    let first = here
        .generate_data_key(Via::Volume, &id, &context())
        .unwrap();
    here.rotate_key_on_demand(Via::User, &key).unwrap();
    let data_key = here
        .generate_data_key(Via::Volume, &id, &context())
        .unwrap();
    let secret = here.cached_anywhere(&id).unwrap();
    let secret = secret.current().unwrap().1.expose();

    let (ours, theirs) = (
        here.replica_public_key().unwrap(),
        there.replica_public_key().unwrap(),
    );
    assert_ne!(ours, theirs);
    assert_eq!(ours.to_string().parse::<StoreKey>().unwrap(), ours);
    let message = here.owner().export_replica(&key, &theirs).unwrap();
    let visible = |bytes: &[u8]| message.windows(8).any(|window| window == &bytes[..8]);
    assert!(!visible(secret) && !visible(short::base64(secret).as_bytes()));

    // For no one else, from no one else, and as it was sent.
    let denied = "AccessDeniedException";
    assert_eq!(
        refused(there.owner().import_replica(&message, &theirs, "")),
        denied
    );
    let third = second(&fixture, "third", "eu-west-1");
    let import = |kms: &Kms, message: &[u8]| kms.owner().import_replica(message, &ours, "copy");
    assert_eq!(refused(import(&third, &message)), denied);
    let mut changed: Value = serde_json::from_slice(&message).unwrap();
    let head = changed["head"]
        .as_str()
        .unwrap()
        .replace("ENCRYPT_DECRYPT\"", "ENCRYPT_DECRYPT\" ");
    changed["head"] = json!(head);
    let changed = changed.to_string();
    assert_eq!(refused(import(&there, changed.as_bytes())), denied);
    assert_eq!(refused(import(&there, b"{")), "ValidationException");

    assert_eq!(import(&there, &message).unwrap(), (id, true));
    assert_eq!(import(&there, &message).unwrap(), (id, false));
    for made in [&first, &data_key] {
        let opened = there.decrypt_data_key(Via::Volume, &made.blob, &context());
        assert!(opened.unwrap().same_as(&made.plaintext));
    }
    let described = there.describe_key(&key).unwrap();
    let configuration = described.multi_region_configuration.unwrap();
    assert_eq!(configuration.primary_key.region.as_str(), "us-east-1");
    assert_eq!(described.description, "copy");
    let on_demand = || there.rotate_key_on_demand(Via::User, &key);
    assert_eq!(refused(on_demand()), "UnsupportedOperationException");

    // A rotation of the primary comes with the next export; what was made there opens here.
    here.rotate_key_on_demand(Via::User, &key).unwrap();
    let newer = here
        .generate_data_key(Via::Volume, &id, &context())
        .unwrap();
    assert!(
        there
            .decrypt_data_key(Via::Volume, &newer.blob, &context())
            .is_err()
    );
    let message = here.owner().export_replica(&key, &theirs).unwrap();
    there.owner().import_replica(&message, &ours, "").unwrap();
    there
        .decrypt_data_key(Via::Volume, &newer.blob, &context())
        .unwrap();
    assert_eq!(
        there.current_material(&id).unwrap(),
        here.current_material(&id).unwrap()
    );
    let blob = there.encrypt(&key, b"x", &context()).unwrap().blob;
    here.decrypt(&blob, &context(), None).unwrap();

    // The primary is lost: the replica is promoted, and rotates by itself.
    let body = json!({ "KeyId": id.to_string(), "PrimaryRegion": "eu-west-1" });
    call(&there, "UpdatePrimaryRegion", &body).unwrap();
    on_demand().unwrap();
    let opened = there.decrypt_data_key(Via::Volume, &data_key.blob, &context());
    assert!(opened.unwrap().same_as(&data_key.plaintext));
    // What the old primary still sends is not taken any more.
    assert_eq!(
        refused(there.owner().import_replica(&message, &ours, "")),
        "AlreadyExistsException"
    );
}

#[test]
fn only_what_is_a_primary_goes_and_only_to_another_region() {
    let fixture = Fixture::new();
    let here = &fixture.kms;
    let there = second(&fixture, "there", "us-east-1");
    let (ours, theirs) = (
        here.replica_public_key().unwrap(),
        there.replica_public_key().unwrap(),
    );
    let single: KeyRef = fixture.key().into();
    assert_eq!(
        refused(here.owner().export_replica(&single, &theirs)),
        "UnsupportedOperationException"
    );
    let (id, key) = multi_region_key(here);
    let message = here.owner().export_replica(&key, &theirs).unwrap();
    assert_eq!(
        refused(there.owner().import_replica(&message, &ours, "")),
        "ValidationException"
    );
    let away = there
        .caller(Principal::Root)
        .in_region("eu-west-1".parse().unwrap());
    let client = there.client(&away);
    client.import_replica(&message, &ours, "").unwrap();
    assert_eq!(
        refused(client.export_replica(&key, &ours)),
        "UnsupportedOperationException"
    );
    let user = here.caller(Principal::User("alice".to_owned()));
    assert_eq!(
        refused(here.client(&user).export_replica(&key, &theirs)),
        "AccessDeniedException"
    );
    let user = there.caller(Principal::User("alice".to_owned()));
    assert_eq!(
        refused(there.client(&user).import_replica(&message, &ours, "")),
        "AccessDeniedException"
    );
    // Rotated apart: the one is promoted, while the other goes on.
    let body = json!({ "KeyId": id.to_string(), "PrimaryRegion": "eu-west-1" });
    client
        .update_primary_region(&api::wire::request(body))
        .unwrap();
    client.rotate_key_on_demand(&id.into()).unwrap();
    let back = client.export_replica(&key, &ours).unwrap();
    assert_eq!(
        refused(here.owner().import_replica(&back, &theirs, "")),
        "AlreadyExistsException"
    );
    assert!("AAAA".parse::<StoreKey>().is_err());
}

/// Material that was retired on one side goes nowhere, and stays what it is on the other.
#[test]
fn a_replica_is_brought_up_to_date_by_a_keystore_that_retired_old_material() {
    let fixture = Fixture::new();
    let here = &fixture.kms;
    let there = second(&fixture, "there", "eu-west-1");
    let (id, key) = multi_region_key(here);
    let first = here.current_material(&id).unwrap();
    let (ours, theirs) = (
        here.replica_public_key().unwrap(),
        there.replica_public_key().unwrap(),
    );
    let bring = || {
        let message = here.owner().export_replica(&key, &theirs).unwrap();
        there.owner().import_replica(&message, &ours, "").unwrap();
    };
    bring();
    here.rotate_key_on_demand(Via::User, &key).unwrap();
    let retired = here.owner().retire_key_material(&id, &OldMaterial::All);
    assert_eq!(retired.unwrap().materials, [first]);
    bring();
    let states = |kms: &Kms, region: &str| {
        let body = json!({ "KeyId": id.to_string(), "IncludeKeyMaterial": "ALL_KEY_MATERIAL" });
        let caller = kms
            .caller(Principal::Root)
            .in_region(region.parse().unwrap());
        let body = body.to_string();
        let answer = api::call(&kms.client(&caller), "ListKeyRotations", body.as_bytes()).unwrap();
        let answer: Value = serde_json::from_slice(&answer).unwrap();
        let states = answer["Rotations"].as_array().unwrap().iter();
        states
            .map(|entry| entry["KeyMaterialState"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(states(here, "us-east-1"), ["NON_CURRENT", "CURRENT"]);
    assert_eq!(states(&there, "eu-west-1"), ["NON_CURRENT", "CURRENT"]);
    // There it is destroyed by itself.
    let retired = there.owner().retire_key_material(&id, &OldMaterial::All);
    assert_eq!(retired.unwrap().materials, [first]);
}
