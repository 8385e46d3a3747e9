//! The journal: overwrites of what was durable, their way home, and what is left after a crash.
//!
//! A crash here is a copy of the cipher directory as it stands (a killed process: the page cache
//! lives on), or one with parts of it put back to what was there before (a power cut).

use std::path::Path;
use std::sync::Arc;

use crate::kit::{Kit, ME, make, make_with, pattern, read_all};
use envelopefs::backing::{Calls, Os, Repeat};
use envelopefs::maintain::{self, Silent};
use envelopefs::volume::{
    FallocateMode, HandleId, JournalMode, NodeId, OpenMode, OpenOptions, SetAttr, Volume,
    VolumeError,
};

fn manual() -> OpenOptions {
    OpenOptions {
        journal: JournalMode::Manual,
        journal_size: 1 << 20,
        ..OpenOptions::default()
    }
}

fn open(kit: &Kit, options: OpenOptions) -> Volume<Os> {
    Volume::open(kit.os(), Arc::clone(&kit.kms), options).unwrap()
}

fn copy_tree(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let (kind, to) = (entry.file_type().unwrap(), to.join(entry.file_name()));
        if kind.is_dir() {
            copy_tree(&entry.path(), &to);
        } else if kind.is_symlink() {
            std::os::unix::fs::symlink(std::fs::read_link(entry.path()).unwrap(), to).unwrap();
        } else {
            std::fs::copy(entry.path(), to).unwrap();
        }
    }
}

/// What a killed process leaves behind, as a volume of its own.
fn killed(kit: &Kit, name: &str) -> Os {
    let copy = kit.dir.path().join(name);
    copy_tree(&kit.cipher(), &copy);
    Os::open(&copy).unwrap()
}

fn reopen(kit: &Kit, os: Os) -> Volume<Os> {
    Volume::open(os, Arc::clone(&kit.kms), manual()).unwrap()
}

fn read_only(kit: &Kit, os: Os) -> Volume<Os> {
    let options = OpenOptions {
        read_only: true,
        ..manual()
    };
    Volume::open(os, Arc::clone(&kit.kms), options).unwrap()
}

fn reopened(volume: &Volume<Os>, node: NodeId) -> HandleId {
    volume.open_file(&ME, node, OpenMode::READ_WRITE).unwrap()
}

fn resize(volume: &Volume<Os>, node: NodeId, size: u64) {
    let set = SetAttr {
        size: Some(size),
        ..SetAttr::default()
    };
    volume.setattr(&ME, node, None, &set).unwrap();
}

fn is_clean(volume: &Volume<Os>, what: &str) {
    let report = maintain::fsck::run(volume, &Silent).unwrap();
    assert!(report.is_clean(), "{what}: {report:?}");
}

/// What a step does to a file of 40,000 (or 100) bytes that was closed and durable.
type Step = fn(&Volume<Os>, NodeId, HandleId, &mut Vec<u8>);

fn put(
    volume: &Volume<Os>,
    handle: HandleId,
    model: &mut Vec<u8>,
    at: usize,
    len: usize,
    seed: u8,
) {
    let data = pattern(len, seed);
    volume.write(handle, at as u64, &data, false).unwrap();
    if model.len() < at + len {
        model.resize(at + len, 0);
    }
    model[at..at + len].copy_from_slice(&data);
}

