//! Renaming.

use super::Volume;
use super::dirs::DirState;
use super::error::{Result, VolumeError};
use super::lookup::StoredName;
use super::namespace::temporary_name;
use super::types::NodeId;
use crate::backing::{Backing, Kind, Rename, Stat};
use crate::names::NameMode;

/// One side of a rename.
struct Side<'a, B: Backing> {
    parent: NodeId,
    dir: &'a DirState<B>,
    stored: &'a StoredName,
}

impl<B: Backing> Volume<B> {
    /// Renames, atomically. A name that is in the way is replaced, an empty directory too, as `how`
    /// says.
    pub fn rename(
        &self,
        from_parent: NodeId,
        from: &[u8],
        to_parent: NodeId,
        to: &[u8],
        how: Rename,
    ) -> Result<()> {
        self.check_writable()?;
        let _names = self.namespace.write();
        let (from_dir, to_dir) = (self.dir(from_parent)?, self.dir(to_parent)?);
        let from_name = self.stored_name(&from_dir, from)?;
        let to_name = self.stored_name(&to_dir, to)?;
        let from = Side {
            parent: from_parent,
            dir: &from_dir,
            stored: &from_name,
        };
        let to = Side {
            parent: to_parent,
            dir: &to_dir,
            stored: &to_name,
        };

        let moved = self.stat_entry(from.dir, &from.stored.entry)?;
        let replaced = match self.stat_entry(to.dir, &to.stored.entry) {
            Ok(stat) => Some(stat),
            Err(VolumeError::NotFound) => None,
            Err(error) => return Err(error),
        };
        match (how, &replaced) {
            (Rename::Exchange, None) => return Err(VolumeError::NotFound),
            (Rename::NoReplace, Some(_)) => return Err(VolumeError::Exists),
            // Two names of one inode: rename(2) does nothing.
            (Rename::Plain, Some(stat)) if stat.ino == moved.ino => return Ok(()),
            (Rename::Plain, Some(stat)) => self.check_replace(&to, &moved, stat)?,
            _ => {}
        }
        if replaced.is_none() {
            self.put_sidecar(to.dir, to.stored)?;
        }
        self.way_first(&from, &to)?;
        if how == Rename::Exchange {
            self.way_first(&to, &from)?;
        }
        let result = self.rename_below(&from, &to, how, replaced.as_ref());
        if let Err(error) = result {
            if replaced.is_none() {
                self.drop_sidecar(to.dir, to.stored);
            }
            return Err(error);
        }
        if how != Rename::Exchange && from.stored.sidecar.is_some() {
            // Nor under the old one without its full form. One that stays is harmless.
            let gone = self.backing.sync_dir(&to_dir.dir).and_then(|()| {
                if from.parent == to.parent {
                    return Ok(());
                }
                self.backing.sync_dir(&from_dir.dir)
            });
            if gone.is_ok() {
                self.drop_sidecar(from.dir, from.stored);
            }
        }

        let names = (
            (from.parent, &from.stored.entry),
            (to.parent, &to.stored.entry),
        );
        if let Some(stat) = &replaced {
            let node = self.node_id(stat.ino);
            match (how, stat.kind()) {
                (Rename::Exchange, _) => {
                    self.nodes.rename(node, names.1, names.0);
                    self.meta_changed(node);
                }
                (_, Some(Kind::Dir)) => self.gone_dir(&Stat { nlink: 0, ..*stat }),
                _ => self.nodes.unlink(node, to.parent, &to.stored.entry),
            }
        }
        let node = self.node_id(moved.ino);
        self.nodes.rename(node, names.0, names.1);
        self.meta_changed(node);
        if moved.kind() == Some(Kind::Dir) {
            self.is_young(node);
        }
        self.moves.note(&to_dir, &to_name.entry);
        if how == Rename::Exchange {
            self.moves.note(&from_dir, &from_name.entry);
        }
        Ok(())
    }

    /// Makes durable what the new name needs to be read: its directory's id, and its full form when
    /// it is long. What is durable under its old name must not come to light without these.
    fn way_first(&self, from: &Side<'_, B>, to: &Side<'_, B>) -> Result<()> {
        let needs = to.stored.sidecar.is_some() || from.parent != to.parent;
        if needs && self.young.lock().contains(&to.parent) {
            self.sync_dir_and_above(to.parent, to.dir)?;
        }
        Ok(())
    }

    fn check_replace(&self, to: &Side<'_, B>, moved: &Stat, replaced: &Stat) -> Result<()> {
        match (
            moved.kind() == Some(Kind::Dir),
            replaced.kind() == Some(Kind::Dir),
        ) {
            (true, false) => Err(VolumeError::NotDirectory),
            (false, true) => Err(VolumeError::IsDirectory),
            (true, true) => {
                let dir = self.backing.open_dir(&to.dir.dir, &to.stored.entry)?;
                self.own_entries(&dir).map(drop)
            }
            (false, false) => Ok(()),
        }
    }

    fn rename_below(
        &self,
        from: &Side<'_, B>,
        to: &Side<'_, B>,
        how: Rename,
        replaced: Option<&Stat>,
    ) -> Result<()> {
        let rename = |how| {
            self.backing.rename(
                &from.dir.dir,
                &from.stored.entry,
                &to.dir.dir,
                &to.stored.entry,
                how,
            )
        };
        let replaced_dir = replaced.is_some_and(|stat| stat.kind() == Some(Kind::Dir));
        if how == Rename::Plain && replaced_dir && self.names.mode() == NameMode::Encrypted {
            // The empty directory holds its id, so the filesystem below would not replace it: the
            // two change places, and then the old one goes.
            rename(Rename::Exchange)?;
            let temporary = temporary_name()?;
            self.backing.rename(
                &from.dir.dir,
                &from.stored.entry,
                &from.dir.dir,
                &temporary,
                Rename::NoReplace,
            )?;
            self.discard_dir(from.dir, &temporary);
            return Ok(());
        }
        let target = replaced
            .filter(|_| how == Rename::Plain)
            .and_then(|stat| self.long_target_of(to.dir, &to.stored.entry, stat));
        rename(how)?;
        self.drop_long_target(to.dir, target);
        Ok(())
    }
}
