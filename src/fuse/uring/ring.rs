//! A ring and the memory of its entries: the only place that the kernel writes to.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::{self, NonNull};

use io_uring::squeue::Entry128;
use io_uring::{IoUring, cqueue, opcode, types};
use rustix::mm::{Advice, MapFlags, ProtFlags};
use tracing::debug;

use super::super::errno::Errno;
use super::codec::{self, Fields, InHeader, entry};

/// Where the payload begins: the header has a page for itself.
const PAYLOAD_AT: usize = 4096;

/// A ring of one thread, with an entry for each of some queues.
pub(super) struct Ring {
    uring: IoUring<Entry128, cqueue::Entry>,
    entries: Vec<Entry>,
    /// How many of them the kernel still uses.
    live: usize,
    /// Those in which a request came before all were handed over.
    early: Vec<usize>,
}

/// One request at a time: its memory, and the queue that it is for.
struct Entry {
    queue: u16,
    memory: Memory,
    commit_id: u64,
    unique: u64,
}

/// A request that has come, in the memory of its entry.
pub(super) struct Request<'a> {
    pub(super) head: InHeader,
    pub(super) args: &'a [u8],
    /// Holds what came with the request, and takes the answer.
    pub(super) payload: &'a mut [u8],
    /// How much came.
    pub(super) given: usize,
}

impl Request<'_> {
    /// The size that a READ asks for (`struct fuse_read_in`), in bytes.
    pub(super) fn read_size(&self) -> Option<u32> {
        let mut args = Fields(self.args);
        let (_file, _offset) = (args.u64()?, args.u64()?);
        args.u32()
    }
}

impl Ring {
    /// A ring for this thread alone, on the connection `device`. Payloads have `payload` bytes.
    pub(super) fn new(device: BorrowedFd<'_>, queues: &[u16], payload: usize) -> io::Result<Self> {
        let size = u32::try_from(queues.len()).map_err(io::Error::other)?;
        let uring = IoUring::builder()
            .dontfork()
            .setup_single_issuer()
            .setup_coop_taskrun()
            .build(size.next_power_of_two())?;
        uring.submitter().register_files(&[device.as_raw_fd()])?;
        let entries = queues
            .iter()
            .map(|queue| {
                Ok(Entry {
                    queue: *queue,
                    memory: Memory::new(PAYLOAD_AT + payload)?,
                    commit_id: 0,
                    unique: 0,
                })
            })
            .collect::<io::Result<_>>()?;
        Ok(Self {
            uring,
            entries,
            live: 0,
            early: Vec::new(),
        })
    }

    /// Whether there can be such rings at all.
    pub(super) fn probe() -> io::Result<()> {
        IoUring::<Entry128, cqueue::Entry>::builder()
            .setup_single_issuer()
            .setup_coop_taskrun()
            .build(1)
            .map(drop)
    }

    /// Hands all entries to the kernel: requests may come from here on.
    pub(super) fn register(&mut self) -> io::Result<()> {
        for index in 0..self.entries.len() {
            let entry = &self.entries[index];
            let iovecs = entry.memory.iovecs();
            let mut sqe = opcode::UringCmd80::new(types::Fixed(0), codec::CMD_REGISTER)
                .cmd(codec::command(entry.queue, 0))
                .addr(Some(iovecs.as_ptr() as u64))
                .build()
                .user_data(index as u64);
            set_len(&mut sqe, iovecs.len() as u32);
            // SAFETY: the iovecs live until `submit` has returned, which is when the kernel has
            // read them. What they point to is mapped until the kernel has given the entry back
            // (`Drop`).
            unsafe { self.uring.submission().push(&sqe) }.map_err(io::Error::other)?;
            self.live += 1;
            self.uring.submit()?;
            // A refusal is there at once; so may the first request be.
            for done in self.uring.completion() {
                if done.result() < 0 {
                    self.live -= 1;
                    return Err(io::Error::from_raw_os_error(-done.result()));
                }
                self.early.push(done.user_data() as usize);
            }
        }
        Ok(())
    }

