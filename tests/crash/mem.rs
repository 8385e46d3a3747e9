//! [`Mem`]: a [`Backing`] in memory that records every call that changes something.
#![allow(dead_code)] // each test uses a part

use std::cell::Cell;
use std::collections::{BTreeMap, HashMap};
use std::io::{self, IoSlice, IoSliceMut};
use std::sync::Arc;
use std::time::Duration;

use envelopefs::backing::{
    Allocate, At, Backing, EntryName, Kind, OpenFile, RawEntry, Rename, Seek, SetTime, Stat,
    StatFs, Time, XattrMode,
};
use parking_lot::{Mutex, MutexGuard};

use super::disk::{Body, DirBody, Disk, FileBody, Ino, Inode, Name, PAGE, ROOT, pieces, time_of};
use super::log::Op;

/// The longest symlink target, as ext4 has it.
const TARGET_MAX: usize = 4095;
const DEVICE: u64 = 7;

thread_local! {
    /// How long each write and each sync of this thread takes, so that others come in between.
    pub static SLOW: Cell<[Duration; 2]> = const { Cell::new([Duration::ZERO; 2]) };
}

/// A filesystem in memory. Clones are the same filesystem.
#[derive(Clone)]
pub struct Mem(Arc<Mutex<State>>);

struct State {
    disk: Disk,
    /// None: nothing is recorded.
    log: Option<Vec<Op>>,
    /// How often each inode is open.
    open: HashMap<Ino, u32>,
    /// Shared holders, and whether there is an exclusive one.
    locks: HashMap<Ino, (u32, bool)>,
    /// Pages that there are, and pages in use (counted only where there is an end to them).
    capacity: Option<u64>,
    used: u64,
    /// The clock: one microsecond for each call that changes something.
    now: u64,
    /// Calls that change something until one fails, and with what.
    fault: Option<(u32, i32)>,
}

/// An open directory.
pub struct MemDir {
    ino: Ino,
    _open: Open,
}

/// An open file.
pub struct MemFile {
    ino: Ino,
    writable: bool,
    _open: Open,
}

/// A position in a listing.
pub struct MemListing {
    ino: Ino,
}

/// A held lock.
pub struct MemLock {
    mem: Mem,
    ino: Ino,
    exclusive: bool,
}

/// Keeps an inode that has lost its names.
struct Open {
    mem: Mem,
    ino: Ino,
}

impl Drop for Open {
    fn drop(&mut self) {
        let mut state = self.mem.0.lock();
        if let Some(count) = state.open.get_mut(&self.ino) {
            *count -= 1;
            if *count == 0 {
                state.open.remove(&self.ino);
                state.forget_nameless(self.ino);
            }
        }
    }
}

impl Drop for MemLock {
    fn drop(&mut self) {
        let mut state = self.mem.0.lock();
        let held = state.locks.entry(self.ino).or_default();
        if self.exclusive {
            held.1 = false;
        } else {
            held.0 = held.0.saturating_sub(1);
        }
    }
}

fn errno<T>(errno: i32) -> io::Result<T> {
    Err(io::Error::from_raw_os_error(errno))
}

fn os(errno: i32) -> io::Error {
    io::Error::from_raw_os_error(errno)
}

fn name_of(name: &EntryName) -> Name {
    Arc::from(name.as_bytes())
}

impl State {
    fn tick(&mut self) -> u64 {
        self.now += 1000;
        self.now
    }

    /// Records a call that was carried out.
    fn note(&mut self, op: impl FnOnce() -> Op) {
        if let Some(log) = &mut self.log {
            log.push(op());
        }
    }

    /// Carries a call out and records it.
    fn act(&mut self, op: Op) {
        op.apply(&mut self.disk);
        if let Some(log) = &mut self.log {
            log.push(op);
        }
    }

    fn inode(&self, ino: Ino) -> io::Result<&Inode> {
        self.disk.get(ino).ok_or_else(|| os(libc::ENOENT))
    }

