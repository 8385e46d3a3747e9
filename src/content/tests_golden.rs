//! Keys and sealed bytes of a file, pinned. Computed by another implementation: Python's
//! `cryptography` and `hmac`, from the data key 00 01 .. 1f, the volume id 40 .. 4f, the file id
//! 50 .. 5f and the nonce 64 .. 6f.

use super::*;
use crate::format::{
    ENTRY_LEN, Entry, EntryFlags, FileId, KeyRole, SLOT_MAC_AT, Slot, State, StateFlags,
    StaticPart, Suite, VolumeId, WrappedKey,
};
use crate::secret::Key256;

fn ids() -> (VolumeId, FileId) {
    let range = |from| std::array::from_fn(|i| from + i as u8);
    (VolumeId(range(0x40)), FileId(range(0x50)))
}

/// Data key number 3 of the file.
fn keys() -> FileKeys {
    let data_key = Key256::init(|key| *key = std::array::from_fn(|i| i as u8));
    let (volume, file) = ids();
    FileKeys::derive(&data_key, &volume, &file, 3)
}

fn bytes<const N: usize>(hexed: &str) -> [u8; N] {
    hex::decode(hexed).unwrap().try_into().unwrap()
}

#[test]
fn the_header_key_and_the_mac_of_a_slot() {
    let keys = keys();
    assert_eq!(
        hex::encode(keys.header().expose()),
        "0bc86509b3d5aeecda85c18c44010270fa31d6771eb94eba92e3b48517306148"
    );
    let (volume, file_id) = ids();
    let part = StaticPart {
        suite: Suite::Aes256GcmHkdfSha256,
        file_id,
    };
    let slot = Slot {
        generation: 1,
        keys: vec![WrappedKey {
            key_generation: 3,
            role: KeyRole::Current,
            blob: vec![0x77; 90],
        }],
    };
    let sealed = slot.seal(keys.header(), &volume, &part.encode()).unwrap();
    assert_eq!(
        hex::encode(&sealed[SLOT_MAC_AT..]),
        "10187bbeaa9416193d3753f8ae357ab5702dbe1126e6eb1192472debcf94e743"
    );
}

#[test]
fn a_state() {
    let sealed: [u8; 64] = bytes(
        "0504030201000000010000000700000000000000000000000000000000000000\
         000000006465666768696a6b6c6d6e6fb9ad9e36db34ded0ec235ebe75b2387e",
    );
    let expected = State {
        size: 0x0001_0203_0405,
        flags: StateFlags { sparse: true },
        seals: 7,
        epoch: 0,
    };
    assert_eq!(State::open(&sealed, keys().content()), Ok(expected));
}

#[test]
fn a_block() {
    let stored: [u8; ENTRY_LEN] =
        bytes("6465666768696a6b6c6d6e6f0dd1a72edbbc346d0c257b91e906eebc03000201");
    let entry = Entry::parse(&stored).unwrap().unwrap();
    assert_eq!(
        (entry.key_generation, entry.flags, entry.sequence),
        (3, EntryFlags::Block, 0x0102)
    );
    let mut data: [u8; 12] = bytes("c714e96bb63659538d224a3b");
    keys()
        .open_block(BlockIndex(200), &entry, &mut data)
        .unwrap();
    assert_eq!(&data, b"golden block");
}

#[test]
fn inline_bytes() {
    let stored: [u8; 45] = bytes(
        "6465666768696a6b6c6d6e6f70f072135e415c2c2c997cb526f69e9603010000\
         c714e96bb63659588f21403e27",
    );
    assert_eq!(keys().open_inline(&stored).unwrap(), b"golden inline");
}
