//! Protectors: what opens the root key.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rusqlite::{Connection, Row};
use zeroize::Zeroizing;

use super::super::clock::Timestamp;
use super::super::error::{KmsError, Result};
use super::seal::{Sealer, Slot};
use crate::crypto::{self, Argon2Cost, argon2id, hkdf_sha256};
use crate::secret::{Key256, SecretText};

/// Bytes that a key file has at least.
const KEY_FILE_MIN: usize = 32;
/// Bytes that a passphrase or key file has at most.
const FILE_MAX: usize = 1 << 20;
/// More than this is no cost that this program stored: a damaged row must not exhaust the machine.
const COST_MAX: Argon2Cost = Argon2Cost {
    memory_kib: 4 << 20,
    passes: 64,
    lanes: 64,
};

/// The kind of a protector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProtectorKind {
    /// A passphrase, typed or from a file or a systemd credential; Argon2id.
    Passphrase,
    /// A file of random bytes; HKDF-SHA-256.
    KeyFile,
}

impl ProtectorKind {
    /// The kind's word, as it is stored and shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Passphrase => "passphrase",
            Self::KeyFile => "key-file",
        }
    }

    fn from_word(word: &str) -> Result<Self> {
        match word {
            "passphrase" => Ok(Self::Passphrase),
            "key-file" => Ok(Self::KeyFile),
            _ => Err(KmsError::Damaged(format!(
                "unknown kind of protector '{word}'"
            ))),
        }
    }
}

/// A passphrase or the contents of a key file.
pub struct ProtectorInput {
    kind: ProtectorKind,
    secret: SecretText,
}

impl ProtectorInput {
    /// A passphrase.
    ///
    /// # Errors
    /// [`KmsError::BadProtector`] when it is empty.
    pub fn passphrase(secret: SecretText) -> Result<Self> {
        if secret.is_empty() {
            return Err(KmsError::BadProtector("the passphrase is empty".to_owned()));
        }
        Ok(Self {
            kind: ProtectorKind::Passphrase,
            secret,
        })
    }

    /// The passphrase in a file (or a systemd credential); one line end after it does not count.
    ///
    /// # Errors
    /// [`KmsError::Io`]; [`KmsError::BadProtector`] when it is empty or above 1 MiB.
    pub fn passphrase_file(path: &Path) -> Result<Self> {
        let mut secret = read_secret_file(path, "read the passphrase file")?;
        if secret.last() == Some(&b'\n') {
            secret.pop();
            if secret.last() == Some(&b'\r') {
                secret.pop();
            }
        }
        Self::passphrase(secret).map_err(|_| {
            KmsError::BadProtector(format!("the passphrase file {} is empty", path.display()))
        })
    }

    /// The contents of a key file.
    ///
    /// # Errors
    /// [`KmsError::BadProtector`] when there are fewer than 32 bytes.
    pub fn key(secret: SecretText) -> Result<Self> {
        if secret.len() < KEY_FILE_MIN {
            return Err(KmsError::BadProtector(format!(
                "a key file has at least {KEY_FILE_MIN} random bytes, this one has {} \
                 (make one: head -c 64 /dev/urandom > FILE; chmod 600 FILE)",
                secret.len()
            )));
        }
        Ok(Self {
            kind: ProtectorKind::KeyFile,
            secret,
        })
    }

    /// A key file. Warns when other users can read it.
    ///
    /// # Errors
    /// [`KmsError::Io`]; [`KmsError::BadProtector`] when it is under 32 bytes or above 1 MiB.
    pub fn key_file(path: &Path) -> Result<Self> {
        Self::key(read_secret_file(path, "read the key file")?)
    }

    /// What it is.
    pub fn kind(&self) -> ProtectorKind {
        self.kind
    }
}

fn read_secret_file(path: &Path, action: &'static str) -> Result<SecretText> {
    let failed = || KmsError::io(action, path);
    let file = File::open(path).map_err(failed())?;
    let meta = file.metadata().map_err(failed())?;
    if meta.is_file() && meta.mode() & 0o004 != 0 {
        tracing::warn!(
            "{} can be read by every user of this machine (chmod 600)",
            path.display()
        );
    }
    // All the capacity at once: a buffer that grows leaves copies of the secret behind.
    let mut secret = Zeroizing::new(Vec::with_capacity(FILE_MAX + 1));
    let mut limited = file.take(FILE_MAX as u64 + 1);
    limited.read_to_end(&mut secret).map_err(failed())?;
    if secret.len() > FILE_MAX {
        return Err(KmsError::BadProtector(format!(
            "{} is larger than 1 MiB",
            path.display()
        )));
    }
    Ok(secret)
}