    fn file(&self, ino: Ino) -> io::Result<&FileBody> {
        self.disk.file(ino).ok_or_else(|| os(libc::EISDIR))
    }

    /// An entry; and in a directory that is no more there is none, nor can be.
    fn find(&self, dir: Ino, name: &[u8]) -> io::Result<Ino> {
        self.disk.entry(dir, name).ok_or_else(|| os(libc::ENOENT))
    }

    fn check_free(&self, dir: Ino, name: &[u8]) -> io::Result<()> {
        let inode = self.inode(dir)?;
        if inode.names == 0 {
            return errno(libc::ENOENT);
        }
        if self.disk.entry(dir, name).is_some() {
            return errno(libc::EEXIST);
        }
        Ok(())
    }

    /// Takes pages of the free space, all of them or none.
    fn take(&mut self, pages: u64) -> io::Result<()> {
        if self
            .capacity
            .is_some_and(|capacity| self.used + pages > capacity)
        {
            return errno(libc::ENOSPC);
        }
        self.used += pages;
        Ok(())
    }

    /// An inode without names and users is no more.
    fn forget_nameless(&mut self, ino: Ino) {
        let Some(inode) = self.disk.get(ino) else {
            return;
        };
        if inode.names > 0 || self.open.contains_key(&ino) {
            return;
        }
        let pages = match &inode.body {
            Body::File(file) => 1 + file.used(),
            _ => 1,
        };
        self.used = self.used.saturating_sub(pages);
        self.disk.remove(ino);
    }

    fn create(&mut self, dir: Ino, name: &EntryName, mode: u32, body: Body) -> io::Result<Ino> {
        self.create_device(dir, name, mode, body, 0)
    }

    fn create_device(
        &mut self,
        dir: Ino,
        name: &EntryName,
        mode: u32,
        body: Body,
        rdev: u64,
    ) -> io::Result<Ino> {
        self.check_free(dir, name.as_bytes())?;
        self.take(1)?;
        let ino = self.disk.next_ino();
        let now = self.tick();
        let inode = Inode {
            rdev,
            ..Inode::new(mode, body, now)
        };
        self.act(Op::Create {
            dir,
            name: name_of(name),
            ino,
            inode: Arc::new(inode),
        });
        self.touch_dir(dir);
        Ok(ino)
    }

    fn touch_dir(&mut self, dir: Ino) {
        let now = time_of(self.now);
        if let Some(inode) = self.disk.get_mut(dir) {
            inode.mtime = now;
            inode.ctime = now;
        }
    }

    fn touch(&mut self, ino: Ino, contents: bool) {
        let now = time_of(self.tick());
        if let Some(inode) = self.disk.get_mut(ino) {
            inode.ctime = now;
            if contents {
                inode.mtime = now;
            }
        }
    }

    fn remove(&mut self, dir: Ino, name: &EntryName, ino: Ino) {
        self.act(Op::Unlink {
            dir,
            name: name_of(name),
            ino,
        });
        self.touch_dir(dir);
        self.touch(ino, false);
        self.forget_nameless(ino);
    }

    fn stat(&self, ino: Ino) -> io::Result<Stat> {
        let inode = self.inode(ino)?;
        let (size, blocks, nlink) = match &inode.body {
            Body::File(file) => (file.size, file.used() * 8, inode.names),
            Body::Dir(dir) => {
                let inner = dir
                    .entries
                    .values()
                    .filter(|(_, ino)| self.disk.dir(*ino).is_some());
                let links = if inode.names == 0 {
                    0
                } else {
                    2 + inner.count() as u32
                };
                (PAGE as u64, 8, links)
            }
            Body::Symlink(target) => (target.len() as u64, 0, inode.names),
            Body::Special => (0, 0, inode.names),
        };
        Ok(Stat {
            dev: DEVICE,
            ino,
            mode: inode.mode,
            nlink,
            uid: inode.uid,
            gid: inode.gid,
            rdev: inode.rdev,
            size,
            blocks,
            blksize: PAGE as u32,
            atime: inode.atime,
            mtime: inode.mtime,
            ctime: inode.ctime,
            btime: inode.btime,
        })
    }

