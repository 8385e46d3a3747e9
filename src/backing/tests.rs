//! Each test runs on the disk (`/tmp`) and on tmpfs (`/dev/shm`).

use super::*;

pub(super) fn name(text: &str) -> EntryName {
    EntryName::new(text.as_bytes()).unwrap()
}

/// Runs a test in an empty directory on each kind of filesystem there is.
pub(super) fn everywhere(test: impl Fn(&Os, &OsDir)) {
    for place in ["/tmp", "/dev/shm"] {
        if std::path::Path::new(place).is_dir() {
            let dir = tempfile::Builder::new()
                .prefix("backing-")
                .tempdir_in(place)
                .unwrap();
            let os = Os::open(dir.path()).unwrap();
            test(&os, &os.root().unwrap());
        }
    }
}

/// The errno of a call that must fail.
#[track_caller]
pub(super) fn errno<T>(result: io::Result<T>) -> i32 {
    match result {
        Ok(_) => panic!("this call must fail"),
        Err(error) => error.raw_os_error().expect("an errno"),
    }
}

pub(super) fn make(os: &Os, dir: &OsDir, text: &str, content: &[u8]) -> OsFile {
    let file = os.create_file(dir, &name(text), 0o644).unwrap();
    os.write_at(&file, &mut [IoSlice::new(content)], 0).unwrap();
    file
}

pub(super) fn content(os: &Os, file: &OsFile) -> Vec<u8> {
    let size = os.stat_file(file).unwrap().size as usize;
    let mut all = vec![0; size + 10];
    let got = os
        .read_at(file, &mut [IoSliceMut::new(&mut all)], 0)
        .unwrap();
    assert_eq!(got, size);
    all.truncate(got);
    all
}

static FIXED: EntryName = EntryName::literal("fixed");

#[test]
fn an_entry_name_is_one_component() {
    let cases: [&[u8]; 6] = [b"", b".", b"..", b"a/b", b"/", b"a\0b"];
    for bad in cases {
        assert_eq!(
            errno(EntryName::new(bad)),
            libc::EINVAL,
            "{}",
            bad.escape_ascii()
        );
    }
    assert_eq!(errno(EntryName::new(&[b'x'; 256])), libc::ENAMETOOLONG);
    for good in [&b"a"[..], b"...", b"..a", b"\xff\n ", &[b'x'; 255]] {
        let name = EntryName::new(good).unwrap();
        assert_eq!(name.as_bytes(), good);
        assert_eq!(name.c_str().to_bytes(), good);
    }
    assert_eq!(FIXED, name("fixed"));
    assert_ne!(FIXED, name("fixed2"));
    assert_eq!(
        format!("{:?} {}", name("a\n"), name("b")),
        "EntryName(a\\n) b"
    );
}

#[test]
fn what_is_written_is_read_from_any_pieces() {
    everywhere(|os, root| {
        let file = make(os, root, "f", b"");
        let (ones, twos) = ([1; 1000], [2; 3000]);
        let mut pieces = [IoSlice::new(&ones), IoSlice::new(&[]), IoSlice::new(&twos)];
        os.write_at(&file, &mut pieces, 500).unwrap();
        assert_eq!(os.stat_file(&file).unwrap().size, 4500);
        let (mut x, mut y, mut z) = ([9; 700], [9; 0], [9; 9000]);
        let mut into = [&mut x[..], &mut y, &mut z].map(IoSliceMut::new);
        assert_eq!(os.read_at(&file, &mut into, 0).unwrap(), 4500);
        assert!(x[..500] == [0; 500] && x[500..] == [1; 200]);
        assert!(z[..800] == [1; 800] && z[800..3800] == [2; 3000] && z[3800..] == [9; 5200]);
        assert_eq!(os.read_at(&file, &mut [], 0).unwrap(), 0);
        assert_eq!(
            os.read_at(&file, &mut [IoSliceMut::new(&mut z)], 4500)
                .unwrap(),
            0
        );
        os.write_at(&file, &mut [], 0).unwrap();
    });
}

