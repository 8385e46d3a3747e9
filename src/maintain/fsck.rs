//! fsck: reads everything in a volume and verifies it. Changes nothing, unless it is told to mend
//! what can be mended without guessing; it deletes nothing in any case.

use std::collections::HashSet;

use parking_lot::Mutex;

use serde::{Deserialize, Serialize};

use super::{Progress, tell_expected};
use crate::backing::{Backing, Kind};
use crate::volume::{DirIdCheck, LOST_AND_FOUND, Met, Visit, Volume, VolumeError};

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
    /// Files that were sound in an earlier run, and have not changed since.
    pub skipped: u64,
    /// Whether the volume was not left cleanly, and not all of it is recovered yet.
    pub unclean: bool,
    /// Whether it was stopped before the end.
    pub stopped: bool,
    /// What is damaged.
    pub damaged: Vec<Damage>,
    /// What was mended.
    pub repaired: Vec<Repair>,
}

/// One thing that was mended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Repair {
    /// Its path in the volume.
    pub path: String,
    /// What was done.
    pub done: String,
}

/// A file as it was when it was found sound: its inode below, and when that changed last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Sound {
    /// Inode number below.
    pub inode: u64,
    /// Its last change: seconds since 1970.
    pub secs: i64,
    /// Nanoseconds of that second.
    pub nanos: u32,
    /// Bytes below.
    pub size: u64,
}

/// Remembers what was found sound, so that a later run needs not read it again.
pub trait Memory: Sync {
    /// Whether this was found sound in an earlier run.
    fn knows(&self, sound: &Sound) -> bool;
    /// This is sound.
    fn note(&self, sound: &Sound);
}

/// What to do.
pub struct FsckOptions<'a> {
    /// Threads that read and decrypt.
    pub threads: usize,
    /// Mend what can be mended without guessing. The volume must be open for writing.
    pub repair: bool,
    /// What earlier runs found.
    pub memory: Option<&'a dyn Memory>,
}

impl Default for FsckOptions<'_> {
    fn default() -> Self {
        Self {
            threads: std::thread::available_parallelism().map_or(2, std::num::NonZeroUsize::get),
            repair: false,
            memory: None,
        }
    }
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

    fn repaired(&mut self, path: &[u8], done: impl Into<String>) {
        self.repaired.push(Repair {
            path: String::from_utf8_lossy(path).into_owned(),
            done: done.into(),
        });
    }

    /// Nothing is damaged (any more).
    pub fn is_clean(&self) -> bool {
        self.damaged.is_empty()
    }
}

/// Reads and verifies a volume, and changes nothing that reading doesn't change.
///
/// # Errors
/// As [`run_with`].
pub fn run<B: Backing>(
    volume: &Volume<B>,
    progress: &dyn Progress,
) -> Result<FsckReport, VolumeError> {
    run_with(volume, &FsckOptions::default(), progress)
}

/// Reads and verifies a volume.
///
/// # Errors
/// When the key manager refuses a key, or the cipher directory can't be read: then nothing can be
/// said of the rest. Damage is in the report.
pub fn run_with<B: Backing>(
    volume: &Volume<B>,
    options: &FsckOptions<'_>,
    progress: &dyn Progress,
) -> Result<FsckReport, VolumeError> {
    let run = Run {
        volume,
        options,
        found: Mutex::default(),
    };
    let mut recovered = 0;
    if options.repair {
        recovered = volume.recover(&|| !progress.cancelled())?;
    }
    tell_expected(volume, progress)?;
    volume.walk_parallel(options.threads.max(1), &|met| {
        if progress.cancelled() {
            run.found.lock().report.stopped = true;
            return Ok(());
        }
        match met {
            Met::Entry(entry) => {
                run.check(&entry)?;
                let found = run.found.lock();
                progress.advanced(found.report.files, found.report.bytes);
            }
            Met::Unreadable(path, error) => run.note(path, error)?,
        }
        Ok(())
    })?;
    let mut report = run.found.into_inner().report;
    for why in volume.damage() {
        report.damage(b"/", None, why);
    }
    if recovered > 0 {
        report.repaired(
            b"/",
            format!("{recovered} files that were open at a crash: looked at and sealed"),
        );
    }
    report.unclean = !volume.status().clean;
    report
        .damaged
        .sort_by(|a, b| (&a.path, a.block).cmp(&(&b.path, b.block)));
    report.repaired.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(report)
}

#[derive(Default)]
struct Found {
    report: FsckReport,
    /// Inodes with several names that were met.
    links: HashSet<u64>,
}

struct Run<'a, B: Backing> {
    volume: &'a Volume<B>,
    options: &'a FsckOptions<'a>,
    found: Mutex<Found>,
}

