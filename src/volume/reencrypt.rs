//! A new data key for a file, and every block of it sealed anew: in place, while it is in use.
//!
//! 1. The other envelope slot gets the new data key as the current one and the old as the previous
//!    one. When that is durable, everything is sealed under the new one, and each entry says which
//!    one opens its block. Whatever was there before is promised by then, so that it is overwritten
//!    through the journal only.
//! 2. Group by group, what the old key sealed is read and overwritten with the same bytes. The file is
//!    locked for one such step at a time. No step can leave a block to the old key that was not its
//!    own, so one pass is enough, in whatever places users write, cut and punch meanwhile.
//! 3. When all of it is at home and durable, and a look at the entries there finds none of the old
//!    key, both slots are written with the new key alone, one after the other.
//!
//! A file that is left in between, by a kill, a power cut, a failing call or because it was asked for,
//! can be used as any other, and the next one goes on where the entries say that this one was.

use std::io::IoSliceMut;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::Volume;
use super::error::{Result, VolumeError};
use super::journal::Engine;
use super::open_file::{Core, Head, OpenFile};
use super::overwrite::Times;
use super::rewrap::other_slot;
use super::types::NodeId;
use crate::backing::{Backing, EntryName, Stat};
use crate::content::{
    BlockIndex, EntryPage, GROUP_BLOCKS, GroupIndex, KeyRing, Layout, PlainOffset,
};
use crate::format::{
    ENTRIES_AT, ENTRY_LEN, Entry, FileId, HEADER_LEN, KeyRole, PAGE, STATE_AT, Slot, State,
    WRAPPED_KEYS_MAX, WrappedKey,
};

/// How often whoever waits for another renewal of the same file asks whether to go on.
const ASK_EVERY: Duration = Duration::from_millis(100);

/// Is told how many bytes were sealed since it was asked last, may take its time, and says whether to
/// go on. Asked before each step, with no lock held.
pub type GoesOn<'a> = dyn Fn(u64) -> bool + Sync + 'a;

/// What became of a file that was to get a new data key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reencrypted {
    /// The file is empty and has no key.
    NoKey,
    /// It was not asked for, by the file's identity.
    Skipped,
    /// Every block is under the new data key, and the old one is gone.
    Done(Renewed),
    /// It was stopped before that.
    Stopped(Renewed),
}

/// What was done to a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Renewed {
    /// Blocks that were sealed anew.
    pub blocks: u64,
    /// Their plaintext bytes.
    pub bytes: u64,
    /// Whether the new data key was there already, since an earlier one was stopped.
    pub resumed: bool,
}

/// One renewal under way.
struct Renewal {
    /// The file's identity: another one when it was cut to nothing meanwhile.
    id: FileId,
    /// The number of the data key that is to go.
    old: u8,
    /// The next block to look at.
    at: BlockIndex,
    /// Up to here blocks are taken one by one, since some of them are damaged.
    narrow: BlockIndex,
    done: Renewed,
    /// The first damage that was met.
    damage: Option<VolumeError>,
    buffer: Vec<u8>,
}

impl Renewal {
    /// The header that this is about, if the file still has it.
    fn head<'a>(&self, core: &'a Core) -> Option<&'a Head> {
        let head = core.head.as_ref()?;
        let previous = head.unwrapped.keys.previous()?;
        (head.static_part.file_id == self.id && previous.generation() == self.old).then_some(head)
    }
}

