//! Aliases as rows.

use rusqlite::{Connection, OptionalExtension, params};

use super::super::clock::Timestamp;
use super::super::error::{KmsError, Result};
use super::super::id::KeyId;
use super::super::reference::AliasName;
use super::Change;

/// An alias and the key it points to.
#[derive(Clone, Debug)]
pub(in crate::kms) struct AliasRow {
    pub(in crate::kms) name: String,
    pub(in crate::kms) key: KeyId,
    pub(in crate::kms) created: Timestamp,
    pub(in crate::kms) updated: Timestamp,
}

/// A key id as a row holds it.
pub(super) fn stored_id(text: &str) -> Result<KeyId> {
    text.parse()
        .map_err(|_| KmsError::Damaged(format!("a row has the key id '{text}'")))
}

/// The key that an alias points to.
pub(in crate::kms) fn alias_target(sql: &Connection, name: &AliasName) -> Result<Option<KeyId>> {
    let mut query = sql.prepare_cached("SELECT key FROM aliases WHERE name = ?1")?;
    let text: Option<String> = query
        .query_row([name.as_str()], |row| row.get(0))
        .optional()?;
    text.map(|text| stored_id(&text)).transpose()
}

impl AliasRow {
    /// Up to `limit` aliases in the order of their names, after the name `after`; of one key or
    /// of all.
    pub(in crate::kms) fn list(
        sql: &Connection,
        key: Option<&KeyId>,
        after: &str,
        limit: i64,
    ) -> Result<Vec<Self>> {
        let mut query = sql.prepare(
            "SELECT name, key, created, updated FROM aliases
             WHERE name > ?1 AND (?2 IS NULL OR key = ?2) ORDER BY name LIMIT ?3",
        )?;
        let mut rows = query.query(params![after, key.map(ToString::to_string), limit])?;
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

impl Change<'_> {
    pub(in crate::kms) fn alias_target(&self, name: &AliasName) -> Result<Option<KeyId>> {
        alias_target(self.sql, name)
    }

    pub(in crate::kms) fn insert_alias(
        &self,
        name: &AliasName,
        key: &KeyId,
        now: Timestamp,
    ) -> Result<()> {
        self.sql.execute(
            "INSERT INTO aliases (name, key, created, updated) VALUES (?1, ?2, ?3, ?3)",
            params![name.as_str(), key.to_string(), now.millis()],
        )?;
        Ok(())
    }

    pub(in crate::kms) fn move_alias(
        &self,
        name: &AliasName,
        key: &KeyId,
        now: Timestamp,
    ) -> Result<()> {
        self.sql.execute(
            "UPDATE aliases SET key = ?2, updated = ?3 WHERE name = ?1",
            params![name.as_str(), key.to_string(), now.millis()],
        )?;
        Ok(())
    }

    pub(in crate::kms) fn delete_alias(&self, name: &AliasName) -> Result<()> {
        self.sql
            .execute("DELETE FROM aliases WHERE name = ?1", [name.as_str()])?;
        Ok(())
    }

    /// How many aliases point to a key.
    pub(in crate::kms) fn count_aliases(&self, key: &KeyId) -> Result<i64> {
        Ok(self.sql.query_row(
            "SELECT count(*) FROM aliases WHERE key = ?1",
            [key.to_string()],
            |row| row.get(0),
        )?)
    }
}
