//! A recovery CMK: everything in a volume is wrapped a second time.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::kit::{Budget, Kit, ME, make, make_with, pattern, read_all};
use envelopefs::backing::{Os, Rename};
use envelopefs::format::blob::BlobHeader;
use envelopefs::format::{SLOT_A_AT, SLOT_B_AT, Slot};
use envelopefs::kms::api::{CreateKeyRequest, ScheduleKeyDeletionRequest};
use envelopefs::kms::{Clock, KeyId, Kms, ProtectorInput, Timestamp};
use envelopefs::maintain::reencrypt::{self, ReencryptOptions};
use envelopefs::maintain::rewrap::{self, RewrapOptions, RewrapReport};
use envelopefs::maintain::{Progress, Silent};
use envelopefs::volume::{NodeId, OpenMode, OpenOptions, Volume, VolumeError};

fn new_key(kit: &Kit) -> KeyId {
    let made = kit.kms.owner().create_key(&CreateKeyRequest::default());
    made.unwrap().key_metadata.key_id
}

fn rewrap(volume: &Volume<Os>, options: RewrapOptions) -> RewrapReport {
    let report = rewrap::run(volume, &options, &Silent).unwrap();
    assert!(report.complete && report.failed.is_empty(), "{report:?}");
    report
}

fn add(key: KeyId) -> RewrapOptions {
    RewrapOptions {
        add_recovery_key: Some(key),
        ..RewrapOptions::default()
    }
}

fn remove(key: KeyId) -> RewrapOptions {
    RewrapOptions {
        remove_recovery_key: Some(key),
        ..RewrapOptions::default()
    }
}

/// A volume under a customer-managed key, with an inline file and one of blocks.
fn under_own_key(kit: &Kit) -> (Volume<Os>, KeyId) {
    let volume = kit.open();
    let main = new_key(kit);
    rewrap(
        &volume,
        RewrapOptions {
            to_key: Some(main),
            ..RewrapOptions::default()
        },
    );
    make_with(&volume, "small", b"inline");
    make_with(&volume, "large", &pattern(50_000, 3));
    (volume, main)
}

fn files(kit: &Kit) -> Vec<PathBuf> {
    let entries = fs::read_dir(kit.cipher()).unwrap();
    entries
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_file())
        .collect()
}

/// The CMKs of the wrapped keys in each slot of each file, as they stand there, the newest slot first.
fn slots(kit: &Kit) -> Vec<Vec<Vec<KeyId>>> {
    let of_file = |path: &PathBuf| {
        let bytes = fs::read(path).unwrap();
        let parse = |at: usize| Slot::parse(bytes.get(at..)?).unwrap();
        let mut slots: Vec<Slot> = [SLOT_A_AT, SLOT_B_AT]
            .into_iter()
            .filter_map(parse)
            .collect();
        slots.sort_by_key(|slot| std::cmp::Reverse(slot.generation));
        let key = |blob: &Vec<u8>| {
            let header = BlobHeader::parse(blob).unwrap();
            KeyId::new(header.key_id, header.multi_region)
        };
        let keys = |slot: &Slot| slot.keys.iter().map(|wrapped| key(&wrapped.blob)).collect();
        slots.iter().map(keys).collect::<Vec<Vec<KeyId>>>()
    };
    files(kit)
        .iter()
        .map(of_file)
        .filter(|slots| !slots.is_empty())
        .collect()
}

fn newest(kit: &Kit) -> Vec<Vec<KeyId>> {
    slots(kit)
        .into_iter()
        .map(|mut slots| slots.swap_remove(0))
        .collect()
}

fn check_content(volume: &Volume<Os>) {
    assert_eq!(read_all(volume, "small").unwrap(), b"inline");
    assert!(read_all(volume, "large").unwrap() == pattern(50_000, 3));
}

struct Later(Timestamp);

impl Clock for Later {
    fn now(&self) -> Timestamp {
        self.0
    }
}

