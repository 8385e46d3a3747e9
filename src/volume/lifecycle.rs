//! Making, opening, looking after and closing a volume.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use parking_lot::{Mutex, RwLock};

use super::ctimes::Ctimes;
use super::dirs::{DirState, Dirs};
use super::error::{Result, VolumeError};
use super::keys::{DataKeys, is_current, key_of, volume_context};
use super::nodes::Nodes;
use super::open_file::OpenFiles;
use super::record_io::{CONTROL_DIR, Control, Holder, Mark, TARGETS};
use super::status::Counters;
use super::types::NodeId;
use super::{CutOff, Volume};
use crate::backing::Backing;
use crate::format::{NameEncoding, VolumeId, VolumeRecord, VolumeSecrets};
use crate::kms::{KeyId, Kms, Via};
use crate::names::{DirId, NameMode, Names};
use crate::secret::Key256;

/// How many directories are kept open below, the root aside.
const DIRS_MOST: usize = 256;

/// The same, where the process may not open many files: each directory takes two descriptors at the
/// most (one to list it), and half of all are for open files.
fn most_dirs() -> usize {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    limit.map_or(DIRS_MOST, |limit| {
        usize::try_from(limit / 8).map_or(DIRS_MOST, |most| most.clamp(2, DIRS_MOST))
    })
}

/// What a new volume is like.
pub struct CreateOptions {
    /// The CMK that wraps its keys.
    pub key: KeyId,
    /// How its names are stored.
    pub names: NameEncoding,
}

/// How a volume is opened.
pub struct OpenOptions {
    /// For reading only: takes no lock, writes nothing.
    pub read_only: bool,
    /// How long an open file goes on after its CMK was disabled, at the most; also the age of
    /// cached data keys.
    pub key_ttl: Duration,
    /// Who opens it, for the lock file.
    pub holder: Holder,
}

impl Default for OpenOptions {
    fn default() -> Self {
        let holder = Holder {
            pid: std::process::id(),
            host: rustix::system::uname()
                .nodename()
                .to_string_lossy()
                .into_owned(),
            ..Holder::default()
        };
        Self {
            read_only: false,
            key_ttl: Duration::from_secs(60),
            holder,
        }
    }
}

impl<B: Backing> Volume<B> {
    /// Makes a volume of an empty directory.
    ///
    /// # Errors
    /// [`VolumeError::CannotCreate`] when the directory has entries or is a volume already;
    /// [`VolumeError::Key`] when the CMK can't be used.
    pub fn init(backing: &B, kms: &Kms, options: &CreateOptions) -> Result<VolumeId> {
        let root = backing.root()?;
        let mut listing = backing.list(&root)?;
        let mut entry = None;
        backing.next_entries(&mut listing, 0, &mut |found| {
            if !matches!(found.name, b"." | b"..") {
                entry = Some(found.name.to_vec());
            }
            entry.is_none()
        })?;
        if let Some(name) = entry {
            return Err(VolumeError::CannotCreate(
                if name == CONTROL_DIR.as_bytes() {
                    "the directory is a volume already; mount it with `envelopefs mount`".into()
                } else {
                    "the directory is not empty; a new volume needs an empty one".into()
                },
            ));
        }
        let volume_id = VolumeId::random();
        let made = kms.generate_data_key(Via::Volume, &options.key, &volume_context(&volume_id))?;
        let secrets = VolumeSecrets::derive(&made.plaintext, &volume_id);
        let created = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .map_or(0, |since| {
                i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
            });
        let record = VolumeRecord {
            generation: 1,
            volume_id,
            features: 0,
            names: options.names,
            created,
            volume_keys: vec![made.blob],
        };
        backing.mkdir(&root, &CONTROL_DIR, 0o700)?;
        let control = Control::open(backing, &root)?;
        backing.mkdir(&control.dir, &TARGETS, 0o700)?;
        control.set_mark(Mark::Clean, &secrets)?;
        control.write_record(&record, &secrets)?;
        backing.sync_dir(&root)?;
        Ok(volume_id)
    }

    /// Opens a volume.
    ///
    /// # Errors
    /// [`VolumeError::NoVolume`], [`VolumeError::Busy`], [`VolumeError::Key`],
    /// [`VolumeError::Record`].
    pub fn open(backing: B, kms: Arc<Kms>, options: OpenOptions) -> Result<Self> {
        let root = backing.root()?;
        let stat = backing.stat_dir(&root)?;
        let control = Control::open(&backing, &root).map_err(|error| match error {
            VolumeError::NotFound => VolumeError::NoVolume("the directory".into()),
            other => other,
        })?;
        let (record, secrets, volume_key) = unlock(&control, &kms)?;
        let (lock, mark) = if options.read_only {
            (None, control.mark(&secrets))
        } else {
            let lock = control.lock(&options.holder)?;
            let mark = control.mark(&secrets);
            if mark == Mark::Clean {
                control.set_mark(Mark::InUse, &secrets)?;
            }
            (Some(lock), mark)
        };
        // A reader beside a writer finds the mark "in use", and files in the middle of a change.
        if mark == Mark::InUse && !options.read_only {
            tracing::warn!(volume = %record.volume_id, "the volume was not unmounted cleanly");
        }
        let mode = match record.names {
            NameEncoding::Encrypted => NameMode::Encrypted,
            NameEncoding::Plain => NameMode::Plain,
        };
        drop(control);
        let secrets = Arc::new(secrets);
        let ctimes = Ctimes::load(
            &backing,
            &root,
            Arc::clone(&secrets),
            record.volume_id,
            options.read_only,
        )?;
        Ok(Self {
            ctimes,
            names: Names::new(&secrets.names, mode),
            keys: DataKeys::new(kms, record.volume_id, options.key_ttl),
            root: Arc::new(DirState::new(NodeId::ROOT, root, DirId::ROOT)),
            root_ino: stat.ino,
            device: stat.dev,
            generation: AtomicU64::new(record.generation),
            record,
            secrets,
            current_cmk: Mutex::new(volume_key),
            nodes: Nodes::default(),
            dirs: Dirs::new(most_dirs()),
            files: OpenFiles::default(),
            namespace: RwLock::new(()),
            counters: Counters::default(),
            strict: AtomicBool::new(mark == Mark::Clean),
            read_only: options.read_only,
            lock: Mutex::new(lock),
            cut_off: Mutex::new(None),
            moves: super::moves::Moves::default(),
            process: (
                rustix::process::geteuid().as_raw(),
                rustix::process::getegid().as_raw(),
            ),
            backing,
        })
    }

