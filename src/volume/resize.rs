//! Changing a file's size, reserving space, making holes, copying ranges.

use std::io::IoSlice;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::Volume;
use super::error::{Result, VolumeError};
use super::keys::OnBehalf;
use super::open_file::{Core, OpenFile};
use super::types::{FallocateMode, HandleId};
use crate::backing::{Allocate, Backing};
use crate::content::{BlockIndex, EntryPage, GroupIndex, Layout, PlainOffset};
use crate::format::{ENTRIES_AT, INLINE_MAX, PAGE, State, StateFlags};

impl<B: Backing> Volume<B> {
    /// Cuts or extends a file to `size` bytes; what is added reads as zeros.
    pub(super) fn truncate_core(
        &self,
        file: &Arc<OpenFile<B>>,
        core: &mut Core,
        size: u64,
    ) -> Result<()> {
        let new = PlainOffset::new(size).map_err(VolumeError::range)?;
        if let Some(head) = &core.head {
            head.unwrapped.check(&self.keys)?;
        }
        file.home_dirty.store(true, Ordering::Release);
        if size == 0 {
            // An empty file has no header: its next byte gets a new data key.
            // Nothing that was pending is on its way home when this is done.
            let _home = file.home.lock();
            self.backing.truncate(file.file(), 0)?;
            *core = Core::empty();
            file.pages.cut(None);
            if let Some(engine) = &self.engine
                && (!file.overlay.is_empty() || file.open_cut.load(Ordering::Acquire))
            {
                file.overlay.emptied(file.sequence.load(Ordering::Acquire));
                engine.queue(file);
            }
            *file.old.lock() = None;
            file.open_cut.store(false, Ordering::Release);
            file.unsealed.store(false, Ordering::Release);
            return Ok(());
        }
        self.at_rest(file, core)?;
        core.cuts += u64::from(size < core.layout.size());
        match core.layout {
            Layout::Empty | Layout::Inline { .. } if size <= INLINE_MAX as u64 => {
                let mut plain = core
                    .head
                    .as_ref()
                    .map_or_else(Vec::new, |head| head.inline.clone());
                plain.resize(size as usize, 0);
                self.set_inline(file, core, plain)
            }
            Layout::Empty => self.all_hole(file, core, new),
            Layout::Inline { .. } => {
                // One zero behind the inline room makes it a file in blocks; the rest is a hole.
                let before = core.layout.size();
                self.write_core(file, core, INLINE_MAX as u64, &[0])?;
                let result = self.grow(file, core, new);
                if result.is_err() {
                    let _ = self.truncate_core(file, core, before);
                }
                result
            }
            Layout::Blocks { size: old } if size < old => self.shrink(file, core, old, new),
            Layout::Blocks { .. } => self.grow(file, core, new),
        }
    }

    /// An empty file becomes one hole.
    fn all_hole(&self, file: &Arc<OpenFile<B>>, core: &mut Core, new: PlainOffset) -> Result<()> {
        let (mut head, start) = self.new_head()?;
        head.state = State {
            size: new.get(),
            flags: StateFlags { sparse: true },
            ..head.state
        };
        head.holes = true;
        let state = head.state.seal(head.unwrapped.keys.content());
        let entries = [0; PAGE - ENTRIES_AT];
        let mut bufs = [
            IoSlice::new(&start),
            IoSlice::new(&state),
            IoSlice::new(&entries),
        ];
        let made = self
            .backing
            .write_at(file.file(), &mut bufs, 0)
            .and_then(|()| {
                self.backing
                    .truncate(file.file(), Layout::cipher_size(new).0)
            });
        if let Err(error) = made {
            self.cut_back(file, 0);
            return Err(error.into());
        }
        core.head = Some(head);
        core.layout = Layout::Blocks { size: new.get() };
        Ok(())
    }

