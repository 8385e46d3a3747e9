//! Writing the log: one segment for each process at a time.

use std::cell::RefCell;
use std::fs::{DirBuilder, File, OpenOptions};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use parking_lot::Mutex;
use rusqlite::Connection;
use rustix::fs::FlockOperation;

use super::super::clock::Timestamp;
use super::super::error::{KmsError, Result};
use super::super::store::{Anchor, Store, audit_key, move_anchor};
use super::chain::{self, HEAD_LEN, Head};
use super::waiting::{self, Waiting};
use super::{Event, Recorder, shape};
use crate::crypto::{self, MacKey};

/// Room for most records.
const ROOM: usize = 4096;
/// No record is longer: an encryption context has 8 KiB, a policy 32 KiB.
pub(super) const LONGEST: u64 = 1 << 20;

/// When a segment is ended and the next one begun.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// From so many bytes on.
    pub bytes: u64,
    /// From so many days on.
    pub days: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            bytes: 64 << 20,
            days: 30,
        }
    }
}

/// The log of a keystore, open for writing.
///
/// Each process has a segment of its own while it lives, so that no two wait for each other. A
/// process that ends leaves its segment to the next one.
pub struct Log {
    pen: Arc<Pen>,
    limits: Limits,
    /// For anchors: records may come within a transaction of the store's own connection.
    sql: Mutex<Connection>,
    /// Writes what waits. None: nothing may wait.
    thread: Option<JoinHandle<()>>,
}

/// What writes records. `writer` is locked before what waits is taken.
struct Pen {
    dir: PathBuf,
    key: MacKey,
    writer: Mutex<Writer>,
    waiting: Waiting,
}

struct Writer {
    segment: Segment,
    /// The last anchor in the keystore.
    anchor: Anchor,
}

/// A segment that this process holds (by flock(2) on the file of records).
struct Segment {
    records: File,
    head_file: File,
    head: Head,
    /// Memory for what is written.
    sealed: Vec<u8>,
}

thread_local! {
    static LINE: RefCell<Vec<u8>> = RefCell::new(Vec::with_capacity(ROOM));
}

impl Log {
    /// Opens the log in `audit` in the keystore's directory: goes on with a segment that nobody
    /// has, or begins one.
    pub(in crate::kms) fn open(store: &Store, now: Timestamp, limits: Limits) -> Result<Self> {
        let dir = store.dir().join(super::DIR);
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&dir)
            .map_err(KmsError::io("make the directory", &dir))?;
        let key = match store.read(|sql| audit_key(sql, store.sealer()))? {
            Some(key) => key,
            None => store.change(|change| change.make_audit_key(now))?,
        };
        let sql = store.connect()?;
        let writer = match free_segment(&dir, &key, &sql, now, limits)? {
            Some(writer) => writer,
            None => new_segment(&dir, &key, store, now)?,
        };
        let pen = Arc::new(Pen {
            dir,
            key,
            writer: Mutex::new(writer),
            waiting: Waiting::default(),
        });
        Ok(Self {
            thread: Pen::serve(&pen),
            pen,
            limits,
            sql: Mutex::new(sql),
        })
    }

    /// Writes to the keystore how far this process's segment has come, after it has reached the
    /// disk, and begins another one when it is full or old. What is anchored can't be taken back
    /// with the log's files alone. Does nothing when there is nothing new.
    ///
    /// Whoever records within a transaction of the keystore waits for `writer` with the database
    /// locked: so nobody may wait for the database with `writer` locked.
    pub(in crate::kms) fn anchor(&self, store: &Store, now: Timestamp) -> Result<()> {
        let sql = self.sql.lock();
        let pen = &self.pen;
        let is_full = {
            let writer = pen.writer.lock();
            is_full(&writer.segment.head, &writer.anchor, now, self.limits)
        };
        if !is_full {
            return self.settle(&sql);
        }
        let next = new_segment(&pen.dir, &pen.key, store, now)?;
        let old = std::mem::replace(&mut *pen.writer.lock(), next);
        self.sync(&old.segment.records, &old.segment.head_file)?;
        let head = old.segment.head;
        let ended = old.anchor.moved(&pen.key, head.seq, head.hash, false);
        move_anchor(&sql, &ended)
    }

    /// Anchors the segment as it stands.
    fn settle(&self, sql: &Connection) -> Result<()> {
        let pen = &self.pen;
        let (head, anchor, records, head_file) = {
            let mut writer = pen.writer.lock();
            pen.write_waiting(&mut writer)
                .map_err(self.failed("write to"))?;
            let segment = &writer.segment;
            if segment.head.seq == writer.anchor.seq {
                return Ok(());
            }
            let clone = |file: &File| file.try_clone().map_err(self.failed("share"));
            let files = (clone(&segment.records)?, clone(&segment.head_file)?);
            (segment.head, writer.anchor.clone(), files.0, files.1)
        };
        self.sync(&records, &head_file)?;
        let anchor = anchor.moved(&pen.key, head.seq, head.hash, true);
        move_anchor(sql, &anchor)?;
        // The segment is the same: only who has `sql` changes it.
        pen.writer.lock().anchor = anchor;
        Ok(())
    }

    fn sync(&self, records: &File, head_file: &File) -> Result<()> {
        records.sync_data().map_err(self.failed("sync"))?;
        head_file.sync_data().map_err(self.failed("sync"))
    }

    fn failed(&self, action: &'static str) -> impl Fn(std::io::Error) -> KmsError + Copy + '_ {
        move |error| KmsError::io(action, &self.pen.dir)(error)
    }
}

