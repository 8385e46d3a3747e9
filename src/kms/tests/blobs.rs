//! Encrypt, Decrypt, ReEncrypt, GenerateDataKey, and what volumes use.

use serde_json::json;

use super::super::wrap;
use super::short::ReEncrypt;
use super::*;
use crate::format::blob::{BlobHeader, DATA_KEY_LEN};
use crate::secret::Key256;

/// The context of the pinned blob.
fn context() -> EncryptionContext {
    EncryptionContext::new()
        .with("envelopefs:volume-id", "v")
        .with("envelopefs:file-id", "f")
}

#[test]
fn a_wrapped_key_is_pinned() {
    // Computed with Python's hmac and cryptography's AESGCM from the layout in `wrap`.
    let material = Key256::init(|bytes| bytes.fill(0x11));
    let header = BlobHeader {
        key_id: [0x22; 16],
        multi_region: false,
        material: [0x33; 8],
        salt: [0x44; 16],
    };
    let blob = wrap::seal(&material, &header, &context(), &[0x55; 32]);
    assert_eq!(hex::encode(blob), include_str!("wrapped-key.hex").trim());
}

#[test]
fn data_keys_open_as_they_were_made() {
    let fixture = Fixture::new();
    let id = fixture.key();
    let made = fixture
        .kms
        .generate_data_key(Via::User, &id, &context())
        .unwrap();
    assert_eq!(made.blob.len(), DATA_KEY_LEN);
    let header = BlobHeader::parse(&made.blob).unwrap();
    assert_eq!(&header.key_id, id.bytes());
    assert_eq!(
        header.material,
        fixture.kms.current_material(&id).unwrap().prefix()
    );
    let opened = fixture
        .kms
        .decrypt_data_key(Via::User, &made.blob, &context())
        .unwrap();
    assert!(opened.same_as(&made.plaintext));
    let again = fixture
        .kms
        .generate_data_key(Via::User, &id, &context())
        .unwrap();
    assert!(!again.plaintext.same_as(&made.plaintext));
    assert_ne!(again.blob, made.blob);
}

#[test]
fn another_context_does_not_open() {
    let fixture = Fixture::new();
    let id = fixture.key();
    let blob = fixture
        .kms
        .generate_data_key(Via::User, &id, &context())
        .unwrap()
        .blob;
    for other in [
        EncryptionContext::new(),
        context().with("more", ""),
        context().with("envelopefs:file-id", "g"),
        EncryptionContext::new().with("envelopefs:volume-id", "v"),
    ] {
        let error = fixture
            .kms
            .decrypt_data_key(Via::User, &blob, &other)
            .err()
            .unwrap();
        assert!(matches!(error, KmsError::InvalidCiphertext), "{error}");
    }
}

#[test]
fn no_flipped_bit_opens() {
    let fixture = Fixture::new();
    let id = fixture.key();
    fixture.key();
    let blob = fixture
        .kms
        .generate_data_key(Via::User, &id, &context())
        .unwrap()
        .blob;
    for bit in 0..blob.len() * 8 {
        let mut changed = blob.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        let error = fixture
            .kms
            .decrypt_data_key(Via::User, &changed, &context())
            .err();
        match bit / 8 {
            2..18 => assert!(
                matches!(error, Some(KmsError::KeyMissing { .. })),
                "bit {bit}"
            ),
            // The multi-Region flag makes it another key's.
            1 if bit == 8 => assert!(matches!(error, Some(KmsError::KeyMissing { .. }))),
            _ => assert!(
                matches!(error, Some(KmsError::InvalidCiphertext)),
                "bit {bit}"
            ),
        }
    }
    for len in 0..blob.len() {
        assert!(
            fixture
                .kms
                .decrypt_data_key(Via::User, &blob[..len], &context())
                .is_err()
        );
    }
}

#[test]
fn a_blob_of_another_key_does_not_open() {
    let fixture = Fixture::new();
    let (one, two) = (fixture.key(), fixture.key());
    let mut blob = fixture
        .kms
        .generate_data_key(Via::User, &one, &context())
        .unwrap()
        .blob;
    let given = fixture.kms.decrypt(&blob, &context(), Some(&two.into()));
    assert_eq!(refused(given), "IncorrectKeyException");
    assert!(
        fixture
            .kms
            .decrypt(&blob, &context(), Some(&one.into()))
            .is_ok()
    );
    // The header rewritten to name the other key and its material.
    blob[2..18].copy_from_slice(two.bytes());
    blob[18..26].copy_from_slice(&fixture.kms.current_material(&two).unwrap().prefix());
    assert!(
        fixture
            .kms
            .decrypt_data_key(Via::User, &blob, &context())
            .is_err()
    );
    // A key of another keystore.
    let other = Fixture::new();
    let foreign = other
        .kms
        .generate_data_key(Via::User, &other.key(), &context())
        .unwrap()
        .blob;
    let error = fixture
        .kms
        .decrypt_data_key(Via::User, &foreign, &context())
        .err()
        .unwrap();
    assert!(matches!(error, KmsError::KeyMissing { .. }));
    assert_eq!(error.code(), "AccessDeniedException");
}

