//! EnableKeyRotation, DisableKeyRotation, GetKeyRotationStatus, RotateKeyOnDemand,
//! ListKeyRotations.

use serde::{Deserialize, Serialize};

use super::super::client::Call;
use super::super::clock::Timestamp;
use super::super::error::{KmsError, Result};
use super::super::id::{KeyId, MaterialId};
use super::super::policy::Facts;
use super::super::reference::key_arn;
use super::super::spec::{KeyManager, Origin, RotationType};
use super::super::state::Operation;
use super::super::store::{
    Change, DEFAULT_PERIOD_DAYS, KeyRow, MaterialRow, MaterialState, Place, Schedule,
};
use super::super::words::words;
use super::keys::ExpirationModel;
use super::wire::{KeyName, Number};
use super::{Listing, Page, Request, key_request};

words! {
    /// Which materials ListKeyRotations shows.
    IncludeKeyMaterial {
        /// Those that a rotation made.
        RotationsOnly = "ROTATIONS_ONLY",
        /// The first one too, and one that waits for its rotation.
        All = "ALL_KEY_MATERIAL",
    }
}

words! {
    /// Whether imported material is there.
    ImportState {
        /// It is.
        Imported = "IMPORTED",
        /// It was deleted or has expired.
        PendingImport = "PENDING_IMPORT",
    }
}

/// EnableKeyRotation: every so many days from now on. When it is enabled already the period
/// changes, and still counts from where it did.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all(serialize = "camelCase", deserialize = "PascalCase"))]
pub struct EnableKeyRotationRequest {
    /// `KeyId`
    pub key_id: KeyName,
    /// `RotationPeriodInDays`: 90 to 2560, 365 unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rotation_period_in_days: Option<Number<90, 2560>>,
}

key_request! {
    /// DisableKeyRotation.
    DisableKeyRotationRequest
}
key_request! {
    /// GetKeyRotationStatus.
    GetKeyRotationStatusRequest
}
key_request! {
    /// RotateKeyOnDemand: makes new material current at once. The automatic schedule stays.
    RotateKeyOnDemandRequest
}

/// What GetKeyRotationStatus answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct GetKeyRotationStatusResponse {
    /// `KeyRotationEnabled`
    pub key_rotation_enabled: bool,
    /// `KeyId`
    pub key_id: KeyId,
    /// `RotationPeriodInDays`, when rotation is enabled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rotation_period_in_days: Option<u32>,
    /// `NextRotationDate`, when rotation is enabled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_rotation_date: Option<Timestamp>,
}

/// What RotateKeyOnDemand answers.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct RotateKeyOnDemandResponse {
    /// `KeyId`
    pub key_id: KeyId,
}

/// ListKeyRotations, oldest first.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all(serialize = "camelCase", deserialize = "PascalCase"))]
pub struct ListKeyRotationsRequest {
    /// `KeyId`
    pub key_id: KeyName,
    /// `IncludeKeyMaterial`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub include_key_material: Option<IncludeKeyMaterial>,
    /// `Limit`, `Marker`
    #[serde(flatten)]
    pub page: Page,
}

/// What ListKeyRotations answers.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct ListKeyRotationsResponse {
    /// `Rotations`
    pub rotations: Vec<RotationsListEntry>,
    /// `NextMarker`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_marker: Option<String>,
    /// `Truncated`
    pub truncated: bool,
}

/// `RotationsListEntry`
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct RotationsListEntry {
    /// `KeyId`
    pub key_id: KeyId,
    /// `KeyMaterialId`
    pub key_material_id: MaterialId,
    /// `KeyMaterialDescription`, of imported material.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_material_description: Option<String>,
    /// `ImportState`, of imported material.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub import_state: Option<ImportState>,
    /// `KeyMaterialState`
    pub key_material_state: MaterialState,
    /// `ExpirationModel`, of imported material.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expiration_model: Option<ExpirationModel>,
    /// `ValidTo`, of imported material that expires.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub valid_to: Option<Timestamp>,
    /// `RotationDate`; none for the first material.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rotation_date: Option<Timestamp>,
    /// `RotationType`; none for the first material.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rotation_type: Option<RotationType>,
    /// `RetiredDate`, which AWS KMS does not have: when the material was destroyed while its key stayed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retired_date: Option<Timestamp>,
}

