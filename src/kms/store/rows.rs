//! Keys and their materials as rows.

use rusqlite::{Connection, Row, params};

use super::super::clock::Timestamp;
use super::super::error::{KmsError, Result};
use super::super::id::{KeyId, MaterialId};
use super::super::spec::{KeyManager, KeySpec, KeyUsage, Origin, RotationType};
use super::super::state::KeyState;
use super::Change;
use super::aliases::stored_id;
use super::seal::{Place, Sealer};
use crate::crypto;
use crate::secret::Key256;

/// When a key rotates by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::kms) struct Schedule {
    pub(in crate::kms) enabled: bool,
    pub(in crate::kms) period_days: u32,
    /// What the period counts from.
    pub(in crate::kms) since: Timestamp,
}

impl Schedule {
    /// The date of the next automatic rotation, if there is one to come.
    pub(in crate::kms) fn next(&self) -> Option<Timestamp> {
        self.enabled.then(|| self.since.plus_days(self.period_days))
    }

    /// Whether a rotation is due.
    pub(in crate::kms) fn is_due(&self, now: Timestamp) -> bool {
        self.next().is_some_and(|next| next <= now)
    }
}

/// A key without its materials.
#[derive(Clone, Debug)]
pub(in crate::kms) struct KeyRow {
    /// Its place in the order of creation.
    pub(in crate::kms) number: i64,
    pub(in crate::kms) id: KeyId,
    pub(in crate::kms) spec: KeySpec,
    pub(in crate::kms) usage: KeyUsage,
    pub(in crate::kms) origin: Origin,
    pub(in crate::kms) manager: KeyManager,
    pub(in crate::kms) state: KeyState,
    pub(in crate::kms) description: String,
    pub(in crate::kms) created: Timestamp,
    pub(in crate::kms) schedule: Schedule,
}

/// What a new key is to be.
pub(in crate::kms) struct NewKey<'a> {
    pub(in crate::kms) spec: KeySpec,
    pub(in crate::kms) usage: KeyUsage,
    pub(in crate::kms) origin: Origin,
    pub(in crate::kms) manager: KeyManager,
    pub(in crate::kms) description: &'a str,
    /// The period of automatic rotation in days, when it is to rotate from the start.
    pub(in crate::kms) rotation_days: Option<u32>,
    pub(in crate::kms) now: Timestamp,
}

/// What can be said of a key material.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::kms) struct MaterialRow {
    pub(in crate::kms) generation: i64,
    pub(in crate::kms) id: MaterialId,
    pub(in crate::kms) created: Timestamp,
    pub(in crate::kms) rotation: Option<RotationType>,
}

const KEY_COLUMNS: &str = "number, id, spec, usage, origin, manager, state, description, created,
    rotation_enabled, rotation_period_days, rotation_since";

fn word<T>(row: &Row<'_>, column: usize, read: fn(&str) -> Option<T>) -> Result<T> {
    let text = row
        .get_ref(column)?
        .as_str()
        .map_err(rusqlite::Error::from)?;
    read(text).ok_or_else(|| {
        KmsError::Damaged(format!(
            "a key has '{text}', which this version does not know"
        ))
    })
}

impl KeyRow {
    fn from_row(row: &Row<'_>) -> Result<Self> {
        Ok(Self {
            number: row.get(0)?,
            id: stored_id(row.get_ref(1)?.as_str().map_err(rusqlite::Error::from)?)?,
            spec: word(row, 2, KeySpec::from_word)?,
            usage: word(row, 3, KeyUsage::from_word)?,
            origin: word(row, 4, Origin::from_word)?,
            manager: word(row, 5, KeyManager::from_word)?,
            state: word(row, 6, KeyState::from_word)?,
            description: row.get(7)?,
            created: Timestamp::from_millis(row.get(8)?),
            schedule: Schedule {
                enabled: row.get(9)?,
                period_days: row.get(10)?,
                since: Timestamp::from_millis(row.get(11)?),
            },
        })
    }

    /// The key of an id; `None` when there is none.
    pub(in crate::kms) fn load(sql: &Connection, id: &KeyId) -> Result<Option<Self>> {
        let text = format!("SELECT {KEY_COLUMNS} FROM keys WHERE id = ?1");
        let mut query = sql.prepare_cached(&text)?;
        let mut rows = query.query([id.to_string()])?;
        rows.next()?.map(Self::from_row).transpose()
    }

