//! The operations of AWS KMS on [`Client`], with requests and answers as there.
//!
//! Reference: the AWS KMS API reference. A key that an operation uses is named by id, ARN, alias
//! or alias ARN; operations that change a key take no alias, as in AWS.

mod aliases;
mod crypto;
mod data_key_pair;
mod data_keys;
mod deletion;
mod derive;
mod grants;
mod import;
mod imported;
mod keys;
mod mac;
mod policies;
mod public_key;
mod regions;
mod rotation;
mod sign;
mod tags;
pub mod wire;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

pub use aliases::{
    AliasListEntry, CreateAliasRequest, DeleteAliasRequest, ListAliasesRequest,
    ListAliasesResponse, UpdateAliasRequest,
};
pub use crypto::{
    DecryptRequest, DecryptResponse, DryRunModifier, EncryptRequest, EncryptResponse,
    ReEncryptRequest, ReEncryptResponse,
};
pub use data_key_pair::{
    DataKeyPairSpec, GenerateDataKeyPairRequest, GenerateDataKeyPairResponse,
    GenerateDataKeyPairWithoutPlaintextRequest, GenerateDataKeyPairWithoutPlaintextResponse,
};
pub use data_keys::{
    DataKeySpec, GenerateDataKeyRequest, GenerateDataKeyResponse,
    GenerateDataKeyWithoutPlaintextRequest, GenerateDataKeyWithoutPlaintextResponse,
    GenerateRandomRequest, GenerateRandomResponse,
};
pub use deletion::{
    CancelKeyDeletionRequest, CancelKeyDeletionResponse, ScheduleKeyDeletionRequest,
    ScheduleKeyDeletionResponse,
};
pub use derive::{DeriveSharedSecretRequest, DeriveSharedSecretResponse};
pub(super) use grants::new_grant_id;
pub use grants::{
    CreateGrantRequest, CreateGrantResponse, GrantListEntry, ListGrantsRequest, ListGrantsResponse,
    ListRetirableGrantsRequest, RetireGrantRequest, RevokeGrantRequest,
};
pub use import::{
    AlgorithmSpec, GetParametersForImportRequest, GetParametersForImportResponse,
    ImportKeyMaterialRequest, ImportKeyMaterialResponse, ImportType, WrappingKeyName,
};
pub use imported::{DeleteImportedKeyMaterialRequest, DeleteImportedKeyMaterialResponse};
pub use keys::{
    CreateKeyRequest, DescribeKeyRequest, DisableKeyRequest, EnableKeyRequest, ExpirationModel,
    GetKeyLastUsageRequest, GetKeyLastUsageResponse, KeyLastUsageData, KeyListEntry, KeyMetadata,
    KeyMetadataResponse, ListKeysRequest, ListKeysResponse, MultiRegionConfiguration,
    MultiRegionKey, MultiRegionKeyType, ResourceOwner, UpdateKeyDescriptionRequest,
};
pub use mac::{GenerateMacRequest, GenerateMacResponse, VerifyMacRequest, VerifyMacResponse};
pub use policies::{
    GetKeyPolicyRequest, GetKeyPolicyResponse, ListKeyPoliciesRequest, ListKeyPoliciesResponse,
    PutKeyPolicyRequest,
};
pub use public_key::{GetPublicKeyRequest, GetPublicKeyResponse};
pub(super) use regions::check_primary;
pub use regions::{ReplicateKeyRequest, ReplicateKeyResponse, UpdatePrimaryRegionRequest};
pub use rotation::{
    DisableKeyRotationRequest, EnableKeyRotationRequest, GetKeyRotationStatusRequest,
    GetKeyRotationStatusResponse, ImportState, IncludeKeyMaterial, ListKeyRotationsRequest,
    ListKeyRotationsResponse, RotateKeyOnDemandRequest, RotateKeyOnDemandResponse,
    RotationsListEntry,
};
pub use sign::{MessageType, SignRequest, SignResponse, VerifyRequest, VerifyResponse};
pub use tags::{
    ListResourceTagsRequest, ListResourceTagsResponse, Tag, TagResourceRequest,
    UntagResourceRequest,
};

use super::client::{Call, Client};
use super::error::{KmsError, Result};
use super::state::Operation;

/// What an operation is told, and what it does.
pub trait Request: DeserializeOwned + Serialize {
    /// The operation.
    const OPERATION: Operation;
    /// What it answers; `()` when it has no answer.
    type Response: Serialize + 'static;

