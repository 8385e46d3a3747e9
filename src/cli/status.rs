//! `status`: the state of a volume, of a mount, or of all mounts.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::Serialize;

use super::args::StatusArgs;
use super::control::{self, MountStatus, Request};
use super::exit::Exit;
use super::job::Phase;
use super::output;
use super::progress::Bar;
use super::rewrap::threads;
use super::target::{self, Target};
use super::umount;
use crate::backing::Os;
use crate::format::NameEncoding;
use crate::fuse::mountpoint;
use crate::maintain::Progress;
use crate::volume::{Census, Holder, Material, Volume};

/// What can be told of a volume that is not mounted here, without a key.
#[derive(Debug, Serialize)]
struct VolumeOnDisk {
    mounted: bool,
    cipher_dir: String,
    volume_id: String,
    /// The CMKs that the volume's key is wrapped under: its own, and its recovery key.
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

/// A status with the census of its files.
#[derive(Debug, Serialize)]
struct Counted {
    #[serde(flatten)]
    status: Status,
    #[serde(skip_serializing_if = "Option::is_none")]
    census: Option<Shown>,
    /// Why there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    census_error: Option<String>,
}

/// A census, as JSON shows it. Key materials as KEY/MATERIAL, as in the report of a rewrap.
#[derive(Debug, Serialize)]
struct Shown {
    files: u64,
    empty: u64,
    unreadable: u64,
    files_by_material: BTreeMap<String, u64>,
    volume_keys: Vec<String>,
}

impl From<Census> for Shown {
    fn from(census: Census) -> Self {
        let by_material = census.by_material.into_iter();
        Self {
            files: census.files,
            empty: census.empty,
            unreadable: census.unreadable,
            files_by_material: by_material
                .map(|(material, files)| (material.to_string(), files))
                .collect(),
            volume_keys: census.volume_keys.iter().map(Material::to_string).collect(),
        }
    }
}

/// Shows the status.
pub fn run(args: &StatusArgs) -> Result<Exit> {
    let Some(path) = &args.target else {
        return all(args.json);
    };
    let (status, cipher_dir) = match target::resolve(path)? {
        Target::Mounted(point) => {
            let status: MountStatus = control::call(&point, &Request::Status)?;
            let cipher_dir = PathBuf::from(&status.cipher_dir);
            (Status::Mounted(Box::new(status)), cipher_dir)
        }
        Target::Unmounted(cipher_dir) => (Status::OnDisk(on_disk(&cipher_dir)?), cipher_dir),
    };
    let counted = (!args.no_census).then(|| count(&cipher_dir));
    let (census, census_error) = match counted.transpose() {
        Ok(census) => (census.map(Shown::from), None),
        // Who may ask the daemon may not be let into the cipher directory.
        Err(error) => (None, Some(output::error_line(&error))),
    };
    let counted = Counted {
        status,
        census,
        census_error,
    };
    if args.json {
        output::json(&counted)?;
    } else {
        let mut text = words(&counted.status);
        add_census(&mut text, &counted);
        output::text_out(&text)?;
    }
    Ok(Exit::Ok)
}

/// Takes the census of a cipher directory: past a daemon, if there is one, which is not held up by it.
fn count(cipher_dir: &Path) -> Result<Census> {
    let bar = Bar::new("counting");
    let backing = Os::open(cipher_dir).with_context(|| cipher_dir.display().to_string())?;
    Volume::census(&backing, threads(), &|files| {
        bar.advanced(files, 0);
        true
    })
    .map_err(|error| target::named(error, cipher_dir))
}

fn add_census(text: &mut String, counted: &Counted) {
    if let Some(error) = &counted.census_error {
        let _ = writeln!(text, "{:16} none: {error}", "census");
    }
    let Some(census) = &counted.census else {
        return;
    };
    let _ = write!(
        text,
        "{:16} {} files, {} of them empty",
        "census", census.files, census.empty
    );
    if census.unreadable > 0 {
        let _ = write!(text, "; {} unreadable", census.unreadable);
    }
    text.push_str("; by key and material:\n");
    for (material, files) in &census.files_by_material {
        let _ = writeln!(text, "  {material}  {files}");
    }
    for material in &census.volume_keys {
        let _ = writeln!(text, "  {material}  the volume's own key");
    }
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
            for (key, name) in volume.key_ids.iter().zip(["key", "recovery key"]) {
                row(name, key);
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
    if let (Some(key), Some(state)) = (&volume.recovery_key_id, &status.recovery_key_state) {
        row("recovery key", &format!("{key} ({state})"));
    }
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
        let by_itself = if job.automatic { " (by itself)" } else { "" };
        let task = if job.task.is_empty() {
            "rewrap"
        } else {
            &job.task
        };
        row(task, &format!("{phase}{by_itself}, {} files", job.files));
        if let Some(run) = &job.run_id {
            row("run", run);
        }
    }
}
