//! `envelopefs keystore`: make a keystore, show it, change what opens it.

mod access_key;
mod replica;
mod retire;
mod volume;

use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::{Args, Subcommand};
use serde::Serialize;

use access_key::AccessKeyCommand;
use replica::ReplicaCommand;
use retire::RetireArgs;
use volume::VolumeCommand;

use super::output;
use crate::kms::{CreateOptions, KeystoreStatus, Kms, ProtectorInfo, ProtectorInput};

/// What can be done with a keystore.
#[derive(Debug, Subcommand)]
pub enum KeystoreCommand {
    /// Make a keystore
    ///
    /// The passphrase file, key file or credential named opens it from then on; without one, a new
    /// passphrase is asked for. `envelopefs init` makes a missing keystore too.
    Init(InitArgs),
    /// Show where the keystore is and what opens it; needs no passphrase
    Status(StatusArgs),
    /// Change what opens the keystore
    #[command(subcommand)]
    Protector(ProtectorCommand),
    /// Make, list and delete the access keys of network clients of `envelopefs serve`
    #[command(subcommand)]
    AccessKey(AccessKeyCommand),
    /// Take multi-Region keys to other keystores
    #[command(subcommand)]
    Replica(ReplicaCommand),
    /// Destroy key material that a rotation has left behind, for good
    ///
    /// The key goes on with its current material; nothing that was wrapped under the destroyed one can
    /// ever be opened again. So `envelopefs rewrap` comes first: what a registered volume still needs is
    /// refused, with what to do about it. The proof is a whole count of the volume's files, by a rewrap
    /// that was completed or by `envelopefs rewrap --dry-run`, since the material was current last. What
    /// no volume has wrapped under it, such as ciphertexts of `envelopefs kms encrypt`, nobody counts.
    ///
    /// Copies of the keystore that were made before, and keystores with a replica of the key, keep the
    /// material. A file that comes back from an old backup of the cipher directory needs such a copy:
    /// see `envelopefs rewrap --from-keystore`.
    Retire(RetireArgs),
    /// List the volumes whose keys come from this keystore, and forget those that are no more
    #[command(subcommand)]
    Volume(VolumeCommand),
}

/// What can be done with protectors.
#[derive(Debug, Subcommand)]
pub enum ProtectorCommand {
    /// Add a passphrase or a key file that opens the keystore as well
    Add(AddArgs),
    /// Remove a protector; the last one stays
    ///
    /// Copies of the keystore made before, such as backups, still open with it.
    Remove(RemoveArgs),
    /// List the protectors; needs no passphrase
    List(ListArgs),
}

/// `init`
#[derive(Debug, Args)]
pub struct InitArgs {
    /// The account id in ARNs: 12 digits
    #[arg(long, value_name = "12DIGITS", default_value = "000000000000")]
    account_id: String,

    /// The Region in ARNs
    #[arg(long, value_name = "NAME", default_value = "us-east-1")]
    region: String,
}

/// `status`
#[derive(Debug, Args)]
pub struct StatusArgs {
    /// Answer in JSON
    #[arg(long)]
    json: bool,
}

/// `protector add`
#[derive(Debug, Args)]
pub struct AddArgs {
    /// A file with the new passphrase; without this and --new-key-file it is asked for
    #[arg(long, value_name = "FILE", conflicts_with = "new_key_file")]
    new_passphrase_file: Option<PathBuf>,

    /// A file of at least 32 random bytes
    #[arg(long, value_name = "FILE")]
    new_key_file: Option<PathBuf>,

    /// Answer in JSON
    #[arg(long)]
    json: bool,
}

/// `protector remove`
#[derive(Debug, Args)]
pub struct RemoveArgs {
    /// The protector's id, as `protector list` shows it
    #[arg(value_name = "ID")]
    id: String,
}

/// `protector list`
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Answer in JSON
    #[arg(long)]
    json: bool,
}

/// The keystore as the global flags name it.
pub struct Access<'a> {
    /// Its directory.
    pub dir: &'a Path,
    /// Opens it.
    pub open: &'a dyn Fn() -> Result<Kms>,
    /// What a new keystore is to open with: as the flags say, or else asked for twice.
    pub first_protector: &'a dyn Fn() -> Result<ProtectorInput>,
    /// Asks twice for a new passphrase.
    pub ask_new_passphrase: &'a dyn Fn() -> Result<ProtectorInput>,
}

