//! `inspect`: what a cipher file says about itself. Needs no key.

use std::fmt::Write;
use std::fs::File;
use std::io::Read;

use anyhow::{Context, Result};

use super::args::InspectArgs;
use super::exit::{Exit, failure};
use super::output;
use crate::format::PAGE;
use crate::volume::{Inspection, inspect};

/// Inspects.
pub fn run(args: &InspectArgs) -> Result<Exit> {
    let place = || args.file.display().to_string();
    // Looked at first: opening a FIFO would wait for its other end.
    if !std::fs::symlink_metadata(&args.file)
        .with_context(place)?
        .is_file()
    {
        return Err(failure(
            Exit::Failure,
            format!("{}: not a regular file", place()),
        ));
    }
    let file = File::open(&args.file).with_context(place)?;
    let size = file.metadata().with_context(place)?.len();
    let mut page = Vec::with_capacity(PAGE);
    file.take(PAGE as u64)
        .read_to_end(&mut page)
        .with_context(place)?;
    let inspection = inspect(&page, size).with_context(place)?;
    if args.json {
        output::json(&inspection)?;
    } else {
        output::text_out(&words(&inspection))?;
    }
    Ok(Exit::Ok)
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
