//! The entries of a group, as they stand on disk.

use super::{BlockIndex, ContentError, GroupIndex};
use crate::format::{ENTRY_LEN, Entry, PAGE};

/// The entries of one group, in their bytes.
#[derive(Clone)]
pub struct EntryPage {
    group: GroupIndex,
    bytes: Box<[u8; PAGE]>,
}

impl EntryPage {
    /// A page without entries: all holes.
    pub fn empty(group: GroupIndex) -> Self {
        Self {
            group,
            bytes: Box::new([0; PAGE]),
        }
    }

    /// Takes the page's bytes. In group 0 only those behind the header count.
    pub fn from_bytes(group: GroupIndex, mut bytes: Box<[u8; PAGE]>) -> Self {
        bytes[..group.entries_in_page()].fill(0);
        Self { group, bytes }
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
        match entry {
            Some(entry) => self.bytes[range].copy_from_slice(&entry.encode()),
            None => self.bytes[range].fill(0),
        }
    }

    /// The bytes of the entries of `places`, and where they lie in the cipher file.
    pub fn span(&self, places: std::ops::Range<usize>) -> (u64, &[u8]) {
        let from = self.range(places.start).start;
        let to = from + (places.end - places.start) * ENTRY_LEN;
        (self.group.page_at().0 + from as u64, &self.bytes[from..to])
    }

    /// The whole page, for a group behind the head group.
    pub fn bytes(&self) -> &[u8; PAGE] {
        &self.bytes
    }

    /// The whole page, to read into.
    pub fn bytes_mut(&mut self) -> &mut [u8; PAGE] {
        &mut self.bytes
    }

    /// Whether `block` belongs to this page.
    pub fn holds(&self, block: BlockIndex) -> bool {
        block.place().0 == self.group
    }
}
