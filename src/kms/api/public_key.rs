//! GetPublicKey.

use serde::{Deserialize, Serialize};

use super::super::client::Call;
use super::super::error::Result;
use super::super::policy::Facts;
use super::super::spec::{
    EncryptionAlgorithmSpec, KeyAgreementAlgorithmSpec, KeySpec, KeyUsage, SigningAlgorithmSpec,
};
use super::super::state::Operation;
use super::Request;
use super::wire::{Bytes, GrantTokens, KeyName};

/// GetPublicKey.
#[derive(Deserialize, Serialize)]
#[serde(rename_all(serialize = "camelCase", deserialize = "PascalCase"))]
pub struct GetPublicKeyRequest {
    /// `KeyId`
    pub key_id: KeyName,
    /// `GrantTokens`
    #[serde(default, skip_serializing)]
    pub grant_tokens: GrantTokens,
}

/// What GetPublicKey answers.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct GetPublicKeyResponse {
    /// `KeyId`: the key's ARN.
    pub key_id: String,
    /// `PublicKey`: SubjectPublicKeyInfo (RFC 5280), DER.
    pub public_key: Bytes,
    /// `CustomerMasterKeySpec`: the old name of `KeySpec`, which doesn't know the newer kinds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub customer_master_key_spec: Option<KeySpec>,
    /// `KeySpec`
    pub key_spec: KeySpec,
    /// `KeyUsage`
    pub key_usage: KeyUsage,
    /// `EncryptionAlgorithms`, of a key for encryption.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    pub encryption_algorithms: &'static [EncryptionAlgorithmSpec],
    /// `SigningAlgorithms`, of a key for signing.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    pub signing_algorithms: &'static [SigningAlgorithmSpec],
    /// `KeyAgreementAlgorithms`, of a key for key agreement.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    pub key_agreement_algorithms: &'static [KeyAgreementAlgorithmSpec],
}

/// The algorithms of a key whose usage is the one that they are for.
fn of<T>(usage: KeyUsage, wanted: KeyUsage, algorithms: &'static [T]) -> &'static [T] {
    if usage == wanted { algorithms } else { &[] }
}

impl Request for GetPublicKeyRequest {
    const OPERATION: Operation = Operation::GetPublicKey;
    type Response = GetPublicKeyResponse;

    fn run(&self, call: &Call<'_>) -> Result<GetPublicKeyResponse> {
        call.check_tokens(&self.grant_tokens)?;
        let key = call.use_key(&self.key_id, Operation::GetPublicKey, &Facts::default())?;
        let (spec, usage) = (key.row.spec, key.row.usage);
        key.key_pair_spec()?;
        Ok(GetPublicKeyResponse {
            key_id: key.arn.to_string(),
            public_key: key.public_key()?.to_vec().into(),
            customer_master_key_spec: spec.has_old_name().then_some(spec),
            key_spec: spec,
            key_usage: usage,
            encryption_algorithms: of(
                usage,
                KeyUsage::EncryptDecrypt,
                spec.encryption_algorithms(),
            ),
            signing_algorithms: of(usage, KeyUsage::SignVerify, spec.signing_algorithms()),
            key_agreement_algorithms: of(
                usage,
                KeyUsage::KeyAgreement,
                spec.key_agreement_algorithms(),
            ),
        })
    }
}
