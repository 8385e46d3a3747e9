//! Keys as rows.

use rusqlite::{Connection, Row, params};

use super::super::caller::Region;
use super::super::clock::Timestamp;
use super::super::error::{KmsError, Result};
use super::super::id::KeyId;
use super::super::spec::{KeyManager, KeySpec, KeyUsage, Origin};
use super::super::state::KeyState;
use super::{Change, DEFAULT_PERIOD_DAYS, MaterialSecret};

/// Which key: ids are the same in all Regions of a multi-Region key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(in crate::kms) struct Place {
    pub(in crate::kms) region: Region,
    pub(in crate::kms) id: KeyId,
}

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
    pub(in crate::kms) region: Region,
    pub(in crate::kms) id: KeyId,
    pub(in crate::kms) spec: KeySpec,
    pub(in crate::kms) usage: KeyUsage,
    pub(in crate::kms) origin: Origin,
    pub(in crate::kms) manager: KeyManager,
    pub(in crate::kms) state: KeyState,
    pub(in crate::kms) description: String,
    pub(in crate::kms) created: Timestamp,
    pub(in crate::kms) schedule: Schedule,
    /// The Region of the primary key; none for a single-Region key.
    pub(in crate::kms) primary_region: Option<Region>,
    pub(in crate::kms) deletion_date: Option<Timestamp>,
    pub(in crate::kms) deletion_window: Option<u32>,
    /// The policy's document, unless it is the default one.
    pub(in crate::kms) policy: Option<String>,
    pub(in crate::kms) tracked_since: Timestamp,
}

/// What a new key is to be.
pub(in crate::kms) struct NewKey<'a> {
    pub(in crate::kms) region: Region,
    pub(in crate::kms) spec: KeySpec,
    pub(in crate::kms) usage: KeyUsage,
    pub(in crate::kms) origin: Origin,
    pub(in crate::kms) multi_region: bool,
    pub(in crate::kms) manager: KeyManager,
    pub(in crate::kms) description: &'a str,
    pub(in crate::kms) policy: Option<&'a str>,
    /// Its first material; none when that is to be imported.
    pub(in crate::kms) secret: Option<&'a MaterialSecret>,
    /// The period of automatic rotation in days, when it is to rotate from the start.
    pub(in crate::kms) rotation_days: Option<u32>,
    pub(in crate::kms) now: Timestamp,
}

/// What one Region's key of a set is to be.
pub(in crate::kms) struct NewReplica<'a> {
    pub(in crate::kms) place: Place,
    pub(in crate::kms) manager: KeyManager,
    pub(in crate::kms) state: KeyState,
    pub(in crate::kms) description: &'a str,
    pub(in crate::kms) policy: Option<&'a str>,
    pub(in crate::kms) now: Timestamp,
}

const SELECT: &str = "SELECT number, region, id, spec, usage, origin, manager, state, description,
    created, rotation_enabled, rotation_period_days, rotation_since, primary_region, deletion_date,
    deletion_window, policy, tracked_since
    FROM keys JOIN key_sets USING (id)";

