//! Attributes: stat, mode, owner, times.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{
    AtFlags, CWD, FileType, Gid, Mode, OFlags, StatxFlags, StatxTimestamp, Timespec, Timestamps,
    UTIME_NOW, UTIME_OMIT, Uid,
};
use rustix::io::Errno;

use super::{At, EntryName, Os, SetTime, Stat, Time, raw};

pub(super) fn stat(fd: BorrowedFd<'_>, name: &CStr, flags: AtFlags) -> io::Result<Stat> {
    let mask = StatxFlags::BASIC_STATS | StatxFlags::BTIME;
    let s = rustix::fs::statx(fd, name, flags | AtFlags::NO_AUTOMOUNT, mask)?;
    let time = |t: StatxTimestamp| Time {
        secs: t.tv_sec,
        nanos: t.tv_nsec,
    };
    let knows_btime = StatxFlags::from_bits_retain(s.stx_mask).contains(StatxFlags::BTIME);
    Ok(Stat {
        dev: rustix::fs::makedev(s.stx_dev_major, s.stx_dev_minor),
        ino: s.stx_ino,
        mode: u32::from(s.stx_mode),
        nlink: s.stx_nlink,
        uid: s.stx_uid,
        gid: s.stx_gid,
        rdev: rustix::fs::makedev(s.stx_rdev_major, s.stx_rdev_minor),
        size: s.stx_size,
        blocks: s.stx_blocks,
        blksize: s.stx_blksize,
        atime: time(s.stx_atime),
        mtime: time(s.stx_mtime),
        ctime: time(s.stx_ctime),
        btime: if knows_btime {
            time(s.stx_btime)
        } else {
            Time::default()
        },
    })
}

pub(super) fn set_mode(at: At<'_, Os>, mode: Mode) -> io::Result<()> {
    match at {
        At::Entry(dir, name) => set_mode_of_entry(dir.fd.as_fd(), name, mode),
        At::Dir(dir) if dir.place_only => Ok(rustix::fs::chmodat(
            CWD,
            ProcPath::of(dir.fd.as_fd()).c_str(),
            mode,
            AtFlags::empty(),
        )?),
        At::Dir(dir) => Ok(rustix::fs::fchmod(&dir.fd, mode)?),
        At::File(file) => Ok(rustix::fs::fchmod(&file.0, mode)?),
    }
}

/// The kernel has no fchmodat2 (before Linux 6.6).
static NO_FCHMODAT2: AtomicBool = AtomicBool::new(false);

fn set_mode_of_entry(dir: BorrowedFd<'_>, name: &EntryName, mode: Mode) -> io::Result<()> {
    if !NO_FCHMODAT2.load(Ordering::Relaxed) {
        match raw::fchmodat2(dir, name.c_str(), mode) {
            Err(Errno::NOSYS) => NO_FCHMODAT2.store(true, Ordering::Relaxed),
            // A sandbox may answer an unknown call so; if it was the file, the other way says it again.
            Err(Errno::PERM) => {}
            done => return Ok(done?),
        }
    }
    set_mode_through_proc(dir, name, mode)
}

/// fchmodat(2) takes no `AT_SYMLINK_NOFOLLOW`: pin the inode, look what it is, change that one.
pub(super) fn set_mode_through_proc(
    dir: BorrowedFd<'_>,
    name: &EntryName,
    mode: Mode,
) -> io::Result<()> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd = rustix::fs::openat(dir, name.c_str(), flags, Mode::empty())?;
    if FileType::from_raw_mode(rustix::fs::fstat(&fd)?.st_mode) == FileType::Symlink {
        return Err(Errno::OPNOTSUPP.into());
    }
    Ok(rustix::fs::chmodat(
        CWD,
        ProcPath::of(fd.as_fd()).c_str(),
        mode,
        AtFlags::empty(),
    )?)
}

