//! Aliases.

use super::api::Page;
use super::*;

#[test]
fn an_alias_points_to_a_key_and_can_move() {
    let fixture = Fixture::new();
    let kms = &fixture.kms;
    let (one, two) = (fixture.key(), fixture.key());
    let name = alias("alias/backup");
    kms.create_alias(&name, &one.into()).unwrap();
    assert_eq!(kms.resolve(&reference("alias/backup")).unwrap(), one);
    let arn = "arn:aws:kms:us-east-1:000000000000:alias/backup";
    assert_eq!(kms.resolve(&reference(arn)).unwrap(), one);
    assert_eq!(
        refused(kms.create_alias(&name, &two.into())),
        "AlreadyExistsException"
    );
    let blob = kms.encrypt(&reference(arn), b"x", &context()).unwrap().blob;

    fixture.clock.pass_days(1);
    kms.update_alias(&name, &two.into()).unwrap();
    assert_eq!(kms.resolve(&reference("alias/backup")).unwrap(), two);
    kms.decrypt(&blob, &context(), None).unwrap();
    let listed = kms
        .list_aliases(Some(&two.into()), &Page::default())
        .unwrap()
        .aliases;
    assert_eq!(listed.len(), 1);
    assert_eq!(
        (listed[0].alias_name.as_str(), listed[0].alias_arn.as_str()),
        ("alias/backup", arn)
    );
    assert_eq!(listed[0].target_key_id, two);
    assert_eq!(
        listed[0].last_updated_date,
        listed[0].creation_date.plus_days(1)
    );
    assert!(
        kms.list_aliases(Some(&one.into()), &Page::default())
            .unwrap()
            .aliases
            .is_empty()
    );

    kms.delete_alias(&name).unwrap();
    assert_eq!(refused(kms.delete_alias(&name)), "NotFoundException");
    assert_eq!(
        refused(kms.update_alias(&name, &one.into())),
        "NotFoundException"
    );
    assert_eq!(
        refused(kms.resolve(&reference("alias/backup"))),
        "NotFoundException"
    );
    kms.describe_key(&two.into()).unwrap();
}

#[test]
fn operations_that_change_a_key_take_no_alias() {
    let fixture = Fixture::new();
    let kms = &fixture.kms;
    let key = fixture.key();
    kms.create_alias(&alias("alias/a"), &key.into()).unwrap();
    let by_alias = reference("alias/a");
    let not_found = "NotFoundException";
    assert_eq!(refused(kms.disable_key(&by_alias)), not_found);
    assert_eq!(refused(kms.enable_key(&by_alias)), not_found);
    assert_eq!(refused(kms.enable_key_rotation(&by_alias, None)), not_found);
    assert_eq!(
        refused(kms.rotate_key_on_demand(Via::User, &by_alias)),
        not_found
    );
    assert_eq!(
        refused(kms.create_alias(&alias("alias/b"), &by_alias)),
        not_found
    );
    assert_eq!(
        refused(kms.create_alias(&alias("alias/b"), &KeyId::random().into())),
        not_found
    );
    kms.describe_key(&by_alias).unwrap();
}

#[test]
fn reserved_names_are_refused() {
    let fixture = Fixture::new();
    let kms = &fixture.kms;
    let key: KeyRef = fixture.key().into();
    kms.service_key("alias/envelopefs/volume").unwrap();
    for name in [
        "alias/envelopefs/volume",
        "alias/envelopefs/mine",
        "alias/aws/ebs",
    ] {
        let name = alias(name);
        let refusal = "InvalidAliasNameException";
        assert_eq!(refused(kms.create_alias(&name, &key)), refusal);
        assert_eq!(refused(kms.update_alias(&name, &key)), refusal);
        assert_eq!(refused(kms.delete_alias(&name)), refusal);
    }
    kms.create_alias(&alias("alias/envelopefs-mine"), &key)
        .unwrap();
}

#[test]
fn a_key_has_fifty_aliases_at_most_and_they_are_listed_in_pages() {
    let fixture = Fixture::new();
    let kms = &fixture.kms;
    let key: KeyRef = fixture.key().into();
    for n in 0..50 {
        kms.create_alias(&alias(&format!("alias/{n:02}")), &key)
            .unwrap();
    }
    assert_eq!(
        refused(kms.create_alias(&alias("alias/50"), &key)),
        "LimitExceededException"
    );
    let mut names = Vec::new();
    let mut page = Page {
        limit: Some(20),
        marker: None,
    };
    loop {
        let part = kms.list_aliases(None, &page).unwrap();
        names.extend(part.aliases.into_iter().map(|entry| entry.alias_name));
        page.marker = part.next_marker;
        if page.marker.is_none() {
            break;
        }
    }
    let expected: Vec<String> = (0..50).map(|n| format!("alias/{n:02}")).collect();
    assert_eq!(names, expected);
    let keys = Page {
        limit: None,
        marker: kms.list_keys(&Page::default()).unwrap().next_marker,
    };
    assert!(keys.marker.is_none());
    let foreign = Page {
        limit: Some(1),
        marker: None,
    };
    fixture.key();
    let marker = kms.list_keys(&foreign).unwrap().next_marker;
    let crossed = Page {
        limit: None,
        marker,
    };
    assert_eq!(
        refused(kms.list_aliases(None, &crossed)),
        "InvalidMarkerException"
    );
}
