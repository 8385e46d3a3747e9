use proptest::prelude::*;

use super::*;
use crate::crypto::random_key;
use crate::format::{FileId, VolumeId};

const P: u64 = 4096;

/// The layout, written down a second time: walks page by page.
fn slow_layout(size: u64) -> (u64, Vec<u64>) {
    let mut at = P;
    let mut blocks = Vec::new();
    let mut left = size;
    let mut in_group = 0;
    let mut room = 96;
    while left > 0 {
        if in_group == room {
            at += P;
            in_group = 0;
            room = 128;
        }
        blocks.push(at);
        let len = left.min(P);
        at += len;
        left -= len;
        in_group += 1;
    }
    (at, blocks)
}

#[test]
fn sizes_and_places_agree_with_a_walk_over_the_pages() {
    let edges = [1, 95, 96, 97, 98, 223, 224, 225, 351, 352, 353, 1000];
    for blocks in edges {
        for delta in [-1i64, 0, 1, 17] {
            let size = (blocks * P).checked_add_signed(delta).unwrap();
            let (cipher, places) = slow_layout(size);
            let plain = PlainOffset::new(size).unwrap();
            assert_eq!(Layout::cipher_size(plain).0, cipher, "size {size}");
            assert_eq!(Layout::of_cipher_size(cipher), Ok(Layout::Blocks { size }));
            for (index, place) in (0..).zip(places) {
                assert_eq!(BlockIndex(index).data_at().0, place, "block {index}");
            }
        }
    }
}

#[test]
fn small_cipher_sizes() {
    assert_eq!(Layout::of_cipher_size(0), Ok(Layout::Empty));
    assert_eq!(Layout::of_cipher_size(1), Err(ContentError::Range));
    assert_eq!(Layout::of_cipher_size(1055), Err(ContentError::Range));
    assert_eq!(Layout::of_cipher_size(1056), Ok(Layout::Inline { len: 0 }));
    assert_eq!(
        Layout::of_cipher_size(4096),
        Ok(Layout::Inline { len: 3040 })
    );
    assert_eq!(Layout::of_cipher_size(4097), Ok(Layout::Blocks { size: 1 }));
    // An entry page without data behind it adds nothing.
    assert_eq!(
        Layout::of_cipher_size(98 * P),
        Ok(Layout::Blocks { size: 96 * P })
    );
    assert_eq!(
        Layout::of_cipher_size(98 * P - 5),
        Ok(Layout::Blocks { size: 96 * P })
    );
}

#[test]
fn the_largest_size_fits_and_more_is_refused() {
    let max = PlainOffset::new(MAX_SIZE).unwrap();
    assert!(i64::try_from(Layout::cipher_size(max).0).is_ok());
    assert_eq!(PlainOffset::new(MAX_SIZE + 1), Err(ContentError::Range));
    assert_eq!(max.plus(1), Err(ContentError::Range));
    assert_eq!(
        PlainOffset::new(5).unwrap().plus(u64::MAX),
        Err(ContentError::Range)
    );
    assert!(
        Layout::of_cipher_size(u64::MAX).is_ok(),
        "total on any input"
    );
}

proptest! {
    #[test]
    fn sizes_survive(size in 1u64..MAX_SIZE) {
        let cipher = Layout::cipher_size(PlainOffset::new(size).unwrap());
        prop_assert_eq!(Layout::of_cipher_size(cipher.0), Ok(Layout::Blocks { size }));
    }

    #[test]
    fn places_survive(block in 0u64..(MAX_SIZE / P)) {
        let (group, place) = BlockIndex(block).place();
        prop_assert!(place < group.blocks());
        prop_assert_eq!(group.first_block().0 + place as u64, block);
        prop_assert_eq!(BlockIndex(block).data_at().0, group.page_at().0 + P + place as u64 * P);
    }
}

fn keys() -> FileKeys {
    FileKeys::derive(&random_key(), &VolumeId([1; 16]), &FileId([2; 16]), 0)
}

#[test]
fn a_block_opens_at_its_place_only() {
    let keys = keys();
    let plain = [42u8; 4096];
    let mut cipher = [0u8; 4096];
    let entry = keys.seal_block(BlockIndex(7), None, &plain, &mut cipher);
    assert_ne!(plain, cipher);
    let mut data = cipher;
    keys.open_block(BlockIndex(7), &entry, &mut data).unwrap();
    assert_eq!(data, plain);
    let mut data = cipher;
    assert_eq!(
        keys.open_block(BlockIndex(8), &entry, &mut data),
        Err(ContentError::Unauthentic)
    );
    assert_eq!(data, [0; 4096]);
    // Cut short, it is another block.
    let mut data = cipher;
    assert!(
        keys.open_block(BlockIndex(7), &entry, &mut data[..4095])
            .is_err()
    );
    let again = keys.seal_block(BlockIndex(7), Some(&entry), &plain, &mut cipher);
    assert_eq!(again.sequence, entry.sequence + 1);
}

#[test]
fn every_changed_byte_of_an_entry_is_seen() {
    let keys = keys();
    let mut cipher = [0u8; 100];
    let entry = keys.seal_block(BlockIndex(0), None, &[9; 100], &mut cipher);
    let bytes = entry.encode();
    for at in 0..bytes.len() {
        let mut changed = bytes;
        changed[at] ^= 1;
        let opened = crate::format::Entry::parse(&changed)
            .ok()
            .flatten()
            .map(|entry| keys.open_block(BlockIndex(0), &entry, &mut cipher.clone()));
        assert!(!matches!(opened, Some(Ok(()))), "byte {at}");
    }
}

#[test]
fn inline_bytes_are_no_block() {
    let keys = keys();
    let InlineBytes(bytes) = keys.seal_inline(b"small");
    assert_eq!(keys.open_inline(&bytes).unwrap(), b"small");
    let entry = crate::format::Entry::parse(bytes[..32].try_into().unwrap())
        .unwrap()
        .unwrap();
    assert!(
        keys.open_block(BlockIndex(0), &entry, &mut bytes[32..].to_vec())
            .is_err()
    );
    assert!(keys.open_inline(&bytes[..31]).is_err());
    assert!(keys.open_inline(&[0; 40]).is_err());
}

#[test]
fn keys_differ_by_file_and_volume() {
    let data_key = random_key();
    let one = FileKeys::derive(&data_key, &VolumeId([1; 16]), &FileId([2; 16]), 0);
    let two = FileKeys::derive(&data_key, &VolumeId([1; 16]), &FileId([3; 16]), 0);
    let three = FileKeys::derive(&data_key, &VolumeId([2; 16]), &FileId([2; 16]), 0);
    assert!(!one.header().same_as(two.header()));
    assert!(!one.header().same_as(three.header()));
}

#[test]
fn an_entry_page_gives_back_what_was_set() {
    let keys = keys();
    for group in [GroupIndex(0), GroupIndex(3)] {
        let mut page = EntryPage::empty(group);
        let entry = keys.seal_block(group.first_block(), None, &[1], &mut [0]);
        let last = group.blocks() - 1;
        page.set(last, Some(&entry));
        assert_eq!(page.get(last), Ok(Some(entry)));
        assert_eq!(page.get(0), Ok(None));
        let (at, bytes) = page.span(last..last + 1);
        assert_eq!(
            at,
            group.page_at().0 + P - 32,
            "the last entry ends its page"
        );
        assert_eq!(bytes, entry.encode());
        page.set(last, None);
        assert_eq!(page.get(last), Ok(None));
    }
}