/// Whether a key is of a kind that rotates: symmetric, and `automatic`ally only with material of
/// the key manager's own.
fn check_kind(call: &Call<'_>, row: &KeyRow, automatic: bool) -> Result<()> {
    let arn = || key_arn(&row.place(), call.kms().account_id());
    if !row.spec.is_symmetric() {
        return Err(KmsError::UnsupportedOperation(format!(
            "{} key spec is {}, which does not support key rotation.",
            arn(),
            row.spec
        )));
    }
    if automatic && row.origin != Origin::AwsKms {
        return Err(KmsError::UnsupportedOperation(format!(
            "{} origin is {} which is not valid for this operation.",
            arn(),
            row.origin
        )));
    }
    Ok(())
}

/// As [`check_kind`], for what changes the rotation: that of a multi-Region key is the primary's.
fn check_changeable(call: &Call<'_>, row: &KeyRow, automatic: bool) -> Result<()> {
    check_kind(call, row, automatic)?;
    if row.is_primary() {
        return Ok(());
    }
    Err(KmsError::UnsupportedOperation(format!(
        "{} is a multi-Region replica key; its rotation is that of the primary key.",
        key_arn(&row.place(), call.kms().account_id())
    )))
}

/// The kind first, whatever the state: as AWS does.
fn rotating_row(
    call: &Call<'_>,
    change: &Change<'_>,
    operation: Operation,
    place: &Place,
    facts: &Facts<'_>,
    automatic: bool,
) -> Result<KeyRow> {
    let row = call.row_in_any_state(change, operation, place, facts)?;
    check_changeable(call, &row, automatic)?;
    row.state
        .allows(operation, || key_arn(place, call.kms().account_id()))?;
    Ok(row)
}

impl Request for EnableKeyRotationRequest {
    const OPERATION: Operation = Operation::EnableKeyRotation;
    type Response = ();

    fn run(&self, call: &Call<'_>) -> Result<()> {
        let period_days = self
            .rotation_period_in_days
            .map_or(DEFAULT_PERIOD_DAYS, Number::get);
        let facts = Facts {
            rotation_period_days: Some(period_days),
            ..Facts::default()
        };
        let place = call.key_place(&self.key_id)?;
        call.change(|change| {
            let row = rotating_row(call, change, Self::OPERATION, &place, &facts, true)?;
            let since = if row.schedule.enabled {
                row.schedule.since
            } else {
                call.now()
            };
            change.set_schedule(
                &place.id,
                &Schedule {
                    enabled: true,
                    period_days,
                    since,
                },
            )
        })
    }
}

impl Request for DisableKeyRotationRequest {
    const OPERATION: Operation = Operation::DisableKeyRotation;
    type Response = ();

    fn run(&self, call: &Call<'_>) -> Result<()> {
        let place = call.key_place(&self.key_id)?;
        call.change(|change| {
            let facts = Facts::default();
            let row = rotating_row(call, change, Self::OPERATION, &place, &facts, true)?;
            change.set_schedule(
                &place.id,
                &Schedule {
                    enabled: false,
                    ..row.schedule
                },
            )
        })
    }
}

impl Request for GetKeyRotationStatusRequest {
    const OPERATION: Operation = Operation::GetKeyRotationStatus;
    type Response = GetKeyRotationStatusResponse;

    fn run(&self, call: &Call<'_>) -> Result<GetKeyRotationStatusResponse> {
        let key = call.manage_key(&self.key_id, Self::OPERATION, &Facts::default())?;
        // Imported material rotates on demand: there is a status, and no schedule.
        check_kind(call, &key.row, false)?;
        let schedule = &key.row.schedule;
        Ok(GetKeyRotationStatusResponse {
            key_rotation_enabled: schedule.enabled,
            key_id: key.row.id,
            rotation_period_in_days: schedule.enabled.then_some(schedule.period_days),
            next_rotation_date: schedule.next(),
        })
    }
}

impl Request for RotateKeyOnDemandRequest {
    const OPERATION: Operation = Operation::RotateKeyOnDemand;
    type Response = RotateKeyOnDemandResponse;