const STEPS: &[(&str, usize, Step)] = &[
    ("a block", 40_000, |v, _, h, m| put(v, h, m, 4096, 4096, 2)),
    ("ragged", 40_000, |v, _, h, m| put(v, h, m, 5000, 9000, 3)),
    ("the last block grows", 40_000, |v, _, h, m| {
        put(v, h, m, 40_000, 700, 4);
        put(v, h, m, 40_700, 10, 5);
    }),
    ("over the end", 40_000, |v, _, h, m| {
        put(v, h, m, 39_000, 30_000, 6);
    }),
    ("far behind the end", 40_000, |v, _, h, m| {
        put(v, h, m, 900_000, 5000, 7);
    }),
    ("groups", 900_000, |v, _, h, m| {
        put(v, h, m, 300_000, 500_000, 8);
    }),
    ("cut inside", 40_000, |v, n, h, m| {
        put(v, h, m, 4096, 4096, 9);
        resize(v, n, 10_000);
        m.truncate(10_000);
        put(v, h, m, 30_000, 9000, 10);
    }),
    ("grow and cut", 40_000, |v, n, h, m| {
        put(v, h, m, 39_990, 4096, 11);
        resize(v, n, 60_000);
        m.resize(60_000, 0);
        resize(v, n, 41_000);
        m.truncate(41_000);
    }),
    ("holes", 40_000, |v, _, h, m| {
        put(v, h, m, 8192, 100, 12);
        v.fallocate(h, FallocateMode::PunchHole, 4096, 16_384)
            .unwrap();
        m[4096..20_480].fill(0);
        put(v, h, m, 12_288, 10, 13);
    }),
    ("a hole filled", 40_000, |v, n, h, m| {
        resize(v, n, 80_000);
        m.resize(80_000, 0);
        v.fsync(h, true).unwrap();
        put(v, h, m, 60_000, 5000, 14);
    }),
    ("inline", 100, |v, _, h, m| put(v, h, m, 50, 20, 15)),
    ("inline grows", 100, |v, _, h, m| {
        put(v, h, m, 100, 500, 16);
        put(v, h, m, 600, 5, 17);
    }),
    ("inline cut", 100, |v, n, h, m| {
        put(v, h, m, 20, 20, 18);
        resize(v, n, 30);
        m.truncate(30);
        put(v, h, m, 30, 3, 19);
    }),
    ("outgrows", 100, |v, _, h, m| {
        put(v, h, m, 90, 20, 20);
        put(v, h, m, 110, 9000, 21);
    }),
    ("outgrows with a gap", 100, |v, _, h, m| {
        put(v, h, m, 3500, 9000, 22);
    }),
    ("outgrows far", 100, |v, _, h, m| {
        put(v, h, m, 50_000, 10, 23);
    }),
    ("anew", 40_000, |v, n, h, m| {
        put(v, h, m, 0, 5000, 24);
        resize(v, n, 0);
        m.clear();
        put(v, h, m, 0, 9000, 25);
        v.fsync(h, true).unwrap();
        put(v, h, m, 4000, 200, 26);
    }),
];

/// Each step: readers see the newest; so do those after a kill, a replay, a write-back, a reader
/// without a replay, and a clean close. And fsck finds nothing wrong anywhere.
#[test]
fn the_newest_bytes_are_read_whatever_happens() {
    for (what, size, step) in STEPS {
        let kit = Kit::new();
        let volume = open(&kit, manual());
        let node = make_with(&volume, "file", &pattern(*size, 1));
        make_with(&volume, "other", &pattern(9000, 99));
        volume.close().unwrap();
        drop(volume);
        let volume = open(&kit, manual());
        assert_eq!(volume.lookup(NodeId::ROOT, b"file").unwrap().ino, node);
        let handle = reopened(&volume, node);
        let mut model = pattern(*size, 1);
        step(&volume, node, handle, &mut model);
        let check = |volume: &Volume<Os>, when: &str| {
            let size = volume.lookup(NodeId::ROOT, b"file").unwrap().size;
            assert_eq!(size, model.len() as u64, "{what}: size {when}");
            assert!(read_all(volume, "file").unwrap() == model, "{what}: {when}");
            assert!(read_all(volume, "other").unwrap() == pattern(9000, 99));
            is_clean(volume, &format!("{what}: {when}"));
        };
        check(&volume, "open");
        check(&read_only(&kit, killed(&kit, "a")), "killed, read only");
        let again = reopen(&kit, killed(&kit, "b"));
        check(&again, "killed");
        assert!(again.recover(&|| true).is_ok());
        check(&again, "recovered");
        again.close().unwrap();
        drop(again);
        volume.fsync(handle, true).unwrap();
        check(&reopen(&kit, killed(&kit, "c")), "synced and killed");
        volume.write_back().unwrap();
        check(&volume, "written back");
        check(&reopen(&kit, killed(&kit, "d")), "written back and killed");
        volume.release(handle).unwrap();
        check(&volume, "released");
        volume.close().unwrap();
        drop(volume);
        check(&kit.open(), "closed");
    }
}

