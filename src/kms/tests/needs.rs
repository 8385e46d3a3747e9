//! What volumes need is not destroyed; what they need no more is, for good.

use serde_json::{Value, json};

use super::short::volume;
use super::*;
use crate::format::VolumeId;

const NEEDED: &str = "KMSInvalidStateException";

fn material(kms: &Kms, key: &KeyId) -> MaterialId {
    kms.current_material(key).unwrap()
}

fn rotate(kms: &Kms, key: &KeyId) -> MaterialId {
    kms.rotate_key_on_demand(Via::User, &(*key).into()).unwrap();
    material(kms, key)
}

/// A count of `volume()` in `place`: files under materials; new ones under the current one of `key`.
fn count(kms: &Kms, place: &str, key: &KeyId, found: &[(MaterialId, u64)], whole: bool) {
    let current = material(kms, key).prefix();
    let counts = found.iter().map(|(material, files)| CensusEntry {
        key: *key,
        material: material.prefix(),
        files: *files,
        volume_key: false,
    });
    let census = Census {
        began: kms.now(),
        current: vec![(*key, current)],
        counts: counts.collect(),
        whole,
    };
    let end = RunEnd {
        kind: RunKind::Rewrap,
        place: place.to_owned(),
        dry_run: true,
        outcome: Outcome::default(),
        census: Some(census),
    };
    note(kms, &volume(), &VolumeNote::Ended(end));
}

fn note(kms: &Kms, volume: &VolumeId, note: &VolumeNote) {
    kms.note_volume(&kms.volume_caller(volume), note).unwrap();
}

fn seen(kms: &Kms, volume: &VolumeId, place: &str, keys: &[KeyId]) {
    let place = place.to_owned();
    let keys = keys.to_vec();
    note(kms, volume, &VolumeNote::Seen { place, keys });
}

fn retire(kms: &Kms, key: &KeyId, material: &MaterialId, force: Option<&str>) -> Result<Retired> {
    let which = OldMaterial::One(material.to_string());
    kms.owner().forced(force).retire_key_material(key, &which)
}

/// The refusal to retire a material.
#[track_caller]
fn needed(kms: &Kms, key: &KeyId, material: &MaterialId) -> String {
    let refused = retire(kms, key, material, None).expect_err("it is needed");
    assert_eq!(refused.code(), NEEDED, "{refused}");
    refused.message()
}

/// The words that a refusal gives.
fn words(refusal: &str) -> &str {
    let (_, words) = refusal.rsplit_once("--force \"").unwrap();
    words.strip_suffix('"').unwrap()
}

fn schedule(kms: &Kms, key: &KeyId, force: Option<&str>) -> Result<()> {
    let body = json!({ "KeyId": key.to_string(), "PendingWindowInDays": 7 });
    let client = kms.owner().forced(force);
    api::call(&client, "ScheduleKeyDeletion", body.to_string().as_bytes()).map(drop)
}

