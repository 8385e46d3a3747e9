//! Write-back: what is durable in the journal goes home, and the journal's space is free again.

use std::io::{self, IoSlice, IoSliceMut};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, MutexGuard, RwLock, RwLockWriteGuard};

use super::JournalMode;
use super::overlay::Pending;
use super::ring::{Journal, Room};
use crate::backing::{Allocate, At, Backing, SetTime, Stat};
use crate::content::{BlockIndex, GroupIndex, Layout};
use crate::format::journal::{RecordBuilder, RecordKind, Resize};
use crate::format::{ENTRY_LEN, FileId, PAGE, STATE_AT, State};
use crate::volume::ctimes::Ctimes;
use crate::volume::dirs::DirState;
use crate::volume::open_file::{Core, Extent, OpenFile, OpenFiles};

/// How long blocks wait in the journal: what is overwritten again meanwhile goes home once.
const DELAY: Duration = Duration::from_secs(2);
/// So many closed files may wait for their write-back, each with a descriptor.
const WAITING_MOST: usize = 64;
/// Up to so many files are synced one by one; more, with all of the filesystem below.
const SYNCS_MOST: usize = 64;
/// The most bytes copied in one call.
const COPY_MOST: usize = 1 << 20;
/// So many blocks are copied home in one piece: who cuts their file waits for one.
const BLOCKS_AT_ONCE: usize = 128;

#[derive(Default)]
struct Control {
    /// Since when something waits.
    since: Option<Instant>,
    now: bool,
    stop: bool,
}

/// The journal, and what brings its records home.
pub(in crate::volume) struct Engine<B: Backing> {
    backing: Arc<B>,
    files: Arc<OpenFiles<B>>,
    ctimes: Arc<Ctimes<B>>,
    root: Arc<DirState<B>>,
    pub(in crate::volume) journal: Journal<B>,
    mode: JournalMode,
    /// Files with something pending, or with a state to be sealed.
    waiting: Mutex<Vec<Arc<OpenFile<B>>>>,
    /// One write-back at a time.
    pass: Mutex<()>,
    /// Held shared while blocks are overwritten that the journal has an offer of.
    pub(in crate::volume) under_way: RwLock<()>,
    control: Mutex<Control>,
    wake: Condvar,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl<B: Backing> Engine<B> {
    pub(in crate::volume) fn new(
        backing: Arc<B>,
        files: Arc<OpenFiles<B>>,
        (ctimes, root): (Arc<Ctimes<B>>, Arc<DirState<B>>),
        journal: Journal<B>,
        mode: JournalMode,
    ) -> Arc<Self> {
        Arc::new(Self {
            backing,
            files,
            ctimes,
            root,
            journal,
            mode,
            waiting: Mutex::default(),
            pass: Mutex::default(),
            under_way: RwLock::default(),
            control: Mutex::default(),
            wake: Condvar::new(),
            thread: Mutex::new(None),
        })
    }

    /// Room in the journal for records with `bytes` of data in all; writes back when there is none.
    /// To be called with no file locked.
    pub(in crate::volume) fn room(self: &Arc<Self>, bytes: usize) -> io::Result<Room<'_, B>> {
        let need = (bytes + bytes / 64 + 4 * PAGE) as u64;
        if let Some(room) = self.journal.reserve(need) {
            return Ok(room);
        }
        let pass = self.pass.lock();
        let mut before = None;
        loop {
            // The first time: somebody else's pass has made room, if one was under way.
            if let Some(room) = self.journal.reserve(need) {
                return Ok(room);
            }
            let position = self.journal.position();
            if before.replace(position) == Some(position) {
                return Err(io::Error::from_raw_os_error(libc::ENOSPC));
            }
            self.write_back_in(&pass, false)?;
        }
    }

