//! Wrapping a file's data key anew: its header only.

use std::io::{self, IoSlice, IoSliceMut};

use super::Volume;
use super::error::{Result, VolumeError};
use super::header_io::slots;
use super::keys::{Cmks, LooksAhead, are_current, key_of};
use super::open_file::{Head, OpenFile};
use crate::backing::{At, Backing, EntryName, OpenFile as How, SetTime, Stat};
use crate::format::{
    HEADER_LEN, KeyRole, SLOT_A_AT, SLOT_B_AT, SLOT_LEN, Slot, StaticPart, WrappedKey,
};
use crate::kms::KeyId;
use crate::secret::Key256;

/// What became of a file's wrapped key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Rewrapped {
    /// The file is empty and has no key.
    NoKey,
    /// It is under the current material of that CMK already.
    Already(Vec<WrappedKey>),
    /// It was wrapped anew; these are the wrapped keys that it had before, and those that it has now.
    Done(Vec<WrappedKey>, Vec<WrappedKey>),
}

/// Where the other slot stands.
pub(super) fn other_slot(at: usize) -> usize {
    if at == SLOT_A_AT {
        SLOT_B_AT
    } else {
        SLOT_A_AT
    }
}

/// The wrapped keys of a cipher file's newest slot, unauthenticated; None for an empty file. `name` is
/// for the error.
pub(super) fn wrapped_keys_of<B: Backing>(
    backing: &B,
    file: &B::File,
    name: &EntryName,
) -> Result<Option<Vec<WrappedKey>>> {
    let mut header = [0; HEADER_LEN];
    let read = backing.read_at(file, &mut [IoSliceMut::new(&mut header)], 0)?;
    if read == 0 {
        return Ok(None);
    }
    StaticPart::parse(&header[..read])
        .map_err(|error| VolumeError::damaged(name.to_string(), error))?;
    match slots(&header[..read]).into_iter().next() {
        Some((_, slot)) => Ok(Some(slot.keys)),
        None => Err(VolumeError::damaged(name.to_string(), "no envelope slot")),
    }
}

/// The blobs of one of a file's data keys.
fn blobs_of(keys: &[WrappedKey], role: KeyRole) -> Vec<&[u8]> {
    keys.iter()
        .filter(|key| key.role == role)
        .map(|key| key.blob.as_slice())
        .collect()
}

impl<B: Backing> Volume<B> {
    /// The wrapped keys of a cipher file's newest slot, as they stand there, unauthenticated: what
    /// a census counts. None for an empty file.
    ///
    /// # Errors
    /// [`VolumeError::Damaged`] when there is no header.
    pub fn wrapped_keys(&self, dir: &B::Dir, name: &EntryName) -> Result<Option<Vec<WrappedKey>>> {
        let file = self.backing.open_file(dir, name, How::READ)?;
        wrapped_keys_of(&*self.backing, &file, name)
    }

    /// Whether wrapped keys are what they should be: each data key under the current material of each
    /// CMK of `to`, and of no other. No rewrap is needed then.
    ///
    /// # Errors
    /// [`VolumeError::Key`] when there is no such key.
    pub fn all_current(&self, keys: &[WrappedKey], to: &Cmks) -> Result<bool> {
        let right = |role| -> Result<bool> {
            let blobs = blobs_of(keys, role);
            let unused = blobs.is_empty() && role == KeyRole::Previous;
            Ok(unused || are_current(self.keys.source(), &blobs, to)?)
        };
        Ok(right(KeyRole::Current)? && right(KeyRole::Previous)?)
    }

    /// Wraps a file's data key anew under the current material of all of `to`, unless it is already.
    ///
    /// Writes the slot that is not in use, so that a torn write leaves the other. The content, the
    /// size and mtime stay. Not durable by itself: whoever rewraps many files syncs once.
    ///
    /// # Errors
    /// [`VolumeError::Key`] when the key manager can't unwrap the data key or refuses `to`;
    /// [`VolumeError::Damaged`]; what the cipher directory says. The file is then as it was.
    pub fn rewrap_file(
        &self,
        dir: &B::Dir,
        name: &EntryName,
        stat: &Stat,
        to: &Cmks,
    ) -> Result<Rewrapped> {
        self.check_writable()?;
        let _looks_ahead = LooksAhead::to(to);
        // By way of the table of open files: whoever opens it meanwhile shares its lock.
        let file = self.acquire_at(dir, name, stat, true)?;
        let result = self.rewrap_open(&file, to);
        self.done_with(&file);
        result
    }

    fn rewrap_open(&self, file: &OpenFile<B>, to: &Cmks) -> Result<Rewrapped> {
        let mut core = file.core.write();
        let Some(head) = &mut core.head else {
            return Ok(Rewrapped::NoKey);
        };
        let (at, mut slot) = self.authentic_slot(file, head)?;
        if self.all_current(&slot.keys, to)? {
            return Ok(Rewrapped::Already(slot.keys));
        }
        let before = std::mem::take(&mut slot.keys);
        for role in [KeyRole::Current, KeyRole::Previous] {
            let Some(one) = before.iter().find(|key| key.role == role) else {
                continue;
            };
            let blobs = blobs_of(&before, role);
            let blobs = self.keys.rewrap(&head.static_part.file_id, &blobs, to)?;
            slot.keys.extend(blobs.into_iter().map(|blob| WrappedKey {
                blob,
                ..one.clone()
            }));
        }
        slot.generation = self.next_slot(file, slot.generation)?;
        let bytes = self.seal_slot(file, &slot, head.unwrapped.keys.header(), head)?;
        self.write_slot(file, other_slot(at), &bytes)?;
        head.unwrapped.rewrapped(&self.keys, &slot)?;
        Ok(Rewrapped::Done(before, slot.keys))
    }

