//! Changes made below, in the cipher directory: each read gives EIO or the right bytes, never wrong bytes.

use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use crate::kit::{self, Kit, ME, make_with, pattern, read_all};
use envelopefs::maintain::rewrap::RewrapOptions;
use envelopefs::maintain::{self, Silent};
use envelopefs::volume::{NodeId, OpenMode, OpenOptions, SetAttr, VolumeError};

/// The right bytes, or an error that says damage.
fn right_or_refused(result: Result<Vec<u8>, VolumeError>, right: &[u8], what: &str) -> bool {
    match result {
        Ok(bytes) => {
            assert!(bytes == right, "{what}: wrong bytes were handed out");
            true
        }
        Err(VolumeError::Damaged { .. } | VolumeError::Key(_)) => false,
        Err(other) => panic!("{what}: {other:?}"),
    }
}

fn flip(path: &Path, at: u64, mask: u8) {
    let file = fs::File::options()
        .read(true)
        .write(true)
        .open(path)
        .unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ mask], at).unwrap();
}

/// Flips each byte of a cipher file in turn; every flip in a byte that carries meaning is refused.
fn every_byte(content: &[u8], upto: u64, harmless: impl Fn(u64) -> bool) {
    let kit = Kit::new();
    let volume = kit.open();
    make_with(&volume, "file", content);
    volume.close().unwrap();
    drop(volume);
    let path = kit.only_file();
    let size = fs::metadata(&path).unwrap().len();
    for at in 0..upto.min(size) {
        flip(&path, at, 1 << (at % 8));
        let volume = kit.open();
        let same = right_or_refused(read_all(&volume, "file"), content, &format!("byte {at}"));
        assert_eq!(
            same,
            harmless(at),
            "byte {at}: right bytes handed out: {same}"
        );
        volume.close().unwrap();
        drop(volume);
        flip(&path, at, 1 << (at % 8));
    }
    let volume = kit.open();
    assert!(right_or_refused(
        read_all(&volume, "file"),
        content,
        "restored"
    ));
}

#[test]
fn every_byte_of_an_inline_file() {
    // Slot B was never written: what is put there is no valid slot, and slot A still counts.
    every_byte(&pattern(300, 1), 5000, |at| (512..960).contains(&at));
}

#[test]
fn every_byte_of_header_and_entries_of_a_file_in_blocks() {
    let content = pattern(3 * 4096 + 100, 2);
    // Entries 4..95 belong to no block; something there is nobody's. (But see the next test.)
    every_byte(&content, 4096, |at| {
        (512..960).contains(&at) || at >= 1024 + 4 * 32
    });
}

#[test]
fn every_byte_of_both_slots_after_a_rewrap() {
    let kit = Kit::new();
    let volume = kit.open();
    let content = pattern(100, 3);
    make_with(&volume, "file", &content);
    let key = volume.volume_key_id();
    kit.kms.rotate_volume_key(&volume.id(), &key).unwrap();
    maintain::rewrap::run(&volume, &RewrapOptions::default(), &Silent).unwrap();
    volume.close().unwrap();
    drop(volume);
    let path = kit.only_file();
    for at in 64..960 {
        flip(&path, at, 0x10);
        let volume = kit.open();
        let same = right_or_refused(read_all(&volume, "file"), &content, &format!("byte {at}"));
        assert!(
            same,
            "byte {at}: one slot is damaged, the other still opens the file"
        );
        volume.close().unwrap();
        drop(volume);
        flip(&path, at, 0x10);
    }
}

#[test]
fn an_entry_planted_behind_the_end_does_not_come_to_life() {
    let kit = Kit::new();
    let volume = kit.open();
    let node = make_with(&volume, "file", &pattern(2 * 4096, 4));
    volume.close().unwrap();
    drop(volume);
    flip(&kit.only_file(), 1024 + 2 * 32, 0xFF);
    let volume = kit.open();
    volume.lookup(NodeId::ROOT, b"file").unwrap();
    let set = SetAttr {
        size: Some(4 * 4096),
        ..SetAttr::default()
    };
    volume.setattr(&ME, node, None, &set).unwrap();
    let mut right = pattern(2 * 4096, 4);
    right.resize(4 * 4096, 0);
    right_or_refused(
        read_all(&volume, "file"),
        &right,
        "grown over a planted entry",
    );
}

