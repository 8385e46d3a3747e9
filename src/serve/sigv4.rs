//! AWS Signature Version 4, the verifying side ("Create a signed AWS API request" in the IAM user
//! guide). Pure: no I/O, no clock.
//!
//! Header form only. The payload's hash is that of the body that came, whatever a header says.

use std::fmt::Write;

use zeroize::Zeroizing;

use crate::crypto;
use crate::kms::{Timestamp, iso8601};

const ALGORITHM: &str = "AWS4-HMAC-SHA256";
/// Milliseconds that a request's clock may be off, as for AWS KMS.
const SKEW: i64 = 5 * 60 * 1000;
/// Headers that one request may have signed: more than any client has.
const MOST_HEADERS: usize = 100;

/// Why a request is not believed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// It is not signed.
    #[error("Missing Authentication Token")]
    Missing,
    /// What must be in the signature is not.
    #[error("{0}")]
    Incomplete(String),
    /// It is for another service or no Region, or of another time.
    #[error("{0}")]
    Scope(String),
    /// There is no such access key.
    #[error("The security token included in the request is invalid.")]
    UnknownKey,
    /// It says to be on behalf of somebody for whom its sender may not speak.
    #[error("{0}")]
    NotAllowed(String),
    /// It was signed with another secret, or changed.
    #[error(
        "The request signature we calculated does not match the signature you provided. Check your \
         AWS Secret Access Key and signing method. Consult the service documentation for details."
    )]
    Mismatch,
}

impl AuthError {
    /// The exception of the JSON protocol.
    pub fn json_code(&self) -> &'static str {
        match self {
            Self::Missing => "MissingAuthenticationTokenException",
            Self::NotAllowed(_) => "AccessDeniedException",
            Self::Incomplete(_) => "IncompleteSignatureException",
            Self::UnknownKey => "UnrecognizedClientException",
            Self::Scope(_) | Self::Mismatch => "InvalidSignatureException",
        }
    }

    /// The exception of the query protocol.
    pub fn query_code(&self) -> &'static str {
        match self {
            Self::Missing => "MissingAuthenticationToken",
            Self::NotAllowed(_) => "AccessDenied",
            Self::Incomplete(_) => "IncompleteSignature",
            Self::UnknownKey => "InvalidClientTokenId",
            Self::Scope(_) | Self::Mismatch => "SignatureDoesNotMatch",
        }
    }
}

type Result<T> = std::result::Result<T, AuthError>;

/// A request as it came.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The method.
    pub method: &'a str,
    /// The path, as it stands in the request.
    pub path: &'a str,
    /// The query, without its question mark.
    pub query: &'a str,
    /// The headers, in their order; names in any case.
    pub headers: &'a [(&'a str, &'a [u8])],
    /// The body.
    pub body: &'a [u8],
}

impl<'a> Request<'a> {
    fn values(&self, name: &str) -> impl Iterator<Item = &'a [u8]> {
        self.headers
            .iter()
            .filter(move |(other, _)| other.eq_ignore_ascii_case(name))
            .map(|(_, value)| *value)
    }

    fn text(&self, name: &str) -> Option<&'a str> {
        self.values(name)
            .next()
            .and_then(|value| std::str::from_utf8(value).ok())
    }
}

/// What an `Authorization` header says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authorization<'a> {
    /// The access key's id.
    pub access_key: &'a str,
    /// The day in the scope: `YYYYMMDD`.
    pub day: &'a str,
    /// The Region in the scope.
    pub region: &'a str,
    /// The service in the scope.
    pub service: &'a str,
    signed_headers: Vec<&'a str>,
    signature: [u8; 32],
}

fn incomplete(message: impl Into<String>) -> AuthError {
    AuthError::Incomplete(message.into())
}

impl<'a> Authorization<'a> {
    /// Reads the header of a request.
    ///
    /// # Errors
    /// [`AuthError::Missing`], [`AuthError::Incomplete`].
    pub fn of(request: &Request<'a>) -> Result<Self> {
        let mut values = request.values("authorization");
        let value = values.next().ok_or(AuthError::Missing)?;
        if values.next().is_some() {
            return Err(incomplete("Authorization stands twice."));
        }
        let text =
            std::str::from_utf8(value).map_err(|_| incomplete("Authorization is no text."))?;
        Self::parse(text)
    }

