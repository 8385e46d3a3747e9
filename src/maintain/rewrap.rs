//! Rewrap: every data key of a volume wrapped anew under the current material of a CMK. Content is
//! never touched; a file is readable at every moment; running it again does what is left.
//!
//! Where the volume has a recovery CMK, everything is wrapped under that one, too.
//!
//! Files come and go while it runs. Those that are made meanwhile are under the new material from the
//! start; those that move are met all the same (`everywhere`).

use std::collections::{BTreeMap, HashMap, HashSet};
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::everywhere::{EachFile, Everywhere, Failed, Pace};
use super::record::{Recorded, Tally};
use super::{Exclude, Progress, tell_expected};
use crate::backing::Backing;
use crate::kms::{Census, InRun, KeyId, Outcome, RunId, RunKind};
use crate::volume::{Cmks, Material, Rewrapped, Visit, Volume, VolumeError};

/// What to do.
#[derive(Clone)]
pub struct RewrapOptions {
    /// Move to this CMK; None: the volume's own.
    pub to_key: Option<KeyId>,
    /// Wrap everything under this CMK, too.
    pub add_recovery_key: Option<KeyId>,
    /// No more under this one. No slot of a file names it when that is through.
    pub remove_recovery_key: Option<KeyId>,
    /// Only count.
    pub dry_run: bool,
    /// Count first, without a key; nothing more when nothing is to be done by that.
    pub if_needed: bool,
    /// Only what is at these paths of the volume, and below; everything when there is none.
    pub paths: Vec<Vec<u8>>,
    /// But not these.
    pub exclude: Exclude,
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
            add_recovery_key: None,
            remove_recovery_key: None,
            dry_run: false,
            if_needed: false,
            paths: Vec::new(),
            exclude: Exclude::default(),
            threads: 1,
            max_rate: None,
        }
    }
}

/// What was done.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
// Each is a fact on its own.
#[allow(clippy::struct_excessive_bools)]
pub struct RewrapReport {
    /// The run's id: the audit log has it in each record of the run.
    pub run_id: String,
    /// Whether this was a dry run: then `rewrapped` counts what would be.
    pub dry_run: bool,
    /// Whether no file needs another material than the current one any more. Never when it was limited.
    pub complete: bool,
    /// Whether it was limited to some files: then the volume's own key was left alone.
    #[serde(default)]
    pub limited: bool,
    /// Regular files seen, each inode once.
    pub files: u64,
    /// Files without a key, since they are empty.
    pub empty: u64,
    /// Wrapped anew.
    pub rewrapped: u64,
    /// Under the current material already.
    pub current: u64,
    /// Whether the volume key was wrapped anew, or would be.
    pub volume_key: bool,
    /// The CMK that everything is wrapped under as well, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recovery_key: Option<String>,
    /// Files whose older envelope slot was overwritten, since it named a removed CMK.
    #[serde(default)]
    pub cleared: u64,
    /// Files that could not be rewrapped, and why.
    pub failed: Vec<Failed>,
    /// Files by CMK and start of the key material's id, as they were before: "KEY/MATERIAL".
    pub before: BTreeMap<String, u64>,
    /// The same of the volume's own key.
    #[serde(default)]
    pub volume_keys_before: Vec<String>,
}

/// One rewrap under way.
struct Run<'a, B: Backing> {
    volume: &'a Volume<B>,
    options: &'a RewrapOptions,
    to: Cmks,
    progress: &'a dyn Progress,
    pace: Option<Pace>,
    id: RunId,
    found: Mutex<Found>,
}

impl RewrapOptions {
    /// Whether some files are left out.
    fn is_limited(&self) -> bool {
        !self.paths.is_empty() || !self.exclude.is_empty()
    }

