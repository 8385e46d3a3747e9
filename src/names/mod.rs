//! A plaintext name ⇄ its encrypted name; symlink targets; extended attributes. No I/O.
//!
//! # Names
//!
//! The name of an entry is sealed with AES-256-SIV (RFC 5297) under the volume's name key, with
//! the id of its directory as associated data, and written as base64url (RFC 4648 §5, no padding):
//! synthetic IV (16 bytes), then the ciphertext. The same name in the same directory gives the
//! same text, so that a lookup needs no listing; in another directory it gives an unrelated one,
//! and an entry that was moved there behind our back doesn't decode.
//!
//! A text of up to 255 bytes holds a name of up to [`MAX_SHORT`]. A longer name has two entries:
//! the file itself as `.envelopefs.l.HASH`, and beside it a symlink `.envelopefs.n.HASH`, the
//! *sidecar*, whose target is the full text. HASH is the base64url of the text's SHA-256.
//!
//! With [`NameMode::Plain`] names stay as they are, but for those that begin with `.envelopefs`,
//! which get `.envelopefs.u.` for it. Symlink targets and extended attributes are encrypted in both
//! modes.
//!
//! Everything that begins with `.envelopefs` is ours ([`Class::Reserved`] unless it is a user's
//! entry): no encrypted name begins with a dot.
//!
//! # Targets and attributes
//!
//! Symlink targets and values of extended attributes are sealed with AES-256-GCM under a random
//! nonce, each under a key of its own; see [`Names::seal_target`] and [`Names::seal_xattr_value`].
//! All keys come from the volume key by HKDF-SHA-256 with distinct labels.

mod dir_id;
mod sealed;
mod stored;
mod target;
mod xattr;

use crate::crypto::{AeadKey, SivKey, hkdf_sha256};
use crate::secret::Key256;

pub use dir_id::DirId;
pub use stored::{Class, EntryString, MAX_NAME, MAX_SHORT, Stored};
pub use xattr::XattrName;

/// Whether a volume encrypts the names of its entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameMode {
    /// They are encrypted.
    Encrypted,
    /// They are stored as they are.
    Plain,
}

/// Why a name, a target or an attribute could not be encoded or decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// The name, or its stored form, is longer than a filesystem takes.
    #[error("the name is too long: at most 255 bytes fit")]
    TooLong,
    /// Not the name of a directory entry, or of an extended attribute.
    #[error("not a valid name: it is empty, `.` or `..`, or holds a `/` or a NUL")]
    Invalid,
    /// The extended attribute is in none of the namespaces that are encrypted.
    #[error("extended attributes are kept in the namespaces user, trusted and security only")]
    Namespace,
    /// A stored name isn't one of this volume and directory.
    #[error(
        "the stored name does not decode: it was changed, or comes from another directory or volume"
    )]
    Foreign,
    /// A stored symlink target is not what was sealed.
    #[error("the symlink's target is damaged, or comes from another volume")]
    Target,
    /// The stored value of an extended attribute is not what was sealed under its name.
    #[error("the extended attribute's value is damaged, or comes from another attribute or volume")]
    XattrValue,
}

/// The codec of a volume. Shared by all threads.
pub struct Names {
    mode: NameMode,
    name: SivKey,
    target: AeadKey,
    xattr_name: SivKey,
    xattr_value: AeadKey,
}

impl Names {
    /// Derives the keys from the volume key.
    pub fn new(volume_key: &Key256, mode: NameMode) -> Self {
        let siv = |label: &[u8]| SivKey::new(hkdf_sha256(volume_key, b"", &[label]));
        let aead = |label: &[u8]| AeadKey::new(&hkdf_sha256(volume_key, b"", &[label]));
        Self {
            mode,
            name: siv(b"envelopefs 1 entry name"),
            target: aead(b"envelopefs 1 symlink target"),
            xattr_name: siv(b"envelopefs 1 xattr name"),
            xattr_value: aead(b"envelopefs 1 xattr value"),
        }
    }

    /// Whether names are encrypted.
    pub fn mode(&self) -> NameMode {
        self.mode
    }
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_golden;
