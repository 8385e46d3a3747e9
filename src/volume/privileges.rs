//! What a file must lose when it is written to: setuid, setgid, file capabilities.

use std::sync::atomic::{AtomicU64, Ordering};

use super::Volume;
use super::error::Result;
use super::open_file::OpenFile;
use super::types::NodeId;
use crate::backing::{At, Backing};

/// The extended attribute that holds a file's capabilities.
pub(super) const CAPABILITY: &[u8] = b"security.capability";

/// Whether an open file is known to have no privileges: an odd number. Each change of its attributes
/// makes it the next even one.
pub(super) struct Privileges(AtomicU64);

impl Privileges {
    /// Of a file that was just made (`none`: without any), or opened.
    pub(super) fn new(none: bool) -> Self {
        Self(AtomicU64::new(u64::from(none)))
    }

    /// Whether it is known to have none.
    pub(super) fn are_none(&self) -> bool {
        self.0.load(Ordering::Acquire) & 1 == 1
    }

    /// Its mode, owner or attributes were changed.
    pub(super) fn changed(&self) {
        let next = |now: u64| Some((now | 1) + 1);
        let _ = self
            .0
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, next);
    }

    /// Takes them away by `take`, which tells whether none is left, unless there are none.
    fn take<E>(
        &self,
        take: impl FnOnce() -> std::result::Result<bool, E>,
    ) -> std::result::Result<(), E> {
        let before = self.0.load(Ordering::Acquire);
        if before & 1 == 0 && take()? {
            // Not if somebody gave it some meanwhile.
            let _ =
                self.0
                    .compare_exchange(before, before | 1, Ordering::AcqRel, Ordering::Acquire);
        }
        Ok(())
    }
}

impl<B: Backing> Volume<B> {
    /// Drops setuid and setgid bits (when `kill`) and file capabilities, as a write must.
    pub(super) fn drop_privileges(&self, file: &OpenFile<B>, kill: bool) -> Result<()> {
        file.privileges.take(|| {
            let mode = self.backing.stat_file(file.file())?.mode;
            let group_exec = mode & 0o2010 == 0o2010;
            let drop = (mode & 0o4000) | if group_exec { 0o2000 } else { 0 };
            if drop != 0 && kill {
                self.backing
                    .set_mode(At::File(file.file()), mode & 0o7777 & !drop)?;
            }
            let stored = self.names.xattr_name(CAPABILITY)?.stored;
            // Mostly there is nothing to remove; who may not remove it could not have set it here.
            let _ = self.backing.remove_xattr(At::File(file.file()), &stored);
            Ok(drop == 0 || kill)
        })
    }

    /// Whether a file is open and known to have no capabilities. The kernel asks before it changes an
    /// owner: with tar(1), once for each file.
    pub(super) fn has_no_capability(&self, node: NodeId) -> bool {
        self.files
            .of_node(node)
            .is_some_and(|file| file.privileges.are_none())
    }
}

#[cfg(test)]
mod tests;
