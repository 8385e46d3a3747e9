//! DeriveSharedSecret.

use serde::{Deserialize, Serialize};

use super::super::client::Call;
use super::super::error::Result;
use super::super::policy::Facts;
use super::super::spec::{KeyAgreementAlgorithmSpec, KeyUsage, Origin};
use super::super::state::Operation;
use super::crypto::check_usage;
use super::wire::{
    Blob, GrantTokens, KeyName, PlainBytes, Recipient, end_dry_run, refuse_recipient,
};
use super::{Request, is_false};
use crate::secret::SecretText;

/// DeriveSharedSecret.
#[derive(Deserialize, Serialize)]
#[serde(rename_all(serialize = "camelCase", deserialize = "PascalCase"))]
pub struct DeriveSharedSecretRequest {
    /// `KeyId`
    pub key_id: KeyName,
    /// `KeyAgreementAlgorithm`
    pub key_agreement_algorithm: KeyAgreementAlgorithmSpec,
    /// `PublicKey`: the peer's, SubjectPublicKeyInfo (RFC 5280), DER.
    #[serde(skip_serializing)]
    pub public_key: Blob<1, 8192>,
    /// `GrantTokens`
    #[serde(default, skip_serializing)]
    pub grant_tokens: GrantTokens,
    /// `DryRun`
    #[serde(skip_serializing_if = "is_false")]
    pub dry_run: Option<bool>,
    /// `Recipient`: refused.
    #[serde(skip_serializing)]
    pub recipient: Option<Recipient>,
}

/// What DeriveSharedSecret answers.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct DeriveSharedSecretResponse {
    /// `KeyId`: the key's ARN.
    pub key_id: String,
    /// `SharedSecret`: the X coordinate, big-endian.
    pub shared_secret: PlainBytes,
    /// `KeyAgreementAlgorithm`
    pub key_agreement_algorithm: KeyAgreementAlgorithmSpec,
    /// `KeyOrigin`
    pub key_origin: Origin,
}

impl Request for DeriveSharedSecretRequest {
    const OPERATION: Operation = Operation::DeriveSharedSecret;
    type Response = DeriveSharedSecretResponse;

    fn run(&self, call: &Call<'_>) -> Result<DeriveSharedSecretResponse> {
        call.check_tokens(&self.grant_tokens)?;
        let facts = Facts {
            algorithm: Some(self.key_agreement_algorithm.as_str()),
            ..Facts::default()
        };
        let key = call.use_key(&self.key_id, Self::OPERATION, &facts)?;
        check_usage(&key, KeyUsage::KeyAgreement, Self::OPERATION)?;
        refuse_recipient(self.recipient.as_ref())?;
        // A dry run tells a bad public key from a good one, so the secret is made in any case.
        let (secret, material) = key.agree(&self.public_key)?;
        end_dry_run(self.dry_run)?;
        call.used(&key, &material);
        Ok(DeriveSharedSecretResponse {
            key_id: key.arn.to_string(),
            shared_secret: SecretText::new(secret.expose().to_vec()).into(),
            key_agreement_algorithm: self.key_agreement_algorithm,
            key_origin: key.row.origin,
        })
    }
}
