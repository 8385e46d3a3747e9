//! One path component.

use std::ffi::CStr;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::io;

use rustix::io::Errno;

/// The name of an entry in a directory: 1 to 255 bytes without `/` and NUL, neither `.` nor `..`.
///
/// Held in place (no allocation) and ended by a NUL, as the system calls want it.
#[derive(Clone)]
pub struct EntryName {
    len: u8,
    /// The name, then zeros: at least one.
    bytes: [u8; Self::MAX + 1],
}

impl EntryName {
    /// The longest name, in bytes.
    pub const MAX: usize = 255;

    /// Checks and takes a name.
    ///
    /// # Errors
    /// `ENAMETOOLONG` above 255 bytes; `EINVAL` when it isn't one component's name.
    pub fn new(name: &[u8]) -> io::Result<Self> {
        if name.len() > Self::MAX {
            return Err(Errno::NAMETOOLONG.into());
        }
        Self::build(name).ok_or_else(|| Errno::INVAL.into())
    }

    /// A name known when compiling; what isn't a name doesn't compile:
    ///
    /// ```
    /// use envelopefs::backing::EntryName;
    /// static LOCK: EntryName = EntryName::literal("lock");
    /// assert_eq!(LOCK.as_bytes(), b"lock");
    /// ```
    ///
    /// # Panics
    /// When it is called for something other than a `const` or `static` with a name that
    /// [`EntryName::new`] refuses.
    pub const fn literal(name: &'static str) -> Self {
        match Self::build(name.as_bytes()) {
            Some(name) => name,
            None => panic!("not the name of a directory entry"),
        }
    }

    const fn build(name: &[u8]) -> Option<Self> {
        if matches!(name, [] | b"." | b"..") || name.len() > Self::MAX {
            return None;
        }
        let mut bytes = [0; Self::MAX + 1];
        let mut at = 0;
        while at < name.len() {
            if name[at] == b'/' || name[at] == 0 {
                return None;
            }
            bytes[at] = name[at];
            at += 1;
        }
        Some(Self {
            len: name.len() as u8,
            bytes,
        })
    }

    /// The name.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }

    /// The name with its NUL.
    pub(super) fn c_str(&self) -> &CStr {
        // There is always a NUL after the name and none in it.
        CStr::from_bytes_until_nul(&self.bytes).unwrap_or_default()
    }
}

impl PartialEq for EntryName {
    fn eq(&self, other: &Self) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl Eq for EntryName {}

impl PartialOrd for EntryName {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for EntryName {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.as_bytes().cmp(other.as_bytes())
    }
}

impl Hash for EntryName {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_bytes().hash(state);
    }
}

impl TryFrom<&[u8]> for EntryName {
    type Error = io::Error;

    fn try_from(name: &[u8]) -> io::Result<Self> {
        Self::new(name)
    }
}

impl fmt::Debug for EntryName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EntryName({})", self.as_bytes().escape_ascii())
    }
}

impl fmt::Display for EntryName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.as_bytes().escape_ascii())
    }
}
