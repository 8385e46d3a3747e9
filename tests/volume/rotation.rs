//! Rewrap of a whole volume: on several threads, while others work in it.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use crate::kit::{Kit, ME, make_with, names, pattern};
use envelopefs::backing::{Os, Rename, Time};
use envelopefs::format::NameEncoding;
use envelopefs::kms::{Clock, Kms, ProtectorInput, Timestamp};
use envelopefs::maintain::reencrypt::{self, ReencryptOptions};
use envelopefs::maintain::rewrap::{self, RewrapOptions, RewrapReport};
use envelopefs::maintain::{Exclude, Silent};
use envelopefs::volume::{Met, NodeId, OpenMode, SetAttr, Volume, VolumeError};
use parking_lot::Mutex;

fn parallel() -> RewrapOptions {
    RewrapOptions {
        threads: 3,
        ..RewrapOptions::default()
    }
}

fn census(volume: &Volume<Os>) -> RewrapReport {
    let options = RewrapOptions {
        dry_run: true,
        ..parallel()
    };
    rewrap::run(volume, &options, &Silent).unwrap()
}

fn rotate(kit: &Kit, volume: &Volume<Os>) {
    let key = volume.volume_key_id();
    kit.kms.rotate_volume_key(&volume.id(), &key).unwrap();
}

/// What file `i` holds, in `len` bytes.
fn bytes_of(i: usize, len: usize) -> Vec<u8> {
    pattern(len, i as u8)
}

fn read(volume: &Volume<Os>, dir: NodeId, name: &[u8]) -> Vec<u8> {
    let attr = volume.lookup(dir, name).unwrap();
    let handle = volume.open_file(&ME, attr.ino, OpenMode::READ).unwrap();
    let mut bytes = vec![0; attr.size as usize];
    let read = volume.read(handle, 0, &mut bytes).unwrap();
    volume.release(handle).unwrap();
    assert_eq!(read, bytes.len());
    bytes
}

fn create(volume: &Volume<Os>, dir: NodeId, name: &str, data: &[u8]) {
    let (_, handle) = volume
        .create(
            &ME,
            dir,
            name.as_bytes(),
            0o644,
            0o022,
            OpenMode::READ_WRITE,
        )
        .unwrap();
    volume.write(handle, 0, data, false).unwrap();
    volume.release(handle).unwrap();
}

#[test]
fn a_parallel_walk_meets_everything_once() {
    let kit = Kit::new();
    let volume = kit.open();
    let mut expected = BTreeSet::new();
    for i in 0..2000 {
        let name = format!("file{i}");
        create(&volume, NodeId::ROOT, &name, b"x");
        expected.insert(format!("/{name}"));
    }
    let (mut parent, mut path) = (NodeId::ROOT, String::new());
    for depth in 0..40 {
        let name = format!("deep{depth}");
        parent = volume
            .mkdir(&ME, parent, name.as_bytes(), 0o755, 0)
            .unwrap()
            .ino;
        path = format!("{path}/{name}");
        expected.insert(path.clone());
        for i in 0..depth {
            create(&volume, parent, &format!("f{i}"), b"");
            expected.insert(format!("{path}/f{i}"));
        }
    }
    for threads in [1, 2, 5] {
        let met = Mutex::new(BTreeMap::new());
        volume
            .walk_parallel(threads, &|what| {
                let Met::Entry(entry) = what else {
                    panic!("something can't be read")
                };
                let path = String::from_utf8(entry.path.to_vec()).unwrap();
                *met.lock().entry(path).or_insert(0) += 1;
                Ok(())
            })
            .unwrap();
        let met = met.into_inner();
        assert!(met.values().all(|&times| times == 1), "met twice");
        assert_eq!(met.into_keys().collect::<BTreeSet<_>>(), expected);
    }
    assert_eq!(volume.count_files().unwrap(), 2000 + (0..40).sum::<u64>());
}

#[test]
fn an_error_of_the_visitor_ends_a_parallel_walk() {
    let kit = Kit::new();
    let volume = kit.open();
    for i in 0..3000 {
        create(&volume, NodeId::ROOT, &format!("f{i}"), b"");
    }
    let met = Mutex::new(0);
    let ended = volume.walk_parallel(3, &|_| {
        *met.lock() += 1;
        Err(VolumeError::ReadOnly)
    });
    assert!(matches!(ended, Err(VolumeError::ReadOnly)));
    // Each thread finishes no more than the batch it is at.
    assert!(*met.lock() <= 3);
}

