//! The volume record, the keys of a volume, its mark and its journal, pinned. Computed by another
//! implementation: Python's `cryptography` and `hmac`, from the volume key 20 21 .. 3f and the volume
//! id 40 .. 4f.

use super::journal::{
    JournalHeader, JournalKey, JournalRecord, RECORD_TAIL, RecordBuilder, RecordKind, Resize,
    offer, parse_offer,
};
use super::*;
use crate::crypto::Sealed;
use crate::secret::Key256;

fn secrets() -> VolumeSecrets {
    let volume_key = Key256::init(|key| *key = std::array::from_fn(|i| 0x20 + i as u8));
    VolumeSecrets::derive(&volume_key, &volume())
}

fn volume() -> VolumeId {
    VolumeId(std::array::from_fn(|i| 0x40 + i as u8))
}

#[test]
fn the_names_key() {
    assert_eq!(
        hex::encode(secrets().names.expose()),
        "27e4aaaf6e373a936e4690c50362307a8c9e49b216adfeaf9e3c3be135ede4a9"
    );
}

#[test]
fn a_kept_ctime() {
    let kept = KeptCtime {
        ino: 0x1122_3344_5566_7788,
        after: (1_700_000_000, 999_999_999),
        before: (-5, 7),
    };
    let expected = [
        "8877665544332211",
        "00f1536500000000fbffffffffffffff",
        "ffc99a3b07000000",
        "a7113b8514316476fdfba69eb47b940387e73064a60ca7a769e5c55eb16bec26",
    ];
    let sealed = kept.seal(&secrets().ctimes, &volume());
    assert_eq!(hex::encode(sealed), expected.concat());
    assert_eq!(KeptCtime::parse(&sealed), Ok(kept));
    for at in 0..sealed.len() {
        let mut changed = sealed;
        changed[at] ^= 1;
        assert!(!KeptCtime::authentic(
            &changed,
            &secrets().ctimes,
            &volume()
        ));
    }
}

#[test]
fn a_volume_record() {
    let record = VolumeRecord {
        generation: 300,
        volume_id: volume(),
        features: 0,
        names: NameEncoding::Encrypted,
        created: 1_700_000_000,
        volume_keys: vec![vec![0x77; 90], vec![0x78; 90]],
    };
    let expected = [
        "454e564c50564f4c01000000d1000000fb2c01",
        "404142434445464748494a4b4c4d4e4f0000fc00e2a7ca02",
        "5a",
        &"77".repeat(90),
        "5a",
        &"78".repeat(90),
        "4a272a886757de2253d2a1ec5aa9f971df8b6c3fb47868b9d2c008e53467390f",
    ];
    let sealed = record.seal(&secrets().record).unwrap();
    assert_eq!(hex::encode(sealed), expected.concat());
}

/// The epoch of the journal below.
const EPOCH: u64 = 0x1122_3344_5566_7788;

fn journal_key() -> JournalKey {
    JournalKey::derive(&secrets().journal, &volume(), EPOCH)
}

#[test]
fn a_journal_header() {
    let header = JournalHeader {
        volume: volume(),
        epoch: EPOCH,
        generation: 7,
        tail: 8192,
        sequence: 300,
        length: 1 << 20,
        previous: 5,
    };
    let expected = [
        "454e564c504a4e4c0100000000000000",
        "404142434445464748494a4b4c4d4e4f",
        "88776655443322110700000000000000",
        "00200000000000002c01000000000000",
        "00001000000000000500000000000000",
        "000102030405060708090a0b53262b686f9e2497ade09ca1515e2349",
        &"00".repeat(404),
    ];
    let bytes = hex::decode(expected.concat()).unwrap();
    let (opened, _) = JournalHeader::open(&bytes, &secrets().journal, &volume()).unwrap();
    assert_eq!(opened, header);
    let sealed = header.seal(&journal_key());
    assert_eq!(sealed[..80], bytes[..80]);
    assert_eq!(sealed[108..], bytes[108..]);
}

