//! A thread that works on one request for long gets its full share of the processors back.
//!
//! Threads answer small requests as `SCHED_IDLE` ones (see `handover`). Most requests are over in
//! microseconds; but nobody knows beforehand how long it takes to remove a file, say, and beside
//! others that are at work on its processor such a thread gets one part in 300. So one thread of the
//! usual kind looks now and then whether all go on, and sleeps when there is nothing to do.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use tracing::debug;

use super::handover::OwnPolicy;

/// How often it looks while requests come: a request is held up for at most twice as long.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// It sleeps after so many looks in which nothing was asked.
const QUIET_LOOKS: u32 = 50;

/// What the threads of a mount and the one that looks after them share.
pub(super) struct Watch {
    own: OwnPolicy,
    threads: Mutex<Vec<Arc<Watched>>>,
    /// It sleeps until somebody works.
    rests: AtomicBool,
    wake: Condvar,
}

/// One thread, as the others see it.
struct Watched {
    /// Its number, as gettid(2) gives it.
    thread: i32,
    /// Counts up when it begins a request as a `SCHED_IDLE` one, and when it is done: odd while it
    /// is at work.
    work: AtomicU64,
    /// It got its share back, and doesn't know yet.
    raised: AtomicBool,
}

/// A thread's own end of it.
pub(super) struct Guarded {
    watch: Arc<Watch>,
    me: Arc<Watched>,
}

impl Watch {
    pub(super) fn new(own: OwnPolicy) -> Arc<Self> {
        Arc::new(Self {
            own,
            threads: Mutex::default(),
            rests: AtomicBool::new(false),
            wake: Condvar::new(),
        })
    }

    /// Has the calling thread looked after, until what this gives is dropped.
    pub(super) fn join(self: &Arc<Self>) -> Guarded {
        let me = Arc::new(Watched {
            thread: rustix::thread::gettid().as_raw_pid(),
            work: AtomicU64::new(0),
            raised: AtomicBool::new(false),
        });
        self.threads.lock().push(Arc::clone(&me));
        let watch = Arc::clone(self);
        Guarded { watch, me }
    }

    /// Looks, until nobody is left to look after.
    pub(super) fn run(&self) {
        // What each thread was at in the look before.
        let mut before: Vec<(i32, u64)> = Vec::new();
        let mut quiet = 0;
        let mut threads = self.threads.lock();
        while !threads.is_empty() {
            let now: Vec<_> = threads
                .iter()
                .map(|of| (of.thread, of.work.load(Ordering::SeqCst)))
                .collect();
            for (watched, seen) in threads.iter().zip(&now) {
                if at_work(seen.1) && before.contains(seen) {
                    watched.raise(self.own);
                }
            }
            quiet = if now == before { quiet + 1 } else { 0 };
            before = now;
            if quiet < QUIET_LOOKS {
                self.wake.wait_for(&mut threads, LOOK_EVERY);
                continue;
            }
            // First this, then a last look: who begins looks the other way round.
            self.rests.store(true, Ordering::SeqCst);
            let count = |of: &Arc<Watched>| of.work.load(Ordering::SeqCst);
            if threads.iter().map(count).eq(before.iter().map(|of| of.1)) {
                self.wake.wait(&mut threads);
            }
            self.rests.store(false, Ordering::SeqCst);
            quiet = 0;
        }
    }
}

impl Watched {
    fn raise(&self, own: OwnPolicy) {
        if self.raised.load(Ordering::SeqCst) {
            return;
        }
        debug!(thread = self.thread, "a request takes long");
        own.restore(self.thread);
        self.raised.store(true, Ordering::SeqCst);
    }
}

impl Guarded {
    /// The thread, a `SCHED_IDLE` one, begins a request.
    pub(super) fn begin(&self) {
        self.count();
        if self.watch.rests.load(Ordering::SeqCst) {
            // Under its lock: it sleeps by then, or has not looked yet.
            drop(self.watch.threads.lock());
            self.watch.wake.notify_all();
        }
    }

    /// It is done; whether it got its share back meanwhile.
    pub(super) fn end(&self) -> bool {
        self.count();
        self.me.raised.load(Ordering::Relaxed) && self.me.raised.swap(false, Ordering::SeqCst)
    }

    fn count(&self) {
        // Nobody else counts here.
        let work = self.me.work.load(Ordering::Relaxed);
        self.me.work.store(work.wrapping_add(1), Ordering::SeqCst);
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        self.watch
            .threads
            .lock()
            .retain(|of| !Arc::ptr_eq(of, &self.me));
        self.watch.wake.notify_all();
    }
}

fn at_work(count: u64) -> bool {
    count % 2 == 1
}

#[cfg(test)]
mod tests;
