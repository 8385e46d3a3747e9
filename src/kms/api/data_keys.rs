//! GenerateDataKey, GenerateDataKeyWithoutPlaintext, GenerateRandom.

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::super::cache::CachedKey;
use super::super::client::Call;
use super::super::context::EncryptionContext;
use super::super::error::{KmsError, Result};
use super::super::id::MaterialId;
use super::super::policy::Facts;
use super::super::spec::{EncryptionAlgorithmSpec, KeyUsage};
use super::super::state::Operation;
use super::super::volumes::seal_under;
use super::super::words::words;
use super::crypto::check_usage;
use super::wire::{
    Bytes, GrantTokens, KeyName, Number, PlainBytes, Recipient, Text, end_dry_run, refuse_recipient,
};
use super::{Request, is_false};
use crate::crypto;
use crate::secret::{Secret, SecretText};

words! {
    /// The length of a data key.
    DataKeySpec {
        /// 32 bytes.
        Aes256 = "AES_256",
        /// 16 bytes.
        Aes128 = "AES_128",
    }
}

/// GenerateDataKey.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all(serialize = "camelCase", deserialize = "PascalCase"))]
pub struct GenerateDataKeyRequest {
    /// `KeyId`
    pub key_id: KeyName,
    /// `EncryptionContext`
    #[serde(default, skip_serializing_if = "EncryptionContext::is_empty")]
    pub encryption_context: EncryptionContext,
    /// `NumberOfBytes`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub number_of_bytes: Option<Number<1, 1024>>,
    /// `KeySpec`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_spec: Option<DataKeySpec>,
    /// `GrantTokens`
    #[serde(default, skip_serializing)]
    pub grant_tokens: GrantTokens,
    /// `Recipient`
    #[serde(skip_serializing)]
    pub recipient: Option<Recipient>,
    /// `DryRun`
    #[serde(skip_serializing_if = "is_false")]
    pub dry_run: Option<bool>,
}

/// What GenerateDataKey answers.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct GenerateDataKeyResponse {
    /// `CiphertextBlob`
    pub ciphertext_blob: Bytes,
    /// `Plaintext`
    pub plaintext: PlainBytes,
    /// `KeyId`: the key's ARN.
    pub key_id: String,
    /// `KeyMaterialId`
    pub key_material_id: MaterialId,
}

/// GenerateDataKeyWithoutPlaintext.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all(serialize = "camelCase", deserialize = "PascalCase"))]
pub struct GenerateDataKeyWithoutPlaintextRequest {
    /// `KeyId`
    pub key_id: KeyName,
    /// `EncryptionContext`
    #[serde(default, skip_serializing_if = "EncryptionContext::is_empty")]
    pub encryption_context: EncryptionContext,
    /// `KeySpec`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_spec: Option<DataKeySpec>,
    /// `NumberOfBytes`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub number_of_bytes: Option<Number<1, 1024>>,
    /// `GrantTokens`
    #[serde(default, skip_serializing)]
    pub grant_tokens: GrantTokens,
    /// `DryRun`
    #[serde(skip_serializing_if = "is_false")]
    pub dry_run: Option<bool>,
}

/// What GenerateDataKeyWithoutPlaintext answers.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct GenerateDataKeyWithoutPlaintextResponse {
    /// `CiphertextBlob`
    pub ciphertext_blob: Bytes,
    /// `KeyId`: the key's ARN.
    pub key_id: String,
    /// `KeyMaterialId`
    pub key_material_id: MaterialId,
}

/// GenerateRandom.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all(serialize = "camelCase", deserialize = "PascalCase"))]
pub struct GenerateRandomRequest {
    /// `NumberOfBytes`
    pub number_of_bytes: Option<Number<1, 1024>>,
    /// `CustomKeyStoreId`: there are none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub custom_key_store_id: Option<Text<1, 64>>,
    /// `Recipient`
    #[serde(skip_serializing)]
    pub recipient: Option<Recipient>,
}

/// What GenerateRandom answers.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct GenerateRandomResponse {
    /// `Plaintext`
    pub plaintext: PlainBytes,
}

