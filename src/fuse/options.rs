//! What a mount looks like to its users, and what it asks of the kernel.

use std::time::Duration;

use fuser::{InitFlags, KernelConfig};

use super::transport::Transport;
use crate::volume::{Attr, Kind};

/// The largest read or write that the kernel sends as one request, in bytes.
pub(super) const LARGEST_REQUEST: u32 = 1 << 20;
/// How far the kernel reads ahead, in bytes: two requests, so that one is decrypted while the reader works
/// on the other. Reading 1 GiB cold, in MB/s, medians of 9: 1 MiB 2540, 1.5 MiB 2660, 2 MiB 2750; in another
/// run 2 MiB 2800, 3 MiB 2600, 4 MiB 2570.
pub(super) const READ_AHEAD: u32 = 2 << 20;
/// Requests that the kernel sends without anybody waiting (reading ahead, writing back).
pub(super) const BACKGROUND_REQUESTS: u16 = 64;
/// The subtype when none is given: the type of the mount is `fuse.envelopefs`.
const SUBTYPE: &str = "envelopefs";

/// How to mount.
#[derive(Clone, Debug)]
// As mount(8) has them: each is a word on its own.
#[allow(clippy::struct_excessive_bools)]
pub struct MountOptions {
    /// Refuse writes.
    pub read_only: bool,
    /// Let all users in, not only the one who mounts.
    pub allow_other: bool,
    /// Let the kernel check permissions, by mode and POSIX ACL. Without it, whoever gets in may
    /// do what the mounting user may do; see [`Self::let_in`].
    pub default_permissions: bool,
    /// Don't honour device nodes.
    pub nodev: bool,
    /// Don't run programs.
    pub noexec: bool,
    /// Don't honour set-user-id and set-group-id.
    pub nosuid: bool,
    /// Don't keep access times.
    pub noatime: bool,
    /// There are extended attributes, and ACLs with them.
    pub xattrs: bool,
    /// What the mount table shows as the source; the mount point's own name when not given.
    pub fsname: Option<String>,
    /// The type in the mount table is `fuse.<subtype>`; plain `fuse` when it is empty;
    /// `fuse.envelopefs` when it is not given.
    pub subtype: Option<String>,
    /// Show this owner for everything.
    pub uid: Option<u32>,
    /// Show this group for everything.
    pub gid: Option<u32>,
    /// Show the permissions 0777 less these bits for everything.
    pub umask: Option<u32>,
    /// Unmount when nobody has used the mount for this long.
    pub idle: Option<Duration>,
    /// How long the kernel may remember names and attributes when this mount is the only way in.
    pub attribute_lifetime: Duration,
    /// Another process may write to the volume meanwhile: the kernel remembers nothing for long.
    pub shared: bool,
    /// Threads that answer requests over `/dev/fuse`; at least one.
    pub threads: usize,
    /// Which way requests come.
    pub transport: Transport,
}

impl MountOptions {
    /// Root mounts for all users, others for themselves; the kernel checks permissions; no devices,
    /// no set-user-id.
    pub fn new() -> Self {
        Self {
            read_only: false,
            allow_other: rustix::process::geteuid().is_root(),
            default_permissions: true,
            nodev: true,
            noexec: false,
            nosuid: true,
            noatime: false,
            xattrs: true,
            fsname: None,
            subtype: None,
            uid: None,
            gid: None,
            umask: None,
            idle: None,
            attribute_lifetime: Duration::from_secs(3600),
            shared: false,
            threads: default_threads(),
            transport: Transport::Auto,
        }
    }

    /// Lets all users in, or only the one who mounts. The kernel checks permissions, but in a mount that
    /// only root can get into: root may do everything.
    ///
    /// The check is not free. The kernel forgets a directory's mode with each change in it, and asks again
    /// before the next: one request more for each file that is made or removed. Untarring and removing
    /// 46,654 files on tmpfs, in seconds: 7.75 and 2.23 with it, 7.07 and 1.66 without.
    pub fn let_in(&mut self, all: bool) {
        self.allow_other = all;
        self.default_permissions = all || !rustix::process::geteuid().is_root();
    }

