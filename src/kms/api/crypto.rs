//! Encrypt, Decrypt, ReEncrypt.

use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize};
use zeroize::Zeroizing;

use super::super::cache::CachedKey;
use super::super::client::Call;
use super::super::context::EncryptionContext;
use super::super::error::{KmsError, Result};
use super::super::id::MaterialId;
use super::super::policy::Facts;
use super::super::spec::{EncryptionAlgorithmSpec, KeyUsage};
use super::super::state::Operation;
use super::super::volumes::{blob_key, key_of, open_under, seal_under};
use super::super::words::words;
use super::wire::{
    Blob, Bytes, GrantTokens, KeyName, Plain, PlainBytes, Recipient, end_dry_run, refuse_recipient,
};
use super::{Request, is_false};
use crate::format::blob::{Blob as Wrapped, PLAINTEXT_LEN};
use crate::secret::SecretText;

words! {
    /// What a dry run leaves out.
    DryRunModifier {
        /// The ciphertext is not looked at, only the rights.
        IgnoreCiphertext = "IGNORE_CIPHERTEXT",
    }
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
    #[serde(default = "default_algorithm", deserialize_with = "algorithm")]
    pub encryption_algorithm: EncryptionAlgorithmSpec,
    /// `DryRun`
    #[serde(skip_serializing_if = "is_false")]
    pub dry_run: Option<bool>,
}

/// What Encrypt answers.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct EncryptResponse {
    /// `CiphertextBlob`
    pub ciphertext_blob: Bytes,
    /// `KeyId`: the key's ARN.
    pub key_id: String,
    /// `EncryptionAlgorithm`
    pub encryption_algorithm: EncryptionAlgorithmSpec,
}

/// Decrypt.
#[derive(Deserialize, Serialize)]
#[serde(rename_all(serialize = "camelCase", deserialize = "PascalCase"))]
pub struct DecryptRequest {
    /// `CiphertextBlob`
    #[serde(skip_serializing)]
    pub ciphertext_blob: Option<Blob<1, 6144>>,
    /// `EncryptionContext`
    #[serde(default, skip_serializing_if = "EncryptionContext::is_empty")]
    pub encryption_context: EncryptionContext,
    /// `GrantTokens`
    #[serde(default, skip_serializing)]
    pub grant_tokens: GrantTokens,
    /// `KeyId`: when given, the ciphertext must be of this key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_id: Option<KeyName>,
    /// `EncryptionAlgorithm`
    #[serde(default = "default_algorithm", deserialize_with = "algorithm")]
    pub encryption_algorithm: EncryptionAlgorithmSpec,
    /// `Recipient`
    #[serde(skip_serializing)]
    pub recipient: Option<Recipient>,
    /// `DryRun`
    #[serde(skip_serializing_if = "is_false")]
    pub dry_run: Option<bool>,
    /// `DryRunModifiers`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dry_run_modifiers: Option<Vec<DryRunModifier>>,
}

/// What Decrypt answers.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct DecryptResponse {
    /// `KeyId`: the key's ARN.
    pub key_id: String,
    /// `Plaintext`
    pub plaintext: PlainBytes,
    /// `EncryptionAlgorithm`
    pub encryption_algorithm: EncryptionAlgorithmSpec,
    /// `KeyMaterialId`, of symmetric keys.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_material_id: Option<MaterialId>,
}