/// Runs a command and prints its answer.
///
/// # Errors
/// A [`crate::kms::KmsError`], or what the functions of `access` say.
pub fn run(command: KeystoreCommand, access: &Access<'_>) -> Result<()> {
    match command {
        KeystoreCommand::Init(args) => init(args, access),
        KeystoreCommand::AccessKey(command) => access_key::run(command, &(access.open)()?),
        KeystoreCommand::Replica(command) => replica::run(command, &(access.open)()?),
        KeystoreCommand::Retire(args) => retire::run(&args, &(access.open)()?),
        KeystoreCommand::Volume(command) => volume::run(command, &(access.open)()?),
        KeystoreCommand::Status(args) => {
            let status = Kms::status(access.dir)?;
            if args.json {
                output::json(&StatusJson::from(&status))
            } else {
                output::text_out(&status_text(&status))
            }
        }
        KeystoreCommand::Protector(ProtectorCommand::Add(args)) => add(&args, access),
        KeystoreCommand::Protector(ProtectorCommand::Remove(args)) => {
            (access.open)()?.remove_protector(&args.id)?;
            output::text_out(&format!("Removed protector {}.\n", args.id))
        }
        KeystoreCommand::Protector(ProtectorCommand::List(args)) => {
            let protectors = Kms::status(access.dir)?.protectors;
            if args.json {
                return output::json(&protectors.iter().map(protector_json).collect::<Vec<_>>());
            }
            let lines: String = protectors
                .iter()
                .map(|p| protector_line(p) + "\n")
                .collect();
            output::text_out(&lines)
        }
    }
}

fn init(args: InitArgs, access: &Access<'_>) -> Result<()> {
    let exists = || crate::kms::KmsError::KeystoreExists {
        dir: access.dir.to_owned(),
    };
    // Before a passphrase is asked for.
    if Kms::exists(access.dir) {
        return Err(exists().into());
    }
    let options = CreateOptions {
        account_id: args.account_id,
        region: args.region,
    };
    options.check()?;
    let kms = Kms::create(access.dir, &(access.first_protector)()?, &options)?;
    output::text_out(&format!("Made the keystore {}.\n", kms.dir().display()))
}

fn add(args: &AddArgs, access: &Access<'_>) -> Result<()> {
    let from_file = match (&args.new_passphrase_file, &args.new_key_file) {
        (Some(path), _) => Some(ProtectorInput::passphrase_file(path)?),
        (None, Some(path)) => Some(ProtectorInput::key_file(path)?),
        (None, None) => None,
    };
    // The old secret is asked for before the new one.
    let kms = (access.open)()?;
    let input = from_file.map_or_else(access.ask_new_passphrase, Ok)?;
    let added = kms.add_protector(&input)?;
    if args.json {
        output::json(&protector_json(&added))
    } else {
        output::text_out(&format!("Added protector {}.\n", protector_line(&added)))
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct StatusJson {
    path: String,
    account_id: String,
    region: String,
    keys: u64,
    aliases: u64,
    protectors: Vec<ProtectorJson>,
}

#[derive(Serialize)]
struct ProtectorJson {
    id: String,
    kind: &'static str,
    created: String,
}

impl From<&KeystoreStatus> for StatusJson {
    fn from(status: &KeystoreStatus) -> Self {
        Self {
            path: status.dir.to_string_lossy().into_owned(),
            account_id: status.account_id.clone(),
            region: status.region.clone(),
            keys: status.keys,
            aliases: status.aliases,
            protectors: status.protectors.iter().map(protector_json).collect(),
        }
    }
}

fn protector_json(protector: &ProtectorInfo) -> ProtectorJson {
    ProtectorJson {
        id: protector.id.clone(),
        kind: protector.kind.as_str(),
        created: protector.created.to_string(),
    }
}

fn protector_line(protector: &ProtectorInfo) -> String {
    format!(
        "{}  {:10}  {}",
        protector.id,
        protector.kind.as_str(),
        protector.created
    )
}

fn status_text(status: &KeystoreStatus) -> String {
    let mut text = format!(
        "Keystore    {}\nAccount     {}\nRegion      {}\nKeys        {}\nAliases     {}\n",
        output::printable(status.dir.as_os_str().as_encoded_bytes()),
        status.account_id,
        status.region,
        status.keys,
        status.aliases
    );
    for (i, protector) in status.protectors.iter().enumerate() {
        text.push_str(if i == 0 {
            "Protectors  "
        } else {
            "            "
        });
        text.push_str(&protector_line(protector));
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests;
