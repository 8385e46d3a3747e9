//! Keys in memory, as fresh as the database.
//!
//! Each use asks whether anybody committed since the last look (see [`LogIndex`]: one `pread`,
//! 0.4 µs, no lock). Only then the numbers of the changes are read, and the keys among them are
//! dropped, to be read again when they are next used. So a key that another process disabled is
//! refused here from the moment its commit returns.

use std::cell::Cell;
use std::collections::HashMap;
use std::fs::File;
use std::marker::PhantomData;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::sync::{Arc, OnceLock};

use parking_lot::{Mutex, RwLock};
use rusqlite::Connection;

use super::access::Access;
use super::clock::Timestamp;
use super::error::{KmsError, Result};
use super::id::MaterialId;
use super::reference::key_arn;
use super::state::KeyState;
use super::store::{
    KeyRow, MaterialRow, MaterialSecret, MaterialState, OpenMaterial, Place, Sealer, Store,
    changed_keys, last_change, open_materials,
};
use super::usage::{LastUse, Usage};

/// Keys kept at most; above it all are dropped and read again as they are used.
const CAPACITY: usize = 4096;

/// A key with its materials, and with what says who may use it.
pub(super) struct CachedKey {
    pub(super) row: KeyRow,
    pub(super) arn: Arc<str>,
    pub(super) access: Access,
    /// The last use of it in this process.
    pub(super) last_use: Arc<LastUse>,
    /// When it is destroyed, or imported material of it expires: it isn't used from then on.
    pub(super) ends: Option<Timestamp>,
    /// When it rotates by itself, if it does.
    pub(super) rotates: Option<Timestamp>,
    /// Those whose secrets are there, oldest first.
    materials: Vec<OpenMaterial>,
    /// Those whose secrets were destroyed.
    gone: Vec<MaterialId>,
    current: Option<usize>,
    /// The public key of a key pair, once it was asked for.
    pub(super) public: OnceLock<Vec<u8>>,
}

impl CachedKey {
    fn new(
        row: KeyRow,
        arn: Arc<str>,
        access: Access,
        last_use: Arc<LastUse>,
        materials: Vec<OpenMaterial>,
        gone: Vec<MaterialId>,
    ) -> Self {
        let expires = materials.iter().filter_map(|m| m.row.valid_to).min();
        let current = materials
            .iter()
            .rposition(|material| material.row.state == MaterialState::Current);
        Self {
            ends: [row.deletion_date, expires].into_iter().flatten().min(),
            rotates: row
                .schedule
                .next()
                .filter(|_| row.state == KeyState::Enabled && row.is_primary()),
            row,
            arn,
            access,
            last_use,
            materials,
            gone,
            current,
            public: OnceLock::new(),
        }
    }

    /// The material that encrypts now, or signs.
    ///
    /// # Errors
    /// [`KmsError::InvalidState`] when it was imported and is gone.
    pub(super) fn current(&self) -> Result<(&MaterialId, &MaterialSecret)> {
        let material = self.current.and_then(|at| self.materials.get(at));
        material
            .map(|material| (&material.row.id, &material.secret))
            .ok_or_else(|| KmsError::InvalidState(format!("{} is pending import.", self.arn)))
    }

    /// Since when the current material is that.
    ///
    /// # Errors
    /// As [`CachedKey::current`].
    pub(super) fn current_since(&self) -> Result<Timestamp> {
        self.current()?;
        let material = self.current.and_then(|at| self.materials.get(at));
        Ok(material.map_or(self.row.created, |material| {
            let row = &material.row;
            row.rotation.map_or(row.created, |(date, _)| date)
        }))
    }

    /// The id of the current material, where there is one.
    pub(super) fn current_id(&self) -> Option<&MaterialId> {
        self.current().ok().map(|(id, _)| id)
    }

    /// The material that a blob names.
    pub(super) fn by_prefix(&self, prefix: [u8; 8]) -> Option<(&MaterialId, &MaterialSecret)> {
        self.materials
            .iter()
            .rev()
            .find(|material| material.row.id.prefix() == prefix)
            .map(|material| (&material.row.id, &material.secret))
    }

    /// The material that a blob names, when its secret was destroyed.
    pub(super) fn gone(&self, prefix: [u8; 8]) -> Option<MaterialId> {
        let mut gone = self.gone.iter().copied();
        gone.find(|material| material.prefix() == prefix)
    }

