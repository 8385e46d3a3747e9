//! Mending what can be mended without guessing: for fsck.

use super::Volume;
use super::error::{Result, VolumeError};
use super::lookup::{DIR_ID, DIR_ID_COPY};
use super::types::{Caller, NodeId};
use super::walk::Visit;
use crate::backing::{Backing, EntryName, Kind, Rename};
use crate::names::{DirId, NameMode};

/// Where entries go whose names don't decrypt.
pub const LOST_AND_FOUND: &str = "lost+found";

/// What a look at a directory's id found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DirIdCheck {
    /// The id and its copy are there, and the same.
    Sound,
    /// The copy is missing, as in directories from before there were copies.
    NoCopy,
    /// The id is missing or not readable; the copy is there.
    OnlyCopy,
    /// Both are missing: the names in the directory can't be decrypted.
    Lost,
    /// The two are not the same.
    Differ,
}

impl<B: Backing> Volume<B> {
    /// Looks at a directory's id and at the copy of it.
    pub fn check_dir_id(&self, dir: &B::Dir, name: &EntryName) -> Result<DirIdCheck> {
        if self.names.mode() == NameMode::Plain {
            return Ok(DirIdCheck::Sound);
        }
        let dir = self.backing.open_dir(dir, name)?;
        let read = |name| {
            let text = self.backing.readlink(&dir, name).ok()?;
            DirId::from_text(&text).ok().map(|id| id.0)
        };
        Ok(match (read(&DIR_ID), read(&DIR_ID_COPY)) {
            (Some(id), Some(copy)) if id == copy => DirIdCheck::Sound,
            (Some(_), Some(_)) => DirIdCheck::Differ,
            (Some(_), None) => DirIdCheck::NoCopy,
            (None, Some(_)) => DirIdCheck::OnlyCopy,
            (None, None) => DirIdCheck::Lost,
        })
    }

    /// Restores a directory's id from its copy, or makes the copy.
    pub fn mend_dir_id(&self, dir: &B::Dir, name: &EntryName) -> Result<()> {
        self.check_writable()?;
        let found = self.check_dir_id(dir, name)?;
        let dir = self.backing.open_dir(dir, name)?;
        let (from, to) = match found {
            DirIdCheck::NoCopy => (&DIR_ID, &DIR_ID_COPY),
            DirIdCheck::OnlyCopy => (&DIR_ID_COPY, &DIR_ID),
            DirIdCheck::Sound | DirIdCheck::Lost | DirIdCheck::Differ => return Ok(()),
        };
        // What can't be read as an id is no id.
        match self.backing.unlink(&dir, to) {
            Ok(()) => {}
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {}
            Err(error) => return Err(error.into()),
        }
        let text = self.backing.readlink(&dir, from)?;
        self.backing.symlink(&dir, to, &text)?;
        Ok(self.backing.sync_dir(&dir)?)
    }

    /// Moves an entry whose name doesn't decrypt to `lost+found` in the volume's root, with all
    /// that is in it; its new path.
    pub fn quarantine(&self, entry: &Visit<'_, B>) -> Result<Vec<u8>> {
        self.check_writable()?;
        let caller = Caller {
            uid: self.process.0,
            gid: self.process.1,
            pid: std::process::id(),
        };
        let name = LOST_AND_FOUND.as_bytes();
        let lost = match self.mkdir(&caller, NodeId::ROOT, name, 0o700, 0) {
            Err(VolumeError::Exists) => self.lookup(NodeId::ROOT, name)?,
            made => made?,
        };
        if lost.kind != Kind::Dir {
            return Err(VolumeError::NotDirectory);
        }
        let lost = self.dir(lost.ino)?;
        for try_number in 0.. {
            let mut plain = format!("inode-{}", entry.stat.ino);
            if try_number > 0 {
                plain = format!("{plain}-{try_number}");
            }
            let stored = self.stored_name(&lost, plain.as_bytes())?;
            let renamed = self.backing.rename(
                entry.dir,
                entry.stored,
                &lost.dir,
                &stored.entry,
                Rename::NoReplace,
            );
            match renamed {
                Err(error) if error.raw_os_error() == Some(libc::EEXIST) => {}
                other => {
                    other?;
                    self.backing.sync_dir(&lost.dir)?;
                    return Ok(format!("/{LOST_AND_FOUND}/{plain}").into_bytes());
                }
            }
        }
        Err(VolumeError::Exists)
    }
}
