//! Reading a file in sequence: what is fetched ahead of the reader, and given up afterwards.

use std::sync::atomic::{AtomicU64, Ordering};

/// How far a read may be from the one before it and still be in sequence, in bytes. The requests of
/// one reader come on several threads and out of order, so the kernel's own guess below goes wrong.
const NEAR: u64 = 1 << 20;
/// How far ahead is asked for at the most.
const FAR: u64 = 4 << 20;
/// So much in sequence, and a file is a large one.
const LARGE: u64 = 8 << 20;

/// A range of the cipher file: start and length, in bytes.
pub(super) type Range = (u64, u64);

/// Where the readers of an open file are.
#[derive(Default)]
pub(super) struct Stream {
    /// Where the last read ended, in plaintext bytes.
    end: AtomicU64,
    /// Up to where the cipher file was asked for.
    asked: AtomicU64,
    /// How many bytes were read in sequence.
    read: AtomicU64,
}

impl Stream {
    /// Notes a read of `start..end`, which in the cipher file ends at `cipher_end`; what to ask for,
    /// if it is time.
    pub(super) fn note(&self, start: u64, end: u64, cipher_end: u64) -> Option<Range> {
        let before = self.end.swap(end, Ordering::Relaxed);
        if start.abs_diff(before) > NEAR {
            self.asked.store(0, Ordering::Relaxed);
            return None;
        }
        self.read.fetch_add(end - start, Ordering::Relaxed);
        let asked = self.asked.load(Ordering::Relaxed).max(cipher_end);
        if asked > cipher_end + FAR / 2 {
            return None;
        }
        self.asked.store(cipher_end + FAR, Ordering::Relaxed);
        Some((asked, cipher_end + FAR - asked))
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
