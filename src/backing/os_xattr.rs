//! Extended attributes.
//!
//! The older system calls take a path, or a descriptor that isn't an `O_PATH` one; an entry that
//! is neither a regular file nor a directory has no such descriptor. Linux 6.13 brought calls with
//! a directory and a name. Before it an entry is reached as `/proc/self/fd/N/name`, with the calls
//! that don't follow a symlink at the end; the link `N` leads straight to the open directory,
//! whatever its path has become, but costs several times as much.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{Access, AtFlags, CWD, XattrFlags};
use rustix::io::Errno;
use rustix::path::Arg;

use super::os_attr::ProcPath;
use super::{At, Os, XattrMode, raw};

/// How a call reaches its inode.
enum Way<'a> {
    Fd(BorrowedFd<'a>),
    /// A directory and a name in it that isn't followed.
    Entry(BorrowedFd<'a>, &'a CStr),
    /// A path whose last part isn't followed.
    EntryPath(ProcPath),
    /// A path whose last part is the link to a descriptor.
    PlacePath(ProcPath),
}

/// The kernel doesn't have the calls with a directory and a name.
static NO_AT_CALLS: AtomicBool = AtomicBool::new(false);

/// Does as if the kernel didn't have the calls with a directory and a name.
#[cfg(test)]
pub(super) fn forget_at_calls() {
    NO_AT_CALLS.store(true, Ordering::Relaxed);
}

/// Makes a call, by the best way there is.
fn reach<T>(
    at: At<'_, Os>,
    mut call: impl FnMut(&Way<'_>) -> rustix::io::Result<T>,
) -> io::Result<T> {
    let way = match at {
        At::File(file) => Way::Fd(file.0.as_fd()),
        At::Dir(dir) if dir.place_only => Way::PlacePath(ProcPath::of(dir.fd.as_fd())),
        At::Dir(dir) => Way::Fd(dir.fd.as_fd()),
        At::Entry(dir, name) => {
            if !NO_AT_CALLS.load(Ordering::Relaxed) {
                match call(&Way::Entry(dir.fd.as_fd(), name.c_str())) {
                    Err(Errno::NOSYS) => NO_AT_CALLS.store(true, Ordering::Relaxed),
                    // A sandbox may answer an unknown call so; if it was the file, the other way
                    // says it again.
                    Err(Errno::PERM) => {}
                    done => return Ok(done?),
                }
            }
            Way::EntryPath(ProcPath::of_entry(dir.fd.as_fd(), name))
        }
    };
    call(&way).map_err(|errno| {
        // "No such file" must not be said of a file when it is /proc that isn't there.
        let proc_missing = errno == Errno::NOENT
            && !matches!(way, Way::Fd(_))
            && rustix::fs::accessat(CWD, c"/proc/self/fd", Access::EXISTS, AtFlags::empty())
                .is_err();
        if proc_missing {
            Errno::OPNOTSUPP.into()
        } else {
            errno.into()
        }
    })
}

/// What most values and lists fit in: asked for first, on the stack.
const USUAL: usize = 512;
/// The kernel's bound of a value and of a list (`XATTR_SIZE_MAX`, `XATTR_LIST_MAX`).
const MOST: usize = 64 * 1024;

/// Calls `fetch` with a buffer that is large enough, and gives what it put there to `take`.
fn with_enough_room<T>(
    mut fetch: impl FnMut(&mut [u8]) -> rustix::io::Result<usize>,
    take: impl FnOnce(&[u8]) -> T,
) -> rustix::io::Result<T> {
    let mut usual = [0; USUAL];
    match fetch(&mut usual) {
        Ok(len) => Ok(take(&usual[..len])),
        Err(Errno::RANGE) => {
            let mut large = vec![0; MOST];
            let len = fetch(&mut large)?;
            Ok(take(&large[..len]))
        }
        Err(errno) => Err(errno),
    }
}

pub(super) fn get(at: At<'_, Os>, name: &[u8]) -> io::Result<Option<Vec<u8>>> {
    name.into_with_c_str(|name| {
        Ok(reach(at, |way| {
            let fetch = |buf: &mut [u8]| match way {
                Way::Fd(fd) => rustix::fs::fgetxattr(fd, name, buf),
                Way::Entry(dir, entry) => raw::getxattrat(*dir, entry, name, buf),
                Way::EntryPath(path) => rustix::fs::lgetxattr(path.c_str(), name, buf),
                Way::PlacePath(path) => rustix::fs::getxattr(path.c_str(), name, buf),
            };
            match with_enough_room(fetch, <[u8]>::to_vec) {
                Err(Errno::NODATA) => Ok(None),
                got => got.map(Some),
            }
        }))
    })?
}

pub(super) fn set(at: At<'_, Os>, name: &[u8], value: &[u8], mode: XattrMode) -> io::Result<()> {
    let flags = match mode {
        XattrMode::Any => XattrFlags::empty(),
        XattrMode::Create => XattrFlags::CREATE,
        XattrMode::Replace => XattrFlags::REPLACE,
    };
    name.into_with_c_str(|name| {
        Ok(reach(at, |way| match way {
            Way::Fd(fd) => rustix::fs::fsetxattr(fd, name, value, flags),
            Way::Entry(dir, entry) => raw::setxattrat(*dir, entry, name, value, flags),
            Way::EntryPath(path) => rustix::fs::lsetxattr(path.c_str(), name, value, flags),
            Way::PlacePath(path) => rustix::fs::setxattr(path.c_str(), name, value, flags),
        }))
    })?
}

pub(super) fn list(at: At<'_, Os>) -> io::Result<Vec<Vec<u8>>> {
    let names = |list: &[u8]| {
        list.split(|&byte| byte == 0)
            .filter(|name| !name.is_empty())
            .map(<[u8]>::to_vec)
            .collect()
    };
    reach(at, |way| {
        let fetch = |buf: &mut [u8]| match way {
            Way::Fd(fd) => rustix::fs::flistxattr(fd, buf),
            Way::Entry(dir, entry) => raw::listxattrat(*dir, entry, buf),
            Way::EntryPath(path) => rustix::fs::llistxattr(path.c_str(), buf),
            Way::PlacePath(path) => rustix::fs::listxattr(path.c_str(), buf),
        };
        with_enough_room(fetch, names)
    })
}

pub(super) fn remove(at: At<'_, Os>, name: &[u8]) -> io::Result<()> {
    name.into_with_c_str(|name| {
        Ok(reach(at, |way| match way {
            Way::Fd(fd) => rustix::fs::fremovexattr(fd, name),
            Way::Entry(dir, entry) => raw::removexattrat(*dir, entry, name),
            Way::EntryPath(path) => rustix::fs::lremovexattr(path.c_str(), name),
            Way::PlacePath(path) => rustix::fs::removexattr(path.c_str(), name),
        }))
    })?
}