    fn set_attr(&mut self, ino: Ino, change: impl FnOnce(&mut Inode)) -> io::Result<()> {
        let now = time_of(self.tick());
        let inode = self.disk.get_mut(ino).ok_or_else(|| os(libc::ENOENT))?;
        change(inode);
        inode.ctime = now;
        let attr = Inode {
            body: Body::Special,
            xattrs: BTreeMap::new(),
            ..inode.clone()
        };
        self.note(|| Op::Attr {
            ino,
            attr: Arc::new(attr),
        });
        Ok(())
    }

    fn is_inside(&self, mut dir: Ino, of: Ino) -> bool {
        loop {
            if dir == of {
                return true;
            }
            match self.disk.dir(dir) {
                Some(body) if dir != ROOT => dir = body.parent,
                _ => return false,
            }
        }
    }
}

impl Mem {
    /// A filesystem that holds what a disk holds.
    pub fn of(disk: Disk, record: bool) -> Self {
        let now = disk.next_ino() * 1_000_000_000;
        Self(Arc::new(Mutex::new(State {
            disk,
            log: record.then(Vec::new),
            open: HashMap::new(),
            locks: HashMap::new(),
            capacity: None,
            used: 0,
            now,
            fault: None,
        })))
    }

    /// Empties it.
    pub fn clear(&self) {
        self.0.lock().disk = Disk::new();
    }

    /// The `nth` call from now (1: the next) that changes something, or syncs, fails.
    pub fn fail_nth(&self, nth: u32, errno: i32) {
        self.0.lock().fault = Some((nth, errno));
    }

    /// Nothing fails any more; whether a fault was still to come.
    pub fn no_faults(&self) -> bool {
        self.0.lock().fault.take().is_some()
    }

    /// The process that had everything open is gone: its locks are free, and so is the room of files
    /// without a name.
    pub fn forget_holders(&self) {
        let mut state = self.0.lock();
        state.locks.clear();
        for ino in std::mem::take(&mut state.open).into_keys() {
            state.forget_nameless(ino);
        }
    }

    /// From here on there are only so many free pages of 4 KiB.
    pub fn set_free(&self, pages: u64) {
        let mut state = self.0.lock();
        state.used = state.disk.used();
        state.capacity = Some(state.used + pages);
    }

    /// How many calls have been recorded.
    pub fn log_len(&self) -> usize {
        self.0.lock().log.as_ref().map_or(0, Vec::len)
    }

    /// Takes what was recorded; recording goes on with an empty log.
    pub fn take_log(&self) -> Vec<Op> {
        self.0.lock().log.replace(Vec::new()).unwrap_or_default()
    }

    /// What it holds now.
    pub fn disk(&self) -> Disk {
        self.0.lock().disk.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock()
    }

    /// For a call that changes something.
    fn change(&self) -> io::Result<MutexGuard<'_, State>> {
        let mut state = self.0.lock();
        match &mut state.fault {
            Some((1, errno)) => {
                let errno = *errno;
                state.fault = None;
                self::errno(errno)
            }
            Some((left, _)) => {
                *left -= 1;
                Ok(state)
            }
            None => Ok(state),
        }
    }

    fn opened(&self, state: &mut State, ino: Ino) -> Open {
        *state.open.entry(ino).or_default() += 1;
        Open {
            mem: self.clone(),
            ino,
        }
    }

    fn ino(state: &State, at: At<'_, Self>) -> io::Result<Ino> {
        match at {
            At::Entry(dir, name) => state.find(dir.ino, name.as_bytes()),
            At::Dir(dir) => Ok(dir.ino),
            At::File(file) => Ok(file.ino),
        }
    }
}

/// `user.*` is for files and directories only.
fn check_xattr(inode: &Inode, name: &[u8]) -> io::Result<()> {
    if name.starts_with(b"user.") && !matches!(inode.body, Body::File(_) | Body::Dir(_)) {
        return errno(libc::EPERM);
    }
    Ok(())
}

