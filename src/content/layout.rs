//! Where a file's blocks lie: the arithmetic of offsets, and nothing else.
//!
//! ```text
//!     page 0    header, and 96 block entries (the head group) or the inline bytes
//!     page 1..  data blocks 0..95
//!     then      groups: [entry page: 128 entries][128 data blocks]
//! ```
//!
//! The last block is stored at its exact length, so the plaintext size follows from the cipher
//! file's size alone, and back.

use super::ContentError;
use crate::format::{ENTRIES_AT, ENTRY_LEN, INLINE_AT, INLINE_MAX, PAGE};

/// Data blocks in the head group.
pub const HEAD_BLOCKS: u64 = 96;
/// Data blocks in each group behind it.
pub const GROUP_BLOCKS: u64 = 128;

const P: u64 = PAGE as u64;
/// Where group 1 starts: behind page 0 and the head group's blocks.
const GROUPS_AT: u64 = (1 + HEAD_BLOCKS) * P;
/// Bytes of a group: an entry page and its blocks.
const GROUP_LEN: u64 = (1 + GROUP_BLOCKS) * P;

/// The largest plaintext size, in bytes: its cipher file ends at or below 2^63 - 1.
pub const MAX_SIZE: u64 = {
    let groups = (i64::MAX as u64 - GROUPS_AT) / GROUP_LEN;
    (HEAD_BLOCKS + groups * GROUP_BLOCKS) * P
};

/// A byte offset in the plaintext, at most [`MAX_SIZE`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct PlainOffset(u64);

/// A byte offset in the cipher file.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct CipherOffset(pub u64);

/// The number of a plaintext block of 4096 bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct BlockIndex(pub u64);

/// The number of a group: 0 is the head group.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct GroupIndex(pub u64);

impl PlainOffset {
    /// Checks the range.
    ///
    /// # Errors
    /// [`ContentError::Range`] above [`MAX_SIZE`].
    pub fn new(offset: u64) -> Result<Self, ContentError> {
        if offset <= MAX_SIZE {
            Ok(Self(offset))
        } else {
            Err(ContentError::Range)
        }
    }

    /// The end of `len` bytes from here.
    ///
    /// # Errors
    /// [`ContentError::Range`] above [`MAX_SIZE`].
    pub fn plus(self, len: u64) -> Result<Self, ContentError> {
        Self::new(self.0.checked_add(len).ok_or(ContentError::Range)?)
    }

    /// Bytes from the start.
    pub fn get(self) -> u64 {
        self.0
    }

    /// The block that holds this byte, and the byte's place in it.
    pub fn block(self) -> (BlockIndex, usize) {
        (BlockIndex(self.0 / P), (self.0 % P) as usize)
    }
}

impl BlockIndex {
    /// The first block that starts at or behind `size` bytes: the number of blocks of such a file.
    pub fn count_of(size: u64) -> Self {
        Self(size.div_ceil(P))
    }

    /// Where its plaintext starts, in bytes.
    pub fn plain_start(self) -> u64 {
        self.0 * P
    }

    /// How many bytes it holds in a file of `size` bytes: 4096, less in the last block, 0 behind it.
    pub fn len_in(self, size: u64) -> usize {
        size.saturating_sub(self.plain_start()).min(P) as usize
    }

    /// Its group, and its place there.
    pub fn place(self) -> (GroupIndex, usize) {
        match self.0.checked_sub(HEAD_BLOCKS) {
            None => (GroupIndex(0), self.0 as usize),
            Some(behind) => (
                GroupIndex(1 + behind / GROUP_BLOCKS),
                (behind % GROUP_BLOCKS) as usize,
            ),
        }
    }

    /// Where its ciphertext lies.
    pub fn data_at(self) -> CipherOffset {
        let (group, place) = self.place();
        CipherOffset(group.data_at().0 + place as u64 * P)
    }

    /// The block whose data stands at this place of the cipher file; None where none does.
    pub fn at(offset: u64) -> Option<Self> {
        let group = GroupIndex::at(offset);
        let behind = offset.checked_sub(group.data_at().0)?;
        let place = behind / P;
        (behind % P == 0 && place < group.blocks() as u64)
            .then(|| Self(group.first_block().0 + place))
    }