/// Files are made, renamed and linked from where the walk hasn't been to where it was, rewritten, cut and
/// deleted while a rewrap runs; at its end none needs the old material, and each has its bytes.
#[test]
fn a_rewrap_while_others_work_leaves_no_file_behind() {
    let kit = Kit::new();
    let volume = kit.open();
    let dirs: Vec<NodeId> = (0..8)
        .map(|i| {
            let name = format!("d{i}");
            volume
                .mkdir(&ME, NodeId::ROOT, name.as_bytes(), 0o755, 0)
                .unwrap()
                .ino
        })
        .collect();
    for i in 0..1600_usize {
        create(
            &volume,
            dirs[i % 8],
            &format!("f{i}"),
            &bytes_of(i, i * 5 + 1),
        );
    }
    rotate(&kit, &volume);
    let stop = AtomicBool::new(false);
    let stopped = || stop.load(Ordering::Relaxed);
    let report = std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut at: Vec<usize> = (0..1600).map(|i| i % 8).collect();
            for i in (0..1600).cycle().take_while(|_| !stopped()) {
                let (name, from, to) = (format!("f{i}"), dirs[at[i]], (at[i] + 3) % 8);
                let name = name.as_bytes();
                if i % 3 == 0 {
                    let node = volume.lookup(from, name).unwrap().ino;
                    volume.link(node, dirs[to], name).unwrap();
                    volume.unlink(from, name).unwrap();
                } else {
                    volume
                        .rename(from, name, dirs[to], name, Rename::Plain)
                        .unwrap();
                }
                at[i] = to;
            }
        });
        scope.spawn(|| {
            for i in (0..).take_while(|_| !stopped()) {
                let (dir, name) = (dirs[i % 8], format!("new{i}"));
                create(&volume, dir, &name, b"made meanwhile");
                let node = volume.lookup(dir, name.as_bytes()).unwrap().ino;
                let handle = volume.open_file(&ME, node, OpenMode::READ_WRITE).unwrap();
                volume
                    .write(handle, 0, &bytes_of(i, 9000 + i % 5000), false)
                    .unwrap();
                volume.release(handle).unwrap();
                if i % 2 == 0 {
                    volume.unlink(dir, name.as_bytes()).unwrap();
                }
            }
        });
        let report = rewrap::run(&volume, &parallel(), &Silent).unwrap();
        stop.store(true, Ordering::Relaxed);
        report
    });
    assert!(report.complete && report.failed.is_empty(), "{report:?}");
    assert!(report.rewrapped >= 1600, "{report:?}");
    let after = census(&volume);
    assert_eq!(after.rewrapped, 0, "{after:?}");
    assert!(after.complete);
    let mut seen = 0;
    for &dir in &dirs {
        for name in names(&volume, dir) {
            let text = std::str::from_utf8(&name).unwrap();
            let wanted = if let Some(i) = text.strip_prefix("new") {
                let i = i.parse().unwrap();
                bytes_of(i, 9000 + i % 5000)
            } else {
                seen += 1;
                let i = text[1..].parse().unwrap();
                bytes_of(i, i * 5 + 1)
            };
            assert!(read(&volume, dir, &name) == wanted, "{text}");
        }
    }
    assert_eq!(seen, 1600);
    volume.close().unwrap();
}

#[test]
fn max_rate_holds() {
    let kit = Kit::new();
    let volume = kit.open();
    for i in 0..60 {
        make_with(&volume, &format!("f{i}"), b"x");
    }
    rotate(&kit, &volume);
    let options = RewrapOptions {
        max_rate: NonZeroU32::new(200),
        ..parallel()
    };
    let begin = Instant::now();
    let report = rewrap::run(&volume, &options, &Silent).unwrap();
    assert_eq!((report.files, report.rewrapped), (60, 60));
    // 60 files at 200 a second, less the burst of 0.1 s that is allowed.
    assert!(begin.elapsed() >= Duration::from_millis(195));
}

