//! Re-encrypt: a new data key for a file and all of it sealed anew, in place, while it is in use.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use crate::kit::{Budget, Kit, ME, make, make_with, pattern, read_all};
use envelopefs::backing::{Backing, Calls, Os, Repeat, SetTime, Time};
use envelopefs::content::{BlockIndex, FileKeys, Layout};
use envelopefs::format::{
    ENTRIES_AT, ENTRY_LEN, Entry, HEADER_LEN, INLINE_AT, KeyRole, PAGE, SLOT_A_AT, SLOT_B_AT,
    STATE_AT, Slot, State, StaticPart, VolumeId,
};
use envelopefs::kms::volume_context;
use envelopefs::maintain::reencrypt::{self, ReencryptOptions, ReencryptReport};
use envelopefs::maintain::rewrap::{self, RewrapOptions};
use envelopefs::maintain::{self, Silent};
use envelopefs::volume::{
    FallocateMode, JournalMode, NodeId, OpenMode, OpenOptions, SetAttr, Volume, VolumeError,
};
use rand::rngs::SmallRng;
use rand::{Rng, RngExt, SeedableRng};

fn options() -> ReencryptOptions {
    ReencryptOptions {
        threads: 2,
        ..ReencryptOptions::default()
    }
}

fn whole<B: Backing>(volume: &Volume<B>) -> ReencryptReport {
    let report = reencrypt::run(volume, &options(), &Silent).unwrap();
    assert!(report.complete, "{report:?}");
    report
}

/// A cipher file as it lies on disk, and its data keys.
struct Below {
    bytes: Vec<u8>,
    slots: Vec<Slot>,
    keys: Vec<FileKeys>,
}

impl Below {
    fn of(kit: &Kit, volume: VolumeId, path: &Path) -> Self {
        let bytes = fs::read(path).unwrap();
        let part = StaticPart::parse(&bytes).unwrap();
        let slots: Vec<Slot> = [SLOT_A_AT, SLOT_B_AT]
            .into_iter()
            .filter_map(|at| Slot::parse(&bytes[at..]).unwrap())
            .collect();
        let context = volume_context(&volume).with("envelopefs:file-id", part.file_id.to_string());
        let caller = kit.kms.volume_caller(&volume);
        let client = kit.kms.client(&caller);
        let keys = slots
            .iter()
            .flat_map(|slot| &slot.keys)
            .map(|key| {
                let data_key = client.decrypt_data_key(&key.blob, &context).unwrap();
                FileKeys::derive(&data_key, &volume, &part.file_id, key.key_generation)
            })
            .collect();
        Self { bytes, slots, keys }
    }

    fn size(&self) -> u64 {
        Layout::of_cipher_size(self.bytes.len() as u64)
            .unwrap()
            .size()
    }

    fn is_inline(&self) -> bool {
        self.bytes.len() <= PAGE
    }

    fn entry(&self, block: u64) -> Option<Entry> {
        let (group, place) = BlockIndex(block).place();
        let at = group.entry_at(place).0 as usize;
        Entry::parse(self.bytes[at..at + ENTRY_LEN].try_into().unwrap()).unwrap()
    }

    fn data(&self, block: u64) -> &[u8] {
        if self.is_inline() {
            return &self.bytes[INLINE_AT..];
        }
        let at = BlockIndex(block).data_at().0 as usize;
        &self.bytes[at..at + BlockIndex(block).len_in(self.size())]
    }

    fn blocks(&self) -> u64 {
        self.size().div_ceil(PAGE as u64)
    }

    fn entries(&self) -> Vec<Option<Entry>> {
        (0..self.blocks()).map(|block| self.entry(block)).collect()
    }

    fn sequences(&self) -> Vec<Option<u16>> {
        let entries = self.entries().into_iter();
        entries
            .map(|entry| entry.map(|entry| entry.sequence))
            .collect()
    }

    /// Whether any of these keys opens a block, or the state, of `other`.
    fn opens(&self, other: &Self) -> bool {
        self.keys.iter().any(|keys| {
            let state = State::open(&other.bytes[STATE_AT..HEADER_LEN], keys.content()).is_ok();
            let opens = |block| {
                let mut data = other.data(block).to_vec();
                if other.is_inline() {
                    return keys.open_inline(&other.bytes[ENTRIES_AT..]).is_ok();
                }
                other.entry(block).is_some_and(|entry| {
                    keys.open_block(BlockIndex(block), &entry, &mut data)
                        .is_ok()
                })
            };
            state || (0..other.blocks()).any(opens)
        })
    }

