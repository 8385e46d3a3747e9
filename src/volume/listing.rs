//! Listing directories. Stateless: a node and an offset, which is the filesystem's own below, so it
//! stays right while entries come and go.

use super::Volume;
use super::dirs::DirState;
use super::error::{Result, VolumeError};
use super::types::{Attr, DirEntry, NodeId};
use crate::backing::{At, Backing, EntryName, Kind, Stat};
use crate::names::Class;

/// An entry as it is below, its name decrypted.
pub(super) struct Found {
    pub(super) name: Vec<u8>,
    pub(super) stored: EntryName,
    pub(super) lower_ino: u64,
    pub(super) kind: Option<Kind>,
    pub(super) next: u64,
}

impl<B: Backing> Volume<B> {
    /// Gives the entries of a directory from `offset` on (0: the start, else a [`DirEntry::next`])
    /// to `sink`, `.` and `..` among them, until there are no more or it answers false.
    pub fn readdir(
        &self,
        node: NodeId,
        offset: u64,
        sink: &mut dyn FnMut(DirEntry<'_>) -> bool,
    ) -> Result<()> {
        let dir = self.dir(node)?;
        self.list_entries(&dir, offset, &mut |found| {
            let Ok(kind) = self.kind_of(&dir, &found) else {
                return true;
            };
            sink(DirEntry {
                name: &found.name,
                ino: self.entry_ino(&dir, &found),
                kind,
                next: found.next,
            })
        })
    }

    /// The same, with each entry's attributes; the kernel gets a reference to each that `sink`
    /// takes, but for `.` and `..`.
    pub fn readdir_plus(
        &self,
        node: NodeId,
        offset: u64,
        sink: &mut dyn FnMut(DirEntry<'_>, &Attr) -> bool,
    ) -> Result<()> {
        let dir = self.dir(node)?;
        self.list_entries(&dir, offset, &mut |found| {
            let dots = matches!(found.name.as_slice(), b"." | b"..");
            let stat = if dots {
                self.backing.stat_dir(&dir.dir)
            } else {
                self.backing.stat(&dir.dir, &found.stored)
            };
            // Removed since it was listed, or another filesystem.
            let Ok(stat) = stat else { return true };
            let at = if dots {
                At::Dir(&dir.dir)
            } else {
                At::Entry(&dir.dir, &found.stored)
            };
            let Ok(attr) = self.attr(&stat, at) else {
                return true;
            };
            if stat.dev != self.device {
                return true;
            }
            let ino = if dots {
                self.entry_ino(&dir, &found)
            } else {
                attr.ino
            };
            let entry = DirEntry {
                name: &found.name,
                ino,
                kind: attr.kind,
                next: found.next,
            };
            let taken = sink(entry, &Attr { ino, ..attr });
            if taken && !dots {
                let _ = self.remember(&stat, &dir, &found.stored);
            }
            taken
        })
    }

    fn kind_of(&self, dir: &DirState<B>, found: &Found) -> Result<Kind> {
        match found.kind {
            Some(kind) => Ok(kind),
            None => {
                let stat: Stat = self.backing.stat(&dir.dir, &found.stored)?;
                stat.kind()
                    .ok_or(VolumeError::NotSupported("an unknown type of inode"))
            }
        }
    }

    fn entry_ino(&self, dir: &DirState<B>, found: &Found) -> NodeId {
        if found.name == b".." && dir.node == NodeId::ROOT {
            return NodeId::ROOT; // not what the cipher directory lies in
        }
        self.node_id(found.lower_ino)
    }

    /// Walks a directory below; names are decrypted, our own and those that don't decrypt are left out.
    pub(super) fn list_entries(
        &self,
        dir: &DirState<B>,
        offset: u64,
        sink: &mut dyn FnMut(Found) -> bool,
    ) -> Result<()> {
        let mut kept = dir.listing.lock().take();
        let mut listing = match kept.take() {
            Some(listing) => listing,
            None => self.backing.list(&dir.dir)?,
        };
        let result = self.backing.next_entries(&mut listing, offset, &mut |raw| {
            let Some(name) = self.decode_entry(dir, raw.name) else {
                return true;
            };
            let dots = matches!(raw.name, b"." | b"..");
            let stored = if dots {
                Ok(super::lookup::DIR_ID)
            } else {
                EntryName::new(raw.name)
            };
            let Ok(stored) = stored else { return true };
            sink(Found {
                name,
                stored,
                lower_ino: raw.ino,
                kind: raw.kind,
                next: raw.next,
            })
        });
        *dir.listing.lock() = Some(listing);
        Ok(result?)
    }

    /// The plaintext name of a stored one; None for names of our own and for those that don't decrypt.
    pub(super) fn decode_entry(&self, dir: &DirState<B>, stored: &[u8]) -> Option<Vec<u8>> {
        if matches!(stored, b"." | b"..") {
            return Some(stored.to_vec());
        }
        let decoded = match self.names.classify(stored) {
            Class::Reserved => return None,
            Class::Entry => self
                .names
                .decode(&dir.id, stored)
                .map_err(VolumeError::from),
            Class::Long { sidecar } => EntryName::new(sidecar.as_bytes())
                .and_then(|sidecar| self.backing.readlink(&dir.dir, &sidecar))
                .map_err(VolumeError::from)
                .and_then(|full| Ok(self.names.decode_long(&dir.id, &full, stored)?)),
        };
        decoded
            .inspect_err(|error| {
                if self.counters.first_hidden(dir.node, stored) {
                    let stored = stored.escape_ascii();
                    tracing::warn!(%stored, %error, "a name that does not decrypt is left alone and hidden");
                }
            })
            .ok()
    }
}
