//! A volume: files and directories in plaintext terms, over a cipher directory.
//!
//! Knows no FUSE type and no errno. Every operation takes nodes, handles and plaintext names, and
//! gives [`VolumeError`]s. Any number of threads may call at once.
//!
//! - `record_io`: the volume record, the lock, the clean mark; `lifecycle`: create, open, close.
//! - `nodes`, `dirs`, `lookup`: from a node to its place below. `namespace`, `rename`, `listing`,
//!   `links`, `attributes`, `xattrs`: the operations on names and inodes.
//! - `open_file`, `header_io`, `keys`, `read`, `write`, `resize`: open files and their contents.

mod attributes;
mod ctimes;
mod dirs;
mod error;
mod header_io;
mod inspect;
mod keys;
mod lifecycle;
mod links;
mod listing;
mod lookup;
mod moves;
mod namespace;
mod nodes;
mod open_file;
mod opening;
mod read;
mod record_io;
mod rename;
mod resize;
mod rewrap;
mod status;
mod take_back;
mod types;
mod verify;
mod walk;
mod write;
mod xattrs;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};

use parking_lot::{Mutex, RwLock};

pub use error::{Result, VolumeError};
pub use inspect::{Inspection, SlotInfo, WrappedKeyInfo, inspect};
pub use lifecycle::{CreateOptions, OpenOptions};
pub use moves::{MoveWatch, Moved};
pub use record_io::{CONTROL_DIR, Holder};
pub use rewrap::Rewrapped;
pub use status::VolumeStatus;
pub use types::{Attr, Caller, DirEntry, FallocateMode, HandleId, NodeId, OpenMode, SetAttr};
pub use verify::FileCheck;
pub use walk::{Met, Visit};

// What the operations take and give is the backing's and the key manager's in part: whoever uses a
// volume needs no other room.
pub use crate::backing::{Backing, Kind, Os, Rename, Seek, SetTime, StatFs, Time, XattrMode};
pub use crate::kms::KmsError;

use crate::content::BlockIndex;
use crate::format::{VolumeId, VolumeRecord, VolumeSecrets};
use crate::kms::KeyId;
use crate::names::Names;

/// What a missing seal means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Strictness {
    /// The volume was left cleanly: a size or an entry that doesn't fit its seal is damage.
    Full,
    /// It was not: writes that were under way may be half there.
    AfterCrash,
}

/// Called with the open files that were cut off from their key, so that what others cached of them
/// can be dropped.
pub type CutOff = Box<dyn Fn(&[NodeId]) + Send + Sync>;

/// An open volume.
pub struct Volume<B: Backing> {
    backing: B,
    root: Arc<dirs::DirState<B>>,
    root_ino: u64,
    device: u64,
    record: VolumeRecord,
    secrets: Arc<VolumeSecrets>,
    /// The CMK of new files; changes when the volume moves to another.
    current_cmk: Mutex<KeyId>,
    names: Names,
    keys: keys::DataKeys,
    nodes: nodes::Nodes,
    dirs: dirs::Dirs<B>,
    files: open_file::OpenFiles<B>,
    /// Held shared by operations that make names, exclusively by those that move or remove
    /// directories in several steps.
    namespace: RwLock<()>,
    counters: status::Counters,
    strict: AtomicBool,
    read_only: bool,
    /// Effective user and group of this process: what new files below belong to at first.
    process: (u32, u32),
    /// What of this volume is locked, for as long as it is open.
    lock: Mutex<Option<B::Lock>>,
    cut_off: Mutex<Option<CutOff>>,
    moves: moves::Moves<B>,
    ctimes: ctimes::Ctimes<B>,
    generation: AtomicU64,
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
        *self.current_cmk.lock()
    }

    /// The cipher directory.
    pub fn backing(&self) -> &B {
        &self.backing
    }

    fn strictness(&self) -> Strictness {
        if self.strict.load(std::sync::atomic::Ordering::Relaxed) {
            Strictness::Full
        } else {
            Strictness::AfterCrash
        }
    }

    fn check_writable(&self) -> Result<()> {
        if self.read_only {
            Err(VolumeError::ReadOnly)
        } else {
            Ok(())
        }
    }

    /// Where a node's cipher file is, for messages: stored names only.
    fn cipher_path(&self, node: NodeId) -> String {
        let mut parts = Vec::new();
        let mut at = node;
        while at != NodeId::ROOT && parts.len() < 64 {
            let Some((parent, stored)) = self.nodes.get(at).and_then(|node| node.location()) else {
                return format!("inode {}", self.lower_ino(node));
            };
            parts.push(stored.to_string());
            at = parent;
        }
        parts.reverse();
        parts.join("/")
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
