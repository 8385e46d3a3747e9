//! `status`: the state of a volume, of a mount, or of all mounts.

use std::fmt::Write;
use std::path::Path;

use anyhow::{Context, Result};
use serde::Serialize;

use super::args::StatusArgs;
use super::control::{self, MountStatus, Request};
use super::exit::Exit;
use super::job::Phase;
use super::output;
use super::target::{self, Target};
use super::umount;
use crate::backing::Os;
use crate::format::NameEncoding;
use crate::fuse::mountpoint;
use crate::volume::{Holder, Volume};

/// What can be told of a volume that is not mounted here, without a key.
#[derive(Debug, Serialize)]
struct VolumeOnDisk {
    mounted: bool,
    cipher_dir: String,
    volume_id: String,
    /// The CMKs that the volume's key is wrapped under; new files are under the first.
    key_ids: Vec<String>,
    names: &'static str,
    /// Seconds since 1970.
    created: i64,
    /// Who has it open for writing.
    holder: Option<Holder>,
}

/// A mount that could not be asked.
#[derive(Debug, Serialize)]
struct Silent {
    mounted: bool,
    mountpoint: String,
    error: String,
}

/// One of the three, as JSON shows it.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Status {
    Mounted(Box<MountStatus>),
    OnDisk(VolumeOnDisk),
    Silent(Silent),
}

/// Shows the status.
pub fn run(args: &StatusArgs) -> Result<Exit> {
    let Some(path) = &args.target else {
        return all(args.json);
    };
    let status = match target::resolve(path)? {
        Target::Mounted(point) => {
            Status::Mounted(Box::new(control::call(&point, &Request::Status)?))
        }
        Target::Unmounted(cipher_dir) => Status::OnDisk(on_disk(&cipher_dir)?),
    };
    if args.json {
        output::json(&status)?;
    } else {
        output::text_out(&words(&status))?;
    }
    Ok(Exit::Ok)
}

fn all(json: bool) -> Result<Exit> {
    let table = mountpoint::table().context("reading the table of mounts")?;
    let ours = table
        .iter()
        .filter(|entry| umount::is_ours(entry, &entry.point));
    let statuses: Vec<Status> = ours
        .map(
            |entry| match control::call(&entry.point, &Request::Status) {
                Ok(status) => Status::Mounted(Box::new(status)),
                Err(error) => Status::Silent(Silent {
                    mounted: true,
                    mountpoint: entry.point.to_string_lossy().into_owned(),
                    error: output::error_line(&error),
                }),
            },
        )
        .collect();
    if json {
        output::json(&statuses)?;
    } else {
        let texts: Vec<String> = statuses.iter().map(words).collect();
        output::text_out(&texts.join("\n"))?;
    }
    Ok(Exit::Ok)
}

fn on_disk(cipher_dir: &Path) -> Result<VolumeOnDisk> {
    let backing = Os::open(cipher_dir).with_context(|| cipher_dir.display().to_string())?;
    let record = Volume::peek(&backing).map_err(|error| target::named(error, cipher_dir))?;
    let key_ids = record
        .volume_keys
        .iter()
        .map(|blob| Volume::<Os>::key_of(blob));
    Ok(VolumeOnDisk {
        mounted: false,
        cipher_dir: cipher_dir.to_string_lossy().into_owned(),
        volume_id: record.volume_id.to_string(),
        key_ids: key_ids
            .map(|id| id.map(|id| id.to_string()))
            .collect::<Result<_, _>>()
            .map_err(|error| target::named(error, cipher_dir))?,
        names: match record.names {
            NameEncoding::Encrypted => "encrypted",
            NameEncoding::Plain => "plain",
        },
        created: record.created,
        holder: target::holder(cipher_dir)?,
    })
}

fn words(status: &Status) -> String {
    let mut text = String::new();
    let mut row = |name: &str, value: &dyn std::fmt::Display| {
        let _ = writeln!(text, "{name:16} {value}");
    };
    match status {
        Status::Mounted(status) => mounted(status, &mut row),
        Status::OnDisk(volume) => {
            row("volume", &volume.volume_id);
            row("cipher directory", &volume.cipher_dir);
            row("mounted", &"no");
            for key in &volume.key_ids {
                row("key", key);
            }
            row("names", &volume.names);
            if let Some(holder) = &volume.holder {
                row("in use by", holder);
            }
        }
        Status::Silent(silent) => {
            row("mounted at", &silent.mountpoint);
            row("no answer", &silent.error);
        }
    }
    text
}

fn mounted(status: &MountStatus, row: &mut dyn FnMut(&str, &dyn std::fmt::Display)) {
    let volume = &status.volume;
    row("volume", &volume.volume_id);
    row("cipher directory", &status.cipher_dir);
    row("mounted at", &status.mountpoint);
    row(
        "access",
        if volume.read_only {
            &"read only"
        } else {
            &"read and write"
        },
    );
    row("daemon", &status.pid);
    row("keystore", &status.keystore);
    row("key", &volume.key_id);
    row("key state", &status.key_state);
    row("names", &volume.names);
    row(
        "last unmount",
        if volume.clean { &"clean" } else { &"not clean" },
    );
    row("open files", &volume.open_files);
    row("hidden names", &volume.hidden_names);
    row("damaged blocks", &volume.damaged_blocks);
    row(
        "keys in memory",
        if volume.keys_locked {
            &"locked"
        } else {
            &"not all locked"
        },
    );
    if let Some(job) = &status.job {
        let phase = match job.phase {
            Phase::Running => "under way",
            Phase::Done => "done",
            Phase::Stopped => "stopped",
            Phase::Failed => "failed",
        };
        row("rewrap", &format!("{phase}, {} files", job.files));
        if let Some(run) = &job.run_id {
            row("run", run);
        }
    }
}
