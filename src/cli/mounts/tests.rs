use super::*;

#[test]
fn a_line_of_mountinfo_is_read() {
    let line = br"36 35 98:0 / /mnt/a\040b rw,nosuid,nodev shared:1 master:2 - fuse.envelopefs /srv/\134x rw,user_id=0";
    let mount = parse(line).unwrap();
    assert_eq!(mount.mountpoint, Path::new("/mnt/a b"));
    assert_eq!(mount.kind, FILESYSTEM_TYPE);
    assert_eq!(mount.source, OsString::from(r"/srv/\x"));
    assert_eq!(mount.options, "rw,nosuid,nodev");
    assert!(mount.is_fuse());
    assert_eq!(source_path(&mount.source), Some(Path::new(r"/srv/\x")));
}

#[test]
fn odd_lines_are_left_out() {
    for line in [
        &b""[..],
        b"1 2 3",
        b"36 35 98:0 / /mnt rw shared:1 fuse.x /srv rw",
        b"- - - -",
    ] {
        assert_eq!(parse(line), None);
    }
    assert!(parse(b"1 2 0:1 / /m rw - proc proc rw").is_some_and(|mount| !mount.is_fuse()));
    assert_eq!(unescape(br"\04"), OsString::from(r"\04"));
    assert_eq!(unescape(br"\999\"), OsString::from(r"\999\"));
}

#[test]
fn the_real_table_has_a_root() {
    assert!(at(Path::new("/")).unwrap().is_some());
    assert!(
        at(Path::new("/proc"))
            .unwrap()
            .is_some_and(|mount| mount.kind == "proc")
    );
    assert_eq!(at(Path::new("/proc/self")).unwrap(), None);
    assert_eq!(at(Path::new("/no/such/path")).unwrap(), None);
}

#[test]
fn a_path_is_resolved_up_to_its_last_component() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().canonicalize().unwrap();
    std::fs::create_dir(root.join("d")).unwrap();
    std::os::unix::fs::symlink(root.join("d"), root.join("link")).unwrap();
    assert_eq!(by_parent(&root.join("link/x")).unwrap(), root.join("d/x"));
    assert_eq!(by_parent(&root.join("link")).unwrap(), root.join("link"));
    assert_eq!(by_parent(Path::new("/")).unwrap(), Path::new("/"));
}
