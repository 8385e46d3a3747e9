//! CreateKey, DescribeKey, ListKeys, EnableKey, DisableKey, UpdateKeyDescription, GetKeyLastUsage.

use serde::{Deserialize, Serialize};

use super::super::cache::CachedKey;
use super::super::caller::Region;
use super::super::client::Call;
use super::super::clock::Timestamp;
use super::super::error::{KmsError, Result};
use super::super::id::{KeyId, MaterialId};
use super::super::policy::Facts;
use super::super::reference::key_arn;
use super::super::spec::{
    EncryptionAlgorithmSpec, KeyAgreementAlgorithmSpec, KeyManager, KeySpec, KeyUsage,
    MacAlgorithmSpec, Origin, RotationType, SigningAlgorithmSpec,
};
use super::super::state::{KeyState, Operation};
use super::super::store::{KeyRow, NewKey, Place, last_used, new_secret};
use super::super::words::words;
use super::policies::check_policy;
use super::tags::{Tag, check_new_tags};
use super::wire::{GrantTokens, KeyName, Text};
use super::{Listing, Page, Request, is_false, key_request};

words! {
    /// Whether imported material expires.
    ExpirationModel {
        /// It does, at `ValidTo`.
        Expires = "KEY_MATERIAL_EXPIRES",
        /// It stays until it is deleted.
        DoesNotExpire = "KEY_MATERIAL_DOES_NOT_EXPIRE",
    }
}

words! {
    /// The part of a key in a multi-Region key.
    MultiRegionKeyType {
        /// The one whose properties the others share.
        Primary = "PRIMARY",
        /// One of the others.
        Replica = "REPLICA",
    }
}

/// CreateKey.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all(serialize = "camelCase", deserialize = "PascalCase"))]
pub struct CreateKeyRequest {
    /// `Policy`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<Text<1, 131_072>>,
    /// `Description`
    #[serde(default)]
    pub description: Option<Text<0, 8192>>,
    /// `KeyUsage`
    pub key_usage: Option<KeyUsage>,
    /// `CustomerMasterKeySpec`: the old name of `KeySpec`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub customer_master_key_spec: Option<KeySpec>,
    /// `KeySpec`
    pub key_spec: Option<KeySpec>,
    /// `Origin`
    pub origin: Option<Origin>,
    /// `CustomKeyStoreId`: there are none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub custom_key_store_id: Option<Text<1, 64>>,
    /// `XksKeyId`: there are none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub xks_key_id: Option<Text<1, 128>>,
    /// `BypassPolicyLockoutSafetyCheck`
    #[serde(skip_serializing_if = "is_false")]
    pub bypass_policy_lockout_safety_check: Option<bool>,
    /// `Tags`
    #[serde(default)]
    pub tags: Option<Vec<Tag>>,
    /// `MultiRegion`
    pub multi_region: Option<bool>,
}

/// `KeyMetadata`
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct KeyMetadata {
    /// `AWSAccountId`
    #[serde(rename = "AWSAccountId")]
    pub account_id: String,
    /// `KeyId`
    pub key_id: KeyId,
    /// `Arn`
    pub arn: String,
    /// `CreationDate`
    pub creation_date: Timestamp,
    /// `Enabled`
    pub enabled: bool,
    /// `Description`
    pub description: String,
    /// `KeyUsage`
    pub key_usage: KeyUsage,
    /// `KeyState`
    pub key_state: KeyState,
    /// `DeletionDate`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deletion_date: Option<Timestamp>,
    /// `ValidTo`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub valid_to: Option<Timestamp>,
    /// `Origin`
    pub origin: Origin,
    /// `ExpirationModel`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expiration_model: Option<ExpirationModel>,
    /// `KeyManager`
    pub key_manager: KeyManager,
    /// `CustomerMasterKeySpec`, where the old name knows the kind.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub customer_master_key_spec: Option<KeySpec>,
    /// `KeySpec`
    pub key_spec: KeySpec,
    /// `EncryptionAlgorithms`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub encryption_algorithms: Option<&'static [EncryptionAlgorithmSpec]>,
    /// `SigningAlgorithms`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signing_algorithms: Option<&'static [SigningAlgorithmSpec]>,
    /// `KeyAgreementAlgorithms`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_agreement_algorithms: Option<&'static [KeyAgreementAlgorithmSpec]>,
    /// `MultiRegion`
    pub multi_region: bool,
    /// `MultiRegionConfiguration`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub multi_region_configuration: Option<MultiRegionConfiguration>,
    /// `PendingDeletionWindowInDays`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pending_deletion_window_in_days: Option<u32>,
    /// `MacAlgorithms`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mac_algorithms: Option<&'static [MacAlgorithmSpec]>,
    /// `CurrentKeyMaterialId`, of symmetric keys.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub current_key_material_id: Option<MaterialId>,
}

