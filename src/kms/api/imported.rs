//! DeleteImportedKeyMaterial, and what an import does to a key.

use serde::{Deserialize, Serialize};

use super::super::client::Call;
use super::super::error::{KmsError, Result};
use super::super::id::MaterialId;
use super::super::needs::lost_with;
use super::super::policy::Facts;
use super::super::reference::key_arn;
use super::super::spec::Origin;
use super::super::state::{KeyState, Operation};
use super::super::store::{Change, Import, KeyRow, MaterialRow, MaterialState};
use super::Request;
use super::wire::{KeyName, Text};

/// DeleteImportedKeyMaterial.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all(serialize = "camelCase", deserialize = "PascalCase"))]
pub struct DeleteImportedKeyMaterialRequest {
    /// `KeyId`
    pub key_id: KeyName,
    /// `KeyMaterialId`: the current one unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_material_id: Option<Text<64, 64>>,
}

/// What DeleteImportedKeyMaterial answers.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct DeleteImportedKeyMaterialResponse {
    /// `KeyId`: the key's ARN.
    pub key_id: String,
    /// `KeyMaterialId`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_material_id: Option<MaterialId>,
}

/// Whether a key is one whose material is imported.
///
/// # Errors
/// [`KmsError::UnsupportedOperation`].
pub(super) fn check_imported(call: &Call<'_>, key: &KeyRow) -> Result<()> {
    if key.origin == Origin::External {
        return Ok(());
    }
    Err(KmsError::UnsupportedOperation(format!(
        "{} origin is {} which is not valid for this operation.",
        key_arn(&key.place(), call.kms().account_id()),
        key.origin
    )))
}

impl Change<'_> {
    /// Puts imported material into a key; it can be used from then on, unless it is disabled.
    pub(super) fn import(&self, key: &KeyRow, import: &Import<'_>) -> Result<MaterialId> {
        let id = self.import_material(key, import)?;
        if key.state == KeyState::PendingImport && self.has_all_secrets(key)? {
            self.set_state(&key.place(), KeyState::Enabled)?;
        }
        Ok(id)
    }

    /// Whether the secrets of all materials that a key encrypts or decrypts with are there; those
    /// that were retired it does without.
    pub(super) fn has_all_secrets(&self, key: &KeyRow) -> Result<bool> {
        let rows = MaterialRow::list(self.sql, &key.place())?;
        let mut used = rows
            .iter()
            .filter(|row| row.state != MaterialState::PendingRotation && row.retired.is_none())
            .peekable();
        Ok(used.peek().is_some() && used.all(|row| row.present))
    }
}

impl Request for DeleteImportedKeyMaterialRequest {
    const OPERATION: Operation = Operation::DeleteImportedKeyMaterial;
    type Response = DeleteImportedKeyMaterialResponse;

    fn run(&self, call: &Call<'_>) -> Result<DeleteImportedKeyMaterialResponse> {
        let given: Option<MaterialId> = match &self.key_material_id {
            Some(id) => Some(id.as_str().parse()?),
            None => None,
        };
        let place = call.key_place(&self.key_id)?;
        let deleted = call.change(|change| {
            let key = call.row(change, Self::OPERATION, &place, &Facts::default())?;
            check_imported(call, &key)?;
            let rows = MaterialRow::list(change.sql, &place)?;
            let wanted = |row: &&MaterialRow| match given {
                Some(id) => row.id == id,
                None => row.state == MaterialState::Current,
            };
            let row = rows.iter().find(wanted);
            if let (None, Some(id)) = (row, given) {
                return Err(KmsError::NotFound(format!(
                    "{} has no key material {id}",
                    key_arn(&place, call.kms().account_id())
                )));
            }
            if let Some(row) = row.filter(|row| row.present) {
                let arn = key_arn(&place, call.kms().account_id());
                let what = format!("key material {} of {arn}", row.id);
                let mut lost = lost_with(change.sql, &key)?;
                lost.retain(|lost| lost.id == row.id);
                call.check_needed(change, &key, &lost, &what)?;
                change.lose_secret(&key, row)?;
            }
            let id = row.map(|row| row.id);
            Ok(id.filter(|_| key.spec.is_symmetric()))
        })?;
        call.kms().store.clean()?;
        Ok(DeleteImportedKeyMaterialResponse {
            key_id: key_arn(&place, call.kms().account_id()),
            key_material_id: deleted,
        })
    }
}
