//! The data keys of files: made, unwrapped, cached, and cut off when the CMK is.

use std::cell::Cell;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::error::{Result, VolumeError};
use super::types::Caller;
use crate::content::{FileKeys, KeyRing};
use crate::format::blob::BlobHeader;
use crate::format::{FileId, KeyRole, VolumeId, WrappedKey};
use crate::kms::{EncryptionContext, KeyId, KmsError, Requester, VolumeKeys, volume_context};
use crate::secret::Key256;

/// The most data keys of closed files that are kept.
const CACHE_MOST: usize = 1024;
/// How many opens one cached data key serves.
const CACHE_USES: u32 = 10_000;

thread_local! {
    /// For whom this thread opens or makes a file: no matter of the ten functions in between.
    static REQUESTER: Cell<Requester> = const { Cell::new(Requester { uid: None, pid: None }) };
}

/// Has what this thread asks of the key manager recorded as asked for by `caller`, for as long as it
/// lives.
pub(super) struct OnBehalf(Requester);

impl OnBehalf {
    pub(super) fn of(caller: &Caller) -> Self {
        Self(REQUESTER.replace(Requester {
            uid: Some(caller.uid),
            pid: Some(caller.pid),
        }))
    }
}

impl Drop for OnBehalf {
    fn drop(&mut self) {
        REQUESTER.set(self.0);
    }
}

/// Whether a CMK may be used. Shared by all open files under it.
pub(super) struct Gate {
    key: KeyId,
    open: AtomicBool,
}

impl Gate {
    /// The CMK.
    pub(super) fn key(&self) -> &KeyId {
        &self.key
    }

    /// Lets an operation on an open file pass.
    pub(super) fn check(&self, keys: &DataKeys) -> Result<()> {
        if self.open.load(Ordering::Relaxed) {
            return Ok(());
        }
        // Closed when last looked: the key manager says why, or that it is open again.
        keys.check_usable(&self.key)?;
        self.open.store(true, Ordering::Relaxed);
        Ok(())
    }
}

struct Cached {
    keys: Arc<FileKeys>,
    since: Instant,
    uses: u32,
}

/// A file, its wrapped key, and the user for whom it was unwrapped: the first open by each user is
/// the key manager's to record.
type CacheKey = (FileId, Arc<[u8]>, Option<u32>);

/// The keys of one volume's files.
pub(super) struct DataKeys {
    source: Arc<dyn VolumeKeys>,
    volume: VolumeId,
    ttl: Duration,
    gates: Mutex<HashMap<KeyId, Arc<Gate>>>,
    cache: Mutex<HashMap<CacheKey, Cached>>,
}

/// The keys of a file, and what goes with them.
#[derive(Clone)]
pub(super) struct Unwrapped {
    pub(super) keys: KeyRing,
    pub(super) gate: Arc<Gate>,
    /// That of the previous data key, while there is one.
    previous_gate: Option<Arc<Gate>>,
    /// The wrapped key that they came from.
    pub(super) blob: Arc<[u8]>,
    /// The user for whom.
    uid: Option<u32>,
}

impl Unwrapped {
    /// Lets an operation on an open file pass, when the CMKs of its data keys can be used.
    pub(super) fn check(&self, keys: &DataKeys) -> Result<()> {
        self.gate.check(keys)?;
        match &self.previous_gate {
            Some(gate) => gate.check(keys),
            None => Ok(()),
        }
    }

    /// Takes in a data key that still opens blocks.
    pub(super) fn set_previous(&mut self, previous: &Self) {
        let keys = Arc::clone(previous.keys.current());
        self.keys.set_previous(Some(keys));
        self.previous_gate = Some(Arc::clone(&previous.gate));
    }

    /// Lets go of the data key that opened blocks until now.
    pub(super) fn drop_previous(&mut self) {
        self.keys.set_previous(None);
        self.previous_gate = None;
    }

    /// All data keys were wrapped anew under the CMK of `gate`; the current one in `blob`.
    pub(super) fn rewrapped(&mut self, gate: Arc<Gate>, blob: Option<&[u8]>) {
        if self.previous_gate.is_some() {
            self.previous_gate = Some(Arc::clone(&gate));
        }
        self.gate = gate;
        if let Some(blob) = blob {
            self.blob = blob.into();
        }
    }
}