    fn grow(&self, file: &Arc<OpenFile<B>>, core: &mut Core, new: PlainOffset) -> Result<()> {
        let size = core.layout.size();
        if new.get() <= size {
            return Ok(());
        }
        if size < core.fresh_from() {
            return self.grow_promised(file, core, new.get());
        }
        let steps = |core: &mut Core| {
            self.stretch_last(file, core, size, new.get())?;
            if BlockIndex::count_of(new.get()) > BlockIndex::count_of(size) {
                self.mark_sparse(file, core)?;
            }
            self.backing
                .truncate(file.file(), Layout::cipher_size(new).0)?;
            self.set_size(file, core, new)
        };
        let result = steps(core);
        if result.is_err() {
            // Too large for the filesystem below, or worse: back to the old size.
            let stretched = core.layout.size();
            let back = PlainOffset::new(stretched).map_err(VolumeError::range)?;
            self.cut_back(file, Layout::cipher_size(back).0);
            if stretched > size {
                let _ = self.truncate_core(file, core, size);
            }
        }
        result
    }

    fn set_size(&self, file: &Arc<OpenFile<B>>, core: &mut Core, new: PlainOffset) -> Result<()> {
        if let Some(head) = &mut core.head
            && head.state.size != new.get()
        {
            let state = State {
                size: new.get(),
                ..head.state
            };
            if core.fresh {
                self.write_state(file, head, state)?;
            } else {
                // Written when what it covers is durable.
                head.state = state;
                file.unsealed.store(true, Ordering::Release);
            }
        }
        core.layout = Layout::Blocks { size: new.get() };
        Ok(())
    }

    fn shrink(
        &self,
        file: &Arc<OpenFile<B>>,
        core: &mut Core,
        old: u64,
        new: PlainOffset,
    ) -> Result<()> {
        let (last, keep) = new.block();
        let (group, place) = last.place();
        let before = self.entry_page(file, group)?;
        let Some(head) = &core.head else {
            return Err(VolumeError::Stale);
        };
        let old_state = head.state;
        let mut page = before.clone();
        let mut plain = [0; PAGE];
        let cut = if keep > 0 {
            before.get(place).ok().flatten()
        } else {
            None
        };
        if cut.is_some() {
            self.read_block(file, head, old, last, &mut plain)?;
        }
        let promised = new.get() < core.fresh_from();
        // Entries behind the end must not come to life when the file grows again.
        for place in place + usize::from(keep > 0)..group.blocks() {
            page.set(place, None);
        }
        if promised {
            let kept = cut.map(|entry| (last, Some(entry), &plain[..keep]));
            return self.journal_cut(file, core, page, new.get(), kept);
        }
        let result = self
            .replace_last(
                file,
                core,
                &mut page,
                last,
                cut.is_some().then_some(&plain[..keep]),
            )
            .and_then(|()| self.set_size(file, core, new))
            .and_then(|()| {
                Ok(self
                    .backing
                    .truncate(file.file(), Layout::cipher_size(new).0)?)
            });
        match result {
            Ok(()) => {
                file.pages.cut(Some(group));
                file.pages.put(page);
            }
            Err(_) => {
                // As it was: the block that was cut gets its bytes again, the others their entries.
                let mut page = before.clone();
                let whole = cut.is_some().then_some(&plain[..last.len_in(old)]);
                if self
                    .replace_last(file, core, &mut page, last, whole)
                    .is_ok()
                {
                    file.pages.put(page);
                }
                if let Some(head) = &mut core.head {
                    if core.fresh {
                        let _ = self.write_state(file, head, old_state);
                    } else {
                        head.state = old_state;
                    }
                }
                core.layout = Layout::Blocks { size: old };
            }
        }
        result
    }

    /// Seals block `last` anew with these bytes, if any, and writes the entries of its group from
    /// there on.
    fn replace_last(
        &self,
        file: &Arc<OpenFile<B>>,
        core: &Core,
        page: &mut EntryPage,
        last: BlockIndex,
        plain: Option<&[u8]>,
    ) -> Result<()> {
        let (group, place) = last.place();
        let mut under_way = None;
        if let (Some(plain), Some(head)) = (plain, &core.head) {
            let mut cipher = [0; PAGE];
            let cipher = &mut cipher[..plain.len()];
            let before = page.get(place).ok().flatten();
            let entry = head
                .unwrapped
                .keys
                .seal_block(last, before.as_ref(), plain, cipher);
            page.set(place, Some(&entry));
            under_way = self.offer(file, head, &[(last, entry, plain.len())])?;
            self.backing
                .write_at(file.file(), &mut [IoSlice::new(cipher)], last.data_at().0)?;
        }
        let (at, entries) = page.span(place..group.blocks());
        self.backing
            .write_at(file.file(), &mut [IoSlice::new(entries)], at)?;
        drop(under_way);
        Ok(())
    }

