//! What was durable, and what else may be found: the plaintext side.
//!
//! Every file knows, for each 4 KiB block, the bytes that it had when it was last synced and all
//! that it got since; every entry of a directory what it stood for then and since. After a power
//! cut a block is one of these, and nothing else.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use envelopefs::backing::{Backing, Kind};
use envelopefs::volume::{NodeId, OpenMode, Volume, VolumeError};

use super::kit::ME;

pub const BLOCK: usize = 4096;

/// A thing that was ever in the volume, by the order of its making.
pub type Thing = usize;

/// The root directory.
pub const ROOT: Thing = 0;

/// All that may be found.
#[derive(Default)]
pub struct Model {
    things: Vec<Content>,
    /// What an entry stood for: first as it was durable, then since; the last is how it is now.
    entries: BTreeMap<(Thing, Vec<u8>), Vec<Option<Thing>>>,
    /// Things with a durable name that have had one ever since.
    kept: Vec<bool>,
    /// How many names a thing has now.
    names: Vec<u32>,
}

enum Content {
    Dir,
    File(File),
    Link(Vec<u8>),
}

#[derive(Default)]
struct File {
    now: Vec<u8>,
    /// Sizes since the last sync, that one's first.
    sizes: Vec<u64>,
    /// The blocks written since: what they were at the last sync (empty: they were not), then all
    /// that they got.
    since: BTreeMap<usize, Vec<Arc<[u8]>>>,
    /// It was synced at some time.
    synced: bool,
    /// Values of extended attributes: the durable one, then since.
    xattrs: BTreeMap<Vec<u8>, Vec<Option<Vec<u8>>>>,
}

/// What a volume says that it should not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// Something that was durable is not there, or can't be read.
    Lost(String),
    /// Something that never was: other bytes, an unknown name.
    Wrong(String),
    /// Something that was never durable can't be read.
    Alarm(String),
}

/// How often each kind of result came out.
#[derive(Default)]
pub struct Findings {
    pub list: Vec<Finding>,
}

impl Findings {
    fn lost(&mut self, what: impl Into<String>) {
        self.list.push(Finding::Lost(what.into()));
    }

    fn wrong(&mut self, what: impl Into<String>) {
        self.list.push(Finding::Wrong(what.into()));
    }

    fn alarm(&mut self, durable: bool, what: impl Into<String>) {
        let what = what.into();
        self.list.push(if durable {
            Finding::Lost(what)
        } else {
            Finding::Alarm(what)
        });
    }

    pub fn failed(&self) -> bool {
        self.list
            .iter()
            .any(|finding| !matches!(finding, Finding::Alarm(_)))
    }
}

impl File {
    fn block(&self, block: usize) -> &[u8] {
        let start = (block * BLOCK).min(self.now.len());
        &self.now[start..(start + BLOCK).min(self.now.len())]
    }

    /// Notes what the blocks of a range are now; before the first change, what they were.
    fn note(&mut self, from: usize, to: usize) {
        for block in from / BLOCK..to.div_ceil(BLOCK) {
            let bytes: Arc<[u8]> = Arc::from(self.block(block));
            let since = self.since.entry(block).or_default();
            if since.last() != Some(&bytes) {
                since.push(bytes);
            }
        }
    }

    fn change(&mut self, from: usize, to: usize, change: impl FnOnce(&mut Vec<u8>)) {
        let before = self.now.len();
        if self.sizes.is_empty() {
            self.sizes.push(before as u64);
        }
        // Where the size changes, so does the block that was the last.
        self.note(from, to);
        change(&mut self.now);
        self.note(from, to);
        if self.now.len() != before {
            self.sizes.push(self.now.len() as u64);
        }
    }

    fn write(&mut self, at: usize, data: &[u8]) {
        let end = at + data.len();
        let from = if at > self.now.len() {
            self.now.len() / BLOCK * BLOCK
        } else {
            at
        };
        self.change(from, end, |now| {
            if now.len() < end {
                now.resize(end, 0);
            }
            now[at..end].copy_from_slice(data);
        });
    }

    fn resize(&mut self, size: usize) {
        let (low, high) = (self.now.len().min(size), self.now.len().max(size));
        self.change(low / BLOCK * BLOCK, high, |now| now.resize(size, 0));
    }