    /// Puts a file on the list of those to be written back. Before its record is appended.
    pub(in crate::volume) fn queue(self: &Arc<Self>, file: &Arc<OpenFile<B>>) {
        if file.queued.swap(true, Ordering::AcqRel) {
            return;
        }
        let crowded = {
            let mut waiting = self.waiting.lock();
            waiting.push(Arc::clone(file));
            waiting.len() > WAITING_MOST
        };
        if self.mode != JournalMode::Background {
            return;
        }
        let mut control = self.control.lock();
        if control.stop {
            return;
        }
        control.since.get_or_insert_with(Instant::now);
        control.now |= crowded;
        drop(control);
        self.wake.notify_one();
        self.start();
    }

    /// Starts the thread, if there is to be one and it doesn't run yet. It gets the scheduling policy
    /// of who starts it.
    pub(in crate::volume) fn start(self: &Arc<Self>) {
        if self.mode != JournalMode::Background {
            return;
        }
        let mut thread = self.thread.lock();
        if thread.is_none() {
            let engine = Arc::clone(self);
            let started = std::thread::Builder::new()
                .name("write-back".to_owned())
                .spawn(move || engine.serve());
            match started {
                Ok(started) => *thread = Some(started),
                Err(error) => tracing::warn!(%error, "no thread for the write-back"),
            }
        }
    }

    /// Tells the thread when the journal fills up.
    pub(in crate::volume) fn nudge(&self) {
        if self.mode == JournalMode::Background && self.journal.is_filling() {
            let mut control = self.control.lock();
            if !control.now {
                control.now = true;
                drop(control);
                self.wake.notify_one();
            }
        }
    }

    fn serve(self: &Arc<Self>) {
        loop {
            let mut control = self.control.lock();
            loop {
                if control.stop {
                    return;
                }
                match control.since {
                    _ if control.now => break,
                    Some(since) if since.elapsed() >= DELAY => break,
                    Some(since) => {
                        let left = DELAY.saturating_sub(since.elapsed());
                        self.wake.wait_for(&mut control, left);
                    }
                    None => self.wake.wait(&mut control),
                }
            }
            *control = Control::default();
            drop(control);
            if let Err(error) = self.write_back(false) {
                tracing::error!(%error, "write-back; it is tried again");
                self.control.lock().since = Some(Instant::now());
            }
        }
    }

    /// Ends the thread.
    pub(in crate::volume) fn stop(&self) {
        self.control.lock().stop = true;
        self.wake.notify_all();
        if let Some(thread) = self.thread.lock().take()
            && thread.thread().id() != std::thread::current().id()
        {
            // A panic was logged by the thread itself.
            let _ = thread.join();
        }
    }

    /// Brings home what is pending now. With `all`, files in use are sealed too.
    ///
    /// # Errors
    /// What the cipher directory says; what could not come home stays in the journal.
    pub(in crate::volume) fn write_back(self: &Arc<Self>, all: bool) -> io::Result<()> {
        self.write_back_in(&self.pass.lock(), all)
    }

    /// The same, within a pass of its own.
    fn write_back_in(self: &Arc<Self>, _pass: &MutexGuard<'_, ()>, all: bool) -> io::Result<()> {
        let position = {
            let _none_under_way = self.under_way.write();
            self.journal.position()
        };
        let files = std::mem::take(&mut *self.waiting.lock());
        // What is before the position is freed at the end. Records behind it stay, and so does what
        // they supersede at home.
        let upto = position.1 - 1;
        let mut failure = self.journal.sync(&self.backing, upto).err();
        let mut done = Vec::with_capacity(files.len());
        for file in files {
            file.queued.store(false, Ordering::Release);
            let sent = if failure.is_some() {
                Err(io::Error::from_raw_os_error(libc::EIO))
            } else {
                self.send(&file, all, upto)
            };
            match sent {
                Ok(Some(sent)) => done.push((file, sent)),
                // Nothing but what came since; or in use, and what it waits for is its last user.
                Ok(None) => {
                    if !file.overlay.is_empty() {
                        self.queue(&file);
                    }
                }
                Err(error) => {
                    failure.get_or_insert(error);
                    self.queue(&file);
                }
            }
        }
        // Most of what the second sync needs, beside the files.
        self.journal.start_sync(&self.backing);
        let synced = if done.len() > SYNCS_MOST {
            self.backing.sync_all()
        } else {
            done.iter()
                .try_for_each(|(file, _)| self.backing.sync_file(file.file(), true))
        };
        for (file, sent) in done {
            match &synced {
                Ok(()) => self.settle(&file, &sent),
                Err(_) => self.queue(&file),
            }
        }
        failure.map_or(synced, Err)?;
        // A block that was overwritten once more was not sent: what is freed of it was promised, so
        // its successor must be durable before.
        self.journal.sync(&self.backing, self.journal.last())?;
        self.journal.free(&self.backing, position)
    }

