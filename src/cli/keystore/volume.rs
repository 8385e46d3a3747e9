//! `keystore volume`: the volumes whose keys come from a keystore.

use std::fmt::Write;

use anyhow::Result;
use clap::{Args, Subcommand};
use serde::Serialize;

use super::super::exit::usage;
use super::super::kms::local_caller;
use super::super::output;
use crate::format::VolumeId;
use crate::kms::{CensusEntry, Kms, RegisteredVolume};

/// What can be done with registered volumes.
#[derive(Debug, Subcommand)]
pub enum VolumeCommand {
    /// List the volumes whose keys come from this keystore: where they were seen, what they need
    ///
    /// A volume is known by its making, by every opening, and by each count of its files: `envelopefs
    /// rewrap`, with or without --dry-run, writes down what is wrapped under which key material. Copies
    /// of a volume in several directories are listed each.
    List(ListArgs),
    /// Forget a volume that is no more: what it needs may be destroyed from then on
    ///
    /// It is known again when it is opened.
    Forget(ForgetArgs),
}

/// `list`
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Answer in JSON
    #[arg(long)]
    json: bool,
}

/// `forget`
#[derive(Debug, Args)]
pub struct ForgetArgs {
    /// The volume's id
    #[arg(value_name = "VOLUME-ID")]
    volume: String,

    /// Only in this cipher directory, as it is listed; everywhere unless given
    #[arg(long, value_name = "CIPHERDIR")]
    place: Option<String>,

    /// Answer in JSON
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct VolumeJson {
    volume_id: String,
    cipher_dir: Option<String>,
    seen: Option<String>,
    counted: Option<String>,
    key_ids: Vec<String>,
    counts: Vec<CountJson>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct CountJson {
    key_id: String,
    /// The start of it.
    key_material_id: String,
    files: u64,
    volume_key: bool,
}

fn material(count: &CensusEntry) -> String {
    format!("{:016x}", u64::from_be_bytes(count.material))
}

impl From<&RegisteredVolume> for VolumeJson {
    fn from(volume: &RegisteredVolume) -> Self {
        let count = |count: &CensusEntry| CountJson {
            key_id: count.key.to_string(),
            key_material_id: material(count),
            files: count.files,
            volume_key: count.volume_key,
        };
        Self {
            volume_id: volume.volume.to_string(),
            cipher_dir: volume.place.clone(),
            seen: volume.seen.map(|time| time.to_string()),
            counted: volume.counted.map(|time| time.to_string()),
            key_ids: volume.keys.iter().map(ToString::to_string).collect(),
            counts: volume.counts.iter().map(count).collect(),
        }
    }
}

/// Runs a command.
pub fn run(command: VolumeCommand, kms: &Kms) -> Result<()> {
    match command {
        VolumeCommand::List(args) => list(&args, kms),
        VolumeCommand::Forget(args) => forget(&args, kms),
    }
}

fn list(args: &ListArgs, kms: &Kms) -> Result<()> {
    let volumes = kms.registered_volumes()?;
    if args.json {
        return output::json(&volumes.iter().map(VolumeJson::from).collect::<Vec<_>>());
    }
    output::text_out(&volumes.iter().map(words).collect::<String>())
}

fn words(volume: &RegisteredVolume) -> String {
    let place = match &volume.place {
        Some(place) => output::printable(place.as_bytes()),
        None => "(not known where)".to_owned(),
    };
    let mut text = format!("{}  {place}\n", volume.volume);
    // Writing to a String does not fail.
    if let Some(seen) = &volume.seen {
        let _ = writeln!(text, "  seen     {seen}");
    }
    match &volume.counted {
        Some(counted) => {
            let _ = writeln!(text, "  counted  {counted}");
        }
        None => text.push_str("  counted  never: all materials of its keys are needed\n"),
    }
    for key in &volume.keys {
        let _ = writeln!(text, "  uses     {key}");
    }
    for count in &volume.counts {
        let own = if count.volume_key {
            ", the volume's own key"
        } else {
            ""
        };
        let material = material(count);
        let _ = writeln!(
            text,
            "  needs    {}/{material}: {} files{own}",
            count.key, count.files
        );
    }
    text
}

fn forget(args: &ForgetArgs, kms: &Kms) -> Result<()> {
    let volume: VolumeId = args.volume.parse().map_err(|_| {
        usage(format!(
            "'{}' is no volume id; `envelopefs keystore volume list` shows them",
            args.volume
        ))
    })?;
    let caller = local_caller(kms)?;
    let places = kms.forget_volume(&caller, &volume, args.place.as_deref())?;
    if args.json {
        return output::json(
            &serde_json::json!({ "volumeId": volume.to_string(), "places": places }),
        );
    }
    output::text_out(&format!("Forgot volume {volume}.\n"))
}
