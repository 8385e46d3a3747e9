//! A record in the shape of CloudTrail ("CloudTrail record contents", eventVersion 1.11).

use std::cell::RefCell;
use std::io::Write;

use super::super::caller::Principal;
use super::super::clock::Timestamp;
use super::super::error::{KmsError, Result};
use super::Event;
use super::chain::push_hex;
use crate::crypto;
use crate::format::{uuid_digits, version_4};

/// What local programs of this package are called.
const OWN_AGENT: &str = concat!("envelopefs/", env!("CARGO_PKG_VERSION"));

/// Appends a record up to its place in the chain: two objects are still open.
pub(super) fn write(out: &mut Vec<u8>, event: &Event<'_>) -> Result<()> {
    let caller = event.caller;
    let source = caller.source();
    out.extend_from_slice(caller.recorded());
    if let Some(key) = &source.access_key {
        out.extend_from_slice(b",\"accessKeyId\":");
        text(out, key);
    }
    out.extend_from_slice(b"},\"eventTime\":\"");
    time(out, event.time);
    out.extend_from_slice(b"\",\"eventSource\":\"kms.amazonaws.com\",\"eventName\":");
    plain(out, event.operation);
    out.extend_from_slice(b",\"awsRegion\":");
    plain(out, caller.region_name());
    out.extend_from_slice(b",\"sourceIPAddress\":");
    match source.address {
        // Writing to a Vec does not fail.
        Some(address) => drop(write!(out, "\"{address}\"")),
        None => plain(out, "local"),
    }
    out.extend_from_slice(b",\"userAgent\":");
    match &source.user_agent {
        Some(agent) => text(out, agent),
        None => plain(out, OWN_AGENT),
    }
    if let Some(error) = event.error {
        out.extend_from_slice(b",\"errorCode\":");
        text(out, error_code(error));
        out.extend_from_slice(b",\"errorMessage\":");
        text(out, &error.message());
    }
    out.extend_from_slice(b",\"requestParameters\":");
    match event.parameters {
        Some(parameters) => parameters.write_json(out)?,
        None => out.extend_from_slice(b"null"),
    }
    out.extend_from_slice(b",\"responseElements\":null");
    additional(out, event);
    out.extend_from_slice(b",\"requestID\":");
    match &source.request_id {
        Some(id) => text(out, id),
        None => uuid(out, &crypto::random_array()),
    }
    out.extend_from_slice(b",\"eventID\":");
    uuid(out, &event.event_id);
    out.extend_from_slice(b",\"readOnly\":");
    out.extend_from_slice(if event.read_only { b"true" } else { b"false" });
    resources(out, event);
    out.extend_from_slice(b",\"eventType\":");
    let service = matches!(caller.principal(), Principal::Service);
    let kind = if service {
        "AwsServiceEvent"
    } else {
        "AwsApiCall"
    };
    plain(out, kind);
    out.extend_from_slice(b",\"managementEvent\":true,\"recipientAccountId\":");
    plain(out, caller.account());
    out.extend_from_slice(b",\"eventCategory\":\"Management\",\"envelopefs\":{\"uid\":");
    number(out, source.uid);
    out.extend_from_slice(b",\"pid\":");
    number(out, source.pid);
    Ok(())
}

/// CloudTrail has the code without the word that ends it on the wire.
fn error_code(error: &KmsError) -> &'static str {
    match error.code() {
        "AccessDeniedException" => "AccessDenied",
        other => other,
    }
}

/// The start of all records of a principal: the object that says who it is, still open.
pub(in crate::kms) fn start(principal: &Principal, arn: &str, account: &str) -> Vec<u8> {
    let mut out = b"{\"eventVersion\":\"1.11\",\"userIdentity\":".to_vec();
    identity(&mut out, principal, arn, account);
    out
}

fn identity(out: &mut Vec<u8>, principal: &Principal, arn: &str, account: &str) {
    let member = |out: &mut Vec<u8>, name: &str, value: &str| {
        out.extend_from_slice(b",\"");
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(b"\":");
        text(out, value);
    };
    match principal {
        Principal::Root => {
            out.extend_from_slice(b"{\"type\":\"Root\"");
            member(out, "principalId", account);
        }
        Principal::User(name) => {
            out.extend_from_slice(b"{\"type\":\"IAMUser\"");
            member(out, "principalId", name);
            member(out, "userName", name);
        }
        Principal::Volume(volume) => {
            out.extend_from_slice(b"{\"type\":\"AssumedRole\"");
            member(out, "principalId", &format!("envelopefs:volume:{volume}"));
            member(out, "invokedBy", "envelopefs");
        }
        Principal::Service => {
            out.extend_from_slice(b"{\"type\":\"AWSService\",\"invokedBy\":\"envelopefs\"");
            return;
        }
    }
    member(out, "arn", arn);
    member(out, "accountId", account);
}

