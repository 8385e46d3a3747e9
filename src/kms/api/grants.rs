//! CreateGrant, ListGrants, ListRetirableGrants, RetireGrant, RevokeGrant.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

use super::super::Kms;
use super::super::access::GRANTS_MOST;
use super::super::caller::Principal;
use super::super::client::Call;
use super::super::clock::Timestamp;
use super::super::error::{KmsError, Result};
use super::super::policy::Facts;
use super::super::reference::key_arn;
use super::super::spec::{KeySpec, KeyUsage};
use super::super::state::Operation;
use super::super::store::{Grant, GrantConstraints, GrantRow, KeyRow, Place};
use super::wire::{GrantTokens, KeyName, Text, end_dry_run};
use super::{Listing, Page, Request, is_false};
use crate::crypto;

/// What a grant can allow.
const GRANT_OPERATIONS: [Operation; 17] = [
    Operation::Decrypt,
    Operation::Encrypt,
    Operation::GenerateDataKey,
    Operation::GenerateDataKeyWithoutPlaintext,
    Operation::ReEncryptFrom,
    Operation::ReEncryptTo,
    Operation::Sign,
    Operation::Verify,
    Operation::GetPublicKey,
    Operation::CreateGrant,
    Operation::RetireGrant,
    Operation::DescribeKey,
    Operation::GenerateDataKeyPair,
    Operation::GenerateDataKeyPairWithoutPlaintext,
    Operation::GenerateMac,
    Operation::VerifyMac,
    Operation::DeriveSharedSecret,
];
/// Bytes in a grant's id, which is shown in hexadecimal digits.
const ID_LEN: usize = 32;
/// What a token's tag is for.
const TOKEN_TAG: &str = "grant token";

/// CreateGrant.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all(serialize = "camelCase", deserialize = "PascalCase"))]
pub struct CreateGrantRequest {
    /// `KeyId`
    pub key_id: KeyName,
    /// `GranteePrincipal`: an ARN.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grantee_principal: Option<Text<1, 256>>,
    /// `RetiringPrincipal`: an ARN.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retiring_principal: Option<Text<1, 256>>,
    /// `Operations`
    pub operations: Vec<Operation>,
    /// `Constraints`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub constraints: Option<GrantConstraints>,
    /// `GrantTokens`
    #[serde(default, skip_serializing)]
    pub grant_tokens: GrantTokens,
    /// `Name`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<Text<1, 256>>,
    /// `DryRun`
    #[serde(skip_serializing_if = "is_false")]
    pub dry_run: Option<bool>,
    /// `GranteeServicePrincipal`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grantee_service_principal: Option<Text<1, 128>>,
    /// `RetiringServicePrincipal`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retiring_service_principal: Option<Text<1, 128>>,
}

/// What CreateGrant answers.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct CreateGrantResponse {
    /// `GrantToken`
    pub grant_token: String,
    /// `GrantId`
    pub grant_id: String,
}

/// ListGrants.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all(serialize = "camelCase", deserialize = "PascalCase"))]
pub struct ListGrantsRequest {
    /// `Limit`, `Marker`
    #[serde(flatten)]
    pub page: Page,
    /// `KeyId`
    pub key_id: KeyName,
    /// `GrantId`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grant_id: Option<Text<1, 128>>,
    /// `GranteePrincipal`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grantee_principal: Option<Text<1, 256>>,
    /// `GranteeServicePrincipal`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grantee_service_principal: Option<Text<1, 128>>,
}

/// ListRetirableGrants.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all(serialize = "camelCase", deserialize = "PascalCase"))]
pub struct ListRetirableGrantsRequest {
    /// `Limit`, `Marker`
    #[serde(flatten)]
    pub page: Page,
    /// `RetiringPrincipal`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retiring_principal: Option<Text<1, 256>>,
    /// `RetiringServicePrincipal`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retiring_service_principal: Option<Text<1, 128>>,
}

/// What ListGrants and ListRetirableGrants answer.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct ListGrantsResponse {
    /// `Grants`
    pub grants: Vec<GrantListEntry>,
    /// `NextMarker`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_marker: Option<String>,
    /// `Truncated`
    pub truncated: bool,
}

