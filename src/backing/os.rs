//! [`Os`]: the real thing.

use std::io::{self, IoSlice, IoSliceMut};
use std::num::NonZeroU64;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{
    Advice, AtFlags, FallocateFlags, FileType, FlockOperation, Mode, OFlags, RenameFlags, SeekFrom,
};
use rustix::io::{Errno, retry_on_intr};

use super::{
    Allocate, At, Backing, EntryName, OpenFile, OsListing, RawEntry, Rename, Seek, SetTime, Stat,
    StatFs, XattrMode, os_attr, os_dir, os_xattr, raw,
};

/// A directory of the system, by its path. Nothing outside of it, or mounted below it, is reached.
pub struct Os {
    root: OwnedFd,
    /// The filesystem that all of the tree must be on.
    dev: u64,
    access_times: bool,
    in_place: bool,
    place: String,
}

/// An open directory.
pub struct OsDir {
    pub(super) fd: OwnedFd,
    /// The directory may be searched but not read (its mode says so), so `fd` is only a place
    /// (`O_PATH`): entries can be reached by name, listing gives `EACCES`.
    pub(super) place_only: bool,
}

/// An open regular file.
pub struct OsFile(pub(super) OwnedFd);

/// A held flock.
pub struct OsLock(#[allow(dead_code)] OwnedFd);

const DIR_FLAGS: OFlags = OFlags::DIRECTORY
    .union(OFlags::NOFOLLOW)
    .union(OFlags::NOCTTY)
    .union(OFlags::CLOEXEC);
/// `O_NONBLOCK`: the open of a planted FIFO doesn't wait for a peer. It has no effect on a regular
/// file's reads and writes.
const FILE_FLAGS: OFlags = OFlags::NOFOLLOW
    .union(OFlags::NONBLOCK)
    .union(OFlags::NOCTTY)
    .union(OFlags::CLOEXEC);

/// Filesystems that write in place, by their numbers in linux/magic.h: ext4 (ext2 and ext3 too), XFS.
const IN_PLACE: [rustix::fs::FsWord; 2] = [0xef53, 0x5846_5342];

impl Os {
    /// The same tree, whose files' access times move as reads go, by the rules of the filesystem
    /// below (relatime and such). Without this, reading leaves them alone where the system lets it.
    #[must_use]
    pub fn with_access_times(self) -> Self {
        Self {
            access_times: true,
            ..self
        }
    }

    /// Opens the tree's root.
    ///
    /// # Errors
    /// Those of open(2); `ENOTDIR` when it is no directory.
    pub fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = retry_on_intr(|| rustix::fs::open(path, flags, Mode::empty()))?;
        let dev = rustix::fs::fstat(&root)?.st_dev;
        // The same directory by any way to it. Where that can't be told, as it was given.
        let full = path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
        let kind = rustix::fs::fstatfs(&root)?.f_type;
        Ok(Self {
            in_place: IN_PLACE.contains(&kind),
            root,
            dev,
            place: full.to_string_lossy().into_owned(),
            access_times: false,
        })
    }

    fn check_dev(&self, dev: u64) -> io::Result<()> {
        if dev == self.dev {
            Ok(())
        } else {
            Err(Errno::XDEV.into())
        }
    }
}

/// Tells the kernel what becomes of a range. Nothing of an empty one: 0 bytes would mean "to the end".
fn advise(file: &OsFile, offset: u64, len: u64, advice: Advice) {
    if let Some(len) = NonZeroU64::new(len) {
        let _ = rustix::fs::fadvise(&file.0, offset, Some(len), advice);
    }
}

/// Refuses what an entry shows that is no regular file, before it is opened: opening a device can
/// act on it (a tape rewinds, a watchdog starts).
fn check_before(dir: BorrowedFd<'_>, name: &EntryName) -> rustix::io::Result<()> {
    let stat = rustix::fs::statat(dir, name.c_str(), AtFlags::SYMLINK_NOFOLLOW)?;
    refuse_special(stat.st_mode)
}

fn refuse_special(mode: u32) -> rustix::io::Result<()> {
    match FileType::from_raw_mode(mode) {
        FileType::RegularFile => Ok(()),
        FileType::Symlink => Err(Errno::LOOP),
        FileType::Directory => Err(Errno::ISDIR),
        // What open(2) says of a socket.
        _ => Err(Errno::NXIO),
    }
}

fn open(
    dir: BorrowedFd<'_>,
    name: &EntryName,
    flags: OFlags,
    mode: u32,
) -> rustix::io::Result<OwnedFd> {
    let mode = Mode::from_raw_mode(mode & 0o7777);
    retry_on_intr(|| rustix::fs::openat(dir, name.c_str(), flags, mode))
}

