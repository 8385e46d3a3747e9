//! Hard links and symlinks.

use std::io::{IoSlice, IoSliceMut};

use super::Volume;
use super::dirs::DirState;
use super::error::{Result, VolumeError};
use super::lookup::Place;
use super::record_io::{CONTROL_DIR, TARGETS};
use super::types::{Attr, Caller, NodeId};
use crate::backing::{At, Backing, EntryName, Kind, OpenFile, Stat};
use crate::format::FileId;
use crate::names::Names;

/// The target of a symlink below whose real target is too long for one: `@`, the name of a file in
/// `.envelopefs/targets` (32 digits), and the plaintext length (8 digits). Its length modulo 4 is 1,
/// which no sealed target's is.
const POINTER_LEN: usize = 1 + 32 + 8;

/// A long target's file, and its plaintext length.
pub(super) struct LongTarget {
    file: EntryName,
    len: u64,
}

impl LongTarget {
    fn parse(text: &[u8]) -> Option<Self> {
        let (head, rest) = text.split_at_checked(1 + 32)?;
        if text.len() != POINTER_LEN || head[0] != b'@' {
            return None;
        }
        let id: FileId = std::str::from_utf8(&head[1..]).ok()?.parse().ok()?;
        let len = std::str::from_utf8(rest).ok()?.parse().ok()?;
        Some(Self {
            file: EntryName::new(id.to_string().as_bytes()).ok()?,
            len,
        })
    }
}

impl<B: Backing> Volume<B> {
    /// Gives a node one more name. The kernel gets a reference.
    pub fn link(&self, node: NodeId, parent: NodeId, name: &[u8]) -> Result<Attr> {
        let Place::Entry(from_dir, from) = self.place(node)? else {
            return Err(VolumeError::IsDirectory);
        };
        self.make_entry(parent, name, |dir, entry| {
            self.backing.link(&from_dir.dir, &from, &dir.dir, entry)?;
            self.moves.note(dir, entry);
            self.meta_changed(node);
            Ok(())
        })
    }

    /// Makes a symlink. The kernel gets a reference.
    pub fn symlink(
        &self,
        caller: &Caller,
        parent: NodeId,
        name: &[u8],
        target: &[u8],
    ) -> Result<Attr> {
        if target.is_empty() || target.len() > 4095 {
            return Err(if target.is_empty() {
                VolumeError::NotFound
            } else {
                VolumeError::NameTooLong
            });
        }
        let sealed = self.names.seal_target(target);
        self.make_entry(parent, name, |dir, entry| {
            match self.backing.symlink(&dir.dir, entry, &sealed) {
                Err(error) if error.raw_os_error() == Some(libc::ENAMETOOLONG) => {
                    self.long_symlink(dir, entry, target.len(), &sealed)?;
                }
                other => other?,
            }
            let inherit = self.inherit(dir)?;
            let given = self.give_to(caller, inherit, At::Entry(&dir.dir, entry), None);
            if given.is_err() {
                let _ = self.backing.unlink(&dir.dir, entry);
            }
            given
        })
    }

    fn targets(&self) -> Result<B::Dir> {
        let control = self.backing.open_dir(&self.root.dir, &CONTROL_DIR)?;
        Ok(self.backing.open_dir(&control, &TARGETS)?)
    }

    fn long_symlink(
        &self,
        dir: &DirState<B>,
        entry: &EntryName,
        len: usize,
        sealed: &[u8],
    ) -> Result<()> {
        let targets = self.targets()?;
        let id = FileId::random().to_string();
        let name = EntryName::new(id.as_bytes())?;
        let file = self.backing.create_file(&targets, &name, 0o600)?;
        let made = self
            .backing
            .write_at(&file, &mut [IoSlice::new(sealed)], 0)
            .and_then(|()| self.backing.sync_file(&file, false))
            .and_then(|()| self.backing.sync_dir(&targets))
            .and_then(|()| {
                self.backing
                    .symlink(&dir.dir, entry, format!("@{id}{len:08}").as_bytes())
            });
        if made.is_err() {
            let _ = self.backing.unlink(&targets, &name);
        }
        Ok(made?)
    }

    /// The file of a long target, when `entry` is the last name of a symlink with one.
    pub(super) fn long_target_of(
        &self,
        dir: &DirState<B>,
        entry: &EntryName,
        stat: &Stat,
    ) -> Option<LongTarget> {
        if stat.kind() != Some(Kind::Symlink) || stat.size != POINTER_LEN as u64 || stat.nlink > 1 {
            return None;
        }
        LongTarget::parse(&self.backing.readlink(&dir.dir, entry).ok()?)
    }

    /// Removes the file of a long target, whose symlink is gone from `dir` now: not before that is
    /// durable. One that stays is harmless.
    pub(super) fn drop_long_target(&self, dir: &DirState<B>, target: Option<LongTarget>) {
        if let Some(target) = target
            && self.backing.sync_dir(&dir.dir).is_ok()
            && let Ok(targets) = self.targets()
        {
            let _ = self.backing.unlink(&targets, &target.file);
        }
    }

    /// The plaintext length of a symlink's target, from its size below.
    pub(super) fn target_size(&self, stat: &Stat, at: At<'_, B>) -> u64 {
        if let Some(len) = Names::target_len(stat.size) {
            return len;
        }
        let At::Entry(dir, entry) = at else { return 0 };
        let long = self
            .backing
            .readlink(dir, entry)
            .ok()
            .and_then(|text| LongTarget::parse(&text));
        long.map_or(0, |long| long.len)
    }

    /// The target of a symlink.
    pub fn readlink(&self, node: NodeId) -> Result<Vec<u8>> {
        let Place::Entry(dir, entry) = self.place(node)? else {
            return Err(VolumeError::Invalid("not a symlink"));
        };
        let stored = match self.backing.readlink(&dir.dir, &entry) {
            // Something else stands there now, put there below: the kernel is to look again.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
                return Err(VolumeError::Stale);
            }
            other => other?,
        };
        self.open_target(&entry, &stored)
    }

    pub(super) fn open_target(&self, entry: &EntryName, stored: &[u8]) -> Result<Vec<u8>> {
        let damaged =
            |why: &dyn ToString| VolumeError::damaged(format!("symlink {entry}"), why.to_string());
        let Some(long) = LongTarget::parse(stored) else {
            return self
                .names
                .open_target(stored)
                .map_err(|error| damaged(&error));
        };
        let read = || {
            let targets = self.targets()?;
            let file = self
                .backing
                .open_file(&targets, &long.file, OpenFile::READ)?;
            let mut sealed = vec![0; 8192];
            let len = self
                .backing
                .read_at(&file, &mut [IoSliceMut::new(&mut sealed)], 0)?;
            sealed.truncate(len);
            Ok::<_, VolumeError>(sealed)
        };
        let sealed = read().map_err(|error| damaged(&error))?;
        self.names
            .open_target(&sealed)
            .map_err(|error| damaged(&error))
    }
}
