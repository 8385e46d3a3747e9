//! Encryption contexts: authenticated, not secret.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::api::wire::violation;
use super::audit::is_plain;
use super::error::{KmsError, Result};

/// Bytes of keys and values that a context may have in all, as in AWS KMS.
const LIMIT: usize = 8192;

/// Pairs that are bound to a ciphertext: who decrypts must give the same ones.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EncryptionContext(BTreeMap<String, String>);

impl EncryptionContext {
    /// The empty context.
    pub fn new() -> Self {
        Self::default()
    }

    /// This context and one more pair.
    #[must_use]
    pub fn with(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.0.insert(key.into(), value.into());
        self
    }

    /// The pairs, sorted by key.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_str()))
    }

    /// Whether there is no pair.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether each of its pairs is in `other` too.
    pub fn is_subset_of(&self, other: &Self) -> bool {
        self.0
            .iter()
            .all(|(key, value)| other.0.get(key) == Some(value))
    }

    /// The bytes that a tag covers: the pairs sorted by key, each string after its length
    /// (32 bits, little-endian). Two different contexts never have the same bytes.
    pub fn canonical(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.write_canonical(&mut out);
        out
    }

    /// As [`EncryptionContext::canonical`], behind what is there.
    pub(super) fn write_canonical(&self, out: &mut Vec<u8>) {
        for text in self.0.iter().flat_map(|(key, value)| [key, value]) {
            out.extend_from_slice(&(text.len() as u32).to_le_bytes());
            out.extend_from_slice(text.as_bytes());
        }
    }

    /// Appends it as serde does; at once where nothing has to be escaped, as in a volume's.
    ///
    /// # Errors
    /// [`KmsError::Unrecorded`]; it does not happen.
    pub(super) fn write_json(&self, out: &mut Vec<u8>) -> Result<()> {
        if !self
            .iter()
            .all(|(key, value)| is_plain(key) && is_plain(value))
        {
            return serde_json::to_writer(out, self)
                .map_err(|error| KmsError::Unrecorded(error.to_string()));
        }
        out.push(b'{');
        for (at, (key, value)) in self.iter().enumerate() {
            out.extend_from_slice(if at > 0 { b",\"" } else { b"\"" });
            out.extend_from_slice(key.as_bytes());
            out.extend_from_slice(b"\":\"");
            out.extend_from_slice(value.as_bytes());
            out.push(b'"');
        }
        out.push(b'}');
        Ok(())
    }

    /// # Errors
    /// [`KmsError::Validation`] when the context is larger than AWS KMS takes.
    pub(super) fn check(&self) -> Result<()> {
        let size: usize = self
            .0
            .iter()
            .map(|(key, value)| key.len() + value.len())
            .sum();
        if size > LIMIT {
            return Err(KmsError::Validation(format!(
                "an encryption context has at most {LIMIT} bytes, this one has {size}"
            )));
        }
        Ok(())
    }
}

impl Serialize for EncryptionContext {
    fn serialize<S: Serializer>(&self, to: S) -> std::result::Result<S::Ok, S::Error> {
        self.0.serialize(to)
    }
}

impl<'de> Deserialize<'de> for EncryptionContext {
    fn deserialize<D: Deserializer<'de>>(from: D) -> std::result::Result<Self, D::Error> {
        let context = Self(Option::deserialize(from)?.unwrap_or_default());
        context.check().map_err(|_| {
            violation(
                "",
                "EncryptionContext",
                &format!("Member must have at most {LIMIT} bytes of keys and values"),
            )
        })?;
        Ok(context)
    }
}

impl<K: Into<String>, V: Into<String>> FromIterator<(K, V)> for EncryptionContext {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(pairs: I) -> Self {
        Self(
            pairs
                .into_iter()
                .map(|(key, value)| (key.into(), value.into()))
                .collect(),
        )
    }
}
