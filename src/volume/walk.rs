//! Walking over a whole volume below: for maintenance, which needs no kernel.

use std::sync::Arc;

use super::Volume;
use super::dirs::DirState;
use super::error::Result;
use super::types::NodeId;
use crate::backing::{Backing, EntryName, Kind, Stat};
use crate::names::Class;

/// One entry of the volume.
pub struct Visit<'a, B: Backing> {
    /// Its directory below.
    pub dir: &'a B::Dir,
    /// Its stored name.
    pub stored: &'a EntryName,
    /// Its path from the root of the volume, in plaintext; `?` and the stored name where a name
    /// doesn't decrypt.
    pub path: &'a [u8],
    /// Whether its name doesn't decrypt.
    pub hidden: bool,
    /// Its attributes below.
    pub stat: Stat,
}

/// What a walk met: an entry, or a directory that it can't go into.
pub enum Met<'a, B: Backing> {
    /// An entry.
    Entry(Visit<'a, B>),
    /// Something that can't be looked at, and why.
    Unreadable(&'a [u8], super::VolumeError),
}

struct Pending<B: Backing> {
    parent: Arc<DirState<B>>,
    stored: EntryName,
    path: Vec<u8>,
    node: NodeId,
}

impl<B: Backing> Volume<B> {
    /// Visits every entry of the volume but its own control files, each directory before what is in it.
    ///
    /// # Errors
    /// What `visit` returns; and when the root can't be read.
    pub fn walk(&self, visit: &mut dyn FnMut(Met<'_, B>) -> Result<()>) -> Result<()> {
        let mut pending = Vec::new();
        self.walk_dir(&self.root, b"", &mut pending, visit)?;
        while let Some(next) = pending.pop() {
            match self.open_dir(next.node, &next.parent, &next.stored) {
                Ok(dir) => {
                    let dir = Arc::new(dir);
                    if let Err(error) = self.walk_dir(&dir, &next.path, &mut pending, visit) {
                        visit(Met::Unreadable(&next.path, error))?;
                    }
                }
                Err(error) => visit(Met::Unreadable(&next.path, error))?,
            }
        }
        Ok(())
    }

    fn walk_dir(
        &self,
        dir: &Arc<DirState<B>>,
        path: &[u8],
        pending: &mut Vec<Pending<B>>,
        visit: &mut dyn FnMut(Met<'_, B>) -> Result<()>,
    ) -> Result<()> {
        // Names first: what is visited may be changed by the visit.
        let mut stored_names = Vec::new();
        let mut listing = self.backing.list(&dir.dir)?;
        self.backing.next_entries(&mut listing, 0, &mut |raw| {
            if !matches!(raw.name, b"." | b"..")
                && !matches!(self.names.classify(raw.name), Class::Reserved)
            {
                stored_names.extend(EntryName::new(raw.name));
            }
            true
        })?;
        drop(listing);
        for stored in stored_names {
            let decoded = self.decode_entry(dir, stored.as_bytes());
            let hidden = decoded.is_none();
            let mut full = path.to_vec();
            full.push(b'/');
            match decoded {
                Some(name) => full.extend_from_slice(&name),
                None => {
                    full.push(b'?');
                    full.extend_from_slice(stored.as_bytes());
                }
            }
            let stat = match self.stat_entry(dir, &stored) {
                Ok(stat) => stat,
                Err(super::VolumeError::NotFound) => continue,
                Err(error) => {
                    visit(Met::Unreadable(&full, error))?;
                    continue;
                }
            };
            let entry = Visit {
                dir: &dir.dir,
                stored: &stored,
                path: &full,
                hidden,
                stat,
            };
            visit(Met::Entry(entry))?;
            if stat.kind() == Some(Kind::Dir) {
                let node = self.node_id(stat.ino);
                pending.push(Pending {
                    parent: Arc::clone(dir),
                    stored,
                    path: full,
                    node,
                });
            }
        }
        Ok(())
    }
}
