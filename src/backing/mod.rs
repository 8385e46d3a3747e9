//! The only system calls on the cipher directory.
//!
//! [`Backing`] is the face: directories, files and entries named by one path component each, with
//! raw errnos as [`io::Error`]s (`raw_os_error` is always set). [`Os`] is the real one, [`Faulty`]
//! wraps another and makes calls fail on demand.
//!
//! The cipher directory is not trusted: whoever can write to it may have planted symlinks, FIFOs,
//! devices or mount points. So an implementation
//! - takes no paths, only an open directory and one [`EntryName`]: nothing can lead out of the tree;
//! - follows no symlink in any call;
//! - opens regular files and directories only, the latter on the root's own filesystem, and never
//!   blocks on opening.
//!
//! Modes given to calls that create something are subject to the process's umask; a mount sets
//! that to 0.

mod entry;
mod faults;
mod faulty;
mod os;
mod os_attr;
mod os_dir;
mod os_xattr;
mod raw;
mod types;

use std::io::{self, IoSlice, IoSliceMut};

pub use entry::EntryName;
pub use faults::{Call, Calls, Faults, Repeat};
pub use faulty::Faulty;
pub use os::{Os, OsDir, OsFile, OsLock};
pub use os_dir::OsListing;
pub use types::{
    Allocate, At, Kind, OpenFile, RawEntry, Rename, Seek, SetTime, Stat, StatFs, Time, XattrMode,
};

