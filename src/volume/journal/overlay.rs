//! What of one open file is newer in the journal than at home.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

use crate::content::{BlockIndex, EntryPage, GroupIndex};
use crate::format::Entry;

/// A block whose newest form is in the journal.
#[derive(Clone, Copy)]
pub(in crate::volume) struct Pending {
    /// The record that has it.
    pub(in crate::volume) sequence: u64,
    /// Where its ciphertext stands in the journal file.
    pub(in crate::volume) at: u64,
    /// Bytes of ciphertext.
    pub(in crate::volume) len: usize,
    /// Its entry; None for a hole, which has no ciphertext.
    pub(in crate::volume) entry: Option<Entry>,
}

/// Bytes of page 0 whose newest form is in the journal.
#[derive(Clone, Copy)]
pub(in crate::volume) struct PendingBytes {
    pub(in crate::volume) sequence: u64,
    pub(in crate::volume) at: u64,
    pub(in crate::volume) len: usize,
}

/// All that is pending.
#[derive(Default)]
pub(in crate::volume) struct Pendings {
    pub(in crate::volume) blocks: BTreeMap<BlockIndex, Pending>,
    /// State, entry and bytes of an inline file.
    pub(in crate::volume) inline: Option<PendingBytes>,
    /// The record with the newest state.
    pub(in crate::volume) state: Option<u64>,
    /// The file was cut to nothing when this was its last record: until that is durable, the journal
    /// has what it was.
    emptied: Option<u64>,
}

impl Pendings {
    fn len(&self) -> usize {
        let others = [
            self.inline.is_some(),
            self.state.is_some(),
            self.emptied.is_some(),
        ];
        self.blocks.len() + others.into_iter().map(usize::from).sum::<usize>()
    }
}

/// The pending parts of one open file.
#[derive(Default)]
pub(in crate::volume) struct Overlay {
    count: AtomicUsize,
    pendings: Mutex<Pendings>,
}

impl Overlay {
    /// Whether everything is at home: one load.
    pub(in crate::volume) fn is_empty(&self) -> bool {
        self.count.load(Ordering::Acquire) == 0
    }

    /// Changes what is pending.
    pub(in crate::volume) fn update(&self, change: impl FnOnce(&mut Pendings)) {
        let mut pendings = self.pendings.lock();
        change(&mut pendings);
        self.count.store(pendings.len(), Ordering::Release);
    }

    /// Nothing of this counts any more when that the file was cut to nothing is durable; `sequence`
    /// is its last record.
    pub(in crate::volume) fn emptied(&self, sequence: u64) {
        self.update(|pendings| {
            *pendings = Pendings {
                emptied: Some(sequence),
                ..Pendings::default()
            };
        });
    }

    /// The first `most` blocks from `from` on that records up to number `upto` hold.
    pub(in crate::volume) fn blocks_due(
        &self,
        from: BlockIndex,
        upto: u64,
        most: usize,
    ) -> Vec<(BlockIndex, Pending)> {
        let pendings = self.pendings.lock();
        let blocks = pendings.blocks.range(from..);
        blocks
            .filter(|(_, pending)| pending.sequence <= upto)
            .take(most)
            .map(|(block, pending)| (*block, *pending))
            .collect()
    }

    /// What else records up to number `upto` hold: an inline file, or whether there is a state.
    pub(in crate::volume) fn head_due(&self, upto: u64) -> (Option<PendingBytes>, bool) {
        let pendings = self.pendings.lock();
        match pendings.inline {
            // It has the state in it.
            Some(inline) => ((inline.sequence <= upto).then_some(inline), false),
            None => (None, pendings.state.is_some_and(|state| state <= upto)),
        }
    }

    /// Whether there is anything to do for records up to number `upto` to be freed.
    pub(in crate::volume) fn is_due(&self, upto: u64) -> bool {
        if self.is_empty() {
            return false;
        }
        let pendings = self.pendings.lock();
        let due = |sequence: u64| sequence <= upto;
        // A cut must be durable whenever it was: it took the place of all that was before.
        pendings.emptied.is_some()
            || pendings.inline.is_some_and(|bytes| due(bytes.sequence))
            || pendings.state.is_some_and(due)
            || pendings.blocks.values().any(|block| due(block.sequence))
    }

    /// What records up to this number hold has come home.
    pub(in crate::volume) fn settle(&self, sequence: u64) {
        self.update(|pendings| {
            pendings.blocks.retain(|_, block| block.sequence > sequence);
            pendings.inline = pendings.inline.filter(|bytes| bytes.sequence > sequence);
            pendings.state = pendings.state.filter(|state| *state > sequence);
            pendings.emptied = pendings.emptied.filter(|last| *last > sequence);
        });
    }

    /// The newest form of a block, if that is in the journal.
    pub(in crate::volume) fn block(&self, block: BlockIndex) -> Option<Pending> {
        if self.is_empty() {
            return None;
        }
        self.pendings.lock().blocks.get(&block).copied()
    }

    /// The first block from `block` on that has data in the journal.
    pub(in crate::volume) fn next_data(&self, block: BlockIndex) -> Option<BlockIndex> {
        if self.is_empty() {
            return None;
        }
        let pendings = self.pendings.lock();
        let mut behind = pendings.blocks.range(block..);
        behind.find_map(|(block, pending)| pending.entry.map(|_| *block))
    }

    /// Puts the newest entries into a page that was read from home.
    pub(in crate::volume) fn patch(&self, page: &mut EntryPage) {
        if self.is_empty() {
            return;
        }
        let group = page.group();
        let after = GroupIndex(group.0 + 1).first_block();
        let pendings = self.pendings.lock();
        for (block, pending) in pendings.blocks.range(group.first_block()..after) {
            page.set(block.place().1, pending.entry.as_ref());
        }
    }
}
