//! The kinds of keys: what each is for, and with which algorithms.

use super::words::words;

words! {
    /// The kind of a key's material.
    KeySpec {
        /// AES-256-GCM.
        SymmetricDefault = "SYMMETRIC_DEFAULT",
        /// RSA with a modulus of 2048 bits.
        Rsa2048 = "RSA_2048",
        /// RSA with a modulus of 3072 bits.
        Rsa3072 = "RSA_3072",
        /// RSA with a modulus of 4096 bits.
        Rsa4096 = "RSA_4096",
        /// The curve P-256 (secp256r1).
        EccNistP256 = "ECC_NIST_P256",
        /// The curve P-384 (secp384r1).
        EccNistP384 = "ECC_NIST_P384",
        /// The curve P-521 (secp521r1).
        EccNistP521 = "ECC_NIST_P521",
        /// The curve secp256k1.
        EccSecgP256k1 = "ECC_SECG_P256K1",
        /// Ed25519.
        EccNistEdwards25519 = "ECC_NIST_EDWARDS25519",
        /// HMAC with SHA-224.
        Hmac224 = "HMAC_224",
        /// HMAC with SHA-256.
        Hmac256 = "HMAC_256",
        /// HMAC with SHA-384.
        Hmac384 = "HMAC_384",
        /// HMAC with SHA-512.
        Hmac512 = "HMAC_512",
        /// ML-DSA-44 (FIPS 204).
        MlDsa44 = "ML_DSA_44",
        /// ML-DSA-65 (FIPS 204).
        MlDsa65 = "ML_DSA_65",
        /// ML-DSA-87 (FIPS 204).
        MlDsa87 = "ML_DSA_87",
    }
}

words! {
    /// What a key is for.
    KeyUsage {
        /// Encrypt and decrypt.
        EncryptDecrypt = "ENCRYPT_DECRYPT",
        /// Sign and verify.
        SignVerify = "SIGN_VERIFY",
        /// Make and verify message authentication codes.
        GenerateVerifyMac = "GENERATE_VERIFY_MAC",
        /// Agree on a shared secret.
        KeyAgreement = "KEY_AGREEMENT",
    }
}

words! {
    /// How data is encrypted.
    EncryptionAlgorithmSpec {
        /// AES-256-GCM under a key derived for each message.
        SymmetricDefault = "SYMMETRIC_DEFAULT",
        /// RSAES-OAEP (RFC 8017) with SHA-1.
        RsaesOaepSha1 = "RSAES_OAEP_SHA_1",
        /// RSAES-OAEP (RFC 8017) with SHA-256.
        RsaesOaepSha256 = "RSAES_OAEP_SHA_256",
    }
}

words! {
    /// How a message is signed.
    SigningAlgorithmSpec {
        /// RSASSA-PSS with SHA-256.
        RsassaPssSha256 = "RSASSA_PSS_SHA_256",
        /// RSASSA-PSS with SHA-384.
        RsassaPssSha384 = "RSASSA_PSS_SHA_384",
        /// RSASSA-PSS with SHA-512.
        RsassaPssSha512 = "RSASSA_PSS_SHA_512",
        /// RSASSA-PKCS1-v1_5 with SHA-256.
        RsassaPkcs1V15Sha256 = "RSASSA_PKCS1_V1_5_SHA_256",
        /// RSASSA-PKCS1-v1_5 with SHA-384.
        RsassaPkcs1V15Sha384 = "RSASSA_PKCS1_V1_5_SHA_384",
        /// RSASSA-PKCS1-v1_5 with SHA-512.
        RsassaPkcs1V15Sha512 = "RSASSA_PKCS1_V1_5_SHA_512",
        /// ECDSA with SHA-256.
        EcdsaSha256 = "ECDSA_SHA_256",
        /// ECDSA with SHA-384.
        EcdsaSha384 = "ECDSA_SHA_384",
        /// ECDSA with SHA-512.
        EcdsaSha512 = "ECDSA_SHA_512",
        /// ML-DSA (FIPS 204).
        MlDsaShake256 = "ML_DSA_SHAKE_256",
        /// Ed25519 (RFC 8032).
        Ed25519Sha512 = "ED25519_SHA_512",
        /// Ed25519ph (RFC 8032), for digests.
        Ed25519PhSha512 = "ED25519_PH_SHA_512",
    }
}

words! {
    /// How a message authentication code is made.
    MacAlgorithmSpec {
        /// HMAC with SHA-224.
        HmacSha224 = "HMAC_SHA_224",
        /// HMAC with SHA-256.
        HmacSha256 = "HMAC_SHA_256",
        /// HMAC with SHA-384.
        HmacSha384 = "HMAC_SHA_384",
        /// HMAC with SHA-512.
        HmacSha512 = "HMAC_SHA_512",
    }
}

words! {
    /// How a shared secret is agreed on.
    KeyAgreementAlgorithmSpec {
        /// Elliptic-curve Diffie-Hellman (NIST SP 800-56A).
        Ecdh = "ECDH",
    }
}

words! {
    /// Where a key's material came from.
    Origin {
        /// Made by the key manager.
        AwsKms = "AWS_KMS",
        /// Imported by its user.
        External = "EXTERNAL",
        /// A CloudHSM cluster; not here.
        AwsCloudHsm = "AWS_CLOUDHSM",
        /// An external key manager; not here.
        ExternalKeyStore = "EXTERNAL_KEY_STORE",
    }
}

