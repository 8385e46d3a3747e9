//! Making and removing names.

use std::sync::Arc;

use super::Volume;
use super::dirs::DirState;
use super::error::{Result, VolumeError};
use super::lookup::{DIR_ID, DIR_ID_COPY, StoredName};
use super::open_file::{Core, OpenFile, Pages};
use super::privileges::Privileges;
use super::types::{Attr, Caller, HandleId, NodeId, OpenMode};
use crate::backing::{At, Backing, EntryName, Kind, Rename, Stat};
use crate::crypto::random_array;
use crate::names::{Class, DirId, NameMode};

/// A name for something that is not in its place yet, or any more.
pub(super) fn temporary_name() -> Result<EntryName> {
    let id = DirId(random_array());
    let mut name = b".envelopefs.tmp.".to_vec();
    name.extend_from_slice(id.to_text().as_ref());
    Ok(EntryName::new(&name)?)
}

impl<B: Backing> Volume<B> {
    /// Stores the full form of a long name beside where its entry will be.
    pub(super) fn put_sidecar(&self, dir: &DirState<B>, name: &StoredName) -> Result<()> {
        let Some((sidecar, full)) = &name.sidecar else {
            return Ok(());
        };
        match self.backing.symlink(&dir.dir, sidecar, full) {
            // Left by an earlier entry of this name; its text is the same.
            Err(error) if error.raw_os_error() == Some(libc::EEXIST) => {}
            other => other?,
        }
        self.is_young(dir.node);
        Ok(())
    }

    /// Removes the full form of a long name whose entry is gone. One that stays is harmless.
    pub(super) fn drop_sidecar(&self, dir: &DirState<B>, name: &StoredName) {
        if let Some((sidecar, _)) = &name.sidecar {
            let _ = self.backing.unlink(&dir.dir, sidecar);
        }
    }

    /// Makes a new entry by `make`, with its sidecar; looks at it and gives the kernel a reference.
    pub(super) fn make_entry(
        &self,
        parent: NodeId,
        name: &[u8],
        make: impl FnOnce(&Arc<DirState<B>>, &EntryName) -> Result<()>,
    ) -> Result<Attr> {
        self.check_writable()?;
        let _names = self.namespace.read();
        let dir = self.dir(parent)?;
        let stored = self.stored_name(&dir, name)?;
        self.put_sidecar(&dir, &stored)?;
        let made = make(&dir, &stored.entry);
        if let Err(error) = made {
            // The sidecar of a name that exists stays.
            if !matches!(error, VolumeError::Exists) {
                self.drop_sidecar(&dir, &stored);
            }
            return Err(error);
        }
        let stat = self.stat_entry(&dir, &stored.entry)?;
        self.remember(&stat, &dir, &stored.entry)
    }

    /// Makes an empty file and opens it.
    ///
    /// # Errors
    /// [`VolumeError::Exists`].
    pub fn create(
        &self,
        caller: &Caller,
        parent: NodeId,
        name: &[u8],
        mode: u32,
        umask: u32,
        open: OpenMode,
    ) -> Result<(Attr, HandleId)> {
        self.check_writable()?;
        let _names = self.namespace.read();
        let dir = self.dir(parent)?;
        let stored = self.stored_name(&dir, name)?;
        self.put_sidecar(&dir, &stored)?;
        let inherit = self.inherit(&dir)?;
        let mode = Self::new_mode(inherit, mode & 0o7777, umask);
        let file = match self.backing.create_file(&dir.dir, &stored.entry, mode) {
            Ok(file) => file,
            Err(error) => {
                let error = VolumeError::from(error);
                if !matches!(error, VolumeError::Exists) {
                    self.drop_sidecar(&dir, &stored);
                }
                return Err(error);
            }
        };
        let finish = || {
            self.give_to(caller, inherit, At::File(&file), Some(mode))?;
            Ok(self.backing.stat_file(&file)?)
        };
        let stat: Stat = match finish() {
            Ok(stat) => stat,
            Err(error) => {
                let _ = self.backing.unlink(&dir.dir, &stored.entry);
                self.drop_sidecar(&dir, &stored);
                return Err(error);
            }
        };
        let attr = self.remember(&stat, &dir, &stored.entry)?;
        let privileges = Privileges::new(stat.mode & 0o6000 == 0);
        let core = Core::empty();
        let file = OpenFile::new(
            attr.ino,
            file,
            true,
            core,
            Pages::default(),
            privileges,
            stat.ino,
        );
        let (file, _) = self.files.acquire(attr.ino, true, || Ok(file))?;
        Ok((attr, self.files.add_handle(file, open, caller)))
    }

    /// Makes a FIFO, a socket, a device or an empty file.
    pub fn mknod(
        &self,
        caller: &Caller,
        parent: NodeId,
        name: &[u8],
        mode: u32,
        umask: u32,
        rdev: u64,
    ) -> Result<Attr> {
        self.make_entry(parent, name, |dir, entry| {
            let inherit = self.inherit(dir)?;
            let mode = Self::new_mode(inherit, mode, umask);
            match Kind::from_mode(mode) {
                Some(Kind::File) | None => {
                    drop(self.backing.create_file(&dir.dir, entry, mode & 0o7777)?);
                }
                Some(_) => self.backing.mknod(&dir.dir, entry, mode, rdev)?,
            }
            let given = self.give_to(
                caller,
                inherit,
                At::Entry(&dir.dir, entry),
                Some(mode & 0o7777),
            );
            if given.is_err() {
                let _ = self.backing.unlink(&dir.dir, entry);
            }
            given
        })
    }

