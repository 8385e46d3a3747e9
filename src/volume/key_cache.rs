//! What derives from the data keys of files, kept for a while after they were made or unwrapped:
//! bounded in number, age and uses.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::table::Table;
use crate::content::FileSecret;
use crate::format::FileId;

/// The most that are kept, at some 140 bytes each: a source tree that is unpacked and then read
/// costs one operation of the key manager a file, not two.
const MOST: usize = 64 * 1024;
/// How many opens each serves.
const USES: u32 = 10_000;

/// A file, the wrapping of its data key, and the user for whom that was made or unwrapped: the
/// first open by each user is the key manager's to record.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct CacheKey {
    file: FileId,
    /// The tag of the wrapping. Who forges one that ends so gets keys under which the header that
    /// holds it isn't authentic.
    tag: [u8; 16],
    user: Option<u32>,
}

impl CacheKey {
    pub(super) fn new(file: &FileId, blob: &[u8], user: Option<u32>) -> Self {
        Self {
            file: *file,
            tag: blob.last_chunk().copied().unwrap_or_default(),
            user,
        }
    }
}

struct Cached {
    secret: FileSecret,
    since: Instant,
    uses: u32,
}

/// The cache of one volume.
pub(super) struct KeyCache {
    ttl: Duration,
    map: Mutex<Table<CacheKey, Cached>>,
}

impl KeyCache {
    pub(super) fn new(ttl: Duration) -> Self {
        Self {
            ttl,
            map: Mutex::default(),
        }
    }

    /// Uses what is cached, if it may be used once more.
    pub(super) fn with<T>(&self, key: &CacheKey, then: impl FnOnce(&FileSecret) -> T) -> Option<T> {
        let mut map = self.map.lock();
        let cached = map.get_mut(key)?;
        if cached.uses >= USES || cached.since.elapsed() >= self.ttl {
            map.remove(key);
            return None;
        }
        cached.uses += 1;
        Some(then(&cached.secret))
    }

    pub(super) fn keep(&self, key: CacheKey, secret: FileSecret) {
        let mut map = self.map.lock();
        if map.len() >= MOST {
            // Half of them go at once, the oldest first, so that a scan costs little for each file.
            let mut ages: Vec<Instant> = map.values().map(|cached| cached.since).collect();
            let middle = ages.len() / 2;
            let (_, &mut bound, _) = ages.select_nth_unstable(middle);
            map.retain(|_, cached| cached.since > bound);
        }
        let cached = Cached {
            secret,
            since: Instant::now(),
            uses: 0,
        };
        map.insert(key, cached);
    }

    /// Drops what is cached of a file, but for what derives from the wrappings `keep`.
    pub(super) fn forget_others<'b>(
        &self,
        file: &FileId,
        keep: impl Iterator<Item = &'b [u8]> + Clone,
    ) {
        self.map.lock().retain(|key, _| {
            key.file != *file
                || keep
                    .clone()
                    .any(|blob| *key == CacheKey::new(file, blob, key.user))
        });
    }

    /// Drops what is past its time.
    pub(super) fn drop_old(&self) {
        let now = Instant::now();
        let mut map = self.map.lock();
        map.retain(|_, cached| now.saturating_duration_since(cached.since) < self.ttl);
        if map.is_empty() {
            map.shrink_to_fit();
        }
    }

    pub(super) fn clear(&self) {
        self.map.lock().clear();
    }
}

#[cfg(test)]
impl KeyCache {
    /// How many there are of a file.
    pub(super) fn count(&self, file: &FileId) -> usize {
        let map = self.map.lock();
        map.keys().filter(|key| key.file == *file).count()
    }
}

#[cfg(test)]
mod tests;
