//! What is in files: reading, writing, space.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{FileExt as _, MetadataExt, OpenOptionsExt};

use rustix::fs::{FallocateFlags, FlockOperation, XattrFlags, fallocate, flock};
use rustix::io::Errno;

use super::*;

fn pattern(len: usize) -> Vec<u8> {
    (0..len)
        .map(|i| (i.wrapping_mul(31) ^ (i >> 8)) as u8)
        .collect()
}

#[test]
fn bytes_come_back_from_any_place() {
    let m = Mounted::new();
    let path = m.path("f");
    let bytes = pattern(3 << 20);
    fs::write(&path, &bytes).unwrap();
    assert_eq!(fs::read(&path).unwrap(), bytes);
    let file = File::open(&path).unwrap();
    for (at, len) in [
        (0, 1),
        (4095, 2),
        (1_048_575, 4097),
        (3 << 20, 10),
        ((3 << 20) - 5, 10),
    ] {
        let mut buf = vec![0; len];
        let got = file.read_at(&mut buf, at as u64).unwrap();
        let end = bytes.len().min(at + len);
        assert_eq!(buf[..got], bytes[at.min(end)..end]);
    }
}

#[test]
fn a_large_write_is_few_requests() {
    let m = Mounted::new();
    fs::write(m.path("f"), vec![1; 8 << 20]).unwrap();
    // 1 MiB each, if the kernel's limit (fs.fuse.max_pages_limit) allows that.
    assert!(m.requests("write") <= 10, "{}", m.requests("write"));
}

#[test]
fn what_the_kernel_need_not_ask_it_asks_once() {
    let m = Mounted::new();
    fs::create_dir(m.path("d")).unwrap();
    for i in 0..20 {
        let path = m.path(&format!("d/{i}"));
        fs::write(&path, "x").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"x");
        assert_eq!(fs::read_dir(m.path("d")).unwrap().count(), i + 1);
    }
    assert_eq!(m.requests("flush"), 1);
    assert_eq!(m.requests("opendir"), 1);
    assert_eq!(
        m.requests("read"),
        20,
        "not again what is in the page cache"
    );
    for _ in 0..10 {
        assert!(!m.path("nothing").exists());
    }
    // One for each of the 20 new files, for d, for this; no more for those that stay.
    assert_eq!(m.requests("lookup"), 22);
}

#[test]
fn pages_are_kept_over_opens_and_right_after_writes() {
    let m = Mounted::new();
    let path = m.file("f", &pattern(10_000), 0o644, 0);
    let first = fs::read(&path).unwrap();
    let reads = m.requests("read");
    assert_eq!(fs::read(&path).unwrap(), first);
    assert_eq!(m.requests("read"), reads);
    let file = OpenOptions::new().write(true).open(&path).unwrap();
    file.write_all_at(b"new", 5000).unwrap();
    assert_eq!(&fs::read(&path).unwrap()[5000..5003], b"new");
    file.set_len(4).unwrap();
    file.set_len(8).unwrap();
    assert_eq!(fs::read(&path).unwrap(), [&first[..4], &[0; 4]].concat());
}

#[test]
fn direct_io_works_at_any_alignment() {
    let m = Mounted::new();
    let path = m.path("f");
    let bytes = pattern(20_000);
    let open = |write: bool| {
        OpenOptions::new()
            .read(true)
            .write(write)
            .create(write)
            .truncate(false)
            .custom_flags(libc::O_DIRECT)
            .open(&path)
            .unwrap()
    };
    let file = open(true);
    file.write_all_at(&bytes[..777], 0).unwrap();
    file.write_all_at(&bytes[777..], 777).unwrap();
    let mut buf = vec![0; 5001];
    open(false).read_exact_at(&mut buf, 3).unwrap();
    assert_eq!(buf, bytes[3..5004]);
    assert_eq!(fs::read(&path).unwrap(), bytes, "through the page cache");
    file.write_all_at(b"direct", 4093).unwrap();
    assert_eq!(&fs::read(&path).unwrap()[4093..4099], b"direct");
    File::options()
        .write(true)
        .open(&path)
        .unwrap()
        .write_all_at(b"cached", 8190)
        .unwrap();
    let mut six = [0; 6];
    file.read_exact_at(&mut six, 8190).unwrap();
    assert_eq!(&six, b"cached");
    // At the end, short.
    assert_eq!(file.read_at(&mut buf, 19_990).unwrap(), 10);
    assert_eq!(file.read_at(&mut buf, 30_000).unwrap(), 0);
}

