//! Key bytes: locked in memory, left out of dumps, wiped on drop, never printed.
//!
//! [`Secret`] holds a fixed number of bytes in a page that is `mlock`ed and `MADV_DONTDUMP`ed.
//! It is neither `Clone`, `Copy`, `Default` nor `Debug`; the bytes are reached by
//! [`Secret::expose`] alone, which is easy to find in a review.

mod arena;

use zeroize::Zeroizing;

/// A passphrase or another secret of variable length, wiped on drop.
pub type SecretText = Zeroizing<Vec<u8>>;

/// `N` secret bytes (at most [`arena::SLOT`]) in locked memory.
pub struct Secret<const N: usize> {
    slot: arena::Slot,
}

/// A 256-bit key.
pub type Key256 = Secret<32>;

impl<const N: usize> Secret<N> {
    const FITS: () = assert!(N <= arena::SLOT, "a secret is at most one arena slot");

    /// Makes a secret whose bytes `fill` writes in place, so that no copy lies elsewhere.
    ///
    /// # Errors
    /// Whatever `fill` returns; the memory is wiped then.
    pub fn try_init<E>(fill: impl FnOnce(&mut [u8; N]) -> Result<(), E>) -> Result<Self, E> {
        let () = Self::FITS;
        let mut secret = Self {
            slot: arena::take(),
        };
        fill(secret.slot.bytes_mut())?;
        Ok(secret)
    }

    /// Makes a secret whose bytes `fill` writes in place.
    pub fn init(fill: impl FnOnce(&mut [u8; N])) -> Self {
        match Self::try_init(|bytes| {
            fill(bytes);
            Ok::<(), std::convert::Infallible>(())
        }) {
            Ok(secret) => secret,
            Err(never) => match never {},
        }
    }

    /// Moves bytes out of an ordinary buffer into locked memory; the buffer is wiped.
    pub fn take_from(bytes: &mut [u8; N]) -> Self {
        let secret = Self::init(|to| to.copy_from_slice(bytes));
        zeroize::Zeroize::zeroize(bytes);
        secret
    }

    /// The bytes, for the one call that needs them.
    pub fn expose(&self) -> &[u8; N] {
        self.slot.bytes()
    }

    /// Compares in constant time.
    pub fn same_as(&self, other: &Self) -> bool {
        let mut difference = 0u8;
        for (a, b) in self.expose().iter().zip(other.expose()) {
            difference |= a ^ b;
        }
        std::hint::black_box(difference) == 0
    }
}

/// Keeps the whole process out of core dumps and away from debuggers of the same user.
///
/// # Errors
/// When the kernel refuses the call (it does not on Linux ≥ 2.4).
pub fn harden_process() -> std::io::Result<()> {
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)?;
    rustix::process::setrlimit(
        rustix::process::Resource::Core,
        rustix::process::Rlimit {
            current: Some(0),
            maximum: Some(0),
        },
    )?;
    Ok(())
}

/// True when every page that holds secrets could be locked (`RLIMIT_MEMLOCK` allowing).
pub fn all_locked() -> bool {
    arena::all_locked()
}

#[cfg(test)]
mod tests;
