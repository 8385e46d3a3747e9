use clap::Parser;

use super::super::args::{Cli, Command};
use super::*;

fn plan(options: &str, flags: KeystoreArgs) -> MountPlan {
    let options = MountOptions::parse(&[options]).unwrap();
    MountPlan::new("/c".into(), "/m".into(), options, flags)
}

/// The plan that a daemon makes of its arguments.
fn read_back(arguments: Vec<OsString>) -> MountPlan {
    let words = std::iter::once(OsString::from("envelopefs")).chain(arguments);
    let cli = Cli::try_parse_from(words).unwrap();
    let Command::Mount(args) = cli.command else {
        panic!("a mount")
    };
    assert!(args.daemon_child);
    let options = MountOptions::parse(&args.options).unwrap();
    MountPlan::new(args.cipher_dir, args.mountpoint, options, cli.keystore)
}

#[test]
fn the_daemon_is_told_everything() {
    let all =
        r"ro,allow_other,suid,uid=5,fsname=a\,b,subtype=,idle=60s,key-ttl=1s,log=/l,keystore=/k";
    let flags = KeystoreArgs {
        key_file: Some("-odd".into()),
        ..KeystoreArgs::default()
    };
    for plan in [
        plan(all, flags),
        plan("", KeystoreArgs::default()),
        MountPlan::new(
            "-c".into(),
            "-m".into(),
            MountOptions::default(),
            KeystoreArgs::default(),
        ),
    ] {
        assert_eq!(read_back(plan.child_arguments()), plan);
    }
}

#[test]
fn a_flag_overrides_an_option() {
    let flags = KeystoreArgs {
        keystore: Some("/flag".into()),
        ..KeystoreArgs::default()
    };
    let plan = plan("keystore=/option,key-file=/f", flags);
    assert_eq!(plan.keystore.keystore, Some("/flag".into()));
    assert_eq!(plan.keystore.key_file, Some("/f".into()));
    assert_eq!(plan.options.keystore, None);
}

#[test]
fn what_is_asked_for_reaches_the_front_end() {
    let none = KeystoreArgs::default();
    let defaults = plan("", none.clone()).fuse_options().unwrap();
    assert!(defaults.nodev && defaults.nosuid && !defaults.noexec && !defaults.read_only);
    assert_eq!(defaults.fsname.as_deref(), Some("/c"));
    assert_eq!((defaults.subtype, defaults.idle), (None, None));
    let asked = plan(
        "ro,dev,suid,noexec,noatime,uid=1,gid=2,umask=077,idle=1m,subtype=",
        none.clone(),
    );
    let asked = asked.fuse_options().unwrap();
    assert!(!asked.nodev && !asked.nosuid && asked.noexec && asked.noatime && asked.read_only);
    assert_eq!(
        (asked.uid, asked.gid, asked.umask),
        (Some(1), Some(2), Some(0o77))
    );
    assert_eq!(asked.subtype.as_deref(), Some(""));
    assert_eq!(asked.idle, Some(std::time::Duration::from_secs(60)));
    assert_eq!(plan("idle=0", none).fuse_options().unwrap().idle, None);
}

#[test]
fn a_mount_point_in_the_cipher_directory_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let inside = folder.path().join("m");
    std::fs::create_dir(&inside).unwrap();
    for point in [inside.as_path(), folder.path()] {
        let (options, flags) = (MountOptions::default(), KeystoreArgs::default());
        let mut plan = MountPlan::new(folder.path().into(), point.into(), options, flags);
        let error = plan.resolve_places().unwrap_err();
        assert_eq!(super::super::exit::of(&error), Exit::Usage, "{error:#}");
    }
}