#[test]
fn one_damaged_block_leaves_the_others_readable() {
    let kit = Kit::new();
    let volume = kit.open();
    let content = pattern(300 * 4096, 5);
    make_with(&volume, "file", &content);
    volume.close().unwrap();
    drop(volume);
    let block = 200u64;
    flip(
        &kit.only_file(),
        envelopefs::content::BlockIndex(block).data_at().0 + 17,
        4,
    );
    let volume = kit.open();
    let attr = volume.lookup(NodeId::ROOT, b"file").unwrap();
    let handle = volume.open_file(&ME, attr.ino, OpenMode::READ).unwrap();
    let mut buf = [0; 4096];
    for i in 0..300u64 {
        let result = volume.read(handle, i * 4096, &mut buf);
        if i == block {
            assert!(matches!(result, Err(VolumeError::Damaged { .. })));
        } else {
            assert_eq!(result.unwrap(), 4096);
            assert!(buf[..] == content[i as usize * 4096..][..4096], "block {i}");
        }
    }
    volume.release(handle).unwrap();
    assert_eq!(volume.status().damaged_blocks, 1);
    let report = maintain::fsck::run(&volume, &Silent).unwrap();
    assert_eq!(report.damaged.len(), 1);
    assert_eq!(
        (report.damaged[0].path.as_str(), report.damaged[0].block),
        ("/file", Some(block))
    );
}

/// Two files of the same shape, and where each lies below.
fn two(kit: &Kit, len: usize) -> [(String, Vec<u8>, PathBuf); 2] {
    let volume = kit.open();
    let made = ["one", "two"].map(|name| {
        let content = pattern(len, name.as_bytes()[0]);
        let ino = make_with(&volume, name, &content).0;
        (name.to_owned(), content, ino)
    });
    volume.close().unwrap();
    drop(volume);
    made.map(|(name, content, ino)| {
        let path = fs::read_dir(kit.cipher())
            .unwrap()
            .map(|entry| entry.unwrap())
            .find(|entry| entry.metadata().unwrap().ino() == ino)
            .unwrap()
            .path();
        (name, content, path)
    })
}

#[test]
fn parts_of_two_files_exchanged() {
    for len in [500, 3 * 4096] {
        let parts: &[(&str, usize, usize)] = &[
            ("static part", 0, 64),
            ("file id", 16, 16),
            ("slot A", 64, 448),
            ("static part and slot A", 0, 512),
            ("state", 960, 64),
            ("header", 0, 1024),
            ("entry 0", 1024, 32),
            ("nonce and tag of entry 0", 1024, 28),
            ("first page", 0, 4096),
            ("block 0", 4096, 4096),
            ("entry and block 1", 1056, 32),
        ];
        for &(what, at, part) in parts {
            let kit = Kit::new();
            let files = two(&kit, len);
            let bytes: Vec<Vec<u8>> = files
                .iter()
                .map(|(_, _, path)| fs::read(path).unwrap())
                .collect();
            let needed = if what == "entry and block 1" {
                12288
            } else {
                at + part
            };
            if bytes[0].len() < needed {
                continue;
            }
            for (i, (_, _, path)) in files.iter().enumerate() {
                let mut changed = bytes[i].clone();
                changed[at..at + part].copy_from_slice(&bytes[1 - i][at..at + part]);
                if what == "entry and block 1" {
                    changed[8192..12288].copy_from_slice(&bytes[1 - i][8192..12288]);
                }
                fs::write(path, changed).unwrap();
            }
            let volume = kit.open();
            for (name, content, _) in &files {
                let what = format!("{what} exchanged, {len} bytes");
                assert!(
                    !right_or_refused(read_all(&volume, name), content, &what),
                    "{what}"
                );
            }
        }
    }
}

