//! A volume without encryption: nodes, open directories and open files over a [`Backing`], with the
//! operations that `fuse` asks of a volume.
//!
//! A node is its names (directory and entry), reached through cached descriptors of directories, as
//! in the volume that this stands in for. A read or a write is one system call.

use std::collections::HashMap;
use std::io::{self, IoSlice, IoSliceMut};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use envelopefs::backing::{Allocate, At, EntryName, OpenFile, Stat};
use parking_lot::{Mutex, RwLock};
use rustix::io::Errno;

pub use envelopefs::volume::{
    Attr, Backing, Caller, CutOff, DirEntry, FallocateMode, HandleId, Kind, KmsError, NodeId,
    OpenMode, Rename, Seek, SetAttr, SetTime, StatFs, Time, VolumeError, XattrMode,
};

type Result<T> = std::result::Result<T, VolumeError>;

/// Directories kept open, by two descriptors each at the most; beyond that all are closed and opened
/// again as needed. Half of what the process may open is for files.
fn most_dirs() -> usize {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    limit.map_or(16_384, |limit| (limit / 4).min(16_384) as usize)
}

/// An inode that the kernel knows: its names that were seen.
#[derive(Default)]
struct Node {
    links: Vec<(NodeId, Box<[u8]>)>,
    references: AtomicU64,
}

impl Node {
    fn has(&self, parent: NodeId, name: &EntryName) -> bool {
        let is = |link: &(NodeId, Box<[u8]>)| link.0 == parent && *link.1 == *name.as_bytes();
        self.links.iter().any(is)
    }

    fn add(&mut self, parent: NodeId, name: &EntryName) {
        if !self.has(parent, name) {
            self.links.push((parent, name.as_bytes().into()));
        }
    }

    fn remove(&mut self, parent: NodeId, name: &EntryName) {
        self.links
            .retain(|link| link.0 != parent || *link.1 != *name.as_bytes());
    }
}

struct Dir<B: Backing> {
    dir: B::Dir,
    /// A position in its entries, kept between two requests of a listing.
    listing: Mutex<Option<B::Listing>>,
}

impl<B: Backing> Dir<B> {
    fn new(dir: B::Dir) -> Arc<Self> {
        let listing = Mutex::new(None);
        Arc::new(Self { dir, listing })
    }
}

struct File<B: Backing> {
    node: NodeId,
    file: B::File,
}

/// A plain directory.
pub struct Volume<B: Backing> {
    backing: B,
    root: Arc<Dir<B>>,
    root_ino: u64,
    /// User and group of this process: what new files below belong to at first.
    process: (u32, u32),
    nodes: RwLock<HashMap<NodeId, Node>>,
    dirs: RwLock<HashMap<NodeId, Arc<Dir<B>>>>,
    most_dirs: usize,
    files: RwLock<HashMap<HandleId, Arc<File<B>>>>,
    next: AtomicU64,
}

// What there is nothing to do for.
#[allow(clippy::unused_self)] // the volume that this stands in for needs it
impl<B: Backing> Volume<B> {
    pub fn is_settling(&self, _: NodeId) -> bool {
        false
    }

    pub fn on_cut_off(&self, _: CutOff) {}

    pub fn start_background(&self) {}

    pub fn housekeeping(&self) {}

    pub fn renew_worn(&self, _go_on: &dyn Fn() -> bool) {}

    pub fn key_ttl(&self) -> Duration {
        Duration::from_secs(60)
    }

    pub fn copy_range(&self, _: HandleId, _: u64, _: HandleId, _: u64, _len: u64) -> Result<u64> {
        Err(VolumeError::NotSupported("copying below"))
    }
}

// Nodes and their places.
impl<B: Backing> Volume<B> {
    pub fn new(backing: B) -> io::Result<Self> {
        let root = backing.root()?;
        let root_ino = backing.stat_dir(&root)?.ino;
        let (user, group) = (rustix::process::geteuid(), rustix::process::getegid());
        Ok(Self {
            backing,
            root: Dir::new(root),
            root_ino,
            process: (user.as_raw(), group.as_raw()),
            nodes: RwLock::default(),
            dirs: RwLock::default(),
            most_dirs: most_dirs(),
            files: RwLock::default(),
            next: AtomicU64::new(1),
        })
    }

    /// The root is 1; a lower inode 1 takes the root's number.
    fn node_id(&self, lower: u64) -> NodeId {
        match lower {
            ino if ino == self.root_ino => NodeId::ROOT,
            1 => NodeId(self.root_ino),
            ino => NodeId(ino),
        }
    }

