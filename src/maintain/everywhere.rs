//! Visiting every file of a volume while files come and go, also from where the walk hasn't been to
//! where it was: those that move are noted by the volume, and visited at their new places when the
//! walk is through.

use std::num::NonZeroU64;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::Progress;
use crate::backing::{Backing, Kind};
use crate::volume::{Met, Visit, Volume, VolumeError};

/// How often what moved meanwhile is visited at the most.
const ROUNDS_MOST: u32 = 1000;
/// How much of the time that was not used under a rate may be made up for.
const BURST: Duration = Duration::from_millis(100);

/// A file that could not be done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failed {
    /// Its path in the volume.
    pub path: String,
    /// Why.
    pub why: String,
}

impl Failed {
    pub(super) fn new(path: &[u8], error: &VolumeError) -> Self {
        Self {
            path: String::from_utf8_lossy(path).into_owned(),
            why: error.to_string(),
        }
    }
}

/// Spaces out work evenly in time, over all threads.
pub(super) struct Pace {
    rate: NonZeroU64,
    next: Mutex<Instant>,
}

impl Pace {
    /// `rate` units of work a second.
    pub(super) fn new(rate: NonZeroU64) -> Self {
        Self {
            rate,
            next: Mutex::new(Instant::now()),
        }
    }

    /// Waits for the turn of `amount` units, or until the work is cancelled.
    pub(super) fn wait(&self, amount: u64, progress: &dyn Progress) {
        let nanos = u128::from(amount) * 1_000_000_000 / u128::from(self.rate.get());
        let takes = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        let now = Instant::now();
        let turn = {
            let mut next = self.next.lock();
            let turn = (*next).max(now.checked_sub(BURST).unwrap_or(now));
            *next = turn.checked_add(takes).unwrap_or(turn);
            turn
        };
        while let Some(early) = turn.checked_duration_since(Instant::now())
            && !progress.cancelled()
        {
            std::thread::sleep(early.min(BURST));
        }
    }
}

/// What is done with each file. Called on several threads.
pub(super) trait EachFile<B: Backing>: Sync {
    /// A file, at a place where it is now. `again`: the walk is through, and what moved meanwhile is
    /// visited, most of it for the second time.
    ///
    /// # Errors
    /// Those that are not [`VolumeError::NotFound`] are told to [`EachFile::failed`].
    fn file(&self, entry: &Visit<'_, B>, again: bool) -> Result<(), VolumeError>;
    /// Something that could not be done, or not be looked at.
    fn failed(&self, path: &[u8], error: &VolumeError);
}

/// One visit of everything.
pub(super) struct Everywhere<'a, B: Backing> {
    volume: &'a Volume<B>,
    threads: usize,
    progress: &'a dyn Progress,
    each: &'a dyn EachFile<B>,
    again: AtomicBool,
    /// Whether something was no more where it was listed, or was a directory, in this round.
    unsettled: AtomicBool,
}

impl<'a, B: Backing> Everywhere<'a, B> {
    pub(super) fn new(
        volume: &'a Volume<B>,
        threads: usize,
        progress: &'a dyn Progress,
        each: &'a dyn EachFile<B>,
    ) -> Self {
        Self {
            volume,
            threads,
            progress,
            each,
            again: AtomicBool::new(false),
            unsettled: AtomicBool::new(false),
        }
    }

    /// Visits all files, or those below some paths; whether that was brought to an end. With `by_path` each
    /// is told by its path in the volume, also when it has moved: that takes another walk.
    ///
    /// # Errors
    /// [`VolumeError::Busy`] when another walk of this kind is under way; when the root or a path
    /// can't be read.
    pub(super) fn run(&self, paths: &[Vec<u8>], by_path: bool) -> Result<bool, VolumeError> {
        let visit = |met: Met<'_, B>| {
            self.meet(met);
            Ok(())
        };
        let busy = || VolumeError::Busy {
            holder: "another rewrap or re-encrypt of this volume".to_owned(),
        };
        let watch = self.volume.watch_moves().ok_or_else(busy)?;
        self.walk(paths, &visit)?;
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
            self.again.store(true, Ordering::Relaxed);
            self.unsettled.store(false, Ordering::Relaxed);
            if paths.is_empty() && !by_path {
                watch.walk(moved, self.threads, &visit)?;
            } else {
                // It may be below one of the paths, or not.
                self.walk(paths, &visit)?;
            }
            if !self.unsettled.load(Ordering::Relaxed) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Visits all files, or those below some paths, once, where nothing is to be done that a move could get past.
    ///
    /// # Errors
    /// When the root can't be read.
    pub(super) fn once(&self, paths: &[Vec<u8>]) -> Result<bool, VolumeError> {
        self.walk(paths, &|met| {
            self.meet(met);
            Ok(())
        })?;
        Ok(!self.progress.cancelled())
    }

    fn walk(
        &self,
        paths: &[Vec<u8>],
        visit: &(dyn Fn(Met<'_, B>) -> Result<(), VolumeError> + Sync),
    ) -> Result<(), VolumeError> {
        if paths.is_empty() {
            return self.volume.walk_parallel(self.threads, visit);
        }
        for path in paths {
            match self.volume.place_of(path) {
                Ok(Some(place)) => self.volume.walk_below(place, self.threads, visit)?,
                Ok(None) => self.volume.walk_parallel(self.threads, visit)?,
                // Moved or removed since the first round.
                Err(VolumeError::NotFound) if self.again.load(Ordering::Relaxed) => {}
                Err(error) => self.each.failed(path, &error),
            }
        }
        Ok(())
    }

    fn meet(&self, met: Met<'_, B>) {
        if self.progress.cancelled() {
            return;
        }
        match met {
            Met::Entry(entry) => match entry.stat.kind() {
                Some(Kind::File) => {
                    let again = self.again.load(Ordering::Relaxed);
                    if let Err(error) = self.each.file(&entry, again) {
                        self.fails(entry.path, &error);
                    }
                }
                Some(Kind::Dir) => self.unsettled.store(true, Ordering::Relaxed),
                _ => {}
            },
            Met::Unreadable(path, error) => self.fails(path, &error),
        }
    }

    fn fails(&self, path: &[u8], error: &VolumeError) {
        // Removed since it was listed, or moved: then it is met again.
        if matches!(error, VolumeError::NotFound) {
            self.unsettled.store(true, Ordering::Relaxed);
        } else {
            self.each.failed(path, error);
        }
    }
}
