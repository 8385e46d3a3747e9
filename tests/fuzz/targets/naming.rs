//! Stored names, symlink targets, extended attributes; what users type.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use envelopefs::cli::mount_opts::MountOptions;
use envelopefs::crypto::{AeadKey, SivKey, hkdf_sha256};
use envelopefs::format::{FileId, VolumeId};
use envelopefs::kms::{AliasName, EncryptionContext, KeyId, KeyRef};
use envelopefs::names::{Class, DirId, NameError, NameMode, Names, Stored};
use envelopefs::secret::Key256;

use super::Input;

const DIR: DirId = DirId([0x64; 16]);

fn volume_key() -> Key256 {
    Key256::init(|key| key.fill(0x6b))
}

fn base64url(bytes: &[u8]) -> Vec<u8> {
    use base64::Engine;
    base64::engine::general_purpose::URL_SAFE_NO_PAD
        .encode(bytes)
        .into_bytes()
}

/// Two pieces, each behind its length: taken as stored, as plaintext, and as what stands inside a
/// seal that is right.
pub fn names(data: &[u8]) {
    let mut input = Input(data);
    let (one, two) = (input.piece(), input.piece());
    for mode in [NameMode::Encrypted, NameMode::Plain] {
        let names = Names::new(&volume_key(), mode);
        stored_entry(&names, one, two);
        plain_entry(&names, one);
        targets(&names, one);
        xattrs(&names, one, two);
    }
    let names = Names::new(&volume_key(), NameMode::Encrypted);
    inside(&names, one, two);
    if let Ok(id) = DirId::from_text(one) {
        assert_eq!(id.to_text().as_bytes(), one);
    }
    if let Some(id) = one.first_chunk() {
        assert_eq!(
            DirId::from_text(DirId(*id).to_text().as_bytes()),
            Ok(DirId(*id))
        );
    }
}

fn is_name(name: &[u8]) -> bool {
    (1..=255).contains(&name.len())
        && !name.contains(&b'/')
        && !name.contains(&0)
        && !matches!(name, b"." | b"..")
}

fn stored_entry(names: &Names, stored: &[u8], full: &[u8]) {
    let decoded = match names.classify(stored) {
        Class::Reserved => return,
        Class::Entry => names.decode(&DIR, stored),
        Class::Long { sidecar } => {
            assert!(sidecar.starts_with(b".envelopefs.n."));
            names.decode_long(&DIR, full, stored)
        }
    };
    // One name has one stored form: else it would be listed and not found.
    if let Ok(name) = decoded {
        assert!(is_name(&name));
        let again = names.encode(&DIR, &name).expect("what decodes encodes");
        assert_eq!(again.entry().as_bytes(), stored);
    }
}

fn plain_entry(names: &Names, name: &[u8]) {
    match names.encode(&DIR, name) {
        Ok(Stored::Short(entry)) => {
            assert!(is_name(name) && entry.len() <= 255);
            assert_eq!(names.classify(&entry), Class::Entry);
            assert_eq!(names.decode(&DIR, &entry).as_deref(), Ok(name));
            // A name that is a directory's own isn't bound to it in plain mode.
            let elsewhere = names.decode(&DirId::ROOT, &entry);
            assert_eq!(elsewhere.is_ok(), names.mode() == NameMode::Plain);
        }
        Ok(Stored::Long {
            entry,
            sidecar,
            full,
        }) => {
            assert_eq!(names.classify(&entry), Class::Long { sidecar });
            assert_eq!(names.classify(&sidecar), Class::Reserved);
            assert_eq!(names.decode_long(&DIR, &full, &entry).as_deref(), Ok(name));
        }
        Err(error) => {
            let long = name.starts_with(b".envelopefs") && error == NameError::TooLong;
            assert!(!is_name(name) || long);
        }
    }
}

fn targets(names: &Names, bytes: &[u8]) {
    assert_eq!(names.open_target(bytes), Err(NameError::Target));
    let sealed = names.seal_target(bytes);
    assert_eq!(names.open_target(&sealed).as_deref(), Ok(bytes));
    let len = Names::target_len(sealed.len() as u64);
    assert_eq!(len, Some(bytes.len() as u64));
}

