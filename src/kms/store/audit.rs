//! What the keystore knows of the audit log: its key, and how far each segment of it had come.

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::super::clock::Timestamp;
use super::super::error::{KmsError, Result};
use super::seal::Slot;
use super::{Change, Sealer};
use crate::crypto::{self, MacKey};
use crate::secret::Key256;

const TABLES: &str = "
-- The key that records are authenticated with. It belongs to the service and is never listed.
CREATE TABLE IF NOT EXISTS audit_key (
    only_row INTEGER PRIMARY KEY CHECK (only_row = 1),
    sealed BLOB NOT NULL,
    created INTEGER NOT NULL
) STRICT;
-- Each file of the log: where its chain begins, and how far it had come when last anchored.
CREATE TABLE IF NOT EXISTS audit_segments (
    number INTEGER PRIMARY KEY CHECK (number > 0),
    genesis BLOB NOT NULL CHECK (length(genesis) = 32),
    opened INTEGER NOT NULL,
    open INTEGER NOT NULL CHECK (open IN (0, 1)),
    seq INTEGER NOT NULL CHECK (seq >= 0),
    head BLOB NOT NULL CHECK (length(head) = 32),
    mac BLOB NOT NULL CHECK (length(mac) = 32)
) STRICT;";

const KEY_PLACE: Slot<'static> = Slot {
    table: "audit_key",
    id: "",
    generation: 1,
};

/// How far a segment of the log had come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::kms) struct Anchor {
    /// The segment's number, from 1.
    pub(in crate::kms) number: i64,
    /// What its first record follows.
    pub(in crate::kms) genesis: [u8; 32],
    /// When it was made.
    pub(in crate::kms) opened: Timestamp,
    /// Whether more records may come.
    pub(in crate::kms) open: bool,
    /// The number of its last record; 0 when it has none.
    pub(in crate::kms) seq: i64,
    /// The hash of that record, or the genesis.
    pub(in crate::kms) head: [u8; 32],
    mac: [u8; 32],
}

impl Anchor {
    pub(in crate::kms) fn new(
        key: &MacKey,
        number: i64,
        genesis: [u8; 32],
        opened: Timestamp,
    ) -> Self {
        let mut anchor = Self {
            number,
            genesis,
            opened,
            open: true,
            seq: 0,
            head: genesis,
            mac: [0; 32],
        };
        anchor.mac = anchor.mac(key);
        anchor
    }

    /// The same segment, further on.
    pub(in crate::kms) fn moved(&self, key: &MacKey, seq: i64, head: [u8; 32], open: bool) -> Self {
        let mut anchor = Self {
            open,
            seq,
            head,
            ..self.clone()
        };
        anchor.mac = anchor.mac(key);
        anchor
    }

    fn mac(&self, key: &MacKey) -> [u8; 32] {
        key.tag(&self.parts().each_ref().map(Vec::as_slice))
    }

    /// Whether the row is as this program wrote it.
    pub(in crate::kms) fn is_authentic(&self, key: &MacKey) -> bool {
        key.matches(&self.parts().each_ref().map(Vec::as_slice), &self.mac)
    }

    fn parts(&self) -> [Vec<u8>; 7] {
        [
            b"envelopefs audit anchor v1".to_vec(),
            self.number.to_le_bytes().to_vec(),
            self.genesis.to_vec(),
            self.opened.millis().to_le_bytes().to_vec(),
            vec![u8::from(self.open)],
            self.seq.to_le_bytes().to_vec(),
            self.head.to_vec(),
        ]
    }

    fn from_row(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            number: row.get(0)?,
            genesis: row.get(1)?,
            opened: Timestamp::from_millis(row.get(2)?),
            open: row.get(3)?,
            seq: row.get(4)?,
            head: row.get(5)?,
            mac: row.get(6)?,
        })
    }

    /// All segments, oldest first.
    pub(in crate::kms) fn list(sql: &Connection) -> Result<Vec<Self>> {
        let mut query = sql.prepare(
            "SELECT number, genesis, opened, open, seq, head, mac FROM audit_segments
             ORDER BY number",
        )?;
        let rows = query.query_map([], Self::from_row)?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    pub(in crate::kms) fn load(sql: &Connection, number: i64) -> Result<Option<Self>> {
        Ok(sql
            .query_row(
                "SELECT number, genesis, opened, open, seq, head, mac FROM audit_segments
                 WHERE number = ?1",
                [number],
                Self::from_row,
            )
            .optional()?)
    }
}

/// Whether the keystore has the tables of the log.
fn has_tables(sql: &Connection) -> Result<bool> {
    let query = "SELECT count(*) FROM sqlite_schema WHERE name IN ('audit_key', 'audit_segments')";
    Ok(sql.query_row(query, [], |row| row.get::<_, i64>(0))? == 2)
}

/// The log's key, if it was made already.
pub(in crate::kms) fn audit_key(sql: &Connection, sealer: &Sealer) -> Result<Option<MacKey>> {
    if !has_tables(sql)? {
        return Ok(None);
    }
    let sealed: Option<Vec<u8>> = sql
        .query_row("SELECT sealed FROM audit_key", [], |row| row.get(0))
        .optional()?;
    let open = |sealed: Vec<u8>| -> Result<MacKey> {
        let key: Key256 = sealer.open(KEY_PLACE, &sealed)?;
        Ok(MacKey::new(&key))
    };
    sealed.map(open).transpose()
}

impl Change<'_> {
    /// The log's key, made on first use.
    pub(in crate::kms) fn make_audit_key(&self, now: Timestamp) -> Result<MacKey> {
        self.sql.execute_batch(TABLES)?;
        if let Some(key) = audit_key(self.sql, self.sealer)? {
            return Ok(key);
        }
        let key: Key256 = crypto::random_key();
        self.sql.execute(
            "INSERT INTO audit_key VALUES (1, ?1, ?2)",
            params![self.sealer.seal(KEY_PLACE, &key), now.millis()],
        )?;
        Ok(MacKey::new(&key))
    }

    pub(in crate::kms) fn insert_anchor(&self, anchor: &Anchor) -> Result<()> {
        self.sql.execute(
            "INSERT INTO audit_segments (number, genesis, opened, open, seq, head, mac)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            params![
                anchor.number,
                anchor.genesis,
                anchor.opened.millis(),
                anchor.open,
                anchor.seq,
                anchor.head,
                anchor.mac
            ],
        )?;
        Ok(())
    }
}

/// Writes how far a segment has come.
pub(in crate::kms) fn move_anchor(sql: &Connection, anchor: &Anchor) -> Result<()> {
    let moved = sql.execute(
        "UPDATE audit_segments SET open = ?2, seq = ?3, head = ?4, mac = ?5 WHERE number = ?1",
        params![
            anchor.number,
            anchor.open,
            anchor.seq,
            anchor.head,
            anchor.mac
        ],
    )?;
    if moved == 1 {
        Ok(())
    } else {
        Err(KmsError::Damaged(format!(
            "the audit log's segment {} is not in the keystore",
            anchor.number
        )))
    }
}
