//! Wrapping a file's data key anew: its header only.

use std::io::{IoSlice, IoSliceMut};

use super::Volume;
use super::error::{Result, VolumeError};
use super::keys::{is_current, key_of};
use crate::backing::{At, Backing, EntryName, OpenFile as How, SetTime, Stat};
use crate::format::{HEADER_LEN, KeyRole, SLOT_A_AT, SLOT_B_AT, Slot, StaticPart, WrappedKey};
use crate::kms::KeyId;

/// What became of a file's wrapped key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rewrapped {
    /// The file is empty and has no key.
    NoKey,
    /// It is under the current material of that CMK already.
    Already,
    /// It was wrapped anew; in a dry run: it would be.
    Done,
}

impl<B: Backing> Volume<B> {
    /// The wrapped keys of a cipher file's newest slot, as they stand there, unauthenticated.
    /// None for an empty file.
    pub fn wrapped_keys(&self, dir: &B::Dir, name: &EntryName) -> Result<Option<Vec<WrappedKey>>> {
        let file = self.backing.open_file(dir, name, How::READ)?;
        let mut header = [0; HEADER_LEN];
        let read = self
            .backing
            .read_at(&file, &mut [IoSliceMut::new(&mut header)], 0)?;
        if read == 0 {
            return Ok(None);
        }
        StaticPart::parse(&header[..read])
            .map_err(|error| VolumeError::damaged(name.to_string(), error))?;
        [SLOT_A_AT, SLOT_B_AT]
            .into_iter()
            .filter_map(|at| Slot::parse(header.get(at..)?).ok().flatten())
            .max_by_key(|slot| slot.generation)
            .map(|slot| Some(slot.keys))
            .ok_or_else(|| VolumeError::damaged(name.to_string(), "no envelope slot"))
    }

    /// Wraps a file's data key anew under the current material of `to`, unless it is already.
    ///
    /// Writes the slot that is not in use, so that a torn write leaves the other. The content, the
    /// size and the times stay. Not durable by itself: whoever rewraps many files syncs once.
    pub fn rewrap_file(
        &self,
        dir: &B::Dir,
        name: &EntryName,
        stat: &Stat,
        to: &KeyId,
        dry_run: bool,
    ) -> Result<Rewrapped> {
        let file = self.backing.open_file(dir, name, How::READ)?;
        let mut header = [0; HEADER_LEN];
        let read = self
            .backing
            .read_at(&file, &mut [IoSliceMut::new(&mut header)], 0)?;
        if read == 0 {
            return Ok(Rewrapped::NoKey);
        }
        let static_part = StaticPart::parse(&header[..read])
            .map_err(|error| VolumeError::damaged(name.to_string(), error))?;
        // The authentic slot says what is current: a torn one may look newer.
        let found = self.find_slot(&header, &static_part, &|| name.to_string())?;
        if self.all_current(&found.slot.keys, to)? {
            return Ok(Rewrapped::Already);
        }
        if dry_run {
            return Ok(Rewrapped::Done);
        }
        self.check_writable()?;
        let file = self.acquire_at(dir, name, stat, true)?;
        let result = self.rewrap_open(&file, name, to);
        self.files.give_back(file.node);
        result
    }

    fn all_current(&self, keys: &[WrappedKey], to: &KeyId) -> Result<bool> {
        for key in keys {
            if key.role == KeyRole::Current && !is_current(self.keys.kms(), &key.blob, to)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn rewrap_open(
        &self,
        file: &super::open_file::OpenFile<B>,
        name: &EntryName,
        to: &KeyId,
    ) -> Result<Rewrapped> {
        let mut core = file.core.write();
        let Some(head) = &mut core.head else {
            return Ok(Rewrapped::NoKey);
        };
        let times = self.backing.stat_file(file.file())?;
        let mut header = [0; HEADER_LEN];
        self.backing
            .read_at(file.file(), &mut [IoSliceMut::new(&mut header)], 0)?;
        let found = self.find_slot(&header, &head.static_part, &|| name.to_string())?;
        let mut slot = found.slot;
        for key in &mut slot.keys {
            if !is_current(self.keys.kms(), &key.blob, to)? {
                key.blob = self.keys.rewrap(&head.static_part.file_id, &key.blob, to)?;
            }
        }
        slot.generation = slot
            .generation
            .checked_add(1)
            .ok_or_else(|| VolumeError::damaged(name.to_string(), "its slot generation"))?;
        let bytes = slot
            .seal(
                head.unwrapped.keys.header(),
                &self.record.volume_id,
                &head.static_part.encode(),
            )
            .map_err(|error| VolumeError::damaged(name.to_string(), error))?;
        let other = if found.at == SLOT_A_AT {
            SLOT_B_AT
        } else {
            SLOT_A_AT
        };
        self.backing
            .write_at(file.file(), &mut [IoSlice::new(&bytes)], other as u64)?;
        self.backing.set_times(
            At::File(file.file()),
            SetTime::Omit,
            SetTime::At(times.mtime),
        )?;
        let wrapped: Vec<&WrappedKey> = slot.current().collect();
        head.unwrapped = self.keys.unwrap(&head.static_part.file_id, &wrapped)?;
        Ok(Rewrapped::Done)
    }

    /// The CMK that a wrapped key names.
    pub fn key_of(blob: &[u8]) -> Result<KeyId> {
        key_of(blob)
    }
}
