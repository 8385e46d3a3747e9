//! Random operations on a volume (no mount) against a plain model in memory.
//!
//! `MODEL_SEED` runs one seed; `MODEL_SEEDS` and `MODEL_STEPS` set how many.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::disk::Disk;
use crate::kit::{self, Kit, ME};
use crate::mem::Mem;
use envelopefs::backing::{Backing, Rename, Seek};
use envelopefs::format::NameEncoding;
use envelopefs::maintain::rewrap::RewrapOptions;
use envelopefs::maintain::{self, Silent};
use envelopefs::volume::{
    CreateOptions, FallocateMode, HandleId, NodeId, OpenMode, OpenOptions, SetAttr, Volume,
    VolumeError,
};
use rand::rngs::SmallRng;
use rand::{Rng, RngExt, SeedableRng};

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name)
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(default)
}

fn seeds() -> Vec<u64> {
    match std::env::var("MODEL_SEED") {
        Ok(seed) => vec![seed.parse().unwrap()],
        Err(_) => (0..number("MODEL_SEEDS", 6)).collect(),
    }
}

/// Offsets where the layout changes: inline room, blocks, the head group, the next group.
fn offset(rng: &mut SmallRng, most: u64) -> u64 {
    let edges = [
        0,
        3040,
        4096,
        8192,
        96 * 4096,
        (96 + 128) * 4096,
        (96 + 256) * 4096,
    ];
    let at = match rng.random_range(0..4) {
        0 => rng.random_range(0..most),
        1 => rng.random_range(0..20_000),
        _ => {
            let edge = edges[rng.random_range(0..edges.len())];
            edge + rng.random_range(0..9000) - u64::min(edge, rng.random_range(0..9000))
        }
    };
    at.min(most)
}

struct One {
    bytes: Vec<u8>,
}

const MOST: u64 = 2 << 20;

