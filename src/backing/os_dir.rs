//! Listing a directory.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;

use rustix::fs::{RawDir, SeekFrom};
use rustix::io::Errno;

use super::{Kind, RawEntry};

/// Bytes of entries read at a time.
const READ: usize = 32 * 1024;

/// A position in a directory's stream. It reads 32 KiB of entries at a time and keeps those that
/// were not taken.
///
/// Seeking is avoided: some filesystems keep a stable position only for a stream that is read on
/// (tmpfs before Linux 6.6), others pay for each seek (ext4 builds its tree of hashes anew).
pub struct OsListing {
    fd: OwnedFd,
    read: Box<[MaybeUninit<u8>]>,
    /// Entries read and not taken, with the position `at` before the first.
    kept: Kept,
    /// The position before the next entry, kept or not.
    at: u64,
}

#[derive(Default)]
struct Kept {
    entries: Vec<KeptEntry>,
    /// How many of `entries` have been taken.
    taken: usize,
    /// The names, one after another.
    names: Vec<u8>,
}

struct KeptEntry {
    next: u64,
    ino: u64,
    kind: Option<Kind>,
    name_end: usize,
}

impl OsListing {
    /// Lists from the start, which is where `fd` must be.
    pub(super) fn new(fd: OwnedFd) -> Self {
        let read = Box::new_uninit_slice(READ);
        Self {
            fd,
            read,
            kept: Kept::default(),
            at: 0,
        }
    }
}

impl Kept {
    fn clear(&mut self) {
        self.entries.clear();
        self.names.clear();
        self.taken = 0;
    }

    fn push(&mut self, entry: RawEntry<'_>) {
        self.names.extend_from_slice(entry.name);
        let name_end = self.names.len();
        let RawEntry {
            next, ino, kind, ..
        } = entry;
        self.entries.push(KeptEntry {
            next,
            ino,
            kind,
            name_end,
        });
    }

    fn first(&self) -> Option<RawEntry<'_>> {
        let entry = self.entries.get(self.taken)?;
        let start = match self.taken {
            0 => 0,
            n => self.entries[n - 1].name_end,
        };
        let KeptEntry {
            next,
            ino,
            kind,
            name_end,
        } = *entry;
        Some(RawEntry {
            name: &self.names[start..name_end],
            ino,
            kind,
            next,
        })
    }
}

pub(super) fn next_entries(
    listing: &mut OsListing,
    from: u64,
    sink: &mut dyn FnMut(RawEntry<'_>) -> bool,
) -> io::Result<()> {
    let OsListing { fd, read, kept, at } = listing;

    // The caller may have gone on past entries that its sink refused.
    while from != 0
        && *at != from
        && let Some(entry) = kept.first()
    {
        *at = entry.next;
        kept.taken += 1;
    }
    // From the start is what rewinddir(3) asks for: it must see what is new.
    if *at != from || (from == 0 && !kept.entries.is_empty()) {
        kept.clear();
        rustix::fs::seek(&*fd, SeekFrom::Start(from))?;
        *at = from;
    }

    while let Some(entry) = kept.first() {
        if !sink(entry) {
            return Ok(());
        }
        *at = entry.next;
        kept.taken += 1;
    }
    kept.clear();

    let mut entries = RawDir::new(&*fd, read);
    let mut full = false;
    loop {
        // What has been read is kept; more is read only while the sink takes it.
        if full && entries.is_buffer_empty() {
            return Ok(());
        }
        let Some(entry) = entries.next() else {
            return Ok(());
        };
        let entry = match entry {
            Err(Errno::INTR) => continue,
            read => read?,
        };
        let entry = RawEntry {
            name: entry.file_name().to_bytes(),
            ino: entry.ino(),
            kind: Kind::from_file_type(entry.file_type()),
            next: entry.next_entry_cookie(),
        };
        full = full || !sink(entry);
        if full {
            kept.push(entry);
        } else {
            *at = entry.next;
        }
    }
}
