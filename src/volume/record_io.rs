//! The control directory: volume record, lock, clean mark.
//!
//! ```text
//! .envelopefs/volume.a, volume.b   the volume record, twice: written in turn, the newer valid one counts
//! .envelopefs/lock                 held (flock) while the volume is open for writing; says by whom
//! .envelopefs/mark                 "clean" or "in use", authenticated
//! .envelopefs/targets/             symlink targets too long for a symlink below
//! .envelopefs/ctimes, ctimes.log   change times of rewrapped files, see `ctimes`
//! ```

use std::io::{IoSlice, IoSliceMut};

use serde::{Deserialize, Serialize};

use super::error::{Result, VolumeError};
use crate::backing::{Backing, EntryName, OpenFile};
use crate::crypto::{mac, mac_matches};
use crate::format::{RECORD_MAX, VolumeRecord, VolumeSecrets};

/// The directory in a cipher directory that is the volume's own.
pub const CONTROL_DIR: EntryName = EntryName::literal(".envelopefs");
pub(super) const TARGETS: EntryName = EntryName::literal("targets");
const RECORDS: [EntryName; 2] = [
    EntryName::literal("volume.a"),
    EntryName::literal("volume.b"),
];
const LOCK: EntryName = EntryName::literal("lock");
const MARK: EntryName = EntryName::literal("mark");

/// Who has a volume open for writing, as its lock file tells.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// Its process.
    pub pid: u32,
    /// Its machine.
    pub host: String,
    /// What it does: "mount", "fsck", ...
    pub purpose: String,
    /// Where it is mounted, if it is.
    pub mountpoint: Option<String>,
}

impl std::fmt::Display for Holder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "process {} on {} ({}", self.pid, self.host, self.purpose)?;
        if let Some(mountpoint) = &self.mountpoint {
            write!(f, " at {mountpoint}")?;
        }
        write!(f, ")")
    }
}

/// Whether the volume was left cleanly.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Mark {
    Clean,
    InUse,
}

/// The control directory of a cipher directory.
pub(super) struct Control<'a, B: Backing> {
    pub(super) backing: &'a B,
    pub(super) dir: B::Dir,
}

impl<'a, B: Backing> Control<'a, B> {
    pub(super) fn open(backing: &'a B, root: &B::Dir) -> Result<Self> {
        Ok(Self {
            backing,
            dir: backing.open_dir(root, &CONTROL_DIR)?,
        })
    }

    fn read(&self, name: &EntryName) -> Result<Vec<u8>> {
        let file = self.backing.open_file(&self.dir, name, OpenFile::READ)?;
        let mut bytes = vec![0; RECORD_MAX + 1];
        let len = self
            .backing
            .read_at(&file, &mut [IoSliceMut::new(&mut bytes)], 0)?;
        bytes.truncate(len);
        Ok(bytes)
    }

    /// Replaces a small file: durable before the old one is gone.
    fn replace(&self, name: &EntryName, bytes: &[u8]) -> Result<()> {
        let new = format!("{name}.new");
        let new = EntryName::new(new.as_bytes())?;
        match self.backing.unlink(&self.dir, &new) {
            Ok(()) => {}
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {}
            Err(error) => return Err(error.into()),
        }
        let file = self.backing.create_file(&self.dir, &new, 0o600)?;
        self.backing
            .write_at(&file, &mut [IoSlice::new(bytes)], 0)?;
        self.backing.sync_file(&file, false)?;
        self.backing.rename(
            &self.dir,
            &new,
            &self.dir,
            name,
            crate::backing::Rename::Plain,
        )?;
        self.backing.sync_dir(&self.dir)?;
        Ok(())
    }

    /// The stored copies of the record, newest first, unauthenticated.
    pub(super) fn records(&self) -> Result<Vec<(Vec<u8>, VolumeRecord)>> {
        let mut found = Vec::new();
        let mut failure = None;
        for name in &RECORDS {
            match self.read(name) {
                Ok(bytes) => match VolumeRecord::parse(&bytes) {
                    Ok(record) => found.push((bytes, record)),
                    Err(error) => failure = Some(VolumeError::record(None, error)),
                },
                Err(error) => failure = failure.or(Some(error)),
            }
        }
        found.sort_by_key(|(_, record)| std::cmp::Reverse(record.generation));
        match (found.is_empty(), failure) {
            (true, Some(error)) => Err(error),
            _ => Ok(found),
        }
    }

    /// Writes the record: the copy that isn't the newest first, so that one is always whole.
    pub(super) fn write_record(
        &self,
        record: &VolumeRecord,
        secrets: &VolumeSecrets,
    ) -> Result<()> {
        let bytes = record
            .seal(&secrets.record)
            .map_err(|error| VolumeError::record(Some(record.volume_id), error))?;
        for name in &RECORDS {
            self.replace(name, &bytes)?;
        }
        Ok(())
    }

    /// Takes the lock for writing.
    ///
    /// # Errors
    /// [`VolumeError::Busy`] with the holder, when there is one.
    pub(super) fn lock(&self, holder: &Holder) -> Result<B::Lock> {
        let Some(lock) = self.backing.lock(&self.dir, &LOCK, true)? else {
            let holder = self
                .holder()
                .map_or_else(|| "another process".into(), |h| h.to_string());
            return Err(VolumeError::Busy { holder });
        };
        let text = serde_json::to_vec(holder).unwrap_or_default();
        let file = self
            .backing
            .open_file(&self.dir, &LOCK, OpenFile::READ_WRITE)?;
        self.backing.truncate(&file, 0)?;
        self.backing
            .write_at(&file, &mut [IoSlice::new(&text)], 0)?;
        Ok(lock)
    }

    /// Who wrote the lock file last.
    pub(super) fn holder(&self) -> Option<Holder> {
        serde_json::from_slice(&self.read(&LOCK).ok()?).ok()
    }

    /// Whether anyone has the volume open for writing now.
    pub(super) fn is_locked(&self) -> Result<bool> {
        Ok(self.backing.lock(&self.dir, &LOCK, true)?.is_none())
    }

    pub(super) fn set_mark(&self, mark: Mark, secrets: &VolumeSecrets) -> Result<()> {
        let text: &[u8] = match mark {
            Mark::Clean => b"clean\n",
            Mark::InUse => b"in use\n",
        };
        let mut bytes = text.to_vec();
        bytes.extend_from_slice(&mac(&secrets.record, &[b"mark", text]));
        self.replace(&MARK, &bytes)
    }

    /// The mark; one that is missing or forged counts as in use.
    pub(super) fn mark(&self, secrets: &VolumeSecrets) -> Mark {
        let clean = self.read(&MARK).is_ok_and(|bytes| {
            bytes.split_last_chunk::<32>().is_some_and(|(text, tag)| {
                text == b"clean\n" && mac_matches(&secrets.record, &[b"mark", text], tag)
            })
        });
        if clean { Mark::Clean } else { Mark::InUse }
    }
}
