//! What each request means, in terms of `volume`; the same for every transport.
//!
//! A transport decodes requests, calls one function here for each, and encodes what it gives.
//! Reading and writing happen in the transport's own buffers.

mod attributes;
mod files;
mod names;
mod room;
mod xattrs;

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use super::control::{self, Control};
use super::errno::Errno;
use super::options::{MountOptions, Overrides, SHORT_LIFETIME};
use super::panics::contain;
use crate::volume::{Attr, Backing, Caller, HandleId, Kind, Volume};

/// The longest name that a directory takes, in bytes.
pub(super) const LONGEST_NAME: u32 = 255;

pub(super) use files::Opened;
pub(super) use xattrs::XattrAnswer;

/// The greatest offset that a system call can name.
const GREATEST_OFFSET: u64 = i64::MAX as u64;

/// Whether a mount is in use.
#[derive(Default)]
pub(super) struct Activity {
    touched: AtomicBool,
    open: Mutex<HashSet<u64, foldhash::fast::RandomState>>,
    #[cfg(test)]
    requests: Mutex<std::collections::HashMap<&'static str, usize>>,
}

impl Activity {
    fn touch(&self) {
        // Read first: threads that only read share the cache line.
        if !self.touched.load(Ordering::Relaxed) {
            self.touched.store(true, Ordering::Relaxed);
        }
    }

    /// Whether there was a request since this was last asked.
    pub(super) fn take_touched(&self) -> bool {
        self.touched.swap(false, Ordering::Relaxed)
    }

    #[cfg(test)]
    fn count(&self, operation: &'static str) {
        *self.requests.lock().entry(operation).or_default() += 1;
    }

    /// How many requests of a kind there were.
    #[cfg(test)]
    pub(super) fn requests(&self, operation: &str) -> usize {
        self.requests.lock().get(operation).copied().unwrap_or(0)
    }

    /// Whether a file is open.
    pub(super) fn any_open(&self) -> bool {
        !self.open.lock().is_empty()
    }
}

/// The operations on one mounted volume.
pub(super) struct Ops<B: Backing> {
    volume: Arc<Volume<B>>,
    overrides: Overrides,
    shared: bool,
    xattrs: bool,
    /// The kernel has no SELinux at work.
    unlabelled: bool,
    lifetime: Duration,
    activity: Arc<Activity>,
    removals: room::Removals,
    control: Option<Arc<dyn Control>>,
}

impl<B: Backing> Ops<B> {
    pub(super) fn new(
        volume: Arc<Volume<B>>,
        options: &MountOptions,
        activity: Arc<Activity>,
        control: Option<Arc<dyn Control>>,
    ) -> Self {
        Self {
            volume,
            overrides: Overrides::new(options),
            shared: options.shared,
            xattrs: options.xattrs,
            unlabelled: !xattrs::has_selinux(),
            lifetime: options.lifetime(),
            activity,
            removals: room::Removals::default(),
            control,
        }
    }

    /// How long the kernel may remember a name or attributes.
    pub(super) fn lifetime(&self) -> Duration {
        self.lifetime
    }

    /// How long it may remember the attributes that it asked for.
    pub(super) fn lifetime_of(&self, attr: &Attr) -> Duration {
        if attr.kind == Kind::File && self.volume.is_settling(attr.ino) {
            self.lifetime.min(SHORT_LIFETIME)
        } else {
            self.lifetime
        }
    }

    /// Whether the kernel may remember that a name is not there, and what a directory lists.
    pub(super) fn remembers(&self) -> bool {
        !self.shared
    }

    fn run<T>(
        &self,
        operation: &'static str,
        body: impl FnOnce() -> Result<T, Errno>,
    ) -> Result<T, Errno> {
        self.activity.touch();
        #[cfg(test)]
        self.activity.count(operation);
        contain(operation, body)
    }

    /// As [`Self::run`], for what takes up room below. `body` may run several times.
    fn run_in_room<T>(
        &self,
        operation: &'static str,
        body: impl FnMut() -> Result<T, Errno>,
    ) -> Result<T, Errno> {
        self.run(operation, || self.removals.retry(body))
    }

    fn shown(&self, attr: Attr) -> Attr {
        self.overrides.apply(attr)
    }

    /// Gives up what the kernel still holds: answers to an unmount overtake the RELEASE of a file
    /// that was closed just before.
    pub(super) fn finish(&self) {
        let open: Vec<u64> = self.activity.open.lock().drain().collect();
        for handle in open {
            let _ = contain("release", || Ok(self.volume.release(HandleId(handle))?));
        }
    }

    /// A control call, or ENOTTY for any other ioctl. The caller takes up to `room` bytes.
    pub(super) fn ioctl(
        &self,
        caller: &Caller,
        command: u32,
        input: &[u8],
        room: u32,
    ) -> Result<Vec<u8>, Errno> {
        // Whoever watches the status of a mount must not keep it from being idle.
        contain("ioctl", || {
            let answer = control::answer(self.control.as_deref(), caller.uid, command, input)?;
            if answer.len() > room as usize {
                return Err(Errno::INVAL);
            }
            Ok(answer)
        })
    }
}