    /// Sends off what was committed and waits for the next request; the entry that it is in. None
    /// when the connection has ended.
    pub(super) fn next(&mut self) -> io::Result<Option<usize>> {
        while self.live > 0 {
            // Answers first: somebody waits for them.
            let nothing_to_send = self.uring.submission().is_empty();
            if nothing_to_send && let Some(index) = self.early.pop() {
                return Ok(Some(index));
            }
            if nothing_to_send && let Some(done) = self.uring.completion().next() {
                let index = done.user_data() as usize;
                if done.result() >= 0 {
                    return Ok(Some(index));
                }
                self.live -= 1;
                let (queue, result) = (self.entries[index].queue, done.result());
                debug!(queue, result, "an entry of a ring ended");
                continue;
            }
            match self.send_and_wait() {
                Ok(_) => {}
                // A signal; completions that have to be taken first; memory is short for a moment.
                Err(error)
                    if matches!(
                        error.raw_os_error(),
                        Some(libc::EINTR | libc::EBUSY | libc::EAGAIN)
                    ) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    /// The request in an entry that [`Self::next`] named. None when it isn't one.
    pub(super) fn request(&mut self, index: usize) -> Option<Request<'_>> {
        let entry = self.entries.get_mut(index)?;
        let (header, payload) = entry.memory.parts();
        let word = |at: usize| header.get(at..)?.first_chunk().copied();
        entry.commit_id = word(entry::COMMIT_ID).map(u64::from_ne_bytes)?;
        let given = header.get(entry::PAYLOAD_SIZE..)?.first_chunk().copied();
        let head = InHeader::parse(header)?;
        entry.unique = head.unique;
        Some(Request {
            head,
            args: &header[entry::OP_IN..entry::OP_IN_END],
            payload,
            given: given.map(u32::from_ne_bytes)? as usize,
        })
    }

    fn send_and_wait(&mut self) -> io::Result<usize> {
        /// `IORING_ENTER_*` of linux/io_uring.h.
        const GETEVENTS: u32 = 1 << 0;
        const NO_IOWAIT: u32 = 1 << 7;
        // Linux 6.15. A thread that waits for a request waits for no disk: without this the processor
        // would count as one that does, all the time that nobody uses the mount.
        let quiet = self.uring.params().is_feature_no_iowait();
        let flags = GETEVENTS | if quiet { NO_IOWAIT } else { 0 };
        let to_send = self.uring.submission().len() as u32;
        // SAFETY: there is no argument that the kernel could read or write.
        unsafe {
            let none = None::<&libc::sigset_t>;
            self.uring.submitter().enter(to_send, 1, flags, none)
        }
    }

    /// Sends off what was committed, without waiting. What can't go now goes with [`Self::next`].
    pub(super) fn send(&mut self) {
        let _ = self.uring.submit();
    }

    /// The answer to the request in an entry is in its payload, or there is none but an error. It
    /// goes out with the next call of [`Self::next`], or with [`Self::send`].
    pub(super) fn commit(&mut self, index: usize, answer: Result<usize, Errno>) -> io::Result<()> {
        let entry = &mut self.entries[index];
        let (error, len) = match answer {
            Ok(len) => (0, len as u32),
            Err(error) => (-error.code(), 0),
        };
        let (header, _) = entry.memory.parts();
        let head = codec::out_header(16 + len, error, entry.unique);
        header[..head.len()].copy_from_slice(&head);
        header[entry::PAYLOAD_SIZE..][..4].copy_from_slice(&len.to_ne_bytes());
        let sqe = opcode::UringCmd80::new(types::Fixed(0), codec::CMD_COMMIT_AND_FETCH)
            .cmd(codec::command(entry.queue, entry.commit_id))
            .build()
            .user_data(index as u64);
        // SAFETY: the entry's memory is mapped until the kernel has given it back (`Drop`).
        unsafe { self.uring.submission().push(&sqe) }.map_err(io::Error::other)
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        if self.live > 0 {
            // The kernel might still write a request there: better lost than overwritten.
            for entry in &mut self.entries {
                entry.memory.leak();
            }
        }
    }
}

/// `len` of an SQE, which the crate has no way to set for a command.
fn set_len(sqe: &mut Entry128, len: u32) {
    /// In units of four bytes.
    const AT: usize = 6;
    const { assert!(size_of::<Entry128>() == 128 && align_of::<Entry128>() >= 4) };
    // SAFETY: an `Entry128` is, by `repr(C)` and by what it is for, the kernel's `struct
    // io_uring_sqe` of 128 bytes, in which a u32 `len` stands at byte 24.
    unsafe { ptr::from_mut(sqe).cast::<u32>().add(AT).write(len) };
}

/// Mapped pages of an entry: a header, and a payload behind it. Pages that are never touched cost
/// nothing.
struct Memory {
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: it is memory that nothing else refers to.
unsafe impl Send for Memory {}

impl Memory {
    fn new(len: usize) -> io::Result<Self> {
        // SAFETY: a new private mapping at a place of the kernel's choice touches nothing there is.
        let start = unsafe {
            rustix::mm::mmap_anonymous(
                ptr::null_mut(),
                len,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::PRIVATE | MapFlags::NORESERVE,
            )?
        };
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        let memory = Self { start, len };
        // A child of a fork would copy each page that the kernel writes to.
        // SAFETY: it is our own mapping, and DONTFORK changes nothing of what is in it.
        let _ = unsafe { rustix::mm::madvise(start.as_ptr().cast(), len, Advice::LinuxDontFork) };
        Ok(memory)
    }

    fn iovecs(&self) -> [libc::iovec; 2] {
        let start = self.start.as_ptr();
        [
            libc::iovec {
                iov_base: start.cast(),
                iov_len: entry::SIZE,
            },
            libc::iovec {
                iov_base: start.wrapping_add(PAYLOAD_AT).cast(),
                iov_len: self.len - PAYLOAD_AT,
            },
        ]
    }

    /// Header and payload. The entry must be in our hands: the kernel writes while it has it.
    fn parts(&mut self) -> (&mut [u8], &mut [u8]) {
        // SAFETY: `len` bytes from `start` are mapped for reading and writing, all bytes are valid
        // u8s, and `&mut self` is the only way to them. The kernel leaves them alone between a
        // request's completion and its commit: both callers are called then, by `Ring`'s use of
        // `next` and `commit` in turn.
        let all = unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.len) };
        let (header, payload) = all.split_at_mut(PAYLOAD_AT);
        (&mut header[..entry::SIZE], payload)
    }

    fn leak(&mut self) {
        self.len = 0;
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        if self.len > 0 {
            // SAFETY: it is our own mapping, and nothing refers to it any more.
            let _ = unsafe { rustix::mm::munmap(self.start.as_ptr().cast(), self.len) };
        }
    }
}
