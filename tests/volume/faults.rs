//! Calls below that fail: the caller gets the error, the file is as it was, the volume goes on.

use crate::kit::{self, Kit, ME, make, make_with, pattern, read_all};
use envelopefs::backing::{Call, Calls, Repeat};
use envelopefs::maintain::reencrypt::ReencryptOptions;
use envelopefs::maintain::rewrap::RewrapOptions;
use envelopefs::maintain::{self, Silent};
use envelopefs::volume::{FallocateMode, NodeId, OpenMode, SetAttr, VolumeError};

fn is_errno(error: &VolumeError, errno: i32) -> bool {
    matches!(error, VolumeError::Io(error) if error.raw_os_error() == Some(errno))
}

/// Writes that only add: whatever call fails, the file reads as before.
#[test]
fn a_failed_write_of_fresh_blocks_leaves_the_file_as_it_was() {
    let writes: [(usize, u64, usize); 7] = [
        (0, 0, 100),
        (0, 0, 10_000),
        (100, 100, 50),
        (100, 100, 500_000),
        (2000, 9000, 100),
        (8192, 8192, 900_000),
        (4096 * 97, 4096 * 97, 4096 * 200),
    ];
    for (before, at, len) in writes {
        for nth in 1..8 {
            for tear in [None, Some(5000)] {
                let kit = Kit::new();
                let (volume, faults) = kit.open_faulty();
                let content = pattern(before, 1);
                let (attr, handle) = make(&volume, "file");
                if before > 0 {
                    volume.write(handle, 0, &content, false).unwrap();
                }
                if let Some(bytes) = tear {
                    faults.tear_writes(bytes);
                }
                faults.fail_nth(Calls::of(&[Call::WriteAt]), nth, libc::ENOSPC, Repeat::Once);
                let what = format!("{before} bytes, {len} at {at}, call {nth}, torn {tear:?}");
                let result = volume.write(handle, at, &pattern(len, 2), false);
                faults.clear();
                if let Err(error) = result {
                    assert!(is_errno(&error, libc::ENOSPC), "{what}: {error}");
                    assert_eq!(
                        volume.getattr(attr.ino, None).unwrap().size,
                        before as u64,
                        "{what}"
                    );
                    assert!(read_all(&volume, "file").unwrap() == content, "{what}");
                    // And the same write passes when there is room again.
                    volume.write(handle, at, &pattern(len, 2), false).unwrap();
                }
                volume.release(handle).unwrap();
                volume.close().unwrap();
                drop(volume);
                let volume = kit.open();
                let mut right = content.clone();
                right.resize(before.max(at as usize + len), 0);
                right[at as usize..at as usize + len].copy_from_slice(&pattern(len, 2));
                assert!(
                    read_all(&volume, "file").unwrap() == right,
                    "{what}: reopened"
                );
                let report = maintain::fsck::run(&volume, &Silent).unwrap();
                assert!(report.is_clean(), "{what}: {report:?}");
            }
        }
    }
}

