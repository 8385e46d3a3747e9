//! Reading an open file.

use std::io::IoSliceMut;

use smallvec::SmallVec;

use super::Volume;
use super::error::{Result, VolumeError};
use super::open_file::{Core, GROUPS, Groups, Head, OpenFile, PAGES_MOST};
use super::types::HandleId;
use crate::backing::{Backing, Seek};
use crate::content::{BlockIndex, CipherOffset, EntryPage, GroupIndex, Layout, PlainOffset};
use crate::format::PAGE;

impl<B: Backing> Volume<B> {
    /// Reads from an open file into `buf`, from `offset` bytes on. The number of bytes read: less
    /// than asked for at the end of the file only.
    ///
    /// # Errors
    /// [`VolumeError::Damaged`] when a block in the range fails authentication;
    /// [`VolumeError::Key`] when the CMK was disabled more than the key lifetime ago.
    pub fn read(&self, handle: HandleId, offset: u64, buf: &mut [u8]) -> Result<usize> {
        let handle = self.files.handle(handle)?;
        if !handle.mode.read {
            return Err(VolumeError::BadHandle);
        }
        let core = handle.file.core.read();
        self.read_core(&handle.file, &core, offset, buf)
    }

    pub(super) fn read_core(
        &self,
        file: &OpenFile<B>,
        core: &Core,
        offset: u64,
        buf: &mut [u8],
    ) -> Result<usize> {
        let size = core.layout.size();
        let len = size.saturating_sub(offset).min(buf.len() as u64) as usize;
        let Some(head) = core.head.as_ref().filter(|_| len > 0) else {
            return Ok(0);
        };
        head.unwrapped.check(&self.keys)?;
        let out = &mut buf[..len];
        if let Layout::Inline { .. } = core.layout {
            // Inline files are far below usize::MAX bytes.
            let at = offset as usize;
            out.copy_from_slice(&head.inline[at..at + len]);
        } else {
            let end = offset + len as u64;
            file.stream.note(offset, end);
            self.read_blocks(
                file,
                head,
                size,
                PlainOffset::new(offset).map_err(VolumeError::range)?,
                out,
            )?;
        }
        Ok(len)
    }

    /// Reads a range of a file in blocks; the range is below the size.
    fn read_blocks(
        &self,
        file: &OpenFile<B>,
        head: &Head,
        size: u64,
        offset: PlainOffset,
        mut out: &mut [u8],
    ) -> Result<()> {
        let (mut block, skip) = offset.block();
        let mut scratch = [0u8; PAGE];
        if skip > 0 {
            let len = self.read_block(file, head, size, block, &mut scratch)?;
            let here = (len - skip).min(out.len());
            out[..here].copy_from_slice(&scratch[skip..skip + here]);
            out = &mut out[here..];
            block = block.next();
        }
        // What is left starts a block; its end may be inside one.
        let end = block.plain_start() + out.len() as u64;
        let ragged = if end < size { out.len() % PAGE } else { 0 };
        let (whole, rest) = out.split_at_mut(out.len() - ragged);
        let after = BlockIndex(block.0 + whole.len().div_ceil(PAGE) as u64);
        if !whole.is_empty() {
            self.read_run(file, head, block, whole)?;
        }
        if !rest.is_empty() {
            self.read_block(file, head, size, after, &mut scratch)?;
            rest.copy_from_slice(&scratch[..rest.len()]);
        }
        Ok(())
    }

    /// Reads one block to the start of `scratch`; how many bytes it has in a file of `size` bytes.
    pub(super) fn read_block(
        &self,
        file: &OpenFile<B>,
        head: &Head,
        size: u64,
        block: BlockIndex,
        scratch: &mut [u8; PAGE],
    ) -> Result<usize> {
        let len = block.len_in(size);
        if len > 0 {
            self.read_run(file, head, block, &mut scratch[..len])?;
        }
        Ok(len)
    }

    /// The entry page of a group, from memory or from disk.
    pub(super) fn entry_page(&self, file: &OpenFile<B>, group: GroupIndex) -> Result<EntryPage> {
        if let Some(page) = file.pages.get(group) {
            return Ok(page);
        }
        self.fetch_pages(file);
        self.load_page(file, group)
    }

    /// The entry page of a group from disk; it is in memory from then on.
    fn load_page(&self, file: &OpenFile<B>, group: GroupIndex) -> Result<EntryPage> {
        let mut bytes = [0; PAGE];
        // A short read is a page behind the end of the file: all holes.
        self.read_home(file, &mut bytes, group.page_at().0)?;
        let mut page = EntryPage::from_bytes(group, &bytes);
        file.overlay.patch(&mut page);
        file.pages.put(page.clone());
        Ok(page)
    }

