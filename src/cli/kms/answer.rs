//! Answers: values whose names stay in the API's order, printed as the AWS command line prints them.

use std::fmt::{Display, Write};

use serde::de::{MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use zeroize::Zeroizing;

use super::super::output::text_out;
use super::args::{OutputArgs, OutputForm};
use super::query;
use crate::kms::Timestamp;

/// Enough for any answer that holds a secret, so that its buffer is not moved while it is written.
const CAPACITY: usize = 32 * 1024;

/// A JSON value. Strings are wiped: they may be keys in base64.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Json {
    Null,
    Bool(bool),
    Number(i64),
    Text(Zeroizing<String>),
    List(Vec<Json>),
    Map(Vec<(String, Json)>),
}

impl Json {
    pub(super) fn text(value: impl Display) -> Self {
        Self::Text(Zeroizing::new(value.to_string()))
    }

    pub(super) fn map(members: impl IntoIterator<Item = (&'static str, Json)>) -> Self {
        Self::Map(
            members
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value))
                .collect(),
        )
    }

    pub(super) fn member(&self, name: &str) -> Option<&Json> {
        match self {
            Self::Map(members) => members
                .iter()
                .find(|(n, _)| n == name)
                .map(|(_, value)| value),
            _ => None,
        }
    }

    fn is_scalar(&self) -> bool {
        !matches!(self, Self::List(_) | Self::Map(_))
    }
}

/// Members that are dates: seconds since 1970 in the protocol.
const DATES: &[&str] = &[
    "CreationDate",
    "LastUpdatedDate",
    "DeletionDate",
    "ValidTo",
    "NextRotationDate",
    "OnDemandRotationStartDate",
    "RotationDate",
    "ParametersValidTo",
    "Timestamp",
    "TrackingStartDate",
    "KeyCreationDate",
];

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(Reader)
    }
}