/// A request is tried again after "no space", out of the same buffer: an append that failed leaves the
/// plaintext in it, and the file as it was. One that passed left ciphertext in it, as it has no other
/// place to seal in.
#[test]
fn an_append_in_place_that_failed_can_be_tried_again() {
    const BLOCK: usize = 4096;
    // In the head group, into the next one, over a whole group and more, with a ragged end.
    let appends = [
        (3 * BLOCK, 2 * BLOCK),
        (95 * BLOCK, 20 * BLOCK),
        (96 * BLOCK, 300 * BLOCK),
        (200 * BLOCK, 31 * BLOCK + 77),
    ];
    for (before, len) in appends {
        for (promised, tear) in [
            (false, None),
            (false, Some(5000)),
            (true, None),
            (true, Some(0)),
        ] {
            for nth in 1..5 {
                let what = format!("{len} at {before}, call {nth}, {promised}, torn {tear:?}");
                let kit = Kit::new();
                let (volume, faults) = kit.open_faulty();
                let mut right = pattern(before, 1);
                let (attr, handle) = make(&volume, "file");
                volume.write(handle, 0, &right, false).unwrap();
                if promised {
                    volume.fsync(handle, false).unwrap();
                }
                let new = pattern(len, 2);
                let mut buffer = new.clone();
                if let Some(bytes) = tear {
                    faults.tear_writes(bytes);
                }
                faults.fail_nth(Calls::of(&[Call::WriteAt]), nth, libc::ENOSPC, Repeat::Once);
                let at = before as u64;
                let result = volume.write_in_place(handle, at, &mut buffer, false);
                faults.clear();
                if let Err(error) = result {
                    assert!(is_errno(&error, libc::ENOSPC), "{what}: {error}");
                    assert!(buffer == new, "{what}: the buffer");
                    assert_eq!(volume.getattr(attr.ino, None).unwrap().size, at, "{what}");
                    assert!(read_all(&volume, "file").unwrap() == right, "{what}");
                    volume
                        .write_in_place(handle, at, &mut buffer, false)
                        .unwrap();
                } else {
                    assert!(nth > 1, "{what}: nothing failed");
                }
                assert!(buffer != new, "{what}: sealed elsewhere");
                right.extend_from_slice(&new);
                assert!(read_all(&volume, "file").unwrap() == right, "{what}: read");
                volume.release(handle).unwrap();
                volume.close().unwrap();
                drop(volume);
                let volume = kit.open();
                assert!(
                    read_all(&volume, "file").unwrap() == right,
                    "{what}: reopened"
                );
                let report = maintain::fsck::run(&volume, &Silent).unwrap();
                assert!(report.is_clean(), "{what}: {report:?}");
            }
        }
    }
}

/// Overwrites in place that fail: each block reads as its old or its new bytes.
#[test]
fn a_failed_overwrite_leaves_each_block_old_or_new() {
    for nth in 1..5 {
        for tear in [0, 4096, 3 * 4096] {
            let kit = Kit::new();
            let (volume, faults) = kit.open_faulty();
            let (old, new) = (pattern(400 * 4096, 1), pattern(300 * 4096, 2));
            let (_, handle) = make(&volume, "file");
            volume.write(handle, 0, &old, false).unwrap();
            faults.tear_writes(tear);
            faults.fail_nth(Calls::of(&[Call::WriteAt]), nth, libc::EIO, Repeat::Once);
            let result = volume.write(handle, 50 * 4096, &new, false);
            faults.clear();
            let read = read_all(&volume, "file").unwrap();
            assert_eq!(read.len(), old.len());
            for block in 0..400 {
                let got = &read[block * 4096..][..4096];
                let is_old = got == &old[block * 4096..][..4096];
                let is_new =
                    (50..350).contains(&block) && got == &new[(block - 50) * 4096..][..4096];
                assert!(is_old || is_new, "block {block}, call {nth}, torn {tear}");
                assert!(result.is_err() || is_new || !(50..350).contains(&block));
            }
            volume.release(handle).unwrap();
        }
    }
}