#[test]
fn opening_to_cut_cuts_and_appends_append() {
    let m = Mounted::new();
    let path = m.file("f", b"0123456789", 0o644, 0);
    let reader = File::open(&path).unwrap();
    let mut file = OpenOptions::new()
        .write(true)
        .truncate(true)
        .open(&path)
        .unwrap();
    assert_eq!(fs::metadata(&path).unwrap().len(), 0);
    assert_eq!(reader.read_at(&mut [0; 4], 0).unwrap(), 0);
    file.write_all(b"abc").unwrap();
    let mut first = OpenOptions::new().append(true).open(&path).unwrap();
    let mut second = OpenOptions::new().append(true).open(&path).unwrap();
    first.write_all(b"1").unwrap();
    second.write_all(b"2").unwrap();
    first.write_all(b"3").unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"abc123");
    let again = OpenOptions::new().write(true).create_new(true).open(&path);
    assert_eq!(errno(again), libc::EEXIST);
}

#[test]
fn a_file_without_a_name_goes_on() {
    let m = Mounted::new();
    let path = m.file("f", b"still", 0o644, 0);
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(&path)
        .unwrap();
    fs::remove_file(&path).unwrap();
    assert!(!path.exists());
    assert_eq!(file.metadata().unwrap().nlink(), 0);
    file.seek(SeekFrom::End(0)).unwrap();
    file.write_all(b" here").unwrap();
    let mut text = String::new();
    file.rewind().unwrap();
    file.read_to_string(&mut text).unwrap();
    assert_eq!(text, "still here");
    file.set_len(2).unwrap();
    assert_eq!(file.metadata().unwrap().len(), 2);
}

#[test]
fn space_is_reserved_punched_and_zeroed() {
    let m = Mounted::new();
    let path = m.path("f");
    fs::write(&path, vec![9; 16384]).unwrap();
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(&path)
        .unwrap();
    let len = || file.metadata().unwrap().len();
    fallocate(&file, FallocateFlags::empty(), 0, 20_000).unwrap();
    assert_eq!(len(), 20_000);
    fallocate(&file, FallocateFlags::KEEP_SIZE, 0, 50_000).unwrap();
    assert_eq!(len(), 20_000);
    let punch = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    fallocate(&file, punch, 4096, 4096).unwrap();
    let zero = FallocateFlags::ZERO_RANGE;
    let bytes = fs::read(&path).unwrap();
    let is = |range: std::ops::Range<usize>, byte| bytes[range].iter().all(|b| *b == byte);
    assert!(is(0..4096, 9) && is(4096..8192, 0) && is(8192..16384, 9) && is(16384..20_000, 0));
    match fallocate(&file, zero | FallocateFlags::KEEP_SIZE, 10_000, 20_000) {
        // Not every filesystem below can.
        Err(Errno::OPNOTSUPP) => {}
        result => {
            result.unwrap();
            assert_eq!(len(), 20_000);
            fallocate(&file, zero, 10_000, 20_000).unwrap();
            assert_eq!(len(), 30_000);
            let bytes = fs::read(&path).unwrap();
            assert!(bytes[10_000..].iter().all(|b| *b == 0) && bytes[9999] == 9);
        }
    }
    let other = fallocate(&file, FallocateFlags::COLLAPSE_RANGE, 0, 4096);
    assert_eq!(other, Err(Errno::OPNOTSUPP));
}

