//! Keys: rotation, rewrap, disabling, one data key a file.

use std::collections::HashSet;
use std::fs;
use std::sync::Arc;
use std::time::Duration;

use crate::kit::{Kit, ME, make, make_with, pattern, read_all};
use envelopefs::backing::Os;
use envelopefs::kms::api::CreateKeyRequest;
use envelopefs::kms::{KeyId, KeyRef};
use envelopefs::maintain::Silent;
use envelopefs::maintain::rewrap::{self, RewrapOptions};
use envelopefs::volume::{NodeId, OpenMode, OpenOptions, Volume, VolumeError, inspect};

fn cipher_files(kit: &Kit) -> Vec<Vec<u8>> {
    let mut files: Vec<_> = fs::read_dir(kit.cipher())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_file())
        .collect();
    files.sort();
    files.iter().map(|path| fs::read(path).unwrap()).collect()
}

/// Makes a customer-managed key.
fn new_key(kit: &Kit) -> KeyId {
    let made = kit.kms.owner().create_key(&CreateKeyRequest::default());
    made.unwrap().key_metadata.key_id
}

/// Moves the volume to a customer-managed key: the service's own can't be disabled.
fn customer_key(kit: &Kit, volume: &Volume<Os>) -> KeyId {
    let key = new_key(kit);
    let options = RewrapOptions {
        to_key: Some(key),
        ..RewrapOptions::default()
    };
    assert!(
        rewrap::run(volume, &options, &Silent)
            .unwrap()
            .failed
            .is_empty()
    );
    key
}

#[test]
fn each_file_has_its_own_data_key_and_ciphertext() {
    let kit = Kit::new();
    let volume = kit.open();
    for name in ["a", "b", "c"] {
        make_with(&volume, name, &[0x55; 9000]);
    }
    let files = cipher_files(&kit);
    let blobs: HashSet<&[u8]> = files.iter().map(|file| &file[64..512]).collect();
    let blocks: HashSet<&[u8]> = files
        .iter()
        .flat_map(|file| [&file[4096..8192], &file[8192..12288]])
        .collect();
    assert_eq!((blobs.len(), blocks.len()), (3, 6));
    for file in &files {
        assert!(
            !file.windows(64).any(|window| window == [0x55; 64]),
            "plaintext below"
        );
    }
}

#[test]
fn rotate_and_rewrap_touch_headers_only() {
    let kit = Kit::new();
    let volume = kit.open();
    for i in 0..30usize {
        make_with(&volume, &format!("f{i}"), &pattern(i * 1000, i as u8));
    }
    let open = volume.lookup(NodeId::ROOT, b"f20").unwrap().ino;
    let open = volume.open_file(&ME, open, OpenMode::READ_WRITE).unwrap();
    let before = cipher_files(&kit);
    let attrs: Vec<_> = (0..30)
        .map(|i| {
            volume
                .lookup(NodeId::ROOT, format!("f{i}").as_bytes())
                .unwrap()
        })
        .collect();
    let key = volume.volume_key_id();
    kit.kms.rotate_volume_key(&volume.id(), &key).unwrap();
    assert_eq!(
        cipher_files(&kit),
        before,
        "rotation touches nothing on disk"
    );

    let dry = RewrapOptions {
        dry_run: true,
        ..RewrapOptions::default()
    };
    let report = rewrap::run(&volume, &dry, &Silent).unwrap();
    assert_eq!((report.files, report.rewrapped, report.empty), (30, 29, 1));
    assert_eq!(
        cipher_files(&kit),
        before,
        "a dry run touches nothing on disk"
    );

    let report = rewrap::run(&volume, &RewrapOptions::default(), &Silent).unwrap();
    assert_eq!(
        (report.rewrapped, report.current, report.failed.len()),
        (29, 0, 0)
    );
    assert!(report.volume_key);
    let report = rewrap::run(&volume, &RewrapOptions::default(), &Silent).unwrap();
    assert_eq!((report.rewrapped, report.current), (0, 29));
    assert!(!report.volume_key);
    for (old, new) in before.iter().zip(cipher_files(&kit)) {
        assert_eq!(old.len(), new.len());
        assert!(
            old.is_empty() || old[512..960] != new[512..960],
            "slot B is written"
        );
        if !old.is_empty() {
            assert_eq!(old[..512], new[..512]);
            assert_eq!(old[960..], new[960..], "state, entries, content");
        }
    }
    for (i, attr) in attrs.iter().enumerate() {
        let now = volume
            .lookup(NodeId::ROOT, format!("f{i}").as_bytes())
            .unwrap();
        assert_eq!(
            (now.mtime, now.size, now.ino),
            (attr.mtime, attr.size, attr.ino)
        );
    }
    // The open file goes on, also over its own rewritten header.
    volume.write(open, 0, b"new", false).unwrap();
    volume.release(open).unwrap();
    volume.close().unwrap();
    drop(volume);
    let volume = kit.open();
    for i in 0..30usize {
        let mut right = pattern(i * 1000, i as u8);
        if i == 20 {
            right[..3].copy_from_slice(b"new");
        }
        assert!(
            read_all(&volume, &format!("f{i}")).unwrap() == right,
            "f{i}"
        );
    }
}

