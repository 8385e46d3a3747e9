//! What requests and answers are made of, as JSON: bounds are checked where a value is read.

use std::borrow::Cow;
use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::de::{DeserializeOwned, Error as _, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use zeroize::Zeroizing;

use super::super::error::{KmsError, Result};
use super::super::id::KeyId;
use super::super::reference::{AliasName, KeyRef};
use crate::secret::SecretText;

/// How AWS begins the message about a member out of its bounds.
const VIOLATION: &str = "1 validation error detected: ";

/// An error about a member out of its bounds, in AWS's words.
pub(in crate::kms) fn violation<E: serde::de::Error>(
    value: &str,
    member: &str,
    constraint: &str,
) -> E {
    E::custom(violation_text(value, member, constraint))
}

fn violation_text(value: &str, member: &str, constraint: &str) -> String {
    let mut first = member.chars();
    let member: String = first
        .next()
        .map(|c| c.to_ascii_lowercase())
        .into_iter()
        .chain(first)
        .collect();
    format!("{VIOLATION}Value {value} at '{member}' failed to satisfy constraint: {constraint}")
}

/// Reads a request. Members that it does not know are ignored, as AWS does.
///
/// # Errors
/// [`KmsError::Validation`] for a member out of its bounds or missing;
/// [`KmsError::Serialization`] for what is no JSON, or has a member of the wrong kind.
pub(in crate::kms) fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T> {
    let body = if body.is_empty() { b"{}" } else { body };
    serde_json::from_slice(body).map_err(|error| {
        let text = error.to_string();
        let text = text
            .rsplit_once(" at line ")
            .map_or(text.as_str(), |(message, _)| message);
        if text.starts_with(VIOLATION) {
            return KmsError::Validation(text.to_owned());
        }
        let missing = text
            .strip_prefix("missing field `")
            .and_then(|rest| rest.strip_suffix('`'));
        match missing {
            Some(member) => {
                KmsError::Validation(violation_text("null", member, "Member must not be null"))
            }
            None => KmsError::Serialization(text.to_owned()),
        }
    })
}

/// Room for any answer that holds a secret, so that its buffer is not moved while it is written.
const ANSWER_ROOM: usize = 32 * 1024;

/// Writes an answer.
pub(super) fn write<T: Serialize>(answer: &T) -> Result<Zeroizing<Vec<u8>>> {
    let mut out = Zeroizing::new(Vec::with_capacity(ANSWER_ROOM));
    serde_json::to_writer(&mut *out, answer)
        .map_err(|error| KmsError::Serialization(error.to_string()))?;
    Ok(out)
}

/// Bytes that are no secret: base64 in JSON.
#[derive(Clone, PartialEq, Eq)]
pub struct Blob<const MIN: usize, const MAX: usize>(Vec<u8>);

/// Bytes of an answer.
pub type Bytes = Blob<0, { usize::MAX }>;

/// Secret bytes: base64 in JSON, wiped on drop, never printed.
pub struct Plain<const MIN: usize, const MAX: usize>(SecretText);

/// Secret bytes of an answer.
pub type PlainBytes = Plain<0, { usize::MAX }>;

fn check_length(what: &str, len: usize, min: usize, max: usize) -> std::result::Result<(), String> {
    if len < min {
        Err(violation_text(
            "",
            what,
            &format!("Member must have length greater than or equal to {min}"),
        ))
    } else if len > max {
        Err(violation_text(
            "",
            what,
            &format!("Member must have length less than or equal to {max}"),
        ))
    } else {
        Ok(())
    }
}

/// Reads base64 into memory that is wiped.
struct Base64;

impl Visitor<'_> for Base64 {
    type Value = SecretText;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a blob in base64")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> std::result::Result<SecretText, E> {
        let mut bytes = Zeroizing::new(vec![0; base64::decoded_len_estimate(text.len())]);
        let len = STANDARD
            .decode_slice(text, &mut bytes)
            .map_err(|_| E::custom("a blob is not in base64"))?;
        bytes.truncate(len);
        Ok(bytes)
    }
}

