//! Appending: new blocks that are sealed where they lie, without a copy.

use std::sync::atomic::Ordering;

use super::Volume;
use super::error::{Result, VolumeError};
use super::keys::OnBehalf;
use super::open_file::{Core, Head, OpenFile};
use super::types::HandleId;
use super::write::{Plan, counts};
use crate::backing::Backing;
use crate::content::{BlockIndex, EntryPage, Layout, PlainOffset};
use crate::format::PAGE;

impl Core {
    /// Whether a write at `offset` bytes begins with a new block right behind a full one, so that
    /// nothing but new blocks comes of it.
    fn appends(&self, offset: u64) -> bool {
        matches!(self.layout, Layout::Blocks { size } if size == offset)
            && offset.is_multiple_of(PAGE as u64)
            && offset >= self.fresh_from()
    }
}

impl<B: Backing> Volume<B> {
    /// As [`Volume::write`], for who has no use for `data` once it is written: it may be ciphertext
    /// then. After an error that another try may mend, it is as it was.
    ///
    /// # Errors
    /// As [`Volume::write`].
    pub fn write_in_place(
        &self,
        handle: HandleId,
        offset: u64,
        data: &mut [u8],
        kill_privileges: bool,
    ) -> Result<()> {
        let Some(handle) = self.begin_write(handle, data.len(), kill_privileges)? else {
            return Ok(());
        };
        let _on_behalf = OnBehalf::of(handle.by);
        let mut core = handle.file.core.write();
        if core.appends(offset) {
            return self.append(&handle.file, &mut core, offset, data);
        }
        drop(core);
        self.write_for(&handle, offset, data)
    }

    fn append(
        &self,
        file: &OpenFile<B>,
        core: &mut Core,
        offset: u64,
        data: &mut [u8],
    ) -> Result<()> {
        self.check_write(file, core)?;
        file.home_dirty.store(true, Ordering::Release);
        let offset = PlainOffset::new(offset).map_err(VolumeError::range)?;
        let plan = Plan::new(offset, data.len(), core.layout.size())?;
        let mut pages = self.pages_of(file, &plan, false)?;
        let Some(head) = &core.head else {
            return Err(VolumeError::Stale);
        };
        let mut state = head.state;
        state.size = plan.new_size;
        state.seals += seal_new(head, &plan, &mut pages, data);
        self.store_blocks(file, core, &plan, (&mut pages, state), (false, None), data)
            .or_else(|error| {
                if let Some(head) = &core.head {
                    self.unseal(file, head, &plan, &pages, data)?;
                }
                Err(error)
            })
    }

    /// Makes plaintext again of what [`seal_new`] sealed.
    fn unseal(
        &self,
        file: &OpenFile<B>,
        head: &Head,
        plan: &Plan,
        pages: &[EntryPage],
        data: &mut [u8],
    ) -> Result<()> {
        for (block, data) in blocks(plan, data) {
            let page = pages.iter().find(|page| page.holds(block));
            let entry = page.and_then(|page| page.get(block.place().1).ok()?);
            let entry = entry.ok_or(VolumeError::Stale)?;
            head.unwrapped
                .keys
                .open_block(block, &entry, data)
                .map_err(|error| self.damaged_block(file.node, block, error))?;
        }
        Ok(())
    }
}

/// The blocks of a write that starts with one.
fn blocks<'d>(plan: &Plan, data: &'d mut [u8]) -> impl Iterator<Item = (BlockIndex, &'d mut [u8])> {
    (plan.first.0..).map(BlockIndex).zip(data.chunks_mut(PAGE))
}

/// Seals new blocks where they lie and notes their entries; how many of the seals count.
fn seal_new(head: &Head, plan: &Plan, pages: &mut [EntryPage], data: &mut [u8]) -> u32 {
    let mut counted = 0;
    let mut page = 0;
    for (block, data) in blocks(plan, data) {
        while !pages[page].holds(block) {
            page += 1;
        }
        let entry = head.unwrapped.keys.seal_new_block(block, data);
        counted += u32::from(counts(&entry.sealed));
        pages[page].set(block.place().1, Some(&entry));
    }
    counted
}
