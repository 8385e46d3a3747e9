//! Rewrap: every data key of a volume wrapped anew under the current material of a CMK. Content is
//! never touched; a file is readable at every moment; running it again does what is left.
//!
//! Files come and go while it runs. Those that are made meanwhile are under the new material from the
//! start; those that move are met all the same (`everywhere`).

use std::collections::{BTreeMap, HashMap, HashSet};
use std::num::NonZeroU32;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::Progress;
use super::everywhere::{EachFile, Everywhere, Failed, Pace};
use super::record::{Material, Recorded, Tally, material_of};
use crate::backing::Backing;
use crate::kms::{Census, InRun, KeyId, Outcome, RunId, RunKind};
use crate::volume::{Rewrapped, Visit, Volume, VolumeError};

/// What to do.
#[derive(Clone)]
pub struct RewrapOptions {
    /// Move to this CMK; None: the volume's own.
    pub to_key: Option<KeyId>,
    /// Only count.
    pub dry_run: bool,
    /// How many threads work.
    pub threads: usize,
    /// Files a second at the most.
    pub max_rate: Option<NonZeroU32>,
}

impl Default for RewrapOptions {
    /// Everything, on one thread, as fast as it goes.
    fn default() -> Self {
        Self {
            to_key: None,
            dry_run: false,
            threads: 1,
            max_rate: None,
        }
    }
}

/// What was done.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RewrapReport {
    /// The run's id: the audit log has it in each record of the run.
    pub run_id: String,
    /// Whether this was a dry run: then `rewrapped` counts what would be.
    pub dry_run: bool,
    /// Whether no file needs another material than the current one any more.
    pub complete: bool,
    /// Regular files seen, each inode once.
    pub files: u64,
    /// Files without a key, since they are empty.
    pub empty: u64,
    /// Wrapped anew.
    pub rewrapped: u64,
    /// Under the current material already.
    pub current: u64,
    /// Whether the volume key was wrapped anew.
    pub volume_key: bool,
    /// Files that could not be rewrapped, and why.
    pub failed: Vec<Failed>,
    /// Files by CMK and start of the key material's id, as they were before: "KEY/MATERIAL".
    pub before: BTreeMap<String, u64>,
}

/// One rewrap under way.
struct Run<'a, B: Backing> {
    volume: &'a Volume<B>,
    options: &'a RewrapOptions,
    to: KeyId,
    progress: &'a dyn Progress,
    pace: Option<Pace>,
    id: RunId,
    found: Mutex<Found>,
}

#[derive(Default)]
struct Found {
    report: RewrapReport,
    before: HashMap<Material, u64>,
    /// What is left in the end.
    after: Tally,
    /// Inodes with several names that were met.
    links: HashSet<u64>,
}

/// Rewraps a volume.
///
/// # Errors
/// When the volume key can't be rewrapped, the tree can't be walked, or the run can't be recorded. A
/// file that fails is in the report, and the walk goes on.
pub fn run<B: Backing>(
    volume: &Volume<B>,
    options: &RewrapOptions,
    progress: &dyn Progress,
) -> Result<RewrapReport, VolumeError> {
    let to = options.to_key.as_slice();
    let recorded = Recorded::begin(volume, RunKind::Rewrap, options.dry_run, to, progress)?;
    let done = work(volume, options, progress, &recorded);
    let mut outcome = Outcome {
        cancelled: progress.cancelled(),
        ..Outcome::default()
    };
    match done {
        Ok((report, census)) => {
            outcome.files = report.files;
            outcome.changed = report.rewrapped;
            outcome.failed = report.failed.len() as u64;
            outcome.complete = report.complete;
            recorded.end(outcome, Some(census));
            Ok(report)
        }
        Err(error) => {
            outcome.error = Some(error.to_string());
            recorded.end(outcome, None);
            Err(error)
        }
    }
}

