//! One request: what the codec takes apart goes to [`Ops`], and what that gives is put together in
//! the place of the request's payload.

use super::super::errno::Errno;
use super::super::ops::{LONGEST_NAME, Opened, Ops, XattrAnswer};
use super::codec::{self, Fields, InHeader, Out, fattr, opcode};
use crate::volume::{Attr, Backing, HandleId, NodeId, SetAttr, SetTime, Time};

/// Answers a request: `args` are the operation's own arguments, the first `given` bytes of `payload`
/// what came with them (names, data). The length of the answer, which is in `payload` then.
pub(super) fn answer<B: Backing>(
    ops: &Ops<B>,
    head: &InHeader,
    args: &[u8],
    payload: &mut [u8],
    given: usize,
) -> Result<usize, Errno> {
    let mut args = Fields(args);
    match head.opcode {
        opcode::READ => read(ops, &mut args, payload).unwrap_or(Err(Errno::INVAL)),
        opcode::WRITE => {
            let size =
                write(ops, &mut args, payload.get_mut(..given)).unwrap_or(Err(Errno::INVAL))?;
            put(payload, |out| {
                out.u32(size);
                out.u32(0);
            })
        }
        opcode::READDIR | opcode::READDIRPLUS => {
            list(ops, head, &mut args, payload).unwrap_or(Err(Errno::INVAL))
        }
        _ => {
            let names = Fields(payload.get(..given).ok_or(Errno::INVAL)?);
            let result = small(ops, head, args, names).unwrap_or(Err(Errno::INVAL))?;
            result.put(payload, ops)
        }
    }
}

/// An answer that is small and has its own memory.
enum Answer {
    Empty,
    Entry(Attr),
    NoEntry,
    Attributes(Attr),
    Created(Attr, Opened),
    Opened(Opened),
    OpenedDir,
    Bytes(Vec<u8>),
    Length(u32),
    StatFs(crate::volume::StatFs),
    Copied(u32),
    Copied64(u64),
    Offset(i64),
    Ioctl(Vec<u8>),
}

impl Answer {
    fn put<B: Backing>(self, payload: &mut [u8], ops: &Ops<B>) -> Result<usize, Errno> {
        let lifetime = ops.lifetime();
        put(payload, |out| match self {
            Self::Empty => {}
            Self::Entry(attr) => out.entry(&attr, lifetime),
            Self::NoEntry => out.no_entry(lifetime),
            Self::Attributes(attr) => out.attributes(&attr, ops.lifetime_of(&attr)),
            Self::Created(attr, opened) => {
                out.entry(&attr, lifetime);
                out.opened(opened.handle.0, open_flags(opened));
            }
            Self::Opened(opened) => out.opened(opened.handle.0, open_flags(opened)),
            Self::OpenedDir => out.opened(0, 0),
            Self::Bytes(bytes) => out.bytes(&bytes),
            Self::Length(length) | Self::Copied(length) => {
                out.u32(length);
                out.u32(0);
            }
            Self::StatFs(stat) => {
                let block = u32::try_from(stat.block_size).unwrap_or(4096);
                out.statfs(&stat, block, LONGEST_NAME);
            }
            Self::Copied64(length) => out.u64(length),
            Self::Offset(offset) => out.u64(offset.cast_unsigned()),
            Self::Ioctl(answer) => {
                out.bytes(&[0; 16]); // result 0, no flags, nothing to send again
                out.bytes(&answer);
            }
        })
    }
}

