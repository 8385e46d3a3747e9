//! What replicas in other keystores need: the keystore's own key pair, and materials as copies.

use rusqlite::{Connection, OptionalExtension, params};
use serde::{Deserialize, Serialize};

use super::super::api::wire::PlainBytes;
use super::super::clock::Timestamp;
use super::super::error::{KmsError, Result};
use super::super::id::{KeyId, MaterialId};
use super::super::spec::{KeySpec, RotationType};
use super::materials::{MaterialState, NewMaterial};
use super::seal::{Sealer, Slot};
use super::{Change, Place, open_materials};
use crate::crypto;
use crate::secret::{Key256, SecretText};

const SLOT: Slot<'static> = Slot {
    table: "transfer_key",
    id: "",
    generation: 1,
};

/// A material on its way to another keystore.
#[derive(Deserialize, Serialize)]
pub(in crate::kms) struct CopiedMaterial {
    id: String,
    generation: i64,
    state: MaterialState,
    created: i64,
    rotated: Option<i64>,
    rotation_type: Option<RotationType>,
    secret: PlainBytes,
}

impl CopiedMaterial {
    /// Bytes that it takes as JSON, at most.
    pub(in crate::kms) fn room(&self) -> usize {
        512 + 2 * self.secret.expose().len()
    }
}

/// The private key of the keystore's pair, if it was made already.
pub(in crate::kms) fn transfer_key(sql: &Connection, sealer: &Sealer) -> Result<Option<Key256>> {
    let sealed: Option<Vec<u8>> = sql
        .query_row("SELECT sealed FROM transfer_key", [], |row| row.get(0))
        .optional()?;
    sealed.map(|sealed| sealer.open(SLOT, &sealed)).transpose()
}

/// The materials that all Regions' keys of an id share, oldest first. Imported material is not
/// among them.
pub(in crate::kms) fn copy_materials(
    sql: &Connection,
    sealer: &Sealer,
    place: &Place,
    spec: KeySpec,
) -> Result<Vec<CopiedMaterial>> {
    let shared = open_materials(sql, sealer, place, spec)?;
    Ok(shared
        .into_iter()
        .filter(|material| material.row.region.is_empty())
        .map(|material| {
            let row = &material.row;
            CopiedMaterial {
                id: row.id.to_string(),
                generation: row.generation,
                state: row.state,
                created: row.created.millis(),
                rotated: row.rotation.map(|(date, _)| date.millis()),
                rotation_type: row.rotation.map(|(_, kind)| kind),
                secret: SecretText::new(material.secret.expose().to_vec()).into(),
            }
        })
        .collect())
}

impl Change<'_> {
    /// The private key of the keystore's pair, made on first use.
    pub(in crate::kms) fn make_transfer_key(&self, now: Timestamp) -> Result<Key256> {
        if let Some(key) = transfer_key(self.sql, self.sealer)? {
            return Ok(key);
        }
        let key: Key256 = crypto::random_key();
        self.sql.execute(
            "INSERT INTO transfer_key VALUES (1, ?1, ?2)",
            params![self.sealer.seal(SLOT, &key), now.millis()],
        )?;
        Ok(key)
    }

    /// Puts a material of another keystore beside those that are there; one that is there takes
    /// the part that it has.
    ///
    /// # Errors
    /// [`KmsError::Conflict`] when this keystore's key went another way: it was rotated here.
    pub(in crate::kms) fn put_material(&self, key: &KeyId, copy: &CopiedMaterial) -> Result<()> {
        let id: MaterialId = copy.id.parse()?;
        let there: Option<Vec<u8>> = self
            .sql
            .query_row(
                "SELECT id FROM materials WHERE key = ?1 AND region = '' AND generation = ?2",
                params![key.to_string(), copy.generation],
                |row| row.get(0),
            )
            .optional()?;
        match there {
            Some(there) if there == id.0 => {
                self.sql.execute(
                    "UPDATE materials SET state = ?3
                     WHERE key = ?1 AND region = '' AND generation = ?2",
                    params![key.to_string(), copy.generation, copy.state.as_str()],
                )?;
                Ok(())
            }
            Some(_) => Err(KmsError::Conflict(format!(
                "key {key} has key material of this keystore's own: both were rotated apart"
            ))),
            None => {
                if copy.state == MaterialState::Current {
                    // The one that was current may have been retired there: it doesn't come again.
                    self.sql.execute(
                        "UPDATE materials SET state = 'NON_CURRENT'
                         WHERE key = ?1 AND region = '' AND state = 'CURRENT' AND generation < ?2",
                        params![key.to_string(), copy.generation],
                    )?;
                }
                self.insert_material_at(
                    key,
                    "",
                    copy.generation,
                    &NewMaterial {
                        id,
                        state: copy.state,
                        secret: copy.secret.expose(),
                        rotation: copy
                            .rotation_type
                            .zip(copy.rotated.map(Timestamp::from_millis)),
                        valid_to: None,
                        description: None,
                        now: Timestamp::from_millis(copy.created),
                    },
                )
            }
        }
    }
}