    /// Reads a header's value.
    ///
    /// # Errors
    /// [`AuthError::Incomplete`].
    pub fn parse(text: &'a str) -> Result<Self> {
        let rest = text.trim().strip_prefix(ALGORITHM).ok_or_else(|| {
            incomplete(format!(
                "Authorization header requires the algorithm {ALGORITHM}."
            ))
        })?;
        if !rest.starts_with(' ') {
            return Err(incomplete("Authorization header has no parameters."));
        }
        let (mut credential, mut headers, mut signature) = (None, None, None);
        for part in rest.split(',') {
            let (name, value) = part.trim().split_once('=').ok_or_else(|| {
                incomplete("Authorization header has a parameter without a value.")
            })?;
            let slot = match name {
                "Credential" => &mut credential,
                "SignedHeaders" => &mut headers,
                "Signature" => &mut signature,
                other => {
                    let other = other.escape_debug();
                    return Err(incomplete(format!(
                        "Authorization header has an unknown parameter '{other}'."
                    )));
                }
            };
            if slot.replace(value).is_some() {
                return Err(incomplete(format!(
                    "Authorization header has '{name}' twice."
                )));
            }
        }
        let required = |value: Option<&'a str>, name: &str| {
            value.ok_or_else(|| {
                incomplete(format!("Authorization header requires '{name}' parameter."))
            })
        };
        let credential = required(credential, "Credential")?;
        let parts: Vec<&str> = credential.split('/').collect();
        let [access_key, day, region, service, "aws4_request"] = parts[..] else {
            return Err(incomplete(
                "Credential must have exactly 5 slash-delimited elements, e.g. \
                 keyid/date/region/service/term.",
            ));
        };
        let is_word = |text: &str, most: usize| {
            (1..=most).contains(&text.len())
                && text
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        };
        let is_day = day.len() == 8 && day.bytes().all(|b| b.is_ascii_digit());
        if !is_word(access_key, 128) || !is_day || !is_word(region, 64) || !is_word(service, 64) {
            return Err(incomplete("Credential has an invalid element."));
        }
        let signed_headers: Vec<&str> = required(headers, "SignedHeaders")?.split(';').collect();
        let is_name = |name: &&str| {
            !name.is_empty()
                && name
                    .bytes()
                    .all(|b| b.is_ascii_graphic() && !b.is_ascii_uppercase())
        };
        if signed_headers.len() > MOST_HEADERS
            || !signed_headers.iter().all(is_name)
            || !signed_headers.is_sorted_by(|a, b| a < b)
        {
            return Err(incomplete("SignedHeaders must be sorted lower-case names."));
        }
        let signature = hex(required(signature, "Signature")?)
            .ok_or_else(|| incomplete("Signature must be 64 hexadecimal digits."))?;
        Ok(Self {
            access_key,
            day,
            region,
            service,
            signed_headers,
            signature,
        })
    }

    fn is_signed(&self, name: &str) -> bool {
        self.signed_headers.contains(&name)
    }

    /// Whether the signature is the one that `secret` gives, `now`, and covers what it must.
    ///
    /// # Errors
    /// [`AuthError`]
    pub fn verify(&self, request: &Request<'_>, secret: &[u8], now: Timestamp) -> Result<()> {
        self.check_coverage(request)?;
        let time = self.check_time(request, now)?;
        let expected = self.signature(request, secret, time)?;
        let difference = expected
            .iter()
            .zip(&self.signature)
            .fold(0u8, |difference, (a, b)| difference | (a ^ b));
        if std::hint::black_box(difference) == 0 {
            Ok(())
        } else {
            Err(AuthError::Mismatch)
        }
    }

    /// The host, and whatever of AWS's headers there is, must be signed: nobody on the way can add
    /// one of them.
    fn check_coverage(&self, request: &Request<'_>) -> Result<()> {
        let needed =
            |name: &str| name == "host" || name == "content-type" || name.starts_with("x-amz-");
        let unsigned = request
            .headers
            .iter()
            .map(|(name, _)| name.to_ascii_lowercase())
            .chain(["host".to_owned()])
            .find(|name| needed(name) && !self.is_signed(name));
        match unsigned {
            Some(name) => Err(incomplete(format!("'{name}' must be a signed header."))),
            None => Ok(()),
        }
    }

    fn check_time<'r>(&self, request: &Request<'r>, now: Timestamp) -> Result<&'r str> {
        let mut dates = request.values("x-amz-date");
        let text = dates
            .next()
            .and_then(|value| std::str::from_utf8(value).ok())
            .map(str::trim)
            .ok_or_else(|| {
                incomplete("Authorization header requires existence of an 'X-Amz-Date' header.")
            })?;
        if dates.next().is_some() {
            return Err(incomplete("X-Amz-Date stands twice."));
        }
        let time = Some(text)
            .filter(|text| text.len() == 16 && text.ends_with('Z'))
            .and_then(iso8601::parse)
            .ok_or_else(|| incomplete("Date must be in ISO-8601 'basic format'."))?;
        if !text.starts_with(self.day) {
            return Err(AuthError::Scope(format!(
                "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from \
                 HTTP: '{}' != '{}'.",
                self.day,
                &text[..8]
            )));
        }
        let off = now.millis().saturating_sub(time.millis());
        if off > SKEW {
            return Err(AuthError::Scope(format!(
                "Signature expired: {text} is now earlier than {} ({} - 5 min.)",
                basic(Timestamp::from_millis(now.millis() - SKEW)),
                basic(now)
            )));
        }
        if off < -SKEW {
            return Err(AuthError::Scope(format!(
                "Signature not yet current: {text} is still later than {} ({} + 5 min.)",
                basic(Timestamp::from_millis(now.millis() + SKEW)),
                basic(now)
            )));
        }
        Ok(text)
    }

    fn signature(&self, request: &Request<'_>, secret: &[u8], time: &str) -> Result<[u8; 32]> {
        let hash = crypto::sha256(&[self.canonical(request)?.as_bytes()]);
        let mut to_sign = format!(
            "{ALGORITHM}\n{time}\n{}/{}/{}/aws4_request\n",
            self.day, self.region, self.service
        );
        push_hex(&mut to_sign, &hash);
        let mut key = Zeroizing::new([b"AWS4".as_slice(), secret].concat());
        for part in [self.day, self.region, self.service, "aws4_request"] {
            key = Zeroizing::new(crypto::hmac_sha256(&key, &[part.as_bytes()]).to_vec());
        }
        Ok(crypto::hmac_sha256(&key, &[to_sign.as_bytes()]))
    }

    /// The canonical request.
    fn canonical(&self, request: &Request<'_>) -> Result<String> {
        let mut text = format!(
            "{}\n{}\n{}\n",
            request.method,
            canonical_path(request.path),
            canonical_query(request.query)
        );
        for name in &self.signed_headers {
            text.push_str(name);
            text.push(':');
            let mut any = false;
            for value in request.values(name) {
                let value = std::str::from_utf8(value)
                    .map_err(|_| incomplete(format!("The header '{name}' is no text.")))?;
                if any {
                    text.push(',');
                }
                any = true;
                push_trimmed(&mut text, value);
            }
            if !any {
                return Err(incomplete(format!(
                    "The signed header '{name}' is missing."
                )));
            }
            text.push('\n');
        }
        text.push('\n');
        text.push_str(&self.signed_headers.join(";"));
        text.push('\n');
        let hash = crypto::sha256(&[request.body]);
        let mut body = String::with_capacity(64);
        push_hex(&mut body, &hash);
        // Where a client names the hash, it must be this one.
        if request
            .text("x-amz-content-sha256")
            .is_some_and(|named| named != body)
        {
            return Err(AuthError::Mismatch);
        }
        text.push_str(&body);
        Ok(text)
    }
}