/// Opens without touching the access time, where the caller may (owner or root).
fn open_noatime(
    dir: BorrowedFd<'_>,
    name: &EntryName,
    flags: OFlags,
) -> rustix::io::Result<OwnedFd> {
    match open(dir, name, flags | OFlags::NOATIME, 0) {
        Err(Errno::PERM) => open(dir, name, flags, 0),
        opened => opened,
    }
}

impl Backing for Os {
    type Dir = OsDir;
    type File = OsFile;
    type Listing = OsListing;
    type Lock = OsLock;

    fn place(&self) -> String {
        self.place.clone()
    }

    fn root(&self) -> io::Result<OsDir> {
        let fd = rustix::io::fcntl_dupfd_cloexec(&self.root, 0)?;
        Ok(OsDir {
            fd,
            place_only: false,
        })
    }

    fn open_dir(&self, dir: &OsDir, name: &EntryName) -> io::Result<OsDir> {
        let (fd, place_only) = match open(dir.fd.as_fd(), name, OFlags::RDONLY | DIR_FLAGS, 0) {
            Err(Errno::ACCESS) => (
                open(dir.fd.as_fd(), name, OFlags::PATH | DIR_FLAGS, 0)?,
                true,
            ),
            opened => (opened?, false),
        };
        self.check_dev(rustix::fs::fstat(&fd)?.st_dev)?;
        Ok(OsDir { fd, place_only })
    }

    fn stat(&self, dir: &OsDir, name: &EntryName) -> io::Result<Stat> {
        os_attr::stat(dir.fd.as_fd(), name.c_str(), AtFlags::SYMLINK_NOFOLLOW)
    }

    fn stat_dir(&self, dir: &OsDir) -> io::Result<Stat> {
        os_attr::stat(dir.fd.as_fd(), c"", AtFlags::EMPTY_PATH)
    }

    fn stat_file(&self, file: &OsFile) -> io::Result<Stat> {
        os_attr::stat(file.0.as_fd(), c"", AtFlags::EMPTY_PATH)
    }

    fn open_file(&self, dir: &OsDir, name: &EntryName, how: OpenFile) -> io::Result<OsFile> {
        self.open_file_stat(dir, name, how).map(|(file, _)| file)
    }

    fn open_file_stat(
        &self,
        dir: &OsDir,
        name: &EntryName,
        how: OpenFile,
    ) -> io::Result<(OsFile, Stat)> {
        let access = match how {
            OpenFile { write: false, .. } => OFlags::RDONLY,
            OpenFile {
                read: true,
                write: true,
            } => OFlags::RDWR,
            OpenFile {
                read: false,
                write: true,
            } => OFlags::WRONLY,
        };
        let dir = dir.fd.as_fd();
        check_before(dir, name)?;
        let flags = access | FILE_FLAGS;
        let opened = if self.access_times {
            open(dir, name, flags, 0)?
        } else {
            open_noatime(dir, name, flags)?
        };
        let file = OsFile(opened);
        let stat = self.stat_file(&file)?;
        // Only who owns the machine can have swapped it in between; a device's contents are kept out
        // all the same.
        refuse_special(stat.mode)?;
        Ok((file, stat))
    }

    fn create_file(&self, dir: &OsDir, name: &EntryName, mode: u32) -> io::Result<OsFile> {
        // No O_NOATIME: where the filesystem gives the new file another owner, the open would fail
        // after the file was made.
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | FILE_FLAGS;
        Ok(OsFile(open(dir.fd.as_fd(), name, flags, mode)?))
    }

