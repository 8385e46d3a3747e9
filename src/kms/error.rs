//! What can go wrong, in the words of AWS KMS where it has one.

use std::path::PathBuf;

use super::id::{KeyId, MaterialId};

/// The room's result.
pub type Result<T> = std::result::Result<T, KmsError>;

/// How the messages about missing key material begin.
const OF_MATERIAL: &str = "the ciphertext was made under key material ";

/// Why a key operation or the keystore failed.
#[derive(Debug, thiserror::Error)]
pub enum KmsError {
    /// No key, alias or protector of that name.
    #[error("{0}")]
    NotFound(String),
    /// A ciphertext names a key that this keystore does not have.
    #[error(
        "the ciphertext was made under key material {material} of key {key}, which does not exist in \
         this keystore (is this the keystore that the data was encrypted with?)"
    )]
    KeyMissing {
        /// The key that the ciphertext names.
        key: KeyId,
        /// The start of the material's id, in hexadecimal digits.
        material: String,
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
    /// Volumes need what was to be destroyed: which, what they lose, what to do.
    #[error("{0}")]
    StillNeeded(String),
    /// A ciphertext names a key material that was destroyed.
    #[error(
        "the ciphertext was made under key material {material} of {arn}, which was destroyed; with a \
         copy of the keystore that still has it, 'envelopefs rewrap --from-keystore' wraps a volume's \
         data keys anew"
    )]
    MaterialMissing {
        /// The key's ARN.
        arn: String,
        /// The material.
        material: MaterialId,
    },
    /// The key's state does not allow the operation.
    #[error("{0}")]
    InvalidState(String),
    /// The key is of another usage, or does not know the algorithm.
    #[error("{0}")]
    InvalidKeyUsage(String),
    /// The operation would have succeeded; it was a dry run.
    #[error("The request would have succeeded, but the DryRun option is set.")]
    DryRun,
    /// A grant token that this keystore did not give.
    #[error("The grant token is not valid.")]
    InvalidGrantToken,
    /// No grant of that id.
    #[error("{0}")]
    InvalidGrantId(String),
    /// Key material that isn't the one the key had before.
    #[error("{0}")]
    IncorrectKeyMaterial(String),
    /// The import token's time is over.
    #[error("The import token has expired.")]
    ExpiredImportToken,
    /// An import token of another key or wrapping key, or a changed one.
    #[error("The import token is not valid for this key and this key material.")]
    InvalidImportToken,
    /// A MAC that isn't the message's.
    #[error("The MAC does not match the message.")]
    InvalidMac,
    /// A signature that isn't the message's.
    #[error("The signature does not match the message.")]
    InvalidSignature,
    /// A key policy that can't be read, or that locks its author out.
    #[error("{0}")]
    MalformedPolicy(String),
    /// Tags outside the rules.
    #[error("{0}")]
    Tag(String),
    /// Something else is under way.
    #[error("{0}")]
    Conflict(String),
    /// There are no custom key stores here.
    #[error("{0}")]
    CustomKeyStoreNotFound(String),
    /// A request whose JSON is none, or has members of the wrong kind.
    #[error("{0}")]
    Serialization(String),
    /// No operation of that name.
    #[error("{0} is no operation of this service")]
    UnknownOperation(String),
    /// The operation could not be recorded, and so was refused.
    #[error("the operation was refused because it could not be recorded: {0}")]
    Unrecorded(String),
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
    /// The key manager of another process does not answer.
    #[error("no answer from the key manager on {}: {why} (is `envelopefs serve` running?)", .place.display())]
    Unreachable {
        /// Its socket.
        place: PathBuf,
        /// What was seen.
        why: String,
    },
    /// An exception of the key manager of another process that has no kind of its own here.
    #[error("{code}: {message}")]
    Remote {
        /// Its name.
        code: String,
        /// What it said.
        message: String,
    },
    /// The database failed.
    #[error("the keystore's database failed: {0}")]
    Database(rusqlite::Error),
}

impl KmsError {
    /// The exception's name in AWS KMS. What concerns the keystore itself, which AWS never shows,
    /// is `KMSInternalException`.
    pub fn code(&self) -> &'static str {
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
            Self::InvalidState(_) | Self::StillNeeded(_) | Self::MaterialMissing { .. } => {
                "KMSInvalidStateException"
            }
            Self::InvalidKeyUsage(_) => "InvalidKeyUsageException",
            Self::DryRun => "DryRunOperationException",
            Self::InvalidGrantToken => "InvalidGrantTokenException",
            Self::InvalidGrantId(_) => "InvalidGrantIdException",
            Self::IncorrectKeyMaterial(_) => "IncorrectKeyMaterialException",
            Self::ExpiredImportToken => "ExpiredImportTokenException",
            Self::InvalidImportToken => "InvalidImportTokenException",
            Self::InvalidMac => "KMSInvalidMacException",
            Self::InvalidSignature => "KMSInvalidSignatureException",
            Self::MalformedPolicy(_) => "MalformedPolicyDocumentException",
            Self::Tag(_) => "TagException",
            Self::Conflict(_) => "ConflictException",
            Self::CustomKeyStoreNotFound(_) => "CustomKeyStoreNotFoundException",
            Self::Serialization(_) => "SerializationException",
            Self::UnknownOperation(_) => "UnknownOperationException",
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
            | Self::Unrecorded(_)
            | Self::Io { .. }
            | Self::Unreachable { .. }
            | Self::Remote { .. }
            | Self::Database(_) => "KMSInternalException",
        }
    }

    /// The error behind an exception that another process answered.
    pub fn from_wire(code: &str, message: String) -> Self {
        // Behind a '#' where a namespace stands before it.
        match code.rsplit('#').next().unwrap_or(code) {
            "NotFoundException" => Self::NotFound(message),
            "AccessDeniedException" => Self::AccessDenied(message),
            "DisabledException" => Self::Disabled {
                arn: match message.strip_suffix(" is disabled") {
                    Some(arn) => arn.trim_end_matches('.').to_owned(),
                    None => message,
                },
            },
            "KMSInvalidStateException" => Self::InvalidState(message),
            "InvalidCiphertextException" => Self::InvalidCiphertext,
            "InvalidKeyUsageException" => Self::InvalidKeyUsage(message),
            "DryRunOperationException" => Self::DryRun,
            "LimitExceededException" => Self::LimitExceeded(message),
            "UnsupportedOperationException" => Self::UnsupportedOperation(message),
            "ValidationException" => Self::Validation(message),
            other => Self::Remote {
                code: other.to_owned(),
                message,
            },
        }
    }

    /// Whether a ciphertext can't be opened for want of its key material: another keystore may have
    /// it.
    pub fn is_material_missing(&self) -> bool {
        match self {
            Self::KeyMissing { .. } | Self::MaterialMissing { .. } => true,
            // As a key manager in another process says it.
            Self::InvalidState(message) | Self::AccessDenied(message) => {
                message.starts_with(OF_MATERIAL)
            }
            _ => false,
        }
    }

    /// The exception's message.
    pub fn message(&self) -> String {
        self.to_string()
    }

    /// The status of an HTTP answer with this exception.
    pub fn http_status(&self) -> u16 {
        match self.code() {
            "KMSInternalException" | "DependencyTimeoutException" => 500,
            _ => 400,
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
