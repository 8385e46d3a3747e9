//! A mount from its beginning to its end.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use rustix::fs::Mode;
use tracing::{debug, error, info, warn};

use super::control::Control;
use super::error::FuseError;
use super::mountpoint::{self, Device, Unmount};
use super::ops::{Activity, Ops};
use super::options::{MountOptions, READ_AHEAD};
use super::transport::{self, Connected, EndSignal, Invalidate, Way};
use super::{device, panics};
use crate::volume::{Backing, Volume};

/// How often a mount is looked after, at the most and at the least.
const SHORTEST_STEP: Duration = Duration::from_millis(10);
const LONGEST_STEP: Duration = Duration::from_secs(10);

/// How long the end of a connection that was never used is waited for.
const PATIENCE: Duration = Duration::from_secs(10);

/// Whether the filesystem object is gone, which is after the last answer.
#[derive(Default)]
struct End {
    over: Mutex<bool>,
    changed: Condvar,
}

impl End {
    fn set(&self) {
        *self.over.lock() = true;
        self.changed.notify_all();
    }

    fn is_set(&self) -> bool {
        *self.over.lock()
    }

    fn wait(&self) {
        let mut over = self.over.lock();
        while !*over {
            self.changed.wait(&mut over);
        }
    }

    /// Whether it came within `time`.
    fn wait_for(&self, time: Duration) -> bool {
        let deadline = Instant::now() + time;
        let mut over = self.over.lock();
        while !*over {
            if self.changed.wait_until(&mut over, deadline).timed_out() {
                break;
            }
        }
        *over
    }
}

/// A mounted volume. Dropping it unmounts (lazily, when it is in use).
pub struct Mount {
    unmounter: Unmounter,
    session: Option<JoinHandle<Result<(), FuseError>>>,
    keeper: Option<JoinHandle<()>>,
    #[cfg(test)]
    activity: Arc<Activity>,
}

/// Unmounts a [`Mount`], from any thread.
#[derive(Clone)]
pub struct Unmounter {
    point: Arc<Path>,
    device: Device,
    end: Arc<End>,
}

impl Mount {
    /// Mounts a volume; when this returns, the mount answers.
    ///
    /// A mount of this program whose server is gone is cleared away from the mount point first.
    ///
    /// # Errors
    /// Why it can't be mounted; then nothing is.
    pub fn start<B: Backing>(
        volume: Arc<Volume<B>>,
        mountpoint: &Path,
        options: &MountOptions,
        control: Option<Arc<dyn Control>>,
    ) -> Result<Self, FuseError> {
        panics::watch();
        // Modes come with the caller's umask beside them; this process has no say in them.
        rustix::process::umask(Mode::empty());
        let point = prepare(mountpoint, options)?;
        // Not by a thread that answers requests: it may have given up its share of the processors.
        volume.start_background();
        let ways =
            transport::ways(options.transport).map_err(|reason| FuseError::NoRings { reason })?;
        let Begun {
            connected,
            undo,
            activity,
            end,
        } = begin(ways, &volume, &point, options, control.as_ref())?;
        let failed = |source| FuseError::Session { source };
        drop_pages_when_cut_off(&volume, &connected.invalidate);

        let device = mountpoint::device(&point).map_err(failed)?;
        read_further_ahead(device);
        let unmounter = Unmounter {
            point: point.clone().into(),
            device,
            end,
        };
        let guard = unmounter.clone();
        let session = thread::Builder::new()
            .name("fuse-session".to_owned())
            .spawn(move || serve(connected, &guard))
            .map_err(failed)?;
        #[cfg(test)]
        let requests = Arc::clone(&activity);
        let keeper = Keeper {
            volume,
            unmounter: unmounter.clone(),
            activity,
            idle: options.idle,
        };
        let keeper = thread::Builder::new()
            .name("fuse-keeper".to_owned())
            .spawn(move || keeper.run())
            .map_err(failed)?;
        undo.forget();
        info!(mountpoint = %point.display(), "mounted");
        Ok(Self {
            unmounter,
            session: Some(session),
            keeper: Some(keeper),
            #[cfg(test)]
            activity: requests,
        })
    }

    /// Waits until it is unmounted, by whomever, and the last request is answered: then nothing
    /// here holds the volume any more.
    ///
    /// # Errors
    /// When the session ended in another way than by an unmount.
    pub fn wait(mut self) -> Result<(), FuseError> {
        self.join()
    }

    /// What unmounts it.
    pub fn unmounter(&self) -> Unmounter {
        self.unmounter.clone()
    }

    /// Where it is mounted: absolute, without symlinks.
    pub fn mountpoint(&self) -> &Path {
        &self.unmounter.point
    }

