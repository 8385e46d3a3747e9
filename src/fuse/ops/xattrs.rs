//! Operations on extended attributes.

use super::super::caller::{keeps_set_id, without_foreign_set_gid};
use super::{Errno, Ops};
use crate::volume::{Backing, Caller, NodeId, XattrMode};

const ACCESS_ACL: &[u8] = b"system.posix_acl_access";
const DEFAULT_ACL: &[u8] = b"system.posix_acl_default";
/// What ls -l asks of each file.
const LABEL: &[u8] = b"security.selinux";

/// Whether SELinux is at work in this kernel.
pub(super) fn has_selinux() -> bool {
    std::path::Path::new("/sys/fs/selinux").exists()
}

/// The answer to a request for an extended attribute, or for their names.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::fuse) enum XattrAnswer {
    /// Its length only, in bytes.
    Length(u32),
    /// Its bytes.
    Bytes(Vec<u8>),
}

impl XattrAnswer {
    /// `room`: what the caller's buffer takes; 0 asks for the length.
    fn new(bytes: Vec<u8>, room: u32) -> Result<Self, Errno> {
        let length = u32::try_from(bytes.len()).map_err(|_| Errno::RANGE)?;
        match room {
            0 => Ok(Self::Length(length)),
            room if length <= room => Ok(Self::Bytes(bytes)),
            _ => Err(Errno::RANGE),
        }
    }
}

impl<B: Backing> Ops<B> {
    /// A request about extended attributes. Where there are none, the kernel asks each of the four
    /// kinds once.
    fn run_xattr<T>(
        &self,
        operation: &'static str,
        body: impl FnOnce() -> Result<T, Errno>,
    ) -> Result<T, Errno> {
        if !self.xattrs {
            return Err(Errno::NOSYS);
        }
        self.run(operation, body)
    }

    pub(in crate::fuse) fn get_xattr(
        &self,
        node: NodeId,
        name: &[u8],
        room: u32,
    ) -> Result<XattrAnswer, Errno> {
        self.run_xattr("getxattr", || {
            let value = self.volume.get_xattr(node, name).map_err(|error| {
                match Errno::from(error) {
                    // No ACLs below: then there is none here. Any other answer to this question
                    // would fail every permission check.
                    Errno::OPNOTSUPP if name == ACCESS_ACL || name == DEFAULT_ACL => Errno::NODATA,
                    // As a filesystem without labels says it: ls(1) then asks of no other file, which
                    // is half of the requests of ls -lR. A label that is there is shown, also here.
                    Errno::NODATA if self.unlabelled && name == LABEL => Errno::OPNOTSUPP,
                    error => error,
                }
            })?;
            XattrAnswer::new(value, room)
        })
    }

    pub(in crate::fuse) fn list_xattr(
        &self,
        caller: &Caller,
        node: NodeId,
        room: u32,
    ) -> Result<XattrAnswer, Errno> {
        self.run_xattr("listxattr", || {
            let mut list = Vec::new();
            for name in self.volume.list_xattr(node)? {
                // Shown to the administrator only, as every filesystem has it; getxattr(2) is kept
                // from others by the kernel.
                if caller.uid != 0 && name.starts_with(b"trusted.") {
                    continue;
                }
                list.extend_from_slice(&name);
                list.push(0);
            }
            XattrAnswer::new(list, room)
        })
    }

    /// `flags` as in setxattr(2).
    pub(in crate::fuse) fn set_xattr(
        &self,
        caller: &Caller,
        node: NodeId,
        name: &[u8],
        value: &[u8],
        flags: i32,
    ) -> Result<(), Errno> {
        self.run_xattr("setxattr", || {
            let mode = match flags {
                0 => XattrMode::Any,
                libc::XATTR_CREATE => XattrMode::Create,
                libc::XATTR_REPLACE => XattrMode::Replace,
                _ => return Err(Errno::INVAL),
            };
            self.volume.set_xattr(node, name, value, mode)?;
            if name == ACCESS_ACL && !keeps_set_id(caller) {
                // The kernel would say so with SETXATTR_EXT, which can't be asked for.
                let attr = self.volume.getattr(node, None)?;
                let perm = without_foreign_set_gid(&attr, caller);
                self.set_perm(caller, node, None, attr, perm)?;
            }
            Ok(())
        })
    }

    pub(in crate::fuse) fn remove_xattr(&self, node: NodeId, name: &[u8]) -> Result<(), Errno> {
        self.run_xattr("removexattr", || {
            Ok(self.volume.remove_xattr(node, name)?)
        })
    }
}
