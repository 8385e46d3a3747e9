use super::*;

#[test]
fn names_are_escaped_for_the_helper() {
    let options = MountOptions {
        fsname: Some("a,b\\c".to_owned()),
        subtype: Some(String::new()),
        allow_other: false,
        ..MountOptions::new()
    };
    assert_eq!(
        helper_options(&options),
        "fsname=a\\,b\\\\c,default_permissions,nodev,nosuid"
    );
}

#[test]
fn names_that_would_break_the_mount_table_are_refused() {
    let options = MountOptions {
        subtype: Some("a,b".to_owned()),
        ..MountOptions::new()
    };
    assert!(matches!(
        check(&options),
        Err(FuseError::Option {
            option: "subtype",
            ..
        })
    ));
    let options = MountOptions {
        fsname: Some("a\nb".to_owned()),
        ..MountOptions::new()
    };
    assert!(matches!(
        check(&options),
        Err(FuseError::Option {
            option: "fsname",
            ..
        })
    ));
}
