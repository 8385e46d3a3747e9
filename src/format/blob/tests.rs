use proptest::prelude::*;

use super::*;

fn header() -> BlobHeader {
    BlobHeader {
        key_id: std::array::from_fn(|i| i as u8),
        multi_region: true,
        material: [0xaa; 8],
        salt: [0x55; 16],
    }
}

fn blob(plain_len: usize) -> Vec<u8> {
    let mut bytes = header().encode().to_vec();
    bytes.resize(OVERHEAD + plain_len, 7);
    bytes
}

#[test]
fn the_layout_is_pinned() {
    assert_eq!(
        hex::encode(header().encode()),
        "0101000102030405060708090a0b0c0d0e0faaaaaaaaaaaaaaaa55555555555555555555555555555555"
    );
    assert_eq!((DATA_KEY_LEN, HEADER_LEN, OVERHEAD), (90, 42, 58));
}

#[test]
fn a_blob_comes_apart_as_it_was_put_together() {
    let bytes = blob(32);
    assert_eq!(bytes.len(), DATA_KEY_LEN);
    let parsed = Blob::parse(&bytes).unwrap();
    assert_eq!(parsed.header, header());
    assert_eq!(parsed.ciphertext, [7; 32]);
    assert_eq!(parsed.tag, &[7; 16]);
}

#[test]
fn other_lengths_versions_and_flags_are_refused() {
    for len in [0, 1, 41, 42, 57, 58, 58 + 4097] {
        let mut bytes = blob(4097);
        bytes.truncate(len);
        assert_eq!(Blob::parse(&bytes), Err(BlobError::Length(len)));
    }
    assert!(Blob::parse(&blob(1)).is_ok() && Blob::parse(&blob(4096)).is_ok());
    let mut other = blob(32);
    other[0] = 2;
    assert_eq!(BlobHeader::parse(&other), Err(BlobError::Version(2)));
    other[0] = 1;
    other[1] = 0x81;
    assert_eq!(BlobHeader::parse(&other), Err(BlobError::Flags(0x81)));
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(parsed) = Blob::parse(&bytes) {
            prop_assert_eq!(&parsed.header.encode(), parsed.header_bytes);
        }
    }
}