#[test]
fn a_volume_is_opened_by_its_recovery_key_alone() {
    let kit = Kit::new();
    let (volume, main) = under_own_key(&kit);
    let recovery = new_key(&kit);
    let report = rewrap(&volume, add(recovery));
    assert_eq!((report.rewrapped, report.volume_key), (2, true));
    assert_eq!(report.recovery_key, Some(recovery.to_string()));
    make_with(&volume, "later", b"made later");
    assert_eq!(newest(&kit), vec![vec![main, recovery]; 3]);
    let again = rewrap(&volume, RewrapOptions::default());
    assert_eq!(
        (again.rewrapped, again.current, again.volume_key),
        (0, 3, false)
    );
    volume.close().unwrap();
    drop(volume);

    // Disabled.
    kit.kms.owner().disable_key(&main.into()).unwrap();
    let volume = kit.open();
    check_content(&volume);
    assert_eq!(read_all(&volume, "later").unwrap(), b"made later");
    make_with(&volume, "meanwhile", b"under the recovery key");
    volume.close().unwrap();
    drop(volume);
    assert_eq!(
        newest(&kit)
            .iter()
            .filter(|keys| **keys == [recovery])
            .count(),
        1
    );

    // Gone, with all of its material.
    let request = ScheduleKeyDeletionRequest {
        key_id: main.into(),
        pending_window_in_days: Some(7.try_into().unwrap()),
    };
    let refused = kit.kms.owner().schedule_key_deletion(&request).unwrap_err();
    let refused = refused.to_string();
    let (_, words) = refused.rsplit_once("--force \"").unwrap();
    let words = words.split('"').next();
    let owner = kit.kms.owner().forced(words);
    owner.schedule_key_deletion(&request).unwrap();
    let day = Duration::from_secs(24 * 3600).as_millis() as i64;
    let since = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap();
    let then = Timestamp::from_millis(since.as_millis() as i64 + 8 * day);
    let protector = ProtectorInput::key(vec![7; 32].into()).unwrap();
    let dir = kit.dir.path().join("keystore");
    let kms = Kms::open_with_clock(&dir, &[protector], Arc::new(Later(then))).unwrap();
    let kms = Arc::new(kms);
    kms.maintain().unwrap();
    assert!(kms.owner().describe_key(&main.into()).is_err(), "deleted");
    let volume = Volume::open(kit.os(), Arc::clone(&kms), OpenOptions::default()).unwrap();
    check_content(&volume);
    assert_eq!(
        read_all(&volume, "meanwhile").unwrap(),
        b"under the recovery key"
    );

    // Nothing is taken away before what is left opens.
    let refused = rewrap::run(&volume, &remove(recovery), &Silent);
    assert!(matches!(refused, Err(VolumeError::Key(_))), "{refused:?}");
    // It becomes the volume's own.
    let to_recovery = RewrapOptions {
        to_key: Some(recovery),
        ..RewrapOptions::default()
    };
    let report = rewrap(&volume, to_recovery);
    assert_eq!(report.recovery_key, None);
    assert_eq!(newest(&kit), vec![vec![recovery]; 4]);
    check_content(&volume);
    volume.close().unwrap();
}

#[test]
fn a_failure_names_both_keys() {
    let kit = Kit::new();
    let (volume, main) = under_own_key(&kit);
    let recovery = new_key(&kit);
    rewrap(&volume, add(recovery));
    kit.kms.owner().disable_key(&main.into()).unwrap();
    kit.kms.owner().disable_key(&recovery.into()).unwrap();
    let error = read_all(&volume, "large").unwrap_err().to_string();
    assert!(
        error.contains(&main.to_string()) && error.contains(&recovery.to_string()),
        "{error}"
    );
    volume.close().unwrap();
    drop(volume);
    let opened = Volume::open(kit.os(), Arc::clone(&kit.kms), OpenOptions::default());
    let error = opened.map(drop).unwrap_err().to_string();
    assert!(
        error.contains(&main.to_string()) && error.contains(&recovery.to_string()),
        "{error}"
    );
    kit.kms.owner().enable_key(&recovery.into()).unwrap();
    check_content(&kit.open());
}

