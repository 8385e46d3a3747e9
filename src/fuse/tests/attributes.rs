//! Times, modes, owners, extended attributes.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};

use rustix::fs::{
    AtFlags, CWD, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT, XattrFlags, getxattr, listxattr,
    setxattr, utimensat,
};
use rustix::io::Errno;

use super::*;

fn set_times(path: &Path, atime: (i64, i64), mtime: (i64, i64)) {
    let time = |(tv_sec, tv_nsec)| Timespec { tv_sec, tv_nsec };
    let times = Timestamps {
        last_access: time(atime),
        last_modification: time(mtime),
    };
    utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

fn times(path: &Path) -> ((i64, i64), (i64, i64)) {
    let meta = fs::symlink_metadata(path).unwrap();
    (
        (meta.atime(), meta.atime_nsec()),
        (meta.mtime(), meta.mtime_nsec()),
    )
}

#[test]
fn times_are_exact_before_1970_too() {
    let m = Mounted::new();
    let path = m.file("f", b"", 0o644, 0);
    for (atime, mtime) in [
        ((1, 0), (1_700_000_000, 123_456_789)),
        ((-1, 999_999_999), (-2, 750_000_000)),
        ((-1, 0), (0, 1)),
        ((-2_000_000_000, 1), (-2_000_000_000, 0)),
        ((-1, 1), (-1, 500_000_000)),
    ] {
        set_times(&path, atime, mtime);
        assert_eq!(times(&path), (atime, mtime));
    }
}

/// In a build with overflow checks `fuser` negates this number, and its thread ends.
#[test]
fn the_earliest_time_of_all_ends_no_thread() {
    let m = Mounted::new();
    let path = m.file("f", b"", 0o644, 0);
    for _ in 0..8 {
        set_times(&path, (i64::MIN, 1), (i64::MAX, 1));
    }
    assert_eq!(mode(&path), 0o644, "the mount answers");
}

#[test]
fn now_and_omit_are_told_apart() {
    let m = Mounted::new();
    let path = m.file("f", b"", 0o644, 0);
    set_times(&path, (5, 6), (7, 8));
    set_times(&path, (0, UTIME_OMIT), (9, 10));
    assert_eq!(times(&path), ((5, 6), (9, 10)));
    set_times(&path, (0, UTIME_NOW), (0, UTIME_OMIT));
    let (atime, mtime) = times(&path);
    assert!(atime.0 > 1_600_000_000);
    assert_eq!(mtime, (9, 10));
}

#[test]
fn set_id_bits_go_when_somebody_writes() {
    let m = Mounted::new();
    let ways = [
        ("write", "printf x | dd of=f conv=notrunc status=none"),
        ("append", "printf x >> f"),
        ("truncate", "truncate -s 1 f"),
        ("open to cut", ": > f"),
        ("fallocate", "fallocate -l 9000 f"),
        ("punch", "fallocate -p -o 0 -l 4096 f"),
        ("copy in", "printf more > g; cp g f"),
    ];
    for (way, script) in ways {
        for (before, after) in [(0o6777, 0o0777), (0o4766, 0o0766), (0o2777, 0o0777)] {
            let path = m.file("f", b"some bytes", before, ELSE);
            assert_eq!(mode(&path), before);
            m.run_as(SOMEBODY, script);
            // Both what the kernel thinks it knows and what is stored.
            assert_eq!(mode(&path), after, "{way}");
            let _ = fs::remove_file(m.path("g"));
        }
    }
}

#[test]
fn set_id_bits_stay_when_root_writes() {
    let m = Mounted::new();
    let path = m.file("f", b"some bytes", 0o6755, ELSE);
    fs::write(&path, "by root").unwrap();
    fs::File::options()
        .write(true)
        .open(&path)
        .unwrap()
        .set_len(2)
        .unwrap();
    assert_eq!(mode(&path), 0o6755);
}

#[test]
fn set_id_bits_go_when_the_owner_changes() {
    let m = Mounted::new();
    let path = m.file("f", b"x", 0o6755, SOMEBODY);
    std::os::unix::fs::chown(&path, Some(ELSE), None).unwrap();
    assert_eq!(mode(&path), 0o0755, "by root");
    // Without group execute, set-group-id is a mark for locks that chown by root leaves.
    let path = m.file("g", b"x", 0o2745, SOMEBODY);
    std::os::unix::fs::chown(&path, Some(ELSE), None).unwrap();
    assert_eq!(mode(&path), 0o2745);
    let path = m.file("h", b"x", 0o6755, SOMEBODY);
    m.run_as(SOMEBODY, "chgrp $(id -g) h");
    assert_eq!(mode(&path), 0o0755, "by the owner");
    let path = m.file("i", b"x", 0o4755, SOMEBODY);
    rustix::fs::chownat(CWD, &path, None, None, AtFlags::empty()).unwrap();
    assert_eq!(mode(&path), 0o0755, "to nobody else");
}

/// A write is one request: the kernel doesn't ask for a file's capabilities before each.
#[test]
fn writing_asks_nothing_beside() {
    let m = Mounted::new();
    let script = "i=0; while [ $i -lt 50 ]; do echo x; i=$((i+1)); done > f";
    m.run_as(SOMEBODY, script);
    assert_eq!(m.requests("write"), 50);
    assert!(m.requests("getxattr") <= 4, "{}", m.requests("getxattr"));
    assert!(m.requests("setattr") <= 3, "{}", m.requests("setattr"));
}

#[test]
fn an_acl_takes_a_foreign_set_group_id_bit() {
    let m = Mounted::new();
    // Owned by somebody, in a group that he isn't in.
    let path = m.path("f");
    fs::write(&path, "x").unwrap();
    std::os::unix::fs::chown(&path, Some(SOMEBODY), Some(ELSE)).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o2755)).unwrap();
    m.run_as(SOMEBODY, "setfacl -m u:1:r f");
    assert_eq!(mode(&path) & 0o7000, 0);
    // In his own group, and by root, it stays.
    let path = m.file("g", b"x", 0o2755, SOMEBODY);
    m.run_as(SOMEBODY, "setfacl -m u:1:r g");
    assert_eq!(mode(&path) & 0o7000, 0o2000);
    m.run_as(0, "setfacl -m u:2:r g");
    assert_eq!(mode(&path) & 0o7000, 0o2000);
}

