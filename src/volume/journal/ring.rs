//! The journal file: a ring of records, appended by one at a time, synced for many.

use std::io::{self, IoSlice, IoSliceMut};
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::{Condvar, Mutex};

use crate::backing::Backing;
use crate::format::journal::{JournalHeader, JournalKey, RECORD_HEAD, RING_AT, RecordBuilder};
use crate::format::{PAGE, VolumeId};

/// So far ahead of the head the ring is written before it is needed, in bytes.
const AHEAD: u64 = 1 << 20;

/// A place that was appended to.
pub(in crate::volume) struct Appended {
    /// Where the record stands in the journal file.
    pub(in crate::volume) at: u64,
    pub(in crate::volume) sequence: u64,
    /// The record's buffer, to be used again.
    pub(in crate::volume) buffer: Vec<u8>,
}

struct Ring {
    /// Where the next record goes, if it fits.
    head: u64,
    /// The page that the head stands in, as far as it is written.
    page: Box<[u8; PAGE]>,
    /// The next record's sequence number.
    next: u64,
    /// What is from here to the head may be needed; the rest is free.
    tail: u64,
    /// The tail of the header that was written last; it counts when that is durable.
    written: u64,
    generation: u64,
    /// Up to here the file was written in this epoch.
    written_to: u64,
    /// Bytes that writers under way may still append.
    reserved: u64,
}

impl Ring {
    /// Moves the head behind a record that was written at `at`.
    fn advance(&mut self, at: u64, record: &[u8]) {
        self.head = at + record.len() as u64;
        self.next += 1;
        let filled = (self.head % PAGE as u64) as usize;
        let new = filled.min(record.len());
        self.page[filled - new..filled].copy_from_slice(&record[record.len() - new..]);
    }
}

/// The end of the page that the byte before `at` stands in.
fn page_end(at: u64) -> u64 {
    at.next_multiple_of(PAGE as u64)
}

struct Syncing {
    /// All records up to this number are durable.
    synced: u64,
    /// The head behind the last of them.
    head: u64,
    running: bool,
    /// The last sync failed: what it covered must be written again before the next one counts.
    failed: bool,
}

/// The journal of one epoch.
pub(in crate::volume) struct Journal<B: Backing> {
    file: B::File,
    key: JournalKey,
    volume: VolumeId,
    epoch: u64,
    previous: u64,
    length: u64,
    ring: Mutex<Ring>,
    syncing: Mutex<Syncing>,
    done: Condvar,
    syncs: AtomicU64,
}

/// Room for a record to come.
pub(in crate::volume) struct Room<'a, B: Backing> {
    journal: &'a Journal<B>,
    bytes: u64,
}

impl<B: Backing> Drop for Room<'_, B> {
    fn drop(&mut self) {
        self.journal.ring.lock().reserved -= self.bytes;
    }
}

impl<B: Backing> Journal<B> {
    /// Begins an epoch in a journal file of so many bytes: empty, and durable as such. What the
    /// previous epoch left there was replayed; `generation` is that of its newest header, if
    /// that may still count.
    pub(in crate::volume) fn begin(
        backing: &B,
        (file, length): (B::File, u64),
        key: JournalKey,
        (volume, epoch, previous): (VolumeId, u64, u64),
        generation: u64,
    ) -> io::Result<Self> {
        let journal = Self {
            file,
            key,
            volume,
            epoch,
            previous,
            length,
            ring: Mutex::new(Ring {
                head: RING_AT,
                page: Box::new([0; PAGE]),
                next: 1,
                tail: RING_AT,
                written: RING_AT,
                generation,
                written_to: RING_AT,
                reserved: 0,
            }),
            syncing: Mutex::new(Syncing {
                synced: 0,
                head: RING_AT,
                running: false,
                failed: false,
            }),
            done: Condvar::new(),
            syncs: AtomicU64::new(0),
        };
        // Both places, so that none of an older epoch stays; the older one first.
        for _ in 0..2 {
            journal.write_header(backing, &mut journal.ring.lock(), RING_AT, 1)?;
        }
        backing.sync_file(&journal.file, true)?;
        Ok(journal)
    }