impl Segment {
    /// Writes records, in one piece.
    fn write<'l>(
        &mut self,
        key: &MacKey,
        lines: impl Iterator<Item = &'l [u8]>,
    ) -> std::io::Result<()> {
        self.sealed.clear();
        let (mut head, mut last) = (self.head, None);
        for line in lines {
            let (next, mac) = chain::seal(key, &head, line, &mut self.sealed);
            (head, last) = (next, Some(mac));
        }
        let Some(mac) = last else {
            return Ok(());
        };
        // Until both are written the records do not count: the next ones take their place.
        self.records.write_all_at(&self.sealed, self.head.len)?;
        self.head_file.write_all_at(&head.encode(&mac), 0)?;
        self.head = head;
        self.sealed.shrink_to(waiting::MOST + ROOM);
        Ok(())
    }
}

impl Pen {
    /// Has a thread write what waits.
    fn serve(pen: &Arc<Self>) -> Option<JoinHandle<()>> {
        let own = Arc::clone(pen);
        thread::Builder::new()
            .name("kms-audit".to_owned())
            .stack_size(256 << 10)
            .spawn(move || {
                while own.waiting.wait() {
                    let written = own.write_waiting(&mut own.writer.lock());
                    if let Err(error) = written {
                        let dir = own.dir.display();
                        tracing::error!(
                            "can't write to the audit log in {dir}: no key can be used until that is mended: {error}"
                        );
                    }
                }
            })
            .inspect_err(|error| tracing::warn!("each audit record is written alone: {error}"))
            .ok()
    }

    /// Writes what waits.
    fn write_waiting(&self, writer: &mut Writer) -> std::io::Result<()> {
        let lines = self.waiting.take();
        match writer.segment.write(&self.key, lines.iter()) {
            Ok(()) => self.waiting.written(lines),
            Err(error) => {
                self.waiting.put_back(lines);
                return Err(error);
            }
        }
        Ok(())
    }

    /// Writes a record, behind all that wait.
    fn write(&self, line: &[u8]) -> std::io::Result<()> {
        let mut writer = self.writer.lock();
        self.write_waiting(&mut writer)?;
        writer.segment.write(&self.key, std::iter::once(line))
    }
}

impl Recorder for Log {
    fn record(&self, event: &Event<'_>) -> Result<()> {
        LINE.with_borrow_mut(|line| {
            line.clear();
            shape::write(line, event)?;
            let may_wait = event.may_wait && self.thread.is_some();
            let written = if may_wait && self.pen.waiting.offer(line) {
                Ok(())
            } else {
                self.pen.write(line)
            };
            line.shrink_to(ROOM);
            written.map_err(|error| {
                let dir = self.pen.dir.display();
                KmsError::Unrecorded(format!("the audit log in {dir}: {error}"))
            })
        })
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.pen.waiting.end();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread that writes audit records panicked");
        }
        if let Err(error) = self.settle(&self.sql.lock()) {
            // The next one that opens the log finds its end all the same.
            tracing::warn!("could not anchor the audit log: {error}");
        }
    }
}