impl<B: Backing> Volume<B> {
    /// Gives a file, by its place below, a new data key, and seals all of it anew, unless `skip` says
    /// otherwise. It may be in use. Also its identity, which stays.
    ///
    /// # Errors
    /// [`VolumeError::Key`] when the key manager refuses; [`VolumeError::Damaged`] when a block can't
    /// be opened: the others are sealed anew then, and the old data key stays with the new one;
    /// [`VolumeError::NotSupported`] in a volume without a journal; what the cipher directory says.
    /// The file can be used in any case, and the next call goes on.
    pub fn reencrypt_file(
        &self,
        dir: &B::Dir,
        name: &EntryName,
        stat: &Stat,
        skip: &(dyn Fn(&FileId) -> bool + Sync),
        goes_on: &GoesOn<'_>,
    ) -> Result<(Reencrypted, Option<FileId>)> {
        self.check_writable()?;
        let file = self.acquire_at(dir, name, stat, true)?;
        let id = file.core.read().file_id();
        let result = if id.is_some_and(|id| skip(&id)) {
            Ok(Reencrypted::Skipped)
        } else {
            self.renew(&file, goes_on)
        };
        self.done_with(&file);
        Ok((result?, id))
    }

    /// Renews the data keys of open files that near the bound of what one key may seal, and goes on
    /// with those that were left in between. Whoever serves the volume calls it from time to time, on
    /// a thread that may take hours. The number of files that got a new key.
    pub fn renew_worn(&self, goes_on: &(dyn Fn() -> bool + Sync)) -> u64 {
        let mut renewed = 0;
        if self.read_only || self.engine.is_none() {
            return renewed;
        }
        for node in self.files.nodes() {
            if !goes_on() {
                break;
            }
            if !self
                .files
                .of_node(node)
                .is_some_and(|file| self.is_due(&file))
            {
                continue;
            }
            match self.renew_node(node, goes_on) {
                Ok(done) => renewed += u64::from(done),
                // Closed or removed since.
                Err(VolumeError::Stale | VolumeError::NotFound) => {}
                Err(error) => {
                    let file = self.cipher_path(node);
                    tracing::warn!(%file, %error, "its data key could not be renewed; it is tried again");
                }
            }
        }
        renewed
    }

    fn is_due(&self, file: &OpenFile<B>) -> bool {
        // Who writes now is looked at the next time.
        let Some(core) = file.core.try_read() else {
            return false;
        };
        core.head.as_ref().is_some_and(|head| {
            head.state.seals >= self.renew_at || head.unwrapped.keys.previous().is_some()
        })
    }

    fn renew_node(&self, node: NodeId, goes_on: &(dyn Fn() -> bool + Sync)) -> Result<bool> {
        let file = self.acquire(node, true)?;
        // Another one may be at it; when that is through there is nothing to do.
        let result = match file.renewal.try_lock() {
            Some(_alone) if self.is_due(&file) => self.renew_alone(&file, &|_| goes_on()),
            _ => Ok(Reencrypted::NoKey),
        };
        self.done_with(&file);
        let done = matches!(result?, Reencrypted::Done(_));
        if done {
            tracing::info!(file = %self.cipher_path(node), "it has a new data key");
        }
        Ok(done)
    }

    pub(super) fn renew(
        &self,
        file: &Arc<OpenFile<B>>,
        goes_on: &GoesOn<'_>,
    ) -> Result<Reencrypted> {
        loop {
            if let Some(_alone) = file.renewal.try_lock_for(ASK_EVERY) {
                return self.renew_alone(file, goes_on);
            }
            if !goes_on(0) {
                return Ok(Reencrypted::Stopped(Renewed::default()));
            }
        }
    }

    fn renew_alone(&self, file: &Arc<OpenFile<B>>, goes_on: &GoesOn<'_>) -> Result<Reencrypted> {
        let Some(engine) = &self.engine else {
            let why = "re-encrypt in a volume that was opened without its journal";
            return Err(VolumeError::NotSupported(why));
        };
        file.keeps_ctime.store(true, Ordering::Release);
        let result = self.renew_all(file, engine, goes_on);
        {
            // What goes home later moves the times that users see.
            let mut core = file.core.write();
            if let Err(error) = engine.bring_home(file, &mut core) {
                tracing::debug!(%error, "bringing home what was sealed anew; it is tried again");
            }
            file.keeps_ctime.store(false, Ordering::Release);
        }
        result
    }