    /// Writes what is pending of one file to its home, as far as records up to number `upto` hold it.
    /// These are durable.
    fn send(&self, file: &Arc<OpenFile<B>>, all: bool, upto: u64) -> io::Result<Option<Sent>> {
        // A file that nobody uses is sealed: from here on its size is a promise.
        let seal = (all || self.files.is_unused(file)) && file.unsealed.load(Ordering::Acquire);
        let seal = seal.then(|| {
            let mut core = file.core.write();
            core.promise();
            core.extent()
        });
        let core = file.core.read();
        let open_cut = file.open_cut.load(Ordering::Acquire);
        if !file.overlay.is_due(upto) && seal.is_none() && !open_cut {
            return Ok(None);
        }
        self.restore(file)?;
        drop(core);
        // Others write to the file meanwhile. What they overwrite is no longer due, and what they cut
        // off isn't pending any more.
        self.send_blocks(file, upto)?;
        self.send_head(file, &file.core.read(), upto)?;
        Ok(Some(Sent {
            sequence: upto,
            seal,
        }))
    }

    /// After the sync: what was sent is at home.
    fn settle(self: &Arc<Self>, file: &Arc<OpenFile<B>>, sent: &Sent) {
        let mut core = file.core.write();
        file.settle(sent.sequence);
        if file.open_cut.load(Ordering::Acquire)
            && file.overlay.is_empty()
            && let Some(id) = core.file_id()
            && let Err(error) = self.close_matter(file, &id)
        {
            tracing::warn!(%error, "closing a step of the journal");
        }
        if let Some(extent) = &sent.seal
            && core.is_durable(extent)
            && file.overlay.is_empty()
            && let Err(error) = self.seal_state(file, &mut core, extent.size)
        {
            tracing::warn!(%error, "sealing the size of a closed file");
        }
        drop(core);
        if !file.overlay.is_empty() || (file.lingers() && self.files.is_unused(file)) {
            self.queue(file);
        } else {
            self.files.drop_unused(file);
        }
    }

    /// Copies blocks of a file from the journal, where records up to number `upto` hold them durably,
    /// to their home.
    fn send_blocks(&self, file: &OpenFile<B>, upto: u64) -> io::Result<()> {
        let mut from = BlockIndex(0);
        loop {
            let _home = file.home.lock();
            let blocks = file.overlay.blocks_due(from, upto, BLOCKS_AT_ONCE);
            let Some((last, _)) = blocks.last() else {
                return Ok(());
            };
            self.with_times_kept(file, || {
                self.copy_blocks(file, &blocks)?;
                self.copy_entries(file, &blocks)
            })?;
            from = last.next();
        }
    }

    /// Writes home what else records up to number `upto` hold of a file. Its core is held.
    fn send_head(&self, file: &OpenFile<B>, core: &Core, upto: u64) -> io::Result<()> {
        let (inline, state) = file.overlay.head_due(upto);
        let Some(head) = &core.head else {
            return Ok(()); // cut to nothing since
        };
        let bytes = if let Some(inline) = inline {
            let mut bytes = vec![0; inline.len];
            self.journal.read(&self.backing, inline.at, &mut bytes)?;
            bytes
        } else if state {
            let state = State {
                size: head.home_size,
                ..head.state
            };
            state.seal(head.unwrapped.keys.content()).to_vec()
        } else {
            return Ok(());
        };
        let _home = file.home.lock();
        self.with_times_kept(file, || {
            self.backing
                .write_at(file.file(), &mut [IoSlice::new(&bytes)], STATE_AT as u64)
        })
    }