#[test]
fn more_buffers_than_the_system_takes_at_once() {
    everywhere(|os, root| {
        let file = make(os, root, "f", b"");
        let bytes: Vec<[u8; 3]> = (0..5000u32).map(|i| [i as u8, (i >> 8) as u8, 7]).collect();
        // Empty buffers first: more of them than one call takes.
        let mut out = vec![IoSlice::new(&[]); 1500];
        out.extend(bytes.iter().map(|b| IoSlice::new(b)));
        os.write_at(&file, &mut out, 11).unwrap();
        let mut back = vec![[0; 3]; 5000];
        let mut nothing = [[0u8; 0]; 1500];
        let mut into: Vec<_> = nothing.iter_mut().map(|b| IoSliceMut::new(b)).collect();
        into.extend(back.iter_mut().map(|b| IoSliceMut::new(b)));
        assert_eq!(os.read_at(&file, &mut into, 11).unwrap(), 15000);
        assert_eq!(back, bytes);
    });
}

#[test]
fn offsets_out_of_range_are_refused() {
    everywhere(|os, root| {
        let file = make(os, root, "f", b"abc");
        for offset in [u64::MAX, u64::MAX - 1, 1 << 63] {
            errno(os.read_at(&file, &mut [IoSliceMut::new(&mut [0; 4])], offset));
            errno(os.write_at(&file, &mut [IoSlice::new(b"abcd")], offset));
            errno(os.truncate(&file, offset));
            errno(os.allocate(&file, Allocate::Punch, offset, 4));
            errno(os.allocate(&file, Allocate::Reserve, 0, offset));
        }
        assert_eq!(content(os, &file), b"abc");
    });
}

#[test]
fn create_is_exclusive_and_open_respects_its_mode() {
    everywhere(|os, root| {
        let made = make(os, root, "f", b"abc");
        assert_eq!(errno(os.create_file(root, &name("f"), 0o600)), libc::EEXIST);
        assert_eq!(
            errno(os.open_file(root, &name("no"), OpenFile::READ)),
            libc::ENOENT
        );
        let read = os.open_file(root, &name("f"), OpenFile::READ).unwrap();
        assert_eq!(content(os, &read), b"abc");
        assert_eq!(
            errno(os.write_at(&read, &mut [IoSlice::new(b"x")], 0)),
            libc::EBADF
        );
        let write = OpenFile {
            read: false,
            write: true,
        };
        let write = os.open_file(root, &name("f"), write).unwrap();
        os.write_at(&write, &mut [IoSlice::new(b"x")], 1).unwrap();
        let mut byte = [0];
        assert_eq!(
            errno(os.read_at(&write, &mut [IoSliceMut::new(&mut byte)], 0)),
            libc::EBADF
        );
        assert_eq!(content(os, &made), b"axc");
        let both = os
            .open_file(root, &name("f"), OpenFile::READ_WRITE)
            .unwrap();
        os.write_at(&both, &mut [IoSlice::new(b"y")], 2).unwrap();
        assert_eq!(content(os, &both), b"axy");
    });
}

#[test]
fn size_space_and_holes() {
    everywhere(|os, root| {
        let file = make(os, root, "f", b"");
        os.truncate(&file, 1 << 20).unwrap();
        os.write_at(&file, &mut [IoSlice::new(&[1; 8192])], 64 << 10)
            .unwrap();
        assert_eq!(os.seek(&file, Seek::Data, 0).unwrap(), Some(64 << 10));
        assert_eq!(
            os.seek(&file, Seek::Hole, 64 << 10).unwrap(),
            Some(72 << 10)
        );
        assert_eq!(os.seek(&file, Seek::Data, 80 << 10).unwrap(), None);
        assert_eq!(os.seek(&file, Seek::Hole, 1 << 20).unwrap(), None);
        os.allocate(&file, Allocate::Punch, 64 << 10, 4096).unwrap();
        assert_eq!(os.seek(&file, Seek::Data, 0).unwrap(), Some(68 << 10));
        os.allocate(&file, Allocate::ReserveKeepSize, 1 << 20, 65536)
            .unwrap();
        assert_eq!(os.stat_file(&file).unwrap().size, 1 << 20);
        assert!(os.stat_file(&file).unwrap().blocks >= 128);
        os.allocate(&file, Allocate::Reserve, 1 << 20, 65536)
            .unwrap();
        assert_eq!(os.stat_file(&file).unwrap().size, (1 << 20) + 65536);
        os.truncate(&file, 5).unwrap();
        assert_eq!(content(os, &file), [0; 5]);
    });
}

