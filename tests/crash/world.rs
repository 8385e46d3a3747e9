//! A volume in memory under a workload, with the record of what was done and what was promised.

use std::collections::BTreeMap;
use std::sync::Arc;

use envelopefs::backing::{Rename, XattrMode};
use envelopefs::format::NameEncoding;
use envelopefs::kms::Kms;
use envelopefs::maintain::reencrypt::{self, ReencryptOptions};
use envelopefs::volume::{
    CreateOptions, FallocateMode, HandleId, NodeId, OpenMode, OpenOptions, SetAttr, Volume,
    VolumeError,
};

use super::disk::Disk;
use super::kit::{ALIAS, Budget, ME};
use super::log::Op;
use super::mem::Mem;
use super::model::{self, BLOCK, Model, Thing};

/// What a step means for the model; told whether a sync of a file keeps its names.
type Change = Box<dyn Fn(&mut Model, bool) + Send + Sync>;

/// A moment of the model's time.
pub enum Moment {
    /// From here on this may be found; or, of a sync: it must be.
    Change(Change),
    /// All that was begun before has come back to the caller.
    Acknowledged,
    /// A transaction of a database was committed: the number of them.
    Committed(u64),
}

/// A volume at work.
pub struct World {
    pub volume: Volume<Mem>,
    /// Whether files got new data keys.
    reencrypts: bool,
    options: fn() -> OpenOptions,
    pub kms: Arc<Kms>,
    mem: Mem,
    start: Disk,
    model: Model,
    timeline: Vec<(usize, Moment)>,
    nodes: BTreeMap<Thing, NodeId>,
    open: BTreeMap<Thing, HandleId>,
    /// What was done, in words, and where in the log it began.
    pub story: Vec<(usize, String)>,
}

/// What a workload did.
pub struct Recording {
    pub kms: Arc<Kms>,
    /// The disk before it.
    pub start: Disk,
    pub log: Vec<Op>,
    pub timeline: Vec<(usize, Moment)>,
    pub story: Vec<(usize, String)>,
    /// Options that volumes are opened with.
    pub options: fn() -> OpenOptions,
    /// Whether files got new data keys: what was begun must come to its end afterwards.
    pub reencrypts: bool,
    /// A database in the volume: its name and whether it is to be opened with a WAL.
    pub database: Option<Database>,
}

/// How a database in a volume is looked at.
#[derive(Clone, Copy)]
pub struct Database {
    pub journal_mode: &'static str,
}

pub type Outcome<T> = Result<T, VolumeError>;

impl World {
    pub fn new(kms: &Arc<Kms>, options: fn() -> OpenOptions) -> Self {
        let mem = Mem::of(Disk::new(), false);
        let key = kms.service_key(ALIAS).unwrap();
        let names = NameEncoding::Encrypted;
        Volume::init(&mem, kms, &CreateOptions { key, names }).unwrap();
        let start = mem.disk();
        let mem = Mem::of(start.clone(), true);
        let volume = Volume::open(mem.clone(), Arc::clone(kms), options()).unwrap();
        Self {
            volume,
            reencrypts: false,
            options,
            kms: Arc::clone(kms),
            mem,
            start,
            model: Model::new(),
            timeline: Vec::new(),
            nodes: BTreeMap::from([(model::ROOT, NodeId::ROOT)]),
            open: BTreeMap::new(),
            story: Vec::new(),
        }
    }

    pub fn mem(&self) -> &Mem {
        &self.mem
    }

    pub fn model(&self) -> &Model {
        &self.model
    }

    /// Ends the work: a cut may come at any place in the record.
    pub fn finish(mut self, database: Option<Database>) -> Recording {
        let options = self.options;
        let log = self.mem.take_log();
        // All of it reads as it was written, whatever of it is durable.
        self.model.synced_all();
        let findings = self.model.check(&self.volume);
        assert!(findings.list.is_empty(), "no cut: {:?}", findings.list);
        Recording {
            kms: self.kms,
            start: self.start,
            log,
            timeline: self.timeline,
            story: self.story,
            options,
            reencrypts: self.reencrypts,
            database,
        }
    }

    fn tell(&mut self, what: impl Into<String>) {
        self.story.push((self.mem.log_len(), what.into()));
    }

    /// What follows may be found from its first call on, and that may be under way already.
    fn begin(&mut self, change: impl Fn(&mut Model, bool) + Send + Sync + 'static) {
        change(&mut self.model, true);
        self.timeline
            .push((self.mem.log_len(), Moment::Change(Box::new(change))));
    }

