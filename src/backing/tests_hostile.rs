//! What someone who can write to the cipher directory may plant there.

use std::os::fd::AsFd;
use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

use rustix::fs::Mode;

use super::tests::{content, errno, everywhere, make, name};
use super::*;

#[test]
fn no_call_follows_a_planted_symlink() {
    everywhere(|os, root| {
        os.mkdir(root, &name("d"), 0o700).unwrap();
        let file = make(os, root, "f", b"abc");
        let before = os.stat_file(&file).unwrap();
        for (link, target) in [
            ("to-d", "d"),
            ("to-f", "f"),
            ("out", "/etc/passwd"),
            ("self", "self"),
        ] {
            os.symlink(root, &name(link), target.as_bytes()).unwrap();
        }
        for link in ["to-d", "to-f", "out", "self"].map(name) {
            assert_eq!(os.stat(root, &link).unwrap().kind(), Some(Kind::Symlink));
            assert_eq!(
                errno(os.open_file(root, &link, OpenFile::READ)),
                libc::ELOOP
            );
            assert_eq!(
                errno(os.open_file(root, &link, OpenFile::READ_WRITE)),
                libc::ELOOP
            );
            assert_eq!(errno(os.create_file(root, &link, 0o600)), libc::EEXIST);
            assert!([libc::ELOOP, libc::ENOTDIR].contains(&errno(os.open_dir(root, &link))));
            assert_eq!(errno(os.lock(root, &link, true)), libc::ELOOP);
            let at = At::Entry(root, &link);
            assert_eq!(errno(os.set_mode(at, 0o777)), libc::EOPNOTSUPP);
            let through_proc =
                os_attr::set_mode_through_proc(root.fd.as_fd(), &link, Mode::from_raw_mode(0o777));
            assert_eq!(errno(through_proc), libc::EOPNOTSUPP);
            let time = Time { secs: 1, nanos: 2 };
            os.set_times(at, SetTime::At(time), SetTime::At(time))
                .unwrap();
            assert_eq!(os.stat(root, &link).unwrap().mtime, time);
            errno(os.set_xattr(at, b"user.a", b"b", XattrMode::Any)); // none on symlinks
            os.link(root, &link, root, &name("second")).unwrap();
            assert_eq!(
                os.stat(root, &name("second")).unwrap().kind(),
                Some(Kind::Symlink)
            );
            os.unlink(root, &name("second")).unwrap();
            assert_eq!(errno(os.rmdir(root, &link)), libc::ENOTDIR);
        }
        let after = os.stat_file(&file).unwrap();
        assert_eq!(
            (after.mode, after.mtime, after.nlink),
            (before.mode, before.mtime, 1)
        );
        assert_eq!(os.list_xattr(At::File(&file)).unwrap().len(), 0);
        assert_eq!(content(os, &file), b"abc");
    });
}

#[test]
fn the_way_through_proc_changes_the_mode_too() {
    everywhere(|os, root| {
        make(os, root, "f", b"");
        let mode = Mode::from_raw_mode(0o4711);
        os_attr::set_mode_through_proc(root.fd.as_fd(), &name("f"), mode).unwrap();
        assert_eq!(os.stat(root, &name("f")).unwrap().permissions(), 0o4711);
    });
}

#[test]
fn a_planted_fifo_never_blocks_and_a_device_is_never_opened() {
    let (done, finished) = mpsc::channel();
    std::thread::spawn(move || {
        everywhere(|os, root| {
            let mut cases = vec![(Kind::Fifo, 0), (Kind::Socket, 0)];
            if rustix::process::geteuid().is_root() {
                // /dev/null and a device that no driver has.
                cases.extend([(Kind::CharDevice, 0x103), (Kind::BlockDevice, 0xfe_fe)]);
            }
            for (kind, rdev) in cases {
                let n = name("n");
                os.mknod(root, &n, kind.mode_bits() | 0o666, rdev).unwrap();
                for how in [
                    OpenFile::READ,
                    OpenFile::READ_WRITE,
                    OpenFile {
                        read: false,
                        write: true,
                    },
                ] {
                    assert_eq!(errno(os.open_file(root, &n, how)), libc::ENXIO, "{kind:?}");
                }
                assert_eq!(errno(os.create_file(root, &n, 0o600)), libc::EEXIST);
                assert_eq!(errno(os.open_dir(root, &n)), libc::ENOTDIR);
                assert_eq!(errno(os.lock(root, &n, true)), libc::ENXIO);
                errno(os.readlink(root, &n));
                os.unlink(root, &n).unwrap();
            }
            os.mkdir(root, &name("d"), 0o700).unwrap();
            assert_eq!(
                errno(os.open_file(root, &name("d"), OpenFile::READ)),
                libc::EISDIR
            );
        });
        done.send(()).unwrap();
    });
    finished
        .recv_timeout(Duration::from_secs(20))
        .expect("nothing blocks, no assertion fails");
}

#[test]
fn a_directory_moved_away_or_removed_stays_the_same_directory() {
    everywhere(|os, root| {
        let [a, b] = ["a", "b"].map(name);
        os.mkdir(root, &a, 0o700).unwrap();
        let dir = os.open_dir(root, &a).unwrap();
        os.rename(root, &a, root, &b, Rename::Plain).unwrap();
        // Someone puts a symlink where it was.
        os.symlink(root, &a, b"/etc").unwrap();
        make(os, &dir, "passwd", b"ours");
        os.set_xattr(
            At::Entry(&dir, &name("passwd")),
            b"user.a",
            b"1",
            XattrMode::Any,
        )
        .unwrap();
        let file = os.open_file(&dir, &name("passwd"), OpenFile::READ).unwrap();
        assert_eq!(content(os, &file), b"ours");
        assert_eq!(
            os.get_xattr(At::File(&file), b"user.a").unwrap().unwrap(),
            b"1"
        );
        os.unlink(&dir, &name("passwd")).unwrap();
        os.rmdir(root, &b).unwrap();
        assert_eq!(errno(os.create_file(&dir, &name("f"), 0o600)), libc::ENOENT);
    });
}

#[test]
fn another_filesystem_mounted_below_is_refused() {
    // The root of the system has other filesystems mounted on it.
    let os = Os::open(Path::new("/")).unwrap();
    let root = os.root().unwrap();
    let own = os.stat_dir(&root).unwrap().dev;
    let mounted = ["proc", "sys", "dev", "run"].map(name);
    let mut met = 0;
    for name in &mounted {
        if os.stat(&root, name).is_ok_and(|stat| stat.dev != own) {
            assert_eq!(errno(os.open_dir(&root, name)), libc::EXDEV);
            met += 1;
        }
    }
    assert!(met > 0, "/proc at least is mounted");
}
