//! What can go wrong, in the words of AWS KMS where it has one.

use std::path::PathBuf;

use super::id::KeyId;

/// The room's result.
pub type Result<T> = std::result::Result<T, KmsError>;

/// Why a key operation or the keystore failed.
#[derive(Debug, thiserror::Error)]
pub enum KmsError {
    /// No key, alias or protector of that name.
    #[error("{0}")]
    NotFound(String),
    /// A ciphertext names a key that this keystore does not have.
    #[error(
        "the ciphertext refers to key {key}, which does not exist in this keystore \
         (is this the keystore that the data was encrypted with?)"
    )]
    KeyMissing {
        /// The key that the ciphertext names.
        key: KeyId,
    },
    /// The alias is taken.
    #[error("{0}")]
    AlreadyExists(String),
    /// The key is disabled.
    #[error("{arn} is disabled")]
    Disabled {
        /// The key's ARN.
        arn: String,
    },
    /// The ciphertext was changed, was made under another encryption context, or is none.
    #[error("the ciphertext is damaged, or belongs to another encryption context")]
    InvalidCiphertext,
    /// The ciphertext was made under another key than the one given.
    #[error("the ciphertext was made under {actual}, not under {given}")]
    IncorrectKey {
        /// The ARN of the ciphertext's key.
        actual: String,
        /// The ARN of the key given.
        given: String,
    },
    /// An alias name outside the rules.
    #[error("{0}")]
    InvalidAliasName(String),
    /// An ARN that can't be read.
    #[error("{0}")]
    InvalidArn(String),
    /// A marker that no listing gave.
    #[error("the marker is not one that this listing returned")]
    InvalidMarker,
    /// A parameter out of range.
    #[error("{0}")]
    Validation(String),
    /// The key exists, but not for this caller or purpose.
    #[error("{0}")]
    AccessDenied(String),
    /// A quota is used up.
    #[error("{0}")]
    LimitExceeded(String),
    /// Not for this kind of key, or not in this version.
    #[error("{0}")]
    UnsupportedOperation(String),

    /// There is no keystore in the directory.
    #[error("there is no keystore in {} (make one: envelopefs keystore init)", .dir.display())]
    NoKeystore {
        /// The directory looked in.
        dir: PathBuf,
    },
    /// There is a keystore already.
    #[error("{} holds a keystore already", .dir.display())]
    KeystoreExists {
        /// The keystore's directory.
        dir: PathBuf,
    },
    /// Neither passphrase nor key file was given.
    #[error("the keystore in {} needs a passphrase or a key file to open", .dir.display())]
    Locked {
        /// The keystore's directory.
        dir: PathBuf,
    },
    /// None of the passphrases and key files given opens the keystore.
    #[error("wrong passphrase or key file for the keystore in {}", .dir.display())]
    WrongPassphrase {
        /// The keystore's directory.
        dir: PathBuf,
    },
    /// A passphrase or key file that can't serve as a protector.
    #[error("{0}")]
    BadProtector(String),
    /// The last protector can't be removed: nothing could open the keystore then.
    #[error("this is the keystore's only protector; add another one before removing it")]
    LastProtector,
    /// The keystore's directory can be written by others.
    #[error(
        "{} can be written by other users (mode {mode:o}); a keystore needs a directory of its own",
        .dir.display()
    )]
    NotPrivate {
        /// The directory.
        dir: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The keystore was written by another version of the program.
    #[error("{} is no keystore of this version: {reason}", .path.display())]
    Version {
        /// The database file.
        path: PathBuf,
        /// What differs.
        reason: String,
    },
    /// Something in the keystore is not as this program writes it.
    #[error("the keystore is damaged: {0}")]
    Damaged(String),
    /// Another process held the keystore for too long.
    #[error("the keystore is busy: another process has been writing to it for too long")]
    Busy,
    /// A system call on the keystore's files failed.
    #[error("{action} {}: {source}", .path.display())]
    Io {
        /// What was being done.
        action: &'static str,
        /// To which file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The database failed.
    #[error("the keystore's database failed: {0}")]
    Database(rusqlite::Error),
}

impl KmsError {
    /// The exception's name in AWS KMS. What concerns the keystore itself, which AWS never shows,
    /// is `KMSInternalException`.
    pub fn aws_name(&self) -> &'static str {
        match self {
            Self::NotFound(_) => "NotFoundException",
            // AWS does not tell a missing key from a forbidden one here.
            Self::KeyMissing { .. } | Self::AccessDenied(_) => "AccessDeniedException",
            Self::AlreadyExists(_) => "AlreadyExistsException",
            Self::Disabled { .. } => "DisabledException",
            Self::InvalidCiphertext => "InvalidCiphertextException",
            Self::IncorrectKey { .. } => "IncorrectKeyException",
            Self::InvalidAliasName(_) => "InvalidAliasNameException",
            Self::InvalidArn(_) => "InvalidArnException",
            Self::InvalidMarker => "InvalidMarkerException",
            Self::Validation(_) => "ValidationException",
            Self::LimitExceeded(_) => "LimitExceededException",
            Self::UnsupportedOperation(_) => "UnsupportedOperationException",
            Self::Busy => "DependencyTimeoutException",
            Self::NoKeystore { .. }
            | Self::KeystoreExists { .. }
            | Self::Locked { .. }
            | Self::WrongPassphrase { .. }
            | Self::BadProtector(_)
            | Self::LastProtector
            | Self::NotPrivate { .. }
            | Self::Version { .. }
            | Self::Damaged(_)
            | Self::Io { .. }
            | Self::Database(_) => "KMSInternalException",
        }
    }

    /// Adds what was being done to an I/O error.
    pub(super) fn io(
        action: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io {
            action,
            path,
            source,
        }
    }
}

impl From<rusqlite::Error> for KmsError {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(rusqlite::ErrorCode::DatabaseBusy | rusqlite::ErrorCode::DatabaseLocked) => {
                Self::Busy
            }
            _ => Self::Database(error),
        }
    }
}