    /// It came back, and this is promised.
    fn end(&mut self, change: impl Fn(&mut Model, bool) + Send + Sync + 'static) {
        change(&mut self.model, true);
        self.timeline
            .push((self.mem.log_len(), Moment::Change(Box::new(change))));
    }

    pub fn acknowledged(&mut self) {
        self.timeline
            .push((self.mem.log_len(), Moment::Acknowledged));
    }

    pub fn committed(&mut self, number: u64) {
        self.timeline
            .push((self.mem.log_len(), Moment::Committed(number)));
    }

    fn node(&self, thing: Thing) -> NodeId {
        self.nodes[&thing]
    }

    /// An open handle of a file; a few of them stay open.
    fn handle(&mut self, thing: Thing) -> Outcome<HandleId> {
        if let Some(handle) = self.open.get(&thing) {
            return Ok(*handle);
        }
        if self.open.len() >= 6 {
            let (_, handle) = self.open.pop_first().expect("there are some");
            self.volume.release(handle)?;
            self.acknowledged();
        }
        let handle = self
            .volume
            .open_file(&ME, self.node(thing), OpenMode::READ_WRITE)?;
        self.open.insert(thing, handle);
        Ok(handle)
    }

    /// Closes what is open of a file.
    pub fn close(&mut self, thing: Thing) -> Outcome<()> {
        if let Some(handle) = self.open.remove(&thing) {
            self.tell(format!("close {thing}"));
            self.volume.release(handle)?;
            self.acknowledged();
        }
        Ok(())
    }

    pub fn create(&mut self, dir: Thing, name: &[u8]) -> Outcome<Thing> {
        let own = name.to_vec();
        self.tell(format!("create {dir}/{}", String::from_utf8_lossy(name)));
        let thing = self.model.next_thing();
        self.begin(move |model, _| {
            model.create(dir, &own);
        });
        let made = self.volume.create(
            &ME,
            self.node(dir),
            name,
            0o644,
            0o022,
            OpenMode::READ_WRITE,
        );
        match made {
            Ok((attr, handle)) => {
                self.nodes.insert(thing, attr.ino);
                self.open.insert(thing, handle);
                self.acknowledged();
                Ok(thing)
            }
            Err(error) => {
                let own = name.to_vec();
                self.end(move |model, _| model.unlink(dir, &own));
                self.acknowledged();
                Err(error)
            }
        }
    }

    pub fn mkdir(&mut self, dir: Thing, name: &[u8]) -> Outcome<Thing> {
        let own = name.to_vec();
        self.tell(format!("mkdir {dir}/{}", String::from_utf8_lossy(name)));
        let number = self.model.next_thing();
        self.begin(move |model, _| {
            model.mkdir(dir, &own);
        });
        let made = self.volume.mkdir(&ME, self.node(dir), name, 0o755, 0);
        self.made(dir, name, number, made.map(|attr| attr.ino))
    }

    pub fn symlink(&mut self, dir: Thing, name: &[u8], target: &[u8]) -> Outcome<Thing> {
        let (own, own_target) = (name.to_vec(), target.to_vec());
        self.tell(format!("symlink {dir}/{}", String::from_utf8_lossy(name)));
        let number = self.model.next_thing();
        self.begin(move |model, _| {
            model.symlink(dir, &own, &own_target);
        });
        let made = self.volume.symlink(&ME, self.node(dir), name, target);
        self.made(dir, name, number, made.map(|attr| attr.ino))
    }

    fn made(
        &mut self,
        dir: Thing,
        name: &[u8],
        number: Thing,
        made: Outcome<NodeId>,
    ) -> Outcome<Thing> {
        let result = match made {
            Ok(node) => {
                self.nodes.insert(number, node);
                Ok(number)
            }
            Err(error) => {
                let own = name.to_vec();
                self.end(move |model, _| model.unlink(dir, &own));
                Err(error)
            }
        };
        self.acknowledged();
        result
    }

    pub fn link(&mut self, thing: Thing, dir: Thing, name: &[u8]) -> Outcome<()> {
        let own = name.to_vec();
        self.tell(format!(
            "link {thing} as {dir}/{}",
            String::from_utf8_lossy(name)
        ));
        self.begin(move |model, _| model.link(thing, dir, &own));
        let made = self.volume.link(self.node(thing), self.node(dir), name);
        if made.is_err() {
            let own = name.to_vec();
            self.end(move |model, _| model.unlink(dir, &own));
        }
        self.acknowledged();
        made.map(drop)
    }

