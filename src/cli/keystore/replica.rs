//! `keystore replica`: multi-Region keys on their way between keystores.

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::{Args, Subcommand};

use super::super::exit::usage;
use super::super::kms::local_caller;
use super::super::output;
use crate::kms::{KeyRef, Kms, StoreKey};

/// The most bytes that an exported replica has.
const MOST: u64 = 16 << 20;

/// What can be done with replicas.
#[derive(Debug, Subcommand)]
pub enum ReplicaCommand {
    /// Show this keystore's public key, for the keystore that exports to it
    ///
    /// Compare it with the other side by a way that you trust: who can put another key in its place
    /// can read the replica.
    PublicKey(PublicKeyArgs),
    /// Export a replica of a multi-Region key for one other keystore
    ///
    /// What is written can be read by that keystore alone. Export again after a rotation of the
    /// primary key: importing it brings the replica up to date.
    Export(ExportArgs),
    /// Import a replica that another keystore exported for this one
    ///
    /// The key has the id and the key material of the primary, in this keystore's Region, with a key
    /// policy, aliases, tags and grants of its own. When the primary is lost, `envelopefs kms
    /// update-primary-region` with this Region makes the replica the primary.
    Import(ImportArgs),
}

/// `public-key`
#[derive(Debug, Args)]
pub struct PublicKeyArgs {
    /// Answer in JSON
    #[arg(long)]
    json: bool,
}

/// `export`
#[derive(Debug, Args)]
pub struct ExportArgs {
    /// The primary key: its id (mrk-...) or ARN
    #[arg(long, value_name = "KEY")]
    key_id: String,

    /// The public key of the keystore that the replica is for
    #[arg(long, value_name = "PUBLIC-KEY")]
    to: String,

    /// Where the replica is written; standard output unless given
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// `import`
#[derive(Debug, Args)]
pub struct ImportArgs {
    /// The exported replica
    #[arg(value_name = "FILE")]
    file: PathBuf,

    /// The public key of the keystore that exported it
    #[arg(long, value_name = "PUBLIC-KEY")]
    from: String,

    /// The Region that the replica is to be in; this keystore's unless given
    #[arg(long, value_name = "NAME")]
    region: Option<String>,

    /// What the key is for, in words
    #[arg(long, value_name = "TEXT", default_value = "")]
    description: String,

    /// Answer in JSON
    #[arg(long)]
    json: bool,
}

/// Runs a command.
pub fn run(command: ReplicaCommand, kms: &Kms) -> Result<()> {
    match command {
        ReplicaCommand::PublicKey(args) => {
            let key = kms.replica_public_key()?.to_string();
            if args.json {
                output::json(&serde_json::json!({ "publicKey": key }))
            } else {
                output::text_out(&format!("{key}\n"))
            }
        }
        ReplicaCommand::Export(args) => export(&args, kms),
        ReplicaCommand::Import(args) => import(&args, kms),
    }
}

fn export(args: &ExportArgs, kms: &Kms) -> Result<()> {
    let key: KeyRef = args.key_id.parse()?;
    let to: StoreKey = args.to.parse()?;
    let mut caller = local_caller(kms)?;
    if let KeyRef::Arn(arn) = &key {
        caller = caller.in_region(arn.region.parse()?);
    }
    let replica = kms.client(&caller).export_replica(&key, &to)?;
    let Some(path) = &args.out else {
        return output::text_out(&(String::from_utf8(replica)? + "\n"));
    };
    let shown = || path.display().to_string();
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .with_context(shown)?;
    file.write_all(&replica).with_context(shown)?;
    file.sync_all().with_context(shown)
}

fn import(args: &ImportArgs, kms: &Kms) -> Result<()> {
    let from: StoreKey = args.from.parse()?;
    let mut caller = local_caller(kms)?;
    if let Some(region) = &args.region {
        caller = caller.in_region(region.parse()?);
    }
    let shown = || args.file.display().to_string();
    let mut bytes = Vec::new();
    File::open(&args.file)
        .with_context(shown)?
        .take(MOST + 1)
        .read_to_end(&mut bytes)
        .with_context(shown)?;
    if bytes.len() as u64 > MOST {
        return Err(usage(format!("{} is no exported replica", shown())));
    }
    let client = kms.client(&caller);
    let (id, new) = client.import_replica(&bytes, &from, &args.description)?;
    let arn = format!(
        "arn:aws:kms:{}:{}:key/{id}",
        caller.region(),
        caller.account()
    );
    if args.json {
        return output::json(&serde_json::json!({ "keyArn": arn, "new": new }));
    }
    let did = if new {
        "Imported"
    } else {
        "Brought up to date:"
    };
    output::text_out(&format!("{did} {arn}\n"))
}