    fn attr(&self, stat: &Stat) -> Result<Attr> {
        let born = stat.btime.secs.cast_unsigned().wrapping_mul(1_000_000_000);
        Ok(Attr {
            ino: self.node_id(stat.ino),
            generation: born.wrapping_add(u64::from(stat.btime.nanos)),
            kind: stat
                .kind()
                .ok_or(VolumeError::NotSupported("an unknown type of inode"))?,
            perm: stat.permissions() as u16,
            nlink: stat.nlink,
            uid: stat.uid,
            gid: stat.gid,
            rdev: stat.rdev,
            size: stat.size,
            blocks: stat.blocks,
            blksize: stat.blksize,
            atime: stat.atime,
            mtime: stat.mtime,
            ctime: stat.ctime,
        })
    }

    /// The kernel gets a reference to what was found by a name.
    fn remember(&self, stat: &Stat, parent: NodeId, name: &EntryName) -> Result<Attr> {
        let attr = self.attr(stat)?;
        if let Some(node) = self.nodes.read().get(&attr.ino)
            && node.has(parent, name)
        {
            node.references.fetch_add(1, Ordering::Relaxed);
            return Ok(attr);
        }
        let mut nodes = self.nodes.write();
        let node = nodes.entry(attr.ino).or_default();
        node.add(parent, name);
        *node.references.get_mut() += 1;
        Ok(attr)
    }

    pub fn forget(&self, node: NodeId, count: u64) {
        let mut nodes = self.nodes.write();
        if let Some(known) = nodes.get_mut(&node) {
            let left = known.references.get_mut();
            *left = left.saturating_sub(count);
            if *left == 0 {
                nodes.remove(&node);
                drop(nodes);
                self.dirs.write().remove(&node);
            }
        }
    }

    /// A name of a node is no more.
    fn gone(&self, stat: &Stat, parent: NodeId, name: &EntryName) {
        let id = self.node_id(stat.ino);
        if let Some(node) = self.nodes.write().get_mut(&id) {
            node.remove(parent, name);
        }
        if stat.kind() == Some(Kind::Dir) {
            self.dirs.write().remove(&id);
        }
    }

    fn location(&self, node: NodeId) -> Option<(NodeId, EntryName)> {
        let nodes = self.nodes.read();
        let (parent, name) = nodes.get(&node)?.links.last()?;
        Some((*parent, EntryName::new(name).ok()?))
    }

    fn dir(&self, node: NodeId) -> Result<Arc<Dir<B>>> {
        if node == NodeId::ROOT {
            return Ok(Arc::clone(&self.root));
        }
        if let Some(dir) = self.dirs.read().get(&node) {
            return Ok(Arc::clone(dir));
        }
        let (parent, name) = self.location(node).ok_or(VolumeError::Stale)?;
        let dir = Dir::new(self.backing.open_dir(&self.dir(parent)?.dir, &name)?);
        let mut dirs = self.dirs.write();
        if dirs.len() >= self.most_dirs {
            dirs.clear();
        }
        Ok(Arc::clone(dirs.entry(node).or_insert(dir)))
    }

    fn file(&self, handle: HandleId) -> Result<Arc<File<B>>> {
        let files = self.files.read();
        files.get(&handle).cloned().ok_or(VolumeError::BadHandle)
    }

    fn add_file(&self, node: NodeId, file: B::File) -> HandleId {
        let id = HandleId(self.next.fetch_add(1, Ordering::Relaxed));
        self.files.write().insert(id, Arc::new(File { node, file }));
        id
    }

