//! The kernel's side of the protocol: numbers and structures of `include/uapi/linux/fuse.h` (7.42),
//! and nothing of what they mean. All values are in the machine's own byte order.

use std::time::Duration;

use crate::volume::{Attr, Caller, DirEntry, Kind, StatFs, Time};

/// What a request asks for.
pub(super) mod opcode {
    pub(in super::super) const LOOKUP: u32 = 1;
    pub(in super::super) const FORGET: u32 = 2;
    pub(in super::super) const GETATTR: u32 = 3;
    pub(in super::super) const SETATTR: u32 = 4;
    pub(in super::super) const READLINK: u32 = 5;
    pub(in super::super) const SYMLINK: u32 = 6;
    pub(in super::super) const MKNOD: u32 = 8;
    pub(in super::super) const MKDIR: u32 = 9;
    pub(in super::super) const UNLINK: u32 = 10;
    pub(in super::super) const RMDIR: u32 = 11;
    pub(in super::super) const RENAME: u32 = 12;
    pub(in super::super) const LINK: u32 = 13;
    pub(in super::super) const OPEN: u32 = 14;
    pub(in super::super) const READ: u32 = 15;
    pub(in super::super) const WRITE: u32 = 16;
    pub(in super::super) const STATFS: u32 = 17;
    pub(in super::super) const RELEASE: u32 = 18;
    pub(in super::super) const FSYNC: u32 = 20;
    pub(in super::super) const SETXATTR: u32 = 21;
    pub(in super::super) const GETXATTR: u32 = 22;
    pub(in super::super) const LISTXATTR: u32 = 23;
    pub(in super::super) const REMOVEXATTR: u32 = 24;
    pub(in super::super) const FLUSH: u32 = 25;
    pub(in super::super) const INIT: u32 = 26;
    pub(in super::super) const OPENDIR: u32 = 27;
    pub(in super::super) const READDIR: u32 = 28;
    pub(in super::super) const RELEASEDIR: u32 = 29;
    pub(in super::super) const FSYNCDIR: u32 = 30;
    pub(in super::super) const ACCESS: u32 = 34;
    pub(in super::super) const CREATE: u32 = 35;
    pub(in super::super) const INTERRUPT: u32 = 36;
    pub(in super::super) const IOCTL: u32 = 39;
    pub(in super::super) const BATCH_FORGET: u32 = 42;
    pub(in super::super) const FALLOCATE: u32 = 43;
    pub(in super::super) const READDIRPLUS: u32 = 44;
    pub(in super::super) const RENAME2: u32 = 45;
    pub(in super::super) const LSEEK: u32 = 46;
    pub(in super::super) const COPY_FILE_RANGE: u32 = 47;
    pub(in super::super) const COPY_FILE_RANGE_64: u32 = 53;
}

/// `FATTR_*`: which fields of a SETATTR count.
pub(super) mod fattr {
    pub(in super::super) const MODE: u32 = 1 << 0;
    pub(in super::super) const UID: u32 = 1 << 1;
    pub(in super::super) const GID: u32 = 1 << 2;
    pub(in super::super) const SIZE: u32 = 1 << 3;
    pub(in super::super) const ATIME: u32 = 1 << 4;
    pub(in super::super) const MTIME: u32 = 1 << 5;
    pub(in super::super) const FH: u32 = 1 << 6;
    pub(in super::super) const ATIME_NOW: u32 = 1 << 7;
    pub(in super::super) const MTIME_NOW: u32 = 1 << 8;
}

/// A GETATTR names an open file.
pub(super) const GETATTR_FH: u32 = 1;
/// An FSYNC leaves the attributes alone.
pub(super) const FSYNC_FDATASYNC: u32 = 1;
/// The writer may not keep set-id bits.
pub(super) const WRITE_KILL_SUIDGID: u32 = 1 << 2;
/// The page cache is gone round.
pub(super) const FOPEN_DIRECT_IO: u32 = 1 << 0;
/// What the page cache holds is still good.
pub(super) const FOPEN_KEEP_CACHE: u32 = 1 << 1;