    /// How many requests of a kind were answered.
    #[cfg(test)]
    pub(super) fn requests(&self, operation: &str) -> usize {
        self.activity.requests(operation)
    }

    fn join(&mut self) -> Result<(), FuseError> {
        let session = self.session.take().map(JoinHandle::join);
        let _ = self.keeper.take().map(JoinHandle::join);
        match session {
            None => Ok(()),
            Some(Ok(result)) => result,
            Some(Err(_)) => Err(FuseError::Session {
                source: io::Error::other("its thread ended by a panic"),
            }),
        }
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        if self.session.is_none() {
            return;
        }
        match self.unmounter.unmount(Unmount::IfIdle) {
            Ok(()) => {
                let _ = self.join();
            }
            Err(first) => {
                warn!("unmounting lazily: {first}");
                if let Err(error) = self.unmounter.unmount(Unmount::Lazily) {
                    error!("{error}");
                }
            }
        }
    }
}

impl Unmounter {
    /// Unmounts. [`Mount::wait`] returns once the last user is gone and all is answered.
    ///
    /// # Errors
    /// [`FuseError::Busy`] when it is in use and this is not to be lazy; [`FuseError::Covered`];
    /// what the system says. None when it is unmounted already.
    pub fn unmount(&self, how: Unmount) -> Result<(), FuseError> {
        match mountpoint::device(&self.point) {
            Ok(device) if device == self.device => mountpoint::unmount(&self.point, how),
            _ if self.end.is_set() => Ok(()),
            Ok(_) if !self.is_attached() => Ok(()),
            Ok(_) => Err(FuseError::Covered {
                path: self.point.to_path_buf(),
            }),
            Err(source) => Err(FuseError::MountPoint {
                path: self.point.to_path_buf(),
                source,
            }),
        }
    }

    /// Whether the mount table has it, perhaps below another mount.
    fn is_attached(&self) -> bool {
        mountpoint::has_device(self.device)
    }
}

/// Finds the mount point, and clears it of a dead mount of ours.
fn prepare(mountpoint: &Path, options: &MountOptions) -> Result<PathBuf, FuseError> {
    let point = mountpoint::resolve(mountpoint)?;
    let cleared = mountpoint::clear_stale(&point, |entry| match options.effective_subtype() {
        Some(subtype) => entry.fs_type.strip_prefix("fuse.") == Some(subtype),
        None => entry.fs_type == "fuse" && mountpoint::same(&entry.source, device::source(options)),
    })?;
    if cleared {
        warn!(mountpoint = %point.display(), "cleared away a mount whose server was gone");
    }
    let at = |source| FuseError::MountPoint {
        path: point.clone(),
        source,
    };
    if std::fs::metadata(&point).map_err(at)?.is_dir() {
        Ok(point)
    } else {
        Err(FuseError::NotDirectory { path: point })
    }
}

/// A mount that answers, and that an error from here on has to take away again.
struct Begun<'a> {
    connected: Connected,
    undo: Undo<'a>,
    activity: Arc<Activity>,
    end: Arc<End>,
}

/// Mounts and comes to terms with the kernel, in the first of `ways` that there is.
fn begin<'a, B: Backing>(
    ways: &[Way],
    volume: &Arc<Volume<B>>,
    point: &'a Path,
    options: &MountOptions,
    control: Option<&Arc<dyn Control>>,
) -> Result<Begun<'a>, FuseError> {
    let mut last = io::Error::from(io::ErrorKind::Unsupported);
    for way in ways {
        let connection = device::mount(point, options)?;
        let undo = Undo(Some(point));
        let activity = Arc::new(Activity::default());
        let end = Arc::new(End::default());
        let seen = Arc::clone(&activity);
        let ops = Ops::new(Arc::clone(volume), options, seen, control.cloned());
        let signal = Arc::clone(&end);
        let signal = EndSignal(Box::new(move || signal.set()));
        match transport::connect(*way, connection, ops, signal, options) {
            Ok(connected) => {
                debug!(?way, "mounted");
                return Ok(Begun {
                    connected,
                    undo,
                    activity,
                    end,
                });
            }
            Err(error) => {
                debug!(?way, %error, "no connection to the kernel this way");
                last = error;
            }
        }
        drop(undo);
        // What was begun holds the volume until it has seen the end.
        end.wait_for(PATIENCE);
    }
    Err(FuseError::Session { source: last })
}

/// Unmounts unless told to forget.
struct Undo<'a>(Option<&'a Path>);

impl Undo<'_> {
    fn forget(mut self) {
        self.0 = None;
    }
}