    fn has_previous(&self) -> bool {
        let mut keys = self.slots.iter().flat_map(|slot| &slot.keys);
        keys.any(|key| key.role == KeyRole::Previous)
    }
}

/// The cipher files by the names of the plaintext.
fn paths(kit: &Kit, volume: &Volume<Os>, names: &[&str]) -> BTreeMap<String, PathBuf> {
    use std::os::unix::fs::MetadataExt;
    let by_inode: BTreeMap<u64, PathBuf> = fs::read_dir(kit.cipher())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| (fs::symlink_metadata(&path).unwrap().ino(), path))
        .collect();
    names
        .iter()
        .map(|name| {
            let ino = volume.lookup(NodeId::ROOT, name.as_bytes()).unwrap().ino;
            ((*name).to_owned(), by_inode[&ino.0].clone())
        })
        .collect()
}

fn clean<B: Backing>(volume: &Volume<B>) {
    let report = maintain::fsck::run(volume, &Silent).unwrap();
    assert!(report.is_clean(), "{report:?}");
}

/// Nothing goes home by itself.
fn open_manual(kit: &Kit) -> Volume<Os> {
    let options = OpenOptions {
        journal: JournalMode::Manual,
        ..OpenOptions::default()
    };
    open_with(kit, options)
}

/// The process ends without a word; its lock ends with it.
fn killed(kit: &Kit, volume: Volume<Os>) -> Volume<Os> {
    std::mem::forget(volume);
    fs::remove_file(kit.cipher().join(".envelopefs/lock")).unwrap();
    open_manual(kit)
}

const NAMES: [&str; 8] = [
    "tiny", "inline", "two", "groups", "sparse", "allhole", "empty", "outgrown",
];

/// Files of each kind; what they hold.
fn kinds(volume: &Volume<Os>) -> BTreeMap<String, Vec<u8>> {
    let mut all = BTreeMap::new();
    for (name, len) in [
        ("tiny", 1),
        ("inline", 3040),
        ("two", 5000),
        ("groups", 4096 * 400 + 100),
        ("empty", 0),
    ] {
        let bytes = pattern(len, 7);
        make_with(volume, name, &bytes);
        all.insert(name.to_owned(), bytes);
    }
    let (_, handle) = make(volume, "sparse");
    let mut bytes = vec![0; 8 << 20];
    for at in [0, 1 << 20, (8 << 20) - 5000] {
        let data = pattern(5000, 9);
        volume.write(handle, at as u64, &data, false).unwrap();
        bytes[at..at + 5000].copy_from_slice(&data);
    }
    volume.release(handle).unwrap();
    all.insert("sparse".into(), bytes);
    let (attr, handle) = make(volume, "allhole");
    let set = SetAttr {
        size: Some(3 << 20),
        ..SetAttr::default()
    };
    volume.setattr(&ME, attr.ino, Some(handle), &set).unwrap();
    volume.release(handle).unwrap();
    all.insert("allhole".into(), vec![0; 3 << 20]);
    let (_, handle) = make(volume, "outgrown");
    volume.write(handle, 0, &pattern(100, 3), false).unwrap();
    volume.fsync(handle, false).unwrap();
    volume.write(handle, 100, &pattern(9000, 4), false).unwrap();
    volume.release(handle).unwrap();
    let mut bytes = pattern(100, 3);
    bytes.extend(pattern(9000, 4));
    all.insert("outgrown".into(), bytes);
    all
}

fn all_right<B: Backing>(volume: &Volume<B>, right: &BTreeMap<String, Vec<u8>>, what: &str) {
    for (name, bytes) in right {
        assert!(read_all(volume, name).unwrap() == *bytes, "{what}: {name}");
    }
}

fn times(volume: &Volume<Os>) -> Vec<(NodeId, Time, Time, u64)> {
    NAMES
        .iter()
        .map(|name| volume.lookup(NodeId::ROOT, name.as_bytes()).unwrap())
        .map(|attr| (attr.ino, attr.mtime, attr.ctime, attr.size))
        .collect()
}