/// A tree of files below one directory.
///
/// All calls may be made from many threads at once. Offsets and lengths are in bytes; those above
/// `i64::MAX` give `EINVAL` or `EFBIG` as the system does.
pub trait Backing: Send + Sync + 'static {
    /// An open directory.
    type Dir: Send + Sync + 'static;
    /// An open regular file.
    type File: Send + Sync + 'static;
    /// A position of its own in a directory's stream of entries.
    type Listing: Send + 'static;
    /// A held lock; given up on drop.
    type Lock: Send + Sync + 'static;

    /// The directory that the tree is in, for people; empty where there is none to tell of.
    fn place(&self) -> String {
        String::new()
    }

    /// Opens the root of the tree.
    fn root(&self) -> io::Result<Self::Dir>;

    /// Opens a directory.
    ///
    /// # Errors
    /// `ENOTDIR` or `ELOOP` for a symlink, `ENOTDIR` for anything else that is no directory,
    /// `EXDEV` when it is on another filesystem than the root (something is mounted on it).
    fn open_dir(&self, dir: &Self::Dir, name: &EntryName) -> io::Result<Self::Dir>;

    /// Attributes of an entry; those of a symlink itself.
    fn stat(&self, dir: &Self::Dir, name: &EntryName) -> io::Result<Stat>;
    /// Attributes of an open directory.
    fn stat_dir(&self, dir: &Self::Dir) -> io::Result<Stat>;
    /// Attributes of an open file.
    fn stat_file(&self, file: &Self::File) -> io::Result<Stat>;

    /// Opens an existing regular file. Reading through it leaves its access time alone where the
    /// system allows that (the owner and root).
    ///
    /// # Errors
    /// `ELOOP` for a symlink, `EISDIR` for a directory, `ENXIO` for a FIFO, a socket or a device;
    /// the open never blocks.
    fn open_file(&self, dir: &Self::Dir, name: &EntryName, how: OpenFile)
    -> io::Result<Self::File>;

    /// As [`Backing::open_file`]; also the attributes of what was opened.
    ///
    /// # Errors
    /// As those.
    fn open_file_stat(
        &self,
        dir: &Self::Dir,
        name: &EntryName,
        how: OpenFile,
    ) -> io::Result<(Self::File, Stat)> {
        let file = self.open_file(dir, name, how)?;
        let stat = self.stat_file(&file)?;
        Ok((file, stat))
    }

    /// Makes a new regular file and opens it for reading and writing; `EEXIST` when there is
    /// anything by that name.
    fn create_file(&self, dir: &Self::Dir, name: &EntryName, mode: u32) -> io::Result<Self::File>;

    /// Fills the buffers in order, from `offset` on, until they are full or the file ends; the
    /// number of bytes read. `bufs` is used up: its slices are not to be relied on afterwards.
    fn read_at(
        &self,
        file: &Self::File,
        bufs: &mut [IoSliceMut<'_>],
        offset: u64,
    ) -> io::Result<usize>;

    /// Writes all the buffers in order, from `offset` on. On an error some leading bytes may have
    /// been written. `bufs` is used up.
    fn write_at(&self, file: &Self::File, bufs: &mut [IoSlice<'_>], offset: u64) -> io::Result<()>;

    /// Cuts or extends (with a hole) to `len` bytes.
    fn truncate(&self, file: &Self::File, len: u64) -> io::Result<()>;

    /// fallocate(2).
    ///
    /// # Errors
    /// `EOPNOTSUPP` where the lower filesystem can't.
    fn allocate(&self, file: &Self::File, what: Allocate, offset: u64, len: u64) -> io::Result<()>;

    /// Where the next data or hole begins, at or after `offset`; None when there is none before
    /// the end of the file (`ENXIO`).
    fn seek(&self, file: &Self::File, what: Seek, offset: u64) -> io::Result<Option<u64>>;

    /// Tells that a range will be read soon. Only advice: starts reading it, and waits for nothing.
    fn will_need(&self, file: &Self::File, offset: u64, len: u64);

    /// Tells that a range will not be read again soon: memory need not hold it. Only advice; may
    /// start writing what of it isn't on the disk.
    fn wont_need(&self, file: &Self::File, offset: u64, len: u64);

    /// Whether what is written over allocated bytes of a file takes their place on the disk, and
    /// costs less the second time.
    fn writes_in_place(&self) -> bool;

    /// Has the disk begin with what of a file isn't on it yet, and waits for nothing: a
    /// [`Backing::sync_file`] to come finds less to do. Only advice.
    fn start_sync(&self, file: &Self::File);
    /// Makes a file's contents durable; without `data_only` its attributes too.
    fn sync_file(&self, file: &Self::File, data_only: bool) -> io::Result<()>;
    /// Makes a directory's entries durable.
    fn sync_dir(&self, dir: &Self::Dir) -> io::Result<()>;
    /// Makes the whole filesystem below durable (syncfs).
    fn sync_all(&self) -> io::Result<()>;

    /// Makes a directory.
    fn mkdir(&self, dir: &Self::Dir, name: &EntryName, mode: u32) -> io::Result<()>;
    /// Removes an empty directory.
    fn rmdir(&self, dir: &Self::Dir, name: &EntryName) -> io::Result<()>;
    /// Removes an entry that is no directory.
    fn unlink(&self, dir: &Self::Dir, name: &EntryName) -> io::Result<()>;
    /// Makes a symlink. `ENAMETOOLONG` for a target of more than 4095 bytes, `ENOENT` for an empty
    /// one.
    fn symlink(&self, dir: &Self::Dir, name: &EntryName, target: &[u8]) -> io::Result<()>;
    /// A symlink's target; `EINVAL` for anything else.
    fn readlink(&self, dir: &Self::Dir, name: &EntryName) -> io::Result<Vec<u8>>;

    /// Gives an entry (a symlink itself, not its target) a second name.
    fn link(
        &self,
        from_dir: &Self::Dir,
        from: &EntryName,
        to_dir: &Self::Dir,
        to: &EntryName,
    ) -> io::Result<()>;

    /// Renames, atomically.
    fn rename(
        &self,
        from_dir: &Self::Dir,
        from: &EntryName,
        to_dir: &Self::Dir,
        to: &EntryName,
        how: Rename,
    ) -> io::Result<()>;

    /// Makes a FIFO, a socket or a device, by the type bits in `mode`; `rdev` as in
    /// [`Stat::rdev`].
    ///
    /// # Errors
    /// `EINVAL` for another type, or for an `rdev` of more than 32 bits.
    fn mknod(&self, dir: &Self::Dir, name: &EntryName, mode: u32, rdev: u64) -> io::Result<()>;

    /// Sets the permission bits (07777).
    ///
    /// # Errors
    /// `EOPNOTSUPP` for a symlink.
    fn set_mode(&self, at: At<'_, Self>, mode: u32) -> io::Result<()>;
    /// Sets owner and group; None leaves one as it is.
    fn set_owner(&self, at: At<'_, Self>, uid: Option<u32>, gid: Option<u32>) -> io::Result<()>;
    /// Sets the times of last access and last modification.
    fn set_times(&self, at: At<'_, Self>, atime: SetTime, mtime: SetTime) -> io::Result<()>;

    /// The value of an extended attribute; None when it isn't there.
    fn get_xattr(&self, at: At<'_, Self>, name: &[u8]) -> io::Result<Option<Vec<u8>>>;
    /// Sets an extended attribute.
    fn set_xattr(
        &self,
        at: At<'_, Self>,
        name: &[u8],
        value: &[u8],
        mode: XattrMode,
    ) -> io::Result<()>;
    /// The names of all extended attributes that the caller may see.
    fn list_xattr(&self, at: At<'_, Self>) -> io::Result<Vec<Vec<u8>>>;
    /// Removes an extended attribute; `ENODATA` when it isn't there.
    fn remove_xattr(&self, at: At<'_, Self>, name: &[u8]) -> io::Result<()>;

    /// Starts a listing with a position of its own.
    fn list(&self, dir: &Self::Dir) -> io::Result<Self::Listing>;

    /// Gives the entries after position `from` (0: the start; else a [`RawEntry::next`] of this
    /// directory, also from an earlier listing of it) to `sink`, `.` and `..` among them, until
    /// there are no more or `sink` answers false. An entry answered with false counts as not given.
    ///
    /// An entry that exists all the while is given exactly once, whatever comes and goes. Going on
    /// from where the last call ended costs no seek and loses no entries already read; `from` 0
    /// always reads anew.
    fn next_entries(
        &self,
        listing: &mut Self::Listing,
        from: u64,
        sink: &mut dyn FnMut(RawEntry<'_>) -> bool,
    ) -> io::Result<()>;

    /// Sizes of the filesystem below.
    fn statfs(&self) -> io::Result<StatFs>;

    /// Takes an advisory lock (flock) on a regular file, made if missing, without waiting; None
    /// when someone else holds one that excludes it. It ends when the [`Backing::Lock`] is dropped
    /// or the process dies; a forked child shares it.
    fn lock(
        &self,
        dir: &Self::Dir,
        name: &EntryName,
        exclusive: bool,
    ) -> io::Result<Option<Self::Lock>>;
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_dir;
#[cfg(test)]
mod tests_faulty;
#[cfg(test)]
mod tests_hostile;
