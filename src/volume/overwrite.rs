//! Overwriting what was promised: through the journal. See [`super::journal`].

use std::cell::RefCell;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use parking_lot::{MutexGuard, RwLockReadGuard};
use smallvec::SmallVec;

use super::Volume;
use super::error::{Result, VolumeError};
use super::journal::Engine;
use super::journal::overlay::{Pending, PendingBytes};
use super::open_file::{BLOCKS, Core, Head, OpenFile};
use super::write::Plan;
use crate::backing::{Allocate, At, Backing, SetTime};
use crate::content::{BlockIndex, EntryPage, GroupIndex, Layout, PlainOffset};
use crate::format::journal::{RecordBuilder, RecordKind, Resize, offer};
use crate::format::{ENTRIES_AT, Entry, INLINE_AT, PAGE, STATE_AT, State, StateFlags};

thread_local! {
    /// Where records are put together.
    static RECORD: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// What becomes of a file's times.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Times {
    /// It is a user who writes.
    Moved,
    /// The same bytes are sealed anew, which is no user's affair.
    Kept,
}

/// The size of the cipher file of `size` plaintext bytes in blocks.
fn blocks_size(size: u64) -> Result<u64> {
    Ok(Layout::cipher_size(PlainOffset::new(size).map_err(VolumeError::range)?).0)
}

/// Time in ticks of the coarse clock: what the kernel stamps files with.
fn tick() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::RealtimeCoarse);
    now.tv_sec
        .wrapping_mul(1_000_000_000)
        .wrapping_add(now.tv_nsec)
        .cast_unsigned()
}

impl<B: Backing> Volume<B> {
    /// The journal. Only files that are promised need it, and there are none without it.
    pub(super) fn engine(&self) -> Result<&Arc<Engine<B>>> {
        self.engine
            .as_ref()
            .ok_or(VolumeError::Invalid("the volume has no journal"))
    }

    /// Writes a range of a file in blocks: fresh blocks straight home, the others through the
    /// journal. The range starts in or before the block behind the end.
    pub(super) fn write_range(
        &self,
        file: &Arc<OpenFile<B>>,
        core: &mut Core,
        offset: PlainOffset,
        data: &[u8],
    ) -> Result<()> {
        let bound = core.fresh_from();
        let start = offset.get();
        if start >= bound {
            return self.write_blocks(file, core, offset, data, None, None);
        }
        let stored = core.layout.size();
        let split = (bound - start).min(data.len() as u64) as usize;
        let (promised, fresh) = data.split_at(split);
        if !fresh.is_empty() {
            let at = PlainOffset::new(bound).map_err(VolumeError::range)?;
            self.write_blocks(file, core, at, fresh, None, None)?;
        }
        let result = self.overwrite(file, core, offset, promised, stored, Times::Moved);
        if result.is_err() && core.layout.size() > stored {
            // Fresh blocks that were there before have their new bytes, at the length of old.
            if stored > bound {
                let _ = self.truncate_core(file, core, stored);
            } else {
                self.cut_fresh(file, core, stored);
            }
        }
        result
    }

    /// Writes fresh blocks behind promised ones, of which the last is not full: the fresh ones first,
    /// since they are taken back by one cut.
    pub(super) fn write_behind(
        &self,
        file: &Arc<OpenFile<B>>,
        core: &mut Core,
        offset: PlainOffset,
        data: &[u8],
    ) -> Result<()> {
        let size = core.layout.size();
        if offset.block().0 > BlockIndex::count_of(size) {
            self.mark_sparse(file, core)?;
        }
        self.write_blocks(file, core, offset, data, None, None)?;
        self.fill_last(file, core, size)
            .inspect_err(|_| self.cut_fresh(file, core, size))
    }

    /// Extends a promised file with a hole.
    pub(super) fn grow_promised(
        &self,
        file: &Arc<OpenFile<B>>,
        core: &mut Core,
        new: u64,
    ) -> Result<()> {
        let size = core.layout.size();
        self.backing.truncate(file.file(), blocks_size(new)?)?;
        let steps = |core: &mut Core| {
            if BlockIndex::count_of(new) > BlockIndex::count_of(size) {
                self.mark_sparse(file, core)?;
            }
            core.layout = Layout::Blocks { size: new };
            if let Some(head) = &mut core.head {
                head.state.size = new;
            }
            file.unsealed.store(true, Ordering::Release);
            self.fill_last(file, core, size)
        };
        steps(core).inspect_err(|_| self.cut_fresh(file, core, size))
    }

