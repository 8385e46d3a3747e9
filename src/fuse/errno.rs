//! The one map from errors to errno.

use std::fmt;
use std::io;

use crate::volume::{KmsError, VolumeError};

/// An error number as the kernel takes it: 1 to 511.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Errno(i32);

impl Errno {
    /// Not a directory entry or node of this volume.
    pub const NOENT: Self = Self(libc::ENOENT);
    /// Something failed below, or inside.
    pub const IO: Self = Self(libc::EIO);
    /// A name that is taken.
    pub const EXIST: Self = Self(libc::EEXIST);
    /// A value out of range.
    pub const INVAL: Self = Self(libc::EINVAL);
    /// No space below.
    pub const NOSPC: Self = Self(libc::ENOSPC);
    /// No space below for this user.
    pub const DQUOT: Self = Self(libc::EDQUOT);
    /// Past the greatest file size.
    pub const FBIG: Self = Self(libc::EFBIG);
    /// Beyond the last data of a file.
    pub const NXIO: Self = Self(libc::ENXIO);
    /// An attribute that is not there.
    pub const NODATA: Self = Self(libc::ENODATA);
    /// A buffer that is too small for the answer.
    pub const RANGE: Self = Self(libc::ERANGE);
    /// Not supported for this file or in this way.
    pub const OPNOTSUPP: Self = Self(libc::EOPNOTSUPP);
    /// An ioctl that is not ours.
    pub const NOTTY: Self = Self(libc::ENOTTY);
    /// An answer that has no room in its frame.
    pub const MSGSIZE: Self = Self(libc::EMSGSIZE);
    /// A request that the kernel is not to send again.
    pub const NOSYS: Self = Self(libc::ENOSYS);
    /// What the kernel believes is out of date: it looks again.
    pub const STALE: Self = Self(libc::ESTALE);
    /// Against the permissions of a file.
    pub const ACCES: Self = Self(libc::EACCES);
    /// Not allowed to the process that asks.
    pub const PERM: Self = Self(libc::EPERM);

    /// The number.
    pub fn code(self) -> i32 {
        self.0
    }

    /// What came from a system call below.
    ///
    /// A number that the kernel would not take in an answer (it drops the answer then, and the
    /// caller waits for ever) becomes EIO. ENOSYS says "never send this request again" here, which
    /// a lower filesystem can't know: EOPNOTSUPP.
    fn from_io(error: &io::Error) -> Self {
        match error.raw_os_error() {
            Some(libc::ENOSYS) => Self::OPNOTSUPP,
            Some(code @ 1..=511) => Self(code),
            _ => Self::IO,
        }
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        io::Error::from_raw_os_error(self.0).fmt(f)
    }
}

impl From<&VolumeError> for Errno {
    fn from(error: &VolumeError) -> Self {
        Self(match error {
            VolumeError::Io(error) => return Self::from_io(error),
            VolumeError::Key(error)
            | VolumeError::RecoveryKey(error)
            | VolumeError::Keys { main: error, .. } => key_code(error),
            VolumeError::NotFound => libc::ENOENT,
            VolumeError::Exists => libc::EEXIST,
            VolumeError::NotDirectory => libc::ENOTDIR,
            VolumeError::IsDirectory => libc::EISDIR,
            VolumeError::NotEmpty => libc::ENOTEMPTY,
            VolumeError::NameTooLong => libc::ENAMETOOLONG,
            VolumeError::Damaged { .. } | VolumeError::Record { .. } => libc::EIO,
            VolumeError::ReadOnly => libc::EROFS,
            VolumeError::FileTooLarge => libc::EFBIG,
            VolumeError::NoData => libc::ENXIO,
            VolumeError::NoXattr => libc::ENODATA,
            VolumeError::Stale => libc::ESTALE,
            VolumeError::BadHandle => libc::EBADF,
            VolumeError::NotSupported(_) => libc::EOPNOTSUPP,
            VolumeError::CrossDevice => libc::EXDEV,
            VolumeError::Busy { .. } => libc::EBUSY,
            VolumeError::KeyWornOut(_) => libc::EKEYEXPIRED,
            // These don't come from an operation on an open volume.
            VolumeError::Invalid(_)
            | VolumeError::Refused(_)
            | VolumeError::NoVolume(_)
            | VolumeError::CannotCreate(_) => libc::EINVAL,
        })
    }
}

/// What the key manager said about a file's key.
fn key_code(error: &KmsError) -> i32 {
    match error {
        error if error.is_material_missing() => libc::ENOKEY,
        KmsError::Disabled { .. } | KmsError::InvalidState(_) => libc::EKEYREVOKED,
        KmsError::NotFound(_) => libc::ENOKEY,
        KmsError::AccessDenied(_) => libc::EACCES,
        // A wrapped key that doesn't unwrap, a keystore that can't be read, ...
        _ => libc::EIO,
    }
}

impl From<VolumeError> for Errno {
    fn from(error: VolumeError) -> Self {
        Self::from(&error)
    }
}