#[allow(clippy::too_many_lines)] // one arm for each operation
fn step<B: Backing>(
    volume: &Volume<B>,
    handle: HandleId,
    node: NodeId,
    one: &mut One,
    rng: &mut SmallRng,
) -> String {
    let at = offset(rng, MOST);
    let len = match rng.random_range(0..5) {
        0 => rng.random_range(1..10),
        1 => rng.random_range(1..600_000),
        2 => 4096,
        _ => rng.random_range(1..10_000),
    };
    match rng.random_range(0..100) {
        0..40 => {
            let mut data = vec![0; len];
            rng.fill_bytes(&mut data);
            if rng.random_bool(0.5) {
                let data = &mut data.clone();
                volume.write_in_place(handle, at, data, false).unwrap();
            } else {
                volume.write(handle, at, &data, false).unwrap();
            }
            let end = at as usize + len;
            if one.bytes.len() < end {
                one.bytes.resize(end, 0);
            }
            one.bytes[at as usize..end].copy_from_slice(&data);
            format!("write {at}+{len}")
        }
        40..55 => {
            let mut got = vec![0xEE; len];
            let read = volume.read(handle, at, &mut got).unwrap();
            let from = (at as usize).min(one.bytes.len());
            let to = (at as usize + len).min(one.bytes.len());
            assert_eq!(read, to - from, "length of read {at}+{len}");
            assert!(
                got[..read] == one.bytes[from..to],
                "content of read {at}+{len}"
            );
            format!("read {at}+{len}")
        }
        55..70 => {
            let size = if rng.random_bool(0.1) { 0 } else { at };
            let set = SetAttr {
                size: Some(size),
                ..SetAttr::default()
            };
            let by_handle = rng.random_bool(0.5).then_some(handle);
            let attr = volume.setattr(&ME, node, by_handle, &set).unwrap();
            assert_eq!(attr.size, size);
            one.bytes.resize(size as usize, 0);
            format!("truncate {size}")
        }
        70..82 => {
            let mode = [
                FallocateMode::PunchHole,
                FallocateMode::ZeroRange,
                FallocateMode::ZeroRangeKeepSize,
                FallocateMode::Allocate,
                FallocateMode::AllocateKeepSize,
            ][rng.random_range(0..5)];
            volume.fallocate(handle, mode, at, len as u64).unwrap();
            let end = at as usize + len;
            if matches!(mode, FallocateMode::ZeroRange | FallocateMode::Allocate)
                && one.bytes.len() < end
            {
                one.bytes.resize(end, 0);
            }
            if !matches!(
                mode,
                FallocateMode::Allocate | FallocateMode::AllocateKeepSize
            ) {
                let size = one.bytes.len();
                one.bytes[(at as usize).min(size)..end.min(size)].fill(0);
            }
            format!("{mode:?} {at}+{len}")
        }
        82..90 => {
            let to = offset(rng, MOST);
            match volume.copy_range(handle, at, handle, to, len as u64) {
                Ok(copied) => {
                    let from = (at as usize).min(one.bytes.len());
                    let upto = (at as usize + len).min(one.bytes.len());
                    assert_eq!(
                        copied as usize,
                        upto - from,
                        "copy_range {at} -> {to}+{len}"
                    );
                    let piece = one.bytes[from..upto].to_vec();
                    if !piece.is_empty() {
                        let end = to as usize + piece.len();
                        if one.bytes.len() < end {
                            one.bytes.resize(end, 0);
                        }
                        one.bytes[to as usize..end].copy_from_slice(&piece);
                    }
                }
                Err(VolumeError::Invalid(_)) => {
                    assert!(at.abs_diff(to) < len as u64, "refused without an overlap");
                }
                Err(error) => panic!("{error}"),
            }
            format!("copy {at} -> {to}+{len}")
        }
        _ => {
            for what in [Seek::Data, Seek::Hole] {
                let found = volume.seek(handle, what, at);
                if at >= one.bytes.len() as u64 {
                    assert!(matches!(found, Err(VolumeError::NoData)));
                    continue;
                }
                match (what, found) {
                    (Seek::Data, Ok(data)) => {
                        let skipped = &one.bytes[at as usize..data as usize];
                        assert!(
                            skipped.iter().all(|&b| b == 0),
                            "data skipped at {at}..{data}"
                        );
                    }
                    (Seek::Data, Err(VolumeError::NoData)) => {
                        assert!(one.bytes[at as usize..].iter().all(|&b| b == 0));
                    }
                    (Seek::Hole, Ok(hole)) => {
                        let size = one.bytes.len() as u64;
                        assert!(hole >= at && hole <= size);
                        let end = (hole + 4096).min(size) / 4096 * 4096;
                        if hole < size && end > hole {
                            assert!(
                                one.bytes[hole as usize..end as usize]
                                    .iter()
                                    .all(|&b| b == 0)
                            );
                        }
                    }
                    (what, other) => panic!("{what:?} {at}: {other:?}"),
                }
            }
            format!("seek {at}")
        }
    }
}

#[test]
fn one_file_behaves_as_its_model() {
    one_file(Kit::open);
}

/// The filesystem in memory that the crash simulator works on is one.
#[test]
fn one_file_in_memory_behaves_as_its_model() {
    let mem = Mem::of(Disk::new(), false);
    one_file(move |kit| in_memory(kit, NameEncoding::Encrypted, &mem));
}

/// Opens the volume of a filesystem in memory; makes it, when it is another keystore's.
fn in_memory(kit: &Kit, names: NameEncoding, mem: &Mem) -> Volume<Mem> {
    let open = || Volume::open(mem.clone(), Arc::clone(&kit.kms), OpenOptions::default());
    if let Ok(volume) = open() {
        return volume;
    }
    mem.clear();
    let key = kit.kms.service_key(kit::ALIAS).unwrap();
    Volume::init(mem, &kit.kms, &CreateOptions { key, names }).unwrap();
    open().unwrap()
}