#[test]
fn all_of_it_is_new_and_reads_as_before() {
    let kit = Kit::new();
    let volume = kit.open();
    let right = kinds(&volume);
    volume.close().unwrap();
    drop(volume);
    let mut volume = kit.open();
    let id = volume.id();
    let paths = paths(&kit, &volume, &NAMES);
    let below = |name: &str| Below::of(&kit, id, &paths[name]);
    let shown = times(&volume);
    for round in 1..=3_u8 {
        let before: BTreeMap<&str, Below> = NAMES
            .into_iter()
            .filter(|name| *name != "empty")
            .map(|name| (name, below(name)))
            .collect();
        let report = whole(&volume);
        assert_eq!(
            (report.files, report.reencrypted, report.empty),
            (8, 7, 1),
            "{report:?}"
        );
        assert_eq!(report.blocks, 1 + 1 + 2 + 401 + 6 + 3);
        assert!(
            times(&volume) == shown,
            "round {round}: times or sizes moved"
        );
        all_right(&volume, &right, "after");
        for (name, before) in before {
            let after = below(name);
            assert_eq!(after.slots.len(), 2, "{name}");
            assert!(!after.has_previous(), "{name}");
            for key in after.slots.iter().flat_map(|slot| &slot.keys) {
                assert_eq!(key.key_generation, round, "{name}");
                let mut old = before.slots.iter().flat_map(|slot| &slot.keys);
                assert!(old.all(|old| old.blob != key.blob), "{name}");
            }
            assert!(!before.opens(&after), "{name}: the old key still opens it");
            assert!(!after.opens(&before), "{name}: the key is the old one");
            assert!(after.opens(&after), "{name}");
            assert_eq!(before.blocks(), after.blocks());
            for block in 0..before.blocks() {
                let (Some(old), Some(new)) = (before.entry(block), after.entry(block)) else {
                    assert_eq!(before.entry(block), after.entry(block), "{name}: holes");
                    continue;
                };
                assert_eq!(new.key_generation, round);
                assert!(old.sealed != new.sealed, "{name}, block {block}");
                assert!(before.data(block) != after.data(block), "{name}, {block}");
            }
        }
        clean(&volume);
        volume.close().unwrap();
        drop(volume);
        volume = kit.open();
        assert!(times(&volume) == shown, "round {round}: moved by a remount");
        all_right(&volume, &right, "reopened");
        clean(&volume);
    }
    // What a user does shows.
    let (node, _, ctime, _) = shown[3];
    let handle = volume.open_file(&ME, node, OpenMode::READ_WRITE).unwrap();
    volume.write(handle, 0, b"x", false).unwrap();
    volume.release(handle).unwrap();
    assert!(volume.getattr(node, None).unwrap().ctime > ctime);
}

/// Stopped after each number of steps, in any way, and run again: each block is sealed once.
#[test]
fn what_was_stopped_goes_on_and_does_nothing_twice() {
    let names = ["groups", "inline"];
    for (steps, kill, rewrapped) in [
        (1, false, false),
        (2, false, true),
        (3, true, false),
        (1, true, true),
    ] {
        let kit = Kit::new();
        let mut volume = open_manual(&kit);
        let right: BTreeMap<String, Vec<u8>> = [("groups", 4096 * 700 + 9), ("inline", 200)]
            .map(|(name, len)| (name.to_owned(), pattern(len, 3)))
            .into();
        for (name, bytes) in &right {
            make_with(&volume, name, bytes);
        }
        volume.close().unwrap();
        drop(volume);
        volume = open_manual(&kit);
        let id = volume.id();
        let before: Vec<Below> = paths(&kit, &volume, &names)
            .values()
            .map(|path| Below::of(&kit, id, path))
            .collect();
        let (mut rounds, mut blocks, mut under_way) = (0, 0, 0);
        loop {
            rounds += 1;
            let options = ReencryptOptions {
                resume: rounds > 1,
                ..ReencryptOptions::default()
            };
            let report = reencrypt::run(&volume, &options, &Budget::of(steps)).unwrap();
            assert!(report.failed.is_empty(), "{report:?}");
            blocks += report.blocks;
            if report.complete {
                break;
            }
            all_right(&volume, &right, "stopped");
            volume = if kill {
                killed(&kit, volume)
            } else {
                volume.close().unwrap();
                drop(volume);
                open_manual(&kit)
            };
            all_right(&volume, &right, "opened again");
            clean(&volume);
            let here = paths(&kit, &volume, &names);
            under_way += here
                .values()
                .filter(|path| Below::of(&kit, id, path).has_previous())
                .count();
            if rewrapped {
                let key = volume.volume_key_id();
                kit.kms.rotate_volume_key(&volume.id(), &key).unwrap();
                let report = rewrap::run(&volume, &RewrapOptions::default(), &Silent).unwrap();
                assert!(report.complete && report.rewrapped == 2, "{report:?}");
                all_right(&volume, &right, "rewrapped");
            }
            assert!(rounds < 100);
        }
        assert!(rounds > 2 && under_way > 0, "{rounds} rounds");
        assert_eq!(blocks, 701 + 1);
        let after: Vec<Below> = paths(&kit, &volume, &names)
            .values()
            .map(|path| Below::of(&kit, id, path))
            .collect();
        for (before, after) in before.iter().zip(&after) {
            assert!(!after.has_previous());
            if after.is_inline() {
                continue; // has no sequence
            }
            let once: Vec<_> = before
                .sequences()
                .into_iter()
                .map(|sequence| sequence.map(|sequence| sequence + 1))
                .collect();
            assert!(
                once == after.sequences(),
                "a block was sealed more than once"
            );
            let current = |entry: &Option<Entry>| entry.unwrap().key_generation == 1;
            assert!(after.entries().iter().all(current));
        }
        clean(&volume);
        let log = kit.cipher().join(".envelopefs/reencrypted");
        assert!(!log.exists(), "the run is through");
    }
}