    /// Up to `limit` keys in the order of creation, after the key of number `after`.
    pub(in crate::kms) fn list(sql: &Connection, after: i64, limit: i64) -> Result<Vec<Self>> {
        let text =
            format!("SELECT {KEY_COLUMNS} FROM keys WHERE number > ?1 ORDER BY number LIMIT ?2");
        let mut query = sql.prepare(&text)?;
        let mut rows = query.query([after, limit])?;
        let mut keys = Vec::new();
        while let Some(row) = rows.next()? {
            keys.push(Self::from_row(row)?);
        }
        Ok(keys)
    }

    /// Keys whose automatic rotation is due.
    pub(in crate::kms) fn due(sql: &Connection, now: Timestamp) -> Result<Vec<Self>> {
        let text = format!(
            "SELECT {KEY_COLUMNS} FROM keys WHERE rotation_enabled = 1 AND state = ?1
             AND rotation_since + rotation_period_days * 86400000 <= ?2 ORDER BY number"
        );
        let mut query = sql.prepare(&text)?;
        let mut rows = query.query(params![KeyState::Enabled.as_str(), now.millis()])?;
        let mut keys = Vec::new();
        while let Some(row) = rows.next()? {
            keys.push(Self::from_row(row)?);
        }
        Ok(keys)
    }
}

impl MaterialRow {
    fn from_row(row: &Row<'_>) -> Result<Self> {
        let rotation = match row.get_ref(3)? {
            rusqlite::types::ValueRef::Null => None,
            _ => Some(word(row, 3, RotationType::from_word)?),
        };
        Ok(Self {
            generation: row.get(0)?,
            id: MaterialId(row.get(1)?),
            created: Timestamp::from_millis(row.get(2)?),
            rotation,
        })
    }

    /// A key's materials, oldest first.
    pub(in crate::kms) fn list(sql: &Connection, key: &KeyId) -> Result<Vec<Self>> {
        let mut query = sql.prepare_cached(
            "SELECT generation, id, created, rotation_type FROM materials
             WHERE key = ?1 ORDER BY generation",
        )?;
        let mut rows = query.query([key.to_string()])?;
        let mut materials = Vec::new();
        while let Some(row) = rows.next()? {
            materials.push(Self::from_row(row)?);
        }
        Ok(materials)
    }

    /// A key's current material.
    pub(in crate::kms) fn current(sql: &Connection, key: &KeyId) -> Result<Self> {
        let mut query = sql.prepare_cached(
            "SELECT generation, id, created, rotation_type FROM materials
             WHERE key = ?1 ORDER BY generation DESC LIMIT 1",
        )?;
        let mut rows = query.query([key.to_string()])?;
        let row = rows.next()?.ok_or_else(|| no_material(key))?;
        Self::from_row(row)
    }
}

fn no_material(key: &KeyId) -> KmsError {
    KmsError::Damaged(format!("key {key} has no key material"))
}

/// The AAD's name of a material's row.
fn material_row(key: &KeyId, material: &MaterialId) -> String {
    format!("{key}/{material}")
}

/// A key's materials with their secrets, oldest first; at least one.
pub(in crate::kms) fn open_materials(
    sql: &Connection,
    sealer: &Sealer,
    key: &KeyId,
) -> Result<Vec<(MaterialId, Key256)>> {
    let mut query = sql.prepare_cached(
        "SELECT generation, id, sealed FROM materials WHERE key = ?1 ORDER BY generation",
    )?;
    let mut rows = query.query([key.to_string()])?;
    let mut materials = Vec::new();
    while let Some(row) = rows.next()? {
        let id = MaterialId(row.get(1)?);
        let name = material_row(key, &id);
        let place = Place {
            table: "materials",
            id: &name,
            generation: row.get(0)?,
        };
        let stored = row.get_ref(2)?.as_blob().map_err(rusqlite::Error::from)?;
        materials.push((id, sealer.open(place, stored)?));
    }
    if materials.is_empty() {
        Err(no_material(key))
    } else {
        Ok(materials)
    }
}

