//! A volume: files and directories in plaintext terms, over a cipher directory.
//!
//! Knows no FUSE type and no errno. Every operation takes nodes, handles and plaintext names, and
//! gives [`VolumeError`]s. Any number of threads may call at once.
//!
//! - `record_io`: the volume record, the lock, the clean mark; `lifecycle`: create, open, close; `known`: what
//!   the key manager is told of the volume.
//! - `nodes`, `dirs`, `lookup`: from a node to its place below. `namespace`, `rename`, `listing`,
//!   `links`, `attributes`, `xattrs`: the operations on names and inodes.
//! - `open_file`, `header_io`, `keys`, `read`, `stream`, `write`, `stamps`, `resize`: open files and their contents.
//! - `rewrap`, `reencrypt`, `ctimes`: a file's data key wrapped anew, and a new one, with no trace in its times.
//! - `journal`, `overwrite`, `durable`, `recover`, `repair`: what makes a crash harmless. [`journal`] tells how.

mod append;
mod attributes;
mod census;
mod ctimes;
mod dirs;
mod durable;
mod error;
mod header_io;
mod inspect;
pub mod journal;
mod key_cache;
mod keys;
mod known;
mod lifecycle;
mod links;
mod listing;
mod lookup;
mod moves;
mod namespace;
mod nodes;
mod open_file;
mod opening;
mod overwrite;
mod privileges;
mod read;
mod record_io;
mod recover;
mod reencrypt;
mod rename;
mod repair;
mod resize;
mod rewrap;
mod run_log;
mod stamps;
mod status;
mod stream;
mod table;
mod take_back;
mod types;
mod verify;
mod walk;
mod work;
mod write;
mod xattrs;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};

use parking_lot::{Mutex, RwLock};

pub use census::{Census, Material};
pub use error::{Result, VolumeError};
pub use inspect::{Inspection, SlotInfo, WrappedKeyInfo, inspect};
pub use journal::{JOURNAL_SIZE, JOURNAL_SIZE_LEAST, JournalMode};
pub use keys::Cmks;
pub use lifecycle::{CreateOptions, OpenOptions};
pub use moves::{MoveWatch, Moved};
pub use record_io::{CONTROL_DIR, Holder};
pub use reencrypt::{Reencrypted, Renewed};
pub use repair::{DirIdCheck, LOST_AND_FOUND};
pub use rewrap::Rewrapped;
pub use run_log::RunLog;
pub use status::VolumeStatus;
pub use types::{Attr, Caller, DirEntry, FallocateMode, HandleId, NodeId, OpenMode, SetAttr};
pub use verify::FileCheck;
pub use walk::{Met, Visit};

// What the operations take and give is the backing's and the key manager's in part: whoever uses a
// volume needs no other room.
pub use crate::backing::{Backing, Kind, Os, Rename, Seek, SetTime, StatFs, Time, XattrMode};
pub use crate::kms::KmsError;

use crate::content::BlockIndex;
use crate::format::{FileId, VolumeId, VolumeRecord, VolumeSecrets};
use crate::kms::KeyId;
use crate::names::Names;

/// The most directories that were made or renamed and not synced, and are remembered one by one.
const YOUNG_MOST: usize = 4096;

/// Called with the open files that were cut off from their key, so that what others cached of them
/// can be dropped.
pub type CutOff = Box<dyn Fn(&[NodeId]) + Send + Sync>;