    /// The earliest end of its imported material.
    pub(super) fn valid_to(&self) -> Option<Timestamp> {
        self.materials.iter().filter_map(|m| m.row.valid_to).min()
    }
}

/// What a thread knows of a cache's database.
#[derive(Clone, Copy)]
enum Looking {
    /// Nothing: each time it asks anew.
    No,
    /// It will ask once; at which cache.
    Once(usize),
    /// It has asked: at which cache, and the header that it saw.
    Saw(usize, Header),
}

thread_local! {
    static LOOK: Cell<Looking> = const { Cell::new(Looking::No) };
}

/// While this lives, its thread takes keys as they were when it first asked for one: what changes
/// nothing looks at the database once, however many keys it asks for. One within another is the same
/// look.
#[must_use]
pub struct Look {
    /// It ends with this one.
    ends: bool,
    /// It is its thread's.
    _thread: PhantomData<*const ()>,
}

impl Drop for Look {
    fn drop(&mut self) {
        if self.ends {
            LOOK.set(Looking::No);
        }
    }
}

/// Keys in memory.
pub(super) struct Cache {
    index: Option<LogIndex>,
    known: RwLock<Known>,
    /// Reads what has changed. Locked before `known`.
    reader: Mutex<Reader>,
}

struct Known {
    /// The index's header from before `keys` was last checked against the database.
    header: Option<Header>,
    keys: HashMap<Place, Arc<CachedKey>>,
}

struct Reader {
    account: String,
    usage: Arc<Usage>,
    sql: Connection,
    /// Whether keys that wait for their deletion are as if they did not.
    keeps_deleted: bool,
    /// The number of the last change taken into account.
    seen: i64,
}

impl Cache {
    pub(super) fn new(store: &Store, account: &str, usage: &Arc<Usage>) -> Result<Self> {
        let sql = store.connect()?;
        // The first read makes SQLite open the index and keep it.
        let seen = last_change(&sql)?;
        Ok(Self {
            index: LogIndex::open(store.dir()),
            known: RwLock::new(Known {
                header: None,
                keys: HashMap::new(),
            }),
            reader: Mutex::new(Reader {
                account: account.to_owned(),
                usage: Arc::clone(usage),
                sql,
                keeps_deleted: false,
                seen,
            }),
        })
    }

    /// From now on keys that wait for their deletion are as if they did not.
    pub(super) fn keep_deleted(&self) {
        self.reader.lock().keeps_deleted = true;
    }

    /// The key of a place as it stands in the database now; `None` when there is none.
    pub(super) fn get(&self, sealer: &Sealer, place: &Place) -> Result<Option<Arc<CachedKey>>> {
        if let Some(header) = self.header() {
            let known = self.known.read();
            if known.header == Some(header)
                && let Some(key) = known.keys.get(place)
            {
                return Ok(Some(Arc::clone(key)));
            }
        }
        let mut reader = self.reader.lock();
        self.catch_up(&mut reader)?;
        if let Some(key) = self.known.read().keys.get(place) {
            return Ok(Some(Arc::clone(key)));
        }
        let Some(key) = reader.load(sealer, place)? else {
            return Ok(None);
        };
        let mut known = self.known.write();
        if known.keys.len() >= CAPACITY {
            known.keys.clear();
        }
        known.keys.insert(*place, Arc::clone(&key));
        Ok(Some(key))
    }

    /// One look for what follows on this thread.
    pub(super) fn look(&self) -> Look {
        let here = self.address();
        let within = match LOOK.get() {
            Looking::Once(cache) | Looking::Saw(cache, _) => cache == here,
            Looking::No => false,
        };
        if !within {
            LOOK.set(Looking::Once(here));
        }
        Look {
            ends: !within,
            _thread: PhantomData,
        }
    }

    /// Something is about to be changed: what follows has to see that.
    pub(super) fn look_again() {
        LOOK.set(Looking::No);
    }

    /// Which cache this is.
    fn address(&self) -> usize {
        std::ptr::from_ref(self).addr()
    }

    fn header(&self) -> Option<Header> {
        match LOOK.get() {
            Looking::Saw(cache, header) if cache == self.address() => Some(header),
            Looking::Once(cache) if cache == self.address() => {
                let header = self.read_header();
                if let Some(header) = header {
                    LOOK.set(Looking::Saw(cache, header));
                }
                header
            }
            _ => self.read_header(),
        }
    }

    fn read_header(&self) -> Option<Header> {
        self.index.as_ref().and_then(LogIndex::header)
    }