/// `MultiRegionConfiguration`
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct MultiRegionConfiguration {
    /// `MultiRegionKeyType`
    pub multi_region_key_type: MultiRegionKeyType,
    /// `PrimaryKey`
    pub primary_key: MultiRegionKey,
    /// `ReplicaKeys`
    pub replica_keys: Vec<MultiRegionKey>,
}

/// `MultiRegionKey`
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct MultiRegionKey {
    /// `Arn`
    pub arn: String,
    /// `Region`
    pub region: Region,
}

/// What CreateKey and DescribeKey answer.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct KeyMetadataResponse {
    /// `KeyMetadata`
    pub key_metadata: KeyMetadata,
}

/// DescribeKey.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all(serialize = "camelCase", deserialize = "PascalCase"))]
pub struct DescribeKeyRequest {
    /// `KeyId`
    pub key_id: KeyName,
    /// `GrantTokens`
    #[serde(default, skip_serializing)]
    pub grant_tokens: GrantTokens,
}

impl<T: Into<KeyName>> From<T> for DescribeKeyRequest {
    fn from(key: T) -> Self {
        Self {
            key_id: key.into(),
            grant_tokens: GrantTokens::default(),
        }
    }
}

key_request! {
    /// EnableKey.
    EnableKeyRequest
}
key_request! {
    /// DisableKey.
    DisableKeyRequest
}
key_request! {
    /// GetKeyLastUsage.
    GetKeyLastUsageRequest
}

/// ListKeys.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all(serialize = "camelCase", deserialize = "PascalCase"))]
pub struct ListKeysRequest {
    /// `Limit`, `Marker`
    #[serde(flatten)]
    pub page: Page,
    /// `ResourceOwners`: `SELF`, `OTHER_ACCOUNTS_VIA_RAM` (there are none).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resource_owners: Option<Vec<ResourceOwner>>,
}

words! {
    /// Whose keys are listed.
    ResourceOwner {
        /// The account's own.
        Own = "SELF",
        /// Those that other accounts share.
        Others = "OTHER_ACCOUNTS_VIA_RAM",
    }
}

/// `KeyListEntry`
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct KeyListEntry {
    /// `KeyId`
    pub key_id: KeyId,
    /// `KeyArn`
    pub key_arn: String,
}

/// What ListKeys answers.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct ListKeysResponse {
    /// `Keys`
    pub keys: Vec<KeyListEntry>,
    /// `NextMarker`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_marker: Option<String>,
    /// `Truncated`
    pub truncated: bool,
}

/// UpdateKeyDescription.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all(serialize = "camelCase", deserialize = "PascalCase"))]
pub struct UpdateKeyDescriptionRequest {
    /// `KeyId`
    pub key_id: KeyName,
    /// `Description`
    pub description: Text<0, 8192>,
}

/// What GetKeyLastUsage answers.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct GetKeyLastUsageResponse {
    /// `KeyId`
    pub key_id: KeyId,
    /// `KeyLastUsage`: empty when the key was not used since `TrackingStartDate`.
    pub key_last_usage: KeyLastUsageData,
    /// `TrackingStartDate`
    pub tracking_start_date: Timestamp,
    /// `KeyCreationDate`
    pub key_creation_date: Timestamp,
}

