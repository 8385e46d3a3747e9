use super::*;
use crate::secret::{Key256, Secret};

fn key(hexed: &str) -> Key256 {
    let bytes: [u8; 32] = hex::decode(hexed).unwrap().try_into().unwrap();
    Key256::init(|b| *b = bytes)
}

#[test]
fn siv_is_deterministic_and_bound_to_its_headers() {
    let siv = SivKey::new(Secret::init(|b| b.fill(9)));
    let one = siv.seal(&[b"dir"], b"name");
    assert_eq!(one, siv.seal(&[b"dir"], b"name"));
    assert_ne!(one, siv.seal(&[b"other"], b"name"));
    assert_eq!(siv.open(&[b"dir"], &one).unwrap(), b"name");
    assert_eq!(siv.open(&[b"other"], &one), Err(CryptoError::Unauthentic));
    assert_eq!(
        siv.open(&[b"dir"], &one[..15]),
        Err(CryptoError::Unauthentic)
    );
}

#[test]
fn siv_known_answers() {
    use aes_siv::{KeyInit, siv::Aes128Siv};
    let bytes = |hexed| hex::decode(hexed).unwrap();
    let plain = bytes("112233445566778899aabbccddee");
    let header = bytes("101112131415161718191a1b1c1d1e1f2021222324252627");
    // RFC 5297 A.1; its key has 256 bits, so this one goes by SivKey.
    let key = bytes("fffefdfcfbfaf9f8f7f6f5f4f3f2f1f0f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff");
    let mut siv = Aes128Siv::new(key.as_slice().try_into().unwrap());
    let expected = bytes("85632d07c6e8f37f950acd320a2ecc9340c02b9690c4dc04daef7f6afe5c");
    assert_eq!(siv.encrypt([&header], &plain).unwrap(), expected);
    // The same inputs with keys of 512 bits; OpenSSL gives the same.
    let key = bytes(
        "fffefdfcfbfaf9f8f7f6f5f4f3f2f1f06f6e6d6c6b6a69686766656463626160\
         f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff000102030405060708090a0b0c0d0e0f",
    );
    let siv = SivKey::new(Secret::init(|b| b.copy_from_slice(&key)));
    let expected = bytes("f125274c598065cfc26b0e71575029088b035217e380cac8919ee800c126");
    assert_eq!(siv.seal(&[&header], &plain), expected);
    // The inputs of RFC 5297 A.2: three headers, and more than one block.
    let key = bytes(
        "7f7e7d7c7b7a797877767574737271706f6e6d6c6b6a69686766656463626160\
         404142434445464748494a4b4c4d4e4f505152535455565758595a5b5b5d5e5f",
    );
    let headers = [
        "00112233445566778899aabbccddeeffdeaddadadeaddadaffeeddccbbaa99887766554433221100",
        "102030405060708090a0",
        "09f911029d74e35bd84156c5635688c0",
    ]
    .map(bytes);
    let siv = SivKey::new(Secret::init(|b| b.copy_from_slice(&key)));
    let expected = bytes(
        "85b8167310038db7dc4692c0281ca35868181b2762f3c24f2efa5fb80cb14351\
         6ce6c434b898a6fd8eb98a418842f51f66fc67de43ac185a66dd72475bbb08",
    );
    let plain = b"this is some plaintext to encrypt using SIV-AES";
    let headers = headers.each_ref().map(Vec::as_slice);
    assert_eq!(siv.seal(&headers, plain), expected);
    assert_eq!(siv.open(&headers, &expected).unwrap(), plain);
}

#[test]
fn seal_draws_a_new_nonce_each_time_and_opens() {
    let aead = AeadKey::new(&random_key());
    let mut cipher = [0; 5];
    let first = aead.seal(b"aad", b"hello", &mut cipher);
    let mut plain = [0; 5];
    aead.open(&first, b"aad", &cipher, &mut plain).unwrap();
    assert_eq!(&plain, b"hello");
    let second = aead.seal(b"aad", b"hello", &mut cipher);
    assert_ne!(first.nonce, second.nonce);
    assert_eq!(
        aead.open(&first, b"aad", &cipher, &mut plain),
        Err(CryptoError::Unauthentic)
    );
    assert_eq!(plain, [0; 5], "no unauthenticated plaintext is left behind");
}