#[test]
fn old_material_is_destroyed_for_good_and_its_key_goes_on() {
    let fixture = Fixture::new();
    let (kms, id) = (&fixture.kms, fixture.key());
    let other = fixture.another();
    let first = material(kms, &id);
    let old = kms.encrypt(&id.into(), b"old", &context()).unwrap().blob;
    let sealed: Vec<u8> = kms
        .store
        .read(|sql| Ok(sql.query_row("SELECT sealed FROM materials", [], |row| row.get(0))?))
        .unwrap();
    let refused = retire(kms, &id, &first, None).unwrap_err().to_string();
    assert!(refused.contains("is the current one"), "{refused}");
    let second = rotate(kms, &id);
    let new = kms.encrypt(&id.into(), b"new", &context()).unwrap().blob;
    assert_eq!(
        *other.decrypt(&old, &context(), None).unwrap().plaintext,
        b"old"
    );
    let listed = |kms: &Kms| {
        let include = api::IncludeKeyMaterial::All;
        let listed = kms.list_key_rotations(&id.into(), include, &api::Page::default());
        listed.unwrap().rotations
    };
    let before = listed(kms);

    for wrong in ["", "123", &"x".repeat(64), &"0".repeat(65)] {
        let which = OldMaterial::One(wrong.to_owned());
        let refused = kms.owner().retire_key_material(&id, &which);
        assert_eq!(super::refused(refused), "ValidationException", "{wrong}");
    }
    let unknown = OldMaterial::One("0".repeat(16));
    let refused = kms.owner().retire_key_material(&id, &unknown);
    assert_eq!(super::refused(refused), "NotFoundException");
    // By the start of its id, as a census shows it.
    let which = OldMaterial::One(first.to_string()[..16].to_owned());
    let retired = kms.owner().retire_key_material(&id, &which).unwrap();
    assert_eq!(retired.materials, [first]);
    for file in ["keystore.db", "keystore.db-wal"] {
        let bytes = std::fs::read(fixture.path().join(file)).unwrap_or_default();
        let found = bytes.windows(sealed.len()).any(|window| window == sealed);
        assert!(!found, "{file}");
    }
    for kms in [kms, &other] {
        let error = kms.decrypt(&old, &context(), None).err().unwrap();
        assert_eq!(error.code(), NEEDED);
        let text = error.to_string();
        assert!(
            text.contains(&first.to_string()) && text.contains(&kms.key_arn(&id)),
            "{text}"
        );
        assert!(error.is_material_missing());
        let wire = KmsError::from_wire(error.code(), error.message());
        assert!(wire.is_material_missing());
        assert_eq!(
            *kms.decrypt(&new, &context(), None).unwrap().plaintext,
            b"new"
        );
    }
    // The rotations are what they were, and the key can be used, deleted and had back.
    let after = listed(kms);
    assert_eq!(before.len(), 2);
    assert_eq!(after[1], before[1]);
    assert_eq!(after[0].key_material_id, first);
    assert_eq!(after[0].key_material_state, before[0].key_material_state);
    assert!(before[0].retired_date.is_none() && after[0].retired_date == Some(kms.now()));
    schedule(kms, &id, None).unwrap();
    let body = json!({ "KeyId": id.to_string() }).to_string();
    api::call(&kms.owner(), "CancelKeyDeletion", body.as_bytes()).unwrap();
    let state = kms.describe_key(&id.into()).unwrap().key_state;
    assert_eq!(state, KeyState::Disabled);
    kms.enable_key(&id.into()).unwrap();
    // Once more, and all that is old.
    assert!(retire(kms, &id, &first, None).unwrap().materials.is_empty());
    let third = rotate(kms, &id);
    let all = kms.owner().retire_key_material(&id, &OldMaterial::All);
    assert_eq!(all.unwrap().materials, [second]);
    assert_eq!(material(kms, &id), third);
    kms.encrypt(&id.into(), b"x", &context()).unwrap();
}

#[test]
fn retiring_takes_the_right_to_delete_the_key() {
    let fixture = Fixture::new();
    let (kms, id) = (&fixture.kms, fixture.key());
    let first = material(kms, &id);
    rotate(kms, &id);
    let user = kms.caller(Principal::User("eve".to_owned()));
    let which = OldMaterial::One(first.to_string());
    let refused = kms.client(&user).retire_key_material(&id, &which);
    assert_eq!(super::refused(refused), "AccessDeniedException");
    // Of a service-managed key the account root alone.
    let service = kms.service_key("alias/envelopefs/volume").unwrap();
    let first = material(kms, &service);
    kms.rotate_key_on_demand(Via::Volume, &service.into())
        .unwrap();
    let which = OldMaterial::One(first.to_string());
    let refused = kms.client(&user).retire_key_material(&service, &which);
    assert_eq!(super::refused(refused), "AccessDeniedException");
    let done = kms.owner().retire_key_material(&service, &which);
    assert_eq!(done.unwrap().materials, [first]);
}

