//! Writing to an open file.
//!
//! Order: data first, then the entries that make it readable, so that a process killed in between
//! leaves a fresh block a hole. A failed write leaves the file as it was (see `take_back`).

use std::cell::RefCell;
use std::io::IoSlice;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use smallvec::SmallVec;

use super::Volume;
use super::error::{Result, VolumeError};
use super::keys::OnBehalf;
use super::open_file::{BLOCKS, Core, GROUPS, Groups, Handle, Head, OpenFile};
use super::overwrite::Times;
use super::types::HandleId;
use crate::backing::Backing;
use crate::content::{BlockIndex, EntryPage, GroupIndex, Layout, PlainOffset};
use crate::crypto::Sealed;
use crate::format::{INLINE_AT, INLINE_MAX, PAGE, STATE_AT, STATE_LEN, State, StateFlags};

/// Seals of one data key, in units of 2^16: half of SP 800-38D's bound of 2^32, since the state's
/// seals come on top of the blocks'.
const SEALS_MOST: u32 = 1 << 15;
/// With so many a data key is renewed while the file is in use: 2^29 seals (2 TiB of writes) before
/// it may not be used any more. In units of 2^16.
pub(super) const SEALS_RENEW: u32 = SEALS_MOST / 4 * 3;

thread_local! {
    /// Where a write's ciphertext is made before it goes below.
    pub(super) static CIPHER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// What a write does to the blocks of one file.
pub(super) struct Plan {
    offset: PlainOffset,
    /// The first block touched.
    pub(super) first: BlockIndex,
    /// The last block touched.
    pub(super) last: BlockIndex,
    /// Plaintext bytes before and after.
    pub(super) old_size: u64,
    pub(super) new_size: u64,
}

impl Plan {
    pub(super) fn new(offset: PlainOffset, len: usize, old_size: u64) -> Result<Self> {
        let end = offset.plus(len as u64).map_err(VolumeError::range)?.get();
        Ok(Self {
            offset,
            first: offset.block().0,
            last: BlockIndex((end - 1) / PAGE as u64),
            old_size,
            new_size: old_size.max(end),
        })
    }

    fn end(&self, len: usize) -> u64 {
        self.offset.get() + len as u64
    }
}

/// Counts seals at random: see [`State::seals`].
pub(super) fn counts(sealed: &Sealed) -> bool {
    sealed.nonce[..2] == [0, 0]
}

impl<B: Backing> Volume<B> {
    /// Writes `data` at `offset` bytes; all of it or nothing.
    ///
    /// `kill_privileges` is set when the writer may not keep setuid and setgid bits.
    ///
    /// # Errors
    /// What the cipher directory says (no space, quota, ...); the file is then as it was.
    pub fn write(
        &self,
        handle: HandleId,
        offset: u64,
        data: &[u8],
        kill_privileges: bool,
    ) -> Result<()> {
        let Some(handle) = self.begin_write(handle, data.len(), kill_privileges)? else {
            return Ok(());
        };
        let _on_behalf = OnBehalf::of(handle.by);
        self.write_for(&handle, offset, data)
    }

    /// What comes before every write; None where it has no bytes.
    pub(super) fn begin_write(
        &self,
        handle: HandleId,
        len: usize,
        kill_privileges: bool,
    ) -> Result<Option<Handle<B>>> {
        let handle = self.files.handle(handle)?;
        if !handle.mode.write {
            return Err(VolumeError::BadHandle);
        }
        if len == 0 {
            return Ok(None);
        }
        self.drop_privileges(&handle.file, kill_privileges)?;
        Ok(Some(handle))
    }

    /// [`Volume::write`], for a handle that may write.
    pub(super) fn write_for(&self, handle: &Handle<B>, offset: u64, data: &[u8]) -> Result<()> {
        let Some(engine) = &self.engine else {
            let mut core = handle.file.core.write();
            return self.write_core(&handle.file, &mut core, offset, data);
        };
        // What the kernel sends fits in one piece, unless the journal is tiny.
        for (i, piece) in data.chunks(engine.journal.piece()).enumerate() {
            let from = offset
                .checked_add((i * engine.journal.piece()) as u64)
                .ok_or(VolumeError::FileTooLarge)?;
            let mut core = handle.file.core.write();
            // What is new and behind the end needs no room in the journal.
            let appends = from >= core.layout.size().next_multiple_of(PAGE as u64);
            let _room = if core.fresh && appends {
                None
            } else {
                drop(core);
                let room = engine.room(piece.len())?;
                core = handle.file.core.write();
                Some(room)
            };
            self.write_core(&handle.file, &mut core, from, piece)?;
        }
        Ok(())
    }

    pub(super) fn write_core(
        &self,
        file: &Arc<OpenFile<B>>,
        core: &mut Core,
        offset: u64,
        data: &[u8],
    ) -> Result<()> {
        let offset = PlainOffset::new(offset).map_err(VolumeError::range)?;
        let end = offset
            .plus(data.len() as u64)
            .map_err(VolumeError::range)?
            .get();
        self.check_write(file, core)?;
        match core.layout {
            Layout::Empty | Layout::Inline { .. } if end <= INLINE_MAX as u64 => {
                let mut plain = core
                    .head
                    .as_ref()
                    .map_or_else(Vec::new, |head| head.inline.clone());
                let at = offset.get() as usize;
                plain.resize(plain.len().max(end as usize), 0);
                plain[at..at + data.len()].copy_from_slice(data);
                self.set_inline(file, core, plain)
            }
            Layout::Empty => {
                let (head, fresh) = self.new_head()?;
                core.head = Some(head);
                let result = self.write_blocks(file, core, offset, data, None, Some(&fresh));
                if result.is_err() {
                    self.back_to_empty(file, core);
                }
                result
            }
            Layout::Inline { .. } => self.outgrow(file, core, offset, data),
            Layout::Blocks { size } => {
                if !core.fresh && offset.get() >= core.fresh_from() && size < core.fresh_from() {
                    return self.write_behind(file, core, offset, data);
                }
                let result = self
                    .fill_gap(file, core, size, offset)
                    .and_then(|()| self.write_range(file, core, offset, data));
                if result.is_err() && core.layout.size() > size {
                    // The gap was filled for nothing.
                    let _ = self.truncate_core(file, core, size);
                }
                result
            }
        }
    }

    /// Lets a write pass when the file's data key may be used, and what the file was cut to is safe.
    pub(super) fn check_write(&self, file: &OpenFile<B>, core: &Core) -> Result<()> {
        if let Some(head) = &core.head {
            head.unwrapped.check(&self.keys)?;
            if head.state.seals >= SEALS_MOST {
                return Err(VolumeError::KeyWornOut(self.cipher_path(file.node)));
            }
        }
        self.at_rest(file, core)
    }

    /// Replaces the bytes of an inline (or still empty) file.
    pub(super) fn set_inline(
        &self,
        file: &Arc<OpenFile<B>>,
        core: &mut Core,
        plain: Vec<u8>,
    ) -> Result<()> {
        if !core.fresh {
            return self.journal_inline(file, core, plain, Times::Moved);
        }
        file.home_dirty.store(true, Ordering::Release);
        let len = plain.len();
        let cut = core.layout.size() > len as u64;
        match &mut core.head {
            Some(head) => {
                let before = std::mem::take(&mut head.inline);
                let mut written = self.write_inline(file, head, None, plain);
                if cut && written.is_ok() {
                    let size = (INLINE_AT + len) as u64;
                    written = self.backing.truncate(file.file(), size).map_err(Into::into);
                }
                if let Err(error) = written {
                    // One page: it is either written or not. Write the old bytes again to be sure.
                    self.back_to_inline(file, head, before);
                    return Err(error);
                }
            }
            None => {
                let (mut head, fresh) = self.new_head()?;
                if let Err(error) = self.write_inline(file, &mut head, Some(&fresh), plain) {
                    self.back_to_empty(file, core);
                    return Err(error);
                }
                core.head = Some(head);
            }
        }
        core.layout = Layout::Inline { len };
        Ok(())
    }

    fn back_to_empty(&self, file: &OpenFile<B>, core: &mut Core) {
        self.cut_back(file, 0);
        *core = Core::empty();
        file.pages.cut(None);
    }

    /// Writes the bytes again that an inline file had before a step that failed.
    fn back_to_inline(&self, file: &OpenFile<B>, head: &mut Head, plain: Vec<u8>) {
        let size = (INLINE_AT + plain.len()) as u64;
        head.inline.clone_from(&plain);
        if self.write_inline(file, head, None, plain).is_ok() {
            self.cut_back(file, size);
        }
    }

    /// An inline file becomes one in blocks, and `data` is written to it.
    pub(super) fn outgrow(
        &self,
        file: &Arc<OpenFile<B>>,
        core: &mut Core,
        offset: PlainOffset,
        data: &[u8],
    ) -> Result<()> {
        if !core.fresh {
            return self.outgrow_promised(file, core, offset, data);
        }
        let Some(head) = &mut core.head else {
            return Err(VolumeError::Stale);
        };
        let inline = std::mem::take(&mut head.inline);
        // When the new bytes reach into block 0, it is written once, with both.
        let result = if offset.block().0 == BlockIndex(0) {
            self.write_blocks(file, core, offset, data, Some(&inline), None)
        } else {
            let zero = PlainOffset::new(0).map_err(VolumeError::range)?;
            let whole: &[u8] = if inline.is_empty() { &[0] } else { &inline };
            self.write_blocks(file, core, zero, whole, Some(&[]), None)
                .and_then(|()| {
                    self.fill_gap(file, core, whole.len() as u64, offset)?;
                    self.write_blocks(file, core, offset, data, None, None)
                })
        };
        if result.is_err() {
            // Back to the inline form: one page, and the blocks behind it cut.
            let len = inline.len();
            file.pages.cut(None);
            if let Some(head) = &mut core.head {
                self.back_to_inline(file, head, inline);
            }
            core.layout = Layout::Inline { len };
        }
        result
    }

    /// The same, for an inline file that was promised: first block 0 as it was, then the rest.
    fn outgrow_promised(
        &self,
        file: &Arc<OpenFile<B>>,
        core: &mut Core,
        offset: PlainOffset,
        data: &[u8],
    ) -> Result<()> {
        let inline = core
            .head
            .as_ref()
            .map_or_else(Vec::new, |head| head.inline.clone());
        let size = inline.len() as u64;
        self.journal_outgrow(file, core, if inline.is_empty() { &[0] } else { &inline })?;
        let (_, start) = offset.block();
        let result = if let Err(error) = self.at_rest(file, core) {
            Err(error)
        } else if offset.block().0 == BlockIndex(0) && start as u64 > size {
            // Zeros between the old end and the new bytes.
            let mut padded = vec![0; start - inline.len()];
            padded.extend_from_slice(data);
            PlainOffset::new(size)
                .map_err(VolumeError::range)
                .and_then(|at| self.write_range(file, core, at, &padded))
        } else {
            self.fill_gap(file, core, core.layout.size(), offset)
                .and_then(|()| self.write_range(file, core, offset, data))
        };
        if result.is_err() {
            let _ = self.truncate_core(file, core, size.max(1));
        }
        result
    }

    /// Before a write behind the end: the last block becomes a full one, and blocks that are
    /// skipped become holes.
    pub(super) fn fill_gap(
        &self,
        file: &Arc<OpenFile<B>>,
        core: &mut Core,
        size: u64,
        offset: PlainOffset,
    ) -> Result<()> {
        let block_start = offset.block().0.plain_start();
        if block_start <= size {
            return Ok(());
        }
        let full = size.next_multiple_of(PAGE as u64);
        self.stretch_last(file, core, size, full)?;
        if block_start > full {
            self.mark_sparse(file, core)?;
        }
        Ok(())
    }

    /// Seals the last block of a file of `size` bytes anew, with zeros up to `new_size` or its end.
    pub(super) fn stretch_last(
        &self,
        file: &Arc<OpenFile<B>>,
        core: &mut Core,
        size: u64,
        new_size: u64,
    ) -> Result<()> {
        let upto = new_size.min(size.next_multiple_of(PAGE as u64));
        if upto <= size {
            return Ok(());
        }
        let (last, _) = PlainOffset::new(size).map_err(VolumeError::range)?.block();
        let (group, place) = last.place();
        if self
            .entry_page(file, group)?
            .get(place)
            .is_ok_and(|entry| entry.is_none())
        {
            return Ok(()); // a hole stays one at any length
        }
        let zeros = [0; PAGE];
        let offset = PlainOffset::new(size).map_err(VolumeError::range)?;
        self.write_range(file, core, offset, &zeros[..(upto - size) as usize])
    }

    /// From here on an all-zero entry is a hole.
    pub(super) fn mark_sparse(&self, file: &Arc<OpenFile<B>>, core: &mut Core) -> Result<()> {
        let flags = StateFlags { sparse: true };
        let Some(head) = &mut core.head else {
            return Ok(());
        };
        if head.state.flags.sparse {
            return Ok(());
        }
        if !core.fresh {
            return self.journal_state(file, core, flags);
        }
        let state = State {
            flags,
            ..head.state
        };
        self.write_state(file, head, state)
    }

    /// Writes to a file in blocks. `known` is the plaintext of block 0 when it isn't on disk in
    /// this form yet (and page 0 is then written from the state on); `fresh` is the header's start
    /// when there is none on disk. The range starts in or before the block behind the end.
    pub(super) fn write_blocks(
        &self,
        file: &OpenFile<B>,
        core: &mut Core,
        offset: PlainOffset,
        data: &[u8],
        known: Option<&[u8]>,
        fresh: Option<&[u8; STATE_AT]>,
    ) -> Result<()> {
        file.home_dirty.store(true, Ordering::Release);
        let plan = Plan::new(offset, data.len(), core.layout.size())?;
        let rewritten = known.is_some() || fresh.is_some();
        CIPHER.with_borrow_mut(|cipher| {
            let Some(head) = &core.head else {
                return Err(VolumeError::Stale);
            };
            let mut pages = self.pages_of(file, &plan, rewritten)?;
            // Blocks that have a form already: those before the old end.
            let old_end = if rewritten {
                0
            } else {
                BlockIndex::count_of(plan.old_size).0
            };
            let overwritten: SmallVec<[BlockIndex; BLOCKS]> = (plan.first.0
                ..old_end.min(plan.last.0 + 1))
                .map(BlockIndex)
                .filter(|block| {
                    let page = pages.iter().find(|page| page.holds(*block));
                    page.is_some_and(|page| !matches!(page.get(block.place().1), Ok(None)))
                })
                .collect();
            let mut state = head.state;
            state.size = plan.new_size;
            if fresh.is_some() && plan.first > BlockIndex(0) {
                state.flags.sparse = true;
            }
            self.seal_range(
                file,
                head,
                &plan,
                data,
                known,
                (&mut pages, &mut state),
                cipher,
            )?;
            let offers: SmallVec<[_; BLOCKS]> = overwritten
                .into_iter()
                .filter_map(|block| {
                    let page = pages.iter().find(|page| page.holds(block))?;
                    let entry = page.get(block.place().1).ok().flatten()?;
                    Some((block, entry, block.len_in(plan.new_size)))
                })
                .collect();
            let _under_way = self.offer(file, head, &offers)?;
            let written = (rewritten, fresh);
            self.store_blocks(file, core, &plan, (&mut pages, state), written, cipher)
        })
    }

    /// Puts sealed blocks below, and the file's entries and state with them; after a failure, the file
    /// as it was.
    pub(super) fn store_blocks(
        &self,
        file: &OpenFile<B>,
        core: &mut Core,
        plan: &Plan,
        (pages, state): (&mut Groups, State),
        (rewritten, fresh): (bool, Option<&[u8; STATE_AT]>),
        cipher: &[u8],
    ) -> Result<()> {
        let stated = core.fresh;
        let Some(head) = &mut core.head else {
            return Err(VolumeError::Stale);
        };
        // In a file that was promised, the state waits until what it covers is durable.
        let state_bytes = (stated && (rewritten || state != head.state))
            .then(|| state.seal(head.unwrapped.keys.content()));
        let state_bytes = state_bytes.as_ref();
        let written = self.write_below(file, plan, pages, state_bytes, fresh, rewritten, cipher);
        if let Err(error) = written {
            if !rewritten {
                self.take_back(file, head, plan, pages, cipher, stated);
            }
            return Err(error);
        }
        if !stated && state != head.state {
            file.unsealed.store(true, Ordering::Release);
        }
        head.holes |= state.flags.sparse;
        head.state = state;
        for page in pages.drain(..) {
            file.pages.put(page);
        }
        core.layout = Layout::Blocks {
            size: plan.new_size,
        };
        Ok(())
    }

    /// Copies of the entry pages that the write changes.
    pub(super) fn pages_of(
        &self,
        file: &OpenFile<B>,
        plan: &Plan,
        rewritten: bool,
    ) -> Result<Groups> {
        let (first, last) = (plan.first.place().0, plan.last.place().0);
        let from = if rewritten { GroupIndex(0) } else { first };
        let mut pages = Groups::new();
        for group in std::iter::once(from).chain((first.0..=last.0).map(GroupIndex)) {
            if pages
                .last()
                .is_some_and(|page: &EntryPage| page.group() >= group)
            {
                continue;
            }
            let new = group.first_block().plain_start() >= plan.old_size || rewritten;
            pages.push(if new {
                EntryPage::empty(group)
            } else {
                self.entry_page(file, group)?
            });
        }
        Ok(pages)
    }

    /// Seals the blocks of the range into `cipher`, one behind the other, and notes their entries.
    #[allow(clippy::too_many_arguments)] // one step of write_blocks, cut out to be read
    pub(super) fn seal_range(
        &self,
        file: &OpenFile<B>,
        head: &Head,
        plan: &Plan,
        data: &[u8],
        known: Option<&[u8]>,
        (pages, state): (&mut [EntryPage], &mut State),
        cipher: &mut Vec<u8>,
    ) -> Result<()> {
        let (start, end) = (plan.offset.get(), plan.end(data.len()));
        let last_len = plan.last.len_in(plan.new_size);
        let total = (plan.last.0 - plan.first.0) as usize * PAGE + last_len;
        if cipher.len() < total {
            cipher.resize(total, 0);
        }
        let mut page = 0;
        let mut ragged = [0; PAGE];
        for (i, out) in cipher[..total].chunks_mut(PAGE).enumerate() {
            let block = BlockIndex(plan.first.0 + i as u64);
            let (from, to) = (block.plain_start(), block.plain_start() + out.len() as u64);
            let plain = if start <= from && to <= end {
                let at = (from - start) as usize;
                &data[at..at + out.len()]
            } else {
                let had = match known {
                    Some(known) => {
                        // Block 0 alone has known bytes; the blocks behind it are new.
                        let known = if block == BlockIndex(0) { known } else { &[] };
                        ragged[..known.len()].copy_from_slice(known);
                        known.len()
                    }
                    None => self.read_block(file, head, plan.old_size, block, &mut ragged)?,
                };
                ragged[had..].fill(0);
                let (first, last) = (start.max(from), end.min(to));
                ragged[(first - from) as usize..(last - from) as usize]
                    .copy_from_slice(&data[(first - start) as usize..(last - start) as usize]);
                &ragged[..out.len()]
            };
            while !pages[page].holds(block) {
                page += 1;
            }
            let (_, place) = block.place();
            let before = pages[page].get(place).ok().flatten();
            let entry = head
                .unwrapped
                .keys
                .seal_block(block, before.as_ref(), plain, out);
            state.seals += u32::from(counts(&entry.sealed));
            pages[page].set(place, Some(&entry));
        }
        Ok(())
    }

    /// The calls below of one write: the data (with the entry pages of later groups between it),
    /// then the entries of its first group, with the state where that changes.
    #[allow(clippy::too_many_arguments)] // one step of write_blocks, cut out to be read
    fn write_below(
        &self,
        file: &OpenFile<B>,
        plan: &Plan,
        pages: &[EntryPage],
        state_bytes: Option<&[u8; STATE_LEN]>,
        fresh: Option<&[u8; STATE_AT]>,
        rewritten: bool,
        cipher: &[u8],
    ) -> Result<()> {
        let (group, place) = plan.first.place();
        let last_len = plan.last.len_in(plan.new_size);
        let total = (plan.last.0 - plan.first.0) as usize * PAGE + last_len;

        let mut bufs = SmallVec::<[IoSlice<'_>; 2 * GROUPS + 3]>::new();
        let mut at = plan.first.data_at().0;
        let start = fresh.map_or(&[][..], |start| start.as_slice());
        let page_0 = pages
            .first()
            .filter(|page| rewritten && page.group() == GroupIndex(0));
        // Bytes that stand in page 0 until now are there until their new place has them.
        let in_one = fresh.is_some() && plan.first == BlockIndex(0);
        if let (true, Some(page), Some(state)) = (in_one, page_0, state_bytes) {
            // Page 0 and the data behind it, in one.
            bufs.push(IoSlice::new(start));
            bufs.push(IoSlice::new(state));
            bufs.push(IoSlice::new(&page.bytes()[group.entries_in_page()..]));
            at = (STATE_AT - start.len()) as u64;
        }
        let mut rest = &cipher[..total];
        let in_first = rest.len().min((group.blocks() - place) * PAGE);
        let (piece, tail) = rest.split_at(in_first);
        bufs.push(IoSlice::new(piece));
        rest = tail;
        for page in pages.iter().filter(|page| page.group() > group) {
            let (piece, tail) = rest.split_at(rest.len().min(page.group().blocks() * PAGE));
            bufs.push(IoSlice::new(page.bytes()));
            bufs.push(IoSlice::new(piece));
            rest = tail;
        }
        self.backing.write_at(file.file(), &mut bufs, at)?;
        if in_one {
            return Ok(());
        }
        if let (Some(page), Some(state)) = (page_0, state_bytes) {
            let at = (STATE_AT - start.len()) as u64;
            let entries = IoSlice::new(&page.bytes()[GroupIndex(0).entries_in_page()..]);
            let mut bufs = [IoSlice::new(start), IoSlice::new(state), entries];
            self.backing.write_at(file.file(), &mut bufs, at)?;
            if group == GroupIndex(0) {
                return Ok(());
            }
        }
        let last = if plan.last.place().0 == group {
            plan.last.place().1 + 1
        } else {
            group.blocks()
        };
        let Some(page) = pages.iter().find(|page| page.group() == group) else {
            return Ok(());
        };
        match state_bytes {
            Some(state) if group == GroupIndex(0) => {
                // The state stands before the entries: one write from there.
                let (_, entries) = page.span(0..last);
                let mut bufs = [IoSlice::new(state), IoSlice::new(entries)];
                self.backing
                    .write_at(file.file(), &mut bufs, STATE_AT as u64)?;
            }
            _ => {
                let (at, entries) = page.span(place..last);
                self.backing
                    .write_at(file.file(), &mut [IoSlice::new(entries)], at)?;
                if let (Some(state), None) = (state_bytes, page_0) {
                    self.backing.write_at(
                        file.file(),
                        &mut [IoSlice::new(state)],
                        STATE_AT as u64,
                    )?;
                }
            }
        }
        Ok(())
    }
}
