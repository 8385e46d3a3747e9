//! What can go wrong with a mount as a whole.

use std::io;
use std::path::PathBuf;

/// Why a mount can't be made, or unmade.
#[derive(Debug, thiserror::Error)]
pub enum FuseError {
    /// The mount point can't be reached.
    #[error("mount point {path}: {source}")]
    MountPoint {
        /// The mount point.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The mount point is a file.
    #[error("mount point {path} is not a directory")]
    NotDirectory {
        /// The mount point.
        path: PathBuf,
    },
    /// The mount point is that of another filesystem whose server is gone.
    #[error(
        "mount point {path} holds a dead mount of type {fs_type} that is not of this program: \
         unmount it (umount -l {path}) first"
    )]
    ForeignStale {
        /// The mount point.
        path: PathBuf,
        /// Its type in the mount table.
        fs_type: String,
    },
    /// The kernel's device can't be opened.
    #[error("/dev/fuse: {source}: is the kernel module loaded (modprobe fuse)?")]
    Device {
        /// What the system says.
        source: io::Error,
    },
    /// The system doesn't mount.
    #[error("mounting on {path}: {source}")]
    Mount {
        /// The mount point.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The helper for users other than root is not there.
    #[error("fusermount3: {source}: install the package fuse3, or mount as root")]
    NoHelper {
        /// What the system says.
        source: io::Error,
    },
    /// The helper for users other than root says no.
    #[error("mounting on {path}: {message}")]
    HelperRefused {
        /// The mount point.
        path: PathBuf,
        /// What it says.
        message: String,
    },
    /// A mount option that can't be passed on.
    #[error("mount option {option}: {reason}")]
    Option {
        /// Its name.
        option: &'static str,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// `transport=uring` was asked for, and can't be had.
    #[error("requests can't come over io_uring: {reason}")]
    NoRings {
        /// What is missing.
        reason: String,
    },
    /// The kernel and this program did not come to terms.
    #[error("the kernel's FUSE session: {source}")]
    Session {
        /// What happened.
        source: io::Error,
    },
    /// Nothing of ours is mounted there.
    #[error("{path} is not mounted")]
    NotMounted {
        /// The mount point.
        path: PathBuf,
    },
    /// Another filesystem is mounted over ours.
    #[error("another filesystem is mounted over {path}: unmount that first")]
    Covered {
        /// The mount point.
        path: PathBuf,
    },
    /// Files are open or processes work there.
    #[error("{path} is in use: close the files and leave the directories in it (see fuser -m)")]
    Busy {
        /// The mount point.
        path: PathBuf,
    },
    /// The system doesn't unmount.
    #[error("unmounting {path}: {source}")]
    Unmount {
        /// The mount point.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The mount is gone, but the server still works.
    #[error("{path} is unmounted, but its server (process {pid}) is still at work")]
    StillRunning {
        /// The mount point.
        path: PathBuf,
        /// The server.
        pid: u32,
    },
}
