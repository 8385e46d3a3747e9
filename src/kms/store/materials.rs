//! Key materials as rows.

use rusqlite::{Connection, Row, params};

use super::super::clock::Timestamp;
use super::super::error::{KmsError, Result};
use super::super::id::{KeyId, MaterialId};
use super::super::key_pair;
use super::super::spec::{KeySpec, RotationType};
use super::super::words::words;
use super::keys::{Place, word};
use super::seal::{Sealer, Slot};
use super::{Change, KeyRow};
use crate::crypto::{self, HmacKey};
use crate::secret::{Key256, SecretBytes, SecretText};

words! {
    /// Which part a key material has.
    MaterialState {
        /// It encrypts and decrypts.
        Current = "CURRENT",
        /// It decrypts what it encrypted before.
        NonCurrent = "NON_CURRENT",
        /// It was imported, and becomes current by a rotation.
        PendingRotation = "PENDING_ROTATION",
    }
}

/// The secret of one material.
pub(in crate::kms) enum MaterialSecret {
    /// An AES-256 key.
    Symmetric(Key256),
    /// A private key in PKCS#8, or the key of an HMAC.
    Bytes(SecretBytes),
}

impl MaterialSecret {
    pub(in crate::kms) fn expose(&self) -> &[u8] {
        match self {
            Self::Symmetric(key) => key.expose(),
            Self::Bytes(bytes) => bytes.expose(),
        }
    }
}

/// What can be said of a key material.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::kms) struct MaterialRow {
    pub(in crate::kms) generation: i64,
    pub(in crate::kms) id: MaterialId,
    pub(in crate::kms) state: MaterialState,
    /// Whether its secret is there: imported material can be deleted, and expires.
    pub(in crate::kms) present: bool,
    pub(in crate::kms) created: Timestamp,
    /// When and how it became current; none for a key's first material.
    pub(in crate::kms) rotation: Option<(Timestamp, RotationType)>,
    pub(in crate::kms) valid_to: Option<Timestamp>,
    pub(in crate::kms) description: Option<String>,
    /// Empty: of all Regions' keys.
    pub(in crate::kms) region: String,
    /// When it was destroyed while its key stayed.
    pub(in crate::kms) retired: Option<Timestamp>,
}

const COLUMNS: &str = "generation, id, state, sealed IS NOT NULL, created, rotated, rotation_type,
    valid_to, description, region, retired";

/// What the materials of a place are chosen by.
const OF_PLACE: &str = "key = ?1 AND region IN ('', ?2)";

/// A material that was imported.
pub(in crate::kms) struct Import<'a> {
    pub(in crate::kms) secret: &'a [u8],
    pub(in crate::kms) valid_to: Option<Timestamp>,
    pub(in crate::kms) description: Option<&'a str>,
    /// Whether it is to be new; none: as the key needs it.
    pub(in crate::kms) new: Option<bool>,
    /// The id that it must have.
    pub(in crate::kms) id: Option<MaterialId>,
    pub(in crate::kms) now: Timestamp,
}

impl MaterialRow {
    fn from_row(row: &Row<'_>) -> Result<Self> {
        let rotation = match row.get::<_, Option<i64>>(5)? {
            None => None,
            Some(at) => Some((
                Timestamp::from_millis(at),
                word(row, 6, RotationType::from_word)?,
            )),
        };
        Ok(Self {
            generation: row.get(0)?,
            id: MaterialId(row.get(1)?),
            state: word(row, 2, MaterialState::from_word)?,
            present: row.get(3)?,
            created: Timestamp::from_millis(row.get(4)?),
            rotation,
            valid_to: row.get::<_, Option<i64>>(7)?.map(Timestamp::from_millis),
            description: row.get(8)?,
            region: row.get(9)?,
            retired: row.get::<_, Option<i64>>(10)?.map(Timestamp::from_millis),
        })
    }

    /// A key's materials, oldest first.
    pub(in crate::kms) fn list(sql: &Connection, place: &Place) -> Result<Vec<Self>> {
        let query = format!("SELECT {COLUMNS} FROM materials WHERE {OF_PLACE} ORDER BY generation");
        let mut query = sql.prepare_cached(&query)?;
        let mut rows = query.query([place.id.to_string().as_str(), place.region.as_str()])?;
        let mut materials = Vec::new();
        while let Some(row) = rows.next()? {
            materials.push(Self::from_row(row)?);
        }
        Ok(materials)
    }

