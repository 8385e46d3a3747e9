//! Key ids and key-material ids.

use std::fmt;
use std::str::FromStr;

use super::error::KmsError;
use crate::crypto;
use crate::format::{hex_digits, random_uuid, uuid_digits, write_digits};

/// (De)serialization as text, by `Display` and `FromStr`.
macro_rules! text_serde {
    ($name:ident) => {
        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<str>::deserialize(from)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

/// The id of a CMK: a UUID, or `mrk-` and 32 hex digits for a multi-Region key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyId {
    bytes: [u8; 16],
    multi_region: bool,
}

impl KeyId {
    /// Puts an id together from what a blob or a record holds.
    pub fn new(bytes: [u8; 16], multi_region: bool) -> Self {
        Self {
            bytes,
            multi_region,
        }
    }

    /// A new random id (RFC 9562 version 4) of a single-Region key.
    pub fn random() -> Self {
        Self {
            bytes: random_uuid(),
            multi_region: false,
        }
    }

    /// A new random id of a multi-Region key.
    pub fn random_multi_region() -> Self {
        Self {
            bytes: crypto::random_array(),
            multi_region: true,
        }
    }

    /// The id's 16 bytes.
    pub fn bytes(&self) -> &[u8; 16] {
        &self.bytes
    }

    /// Whether it is the id of a multi-Region key.
    pub fn is_multi_region(&self) -> bool {
        self.multi_region
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.multi_region {
            return write_digits(f, &uuid_digits(&self.bytes));
        }
        f.write_str("mrk-")?;
        write_digits(f, hex_digits(&self.bytes).as_flattened())
    }
}

text_serde!(KeyId);

impl FromStr for KeyId {
    type Err = KmsError;

    fn from_str(text: &str) -> Result<Self, KmsError> {
        let invalid = || KmsError::NotFound(format!("Invalid keyId '{text}'"));
        let (multi_region, bytes) = match text.strip_prefix("mrk-") {
            Some(digits) => (true, from_hex(digits.as_bytes())),
            None => (false, parse_uuid(text)),
        };
        Ok(Self {
            bytes: bytes.ok_or_else(invalid)?,
            multi_region,
        })
    }
}

/// The id of one run of a rewrap or re-encrypt: a UUID (RFC 9562 version 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RunId([u8; 16]);

impl RunId {
    /// A new one.
    pub fn random() -> Self {
        Self(random_uuid())
    }

    /// The id's 16 bytes.
    pub fn bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_digits(f, &uuid_digits(&self.0))
    }
}

text_serde!(RunId);

impl FromStr for RunId {
    type Err = KmsError;

    fn from_str(text: &str) -> Result<Self, KmsError> {
        parse_uuid(text).map(Self).ok_or_else(|| {
            KmsError::Validation(format!("'{}' is no run's id", text.escape_debug()))
        })
    }
}

/// The id of one key material of a CMK.
///
/// SHA-256 over a label, the key's id and a random identifier; nothing of the secret is in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MaterialId(pub [u8; 32]);

impl MaterialId {
    /// The id of a new material of `key`.
    pub(super) fn random(key: &KeyId) -> Self {
        let identifier: [u8; 16] = crypto::random_array();
        Self(crypto::sha256(&[
            b"envelopefs key material id v1\0",
            key.bytes(),
            &identifier,
        ]))
    }

    /// The id of imported material of `key`: always the same for the same material. One-way; who
    /// could guess the material could check the guess by it, as by any ciphertext.
    pub(super) fn of_imported(key: &KeyId, material: &[u8]) -> Self {
        let mut digest = crypto::sha256(&[material]);
        let digest = crate::secret::Key256::take_from(&mut digest);
        Self(crypto::mac(
            &digest,
            &[b"envelopefs imported key material id v1\0", key.bytes()],
        ))
    }

    /// The first eight bytes, by which a blob names its material.
    pub fn prefix(&self) -> [u8; 8] {
        let mut prefix = [0; 8];
        prefix.copy_from_slice(&self.0[..8]);
        prefix
    }
}

impl fmt::Display for MaterialId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_digits(f, hex_digits(&self.0).as_flattened())
    }
}

impl serde::Serialize for MaterialId {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl FromStr for MaterialId {
    type Err = KmsError;

    fn from_str(text: &str) -> Result<Self, KmsError> {
        from_hex(text.as_bytes())
            .map(Self)
            .ok_or_else(|| KmsError::Validation(format!("'{text}' is no key material id")))
    }
}

fn parse_uuid(text: &str) -> Option<[u8; 16]> {
    let hyphens = |(i, b)| (b == b'-') == matches!(i, 8 | 13 | 18 | 23);
    if text.len() != 36 || !text.bytes().enumerate().all(hyphens) {
        return None;
    }
    let mut digits = [0; 32];
    for (to, from) in digits.iter_mut().zip(text.bytes().filter(|b| *b != b'-')) {
        *to = from;
    }
    from_hex(&digits)
}

/// Exactly `N` bytes from lower- or upper-case hex digits.
fn from_hex<const N: usize>(digits: &[u8]) -> Option<[u8; N]> {
    if digits.len() != 2 * N {
        return None;
    }
    let mut out = [0; N];
    for (byte, pair) in out.iter_mut().zip(digits.chunks_exact(2)) {
        let high = char::from(pair[0]).to_digit(16)?;
        let low = char::from(pair[1]).to_digit(16)?;
        *byte = u8::try_from(high * 16 + low).ok()?;
    }
    Some(out)
}
