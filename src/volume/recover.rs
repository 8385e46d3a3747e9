//! After a crash: bringing files in order that were being written.
//!
//! A file whose state names an epoch that ended in a crash was new then and never synced: what of it
//! authenticates is kept, what doesn't was never promised (a hole inside, cut off at the end). Of any
//! other file everything below the size in its state was durable, and is held to that; behind it,
//! what authenticates is kept and the rest cut off. Then the state is sealed anew.

use std::io::IoSlice;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::Volume;
use super::error::{Result, VolumeError};
use super::open_file::{Head, OpenFile};
use super::walk::Met;
use crate::backing::{At, Backing, EntryName, Kind, SetTime};
use crate::content::{BlockIndex, GroupIndex, Layout, PlainOffset};
use crate::format::{
    ENTRIES_AT, Entry, HEADER_LEN, INLINE_AT, INLINE_MAX, PAGE, STATE_AT, State, StateFlags,
};

/// What a file comes to.
pub(super) struct Found {
    pub(super) layout: Layout,
    /// Bytes of an inline file.
    inline: Vec<u8>,
    /// Blocks that were lost, and read as zeros.
    lost: Vec<BlockIndex>,
    /// Blocks with the entries that fit what is there.
    mended: Vec<(BlockIndex, Entry)>,
}

impl Found {
    fn empty() -> Self {
        Self {
            layout: Layout::Empty,
            inline: Vec::new(),
            lost: Vec::new(),
            mended: Vec::new(),
        }
    }

    fn inline(inline: Vec<u8>) -> Self {
        Self {
            layout: Layout::Inline { len: inline.len() },
            inline,
            lost: Vec::new(),
            mended: Vec::new(),
        }
    }
}

impl<B: Backing> Volume<B> {
    /// Whether there was a crash after which not every file has been looked at.
    pub(super) fn in_doubt(&self) -> bool {
        self.doubt.load(Ordering::Acquire)
    }

    /// Whether an epoch ended in a crash, and what was new in it may be half there.
    pub(super) fn is_doubtful(&self, epoch: u64) -> bool {
        epoch != 0 && self.in_doubt() && self.crashed.lock().contains(&epoch)
    }

    /// Looks at a file whose state may not fit what is there, and brings it in order where that is
    /// allowed. `page` is what there is of its first page, `layout` what its size below says.
    ///
    /// # Errors
    /// [`VolumeError::Damaged`] when what was promised doesn't authenticate.
    pub(super) fn recover_file(
        &self,
        file: &OpenFile<B>,
        page: &[u8],
        head: &mut Head,
        layout: Layout,
        doubtful: bool,
    ) -> Result<Layout> {
        let found = match layout {
            Layout::Empty => Found::empty(),
            Layout::Inline { .. } => self.look_inline(file, page, head, doubtful)?,
            Layout::Blocks { size } => match Self::old_inline(page, head) {
                Some(inline) => Found::inline(inline),
                None => self.look_at_blocks(file, head, size, doubtful)?,
            },
        };
        let changed = found.layout != layout || !found.lost.is_empty() || !found.mended.is_empty();
        if changed {
            tracing::warn!(
                file = %self.cipher_path(file.node),
                bytes = found.layout.size(),
                before = layout.size(),
                holes = found.lost.len(),
                "after a crash: what was never synced was lost"
            );
        }
        if self.read_only {
            for (block, entry) in &found.mended {
                let (group, place) = block.place();
                let mut page = self.entry_page(file, group)?;
                page.set(place, Some(entry));
                file.pages.put(page);
            }
            head.lost = found.lost;
            head.state.size = found.layout.size();
        } else {
            self.mend(file, head, &found, changed)?;
        }
        head.inline = found.inline;
        head.home_size = head.state.size;
        Ok(found.layout)
    }