/// What was part of neither request nor answer: the key materials, what had to be said to have it
/// done, and the run that it was part of.
fn additional(out: &mut Vec<u8>, event: &Event<'_>) {
    let names: &[&str] = if event.keys.len() > 1 {
        &["sourceKeyMaterialId", "destinationKeyMaterialId"]
    } else {
        &["keyMaterialId"]
    };
    let mut any = false;
    let mut member = |out: &mut Vec<u8>, name: &str| {
        out.extend_from_slice(if any {
            b",\""
        } else {
            b",\"additionalEventData\":{\""
        });
        any = true;
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(b"\":");
    };
    for (name, key) in names.iter().zip(event.keys) {
        if let Some(material) = &key.material {
            member(out, name);
            out.push(b'"');
            push_hex(out, &material.0);
            out.push(b'"');
        }
    }
    if let Some(lost) = event.forced {
        member(out, "forced");
        text(out, lost);
    }
    if let Some(run) = &event.caller.source().run {
        member(out, "runId");
        uuid(out, run.bytes());
    }
    if any {
        out.push(b'}');
    }
}

fn resources(out: &mut Vec<u8>, event: &Event<'_>) {
    if event.keys.is_empty() {
        return;
    }
    out.extend_from_slice(b",\"resources\":[");
    for (at, key) in event.keys.iter().enumerate() {
        out.extend_from_slice(if at > 0 {
            b",{\"accountId\":"
        } else {
            b"{\"accountId\":"
        });
        plain(out, event.caller.account());
        out.extend_from_slice(b",\"type\":\"AWS::KMS::Key\",\"ARN\":");
        text(out, &key.arn);
        out.push(b'}');
    }
    out.push(b']');
}

fn number(out: &mut Vec<u8>, value: Option<u32>) {
    match value {
        Some(value) => out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes()),
        None => out.extend_from_slice(b"null"),
    }
}

fn uuid(out: &mut Vec<u8>, bytes: &[u8; 16]) {
    out.push(b'"');
    out.extend_from_slice(&uuid_digits(&version_4(*bytes)));
    out.push(b'"');
}

thread_local! {
    /// The last second that was written, and how.
    static SECOND: RefCell<(i64, String)> = const { RefCell::new((i64::MIN, String::new())) };
}

/// `2026-05-01T12:00:00.123Z`. CloudTrail has whole seconds; more of them sort records better.
fn time(out: &mut Vec<u8>, time: Timestamp) {
    let (second, millis) = (
        time.millis().div_euclid(1000),
        time.millis().rem_euclid(1000) as u32,
    );
    SECOND.with_borrow_mut(|(known, shown)| {
        if *known != second {
            // `YYYY-MM-DDThh:mm:ss` of what it shows.
            *shown = time.to_string();
            shown.truncate(19);
            *known = second;
        }
        out.extend_from_slice(shown.as_bytes());
    });
    let digit = |place: u32| b'0' + (millis / place % 10) as u8;
    out.extend_from_slice(&[b'.', digit(100), digit(10), digit(1), b'Z']);
}

/// Whether a byte is escaped in a JSON string.
fn special(b: u8) -> bool {
    b < 0x20 || b == b'"' || b == b'\\'
}

/// Whether a text stands in a JSON string as it is. Most do: all bytes at once, as a processor likes
/// it.
pub(in crate::kms) fn is_plain(text: &str) -> bool {
    !text.bytes().fold(false, |found, b| found | special(b))
}

/// A JSON string without anything that has to be escaped.
fn plain(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    out.extend_from_slice(text.as_bytes());
    out.push(b'"');
}

/// A JSON string (RFC 8259 §7).
pub(super) fn text(out: &mut Vec<u8>, text: &str) {
    if is_plain(text) {
        return plain(out, text);
    }
    out.push(b'"');
    let mut rest = text;
    while let Some(at) = rest.bytes().position(special) {
        out.extend_from_slice(&rest.as_bytes()[..at]);
        // Writing to a Vec does not fail.
        let _ = match rest.as_bytes()[at] {
            b @ (b'"' | b'\\') => out.write_all(&[b'\\', b]),
            b => write!(out, "\\u{b:04x}"),
        };
        rest = &rest[at + 1..];
    }
    out.extend_from_slice(rest.as_bytes());
    out.push(b'"');
}