#[test]
fn open_files_go_on_by_the_recovery_key() {
    let kit = Kit::new();
    let (volume, main) = under_own_key(&kit);
    let recovery = new_key(&kit);
    let node = volume.lookup(NodeId::ROOT, b"large").unwrap().ino;
    let open = volume.open_file(&ME, node, OpenMode::READ_WRITE).unwrap();
    rewrap(&volume, add(recovery));
    kit.kms.owner().disable_key(&main.into()).unwrap();
    volume.housekeeping();
    let mut buf = [0; 100];
    assert_eq!(volume.read(open, 0, &mut buf).unwrap(), 100);
    volume.write(open, 0, b"new", false).unwrap();
    kit.kms.owner().disable_key(&recovery.into()).unwrap();
    volume.housekeeping();
    assert!(matches!(
        volume.read(open, 0, &mut buf),
        Err(VolumeError::Keys { .. })
    ));
    kit.kms.owner().enable_key(&main.into()).unwrap();
    assert_eq!(volume.read(open, 0, &mut buf).unwrap(), 100);
    volume.release(open).unwrap();
    // Not without the second wrapping: it could not be recovered.
    let (_, new) = make(&volume, "new");
    let refused = volume.write(new, 0, b"x", false).unwrap_err();
    assert!(matches!(refused, VolumeError::RecoveryKey(_)), "{refused}");
    assert!(
        refused.to_string().contains("--remove-recovery-key"),
        "{refused}"
    );
    kit.kms.owner().enable_key(&recovery.into()).unwrap();
    volume.write(new, 0, b"x", false).unwrap();
}

#[test]
fn a_removed_recovery_key_is_in_no_slot() {
    let kit = Kit::new();
    let (volume, main) = under_own_key(&kit);
    let recovery = new_key(&kit);
    rewrap(&volume, add(recovery));
    let node = volume.lookup(NodeId::ROOT, b"large").unwrap().ino;
    let open = volume.open_file(&ME, node, OpenMode::READ_WRITE).unwrap();
    let report = rewrap(&volume, remove(recovery));
    assert_eq!((report.rewrapped, report.cleared), (2, 2), "{report:?}");
    assert_eq!(report.recovery_key, None);
    assert_eq!(slots(&kit), vec![vec![vec![main]; 2]; 2]);
    for name in ["volume.a", "volume.b"] {
        let record = fs::read(kit.cipher().join(".envelopefs").join(name)).unwrap();
        let id = recovery.bytes();
        assert!(
            !record.windows(id.len()).any(|window| window == id),
            "{name}"
        );
    }
    volume.write(open, 0, b"on", false).unwrap();
    volume.release(open).unwrap();
    make_with(&volume, "later", b"x");
    volume.close().unwrap();
    drop(volume);
    kit.kms.owner().disable_key(&main.into()).unwrap();
    let opened = Volume::open(kit.os(), Arc::clone(&kit.kms), OpenOptions::default());
    assert!(matches!(opened.map(drop), Err(VolumeError::Key(_))));
    kit.kms.owner().enable_key(&main.into()).unwrap();
    // Again, as after a crash half-way: there is nothing left to do.
    let report = rewrap(&kit.open(), remove(recovery));
    assert_eq!((report.rewrapped, report.cleared), (0, 0));
}

#[test]
fn one_recovery_key_is_the_most_and_it_can_be_replaced() {
    let kit = Kit::new();
    let (volume, main) = under_own_key(&kit);
    let (first, second) = (new_key(&kit), new_key(&kit));
    rewrap(&volume, add(first));
    for options in [add(second), add(main), remove(main)] {
        let refused = rewrap::run(&volume, &options, &Silent);
        assert!(
            matches!(refused, Err(VolumeError::Refused(_))),
            "{refused:?}"
        );
    }
    assert_eq!(newest(&kit), vec![vec![main, first]; 2]);
    rewrap(
        &volume,
        RewrapOptions {
            remove_recovery_key: Some(first),
            ..add(second)
        },
    );
    assert_eq!(slots(&kit), vec![vec![vec![main, second]; 2]; 2]);
    // Both are rotated: both wrappings are made anew.
    for key in [main, second] {
        kit.kms.rotate_volume_key(&volume.id(), &key).unwrap();
        let report = rewrap(&volume, RewrapOptions::default());
        assert_eq!((report.rewrapped, report.volume_key), (2, true));
        assert_eq!(rewrap(&volume, RewrapOptions::default()).rewrapped, 0);
    }
    kit.kms.owner().disable_key(&main.into()).unwrap();
    check_content(&volume);
}

