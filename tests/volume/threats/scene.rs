//! The volume that is tampered with, its older copy, and what can be seen of a change.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use envelopefs::backing::{Os, XattrMode};
use envelopefs::maintain::{self, Silent, rewrap::RewrapOptions};
use envelopefs::volume::{
    FallocateMode, JOURNAL_SIZE_LEAST, JournalMode, Kind, NodeId, OpenMode, OpenOptions, SetAttr,
    Volume, VolumeError,
};
use rand::SeedableRng;
use rand::rngs::SmallRng;

use super::changes::Change;
use crate::kit::{Kit, ME, pattern};

/// What a change comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// `refused`: an error instead of the bytes; `hidden`: the name is not there; `no`: the change
    /// goes unseen; `harmless`: everything reads as before.
    pub read: String,
    /// `found`, `no`, or `harmless`.
    pub fsck: String,
}

/// One entry in plaintext terms.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen {
    kind: Kind,
    perm: u16,
    nlink: u32,
    /// Only what a change sets on purpose counts: any write below moves it.
    modified_in_1970: bool,
    /// A file's bytes, a symlink's target.
    bytes: Vec<u8>,
    xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

type Tree = BTreeMap<String, Result<Seen, String>>;

/// A volume, closed; its copy from before its files were changed; and another volume's.
pub struct Scene {
    kit: Kit,
    _other: Kit,
    /// Copies of the cipher directories.
    pub now: PathBuf,
    pub old: PathBuf,
    pub other: PathBuf,
    /// A copy as a crash leaves it.
    crashed: PathBuf,
    /// Plaintext path → path in the cipher directory.
    pub places: BTreeMap<String, PathBuf>,
    /// What is in it now, and in the one after a crash.
    right: Tree,
    crashed_right: Tree,
    /// Every block that was ever in a file, by place: nothing else may ever be read.
    authentic: HashSet<(usize, Vec<u8>)>,
}

/// What a change is made to.
pub struct Case<'a> {
    pub scene: &'a Scene,
    /// The cipher directory, to be changed.
    pub dir: PathBuf,
    pub rng: SmallRng,
    /// Which of the instances of a change this is.
    pub instance: usize,
}

impl Case<'_> {
    /// Where something lies in the directory that is changed.
    pub fn at(&self, plain: &str) -> PathBuf {
        self.dir.join(&self.scene.places[plain])
    }

    /// Where it lies in the older copy.
    pub fn old(&self, plain: &str) -> PathBuf {
        self.scene.old.join(&self.scene.places[plain])
    }

    pub fn control(&self, name: &str) -> PathBuf {
        self.dir.join(".envelopefs").join(name)
    }
}

pub fn copy(from: &Path, to: &Path) {
    let done = Command::new("cp")
        .args(["-a", "-T", "--"])
        .arg(from)
        .arg(to)
        .status()
        .unwrap();
    assert!(done.success());
}

/// The plaintext lengths of the files: all forms that a cipher file has.
const SIZES: [usize; 8] = [0, 17, 900, 3040, 4096, 12_000, 40_000, 100 * 4096];
const FILES: usize = 240;

/// File number `i` of the volume: `big` ones are few.
fn size(i: usize) -> usize {
    match SIZES[i % SIZES.len()] {
        size if size > 40_000 && i > 80 => 5000,
        size => size,
    }
}

/// The directory that file number `i` is in.
const DIRS: [&str; 5] = ["", "/dir1", "/dir2", "/dir1/dir3", "/dir1/dir3/dir4"];

fn find(volume: &Volume<Os>, path: &str) -> NodeId {
    path.split('/')
        .filter(|name| !name.is_empty())
        .fold(NodeId::ROOT, |dir, name| {
            volume.lookup(dir, name.as_bytes()).unwrap().ino
        })
}