/// What a volume needs, through its life.
#[test]
fn a_whole_count_is_the_proof() {
    let fixture = Fixture::new();
    let (kms, id) = (&fixture.kms, fixture.key());
    let first = material(kms, &id);
    kms.note_new_volume(&volume(), "/srv/data", &id).unwrap();
    let second = rotate(kms, &id);
    // Its own key is under the first one.
    let text = needed(kms, &id, &first);
    assert_eq!(words(&text), "lose everything in /srv/data");
    assert!(text.contains(&volume().to_string()), "{text}");
    assert!(text.contains("envelopefs rewrap /srv/data"), "{text}");
    // A rewrap that was stopped proves nothing.
    count(kms, "/srv/data", &id, &[(second, 4)], false);
    needed(kms, &id, &first);
    // A count that finds some.
    count(kms, "/srv/data", &id, &[(first, 1), (second, 4)], true);
    let text = needed(kms, &id, &first);
    assert_eq!(words(&text), "lose 1 file in /srv/data");
    assert!(text.contains(&format!("counted {}", kms.now())), "{text}");
    // None any more. Opened again later, under the same key: it is still the proof.
    count(kms, "/srv/data", &id, &[(second, 5)], true);
    fixture.clock.pass_days(1);
    seen(kms, &volume(), "/srv/data", &[id]);
    retire(kms, &id, &first, None).unwrap();

    // Files may have been made under the second one since that count.
    let third = rotate(kms, &id);
    let text = needed(kms, &id, &second);
    assert_eq!(words(&text), "lose at least 5 files in /srv/data");
    count(kms, "/srv/data", &id, &[(third, 7)], true);
    // Under the third one, that is: a count that saw it as current says nothing of it later.
    rotate(kms, &id);
    retire(kms, &id, &second, None).unwrap();
    let text = needed(kms, &id, &third);
    assert_eq!(words(&text), "lose at least 7 files in /srv/data");
}

#[test]
fn what_was_never_counted_is_needed() {
    let fixture = Fixture::new();
    let (kms, id, to) = (&fixture.kms, fixture.key(), fixture.key());
    let first = material(kms, &id);
    // All that is known is that it was given a grant.
    kms.generate_data_key(Via::Volume, &id, &context()).unwrap();
    rotate(kms, &id);
    let text = needed(kms, &id, &first);
    let unknown = format!("lose files never counted in volume {}", volume());
    assert_eq!(words(&text), unknown);
    assert_eq!(kms.registered_volumes().unwrap()[0].place, None);
    // Seen under another key, and not counted: it may have files under the first.
    seen(kms, &volume(), "/srv/data", &[to]);
    let text = needed(kms, &id, &first);
    assert_eq!(words(&text), "lose files never counted in /srv/data");
    let to_first = material(kms, &to);
    count(kms, "/srv/data", &to, &[(to_first, 3)], true);
    retire(kms, &id, &first, None).unwrap();
    schedule(kms, &id, None).unwrap();
    // It moves to a third key: from then on it may have files under that one.
    let third = fixture.key();
    let start = RunStart {
        kind: RunKind::Rewrap,
        place: "/srv/data".to_owned(),
        keys: vec![third],
        dry_run: false,
    };
    note(kms, &volume(), &VolumeNote::Started(start));
    let refused = schedule(kms, &third, None).unwrap_err().to_string();
    assert_eq!(words(&refused), "lose at least 0 files in /srv/data");
    assert!(refused.contains("--to-key"), "{refused}");
}