fn xattrs(names: &Names, name: &[u8], value: &[u8]) {
    let opened = names.open_xattr_name(name);
    assert!(!matches!(opened, Ok(Some(_))), "a forged name opens");
    assert!(names.open_hashed_xattr(name, value).is_err());
    assert!(names.open_xattr_value(name, value).is_err());
    for space in [&b""[..], b"user.", b"trusted."] {
        let name = [space, name].concat();
        let Ok(stored) = names.xattr_name(&name) else {
            continue;
        };
        assert!(stored.stored.len() <= 255);
        let sealed = names.seal_xattr_value(&name, value);
        assert_eq!(names.open_xattr_value(&name, &sealed).as_deref(), Ok(value));
        assert_eq!(Names::is_hashed_xattr(&stored.stored), stored.hashed);
        if stored.hashed {
            let both = names.open_hashed_xattr(&stored.stored, &sealed);
            assert_eq!(both, Ok((name, value.to_vec())));
        } else {
            assert_eq!(names.open_xattr_name(&stored.stored), Ok(Some(name)));
        }
    }
}

/// Sealed by who has the key, but not by this program: anything may stand inside.
fn inside(names: &Names, one: &[u8], two: &[u8]) {
    let siv = |label: &[u8]| SivKey::new(hkdf_sha256(&volume_key(), b"", &[label]));
    let text = base64url(&siv(b"envelopefs 1 entry name").seal(&[&DIR.0], one));
    let mut hashed = b".envelopefs.l.".to_vec();
    hashed.extend(base64url(&envelopefs::crypto::sha256(&[&text])));
    for stored in [&text, &hashed] {
        stored_entry(names, stored, &text);
    }
    let text = base64url(&siv(b"envelopefs 1 xattr name").seal(&[b"user."], one));
    let _ = names.open_xattr_name(&[b"user.envelopefs.", &text[..]].concat());
    let stored = [b"user.envelopefs.h.", two].concat();
    let aead = AeadKey::new(&hkdf_sha256(
        &volume_key(),
        b"",
        &[b"envelopefs 1 xattr value"],
    ));
    let mut cipher = vec![0; one.len()];
    let sealed = aead.seal(&[b"\0", &stored[..]].concat(), one, &mut cipher);
    let value = [&sealed.nonce[..], &sealed.tag, &cipher].concat();
    if let Ok((name, value)) = names.open_hashed_xattr(&stored, &value) {
        assert_eq!(1 + name.len() + value.len(), one.len());
    }
}

/// What users type: mount options, keys, aliases, ids; and encryption contexts.
pub fn words(data: &[u8]) {
    mount_options(data);
    context(data);
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    if let Ok(key) = text.parse::<KeyRef>() {
        assert_eq!(key.to_string().parse::<KeyRef>().ok(), Some(key));
    }
    if let Ok(id) = text.parse::<KeyId>() {
        assert_eq!(id.to_string().parse::<KeyId>().ok(), Some(id));
    }
    if let Ok(alias) = text.parse::<AliasName>() {
        assert_eq!(alias.as_str(), text);
        let _ = alias.is_reserved();
    }
    if let Ok(id) = text.parse::<FileId>() {
        assert_eq!(id.to_string(), text.to_ascii_lowercase());
    }
    assert_eq!(
        text.parse::<VolumeId>().is_ok(),
        text.parse::<FileId>().is_ok()
    );
}

fn mount_options(data: &[u8]) {
    let values: Vec<&OsStr> = data
        .split(|byte| *byte == 0)
        .map(OsStr::from_bytes)
        .collect();
    if let Ok(options) = MountOptions::parse(&values) {
        let text = options.to_text();
        let again = MountOptions::parse(&[&text]).expect("what it writes it reads");
        assert_eq!(again, options);
    }
    let _ = MountOptions::parse_with(&values, |option| option.len() % 2 == 0);
}

/// The canonical form can be taken apart again: no two contexts share one.
fn context(data: &[u8]) {
    let mut input = Input(data);
    let mut pairs = BTreeMap::new();
    while !input.is_empty() {
        let key = String::from_utf8_lossy(input.piece()).into_owned();
        let value = String::from_utf8_lossy(input.piece()).into_owned();
        pairs.insert(key, value);
    }
    let context: EncryptionContext = pairs.clone().into_iter().collect();
    let bytes = context.canonical();
    let mut canonical = Input(&bytes);
    let mut found = BTreeMap::new();
    let text = |input: &mut Input<'_>| {
        let len = u32::from_le_bytes(*input.bytes(4).first_chunk().expect("a length"));
        let text = input.bytes(len as usize).to_vec();
        String::from_utf8(text).expect("whole strings")
    };
    while !canonical.is_empty() {
        let key = text(&mut canonical);
        let value = text(&mut canonical);
        assert!(found.insert(key, value).is_none());
    }
    assert_eq!(found, pairs);
}