    fn renew_all(
        &self,
        file: &Arc<OpenFile<B>>,
        engine: &Arc<Engine<B>>,
        goes_on: &GoesOn<'_>,
    ) -> Result<Reencrypted> {
        if !goes_on(0) {
            return Ok(Reencrypted::Stopped(Renewed::default()));
        }
        let Some(mut renewal) = self.begin_renewal(file)? else {
            return Ok(Reencrypted::NoKey);
        };
        let mut told = 0;
        loop {
            let more = self.renew_step(file, engine, &mut renewal)?;
            let bytes = renewal.done.bytes - told;
            told = renewal.done.bytes;
            let stops = bytes > 0 && !goes_on(bytes);
            if !more {
                break;
            }
            if stops {
                return Ok(Reencrypted::Stopped(renewal.done));
            }
        }
        if let Some(damage) = renewal.damage {
            return Err(damage);
        }
        self.end_renewal(file, engine, &renewal)?;
        Ok(Reencrypted::Done(renewal.done))
    }

    /// Step 1: the new data key, unless there is one already. None for an empty file.
    fn begin_renewal(&self, file: &Arc<OpenFile<B>>) -> Result<Option<Renewal>> {
        // Most of it while others go on.
        self.sync_open(file, false)?;
        let _room = self.room_for_step()?;
        let mut core = file.core.write();
        self.at_rest(file, &core)?;
        let Some(head) = &core.head else {
            return Ok(None);
        };
        head.unwrapped.check(&self.keys)?;
        let renewal = |old, resumed| Renewal {
            id: head.static_part.file_id,
            old,
            at: BlockIndex(0),
            narrow: BlockIndex(0),
            done: Renewed {
                resumed,
                ..Renewed::default()
            },
            damage: None,
            buffer: Vec::new(),
        };
        if let Some(previous) = head.unwrapped.keys.previous() {
            return Ok(Some(renewal(previous.generation(), true)));
        }
        let old = head.unwrapped.keys.current().generation();
        let renewal = renewal(old, false);
        let (at, slot) = self.authentic_slot(file, head)?;
        let (mut unwrapped, keys) = self.new_keys(&slot, &renewal)?;
        let slot = Slot {
            generation: self.next_slot(file, slot.generation)?,
            keys,
        };
        let bytes = self.seal_slot(file, &slot, unwrapped.keys.header(), head)?;
        core.promise();
        file.home_dirty.store(false, Ordering::Release);
        // The slot that is not written is needed, should this one be torn; and what the new key seals
        // can't be read before this one is durable.
        self.backing
            .sync_file(file.file(), true)
            .map_err(VolumeError::from)
            .and_then(|()| self.write_slot(file, other_slot(at), &bytes))
            .and_then(|()| Ok(self.backing.sync_file(file.file(), true)?))
            .inspect_err(|_| file.home_dirty.store(true, Ordering::Release))?;
        if let Some(head) = &mut core.head {
            unwrapped.set_previous(&head.unwrapped);
            head.unwrapped = unwrapped;
            head.state.seals = 0;
        }
        self.restate(file, &mut core)?;
        Ok(Some(renewal))
    }

    /// A new data key, wrapped under the volume's CMKs, and the wrapped keys of a slot that has it as
    /// the current one.
    fn new_keys(
        &self,
        slot: &Slot,
        renewal: &Renewal,
    ) -> Result<(super::keys::Unwrapped, Vec<WrappedKey>)> {
        let number = renewal.old.wrapping_add(1);
        let (unwrapped, mut keys) = self.keys.generate(&self.cmks(), &renewal.id, number)?;
        // A slot takes two data keys under two CMKs each.
        let room = WRAPPED_KEYS_MAX.saturating_sub(keys.len());
        keys.extend(slot.current().take(room).map(|key| WrappedKey {
            role: KeyRole::Previous,
            ..key.clone()
        }));
        Ok((unwrapped, keys))
    }

