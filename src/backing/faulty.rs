//! [`Faulty`]: a backing whose calls are counted and fail on demand.
//!
//! Tests put it below a volume to see what a full disk, a dying disk or a crash at any instant
//! leaves behind. The controls ([`Faults`]) are shared, so that a test keeps them while the volume
//! owns the backing. With nothing armed a call costs three atomic operations more.

use std::io::{self, IoSlice, IoSliceMut};
use std::sync::Arc;

use super::{
    Allocate, At, Backing, Call, EntryName, Faults, OpenFile, RawEntry, Rename, Seek, SetTime,
    Stat, StatFs, XattrMode,
};

/// A backing whose calls are counted and fail on demand.
pub struct Faulty<B> {
    inner: B,
    faults: Arc<Faults>,
}

impl<B: Backing> Faulty<B> {
    /// Wraps a backing; nothing fails yet.
    pub fn new(inner: B) -> Self {
        Self {
            inner,
            faults: Arc::default(),
        }
    }

    /// The counters and controls.
    pub fn faults(&self) -> Arc<Faults> {
        Arc::clone(&self.faults)
    }

    /// The backing inside, past counters and faults.
    pub fn inner(&self) -> &B {
        &self.inner
    }

    fn check(&self, call: Call) -> io::Result<&B> {
        self.faults.check(call)?;
        Ok(&self.inner)
    }

