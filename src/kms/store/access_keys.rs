//! Access keys as rows.

use rusqlite::{Connection, params};

use super::super::clock::Timestamp;
use super::super::error::{KmsError, Result};
use super::Change;
use super::seal::{Sealer, Slot};
use crate::secret::SecretText;

/// An access key without its secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::kms) struct AccessKeyRow {
    pub(in crate::kms) id: String,
    /// Empty for the account root.
    pub(in crate::kms) user: String,
    pub(in crate::kms) created: Timestamp,
}

fn slot(id: &str) -> Slot<'_> {
    Slot {
        table: "access_keys",
        id,
        generation: 1,
    }
}

impl AccessKeyRow {
    /// All of them, oldest first; of one user or of all.
    pub(in crate::kms) fn list(sql: &Connection, user: Option<&str>) -> Result<Vec<Self>> {
        let mut query = sql.prepare(
            "SELECT id, user, created FROM access_keys WHERE ?1 IS NULL OR user = ?1
             ORDER BY created, id",
        )?;
        let rows = query.query_map([user], |row| {
            Ok(Self {
                id: row.get(0)?,
                user: row.get(1)?,
                created: Timestamp::from_millis(row.get(2)?),
            })
        })?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }
}

/// The user and the secret of an access key.
pub(in crate::kms) fn open_access_key(
    sql: &Connection,
    sealer: &Sealer,
    id: &str,
) -> Result<Option<(String, SecretText)>> {
    let mut query = sql.prepare_cached("SELECT user, sealed FROM access_keys WHERE id = ?1")?;
    let mut rows = query.query([id])?;
    let Some(row) = rows.next()? else {
        return Ok(None);
    };
    let stored = row.get_ref(1)?.as_blob().map_err(rusqlite::Error::from)?;
    let secret = sealer.open_bytes(slot(id), stored)?;
    Ok(Some((
        row.get(0)?,
        SecretText::new(secret.expose().to_vec()),
    )))
}

impl Change<'_> {
    pub(in crate::kms) fn insert_access_key(
        &self,
        row: &AccessKeyRow,
        secret: &[u8],
    ) -> Result<()> {
        self.sql.execute(
            "INSERT INTO access_keys (id, user, sealed, created) VALUES (?1, ?2, ?3, ?4)",
            params![
                row.id,
                row.user,
                self.sealer.seal_bytes(slot(&row.id), secret),
                row.created.millis()
            ],
        )?;
        Ok(())
    }

    pub(in crate::kms) fn delete_access_key(&self, id: &str) -> Result<()> {
        let deleted = self
            .sql
            .execute("DELETE FROM access_keys WHERE id = ?1", [id])?;
        if deleted == 0 {
            return Err(KmsError::NotFound(format!("there is no access key {id}")));
        }
        Ok(())
    }
}