/// What can be said of a protector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProtectorInfo {
    /// Its id: eight hex digits.
    pub id: String,
    /// Its kind.
    pub kind: ProtectorKind,
    /// When it was added.
    pub created: Timestamp,
}

/// A row of the table.
pub(super) struct Protector {
    pub(super) info: ProtectorInfo,
    salt: [u8; 16],
    cost: Option<Argon2Cost>,
    sealed_root: Vec<u8>,
}

impl Protector {
    /// Wraps the root key for `input`.
    pub(super) fn new(input: &ProtectorInput, root: &Key256, now: Timestamp) -> Result<Self> {
        let id = format!("{:08x}", u32::from_le_bytes(crypto::random_array()));
        let mut new = Self {
            info: ProtectorInfo {
                id,
                kind: input.kind,
                created: now,
            },
            salt: crypto::random_array(),
            cost: match input.kind {
                ProtectorKind::Passphrase => Some(Argon2Cost::RECOMMENDED),
                ProtectorKind::KeyFile => None,
            },
            sealed_root: Vec::new(),
        };
        new.sealed_root = Sealer::for_root(&new.key(input)?).seal(new.place(), root);
        Ok(new)
    }

    /// Unwraps the root key; `None` when `input` is not this protector's secret.
    pub(super) fn open(&self, input: &ProtectorInput) -> Result<Option<Key256>> {
        if self.info.kind != input.kind {
            return Ok(None);
        }
        Ok(Sealer::for_root(&self.key(input)?)
            .open(self.place(), &self.sealed_root)
            .ok())
    }

    fn place(&self) -> Slot<'_> {
        Slot {
            table: "protectors",
            id: &self.info.id,
            generation: 1,
        }
    }

    fn key(&self, input: &ProtectorInput) -> Result<Key256> {
        let damaged = || KmsError::Damaged(format!("protector {} has no valid cost", self.info.id));
        match self.info.kind {
            ProtectorKind::Passphrase => {
                let cost = self.cost.ok_or_else(damaged)?;
                if cost.memory_kib > COST_MAX.memory_kib
                    || cost.passes > COST_MAX.passes
                    || cost.lanes > COST_MAX.lanes
                {
                    return Err(damaged());
                }
                argon2id(&input.secret, &self.salt, cost).map_err(|_| damaged())
            }
            ProtectorKind::KeyFile => {
                // HKDF (RFC 5869). Extract is HMAC(salt, contents), the salt padded with zeros to
                // the length of the hash; its output then goes through HKDF as a 256-bit key.
                let salt = Key256::init(|out| out[..16].copy_from_slice(&self.salt));
                let mut extracted = crypto::mac(&salt, &[&input.secret]);
                let extracted = Key256::take_from(&mut extracted);
                Ok(hkdf_sha256(
                    &extracted,
                    b"",
                    &[b"envelopefs key file protector v1"],
                ))
            }
        }
    }

    pub(super) fn insert(&self, sql: &Connection) -> Result<()> {
        sql.execute(
            "INSERT INTO protectors (id, kind, salt, memory_kib, passes, lanes, sealed_root, created)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
            rusqlite::params![
                self.info.id,
                self.info.kind.as_str(),
                self.salt,
                self.cost.map(|c| c.memory_kib),
                self.cost.map(|c| c.passes),
                self.cost.map(|c| c.lanes),
                self.sealed_root,
                self.info.created.millis(),
            ],
        )?;
        Ok(())
    }

    /// All protectors, oldest first.
    pub(super) fn load(sql: &Connection) -> Result<Vec<Self>> {
        let mut query = sql.prepare(
            "SELECT id, kind, salt, memory_kib, passes, lanes, sealed_root, created
             FROM protectors ORDER BY created, id",
        )?;
        let mut rows = query.query([])?;
        let mut all = Vec::new();
        while let Some(row) = rows.next()? {
            all.push(Self::from_row(row)?);
        }
        Ok(all)
    }

    fn from_row(row: &Row<'_>) -> Result<Self> {
        let cost = match (row.get(3)?, row.get(4)?, row.get(5)?) {
            (Some(memory_kib), Some(passes), Some(lanes)) => Some(Argon2Cost {
                memory_kib,
                passes,
                lanes,
            }),
            _ => None,
        };
        Ok(Self {
            info: ProtectorInfo {
                id: row.get(0)?,
                kind: ProtectorKind::from_word(&row.get::<_, String>(1)?)?,
                created: Timestamp::from_millis(row.get(7)?),
            },
            salt: row.get(2)?,
            cost,
            sealed_root: row.get(6)?,
        })
    }
}
