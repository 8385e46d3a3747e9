//! `fsck`: reads and verifies everything in a volume.

use std::fmt::Write;
use std::sync::Arc;

use anyhow::Result;

use super::args::FsckArgs;
use super::exit::{Exit, failure};
use super::open::Opening;
use super::output;
use super::progress::Bar;
use super::target::{self, Target};
use super::unlock::{self, KeystoreArgs};
use crate::kms::Kms;
use crate::maintain::fsck::{self, Damage, FsckReport};
use crate::volume::VolumeError;

/// Verifies.
pub fn run(args: &FsckArgs, keystore: &KeystoreArgs) -> Result<Exit> {
    let cipher_dir = match target::resolve(&args.cipher_dir)? {
        Target::Unmounted(cipher_dir) => cipher_dir,
        Target::Mounted(mountpoint) => {
            let message = format!(
                "the volume is mounted at {}; unmount it first: files that change while they are \
                 read look damaged",
                mountpoint.display()
            );
            return Err(failure(Exit::Busy, message));
        }
    };
    let report = check(&cipher_dir, Arc::new(unlock::open(keystore)?))?;
    if args.json {
        output::json(&report)?;
    } else {
        output::text_out(&words(&report))?;
    }
    Ok(if report.is_clean() {
        Exit::Ok
    } else {
        Exit::Damage
    })
}

fn check(cipher_dir: &std::path::Path, kms: Arc<Kms>) -> Result<FsckReport> {
    // With the lock, so that nobody mounts it meanwhile; without, where it can only be read.
    let volume = match Opening::writing(cipher_dir, "fsck").open(Arc::clone(&kms)) {
        Err(error) if only_readable(&error) => Opening::reading(cipher_dir, "fsck").open(kms)?,
        opened => opened?,
    };
    let report = fsck::run(&volume, &Bar::new("checking"))?;
    volume.close()?;
    Ok(report)
}

/// Whether an error says that the cipher directory is there for reading only.
fn only_readable(error: &anyhow::Error) -> bool {
    let errno = error
        .chain()
        .find_map(|cause| match cause.downcast_ref::<VolumeError>() {
            Some(VolumeError::Io(error)) => error.raw_os_error(),
            _ => None,
        });
    matches!(errno, Some(libc::EROFS | libc::EACCES | libc::EPERM))
}

fn words(report: &FsckReport) -> String {
    let mut text = String::new();
    for damage in &report.damaged {
        text.push_str(&line(damage));
    }
    let verdict = match report.damaged.len() {
        0 => "clean".to_owned(),
        1 => "1 damaged place".to_owned(),
        count => format!("{count} damaged places"),
    };
    let _ = writeln!(
        text,
        "{verdict}: {} files, {} directories, {} symlinks, {} others, {} extended attributes, \
         {} read",
        report.files,
        report.directories,
        report.symlinks,
        report.others,
        report.xattrs,
        output::human_bytes(report.bytes)
    );
    text
}

fn line(damage: &Damage) -> String {
    let path = output::printable(damage.path.as_bytes());
    match damage.block {
        Some(block) => format!("{path}: block {block}: {}\n", damage.why),
        None => format!("{path}: {}\n", damage.why),
    }
}

#[cfg(test)]
mod tests;