    fn run(&self, call: &Call<'_>) -> Result<RotateKeyOnDemandResponse> {
        let place = call.key_place(&self.key_id)?;
        let limit = i64::from(call.kms().on_demand_rotation_limit()?);
        call.change(|change| {
            let facts = Facts::default();
            let row = rotating_row(call, change, Self::OPERATION, &place, &facts, false)?;
            if row.manager == KeyManager::Customer && change.on_demand_rotations(&place)? >= limit {
                return Err(KmsError::LimitExceeded(format!(
                    "{} was rotated on demand {limit} times, as often as a key may be",
                    key_arn(&place, call.kms().account_id())
                )));
            }
            if row.origin == Origin::External {
                rotate_imported(call, change, &row)
            } else {
                let id = change.rotate(&row, RotationType::OnDemand, call.now())?;
                call.used_material(&id);
                Ok(())
            }
        })?;
        Ok(RotateKeyOnDemandResponse { key_id: place.id })
    }
}

/// Makes the imported material that waits for it current, in all Regions: each must have it.
fn rotate_imported(call: &Call<'_>, change: &Change<'_>, row: &KeyRow) -> Result<()> {
    let waiting = |row: &MaterialRow| row.state == MaterialState::PendingRotation && row.present;
    let mut rows = Vec::new();
    for key in KeyRow::of_set(change.sql, &row.id)? {
        let materials = MaterialRow::list(change.sql, &key.place())?;
        let Some(material) = materials.into_iter().find(waiting) else {
            return Err(KmsError::InvalidState(format!(
                "{} has no imported key material that waits for its rotation.",
                key_arn(&key.place(), call.kms().account_id())
            )));
        };
        rows.push((key, material));
    }
    if rows.windows(2).any(|pair| pair[0].1.id != pair[1].1.id) {
        return Err(KmsError::InvalidState(format!(
            "The keys of {} have different key materials that wait for their rotation.",
            row.id
        )));
    }
    for (key, material) in &rows {
        change.rotate_imported(key, material, call.now())?;
        call.used_material(&material.id);
    }
    Ok(())
}

impl Request for ListKeyRotationsRequest {
    const OPERATION: Operation = Operation::ListKeyRotations;
    type Response = ListKeyRotationsResponse;

    fn run(&self, call: &Call<'_>) -> Result<ListKeyRotationsResponse> {
        let limit = self.page.limit(100, 1000)?;
        let after = self.page.after_number("rotations")?;
        let key = call.manage_key(&self.key_id, Self::OPERATION, &Facts::default())?;
        check_kind(call, &key.row, false)?;
        let place = key.row.place();
        let all = self.include_key_material == Some(IncludeKeyMaterial::All);
        let rows = call
            .kms()
            .store
            .read(|sql| MaterialRow::list(sql, &place))?;
        let shown = rows
            .into_iter()
            .filter(|row| row.generation > after)
            .filter(|row| all || row.rotation.is_some())
            .collect();
        let listing = Listing::cut(shown, limit, "rotations", |row: &MaterialRow| {
            row.generation.to_string()
        });
        let imported = key.row.origin == Origin::External;
        Ok(ListKeyRotationsResponse {
            rotations: listing
                .entries
                .into_iter()
                .map(|row| entry(place.id, row, imported))
                .collect(),
            truncated: listing.next_marker.is_some(),
            next_marker: listing.next_marker,
        })
    }
}

fn entry(key_id: KeyId, row: MaterialRow, imported: bool) -> RotationsListEntry {
    RotationsListEntry {
        key_id,
        key_material_id: row.id,
        key_material_description: row.description,
        import_state: imported.then_some(if row.present {
            ImportState::Imported
        } else {
            ImportState::PendingImport
        }),
        key_material_state: row.state,
        expiration_model: (imported && row.present).then_some(if row.valid_to.is_some() {
            ExpirationModel::Expires
        } else {
            ExpirationModel::DoesNotExpire
        }),
        valid_to: row.valid_to,
        rotation_date: row.rotation.map(|(date, _)| date),
        rotation_type: row.rotation.map(|(_, kind)| kind),
        retired_date: row.retired,
    }
}
