//! Change times that stay what they were when a header is rewritten, or a file is re-encrypted.
//!
//! Backup tools read a file again when its ctime has moved. A rewrap moves the ctime below, so the
//! volume remembers for each file what it was, and shows that for as long as the ctime below is
//! the one that the rewrap gave. A stat must stay cheap, whether a million files were rewrapped or
//! none: a ctime outside of the times at which rewraps ran is its own; within them one page of
//! the sorted table is read.

use std::collections::HashMap;
use std::io::{IoSlice, IoSliceMut};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use parking_lot::{Mutex, RwLock};

use super::error::Result;
use super::record_io::CONTROL_DIR;
use crate::backing::{Backing, EntryName, OpenFile, Rename, Stat, Time};
use crate::format::{KEPT_CTIME_LEN, KeptCtime, VolumeId, VolumeSecrets};

const TABLE: EntryName = EntryName::literal("ctimes");
const NEW_TABLE: EntryName = EntryName::literal("ctimes.new");
const LOG: EntryName = EntryName::literal("ctimes.log");
/// Entries of the table that are read in one go: a page.
const RUN: usize = 64;
/// Entries in the log that are sorted in by themselves: bounds what is kept in memory.
const RECENT_MOST: usize = 100_000;
/// Entries that are written in one go while the table is made.
const CHUNK: usize = 4096;
const LEN: u64 = KEPT_CTIME_LEN as u64;

/// The change times that a volume keeps.
pub(super) struct Ctimes<B: Backing> {
    secrets: Arc<VolumeSecrets>,
    volume: VolumeId,
    read_only: bool,
    /// Within these seconds are all ctimes that rewraps gave; no such second when the first is greater.
    first: AtomicI64,
    last: AtomicI64,
    known: RwLock<Known<B>>,
    log: Mutex<Log<B>>,
}

/// Where the kept ctimes are.
struct Known<B: Backing> {
    table: Option<Table<B>>,
    /// Those in the log.
    recent: HashMap<u64, KeptCtime>,
}

/// The sorted table, and the inode number that each run of it begins with.
struct Table<B: Backing> {
    file: B::File,
    firsts: Vec<u64>,
}

struct Log<B: Backing> {
    file: Option<B::File>,
    len: u64,
}

impl<B: Backing> Ctimes<B> {
    /// What a volume has kept. Damage in it costs no more than that ctimes are shown as they are.
    pub(super) fn load(
        backing: &B,
        root: &B::Dir,
        secrets: Arc<VolumeSecrets>,
        volume: VolumeId,
        read_only: bool,
    ) -> Result<Self> {
        let ctimes = Self {
            secrets,
            volume,
            read_only,
            first: AtomicI64::new(i64::MAX),
            last: AtomicI64::new(i64::MIN),
            known: RwLock::new(Known {
                table: None,
                recent: HashMap::new(),
            }),
            log: Mutex::new(Log { file: None, len: 0 }),
        };
        let control = backing.open_dir(root, &CONTROL_DIR)?;
        ctimes.load_table(backing, &control)?;
        if let Some(file) = open(backing, &control, &LOG)? {
            let mut recent = HashMap::new();
            each(backing, &file, 0, |_, bytes| {
                if let Some(kept) = ctimes.authentic(bytes) {
                    ctimes.widen(&kept);
                    recent.insert(kept.ino, kept);
                }
            })?;
            ctimes.known.write().recent = recent;
        }
        Ok(ctimes)
    }

    fn load_table(&self, backing: &B, control: &B::Dir) -> Result<()> {
        let mut firsts = Vec::new();
        let table = open(backing, control, &TABLE)?;
        if let Some(file) = &table {
            each(backing, file, 0, |i, bytes| {
                if let Ok(kept) = KeptCtime::parse(bytes) {
                    self.widen(&kept);
                    if i % RUN == 0 {
                        firsts.push(kept.ino);
                    }
                }
            })?;
        }
        self.known.write().table = table.map(|file| Table { file, firsts });
        Ok(())
    }