#[test]
fn blocks_of_one_file_exchanged() {
    let kit = Kit::new();
    let volume = kit.open();
    let content = pattern(4 * 4096, 6);
    make_with(&volume, "file", &content);
    volume.close().unwrap();
    drop(volume);
    let path = kit.only_file();
    let whole = fs::read(&path).unwrap();
    for (a, b) in [(0, 1), (1, 3), (0, 3)] {
        let mut changed = whole.clone();
        changed[1024 + a * 32..][..32].copy_from_slice(&whole[1024 + b * 32..][..32]);
        changed[1024 + b * 32..][..32].copy_from_slice(&whole[1024 + a * 32..][..32]);
        changed[4096 * (1 + a)..][..4096].copy_from_slice(&whole[4096 * (1 + b)..][..4096]);
        changed[4096 * (1 + b)..][..4096].copy_from_slice(&whole[4096 * (1 + a)..][..4096]);
        fs::write(&path, changed).unwrap();
        let volume = kit.open();
        assert!(!right_or_refused(
            read_all(&volume, "file"),
            &content,
            "blocks exchanged"
        ));
    }
}

#[test]
fn a_file_cut_or_extended_is_refused() {
    for len in [200, 4096 * 3 + 5, 4096 * 100] {
        let kit = Kit::new();
        let volume = kit.open();
        let content = pattern(len, 7);
        make_with(&volume, "file", &content);
        volume.close().unwrap();
        drop(volume);
        let path = kit.only_file();
        let whole = fs::read(&path).unwrap();
        let cuts = [
            whole.len() - 1,
            whole.len() - 40,
            whole.len() / 2,
            1056,
            1055,
            64,
            1,
        ];
        for to in cuts
            .into_iter()
            .chain([whole.len() + 1, whole.len() + 4096])
        {
            let mut changed = whole.clone();
            changed.resize(to, 0);
            fs::write(&path, changed).unwrap();
            let volume = kit.open();
            let what = format!("{len} bytes, cipher file resized to {to}");
            assert!(
                !right_or_refused(read_all(&volume, "file"), &content, &what),
                "{what}"
            );
            volume.close().unwrap();
        }
    }
}

#[test]
fn zeroed_entries_and_blocks_are_refused_in_a_file_without_holes() {
    let kit = Kit::new();
    let volume = kit.open();
    let content = pattern(5 * 4096, 8);
    make_with(&volume, "file", &content);
    volume.close().unwrap();
    drop(volume);
    let path = kit.only_file();
    let whole = fs::read(&path).unwrap();
    for (at, len) in [
        (1024, 32),
        (1024 + 64, 32),
        (4096, 4096),
        (960, 64),
        (64, 448),
        (0, 1024),
    ] {
        let mut changed = whole.clone();
        changed[at..at + len].fill(0);
        fs::write(&path, changed).unwrap();
        let volume = kit.open();
        let what = format!("{len} bytes at {at} zeroed");
        assert!(
            !right_or_refused(read_all(&volume, "file"), &content, &what),
            "{what}"
        );
        volume.close().unwrap();
    }
}

#[test]
fn names_moved_between_directories_are_hidden() {
    let kit = Kit::new();
    let volume = kit.open();
    let a = volume.mkdir(&ME, NodeId::ROOT, b"a", 0o755, 0).unwrap().ino;
    let b = volume.mkdir(&ME, NodeId::ROOT, b"b", 0o755, 0).unwrap().ino;
    let (_, handle) = volume
        .create(&ME, a, b"file", 0o644, 0, OpenMode::READ_WRITE)
        .unwrap();
    volume.write(handle, 0, b"content", false).unwrap();
    volume.release(handle).unwrap();
    volume.close().unwrap();
    drop(volume);
    // Move the cipher file into the other directory, by hand.
    let dirs: Vec<PathBuf> = fs::read_dir(kit.cipher())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| !path.ends_with(".envelopefs"))
        .collect();
    let of = |ino: u64| {
        dirs.iter()
            .find(|path| fs::metadata(path).unwrap().ino() == ino)
            .unwrap()
            .clone()
    };
    let file = fs::read_dir(of(a.0))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| path.is_file() && !path.is_symlink())
        .unwrap();
    fs::rename(&file, of(b.0).join(file.file_name().unwrap())).unwrap();
    let volume = kit.open();
    for (name, node) in [(b"a", a), (b"b", b)] {
        assert_eq!(volume.lookup(NodeId::ROOT, name).unwrap().ino, node);
        assert!(
            kit::names(&volume, node).is_empty(),
            "the name decrypts nowhere else"
        );
    }
    assert_eq!(volume.status().hidden_names, 1);
    assert!(matches!(
        volume.rmdir(NodeId::ROOT, b"b"),
        Err(VolumeError::NotEmpty)
    ));
    let report = maintain::fsck::run(&volume, &Silent).unwrap();
    assert_eq!(report.hidden, 1);
}