/// Without `resume` a run begins with all files, those that an earlier one finished included.
#[test]
fn a_new_run_does_all_files_and_a_resumed_one_what_is_left() {
    let kit = Kit::new();
    let volume = kit.open();
    for i in 0..20 {
        make_with(&volume, &format!("f{i}"), &pattern(100 + i, 1));
    }
    let first = ReencryptOptions::default();
    let resumed = ReencryptOptions {
        resume: true,
        ..first.clone()
    };
    let report = reencrypt::run(&volume, &first, &Budget::of(7)).unwrap();
    assert!(!report.complete && report.reencrypted == 7, "{report:?}");
    // An entry of the log that isn't authentic counts for nothing.
    let log = kit.cipher().join(".envelopefs/reencrypted");
    let mut bytes = fs::read(&log).unwrap();
    assert_eq!(bytes.len(), 7 * 64);
    bytes[3 * 64 + 5] ^= 1;
    fs::write(&log, &bytes).unwrap();
    let report = reencrypt::run(&volume, &resumed, &Budget::of(4)).unwrap();
    assert!(!report.complete && report.skipped <= 6 && report.reencrypted == 4);
    let report = reencrypt::run(&volume, &first, &Budget::of(5)).unwrap();
    assert_eq!((report.skipped, report.reencrypted), (0, 5));
    let report = reencrypt::run(&volume, &resumed, &Silent).unwrap();
    assert!(report.complete);
    assert_eq!((report.skipped, report.reencrypted), (5, 15));
    assert_eq!(whole(&volume).reencrypted, 20);
}

#[test]
fn paths_limit_a_run() {
    let kit = Kit::new();
    let volume = kit.open();
    for dir in ["a", "b"] {
        let node = volume
            .mkdir(&ME, NodeId::ROOT, dir.as_bytes(), 0o755, 0)
            .unwrap();
        let inner = volume.mkdir(&ME, node.ino, b"inner", 0o755, 0).unwrap();
        for parent in [node.ino, inner.ino] {
            let made = volume.create(&ME, parent, b"file", 0o644, 0, OpenMode::READ_WRITE);
            let (attr, handle) = made.unwrap();
            volume.write(handle, 0, &pattern(9000, 1), false).unwrap();
            volume.release(handle).unwrap();
            if parent == inner.ino {
                volume
                    .link(attr.ino, NodeId::ROOT, format!("{dir}-link").as_bytes())
                    .unwrap();
            }
        }
    }
    let run = |paths: &[&str]| {
        let options = ReencryptOptions {
            paths: paths.iter().map(|path| path.as_bytes().to_vec()).collect(),
            ..options()
        };
        reencrypt::run(&volume, &options, &Silent).unwrap()
    };
    assert_eq!(run(&["a"]).reencrypted, 2);
    assert_eq!(
        run(&["/b/inner", "b-link"]).reencrypted,
        1,
        "one file by two names"
    );
    assert_eq!(run(&["a/inner/file", "b/file"]).reencrypted, 2);
    assert_eq!(run(&["/"]).reencrypted, 4);
    let report = run(&["a/none", "b"]);
    assert!(!report.complete && report.reencrypted == 2);
    assert_eq!(report.failed[0].path, "a/none");
    clean(&volume);
}