fn time(set: SetTime, before: Time, now: Time) -> io::Result<Time> {
    match set {
        SetTime::Omit => Ok(before),
        SetTime::Now => Ok(now),
        SetTime::At(Time {
            nanos: 1_000_000_000..,
            ..
        }) => errno(libc::EINVAL),
        SetTime::At(time) => Ok(time),
    }
}

impl Backing for Mem {
    type Dir = MemDir;
    type File = MemFile;
    type Listing = MemListing;
    type Lock = MemLock;

    fn root(&self) -> io::Result<MemDir> {
        let mut state = self.state();
        let open = self.opened(&mut state, ROOT);
        Ok(MemDir {
            ino: ROOT,
            _open: open,
        })
    }

    fn open_dir(&self, dir: &MemDir, name: &EntryName) -> io::Result<MemDir> {
        let mut state = self.state();
        let ino = state.find(dir.ino, name.as_bytes())?;
        if state.disk.dir(ino).is_none() {
            return errno(libc::ENOTDIR);
        }
        let open = self.opened(&mut state, ino);
        Ok(MemDir { ino, _open: open })
    }

    fn stat(&self, dir: &MemDir, name: &EntryName) -> io::Result<Stat> {
        let state = self.state();
        state.stat(state.find(dir.ino, name.as_bytes())?)
    }

    fn stat_dir(&self, dir: &MemDir) -> io::Result<Stat> {
        self.state().stat(dir.ino)
    }

    fn stat_file(&self, file: &MemFile) -> io::Result<Stat> {
        self.state().stat(file.ino)
    }

    fn open_file(&self, dir: &MemDir, name: &EntryName, how: OpenFile) -> io::Result<MemFile> {
        let mut state = self.state();
        let ino = state.find(dir.ino, name.as_bytes())?;
        match &state.inode(ino)?.body {
            Body::File(_) => {}
            Body::Dir(_) => return errno(libc::EISDIR),
            Body::Symlink(_) => return errno(libc::ELOOP),
            Body::Special => return errno(libc::ENXIO),
        }
        let open = self.opened(&mut state, ino);
        Ok(MemFile {
            ino,
            writable: how.write,
            _open: open,
        })
    }

    fn create_file(&self, dir: &MemDir, name: &EntryName, mode: u32) -> io::Result<MemFile> {
        let mut state = self.change()?;
        let mode = libc::S_IFREG | mode & 0o7777;
        let ino = state.create(dir.ino, name, mode, Body::File(FileBody::default()))?;
        let open = self.opened(&mut state, ino);
        Ok(MemFile {
            ino,
            writable: true,
            _open: open,
        })
    }

