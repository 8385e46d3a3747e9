//! How a key is named: id, ARN, alias, alias ARN.

use std::fmt;
use std::str::FromStr;

use super::error::{KmsError, Result};
use super::id::KeyId;
use super::store::Place;

/// Aliases under this prefix are the service's own.
pub const SERVICE_PREFIX: &str = "alias/envelopefs/";
/// AWS's own prefix, refused so that what is written here can be moved there.
const AWS_PREFIX: &str = "alias/aws/";

/// The name of an alias, `alias/` included: up to 256 of `[a-zA-Z0-9/_-]`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AliasName(String);

impl AliasName {
    /// The name, `alias/` included.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the name belongs to the service (or to AWS): users neither make nor change it.
    pub fn is_reserved(&self) -> bool {
        self.0.starts_with(SERVICE_PREFIX) || self.0.starts_with(AWS_PREFIX)
    }
}

impl FromStr for AliasName {
    type Err = KmsError;

    fn from_str(text: &str) -> Result<Self> {
        let Some(rest) = text.strip_prefix("alias/") else {
            return Err(KmsError::InvalidAliasName(format!(
                "alias name '{text}' must begin with 'alias/'"
            )));
        };
        if text.len() > 256 {
            return Err(KmsError::Validation(format!(
                "an alias name has at most 256 characters, this one has {}",
                text.len()
            )));
        }
        let valid = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'/' | b'_' | b'-');
        if rest.is_empty() || !rest.bytes().all(valid) {
            return Err(KmsError::InvalidAliasName(format!(
                "alias name '{text}' must match ^alias/[a-zA-Z0-9/_-]+$"
            )));
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for AliasName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What an ARN or a bare name points to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resource {
    /// A key.
    Key(KeyId),
    /// An alias.
    Alias(AliasName),
}

/// An Amazon Resource Name: `arn:aws:kms:REGION:ACCOUNT:key/ID` or `...:alias/NAME`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arn {
    /// The Region in it.
    pub region: String,
    /// The account id in it, 12 digits.
    pub account: String,
    /// The key or alias.
    pub resource: Resource,
}

impl fmt::Display for Arn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "arn:aws:kms:{}:{}:", self.region, self.account)?;
        match &self.resource {
            Resource::Key(id) => write!(f, "key/{id}"),
            Resource::Alias(name) => write!(f, "{name}"),
        }
    }
}

/// A key's ARN.
pub(super) fn key_arn(place: &Place, account: &str) -> String {
    format!("arn:aws:kms:{}:{account}:key/{}", place.region, place.id)
}

/// A key as users name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyRef {
    /// By id.
    Id(KeyId),
    /// By alias.
    Alias(AliasName),
    /// By key ARN or alias ARN.
    Arn(Arn),
}

impl FromStr for KeyRef {
    type Err = KmsError;

    fn from_str(text: &str) -> Result<Self> {
        if text.starts_with("alias/") {
            return Ok(Self::Alias(text.parse()?));
        }
        let Some(rest) = text.strip_prefix("arn:") else {
            return Ok(Self::Id(text.parse()?));
        };
        let invalid = || KmsError::InvalidArn(format!("Invalid arn '{text}'"));
        let parts: Vec<&str> = rest.splitn(5, ':').collect();
        let [partition, "kms", region, account, resource] = parts[..] else {
            return Err(invalid());
        };
        if !partition.starts_with("aws") || check_region(region).is_err() {
            return Err(invalid());
        }
        check_account(account).map_err(|_| invalid())?;
        let resource = match resource.strip_prefix("key/") {
            Some(id) => Resource::Key(id.parse()?),
            None if resource.starts_with("alias/") => Resource::Alias(resource.parse()?),
            None => return Err(invalid()),
        };
        Ok(Self::Arn(Arn {
            region: region.to_owned(),
            account: account.to_owned(),
            resource,
        }))
    }
}

impl KeyRef {
    /// The key's id, where the reference says it.
    pub fn id(&self) -> Option<KeyId> {
        match self {
            Self::Id(id)
            | Self::Arn(Arn {
                resource: Resource::Key(id),
                ..
            }) => Some(*id),
            Self::Alias(_) | Self::Arn(_) => None,
        }
    }
}

impl From<KeyId> for KeyRef {
    fn from(id: KeyId) -> Self {
        Self::Id(id)
    }
}

impl From<AliasName> for KeyRef {
    fn from(name: AliasName) -> Self {
        Self::Alias(name)
    }
}

impl fmt::Display for KeyRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Id(id) => id.fmt(f),
            Self::Alias(name) => name.fmt(f),
            Self::Arn(arn) => arn.fmt(f),
        }
    }
}

/// An account id: 12 digits.
pub(super) fn check_account(text: &str) -> Result<()> {
    if text.len() == 12 && text.bytes().all(|b| b.is_ascii_digit()) {
        return Ok(());
    }
    Err(KmsError::Validation(format!(
        "account id '{text}' is not 12 digits"
    )))
}

/// A Region's name, such as `us-east-1`.
pub(super) fn check_region(text: &str) -> Result<()> {
    let valid = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    if (1..=32).contains(&text.len()) && text.bytes().all(valid) {
        return Ok(());
    }
    Err(KmsError::Validation(format!(
        "Region '{text}' is not a name of lower-case letters, digits and '-'"
    )))
}
