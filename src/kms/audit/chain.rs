//! The chain: how records are tied to each other, and where a segment ends.
//!
//! A segment is a file of lines. A line ends with
//! `,"segment":N,"seq":S,"previous":"HASH","mac":"MAC"}}`: its *body* is what stands before
//! `,"mac"`; `previous` is the SHA-256 of the body before (of the first one: the segment's genesis);
//! the MAC is HMAC-SHA-256 under the log's key over segment, seq and the body's SHA-256.
//!
//! Beside it lies the *head*: the place behind the last record, its number and hash, with the
//! same MAC. It is written after the records of each write, so that one cut off at the end is missed.

use crate::crypto::{self, MacKey};
use crate::format::hex_digits;

/// Bytes of a head: magic, segment, seq, length of the file, hash, MAC.
pub(super) const HEAD_LEN: usize = 8 + 3 * 8 + 32 + 32;
const MAGIC: &[u8; 8] = b"EnvAud01";
/// What a line has behind its body.
const TAIL_LEN: usize = ",\"mac\":\"".len() + 64 + "\"}}".len();

/// The end of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) segment: i64,
    /// The number of the last record; 0 when there is none.
    pub(super) seq: i64,
    /// Bytes up to the end of the last record.
    pub(super) len: u64,
    /// The hash of the last record's body, or the segment's genesis.
    pub(super) hash: [u8; 32],
}

impl Head {
    pub(super) fn mac(&self, key: &MacKey) -> [u8; 32] {
        record_mac(key, self.segment, self.seq, &self.hash)
    }

    pub(super) fn encode(&self, mac: &[u8; 32]) -> [u8; HEAD_LEN] {
        let mut out = [0; HEAD_LEN];
        let fields: [&[u8]; 6] = [
            MAGIC,
            &self.segment.to_le_bytes(),
            &self.seq.to_le_bytes(),
            &self.len.to_le_bytes(),
            &self.hash,
            mac,
        ];
        let mut at = 0;
        for field in fields {
            out[at..at + field.len()].copy_from_slice(field);
            at += field.len();
        }
        out
    }

    /// `None` when it is not one that was written here.
    pub(super) fn parse(key: &MacKey, bytes: &[u8; HEAD_LEN]) -> Option<Self> {
        let number = |at: usize| {
            let mut field = [0; 8];
            field.copy_from_slice(&bytes[at..at + 8]);
            field
        };
        let (mut hash, mut mac) = ([0; 32], [0; 32]);
        hash.copy_from_slice(&bytes[32..64]);
        mac.copy_from_slice(&bytes[64..96]);
        let head = Self {
            segment: i64::from_le_bytes(number(8)),
            seq: i64::from_le_bytes(number(16)),
            len: u64::from_le_bytes(number(24)),
            hash,
        };
        let authentic = key.matches(
            &mac_parts(&head.segment.to_le_bytes(), &head.seq.to_le_bytes(), &hash),
            &mac,
        );
        (bytes[..8] == *MAGIC && authentic).then_some(head)
    }
}

const LABEL: &[u8] = b"envelopefs audit record v1";

fn mac_parts<'a>(segment: &'a [u8; 8], seq: &'a [u8; 8], hash: &'a [u8; 32]) -> [&'a [u8]; 4] {
    [LABEL, segment, seq, hash]
}

fn record_mac(key: &MacKey, segment: i64, seq: i64, hash: &[u8; 32]) -> [u8; 32] {
    // In one piece: each one costs a call.
    let mut input = [0; LABEL.len() + 8 + 8 + 32];
    let (segment, seq) = (segment.to_le_bytes(), seq.to_le_bytes());
    let mut rest = &mut input[..];
    for part in mac_parts(&segment, &seq, hash) {
        let (to, behind) = rest.split_at_mut(part.len());
        to.copy_from_slice(part);
        rest = behind;
    }
    key.tag(&[&input])
}

