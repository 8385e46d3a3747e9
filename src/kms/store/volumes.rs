//! Volumes as rows: where they were seen, which keys they use, what was counted in them.

use rusqlite::{Connection, Row, params};

use super::super::clock::Timestamp;
use super::super::error::{KmsError, Result};
use super::super::id::KeyId;
use super::Change;
use crate::format::VolumeId;

/// What was counted in a volume under one key material.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::kms) struct Counted {
    pub(in crate::kms) key: KeyId,
    /// The start of the material's id.
    pub(in crate::kms) material: [u8; 8],
    pub(in crate::kms) files: u64,
    /// Whether the volume's own key is wrapped under it too.
    pub(in crate::kms) volume_key: bool,
}

/// A count of all wrapped keys of a volume.
pub(in crate::kms) struct Count<'a> {
    /// When it began.
    pub(in crate::kms) began: Timestamp,
    /// The keys that the volume wraps new data keys under, with the start of the material that was
    /// current when the count began.
    pub(in crate::kms) current: &'a [(KeyId, [u8; 8])],
    pub(in crate::kms) counts: &'a [Counted],
    /// Whether nothing was left out.
    pub(in crate::kms) whole: bool,
}

/// A volume in one cipher directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::kms) struct VolumeRow {
    pub(in crate::kms) volume: VolumeId,
    /// The cipher directory; empty where it is not known.
    pub(in crate::kms) place: String,
    pub(in crate::kms) seen: Timestamp,
    /// When the last whole count began.
    pub(in crate::kms) counted: Option<Timestamp>,
    pub(in crate::kms) forgotten: Option<Timestamp>,
    /// The keys that it wraps new data keys under, or did so since that count; each with the material
    /// that was current when the count began, unless it has come to use the key since.
    pub(in crate::kms) keys: Vec<(KeyId, Option<[u8; 8]>)>,
    /// What was counted; of a count that was not whole when there was no other.
    pub(in crate::kms) counts: Vec<Counted>,
}

const SELECT: &str = "SELECT volume, place, seen, counted, forgotten FROM registered_volumes";

fn parsed<T: std::str::FromStr>(row: &Row<'_>, column: usize) -> Result<T> {
    let text = row
        .get_ref(column)?
        .as_str()
        .map_err(rusqlite::Error::from)?;
    text.parse()
        .map_err(|_| KmsError::Damaged(format!("a registered volume has '{text}'")))
}

impl VolumeRow {
    /// All of them, by id and place.
    pub(in crate::kms) fn all(sql: &Connection) -> Result<Vec<Self>> {
        let mut query = sql.prepare(&format!("{SELECT} ORDER BY volume, place"))?;
        let mut rows = query.query([])?;
        let mut volumes = Vec::new();
        while let Some(row) = rows.next()? {
            volumes.push(Self::from_row(sql, row)?);
        }
        Ok(volumes)
    }

    /// The one of a place.
    pub(in crate::kms) fn load(
        sql: &Connection,
        volume: &VolumeId,
        place: &str,
    ) -> Result<Option<Self>> {
        let mut query =
            sql.prepare_cached(&format!("{SELECT} WHERE volume = ?1 AND place = ?2"))?;
        let mut rows = query.query([volume.to_string().as_str(), place])?;
        rows.next()?.map(|row| Self::from_row(sql, row)).transpose()
    }

    fn from_row(sql: &Connection, row: &Row<'_>) -> Result<Self> {
        let volume: VolumeId = parsed(row, 0)?;
        let place: String = row.get(1)?;
        let of = [volume.to_string(), place.clone()];
        let mut query = sql.prepare_cached(
            "SELECT key, since FROM registered_keys WHERE volume = ?1 AND place = ?2 ORDER BY key",
        )?;
        let mut rows = query.query([&of[0], &of[1]])?;
        let mut keys = Vec::new();
        while let Some(row) = rows.next()? {
            keys.push((parsed(row, 0)?, row.get(1)?));
        }
        let mut query = sql.prepare_cached(
            "SELECT key, material, files, volume_key FROM registered_counts
             WHERE volume = ?1 AND place = ?2 ORDER BY key, material",
        )?;
        let mut rows = query.query([&of[0], &of[1]])?;
        let mut counts = Vec::new();
        while let Some(row) = rows.next()? {
            counts.push(Counted {
                key: parsed(row, 0)?,
                material: row.get(1)?,
                files: row.get::<_, i64>(2)?.unsigned_abs(),
                volume_key: row.get(3)?,
            });
        }
        let time = |column| -> Result<Option<Timestamp>> {
            let millis: Option<i64> = row.get(column)?;
            Ok(millis.map(Timestamp::from_millis))
        };
        Ok(Self {
            volume,
            place,
            seen: Timestamp::from_millis(row.get(2)?),
            counted: time(3)?,
            forgotten: time(4)?,
            keys,
            counts,
        })
    }
}