    fn write_header(
        &self,
        backing: &B,
        ring: &mut Ring,
        tail: u64,
        sequence: u64,
    ) -> io::Result<()> {
        let header = JournalHeader {
            volume: self.volume,
            epoch: self.epoch,
            generation: ring.generation + 1,
            tail,
            sequence,
            length: self.length,
            previous: self.previous,
        };
        let bytes = header.seal(&self.key);
        backing.write_at(&self.file, &mut [IoSlice::new(&bytes)], header.place())?;
        ring.generation += 1;
        ring.written = tail;
        Ok(())
    }

    /// Bytes of the ring.
    pub(in crate::volume) fn capacity(&self) -> u64 {
        self.length - RING_AT
    }

    /// The most plaintext that one record takes.
    pub(in crate::volume) fn piece(&self) -> usize {
        let piece = (self.capacity() / 8).min(1 << 20) as usize;
        (piece / PAGE).max(1) * PAGE
    }

    fn used(&self, ring: &Ring) -> u64 {
        (ring.head + self.capacity() - ring.tail) % self.capacity()
    }

    /// Bytes of the ring in use.
    pub(in crate::volume) fn in_use(&self) -> u64 {
        self.used(&self.ring.lock())
    }

    /// Whether so much of the ring is in use that it should be written back.
    pub(in crate::volume) fn is_filling(&self) -> bool {
        self.used(&self.ring.lock()) > self.capacity() / 4
    }

