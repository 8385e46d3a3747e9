//! From a node to its place below, and from what is there to attributes.

use std::sync::Arc;

use super::Volume;
use super::dirs::{DirState, Inherit};
use super::error::{Result, VolumeError};
use super::types::{Attr, Caller, HandleId, NodeId};
use crate::backing::{At, Backing, EntryName, Kind, Stat};
use crate::content::Layout;
use crate::names::{DirId, NameMode, Stored};

/// The symlink in each directory whose target is the directory's id.
pub(super) const DIR_ID: EntryName = EntryName::literal(".envelopefs.dir");

/// A name as it is stored: the entry, and for a long name the sidecar that holds its full form.
pub(super) struct StoredName {
    pub(super) entry: EntryName,
    pub(super) sidecar: Option<(EntryName, Vec<u8>)>,
}

/// A node's place below.
#[expect(
    clippy::large_enum_variant,
    reason = "lives on the stack of one operation; a box would cost"
)]
pub(super) enum Place<B: Backing> {
    Root(Arc<DirState<B>>),
    Entry(Arc<DirState<B>>, EntryName),
}

impl<B: Backing> Place<B> {
    pub(super) fn at(&self) -> At<'_, B> {
        match self {
            Self::Root(dir) => At::Dir(&dir.dir),
            Self::Entry(dir, name) => At::Entry(&dir.dir, name),
        }
    }
}

impl<B: Backing> Volume<B> {
    /// The number users see for a lower inode. The root is 1; a lower inode 1 takes the root's.
    pub(super) fn node_id(&self, lower: u64) -> NodeId {
        if lower == self.root_ino {
            NodeId::ROOT
        } else if lower == NodeId::ROOT.0 {
            NodeId(self.root_ino)
        } else {
            NodeId(lower)
        }
    }

    /// The lower inode of a number that users see.
    pub(super) fn lower_ino(&self, node: NodeId) -> u64 {
        self.node_id(node.0).0
    }

    /// What the kernel gets to tell apart two inodes that had the same number: the birth time.
    fn generation_of(stat: &Stat) -> u64 {
        stat.btime
            .secs
            .cast_unsigned()
            .wrapping_mul(1_000_000_000)
            .wrapping_add(u64::from(stat.btime.nanos))
    }

    /// Attributes in plaintext terms, of what is at a place below.
    pub(super) fn attr(&self, stat: &Stat, at: At<'_, B>) -> Result<Attr> {
        let kind = stat
            .kind()
            .ok_or(VolumeError::NotSupported("an unknown type of inode"))?;
        let size = match kind {
            Kind::File => Layout::of_cipher_size(stat.size).map_or(0, Layout::size),
            Kind::Symlink => self.target_size(stat, at),
            _ => stat.size,
        };
        Ok(Attr {
            ino: self.node_id(stat.ino),
            generation: Self::generation_of(stat),
            kind,
            perm: stat.permissions() as u16,
            nlink: stat.nlink,
            uid: stat.uid,
            gid: stat.gid,
            rdev: stat.rdev,
            size,
            blocks: stat.blocks,
            blksize: stat.blksize,
            atime: stat.atime,
            mtime: stat.mtime,
            ctime: self.ctimes.shown(&self.backing, stat),
        })
    }

    /// Notes that the kernel gets a reference to what was found by a name.
    pub(super) fn remember(
        &self,
        stat: &Stat,
        dir: &DirState<B>,
        stored: &EntryName,
    ) -> Result<Attr> {
        let attr = self.attr(stat, At::Entry(&dir.dir, stored))?;
        self.nodes
            .remember(attr.ino, attr.kind, attr.generation, dir.node, stored);
        Ok(attr)
    }

    /// A directory's entry below, if it is on the cipher directory's own filesystem.
    pub(super) fn stat_entry(&self, dir: &DirState<B>, name: &EntryName) -> Result<Stat> {
        let stat = self.backing.stat(&dir.dir, name)?;
        if stat.dev != self.device {
            return Err(VolumeError::CrossDevice);
        }
        Ok(stat)
    }

    /// How a plaintext name is stored in a directory.
    pub(super) fn stored_name(&self, dir: &DirState<B>, name: &[u8]) -> Result<StoredName> {
        Ok(match self.names.encode(&dir.id, name)? {
            Stored::Short(entry) => StoredName {
                entry: EntryName::new(entry.as_bytes())?,
                sidecar: None,
            },
            Stored::Long {
                entry,
                sidecar,
                full,
            } => StoredName {
                entry: EntryName::new(entry.as_bytes())?,
                sidecar: Some((EntryName::new(sidecar.as_bytes())?, full)),
            },
        })
    }

    /// The open directory of a node.
    pub(super) fn dir(&self, node: NodeId) -> Result<Arc<DirState<B>>> {
        if node == NodeId::ROOT {
            return Ok(Arc::clone(&self.root));
        }
        if let Some(dir) = self.dirs.get(node) {
            return Ok(dir);
        }
        // From the nearest open ancestor down, without recursion: trees may be very deep.
        let mut way = Vec::new();
        let mut at = node;
        let mut dir = loop {
            let (parent, name) = self
                .nodes
                .get(at)
                .and_then(|node| node.location())
                .ok_or(VolumeError::Stale)?;
            way.push((at, name));
            if parent == NodeId::ROOT {
                break Arc::clone(&self.root);
            }
            if let Some(dir) = self.dirs.get(parent) {
                break dir;
            }
            at = parent;
        };
        for (node, name) in way.into_iter().rev() {
            let opened = self.open_dir(node, &dir, &name).map_err(Self::moved_away)?;
            dir = self.dirs.add(opened);
        }
        Ok(dir)
    }

