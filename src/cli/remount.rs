//! `mount -o remount`: changes the flags that the kernel keeps for a mount.

use std::path::Path;

use anyhow::{Context, Result};
use rustix::fs::{StatVfsMountFlags, statvfs};
use rustix::mount::{MountFlags, mount_remount};

use super::control::{self, MountStatus, Request};
use super::exit::{Exit, failure};
use super::mount_opts::MountOptions;
use super::umount;

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
    mount_remount(mountpoint, flags(now, asked), "").with_context(place)?;
    Ok(Exit::Ok)
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
mod tests {
    use super::*;

    #[test]
    fn only_what_is_asked_for_changes() {
        let now = StatVfsMountFlags::NODEV | StatVfsMountFlags::NOSUID;
        let after = |text| flags(now, &MountOptions::parse(&[text]).unwrap());
        let same = MountFlags::NODEV | MountFlags::NOSUID;
        assert_eq!(after("remount"), same);
        assert_eq!(after("remount,ro"), same | MountFlags::RDONLY);
        assert_eq!(
            after("remount,rw,dev,noexec"),
            MountFlags::NOSUID | MountFlags::NOEXEC
        );
    }
}
