//! `keystore retire`: destroys key material that a rotation has left behind.

use std::fmt::Write;

use anyhow::Result;
use clap::Args;

use super::super::kms::local_caller;
use super::super::output;
use crate::kms::{KeyRef, Kms, OldMaterial};

/// `retire`
#[derive(Debug, Args)]
pub struct RetireArgs {
    /// The key: its id, an ARN or alias/NAME
    #[arg(value_name = "KEY")]
    key: String,

    /// The key material: its id, of which the first 16 digits are enough
    #[arg(
        long,
        value_name = "ID",
        required_unless_present = "all_old",
        conflicts_with = "all_old"
    )]
    material: Option<String>,

    /// All key materials of the key but the current one
    #[arg(long)]
    all_old: bool,

    /// Do it although volumes need it: the words that the refusal gives, which say what is lost
    #[arg(long, value_name = "WORDS")]
    force: Option<String>,

    /// Answer in JSON
    #[arg(long)]
    json: bool,
}

/// Runs it.
pub fn run(args: &RetireArgs, kms: &Kms) -> Result<()> {
    let key = kms.resolve(&args.key.parse::<KeyRef>()?)?;
    let which = match &args.material {
        Some(material) => OldMaterial::One(material.clone()),
        None => OldMaterial::All,
    };
    let caller = local_caller(kms)?;
    let client = kms.client(&caller).forced(args.force.as_deref());
    let retired = client.retire_key_material(&key, &which)?;
    if args.json {
        return output::json(&retired);
    }
    let mut text = String::new();
    for material in &retired.materials {
        // Writing to a String does not fail.
        let _ = writeln!(
            text,
            "Destroyed key material {material} of {}.",
            retired.key_arn
        );
    }
    if text.is_empty() {
        text = format!("{} has no such key material any more.\n", retired.key_arn);
    }
    output::text_out(&text)
}