#[test]
fn syncs_locks_and_statfs_answer() {
    everywhere(|os, root| {
        let file = make(os, root, "f", b"abc");
        os.sync_file(&file, true).unwrap();
        os.sync_file(&file, false).unwrap();
        os.sync_dir(root).unwrap();
        os.sync_all().unwrap();
        let space = os.statfs().unwrap();
        assert!(space.block_size > 0 && space.blocks >= space.blocks_free && space.name_max >= 255);

        let lock = name("lock");
        let exclusive = os.lock(root, &lock, true).unwrap().unwrap();
        assert!(os.lock(root, &lock, true).unwrap().is_none());
        assert!(os.lock(root, &lock, false).unwrap().is_none());
        drop(exclusive);
        let shared = os.lock(root, &lock, false).unwrap().unwrap();
        let another = os.lock(root, &lock, false).unwrap().unwrap();
        assert!(os.lock(root, &lock, true).unwrap().is_none());
        drop((shared, another));
        assert!(os.lock(root, &lock, true).unwrap().is_some());
    });
}

#[test]
fn attributes_of_entries_files_and_directories() {
    everywhere(|os, root| {
        let file = make(os, root, "f", b"abc");
        os.mkdir(root, &name("d"), 0o700).unwrap();
        let dir = os.open_dir(root, &name("d")).unwrap();
        let here = At::Entry(root, &name("f"));
        for (i, at) in (1u32..).zip([here, At::File(&file)]) {
            os.set_mode(at, 0o6750 + i).unwrap();
            let (atime, mtime) = (
                Time {
                    secs: -5,
                    nanos: 999_999_999,
                },
                Time { secs: 7, nanos: i },
            );
            os.set_times(at, SetTime::At(atime), SetTime::At(mtime))
                .unwrap();
            let stat = os.stat(root, &name("f")).unwrap();
            assert_eq!(stat, os.stat_file(&file).unwrap());
            assert_eq!(
                (stat.kind(), stat.permissions()),
                (Some(Kind::File), 0o6750 + i)
            );
            assert_eq!((stat.size, stat.nlink), (3, 1));
            assert_eq!((stat.atime, stat.mtime), (atime, mtime));
            assert!(stat.ctime.secs > 1_600_000_000);

            os.set_times(at, SetTime::Omit, SetTime::Now).unwrap();
            let stat = os.stat_file(&file).unwrap();
            assert_eq!(stat.atime, atime);
            assert!(stat.mtime.secs > 1_600_000_000);
            let wrong = SetTime::At(Time {
                secs: 0,
                nanos: 1_000_000_000,
            });
            assert_eq!(errno(os.set_times(at, wrong, SetTime::Omit)), libc::EINVAL);
            let as_now = SetTime::At(Time {
                secs: 0,
                nanos: libc::UTIME_NOW as u32,
            });
            assert_eq!(errno(os.set_times(at, as_now, SetTime::Omit)), libc::EINVAL);
        }
        for at in [At::Entry(root, &name("d")), At::Dir(&dir)] {
            os.set_mode(at, 0o1711).unwrap();
            let time = Time {
                secs: 1 << 31,
                nanos: 5,
            };
            os.set_times(at, SetTime::Now, SetTime::At(time)).unwrap();
            let stat = os.stat_dir(&dir).unwrap();
            assert_eq!(stat, os.stat(root, &name("d")).unwrap());
            assert_eq!((stat.kind(), stat.permissions()), (Some(Kind::Dir), 0o1711));
            assert_eq!(stat.mtime, time);
            os.set_mode(at, 0o700).unwrap();
        }
        assert_ne!(
            os.stat_dir(root).unwrap().ino,
            os.stat_dir(&dir).unwrap().ino
        );
        assert_eq!(errno(os.stat(root, &name("no"))), libc::ENOENT);
    });
}