    fn synced(&mut self) {
        self.synced = true;
        self.sizes.clear();
        self.since.clear();
    }

    /// The size at the last sync.
    fn durable_size(&self) -> u64 {
        match (self.synced, self.sizes.first()) {
            (false, _) => 0,
            (true, Some(first)) => *first,
            (true, None) => self.now.len() as u64,
        }
    }

    fn check_size(&self, size: u64) -> bool {
        let now = self.now.len() as u64;
        let least = if self.synced {
            self.sizes.iter().copied().min().unwrap_or(now)
        } else {
            0
        };
        (least..=self.sizes.iter().copied().max().unwrap_or(now)).contains(&size)
    }

    /// Whether a block may have these bytes.
    fn check_block(&self, block: usize, found: &[u8]) -> bool {
        // The size is one of its own: what is behind it isn't there, what it adds is zeros.
        let fits = |version: &[u8]| {
            let (same, behind) = found.split_at(version.len().min(found.len()));
            version.starts_with(same) && behind.iter().all(|&byte| byte == 0)
        };
        match self.since.get(&block) {
            Some(versions) => {
                versions.iter().any(|version| fits(version)) || (!self.synced && fits(&[]))
            }
            None => fits(self.block(block)) || !self.synced && fits(&[]),
        }
    }

    /// Whether a block had bytes at the last sync.
    fn was_durable(&self, block: usize) -> bool {
        self.durable_size() > (block * BLOCK) as u64
    }
}

impl Model {
    pub fn new() -> Self {
        let mut model = Self::default();
        model.add(Content::Dir);
        model.names[ROOT] = 1;
        model
    }

    fn add(&mut self, content: Content) -> Thing {
        self.things.push(content);
        self.kept.push(false);
        self.names.push(0);
        self.things.len() - 1
    }

    /// The number that the next new thing gets.
    pub fn next_thing(&self) -> Thing {
        self.things.len()
    }

    fn file(&mut self, thing: Thing) -> &mut File {
        match &mut self.things[thing] {
            Content::File(file) => file,
            _ => panic!("thing {thing} is no file"),
        }
    }

    /// What an entry stands for now.
    pub fn at(&self, dir: Thing, name: &[u8]) -> Option<Thing> {
        *self.entries.get(&(dir, name.to_vec()))?.last()?
    }

    /// Every entry as it is now: directory, name, what it stands for; directories before what is in
    /// them.
    pub fn tree(&self) -> Vec<(Thing, Vec<u8>, Thing)> {
        let mut tree = Vec::new();
        let mut dirs = vec![ROOT];
        while let Some(dir) = dirs.pop() {
            for ((_, name), since) in self.entries.range((dir, Vec::new())..(dir + 1, Vec::new())) {
                if let Some(thing) = since.last().copied().flatten() {
                    tree.push((dir, name.clone(), thing));
                    if matches!(self.things[thing], Content::Dir) {
                        dirs.push(thing);
                    }
                }
            }
        }
        tree
    }

    /// Whether a directory has no entries now.
    pub fn is_empty(&self, dir: Thing) -> bool {
        !self
            .entries
            .range((dir, Vec::new())..(dir + 1, Vec::new()))
            .any(|(_, since)| since.last() != Some(&None))
    }

    /// Those of the things that have a name now.
    pub fn linked(&self, things: &[Thing]) -> Vec<Thing> {
        let named = |thing: &Thing| self.names[*thing] > 0;
        things.iter().copied().filter(named).collect()
    }

    /// An entry is what it was before, since an operation failed.
    pub fn put_back(&mut self, dir: Thing, name: &[u8], thing: Option<Thing>) {
        if self.at(dir, name) != thing {
            self.set(dir, name, thing);
        }
    }

    fn set(&mut self, dir: Thing, name: &[u8], thing: Option<Thing>) {
        let since = self
            .entries
            .entry((dir, name.to_vec()))
            .or_insert_with(|| vec![None]);
        let before = since.last().copied().flatten();
        since.push(thing);
        if let Some(thing) = thing {
            self.names[thing] += 1;
        }
        if let Some(before) = before {
            self.names[before] -= 1;
            if self.names[before] == 0 {
                self.kept[before] = false;
            }
        }
    }

