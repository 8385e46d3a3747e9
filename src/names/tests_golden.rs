//! The stored forms, pinned. Computed by another implementation: Python's `cryptography` (OpenSSL's
//! AES-SIV, AES-GCM and HKDF) and `hashlib`, from the volume key 00 01 .. 1f.

use super::tests::names;
use super::*;

/// 10 11 .. 1f.
fn dir() -> DirId {
    DirId::from_text(b"EBESExQVFhcYGRobHB0eHw").unwrap()
}

#[test]
fn short_names() {
    assert_eq!(dir().0[0], 0x10);
    let names = names(NameMode::Encrypted);
    for (dir, text) in [
        (dir(), "04Kak7STDlJamLwAY2ulUcVYpopWrdT6oQ"),
        (DirId::ROOT, "dRdz9MUsLCFLKXmUBIzVonOW68dCCdyyyw"),
    ] {
        let stored = names.encode(&dir, b"hello.txt").unwrap();
        assert_eq!(stored.entry().as_bytes(), text.as_bytes());
        assert_eq!(names.decode(&dir, text.as_bytes()).unwrap(), b"hello.txt");
    }
}

#[test]
fn a_long_name() {
    let names = names(NameMode::Encrypted);
    let Stored::Long {
        entry,
        sidecar,
        full,
    } = names.encode(&dir(), &[b'x'; 255]).unwrap()
    else {
        unreachable!()
    };
    assert_eq!(
        String::from_utf8(full).unwrap(),
        "QJ0hzYUZw8ZFRO69v8jJLrpxOUinZBPIZb5-a_jKwod3J5JOILuSjV0Ec8b3g4nBFD9b-oS_ZvkEXmbrsHUQdENp\
         OrLemGYz_R29m5RBlIIY5Hw4FJn0274l8WBQ8aPrC3bpq6xjvVoDQLqFLT0o0MAxyvZoi5UEmmWrUlwM4uAvteue\
         v19OM7u6wWwpmlMC0HRjuhyaVRz-UqLW-8D_dfIu_Ab6_jO3ZNkPBvPxzJaIRZy9MZz887XUWyHgu3vsU36Noig3\
         G_g1PrtMEZ5EJmN2aKLwthvgHTMoXsOz-uuYbOKNlDtCZrUmmUc4JW1wR1lBKRdSHDskQdmcVTgEfiEdPtv53w7v\
         dJHneWKUnQ"
    );
    let hash = "jvoN-0O3yaPUpnefk07fg_2k7TqWjCP9QrquZZvU5s4";
    assert_eq!(entry.as_bytes(), format!(".envelopefs.l.{hash}").as_bytes());
    assert_eq!(
        sidecar.as_bytes(),
        format!(".envelopefs.n.{hash}").as_bytes()
    );
}

#[test]
fn a_target() {
    let stored = b"ZGVmZ2hpamtsbW5vsVj4GXi3AEhI6tZXb3vrRq2hyc2uzGzmQNuMLAfn";
    let names = names(NameMode::Encrypted);
    assert_eq!(names.open_target(stored).unwrap(), b"../up/and/away");
}

#[test]
fn an_attribute() {
    let names = names(NameMode::Encrypted);
    let name = names.xattr_name(b"user.comment").unwrap();
    assert_eq!(
        name.stored,
        b"user.envelopefs.movBKcuVLelLKKJOMVlumJG6ZB7ZRtI"
    );
    let sealed = hex::decode("6465666768696a6b6c6d6e6fe849f347d647f8384b25de309a68740137686406ae");
    let value = names
        .open_xattr_value(b"user.comment", &sealed.unwrap())
        .unwrap();
    assert_eq!(value, b"value");
}

#[test]
fn an_attribute_with_a_long_name() {
    use base64::Engine;
    let names = names(NameMode::Encrypted);
    let name = [&b"security."[..], &[b'y'; 240]].concat();
    let stored = b"security.envelopefs.h.1lYgNg-Ln2wMGMpDSHRKMr_4WNkJ8yJW7boggndscSQ";
    assert_eq!(names.xattr_name(&name).unwrap().stored, stored);
    let sealed = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(
        "ZGVmZ2hpamtsbW5vn70TqVFJSL_sLUoCOyZX1Lh6bRC-WfDBTuqWyOMNe_kMg_jt80INRFiLKvkS0OZE7I5Wt1Hj\
         aS9y5brUIB1EBOQd4w1eeSPtVaTPESCIhoNnc1nZWF7yLvU2uC0hZvypc9JiDRSJj7Ck5bumNWefCSBbwv1OF0sy\
         1_gInEgwws3lDzvgTG8QH1egoawMZ9qVd-wvLhGBJV-MDDtNA-F24IHSVj8B0SZu_9lWXy1XAmrU0fe4nfZ9JTos\
         HU4EQ4TQN1Oun46CPQ4C0Hewprqj2puADrZRFZQFT1fW1dDd3dlBCO1HZ79tfaMcoSDSeJFvt0w9eThJhmz3bPH0\
         sybbgMhKWcxZa2Jgw-uBUo7KJw",
    );
    let (own, value) = names.open_hashed_xattr(stored, &sealed.unwrap()).unwrap();
    assert_eq!((own, &value[..]), (name, &b"value"[..]));
}