/// The keys that volumes were given grants of.
pub(in crate::kms) fn admitting_keys(sql: &Connection) -> Result<Vec<KeyId>> {
    let mut query = sql.prepare("SELECT DISTINCT key FROM volumes ORDER BY key")?;
    let mut rows = query.query([])?;
    let mut keys = Vec::new();
    while let Some(row) = rows.next()? {
        keys.push(parsed(row, 0)?);
    }
    Ok(keys)
}

/// The volumes that were given a grant of a key, in any Region.
pub(in crate::kms) fn admitted_volumes(sql: &Connection, key: &KeyId) -> Result<Vec<VolumeId>> {
    let mut query = sql.prepare("SELECT DISTINCT volume FROM volumes WHERE key = ?1")?;
    let mut rows = query.query([key.to_string()])?;
    let mut volumes = Vec::new();
    while let Some(row) = rows.next()? {
        volumes.push(parsed(row, 0)?);
    }
    Ok(volumes)
}

impl Change<'_> {
    /// Notes that a volume was seen at a place, and under which keys it wraps data keys.
    pub(in crate::kms) fn see_volume(
        &self,
        volume: &VolumeId,
        place: &str,
        keys: &[KeyId],
        now: Timestamp,
    ) -> Result<()> {
        let volume = volume.to_string();
        self.sql.execute(
            "INSERT INTO registered_volumes (volume, place, seen) VALUES (?1, ?2, ?3)
             ON CONFLICT (volume, place) DO UPDATE SET seen = excluded.seen, forgotten = NULL",
            params![volume, place, now.millis()],
        )?;
        for key in keys {
            self.sql.execute(
                "INSERT OR IGNORE INTO registered_keys (volume, place, key) VALUES (?1, ?2, ?3)",
                [volume.as_str(), place, &key.to_string()],
            )?;
        }
        Ok(())
    }

    /// Puts what was counted in a volume that was seen at its place. A whole count takes the place
    /// of what was known; another one is kept while there is none.
    pub(in crate::kms) fn put_count(
        &self,
        volume: &VolumeId,
        place: &str,
        count: &Count<'_>,
    ) -> Result<()> {
        let known = VolumeRow::load(self.sql, volume, place)?.and_then(|row| row.counted);
        if !count.whole && known.is_some() {
            return Ok(());
        }
        let volume = volume.to_string();
        self.delete_of("registered_counts", &volume, place)?;
        for counted in count.counts {
            self.sql.execute(
                "INSERT INTO registered_counts (volume, place, key, material, files, volume_key)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                params![
                    volume,
                    place,
                    counted.key.to_string(),
                    counted.material,
                    counted.files.cast_signed(),
                    counted.volume_key,
                ],
            )?;
        }
        if !count.whole {
            return Ok(());
        }
        self.delete_of("registered_keys", &volume, place)?;
        for (key, material) in count.current {
            self.sql.execute(
                "INSERT INTO registered_keys (volume, place, key, since) VALUES (?1, ?2, ?3, ?4)",
                params![volume, place, key.to_string(), material],
            )?;
        }
        self.sql.execute(
            "UPDATE registered_volumes SET counted = ?3 WHERE volume = ?1 AND place = ?2",
            params![volume, place, count.began.millis()],
        )?;
        Ok(())
    }

    fn delete_of(&self, table: &str, volume: &str, place: &str) -> Result<()> {
        self.sql.execute(
            &format!("DELETE FROM {table} WHERE volume = ?1 AND place = ?2"),
            [volume, place],
        )?;
        Ok(())
    }

    /// Forgets a volume at a place. What is left is that it was forgotten, since the grants that it
    /// was given tell of it too.
    pub(in crate::kms) fn forget_volume(
        &self,
        volume: &VolumeId,
        place: &str,
        now: Timestamp,
    ) -> Result<()> {
        let volume = volume.to_string();
        self.delete_of("registered_counts", &volume, place)?;
        self.delete_of("registered_keys", &volume, place)?;
        self.sql.execute(
            "INSERT INTO registered_volumes (volume, place, seen, forgotten)
             VALUES (?1, ?2, ?3, ?3)
             ON CONFLICT (volume, place) DO UPDATE SET counted = NULL, forgotten = ?3",
            params![volume, place, now.millis()],
        )?;
        Ok(())
    }

    /// Forgets what volumes need of a key of which nothing is left.
    pub(super) fn forget_needs(&self, key: &KeyId) -> Result<()> {
        for table in ["registered_counts", "registered_keys"] {
            self.sql.execute(
                &format!("DELETE FROM {table} WHERE key = ?1"),
                [key.to_string()],
            )?;
        }
        Ok(())
    }
}
