use super::*;
use crate::crypto::{AeadKey, Sealed};
use crate::secret::Key256;

fn key(byte: u8) -> Key256 {
    Key256::init(|b| b.fill(byte))
}

fn slot() -> Slot {
    let wrapped = |role, byte| WrappedKey {
        key_generation: 0,
        role,
        blob: vec![byte; 90],
    };
    Slot {
        generation: 7,
        keys: vec![wrapped(KeyRole::Current, 1), wrapped(KeyRole::Previous, 2)],
    }
}

#[test]
fn the_static_part_survives_and_every_changed_byte_is_seen() {
    let part = StaticPart {
        suite: Suite::Aes256GcmHkdfSha256,
        file_id: FileId(*b"0123456789abcdef"),
    };
    let bytes = part.encode();
    assert_eq!(StaticPart::parse(&bytes), Ok(part));
    for at in 0..STATIC_LEN {
        let mut changed = bytes;
        changed[at] ^= 0x80;
        assert_ne!(StaticPart::parse(&changed), Ok(part), "byte {at}");
    }
    assert_eq!(StaticPart::parse(&bytes[..63]), Err(FormatError::Short));
}

#[test]
fn the_golden_bytes_of_a_header_stay() {
    let part = StaticPart {
        suite: Suite::Aes256GcmHkdfSha256,
        file_id: FileId(*b"0123456789abcdef"),
    };
    let mut expected = b"ENVLPFS\0\x01\0\x01\0\0\0\0\x000123456789abcdef".to_vec();
    expected.resize(64, 0);
    assert_eq!(part.encode().to_vec(), expected);

    let entry = Entry {
        sealed: Sealed {
            nonce: [1; 12],
            tag: [2; 16],
        },
        key_generation: 3,
        flags: EntryFlags::Inline,
        sequence: 0x0405,
    };
    let mut expected = vec![1; 12];
    expected.extend([2; 16]);
    expected.extend([3, 1, 5, 4]);
    assert_eq!(entry.encode().to_vec(), expected);

    let sealed = slot()
        .seal(&key(9), &VolumeId([8; 16]), &part.encode())
        .unwrap();
    let mut head = vec![7, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 1, 90, 0];
    head.extend([1; 90]);
    head.extend([0, 2, 90, 0]);
    head.extend([2; 90]);
    head.resize(416, 0);
    assert_eq!(sealed[..416], head);
    assert_eq!(
        hex::encode(&sealed[416..]),
        "979f95b6a927af1ffc7f038a4579717b0752281f7b18f0cf3f3be83ffd342b6a"
    );
}

#[test]
fn a_slot_survives_and_every_changed_bit_is_seen() {
    let part = StaticPart {
        suite: Suite::Aes256GcmHkdfSha256,
        file_id: FileId([5; 16]),
    }
    .encode();
    let volume = VolumeId([6; 16]);
    let bytes = slot().seal(&key(1), &volume, &part).unwrap();
    assert_eq!(Slot::parse(&bytes), Ok(Some(slot())));
    assert!(Slot::authentic(&bytes, &key(1), &volume, &part));
    assert!(!Slot::authentic(&bytes, &key(2), &volume, &part));
    assert!(!Slot::authentic(&bytes, &key(1), &VolumeId([7; 16]), &part));
    for at in 0..SLOT_LEN {
        let mut changed = bytes;
        changed[at] ^= 1;
        assert!(
            !Slot::authentic(&changed, &key(1), &volume, &part),
            "byte {at}"
        );
    }
    assert_eq!(Slot::parse(&[0; SLOT_LEN]), Ok(None));
}

#[test]
fn slots_that_no_writer_writes_are_refused() {
    let mut many = slot();
    many.keys = vec![many.keys[0].clone(); 5];
    assert!(many.seal(&key(1), &VolumeId([0; 16]), &[0; 64]).is_err());
    let mut long = slot();
    long.keys[0].blob = vec![0; 400];
    assert!(long.seal(&key(1), &VolumeId([0; 16]), &[0; 64]).is_err());
    let four = Slot {
        generation: 1,
        keys: vec![slot().keys[0].clone(); 4],
    };
    assert!(
        four.seal(&key(1), &VolumeId([0; 16]), &[0; 64]).is_ok(),
        "two keys, two CMKs each"
    );
    for (at, value) in [(8, 0), (8, 9), (9, 1), (17, 7), (18, 255), (300, 1)] {
        let mut bytes = slot().seal(&key(1), &VolumeId([0; 16]), &[0; 64]).unwrap();
        bytes[at] = value;
        assert!(Slot::parse(&bytes).is_err(), "byte {at} = {value}");
    }
}

#[test]
fn an_entry_survives_and_zeros_are_a_hole() {
    let entry = Entry {
        sealed: Sealed {
            nonce: [0xAA; 12],
            tag: [0xBB; 16],
        },
        key_generation: 0,
        flags: EntryFlags::Block,
        sequence: 65535,
    };
    assert_eq!(Entry::parse(&entry.encode()), Ok(Some(entry)));
    assert_eq!(Entry::parse(&[0; ENTRY_LEN]), Ok(None));
    let mut wrong = entry.encode();
    wrong[29] = 2;
    assert!(Entry::parse(&wrong).is_err());
}

#[test]
fn a_state_survives_and_every_changed_byte_is_seen() {
    let aead = AeadKey::new(&key(4));
    let state = State {
        size: 1 << 40,
        flags: StateFlags { sparse: true },
        seals: 77,
        epoch: 0x0102_0304_0506_0708,
    };
    let bytes = state.seal(&aead);
    assert_eq!(State::open(&bytes, &aead), Ok(state));
    for at in 0..STATE_LEN {
        let mut changed = bytes;
        changed[at] ^= 1;
        assert_eq!(
            State::open(&changed, &aead),
            Err(FormatError::Unauthentic),
            "byte {at}"
        );
    }
    assert_eq!(State::open(&bytes[..63], &aead), Err(FormatError::Short));
}

#[test]
fn a_volume_record_survives_and_every_changed_byte_is_seen() {
    let record = VolumeRecord {
        generation: 3,
        volume_id: VolumeId([1; 16]),
        features: 0,
        names: NameEncoding::Encrypted,
        created: 1_700_000_000,
        volume_keys: vec![vec![9; 90]],
    };
    let bytes = record.seal(&key(2)).unwrap();
    assert_eq!(VolumeRecord::parse(&bytes), Ok(record.clone()));
    assert!(VolumeRecord::authentic(&bytes, &key(2)));
    for at in 0..bytes.len() {
        let mut changed = bytes.clone();
        changed[at] ^= 1;
        assert!(!VolumeRecord::authentic(&changed, &key(2)), "byte {at}");
        assert!(VolumeRecord::parse(&bytes[..at]).is_err(), "cut at {at}");
    }
    let unknown = VolumeRecord {
        features: 2,
        ..record
    };
    let bytes = unknown.seal(&key(2)).unwrap();
    assert_eq!(VolumeRecord::parse(&bytes), Err(FormatError::Flags(2)));
}

#[test]
fn ids_print_and_parse() {
    let id = FileId::random();
    assert_eq!(id.to_string().parse(), Ok(id));
    assert!("xyz".parse::<FileId>().is_err());
    assert!("é".repeat(16).parse::<FileId>().is_err());
    assert!("+1".repeat(16).parse::<FileId>().is_err());
    assert!(format!("{id:?}").starts_with("FileId("));
}