/// The users' side of a file that they change while it is re-encrypted.
#[test]
fn others_write_cut_and_punch_meanwhile() {
    let kit = Kit::new();
    let volume = kit.open();
    let mut right: Vec<Vec<u8>> = Vec::new();
    let mut handles = Vec::new();
    for i in 0..4_u8 {
        let bytes = pattern(300 * 4096 + usize::from(i) * 1000, i);
        let (attr, handle) = make(&volume, &format!("f{i}"));
        volume.write(handle, 0, &bytes, false).unwrap();
        handles.push((attr.ino, handle));
        right.push(bytes);
    }
    let stop = AtomicBool::new(false);
    let (volume_ref, stop_ref) = (&volume, &stop);
    let rounds = std::thread::scope(|scope| {
        for (seed, ((node, handle), bytes)) in handles.iter().zip(&mut right).enumerate() {
            scope.spawn(move || {
                let mut rng = SmallRng::seed_from_u64(seed as u64);
                while !stop_ref.load(Ordering::Relaxed) {
                    change(volume_ref, (*node, *handle), bytes, &mut rng);
                }
            });
        }
        let begin = Instant::now();
        let mut rounds = 0;
        while rounds < 3 || begin.elapsed().as_secs() < 3 {
            let report = reencrypt::run(&volume, &options(), &Silent);
            rounds += 1;
            let Ok(report) = report else {
                stop.store(true, Ordering::Relaxed);
                panic!("{report:?}")
            };
            if !report.complete {
                stop.store(true, Ordering::Relaxed);
                panic!("{report:?}")
            }
        }
        stop.store(true, Ordering::Relaxed);
        rounds
    });
    println!("{rounds} rounds");
    for (i, bytes) in right.iter().enumerate() {
        assert!(
            read_all(&volume, &format!("f{i}")).unwrap() == *bytes,
            "file {i}"
        );
    }
    for (_, handle) in handles {
        volume.release(handle).unwrap();
    }
    volume.close().unwrap();
    drop(volume);
    let volume = kit.open();
    clean(&volume);
    for (i, bytes) in right.iter().enumerate() {
        let name = format!("f{i}");
        assert!(
            read_all(&volume, &name).unwrap() == *bytes,
            "file {i}, reopened"
        );
        let path = &paths(&kit, &volume, &[&name])[&name];
        assert!(bytes.is_empty() || !Below::of(&kit, volume.id(), path).has_previous());
    }
}

/// One change of a file, below and in `bytes`.
fn change(
    volume: &Volume<Os>,
    (node, handle): (NodeId, envelopefs::volume::HandleId),
    bytes: &mut Vec<u8>,
    rng: &mut SmallRng,
) {
    match rng.random_range(0..20) {
        0 => {
            let size = match rng.random_range(0..6) {
                0 => 0,
                1 => rng.random_range(0..3000),
                _ => rng.random_range(200 * 4096..300 * 4096),
            };
            bytes.resize(size, 0);
            let set = SetAttr {
                size: Some(size as u64),
                ..SetAttr::default()
            };
            volume.setattr(&ME, node, Some(handle), &set).unwrap();
        }
        1 if !bytes.is_empty() => {
            let at = rng.random_range(0..bytes.len());
            let len = rng.random_range(1..=(bytes.len() - at).min(40_000));
            bytes[at..at + len].fill(0);
            let punch = FallocateMode::PunchHole;
            volume
                .fallocate(handle, punch, at as u64, len as u64)
                .unwrap();
        }
        2 => volume.fsync(handle, rng.random_bool(0.5)).unwrap(),
        3 => {
            let mut read = vec![0; bytes.len()];
            assert_eq!(volume.read(handle, 0, &mut read).unwrap(), bytes.len());
            assert!(read == *bytes);
        }
        4 => {
            let set = SetAttr {
                mtime: SetTime::Now,
                ..SetAttr::default()
            };
            volume.setattr(&ME, node, Some(handle), &set).unwrap();
        }
        _ => {
            let at = rng.random_range(0..320 * 4096);
            let mut data = vec![0; rng.random_range(1..30_000)];
            rng.fill_bytes(&mut data);
            let end = at + data.len();
            if bytes.len() < end {
                bytes.resize(end, 0);
            }
            bytes[at..end].copy_from_slice(&data);
            volume.write(handle, at as u64, &data, false).unwrap();
        }
    }
}

