//! `keystore access-key`: what network clients of `serve` sign their requests with.

use anyhow::Result;
use clap::{Args, Subcommand};
use serde::Serialize;

use super::super::exit::{Exit, failure};
use super::super::output;
use crate::kms::{AccessKeyInfo, Kms};

/// What can be done with access keys.
#[derive(Debug, Subcommand)]
pub enum AccessKeyCommand {
    /// Make an access key; its secret is shown this once
    Create(CreateArgs),
    /// List the access keys
    List(ListArgs),
    /// Delete an access key: what it signs is refused from then on
    Delete(DeleteArgs),
}

/// `create`
#[derive(Debug, Args)]
pub struct CreateArgs {
    /// Whose it is: arn:aws:iam::ACCOUNT:user/NAME; the account root's unless given
    #[arg(long, value_name = "NAME")]
    user: Option<String>,

    /// Answer in JSON, as `aws iam create-access-key` does
    #[arg(long)]
    json: bool,
}

/// `list`
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Only those of this user
    #[arg(long, value_name = "NAME")]
    user: Option<String>,

    /// Answer in JSON, as `aws iam list-access-keys` does
    #[arg(long)]
    json: bool,
}

/// `delete`
#[derive(Debug, Args)]
pub struct DeleteArgs {
    /// The access key's id
    #[arg(value_name = "ACCESS-KEY-ID")]
    id: String,

    /// Delete it only if it is this user's
    #[arg(long, value_name = "NAME")]
    user: Option<String>,

    /// Answer in JSON
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Created<'a> {
    #[serde(flatten)]
    info: Shown<'a>,
    secret_access_key: &'a str,
}

/// An access key as IAM shows it: its date is a text there.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Shown<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    user_name: Option<&'a str>,
    access_key_id: &'a str,
    status: &'a str,
    create_date: String,
}

impl<'a> From<&'a AccessKeyInfo> for Shown<'a> {
    fn from(info: &'a AccessKeyInfo) -> Self {
        Self {
            user_name: info.user_name.as_deref(),
            access_key_id: &info.access_key_id,
            status: info.status,
            create_date: info.create_date.to_string(),
        }
    }
}

/// Runs a command.
pub fn run(command: AccessKeyCommand, kms: &Kms) -> Result<()> {
    match command {
        AccessKeyCommand::Create(args) => create(&args, kms),
        AccessKeyCommand::List(args) => list(&args, kms),
        AccessKeyCommand::Delete(args) => delete(&args, kms),
    }
}

fn create(args: &CreateArgs, kms: &Kms) -> Result<()> {
    let made = kms.create_access_key(args.user.as_deref())?;
    if args.json {
        let created = Created {
            info: Shown::from(&made.info),
            secret_access_key: &made.secret,
        };
        return output::json(&serde_json::json!({ "AccessKey": created }));
    }
    output::text_out(&format!(
        "AWS_ACCESS_KEY_ID={}\nAWS_SECRET_ACCESS_KEY={}\n",
        made.info.access_key_id,
        made.secret.as_str()
    ))
}

fn list(args: &ListArgs, kms: &Kms) -> Result<()> {
    let keys = kms.list_access_keys(args.user.as_deref())?;
    let shown: Vec<Shown<'_>> = keys.iter().map(Shown::from).collect();
    if args.json {
        return output::json(&serde_json::json!({ "AccessKeyMetadata": shown }));
    }
    let line = |key: &Shown<'_>| {
        let user = key.user_name.unwrap_or("(root)");
        format!("{}  {:20}  {}\n", key.access_key_id, user, key.create_date)
    };
    output::text_out(&shown.iter().map(line).collect::<String>())
}

fn delete(args: &DeleteArgs, kms: &Kms) -> Result<()> {
    if let Some(user) = &args.user {
        let theirs = kms.list_access_keys(Some(user))?;
        if theirs.iter().all(|key| key.access_key_id != args.id) {
            let message = format!("{user} has no access key {}", args.id);
            return Err(failure(Exit::NoSuchKey, message));
        }
    }
    kms.delete_access_key(&args.id)?;
    if args.json {
        return output::json(&serde_json::json!({ "AccessKeyId": args.id }));
    }
    output::text_out(&format!("Deleted access key {}.\n", args.id))
}
