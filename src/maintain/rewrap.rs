//! Rewrap: every data key of a volume wrapped anew under the current material of a CMK. Content is
//! never touched; a file is readable at every moment; running it again does what is left.
//!
//! Files come and go while it runs, also from where the walk hasn't been to where it was. Those
//! that are made meanwhile are under the new material from the start; those that move are noted by
//! the volume, and visited at their new places when the walk is through.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::Progress;
use crate::backing::{Backing, Kind};
use crate::format::WrappedKey;
use crate::format::blob::BlobHeader;
use crate::kms::KeyId;
use crate::volume::{Met, Rewrapped, Visit, Volume, VolumeError};

/// How often what moved meanwhile is visited at the most.
const ROUNDS_MOST: u32 = 1000;
/// How much of the time that was not used under `max_rate` may be made up for.
const BURST: Duration = Duration::from_millis(100);

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

/// A file that could not be rewrapped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failed {
    /// Its path in the volume.
    pub path: String,
    /// Why.
    pub why: String,
}

/// A CMK and the start of a key material's id.
type Material = (KeyId, [u8; 8]);

/// Spaces out files evenly in time, over all threads.
struct Pace {
    every: Duration,
    next: Mutex<Instant>,
}

impl Pace {
    fn new(max_rate: NonZeroU32) -> Self {
        Self {
            every: Duration::from_secs(1) / max_rate.get(),
            next: Mutex::new(Instant::now()),
        }
    }

    fn wait(&self) {
        let now = Instant::now();
        let turn = {
            let mut next = self.next.lock();
            let turn = (*next).max(now.checked_sub(BURST).unwrap_or(now));
            *next = turn + self.every;
            turn
        };
        if let Some(early) = turn.checked_duration_since(now) {
            std::thread::sleep(early);
        }
    }
}

/// One rewrap under way.
struct Run<'a, B: Backing> {
    volume: &'a Volume<B>,
    options: &'a RewrapOptions,
    to: KeyId,
    progress: &'a dyn Progress,
    pace: Option<Pace>,
    found: Mutex<Found>,
}

#[derive(Default)]
struct Found {
    report: RewrapReport,
    before: HashMap<Material, u64>,
    /// Whether the walk is through, and what moved meanwhile is visited: most of it for the
    /// second time.
    again: bool,
    /// Inodes with several names that were met.
    links: HashSet<u64>,
    /// Whether something was no more where it was listed, or was a directory, in this round.
    unsettled: bool,
}

/// Rewraps a volume.
///
/// # Errors
/// When the volume key can't be rewrapped or the tree can't be walked. A file that fails is in the
/// report, and the walk goes on.
pub fn run<B: Backing>(
    volume: &Volume<B>,
    options: &RewrapOptions,
    progress: &dyn Progress,
) -> Result<RewrapReport, VolumeError> {
    let run = Run {
        volume,
        options,
        to: options.to_key.unwrap_or_else(|| volume.volume_key_id()),
        progress,
        pace: options.max_rate.map(Pace::new),
        found: Mutex::default(),
    };
    let volume_key = if options.dry_run {
        false
    } else {
        // First, so that files made meanwhile are under the right key from the start.
        volume.rewrap_volume_key(&run.to)?
    };
    progress.expected(volume.count_files()?);
    let settled = run.everything()?;
    let Found {
        mut report, before, ..
    } = run.found.into_inner();
    if report.rewrapped > 0 && !options.dry_run {
        volume.settle_ctimes();
        volume.backing().sync_all()?;
    }
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
    Ok(report)
}

impl<B: Backing> Run<'_, B> {
    /// Visits all files, wherever they are; whether that was brought to an end.
    fn everything(&self) -> Result<bool, VolumeError> {
        let busy = || VolumeError::Busy {
            holder: "another rewrap of this volume".to_owned(),
        };
        let (threads, visit) = (self.options.threads, |met: Met<'_, B>| {
            self.meet(met);
            Ok(())
        });
        if self.options.dry_run {
            self.volume.walk_parallel(threads, &visit)?;
            return Ok(!self.progress.cancelled());
        }
        let watch = self.volume.watch_moves().ok_or_else(busy)?;
        self.volume.walk_parallel(threads, &visit)?;
        for _ in 0..ROUNDS_MOST {
            if self.progress.cancelled() {
                return Ok(false);
            }
            // What was moved and is met at its new place is done for good. What was moved on
            // since is among the places of the next round.
            let moved = watch.take();
            if moved.is_empty() {
                return Ok(true);
            }
            {
                let mut found = self.found.lock();
                found.again = true;
                found.unsettled = false;
            }
            watch.walk(moved, threads, &visit)?;
            if !self.found.lock().unsettled {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn meet(&self, met: Met<'_, B>) {
        if self.progress.cancelled() {
            return;
        }
        match met {
            Met::Entry(entry) => match entry.stat.kind() {
                Some(Kind::File) => self.file(&entry),
                Some(Kind::Dir) => self.found.lock().unsettled = true,
                _ => {}
            },
            Met::Unreadable(path, error) => self.fails(path, &error),
        }
    }

    fn fails(&self, path: &[u8], error: &VolumeError) {
        let mut found = self.found.lock();
        // Removed since it was listed, or moved: then it is met again.
        if matches!(error, VolumeError::NotFound) {
            found.unsettled = true;
        } else {
            found.report.failed.push(failed(path, error));
        }
    }

    fn file(&self, entry: &Visit<'_, B>) {
        if entry.stat.nlink > 1 && self.found.lock().links.contains(&entry.stat.ino) {
            return;
        }
        if let Some(pace) = &self.pace {
            pace.wait();
        }
        let done = match self.one_file(entry) {
            Ok(done) => done,
            Err(error) => return self.fails(entry.path, &error),
        };
        let mut found = self.found.lock();
        let found = &mut *found;
        if entry.stat.nlink > 1 && !found.links.insert(entry.stat.ino) {
            return;
        }
        if found.again && !matches!(done, Rewrapped::Done(_)) {
            return;
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
            Rewrapped::Done(keys) => {
                found.report.rewrapped += 1;
                Some(keys)
            }
        };
        for material in keys.iter().flatten().filter_map(material_of) {
            *found.before.entry(material).or_default() += 1;
        }
        found.report.files += 1;
        self.progress.advanced(found.report.files, 0);
    }

    fn one_file(&self, entry: &Visit<'_, B>) -> Result<Rewrapped, VolumeError> {
        let (volume, dir, name) = (self.volume, entry.dir, entry.stored);
        if !self.options.dry_run {
            return volume.rewrap_file(dir, name, &entry.stat, &self.to);
        }
        // To count, a look at the header is enough.
        Ok(match volume.wrapped_keys(dir, name)? {
            None => Rewrapped::NoKey,
            Some(keys) if volume.all_current(&keys, &self.to)? => Rewrapped::Already(keys),
            Some(keys) => Rewrapped::Done(keys),
        })
    }
}

fn material_of(key: &WrappedKey) -> Option<Material> {
    let header = BlobHeader::parse(&key.blob).ok()?;
    let id = KeyId::new(header.key_id, header.multi_region);
    Some((id, header.material))
}

fn failed(path: &[u8], error: &VolumeError) -> Failed {
    Failed {
        path: String::from_utf8_lossy(path).into_owned(),
        why: error.to_string(),
    }
}