impl Change<'_> {
    /// Makes a key with its first material.
    pub(in crate::kms) fn insert_key(&self, new: &NewKey<'_>) -> Result<KeyId> {
        let id = KeyId::random();
        self.sql.execute(
            "INSERT INTO keys (id, spec, usage, origin, manager, state, description, created,
                 rotation_enabled, rotation_period_days, rotation_since, changed)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?8, 0)",
            params![
                id.to_string(),
                new.spec.as_str(),
                new.usage.as_str(),
                new.origin.as_str(),
                new.manager.as_str(),
                KeyState::Enabled.as_str(),
                new.description,
                new.now.millis(),
                new.rotation_days.is_some(),
                new.rotation_days.unwrap_or(super::DEFAULT_PERIOD_DAYS),
            ],
        )?;
        self.insert_material(&id, 1, None, new.now)?;
        self.touch(&id)?;
        Ok(id)
    }

    /// Makes a new material the current one.
    pub(in crate::kms) fn rotate(
        &self,
        key: &KeyId,
        rotation: RotationType,
        now: Timestamp,
    ) -> Result<()> {
        let generation = MaterialRow::current(self.sql, key)?.generation + 1;
        self.insert_material(key, generation, Some(rotation), now)?;
        if rotation == RotationType::Automatic {
            self.sql.execute(
                "UPDATE keys SET rotation_since = ?2 WHERE id = ?1",
                params![key.to_string(), now.millis()],
            )?;
        }
        self.touch(key)
    }

    fn insert_material(
        &self,
        key: &KeyId,
        generation: i64,
        rotation: Option<RotationType>,
        now: Timestamp,
    ) -> Result<()> {
        // Blobs name a material by the first bytes of its id: no two of a key may share them.
        let taken = MaterialRow::list(self.sql, key)?;
        let id = loop {
            let id = MaterialId::random(key);
            if taken.iter().all(|other| other.id.prefix() != id.prefix()) {
                break id;
            }
        };
        let secret: Key256 = crypto::random_key();
        let name = material_row(key, &id);
        let place = Place {
            table: "materials",
            id: &name,
            generation,
        };
        self.sql.execute(
            "INSERT INTO materials (key, generation, id, sealed, created, rotation_type)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            params![
                key.to_string(),
                generation,
                id.0,
                self.sealer.seal(place, &secret),
                now.millis(),
                rotation.map(RotationType::as_str),
            ],
        )?;
        Ok(())
    }

    /// How often a key was rotated on demand.
    pub(in crate::kms) fn on_demand_rotations(&self, key: &KeyId) -> Result<i64> {
        Ok(self.sql.query_row(
            "SELECT count(*) FROM materials WHERE key = ?1 AND rotation_type = ?2",
            [key.to_string().as_str(), RotationType::OnDemand.as_str()],
            |row| row.get(0),
        )?)
    }

    pub(in crate::kms) fn set_state(&self, key: &KeyId, state: KeyState) -> Result<()> {
        self.sql.execute(
            "UPDATE keys SET state = ?2 WHERE id = ?1",
            [key.to_string().as_str(), state.as_str()],
        )?;
        self.touch(key)
    }

    pub(in crate::kms) fn set_schedule(&self, key: &KeyId, schedule: &Schedule) -> Result<()> {
        self.sql.execute(
            "UPDATE keys SET rotation_enabled = ?2, rotation_period_days = ?3, rotation_since = ?4
             WHERE id = ?1",
            params![
                key.to_string(),
                schedule.enabled,
                schedule.period_days,
                schedule.since.millis()
            ],
        )?;
        self.touch(key)
    }

    /// Numbers the change, so that caches drop what they know of the key.
    fn touch(&self, key: &KeyId) -> Result<()> {
        self.sql
            .execute("UPDATE changes SET number = number + 1", [])?;
        self.sql.execute(
            "UPDATE keys SET changed = (SELECT number FROM changes) WHERE id = ?1",
            [key.to_string()],
        )?;
        Ok(())
    }
}

/// The number of the last change to any key.
pub(in crate::kms) fn last_change(sql: &Connection) -> Result<i64> {
    let mut query = sql.prepare_cached("SELECT number FROM changes")?;
    Ok(query.query_row([], |row| row.get(0))?)
}

/// The keys changed after the change of number `after`.
pub(in crate::kms) fn changed_keys(sql: &Connection, after: i64) -> Result<Vec<KeyId>> {
    let mut query = sql.prepare_cached("SELECT id FROM keys WHERE changed > ?1")?;
    let mut rows = query.query([after])?;
    let mut keys = Vec::new();
    while let Some(row) = rows.next()? {
        keys.push(stored_id(
            row.get_ref(0)?.as_str().map_err(rusqlite::Error::from)?,
        )?);
    }
    Ok(keys)
}
