//! Operations on names and directories.

use super::{Errno, Ops, contain};
use crate::volume::{Attr, Backing, Caller, DirEntry, NodeId, Rename};

impl<B: Backing> Ops<B> {
    /// None: there is no such name.
    pub(in crate::fuse) fn lookup(
        &self,
        parent: NodeId,
        name: &[u8],
    ) -> Result<Option<Attr>, Errno> {
        self.run("lookup", || {
            match self.volume.lookup(parent, name).map_err(Errno::from) {
                Ok(attr) => Ok(Some(self.shown(attr))),
                Err(Errno::NOENT) => Ok(None),
                Err(error) => Err(error),
            }
        })
    }

    pub(in crate::fuse) fn forget(&self, node: NodeId, count: u64) {
        // The kernel forgets when it needs memory.
        let _ = contain("forget", || {
            self.volume.forget(node, count);
            Ok(())
        });
    }

    pub(in crate::fuse) fn mknod(
        &self,
        caller: &Caller,
        parent: NodeId,
        name: &[u8],
        mode: u32,
        umask: u32,
        rdev: u32,
    ) -> Result<Attr, Errno> {
        self.run_in_room("mknod", || {
            let attr = self
                .volume
                .mknod(caller, parent, name, mode, umask, u64::from(rdev))?;
            Ok(self.shown(attr))
        })
    }

    pub(in crate::fuse) fn mkdir(
        &self,
        caller: &Caller,
        parent: NodeId,
        name: &[u8],
        mode: u32,
        umask: u32,
    ) -> Result<Attr, Errno> {
        self.run_in_room("mkdir", || {
            Ok(self.shown(self.volume.mkdir(caller, parent, name, mode, umask)?))
        })
    }

    pub(in crate::fuse) fn symlink(
        &self,
        caller: &Caller,
        parent: NodeId,
        name: &[u8],
        target: &[u8],
    ) -> Result<Attr, Errno> {
        self.run_in_room("symlink", || {
            Ok(self.shown(self.volume.symlink(caller, parent, name, target)?))
        })
    }

    pub(in crate::fuse) fn link(
        &self,
        node: NodeId,
        new_parent: NodeId,
        new_name: &[u8],
    ) -> Result<Attr, Errno> {
        self.run_in_room("link", || {
            Ok(self.shown(self.volume.link(node, new_parent, new_name)?))
        })
    }

    pub(in crate::fuse) fn readlink(&self, node: NodeId) -> Result<Vec<u8>, Errno> {
        self.run("readlink", || Ok(self.volume.readlink(node)?))
    }

    pub(in crate::fuse) fn unlink(&self, parent: NodeId, name: &[u8]) -> Result<(), Errno> {
        self.run("unlink", || {
            self.volume.unlink(parent, name)?;
            self.removals.note();
            Ok(())
        })
    }

    pub(in crate::fuse) fn rmdir(&self, parent: NodeId, name: &[u8]) -> Result<(), Errno> {
        self.run("rmdir", || Ok(self.volume.rmdir(parent, name)?))
    }

    /// `flags` as in renameat2(2).
    pub(in crate::fuse) fn rename(
        &self,
        from_parent: NodeId,
        from: &[u8],
        to_parent: NodeId,
        to: &[u8],
        flags: u32,
    ) -> Result<(), Errno> {
        self.run("rename", || {
            let how = match flags {
                0 => Rename::Plain,
                libc::RENAME_NOREPLACE => Rename::NoReplace,
                libc::RENAME_EXCHANGE => Rename::Exchange,
                _ => return Err(Errno::INVAL),
            };
            self.volume.rename(from_parent, from, to_parent, to, how)?;
            // It may have replaced a file.
            self.removals.note();
            Ok(())
        })
    }

    /// Directories have no state when they are open. The kernel takes ENOSYS for this, and for
    /// "keep what a directory lists until it changes", which is not so when another process
    /// writes too.
    pub(in crate::fuse) fn open_dir(&self) -> Result<(), Errno> {
        self.run("opendir", || {
            if self.remembers() {
                Err(Errno::NOSYS)
            } else {
                Ok(())
            }
        })
    }

    /// `sink` answers false when there is no more room. An error after some entries were taken
    /// waits for the next call.
    pub(in crate::fuse) fn readdir(
        &self,
        node: NodeId,
        offset: u64,
        sink: &mut dyn FnMut(DirEntry<'_>) -> bool,
    ) -> Result<(), Errno> {
        let mut taken = 0usize;
        let result = self.run("readdir", || {
            Ok(self.volume.readdir(node, offset, &mut |entry| {
                let went_in = sink(entry);
                taken += usize::from(went_in);
                went_in
            })?)
        });
        if taken > 0 { Ok(()) } else { result }
    }

    /// As [`Self::readdir`]; each entry taken, `.` and `..` aside, counts as looked up.
    pub(in crate::fuse) fn readdir_plus(
        &self,
        node: NodeId,
        offset: u64,
        sink: &mut dyn FnMut(DirEntry<'_>, &Attr) -> bool,
    ) -> Result<(), Errno> {
        let mut taken = 0usize;
        let result = self.run("readdirplus", || {
            Ok(self.volume.readdir_plus(node, offset, &mut |entry, attr| {
                let went_in = sink(entry, &self.shown(*attr));
                taken += usize::from(went_in);
                went_in
            })?)
        });
        if taken > 0 { Ok(()) } else { result }
    }

    pub(in crate::fuse) fn fsync_dir(&self, node: NodeId) -> Result<(), Errno> {
        self.run("fsyncdir", || Ok(self.volume.fsync_dir(node)?))
    }
}