#[test]
fn encrypt_takes_one_to_4096_bytes() {
    let fixture = Fixture::new();
    let key: KeyRef = fixture.key().into();
    for len in [1, 31, 32, 33, 4096] {
        let plain = vec![7; len];
        let made = fixture.kms.encrypt(&key, &plain, &context()).unwrap();
        let opened = fixture.kms.decrypt(&made.blob, &context(), None).unwrap();
        assert_eq!(*opened.plaintext, plain);
        assert_eq!(opened.key_arn, made.key_arn);
    }
    for len in [0, 4097] {
        let result = fixture.kms.encrypt(&key, &vec![7; len], &context());
        assert_eq!(refused(result), "ValidationException");
    }
    let large = EncryptionContext::new().with("k", "v".repeat(8192));
    assert_eq!(
        refused(fixture.kms.encrypt(&key, b"x", &large)),
        "ValidationException"
    );
    // What is no 32-byte key is no data key.
    let short = fixture
        .kms
        .encrypt(&key, &[1; 16], &context())
        .unwrap()
        .blob;
    assert!(
        fixture
            .kms
            .decrypt_data_key(Via::User, &short, &context())
            .is_err()
    );
}

#[test]
fn data_keys_of_all_sizes() {
    let fixture = Fixture::new();
    let key: KeyRef = fixture.key().into();
    for (size, len) in [
        (json!({"KeySpec": "AES_256"}), 32),
        (json!({"KeySpec": "AES_128"}), 16),
        (json!({"NumberOfBytes": 1}), 1),
        (json!({"NumberOfBytes": 1024}), 1024),
    ] {
        let made = fixture
            .kms
            .generate_data_key_api(&key, &size, &context())
            .unwrap();
        assert_eq!(made.plaintext.expose().len(), len);
        let opened = fixture
            .kms
            .decrypt(&made.ciphertext_blob, &context(), Some(&key))
            .unwrap();
        assert_eq!(
            (&opened.plaintext[..], opened.material),
            (made.plaintext.expose(), made.key_material_id)
        );
    }
    for size in [
        json!({}),
        json!({"KeySpec": "AES_256", "NumberOfBytes": 32}),
        json!({"KeySpec": "AES_512"}),
        json!({"NumberOfBytes": 0}),
        json!({"NumberOfBytes": 1025}),
        json!({"NumberOfBytes": -1}),
    ] {
        assert_eq!(
            refused(fixture.kms.generate_data_key_api(&key, &size, &context())),
            "ValidationException"
        );
    }
}

#[test]
fn re_encrypt_moves_a_ciphertext_to_another_key_and_context() {
    let fixture = Fixture::new();
    let (one, two) = (fixture.key(), fixture.key());
    let other = EncryptionContext::new().with("purpose", "archive");
    let old = fixture
        .kms
        .encrypt(&one.into(), b"hello", &context())
        .unwrap()
        .blob;
    let request = ReEncrypt {
        blob: &old,
        source_context: &context(),
        source_key: None,
        destination_key: &two.into(),
        destination_context: &other,
    };
    let new = fixture.kms.re_encrypt(&request).unwrap();
    assert_eq!(new.source_key_arn, fixture.kms.key_arn(&one));
    assert_eq!(new.key_arn, fixture.kms.key_arn(&two));
    assert_eq!(
        *fixture
            .kms
            .decrypt(&new.blob, &other, None)
            .unwrap()
            .plaintext,
        b"hello"
    );
    assert!(fixture.kms.decrypt(&new.blob, &context(), None).is_err());
    let wrong = ReEncrypt {
        source_key: Some(&two.into()),
        ..request
    };
    assert_eq!(
        refused(fixture.kms.re_encrypt(&wrong)),
        "IncorrectKeyException"
    );
    let wrong = ReEncrypt {
        source_context: &other,
        ..request
    };
    assert_eq!(
        refused(fixture.kms.re_encrypt(&wrong)),
        "InvalidCiphertextException"
    );
    fixture.kms.disable_key(&two.into()).unwrap();
    assert_eq!(
        refused(fixture.kms.re_encrypt(&request)),
        "DisabledException"
    );

    // The same for a volume.
    fixture.kms.enable_key(&two.into()).unwrap();
    let made = fixture
        .kms
        .generate_data_key(Via::User, &one, &context())
        .unwrap();
    let kms = &fixture.kms;
    let moved = kms
        .re_encrypt_data_key(Via::User, &made.blob, &context(), &two, &other)
        .unwrap();
    kms.disable_key(&one.into()).unwrap();
    let opened = kms.decrypt_data_key(Via::User, &moved, &other).unwrap();
    assert!(opened.same_as(&made.plaintext));
    let again = kms.re_encrypt_data_key(Via::User, &made.blob, &context(), &two, &other);
    assert_eq!(refused(again), "DisabledException");
}
