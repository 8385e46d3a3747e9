//! What is durable: fsync, write-back, and what a user is promised by them.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::Volume;
use super::dirs::DirState;
use super::error::{Result, VolumeError};
use super::journal::ring::Room;
use super::open_file::{Core, OpenFile};
use super::types::{HandleId, NodeId};
use crate::backing::Backing;

impl<B: Backing> Volume<B> {
    /// Makes what was written to an open file durable, and the directories above it that were made
    /// or renamed since they were last made so.
    ///
    /// Overwrites of what was durable before take one sync of the journal, which callers that come
    /// together share.
    pub fn fsync(&self, handle: HandleId, data_only: bool) -> Result<()> {
        let handle = self.files.handle(handle)?;
        // The way to the file first: a crash in between leaves no entry that can't be read.
        self.sync_above(handle.file.node)?;
        self.sync_open(&handle.file, data_only)
    }

    pub(super) fn sync_open(&self, file: &Arc<OpenFile<B>>, data_only: bool) -> Result<()> {
        let Some(engine) = &self.engine else {
            return Ok(self.backing.sync_file(file.file(), data_only)?);
        };
        // What goes home from now on is not covered by this sync, so it is promised before: who
        // overwrites it meanwhile does so in the journal.
        let (dirty, meta, extent) = {
            let mut core = file.core.write();
            self.at_rest(file, &core)?;
            let dirty = file.home_dirty.swap(false, Ordering::AcqRel);
            let meta = !data_only && file.meta_dirty.swap(false, Ordering::AcqRel);
            if dirty {
                core.promise();
            }
            (dirty, meta, core.extent())
        };
        if (dirty || meta)
            && let Err(error) = self.backing.sync_file(file.file(), data_only)
        {
            file.home_dirty.fetch_or(dirty, Ordering::AcqRel);
            file.meta_dirty.fetch_or(meta, Ordering::AcqRel);
            return Err(error.into());
        }
        if dirty {
            let mut core = file.core.write();
            let lags = core
                .head
                .as_ref()
                .is_some_and(|head| head.home_size != extent.size || head.state.epoch != 0);
            if core.is_durable(&extent) && lags && file.overlay.is_empty() && !self.read_only {
                // Not promised itself: without it, what authenticates is kept.
                if let Err(error) = engine.seal_state(file, &mut core, extent.size) {
                    tracing::debug!(%error, "sealing a size");
                }
            }
        }
        let sequence = file.sequence.load(Ordering::Acquire);
        if sequence > 0 {
            engine.journal.sync(&self.backing, sequence)?;
        }
        Ok(())
    }

    /// Closes what stayed open of a file when a step failed, before anything else is done to it.
    pub(super) fn at_rest(&self, file: &OpenFile<B>, core: &Core) -> Result<()> {
        match &self.engine {
            Some(engine) => Ok(engine.at_rest(file, core)?),
            None => Ok(()),
        }
    }

    /// Brings home what is in the journal, and frees it. The thread in the background does that
    /// too; without one, whoever opened the volume calls this.
    pub fn write_back(&self) -> Result<()> {
        if let Some(engine) = &self.engine {
            engine.write_back(false)?;
        }
        Ok(())
    }

    /// Room in the journal for one step other than a write: cutting, punching, outgrowing. To be
    /// taken before the file is locked.
    pub(super) fn room_for_step(&self) -> Result<Option<Room<'_, B>>> {
        Ok(match &self.engine {
            Some(engine) => Some(engine.room(4 * crate::format::PAGE)?),
            None => None,
        })
    }

    /// Makes a directory's entries durable, with the ids of new directories among them, and its
    /// own place.
    pub fn fsync_dir(&self, node: NodeId) -> Result<()> {
        let dir = self.dir(node)?;
        self.sync_dir_and_above(node, &dir)?;
        // Behind the way to them: a crash in between leaves none without its own id.
        let young: Vec<NodeId> = self.young.lock().iter().copied().collect();
        for child in young {
            let parent = self.nodes.get(child).and_then(|child| child.location());
            if parent.is_some_and(|(parent, _)| parent == node) {
                match self.dir(child) {
                    Ok(dir) => self.backing.sync_dir(&dir.dir)?,
                    // Removed, or moved away, just now.
                    Err(VolumeError::Stale) => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(())
    }

    /// Makes a directory's own place and entries durable.
    pub(super) fn sync_dir_and_above(&self, node: NodeId, dir: &DirState<B>) -> Result<()> {
        self.sync_above(node)?;
        self.backing.sync_dir(&dir.dir)?;
        self.young.lock().remove(&node);
        Ok(())
    }

    /// A directory was made or has another name, or a long name was made in it: until it is synced,
    /// what is in it may not be found after a crash.
    pub(super) fn is_young(&self, node: NodeId) {
        let mut young = self.young.lock();
        if young.len() < super::YOUNG_MOST {
            young.insert(node);
        } else {
            // Too many to remember: all of them at once.
            young.clear();
            drop(young);
            if let Err(error) = self.backing.sync_all() {
                tracing::warn!(%error, "syncing the cipher directory");
            }
        }
    }

    /// Syncs the directories above a node that were made or renamed since they were last synced.
    fn sync_above(&self, node: NodeId) -> Result<()> {
        if self.young.lock().is_empty() {
            return Ok(());
        }
        let mut way = Vec::new();
        let mut at = node;
        while let Some((parent, _)) = self.nodes.get(at).and_then(|node| node.location()) {
            way.push((at, parent));
            if parent == NodeId::ROOT || way.len() > 1 << 16 {
                break;
            }
            at = parent;
        }
        // From the root down, so that a directory is there before what is in it.
        for (child, parent) in way.into_iter().rev() {
            // The name of a young directory is in its parent, its id in itself.
            let due = {
                let young = self.young.lock();
                young.contains(&child) || young.contains(&parent)
            };
            if due {
                let dir = self.dir(parent)?;
                self.backing.sync_dir(&dir.dir)?;
                // Its own name was synced a step before; that of the root is not ours.
                self.young.lock().remove(&parent);
            }
        }
        Ok(())
    }
}
