//! What a volume knows of itself.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::Volume;
use super::types::NodeId;
use crate::backing::Backing;
use crate::content::BlockIndex;
use crate::crypto::sha256;

/// The most places that are remembered so as not to log them twice.
const PLACES_MOST: usize = 10_000;

/// Counts of what was found.
#[derive(Default)]
pub(super) struct Counters {
    hidden: Mutex<HashSet<[u8; 32]>>,
    unopened: Mutex<HashSet<NodeId>>,
    damaged: Mutex<HashSet<(NodeId, BlockIndex)>>,
    damage: AtomicU64,
}

impl Counters {
    /// True the first time that this stored name is reported.
    pub(super) fn first_hidden(&self, dir: NodeId, stored: &[u8]) -> bool {
        let mut hidden = self.hidden.lock();
        hidden.len() < PLACES_MOST && hidden.insert(sha256(&[&dir.0.to_le_bytes(), stored]))
    }

    /// True the first time that this file is reported as one that can't be opened.
    pub(super) fn first_unopened(&self, node: NodeId) -> bool {
        let mut unopened = self.unopened.lock();
        unopened.len() < PLACES_MOST && unopened.insert(node)
    }

    /// True the first time that this block is reported.
    pub(super) fn first_damage(&self, node: NodeId, block: BlockIndex) -> bool {
        self.damage.fetch_add(1, Ordering::Relaxed);
        let mut damaged = self.damaged.lock();
        damaged.len() < PLACES_MOST && damaged.insert((node, block))
    }
}

/// The state of an open volume.
#[derive(Clone, Debug, Serialize, Deserialize)]
// Each is a fact on its own.
#[allow(clippy::struct_excessive_bools)]
pub struct VolumeStatus {
    /// The volume's identity.
    pub volume_id: String,
    /// The CMK of new files.
    pub key_id: String,
    /// The CMK under which everything is wrapped a second time, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recovery_key_id: Option<String>,
    /// How names are stored.
    pub names: String,
    /// Whether it was opened for reading only.
    pub read_only: bool,
    /// Whether it was left cleanly before, or has been recovered since.
    pub clean: bool,
    /// Handles of open files.
    pub open_files: usize,
    /// Directories kept open below.
    pub open_directories: usize,
    /// Inodes that the kernel knows.
    pub known_inodes: usize,
    /// Names met that don't decrypt; they are left alone and hidden.
    pub hidden_names: usize,
    /// Blocks met that fail authentication.
    pub damaged_blocks: usize,
    /// Whether blocks that were durable are overwritten through the journal.
    pub journal: bool,
    /// Bytes of the journal in use.
    pub journal_used: u64,
    /// How many times the journal was synced.
    pub journal_syncs: u64,
    /// Whether all key bytes could be locked in memory.
    pub keys_locked: bool,
}

impl<B: Backing> Volume<B> {
    /// The state of the volume.
    pub fn status(&self) -> VolumeStatus {
        VolumeStatus {
            volume_id: self.id().to_string(),
            key_id: self.volume_key_id().to_string(),
            recovery_key_id: self.cmks().recovery.map(|key| key.to_string()),
            names: match self.record.names {
                crate::format::NameEncoding::Encrypted => "encrypted".into(),
                crate::format::NameEncoding::Plain => "plain".into(),
            },
            read_only: self.read_only,
            clean: !self.in_doubt(),
            open_files: self.files.len(),
            open_directories: self.dirs.len(),
            known_inodes: self.nodes.len(),
            hidden_names: self.counters.hidden.lock().len(),
            damaged_blocks: self.counters.damaged.lock().len(),
            journal: self.engine.is_some(),
            journal_used: self
                .engine
                .as_ref()
                .map_or(0, |engine| engine.journal.in_use()),
            journal_syncs: self
                .engine
                .as_ref()
                .map_or(0, |engine| engine.journal.syncs()),
            keys_locked: crate::secret::all_locked(),
        }
    }
}