/// A file that is half re-encrypted, and what it holds.
fn half_done(kit: &Kit) -> Vec<u8> {
    let volume = kit.open();
    let bytes = pattern(4096 * 200 + 77, 5);
    make_with(&volume, "file", &bytes);
    volume.close().unwrap();
    drop(volume);
    let volume = kit.open();
    let report = reencrypt::run(&volume, &ReencryptOptions::default(), &Budget::of(1)).unwrap();
    assert!(!report.complete && report.blocks > 0);
    volume.close().unwrap();
    bytes
}

/// Whoever changes which data key an entry, a slot or the state is said to be of gets no other bytes.
#[test]
fn tampering_with_a_file_under_way() {
    let kit = Kit::new();
    let right = half_done(&kit);
    let path = kit.only_file();
    let volume = kit.open();
    let id = volume.id();
    assert!(read_all(&volume, "file").unwrap() == right);
    clean(&volume);
    volume.close().unwrap();
    drop(volume);
    let below = Below::of(&kit, id, &path);
    assert!(below.has_previous());
    let old = below
        .entries()
        .iter()
        .flatten()
        .filter(|entry| entry.key_generation == 0)
        .count();
    assert!(old > 0 && old < 201, "{old} blocks are under the old key");
    let file = fs::File::options()
        .read(true)
        .write(true)
        .open(&path)
        .unwrap();
    let with = |at: u64, new: &[u8]| {
        let mut before = vec![0; new.len()];
        file.read_exact_at(&mut before, at).unwrap();
        file.write_all_at(new, at).unwrap();
        let volume = kit.open_read_only();
        let read = read_all(&volume, "file");
        file.write_all_at(&before, at).unwrap();
        match read {
            Ok(bytes) => {
                assert!(bytes == right, "byte {at}: wrong bytes");
                true
            }
            Err(VolumeError::Damaged { .. } | VolumeError::Key(_)) => false,
            Err(error) => panic!("byte {at}: {error}"),
        }
    };
    // Each entry is said to be of the other key.
    for block in 0..below.blocks() {
        let mut entry = below.entry(block).unwrap();
        entry.key_generation ^= 1;
        let (group, place) = BlockIndex(block).place();
        assert!(
            !with(group.entry_at(place).0, &entry.encode()),
            "block {block}"
        );
    }
    // Any bit of the header. The slot that was written when the file was made is the older one.
    let newest = below
        .slots
        .iter()
        .max_by_key(|slot| slot.generation)
        .unwrap();
    let newest_at = if newest == &below.slots[0] {
        SLOT_A_AT
    } else {
        SLOT_B_AT
    };
    for at in (0..HEADER_LEN as u64).step_by(3) {
        let mut byte = [below.bytes[at as usize]];
        byte[0] ^= 1 << (at % 8);
        let same = with(at, &byte);
        let in_older = (SLOT_A_AT as u64..STATE_AT as u64).contains(&at)
            && !(newest_at as u64..newest_at as u64 + 448).contains(&at);
        assert_eq!(same, in_older, "byte {at}");
    }
    // The newest slot gone: the older one's key doesn't open what is under the new one.
    assert!(!with(newest_at as u64, &[0; 448]));
    assert!(with(
        u64::try_from(HEADER_LEN).unwrap(),
        &below.bytes[HEADER_LEN..HEADER_LEN + 32]
    ));
}

/// A block that can't be opened keeps the old key in the header; everything else is done.
#[test]
fn a_damaged_block_is_told_of_and_the_others_are_done() {
    let kit = Kit::new();
    let volume = kit.open();
    let right = pattern(4096 * 150, 5);
    make_with(&volume, "file", &right);
    make_with(&volume, "other", b"other");
    volume.close().unwrap();
    drop(volume);
    let volume = kit.open();
    let path = paths(&kit, &volume, &["file"])["file"].clone();
    let id = volume.id();
    let file = fs::File::options()
        .read(true)
        .write(true)
        .open(&path)
        .unwrap();
    let at = BlockIndex(120).data_at().0 + 9;
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 4], at).unwrap();
    let report = reencrypt::run(&volume, &options(), &Silent).unwrap();
    assert!(!report.complete);
    assert_eq!((report.reencrypted, report.failed.len()), (1, 1));
    assert_eq!(report.blocks, 1, "of what is through");
    assert!(report.failed[0].why.contains("block 120"), "{report:?}");
    volume.close().unwrap();
    drop(volume);
    let below = Below::of(&kit, id, &path);
    for (block, entry) in below.entries().into_iter().enumerate() {
        assert_eq!(entry.unwrap().key_generation, u8::from(block != 120));
    }
    assert!(below.has_previous());
    // Mended, it goes on.
    let file = fs::File::options().write(true).open(&path).unwrap();
    file.write_all_at(&byte, at).unwrap();
    let volume = kit.open();
    let report = reencrypt::run(&volume, &options(), &Silent).unwrap();
    assert!(report.complete && report.resumed == 1, "{report:?}");
    assert!(read_all(&volume, "file").unwrap() == right);
    clean(&volume);
    assert!(!Below::of(&kit, id, &path).has_previous());
}

