//! Grants as rows, and the volumes that were given one.

use rusqlite::{Connection, OptionalExtension, params};
use serde::{Deserialize, Serialize};

use super::super::caller::Region;
use super::super::clock::Timestamp;
use super::super::context::EncryptionContext;
use super::super::error::{KmsError, Result};
use super::super::state::Operation;
use super::Change;
use super::keys::Place;
use crate::format::VolumeId;

/// When a grant holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct GrantConstraints {
    /// The context has these pairs, and perhaps more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub encryption_context_subset: Option<EncryptionContext>,
    /// The context is this one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub encryption_context_equals: Option<EncryptionContext>,
    /// The request is on behalf of this resource.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_arn: Option<String>,
}

/// A grant, but for its key and number.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub(in crate::kms) struct Grant {
    pub(in crate::kms) id: String,
    pub(in crate::kms) name: Option<String>,
    pub(in crate::kms) created: Timestamp,
    /// The ARN of a principal, or a service's name.
    pub(in crate::kms) grantee: String,
    pub(in crate::kms) grantee_is_service: bool,
    pub(in crate::kms) retiring: Option<String>,
    pub(in crate::kms) retiring_is_service: bool,
    pub(in crate::kms) issuer: String,
    pub(in crate::kms) operations: Vec<Operation>,
    pub(in crate::kms) constraints: Option<GrantConstraints>,
}

/// A grant with its key and its place in the order of making.
pub(in crate::kms) struct GrantRow {
    pub(in crate::kms) number: i64,
    pub(in crate::kms) place: Place,
    pub(in crate::kms) grant: Grant,
}

impl GrantRow {
    fn query(sql: &Connection, what: &str, parameters: impl rusqlite::Params) -> Result<Vec<Self>> {
        let query = format!("SELECT number, region, key, document FROM grants WHERE {what}");
        let mut query = sql.prepare_cached(&query)?;
        let mut rows = query.query(parameters)?;
        let mut grants = Vec::new();
        while let Some(row) = rows.next()? {
            let document = row.get_ref(3)?.as_str().map_err(rusqlite::Error::from)?;
            grants.push(Self {
                number: row.get(0)?,
                place: Place::from_row(row, 1, 2)?,
                grant: serde_json::from_str(document).map_err(|error| {
                    KmsError::Damaged(format!("a grant can't be read: {error}"))
                })?,
            });
        }
        Ok(grants)
    }

    /// Up to `limit` grants of a key, in the order of making, after number `after`.
    pub(in crate::kms) fn of_key(
        sql: &Connection,
        place: &Place,
        after: i64,
        limit: i64,
    ) -> Result<Vec<Self>> {
        let place = (place.id.to_string(), place.region.as_str());
        Self::query(
            sql,
            "key = ?1 AND region = ?2 AND number > ?3 ORDER BY number LIMIT ?4",
            params![place.0, place.1, after, limit],
        )
    }

    /// Up to `limit` grants of a Region that a principal may retire, after number `after`.
    pub(in crate::kms) fn retirable(
        sql: &Connection,
        region: Region,
        principal: &str,
        after: i64,
        limit: i64,
    ) -> Result<Vec<Self>> {
        Self::query(
            sql,
            "retiring = ?1 AND region = ?2 AND number > ?3 ORDER BY number LIMIT ?4",
            params![principal, region.as_str(), after, limit],
        )
    }

    /// The grant of an id.
    pub(in crate::kms) fn find(sql: &Connection, id: &str) -> Result<Option<Self>> {
        Ok(Self::query(sql, "id = ?1", [id])?.into_iter().next())
    }
}

impl Change<'_> {
    pub(in crate::kms) fn insert_grant(&self, place: &Place, grant: &Grant) -> Result<()> {
        let document = serde_json::to_string(grant)
            .map_err(|error| KmsError::Serialization(error.to_string()))?;
        self.sql.execute(
            "INSERT INTO grants (id, region, key, grantee, retiring, issuer, document)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            params![
                grant.id,
                place.region.as_str(),
                place.id.to_string(),
                grant.grantee,
                grant.retiring,
                grant.issuer,
                document
            ],
        )?;
        self.touch(&place.id)
    }

    pub(in crate::kms) fn delete_grant(&self, row: &GrantRow) -> Result<()> {
        self.sql
            .execute("DELETE FROM grants WHERE number = ?1", [row.number])?;
        self.touch(&row.place.id)
    }

    /// How many grants a key has.
    pub(in crate::kms) fn count_grants(&self, place: &Place) -> Result<i64> {
        Ok(self.sql.query_row(
            "SELECT count(*) FROM grants WHERE key = ?1 AND region = ?2",
            [place.id.to_string().as_str(), place.region.as_str()],
            |row| row.get(0),
        )?)
    }

    /// Remembers that a volume was given a grant. False when it was given one before.
    pub(in crate::kms) fn admit_volume(&self, place: &Place, volume: &VolumeId) -> Result<bool> {
        let added = self.sql.execute(
            "INSERT OR IGNORE INTO volumes (region, key, volume) VALUES (?1, ?2, ?3)",
            [
                place.region.as_str(),
                &place.id.to_string(),
                &volume.to_string(),
            ],
        )?;
        Ok(added == 1)
    }
}

/// Whether a volume was given a grant of a key at some time.
pub(in crate::kms) fn was_admitted(
    sql: &Connection,
    place: &Place,
    volume: &VolumeId,
) -> Result<bool> {
    Ok(sql
        .query_row(
            "SELECT 1 FROM volumes WHERE key = ?1 AND region = ?2 AND volume = ?3",
            [
                &place.id.to_string(),
                place.region.as_str(),
                &volume.to_string(),
            ],
            |_| Ok(()),
        )
        .optional()?
        .is_some())
}
