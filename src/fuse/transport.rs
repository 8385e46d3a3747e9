//! Which way requests come, and what every way gives to the session.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use fuser::{Config, INodeNo, Session, SessionACL};

use super::fuser_fs::FuserFs;
use super::ops::Ops;
use super::options::MountOptions;
use super::uring::{self, Rings};
use crate::volume::{Backing, NodeId};

/// The way between the kernel and this process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Transport {
    /// io_uring where the kernel has it, `/dev/fuse` else.
    #[default]
    Auto,
    /// io_uring or nothing.
    Uring,
    /// `/dev/fuse`.
    Dev,
}

/// Has the kernel drop the pages that it keeps of a node.
pub(super) type Invalidate = dyn Fn(NodeId) + Send + Sync;

/// Runs something when the filesystem is gone.
pub(super) struct EndSignal(pub(super) Box<dyn Fn() + Send + Sync>);

impl Drop for EndSignal {
    fn drop(&mut self) {
        (self.0)();
    }
}

/// A connection whose two sides have come to terms.
pub(super) struct Connected {
    /// Answers requests until it ends.
    pub(super) run: Box<dyn FnOnce() -> io::Result<()> + Send>,
    /// Holds the connection, which is to end with the session.
    pub(super) invalidate: Arc<Invalidate>,
}

/// One way, without a choice any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    Uring,
    Dev,
}

/// The ways to try, one after the other; an error is final where there is no other.
pub(super) fn ways(transport: Transport) -> Result<&'static [Way], String> {
    match transport {
        Transport::Dev => Ok(&[Way::Dev]),
        Transport::Auto if uring::missing().is_some() => Ok(&[Way::Dev]),
        Transport::Auto => Ok(&[Way::Uring, Way::Dev]),
        Transport::Uring => match uring::missing() {
            None => Ok(&[Way::Uring]),
            Some(reason) => Err(reason),
        },
    }
}

/// Comes to terms with the kernel on a fresh connection.
pub(super) fn connect<B: Backing>(
    way: Way,
    connection: OwnedFd,
    ops: Ops<B>,
    end: EndSignal,
    options: &MountOptions,
) -> io::Result<Connected> {
    match way {
        Way::Uring => {
            let rings = Rings::start(connection, ops, end, options)?;
            Ok(Connected {
                invalidate: rings.invalidate(),
                run: Box::new(move || rings.run()),
            })
        }
        Way::Dev => {
            let filesystem = FuserFs::new(ops, options.clone(), end);
            let mut config = Config::default();
            config.n_threads = Some(options.threads.max(1));
            // Who may come in is for the kernel to say (allow_other).
            let session = Session::from_fd(filesystem, connection, SessionACL::All, config)?;
            let notifier = session.notifier();
            Ok(Connected {
                invalidate: Arc::new(move |node| {
                    // An inode that the kernel doesn't have is an error that is none.
                    let _ = notifier.inval_inode(INodeNo(node.0), 0, 0);
                }),
                run: Box::new(move || match session.run() {
                    // Ended while a thread was about to read: an end as any other.
                    Err(error) if error.raw_os_error() == Some(libc::ECONNABORTED) => Ok(()),
                    result => result,
                }),
            })
        }
    }
}
