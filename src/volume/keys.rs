//! The data keys of files: made, unwrapped, cached, and cut off when their CMKs are.
//!
//! A data key is wrapped under the volume's CMK, and once more under its recovery CMK where it has
//! one. Whichever can be used opens the file, the volume's own first.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use super::error::{Result, VolumeError};
use super::key_cache::{CacheKey, KeyCache};
use super::types::Caller;
use crate::content::{FileKeys, FileSecret, KeyRing};
use crate::format::blob::BlobHeader;
use crate::format::{FileId, KeyRole, Slot, VolumeId, WrappedKey};
use crate::kms::{EncryptionContext, KeyId, KmsError, Look, Requester, VolumeKeys, volume_context};
use crate::secret::Key256;

thread_local! {
    /// For whom this thread opens or makes a file: no matter of the ten functions in between.
    static REQUESTER: Cell<Requester> = const { Cell::new(Requester { uid: None, pid: None }) };

    /// What a rewrap under way on this thread is about to ask for.
    static AHEAD: RefCell<Option<Ahead>> = const { RefCell::new(None) };
}

/// Has what this thread asks of the key manager recorded as asked for by somebody, for as long as it
/// lives.
pub(super) struct OnBehalf(Requester);

impl OnBehalf {
    pub(super) fn of(by: Requester) -> Self {
        Self(REQUESTER.replace(by))
    }
}

/// Who calls, for the record.
pub(super) fn requester(caller: &Caller) -> Requester {
    Requester {
        uid: Some(caller.uid),
        pid: Some(caller.pid),
    }
}

impl Drop for OnBehalf {
    fn drop(&mut self) {
        REQUESTER.set(self.0);
    }
}

/// A data key that is opened to be wrapped anew: one use of the key is enough for both.
struct Ahead {
    to: KeyId,
    /// The blob that was opened, and what it becomes.
    made: Option<(Vec<u8>, Vec<u8>)>,
}

/// While this lives, a data key that its thread has to open is wrapped anew under `to` at the same
/// time, for [`DataKeys::rewrap`].
pub(super) struct LooksAhead;

impl LooksAhead {
    pub(super) fn to(to: &Cmks) -> Self {
        // With two CMKs there is more to ask for than that.
        AHEAD.set(to.recovery.is_none().then_some(Ahead {
            to: to.main,
            made: None,
        }));
        Self
    }
}

impl Drop for LooksAhead {
    fn drop(&mut self) {
        AHEAD.set(None);
    }
}

/// The CMKs of a volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cmks {
    /// Its own: new data keys come from it.
    pub main: KeyId,
    /// The one under which everything is wrapped a second time, if there is one.
    pub recovery: Option<KeyId>,
}

impl Cmks {
    /// All of them, in the order in which they are tried.
    pub fn all(&self) -> impl Iterator<Item = KeyId> {
        std::iter::once(self.main).chain(self.recovery)
    }
}

/// What is known of a CMK's use.
const UNASKED: u8 = 0;
const OPEN: u8 = 1;
const SHUT: u8 = 2;

/// Whether a CMK may be used. Shared by all open files under it.
struct Gate {
    key: KeyId,
    state: AtomicU8,
}

impl Gate {
    fn is_open(&self) -> bool {
        self.state.load(Ordering::Relaxed) == OPEN
    }

