//! ReplicateKey, UpdatePrimaryRegion.

use serde::{Deserialize, Serialize};

use super::super::caller::Region;
use super::super::client::Call;
use super::super::error::{KmsError, Result};
use super::super::policy::Facts;
use super::super::reference::key_arn;
use super::super::spec::{KeyManager, Origin};
use super::super::state::{KeyState, Operation};
use super::super::store::{KeyRow, NewReplica, Place};
use super::Request;
use super::is_false;
use super::keys::{KeyMetadata, described};
use super::policies::{check_policy, policy_of};
use super::tags::{Tag, check_new_tags};
use super::wire::{KeyName, Text};

/// ReplicateKey.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all(serialize = "camelCase", deserialize = "PascalCase"))]
pub struct ReplicateKeyRequest {
    /// `KeyId`
    pub key_id: KeyName,
    /// `ReplicaRegion`
    pub replica_region: Text<1, 32>,
    /// `Policy`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<Text<1, 131_072>>,
    /// `BypassPolicyLockoutSafetyCheck`
    #[serde(skip_serializing_if = "is_false")]
    pub bypass_policy_lockout_safety_check: Option<bool>,
    /// `Description`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<Text<0, 8192>>,
    /// `Tags`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tags: Option<Vec<Tag>>,
}

/// What ReplicateKey answers.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct ReplicateKeyResponse {
    /// `ReplicaKeyMetadata`
    pub replica_key_metadata: KeyMetadata,
    /// `ReplicaPolicy`
    pub replica_policy: String,
    /// `ReplicaTags`
    pub replica_tags: Vec<Tag>,
}

/// UpdatePrimaryRegion.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all(serialize = "camelCase", deserialize = "PascalCase"))]
pub struct UpdatePrimaryRegionRequest {
    /// `KeyId`: the primary key.
    pub key_id: KeyName,
    /// `PrimaryRegion`: that of one of its replicas.
    pub primary_region: Text<1, 32>,
}

/// A Region as AWS names them: words and a number, `us-east-1`.
fn region(name: &Text<1, 32>) -> Result<Region> {
    let parts: Vec<&str> = name.as_str().split('-').collect();
    let well_formed = match parts.split_last() {
        Some((number, words)) => {
            (2..=3).contains(&words.len())
                && !number.is_empty()
                && number.bytes().all(|b| b.is_ascii_digit())
                && words
                    .iter()
                    .all(|word| !word.is_empty() && word.bytes().all(|b| b.is_ascii_lowercase()))
        }
        None => false,
    };
    if !well_formed {
        return Err(KmsError::Validation(format!(
            "'{}' is no name of a Region",
            name.as_str().escape_debug()
        )));
    }
    name.as_str().parse()
}

/// Whether a key is the primary of a multi-Region key.
///
/// # Errors
/// [`KmsError::UnsupportedOperation`].
pub(in crate::kms) fn check_primary(call: &Call<'_>, row: &KeyRow) -> Result<()> {
    let arn = || key_arn(&row.place(), call.kms().account_id());
    if !row.id.is_multi_region() {
        return Err(KmsError::UnsupportedOperation(format!(
            "{} is not a multi-Region key.",
            arn()
        )));
    }
    if !row.is_primary() {
        return Err(KmsError::UnsupportedOperation(format!(
            "{} is not a multi-Region primary key.",
            arn()
        )));
    }
    Ok(())
}

impl Request for ReplicateKeyRequest {
    const OPERATION: Operation = Operation::ReplicateKey;
    type Response = ReplicateKeyResponse;

    fn run(&self, call: &Call<'_>) -> Result<ReplicateKeyResponse> {
        let replica_region = region(&self.replica_region)?;
        let tags = self.tags.clone().unwrap_or_default();
        check_new_tags(&tags)?;
        let place = call.key_place(&self.key_id)?;
        let replica = Place {
            region: replica_region,
            id: place.id,
        };
        let facts = Facts {
            region: Some(replica_region.as_str()),
            ..Facts::default()
        };
        if let Some(policy) = &self.policy {
            let bypass = self.bypass_policy_lockout_safety_check == Some(true);
            let arn = key_arn(&replica, call.kms().account_id());
            check_policy(call, policy.as_str(), &arn, bypass)?;
        }
        call.change(|change| {
            let primary = call.row(change, Self::OPERATION, &place, &facts)?;
            check_primary(call, &primary)?;
            if KeyRow::load(change.sql, &replica)?.is_some() {
                return Err(KmsError::AlreadyExists(format!(
                    "{} already exists.",
                    key_arn(&replica, call.kms().account_id())
                )));
            }
            // Imported material is imported into each Region's key by itself.
            let state = if primary.origin == Origin::External {
                KeyState::PendingImport
            } else {
                KeyState::Enabled
            };
            change.insert_replica(&NewReplica {
                place: replica,
                manager: KeyManager::Customer,
                state,
                description: self.description.as_ref().map_or("", Text::as_str),
                policy: self.policy.as_ref().map(Text::as_str),
                now: call.now(),
            })?;
            for tag in &tags {
                change.set_tag(&replica, tag.tag_key.as_str(), tag.tag_value.as_str())?;
            }
            call.made(&replica);
            Ok(())
        })?;
        let row = call
            .kms()
            .lookup(&replica, call.now())?
            .ok_or_else(|| call.kms().no_key(&replica))?;
        Ok(ReplicateKeyResponse {
            replica_key_metadata: described(call, &replica)?.key_metadata,
            replica_policy: policy_of(call, &row.row),
            replica_tags: tags,
        })
    }
}

impl Request for UpdatePrimaryRegionRequest {
    const OPERATION: Operation = Operation::UpdatePrimaryRegion;
    type Response = ();

    /// Where the primary is in another keystore, which may be lost, a replica is made the primary
    /// of this one by naming its own Region.
    fn run(&self, call: &Call<'_>) -> Result<()> {
        let new_region = region(&self.primary_region)?;
        let place = call.key_place(&self.key_id)?;
        let facts = Facts {
            region: Some(new_region.as_str()),
            ..Facts::default()
        };
        call.change(|change| {
            let row = call.row(change, Self::OPERATION, &place, &facts)?;
            let keys = KeyRow::of_set(change.sql, &place.id)?;
            let elsewhere = !keys.iter().any(KeyRow::is_primary);
            if !(row.id.is_multi_region() && elsewhere && new_region == place.region) {
                check_primary(call, &row)?;
                if new_region == place.region {
                    return Err(KmsError::Validation(format!(
                        "{} is the primary key already.",
                        key_arn(&place, call.kms().account_id())
                    )));
                }
            }
            let new = Place {
                region: new_region,
                id: place.id,
            };
            let replica = keys
                .iter()
                .find(|key| key.region == new_region)
                .ok_or_else(|| call.kms().no_key(&new))?;
            replica
                .state
                .allows(Self::OPERATION, || key_arn(&new, call.kms().account_id()))?;
            change.set_primary(&place.id, new_region)
        })
    }
}