    /// Writes to a cipher file: what users wrote was written when they wrote it.
    fn with_times_kept(
        &self,
        file: &OpenFile<B>,
        write: impl FnOnce() -> io::Result<()>,
    ) -> io::Result<()> {
        let write = || {
            let before = self.backing.stat_file(file.file())?;
            write()?;
            Ok(before)
        };
        let restore = |before: Option<&Stat>| {
            let mtime = before.map_or(SetTime::Now, |before| SetTime::At(before.mtime));
            self.backing
                .set_times(At::File(file.file()), SetTime::Omit, mtime)?;
            if let Some(before) = before
                && file.keeps_ctime.load(Ordering::Acquire)
            {
                let after = self.backing.stat_file(file.file())?;
                self.ctimes
                    .keep_over(&*self.backing, &self.root.dir, before, &after);
            }
            Ok(())
        };
        file.stamps.kept(write, restore)
    }

    /// Brings home what is pending of a file, and makes it durable there. The file's core is held by
    /// the caller, alone: who reads must not find half of it settled.
    ///
    /// # Errors
    /// What the cipher directory says; it stays in the journal then.
    pub(in crate::volume) fn bring_home(
        &self,
        file: &OpenFile<B>,
        core: &mut Core,
    ) -> io::Result<()> {
        if !file.overlay.is_empty() {
            let sequence = self.copy_home(file, core)?;
            file.settle(sequence);
        }
        Ok(())
    }

    /// The same, of which only the end keeps readers waiting.
    ///
    /// # Errors
    /// As [`Engine::bring_home`].
    pub(in crate::volume) fn bring_home_shared(&self, file: &OpenFile<B>) -> io::Result<()> {
        let mut core = file.core.write();
        self.at_rest(file, &core)?;
        if file.overlay.is_empty() {
            return Ok(());
        }
        let shared = RwLockWriteGuard::downgrade(core);
        let sequence = self.copy_home(file, &shared)?;
        drop(shared);
        core = file.core.write();
        file.settle(sequence);
        drop(core);
        Ok(())
    }

    /// Copies home what is pending, and makes it durable there; up to which record.
    fn copy_home(&self, file: &OpenFile<B>, core: &Core) -> io::Result<u64> {
        let sequence = file.sequence.load(Ordering::Acquire);
        self.journal.sync(&self.backing, sequence)?;
        self.send_blocks(file, sequence)?;
        self.send_head(file, core, sequence)?;
        self.backing.sync_file(file.file(), true)?;
        Ok(sequence)
    }

    fn copy_blocks(&self, file: &OpenFile<B>, blocks: &[(BlockIndex, Pending)]) -> io::Result<()> {
        let mut run = Run::default();
        for (block, pending) in blocks {
            let at = block.data_at().0;
            if run.end() != at || run.buffer.len() >= COPY_MOST || pending.entry.is_none() {
                self.send_run(file, &mut run)?;
                run.at = at;
            }
            if pending.entry.is_none() {
                // The space goes back; the hole is one without that.
                let _ = self
                    .backing
                    .allocate(file.file(), Allocate::Punch, at, PAGE as u64);
                continue;
            }
            // What stands one behind the other in the journal is read in one go.
            if run.source + (run.buffer.len() - run.read) as u64 != pending.at {
                self.read_run(&mut run)?;
                run.source = pending.at;
            }
            run.buffer.resize(run.buffer.len() + pending.len, 0);
        }
        self.send_run(file, &mut run)
    }

    /// Reads what is left to be read of a run.
    fn read_run(&self, run: &mut Run) -> io::Result<()> {
        let out = &mut run.buffer[run.read..];
        if !out.is_empty() {
            self.journal.read(&self.backing, run.source, out)?;
        }
        run.read = run.buffer.len();
        Ok(())
    }

    /// Writes a run home, and begins with an empty one.
    fn send_run(&self, file: &OpenFile<B>, run: &mut Run) -> io::Result<()> {
        self.read_run(run)?;
        if !run.buffer.is_empty() {
            let bytes = IoSlice::new(&run.buffer);
            self.backing.write_at(file.file(), &mut [bytes], run.at)?;
        }
        run.buffer.clear();
        run.read = 0;
        Ok(())
    }

