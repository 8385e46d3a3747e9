//! What a thread of the transport does: wait for a request, have it answered, send the answer.

use std::io;

use rustix::thread::CpuSet;
use tracing::debug;

use super::super::errno::Errno;
use super::super::ops::Ops;
use super::super::panics::contain;
use super::answer::answer;
use super::codec::opcode;
use super::handover::Handover;
use super::ring::{Request, Ring};
use crate::volume::Backing;

/// A read of this many bytes is no small one: whoever asks for it reads on meanwhile.
const LARGE_READ: u32 = 128 << 10;
/// Up to so many bytes read or written are a moment's work.
const SMALL: u32 = 32 << 10;

/// Until the connection ends. `cpu`: where the thread belongs; `handover`: how it answers who waits
/// there.
pub(super) fn serve<B: Backing>(
    ring: &mut Ring,
    ops: &Ops<B>,
    cpu: Option<u16>,
    mut handover: Option<Handover>,
) -> io::Result<()> {
    let mut place = cpu.map(Place::new);
    while let Some(index) = ring.next()? {
        let mut waits = true;
        let result = match ring.request(index) {
            Some(request) => {
                let streams = is_large_read(&request);
                if let Some(handover) = &mut handover {
                    handover.begin(is_long(&request));
                }
                if let Some(place) = &mut place {
                    place.suit(streams);
                }
                waits = !streams && !is_release(&request);
                // `ops` contains the panics of operations, this those of the codec.
                let result = contain("request", || {
                    answer(
                        ops,
                        &request.head,
                        request.args,
                        request.payload,
                        request.given,
                    )
                });
                if let Some(handover) = &mut handover {
                    handover.end();
                }
                result
            }
            None => Err(Errno::IO),
        };
        ring.commit(index, result)?;
        // One who streams goes on elsewhere, while the next piece is opened here.
        if let Some(handover) = handover.as_mut().filter(|_| waits) {
            handover.send(|| ring.send());
        }
    }
    Ok(())
}

/// close(2) doesn't wait for it.
fn is_release(request: &Request<'_>) -> bool {
    matches!(request.head.opcode, opcode::RELEASE | opcode::RELEASEDIR)
}

/// More than a moment's work, by what is asked for.
fn is_long(request: &Request<'_>) -> bool {
    match request.head.opcode {
        opcode::READ => request.read_size().is_none_or(|size| size > SMALL),
        opcode::WRITE => request.given > SMALL as usize,
        opcode::FSYNC
        | opcode::FSYNCDIR
        | opcode::FALLOCATE
        | opcode::COPY_FILE_RANGE
        | opcode::COPY_FILE_RANGE_64
        | opcode::IOCTL => true,
        _ => false,
    }
}

fn is_large_read(request: &Request<'_>) -> bool {
    request.head.opcode == opcode::READ
        && request.read_size().is_some_and(|size| size >= LARGE_READ)
}

/// Where a thread runs. A small request is answered best on the processor that it was asked for on:
/// the one who asks waits, and no other processor has to be woken. One who streams a file doesn't
/// wait but works on what was read ahead, so that the next piece is better opened elsewhere.
struct Place {
    home: CpuSet,
    anywhere: Option<CpuSet>,
    at_home: bool,
    /// The request before was a large read.
    streaming: bool,
}

impl Place {
    /// Ties the thread to its processor.
    fn new(cpu: u16) -> Self {
        let anywhere = rustix::thread::sched_getaffinity(None).ok();
        let mut home = CpuSet::new();
        home.set(usize::from(cpu));
        go(&home);
        Self {
            home,
            anywhere,
            at_home: true,
            streaming: false,
        }
    }

    /// Moves before a request is answered: away with the second large read in a row, home with the
    /// first other request.
    fn suit(&mut self, large: bool) {
        let away = large && self.streaming;
        self.streaming = large;
        if away == self.at_home
            && let Some(anywhere) = &self.anywhere
        {
            go(if away { anywhere } else { &self.home });
            self.at_home = !away;
        }
    }
}

/// Without it things only go slower.
fn go(cpus: &CpuSet) {
    if let Err(error) = rustix::thread::sched_setaffinity(None, cpus) {
        debug!(%error, "a thread is not tied to its processor");
    }
}
