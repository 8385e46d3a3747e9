//! Mount points: what is mounted where, mounts whose server is gone, unmounting.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::{AtFlags, CWD, StatxAttributes, StatxFlags};
use rustix::mount::UnmountFlags;
use rustix::process::{Pid, PidfdFlags};

use super::control;
use super::error::FuseError;

/// The helper that mounts and unmounts for users other than root, and its older name.
pub(super) const HELPERS: [&str; 2] = ["fusermount3", "fusermount"];

/// A device number: major, minor.
pub(super) type Device = (u32, u32);

/// What is at a path.
#[derive(Clone, Copy, Debug)]
struct Place {
    device: Device,
    mount_id: u64,
    /// The path is the root of what is mounted there.
    is_root: bool,
}

/// One line of the mount table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountEntry {
    /// The kernel's number for it.
    pub id: u64,
    /// Device number: major, minor.
    pub device: (u32, u32),
    /// Where it is mounted.
    pub point: PathBuf,
    /// Its type, with the subtype (`fuse.envelopefs`).
    pub fs_type: String,
    /// Its source.
    pub source: OsString,
}

/// How to unmount.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unmount {
    /// Not while it is in use.
    IfIdle,
    /// Out of sight at once; it ends when the last user leaves.
    Lazily,
}

/// Looks without asking the filesystem there anything: its server may hang or be gone.
fn look(path: &Path) -> io::Result<Place> {
    let flags = AtFlags::NO_AUTOMOUNT | AtFlags::STATX_DONT_SYNC;
    let stat = rustix::fs::statx(CWD, path, flags, StatxFlags::MNT_ID)?;
    Ok(Place {
        device: (stat.stx_dev_major, stat.stx_dev_minor),
        mount_id: stat.stx_mnt_id,
        is_root: stat.stx_attributes.contains(StatxAttributes::MOUNT_ROOT),
    })
}

/// The device number of what is mounted at a path.
pub(super) fn device(path: &Path) -> io::Result<Device> {
    look(path).map(|place| place.device)
}

/// The topmost mount at a path; None when nothing is mounted right there. Asks nothing of the
/// filesystem itself.
///
/// # Errors
/// What looking at the path or reading the mount table gives.
pub fn find(path: &Path) -> io::Result<Option<MountEntry>> {
    let place = look(path)?;
    if !place.is_root {
        return Ok(None);
    }
    Ok(table()?
        .into_iter()
        .find(|entry| entry.id == place.mount_id))
}

/// Whether a device is mounted anywhere in sight.
pub(super) fn has_device(device: Device) -> bool {
    table().is_ok_and(|table| table.iter().any(|entry| entry.device == device))
}

/// The whole mount table, as this process sees it.
pub fn table() -> io::Result<Vec<MountEntry>> {
    let text = fs::read("/proc/self/mountinfo")?;
    Ok(text
        .split(|byte| *byte == b'\n')
        .filter_map(parse_line)
        .collect())
}

/// Whether something is mounted right at a path.
///
/// # Errors
/// What looking at the path gives.
pub fn is_mount_point(path: &Path) -> io::Result<bool> {
    look(path).map(|place| place.is_root)
}

/// Whether a path leads to a mount whose server is gone.
pub fn is_stale(path: &Path) -> bool {
    // The kernel answers from memory for an hour unless it is told to ask.
    let flags = AtFlags::NO_AUTOMOUNT | AtFlags::STATX_FORCE_SYNC;
    let answer = rustix::fs::statx(CWD, path, flags, StatxFlags::BASIC_STATS);
    matches!(
        answer,
        // The last one while a killed server's rings are taken down.
        Err(rustix::io::Errno::NOTCONN
            | rustix::io::Errno::CONNABORTED
            | rustix::io::Errno::CANCELED)
    )
}

/// Lazily unmounts a dead mount of this program, if there is one; whether there was. `ours` are
/// the types and sources by which to know it.
pub(super) fn clear_stale(
    path: &Path,
    ours: impl Fn(&MountEntry) -> bool,
) -> Result<bool, FuseError> {
    let at = |source| FuseError::MountPoint {
        path: path.to_path_buf(),
        source,
    };
    let Some(entry) = find(path).map_err(at)? else {
        return Ok(false);
    };
    if !is_fuse(&entry) || !is_stale(path) {
        return Ok(false);
    }
    if !ours(&entry) {
        return Err(FuseError::ForeignStale {
            path: path.to_path_buf(),
            fs_type: entry.fs_type,
        });
    }
    unmount(path, Unmount::Lazily)?;
    Ok(true)
}

fn is_fuse(entry: &MountEntry) -> bool {
    entry.fs_type == "fuse" || entry.fs_type.starts_with("fuse.")
}

/// The mount point as an absolute path without symlinks, also when its server is gone.
pub(super) fn resolve(path: &Path) -> Result<PathBuf, FuseError> {
    let at = |source| FuseError::MountPoint {
        path: path.to_path_buf(),
        source,
    };
    match fs::canonicalize(path) {
        Ok(path) => Ok(path),
        Err(error) => match (path.parent(), path.file_name()) {
            (Some(parent), Some(name)) if is_stale(path) => {
                let parent = if parent.as_os_str().is_empty() {
                    Path::new(".")
                } else {
                    parent
                };
                Ok(fs::canonicalize(parent).map_err(at)?.join(name))
            }
            _ => Err(at(error)),
        },
    }
}

