//! Extended attributes: names and values encrypted; ACLs as they are, since the kernel and the
//! filesystem below act on them.

use super::Volume;
use super::error::{Result, VolumeError};
use super::privileges::CAPABILITY;
use super::types::{HandleId, NodeId};
use crate::backing::{Backing, XattrMode};

const ACL: [&[u8]; 2] = [b"system.posix_acl_access", b"system.posix_acl_default"];
const NAMESPACES: [&[u8]; 3] = [b"user.", b"trusted.", b"security."];

fn is_acl(name: &[u8]) -> bool {
    ACL.contains(&name)
}

fn check_namespace(name: &[u8]) -> Result<()> {
    if NAMESPACES
        .iter()
        .any(|space| name.len() > space.len() && name.starts_with(space))
    {
        Ok(())
    } else {
        Err(VolumeError::NotSupported(
            "this namespace of extended attributes",
        ))
    }
}

impl<B: Backing> Volume<B> {
    /// The value of an extended attribute.
    pub fn get_xattr(&self, node: NodeId, name: &[u8]) -> Result<Vec<u8>> {
        let none: Option<HandleId> = None;
        if is_acl(name) {
            return self.with_node(node, none, |at| {
                self.backing
                    .get_xattr(at, name)?
                    .ok_or(VolumeError::NoXattr)
            });
        }
        check_namespace(name)?;
        if name == CAPABILITY && self.has_no_capability(node) {
            return Err(VolumeError::NoXattr);
        }
        let stored = self.names.xattr_name(name)?;
        let value = self
            .with_node(node, none, |at| {
                Ok(self.backing.get_xattr(at, &stored.stored)?)
            })?
            .ok_or(VolumeError::NoXattr)?;
        Ok(self.names.open_xattr_value(name, &value)?)
    }

    /// Sets an extended attribute.
    pub fn set_xattr(
        &self,
        node: NodeId,
        name: &[u8],
        value: &[u8],
        mode: XattrMode,
    ) -> Result<()> {
        self.check_writable()?;
        let result = if is_acl(name) {
            self.with_node(node, None, |at| {
                Ok(self.backing.set_xattr(at, name, value, mode)?)
            })
        } else {
            check_namespace(name)?;
            let stored = self.names.xattr_name(name)?;
            let sealed = self.names.seal_xattr_value(name, value);
            self.with_node(node, None, |at| {
                Ok(self.backing.set_xattr(at, &stored.stored, &sealed, mode)?)
            })
        };
        self.inode_changed(node);
        result
    }

    /// The names of all extended attributes. Those that don't decrypt are left out.
    pub fn list_xattr(&self, node: NodeId) -> Result<Vec<Vec<u8>>> {
        self.with_node(node, None, |at| {
            let mut names = Vec::new();
            for stored in self.backing.list_xattr(at)? {
                if is_acl(&stored) {
                    names.push(stored);
                    continue;
                }
                let name = match self.names.open_xattr_name(&stored) {
                    Ok(Some(name)) => Some(name),
                    // A long name is in the value.
                    Ok(None) => self
                        .backing
                        .get_xattr(at, &stored)?
                        .and_then(|value| self.names.open_hashed_xattr(&stored, &value).ok())
                        .map(|(name, _)| name),
                    Err(_) => None,
                };
                names.extend(name);
            }
            Ok(names)
        })
    }

    /// Removes an extended attribute.
    pub fn remove_xattr(&self, node: NodeId, name: &[u8]) -> Result<()> {
        self.check_writable()?;
        let stored = if is_acl(name) {
            name.to_vec()
        } else {
            check_namespace(name)?;
            self.names.xattr_name(name)?.stored
        };
        let result = self.with_node(node, None, |at| {
            self.backing
                .remove_xattr(at, &stored)
                .map_err(|error| match error.raw_os_error() {
                    Some(libc::ENODATA) => VolumeError::NoXattr,
                    _ => error.into(),
                })
        });
        self.inode_changed(node);
        result
    }
}
