//! Walks over a volume: rewrap, re-encrypt, fsck. Each can be stopped at any point and run again.

mod everywhere;
pub mod fsck;
mod record;
pub mod reencrypt;
pub mod rewrap;
mod select;

pub use everywhere::Failed;
pub use select::Exclude;

use crate::backing::Backing;
use crate::kms::RunId;
use crate::volume::{Volume, VolumeError};

/// Is told how far a walk is. Called from the threads that walk; must be quick.
pub trait Progress: Send + Sync {
    /// Another file is done; `files` and `bytes` so far.
    fn advanced(&self, files: u64, bytes: u64);
    /// The run has begun that this is about.
    fn began(&self, _run: &RunId) {}
    /// How many files there will be, about.
    fn expected(&self, _files: u64) {}
    /// Whether that is to be found out first: it is a walk of its own.
    fn wants_expected(&self) -> bool {
        true
    }
    /// Whether to stop before the next file.
    fn cancelled(&self) -> bool {
        false
    }
}

/// Tells how many files there will be, where somebody looks.
fn tell_expected<B: Backing>(
    volume: &Volume<B>,
    progress: &dyn Progress,
) -> Result<(), VolumeError> {
    if progress.wants_expected() {
        progress.expected(volume.count_files()?);
    }
    Ok(())
}

/// Says nothing.
pub struct Silent;

impl Progress for Silent {
    fn wants_expected(&self) -> bool {
        false
    }

    fn advanced(&self, _files: u64, _bytes: u64) {}
}

#[cfg(test)]
mod tests;