fn create(volume: &Volume<Os>, dir: NodeId, name: &str, bytes: &[u8]) -> NodeId {
    let (attr, handle) = volume
        .create(&ME, dir, name.as_bytes(), 0o644, 0, OpenMode::READ_WRITE)
        .unwrap();
    volume.write(handle, 0, bytes, false).unwrap();
    volume.release(handle).unwrap();
    attr.ino
}

/// Everything that a volume can hold.
fn fill(volume: &Volume<Os>) {
    for path in &DIRS[1..] {
        let (parent, name) = path.rsplit_once('/').unwrap();
        let parent = find(volume, parent);
        volume
            .mkdir(&ME, parent, name.as_bytes(), 0o755, 0)
            .unwrap();
    }
    let dirs = DIRS.map(|path| find(volume, path));
    for i in 0..FILES {
        let bytes = pattern(size(i), i as u8);
        let node = create(volume, dirs[i % dirs.len()], &format!("file{i}"), &bytes);
        for (name, value) in [("user.one", format!("{i}")), ("user.two", "two".into())] {
            volume
                .set_xattr(node, name.as_bytes(), value.as_bytes(), XattrMode::Any)
                .unwrap();
        }
    }
    for long in ["x", "y"] {
        create(volume, dirs[1], &long.repeat(250), long.as_bytes());
    }
    for (i, len) in [20, 30, 4000, 4000].into_iter().enumerate() {
        let (name, target) = (format!("link{i}"), vec![b'a' + i as u8; len]);
        volume
            .symlink(&ME, dirs[2], name.as_bytes(), &target)
            .unwrap();
    }
    let sparse = create(volume, dirs[2], "sparse", &pattern(8 * 4096, 1));
    let handle = volume.open_file(&ME, sparse, OpenMode::READ_WRITE).unwrap();
    volume
        .fallocate(handle, FallocateMode::PunchHole, 4096, 4096)
        .unwrap();
    volume.release(handle).unwrap();
    create(volume, dirs[2], "removed later", b"it was here");
}

/// Blocks are overwritten, files shrink, keys are wrapped anew.
fn go_on(volume: &Volume<Os>, kit: &Kit) {
    for i in 0..FILES {
        let node = find(volume, &format!("{}/file{i}", DIRS[i % DIRS.len()]));
        let bytes = pattern(size(i).min(2000), 0x55 ^ i as u8);
        if size(i) > 0 {
            let handle = volume.open_file(&ME, node, OpenMode::READ_WRITE).unwrap();
            volume.write(handle, 0, &bytes, false).unwrap();
            volume.release(handle).unwrap();
        }
        if i % 7 == 0 {
            let set = SetAttr {
                size: Some(size(i) as u64 / 2 + 50),
                ..SetAttr::default()
            };
            volume.setattr(&ME, node, None, &set).unwrap();
        }
    }
    let dir = find(volume, DIRS[2]);
    volume.unlink(dir, b"removed later").unwrap();
    let key = volume.volume_key_id();
    kit.kms.rotate_volume_key(&volume.id(), &key).unwrap();
    maintain::rewrap::run(volume, &RewrapOptions::default(), &Silent).unwrap();
}

fn options(read_only: bool) -> OpenOptions {
    OpenOptions {
        read_only,
        journal: JournalMode::Manual,
        journal_size: JOURNAL_SIZE_LEAST,
        ..OpenOptions::default()
    }
}

fn open(kit: &Kit, read_only: bool) -> Result<Volume<Os>, VolumeError> {
    Volume::open(kit.os(), Arc::clone(&kit.kms), options(read_only))
}

