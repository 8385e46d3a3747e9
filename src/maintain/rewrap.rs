//! Rewrap: every data key of a volume wrapped anew under the current material of a CMK. Content is
//! never touched; a file is readable at every moment; running it again does what is left.

use std::collections::{BTreeMap, HashSet};

use serde::{Deserialize, Serialize};

use super::Progress;
use crate::backing::{Backing, Kind};
use crate::format::blob::BlobHeader;
use crate::kms::KeyId;
use crate::volume::{Met, Rewrapped, Volume, VolumeError};

/// What to do.
#[derive(Clone, Default)]
pub struct RewrapOptions {
    /// Move to this CMK; None: the one that each key is under.
    pub to_key: Option<KeyId>,
    /// Only count.
    pub dry_run: bool,
}

/// What was done.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RewrapReport {
    /// Whether this was a dry run: then `rewrapped` counts what would be.
    pub dry_run: bool,
    /// Regular files seen, each inode once.
    pub files: u64,
    /// Files without a key, since they are empty.
    pub empty: u64,
    /// Wrapped anew.
    pub rewrapped: u64,
    /// Under the current material already.
    pub current: u64,
    /// Whether the volume key was wrapped anew.
    pub volume_key: bool,
    /// Files that could not be rewrapped, and why.
    pub failed: Vec<Failed>,
    /// Files by CMK and start of the key material's id, as they were before: "KEY/MATERIAL".
    pub before: BTreeMap<String, u64>,
}

/// A file that could not be rewrapped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failed {
    /// Its path in the volume.
    pub path: String,
    /// Why.
    pub why: String,
}

/// Rewraps a volume.
///
/// # Errors
/// When the volume key can't be rewrapped or the tree can't be walked. A file that fails is in the
/// report, and the walk goes on.
pub fn run<B: Backing>(
    volume: &Volume<B>,
    options: &RewrapOptions,
    progress: &dyn Progress,
) -> Result<RewrapReport, VolumeError> {
    let to = options.to_key.unwrap_or_else(|| volume.volume_key_id());
    let mut report = RewrapReport {
        dry_run: options.dry_run,
        ..RewrapReport::default()
    };
    if !options.dry_run {
        // First, so that files made meanwhile are under the right key from the start.
        report.volume_key = volume.rewrap_volume_key(&to)?;
    }
    let mut links = HashSet::new();
    let mut stopped = false;
    volume.walk(&mut |met| {
        if stopped || progress.cancelled() {
            stopped = true;
            return Ok(());
        }
        let entry = match met {
            Met::Entry(entry) => entry,
            Met::Unreadable(path, error) => {
                report.failed.push(failed(path, &error));
                return Ok(());
            }
        };
        if entry.stat.kind() != Some(Kind::File)
            || (entry.stat.nlink > 1 && !links.insert(entry.stat.ino))
        {
            return Ok(());
        }
        report.files += 1;
        let census = volume.wrapped_keys(entry.dir, entry.stored).map(|keys| {
            for key in keys.iter().flatten() {
                if let Ok(header) = BlobHeader::parse(&key.blob) {
                    let key = KeyId::new(header.key_id, header.multi_region);
                    let material = u64::from_be_bytes(header.material);
                    let name = format!("{key}/{material:016x}");
                    *report.before.entry(name).or_default() += 1;
                }
            }
        });
        let done = census.and_then(|()| {
            volume.rewrap_file(entry.dir, entry.stored, &entry.stat, &to, options.dry_run)
        });
        match done {
            Ok(Rewrapped::NoKey) => report.empty += 1,
            Ok(Rewrapped::Already) => report.current += 1,
            Ok(Rewrapped::Done) => report.rewrapped += 1,
            // Removed since it was listed.
            Err(VolumeError::NotFound) => report.files -= 1,
            Err(error) => report.failed.push(failed(entry.path, &error)),
        }
        progress.advanced(report.files, 0);
        Ok(())
    })?;
    if report.rewrapped > 0 && !options.dry_run {
        volume.backing().sync_all()?;
    }
    Ok(report)
}

fn failed(path: &[u8], error: &VolumeError) -> Failed {
    Failed {
        path: String::from_utf8_lossy(path).into_owned(),
        why: error.to_string(),
    }
}
