//! GenerateMac, VerifyMac.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::super::cache::CachedKey;
use super::super::client::Call;
use super::super::error::{KmsError, Result};
use super::super::id::MaterialId;
use super::super::policy::Facts;
use super::super::spec::{KeyUsage, MacAlgorithmSpec};
use super::super::state::Operation;
use super::crypto::check_usage;
use super::wire::{Blob, Bytes, GrantTokens, KeyName, Plain, end_dry_run};
use super::{Request, is_false};
use crate::crypto::HmacKey;

/// GenerateMac.
#[derive(Deserialize, Serialize)]
#[serde(rename_all(serialize = "camelCase", deserialize = "PascalCase"))]
pub struct GenerateMacRequest {
    /// `Message`: 1 to 4096 bytes.
    #[serde(skip_serializing)]
    pub message: Plain<1, 4096>,
    /// `KeyId`
    pub key_id: KeyName,
    /// `MacAlgorithm`
    pub mac_algorithm: MacAlgorithmSpec,
    /// `GrantTokens`
    #[serde(default, skip_serializing)]
    pub grant_tokens: GrantTokens,
    /// `DryRun`
    #[serde(skip_serializing_if = "is_false")]
    pub dry_run: Option<bool>,
}

/// What GenerateMac answers.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct GenerateMacResponse {
    /// `Mac`
    pub mac: Bytes,
    /// `MacAlgorithm`
    pub mac_algorithm: MacAlgorithmSpec,
    /// `KeyId`: the key's ARN.
    pub key_id: String,
}

/// VerifyMac.
#[derive(Deserialize, Serialize)]
#[serde(rename_all(serialize = "camelCase", deserialize = "PascalCase"))]
pub struct VerifyMacRequest {
    /// `Message`: 1 to 4096 bytes.
    #[serde(skip_serializing)]
    pub message: Plain<1, 4096>,
    /// `KeyId`
    pub key_id: KeyName,
    /// `MacAlgorithm`
    pub mac_algorithm: MacAlgorithmSpec,
    /// `Mac`: 1 to 6144 bytes.
    #[serde(skip_serializing)]
    pub mac: Blob<1, 6144>,
    /// `GrantTokens`
    #[serde(default, skip_serializing)]
    pub grant_tokens: GrantTokens,
    /// `DryRun`
    #[serde(skip_serializing_if = "is_false")]
    pub dry_run: Option<bool>,
}

/// What VerifyMac answers, when the code is the message's.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct VerifyMacResponse {
    /// `KeyId`: the key's ARN.
    pub key_id: String,
    /// `MacValid`: true; a wrong code is an exception.
    pub mac_valid: bool,
    /// `MacAlgorithm`
    pub mac_algorithm: MacAlgorithmSpec,
}

/// The key of either operation, when it may be used.
fn hmac_key(
    call: &Call<'_>,
    name: &KeyName,
    grant_tokens: &GrantTokens,
    operation: Operation,
    algorithm: MacAlgorithmSpec,
) -> Result<(Arc<CachedKey>, HmacKey, MaterialId)> {
    call.check_tokens(grant_tokens)?;
    let facts = Facts {
        algorithm: Some(algorithm.as_str()),
        ..Facts::default()
    };
    let key = call.use_key(name, operation, &facts)?;
    check_usage(&key, KeyUsage::GenerateVerifyMac, operation)?;
    let (hmac, material) = key.hmac(algorithm)?;
    Ok((key, hmac, material))
}

impl Request for GenerateMacRequest {
    const OPERATION: Operation = Operation::GenerateMac;
    type Response = GenerateMacResponse;

    fn run(&self, call: &Call<'_>) -> Result<GenerateMacResponse> {
        let (key, hmac, material) = hmac_key(
            call,
            &self.key_id,
            &self.grant_tokens,
            Self::OPERATION,
            self.mac_algorithm,
        )?;
        end_dry_run(self.dry_run)?;
        call.used(&key, &material);
        Ok(GenerateMacResponse {
            mac: hmac.mac(self.message.expose()).into(),
            mac_algorithm: self.mac_algorithm,
            key_id: key.arn.to_string(),
        })
    }
}

impl Request for VerifyMacRequest {
    const OPERATION: Operation = Operation::VerifyMac;
    type Response = VerifyMacResponse;

    fn run(&self, call: &Call<'_>) -> Result<VerifyMacResponse> {
        let (key, hmac, material) = hmac_key(
            call,
            &self.key_id,
            &self.grant_tokens,
            Self::OPERATION,
            self.mac_algorithm,
        )?;
        end_dry_run(self.dry_run)?;
        call.used(&key, &material);
        if !hmac.matches(self.message.expose(), &self.mac) {
            return Err(KmsError::InvalidMac);
        }
        Ok(VerifyMacResponse {
            key_id: key.arn.to_string(),
            mac_valid: true,
            mac_algorithm: self.mac_algorithm,
        })
    }
}