/// Two data keys under two CMKs each fill a slot.
#[test]
fn re_encrypt_keeps_the_recovery_key() {
    let kit = Kit::new();
    let (volume, main) = under_own_key(&kit);
    let recovery = new_key(&kit);
    rewrap(&volume, add(recovery));
    let large = pattern(3_000_000, 9);
    make_with(&volume, "long", &large);
    let options = ReencryptOptions {
        paths: vec![b"long".to_vec()],
        ..ReencryptOptions::default()
    };
    let stopped = reencrypt::run(&volume, &options, &Budget::of(1)).unwrap();
    assert!(!stopped.complete);
    let under_way = vec![main, recovery, main, recovery];
    assert!(newest(&kit).contains(&under_way), "{:?}", newest(&kit));
    // All four of them anew, half-way.
    kit.kms.rotate_volume_key(&volume.id(), &main).unwrap();
    kit.kms.rotate_volume_key(&volume.id(), &recovery).unwrap();
    assert_eq!(rewrap(&volume, RewrapOptions::default()).rewrapped, 3);
    volume.close().unwrap();
    drop(volume);
    kit.kms.owner().disable_key(&main.into()).unwrap();
    let volume = kit.open();
    assert!(read_all(&volume, "long").unwrap() == large);
    kit.kms.owner().enable_key(&main.into()).unwrap();
    let report = reencrypt::run(&volume, &ReencryptOptions::default(), &Silent).unwrap();
    assert!(report.complete && report.resumed == 1, "{report:?}");
    assert_eq!(newest(&kit), vec![vec![main, recovery]; 3]);
    volume.close().unwrap();
    drop(volume);
    kit.kms.owner().disable_key(&main.into()).unwrap();
    let volume = kit.open();
    assert!(read_all(&volume, "long").unwrap() == large);
    check_content(&volume);
}

/// Stops after some files.
struct After(AtomicU64);

impl Progress for After {
    fn advanced(&self, _files: u64, _bytes: u64) {
        let left = self.0.load(Ordering::Relaxed);
        self.0.store(left.saturating_sub(1), Ordering::Relaxed);
    }

    fn cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed) == 0
    }
}

#[test]
fn adding_and_removing_go_on_where_they_were_stopped() {
    let kit = Kit::new();
    let (volume, main) = under_own_key(&kit);
    for i in 0..20_usize {
        make_with(&volume, &format!("f{i}"), &pattern(i * 300 + 1, i as u8));
    }
    let recovery = new_key(&kit);
    let stopped = rewrap::run(&volume, &add(recovery), &After(AtomicU64::new(5))).unwrap();
    assert!(!stopped.complete && stopped.rewrapped == 5, "{stopped:?}");
    // As if killed: not closed. What is meant stands in the record.
    std::mem::forget(volume);
    let copy = kit.cipher().with_extension("copy");
    let status = std::process::Command::new("cp")
        .arg("-a")
        .arg(kit.cipher())
        .arg(&copy)
        .status();
    assert!(status.unwrap().success());
    fs::rename(&copy, kit.dir.path().join("killed")).unwrap();
    let os = Os::open(&kit.dir.path().join("killed")).unwrap();
    let volume = Volume::open(os, Arc::clone(&kit.kms), OpenOptions::default()).unwrap();
    assert_eq!(volume.cmks().recovery, Some(recovery));
    assert_eq!(rewrap(&volume, RewrapOptions::default()).rewrapped, 17);
    // The first half of a removal, and then all of it.
    let stopped = rewrap::run(&volume, &remove(recovery), &After(AtomicU64::new(9))).unwrap();
    assert!(!stopped.complete && stopped.rewrapped == 9, "{stopped:?}");
    volume
        .rename(NodeId::ROOT, b"f1", NodeId::ROOT, b"g1", Rename::Plain)
        .unwrap();
    let report = rewrap(&volume, remove(recovery));
    assert_eq!((report.rewrapped, report.cleared), (13, 22), "{report:?}");
    check_content(&volume);
    assert!(read_all(&volume, "g1").unwrap() == pattern(301, 1));
    assert_eq!(volume.cmks().main, main);
}