#[test]
fn acls_are_enforced_and_inherited() {
    let m = Mounted::new();
    m.file("secret", b"text", 0o600, 0);
    assert!(!m.shell_as(SOMEBODY, "cat secret").status.success());
    m.run_as(0, &format!("setfacl -m u:{SOMEBODY}:r secret"));
    assert_eq!(m.run_as(SOMEBODY, "cat secret"), "text");
    assert!(!m.shell_as(ELSE, "cat secret").status.success());
    m.run_as(0, "setfacl -b secret");
    assert!(!m.shell_as(SOMEBODY, "cat secret").status.success());

    m.run_as(
        0,
        &format!("mkdir d; chmod 777 d; setfacl -d -m u:{ELSE}:rwx,g::rwx d"),
    );
    m.run_as(SOMEBODY, "umask 077; echo x > d/f; mkdir d/e");
    assert!(
        m.run_as(0, "getfacl -nc d/f")
            .contains(&format!("user:{ELSE}:rwx"))
    );
    assert!(
        m.run_as(0, "getfacl -nc d/e")
            .contains(&format!("default:user:{ELSE}:rwx"))
    );
    assert_eq!(
        m.run_as(ELSE, "cat d/f"),
        "x",
        "the default ACL stands in for the umask"
    );
}

#[test]
fn the_umask_counts_and_the_maker_owns() {
    let m = Mounted::new();
    m.run_as(
        SOMEBODY,
        "umask 027; echo x > f; mkdir d; mkfifo p; ln -s f l",
    );
    assert_eq!(mode(&m.path("f")), 0o640);
    assert_eq!(mode(&m.path("d")), 0o750);
    assert_eq!(mode(&m.path("p")), 0o640);
    for name in ["f", "d", "p", "l"] {
        let meta = fs::symlink_metadata(m.path(name)).unwrap();
        assert_eq!((meta.uid(), meta.gid()), (SOMEBODY, SOMEBODY), "{name}");
    }
    m.run_as(0, &format!("mkdir s; chgrp {ELSE} s; chmod 2777 s"));
    m.run_as(SOMEBODY, "echo x > s/f; mkdir s/d");
    assert_eq!(fs::metadata(m.path("s/f")).unwrap().gid(), ELSE);
    assert_eq!(mode(&m.path("s/d")) & 0o2000, 0o2000);
}