    /// Extends the last block of a file that had `stored` bytes with zeros, now that it isn't the
    /// last any more, or has more bytes.
    fn fill_last(&self, file: &Arc<OpenFile<B>>, core: &mut Core, stored: u64) -> Result<()> {
        let full = stored.next_multiple_of(PAGE as u64).min(core.layout.size());
        if full <= stored {
            return Ok(());
        }
        let at = PlainOffset::new(stored).map_err(VolumeError::range)?;
        let (group, place) = at.block().0.place();
        if matches!(self.entry_page(file, group)?.get(place), Ok(None)) {
            return Ok(()); // a hole stays one at any length
        }
        let zeros = [0; PAGE];
        let zeros = &zeros[..(full - stored) as usize];
        self.overwrite(file, core, at, zeros, stored, Times::Moved)
    }

    /// Takes back fresh blocks at the end of a file, down to a size whose last block was left alone.
    fn cut_fresh(&self, file: &OpenFile<B>, core: &mut Core, size: u64) {
        let (group, place) = BlockIndex::count_of(size).place();
        if let Ok(mut page) = self.entry_page(file, group) {
            for place in place..group.blocks() {
                page.set(place, None);
            }
            let (at, entries) = page.span(place..group.blocks());
            let entries = &mut [io::IoSlice::new(entries)];
            let _ = self.backing.write_at(file.file(), entries, at);
            file.pages.cut(Some(group));
            file.pages.put(page);
        }
        if let Ok(len) = blocks_size(size) {
            self.cut_back(file, len);
        }
        core.layout = Layout::Blocks { size };
        if let Some(head) = &mut core.head {
            head.state.size = size;
        }
        // The size below is looked at once more when its state is sealed.
        file.unsealed.store(true, Ordering::Release);
    }

    /// Overwrites promised blocks: one record. The last of them may grow, within itself; `stored`
    /// is the size by which the blocks lie at home.
    pub(super) fn overwrite(
        &self,
        file: &Arc<OpenFile<B>>,
        core: &mut Core,
        offset: PlainOffset,
        data: &[u8],
        stored: u64,
        times: Times,
    ) -> Result<()> {
        let engine = self.engine()?;
        let before = core.layout.size();
        let mut plan = Plan::new(offset, data.len(), stored)?;
        plan.new_size = plan.new_size.max(before);
        let bound = core.fresh_from();
        let Some(head) = &core.head else {
            return Err(VolumeError::Stale);
        };
        let mut pages = self.pages_of(file, &plan, false)?;
        for page in &pages {
            // Not remembered meanwhile, they are changed without a copy. If this fails they are read
            // anew: what is at home, and pending, is as it was.
            file.pages.forget(page.group());
        }
        let _home = self.reserve_holes(file, &plan, &pages)?;
        let mut state = head.state;
        // What is below the bound is durable with this record, when what is before the record is.
        state.size = head.home_size;
        let covered = core.covered.max(head.home_size);
        if plan.first.plain_start() <= covered && plan.last.next().plain_start() >= bound {
            state.size = state.size.max(plan.new_size.min(bound));
        }
        let stated = (head.home_size, head.state.seals);
        super::write::CIPHER.with_borrow_mut(|cipher| {
            self.seal_range(
                file,
                head,
                &plan,
                data,
                None,
                (&mut pages, &mut state),
                cipher,
            )?;
            let state_bytes = ((state.size, state.seals) != stated)
                .then(|| state.seal(head.unwrapped.keys.content()));
            let grown = plan.new_size > before;
            let resize = if stored < bound && plan.new_size > stored {
                Resize::AtLeast(blocks_size(plan.new_size.min(bound))?)
            } else {
                Resize::Keep
            };

            let groups = pages.len();
            let extents = 2 * groups + usize::from(state_bytes.is_some());
            let path = file.path_or(|| self.path_hint(file.node));
            let mut record = RecordBuilder::new(
                RECORD.take(),
                RecordKind::Change,
                (&head.static_part.file_id, file.inode, path),
                resize,
                extents,
            );
            let pending = put_blocks(&mut record, &plan, &pages, cipher);
            if let Some(bytes) = &state_bytes {
                record.extent(STATE_AT as u64, bytes);
            }
            // The size below is what users see; a crash without the record cuts it back.
            if grown {
                self.backing
                    .truncate(file.file(), blocks_size(plan.new_size)?)?;
            } else if times == Times::Moved {
                self.touch(file)?;
            }
            engine.queue(file);
            let appended = engine
                .journal
                .append(&self.backing, record)
                .inspect_err(|_| {
                    if grown && let Ok(len) = blocks_size(before) {
                        self.cut_back(file, len);
                    }
                })?;
            RECORD.set(appended.buffer);
            file.sequence.store(appended.sequence, Ordering::Release);
            file.overlay.update(|pendings| {
                for (block, mut pending) in pending {
                    pending.sequence = appended.sequence;
                    pending.at += appended.at;
                    pendings.blocks.insert(block, pending);
                }
                if state_bytes.is_some() {
                    pendings.state = Some(appended.sequence);
                }
            });
            for page in pages {
                file.pages.put(page);
            }
            Ok::<_, VolumeError>(())
        })?;
        if let Some(head) = &mut core.head {
            head.home_size = state.size;
            head.state.seals = state.seals;
            head.state.size = plan.new_size;
        }
        core.layout = Layout::Blocks {
            size: plan.new_size,
        };
        engine.nudge();
        Ok(())
    }