    pub fn mkdir(&mut self, dir: Thing, name: &[u8]) -> Thing {
        let thing = self.add(Content::Dir);
        self.set(dir, name, Some(thing));
        thing
    }

    pub fn create(&mut self, dir: Thing, name: &[u8]) -> Thing {
        let thing = self.add(Content::File(File::default()));
        self.set(dir, name, Some(thing));
        thing
    }

    pub fn symlink(&mut self, dir: Thing, name: &[u8], target: &[u8]) -> Thing {
        let thing = self.add(Content::Link(target.to_vec()));
        self.set(dir, name, Some(thing));
        thing
    }

    pub fn link(&mut self, thing: Thing, dir: Thing, name: &[u8]) {
        self.set(dir, name, Some(thing));
    }

    pub fn unlink(&mut self, dir: Thing, name: &[u8]) {
        self.set(dir, name, None);
    }

    pub fn rename(&mut self, from: (Thing, &[u8]), to: (Thing, &[u8]), swap: bool) {
        let moved = self.at(from.0, from.1);
        let other = self.at(to.0, to.1);
        if moved == other {
            return;
        }
        let swapped = other.filter(|_| swap);
        if let Some(other) = swapped {
            self.names[other] += 1; // never without one
        }
        self.set(to.0, to.1, moved);
        self.set(from.0, from.1, swapped);
        if let Some(other) = swapped {
            self.names[other] -= 1;
        }
    }

    pub fn write(&mut self, thing: Thing, at: usize, data: &[u8]) {
        self.file(thing).write(at, data);
    }

    pub fn truncate(&mut self, thing: Thing, size: usize) {
        self.file(thing).resize(size);
    }

    /// Zeros, as far as the file goes.
    pub fn zero(&mut self, thing: Thing, at: usize, len: usize) {
        let file = self.file(thing);
        let end = (at + len).min(file.now.len());
        if at < end {
            let zeros = vec![0; end - at];
            file.write(at, &zeros);
        }
    }

    pub fn set_xattr(&mut self, thing: Thing, name: &[u8], value: Option<&[u8]>) {
        self.file(thing)
            .xattrs
            .entry(name.to_vec())
            .or_insert_with(|| vec![None])
            .push(value.map(<[u8]>::to_vec));
    }

    /// An attribute has the value that it had before the last one, which failed.
    pub fn take_xattr_back(&mut self, thing: Thing, name: &[u8]) {
        if let Some(since) = self.file(thing).xattrs.get_mut(name)
            && let [.., before, _] = &since[..]
        {
            since.push(before.clone());
        }
    }

    /// The bytes of a file now.
    pub fn bytes(&self, thing: Thing) -> &[u8] {
        match &self.things[thing] {
            Content::File(file) => &file.now,
            _ => &[],
        }
    }

    /// A write that failed: the bytes are as they were, and the new ones may be met after a cut
    /// until the next sync.
    pub fn failed(&mut self, thing: Thing, before: &[u8]) {
        let file = self.file(thing);
        let high = file.now.len().max(before.len());
        file.change(0, high, |now| *now = before.to_vec());
    }

    fn settle_entry(&mut self, key: &(Thing, Vec<u8>)) {
        if let Some(since) = self.entries.get_mut(key) {
            let now = *since.last().expect("never empty");
            *since = vec![now];
            if let Some(thing) = now {
                self.kept[thing] = true;
            }
        }
    }

    /// The entries that lead to a directory.
    fn settle_place(&mut self, mut dir: Thing) {
        while dir != ROOT {
            let Some((key, _)) = self
                .entries
                .iter()
                .find(|(_, since)| since.last() == Some(&Some(dir)))
            else {
                return;
            };
            let key = key.clone();
            self.settle_entry(&key);
            dir = key.0;
        }
    }

