//! `re-encrypt`: gives files new data keys.

use std::fmt::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Result;
use indicatif::{HumanBytes, HumanCount};

use super::args::ReEncryptArgs;
use super::control::{self, Request};
use super::exit::Exit;
use super::open::Opening;
use super::output;
use super::progress::Bar;
use super::rewrap::{inside, threads};
use super::target::{self, Target};
use super::unlock::{self, KeystoreArgs};
use crate::maintain::reencrypt::{self, ReencryptOptions, ReencryptReport};
use crate::maintain::{Exclude, Progress};

/// Re-encrypts.
pub fn run(args: &ReEncryptArgs, keystore: &KeystoreArgs) -> Result<Exit> {
    let bar = Bar::new("re-encrypting");
    let report = match target::resolve(&args.target)? {
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
    Ok(if report.complete {
        Exit::Ok
    } else {
        Exit::Failure
    })
}

fn by_ourselves(
    cipher_dir: &Path,
    args: &ReEncryptArgs,
    keystore: &KeystoreArgs,
    progress: &dyn Progress,
) -> Result<ReencryptReport> {
    let kms = Arc::new(unlock::open(keystore)?);
    let volume = Opening::writing(cipher_dir, "re-encrypt").open(kms)?;
    let path_bytes = |path: &PathBuf| path.as_os_str().as_bytes().to_vec();
    let options = ReencryptOptions {
        paths: args.paths.iter().map(path_bytes).collect(),
        exclude: Exclude::new(&args.exclude),
        resume: args.resume,
        threads: threads(),
        max_rate: args.max_rate,
    };
    let report = reencrypt::run(&volume, &options, progress)?;
    volume.close()?;
    Ok(report)
}

/// The volume is mounted: its daemon does it.
fn by_daemon(
    mountpoint: &Path,
    args: &ReEncryptArgs,
    progress: &dyn Progress,
) -> Result<ReencryptReport> {
    let paths = args.paths.iter().map(|path| inside(mountpoint, path));
    let request = Request::ReEncrypt {
        paths: paths.collect::<Result<_>>()?,
        exclude: args.exclude.clone(),
        resume: args.resume,
        max_rate: args.max_rate,
    };
    control::follow(mountpoint, &request, progress)
}

fn words(report: &ReencryptReport) -> String {
    let mut text = format!(
        "{} files: {} with a new data key ({} of them begun earlier), {} left alone, {} empty, {} failed\n\
         {} blocks ({}) encrypted anew\n",
        HumanCount(report.files),
        report.reencrypted,
        report.resumed,
        report.skipped,
        report.empty,
        report.failed.len(),
        HumanCount(report.blocks),
        HumanBytes(report.bytes),
    );
    text.push_str(if report.complete {
        "no file needs its old data key any more\n"
    } else {
        "some files still need their old data key: run it again, with --resume\n"
    });
    // Writing to a String does not fail.
    let _ = writeln!(text, "run {}", report.run_id);
    text
}
