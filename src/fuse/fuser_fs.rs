//! The transport over `/dev/fuse`: what `fuser` decodes goes to [`Ops`], and back.
//!
//! Each function answers its request in every case: [`Ops`] turns panics into EIO.

use std::cell::RefCell;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::SystemTime;

use fuser::{
    AccessFlags, BsdFileFlags, CopyFileRangeFlags, FileHandle, Filesystem, FopenFlags, Generation,
    INodeNo, IoctlFlags, KernelConfig, LockOwner, OpenFlags, PollEvents, PollFlags, PollNotifier,
    RenameFlags, ReplyAttr, ReplyBmap, ReplyCreate, ReplyData, ReplyDirectory, ReplyDirectoryPlus,
    ReplyEmpty, ReplyEntry, ReplyIoctl, ReplyLock, ReplyLseek, ReplyOpen, ReplyPoll, ReplyStatfs,
    ReplyWrite, ReplyXattr, Request, TimeOrNow, WriteFlags,
};

use super::convert::{caller, file_attr, file_type, no_entry, node, set_time};
use super::errno::Errno;
use super::ops::{LONGEST_NAME, Opened, Ops, XattrAnswer};
use super::options::{self, MountOptions};
use super::transport::EndSignal;
use crate::volume::{Attr, Backing, HandleId, SetAttr};