    fn read_at(
        &self,
        file: &OsFile,
        mut bufs: &mut [IoSliceMut<'_>],
        mut offset: u64,
    ) -> io::Result<usize> {
        let mut total = 0;
        // Drops empty buffers at the front, so that a read of nothing is the end of the file.
        IoSliceMut::advance_slices(&mut bufs, 0);
        while !bufs.is_empty() {
            // rustix passes at most IOV_MAX buffers; the rest has its turn in the loop.
            let got = retry_on_intr(|| rustix::io::preadv(&file.0, bufs, offset))?;
            if got == 0 {
                break;
            }
            total += got;
            offset = offset.checked_add(got as u64).ok_or(Errno::OVERFLOW)?;
            IoSliceMut::advance_slices(&mut bufs, got);
        }
        Ok(total)
    }

    fn write_at(
        &self,
        file: &OsFile,
        mut bufs: &mut [IoSlice<'_>],
        mut offset: u64,
    ) -> io::Result<()> {
        IoSlice::advance_slices(&mut bufs, 0);
        while !bufs.is_empty() {
            let put = retry_on_intr(|| rustix::io::pwritev(&file.0, bufs, offset))?;
            if put == 0 {
                // Not allowed by POSIX for a regular file; never loop on it.
                return Err(Errno::IO.into());
            }
            offset = offset.checked_add(put as u64).ok_or(Errno::FBIG)?;
            IoSlice::advance_slices(&mut bufs, put);
        }
        Ok(())
    }

    fn truncate(&self, file: &OsFile, len: u64) -> io::Result<()> {
        Ok(retry_on_intr(|| rustix::fs::ftruncate(&file.0, len))?)
    }

    fn allocate(&self, file: &OsFile, what: Allocate, offset: u64, len: u64) -> io::Result<()> {
        let mode = match what {
            Allocate::Reserve => FallocateFlags::empty(),
            Allocate::ReserveKeepSize => FallocateFlags::KEEP_SIZE,
            Allocate::Punch => FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE,
        };
        Ok(retry_on_intr(|| {
            rustix::fs::fallocate(&file.0, mode, offset, len)
        })?)
    }

    fn seek(&self, file: &OsFile, what: Seek, offset: u64) -> io::Result<Option<u64>> {
        let from = match what {
            Seek::Data => SeekFrom::Data(offset),
            Seek::Hole => SeekFrom::Hole(offset),
        };
        // This moves the descriptor's position, which nothing uses.
        match rustix::fs::seek(&file.0, from) {
            Ok(found) => Ok(Some(found)),
            Err(Errno::NXIO) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn will_need(&self, file: &OsFile, offset: u64, len: u64) {
        advise(file, offset, len, Advice::WillNeed);
    }

    fn wont_need(&self, file: &OsFile, offset: u64, len: u64) {
        advise(file, offset, len, Advice::DontNeed);
    }

    fn writes_in_place(&self) -> bool {
        self.in_place
    }

    fn start_sync(&self, file: &OsFile) {
        // An error stays with the file, for the sync to say.
        let _ = raw::start_writing(file.0.as_fd());
    }

    fn sync_file(&self, file: &OsFile, data_only: bool) -> io::Result<()> {
        // Not repeated on EINTR: a failed sync may have dropped its error state.
        if data_only {
            rustix::fs::fdatasync(&file.0)?;
        } else {
            rustix::fs::fsync(&file.0)?;
        }
        Ok(())
    }

    fn sync_dir(&self, dir: &OsDir) -> io::Result<()> {
        if dir.place_only {
            return Err(Errno::ACCESS.into());
        }
        Ok(rustix::fs::fsync(&dir.fd)?)
    }

    fn sync_all(&self) -> io::Result<()> {
        Ok(rustix::fs::syncfs(&self.root)?)
    }

    fn mkdir(&self, dir: &OsDir, name: &EntryName, mode: u32) -> io::Result<()> {
        Ok(rustix::fs::mkdirat(
            &dir.fd,
            name.c_str(),
            Mode::from_raw_mode(mode & 0o7777),
        )?)
    }

    fn rmdir(&self, dir: &OsDir, name: &EntryName) -> io::Result<()> {
        Ok(rustix::fs::unlinkat(
            &dir.fd,
            name.c_str(),
            AtFlags::REMOVEDIR,
        )?)
    }

    fn unlink(&self, dir: &OsDir, name: &EntryName) -> io::Result<()> {
        Ok(rustix::fs::unlinkat(
            &dir.fd,
            name.c_str(),
            AtFlags::empty(),
        )?)
    }

    fn symlink(&self, dir: &OsDir, name: &EntryName, target: &[u8]) -> io::Result<()> {
        Ok(rustix::fs::symlinkat(target, &dir.fd, name.c_str())?)
    }

    fn readlink(&self, dir: &OsDir, name: &EntryName) -> io::Result<Vec<u8>> {
        Ok(rustix::fs::readlinkat(&dir.fd, name.c_str(), Vec::with_capacity(512))?.into_bytes())
    }

    fn link(
        &self,
        from_dir: &OsDir,
        from: &EntryName,
        to_dir: &OsDir,
        to: &EntryName,
    ) -> io::Result<()> {
        let flags = AtFlags::empty(); // no AT_SYMLINK_FOLLOW
        Ok(rustix::fs::linkat(
            &from_dir.fd,
            from.c_str(),
            &to_dir.fd,
            to.c_str(),
            flags,
        )?)
    }

    fn rename(
        &self,
        from_dir: &OsDir,
        from: &EntryName,
        to_dir: &OsDir,
        to: &EntryName,
        how: Rename,
    ) -> io::Result<()> {
        let (from_fd, to_fd, from, to) = (&from_dir.fd, &to_dir.fd, from.c_str(), to.c_str());
        let flags = match how {
            Rename::Plain => return Ok(rustix::fs::renameat(from_fd, from, to_fd, to)?),
            Rename::NoReplace => RenameFlags::NOREPLACE,
            Rename::Exchange => RenameFlags::EXCHANGE,
        };
        Ok(rustix::fs::renameat_with(from_fd, from, to_fd, to, flags)?)
    }

    fn mknod(&self, dir: &OsDir, name: &EntryName, mode: u32, rdev: u64) -> io::Result<()> {
        let kind = FileType::from_raw_mode(mode);
        let special = matches!(
            kind,
            FileType::Fifo | FileType::Socket | FileType::CharacterDevice | FileType::BlockDevice
        );
        // The system call takes 32 bits and would cut the rest off.
        if !special || u32::try_from(rdev).is_err() {
            return Err(Errno::INVAL.into());
        }
        let mode = Mode::from_raw_mode(mode & 0o7777);
        Ok(rustix::fs::mknodat(
            &dir.fd,
            name.c_str(),
            kind,
            mode,
            rdev,
        )?)
    }

    fn set_mode(&self, at: At<'_, Self>, mode: u32) -> io::Result<()> {
        os_attr::set_mode(at, Mode::from_raw_mode(mode & 0o7777))
    }

    fn set_owner(&self, at: At<'_, Self>, uid: Option<u32>, gid: Option<u32>) -> io::Result<()> {
        os_attr::set_owner(at, uid, gid)
    }

    fn set_times(&self, at: At<'_, Self>, atime: SetTime, mtime: SetTime) -> io::Result<()> {
        os_attr::set_times(at, atime, mtime)
    }

    fn get_xattr(&self, at: At<'_, Self>, name: &[u8]) -> io::Result<Option<Vec<u8>>> {
        os_xattr::get(at, name)
    }

    fn set_xattr(
        &self,
        at: At<'_, Self>,
        name: &[u8],
        value: &[u8],
        mode: XattrMode,
    ) -> io::Result<()> {
        os_xattr::set(at, name, value, mode)
    }

    fn list_xattr(&self, at: At<'_, Self>) -> io::Result<Vec<Vec<u8>>> {
        os_xattr::list(at)
    }

    fn remove_xattr(&self, at: At<'_, Self>, name: &[u8]) -> io::Result<()> {
        os_xattr::remove(at, name)
    }

    fn list(&self, dir: &OsDir) -> io::Result<OsListing> {
        // Reopened rather than duplicated: a duplicate shares the position.
        let flags = OFlags::RDONLY | DIR_FLAGS;
        let fd = match rustix::fs::openat(&dir.fd, c".", flags | OFlags::NOATIME, Mode::empty()) {
            Err(Errno::PERM) => rustix::fs::openat(&dir.fd, c".", flags, Mode::empty())?,
            opened => opened?,
        };
        Ok(OsListing::new(fd))
    }

    fn next_entries(
        &self,
        listing: &mut OsListing,
        from: u64,
        sink: &mut dyn FnMut(RawEntry<'_>) -> bool,
    ) -> io::Result<()> {
        os_dir::next_entries(listing, from, sink)
    }

    fn statfs(&self) -> io::Result<StatFs> {
        let s = rustix::fs::fstatvfs(&self.root)?;
        Ok(StatFs {
            block_size: s.f_frsize,
            blocks: s.f_blocks,
            blocks_free: s.f_bfree,
            blocks_available: s.f_bavail,
            files: s.f_files,
            files_free: s.f_ffree,
            name_max: s.f_namemax,
        })
    }

    fn lock(&self, dir: &OsDir, name: &EntryName, exclusive: bool) -> io::Result<Option<OsLock>> {
        let dir = dir.fd.as_fd();
        match check_before(dir, name) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(errno) => return Err(errno.into()),
        }
        let fd = match open(dir, name, OFlags::RDWR | OFlags::CREATE | FILE_FLAGS, 0o600) {
            // A filesystem or file that we may only read: flock works on that too.
            Err(Errno::ROFS | Errno::ACCESS | Errno::PERM) => {
                open(dir, name, OFlags::RDONLY | FILE_FLAGS, 0)?
            }
            opened => opened?,
        };
        // Refuses what was swapped in between.
        refuse_special(rustix::fs::fstat(&fd)?.st_mode)?;
        let how = if exclusive {
            FlockOperation::NonBlockingLockExclusive
        } else {
            FlockOperation::NonBlockingLockShared
        };
        match retry_on_intr(|| rustix::fs::flock(&fd, how)) {
            Ok(()) => Ok(Some(OsLock(fd))),
            Err(Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}
