//! Operations on attributes.

use super::super::caller::{keeps_set_id, without_set_id};
use super::{Errno, GREATEST_OFFSET, Ops, contain};
use crate::volume::{Attr, Backing, Caller, HandleId, Kind, NodeId, SetAttr, SetTime, StatFs};

impl<B: Backing> Ops<B> {
    pub(in crate::fuse) fn getattr(
        &self,
        node: NodeId,
        handle: Option<HandleId>,
    ) -> Result<Attr, Errno> {
        self.run("getattr", || {
            Ok(self.shown(self.volume.getattr(node, handle)?))
        })
    }

    /// access(2) and chdir(2), where the kernel doesn't check permissions: in a mount of root's own. Root
    /// may run a file that somebody may run, and everything else.
    pub(in crate::fuse) fn access(&self, node: NodeId, mask: i32) -> Result<(), Errno> {
        self.run("access", || {
            if mask & libc::X_OK == 0 {
                return Ok(());
            }
            let attr = self.shown(self.volume.getattr(node, None)?);
            if attr.kind == Kind::File && attr.perm & 0o111 == 0 {
                return Err(Errno::ACCES);
            }
            Ok(())
        })
    }

    pub(in crate::fuse) fn setattr(
        &self,
        caller: &Caller,
        node: NodeId,
        handle: Option<HandleId>,
        set: &SetAttr,
    ) -> Result<Attr, Errno> {
        self.run("setattr", || {
            if set.size.is_some_and(|size| size > GREATEST_OFFSET) {
                return Err(Errno::FBIG);
            }
            if changes_nothing(set) {
                return Ok(self.shown(self.drop_set_id(caller, node, handle)?));
            }
            let unprivileged = !keeps_set_id(caller);
            let gives_away = set.uid.is_some() || set.gid.is_some();
            // The group that counts is the one before.
            let group = if unprivileged && gives_away {
                Some(self.volume.getattr(node, handle)?.gid)
            } else {
                None
            };
            let attr = self.volume.setattr(caller, node, handle, set)?;
            let cuts = set.size.is_some();
            if set.mode.is_none() && unprivileged && (cuts || gives_away) {
                let gid = group.unwrap_or(attr.gid);
                return Ok(self.shown(self.set_perm(
                    caller,
                    node,
                    handle,
                    attr,
                    without_set_id(&attr, caller, gid),
                )?));
            }
            Ok(self.shown(attr))
        })
    }

    /// A SETATTR that sets nothing. The kernel sends it for chown(-1, -1), and before a write by
    /// somebody who may not keep a file's set-id bits: clearing them was left to the filesystem by
    /// `HANDLE_KILLPRIV_V2`, and the answer tells the kernel the new mode.
    ///
    /// A change to the owner that is there already clears the bits below as any chown does.
    fn drop_set_id(
        &self,
        caller: &Caller,
        node: NodeId,
        handle: Option<HandleId>,
    ) -> Result<Attr, Errno> {
        let before = self.volume.getattr(node, handle)?;
        let same_owner = SetAttr {
            uid: Some(before.uid),
            ..SetAttr::default()
        };
        let attr = match self.volume.setattr(caller, node, handle, &same_owner) {
            Ok(attr) => attr,
            // Not root, and the file is somebody else's: then the system below clears the bits
            // when the write comes.
            Err(error) if Errno::from(&error) == Errno::PERM => before,
            Err(error) => return Err(error.into()),
        };
        self.set_perm(
            caller,
            node,
            handle,
            attr,
            without_set_id(&attr, caller, before.gid),
        )
    }

    pub(super) fn set_perm(
        &self,
        caller: &Caller,
        node: NodeId,
        handle: Option<HandleId>,
        attr: Attr,
        perm: u16,
    ) -> Result<Attr, Errno> {
        if perm == attr.perm {
            return Ok(attr);
        }
        let set = SetAttr {
            mode: Some(u32::from(perm)),
            ..SetAttr::default()
        };
        match self.volume.setattr(caller, node, handle, &set) {
            Err(error) if Errno::from(&error) == Errno::PERM => Ok(attr),
            result => Ok(result?),
        }
    }

    pub(in crate::fuse) fn statfs(&self) -> Result<StatFs, Errno> {
        // Whoever watches all filesystems must not keep this one from being idle.
        contain("statfs", || Ok(self.volume.statfs()?))
    }
}

fn changes_nothing(set: &SetAttr) -> bool {
    set.mode.is_none()
        && set.uid.is_none()
        && set.gid.is_none()
        && set.size.is_none()
        && matches!(set.atime, SetTime::Omit)
        && matches!(set.mtime, SetTime::Omit)
}