    /// A known directory that isn't where it was: someone changed the cipher directory below. Stale
    /// makes the kernel look the path up anew; "not found" would be cached as the answer for a name
    /// *in* the directory.
    fn moved_away(error: VolumeError) -> VolumeError {
        match error {
            VolumeError::NotFound | VolumeError::NotDirectory => VolumeError::Stale,
            VolumeError::Io(error) if error.raw_os_error() == Some(libc::ELOOP) => {
                VolumeError::Stale
            }
            other => other,
        }
    }

    /// Opens a directory below and reads its id.
    pub(super) fn open_dir(
        &self,
        node: NodeId,
        parent: &DirState<B>,
        name: &EntryName,
    ) -> Result<DirState<B>> {
        let dir = self.backing.open_dir(&parent.dir, name)?;
        let id = self.read_dir_id(&dir, name)?;
        Ok(DirState::new(node, dir, id))
    }

    pub(super) fn read_dir_id(&self, dir: &B::Dir, name: &EntryName) -> Result<DirId> {
        if self.names.mode() == NameMode::Plain {
            return Ok(DirId::ROOT);
        }
        let text = self.backing.readlink(dir, &DIR_ID).map_err(|error| {
            VolumeError::damaged(format!("directory {name}"), format!("its id: {error}"))
        })?;
        DirId::from_text(&text)
            .map_err(|error| VolumeError::damaged(format!("directory {name}"), error))
    }

    /// Where a node is.
    pub(super) fn place(&self, node: NodeId) -> Result<Place<B>> {
        if node == NodeId::ROOT {
            return Ok(Place::Root(Arc::clone(&self.root)));
        }
        let (parent, name) = self
            .nodes
            .get(node)
            .and_then(|node| node.location())
            .ok_or(VolumeError::Stale)?;
        Ok(Place::Entry(self.dir(parent)?, name))
    }

    /// Does something with a node below: through its open file when there is one (the name may be
    /// gone), else by its name.
    pub(super) fn with_node<T>(
        &self,
        node: NodeId,
        handle: Option<HandleId>,
        work: impl FnOnce(At<'_, B>) -> Result<T>,
    ) -> Result<T> {
        let file = match handle {
            Some(handle) => Some(self.files.handle(handle)?.file),
            None => self.files.of_node(node),
        };
        match file {
            Some(file) => {
                // Not between the calls of a write: its size would be neither the old nor the new.
                let _core = file.core.read();
                work(At::File(file.file()))
            }
            None => work(self.place(node)?.at()),
        }
    }

    /// What new entries of a directory inherit.
    pub(super) fn inherit(&self, dir: &DirState<B>) -> Result<Inherit> {
        if let Some(known) = dir.inherit() {
            return Ok(known);
        }
        let mode = self.backing.stat_dir(&dir.dir)?.mode;
        let acl = match self
            .backing
            .get_xattr(At::Dir(&dir.dir), b"system.posix_acl_default")
        {
            Ok(acl) => acl.is_some_and(|acl| acl.len() > 4),
            Err(_) => false, // no ACLs on this filesystem
        };
        let inherit = Inherit {
            group: mode & 0o2000 != 0,
            acl,
        };
        dir.set_inherit(inherit);
        Ok(inherit)
    }

    /// The mode a new entry is made with: a default ACL takes the umask's place.
    pub(super) fn new_mode(inherit: Inherit, mode: u32, umask: u32) -> u32 {
        if inherit.acl {
            mode
        } else {
            mode & !(umask & 0o777)
        }
    }

    /// Gives a new entry to who made it. The bits that a change of owner clears are set again.
    pub(super) fn give_to(
        &self,
        caller: &Caller,
        inherit: Inherit,
        at: At<'_, B>,
        mode: Option<u32>,
    ) -> Result<()> {
        let uid = (caller.uid != self.process.0).then_some(caller.uid);
        let gid = (caller.gid != self.process.1 && !inherit.group).then_some(caller.gid);
        if uid.is_none() && gid.is_none() {
            return Ok(());
        }
        self.backing.set_owner(at, uid, gid)?;
        if let Some(mode) = mode.filter(|mode| mode & 0o6000 != 0) {
            self.backing.set_mode(at, mode & 0o7777)?;
        }
        Ok(())
    }

    /// Finds a name in a directory. The kernel gets a reference.
    ///
    /// # Errors
    /// [`VolumeError::NotFound`].
    pub fn lookup(&self, parent: NodeId, name: &[u8]) -> Result<Attr> {
        let dir = self.dir(parent)?;
        let stored = self.stored_name(&dir, name)?;
        let stat = self.stat_entry(&dir, &stored.entry)?;
        self.remember(&stat, &dir, &stored.entry)
    }

    /// The kernel gave up `count` references to a node.
    pub fn forget(&self, node: NodeId, count: u64) {
        if self.nodes.forget(node, count) {
            self.dirs.remove(node);
        }
    }
}
