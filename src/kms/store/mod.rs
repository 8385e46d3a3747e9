//! The keystore: one SQLite database in a directory of its own, shared by several processes.
//!
//! Every change is one IMMEDIATE transaction with `synchronous = FULL`: it is durable when the call
//! returns, and a process killed at any moment leaves the state before or after it.

mod access_keys;
mod aliases;
mod audit;
mod grants;
mod keys;
mod materials;
mod protector;
mod seal;
mod transfer;
mod volumes;

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use parking_lot::Mutex;
use rusqlite::{Connection, OpenFlags, OptionalExtension, Transaction, TransactionBehavior};
use rustix::fs::Access;

pub(super) use access_keys::{AccessKeyRow, open_access_key};
pub(super) use aliases::{AliasRow, alias_target, list_tags};
pub(super) use audit::{Anchor, audit_key, move_anchor};
pub use grants::GrantConstraints;
pub(super) use grants::{Grant, GrantRow, was_admitted};
pub(super) use keys::{
    KeyRow, NewKey, NewReplica, Place, Schedule, changed_keys, deletion_forced, last_change,
    last_used, region_of,
};
pub use materials::MaterialState;
pub(super) use materials::{
    Import, MaterialRow, MaterialSecret, OpenMaterial, new_secret, open_materials,
};
pub use protector::{ProtectorInfo, ProtectorInput, ProtectorKind};
pub(super) use seal::{Sealer, Slot};
pub(super) use transfer::{CopiedMaterial, copy_materials, transfer_key};
pub(super) use volumes::{Count, Counted, VolumeRow, admitted_volumes, admitting_keys};

use super::KeystoreStatus;
use super::cache::Cache;
use super::clock::Timestamp;
use super::error::{KmsError, Result};
use crate::crypto;
use crate::secret::Key256;
use protector::Protector;

/// The database's name in the directory.
const FILE: &str = "keystore.db";
/// `PRAGMA application_id`: "EnvK".
const APPLICATION_ID: i32 = 0x456e_764b;
/// `PRAGMA user_version`: the version of the schema.
const SCHEMA_VERSION: i32 = 3;
const SCHEMA: &str = include_str!("schema.sql");
const SCHEMA_KEYS: &str = include_str!("schema_keys.sql");
/// What version 3 has beyond version 2.
const SCHEMA_VOLUMES: &str = include_str!("schema_volumes.sql");
/// From version 1: what makes room for the new tables, and what fills them.
const FROM_1: (&str, &str) = (
    include_str!("migrate_1_to_2.sql"),
    include_str!("migrate_1_to_2_rows.sql"),
);
/// The period of automatic rotation when none is given.
pub(super) const DEFAULT_PERIOD_DAYS: u32 = 365;
/// How long a process waits for another one's transaction.
const BUSY: Duration = Duration::from_secs(30);

/// An open keystore.
pub(super) struct Store {
    dir: PathBuf,
    root: Key256,
    sealer: Sealer,
    writer: Mutex<Connection>,
    reader: Mutex<Connection>,
}

/// A transaction that may change something.
pub(super) struct Change<'a> {
    pub(super) sql: &'a Connection,
    pub(super) sealer: &'a Sealer,
}

impl Store {
    /// Makes a keystore in `dir`, which is made too when it is missing. All or nothing.
    pub(super) fn create(
        dir: &Path,
        protector: &ProtectorInput,
        settings: &[(&str, &str)],
        now: Timestamp,
    ) -> Result<Self> {
        let path = dir.join(FILE);
        if Self::exists(dir) {
            return Err(KmsError::KeystoreExists {
                dir: dir.to_owned(),
            });
        }
        make_private_dir(dir)?;
        let root: Key256 = crypto::random_key();
        let suffix = u64::from_le_bytes(crypto::random_array());
        let unfinished = dir.join(format!("{FILE}.new.{suffix:016x}"));
        let made = write_database(&unfinished, protector, &root, settings, now).and_then(|()| {
            rename_new(&unfinished, &path).map_err(|error| match error.kind() {
                std::io::ErrorKind::AlreadyExists => KmsError::KeystoreExists {
                    dir: dir.to_owned(),
                },
                _ => KmsError::io("make", &path)(error),
            })
        });
        if let Err(error) = made {
            // Best effort: the name is random and nothing opens it.
            let _ = fs::remove_file(&unfinished);
            return Err(error);
        }
        File::open(dir)
            .and_then(|dir| dir.sync_all())
            .map_err(KmsError::io("sync", dir))?;
        Self::with_root(dir, root)
    }