    /// Does something with a node below, by its open file or its name.
    fn with<T>(
        &self,
        node: NodeId,
        handle: Option<HandleId>,
        work: impl FnOnce(At<'_, B>) -> io::Result<T>,
    ) -> Result<T> {
        if let Some(handle) = handle {
            return Ok(work(At::File(&self.file(handle)?.file))?);
        }
        if node == NodeId::ROOT {
            return Ok(work(At::Dir(&self.root.dir))?);
        }
        if let Some((parent, name)) = self.location(node) {
            return Ok(work(At::Entry(&self.dir(parent)?.dir, &name))?);
        }
        // Removed, but open.
        let files = self.files.read();
        let file = files.values().find(|file| file.node == node).cloned();
        drop(files);
        Ok(work(At::File(&file.ok_or(VolumeError::Stale)?.file))?)
    }

    fn stat_at(&self, at: At<'_, B>) -> io::Result<Stat> {
        match at {
            At::Entry(dir, name) => self.backing.stat(dir, name),
            At::Dir(dir) => self.backing.stat_dir(dir),
            At::File(file) => self.backing.stat_file(file),
        }
    }

    /// Gives what was made to who asked for it.
    fn give_to(&self, caller: &Caller, at: At<'_, B>) -> io::Result<()> {
        let uid = (caller.uid != self.process.0).then_some(caller.uid);
        let gid = (caller.gid != self.process.1).then_some(caller.gid);
        if uid.is_some() || gid.is_some() {
            self.backing.set_owner(at, uid, gid)?;
        }
        Ok(())
    }
}

// Names.
impl<B: Backing> Volume<B> {
    pub fn lookup(&self, parent: NodeId, name: &[u8]) -> Result<Attr> {
        let (dir, name) = (self.dir(parent)?, EntryName::new(name)?);
        self.remember(&self.backing.stat(&dir.dir, &name)?, parent, &name)
    }

    fn make(
        &self,
        parent: NodeId,
        name: &[u8],
        make: impl FnOnce(&B::Dir, &EntryName) -> io::Result<()>,
    ) -> Result<Attr> {
        let (dir, name) = (self.dir(parent)?, EntryName::new(name)?);
        make(&dir.dir, &name)?;
        self.remember(&self.backing.stat(&dir.dir, &name)?, parent, &name)
    }

    pub fn mknod(
        &self,
        caller: &Caller,
        parent: NodeId,
        name: &[u8],
        mode: u32,
        umask: u32,
        rdev: u64,
    ) -> Result<Attr> {
        let mode = mode & !umask;
        self.make(parent, name, |dir, name| {
            match Kind::from_mode(mode) {
                Some(Kind::File) | None => drop(self.backing.create_file(dir, name, mode)?),
                Some(_) => self.backing.mknod(dir, name, mode, rdev)?,
            }
            self.give_to(caller, At::Entry(dir, name))
        })
    }

    pub fn mkdir(
        &self,
        caller: &Caller,
        parent: NodeId,
        name: &[u8],
        mode: u32,
        umask: u32,
    ) -> Result<Attr> {
        self.make(parent, name, |dir, name| {
            self.backing.mkdir(dir, name, mode & !umask)?;
            self.give_to(caller, At::Entry(dir, name))
        })
    }

    pub fn symlink(
        &self,
        caller: &Caller,
        parent: NodeId,
        name: &[u8],
        target: &[u8],
    ) -> Result<Attr> {
        self.make(parent, name, |dir, name| {
            self.backing.symlink(dir, name, target)?;
            self.give_to(caller, At::Entry(dir, name))
        })
    }

    pub fn link(&self, node: NodeId, parent: NodeId, name: &[u8]) -> Result<Attr> {
        let (from_parent, from) = self.location(node).ok_or(VolumeError::Stale)?;
        let from_dir = self.dir(from_parent)?;
        self.make(parent, name, |dir, name| {
            self.backing.link(&from_dir.dir, &from, dir, name)
        })
    }

    pub fn readlink(&self, node: NodeId) -> Result<Vec<u8>> {
        let (parent, name) = self.location(node).ok_or(VolumeError::Stale)?;
        Ok(self.backing.readlink(&self.dir(parent)?.dir, &name)?)
    }

    pub fn unlink(&self, parent: NodeId, name: &[u8]) -> Result<()> {
        let (dir, name) = (self.dir(parent)?, EntryName::new(name)?);
        let stat = self.backing.stat(&dir.dir, &name)?;
        self.backing.unlink(&dir.dir, &name)?;
        self.gone(&stat, parent, &name);
        Ok(())
    }

    pub fn rmdir(&self, parent: NodeId, name: &[u8]) -> Result<()> {
        let (dir, name) = (self.dir(parent)?, EntryName::new(name)?);
        let stat = self.backing.stat(&dir.dir, &name)?;
        self.backing.rmdir(&dir.dir, &name)?;
        self.gone(&stat, parent, &name);
        Ok(())
    }