    /// Overwrites a file's older envelope slot with what stands in the newer one, when a CMK is named
    /// there that is none of `to`. True when it was.
    ///
    /// The newer slot must be durable.
    ///
    /// # Errors
    /// As [`Volume::rewrap_file`]; [`VolumeError::Damaged`] when the newer slot needs a rewrap itself.
    pub fn clear_old_slot(
        &self,
        dir: &B::Dir,
        name: &EntryName,
        stat: &Stat,
        to: &Cmks,
    ) -> Result<bool> {
        self.check_writable()?;
        let cipher = self.backing.open_file(dir, name, How::READ)?;
        if self.foreign_slots(&cipher, to)?.is_empty() {
            return Ok(false);
        }
        drop(cipher);
        let file = self.acquire_at(dir, name, stat, true)?;
        let result = self.clear_old_slot_of(&file, to);
        self.done_with(&file);
        result
    }

    fn clear_old_slot_of(&self, file: &OpenFile<B>, to: &Cmks) -> Result<bool> {
        let core = file.core.write();
        let Some(head) = &core.head else {
            return Ok(false);
        };
        let (at, mut slot) = self.authentic_slot(file, head)?;
        let foreign = self.foreign_slots(file.file(), to)?;
        if foreign.contains(&at) {
            let what = self.cipher_path(file.node);
            return Err(VolumeError::damaged(
                what,
                "its newer slot was not rewrapped",
            ));
        }
        if foreign.is_empty() {
            return Ok(false);
        }
        slot.generation = self.next_slot(file, slot.generation)?;
        let bytes = self.seal_slot(file, &slot, head.unwrapped.keys.header(), head)?;
        self.write_slot(file, other_slot(at), &bytes)?;
        Ok(true)
    }

    /// Where the slots stand that name another CMK than `to`, or that can't be read.
    fn foreign_slots(&self, file: &B::File, to: &Cmks) -> Result<Vec<usize>> {
        let mut header = [0; HEADER_LEN];
        let bufs = &mut [IoSliceMut::new(&mut header)];
        let read = self.backing.read_at(file, bufs, 0)?;
        let is_ours =
            |key: &WrappedKey| key_of(&key.blob).is_ok_and(|key| to.all().any(|cmk| cmk == key));
        let is_foreign = |at: &usize| match Slot::parse(header[..read].get(*at..).unwrap_or(&[])) {
            Ok(Some(slot)) => !slot.keys.iter().all(is_ours),
            Ok(None) => false,
            Err(_) => read == HEADER_LEN,
        };
        Ok([SLOT_A_AT, SLOT_B_AT]
            .into_iter()
            .filter(is_foreign)
            .collect())
    }

    /// The slot that counts, and where it stands: of those that the holder of the data key wrote, the
    /// newest. A torn one may look newer.
    pub(super) fn authentic_slot(&self, file: &OpenFile<B>, head: &Head) -> Result<(usize, Slot)> {
        let mut header = [0; HEADER_LEN];
        self.backing
            .read_at(file.file(), &mut [IoSliceMut::new(&mut header)], 0)?;
        slots(&header)
            .into_iter()
            .find(|(at, _)| self.is_authentic(&header, *at, &head.static_part, &head.unwrapped))
            .ok_or_else(|| {
                VolumeError::damaged(self.cipher_path(file.node), "no slot is authentic")
            })
    }

    /// The generation of the slot that is written behind one.
    pub(super) fn next_slot(&self, file: &OpenFile<B>, generation: u64) -> Result<u64> {
        generation
            .checked_add(1)
            .ok_or_else(|| VolumeError::damaged(self.cipher_path(file.node), "its slot generation"))
    }

    /// The bytes of a slot, authenticated under the header key of the data key that is current in it.
    pub(super) fn seal_slot(
        &self,
        file: &OpenFile<B>,
        slot: &Slot,
        header_key: &Key256,
        head: &Head,
    ) -> Result<[u8; SLOT_LEN]> {
        slot.seal(
            header_key,
            &self.record.volume_id,
            &head.static_part.encode(),
        )
        .map_err(|error| VolumeError::damaged(self.cipher_path(file.node), error))
    }

    /// Writes an envelope slot. The times that users see stay what they were.
    pub(super) fn write_slot(
        &self,
        file: &OpenFile<B>,
        at: usize,
        bytes: &[u8; SLOT_LEN],
    ) -> Result<()> {
        let write = || {
            let before = self.backing.stat_file(file.file())?;
            self.backing
                .write_at(file.file(), &mut [IoSlice::new(bytes)], at as u64)?;
            io::Result::Ok(before)
        };
        let restore = |before: Option<&Stat>| {
            let mtime = before.map_or(SetTime::Now, |before| SetTime::At(before.mtime));
            self.backing
                .set_times(At::File(file.file()), SetTime::Omit, mtime)?;
            if let Some(before) = before {
                let after = self.backing.stat_file(file.file())?;
                self.ctimes
                    .keep_over(&self.backing, &self.root.dir, before, &after);
            }
            Ok(())
        };
        Ok(file.stamps.kept(write, restore)?)
    }

    /// Brings the kept change times in order, when many files were rewrapped. Failing costs no more
    /// than that they are looked for in two places.
    pub fn settle_ctimes(&self) {
        if let Err(error) = self.ctimes.settle(&self.backing, &self.root.dir) {
            tracing::warn!(%error, "kept change times are not in order");
        }
    }

    /// The CMK that a wrapped key names.
    pub fn key_of(blob: &[u8]) -> Result<KeyId> {
        key_of(blob)
    }
}
