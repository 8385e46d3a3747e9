//! Slots of locked memory for [`super::Secret`].
//!
//! Pages are mapped in chunks, locked, kept out of dumps and wiped in a forked child. They are
//! never returned to the system: a freed slot is wiped and used again.
#![allow(unsafe_code)] // mmap, mlock, madvise and the raw slots they give

use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mlock, mmap_anonymous};
use zeroize::Zeroize;

/// Bytes in a slot: the longest secret (an AES-256-SIV key).
pub(super) const SLOT: usize = 64;
/// Bytes mapped at a time.
const CHUNK: usize = 64 * 1024;

/// One slot, owned. Wiped and given back on drop.
pub(super) struct Slot(NonNull<[u8; SLOT]>);

// SAFETY: a slot is owned by one `Slot`, its memory is never unmapped, and access follows the
// usual borrow rules of the owner.
unsafe impl Send for Slot {}
// SAFETY: `&Slot` gives shared reads only.
unsafe impl Sync for Slot {}

struct Free(Vec<NonNull<[u8; SLOT]>>);

// SAFETY: the pointers are to process-wide memory; the list is behind a mutex.
unsafe impl Send for Free {}

static FREE: Mutex<Free> = Mutex::new(Free(Vec::new()));
static UNLOCKED: AtomicBool = AtomicBool::new(false);

pub(super) fn all_locked() -> bool {
    !UNLOCKED.load(Ordering::Relaxed)
}

/// Takes a zeroed slot, mapping more memory when none is free.
pub(super) fn take() -> Slot {
    let mut free = FREE.lock();
    if free.0.is_empty() {
        let base = map_chunk();
        for i in (0..CHUNK / SLOT).rev() {
            // SAFETY: the offset stays inside the chunk just mapped.
            free.0.push(unsafe { base.add(i * SLOT) }.cast());
        }
    }
    match free.0.pop() {
        Some(slot) => Slot(slot),
        None => std::process::abort(),
    }
}

fn map_chunk() -> NonNull<u8> {
    // SAFETY: an anonymous private mapping at an address of the kernel's choice.
    let mapped = unsafe {
        mmap_anonymous(
            std::ptr::null_mut(),
            CHUNK,
            ProtFlags::READ | ProtFlags::WRITE,
            MapFlags::PRIVATE,
        )
    };
    let Some(base) = mapped.ok().and_then(NonNull::new) else {
        // No memory for keys: like any failed allocation.
        std::alloc::handle_alloc_error(std::alloc::Layout::new::<[u8; CHUNK]>())
    };
    // SAFETY: the range is the mapping made above.
    unsafe {
        if mlock(base.as_ptr(), CHUNK).is_err() {
            UNLOCKED.store(true, Ordering::Relaxed);
        }
        // Best effort: an old kernel without these advices still has the locked pages.
        let _ = madvise(base.as_ptr(), CHUNK, Advice::LinuxDontDump);
        let _ = madvise(base.as_ptr(), CHUNK, Advice::LinuxWipeOnFork);
    }
    base.cast()
}

impl Slot {
    pub(super) fn bytes<const N: usize>(&self) -> &[u8; N] {
        // SAFETY: N <= SLOT (checked by `Secret::FITS`), the memory is initialised (zeroed by the
        // kernel or by `drop`) and owned by self.
        unsafe { self.0.cast::<[u8; N]>().as_ref() }
    }

    pub(super) fn bytes_mut<const N: usize>(&mut self) -> &mut [u8; N] {
        // SAFETY: as in `bytes`, and the borrow is exclusive.
        unsafe { self.0.cast::<[u8; N]>().as_mut() }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.bytes_mut::<SLOT>().zeroize();
        FREE.lock().0.push(self.0);
    }
}
