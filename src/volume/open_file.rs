//! Open files: one [`OpenFile`] for each inode, shared by its handles.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use parking_lot::{Mutex, RwLock};
use smallvec::SmallVec;

use super::error::{Result, VolumeError};
use super::journal::Overlay;
use super::journal::replay::FileReplay;
use super::journal::write_back::Old;
use super::keys::{Unwrapped, requester};
use super::privileges::Privileges;
use super::stamps::Stamps;
use super::stream::Stream;
use super::table::Table;
use super::types::{Caller, HandleId, NodeId, OpenMode};
use crate::backing::Backing;
use crate::content::{BlockIndex, EntryPage, GroupIndex, Layout};
use crate::format::{FileId, PAGE, State, StaticPart};
use crate::kms::Requester;

/// The most entry pages (4 KiB each) that one open file keeps: all of a file of 1 GiB.
pub(super) const PAGES_MOST: usize = 2050;
/// After so many entry pages that were waited for, others are fetched before they are wanted.
const PATIENCE: u64 = 16;
/// So many for each one more that is waited for.
const PAGES_AHEAD: u64 = 8;

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
    pub(super) stream: Stream,
    /// What a write must drop.
    pub(super) privileges: Privileges,
    /// Its inode below.
    pub(super) inode: u64,
    /// What of it is newer in the journal.
    pub(super) overlay: Overlay,
    /// What a journal replay overlays, when the volume is open for reading only.
    pub(super) replay: Option<Arc<FileReplay>>,
    /// Its last record in the journal; 0 when there is none.
    pub(super) sequence: AtomicU64,
    /// Whether the cipher file may hold something that an fsync must make durable.
    pub(super) home_dirty: AtomicBool,
    /// Whether its attributes or names may be newer than what an fsync made durable.
    pub(super) meta_dirty: AtomicBool,
    /// Whether the state at home lags behind, and waits for a sync to be written.
    pub(super) unsealed: AtomicBool,
    /// Whether it was cut by a record of the journal, and is not known to be durable as that left it.
    pub(super) open_cut: AtomicBool,
    /// What such a record replaced, when it failed and could not be put back.
    pub(super) old: Mutex<Option<Old>>,
    /// Whether it is on the list of those to be written back.
    pub(super) queued: AtomicBool,
    /// Whose time of modification it has.
    pub(super) stamps: Stamps,
    /// Held while a piece of what is pending is looked up and copied home, and by who takes from
    /// what is pending before the cipher file is changed in another way. After `core`.
    pub(super) home: Mutex<()>,
    /// Held by who renews its data key.
    pub(super) renewal: Mutex<()>,
    /// Whether what goes home is not users' alone: the change time that they see is kept over it.
    pub(super) keeps_ctime: AtomicBool,
    path: OnceLock<Vec<u8>>,
}

impl<B: Backing> OpenFile<B> {
    pub(super) fn new(
        node: NodeId,
        file: B::File,
        writable: bool,
        core: Core,
        pages: Pages,
        privileges: Privileges,
        inode: u64,
    ) -> Self {
        Self {
            node,
            first: file,
            first_writable: writable,
            writer: OnceLock::new(),
            core: RwLock::new(core),
            pages,
            stream: Stream::default(),
            privileges,
            inode,
            overlay: Overlay::default(),
            replay: None,
            sequence: AtomicU64::new(0),
            // What was written before it was opened may not be durable either.
            home_dirty: AtomicBool::new(true),
            meta_dirty: AtomicBool::new(true),
            unsealed: AtomicBool::new(false),
            open_cut: AtomicBool::new(false),
            old: Mutex::new(None),
            queued: AtomicBool::new(false),
            stamps: Stamps::default(),
            home: Mutex::new(()),
            renewal: Mutex::new(()),
            keeps_ctime: AtomicBool::new(false),
            path: OnceLock::new(),
        }
    }

    /// Its stored path, for the journal's records; `find` tells it the first time.
    pub(super) fn path_or(&self, find: impl FnOnce() -> Vec<u8>) -> &[u8] {
        self.path.get_or_init(find)
    }

    /// Its stored path, if that was asked for before.
    pub(super) fn path_hint(&self) -> &[u8] {
        self.path.get().map_or(&[], Vec::as_slice)
    }

    /// Whether it must stay open when nobody uses it: something waits to be written back.
    pub(super) fn lingers(&self) -> bool {
        !self.overlay.is_empty()
            || self.unsealed.load(Ordering::Acquire)
            || self.open_cut.load(Ordering::Acquire)
    }

    /// What records up to number `sequence` hold has come home. No older form of it is on its way
    /// there any more. The file's core is held alone.
    pub(super) fn settle(&self, sequence: u64) {
        let _home = self.home.lock();
        self.overlay.settle(sequence);
    }