impl Drop for Undo<'_> {
    fn drop(&mut self) {
        if let Some(point) = self.0
            && let Err(error) = mountpoint::unmount(point, Unmount::Lazily)
        {
            error!("{error}");
        }
    }
}

/// Pages that the kernel keeps of a file would be read on when the file is cut off from its key.
fn drop_pages_when_cut_off<B: Backing>(volume: &Volume<B>, invalidate: &Arc<Invalidate>) {
    let invalidate = Arc::downgrade(invalidate);
    volume.on_cut_off(Box::new(move |nodes| {
        let Some(invalidate) = invalidate.upgrade() else {
            return;
        };
        for node in nodes {
            invalidate(*node);
        }
    }));
}

/// The kernel allows 128 KiB at most in a session's own terms; the rest is a setting of the mount.
/// Only root may, and a container may have no such files.
fn read_further_ahead((major, minor): Device) {
    let setting = format!("/sys/class/bdi/{major}:{minor}/read_ahead_kb");
    if let Err(error) = std::fs::write(&setting, (READ_AHEAD / 1024).to_string()) {
        debug!(setting, %error, "reading ahead as far as the kernel does by itself");
    }
}

fn serve(connected: Connected, unmounter: &Unmounter) -> Result<(), FuseError> {
    let Connected { run, invalidate } = connected;
    let result = run();
    if let Err(error) = &result
        && !unmounter.end.is_set()
    {
        // `fuser` gives up waiting when one of its threads fails; the others still serve.
        error!(%error, "a thread of the mount ended early; the mount goes on with the others");
    }
    unmounter.end.wait();
    drop(invalidate);
    // The connection can end without an unmount (its last thread failed, or somebody aborted it);
    // then the mount point would stay there, dead.
    if mountpoint::device(&unmounter.point).is_ok_and(|device| device == unmounter.device) {
        warn!(mountpoint = %unmounter.point.display(), "the connection ended while mounted");
        if let Err(error) = unmounter.unmount(Unmount::Lazily) {
            error!("{error}");
        }
    }
    info!(mountpoint = %unmounter.point.display(), "unmounted");
    result.map_err(|source| FuseError::Session { source })
}

/// What has to be done from time to time while a mount serves.
struct Keeper<B: Backing> {
    volume: Arc<Volume<B>>,
    unmounter: Unmounter,
    activity: Arc<Activity>,
    idle: Option<Duration>,
}

impl<B: Backing> Keeper<B> {
    /// Until the end of the mount.
    fn run(&self) {
        thread::scope(|scope| self.run_in(scope));
    }

    fn run_in<'scope>(&'scope self, scope: &'scope thread::Scope<'scope, '_>) {
        let mut renewal: Option<thread::ScopedJoinHandle<'scope, ()>> = None;
        let housekeeping = (self.volume.key_ttl() / 3).max(SHORTEST_STEP);
        let step = self.idle.map_or(LONGEST_STEP, |idle| idle / 8);
        let step = step.min(housekeeping).clamp(SHORTEST_STEP, LONGEST_STEP);
        let (mut in_use, mut kept) = (Instant::now(), Instant::now());
        while !self.unmounter.end.wait_for(step) {
            if kept.elapsed() >= housekeeping {
                kept = Instant::now();
                let _ = panics::contain("housekeeping", || {
                    self.volume.housekeeping();
                    Ok(())
                });
                // That may take hours.
                if renewal
                    .as_ref()
                    .is_none_or(thread::ScopedJoinHandle::is_finished)
                {
                    let named = thread::Builder::new().name("key-renewal".to_owned());
                    renewal = named.spawn_scoped(scope, || self.renew()).ok();
                }
            }
            let used = self.activity.take_touched() || self.activity.any_open();
            let due = self.idle.is_some_and(|idle| in_use.elapsed() >= idle);
            if used || (due && !self.unmount()) {
                in_use = Instant::now();
            }
        }
    }

    /// Data keys that have sealed nearly as much as they may.
    fn renew(&self) {
        let _ = panics::contain("renewing data keys", || {
            self.volume.renew_worn(&|| !self.unmounter.end.is_set());
            Ok(())
        });
    }

    /// There was no request and no open file for long enough. Whether a process has its working
    /// directory here only the kernel knows: it refuses then, and that is use too. False then.
    fn unmount(&self) -> bool {
        match self.unmounter.unmount(Unmount::IfIdle) {
            Ok(()) => {
                info!(mountpoint = %self.unmounter.point.display(), "unmounted when idle");
                true
            }
            Err(error) => {
                debug!("idle, but not unmounted: {error}");
                false
            }
        }
    }
}
