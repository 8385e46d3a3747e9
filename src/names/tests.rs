use std::collections::HashSet;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::crypto::random_array;

pub(super) fn names(mode: NameMode) -> Names {
    Names::new(&Key256::init(|key| key.copy_from_slice(&COUNTING)), mode)
}

const COUNTING: [u8; 32] = {
    let mut bytes = [0; 32];
    let mut i = 0;
    while i < 32 {
        bytes[i] = i as u8;
        i += 1;
    }
    bytes
};

const MODES: [NameMode; 2] = [NameMode::Encrypted, NameMode::Plain];
const DIR: DirId = DirId([7; 16]);

/// Any name of an entry.
fn entry_name(len: impl Into<proptest::collection::SizeRange>) -> impl Strategy<Value = Vec<u8>> {
    let byte = any::<u8>().prop_filter("no slash, no NUL", |&byte| byte != b'/' && byte != 0);
    vec(byte, len).prop_filter("no dots", |name| !matches!(&name[..], b"." | b".."))
}

/// Decodes what is stored, as a listing does.
fn decode(names: &Names, dir: &DirId, stored: &Stored) -> Result<Vec<u8>, NameError> {
    match stored {
        Stored::Short(entry) => {
            assert_eq!(names.classify(entry), Class::Entry);
            names.decode(dir, entry)
        }
        Stored::Long {
            entry,
            sidecar,
            full,
        } => {
            assert_eq!(names.classify(entry), Class::Long { sidecar: *sidecar });
            assert_eq!(names.classify(sidecar), Class::Reserved);
            names.decode_long(dir, full, entry)
        }
    }
}

proptest! {
    #[test]
    fn any_name_comes_back_and_is_stored_the_same_each_time(
        name in entry_name(1..=255),
        dir in any::<[u8; 16]>(),
    ) {
        let (names, dir) = (names(NameMode::Encrypted), DirId(dir));
        let stored = names.encode(&dir, &name).unwrap();
        prop_assert_eq!(&stored, &names.encode(&dir, &name).unwrap());
        prop_assert_eq!(matches!(stored, Stored::Short(_)), name.len() <= MAX_SHORT);
        prop_assert!(stored.entry().len() <= MAX_NAME);
        prop_assert_eq!(decode(&names, &dir, &stored).unwrap(), name);
    }

    #[test]
    fn any_name_comes_back_in_plain_mode(name in entry_name(1..=240), ours in any::<bool>()) {
        let names = names(NameMode::Plain);
        let name = if ours { [b".envelopefs", &name[..]].concat() } else { name };
        match names.encode(&DIR, &name) {
            Ok(stored) => {
                prop_assert_eq!(stored.entry().as_bytes() == &name[..], !ours);
                prop_assert_eq!(decode(&names, &DIR, &stored).unwrap(), name);
            }
            Err(error) => {
                prop_assert_eq!(error, NameError::TooLong);
                prop_assert!(ours && name.len() > 252);
            }
        }
    }

    #[test]
    fn a_name_does_not_decode_in_another_directory_or_volume(
        name in entry_name(1..=255),
        other in any::<[u8; 16]>(),
        bit in 0..128u32,
    ) {
        let here = names(NameMode::Encrypted);
        let stored = here.encode(&DIR, &name).unwrap();
        let near = DirId((u128::from_ne_bytes(DIR.0) ^ (1 << bit)).to_ne_bytes());
        for dir in [DirId(other), near, DirId::ROOT] {
            prop_assert_eq!(decode(&here, &dir, &stored), Err(NameError::Foreign));
            let there = here.encode(&dir, &name).unwrap();
            prop_assert_ne!(there.entry(), stored.entry());
        }
        let elsewhere = Names::new(&Key256::init(|key| key.fill(9)), NameMode::Encrypted);
        prop_assert_eq!(decode(&elsewhere, &DIR, &stored), Err(NameError::Foreign));
    }

    #[test]
    fn nothing_made_up_decodes_or_panics(stored in vec(any::<u8>(), 0..=400), text in "[A-Za-z0-9_-]{0,400}") {
        for names in MODES.map(names) {
            for stored in [&stored[..], text.as_bytes()] {
                names.classify(stored);
                if names.mode() == NameMode::Encrypted {
                    prop_assert_eq!(names.decode(&DIR, stored), Err(NameError::Foreign));
                }
                prop_assert_eq!(names.decode_long(&DIR, stored, stored), Err(NameError::Foreign));
                prop_assert_eq!(names.open_target(stored), Err(NameError::Target));
                prop_assert!(DirId::from_text(stored).is_err() || stored.len() == 22);
                prop_assert_eq!(names.open_xattr_name(stored), Ok(None));
                let ours = [b"user.envelopefs.", stored].concat();
                let opened = names.open_xattr_name(&ours);
                prop_assert!(opened == Err(NameError::Foreign) || Names::is_hashed_xattr(&ours));
                prop_assert!(names.open_xattr_value(b"user.a", stored).is_err());
                prop_assert!(names.open_hashed_xattr(b"user.a", stored).is_err());
            }
        }
    }

    #[test]
    fn any_target_comes_back_and_its_length_is_known(target in vec(any::<u8>(), 0..=4095)) {
        for names in MODES.map(names) {
            let stored = names.seal_target(&target);
            prop_assert_ne!(&stored, &names.seal_target(&target), "a new nonce each time");
            prop_assert!(stored.len() % 4 != 1 && stored.is_ascii());
            prop_assert_eq!(names.open_target(&stored).unwrap(), &target[..]);
            let len = Names::target_len(stored.len() as u64);
            prop_assert_eq!(len, Some(target.len() as u64));
        }
    }

    #[test]
    fn any_attribute_comes_back(
        space in prop::sample::select(vec!["user.", "trusted.", "security."]),
        rest in vec(1..=255u8, 1..=246),
        value in vec(any::<u8>(), 0..=2000),
    ) {
        let names = names(NameMode::Encrypted);
        let name = [space.as_bytes(), &rest].concat();
        let XattrName { stored, hashed } = names.xattr_name(&name).unwrap();
        prop_assert!(stored.len() <= 255 && stored.starts_with(space.as_bytes()));
        prop_assert_eq!(Names::is_hashed_xattr(&stored), hashed);
        let sealed = names.seal_xattr_value(&name, &value);
        prop_assert_eq!(names.open_xattr_value(&name, &sealed).unwrap(), &value[..]);
        if hashed {
            prop_assert!(rest.len() > 155);
            prop_assert_eq!(names.open_xattr_name(&stored), Ok(None));
            let both = names.open_hashed_xattr(&stored, &sealed).unwrap();
            prop_assert_eq!(both, (name.clone(), value));
        } else {
            prop_assert_eq!(names.open_xattr_name(&stored).unwrap().unwrap(), &name[..]);
        }
        // Under another name, or damaged, the value doesn't open.
        let mut other = name;
        *other.last_mut().unwrap() ^= 0x80;
        prop_assert_eq!(names.open_xattr_value(&other, &sealed), Err(NameError::XattrValue));
    }
}