    fn read_at(
        &self,
        file: &MemFile,
        bufs: &mut [IoSliceMut<'_>],
        offset: u64,
    ) -> io::Result<usize> {
        let state = self.state();
        let body = state.file(file.ino)?;
        let mut total = 0;
        for buf in bufs {
            let read = body.read(offset + total as u64, buf);
            total += read;
            if read < buf.len() {
                break;
            }
        }
        Ok(total)
    }

    fn write_at(&self, file: &MemFile, bufs: &mut [IoSlice<'_>], offset: u64) -> io::Result<()> {
        if !file.writable {
            return errno(libc::EBADF);
        }
        let mut data = Vec::new();
        for buf in bufs.iter() {
            data.extend_from_slice(buf);
        }
        if data.is_empty() {
            return Ok(());
        }
        std::thread::sleep(SLOW.get()[0]);
        let end = offset.checked_add(data.len() as u64);
        if end.is_none_or(|end| i64::try_from(end).is_err()) {
            return errno(libc::EFBIG);
        }
        let mut state = match self.change() {
            Ok(state) => state,
            Err(error) => {
                // Some of it is written all the same, by whole pages.
                let mut state = self.state();
                let middle = (offset + data.len() as u64 / 2) / PAGE as u64 * PAGE as u64;
                let data: Arc<[u8]> = data[..middle.saturating_sub(offset) as usize].into();
                let (ino, at) = (file.ino, offset);
                if !data.is_empty() && state.capacity.is_none() {
                    state.act(Op::Write { ino, at, data });
                }
                return Err(error);
            }
        };
        let mut result = Ok(());
        if let Some(capacity) = state.capacity {
            // What fits is written.
            let body = state.file(file.ino)?;
            let (mut need, mut fits, left) = (0, 0, capacity.saturating_sub(state.used));
            pieces(offset, data.len(), |page, _, _, len| {
                need += u64::from(!body.pages.contains_key(&page));
                if need <= left {
                    fits += len;
                }
            });
            state.used += need.min(left);
            if fits < data.len() {
                data.truncate(fits);
                result = errno(libc::ENOSPC);
            }
        }
        if !data.is_empty() {
            state.act(Op::Write {
                ino: file.ino,
                at: offset,
                data: data.into(),
            });
            state.touch(file.ino, true);
        }
        result
    }

    fn truncate(&self, file: &MemFile, len: u64) -> io::Result<()> {
        if !file.writable {
            return errno(libc::EINVAL);
        }
        if i64::try_from(len).is_err() {
            return errno(libc::EFBIG);
        }
        let mut state = self.change()?;
        let before = state.file(file.ino)?.used();
        state.act(Op::Truncate {
            ino: file.ino,
            size: len,
        });
        let freed = before - state.file(file.ino)?.used();
        state.used = state.used.saturating_sub(freed);
        state.touch(file.ino, true);
        Ok(())
    }

    fn allocate(&self, file: &MemFile, what: Allocate, offset: u64, len: u64) -> io::Result<()> {
        if !file.writable {
            return errno(libc::EBADF);
        }
        let end = offset.checked_add(len);
        if len == 0 {
            return errno(libc::EINVAL);
        }
        if end.is_none_or(|end| i64::try_from(end).is_err()) {
            return errno(libc::EFBIG);
        }
        let mut state = self.change()?;
        let before = state.file(file.ino)?.used();
        let (ino, at) = (file.ino, offset);
        match what {
            Allocate::Punch => {
                state.act(Op::Punch { ino, at, len });
                let freed = before - state.file(ino)?.used();
                state.used = state.used.saturating_sub(freed);
            }
            Allocate::Reserve | Allocate::ReserveKeepSize => {
                let body = state.file(ino)?;
                let pages = at / PAGE as u64..(at + len).div_ceil(PAGE as u64);
                let held = body.pages.range(pages.clone()).count() as u64;
                state.take(pages.end - pages.start - held)?;
                state.act(Op::Reserve {
                    ino,
                    at,
                    len,
                    keep_size: what == Allocate::ReserveKeepSize,
                });
            }
        }
        state.touch(ino, true);
        Ok(())
    }

    fn seek(&self, file: &MemFile, what: Seek, offset: u64) -> io::Result<Option<u64>> {
        let state = self.state();
        let body = state.file(file.ino)?;
        if offset >= body.size {
            return Ok(None);
        }
        let page = offset / PAGE as u64;
        let mut data = body
            .pages
            .range(page..)
            .filter_map(|(page, bytes)| bytes.is_some().then_some(*page));
        Ok(match what {
            Seek::Data => data
                .next()
                .map(|page| offset.max(page * PAGE as u64))
                .filter(|at| *at < body.size),
            Seek::Hole => {
                let mut hole = page;
                for page in data {
                    if page != hole {
                        break;
                    }
                    hole += 1;
                }
                Some(offset.max(hole * PAGE as u64).min(body.size))
            }
        })
    }

    fn will_need(&self, _: &MemFile, _: u64, _: u64) {}

    fn wont_need(&self, _: &MemFile, _: u64, _: u64) {}

    fn writes_in_place(&self) -> bool {
        true
    }

    fn start_sync(&self, _: &MemFile) {}

    fn sync_file(&self, file: &MemFile, data_only: bool) -> io::Result<()> {
        std::thread::sleep(SLOW.get()[1]);
        let ino = file.ino;
        self.change()?.note(|| Op::SyncFile { ino, data_only });
        Ok(())
    }

    fn sync_dir(&self, dir: &MemDir) -> io::Result<()> {
        let ino = dir.ino;
        self.change()?.note(|| Op::SyncDir { ino });
        Ok(())
    }

    fn sync_all(&self) -> io::Result<()> {
        self.change()?.note(|| Op::SyncAll);
        Ok(())
    }

    fn mkdir(&self, dir: &MemDir, name: &EntryName, mode: u32) -> io::Result<()> {
        let mode = libc::S_IFDIR | mode & 0o7777;
        let body = Body::Dir(DirBody::new(dir.ino));
        self.change()?.create(dir.ino, name, mode, body).map(drop)
    }

    fn rmdir(&self, dir: &MemDir, name: &EntryName) -> io::Result<()> {
        let mut state = self.change()?;
        let ino = state.find(dir.ino, name.as_bytes())?;
        match state.disk.dir(ino) {
            None => errno(libc::ENOTDIR),
            Some(body) if !body.entries.is_empty() => errno(libc::ENOTEMPTY),
            Some(_) => {
                state.remove(dir.ino, name, ino);
                Ok(())
            }
        }
    }

    fn unlink(&self, dir: &MemDir, name: &EntryName) -> io::Result<()> {
        let mut state = self.change()?;
        let ino = state.find(dir.ino, name.as_bytes())?;
        if state.disk.dir(ino).is_some() {
            return errno(libc::EISDIR);
        }
        state.remove(dir.ino, name, ino);
        Ok(())
    }

    fn symlink(&self, dir: &MemDir, name: &EntryName, target: &[u8]) -> io::Result<()> {
        if target.is_empty() {
            return errno(libc::ENOENT);
        }
        if target.len() > TARGET_MAX {
            return errno(libc::ENAMETOOLONG);
        }
        let body = Body::Symlink(target.to_vec());
        self.change()?
            .create(dir.ino, name, libc::S_IFLNK | 0o777, body)
            .map(drop)
    }

    fn readlink(&self, dir: &MemDir, name: &EntryName) -> io::Result<Vec<u8>> {
        let state = self.state();
        match &state.inode(state.find(dir.ino, name.as_bytes())?)?.body {
            Body::Symlink(target) => Ok(target.clone()),
            _ => errno(libc::EINVAL),
        }
    }

    fn link(
        &self,
        from_dir: &MemDir,
        from: &EntryName,
        to_dir: &MemDir,
        to: &EntryName,
    ) -> io::Result<()> {
        let mut state = self.change()?;
        let ino = state.find(from_dir.ino, from.as_bytes())?;
        state.check_free(to_dir.ino, to.as_bytes())?;
        if state.disk.dir(ino).is_some() {
            return errno(libc::EPERM);
        }
        state.act(Op::Link {
            dir: to_dir.ino,
            name: name_of(to),
            ino,
        });
        state.touch_dir(to_dir.ino);
        state.touch(ino, false);
        Ok(())
    }

    fn rename(
        &self,
        from_dir: &MemDir,
        from: &EntryName,
        to_dir: &MemDir,
        to: &EntryName,
        how: Rename,
    ) -> io::Result<()> {
        let mut state = self.change()?;
        let ino = state.find(from_dir.ino, from.as_bytes())?;
        if state.inode(to_dir.ino)?.names == 0 {
            return errno(libc::ENOENT);
        }
        let replaced = state.disk.entry(to_dir.ino, to.as_bytes());
        let directory = state.disk.dir(ino).is_some();
        match (how, replaced) {
            (Rename::NoReplace, Some(_)) => return errno(libc::EEXIST),
            (Rename::Exchange, None) => return errno(libc::ENOENT),
            _ => {}
        }
        if directory && state.is_inside(to_dir.ino, ino) {
            return errno(libc::EINVAL);
        }
        if let Some(other) = replaced {
            let other_dir = state.disk.dir(other);
            if how == Rename::Exchange
                && other_dir.is_some()
                && state.is_inside(from_dir.ino, other)
            {
                return errno(libc::EINVAL);
            }
            if other == ino {
                return Ok(());
            }
            if how == Rename::Plain {
                match (directory, other_dir) {
                    (true, None) => return errno(libc::ENOTDIR),
                    (false, Some(_)) if state.is_inside(from_dir.ino, other) => {
                        return errno(libc::ENOTEMPTY);
                    }
                    (false, Some(_)) => return errno(libc::EISDIR),
                    (true, Some(body)) if !body.entries.is_empty() => {
                        return errno(libc::ENOTEMPTY);
                    }
                    _ => {}
                }
            }
        }
        state.act(Op::Rename {
            from: (from_dir.ino, name_of(from)),
            to: (to_dir.ino, name_of(to)),
            ino,
            replaced,
            swapped: how == Rename::Exchange,
            directory,
        });
        state.touch_dir(from_dir.ino);
        state.touch_dir(to_dir.ino);
        state.touch(ino, false);
        if let Some(other) = replaced {
            state.touch(other, false);
            state.forget_nameless(other);
        }
        Ok(())
    }

    fn mknod(&self, dir: &MemDir, name: &EntryName, mode: u32, rdev: u64) -> io::Result<()> {
        let special = matches!(
            Kind::from_mode(mode),
            Some(Kind::Fifo | Kind::Socket | Kind::CharDevice | Kind::BlockDevice)
        );
        if !special || u32::try_from(rdev).is_err() {
            return errno(libc::EINVAL);
        }
        let device = matches!(
            Kind::from_mode(mode),
            Some(Kind::CharDevice | Kind::BlockDevice)
        );
        let rdev = if device { rdev } else { 0 };
        self.change()?
            .create_device(dir.ino, name, mode, Body::Special, rdev)
            .map(drop)
    }

    fn set_mode(&self, at: At<'_, Self>, mode: u32) -> io::Result<()> {
        let mut state = self.change()?;
        let ino = Self::ino(&state, at)?;
        if matches!(state.inode(ino)?.body, Body::Symlink(_)) {
            return errno(libc::EOPNOTSUPP);
        }
        state.set_attr(ino, |inode| {
            inode.mode = inode.mode & libc::S_IFMT | mode & 0o7777;
        })
    }

    fn set_owner(&self, at: At<'_, Self>, uid: Option<u32>, gid: Option<u32>) -> io::Result<()> {
        if uid == Some(u32::MAX) || gid == Some(u32::MAX) {
            return errno(libc::EINVAL);
        }
        let mut state = self.change()?;
        let ino = Self::ino(&state, at)?;
        state.set_attr(ino, |inode| {
            inode.uid = uid.unwrap_or(inode.uid);
            inode.gid = gid.unwrap_or(inode.gid);
        })
    }

    fn set_times(&self, at: At<'_, Self>, atime: SetTime, mtime: SetTime) -> io::Result<()> {
        let mut state = self.change()?;
        let ino = Self::ino(&state, at)?;
        let inode = state.inode(ino)?;
        let now = time_of(state.now + 1000);
        let atime = time(atime, inode.atime, now)?;
        let mtime = time(mtime, inode.mtime, now)?;
        state.set_attr(ino, |inode| {
            inode.atime = atime;
            inode.mtime = mtime;
        })
    }

    fn get_xattr(&self, at: At<'_, Self>, name: &[u8]) -> io::Result<Option<Vec<u8>>> {
        let state = self.state();
        let ino = Self::ino(&state, at)?;
        Ok(state.inode(ino)?.xattrs.get(name).cloned())
    }

    fn set_xattr(
        &self,
        at: At<'_, Self>,
        name: &[u8],
        value: &[u8],
        mode: XattrMode,
    ) -> io::Result<()> {
        let mut state = self.change()?;
        let ino = Self::ino(&state, at)?;
        let inode = state.inode(ino)?;
        check_xattr(inode, name)?;
        match (mode, inode.xattrs.contains_key(name)) {
            (XattrMode::Create, true) => return errno(libc::EEXIST),
            (XattrMode::Replace, false) => return errno(libc::ENODATA),
            _ => {}
        }
        state.act(Op::Xattr {
            ino,
            name: Arc::from(name),
            value: Some(Arc::from(value)),
        });
        state.touch(ino, false);
        Ok(())
    }

    fn list_xattr(&self, at: At<'_, Self>) -> io::Result<Vec<Vec<u8>>> {
        let state = self.state();
        let ino = Self::ino(&state, at)?;
        Ok(state.inode(ino)?.xattrs.keys().cloned().collect())
    }

    fn remove_xattr(&self, at: At<'_, Self>, name: &[u8]) -> io::Result<()> {
        let mut state = self.change()?;
        let ino = Self::ino(&state, at)?;
        let inode = state.inode(ino)?;
        check_xattr(inode, name)?;
        if !inode.xattrs.contains_key(name) {
            return errno(libc::ENODATA);
        }
        state.act(Op::Xattr {
            ino,
            name: Arc::from(name),
            value: None,
        });
        state.touch(ino, false);
        Ok(())
    }

    fn list(&self, dir: &MemDir) -> io::Result<MemListing> {
        Ok(MemListing { ino: dir.ino })
    }

    fn next_entries(
        &self,
        listing: &mut MemListing,
        from: u64,
        sink: &mut dyn FnMut(RawEntry<'_>) -> bool,
    ) -> io::Result<()> {
        let entries: Vec<(u64, Name, Ino, Option<Kind>)> = {
            let state = self.state();
            let Some(dir) = state.disk.dir(listing.ino) else {
                return Ok(());
            };
            let own = [(1, &b"."[..], listing.ino), (2, b"..", dir.parent)];
            own.into_iter()
                .map(|(place, name, ino)| (place, Arc::from(name), ino))
                .chain(
                    dir.order
                        .iter()
                        .map(|(place, name)| (*place, Arc::clone(name), dir.entries[name].1)),
                )
                .filter(|(place, ..)| *place > from)
                .map(|(place, name, ino)| {
                    let kind = state.disk.get(ino).and_then(|i| Kind::from_mode(i.mode));
                    (place, name, ino, kind)
                })
                .collect()
        };
        for (next, name, ino, kind) in entries {
            let name = &name[..];
            if !sink(RawEntry {
                name,
                ino,
                kind,
                next,
            }) {
                break;
            }
        }
        Ok(())
    }

    fn statfs(&self) -> io::Result<StatFs> {
        let state = self.state();
        let blocks = state.capacity.unwrap_or(1 << 30);
        let free = blocks.saturating_sub(state.used);
        Ok(StatFs {
            block_size: PAGE as u64,
            blocks,
            blocks_free: free,
            blocks_available: free,
            files: 1 << 30,
            files_free: 1 << 29,
            name_max: 255,
        })
    }

    fn lock(&self, dir: &MemDir, name: &EntryName, exclusive: bool) -> io::Result<Option<MemLock>> {
        let mut state = self.state();
        let ino = match state.find(dir.ino, name.as_bytes()) {
            Ok(ino) => ino,
            Err(_) => {
                let body = Body::File(FileBody::default());
                state.create(dir.ino, name, libc::S_IFREG | 0o600, body)?
            }
        };
        let held = state.locks.entry(ino).or_default();
        if held.1 || (exclusive && held.0 > 0) {
            return Ok(None);
        }
        if exclusive {
            held.1 = true;
        } else {
            held.0 += 1;
        }
        Ok(Some(MemLock {
            mem: self.clone(),
            ino,
            exclusive,
        }))
    }
}