/// Reads an answer as the protocol writes it: members keep their order, dates become text.
struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = Json;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an answer")
    }

    fn visit_unit<E>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Json, E> {
        Ok(Json::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Json, E> {
        Ok(Json::Number(value))
    }

    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<Json, E> {
        i64::try_from(value).map(Json::Number).map_err(E::custom)
    }

    fn visit_str<E>(self, value: &str) -> Result<Json, E> {
        Ok(Json::text(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Json, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Json::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Json, A::Error> {
        let mut map = Vec::new();
        while let Some(name) = members.next_key::<String>()? {
            let value = if DATES.contains(&name.as_str()) {
                Json::text(members.next_value::<Timestamp>()?)
            } else {
                members.next_value()?
            };
            map.push((name, value));
        }
        Ok(Json::Map(map))
    }
}

/// Prints an answer, or the part of it that is asked for.
pub(super) fn print(answer: &Json, output: &OutputArgs) -> anyhow::Result<()> {
    text_out(&render(answer, output)?)
}

pub(super) fn render(answer: &Json, output: &OutputArgs) -> anyhow::Result<Zeroizing<String>> {
    let part;
    let shown = match &output.query {
        None => answer,
        Some(expression) => {
            part = query::run(expression, answer)?;
            &part
        }
    };
    let mut text = Zeroizing::new(String::with_capacity(CAPACITY));
    match output.output {
        OutputForm::Json => {
            write_json(&mut text, shown, 0);
            text.push('\n');
        }
        OutputForm::Text => write_text(&mut text, shown, None, None),
    }
    Ok(text)
}

fn write_json(out: &mut String, value: &Json, depth: usize) {
    match value {
        Json::Null => out.push_str("null"),
        Json::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
        Json::Number(value) => out.push_str(&value.to_string()),
        Json::Text(text) => write_string(out, text),
        Json::List(items) if items.is_empty() => out.push_str("[]"),
        Json::Map(members) if members.is_empty() => out.push_str("{}"),
        Json::List(items) => {
            out.push('[');
            for (i, item) in items.iter().enumerate() {
                new_line(out, i > 0, depth + 1);
                write_json(out, item, depth + 1);
            }
            new_line(out, false, depth);
            out.push(']');
        }
        Json::Map(members) => {
            out.push('{');
            for (i, (name, member)) in members.iter().enumerate() {
                new_line(out, i > 0, depth + 1);
                write_string(out, name);
                out.push_str(": ");
                write_json(out, member, depth + 1);
            }
            new_line(out, false, depth);
            out.push('}');
        }
    }
}

/// JSON in one line, as requests have it.
pub(super) fn compact(value: &Json) -> Zeroizing<String> {
    let mut text = Zeroizing::new(String::with_capacity(CAPACITY));
    write_compact(&mut text, value);
    text
}

fn write_compact(out: &mut String, value: &Json) {
    match value {
        Json::List(items) => {
            for (i, item) in items.iter().enumerate() {
                out.push(if i > 0 { ',' } else { '[' });
                write_compact(out, item);
            }
            out.push_str(if items.is_empty() { "[]" } else { "]" });
        }
        Json::Map(members) => {
            for (i, (name, member)) in members.iter().enumerate() {
                out.push(if i > 0 { ',' } else { '{' });
                write_string(out, name);
                out.push(':');
                write_compact(out, member);
            }
            out.push_str(if members.is_empty() { "{}" } else { "}" });
        }
        scalar => write_json(out, scalar, 0),
    }
}

fn new_line(out: &mut String, comma: bool, depth: usize) {
    out.push_str(if comma { ",\n" } else { "\n" });
    for _ in 0..depth {
        out.push_str("    ");
    }
}

/// A JSON string (RFC 8259 §7); only what must be escaped is.
fn write_string(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c < ' ' => {
                // Writing to a string does not fail.
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

/// The form of `--output text`: the scalars of a map in a line, sorted by name and separated by
/// tabs; what is nested in lines of its own, under its name in upper case. The maps of a list have
/// the same columns.
fn write_text(out: &mut String, value: &Json, name: Option<&str>, columns: Option<&[&str]>) {
    match value {
        Json::Map(members) => write_text_map(out, members, name, columns),
        Json::List(items) => write_text_list(out, items, name),
        scalar => write_line(out, &[scalar_text(scalar)], None),
    }
}

fn write_text_list(out: &mut String, items: &[Json], name: Option<&str>) {
    if items.iter().any(|item| matches!(item, Json::Map(_))) {
        let mut columns = Vec::new();
        for item in items {
            if let Json::Map(members) = item {
                let scalars = members.iter().filter(|(_, value)| value.is_scalar());
                columns.extend(scalars.map(|(name, _)| name.as_str()));
            }
        }
        columns.sort_unstable();
        columns.dedup();
        for item in items {
            write_text(out, item, name, Some(&columns));
        }
        return;
    }
    let scalars: Vec<_> = items
        .iter()
        .filter(|item| item.is_scalar())
        .map(scalar_text)
        .collect();
    if name.is_some() {
        for scalar in scalars {
            write_line(out, &[scalar], name);
        }
    } else if !scalars.is_empty() {
        write_line(out, &scalars, None);
    }
    for item in items.iter().filter(|item| !item.is_scalar()) {
        write_text(out, item, name, None);
    }
}

fn write_text_map(
    out: &mut String,
    members: &[(String, Json)],
    name: Option<&str>,
    columns: Option<&[&str]>,
) {
    let mut sorted: Vec<_> = members.iter().collect();
    sorted.sort_unstable_by_key(|(name, _)| name);
    let find = |column: &&str| sorted.iter().find(|(name, _)| name == column);
    let scalars: Vec<_> = match columns {
        // A map without a column has an empty place there.
        Some(columns) => columns
            .iter()
            .map(|column| find(column).map_or_else(Zeroizing::default, |(_, v)| scalar_text(v)))
            .collect(),
        None => sorted
            .iter()
            .filter(|(_, v)| v.is_scalar())
            .map(|(_, v)| scalar_text(v))
            .collect(),
    };
    if !scalars.is_empty() {
        write_line(out, &scalars, name);
    }
    for (name, value) in sorted.iter().filter(|(_, value)| !value.is_scalar()) {
        write_text(out, value, Some(name), None);
    }
}

fn write_line(out: &mut String, values: &[Zeroizing<String>], name: Option<&str>) {
    let name = name.map(str::to_uppercase);
    let parts = name
        .as_deref()
        .into_iter()
        .chain(values.iter().map(|value| value.as_str()));
    for (i, part) in parts.enumerate() {
        if i > 0 {
            out.push('\t');
        }
        out.push_str(part);
    }
    out.push('\n');
}

/// A scalar as Python, in which the AWS command line is written, shows it.
fn scalar_text(value: &Json) -> Zeroizing<String> {
    match value {
        Json::Bool(true) => Zeroizing::new("True".to_owned()),
        Json::Bool(false) => Zeroizing::new("False".to_owned()),
        Json::Number(number) => Zeroizing::new(number.to_string()),
        Json::Text(text) => text.clone(),
        Json::Null | Json::List(_) | Json::Map(_) => Zeroizing::new("None".to_owned()),
    }
}