fn one_file<B: Backing>(open: impl Fn(&Kit) -> Volume<B>) {
    for seed in seeds() {
        let mut rng = SmallRng::seed_from_u64(seed);
        let kit = Kit::new();
        let mut volume = open(&kit);
        let (attr, mut handle) = kit::make(&volume, "file");
        let mut node = attr.ino;
        let mut one = One { bytes: Vec::new() };
        let mut trace = Vec::new();
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for i in 0..number("MODEL_STEPS", 400) {
                trace.push(step(&volume, handle, node, &mut one, &mut rng));
                assert_eq!(
                    volume.getattr(node, None).unwrap().size,
                    one.bytes.len() as u64
                );
                if i % 40 == 39 {
                    // Close everything, sometimes rotate and rewrap, open again and compare all.
                    volume.release(handle).unwrap();
                    if rng.random_bool(0.5) {
                        let key = volume.volume_key_id();
                        // Another key, since one key takes 25 rotations on demand only.
                        if i % 80 == 79 {
                            kit.kms.rotate_volume_key(&volume.id(), &key).unwrap();
                        }
                        let report =
                            maintain::rewrap::run(&volume, &RewrapOptions::default(), &Silent)
                                .unwrap();
                        assert!(report.failed.is_empty(), "{report:?}");
                        trace.push("rewrap".into());
                    }
                    volume.close().unwrap();
                    volume = open(&kit);
                    let read = kit::read_all(&volume, "file").unwrap();
                    assert!(read == one.bytes, "after reopening");
                    node = volume.lookup(NodeId::ROOT, b"file").unwrap().ino;
                    handle = volume.open_file(&ME, node, OpenMode::READ_WRITE).unwrap();
                    trace.push("reopen".into());
                }
            }
            let report = maintain::fsck::run(&volume, &Silent).unwrap();
            assert!(report.is_clean(), "{report:?}");
        }));
        if let Err(panic) = result {
            let from = trace.len().saturating_sub(30);
            eprintln!(
                "MODEL_SEED={seed}, step {}: {:#?}",
                trace.len(),
                &trace[from..]
            );
            std::panic::resume_unwind(panic);
        }
    }
}

/// A directory tree: each directory's names, each file's number.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Thing {
    Dir(BTreeMap<Vec<u8>, Thing>),
    File(u64),
    Link(Vec<u8>),
}

type Tree = BTreeMap<Vec<u8>, Thing>;

fn random_name(rng: &mut SmallRng) -> Vec<u8> {
    match rng.random_range(0..10) {
        0 => vec![b'L'; rng.random_range(170..=255)],
        1 => format!(".envelopefs{}", rng.random_range(0..3)).into_bytes(),
        2 => vec![0xFF, b'\n', rng.random_range(1..=b'.' - 1)],
        _ => format!("n{}", rng.random_range(0..12)).into_bytes(),
    }
}

fn random_dir(rng: &mut SmallRng, tree: &Tree) -> Vec<Vec<u8>> {
    let mut path = Vec::new();
    let mut at = tree;
    while rng.random_bool(0.6) {
        let dirs: Vec<_> = at
            .iter()
            .filter_map(|(name, thing)| match thing {
                Thing::Dir(inner) => Some((name, inner)),
                _ => None,
            })
            .collect();
        if dirs.is_empty() {
            break;
        }
        let (name, inner) = dirs[rng.random_range(0..dirs.len())];
        path.push(name.clone());
        at = inner;
    }
    path
}

fn at_path<'a>(tree: &'a mut Tree, path: &[Vec<u8>]) -> &'a mut Tree {
    path.iter().fold(tree, |at, name| match at.get_mut(name) {
        Some(Thing::Dir(inner)) => inner,
        other => panic!("not a directory: {other:?}"),
    })
}

fn node_of<B: Backing>(volume: &Volume<B>, path: &[Vec<u8>]) -> NodeId {
    path.iter().fold(NodeId::ROOT, |at, name| {
        volume.lookup(at, name).unwrap().ino
    })
}