impl Scene {
    pub fn new() -> Self {
        let kit = Kit::new();
        let base = kit.dir.path().to_owned();
        let (now, old, work) = (base.join("now"), base.join("old"), kit.cipher());
        let mut authentic = HashSet::new();
        let mut places = BTreeMap::new();
        let mut right = Tree::new();
        for copied in [&old, &now] {
            let volume = open(&kit, false).unwrap();
            if copied == &old {
                fill(&volume);
            } else {
                go_on(&volume, &kit);
            }
            volume.close().unwrap();
            right = tree(&volume);
            assert!(right.values().all(Result::is_ok));
            keep(&right, &mut authentic);
            places.extend(self::places(&volume, &work));
            drop(volume);
            copy(&work, copied);
        }

        // Overwrites that were synced, and the power fails.
        let crashed = base.join("crashed");
        let volume = open(&kit, false).unwrap();
        for i in [6, 30, 46, 78] {
            let node = find(&volume, &format!("{}/file{i}", DIRS[i % DIRS.len()]));
            let handle = volume.open_file(&ME, node, OpenMode::READ_WRITE).unwrap();
            volume
                .write(handle, 5000, &pattern(9000, 0x77 ^ i as u8), false)
                .unwrap();
            volume.fsync(handle, true).unwrap();
            volume.release(handle).unwrap();
        }
        copy(&work, &crashed);
        let crashed_right = tree(&volume);
        keep(&crashed_right, &mut authentic);
        volume.close().unwrap();
        drop(volume);

        let another = Kit::new();
        let volume = open(&another, false).unwrap();
        for (i, size) in SIZES.into_iter().enumerate() {
            let bytes = pattern(size.max(1), i as u8);
            create(&volume, NodeId::ROOT, &format!("file{i}"), &bytes);
        }
        volume.close().unwrap();
        drop(volume);
        let other = another.cipher();
        Self {
            kit,
            _other: another,
            now,
            old,
            other,
            crashed,
            places,
            right,
            crashed_right,
            authentic,
        }
    }

    /// Makes a change in each of its instances; what comes of it.
    pub fn try_change(&self, change: &Change) -> Vec<(usize, Found)> {
        (0..change.instances)
            .map(|instance| {
                let dir = self.kit.cipher();
                fs::remove_dir_all(&dir).unwrap();
                copy(
                    if change.crashed {
                        &self.crashed
                    } else {
                        &self.now
                    },
                    &dir,
                );
                let mut case = Case {
                    scene: self,
                    dir,
                    rng: SmallRng::seed_from_u64(instance as u64),
                    instance,
                };
                (change.make)(&mut case);
                // As one would look at a backup; then mounted, which may write.
                let first = self.outcome(change, true);
                let then = self.outcome(change, false);
                assert_eq!(first, then, "{}: mounted for writing", change.name);
                (instance, first)
            })
            .collect()
    }

    /// Opens the volume and looks at all of it.
    fn outcome(&self, change: &Change, read_only: bool) -> Found {
        let found = |read: &str, fsck: &str| Found {
            read: read.to_owned(),
            fsck: fsck.to_owned(),
        };
        let right = if change.crashed {
            &self.crashed_right
        } else {
            &self.right
        };
        let Ok(volume) = open(&self.kit, read_only) else {
            return found("refused", "found");
        };
        let tree = tree(&volume);
        let report = maintain::fsck::run(&volume, &Silent);
        for (path, seen) in &tree {
            let Ok(seen) = seen else {
                continue;
            };
            for (block, bytes) in blocks(seen) {
                assert!(
                    self.authentic.contains(&(block, bytes.to_vec()))
                        || bytes.iter().all(|byte| *byte == 0),
                    "{}: {path}, block {block}: bytes that nobody wrote",
                    change.name
                );
            }
        }
        let fsck_found = !report.is_ok_and(|report| report.is_clean());
        let refused = tree.values().any(Result::is_err);
        let same = tree == *right;
        let missing = right.keys().any(|path| !tree.contains_key(path));
        let read = match (refused, same) {
            (true, _) => "refused",
            (_, true) => "harmless",
            _ if missing && fsck_found => "hidden",
            _ => "no",
        };
        let fsck = match (fsck_found, same) {
            (true, _) => "found",
            (_, true) => "harmless",
            _ => "no",
        };
        found(read, fsck)
    }
}

fn blocks(seen: &Seen) -> impl Iterator<Item = (usize, &[u8])> {
    seen.bytes.chunks(4096).enumerate()
}