/// A word of the API that a row has.
pub(super) fn word<T>(row: &Row<'_>, column: usize, read: fn(&str) -> Option<T>) -> Result<T> {
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

/// A key id as a row holds it.
pub(super) fn stored_id(text: &str) -> Result<KeyId> {
    text.parse()
        .map_err(|_| KmsError::Damaged(format!("a row has the key id '{text}'")))
}

fn stored_region(text: &str) -> Result<Region> {
    text.parse()
        .map_err(|_| KmsError::Damaged(format!("a row has the Region '{text}'")))
}

fn text<'a>(row: &'a Row<'_>, column: usize) -> Result<&'a str> {
    Ok(row
        .get_ref(column)?
        .as_str()
        .map_err(rusqlite::Error::from)?)
}

impl Place {
    pub(super) fn from_row(row: &Row<'_>, region: usize, id: usize) -> Result<Self> {
        Ok(Self {
            region: stored_region(text(row, region)?)?,
            id: stored_id(text(row, id)?)?,
        })
    }
}

impl KeyRow {
    /// Where it is.
    pub(in crate::kms) fn place(&self) -> Place {
        Place {
            region: self.region,
            id: self.id,
        }
    }

    /// Whether it is the primary of a multi-Region key, or of one Region alone.
    pub(in crate::kms) fn is_primary(&self) -> bool {
        self.primary_region
            .is_none_or(|region| region == self.region)
    }

    fn from_row(row: &Row<'_>) -> Result<Self> {
        let place = Place::from_row(row, 1, 2)?;
        Ok(Self {
            number: row.get(0)?,
            region: place.region,
            id: place.id,
            spec: word(row, 3, KeySpec::from_word)?,
            usage: word(row, 4, KeyUsage::from_word)?,
            origin: word(row, 5, Origin::from_word)?,
            manager: word(row, 6, KeyManager::from_word)?,
            state: word(row, 7, KeyState::from_word)?,
            description: row.get(8)?,
            created: Timestamp::from_millis(row.get(9)?),
            schedule: Schedule {
                enabled: row.get(10)?,
                period_days: row.get(11)?,
                since: Timestamp::from_millis(row.get(12)?),
            },
            primary_region: row
                .get::<_, Option<String>>(13)?
                .map(|region| stored_region(&region))
                .transpose()?,
            deletion_date: row.get::<_, Option<i64>>(14)?.map(Timestamp::from_millis),
            deletion_window: row.get(15)?,
            policy: row.get(16)?,
            tracked_since: Timestamp::from_millis(row.get(17)?),
        })
    }

    /// The key of a place; `None` when there is none.
    pub(in crate::kms) fn load(sql: &Connection, place: &Place) -> Result<Option<Self>> {
        let query = format!("{SELECT} WHERE id = ?1 AND region = ?2");
        let mut query = sql.prepare_cached(&query)?;
        let mut rows = query.query([place.id.to_string().as_str(), place.region.as_str()])?;
        rows.next()?.map(Self::from_row).transpose()
    }

    fn all(sql: &Connection, what: &str, parameters: impl rusqlite::Params) -> Result<Vec<Self>> {
        let mut query = sql.prepare_cached(&format!("{SELECT} {what}"))?;
        let mut rows = query.query(parameters)?;
        let mut keys = Vec::new();
        while let Some(row) = rows.next()? {
            keys.push(Self::from_row(row)?);
        }
        Ok(keys)
    }

    /// Up to `limit` keys of a Region in the order of creation, after the key of number `after`.
    pub(in crate::kms) fn list(
        sql: &Connection,
        region: Region,
        after: i64,
        limit: i64,
    ) -> Result<Vec<Self>> {
        let what = "WHERE region = ?1 AND number > ?2 ORDER BY number LIMIT ?3";
        Self::all(sql, what, params![region.as_str(), after, limit])
    }

    /// The keys of one id, in the order of creation.
    pub(in crate::kms) fn of_set(sql: &Connection, id: &KeyId) -> Result<Vec<Self>> {
        Self::all(sql, "WHERE id = ?1 ORDER BY number", [id.to_string()])
    }

    /// Keys whose automatic rotation is due: of a multi-Region key the primary.
    pub(in crate::kms) fn due_rotation(sql: &Connection, now: Timestamp) -> Result<Vec<Self>> {
        let what = "WHERE rotation_enabled = 1 AND state = ?1
            AND ifnull(primary_region, region) = region
            AND rotation_since + rotation_period_days * 86400000 <= ?2 ORDER BY number";
        Self::all(sql, what, params![KeyState::Enabled.as_str(), now.millis()])
    }

    /// Keys whose waiting period is over.
    pub(in crate::kms) fn due_deletion(sql: &Connection, now: Timestamp) -> Result<Vec<Self>> {
        let what = "WHERE deletion_date <= ?1 ORDER BY number";
        Self::all(sql, what, [now.millis()])
    }
}

impl Change<'_> {
    /// Makes the set of a new key; its first key comes after it. The id is new.
    pub(in crate::kms) fn insert_set(&self, id: &KeyId, new: &NewKey<'_>) -> Result<()> {
        self.sql.execute(
            "INSERT INTO key_sets (id, spec, usage, origin, primary_region, rotation_enabled,
                 rotation_period_days, rotation_since)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
            params![
                id.to_string(),
                new.spec.as_str(),
                new.usage.as_str(),
                new.origin.as_str(),
                id.is_multi_region().then(|| new.region.as_str()),
                new.rotation_days.is_some(),
                new.rotation_days.unwrap_or(DEFAULT_PERIOD_DAYS),
                new.now.millis(),
            ],
        )?;
        Ok(())
    }

    /// Makes one Region's key of a set that is there.
    pub(in crate::kms) fn insert_replica(&self, new: &NewReplica<'_>) -> Result<()> {
        self.sql.execute(
            "INSERT INTO keys (region, id, manager, state, description, created, policy,
                 tracked_since, changed)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?6, 0)",
            params![
                new.place.region.as_str(),
                new.place.id.to_string(),
                new.manager.as_str(),
                new.state.as_str(),
                new.description,
                new.now.millis(),
                new.policy,
            ],
        )?;
        self.touch(&new.place.id)
    }

    /// Makes a key with its first material, unless that is to be imported.
    pub(in crate::kms) fn insert_key(&self, new: &NewKey<'_>) -> Result<Place> {
        let id = if new.multi_region {
            KeyId::random_multi_region()
        } else {
            KeyId::random()
        };
        let place = Place {
            region: new.region,
            id,
        };
        self.insert_set(&id, new)?;
        self.insert_replica(&NewReplica {
            place,
            manager: new.manager,
            state: if new.secret.is_some() {
                KeyState::Enabled
            } else {
                KeyState::PendingImport
            },
            description: new.description,
            policy: new.policy,
            now: new.now,
        })?;
        if let Some(secret) = new.secret {
            self.insert_new_material(&id, secret, None, new.now)?;
        }
        Ok(place)
    }

    pub(in crate::kms) fn set_state(&self, place: &Place, state: KeyState) -> Result<()> {
        self.update(place, "state = ?3", state.as_str())
    }

    pub(in crate::kms) fn set_description(&self, place: &Place, text: &str) -> Result<()> {
        self.update(place, "description = ?3", text)
    }

    pub(in crate::kms) fn set_policy(&self, place: &Place, document: &str) -> Result<()> {
        self.update(place, "policy = ?3", document)
    }

    /// Sets what a deletion needs: the state with its window and, where it is known, its date.
    pub(in crate::kms) fn set_deletion(
        &self,
        place: &Place,
        state: KeyState,
        window: Option<u32>,
        date: Option<Timestamp>,
    ) -> Result<()> {
        self.sql.execute(
            "UPDATE keys SET state = ?3, deletion_window = ?4, deletion_date = ?5
             WHERE id = ?1 AND region = ?2",
            params![
                place.id.to_string(),
                place.region.as_str(),
                state.as_str(),
                window,
                date.map(Timestamp::millis)
            ],
        )?;
        self.touch(&place.id)
    }

    /// Notes which volumes a deletion was said to cost, one a line; none when it costs none.
    pub(in crate::kms) fn set_deletion_forced(
        &self,
        place: &Place,
        lost: Option<&str>,
    ) -> Result<()> {
        self.sql.execute(
            "UPDATE keys SET deletion_forced = ?3 WHERE id = ?1 AND region = ?2",
            params![place.id.to_string(), place.region.as_str(), lost],
        )?;
        Ok(())
    }

    fn update(&self, place: &Place, set: &str, value: &str) -> Result<()> {
        self.sql.execute(
            &format!("UPDATE keys SET {set} WHERE id = ?1 AND region = ?2"),
            [&place.id.to_string(), place.region.as_str(), value],
        )?;
        self.touch(&place.id)
    }

    pub(in crate::kms) fn set_schedule(&self, id: &KeyId, schedule: &Schedule) -> Result<()> {
        self.sql.execute(
            "UPDATE key_sets SET rotation_enabled = ?2, rotation_period_days = ?3,
                 rotation_since = ?4 WHERE id = ?1",
            params![
                id.to_string(),
                schedule.enabled,
                schedule.period_days,
                schedule.since.millis()
            ],
        )?;
        self.touch(id)
    }

    /// Makes another Region's key the primary one.
    pub(in crate::kms) fn set_primary(&self, id: &KeyId, region: Region) -> Result<()> {
        self.sql.execute(
            "UPDATE key_sets SET primary_region = ?2 WHERE id = ?1",
            [id.to_string().as_str(), region.as_str()],
        )?;
        self.touch(id)
    }

    /// Destroys a key with all that belongs to it; the last of its set with the materials.
    pub(in crate::kms) fn destroy(&self, key: &KeyRow) -> Result<()> {
        let id = key.id.to_string();
        let place = [id.as_str(), key.region.as_str()];
        for table in ["aliases", "tags", "grants", "volumes"] {
            self.sql.execute(
                &format!("DELETE FROM {table} WHERE key = ?1 AND region = ?2"),
                place,
            )?;
        }
        self.wipe_materials(&key.id, key.region.as_str())?;
        // Before it goes: caches find it by its number.
        self.touch(&key.id)?;
        self.sql
            .execute("DELETE FROM keys WHERE id = ?1 AND region = ?2", place)?;
        self.forgotten(key)?;
        let left: i64 =
            self.sql
                .query_row("SELECT count(*) FROM keys WHERE id = ?1", [&id], |row| {
                    row.get(0)
                })?;
        if left == 0 {
            self.wipe_materials(&key.id, "")?;
            self.sql
                .execute("DELETE FROM key_sets WHERE id = ?1", [&id])?;
            self.forget_needs(&key.id)?;
        }
        Ok(())
    }

    /// Remembers that a key is gone, for the caches of other processes.
    fn forgotten(&self, key: &KeyRow) -> Result<()> {
        self.sql.execute(
            "INSERT INTO destroyed (number, region, key)
             VALUES ((SELECT number FROM changes), ?1, ?2)",
            [key.region.as_str(), &key.id.to_string()],
        )?;
        Ok(())
    }

    /// Numbers the change, so that caches drop what they know of the keys of the id.
    pub(in crate::kms) fn touch(&self, id: &KeyId) -> Result<()> {
        self.sql
            .execute("UPDATE changes SET number = number + 1", [])?;
        self.sql.execute(
            "UPDATE keys SET changed = (SELECT number FROM changes) WHERE id = ?1",
            [id.to_string()],
        )?;
        Ok(())
    }

    /// Notes the last use of a key; older than what is noted already, it changes nothing.
    pub(in crate::kms) fn set_used(
        &self,
        place: &Place,
        operation: &str,
        time: Timestamp,
        event: &[u8],
    ) -> Result<()> {
        self.sql.execute(
            "UPDATE keys SET used_operation = ?3, used = ?4, used_event = ?5
             WHERE id = ?1 AND region = ?2 AND ifnull(used, 0) <= ?4",
            params![
                place.id.to_string(),
                place.region.as_str(),
                operation,
                time.millis(),
                event
            ],
        )?;
        Ok(())
    }
}

