use super::*;

#[test]
fn a_build_without_aws_lc_says_so() {
    let absent = Some(CryptoError::Unavailable);
    let private = SecretBytes::copy_of(&[0x30, 0]).unwrap();
    for spec in KeyPairSpec::ALL {
        assert_eq!(KeyPair::generate(spec).err(), absent);
        assert_eq!(KeyPair::from_pkcs8(spec, private.expose()).err(), absent);
        assert_eq!(SigningKey::new(spec, private.expose()).err(), absent);
        for algorithm in spec.signing_algorithms() {
            let message = match algorithm {
                SigningAlgorithm::Ed25519ph => Message::Digest(&[0; 64]),
                _ => Message::Raw(b"message"),
            };
            let verified = VerifyingKey::new(spec, &[]).verify(*algorithm, message, &[]);
            assert_eq!(verified.err(), absent);
        }
    }
    let spec = KeyPairSpec::Rsa2048;
    assert_eq!(DecryptionKey::new(spec, private.expose()).err(), absent);
    let encrypted = EncryptionKey::new(spec, &[])
        .unwrap()
        .encrypt(OaepHash::Sha1, b"plain");
    assert_eq!(encrypted.err(), absent);
    assert_eq!(
        AgreementKey::new(KeyPairSpec::NistP256, private.expose()).err(),
        absent
    );
}