fn keep(tree: &Tree, authentic: &mut HashSet<(usize, Vec<u8>)>) {
    for seen in tree.values().flatten() {
        for (block, bytes) in blocks(seen) {
            authentic.insert((block, bytes.to_vec()));
        }
    }
}

/// Everything in a volume, by its path.
fn tree(volume: &Volume<Os>) -> Tree {
    let mut tree = Tree::new();
    let mut pending = vec![(String::new(), NodeId::ROOT)];
    while let Some((path, node)) = pending.pop() {
        let mut names = Vec::new();
        let listed = volume.readdir(node, 0, &mut |entry| {
            if !matches!(entry.name, b"." | b"..") {
                names.push(entry.name.to_vec());
            }
            true
        });
        if let Err(error) = listed {
            tree.insert(path, Err(error.to_string()));
            continue;
        }
        for name in names {
            let shown = format!("{path}/{}", String::from_utf8_lossy(&name));
            match look(volume, node, &name) {
                Ok((node, seen)) => {
                    if seen.kind == Kind::Dir {
                        pending.push((shown.clone(), node));
                    }
                    tree.insert(shown, Ok(seen));
                }
                Err(error) => {
                    tree.insert(shown, Err(error.to_string()));
                }
            }
        }
    }
    tree
}

fn look(volume: &Volume<Os>, dir: NodeId, name: &[u8]) -> Result<(NodeId, Seen), VolumeError> {
    let attr = volume.lookup(dir, name)?;
    let bytes = match attr.kind {
        Kind::File => {
            let handle = volume.open_file(&ME, attr.ino, OpenMode::READ)?;
            let mut bytes = vec![0; attr.size as usize];
            let read = volume.read(handle, 0, &mut bytes);
            volume.release(handle)?;
            bytes.truncate(read?);
            bytes
        }
        Kind::Symlink => volume.readlink(attr.ino)?,
        _ => Vec::new(),
    };
    let mut xattrs = BTreeMap::new();
    for name in volume.list_xattr(attr.ino)? {
        let value = volume.get_xattr(attr.ino, &name)?;
        xattrs.insert(name, value);
    }
    let is_dir = attr.kind == Kind::Dir;
    let seen = Seen {
        kind: attr.kind,
        perm: attr.perm,
        nlink: if is_dir { 0 } else { attr.nlink },
        modified_in_1970: attr.mtime.secs == 0,
        bytes,
        xattrs,
    };
    Ok((attr.ino, seen))
}

/// Where everything lies below: by inode, which are the same.
fn places(volume: &Volume<Os>, cipher: &Path) -> BTreeMap<String, PathBuf> {
    let mut by_inode = BTreeMap::new();
    let mut pending = vec![PathBuf::new()];
    while let Some(dir) = pending.pop() {
        for entry in fs::read_dir(cipher.join(&dir)).unwrap() {
            let entry = entry.unwrap();
            let place = dir.join(entry.file_name());
            let meta = entry.metadata().unwrap();
            by_inode.insert(meta.ino(), place.clone());
            if meta.is_dir() {
                pending.push(place);
            }
        }
    }
    let mut places = BTreeMap::new();
    let mut pending = vec![(String::new(), NodeId::ROOT)];
    while let Some((path, node)) = pending.pop() {
        let mut found = Vec::new();
        volume
            .readdir(node, 0, &mut |entry| {
                if !matches!(entry.name, b"." | b"..") {
                    found.push((entry.name.to_vec(), entry.kind));
                }
                true
            })
            .unwrap();
        for (name, kind) in found {
            let shown = format!("{path}/{}", String::from_utf8_lossy(&name));
            let attr = volume.lookup(node, &name).unwrap();
            places.insert(shown.clone(), by_inode[&attr.ino.0].clone());
            if kind == Kind::Dir {
                pending.push((shown, attr.ino));
            }
        }
    }
    places
}