    /// Has the state sealed under the current data key; with an inline file its bytes too.
    fn restate(&self, file: &Arc<OpenFile<B>>, core: &mut Core) -> Result<()> {
        let Some(head) = &core.head else {
            return Ok(());
        };
        if let Layout::Inline { .. } = core.layout {
            let plain = head.inline.clone();
            self.journal_inline(file, core, plain, Times::Kept)
        } else {
            let flags = head.state.flags;
            self.journal_state(file, core, flags)
        }
    }

    /// Step 2, once: the next run of blocks in one group. False when there is no more to do.
    fn renew_step(
        &self,
        file: &Arc<OpenFile<B>>,
        engine: &Arc<Engine<B>>,
        renewal: &mut Renewal,
    ) -> Result<bool> {
        let most = (engine.journal.piece() / PAGE).min(GROUP_BLOCKS as usize);
        let _room = engine.room(most * PAGE)?;
        let mut core = file.core.write();
        let Some(head) = renewal.head(&core) else {
            return Ok(false); // cut to nothing
        };
        head.unwrapped.check(&self.keys)?;
        self.at_rest(file, &core)?;
        let Layout::Blocks { size } = core.layout else {
            return self.renew_inline(file, engine, &mut core, renewal);
        };
        let end = BlockIndex::count_of(size);
        if renewal.at >= end {
            return Ok(false);
        }
        let (group, place) = renewal.at.place();
        let next = GroupIndex(group.0 + 1).first_block();
        let page = self.entry_page(file, group)?;
        let places = (end.min(next).0 - group.first_block().0) as usize;
        let is_old = |place: &usize| is_of(&page, *place, renewal.old);
        let Some(first) = (place..places).find(is_old) else {
            let holes = (0..group.blocks()).all(|place| matches!(page.get(place), Ok(None)));
            renewal.at = match holes.then(|| self.next_data(file, next)).transpose()? {
                Some(Some(data)) => next.max(data),
                Some(None) => end,
                None => next,
            };
            return Ok(true);
        };
        let from = BlockIndex(group.first_block().0 + first as u64);
        let most = if from < renewal.narrow { 1 } else { most };
        let count = (first..places).take(most).take_while(is_old).count();
        let last = BlockIndex(from.0 + count as u64 - 1);
        let len = (count - 1) * PAGE + last.len_in(size);
        renewal.buffer.resize(most * PAGE, 0);
        match self.read_run(file, head, from, &mut renewal.buffer[..len]) {
            Ok(()) => {}
            Err(VolumeError::Damaged { .. }) if count > 1 => {
                // Which of them?
                renewal.at = from;
                renewal.narrow = last.next();
                return Ok(true);
            }
            Err(damage @ VolumeError::Damaged { .. }) => {
                renewal.damage.get_or_insert(damage);
                renewal.at = last.next();
                return Ok(true);
            }
            Err(error) => return Err(error),
        }
        let offset = PlainOffset::new(from.plain_start()).map_err(VolumeError::range)?;
        let plain = &renewal.buffer[..len];
        self.overwrite(file, &mut core, offset, plain, size, Times::Kept)?;
        renewal.at = last.next();
        renewal.done.blocks += count as u64;
        renewal.done.bytes += len as u64;
        Ok(true)
    }

    /// The one step of an inline file.
    fn renew_inline(
        &self,
        file: &Arc<OpenFile<B>>,
        engine: &Arc<Engine<B>>,
        core: &mut Core,
        renewal: &mut Renewal,
    ) -> Result<bool> {
        engine.bring_home(file, core)?;
        let mut entry = [0; ENTRY_LEN];
        let bufs = &mut [IoSliceMut::new(&mut entry)];
        self.backing.read_at(file.file(), bufs, ENTRIES_AT as u64)?;
        let entry = Entry::parse(&entry).ok().flatten();
        let is_old = entry.is_some_and(|entry| entry.key_generation == renewal.old);
        if is_old {
            self.restate(file, core)?;
        }
        // At first that was done with the new data key.
        if is_old || !renewal.done.resumed {
            renewal.done.blocks += 1;
            renewal.done.bytes += core.layout.size();
        }
        Ok(false)
    }

