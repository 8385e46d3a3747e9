//! Aliases and tags as rows.

use rusqlite::{Connection, OptionalExtension, params};

use super::super::caller::Region;
use super::super::clock::Timestamp;
use super::super::error::Result;
use super::super::id::KeyId;
use super::super::reference::AliasName;
use super::Change;
use super::keys::{Place, stored_id};

/// An alias and the key it points to.
#[derive(Clone, Debug)]
pub(in crate::kms) struct AliasRow {
    pub(in crate::kms) name: String,
    pub(in crate::kms) key: KeyId,
    pub(in crate::kms) created: Timestamp,
    pub(in crate::kms) updated: Timestamp,
}

/// The key that an alias of a Region points to.
pub(in crate::kms) fn alias_target(
    sql: &Connection,
    region: Region,
    name: &AliasName,
) -> Result<Option<Place>> {
    let mut query =
        sql.prepare_cached("SELECT key FROM aliases WHERE region = ?1 AND name = ?2")?;
    let text: Option<String> = query
        .query_row([region.as_str(), name.as_str()], |row| row.get(0))
        .optional()?;
    text.map(|text| {
        Ok(Place {
            region,
            id: stored_id(&text)?,
        })
    })
    .transpose()
}

impl AliasRow {
    /// Up to `limit` aliases of a Region in the order of their names, after the name `after`; of
    /// one key or of all.
    pub(in crate::kms) fn list(
        sql: &Connection,
        region: Region,
        key: Option<&KeyId>,
        after: &str,
        limit: i64,
    ) -> Result<Vec<Self>> {
        let mut query = sql.prepare(
            "SELECT name, key, created, updated FROM aliases
             WHERE region = ?1 AND name > ?2 AND (?3 IS NULL OR key = ?3)
             ORDER BY name LIMIT ?4",
        )?;
        let key = key.map(ToString::to_string);
        let mut rows = query.query(params![region.as_str(), after, key, limit])?;
        let mut aliases = Vec::new();
        while let Some(row) = rows.next()? {
            aliases.push(Self {
                name: row.get(0)?,
                key: stored_id(&row.get::<_, String>(1)?)?,
                created: Timestamp::from_millis(row.get(2)?),
                updated: Timestamp::from_millis(row.get(3)?),
            });
        }
        Ok(aliases)
    }
}

/// Up to `limit` tags of a key in the order of their names, after the name `after`: names and
/// values.
pub(in crate::kms) fn list_tags(
    sql: &Connection,
    place: &Place,
    after: &str,
    limit: i64,
) -> Result<Vec<(String, String)>> {
    let mut query = sql.prepare(
        "SELECT name, value FROM tags WHERE key = ?1 AND region = ?2 AND name > ?3
         ORDER BY name LIMIT ?4",
    )?;
    let place = (place.id.to_string(), place.region.as_str());
    let rows = query.query_map(params![place.0, place.1, after, limit], |row| {
        Ok((row.get(0)?, row.get(1)?))
    })?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

impl Change<'_> {
    pub(in crate::kms) fn alias_target(
        &self,
        region: Region,
        name: &AliasName,
    ) -> Result<Option<Place>> {
        alias_target(self.sql, region, name)
    }

    pub(in crate::kms) fn insert_alias(
        &self,
        name: &AliasName,
        place: &Place,
        now: Timestamp,
    ) -> Result<()> {
        self.sql.execute(
            "INSERT INTO aliases (region, name, key, created, updated)
             VALUES (?1, ?2, ?3, ?4, ?4)",
            params![
                place.region.as_str(),
                name.as_str(),
                place.id.to_string(),
                now.millis()
            ],
        )?;
        self.touch(&place.id)
    }

    /// Points an alias from the key `old` to another.
    pub(in crate::kms) fn move_alias(
        &self,
        name: &AliasName,
        old: &KeyId,
        place: &Place,
        now: Timestamp,
    ) -> Result<()> {
        self.sql.execute(
            "UPDATE aliases SET key = ?3, updated = ?4 WHERE region = ?1 AND name = ?2",
            params![
                place.region.as_str(),
                name.as_str(),
                place.id.to_string(),
                now.millis()
            ],
        )?;
        self.touch(old)?;
        self.touch(&place.id)
    }

    /// Deletes an alias of the key of `place`.
    pub(in crate::kms) fn delete_alias(&self, name: &AliasName, place: &Place) -> Result<()> {
        self.sql.execute(
            "DELETE FROM aliases WHERE region = ?1 AND name = ?2",
            [place.region.as_str(), name.as_str()],
        )?;
        self.touch(&place.id)
    }

    /// How many aliases point to a key.
    pub(in crate::kms) fn count_aliases(&self, place: &Place) -> Result<i64> {
        Ok(self.sql.query_row(
            "SELECT count(*) FROM aliases WHERE key = ?1 AND region = ?2",
            [place.id.to_string().as_str(), place.region.as_str()],
            |row| row.get(0),
        )?)
    }

    /// Sets a tag, whether it was there or not.
    pub(in crate::kms) fn set_tag(&self, place: &Place, name: &str, value: &str) -> Result<()> {
        self.sql.execute(
            "INSERT INTO tags (region, key, name, value) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (key, region, name) DO UPDATE SET value = excluded.value",
            [place.region.as_str(), &place.id.to_string(), name, value],
        )?;
        self.touch(&place.id)
    }

    pub(in crate::kms) fn delete_tag(&self, place: &Place, name: &str) -> Result<()> {
        self.sql.execute(
            "DELETE FROM tags WHERE key = ?1 AND region = ?2 AND name = ?3",
            [&place.id.to_string(), place.region.as_str(), name],
        )?;
        self.touch(&place.id)
    }

    /// How many tags a key has.
    pub(in crate::kms) fn count_tags(&self, place: &Place) -> Result<i64> {
        Ok(self.sql.query_row(
            "SELECT count(*) FROM tags WHERE key = ?1 AND region = ?2",
            [place.id.to_string().as_str(), place.region.as_str()],
            |row| row.get(0),
        )?)
    }
}
