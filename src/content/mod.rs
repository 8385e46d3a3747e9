//! A plaintext range ⇄ ciphertext spans, and the open and seal of blocks. No I/O.
//!
//! [`layout`] is the one place with arithmetic on offsets. [`FileKeys`] opens and seals: there is
//! one encryptor and one decryptor, for the mount and for maintenance. [`KeyRing`] picks the data key by
//! which a block was sealed.

mod entry_page;
mod keys;
pub mod layout;

pub use entry_page::EntryPage;
pub use keys::{FileKeys, FileSecret, InlineBytes, KeyRing};
pub use layout::{
    BlockIndex, CipherOffset, GROUP_BLOCKS, GroupIndex, HEAD_BLOCKS, Layout, MAX_SIZE, PlainOffset,
};

/// Why content can't be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ContentError {
    /// The block or its entry was changed, or belongs elsewhere.
    #[error("the block fails authentication")]
    Unauthentic,
    /// The entry names a data key that the file's header doesn't hold.
    #[error("the block is sealed under a data key that the header doesn't hold")]
    OtherKey,
    /// An offset or a size that no file has.
    #[error("the size is out of range")]
    Range,
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_golden;