    /// Keys with imported material whose time is over.
    pub(in crate::kms) fn due_expiry(sql: &Connection, now: Timestamp) -> Result<Vec<Place>> {
        let mut query = sql.prepare_cached(
            "SELECT DISTINCT region, key FROM materials
             WHERE valid_to <= ?1 AND sealed IS NOT NULL",
        )?;
        let mut rows = query.query([now.millis()])?;
        let mut keys = Vec::new();
        while let Some(row) = rows.next()? {
            keys.push(Place::from_row(row, 0, 1)?);
        }
        Ok(keys)
    }
}

fn slot(name: &str, generation: i64) -> Slot<'_> {
    Slot {
        table: "materials",
        id: name,
        generation,
    }
}

/// The AAD's name of a material's row.
fn slot_name(key: &KeyId, material: &MaterialId) -> String {
    format!("{key}/{material}")
}

/// A material with its secret.
pub(in crate::kms) struct OpenMaterial {
    pub(in crate::kms) row: MaterialRow,
    pub(in crate::kms) secret: MaterialSecret,
}

/// A key's materials whose secrets are there, oldest first.
pub(in crate::kms) fn open_materials(
    sql: &Connection,
    sealer: &Sealer,
    place: &Place,
    spec: KeySpec,
) -> Result<Vec<OpenMaterial>> {
    let query = format!(
        "SELECT {COLUMNS}, sealed FROM materials
         WHERE {OF_PLACE} AND sealed IS NOT NULL ORDER BY generation"
    );
    let mut query = sql.prepare_cached(&query)?;
    let mut rows = query.query([place.id.to_string().as_str(), place.region.as_str()])?;
    let mut materials = Vec::new();
    while let Some(row) = rows.next()? {
        let material = MaterialRow::from_row(row)?;
        let name = slot_name(&place.id, &material.id);
        let slot = slot(&name, material.generation);
        let stored = row.get_ref(11)?.as_blob().map_err(rusqlite::Error::from)?;
        let secret = if spec.is_symmetric() {
            MaterialSecret::Symmetric(sealer.open(slot, stored)?)
        } else {
            MaterialSecret::Bytes(sealer.open_bytes(slot, stored)?)
        };
        materials.push(OpenMaterial {
            row: material,
            secret,
        });
    }
    Ok(materials)
}

/// A new secret for a key of some kind. A pair of RSA keys takes a second or more: no transaction
/// should wait for it.
pub(in crate::kms) fn new_secret(spec: KeySpec) -> Result<MaterialSecret> {
    if spec.is_symmetric() {
        return Ok(MaterialSecret::Symmetric(crypto::random_key()));
    }
    if let Some(hash) = spec.hmac() {
        return Ok(MaterialSecret::Bytes(HmacKey::generate(hash)));
    }
    let pair = spec.key_pair().ok_or_else(|| {
        KmsError::UnsupportedOperation(format!("There are no keys of the kind {spec}."))
    })?;
    Ok(MaterialSecret::Bytes(key_pair::generate(pair)?.private))
}