    /// Step 3: when nothing at home is under the old data key, that goes.
    fn end_renewal(
        &self,
        file: &Arc<OpenFile<B>>,
        engine: &Arc<Engine<B>>,
        renewal: &Renewal,
    ) -> Result<()> {
        engine.bring_home_shared(file)?;
        // From here on nothing under the old key comes home any more.
        if let Some(block) = self.left_of(file, renewal)? {
            let what = format!("{}, block {}", self.cipher_path(file.node), block.0);
            return Err(VolumeError::damaged(
                what,
                "it is still under the old data key",
            ));
        }
        let _room = self.room_for_step()?;
        let mut core = file.core.write();
        let Some(head) = renewal.head(&core) else {
            return Ok(()); // cut to nothing
        };
        head.unwrapped.check(&self.keys)?;
        let keys = head.unwrapped.keys.clone();
        self.at_rest(file, &core)?;
        engine.bring_home(file, &mut core)?;
        if !self.is_restated(file, &keys)? {
            self.restate(file, &mut core)?;
            engine.bring_home(file, &mut core)?;
        }
        drop(keys);
        let Some(head) = &mut core.head else {
            return Ok(());
        };
        let (mut at, mut slot) = self.authentic_slot(file, head)?;
        slot.keys.retain(|key| key.role == KeyRole::Current);
        for _ in 0..2 {
            // Each slot only when the other one is durable.
            self.backing.sync_file(file.file(), true)?;
            at = other_slot(at);
            slot.generation = self.next_slot(file, slot.generation)?;
            let bytes = self.seal_slot(file, &slot, head.unwrapped.keys.header(), head)?;
            self.write_slot(file, at, &bytes)?;
        }
        self.backing.sync_file(file.file(), true)?;
        head.unwrapped.drop_previous();
        self.keys.forget_others(&renewal.id, &head.unwrapped);
        Ok(())
    }

    /// Whether the state at home is under the current data key.
    fn is_restated(&self, file: &OpenFile<B>, keys: &KeyRing) -> Result<bool> {
        let mut header = [0; HEADER_LEN];
        let bufs = &mut [IoSliceMut::new(&mut header)];
        self.backing.read_at(file.file(), bufs, 0)?;
        Ok(State::open(&header[STATE_AT..], keys.content()).is_ok())
    }

    /// The first block at home that is under the old data key.
    fn left_of(&self, file: &OpenFile<B>, renewal: &Renewal) -> Result<Option<BlockIndex>> {
        let mut group = GroupIndex(0);
        loop {
            let core = file.core.read();
            let Layout::Blocks { size } = core.layout else {
                return Ok(None); // looked at in its one step
            };
            let end = BlockIndex::count_of(size);
            if renewal.head(&core).is_none() || group.first_block() >= end {
                return Ok(None);
            }
            let mut page = [0; PAGE];
            let bufs = &mut [IoSliceMut::new(&mut page)];
            let read = self.backing.read_at(file.file(), bufs, group.page_at().0)?;
            page[read..].fill(0);
            let page = EntryPage::from_bytes(group, &page);
            let blocks = group.first_block().0..end.0.min(GroupIndex(group.0 + 1).first_block().0);
            let old = blocks
                .enumerate()
                .find(|(place, _)| is_of(&page, *place, renewal.old));
            if let Some((_, block)) = old {
                return Ok(Some(BlockIndex(block)));
            }
            let holes = (0..group.blocks()).all(|place| matches!(page.get(place), Ok(None)));
            group = GroupIndex(group.0 + 1);
            if holes {
                let next = group.first_block();
                match self.next_data(file, next)? {
                    Some(data) => group = group.max(data.place().0),
                    None => return Ok(None),
                }
            }
        }
    }
}

/// Whether the entry at a place is of the data key with that number.
fn is_of(page: &EntryPage, place: usize, number: u8) -> bool {
    matches!(page.get(place), Ok(Some(entry)) if entry.key_generation == number)
}
