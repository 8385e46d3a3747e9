//! Sign, Verify.

use serde::{Deserialize, Serialize};

use super::super::client::Call;
use super::super::error::Result;
use super::super::policy::Facts;
use super::super::spec::{KeyUsage, SigningAlgorithmSpec};
use super::super::state::Operation;
use super::super::words::words;
use super::crypto::check_usage;
use super::wire::{Blob, Bytes, GrantTokens, KeyName, Plain, end_dry_run};
use super::{Request, is_false};
use crate::crypto::Message;

words! {
    /// What a message to be signed is.
    MessageType {
        /// The message itself, which is hashed.
        Raw = "RAW",
        /// Its digest.
        Digest = "DIGEST",
        /// The message representative µ of ML-DSA.
        ExternalMu = "EXTERNAL_MU",
    }
}

impl MessageType {
    fn of(kind: Option<Self>, message: &[u8]) -> Message<'_> {
        match kind.unwrap_or(Self::Raw) {
            Self::Raw => Message::Raw(message),
            Self::Digest => Message::Digest(message),
            Self::ExternalMu => Message::ExternalMu(message),
        }
    }
}

/// Sign.
#[derive(Deserialize, Serialize)]
#[serde(rename_all(serialize = "camelCase", deserialize = "PascalCase"))]
pub struct SignRequest {
    /// `KeyId`
    pub key_id: KeyName,
    /// `Message`: 1 to 4096 bytes.
    #[serde(skip_serializing)]
    pub message: Plain<1, 4096>,
    /// `MessageType`: RAW unless it says otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message_type: Option<MessageType>,
    /// `GrantTokens`
    #[serde(default, skip_serializing)]
    pub grant_tokens: GrantTokens,
    /// `SigningAlgorithm`
    pub signing_algorithm: SigningAlgorithmSpec,
    /// `DryRun`
    #[serde(skip_serializing_if = "is_false")]
    pub dry_run: Option<bool>,
}

/// What Sign answers.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct SignResponse {
    /// `KeyId`: the key's ARN.
    pub key_id: String,
    /// `Signature`
    pub signature: Bytes,
    /// `SigningAlgorithm`
    pub signing_algorithm: SigningAlgorithmSpec,
}

/// Verify.
#[derive(Deserialize, Serialize)]
#[serde(rename_all(serialize = "camelCase", deserialize = "PascalCase"))]
pub struct VerifyRequest {
    /// `KeyId`
    pub key_id: KeyName,
    /// `Message`: 1 to 4096 bytes.
    #[serde(skip_serializing)]
    pub message: Plain<1, 4096>,
    /// `MessageType`: RAW unless it says otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message_type: Option<MessageType>,
    /// `Signature`: 1 to 6144 bytes.
    #[serde(skip_serializing)]
    pub signature: Blob<1, 6144>,
    /// `SigningAlgorithm`
    pub signing_algorithm: SigningAlgorithmSpec,
    /// `GrantTokens`
    #[serde(default, skip_serializing)]
    pub grant_tokens: GrantTokens,
    /// `DryRun`
    #[serde(skip_serializing_if = "is_false")]
    pub dry_run: Option<bool>,
}

/// What Verify answers, when the signature is the message's.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct VerifyResponse {
    /// `KeyId`: the key's ARN.
    pub key_id: String,
    /// `SignatureValid`: true; a wrong signature is an exception.
    pub signature_valid: bool,
    /// `SigningAlgorithm`
    pub signing_algorithm: SigningAlgorithmSpec,
}

fn facts(algorithm: SigningAlgorithmSpec, message_type: Option<MessageType>) -> Facts<'static> {
    Facts {
        algorithm: Some(algorithm.as_str()),
        message_type: Some(message_type.unwrap_or(MessageType::Raw).as_str()),
        ..Facts::default()
    }
}

impl Request for SignRequest {
    const OPERATION: Operation = Operation::Sign;
    type Response = SignResponse;

    fn run(&self, call: &Call<'_>) -> Result<SignResponse> {
        call.check_tokens(&self.grant_tokens)?;
        let facts = facts(self.signing_algorithm, self.message_type);
        let key = call.use_key(&self.key_id, Operation::Sign, &facts)?;
        check_usage(&key, KeyUsage::SignVerify, Operation::Sign)?;
        let message = MessageType::of(self.message_type, self.message.expose());
        key.check_message(self.signing_algorithm, message)?;
        end_dry_run(self.dry_run)?;
        let (signature, material) = key.sign(self.signing_algorithm, message)?;
        call.used(&key, &material);
        Ok(SignResponse {
            key_id: key.arn.to_string(),
            signature: signature.into(),
            signing_algorithm: self.signing_algorithm,
        })
    }
}

impl Request for VerifyRequest {
    const OPERATION: Operation = Operation::Verify;
    type Response = VerifyResponse;

    fn run(&self, call: &Call<'_>) -> Result<VerifyResponse> {
        call.check_tokens(&self.grant_tokens)?;
        let facts = facts(self.signing_algorithm, self.message_type);
        let key = call.use_key(&self.key_id, Operation::Verify, &facts)?;
        check_usage(&key, KeyUsage::SignVerify, Operation::Verify)?;
        let message = MessageType::of(self.message_type, self.message.expose());
        key.check_message(self.signing_algorithm, message)?;
        end_dry_run(self.dry_run)?;
        let material = key.verify(self.signing_algorithm, message, &self.signature)?;
        call.used(&key, &material);
        Ok(VerifyResponse {
            key_id: key.arn.to_string(),
            signature_valid: true,
            signing_algorithm: self.signing_algorithm,
        })
    }
}