#[test]
fn every_length_of_name_comes_back() {
    for names in MODES.map(names) {
        let mut seen = HashSet::new();
        for len in 1..=255 {
            let stored = names.encode(&DIR, &vec![b'n'; len]).unwrap();
            assert!(seen.insert(stored.entry().to_vec()));
            assert_eq!(decode(&names, &DIR, &stored).unwrap(), vec![b'n'; len]);
        }
    }
}

#[test]
fn no_changed_byte_of_a_stored_name_decodes() {
    let names = names(NameMode::Encrypted);
    for len in [1, 2, 3, 15, 16, 17, 20, 64, MAX_SHORT, MAX_SHORT + 1, 255] {
        let stored = names.encode(&DIR, &vec![b'x'; len]).unwrap();
        let (text, entry) = match &stored {
            Stored::Short(entry) => (entry.to_vec(), None),
            Stored::Long { entry, full, .. } => (full.clone(), Some(entry)),
        };
        for at in 0..text.len() {
            let mut changed = text.clone();
            for byte in (0..=255).filter(|&byte| byte != text[at]) {
                changed[at] = byte;
                let got = match entry {
                    None => names.decode(&DIR, &changed),
                    Some(entry) => names.decode_long(&DIR, &changed, entry),
                };
                assert_eq!(got, Err(NameError::Foreign));
            }
        }
        // Cut short, or longer.
        for cut in 0..text.len() {
            assert_eq!(names.decode(&DIR, &text[..cut]), Err(NameError::Foreign));
        }
        for more in [&b"A"[..], b"=", b"\n", b"AAAA"] {
            let longer = [&text[..], more].concat();
            assert_eq!(names.decode(&DIR, &longer), Err(NameError::Foreign));
        }
    }
}