    /// Whether there is a keystore in `dir`.
    pub(super) fn exists(dir: &Path) -> bool {
        dir.join(FILE).symlink_metadata().is_ok()
    }

    /// Opens the keystore with the first of `unlock` that fits one of its protectors.
    pub(super) fn open(dir: &Path, unlock: &[ProtectorInput]) -> Result<Self> {
        let protectors = Protector::load(&connect(dir)?)?;
        if unlock.is_empty() {
            return Err(KmsError::Locked {
                dir: dir.to_owned(),
            });
        }
        for input in unlock {
            for protector in &protectors {
                if let Some(root) = protector.open(input)? {
                    migrate(dir)?;
                    return Self::with_root(dir, root);
                }
            }
        }
        Err(KmsError::WrongPassphrase {
            dir: dir.to_owned(),
        })
    }

    /// Reads a keystore that is not open.
    pub(super) fn status(dir: &Path) -> Result<KeystoreStatus> {
        let mut sql = connect(dir)?;
        let transaction = sql.transaction()?;
        let count = |table: &str| {
            let query = format!("SELECT count(*) FROM {table}");
            transaction.query_row(&query, [], |row| row.get(0).map(i64::unsigned_abs))
        };
        let (account_id, region) = super::identity(&transaction)?;
        Ok(KeystoreStatus {
            dir: dir.to_owned(),
            account_id,
            region,
            protectors: Protector::load(&transaction)?
                .into_iter()
                .map(|p| p.info)
                .collect(),
            keys: count("keys")?,
            aliases: count("aliases")?,
        })
    }