impl Change<'_> {
    /// Makes a new material the current one of all Regions' keys.
    pub(in crate::kms) fn rotate(
        &self,
        key: &KeyRow,
        rotation: RotationType,
        now: Timestamp,
    ) -> Result<MaterialId> {
        let id = self.insert_new_material(&key.id, &new_secret(key.spec)?, Some(rotation), now)?;
        if rotation == RotationType::Automatic {
            self.sql.execute(
                "UPDATE key_sets SET rotation_since = ?2 WHERE id = ?1",
                params![key.id.to_string(), now.millis()],
            )?;
        }
        self.touch(&key.id)?;
        Ok(id)
    }

    /// Makes a new material current; the one until now still decrypts.
    pub(in crate::kms) fn insert_new_material(
        &self,
        key: &KeyId,
        secret: &MaterialSecret,
        rotation: Option<RotationType>,
        now: Timestamp,
    ) -> Result<MaterialId> {
        let id = self.free_material_id(key)?;
        self.sql.execute(
            "UPDATE materials SET state = 'NON_CURRENT'
             WHERE key = ?1 AND region = '' AND state = 'CURRENT'",
            [key.to_string()],
        )?;
        self.insert_material(
            key,
            "",
            &NewMaterial {
                id,
                state: MaterialState::Current,
                secret: secret.expose(),
                rotation: rotation.map(|kind| (kind, now)),
                valid_to: None,
                description: None,
                now,
            },
        )?;
        Ok(id)
    }

    /// An id for a new material. Blobs name a material by the first bytes of its id: no two of a
    /// key share them.
    fn free_material_id(&self, key: &KeyId) -> Result<MaterialId> {
        let mut query = self
            .sql
            .prepare_cached("SELECT id FROM materials WHERE key = ?1")?;
        let taken = query
            .query_map([key.to_string()], |row| row.get(0).map(MaterialId))?
            .collect::<rusqlite::Result<Vec<_>>>()?;
        loop {
            let id = MaterialId::random(key);
            if taken.iter().all(|other| other.prefix() != id.prefix()) {
                return Ok(id);
            }
        }
    }

    fn insert_material(&self, key: &KeyId, region: &str, new: &NewMaterial<'_>) -> Result<()> {
        let generation: i64 = self.sql.query_row(
            "SELECT ifnull(max(generation), 0) + 1 FROM materials WHERE key = ?1 AND region = ?2",
            [key.to_string().as_str(), region],
            |row| row.get(0),
        )?;
        self.insert_material_at(key, region, generation, new)
    }

    pub(super) fn insert_material_at(
        &self,
        key: &KeyId,
        region: &str,
        generation: i64,
        new: &NewMaterial<'_>,
    ) -> Result<()> {
        let name = slot_name(key, &new.id);
        self.sql.execute(
            "INSERT INTO materials (key, region, generation, id, state, sealed, created, rotated,
                 rotation_type, valid_to, description, fingerprint)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
            params![
                key.to_string(),
                region,
                generation,
                new.id.0,
                new.state.as_str(),
                self.sealer.seal_bytes(slot(&name, generation), new.secret),
                new.now.millis(),
                new.rotation.map(|(_, date)| date.millis()),
                new.rotation.map(|(kind, _)| kind.as_str()),
                new.valid_to.map(Timestamp::millis),
                new.description,
                self.fingerprint(key, new.secret),
            ],
        )?;
        Ok(())
    }

    /// What tells the same material of a key when it is imported again.
    fn fingerprint(&self, key: &KeyId, secret: &[u8]) -> [u8; 32] {
        let bytes = SecretText::new([key.to_string().as_bytes(), &[0], secret].concat());
        self.sealer.tag("key material", &bytes)
    }

    /// How often a key was rotated on demand.
    pub(in crate::kms) fn on_demand_rotations(&self, place: &Place) -> Result<i64> {
        Ok(self.sql.query_row(
            &format!("SELECT count(*) FROM materials WHERE {OF_PLACE} AND rotation_type = ?3"),
            [
                place.id.to_string().as_str(),
                place.region.as_str(),
                RotationType::OnDemand.as_str(),
            ],
            |row| row.get(0),
        )?)
    }

    /// Puts imported material into one Region's key. Says which it is.
    ///
    /// # Errors
    /// [`KmsError::IncorrectKeyMaterial`] when it is not the one it has to be,
    /// [`KmsError::InvalidState`] when another one waits for a rotation.
    pub(in crate::kms) fn import_material(
        &self,
        key: &KeyRow,
        import: &Import<'_>,
    ) -> Result<MaterialId> {
        let place = key.place();
        let rows = MaterialRow::list(self.sql, &place)?;
        let print = self.fingerprint(&key.id, import.secret);
        let known = self.material_of(&key.id, &print)?;
        let ours = known.filter(|id| rows.iter().any(|row| row.id == *id));
        let new = import.new.unwrap_or(rows.is_empty());
        let wrong = |why: &str| {
            Err(KmsError::IncorrectKeyMaterial(format!(
                "The key material is not the one of {}: {why}.",
                key.id
            )))
        };
        let id = match (ours, new) {
            (Some(id), false) => id,
            (Some(id), true) => {
                let row = rows.iter().find(|row| row.id == id);
                if row.is_none_or(|row| row.state != MaterialState::PendingRotation) {
                    return wrong("it has been imported before, so it is no new key material");
                }
                id
            }
            (None, false) => return wrong("it has never been imported into this key"),
            (None, true) => {
                let waiting = |row: &MaterialRow| row.state == MaterialState::PendingRotation;
                if rows.iter().any(waiting) {
                    return Err(KmsError::InvalidState(format!(
                        "{} has imported key material that waits for its rotation.",
                        key.id
                    )));
                }
                if !rows.is_empty() && !key.spec.is_symmetric() {
                    return wrong("keys of its kind have one key material only");
                }
                // The same in all Regions and keystores, so that blobs open in each.
                MaterialId::of_imported(&key.id, import.secret)
            }
        };
        if import.id.is_some_and(|expected| expected != id) {
            return wrong("its id is another one than the KeyMaterialId that was given");
        }
        if let Some(row) = rows.iter().find(|row| row.id == id) {
            let name = slot_name(&key.id, &id);
            self.sql.execute(
                "UPDATE materials SET sealed = ?4, valid_to = ?5, retired = NULL,
                     description = ifnull(?6, description)
                 WHERE key = ?1 AND region = ?2 AND generation = ?3",
                params![
                    key.id.to_string(),
                    row.region,
                    row.generation,
                    self.sealer
                        .seal_bytes(slot(&name, row.generation), import.secret),
                    import.valid_to.map(Timestamp::millis),
                    import.description
                ],
            )?;
        } else {
            let state = if rows.is_empty() {
                MaterialState::Current
            } else {
                MaterialState::PendingRotation
            };
            self.insert_material(
                &key.id,
                key.region.as_str(),
                &NewMaterial {
                    id,
                    state,
                    secret: import.secret,
                    rotation: None,
                    valid_to: import.valid_to,
                    description: import.description,
                    now: import.now,
                },
            )?;
        }
        self.touch(&key.id)?;
        Ok(id)
    }

    /// The material of a key, in any Region, with this fingerprint.
    fn material_of(&self, key: &KeyId, print: &[u8; 32]) -> Result<Option<MaterialId>> {
        let mut query = self.sql.prepare_cached(
            "SELECT id FROM materials WHERE key = ?1 AND fingerprint = ?2 LIMIT 1",
        )?;
        let mut rows = query.query(params![key.to_string(), print])?;
        Ok(match rows.next()? {
            Some(row) => Some(MaterialId(row.get(0)?)),
            None => None,
        })
    }

    /// Makes the imported material that waits for it the current one.
    pub(in crate::kms) fn rotate_imported(
        &self,
        key: &KeyRow,
        row: &MaterialRow,
        now: Timestamp,
    ) -> Result<()> {
        let place = [&key.id.to_string(), &row.region];
        self.sql.execute(
            "UPDATE materials SET state = 'NON_CURRENT'
             WHERE key = ?1 AND region = ?2 AND state = 'CURRENT'",
            place,
        )?;
        self.sql.execute(
            "UPDATE materials SET state = 'CURRENT', rotated = ?4, rotation_type = ?5
             WHERE key = ?1 AND region = ?2 AND generation = ?3",
            params![
                place[0],
                place[1],
                row.generation,
                now.millis(),
                RotationType::OnDemand.as_str()
            ],
        )?;
        self.touch(&key.id)
    }

    /// Destroys the secret of material that is not current any more; its key can be used on.
    pub(in crate::kms) fn retire_material(
        &self,
        key: &KeyId,
        row: &MaterialRow,
        now: Timestamp,
    ) -> Result<()> {
        self.delete_secret(key, row)?;
        self.sql.execute(
            "UPDATE materials SET retired = ?4
             WHERE key = ?1 AND region = ?2 AND generation = ?3",
            params![key.to_string(), row.region, row.generation, now.millis()],
        )?;
        Ok(())
    }

    /// Destroys the secret of a material; that it was there is kept.
    pub(in crate::kms) fn delete_secret(&self, key: &KeyId, row: &MaterialRow) -> Result<()> {
        let place = params![key.to_string(), row.region, row.generation];
        // Overwritten in place first: what is set to NULL leaves its bytes to `secure_delete` alone.
        self.sql.execute(
            "UPDATE materials SET sealed = zeroblob(length(sealed))
             WHERE key = ?1 AND region = ?2 AND generation = ?3",
            place,
        )?;
        self.sql.execute(
            "UPDATE materials SET sealed = NULL, valid_to = NULL
             WHERE key = ?1 AND region = ?2 AND generation = ?3",
            place,
        )?;
        self.touch(key)
    }

    /// Destroys the materials of one Region's key, or those that all share (Region "").
    pub(super) fn wipe_materials(&self, key: &KeyId, region: &str) -> Result<()> {
        let place = [key.to_string(), region.to_owned()];
        self.sql.execute(
            "UPDATE materials SET sealed = zeroblob(length(sealed)), fingerprint = NULL
             WHERE key = ?1 AND region = ?2",
            [&place[0], &place[1]],
        )?;
        self.sql.execute(
            "DELETE FROM materials WHERE key = ?1 AND region = ?2",
            [&place[0], &place[1]],
        )?;
        Ok(())
    }
}

/// A row to be.
pub(super) struct NewMaterial<'a> {
    pub(super) id: MaterialId,
    pub(super) state: MaterialState,
    pub(super) secret: &'a [u8],
    /// How and when it became current, unless it was from the start.
    pub(super) rotation: Option<(RotationType, Timestamp)>,
    pub(super) valid_to: Option<Timestamp>,
    pub(super) description: Option<&'a str>,
    pub(super) now: Timestamp,
}