#[test]
fn a_long_name_belongs_to_its_hash() {
    let names = names(NameMode::Encrypted);
    let long = |byte| match names.encode(&DIR, &[byte; 200]).unwrap() {
        Stored::Long {
            entry,
            sidecar,
            full,
        } => (entry, sidecar, full),
        Stored::Short(_) => unreachable!(),
    };
    let (a, b) = (long(b'a'), long(b'b'));
    assert_eq!(names.decode_long(&DIR, &b.2, &a.0), Err(NameError::Foreign));
    assert_eq!(names.decode_long(&DIR, &a.2, &a.1), Err(NameError::Foreign));
    assert!(a.0.starts_with(b".envelopefs.l.") && a.1.starts_with(b".envelopefs.n."));
    assert_eq!(a.0[14..], a.1[14..]);
    for at in 0..a.0.len() {
        let mut changed = a.0.to_vec();
        changed[at] ^= 1;
        assert_eq!(
            names.decode_long(&DIR, &a.2, &changed),
            Err(NameError::Foreign)
        );
    }
    // A short name's text under its hash: not how it is stored, so it isn't a second name for it.
    let Stored::Short(short) = names.encode(&DIR, b"short").unwrap() else {
        unreachable!()
    };
    let hash = crate::crypto::sha256(&[&short]);
    let entry = format!(".envelopefs.l.{}", {
        use base64::Engine;
        base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(hash)
    });
    assert_eq!(
        names.decode_long(&DIR, &short, entry.as_bytes()),
        Err(NameError::Foreign)
    );
}

#[test]
fn what_is_no_name_is_refused() {
    for names in MODES.map(names) {
        for bad in [&b""[..], b".", b"..", b"/", b"a/b", b"a\0", b"\0"] {
            assert_eq!(names.encode(&DIR, bad), Err(NameError::Invalid));
        }
        assert_eq!(names.encode(&DIR, &[b'a'; 256]), Err(NameError::TooLong));
        assert_eq!(names.encode(&DIR, &[b'/'; 5000]), Err(NameError::TooLong));
    }
}

#[test]
fn our_own_entries_are_reserved() {
    let hash = "A".repeat(43);
    let long = format!(".envelopefs.l.{hash}");
    let reserved = [
        ".",
        "..",
        ".envelopefs",
        ".envelopefs.dir",
        ".envelopefs.tmp.x",
        ".envelopefsx",
        ".envelopefs.l.",
        ".envelopefs.l.short",
        &format!(".envelopefs.n.{hash}"),
        &format!("{long}A"),
        &format!(".envelopefs.l.{}/", &hash[1..]),
    ];
    let [encrypted, plain] = MODES.map(names);
    for name in reserved {
        assert_eq!(
            encrypted.classify(name.as_bytes()),
            Class::Reserved,
            "{name}"
        );
        assert_eq!(plain.classify(name.as_bytes()), Class::Reserved, "{name}");
        assert!(encrypted.decode(&DIR, name.as_bytes()).is_err());
        assert!(plain.decode(&DIR, name.as_bytes()).is_err());
    }
    assert!(matches!(
        encrypted.classify(long.as_bytes()),
        Class::Long { .. }
    ));
    assert_eq!(plain.classify(long.as_bytes()), Class::Reserved);
    assert_eq!(encrypted.classify(b".envelopefs.u.x"), Class::Reserved);
    assert_eq!(plain.classify(b".envelopefs.u.x"), Class::Entry);
    assert_eq!(plain.classify(b".env"), Class::Entry);

    // A user's names that look like ours.
    for name in [
        ".envelopefs",
        ".envelopefs.dir",
        &long,
        ".envelopefs.u.x",
        ".envelopefs.u.",
    ] {
        for names in [&encrypted, &plain] {
            let stored = names.encode(&DIR, name.as_bytes()).unwrap();
            assert_eq!(names.classify(stored.entry()), Class::Entry);
            assert_eq!(names.decode(&DIR, stored.entry()).unwrap(), name.as_bytes());
        }
    }
    assert_eq!(
        plain
            .encode(&DIR, b".envelopefs")
            .unwrap()
            .entry()
            .as_bytes(),
        b".envelopefs.u."
    );
    let longest = [&b".envelopefs"[..], &[b'x'; 241]].concat();
    assert_eq!(plain.encode(&DIR, &longest).unwrap().entry().len(), 255);
    let longer = [&longest[..], b"x"].concat();
    assert_eq!(plain.encode(&DIR, &longer), Err(NameError::TooLong));
}

