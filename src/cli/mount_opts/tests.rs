use super::super::exit::{self, Exit};
use super::*;

fn parse(text: &str) -> MountOptions {
    MountOptions::parse(&[text]).unwrap()
}

fn refuse(text: &str) -> String {
    let error = MountOptions::parse(&[text]).unwrap_err();
    assert_eq!(exit::of(&error), Exit::Usage, "{text}");
    format!("{error:#}")
}

#[test]
fn every_option_of_the_manual_is_taken() {
    for (name, _) in table() {
        let text = match name.split_once('=') {
            Some((name, "N")) => format!("{name}=1000"),
            Some((name, "OCTAL")) => format!("{name}=022"),
            Some((name, "TIME")) => format!("{name}=10m"),
            Some((name, "unix:PATH")) => format!("{name}=unix:/a"),
            Some((name, "WAY")) => format!("{name}=dev"),
            Some((name, _)) => format!("{name}=/a"),
            None => name.replace('*', "systemd.automount"),
        };
        MountOptions::parse(&[&text]).unwrap_or_else(|error| panic!("{text}: {error}"));
    }
}

#[test]
fn what_mount_users_type() {
    let options = parse(
        "ro,remount,allow_other,default_permissions,nodev,noexec,nosuid,noatime,noxattr,fsname=f,subtype=s,uid=1,\
         gid=2,umask=077,idle=10m,key-ttl=60s,kms=unix:/s,keystore=/k,passphrase-file=/p,key-file=/f,log=/l,\
         nojournal,auto-rewrap,transport=uring",
    );
    let expected = MountOptions {
        read_only: Some(true),
        remount: true,
        allow_other: true,
        default_permissions: true,
        dev: Some(false),
        exec: Some(false),
        suid: Some(false),
        atime: Some(false),
        xattr: Some(false),
        fsname: Some("f".into()),
        subtype: Some("s".into()),
        uid: Some(1),
        gid: Some(2),
        umask: Some(0o77),
        idle: Some(Duration::from_secs(600)),
        key_ttl: Some(Duration::from_secs(60)),
        kms: Some(KmsAddress::Unix("/s".into())),
        keystore: Some("/k".into()),
        passphrase_file: Some("/p".into()),
        key_file: Some("/f".into()),
        log: Some("/l".into()),
        no_journal: true,
        auto_rewrap: true,
        transport: Some(Transport::Uring),
    };
    assert_eq!(options, expected);
}

#[test]
fn a_later_option_overrides_also_across_flags() {
    assert_eq!(parse("ro,rw").read_only, Some(false));
    let options = MountOptions::parse(&["rw,suid,uid=1", "ro,nosuid", "uid=2"]).unwrap();
    assert_eq!(options.read_only, Some(true));
    assert_eq!(options.suid, Some(false));
    assert_eq!(options.uid, Some(2));
}

#[test]
fn options_of_mount_itself_are_passed_over() {
    let text = "x-systemd.requires=/a,X-mount.mkdir,_netdev,nofail,user,users,auto,noauto,defaults,\
                user=alice,comment=hello,helper=x,nouser,relatime,async,,";
    assert_eq!(parse(text), MountOptions::default());
    assert_eq!(parse(""), MountOptions::default());
}

#[test]
fn unknown_options_are_named() {
    assert!(refuse("ro,alow_other").contains("unknown mount option 'alow_other'"));
    assert!(refuse("colour=red").contains("unknown mount option 'colour=red'"));
    assert!(refuse("ro=1").contains("'ro' takes no value"));
    assert!(refuse("uid").contains("'uid' needs a value"));
    assert!(refuse("RO").contains("'RO'"));
    assert!(refuse("kms=/run/kms").contains("unix:PATH"));
    assert!(refuse("kms=unix:").contains("unix:PATH"));
    assert!(refuse(" ro").contains("' ro'"));
}

