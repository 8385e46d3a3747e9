//! What can go wrong in a volume, in plaintext terms.

use std::io;

use crate::content::ContentError;
use crate::format::{FormatError, VolumeId};
use crate::kms::KmsError;
use crate::names::NameError;

/// Why an operation on a volume failed.
#[derive(Debug, thiserror::Error)]
pub enum VolumeError {
    /// The cipher directory's filesystem refused (no space, quota, read-only, I/O error, ...).
    #[error("the cipher directory: {0}")]
    Io(io::Error),
    /// There is no entry by this name.
    #[error("no such file or directory")]
    NotFound,
    /// There is an entry by this name.
    #[error("the name exists")]
    Exists,
    /// A directory was expected.
    #[error("not a directory")]
    NotDirectory,
    /// Something other than a directory was expected.
    #[error("is a directory")]
    IsDirectory,
    /// The directory has entries.
    #[error("the directory is not empty")]
    NotEmpty,
    /// A name or a symlink's target is too long.
    #[error("the name is too long")]
    NameTooLong,
    /// What is stored fails authentication; nothing of it was handed out.
    #[error("{what} is damaged: {why}")]
    Damaged {
        /// The cipher file or name, and the place in it.
        what: String,
        /// What is wrong with it.
        why: String,
    },
    /// The key manager refused or failed.
    #[error(transparent)]
    Key(#[from] KmsError),
    /// Neither the volume's own CMK nor its recovery CMK opens.
    #[error("{main}; by the recovery key: {recovery}")]
    Keys {
        /// What the key manager says of the volume's own.
        main: KmsError,
        /// What it says of the recovery CMK.
        recovery: Box<KmsError>,
    },
    /// The volume's recovery CMK can't be used.
    #[error(
        "the volume's recovery key: {0} (`envelopefs rewrap --remove-recovery-key` does without it)"
    )]
    RecoveryKey(KmsError),
    /// What was asked for makes no sense for this volume: why.
    #[error("{0}")]
    Refused(String),
    /// The volume, or the handle, is for reading only.
    #[error("read-only")]
    ReadOnly,
    /// An argument has a value that the operation doesn't take.
    #[error("invalid argument: {0}")]
    Invalid(&'static str),
    /// The size is above what a file can have.
    #[error("the file would be too large")]
    FileTooLarge,
    /// No data, or no hole, behind the offset.
    #[error("no data behind the offset")]
    NoData,
    /// There is no extended attribute by this name.
    #[error("no such extended attribute")]
    NoXattr,
    /// The kernel asked about a file that is no more.
    #[error("the file is no more")]
    Stale,
    /// The handle isn't open, or not for this.
    #[error("not an open handle for this operation")]
    BadHandle,
    /// The operation can't be done here.
    #[error("not supported: {0}")]
    NotSupported(&'static str),
    /// Another filesystem is mounted inside the cipher directory.
    #[error("crosses into another filesystem")]
    CrossDevice,
    /// Someone else has the volume open for writing.
    #[error("the volume is in use by {holder}; unmount it there, or join with --read-only")]
    Busy {
        /// Who, as the lock file tells.
        holder: String,
    },
    /// The directory is no volume.
    #[error("{0} is not an envelopefs volume; make one with `envelopefs init`")]
    NoVolume(String),
    /// The directory can't become a volume.
    #[error("{0}")]
    CannotCreate(String),
    /// The volume record can't be read.
    #[error("the volume record of {volume}: {error}")]
    Record {
        /// Which volume, where that could be read.
        volume: String,
        /// What is wrong.
        error: FormatError,
    },
    /// A file of the data key's lifetime bound: 2^32 seals.
    #[error(
        "the data key of {0} has sealed 2^32 blocks; `envelopefs re-encrypt` gives it a new one"
    )]
    KeyWornOut(String),
}

/// The result of an operation on a volume.
pub type Result<T, E = VolumeError> = std::result::Result<T, E>;

impl From<io::Error> for VolumeError {
    fn from(error: io::Error) -> Self {
        match error.raw_os_error() {
            Some(libc::ENOENT) => Self::NotFound,
            Some(libc::EEXIST) => Self::Exists,
            Some(libc::ENOTDIR) => Self::NotDirectory,
            Some(libc::EISDIR) => Self::IsDirectory,
            Some(libc::ENOTEMPTY) => Self::NotEmpty,
            Some(libc::ENAMETOOLONG) => Self::NameTooLong,
            Some(libc::EXDEV) => Self::CrossDevice,
            Some(libc::EFBIG) => Self::FileTooLarge,
            _ => Self::Io(error),
        }
    }
}

impl From<NameError> for VolumeError {
    fn from(error: NameError) -> Self {
        match error {
            NameError::TooLong => Self::NameTooLong,
            NameError::Invalid => Self::Invalid("a name is not empty, has no NUL and no slash"),
            NameError::Namespace => Self::NotSupported("this namespace of extended attributes"),
            other => Self::Damaged {
                what: "a stored name".into(),
                why: other.to_string(),
            },
        }
    }
}

impl VolumeError {
    /// Whether a key material is missing that something was wrapped under: another keystore may have
    /// it.
    pub fn is_material_missing(&self) -> bool {
        matches!(
            self,
            Self::Key(error) | Self::Keys { main: error, .. } if error.is_material_missing()
        )
    }

    /// Whether what is stored is wrong.
    pub(super) fn is_damage(&self) -> bool {
        matches!(
            self,
            Self::Damaged { .. } | Self::Record { .. } | Self::Key(KmsError::InvalidCiphertext)
        )
    }

    /// A damaged place in a cipher file.
    pub(super) fn damaged(what: impl Into<String>, why: impl ToString) -> Self {
        Self::Damaged {
            what: what.into(),
            why: why.to_string(),
        }
    }

    /// This error of the volume's own CMK, and the one of the recovery CMK, which was tried next.
    pub(super) fn and_then_by_recovery(self, next: Self) -> Self {
        match (self, next) {
            (Self::Key(main), Self::Key(recovery)) => Self::Keys {
                main,
                recovery: Box::new(recovery),
            },
            (first, _) => first,
        }
    }

    /// Whether a key can't be used, which is the user's to mend, and no damage.
    pub(super) fn is_of_key(&self) -> bool {
        match self {
            Self::Key(error) | Self::RecoveryKey(error) | Self::Keys { main: error, .. } => {
                !matches!(error, KmsError::InvalidCiphertext)
            }
            _ => false,
        }
    }

    /// Out of range, from the arithmetic of offsets.
    pub(super) fn range(_: ContentError) -> Self {
        Self::FileTooLarge
    }

    /// The volume record of `volume` is wrong.
    pub(super) fn record(volume: Option<VolumeId>, error: FormatError) -> Self {
        let volume = volume.map_or_else(|| "an unknown volume".into(), |id| id.to_string());
        Self::Record { volume, error }
    }
}
