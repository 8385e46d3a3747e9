//! The operations of AWS KMS on [`super::Kms`], with requests and answers as there.
//!
//! Reference: the AWS KMS API reference. A key that an operation uses is named by id, ARN, alias
//! or alias ARN; operations that change a key take no alias, as in AWS.

mod aliases;
mod crypto;
mod keys;
mod rotation;
pub mod wire;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

pub use aliases::AliasEntry;
pub use crypto::{
    DataKeySize, Decrypted, EncryptRequest, EncryptResponse, Encrypted, GeneratedDataKey,
    ReEncrypt, ReEncrypted,
};
pub use keys::{CreateKey, KeyEntry, KeyMetadata};
pub use rotation::{IncludeKeyMaterial, RotationEntry, RotationStatus};

use serde::Serialize;
use serde::de::DeserializeOwned;
use zeroize::Zeroizing;

use super::client::{Call, Client};
use super::error::{KmsError, Result};
use super::state::Operation;

/// What an operation is told, and what it does.
pub trait Request: DeserializeOwned + Serialize {
    /// The operation.
    const OPERATION: Operation;
    /// What it answers; `()` when it has no answer.
    type Response: Serialize + 'static;

    /// Does it.
    fn run(&self, call: &Call<'_>) -> Result<Self::Response>;
}

/// The operations: each a method of [`Client`], a line of [`call`]'s dispatch and of
/// [`OPERATIONS`].
macro_rules! operations {
    ($($operation:ident => $method:ident($request:ty),)+) => {
        /// The names of all operations that there are.
        pub const OPERATIONS: &[&str] = &[$(stringify!($operation),)+];

        impl Client<'_> {
            $(
                #[doc = concat!("The operation `", stringify!($operation), "`.")]
                ///
                /// # Errors
                /// The exceptions that the API reference of AWS KMS lists for it.
                pub fn $method(&self, request: &$request) -> Result<<$request as Request>::Response> {
                    self.execute(request)
                }
            )+
        }

        /// Does the operation of this name: JSON in, JSON out. The answer of an operation that has
        /// none is empty.
        ///
        /// # Errors
        /// The operation's; [`KmsError::UnknownOperation`], [`KmsError::UnsupportedOperation`],
        /// [`KmsError::Serialization`], [`KmsError::Validation`].
        pub fn call(
            client: &Client<'_>,
            operation: &str,
            body: &[u8],
        ) -> Result<Zeroizing<Vec<u8>>> {
            match operation {
                $(stringify!($operation) => answer::<$request>(client, body),)+
                other => Err(refuse(client, other)),
            }
        }
    };
}

operations! {
    Encrypt => encrypt(EncryptRequest),
}

/// The operations of AWS KMS that there are not, and why.
pub const UNSUPPORTED: &[(&str, &str)] = &[];

fn answer<R: Request>(client: &Client<'_>, body: &[u8]) -> Result<Zeroizing<Vec<u8>>> {
    let request: R = match wire::parse(body) {
        Ok(request) => request,
        // Refused, and recorded as such.
        Err(error) => return client.perform(R::OPERATION, None, |_| Err(error)),
    };
    let response = client.execute(&request)?;
    if std::any::TypeId::of::<R::Response>() == std::any::TypeId::of::<()>() {
        return Ok(Zeroizing::default());
    }
    wire::write(&response)
}

fn refuse(client: &Client<'_>, operation: &str) -> KmsError {
    let known = Operation::from_word(operation);
    let reason = UNSUPPORTED.iter().find(|(name, _)| *name == operation);
    let (Some(known), Some((_, reason))) = (known, reason) else {
        return KmsError::UnknownOperation(operation.to_owned());
    };
    let refused = client.perform(known, None, |_| -> Result<()> {
        Err(KmsError::UnsupportedOperation(format!(
            "{operation} is not supported: {reason}"
        )))
    });
    match refused {
        Err(error) => error,
        Ok(()) => KmsError::UnknownOperation(operation.to_owned()),
    }
}

/// Which part of a listing is wanted.
#[derive(Clone, Debug, Default)]
pub struct Page {
    /// `Limit`: how many entries at most.
    pub limit: Option<u32>,
    /// `Marker`: the `NextMarker` of the answer before.
    pub marker: Option<String>,
}

/// A part of a listing.
#[derive(Clone, Debug)]
pub struct Listing<T> {
    /// The entries.
    pub entries: Vec<T>,
    /// `NextMarker`, when there is more (`Truncated`).
    pub next_marker: Option<String>,
}

impl Page {
    /// `Limit` within its bounds, or else the default.
    fn limit(&self, default: u32, max: u32) -> Result<u32> {
        let limit = self.limit.unwrap_or(default);
        if !(1..=max).contains(&limit) {
            return Err(KmsError::Validation(format!(
                "Limit is {limit}, but must be between 1 and {max}"
            )));
        }
        Ok(limit)
    }

    /// The place that a marker of the listing `kind` names.
    fn after(&self, kind: &str) -> Result<Option<String>> {
        let Some(marker) = &self.marker else {
            return Ok(None);
        };
        let bytes = URL_SAFE_NO_PAD
            .decode(marker)
            .map_err(|_| KmsError::InvalidMarker)?;
        let text = String::from_utf8(bytes).map_err(|_| KmsError::InvalidMarker)?;
        let place = text
            .strip_prefix(kind)
            .and_then(|rest| rest.strip_prefix(':'));
        Ok(Some(place.ok_or(KmsError::InvalidMarker)?.to_owned()))
    }

    /// As [`Page::after`], where a place is a number above zero.
    fn after_number(&self, kind: &str) -> Result<i64> {
        self.after(kind)?.map_or(Ok(0), |text| {
            text.parse().map_err(|_| KmsError::InvalidMarker)
        })
    }
}

impl<T> Listing<T> {
    /// Cuts entries, of which one more than `limit` was asked for; `place` names the last one.
    fn cut(mut entries: Vec<T>, limit: u32, kind: &str, place: impl FnOnce(&T) -> String) -> Self {
        let limit = limit as usize;
        let more = entries.len() > limit;
        entries.truncate(limit);
        let last = entries.last().filter(|_| more);
        let next_marker =
            last.map(|last| URL_SAFE_NO_PAD.encode(format!("{kind}:{}", place(last))));
        Self {
            entries,
            next_marker,
        }
    }

    fn map<U>(self, map: impl FnMut(T) -> U) -> Listing<U> {
        Listing {
            entries: self.entries.into_iter().map(map).collect(),
            next_marker: self.next_marker,
        }
    }
}