impl<const MIN: usize, const MAX: usize> Blob<MIN, MAX> {
    /// # Errors
    /// [`KmsError::Validation`] outside of `MIN..=MAX` bytes.
    pub fn new(bytes: Vec<u8>) -> Result<Self> {
        check_length("Blob", bytes.len(), MIN, MAX).map_err(KmsError::Validation)?;
        Ok(Self(bytes))
    }

    /// The bytes.
    pub fn as_slice(&self) -> &[u8] {
        &self.0
    }
}

impl From<Vec<u8>> for Bytes {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }
}

impl<const MIN: usize, const MAX: usize> std::ops::Deref for Blob<MIN, MAX> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl<const MIN: usize, const MAX: usize> fmt::Debug for Blob<MIN, MAX> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{} bytes]", self.0.len())
    }
}

impl<const MIN: usize, const MAX: usize> Serialize for Blob<MIN, MAX> {
    fn serialize<S: Serializer>(&self, to: S) -> std::result::Result<S::Ok, S::Error> {
        to.serialize_str(&STANDARD.encode(&self.0))
    }
}

impl<'de, const MIN: usize, const MAX: usize> Deserialize<'de> for Blob<MIN, MAX> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> std::result::Result<Self, D::Error> {
        let mut bytes = from.deserialize_str(Base64)?;
        check_length("Blob", bytes.len(), MIN, MAX).map_err(D::Error::custom)?;
        Ok(Self(std::mem::take(&mut *bytes)))
    }
}

impl<const MIN: usize, const MAX: usize> Plain<MIN, MAX> {
    /// # Errors
    /// [`KmsError::Validation`] outside of `MIN..=MAX` bytes.
    pub fn new(bytes: SecretText) -> Result<Self> {
        check_length("Plaintext", bytes.len(), MIN, MAX).map_err(KmsError::Validation)?;
        Ok(Self(bytes))
    }

    /// The bytes, for the call that needs them.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl From<SecretText> for PlainBytes {
    fn from(bytes: SecretText) -> Self {
        Self(bytes)
    }
}

impl<const MIN: usize, const MAX: usize> Serialize for Plain<MIN, MAX> {
    fn serialize<S: Serializer>(&self, to: S) -> std::result::Result<S::Ok, S::Error> {
        let mut text = Zeroizing::new(vec![0; self.0.len().div_ceil(3) * 4]);
        let len = STANDARD
            .encode_slice(&self.0, &mut text)
            .map_err(serde::ser::Error::custom)?;
        to.serialize_str(std::str::from_utf8(&text[..len]).map_err(serde::ser::Error::custom)?)
    }
}

impl<'de, const MIN: usize, const MAX: usize> Deserialize<'de> for Plain<MIN, MAX> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> std::result::Result<Self, D::Error> {
        let bytes = from.deserialize_str(Base64)?;
        check_length("Plaintext", bytes.len(), MIN, MAX).map_err(D::Error::custom)?;
        Ok(Self(bytes))
    }
}

/// Text of `MIN` to `MAX` characters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Text<const MIN: usize, const MAX: usize>(String);

impl<const MIN: usize, const MAX: usize> Text<MIN, MAX> {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl<const MAX: usize> Default for Text<0, MAX> {
    fn default() -> Self {
        Self(String::new())
    }
}

impl<const MIN: usize, const MAX: usize> TryFrom<&str> for Text<MIN, MAX> {
    type Error = KmsError;

    fn try_from(text: &str) -> Result<Self> {
        check_length("Text", text.chars().count(), MIN, MAX).map_err(KmsError::Validation)?;
        Ok(Self(text.to_owned()))
    }
}

impl<'de, const MIN: usize, const MAX: usize> Deserialize<'de> for Text<MIN, MAX> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> std::result::Result<Self, D::Error> {
        let text = Cow::<str>::deserialize(from)?;
        check_length("Text", text.chars().count(), MIN, MAX).map_err(D::Error::custom)?;
        Ok(Self(text.into_owned()))
    }
}

/// A key as a request names it: its id, ARN, alias or alias ARN, 1 to 2048 characters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct KeyName(String);