    fn copy_entries(&self, file: &OpenFile<B>, blocks: &[(BlockIndex, Pending)]) -> io::Result<()> {
        let mut span: Vec<u8> = Vec::new();
        let mut from: Option<(GroupIndex, usize)> = None;
        let flush = |span: &mut Vec<u8>, from: Option<(GroupIndex, usize)>| {
            let Some((group, place)) = from else {
                return Ok(());
            };
            let bytes = IoSlice::new(span);
            let written = self
                .backing
                .write_at(file.file(), &mut [bytes], group.entry_at(place).0);
            span.clear();
            written
        };
        for (block, pending) in blocks {
            let (group, place) = block.place();
            let follows = from
                .is_some_and(|(at, first)| at == group && first + span.len() / ENTRY_LEN == place);
            if !follows {
                flush(&mut span, from)?;
                from = Some((group, place));
            }
            match &pending.entry {
                Some(entry) => span.extend_from_slice(&entry.encode()),
                None => span.extend_from_slice(&[0; ENTRY_LEN]),
            }
        }
        flush(&mut span, from)
    }

    /// Does at once what can't wait: appends a record of these bytes and of the cipher file's new
    /// size, makes it durable, brings it home, and closes the matter. The file's core is held by
    /// the caller.
    ///
    /// # Errors
    /// What the cipher directory says. The file is then as it was.
    pub(in crate::volume) fn commit_now(
        self: &Arc<Self>,
        file: &Arc<OpenFile<B>>,
        core: &mut Core,
        id: &FileId,
        extents: &[(u64, &[u8])],
        cipher_size: u64,
    ) -> io::Result<()> {
        self.queue(file);
        // First what is pending, so that one "done" covers all.
        self.bring_home(file, core)?;
        let identity = (id, file.inode, file.path_hint());
        let mut record = RecordBuilder::new(
            Vec::new(),
            RecordKind::Change,
            identity,
            Resize::Exactly(cipher_size),
            extents.len(),
        );
        for (offset, bytes) in extents {
            record.extent(*offset, bytes);
        }
        let appended = self.journal.append(&self.backing, record)?;
        let applied = self
            .journal
            .sync(&self.backing, appended.sequence)
            .and_then(|()| self.apply(file, extents, cipher_size));
        file.sequence.store(appended.sequence, Ordering::Release);
        file.open_cut.store(true, Ordering::Release);
        match self.at_rest(file, core) {
            Ok(()) if applied.is_err() => {
                // It failed, so it must not be replayed.
                let _ = self.journal.sync(&self.backing, self.journal.last());
            }
            Ok(()) => {}
            Err(error) => tracing::warn!(%error, "a step of the journal stays open"),
        }
        applied
    }

    /// Closes the step of [`Self::commit_now`] that stayed open, if there is one: home is as it
    /// should be, and durable. Until then nothing else may be done to the file, since a replay does
    /// the step once more, over whatever came after it.
    ///
    /// # Errors
    /// What the cipher directory says; the step is open still.
    pub(in crate::volume) fn at_rest(&self, file: &OpenFile<B>, core: &Core) -> io::Result<()> {
        if !file.open_cut.load(Ordering::Acquire) {
            return Ok(());
        }
        self.restore(file)?;
        self.backing.sync_file(file.file(), true)?;
        match core.file_id() {
            Some(id) => self.close_matter(file, &id),
            None => Ok(()),
        }
    }

    /// Puts back what a failed step left changed at home.
    fn restore(&self, file: &OpenFile<B>) -> io::Result<()> {
        let mut old = file.old.lock();
        if let Some(pieces) = &*old {
            self.put_back(file, pieces)?;
        }
        *old = None;
        Ok(())
    }

    /// Everything that the journal says of a file is durable at home: a replay passes it over.
    fn close_matter(&self, file: &OpenFile<B>, id: &FileId) -> io::Result<()> {
        let identity = (id, file.inode, file.path_hint());
        let done = RecordBuilder::new(Vec::new(), RecordKind::Done, identity, Resize::Keep, 0);
        let closed = self.journal.append(&self.backing, done)?;
        file.sequence.store(closed.sequence, Ordering::Release);
        file.open_cut.store(false, Ordering::Release);
        Ok(())
    }