    pub fn unlink(&mut self, dir: Thing, name: &[u8]) -> Outcome<()> {
        self.tell(format!("unlink {dir}/{}", String::from_utf8_lossy(name)));
        self.removed(dir, name, |volume, node| volume.unlink(node, name))
    }

    pub fn rmdir(&mut self, dir: Thing, name: &[u8]) -> Outcome<()> {
        self.tell(format!("rmdir {dir}/{}", String::from_utf8_lossy(name)));
        self.removed(dir, name, |volume, node| volume.rmdir(node, name))
    }

    fn removed(
        &mut self,
        dir: Thing,
        name: &[u8],
        act: impl FnOnce(&Volume<Mem>, NodeId) -> Outcome<()>,
    ) -> Outcome<()> {
        let own = name.to_vec();
        let before = self.model.at(dir, name);
        self.begin(move |model, _| model.unlink(dir, &own));
        let done = act(&self.volume, self.node(dir));
        if done.is_err() {
            let own = name.to_vec();
            self.end(move |model, _| model.put_back(dir, &own, before));
        }
        self.acknowledged();
        done
    }

    pub fn rename(&mut self, from: (Thing, &[u8]), to: (Thing, &[u8]), how: Rename) -> Outcome<()> {
        let (own_from, own_to) = ((from.0, from.1.to_vec()), (to.0, to.1.to_vec()));
        self.tell(format!(
            "rename {}/{} {}/{} {how:?}",
            from.0,
            String::from_utf8_lossy(from.1),
            to.0,
            String::from_utf8_lossy(to.1)
        ));
        let before = (self.model.at(from.0, from.1), self.model.at(to.0, to.1));
        self.begin(move |model, _| {
            model.rename(
                (own_from.0, &own_from.1),
                (own_to.0, &own_to.1),
                how == Rename::Exchange,
            );
        });
        let done = self
            .volume
            .rename(self.node(from.0), from.1, self.node(to.0), to.1, how);
        if done.is_err() {
            let (from, to) = ((from.0, from.1.to_vec()), (to.0, to.1.to_vec()));
            self.end(move |model, _| {
                model.put_back(from.0, &from.1, before.0);
                model.put_back(to.0, &to.1, before.1);
            });
        }
        self.acknowledged();
        done
    }

    /// A change of a file's bytes; when it fails they are as before.
    fn changed(
        &mut self,
        thing: Thing,
        change: impl Fn(&mut Model) + Send + Sync + 'static,
        act: impl FnOnce(&Volume<Mem>, HandleId, NodeId) -> Outcome<()>,
    ) -> Outcome<()> {
        let handle = self.handle(thing)?;
        let before = self.model.bytes(thing).to_vec();
        self.begin(move |model, _| change(model));
        let done = act(&self.volume, handle, self.node(thing));
        // Readers see the newest bytes at once.
        let mut found = vec![0; self.model.bytes(thing).len().max(before.len()) + 1];
        let read = self.volume.read(handle, 0, &mut found);
        let read = read.unwrap_or_else(|error| panic!("{:?}: {error}", self.story.last()));
        found.truncate(read);
        if done.is_err() {
            // Each block is old or new, and the size too.
            let new = self.model.bytes(thing);
            let size = |bytes: &[u8]| bytes.len() == read;
            assert!(
                size(&before) || size(new),
                "{:?}: {read} bytes",
                self.story.last()
            );
            for (i, block) in found.chunks(BLOCK).enumerate() {
                let same = |bytes: &[u8]| {
                    let start = (i * BLOCK).min(bytes.len());
                    let there = &bytes[start..bytes.len().min(start + block.len())];
                    block.starts_with(there) && block[there.len()..].iter().all(|byte| *byte == 0)
                };
                assert!(
                    same(&before) || same(new),
                    "{:?}: block {i}",
                    self.story.last()
                );
            }
            self.end(move |model, _| model.failed(thing, &found));
        } else {
            assert!(found == self.model.bytes(thing), "{:?}", self.story.last());
        }
        self.acknowledged();
        done
    }

    /// What the journal holds goes home.
    pub fn write_back(&mut self) -> Outcome<()> {
        self.tell("write back");
        self.volume.write_back()
    }