    /// The cipher file, for writing if it could be opened so.
    pub(super) fn file(&self) -> &B::File {
        self.writer.get().unwrap_or(&self.first)
    }

    fn writable(&self) -> bool {
        self.first_writable || self.writer.get().is_some()
    }
}

/// What an open file holds.
pub(super) struct Core {
    pub(super) layout: Layout,
    /// None while the file is empty and has no key.
    pub(super) head: Option<Head>,
    /// Blocks that start below this many bytes may have been promised to someone.
    pub(super) durable: u64,
    /// Up to here what is at home is known to be durable.
    pub(super) covered: u64,
    /// How often the file was cut.
    pub(super) cuts: u64,
    /// The file is new: nothing of it was promised, and its state is written with its blocks.
    pub(super) fresh: bool,
}

/// What a sync that begins now makes durable of a file.
pub(super) struct Extent {
    /// In bytes.
    pub(super) size: u64,
    id: Option<FileId>,
    cuts: u64,
}

impl Core {
    /// An empty file.
    pub(super) fn empty() -> Self {
        Self {
            layout: Layout::Empty,
            head: None,
            durable: 0,
            covered: 0,
            cuts: 0,
            fresh: true,
        }
    }

    /// Everything that the file holds now is promised, or will be in a moment: from here on it is
    /// overwritten through the journal.
    pub(super) fn promise(&mut self) {
        let size = self.layout.size();
        self.durable = self.durable.max(size);
        if self.fresh
            && let Some(head) = &mut self.head
        {
            head.home_size = head.state.size;
            self.fresh = false;
        }
    }

    /// Where the blocks begin that nobody was promised, in bytes.
    pub(super) fn fresh_from(&self) -> u64 {
        if self.fresh {
            0
        } else {
            self.durable.next_multiple_of(PAGE as u64)
        }
    }

    /// What a sync that begins now covers.
    pub(super) fn extent(&self) -> Extent {
        Extent {
            size: self.layout.size(),
            id: self.file_id(),
            cuts: self.cuts,
        }
    }

    /// That sync has succeeded; false when the file was cut since, so that it tells nothing.
    pub(super) fn is_durable(&mut self, extent: &Extent) -> bool {
        let same = self.file_id() == extent.id && self.cuts == extent.cuts;
        if same {
            self.covered = self.covered.max(extent.size);
        }
        same
    }

    /// The identity of its contents; None for an empty file.
    pub(super) fn file_id(&self) -> Option<FileId> {
        self.head.as_ref().map(|head| head.static_part.file_id)
    }
}

/// The header of a file, understood.
pub(super) struct Head {
    pub(super) static_part: StaticPart,
    pub(super) unwrapped: Unwrapped,
    /// The state as it should be; its size is the newest.
    pub(super) state: State,
    /// The size in the state at home, or in the newest record: at most what is durable then.
    pub(super) home_size: u64,
    /// Blocks that were lost in a crash, and were never promised: they read as zeros. Only in a
    /// volume that can't be written to; else they are made holes.
    pub(super) lost: Vec<BlockIndex>,
    /// Whether an entry of all zeros below the size is a hole rather than damage.
    pub(super) holes: bool,
    /// The bytes of an inline file.
    pub(super) inline: Vec<u8>,
}

/// Groups that a request of 1 MiB touches at the most: three, and the head group where page 0 is
/// written with them.
pub(super) const GROUPS: usize = 4;
/// Blocks of a request of 128 KiB.
pub(super) const BLOCKS: usize = 32;

/// Entry pages of one request, in place unless it is larger than any that the kernel sends.
pub(super) type Groups = SmallVec<[EntryPage; GROUPS]>;

/// Entry pages of one file.
#[derive(Default)]
pub(super) struct Pages {
    map: Mutex<Table<GroupIndex, EntryPage>>,
    /// How many were not there when they were wanted.
    missed: AtomicU64,
}

impl Pages {
    pub(super) fn get(&self, group: GroupIndex) -> Option<EntryPage> {
        self.map.lock().get(&group).cloned()
    }

    /// Notes that a page is waited for; the groups whose pages to fetch with it, if any. From first to
    /// last, each once.
    pub(super) fn miss(&self) -> Option<Range<u64>> {
        let missed = self.missed.fetch_add(1, Ordering::Relaxed);
        let from = missed.checked_sub(PATIENCE)?.checked_mul(PAGES_AHEAD)?;
        (from < PAGES_MOST as u64).then(|| from..from + PAGES_AHEAD)
    }

