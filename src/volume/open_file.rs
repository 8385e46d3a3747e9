//! Open files: one [`OpenFile`] for each inode, shared by its handles.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use parking_lot::{Mutex, RwLock};

use super::error::{Result, VolumeError};
use super::keys::Unwrapped;
use super::types::{HandleId, NodeId, OpenMode};
use crate::backing::Backing;
use crate::content::{EntryPage, GroupIndex, Layout};
use crate::format::{State, StaticPart};

/// The most entry pages (4 KiB each) that one open file keeps: 1 GiB of it.
const PAGES_MOST: usize = 2048;

/// An inode that is open.
pub(super) struct OpenFile<B: Backing> {
    pub(super) node: NodeId,
    /// The cipher file, as it was opened first.
    first: B::File,
    /// Whether that descriptor is for writing too.
    first_writable: bool,
    /// The cipher file opened for writing later, where the first could not be.
    writer: OnceLock<B::File>,
    /// What it holds. Readers share it, a writer has it alone.
    pub(super) core: RwLock<Core>,
    pub(super) pages: Pages,
    pub(super) ahead: ReadAhead,
    /// Whether the file is known to have no setuid, setgid or capabilities that a write must drop.
    pub(super) unprivileged: AtomicBool,
}

impl<B: Backing> OpenFile<B> {
    pub(super) fn new(
        node: NodeId,
        file: B::File,
        writable: bool,
        core: Core,
        pages: Pages,
        unprivileged: bool,
    ) -> Self {
        Self {
            node,
            first: file,
            first_writable: writable,
            writer: OnceLock::new(),
            core: RwLock::new(core),
            pages,
            ahead: ReadAhead::default(),
            unprivileged: AtomicBool::new(unprivileged),
        }
    }

    /// The cipher file, for writing if it could be opened so.
    pub(super) fn file(&self) -> &B::File {
        self.writer.get().unwrap_or(&self.first)
    }

    fn writable(&self) -> bool {
        self.first_writable || self.writer.get().is_some()
    }
}

/// How far ahead of a reader the cipher file is fetched. The requests of one reader come on several
/// threads and out of order, so the kernel's own guess below goes wrong.
#[derive(Default)]
pub(super) struct ReadAhead {
    /// Where the last read ended, in plaintext bytes.
    end: AtomicU64,
    /// Up to where the cipher file was asked for.
    asked: AtomicU64,
}

impl ReadAhead {
    /// How far a read may be from the one before it and still be in sequence.
    const NEAR: u64 = 1 << 20;
    /// How far ahead is asked for at the most.
    const FAR: u64 = 4 << 20;

    /// Notes a read of `offset..end`, which in the cipher file ends at `cipher_end`; what to ask
    /// for, if it is time: start and length.
    pub(super) fn note(&self, offset: u64, end: u64, cipher_end: u64) -> Option<(u64, u64)> {
        let before = self.end.swap(end, Ordering::Relaxed);
        if offset.abs_diff(before) > Self::NEAR {
            self.asked.store(0, Ordering::Relaxed);
            return None;
        }
        let asked = self.asked.load(Ordering::Relaxed).max(cipher_end);
        if asked > cipher_end + Self::FAR / 2 {
            return None;
        }
        self.asked.store(cipher_end + Self::FAR, Ordering::Relaxed);
        Some((asked, cipher_end + Self::FAR - asked))
    }
}

/// What an open file holds.
pub(super) struct Core {
    pub(super) layout: Layout,
    /// None while the file is empty and has no key.
    pub(super) head: Option<Head>,
}

/// The header of a file, understood.
pub(super) struct Head {
    pub(super) static_part: StaticPart,
    pub(super) unwrapped: Unwrapped,
    pub(super) state: State,
    /// Whether an entry of all zeros below the size is a hole rather than damage.
    pub(super) holes: bool,
    /// The bytes of an inline file.
    pub(super) inline: Vec<u8>,
}

/// Entry pages of one file.
#[derive(Default)]
pub(super) struct Pages {
    map: Mutex<HashMap<GroupIndex, Arc<EntryPage>>>,
}

impl Pages {
    pub(super) fn get(&self, group: GroupIndex) -> Option<Arc<EntryPage>> {
        self.map.lock().get(&group).cloned()
    }

