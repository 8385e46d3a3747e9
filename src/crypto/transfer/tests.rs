use super::*;

fn key(first: u8) -> TransferKey {
    let private = Key256::init(|out| {
        for (byte, value) in out.iter_mut().zip(first..) {
            *byte = value;
        }
    });
    TransferKey::new(private).unwrap()
}

#[test]
fn the_bytes_are_those_of_another_implementation() {
    // pyhpke 0.6: DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, AES-256-GCM, mode_auth, with private keys
    // 00..1f (ephemeral), 20..3f (sender), 40..5f (receiver).
    let (ephemeral, sender, receiver) = (key(0), key(32), key(64));
    let expected = "8f40c5adb68f25624ae5b214ea767a6ec94d829d3d7b5e1ad1ba6f3e2138285f\
                    3f67947f39e989105ac1b3a6ae874e252f2dee98963be2eece56f7bf";
    let info = b"info of both";
    let sealed = sender
        .seal_with(
            &ephemeral,
            receiver.public(),
            info,
            b"beside it",
            b"key material",
        )
        .unwrap();
    assert_eq!(hex::encode(&sealed), expected);
    let opened = receiver.open(sender.public(), info, b"beside it", &sealed);
    assert_eq!(opened.unwrap().as_slice(), b"key material");
}

#[test]
fn it_opens_for_the_receiver_from_the_sender_alone() {
    let (sender, receiver, other) = (key(1), key(2), key(3));
    let to = receiver.public();
    let sealed = sender.seal(to, b"info", b"aad", b"plain").unwrap();
    let again = sender.seal(to, b"info", b"aad", b"plain").unwrap();
    assert_ne!(sealed, again);
    let from = sender.public();
    assert!(receiver.open(from, b"info", b"aad", &sealed).is_ok());
    let refused = |opened: Result<SecretText, CryptoError>| {
        assert_eq!(opened.err(), Some(CryptoError::Unauthentic));
    };
    refused(receiver.open(other.public(), b"info", b"aad", &sealed));
    refused(other.open(from, b"info", b"aad", &sealed));
    refused(receiver.open(from, b"Info", b"aad", &sealed));
    refused(receiver.open(from, b"info", b"aae", &sealed));
    for i in 0..sealed.len() {
        let mut changed = sealed.clone();
        changed[i] ^= 1;
        // The top bit of an X25519 key is ignored (RFC 7748 §5), but stands in the key schedule.
        refused(receiver.open(from, b"info", b"aad", &changed));
        refused(receiver.open(from, b"info", b"aad", &sealed[..i]));
    }
}

#[test]
fn points_of_small_order_are_refused() {
    let sender = key(1);
    let zero = [0; 32];
    assert_eq!(
        sender.seal(&zero, b"", b"", b"plain").err(),
        Some(CryptoError::InvalidKey)
    );
    let opened = sender.open(&zero, b"", b"", &[0; 64]);
    assert_eq!(opened.err(), Some(CryptoError::Unauthentic));
}