fn times(volume: &Volume<Os>, nodes: &[NodeId]) -> Vec<(Time, Time, u64)> {
    nodes
        .iter()
        .map(|&node| volume.getattr(node, None).unwrap())
        .map(|attr| (attr.mtime, attr.ctime, attr.size))
        .collect()
}

/// Backup tools look at a file again when its ctime has moved.
#[test]
fn a_rewrap_moves_no_time_that_users_see() {
    let kit = Kit::new();
    let mut volume = kit.open();
    for i in 0..300_usize {
        create(
            &volume,
            NodeId::ROOT,
            &format!("f{i}"),
            &bytes_of(i, 1 + i * 40),
        );
    }
    let find = |volume: &Volume<Os>| -> Vec<NodeId> {
        let ino = |i| volume.lookup(NodeId::ROOT, format!("f{i}").as_bytes());
        (0..300).map(|i| ino(i).unwrap().ino).collect()
    };
    let nodes = find(&volume);
    let before = times(&volume, &nodes);
    // Once with the table made by the end of the rewrap, once more over it, and after remounts;
    // the second one without an end: as if the process had been killed.
    for killed in [false, true, false] {
        rotate(&kit, &volume);
        let report = rewrap::run(&volume, &parallel(), &Silent).unwrap();
        assert_eq!(report.rewrapped, 300);
        assert!(times(&volume, &nodes) == before, "moved");
        if !killed {
            volume.close().unwrap();
        }
        drop(volume);
        volume = kit.open();
        assert_eq!(find(&volume), nodes);
        assert!(times(&volume, &nodes) == before, "moved by a remount");
    }
    // What a user does shows.
    let set = SetAttr {
        mode: Some(0o600),
        ..SetAttr::default()
    };
    let changed = volume.setattr(&ME, nodes[7], None, &set).unwrap();
    assert!(changed.ctime > before[7].1);
    let handle = volume
        .open_file(&ME, nodes[8], OpenMode::READ_WRITE)
        .unwrap();
    volume.write(handle, 0, b"new", false).unwrap();
    volume.release(handle).unwrap();
    let now = times(&volume, &nodes);
    assert!(now[8].0 > before[8].0 && now[8].1 > before[8].1);
    assert!(now[9..] == before[9..] && now[..7] == before[..7]);
    volume.close().unwrap();
    drop(volume);
    // A change of what is kept is noticed: the ctime below is shown.
    let table = kit.cipher().join(".envelopefs/ctimes");
    let mut bytes = std::fs::read(&table).unwrap();
    assert_eq!(bytes.len(), 300 * 64);
    for entry in bytes.chunks_mut(64) {
        entry[16] ^= 1;
    }
    std::fs::write(&table, bytes).unwrap();
    let volume = kit.open();
    let now = times(&volume, &find(&volume));
    assert!(
        now.iter()
            .zip(&before)
            .all(|(now, before)| now.1 > before.1)
    );
}

/// What was settled before and what is new are merged, for any number of files.
#[test]
fn kept_times_are_found_again_among_many() {
    let kit = Kit::new();
    let volume = kit.open();
    let dirs: Vec<NodeId> = ["a", "b"]
        .map(|name| {
            let made = volume.mkdir(&ME, NodeId::ROOT, name.as_bytes(), 0o755, 0);
            made.unwrap().ino
        })
        .into();
    let mut nodes = Vec::new();
    let mut before = Vec::new();
    for round in 0..3 {
        for i in 0..700 {
            let name = format!("f{round}-{i}");
            create(&volume, dirs[i % 2], &name, b"x");
            nodes.push(volume.lookup(dirs[i % 2], name.as_bytes()).unwrap().ino);
        }
        before.extend(times(&volume, &nodes[before.len()..]));
        rotate(&kit, &volume);
        rewrap::run(&volume, &parallel(), &Silent).unwrap();
        assert!(times(&volume, &nodes) == before, "round {round}");
    }
}