fn put(payload: &mut [u8], fill: impl FnOnce(&mut Out<'_>)) -> Result<usize, Errno> {
    let mut out = Out::new(payload);
    fill(&mut out);
    out.finish().ok_or(Errno::IO)
}

fn open_flags(opened: Opened) -> u32 {
    let mut flags = 0;
    if opened.direct {
        flags |= codec::FOPEN_DIRECT_IO;
    }
    if opened.keep_cache {
        flags |= codec::FOPEN_KEEP_CACHE;
    }
    flags
}

fn handle(args: &mut Fields<'_>) -> Option<HandleId> {
    args.u64().map(HandleId)
}

/// `struct fuse_read_in`; opened straight into the payload.
fn read<B: Backing>(
    ops: &Ops<B>,
    args: &mut Fields<'_>,
    payload: &mut [u8],
) -> Option<Result<usize, Errno>> {
    let (file, offset, size) = (handle(args)?, args.u64()?, args.u32()?);
    let room = payload.get_mut(..size as usize)?;
    Some(ops.read(file, offset, room))
}

/// `struct fuse_write_in`; sealed in the payload, or straight out of it.
fn write<B: Backing>(
    ops: &Ops<B>,
    args: &mut Fields<'_>,
    data: Option<&mut [u8]>,
) -> Option<Result<u32, Errno>> {
    let (file, offset, size, flags) = (handle(args)?, args.u64()?, args.u32()?, args.u32()?);
    let data = data?.get_mut(..size as usize)?;
    let kill = flags & codec::WRITE_KILL_SUIDGID != 0;
    Some(ops.write_in_place(file, offset, data, kill).map(|()| size))
}

/// `struct fuse_read_in`; entries are put together in the payload.
fn list<B: Backing>(
    ops: &Ops<B>,
    head: &InHeader,
    args: &mut Fields<'_>,
    payload: &mut [u8],
) -> Option<Result<usize, Errno>> {
    let (_file, offset, size) = (args.u64()?, args.u64()?, args.u32()?);
    let mut out = Out::new(payload.get_mut(..size as usize)?);
    let node = NodeId(head.node);
    let result = if head.opcode == opcode::READDIRPLUS {
        let lifetime = ops.lifetime();
        ops.readdir_plus(node, offset, &mut |entry, attr| {
            out.dir_entry(&entry, Some((attr, lifetime)))
        })
    } else {
        ops.readdir(node, offset, &mut |entry| out.dir_entry(&entry, None))
    };
    Some(result.and_then(|()| out.finish().ok_or(Errno::IO)))
}

/// Everything else. None: the request is shorter than it should be.
fn small<B: Backing>(
    ops: &Ops<B>,
    head: &InHeader,
    mut args: Fields<'_>,
    mut names: Fields<'_>,
) -> Option<Result<Answer, Errno>> {
    let node = NodeId(head.node);
    let caller = &head.caller;
    let done = |result: Result<(), Errno>| result.map(|()| Answer::Empty);
    Some(match head.opcode {
        opcode::LOOKUP => match ops.lookup(node, names.text()?) {
            Ok(None) if ops.remembers() => Ok(Answer::NoEntry),
            found => found.and_then(|attr| attr.map(Answer::Entry).ok_or(Errno::NOENT)),
        },
        opcode::GETATTR => {
            let (flags, _) = (args.u32()?, args.u32()?);
            let file = handle(&mut args)?;
            ops.getattr(node, (flags & codec::GETATTR_FH != 0).then_some(file))
                .map(Answer::Attributes)
        }
        opcode::SETATTR => {
            let (file, set) = set_attr(&mut args)?;
            ops.setattr(caller, node, file, &set)
                .map(Answer::Attributes)
        }
        opcode::ACCESS => done(ops.access(node, args.i32()?)),
        opcode::READLINK => ops.readlink(node).map(Answer::Bytes),
        opcode::SYMLINK => {
            let (name, target) = (names.text()?, names.text()?);
            ops.symlink(caller, node, name, target).map(Answer::Entry)
        }
        opcode::MKNOD => {
            let (mode, rdev, umask) = (args.u32()?, args.u32()?, args.u32()?);
            ops.mknod(caller, node, names.text()?, mode, umask, rdev)
                .map(Answer::Entry)
        }
        opcode::MKDIR => {
            let (mode, umask) = (args.u32()?, args.u32()?);
            ops.mkdir(caller, node, names.text()?, mode, umask)
                .map(Answer::Entry)
        }
        opcode::UNLINK => done(ops.unlink(node, names.text()?)),
        opcode::RMDIR => done(ops.rmdir(node, names.text()?)),
        opcode::RENAME | opcode::RENAME2 => {
            let to = NodeId(args.u64()?);
            let flags = if head.opcode == opcode::RENAME2 {
                args.u32()?
            } else {
                0
            };
            let (name, new_name) = (names.text()?, names.text()?);
            done(ops.rename(node, name, to, new_name, flags))
        }
        opcode::LINK => ops
            .link(NodeId(args.u64()?), node, names.text()?)
            .map(Answer::Entry),
        opcode::OPEN => ops.open(caller, node, args.i32()?).map(Answer::Opened),
        opcode::CREATE => {
            let (flags, mode, umask) = (args.i32()?, args.u32()?, args.u32()?);
            ops.create(caller, node, names.text()?, mode, umask, flags)
                .map(|(attr, opened)| Answer::Created(attr, opened))
        }
        opcode::RELEASE => done(ops.release(handle(&mut args)?)),
        opcode::FLUSH => done(ops.flush()),
        opcode::FSYNC => {
            let (file, flags) = (handle(&mut args)?, args.u32()?);
            done(ops.fsync(file, flags & codec::FSYNC_FDATASYNC != 0))
        }
        opcode::OPENDIR => ops.open_dir().map(|()| Answer::OpenedDir),
        opcode::RELEASEDIR => Ok(Answer::Empty),
        opcode::FSYNCDIR => done(ops.fsync_dir(node)),
        opcode::STATFS => ops.statfs().map(Answer::StatFs),
        opcode::FALLOCATE => {
            let (file, offset, length) = (handle(&mut args)?, args.u64()?, args.u64()?);
            done(ops.fallocate(file, args.i32()?, offset, length))
        }
        opcode::LSEEK => {
            let (file, offset, whence) = (handle(&mut args)?, args.i64()?, args.i32()?);
            ops.seek(file, offset, whence).map(Answer::Offset)
        }
        opcode::COPY_FILE_RANGE | opcode::COPY_FILE_RANGE_64 => {
            let from = (handle(&mut args)?, args.u64()?);
            let _to_node = args.u64()?;
            let to = (handle(&mut args)?, args.u64()?);
            let copied = ops.copy_range(from, to, args.u64()?);
            if head.opcode == opcode::COPY_FILE_RANGE {
                copied.map(Answer::Copied)
            } else {
                copied.map(|length| Answer::Copied64(u64::from(length)))
            }
        }
        opcode::IOCTL => {
            let (_file, _flags, command) = (args.u64()?, args.u32()?, args.u32()?);
            let (_arg, in_size, room) = (args.u64()?, args.u32()?, args.u32()?);
            let input = names.bytes(in_size as usize)?;
            ops.ioctl(caller, command, input, room).map(Answer::Ioctl)
        }
        _ => return xattrs(ops, head, args, names),
    })
}

/// Extended attributes. What is none of them either, the kernel does by itself once it is told that
/// nobody else does (BMAP, POLL, locks), or knows another request for.
fn xattrs<B: Backing>(
    ops: &Ops<B>,
    head: &InHeader,
    mut args: Fields<'_>,
    mut names: Fields<'_>,
) -> Option<Result<Answer, Errno>> {
    let node = NodeId(head.node);
    let caller = &head.caller;
    let told = |answer| match answer {
        XattrAnswer::Length(length) => Answer::Length(length),
        XattrAnswer::Bytes(bytes) => Answer::Bytes(bytes),
    };
    Some(match head.opcode {
        opcode::SETXATTR => {
            let (size, flags) = (args.u32()?, args.i32()?);
            let name = names.text()?;
            let value = names.bytes(size as usize)?;
            ops.set_xattr(caller, node, name, value, flags)
                .map(|()| Answer::Empty)
        }
        opcode::GETXATTR => {
            let room = args.u32()?;
            ops.get_xattr(node, names.text()?, room).map(told)
        }
        opcode::LISTXATTR => ops.list_xattr(caller, node, args.u32()?).map(told),
        opcode::REMOVEXATTR => ops
            .remove_xattr(node, names.text()?)
            .map(|()| Answer::Empty),
        _ => Err(Errno::NOSYS),
    })
}

/// `struct fuse_setattr_in`.
fn set_attr(args: &mut Fields<'_>) -> Option<(Option<HandleId>, SetAttr)> {
    let (valid, _) = (args.u32()?, args.u32()?);
    let (file, size, _lock_owner) = (handle(args)?, args.u64()?, args.u64()?);
    let (atime, mtime, _ctime) = (args.i64()?, args.i64()?, args.i64()?);
    let (atime_nanos, mtime_nanos, _) = (args.u32()?, args.u32()?, args.u32()?);
    let (mode, _) = (args.u32()?, args.u32()?);
    let (uid, gid) = (args.u32()?, args.u32()?);
    let has = |flag| valid & flag != 0;
    let time = |set, now, secs, nanos| {
        if has(now) {
            SetTime::Now
        } else if has(set) {
            SetTime::At(Time { secs, nanos })
        } else {
            SetTime::Omit
        }
    };
    let set = SetAttr {
        mode: has(fattr::MODE).then_some(mode),
        uid: has(fattr::UID).then_some(uid),
        gid: has(fattr::GID).then_some(gid),
        size: has(fattr::SIZE).then_some(size),
        atime: time(fattr::ATIME, fattr::ATIME_NOW, atime, atime_nanos),
        mtime: time(fattr::MTIME, fattr::MTIME_NOW, mtime, mtime_nanos),
    };
    Some((has(fattr::FH).then_some(file), set))
}

#[cfg(test)]
mod tests;