/// There is a second word of INIT flags.
const INIT_EXT: u64 = 1 << 30;
/// Requests may go over io_uring.
pub(super) const OVER_IO_URING: u64 = 1 << 41;

/// The version that is spoken here.
const MAJOR: u32 = 7;
const MINOR: u32 = 42;

/// The least that a buffer for requests takes, in bytes.
pub(super) const LEAST_BUFFER: usize = 8192;
/// What stands before the data of a WRITE: the longest head that a request on `/dev/fuse` has.
pub(super) const LONGEST_HEAD: usize = InHeader::SIZE + 40;

/// `struct fuse_uring_req_header`: where things are in the header of a ring's entry.
pub(super) mod entry {
    /// Bytes in all.
    pub(in super::super) const SIZE: usize = 288;
    /// The request's head, later the answer's; and where the operation's own arguments begin.
    pub(in super::super) const OP_IN: usize = 128;
    /// ... and end.
    pub(in super::super) const OP_IN_END: usize = 256;
    /// What to give back with the answer (u64).
    pub(in super::super) const COMMIT_ID: usize = 264;
    /// How much of the payload is used (u32).
    pub(in super::super) const PAYLOAD_SIZE: usize = 272;
}

/// `enum fuse_uring_cmd`: a buffer is there, a request may come.
pub(super) const CMD_REGISTER: u32 = 1;
/// The answer is in the buffer, the next request may come.
pub(super) const CMD_COMMIT_AND_FETCH: u32 = 2;

/// `struct fuse_uring_cmd_req`, in the 80 bytes that an SQE has for it.
pub(super) fn command(queue: u16, commit_id: u64) -> [u8; 80] {
    let mut bytes = [0; 80];
    let mut out = Out::new(&mut bytes);
    out.u64(0);
    out.u64(commit_id);
    out.bytes(&queue.to_ne_bytes());
    bytes
}

/// A request's bytes, taken from the front. Each step gives None when there are too few.
pub(super) struct Fields<'a>(pub(super) &'a [u8]);

impl<'a> Fields<'a> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (first, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*first)
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_ne_bytes)
    }

    pub(super) fn i32(&mut self) -> Option<i32> {
        self.take().map(i32::from_ne_bytes)
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_ne_bytes)
    }

    pub(super) fn i64(&mut self) -> Option<i64> {
        self.take().map(i64::from_ne_bytes)
    }

    /// Text up to a NUL.
    pub(super) fn text(&mut self) -> Option<&'a [u8]> {
        let end = self.0.iter().position(|byte| *byte == 0)?;
        let (text, rest) = self.0.split_at(end);
        self.0 = &rest[1..];
        Some(text)
    }

    pub(super) fn bytes(&mut self, len: usize) -> Option<&'a [u8]> {
        let (bytes, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(bytes)
    }
}

/// `struct fuse_in_header`.
#[derive(Clone, Copy, Debug)]
pub(super) struct InHeader {
    pub(super) opcode: u32,
    pub(super) unique: u64,
    pub(super) node: u64,
    pub(super) caller: Caller,
}

impl InHeader {
    pub(super) const SIZE: usize = 40;

    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let mut fields = Fields(bytes);
        let _len = fields.u32()?;
        let (opcode, unique, node) = (fields.u32()?, fields.u64()?, fields.u64()?);
        let caller = Caller {
            uid: fields.u32()?,
            gid: fields.u32()?,
            pid: fields.u32()?,
        };
        Some(Self {
            opcode,
            unique,
            node,
            caller,
        })
    }
}

/// `struct fuse_init_in`, as far as it matters.
#[derive(Clone, Copy, Debug)]
pub(super) struct InitIn {
    pub(super) major: u32,
    pub(super) max_readahead: u32,
    pub(super) flags: u64,
}