thread_local! {
    /// What a read is answered from; grows to the largest request, then stays.
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// `fuser`'s view of a mounted volume.
pub(super) struct FuserFs<B: Backing> {
    ops: Ops<B>,
    options: MountOptions,
    /// Dropped last: whoever waits for the end finds the volume free.
    _end: EndSignal,
}

impl<B: Backing> FuserFs<B> {
    pub(super) fn new(ops: Ops<B>, options: MountOptions, end: EndSignal) -> Self {
        Self {
            ops,
            options,
            _end: end,
        }
    }

    fn entry(&self, reply: ReplyEntry, result: Result<Attr, Errno>) {
        match result {
            Ok(attr) => reply.entry(
                &self.ops.lifetime(),
                &file_attr(&attr),
                Generation(attr.generation),
            ),
            Err(error) => reply.error(errno(error)),
        }
    }

    fn attr(&self, reply: ReplyAttr, result: Result<Attr, Errno>) {
        match result {
            Ok(attr) => reply.attr(&self.ops.lifetime_of(&attr), &file_attr(&attr)),
            Err(error) => reply.error(errno(error)),
        }
    }
}

fn errno(error: Errno) -> fuser::Errno {
    fuser::Errno::from_i32(error.code())
}

fn empty(reply: ReplyEmpty, result: Result<(), Errno>) {
    match result {
        Ok(()) => reply.ok(),
        Err(error) => reply.error(errno(error)),
    }
}

fn xattr(reply: ReplyXattr, result: Result<XattrAnswer, Errno>) {
    match result {
        Ok(XattrAnswer::Length(length)) => reply.size(length),
        Ok(XattrAnswer::Bytes(bytes)) => reply.data(&bytes),
        Err(error) => reply.error(errno(error)),
    }
}

fn handle(file: FileHandle) -> HandleId {
    HandleId(file.0)
}

fn open_flags(opened: Opened) -> FopenFlags {
    let mut flags = FopenFlags::empty();
    if opened.direct {
        flags |= FopenFlags::FOPEN_DIRECT_IO;
    }
    if opened.keep_cache {
        flags |= FopenFlags::FOPEN_KEEP_CACHE;
    }
    flags
}

impl<B: Backing> Filesystem for FuserFs<B> {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> io::Result<()> {
        options::negotiate(&self.options, config);
        Ok(())
    }

    fn destroy(&mut self) {
        self.ops.finish();
    }

    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        match self.ops.lookup(node(parent), name.as_bytes()) {
            Ok(None) if self.ops.remembers() => {
                reply.entry(&self.ops.lifetime(), &no_entry(), Generation(0));
            }
            Ok(found) => self.entry(reply, found.ok_or(Errno::NOENT)),
            Err(error) => reply.error(errno(error)),
        }
    }

    fn forget(&self, _: &Request, ino: INodeNo, count: u64) {
        self.ops.forget(node(ino), count);
    }

    fn getattr(&self, _: &Request, ino: INodeNo, file: Option<FileHandle>, reply: ReplyAttr) {
        self.attr(reply, self.ops.getattr(node(ino), file.map(handle)));
    }

    fn access(&self, _: &Request, ino: INodeNo, mask: AccessFlags, reply: ReplyEmpty) {
        empty(reply, self.ops.access(node(ino), mask.bits()));
    }

    fn setattr(
        &self,
        request: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        atime: Option<TimeOrNow>,
        mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        file: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let set = SetAttr {
            mode,
            uid,
            gid,
            size,
            atime: set_time(atime),
            mtime: set_time(mtime),
        };
        let result = self
            .ops
            .setattr(&caller(request), node(ino), file.map(handle), &set);
        self.attr(reply, result);
    }

    fn readlink(&self, _: &Request, ino: INodeNo, reply: ReplyData) {
        match self.ops.readlink(node(ino)) {
            Ok(target) => reply.data(&target),
            Err(error) => reply.error(errno(error)),
        }
    }

    fn mknod(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        rdev: u32,
        reply: ReplyEntry,
    ) {
        let who = caller(request);
        self.entry(
            reply,
            self.ops
                .mknod(&who, node(parent), name.as_bytes(), mode, umask, rdev),
        );
    }

    fn mkdir(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        reply: ReplyEntry,
    ) {
        let who = caller(request);
        self.entry(
            reply,
            self.ops
                .mkdir(&who, node(parent), name.as_bytes(), mode, umask),
        );
    }

    fn unlink(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        empty(reply, self.ops.unlink(node(parent), name.as_bytes()));
    }

    fn rmdir(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        empty(reply, self.ops.rmdir(node(parent), name.as_bytes()));
    }

    fn symlink(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        target: &Path,
        reply: ReplyEntry,
    ) {
        let target = target.as_os_str().as_bytes();
        self.entry(
            reply,
            self.ops
                .symlink(&caller(request), node(parent), name.as_bytes(), target),
        );
    }

    fn rename(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        new_parent: INodeNo,
        new_name: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let (from, to) = (name.as_bytes(), new_name.as_bytes());
        let result = self
            .ops
            .rename(node(parent), from, node(new_parent), to, flags.bits());
        empty(reply, result);
    }

    fn link(
        &self,
        _: &Request,
        ino: INodeNo,
        new_parent: INodeNo,
        new_name: &OsStr,
        reply: ReplyEntry,
    ) {
        self.entry(
            reply,
            self.ops
                .link(node(ino), node(new_parent), new_name.as_bytes()),
        );
    }

    fn open(&self, request: &Request, ino: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        match self.ops.open(&caller(request), node(ino), flags.0) {
            Ok(opened) => reply.opened(FileHandle(opened.handle.0), open_flags(opened)),
            Err(error) => reply.error(errno(error)),
        }
    }

    fn read(
        &self,
        _: &Request,
        _ino: INodeNo,
        file: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        BUFFER.with_borrow_mut(|buffer| {
            let size = size as usize;
            if buffer.len() < size {
                buffer.resize(size, 0);
            }
            let buffer = &mut buffer[..size];
            match self.ops.read(handle(file), offset, buffer) {
                Ok(count) => reply.data(&buffer[..count.min(size)]),
                Err(error) => reply.error(errno(error)),
            }
        });
    }

    fn write(
        &self,
        _: &Request,
        _ino: INodeNo,
        file: FileHandle,
        offset: u64,
        data: &[u8],
        write_flags: WriteFlags,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let kill = write_flags.contains(WriteFlags::FUSE_WRITE_KILL_SUIDGID);
        match self.ops.write(handle(file), offset, data, kill) {
            // A request is far below 4 GiB.
            Ok(()) => reply.written(data.len() as u32),
            Err(error) => reply.error(errno(error)),
        }
    }

    fn flush(
        &self,
        _: &Request,
        _ino: INodeNo,
        _file: FileHandle,
        _lock_owner: LockOwner,
        reply: ReplyEmpty,
    ) {
        empty(reply, self.ops.flush());
    }

    fn release(
        &self,
        _: &Request,
        _ino: INodeNo,
        file: FileHandle,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        empty(reply, self.ops.release(handle(file)));
    }

    fn fsync(
        &self,
        _: &Request,
        _ino: INodeNo,
        file: FileHandle,
        data_only: bool,
        reply: ReplyEmpty,
    ) {
        empty(reply, self.ops.fsync(handle(file), data_only));
    }

    fn opendir(&self, _: &Request, _ino: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        match self.ops.open_dir() {
            Ok(()) => reply.opened(FileHandle(0), FopenFlags::empty()),
            Err(error) => reply.error(errno(error)),
        }
    }

    fn readdir(
        &self,
        _: &Request,
        ino: INodeNo,
        _file: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        let result = self.ops.readdir(node(ino), offset, &mut |entry| {
            let (kind, name) = (file_type(entry.kind), OsStr::from_bytes(entry.name));
            !reply.add(INodeNo(entry.ino.0), entry.next, kind, name)
        });
        match result {
            Ok(()) => reply.ok(),
            Err(error) => reply.error(errno(error)),
        }
    }

    fn readdirplus(
        &self,
        _: &Request,
        ino: INodeNo,
        _file: FileHandle,
        offset: u64,
        mut reply: ReplyDirectoryPlus,
    ) {
        let lifetime = self.ops.lifetime();
        let result = self
            .ops
            .readdir_plus(node(ino), offset, &mut |entry, attr| {
                let name = OsStr::from_bytes(entry.name);
                let generation = Generation(attr.generation);
                let ino = INodeNo(entry.ino.0);
                !reply.add(
                    ino,
                    entry.next,
                    name,
                    &lifetime,
                    &file_attr(attr),
                    generation,
                )
            });
        match result {
            Ok(()) => reply.ok(),
            Err(error) => reply.error(errno(error)),
        }
    }

    fn fsyncdir(
        &self,
        _: &Request,
        ino: INodeNo,
        _file: FileHandle,
        _data_only: bool,
        reply: ReplyEmpty,
    ) {
        empty(reply, self.ops.fsync_dir(node(ino)));
    }

    fn statfs(&self, _: &Request, _ino: INodeNo, reply: ReplyStatfs) {
        match self.ops.statfs() {
            Ok(s) => {
                let size = u32::try_from(s.block_size).unwrap_or(4096);
                reply.statfs(
                    s.blocks,
                    s.blocks_free,
                    s.blocks_available,
                    s.files,
                    s.files_free,
                    size,
                    LONGEST_NAME,
                    size,
                );
            }
            Err(error) => reply.error(errno(error)),
        }
    }

    fn setxattr(
        &self,
        request: &Request,
        ino: INodeNo,
        name: &OsStr,
        value: &[u8],
        flags: i32,
        _position: u32,
        reply: ReplyEmpty,
    ) {
        let who = caller(request);
        empty(
            reply,
            self.ops
                .set_xattr(&who, node(ino), name.as_bytes(), value, flags),
        );
    }

    fn getxattr(&self, _: &Request, ino: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        xattr(reply, self.ops.get_xattr(node(ino), name.as_bytes(), size));
    }

    fn listxattr(&self, req: &Request, ino: INodeNo, size: u32, reply: ReplyXattr) {
        xattr(reply, self.ops.list_xattr(&caller(req), node(ino), size));
    }

    fn removexattr(&self, _: &Request, ino: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        empty(reply, self.ops.remove_xattr(node(ino), name.as_bytes()));
    }

    fn create(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        flags: i32,
        reply: ReplyCreate,
    ) {
        let who = caller(request);
        match self
            .ops
            .create(&who, node(parent), name.as_bytes(), mode, umask, flags)
        {
            Ok((attr, opened)) => reply.created(
                &self.ops.lifetime(),
                &file_attr(&attr),
                Generation(attr.generation),
                FileHandle(opened.handle.0),
                open_flags(opened),
            ),
            Err(error) => reply.error(errno(error)),
        }
    }

    fn ioctl(
        &self,
        request: &Request,
        _ino: INodeNo,
        _file: FileHandle,
        _flags: IoctlFlags,
        command: u32,
        input: &[u8],
        out_size: u32,
        reply: ReplyIoctl,
    ) {
        match self.ops.ioctl(&caller(request), command, input, out_size) {
            Ok(answer) => reply.ioctl(0, &answer),
            Err(error) => reply.error(errno(error)),
        }
    }

    fn fallocate(
        &self,
        _: &Request,
        _ino: INodeNo,
        file: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        empty(
            reply,
            self.ops.fallocate(handle(file), mode, offset, length),
        );
    }

    fn lseek(
        &self,
        _: &Request,
        _ino: INodeNo,
        file: FileHandle,
        offset: i64,
        whence: i32,
        reply: ReplyLseek,
    ) {
        match self.ops.seek(handle(file), offset, whence) {
            Ok(offset) => reply.offset(offset),
            Err(error) => reply.error(errno(error)),
        }
    }

    fn copy_file_range(
        &self,
        _: &Request,
        _from_ino: INodeNo,
        from: FileHandle,
        from_offset: u64,
        _to_ino: INodeNo,
        to: FileHandle,
        to_offset: u64,
        len: u64,
        _flags: CopyFileRangeFlags,
        reply: ReplyWrite,
    ) {
        let (from, to) = ((handle(from), from_offset), (handle(to), to_offset));
        match self.ops.copy_range(from, to, len) {
            Ok(count) => reply.written(count),
            Err(error) => reply.error(errno(error)),
        }
    }

    // What the kernel does by itself once it is told that nobody else does.

    fn bmap(&self, _: &Request, _: INodeNo, _: u32, _: u64, reply: ReplyBmap) {
        reply.error(errno(Errno::NOSYS));
    }

    fn poll(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        _: PollNotifier,
        _: PollEvents,
        _: PollFlags,
        reply: ReplyPoll,
    ) {
        reply.error(errno(Errno::NOSYS));
    }

    fn getlk(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        _: LockOwner,
        _start: u64,
        _end: u64,
        _kind: i32,
        _pid: u32,
        reply: ReplyLock,
    ) {
        reply.error(errno(Errno::NOSYS));
    }

    fn setlk(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        _: LockOwner,
        _start: u64,
        _end: u64,
        _kind: i32,
        _pid: u32,
        _sleep: bool,
        reply: ReplyEmpty,
    ) {
        reply.error(errno(Errno::NOSYS));
    }
}