/// A power cut that keeps nothing but what an fsync promised: the journal's records are there, home
/// is as it was at the last sync of it.
#[test]
fn what_was_synced_survives_although_home_is_torn() {
    let kit = Kit::new();
    let volume = open(&kit, manual());
    let node = make_with(&volume, "file", &pattern(40_000, 1));
    volume.close().unwrap();
    drop(volume);
    let home = std::fs::read(kit.only_file()).unwrap();
    let volume = open(&kit, manual());
    volume.lookup(NodeId::ROOT, b"file").unwrap();
    let handle = reopened(&volume, node);
    let mut model = pattern(40_000, 1);
    put(&volume, handle, &mut model, 4096, 8192, 2);
    put(&volume, handle, &mut model, 39_000, 1500, 3);
    volume.fsync(handle, true).unwrap();
    assert_eq!(
        std::fs::read(kit.only_file()).unwrap()[..home.len()],
        home[..],
        "an overwrite leaves home alone until its record is durable"
    );
    volume.write_back().unwrap();
    // The same cut later, in the middle of the write-back: each of home's sectors old or new.
    let new = std::fs::read(kit.only_file()).unwrap();
    for odd in [0, 1] {
        let os = killed(&kit, &format!("torn{odd}"));
        let copy = kit.dir.path().join(format!("torn{odd}"));
        // The journal as it was before it was freed.
        let torn: Vec<u8> = new
            .chunks(512)
            .enumerate()
            .flat_map(|(i, sector)| {
                let from = i * 512;
                let old = home.get(from..(from + sector.len()).min(home.len()));
                if i % 2 == odd && old.is_some_and(|old| old.len() == sector.len()) {
                    old.unwrap().to_vec()
                } else {
                    sector.to_vec()
                }
            })
            .collect();
        let name = kit.only_file().file_name().unwrap().to_owned();
        std::fs::write(copy.join(name), torn).unwrap();
        // Freed: the records count no more, so this is damage and must be told as such.
        let volume = reopen(&kit, os);
        assert!(matches!(
            read_all(&volume, "file"),
            Err(VolumeError::Damaged { .. })
        ));
    }
}

/// Fresh blocks take no record; overwrites of promised ones take one, and one sync.
#[test]
fn only_what_was_promised_goes_through_the_journal() {
    let kit = Kit::new();
    let volume = open(&kit, manual());
    let (_, handle) = make(&volume, "file");
    let used = || volume.status().journal_used;
    for i in 0..20 {
        volume
            .write(handle, i * 1024, &pattern(1024, 1), false)
            .unwrap();
    }
    volume.write(handle, 0, &pattern(9000, 2), false).unwrap();
    assert!(
        used() < 4096,
        "nobody was promised any of it: offers of entries, no data"
    );
    volume.fsync(handle, true).unwrap();
    volume.write_back().unwrap();
    assert_eq!(used(), 0);
    let syncs = volume.status().journal_syncs;
    volume
        .write(handle, 20_480, &pattern(9000, 3), false)
        .unwrap();
    assert_eq!(used(), 0, "blocks behind what was promised");
    volume
        .write(handle, 4096, &pattern(4096, 4), false)
        .unwrap();
    let one = used();
    assert!((4096..4096 + 512).contains(&one), "one record: {one}");
    volume.fsync(handle, true).unwrap();
    assert_eq!(volume.status().journal_syncs, syncs + 1);
    volume.write_back().unwrap();
    assert_eq!(used(), 0);
}

/// Far more is overwritten than the ring holds: it goes home in between.
#[test]
fn a_full_ring_is_written_back() {
    let kit = Kit::new();
    for journal in [JournalMode::Manual, JournalMode::Background] {
        let name = format!("{journal:?}");
        let volume = open(
            &kit,
            OpenOptions {
                journal,
                ..manual()
            },
        );
        let node = make_with(&volume, &name, &pattern(3 << 20, 1));
        let handle = reopened(&volume, node);
        volume.fsync(handle, true).unwrap();
        let mut model = pattern(3 << 20, 1);
        for i in 0..40 {
            put(
                &volume,
                handle,
                &mut model,
                i * 70_000,
                100_000 + i,
                i as u8,
            );
        }
        assert!(read_all(&volume, &name).unwrap() == model);
        if journal == JournalMode::Background {
            // A copy that is made while blocks go home is not one of a single moment.
            volume.write_back().unwrap();
        }
        let again = reopen(&kit, killed(&kit, &format!("killed{name}")));
        assert!(read_all(&again, &name).unwrap() == model);
        drop(again);
        volume.release(handle).unwrap();
        volume.close().unwrap();
        drop(volume);
        let volume = kit.open();
        assert!(read_all(&volume, &name).unwrap() == model);
        is_clean(&volume, &name);
    }
}