/// ReEncrypt.
#[derive(Deserialize, Serialize)]
#[serde(rename_all(serialize = "camelCase", deserialize = "PascalCase"))]
pub struct ReEncryptRequest {
    /// `CiphertextBlob`
    #[serde(skip_serializing)]
    pub ciphertext_blob: Option<Blob<1, 6144>>,
    /// `SourceEncryptionContext`
    #[serde(default, skip_serializing_if = "EncryptionContext::is_empty")]
    pub source_encryption_context: EncryptionContext,
    /// `SourceKeyId`: when given, the ciphertext must be of this key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_key_id: Option<KeyName>,
    /// `DestinationKeyId`
    pub destination_key_id: KeyName,
    /// `DestinationEncryptionContext`
    #[serde(default, skip_serializing_if = "EncryptionContext::is_empty")]
    pub destination_encryption_context: EncryptionContext,
    /// `SourceEncryptionAlgorithm`
    #[serde(default = "default_algorithm", deserialize_with = "algorithm")]
    pub source_encryption_algorithm: EncryptionAlgorithmSpec,
    /// `DestinationEncryptionAlgorithm`
    #[serde(default = "default_algorithm", deserialize_with = "algorithm")]
    pub destination_encryption_algorithm: EncryptionAlgorithmSpec,
    /// `GrantTokens`
    #[serde(default, skip_serializing)]
    pub grant_tokens: GrantTokens,
    /// `DryRun`
    #[serde(skip_serializing_if = "is_false")]
    pub dry_run: Option<bool>,
    /// `DryRunModifiers`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dry_run_modifiers: Option<Vec<DryRunModifier>>,
}

/// What ReEncrypt answers.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct ReEncryptResponse {
    /// `CiphertextBlob`
    pub ciphertext_blob: Bytes,
    /// `SourceKeyId`: an ARN.
    pub source_key_id: String,
    /// `KeyId`: the destination key's ARN.
    pub key_id: String,
    /// `SourceEncryptionAlgorithm`
    pub source_encryption_algorithm: EncryptionAlgorithmSpec,
    /// `DestinationEncryptionAlgorithm`
    pub destination_encryption_algorithm: EncryptionAlgorithmSpec,
    /// `SourceKeyMaterialId`, of symmetric keys.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_key_material_id: Option<MaterialId>,
    /// `DestinationKeyMaterialId`, of symmetric keys.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub destination_key_material_id: Option<MaterialId>,
}

fn default_algorithm() -> EncryptionAlgorithmSpec {
    EncryptionAlgorithmSpec::SymmetricDefault
}

/// A member that is null is one that is not there.
fn algorithm<'de, D: Deserializer<'de>>(
    from: D,
) -> std::result::Result<EncryptionAlgorithmSpec, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_else(default_algorithm))
}

/// What encrypts: the algorithm, and the context that it binds.
#[derive(Clone, Copy)]
struct Scheme<'a> {
    algorithm: EncryptionAlgorithmSpec,
    context: &'a EncryptionContext,
}

impl<'a> Scheme<'a> {
    fn facts(&self) -> Facts<'a> {
        let symmetric = self.algorithm == EncryptionAlgorithmSpec::SymmetricDefault;
        Facts {
            encryption_context: symmetric.then_some(self.context),
            algorithm: Some(self.algorithm.as_str()),
            ..Facts::default()
        }
    }

    /// Whether a key can be used in this way.
    fn check(&self, key: &CachedKey, operation: Operation) -> Result<()> {
        check_usage(key, KeyUsage::EncryptDecrypt, operation)?;
        if !key
            .row
            .spec
            .encryption_algorithms()
            .contains(&self.algorithm)
        {
            return Err(KmsError::InvalidKeyUsage(format!(
                "Algorithm {} and key spec {} are incompatible.",
                self.algorithm, key.row.spec
            )));
        }
        if !key.row.spec.is_symmetric() && !self.context.is_empty() {
            return Err(KmsError::Validation(format!(
                "An encryption context is not supported with the algorithm {}",
                self.algorithm
            )));
        }
        Ok(())
    }
}

/// Whether a key is for what an operation does.
///
/// # Errors
/// [`KmsError::InvalidKeyUsage`].
pub(super) fn check_usage(key: &CachedKey, usage: KeyUsage, operation: Operation) -> Result<()> {
    if key.row.usage == usage {
        return Ok(());
    }
    Err(KmsError::InvalidKeyUsage(format!(
        "{} key usage is {} which is not valid for {operation}.",
        key.arn, key.row.usage
    )))
}