/// `GrantListEntry`
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct GrantListEntry {
    /// `KeyId`: the key's ARN.
    pub key_id: String,
    /// `GrantId`
    pub grant_id: String,
    /// `Name`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// `CreationDate`
    pub creation_date: Timestamp,
    /// `GranteePrincipal`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grantee_principal: Option<String>,
    /// `RetiringPrincipal`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retiring_principal: Option<String>,
    /// `IssuingAccount`
    pub issuing_account: String,
    /// `Operations`
    pub operations: Vec<Operation>,
    /// `Constraints`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub constraints: Option<GrantConstraints>,
    /// `GranteeServicePrincipal`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grantee_service_principal: Option<String>,
    /// `RetiringServicePrincipal`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retiring_service_principal: Option<String>,
}

/// RetireGrant: of a token, or of a key and an id.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all(serialize = "camelCase", deserialize = "PascalCase"))]
pub struct RetireGrantRequest {
    /// `GrantToken`
    #[serde(skip_serializing)]
    pub grant_token: Option<Text<1, 8192>>,
    /// `KeyId`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_id: Option<KeyName>,
    /// `GrantId`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grant_id: Option<Text<1, 128>>,
    /// `DryRun`
    #[serde(skip_serializing_if = "is_false")]
    pub dry_run: Option<bool>,
}

/// RevokeGrant.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all(serialize = "camelCase", deserialize = "PascalCase"))]
pub struct RevokeGrantRequest {
    /// `KeyId`
    pub key_id: KeyName,
    /// `GrantId`
    pub grant_id: Text<1, 128>,
    /// `DryRun`
    #[serde(skip_serializing_if = "is_false")]
    pub dry_run: Option<bool>,
}

/// The id of a new grant: 64 hexadecimal digits.
pub(in crate::kms) fn new_grant_id() -> String {
    crate::format::hex(&crypto::random_array::<ID_LEN>())
}

impl Kms {
    /// A token for a grant: its id, 16 random bytes, and a tag over both.
    fn grant_token(&self, id: &str) -> String {
        let random: [u8; 16] = crypto::random_array();
        let mut bytes = id.as_bytes().to_vec();
        bytes.extend_from_slice(&random);
        let tag = self.store.sealer().tag(TOKEN_TAG, &bytes);
        bytes.extend_from_slice(&tag);
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// The id of the grant that a token is for.
    fn grant_of_token(&self, token: &str) -> Result<String> {
        let bytes = URL_SAFE_NO_PAD
            .decode(token)
            .map_err(|_| KmsError::InvalidGrantToken)?;
        let (bytes, tag) = bytes
            .split_last_chunk::<32>()
            .ok_or(KmsError::InvalidGrantToken)?;
        if !self.store.sealer().tag_matches(TOKEN_TAG, bytes, tag) {
            return Err(KmsError::InvalidGrantToken);
        }
        let id = bytes.get(..2 * ID_LEN).unwrap_or_default();
        String::from_utf8(id.to_vec()).map_err(|_| KmsError::InvalidGrantToken)
    }
}

impl Call<'_> {
    /// Whether all tokens are of this keystore. A grant holds as soon as it is made, so they give
    /// no right that its grantee doesn't have.
    pub(in crate::kms) fn check_tokens(&self, tokens: &GrantTokens) -> Result<()> {
        tokens
            .iter()
            .try_for_each(|token| self.kms().grant_of_token(token).map(|_| ()))
    }
}

/// Whether a key can do what a grant is to allow.
fn supports(spec: KeySpec, usage: KeyUsage, operation: Operation) -> bool {
    use Operation as O;
    match operation {
        O::CreateGrant | O::RetireGrant | O::DescribeKey => true,
        O::GetPublicKey => spec.is_asymmetric(),
        O::Encrypt | O::Decrypt | O::ReEncryptFrom | O::ReEncryptTo => {
            usage == KeyUsage::EncryptDecrypt
        }
        O::GenerateDataKey
        | O::GenerateDataKeyWithoutPlaintext
        | O::GenerateDataKeyPair
        | O::GenerateDataKeyPairWithoutPlaintext => spec.is_symmetric(),
        O::Sign | O::Verify => usage == KeyUsage::SignVerify,
        O::GenerateMac | O::VerifyMac => usage == KeyUsage::GenerateVerifyMac,
        O::DeriveSharedSecret => usage == KeyUsage::KeyAgreement,
        _ => false,
    }
}

fn is_principal(text: &str) -> bool {
    let valid = |b: u8| b.is_ascii_alphanumeric() || b"_+=,.@:/-".contains(&b);
    text.starts_with("arn:") && text.bytes().all(valid)
}

