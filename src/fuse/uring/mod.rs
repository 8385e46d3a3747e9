//! The transport over io_uring (Linux 6.14): the kernel puts requests in memory that it was given
//! beforehand and takes the answers out of it, one system call for an answer and the next request
//! together. A queue for each processor, so that a request is answered on the processor where it
//! was asked for, without waking another.
//!
//! `codec` has the kernel's numbers and structures, `answer` has one request answered by
//! [`Ops`](super::ops::Ops), `ring` is the ring and the memory of its entries, `worker` what a thread
//! does, `handover` how its answers reach who waits, `watch` who looks after threads that do so,
//! `device` what still goes over `/dev/fuse`: INIT,
//! and requests that nobody waits for.
//!
//! Each thread has a ring of its own with one entry for its queue: an entry that waits for a request
//! belongs to a thread that waits too. A thread that is held up (by a disk, by a key manager) holds
//! up nobody while its queue has other threads.
//!
//! Own code on the crate `io-uring`, which is the system calls and little more. fractal-fuse 0.6.1
//! works in place too, but it answers no IOCTL (the control calls need it), runs all entries of a
//! queue as futures on one thread (an operation that blocks holds them all up), and has all buffers
//! in memory from the start: 256 of the largest request for each queue, if not told otherwise.

mod answer;
mod codec;
mod cpus;
mod device;
mod handover;
mod ring;
mod watch;
mod worker;

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};

use tracing::{debug, error};

use super::ops::Ops;
use super::options::{LARGEST_REQUEST, MountOptions};
use super::transport::{EndSignal, Invalidate};
use crate::volume::Backing;
use cpus::Cpus;
use handover::{Handover, OwnPolicy};
use ring::Ring;
use watch::Watch;

/// Whether the kernel takes requests over io_uring is a setting of its module.
const SETTING: &str = "/sys/module/fuse/parameters/enable_uring";
/// Threads in all that a queue's threads beyond the first may be.
const SPARE_THREADS: usize = 16;
/// ... and of one queue, at the least and at the most.
const SPARE_A_QUEUE: (usize, usize) = (1, 3);
/// What the payloads of all threads may come to, in bytes; pages that no request used take none.
const PAYLOADS: usize = 32 << 20;

/// Why there is no io_uring here; None when there is.
pub(super) fn missing() -> Option<String> {
    match fs::read_to_string(SETTING) {
        Ok(text) if text.trim() == "Y" => {}
        Ok(_) => return Some(format!("{SETTING} is not Y")),
        Err(error) => return Some(format!("{SETTING}: {error}")),
    }
    if Cpus::look().is_none() {
        return Some("the processors are not listed in /sys/devices/system/cpu".to_owned());
    }
    Ring::probe()
        .err()
        .map(|error| format!("io_uring_setup: {error}"))
}

/// Below this, streaming gets slow; in bytes.
const SMALLEST_LARGEST_REQUEST: u32 = 128 << 10;

/// What all threads share.
struct Shared<B: Backing> {
    device: Arc<OwnedFd>,
    ops: Ops<B>,
    /// Dropped last: whoever waits for the end finds the volume free.
    _end: EndSignal,
}

/// The threads of a mount.
pub(super) struct Rings<B: Backing> {
    shared: Arc<Shared<B>>,
    threads: Vec<JoinHandle<io::Result<()>>>,
}

