//! `rewrap`: wraps every data key of a volume anew.

use std::fmt::Write;
use std::num::NonZeroU32;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::args::RewrapArgs;
use super::control::{self, Request};
use super::exit::{Exit, failure};
use super::open::Opening;
use super::output;
use super::progress::Bar;
use super::target::{self, Target};
use super::unlock::{self, KeystoreArgs};
use crate::backing::Os;
use crate::kms::{KeyId, KeyRef, KmsError, WithOlder};
use crate::maintain::rewrap::{self, RewrapOptions, RewrapReport};
use crate::maintain::{Exclude, Progress};
use crate::volume::Volume;

/// Rewraps.
pub fn run(args: &RewrapArgs, keystore: &KeystoreArgs) -> Result<Exit> {
    let bar = Bar::new("rewrapping");
    let report = match target::resolve(&args.target)? {
        Target::Mounted(mountpoint) if args.from_keystore.is_some() => {
            let message = format!(
                "the volume is mounted at {}; unmount it first: --from-keystore is for a volume that \
                 nobody uses",
                mountpoint.display()
            );
            return Err(failure(Exit::Busy, message));
        }
        Target::Mounted(mountpoint) => by_daemon(&mountpoint, args, &bar)?,
        Target::Unmounted(cipher_dir) => by_ourselves(&cipher_dir, args, keystore, &bar)?,
    };
    drop(bar);
    if args.json {
        output::json(&report)?;
    } else {
        output::text_out(&words(&report))?;
    }
    for failed in &report.failed {
        eprintln!("envelopefs: {}: {}", failed.path, failed.why);
    }
    // Their data keys are where they were: what can be read now can be read on.
    Ok(if report.failed.is_empty() {
        Exit::Ok
    } else {
        Exit::Failure
    })
}

fn by_ourselves(
    cipher_dir: &Path,
    args: &RewrapArgs,
    keystore: &KeystoreArgs,
    progress: &dyn Progress,
) -> Result<RewrapReport> {
    let kms = Arc::new(unlock::open(keystore)?);
    let volume = match &args.from_keystore {
        None if args.dry_run => Opening::counting(cipher_dir, "rewrap", &kms)?,
        None => Opening::writing(cipher_dir, "rewrap").open(kms)?,
        Some(path) => {
            let older = KeystoreArgs {
                keystore: Some(path.clone()),
                passphrase_file: args
                    .from_passphrase_file
                    .clone()
                    .or(keystore.passphrase_file.clone()),
                key_file: args.from_key_file.clone().or(keystore.key_file.clone()),
            };
            let older = Arc::new(unlock::open_older(&older)?);
            let keys = Arc::new(WithOlder::new(kms, older));
            Opening::writing(cipher_dir, "rewrap").open(keys)?
        }
    };
    let mut options = Wanted::of(args, Vec::new()).options(&volume)?;
    options.paths = args
        .paths
        .iter()
        .map(|path| path.as_os_str().as_bytes().to_vec())
        .collect();
    let report = rewrap::run(&volume, &options, progress)?;
    volume.close()?;
    Ok(report)
}

fn by_daemon(
    mountpoint: &Path,
    args: &RewrapArgs,
    progress: &dyn Progress,
) -> Result<RewrapReport> {
    let paths = args.paths.iter().map(|path| inside(mountpoint, path));
    let request = Request::Rewrap(Wanted::of(args, paths.collect::<Result<_>>()?));
    control::follow(mountpoint, &request, progress)
}

/// A path in the volume, for its daemon. What begins with the mount point is meant as it stands there.
pub(super) fn inside(mountpoint: &Path, path: &Path) -> Result<String> {
    let path = path.strip_prefix(mountpoint).unwrap_or(path);
    path.to_str().map(str::to_owned).ok_or_else(|| {
        let message = format!(
            "{}: the daemon takes paths in UTF-8 only; name a directory above it, or unmount first",
            path.display()
        );
        failure(Exit::NotSupported, message)
    })
}

