//! The state of a file: what changes with its contents and is authenticated.

use super::{FormatError, field};
use crate::crypto::{AeadKey, Sealed};

/// Bytes in a state.
pub const STATE_LEN: usize = 64;
const AUTHENTICATED: usize = 36;

/// Flags of a [`State`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct StateFlags {
    /// The file may have holes: an all-zero entry below the size reads as zeros.
    /// Without it such an entry is damage. Bit 0.
    pub sparse: bool,
}

impl StateFlags {
    fn bits(self) -> u32 {
        u32::from(self.sparse)
    }

    fn from_bits(bits: u32) -> Option<Self> {
        (bits <= 1).then_some(Self { sparse: bits == 1 })
    }
}

/// Size and flags of a file, sealed under its content key.
///
/// ```text
///  0  sealed size        8   plaintext bytes
///  8  flags              4   1 sparse
/// 12  seals              4   in units of 2^16, counted at random: see `seals`
/// 16  epoch              8   0: sealed; else the epoch that the file was new in: see `epoch`
/// 24  zero              12
/// 36  nonce             12
/// 48  tag               16   AES-256-GCM of nothing, with bytes 0..36 behind "state" as associated data
/// ```
///
/// In a file that is new, written with each change of the size, in one write with the entries where they
/// stand in the same page. Later, when what it covers has become durable.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct State {
    /// Plaintext bytes in the file.
    pub size: u64,
    /// Flags.
    pub flags: StateFlags,
    /// How many seals the data key has made, in units of 2^16. Each seal adds one unit with a
    /// probability of 2^-16, so that the count is right on average, across any number of opens,
    /// and costs nothing to keep (R. Morris, "Counting large numbers of events in small registers", 1978).
    pub seals: u32,
    /// 0: everything below `size` was durable before this state was written, so whatever is missing
    /// there is damage. Else the epoch (one opening of the volume for writing) that the file was
    /// new in and has not been synced since: when that epoch ended in a crash, nothing is owed yet.
    pub epoch: u64,
}

impl State {
    /// The size and the epoch that bytes claim, unauthenticated: whether a closer look is worth it.
    pub fn peek(bytes: &[u8]) -> Result<(u64, u64), FormatError> {
        Ok((
            u64::from_le_bytes(field(bytes, 0)?),
            u64::from_le_bytes(field(bytes, 16)?),
        ))
    }

    fn head(&self) -> [u8; AUTHENTICATED] {
        let mut out = [0; AUTHENTICATED];
        out[..8].copy_from_slice(&self.size.to_le_bytes());
        out[8..12].copy_from_slice(&self.flags.bits().to_le_bytes());
        out[12..16].copy_from_slice(&self.seals.to_le_bytes());
        out[16..24].copy_from_slice(&self.epoch.to_le_bytes());
        out
    }

    fn aad(head: &[u8; AUTHENTICATED]) -> [u8; 5 + AUTHENTICATED] {
        let mut aad = [0; 5 + AUTHENTICATED];
        aad[..5].copy_from_slice(b"state");
        aad[5..].copy_from_slice(head);
        aad
    }

    /// The bytes on disk, sealed under the file's content key.
    pub fn seal(&self, key: &AeadKey) -> [u8; STATE_LEN] {
        let head = self.head();
        let sealed = key.seal(&Self::aad(&head), &[], &mut []);
        let mut out = [0; STATE_LEN];
        out[..AUTHENTICATED].copy_from_slice(&head);
        out[36..48].copy_from_slice(&sealed.nonce);
        out[48..].copy_from_slice(&sealed.tag);
        out
    }

    /// Parses and authenticates [`STATE_LEN`] bytes.
    pub fn open(bytes: &[u8], key: &AeadKey) -> Result<Self, FormatError> {
        let head: [u8; AUTHENTICATED] = field(bytes, 0)?;
        let sealed = Sealed {
            nonce: field(bytes, 36)?,
            tag: field(bytes, 48)?,
        };
        key.open_in_place(&sealed, &Self::aad(&head), &mut [])
            .map_err(|_| FormatError::Unauthentic)?;
        let flags = u32::from_le_bytes(field(bytes, 8)?);
        if head[24..] != [0; 12] {
            return Err(FormatError::Malformed(
                "the reserved bytes of a state are zero",
            ));
        }
        Ok(Self {
            size: u64::from_le_bytes(field(bytes, 0)?),
            flags: StateFlags::from_bits(flags).ok_or(FormatError::Flags(flags))?,
            seals: u32::from_le_bytes(field(bytes, 12)?),
            epoch: u64::from_le_bytes(field(bytes, 16)?),
        })
    }
}
