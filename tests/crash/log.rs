//! The calls that change something, as they are recorded.
#![allow(dead_code)] // each test uses a part

use std::sync::Arc;

use super::disk::{Disk, Ino, Inode, Name, pieces};

/// One recorded call. Inodes are named by number, so that a call means the same whatever became of
/// those before it.
#[derive(Clone)]
pub enum Op {
    /// A new inode and its entry.
    Create {
        dir: Ino,
        name: Name,
        ino: Ino,
        inode: Arc<Inode>,
    },
    Link {
        dir: Ino,
        name: Name,
        ino: Ino,
    },
    /// Also of a directory.
    Unlink {
        dir: Ino,
        name: Name,
        ino: Ino,
    },
    /// `swapped` is what the new name stood for, when the two change places.
    Rename {
        from: (Ino, Name),
        to: (Ino, Name),
        ino: Ino,
        replaced: Option<Ino>,
        swapped: bool,
        directory: bool,
    },
    Write {
        ino: Ino,
        at: u64,
        data: Arc<[u8]>,
    },
    Truncate {
        ino: Ino,
        size: u64,
    },
    Punch {
        ino: Ino,
        at: u64,
        len: u64,
    },
    Reserve {
        ino: Ino,
        at: u64,
        len: u64,
        keep_size: bool,
    },
    /// Mode, owner and times as they are from then on.
    Attr {
        ino: Ino,
        attr: Arc<Inode>,
    },
    Xattr {
        ino: Ino,
        name: Name,
        value: Option<Arc<[u8]>>,
    },
    SyncFile {
        ino: Ino,
        data_only: bool,
    },
    SyncDir {
        ino: Ino,
    },
    SyncAll,
}

impl Op {
    /// Does to a disk what the call did. What is about an inode that isn't there does nothing.
    pub fn apply(&self, disk: &mut Disk) {
        match self {
            Self::Create {
                dir,
                name,
                ino,
                inode,
            } => {
                disk.insert_new(*ino, inode);
                disk.set_entry(*dir, name, Some(*ino));
            }
            Self::Link { dir, name, ino } => disk.set_entry(*dir, name, Some(*ino)),
            Self::Unlink { dir, name, ino } => {
                if disk.entry(*dir, name) == Some(*ino) {
                    disk.set_entry(*dir, name, None);
                }
            }
            Self::Rename {
                from,
                to,
                ino,
                replaced,
                swapped,
                ..
            } => {
                let other = replaced.filter(|_| *swapped);
                // The new name first: the inode is never without one.
                disk.set_entry(to.0, &to.1, Some(*ino));
                disk.set_entry(from.0, &from.1, other);
            }
            Self::Write { ino, at, data } => {
                if let Some(file) = disk.file_mut(*ino) {
                    pieces(*at, data.len(), |page, from, place, len| {
                        file.put(page, from, &data[place..place + len]);
                    });
                    file.size = file.size.max(at + data.len() as u64);
                }
            }
            Self::Truncate { ino, size } => {
                if let Some(file) = disk.file_mut(*ino) {
                    file.resize(*size);
                }
            }
            Self::Punch { ino, at, len } => {
                if let Some(file) = disk.file_mut(*ino) {
                    file.punch(*at, *len);
                }
            }
            Self::Reserve {
                ino,
                at,
                len,
                keep_size,
            } => {
                if let Some(file) = disk.file_mut(*ino) {
                    file.reserve(*at, *len);
                    if !keep_size {
                        file.size = file.size.max(at + len);
                    }
                }
            }
            Self::Attr { ino, attr } => {
                if let Some(inode) = disk.get_mut(*ino) {
                    inode.mode = attr.mode;
                    inode.uid = attr.uid;
                    inode.gid = attr.gid;
                    inode.atime = attr.atime;
                    inode.mtime = attr.mtime;
                }
            }
            Self::Xattr { ino, name, value } => {
                if let Some(inode) = disk.get_mut(*ino) {
                    match value {
                        Some(value) => inode.xattrs.insert(name.to_vec(), value.to_vec()),
                        None => inode.xattrs.remove(&name[..]),
                    };
                }
            }
            Self::SyncFile { .. } | Self::SyncDir { .. } | Self::SyncAll => {}
        }
    }

    /// The inode that the call is about; of a sync, the one that is synced.
    pub fn ino(&self) -> Option<Ino> {
        match self {
            Self::Create { ino, .. }
            | Self::Link { ino, .. }
            | Self::Unlink { ino, .. }
            | Self::Rename { ino, .. }
            | Self::Write { ino, .. }
            | Self::Truncate { ino, .. }
            | Self::Punch { ino, .. }
            | Self::Reserve { ino, .. }
            | Self::Attr { ino, .. }
            | Self::Xattr { ino, .. }
            | Self::SyncFile { ino, .. }
            | Self::SyncDir { ino } => Some(*ino),
            Self::SyncAll => None,
        }
    }

    /// Whether it is about the names of its inode.
    pub fn is_naming(&self) -> bool {
        matches!(
            self,
            Self::Create { .. } | Self::Link { .. } | Self::Unlink { .. } | Self::Rename { .. }
        )
    }

    /// The entries that it changes.
    pub fn entries(&self) -> impl Iterator<Item = (Ino, &Name)> {
        let (one, two) = match self {
            Self::Create { dir, name, .. }
            | Self::Link { dir, name, .. }
            | Self::Unlink { dir, name, .. } => (Some((*dir, name)), None),
            Self::Rename { from, to, .. } => (Some((from.0, &from.1)), Some((to.0, &to.1))),
            _ => (None, None),
        };
        one.into_iter().chain(two)
    }
}

impl std::fmt::Display for Op {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let text = |name: &Name| {
            let shown: String = String::from_utf8_lossy(name).chars().take(28).collect();
            shown
        };
        match self {
            Self::Create {
                dir,
                name,
                ino,
                inode,
            } => {
                let mode = inode.mode;
                write!(f, "create {ino} as {dir}/{} mode {mode:o}", text(name))
            }
            Self::Link { dir, name, ino } => write!(f, "link {ino} as {dir}/{}", text(name)),
            Self::Unlink { dir, name, ino } => write!(f, "unlink {ino} {dir}/{}", text(name)),
            Self::Rename {
                from,
                to,
                ino,
                replaced,
                swapped,
                ..
            } => write!(
                f,
                "rename {ino} {}/{} -> {}/{} replaces {replaced:?} swapped {swapped}",
                from.0,
                text(&from.1),
                to.0,
                text(&to.1)
            ),
            Self::Write { ino, at, data } => write!(f, "write {ino} {at}+{}", data.len()),
            Self::Truncate { ino, size } => write!(f, "truncate {ino} {size}"),
            Self::Punch { ino, at, len } => write!(f, "punch {ino} {at}+{len}"),
            Self::Reserve { ino, at, len, .. } => write!(f, "reserve {ino} {at}+{len}"),
            Self::Attr { ino, .. } => write!(f, "attributes {ino}"),
            Self::Xattr { ino, name, .. } => write!(f, "xattr {ino} {}", text(name)),
            Self::SyncFile { ino, data_only } => write!(f, "sync {ino} data_only {data_only}"),
            Self::SyncDir { ino } => write!(f, "sync directory {ino}"),
            Self::SyncAll => write!(f, "sync all"),
        }
    }
}