    pub fn rename(
        &self,
        from_parent: NodeId,
        from: &[u8],
        to_parent: NodeId,
        to: &[u8],
        how: Rename,
    ) -> Result<()> {
        let (from_dir, from) = (self.dir(from_parent)?, EntryName::new(from)?);
        let (to_dir, to) = (self.dir(to_parent)?, EntryName::new(to)?);
        let moved = self.backing.stat(&from_dir.dir, &from)?;
        let there = self.backing.stat(&to_dir.dir, &to).ok();
        if how == Rename::Plain && there.is_some_and(|stat| stat.ino == moved.ino) {
            return Ok(()); // two names of one inode
        }
        self.backing
            .rename(&from_dir.dir, &from, &to_dir.dir, &to, how)?;
        let move_to = |stat: &Stat, old: (NodeId, &EntryName), new: (NodeId, &EntryName)| {
            if let Some(node) = self.nodes.write().get_mut(&self.node_id(stat.ino)) {
                node.remove(old.0, old.1);
                node.add(new.0, new.1);
            }
        };
        match there {
            Some(stat) if how == Rename::Exchange => {
                move_to(&stat, (to_parent, &to), (from_parent, &from));
            }
            Some(stat) => self.gone(&stat, to_parent, &to),
            None => {}
        }
        move_to(&moved, (from_parent, &from), (to_parent, &to));
        Ok(())
    }

