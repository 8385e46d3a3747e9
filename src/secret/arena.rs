//! Slots of locked memory for [`super::Secret`] and [`super::SecretBytes`].
//!
//! Pages are mapped in chunks, locked, kept out of dumps and wiped in a forked child. They are
//! never returned to the system: a freed slot is wiped and used again.
#![allow(unsafe_code)] // mmap, mlock, madvise and the raw slots they give

use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mlock, mmap_anonymous};
use zeroize::Zeroize;

/// Bytes in a short slot: the longest key of fixed length (an AES-256-SIV key).
pub(super) const SHORT: usize = 64;
/// Bytes in a long slot: more than a private RSA key of 4096 bits as PKCS#8 (2.4 KiB).
pub(super) const LONG: usize = 4096;
/// Bytes mapped at a time.
const CHUNK: usize = 64 * 1024;

/// `SIZE` bytes, owned. Wiped and given back on drop.
pub(super) struct Slot<const SIZE: usize>(NonNull<[u8; SIZE]>)
where
    Slot<SIZE>: Pooled<SIZE>;

// SAFETY: a slot is owned by one `Slot`, its memory is never unmapped, and access follows the
// usual borrow rules of the owner.
unsafe impl<const SIZE: usize> Send for Slot<SIZE> where Slot<SIZE>: Pooled<SIZE> {}
// SAFETY: `&Slot` gives shared reads only.
unsafe impl<const SIZE: usize> Sync for Slot<SIZE> where Slot<SIZE>: Pooled<SIZE> {}

/// The free slots of one size.
pub(super) struct Pool<const SIZE: usize>(Mutex<Vec<NonNull<[u8; SIZE]>>>);

// SAFETY: the pointers are to process-wide memory; the list is behind a mutex.
unsafe impl<const SIZE: usize> Send for Pool<SIZE> {}
// SAFETY: as for `Send`.
unsafe impl<const SIZE: usize> Sync for Pool<SIZE> {}

/// A slot size that there are slots of.
pub(super) trait Pooled<const SIZE: usize> {
    fn pool() -> &'static Pool<SIZE>;
}

impl Pooled<SHORT> for Slot<SHORT> {
    fn pool() -> &'static Pool<SHORT> {
        static POOL: Pool<SHORT> = Pool(Mutex::new(Vec::new()));
        &POOL
    }
}

impl Pooled<LONG> for Slot<LONG> {
    fn pool() -> &'static Pool<LONG> {
        static POOL: Pool<LONG> = Pool(Mutex::new(Vec::new()));
        &POOL
    }
}

static UNLOCKED: AtomicBool = AtomicBool::new(false);

pub(super) fn all_locked() -> bool {
    !UNLOCKED.load(Ordering::Relaxed)
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

impl<const SIZE: usize> Slot<SIZE>
where
    Slot<SIZE>: Pooled<SIZE>,
{
    /// Takes a zeroed slot, mapping more memory when none is free.
    pub(super) fn take() -> Self {
        let mut free = Self::pool().0.lock();
        if free.is_empty() {
            let base = map_chunk();
            for i in (0..CHUNK / SIZE).rev() {
                // SAFETY: the offset stays inside the chunk just mapped.
                free.push(unsafe { base.add(i * SIZE) }.cast());
            }
        }
        match free.pop() {
            Some(slot) => Self(slot),
            None => std::process::abort(),
        }
    }

    pub(super) fn bytes(&self) -> &[u8; SIZE] {
        // SAFETY: the memory is initialised (zeroed by the kernel or by `drop`) and owned by self.
        unsafe { self.0.as_ref() }
    }

    pub(super) fn bytes_mut(&mut self) -> &mut [u8; SIZE] {
        // SAFETY: as in `bytes`, and the borrow is exclusive.
        unsafe { self.0.as_mut() }
    }

    /// The first `N` bytes: `N` is at most `SIZE`, which the compiler checks.
    pub(super) fn first<const N: usize>(&self) -> &[u8; N] {
        const { assert!(N <= SIZE, "a secret is at most one slot") };
        // SAFETY: as in `bytes`; the first N of SIZE bytes.
        unsafe { self.0.cast::<[u8; N]>().as_ref() }
    }

    /// As [`Slot::first`], to write.
    pub(super) fn first_mut<const N: usize>(&mut self) -> &mut [u8; N] {
        const { assert!(N <= SIZE, "a secret is at most one slot") };
        // SAFETY: as in `bytes_mut`; the first N of SIZE bytes.
        unsafe { self.0.cast::<[u8; N]>().as_mut() }
    }
}

impl<const SIZE: usize> Drop for Slot<SIZE>
where
    Slot<SIZE>: Pooled<SIZE>,
{
    fn drop(&mut self) {
        self.bytes_mut().zeroize();
        Self::pool().0.lock().push(self.0);
    }
}