/// Whichever call below fails: the files read as before, then and later, and the next run ends it.
#[test]
fn each_call_fails_once() {
    for (size, steps) in [(100, 50), (5000, 50), (4096 * 130, 50), (4096 * 130, 1)] {
        for nth in 1.. {
            let kit = Kit::new();
            let right = pattern(size, 6);
            let (volume, faults) = kit.open_faulty();
            let handle = make(&volume, "file").1;
            volume.write(handle, 0, &right, false).unwrap();
            faults.reset_counts();
            faults.fail_nth(Calls::ANY, nth, libc::EIO, Repeat::Once);
            let what = format!("{size} bytes, call {nth}");
            let ended = reencrypt::run(&volume, &options(), &Budget::of(steps));
            let failed = faults.failed();
            faults.clear();
            if failed > 0
                && let Ok(report) = &ended
            {
                assert!(report.failed.len() <= 1, "{what}: {report:?}");
            }
            assert!(read_all(&volume, "file").unwrap() == right, "{what}");
            if nth % 2 == 0 {
                assert!(whole(&volume).reencrypted == 1, "{what}");
                assert!(read_all(&volume, "file").unwrap() == right, "{what}: again");
            }
            volume.release(handle).unwrap();
            volume.close().unwrap();
            drop(volume);
            let volume = kit.open();
            assert!(
                read_all(&volume, "file").unwrap() == right,
                "{what}: reopened"
            );
            clean(&volume);
            assert_eq!(whole(&volume).reencrypted, 1, "{what}");
            assert!(
                read_all(&volume, "file").unwrap() == right,
                "{what}: at last"
            );
            if failed == 0 {
                break;
            }
            assert!(nth < 300, "{what} {failed} {:?}", faults.total(Calls::ANY));
        }
    }
}

fn open_with(kit: &Kit, options: OpenOptions) -> Volume<Os> {
    Volume::open(kit.os(), Arc::clone(&kit.kms), options).unwrap()
}

/// A file that nears the bound of what one data key may seal gets a new one while it is open.
#[test]
fn a_worn_data_key_is_renewed_in_the_background() {
    let kit = Kit::new();
    let volume = kit.open();
    let right = pattern(4096 * 140, 2);
    make_with(&volume, "file", &right);
    volume.close().unwrap();
    let id = volume.id();
    drop(volume);
    let path = kit.only_file();
    // As if it had sealed so much.
    let worn = |seals: u32| {
        let below = Below::of(&kit, id, &path);
        let key = below.keys[0].content();
        let state = State::open(&below.bytes[STATE_AT..HEADER_LEN], key).unwrap();
        let bytes = State { seals, ..state }.seal(key);
        let file = fs::File::options().write(true).open(&path).unwrap();
        file.write_all_at(&bytes, STATE_AT as u64).unwrap();
    };
    let number = |path: &Path| Below::of(&kit, id, path).slots[0].keys[0].key_generation;
    let cases = [
        (OpenOptions::default(), 24_575, false),
        (OpenOptions::default(), 24_576, true),
        (
            OpenOptions {
                renew_at: 100,
                ..OpenOptions::default()
            },
            100,
            true,
        ),
    ];
    for (options, seals, due) in cases {
        worn(seals);
        let before = number(&path);
        let volume = open_with(&kit, options);
        let node = volume.lookup(NodeId::ROOT, b"file").unwrap().ino;
        // For reading only: it is opened for writing besides.
        let handle = volume.open_file(&ME, node, OpenMode::READ).unwrap();
        assert_eq!(volume.renew_worn(&|| false), 0, "stopped");
        assert_eq!(volume.renew_worn(&|| true), u64::from(due), "{seals} seals");
        assert_eq!(volume.renew_worn(&|| true), 0, "once is enough");
        assert!(read_all(&volume, "file").unwrap() == right);
        volume.release(handle).unwrap();
        volume.close().unwrap();
        drop(volume);
        assert_eq!(number(&path), before + u8::from(due), "{seals} seals");
    }
    // One that was left in between goes on by itself when it is open.
    let volume = kit.open();
    let report = reencrypt::run(&volume, &ReencryptOptions::default(), &Budget::of(1)).unwrap();
    assert!(!report.complete);
    let node = volume.lookup(NodeId::ROOT, b"file").unwrap().ino;
    let handle = volume.open_file(&ME, node, OpenMode::READ).unwrap();
    assert_eq!(volume.renew_worn(&|| true), 1);
    volume.release(handle).unwrap();
    volume.close().unwrap();
    drop(volume);
    // Worn out: it can't be written to before it has a new key.
    worn(1 << 15);
    let volume = kit.open();
    volume.lookup(NodeId::ROOT, b"file").unwrap();
    let handle = volume.open_file(&ME, node, OpenMode::READ_WRITE).unwrap();
    assert!(matches!(
        volume.write(handle, 0, &right[..1], false),
        Err(VolumeError::KeyWornOut(_))
    ));
    assert_eq!(volume.renew_worn(&|| true), 1);
    volume.write(handle, 0, &right[..1], false).unwrap();
    volume.release(handle).unwrap();
    clean(&volume);
}