    /// A file was synced: its bytes are durable; with `names` its names are too, and the way to
    /// them. fdatasync is that to a new file only, and a rename is none of its business: then it is
    /// under one of its names.
    pub fn synced(&mut self, thing: Thing, names: bool, data_only: bool) {
        let file = self.file(thing);
        let is_new = !file.synced;
        file.synced();
        if !data_only {
            for since in file.xattrs.values_mut() {
                since.drain(..since.len() - 1);
            }
        }
        if names && (!data_only || is_new) {
            let names = self.entries.values();
            let moved = names.filter(|since| since.contains(&Some(thing))).count() > 1;
            let keys: Vec<_> = self
                .entries
                .iter()
                .filter(|(_, since)| since.last() == Some(&Some(thing)))
                .filter(|_| !data_only || !moved)
                .map(|(key, _)| key.clone())
                .collect();
            if self.names[thing] > 0 {
                self.kept[thing] = true;
            }
            for key in keys {
                self.settle_entry(&key);
                self.settle_place(key.0);
            }
        }
    }

    /// A directory was synced.
    pub fn synced_dir(&mut self, dir: Thing, names: bool) {
        let keys: Vec<_> = self
            .entries
            .keys()
            .filter(|(of, _)| *of == dir)
            .cloned()
            .collect();
        for key in keys {
            self.settle_entry(&key);
        }
        if names {
            self.settle_place(dir);
        }
    }

    /// Everything was synced.
    pub fn synced_all(&mut self) {
        for thing in &mut self.things {
            if let Content::File(file) = thing {
                file.synced();
                for since in file.xattrs.values_mut() {
                    since.drain(..since.len() - 1);
                }
            }
        }
        let keys: Vec<_> = self.entries.keys().cloned().collect();
        for key in keys {
            self.settle_entry(&key);
        }
    }

    /// Whether there is anything durable in a directory.
    fn holds_durable(&self, dir: Thing, depth: usize) -> bool {
        depth < 16
            && self
                .entries
                .range((dir, Vec::new())..(dir + 1, Vec::new()))
                .any(|(_, since)| {
                    let [Some(thing)] = since[..] else {
                        return false;
                    };
                    match &self.things[thing] {
                        Content::File(file) => file.synced,
                        Content::Dir => self.kept[thing] || self.holds_durable(thing, depth + 1),
                        Content::Link(_) => true,
                    }
                })
    }

    /// Compares a volume with what may be found.
    pub fn check<B: Backing>(&self, volume: &Volume<B>) -> Findings {
        let mut findings = Findings::default();
        let mut seen = vec![false; self.things.len()];
        self.check_dir(volume, ROOT, NodeId::ROOT, "", &mut seen, &mut findings);
        for (thing, kept) in self.kept.iter().enumerate() {
            if *kept && !seen[thing] {
                // Where a directory can't be read, that has been said.
                if findings.list.is_empty() {
                    findings.lost(format!("thing {thing} is under none of its names"));
                }
            }
        }
        findings
    }

    fn check_dir<B: Backing>(
        &self,
        volume: &Volume<B>,
        dir: Thing,
        node: NodeId,
        path: &str,
        seen: &mut [bool],
        findings: &mut Findings,
    ) {
        let mut listed: HashMap<Vec<u8>, Kind> = HashMap::new();
        let result = volume.readdir(node, 0, &mut |entry| {
            if !matches!(entry.name, b"." | b"..") {
                listed.insert(entry.name.to_vec(), entry.kind);
            }
            true
        });
        if let Err(error) = result {
            let durable = self.kept[dir] || dir == ROOT || self.holds_durable(dir, 0);
            findings.alarm(durable, format!("directory {path}/: {error}"));
            return;
        }
        let known = self.entries.range((dir, Vec::new())..(dir + 1, Vec::new()));
        for ((_, name), since) in known {
            let shown = format!("{path}/{}", short(name));
            match listed.remove(name) {
                None => {
                    if !since.contains(&None) {
                        findings.lost(format!("{shown} is gone"));
                    }
                }
                Some(kind) => {
                    let found = (name.as_slice(), kind);
                    self.check_entry(volume, node, found, since, &shown, seen, findings);
                }
            }
        }
        for name in listed.keys() {
            findings.wrong(format!("{path}/{}: nobody made it", short(name)));
        }
    }

