//! System calls that rustix does not have: those with `AT_SYMLINK_NOFOLLOW` that came late (nor has
//! them libc), and `sync_file_range`.
//!
//! The numbers are the same on every architecture that Rust's Linux targets have: all calls since
//! Linux 5.1 are numbered alike.
#![allow(unsafe_code)] // the calls themselves

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::fs::{Mode, XattrFlags};
use rustix::io::Errno;

/// Linux 6.6.
const FCHMODAT2: libc::c_long = 452;
/// Linux 6.13, as the next three.
const SETXATTRAT: libc::c_long = 463;
const GETXATTRAT: libc::c_long = 464;
const LISTXATTRAT: libc::c_long = 465;
const REMOVEXATTRAT: libc::c_long = 466;

/// `struct xattr_args` of linux/xattr.h.
#[repr(C, align(8))]
struct XattrArgs {
    /// The value's address.
    value: u64,
    size: u32,
    flags: u32,
}

/// The result of a call, or the errno it left.
fn outcome(result: libc::c_long) -> rustix::io::Result<usize> {
    usize::try_from(result).map_err(|_| {
        let error = io::Error::last_os_error();
        Errno::from_io_error(&error).unwrap_or(Errno::IO)
    })
}

fn size32(len: usize) -> rustix::io::Result<u32> {
    u32::try_from(len).map_err(|_| Errno::TOOBIG)
}

/// Starts writing all of a file's dirty pages, and waits for none.
pub(super) fn start_writing(file: BorrowedFd<'_>) -> rustix::io::Result<()> {
    // SAFETY: the descriptor lives through the call, which touches no memory of ours.
    let result =
        unsafe { libc::sync_file_range(file.as_raw_fd(), 0, 0, libc::SYNC_FILE_RANGE_WRITE) };
    outcome(result.into()).map(drop)
}

/// Sets the mode of an entry; `EOPNOTSUPP` for a symlink.
pub(super) fn fchmodat2(dir: BorrowedFd<'_>, name: &CStr, mode: Mode) -> rustix::io::Result<()> {
    // SAFETY: the descriptor and the NUL-ended name live through the call, which writes no memory.
    let result = unsafe {
        libc::syscall(
            FCHMODAT2,
            dir.as_raw_fd(),
            name.as_ptr(),
            mode.as_raw_mode(),
            libc::AT_SYMLINK_NOFOLLOW,
        )
    };
    outcome(result).map(drop)
}

/// Reads an entry's extended attribute into `buf`; its length.
pub(super) fn getxattrat(
    dir: BorrowedFd<'_>,
    name: &CStr,
    attribute: &CStr,
    buf: &mut [u8],
) -> rustix::io::Result<usize> {
    let mut args = XattrArgs {
        value: buf.as_mut_ptr() as u64,
        size: size32(buf.len())?,
        flags: 0,
    };
    // SAFETY: the descriptor, the NUL-ended names, the arguments and the buffer that they point to
    // live through the call; it writes at most `size` bytes, all of them in the buffer.
    let result = unsafe {
        libc::syscall(
            GETXATTRAT,
            dir.as_raw_fd(),
            name.as_ptr(),
            libc::AT_SYMLINK_NOFOLLOW,
            attribute.as_ptr(),
            &raw mut args,
            size_of::<XattrArgs>(),
        )
    };
    outcome(result)
}

/// Sets an entry's extended attribute.
pub(super) fn setxattrat(
    dir: BorrowedFd<'_>,
    name: &CStr,
    attribute: &CStr,
    value: &[u8],
    flags: XattrFlags,
) -> rustix::io::Result<()> {
    let args = XattrArgs {
        value: value.as_ptr() as u64,
        size: size32(value.len())?,
        flags: flags.bits(),
    };
    // SAFETY: the descriptor, the NUL-ended names, the arguments and the value that they point to
    // live through the call, which writes no memory.
    let result = unsafe {
        libc::syscall(
            SETXATTRAT,
            dir.as_raw_fd(),
            name.as_ptr(),
            libc::AT_SYMLINK_NOFOLLOW,
            attribute.as_ptr(),
            &raw const args,
            size_of::<XattrArgs>(),
        )
    };
    outcome(result).map(drop)
}

/// Lists an entry's extended attributes into `buf`, each name ended by a NUL; the list's length.
pub(super) fn listxattrat(
    dir: BorrowedFd<'_>,
    name: &CStr,
    buf: &mut [u8],
) -> rustix::io::Result<usize> {
    // SAFETY: the descriptor, the NUL-ended name and the buffer live through the call; it writes at
    // most `buf.len()` bytes to the buffer.
    let result = unsafe {
        libc::syscall(
            LISTXATTRAT,
            dir.as_raw_fd(),
            name.as_ptr(),
            libc::AT_SYMLINK_NOFOLLOW,
            buf.as_mut_ptr(),
            buf.len(),
        )
    };
    outcome(result)
}

/// Removes an entry's extended attribute.
pub(super) fn removexattrat(
    dir: BorrowedFd<'_>,
    name: &CStr,
    attribute: &CStr,
) -> rustix::io::Result<()> {
    // SAFETY: the descriptor and the NUL-ended names live through the call, which writes no memory.
    let result = unsafe {
        libc::syscall(
            REMOVEXATTRAT,
            dir.as_raw_fd(),
            name.as_ptr(),
            libc::AT_SYMLINK_NOFOLLOW,
            attribute.as_ptr(),
        )
    };
    outcome(result).map(drop)
}
