//! Names of entries.

use std::fmt;
use std::ops::Deref;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::{DirId, NameError, NameMode, Names};
use crate::crypto::{SivKey, sha256};

/// The longest name of an entry, in bytes, here and below.
pub const MAX_NAME: usize = 255;

/// The longest name whose encrypted form is an entry's name by itself, in bytes: 175.
pub const MAX_SHORT: usize = MAX_SEALED - SivKey::OVERHEAD;

/// The most bytes whose base64url has at most [`MAX_NAME`] characters.
const MAX_SEALED: usize = MAX_NAME * 3 / 4;

/// What all names of ours begin with.
const OURS: &[u8] = b".envelopefs";
/// Before the hash: the entry that has a long name.
const LONG: &[u8] = b".envelopefs.l.";
/// Before the hash: the symlink beside it that holds the long name.
const SIDECAR: &[u8] = b".envelopefs.n.";
/// In plain mode, before the rest of a user's name that begins with `.envelopefs`.
const USERS: &[u8] = b".envelopefs.u.";
/// Characters of a hash: the base64url of 32 bytes.
const HASH_LEN: usize = 43;

/// The name of an entry below: up to 255 bytes, held in place.
#[derive(Clone, Copy)]
pub struct EntryString {
    len: u8,
    bytes: [u8; MAX_NAME],
}

impl EntryString {
    /// The parts put together; None when they don't fit.
    fn of(parts: [&[u8]; 2]) -> Option<Self> {
        let mut bytes = [0; MAX_NAME];
        let [first, second] = parts;
        let (head, tail) = bytes.split_at_mut_checked(first.len())?;
        head.copy_from_slice(first);
        tail.get_mut(..second.len())?.copy_from_slice(second);
        let len = u8::try_from(first.len() + second.len()).ok()?;
        Some(Self { len, bytes })
    }

    /// The base64url of at most [`MAX_SEALED`] bytes.
    fn base64(bytes: &[u8]) -> Option<Self> {
        let mut text = [0; MAX_NAME];
        let len = URL_SAFE_NO_PAD.encode_slice(bytes, &mut text).ok()?;
        Some(Self {
            len: u8::try_from(len).ok()?,
            bytes: text,
        })
    }

    /// The name.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

impl Deref for EntryString {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.as_bytes()
    }
}

impl AsRef<[u8]> for EntryString {
    fn as_ref(&self) -> &[u8] {
        self.as_bytes()
    }
}

impl PartialEq for EntryString {
    fn eq(&self, other: &Self) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl Eq for EntryString {}

impl fmt::Debug for EntryString {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EntryString({})", self.as_bytes().escape_ascii())
    }
}

/// How a name is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(
    clippy::large_enum_variant,
    reason = "lives on the stack of one lookup; a box would cost"
)]
pub enum Stored {
    /// As an entry by this name.
    Short(EntryString),
    /// Under a hash, because the encrypted name is too long for an entry.
    Long {
        /// The entry itself.
        entry: EntryString,
        /// The symlink beside it, made before and removed after it.
        sidecar: EntryString,
        /// That symlink's target: the encrypted name.
        full: Vec<u8>,
    },
}

impl Stored {
    /// The name of the entry itself.
    pub fn entry(&self) -> &EntryString {
        match self {
            Self::Short(entry) | Self::Long { entry, .. } => entry,
        }
    }
}

/// What an entry below is, by its name alone.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(
    clippy::large_enum_variant,
    reason = "lives on the stack of one listing step"
)]
pub enum Class {
    /// A user's entry, or something foreign: [`Names::decode`] tells.
    Entry,
    /// A user's entry with a long name: [`Names::decode_long`] with the sidecar's target tells it.
    Long {
        /// The name of the symlink that holds the encrypted name.
        sidecar: EntryString,
    },
    /// Ours, not to be shown: `.`, `..`, sidecars, directory ids, the volume's own directory,
    /// temporary entries and anything else that begins with `.envelopefs`.
    Reserved,
}

impl Class {
    /// What an entry below is, where names are stored in this way. Needs no key.
    pub fn of(mode: NameMode, stored: &[u8]) -> Self {
        if matches!(stored, b"." | b"..") {
            return Self::Reserved;
        }
        if !stored.starts_with(OURS) {
            return Self::Entry;
        }
        let long = stored
            .strip_prefix(LONG)
            .filter(|hash| hash.len() == HASH_LEN && is_base64url(hash))
            .and_then(|hash| EntryString::of([SIDECAR, hash]));
        match (mode, long) {
            (NameMode::Encrypted, Some(sidecar)) => Self::Long { sidecar },
            (NameMode::Plain, _) if stored.starts_with(USERS) => Self::Entry,
            _ => Self::Reserved,
        }
    }
}