    fn with_root(dir: &Path, root: Key256) -> Result<Self> {
        Ok(Self {
            dir: dir.to_owned(),
            sealer: Sealer::new(&root),
            root,
            writer: Mutex::new(connect(dir)?),
            reader: Mutex::new(connect(dir)?),
        })
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// One more connection, for a user that keeps it to itself.
    pub(super) fn connect(&self) -> Result<Connection> {
        connect(&self.dir)
    }

    pub(super) fn sealer(&self) -> &Sealer {
        &self.sealer
    }

    /// Reads a consistent state.
    pub(super) fn read<T>(&self, query: impl FnOnce(&Connection) -> Result<T>) -> Result<T> {
        let mut reader = self.reader.lock();
        let transaction = reader.transaction()?;
        query(&transaction)
    }

    /// Changes the state in one transaction; an error leaves it as it was.
    pub(super) fn change<T>(&self, change: impl FnOnce(&Change<'_>) -> Result<T>) -> Result<T> {
        Cache::look_again();
        let mut writer = self.writer.lock();
        let transaction: Transaction<'_> =
            writer.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let answer = change(&Change {
            sql: &transaction,
            sealer: &self.sealer,
        })?;
        transaction.commit()?;
        Ok(answer)
    }

    pub(super) fn set_setting(&self, name: &str, value: &str) -> Result<()> {
        self.change(|change| {
            change.sql.execute(
                "INSERT INTO settings VALUES (?1, ?2)
                 ON CONFLICT (name) DO UPDATE SET value = excluded.value",
                [name, value],
            )?;
            Ok(())
        })
    }

    pub(super) fn protectors(&self) -> Result<Vec<ProtectorInfo>> {
        self.read(|sql| Ok(Protector::load(sql)?.into_iter().map(|p| p.info).collect()))
    }

    pub(super) fn add_protector(
        &self,
        input: &ProtectorInput,
        now: Timestamp,
    ) -> Result<ProtectorInfo> {
        // Before the transaction: Argon2 takes its time.
        let new = Protector::new(input, &self.root, now)?;
        self.change(|change| new.insert(change.sql))?;
        Ok(new.info)
    }

    pub(super) fn remove_protector(&self, id: &str) -> Result<()> {
        self.change(|change| {
            if change
                .sql
                .execute("DELETE FROM protectors WHERE id = ?1", [id])?
                == 0
            {
                return Err(KmsError::NotFound(format!(
                    "the keystore has no protector {id}"
                )));
            }
            let left: i64 = change
                .sql
                .query_row("SELECT count(*) FROM protectors", [], |row| row.get(0))?;
            if left == 0 {
                Err(KmsError::LastProtector)
            } else {
                Ok(())
            }
        })?;
        self.clean()
    }

    /// Sees to it that what was deleted is in no file any more: rewrites the database without its
    /// free pages, moves the log into it and empties the log. A reader may hold it; the next one
    /// does it.
    pub(super) fn clean(&self) -> Result<()> {
        let writer = self.writer.lock();
        let busy = |error: &rusqlite::Error| {
            matches!(
                error.sqlite_error_code(),
                Some(rusqlite::ErrorCode::DatabaseBusy | rusqlite::ErrorCode::DatabaseLocked)
            )
        };
        match writer.execute_batch("VACUUM") {
            Err(error) if !busy(&error) => return Err(error.into()),
            _ => {}
        }
        writer.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
        Ok(())
    }
}

/// A setting's value.
pub(super) fn setting(sql: &Connection, name: &str) -> Result<Option<String>> {
    Ok(sql
        .query_row(
            "SELECT value FROM settings WHERE name = ?1",
            [name],
            |row| row.get(0),
        )
        .optional()?)
}

fn make_private_dir(dir: &Path) -> Result<()> {
    let existed = dir.exists();
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(KmsError::io("make the directory", dir))?;
    if !existed {
        return Ok(());
    }
    let empty = fs::read_dir(dir)
        .map_err(KmsError::io("read", dir))?
        .next()
        .is_none();
    let mode = fs::metadata(dir)
        .map_err(KmsError::io("look at", dir))?
        .mode()
        & 0o7777;
    if empty && mode & 0o077 != 0 {
        let private = fs::Permissions::from_mode(0o700);
        return fs::set_permissions(dir, private)
            .map_err(KmsError::io("set the permissions of", dir));
    }
    if mode & 0o022 != 0 {
        return Err(KmsError::NotPrivate {
            dir: dir.to_owned(),
            mode,
        });
    }
    Ok(())
}

/// Gives a file its name, unless there is one of that name.
fn rename_new(from: &Path, to: &Path) -> std::io::Result<()> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    use rustix::io::Errno;
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        // A filesystem without that flag.
        Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {
            fs::hard_link(from, to)?;
            fs::remove_file(from)
        }
        other => Ok(other?),
    }
}

/// Writes a whole new database to `path`.
fn write_database(
    path: &Path,
    protector: &ProtectorInput,
    root: &Key256,
    settings: &[(&str, &str)],
    now: Timestamp,
) -> Result<()> {
    let protector = Protector::new(protector, root, now)?;
    // SQLite gives its log and index the permissions of the database.
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map_err(KmsError::io("make", path))?;
    let mut sql = open_file(path)?;
    // Part of the file, so all later connections have it.
    sql.pragma_update(None, "journal_mode", "WAL")?;
    let transaction = sql.transaction()?;
    transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    transaction.pragma_update(None, "user_version", SCHEMA_VERSION)?;
    transaction.execute_batch(SCHEMA)?;
    transaction.execute_batch(SCHEMA_KEYS)?;
    transaction.execute_batch(SCHEMA_VOLUMES)?;
    for (name, value) in settings {
        transaction.execute("INSERT INTO settings VALUES (?1, ?2)", [name, value])?;
    }
    protector.insert(&transaction)?;
    transaction.commit()?;
    // The last close moves the log into the database.
    sql.close().map_err(|(_, error)| error)?;
    File::open(path)
        .and_then(|file| file.sync_all())
        .map_err(KmsError::io("sync", path))
}

