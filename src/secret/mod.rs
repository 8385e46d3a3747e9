//! Key bytes: locked in memory, left out of dumps, wiped on drop, never printed.
//!
//! [`Secret`] holds a fixed number of bytes in a page that is `mlock`ed and `MADV_DONTDUMP`ed,
//! [`SecretBytes`] a number known at run time only (private keys).
//! They are neither `Clone`, `Copy`, `Default` nor `Debug`; the bytes are reached by
//! `expose` alone, which is easy to find in a review.

mod arena;

use zeroize::Zeroizing;

/// A passphrase or another secret of variable length, wiped on drop.
pub type SecretText = Zeroizing<Vec<u8>>;

/// `N` secret bytes (at most [`arena::SHORT`]) in locked memory.
pub struct Secret<const N: usize> {
    slot: arena::Slot<{ arena::SHORT }>,
}

/// A 256-bit key.
pub type Key256 = Secret<32>;

impl<const N: usize> Secret<N> {
    /// Makes a secret whose bytes `fill` writes in place, so that no copy lies elsewhere.
    ///
    /// # Errors
    /// Whatever `fill` returns; the memory is wiped then.
    pub fn try_init<E>(fill: impl FnOnce(&mut [u8; N]) -> Result<(), E>) -> Result<Self, E> {
        let mut secret = Self {
            slot: arena::Slot::take(),
        };
        fill(secret.slot.first_mut())?;
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
        self.slot.first()
    }

    /// Compares in constant time.
    pub fn same_as(&self, other: &Self) -> bool {
        same_bytes(self.expose(), other.expose())
    }
}

/// Secret bytes of a length known at run time, at most [`SecretBytes::MAX`], in locked memory:
/// private keys in their encoded form, imported key material.
pub struct SecretBytes {
    slot: arena::Slot<{ arena::LONG }>,
    len: usize,
}

impl SecretBytes {
    /// The most bytes that one holds.
    pub const MAX: usize = arena::LONG;

    /// Copies bytes into locked memory; their owner wipes the source. `None` when there are more
    /// than [`SecretBytes::MAX`].
    pub fn copy_of(bytes: &[u8]) -> Option<Self> {
        Self::try_init(bytes.len(), |out| {
            out.copy_from_slice(bytes);
            Ok::<(), TooLong>(())
        })
        .ok()
    }

    /// Makes `len` bytes, which `fill` writes in place, so that no copy lies elsewhere.
    ///
    /// # Errors
    /// What `fill` returns; [`TooLong`] when they are more than [`SecretBytes::MAX`].
    pub fn try_init<E: From<TooLong>>(
        len: usize,
        fill: impl FnOnce(&mut [u8]) -> Result<(), E>,
    ) -> Result<Self, E> {
        let mut slot = arena::Slot::take();
        fill(slot.bytes_mut().get_mut(..len).ok_or(TooLong)?)?;
        Ok(Self { slot, len })
    }

    /// The bytes, for the one call that needs them.
    pub fn expose(&self) -> &[u8] {
        &self.slot.bytes()[..self.len]
    }

    /// Compares in constant time (the length is no secret).
    pub fn same_as(&self, other: &Self) -> bool {
        same_bytes(self.expose(), other.expose())
    }
}

/// More bytes than a [`SecretBytes`] holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a secret of more than {} bytes", SecretBytes::MAX)]
pub struct TooLong;

/// Compares in a time that depends on the lengths only.
pub fn same_bytes(a: &[u8], b: &[u8]) -> bool {
    let difference = a.iter().zip(b).fold(0u8, |d, (a, b)| d | (a ^ b));
    a.len() == b.len() && std::hint::black_box(difference) == 0
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
