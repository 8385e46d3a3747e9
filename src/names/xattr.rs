//! Extended attributes.
//!
//! `user.X` is stored as `user.envelopefs.TEXT`, and so in the namespaces trusted and security;
//! TEXT is the base64url of X sealed with AES-256-SIV, with the namespace as associated data. Where
//! that is longer than 255 bytes, it is stored as `user.envelopefs.h.HASH`, with the base64url of
//! the text's SHA-256; the value then begins with the name.
//!
//! The value is nonce, tag and ciphertext of AES-256-GCM, with the plaintext name as associated
//! data: values can't be exchanged between attributes. For a hashed name the associated data is a
//! NUL and the stored name, so that the value opens before the name is known; its plaintext is the
//! length of the name (1 byte), the name, the value.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::{MAX_NAME, NameError, Names, sealed};
use crate::crypto::{SivKey, sha256};

const NAMESPACES: [&[u8]; 3] = [b"user.", b"trusted.", b"security."];
/// After the namespace: ours.
const OURS: &[u8] = b"envelopefs.";
/// After that: a hash instead of the name. No base64url text holds a dot.
const HASHED: &[u8] = b"h.";

/// How the name of an extended attribute is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct XattrName {
    /// The name below.
    pub stored: Vec<u8>,
    /// It is a hash: only [`Names::open_hashed_xattr`] gives the name back, from the value.
    pub hashed: bool,
}

/// The namespace (with its dot) and the rest.
fn split(name: &[u8]) -> Option<(&'static [u8], &[u8])> {
    NAMESPACES
        .into_iter()
        .find_map(|space| Some((space, name.strip_prefix(space)?)))
}

/// The namespace and what follows our mark.
fn split_ours(stored: &[u8]) -> Option<(&'static [u8], &[u8])> {
    let (space, rest) = split(stored)?;
    Some((space, rest.strip_prefix(OURS)?))
}

/// Whether the encrypted form of a name is too long for an attribute's name.
fn is_hashed(space: &[u8], rest: &[u8]) -> bool {
    let text = (SivKey::OVERHEAD + rest.len())
        .saturating_mul(4)
        .div_ceil(3);
    space.len() + OURS.len() + text > MAX_NAME
}

impl Names {
    /// The stored form of an attribute's name (`user.X` and so on).
    ///
    /// # Errors
    /// [`NameError::Namespace`] outside of user, trusted and security; [`NameError::TooLong`] above
    /// 255 bytes; [`NameError::Invalid`] when it holds a NUL or nothing after the namespace.
    pub fn xattr_name(&self, name: &[u8]) -> Result<XattrName, NameError> {
        let (space, rest) = split(name).ok_or(NameError::Namespace)?;
        if name.len() > MAX_NAME {
            return Err(NameError::TooLong);
        }
        if rest.is_empty() || rest.contains(&0) {
            return Err(NameError::Invalid);
        }
        let text = URL_SAFE_NO_PAD.encode(self.xattr_name.seal(&[space], rest));
        let hashed = is_hashed(space, rest);
        let stored = if hashed {
            let hash = URL_SAFE_NO_PAD.encode(sha256(&[text.as_bytes()]));
            [space, OURS, HASHED, hash.as_bytes()].concat()
        } else {
            [space, OURS, text.as_bytes()].concat()
        };
        Ok(XattrName { stored, hashed })
    }

    /// The name that is stored so; None when it isn't one of ours, or a hash.
    ///
    /// # Errors
    /// [`NameError::Foreign`] when it looks like ours and doesn't decode.
    pub fn open_xattr_name(&self, stored: &[u8]) -> Result<Option<Vec<u8>>, NameError> {
        let Some((space, text)) = split_ours(stored) else {
            return Ok(None);
        };
        if text.starts_with(HASHED) {
            return Ok(None);
        }
        let sealed = URL_SAFE_NO_PAD
            .decode(text)
            .map_err(|_| NameError::Foreign)?;
        let rest = self
            .xattr_name
            .open(&[space], &sealed)
            .map_err(|_| NameError::Foreign)?;
        Ok(Some([space, &rest].concat()))
    }

    /// Whether a stored name is a hash of ours.
    pub fn is_hashed_xattr(stored: &[u8]) -> bool {
        split_ours(stored).is_some_and(|(_, text)| text.starts_with(HASHED))
    }

    /// The stored name of an attribute, when that is a hash.
    fn hashed_name(&self, name: &[u8]) -> Option<Vec<u8>> {
        let (space, rest) = split(name)?;
        // Decided by lengths: names of the usual kind need no seal here.
        let form = is_hashed(space, rest)
            .then(|| self.xattr_name(name))?
            .ok()?;
        Some(form.stored)
    }

    /// The stored form of the value of the attribute `name` (plaintext, one that
    /// [`Names::xattr_name`] takes). It is 28 bytes longer; for a hashed name by that name and a
    /// byte more.
    ///
    /// A key takes at most 2^32 seals (SP 800-38D): a volume stays below that many.
    pub fn seal_xattr_value(&self, name: &[u8], value: &[u8]) -> Vec<u8> {
        match self.hashed_name(name) {
            Some(stored) => {
                // `xattr_name` took it: at most 255 bytes.
                let len = [name.len() as u8];
                sealed::seal(
                    &self.xattr_value,
                    &hashed_aad(&stored),
                    &[&len, name, value],
                )
            }
            None => sealed::seal(&self.xattr_value, name, &[value]),
        }
    }

    /// The value of the attribute `name` (plaintext) that is stored so.
    ///
    /// # Errors
    /// [`NameError::XattrValue`] when it is damaged or another attribute's.
    pub fn open_xattr_value(&self, name: &[u8], stored: &[u8]) -> Result<Vec<u8>, NameError> {
        match self.hashed_name(name) {
            Some(stored_name) => {
                let (own, value) = self.open_hashed_xattr(&stored_name, stored)?;
                if own == name {
                    Ok(value)
                } else {
                    Err(NameError::XattrValue)
                }
            }
            None => sealed::open(&self.xattr_value, name, stored).ok_or(NameError::XattrValue),
        }
    }

    /// The name and the value of an attribute whose stored name is a hash.
    ///
    /// # Errors
    /// [`NameError::XattrValue`] when the value is damaged or another attribute's.
    pub fn open_hashed_xattr(
        &self,
        stored_name: &[u8],
        stored_value: &[u8],
    ) -> Result<(Vec<u8>, Vec<u8>), NameError> {
        let aad = hashed_aad(stored_name);
        let plain = sealed::open(&self.xattr_value, &aad, stored_value);
        let plain = plain.ok_or(NameError::XattrValue)?;
        let (len, rest) = plain.split_first().ok_or(NameError::XattrValue)?;
        let (name, value) = rest
            .split_at_checked(usize::from(*len))
            .ok_or(NameError::XattrValue)?;
        Ok((name.to_vec(), value.to_vec()))
    }
}

/// No plaintext name begins with a NUL.
fn hashed_aad(stored_name: &[u8]) -> Vec<u8> {
    [b"\0", stored_name].concat()
}
