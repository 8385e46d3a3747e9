//! The volume record and the keys of a volume, pinned. Computed by another implementation: Python's
//! `cryptography` and `hmac`, from the volume key 20 21 .. 3f and the volume id 40 .. 4f.

use super::*;
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
