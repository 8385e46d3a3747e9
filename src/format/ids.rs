//! Identities of volumes and files.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::FormatError;
use crate::crypto::random_array;

/// A number below 16 as a lower-case hexadecimal digit. Computed and not looked up: so the compiler
/// does many at once.
const fn digit(number: u8) -> u8 {
    let gap = b'a' - b'9' - 1;
    b'0' + number + if number > 9 { gap } else { 0 }
}

const fn digits(byte: u8) -> [u8; 2] {
    [digit(byte >> 4), digit(byte & 15)]
}

/// The lower-case hexadecimal digits of some bytes.
pub fn hex_digits<const N: usize>(bytes: &[u8; N]) -> [[u8; 2]; N] {
    let mut out = [[0; 2]; N];
    for (to, byte) in out.iter_mut().zip(bytes) {
        *to = digits(*byte);
    }
    out
}

/// Bytes as lower-case hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    let digits = bytes.iter().flat_map(|byte| digits(*byte));
    digits.map(char::from).collect()
}

/// Bytes as a UUID is written, if they are 16 (RFC 9562).
pub fn uuid(bytes: &[u8]) -> String {
    match bytes.try_into() {
        Ok(bytes) => uuid_digits(bytes).map(char::from).iter().collect(),
        Err(_) => hex(bytes),
    }
}

/// 16 bytes as a UUID: 8-4-4-4-12 digits.
pub fn uuid_digits(bytes: &[u8; 16]) -> [u8; 36] {
    let digits = hex_digits(bytes);
    let digits = digits.as_flattened();
    let mut text = [b'-'; 36];
    text[..8].copy_from_slice(&digits[..8]);
    text[9..13].copy_from_slice(&digits[8..12]);
    text[14..18].copy_from_slice(&digits[12..16]);
    text[19..23].copy_from_slice(&digits[16..20]);
    text[24..].copy_from_slice(&digits[20..]);
    text
}

/// Writes digits, which are ASCII.
pub fn write_digits(f: &mut fmt::Formatter<'_>, digits: &[u8]) -> fmt::Result {
    f.write_str(std::str::from_utf8(digits).map_err(|_| fmt::Error)?)
}

/// The bytes of a random UUID.
pub fn random_uuid() -> [u8; 16] {
    version_4(random_array())
}

/// Random bytes as those of a UUID: version 4, variant 10 (RFC 9562).
pub fn version_4(mut bytes: [u8; 16]) -> [u8; 16] {
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    bytes
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
                 bincode::Encode, bincode::Decode)]
        pub struct $name(pub [u8; 16]);

        impl $name {
            /// A new random id.
            pub fn random() -> Self {
                Self(random_array())
            }
        }

        impl fmt::Display for $name {
            /// 32 lower-case hexadecimal digits.
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write_digits(f, hex_digits(&self.0).as_flattened())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }

        impl std::str::FromStr for $name {
            type Err = FormatError;

            fn from_str(text: &str) -> Result<Self, FormatError> {
                let wrong = FormatError::Malformed("an id is 32 hexadecimal digits");
                // Checked first: `from_str_radix` takes a sign too.
                if text.len() != 32 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                    return Err(wrong);
                }
                let mut id = [0; 16];
                for (byte, digits) in id.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
                    let digits = std::str::from_utf8(digits).map_err(|_| wrong)?;
                    *byte = u8::from_str_radix(digits, 16).map_err(|_| wrong)?;
                }
                Ok(Self(id))
            }
        }
    };
}

id! {
    /// Identifies a volume; in the encryption context of each of its keys.
    VolumeId
}
id! {
    /// Identifies the contents of a file under one data key; in the encryption context of that key.
    FileId
}