fn work<B: Backing>(
    volume: &Volume<B>,
    options: &RewrapOptions,
    progress: &dyn Progress,
    recorded: &Recorded<'_, B>,
) -> Result<(RewrapReport, Census), VolumeError> {
    let run = Run {
        volume,
        options,
        to: options.to_key.unwrap_or_else(|| volume.volume_key_id()),
        progress,
        pace: options.max_rate.map(|rate| Pace::new(rate.into())),
        id: recorded.id(),
        found: Mutex::default(),
    };
    let volume_key = if options.dry_run {
        false
    } else {
        // First, so that files made meanwhile are under the right key from the start.
        volume.rewrap_volume_key(&run.to)?
    };
    let count = recorded.start_count()?;
    progress.expected(volume.count_files()?);
    let everywhere = Everywhere::new(volume, options.threads, progress, &run);
    let settled = if options.dry_run && !volume.is_exclusive() {
        // Whoever else writes moves files unseen: it is no proof of anything in any case.
        everywhere.once()?
    } else if options.dry_run {
        everywhere.run(&[])?
    } else {
        // Of a header's two slots one is overwritten: the other one has to be durable.
        volume.backing().sync_all()?;
        everywhere.run(&[])?
    };
    let Found {
        mut report,
        before,
        after,
        ..
    } = run.found.into_inner();
    if report.rewrapped > 0 && !options.dry_run {
        volume.settle_ctimes();
        volume.backing().sync_all()?;
    }
    report.run_id = recorded.id().to_string();
    report.dry_run = options.dry_run;
    report.complete =
        settled && report.failed.is_empty() && !(options.dry_run && report.rewrapped > 0);
    report.volume_key = volume_key;
    report.before = before
        .into_iter()
        .map(|((key, material), files)| {
            let name = format!("{key}/{:016x}", u64::from_be_bytes(material));
            (name, files)
        })
        .collect();
    let whole = settled && report.failed.is_empty() && !progress.cancelled();
    let census = recorded.census(count, after, whole)?;
    Ok((report, census))
}

impl<B: Backing> EachFile<B> for Run<'_, B> {
    fn file(&self, entry: &Visit<'_, B>, again: bool) -> Result<(), VolumeError> {
        if entry.stat.nlink > 1 && self.found.lock().links.contains(&entry.stat.ino) {
            return Ok(());
        }
        if let Some(pace) = &self.pace {
            pace.wait(1, self.progress);
        }
        let _in_run = InRun::of(self.id);
        let done = self.one_file(entry)?;
        let mut found = self.found.lock();
        let found = &mut *found;
        if entry.stat.nlink > 1 && !found.links.insert(entry.stat.ino) {
            return Ok(());
        }
        // A file that moved is counted twice rather than not at all.
        match &done {
            Rewrapped::Already(keys) | Rewrapped::Done(_, keys) => found.after.add(keys),
            Rewrapped::NoKey => {}
        }
        if again && (self.options.dry_run || !matches!(done, Rewrapped::Done(..))) {
            return Ok(());
        }
        let keys = match done {
            Rewrapped::NoKey => {
                found.report.empty += 1;
                None
            }
            Rewrapped::Already(keys) => {
                found.report.current += 1;
                Some(keys)
            }
            Rewrapped::Done(keys, _) => {
                found.report.rewrapped += 1;
                Some(keys)
            }
        };
        for key in keys.iter().flatten() {
            if let Some(material) = material_of(&key.blob) {
                *found.before.entry(material).or_default() += 1;
            }
        }
        found.report.files += 1;
        self.progress.advanced(found.report.files, 0);
        Ok(())
    }

    fn failed(&self, path: &[u8], error: &VolumeError) {
        let failed = Failed::new(path, error);
        self.found.lock().report.failed.push(failed);
    }
}

impl<B: Backing> Run<'_, B> {
    fn one_file(&self, entry: &Visit<'_, B>) -> Result<Rewrapped, VolumeError> {
        let (volume, dir, name) = (self.volume, entry.dir, entry.stored);
        if !self.options.dry_run {
            return volume.rewrap_file(dir, name, &entry.stat, &self.to);
        }
        // To count, a look at the header is enough.
        Ok(match volume.wrapped_keys(dir, name)? {
            None => Rewrapped::NoKey,
            Some(keys) if volume.all_current(&keys, &self.to)? => Rewrapped::Already(keys),
            Some(keys) => Rewrapped::Done(keys.clone(), keys),
        })
    }
}
