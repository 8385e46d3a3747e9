//! Keys in memory, as fresh as the database.
//!
//! Each use asks SQLite whether anybody committed since the last one (`PRAGMA data_version` on a
//! connection that does nothing else: a look at the shared index of the log, 1.4 µs). Only then
//! the numbers of the changes are read, and the keys among them dropped and read again when they
//! are next used. So a key that another process disabled is refused here from the moment its
//! commit returns.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use rusqlite::Connection;

use super::error::Result;
use super::id::{KeyId, MaterialId};
use super::store::{KeyRow, Sealer, Store, changed_keys, last_change, open_materials};
use crate::secret::Key256;

/// Keys kept at most; above it all are dropped and read again as they are used.
const CAPACITY: usize = 4096;

/// A key with its materials.
pub(super) struct CachedKey {
    pub(super) row: KeyRow,
    /// Oldest first; the last one is current. Never empty.
    materials: Vec<(MaterialId, Key256)>,
}

impl CachedKey {
    pub(super) fn current(&self) -> &(MaterialId, Key256) {
        // `open_materials` gives at least one.
        &self.materials[self.materials.len() - 1]
    }

    /// The material that a blob names.
    pub(super) fn by_prefix(&self, prefix: [u8; 8]) -> Option<&(MaterialId, Key256)> {
        self.materials
            .iter()
            .rev()
            .find(|(id, _)| id.prefix() == prefix)
    }
}

struct Watched {
    sql: Connection,
    /// `data_version` when `seen` was read.
    version: Option<i64>,
    /// The number of the last change taken into account.
    seen: i64,
    keys: HashMap<KeyId, Arc<CachedKey>>,
}

pub(super) struct Cache(Mutex<Watched>);

impl Cache {
    pub(super) fn new(store: &Store) -> Result<Self> {
        let sql = store.connect()?;
        Ok(Self(Mutex::new(Watched {
            sql,
            version: None,
            seen: 0,
            keys: HashMap::new(),
        })))
    }

    /// The key of an id as it stands in the database now; `None` when there is none.
    pub(super) fn get(&self, sealer: &Sealer, id: &KeyId) -> Result<Option<Arc<CachedKey>>> {
        let mut watched = self.0.lock();
        watched.catch_up()?;
        if let Some(key) = watched.keys.get(id) {
            return Ok(Some(Arc::clone(key)));
        }
        watched.load(sealer, id)
    }
}

impl Watched {
    fn catch_up(&mut self) -> Result<()> {
        // Read before the changes: a commit in between makes another version, seen next time.
        let version: i64 = self
            .sql
            .prepare_cached("PRAGMA data_version")?
            .query_row([], |row| row.get(0))?;
        if self.version == Some(version) {
            return Ok(());
        }
        let transaction = self.sql.transaction()?;
        let last = last_change(&transaction)?;
        if last < self.seen {
            // Not the database it was: somebody restored an older one.
            self.keys.clear();
        } else if last > self.seen {
            for id in changed_keys(&transaction, self.seen)? {
                self.keys.remove(&id);
            }
        }
        drop(transaction);
        self.seen = last;
        self.version = Some(version);
        Ok(())
    }

    fn load(&mut self, sealer: &Sealer, id: &KeyId) -> Result<Option<Arc<CachedKey>>> {
        let transaction = self.sql.transaction()?;
        let Some(row) = KeyRow::load(&transaction, id)? else {
            return Ok(None);
        };
        let materials = open_materials(&transaction, sealer, id)?;
        drop(transaction);
        if self.keys.len() >= CAPACITY {
            self.keys.clear();
        }
        let key = Arc::new(CachedKey { row, materials });
        self.keys.insert(*id, Arc::clone(&key));
        Ok(Some(key))
    }
}