fn compare<B: Backing>(volume: &Volume<B>, node: NodeId, tree: &Tree) {
    let names: Vec<Vec<u8>> = tree.keys().cloned().collect();
    assert_eq!(kit::names(volume, node), names);
    for (name, thing) in tree {
        let attr = volume.lookup(node, name).unwrap();
        match thing {
            Thing::Dir(inner) => compare(volume, attr.ino, inner),
            Thing::File(number) => {
                let handle = volume.open_file(&ME, attr.ino, OpenMode::READ).unwrap();
                let mut buf = [0; 8];
                assert_eq!(volume.read(handle, 0, &mut buf).unwrap(), 8);
                assert_eq!(u64::from_le_bytes(buf), *number);
                volume.release(handle).unwrap();
            }
            Thing::Link(target) => {
                assert_eq!(&volume.readlink(attr.ino).unwrap(), target);
                assert_eq!(attr.size, target.len() as u64);
            }
        }
    }
}

#[allow(clippy::too_many_lines)] // one arm for each operation
fn tree_step<B: Backing>(
    volume: &Volume<B>,
    tree: &mut Tree,
    rng: &mut SmallRng,
    number: u64,
) -> String {
    let path = random_dir(rng, tree);
    let dir = node_of(volume, &path);
    let name = random_name(rng);
    let there = at_path(tree, &path).get(&name).cloned();
    let shown = format!("{path:?}/{:?}", String::from_utf8_lossy(&name));
    match rng.random_range(0..10) {
        0..3 => {
            match (
                volume.create(&ME, dir, &name, 0o644, 0, OpenMode::READ_WRITE),
                there,
            ) {
                (Ok((_, handle)), None) => {
                    volume
                        .write(handle, 0, &number.to_le_bytes(), false)
                        .unwrap();
                    volume.release(handle).unwrap();
                    at_path(tree, &path).insert(name, Thing::File(number));
                }
                (Err(VolumeError::Exists), Some(_)) => {}
                (result, there) => panic!("create {shown}: {result:?} with {there:?}"),
            }
            format!("create {shown}")
        }
        3..5 => {
            match (volume.mkdir(&ME, dir, &name, 0o755, 0), there) {
                (Ok(_), None) => {
                    at_path(tree, &path).insert(name, Thing::Dir(BTreeMap::new()));
                }
                (Err(VolumeError::Exists), Some(_)) => {}
                (result, there) => panic!("mkdir {shown}: {result:?} with {there:?}"),
            }
            format!("mkdir {shown}")
        }
        5 => {
            let target = vec![b'x'; rng.random_range(1..=4095)];
            match (volume.symlink(&ME, dir, &name, &target), there) {
                (Ok(attr), None) => {
                    assert_eq!(attr.size, target.len() as u64);
                    at_path(tree, &path).insert(name, Thing::Link(target));
                }
                (Err(VolumeError::Exists), Some(_)) => {}
                (result, there) => panic!("symlink {shown}: {result:?} with {there:?}"),
            }
            format!("symlink {shown}")
        }
        6 => {
            match (volume.unlink(dir, &name), there) {
                (Ok(()), Some(Thing::File(_) | Thing::Link(_))) => {
                    at_path(tree, &path).remove(&name);
                }
                (Err(VolumeError::NotFound), None)
                | (Err(VolumeError::IsDirectory), Some(Thing::Dir(_))) => {}
                (result, there) => panic!("unlink {shown}: {result:?} with {there:?}"),
            }
            format!("unlink {shown}")
        }
        7 => {
            match (volume.rmdir(dir, &name), there) {
                (Ok(()), Some(Thing::Dir(inner))) if inner.is_empty() => {
                    at_path(tree, &path).remove(&name);
                }
                (Err(VolumeError::NotEmpty), Some(Thing::Dir(inner))) if !inner.is_empty() => {}
                (Err(VolumeError::NotFound), None)
                | (Err(VolumeError::NotDirectory), Some(Thing::File(_) | Thing::Link(_))) => {}
                (result, there) => panic!("rmdir {shown}: {result:?} with {there:?}"),
            }
            format!("rmdir {shown}")
        }
        _ => {
            let to_path = random_dir(rng, tree);
            let to_name = random_name(rng);
            // Into itself: the kernel refuses that before it asks.
            let mut inside = path.clone();
            inside.push(name.clone());
            let mut target = to_path.clone();
            target.push(to_name.clone());
            let how = [
                Rename::Plain,
                Rename::Plain,
                Rename::NoReplace,
                Rename::Exchange,
            ][rng.random_range(0..4)];
            if target.starts_with(&inside)
                || (how == Rename::Exchange && inside.starts_with(&target))
            {
                return "rename into itself, left out".into();
            }
            let to_dir = node_of(volume, &to_path);
            let to_there = at_path(tree, &to_path).get(&to_name).cloned();
            let shown = format!("{how:?} {shown} -> {to_path:?}/{to_name:?}");
            let result = volume.rename(dir, &name, to_dir, &to_name, how);
            match (result, there, to_there, how) {
                (Ok(()), Some(moved), Some(other), Rename::Exchange) => {
                    at_path(tree, &path).insert(name, other);
                    at_path(tree, &to_path).insert(to_name, moved);
                }
                (Ok(()), Some(moved), to_there, Rename::Plain | Rename::NoReplace) => {
                    match (&moved, &to_there, how) {
                        (_, None, _)
                        | (
                            Thing::File(_) | Thing::Link(_),
                            Some(Thing::File(_) | Thing::Link(_)),
                            Rename::Plain,
                        ) => {}
                        (Thing::Dir(_), Some(Thing::Dir(inner)), Rename::Plain) => {
                            assert!(inner.is_empty(), "{shown}");
                        }
                        _ => panic!("{shown}: {moved:?} over {to_there:?}"),
                    }
                    at_path(tree, &path).remove(&name);
                    at_path(tree, &to_path).insert(to_name, moved);
                }
                (Err(VolumeError::NotFound), None, _, _)
                | (Err(VolumeError::NotFound), Some(_), None, Rename::Exchange)
                | (Err(VolumeError::Exists), Some(_), Some(_), Rename::NoReplace)
                | (
                    Err(VolumeError::IsDirectory),
                    Some(Thing::File(_) | Thing::Link(_)),
                    Some(Thing::Dir(_)),
                    _,
                )
                | (
                    Err(VolumeError::NotDirectory),
                    Some(Thing::Dir(_)),
                    Some(Thing::File(_) | Thing::Link(_)),
                    _,
                ) => {}
                (Err(VolumeError::NotEmpty), Some(Thing::Dir(_)), Some(Thing::Dir(inner)), _)
                    if !inner.is_empty() => {}
                (result, there, to_there, _) => {
                    panic!("{shown}: {result:?} with {there:?} and {to_there:?}")
                }
            }
            shown
        }
    }
}