#[test]
fn data_and_holes_are_found() {
    let m = Mounted::new();
    let path = m.path("f");
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .open(&path)
        .unwrap();
    file.set_len(10 << 20).unwrap();
    file.write_all_at(&[1; 4096], 4 << 20).unwrap();
    let seek = |from| rustix::fs::seek(&file, from);
    let data = seek(rustix::fs::SeekFrom::Data(0)).unwrap();
    assert!(data > 0 && data <= 4 << 20, "{data}");
    let hole = seek(rustix::fs::SeekFrom::Hole(data)).unwrap();
    assert!(((4 << 20) + 4096..10 << 20).contains(&hole));
    assert_eq!(seek(rustix::fs::SeekFrom::Data(hole)), Err(Errno::NXIO));
    assert_eq!(seek(rustix::fs::SeekFrom::Hole(11 << 20)), Err(Errno::NXIO));
    assert_eq!(seek(rustix::fs::SeekFrom::Hole(0)).unwrap(), 0);
}

#[test]
fn ranges_are_copied() {
    let m = Mounted::new();
    let bytes = pattern(300_000);
    m.file("from", &bytes, 0o644, 0);
    let from = File::open(m.path("from")).unwrap();
    let to = OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(m.path("to"))
        .unwrap();
    let (mut a, mut b, mut left) = (1000, 5000, 200_000);
    while left > 0 {
        let n = rustix::fs::copy_file_range(&from, Some(&mut a), &to, Some(&mut b), left).unwrap();
        assert_ne!(n, 0);
        left -= n;
    }
    let copy = fs::read(m.path("to")).unwrap();
    assert_eq!(copy[..5000], [0; 5000]);
    assert_eq!(copy[5000..], bytes[1000..201_000]);
    assert_ne!(m.requests("copy_file_range"), 0);
}

#[test]
fn offsets_beyond_all_bounds_are_refused() {
    let m = Mounted::new();
    let file = File::create(m.path("f")).unwrap();
    let last = i64::MAX as u64;
    for offset in [last, last - 1, last - 5000] {
        let code = errno(file.write_at(&[1; 8192], offset));
        assert!([libc::EFBIG, libc::EINVAL].contains(&code), "{code}");
    }
    assert_eq!(file.read_at(&mut [0; 10], last - 20).unwrap_or(0), 0);
    let code = errno(file.set_len(last));
    assert!([libc::EFBIG, libc::EINVAL].contains(&code), "{code}");
    assert_eq!(
        fallocate(&file, FallocateFlags::empty(), last - 5, 10),
        Err(Errno::FBIG)
    );
    assert_eq!(file.metadata().unwrap().len(), 0);
}

/// In another process: one that faults on a page holds its lock on its memory, and threads that
/// serve in the same process need that lock.
#[test]
fn mapped_files_are_shared_and_private() {
    let m = Mounted::new();
    let path = m.file("f", &[b'a'; 8192], 0o644, 0);
    for (access, seen) in [("ACCESS_COPY", b'a'), ("ACCESS_WRITE", b'z')] {
        m.run_as(
            0,
            &format!(
                "python3 -c \"
import mmap
with open('f', 'r+b') as file, mmap.mmap(file.fileno(), 8192, access=mmap.{access}) as map:
    assert map[5000] == ord('a')
    map[5000] = ord('z')
\""
            ),
        );
        File::open(&path).unwrap().sync_all().unwrap();
        assert_eq!(fs::read(&path).unwrap()[5000], seen);
    }
}