fn is_full(head: &Head, anchor: &Anchor, now: Timestamp, limits: Limits) -> bool {
    head.seq > 0 && (head.len >= limits.bytes || now >= anchor.opened.plus_days(limits.days))
}

pub(super) fn records_path(dir: &Path, number: i64) -> PathBuf {
    dir.join(format!("{number:08}.jsonl"))
}

pub(super) fn head_path(dir: &Path, number: i64) -> PathBuf {
    dir.join(format!("{number:08}.head"))
}

/// A segment that is open and that no process has, if its end is what it should be.
fn free_segment(
    dir: &Path,
    key: &MacKey,
    sql: &Connection,
    now: Timestamp,
    limits: Limits,
) -> Result<Option<Writer>> {
    for anchor in Anchor::list(sql)?
        .into_iter()
        .rev()
        .filter(|anchor| anchor.open)
    {
        let path = records_path(dir, anchor.number);
        let Ok(records) = open_file(&path, false) else {
            tracing::error!(
                "the audit log's {} is missing: run 'envelopefs audit verify'",
                path.display()
            );
            continue;
        };
        if !lock(&records, &path)? {
            continue;
        }
        // Whoever had it may have ended it before it was free.
        let Some(anchor) = Anchor::load(sql, anchor.number)?.filter(|anchor| anchor.open) else {
            continue;
        };
        let Some(segment) = take_over(dir, key, records, &anchor)? else {
            tracing::error!(
                "the audit log's {} is damaged: run 'envelopefs audit verify'",
                path.display()
            );
            move_anchor(sql, &anchor.moved(key, anchor.seq, anchor.head, false))?;
            continue;
        };
        let head = segment.head;
        if is_full(&head, &anchor, now, limits) {
            segment
                .records
                .sync_data()
                .map_err(KmsError::io("sync", &path))?;
            move_anchor(sql, &anchor.moved(key, head.seq, head.hash, false))?;
            continue;
        }
        return Ok(Some(Writer { segment, anchor }));
    }
    Ok(None)
}

fn lock(records: &File, path: &Path) -> Result<bool> {
    match rustix::fs::flock(records, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(true),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(false),
        Err(errno) => Err(KmsError::io("lock", path)(errno.into())),
    }
}

fn open_file(path: &Path, new: bool) -> std::io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(new)
        .mode(0o600)
        .open(path)
}

/// The segment from where it ended; `None` when its end is not what its head says, or lies before
/// what the keystore knows of it.
fn take_over(dir: &Path, key: &MacKey, records: File, anchor: &Anchor) -> Result<Option<Segment>> {
    let Ok(head_file) = open_file(&head_path(dir, anchor.number), false) else {
        return Ok(None);
    };
    let path = records_path(dir, anchor.number);
    let len = records
        .metadata()
        .map_err(KmsError::io("look at", &path))?
        .len();
    let mut bytes = [0; HEAD_LEN];
    if head_file.read_exact_at(&mut bytes, 0).is_err() {
        return Ok(None);
    }
    let Some(mut head) = Head::parse(key, &bytes).filter(|head| {
        anchor.is_authentic(key)
            && head.segment == anchor.number
            && head.seq >= anchor.seq
            && head.len <= len
    }) else {
        return Ok(None);
    };
    if !ends_with_head(&records, key, &head) {
        return Ok(None);
    }
    // A process that was killed between the two writes left more records, or a part of one that
    // nobody was told of.
    let known = head;
    while let Some(next) = record_behind(&records, key, &head) {
        head = next;
    }
    if head != known {
        let mac = head.mac(key);
        head_file
            .write_all_at(&head.encode(&mac), 0)
            .map_err(KmsError::io("write", head_path(dir, anchor.number)))?;
    }
    if head.len < len {
        records
            .set_len(head.len)
            .map_err(KmsError::io("cut", &path))?;
    }
    Ok(Some(Segment {
        records,
        head_file,
        head,
        sealed: Vec::new(),
    }))
}

