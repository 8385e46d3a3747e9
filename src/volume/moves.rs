//! What gets another place while a walk is under way: the walk may have been there already, and
//! not yet where it came from.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use super::Volume;
use super::dirs::DirState;
use super::error::Result;
use super::walk::Met;
use crate::backing::{Backing, EntryName};

/// The new places of what was renamed and linked, while someone wants to know.
pub(super) struct Moves<B: Backing> {
    watched: AtomicBool,
    places: Mutex<Vec<Moved<B>>>,
    unknown: Arc<[u8]>,
}

/// A place that something was moved to. It may have been moved on.
pub struct Moved<B: Backing> {
    pub(super) dir: Arc<DirState<B>>,
    pub(super) name: EntryName,
    /// The path of its directory, where it is known.
    pub(super) path: Arc<[u8]>,
}

impl<B: Backing> Default for Moves<B> {
    fn default() -> Self {
        Self {
            watched: AtomicBool::new(false),
            places: Mutex::default(),
            unknown: Arc::from(&b"(moved)"[..]),
        }
    }
}

impl<B: Backing> Moves<B> {
    /// Something has a new place.
    pub(super) fn note(&self, dir: &Arc<DirState<B>>, name: &EntryName) {
        if self.watched.load(Ordering::Acquire) {
            self.places.lock().push(Moved {
                dir: Arc::clone(dir),
                name: name.clone(),
                path: Arc::clone(&self.unknown),
            });
        }
    }
}

/// Notes what is moved, for as long as it lives.
pub struct MoveWatch<'a, B: Backing>(&'a Volume<B>);

impl<B: Backing> MoveWatch<'_, B> {
    /// What was moved since this was last asked: all that is at its new place now.
    pub fn take(&self) -> Vec<Moved<B>> {
        // What is moved below is noted before its lock is free.
        drop(self.0.namespace.write());
        std::mem::take(&mut *self.0.moves.places.lock())
    }

    /// Visits what is at these places now, and everything below; what was moved on is told as not
    /// found.
    ///
    /// # Errors
    /// As [`Volume::walk_parallel`].
    pub fn walk(
        &self,
        moved: Vec<Moved<B>>,
        threads: usize,
        visit: &(dyn Fn(Met<'_, B>) -> Result<()> + Sync),
    ) -> Result<()> {
        self.0.walk_places(moved, threads, visit)
    }
}

impl<B: Backing> Drop for MoveWatch<'_, B> {
    fn drop(&mut self) {
        self.0.moves.watched.store(false, Ordering::Release);
        self.take();
    }
}

impl<B: Backing> Volume<B> {
    /// The place of a path from the volume's root, in plaintext; None for the root itself.
    ///
    /// # Errors
    /// [`super::VolumeError::NotFound`], [`super::VolumeError::NotDirectory`], and what opening a
    /// directory gives.
    pub fn place_of(&self, path: &[u8]) -> Result<Option<Moved<B>>> {
        let mut parts = path
            .split(|&byte| byte == b'/')
            .filter(|part| !part.is_empty());
        let Some(mut part) = parts.next() else {
            return Ok(None);
        };
        let (mut dir, mut above) = (Arc::clone(&self.root), Vec::new());
        loop {
            let name = self.stored_name(&dir, part)?.entry;
            let stat = self.stat_entry(&dir, &name)?;
            let Some(next) = parts.next() else {
                return Ok(Some(Moved {
                    dir,
                    name,
                    path: above.into(),
                }));
            };
            dir = Arc::new(self.open_dir(self.node_id(stat.ino), &dir, &name)?);
            above.push(b'/');
            above.extend_from_slice(part);
            part = next;
        }
    }

    /// Visits what is at a place, and everything below.
    ///
    /// # Errors
    /// As [`Volume::walk_parallel`].
    pub fn walk_below(
        &self,
        place: Moved<B>,
        threads: usize,
        visit: &(dyn Fn(Met<'_, B>) -> Result<()> + Sync),
    ) -> Result<()> {
        self.walk_places(vec![place], threads, visit)
    }

    /// From now on notes what is renamed and linked. None when someone else does so.
    pub fn watch_moves(&self) -> Option<MoveWatch<'_, B>> {
        let free = !self.moves.watched.swap(true, Ordering::AcqRel);
        // Those that are under way end first: the next ones see that they are watched.
        drop(self.namespace.write());
        free.then(|| MoveWatch(self))
    }
}
