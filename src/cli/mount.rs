//! `mount`: starts the daemon, or is the daemon.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::args::MountArgs;
use super::auto_rewrap::AutoRewrap;
use super::control::Service;
use super::exit::{Exit, failure, usage};
use super::logging::{self, LogTarget};
use super::mount_opts::{KmsAddress, MountOptions};
use super::open::Opening;
use super::target;
use super::unlock::{self, KeystoreArgs};
use super::{daemon, helper, remount};
use crate::backing::Os;
use crate::fuse::mountpoint::{Unmount, is_stale};
use crate::fuse::{self, Control, FuseError, Mount, Unmounter};
use crate::serve::RemoteKeys;
use crate::volume::{JournalMode, Volume};

/// All that a mount needs to know, from the flags and the `-o` options together.
#[derive(Debug, PartialEq, Eq)]
pub struct MountPlan {
    /// The volume.
    pub cipher_dir: PathBuf,
    /// Where its plaintext appears.
    pub mountpoint: PathBuf,
    /// The options; those that have a flag of their own are merged in.
    pub options: MountOptions,
    /// Where the keystore is and what opens it.
    pub keystore: KeystoreArgs,
}

/// Mounts as the command line says.
pub fn run(args: MountArgs, keystore: &KeystoreArgs) -> Result<Exit> {
    let mut options = MountOptions::parse(&args.options)?;
    if args.read_only {
        options.read_only = Some(true);
    }
    options.log = args.log.or(options.log);
    let plan = MountPlan::new(args.cipher_dir, args.mountpoint, options, keystore.clone());
    if plan.options.remount {
        remount::run(&plan.mountpoint, &plan.options)
    } else if args.daemon_child {
        plan.serve(Behind::Command)
    } else if args.foreground {
        plan.serve(Behind::Nobody)
    } else {
        daemon::start(&plan.child_arguments())
    }
}

/// Mounts as mount(8) asks.
pub fn run_helper(arguments: impl Iterator<Item = OsString>) -> Result<Exit> {
    let args = helper::HelperArgs::parse(arguments)?;
    if let Some(namespace) = &args.namespace {
        helper::enter_namespace(namespace)?;
    }
    let plan = MountPlan::new(args.spec, args.dir, args.options, KeystoreArgs::default());
    if args.fake {
        return Ok(Exit::Ok);
    }
    if plan.options.remount {
        return remount::run(&plan.mountpoint, &plan.options);
    }
    daemon::start(&plan.child_arguments())
}

/// Who waits for this process to serve.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Behind {
    /// The command that started it as a daemon.
    Command,
    /// Nobody: it stays in the foreground.
    Nobody,
}

impl MountPlan {
    /// Merges: a flag overrides an `-o` option of the same meaning.
    pub fn new(
        cipher_dir: PathBuf,
        mountpoint: PathBuf,
        mut options: MountOptions,
        flags: KeystoreArgs,
    ) -> Self {
        let keystore = KeystoreArgs {
            keystore: flags.keystore.or(options.keystore.take()),
            passphrase_file: flags.passphrase_file.or(options.passphrase_file.take()),
            key_file: flags.key_file.or(options.key_file.take()),
        };
        Self {
            cipher_dir,
            mountpoint,
            options,
            keystore,
        }
    }

    /// The arguments that make the daemon do what this says.
    pub fn child_arguments(&self) -> Vec<OsString> {
        let mut arguments: Vec<OsString> = vec!["mount".into(), "--daemon-child".into()];
        let mut add = |flag: &str, value: Option<&OsStr>| {
            if let Some(value) = value {
                // As one word: a value may begin with a dash.
                let mut word = OsString::from(flag);
                word.push("=");
                word.push(value);
                arguments.push(word);
            }
        };
        add(
            "--keystore",
            self.keystore.keystore.as_deref().map(Path::as_os_str),
        );
        add(
            "--passphrase-file",
            self.keystore
                .passphrase_file
                .as_deref()
                .map(Path::as_os_str),
        );
        add(
            "--key-file",
            self.keystore.key_file.as_deref().map(Path::as_os_str),
        );
        let options = self.options.to_text();
        if !options.is_empty() {
            arguments.push("-o".into());
            arguments.push(options);
        }
        arguments.push("--".into());
        arguments.push(self.cipher_dir.clone().into());
        arguments.push(self.mountpoint.clone().into());
        arguments
    }

