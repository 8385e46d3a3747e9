//! What the operations of a volume take and give.

use crate::backing::{Kind, SetTime, Time};

/// A file, directory or other inode, by the number that users see as `st_ino`: the lower inode
/// number; [`NodeId::ROOT`] for the root.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct NodeId(pub u64);

impl NodeId {
    /// The root of the volume.
    pub const ROOT: Self = Self(1);
}

/// An open file, as [`super::Volume::open`] gave it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct HandleId(pub u64);

/// Who asks.
#[derive(Clone, Copy, Debug)]
pub struct Caller {
    /// Effective user id (for filesystem access).
    pub uid: u32,
    /// Effective group id.
    pub gid: u32,
    /// Process id; 0 when the kernel itself asks.
    pub pid: u32,
}

/// The attributes of a node, in plaintext terms.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Attr {
    /// Its number.
    pub ino: NodeId,
    /// Tells apart two inodes that had the same number one after the other.
    pub generation: u64,
    /// Its type.
    pub kind: Kind,
    /// Permission bits, 07777.
    pub perm: u16,
    /// Hard links.
    pub nlink: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Device number of a device node.
    pub rdev: u64,
    /// Plaintext bytes.
    pub size: u64,
    /// 512-byte units that the cipher file takes.
    pub blocks: u64,
    /// Preferred I/O size.
    pub blksize: u32,
    /// Last access.
    pub atime: Time,
    /// Last change of the contents.
    pub mtime: Time,
    /// Last change of the inode.
    pub ctime: Time,
}

/// What to change of a node's attributes; None leaves one as it is.
#[derive(Clone, Copy, Debug)]
pub struct SetAttr {
    /// Permission bits.
    pub mode: Option<u32>,
    /// Owner.
    pub uid: Option<u32>,
    /// Group.
    pub gid: Option<u32>,
    /// Size in bytes.
    pub size: Option<u64>,
    /// Time of last access.
    pub atime: SetTime,
    /// Time of last modification.
    pub mtime: SetTime,
}

impl Default for SetAttr {
    fn default() -> Self {
        Self {
            mode: None,
            uid: None,
            gid: None,
            size: None,
            atime: SetTime::Omit,
            mtime: SetTime::Omit,
        }
    }
}

/// How a file is opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct OpenMode {
    /// For reading.
    pub read: bool,
    /// For writing.
    pub write: bool,
    /// Cut to nothing on opening.
    pub truncate: bool,
}

impl OpenMode {
    /// For reading only.
    pub const READ: Self = Self {
        read: true,
        write: false,
        truncate: false,
    };
    /// For reading and writing.
    pub const READ_WRITE: Self = Self {
        read: true,
        write: true,
        truncate: false,
    };
}

/// What fallocate(2) asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FallocateMode {
    /// Reserve space; the file grows.
    Allocate,
    /// Reserve space; the size stays.
    AllocateKeepSize,
    /// Make a hole; the size stays.
    PunchHole,
    /// Make zeros; the file grows.
    ZeroRange,
    /// Make zeros; the size stays.
    ZeroRangeKeepSize,
}

/// One entry of a directory listing.
#[derive(Clone, Copy, Debug)]
pub struct DirEntry<'a> {
    /// Plaintext name; `.` and `..` are among them.
    pub name: &'a [u8],
    /// Its inode.
    pub ino: NodeId,
    /// Its type.
    pub kind: Kind,
    /// The offset that goes on behind it.
    pub next: u64,
}