/// The last use of a key that was noted: operation, time, id of the record.
pub(in crate::kms) fn last_used(
    sql: &Connection,
    place: &Place,
) -> Result<Option<(String, Timestamp, Vec<u8>)>> {
    let mut query = sql.prepare(
        "SELECT used_operation, used, used_event FROM keys
         WHERE id = ?1 AND region = ?2 AND used IS NOT NULL",
    )?;
    let mut rows = query.query([place.id.to_string().as_str(), place.region.as_str()])?;
    let Some(row) = rows.next()? else {
        return Ok(None);
    };
    Ok(Some((
        row.get(0)?,
        Timestamp::from_millis(row.get(1)?),
        row.get(2)?,
    )))
}

/// Which volumes the deletion of a key was said to cost.
pub(in crate::kms) fn deletion_forced(sql: &Connection, place: &Place) -> Result<Option<String>> {
    let mut query =
        sql.prepare("SELECT deletion_forced FROM keys WHERE id = ?1 AND region = ?2")?;
    Ok(query.query_row(
        [place.id.to_string().as_str(), place.region.as_str()],
        |row| row.get(0),
    )?)
}

/// The Region that a key is in: the given one when it is there, or else its primary's, or any.
pub(in crate::kms) fn region_of(
    sql: &Connection,
    id: &KeyId,
    preferred: Region,
) -> Result<Option<Region>> {
    let keys = KeyRow::of_set(sql, id)?;
    let in_region = keys.iter().find(|key| key.region == preferred);
    let primary = || keys.iter().find(|key| key.is_primary());
    Ok(in_region
        .or_else(primary)
        .or(keys.first())
        .map(|key| key.region))
}

/// The number of the last change to any key.
pub(in crate::kms) fn last_change(sql: &Connection) -> Result<i64> {
    let mut query = sql.prepare_cached("SELECT number FROM changes")?;
    Ok(query.query_row([], |row| row.get(0))?)
}

/// The keys changed or destroyed after the change of number `after`.
pub(in crate::kms) fn changed_keys(sql: &Connection, after: i64) -> Result<Vec<Place>> {
    let mut query = sql.prepare_cached(
        "SELECT region, id FROM keys WHERE changed > ?1
         UNION ALL SELECT region, key FROM destroyed WHERE number > ?1",
    )?;
    let mut rows = query.query([after])?;
    let mut keys = Vec::new();
    while let Some(row) = rows.next()? {
        keys.push(Place::from_row(row, 0, 1)?);
    }
    Ok(keys)
}