    fn read_only(&self) -> bool {
        self.options.read_only == Some(true)
    }

    /// Serves the mount until it is unmounted.
    fn serve(mut self, behind: Behind) -> Result<Exit> {
        logging::start(&match (&self.options.log, behind) {
            (Some(path), _) => LogTarget::File(path.clone()),
            (None, Behind::Nobody) => LogTarget::Stderr,
            (None, Behind::Command) => LogTarget::Syslog,
        })?;
        logging::log_panics();
        // What ps(1) shows; by its file's name it would be `exe`. Of no use beyond that.
        let _ = rustix::thread::set_name(c"envelopefs");
        raise_open_files();
        self.resolve_places()?;
        let opening = Opening {
            cipher_dir: &self.cipher_dir,
            read_only: self.read_only(),
            purpose: "mount",
            mountpoint: Some(&self.mountpoint),
            key_ttl: self.options.key_ttl,
            access_times: self.options.atime != Some(false),
            exclusive: false,
            journal: if self.options.no_journal {
                JournalMode::Off
            } else {
                JournalMode::Background
            },
        };
        let volume = Arc::new(match &self.options.kms {
            None => opening.open(Arc::new(unlock::open(&self.keystore)?))?,
            Some(KmsAddress::Unix(path)) => opening.open(Arc::new(RemoteKeys::new(path)?))?,
        });
        let service = Arc::new(Service::new(
            Arc::clone(&volume),
            self.cipher_dir.clone(),
            self.mountpoint.clone(),
        ));
        let control: Arc<dyn Control> = Arc::clone(&service) as _;
        // Before the mount: a signal that comes early must not leave it behind.
        let signals = Signals::new([SIGTERM, SIGINT, SIGHUP]).context("watching for signals")?;
        let mount = Mount::start(
            Arc::clone(&volume),
            &self.mountpoint,
            &self.fuse_options()?,
            Some(control),
        )?;
        unmount_on_signal(signals, mount.unmounter())?;
        if behind == Behind::Command {
            // Dropping the mount undoes it.
            daemon::detach()?;
        }
        let recovery = recover_in_background(&volume);
        let auto = (self.options.auto_rewrap && !self.read_only())
            .then(|| AutoRewrap::start(Arc::clone(&service)))
            .flatten();
        let ended = mount.wait();
        if let Some(auto) = auto {
            auto.stop();
        }
        recovery.stop();
        service.stop();
        volume.close().context("closing the volume")?;
        ended?;
        Ok(Exit::Ok)
    }

    /// Makes both paths absolute, and refuses a mount point in the volume's own directory.
    fn resolve_places(&mut self) -> Result<()> {
        self.cipher_dir = target::cipher_dir(&self.cipher_dir)?;
        if let Some(KmsAddress::Unix(path)) = &mut self.options.kms {
            *path = std::path::absolute(&*path)?;
        }
        match self.mountpoint.canonicalize() {
            // A dead mount of ours is cleared away by the mount.
            Ok(full) if full.is_dir() || is_stale(&full) => self.mountpoint = full,
            Ok(full) => {
                let message = format!("mount point {} is not a directory", full.display());
                return Err(failure(Exit::Failure, message));
            }
            Err(_) if is_stale(&self.mountpoint) => {
                self.mountpoint = std::path::absolute(&self.mountpoint)?;
            }
            Err(error) => {
                return Err(error).with_context(|| self.mountpoint.display().to_string());
            }
        }
        if self.mountpoint.starts_with(&self.cipher_dir) {
            return Err(usage(format!(
                "the mount point {} lies in the cipher directory {}",
                self.mountpoint.display(),
                self.cipher_dir.display()
            )));
        }
        Ok(())
    }