impl KeyName {
    /// As it was given.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What it names.
    ///
    /// # Errors
    /// [`KmsError::NotFound`], [`KmsError::InvalidArn`].
    pub fn parse(&self) -> Result<KeyRef> {
        self.0.parse()
    }
}

impl<'de> Deserialize<'de> for KeyName {
    fn deserialize<D: Deserializer<'de>>(from: D) -> std::result::Result<Self, D::Error> {
        let text = Cow::<str>::deserialize(from)?;
        check_length("KeyId", text.chars().count(), 1, 2048).map_err(D::Error::custom)?;
        Ok(Self(text.into_owned()))
    }
}

impl From<KeyId> for KeyName {
    fn from(id: KeyId) -> Self {
        Self(id.to_string())
    }
}

impl From<&KeyRef> for KeyName {
    fn from(key: &KeyRef) -> Self {
        Self(key.to_string())
    }
}

impl From<KeyRef> for KeyName {
    fn from(key: KeyRef) -> Self {
        Self(key.to_string())
    }
}

impl From<AliasName> for KeyName {
    fn from(alias: AliasName) -> Self {
        Self(alias.to_string())
    }
}

/// A number from `MIN` to `MAX`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Number<const MIN: u32, const MAX: u32>(u32);

impl<const MIN: u32, const MAX: u32> Number<MIN, MAX> {
    /// The number.
    pub fn get(self) -> u32 {
        self.0
    }
}

impl<const MIN: u32, const MAX: u32> TryFrom<u32> for Number<MIN, MAX> {
    type Error = KmsError;

    fn try_from(number: u32) -> Result<Self> {
        let constraint = if number < MIN {
            format!("Member must have value greater than or equal to {MIN}")
        } else if number > MAX {
            format!("Member must have value less than or equal to {MAX}")
        } else {
            return Ok(Self(number));
        };
        Err(KmsError::Validation(violation_text(
            &format!("'{number}'"),
            "Number",
            &constraint,
        )))
    }
}

impl<'de, const MIN: u32, const MAX: u32> Deserialize<'de> for Number<MIN, MAX> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> std::result::Result<Self, D::Error> {
        let number = i64::deserialize(from)?;
        let clamped = u32::try_from(number.clamp(0, i64::from(u32::MAX))).unwrap_or_default();
        Self::try_from(clamped).map_err(D::Error::custom)
    }
}

/// Up to ten grant tokens of 1 to 8192 characters.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct GrantTokens(Vec<Text<1, 8192>>);

impl GrantTokens {
    /// The tokens.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(Text::as_str)
    }
}

impl<'de> Deserialize<'de> for GrantTokens {
    fn deserialize<D: Deserializer<'de>>(from: D) -> std::result::Result<Self, D::Error> {
        let tokens = Option::<Vec<Text<1, 8192>>>::deserialize(from)?.unwrap_or_default();
        check_length("GrantTokens", tokens.len(), 0, 10).map_err(D::Error::custom)?;
        Ok(Self(tokens))
    }
}

/// `RecipientInfo`: answers for an enclave. There are none here.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Recipient {}

/// Ends a dry run that would have succeeded.
///
/// # Errors
/// [`KmsError::DryRun`].
pub(super) fn end_dry_run(dry_run: Option<bool>) -> Result<()> {
    if dry_run == Some(true) {
        Err(KmsError::DryRun)
    } else {
        Ok(())
    }
}

/// Refuses an answer for an enclave.
///
/// # Errors
/// [`KmsError::UnsupportedOperation`].
pub(super) fn refuse_recipient(recipient: Option<&Recipient>) -> Result<()> {
    match recipient {
        None => Ok(()),
        Some(_) => Err(KmsError::UnsupportedOperation(
            "Recipient is not supported: there are no enclaves here".to_owned(),
        )),
    }
}

#[cfg(test)]
#[allow(dead_code)] // tests of operations whose files are to come
pub(in crate::kms) fn request<T: DeserializeOwned>(json: serde_json::Value) -> T {
    match parse(json.to_string().as_bytes()) {
        Ok(request) => request,
        Err(error) => panic!("{error}"),
    }
}