    /// fallocate(2) on an open file.
    ///
    /// # Errors
    /// [`VolumeError::NotSupported`] where the cipher directory's filesystem can't.
    pub fn fallocate(
        &self,
        handle: HandleId,
        mode: FallocateMode,
        offset: u64,
        len: u64,
    ) -> Result<()> {
        let handle = self.files.handle(handle)?;
        if !handle.mode.write {
            return Err(VolumeError::BadHandle);
        }
        if len == 0 {
            return Err(VolumeError::Invalid("fallocate of no bytes"));
        }
        let _on_behalf = OnBehalf::of(handle.by);
        let offset = PlainOffset::new(offset).map_err(VolumeError::range)?;
        let end = offset.plus(len).map_err(VolumeError::range)?;
        let file = &handle.file;
        let _room = self.room_for_step()?;
        let mut core = file.core.write();
        file.home_dirty.store(true, Ordering::Release);
        if let Some(head) = &core.head {
            head.unwrapped.check(&self.keys)?;
        }
        self.at_rest(file, &core)?;
        let grows = matches!(mode, FallocateMode::Allocate | FallocateMode::ZeroRange);
        match mode {
            FallocateMode::Allocate | FallocateMode::AllocateKeepSize => {
                self.reserve(file, &core, offset, end)?;
            }
            FallocateMode::PunchHole
            | FallocateMode::ZeroRange
            | FallocateMode::ZeroRangeKeepSize => {
                self.make_hole(file, &mut core, offset, end)?;
            }
        }
        if grows && end.get() > core.layout.size() {
            self.truncate_core(file, &mut core, end.get())?;
        }
        if matches!(
            mode,
            FallocateMode::ZeroRange | FallocateMode::ZeroRangeKeepSize
        ) {
            // The hole reads as zeros already; the space is a courtesy.
            let _ = self.reserve(file, &core, offset, end);
        }
        Ok(())
    }

    /// Reserves space below for a range of plaintext.
    fn reserve(
        &self,
        file: &Arc<OpenFile<B>>,
        core: &Core,
        offset: PlainOffset,
        end: PlainOffset,
    ) -> Result<()> {
        let first = offset.block().0;
        let from = if matches!(core.layout, Layout::Blocks { .. }) {
            first.data_at().0
        } else {
            0
        };
        let to = Layout::cipher_size(end).0;
        if to <= from {
            return Ok(());
        }
        self.backing
            .allocate(file.file(), Allocate::ReserveKeepSize, from, to - from)
            .map_err(|error| match error.raw_os_error() {
                Some(libc::EOPNOTSUPP) => {
                    VolumeError::NotSupported("fallocate on the filesystem below")
                }
                _ => error.into(),
            })
    }

    /// Makes zeros of the part of a range that is below the size; whole blocks become holes.
    fn make_hole(
        &self,
        file: &Arc<OpenFile<B>>,
        core: &mut Core,
        offset: PlainOffset,
        end: PlainOffset,
    ) -> Result<()> {
        let size = core.layout.size();
        let (start, end) = (offset.get(), end.get().min(size));
        if start >= end {
            return Ok(());
        }
        if let Layout::Inline { .. } = core.layout {
            let mut plain = core
                .head
                .as_ref()
                .map_or_else(Vec::new, |head| head.inline.clone());
            plain[start as usize..end as usize].fill(0);
            return self.set_inline(file, core, plain);
        }
        let zeros = [0; PAGE];
        let page = PAGE as u64;
        // Whole blocks: those inside the range; the last block of the file counts as whole.
        let first = BlockIndex(start.div_ceil(page));
        let after = if end == size {
            BlockIndex::count_of(size)
        } else {
            BlockIndex(end / page)
        };
        if first >= after {
            // All of it is inside one block, or in the ends of two neighbours.
            let mut at = start;
            while at < end {
                let upto = (at + 1).next_multiple_of(page).min(end);
                self.write_core(file, core, at, &zeros[..(upto - at) as usize])?;
                at = upto;
            }
            return Ok(());
        }
        if start < first.plain_start() {
            self.write_core(
                file,
                core,
                start,
                &zeros[..(first.plain_start() - start) as usize],
            )?;
        }
        if end > after.plain_start() {
            let tail = (end - after.plain_start()) as usize;
            self.write_core(file, core, after.plain_start(), &zeros[..tail])?;
        }
        self.mark_sparse(file, core)?;
        // Promised blocks first, through the journal; each group is a small record.
        let bound = BlockIndex(core.fresh_from() / page).clamp(first, after);
        self.drop_entries(file, core, first, bound, true)?;
        self.drop_entries(file, core, bound, after, false)
    }