/// `KeyLastUsageData`
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct KeyLastUsageData {
    /// `Operation`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operation: Option<String>,
    /// `Timestamp`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timestamp: Option<Timestamp>,
    /// `CloudTrailEventId`: the id of the record.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cloud_trail_event_id: Option<String>,
    /// `KmsRequestId`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kms_request_id: Option<String>,
}

impl CreateKeyRequest {
    /// The kind and the usage of the new key.
    fn kind(&self) -> Result<(KeySpec, KeyUsage)> {
        let spec = match (self.key_spec, self.customer_master_key_spec) {
            (Some(_), Some(_)) => {
                return Err(KmsError::Validation(
                    "You cannot specify KeySpec and CustomerMasterKeySpec in the same request. \
                     CustomerMasterKeySpec is deprecated."
                        .to_owned(),
                ));
            }
            (given, old) => given.or(old).unwrap_or(KeySpec::SymmetricDefault),
        };
        let Some(usage) = self.key_usage else {
            if spec.is_symmetric() {
                return Ok((spec, KeyUsage::EncryptDecrypt));
            }
            return Err(KmsError::Validation(
                "You must specify a KeyUsage value for all KMS keys except for symmetric \
                 encryption keys."
                    .to_owned(),
            ));
        };
        if spec.usages().contains(&usage) {
            return Ok((spec, usage));
        }
        Err(KmsError::Validation(format!(
            "KeyUsage {usage} is not compatible with KeySpec {spec}"
        )))
    }
}

impl Request for CreateKeyRequest {
    const OPERATION: Operation = Operation::CreateKey;
    type Response = KeyMetadataResponse;

    fn run(&self, call: &Call<'_>) -> Result<KeyMetadataResponse> {
        let (spec, usage) = self.kind()?;
        if let Some(store) = &self.custom_key_store_id {
            return Err(KmsError::CustomKeyStoreNotFound(format!(
                "Custom key store {} does not exist: there are none here",
                store.as_str()
            )));
        }
        let origin = self.origin.unwrap_or(Origin::AwsKms);
        if self.xks_key_id.is_some()
            || matches!(origin, Origin::AwsCloudHsm | Origin::ExternalKeyStore)
        {
            return Err(KmsError::UnsupportedOperation(format!(
                "Origin {origin} is not supported: there are no custom key stores here"
            )));
        }
        let tags = self.tags.as_deref().unwrap_or_default();
        check_new_tags(tags)?;
        call.authorize_account()?;
        let bypass = self.bypass_policy_lockout_safety_check == Some(true);
        if let Some(policy) = &self.policy {
            let region = call.caller().region();
            let arn = format!("arn:aws:kms:{region}:{}:key/*", call.kms().account_id());
            check_policy(call, policy.as_str(), &arn, bypass)?;
        }
        let secret = match origin {
            Origin::External => None,
            _ => Some(new_secret(spec)?),
        };
        let place = call.change(|change| {
            let place = change.insert_key(&NewKey {
                region: call.caller().region(),
                spec,
                usage,
                origin,
                multi_region: self.multi_region == Some(true),
                manager: KeyManager::Customer,
                description: self.description.as_ref().map_or("", Text::as_str),
                policy: self.policy.as_ref().map(Text::as_str),
                secret: secret.as_ref(),
                rotation_days: None,
                now: call.now(),
            })?;
            for tag in tags {
                change.set_tag(&place, tag.tag_key.as_str(), tag.tag_value.as_str())?;
            }
            call.made(&place);
            Ok(place)
        })?;
        described(call, &place)
    }
}

/// The metadata of a key that the operation has made.
pub(super) fn described(call: &Call<'_>, place: &Place) -> Result<KeyMetadataResponse> {
    let key = call
        .kms()
        .lookup(place, call.now())?
        .ok_or_else(|| call.kms().no_key(place))?;
    Ok(KeyMetadataResponse {
        key_metadata: metadata(call, &key)?,
    })
}

