//! Ids, ARNs, alias names, contexts, dates.

use super::*;

#[test]
fn key_ids_are_read_as_they_are_written() {
    let id = KeyId::random();
    let text = id.to_string();
    assert_eq!(
        (text.len(), &text[14..15]),
        (36, "4"),
        "a version 4 UUID: {text}"
    );
    assert_eq!(text.parse::<KeyId>().unwrap(), id);
    let regional = KeyId::new([0xab; 16], true);
    assert_eq!(regional.to_string(), format!("mrk-{}", "ab".repeat(16)));
    assert_eq!(regional.to_string().parse::<KeyId>().unwrap(), regional);
    let bad = [
        "",
        "x",
        "mrk-",
        "1234abcd-12ab-34cd-56ef-1234567890a",
        "1234abcd12ab34cd56ef1234567890ab",
    ];
    for text in bad.into_iter().chain([
        "1234abcd-12ab-34cd-56ef-1234567890aé",
        "-234abcd-12ab-34cd-56ef-1234567890ab",
    ]) {
        assert_eq!(
            refused(text.parse::<KeyId>()),
            "NotFoundException",
            "{text}"
        );
    }
}

#[test]
fn references_are_read_in_all_four_forms() {
    let id = KeyId::random();
    let arn = format!("arn:aws:kms:us-east-1:000000000000:key/{id}");
    for text in [
        id.to_string(),
        arn,
        "alias/a/b".into(),
        "arn:aws:kms:eu-west-1:123456789012:alias/x".into(),
    ] {
        assert_eq!(reference(&text).to_string(), text);
    }
    assert!(matches!(reference(&id.to_string()), KeyRef::Id(read) if read == id));
    for text in [
        "arn:",
        "arn:aws:s3:::bucket",
        "arn:aws:kms:us-east-1:1:key/x",
        "arn:aws:kms:us-east-1:000000000000:other/x",
    ] {
        assert_eq!(
            refused(text.parse::<KeyRef>()),
            "InvalidArnException",
            "{text}"
        );
    }
}

#[test]
fn alias_names_follow_the_rules() {
    assert!("alias/ExampleAlias-1_2/3".parse::<AliasName>().is_ok());
    assert!(
        format!("alias/{}", "a".repeat(250))
            .parse::<AliasName>()
            .is_ok()
    );
    for text in [
        "example",
        "alias/",
        "alias/with space",
        "alias/ümlaut",
        "alias/a:b",
        "Alias/x",
    ] {
        assert_eq!(
            refused(text.parse::<AliasName>()),
            "InvalidAliasNameException",
            "{text}"
        );
    }
    let long = format!("alias/{}", "a".repeat(251));
    assert_eq!(refused(long.parse::<AliasName>()), "ValidationException");
}

#[test]
fn another_region_or_account_is_another_keystores() {
    let fixture = Fixture::new();
    let id = fixture.key();
    let arn = fixture.kms.key_arn(&id);
    assert_eq!(arn, format!("arn:aws:kms:us-east-1:000000000000:key/{id}"));
    assert_eq!(fixture.kms.resolve(&reference(&arn)).unwrap(), id);
    for other in [
        arn.replace("us-east-1", "eu-west-1"),
        arn.replace("000000000000", "111122223333"),
    ] {
        assert_eq!(
            refused(fixture.kms.resolve(&reference(&other))),
            "NotFoundException"
        );
    }
}

#[test]
fn account_and_region_are_checked() {
    let dir = TempDir::new().unwrap();
    for (account_id, region) in [
        ("12", "us-east-1"),
        ("00000000000x", "us-east-1"),
        ("000000000000", "US EAST"),
    ] {
        let options = CreateOptions {
            account_id: account_id.into(),
            region: region.into(),
        };
        assert_eq!(
            refused(Kms::create(&dir.path().join("k"), &key_input(1), &options)),
            "ValidationException"
        );
    }
}

#[test]
fn different_contexts_have_different_bytes() {
    let one = EncryptionContext::new().with("a", "bc").with("d", "");
    let two = EncryptionContext::new().with("ab", "c").with("d", "");
    let three = EncryptionContext::new().with("a", "bc");
    assert_ne!(one.canonical(), two.canonical());
    assert_ne!(one.canonical(), three.canonical());
    let same: EncryptionContext = [("d", ""), ("a", "bc")].into_iter().collect();
    assert_eq!(
        one.canonical(),
        same.canonical(),
        "the order of writing does not count"
    );
    assert_eq!(hex::encode(three.canonical()), "0100000061020000006263");
}

#[test]
fn contexts_are_recorded_as_serde_writes_them() {
    for (key, value) in [
        ("", ""),
        ("a", "\u{7f}ü"),
        ("a\"", "b\n"),
        ("\\", "\u{1}\t"),
    ] {
        for context in [
            EncryptionContext::new().with(key, value),
            EncryptionContext::new().with(key, value).with("z", "plain"),
        ] {
            let mut written = b"before".to_vec();
            context.write_json(&mut written).unwrap();
            let expected = format!("before{}", serde_json::to_string(&context).unwrap());
            assert_eq!(String::from_utf8(written).unwrap(), expected);
        }
    }
    let mut empty = Vec::new();
    EncryptionContext::new().write_json(&mut empty).unwrap();
    assert_eq!(empty, b"{}");
}

#[test]
fn dates_are_printed_as_by_the_aws_command_line() {
    let show = |millis| Timestamp::from_millis(millis).to_string();
    assert_eq!(show(1_707_934_473_587), "2024-02-14T18:14:33.587000+00:00");
    assert_eq!(show(0), "1970-01-01T00:00:00+00:00");
    assert_eq!(show(951_782_400_000), "2000-02-29T00:00:00+00:00");
    assert_eq!(show(-1), "1969-12-31T23:59:59.999000+00:00");
    assert_eq!(show(4_107_542_399_000), "2100-02-28T23:59:59+00:00");
}