/// A record as its writer puts it together is `expected` but for nonce and tag, and that opens.
fn is_record(
    kind: RecordKind,
    (resize, path, sequence): (Resize, &[u8], u64),
    extents: &[(u64, &[u8])],
    expected: &[&str],
) {
    let bytes = hex::decode(expected.concat()).unwrap();
    let file = FileId([0x60; 16]);
    let identity = (&file, 99, path);
    let mut record = RecordBuilder::new(Vec::new(), kind, identity, resize, extents.len());
    for (offset, body) in extents {
        record.extent(*offset, body);
    }
    let sealed = record.seal(&journal_key(), EPOCH, sequence);
    let tail = bytes.len() - RECORD_TAIL;
    assert_eq!(hex::encode(&sealed[..tail]), hex::encode(&bytes[..tail]));

    let opened = JournalRecord::open(&bytes, &journal_key(), EPOCH, sequence).unwrap();
    assert_eq!((opened.kind, opened.resize), (kind, resize));
    assert_eq!((opened.file, opened.inode), (file, 99));
    assert_eq!((&*opened.path, opened.len), (path, bytes.len()));
    let got = opened.extents.iter();
    let got: Vec<_> = got
        .map(|&(to, at, len)| (to, &bytes[at..at + len]))
        .collect();
    assert_eq!(got, extents);
}

#[test]
fn the_records_of_a_journal() {
    is_record(
        RecordKind::Change,
        (Resize::AtLeast(9000), b"dir/file", 300),
        &[(8192, b"cipher"), (1024, b"entries")],
        &[
            "454a523101010200a4000000080000002c010000000000008877665544332211",
            "6060606060606060606060606060606063000000000000002823000000000000",
            "0d000000000000000000000000000000",
            "00200000000000000600000000000000",
            "00040000000000000700000000000000",
            "6469722f66696c65636970686572656e7472696573000000",
            "101112131415161718191a1b9a54e477ac94ae27b640c87dc8ad576e",
        ],
    );
    is_record(
        RecordKind::Done,
        (Resize::Keep, b"", 301),
        &[],
        &[
            "454a5231020000006c000000000000002d010000000000008877665544332211",
            "6060606060606060606060606060606063000000000000000000000000000000",
            "00000000000000000000000000000000",
            "101112131415161718191a1b6016a6ccf5a38ce330e0f602a44a70c9",
        ],
    );
    let entry = Entry {
        sealed: Sealed {
            nonce: [0xa0; 12],
            tag: [0xb0; 16],
        },
        key_generation: 0,
        flags: EntryFlags::Block,
        sequence: 5,
    };
    let offered = offer(&entry, 100);
    assert_eq!(parse_offer(&offered), Ok((entry, 100)));
    is_record(
        RecordKind::Offer,
        (Resize::Keep, b"", 302),
        &[(4096, &offered)],
        &[
            "454a523103000100a0000000000000002e010000000000008877665544332211",
            "6060606060606060606060606060606063000000000000000000000000000000",
            "24000000000000000000000000000000",
            "00100000000000002400000000000000",
            "a0a0a0a0a0a0a0a0a0a0a0a0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b00000050064000000",
            "101112131415161718191a1b82e2099b6f4a42a1c0a5d3b424911731",
        ],
    );
}

#[test]
fn a_mark() {
    let mark = Mark {
        in_use: true,
        epoch: EPOCH,
        generation: 9,
        journal: true,
        crashed: vec![3, 4],
    };
    let expected = [
        "454e564c504d524b01000101020000008877665544332211",
        "090000000000000003000000000000000400000000000000",
        "4c83d13d1606269747edad335a4ff5676ad2ee8a5fdf386c8f6a1dd3e3985077",
    ];
    let sealed = mark.seal(&secrets().record);
    assert_eq!(hex::encode(&sealed), expected.concat());
    assert_eq!(mark.place(), 512);
    assert_eq!(Mark::open(&sealed, &secrets().record), Ok(mark));
}