    pub fn readdir(
        &self,
        node: NodeId,
        offset: u64,
        sink: &mut dyn FnMut(DirEntry<'_>) -> bool,
    ) -> Result<()> {
        let dir = self.dir(node)?;
        self.entries(&dir, node, offset, &mut |entry| sink(entry))
    }

    pub fn readdir_plus(
        &self,
        node: NodeId,
        offset: u64,
        sink: &mut dyn FnMut(DirEntry<'_>, &Attr) -> bool,
    ) -> Result<()> {
        let dir = self.dir(node)?;
        self.entries(&dir, node, offset, &mut |entry| {
            let Ok(name) = EntryName::new(entry.name) else {
                // `.` and `..`: the kernel takes no attributes of these.
                let attr = self.backing.stat_dir(&dir.dir).map(|stat| self.attr(&stat));
                return match attr {
                    Ok(Ok(attr)) => sink(entry, &attr),
                    _ => true,
                };
            };
            // Removed since it was listed.
            let Ok(stat) = self.backing.stat(&dir.dir, &name) else {
                return true;
            };
            let taken = self.attr(&stat).is_ok_and(|attr| sink(entry, &attr));
            if taken {
                let _ = self.remember(&stat, node, &name);
            }
            taken
        })
    }

    fn entries(
        &self,
        dir: &Dir<B>,
        node: NodeId,
        offset: u64,
        sink: &mut dyn FnMut(DirEntry<'_>) -> bool,
    ) -> Result<()> {
        let kept = dir.listing.lock().take();
        let mut listing = match kept {
            Some(listing) => listing,
            None => self.backing.list(&dir.dir)?,
        };
        let result = self.backing.next_entries(&mut listing, offset, &mut |raw| {
            let ino = if raw.name == b".." && node == NodeId::ROOT {
                NodeId::ROOT
            } else {
                self.node_id(raw.ino)
            };
            sink(DirEntry {
                name: raw.name,
                ino,
                kind: raw.kind.unwrap_or(Kind::File),
                next: raw.next,
            })
        });
        *dir.listing.lock() = Some(listing);
        Ok(result?)
    }

    pub fn fsync_dir(&self, node: NodeId) -> Result<()> {
        Ok(self.backing.sync_dir(&self.dir(node)?.dir)?)
    }
}

// Attributes.
impl<B: Backing> Volume<B> {
    pub fn getattr(&self, node: NodeId, handle: Option<HandleId>) -> Result<Attr> {
        self.attr(&self.with(node, handle, |at| self.stat_at(at))?)
    }

    pub fn setattr(
        &self,
        _: &Caller,
        node: NodeId,
        handle: Option<HandleId>,
        set: &SetAttr,
    ) -> Result<Attr> {
        let stat = self.with(node, handle, |at| {
            match (set.size, at) {
                (None, _) => {}
                (Some(size), At::File(file)) => self.backing.truncate(file, size)?,
                (Some(size), At::Entry(dir, name)) => {
                    let file = self.backing.open_file(dir, name, OpenFile::READ_WRITE)?;
                    self.backing.truncate(&file, size)?;
                }
                (Some(_), At::Dir(_)) => return Err(Errno::ISDIR.into()),
            }
            if set.uid.is_some() || set.gid.is_some() {
                self.backing.set_owner(at, set.uid, set.gid)?;
            }
            if let Some(mode) = set.mode {
                self.backing.set_mode(at, mode & 0o7777)?;
            }
            if (set.atime, set.mtime) != (SetTime::Omit, SetTime::Omit) {
                self.backing.set_times(at, set.atime, set.mtime)?;
            }
            self.stat_at(at)
        })?;
        self.attr(&stat)
    }

    pub fn statfs(&self) -> Result<StatFs> {
        Ok(self.backing.statfs()?)
    }

    pub fn get_xattr(&self, node: NodeId, name: &[u8]) -> Result<Vec<u8>> {
        self.with(node, None, |at| self.backing.get_xattr(at, name))?
            .ok_or(VolumeError::NoXattr)
    }

    pub fn set_xattr(
        &self,
        node: NodeId,
        name: &[u8],
        value: &[u8],
        mode: XattrMode,
    ) -> Result<()> {
        self.with(node, None, |at| {
            self.backing.set_xattr(at, name, value, mode)
        })
    }

    pub fn list_xattr(&self, node: NodeId) -> Result<Vec<Vec<u8>>> {
        self.with(node, None, |at| self.backing.list_xattr(at))
    }

    pub fn remove_xattr(&self, node: NodeId, name: &[u8]) -> Result<()> {
        self.with(node, None, |at| self.backing.remove_xattr(at, name))
    }
}

// Files.
impl<B: Backing> Volume<B> {
    pub fn create(
        &self,
        caller: &Caller,
        parent: NodeId,
        name: &[u8],
        mode: u32,
        umask: u32,
        _: OpenMode,
    ) -> Result<(Attr, HandleId)> {
        let (dir, name) = (self.dir(parent)?, EntryName::new(name)?);
        let file = self.backing.create_file(&dir.dir, &name, mode & !umask)?;
        self.give_to(caller, At::File(&file))?;
        let attr = self.remember(&self.backing.stat_file(&file)?, parent, &name)?;
        Ok((attr, self.add_file(attr.ino, file)))
    }

    pub fn open_file(&self, _: &Caller, node: NodeId, mode: OpenMode) -> Result<HandleId> {
        let (parent, name) = self.location(node).ok_or(VolumeError::Stale)?;
        let how = OpenFile {
            read: mode.read,
            write: mode.write || mode.truncate,
        };
        let file = self.backing.open_file(&self.dir(parent)?.dir, &name, how)?;
        if mode.truncate {
            self.backing.truncate(&file, 0)?;
        }
        Ok(self.add_file(node, file))
    }

    pub fn release(&self, handle: HandleId) -> Result<()> {
        let file = self.files.write().remove(&handle);
        file.map(drop).ok_or(VolumeError::BadHandle)
    }

    pub fn read(&self, handle: HandleId, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        let (file, buffers) = (self.file(handle)?, &mut [IoSliceMut::new(buffer)]);
        Ok(self.backing.read_at(&file.file, buffers, offset)?)
    }

    pub fn write(&self, handle: HandleId, offset: u64, data: &[u8], _kill: bool) -> Result<()> {
        let (file, buffers) = (self.file(handle)?, &mut [IoSlice::new(data)]);
        Ok(self.backing.write_at(&file.file, buffers, offset)?)
    }

    pub fn write_in_place(
        &self,
        handle: HandleId,
        offset: u64,
        data: &mut [u8],
        kill: bool,
    ) -> Result<()> {
        self.write(handle, offset, data, kill)
    }

    pub fn fsync(&self, handle: HandleId, data_only: bool) -> Result<()> {
        Ok(self
            .backing
            .sync_file(&self.file(handle)?.file, data_only)?)
    }

    pub fn fallocate(
        &self,
        handle: HandleId,
        mode: FallocateMode,
        offset: u64,
        len: u64,
    ) -> Result<()> {
        let what = match mode {
            FallocateMode::Allocate => Allocate::Reserve,
            FallocateMode::AllocateKeepSize => Allocate::ReserveKeepSize,
            FallocateMode::PunchHole => Allocate::Punch,
            FallocateMode::ZeroRange | FallocateMode::ZeroRangeKeepSize => {
                return Err(VolumeError::NotSupported("zeros in place of a range"));
            }
        };
        let file = self.file(handle)?;
        Ok(self.backing.allocate(&file.file, what, offset, len)?)
    }

    pub fn seek(&self, handle: HandleId, what: Seek, offset: u64) -> Result<u64> {
        let found = self.backing.seek(&self.file(handle)?.file, what, offset)?;
        found.ok_or(VolumeError::NoData)
    }
}