    /// Does it.
    ///
    /// # Errors
    /// The exceptions that the API reference of AWS KMS lists for it.
    fn run(&self, call: &Call<'_>) -> Result<Self::Response>;
}

/// The operations: each a method of [`Client`], a line of [`call`]'s dispatch and of
/// [`OPERATIONS`].
macro_rules! operations {
    ($($operation:ident => $method:ident($request:ty),)+) => {
        /// The names of all operations that there are.
        pub const OPERATIONS: &[&str] = &[$(stringify!($operation),)+];

        impl Client<'_> {
            $(
                #[doc = concat!("The operation `", stringify!($operation), "`.")]
                ///
                /// # Errors
                /// The exceptions that the API reference of AWS KMS lists for it.
                pub fn $method(
                    &self,
                    request: &$request,
                ) -> Result<<$request as Request>::Response> {
                    self.execute(request)
                }
            )+
        }

        /// Does the operation of this name: JSON in, JSON out. The answer of an operation that has
        /// none is empty.
        ///
        /// # Errors
        /// The operation's; [`KmsError::UnknownOperation`], [`KmsError::UnsupportedOperation`],
        /// [`KmsError::Serialization`], [`KmsError::Validation`].
        pub fn call(
            client: &Client<'_>,
            operation: &str,
            body: &[u8],
        ) -> Result<Zeroizing<Vec<u8>>> {
            match operation {
                $(stringify!($operation) => answer::<$request>(client, body),)+
                other => Err(refuse(client, other)),
            }
        }
    };
}

operations! {
    CancelKeyDeletion => cancel_key_deletion(CancelKeyDeletionRequest),
    CreateAlias => create_alias(CreateAliasRequest),
    CreateGrant => create_grant(CreateGrantRequest),
    CreateKey => create_key(CreateKeyRequest),
    Decrypt => decrypt(DecryptRequest),
    DeleteAlias => delete_alias(DeleteAliasRequest),
    DeleteImportedKeyMaterial => delete_imported_key_material(DeleteImportedKeyMaterialRequest),
    DeriveSharedSecret => derive_shared_secret(DeriveSharedSecretRequest),
    DescribeKey => describe_key(DescribeKeyRequest),
    DisableKey => disable_key(DisableKeyRequest),
    DisableKeyRotation => disable_key_rotation(DisableKeyRotationRequest),
    EnableKey => enable_key(EnableKeyRequest),
    EnableKeyRotation => enable_key_rotation(EnableKeyRotationRequest),
    Encrypt => encrypt(EncryptRequest),
    GenerateDataKey => generate_data_key(GenerateDataKeyRequest),
    GenerateDataKeyPair => generate_data_key_pair(GenerateDataKeyPairRequest),
    GenerateDataKeyPairWithoutPlaintext =>
        generate_data_key_pair_without_plaintext(GenerateDataKeyPairWithoutPlaintextRequest),
    GenerateDataKeyWithoutPlaintext =>
        generate_data_key_without_plaintext(GenerateDataKeyWithoutPlaintextRequest),
    GenerateMac => generate_mac(GenerateMacRequest),
    GenerateRandom => generate_random(GenerateRandomRequest),
    GetKeyLastUsage => get_key_last_usage(GetKeyLastUsageRequest),
    GetKeyPolicy => get_key_policy(GetKeyPolicyRequest),
    GetKeyRotationStatus => get_key_rotation_status(GetKeyRotationStatusRequest),
    GetParametersForImport => get_parameters_for_import(GetParametersForImportRequest),
    GetPublicKey => get_public_key(GetPublicKeyRequest),
    ImportKeyMaterial => import_key_material(ImportKeyMaterialRequest),
    ListAliases => list_aliases(ListAliasesRequest),
    ListGrants => list_grants(ListGrantsRequest),
    ListKeyPolicies => list_key_policies(ListKeyPoliciesRequest),
    ListKeyRotations => list_key_rotations(ListKeyRotationsRequest),
    ListKeys => list_keys(ListKeysRequest),
    ListResourceTags => list_resource_tags(ListResourceTagsRequest),
    ListRetirableGrants => list_retirable_grants(ListRetirableGrantsRequest),
    PutKeyPolicy => put_key_policy(PutKeyPolicyRequest),
    ReEncrypt => re_encrypt(ReEncryptRequest),
    ReplicateKey => replicate_key(ReplicateKeyRequest),
    RetireGrant => retire_grant(RetireGrantRequest),
    RevokeGrant => revoke_grant(RevokeGrantRequest),
    RotateKeyOnDemand => rotate_key_on_demand(RotateKeyOnDemandRequest),
    ScheduleKeyDeletion => schedule_key_deletion(ScheduleKeyDeletionRequest),
    Sign => sign(SignRequest),
    TagResource => tag_resource(TagResourceRequest),
    UntagResource => untag_resource(UntagResourceRequest),
    UpdateAlias => update_alias(UpdateAliasRequest),
    UpdateKeyDescription => update_key_description(UpdateKeyDescriptionRequest),
    UpdatePrimaryRegion => update_primary_region(UpdatePrimaryRegionRequest),
    Verify => verify(VerifyRequest),
    VerifyMac => verify_mac(VerifyMacRequest),
}

const NO_KEY_STORES: &str = "keys live in this keystore; there are no custom key stores";
const NO_KEM: &str = "there are no keys of ML-KEM";

