//! The id of a directory.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::NameError;
use crate::crypto::random_array;

/// The random id of a directory, part of each name in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DirId(pub [u8; 16]);

impl DirId {
    /// That of a volume's root; it isn't stored.
    pub const ROOT: Self = Self([0; 16]);

    /// The length of [`DirId::to_text`].
    pub const TEXT_LEN: usize = 22;

    /// A new one.
    pub fn random() -> Self {
        Self(random_array())
    }

    /// As it is stored: base64url.
    pub fn to_text(self) -> String {
        URL_SAFE_NO_PAD.encode(self.0)
    }

    /// Reads [`DirId::to_text`].
    ///
    /// # Errors
    /// [`NameError::Foreign`].
    pub fn from_text(text: &[u8]) -> Result<Self, NameError> {
        if text.len() != Self::TEXT_LEN {
            return Err(NameError::Foreign);
        }
        let mut id = [0; 16];
        match URL_SAFE_NO_PAD.decode_slice(text, &mut id) {
            Ok(16) => Ok(Self(id)),
            _ => Err(NameError::Foreign),
        }
    }
}
