//! The entries of a group, as they stand on disk.

use std::cell::RefCell;
use std::mem;
use std::sync::{Arc, LazyLock};

use super::{BlockIndex, ContentError, GroupIndex};
use crate::format::{ENTRY_LEN, Entry, PAGE};

type Bytes = [u8; PAGE];

/// Pages kept for the next one that is needed, in each thread: what a write of 1 MiB takes twice.
const SPARE_MOST: usize = 8;

/// What a page without entries shares with all others.
static EMPTY: LazyLock<Arc<Bytes>> = LazyLock::new(|| Arc::new([0; PAGE]));

thread_local! {
    static SPARE: RefCell<Vec<Arc<Bytes>>> = const { RefCell::new(Vec::new()) };
}

/// The entries of one group, in their bytes.
///
/// A clone shares the bytes until one of the two is changed. Every write changes a clone of the page
/// that is remembered, which then takes its place: so memory of pages that are given up is used again
/// by the thread that does, and nothing is allocated once it has some.
#[derive(Clone)]
pub struct EntryPage {
    group: GroupIndex,
    bytes: Arc<Bytes>,
}

impl Drop for EntryPage {
    fn drop(&mut self) {
        if Arc::get_mut(&mut self.bytes).is_none() {
            return; // somebody else's too
        }
        let bytes = mem::replace(&mut self.bytes, Arc::clone(&EMPTY));
        // A thread that ends keeps none.
        let _ = SPARE.try_with(|spare| {
            if let Ok(mut spare) = spare.try_borrow_mut()
                && spare.len() < SPARE_MOST
            {
                spare.push(bytes);
            }
        });
    }
}

impl EntryPage {
    /// A page without entries: all holes.
    pub fn empty(group: GroupIndex) -> Self {
        Self {
            group,
            bytes: Arc::clone(&EMPTY),
        }
    }

    /// Takes over the page's bytes. In group 0 only those behind the header count.
    pub fn from_bytes(group: GroupIndex, bytes: &Bytes) -> Self {
        let mut page = Self::empty(group);
        let head = group.entries_in_page();
        page.bytes_mut()[head..].copy_from_slice(&bytes[head..]);
        page
    }

    /// Whose entries these are.
    pub fn group(&self) -> GroupIndex {
        self.group
    }

    fn range(&self, place: usize) -> std::ops::Range<usize> {
        let at = self.group.entries_in_page() + place * ENTRY_LEN;
        at..at + ENTRY_LEN
    }

    /// The entry of the block at `place`; `None` is a hole.
    ///
    /// # Errors
    /// [`ContentError::Unauthentic`] for bytes that no writer writes.
    pub fn get(&self, place: usize) -> Result<Option<Entry>, ContentError> {
        let bytes = self.bytes[self.range(place)]
            .first_chunk()
            .ok_or(ContentError::Range)?;
        Entry::parse(bytes).map_err(|_| ContentError::Unauthentic)
    }

    /// Replaces an entry; `None` makes a hole.
    pub fn set(&mut self, place: usize, entry: Option<&Entry>) {
        let range = self.range(place);
        let bytes = self.bytes_mut();
        match entry {
            Some(entry) => bytes[range].copy_from_slice(&entry.encode()),
            None => bytes[range].fill(0),
        }
    }

    /// The bytes of the entries of `places`, and where they lie in the cipher file.
    pub fn span(&self, places: std::ops::Range<usize>) -> (u64, &[u8]) {
        let from = self.range(places.start).start;
        let to = from + (places.end - places.start) * ENTRY_LEN;
        (self.group.page_at().0 + from as u64, &self.bytes[from..to])
    }

    /// The whole page, for a group behind the head group.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The whole page, to read into.
    pub fn bytes_mut(&mut self) -> &mut Bytes {
        if Arc::get_mut(&mut self.bytes).is_none()
            && let Some(mut own) = SPARE.with_borrow_mut(Vec::pop)
            && let Some(bytes) = Arc::get_mut(&mut own)
        {
            bytes.copy_from_slice(&*self.bytes);
            self.bytes = own;
        }
        // Copies what is still shared, because there was nothing to spare.
        Arc::make_mut(&mut self.bytes)
    }

    /// Whether `block` belongs to this page.
    pub fn holds(&self, block: BlockIndex) -> bool {
        block.place().0 == self.group
    }
}
