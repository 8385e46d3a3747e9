//! `envelopefs kms`: the operations of AWS KMS, with flags and answers named as in `aws kms`.

mod answer;
mod args;
mod input;
mod query;
mod request;
mod table;

use anyhow::{Context, Result};
use zeroize::Zeroizing;

use answer::Json;
pub use args::KmsCommand;
use args::OutputArgs;

use super::exit::{self, Exit, failure};
use super::output;
use crate::kms::{Caller, Client, Kms, KmsError, Source, api};

/// Runs an operation on the keystore that `open` opens, and prints its answer.
///
/// # Errors
/// With AWS's exit codes: what the key manager refuses, a wrong flag, or what `open` says.
pub fn run(command: KmsCommand, open: &dyn Fn() -> Result<Kms>) -> Result<()> {
    let operation = command.operation.name;
    let answered = answer(command, open).map_err(|error| as_aws(error, operation))?;
    match answered {
        (Some(answer), output) => answer::print(&answer, &output),
        (None, _) => Ok(()),
    }
}

/// An error as the AWS command line tells it.
fn as_aws(error: anyhow::Error, operation: &str) -> anyhow::Error {
    let Some(refused) = error.downcast_ref::<KmsError>() else {
        return match exit::of(&error) {
            Exit::Usage => failure(Exit::AwsUsage, output::error_line(&error)),
            _ => error,
        };
    };
    if refused.code() == "KMSInternalException" {
        // The keystore itself: wrong passphrase, no keystore, damage.
        return error;
    }
    failure(
        Exit::AwsService,
        format!(
            "An error occurred ({}) when calling the {operation} operation: {}",
            refused.code(),
            refused.message()
        ),
    )
}

/// An answer, where the operation has one, and how it is to be printed.
type Answer = (Option<Json>, OutputArgs);

/// Runs an operation; wrong usage is found before the keystore is opened.
fn answer(command: KmsCommand, open: &dyn Fn() -> Result<Kms>) -> Result<Answer> {
    let mut members = request::members(&command)?;
    let kms = open()?;
    let mut caller = local_caller(&kms)?;
    if let Some(region) = command.region {
        caller = caller.in_region(region);
    }
    let client = kms.client(&caller).forced(command.force.as_deref());
    let call = |members: &Json| call(&client, command.operation.name, members);
    let whole = |name: &str| !members.iter().any(|(given, _)| given == name);
    let answer = match command.operation.listing {
        Some((entries, most)) if whole("Limit") && whole("Marker") => {
            members.push(("Limit".to_owned(), Json::Number(most.into())));
            Some(all_pages(&call, members, entries)?)
        }
        _ => call(&Json::Map(members))?,
    };
    Ok((answer, command.output))
}

/// The local user, in the keystore's own Region.
pub(super) fn local_caller(kms: &Kms) -> Result<Caller> {
    let uid = rustix::process::geteuid().as_raw();
    Ok(kms.caller(kms.local_principal()?).with_source(Source {
        uid: Some(uid),
        pid: Some(std::process::id()),
        ..Source::default()
    }))
}

/// Does an operation.
fn call(client: &Client<'_>, operation: &str, members: &Json) -> Result<Option<Json>> {
    let body: Zeroizing<String> = answer::compact(members);
    let answer = api::call(client, operation, body.as_bytes())?;
    if answer.is_empty() {
        return Ok(None);
    }
    serde_json::from_slice(&answer)
        .map(Some)
        .context("reading the key manager's answer")
}

/// Lists everything.
fn all_pages(
    call: &dyn Fn(&Json) -> Result<Option<Json>>,
    mut members: Vec<(String, Json)>,
    entries: &'static str,
) -> Result<Json> {
    let mut all = Vec::new();
    loop {
        let page = call(&Json::Map(members.clone()))?;
        let Some(Json::Map(parts)) = page else {
            anyhow::bail!("the key manager's answer is no listing");
        };
        let mut marker = None;
        for (name, value) in parts {
            match value {
                Json::List(found) if name == entries => all.extend(found),
                Json::Text(text) if name == "NextMarker" => marker = Some(text),
                _ => {}
            }
        }
        let Some(marker) = marker else {
            return Ok(Json::map([(entries, Json::List(all))]));
        };
        members.retain(|(name, _)| name != "Marker");
        members.push(("Marker".to_owned(), Json::Text(marker)));
    }
}

#[cfg(test)]
mod tests;