    /// What the front end is told. What nobody asked for is left at its own choice.
    fn fuse_options(&self) -> Result<fuse::MountOptions> {
        let asked = &self.options;
        let mut options = fuse::MountOptions::new();
        options.read_only = self.read_only();
        // Others get in when that was asked for, and then by the files' own permissions.
        options.let_in(asked.allow_other);
        options.default_permissions |= asked.default_permissions;
        options.nodev = !asked.dev.unwrap_or(!options.nodev);
        options.noexec = !asked.exec.unwrap_or(!options.noexec);
        options.nosuid = !asked.suid.unwrap_or(!options.nosuid);
        options.noatime = !asked.atime.unwrap_or(!options.noatime);
        options.xattrs = asked.xattr.unwrap_or(options.xattrs);
        let name = asked
            .fsname
            .as_deref()
            .unwrap_or(self.cipher_dir.as_os_str());
        options.fsname = Some(text("fsname", name)?);
        options.subtype = match &asked.subtype {
            Some(subtype) => Some(text("subtype", subtype)?),
            None => None,
        };
        options.uid = asked.uid;
        options.gid = asked.gid;
        options.umask = asked.umask.map(u32::from);
        options.transport = asked.transport.unwrap_or_default();
        options.idle = asked.idle.filter(|idle| !idle.is_zero());
        if let Some(idle) = options.idle {
            // What the kernel answers from memory is not seen here: it would look idle.
            options.attribute_lifetime = options.attribute_lifetime.min(idle / 4);
        }
        // A reader may have a writer beside it, now or later.
        options.shared = options.read_only;
        Ok(options)
    }
}

/// A thread that brings in order what was being written at a crash.
struct Recovery {
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Recovery {
    /// Ends it before the next file, and waits for that; the next mount goes on.
    fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread {
            // A panic was logged by the thread itself.
            let _ = thread.join();
        }
    }
}

fn recover_in_background(volume: &Arc<Volume<Os>>) -> Recovery {
    let stop = Arc::new(AtomicBool::new(false));
    let mut thread = None;
    if !volume.is_read_only() && !volume.status().clean {
        let (volume, stop) = (Arc::clone(volume), Arc::clone(&stop));
        let work = move || match volume.recover(&|| !stop.load(Ordering::Relaxed)) {
            Ok(files) => tracing::info!(files, "recovered after a crash"),
            Err(error) => {
                tracing::warn!(%error, "recovery after a crash; it goes on at the next mount");
            }
        };
        let started = std::thread::Builder::new()
            .name("recovery".to_owned())
            .spawn(work);
        match started {
            Ok(started) => thread = Some(started),
            Err(error) => tracing::warn!(%error, "no thread for the recovery after a crash"),
        }
    }
    Recovery { stop, thread }
}

fn text(option: &str, value: &OsStr) -> Result<String> {
    let message = || usage(format!("mount option '{option}': the value is not UTF-8"));
    value.to_str().map(str::to_owned).ok_or_else(message)
}

/// Lets this process open as many files as it may. Where it can't, fewer are kept open.
fn raise_open_files() {
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(
        Resource::Nofile,
        Rlimit {
            current: limit.maximum,
            maximum: limit.maximum,
        },
    );
}

/// Unmounts when the process is asked to end.
fn unmount_on_signal(mut signals: Signals, unmounter: Unmounter) -> Result<()> {
    let watch = move || {
        for signal in signals.forever() {
            tracing::info!(signal, "asked to end; unmounting");
            let result = match unmounter.unmount(Unmount::IfIdle) {
                Err(FuseError::Busy { .. }) => {
                    tracing::warn!("the mount is in use; it ends when the last file is closed");
                    unmounter.unmount(Unmount::Lazily)
                }
                other => other,
            };
            if let Err(error) = result {
                tracing::error!("{error}");
            }
        }
    };
    std::thread::Builder::new()
        .name("signals".to_owned())
        .spawn(watch)
        .map(drop)
        .map_err(|error| failure(Exit::Failure, format!("starting a thread: {error}")))
}

#[cfg(test)]
mod tests;
