//! Reading a file to see that all of it is authentic.

use super::Volume;
use super::error::{Result, VolumeError};
use super::open_file::OpenFile;
use crate::backing::{Backing, EntryName, Seek, Stat};
use crate::content::{BlockIndex, Layout};
use crate::format::PAGE;

/// Bytes read at a time.
const PIECE: usize = 1 << 20;

/// What a check of one file found.
#[derive(Clone, Debug, Default)]
pub struct FileCheck {
    /// Plaintext bytes read.
    pub bytes: u64,
    /// Damaged blocks, and why.
    pub damaged: Vec<(u64, String)>,
}

impl<B: Backing> Volume<B> {
    /// Reads a file by its place below, and every block of it.
    ///
    /// # Errors
    /// [`VolumeError::Damaged`] when its header can't be used; damaged blocks are in the result.
    pub fn check_file(&self, dir: &B::Dir, name: &EntryName, stat: &Stat) -> Result<FileCheck> {
        let file = self.acquire_at(dir, name, stat, false)?;
        let result = self.check_open(&file);
        self.done_with(&file);
        result
    }

    fn check_open(&self, file: &OpenFile<B>) -> Result<FileCheck> {
        let core = file.core.read();
        let size = core.layout.size();
        let mut check = FileCheck {
            bytes: size,
            damaged: Vec::new(),
        };
        let (Layout::Blocks { .. }, Some(head)) = (core.layout, &core.head) else {
            return Ok(check); // inline bytes were opened with the header
        };
        let mut buf = vec![0; PIECE.min(size as usize)];
        let mut at = 0;
        while at < size {
            // Over holes without reading them: a file may be nothing else, and huge.
            at = match self.seek_core(file, &core, Seek::Data, at) {
                Ok(data) => data / PAGE as u64 * PAGE as u64,
                Err(VolumeError::NoData) => break,
                Err(error) => return Err(error),
            };
            let len = buf.len().min((size - at) as usize);
            match self.read_core(file, &core, at, &mut buf[..len]) {
                Ok(_) => {}
                Err(VolumeError::Damaged { .. }) => {
                    // Which of them?
                    let first = BlockIndex(at / PAGE as u64);
                    let mut scratch = [0; PAGE];
                    for i in 0..len.div_ceil(PAGE) as u64 {
                        let block = BlockIndex(first.0 + i);
                        match self.read_block(file, head, size, block, &mut scratch) {
                            Ok(_) => {}
                            Err(VolumeError::Damaged { why, .. }) => {
                                check.damaged.push((block.0, why));
                            }
                            Err(error) => return Err(error),
                        }
                    }
                }
                Err(error) => return Err(error),
            }
            at += len as u64;
        }
        Ok(check)
    }

    /// Reads a symlink's target by its place below.
    pub fn check_symlink(&self, dir: &B::Dir, name: &EntryName) -> Result<Vec<u8>> {
        let stored = self.backing.readlink(dir, name)?;
        self.open_target(name, &stored)
    }

    /// Opens every extended attribute of an entry by its place below; how many there are.
    pub fn check_xattrs(&self, dir: &B::Dir, name: &EntryName) -> Result<usize> {
        use crate::backing::At;
        let at = At::Entry(dir, name);
        let mut count = 0;
        for stored in self.backing.list_xattr(at)? {
            if stored.starts_with(b"system.") {
                continue;
            }
            let damaged = |error: crate::names::NameError| {
                VolumeError::damaged(format!("an extended attribute of {name}"), error)
            };
            let Some(value) = self.backing.get_xattr(at, &stored)? else {
                continue;
            };
            match self.names.open_xattr_name(&stored).map_err(damaged)? {
                Some(plain) => {
                    self.names
                        .open_xattr_value(&plain, &value)
                        .map_err(damaged)?;
                }
                None if crate::names::Names::is_hashed_xattr(&stored) => {
                    self.names
                        .open_hashed_xattr(&stored, &value)
                        .map_err(damaged)?;
                }
                // Set below by someone else; not ours.
                None => continue,
            }
            count += 1;
        }
        Ok(count)
    }
}