    /// Whoever wants entry pages here and there is likely to want all of them, and on a disk each costs
    /// as much as the block that it is for: has more of them fetched than the one that is waited for. Not
    /// of a file that has more than are kept, and not beside a reader in sequence: pages that memory holds
    /// by themselves keep the kernel from reading ahead in large pieces.
    fn fetch_pages(&self, file: &OpenFile<B>) {
        let Some(groups) = file.pages.miss() else {
            return;
        };
        let Ok(stat) = self.backing.stat_file(file.file()) else {
            return;
        };
        let count = GroupIndex::at(stat.size).0 + 1;
        if count <= PAGES_MOST as u64 {
            for group in groups.start..groups.end.min(count) {
                let at = GroupIndex(group).page_at().0;
                self.backing.will_need(file.file(), at, PAGE as u64);
            }
        }
    }

    /// Reads from a cipher file, as it is below with a replayed journal over it; the number of
    /// bytes there were.
    pub(super) fn read_home(&self, file: &OpenFile<B>, out: &mut [u8], at: u64) -> Result<usize> {
        let Some(replay) = &file.replay else {
            let bufs = &mut [IoSliceMut::new(out)];
            return Ok(self.backing.read_at(file.file(), bufs, at)?);
        };
        let bufs = &mut [IoSliceMut::new(out)];
        let read = self.backing.read_at(file.file(), bufs, at)?;
        out[read..].fill(0);
        replay.patch(at, out);
        let size = replay.size(self.backing.stat_file(file.file())?.size);
        Ok(size.saturating_sub(at).min(out.len() as u64) as usize)
    }

    /// Puts the newest ciphertext over what was read of blocks from home, where that is in the
    /// journal.
    fn fetch_pending(&self, file: &OpenFile<B>, first: BlockIndex, out: &mut [u8]) -> Result<()> {
        if file.overlay.is_empty() {
            return Ok(());
        }
        let engine = self.engine()?;
        for (i, data) in out.chunks_mut(PAGE).enumerate() {
            if let Some(pending) = file.overlay.block(BlockIndex(first.0 + i as u64))
                && pending.entry.is_some()
            {
                let len = data.len().min(pending.len);
                engine
                    .journal
                    .read(&self.backing, pending.at, &mut data[..len])?;
            }
        }
        Ok(())
    }

    /// Reads whole blocks from `first` on (the last one may be the file's last, short) and opens
    /// them where they are. One call below: the entry pages between the groups of a run lie
    /// between their data, and come along.
    pub(super) fn read_run(
        &self,
        file: &OpenFile<B>,
        head: &Head,
        first: BlockIndex,
        out: &mut [u8],
    ) -> Result<()> {
        let (group, place) = first.place();
        let room = (group.blocks() - place) * PAGE;
        let page = match file.pages.get(group) {
            Some(page) => page,
            // As a reader in sequence comes to each group.
            None if place == 0 && out.len() > PAGE && file.replay.is_none() => {
                return self.read_groups(file, head, None, first, out);
            }
            None if file.stream.in_sequence() => self.load_page(file, group)?,
            None => {
                // On a disk the data is on its way while the entries are waited for.
                let (at, len) = (first.data_at().0, out.len() as u64);
                self.backing.will_need(file.file(), at, len);
                self.fetch_pages(file);
                self.load_page(file, group)?
            }
        };
        if out.len() <= room {
            let len = out.len();
            if len > PAGE || file.overlay.block(first).is_none() {
                let at = first.data_at();
                self.read_exactly(file, &mut [IoSliceMut::new(out)], len, at, first)?;
            }
            return self.open_run(file, head, &page, first, out);
        }
        if file.replay.is_some() {
            // Group by group: what lies over it is put together for one piece at a time.
            let (here, rest) = out.split_at_mut(room);
            self.read_run(file, head, first, here)?;
            let next = GroupIndex(group.0 + 1).first_block();
            return self.read_run(file, head, next, rest);
        }
        self.read_groups(file, head, Some(page), first, out)
    }

