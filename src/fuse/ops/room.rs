//! Room that a removed file holds for a moment longer.
//!
//! close(2) doesn't wait for the kernel's RELEASE to be served: what is removed and written right
//! after it may be served first, or beside it, while the descriptor here still holds the removed
//! file's blocks. So "no space" just after a removal isn't the last word.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::Errno;

/// How long after a removal room may still come from it.
const RECENT: Duration = Duration::from_secs(1);
/// How long one request waits for it.
const PATIENCE: Duration = Duration::from_millis(200);
const PAUSE: Duration = Duration::from_millis(2);

/// When a name was removed last.
#[derive(Default)]
pub(super) struct Removals(Mutex<Option<Instant>>);

impl Removals {
    pub(super) fn note(&self) {
        *self.0.lock() = Some(Instant::now());
    }

    fn any_recent(&self) -> bool {
        self.0.lock().is_some_and(|last| last.elapsed() < RECENT)
    }

    /// Runs `body`; again, while there is no room for it and some may be on its way.
    pub(super) fn retry<T>(&self, mut body: impl FnMut() -> Result<T, Errno>) -> Result<T, Errno> {
        let mut result = body();
        let mut since = None;
        while let Err(Errno::NOSPC | Errno::DQUOT) = result
            && self.any_recent()
            && since.get_or_insert_with(Instant::now).elapsed() < PATIENCE
        {
            std::thread::sleep(PAUSE);
            result = body();
        }
        result
    }
}

#[cfg(test)]
mod tests;
