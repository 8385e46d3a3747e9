//! Making, opening, looking after and closing a volume.

use std::collections::HashMap;
use std::io::IoSliceMut;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use parking_lot::{Mutex, RwLock};

use super::ctimes::Ctimes;
use super::dirs::{DirState, Dirs};
use super::error::{Result, VolumeError};
use super::journal::replay::{FileReplay, Found, Offers, Replays};
use super::journal::{Engine, JOURNAL_SIZE, Journal, JournalMode};
use super::keys::{Cmks, DataKeys, are_current, first_that_works, key_of, wrapped_under};
use super::nodes::Nodes;
use super::open_file::{OpenFile, OpenFiles};
use super::record_io::{CONTROL_DIR, Control, Holder, TARGETS};
use super::status::Counters;
use super::types::NodeId;
use super::{CutOff, Volume};
use crate::backing::Backing;
use crate::crypto::random_array;
use crate::format::journal::JournalKey;
use crate::format::{
    FEATURE_JOURNAL, FileId, Mark, NameEncoding, STATIC_LEN, StaticPart, VolumeId, VolumeRecord,
    VolumeSecrets,
};
use crate::kms::{KeyId, KeySource, Kms, Requester, VolumeKeys, volume_context};
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
    /// Keep writers out although it is for reading only.
    pub exclusive: bool,
    /// What is done with overwritten blocks.
    pub journal: JournalMode,
    /// Bytes that the journal takes below; less on a small disk.
    pub journal_size: u64,
    /// How many seals a data key may have made, in units of 2^16, before it is renewed in the
    /// background. The default leaves time for that: a quarter of what a key may make at all.
    pub renew_at: u32,
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
            exclusive: false,
            journal: JournalMode::default(),
            journal_size: JOURNAL_SIZE,
            renew_at: super::write::SEALS_RENEW,
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
        let caller = kms.volume_caller(&volume_id);
        let client = kms.client(&caller);
        let made =
            client.generate_data_key_for_volume(&options.key, &volume_context(&volume_id))?;
        let secrets = VolumeSecrets::derive(&made.plaintext, &volume_id);
        let created = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .map_or(0, |since| {
                i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
            });
        let record = VolumeRecord {
            generation: 1,
            volume_id,
            features: FEATURE_JOURNAL,
            names: options.names,
            created,
            volume_keys: vec![made.blob],
        };
        backing.mkdir(&root, &CONTROL_DIR, 0o700)?;
        let control = Control::open(backing, &root)?;
        backing.mkdir(&control.dir, &TARGETS, 0o700)?;
        control.set_mark(&Mark::default(), &secrets)?;
        control.write_record(&record, &secrets)?;
        backing.sync_dir(&root)?;
        let place = backing.place();
        if !place.is_empty() {
            kms.note_new_volume(&volume_id, &place, &options.key)?;
        }
        Ok(volume_id)
    }

    /// Opens a volume.
    ///
    /// # Errors
    /// [`VolumeError::NoVolume`], [`VolumeError::Busy`], [`VolumeError::Key`],
    /// [`VolumeError::Record`].
    pub fn open<S: KeySource + ?Sized>(
        backing: B,
        source: Arc<S>,
        options: OpenOptions,
    ) -> Result<Self> {
        let root = backing.root()?;
        let stat = backing.stat_dir(&root)?;
        let control = Control::open(&backing, &root).map_err(|error| match error {
            VolumeError::NotFound => VolumeError::NoVolume("the directory".into()),
            other => other,
        })?;
        let (record, secrets, cmks, keys) = unlock(&control, &source)?;
        let lock = if options.read_only && !options.exclusive {
            None
        } else {
            Some(control.lock(&options.holder)?)
        };
        let left = Left::look(&control, &root, (&record, &secrets), options.read_only)?;
        let mut epoch = 0;
        let mut journal = None;
        if !options.read_only {
            epoch = u64::from_le_bytes(random_array()).max(1);
            let begun = begin(&control, (&record, &secrets), &left, epoch, &options)?;
            journal = begun;
        }
        let mode = name_mode(record.names);
        drop(control);
        let backing = Arc::new(backing);
        let files = Arc::new(OpenFiles::default());
        let replayed_sizes = left
            .replays
            .values()
            .map(|replay| (replay.inode, Arc::clone(replay)))
            .collect();
        let secrets = Arc::new(secrets);
        let ctimes = Ctimes::load(
            &*backing,
            &root,
            Arc::clone(&secrets),
            record.volume_id,
            options.read_only,
        )?;
        let ctimes = Arc::new(ctimes);
        let root = Arc::new(DirState::new(NodeId::ROOT, root, DirId::ROOT));
        let engine = journal.map(|journal| {
            let (backing, files) = (Arc::clone(&backing), Arc::clone(&files));
            let times = (Arc::clone(&ctimes), Arc::clone(&root));
            Engine::new(backing, files, times, journal, options.journal)
        });
        let volume = Self {
            ctimes,
            names: Names::new(&secrets.names, mode),
            keys: DataKeys::new(keys, record.volume_id, options.key_ttl),
            root,
            root_ino: stat.ino,
            device: stat.dev,
            generation: AtomicU64::new(record.generation),
            record,
            secrets,
            cmks: Mutex::new(cmks),
            nodes: Nodes::default(),
            dirs: Dirs::new(most_dirs()),
            files,
            engine,
            mark_generation: AtomicU64::new(left.mark.generation.wrapping_add(1)),
            replays: left.replays,
            offers: left.offers,
            replayed_sizes,
            epoch,
            doubt: AtomicBool::new(!left.crashed.is_empty()),
            crashed: Mutex::new(left.crashed),
            damage: left.damage,
            young: Mutex::default(),
            namespace: RwLock::new(()),
            counters: Counters::default(),
            renew_at: options.renew_at,
            read_only: options.read_only,
            lock: Mutex::new(lock),
            cut_off: Mutex::new(None),
            moves: super::moves::Moves::default(),
            process: (
                rustix::process::geteuid().as_raw(),
                rustix::process::getegid().as_raw(),
            ),
            backing,
        };
        volume.tell_seen();
        if !volume.read_only {
            volume.recover_offered(&left.offered);
        }
        Ok(volume)
    }

    /// What the volume does with keys, and where they are.
    pub fn key_source(&self) -> &dyn VolumeKeys {
        self.keys.source()
    }

    /// Whether all of these CMKs can be used by the volume now.
    ///
    /// # Errors
    /// [`VolumeError::Key`] for the volume's own, [`VolumeError::RecoveryKey`] for the other.
    pub fn check_cmks(&self, cmks: &Cmks) -> Result<()> {
        self.keys.check_usable(&cmks.main)?;
        match &cmks.recovery {
            Some(key) => self
                .keys
                .check_usable(key)
                .map_err(VolumeError::RecoveryKey),
            None => Ok(()),
        }
    }

    /// Sets who is told when open files are cut off from their key.
    pub fn on_cut_off(&self, cut_off: CutOff) {
        *self.cut_off.lock() = Some(cut_off);
    }

    /// Starts what works beside the requests. Without it that starts when it is first needed, with the
    /// scheduling policy of the thread that needs it.
    pub fn start_background(&self) {
        if let Some(engine) = &self.engine {
            engine.start();
        }
    }

    /// What has to be done from time to time: whoever serves the volume calls it at least twice in
    /// each `key_ttl`. Rotates and deletes keys that are due, and cuts off open files whose CMK was disabled.
    pub fn housekeeping(&self) {
        if let Err(error) = self.keys.source().maintain() {
            tracing::warn!(%error, "looking after the keys");
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
        if self.read_only {
            return Ok(());
        }
        self.settle_ctimes();
        if let Some(engine) = &self.engine {
            engine.stop();
            for file in self.files.all() {
                if file.lingers() {
                    engine.queue(&file);
                }
            }
            engine.write_back(true)?;
        }
        self.backing.sync_all()?;
        if self.files.all().iter().any(|file| file.lingers()) {
            // Their seals are missing: the next one to open the volume has to know.
            return Err(std::io::Error::from_raw_os_error(libc::EIO).into());
        }
        self.set_mark(false)?;
        drop(lock);
        Ok(())
    }

    fn set_mark(&self, in_use: bool) -> Result<()> {
        let mark = Mark {
            in_use,
            generation: 1u64.wrapping_add(self.mark_generation.fetch_add(1, Ordering::Relaxed)),
            epoch: self.epoch,
            journal: self.engine.is_some(),
            crashed: self.crashed.lock().clone(),
        };
        let control = Control::open(&*self.backing, &self.root.dir)?;
        control.set_mark(&mark, &self.secrets)
    }

    /// Every file has been looked at that was open when these epochs ended.
    pub(super) fn all_recovered(&self, epochs: &[u64]) -> Result<()> {
        let left = {
            let mut crashed = self.crashed.lock();
            crashed.retain(|epoch| !epochs.contains(epoch));
            !crashed.is_empty()
        };
        self.set_mark(true)?;
        self.doubt.store(left, Ordering::Release);
        Ok(())
    }

    /// What a replayed journal lays over a file, when it can't go home.
    pub(super) fn replay_of(&self, file: &OpenFile<B>) -> Result<Option<Arc<FileReplay>>> {
        if self.replays.is_empty() {
            return Ok(None);
        }
        let mut head = [0; STATIC_LEN];
        let bufs = &mut [IoSliceMut::new(&mut head)];
        let read = self.backing.read_at(file.file(), bufs, 0)?;
        Ok(StaticPart::parse(&head[..read])
            .ok()
            .and_then(|head| self.replays.get(&head.file_id).cloned()))
    }

    /// Whether the volume key is wrapped as `to` wants it.
    ///
    /// # Errors
    /// [`VolumeError::Key`] when there is no such key; what the cipher directory says.
    pub fn is_volume_key_current(&self, to: &Cmks) -> Result<bool> {
        let record = Self::peek(&self.backing)?;
        let blobs: Vec<&[u8]> = record.volume_keys.iter().map(Vec::as_slice).collect();
        are_current(self.keys.source(), &blobs, to)
    }

    /// Wraps the volume key anew, under the current material of `to`, when it isn't already. True
    /// when it was. New files get their keys from `to` from then on.
    ///
    /// # Errors
    /// [`VolumeError::Key`], [`VolumeError::RecoveryKey`], what the cipher directory says. Then nothing
    /// has changed, or it is changed when the volume is opened again.
    pub fn rewrap_volume_key(&self, to: &Cmks) -> Result<bool> {
        self.check_writable()?;
        let control = Control::open(&*self.backing, &self.root.dir)?;
        // Only what this volume's own key authenticates is sealed anew.
        let mut record = self.own_record(&control)?;
        let source = self.keys.source();
        let blobs: Vec<&[u8]> = record.volume_keys.iter().map(Vec::as_slice).collect();
        let changed = !are_current(source, &blobs, to)?;
        if changed {
            let context = volume_context(&record.volume_id);
            record.volume_keys = wrapped_under(source, &context, &blobs, to)?;
            record.generation = self.generation.fetch_add(1, Ordering::Relaxed) + 1;
            control.write_record(&record, &self.secrets)?;
        }
        *self.cmks.lock() = *to;
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

/// How names are stored, as the `names` room has it.
pub(super) fn name_mode(names: NameEncoding) -> NameMode {
    match names {
        NameEncoding::Encrypted => NameMode::Encrypted,
        NameEncoding::Plain => NameMode::Plain,
    }
}

/// What the last opening for writing left behind.
#[derive(Default)]
struct Left {
    mark: Mark,
    /// The generation of the journal's newest header, where the journal counts. It counts until both
    /// headers are replaced: those that replace them count on from there, and are never the older ones.
    generation: u64,
    /// What the journal says, when it can't go home.
    replays: Replays,
    offers: HashMap<FileId, Offers>,
    /// Files that were being overwritten in place: their stored paths.
    offered: Vec<Vec<u8>>,
    /// Epochs that ended in a crash.
    crashed: Vec<u64>,
    damage: Vec<String>,
}

impl Left {
    /// Looks at mark and journal. What the journal has goes home, unless that is forbidden.
    fn look<B: Backing>(
        control: &Control<'_, B>,
        root: &B::Dir,
        (record, secrets): (&VolumeRecord, &VolumeSecrets),
        read_only: bool,
    ) -> Result<Self> {
        let backing = control.backing;
        let mut left = Self::default();
        match control.mark(secrets) {
            Ok(mark) => left.mark = mark,
            Err(why) => {
                let why = format!(
                    "the mark in {CONTROL_DIR}: {why}; whether the volume was left cleanly is unknown, \
                     and nothing is taken from the journal"
                );
                tracing::error!(volume = %record.volume_id, why, "the volume's mark is damaged");
                left.damage.push(why);
            }
        }
        left.crashed.clone_from(&left.mark.crashed);
        if !left.mark.in_use || left.mark.epoch == 0 {
            return Ok(left);
        }
        let epoch = left.mark.epoch;
        left.crashed.push(epoch);
        if !read_only {
            // A reader beside a writer finds the mark "in use", too.
            tracing::warn!(volume = %record.volume_id, "the volume was not unmounted cleanly");
        }
        if !left.mark.journal {
            return Ok(left);
        }
        let how = if read_only {
            crate::backing::OpenFile::READ
        } else {
            crate::backing::OpenFile::READ_WRITE
        };
        let found = match control.journal(how)? {
            Some(file) => Found::open(backing, file, &secrets.journal, &record.volume_id)?,
            None => None,
        };
        left.generation = found.as_ref().map_or(0, Found::generation);
        match found {
            Some(found) if found.is_of(epoch) => {
                if read_only {
                    (left.replays, left.offers) = found.collect(backing)?;
                } else {
                    let done = found.apply(backing, root)?;
                    backing.sync_all()?;
                    if done.records > 0 || done.gone > 0 {
                        tracing::info!(
                            records = done.records,
                            files = done.files,
                            gone = done.gone,
                            "the journal was replayed"
                        );
                    }
                    (left.offers, left.offered) = (done.offers, done.offered);
                }
            }
            // It was replayed; the mark was not written any more.
            Some(found) if found.replaced(epoch) => {}
            _ => {
                let why = format!(
                    "the journal in {CONTROL_DIR} is missing or not this volume's: what was written \
                     shortly before the crash may be there in its old form"
                );
                tracing::error!(volume = %record.volume_id, why, "the journal can't be replayed");
                left.damage.push(why);
            }
        }
        Ok(left)
    }
}

/// Begins a new epoch: an empty journal, then a mark that says so.
fn begin<B: Backing>(
    control: &Control<'_, B>,
    (record, secrets): (&VolumeRecord, &VolumeSecrets),
    left: &Left,
    epoch: u64,
    options: &OpenOptions,
) -> Result<Option<Journal<B>>> {
    let journal = if options.journal == JournalMode::Off {
        None
    } else {
        let (file, length) = control.make_journal(options.journal_size)?;
        let key = JournalKey::derive(&secrets.journal, &record.volume_id, epoch);
        let ids = (record.volume_id, epoch, left.mark.epoch);
        let file = (file, length);
        Some(Journal::begin(
            control.backing,
            file,
            key,
            ids,
            left.generation,
        )?)
    };
    let mark = Mark {
        in_use: true,
        generation: left.mark.generation.wrapping_add(1),
        epoch,
        journal: journal.is_some(),
        crashed: left.crashed.clone(),
    };
    control.set_mark(&mark, secrets)?;
    Ok(journal)
}

/// Unwraps the volume key, and with it authenticates the record.
fn unlock<B: Backing, S: KeySource + ?Sized>(
    control: &Control<'_, B>,
    source: &Arc<S>,
) -> Result<(VolumeRecord, VolumeSecrets, Cmks, Arc<dyn VolumeKeys>)> {
    let mut failure = None;
    for (bytes, record) in control.records()? {
        let context = volume_context(&record.volume_id);
        let keys = Arc::clone(source).for_volume(&record.volume_id);
        let mut refused = None;
        let secrets = first_that_works(&record.volume_keys, |blob| {
            let unwrapped = keys.decrypt(Requester::default(), blob, &context);
            let key: Key256 = unwrapped.inspect_err(|error| {
                refused.get_or_insert_with(|| error.to_string());
            })?;
            let secrets = VolumeSecrets::derive(&key, &record.volume_id);
            if VolumeRecord::authentic(&bytes, &secrets.record) {
                return Ok(secrets);
            }
            let error = crate::format::FormatError::Unauthentic;
            Err(VolumeError::record(Some(record.volume_id), error))
        });
        match secrets {
            Ok(secrets) => {
                let cmks = cmks_of(&record)?;
                if let Some(why) = refused {
                    tracing::warn!(
                        volume = %record.volume_id, key = %cmks.main, why,
                        "opened by its recovery key, since its own can't be used; new files are under \
                         the recovery key alone until a rewrap"
                    );
                }
                return Ok((record, secrets, cmks, keys));
            }
            Err(error) => failure = failure.or(Some(error)),
        }
    }
    Err(failure.unwrap_or_else(|| VolumeError::NoVolume("the directory".into())))
}

/// The CMKs that a volume record names.
fn cmks_of(record: &VolumeRecord) -> Result<Cmks> {
    let mut keys = record.volume_keys.iter().map(|blob| key_of(blob));
    let malformed = || crate::format::FormatError::Malformed("no volume key in the volume record");
    Ok(Cmks {
        main: keys
            .next()
            .ok_or_else(|| VolumeError::record(Some(record.volume_id), malformed()))??,
        recovery: keys.next().transpose()?,
    })
}

impl<B: Backing> Drop for Volume<B> {
    fn drop(&mut self) {
        if let Err(error) = self.close() {
            tracing::error!(%error, "closing the volume");
        }
    }
}