/// How long a data key is to be, in bytes.
fn length(spec: Option<DataKeySpec>, bytes: Option<Number<1, 1024>>) -> Result<usize> {
    match (spec, bytes) {
        (Some(DataKeySpec::Aes256), None) => Ok(32),
        (Some(DataKeySpec::Aes128), None) => Ok(16),
        (None, Some(bytes)) => Ok(bytes.get() as usize),
        (None, None) | (Some(_), Some(_)) => Err(KmsError::Validation(
            "Please specify either number of bytes or key spec.".to_owned(),
        )),
    }
}

fn random(len: usize) -> SecretText {
    let mut bytes = Zeroizing::new(vec![0; len]);
    for piece in bytes.chunks_mut(64) {
        let random: Secret<64> = crypto::random_key();
        piece.copy_from_slice(&random.expose()[..piece.len()]);
    }
    bytes
}

/// A symmetric key that data keys may be made under.
pub(super) fn data_key_key(
    call: &Call<'_>,
    name: &KeyName,
    context: &EncryptionContext,
    operation: Operation,
) -> Result<std::sync::Arc<CachedKey>> {
    let facts = Facts {
        encryption_context: Some(context),
        algorithm: Some(EncryptionAlgorithmSpec::SymmetricDefault.as_str()),
        ..Facts::default()
    };
    let key = call.use_key(name, operation, &facts)?;
    check_usage(&key, KeyUsage::EncryptDecrypt, operation)?;
    if !key.row.spec.is_symmetric() {
        return Err(KmsError::InvalidKeyUsage(format!(
            "{} key spec is {} which is not valid for {operation}.",
            key.arn, key.row.spec
        )));
    }
    Ok(key)
}

impl Request for GenerateDataKeyRequest {
    const OPERATION: Operation = Operation::GenerateDataKey;
    type Response = GenerateDataKeyResponse;

    fn run(&self, call: &Call<'_>) -> Result<GenerateDataKeyResponse> {
        let len = length(self.key_spec, self.number_of_bytes)?;
        refuse_recipient(self.recipient.as_ref())?;
        call.check_tokens(&self.grant_tokens)?;
        let context = &self.encryption_context;
        let key = data_key_key(call, &self.key_id, context, Self::OPERATION)?;
        end_dry_run(self.dry_run)?;
        let plaintext = random(len);
        let (blob, material) = seal_under(&key, context, &plaintext)?;
        call.used(&key, &material);
        Ok(GenerateDataKeyResponse {
            ciphertext_blob: blob.into(),
            plaintext: plaintext.into(),
            key_id: key.arn.to_string(),
            key_material_id: material,
        })
    }
}

impl Request for GenerateDataKeyWithoutPlaintextRequest {
    const OPERATION: Operation = Operation::GenerateDataKeyWithoutPlaintext;
    type Response = GenerateDataKeyWithoutPlaintextResponse;

    fn run(&self, call: &Call<'_>) -> Result<GenerateDataKeyWithoutPlaintextResponse> {
        let len = length(self.key_spec, self.number_of_bytes)?;
        call.check_tokens(&self.grant_tokens)?;
        let context = &self.encryption_context;
        let key = data_key_key(call, &self.key_id, context, Self::OPERATION)?;
        end_dry_run(self.dry_run)?;
        let (blob, material) = seal_under(&key, context, &random(len))?;
        call.used(&key, &material);
        Ok(GenerateDataKeyWithoutPlaintextResponse {
            ciphertext_blob: blob.into(),
            key_id: key.arn.to_string(),
            key_material_id: material,
        })
    }
}

impl Request for GenerateRandomRequest {
    const OPERATION: Operation = Operation::GenerateRandom;
    type Response = GenerateRandomResponse;

    /// For everyone of the account: it is about no key.
    fn run(&self, _: &Call<'_>) -> Result<GenerateRandomResponse> {
        let len = self.number_of_bytes.ok_or_else(|| {
            KmsError::Validation("NumberOfBytes is a required parameter".to_owned())
        })?;
        refuse_recipient(self.recipient.as_ref())?;
        if let Some(store) = &self.custom_key_store_id {
            return Err(KmsError::CustomKeyStoreNotFound(format!(
                "Custom key store {} does not exist: there are none here",
                store.as_str()
            )));
        }
        Ok(GenerateRandomResponse {
            plaintext: random(len.get() as usize).into(),
        })
    }
}
