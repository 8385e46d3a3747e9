//! The modification time of a file's contents, which two kinds of writers move: users, and those who
//! bring home what users wrote before or change what is none of the users' affair.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;

/// Who sets the time of one open file, and when.
///
/// A write below moves it, so whoever makes one that isn't a user's puts back what it was, under the
/// lock. A user doesn't wait for that: it notes that its own time is due, and whoever holds the lock
/// sets that instead.
#[derive(Default)]
pub(super) struct Stamps {
    lock: Mutex<()>,
    /// When a write that didn't go home set it last, in ticks of the coarse clock.
    last: AtomicU64,
    /// A user wrote, and the time is not set yet.
    due: AtomicBool,
}

impl Stamps {
    /// A user writes in tick `tick`: the time is set by `now`, here or by whoever holds it.
    ///
    /// # Errors
    /// Those of `now`.
    pub(super) fn touch<E>(&self, tick: u64, now: impl Fn() -> Result<(), E>) -> Result<(), E> {
        if self.last.load(Ordering::Acquire) == tick {
            return Ok(());
        }
        self.due.store(true, Ordering::SeqCst);
        self.catch_up(|| {
            now()?;
            self.last.store(tick, Ordering::Release);
            Ok(())
        })
    }

    /// Runs `write`, which moves the time, and then `restore`: told what `write` gave, it sets the
    /// time to what it was before; told None, to now, a user having written meanwhile.
    ///
    /// # Errors
    /// Those of the two; after one of `write` the time stays what that made it.
    pub(super) fn kept<T, E>(
        &self,
        write: impl FnOnce() -> Result<T, E>,
        restore: impl Fn(Option<&T>) -> Result<(), E>,
    ) -> Result<(), E> {
        let held = self.lock.lock();
        let written = write()?;
        let was = (!self.due.swap(false, Ordering::SeqCst)).then_some(&written);
        restore(was)?;
        drop(held);
        self.catch_up(|| restore(None))
    }

    /// A user sets the time by `set`: what is due is past.
    ///
    /// # Errors
    /// Those of the two.
    pub(super) fn set<E>(
        &self,
        set: impl FnOnce() -> Result<(), E>,
        now: impl Fn() -> Result<(), E>,
    ) -> Result<(), E> {
        let held = self.lock.lock();
        self.due.store(false, Ordering::SeqCst);
        self.last.store(0, Ordering::Release);
        set()?;
        drop(held);
        self.catch_up(now)
    }

    /// Sets what is due, unless somebody holds the lock, who does it then.
    fn catch_up<E>(&self, now: impl Fn() -> Result<(), E>) -> Result<(), E> {
        while self.due.load(Ordering::SeqCst)
            && let Some(_held) = self.lock.try_lock()
        {
            if self.due.swap(false, Ordering::SeqCst) {
                now()?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