    /// Writes what a write that is made to fail leaves behind.
    fn write_torn(&self, file: &B::File, bufs: &[IoSlice<'_>], offset: u64) {
        let mut left = self.faults.torn();
        let mut part = Vec::new();
        for buf in bufs {
            let take = left.min(buf.len() as u64);
            left -= take;
            part.push(IoSlice::new(&buf[..take as usize]));
        }
        // It fails in any case.
        let _ = self.inner.write_at(file, &mut part, offset);
    }
}

fn inner_at<B: Backing>(at: At<'_, Faulty<B>>) -> At<'_, B> {
    match at {
        At::Entry(dir, name) => At::Entry(dir, name),
        At::Dir(dir) => At::Dir(dir),
        At::File(file) => At::File(file),
    }
}

impl<B: Backing> Backing for Faulty<B> {
    type Dir = B::Dir;
    type File = B::File;
    type Listing = B::Listing;
    type Lock = B::Lock;

    fn place(&self) -> String {
        self.inner.place()
    }

    fn root(&self) -> io::Result<B::Dir> {
        self.check(Call::Root)?.root()
    }

    fn open_dir(&self, dir: &B::Dir, name: &EntryName) -> io::Result<B::Dir> {
        self.check(Call::OpenDir)?.open_dir(dir, name)
    }

    fn stat(&self, dir: &B::Dir, name: &EntryName) -> io::Result<Stat> {
        self.check(Call::Stat)?.stat(dir, name)
    }

    fn stat_dir(&self, dir: &B::Dir) -> io::Result<Stat> {
        self.check(Call::StatDir)?.stat_dir(dir)
    }

    fn stat_file(&self, file: &B::File) -> io::Result<Stat> {
        self.check(Call::StatFile)?.stat_file(file)
    }

    fn open_file(&self, dir: &B::Dir, name: &EntryName, how: OpenFile) -> io::Result<B::File> {
        self.check(Call::OpenFile)?.open_file(dir, name, how)
    }

    fn create_file(&self, dir: &B::Dir, name: &EntryName, mode: u32) -> io::Result<B::File> {
        self.check(Call::CreateFile)?.create_file(dir, name, mode)
    }

    fn read_at(
        &self,
        file: &B::File,
        bufs: &mut [IoSliceMut<'_>],
        offset: u64,
    ) -> io::Result<usize> {
        self.check(Call::ReadAt)?.read_at(file, bufs, offset)
    }

    fn write_at(&self, file: &B::File, bufs: &mut [IoSlice<'_>], offset: u64) -> io::Result<()> {
        match self.check(Call::WriteAt) {
            Ok(inner) => inner.write_at(file, bufs, offset),
            Err(error) => {
                self.write_torn(file, bufs, offset);
                Err(error)
            }
        }
    }

    fn truncate(&self, file: &B::File, len: u64) -> io::Result<()> {
        self.check(Call::Truncate)?.truncate(file, len)
    }

    fn allocate(&self, file: &B::File, what: Allocate, offset: u64, len: u64) -> io::Result<()> {
        self.check(Call::Allocate)?
            .allocate(file, what, offset, len)
    }

    fn seek(&self, file: &B::File, what: Seek, offset: u64) -> io::Result<Option<u64>> {
        self.check(Call::Seek)?.seek(file, what, offset)
    }

    fn will_need(&self, file: &B::File, offset: u64, len: u64) {
        self.faults.note_advice();
        self.inner.will_need(file, offset, len); // advice can't fail
    }

    fn wont_need(&self, file: &B::File, offset: u64, len: u64) {
        self.inner.wont_need(file, offset, len);
    }

    fn writes_in_place(&self) -> bool {
        self.inner.writes_in_place()
    }

    fn start_sync(&self, file: &B::File) {
        self.inner.start_sync(file);
    }

    fn sync_file(&self, file: &B::File, data_only: bool) -> io::Result<()> {
        self.check(Call::SyncFile)?.sync_file(file, data_only)
    }

    fn sync_dir(&self, dir: &B::Dir) -> io::Result<()> {
        self.check(Call::SyncDir)?.sync_dir(dir)
    }

    fn sync_all(&self) -> io::Result<()> {
        self.check(Call::SyncAll)?.sync_all()
    }

    fn mkdir(&self, dir: &B::Dir, name: &EntryName, mode: u32) -> io::Result<()> {
        self.check(Call::Mkdir)?.mkdir(dir, name, mode)
    }

    fn rmdir(&self, dir: &B::Dir, name: &EntryName) -> io::Result<()> {
        self.check(Call::Rmdir)?.rmdir(dir, name)
    }

    fn unlink(&self, dir: &B::Dir, name: &EntryName) -> io::Result<()> {
        self.check(Call::Unlink)?.unlink(dir, name)
    }

    fn symlink(&self, dir: &B::Dir, name: &EntryName, target: &[u8]) -> io::Result<()> {
        self.check(Call::Symlink)?.symlink(dir, name, target)
    }

    fn readlink(&self, dir: &B::Dir, name: &EntryName) -> io::Result<Vec<u8>> {
        self.check(Call::Readlink)?.readlink(dir, name)
    }

    fn link(
        &self,
        from_dir: &B::Dir,
        from: &EntryName,
        to_dir: &B::Dir,
        to: &EntryName,
    ) -> io::Result<()> {
        self.check(Call::Link)?.link(from_dir, from, to_dir, to)
    }

    fn rename(
        &self,
        from_dir: &B::Dir,
        from: &EntryName,
        to_dir: &B::Dir,
        to: &EntryName,
        how: Rename,
    ) -> io::Result<()> {
        self.check(Call::Rename)?
            .rename(from_dir, from, to_dir, to, how)
    }

    fn mknod(&self, dir: &B::Dir, name: &EntryName, mode: u32, rdev: u64) -> io::Result<()> {
        self.check(Call::Mknod)?.mknod(dir, name, mode, rdev)
    }

    fn set_mode(&self, at: At<'_, Self>, mode: u32) -> io::Result<()> {
        self.check(Call::SetMode)?.set_mode(inner_at(at), mode)
    }

    fn set_owner(&self, at: At<'_, Self>, uid: Option<u32>, gid: Option<u32>) -> io::Result<()> {
        self.check(Call::SetOwner)?
            .set_owner(inner_at(at), uid, gid)
    }

    fn set_times(&self, at: At<'_, Self>, atime: SetTime, mtime: SetTime) -> io::Result<()> {
        self.check(Call::SetTimes)?
            .set_times(inner_at(at), atime, mtime)
    }

    fn get_xattr(&self, at: At<'_, Self>, name: &[u8]) -> io::Result<Option<Vec<u8>>> {
        self.check(Call::GetXattr)?.get_xattr(inner_at(at), name)
    }

    fn set_xattr(
        &self,
        at: At<'_, Self>,
        name: &[u8],
        value: &[u8],
        mode: XattrMode,
    ) -> io::Result<()> {
        self.check(Call::SetXattr)?
            .set_xattr(inner_at(at), name, value, mode)
    }

    fn list_xattr(&self, at: At<'_, Self>) -> io::Result<Vec<Vec<u8>>> {
        self.check(Call::ListXattr)?.list_xattr(inner_at(at))
    }

    fn remove_xattr(&self, at: At<'_, Self>, name: &[u8]) -> io::Result<()> {
        self.check(Call::RemoveXattr)?
            .remove_xattr(inner_at(at), name)
    }

    fn list(&self, dir: &B::Dir) -> io::Result<B::Listing> {
        self.check(Call::List)?.list(dir)
    }

    fn next_entries(
        &self,
        listing: &mut B::Listing,
        from: u64,
        sink: &mut dyn FnMut(RawEntry<'_>) -> bool,
    ) -> io::Result<()> {
        self.check(Call::NextEntries)?
            .next_entries(listing, from, sink)
    }

    fn statfs(&self) -> io::Result<StatFs> {
        self.check(Call::StatFs)?.statfs()
    }

    fn lock(&self, dir: &B::Dir, name: &EntryName, exclusive: bool) -> io::Result<Option<B::Lock>> {
        self.check(Call::Lock)?.lock(dir, name, exclusive)
    }
}
