//! The control directory: volume record, lock, clean mark.
//!
//! ```text
//! .envelopefs/volume.a, volume.b   the volume record, twice: written in turn, the newer valid one counts
//! .envelopefs/lock                 held (flock) while the volume is open for writing; says by whom
//! .envelopefs/mark                 clean or in use, and after which crashes not all is recovered
//! .envelopefs/journal              new forms of blocks that were durable, before they go home
//! .envelopefs/targets/             symlink targets too long for a symlink below
//! .envelopefs/ctimes, ctimes.log   change times of rewrapped files, see `ctimes`
//! .envelopefs/reencrypted          what a re-encrypt under way has finished, see `run_log`
//! ```

use std::io::{IoSlice, IoSliceMut};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::error::{Result, VolumeError};
use super::journal::JOURNAL_SIZE_LEAST;
use crate::backing::{Allocate, Backing, EntryName, OpenFile};
use crate::format::{MARK_SPACE, Mark, RECORD_MAX, VolumeRecord, VolumeSecrets};

/// The directory in a cipher directory that is the volume's own.
pub const CONTROL_DIR: EntryName = EntryName::literal(".envelopefs");
pub(super) const TARGETS: EntryName = EntryName::literal("targets");
const RECORDS: [EntryName; 2] = [
    EntryName::literal("volume.a"),
    EntryName::literal("volume.b"),
];
const LOCK: EntryName = EntryName::literal("lock");
const MARK: EntryName = EntryName::literal("mark");
const JOURNAL: EntryName = EntryName::literal("journal");
/// How long the lock is waited for: a killed process has it until its last system call is over.
const LETS_GO_WITHIN: Duration = Duration::from_secs(1);
/// How often it is asked for meanwhile.
const ASK_EVERY: Duration = Duration::from_millis(10);

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

    /// Takes the lock for writing, also from a holder that is just about to end.
    ///
    /// # Errors
    /// [`VolumeError::Busy`] with the holder, when there is one.
    pub(super) fn lock(&self, holder: &Holder) -> Result<B::Lock> {
        let until = Instant::now() + LETS_GO_WITHIN;
        let lock = loop {
            if let Some(lock) = self.backing.lock(&self.dir, &LOCK, true)? {
                break lock;
            }
            if Instant::now() >= until {
                let holder = self
                    .holder()
                    .map_or_else(|| "another process".into(), |h| h.to_string());
                return Err(VolumeError::Busy { holder });
            }
            std::thread::sleep(ASK_EVERY);
        };
        let text = serde_json::to_vec(holder).unwrap_or_default();
        let file = self
            .backing
            .open_file(&self.dir, &LOCK, OpenFile::READ_WRITE)?;
        // Who holds it is a help, no more: a full disk must not keep anybody out.
        let told = self
            .backing
            .truncate(&file, 0)
            .and_then(|()| self.backing.write_at(&file, &mut [IoSlice::new(&text)], 0));
        if let Err(error) = told {
            tracing::debug!(%error, "telling who holds the volume");
        }
        Ok(lock)
    }

    /// Who wrote the lock file last.
    pub(super) fn holder(&self) -> Option<Holder> {
        serde_json::from_slice(&self.read(&LOCK).ok()?).ok()
    }

    /// Whether anyone has the volume open for writing now.
    pub(super) fn is_locked(&self) -> Result<bool> {
        // Who only asks makes no lock file: it would be theirs.
        if self
            .read(&LOCK)
            .is_err_and(|error| matches!(error, VolumeError::NotFound))
        {
            return Ok(false);
        }
        Ok(self.backing.lock(&self.dir, &LOCK, true)?.is_none())
    }

    /// Writes the mark: in the place that the one before it has not. No space is needed for that,
    /// so it works on a full disk too.
    pub(super) fn set_mark(&self, mark: &Mark, secrets: &VolumeSecrets) -> Result<()> {
        let mut bytes = mark.seal(&secrets.record);
        bytes.resize(MARK_SPACE, 0);
        let file = match self
            .backing
            .open_file(&self.dir, &MARK, OpenFile::READ_WRITE)
        {
            Ok(file) if self.backing.stat_file(&file)?.size >= 2 * MARK_SPACE as u64 => file,
            Ok(_) => return self.replace(&MARK, &bytes.repeat(2)),
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {
                return self.replace(&MARK, &bytes.repeat(2));
            }
            Err(error) => return Err(error.into()),
        };
        let bufs = &mut [IoSlice::new(&bytes)];
        self.backing.write_at(&file, bufs, mark.place())?;
        Ok(self.backing.sync_file(&file, false)?)
    }

    /// The mark. One that is missing or forged says nothing, so nothing is read leniently.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn mark(&self, secrets: &VolumeSecrets) -> std::result::Result<Mark, String> {
        let bytes = self.read(&MARK).map_err(|error| error.to_string())?;
        Mark::open_file(&bytes, &secrets.record).map_err(|error| error.to_string())
    }

    /// The journal file, if there is one.
    pub(super) fn journal(&self, how: OpenFile) -> Result<Option<B::File>> {
        match self.backing.open_file(&self.dir, &JOURNAL, how) {
            Ok(file) => Ok(Some(file)),
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// The journal file, made if it is missing, with all of its space taken; and its length. Less
    /// than `want` bytes where the disk has little room.
    pub(super) fn make_journal(&self, want: u64) -> Result<(B::File, u64)> {
        let file = match self.journal(OpenFile::READ_WRITE)? {
            Some(file) => file,
            None => {
                let file = self.backing.create_file(&self.dir, &JOURNAL, 0o600)?;
                self.backing.sync_dir(&self.dir)?;
                file
            }
        };
        let have = self.backing.stat_file(&file)?.size;
        let space = self.backing.statfs()?;
        let free = space.blocks_available.saturating_mul(space.block_size);
        let mut length = want.min((have + free) / 16).max(JOURNAL_SIZE_LEAST);
        if have > length {
            self.backing.truncate(&file, length)?;
        }
        loop {
            match self.backing.allocate(&file, Allocate::Reserve, 0, length) {
                Ok(()) => break,
                Err(error) => match error.raw_os_error() {
                    // No reserve on this filesystem: a full disk shows in a write's error.
                    Some(libc::EOPNOTSUPP) => {
                        self.backing.truncate(&file, length)?;
                        break;
                    }
                    Some(libc::ENOSPC | libc::EDQUOT) if length > have.max(JOURNAL_SIZE_LEAST) => {
                        length = (length / 2).max(have).max(JOURNAL_SIZE_LEAST);
                    }
                    _ => return Err(error.into()),
                },
            }
        }
        self.backing.sync_file(&file, false)?;
        Ok((file, length))
    }
}