#[test]
fn locks_exclude_each_other() {
    let m = Mounted::new();
    let path = m.file("f", b"x", 0o666, 0);
    let (one, two) = (File::open(&path).unwrap(), File::open(&path).unwrap());
    flock(&one, FlockOperation::LockExclusive).unwrap();
    assert_eq!(
        flock(&two, FlockOperation::NonBlockingLockShared),
        Err(Errno::WOULDBLOCK)
    );
    assert!(!m.shell_as(SOMEBODY, "flock -n f true").status.success());
    drop(one);
    flock(&two, FlockOperation::NonBlockingLockShared).unwrap();
    drop(two);
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(&path)
        .unwrap();
    rustix::fs::fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive).unwrap();
    let locked = "import fcntl; fcntl.lockf(open('f', 'r+'), fcntl.LOCK_EX | fcntl.LOCK_NB)";
    let try_lock = format!("python3 -c \"{locked}\" 2>/dev/null");
    assert!(!m.shell_as(SOMEBODY, &try_lock).status.success());
    rustix::fs::fcntl_lock(&file, FlockOperation::Unlock).unwrap();
    m.run_as(SOMEBODY, &try_lock);
}

#[test]
fn syncing_reaches_the_volume() {
    let m = Mounted::new();
    let file = File::create(m.path("f")).unwrap();
    file.sync_all().unwrap();
    file.sync_data().unwrap();
    assert_eq!(m.requests("fsync"), 2);
    File::open(&m.point).unwrap().sync_all().unwrap();
    assert_eq!(m.requests("fsyncdir"), 1);
}

#[test]
fn what_fills_a_new_file_comes_as_it_was_written_and_is_seen_at_once() {
    let m = Mounted::new();
    let path = m.path("f");
    let bytes = pattern(100 << 10);
    let mut filler = OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(&path)
        .unwrap();
    let reader = File::open(&path).unwrap();
    let mut seen = vec![0; bytes.len()];
    // As tar(1) writes: none begins at a block but the first.
    for (i, piece) in bytes.chunks(10_000).enumerate() {
        filler.write_all(piece).unwrap();
        let end = i * 10_000 + piece.len();
        // What was read before is in the page cache; its last page has changed since.
        assert_eq!(reader.read_at(&mut seen, 0).unwrap(), end);
        assert_eq!(seen[..end], bytes[..end]);
    }
    assert_eq!(m.requests("write"), bytes.chunks(10_000).count());
    assert_eq!(m.requests("getxattr"), 0);

    // Overwritten by another way while it is open, and read by a third.
    let other = OpenOptions::new().write(true).open(&path).unwrap();
    other.write_all_at(b"other", 20).unwrap();
    filler.write_all_at(b"filler", 4090).unwrap();
    reader.read_at(&mut seen, 0).unwrap();
    assert_eq!(
        (&seen[20..25], &seen[4090..4096]),
        (&b"other"[..], &b"filler"[..])
    );
}

#[test]
fn without_xattrs_the_kernel_asks_for_none() {
    let with = Mounted::new();
    let without = Mounted::with(&MountOptions {
        xattrs: false,
        ..chosen()
    });
    for (m, code) in [(&with, Errno::NODATA), (&without, Errno::OPNOTSUPP)] {
        let path = m.file("f", b"x", 0o640, 1000);
        let mut value = [0; 16];
        // Of an ACL the kernel says by itself that there is none.
        let acl = ("system.posix_acl_access", Errno::NODATA);
        for (name, code) in [("user.none", code), ("security.none", code), acl] {
            let result = rustix::fs::getxattr(&path, name, &mut value);
            assert_eq!(result, Err(code), "{name}");
        }
        // The mode is checked all the same.
        assert!(!m.shell_as(1001, "cat f").status.success());
        assert_eq!(m.run_as(1000, "cat f"), "x");
    }
    assert!(with.requests("getxattr") > 0);
    assert_eq!(without.requests("getxattr"), 0);
    let set = rustix::fs::setxattr(without.path("f"), "user.a", b"1", XattrFlags::empty());
    assert_eq!(set, Err(Errno::OPNOTSUPP));
}
