//! `inspect`: what a cipher file says about itself. Needs no key.

use std::fmt::Write;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::{DirEntryExt, MetadataExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::args::InspectArgs;
use super::control::{self, MountStatus, Request};
use super::exit::{Exit, failure};
use super::{output, umount};
use crate::format::PAGE;
use crate::fuse::mountpoint;
use crate::volume::{Inspection, inspect};

/// Inspects.
pub fn run(args: &InspectArgs) -> Result<Exit> {
    let inspection = inspection(&args.file)?;
    if args.json {
        output::json(&inspection)?;
    } else {
        output::text_out(&words(&inspection))?;
    }
    Ok(Exit::Ok)
}

/// What a cipher file says about itself.
fn inspection(path: &Path) -> Result<Inspection> {
    let place = || path.display().to_string();
    // Looked at first: opening a FIFO would wait for its other end.
    if !std::fs::symlink_metadata(path)
        .with_context(place)?
        .is_file()
    {
        return Err(failure(
            Exit::Failure,
            format!("{}: not a regular file", place()),
        ));
    }
    let file = File::open(path).with_context(place)?;
    let size = file.metadata().with_context(place)?.len();
    let mut page = Vec::with_capacity(PAGE);
    file.take(PAGE as u64)
        .read_to_end(&mut page)
        .with_context(place)?;
    inspect(&page, size).with_context(place)
}

/// The id of a file: of a cipher file, or of a file in a mount, whose cipher file has its inode.
pub fn file_id(path: &Path) -> Result<String> {
    let cipher_file = match cipher_dir_behind(path)? {
        None => path.to_owned(),
        Some(cipher_dir) => {
            let inode = std::fs::metadata(path)
                .with_context(|| path.display().to_string())?
                .ino();
            with_inode(&cipher_dir, inode)?.ok_or_else(|| {
                let place = cipher_dir.display();
                failure(
                    Exit::Failure,
                    format!("{}: not found in {place}", path.display()),
                )
            })?
        }
    };
    let id = inspection(&cipher_file)?.file_id;
    id.ok_or_else(|| {
        let message = format!("{}: an empty file has no id yet", path.display());
        failure(Exit::Failure, message)
    })
}

/// The cipher directory of the mount that a path lies in.
fn cipher_dir_behind(path: &Path) -> Result<Option<PathBuf>> {
    let full = path
        .canonicalize()
        .with_context(|| path.display().to_string())?;
    for folder in full.ancestors().skip(1) {
        if let Some(entry) = mountpoint::find(folder)? {
            if !umount::is_ours(&entry, folder) {
                return Ok(None);
            }
            let status: MountStatus = control::call(folder, &Request::Status)?;
            return Ok(Some(status.cipher_dir.into()));
        }
    }
    Ok(None)
}

/// The file of an inode below a directory.
fn with_inode(dir: &Path, inode: u64) -> Result<Option<PathBuf>> {
    let mut todo = vec![dir.to_owned()];
    while let Some(dir) = todo.pop() {
        let entries = std::fs::read_dir(&dir).with_context(|| dir.display().to_string())?;
        for entry in entries {
            let entry = entry.with_context(|| dir.display().to_string())?;
            let kind = entry
                .file_type()
                .with_context(|| dir.display().to_string())?;
            if kind.is_file() && entry.ino() == inode {
                return Ok(Some(entry.path()));
            }
            if kind.is_dir() {
                todo.push(entry.path());
            }
        }
    }
    Ok(None)
}

fn words(inspection: &Inspection) -> String {
    let mut text = String::new();
    let mut row = |name: &str, value: &str| {
        let _ = writeln!(text, "{name:12} {value}");
    };
    if let Some(format) = inspection.format {
        row("format", &format.to_string());
    }
    if let Some(suite) = &inspection.suite {
        row("suite", suite);
    }
    if let Some(file_id) = &inspection.file_id {
        row("file id", file_id);
    }
    row("layout", &inspection.layout);
    row(
        "size",
        &format!("{} bytes in {} blocks", inspection.size, inspection.blocks),
    );
    row("cipher size", &format!("{} bytes", inspection.cipher_size));
    for slot in &inspection.slots {
        let in_use = if slot.newest { ", in use" } else { "" };
        let name = format!("slot {}", slot.slot);
        row(&name, &format!("generation {}{in_use}", slot.generation));
        for key in &slot.keys {
            let value = format!(
                "{} data key {}: key {}, material {}..., {} bytes",
                key.role, key.key_generation, key.key_id, key.key_material, key.bytes
            );
            row("", &value);
        }
    }
    text
}