#[test]
fn a_material_is_as_old_as_its_rotation() {
    struct At(Timestamp);
    impl Clock for At {
        fn now(&self) -> Timestamp {
            self.0
        }
    }
    let kit = Kit::new();
    let (volume, key) = {
        let volume = kit.open();
        (volume.id(), volume.volume_key_id())
    };
    let now = SystemTime::UNIX_EPOCH.elapsed().unwrap().as_millis() as i64;
    let after = |days: u32| {
        let protector = ProtectorInput::key(vec![7; 32].into()).unwrap();
        let clock = At(Timestamp::from_millis(now).plus_days(days));
        Kms::open_with_clock(
            &kit.dir.path().join("keystore"),
            &[protector],
            Arc::new(clock),
        )
        .unwrap()
    };
    let days = |age: Duration| (age + Duration::from_secs(3600)).as_secs() / (24 * 3600);
    assert_eq!(days(after(0).material_age(&key).unwrap()), 0);
    let later = after(100);
    assert_eq!(days(later.material_age(&key).unwrap()), 100);
    later.rotate_volume_key(&volume, &key).unwrap();
    assert_eq!(days(later.material_age(&key).unwrap()), 0);
    assert_eq!(days(after(130).material_age(&key).unwrap()), 30);
    assert_eq!(
        days(after(7).material_age(&key).unwrap()),
        0,
        "a clock that was set back"
    );
}

#[test]
fn a_limited_rewrap_leaves_the_rest_alone() {
    let kit = Kit::new();
    let volume = kit.open();
    let mkdir = |parent, name: &[u8]| volume.mkdir(&ME, parent, name, 0o755, 0).unwrap().ino;
    let (a, b) = (mkdir(NodeId::ROOT, b"a"), mkdir(NodeId::ROOT, b"b"));
    let cache = mkdir(a, b"cache");
    for (dir, names) in [
        (a, ["1", "2.tmp"]),
        (cache, ["3", "4"]),
        (b, ["1", "2.tmp"]),
    ] {
        for name in names {
            create(&volume, dir, name, b"x");
        }
    }
    let main = volume.volume_key_id();
    rotate(&kit, &volume);
    let limited = |paths: &[&[u8]], exclude: &[&str]| RewrapOptions {
        paths: paths.iter().map(|path| path.to_vec()).collect(),
        exclude: Exclude::new(exclude),
        ..parallel()
    };
    let run = |options: &RewrapOptions| rewrap::run(&volume, options, &Silent).unwrap();
    let count = |report: &RewrapReport| (report.files, report.rewrapped, report.complete);
    let dry = RewrapOptions {
        dry_run: true,
        ..limited(&[b"a"], &[])
    };
    assert_eq!(count(&run(&dry)), (4, 4, false));
    let first = run(&limited(&[b"a"], &["*.tmp", "/a/cache"]));
    assert_eq!(count(&first), (1, 1, false));
    assert!(first.limited && !first.volume_key && first.failed.is_empty());
    assert_eq!(census(&volume).rewrapped, 5);
    assert_eq!(count(&run(&limited(&[], &["b"]))), (4, 3, false));
    assert_eq!(count(&run(&limited(&[b"a", b"/b/1"], &[]))), (5, 1, false));
    // All but one are through; the volume's own key is not.
    let left = census(&volume);
    assert_eq!(
        (left.rewrapped, left.volume_key, left.complete),
        (1, true, false)
    );
    let missing = run(&limited(&[b"none"], &[]));
    assert_eq!((missing.files, missing.failed.len()), (0, 1));
    let recovery = RewrapOptions {
        remove_recovery_key: Some(main),
        ..limited(&[b"a"], &[])
    };
    let refused = rewrap::run(&volume, &recovery, &Silent);
    assert!(
        matches!(refused, Err(VolumeError::Refused(_))),
        "{refused:?}"
    );
    let all = run(&parallel());
    assert_eq!(count(&all), (6, 1, true));
    assert!(all.volume_key && !all.limited && census(&volume).complete);
    // A re-encrypt leaves out the same.
    let options = ReencryptOptions {
        paths: vec![b"a".to_vec()],
        exclude: Exclude::new(["cache", "*.tmp"]),
        ..ReencryptOptions::default()
    };
    let report = reencrypt::run(&volume, &options, &Silent).unwrap();
    assert_eq!((report.files, report.reencrypted), (1, 1));
    volume.close().unwrap();
}

