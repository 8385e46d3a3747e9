use super::super::exit::{self, Exit};
use super::*;

fn parse(words: &[&str]) -> Result<HelperArgs> {
    HelperArgs::parse(words.iter().map(OsString::from))
}

#[test]
fn the_name_decides() {
    for name in [
        "mount.envelopefs",
        "/sbin/mount.fuse.envelopefs",
        "./mount.envelopefs",
    ] {
        assert!(is_helper(OsStr::new(name)), "{name}");
    }
    for name in [
        "envelopefs",
        "/usr/bin/envelopefs",
        "mount.fuse",
        "mount.envelopefs2",
        "",
    ] {
        assert!(!is_helper(OsStr::new(name)), "{name}");
    }
}

#[test]
fn as_mount_calls_it() {
    let options = "rw,nosuid,keystore=/k,passphrase-file=/p";
    let args = parse(&["/c", "/m", "-o", options, "-t", "fuse.envelopefs"]).unwrap();
    assert_eq!((args.spec, args.dir), ("/c".into(), "/m".into()));
    assert_eq!(args.options, MountOptions::parse(&[options]).unwrap());
    assert!(!args.fake);
    assert_eq!(args.namespace, None);
}

#[test]
fn flags_come_single_clustered_and_joined() {
    let args = parse(&[
        "-nv",
        "/c",
        "-fo",
        "ro",
        "/m",
        "-N/proc/1/ns/mnt",
        "-ouid=1",
    ])
    .unwrap();
    assert!(args.fake);
    assert_eq!(args.options.read_only, Some(true));
    assert_eq!(args.options.uid, Some(1));
    assert_eq!(args.namespace, Some("/proc/1/ns/mnt".into()));
    let args = parse(&["-v", "--", "-c", "-m"]).unwrap();
    assert_eq!((args.spec, args.dir), ("-c".into(), "-m".into()));
}

#[test]
fn sloppy_passes_over_unknown_options() {
    assert!(parse(&["/c", "/m", "-s", "-o", "colour=red"]).is_ok());
    let error = parse(&["/c", "/m", "-o", "colour=red"]).unwrap_err();
    assert!(error.to_string().contains("colour=red"));
    assert_eq!(exit::of(&error), Exit::Usage);
}

#[test]
fn a_remount_repeats_the_kernels_words() {
    let kernels = "rw,remount,nosuid,user_id=0,group_id=0,default_permissions,max_read=4096";
    assert!(parse(&["/c", "/m", "-o", kernels]).unwrap().options.remount);
    assert!(parse(&["/c", "/m", "-o", "rw,user_id=0"]).is_err());
    assert!(parse(&["/c", "/m", "-o", "remount,colour=red"]).is_err());
}

#[test]
fn wrong_usage_is_said() {
    for words in [
        &["/c"][..],
        &["/c", "/m", "/x"],
        &["/c", "/m", "-o"],
        &["/c", "/m", "-z"],
        &[],
    ] {
        assert_eq!(
            exit::of(&parse(words).unwrap_err()),
            Exit::Usage,
            "{words:?}"
        );
    }
}

#[test]
fn a_missing_namespace_is_named() {
    let error = enter_namespace(Path::new("/no/such/ns")).unwrap_err();
    assert!(format!("{error:#}").contains("/no/such/ns"));
}