/// In place without a journal a kill would tear blocks: nothing is begun with.
#[test]
fn not_without_a_journal() {
    let kit = Kit::new();
    let options_off = OpenOptions {
        journal: JournalMode::Off,
        ..OpenOptions::default()
    };
    let volume = open_with(&kit, options_off);
    make_with(&volume, "file", &pattern(9000, 1));
    let report = reencrypt::run(&volume, &options(), &Silent).unwrap();
    assert_eq!(report.failed.len(), 1);
    assert!(report.failed[0].why.contains("journal"), "{report:?}");
    clean(&volume);
    volume.close().unwrap();
    drop(volume);
    assert!(!Below::of(&kit, kit.open_read_only().id(), &kit.only_file()).has_previous());
}

#[test]
fn max_rate_holds() {
    let kit = Kit::new();
    let volume = kit.open();
    for i in 0..4 {
        make_with(&volume, &format!("f{i}"), &pattern(1 << 20, i));
    }
    let slow = ReencryptOptions {
        max_rate: std::num::NonZeroU64::new(8 << 20),
        ..options()
    };
    let begin = Instant::now();
    assert!(reencrypt::run(&volume, &slow, &Silent).unwrap().complete);
    // 4 MiB at 8 MiB a second, less the burst of 0.1 s, and the last steps of two threads.
    assert!(begin.elapsed().as_millis() >= 250, "{:?}", begin.elapsed());
}

/// The numbers go round.
#[test]
fn more_than_256_renewals() {
    let kit = Kit::new();
    let volume = kit.open();
    let right = pattern(5000, 8);
    make_with(&volume, "file", &right);
    for round in 1..=300_u32 {
        assert_eq!(whole(&volume).blocks, 2);
        if round % 50 == 0 {
            assert!(read_all(&volume, "file").unwrap() == right);
        }
    }
    volume.close().unwrap();
    drop(volume);
    let volume = kit.open();
    assert!(read_all(&volume, "file").unwrap() == right);
    let below = Below::of(&kit, volume.id(), &kit.only_file());
    assert_eq!(
        below.entry(0).unwrap().key_generation,
        300_u32.to_le_bytes()[0]
    );
    assert_eq!(
        below.entry(1).unwrap().sequence,
        below.entry(0).unwrap().sequence
    );
}

/// Prints bytes a second. ENVELOPEFS_REENCRYPT_MIB sets the size of the file: 64 MiB unless set.
#[test]
fn speed_of_one_file() {
    let mib: usize = std::env::var("ENVELOPEFS_REENCRYPT_MIB")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(64);
    let kit = Kit::new();
    let volume = kit.open();
    let (_, handle) = make(&volume, "file");
    let piece = pattern(1 << 20, 1);
    for i in 0..mib {
        volume
            .write(handle, (i << 20) as u64, &piece, false)
            .unwrap();
    }
    volume.release(handle).unwrap();
    let begin = Instant::now();
    let report = whole(&volume);
    let took = begin.elapsed();
    assert_eq!(report.bytes, (mib << 20) as u64);
    println!(
        "{mib} MiB in {took:?}: {} MiB a second",
        mib as u128 * 1000 / took.as_millis().max(1)
    );
}
