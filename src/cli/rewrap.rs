//! `rewrap`: wraps every data key of a volume anew.

use std::fmt::Write;
use std::path::Path;
use std::sync::Arc;

use anyhow::Result;

use super::args::RewrapArgs;
use super::control::{self, Request};
use super::exit::{Exit, failure};
use super::open::Opening;
use super::output;
use super::progress::Bar;
use super::target::{self, Target};
use super::unlock::{self, KeystoreArgs};
use crate::kms::{KeyRef, WithOlder};
use crate::maintain::Progress;
use crate::maintain::rewrap::{self, RewrapOptions, RewrapReport};

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
    let to_key = match &args.to_key {
        Some(name) => Some(kms.resolve(&name.parse::<KeyRef>()?)?),
        None => None,
    };
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
    let options = RewrapOptions {
        to_key,
        dry_run: args.dry_run,
        threads: threads(),
        max_rate: args.max_rate,
    };
    let report = rewrap::run(&volume, &options, progress)?;
    volume.close()?;
    Ok(report)
}

fn by_daemon(
    mountpoint: &Path,
    args: &RewrapArgs,
    progress: &dyn Progress,
) -> Result<RewrapReport> {
    let request = Request::Rewrap {
        to_key: args.to_key.clone(),
        dry_run: args.dry_run,
        max_rate: args.max_rate,
    };
    control::follow(mountpoint, &request, progress)
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
    if report.volume_key {
        text.push_str("the volume's own key was wrapped anew\n");
    }
    let _ = writeln!(text, "run {}", report.run_id);
    if !report.before.is_empty() {
        text.push_str("before, by key and material:\n");
        for (key, count) in &report.before {
            let _ = writeln!(text, "  {key}  {count}");
        }
    }
    text
}