fn connect(dir: &Path) -> Result<Connection> {
    let path = dir.join(FILE);
    let meta = match path.symlink_metadata() {
        Ok(meta) => meta,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(KmsError::NoKeystore {
                dir: dir.to_owned(),
            });
        }
        Err(error) => return Err(KmsError::io("look at", path)(error)),
    };
    // SQLite's own message for what it may not open says neither file nor reason. No trial open
    // here: closing any descriptor of the file would drop the locks that SQLite holds on it in
    // this process (fcntl(2)).
    rustix::fs::access(&path, Access::READ_OK | Access::WRITE_OK)
        .map_err(|errno| KmsError::io("open", &path)(errno.into()))?;
    if meta.mode() & 0o022 != 0 {
        tracing::warn!(
            "the keystore {} can be written by other users",
            path.display()
        );
    }
    let wrong = |reason: String| KmsError::Version {
        path: path.clone(),
        reason,
    };
    let foreign = |error: KmsError| match error {
        KmsError::Database(error)
            if error.sqlite_error_code() == Some(rusqlite::ErrorCode::NotADatabase) =>
        {
            wrong("it is no database".to_owned())
        }
        other => other,
    };
    let sql = open_file(&path).map_err(foreign)?;
    let application: i32 = sql.pragma_query_value(None, "application_id", |row| row.get(0))?;
    if application != APPLICATION_ID {
        return Err(wrong("it is another program's database".to_owned()));
    }
    let version: i32 = sql.pragma_query_value(None, "user_version", |row| row.get(0))?;
    // An older one can be looked at as it is, and is brought up to date when it is opened.
    if !(1..=SCHEMA_VERSION).contains(&version) {
        return Err(wrong(format!(
            "its schema is version {version}, this program knows {SCHEMA_VERSION}"
        )));
    }
    Ok(sql)
}

/// Brings a keystore of an older version up to date, in one transaction.
fn migrate(dir: &Path) -> Result<()> {
    let mut sql = connect(dir)?;
    let version = |sql: &Connection| -> Result<i32> {
        Ok(sql.pragma_query_value(None, "user_version", |row| row.get(0))?)
    };
    if version(&sql)? == SCHEMA_VERSION {
        return Ok(());
    }
    // A table takes its references along when it is renamed; they are checked again below.
    sql.pragma_update(None, "foreign_keys", "OFF")?;
    let transaction = sql.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let from = version(&transaction)?;
    if from == SCHEMA_VERSION {
        // Another process was faster.
        return Ok(());
    }
    if from == 1 {
        transaction.execute_batch(FROM_1.0)?;
        transaction.execute_batch(SCHEMA_KEYS)?;
        transaction.execute_batch(FROM_1.1)?;
    }
    transaction.execute_batch(SCHEMA_VOLUMES)?;
    let broken = transaction
        .prepare("PRAGMA foreign_key_check")?
        .exists([])?;
    if broken {
        return Err(KmsError::Damaged(
            "rows of an older version refer to keys that are not there".to_owned(),
        ));
    }
    transaction.pragma_update(None, "user_version", SCHEMA_VERSION)?;
    transaction.commit()?;
    Ok(())
}

/// Opens a database with the settings that each connection needs anew.
fn open_file(path: &Path) -> Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let sql = Connection::open_with_flags(path, flags)?;
    sql.busy_timeout(BUSY)?;
    sql.pragma_update(None, "synchronous", "FULL")?;
    sql.pragma_update(None, "secure_delete", "ON")?;
    sql.pragma_update(None, "foreign_keys", "ON")?;
    sql.pragma_update(None, "trusted_schema", "OFF")?;
    sql.pragma_update(None, "temp_store", "MEMORY")?;
    Ok(sql)
}
