//! What each request means, in terms of `volume`; the same for every transport.
//!
//! A transport decodes requests, calls one function here for each, and encodes what it gives.
//! Reading and writing happen in the transport's own buffers.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use super::caller::{keeps_set_id, without_foreign_set_gid, without_set_id};
use super::control::{self, Control};
use super::errno::Errno;
use super::options::{MountOptions, Overrides};
use super::panics::contain;
use crate::volume::{
    Attr, Backing, Caller, DirEntry, FallocateMode, HandleId, Kind, NodeId, OpenMode, Rename, Seek,
    SetAttr, SetTime, StatFs, Volume, XattrMode,
};

/// The greatest offset that a system call can name.
const GREATEST_OFFSET: u64 = i64::MAX as u64;
/// The most that one request copies, so that it doesn't keep a thread for seconds. The kernel (and
/// whoever calls copy_file_range) goes on with the rest.
const LARGEST_COPY: u64 = 64 << 20;

const ACCESS_ACL: &[u8] = b"system.posix_acl_access";
const DEFAULT_ACL: &[u8] = b"system.posix_acl_default";

/// Whether a mount is in use.
#[derive(Default)]
pub(super) struct Activity {
    touched: AtomicBool,
    open: Mutex<HashSet<u64>>,
    #[cfg(test)]
    requests: Mutex<std::collections::HashMap<&'static str, usize>>,
}

impl Activity {
    fn touch(&self) {
        // Read first: threads that only read share the cache line.
        if !self.touched.load(Ordering::Relaxed) {
            self.touched.store(true, Ordering::Relaxed);
        }
    }

    /// Whether there was a request since this was last asked.
    pub(super) fn take_touched(&self) -> bool {
        self.touched.swap(false, Ordering::Relaxed)
    }

    #[cfg(test)]
    fn count(&self, operation: &'static str) {
        *self.requests.lock().entry(operation).or_default() += 1;
    }

    /// How many requests of a kind there were.
    #[cfg(test)]
    pub(super) fn requests(&self, operation: &str) -> usize {
        self.requests.lock().get(operation).copied().unwrap_or(0)
    }

    /// Whether a file is open.
    pub(super) fn any_open(&self) -> bool {
        !self.open.lock().is_empty()
    }
}

/// An open file, as the kernel is told about it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Opened {
    pub(super) handle: HandleId,
    /// Go round the page cache (`O_DIRECT`).
    pub(super) direct: bool,
    /// What the page cache holds is still good.
    pub(super) keep_cache: bool,
    /// Opening changed attributes that the kernel may have and is not told of by the answer.
    pub(super) attr_changed: bool,
}

/// The answer to a request for an extended attribute, or for their names.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum XattrAnswer {
    /// Its length only, in bytes.
    Length(u32),
    /// Its bytes.
    Bytes(Vec<u8>),
}

impl XattrAnswer {
    /// `room`: what the caller's buffer takes; 0 asks for the length.
    fn new(bytes: Vec<u8>, room: u32) -> Result<Self, Errno> {
        let length = u32::try_from(bytes.len()).map_err(|_| Errno::RANGE)?;
        match room {
            0 => Ok(Self::Length(length)),
            room if length <= room => Ok(Self::Bytes(bytes)),
            _ => Err(Errno::RANGE),
        }
    }
}

/// The operations on one mounted volume.
pub(super) struct Ops<B: Backing> {
    volume: Arc<Volume<B>>,
    overrides: Overrides,
    shared: bool,
    lifetime: Duration,
    activity: Arc<Activity>,
    control: Option<Arc<dyn Control>>,
}

impl<B: Backing> Ops<B> {
    pub(super) fn new(
        volume: Arc<Volume<B>>,
        options: &MountOptions,
        activity: Arc<Activity>,
        control: Option<Arc<dyn Control>>,
    ) -> Self {
        Self {
            volume,
            overrides: Overrides::new(options),
            shared: options.shared,
            lifetime: options.lifetime(),
            activity,
            control,
        }
    }

    /// How long the kernel may remember a name or attributes.
    pub(super) fn lifetime(&self) -> Duration {
        self.lifetime
    }

    /// Whether the kernel may remember that a name is not there, and what a directory lists.
    pub(super) fn remembers(&self) -> bool {
        !self.shared
    }