    /// Room for records of `bytes` in all, if there is.
    pub(in crate::volume) fn reserve(&self, bytes: u64) -> Option<Room<'_, B>> {
        let mut ring = self.ring.lock();
        // What is lost where the ring wraps, the small records that nobody reserves for, and the rest of
        // the last page.
        let slack = 2 * self.piece() as u64 + PAGE as u64;
        let taken = self.used(&ring) + ring.reserved + bytes + slack;
        if taken >= self.capacity() {
            return None;
        }
        ring.reserved += bytes;
        Some(Room {
            journal: self,
            bytes,
        })
    }

    /// Appends a record: written, not durable yet.
    ///
    /// # Errors
    /// `ENOSPC` when the ring is full; what the cipher directory says. Nothing is appended then.
    pub(in crate::volume) fn append(
        &self,
        backing: &B,
        record: RecordBuilder,
    ) -> io::Result<Appended> {
        let mut ring = self.ring.lock();
        let len = record.sealed_len() as u64;
        // Never up to the tail, nor to the very end: a ring whose ends meet is empty.
        let at = if ring.head < ring.tail {
            (page_end(ring.head + len) < ring.tail).then_some(ring.head)
        } else if ring.head + len < self.length {
            Some(ring.head)
        } else {
            (page_end(RING_AT + len) < ring.tail).then_some(RING_AT)
        };
        let at = at.ok_or_else(|| io::Error::from_raw_os_error(libc::ENOSPC))?;
        let sequence = ring.next;
        let buffer = record.seal(&self.key, self.epoch, sequence);
        // Under the lock: a record is whole before the next one is begun, so that a killed process
        // leaves no gap before what another thread acknowledged.
        self.write_pages(backing, &ring, at, &buffer)
            .inspect_err(|_| {
                // It may be there all the same, and must not be replayed.
                let zeros = [0; RECORD_HEAD];
                let _ = backing.write_at(&self.file, &mut [IoSlice::new(&zeros)], at);
            })?;
        if at < ring.head {
            ring.written_to = self.length;
        }
        ring.advance(at, &buffer);
        Ok(Appended {
            at,
            sequence,
            buffer,
        })
    }

    /// Writes a record with what stands before it in its first page, and zeros behind it in its last.
    /// Of a page that is only written in part and isn't in memory, the kernel would have to read the
    /// rest first, behind all that the disk has to do for a write-back.
    fn write_pages(&self, backing: &B, ring: &Ring, at: u64, record: &[u8]) -> io::Result<()> {
        const ZEROS: [u8; PAGE] = [0; PAGE];
        let end = at + record.len() as u64;
        let (before, after) = (at % PAGE as u64, page_end(end).min(self.length) - end);
        let mut pages = [
            IoSlice::new(&ring.page[..before as usize]),
            IoSlice::new(record),
            IoSlice::new(&ZEROS[..after as usize]),
        ];
        backing.write_at(&self.file, &mut pages, at - before)
    }

    /// Reads bytes that were appended.
    pub(in crate::volume) fn read(&self, backing: &B, at: u64, out: &mut [u8]) -> io::Result<()> {
        let len = out.len();
        let read = backing.read_at(&self.file, &mut [IoSliceMut::new(out)], at)?;
        if read < len {
            return Err(io::Error::from_raw_os_error(libc::EIO));
        }
        Ok(())
    }

    /// Has the disk begin with the records that were appended since the last sync.
    pub(in crate::volume) fn start_sync(&self, backing: &B) {
        backing.start_sync(&self.file);
    }

    /// The number of the last record.
    pub(in crate::volume) fn last(&self) -> u64 {
        self.ring.lock().next - 1
    }

    /// Where the ring's head is, and the next record's number: a tail to move to later.
    pub(in crate::volume) fn position(&self) -> (u64, u64) {
        let ring = self.ring.lock();
        (ring.head, ring.next)
    }

    /// How many times the journal was synced.
    pub(in crate::volume) fn syncs(&self) -> u64 {
        self.syncs.load(Ordering::Relaxed)
    }

    /// Makes all records up to number `want` durable. Those who come while a sync is running share
    /// the next one.
    pub(in crate::volume) fn sync(&self, backing: &B, want: u64) -> io::Result<()> {
        self.sync_until(backing, |synced| synced >= want)
    }

    /// Syncs the journal, unless all is done as soon as no other sync is running; `done` is asked
    /// with the number of the last durable record.
    fn sync_until(&self, backing: &B, done: impl Fn(u64) -> bool) -> io::Result<()> {
        let mut state = self.syncing.lock();
        loop {
            if done(state.synced) {
                return Ok(());
            }
            if !state.running {
                break;
            }
            self.done.wait(&mut state);
        }
        state.running = true;
        let again = state.failed.then_some(state.head);
        drop(state);
        let (last, head, tail) = {
            let mut ring = self.ring.lock();
            self.write_ahead(backing, &mut ring);
            (ring.next - 1, ring.head, ring.written)
        };
        // After a failed sync the kernel may take pages for clean that never reached the disk.
        let result = again
            .map_or(Ok(()), |from| self.write_again(backing, from, head))
            .and_then(|()| backing.sync_file(&self.file, true));
        self.syncs.fetch_add(1, Ordering::Relaxed);
        if result.is_ok() {
            self.ring.lock().tail = tail;
        }
        let mut state = self.syncing.lock();
        state.running = false;
        state.failed = result.is_err();
        if result.is_ok() {
            state.synced = state.synced.max(last);
            state.head = head;
        }
        self.done.notify_all();
        result
    }

    /// Writes zeros where the next records go, for the sync at hand to make durable.
    ///
    /// Space that is only reserved costs a commit of the filesystem's own journal with each sync that
    /// first writes there. So whoever syncs the first pass over the ring pays for many in one go.
    fn write_ahead(&self, backing: &B, ring: &mut Ring) {
        let from = ring.written_to.max(page_end(ring.head));
        if from >= self.length || from - ring.head > AHEAD / 2 || !backing.writes_in_place() {
            return;
        }
        let to = self.length.min(from + AHEAD);
        let zeros = vec![0; (to - from) as usize];
        // Only for speed.
        let _ = backing.write_at(&self.file, &mut [IoSlice::new(&zeros)], from);
        ring.written_to = to;
    }

    /// Writes what is between two places of the ring, and the headers, once more.
    fn write_again(&self, backing: &B, from: u64, to: u64) -> io::Result<()> {
        let pieces = if from <= to {
            [(0, RING_AT), (from, to), (0, 0)]
        } else {
            [(0, RING_AT), (from, self.length), (RING_AT, to)]
        };
        let mut buffer = vec![0; 1 << 20];
        // Nobody appends meanwhile: what is read must not be older than what is there.
        let _ring = self.ring.lock();
        for (mut from, to) in pieces {
            while from < to {
                let len = buffer.len().min((to - from) as usize);
                self.read(backing, from, &mut buffer[..len])?;
                backing.write_at(&self.file, &mut [IoSlice::new(&buffer[..len])], from)?;
                from += len as u64;
            }
        }
        Ok(())
    }

    /// Frees everything before a place: what is there has come home.
    pub(in crate::volume) fn free(
        &self,
        backing: &B,
        (tail, sequence): (u64, u64),
    ) -> io::Result<()> {
        {
            let mut ring = self.ring.lock();
            if ring.written != tail {
                self.write_header(backing, &mut ring, tail, sequence)?;
            }
        }
        // The space is free when the new tail is durable; any sync makes it so.
        self.sync_until(backing, |_| self.ring.lock().tail == tail)
    }
}