/// It needs no key, and finds what a dry run finds.
#[test]
fn the_census_counts_as_a_dry_run_does() {
    for names in [NameEncoding::Encrypted, NameEncoding::Plain] {
        let kit = Kit::with(names);
        let volume = kit.open();
        let dir = volume.mkdir(&ME, NodeId::ROOT, b"dir", 0o755, 0).unwrap();
        for i in 0..700 {
            create(&volume, dir.ino, &format!("f{i}"), b"x");
        }
        create(&volume, NodeId::ROOT, &"long ".repeat(48), b"x");
        create(&volume, NodeId::ROOT, ".envelopefs.mine", b"x");
        create(&volume, dir.ino, "empty", b"");
        volume.symlink(&ME, dir.ino, b"link", b"f1").unwrap();
        rotate(&kit, &volume);
        let later = make_with(&volume, "later", b"under the new material");
        volume.link(later, dir.ino, b"again").unwrap();
        volume.link(later, NodeId::ROOT, b"and again").unwrap();
        let counted = Volume::census(&kit.os(), 3, &|_| true).unwrap();
        let dry = census(&volume);
        let by_material: BTreeMap<String, u64> = counted
            .by_material
            .iter()
            .map(|(material, files)| (material.to_string(), *files))
            .collect();
        assert_eq!(by_material, dry.before);
        assert_eq!(by_material.values().sum::<u64>(), 703);
        assert_eq!((counted.files, counted.empty), (dry.files, dry.empty));
        assert_eq!(
            (counted.files, counted.empty, counted.unreadable),
            (704, 1, 0)
        );
        let keys: Vec<String> = counted
            .volume_keys
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(keys, dry.volume_keys_before);
        assert_eq!(keys.len(), 1);
        rewrap::run(&volume, &parallel(), &Silent).unwrap();
        let after = Volume::census(&kit.os(), 1, &|_| true).unwrap();
        let files: Vec<u64> = after.by_material.values().copied().collect();
        assert_eq!(files, [703]);
        assert_eq!(after.by_material.keys().next(), after.volume_keys.first());
        // What is no cipher file is told.
        std::fs::write(kit.cipher().join("stray"), b"no header").unwrap();
        let stray = Volume::census(&kit.os(), 2, &|_| true).unwrap();
        assert_eq!((stray.files, stray.unreadable), (705, 1));
    }
}

/// Prints files a second. ENVELOPEFS_ROTATION_FILES sets how many there are: 5,000 unless set,
/// a million for a figure.
#[test]
fn rewrap_of_many_files() {
    let files: usize = std::env::var("ENVELOPEFS_ROTATION_FILES")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(5000);
    let kit = Kit::new();
    let volume = kit.open();
    let mut dir = NodeId::ROOT;
    for i in 0..files {
        if i % 1000 == 0 {
            let name = format!("d{i}");
            dir = volume
                .mkdir(&ME, NodeId::ROOT, name.as_bytes(), 0o755, 0)
                .unwrap()
                .ino;
        }
        create(&volume, dir, &format!("f{i}"), b"a small file");
    }
    let begin = Instant::now();
    rotate(&kit, &volume);
    let rotated = begin.elapsed();
    let options = RewrapOptions {
        threads: 2,
        ..RewrapOptions::default()
    };
    let begin = Instant::now();
    let counted = census(&volume);
    let dry_run_took = begin.elapsed();
    let begin = Instant::now();
    let all = Volume::census(&kit.os(), 2, &|_| true).unwrap();
    let census_took = begin.elapsed();
    assert_eq!(all.by_material.into_values().sum::<u64>(), files as u64);
    assert_eq!(counted.rewrapped, files as u64);
    let begin = Instant::now();
    let report = rewrap::run(&volume, &options, &Silent).unwrap();
    let took = begin.elapsed();
    assert!(report.complete, "{report:?}");
    assert_eq!(report.rewrapped, files as u64);
    println!(
        "{files} files: rotate {rotated:?}, census {census_took:?}, dry run {dry_run_took:?}, rewrap {took:?}, {} files a second",
        (files as u128) * 1_000_000 / took.as_micros().max(1)
    );
    volume.close().unwrap();
}