    /// Makes holes of whole blocks, `first` up to but not `after`.
    fn drop_entries(
        &self,
        file: &Arc<OpenFile<B>>,
        core: &Core,
        first: BlockIndex,
        after: BlockIndex,
        promised: bool,
    ) -> Result<()> {
        let mut block = first;
        while block < after {
            let (group, place) = block.place();
            let next = GroupIndex(group.0 + 1).first_block().min(after);
            let upto = place + (next.0 - block.0) as usize;
            let old = self.entry_page(file, group)?;
            if (place..upto).any(|place| !matches!(old.get(place), Ok(None))) {
                let mut page = old.clone();
                for place in place..upto {
                    page.set(place, None);
                }
                if promised {
                    self.journal_holes(file, core, page, (block, next))?;
                    block = next;
                    continue; // their space goes back when they go home
                }
                let write = |page: &EntryPage| {
                    let (at, entries) = page.span(place..upto);
                    self.backing
                        .write_at(file.file(), &mut [IoSlice::new(entries)], at)
                };
                if let Err(error) = write(&page) {
                    let _ = write(&old); // it may have been done in part
                    return Err(error.into());
                }
                file.pages.put(page);
            } else if let Some(data) = self.next_data(file, next)? {
                // Nothing here: go on where the filesystem below has data.
                block = next.max(data.min(after));
                continue;
            } else {
                return Ok(());
            }
            // The space goes back; the zeros are true without that.
            let from = block.data_at().0;
            let len = (next.0 - block.0) * PAGE as u64;
            let _ = self
                .backing
                .allocate(file.file(), Allocate::Punch, from, len);
            block = next;
        }
        Ok(())
    }

    /// Where the next block may be that isn't a hole.
    pub(super) fn next_data(
        &self,
        file: &OpenFile<B>,
        block: BlockIndex,
    ) -> Result<Option<BlockIndex>> {
        let from = block.place().0.page_at().0;
        let below = self
            .backing
            .seek(file.file(), crate::backing::Seek::Data, from)?
            .map(|at| GroupIndex::at(at).first_block());
        Ok(below.into_iter().chain(file.overlay.next_data(block)).min())
    }

    /// Copies a range between two open files (or within one); the number of bytes copied.
    pub fn copy_range(
        &self,
        from: HandleId,
        from_offset: u64,
        to: HandleId,
        to_offset: u64,
        len: u64,
    ) -> Result<u64> {
        const PIECE: usize = 1 << 20;
        let end = |offset: u64| offset.checked_add(len).ok_or(VolumeError::FileTooLarge);
        let (from_end, to_end) = (end(from_offset)?, end(to_offset)?);
        let same = self.files.handle(from)?.file.node == self.files.handle(to)?.file.node;
        if same && from_offset < to_end && to_offset < from_end {
            return Err(VolumeError::Invalid("the ranges of a copy overlap"));
        }
        let mut buf = vec![0; len.min(PIECE as u64) as usize];
        let mut done = 0;
        while done < len {
            let want = buf.len().min((len - done) as usize);
            let got = self.read(from, from_offset + done, &mut buf[..want])?;
            if got == 0 {
                break;
            }
            match self.write(to, to_offset + done, &buf[..got], false) {
                Ok(()) => done += got as u64,
                Err(error) if done == 0 => return Err(error),
                Err(_) => break,
            }
            if got < want {
                break; // the end as it was: writing may have moved it, in one and the same file
            }
        }
        Ok(done)
    }
}