#[test]
fn hkdf_known_answer() {
    // RFC 5869, test case 1 (its IKM is 22 bytes; the backend takes any length).
    let mut out = [0; 42];
    backend::hkdf_sha256(
        &[0x0b; 22],
        &hex::decode("000102030405060708090a0b0c").unwrap(),
        &[&hex::decode("f0f1f2f3f4f5f6f7f8f9").unwrap()],
        &mut out,
    );
    assert_eq!(
        hex::encode(out),
        "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865"
    );
}

#[cfg(feature = "aws-lc")]
#[test]
fn kbkdf_agrees_with_aws_lc() {
    use aws_lc_rs::kdf::{KbkdfCtrHmacAlgorithmId, get_kbkdf_ctr_hmac_algorithm, kbkdf_ctr_hmac};
    let secret = key("000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f");
    let algorithm = get_kbkdf_ctr_hmac_algorithm(KbkdfCtrHmacAlgorithmId::Sha256).unwrap();
    let mut expected = [0; 44];
    kbkdf_ctr_hmac(algorithm, secret.expose(), b"label|context", &mut expected).unwrap();
    let ours: Secret<44> = kbkdf_hmac_sha256(&secret, &[b"label|", b"context"]);
    assert_eq!(ours.expose(), &expected);
}

#[cfg(all(feature = "aws-lc", feature = "rust-crypto"))]
#[test]
fn the_backends_agree() {
    for len in [0usize, 1, 15, 16, 17, 64, 4095, 4096] {
        let secret: Key256 = random_key();
        let mut plain = vec![0; len];
        fill_random(&mut plain);
        let nonce: [u8; NONCE_LEN] = random_array();
        let (mut one, mut two) = (vec![0; len], vec![0; len]);
        let a = aws_lc::Gcm::new(secret.expose()).seal(&nonce, b"aad", &plain, &mut one);
        let b = rust_crypto::Gcm::new(secret.expose()).seal(&nonce, b"aad", &plain, &mut two);
        assert_eq!((a, &one), (b, &two));
        rust_crypto::Gcm::new(secret.expose())
            .open_in_place(&nonce, b"aad", &a, &mut one)
            .unwrap();
        assert_eq!(one, plain);
        let parts: [&[u8]; 2] = [b"a", &plain];
        assert_eq!(
            aws_lc::hmac_sha256(secret.expose(), &parts),
            rust_crypto::hmac_sha256(secret.expose(), &parts)
        );
        assert_eq!(aws_lc::sha256(&parts), rust_crypto::sha256(&parts));
        let (mut one, mut two) = ([0; 64], [0; 64]);
        aws_lc::hkdf_sha256(secret.expose(), b"salt", &parts, &mut one);
        rust_crypto::hkdf_sha256(secret.expose(), b"salt", &parts, &mut two);
        assert_eq!(one, two);
        aws_lc::kbkdf_hmac_sha256(secret.expose(), &plain, &mut one[..44]);
        rust_crypto::kbkdf_hmac_sha256(secret.expose(), &plain, &mut two[..44]);
        assert_eq!(one, two);
    }
}

#[test]
fn argon2id_known_answer_and_bounds() {
    // Reference: `echo -n password | argon2 somesaltsomesalt -id -v 13 -t 2 -k 65536 -p 1 -l 32 -r`
    let cost = Argon2Cost {
        memory_kib: 64,
        passes: 1,
        lanes: 1,
    };
    let a = argon2id(b"password", b"somesaltsomesalt", cost).unwrap();
    let b = argon2id(b"password", b"somesaltsomesalt", cost).unwrap();
    let c = argon2id(b"passwore", b"somesaltsomesalt", cost).unwrap();
    assert!(a.same_as(&b) && !a.same_as(&c));
    let wrong = Argon2Cost {
        memory_kib: 1,
        passes: 0,
        lanes: 0,
    };
    assert_eq!(
        argon2id(b"p", &[0; 16], wrong).err(),
        Some(CryptoError::Parameter)
    );
}