/// Many threads write and sync; each finds what it wrote, also after a kill.
#[test]
fn writers_share_the_journal() {
    let kit = Kit::new();
    let volume = open(
        &kit,
        OpenOptions {
            journal: JournalMode::Background,
            ..manual()
        },
    );
    let name = |i: usize| format!("file{i}");
    for i in 0..4 {
        make_with(&volume, &name(i), &pattern(200_000, i as u8));
    }
    let models: Vec<Vec<u8>> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..4)
            .map(|i| {
                let volume = &volume;
                scope.spawn(move || {
                    let node = volume.lookup(NodeId::ROOT, name(i).as_bytes()).unwrap().ino;
                    let handle = reopened(volume, node);
                    let mut model = pattern(200_000, i as u8);
                    for k in 0..200 {
                        let at = (k * 7919) % 230_000;
                        put(volume, handle, &mut model, at, 3000, (k + i) as u8);
                        if k % 5 == 0 {
                            volume.fsync(handle, true).unwrap();
                        }
                        if k % 37 == 0 {
                            volume.write_back().unwrap();
                        }
                        let mut got = vec![0; 3000];
                        volume.read(handle, at as u64, &mut got).unwrap();
                        assert!(got == model[at..at + 3000]);
                    }
                    volume.release(handle).unwrap();
                    model
                })
            })
            .collect();
        workers
            .into_iter()
            .map(|worker| worker.join().unwrap())
            .collect()
    });
    let again = reopen(&kit, killed(&kit, "killed"));
    for (i, model) in models.iter().enumerate() {
        assert!(read_all(&volume, &name(i)).unwrap() == *model);
        assert!(read_all(&again, &name(i)).unwrap() == *model, "killed");
    }
    drop(again);
    volume.close().unwrap();
}

/// A record finds its file under another name, in another directory; without the file, it is gone.
#[test]
fn records_follow_their_file() {
    let kit = Kit::new();
    let volume = open(&kit, manual());
    for name in ["moved", "removed", "kept"] {
        make_with(&volume, name, &pattern(9000, 1));
    }
    let dir = volume
        .mkdir(&ME, NodeId::ROOT, b"dir", 0o755, 0)
        .unwrap()
        .ino;
    volume.close().unwrap();
    drop(volume);
    let volume = open(&kit, manual());
    let dir_now = volume.lookup(NodeId::ROOT, b"dir").unwrap().ino;
    assert_eq!(dir, dir_now);
    for name in ["moved", "removed", "kept"] {
        let node = volume.lookup(NodeId::ROOT, name.as_bytes()).unwrap().ino;
        let handle = reopened(&volume, node);
        volume.write(handle, 100, b"newer", false).unwrap();
        volume.release(handle).unwrap();
    }
    volume
        .rename(
            NodeId::ROOT,
            b"moved",
            dir,
            b"elsewhere",
            envelopefs::backing::Rename::Plain,
        )
        .unwrap();
    volume.unlink(NodeId::ROOT, b"removed").unwrap();
    let again = reopen(&kit, killed(&kit, "killed"));
    let mut right = pattern(9000, 1);
    right[100..105].copy_from_slice(b"newer");
    assert!(read_all(&again, "kept").unwrap() == right);
    let dir = again.lookup(NodeId::ROOT, b"dir").unwrap().ino;
    let moved = again.lookup(dir, b"elsewhere").unwrap();
    let handle = again.open_file(&ME, moved.ino, OpenMode::READ).unwrap();
    let mut got = vec![0; 9000];
    again.read(handle, 0, &mut got).unwrap();
    // A copy has other inodes, so a file that was moved is found by its inode only below.
    drop(again);
    volume.write_back().unwrap();
    drop(volume);
}

