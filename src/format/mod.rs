//! Bytes ⇄ typed records: the file header, block entries, the volume record, wrapped keys. No I/O.
//!
//! All integers are little-endian. A parser takes bytes that an attacker may have written: it
//! gives a value whose every field is in range, or [`FormatError`]; it never panics.
//!
//! Page 0 of a cipher file:
//!
//! ```text
//!     0  static part            64   StaticPart
//!    64  envelope slot A       448   Slot
//!   512  envelope slot B       448   Slot
//!   960  state                  64   State
//!  1024  block entries 0..95  3072   Entry x 96            (a file in blocks)
//!        or entry 0 (32) and the file's bytes, sealed, up to 3040   (an inline file)
//! ```
//!
//! Where the blocks lie is arithmetic, and lives in [`crate::content`].

pub mod blob;
mod entry;
mod header;
mod ids;
pub mod journal;
mod kept_ctime;
mod mark;
mod record;
mod slot;
mod state;

pub use entry::{ENTRY_LEN, Entry, EntryFlags};
pub use header::{
    ENTRIES_AT, HEADER_LEN, INLINE_AT, INLINE_MAX, SLOT_A_AT, SLOT_B_AT, STATE_AT, STATIC_LEN,
    StaticPart, Suite,
};
pub use ids::{
    FileId, VolumeId, hex, hex_digits, random_uuid, uuid, uuid_digits, version_4, write_digits,
};
pub use kept_ctime::{KEPT_CTIME_LEN, KeptCtime};
pub use mark::{EPOCHS_MOST, MARK_MAX, MARK_SPACE, Mark};
pub use record::{FEATURE_JOURNAL, NameEncoding, RECORD_MAX, VolumeRecord, VolumeSecrets};
pub use slot::{KeyRole, SLOT_LEN, SLOT_MAC_AT, Slot, WRAPPED_KEYS_MAX, WrappedKey};
pub use state::{STATE_LEN, State, StateFlags};

/// Bytes in a page of a cipher file, and in a full block.
pub const PAGE: usize = 4096;

/// Why bytes are not a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// The bytes don't start as this record does.
    #[error("not an envelopefs record (wrong magic)")]
    Magic,
    /// A format version that this program doesn't know.
    #[error("format version {0} is not supported; a newer envelopefs may read it")]
    Version(u16),
    /// A cipher suite that this program doesn't know.
    #[error("cipher suite {0} is not supported")]
    Suite(u16),
    /// A feature flag that this program doesn't know.
    #[error("unknown feature flags {0:#x}; a newer envelopefs may read it")]
    Flags(u32),
    /// The bytes are too few.
    #[error("the record is cut short")]
    Short,
    /// A field has a value that no writer writes.
    #[error("the record is malformed: {0}")]
    Malformed(&'static str),
    /// The authentication tag doesn't match.
    #[error("the record fails authentication: it was changed, or belongs elsewhere")]
    Unauthentic,
}

/// Reads `N` bytes at `at`; the caller has checked the length.
fn field<const N: usize>(bytes: &[u8], at: usize) -> Result<[u8; N], FormatError> {
    bytes
        .get(at..at + N)
        .and_then(|slice| slice.try_into().ok())
        .ok_or(FormatError::Short)
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_golden;
