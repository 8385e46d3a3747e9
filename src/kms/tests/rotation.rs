//! Rotation: automatic, on demand, and what it leaves alone.

use super::api::{IncludeKeyMaterial, Page};
use super::*;

fn rotations(kms: &Kms, key: KeyId) -> Vec<(Timestamp, RotationType)> {
    let listing = kms.list_key_rotations(
        &key.into(),
        IncludeKeyMaterial::RotationsOnly,
        &Page::default(),
    );
    listing
        .unwrap()
        .rotations
        .iter()
        .filter_map(|entry| entry.rotation_date.zip(entry.rotation_type))
        .collect()
}

#[test]
fn old_material_opens_after_a_rotation() {
    let fixture = Fixture::new();
    let kms = &fixture.kms;
    let id = fixture.key();
    let mut made = Vec::new();
    for _ in 0..5 {
        let material = kms.current_material(&id).unwrap();
        made.push((
            kms.generate_data_key(Via::Volume, &id, &context()).unwrap(),
            material,
        ));
        assert_eq!(kms.rotate_key_on_demand(Via::User, &id.into()).unwrap(), id);
        assert_ne!(kms.current_material(&id).unwrap(), material);
    }
    let reopened = fixture.another();
    for (key, material) in &made {
        for kms in [kms, &reopened] {
            let opened = kms
                .decrypt_data_key(Via::Volume, &key.blob, &context())
                .unwrap();
            assert!(opened.same_as(&key.plaintext));
            assert_eq!(
                kms.decrypt(&key.blob, &context(), None).unwrap().material,
                *material
            );
        }
    }
    // A re-encrypt to the same key moves to the current material.
    let old = &made[0].0.blob;
    let new = kms
        .re_encrypt_data_key(Via::Volume, old, &context(), &id, &context())
        .unwrap();
    assert_eq!(new[18..26], kms.current_material(&id).unwrap().prefix());
    let opened = kms.decrypt_data_key(Via::Volume, &new, &context()).unwrap();
    assert!(opened.same_as(&made[0].0.plaintext));
}

#[test]
fn rotation_is_off_until_enabled_and_then_follows_its_period() {
    let fixture = Fixture::new();
    let (kms, clock) = (&fixture.kms, &fixture.clock);
    let id = fixture.key();
    let key: KeyRef = id.into();
    let status = kms.get_key_rotation_status(&key).unwrap();
    assert_eq!(
        (
            status.key_rotation_enabled,
            status.rotation_period_in_days,
            status.next_rotation_date
        ),
        (false, None, None)
    );
    clock.pass_days(10_000);
    assert!(kms.rotate_due().unwrap().is_empty());

    kms.enable_key_rotation(&key, None).unwrap();
    let start = clock.now();
    let status = kms.get_key_rotation_status(&key).unwrap();
    assert_eq!(
        (status.key_rotation_enabled, status.rotation_period_in_days),
        (true, Some(365))
    );
    assert_eq!(status.next_rotation_date, Some(start.plus_days(365)));
    clock.pass_days(364);
    assert!(kms.rotate_due().unwrap().is_empty());
    clock.pass_days(1);
    assert_eq!(kms.rotate_due().unwrap(), [id]);
    assert!(kms.rotate_due().unwrap().is_empty());
    assert_eq!(
        rotations(kms, id),
        [(start.plus_days(365), RotationType::Automatic)]
    );

    // On demand, in between: the schedule stays.
    clock.pass_days(5);
    kms.rotate_key_on_demand(Via::User, &key).unwrap();
    let next = kms
        .get_key_rotation_status(&key)
        .unwrap()
        .next_rotation_date;
    assert_eq!(next, Some(start.plus_days(730)));

    // Another period counts from the last automatic rotation.
    kms.enable_key_rotation(&key, Some(90)).unwrap();
    let next = kms
        .get_key_rotation_status(&key)
        .unwrap()
        .next_rotation_date;
    assert_eq!(next, Some(start.plus_days(365 + 90)));

    kms.disable_key_rotation(&key).unwrap();
    clock.pass_days(1000);
    assert!(kms.rotate_due().unwrap().is_empty());
    // Enabled again: from now.
    kms.enable_key_rotation(&key, Some(2560)).unwrap();
    let next = kms
        .get_key_rotation_status(&key)
        .unwrap()
        .next_rotation_date;
    assert_eq!(next, Some(clock.now().plus_days(2560)));
    for days in [0, 89, 2561] {
        let result = kms.enable_key_rotation(&key, Some(days));
        assert_eq!(refused(result), "ValidationException");
    }
}