    /// Notes with which entries blocks can be read that are about to be overwritten in place, for
    /// when the process ends half-way. To be held until the entries are written.
    pub(super) fn offer(
        &self,
        file: &OpenFile<B>,
        head: &Head,
        blocks: &[(BlockIndex, Entry, usize)],
    ) -> Result<Option<RwLockReadGuard<'_, ()>>> {
        let Some(engine) = self.engine.as_ref().filter(|_| !blocks.is_empty()) else {
            return Ok(None);
        };
        let path = file.path_or(|| self.path_hint(file.node));
        let mut record = RecordBuilder::new(
            RECORD.take(),
            RecordKind::Offer,
            (&head.static_part.file_id, file.inode, path),
            Resize::Keep,
            blocks.len(),
        );
        for (block, entry, len) in blocks {
            record.extent(block.data_at().0, &offer(entry, *len));
        }
        let under_way = engine.under_way.read_recursive();
        let appended = engine.journal.append(&self.backing, record)?;
        RECORD.set(appended.buffer);
        engine.nudge();
        Ok(Some(under_way))
    }

    /// A write changes the modification time, also when it doesn't go home yet.
    fn touch(&self, file: &OpenFile<B>) -> Result<()> {
        Ok(file.stamps.touch(tick(), || self.set_modified_now(file))?)
    }

    pub(super) fn set_modified_now(&self, file: &OpenFile<B>) -> io::Result<()> {
        self.backing
            .set_times(At::File(file.file()), SetTime::Omit, SetTime::Now)
    }

    /// Blocks that fill holes get their space now, while the writer can still be told that there
    /// is none. It stays theirs as long as the guard is held: until they are pending, so that no
    /// older hole that is on its way home gives it back.
    fn reserve_holes<'a>(
        &self,
        file: &'a OpenFile<B>,
        plan: &Plan,
        pages: &[EntryPage],
    ) -> Result<Option<MutexGuard<'a, ()>>> {
        let mut home = None;
        let mut block = plan.first;
        while block <= plan.last {
            let (group, place) = block.place();
            let hole = pages
                .iter()
                .find(|page| page.group() == group)
                .is_some_and(|page| matches!(page.get(place), Ok(None)));
            if hole {
                home.get_or_insert_with(|| file.home.lock());
                let reserve = |at: u64| {
                    self.backing
                        .allocate(file.file(), Allocate::ReserveKeepSize, at, PAGE as u64)
                        .or_else(|error| match error.raw_os_error() {
                            Some(libc::EOPNOTSUPP) => Ok(()),
                            _ => Err(error),
                        })
                };
                reserve(block.data_at().0)?;
                reserve(group.page_at().0)?;
            }
            block = block.next();
        }
        Ok(home)
    }

    /// A state that goes through the journal, alone.
    pub(super) fn journal_state(
        &self,
        file: &Arc<OpenFile<B>>,
        core: &mut Core,
        flags: StateFlags,
    ) -> Result<()> {
        let engine = self.engine()?;
        let Some(head) = &mut core.head else {
            return Ok(());
        };
        let state = State {
            size: head.home_size,
            flags,
            ..head.state
        };
        let path = file.path_or(|| self.path_hint(file.node));
        let mut record = RecordBuilder::new(
            Vec::new(),
            RecordKind::Change,
            (&head.static_part.file_id, file.inode, path),
            Resize::Keep,
            1,
        );
        record.extent(STATE_AT as u64, &state.seal(head.unwrapped.keys.content()));
        engine.queue(file);
        let appended = engine.journal.append(&self.backing, record)?;
        file.sequence.store(appended.sequence, Ordering::Release);
        file.overlay
            .update(|pendings| pendings.state = Some(appended.sequence));
        head.state.flags = flags;
        head.holes |= flags.sparse;
        Ok(())
    }

    /// Promised blocks become holes, from `first` up to but not `after`, all in one group.
    pub(super) fn journal_holes(
        &self,
        file: &Arc<OpenFile<B>>,
        core: &Core,
        page: EntryPage,
        (first, after): (BlockIndex, BlockIndex),
    ) -> Result<()> {
        let engine = self.engine()?;
        let Some(head) = &core.head else {
            return Ok(());
        };
        let (_, place) = first.place();
        let (at, entries) = page.span(place..place + (after.0 - first.0) as usize);
        let path = file.path_or(|| self.path_hint(file.node));
        let mut record = RecordBuilder::new(
            Vec::new(),
            RecordKind::Change,
            (&head.static_part.file_id, file.inode, path),
            Resize::Keep,
            1,
        );
        record.extent(at, entries);
        engine.queue(file);
        let appended = engine.journal.append(&self.backing, record)?;
        file.sequence.store(appended.sequence, Ordering::Release);
        file.overlay.update(|pendings| {
            for block in first.0..after.0 {
                let hole = Pending {
                    sequence: appended.sequence,
                    at: 0,
                    len: 0,
                    entry: None,
                };
                pendings.blocks.insert(BlockIndex(block), hole);
            }
        });
        file.pages.put(page);
        self.touch(file)
    }

    /// Replaces the bytes of an inline file that was promised.
    pub(super) fn journal_inline(
        &self,
        file: &Arc<OpenFile<B>>,
        core: &mut Core,
        plain: Vec<u8>,
        times: Times,
    ) -> Result<()> {
        let engine = self.engine()?;
        let Some(head) = &mut core.head else {
            return Err(VolumeError::Stale);
        };
        let before = core.layout.size();
        let state = State {
            size: plain.len() as u64,
            flags: StateFlags::default(),
            ..head.state
        };
        let keys = &head.unwrapped.keys;
        let mut bytes = state.seal(keys.content()).to_vec();
        bytes.extend_from_slice(&keys.seal_inline(&plain).0);
        let cipher_size = |len: u64| INLINE_AT as u64 + len;
        let path = file.path_or(|| self.path_hint(file.node));
        if state.size < before {
            // The size below must not shrink before the new form is durable.
            engine.commit_now(
                file,
                core,
                &head_id(core)?,
                &[(STATE_AT as u64, &bytes)],
                cipher_size(state.size),
            )?;
        } else {
            let mut record = RecordBuilder::new(
                RECORD.take(),
                RecordKind::Change,
                (&head.static_part.file_id, file.inode, path),
                Resize::AtLeast(cipher_size(state.size)),
                1,
            );
            let at = record.extent(STATE_AT as u64, &bytes) as u64;
            if state.size > before {
                self.backing
                    .truncate(file.file(), cipher_size(state.size))?;
            } else if times == Times::Moved {
                self.touch(file)?;
            }
            engine.queue(file);
            let appended = engine
                .journal
                .append(&self.backing, record)
                .inspect_err(|_| {
                    if state.size > before {
                        self.cut_back(file, cipher_size(before));
                    }
                })?;
            RECORD.set(appended.buffer);
            file.sequence.store(appended.sequence, Ordering::Release);
            file.overlay.update(|pendings| {
                pendings.inline = Some(PendingBytes {
                    sequence: appended.sequence,
                    at: appended.at + at,
                    len: bytes.len(),
                });
            });
            engine.nudge();
        }
        if let Some(head) = &mut core.head {
            head.state = state;
            head.home_size = state.size;
            head.holes = false;
            head.inline = plain;
        }
        core.durable = state.size;
        core.covered = state.size;
        core.layout = Layout::Inline {
            len: state.size as usize,
        };
        Ok(())
    }

    /// An inline file that was promised becomes one in blocks: block 0, with `plain`, and page 0 in
    /// one step.
    pub(super) fn journal_outgrow(
        &self,
        file: &Arc<OpenFile<B>>,
        core: &mut Core,
        plain: &[u8],
    ) -> Result<()> {
        let engine = self.engine()?;
        let Some(head) = &core.head else {
            return Err(VolumeError::Stale);
        };
        let size = plain.len() as u64;
        let state = State { size, ..head.state };
        let keys = &head.unwrapped.keys;
        let mut cipher = vec![0; plain.len()];
        let entry = keys.seal_block(BlockIndex(0), None, plain, &mut cipher);
        let mut page = EntryPage::empty(GroupIndex(0));
        page.set(0, Some(&entry));
        let mut head_bytes = state.seal(keys.content()).to_vec();
        head_bytes.extend_from_slice(&page.bytes()[ENTRIES_AT..]);
        file.path_or(|| self.path_hint(file.node));
        engine.commit_now(
            file,
            core,
            &head_id(core)?,
            &[
                (BlockIndex(0).data_at().0, &cipher),
                (STATE_AT as u64, &head_bytes),
            ],
            blocks_size(size)?,
        )?;
        file.pages.cut(None);
        file.pages.put(page);
        if let Some(head) = &mut core.head {
            head.state = state;
            head.home_size = size;
            head.inline = Vec::new();
        }
        core.layout = Layout::Blocks { size };
        core.durable = size;
        core.covered = size;
        Ok(())
    }

    /// Cuts a file inside of what was promised, down to `new` bytes, all in one step. `cut` is what
    /// stays of the last block, when it has data.
    pub(super) fn journal_cut(
        &self,
        file: &Arc<OpenFile<B>>,
        core: &mut Core,
        mut page: EntryPage,
        new: u64,
        cut: Option<(BlockIndex, Option<Entry>, &[u8])>,
    ) -> Result<()> {
        let engine = self.engine()?;
        let Some(head) = &core.head else {
            return Err(VolumeError::Stale);
        };
        let group = page.group();
        let keys = &head.unwrapped.keys;
        let state = State {
            size: new,
            ..head.state
        };
        let mut cipher = [0; PAGE];
        let mut extents: Vec<(u64, &[u8])> = Vec::with_capacity(3);
        if let Some((block, before, plain)) = cut {
            let cipher = &mut cipher[..plain.len()];
            let entry = keys.seal_block(block, before.as_ref(), plain, cipher);
            page.set(block.place().1, Some(&entry));
            extents.push((block.data_at().0, cipher));
        }
        let state_bytes = state.seal(keys.content());
        extents.push((STATE_AT as u64, &state_bytes));
        extents.push(page.span(0..group.blocks()));
        file.path_or(|| self.path_hint(file.node));
        engine.commit_now(file, core, &head_id(core)?, &extents, blocks_size(new)?)?;
        file.pages.cut(Some(group));
        file.pages.put(page);
        if let Some(head) = &mut core.head {
            head.state = state;
            head.home_size = new;
        }
        core.layout = Layout::Blocks { size: new };
        core.durable = new;
        core.covered = new.min(core.covered);
        Ok(())
    }
}