impl InitIn {
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let mut fields = Fields(bytes);
        let (major, _minor) = (fields.u32()?, fields.u32()?);
        let (max_readahead, low) = (fields.u32()?, fields.u32()?);
        let low = u64::from(low);
        let high = if low & INIT_EXT == 0 {
            0
        } else {
            u64::from(fields.u32()?)
        };
        Some(Self {
            major,
            max_readahead,
            flags: low | high << 32,
        })
    }

    pub(super) fn is_our_version(&self) -> bool {
        self.major == MAJOR
    }
}

/// `struct fuse_init_out`.
#[derive(Clone, Copy, Debug)]
pub(super) struct InitOut {
    pub(super) max_readahead: u32,
    pub(super) flags: u64,
    pub(super) max_background: u16,
    pub(super) max_write: u32,
    pub(super) max_pages: u16,
}

impl InitOut {
    /// The whole answer to the INIT with this number.
    pub(super) fn answer(&self, unique: u64) -> [u8; 80] {
        let flags = self.flags | INIT_EXT;
        let mut bytes = [0; 80];
        let mut out = Out::new(&mut bytes);
        out.bytes(&out_header(80, 0, unique));
        out.u32(MAJOR);
        out.u32(MINOR);
        out.u32(self.max_readahead);
        out.u32(flags as u32);
        out.bytes(&self.max_background.to_ne_bytes());
        out.bytes(&(self.max_background / 4 * 3).to_ne_bytes());
        out.u32(self.max_write);
        out.u32(1); // times are exact to the nanosecond
        out.bytes(&self.max_pages.to_ne_bytes());
        out.bytes(&[0; 2]);
        out.u32((flags >> 32) as u32);
        bytes
    }
}

/// `struct fuse_out_header`. `error` is negative or 0.
pub(super) fn out_header(len: u32, error: i32, unique: u64) -> [u8; 16] {
    let mut bytes = [0; 16];
    let mut out = Out::new(&mut bytes);
    out.u32(len);
    out.u32(error.cast_unsigned());
    out.u64(unique);
    bytes
}

/// The notice that the kernel is to drop all pages of a node: `FUSE_NOTIFY_INVAL_INODE`.
pub(super) fn drop_pages(node: u64) -> [u8; 40] {
    const INVAL_INODE: i32 = 2;
    let mut bytes = [0; 40];
    let mut out = Out::new(&mut bytes);
    out.bytes(&out_header(40, INVAL_INODE, 0));
    out.u64(node);
    bytes
}

/// An answer that is being put together in place.
pub(super) struct Out<'a> {
    buffer: &'a mut [u8],
    len: usize,
    too_long: bool,
}

impl<'a> Out<'a> {
    pub(super) fn new(buffer: &'a mut [u8]) -> Self {
        Self {
            buffer,
            len: 0,
            too_long: false,
        }
    }

