//! GenerateDataKeyPair, with and without the private key in plaintext.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::super::cache::CachedKey;
use super::super::client::Call;
use super::super::context::EncryptionContext;
use super::super::error::{KmsError, Result};
use super::super::id::MaterialId;
use super::super::key_pair;
use super::super::policy::Facts;
use super::super::spec::{EncryptionAlgorithmSpec, KeyUsage};
use super::super::state::Operation;
use super::super::volumes::seal_under;
use super::super::words::words;
use super::crypto::check_usage;
use super::wire::{
    Bytes, GrantTokens, KeyName, PlainBytes, Recipient, end_dry_run, refuse_recipient,
};
use super::{Request, is_false};
use crate::crypto::{KeyPair, KeyPairSpec};
use crate::secret::SecretText;

words! {
    /// The kind of a data key pair.
    DataKeyPairSpec {
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
        /// SM2, of the China Regions of AWS; not here.
        Sm2 = "SM2",
        /// Ed25519.
        EccNistEdwards25519 = "ECC_NIST_EDWARDS25519",
        /// ML-KEM-512 (FIPS 203); not here.
        MlKem512 = "ML_KEM_512",
        /// ML-KEM-768 (FIPS 203); not here.
        MlKem768 = "ML_KEM_768",
        /// ML-KEM-1024 (FIPS 203); not here.
        MlKem1024 = "ML_KEM_1024",
    }
}

impl DataKeyPairSpec {
    fn key_pair(self) -> Result<KeyPairSpec> {
        match self {
            Self::Rsa2048 => Ok(KeyPairSpec::Rsa2048),
            Self::Rsa3072 => Ok(KeyPairSpec::Rsa3072),
            Self::Rsa4096 => Ok(KeyPairSpec::Rsa4096),
            Self::EccNistP256 => Ok(KeyPairSpec::NistP256),
            Self::EccNistP384 => Ok(KeyPairSpec::NistP384),
            Self::EccNistP521 => Ok(KeyPairSpec::NistP521),
            Self::EccSecgP256k1 => Ok(KeyPairSpec::Secp256k1),
            Self::EccNistEdwards25519 => Ok(KeyPairSpec::Ed25519),
            Self::Sm2 | Self::MlKem512 | Self::MlKem768 | Self::MlKem1024 => Err(
                KmsError::UnsupportedOperation(format!("KeyPairSpec {self} is not supported.")),
            ),
        }
    }
}

/// GenerateDataKeyPair.
#[derive(Deserialize, Serialize)]
#[serde(rename_all(serialize = "camelCase", deserialize = "PascalCase"))]
pub struct GenerateDataKeyPairRequest {
    /// What GenerateDataKeyPairWithoutPlaintext is told as well.
    #[serde(flatten)]
    pub pair: GenerateDataKeyPairWithoutPlaintextRequest,
    /// `Recipient`: refused.
    #[serde(skip_serializing)]
    pub recipient: Option<Recipient>,
}

/// GenerateDataKeyPairWithoutPlaintext.
#[derive(Deserialize, Serialize)]
#[serde(rename_all(serialize = "camelCase", deserialize = "PascalCase"))]
pub struct GenerateDataKeyPairWithoutPlaintextRequest {
    /// `EncryptionContext`
    #[serde(default, skip_serializing_if = "EncryptionContext::is_empty")]
    pub encryption_context: EncryptionContext,
    /// `KeyId`
    pub key_id: KeyName,
    /// `KeyPairSpec`
    pub key_pair_spec: DataKeyPairSpec,
    /// `GrantTokens`
    #[serde(default, skip_serializing)]
    pub grant_tokens: GrantTokens,
    /// `DryRun`
    #[serde(skip_serializing_if = "is_false")]
    pub dry_run: Option<bool>,
}

/// What GenerateDataKeyPair answers.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct GenerateDataKeyPairResponse {
    /// What GenerateDataKeyPairWithoutPlaintext answers as well.
    #[serde(flatten)]
    pub pair: GenerateDataKeyPairWithoutPlaintextResponse,
    /// `PrivateKeyPlaintext`: PKCS#8 (RFC 5208), DER.
    pub private_key_plaintext: PlainBytes,
}

/// What GenerateDataKeyPairWithoutPlaintext answers.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct GenerateDataKeyPairWithoutPlaintextResponse {
    /// `PrivateKeyCiphertextBlob`
    pub private_key_ciphertext_blob: Bytes,
    /// `PublicKey`: SubjectPublicKeyInfo (RFC 5280), DER.
    pub public_key: Bytes,
    /// `KeyId`: the key's ARN.
    pub key_id: String,
    /// `KeyPairSpec`
    pub key_pair_spec: DataKeyPairSpec,
    /// `KeyMaterialId`
    pub key_material_id: MaterialId,
}

impl GenerateDataKeyPairWithoutPlaintextRequest {
    /// The key, when it may be used for this.
    fn key(&self, call: &Call<'_>, operation: Operation) -> Result<Arc<CachedKey>> {
        call.check_tokens(&self.grant_tokens)?;
        let facts = Facts {
            encryption_context: Some(&self.encryption_context),
            algorithm: Some(EncryptionAlgorithmSpec::SymmetricDefault.as_str()),
            data_key_pair_spec: Some(self.key_pair_spec.as_str()),
            ..Facts::default()
        };
        let key = call.use_key(&self.key_id, operation, &facts)?;
        if !key.row.spec.is_symmetric() {
            check_usage(&key, KeyUsage::EncryptDecrypt, operation)?;
            return Err(KmsError::InvalidKeyUsage(format!(
                "{} key spec is {} which is not valid for {operation}.",
                key.arn, key.row.spec
            )));
        }
        Ok(key)
    }

    fn generate(
        &self,
        call: &Call<'_>,
        key: &CachedKey,
    ) -> Result<(KeyPair, GenerateDataKeyPairWithoutPlaintextResponse)> {
        let spec = self.key_pair_spec.key_pair()?;
        end_dry_run(self.dry_run)?;
        let mut pair = key_pair::generate(spec)?;
        let (blob, material) = seal_under(key, &self.encryption_context, pair.private.expose())?;
        call.used(key, &material);
        let response = GenerateDataKeyPairWithoutPlaintextResponse {
            private_key_ciphertext_blob: blob.into(),
            public_key: std::mem::take(&mut pair.public).into(),
            key_id: key.arn.to_string(),
            key_pair_spec: self.key_pair_spec,
            key_material_id: material,
        };
        Ok((pair, response))
    }
}

impl Request for GenerateDataKeyPairWithoutPlaintextRequest {
    const OPERATION: Operation = Operation::GenerateDataKeyPairWithoutPlaintext;
    type Response = GenerateDataKeyPairWithoutPlaintextResponse;

    fn run(&self, call: &Call<'_>) -> Result<GenerateDataKeyPairWithoutPlaintextResponse> {
        let key = self.key(call, Self::OPERATION)?;
        Ok(self.generate(call, &key)?.1)
    }
}

impl Request for GenerateDataKeyPairRequest {
    const OPERATION: Operation = Operation::GenerateDataKeyPair;
    type Response = GenerateDataKeyPairResponse;

    fn run(&self, call: &Call<'_>) -> Result<GenerateDataKeyPairResponse> {
        let key = self.pair.key(call, Self::OPERATION)?;
        refuse_recipient(self.recipient.as_ref())?;
        let (pair, response) = self.pair.generate(call, &key)?;
        Ok(GenerateDataKeyPairResponse {
            pair: response,
            private_key_plaintext: SecretText::new(pair.private.expose().to_vec()).into(),
        })
    }
}
