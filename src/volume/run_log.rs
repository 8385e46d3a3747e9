//! Which files a re-encrypt has finished, for when it is stopped and asked to go on.
//!
//! `.envelopefs/reencrypted` is one entry of 64 bytes for each file:
//!
//! ```text
//!  0  file id                        16
//! 16  inode number of the cipher file 8
//! 24  zero                            8
//! 32  MAC                            32   HMAC-SHA-256 under the volume's ctimes key over
//!                                         "re-encrypted", volume id, bytes 0..32
//! ```
//!
//! An entry that isn't authentic, or was lost, costs that its file is done once more. It is removed at
//! the end of a run.

use std::collections::HashSet;
use std::io::{IoSlice, IoSliceMut};

use parking_lot::Mutex;

use super::Volume;
use super::error::Result;
use super::record_io::CONTROL_DIR;
use crate::backing::{Backing, EntryName, OpenFile};
use crate::crypto::{mac, mac_matches};
use crate::format::FileId;

const LOG: EntryName = EntryName::literal("reencrypted");
const LEN: usize = 64;
const SIGNED: usize = 32;
const LABEL: &[u8] = b"re-encrypted";
/// Entries that are read in one go.
const CHUNK: usize = 1024;

/// What a run has finished.
pub struct RunLog<'a, B: Backing> {
    volume: &'a Volume<B>,
    /// What the run before it had.
    before: HashSet<(FileId, u64)>,
    file: B::File,
    end: Mutex<u64>,
}

impl<B: Backing> Volume<B> {
    /// The log of a re-encrypt: that of the run that was stopped, when `resume`, else a new one.
    ///
    /// # Errors
    /// What the cipher directory says.
    pub fn reencrypt_log(&self, resume: bool) -> Result<RunLog<'_, B>> {
        self.check_writable()?;
        let control = self.backing.open_dir(&self.root.dir, &CONTROL_DIR)?;
        let file = match self.backing.open_file(&control, &LOG, OpenFile::READ_WRITE) {
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {
                self.backing.create_file(&control, &LOG, 0o600)?
            }
            opened => opened?,
        };
        let mut log = RunLog {
            volume: self,
            before: HashSet::new(),
            file,
            end: Mutex::new(0),
        };
        if resume {
            log.read()?;
        } else {
            self.backing.truncate(&log.file, 0)?;
        }
        Ok(log)
    }
}

impl<B: Backing> RunLog<'_, B> {
    fn read(&mut self) -> Result<()> {
        let mut chunk = vec![0; CHUNK * LEN];
        let mut at = 0;
        loop {
            let bufs = &mut [IoSliceMut::new(&mut chunk)];
            let read = self.volume.backing.read_at(&self.file, bufs, at)?;
            for entry in chunk[..read].chunks_exact(LEN) {
                self.before.extend(self.parse(entry));
                at += LEN as u64;
            }
            if read < chunk.len() {
                // What follows the last whole entry is overwritten.
                *self.end.get_mut() = at;
                return Ok(());
            }
        }
    }

    fn parse(&self, entry: &[u8]) -> Option<(FileId, u64)> {
        let (signed, tag) = entry.split_at_checked(SIGNED)?;
        let parts = [LABEL, &self.volume.record.volume_id.0, signed];
        if !mac_matches(&self.volume.secrets.ctimes, &parts, tag.first_chunk()?) {
            return None;
        }
        let id = FileId(*signed.first_chunk()?);
        let inode = u64::from_le_bytes(*signed.get(16..)?.first_chunk()?);
        Some((id, inode))
    }

    /// Whether the run before it finished a file.
    pub fn has(&self, id: &FileId, inode: u64) -> bool {
        self.before.contains(&(*id, inode))
    }

    /// A file is finished, and durable as such.
    ///
    /// # Errors
    /// What the cipher directory says.
    pub fn note(&self, id: &FileId, inode: u64) -> Result<()> {
        let mut entry = [0; LEN];
        entry[..16].copy_from_slice(&id.0);
        entry[16..24].copy_from_slice(&inode.to_le_bytes());
        let parts = [LABEL, &self.volume.record.volume_id.0, &entry[..SIGNED]];
        let tag = mac(&self.volume.secrets.ctimes, &parts);
        entry[SIGNED..].copy_from_slice(&tag);
        let mut end = self.end.lock();
        self.volume
            .backing
            .write_at(&self.file, &mut [IoSlice::new(&entry)], *end)?;
        *end += LEN as u64;
        Ok(())
    }

    /// The run is through.
    ///
    /// # Errors
    /// What the cipher directory says.
    pub fn remove(self) -> Result<()> {
        let volume = self.volume;
        let control = volume.backing.open_dir(&volume.root.dir, &CONTROL_DIR)?;
        Ok(volume.backing.unlink(&control, &LOG)?)
    }
}
