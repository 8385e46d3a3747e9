use super::*;
use crate::format::{EPOCHS_MOST, Mark};

fn secret(byte: u8) -> Key256 {
    Key256::init(|key| key.fill(byte))
}

fn key() -> JournalKey {
    JournalKey::derive(&secret(1), &VolumeId([2; 16]), 3)
}

fn record(kind: RecordKind, resize: Resize) -> Vec<u8> {
    let path = if kind == RecordKind::Change {
        &b"dir/file"[..]
    } else {
        &[]
    };
    let mut builder = RecordBuilder::new(
        vec![9; 50],
        kind,
        (&FileId([4; 16]), 77, path),
        resize,
        if kind == RecordKind::Change { 2 } else { 0 },
    );
    if kind == RecordKind::Change {
        builder.extent(8192, b"ciphertext");
        builder.extent(1024, b"entry");
    }
    let len = builder.sealed_len();
    let bytes = builder.seal(&key(), 3, 12);
    assert_eq!(bytes.len(), len);
    bytes
}

#[test]
fn a_record_survives() {
    let bytes = record(RecordKind::Change, Resize::AtLeast(9000));
    assert_eq!(JournalRecord::peek(&bytes, 3, 12), Ok(bytes.len()));
    let parsed = JournalRecord::open(&bytes, &key(), 3, 12).unwrap();
    assert_eq!(
        (parsed.kind, parsed.resize, parsed.inode, parsed.sequence),
        (RecordKind::Change, Resize::AtLeast(9000), 77, 12)
    );
    assert_eq!(
        (parsed.path.as_slice(), parsed.file),
        (&b"dir/file"[..], FileId([4; 16]))
    );
    let got: Vec<(u64, &[u8])> = parsed
        .extents
        .iter()
        .map(|&(offset, at, len)| (offset, &bytes[at..at + len]))
        .collect();
    assert_eq!(got, [(8192, &b"ciphertext"[..]), (1024, &b"entry"[..])]);
    let done = record(RecordKind::Done, Resize::Keep);
    let parsed = JournalRecord::open(&done, &key(), 3, 12).unwrap();
    assert_eq!((parsed.kind, parsed.extents.len()), (RecordKind::Done, 0));
}

#[test]
fn every_changed_byte_of_a_record_is_seen() {
    let bytes = record(RecordKind::Change, Resize::Exactly(5));
    for at in 0..bytes.len() {
        let mut changed = bytes.clone();
        changed[at] ^= 1;
        assert!(
            JournalRecord::open(&changed, &key(), 3, 12).is_err(),
            "byte {at}"
        );
        assert!(
            JournalRecord::open(&bytes[..at], &key(), 3, 12).is_err(),
            "cut at {at}"
        );
    }
}

#[test]
fn a_record_of_another_epoch_volume_or_place_is_none() {
    let bytes = record(RecordKind::Change, Resize::Keep);
    let open =
        |key: &JournalKey, epoch, sequence| JournalRecord::open(&bytes, key, epoch, sequence);
    assert!(open(&key(), 3, 12).is_ok());
    assert!(open(&key(), 4, 12).is_err());
    assert!(open(&key(), 3, 13).is_err());
    for other in [
        JournalKey::derive(&secret(1), &VolumeId([2; 16]), 4),
        JournalKey::derive(&secret(1), &VolumeId([3; 16]), 3),
        JournalKey::derive(&secret(2), &VolumeId([2; 16]), 3),
    ] {
        assert_eq!(open(&other, 3, 12), Err(FormatError::Unauthentic));
    }
}

#[test]
fn a_header_survives_and_every_changed_byte_is_seen() {
    let volume = VolumeId([2; 16]);
    let header = JournalHeader {
        volume,
        epoch: 3,
        generation: 7,
        tail: 5000,
        sequence: 9,
        length: 1 << 20,
        previous: 2,
    };
    let bytes = header.seal(&key());
    assert_eq!(header.place(), 512);
    let open = |bytes: &[u8], key, volume| {
        JournalHeader::open(bytes, &secret(key), volume).map(|(header, _)| header)
    };
    assert_eq!(open(&bytes, 1, &volume), Ok(header));
    for at in 0..HEADER_AAD + RECORD_TAIL {
        let mut changed = bytes;
        changed[at] ^= 1;
        assert!(open(&changed, 1, &volume).is_err(), "byte {at}");
    }
    assert!(open(&bytes, 2, &volume).is_err());
    assert!(open(&bytes, 1, &VolumeId([9; 16])).is_err());
}

#[test]
fn a_mark_survives_and_every_changed_byte_is_seen() {
    let mark = Mark {
        in_use: true,
        epoch: 5,
        generation: 8,
        journal: true,
        crashed: vec![1, 2, u64::MAX],
    };
    let bytes = mark.seal(&secret(6));
    assert_eq!(Mark::open(&bytes, &secret(6)), Ok(mark.clone()));
    assert!(Mark::open(&bytes, &secret(7)).is_err());
    for at in 0..bytes.len() {
        let mut changed = bytes.clone();
        changed[at] ^= 1;
        assert!(Mark::open(&changed, &secret(6)).is_err(), "byte {at}");
        assert!(Mark::open(&bytes[..at], &secret(6)).is_err(), "cut at {at}");
    }
    // Of too many, the oldest are forgotten.
    let many = Mark {
        crashed: (1..=EPOCHS_MOST as u64 + 3).collect(),
        ..mark
    };
    let read = Mark::open(&many.seal(&secret(6)), &secret(6)).unwrap();
    assert_eq!(read.crashed, many.crashed[3..]);
}

#[test]
fn the_mark_of_a_volume_without_a_journal_is_clean() {
    let mut bytes = b"clean\n".to_vec();
    bytes.extend_from_slice(&crate::crypto::mac(&secret(6), &[b"mark", b"clean\n"]));
    assert_eq!(Mark::open(&bytes, &secret(6)), Ok(Mark::default()));
    let mut bytes = b"in use\n".to_vec();
    bytes.extend_from_slice(&crate::crypto::mac(&secret(6), &[b"mark", b"in use\n"]));
    assert!(Mark::open(&bytes, &secret(6)).unwrap().in_use);
}