    /// The part after `fuse.` in the mount's type; None for plain `fuse`.
    pub(super) fn effective_subtype(&self) -> Option<&str> {
        match self.subtype.as_deref() {
            None => Some(SUBTYPE),
            Some("") => None,
            Some(subtype) => Some(subtype),
        }
    }

    /// How long the kernel may remember a name or attributes.
    pub(super) fn lifetime(&self) -> Duration {
        if self.shared {
            self.attribute_lifetime.min(SHORT_LIFETIME)
        } else {
            self.attribute_lifetime
        }
    }
}

impl Default for MountOptions {
    fn default() -> Self {
        Self::new()
    }
}

/// How long the kernel may remember what others than itself may change.
pub(super) const SHORT_LIFETIME: Duration = Duration::from_secs(1);

/// As many as there are processors, from four to eight: some that wait for a disk are not to hold up
/// all others.
fn default_threads() -> usize {
    std::thread::available_parallelism().map_or(4, |n| n.get().clamp(4, 8))
}

/// What is shown in place of the attributes that are stored.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Overrides {
    uid: Option<u32>,
    gid: Option<u32>,
    permissions: Option<u16>,
}

impl Overrides {
    pub(super) fn new(options: &MountOptions) -> Self {
        Self {
            uid: options.uid,
            gid: options.gid,
            permissions: options.umask.map(|mask| (0o777 & !mask) as u16),
        }
    }

    pub(super) fn apply(self, mut attr: Attr) -> Attr {
        attr.uid = self.uid.unwrap_or(attr.uid);
        attr.gid = self.gid.unwrap_or(attr.gid);
        if attr.kind != Kind::Symlink {
            attr.perm = self.permissions.unwrap_or(attr.perm);
        }
        attr
    }
}

/// The features to ask for, of those that the kernel may have.
///
/// Left out on purpose: `ATOMIC_O_TRUNC` (the kernel then has a file cut before it has looked whether it
/// is a program that runs), `SETXATTR_EXT` (`fuser` panics on the longer request), `POSIX_LOCKS` and
/// `FLOCK_LOCKS` (the kernel keeps locks of a single machine by itself, and right), the write-back
/// cache, `EXPORT_SUPPORT`.
pub(super) fn features(options: &MountOptions) -> InitFlags {
    let mut flags = InitFlags::FUSE_ASYNC_READ
        | InitFlags::FUSE_BIG_WRITES
        | InitFlags::FUSE_MAX_PAGES
        | InitFlags::FUSE_DONT_MASK
        | InitFlags::FUSE_HAS_IOCTL_DIR
        | InitFlags::FUSE_DO_READDIRPLUS
        | InitFlags::FUSE_READDIRPLUS_AUTO
        | InitFlags::FUSE_ASYNC_DIO
        | InitFlags::FUSE_DIRECT_IO_ALLOW_MMAP
        | InitFlags::FUSE_PARALLEL_DIROPS
        | InitFlags::FUSE_HANDLE_KILLPRIV_V2
        | InitFlags::FUSE_CACHE_SYMLINKS
        | InitFlags::FUSE_NO_OPENDIR_SUPPORT
        | InitFlags::FUSE_NO_EXPORT_SUPPORT;
    if options.default_permissions && options.xattrs {
        // The kernel takes this as asking for default_permissions too.
        flags |= InitFlags::FUSE_POSIX_ACL;
    }
    flags
        | if options.shared {
            InitFlags::FUSE_AUTO_INVAL_DATA
        } else {
            InitFlags::FUSE_EXPLICIT_INVAL_DATA
        }
}

/// Fills in the answer to the kernel's INIT.
pub(super) fn negotiate(options: &MountOptions, config: &mut KernelConfig) {
    let _ = config.add_capabilities(features(options) & config.capabilities());
    let _ = config.set_max_write(LARGEST_REQUEST);
    // Refused where the kernel's own limit (128 KiB) is lower, with that limit; `session` raises
    // the mount's limit afterwards.
    if let Err(most) = config.set_max_readahead(READ_AHEAD) {
        let _ = config.set_max_readahead(most);
    }
    let _ = config.set_max_background(BACKGROUND_REQUESTS);
}