impl CreateGrantRequest {
    /// Who gets the rights, and whether it is a service.
    fn grantee(&self) -> Result<(&str, bool)> {
        match (&self.grantee_principal, &self.grantee_service_principal) {
            (Some(principal), None) if is_principal(principal.as_str()) => {
                Ok((principal.as_str(), false))
            }
            (Some(principal), None) => Err(KmsError::InvalidArn(format!(
                "GranteePrincipal '{}' is no ARN of a principal",
                principal.as_str()
            ))),
            (None, Some(service)) => {
                let source = self
                    .constraints
                    .as_ref()
                    .and_then(|c| c.source_arn.as_ref());
                if source.is_none() {
                    return Err(KmsError::Validation(
                        "A grant for a GranteeServicePrincipal needs a SourceArn constraint"
                            .to_owned(),
                    ));
                }
                Ok((service.as_str(), true))
            }
            _ => Err(KmsError::Validation(
                "You must specify either GranteePrincipal or GranteeServicePrincipal, but not both"
                    .to_owned(),
            )),
        }
    }

    fn retiring(&self) -> Result<Option<(&str, bool)>> {
        match (&self.retiring_principal, &self.retiring_service_principal) {
            (None, None) => Ok(None),
            (Some(principal), None) if is_principal(principal.as_str()) => {
                Ok(Some((principal.as_str(), false)))
            }
            (Some(principal), None) => Err(KmsError::InvalidArn(format!(
                "RetiringPrincipal '{}' is no ARN of a principal",
                principal.as_str()
            ))),
            (None, Some(service)) => Ok(Some((service.as_str(), true))),
            (Some(_), Some(_)) => Err(KmsError::Validation(
                "You can specify either RetiringPrincipal or RetiringServicePrincipal, but not both"
                    .to_owned(),
            )),
        }
    }

    /// Whether the grant is one that a key can have.
    fn check(&self, key: &KeyRow) -> Result<()> {
        for operation in &self.operations {
            if !GRANT_OPERATIONS.contains(operation) {
                return Err(KmsError::Validation(format!(
                    "1 validation error detected: Value '{operation}' at 'operations' failed to \
                     satisfy constraint: Member must satisfy enum value set of GrantOperation"
                )));
            }
            if !supports(key.spec, key.usage, *operation) {
                return Err(KmsError::Validation(format!(
                    "Grant operation {operation} is not supported by a {} key for {}",
                    key.spec, key.usage
                )));
            }
        }
        let Some(constraints) = &self.constraints else {
            return Ok(());
        };
        let bound = constraints.encryption_context_equals.is_some()
            || constraints.encryption_context_subset.is_some();
        if bound && !key.spec.is_symmetric() {
            return Err(KmsError::Validation(
                "Constraints on the encryption context are for symmetric encryption keys alone"
                    .to_owned(),
            ));
        }
        let both = constraints.encryption_context_equals.is_some()
            && constraints.encryption_context_subset.is_some();
        if both {
            return Err(KmsError::Validation(
                "A grant has one constraint on the encryption context at most".to_owned(),
            ));
        }
        Ok(())
    }

    /// Whether this grant gives no more than the one that its maker has.
    fn is_within(&self, own: &Grant) -> bool {
        let operations = self
            .operations
            .iter()
            .all(|operation| own.operations.contains(operation));
        let Some(bound) = &own.constraints else {
            return operations;
        };
        let constraints = self.constraints.clone().unwrap_or_default();
        let equals = bound.encryption_context_equals.is_none()
            || constraints.encryption_context_equals == bound.encryption_context_equals;
        let subset = bound.encryption_context_subset.as_ref().is_none_or(|own| {
            let ours = constraints
                .encryption_context_equals
                .as_ref()
                .or(constraints.encryption_context_subset.as_ref());
            ours.is_some_and(|ours| own.is_subset_of(ours))
        });
        let source = bound.source_arn.is_none() || constraints.source_arn == bound.source_arn;
        operations && equals && subset && source
    }

    fn constraint_type(&self) -> Option<&'static str> {
        let constraints = self.constraints.as_ref()?;
        if constraints.encryption_context_equals.is_some() {
            Some("EncryptionContextEquals")
        } else if constraints.encryption_context_subset.is_some() {
            Some("EncryptionContextSubset")
        } else {
            None
        }
    }
}

impl Request for CreateGrantRequest {
    const OPERATION: Operation = Operation::CreateGrant;
    type Response = CreateGrantResponse;