    /// The next block.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl GroupIndex {
    /// The group whose entry page or data holds the byte at `offset` of the cipher file.
    pub fn at(offset: u64) -> Self {
        Self(
            offset
                .checked_sub(GROUPS_AT)
                .map_or(0, |behind| 1 + behind / GROUP_LEN),
        )
    }

    /// How many blocks the group has.
    pub fn blocks(self) -> usize {
        if self.0 == 0 {
            HEAD_BLOCKS as usize
        } else {
            GROUP_BLOCKS as usize
        }
    }

    /// Its first block.
    pub fn first_block(self) -> BlockIndex {
        BlockIndex(match self.0.checked_sub(1) {
            None => 0,
            Some(behind) => HEAD_BLOCKS + behind * GROUP_BLOCKS,
        })
    }

    /// Where its page of entries lies.
    pub fn page_at(self) -> CipherOffset {
        CipherOffset(match self.0.checked_sub(1) {
            None => 0,
            Some(behind) => GROUPS_AT + behind * GROUP_LEN,
        })
    }

    /// Where the first of its entries stands in that page.
    pub fn entries_in_page(self) -> usize {
        if self.0 == 0 { ENTRIES_AT } else { 0 }
    }

    /// Where the entry of the block at `place` lies.
    pub fn entry_at(self, place: usize) -> CipherOffset {
        CipherOffset(self.page_at().0 + self.entries_in_page() as u64 + (place * ENTRY_LEN) as u64)
    }

    /// Where its first data block lies.
    pub fn data_at(self) -> CipherOffset {
        CipherOffset(self.page_at().0 + P)
    }
}

/// How a file lies on disk, as its size there tells.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Layout {
    /// No byte, no header, no key.
    Empty,
    /// Header and the sealed bytes in one page.
    Inline {
        /// Plaintext bytes.
        len: usize,
    },
    /// Header and blocks.
    Blocks {
        /// Plaintext bytes.
        size: u64,
    },
}

impl Layout {
    /// Reads a cipher file's size.
    ///
    /// # Errors
    /// [`ContentError::Range`] for a size that no file has: cut inside the header.
    pub fn of_cipher_size(len: u64) -> Result<Self, ContentError> {
        let inline_at = INLINE_AT as u64;
        if len == 0 {
            return Ok(Self::Empty);
        }
        if len <= P {
            return match len.checked_sub(inline_at) {
                Some(len) => Ok(Self::Inline { len: len as usize }),
                None => Err(ContentError::Range),
            };
        }
        let size = match len.checked_sub(GROUPS_AT) {
            None => len - P,
            Some(behind) => {
                let (groups, rest) = (behind / GROUP_LEN, behind % GROUP_LEN);
                (HEAD_BLOCKS + groups * GROUP_BLOCKS) * P + rest.saturating_sub(P)
            }
        };
        Ok(Self::Blocks { size })
    }

    /// The plaintext size, in bytes.
    pub fn size(self) -> u64 {
        match self {
            Self::Empty => 0,
            Self::Inline { len } => len as u64,
            Self::Blocks { size } => size,
        }
    }

    /// The size of the cipher file, for a layout that was checked before.
    pub fn stored_size(self) -> u64 {
        match self {
            Self::Empty => 0,
            Self::Inline { len } => (INLINE_AT + len) as u64,
            Self::Blocks { size } => Self::cipher_size(PlainOffset(size)).0,
        }
    }

    /// The size of a cipher file in blocks with `size` bytes of plaintext.
    pub fn cipher_size(size: PlainOffset) -> CipherOffset {
        let size = size.get();
        let head = HEAD_BLOCKS * P;
        CipherOffset(match size.checked_sub(head) {
            None | Some(0) => P + size,
            Some(behind) => {
                // The last group is the one with the last byte.
                let groups = (behind - 1) / (GROUP_BLOCKS * P);
                let rest = behind - groups * GROUP_BLOCKS * P;
                GROUPS_AT + groups * GROUP_LEN + P + rest
            }
        })
    }
}

const _: () = assert!(INLINE_MAX == 3040);
