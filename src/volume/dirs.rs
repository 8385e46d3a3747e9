//! Open directories, a bounded number of them, with what is known of each.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use parking_lot::{Mutex, RwLock};

use super::table::Table;
use super::types::NodeId;
use crate::backing::Backing;
use crate::names::DirId;

/// An open directory.
pub(super) struct DirState<B: Backing> {
    /// Its number.
    pub(super) node: NodeId,
    /// Its handle below.
    pub(super) dir: B::Dir,
    /// Its identity in the encryption of the names in it.
    pub(super) id: DirId,
    /// A position in its entries, kept between two requests of a listing.
    pub(super) listing: Mutex<Option<B::Listing>>,
    /// What new entries inherit, see [`Inherit`]; 0 while unknown.
    inherit: AtomicU8,
    used: AtomicU64,
}

/// What new entries get from their directory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Inherit {
    /// Its group (the directory has the setgid bit).
    pub(super) group: bool,
    /// A default ACL, which takes the umask's place.
    pub(super) acl: bool,
}

const KNOWN: u8 = 4;

impl<B: Backing> DirState<B> {
    pub(super) fn new(node: NodeId, dir: B::Dir, id: DirId) -> Self {
        Self {
            node,
            dir,
            id,
            listing: Mutex::new(None),
            inherit: AtomicU8::new(0),
            used: AtomicU64::new(0),
        }
    }

    pub(super) fn inherit(&self) -> Option<Inherit> {
        let bits = self.inherit.load(Ordering::Acquire);
        (bits & KNOWN != 0).then_some(Inherit {
            group: bits & 1 != 0,
            acl: bits & 2 != 0,
        })
    }

    pub(super) fn set_inherit(&self, inherit: Inherit) {
        let bits = KNOWN | u8::from(inherit.group) | u8::from(inherit.acl) << 1;
        self.inherit.store(bits, Ordering::Release);
    }

    /// The directory's mode or ACL changed.
    pub(super) fn forget_inherit(&self) {
        self.inherit.store(0, Ordering::Release);
    }
}

/// The bounded table of open directories. The root is not in it: it is always open.
pub(super) struct Dirs<B: Backing> {
    map: RwLock<Table<NodeId, Arc<DirState<B>>>>,
    clock: AtomicU64,
    most: usize,
}

impl<B: Backing> Dirs<B> {
    pub(super) fn new(most: usize) -> Self {
        Self {
            map: RwLock::default(),
            clock: AtomicU64::new(0),
            most,
        }
    }

    pub(super) fn get(&self, node: NodeId) -> Option<Arc<DirState<B>>> {
        let dir = self.map.read().get(&node).cloned()?;
        dir.used.store(
            self.clock.fetch_add(1, Ordering::Relaxed),
            Ordering::Relaxed,
        );
        Some(dir)
    }

    /// Adds a directory; the longest unused ones go when there are too many. Gives the one that
    /// is in the table now.
    pub(super) fn add(&self, dir: DirState<B>) -> Arc<DirState<B>> {
        let mut map = self.map.write();
        if map.len() >= self.most {
            let mut ages: Vec<u64> = map
                .values()
                .map(|dir| dir.used.load(Ordering::Relaxed))
                .collect();
            let middle = ages.len() / 4;
            let (_, &mut bound, _) = ages.select_nth_unstable(middle);
            map.retain(|_, dir| dir.used.load(Ordering::Relaxed) > bound);
        }
        dir.used.store(
            self.clock.fetch_add(1, Ordering::Relaxed),
            Ordering::Relaxed,
        );
        Arc::clone(map.entry(dir.node).or_insert_with(|| Arc::new(dir)))
    }

    pub(super) fn remove(&self, node: NodeId) {
        self.map.write().remove(&node);
    }

    pub(super) fn len(&self) -> usize {
        self.map.read().len()
    }
}