    /// Writes these bytes home, and the size; what was there is put back when that fails.
    fn apply(
        &self,
        file: &OpenFile<B>,
        extents: &[(u64, &[u8])],
        cipher_size: u64,
    ) -> io::Result<()> {
        let size = self.backing.stat_file(file.file())?.size;
        let mut old = Vec::with_capacity(extents.len());
        for (offset, bytes) in extents {
            let mut before = vec![0; bytes.len()];
            let bufs = &mut [IoSliceMut::new(&mut before)];
            let read = self.backing.read_at(file.file(), bufs, *offset)?;
            before.truncate(read);
            old.push((*offset, before));
        }
        let write = || {
            for (offset, bytes) in extents {
                self.backing
                    .write_at(file.file(), &mut [IoSlice::new(bytes)], *offset)?;
            }
            // The last, since nothing can bring back what it cuts off.
            self.backing.truncate(file.file(), cipher_size)
        };
        write().inspect_err(|_| {
            let old = Old { extents: old, size };
            if self.put_back(file, &old).is_err() {
                *file.old.lock() = Some(old);
            }
        })
    }

    /// Writes the state of a file of which the first `size` bytes are durable: what is missing of them
    /// from now on is damage.
    pub(in crate::volume) fn seal_state(
        &self,
        file: &OpenFile<B>,
        core: &mut Core,
        size: u64,
    ) -> io::Result<()> {
        if size > core.layout.size() {
            return Ok(()); // cut since
        }
        let inline = matches!(core.layout, Layout::Inline { .. });
        let cipher_size = core.layout.stored_size();
        let Some(head) = &mut core.head else {
            if self.backing.stat_file(file.file())?.size > 0 {
                self.backing.truncate(file.file(), 0)?;
            }
            file.unsealed.store(false, Ordering::Release);
            return Ok(());
        };
        if inline && size != head.state.size {
            return Ok(()); // its bytes go with their state
        }
        let state = State {
            size,
            epoch: 0,
            ..head.state
        };
        let bytes = state.seal(head.unwrapped.keys.content());
        let length = self.backing.stat_file(file.file())?.size;
        self.with_times_kept(file, || {
            if length != cipher_size {
                // Taking back a failed write failed too.
                self.backing.truncate(file.file(), cipher_size)?;
            }
            self.backing
                .write_at(file.file(), &mut [IoSlice::new(&bytes)], STATE_AT as u64)
        })?;
        head.home_size = size;
        head.state.epoch = 0;
        file.unsealed
            .store(size != core.layout.size(), Ordering::Release);
        Ok(())
    }

    /// Puts back what a step replaced that failed half-way.
    fn put_back(&self, file: &OpenFile<B>, old: &Old) -> io::Result<()> {
        for (offset, bytes) in &old.extents {
            self.backing
                .write_at(file.file(), &mut [IoSlice::new(bytes)], *offset)?;
        }
        self.backing.truncate(file.file(), old.size)
    }
}

/// What a step replaced, when that could not be put back yet: until then the step's record stays in
/// the journal, and a replay would do the step after all.
pub(in crate::volume) struct Old {
    extents: Vec<(u64, Vec<u8>)>,
    size: u64,
}

/// Ciphertext on its way home, for blocks that lie one behind the other there.
#[derive(Default)]
struct Run {
    /// Where the first of it goes.
    at: u64,
    buffer: Vec<u8>,
    /// So many bytes of the buffer have been read.
    read: usize,
    /// Where the others stand in the journal.
    source: u64,
}

impl Run {
    fn end(&self) -> u64 {
        self.at + self.buffer.len() as u64
    }
}

/// What was sent home of one file.
struct Sent {
    /// Everything up to this record.
    sequence: u64,
    /// What is to be sealed.
    seal: Option<Extent>,
}

#[cfg(test)]
mod tests;