#[test]
fn each_copy_of_a_volume_counts_until_it_is_forgotten() {
    let fixture = Fixture::new();
    let (kms, id) = (&fixture.kms, fixture.key());
    let first = material(kms, &id);
    let elsewhere = VolumeId([9; 16]);
    count(kms, "/srv/data", &id, &[(first, 3)], true);
    seen(kms, &volume(), "/backup/it's", &[id]);
    seen(kms, &elsewhere, "/srv/else", &[id]);
    let second = rotate(kms, &id);
    count(kms, "/srv/data", &id, &[(second, 3)], true);
    let text = needed(kms, &id, &first);
    assert_eq!(
        words(&text),
        "lose files never counted in /backup/it's and files never counted in /srv/else"
    );
    let root = kms.caller(Principal::Root);
    let user = kms.caller(Principal::User("eve".to_owned()));
    let refused = kms.forget_volume(&user, &elsewhere, None);
    assert_eq!(super::refused(refused), "AccessDeniedException");
    assert_eq!(kms.forget_volume(&root, &elsewhere, None).unwrap(), 1);
    let refused = kms.forget_volume(&root, &elsewhere, None);
    assert_eq!(super::refused(refused), "NotFoundException");
    assert_eq!(
        words(&needed(kms, &id, &first)),
        "lose files never counted in /backup/it's"
    );
    let copy = Some("/backup/it's");
    assert_eq!(kms.forget_volume(&root, &volume(), copy).unwrap(), 1);
    assert_eq!(kms.registered_volumes().unwrap().len(), 1);
    // Whoever is seen again is known again.
    seen(kms, &elsewhere, "/srv/else", &[id]);
    needed(kms, &id, &first);
    kms.forget_volume(&root, &elsewhere, None).unwrap();
    retire(kms, &id, &first, None).unwrap();
}

#[test]
fn a_volume_that_was_forgotten_is_not_known_by_its_grant() {
    let fixture = Fixture::new();
    let (kms, id) = (&fixture.kms, fixture.key());
    let first = material(kms, &id);
    kms.generate_data_key(Via::Volume, &id, &context()).unwrap();
    rotate(kms, &id);
    needed(kms, &id, &first);
    let root = kms.caller(Principal::Root);
    kms.forget_volume(&root, &volume(), None).unwrap();
    assert!(kms.registered_volumes().unwrap().is_empty());
    retire(kms, &id, &first, None).unwrap();
}

#[test]
fn the_words_of_the_refusal_force_it_and_no_others() {
    let fixture = Fixture::new();
    let (kms, id) = (&fixture.kms, fixture.key());
    let first = material(kms, &id);
    count(kms, "/srv/data", &id, &[(first, 1234)], true);
    rotate(kms, &id);
    let text = needed(kms, &id, &first);
    assert_eq!(words(&text), "lose at least 1234 files in /srv/data");
    for wrong in ["", "yes", "lose at least 1233 files in /srv/data"] {
        let refused = retire(kms, &id, &first, Some(wrong));
        assert_eq!(super::refused(refused), NEEDED, "{wrong}");
    }
    let words = words(&text);
    assert_eq!(
        retire(kms, &id, &first, Some(words)).unwrap().materials,
        [first]
    );
    let log = std::fs::read_to_string(fixture.path().join("audit/00000001.jsonl")).unwrap();
    let records: Vec<Value> = log
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .filter(|record: &Value| record["eventName"] == "RetireKeyMaterial")
        .collect();
    assert_eq!(records.len(), 5);
    for refused in &records[..4] {
        assert_eq!(refused["errorCode"], NEEDED);
        assert!(refused.get("additionalEventData").is_none());
    }
    assert_eq!(records[4]["additionalEventData"]["forced"], words);
    assert_eq!(
        records[4]["requestParameters"]["keyMaterialIds"],
        json!([first.to_string()])
    );
}

