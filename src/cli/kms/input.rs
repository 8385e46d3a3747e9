//! What is given on the command line in AWS's ways: blobs, encryption contexts, algorithms.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use super::super::exit::usage;
use crate::secret::SecretText;

/// Bytes that a file given for a blob or a context has at most. The API takes far less.
const FILE_MAX: usize = 64 * 1024;

/// How a blob on the command line is written, as `--cli-binary-format` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BlobFormat {
    /// In base64
    Base64,
    /// As it is
    RawInBase64Out,
}

/// A blob: `fileb://FILE` gives a file's bytes; a text, or the one in `file://FILE`, is decoded.
pub(super) fn blob(flag: &str, text: String, format: BlobFormat) -> Result<SecretText> {
    let text = Zeroizing::new(text);
    if let Some(path) = text.strip_prefix("fileb://") {
        return read_file(flag, path);
    }
    let written = match text.strip_prefix("file://") {
        Some(path) => read_file(flag, path)?,
        None => Zeroizing::new(text.as_bytes().to_vec()),
    };
    match format {
        BlobFormat::RawInBase64Out => Ok(written),
        BlobFormat::Base64 => {
            let end = written.trim_ascii_end().len();
            let decoded = STANDARD.decode(&written[..end]).map(Zeroizing::new);
            decoded.map_err(|_| {
                usage(format!(
                    "{flag} is no base64; give a file's bytes with {flag} fileb://FILE"
                ))
            })
        }
    }
}

fn read_file(flag: &str, path: &str) -> Result<SecretText> {
    let failed = || format!("{flag}: reading {path}");
    let file = File::open(Path::new(path)).with_context(failed)?;
    // Full size from the start: a buffer that grows leaves copies of a secret behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(FILE_MAX + 1));
    file.take(FILE_MAX as u64 + 1)
        .read_to_end(&mut bytes)
        .with_context(failed)?;
    if bytes.len() > FILE_MAX {
        return Err(usage(format!(
            "{flag}: {path} is larger than {FILE_MAX} bytes"
        )));
    }
    Ok(bytes)
}

/// A text: as it is, or what is in `file://FILE`.
pub(super) fn text(flag: &str, given: &str) -> Result<Zeroizing<String>> {
    let Some(path) = given.strip_prefix("file://") else {
        return Ok(Zeroizing::new(given.to_owned()));
    };
    let bytes = read_file(flag, path)?;
    let text =
        std::str::from_utf8(&bytes).map_err(|_| usage(format!("{flag}: {path} is no text")))?;
    Ok(Zeroizing::new(text.to_owned()))
}

/// Pairs, such as an encryption context: `KEY=VALUE,...`, a JSON object of texts, or either in
/// `file://FILE`. In the order given; no key twice.
pub(super) fn pairs(flag: &str, given: &str) -> Result<Vec<(String, String)>> {
    let text = text(flag, given)?;
    let text = text.trim();
    if text.starts_with('{') {
        let pairs: std::collections::BTreeMap<String, String> = serde_json::from_str(text)
            .map_err(|error| usage(format!("{flag} is no JSON object of strings: {error}")))?;
        return Ok(pairs.into_iter().collect());
    }
    shorthand(flag, text)
}

/// AWS's shorthand: pairs separated by commas; a value may stand in quotes of either kind, with
/// `\` before a quote in it.
fn shorthand(flag: &str, text: &str) -> Result<Vec<(String, String)>> {
    let wrong = || {
        usage(format!(
            "{flag} is KEY=VALUE,KEY=VALUE,..., unlike '{text}'"
        ))
    };
    let mut pairs: Vec<(String, String)> = Vec::new();
    let mut rest = text;
    loop {
        let (key, after) = rest.split_once('=').ok_or_else(wrong)?;
        let key = key.trim();
        if key.is_empty() || key.contains(',') {
            return Err(wrong());
        }
        let (value, after) = value(after).ok_or_else(wrong)?;
        if pairs.iter().any(|(known, _)| known == key) {
            return Err(usage(format!("{flag} has '{key}' twice")));
        }
        pairs.push((key.to_owned(), value));
        match after {
            None => return Ok(pairs),
            Some(after) => rest = after,
        }
    }
}

/// A value and what comes after the comma behind it, if there is one.
fn value(text: &str) -> Option<(String, Option<&str>)> {
    let Some(quote) = text.chars().next().filter(|c| matches!(c, '"' | '\'')) else {
        return Some(match text.split_once(',') {
            Some((value, after)) => (value.to_owned(), Some(after)),
            None => (text.to_owned(), None),
        });
    };
    let mut value = String::new();
    let mut chars = text.char_indices().skip(1);
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => value.push(chars.next()?.1),
            c if c == quote => {
                let after = text[at + c.len_utf8()..].trim_start();
                return match after.strip_prefix(',') {
                    Some(after) => Some((value, Some(after))),
                    None if after.is_empty() => Some((value, None)),
                    None => None,
                };
            }
            c => value.push(c),
        }
    }
    None
}

#[cfg(test)]
mod tests;
