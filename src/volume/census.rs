//! The census: which key material the files of a volume need. Taken of the cipher directory without
//! any key, also while it is mounted; nothing of it is authenticated.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use super::Volume;
use super::error::{Result, VolumeError};
use super::lifecycle::name_mode;
use super::rewrap::wrapped_keys_of;
use super::walk::BATCH;
use super::work::Queue;
use crate::backing::{Backing, EntryName, Kind, OpenFile};
use crate::format::blob::BlobHeader;
use crate::kms::KeyId;
use crate::names::{Class, NameMode};

/// A CMK and the start of its key material's id, as a wrapped key names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Material {
    /// The CMK.
    pub key: KeyId,
    /// The first eight bytes of the material's id.
    pub prefix: [u8; 8],
}

impl Material {
    /// What a wrapped key names; None when it is none.
    pub fn of(blob: &[u8]) -> Option<Self> {
        let header = BlobHeader::parse(blob).ok()?;
        Some(Self {
            key: KeyId::new(header.key_id, header.multi_region),
            prefix: header.material,
        })
    }
}

impl fmt::Display for Material {
    /// `KEY/MATERIAL`, the material in 16 hexadecimal digits.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{:016x}", self.key, u64::from_be_bytes(self.prefix))
    }
}

/// What was counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Census {
    /// Regular files, each inode once.
    pub files: u64,
    /// Those without a key, since they are empty.
    pub empty: u64,
    /// Files and directories that could not be looked at, or are no cipher files.
    pub unreadable: u64,
    /// Files by what they need: one under two CMKs is counted under each.
    pub by_material: BTreeMap<Material, u64>,
    /// What the volume's own key is wrapped under.
    pub volume_keys: Vec<Material>,
}

impl Census {
    fn add(&mut self, other: Self) {
        self.files += other.files;
        self.empty += other.empty;
        self.unreadable += other.unreadable;
        for (material, files) in other.by_material {
            *self.by_material.entry(material).or_default() += files;
        }
    }
}

/// A piece of the work.
enum Piece<B: Backing> {
    /// A directory in an open one.
    Dir(Box<(Arc<B::Dir>, EntryName)>),
    /// Files of an open one, or what might be some.
    Files(Arc<B::Dir>, Vec<EntryName>),
}

struct Count<'a, B: Backing> {
    backing: &'a B,
    names: NameMode,
    found: Mutex<Census>,
    /// Inodes with several names that were met.
    links: Mutex<HashSet<u64>>,
    goes_on: &'a (dyn Fn(u64) -> bool + Sync),
    stopped: AtomicBool,
}

impl<B: Backing> Volume<B> {
    /// Counts the files of a cipher directory by the key material that they need. `goes_on` is told how
    /// many there were so far; where it answers false, the count ends with what there is.
    ///
    /// # Errors
    /// When there is no volume, or its root can't be listed.
    pub fn census(
        backing: &B,
        threads: usize,
        goes_on: &(dyn Fn(u64) -> bool + Sync),
    ) -> Result<Census> {
        let record = Self::peek(backing)?;
        let root = Arc::new(backing.root()?);
        let count = Count {
            backing,
            names: name_mode(record.names),
            found: Mutex::default(),
            links: Mutex::default(),
            goes_on,
            stopped: AtomicBool::new(false),
        };
        Queue::run(
            threads.max(1),
            |queue| count.list(&root, queue),
            &|piece, queue| {
                count.piece(piece, queue);
                Ok(())
            },
        )?;
        let mut census = count.found.into_inner();
        let blobs = record.volume_keys.iter();
        census.volume_keys = blobs.filter_map(|blob| Material::of(blob)).collect();
        Ok(census)
    }
}

impl<B: Backing> Count<'_, B> {
    fn piece(&self, piece: Piece<B>, queue: &Queue<Piece<B>>) {
        if self.stopped.load(Ordering::Relaxed) {
            return;
        }
        match piece {
            Piece::Files(dir, names) => self.files(&dir, &names, queue),
            Piece::Dir(at) => {
                let (parent, name) = *at;
                let opened = self.backing.open_dir(&parent, &name);
                drop(parent);
                let listed = opened
                    .map_err(VolumeError::from)
                    .and_then(|dir| self.list(&Arc::new(dir), queue));
                if let Err(error) = listed
                    && !matches!(error, VolumeError::NotFound)
                {
                    tracing::debug!(%error, stored = %name, "not counted");
                    self.found.lock().unreadable += 1;
                }
            }
        }
    }

    /// Hands out what is in a directory.
    fn list(&self, dir: &Arc<B::Dir>, queue: &Queue<Piece<B>>) -> Result<()> {
        let mut listing = self.backing.list(dir)?;
        let mut from = 0;
        loop {
            let mut files = Vec::new();
            let mut end = true;
            self.backing.next_entries(&mut listing, from, &mut |raw| {
                if files.len() == BATCH {
                    end = false;
                    return false;
                }
                from = raw.next;
                if matches!(Class::of(self.names, raw.name), Class::Reserved) {
                    return true;
                }
                let Ok(name) = EntryName::new(raw.name) else {
                    return true;
                };
                match raw.kind {
                    Some(Kind::Dir) => queue.add(Piece::Dir(Box::new((Arc::clone(dir), name)))),
                    Some(Kind::File) | None => files.push(name),
                    Some(_) => {}
                }
                true
            })?;
            let batch = queue.offer(Piece::Files(Arc::clone(dir), files));
            if let Some(Piece::Files(dir, files)) = batch {
                self.files(&dir, &files, queue);
            }
            if end || self.stopped.load(Ordering::Relaxed) {
                return Ok(());
            }
        }
    }

    fn files(&self, dir: &Arc<B::Dir>, names: &[EntryName], queue: &Queue<Piece<B>>) {
        let mut sum = Census::default();
        for name in names {
            match self.file(dir, name, &mut sum) {
                Ok(()) | Err(VolumeError::NotFound) => {}
                // The listing had not said what it is.
                Err(VolumeError::IsDirectory) => {
                    queue.add(Piece::Dir(Box::new((Arc::clone(dir), name.clone()))));
                }
                Err(error) => {
                    tracing::debug!(%error, stored = %name, "not counted");
                    sum.unreadable += 1;
                }
            }
        }
        let mut found = self.found.lock();
        found.add(sum);
        if !(self.goes_on)(found.files) {
            self.stopped.store(true, Ordering::Relaxed);
        }
    }

    fn file(&self, dir: &B::Dir, name: &EntryName, sum: &mut Census) -> Result<()> {
        let file = match self.backing.open_file(dir, name, OpenFile::READ) {
            Ok(file) => file,
            Err(error) if is_no_file(&error) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let stat = self.backing.stat_file(&file)?;
        if stat.nlink > 1 && !self.links.lock().insert(stat.ino) {
            return Ok(());
        }
        sum.files += 1;
        match wrapped_keys_of(self.backing, &file, name)? {
            None => sum.empty += 1,
            Some(keys) => {
                for material in keys.iter().filter_map(|key| Material::of(&key.blob)) {
                    *sum.by_material.entry(material).or_default() += 1;
                }
            }
        }
        Ok(())
    }
}

/// Whether something other than a file (or a directory) was to be opened as one.
fn is_no_file(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ELOOP | libc::ENXIO))
}