    /// Gives all files new data keys, or goes on with that; stops after so many steps.
    pub fn reencrypt(&mut self, steps: u64) -> Outcome<()> {
        self.tell(format!("re-encrypt, {steps} steps"));
        self.reencrypts = true;
        let options = ReencryptOptions {
            resume: steps.is_multiple_of(2),
            ..ReencryptOptions::default()
        };
        let budget = Budget::of(steps);
        let report = reencrypt::run(&self.volume, &options, &budget)?;
        self.acknowledged();
        match report.failed.first() {
            None => Ok(()),
            Some(failed) => Err(VolumeError::Io(std::io::Error::other(failed.why.clone()))),
        }
    }

    /// Unmounts cleanly and mounts again.
    pub fn remount(&mut self) {
        self.tell("remount");
        for handle in std::mem::take(&mut self.open).into_values() {
            self.volume.release(handle).unwrap();
        }
        // When that fails, it isn't clean, but all there.
        if self.volume.close().is_ok() {
            self.end(|model, _| model.synced_all());
        }
        self.open_again();
    }

    /// The process is killed, and the volume mounted again.
    pub fn killed(&mut self) {
        self.tell("killed");
        self.open.clear();
        self.open_again();
    }

    fn open_again(&mut self) {
        let options = (self.options)();
        self.mem.no_faults();
        self.mem.forget_holders();
        let volume = Volume::open(self.mem.clone(), Arc::clone(&self.kms), options).unwrap();
        // What the old one would do on its end must not be done.
        std::mem::forget(std::mem::replace(&mut self.volume, volume));
        self.acknowledged();
        for (dir, name, thing) in self.model.tree() {
            let attr = self.volume.lookup(self.nodes[&dir], &name).unwrap();
            self.nodes.insert(thing, attr.ino);
        }
    }

    pub fn write(&mut self, thing: Thing, at: usize, data: &[u8]) -> Outcome<()> {
        self.tell(format!("write {thing} {at}+{}", data.len()));
        let own = data.to_vec();
        self.changed(
            thing,
            move |model| model.write(thing, at, &own),
            |volume, handle, _| volume.write_in_place(handle, at as u64, &mut data.to_vec(), false),
        )
    }

    pub fn truncate(&mut self, thing: Thing, size: usize) -> Outcome<()> {
        self.tell(format!("truncate {thing} {size}"));
        let set = SetAttr {
            size: Some(size as u64),
            ..SetAttr::default()
        };
        self.changed(
            thing,
            move |model| model.truncate(thing, size),
            |volume, handle, node| volume.setattr(&ME, node, Some(handle), &set).map(drop),
        )
    }

    pub fn punch(&mut self, thing: Thing, at: usize, len: usize) -> Outcome<()> {
        self.tell(format!("punch {thing} {at}+{len}"));
        self.changed(
            thing,
            move |model| model.zero(thing, at, len),
            |volume, handle, _| {
                volume.fallocate(handle, FallocateMode::PunchHole, at as u64, len as u64)
            },
        )
    }

    pub fn read(&mut self, thing: Thing, at: usize, out: &mut [u8]) -> Outcome<usize> {
        let handle = self.handle(thing)?;
        self.volume.read(handle, at as u64, out)
    }

    pub fn fsync(&mut self, thing: Thing, data_only: bool) -> Outcome<()> {
        self.tell(format!("fsync {thing} data_only {data_only}"));
        let handle = self.handle(thing)?;
        self.volume.fsync(handle, data_only)?;
        self.end(move |model, names| model.synced(thing, names, data_only));
        self.acknowledged();
        Ok(())
    }

    pub fn fsync_dir(&mut self, dir: Thing) -> Outcome<()> {
        self.tell(format!("fsync directory {dir}"));
        self.volume.fsync_dir(self.node(dir))?;
        self.end(move |model, names| model.synced_dir(dir, names));
        self.acknowledged();
        Ok(())
    }

    pub fn set_xattr(&mut self, thing: Thing, name: &[u8], value: Option<&[u8]>) -> Outcome<()> {
        self.tell(format!("xattr {thing}"));
        let (own, own_value) = (name.to_vec(), value.map(<[u8]>::to_vec));
        self.begin(move |model, _| model.set_xattr(thing, &own, own_value.as_deref()));
        let node = self.node(thing);
        let done = match value {
            Some(value) => self.volume.set_xattr(node, name, value, XattrMode::Any),
            None => self.volume.remove_xattr(node, name),
        };
        if done.is_err() {
            let own = name.to_vec();
            self.end(move |model, _| model.take_xattr_back(thing, &own));
        }
        self.acknowledged();
        done
    }
}