#[test]
fn owners() {
    if !rustix::process::geteuid().is_root() {
        return; // Only root gives files away.
    }
    everywhere(|os, root| {
        let file = make(os, root, "f", b"");
        os.mkdir(root, &name("d"), 0o700).unwrap();
        os.symlink(root, &name("s"), b"f").unwrap();
        let dir = os.open_dir(root, &name("d")).unwrap();
        os.set_owner(At::Entry(root, &name("s")), Some(9), Some(10))
            .unwrap();
        let stat = os.stat(root, &name("s")).unwrap();
        assert_eq!((stat.uid, stat.gid), (9, 10));
        for at in [At::File(&file), At::Dir(&dir), At::Entry(root, &name("f"))] {
            os.set_owner(at, Some(1), None).unwrap();
            os.set_owner(at, None, Some(2)).unwrap();
            os.set_owner(at, None, None).unwrap();
            assert_eq!(errno(os.set_owner(at, Some(u32::MAX), None)), libc::EINVAL);
            assert_eq!(errno(os.set_owner(at, None, Some(u32::MAX))), libc::EINVAL);
        }
        for stat in [os.stat_file(&file).unwrap(), os.stat_dir(&dir).unwrap()] {
            assert_eq!((stat.uid, stat.gid), (1, 2));
        }
    });
}

#[test]
fn names_come_go_and_move() {
    everywhere(|os, root| {
        let [f, g, d, e, no] = ["f", "g", "d", "e", "no"].map(name);
        make(os, root, "f", b"f");
        os.mkdir(root, &d, 0o755).unwrap();
        let dir = os.open_dir(root, &d).unwrap();
        os.link(root, &f, &dir, &g).unwrap();
        assert_eq!(os.stat(root, &f).unwrap().nlink, 2);
        assert_eq!(
            os.stat(root, &f).unwrap().ino,
            os.stat(&dir, &g).unwrap().ino
        );
        assert_eq!(errno(os.link(root, &f, &dir, &g)), libc::EEXIST);
        assert_eq!(errno(os.rmdir(root, &d)), libc::ENOTEMPTY);
        assert_eq!(errno(os.rmdir(root, &f)), libc::ENOTDIR);
        assert_eq!(errno(os.unlink(root, &d)), libc::EISDIR);

        make(os, root, "e", b"e");
        let rename = |from, to, how| os.rename(root, from, root, to, how);
        assert_eq!(errno(rename(&f, &e, Rename::NoReplace)), libc::EEXIST);
        rename(&f, &e, Rename::Exchange).unwrap();
        assert_eq!(os.stat(root, &e).unwrap().nlink, 2);
        assert_eq!(errno(rename(&f, &no, Rename::Exchange)), libc::ENOENT);
        rename(&f, &e, Rename::Plain).unwrap();
        assert_eq!(os.stat(root, &e).unwrap().nlink, 1);
        assert_eq!(errno(os.stat(root, &f)), libc::ENOENT);
        os.rename(root, &e, &dir, &f, Rename::NoReplace).unwrap();
        os.unlink(&dir, &f).unwrap();
        os.unlink(&dir, &g).unwrap();
        os.rmdir(root, &d).unwrap();
        assert_eq!(errno(os.unlink(root, &d)), libc::ENOENT);
        assert_eq!(os.stat_dir(&dir).unwrap().nlink, 0);
    });
}

#[test]
fn symlinks_keep_any_target() {
    everywhere(|os, root| {
        for target in [
            &b"x"[..],
            b"../../etc/passwd",
            b"\xff\n",
            &[b'a'; 255],
            &[b'a'; 4095],
        ] {
            os.symlink(root, &name("s"), target).unwrap();
            assert_eq!(os.readlink(root, &name("s")).unwrap(), target);
            assert_eq!(os.stat(root, &name("s")).unwrap().size, target.len() as u64);
            os.unlink(root, &name("s")).unwrap();
        }
        assert_eq!(
            errno(os.symlink(root, &name("s"), &[b'a'; 4096])),
            libc::ENAMETOOLONG
        );
        assert_eq!(errno(os.symlink(root, &name("s"), b"")), libc::ENOENT);
        assert_eq!(errno(os.symlink(root, &name("s"), b"a\0b")), libc::EINVAL);
        make(os, root, "f", b"");
        assert_eq!(errno(os.readlink(root, &name("f"))), libc::EINVAL);
    });
}