    /// Reads and opens a run of more than one group: data, entry page, data, ... With no `page` at hand
    /// the run starts a group, and the call starts with that group's page.
    fn read_groups(
        &self,
        file: &OpenFile<B>,
        head: &Head,
        page: Option<EntryPage>,
        first: BlockIndex,
        out: &mut [u8],
    ) -> Result<()> {
        let (group, place) = first.place();
        // A group whose page is known needs its data alone: the first page that is read is the next one.
        let (known, mut group, at) = match &page {
            Some(_) => {
                let blocks = group.blocks() - place;
                (blocks * PAGE, GroupIndex(group.0 + 1), first.data_at())
            }
            None => (0, group, group.page_at()),
        };
        let (here, mut rest) = out.split_at_mut(known);
        let mut pages = Groups::new();
        let mut pieces = SmallVec::<[&mut [u8]; GROUPS]>::new();
        let mut total = here.len();
        while !rest.is_empty() {
            let room = rest.len().min(group.blocks() * PAGE);
            let (piece, tail) = rest.split_at_mut(room);
            pages.push(EntryPage::empty(group));
            total += PAGE + piece.len();
            pieces.push(piece);
            rest = tail;
            group = GroupIndex(group.0 + 1);
        }
        let mut bufs = SmallVec::<[IoSliceMut<'_>; 2 * GROUPS + 1]>::new();
        if !here.is_empty() {
            bufs.push(IoSliceMut::new(here));
        }
        for (page, piece) in pages.iter_mut().zip(&mut pieces) {
            bufs.push(IoSliceMut::new(page.bytes_mut()));
            bufs.push(IoSliceMut::new(piece));
        }
        self.read_exactly(file, &mut bufs, total, at, first)?;
        drop(bufs);
        if let Some(page) = page {
            self.open_run(file, head, &page, first, here)?;
        }
        for (mut page, piece) in pages.into_iter().zip(pieces) {
            let first = page.group().first_block();
            file.overlay.patch(&mut page);
            self.open_run(file, head, &page, first, piece)?;
            file.pages.put(page);
        }
        Ok(())
    }

    /// Reads `len` bytes of a cipher file from `at` on, into `bufs`; `first` is the block to name when
    /// there are not so many.
    fn read_exactly(
        &self,
        file: &OpenFile<B>,
        bufs: &mut [IoSliceMut<'_>],
        len: usize,
        at: CipherOffset,
        first: BlockIndex,
    ) -> Result<()> {
        let read = match (&file.replay, &mut *bufs) {
            (Some(_), [one]) => self.read_home(file, one, at.0)?,
            _ => self.backing.read_at(file.file(), bufs, at.0)?,
        };
        if read < len {
            return Err(self.damaged_block(file.node, first, "the cipher file was cut"));
        }
        Ok(())
    }

    /// Opens the blocks of one group in place.
    fn open_run(
        &self,
        file: &OpenFile<B>,
        head: &Head,
        page: &EntryPage,
        first: BlockIndex,
        out: &mut [u8],
    ) -> Result<()> {
        let (_, place) = first.place();
        self.fetch_pending(file, first, out)?;
        for (i, data) in out.chunks_mut(PAGE).enumerate() {
            let block = BlockIndex(first.0 + i as u64);
            if !head.lost.is_empty() && head.lost.contains(&block) {
                data.fill(0);
                continue;
            }
            let entry = page
                .get(place + i)
                .map_err(|error| self.damaged_block(file.node, block, error))?;
            match entry {
                Some(entry) => head
                    .unwrapped
                    .keys
                    .open_block(block, &entry, data)
                    .map_err(|error| self.damaged_block(file.node, block, error))?,
                None if head.holes => data.fill(0),
                None => {
                    return Err(self.damaged_block(
                        file.node,
                        block,
                        "its entry is missing, and the file has no holes",
                    ));
                }
            }
        }
        Ok(())
    }

    /// The next data or hole at or behind `offset`, as lseek(2) wants it.
    ///
    /// # Errors
    /// [`VolumeError::NoData`] at or behind the end, or when only a hole follows.
    pub fn seek(&self, handle: HandleId, what: Seek, offset: u64) -> Result<u64> {
        let handle = self.files.handle(handle)?;
        let core = handle.file.core.read();
        self.seek_core(&handle.file, &core, what, offset)
    }

    pub(super) fn seek_core(
        &self,
        file: &OpenFile<B>,
        core: &Core,
        what: Seek,
        offset: u64,
    ) -> Result<u64> {
        let size = core.layout.size();
        if offset >= size {
            return Err(VolumeError::NoData);
        }
        let sparse = core
            .head
            .as_ref()
            .is_some_and(|head| head.state.flags.sparse);
        if !sparse || !matches!(core.layout, Layout::Blocks { .. }) {
            return Ok(if what == Seek::Data { offset } else { size });
        }
        let end = BlockIndex::count_of(size);
        let (mut block, _) = PlainOffset::new(offset)
            .map_err(VolumeError::range)?
            .block();
        while block < end {
            let (group, place) = block.place();
            let page = self.entry_page(file, group)?;
            for place in place..group.blocks() {
                if block >= end {
                    break;
                }
                let hole = matches!(page.get(place), Ok(None));
                if hole == (what == Seek::Hole) {
                    return Ok(block.plain_start().max(offset));
                }
                block = block.next();
            }
            if what == Seek::Data && block < end {
                // A group without entries has no data below either: jump over all such groups.
                let from = block.place().0.page_at().0;
                let below = self.backing.seek(file.file(), Seek::Data, from)?;
                let below = below.map(|at| GroupIndex::at(at).first_block());
                match below.into_iter().chain(file.overlay.next_data(block)).min() {
                    None => return Err(VolumeError::NoData),
                    Some(data) => block = block.max(data),
                }
            }
        }
        if what == Seek::Hole {
            Ok(size)
        } else {
            Err(VolumeError::NoData)
        }
    }
}
