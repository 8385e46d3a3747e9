//! EnableKeyRotation, DisableKeyRotation, GetKeyRotationStatus, RotateKeyOnDemand,
//! ListKeyRotations, and the automatic rotation itself.

use std::ops::RangeInclusive;

use super::super::clock::Timestamp;
use super::super::error::{KmsError, Result};
use super::super::id::{KeyId, MaterialId};
use super::super::reference::KeyRef;
use super::super::spec::{KeyManager, RotationType};
use super::super::state::{KeyState, Operation};
use super::super::store::{Change, DEFAULT_PERIOD_DAYS, KeyRow, MaterialRow, Schedule};
use super::super::{Kms, Via};
use super::{Listing, Page};

/// `RotationPeriodInDays`
const PERIOD_DAYS: RangeInclusive<u32> = 90..=2560;

/// What GetKeyRotationStatus answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RotationStatus {
    /// `KeyId`
    pub key_id: KeyId,
    /// `KeyRotationEnabled`
    pub enabled: bool,
    /// `RotationPeriodInDays`, when rotation is enabled.
    pub period_days: Option<u32>,
    /// `NextRotationDate`, when rotation is enabled.
    pub next_rotation_date: Option<Timestamp>,
}

/// Which materials ListKeyRotations shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IncludeKeyMaterial {
    /// `ROTATIONS_ONLY`: those that a rotation made.
    #[default]
    RotationsOnly,
    /// `ALL_KEY_MATERIAL`: the first one too.
    All,
}

/// `RotationsListEntry`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RotationEntry {
    /// `KeyId`
    pub key_id: KeyId,
    /// `KeyMaterialId`
    pub material: MaterialId,
    /// `KeyMaterialState`: whether it is `CURRENT` (or else `NON_CURRENT`).
    pub current: bool,
    /// `RotationDate` and `RotationType`; none for the first material.
    pub rotation: Option<(Timestamp, RotationType)>,
}

impl Kms {
    /// EnableKeyRotation: every `period_days` (90 to 2560, 365 unless given) from now on. When it
    /// is enabled already the period changes, and still counts from where it did.
    ///
    /// # Errors
    /// [`KmsError::Validation`], [`KmsError::NotFound`], [`KmsError::Disabled`],
    /// [`KmsError::AccessDenied`].
    pub fn enable_key_rotation(&self, key: &KeyRef, period_days: Option<u32>) -> Result<()> {
        let period_days = period_days.unwrap_or(DEFAULT_PERIOD_DAYS);
        if !PERIOD_DAYS.contains(&period_days) {
            return Err(KmsError::Validation(format!(
                "RotationPeriodInDays is {period_days}, but must be between {} and {}",
                PERIOD_DAYS.start(),
                PERIOD_DAYS.end()
            )));
        }
        let id = self.resolve_key(key)?;
        let now = self.now();
        self.store.change(|change| {
            let row = self.authorized_row(change, Via::User, Operation::EnableKeyRotation, &id)?;
            let since = if row.schedule.enabled {
                row.schedule.since
            } else {
                now
            };
            change.set_schedule(
                &id,
                &Schedule {
                    enabled: true,
                    period_days,
                    since,
                },
            )
        })
    }

    /// DisableKeyRotation.
    ///
    /// # Errors
    /// [`KmsError::NotFound`], [`KmsError::Disabled`], [`KmsError::AccessDenied`].
    pub fn disable_key_rotation(&self, key: &KeyRef) -> Result<()> {
        let id = self.resolve_key(key)?;
        self.store.change(|change| {
            let row = self.authorized_row(change, Via::User, Operation::DisableKeyRotation, &id)?;
            change.set_schedule(
                &id,
                &Schedule {
                    enabled: false,
                    ..row.schedule
                },
            )
        })
    }