fn a_tree_behaves<B: Backing>(names: NameEncoding, open: impl Fn(&Kit) -> Volume<B>) {
    for seed in seeds() {
        let mut rng = SmallRng::seed_from_u64(seed);
        let kit = Kit::with(names);
        let mut volume = open(&kit);
        let mut tree = Tree::new();
        let mut trace = Vec::new();
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for i in 0..number("MODEL_STEPS", 400) {
                trace.push(tree_step(&volume, &mut tree, &mut rng, i));
                if i % 100 == 99 {
                    compare(&volume, NodeId::ROOT, &tree);
                    volume.close().unwrap();
                    volume = open(&kit);
                    compare(&volume, NodeId::ROOT, &tree);
                }
            }
            let report = maintain::fsck::run(&volume, &Silent).unwrap();
            assert!(report.is_clean(), "{report:?}");
        }));
        if let Err(panic) = result {
            let from = trace.len().saturating_sub(10);
            eprintln!(
                "MODEL_SEED={seed}, step {}: {:#?}",
                trace.len(),
                &trace[from..]
            );
            std::panic::resume_unwind(panic);
        }
    }
}

#[test]
fn a_tree_with_encrypted_names_behaves_as_its_model() {
    a_tree_behaves(NameEncoding::Encrypted, Kit::open);
}

#[test]
fn a_tree_in_memory_behaves_as_its_model() {
    let names = NameEncoding::Encrypted;
    let mem = Mem::of(Disk::new(), false);
    a_tree_behaves(names, move |kit| in_memory(kit, names, &mem));
}

#[test]
fn a_tree_with_plain_names_behaves_as_its_model() {
    a_tree_behaves(NameEncoding::Plain, Kit::open);
}
