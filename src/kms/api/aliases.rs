//! CreateAlias, UpdateAlias, DeleteAlias, ListAliases.

use serde::{Deserialize, Serialize};

use super::super::client::Call;
use super::super::clock::Timestamp;
use super::super::error::{KmsError, Result};
use super::super::id::KeyId;
use super::super::policy::Facts;
use super::super::reference::AliasName;
use super::super::state::Operation;
use super::super::store::{AliasRow, Change, Place};
use super::wire::{KeyName, Text};
use super::{Listing, Page, Request};

/// Aliases that a key may have, as in AWS KMS.
const ALIASES_PER_KEY: i64 = 50;

/// CreateAlias.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all(serialize = "camelCase", deserialize = "PascalCase"))]
pub struct CreateAliasRequest {
    /// `AliasName`
    pub alias_name: Text<1, 256>,
    /// `TargetKeyId`
    pub target_key_id: KeyName,
}

/// UpdateAlias: points an alias to another key of the same kind and usage.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all(serialize = "camelCase", deserialize = "PascalCase"))]
pub struct UpdateAliasRequest {
    /// `AliasName`
    pub alias_name: Text<1, 256>,
    /// `TargetKeyId`
    pub target_key_id: KeyName,
}

/// DeleteAlias. The key stays.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all(serialize = "camelCase", deserialize = "PascalCase"))]
pub struct DeleteAliasRequest {
    /// `AliasName`
    pub alias_name: Text<1, 256>,
}

/// ListAliases, in the order of names, of one key or of all.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all(serialize = "camelCase", deserialize = "PascalCase"))]
pub struct ListAliasesRequest {
    /// `KeyId`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_id: Option<KeyName>,
    /// `Limit`, `Marker`
    #[serde(flatten)]
    pub page: Page,
}

/// `AliasListEntry`
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct AliasListEntry {
    /// `AliasName`
    pub alias_name: String,
    /// `AliasArn`
    pub alias_arn: String,
    /// `TargetKeyId`
    pub target_key_id: KeyId,
    /// `CreationDate`
    pub creation_date: Timestamp,
    /// `LastUpdatedDate`
    pub last_updated_date: Timestamp,
}

/// What ListAliases answers.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct ListAliasesResponse {
    /// `Aliases`
    pub aliases: Vec<AliasListEntry>,
    /// `NextMarker`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_marker: Option<String>,
    /// `Truncated`
    pub truncated: bool,
}

/// The name of an alias that users may make and change.
fn own_name(name: &Text<1, 256>) -> Result<AliasName> {
    let name: AliasName = name.as_str().parse()?;
    if name.is_reserved() {
        return Err(KmsError::InvalidAliasName(format!(
            "alias name '{name}' is reserved: aliases under alias/envelopefs/ and alias/aws/ \
             belong to the service"
        )));
    }
    Ok(name)
}

fn check_quota(call: &Call<'_>, change: &Change<'_>, place: &Place) -> Result<()> {
    if change.count_aliases(place)? < ALIASES_PER_KEY {
        return Ok(());
    }
    Err(KmsError::LimitExceeded(format!(
        "{} has {ALIASES_PER_KEY} aliases, as many as a key may have",
        call.kms().key_arn(&place.id)
    )))
}

impl Request for CreateAliasRequest {
    const OPERATION: Operation = Operation::CreateAlias;
    type Response = ();

    fn run(&self, call: &Call<'_>) -> Result<()> {
        let name = own_name(&self.alias_name)?;
        let place = call.key_place(&self.target_key_id)?;
        call.change(|change| {
            call.row(change, Operation::CreateAlias, &place, &Facts::default())?;
            if change.alias_target(place.region, &name)?.is_some() {
                return Err(KmsError::AlreadyExists(format!(
                    "An alias with the name arn:aws:kms:{}:{}:{name} already exists",
                    place.region,
                    call.kms().account_id()
                )));
            }
            check_quota(call, change, &place)?;
            change.insert_alias(&name, &place, call.now())
        })
    }
}

impl Request for UpdateAliasRequest {
    const OPERATION: Operation = Operation::UpdateAlias;
    type Response = ();

    fn run(&self, call: &Call<'_>) -> Result<()> {
        let name = own_name(&self.alias_name)?;
        let place = call.key_place(&self.target_key_id)?;
        call.change(|change| {
            let old = change
                .alias_target(place.region, &name)?
                .ok_or_else(|| call.kms().no_alias(place.region, &name))?;
            // The key until now may be in any state; the new one may not be pending deletion.
            let old =
                call.row_in_any_state(change, Operation::UpdateAlias, &old, &Facts::default())?;
            let new = call.row(change, Operation::UpdateAlias, &place, &Facts::default())?;
            if (old.spec, old.usage) != (new.spec, new.usage) {
                return Err(KmsError::UnsupportedOperation(format!(
                    "{name} points to a {} key for {}; it can't point to a {} key for {}",
                    old.spec, old.usage, new.spec, new.usage
                )));
            }
            if old.id != new.id {
                check_quota(call, change, &place)?;
            }
            change.move_alias(&name, &old.id, &place, call.now())
        })
    }
}

impl Request for DeleteAliasRequest {
    const OPERATION: Operation = Operation::DeleteAlias;
    type Response = ();

    fn run(&self, call: &Call<'_>) -> Result<()> {
        let name = own_name(&self.alias_name)?;
        let region = call.caller().region();
        call.change(|change| {
            let target = change
                .alias_target(region, &name)?
                .ok_or_else(|| call.kms().no_alias(region, &name))?;
            call.row(change, Operation::DeleteAlias, &target, &Facts::default())?;
            change.delete_alias(&name, &target)
        })
    }
}

impl Request for ListAliasesRequest {
    const OPERATION: Operation = Operation::ListAliases;
    type Response = ListAliasesResponse;

    fn run(&self, call: &Call<'_>) -> Result<ListAliasesResponse> {
        let limit = self.page.limit(50, 100)?;
        let after = self.page.after("aliases")?.unwrap_or_default();
        let id = match &self.key_id {
            Some(name) => {
                let facts = Facts::default();
                let key = call.manage_key(name, Operation::ListAliases, &facts)?;
                Some(key.row.id)
            }
            None => {
                call.authorize_account()?;
                None
            }
        };
        let region = call.caller().region();
        let rows = call
            .kms()
            .store
            .read(|sql| AliasRow::list(sql, region, id.as_ref(), &after, i64::from(limit) + 1))?;
        let listing = Listing::cut(rows, limit, "aliases", |row| row.name.clone());
        Ok(ListAliasesResponse {
            aliases: listing
                .entries
                .into_iter()
                .map(|row| AliasListEntry {
                    alias_arn: format!(
                        "arn:aws:kms:{region}:{}:{}",
                        call.kms().account_id(),
                        row.name
                    ),
                    alias_name: row.name,
                    target_key_id: row.key,
                    creation_date: row.created,
                    last_updated_date: row.updated,
                })
                .collect(),
            truncated: listing.next_marker.is_some(),
            next_marker: listing.next_marker,
        })
    }
}
