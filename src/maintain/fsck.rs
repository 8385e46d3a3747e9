//! fsck: reads everything in a volume and verifies it. Changes nothing.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use super::Progress;
use crate::backing::{Backing, Kind};
use crate::volume::{Met, Visit, Volume, VolumeError};

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FsckReport {
    /// Regular files read, each inode once.
    pub files: u64,
    /// Directories.
    pub directories: u64,
    /// Symlinks.
    pub symlinks: u64,
    /// FIFOs, sockets, devices.
    pub others: u64,
    /// Extended attributes.
    pub xattrs: u64,
    /// Plaintext bytes read.
    pub bytes: u64,
    /// Names that don't decrypt.
    pub hidden: u64,
    /// What is damaged.
    pub damaged: Vec<Damage>,
}

/// One damaged thing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Damage {
    /// Its path in the volume; `?` before a stored name that doesn't decrypt.
    pub path: String,
    /// The block, when it is one block of a file.
    pub block: Option<u64>,
    /// What is wrong.
    pub why: String,
}

impl FsckReport {
    fn damage(&mut self, path: &[u8], block: Option<u64>, why: impl ToString) {
        self.damaged.push(Damage {
            path: String::from_utf8_lossy(path).into_owned(),
            block,
            why: why.to_string(),
        });
    }

    /// Nothing is damaged.
    pub fn is_clean(&self) -> bool {
        self.damaged.is_empty()
    }
}

/// Reads and verifies a volume.
///
/// # Errors
/// When the key manager refuses a key, or the cipher directory can't be read: then nothing can be
/// said of the rest. Damage is in the report.
pub fn run<B: Backing>(
    volume: &Volume<B>,
    progress: &dyn Progress,
) -> Result<FsckReport, VolumeError> {
    let mut report = FsckReport::default();
    let mut links = HashSet::new();
    volume.walk(&mut |met| {
        match met {
            Met::Entry(entry) => {
                if entry.stat.nlink > 1
                    && entry.stat.kind() != Some(Kind::Dir)
                    && !links.insert(entry.stat.ino)
                {
                    return Ok(());
                }
                check(volume, &entry, &mut report)?;
                progress.advanced(report.files, report.bytes);
            }
            Met::Unreadable(path, error) => note(&mut report, path, error)?,
        }
        Ok(())
    })?;
    Ok(report)
}

/// Damage goes to the report; any other error ends the run.
fn note(report: &mut FsckReport, path: &[u8], error: VolumeError) -> Result<(), VolumeError> {
    match error {
        VolumeError::Damaged { what, why } => report.damage(path, None, format!("{what}: {why}")),
        VolumeError::CrossDevice => report.damage(path, None, "another filesystem is mounted here"),
        VolumeError::NotFound => {}
        other => return Err(other),
    }
    Ok(())
}

fn check<B: Backing>(
    volume: &Volume<B>,
    entry: &Visit<'_, B>,
    report: &mut FsckReport,
) -> Result<(), VolumeError> {
    if entry.hidden {
        report.hidden += 1;
        report.damage(entry.path, None, "its name does not decrypt");
    }
    match entry.stat.kind() {
        Some(Kind::Dir) => report.directories += 1,
        Some(Kind::File) => {
            report.files += 1;
            match volume.check_file(entry.dir, entry.stored, &entry.stat) {
                Ok(found) => {
                    report.bytes += found.bytes;
                    for (block, why) in found.damaged {
                        report.damage(entry.path, Some(block), why);
                    }
                }
                Err(error) => note(report, entry.path, error)?,
            }
        }
        Some(Kind::Symlink) => {
            report.symlinks += 1;
            if let Err(error) = volume.check_symlink(entry.dir, entry.stored) {
                note(report, entry.path, error)?;
            }
        }
        Some(_) => report.others += 1,
        None => report.damage(entry.path, None, "an unknown type of inode"),
    }
    match volume.check_xattrs(entry.dir, entry.stored) {
        Ok(count) => report.xattrs += count as u64,
        // A filesystem without extended attributes.
        Err(VolumeError::Io(error)) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => {}
        Err(error) => note(report, entry.path, error)?,
    }
    Ok(())
}
