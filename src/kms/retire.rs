//! Destroying key material that a rotation has left behind, while its key stays. AWS KMS has no such
//! operation: there old material lives as long as its key.

use serde::Serialize;

use super::Kms;
use super::client::Client;
use super::error::{KmsError, Result};
use super::id::{KeyId, MaterialId};
use super::policy::Facts;
use super::reference::key_arn;
use super::spec::KeyManager;
use super::state::Operation;
use super::store::{KeyRow, MaterialRow, MaterialState};

/// Digits of a material's id that name it, at least: as many as a wrapped key has of it.
const DIGITS_LEAST: usize = 16;

/// Which materials.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OldMaterial {
    /// That of this id, or of the id that begins so: 16 hexadecimal digits or more.
    One(String),
    /// All but the current one.
    All,
}

/// What was destroyed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Retired {
    /// The key's ARN.
    pub key_arn: String,
    /// The materials, oldest first; those that were gone before are not among them.
    pub materials: Vec<MaterialId>,
}

/// As it is recorded.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Shown<'a> {
    key_id: &'a KeyId,
    key_material_ids: Vec<MaterialId>,
}

impl OldMaterial {
    /// Those that are meant and are still there.
    fn choose(&self, arn: &str, rows: Vec<MaterialRow>) -> Result<Vec<MaterialRow>> {
        let prefix = match self {
            Self::All => {
                let old = |row: &MaterialRow| row.state == MaterialState::NonCurrent && row.present;
                return Ok(rows.into_iter().filter(old).collect());
            }
            Self::One(prefix) => prefix.to_ascii_lowercase(),
        };
        let is_hex = prefix.bytes().all(|b| b.is_ascii_hexdigit());
        if !is_hex || !(DIGITS_LEAST..=64).contains(&prefix.len()) {
            return Err(KmsError::Validation(format!(
                "'{}' is no key material id: 64 hexadecimal digits, of which the first \
                 {DIGITS_LEAST} are enough",
                prefix.escape_debug()
            )));
        }
        let row = rows
            .into_iter()
            .find(|row| row.id.to_string().starts_with(&prefix))
            .ok_or_else(|| KmsError::NotFound(format!("{arn} has no key material {prefix}")))?;
        match row.state {
            MaterialState::Current => Err(KmsError::InvalidState(format!(
                "key material {} of {arn} is the current one: rotate the key first",
                row.id
            ))),
            MaterialState::PendingRotation => Err(KmsError::InvalidState(format!(
                "key material {} of {arn} waits for its rotation; DeleteImportedKeyMaterial \
                 deletes it",
                row.id
            ))),
            MaterialState::NonCurrent => {
                Ok(Some(row).filter(|row| row.present).into_iter().collect())
            }
        }
    }
}

impl Client<'_> {
    /// Destroys key materials of a key that are not current any more, so that nothing wrapped under
    /// them can ever be opened; the key stays as it is. They are overwritten, and the file is
    /// cleaned of them. Of a multi-Region key, those of all Regions in this keystore; keystores with
    /// replicas keep theirs. Recorded as RetireKeyMaterial, with the rights for ScheduleKeyDeletion,
    /// which of a service-managed key the account root has.
    ///
    /// # Errors
    /// [`KmsError::StillNeeded`] when volumes need one of them, see [`Client::forced`];
    /// [`KmsError::NotFound`]; [`KmsError::InvalidState`] for the current one and one that waits for
    /// its rotation; [`KmsError::AccessDenied`].
    pub fn retire_key_material(&self, key: &KeyId, which: &OldMaterial) -> Result<Retired> {
        let kms: &Kms = self.kms();
        let place = kms.place_anywhere(&kms.default_place(key))?;
        let arn = key_arn(&place, kms.account_id());
        let rows = kms.store.read(|sql| MaterialRow::list(sql, &place))?;
        let chosen = which.choose(&arn, rows)?;
        let materials: Vec<MaterialId> = chosen.iter().map(|row| row.id).collect();
        let shown = Shown {
            key_id: key,
            key_material_ids: materials.clone(),
        };
        let operation = Operation::ScheduleKeyDeletion;
        self.perform_as("RetireKeyMaterial", operation, &shown, |call| {
            call.change(|change| {
                let row = KeyRow::load(change.sql, &place)?.ok_or_else(|| kms.no_key(&place))?;
                if row.manager == KeyManager::Service {
                    call.made(&place);
                    call.authorize_account()?;
                } else {
                    call.row_in_any_state(change, operation, &place, &Facts::default())?;
                }
                // As they stand now: another process may have been here since.
                let rows = MaterialRow::list(change.sql, &place)?;
                let still = |row: &MaterialRow| {
                    row.present
                        && row.state == MaterialState::NonCurrent
                        && materials.contains(&row.id)
                };
                let lost: Vec<MaterialRow> = rows.into_iter().filter(still).collect();
                let what = match &lost[..] {
                    [one] => format!("key material {} of {arn}", one.id),
                    many => format!("one of {} old key materials of {arn}", many.len()),
                };
                call.check_needed(change, &row, &lost, &what)?;
                for row in &lost {
                    change.retire_material(&place.id, row, call.now())?;
                }
                Ok(())
            })
        })?;
        kms.store.clean()?;
        Ok(Retired {
            key_arn: arn,
            materials,
        })
    }
}
