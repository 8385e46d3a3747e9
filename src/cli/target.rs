//! `CIPHERDIR|MOUNTPOINT`: which volume is meant, and whether a daemon serves it.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::exit::{Exit, failure};
use super::umount;
use crate::backing::Os;
use crate::fuse::mountpoint;
use crate::volume::{Holder, Volume, VolumeError};

/// What a path on the command line stands for.
#[derive(Debug)]
pub enum Target {
    /// A volume that a daemon serves at this mount point.
    Mounted(PathBuf),
    /// A cipher directory that nobody serves here. Somebody elsewhere may: on another machine, or a
    /// command that works on the volume.
    Unmounted(PathBuf),
}

/// Finds out what `path` stands for.
pub fn resolve(path: &Path) -> Result<Target> {
    let place = || path.display().to_string();
    if let Some(entry) = mountpoint::find(path).with_context(place)?
        && umount::is_ours(&entry, path)
    {
        return Ok(Target::Mounted(entry.point));
    }
    let cipher_dir = cipher_dir(path)?;
    let holder = holder(&cipher_dir)?;
    let served = holder
        .and_then(|holder| holder.mountpoint)
        .map(PathBuf::from);
    if let Some(point) = served
        && let Ok(Some(entry)) = mountpoint::find(&point)
        && umount::is_ours(&entry, &point)
    {
        return Ok(Target::Mounted(point));
    }
    Ok(Target::Unmounted(cipher_dir))
}

/// The full path of a cipher directory.
pub fn cipher_dir(path: &Path) -> Result<PathBuf> {
    let full = path
        .canonicalize()
        .with_context(|| format!("{}", path.display()))?;
    if full.is_dir() {
        Ok(full)
    } else {
        Err(failure(
            Exit::Failure,
            format!("{}: not a directory", path.display()),
        ))
    }
}

/// Who has the volume open for writing.
pub fn holder(cipher_dir: &Path) -> Result<Option<Holder>> {
    let place = || format!("{}", cipher_dir.display());
    let backing = Os::open(cipher_dir).with_context(place)?;
    Volume::holder(&backing).map_err(|error| named(error, cipher_dir))
}

/// An error of the volume, with the directory's name in it.
pub fn named(error: VolumeError, cipher_dir: &Path) -> anyhow::Error {
    match error {
        VolumeError::NoVolume(_) => VolumeError::NoVolume(cipher_dir.display().to_string()).into(),
        other => anyhow::Error::new(other).context(cipher_dir.display().to_string()),
    }
}