#[test]
fn a_key_that_is_needed_is_not_scheduled_for_deletion() {
    let fixture = Fixture::new();
    let (kms, id) = (&fixture.kms, fixture.key());
    let first = material(kms, &id);
    count(kms, "/srv/data", &id, &[(first, 2)], true);
    let refused = schedule(kms, &id, None).unwrap_err();
    assert_eq!(refused.code(), NEEDED);
    let text = refused.message();
    let words = words(&text);
    assert_eq!(words, "lose at least 2 files in /srv/data");
    schedule(kms, &id, Some(words)).unwrap();
    // What was said then holds at the end, whatever was counted since; another volume was not said.
    seen(kms, &VolumeId([9; 16]), "/srv/else", &[id]);
    fixture.clock.pass_days(7);
    let done = kms.maintain().unwrap();
    assert_eq!((done.kept, done.destroyed), (vec![id], vec![]));
    let described = kms.describe_key(&id.into()).unwrap();
    assert_eq!(described.key_state, KeyState::PendingDeletion);
    assert_eq!(described.deletion_date, Some(kms.now().plus_days(1)));
    assert_eq!(kms.maintain().unwrap(), Maintained::default());
    fixture.clock.pass_days(1);
    let root = kms.caller(Principal::Root);
    kms.forget_volume(&root, &VolumeId([9; 16]), None).unwrap();
    assert_eq!(kms.maintain().unwrap().destroyed, [id]);
    assert!(kms.registered_volumes().unwrap()[0].counts.is_empty());
}

#[test]
fn a_volume_that_turns_up_before_the_end_keeps_a_key() {
    let fixture = Fixture::new();
    let (kms, id) = (&fixture.kms, fixture.key());
    schedule(kms, &id, None).unwrap();
    seen(kms, &volume(), "/srv/data", &[id]);
    fixture.clock.pass_days(7);
    assert_eq!(kms.maintain().unwrap().kept, [id]);
    let log = std::fs::read_to_string(fixture.path().join("audit/00000001.jsonl")).unwrap();
    let last: Value = serde_json::from_str(log.lines().last().unwrap()).unwrap();
    assert_eq!(
        (&last["eventName"], &last["errorCode"]),
        (&json!("DeleteKey"), &json!(NEEDED))
    );
    // It can be had back.
    let body = json!({ "KeyId": id.to_string() }).to_string();
    api::call(&kms.owner(), "CancelKeyDeletion", body.as_bytes()).unwrap();
    kms.enable_key(&id.into()).unwrap();
}

#[test]
fn a_replica_goes_while_another_key_has_the_material() {
    let fixture = Fixture::new();
    let kms = &fixture.kms;
    let call = |region: &str, operation: &str, body: &Value| -> Result<Value> {
        let caller = kms.caller(Principal::Root).in_region(region.parse()?);
        let answer = api::call(&kms.client(&caller), operation, body.to_string().as_bytes())?;
        Ok(serde_json::from_slice(&answer).unwrap_or(Value::Null))
    };
    let (home, away) = ("us-east-1", "eu-west-1");
    let made = call(home, "CreateKey", &json!({ "MultiRegion": true })).unwrap();
    let id: KeyId = made["KeyMetadata"]["KeyId"]
        .as_str()
        .unwrap()
        .parse()
        .unwrap();
    let body = json!({ "KeyId": id.to_string(), "ReplicaRegion": away });
    call(home, "ReplicateKey", &body).unwrap();
    let first = material(kms, &id);
    count(kms, "/srv/data", &id, &[(first, 2)], true);
    let body = json!({ "KeyId": id.to_string(), "PendingWindowInDays": 7 });
    call(away, "ScheduleKeyDeletion", &body).unwrap();
    assert_eq!(refused(call(home, "ScheduleKeyDeletion", &body)), NEEDED);
    fixture.clock.pass_days(7);
    assert_eq!(kms.maintain().unwrap().destroyed, [id]);
    assert_eq!(refused(call(home, "ScheduleKeyDeletion", &body)), NEEDED);
    // One after the other, the second is the last.
    let body = json!({ "KeyId": id.to_string(), "ReplicaRegion": away });
    call(home, "ReplicateKey", &body).unwrap();
    count(kms, "/srv/data", &fixture.key(), &[], true);
    let body = json!({ "KeyId": id.to_string(), "PendingWindowInDays": 7 });
    call(home, "ScheduleKeyDeletion", &body).unwrap();
    count(kms, "/srv/data", &id, &[(first, 2)], true);
    assert_eq!(refused(call(away, "ScheduleKeyDeletion", &body)), NEEDED);
}

