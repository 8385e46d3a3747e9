//! Re-encrypt: a new data key for every file of a volume, or for some of them, and all of their
//! content sealed anew, in place and in use.
//!
//! What was stopped half-way in a file goes on where it was in any case. Which files a run that was
//! stopped had finished is in its log; whoever asks for `resume` has them left alone.

use std::collections::HashSet;
use std::num::NonZeroU64;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::everywhere::{EachFile, Everywhere, Failed, Pace};
use super::record::Recorded;
use super::{Exclude, Progress, tell_expected};
use crate::backing::Backing;
use crate::kms::{InRun, Outcome, RunId, RunKind};
use crate::volume::{Reencrypted, Renewed, RunLog, Visit, Volume, VolumeError};

/// What to do.
#[derive(Clone)]
pub struct ReencryptOptions {
    /// Only what is at these paths of the volume, and below; everything when there is none.
    pub paths: Vec<Vec<u8>>,
    /// But not these.
    pub exclude: Exclude,
    /// Go on with the run that was stopped: what it finished is left alone.
    pub resume: bool,
    /// How many threads work, each on a file of its own.
    pub threads: usize,
    /// Plaintext bytes a second at the most.
    pub max_rate: Option<NonZeroU64>,
}

impl Default for ReencryptOptions {
    /// Everything, on one thread, as fast as it goes.
    fn default() -> Self {
        Self {
            paths: Vec::new(),
            exclude: Exclude::default(),
            resume: false,
            threads: 1,
            max_rate: None,
        }
    }
}

/// What was done.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReencryptReport {
    /// The run's id: the audit log has it in each record of the run.
    pub run_id: String,
    /// Whether every file that was meant has a new data key, and none needs an older one any more.
    pub complete: bool,
    /// Regular files seen, each inode once.
    pub files: u64,
    /// Files without a key, since they are empty.
    pub empty: u64,
    /// Files with a new data key.
    pub reencrypted: u64,
    /// Those of them that an earlier run had begun with.
    pub resumed: u64,
    /// Files that the run which is resumed had finished.
    pub skipped: u64,
    /// Blocks that were sealed anew, in files that did not fail.
    pub blocks: u64,
    /// Their plaintext bytes.
    pub bytes: u64,
    /// Files that are not through, and why. What could be read before can be read on.
    pub failed: Vec<Failed>,
}

struct Run<'a, B: Backing> {
    volume: &'a Volume<B>,
    exclude: &'a Exclude,
    progress: &'a dyn Progress,
    pace: Option<Pace>,
    id: RunId,
    log: RunLog<'a, B>,
    found: Mutex<Found>,
    /// Files and bytes so far.
    files: AtomicU64,
    bytes: AtomicU64,
}

#[derive(Default)]
struct Found {
    report: ReencryptReport,
    /// Inodes that were begun with.
    begun: HashSet<u64>,
}

/// Re-encrypts a volume.
///
/// # Errors
/// [`VolumeError::NotSupported`] in a volume that was opened without its journal; when the tree can't be
/// walked, or the run can't be recorded. A file that fails is in the report, and the walk goes on.
pub fn run<B: Backing>(
    volume: &Volume<B>,
    options: &ReencryptOptions,
    progress: &dyn Progress,
) -> Result<ReencryptReport, VolumeError> {
    let recorded = Recorded::begin(volume, RunKind::ReEncrypt, false, &[], progress)?;
    let done = work(volume, options, progress, recorded.id());
    let mut outcome = Outcome {
        cancelled: progress.cancelled(),
        ..Outcome::default()
    };
    match &done {
        Ok(report) => {
            outcome.files = report.files;
            outcome.changed = report.reencrypted;
            outcome.failed = report.failed.len() as u64;
            outcome.bytes = report.bytes;
            outcome.complete = report.complete;
        }
        Err(error) => outcome.error = Some(error.to_string()),
    }
    recorded.end(outcome, None);
    done
}

fn work<B: Backing>(
    volume: &Volume<B>,
    options: &ReencryptOptions,
    progress: &dyn Progress,
    id: RunId,
) -> Result<ReencryptReport, VolumeError> {
    let run = Run {
        volume,
        exclude: &options.exclude,
        progress,
        pace: options.max_rate.map(Pace::new),
        id,
        log: volume.reencrypt_log(options.resume)?,
        found: Mutex::default(),
        files: AtomicU64::new(0),
        bytes: AtomicU64::new(0),
    };
    if options.paths.is_empty() {
        tell_expected(volume, progress)?;
    }
    let everywhere = Everywhere::new(volume, options.threads.max(1), progress, &run);
    let settled = everywhere.run(&options.paths, !options.exclude.is_empty())?;
    let Run { found, log, .. } = run;
    let mut report = found.into_inner().report;
    volume.settle_ctimes();
    volume.backing().sync_all()?;
    report.run_id = id.to_string();
    report.complete = settled && report.failed.is_empty() && !progress.cancelled();
    if report.complete {
        log.remove()?;
    }
    Ok(report)
}

impl<B: Backing> EachFile<B> for Run<'_, B> {
    fn file(&self, entry: &Visit<'_, B>, _again: bool) -> Result<(), VolumeError> {
        if self.exclude.matches(entry.path) || !self.found.lock().begun.insert(entry.stat.ino) {
            return Ok(());
        }
        let _in_run = InRun::of(self.id);
        let goes_on = |bytes| self.goes_on(bytes);
        let inode = entry.stat.ino;
        let (done, id) = self
            .volume
            .reencrypt_file(
                entry.dir,
                entry.stored,
                &entry.stat,
                &|id| self.log.has(id, inode),
                &goes_on,
            )
            .inspect_err(|error| {
                // Moved: it is met again.
                if matches!(error, VolumeError::NotFound) {
                    self.found.lock().begun.remove(&inode);
                }
            })?;
        let mut found = self.found.lock();
        let report = &mut found.report;
        let mut add = |renewed: Renewed| {
            report.blocks += renewed.blocks;
            report.bytes += renewed.bytes;
        };
        match done {
            Reencrypted::Stopped(renewed) => {
                add(renewed);
                return Ok(());
            }
            Reencrypted::Done(renewed) => {
                add(renewed);
                report.reencrypted += 1;
                report.resumed += u64::from(renewed.resumed);
            }
            Reencrypted::NoKey => report.empty += 1,
            Reencrypted::Skipped => report.skipped += 1,
        }
        report.files += 1;
        self.files.store(report.files, Ordering::Relaxed);
        self.progress
            .advanced(report.files, self.bytes.load(Ordering::Relaxed));
        drop(found);
        match (done, id) {
            (Reencrypted::Done(_), Some(id)) => self.log.note(&id, inode),
            _ => Ok(()),
        }
    }

    fn failed(&self, path: &[u8], error: &VolumeError) {
        let failed = Failed::new(path, error);
        self.found.lock().report.failed.push(failed);
    }
}

impl<B: Backing> Run<'_, B> {
    /// So many bytes more were sealed: whether to go on, in time.
    fn goes_on(&self, bytes: u64) -> bool {
        let bytes_so_far = self.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if bytes > 0 {
            let files = self.files.load(Ordering::Relaxed);
            self.progress.advanced(files, bytes_so_far);
            if let Some(pace) = &self.pace {
                pace.wait(bytes, self.progress);
            }
        }
        !self.progress.cancelled()
    }
}