    fn run<T>(
        &self,
        operation: &'static str,
        body: impl FnOnce() -> Result<T, Errno>,
    ) -> Result<T, Errno> {
        self.activity.touch();
        #[cfg(test)]
        self.activity.count(operation);
        contain(operation, body)
    }

    fn shown(&self, attr: Attr) -> Attr {
        self.overrides.apply(attr)
    }

    /// Gives up what the kernel still holds: answers to an unmount overtake the RELEASE of a file
    /// that was closed just before.
    pub(super) fn finish(&self) {
        let open: Vec<u64> = self.activity.open.lock().drain().collect();
        for handle in open {
            let _ = contain("release", || Ok(self.volume.release(HandleId(handle))?));
        }
    }

    // --- names ---------------------------------------------------------------------------

    /// None: there is no such name.
    pub(super) fn lookup(&self, parent: NodeId, name: &[u8]) -> Result<Option<Attr>, Errno> {
        self.run("lookup", || {
            match self.volume.lookup(parent, name).map_err(Errno::from) {
                Ok(attr) => Ok(Some(self.shown(attr))),
                Err(Errno::NOENT) => Ok(None),
                Err(error) => Err(error),
            }
        })
    }

    pub(super) fn forget(&self, node: NodeId, count: u64) {
        // The kernel forgets when it needs memory.
        let _ = contain("forget", || {
            self.volume.forget(node, count);
            Ok(())
        });
    }

    pub(super) fn mknod(
        &self,
        caller: &Caller,
        parent: NodeId,
        name: &[u8],
        mode: u32,
        umask: u32,
        rdev: u32,
    ) -> Result<Attr, Errno> {
        self.run("mknod", || {
            let attr = self
                .volume
                .mknod(caller, parent, name, mode, umask, u64::from(rdev))?;
            Ok(self.shown(attr))
        })
    }

    pub(super) fn mkdir(
        &self,
        caller: &Caller,
        parent: NodeId,
        name: &[u8],
        mode: u32,
        umask: u32,
    ) -> Result<Attr, Errno> {
        self.run("mkdir", || {
            Ok(self.shown(self.volume.mkdir(caller, parent, name, mode, umask)?))
        })
    }

    pub(super) fn symlink(
        &self,
        caller: &Caller,
        parent: NodeId,
        name: &[u8],
        target: &[u8],
    ) -> Result<Attr, Errno> {
        self.run("symlink", || {
            Ok(self.shown(self.volume.symlink(caller, parent, name, target)?))
        })
    }

    pub(super) fn link(
        &self,
        node: NodeId,
        new_parent: NodeId,
        new_name: &[u8],
    ) -> Result<Attr, Errno> {
        self.run("link", || {
            Ok(self.shown(self.volume.link(node, new_parent, new_name)?))
        })
    }

    pub(super) fn readlink(&self, node: NodeId) -> Result<Vec<u8>, Errno> {
        self.run("readlink", || Ok(self.volume.readlink(node)?))
    }

    pub(super) fn unlink(&self, parent: NodeId, name: &[u8]) -> Result<(), Errno> {
        self.run("unlink", || Ok(self.volume.unlink(parent, name)?))
    }

    pub(super) fn rmdir(&self, parent: NodeId, name: &[u8]) -> Result<(), Errno> {
        self.run("rmdir", || Ok(self.volume.rmdir(parent, name)?))
    }