    /// Drops the keys that have changed.
    fn catch_up(&self, reader: &mut Reader) -> Result<()> {
        Self::look_again();
        // Before the database is read: a commit in between makes another header, seen next time.
        let header = self.header();
        let transaction = reader.sql.transaction()?;
        let last = last_change(&transaction)?;
        let changed = if last > reader.seen {
            changed_keys(&transaction, reader.seen)?
        } else {
            Vec::new()
        };
        drop(transaction);
        let mut known = self.known.write();
        if last < reader.seen {
            // Not the database it was: somebody restored an older one.
            known.keys.clear();
        }
        for place in changed {
            known.keys.remove(&place);
        }
        known.header = header;
        reader.seen = last;
        Ok(())
    }
}

impl Reader {
    fn load(&mut self, sealer: &Sealer, place: &Place) -> Result<Option<Arc<CachedKey>>> {
        let transaction = self.sql.transaction()?;
        let Some(mut row) = KeyRow::load(&transaction, place)? else {
            return Ok(None);
        };
        let pending = [KeyState::PendingDeletion, KeyState::PendingReplicaDeletion];
        if self.keeps_deleted && pending.contains(&row.state) {
            row.state = KeyState::Enabled;
            row.deletion_date = None;
        }
        let arn: Arc<str> = key_arn(place, &self.account).into();
        let access = Access::load(&transaction, &row)?;
        let materials = open_materials(&transaction, sealer, place, row.spec)?;
        let gone = MaterialRow::list(&transaction, place)?
            .into_iter()
            .filter(|row| !row.present)
            .map(|row| row.id)
            .collect();
        let last_use = self.usage.of(place);
        Ok(Some(Arc::new(CachedKey::new(
            row, arn, access, last_use, materials, gone,
        ))))
    }
}

/// Both copies of the header.
type Header = [u8; 2 * HEADER_LEN];
const HEADER_LEN: usize = 48;
/// The header's first field: the version of its format.
const INDEX_VERSION: u32 = 3_007_000;

/// The index of the database's write-ahead log (`keystore.db-shm`), which SQLite shares between
/// processes through memory.
///
/// Its header changes with each commit before the commit returns: it holds a counter of commits,
/// the number of the log's last frame and a checksum over all frames
/// (<https://sqlite.org/walformat.html>, section 2.1). SQLite itself compares it to know whether
/// its page cache still holds. Two copies are written one after the other, so a torn one is told
/// by their difference. Where the index can't be read, or has another format, every use reads the
/// database.
struct LogIndex(&'static File);

/// An index by device and inode.
type OpenIndex = ((u64, u64), &'static File);

/// The indexes this process has opened. Never closed: closing any descriptor of the file would drop
/// the locks that SQLite holds on it in this process (fcntl(2)). One for each keystore.
static INDEXES: Mutex<Vec<OpenIndex>> = Mutex::new(Vec::new());

impl LogIndex {
    /// The index of the keystore in `dir`, to which a connection that has read is open: so the file
    /// is not replaced meanwhile.
    fn open(dir: &Path) -> Option<Self> {
        let path = dir.join("keystore.db-shm");
        let mut indexes = INDEXES.lock();
        let meta = path.symlink_metadata().ok()?;
        let identity = (meta.dev(), meta.ino());
        if let Some((_, file)) = indexes.iter().find(|(known, _)| *known == identity) {
            return Some(Self(file));
        }
        let file: &'static File = Box::leak(Box::new(File::open(&path).ok()?));
        let meta = file.metadata().ok()?;
        indexes.push(((meta.dev(), meta.ino()), file));
        Some(Self(file))
    }

    fn header(&self) -> Option<Header> {
        let mut header = [0; 2 * HEADER_LEN];
        self.0.read_exact_at(&mut header, 0).ok()?;
        let whole = header[..HEADER_LEN] == header[HEADER_LEN..];
        let known = header[..4] == INDEX_VERSION.to_ne_bytes();
        (whole && known).then_some(header)
    }
}

#[cfg(test)]
impl Cache {
    /// Whether the index tells that nothing has changed.
    pub(super) fn is_fast(&self) -> bool {
        self.header()
            .is_some_and(|header| self.known.read().header == Some(header))
    }

    /// A cache that can't read the index.
    pub(super) fn without_index(store: &Store, account: &str, usage: &Arc<Usage>) -> Result<Self> {
        Ok(Self {
            index: None,
            ..Self::new(store, account, usage)?
        })
    }
}
