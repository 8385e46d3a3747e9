//! Opening and closing files.

use std::sync::Arc;

use super::Volume;
use super::error::{Result, VolumeError};
use super::keys::{OnBehalf, requester};
use super::lookup::Place;
use super::open_file::OpenFile;
use super::types::{Caller, HandleId, NodeId, OpenMode};
use crate::backing::{Backing, EntryName, OpenFile as How, Stat};

impl<B: Backing> Volume<B> {
    /// Opens a file.
    ///
    /// # Errors
    /// [`VolumeError::Key`] when its CMK is disabled, also for a file that is open already;
    /// [`VolumeError::Damaged`] when its header isn't authentic.
    pub fn open_file(&self, caller: &Caller, node: NodeId, mode: OpenMode) -> Result<HandleId> {
        if mode.write || mode.truncate {
            self.check_writable()?;
        }
        let _on_behalf = OnBehalf::of(requester(caller));
        // The key manager is asked as of one moment, however often.
        let look = self.keys.look();
        let (file, is_new) = self
            .acquire_new(node, mode.write || mode.truncate)
            .inspect_err(|error| {
                let is_news = error.is_material_missing() || error.is_damage();
                if is_news && self.counters.first_unopened(node) {
                    let file = self.cipher_path(node);
                    tracing::error!(%file, %error, "a file can't be opened");
                }
            })?;
        // Its keys were unwrapped just now, where nobody had it open.
        let usable = if is_new { Ok(()) } else { self.usable(&file) };
        drop(look);
        let opened = usable.and_then(|()| {
            if mode.truncate {
                let mut core = file.core.write();
                self.truncate_core(&file, &mut core, 0)?;
            }
            Ok(())
        });
        if let Err(error) = opened {
            self.done_with(&file);
            return Err(error);
        }
        Ok(self.files.add_handle(file, mode, caller))
    }

    /// Whether the CMK of an open file can be used now, by whom this thread opens it for.
    fn usable(&self, file: &OpenFile<B>) -> Result<()> {
        let core = file.core.read();
        if let Some(head) = &core.head {
            self.keys
                .open_again(&head.static_part.file_id, &head.unwrapped)?;
        }
        Ok(())
    }

    /// One more user of a node's open file.
    pub(super) fn acquire(&self, node: NodeId, write: bool) -> Result<Arc<OpenFile<B>>> {
        self.acquire_new(node, write).map(|(file, _)| file)
    }

    /// As [`Volume::acquire`]; also whether it was opened by this.
    fn acquire_new(&self, node: NodeId, write: bool) -> Result<(Arc<OpenFile<B>>, bool)> {
        self.files.acquire(node, write, || match self.place(node)? {
            Place::Root(_) => Err(VolumeError::IsDirectory),
            Place::Entry(dir, name) => self.open_below(node, &dir.dir, &name, write),
        })
    }

    /// Opens a cipher file: for reading and writing where that is allowed, since later handles
    /// share the descriptor.
    pub(super) fn open_below(
        &self,
        node: NodeId,
        dir: &B::Dir,
        name: &EntryName,
        write: bool,
    ) -> Result<OpenFile<B>> {
        if !self.read_only {
            match self.backing.open_file_stat(dir, name, How::READ_WRITE) {
                Ok((file, stat)) => return self.read_file(node, file, &stat, true),
                Err(error) if write => return Err(error.into()),
                Err(error) => match error.raw_os_error() {
                    Some(libc::EACCES | libc::EPERM | libc::EROFS | libc::ETXTBSY) => {}
                    _ => return Err(error.into()),
                },
            }
        } else if write {
            return Err(VolumeError::ReadOnly);
        }
        let (file, stat) = self.backing.open_file_stat(dir, name, How::READ)?;
        self.read_file(node, file, &stat, false)
    }

    /// Opens a file by its place below, for maintenance: the kernel need not know it.
    pub(super) fn acquire_at(
        &self,
        dir: &B::Dir,
        name: &EntryName,
        stat: &Stat,
        write: bool,
    ) -> Result<Arc<OpenFile<B>>> {
        Self::check_is_file(stat)?;
        let node = self.node_id(stat.ino);
        self.files
            .acquire(node, write, || self.open_below(node, dir, name, write))
            .map(|(file, _)| file)
    }

    /// One user less of an open file.
    pub(super) fn done_with(&self, file: &Arc<OpenFile<B>>) {
        self.files.give_back(file.node);
        if file.stream.ends() {
            self.give_up(file.file());
        }
        if let Some(engine) = &self.engine
            && file.lingers()
            && self.files.is_unused(file)
        {
            // Nobody has it open any more, and something of it waits: soon.
            engine.queue(file);
        }
    }

    /// Has memory no longer hold a cipher file; in pieces, since a file that was removed must give
    /// its room back soon.
    fn give_up(&self, file: &B::File) {
        const PIECE: u64 = 4 << 20;
        let mut at = 0;
        while let Ok(stat) = self.backing.stat_file(file)
            && stat.nlink > 0
            && at < stat.size
        {
            self.backing.wont_need(file, at, PIECE);
            at += PIECE;
        }
    }

    /// Closes a handle.
    pub fn release(&self, handle: HandleId) -> Result<()> {
        let file = self.files.release(handle)?;
        self.done_with(&file);
        Ok(())
    }

    /// Whether any file is open.
    pub fn open_handles(&self) -> usize {
        self.files.len()
    }
}