    fn authentic(&self, bytes: &[u8]) -> Option<KeptCtime> {
        KeptCtime::parse(bytes)
            .ok()
            .filter(|_| KeptCtime::authentic(bytes, &self.secrets.ctimes, &self.volume))
    }

    fn widen(&self, kept: &KeptCtime) {
        self.first.fetch_min(kept.after.0, Ordering::Relaxed);
        self.last.fetch_max(kept.after.0, Ordering::Relaxed);
    }

    /// The ctime that a file shows.
    pub(super) fn shown(&self, backing: &B, stat: &Stat) -> Time {
        let secs = stat.ctime.secs;
        if secs < self.first.load(Ordering::Relaxed) || secs > self.last.load(Ordering::Relaxed) {
            return stat.ctime;
        }
        self.find(backing, stat.ino)
            .filter(|kept| kept.after == (secs, stat.ctime.nanos))
            .map_or(stat.ctime, |kept| Time {
                secs: kept.before.0,
                nanos: kept.before.1,
            })
    }

    fn find(&self, backing: &B, ino: u64) -> Option<KeptCtime> {
        let known = self.known.read();
        if let Some(kept) = known.recent.get(&ino) {
            return Some(*kept);
        }
        let table = known.table.as_ref()?;
        let run = table
            .firsts
            .partition_point(|&first| first <= ino)
            .checked_sub(1)?;
        let mut bytes = [0; RUN * KEPT_CTIME_LEN];
        let at = (run * RUN) as u64 * LEN;
        let read = backing
            .read_at(&table.file, &mut [IoSliceMut::new(&mut bytes)], at)
            .ok()?;
        bytes[..read]
            .chunks_exact(KEPT_CTIME_LEN)
            .find(|entry| KeptCtime::parse(entry).is_ok_and(|kept| kept.ino == ino))
            .and_then(|entry| self.authentic(entry))
    }

    /// Remembers that a rewrite has moved a file's ctime from what `before` shows to `after`'s. The
    /// log has it when this returns.
    pub(super) fn keep(
        &self,
        backing: &B,
        root: &B::Dir,
        before: Time,
        after: &Stat,
    ) -> Result<()> {
        let kept = KeptCtime {
            ino: after.ino,
            after: (after.ctime.secs, after.ctime.nanos),
            before: (before.secs, before.nanos),
        };
        let bytes = kept.seal(&self.secrets.ctimes, &self.volume);
        {
            let mut log = self.log.lock();
            if log.file.is_none() {
                let control = backing.open_dir(root, &CONTROL_DIR)?;
                let file = match open(backing, &control, &LOG)? {
                    Some(file) => file,
                    None => backing.create_file(&control, &LOG, 0o600)?,
                };
                // Behind the last whole entry.
                log.len = backing.stat_file(&file)?.size / LEN * LEN;
                log.file = Some(file);
            }
            if let Some(file) = &log.file {
                backing.write_at(file, &mut [IoSlice::new(&bytes)], log.len)?;
            }
            log.len += LEN;
            self.widen(&kept);
            self.known.write().recent.insert(kept.ino, kept);
        }
        if self.known.read().recent.len() >= RECENT_MOST {
            self.settle(backing, root)?;
        }
        Ok(())
    }

    /// The same of a rewrite that found `before` below. Failing costs no more than that a backup tool
    /// looks at the file again.
    pub(super) fn keep_over(&self, backing: &B, root: &B::Dir, before: &Stat, after: &Stat) {
        if before.ctime == after.ctime {
            return;
        }
        let shown = self.shown(backing, before);
        if let Err(error) = self.keep(backing, root, shown, after) {
            tracing::warn!(inode = after.ino, %error, "a change time could not be kept");
        }
    }

