//! Records that wait to be written.
//!
//! Unpacking or reading a tree uses a key for each of thousands of files a second, and a record
//! that is written alone costs more than the use it tells of. Those of data keys wait up to
//! [`DEFERRAL`] and go to the file in one piece.

use std::mem;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

/// How long a record may wait: what a process that is killed may take with it.
pub(super) const DEFERRAL: Duration = Duration::from_millis(20);
/// How long between two attempts to write what could not be written.
const RETRY: Duration = Duration::from_secs(1);
/// The most bytes that wait. Who has one more to record writes them.
pub(super) const MOST: usize = 256 << 10;

/// Records one behind another, not yet sealed.
#[derive(Default)]
pub(super) struct Lines {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Lines {
    fn push(&mut self, line: &[u8]) {
        self.bytes.extend_from_slice(line);
        self.ends.push(self.bytes.len());
    }

    pub(super) fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts
            .zip(&self.ends)
            .map(|(start, end)| &self.bytes[start..*end])
    }
}

#[derive(Default)]
struct State {
    lines: Lines,
    /// What was written before, for its memory.
    spare: Lines,
    /// The last attempt to write some failed: none may be added until one succeeds.
    failed: bool,
    ended: bool,
}

/// The records of one process that wait.
#[derive(Default)]
pub(super) struct Waiting {
    state: Mutex<State>,
    changed: Condvar,
}

impl Waiting {
    /// Takes a record, if it may wait; whoever calls [`Waiting::wait`] writes it.
    pub(super) fn offer(&self, line: &[u8]) -> bool {
        let mut state = self.state.lock();
        if state.failed || state.lines.bytes.len() >= MOST {
            return false;
        }
        state.lines.push(line);
        if state.lines.ends.len() == 1 {
            self.changed.notify_one();
        }
        true
    }

    /// What waits, to be written; [`Waiting::written`] or [`Waiting::put_back`] follows.
    pub(super) fn take(&self) -> Lines {
        let mut state = self.state.lock();
        let spare = mem::take(&mut state.spare);
        mem::replace(&mut state.lines, spare)
    }

    /// What was taken is written.
    pub(super) fn written(&self, mut lines: Lines) {
        lines.bytes.clear();
        lines.ends.clear();
        let mut state = self.state.lock();
        state.failed = false;
        state.spare = lines;
    }

    /// What was taken could not be written: it comes before what was added since.
    pub(super) fn put_back(&self, mut lines: Lines) {
        let mut state = self.state.lock();
        for line in state.lines.iter() {
            lines.push(line);
        }
        state.lines = lines;
        state.failed = true;
    }

    /// Waits until something has waited for long enough; false when no more will come.
    pub(super) fn wait(&self) -> bool {
        let mut state = self.state.lock();
        while state.lines.is_empty() && !state.ended {
            self.changed.wait(&mut state);
        }
        if !state.ended {
            let patience = if state.failed { RETRY } else { DEFERRAL };
            // Cut short by the end alone: `offer` wakes for the first one only.
            self.changed.wait_for(&mut state, patience);
        }
        !state.ended
    }

    /// No record may wait any more.
    pub(super) fn end(&self) {
        self.state.lock().ended = true;
        self.changed.notify_all();
    }
}