    /// The CMKs under which everything is to be, given those of now.
    fn target(&self, now: Cmks) -> Result<Cmks, VolumeError> {
        if self.is_limited() && (self.add_recovery_key.or(self.remove_recovery_key)).is_some() {
            let why = "a recovery key is the whole volume's: name no paths, and exclude none";
            return Err(VolumeError::Refused(why.to_owned()));
        }
        let main = self.to_key.unwrap_or(now.main);
        if self.remove_recovery_key == Some(main) {
            let why = format!(
                "{main} is the volume's own key and no recovery key; --to-key moves the volume to another"
            );
            return Err(VolumeError::Refused(why));
        }
        let kept = |key: &KeyId| *key != main && Some(*key) != self.remove_recovery_key;
        let recovery = now.recovery.filter(kept);
        match (self.add_recovery_key, recovery) {
            (Some(key), _) if key == main => Err(VolumeError::Refused(format!(
                "{key} is the volume's own key already; a recovery key is another one"
            ))),
            (Some(key), Some(other)) if key != other => Err(VolumeError::Refused(format!(
                "the volume has a recovery key, {other}: one is the most; --remove-recovery-key {other} \
                 at the same time replaces it"
            ))),
            (added, kept) => Ok(Cmks {
                main,
                recovery: added.or(kept),
            }),
        }
    }
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
    if options.if_needed && !options.dry_run {
        let count = RewrapOptions {
            dry_run: true,
            ..options.clone()
        };
        let counted = run(volume, &count, progress)?;
        // A limited count is never complete; what failed is to be tried.
        if counted.rewrapped == 0 && !counted.volume_key && counted.failed.is_empty() {
            return Ok(RewrapReport {
                dry_run: false,
                ..counted
            });
        }
    }
    let to: Vec<KeyId> = [options.to_key, options.add_recovery_key]
        .into_iter()
        .flatten()
        .collect();
    let recorded = Recorded::begin(volume, RunKind::Rewrap, options.dry_run, &to, progress)?;
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
        to: options.target(volume.cmks())?,
        progress,
        pace: options.max_rate.map(|rate| Pace::new(rate.into())),
        id: recorded.id(),
        found: Mutex::default(),
    };
    let limited = options.is_limited();
    let volume_keys = volume.wrapped_volume_keys()?;
    let materials = volume_keys.iter().filter_map(|key| Material::of(key));
    let volume_keys_before = materials.map(|material| material.to_string()).collect();
    let volume_key = if options.dry_run {
        !limited && !volume.is_volume_key_current(&run.to)?
    } else {
        // Nothing is taken away before what is left is known to open.
        volume.check_cmks(&run.to)?;
        // First, so that files made meanwhile are under the right key from the start.
        if limited {
            false
        } else {
            volume.rewrap_volume_key(&run.to)?
        }
    };
    let count = recorded.start_count()?;
    if options.paths.is_empty() && !options.dry_run {
        tell_expected(volume, progress)?;
    }
    let everywhere = Everywhere::new(volume, options.threads, progress, &run);
    if !options.dry_run {
        // Of a header's two slots one is overwritten: the other one has to be durable.
        volume.backing().sync_all()?;
    }
    let settled = if options.dry_run && !volume.is_exclusive() {
        // Whoever else writes moves files unseen: it is no proof of anything in any case.
        everywhere.once(&options.paths)?
    } else {
        everywhere.run(&options.paths, !options.exclude.is_empty())?
    };
    let Run { found, to, .. } = run;
    let Found {
        mut report,
        before,
        after,
        ..
    } = found.into_inner();
    if report.rewrapped > 0 && !options.dry_run {
        volume.settle_ctimes();
        volume.backing().sync_all()?;
    }
    report.run_id = recorded.id().to_string();
    report.dry_run = options.dry_run;
    report.limited = limited;
    report.complete = settled
        && !limited
        && report.failed.is_empty()
        && !(options.dry_run && (report.rewrapped > 0 || volume_key));
    if report.complete && !options.dry_run && options.remove_recovery_key.is_some() {
        clear(volume, recorded.id(), options, &to, progress, &mut report)?;
    }
    report.volume_key = volume_key;
    report.volume_keys_before = volume_keys_before;
    report.recovery_key = to.recovery.map(|key| key.to_string());
    report.before = before
        .into_iter()
        .map(|(material, files)| (material.to_string(), files))
        .collect();
    let whole = settled && !limited && report.failed.is_empty() && !progress.cancelled();
    let census = recorded.census(count, after, whole)?;
    Ok((report, census))
}

/// Takes a removed CMK out of the slots that don't count any more. What counts is durable.
fn clear<B: Backing>(
    volume: &Volume<B>,
    id: RunId,
    options: &RewrapOptions,
    to: &Cmks,
    progress: &dyn Progress,
    report: &mut RewrapReport,
) -> Result<(), VolumeError> {
    let clear = Clear {
        volume,
        to,
        id,
        cleared: AtomicU64::new(0),
        failed: Mutex::default(),
    };
    let settled = Everywhere::new(volume, options.threads, progress, &clear).run(&[], false)?;
    report.cleared = clear.cleared.into_inner();
    report.failed = clear.failed.into_inner();
    report.complete = settled && report.failed.is_empty();
    if report.cleared > 0 {
        volume.settle_ctimes();
        volume.backing().sync_all()?;
    }
    Ok(())
}

struct Clear<'a, B: Backing> {
    volume: &'a Volume<B>,
    to: &'a Cmks,
    id: RunId,
    cleared: AtomicU64,
    failed: Mutex<Vec<Failed>>,
}

impl<B: Backing> EachFile<B> for Clear<'_, B> {
    fn file(&self, entry: &Visit<'_, B>, _again: bool) -> Result<(), VolumeError> {
        let _in_run = InRun::of(self.id);
        let (volume, dir, name) = (self.volume, entry.dir, entry.stored);
        if volume.clear_old_slot(dir, name, &entry.stat, self.to)? {
            self.cleared.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    fn failed(&self, path: &[u8], error: &VolumeError) {
        self.failed.lock().push(Failed::new(path, error));
    }
}

impl<B: Backing> EachFile<B> for Run<'_, B> {
    fn file(&self, entry: &Visit<'_, B>, again: bool) -> Result<(), VolumeError> {
        if self.options.exclude.matches(entry.path) {
            return Ok(());
        }
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
        for material in keys
            .iter()
            .flatten()
            .filter_map(|key| Material::of(&key.blob))
        {
            *found.before.entry(material).or_default() += 1;
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