impl DataKeys {
    pub(super) fn new(source: Arc<dyn VolumeKeys>, volume: VolumeId, ttl: Duration) -> Self {
        Self {
            source,
            volume,
            ttl,
            gates: Mutex::default(),
            cache: Mutex::default(),
        }
    }

    pub(super) fn source(&self) -> &dyn VolumeKeys {
        &*self.source
    }

    /// Whether a CMK can be used by this volume now.
    pub(super) fn check_usable(&self, key: &KeyId) -> std::result::Result<(), KmsError> {
        self.source.check_usable(key)
    }

    pub(super) fn ttl(&self) -> Duration {
        self.ttl
    }

    /// The encryption context of a file's data key.
    pub(super) fn context(&self, file: &FileId) -> EncryptionContext {
        volume_context(&self.volume).with("envelopefs:file-id", file.to_string())
    }

    /// The gate of a CMK, shared by all who have files open under it.
    pub(super) fn gate(&self, key: &KeyId) -> Arc<Gate> {
        let mut gates = self.gates.lock();
        let gate = gates.entry(*key).or_insert_with(|| {
            Arc::new(Gate {
                key: *key,
                open: AtomicBool::new(true),
            })
        });
        Arc::clone(gate)
    }

    /// Makes a data key for a file, under the CMK `key`; `generation` is its number in block entries.
    pub(super) fn generate(
        &self,
        key: &KeyId,
        file: &FileId,
        generation: u8,
    ) -> Result<(Unwrapped, WrappedKey)> {
        let requester = REQUESTER.get();
        let made = self.source.generate(requester, key, &self.context(file))?;
        let keys = FileKeys::derive(&made.plaintext, &self.volume, file, generation);
        let wrapped = WrappedKey {
            key_generation: generation,
            role: KeyRole::Current,
            blob: made.blob,
        };
        Ok((
            Unwrapped {
                keys: KeyRing::new(Arc::new(keys)),
                gate: self.gate(key),
                previous_gate: None,
                blob: wrapped.blob.as_slice().into(),
                uid: requester.uid,
            },
            wrapped,
        ))
    }

    /// Unwraps the data key of a file: the first of its wrapped keys that the key manager opens.
    /// The key manager is asked whether the CMK is usable even when the data key is cached.
    pub(super) fn unwrap(&self, file: &FileId, wrapped: &[&WrappedKey]) -> Result<Unwrapped> {
        let mut refused = None;
        for wrapped in wrapped {
            match self.unwrap_one(file, wrapped) {
                Ok(unwrapped) => return Ok(unwrapped),
                Err(error) => refused = refused.or(Some(error)),
            }
        }
        Err(refused.unwrap_or_else(|| VolumeError::damaged("a file header", "no wrapped key")))
    }

    fn unwrap_one(&self, file: &FileId, wrapped: &WrappedKey) -> Result<Unwrapped> {
        let header = BlobHeader::parse(&wrapped.blob)
            .map_err(|error| VolumeError::damaged("a wrapped data key", error))?;
        let key = KeyId::new(header.key_id, header.multi_region);
        let blob: Arc<[u8]> = wrapped.blob.as_slice().into();
        let unwrapped = |keys| Unwrapped {
            keys: KeyRing::new(keys),
            gate: self.gate(&key),
            previous_gate: None,
            blob: Arc::clone(&blob),
            uid: REQUESTER.get().uid,
        };
        if let Some(keys) = self.cached(file, &blob) {
            self.check_usable(&key)?;
            return Ok(unwrapped(keys));
        }
        let data_key = self.decrypt(file, &blob)?;
        let keys = FileKeys::derive(&data_key, &self.volume, file, wrapped.key_generation);
        let keys = Arc::new(keys);
        self.keep(*file, Arc::clone(&blob), Arc::clone(&keys));
        Ok(unwrapped(keys))
    }