#[test]
fn special_files() {
    let device = u64::from(libc::makedev(1, 3) as u32);
    let mut cases = vec![(Kind::Fifo, 0), (Kind::Socket, 0)];
    if rustix::process::geteuid().is_root() {
        cases.extend([(Kind::CharDevice, device), (Kind::BlockDevice, 7 << 8 | 1)]);
    }
    everywhere(|os, root| {
        for (kind, rdev) in cases.clone() {
            os.mknod(root, &name("n"), kind.mode_bits() | 0o640, rdev)
                .unwrap();
            let stat = os.stat(root, &name("n")).unwrap();
            assert_eq!((stat.kind(), stat.rdev), (Some(kind), rdev));
            assert_eq!(stat.permissions() & !0o640, 0);
            os.set_mode(At::Entry(root, &name("n")), 0o604).unwrap();
            assert_eq!(os.stat(root, &name("n")).unwrap().permissions(), 0o604);
            os.unlink(root, &name("n")).unwrap();
        }
        for kind in [Kind::File, Kind::Dir, Kind::Symlink] {
            assert_eq!(
                errno(os.mknod(root, &name("n"), kind.mode_bits(), 0)),
                libc::EINVAL
            );
        }
        let mode = Kind::CharDevice.mode_bits();
        assert_eq!(
            errno(os.mknod(root, &name("n"), mode, 1 << 32)),
            libc::EINVAL
        );
    });
}

#[test]
fn extended_attributes() {
    everywhere(check_extended_attributes);
    // An older kernel.
    os_xattr::forget_at_calls();
    everywhere(check_extended_attributes);
}

fn check_extended_attributes(os: &Os, root: &OsDir) {
    let file = make(os, root, "f", b"");
    os.mkdir(root, &name("d"), 0o700).unwrap();
    let dir = os.open_dir(root, &name("d")).unwrap();
    // Longer than the buffer that is tried first; ext4 takes one block in all.
    let long = vec![7; 1500];
    for at in [At::Entry(root, &name("f")), At::File(&file), At::Dir(&dir)] {
        assert_eq!(os.get_xattr(at, b"user.a").unwrap(), None);
        assert_eq!(errno(os.remove_xattr(at, b"user.a")), libc::ENODATA);
        assert_eq!(
            errno(os.set_xattr(at, b"user.a", b"", XattrMode::Replace)),
            libc::ENODATA
        );
        os.set_xattr(at, b"user.a", b"", XattrMode::Create).unwrap();
        assert_eq!(os.get_xattr(at, b"user.a").unwrap().unwrap(), b"");
        assert_eq!(
            errno(os.set_xattr(at, b"user.a", b"", XattrMode::Create)),
            libc::EEXIST
        );
        os.set_xattr(at, b"user.a", &long, XattrMode::Replace)
            .unwrap();
        assert_eq!(os.get_xattr(at, b"user.a").unwrap().unwrap(), long);
        let many: Vec<_> = (0..12)
            .map(|i| format!("user.{i:0>60}").into_bytes())
            .collect();
        for name in &many {
            os.set_xattr(at, name, b"1", XattrMode::Any).unwrap();
        }
        let mut names = os.list_xattr(at).unwrap();
        names.retain(|name| name.starts_with(b"user."));
        names.sort();
        assert_eq!(names.len(), 13);
        assert_eq!(&names[..12], &many[..]);
        for name in names {
            os.remove_xattr(at, &name).unwrap();
        }
        errno(os.get_xattr(at, b""));
        assert_eq!(errno(os.get_xattr(at, b"user.a\0b")), libc::EINVAL);
        assert_eq!(errno(os.get_xattr(at, b"nonsense.a")), libc::EOPNOTSUPP);
    }
    assert_eq!(
        errno(os.get_xattr(At::Entry(root, &name("no")), b"user.a")),
        libc::ENOENT
    );
}