/// Who signs a request, and for what.
#[derive(Clone, Copy)]
pub struct Signer<'a> {
    /// The access key's id.
    pub access_key: &'a str,
    /// Its secret.
    pub secret: &'a [u8],
    /// The Region that is asked.
    pub region: &'a str,
    /// The service that is asked.
    pub service: &'a str,
}

impl Signer<'_> {
    /// The `Authorization` header of a request whose `X-Amz-Date` is `time`. All headers that it has
    /// are signed.
    ///
    /// # Errors
    /// [`AuthError::Incomplete`] for a header that is no text.
    pub fn sign(&self, request: &Request<'_>, time: &str) -> Result<String> {
        let mut names: Vec<String> = request
            .headers
            .iter()
            .map(|(name, _)| name.to_ascii_lowercase())
            .collect();
        names.sort_unstable();
        names.dedup();
        let authorization = Authorization {
            access_key: self.access_key,
            day: time.get(..8).unwrap_or_default(),
            region: self.region,
            service: self.service,
            signed_headers: names.iter().map(String::as_str).collect(),
            signature: [0; 32],
        };
        let mut text = format!(
            "{ALGORITHM} Credential={}/{}/{}/{}/aws4_request, SignedHeaders={}, Signature=",
            self.access_key,
            authorization.day,
            self.region,
            self.service,
            names.join(";")
        );
        push_hex(
            &mut text,
            &authorization.signature(request, self.secret, time)?,
        );
        Ok(text)
    }
}