    /// One more open of a file whose keys are here: asks the key manager whether the CMK is usable,
    /// and has it unwrap the data key once more for a user for whom it has not.
    pub(super) fn open_again(&self, file: &FileId, unwrapped: &Unwrapped) -> Result<()> {
        self.check_usable(unwrapped.gate.key())?;
        let uid = REQUESTER.get().uid;
        if uid.is_none() || uid == unwrapped.uid || self.cached(file, &unwrapped.blob).is_some() {
            return Ok(());
        }
        self.decrypt(file, &unwrapped.blob)?;
        self.keep(
            *file,
            Arc::clone(&unwrapped.blob),
            Arc::clone(unwrapped.keys.current()),
        );
        Ok(())
    }

    fn decrypt(&self, file: &FileId, blob: &[u8]) -> Result<Key256> {
        Ok(self
            .source
            .decrypt(REQUESTER.get(), blob, &self.context(file))?)
    }

    /// Wraps the data key of `blob` anew, under the current material of `to`.
    pub(super) fn rewrap(&self, file: &FileId, blob: &[u8], to: &KeyId) -> Result<Vec<u8>> {
        let context = self.context(file);
        Ok(self.source.re_encrypt(blob, &context, to)?)
    }

    fn cached(&self, file: &FileId, blob: &Arc<[u8]>) -> Option<Arc<FileKeys>> {
        let mut cache = self.cache.lock();
        let key = (*file, Arc::clone(blob), REQUESTER.get().uid);
        let cached = cache.get_mut(&key)?;
        if cached.uses >= CACHE_USES || cached.since.elapsed() >= self.ttl {
            cache.remove(&key);
            return None;
        }
        cached.uses += 1;
        Some(Arc::clone(&cached.keys))
    }

    fn keep(&self, file: FileId, blob: Arc<[u8]>, keys: Arc<FileKeys>) {
        let mut cache = self.cache.lock();
        if cache.len() >= CACHE_MOST {
            // Half of them go at once, the oldest first, so that a scan costs little for each file.
            let mut ages: Vec<Instant> = cache.values().map(|cached| cached.since).collect();
            let middle = ages.len() / 2;
            let (_, &mut bound, _) = ages.select_nth_unstable(middle);
            cache.retain(|_, cached| cached.since > bound);
        }
        cache.insert(
            (file, blob, REQUESTER.get().uid),
            Cached {
                keys,
                since: Instant::now(),
                uses: 0,
            },
        );
    }

    /// Drops the cached data keys of a file but for the one that `current` wraps.
    pub(super) fn forget_others(&self, file: &FileId, current: &[u8]) {
        self.cache
            .lock()
            .retain(|(cached, blob, _), _| cached != file || **blob == *current);
    }

    /// Looks after the CMKs in use: shuts the gate of each that can't be used any more, opens it
    /// again when it can, and drops data keys past their time. True when a gate was shut just now.
    pub(super) fn look_after(&self) -> bool {
        self.cache
            .lock()
            .retain(|_, cached| cached.since.elapsed() < self.ttl);
        let gates: Vec<Arc<Gate>> = {
            let mut gates = self.gates.lock();
            gates.retain(|_, gate| Arc::strong_count(gate) > 1);
            gates.values().cloned().collect()
        };
        let mut shut = false;
        for gate in gates {
            let usable = self.check_usable(&gate.key);
            let before = gate.open.swap(usable.is_ok(), Ordering::Relaxed);
            match usable {
                Err(error) if before => {
                    shut = true;
                    self.cache.lock().clear();
                    tracing::warn!(key = %gate.key, %error, "open files are cut off from their key");
                }
                Ok(()) if !before => tracing::info!(key = %gate.key, "the key is usable again"),
                _ => {}
            }
        }
        shut
    }
}

/// The CMK that a blob names.
pub(super) fn key_of(blob: &[u8]) -> Result<KeyId> {
    BlobHeader::parse(blob)
        .map(|header| KeyId::new(header.key_id, header.multi_region))
        .map_err(|error| VolumeError::damaged("a wrapped key", error))
}

/// Whether a blob is wrapped under the current material of `key`.
pub(super) fn is_current(source: &dyn VolumeKeys, blob: &[u8], key: &KeyId) -> Result<bool> {
    let header =
        BlobHeader::parse(blob).map_err(|error| VolumeError::damaged("a wrapped key", error))?;
    Ok(KeyId::new(header.key_id, header.multi_region) == *key
        && source.current_material(key)?.prefix() == header.material)
}