impl<B: Backing> Run<'_, B> {
    /// Damage goes to the report; any other error ends the run.
    fn note(&self, path: &[u8], error: VolumeError) -> Result<(), VolumeError> {
        let report = &mut self.found.lock().report;
        match error {
            VolumeError::Damaged { what, why } => {
                report.damage(path, None, format!("{what}: {why}"));
            }
            VolumeError::CrossDevice => {
                report.damage(path, None, "another filesystem is mounted here");
            }
            VolumeError::NotFound => {}
            // Of this file; others may be under keys that are here.
            error if error.is_material_missing() => report.damage(path, None, error),
            other => return Err(other),
        }
        Ok(())
    }

    fn check(&self, entry: &Visit<'_, B>) -> Result<(), VolumeError> {
        let kind = entry.stat.kind();
        if entry.stat.nlink > 1
            && kind != Some(Kind::Dir)
            && !self.found.lock().links.insert(entry.stat.ino)
        {
            return Ok(());
        }
        match kind {
            Some(Kind::Dir) => {
                self.found.lock().report.directories += 1;
                self.directory(entry)?;
            }
            Some(Kind::File) => self.file(entry)?,
            Some(Kind::Symlink) => {
                self.found.lock().report.symlinks += 1;
                if let Err(error) = self.volume.check_symlink(entry.dir, entry.stored) {
                    self.note(entry.path, error)?;
                }
            }
            Some(_) => self.found.lock().report.others += 1,
            None => {
                let report = &mut self.found.lock().report;
                report.damage(entry.path, None, "an unknown type of inode");
            }
        }
        match self.volume.check_xattrs(entry.dir, entry.stored) {
            Ok(count) => self.found.lock().report.xattrs += count as u64,
            // A filesystem without extended attributes.
            Err(VolumeError::Io(error)) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => {}
            Err(error) => self.note(entry.path, error)?,
        }
        if entry.hidden {
            self.hidden(entry)?;
        }
        Ok(())
    }

    fn hidden(&self, entry: &Visit<'_, B>) -> Result<(), VolumeError> {
        self.found.lock().report.hidden += 1;
        // The root of an ext4 filesystem has one that must stay.
        let own = entry.stored.as_bytes() == LOST_AND_FOUND.as_bytes();
        if !self.options.repair || own {
            let report = &mut self.found.lock().report;
            report.damage(entry.path, None, "its name does not decrypt");
            return Ok(());
        }
        let place = self.volume.quarantine(entry)?;
        let done = format!(
            "its name does not decrypt: moved to {}",
            String::from_utf8_lossy(&place)
        );
        self.found.lock().report.repaired(entry.path, done);
        Ok(())
    }

    fn directory(&self, entry: &Visit<'_, B>) -> Result<(), VolumeError> {
        let found = match self.volume.check_dir_id(entry.dir, entry.stored) {
            Ok(found) => found,
            Err(error) => return self.note(entry.path, error),
        };
        let mend = || self.volume.mend_dir_id(entry.dir, entry.stored);
        let (damage, done) = match found {
            DirIdCheck::NoCopy if self.options.repair => return mend(),
            // A directory that is lost is met again, as one that can't be read.
            DirIdCheck::Sound | DirIdCheck::Lost | DirIdCheck::NoCopy => return Ok(()),
            DirIdCheck::OnlyCopy => (
                "its id is missing; there is a copy",
                "its id was missing: restored from its copy",
            ),
            DirIdCheck::Differ => ("its id and the copy of it are not the same", ""),
        };
        if self.options.repair && found == DirIdCheck::OnlyCopy {
            mend()?;
            self.found.lock().report.repaired(entry.path, done);
        } else {
            self.found.lock().report.damage(entry.path, None, damage);
        }
        Ok(())
    }

    fn file(&self, entry: &Visit<'_, B>) -> Result<(), VolumeError> {
        let sound = Sound {
            inode: entry.stat.ino,
            secs: entry.stat.ctime.secs,
            nanos: entry.stat.ctime.nanos,
            size: entry.stat.size,
        };
        if self
            .options
            .memory
            .is_some_and(|memory| memory.knows(&sound))
        {
            let report = &mut self.found.lock().report;
            report.files += 1;
            report.skipped += 1;
            return Ok(());
        }
        let checked = self.volume.check_file(entry.dir, entry.stored, &entry.stat);
        self.found.lock().report.files += 1;
        match checked {
            Ok(found) => {
                if found.damaged.is_empty()
                    && let Some(memory) = self.options.memory
                {
                    memory.note(&sound);
                }
                let report = &mut self.found.lock().report;
                report.bytes += found.bytes;
                for (block, why) in found.damaged {
                    report.damage(entry.path, Some(block), why);
                }
                Ok(())
            }
            Err(error) => self.note(entry.path, error),
        }
    }
}