/// A journal of another time or hand plants nothing, and mutes nothing.
#[test]
fn a_foreign_journal_plants_nothing() {
    let kit = Kit::new();
    let journal = |root: &Path| root.join(".envelopefs/journal");
    let volume = open(&kit, manual());
    let node = make_with(&volume, "file", &pattern(9000, 1));
    let handle = reopened(&volume, node);
    volume.fsync(handle, true).unwrap();
    volume.write(handle, 0, b"old news", false).unwrap();
    volume.fsync(handle, true).unwrap();
    let old = std::fs::read(journal(&kit.cipher())).unwrap();
    volume.release(handle).unwrap();
    volume.close().unwrap();
    drop(volume);

    let volume = open(&kit, manual());
    volume.lookup(NodeId::ROOT, b"file").unwrap();
    let handle = reopened(&volume, node);
    volume.write(handle, 0, b"the newest", false).unwrap();
    volume.fsync(handle, true).unwrap();
    let os = killed(&kit, "planted");
    std::fs::write(journal(&kit.dir.path().join("planted")), &old).unwrap();
    let again = reopen(&kit, os);
    let read = read_all(&again, "file").unwrap();
    assert_eq!(
        &read[..4],
        &pattern(9000, 1)[..4].to_vec()[..].len().to_le_bytes()[..0]
            .iter()
            .chain(b"old ")
            .copied()
            .collect::<Vec<u8>>()[..],
        "home, from before"
    );
    assert_eq!(again.damage().len(), 1, "and it is told");
    drop(again);

    // Every flipped byte of a record ends the replay there; nothing else changes.
    let records = std::fs::read(journal(&kit.cipher())).unwrap();
    for at in [4096, 4100, 4096 + 16, 4096 + 90, 4096 + 400, 4096 + 4000] {
        let os = killed(&kit, &format!("flip{at}"));
        let mut changed = records.clone();
        changed[at] ^= 1;
        std::fs::write(journal(&kit.dir.path().join(format!("flip{at}"))), changed).unwrap();
        let again = reopen(&kit, os);
        assert_eq!(
            &read_all(&again, "file").unwrap()[..8],
            b"old news",
            "byte {at}"
        );
    }
    let again = reopen(&kit, killed(&kit, "right"));
    assert_eq!(&read_all(&again, "file").unwrap()[..10], b"the newest");
}

/// Without its mark a volume is not read leniently (nor after a recovery).
#[test]
fn a_missing_mark_makes_nothing_lenient() {
    let kit = Kit::new();
    let volume = open(&kit, manual());
    make_with(&volume, "file", &pattern(9000, 1));
    volume.close().unwrap();
    drop(volume);
    let zero_entries = |path: &Path| {
        let mut bytes = std::fs::read(path).unwrap();
        bytes[1024..1056].fill(0);
        std::fs::write(path, bytes).unwrap();
    };
    let mark = kit.cipher().join(".envelopefs/mark");
    let saved = std::fs::read(&mark).unwrap();
    std::fs::remove_file(&mark).unwrap();
    zero_entries(&kit.only_file());
    for forged in [None, Some(vec![0; 100]), Some(saved[..20].to_vec())] {
        if let Some(forged) = forged {
            std::fs::write(&mark, forged).unwrap();
        }
        let volume = read_only(&kit, kit.os());
        assert_eq!(volume.damage().len(), 1);
        assert!(matches!(
            read_all(&volume, "file"),
            Err(VolumeError::Damaged { .. })
        ));
    }
}

/// Only what was new at a crash is read leniently; after the recovery nothing is.
#[test]
fn a_crash_makes_only_new_files_lenient_and_only_until_the_recovery() {
    let kit = Kit::new();
    let volume = open(&kit, manual());
    make_with(&volume, "old", &pattern(9000, 1));
    volume.close().unwrap();
    drop(volume);
    let old = kit.only_file();
    let volume = open(&kit, manual());
    make_with(&volume, "new", &pattern(20_000, 2));
    let synced = make_with(&volume, "synced", &pattern(20_000, 3));
    let handle = reopened(&volume, synced);
    volume.fsync(handle, true).unwrap();
    let files: Vec<_> = std::fs::read_dir(kit.cipher())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_file() && *path != old)
        .collect();
    let damage = |root: &Path, file: &Path| {
        let path = root.join(file.file_name().unwrap());
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[1024..1056].fill(0); // block 0 was never written, it seems
        std::fs::write(path, bytes).unwrap();
    };
    // In each of the three: who is forgiven?
    let mut forgiven = Vec::new();
    for (i, file) in files.iter().chain([&old]).enumerate() {
        let os = killed(&kit, &format!("lost{i}"));
        damage(&kit.dir.path().join(format!("lost{i}")), file);
        let volume = reopen(&kit, os);
        for (name, seed, len) in [("old", 1, 9000), ("new", 2, 20_000), ("synced", 3, 20_000)] {
            let mut zeros = pattern(len, seed);
            zeros[..4096].fill(0);
            match read_all(&volume, name) {
                Ok(bytes) if bytes == pattern(len, seed) => {}
                Ok(bytes) => {
                    assert!(bytes == zeros, "{name}");
                    forgiven.push(name);
                }
                Err(error) => assert!(matches!(error, VolumeError::Damaged { .. }), "{error}"),
            }
        }
    }
    assert_eq!(forgiven, ["new"]);

    // Recovered, all are strict.
    let os = killed(&kit, "recovered");
    let root = kit.dir.path().join("recovered");
    let again = reopen(&kit, os);
    assert!(!again.status().clean);
    assert_eq!(again.recover(&|| true).unwrap(), 1);
    assert!(again.status().clean);
    again.close().unwrap();
    drop(again);
    for file in files.iter().chain([&old]) {
        damage(&root, file);
    }
    let again = reopen(&kit, Os::open(&root).unwrap());
    for name in ["old", "new", "synced"] {
        assert!(
            matches!(read_all(&again, name), Err(VolumeError::Damaged { .. })),
            "{name}"
        );
    }
}

