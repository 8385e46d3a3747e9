//! What was typed becomes a request's members.

use anyhow::Result;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use super::super::exit::usage;
use super::answer::Json;
use super::args::{Given, KmsCommand};
use super::input::{blob, pairs, text};
use super::table::{Kind, Member, kebab};
use crate::kms::{Timestamp, iso8601};

type Members = Vec<(String, Json)>;

/// The members of the request, in the order of the table; the input's first.
pub(super) fn members(command: &KmsCommand) -> Result<Members> {
    let mut members = match &command.input {
        None => Members::new(),
        Some(input) => match json("--cli-input-json", input)? {
            Json::Map(members) => members,
            _ => return Err(usage("--cli-input-json is no JSON object")),
        },
    };
    for (member, given) in &command.given {
        let value = match given {
            Given::Flag(set) => Json::Bool(*set),
            Given::Words(words) => value(command, member, words)?,
        };
        members.retain(|(name, _)| name != member.name);
        members.push((member.name.to_owned(), value));
    }
    Ok(members)
}

fn json(flag: &str, given: &str) -> Result<Json> {
    let text = text(flag, given)?;
    serde_json::from_str(&text).map_err(|error| usage(format!("{flag} is no JSON: {error}")))
}

fn value(command: &KmsCommand, member: &Member, words: &[String]) -> Result<Json> {
    let flag = format!("--{}", kebab(member.name));
    let first = words.first().map(String::as_str).unwrap_or_default();
    let is_json =
        |text: &str| text.trim_start().starts_with(['{', '[']) || text.starts_with("file://");
    match member.kind {
        Kind::Text => Ok(Json::Text(text(&flag, first)?)),
        Kind::Number => match first.parse() {
            Ok(number) => Ok(Json::Number(number)),
            Err(_) => Err(usage(format!("{flag}: '{first}' is no whole number"))),
        },
        // The parser gives flags no words.
        Kind::Flag => Ok(Json::Bool(true)),
        Kind::Blob => {
            let bytes = blob(&flag, first.to_owned(), command.format)?;
            Ok(Json::Text(Zeroizing::new(STANDARD.encode(&bytes))))
        }
        Kind::Pairs => Ok(as_map(pairs(&flag, first)?)),
        Kind::Words | Kind::Objects | Kind::Object if is_json(first) => json(&flag, first),
        Kind::Words => Ok(Json::List(words.iter().map(Json::text).collect())),
        Kind::Objects => {
            let objects = words.iter().map(|word| Ok(as_map(pairs(&flag, word)?)));
            objects.collect::<Result<_>>().map(Json::List)
        }
        Kind::Object => nested(&flag, first),
        Kind::Time => {
            let time = iso8601::parse(first)
                .map(Timestamp::millis)
                .or_else(|| first.parse::<i64>().ok()?.checked_mul(1000));
            let time = time.ok_or_else(|| {
                usage(format!(
                    "{flag}: '{first}' is no time such as 2027-01-01T00:00:00Z"
                ))
            })?;
            // Seconds; the key manager takes whole ones.
            Ok(Json::Number(time.div_euclid(1000)))
        }
    }
}

fn as_map(pairs: Vec<(String, String)>) -> Json {
    Json::Map(
        pairs
            .into_iter()
            .map(|(name, value)| (name, Json::text(value)))
            .collect(),
    )
}

/// AWS's shorthand of an object of maps: `Name={key=value,...},Name={...}`.
fn nested(flag: &str, given: &str) -> Result<Json> {
    let wrong = || {
        usage(format!(
            "{flag} is JSON, or NAME={{KEY=VALUE,...}}, unlike '{given}'"
        ))
    };
    let mut members = Members::new();
    let mut rest = given;
    loop {
        let (name, after) = rest.split_once("={").ok_or_else(wrong)?;
        let (inside, after) = after.split_once('}').ok_or_else(wrong)?;
        members.push((name.to_owned(), as_map(pairs(flag, inside)?)));
        match after.strip_prefix(',') {
            Some(more) => rest = more,
            None if after.is_empty() => return Ok(Json::Map(members)),
            None => return Err(wrong()),
        }
    }
}
