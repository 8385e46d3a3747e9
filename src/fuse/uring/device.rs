//! What goes over `/dev/fuse` although requests come over io_uring: INIT, which comes first, and
//! FORGET and INTERRUPT.

use std::io;
use std::os::fd::BorrowedFd;
use std::thread;
use std::time::Duration;

use tracing::debug;

use super::super::ops::Ops;
use super::super::options::{self, MountOptions};
use super::codec::{self, Fields, InHeader, InitIn, InitOut, opcode};
use crate::volume::{Backing, NodeId};

/// The kernel forgets many nodes one by one, and nobody waits for it: looking this often takes
/// them in batches.
const PAUSE: Duration = Duration::from_millis(2);

/// Answers INIT; the bytes that a payload has to have. `max_write`: the largest request, in bytes.
pub(super) fn init(
    device: BorrowedFd<'_>,
    options: &MountOptions,
    max_write: u32,
) -> io::Result<usize> {
    let mut buffer = [0; codec::LEAST_BUFFER];
    let invalid = |what| io::Error::new(io::ErrorKind::InvalidData, what);
    let len = read(device, &mut buffer)?;
    let (head, init) = InHeader::parse(&buffer[..len])
        .zip(buffer.get(InHeader::SIZE..len).and_then(InitIn::parse))
        .filter(|(head, _)| head.opcode == opcode::INIT)
        .ok_or_else(|| invalid("the first request is no INIT"))?;
    if !init.is_our_version() {
        return Err(invalid("the kernel speaks another version of FUSE"));
    }
    if init.flags & codec::OVER_IO_URING == 0 {
        return Err(invalid("the kernel does not offer io_uring"));
    }
    let page = rustix::param::page_size();
    let max_pages = (max_write as usize).div_ceil(page);
    let terms = InitOut {
        max_readahead: init.max_readahead.min(options::READ_AHEAD),
        flags: options::features(options).bits() & init.flags | codec::OVER_IO_URING,
        max_background: options::BACKGROUND_REQUESTS,
        max_write,
        max_pages: u16::try_from(max_pages).unwrap_or(u16::MAX),
    };
    debug!(offered = %format_args!("{:x}", init.flags), ?terms, "INIT");
    rustix::io::write(device, &terms.answer(head.unique))?;
    // The kernel's own reckoning (fuse_uring_create).
    Ok(codec::LEAST_BUFFER
        .max(max_write as usize)
        .max(max_pages * page))
}

/// Until the connection ends.
pub(super) fn serve<B: Backing>(
    device: BorrowedFd<'_>,
    ops: &Ops<B>,
    payload: usize,
) -> io::Result<()> {
    // The kernel wants room for a WRITE, though none comes this way.
    let mut buffer = vec![0; codec::LONGEST_HEAD + payload];
    loop {
        let len = match read(device, &mut buffer) {
            Ok(len) => len,
            // Unmounted, or aborted.
            Err(error) if error.raw_os_error() == Some(libc::ENODEV) => return Ok(()),
            Err(error) => return Err(error),
        };
        let bytes = &buffer[..len];
        let Some((head, rest)) = InHeader::parse(bytes).zip(bytes.get(InHeader::SIZE..)) else {
            continue;
        };
        match head.opcode {
            opcode::FORGET => {
                if let Some(count) = Fields(rest).u64() {
                    ops.forget(NodeId(head.node), count);
                }
            }
            opcode::BATCH_FORGET => forget_all(ops, Fields(rest)).unwrap_or_default(),
            // Nothing here waits for what may never come: the answer is under way.
            opcode::INTERRUPT => {}
            other => {
                debug!(
                    opcode = other,
                    "a request on /dev/fuse, where none was expected"
                );
                let error = codec::out_header(16, -libc::ENOSYS, head.unique);
                let _ = rustix::io::write(device, &error);
            }
        }
        thread::sleep(PAUSE);
    }
}

/// `struct fuse_batch_forget_in` and what it announces.
fn forget_all<B: Backing>(ops: &Ops<B>, mut fields: Fields<'_>) -> Option<()> {
    let (count, _) = (fields.u32()?, fields.u32()?);
    for _ in 0..count {
        let (node, count) = (fields.u64()?, fields.u64()?);
        ops.forget(NodeId(node), count);
    }
    Some(())
}

fn read(device: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match rustix::io::read(device, &mut *buffer) {
            // A signal, or a request that was taken back meanwhile.
            Err(rustix::io::Errno::INTR | rustix::io::Errno::NOENT | rustix::io::Errno::AGAIN) => {}
            result => return Ok(result?),
        }
    }
}
