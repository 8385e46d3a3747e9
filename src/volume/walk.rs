//! Walking over a whole volume below: for maintenance, which needs no kernel.

use std::sync::Arc;

use parking_lot::Mutex;

use super::Volume;
use super::dirs::DirState;
use super::error::{Result, VolumeError};
use super::moves::Moved;
use super::types::NodeId;
use super::work::Queue;
use crate::backing::{Backing, EntryName, Kind, Stat};
use crate::names::Class;

/// Names of one directory that are one piece of work. A large directory is shared by all threads.
pub(super) const BATCH: usize = 256;

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
    /// Something that can't be looked at, and why: also what was removed since it was listed
    /// ([`VolumeError::NotFound`]).
    Unreadable(&'a [u8], VolumeError),
}

/// What is done with each thing that is met, on any of the threads.
type Visitor<'a, B> = dyn Fn(Met<'_, B>) -> Result<()> + Sync + 'a;

/// A directory that is not open yet.
struct Closed<B: Backing> {
    parent: Arc<DirState<B>>,
    stored: EntryName,
    path: Vec<u8>,
    node: NodeId,
}

/// A piece of the walk.
enum Work<B: Backing> {
    /// A directory to open and to list.
    Dir(Box<Closed<B>>),
    /// Some entries of an open directory.
    Batch {
        dir: Arc<DirState<B>>,
        path: Arc<[u8]>,
        names: Vec<EntryName>,
    },
}

impl<B: Backing> Volume<B> {
    /// Visits every entry of the volume but its own control files, each directory before what is
    /// in it, on the calling thread.
    ///
    /// # Errors
    /// What `visit` returns; and when the root can't be read.
    pub fn walk(&self, visit: &mut (dyn FnMut(Met<'_, B>) -> Result<()> + Send)) -> Result<()> {
        let visit = Mutex::new(visit);
        self.walk_parallel(1, &|met| visit.lock()(met))
    }

    /// As [`Volume::walk`], on several threads: `visit` is called on any of them. What it changes
    /// must not be names in the directory that it is called for.
    ///
    /// # Errors
    /// The first that `visit` returned, which ends the walk; and when the root can't be read.
    pub fn walk_parallel(&self, threads: usize, visit: &Visitor<'_, B>) -> Result<()> {
        self.work(threads, visit, |queue| {
            self.list_dir(&self.root, Arc::from(&b""[..]), queue, visit)
        })
    }

    /// Visits what is at some places, and everything below.
    pub(super) fn walk_places(
        &self,
        places: Vec<Moved<B>>,
        threads: usize,
        visit: &Visitor<'_, B>,
    ) -> Result<()> {
        self.work(threads, visit, |queue| {
            for Moved { dir, name, path } in places {
                self.visit_names(&dir, &path, vec![name], queue, visit)?;
            }
            Ok(())
        })
    }

    /// Does the work that `begin` adds to the queue, and all that comes of it.
    fn work(
        &self,
        threads: usize,
        visit: &Visitor<'_, B>,
        begin: impl FnOnce(&Queue<Work<B>>) -> Result<()>,
    ) -> Result<()> {
        Queue::run(threads, begin, &|work, queue| {
            self.do_work(work, queue, visit)
        })
    }

    /// How many regular files there are, by their names alone: for a progress bar. A directory
    /// that can't be read counts as empty.
    ///
    /// # Errors
    /// When the root can't be read.
    pub fn count_files(&self) -> Result<u64> {
        let mut files = 0;
        let mut waiting = Vec::new();
        self.count_in(&self.root, &mut files, &mut waiting)?;
        while let Some((parent, stored)) = waiting.pop() {
            // Its number and its id don't matter here.
            if let Ok(dir) = self.open_dir(NodeId::ROOT, &parent, &stored) {
                drop(parent);
                let _ = self.count_in(&Arc::new(dir), &mut files, &mut waiting);
            }
        }
        Ok(files)
    }

    fn count_in(
        &self,
        dir: &Arc<DirState<B>>,
        files: &mut u64,
        waiting: &mut Vec<(Arc<DirState<B>>, EntryName)>,
    ) -> Result<()> {
        let mut listing = self.backing.list(&dir.dir)?;
        self.backing.next_entries(&mut listing, 0, &mut |raw| {
            if matches!(self.names.classify(raw.name), Class::Reserved) {
                return true;
            }
            match raw.kind {
                Some(Kind::File) => *files += 1,
                Some(Kind::Dir) | None => {
                    waiting.extend(EntryName::new(raw.name).map(|name| (Arc::clone(dir), name)));
                }
                Some(_) => {}
            }
            true
        })?;
        Ok(())
    }

    fn do_work(&self, work: Work<B>, queue: &Queue<Work<B>>, visit: &Visitor<'_, B>) -> Result<()> {
        match work {
            Work::Dir(closed) => {
                let Closed {
                    parent,
                    stored,
                    path,
                    node,
                } = *closed;
                let opened = self.open_dir(node, &parent, &stored);
                drop(parent);
                match opened {
                    Ok(dir) => self.list_dir(&Arc::new(dir), path.into(), queue, visit),
                    Err(error) => visit(Met::Unreadable(&path, error)),
                }
            }
            Work::Batch { dir, path, names } => self.visit_names(&dir, &path, names, queue, visit),
        }
    }

    /// Hands out the entries of a directory in batches. Not being able to list it is told to
    /// `visit`; at the root it is an error.
    fn list_dir(
        &self,
        dir: &Arc<DirState<B>>,
        path: Arc<[u8]>,
        queue: &Queue<Work<B>>,
        visit: &Visitor<'_, B>,
    ) -> Result<()> {
        let unreadable = |error: VolumeError| {
            if path.is_empty() {
                Err(error)
            } else {
                visit(Met::Unreadable(&path, error))
            }
        };
        let mut listing = match self.backing.list(&dir.dir) {
            Ok(listing) => listing,
            Err(error) => return unreadable(error.into()),
        };
        let mut from = 0;
        loop {
            let mut names = Vec::new();
            let mut end = true;
            let listed = self.backing.next_entries(&mut listing, from, &mut |raw| {
                if names.len() == BATCH {
                    end = false;
                    return false;
                }
                from = raw.next;
                if !matches!(self.names.classify(raw.name), Class::Reserved) {
                    names.extend(EntryName::new(raw.name));
                }
                true
            });
            if let Err(error) = listed {
                return unreadable(error.into());
            }
            let (dir, path) = (Arc::clone(dir), Arc::clone(&path));
            if let Some(Work::Batch { dir, path, names }) =
                queue.offer(Work::Batch { dir, path, names })
            {
                self.visit_names(&dir, &path, names, queue, visit)?;
            }
            if end {
                return Ok(());
            }
        }
    }

    fn visit_names(
        &self,
        dir: &Arc<DirState<B>>,
        path: &[u8],
        names: Vec<EntryName>,
        queue: &Queue<Work<B>>,
        visit: &Visitor<'_, B>,
    ) -> Result<()> {
        for stored in names {
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
                Err(error) => {
                    visit(Met::Unreadable(&full, error))?;
                    continue;
                }
            };
            visit(Met::Entry(Visit {
                dir: &dir.dir,
                stored: &stored,
                path: &full,
                hidden,
                stat,
            }))?;
            if stat.kind() == Some(Kind::Dir) {
                queue.add(Work::Dir(Box::new(Closed {
                    parent: Arc::clone(dir),
                    node: self.node_id(stat.ino),
                    stored,
                    path: full,
                })));
            }
        }
        Ok(())
    }
}
