//! Encrypt, Decrypt, ReEncrypt, GenerateDataKey.

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::super::client::Call;
use super::super::context::EncryptionContext;
use super::super::data_key::{open_under, seal_under};
use super::super::error::{KmsError, Result};
use super::super::id::{KeyId, MaterialId};
use super::super::policy::Facts;
use super::super::reference::KeyRef;
use super::super::spec::EncryptionAlgorithmSpec;
use super::super::state::Operation;
use super::super::{CachedKey, Kms, Via};
use super::Request;
use super::wire::{Bytes, GrantTokens, KeyName, Plain, end_dry_run};
use crate::crypto;
use crate::format::blob::{Blob, PLAINTEXT_LEN};
use crate::secret::{Secret, SecretText};

/// What Encrypt answers.
#[derive(Clone, Debug)]
pub struct Encrypted {
    /// `CiphertextBlob`
    pub blob: Vec<u8>,
    /// `KeyId`: the key's ARN.
    pub key_arn: String,
}

/// What Decrypt answers.
pub struct Decrypted {
    /// `Plaintext`
    pub plaintext: SecretText,
    /// `KeyId`: the key's ARN.
    pub key_arn: String,
    /// `KeyMaterialId`
    pub material: MaterialId,
}

/// What ReEncrypt is told.
#[derive(Clone, Copy, Debug)]
pub struct ReEncrypt<'a> {
    /// `CiphertextBlob`
    pub blob: &'a [u8],
    /// `SourceEncryptionContext`
    pub source_context: &'a EncryptionContext,
    /// `SourceKeyId`: when given, the ciphertext must be of this key.
    pub source_key: Option<&'a KeyRef>,
    /// `DestinationKeyId`
    pub destination_key: &'a KeyRef,
    /// `DestinationEncryptionContext`
    pub destination_context: &'a EncryptionContext,
}

/// What ReEncrypt answers.
#[derive(Clone, Debug)]
pub struct ReEncrypted {
    /// `CiphertextBlob`
    pub blob: Vec<u8>,
    /// `SourceKeyId`: an ARN.
    pub source_key_arn: String,
    /// `KeyId`: the destination key's ARN.
    pub key_arn: String,
    /// `SourceKeyMaterialId`
    pub source_material: MaterialId,
    /// `DestinationKeyMaterialId`
    pub destination_material: MaterialId,
}

/// How long a data key is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DataKeySize {
    /// `KeySpec` `AES_256`: 32 bytes.
    Aes256,
    /// `KeySpec` `AES_128`: 16 bytes.
    Aes128,
    /// `NumberOfBytes`: 1..=1024.
    Bytes(u32),
}

impl DataKeySize {
    /// The size that the two parameters of the API say.
    ///
    /// # Errors
    /// [`KmsError::Validation`] when there are both or neither, or one is out of range.
    pub fn from_parameters(key_spec: Option<&str>, number_of_bytes: Option<u32>) -> Result<Self> {
        match (key_spec, number_of_bytes) {
            (Some("AES_256"), None) => Ok(Self::Aes256),
            (Some("AES_128"), None) => Ok(Self::Aes128),
            (Some(other), None) => Err(KmsError::Validation(format!(
                "KeySpec of a data key is AES_256 or AES_128, not '{other}'"
            ))),
            (None, Some(bytes @ 1..=1024)) => Ok(Self::Bytes(bytes)),
            (None, Some(bytes)) => Err(KmsError::Validation(format!(
                "NumberOfBytes is {bytes}, but must be between 1 and 1024"
            ))),
            (None, None) | (Some(_), Some(_)) => Err(KmsError::Validation(
                "Please specify either number of bytes or key spec.".to_owned(),
            )),
        }
    }

    fn len(self) -> usize {
        match self {
            Self::Aes256 => 32,
            Self::Aes128 => 16,
            Self::Bytes(bytes) => bytes as usize,
        }
    }
}

/// What GenerateDataKey answers.
pub struct GeneratedDataKey {
    /// `Plaintext`
    pub plaintext: SecretText,
    /// `CiphertextBlob`
    pub blob: Vec<u8>,
    /// `KeyId`: the key's ARN.
    pub key_arn: String,
    /// `KeyMaterialId`
    pub material: MaterialId,
}

/// Encrypt.
#[derive(Deserialize, Serialize)]
#[serde(rename_all(serialize = "camelCase", deserialize = "PascalCase"))]
pub struct EncryptRequest {
    /// `KeyId`
    pub key_id: KeyName,
    /// `Plaintext`: 1 to 4096 bytes.
    #[serde(skip_serializing)]
    pub plaintext: Plain<1, 4096>,
    /// `EncryptionContext`
    #[serde(default, skip_serializing_if = "EncryptionContext::is_empty")]
    pub encryption_context: EncryptionContext,
    /// `GrantTokens`
    #[serde(default, skip_serializing)]
    pub grant_tokens: GrantTokens,
    /// `EncryptionAlgorithm`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub encryption_algorithm: Option<EncryptionAlgorithmSpec>,
    /// `DryRun`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dry_run: Option<bool>,
}

/// What Encrypt answers.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct EncryptResponse {
    /// `CiphertextBlob`
    pub ciphertext_blob: Bytes,
    /// `KeyId`: the key's ARN.
    pub key_id: String,
    /// `EncryptionAlgorithm`
    pub encryption_algorithm: EncryptionAlgorithmSpec,
}

