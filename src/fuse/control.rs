//! Control calls: an ioctl on any file or directory of a mount reaches the process behind it.
//!
//! The kernel moves a frame of 4096 bytes in and out: the length of a message (4 bytes, little
//! endian) and the message, JSON text that this room doesn't look into. Further ioctls: the process
//! id of the server.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{FileType, Mode, OFlags};
use rustix::ioctl::{self, Getter, Opcode, Updater, opcode};

use super::errno::Errno;

/// Bytes of a frame.
const FRAME: usize = 4096;
const LENGTH: usize = 4;
/// The longest request or answer, in bytes.
pub const LONGEST_MESSAGE: usize = FRAME - LENGTH;

type Frame = [u8; FRAME];

/// `_IOWR('E', 1, [u8; 4096])`
const CALL: Opcode = opcode::read_write::<Frame>(b'E', 1);
/// `_IOR('E', 2, u32)`
const SERVER_PID: Opcode = opcode::read::<u32>(b'E', 2);

/// What answers control calls.
pub trait Control: Send + Sync {
    /// Answers one request; `caller_uid` is the user who asks. At most [`LONGEST_MESSAGE`] bytes;
    /// a longer answer reaches the caller as EMSGSIZE. A panic inside is EIO to the caller.
    fn call(&self, caller_uid: u32, request: &[u8]) -> Vec<u8>;
}

/// Sends a control call to the mount that `path` is in, and waits for the answer.
///
/// # Errors
/// `ENOTTY` when `path` is on no such mount, `EMSGSIZE` when request or answer are longer than
/// [`LONGEST_MESSAGE`], and what opening `path` for reading gives.
pub fn call(path: &Path, request: &[u8]) -> io::Result<Vec<u8>> {
    let mut frame = [0; FRAME];
    if fill(&mut frame, request).is_none() {
        return Err(rustix::io::Errno::MSGSIZE.into());
    }
    let file = open(path)?;
    // SAFETY: CALL encodes that the kernel reads and writes exactly the bytes of a `Frame`, which
    // `frame` is, and any bytes are a valid `Frame`. It goes to a filesystem, not to a driver that
    // might give the number another meaning: `open` has seen to that.
    unsafe { ioctl::ioctl(&file, Updater::<CALL, Frame>::new(&mut frame)) }?;
    message(&frame)
        .map(<[u8]>::to_vec)
        .ok_or_else(|| rustix::io::Errno::BADMSG.into())
}

/// The id of the process that serves the mount that `path` is in.
///
/// # Errors
/// As [`call`].
pub fn server_pid(path: &Path) -> io::Result<u32> {
    let file = open(path)?;
    // SAFETY: SERVER_PID encodes that the kernel writes exactly the bytes of a u32, and any bytes
    // are a valid u32. As to drivers, see `call`.
    Ok(unsafe { ioctl::ioctl(&file, Getter::<SERVER_PID, u32>::new()) }?)
}

/// Opens a directory or a regular file, to send ioctls to its filesystem.
fn open(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = rustix::fs::open(path, flags, Mode::empty())?;
    match FileType::from_raw_mode(rustix::fs::fstat(&file)?.st_mode) {
        FileType::Directory | FileType::RegularFile => Ok(file),
        _ => Err(rustix::io::Errno::NOTTY.into()),
    }
}

/// The server's side.
pub(super) fn answer(
    control: Option<&dyn Control>,
    caller_uid: u32,
    command: u32,
    input: &[u8],
) -> Result<Vec<u8>, Errno> {
    match command {
        SERVER_PID => Ok(std::process::id().to_ne_bytes().to_vec()),
        CALL => {
            let control = control.ok_or(Errno::NOTTY)?;
            let request = message(input).ok_or(Errno::INVAL)?;
            let answer = control.call(caller_uid, request);
            let mut frame = [0; FRAME];
            let used = fill(&mut frame, &answer).ok_or(Errno::MSGSIZE)?;
            Ok(frame[..used].to_vec())
        }
        _ => Err(Errno::NOTTY),
    }
}

/// Puts a message in a frame; the bytes used, or None when it is too long.
fn fill(frame: &mut Frame, message: &[u8]) -> Option<usize> {
    let length = u32::try_from(message.len()).ok()?;
    let used = LENGTH.checked_add(message.len())?;
    frame.get_mut(LENGTH..used)?.copy_from_slice(message);
    frame[..LENGTH].copy_from_slice(&length.to_le_bytes());
    Some(used)
}

/// The message in a frame; None when the length is none that fits.
fn message(frame: &[u8]) -> Option<&[u8]> {
    let (length, rest) = frame.split_first_chunk::<LENGTH>()?;
    rest.get(..usize::try_from(u32::from_le_bytes(*length)).ok()?)
}

#[cfg(test)]
mod tests;