    /// The CMK was used just now.
    fn used(&self) {
        // One that was shut says so when it opens again.
        let (was, is) = (UNASKED, OPEN);
        let _ = self
            .state
            .compare_exchange(was, is, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// Lets an operation on an open file pass.
    fn check(&self, keys: &DataKeys) -> Result<()> {
        if self.is_open() {
            return Ok(());
        }
        // Not open when last looked: the key manager says why, or that it is open now.
        keys.check_usable(&self.key)?;
        self.state.store(OPEN, Ordering::Relaxed);
        Ok(())
    }
}

/// One wrapping of a data key.
#[derive(Clone)]
struct Wrapping {
    gate: Arc<Gate>,
    blob: Arc<[u8]>,
}

/// The first of some ways that works; with none, the errors of the first two, which are those of the
/// volume's own CMK and of its recovery CMK.
pub(super) fn first_that_works<T, W>(
    ways: impl IntoIterator<Item = W>,
    mut attempt: impl FnMut(W) -> Result<T>,
) -> Result<T> {
    let mut refused: Option<VolumeError> = None;
    for way in ways {
        match attempt(way) {
            Ok(done) => return Ok(done),
            Err(error) => {
                refused = Some(match refused {
                    None => error,
                    Some(first) => first.and_then_by_recovery(error),
                });
            }
        }
    }
    Err(refused.unwrap_or_else(|| VolumeError::damaged("a header", "no wrapped key")))
}

/// The keys of one volume's files.
pub(super) struct DataKeys {
    source: Arc<dyn VolumeKeys>,
    volume: VolumeId,
    ttl: Duration,
    gates: Mutex<HashMap<KeyId, Arc<Gate>>>,
    cache: KeyCache,
}

/// The keys of a file, and what goes with them.
#[derive(Clone)]
pub(super) struct Unwrapped {
    pub(super) keys: KeyRing,
    /// All wrappings of the current data key.
    wrappings: Arc<[Wrapping]>,
    /// Those of the previous data key, while there is one.
    previous: Option<Arc<[Wrapping]>>,
    /// The CMK that unwrapped the data key, and the user for whom.
    by: (KeyId, Option<u32>),
}

impl Unwrapped {
    /// Lets an operation on an open file pass, when its data keys can be unwrapped now.
    pub(super) fn check(&self, keys: &DataKeys) -> Result<()> {
        for wrappings in std::iter::once(&self.wrappings).chain(&self.previous) {
            if !wrappings.first().is_some_and(|first| first.gate.is_open()) {
                first_that_works(wrappings.iter(), |wrapping| wrapping.gate.check(keys))?;
            }
        }
        Ok(())
    }

    /// Takes in a data key that still opens blocks.
    pub(super) fn set_previous(&mut self, previous: &Self) {
        let keys = Arc::clone(previous.keys.current());
        self.keys.set_previous(Some(keys));
        self.previous = Some(Arc::clone(&previous.wrappings));
    }

    /// Lets go of the data key that opened blocks until now.
    pub(super) fn drop_previous(&mut self) {
        self.keys.set_previous(None);
        self.previous = None;
    }

    /// All data keys were wrapped anew, as `slot` has them.
    pub(super) fn rewrapped(&mut self, keys: &DataKeys, slot: &Slot) -> Result<()> {
        self.wrappings = keys.wrappings(slot.current())?;
        if self.previous.is_some() {
            self.previous = Some(keys.wrappings(slot.previous())?);
        }
        if let Some(first) = self.wrappings.first() {
            self.by.0 = first.gate.key;
        }
        Ok(())
    }
}

impl DataKeys {
    pub(super) fn new(source: Arc<dyn VolumeKeys>, volume: VolumeId, ttl: Duration) -> Self {
        Self {
            source,
            volume,
            ttl,
            gates: Mutex::default(),
            cache: KeyCache::new(ttl),
        }
    }

    pub(super) fn source(&self) -> &dyn VolumeKeys {
        &*self.source
    }

    /// One look at the key manager's database for what follows on this thread.
    pub(super) fn look(&self) -> Option<Look> {
        self.source.look()
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
    fn gate(&self, key: &KeyId) -> Arc<Gate> {
        let mut gates = self.gates.lock();
        let gate = gates.entry(*key).or_insert_with(|| {
            Arc::new(Gate {
                key: *key,
                state: AtomicU8::new(UNASKED),
            })
        });
        Arc::clone(gate)
    }

    fn wrappings<'k>(
        &self,
        wrapped: impl Iterator<Item = &'k WrappedKey>,
    ) -> Result<Arc<[Wrapping]>> {
        let wrapping = |wrapped: &WrappedKey| {
            Ok(Wrapping {
                gate: self.gate(&key_of(&wrapped.blob)?),
                blob: wrapped.blob.as_slice().into(),
            })
        };
        wrapped.map(wrapping).collect()
    }

    /// Makes a data key for a file, wrapped under the CMKs of the volume; `generation` is its number
    /// in block entries.
    ///
    /// While the volume's own CMK can't be used, the recovery CMK alone: a rewrap adds what is
    /// missing.
    ///
    /// # Errors
    /// [`VolumeError::Key`]; [`VolumeError::RecoveryKey`] when the recovery CMK alone refuses, since
    /// the file could not be recovered.
    pub(super) fn generate(
        &self,
        cmks: &Cmks,
        file: &FileId,
        generation: u8,
    ) -> Result<(Unwrapped, Vec<WrappedKey>)> {
        let requester = REQUESTER.get();
        let context = self.context(file);
        let mut by = cmks.main;
        let made = first_that_works(cmks.all(), |key| {
            by = key;
            Ok(self.source.generate(requester, &key, &context)?)
        })?;
        let secret = FileSecret::derive(&made.plaintext, &self.volume, file);
        let keys = FileKeys::new(&secret, generation);
        let mut wrapped = vec![WrappedKey {
            key_generation: generation,
            role: KeyRole::Current,
            blob: made.blob,
        }];
        if let Some(recovery) = cmks.recovery.filter(|recovery| *recovery != by) {
            let blob = self
                .source
                .re_encrypt(&wrapped[0].blob, &context, &recovery)
                .map_err(VolumeError::RecoveryKey)?;
            wrapped.push(WrappedKey {
                blob,
                ..wrapped[0].clone()
            });
        }
        let wrappings = self.wrappings(wrapped.iter())?;
        for wrapping in &*wrappings {
            wrapping.gate.used();
        }
        // Who makes a file often reads it soon. A run over all files is nobody's.
        if requester.uid.is_some() {
            let key = CacheKey::new(file, &wrapped[0].blob, requester.uid);
            self.cache.keep(key, secret);
        }
        let unwrapped = Unwrapped {
            keys: KeyRing::new(Arc::new(keys)),
            wrappings,
            previous: None,
            by: (by, requester.uid),
        };
        Ok((unwrapped, wrapped))
    }

    /// Unwraps the data key of a file: the first of its wrapped keys that the key manager opens.
    /// The key manager is asked whether the CMK is usable even when the data key is cached.
    ///
    /// # Errors
    /// [`VolumeError::Key`], or [`VolumeError::Keys`] when two CMKs refused.
    pub(super) fn unwrap<'k>(
        &self,
        file: &FileId,
        wrapped: impl Iterator<Item = &'k WrappedKey> + Clone,
    ) -> Result<Unwrapped> {
        let wrappings = self.wrappings(wrapped.clone())?;
        let ways = wrapped.zip(&*wrappings);
        let (keys, by) = first_that_works(ways, |(wrapped, wrapping)| {
            let keys = self.unwrap_one(file, wrapped, wrapping)?;
            wrapping.gate.used();
            Ok((keys, wrapping.gate.key))
        })?;
        Ok(Unwrapped {
            keys: KeyRing::new(keys),
            wrappings: Arc::clone(&wrappings),
            previous: None,
            by: (by, REQUESTER.get().uid),
        })
    }

    fn unwrap_one(
        &self,
        file: &FileId,
        wrapped: &WrappedKey,
        wrapping: &Wrapping,
    ) -> Result<Arc<FileKeys>> {
        let ready = |secret: &FileSecret| Arc::new(FileKeys::new(secret, wrapped.key_generation));
        let cache_key = CacheKey::new(file, &wrapping.blob, REQUESTER.get().uid);
        if let Some(keys) = self.cache.with(&cache_key, ready) {
            self.check_usable(&wrapping.gate.key)?;
            return Ok(keys);
        }
        let data_key = self.decrypt(file, &wrapping.blob)?;
        let secret = FileSecret::derive(&data_key, &self.volume, file);
        let keys = ready(&secret);
        // A run over all files would only drive out what is in use.
        if AHEAD.with_borrow(Option::is_none) {
            self.cache.keep(cache_key, secret);
        }
        Ok(keys)
    }

    /// One more open of a file whose keys are here: asks the key manager whether a CMK of it is
    /// usable, and has it unwrap the data key once more for a user for whom it has not.
    pub(super) fn open_again(&self, file: &FileId, unwrapped: &Unwrapped) -> Result<()> {
        let uid = REQUESTER.get().uid;
        first_that_works(unwrapped.wrappings.iter(), |wrapping| {
            let key = wrapping.gate.key;
            self.check_usable(&key)?;
            let cache_key = CacheKey::new(file, &wrapping.blob, uid);
            if uid.is_none()
                || unwrapped.by == (key, uid)
                || self.cache.with(&cache_key, |_| ()).is_some()
            {
                return Ok(());
            }
            let data_key = self.decrypt(file, &wrapping.blob)?;
            let secret = FileSecret::derive(&data_key, &self.volume, file);
            self.cache.keep(cache_key, secret);
            Ok(())
        })
    }

    fn decrypt(&self, file: &FileId, blob: &[u8]) -> Result<Key256> {
        let (requester, context) = (REQUESTER.get(), self.context(file));
        let to = AHEAD.with_borrow(|ahead| ahead.as_ref().map(|ahead| ahead.to));
        if let Some(to) = to
            && matches!(is_current(self.source(), blob, &to), Ok(false))
        {
            let (opened, anew) = self
                .source
                .decrypt_and_re_encrypt(requester, blob, &context, &to)?;
            AHEAD.set(Some(Ahead {
                to,
                made: Some((blob.to_vec(), anew)),
            }));
            return Ok(opened);
        }
        Ok(self.source.decrypt(requester, blob, &context)?)
    }

    /// The wrappings of a file's data key under the current material of all of `to`; `blobs` are
    /// those that there are.
    ///
    /// # Errors
    /// As [`wrapped_under`].
    pub(super) fn rewrap(&self, file: &FileId, blobs: &[&[u8]], to: &Cmks) -> Result<Vec<Vec<u8>>> {
        let ahead = AHEAD.with_borrow_mut(|ahead| ahead.as_mut()?.made.take());
        if let (Some((blob, anew)), [only], None) = (ahead, blobs, to.recovery)
            && blob == *only
        {
            return Ok(vec![anew]);
        }
        wrapped_under(&*self.source, &self.context(file), blobs, to)
    }

    /// Drops the cached data keys of a file but for the current one.
    pub(super) fn forget_others(&self, file: &FileId, current: &Unwrapped) {
        let current = current.wrappings.iter().map(|wrapping| &*wrapping.blob);
        self.cache.forget_others(file, current);
    }

    /// Looks after the CMKs in use: shuts the gate of each that can't be used any more, opens it
    /// again when it can, and drops data keys past their time. True when a gate was shut just now.
    pub(super) fn look_after(&self) -> bool {
        self.cache.drop_old();
        let gates: Vec<Arc<Gate>> = {
            let mut gates = self.gates.lock();
            gates.retain(|_, gate| Arc::strong_count(gate) > 1);
            gates.values().cloned().collect()
        };
        let mut shut = false;
        for gate in gates {
            let usable = self.check_usable(&gate.key);
            let now = if usable.is_ok() { OPEN } else { SHUT };
            let before = gate.state.swap(now, Ordering::Relaxed);
            match usable {
                Err(error) if before == OPEN => {
                    shut = true;
                    self.cache.clear();
                    tracing::warn!(key = %gate.key, %error, "open files are cut off from this key");
                }
                Ok(()) if before == SHUT => {
                    tracing::info!(key = %gate.key, "the key is usable again");
                }
                _ => {}
            }
        }
        shut
    }
}

#[cfg(test)]
impl DataKeys {
    /// How many keys of a file are cached.
    pub(super) fn cached(&self, file: &FileId) -> usize {
        self.cache.count(file)
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

/// Whether blobs of one key are what they should be: one under the current material of each CMK, the
/// volume's own first, and no more.
pub(super) fn are_current(source: &dyn VolumeKeys, blobs: &[&[u8]], to: &Cmks) -> Result<bool> {
    let mut rest = blobs.iter();
    for key in to.all() {
        let Some(blob) = rest.next() else {
            return Ok(false);
        };
        if !is_current(source, blob, &key)? {
            return Ok(false);
        }
    }
    Ok(rest.next().is_none())
}

/// The blobs of one key under the current material of each CMK, from those that there are: what is
/// right already stays as it is.
///
/// # Errors
/// [`VolumeError::Key`] when the key manager opens none of `blobs`, or refuses the volume's own CMK;
/// [`VolumeError::RecoveryKey`] when it refuses the recovery CMK.
pub(super) fn wrapped_under(
    source: &dyn VolumeKeys,
    context: &EncryptionContext,
    blobs: &[&[u8]],
    to: &Cmks,
) -> Result<Vec<Vec<u8>>> {
    let under = |key: KeyId| {
        let mut ways: Vec<(bool, &[u8])> = Vec::with_capacity(blobs.len());
        for blob in blobs {
            if is_current(source, blob, &key)? {
                return Ok(blob.to_vec());
            }
            ways.push((key_of(blob)? != key, blob));
        }
        // Its own older wrapping first: the same CMK is needed in any case.
        ways.sort_by_key(|(other, _)| *other);
        first_that_works(
            ways,
            |(_, blob)| Ok(source.re_encrypt(blob, context, &key)?),
        )
    };
    to.all()
        .map(|key| {
            under(key).map_err(|error| match error {
                VolumeError::Key(error) if Some(key) == to.recovery => {
                    VolumeError::RecoveryKey(error)
                }
                other => other,
            })
        })
        .collect()
}