    /// GetKeyRotationStatus.
    ///
    /// # Errors
    /// [`KmsError::NotFound`].
    pub fn get_key_rotation_status(&self, key: &KeyRef) -> Result<RotationStatus> {
        let id = self.resolve_key(key)?;
        let key = self.authorized(Via::User, Operation::GetKeyRotationStatus, &id)?;
        let schedule = &key.row.schedule;
        Ok(RotationStatus {
            key_id: id,
            enabled: schedule.enabled,
            period_days: schedule.enabled.then_some(schedule.period_days),
            next_rotation_date: schedule.next(),
        })
    }

    /// RotateKeyOnDemand: makes new material current at once. The automatic schedule stays. A
    /// volume may also rotate a service-managed key, without limit.
    ///
    /// # Errors
    /// [`KmsError::NotFound`], [`KmsError::Disabled`], [`KmsError::LimitExceeded`],
    /// [`KmsError::UnsupportedOperation`] (a service-managed key, by a user).
    pub fn rotate_key_on_demand(&self, via: Via, key: &KeyRef) -> Result<KeyId> {
        let id = self.resolve_key(key)?;
        let limit = i64::from(self.on_demand_rotation_limit()?);
        let now = self.now();
        self.store.change(|change| {
            let row = self.authorized_row(change, via, Operation::RotateKeyOnDemand, &id)?;
            if row.manager == KeyManager::Customer && change.on_demand_rotations(&id)? >= limit {
                return Err(KmsError::LimitExceeded(format!(
                    "{} was rotated on demand {limit} times, as often as a key may be",
                    self.key_arn(&id)
                )));
            }
            change.rotate(&id, RotationType::OnDemand, now)
        })?;
        Ok(id)
    }

    /// ListKeyRotations, oldest first; 100 unless told otherwise, at most 1000.
    ///
    /// # Errors
    /// [`KmsError::NotFound`], [`KmsError::Validation`], [`KmsError::InvalidMarker`].
    pub fn list_key_rotations(
        &self,
        key: &KeyRef,
        include: IncludeKeyMaterial,
        page: &Page,
    ) -> Result<Listing<RotationEntry>> {
        let limit = page.limit(100, 1000)?;
        let after = page.after_number("rotations")?;
        let id = self.resolve_key(key)?;
        self.authorized(Via::User, Operation::ListKeyRotations, &id)?;
        let rows = self.store.read(|sql| MaterialRow::list(sql, &id))?;
        let current = rows.last().map(|row| row.generation);
        let shown = rows
            .into_iter()
            .filter(|row| row.generation > after)
            .filter(|row| include == IncludeKeyMaterial::All || row.rotation.is_some())
            .collect();
        let listing = Listing::cut(shown, limit, "rotations", |row| row.generation.to_string());
        Ok(listing.map(|row: MaterialRow| RotationEntry {
            key_id: id,
            material: row.id,
            current: Some(row.generation) == current,
            rotation: row.rotation.map(|kind| (row.created, kind)),
        }))
    }

    /// Rotates the keys whose automatic rotation is due, and says which: when a keystore is opened,
    /// and from time to time while it is.
    ///
    /// # Errors
    /// [`KmsError::Busy`], [`KmsError::Database`]; then none was rotated.
    pub fn rotate_due(&self, now: Timestamp) -> Result<Vec<KeyId>> {
        // Most of the time there is nothing to do, and no reason to lock out writers.
        if self.store.read(|sql| KeyRow::due(sql, now))?.is_empty() {
            return Ok(Vec::new());
        }
        self.store.change(|change| {
            // Asked again: another process may have been faster.
            let due = KeyRow::due(change.sql, now)?;
            for row in &due {
                debug_assert_eq!(row.state, KeyState::Enabled);
                change.rotate(&row.id, RotationType::Automatic, now)?;
            }
            Ok(due.into_iter().map(|row| row.id).collect())
        })
    }

    /// A key as it stands in the transaction, when `operation` is allowed on it.
    pub(in crate::kms) fn authorized_row(
        &self,
        change: &Change<'_>,
        via: Via,
        operation: Operation,
        id: &KeyId,
    ) -> Result<KeyRow> {
        let row = KeyRow::load(change.sql, id)?.ok_or_else(|| self.no_key(id))?;
        self.authorize(via, operation, &row)?;
        Ok(row)
    }
}