/// What an unsynced append leaves after a power cut is cut back to what was promised; what is whole
/// is kept.
#[test]
fn an_append_is_cut_back_to_what_is_whole() {
    let kit = Kit::new();
    let volume = open(&kit, manual());
    let node = make_with(&volume, "file", &pattern(10_000, 1));
    volume.close().unwrap();
    drop(volume);
    let before = std::fs::read(kit.only_file()).unwrap();
    let volume = open(&kit, manual());
    volume.lookup(NodeId::ROOT, b"file").unwrap();
    let handle = reopened(&volume, node);
    let mut model = pattern(10_000, 1);
    put(&volume, handle, &mut model, 10_000, 20_000, 2);
    let name = kit.only_file().file_name().unwrap().to_owned();
    let after = std::fs::read(kit.only_file()).unwrap();
    // Block 5 is lost; the journal (with block 2's new end) too, or not.
    for (what, journal) in [("with", true), ("without", false)] {
        let os = killed(&kit, what);
        let root = kit.dir.path().join(what);
        let mut torn = after.clone();
        torn[4096 * 6..4096 * 7].fill(0);
        if !journal {
            // The ring is empty. Block 2 at home is as it was.
            let path = root.join(".envelopefs/journal");
            let mut bytes = std::fs::read(&path).unwrap();
            bytes[4096..].fill(0);
            std::fs::write(path, bytes).unwrap();
        }
        std::fs::write(root.join(&name), &torn).unwrap();
        let right = if journal { 5 * 4096 } else { 10_000 };
        let reader = read_only(&kit, Os::open(&root).unwrap());
        assert!(read_all(&reader, "file").unwrap()[..right] == model[..right]);
        is_clean(&reader, what);
        drop(reader);
        let again = reopen(&kit, os);
        read_all(&again, "file").unwrap();
        let bytes = read_all(&again, "file").unwrap();
        assert!(bytes == model[..right], "{what}: {}", bytes.len());
        is_clean(&again, what);
        again.close().unwrap();
    }
    assert_eq!(after[4096..8192], before[4096..8192]);
}

/// A new file of which a power cut left something: what is whole is kept, nothing is an error.
#[test]
fn a_torn_new_file_is_no_error() {
    let kit = Kit::new();
    let volume = open(&kit, manual());
    make_with(&volume, "file", &pattern(30_000, 1));
    let name = kit.only_file().file_name().unwrap().to_owned();
    let whole = std::fs::read(kit.only_file()).unwrap();
    let right = pattern(30_000, 1);
    for seed in 0..60u64 {
        let os = killed(&kit, &format!("torn{seed}"));
        let root = kit.dir.path().join(format!("torn{seed}"));
        let mut torn = whole.clone();
        // Pages that never reached the disk, and sectors of the first one.
        for page in 1..whole.len().div_ceil(4096) {
            if (seed >> (page % 6)) & 1 == 1 {
                let end = ((page + 1) * 4096).min(torn.len());
                torn[page * 4096..end].fill(0);
            }
        }
        for sector in 0..8 {
            if seed % 9 == sector {
                torn[sector as usize * 512..][..512].fill(0);
            }
        }
        torn.truncate(if seed % 5 == 0 { 15_000 } else { torn.len() });
        std::fs::write(root.join(&name), torn).unwrap();
        for volume in [read_only(&kit, Os::open(&root).unwrap()), reopen(&kit, os)] {
            let bytes = read_all(&volume, "file").unwrap();
            let bytes = if volume.is_read_only() {
                bytes
            } else {
                read_all(&volume, "file").unwrap()
            };
            for (i, block) in bytes.chunks(4096).enumerate() {
                assert!(
                    block == &right[i * 4096..][..block.len()] || block.iter().all(|&b| b == 0),
                    "seed {seed}, block {i}"
                );
            }
            is_clean(&volume, &format!("seed {seed}"));
            if !volume.is_read_only() {
                volume.recover(&|| true).unwrap();
                is_clean(&volume, &format!("seed {seed}, recovered"));
            }
        }
    }
}

