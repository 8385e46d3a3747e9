//! Reading a file in sequence: what memory need not hold afterwards.
//!
//! What is read ahead is the kernel's choice: told by hand to fetch 4 MiB ahead, it took each page by
//! itself instead of large folios, and a cold read of 1 GiB from a disk was a fifth slower.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// How far a read may be from the one before it and still be in sequence, in bytes. The requests of
/// one reader come on several threads and out of order.
const NEAR: u64 = 1 << 20;
/// So much in sequence, and a file is a large one.
const LARGE: u64 = 8 << 20;

/// Where the readers of an open file are.
#[derive(Default)]
pub(super) struct Stream {
    /// Where the last read ended, in plaintext bytes.
    end: AtomicU64,
    /// How many bytes were read in sequence.
    read: AtomicU64,
    /// Whether the last read was.
    near: AtomicBool,
}

impl Stream {
    /// Notes a read of `start..end`.
    pub(super) fn note(&self, start: u64, end: u64) {
        let near = start.abs_diff(self.end.swap(end, Ordering::Relaxed)) <= NEAR;
        if near {
            self.read.fetch_add(end - start, Ordering::Relaxed);
        }
        self.near.store(near, Ordering::Relaxed);
    }

    /// Whether the last read was where the one before it ended: the kernel reads ahead then, and needs
    /// no advice.
    pub(super) fn in_sequence(&self) -> bool {
        self.near.load(Ordering::Relaxed)
    }

    /// Whether memory need not hold the cipher file when a reader has gone: it was read in sequence,
    /// and the page cache has its plaintext.
    ///
    /// Not while it is read: a cold read of 1 GiB from a disk was a fifth slower then.
    pub(super) fn ends(&self) -> bool {
        self.read.swap(0, Ordering::Relaxed) >= LARGE
    }
}

#[cfg(test)]
mod tests;