#[test]
fn opening_a_keystore_rotates_what_is_due_once() {
    let fixture = Fixture::new();
    let id = fixture.kms.service_key("alias/envelopefs/volume").unwrap();
    let blob = fixture
        .kms
        .generate_data_key(Via::Volume, &id, &context())
        .unwrap()
        .blob;
    let before = fixture.kms.current_material(&id).unwrap();
    fixture.clock.pass_days(800);
    let other = fixture.another();
    assert_ne!(other.current_material(&id).unwrap(), before);
    assert_eq!(
        fixture.kms.current_material(&id).unwrap(),
        other.current_material(&id).unwrap()
    );
    assert_eq!(
        rotations(&other, id).len(),
        1,
        "one rotation, however many periods passed"
    );
    fixture.another();
    assert_eq!(rotations(&other, id).len(), 1);
    other
        .decrypt_data_key(Via::Volume, &blob, &context())
        .unwrap();
}

#[test]
fn a_disabled_key_rotates_when_it_is_enabled() {
    let fixture = Fixture::new();
    let (kms, clock) = (&fixture.kms, &fixture.clock);
    let (overdue, early) = (fixture.key(), fixture.key());
    for id in [overdue, early] {
        kms.enable_key_rotation(&id.into(), Some(if id == early { 1000 } else { 90 }))
            .unwrap();
        kms.disable_key(&id.into()).unwrap();
    }
    clock.pass_days(100);
    assert!(kms.rotate_due().unwrap().is_empty());
    assert!(
        kms.get_key_rotation_status(&overdue.into())
            .unwrap()
            .key_rotation_enabled
    );
    for id in [overdue, early] {
        assert!(rotations(kms, id).is_empty());
        kms.enable_key(&id.into()).unwrap();
    }
    assert_eq!(
        rotations(kms, overdue),
        [(clock.now(), RotationType::Automatic)]
    );
    assert!(rotations(kms, early).is_empty());
}

#[test]
fn on_demand_rotations_are_limited() {
    let fixture = Fixture::new();
    let kms = &fixture.kms;
    let id = fixture.key();
    for _ in 0..25 {
        kms.rotate_key_on_demand(Via::User, &id.into()).unwrap();
    }
    for via in [Via::User, Via::Volume] {
        let result = kms.rotate_key_on_demand(via, &id.into());
        assert_eq!(refused(result), "LimitExceededException");
    }
    kms.set_on_demand_rotation_limit(26).unwrap();
    kms.rotate_key_on_demand(Via::User, &id.into()).unwrap();
    assert_eq!(fixture.another().on_demand_rotation_limit().unwrap(), 26);
    assert_eq!(
        refused(kms.rotate_key_on_demand(Via::User, &id.into())),
        "LimitExceededException"
    );
    // The service's key is not limited.
    let service = kms.service_key("alias/envelopefs/volume").unwrap();
    for _ in 0..27 {
        kms.rotate_key_on_demand(Via::Volume, &service.into())
            .unwrap();
    }
}

#[test]
fn rotations_are_listed_in_pages_with_their_materials() {
    let fixture = Fixture::new();
    let kms = &fixture.kms;
    let id = fixture.key();
    let first = kms.current_material(&id).unwrap();
    for _ in 0..4 {
        fixture.clock.pass_days(1);
        kms.rotate_key_on_demand(Via::User, &id.into()).unwrap();
    }
    let list = |include, limit, marker| {
        let page = Page { limit, marker };
        kms.list_key_rotations(&id.into(), include, &page).unwrap()
    };
    let all = list(IncludeKeyMaterial::All, None, None).rotations;
    assert_eq!(all.len(), 5);
    assert_eq!(
        (all[0].key_material_id, all[0].rotation_date),
        (first, None)
    );
    assert_eq!(
        all.iter()
            .map(|entry| entry.key_material_state == MaterialState::Current)
            .collect::<Vec<_>>(),
        [false, false, false, false, true]
    );
    assert_eq!(all[4].key_material_id, kms.current_material(&id).unwrap());
    assert_eq!(
        all[4].rotation_date.zip(all[4].rotation_type),
        Some((fixture.clock.now(), RotationType::OnDemand))
    );
    let one = list(IncludeKeyMaterial::RotationsOnly, Some(3), None);
    assert_eq!(one.rotations, all[1..4]);
    let two = list(IncludeKeyMaterial::RotationsOnly, Some(3), one.next_marker);
    assert_eq!(two.rotations, all[4..]);
    assert!(two.next_marker.is_none());
}