    /// The same request with the same name gives the grant that is there, and a new token.
    fn run(&self, call: &Call<'_>) -> Result<CreateGrantResponse> {
        let (grantee, grantee_is_service) = self.grantee()?;
        let retiring = self.retiring()?;
        if self.operations.is_empty() {
            return Err(KmsError::Validation(
                "1 validation error detected: Value '[]' at 'operations' failed to satisfy \
                 constraint: Member must have length greater than or equal to 1"
                    .to_owned(),
            ));
        }
        call.check_tokens(&self.grant_tokens)?;
        let place = call.key_place(&self.key_id)?;
        let operations: Vec<&str> = self.operations.iter().map(|op| op.as_str()).collect();
        let facts = Facts {
            grant_is_for_aws_resource: Some(false),
            grant_operations: &operations,
            grantee_principal: Some(grantee),
            retiring_principal: retiring.map(|(principal, _)| principal),
            grant_constraint_type: self.constraint_type(),
            ..Facts::default()
        };
        let id = call.change(|change| {
            let (key, own) = call.locked(change, Self::OPERATION, &place, &facts)?;
            self.check(&key.row)?;
            if own.is_some_and(|own| !self.is_within(&own)) {
                return Err(KmsError::AccessDenied(format!(
                    "User: {} can give no more rights on {} than its own grant does",
                    call.caller().arn(),
                    key.arn
                )));
            }
            end_dry_run(self.dry_run)?;
            let new = Grant {
                id: new_grant_id(),
                name: self.name.as_ref().map(|name| name.as_str().to_owned()),
                created: call.now(),
                grantee: grantee.to_owned(),
                grantee_is_service,
                retiring: retiring.map(|(principal, _)| principal.to_owned()),
                retiring_is_service: retiring.is_some_and(|(_, service)| service),
                issuer: Principal::Root.arn(call.kms().account_id()),
                operations: self.operations.clone(),
                constraints: self.constraints.clone(),
            };
            let same = |old: &&Grant| {
                new.name.is_some()
                    && **old
                        == Grant {
                            id: old.id.clone(),
                            created: old.created,
                            ..new.clone()
                        }
            };
            if let Some(old) = key.access.grants().iter().find(same) {
                return Ok(old.id.clone());
            }
            if change.count_grants(&place)? >= GRANTS_MOST {
                return Err(KmsError::LimitExceeded(format!(
                    "{} has {GRANTS_MOST} grants, as many as a key may have",
                    key.arn
                )));
            }
            change.insert_grant(&place, &new)?;
            Ok(new.id)
        })?;
        Ok(CreateGrantResponse {
            grant_token: call.kms().grant_token(&id),
            grant_id: id,
        })
    }
}

fn entry(call: &Call<'_>, row: GrantRow) -> GrantListEntry {
    let grant = row.grant;
    let (grantee_principal, grantee_service_principal) = if grant.grantee_is_service {
        (None, Some(grant.grantee))
    } else {
        (Some(grant.grantee), None)
    };
    let (retiring_principal, retiring_service_principal) = if grant.retiring_is_service {
        (None, grant.retiring)
    } else {
        (grant.retiring, None)
    };
    GrantListEntry {
        key_id: key_arn(&row.place, call.kms().account_id()),
        grant_id: grant.id,
        name: grant.name,
        creation_date: grant.created,
        grantee_principal,
        retiring_principal,
        issuing_account: grant.issuer,
        operations: grant.operations,
        constraints: grant.constraints,
        grantee_service_principal,
        retiring_service_principal,
    }
}

fn listed(call: &Call<'_>, rows: Vec<GrantRow>, limit: u32, kind: &str) -> ListGrantsResponse {
    let listing = Listing::cut(rows, limit, kind, |row| row.number.to_string());
    ListGrantsResponse {
        grants: listing
            .entries
            .into_iter()
            .map(|row| entry(call, row))
            .collect(),
        truncated: listing.next_marker.is_some(),
        next_marker: listing.next_marker,
    }
}

impl Request for ListGrantsRequest {
    const OPERATION: Operation = Operation::ListGrants;
    type Response = ListGrantsResponse;

    fn run(&self, call: &Call<'_>) -> Result<ListGrantsResponse> {
        let limit = self.page.limit(50, 100)?;
        let after = self.page.after_number("grants")?;
        let key = call.manage_key(&self.key_id, Self::OPERATION, &Facts::default())?;
        let place = key.row.place();
        let rows = call
            .kms()
            .store
            .read(|sql| GrantRow::of_key(sql, &place, after, GRANTS_MOST))?;
        let same = |wanted: Option<&str>, is: &str| wanted.is_none_or(|wanted| wanted == is);
        let wanted = |row: &GrantRow| {
            let grant = &row.grant;
            same(self.grant_id.as_ref().map(Text::as_str), &grant.id)
                && same(
                    self.grantee_principal.as_ref().map(Text::as_str),
                    &grant.grantee,
                )
                && same(
                    self.grantee_service_principal.as_ref().map(Text::as_str),
                    &grant.grantee,
                )
        };
        let rows: Vec<GrantRow> = rows.into_iter().filter(wanted).collect();
        if let Some(id) = &self.grant_id
            && rows.is_empty()
        {
            return Err(KmsError::InvalidGrantId(format!(
                "Grant {} of {} does not exist",
                id.as_str(),
                key.arn
            )));
        }
        Ok(listed(call, rows, limit, "grants"))
    }
}

