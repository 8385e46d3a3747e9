//! Key states and service-managed keys.

use super::api::{IncludeKeyMaterial, Page};
use super::*;

const SERVICE: &str = "alias/envelopefs/volume";

#[test]
fn a_new_key_is_described() {
    let fixture = Fixture::new();
    let request = CreateKey {
        description: "backups".to_owned(),
    };
    let made = fixture.kms.create_key(&request).unwrap();
    let described = fixture.kms.describe_key(&made.key_id.into()).unwrap();
    assert_eq!(described.description, "backups");
    assert_eq!(
        described.arn,
        format!("arn:aws:kms:us-east-1:000000000000:key/{}", made.key_id)
    );
    assert_eq!(described.creation_date, fixture.clock.now());
    assert_eq!(
        (
            described.key_state,
            described.key_manager,
            described.key_spec,
            described.key_usage,
            described.origin
        ),
        (
            KeyState::Enabled,
            KeyManager::Customer,
            KeySpec::SymmetricDefault,
            KeyUsage::EncryptDecrypt,
            Origin::AwsKms
        )
    );
    assert_eq!(
        described.current_key_material_id.unwrap().to_string().len(),
        64
    );
    let long = CreateKey {
        description: "x".repeat(8193),
    };
    assert_eq!(
        refused(fixture.kms.create_key(&long)),
        "ValidationException"
    );
    let missing = fixture.kms.describe_key(&KeyId::random().into());
    assert_eq!(refused(missing), "NotFoundException");
}

#[test]
fn a_disabled_key_is_refused_until_it_is_enabled() {
    let fixture = Fixture::new();
    let id = fixture.key();
    let key: KeyRef = id.into();
    let kms = &fixture.kms;
    let made = kms.generate_data_key(Via::Volume, &id, &context()).unwrap();
    kms.check_usable(Via::Volume, &id).unwrap();
    kms.disable_key(&key).unwrap();
    kms.disable_key(&key).unwrap();
    assert_eq!(
        kms.describe_key(&key).unwrap().key_state,
        KeyState::Disabled
    );
    let disabled = "DisabledException";
    assert_eq!(refused(kms.check_usable(Via::Volume, &id)), disabled);
    assert_eq!(
        refused(kms.generate_data_key(Via::Volume, &id, &context())),
        disabled
    );
    assert_eq!(
        refused(kms.decrypt_data_key(Via::Volume, &made.blob, &context())),
        disabled
    );
    assert_eq!(refused(kms.encrypt(&key, b"x", &context())), disabled);
    assert_eq!(refused(kms.decrypt(&made.blob, &context(), None)), disabled);
    assert_eq!(refused(kms.enable_key_rotation(&key, None)), disabled);
    assert_eq!(refused(kms.disable_key_rotation(&key)), disabled);
    assert_eq!(refused(kms.rotate_key_on_demand(Via::User, &key)), disabled);
    kms.get_key_rotation_status(&key).unwrap();
    kms.list_key_rotations(&key, IncludeKeyMaterial::All, &Page::default())
        .unwrap();
    kms.create_alias(&alias("alias/a"), &key).unwrap();
    kms.delete_alias(&alias("alias/a")).unwrap();
    kms.enable_key(&key).unwrap();
    kms.enable_key(&key).unwrap();
    kms.check_usable(Via::Volume, &id).unwrap();
    let opened = kms
        .decrypt_data_key(Via::Volume, &made.blob, &context())
        .unwrap();
    assert!(opened.same_as(&made.plaintext));
}

#[test]
fn the_service_key_is_made_once_and_works_through_volumes_only() {
    let fixture = Fixture::new();
    let kms = &fixture.kms;
    let id = kms.service_key(SERVICE).unwrap();
    assert_eq!(kms.service_key(SERVICE).unwrap(), id);
    assert_eq!(fixture.another().service_key(SERVICE).unwrap(), id);
    assert_eq!(kms.resolve(&reference(SERVICE)).unwrap(), id);
    let described = kms.describe_key(&reference(SERVICE)).unwrap();
    assert_eq!(described.key_manager, KeyManager::Service);
    let status = kms.get_key_rotation_status(&id.into()).unwrap();
    assert_eq!(
        (status.key_rotation_enabled, status.rotation_period_in_days),
        (true, Some(365))
    );

    let made = kms.generate_data_key(Via::Volume, &id, &context()).unwrap();
    kms.decrypt_data_key(Via::Volume, &made.blob, &context())
        .unwrap();
    kms.check_usable(Via::Volume, &id).unwrap();
    let denied = "AccessDeniedException";
    assert_eq!(refused(kms.check_usable(Via::User, &id)), denied);
    assert_eq!(
        refused(kms.generate_data_key(Via::User, &id, &context())),
        denied
    );
    assert_eq!(refused(kms.decrypt(&made.blob, &context(), None)), denied);
    assert_eq!(refused(kms.encrypt(&id.into(), b"x", &context())), denied);
    assert_eq!(refused(kms.disable_key(&id.into())), denied);
    assert_eq!(refused(kms.disable_key_rotation(&id.into())), denied);
    assert_eq!(
        refused(kms.create_alias(&alias("alias/mine"), &id.into())),
        denied
    );
    let rotated = kms.rotate_key_on_demand(Via::User, &id.into());
    assert_eq!(refused(rotated), "UnsupportedOperationException");
    kms.rotate_key_on_demand(Via::Volume, &id.into()).unwrap();
    kms.decrypt_data_key(Via::Volume, &made.blob, &context())
        .unwrap();
    assert_eq!(
        refused(kms.service_key("alias/mine")),
        "ValidationException"
    );
}

#[test]
fn keys_are_listed_in_pages() {
    let fixture = Fixture::new();
    let ids: Vec<KeyId> = (0..7).map(|_| fixture.key()).collect();
    let all = fixture.kms.list_keys(&Page::default()).unwrap();
    assert_eq!(all.keys.iter().map(|e| e.key_id).collect::<Vec<_>>(), ids);
    assert!(all.next_marker.is_none());
    let mut seen = Vec::new();
    let mut page = Page {
        limit: Some(3),
        marker: None,
    };
    loop {
        let part = fixture.kms.list_keys(&page).unwrap();
        assert!(part.keys.len() <= 3);
        seen.extend(part.keys.iter().map(|e| e.key_id));
        page.marker = part.next_marker;
        if page.marker.is_none() {
            break;
        }
    }
    assert_eq!(seen, ids);
    for limit in [0, 1001] {
        let page = Page {
            limit: Some(limit),
            marker: None,
        };
        assert_eq!(refused(fixture.kms.list_keys(&page)), "ValidationException");
    }
    let exact = Page {
        limit: Some(7),
        marker: None,
    };
    assert!(fixture.kms.list_keys(&exact).unwrap().next_marker.is_none());
    let bad = Page {
        limit: None,
        marker: Some("nonsense".to_owned()),
    };
    assert_eq!(
        refused(fixture.kms.list_keys(&bad)),
        "InvalidMarkerException"
    );
}