/// Every operation with every one of its calls failing in turn: an error or success, never a panic,
/// and the volume is whole afterwards.
#[test]
#[allow(clippy::too_many_lines)] // a table of operations
fn each_call_of_each_operation_fails_once() {
    type Volume = envelopefs::volume::Volume<envelopefs::backing::Faulty<envelopefs::backing::Os>>;
    type Operation = fn(&Volume) -> Result<(), VolumeError>;
    let operations: &[(&str, Operation)] = &[
        ("create", |v| {
            let (_, h) = v.create(&ME, NodeId::ROOT, b"new", 0o644, 0, OpenMode::READ_WRITE)?;
            let result = v.write(h, 0, &[1; 9000], false);
            v.release(h)?;
            result
        }),
        ("create long", |v| {
            let (_, h) = v.create(
                &ME,
                NodeId::ROOT,
                &[b'x'; 255],
                0o644,
                0,
                OpenMode::READ_WRITE,
            )?;
            v.release(h)
        }),
        ("mkdir", |v| {
            v.mkdir(&ME, NodeId::ROOT, b"new", 0o755, 0).map(drop)
        }),
        ("mkdir long", |v| {
            v.mkdir(&ME, NodeId::ROOT, &[b'y'; 255], 0o755, 0).map(drop)
        }),
        ("rmdir", |v| v.rmdir(NodeId::ROOT, b"empty")),
        ("unlink", |v| v.unlink(NodeId::ROOT, b"file")),
        ("symlink", |v| {
            v.symlink(&ME, NodeId::ROOT, b"new", &[b't'; 4000])
                .map(drop)
        }),
        ("link", |v| {
            let node = v.lookup(NodeId::ROOT, b"file")?.ino;
            v.link(node, NodeId::ROOT, b"new").map(drop)
        }),
        ("rename", |v| {
            v.rename(
                NodeId::ROOT,
                b"file",
                NodeId::ROOT,
                b"other",
                envelopefs::backing::Rename::Plain,
            )
        }),
        ("rename dir", |v| {
            v.rename(
                NodeId::ROOT,
                b"full",
                NodeId::ROOT,
                b"empty",
                envelopefs::backing::Rename::Plain,
            )
        }),
        ("truncate", |v| {
            let node = v.lookup(NodeId::ROOT, b"file")?.ino;
            let set = SetAttr {
                size: Some(5000),
                ..SetAttr::default()
            };
            v.setattr(&ME, node, None, &set).map(drop)
        }),
        ("grow", |v| {
            let node = v.lookup(NodeId::ROOT, b"file")?.ino;
            let set = SetAttr {
                size: Some(5_000_000),
                ..SetAttr::default()
            };
            v.setattr(&ME, node, None, &set).map(drop)
        }),
        ("punch", |v| {
            let node = v.lookup(NodeId::ROOT, b"file")?.ino;
            let h = v.open_file(&ME, node, OpenMode::READ_WRITE)?;
            let result = v.fallocate(h, FallocateMode::PunchHole, 100, 9000);
            v.release(h)?;
            result
        }),
        ("xattr", |v| {
            let node = v.lookup(NodeId::ROOT, b"file")?.ino;
            v.set_xattr(
                node,
                b"user.x",
                b"value",
                envelopefs::backing::XattrMode::Any,
            )?;
            v.get_xattr(node, b"user.x").map(drop)
        }),
        ("list", |v| {
            v.readdir_plus(NodeId::ROOT, 0, &mut |_, _| true)
        }),
        ("rewrap", |v| {
            maintain::rewrap::run(v, &RewrapOptions::default(), &Silent).map(drop)
        }),
        ("re-encrypt", |v| {
            maintain::reencrypt::run(v, &ReencryptOptions::default(), &Silent).map(drop)
        }),
    ];
    for (what, operation) in operations {
        for nth in 1.. {
            let kit = Kit::new();
            let (volume, faults) = kit.open_faulty();
            make_with(&volume, "file", &pattern(20_000, 3));
            make_with(&volume, "other", b"other");
            volume.mkdir(&ME, NodeId::ROOT, b"empty", 0o755, 0).unwrap();
            let full = volume
                .mkdir(&ME, NodeId::ROOT, b"full", 0o755, 0)
                .unwrap()
                .ino;
            volume.mknod(&ME, full, b"inside", 0o100_644, 0, 0).unwrap();
            faults.reset_counts();
            faults.fail_nth(Calls::ANY, nth, libc::EIO, Repeat::Once);
            let result = operation(&volume);
            let failed = faults.failed();
            faults.clear();
            drop(result);
            volume.close().unwrap();
            drop(volume);
            let volume = kit.open();
            let report = maintain::fsck::run(&volume, &Silent).unwrap();
            assert!(report.is_clean(), "{what}, call {nth}: {report:?}");
            // What the operation wasn't about is untouched.
            let names = kit::names(&volume, NodeId::ROOT);
            assert!(names.len() >= 2, "{what}, call {nth}: {names:?}");
            if failed == 0 {
                break;
            }
            assert!(nth < 300, "{what} makes more calls than it should");
        }
    }
}