#[test]
fn no_changed_byte_of_a_target_or_value_opens() {
    let names = names(NameMode::Encrypted);
    for len in [0, 1, 2, 3, 40] {
        let target = names.seal_target(&vec![b't'; len]);
        let value = names.seal_xattr_value(b"user.a", &vec![b'v'; len]);
        let long_name = [&b"user."[..], &[b'n'; 240]].concat();
        let hashed = names.seal_xattr_value(&long_name, &vec![b'v'; len]);
        for byte in 1..=255 {
            let all = |text: &[u8], fails: &dyn Fn(&[u8]) -> bool| {
                (0..text.len()).all(|at| {
                    let mut changed = text.to_vec();
                    changed[at] ^= byte;
                    fails(&changed)
                })
            };
            let failed = Err(NameError::XattrValue);
            assert!(all(&target, &|text| names.open_target(text)
                == Err(NameError::Target)));
            assert!(all(&value, &|text| names.open_xattr_value(b"user.a", text)
                == failed));
            assert!(all(&hashed, &|text| names
                .open_xattr_value(&long_name, text)
                == failed));
        }
        assert_eq!(
            names.open_target(&target[..target.len() - 1]),
            Err(NameError::Target)
        );
        // One isn't taken for the other.
        assert!(names.open_xattr_value(&long_name, &value).is_err());
        assert!(names.open_xattr_value(b"user.a", &hashed).is_err());
    }
}

#[test]
fn lengths_that_no_target_has() {
    assert_eq!(Names::target_len(0), None);
    assert_eq!(Names::target_len(37), None);
    assert_eq!(Names::target_len(38), Some(0));
    assert_eq!(Names::target_len(39), Some(1));
    assert_eq!(Names::target_len(40), Some(2));
    assert_eq!(Names::target_len(41), None);
    assert_eq!(Names::target_len(u64::MAX), Some(u64::MAX / 4 * 3 + 2 - 28));
}

#[test]
fn attributes_that_are_not_for_this_room() {
    let names = names(NameMode::Encrypted);
    for name in [
        &b"system.posix_acl_access"[..],
        b"user",
        b"users.x",
        b"",
        b"USER.x",
    ] {
        assert_eq!(names.xattr_name(name), Err(NameError::Namespace));
        assert_eq!(names.open_xattr_name(name), Ok(None));
    }
    assert_eq!(names.xattr_name(b"user."), Err(NameError::Invalid));
    assert_eq!(names.xattr_name(b"user.a\0b"), Err(NameError::Invalid));
    let long = [&b"user."[..], &[b'x'; 251]].concat();
    assert_eq!(names.xattr_name(&long), Err(NameError::TooLong));
    assert_eq!(names.open_xattr_name(b"security.selinux"), Ok(None));
    assert_eq!(names.open_xattr_name(b"user.envelopefs"), Ok(None));

    // A name is bound to its namespace.
    let stored = names.xattr_name(b"user.a").unwrap().stored;
    let moved = [&b"trusted."[..], stored.strip_prefix(b"user.").unwrap()].concat();
    assert_eq!(names.open_xattr_name(&moved), Err(NameError::Foreign));
}

#[test]
fn the_hash_is_used_exactly_when_the_name_would_not_fit() {
    let names = names(NameMode::Encrypted);
    for (space, most) in [("user.", 163), ("trusted.", 161), ("security.", 160)] {
        for len in 1..=(255 - space.len()) {
            let name = [space.as_bytes(), &vec![b'x'; len]].concat();
            assert_eq!(
                names.xattr_name(&name).unwrap().hashed,
                len > most,
                "{space} {len}"
            );
        }
    }
}

#[test]
fn directory_ids() {
    for id in [
        DirId::ROOT,
        DirId::random(),
        DirId(random_array()),
        DirId([255; 16]),
    ] {
        let text = id.to_text();
        assert_eq!(text.len(), DirId::TEXT_LEN);
        assert_eq!(DirId::from_text(text.as_bytes()), Ok(id));
    }
    assert_ne!(DirId::random(), DirId::random());
    // The last character has two bits only: one text for each id.
    let text = DirId::ROOT.to_text();
    assert_eq!(
        DirId::from_text(format!("{}B", &text[..21]).as_bytes()),
        Err(NameError::Foreign)
    );
    assert_eq!(
        DirId::from_text(format!("{text}A").as_bytes()),
        Err(NameError::Foreign)
    );
    assert_eq!(DirId::from_text(b""), Err(NameError::Foreign));
}
