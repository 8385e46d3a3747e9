//! Targets of symlinks.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::{NameError, Names, sealed};

impl Names {
    /// The stored form of a symlink's target: base64url of nonce, tag and ciphertext. It is four
    /// thirds as long, plus 38; its length is never 1 modulo 4.
    ///
    /// A key takes at most 2^32 seals (SP 800-38D): a volume stays below that many symlinks.
    pub fn seal_target(&self, target: &[u8]) -> Vec<u8> {
        URL_SAFE_NO_PAD
            .encode(sealed::seal(&self.target, b"", &[target]))
            .into_bytes()
    }

    /// The target that [`Names::seal_target`] stored.
    ///
    /// # Errors
    /// [`NameError::Target`].
    pub fn open_target(&self, stored: &[u8]) -> Result<Vec<u8>, NameError> {
        let sealed = URL_SAFE_NO_PAD
            .decode(stored)
            .map_err(|_| NameError::Target)?;
        sealed::open(&self.target, b"", &sealed).ok_or(NameError::Target)
    }

    /// The length of a target, from that of its stored form (the `st_size` below); None when
    /// [`Names::seal_target`] gives no text of that length.
    pub fn target_len(stored_len: u64) -> Option<u64> {
        let rest = match stored_len % 4 {
            0 => 0,
            1 => return None,
            more => more - 1,
        };
        (stored_len / 4 * 3 + rest).checked_sub(sealed::OVERHEAD as u64)
    }
}
