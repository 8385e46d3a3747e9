//! What the kernel leaves to a filesystem to know about a caller.

use std::fs;

use crate::volume::{Attr, Caller, Kind};

const SET_UID: u16 = 0o4000;
const SET_GID: u16 = 0o2000;
const GROUP_EXECUTE: u16 = 0o0010;

/// Whether the caller may keep set-id bits where others lose them. The kernel goes by
/// `CAP_FSETID`; requests carry no capabilities, so root stands for it.
pub(super) fn keeps_set_id(caller: &Caller) -> bool {
    caller.uid == 0
}

/// Whether the caller is in a group. A process that can't be looked at (it is gone, or in another
/// PID namespace) is in its own group only.
pub(super) fn in_group(caller: &Caller, gid: u32) -> bool {
    caller.gid == gid
        || (caller.pid != 0
            && fs::read_to_string(format!("/proc/{}/status", caller.pid))
                .is_ok_and(|status| lists_group(&status, gid)))
}

fn lists_group(status: &str, gid: u32) -> bool {
    status
        .lines()
        .find_map(|line| line.strip_prefix("Groups:"))
        .is_some_and(|groups| {
            groups
                .split_ascii_whitespace()
                .any(|group| group.parse() == Ok(gid))
        })
}

/// The permission bits that are left when somebody writes to a file, cuts it, or changes its
/// owner: as `setattr_should_drop_suidgid` in Linux's `fs/attr.c` has it. `gid` is the file's
/// group before.
pub(super) fn without_set_id(attr: &Attr, caller: &Caller, gid: u32) -> u16 {
    if attr.kind == Kind::Dir || attr.perm & (SET_UID | SET_GID) == 0 {
        return attr.perm;
    }
    let mut drop = SET_UID;
    if attr.perm & GROUP_EXECUTE != 0 || !(keeps_set_id(caller) || in_group(caller, gid)) {
        drop |= SET_GID;
    }
    attr.perm & !drop
}

/// The permission bits that are left when somebody sets an access ACL (`posix_acl_update_mode`).
pub(super) fn without_foreign_set_gid(attr: &Attr, caller: &Caller) -> u16 {
    if attr.perm & SET_GID != 0 && !keeps_set_id(caller) && !in_group(caller, attr.gid) {
        attr.perm & !SET_GID
    } else {
        attr.perm
    }
}

#[cfg(test)]
mod tests;