fn head_id(core: &Core) -> Result<crate::format::FileId> {
    core.file_id().ok_or(VolumeError::Stale)
}

/// Puts the blocks of a write and their entries into a record; what they are in it.
fn put_blocks(
    record: &mut RecordBuilder,
    plan: &Plan,
    pages: &[EntryPage],
    cipher: &[u8],
) -> SmallVec<[(BlockIndex, Pending); BLOCKS]> {
    let mut pending = SmallVec::new();
    for page in pages {
        let group = page.group();
        let first = plan.first.max(group.first_block());
        let after = plan.last.next().min(GroupIndex(group.0 + 1).first_block());
        let from = (first.0 - plan.first.0) as usize * PAGE;
        let last = BlockIndex(after.0 - 1);
        let to = (last.0 - plan.first.0) as usize * PAGE + last.len_in(plan.new_size);
        let at = record.extent(first.data_at().0, &cipher[from..to]);
        let (_, place) = first.place();
        let places = place..place + (after.0 - first.0) as usize;
        let (entries_at, entries) = page.span(places);
        record.extent(entries_at, entries);
        for i in 0..after.0 - first.0 {
            let block = BlockIndex(first.0 + i);
            pending.push((
                block,
                Pending {
                    sequence: 0,
                    at: (at + i as usize * PAGE) as u64,
                    len: block.len_in(plan.new_size),
                    entry: page.get(place + i as usize).ok().flatten(),
                },
            ));
        }
    }
    pending
}
