//! Identities of volumes and files.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::FormatError;
use crate::crypto::random_array;

/// Each byte as two lower-case hexadecimal digits.
const HEX: [[u8; 2]; 256] = {
    let digits = b"0123456789abcdef";
    let mut table = [[0; 2]; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = [digits[byte >> 4], digits[byte & 15]];
        byte += 1;
    }
    table
};

/// The lower-case hexadecimal digits of some bytes.
pub fn hex_digits<const N: usize>(bytes: &[u8; N]) -> [[u8; 2]; N] {
    bytes.map(|byte| HEX[usize::from(byte)])
}

/// Bytes as lower-case hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    let digits = bytes.iter().flat_map(|byte| HEX[usize::from(*byte)]);
    digits.map(char::from).collect()
}

/// 16 bytes as a UUID (RFC 9562).
pub fn uuid(bytes: &[u8]) -> String {
    let mut text = hex(bytes);
    for at in [20, 16, 12, 8] {
        if at < text.len() {
            text.insert(at, '-');
        }
    }
    text
}

/// The bytes of a random UUID: version 4, variant 10 (RFC 9562).
pub fn random_uuid() -> [u8; 16] {
    let mut bytes: [u8; 16] = random_array();
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
                f.write_str(&hex(&self.0))
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