impl<B: Backing> Rings<B> {
    /// Comes to terms with the kernel; when this returns, the mount answers.
    ///
    /// After an error the connection is good for nothing but to be unmounted, which ends what was
    /// started of it.
    pub(super) fn start(
        device: OwnedFd,
        ops: Ops<B>,
        end: EndSignal,
        options: &MountOptions,
    ) -> io::Result<Self> {
        let cpus = Cpus::look().ok_or_else(|| io::Error::other("the processors are not listed"))?;
        let plans = plans(&cpus);
        let payload = device::init(device.as_fd(), options, largest_request(plans.len()))?;
        let shared = Arc::new(Shared {
            device: Arc::new(device),
            ops,
            _end: end,
        });
        let mut threads = Vec::new();
        let (ready, started) = mpsc::channel();
        let policy = OwnPolicy::look();
        let watch = policy.map(|policy| (policy, Watch::new(policy)));
        for plan in plans {
            let (shared, ready) = (Arc::clone(&shared), ready.clone());
            let watch = watch.clone();
            let name = format!("fuse-ring-{}", plan.queues[0]);
            let body = move || {
                let handover = watch.map(|(policy, watch)| Handover::new(policy, &watch));
                run(&shared, &plan, payload, handover, ready)
            };
            threads.push(thread::Builder::new().name(name).spawn(body)?);
        }
        drop(ready);
        for result in started {
            result?;
        }
        let reader = Arc::clone(&shared);
        let body = move || device::serve(reader.device.as_fd(), &reader.ops, payload);
        let reader = thread::Builder::new().name("fuse-forget".to_owned());
        threads.push(reader.spawn(body)?);
        if let Some((_, watch)) = watch {
            let body = move || {
                watch.run();
                Ok(())
            };
            let watching = thread::Builder::new().name("fuse-watch".to_owned());
            threads.push(watching.spawn(body)?);
        }
        debug!(
            threads = threads.len(),
            payload, "requests come over io_uring"
        );
        Ok(Self { shared, threads })
    }

    /// What tells the kernel to drop the pages of a node.
    pub(super) fn invalidate(&self) -> Arc<Invalidate> {
        let device = Arc::clone(&self.shared.device);
        Arc::new(move |node| {
            // A node that the kernel doesn't have is an error that is none.
            let _ = rustix::io::write(&device, &codec::drop_pages(node.0));
        })
    }

    /// Until the connection ends, and with it all threads.
    pub(super) fn run(self) -> io::Result<()> {
        let mut first = Ok(());
        for thread in self.threads {
            let panicked = |_| Err(io::Error::other("a thread ended by a panic"));
            first = first.and(thread.join().unwrap_or_else(panicked));
        }
        self.shared.ops.finish();
        first
    }
}

/// What one thread is for.
struct Plan {
    queues: Vec<u16>,
    cpu: Option<u16>,
}

fn plans(cpus: &Cpus) -> Vec<Plan> {
    let (least, most) = SPARE_A_QUEUE;
    let spare = (SPARE_THREADS / cpus.online.len().max(1)).clamp(least, most);
    let mut plans: Vec<Plan> = Vec::new();
    for cpu in &cpus.online {
        plans.extend((0..=spare).map(|_| Plan {
            queues: vec![*cpu],
            cpu: Some(*cpu),
        }));
    }
    let offline = cpus.offline();
    if !offline.is_empty() {
        plans.push(Plan {
            queues: offline,
            cpu: None,
        });
    }
    plans
}

/// The largest request, in bytes: less than usual where very many threads have memory for one.
fn largest_request(threads: usize) -> u32 {
    let share = u32::try_from(PAYLOADS / threads.max(1)).unwrap_or(u32::MAX);
    let share = 1 << share.max(1).ilog2();
    share.clamp(SMALLEST_LARGEST_REQUEST, LARGEST_REQUEST)
}

/// One thread. It says on `ready` how its beginning went.
fn run<B: Backing>(
    shared: &Shared<B>,
    plan: &Plan,
    payload: usize,
    handover: Option<Handover>,
    ready: mpsc::Sender<io::Result<()>>,
) -> io::Result<()> {
    let begin = || {
        let mut ring = Ring::new(shared.device.as_fd(), &plan.queues, payload)?;
        ring.register()?;
        Ok(ring)
    };
    let mut ring = match begin() {
        Ok(ring) => ring,
        Err(error) => {
            let _ = ready.send(Err(error));
            return Ok(());
        }
    };
    let _ = ready.send(Ok(()));
    drop(ready);
    worker::serve(&mut ring, &shared.ops, plan.cpu, handover).inspect_err(|error| {
        error!(queues = ?plan.queues, %error, "a thread of the mount ended early");
    })
}