impl Request for ListRetirableGrantsRequest {
    const OPERATION: Operation = Operation::ListRetirableGrants;
    type Response = ListGrantsResponse;

    /// For the account root, and for the principal itself.
    fn run(&self, call: &Call<'_>) -> Result<ListGrantsResponse> {
        let limit = self.page.limit(50, 100)?;
        let after = self.page.after_number("retirable")?;
        let principal = match (&self.retiring_principal, &self.retiring_service_principal) {
            (Some(principal), None) if is_principal(principal.as_str()) => principal.as_str(),
            (Some(principal), None) => {
                return Err(KmsError::InvalidArn(format!(
                    "RetiringPrincipal '{}' is no ARN of a principal",
                    principal.as_str()
                )));
            }
            (None, Some(service)) => service.as_str(),
            _ => {
                return Err(KmsError::Validation(
                    "You must specify either RetiringPrincipal or RetiringServicePrincipal, but \
                     not both"
                        .to_owned(),
                ));
            }
        };
        if principal != call.caller().arn() {
            call.authorize_account()?;
        }
        let region = call.caller().region();
        let most = i64::from(limit) + 1;
        let rows = call
            .kms()
            .store
            .read(|sql| GrantRow::retirable(sql, region, principal, after, most))?;
        Ok(listed(call, rows, limit, "retirable"))
    }
}

/// Whether the caller may retire a grant: the account that issued it, the retiring principal, and
/// a grantee that was given the right.
fn may_retire(call: &Call<'_>, grant: &Grant) -> bool {
    let arn = call.caller().arn();
    *call.caller().principal() == Principal::Root
        || grant.retiring.as_deref() == Some(arn)
        || (grant.grantee == arn && grant.operations.contains(&Operation::RetireGrant))
}

impl Request for RetireGrantRequest {
    const OPERATION: Operation = Operation::RetireGrant;
    type Response = ();

    fn run(&self, call: &Call<'_>) -> Result<()> {
        let (place, id): (Option<Place>, String) =
            match (&self.grant_token, &self.key_id, &self.grant_id) {
                (Some(token), None, None) => (None, call.kms().grant_of_token(token.as_str())?),
                (None, Some(key), Some(id)) => (Some(call.key_place(key)?), id.as_str().to_owned()),
                _ => {
                    return Err(KmsError::Validation(
                        "You must specify either GrantToken, or both GrantId and KeyId".to_owned(),
                    ));
                }
            };
        call.change(|change| {
            let row = GrantRow::find(change.sql, &id)?
                .filter(|row| place.is_none_or(|place| place == row.place))
                .ok_or_else(|| KmsError::NotFound(format!("Grant {id} does not exist")))?;
            if may_retire(call, &row.grant) {
                call.made(&row.place);
                let key = KeyRow::load(change.sql, &row.place)?
                    .ok_or_else(|| call.kms().no_key(&row.place))?;
                key.state.allows(Self::OPERATION, || {
                    key_arn(&row.place, call.kms().account_id())
                })?;
            } else {
                call.row(change, Self::OPERATION, &row.place, &Facts::default())?;
            }
            end_dry_run(self.dry_run)?;
            change.delete_grant(&row)
        })
    }
}

impl Request for RevokeGrantRequest {
    const OPERATION: Operation = Operation::RevokeGrant;
    type Response = ();

    fn run(&self, call: &Call<'_>) -> Result<()> {
        let place = call.key_place(&self.key_id)?;
        call.change(|change| {
            call.row(change, Self::OPERATION, &place, &Facts::default())?;
            let row = GrantRow::find(change.sql, self.grant_id.as_str())?
                .filter(|row| row.place == place)
                .ok_or_else(|| {
                    KmsError::NotFound(format!(
                        "Grant {} of {} does not exist",
                        self.grant_id.as_str(),
                        key_arn(&place, call.kms().account_id())
                    ))
                })?;
            end_dry_run(self.dry_run)?;
            change.delete_grant(&row)
        })
    }
}
