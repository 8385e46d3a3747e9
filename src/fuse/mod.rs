//! The kernel protocol ⇄ [`volume`](crate::volume): mounting, serving, unmounting; the one map
//! from errors to errno.
//!
//! A request comes in through a transport (`fuser_fs`: `/dev/fuse` by way of the crate `fuser`;
//! `uring`: io_uring, where the kernel has it), which decodes it, has `ops` do it, and encodes the
//! answer. `ops` knows what a request means and nothing of how it came. `transport` chooses the way,
//! `session` is the life of a mount, `device` and `mountpoint` are what mount(2) and umount(2) need,
//! `control` is the way to the process behind a mount.
//!
//! What `fuser` 0.18 leaves to be done here: panics in operations (`panics`), times before 1970
//! (`convert`), set-id bits under `HANDLE_KILLPRIV_V2` and ACLs without `SETXATTR_EXT` (`caller`,
//! `ops`), mounting (`device`), knowing when all is over (`session`).
//!
//! `tests/bench/passthrough` compiles this room over a `volume` without encryption, to measure against.

mod caller;
pub mod control;
mod convert;
mod device;
mod errno;
mod error;
mod fuser_fs;
pub mod mountpoint;
mod ops;
mod options;
mod panics;
mod session;
#[cfg(test)]
mod tests;
mod transport;
mod uring;

pub use control::Control;
pub use errno::Errno;
pub use error::FuseError;
pub use options::MountOptions;
pub use session::{Mount, Unmounter};
pub use transport::Transport;