/// Encrypts; says under which material, if the key has more than one.
fn encrypt(
    call: &Call<'_>,
    key: &CachedKey,
    scheme: Scheme<'_>,
    plain: &[u8],
) -> Result<(Vec<u8>, Option<MaterialId>)> {
    if let Some(hash) = scheme.algorithm.oaep() {
        let (cipher, material) = key.rsa_encrypt(hash, plain)?;
        call.used(key, &material);
        return Ok((cipher, None));
    }
    if !PLAINTEXT_LEN.contains(&plain.len()) {
        return Err(KmsError::Validation(format!(
            "Plaintext has {} bytes, but must have between 1 and 4096",
            plain.len()
        )));
    }
    let (blob, material) = seal_under(key, scheme.context, plain)?;
    call.used(key, &material);
    Ok((blob, Some(material)))
}

/// A ciphertext, with the key that it is of, once the caller may decrypt it.
struct Source {
    key: Arc<CachedKey>,
    /// Missing in a dry run that looks at the rights alone.
    blob: Option<Vec<u8>>,
}

impl Source {
    fn find(
        call: &Call<'_>,
        operation: Operation,
        scheme: Scheme<'_>,
        blob: Option<&Blob<1, 6144>>,
        given: Option<&KeyName>,
        rights_only: bool,
    ) -> Result<Self> {
        let facts = scheme.facts();
        let must = |member: &str| {
            KmsError::Validation(format!(
                "1 validation error detected: Value null at '{member}' failed to satisfy \
                 constraint: Member must not be null"
            ))
        };
        if rights_only {
            let given = given.ok_or_else(|| must("keyId"))?;
            let key = call.use_key(given, operation, &facts)?;
            scheme.check(&key, operation)?;
            return Ok(Self { key, blob: None });
        }
        let blob = blob.ok_or_else(|| must("ciphertextBlob"))?;
        if scheme.algorithm != EncryptionAlgorithmSpec::SymmetricDefault {
            let given = given.ok_or_else(|| must("keyId"))?;
            let key = call.use_key(given, operation, &facts)?;
            scheme.check(&key, operation)?;
            return Ok(Self {
                key,
                blob: Some(blob.to_vec()),
            });
        }
        let wrapped = Wrapped::parse(blob).map_err(|_| KmsError::InvalidCiphertext);
        let key = match given {
            Some(given) => {
                let key = call.use_key(given, operation, &facts)?;
                scheme.check(&key, operation)?;
                let actual = key_of(&wrapped?);
                if actual != key.row.id {
                    return Err(KmsError::IncorrectKey {
                        actual: actual.to_string(),
                        given: key.arn.to_string(),
                    });
                }
                key
            }
            None => {
                let key = blob_key(call, &wrapped?, operation, &facts)?;
                scheme.check(&key, operation)?;
                key
            }
        };
        Ok(Self {
            key,
            blob: Some(blob.to_vec()),
        })
    }

    fn open(
        &self,
        call: &Call<'_>,
        scheme: Scheme<'_>,
    ) -> Result<(SecretText, Option<MaterialId>)> {
        let Some(blob) = &self.blob else {
            return Err(KmsError::DryRun);
        };
        if let Some(hash) = scheme.algorithm.oaep() {
            let (plain, material) = self.key.rsa_decrypt(hash, blob)?;
            call.used(&self.key, &material);
            return Ok((plain, None));
        }
        let wrapped = Wrapped::parse(blob).map_err(|_| KmsError::InvalidCiphertext)?;
        let mut plain = Zeroizing::new(vec![0; wrapped.ciphertext.len()]);
        let material = open_under(&self.key, &wrapped, scheme.context, &mut plain)?;
        call.used(&self.key, &material);
        Ok((plain, Some(material)))
    }
}