#[test]
fn extended_attributes_follow_the_size_protocol() {
    let m = Mounted::new();
    let path = m.file("f", b"", 0o644, 0);
    let set = |name: &str, value: &[u8], flags| setxattr(&path, name, value, flags);
    set("user.a", b"12345", XattrFlags::empty()).unwrap();
    assert_eq!(rustix::fs::getxattr_query(&path, "user.a"), Ok(5));
    let mut small = [0u8; 3];
    assert_eq!(getxattr(&path, "user.a", &mut small), Err(Errno::RANGE));
    let mut enough = [0u8; 5];
    assert_eq!(getxattr(&path, "user.a", &mut enough), Ok(5));
    assert_eq!(&enough, b"12345");
    assert_eq!(getxattr(&path, "user.b", &mut enough), Err(Errno::NODATA));
    assert_eq!(set("user.a", b"x", XattrFlags::CREATE), Err(Errno::EXIST));
    assert_eq!(set("user.b", b"x", XattrFlags::REPLACE), Err(Errno::NODATA));
    set("user.b", b"", XattrFlags::CREATE).unwrap();
    assert_eq!(getxattr(&path, "user.b", &mut enough), Ok(0));
    let mut list = [0u8; 100];
    let used = listxattr(&path, &mut list).unwrap();
    let mut names: Vec<_> = list[..used]
        .split(|b| *b == 0)
        .filter(|n| !n.is_empty())
        .collect();
    names.sort_unstable();
    assert_eq!(names, [b"user.a", b"user.b"]);
    assert_eq!(listxattr(&path, &mut small), Err(Errno::RANGE));
    rustix::fs::removexattr(&path, "user.a").unwrap();
    assert_eq!(rustix::fs::removexattr(&path, "user.a"), Err(Errno::NODATA));
    let long = vec![7u8; 3000];
    set("trusted.long", &long, XattrFlags::empty()).unwrap();
    let mut back = vec![0u8; 3000];
    assert_eq!(getxattr(&path, "trusted.long", &mut back[..]), Ok(3000));
    assert_eq!(back, long);
}

#[test]
fn ls_asks_for_a_label_once_and_a_label_is_kept() {
    const LABEL: &str = "security.selinux";
    if Path::new("/sys/fs/selinux").exists() {
        return; // SELinux answers for us
    }
    let m = Mounted::new();
    for name in 0..20 {
        m.file(&format!("f{name}"), b"", 0o644, 0);
    }
    m.run_as(0, "ls -l");
    let before = m.requests("getxattr");
    // The kernel knows by now that there are no ACLs.
    m.run_as(0, "ls -l");
    assert!(m.requests("getxattr") <= before + 1);
    let (labelled, label) = (m.path("f7"), b"system_u:object_r:etc_t:s0");
    setxattr(&labelled, LABEL, label, XattrFlags::empty()).unwrap();
    let mut value = [0; 64];
    assert_eq!(getxattr(&labelled, LABEL, &mut value), Ok(label.len()));
    assert_eq!(&value[..label.len()], label);
    let mut list = [0; 100];
    let used = listxattr(&labelled, &mut list).unwrap();
    assert_eq!(&list[..used], b"security.selinux\0");
    let other = getxattr(m.path("f8"), LABEL, &mut value);
    assert_eq!(other, Err(Errno::OPNOTSUPP));
}

#[test]
fn special_files_keep_their_numbers() {
    let m = Mounted::new();
    m.run_as(0, "mknod c c 254 1048575; mknod b b 7 300; mkfifo p");
    let rdev = |name: &str| fs::symlink_metadata(m.path(name)).unwrap().rdev();
    assert_eq!(rdev("c"), rustix::fs::makedev(254, 1_048_575));
    assert_eq!(rdev("b"), rustix::fs::makedev(7, 300));
    assert!(
        fs::symlink_metadata(m.path("p"))
            .unwrap()
            .file_type()
            .is_fifo()
    );
}

#[test]
fn owner_and_permissions_can_be_overridden() {
    let options = MountOptions {
        uid: Some(ELSE),
        gid: Some(7),
        umask: Some(0o027),
        ..chosen()
    };
    let m = Mounted::with(&options);
    fs::write(m.path("f"), "x").unwrap();
    fs::create_dir(m.path("d")).unwrap();
    for name in ["f", "d", "."] {
        let meta = fs::metadata(m.path(name)).unwrap();
        assert_eq!(
            (meta.uid(), meta.gid(), meta.mode() & 0o7777),
            (ELSE, 7, 0o750),
            "{name}"
        );
    }
    m.run_as(ELSE, "cat f > g");
    assert!(!m.shell_as(SOMEBODY, "cat f").status.success());
}

#[test]
fn permissions_are_checked() {
    let m = Mounted::new();
    m.file("f", b"x", 0o600, ELSE);
    assert!(!m.shell_as(SOMEBODY, "cat f").status.success());
    assert!(!m.shell_as(SOMEBODY, "echo >> f").status.success());
    assert!(!m.shell_as(SOMEBODY, "chmod 777 f").status.success());
    m.run_as(ELSE, "cat f; echo more >> f; chmod 640 f");
}

#[test]
fn a_mode_in_open_is_that_of_the_new_file() {
    let m = Mounted::new();
    let path = m.path("f");
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o400)
        .open(&path)
        .unwrap();
    file.write_all(b"x").unwrap();
    assert_eq!(mode(&path), 0o400);
}