    pub(super) fn put(&self, page: Arc<EntryPage>) {
        let mut map = self.map.lock();
        if map.len() >= PAGES_MOST {
            // Which ones go hardly matters: they are read again in one small call.
            let mut keep = false;
            map.retain(|_, _| {
                keep = !keep;
                keep
            });
        }
        map.insert(page.group(), page);
    }

    /// Forgets the pages behind `last`; all of them for None.
    pub(super) fn cut(&self, last: Option<GroupIndex>) {
        self.map
            .lock()
            .retain(|group, _| last.is_some_and(|last| *group <= last));
    }
}

/// A handle that a user holds.
pub(super) struct Handle<B: Backing> {
    pub(super) file: Arc<OpenFile<B>>,
    pub(super) mode: OpenMode,
}

impl<B: Backing> Clone for Handle<B> {
    fn clone(&self) -> Self {
        Self {
            file: Arc::clone(&self.file),
            mode: self.mode,
        }
    }
}

/// An inode's open file, and the number of its users.
type Shared<B> = (Arc<OpenFile<B>>, usize);

/// All open files and handles.
pub(super) struct OpenFiles<B: Backing> {
    handles: RwLock<HashMap<HandleId, Handle<B>>>,
    files: Mutex<HashMap<NodeId, Shared<B>>>,
    next: AtomicU64,
}

impl<B: Backing> Default for OpenFiles<B> {
    fn default() -> Self {
        Self {
            handles: RwLock::default(),
            files: Mutex::default(),
            next: AtomicU64::new(1),
        }
    }
}

impl<B: Backing> OpenFiles<B> {
    /// The open file of an inode, if anyone has it open.
    pub(super) fn of_node(&self, node: NodeId) -> Option<Arc<OpenFile<B>>> {
        self.files
            .lock()
            .get(&node)
            .map(|(file, _)| Arc::clone(file))
    }

    pub(super) fn handle(&self, id: HandleId) -> Result<Handle<B>> {
        self.handles
            .read()
            .get(&id)
            .cloned()
            .ok_or(VolumeError::BadHandle)
    }

    /// One more user of an inode's open file, which `open` makes when there is none that serves.
    ///
    /// `open` runs outside the table's lock; of two that race, one is thrown away.
    pub(super) fn acquire(
        &self,
        node: NodeId,
        write: bool,
        open: impl FnOnce() -> Result<OpenFile<B>>,
    ) -> Result<Arc<OpenFile<B>>> {
        if let Some((file, users)) = self.files.lock().get_mut(&node)
            && (file.writable() || !write)
        {
            *users += 1;
            return Ok(Arc::clone(file));
        }
        let opened = open()?;
        let mut files = self.files.lock();
        if let Some((file, users)) = files.get_mut(&node) {
            if opened.first_writable && !file.writable() {
                // Open for reading only until now: what is known of it stays, by one descriptor more.
                let _ = file.writer.set(opened.first);
            }
            *users += 1;
            return Ok(Arc::clone(file));
        }
        let file = Arc::new(opened);
        files.insert(node, (Arc::clone(&file), 1));
        Ok(file)
    }

    /// One user less.
    pub(super) fn give_back(&self, node: NodeId) {
        let mut files = self.files.lock();
        if let Some((_, users)) = files.get_mut(&node) {
            *users -= 1;
            if *users == 0 {
                files.remove(&node);
            }
        }
    }

    /// Makes a handle of an acquired file.
    pub(super) fn add_handle(&self, file: Arc<OpenFile<B>>, mode: OpenMode) -> HandleId {
        let id = HandleId(self.next.fetch_add(1, Ordering::Relaxed));
        self.handles.write().insert(id, Handle { file, mode });
        id
    }

    /// Closes a handle.
    pub(super) fn release(&self, id: HandleId) -> Result<()> {
        let handle = self
            .handles
            .write()
            .remove(&id)
            .ok_or(VolumeError::BadHandle)?;
        self.give_back(handle.file.node);
        Ok(())
    }

    /// The inodes that are open.
    pub(super) fn nodes(&self) -> Vec<NodeId> {
        self.files.lock().keys().copied().collect()
    }

    /// How many handles are open.
    pub(super) fn len(&self) -> usize {
        self.handles.read().len()
    }
}
