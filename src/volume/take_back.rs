//! After a failed write: the file as it was.

use std::io::{IoSlice, IoSliceMut};
use std::sync::atomic::Ordering;

use parking_lot::RwLockReadGuard;

use super::Volume;
use super::open_file::{Head, OpenFile};
use super::write::Plan;
use crate::backing::Backing;
use crate::content::{BlockIndex, EntryPage, Layout, PlainOffset};
use crate::format::PAGE;

impl<B: Backing> Volume<B> {
    /// After a failed write: makes what is below readable again, as it was. Blocks that were
    /// overwritten before the failure keep their new bytes (their old ones are gone); all others,
    /// and the size, are as before. Best effort: the cipher directory is already failing.
    pub(super) fn take_back(
        &self,
        file: &OpenFile<B>,
        head: &mut Head,
        plan: &Plan,
        pages: &[EntryPage],
        cipher: &[u8],
        stated: bool,
    ) {
        for new in pages {
            let group = new.group();
            if group.first_block().plain_start() >= plan.old_size {
                continue;
            }
            let Some(old) = file.pages.get(group) else {
                continue;
            };
            let mut page = old.clone();
            let mut under_way = Vec::new();
            for place in 0..group.blocks() {
                let block = BlockIndex(group.first_block().0 + place as u64);
                if block < plan.first || block > plan.last {
                    continue;
                }
                let at = (block.0 - plan.first.0) as usize * PAGE;
                let len = block.len_in(plan.new_size);
                under_way.extend(self.take_back_block(
                    file,
                    head,
                    (block, block.len_in(plan.old_size)),
                    (&mut page, new),
                    &cipher[at..at + len],
                ));
            }
            // Only those of the write: others may have a newer form in the journal.
            let first = plan.first.max(group.first_block()).place().1;
            let after = plan
                .last
                .next()
                .min(BlockIndex(group.first_block().0 + group.blocks() as u64));
            let after = (after.0 - group.first_block().0) as usize;
            let (at, entries) = page.span(first..after);
            let _ = self
                .backing
                .write_at(file.file(), &mut [IoSlice::new(entries)], at);
            file.pages.put(page);
        }
        if let Ok(size) = PlainOffset::new(plan.old_size)
            && plan.new_size > plan.old_size
        {
            let state = head.state;
            if stated {
                let _ = self.write_state(file, head, state);
            }
            self.cut_back(file, Layout::cipher_size(size).0);
        }
        tracing::debug!(node = file.node.0, "a failed write was taken back");
    }

    /// Cuts the cipher file back to `len` bytes after a failed step. Where even that fails, it is cut
    /// when its state is sealed.
    pub(super) fn cut_back(&self, file: &OpenFile<B>, len: u64) {
        if self.backing.truncate(file.file(), len).is_err() {
            file.unsealed.store(true, Ordering::Release);
        }
    }

    /// One block of a failed write, which had `old_len` bytes before: it keeps its old entry where
    /// its old bytes are still there, else it gets an entry for the new ones. What is returned is to
    /// be held until the entries are written.
    fn take_back_block(
        &self,
        file: &OpenFile<B>,
        head: &Head,
        (block, old_len): (BlockIndex, usize),
        (page, new): (&mut EntryPage, &EntryPage),
        cipher: &[u8],
    ) -> Option<RwLockReadGuard<'_, ()>> {
        let (_, place) = block.place();
        let keys = &head.unwrapped.keys;
        let (Ok(Some(old)), Ok(Some(entry))) = (page.get(place), new.get(place)) else {
            return None; // it was a hole, and is one again
        };
        let at = block.data_at().0;
        let mut raw = [0; PAGE];
        let raw = &mut raw[..old_len];
        let read = self
            .backing
            .read_at(file.file(), &mut [IoSliceMut::new(raw)], at);
        if !matches!(read, Ok(n) if n == old_len) {
            return None;
        }
        if raw == cipher {
            page.set(place, Some(&entry));
            return None;
        }
        if keys.open_block(block, &old, raw).is_ok() {
            return None;
        }
        // Torn, or written at its new length: the bytes of the write, at the old length.
        let mut plain = [0; PAGE];
        let plain = &mut plain[..cipher.len()];
        plain.copy_from_slice(cipher);
        keys.open_block(block, &entry, plain).ok()?;
        let again = keys.seal_block(block, Some(&entry), &plain[..old_len], raw);
        let under_way = self.offer(file, head, &[(block, again, old_len)]).ok()?;
        self.backing
            .write_at(file.file(), &mut [IoSlice::new(raw)], at)
            .ok()?;
        page.set(place, Some(&again));
        under_way
    }
}
