//! ScheduleKeyDeletion, CancelKeyDeletion.

use serde::{Deserialize, Serialize};

use super::super::client::Call;
use super::super::clock::Timestamp;
use super::super::error::Result;
use super::super::needs::lost_with;
use super::super::policy::Facts;
use super::super::reference::key_arn;
use super::super::state::{KeyState, Operation};
use super::super::store::KeyRow;
use super::wire::{KeyName, Number};
use super::{Request, key_request};

/// The waiting period when none is given, in days.
const WINDOW_DAYS: u32 = 30;

/// ScheduleKeyDeletion.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all(serialize = "camelCase", deserialize = "PascalCase"))]
pub struct ScheduleKeyDeletionRequest {
    /// `KeyId`
    pub key_id: KeyName,
    /// `PendingWindowInDays`: 7 to 30.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pending_window_in_days: Option<Number<7, 30>>,
}

/// What ScheduleKeyDeletion answers.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct ScheduleKeyDeletionResponse {
    /// `KeyId`: the key's ARN.
    pub key_id: String,
    /// `DeletionDate`, unless the key waits for its replicas.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deletion_date: Option<Timestamp>,
    /// `KeyState`
    pub key_state: KeyState,
    /// `PendingWindowInDays`
    pub pending_window_in_days: u32,
}

key_request! {
    /// CancelKeyDeletion.
    CancelKeyDeletionRequest
}

/// What CancelKeyDeletion answers.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct CancelKeyDeletionResponse {
    /// `KeyId`: the key's ARN.
    pub key_id: String,
}

impl Request for ScheduleKeyDeletionRequest {
    const OPERATION: Operation = Operation::ScheduleKeyDeletion;
    type Response = ScheduleKeyDeletionResponse;

    /// The primary of a multi-Region key waits for its replicas to be deleted first. A key that a
    /// volume needs is refused, unless what will be lost was said.
    fn run(&self, call: &Call<'_>) -> Result<ScheduleKeyDeletionResponse> {
        let place = call.key_place(&self.key_id)?;
        let days = self.pending_window_in_days.map_or(WINDOW_DAYS, Number::get);
        let facts = Facts {
            deletion_window_days: Some(days),
            ..Facts::default()
        };
        call.change(|change| {
            let row = call.row(change, Self::OPERATION, &place, &facts)?;
            let keys = KeyRow::of_set(change.sql, &place.id)?.len();
            let (state, date) = if row.is_primary() && keys > 1 {
                (KeyState::PendingReplicaDeletion, None)
            } else {
                (KeyState::PendingDeletion, Some(call.now().plus_days(days)))
            };
            let lost = lost_with(change.sql, &row)?;
            let arn = key_arn(&place, call.kms().account_id());
            let foreseen = call.check_needed(change, &row, &lost, &arn)?;
            change.set_deletion(&place, state, Some(days), date)?;
            change.set_deletion_forced(&place, foreseen.as_deref())?;
            Ok(ScheduleKeyDeletionResponse {
                key_id: arn,
                deletion_date: date,
                key_state: state,
                pending_window_in_days: days,
            })
        })
    }
}

impl Request for CancelKeyDeletionRequest {
    const OPERATION: Operation = Operation::CancelKeyDeletion;
    type Response = CancelKeyDeletionResponse;

    /// The key is disabled then, or waits for its import.
    fn run(&self, call: &Call<'_>) -> Result<CancelKeyDeletionResponse> {
        let place = call.key_place(&self.key_id)?;
        call.change(|change| {
            let row = call.row(change, Self::OPERATION, &place, &Facts::default())?;
            let state = if change.has_all_secrets(&row)? {
                KeyState::Disabled
            } else {
                KeyState::PendingImport
            };
            change.set_deletion(&place, state, None, None)?;
            change.set_deletion_forced(&place, None)?;
            Ok(CancelKeyDeletionResponse {
                key_id: key_arn(&place, call.kms().account_id()),
            })
        })
    }
}
