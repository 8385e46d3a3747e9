//! Opens a volume for a command.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};

use super::target::named;
use crate::backing::Os;
use crate::kms::KeySource;
use crate::volume::{Holder, JournalMode, OpenOptions, Volume, VolumeError};

/// What a volume said to an error.
fn cause(error: &anyhow::Error) -> Option<&VolumeError> {
    error.chain().find_map(|cause| cause.downcast_ref())
}

/// Whether an error says that the cipher directory is there for reading only.
pub fn only_readable(error: &anyhow::Error) -> bool {
    let errno = match cause(error) {
        Some(VolumeError::Io(error)) => error.raw_os_error(),
        _ => None,
    };
    matches!(errno, Some(libc::EROFS | libc::EACCES | libc::EPERM))
}

fn is_busy(error: &anyhow::Error) -> bool {
    matches!(cause(error), Some(VolumeError::Busy { .. }))
}

/// How a command opens a volume.
pub struct Opening<'a> {
    /// The cipher directory.
    pub cipher_dir: &'a Path,
    /// Whether it only reads.
    pub read_only: bool,
    /// What it does, for those who find the volume in use.
    pub purpose: &'a str,
    /// Where it mounts it.
    pub mountpoint: Option<&'a Path>,
    /// How long an open file goes on after its key was disabled; the volume's default if not given.
    pub key_ttl: Option<Duration>,
    /// Whether reading moves access times.
    pub access_times: bool,
    /// Whether writers are kept out although it only reads.
    pub exclusive: bool,
    /// What is done with overwritten blocks.
    pub journal: JournalMode,
}

impl<'a> Opening<'a> {
    /// A command that reads.
    pub fn reading(cipher_dir: &'a Path, purpose: &'a str) -> Self {
        Self {
            cipher_dir,
            read_only: true,
            purpose,
            mountpoint: None,
            key_ttl: None,
            access_times: false,
            exclusive: false,
            journal: JournalMode::default(),
        }
    }

    /// A command that writes.
    pub fn writing(cipher_dir: &'a Path, purpose: &'a str) -> Self {
        Self {
            read_only: false,
            ..Self::reading(cipher_dir, purpose)
        }
    }

    /// Opens a volume to count in it: with writers kept out, so that the count is a proof; where there
    /// are some, or where the directory can only be read, without.
    pub fn counting<S: KeySource + ?Sized>(
        cipher_dir: &'a Path,
        purpose: &'a str,
        keys: &Arc<S>,
    ) -> Result<Volume<Os>> {
        let mut opening = Self::reading(cipher_dir, purpose);
        opening.exclusive = true;
        match opening.open(Arc::clone(keys)) {
            Err(error) if only_readable(&error) || is_busy(&error) => {
                Self::reading(cipher_dir, purpose).open(Arc::clone(keys))
            }
            opened => opened,
        }
    }

    /// Opens the volume.
    pub fn open<S: KeySource + ?Sized>(&self, keys: Arc<S>) -> Result<Volume<Os>> {
        let place = || self.cipher_dir.display().to_string();
        let mut backing = Os::open(self.cipher_dir).with_context(place)?;
        if self.access_times {
            backing = backing.with_access_times();
        }
        let mut defaults = OpenOptions::default();
        let options = OpenOptions {
            read_only: self.read_only,
            key_ttl: self.key_ttl.unwrap_or(defaults.key_ttl),
            holder: Holder {
                purpose: self.purpose.to_owned(),
                mountpoint: self
                    .mountpoint
                    .map(|path| path.to_string_lossy().into_owned()),
                ..std::mem::take(&mut defaults.holder)
            },
            exclusive: self.exclusive,
            journal: self.journal,
            ..defaults
        };
        Volume::open(backing, keys, options).map_err(|error| named(error, self.cipher_dir))
    }
}