fn metadata(call: &Call<'_>, key: &CachedKey) -> Result<KeyMetadata> {
    let row = &key.row;
    let imported = row.origin == Origin::External && key.current_id().is_some();
    let valid_to = key.valid_to();
    let usable_for = |usage| (row.usage == usage).then_some(());
    Ok(KeyMetadata {
        account_id: call.kms().account_id().to_owned(),
        key_id: row.id,
        arn: key.arn.to_string(),
        creation_date: row.created,
        enabled: row.state == KeyState::Enabled,
        description: row.description.clone(),
        key_usage: row.usage,
        key_state: row.state,
        deletion_date: row.deletion_date,
        valid_to: valid_to.filter(|_| imported),
        origin: row.origin,
        expiration_model: imported.then(|| {
            if valid_to.is_some() {
                ExpirationModel::Expires
            } else {
                ExpirationModel::DoesNotExpire
            }
        }),
        key_manager: row.manager,
        customer_master_key_spec: row.spec.has_old_name().then_some(row.spec),
        key_spec: row.spec,
        encryption_algorithms: usable_for(KeyUsage::EncryptDecrypt)
            .map(|()| row.spec.encryption_algorithms()),
        signing_algorithms: usable_for(KeyUsage::SignVerify)
            .map(|()| row.spec.signing_algorithms()),
        key_agreement_algorithms: usable_for(KeyUsage::KeyAgreement)
            .map(|()| row.spec.key_agreement_algorithms()),
        multi_region: row.id.is_multi_region(),
        multi_region_configuration: regions(call, row)?,
        pending_deletion_window_in_days: row
            .deletion_window
            .filter(|_| row.state == KeyState::PendingReplicaDeletion),
        mac_algorithms: usable_for(KeyUsage::GenerateVerifyMac).map(|()| row.spec.mac_algorithms()),
        current_key_material_id: key
            .current_id()
            .copied()
            .filter(|_| row.spec.is_symmetric()),
    })
}

fn regions(call: &Call<'_>, row: &KeyRow) -> Result<Option<MultiRegionConfiguration>> {
    let Some(primary) = row.primary_region else {
        return Ok(None);
    };
    let keys = call.kms().store.read(|sql| KeyRow::of_set(sql, &row.id))?;
    let shown = |region| MultiRegionKey {
        arn: key_arn(&Place { region, id: row.id }, call.kms().account_id()),
        region,
    };
    Ok(Some(MultiRegionConfiguration {
        multi_region_key_type: if row.is_primary() {
            MultiRegionKeyType::Primary
        } else {
            MultiRegionKeyType::Replica
        },
        primary_key: shown(primary),
        replica_keys: keys
            .iter()
            .filter(|key| !key.is_primary())
            .map(|key| shown(key.region))
            .collect(),
    }))
}

impl Request for DescribeKeyRequest {
    const OPERATION: Operation = Operation::DescribeKey;
    type Response = KeyMetadataResponse;

    fn run(&self, call: &Call<'_>) -> Result<KeyMetadataResponse> {
        call.check_tokens(&self.grant_tokens)?;
        let key = call.use_key(&self.key_id, Operation::DescribeKey, &Facts::default())?;
        Ok(KeyMetadataResponse {
            key_metadata: metadata(call, &key)?,
        })
    }
}

impl Request for ListKeysRequest {
    const OPERATION: Operation = Operation::ListKeys;
    type Response = ListKeysResponse;

