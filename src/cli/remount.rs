//! `mount -o remount`: changes the flags that the kernel keeps for a mount.

use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::fs::{StatVfsMountFlags, statvfs};
use rustix::io::Errno;
use rustix::mount::{MountFlags, mount_remount};

use super::control::{self, MountStatus, Request};
use super::exit::{Exit, failure};
use super::mount_opts::MountOptions;
use super::umount;

/// How long files may still be in use.
const PATIENCE: Duration = Duration::from_secs(1);

/// Remounts: what is asked for changes, everything else stays.
pub fn run(mountpoint: &Path, asked: &MountOptions) -> Result<Exit> {
    umount::check_ours(mountpoint)?;
    let place = || format!("remounting {}", mountpoint.display());
    if asked.read_only == Some(false) {
        let status: MountStatus = control::call(mountpoint, &Request::Status)?;
        if status.volume.read_only {
            let message = "the volume is open for reading only; unmount it and mount it again";
            return Err(failure(Exit::NotSupported, message)).with_context(place);
        }
    }
    let now = statvfs(mountpoint).with_context(place)?.f_flag;
    // A file that was closed just now is in use until its release is answered, which nobody waits for.
    let deadline = Instant::now() + PATIENCE;
    loop {
        match mount_remount(mountpoint, flags(now, asked), "") {
            Err(Errno::BUSY) if Instant::now() < deadline => sleep(Duration::from_millis(20)),
            done => {
                done.with_context(place)?;
                return Ok(Exit::Ok);
            }
        }
    }
}

/// The kernel takes a flag that is not given as taken away.
fn flags(now: StatVfsMountFlags, asked: &MountOptions) -> MountFlags {
    let table = [
        (
            StatVfsMountFlags::RDONLY,
            MountFlags::RDONLY,
            asked.read_only,
        ),
        (
            StatVfsMountFlags::NODEV,
            MountFlags::NODEV,
            asked.dev.map(|dev| !dev),
        ),
        (
            StatVfsMountFlags::NOEXEC,
            MountFlags::NOEXEC,
            asked.exec.map(|exec| !exec),
        ),
        (
            StatVfsMountFlags::NOSUID,
            MountFlags::NOSUID,
            asked.suid.map(|suid| !suid),
        ),
        (
            StatVfsMountFlags::NOATIME,
            MountFlags::NOATIME,
            asked.atime.map(|atime| !atime),
        ),
    ];
    let mut flags = MountFlags::empty();
    for (was, flag, asked) in table {
        flags.set(flag, asked.unwrap_or(now.contains(was)));
    }
    flags
}

#[cfg(test)]
mod tests;
