use super::*;
use crate::volume::NodeId;

fn attr(kind: Kind, perm: u16) -> Attr {
    let time = Time {
        secs: 1_700_000_000,
        nanos: 0,
    };
    Attr {
        ino: NodeId(5),
        generation: 0,
        kind,
        perm,
        nlink: 1,
        uid: 1000,
        gid: 100,
        rdev: rustix::fs::makedev(8, 1),
        size: 4096,
        blocks: 8,
        blksize: 4096,
        atime: time,
        mtime: time,
        ctime: time,
    }
}

#[test]
fn modes_look_as_in_ls() {
    assert_eq!(mode(&attr(Kind::File, 0o644)), "-rw-r--r--");
    assert_eq!(mode(&attr(Kind::Dir, 0o1777)), "drwxrwxrwt");
    assert_eq!(mode(&attr(Kind::File, 0o6755)), "-rwsr-sr-x");
    assert_eq!(mode(&attr(Kind::File, 0o7000)), "---S--S--T");
    assert_eq!(mode(&attr(Kind::Symlink, 0o777)), "lrwxrwxrwx");
}

#[test]
fn lines_tell_size_or_device_and_time() {
    assert_eq!(
        long(&attr(Kind::File, 0o644)),
        "-rw-r--r--   1  1000   100         4096 2023-11-14 22:13"
    );
    assert!(long(&attr(Kind::BlockDevice, 0o600)).contains(" 8,1 "));
    assert_eq!(date(Time { secs: -5, nanos: 0 }), "@-5");
}