/// What a segment's first record follows: the segments opened before are in it.
pub(super) fn genesis(number: i64, before: &[u8; 32]) -> [u8; 32] {
    crypto::sha256(&[
        b"envelopefs audit segment v1",
        &number.to_le_bytes(),
        before,
    ])
}

pub(super) fn push_hex<const N: usize>(out: &mut Vec<u8>, bytes: &[u8; N]) {
    out.extend_from_slice(hex_digits(bytes).as_flattened());
}

fn unhex(text: &[u8]) -> Option<[u8; 32]> {
    let digit = |b: u8| match b {
        b'0'..=b'9' => Some(b - b'0'),
        b'a'..=b'f' => Some(b - b'a' + 10),
        _ => None,
    };
    let mut out = [0; 32];
    if text.len() != 64 {
        return None;
    }
    for (byte, pair) in out.iter_mut().zip(text.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(out)
}

/// Appends a record that follows `head` to `out`: what `line` has of it (an object that is open
/// twice), then chain and line feed. The head behind it, and its MAC.
pub(super) fn seal(key: &MacKey, head: &Head, line: &[u8], out: &mut Vec<u8>) -> (Head, [u8; 32]) {
    let start = out.len();
    let seq = head.seq + 1;
    let mut number = itoa::Buffer::new();
    out.extend_from_slice(line);
    out.extend_from_slice(b",\"segment\":");
    out.extend_from_slice(number.format(head.segment).as_bytes());
    out.extend_from_slice(b",\"seq\":");
    out.extend_from_slice(number.format(seq).as_bytes());
    out.extend_from_slice(b",\"previous\":\"");
    push_hex(out, &head.hash);
    out.push(b'"');
    let hash = crypto::sha256(&[&out[start..]]);
    let mac = record_mac(key, head.segment, seq, &hash);
    out.extend_from_slice(b",\"mac\":\"");
    push_hex(out, &mac);
    out.extend_from_slice(b"\"}}\n");
    let next = Head {
        segment: head.segment,
        seq,
        len: head.len + (out.len() - start) as u64,
        hash,
    };
    (next, mac)
}

/// A record's place in the chain, as its line says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Link {
    pub(super) segment: i64,
    pub(super) seq: i64,
    pub(super) previous: [u8; 32],
    /// The hash of its body.
    pub(super) hash: [u8; 32],
}

/// Reads a line (without its line feed): `None` when it is not one that was written here.
pub(super) fn open(key: &MacKey, line: &[u8]) -> Option<Link> {
    let at = line.len().checked_sub(TAIL_LEN)?;
    let (body, tail) = line.split_at(at);
    let mac = unhex(tail.strip_prefix(b",\"mac\":\"")?.strip_suffix(b"\"}}")?)?;
    let previous_at = body.len().checked_sub(",\"previous\":\"".len() + 64 + 1)?;
    let (rest, previous) = body.split_at(previous_at);
    let previous = unhex(
        previous
            .strip_prefix(b",\"previous\":\"")?
            .strip_suffix(b"\"")?,
    )?;
    let (rest, seq) = number_behind(rest, b",\"seq\":")?;
    let (_, segment) = number_behind(rest, b",\"segment\":")?;
    let hash = crypto::sha256(&[body]);
    let authentic = key.matches(
        &mac_parts(&segment.to_le_bytes(), &seq.to_le_bytes(), &hash),
        &mac,
    );
    authentic.then_some(Link {
        segment,
        seq,
        previous,
        hash,
    })
}

/// What stands before `name` and the number behind it, at the end of `text`.
fn number_behind<'a>(text: &'a [u8], name: &[u8]) -> Option<(&'a [u8], i64)> {
    let digits = text.iter().rev().take_while(|b| b.is_ascii_digit()).count();
    let (rest, digits) = text.split_at(text.len() - digits);
    let number = std::str::from_utf8(digits).ok()?.parse().ok()?;
    Some((rest.strip_suffix(name)?, number))
}
