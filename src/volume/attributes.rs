//! Attributes of nodes.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::Volume;
use super::error::{Result, VolumeError};
use super::keys::{OnBehalf, requester};
use super::types::{Attr, Caller, HandleId, NodeId, SetAttr};
use crate::backing::{At, Backing, Kind, SetTime, Stat, StatFs};

impl<B: Backing> Volume<B> {
    /// The attributes of a node.
    pub fn getattr(&self, node: NodeId, handle: Option<HandleId>) -> Result<Attr> {
        match self.with_node(node, handle, |at| self.attr(&self.stat_at(at)?, at)) {
            Err(VolumeError::Stale) => {
                let removed = self.nodes.get(node).and_then(|node| node.removed());
                self.attr(&removed.ok_or(VolumeError::Stale)?, At::Dir(&self.root.dir))
            }
            other => other,
        }
    }

    /// Whether blocks of an open file still go home from the journal: the room that it takes changes
    /// then, without a request.
    pub fn is_settling(&self, node: NodeId) -> bool {
        self.files
            .of_node(node)
            .is_some_and(|file| !file.overlay.is_empty())
    }

    fn stat_at(&self, at: At<'_, B>) -> Result<Stat> {
        Ok(match at {
            At::Entry(dir, name) => self.backing.stat(dir, name)?,
            At::Dir(dir) => self.backing.stat_dir(dir)?,
            At::File(file) => self.backing.stat_file(file)?,
        })
    }

    /// Changes attributes; the new ones.
    pub fn setattr(
        &self,
        caller: &Caller,
        node: NodeId,
        handle: Option<HandleId>,
        set: &SetAttr,
    ) -> Result<Attr> {
        self.check_writable()?;
        if let Some(size) = set.size {
            let _on_behalf = OnBehalf::of(requester(caller));
            self.set_size_of(caller, node, handle, size, set.mode.is_none())?;
        }
        self.with_node(node, handle, |at| {
            if set.uid.is_some() || set.gid.is_some() {
                self.backing.set_owner(at, set.uid, set.gid)?;
            }
            if let Some(mode) = set.mode {
                self.backing.set_mode(at, mode & 0o7777)?;
            }
            if (set.atime, set.mtime) != (SetTime::Omit, SetTime::Omit) {
                // A write-back keeps the times that it finds; the next write sets them again.
                let times = || self.backing.set_times(at, set.atime, set.mtime);
                match self.files.of_node(node) {
                    Some(file) => file.stamps.set(times, || self.set_modified_now(&file))?,
                    None => times()?,
                }
            }
            Ok(())
        })?;
        self.meta_changed(node);
        if set.mode.is_some() || set.uid.is_some() || set.gid.is_some() {
            self.inode_changed(node);
        }
        self.getattr(node, handle)
    }

    /// Something that is remembered of a node's mode, owner or ACL may be another now.
    pub(super) fn inode_changed(&self, node: NodeId) {
        if node == NodeId::ROOT {
            self.root.forget_inherit();
        } else if let Some(dir) = self.dirs.get(node) {
            dir.forget_inherit();
        }
        if let Some(file) = self.files.of_node(node) {
            file.privileges.changed();
            file.meta_dirty.store(true, Ordering::Release);
        }
    }

    /// Attributes or names of a node changed: an fsync of it has something to do.
    pub(super) fn meta_changed(&self, node: NodeId) {
        if let Some(file) = self.files.of_node(node) {
            file.meta_dirty.store(true, Ordering::Release);
        }
    }

    fn set_size_of(
        &self,
        caller: &Caller,
        node: NodeId,
        handle: Option<HandleId>,
        size: u64,
        kill: bool,
    ) -> Result<()> {
        let resize = |file: &Arc<super::open_file::OpenFile<B>>| {
            self.drop_privileges(file, kill && caller.uid != 0)?;
            let _room = self.room_for_step()?;
            let mut core = file.core.write();
            self.truncate_core(file, &mut core, size)
        };
        match handle {
            Some(handle) => {
                let handle = self.files.handle(handle)?;
                if !handle.mode.write {
                    return Err(VolumeError::BadHandle);
                }
                resize(&handle.file)
            }
            None => {
                let file = self.acquire(node, true)?;
                let result = resize(&file);
                self.done_with(&file);
                result
            }
        }
    }

    /// The space of the filesystem below.
    pub fn statfs(&self) -> Result<StatFs> {
        Ok(StatFs {
            name_max: 255,
            ..self.backing.statfs()?
        })
    }

    /// The type of a node that the kernel knows.
    pub(super) fn check_is_file(stat: &Stat) -> Result<()> {
        match stat.kind() {
            Some(Kind::File) => Ok(()),
            Some(Kind::Dir) => Err(VolumeError::IsDirectory),
            _ => Err(VolumeError::Invalid("not a regular file")),
        }
    }
}