#[test]
fn rewrap_to_another_key_frees_the_old_one() {
    let kit = Kit::new();
    let volume = kit.open();
    make_with(&volume, "file", &pattern(5000, 1));
    let old = customer_key(&kit, &volume);
    let to = new_key(&kit);
    let options = RewrapOptions {
        to_key: Some(to),
        ..RewrapOptions::default()
    };
    let report = rewrap::run(&volume, &options, &Silent).unwrap();
    assert_eq!((report.rewrapped, report.failed.len()), (1, 0));
    assert_eq!(volume.volume_key_id(), to);
    make_with(&volume, "later", b"later");
    volume.close().unwrap();
    drop(volume);
    kit.kms.owner().disable_key(&old.into()).unwrap();
    let volume = kit.open();
    assert!(read_all(&volume, "file").unwrap() == pattern(5000, 1));
    assert_eq!(read_all(&volume, "later").unwrap(), b"later");
    for file in cipher_files(&kit) {
        let inspection = inspect(&file[..file.len().min(4096)], file.len() as u64).unwrap();
        let newest = inspection.slots.iter().find(|slot| slot.newest).unwrap();
        assert!(newest.keys.iter().all(|key| key.key_id == to.to_string()));
    }
}

#[test]
fn a_disabled_key_cuts_off_and_an_enabled_one_heals() {
    let kit = Kit::new();
    let options = OpenOptions {
        key_ttl: Duration::from_millis(100),
        ..OpenOptions::default()
    };
    let volume = Volume::open(kit.os(), Arc::clone(&kit.kms), options).unwrap();
    let key = customer_key(&kit, &volume);
    let node = make_with(&volume, "file", &pattern(5000, 1));
    make_with(&volume, "other", b"other");
    let (_, open) = make(&volume, "open");
    volume.write(open, 0, b"before", false).unwrap();
    let cut = Arc::new(parking_lot::Mutex::new(Vec::new()));
    let told = Arc::clone(&cut);
    volume.on_cut_off(Box::new(move |nodes| told.lock().extend_from_slice(nodes)));

    let key = KeyRef::Id(key);
    kit.kms.owner().disable_key(&(&key).into()).unwrap();
    let refused = |result: Result<_, VolumeError>| matches!(result, Err(VolumeError::Key(_)));
    assert!(
        refused(volume.open_file(&ME, node, OpenMode::READ).map(drop)),
        "a new open"
    );
    assert!(
        refused(read_all(&volume, "other").map(drop)),
        "a cached data key is no way around"
    );
    let name = volume.lookup(NodeId::ROOT, b"open").unwrap().ino;
    assert!(
        refused(volume.open_file(&ME, name, OpenMode::READ).map(drop)),
        "a second open"
    );
    let mut buf = [0; 6];
    assert_eq!(
        volume.read(open, 0, &mut buf).unwrap(),
        6,
        "an open file goes on for a while"
    );
    volume.housekeeping();
    assert!(
        refused(volume.read(open, 0, &mut buf).map(drop)),
        "and is then cut off"
    );
    assert!(refused(volume.write(open, 0, b"x", false)));
    assert_eq!(*cut.lock(), [name], "its cached pages are dropped");
    assert!(volume.lookup(NodeId::ROOT, b"file").is_ok(), "names stay");
    let create = volume.create(&ME, NodeId::ROOT, b"new", 0o644, 0, OpenMode::READ_WRITE);
    let (_, new) = create.unwrap();
    assert!(
        refused(volume.write(new, 0, b"x", false)),
        "no new data key"
    );

    kit.kms.owner().enable_key(&(&key).into()).unwrap();
    assert_eq!(volume.read(open, 0, &mut buf).unwrap(), 6, "heals at once");
    assert_eq!(&buf, b"before");
    volume.write(new, 0, b"x", false).unwrap();
    assert!(read_all(&volume, "file").unwrap() == pattern(5000, 1));
}

#[test]
fn a_second_writer_is_refused_and_a_reader_may_join() {
    let kit = Kit::new();
    let volume = kit.open();
    make_with(&volume, "file", b"content");
    let second = Volume::open(kit.os(), Arc::clone(&kit.kms), OpenOptions::default());
    match second {
        Err(VolumeError::Busy { holder }) => {
            assert!(holder.contains(&std::process::id().to_string()), "{holder}");
        }
        other => panic!("{:?}", other.map(|_| ())),
    }
    let reader = kit.open_read_only();
    assert_eq!(read_all(&reader, "file").unwrap(), b"content");
    let refused = reader.create(&ME, NodeId::ROOT, b"x", 0o644, 0, OpenMode::READ_WRITE);
    assert!(matches!(refused, Err(VolumeError::ReadOnly)));
    assert!(matches!(
        reader.unlink(NodeId::ROOT, b"file"),
        Err(VolumeError::ReadOnly)
    ));
    volume.close().unwrap();
    drop(volume);
    drop(kit.open());
}
