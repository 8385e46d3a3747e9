//! What a cipher file says of itself, with no key.

use serde::{Deserialize, Serialize};

use crate::content::{ContentError, Layout};
use crate::format::blob::BlobHeader;
use crate::format::{FormatError, KeyRole, SLOT_A_AT, SLOT_B_AT, Slot, StaticPart, hex};
use crate::kms::KeyId;

/// One wrapped data key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WrappedKeyInfo {
    /// "current" or "previous".
    pub role: String,
    /// The number by which block entries name this data key.
    pub key_generation: u8,
    /// The CMK.
    pub key_id: String,
    /// The start of the id of its key material, as it stands in the blob (16 hexadecimal digits).
    pub key_material: String,
    /// Bytes of the blob.
    pub bytes: usize,
}

/// One envelope slot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlotInfo {
    /// "A" or "B".
    pub slot: String,
    /// Counts the rewraps.
    pub generation: u64,
    /// Whether it is the newer of the two.
    pub newest: bool,
    /// Its wrapped keys.
    pub keys: Vec<WrappedKeyInfo>,
}

/// What a cipher file says of itself. Nothing of it is authenticated: that takes the key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inspection {
    /// Version of the file format; absent for an empty file.
    pub format: Option<u16>,
    /// The algorithms.
    pub suite: Option<String>,
    /// The file's identity.
    pub file_id: Option<String>,
    /// "empty", "inline" or "blocks".
    pub layout: String,
    /// Plaintext bytes.
    pub size: u64,
    /// Bytes of the cipher file.
    pub cipher_size: u64,
    /// Plaintext blocks.
    pub blocks: u64,
    /// Envelope slots that were ever written.
    pub slots: Vec<SlotInfo>,
}

/// Reads what a cipher file says of itself, from its first page (or what there is of it) and its size.
///
/// # Errors
/// [`FormatError`] when this is no cipher file.
pub fn inspect(page: &[u8], cipher_size: u64) -> Result<Inspection, FormatError> {
    let layout =
        Layout::of_cipher_size(cipher_size).map_err(|_: ContentError| FormatError::Short)?;
    let (name, blocks) = match layout {
        Layout::Empty => ("empty", 0),
        Layout::Inline { .. } => ("inline", 0),
        Layout::Blocks { size } => ("blocks", size.div_ceil(crate::format::PAGE as u64)),
    };
    let mut inspection = Inspection {
        format: None,
        suite: None,
        file_id: None,
        layout: name.into(),
        size: layout.size(),
        cipher_size,
        blocks,
        slots: Vec::new(),
    };
    if layout == Layout::Empty {
        return Ok(inspection);
    }
    let head = StaticPart::parse(page)?;
    inspection.format = Some(1);
    inspection.suite = Some("AES-256-GCM, HKDF-SHA-256".into());
    inspection.file_id = Some(head.file_id.to_string());
    for (name, at) in [("A", SLOT_A_AT), ("B", SLOT_B_AT)] {
        let Some(slot) = Slot::parse(page.get(at..).unwrap_or_default())? else {
            continue;
        };
        inspection.slots.push(SlotInfo {
            slot: name.into(),
            generation: slot.generation,
            newest: false,
            keys: slot
                .keys
                .iter()
                .map(|key| {
                    let header = BlobHeader::parse(&key.blob)
                        .map_err(|_| FormatError::Malformed("a wrapped key"))?;
                    Ok(WrappedKeyInfo {
                        role: match key.role {
                            KeyRole::Current => "current".into(),
                            KeyRole::Previous => "previous".into(),
                        },
                        key_generation: key.key_generation,
                        key_id: KeyId::new(header.key_id, header.multi_region).to_string(),
                        key_material: hex(&header.material),
                        bytes: key.blob.len(),
                    })
                })
                .collect::<Result<_, FormatError>>()?,
        });
    }
    if let Some(newest) = inspection
        .slots
        .iter_mut()
        .max_by_key(|slot| slot.generation)
    {
        newest.newest = true;
    }
    Ok(inspection)
}