#[test]
fn a_copy_of_the_keystore_unwraps_what_is_gone() {
    let fixture = Fixture::new();
    let (kms, id, gone) = (&fixture.kms, fixture.key(), fixture.key());
    let first = material(kms, &id);
    let generate = |id: &KeyId| kms.generate_data_key(Via::Volume, id, &context()).unwrap();
    let (old, lost) = (generate(&id), generate(&gone));
    // One of its keys waits for its deletion, which is over long before it is opened again.
    let place = fixture.place(&gone);
    kms.store
        .change(|change| {
            let date = Some(kms.now());
            change.set_deletion(&place, KeyState::PendingDeletion, Some(7), date)
        })
        .unwrap();
    let copy = fixture.dir.path().join("copy");
    let copied = std::process::Command::new("cp")
        .args(["-r".as_ref(), fixture.path().as_os_str(), copy.as_os_str()])
        .status();
    assert!(copied.unwrap().success());
    let root = kms.caller(Principal::Root);
    kms.forget_volume(&root, &volume(), None).unwrap();
    assert_eq!(kms.maintain().unwrap().destroyed, [gone]);
    rotate(kms, &id);
    retire(kms, &id, &first, None).unwrap();

    let Fixture { kms, dir, .. } = fixture;
    let kms = Arc::new(kms);
    let own = Arc::clone(&kms).for_volume(&volume());
    let older = Arc::new(Kms::open_older(&copy, &[key_input(1)]).unwrap());
    let both = Arc::new(WithOlder::new(Arc::clone(&kms), older)).for_volume(&volume());
    let nobody = Requester::default();
    for data_key in [&old, &lost] {
        let refused = own.decrypt(nobody, &data_key.blob, &context()).err();
        assert!(refused.unwrap().is_material_missing());
        let key = both.decrypt(nobody, &data_key.blob, &context()).unwrap();
        assert!(key.same_as(&data_key.plaintext));
        let blob = both.re_encrypt(&data_key.blob, &context(), &id).unwrap();
        let key = own.decrypt(nobody, &blob, &context()).unwrap();
        assert!(key.same_as(&data_key.plaintext));
        // What is no ciphertext of either stays none.
        let mut wrong = data_key.blob.clone();
        *wrong.last_mut().unwrap() ^= 1;
        let refused = both.decrypt(nobody, &wrong, &context());
        assert!(matches!(refused.err(), Some(KmsError::InvalidCiphertext)));
    }
    // The copy is as it was.
    drop((both, own));
    let older = Kms::open_older(&copy, &[key_input(1)]).unwrap();
    assert_eq!(older.maintain().unwrap(), Maintained::default());
    older.check_usable(Via::Volume, &gone).unwrap();
    drop(dir);
}

#[test]
fn a_keystore_of_version_2_is_brought_up_to_date() {
    let Fixture { kms, clock, dir } = Fixture::new();
    let path = dir.path().join("ks");
    let id = kms.create_key(&CreateKey::default()).unwrap().key_id;
    kms.generate_data_key(Via::Volume, &id, &context()).unwrap();
    drop(kms);
    let sql = rusqlite::Connection::open(path.join("keystore.db")).unwrap();
    sql.execute_batch(
        "DROP TABLE registered_counts; DROP TABLE registered_keys; DROP TABLE registered_volumes;
         ALTER TABLE materials DROP COLUMN retired;
         ALTER TABLE keys DROP COLUMN deletion_forced;
         PRAGMA user_version = 2;",
    )
    .unwrap();
    drop(sql);
    assert_eq!(Kms::status(&path).unwrap().keys, 1);
    let clock = Arc::clone(&clock) as Arc<dyn Clock>;
    let kms = Kms::open_with_clock(&path, &[key_input(1)], clock).unwrap();
    let first = material(&kms, &id);
    rotate(&kms, &id);
    // The volumes of before are known by their grants.
    needed(&kms, &id, &first);
}