/// An open volume.
pub struct Volume<B: Backing> {
    backing: Arc<B>,
    root: Arc<dirs::DirState<B>>,
    root_ino: u64,
    device: u64,
    record: VolumeRecord,
    secrets: Arc<VolumeSecrets>,
    /// The CMKs of new files; they change when the volume moves to another.
    cmks: Mutex<Cmks>,
    names: Names,
    keys: keys::DataKeys,
    nodes: nodes::Nodes,
    dirs: dirs::Dirs<B>,
    files: Arc<open_file::OpenFiles<B>>,
    /// Held shared by operations that make names, exclusively by those that move or remove
    /// directories in several steps.
    namespace: RwLock<()>,
    counters: status::Counters,
    /// The journal; None when the volume is for reading only, or without one.
    engine: Option<Arc<journal::Engine<B>>>,
    /// What a journal that can't go home says, by file; and by inode, for sizes.
    replays: HashMap<FileId, Arc<journal::replay::FileReplay>>,
    replayed_sizes: HashMap<u64, Arc<journal::replay::FileReplay>>,
    /// Entries of blocks that were being overwritten in place at a crash.
    offers: HashMap<FileId, journal::replay::Offers>,
    /// This opening for writing; 0 when it is for reading only.
    epoch: u64,
    /// Epochs that ended in a crash, after which not every file has been looked at.
    crashed: Mutex<Vec<u64>>,
    /// Whether there are any.
    doubt: AtomicBool,
    /// What is wrong with the volume's own records.
    damage: Vec<String>,
    /// Directories made or renamed since they were last synced.
    young: Mutex<HashSet<NodeId>>,
    /// With so many seals, in units of 2^16, a data key is renewed.
    renew_at: u32,
    read_only: bool,
    /// Effective user and group of this process: what new files below belong to at first.
    process: (u32, u32),
    /// What of this volume is locked, for as long as it is open.
    lock: Mutex<Option<B::Lock>>,
    cut_off: Mutex<Option<CutOff>>,
    moves: moves::Moves<B>,
    ctimes: Arc<ctimes::Ctimes<B>>,
    generation: AtomicU64,
    /// That of the mark.
    mark_generation: AtomicU64,
}

impl<B: Backing> Volume<B> {
    /// The volume's identity.
    pub fn id(&self) -> VolumeId {
        self.record.volume_id
    }

    /// Whether the volume was opened for reading only.
    pub fn is_read_only(&self) -> bool {
        self.read_only
    }

    /// The CMK that new files' data keys are wrapped under.
    pub fn volume_key_id(&self) -> KeyId {
        self.cmks().main
    }

    /// The CMKs under which everything in the volume is to be wrapped.
    pub fn cmks(&self) -> Cmks {
        *self.cmks.lock()
    }

    /// The cipher directory.
    pub fn backing(&self) -> &B {
        &self.backing
    }

    /// What is wrong with the volume's own records, in words; empty when nothing is.
    pub fn damage(&self) -> &[String] {
        &self.damage
    }

    fn check_writable(&self) -> Result<()> {
        if self.read_only {
            Err(VolumeError::ReadOnly)
        } else {
            Ok(())
        }
    }

    /// Where a node's cipher file is, from the root: its stored names.
    fn stored_path(&self, node: NodeId) -> Option<Vec<crate::backing::EntryName>> {
        let mut parts = Vec::new();
        let mut at = node;
        while at != NodeId::ROOT && parts.len() < 64 {
            let (parent, stored) = self.nodes.get(at).and_then(|node| node.location())?;
            parts.push(stored);
            at = parent;
        }
        parts.reverse();
        Some(parts)
    }

    /// The same, for messages.
    fn cipher_path(&self, node: NodeId) -> String {
        match self.stored_path(node) {
            Some(parts) => {
                let parts: Vec<String> = parts.iter().map(ToString::to_string).collect();
                parts.join("/")
            }
            None => format!("inode {}", self.lower_ino(node)),
        }
    }

    /// The same, for the journal's records; empty where it isn't known or very long.
    fn path_hint(&self, node: NodeId) -> Vec<u8> {
        const MOST: usize = 1024;
        let parts = self.stored_path(node).unwrap_or_default();
        let parts: Vec<&[u8]> = parts
            .iter()
            .map(crate::backing::EntryName::as_bytes)
            .collect();
        let path = parts.join(&b'/');
        if path.len() <= MOST { path } else { Vec::new() }
    }

    /// Damage in one block: counted, logged once, and an error.
    fn damaged_block(&self, node: NodeId, block: BlockIndex, why: impl ToString) -> VolumeError {
        let why = why.to_string();
        let file = self.cipher_path(node);
        if self.counters.first_damage(node, block) {
            tracing::error!(%file, block = block.0, why, "damaged block");
        }
        VolumeError::damaged(format!("{file}, block {}", block.0), why)
    }
}

#[cfg(test)]
mod tests;