fn rights_only(dry_run: Option<bool>, modifiers: Option<&[DryRunModifier]>) -> Result<bool> {
    let modified = modifiers.is_some_and(|modifiers| !modifiers.is_empty());
    if modified && dry_run != Some(true) {
        return Err(KmsError::Validation(
            "DryRunModifiers are for dry runs alone".to_owned(),
        ));
    }
    Ok(modified)
}

impl Request for EncryptRequest {
    const OPERATION: Operation = Operation::Encrypt;
    type Response = EncryptResponse;

    fn run(&self, call: &Call<'_>) -> Result<EncryptResponse> {
        call.check_tokens(&self.grant_tokens)?;
        let scheme = Scheme {
            algorithm: self.encryption_algorithm,
            context: &self.encryption_context,
        };
        let key = call.use_key(&self.key_id, Operation::Encrypt, &scheme.facts())?;
        scheme.check(&key, Operation::Encrypt)?;
        end_dry_run(self.dry_run)?;
        let (blob, _) = encrypt(call, &key, scheme, self.plaintext.expose())?;
        Ok(EncryptResponse {
            ciphertext_blob: blob.into(),
            key_id: key.arn.to_string(),
            encryption_algorithm: self.encryption_algorithm,
        })
    }
}

impl Request for DecryptRequest {
    const OPERATION: Operation = Operation::Decrypt;
    type Response = DecryptResponse;

    fn run(&self, call: &Call<'_>) -> Result<DecryptResponse> {
        refuse_recipient(self.recipient.as_ref())?;
        call.check_tokens(&self.grant_tokens)?;
        let scheme = Scheme {
            algorithm: self.encryption_algorithm,
            context: &self.encryption_context,
        };
        let source = Source::find(
            call,
            Operation::Decrypt,
            scheme,
            self.ciphertext_blob.as_ref(),
            self.key_id.as_ref(),
            rights_only(self.dry_run, self.dry_run_modifiers.as_deref())?,
        )?;
        let (plaintext, key_material_id) = source.open(call, scheme)?;
        end_dry_run(self.dry_run)?;
        Ok(DecryptResponse {
            key_id: source.key.arn.to_string(),
            plaintext: plaintext.into(),
            encryption_algorithm: self.encryption_algorithm,
            key_material_id,
        })
    }
}

impl Request for ReEncryptRequest {
    const OPERATION: Operation = Operation::ReEncrypt;
    type Response = ReEncryptResponse;

    fn run(&self, call: &Call<'_>) -> Result<ReEncryptResponse> {
        call.check_tokens(&self.grant_tokens)?;
        let from = Scheme {
            algorithm: self.source_encryption_algorithm,
            context: &self.source_encryption_context,
        };
        let to = Scheme {
            algorithm: self.destination_encryption_algorithm,
            context: &self.destination_encryption_context,
        };
        let source = Source::find(
            call,
            Operation::ReEncryptFrom,
            from,
            self.ciphertext_blob.as_ref(),
            self.source_key_id.as_ref(),
            rights_only(self.dry_run, self.dry_run_modifiers.as_deref())?,
        )?;
        let operation = Operation::ReEncryptTo;
        let destination = call.use_key(&self.destination_key_id, operation, &to.facts())?;
        to.check(&destination, operation)?;
        let (plaintext, source_key_material_id) = source.open(call, from)?;
        end_dry_run(self.dry_run)?;
        let (blob, destination_key_material_id) = encrypt(call, &destination, to, &plaintext)?;
        Ok(ReEncryptResponse {
            ciphertext_blob: blob.into(),
            source_key_id: source.key.arn.to_string(),
            key_id: destination.arn.to_string(),
            source_encryption_algorithm: self.source_encryption_algorithm,
            destination_encryption_algorithm: self.destination_encryption_algorithm,
            source_key_material_id,
            destination_key_material_id,
        })
    }
}