/// The operations of AWS KMS that there are not, and why.
pub const UNSUPPORTED: &[(&str, &str)] = &[
    ("ConnectCustomKeyStore", NO_KEY_STORES),
    ("CreateCustomKeyStore", NO_KEY_STORES),
    ("DeleteCustomKeyStore", NO_KEY_STORES),
    ("DescribeCustomKeyStores", NO_KEY_STORES),
    ("DisconnectCustomKeyStore", NO_KEY_STORES),
    ("UpdateCustomKeyStore", NO_KEY_STORES),
    ("Decapsulate", NO_KEM),
    ("Encapsulate", NO_KEM),
];

fn answer<R: Request>(client: &Client<'_>, body: &[u8]) -> Result<Zeroizing<Vec<u8>>> {
    let request: R = match wire::parse(body) {
        Ok(request) => request,
        // Refused, and recorded as such.
        Err(error) => return client.perform(R::OPERATION, None, |_| Err(error)),
    };
    let response = client.execute(&request)?;
    if std::any::TypeId::of::<R::Response>() == std::any::TypeId::of::<()>() {
        return Ok(Zeroizing::default());
    }
    wire::write(&response)
}

fn refuse(client: &Client<'_>, operation: &str) -> KmsError {
    let known = Operation::from_word(operation);
    let reason = UNSUPPORTED.iter().find(|(name, _)| *name == operation);
    let (Some(known), Some((_, reason))) = (known, reason) else {
        return KmsError::UnknownOperation(operation.to_owned());
    };
    let refused = client.perform(known, None, |_| -> Result<()> {
        Err(KmsError::UnsupportedOperation(format!(
            "{operation} is not supported: {reason}"
        )))
    });
    match refused {
        Err(error) => error,
        Ok(()) => KmsError::UnknownOperation(operation.to_owned()),
    }
}

/// A request whose one member is `KeyId`.
macro_rules! key_request {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, serde::Deserialize, serde::Serialize)]
        #[serde(rename_all(serialize = "camelCase", deserialize = "PascalCase"))]
        pub struct $name {
            /// `KeyId`
            pub key_id: $crate::kms::api::wire::KeyName,
        }

        impl<T: Into<$crate::kms::api::wire::KeyName>> From<T> for $name {
            fn from(key: T) -> Self {
                Self { key_id: key.into() }
            }
        }
    };
}
use key_request;

/// Whether an optional flag is not set.
#[allow(clippy::ref_option, clippy::trivially_copy_pass_by_ref)] // as serde wants it
fn is_false(flag: &Option<bool>) -> bool {
    *flag != Some(true)
}

/// Which part of a listing is wanted.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all(serialize = "camelCase", deserialize = "PascalCase"))]
pub struct Page {
    /// `Limit`: how many entries at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<i64>,
    /// `Marker`: the `NextMarker` of the answer before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub marker: Option<String>,
}

/// A part of a listing.
#[derive(Clone, Debug)]
struct Listing<T> {
    /// The entries.
    entries: Vec<T>,
    /// `NextMarker`, when there is more (`Truncated`).
    next_marker: Option<String>,
}

impl Page {
    /// `Limit` within its bounds, or else the default.
    fn limit(&self, default: u32, max: u32) -> Result<u32> {
        let limit = self.limit.unwrap_or(i64::from(default));
        match u32::try_from(limit) {
            Ok(limit) if (1..=max).contains(&limit) => Ok(limit),
            _ => Err(KmsError::Validation(format!(
                "1 validation error detected: Value '{limit}' at 'limit' failed to satisfy \
                 constraint: Member must have value between 1 and {max}"
            ))),
        }
    }

    /// The place that a marker of the listing `kind` names.
    fn after(&self, kind: &str) -> Result<Option<String>> {
        let Some(marker) = &self.marker else {
            return Ok(None);
        };
        if !(1..=1024).contains(&marker.len()) {
            return Err(KmsError::Validation(
                "1 validation error detected: Value at 'marker' failed to satisfy constraint: \
                 Member must have length between 1 and 1024"
                    .to_owned(),
            ));
        }
        let bytes = URL_SAFE_NO_PAD
            .decode(marker)
            .map_err(|_| KmsError::InvalidMarker)?;
        let text = String::from_utf8(bytes).map_err(|_| KmsError::InvalidMarker)?;
        let place = text
            .strip_prefix(kind)
            .and_then(|rest| rest.strip_prefix(':'));
        Ok(Some(place.ok_or(KmsError::InvalidMarker)?.to_owned()))
    }

    /// As [`Page::after`], where a place is a number above zero.
    fn after_number(&self, kind: &str) -> Result<i64> {
        self.after(kind)?.map_or(Ok(0), |text| {
            text.parse().map_err(|_| KmsError::InvalidMarker)
        })
    }
}

impl<T> Listing<T> {
    /// Cuts entries, of which one more than `limit` was asked for; `place` names the last one.
    fn cut(mut entries: Vec<T>, limit: u32, kind: &str, place: impl FnOnce(&T) -> String) -> Self {
        let limit = limit as usize;
        let more = entries.len() > limit;
        entries.truncate(limit);
        let last = entries.last().filter(|_| more);
        let next_marker =
            last.map(|last| URL_SAFE_NO_PAD.encode(format!("{kind}:{}", place(last))));
        Self {
            entries,
            next_marker,
        }
    }
}