impl Request for EncryptRequest {
    const OPERATION: Operation = Operation::Encrypt;
    type Response = EncryptResponse;

    fn run(&self, call: &Call<'_>) -> Result<EncryptResponse> {
        let facts = Facts {
            encryption_context: Some(&self.encryption_context),
            ..Facts::default()
        };
        let key = call.use_key(&self.key_id, Operation::Encrypt, &facts)?;
        end_dry_run(self.dry_run)?;
        let (blob, material) = seal_under(&key, &self.encryption_context, self.plaintext.expose());
        call.used_material(&material);
        Ok(EncryptResponse {
            ciphertext_blob: blob.into(),
            key_id: key.arn.to_string(),
            encryption_algorithm: EncryptionAlgorithmSpec::SymmetricDefault,
        })
    }
}

impl Kms {
    /// Encrypt: 1 to 4096 bytes.
    ///
    /// # Errors
    /// [`KmsError::Validation`], [`KmsError::NotFound`], [`KmsError::Disabled`],
    /// [`KmsError::AccessDenied`].
    pub fn encrypt(
        &self,
        key: &KeyRef,
        plaintext: &[u8],
        context: &EncryptionContext,
    ) -> Result<Encrypted> {
        if !PLAINTEXT_LEN.contains(&plaintext.len()) {
            return Err(KmsError::Validation(format!(
                "Plaintext has {} bytes, but must have between 1 and 4096",
                plaintext.len()
            )));
        }
        context.check()?;
        let id = self.resolve(key)?;
        let key = self.authorized(Via::User, Operation::Encrypt, &id)?;
        let (blob, _) = seal_under(&key, context, plaintext);
        Ok(Encrypted {
            blob,
            key_arn: self.key_arn(&id),
        })
    }

    /// Decrypt. When `key` is given, the ciphertext must be of this key.
    ///
    /// # Errors
    /// [`KmsError::InvalidCiphertext`], [`KmsError::IncorrectKey`], [`KmsError::KeyMissing`],
    /// [`KmsError::Disabled`], [`KmsError::AccessDenied`].
    pub fn decrypt(
        &self,
        blob: &[u8],
        context: &EncryptionContext,
        key: Option<&KeyRef>,
    ) -> Result<Decrypted> {
        let (key, plaintext, material) = self.open_blob(Operation::Decrypt, blob, context, key)?;
        Ok(Decrypted {
            plaintext,
            key_arn: self.key_arn(&key.row.id),
            material,
        })
    }

    /// ReEncrypt.
    ///
    /// # Errors
    /// As [`Kms::decrypt`] and [`Kms::encrypt`].
    pub fn re_encrypt(&self, request: &ReEncrypt<'_>) -> Result<ReEncrypted> {
        request.destination_context.check()?;
        let destination = self.resolve(request.destination_key)?;
        let destination = self.authorized(Via::User, Operation::ReEncryptTo, &destination)?;
        let (source, plaintext, source_material) = self.open_blob(
            Operation::ReEncryptFrom,
            request.blob,
            request.source_context,
            request.source_key,
        )?;
        let (blob, destination_material) =
            seal_under(&destination, request.destination_context, &plaintext);
        Ok(ReEncrypted {
            blob,
            source_key_arn: self.key_arn(&source.row.id),
            key_arn: self.key_arn(&destination.row.id),
            source_material,
            destination_material,
        })
    }

    /// GenerateDataKey, for users; a volume's keys come from [`Kms::generate_data_key`].
    ///
    /// # Errors
    /// As [`Kms::encrypt`].
    pub fn generate_data_key_api(
        &self,
        key: &KeyRef,
        size: DataKeySize,
        context: &EncryptionContext,
    ) -> Result<GeneratedDataKey> {
        context.check()?;
        let id = self.resolve(key)?;
        let key = self.authorized(Via::User, Operation::GenerateDataKey, &id)?;
        let mut plaintext = Zeroizing::new(vec![0; size.len()]);
        for piece in plaintext.chunks_mut(64) {
            let random: Secret<64> = crypto::random_key();
            piece.copy_from_slice(&random.expose()[..piece.len()]);
        }
        let (blob, material) = seal_under(&key, context, &plaintext);
        Ok(GeneratedDataKey {
            plaintext,
            blob,
            key_arn: self.key_arn(&id),
            material,
        })
    }

    fn open_blob(
        &self,
        operation: Operation,
        blob: &[u8],
        context: &EncryptionContext,
        given: Option<&KeyRef>,
    ) -> Result<(std::sync::Arc<CachedKey>, SecretText, MaterialId)> {
        context.check()?;
        let blob = Blob::parse(blob).map_err(|_| KmsError::InvalidCiphertext)?;
        if let Some(given) = given {
            let given = self.resolve(given)?;
            let actual = KeyId::new(blob.header.key_id, blob.header.multi_region);
            if given != actual {
                return Err(KmsError::IncorrectKey {
                    actual: self.key_arn(&actual),
                    given: self.key_arn(&given),
                });
            }
        }
        let key = self.wrapping_key(Via::User, operation, &blob)?;
        let mut plaintext = Zeroizing::new(vec![0; blob.ciphertext.len()]);
        let material = open_under(&key, &blob, context, &mut plaintext)?;
        Ok((key, plaintext, material))
    }
}
