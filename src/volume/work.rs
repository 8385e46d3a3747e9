//! The work of a walk, shared by several threads.

use parking_lot::{Condvar, Mutex};

use super::error::{Result, VolumeError};

/// Limited pieces that wait for a thread, for each thread: bounds the memory of a walk over a
/// directory of any size.
const WAITING: usize = 4;

/// The work that is known and not begun, the newest first: so a walk goes deep before it goes
/// wide, and little waits.
pub(super) struct Queue<W> {
    state: Mutex<State<W>>,
    changed: Condvar,
    limited_most: usize,
}

struct State<W> {
    /// The pieces, and which are limited.
    waiting: Vec<(W, bool)>,
    limited: usize,
    /// Threads that may still add work.
    busy: usize,
    failed: Option<VolumeError>,
}

impl<W: Send> Queue<W> {
    /// Does the work that `begin` adds, and all that comes of it, on several threads.
    ///
    /// # Errors
    /// The first of `begin` or `each`, which ends it.
    pub(super) fn run(
        threads: usize,
        begin: impl FnOnce(&Self) -> Result<()>,
        each: &(dyn Fn(W, &Self) -> Result<()> + Sync),
    ) -> Result<()> {
        let queue = Self {
            state: Mutex::new(State {
                waiting: Vec::new(),
                limited: 0,
                busy: 1,
                failed: None,
            }),
            changed: Condvar::new(),
            limited_most: if threads > 1 { threads * WAITING } else { 0 },
        };
        let worker = || {
            while let Some(work) = queue.take() {
                let mut busy = Busy::new(&queue);
                busy.result = each(work, &queue);
            }
        };
        std::thread::scope(|scope| {
            for _ in 1..threads {
                scope.spawn(worker);
            }
            let mut busy = Busy::new(&queue);
            busy.result = begin(&queue);
            drop(busy);
            worker();
        });
        queue.state.into_inner().failed.map_or(Ok(()), Err)
    }

    pub(super) fn add(&self, work: W) {
        self.state.lock().waiting.push((work, false));
        self.changed.notify_one();
    }

    /// Adds a piece unless enough that were offered wait: then it is given back, to be done here.
    pub(super) fn offer(&self, work: W) -> Option<W> {
        let mut state = self.state.lock();
        if state.limited >= self.limited_most {
            return Some(work);
        }
        state.limited += 1;
        state.waiting.push((work, true));
        drop(state);
        self.changed.notify_one();
        None
    }

    /// The next piece of work; None when there is none and will be none.
    fn take(&self) -> Option<W> {
        let mut state = self.state.lock();
        loop {
            if state.failed.is_some() {
                return None;
            }
            if let Some((work, limited)) = state.waiting.pop() {
                state.limited -= usize::from(limited);
                state.busy += 1;
                return Some(work);
            }
            if state.busy == 0 {
                return None;
            }
            self.changed.wait(&mut state);
        }
    }
}

impl<W> Queue<W> {
    fn done(&self, result: Result<()>) {
        let mut state = self.state.lock();
        state.busy -= 1;
        if let Err(error) = result {
            state.failed.get_or_insert(error);
        }
        if state.failed.is_some() || (state.busy == 0 && state.waiting.is_empty()) {
            drop(state);
            self.changed.notify_all();
        }
    }
}

/// A piece of work under way. Dropped by a panic in it too, or the other threads would wait for its
/// end for ever.
struct Busy<'a, W> {
    queue: &'a Queue<W>,
    result: Result<()>,
}

impl<'a, W> Busy<'a, W> {
    fn new(queue: &'a Queue<W>) -> Self {
        Self {
            queue,
            result: Ok(()),
        }
    }
}

impl<W> Drop for Busy<'_, W> {
    fn drop(&mut self) {
        let result = std::mem::replace(&mut self.result, Ok(()));
        self.queue.done(result);
    }
}