pub(super) fn set_owner(at: At<'_, Os>, uid: Option<u32>, gid: Option<u32>) -> io::Result<()> {
    // The all-ones id means "leave it" to the system.
    if uid == Some(u32::MAX) || gid == Some(u32::MAX) {
        return Err(Errno::INVAL.into());
    }
    let (uid, gid) = (uid.map(Uid::from_raw), gid.map(Gid::from_raw));
    match at {
        At::Entry(dir, name) => {
            rustix::fs::chownat(&dir.fd, name.c_str(), uid, gid, AtFlags::SYMLINK_NOFOLLOW)?;
        }
        // Works on an O_PATH descriptor, unlike fchown.
        At::Dir(dir) => rustix::fs::chownat(&dir.fd, c"", uid, gid, AtFlags::EMPTY_PATH)?,
        At::File(file) => rustix::fs::fchown(&file.0, uid, gid)?,
    }
    Ok(())
}

pub(super) fn set_times(at: At<'_, Os>, atime: SetTime, mtime: SetTime) -> io::Result<()> {
    let times = Timestamps {
        last_access: timespec(atime)?,
        last_modification: timespec(mtime)?,
    };
    match at {
        At::Entry(dir, name) => {
            rustix::fs::utimensat(&dir.fd, name.c_str(), &times, AtFlags::SYMLINK_NOFOLLOW)?;
        }
        At::Dir(dir) if dir.place_only => {
            let path = ProcPath::of(dir.fd.as_fd());
            rustix::fs::utimensat(CWD, path.c_str(), &times, AtFlags::empty())?;
        }
        At::Dir(dir) => rustix::fs::futimens(&dir.fd, &times)?,
        At::File(file) => rustix::fs::futimens(&file.0, &times)?,
    }
    Ok(())
}

fn timespec(time: SetTime) -> io::Result<Timespec> {
    Ok(match time {
        SetTime::Omit => Timespec {
            tv_sec: 0,
            tv_nsec: UTIME_OMIT,
        },
        SetTime::Now => Timespec {
            tv_sec: 0,
            tv_nsec: UTIME_NOW,
        },
        // UTIME_NOW and UTIME_OMIT lie above 10^9: a wrong time must not become one of them.
        SetTime::At(Time {
            nanos: 1_000_000_000..,
            ..
        }) => return Err(Errno::INVAL.into()),
        SetTime::At(Time { secs, nanos }) => Timespec {
            tv_sec: secs,
            tv_nsec: nanos.into(),
        },
    })
}

/// `/proc/self/fd/N` or `/proc/self/fd/N/name`: the way to the calls that take a path only, or no
/// `O_PATH` descriptor. Held in place.
pub(super) struct ProcPath {
    /// The path, then zeros: at least one.
    bytes: [u8; Self::LEN],
}

impl ProcPath {
    const PREFIX: &'static [u8] = b"/proc/self/fd/";
    /// The prefix, a number, a slash, a name, the NUL.
    const LEN: usize = Self::PREFIX.len() + 10 + 1 + EntryName::MAX + 1;

    /// The file behind a descriptor: the system follows this link, and this link only.
    pub(super) fn of(fd: BorrowedFd<'_>) -> Self {
        Self::build(fd, b"")
    }

    /// An entry of the directory behind a descriptor.
    pub(super) fn of_entry(dir: BorrowedFd<'_>, name: &EntryName) -> Self {
        Self::build(dir, name.as_bytes())
    }

    fn build(fd: BorrowedFd<'_>, name: &[u8]) -> Self {
        let mut bytes = [0; Self::LEN];
        let mut len = 0;
        let mut put = |part: &[u8]| {
            bytes[len..len + part.len()].copy_from_slice(part);
            len += part.len();
        };
        put(Self::PREFIX);
        put(rustix::path::DecInt::from_fd(fd).as_bytes());
        if !name.is_empty() {
            put(b"/");
            put(name);
        }
        Self { bytes }
    }

    pub(super) fn c_str(&self) -> &CStr {
        // There is always a NUL after the path and none in it.
        CStr::from_bytes_until_nul(&self.bytes).unwrap_or_default()
    }
}