    /// `flags` as in renameat2(2).
    pub(super) fn rename(
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
            Ok(self.volume.rename(from_parent, from, to_parent, to, how)?)
        })
    }

    /// `sink` answers false when there is no more room. An error after some entries were taken
    /// waits for the next call.
    pub(super) fn readdir(
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
    pub(super) fn readdir_plus(
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

    // --- attributes ----------------------------------------------------------------------

    pub(super) fn getattr(&self, node: NodeId, handle: Option<HandleId>) -> Result<Attr, Errno> {
        self.run("getattr", || {
            Ok(self.shown(self.volume.getattr(node, handle)?))
        })
    }

    pub(super) fn setattr(
        &self,
        caller: &Caller,
        node: NodeId,
        handle: Option<HandleId>,
        set: &SetAttr,
    ) -> Result<Attr, Errno> {
        self.run("setattr", || {
            if set.size.is_some_and(|size| size > GREATEST_OFFSET) {
                return Err(Errno::FBIG);
            }
            if changes_nothing(set) {
                return Ok(self.shown(self.drop_set_id(caller, node, handle)?));
            }
            let unprivileged = !keeps_set_id(caller);
            let gives_away = set.uid.is_some() || set.gid.is_some();
            // The group that counts is the one before.
            let group = if unprivileged && gives_away {
                Some(self.volume.getattr(node, handle)?.gid)
            } else {
                None
            };
            let attr = self.volume.setattr(caller, node, handle, set)?;
            let cuts = set.size.is_some();
            if set.mode.is_none() && unprivileged && (cuts || gives_away) {
                let gid = group.unwrap_or(attr.gid);
                return Ok(self.shown(self.set_perm(
                    caller,
                    node,
                    handle,
                    attr,
                    without_set_id(&attr, caller, gid),
                )?));
            }
            Ok(self.shown(attr))
        })
    }

    /// A SETATTR that sets nothing. The kernel sends it for chown(-1, -1), and before a write by
    /// somebody who may not keep a file's set-id bits: clearing them was left to the filesystem by
    /// `HANDLE_KILLPRIV_V2`, and the answer tells the kernel the new mode.
    ///
    /// A change to the owner that is there already clears the bits below as any chown does.
    fn drop_set_id(
        &self,
        caller: &Caller,
        node: NodeId,
        handle: Option<HandleId>,
    ) -> Result<Attr, Errno> {
        let before = self.volume.getattr(node, handle)?;
        let same_owner = SetAttr {
            uid: Some(before.uid),
            ..SetAttr::default()
        };
        let attr = match self.volume.setattr(caller, node, handle, &same_owner) {
            Ok(attr) => attr,
            // Not root, and the file is somebody else's: then the system below clears the bits
            // when the write comes.
            Err(error) if Errno::from(&error) == Errno::PERM => before,
            Err(error) => return Err(error.into()),
        };
        self.set_perm(
            caller,
            node,
            handle,
            attr,
            without_set_id(&attr, caller, before.gid),
        )
    }

    fn set_perm(
        &self,
        caller: &Caller,
        node: NodeId,
        handle: Option<HandleId>,
        attr: Attr,
        perm: u16,
    ) -> Result<Attr, Errno> {
        if perm == attr.perm {
            return Ok(attr);
        }
        let set = SetAttr {
            mode: Some(u32::from(perm)),
            ..SetAttr::default()
        };
        match self.volume.setattr(caller, node, handle, &set) {
            Err(error) if Errno::from(&error) == Errno::PERM => Ok(attr),
            result => Ok(result?),
        }
    }

    pub(super) fn statfs(&self) -> Result<StatFs, Errno> {
        // Whoever watches all filesystems must not keep this one from being idle.
        contain("statfs", || Ok(self.volume.statfs()?))
    }

    // --- extended attributes -------------------------------------------------------------

    pub(super) fn get_xattr(
        &self,
        node: NodeId,
        name: &[u8],
        room: u32,
    ) -> Result<XattrAnswer, Errno> {
        self.run("getxattr", || {
            let value = self.volume.get_xattr(node, name).map_err(|error| {
                match Errno::from(error) {
                    // No ACLs below: then there is none here. Any other answer to this question
                    // would fail every permission check.
                    Errno::OPNOTSUPP if name == ACCESS_ACL || name == DEFAULT_ACL => Errno::NODATA,
                    error => error,
                }
            })?;
            XattrAnswer::new(value, room)
        })
    }

    pub(super) fn list_xattr(&self, node: NodeId, room: u32) -> Result<XattrAnswer, Errno> {
        self.run("listxattr", || {
            let mut list = Vec::new();
            for name in self.volume.list_xattr(node)? {
                list.extend_from_slice(&name);
                list.push(0);
            }
            XattrAnswer::new(list, room)
        })
    }

    /// `flags` as in setxattr(2).
    pub(super) fn set_xattr(
        &self,
        caller: &Caller,
        node: NodeId,
        name: &[u8],
        value: &[u8],
        flags: i32,
    ) -> Result<(), Errno> {
        self.run("setxattr", || {
            let mode = match flags {
                0 => XattrMode::Any,
                libc::XATTR_CREATE => XattrMode::Create,
                libc::XATTR_REPLACE => XattrMode::Replace,
                _ => return Err(Errno::INVAL),
            };
            self.volume.set_xattr(node, name, value, mode)?;
            if name == ACCESS_ACL && !keeps_set_id(caller) {
                // The kernel would say so with SETXATTR_EXT, which can't be asked for.
                let attr = self.volume.getattr(node, None)?;
                let perm = without_foreign_set_gid(&attr, caller);
                self.set_perm(caller, node, None, attr, perm)?;
            }
            Ok(())
        })
    }

    pub(super) fn remove_xattr(&self, node: NodeId, name: &[u8]) -> Result<(), Errno> {
        self.run("removexattr", || {
            Ok(self.volume.remove_xattr(node, name)?)
        })
    }

    // --- files ---------------------------------------------------------------------------

    /// `flags` as in open(2).
    pub(super) fn open(&self, caller: &Caller, node: NodeId, flags: i32) -> Result<Opened, Errno> {
        self.run("open", || {
            let mode = open_mode(flags);
            let handle = self.volume.open_file(caller, node, mode)?;
            let mut opened = self.opened(handle, flags);
            if mode.truncate && !keeps_set_id(caller) {
                let attr = self.volume.getattr(node, Some(handle))?;
                let perm = without_set_id(&attr, caller, attr.gid);
                opened.attr_changed = perm != attr.perm;
                self.set_perm(caller, node, Some(handle), attr, perm)?;
            }
            Ok(opened)
        })
    }

    /// `flags` as in open(2).
    pub(super) fn create(
        &self,
        caller: &Caller,
        parent: NodeId,
        name: &[u8],
        mode: u32,
        umask: u32,
        flags: i32,
    ) -> Result<(Attr, Opened), Errno> {
        let created = self.run("create", || {
            let how = open_mode(flags);
            let (attr, handle) = self.volume.create(caller, parent, name, mode, umask, how)?;
            Ok((self.shown(attr), self.opened(handle, flags)))
        });
        // Somebody was faster, or the kernel didn't know of the name; without O_EXCL any file
        // will do.
        if created.as_ref().err() != Some(&Errno::EXIST) || flags & libc::O_EXCL != 0 {
            return created;
        }
        let attr = self.lookup(parent, name)?.ok_or(Errno::NOENT)?;
        if attr.kind != Kind::File {
            // The kernel looks again and opens what is there in its own way.
            self.forget(attr.ino, 1);
            return Err(Errno::STALE);
        }
        match self.open(caller, attr.ino, flags) {
            Ok(opened) => Ok((attr, opened)),
            Err(error) => {
                self.forget(attr.ino, 1);
                Err(error)
            }
        }
    }

    fn opened(&self, handle: HandleId, flags: i32) -> Opened {
        self.activity.open.lock().insert(handle.0);
        Opened {
            handle,
            direct: flags & libc::O_DIRECT != 0,
            keep_cache: !self.shared,
            attr_changed: false,
        }
    }

    pub(super) fn release(&self, handle: HandleId) -> Result<(), Errno> {
        self.activity.open.lock().remove(&handle.0);
        self.run("release", || Ok(self.volume.release(handle)?))
    }

    /// Fills `buffer` as far as the file goes; the number of bytes.
    pub(super) fn read(
        &self,
        handle: HandleId,
        offset: u64,
        buffer: &mut [u8],
    ) -> Result<usize, Errno> {
        self.run("read", || {
            if offset > GREATEST_OFFSET {
                return Err(Errno::INVAL);
            }
            Ok(self.volume.read(handle, offset, buffer)?)
        })
    }

    /// Writes all of `data`. `kill_set_id`: the caller may not keep the file's set-id bits.
    pub(super) fn write(
        &self,
        handle: HandleId,
        offset: u64,
        data: &[u8],
        kill_set_id: bool,
    ) -> Result<(), Errno> {
        self.run("write", || {
            check_range(offset, data.len() as u64)?;
            Ok(self.volume.write(handle, offset, data, kill_set_id)?)
        })
    }

    /// Nothing is left to do at close: writes have gone through, and the kernel reports the errors
    /// of mapped pages itself. It is told to stop asking.
    pub(super) fn flush(&self) -> Result<(), Errno> {
        self.run("flush", || Err(Errno::NOSYS))
    }

    /// Directories have no state when they are open. The kernel takes ENOSYS for this, and for
    /// "keep what a directory lists until it changes", which is not so when another process
    /// writes too.
    pub(super) fn open_dir(&self) -> Result<(), Errno> {
        self.run("opendir", || {
            if self.remembers() {
                Err(Errno::NOSYS)
            } else {
                Ok(())
            }
        })
    }

    pub(super) fn fsync(&self, handle: HandleId, data_only: bool) -> Result<(), Errno> {
        self.run("fsync", || Ok(self.volume.fsync(handle, data_only)?))
    }

    pub(super) fn fsync_dir(&self, node: NodeId) -> Result<(), Errno> {
        self.run("fsyncdir", || Ok(self.volume.fsync_dir(node)?))
    }

    /// `mode` as in fallocate(2).
    pub(super) fn fallocate(
        &self,
        handle: HandleId,
        mode: i32,
        offset: u64,
        len: u64,
    ) -> Result<(), Errno> {
        const PUNCH_HOLE: i32 = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
        const ZERO_KEEP_SIZE: i32 = libc::FALLOC_FL_ZERO_RANGE | libc::FALLOC_FL_KEEP_SIZE;
        self.run("fallocate", || {
            let mode = match mode {
                0 => FallocateMode::Allocate,
                libc::FALLOC_FL_KEEP_SIZE => FallocateMode::AllocateKeepSize,
                PUNCH_HOLE => FallocateMode::PunchHole,
                libc::FALLOC_FL_ZERO_RANGE => FallocateMode::ZeroRange,
                ZERO_KEEP_SIZE => FallocateMode::ZeroRangeKeepSize,
                _ => return Err(Errno::OPNOTSUPP),
            };
            if len == 0 {
                return Err(Errno::INVAL);
            }
            check_range(offset, len)?;
            Ok(self.volume.fallocate(handle, mode, offset, len)?)
        })
    }

    /// `whence`: `SEEK_DATA` or `SEEK_HOLE`; the kernel does the others itself.
    pub(super) fn seek(&self, handle: HandleId, offset: i64, whence: i32) -> Result<i64, Errno> {
        self.run("lseek", || {
            let what = match whence {
                libc::SEEK_DATA => Seek::Data,
                libc::SEEK_HOLE => Seek::Hole,
                _ => return Err(Errno::INVAL),
            };
            let offset = u64::try_from(offset).map_err(|_| Errno::NXIO)?;
            let found = self.volume.seek(handle, what, offset)?;
            i64::try_from(found).map_err(|_| Errno::FBIG)
        })
    }

    /// How many bytes were copied; fewer than asked for is no error.
    pub(super) fn copy_range(
        &self,
        from: (HandleId, u64),
        to: (HandleId, u64),
        len: u64,
    ) -> Result<u32, Errno> {
        self.run("copy_file_range", || {
            let len = len.min(LARGEST_COPY);
            check_range(from.1, len)?;
            check_range(to.1, len)?;
            let copied = self.volume.copy_range(from.0, from.1, to.0, to.1, len)?;
            u32::try_from(copied).map_err(|_| Errno::IO)
        })
    }

    // --- control -------------------------------------------------------------------------

    /// A control call, or ENOTTY for any other ioctl.
    pub(super) fn ioctl(
        &self,
        caller: &Caller,
        command: u32,
        input: &[u8],
    ) -> Result<Vec<u8>, Errno> {
        // Whoever watches the status of a mount must not keep it from being idle.
        contain("ioctl", || {
            control::answer(self.control.as_deref(), caller.uid, command, input)
        })
    }
}

fn changes_nothing(set: &SetAttr) -> bool {
    set.mode.is_none()
        && set.uid.is_none()
        && set.gid.is_none()
        && set.size.is_none()
        && matches!(set.atime, SetTime::Omit)
        && matches!(set.mtime, SetTime::Omit)
}

fn open_mode(flags: i32) -> OpenMode {
    let access = flags & libc::O_ACCMODE;
    OpenMode {
        read: access != libc::O_WRONLY,
        write: access == libc::O_WRONLY || access == libc::O_RDWR,
        truncate: flags & libc::O_TRUNC != 0,
    }
}

fn check_range(offset: u64, len: u64) -> Result<(), Errno> {
    match offset.checked_add(len) {
        Some(end) if end <= GREATEST_OFFSET => Ok(()),
        _ => Err(Errno::FBIG),
    }
}