    pub(super) fn put(&self, page: EntryPage) {
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

    /// Forgets one page.
    pub(super) fn forget(&self, group: GroupIndex) {
        self.map.lock().remove(&group);
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
    /// Who opened it: a data key that a write by it needs is made for them.
    pub(super) by: Requester,
}

impl<B: Backing> Clone for Handle<B> {
    fn clone(&self) -> Self {
        Self {
            file: Arc::clone(&self.file),
            mode: self.mode,
            by: self.by,
        }
    }
}

/// An inode's open file, and the number of its users.
type Shared<B> = (Arc<OpenFile<B>>, usize);

/// How many files can be opened below at a time: no more than there are threads, by far.
const TURNS: usize = 256;

/// All open files and handles.
pub(super) struct OpenFiles<B: Backing> {
    handles: RwLock<Table<HandleId, Handle<B>>>,
    files: Mutex<Table<NodeId, Shared<B>>>,
    /// Whose turn it is to open a file below; an inode has one of these.
    turns: [Mutex<()>; TURNS],
    next: AtomicU64,
}

impl<B: Backing> Default for OpenFiles<B> {
    fn default() -> Self {
        Self {
            handles: RwLock::default(),
            files: Mutex::default(),
            turns: [const { Mutex::new(()) }; TURNS],
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

    /// One more user of an inode's open file, which `open` makes when there is none that serves; and
    /// whether it is the one that `open` made.
    ///
    /// `open` runs outside the table's lock, but never beside another one for the same inode: who
    /// was first may write by then, and the size and header that the second one finds don't agree.
    /// It must not acquire anything itself.
    pub(super) fn acquire(
        &self,
        node: NodeId,
        write: bool,
        open: impl FnOnce() -> Result<OpenFile<B>>,
    ) -> Result<(Arc<OpenFile<B>>, bool)> {
        if let Some(file) = self.share(node, write) {
            return Ok((file, false));
        }
        let _turn = self.turns[node.0 as usize % TURNS].lock();
        if let Some(file) = self.share(node, write) {
            return Ok((file, false));
        }
        let opened = open()?;
        let mut files = self.files.lock();
        if let Some((file, users)) = files.get_mut(&node) {
            if opened.first_writable && !file.writable() {
                // Open for reading only until now: what is known of it stays, by one descriptor more.
                let _ = file.writer.set(opened.first);
            }
            *users += 1;
            return Ok((Arc::clone(file), false));
        }
        let file = Arc::new(opened);
        files.insert(node, (Arc::clone(&file), 1));
        Ok((file, true))
    }

    /// One more user of an inode's open file, if there is one that serves.
    fn share(&self, node: NodeId, write: bool) -> Option<Arc<OpenFile<B>>> {
        let mut files = self.files.lock();
        let (file, users) = files.get_mut(&node)?;
        if write && !file.writable() {
            return None;
        }
        *users += 1;
        let (file, first) = (Arc::clone(file), *users == 1);
        drop(files);
        if first {
            // Closed and open again: a sync(2) in between may have promised what it holds.
            file.core.write().promise();
        }
        Some(file)
    }

    /// One user less.
    pub(super) fn give_back(&self, node: NodeId) {
        let mut files = self.files.lock();
        if let Some((file, users)) = files.get_mut(&node) {
            *users -= 1;
            if *users == 0 && !file.lingers() {
                files.remove(&node);
            }
        }
    }

    /// Whether nobody uses an open file: it only waits to be written back.
    pub(super) fn is_unused(&self, file: &OpenFile<B>) -> bool {
        self.files
            .lock()
            .get(&file.node)
            .is_none_or(|(_, users)| *users == 0)
    }

    /// Closes a file that nobody uses, when nothing of it waits any more.
    pub(super) fn drop_unused(&self, file: &OpenFile<B>) {
        let mut files = self.files.lock();
        if let Some((open, users)) = files.get(&file.node)
            && std::ptr::eq(&raw const **open, file)
            && *users == 0
            && !open.lingers()
        {
            files.remove(&file.node);
        }
    }

    /// Makes a handle of an acquired file.
    pub(super) fn add_handle(
        &self,
        file: Arc<OpenFile<B>>,
        mode: OpenMode,
        by: &Caller,
    ) -> HandleId {
        let id = HandleId(self.next.fetch_add(1, Ordering::Relaxed));
        self.handles.write().insert(
            id,
            Handle {
                file,
                mode,
                by: requester(by),
            },
        );
        id
    }

    /// Forgets a handle; its file, which has a user less when it is given back.
    pub(super) fn release(&self, id: HandleId) -> Result<Arc<OpenFile<B>>> {
        let handle = self
            .handles
            .write()
            .remove(&id)
            .ok_or(VolumeError::BadHandle)?;
        Ok(handle.file)
    }

    /// The open files.
    pub(super) fn all(&self) -> Vec<Arc<OpenFile<B>>> {
        self.files
            .lock()
            .values()
            .map(|(file, _)| Arc::clone(file))
            .collect()
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

#[cfg(test)]
mod tests;