    /// How long it is; None when it had no room.
    pub(super) fn finish(self) -> Option<usize> {
        (!self.too_long).then_some(self.len)
    }

    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        match self.buffer.get_mut(self.len..self.len + bytes.len()) {
            Some(room) => {
                room.copy_from_slice(bytes);
                self.len += bytes.len();
            }
            None => self.too_long = true,
        }
    }

    pub(super) fn u32(&mut self, value: u32) {
        self.bytes(&value.to_ne_bytes());
    }

    pub(super) fn u64(&mut self, value: u64) {
        self.bytes(&value.to_ne_bytes());
    }

    fn lifetime(&mut self, lifetimes: [Duration; 2]) {
        for lifetime in lifetimes {
            self.u64(lifetime.as_secs());
        }
        for lifetime in lifetimes {
            self.u32(lifetime.subsec_nanos());
        }
    }

    /// `struct fuse_attr`. The kernel's 32-bit device numbers are the low half of Linux's 64-bit ones.
    fn attr(&mut self, attr: &Attr) {
        let times = [attr.atime, attr.mtime, attr.ctime];
        self.u64(attr.ino.0);
        self.u64(attr.size);
        self.u64(attr.blocks);
        for Time { secs, .. } in times {
            self.u64(secs.cast_unsigned());
        }
        for Time { nanos, .. } in times {
            self.u32(nanos.min(999_999_999));
        }
        self.u32(type_bits(attr.kind) | u32::from(attr.perm));
        self.u32(attr.nlink);
        self.u32(attr.uid);
        self.u32(attr.gid);
        self.u32(attr.rdev as u32);
        self.u32(attr.blksize);
        self.u32(0);
    }

    /// `struct fuse_entry_out`.
    pub(super) fn entry(&mut self, attr: &Attr, lifetime: Duration) {
        self.u64(attr.ino.0);
        self.u64(attr.generation);
        self.lifetime([lifetime; 2]);
        self.attr(attr);
    }

    /// The same for a name that is not there, which the kernel may remember.
    pub(super) fn no_entry(&mut self, lifetime: Duration) {
        self.u64(0);
        self.u64(0);
        self.lifetime([lifetime; 2]);
        self.bytes(&[0; ATTR_SIZE]);
    }

    /// `struct fuse_attr_out`.
    pub(super) fn attributes(&mut self, attr: &Attr, lifetime: Duration) {
        self.u64(lifetime.as_secs());
        self.u32(lifetime.subsec_nanos());
        self.u32(0);
        self.attr(attr);
    }

    /// `struct fuse_open_out`.
    pub(super) fn opened(&mut self, handle: u64, flags: u32) {
        self.u64(handle);
        self.u32(flags);
        self.u32(0);
    }

    /// `struct fuse_kstatfs`.
    pub(super) fn statfs(&mut self, stat: &StatFs, block: u32, longest_name: u32) {
        for value in [
            stat.blocks,
            stat.blocks_free,
            stat.blocks_available,
            stat.files,
            stat.files_free,
        ] {
            self.u64(value);
        }
        self.u32(block);
        self.u32(longest_name);
        self.u32(block);
        self.bytes(&[0; 28]);
    }

    /// `struct fuse_dirent`, or with attributes `struct fuse_direntplus`. False when there is no
    /// room; then nothing is added.
    pub(super) fn dir_entry(
        &mut self,
        entry: &DirEntry<'_>,
        attr: Option<(&Attr, Duration)>,
    ) -> bool {
        let head = if attr.is_some() { ENTRY_SIZE } else { 0 };
        let size = (head + DIRENT_SIZE + entry.name.len()).next_multiple_of(8);
        if self.buffer.len() - self.len < size {
            return false;
        }
        let end = self.len + size;
        if let Some((attr, lifetime)) = attr {
            self.entry(
                &Attr {
                    ino: entry.ino,
                    ..*attr
                },
                lifetime,
            );
        }
        self.u64(entry.ino.0);
        self.u64(entry.next);
        self.u32(entry.name.len() as u32);
        self.u32(type_bits(entry.kind) >> 12);
        self.bytes(entry.name);
        self.bytes(&[0; 8][..end - self.len]);
        true
    }
}

const ATTR_SIZE: usize = 88;
const ENTRY_SIZE: usize = 128;
const DIRENT_SIZE: usize = 24;

/// The type in a mode.
fn type_bits(kind: Kind) -> u32 {
    match kind {
        Kind::File => libc::S_IFREG,
        Kind::Dir => libc::S_IFDIR,
        Kind::Symlink => libc::S_IFLNK,
        Kind::Fifo => libc::S_IFIFO,
        Kind::Socket => libc::S_IFSOCK,
        Kind::CharDevice => libc::S_IFCHR,
        Kind::BlockDevice => libc::S_IFBLK,
    }
}

#[cfg(test)]
mod tests;
