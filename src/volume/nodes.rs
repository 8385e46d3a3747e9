//! The inodes that the kernel knows, and where each was last seen.
//!
//! No descriptor is held for them: a node remembers its parent and its stored name, and is reached
//! through the parent's directory handle. All changes come through this process (it holds the
//! volume's lock), so these names stay right.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::{Mutex, RwLock};

use super::table::Table;
use super::types::NodeId;
use crate::backing::{EntryName, Kind, Stat};

/// A name of a node: in which directory, and how it is stored there.
#[derive(Clone, PartialEq, Eq)]
struct Link {
    parent: NodeId,
    stored: Box<[u8]>,
}

/// An inode that the kernel knows.
pub(super) struct Node {
    kind: Kind,
    generation: u64,
    place: Mutex<Place>,
    references: AtomicU64,
}

struct Place {
    links: Vec<Link>,
    /// What a removed directory looked like last: it has no name and no open file to ask.
    removed: Option<Box<Stat>>,
}

impl Node {
    /// Where the node is: its directory and stored name. None when it was removed.
    pub(super) fn location(&self) -> Option<(NodeId, EntryName)> {
        let place = self.place.lock();
        let link = place.links.last()?;
        Some((link.parent, EntryName::new(&link.stored).ok()?))
    }

    /// The last attributes of a directory that was removed while the kernel knew it.
    pub(super) fn removed(&self) -> Option<Stat> {
        self.place.lock().removed.as_deref().copied()
    }

    fn add_link(&self, parent: NodeId, stored: &EntryName) {
        let mut place = self.place.lock();
        let same = |link: &Link| link.parent == parent && *link.stored == *stored.as_bytes();
        if !place.links.iter().any(same) {
            place.links.reserve_exact(1);
            place.links.push(Link {
                parent,
                stored: stored.as_bytes().into(),
            });
        }
    }
}

/// The table of nodes.
#[derive(Default)]
pub(super) struct Nodes {
    map: RwLock<Table<NodeId, Arc<Node>>>,
}

impl Nodes {
    /// The node, if the kernel knows it.
    pub(super) fn get(&self, id: NodeId) -> Option<Arc<Node>> {
        self.map.read().get(&id).cloned()
    }

    /// How many nodes the kernel knows.
    pub(super) fn len(&self) -> usize {
        self.map.read().len()
    }

    /// Notes that the kernel got one more reference to a node, seen by this name.
    pub(super) fn remember(
        &self,
        id: NodeId,
        kind: Kind,
        generation: u64,
        parent: NodeId,
        stored: &EntryName,
    ) {
        if let Some(node) = self.map.read().get(&id)
            && (node.kind, node.generation) == (kind, generation)
        {
            node.add_link(parent, stored);
            node.references.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let mut map = self.map.write();
        // Another inode may have had this number: the kernel's references to it are still counted.
        let before = map
            .get(&id)
            .map_or(0, |node| node.references.load(Ordering::Relaxed));
        if let Some(node) = map.get(&id)
            && (node.kind, node.generation) == (kind, generation)
        {
            node.add_link(parent, stored);
            node.references.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let links = vec![Link {
            parent,
            stored: stored.as_bytes().into(),
        }];
        let node = Node {
            kind,
            generation,
            place: Mutex::new(Place {
                links,
                removed: None,
            }),
            references: AtomicU64::new(before + 1),
        };
        map.insert(id, Arc::new(node));
    }

    /// The kernel gave up `count` references. True when it doesn't know the node any more.
    pub(super) fn forget(&self, id: NodeId, count: u64) -> bool {
        let mut map = self.map.write();
        let Some(node) = map.get(&id) else {
            return false;
        };
        let before = node.references.load(Ordering::Relaxed);
        let left = before.saturating_sub(count);
        node.references.store(left, Ordering::Relaxed);
        if left == 0 {
            map.remove(&id);
        }
        left == 0
    }

    /// A name of the node is no more.
    pub(super) fn unlink(&self, id: NodeId, parent: NodeId, stored: &EntryName) {
        if let Some(node) = self.get(id) {
            node.place
                .lock()
                .links
                .retain(|link| link.parent != parent || *link.stored != *stored.as_bytes());
        }
    }

    /// A directory was removed; `last` is what it looked like.
    pub(super) fn remove_dir(&self, id: NodeId, last: Stat) {
        if let Some(node) = self.get(id) {
            let mut place = node.place.lock();
            place.links.clear();
            place.removed = Some(Box::new(last));
        }
    }

    /// A node has another name now.
    pub(super) fn rename(&self, id: NodeId, from: (NodeId, &EntryName), to: (NodeId, &EntryName)) {
        if let Some(node) = self.get(id) {
            let mut place = node.place.lock();
            let old = |link: &Link| link.parent == from.0 && *link.stored == *from.1.as_bytes();
            place.links.retain(|link| !old(link));
            drop(place);
            node.add_link(to.0, to.1);
        }
    }
}