    /// The bytes of an inline file that was about to outgrow its page, when they are still there.
    fn old_inline(page: &[u8], head: &Head) -> Option<Vec<u8>> {
        let size = usize::try_from(head.state.size).ok()?;
        if !(1..=INLINE_MAX).contains(&size) {
            return None;
        }
        let bytes = page.get(ENTRIES_AT..INLINE_AT + size)?;
        head.unwrapped.keys.open_inline(bytes).ok()
    }

    fn look_inline(
        &self,
        file: &OpenFile<B>,
        page: &[u8],
        head: &Head,
        doubtful: bool,
    ) -> Result<Found> {
        let whole = page.get(ENTRIES_AT..).unwrap_or_default();
        if let Ok(inline) = head.unwrapped.keys.open_inline(whole) {
            let cut = (inline.len() as u64) < head.state.size;
            if doubtful || !cut {
                return Ok(Found::inline(inline));
            }
        } else if let Some(inline) = Self::old_inline(page, head) {
            return Ok(Found::inline(inline));
        } else if doubtful {
            return Ok(Found::empty());
        }
        Err(VolumeError::damaged(
            self.cipher_path(file.node),
            format!("it should have {} bytes", head.state.size),
        ))
    }

    fn look_at_blocks(
        &self,
        file: &OpenFile<B>,
        head: &Head,
        size: u64,
        doubtful: bool,
    ) -> Result<Found> {
        let sealed = head.state.size;
        if size < sealed && !doubtful {
            return Err(VolumeError::damaged(
                self.cipher_path(file.node),
                format!("it should have {sealed} bytes and has {size}"),
            ));
        }
        let offered = self.offers.contains_key(&head.static_part.file_id);
        let first = if doubtful || offered {
            0
        } else {
            sealed / PAGE as u64
        };
        let after = BlockIndex::count_of(size);
        let mut lost: Vec<BlockIndex> = Vec::new();
        let mut mended: Vec<(BlockIndex, Entry)> = Vec::new();
        let mut end = size;
        let mut block = BlockIndex(first);
        let mut buffer = Vec::new();
        'groups: while block < after {
            let (group, place) = block.place();
            let next = GroupIndex(group.0 + 1).first_block().min(after);
            let page = self.entry_page(file, group)?;
            let last = BlockIndex(next.0 - 1);
            let len = (last.0 - block.0) as usize * PAGE + last.len_in(size);
            buffer.clear();
            buffer.resize(len, 0);
            let mut scratch = [0; PAGE];
            self.read_home(file, &mut buffer, block.data_at().0)?;
            for (i, data) in buffer.chunks_mut(PAGE).enumerate() {
                let here = BlockIndex(block.0 + i as u64);
                let entry = match page.get(place + i) {
                    Ok(Some(entry)) => entry,
                    Ok(None) if head.state.flags.sparse => continue,
                    _ => {
                        lost.push(here);
                        if doubtful {
                            continue;
                        }
                        break 'groups;
                    }
                };
                scratch[..data.len()].copy_from_slice(data);
                if head.unwrapped.keys.open_block(here, &entry, data).is_ok() {
                    continue;
                }
                let other = self.other_form(head, here, &entry, &scratch[..data.len()]);
                if let Some((right, len)) = other {
                    mended.push((here, right));
                    if len < data.len() {
                        end = here.plain_start() + len as u64;
                        break 'groups;
                    }
                    continue;
                }
                if !doubtful && here.next().plain_start() <= sealed {
                    continue; // damage, to be told of when it is read
                }
                lost.push(here);
                if !doubtful {
                    break 'groups;
                }
            }
            block = next;
        }
        // What is missing at the end is cut off; never below what was sealed.
        if doubtful {
            while lost
                .last()
                .is_some_and(|last| last.plain_start() < end && end <= last.next().plain_start())
            {
                end = lost.pop().map_or(end, BlockIndex::plain_start);
            }
        } else if let Some(first) = lost.pop() {
            end = first.plain_start().max(sealed);
        }
        if end == 0 {
            return Ok(Found::empty());
        }
        Ok(Found {
            layout: Layout::Blocks { size: end },
            inline: Vec::new(),
            lost,
            mended,
        })
    }

    /// Another form in which a block's bytes authenticate, and its length: by an entry that was
    /// offered before the block was overwritten in place; or as the last block that it was before
    /// the file was extended, when what extends it was lost (then zeros follow its ciphertext).
    fn other_form(
        &self,
        head: &Head,
        block: BlockIndex,
        entry: &Entry,
        data: &[u8],
    ) -> Option<(Entry, usize)> {
        let keys = &head.unwrapped.keys;
        let opens = |entry: &Entry, len: usize| {
            let mut scratch = [0; PAGE];
            let scratch = &mut scratch[..len];
            scratch.copy_from_slice(&data[..len]);
            keys.open_block(block, entry, scratch).is_ok()
        };
        let offers = self.offers.get(&head.static_part.file_id);
        let offers = offers.and_then(|offers| offers.get(&block));
        let fits =
            |(entry, len): &&(Entry, usize)| (1..=data.len()).contains(len) && opens(entry, *len);
        if let Some(fitting) = offers.and_then(|offers| offers.iter().rev().find(fits)) {
            return Some(*fitting);
        }
        let zeros = data.iter().rev().take_while(|&&byte| byte == 0).count();
        // Ciphertext ends in zeros by chance, now and then.
        let least = data.len() - zeros;
        (least.max(1)..data.len().min(least + 17))
            .find(|&len| opens(entry, len))
            .map(|len| (*entry, len))
    }

    /// Writes what was found: holes and size first, then, when that is durable, the state.
    fn mend(
        &self,
        file: &OpenFile<B>,
        head: &mut Head,
        found: &Found,
        changed: bool,
    ) -> Result<()> {
        let before = self.backing.stat_file(file.file())?;
        let size = found.layout.size();
        if changed {
            let cipher_size = match found.layout {
                Layout::Empty => 0,
                Layout::Inline { len } => (INLINE_AT + len) as u64,
                Layout::Blocks { size } => {
                    let size = PlainOffset::new(size).map_err(VolumeError::range)?;
                    self.mend_entries(file, found, size.get())?;
                    Layout::cipher_size(size).0
                }
            };
            self.backing.truncate(file.file(), cipher_size)?;
        }
        self.backing.sync_file(file.file(), true)?;
        if found.layout != Layout::Empty {
            let sparse = head.state.flags.sparse || !found.lost.is_empty();
            let state = State {
                size,
                flags: StateFlags { sparse },
                epoch: 0,
                ..head.state
            };
            let bytes = state.seal(head.unwrapped.keys.content());
            self.backing
                .write_at(file.file(), &mut [IoSlice::new(&bytes)], STATE_AT as u64)?;
            head.state = state;
            head.holes = sparse;
        }
        self.backing.set_times(
            At::File(file.file()),
            SetTime::Omit,
            SetTime::At(before.mtime),
        )?;
        Ok(())
    }

    /// Writes the entries of what was found: holes for lost blocks, and for what stands behind the
    /// end in its group.
    fn mend_entries(&self, file: &OpenFile<B>, found: &Found, size: u64) -> Result<()> {
        let end = BlockIndex::count_of(size);
        let (last_group, _) = BlockIndex(end.0.saturating_sub(1)).place();
        let mended = found.mended.iter().map(|(block, _)| block);
        let mut groups: Vec<GroupIndex> = found
            .lost
            .iter()
            .chain(mended)
            .map(|block| block.place().0)
            .collect();
        groups.push(last_group);
        groups.sort_unstable();
        groups.dedup();
        for group in groups {
            let mut page = self.entry_page(file, group)?;
            for place in 0..group.blocks() {
                let block = BlockIndex(group.first_block().0 + place as u64);
                if block >= end || found.lost.binary_search(&block).is_ok() {
                    page.set(place, None);
                }
            }
            for (block, entry) in &found.mended {
                if page.holds(*block) && *block < end {
                    page.set(block.place().1, Some(entry));
                }
            }
            let (at, entries) = page.span(0..group.blocks());
            self.backing
                .write_at(file.file(), &mut [IoSlice::new(entries)], at)?;
            file.pages.put(page);
        }
        file.pages.cut(Some(last_group));
        Ok(())
    }

    /// After a crash: looks at every file that may be half written, and brings it in order. When
    /// all could be looked at, the volume is strict again: what is missing is damage. `goes_on` is
    /// asked before each file; the number of files that were looked into.
    pub fn recover(&self, goes_on: &(dyn Fn() -> bool + Sync)) -> Result<u64> {
        self.check_writable()?;
        if !self.in_doubt() {
            return Ok(0);
        }
        let epochs = self.crashed.lock().clone();
        let (looked, incomplete) = (AtomicU64::new(0), AtomicBool::new(false));
        let failed = || incomplete.store(true, Ordering::Relaxed);
        let threads = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        self.walk_parallel(threads, &|met| {
            let entry = match met {
                Met::Entry(entry) => entry,
                Met::Unreadable(_, VolumeError::NotFound) => return Ok(()),
                Met::Unreadable(..) => {
                    failed();
                    return Ok(());
                }
            };
            if entry.stat.kind() != Some(Kind::File) || entry.stat.size == 0 {
                return Ok(());
            }
            if !goes_on() {
                failed();
                return Ok(());
            }
            match self.needs_recovery(&entry, &epochs) {
                Ok(false) | Err(VolumeError::NotFound) => {}
                Ok(true) => {
                    looked.fetch_add(1, Ordering::Relaxed);
                    match self.acquire_at(entry.dir, entry.stored, &entry.stat, true) {
                        Ok(file) => self.done_with(&file),
                        // Damage is told of when the file is used.
                        Err(VolumeError::NotFound | VolumeError::Damaged { .. }) => {}
                        Err(error) => {
                            tracing::warn!(file = %entry.stored, %error, "recovery after a crash");
                            failed();
                        }
                    }
                }
                Err(_) => failed(),
            }
            Ok(())
        })?;
        if !incomplete.into_inner() {
            self.backing.sync_all()?;
            self.all_recovered(&epochs)?;
        }
        Ok(looked.into_inner())
    }

    /// Looks at the files that were being overwritten in place when a process ended, by their
    /// stored paths: only now is it known with which entries.
    pub(super) fn recover_offered(&self, paths: &[Vec<u8>]) {
        for path in paths {
            let open = || {
                let names: Vec<EntryName> = path
                    .split(|&byte| byte == b'/')
                    .map(EntryName::new)
                    .collect::<std::io::Result<_>>()?;
                let Some((name, dirs)) = names.split_last() else {
                    return Ok(());
                };
                let mut dir = self.backing.root()?;
                for name in dirs {
                    dir = self.backing.open_dir(&dir, name)?;
                }
                let stat = self.backing.stat(&dir, name)?;
                let file = self.acquire_at(&dir, name, &stat, true)?;
                self.done_with(&file);
                Ok::<(), VolumeError>(())
            };
            if let Err(error) = open() {
                let path = path.escape_ascii();
                tracing::warn!(%path, %error, "recovery after a crash");
            }
        }
    }

    /// Whether the state of a file, unauthenticated, is one to be looked into.
    fn needs_recovery(&self, entry: &super::Visit<'_, B>, epochs: &[u64]) -> Result<bool> {
        let file =
            self.backing
                .open_file(entry.dir, entry.stored, crate::backing::OpenFile::READ)?;
        let mut header = [0; HEADER_LEN];
        let read = self
            .backing
            .read_at(&file, &mut [std::io::IoSliceMut::new(&mut header)], 0)?;
        let Ok((size, epoch)) = State::peek(&header[STATE_AT.min(read)..read]) else {
            return Ok(true);
        };
        let fits =
            Layout::of_cipher_size(entry.stat.size).is_ok_and(|layout| layout.size() == size);
        Ok(!fits || epochs.contains(&epoch))
    }
}