    /// Sorts what is in the log into the table.
    pub(super) fn settle(&self, backing: &B, root: &B::Dir) -> Result<()> {
        if self.read_only || self.known.read().recent.is_empty() {
            return Ok(());
        }
        let control = backing.open_dir(root, &CONTROL_DIR)?;
        // Nothing is added meanwhile; what is looked up is found in the old places.
        let mut log = self.log.lock();
        let mut recent: Vec<KeptCtime> = self.known.read().recent.values().copied().collect();
        recent.sort_unstable_by_key(|kept| kept.ino);
        match backing.unlink(&control, &NEW_TABLE) {
            Err(error) if error.raw_os_error() != Some(libc::ENOENT) => return Err(error.into()),
            _ => {}
        }
        let file = backing.create_file(&control, &NEW_TABLE, 0o600)?;
        let mut out = Sorted {
            backing,
            file: &file,
            buffer: Vec::with_capacity(CHUNK * KEPT_CTIME_LEN),
            at: 0,
            failed: None,
        };
        let mut recent = recent.into_iter().peekable();
        let old = open(backing, &control, &TABLE)?;
        if let Some(old) = &old {
            each(backing, old, 0, |_, bytes| {
                let Ok(kept) = KeptCtime::parse(bytes) else {
                    return;
                };
                while let Some(new) = recent.next_if(|new| new.ino < kept.ino) {
                    out.add(&new.seal(&self.secrets.ctimes, &self.volume));
                }
                if recent.peek().is_none_or(|new| new.ino != kept.ino) {
                    out.add(bytes);
                }
            })?;
        }
        for new in recent {
            out.add(&new.seal(&self.secrets.ctimes, &self.volume));
        }
        out.end()?;
        backing.sync_file(&file, false)?;
        backing.rename(&control, &NEW_TABLE, &control, &TABLE, Rename::Plain)?;
        backing.sync_dir(&control)?;
        self.load_table(backing, &control)?;
        // Whatever is in both is the same.
        backing.unlink(&control, &LOG)?;
        *log = Log { file: None, len: 0 };
        self.known.write().recent.clear();
        Ok(())
    }
}

/// A table that is being written.
struct Sorted<'a, B: Backing> {
    backing: &'a B,
    file: &'a B::File,
    buffer: Vec<u8>,
    at: u64,
    failed: Option<std::io::Error>,
}

impl<B: Backing> Sorted<'_, B> {
    fn add(&mut self, entry: &[u8]) {
        self.buffer.extend_from_slice(entry);
        if self.buffer.len() >= CHUNK * KEPT_CTIME_LEN {
            self.write();
        }
    }

    fn write(&mut self) {
        if self.failed.is_none()
            && let Err(error) =
                self.backing
                    .write_at(self.file, &mut [IoSlice::new(&self.buffer)], self.at)
        {
            self.failed = Some(error);
        }
        self.at += self.buffer.len() as u64;
        self.buffer.clear();
    }

    fn end(mut self) -> Result<()> {
        self.write();
        self.failed.map_or(Ok(()), |error| Err(error.into()))
    }
}

/// Calls `with` for each whole entry of a file, in turn.
fn each<B: Backing>(
    backing: &B,
    file: &B::File,
    from: u64,
    mut with: impl FnMut(usize, &[u8]),
) -> Result<()> {
    let mut chunk = vec![0; CHUNK * KEPT_CTIME_LEN];
    let (mut at, mut i) = (from, 0);
    loop {
        let read = backing.read_at(file, &mut [IoSliceMut::new(&mut chunk)], at)?;
        for bytes in chunk[..read].chunks_exact(KEPT_CTIME_LEN) {
            with(i, bytes);
            i += 1;
        }
        if read < chunk.len() {
            return Ok(());
        }
        at += read as u64;
    }
}

fn open<B: Backing>(backing: &B, control: &B::Dir, name: &EntryName) -> Result<Option<B::File>> {
    match backing.open_file(control, name, OpenFile::READ_WRITE) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
        Err(error) => match error.raw_os_error() {
            Some(libc::EROFS | libc::EACCES | libc::EPERM) => {
                Ok(Some(backing.open_file(control, name, OpenFile::READ)?))
            }
            _ => Err(error.into()),
        },
    }
}