#[test]
fn unknown_options_can_be_let_through_by_a_sloppy_mount() {
    let options = MountOptions::parse_with(&["ro,colour=red,exec"], |_| true).unwrap();
    assert_eq!(options.read_only, Some(true));
    assert_eq!(options.exec, Some(true));
    assert!(
        MountOptions::parse_with(&["uid=x"], |_| true).is_err(),
        "a wrong value stays wrong"
    );
}

#[test]
fn commas_and_backslashes_are_escaped() {
    assert_eq!(parse(r"fsname=a\,b,ro").fsname, Some("a,b".into()));
    assert_eq!(parse(r"fsname=a\,b,ro").read_only, Some(true));
    assert_eq!(parse(r"keystore=/a\\,ro").keystore, Some(r"/a\".into()));
    assert_eq!(parse(r"keystore=/a\b").keystore, Some(r"/a\b".into()));
    assert_eq!(parse(r"fsname=end\").fsname, Some(r"end\".into()));
    assert_eq!(parse("keystore=/a=b").keystore, Some("/a=b".into()));
    let raw = OsStr::from_bytes(b"log=/a\xff");
    assert_eq!(
        MountOptions::parse(&[raw]).unwrap().log,
        Some(OsStr::from_bytes(b"/a\xff").into())
    );
}

#[test]
fn an_empty_subtype_is_kept_and_other_values_may_not_be_empty() {
    assert_eq!(parse("subtype=").subtype, Some(OsString::new()));
    for name in ["fsname", "keystore", "passphrase-file", "key-file", "log"] {
        assert!(refuse(&format!("{name}=")).contains("empty"));
    }
}

#[test]
fn times_have_units() {
    for (text, seconds) in [
        ("0", 0),
        ("45", 45),
        ("90s", 90),
        ("10m", 600),
        ("2h", 7200),
    ] {
        assert_eq!(
            parse(&format!("idle={text}")).idle,
            Some(Duration::from_secs(seconds))
        );
    }
    for text in [
        "",
        "m",
        "-1s",
        "+1s",
        "1.5h",
        "1d",
        "10 m",
        "10mm",
        "99999999999999999999",
        "8761h",
    ] {
        assert!(
            refuse(&format!("idle={text}")).contains("a time such as"),
            "{text}"
        );
    }
    assert!(refuse("key-ttl=18446744073709551615h").contains("key-ttl="));
}

#[test]
fn the_transport_is_one_of_three() {
    assert_eq!(parse("transport=auto").transport, Some(Transport::Auto));
    assert_eq!(
        parse("transport=uring,transport=dev").transport,
        Some(Transport::Dev)
    );
    for text in ["transport=", "transport=DEV", "transport=fuse"] {
        assert!(refuse(text).contains("auto, uring or dev"), "{text}");
    }
}

#[test]
fn numbers_are_checked() {
    for text in [
        "uid=",
        "uid=-1",
        "uid=root",
        "uid=4294967295",
        "gid=4294967296",
        "gid= 1",
    ] {
        assert!(refuse(text).contains("numeric id"), "{text}");
    }
    assert_eq!(parse("uid=4294967294").uid, Some(u32::MAX - 1));
    for text in ["umask=8", "umask=1000", "umask=0x1", "umask="] {
        assert!(refuse(text).contains("octal"), "{text}");
    }
    assert_eq!(parse("umask=0022").umask, Some(0o22));
}

#[test]
fn the_text_form_comes_back() {
    let all = "ro,remount,allow_other,default_permissions,dev,exec,suid,atime,nojournal,uid=1,gid=2,umask=27,idle=60s,\
               key-ttl=0s,kms=unix:/s,fsname=a\\,b\\\\,subtype=,keystore=/k,passphrase-file=/p,key-file=/f,log=/l,\
               transport=uring";
    let options = parse(all);
    assert_eq!(options.to_text(), OsString::from(all));
    assert_eq!(MountOptions::parse(&[options.to_text()]).unwrap(), options);
    let none = MountOptions::default();
    assert_eq!(none.to_text(), OsString::new());
}