/// What is asked for, as it goes to the daemon of a mount. Keys by id, ARN or alias.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Wanted {
    /// The CMK to move to; the volume's own when not given.
    pub to_key: Option<String>,
    /// Count only.
    pub dry_run: bool,
    /// Nothing when a count finds that nothing is to be done.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub if_needed: bool,
    /// Files a second at the most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_rate: Option<NonZeroU32>,
    /// Wrap everything under this CMK, too.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub add_recovery_key: Option<String>,
    /// Wrap nothing under this one any more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remove_recovery_key: Option<String>,
    /// Paths in the volume; everything when there is none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub paths: Vec<String>,
    /// Patterns of what is left out.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub exclude: Vec<String>,
}

impl Wanted {
    fn of(args: &RewrapArgs, paths: Vec<String>) -> Self {
        Self {
            paths,
            exclude: args.exclude.clone(),
            to_key: args.to_key.clone(),
            dry_run: args.dry_run,
            if_needed: args.if_needed,
            max_rate: args.max_rate,
            add_recovery_key: args.add_recovery_key.clone(),
            remove_recovery_key: args.remove_recovery_key.clone(),
        }
    }

    /// What that means for an open volume.
    ///
    /// # Errors
    /// When there is no such key.
    pub fn options(&self, volume: &Volume<Os>) -> Result<RewrapOptions> {
        let keys = volume.key_source();
        let key = |name: &Option<String>| -> Result<Option<KeyId>> {
            let name = name
                .as_ref()
                .map(|name| name.parse::<KeyRef>())
                .transpose()?;
            Ok(name.map(|name| keys.resolve(&name)).transpose()?)
        };
        let removed = |name: &String| -> Result<KeyId> {
            let name = name.parse::<KeyRef>()?;
            match (keys.resolve(&name), name.id()) {
                // It may be gone.
                (Err(KmsError::NotFound(_)), Some(id)) => Ok(id),
                (resolved, _) => Ok(resolved?),
            }
        };
        Ok(RewrapOptions {
            to_key: key(&self.to_key)?,
            add_recovery_key: key(&self.add_recovery_key)?,
            remove_recovery_key: self.remove_recovery_key.as_ref().map(removed).transpose()?,
            dry_run: self.dry_run,
            if_needed: self.if_needed,
            paths: self
                .paths
                .iter()
                .map(|path| path.as_bytes().to_vec())
                .collect(),
            exclude: Exclude::new(&self.exclude),
            threads: threads(),
            max_rate: self.max_rate,
        })
    }
}

/// How many threads a walk gets: one a processor, up to eight.
pub(super) fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, |cpus| cpus.get().min(8))
}

fn words(report: &RewrapReport) -> String {
    let (did, already) = if report.dry_run {
        ("would be wrapped anew", "are")
    } else {
        ("wrapped anew", "were")
    };
    let mut text = format!(
        "{} files: {} {did}, {} {already} current, {} empty, {} failed\n",
        report.files,
        report.rewrapped,
        report.current,
        report.empty,
        report.failed.len()
    );
    if report.complete {
        text.push_str("no file needs older key material any more\n");
    }
    if report.limited {
        text.push_str(
            "limited: other files, and the volume's own key, may need older key material\n",
        );
    }
    if report.volume_key {
        let _ = writeln!(
            text,
            "the volume's own key {}",
            if report.dry_run {
                did
            } else {
                "was wrapped anew"
            }
        );
    }
    if let Some(key) = &report.recovery_key {
        let _ = writeln!(text, "recovery key: {key}");
    }
    if report.cleared > 0 {
        let _ = writeln!(
            text,
            "{} files: a wrapping under another key was taken out of the older envelope slot",
            report.cleared
        );
    }
    let _ = writeln!(text, "run {}", report.run_id);
    text.push_str("before, by key and material:\n");
    for (key, count) in &report.before {
        let _ = writeln!(text, "  {key}  {count}");
    }
    for key in &report.volume_keys_before {
        let _ = writeln!(text, "  {key}  the volume's own key");
    }
    text
}