/// Whether the last record is the one that the head names.
fn ends_with_head(records: &File, key: &MacKey, head: &Head) -> bool {
    if head.seq == 0 {
        return head.len == 0;
    }
    let from = head.len.saturating_sub(LONGEST);
    let mut end = vec![0; (head.len - from) as usize];
    if records.read_exact_at(&mut end, from).is_err() {
        return false;
    }
    let Some(text) = end.strip_suffix(b"\n") else {
        return false;
    };
    let line = text.rsplit(|b| *b == b'\n').next().unwrap_or_default();
    chain::open(key, line).is_some_and(|link| {
        (link.segment, link.seq, link.hash) == (head.segment, head.seq, head.hash)
    })
}

/// The head behind one more record, if there is one.
fn record_behind(records: &File, key: &MacKey, head: &Head) -> Option<Head> {
    let mut more = Vec::with_capacity(ROOM);
    let mut part = [0; ROOM];
    while (more.len() as u64) < LONGEST && !more.contains(&b'\n') {
        match records
            .read_at(&mut part, head.len + more.len() as u64)
            .ok()?
        {
            0 => return None,
            count => more.extend_from_slice(&part[..count]),
        }
    }
    let end = more.iter().position(|b| *b == b'\n')?;
    let link = chain::open(key, &more[..end])?;
    let follows =
        (link.segment, link.seq, link.previous) == (head.segment, head.seq + 1, head.hash);
    follows.then(|| Head {
        segment: head.segment,
        seq: link.seq,
        len: head.len + end as u64 + 1,
        hash: link.hash,
    })
}

/// Records under a name that the keystore does not know: the log of a keystore that was set back to
/// an older state. They stay, under another name, for verification to tell of. An empty file is left
/// by a process that was killed before the keystore knew of it.
fn set_aside(path: &Path) -> Result<()> {
    if path.metadata().is_ok_and(|meta| meta.len() > 0) {
        let mark = u64::from_le_bytes(crypto::random_array());
        let aside = path.with_extension(format!("unknown-{mark:016x}.jsonl"));
        std::fs::rename(path, aside).map_err(KmsError::io("rename", path))?;
    }
    Ok(())
}

fn new_segment(dir: &Path, key: &MacKey, store: &Store, now: Timestamp) -> Result<Writer> {
    store.change(|change| {
        let before = Anchor::list(change.sql)?.pop();
        let (number, before) = match &before {
            Some(last) => (last.number + 1, last.genesis),
            None => (1, crypto::sha256(&[b"envelopefs audit log v1"])),
        };
        let anchor = Anchor::new(key, number, chain::genesis(number, &before), now);
        let path = records_path(dir, number);
        set_aside(&path)?;
        let records = open_file(&path, true).map_err(KmsError::io("make", &path))?;
        if !lock(&records, &path)? {
            return Err(KmsError::Busy);
        }
        let head_path = head_path(dir, number);
        let head_file = open_file(&head_path, true).map_err(KmsError::io("make", &head_path))?;
        let head = Head {
            segment: number,
            seq: 0,
            len: 0,
            hash: anchor.genesis,
        };
        head_file
            .write_all_at(&head.encode(&head.mac(key)), 0)
            .map_err(KmsError::io("write", &head_path))?;
        head_file
            .sync_all()
            .map_err(KmsError::io("sync", &head_path))?;
        File::open(dir)
            .and_then(|dir| dir.sync_all())
            .map_err(KmsError::io("sync", dir))?;
        change.insert_anchor(&anchor)?;
        Ok(Writer {
            segment: Segment {
                records,
                head_file,
                head,
                sealed: Vec::new(),
            },
            anchor,
        })
    })
}

#[cfg(test)]
impl Log {
    /// From now on no record can be written; what to mend it with.
    pub(in crate::kms) fn break_it(&self) -> File {
        let null = File::open("/dev/null").expect("/dev/null");
        self.mend(null)
    }

    /// Writes to this file from now on.
    pub(in crate::kms) fn mend(&self, records: File) -> File {
        std::mem::replace(&mut self.pen.writer.lock().segment.records, records)
    }
}