/// Refuses what can't be the name of an entry.
fn check(name: &[u8]) -> Result<(), NameError> {
    if name.len() > MAX_NAME {
        return Err(NameError::TooLong);
    }
    let component = !matches!(name, [] | b"." | b"..");
    if component && !name.iter().any(|&byte| byte == b'/' || byte == 0) {
        Ok(())
    } else {
        Err(NameError::Invalid)
    }
}

/// The base64url of the hash of a full encrypted name.
fn hash(full: &[u8]) -> [u8; HASH_LEN] {
    let mut text = [0; HASH_LEN];
    // 32 bytes give 43 characters.
    let _ = URL_SAFE_NO_PAD.encode_slice(sha256(&[full]), &mut text);
    text
}

impl Names {
    /// The stored form of a name.
    ///
    /// # Errors
    /// [`NameError::TooLong`], [`NameError::Invalid`].
    pub fn encode(&self, dir: &DirId, name: &[u8]) -> Result<Stored, NameError> {
        check(name)?;
        if self.mode == NameMode::Plain {
            let parts = match name.strip_prefix(OURS) {
                Some(rest) => [USERS, rest],
                None => [name, b""],
            };
            return EntryString::of(parts)
                .map(Stored::Short)
                .ok_or(NameError::TooLong);
        }
        let mut buf = [0; SivKey::OVERHEAD + MAX_NAME];
        let sealed = &mut buf[..SivKey::OVERHEAD + name.len()];
        let (iv, text) = sealed.split_at_mut(SivKey::OVERHEAD);
        text.copy_from_slice(name);
        iv.copy_from_slice(&self.name.seal_in_place(&[&dir.0], text));
        if name.len() <= MAX_SHORT {
            return EntryString::base64(sealed)
                .map(Stored::Short)
                .ok_or(NameError::TooLong);
        }
        let full = URL_SAFE_NO_PAD.encode(sealed).into_bytes();
        let hash = hash(&full);
        let ours = |prefix| EntryString::of([prefix, &hash]).ok_or(NameError::TooLong);
        Ok(Stored::Long {
            entry: ours(LONG)?,
            sidecar: ours(SIDECAR)?,
            full,
        })
    }

    /// What an entry below is.
    pub fn classify(&self, stored: &[u8]) -> Class {
        Class::of(self.mode, stored)
    }

    /// The name of a [`Class::Entry`].
    ///
    /// # Errors
    /// [`NameError::Foreign`] when it isn't one that [`Names::encode`] made for this directory.
    pub fn decode(&self, dir: &DirId, stored: &[u8]) -> Result<Vec<u8>, NameError> {
        let name = match self.mode {
            NameMode::Encrypted if stored.len() > MAX_NAME => return Err(NameError::Foreign),
            NameMode::Encrypted => self.open_name(dir, stored)?,
            NameMode::Plain => match (stored.strip_prefix(USERS), stored.starts_with(OURS)) {
                (Some(rest), _) => [OURS, rest].concat(),
                (None, false) => stored.to_vec(),
                (None, true) => return Err(NameError::Foreign),
            },
        };
        check(&name).map_err(|_| NameError::Foreign)?;
        Ok(name)
    }

    /// The name of a [`Class::Long`] that is stored as `stored` and whose sidecar's target is
    /// `full`.
    ///
    /// # Errors
    /// [`NameError::Foreign`] when they don't belong together, or [`Names::encode`] did not make
    /// them for this directory.
    pub fn decode_long(
        &self,
        dir: &DirId,
        full: &[u8],
        stored: &[u8],
    ) -> Result<Vec<u8>, NameError> {
        if self.mode != NameMode::Encrypted || stored.strip_prefix(LONG) != Some(&hash(full)) {
            return Err(NameError::Foreign);
        }
        let name = self.open_name(dir, full)?;
        check(&name).map_err(|_| NameError::Foreign)?;
        // One name has one stored form; a short one stored so would be listed twice.
        if name.len() > MAX_SHORT {
            Ok(name)
        } else {
            Err(NameError::Foreign)
        }
    }

    fn open_name(&self, dir: &DirId, text: &[u8]) -> Result<Vec<u8>, NameError> {
        /// Room for the longest, as the decoder counts: in threes, rounded up.
        const ROOM: usize = (SivKey::OVERHEAD + MAX_NAME).next_multiple_of(3);
        let mut buf = [0; ROOM];
        let len = URL_SAFE_NO_PAD
            .decode_slice(text, &mut buf)
            .map_err(|_| NameError::Foreign)?;
        let (iv, name) = buf[..len]
            .split_first_chunk_mut()
            .ok_or(NameError::Foreign)?;
        self.name
            .open_in_place(&[&dir.0], iv, name)
            .map_err(|_| NameError::Foreign)?;
        Ok(name.to_vec())
    }
}

fn is_base64url(text: &[u8]) -> bool {
    text.iter()
        .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}
