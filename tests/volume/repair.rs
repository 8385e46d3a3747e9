//! fsck: what it mends, what it leaves alone, and how it goes on where it was.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::kit::{Kit, ME, make_with, names, pattern, read_all};
use envelopefs::maintain::fsck::{self, FsckOptions, Memory, Sound};
use envelopefs::maintain::{Progress, Silent};
use envelopefs::volume::{NodeId, OpenMode, VolumeError};
use parking_lot::Mutex;

fn repair() -> FsckOptions<'static> {
    FsckOptions {
        repair: true,
        ..FsckOptions::default()
    }
}

/// The one directory in the cipher directory's root.
fn only_dir(kit: &Kit) -> std::path::PathBuf {
    let mut dirs: Vec<_> = std::fs::read_dir(kit.cipher())
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.file_type().unwrap().is_dir() && entry.file_name() != ".envelopefs")
        .map(|entry| entry.path())
        .collect();
    assert_eq!(dirs.len(), 1);
    dirs.remove(0)
}

#[test]
fn a_name_that_does_not_decrypt_goes_to_lost_and_found_with_its_content() {
    let kit = Kit::new();
    let volume = kit.open();
    make_with(&volume, "file", &pattern(9000, 1));
    let dir = volume
        .mkdir(&ME, NodeId::ROOT, b"dir", 0o755, 0)
        .unwrap()
        .ino;
    volume.mknod(&ME, dir, b"inside", 0o100_644, 0, 0).unwrap();
    volume.close().unwrap();
    drop(volume);
    for path in [kit.only_file(), only_dir(&kit)] {
        let wrong = format!("{}x", path.display());
        std::fs::rename(path, wrong).unwrap();
    }

    let volume = kit.open_read_only();
    let report = fsck::run(&volume, &Silent).unwrap();
    assert_eq!((report.hidden, report.damaged.len()), (2, 2));
    assert!(report.repaired.is_empty());
    drop(volume);

    let volume = kit.open();
    let report = fsck::run_with(&volume, &repair(), &Silent).unwrap();
    assert!(report.is_clean(), "{report:?}");
    assert_eq!(report.repaired.len(), 2);
    assert_eq!(names(&volume, NodeId::ROOT), [b"lost+found"]);
    let lost = volume.lookup(NodeId::ROOT, b"lost+found").unwrap().ino;
    let found = names(&volume, lost);
    assert_eq!(found.len(), 2);
    let mut seen = (false, false);
    for name in found {
        let attr = volume.lookup(lost, &name).unwrap();
        match attr.kind {
            envelopefs::backing::Kind::File => {
                let handle = volume.open_file(&ME, attr.ino, OpenMode::READ).unwrap();
                let mut bytes = vec![0; 9000];
                assert_eq!(volume.read(handle, 0, &mut bytes).unwrap(), 9000);
                assert!(bytes == pattern(9000, 1));
                volume.release(handle).unwrap();
                seen.0 = true;
            }
            _ => {
                assert_eq!(names(&volume, attr.ino), [b"inside"]);
                seen.1 = true;
            }
        }
    }
    assert_eq!(seen, (true, true));
    let again = fsck::run_with(&volume, &repair(), &Silent).unwrap();
    assert!(again.is_clean() && again.repaired.is_empty(), "{again:?}");
}

#[test]
fn a_lost_directory_id_comes_back_from_its_copy() {
    let kit = Kit::new();
    let volume = kit.open();
    let dir = volume
        .mkdir(&ME, NodeId::ROOT, b"dir", 0o755, 0)
        .unwrap()
        .ino;
    volume.mknod(&ME, dir, b"inside", 0o100_644, 0, 0).unwrap();
    volume.close().unwrap();
    drop(volume);
    let id = only_dir(&kit).join(".envelopefs.dir");
    let right = std::fs::read_link(&id).unwrap();
    std::fs::remove_file(&id).unwrap();

    // It can be read all the same, and fsck tells of it.
    let volume = kit.open_read_only();
    let dir = volume.lookup(NodeId::ROOT, b"dir").unwrap().ino;
    assert_eq!(names(&volume, dir), [b"inside"]);
    assert_eq!(fsck::run(&volume, &Silent).unwrap().damaged.len(), 1);
    drop(volume);
    assert!(!id.exists());

    let volume = kit.open();
    let report = fsck::run_with(&volume, &repair(), &Silent).unwrap();
    assert!(
        report.is_clean() && report.repaired.len() == 1,
        "{report:?}"
    );
    assert_eq!(std::fs::read_link(&id).unwrap(), right);
    drop(volume);

    // Without either, the names are lost, and that is said plainly.
    std::fs::remove_file(&id).unwrap();
    std::fs::remove_file(only_dir(&kit).join(".envelopefs.dir.copy")).unwrap();
    let volume = kit.open();
    let report = fsck::run_with(&volume, &repair(), &Silent).unwrap();
    assert_eq!(report.damaged.len(), 1);
    assert!(
        only_dir(&kit).read_dir().unwrap().count() > 0,
        "nothing is deleted"
    );
}

#[derive(Default)]
struct Notes {
    known: HashSet<Sound>,
    noted: Mutex<HashSet<Sound>>,
}

impl Memory for Notes {
    fn knows(&self, sound: &Sound) -> bool {
        self.known.contains(sound)
    }

    fn note(&self, sound: &Sound) {
        self.noted.lock().insert(*sound);
    }
}

struct StopsAfter(u64, AtomicBool);

impl Progress for StopsAfter {
    fn advanced(&self, files: u64, _bytes: u64) {
        self.1.fetch_or(files >= self.0, Ordering::Relaxed);
    }

    fn cancelled(&self) -> bool {
        self.1.load(Ordering::Relaxed)
    }
}

#[test]
fn a_run_that_was_stopped_goes_on_where_it_was() {
    let kit = Kit::new();
    let volume = kit.open();
    for i in 0..20 {
        make_with(&volume, &format!("file{i}"), &pattern(9000, i));
    }
    let check = |notes: &Notes, progress: &dyn Progress| {
        let options = FsckOptions {
            threads: 2,
            memory: Some(notes),
            ..FsckOptions::default()
        };
        fsck::run_with(&volume, &options, progress).unwrap()
    };
    let first = Notes::default();
    let report = check(&first, &StopsAfter(5, AtomicBool::new(false)));
    assert!(report.stopped);
    let noted = first.noted.into_inner();
    assert!((5..20).contains(&noted.len()), "{}", noted.len());
    let second = Notes {
        known: noted.clone(),
        ..Notes::default()
    };
    let report = check(&second, &Silent);
    assert!(!report.stopped && report.is_clean());
    assert_eq!((report.files, report.skipped), (20, noted.len() as u64));
    assert_eq!(second.noted.lock().len(), 20 - noted.len());

    // What changed is read again, whatever was noted.
    let all = Notes {
        known: noted.into_iter().chain(second.noted.into_inner()).collect(),
        ..Notes::default()
    };
    for entry in std::fs::read_dir(kit.cipher()).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            let mut bytes = std::fs::read(&path).unwrap();
            bytes[5000] ^= 1;
            std::fs::write(&path, bytes).unwrap();
            break;
        }
    }
    let report = check(&all, &Silent);
    assert_eq!((report.damaged.len(), report.skipped), (1, 19));
    assert!((0..20).any(|i| matches!(
        read_all(&volume, &format!("file{i}")),
        Err(VolumeError::Damaged { .. })
    )));
}