/// Every call of a journaled step fails once, or from then on: the blocks are old or new, and after
/// a reopening too.
#[test]
fn a_failing_disk_leaves_each_block_old_or_new() {
    for size in [100_usize, 3000, 9000, 40_000, 900_000] {
        let what = &*format!("{size} bytes");
        for repeat in [Repeat::Once, Repeat::FromThenOn] {
            for nth in 1..60 {
                let kit = Kit::new();
                let volume = open(&kit, manual());
                make_with(&volume, "file", &pattern(size, 1));
                volume.close().unwrap();
                drop(volume);
                let faulty = envelopefs::backing::Faulty::new(kit.os());
                let faults = faulty.faults();
                let volume = Volume::open(faulty, Arc::clone(&kit.kms), manual()).unwrap();
                let node = volume.lookup(NodeId::ROOT, b"file").unwrap().ino;
                let handle = volume.open_file(&ME, node, OpenMode::READ_WRITE).unwrap();
                faults.reset_counts();
                faults.fail_nth(Calls::CHANGES, nth, libc::ENOSPC, repeat);
                let new = pattern(6000, 2);
                let at = size / 2;
                let wrote = volume.write(handle, at as u64, &new, false).is_ok();
                let cut = SetAttr {
                    size: Some(size as u64 / 4),
                    ..SetAttr::default()
                };
                let cut_done = volume.setattr(&ME, node, None, &cut).is_ok();
                let synced = volume.fsync(handle, true).is_ok();
                let failed = faults.failed();
                faults.clear();
                let mut whole = pattern(size, 1);
                if whole.len() < at + 6000 {
                    whole.resize(at + 6000, 0);
                }
                whole[at..at + 6000].copy_from_slice(&new);
                let old = pattern(size, 1);
                let check = |bytes: &[u8], when: &str| {
                    let right = [&old[..], &whole[..], &old[..size / 4]];
                    assert!(
                        right.contains(&bytes),
                        "{what}, call {nth}, {repeat:?}, {when}: {} bytes (wrote {wrote}, cut {cut_done}, synced {synced})",
                        bytes.len()
                    );
                    if cut_done {
                        assert_eq!(bytes.len(), size / 4, "{what}, call {nth}, {when}");
                    } else if when == "killed" && failed > 0 && bytes.len() == size / 4 {
                        // A disk that fails can't be told that the cut, which it has, failed.
                    } else if wrote {
                        assert!(bytes == whole, "{what}, call {nth}, {when}");
                    }
                };
                let read = |volume: &Volume<_>, when: &str| {
                    read_all(volume, "file").unwrap_or_else(|error| {
                        panic!("{what}, call {nth}, {repeat:?}, {when}, wrote {wrote}, cut {cut_done}: {error}")
                    })
                };
                // What could not even be put back is, when the disk works again.
                volume.write_back().unwrap();
                check(&read(&volume, "at once"), "at once");
                let again = reopen(&kit, killed(&kit, "killed"));
                check(&read_all(&again, "file").unwrap(), "killed");
                is_clean(&again, what);
                drop(again);
                volume.release(handle).unwrap();
                volume.close().unwrap();
                drop(volume);
                let volume = kit.open();
                let bytes = read_all(&volume, "file").unwrap_or_else(|error| {
                    panic!("{what}, call {nth}, {repeat:?}, closed, wrote {wrote}, cut {cut_done}: {error}")
                });
                check(&bytes, "closed");
                is_clean(&volume, what);
                if failed == 0 {
                    break;
                }
                assert!(nth < 59, "more calls than expected");
            }
        }
    }
}