    fn run(&self, call: &Call<'_>) -> Result<ListKeysResponse> {
        let limit = self.page.limit(100, 1000)?;
        let after = self.page.after_number("keys")?;
        call.authorize_account()?;
        if let Some(owners) = &self.resource_owners
            && !(1..=2).contains(&owners.len())
        {
            return Err(KmsError::Validation(
                "1 validation error detected: Value at 'resourceOwners' failed to satisfy \
                 constraint: Member must have length between 1 and 2"
                    .to_owned(),
            ));
        }
        let own = self
            .resource_owners
            .as_ref()
            .is_none_or(|owners| owners.contains(&ResourceOwner::Own));
        let rows = if own {
            let region = call.caller().region();
            call.kms()
                .store
                .read(|sql| KeyRow::list(sql, region, after, i64::from(limit) + 1))?
        } else {
            Vec::new()
        };
        let listing = Listing::cut(rows, limit, "keys", |row| row.number.to_string());
        Ok(ListKeysResponse {
            keys: listing
                .entries
                .iter()
                .map(|row| KeyListEntry {
                    key_id: row.id,
                    key_arn: key_arn(&row.place(), call.kms().account_id()),
                })
                .collect(),
            truncated: listing.next_marker.is_some(),
            next_marker: listing.next_marker,
        })
    }
}

impl Request for EnableKeyRequest {
    const OPERATION: Operation = Operation::EnableKey;
    type Response = ();

    /// A key whose automatic rotation fell due while it was disabled rotates at once.
    fn run(&self, call: &Call<'_>) -> Result<()> {
        let place = call.key_place(&self.key_id)?;
        call.change(|change| {
            let row = call.row(change, Operation::EnableKey, &place, &Facts::default())?;
            if row.state == KeyState::Enabled {
                return Ok(());
            }
            change.set_state(&place, KeyState::Enabled)?;
            if row.is_primary() && row.schedule.is_due(call.now()) {
                change.rotate(&row, RotationType::Automatic, call.now())?;
            }
            Ok(())
        })
    }
}

impl Request for DisableKeyRequest {
    const OPERATION: Operation = Operation::DisableKey;
    type Response = ();

    /// From when it returns, no process uses the key.
    fn run(&self, call: &Call<'_>) -> Result<()> {
        let place = call.key_place(&self.key_id)?;
        call.change(|change| {
            let row = call.row(change, Operation::DisableKey, &place, &Facts::default())?;
            if row.state == KeyState::Disabled {
                return Ok(());
            }
            change.set_state(&place, KeyState::Disabled)
        })
    }
}

impl Request for UpdateKeyDescriptionRequest {
    const OPERATION: Operation = Operation::UpdateKeyDescription;
    type Response = ();

    fn run(&self, call: &Call<'_>) -> Result<()> {
        let place = call.key_place(&self.key_id)?;
        let operation = Operation::UpdateKeyDescription;
        call.change(|change| {
            call.row(change, operation, &place, &Facts::default())?;
            change.set_description(&place, self.description.as_str())
        })
    }
}

impl Request for GetKeyLastUsageRequest {
    const OPERATION: Operation = Operation::GetKeyLastUsage;
    type Response = GetKeyLastUsageResponse;

    fn run(&self, call: &Call<'_>) -> Result<GetKeyLastUsageResponse> {
        let operation = Operation::GetKeyLastUsage;
        let key = call.manage_key(&self.key_id, operation, &Facts::default())?;
        let place = key.row.place();
        let noted = call.kms().store.read(|sql| last_used(sql, &place))?;
        let here = key
            .last_use
            .get()
            .map(|used| (used.operation.to_string(), used.time, used.event.to_vec()));
        let last = match (noted, here) {
            (Some(noted), Some(here)) if noted.1 > here.1 => Some(noted),
            (noted, here) => here.or(noted),
        };
        Ok(GetKeyLastUsageResponse {
            key_id: place.id,
            key_last_usage: last.map_or_else(
                KeyLastUsageData::default,
                |(operation, time, event)| {
                    let id = crate::format::uuid(&event);
                    KeyLastUsageData {
                        operation: Some(operation),
                        timestamp: Some(time),
                        kms_request_id: Some(id.clone()),
                        cloud_trail_event_id: Some(id),
                    }
                },
            ),
            tracking_start_date: key.row.tracked_since,
            key_creation_date: key.row.created,
        })
    }
}