    #[allow(clippy::too_many_arguments)] // one step of check_dir, cut out to be read
    fn check_entry<B: Backing>(
        &self,
        volume: &Volume<B>,
        parent: NodeId,
        (name, kind): (&[u8], Kind),
        since: &[Option<Thing>],
        shown: &str,
        seen: &mut [bool],
        findings: &mut Findings,
    ) {
        let must = !since.contains(&None);
        let attr = match volume.lookup(parent, name) {
            Ok(attr) => attr,
            Err(error) => {
                findings.alarm(must, format!("{shown}: {error}"));
                return;
            }
        };
        let mut candidates: Vec<Thing> = since
            .iter()
            .flatten()
            .copied()
            .filter(|thing| {
                matches!(
                    (&self.things[*thing], kind),
                    (Content::Dir, Kind::Dir)
                        | (Content::File(_), Kind::File)
                        | (Content::Link(_), Kind::Symlink)
                )
            })
            .collect();
        candidates.dedup();
        let mut first: Option<Findings> = None;
        for thing in candidates {
            let mut tried = Findings::default();
            let mut seen_here = seen.to_vec();
            seen_here[thing] = true;
            match &self.things[thing] {
                Content::Dir => {
                    self.check_dir(volume, thing, attr.ino, shown, &mut seen_here, &mut tried);
                }
                Content::File(file) => check_file(volume, attr.ino, file, shown, &mut tried),
                Content::Link(target) => match volume.readlink(attr.ino) {
                    Ok(found) if found == *target => {}
                    Ok(_) => tried.wrong(format!("{shown}: another target")),
                    Err(error) => tried.alarm(must, format!("{shown}: {error}")),
                },
            }
            let good = tried.list.is_empty();
            // Any that fits may be it; a failure is told of the last that was tried.
            if good || first.as_ref().is_none_or(Findings::failed) {
                seen.copy_from_slice(&seen_here);
                first = Some(tried);
            }
        }
        match first {
            Some(tried) => findings.list.extend(tried.list),
            None => findings.wrong(format!("{shown} is a {kind:?}")),
        }
    }
}

fn short(name: &[u8]) -> String {
    String::from_utf8_lossy(name).chars().take(20).collect()
}

fn check_file<B: Backing>(
    volume: &Volume<B>,
    node: NodeId,
    file: &File,
    shown: &str,
    findings: &mut Findings,
) {
    let handle = match volume.open_file(&ME, node, OpenMode::READ) {
        Ok(handle) => handle,
        Err(error) => {
            findings.alarm(file.durable_size() > 0, format!("{shown}: {error}"));
            return;
        }
    };
    let result = check_open(volume, node, handle, file, shown, findings);
    if let Err(error) = result {
        findings.alarm(file.durable_size() > 0, format!("{shown}: {error}"));
    }
    let _ = volume.release(handle);
    for (name, since) in &file.xattrs {
        match volume.get_xattr(node, name) {
            Ok(value) if since.contains(&Some(value.clone())) => {}
            Ok(_) => findings.wrong(format!("{shown}: the value of an xattr")),
            Err(VolumeError::NoXattr) if since.contains(&None) || !file.synced => {}
            Err(error) => findings.lost(format!("{shown}: an xattr: {error}")),
        }
    }
}

fn check_open<B: Backing>(
    volume: &Volume<B>,
    node: NodeId,
    handle: envelopefs::volume::HandleId,
    file: &File,
    shown: &str,
    findings: &mut Findings,
) -> Result<(), VolumeError> {
    let size = volume.getattr(node, Some(handle))?.size;
    if !file.check_size(size) {
        let what = format!(
            "{shown} has {size} bytes; durable {}, since {:?}",
            file.durable_size(),
            file.sizes
        );
        if size < file.durable_size() {
            findings.lost(what);
        } else {
            findings.wrong(what);
        }
        return Ok(());
    }
    let mut bytes = vec![0; size as usize];
    let whole = volume.read(handle, 0, &mut bytes);
    for (block, found) in bytes.chunks_mut(BLOCK).enumerate() {
        if whole.is_err() {
            match volume.read(handle, (block * BLOCK) as u64, found) {
                Ok(_) => {}
                Err(VolumeError::Damaged { what, why }) => {
                    findings.alarm(file.was_durable(block), format!("{shown}: {what}: {why}"));
                    continue;
                }
                Err(error) => return Err(error),
            }
        }
        if !file.check_block(block, found) {
            findings.wrong(format!(
                "{shown}, {size} bytes: block {block} is neither old nor new"
            ));
        }
    }
    Ok(())
}