    /// Makes a directory. It appears with its id: it is made under another name and moved.
    pub fn mkdir(
        &self,
        caller: &Caller,
        parent: NodeId,
        name: &[u8],
        mode: u32,
        umask: u32,
    ) -> Result<Attr> {
        self.make_entry(parent, name, |dir, entry| {
            let inherit = self.inherit(dir)?;
            let mode = Self::new_mode(inherit, mode & 0o7777, umask);
            if self.names.mode() == NameMode::Plain {
                self.backing.mkdir(&dir.dir, entry, mode)?;
                let given = self.give_to(caller, inherit, At::Entry(&dir.dir, entry), None);
                if given.is_err() {
                    let _ = self.backing.rmdir(&dir.dir, entry);
                }
                return given;
            }
            // Looked at first: a directory in the way would be found only after all the work.
            if self.backing.stat(&dir.dir, entry).is_ok() {
                return Err(VolumeError::Exists);
            }
            let temporary = temporary_name()?;
            self.backing.mkdir(&dir.dir, &temporary, mode | 0o300)?;
            let finish = || {
                let made = self.backing.open_dir(&dir.dir, &temporary)?;
                self.backing
                    .symlink(&made, &DIR_ID, DirId::random().to_text().as_ref())?;
                // Another name costs no inode. Not every filesystem links symlinks.
                let _ = self.backing.link(&made, &DIR_ID, &made, &DIR_ID_COPY);
                self.give_to(caller, inherit, At::Dir(&made), None)?;
                if mode & 0o300 != 0o300 {
                    let now = self.backing.stat_dir(&made)?.mode;
                    self.backing
                        .set_mode(At::Dir(&made), now & 0o7777 & !(0o300 & !mode))?;
                }
                self.backing
                    .rename(&dir.dir, &temporary, &dir.dir, entry, Rename::NoReplace)?;
                Ok(())
            };
            finish().inspect_err(|_| self.discard_dir(dir, &temporary))
        })
        .inspect(|attr| self.is_young(attr.ino))
    }

    /// Removes a directory that holds nothing but what is this program's own.
    pub(super) fn discard_dir(&self, parent: &DirState<B>, name: &EntryName) {
        let Ok(dir) = self.backing.open_dir(&parent.dir, name) else {
            return;
        };
        if let Ok(own) = self.own_entries(&dir) {
            for entry in own {
                let _ = self.backing.unlink(&dir, &entry);
            }
        }
        if let Err(error) = self.backing.rmdir(&parent.dir, name) {
            tracing::warn!(%name, %error, "a removed directory is left under a temporary name");
        }
    }

    /// The entries of a directory that are this program's own: its id, sidecars, temporary names.
    ///
    /// # Errors
    /// [`VolumeError::NotEmpty`] when there is any other.
    pub(super) fn own_entries(&self, dir: &B::Dir) -> Result<Vec<EntryName>> {
        let mut own = Vec::new();
        let mut other = false;
        let mut listing = self.backing.list(dir)?;
        self.backing.next_entries(&mut listing, 0, &mut |entry| {
            if matches!(entry.name, b"." | b"..") {
                return true;
            }
            match (self.names.classify(entry.name), EntryName::new(entry.name)) {
                (Class::Reserved, Ok(name)) if entry.kind != Some(Kind::Dir) => own.push(name),
                _ => other = true,
            }
            !other
        })?;
        if other {
            Err(VolumeError::NotEmpty)
        } else {
            Ok(own)
        }
    }

    /// Removes a name that is no directory's.
    pub fn unlink(&self, parent: NodeId, name: &[u8]) -> Result<()> {
        self.check_writable()?;
        let _names = self.namespace.read();
        let dir = self.dir(parent)?;
        let stored = self.stored_name(&dir, name)?;
        let stat = self.stat_entry(&dir, &stored.entry)?;
        if stat.kind() == Some(Kind::Dir) {
            return Err(VolumeError::IsDirectory);
        }
        let target = self.long_target_of(&dir, &stored.entry, &stat);
        self.backing.unlink(&dir.dir, &stored.entry)?;
        self.drop_sidecar(&dir, &stored);
        self.drop_long_target(&dir, target);
        self.nodes
            .unlink(self.node_id(stat.ino), parent, &stored.entry);
        Ok(())
    }

    /// Removes an empty directory.
    ///
    /// # Errors
    /// [`VolumeError::NotEmpty`]; also when it holds names that don't decrypt.
    pub fn rmdir(&self, parent: NodeId, name: &[u8]) -> Result<()> {
        self.check_writable()?;
        let _names = self.namespace.write();
        let dir = self.dir(parent)?;
        let stored = self.stored_name(&dir, name)?;
        let mut stat = self.stat_entry(&dir, &stored.entry)?;
        if stat.kind() != Some(Kind::Dir) {
            return Err(VolumeError::NotDirectory);
        }
        self.own_entries(&self.backing.open_dir(&dir.dir, &stored.entry)?)?;
        if self.names.mode() == NameMode::Plain {
            self.backing.rmdir(&dir.dir, &stored.entry)?;
        } else {
            // Out of the namespace in one step; what is inside goes after that.
            let temporary = temporary_name()?;
            self.backing.rename(
                &dir.dir,
                &stored.entry,
                &dir.dir,
                &temporary,
                Rename::NoReplace,
            )?;
            self.discard_dir(&dir, &temporary);
        }
        self.drop_sidecar(&dir, &stored);
        stat.nlink = 0;
        self.gone_dir(&stat);
        Ok(())
    }

    /// A directory is no more.
    pub(super) fn gone_dir(&self, stat: &Stat) {
        let node = self.node_id(stat.ino);
        self.dirs.remove(node);
        // Its inode may be a file's next.
        self.young.lock().remove(&node);
        self.nodes.remove_dir(node, *stat);
    }
}