/// A time as the protocol writes it: `YYYYMMDDThhmmssZ`.
pub fn basic(time: Timestamp) -> String {
    let whole = Timestamp::from_millis(time.millis().div_euclid(1000) * 1000).to_string();
    whole
        .chars()
        .take(19)
        .filter(|c| !matches!(c, '-' | ':'))
        .chain(['Z'])
        .collect()
}

fn hex(text: &str) -> Option<[u8; 32]> {
    let digit = |b: u8| match b {
        b'0'..=b'9' => Some(b - b'0'),
        b'a'..=b'f' => Some(b - b'a' + 10),
        _ => None,
    };
    let mut out = [0; 32];
    if text.len() != 64 {
        return None;
    }
    for (byte, pair) in out.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(out)
}

fn push_hex(out: &mut String, bytes: &[u8]) {
    out.push_str(&crate::format::hex(bytes));
}

/// A header's value without the spaces around it, and with one space for several.
fn push_trimmed(out: &mut String, value: &str) {
    for (at, word) in value.split_ascii_whitespace().enumerate() {
        if at > 0 {
            out.push(' ');
        }
        out.push_str(word);
    }
}

/// Percent-encodes all but what RFC 3986 calls unreserved (§2.3).
fn push_encoded(out: &mut String, bytes: &[u8], and: &[u8]) {
    for &byte in bytes {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) || and.contains(&byte) {
            out.push(char::from(byte));
        } else {
            // Writing to a String does not fail.
            let _ = write!(out, "%{byte:02X}");
        }
    }
}

/// The path without dot segments and empty ones, encoded once more than it is.
fn canonical_path(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    let mut out = String::from("/");
    let joined = parts.join("/");
    push_encoded(&mut out, joined.as_bytes(), b"/%");
    if path.ends_with('/') && out.len() > 1 {
        out.push('/');
    }
    out
}

/// The parameters, decoded, encoded in one way and sorted.
fn canonical_query(query: &str) -> String {
    let recode = |text: &str| {
        let mut out = String::with_capacity(text.len());
        push_encoded(&mut out, &decoded(text), b"");
        out
    };
    let mut pairs: Vec<(String, String)> = query
        .split('&')
        .filter(|part| !part.is_empty())
        .map(|part| {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            (recode(name), recode(value))
        })
        .collect();
    pairs.sort();
    let joined: Vec<String> = pairs
        .into_iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    joined.join("&")
}

/// Bytes behind `%` and two hexadecimal digits; anything else stays as it is.
pub(super) fn decoded(text: &str) -> Vec<u8> {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let escaped = (bytes[at] == b'%')
            .then(|| text.get(at + 1..at + 3))
            .flatten()
            .filter(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()))
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match escaped {
            Some(byte) => {
                out.push(byte);
                at += 3;
            }
            None => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    out
}

#[cfg(test)]
mod tests;