/// Unmounts what is at a path: by itself when it may, by the helper else.
///
/// # Errors
/// [`FuseError::NotMounted`], [`FuseError::Busy`], [`FuseError::NoHelper`], or
/// [`FuseError::Unmount`] with what the system says.
pub fn unmount(path: &Path, how: Unmount) -> Result<(), FuseError> {
    let mut flags = UnmountFlags::NOFOLLOW;
    if how == Unmount::Lazily {
        flags |= UnmountFlags::DETACH;
    }
    let path = path.to_path_buf();
    match rustix::mount::unmount(&path, flags) {
        Ok(()) => Ok(()),
        Err(rustix::io::Errno::BUSY) => Err(FuseError::Busy { path }),
        Err(rustix::io::Errno::INVAL) => Err(FuseError::NotMounted { path }),
        Err(rustix::io::Errno::PERM) => unmount_by_helper(path, how),
        Err(error) => Err(FuseError::Unmount {
            path,
            source: error.into(),
        }),
    }
}

fn unmount_by_helper(path: PathBuf, how: Unmount) -> Result<(), FuseError> {
    let run = |helper| {
        let mut command = Command::new(helper);
        command.arg("-u").stdin(Stdio::null());
        if how == Unmount::Lazily {
            command.arg("-z");
        }
        command.arg("--").arg(&path).output()
    };
    let output = first_helper(run)?;
    if output.status.success() {
        return Ok(());
    }
    let message = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    if message.contains("busy") {
        return Err(FuseError::Busy { path });
    }
    Err(FuseError::Unmount {
        path,
        source: io::Error::other(message),
    })
}

/// Runs the helper by the first name that there is.
pub(super) fn first_helper<T>(
    mut run: impl FnMut(&'static str) -> io::Result<T>,
) -> Result<T, FuseError> {
    let mut last = io::Error::from(io::ErrorKind::NotFound);
    for helper in HELPERS {
        match run(helper) {
            Ok(result) => return Ok(result),
            Err(error) if error.kind() == io::ErrorKind::NotFound => last = error,
            Err(source) => return Err(FuseError::NoHelper { source }),
        }
    }
    Err(FuseError::NoHelper { source: last })
}

/// Unmounts a mount of this program and waits until its server has ended, which is when all that
/// it held is safe below. A mount whose server is gone is taken away lazily.
///
/// # Errors
/// As [`unmount`]; [`FuseError::StillRunning`] when the server hasn't ended after `patience`.
pub fn unmount_and_wait(path: &Path, patience: Duration) -> Result<(), FuseError> {
    let path = resolve(path)?;
    let at = |source| FuseError::MountPoint {
        path: path.clone(),
        source,
    };
    let Some(entry) = find(&path).map_err(at)? else {
        return Err(FuseError::NotMounted { path });
    };
    if is_fuse(&entry) && is_stale(&path) {
        return unmount(&path, Unmount::Lazily);
    }
    // Taken before, so that its number can't be somebody else's by then.
    let server = control::server_pid(&path)
        .ok()
        .filter(|pid| *pid != std::process::id());
    let handle = server
        .and_then(|pid| Pid::from_raw(pid.cast_signed()))
        .and_then(|pid| rustix::process::pidfd_open(pid, PidfdFlags::empty()).ok());
    unmount(&path, Unmount::IfIdle)?;
    let (Some(pid), Some(handle)) = (server, handle) else {
        return Ok(());
    };
    let deadline = Instant::now() + patience;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = Timespec::try_from(left).ok();
        let mut ended = [PollFd::new(&handle, PollFlags::IN)];
        match rustix::event::poll(&mut ended, timeout.as_ref()) {
            Err(rustix::io::Errno::INTR) => {}
            Ok(0) => return Err(FuseError::StillRunning { path, pid }),
            Ok(_) => return Ok(()),
            Err(error) => {
                return Err(FuseError::Unmount {
                    path,
                    source: error.into(),
                });
            }
        }
    }
}

/// `36 35 98:0 /root /point options [optional fields] - type source options`
fn parse_line(line: &[u8]) -> Option<MountEntry> {
    let mut fields = line.split(|byte| *byte == b' ');
    let text = |field: Option<&[u8]>| String::from_utf8(field?.to_vec()).ok();
    let id = text(fields.next())?.parse().ok()?;
    let _parent = fields.next()?;
    let device = text(fields.next())?;
    let (major, minor) = device.split_once(':')?;
    let _root = fields.next()?;
    let point = unescape(fields.next()?);
    let mut rest = fields.skip_while(|field| *field != b"-").skip(1);
    Some(MountEntry {
        id,
        device: (major.parse().ok()?, minor.parse().ok()?),
        point: point.into(),
        fs_type: unescape(rest.next()?).into_string().ok()?,
        source: unescape(rest.next()?),
    })
}

/// Space, tab, newline and backslash stand as three octal digits after a backslash.
fn unescape(field: &[u8]) -> OsString {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&first, tail)) = rest.split_first() {
        let code = tail
            .get(..3)
            .filter(|_| first == b'\\')
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        if let Some(byte) = code {
            out.push(byte);
            rest = &tail[3..];
        } else {
            out.push(first);
            rest = tail;
        }
    }
    OsString::from_vec(out)
}

/// Whether a text is a path's bytes.
pub(super) fn same(a: &OsStr, b: &str) -> bool {
    a.as_bytes() == b.as_bytes()
}

#[cfg(test)]
mod tests;