    /// Sets who is told when open files are cut off from their key.
    pub fn on_cut_off(&self, cut_off: CutOff) {
        *self.cut_off.lock() = Some(cut_off);
    }

    /// What has to be done from time to time: whoever serves the volume calls it at least twice in
    /// each `key_ttl`. Rotates keys that are due, and cuts off open files whose CMK was disabled.
    pub fn housekeeping(&self) {
        if let Err(error) = self.keys.kms().rotate_due(self.keys.kms().now()) {
            tracing::warn!(%error, "automatic key rotation");
        }
        if self.keys.look_after()
            && let Some(cut_off) = &*self.cut_off.lock()
        {
            cut_off(&self.files.nodes());
        }
    }

    /// How long an open file goes on after its CMK was disabled, at the most.
    pub fn key_ttl(&self) -> Duration {
        self.keys.ttl()
    }

    /// Makes everything durable, marks the volume clean and gives up its lock. Safe to call twice.
    pub fn close(&self) -> Result<()> {
        let Some(lock) = self.lock.lock().take() else {
            return Ok(());
        };
        self.settle_ctimes();
        self.backing.sync_all()?;
        if self.strict.load(Ordering::Relaxed) {
            let control = Control::open(&self.backing, &self.root.dir)?;
            control.set_mark(Mark::Clean, &self.secrets)?;
        }
        drop(lock);
        Ok(())
    }

    /// Wraps the volume key anew, under the current material of `to`, when it isn't already. True
    /// when it was. New files get their keys from `to` from then on.
    pub fn rewrap_volume_key(&self, to: &KeyId) -> Result<bool> {
        self.check_writable()?;
        let control = Control::open(&self.backing, &self.root.dir)?;
        // Only what this volume's own key authenticates is sealed anew.
        let authentic = |(bytes, record): &(Vec<u8>, VolumeRecord)| {
            record.volume_id == self.record.volume_id
                && VolumeRecord::authentic(bytes, &self.secrets.record)
        };
        let records = control.records()?;
        let Some((_, mut record)) = records.into_iter().find(authentic) else {
            return Err(VolumeError::NoVolume("the directory".into()));
        };
        let context = volume_context(&record.volume_id);
        let kms = self.keys.kms();
        let mut changed = false;
        for blob in &mut record.volume_keys {
            if !is_current(kms, blob, to)? {
                *blob = kms.re_encrypt_data_key(Via::Volume, blob, &context, to, &context)?;
                changed = true;
            }
        }
        if changed {
            record.generation = self.generation.fetch_add(1, Ordering::Relaxed) + 1;
            control.write_record(&record, &self.secrets)?;
        }
        *self.current_cmk.lock() = *to;
        Ok(changed)
    }

    /// Who has the volume in a cipher directory open for writing now.
    pub fn holder(backing: &B) -> Result<Option<Holder>> {
        let root = backing.root()?;
        let control = Control::open(backing, &root).map_err(|error| match error {
            VolumeError::NotFound => VolumeError::NoVolume("the directory".into()),
            other => other,
        })?;
        Ok(if control.is_locked()? {
            Some(control.holder().unwrap_or_default())
        } else {
            None
        })
    }

    /// The volume record of a cipher directory, unauthenticated: what can be told without keys.
    pub fn peek(backing: &B) -> Result<VolumeRecord> {
        let root = backing.root()?;
        let control = Control::open(backing, &root).map_err(|error| match error {
            VolumeError::NotFound => VolumeError::NoVolume("the directory".into()),
            other => other,
        })?;
        control
            .records()?
            .into_iter()
            .next()
            .map(|(_, record)| record)
            .ok_or_else(|| VolumeError::NoVolume("the directory".into()))
    }
}

/// Unwraps the volume key, and with it authenticates the record.
fn unlock<B: Backing>(
    control: &Control<'_, B>,
    kms: &Kms,
) -> Result<(VolumeRecord, VolumeSecrets, KeyId)> {
    let mut failure = None;
    for (bytes, record) in control.records()? {
        let context = volume_context(&record.volume_id);
        for blob in &record.volume_keys {
            let key: Key256 = match kms.decrypt_data_key(Via::Volume, blob, &context) {
                Ok(key) => key,
                Err(error) => {
                    failure = failure.or(Some(VolumeError::Key(error)));
                    continue;
                }
            };
            let secrets = VolumeSecrets::derive(&key, &record.volume_id);
            if VolumeRecord::authentic(&bytes, &secrets.record) {
                let key = key_of(blob)?;
                return Ok((record, secrets, key));
            }
            let error = crate::format::FormatError::Unauthentic;
            failure = failure.or(Some(VolumeError::record(Some(record.volume_id), error)));
        }
    }
    Err(failure.unwrap_or_else(|| VolumeError::NoVolume("the directory".into())))
}

impl<B: Backing> Drop for Volume<B> {
    fn drop(&mut self) {
        if let Err(error) = self.close() {
            tracing::error!(%error, "closing the volume");
        }
    }
}
