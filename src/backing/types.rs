//! What the calls of [`Backing`] take and give.

use rustix::fs::FileType;

use super::{Backing, EntryName};

/// A point in time: seconds since 1970 (negative before), and nanoseconds after that second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time {
    /// Whole seconds since the epoch, rounded down.
    pub secs: i64,
    /// Nanoseconds since that second, below 10^9.
    pub nanos: u32,
}

/// What kind of thing an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Dir,
    /// A symbolic link.
    Symlink,
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
    /// A character device.
    CharDevice,
    /// A block device.
    BlockDevice,
}

impl Kind {
    /// By the type bits (`S_IFMT`) of a mode; None for a type that Linux doesn't have.
    pub fn from_mode(mode: u32) -> Option<Self> {
        Self::from_file_type(FileType::from_raw_mode(mode))
    }

    pub(super) fn from_file_type(kind: FileType) -> Option<Self> {
        Some(match kind {
            FileType::RegularFile => Self::File,
            FileType::Directory => Self::Dir,
            FileType::Symlink => Self::Symlink,
            FileType::Fifo => Self::Fifo,
            FileType::Socket => Self::Socket,
            FileType::CharacterDevice => Self::CharDevice,
            FileType::BlockDevice => Self::BlockDevice,
            FileType::Unknown => return None,
        })
    }

    /// The type bits for a mode.
    pub fn mode_bits(self) -> u32 {
        match self {
            Self::File => FileType::RegularFile,
            Self::Dir => FileType::Directory,
            Self::Symlink => FileType::Symlink,
            Self::Fifo => FileType::Fifo,
            Self::Socket => FileType::Socket,
            Self::CharDevice => FileType::CharacterDevice,
            Self::BlockDevice => FileType::BlockDevice,
        }
        .as_raw_mode()
    }
}

/// Attributes of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    /// The filesystem's device number, in Linux's encoding.
    pub dev: u64,
    /// Inode number.
    pub ino: u64,
    /// Type and permission bits.
    pub mode: u32,
    /// Number of names.
    pub nlink: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// The device that a device node stands for, in Linux's encoding.
    pub rdev: u64,
    /// Size in bytes.
    pub size: u64,
    /// Space in use, in units of 512 bytes.
    pub blocks: u64,
    /// The size of transfer that the filesystem likes, in bytes.
    pub blksize: u32,
    /// Last access.
    pub atime: Time,
    /// Last modification of the contents.
    pub mtime: Time,
    /// Last change of the attributes.
    pub ctime: Time,
    /// Creation; zero when the filesystem doesn't know it.
    pub btime: Time,
}

impl Stat {
    /// What kind of thing it is; None for a type that Linux doesn't have.
    pub fn kind(&self) -> Option<Kind> {
        Kind::from_mode(self.mode)
    }

    /// The permission bits (07777).
    pub fn permissions(&self) -> u32 {
        self.mode & 0o7777
    }
}

/// What to do with a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetTime {
    /// Leave it.
    Omit,
    /// The system's present time.
    Now,
    /// This time.
    At(Time),
}

/// How a file is opened. With neither, for reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenFile {
    /// For reading.
    pub read: bool,
    /// For writing.
    pub write: bool,
}

impl OpenFile {
    /// For reading only.
    pub const READ: Self = Self {
        read: true,
        write: false,
    };
    /// For reading and writing.
    pub const READ_WRITE: Self = Self {
        read: true,
        write: true,
    };
}

/// What [`Backing::allocate`] does with a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Allocate {
    /// Reserves space; extends the file when the range goes past its end.
    Reserve,
    /// Reserves space; the size stays.
    ReserveKeepSize,
    /// Makes a hole; the size stays.
    Punch,
}

/// What [`Backing::seek`] looks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seek {
    /// Bytes that are stored.
    Data,
    /// A hole, or the end of the file.
    Hole,
}

/// What [`Backing::rename`] does when the new name is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rename {
    /// Replaces what is there.
    Plain,
    /// Fails with `EEXIST`.
    NoReplace,
    /// Swaps the two; `ENOENT` when there is nothing to swap with.
    Exchange,
}

/// What [`Backing::set_xattr`] does when the attribute is, or isn't, there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum XattrMode {
    /// Sets it.
    Any,
    /// Fails with `EEXIST` when it is there.
    Create,
    /// Fails with `ENODATA` when it isn't.
    Replace,
}

/// What a call on attributes is about. The entry form never follows a symlink.
pub enum At<'a, B: Backing + ?Sized> {
    /// An entry, by name.
    Entry(&'a B::Dir, &'a EntryName),
    /// An open directory.
    Dir(&'a B::Dir),
    /// An open file.
    File(&'a B::File),
}

// Not derived: that would ask for `B: Copy`.
impl<B: Backing + ?Sized> Clone for At<'_, B> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<B: Backing + ?Sized> Copy for At<'_, B> {}

/// An entry of a directory, as the system lists it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RawEntry<'a> {
    /// Its name; `.` and `..` are listed too.
    pub name: &'a [u8],
    /// Its inode number.
    pub ino: u64,
    /// Its kind, where the filesystem lists that.
    pub kind: Option<Kind>,
    /// The position after it.
    pub next: u64,
}

/// Sizes of a filesystem.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StatFs {
    /// Bytes in the blocks that the next three count.
    pub block_size: u64,
    /// All blocks.
    pub blocks: u64,
    /// Free blocks.
    pub blocks_free: u64,
    /// Free blocks that an ordinary user may use.
    pub blocks_available: u64,
    /// All inodes.
    pub files: u64,
    /// Free inodes.
    pub files_free: u64,
    /// The longest name, in bytes.
    pub name_max: u64,
}
