//! Paths in a volume that is not mounted, for `ls`, `cat` and `cp`.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};

use super::exit::{Exit, failure};
use super::open::Opening;
use super::unlock::{self, KeystoreArgs};
use crate::backing::{Kind, Os};
use crate::volume::{Attr, Caller, HandleId, NodeId, OpenMode, Volume, VolumeError};

/// Symlinks that one path may lead through, as in the kernel.
const SYMLINKS_MOST: u32 = 40;

/// A volume opened for reading, with no mount.
pub struct Reader {
    volume: Volume<Os>,
    caller: Caller,
}

/// One entry of a directory.
pub struct Entry {
    /// Its name.
    pub name: OsString,
    /// Its attributes.
    pub attr: Attr,
}

impl Reader {
    /// Opens the volume in `cipher_dir`; somebody else may have it mounted.
    pub fn open(cipher_dir: &Path, keystore: &KeystoreArgs, purpose: &str) -> Result<Self> {
        let cipher_dir = super::target::cipher_dir(cipher_dir)?;
        super::target::holder(&cipher_dir)?;
        let kms = Arc::new(unlock::open(keystore)?);
        let volume = Opening::reading(&cipher_dir, purpose).open(kms)?;
        let caller = Caller {
            uid: rustix::process::geteuid().as_raw(),
            gid: rustix::process::getegid().as_raw(),
            pid: std::process::id(),
        };
        Ok(Self { volume, caller })
    }

    /// The volume.
    pub fn volume(&self) -> &Volume<Os> {
        &self.volume
    }

    /// The node at a path from the root, with every symlink followed but a last one when `follow`
    /// is false. Absolute and relative paths are the same.
    pub fn find(&self, path: &Path, follow: bool) -> Result<Attr> {
        self.walk(path, follow)
            .with_context(|| path.display().to_string())
    }

    fn walk(&self, path: &Path, follow: bool) -> Result<Attr> {
        let mut symlinks = 0;
        // The way down so far; its last is where the walk stands.
        let mut way = vec![self.volume.getattr(NodeId::ROOT, None)?];
        let mut todo: Vec<Vec<u8>> = parts(path.as_os_str().as_bytes());
        while let Some(part) = todo.pop() {
            let here = way[way.len() - 1];
            match part.as_slice() {
                b"." => continue,
                b".." => {
                    if way.len() > 1 {
                        way.pop();
                    }
                    continue;
                }
                _ => {}
            }
            let attr = self.volume.lookup(here.ino, &part)?;
            if attr.kind != Kind::Symlink || (todo.is_empty() && !follow) {
                way.push(attr);
                continue;
            }
            symlinks += 1;
            if symlinks > SYMLINKS_MOST {
                return Err(failure(Exit::Failure, "too many levels of symbolic links"));
            }
            let target = self.volume.readlink(attr.ino)?;
            if target.starts_with(b"/") {
                let target = PathBuf::from(OsString::from_vec(target));
                let message = format!("the symlink leads out of the volume: {}", target.display());
                return Err(failure(Exit::Failure, message));
            }
            todo.extend(parts(&target));
        }
        Ok(way[way.len() - 1])
    }

    /// The entries of a directory in the order of their names, without `.` and `..`.
    ///
    /// An entry that can't be looked up is given to `failed` and left out.
    pub fn list(
        &self,
        directory: NodeId,
        failed: &mut dyn FnMut(&OsStr, VolumeError),
    ) -> Result<Vec<Entry>> {
        let mut names: Vec<Vec<u8>> = Vec::new();
        self.volume.readdir(directory, 0, &mut |entry| {
            if !matches!(entry.name, b"." | b"..") {
                names.push(entry.name.to_vec());
            }
            true
        })?;
        names.sort();
        let mut entries = Vec::with_capacity(names.len());
        for name in names {
            match self.volume.lookup(directory, &name) {
                Ok(attr) => entries.push(Entry {
                    name: OsString::from_vec(name),
                    attr,
                }),
                // Gone since the listing: somebody else writes to the volume.
                Err(VolumeError::NotFound) => {}
                Err(error) => failed(OsStr::from_bytes(&name), error),
            }
        }
        Ok(entries)
    }

    /// Gives back the nodes of a listing.
    pub fn forget(&self, entries: &[Entry]) {
        for entry in entries {
            self.volume.forget(entry.attr.ino, 1);
        }
    }

    /// Opens a regular file.
    pub fn open_file(&self, file: &Attr) -> Result<OpenFile<'_>> {
        let handle = self
            .volume
            .open_file(&self.caller, file.ino, OpenMode::READ)?;
        Ok(OpenFile {
            reader: self,
            handle,
            size: file.size,
        })
    }
}

/// Components in the order in which a stack gives them.
fn parts(path: &[u8]) -> Vec<Vec<u8>> {
    let parts = path
        .split(|byte| *byte == b'/')
        .filter(|part| !part.is_empty());
    parts.rev().map(<[u8]>::to_vec).collect()
}

/// An open file of the volume; closed on drop.
pub struct OpenFile<'a> {
    reader: &'a Reader,
    /// Its handle in the volume.
    pub handle: HandleId,
    /// Its size in bytes when it was opened.
    pub size: u64,
}

impl OpenFile<'_> {
    /// Reads at an offset; fewer bytes than asked for at the end of the file only.
    pub fn read(&self, offset: u64, buf: &mut [u8]) -> Result<usize, VolumeError> {
        self.reader.volume.read(self.handle, offset, buf)
    }
}

impl Drop for OpenFile<'_> {
    fn drop(&mut self) {
        // It was open for reading: nothing is lost when its end fails.
        let _ = self.reader.volume.release(self.handle);
    }
}