#[test]
fn every_byte_of_the_volume_record_and_its_copies() {
    let kit = Kit::new();
    let volume = kit.open();
    make_with(&volume, "file", b"content");
    volume.close().unwrap();
    drop(volume);
    let control = kit.cipher().join(".envelopefs");
    let len = fs::metadata(control.join("volume.a")).unwrap().len();
    for at in 0..len {
        // One copy damaged: the other counts.
        flip(&control.join("volume.a"), at, 1);
        let volume = kit.open();
        assert_eq!(read_all(&volume, "file").unwrap(), b"content", "byte {at}");
        volume.close().unwrap();
        drop(volume);
        // Both: refused.
        flip(&control.join("volume.b"), at, 1);
        let opened = envelopefs::volume::Volume::open(
            kit.os(),
            std::sync::Arc::clone(&kit.kms),
            OpenOptions::default(),
        );
        assert!(opened.is_err(), "byte {at} of both records");
        flip(&control.join("volume.a"), at, 1);
        flip(&control.join("volume.b"), at, 1);
    }
}

#[test]
fn files_of_another_volume_are_refused() {
    let (one, two) = (Kit::new(), Kit::new());
    for kit in [&one, &two] {
        let volume = kit.open();
        make_with(&volume, "file", &pattern(5000, 9));
        volume.close().unwrap();
    }
    fs::copy(two.only_file(), one.only_file()).unwrap();
    let volume = one.open();
    let read = read_all(&volume, "file");
    assert!(!right_or_refused(
        read,
        &pattern(5000, 9),
        "another volume's file"
    ));
}

#[test]
fn a_forged_record_is_not_made_authentic_by_a_rewrap() {
    use envelopefs::format::{NameEncoding, VolumeRecord};
    let kit = Kit::new();
    let path = kit.cipher().join(".envelopefs/volume.a");
    let mut forged = VolumeRecord::parse(&fs::read(&path).unwrap()).unwrap();
    forged.generation += 1;
    forged.names = NameEncoding::Plain;
    fs::write(
        &path,
        forged.seal(&envelopefs::crypto::random_key()).unwrap(),
    )
    .unwrap();
    let volume = kit.open();
    make_with(&volume, "file", b"content");
    let key = volume.volume_key_id();
    kit.kms.rotate_volume_key(&volume.id(), &key).unwrap();
    assert!(volume.rewrap_volume_key(&volume.cmks()).unwrap());
    volume.close().unwrap();
    drop(volume);
    let record = envelopefs::volume::Volume::peek(&kit.os()).unwrap();
    assert_eq!(record.names, NameEncoding::Encrypted);
    assert_eq!(read_all(&kit.open(), "file").unwrap(), b"content");
}

#[test]
fn a_torn_slot_is_rewrapped_again() {
    let kit = Kit::new();
    let volume = kit.open();
    make_with(&volume, "file", b"content");
    let key = volume.volume_key_id();
    kit.kms.rotate_volume_key(&volume.id(), &key).unwrap();
    let run = || maintain::rewrap::run(&volume, &RewrapOptions::default(), &Silent).unwrap();
    assert_eq!(run().rewrapped, 1);
    // The end of slot B, with its MAC, never reached the disk.
    let file = fs::File::options()
        .write(true)
        .open(kit.only_file())
        .unwrap();
    file.write_all_at(&[0; 60], 900).unwrap();
    assert_eq!(read_all(&volume, "file").unwrap(), b"content");
    assert_eq!(run().rewrapped, 1, "it is under the old material in truth");
    assert_eq!(run().current, 1);
}