words! {
    /// Who manages a key. The words are the API's: AWS calls the service itself `AWS`.
    KeyManager {
        /// The service: made on first use, rotated each year, usable through volumes only.
        Service = "AWS",
        /// Its user.
        Customer = "CUSTOMER",
    }
}

words! {
    /// How a key material came to be current.
    RotationType {
        /// The key's rotation period was over.
        Automatic = "AUTOMATIC",
        /// Somebody asked for it.
        OnDemand = "ON_DEMAND",
    }
}

impl KeySpec {
    /// Whether it encrypts and decrypts with one secret.
    pub fn is_symmetric(self) -> bool {
        self == Self::SymmetricDefault
    }

    /// Whether it is an HMAC key.
    pub fn is_hmac(self) -> bool {
        matches!(
            self,
            Self::Hmac224 | Self::Hmac256 | Self::Hmac384 | Self::Hmac512
        )
    }

    /// Whether it is a key pair.
    pub fn is_asymmetric(self) -> bool {
        !self.is_symmetric() && !self.is_hmac()
    }

    fn is_rsa(self) -> bool {
        matches!(self, Self::Rsa2048 | Self::Rsa3072 | Self::Rsa4096)
    }

    fn is_nist_curve(self) -> bool {
        matches!(
            self,
            Self::EccNistP256 | Self::EccNistP384 | Self::EccNistP521
        )
    }

    /// Whether `CustomerMasterKeySpec`, the old name of `KeySpec`, has the word.
    pub fn has_old_name(self) -> bool {
        !matches!(
            self,
            Self::EccNistEdwards25519 | Self::MlDsa44 | Self::MlDsa65 | Self::MlDsa87
        )
    }

    /// Bytes in the material of an HMAC key that the key manager makes: the hash's output
    /// (RFC 2104, section 3); for a symmetric key 32; `None` for a key pair.
    pub fn secret_len(self) -> Option<usize> {
        match self {
            Self::SymmetricDefault | Self::Hmac256 => Some(32),
            Self::Hmac224 => Some(28),
            Self::Hmac384 => Some(48),
            Self::Hmac512 => Some(64),
            _ => None,
        }
    }

    /// The usages that a key of this kind can be made for; the first is the only or usual one.
    pub fn usages(self) -> &'static [KeyUsage] {
        use KeyUsage as U;
        match self {
            Self::SymmetricDefault => &[U::EncryptDecrypt],
            Self::Rsa2048 | Self::Rsa3072 | Self::Rsa4096 => &[U::EncryptDecrypt, U::SignVerify],
            Self::EccNistP256 | Self::EccNistP384 | Self::EccNistP521 => {
                &[U::SignVerify, U::KeyAgreement]
            }
            Self::EccSecgP256k1
            | Self::EccNistEdwards25519
            | Self::MlDsa44
            | Self::MlDsa65
            | Self::MlDsa87 => &[U::SignVerify],
            Self::Hmac224 | Self::Hmac256 | Self::Hmac384 | Self::Hmac512 => {
                &[U::GenerateVerifyMac]
            }
        }
    }

    /// `EncryptionAlgorithms` of a key for encryption.
    pub fn encryption_algorithms(self) -> &'static [EncryptionAlgorithmSpec] {
        use EncryptionAlgorithmSpec as A;
        match self {
            Self::SymmetricDefault => &[A::SymmetricDefault],
            _ if self.is_rsa() => &[A::RsaesOaepSha1, A::RsaesOaepSha256],
            _ => &[],
        }
    }

    /// `SigningAlgorithms` of a key for signing.
    pub fn signing_algorithms(self) -> &'static [SigningAlgorithmSpec] {
        use SigningAlgorithmSpec as A;
        match self {
            Self::EccNistP256 | Self::EccSecgP256k1 => &[A::EcdsaSha256],
            Self::EccNistP384 => &[A::EcdsaSha384],
            Self::EccNistP521 => &[A::EcdsaSha512],
            Self::EccNistEdwards25519 => &[A::Ed25519Sha512, A::Ed25519PhSha512],
            Self::MlDsa44 | Self::MlDsa65 | Self::MlDsa87 => &[A::MlDsaShake256],
            _ if self.is_rsa() => &[
                A::RsassaPkcs1V15Sha256,
                A::RsassaPkcs1V15Sha384,
                A::RsassaPkcs1V15Sha512,
                A::RsassaPssSha256,
                A::RsassaPssSha384,
                A::RsassaPssSha512,
            ],
            _ => &[],
        }
    }

    /// `MacAlgorithms` of an HMAC key.
    pub fn mac_algorithms(self) -> &'static [MacAlgorithmSpec] {
        use MacAlgorithmSpec as A;
        match self {
            Self::Hmac224 => &[A::HmacSha224],
            Self::Hmac256 => &[A::HmacSha256],
            Self::Hmac384 => &[A::HmacSha384],
            Self::Hmac512 => &[A::HmacSha512],
            _ => &[],
        }
    }

    /// `KeyAgreementAlgorithms` of a key for key agreement.
    pub fn key_agreement_algorithms(self) -> &'static [KeyAgreementAlgorithmSpec] {
        if self.is_nist_curve() {
            &[KeyAgreementAlgorithmSpec::Ecdh]
        } else {
            &[]
        }
    }
}
