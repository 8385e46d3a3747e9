//! The record of every operation, refusals included.
//!
//! A record is a line of JSON in CloudTrail's shape. Records are chained by hash and authenticated
//! with a key of the keystore's; how far the log has come is kept beside it and anchored in the
//! keystore. See `chain` for the form, `log` for the writing; a keystore's log is the folder `audit`
//! in its directory.
//!
//! Who holds the keystore and what opens it can make any log; who can only write to its files can't
//! change, remove, insert, reorder or cut off a record unnoticed. (Who sets log and keystore back
//! together to an older state shows that state.)
//!
//! An operation's record is in the file before its answer is given, so that what was done is known
//! even when the process is killed. What volumes do with data keys comes by the thousands a second:
//! when it succeeds, its record may wait for 20 ms, to be written with others. Once those can't be
//! written, no key can be used.

mod chain;
mod log;
mod query;
mod shape;
mod verify;
mod waiting;

use std::sync::Arc;
use std::time::Duration;

pub use log::{Limits, Log};
pub use query::{Filter, Parts, Reader, Record};
pub(super) use shape::{is_plain, start};
pub(super) use verify::verify;
pub use verify::{Problem, Report};

use super::caller::Caller;
use super::clock::Timestamp;
use super::error::{KmsError, Result};
use super::id::MaterialId;

/// The log's folder in the keystore's directory.
pub(super) const DIR: &str = "audit";

/// A key that an operation worked on.
#[derive(Clone, Debug)]
pub struct KeyUse {
    /// Its ARN.
    pub arn: Arc<str>,
    /// The material that was used, where one was.
    pub material: Option<MaterialId>,
}

/// What an operation was told.
pub trait Parameters {
    /// Appends a JSON object: members in lower camel case, no plaintext, no ciphertext.
    ///
    /// # Errors
    /// [`KmsError::Unrecorded`] when it can't be written.
    fn write_json(&self, out: &mut Vec<u8>) -> Result<()>;
}

/// One operation and its outcome.
pub struct Event<'a> {
    /// When it was asked for.
    pub time: Timestamp,
    /// By whom.
    pub caller: &'a Caller,
    /// The operation's name.
    pub operation: &'static str,
    /// Whether it changes nothing.
    pub read_only: bool,
    /// The keys it worked on, as far as it came.
    pub keys: &'a [KeyUse],
    /// What it was told; `None` when that could not be read.
    pub parameters: Option<&'a dyn Parameters>,
    /// Why it was refused; `None` when it was done.
    pub error: Option<&'a KmsError>,
    /// What was said to be lost by it, where that had to be said.
    pub forced: Option<&'a str>,
    /// The record's id: 16 random bytes.
    pub event_id: [u8; 16],
    /// Whether its record may wait for a moment, to be written with others.
    pub may_wait: bool,
}

/// After so long, the records of all that was done before are in the log: those that may wait do so
/// for 20 ms.
pub const SETTLED_AFTER: Duration = Duration::from_millis(100);
const _: () = assert!(SETTLED_AFTER.as_millis() >= 5 * waiting::DEFERRAL.as_millis());

/// Where records go.
pub trait Recorder: Send + Sync {
    /// Takes one record. It survives the end of this process from when this returns; one that may
    /// wait, from a moment later. May be called within a write transaction of the keystore, so it must
    /// not write to the keystore's database.
    ///
    /// # Errors
    /// [`KmsError::Unrecorded`]: the operation is refused then.
    fn record(&self, event: &Event<'_>) -> Result<()>;
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_bytes;
#[cfg(test)]
mod tests_tampering;
#[cfg(test)]
mod tests_waiting;
