//! The exit codes: one table that the program, `--help` and the man pages share.

use std::ffi::OsString;
use std::fmt;
use std::process::ExitCode;

use crate::format::FormatError;
use crate::fuse::FuseError;
use crate::kms::KmsError;
use crate::serve::ServeError;
use crate::volume::VolumeError;

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Done.
    Ok,
    /// Damage was found: a file, a name or a record is not what was written.
    Damage,
    /// The command line or a mount option is wrong.
    Usage,
    /// Anything that has no code of its own.
    Failure,
    /// The keystore doesn't open with what was given.
    WrongPassphrase,
    /// The key, its material or its alias is not in the keystore.
    NoSuchKey,
    /// The key is there, but its state forbids the use.
    KeyDisabled,
    /// Somebody else holds the volume or the mount point.
    Busy,
    /// This build, this kernel or this volume format can't do it.
    NotSupported,
    /// `kms`: the command line is wrong; AWS's code.
    AwsUsage,
    /// `kms`: the key manager refused the operation; AWS's code.
    AwsService,
}

/// Each code with the words that the manual gives it.
const TABLE: [(Exit, u8, &str); 11] = [
    (Exit::Ok, 0, "success"),
    (
        Exit::Damage,
        1,
        "damage was found in the volume; every damaged path is named",
    ),
    (
        Exit::Usage,
        2,
        "wrong usage: a command, flag or mount option that does not exist or fit",
    ),
    (
        Exit::Failure,
        3,
        "any other failure, such as an input/output error or missing permission",
    ),
    (
        Exit::WrongPassphrase,
        4,
        "wrong passphrase or key file: the keystore stays locked",
    ),
    (Exit::NoSuchKey, 5, "no such key or alias in the keystore"),
    (
        Exit::KeyDisabled,
        6,
        "the key is disabled or scheduled for deletion",
    ),
    (
        Exit::Busy,
        7,
        "the volume or the mount point is in use by somebody else",
    ),
    (
        Exit::NotSupported,
        8,
        "not supported by this build, kernel or volume format",
    ),
    (
        Exit::AwsUsage,
        252,
        "kms: wrong usage, as of the AWS command line",
    ),
    (
        Exit::AwsService,
        254,
        "kms: the key manager refused the operation, as of the AWS command line",
    ),
];

impl Exit {
    /// The number that the process returns.
    pub fn code(self) -> u8 {
        TABLE
            .iter()
            .find(|row| row.0 == self)
            .map_or(3, |row| row.1)
    }

    /// The exit that has this number; [`Exit::Failure`] for a number that is not in the table.
    pub fn from_code(code: u8) -> Self {
        TABLE
            .iter()
            .find(|row| row.1 == code)
            .map_or(Self::Failure, |row| row.0)
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// Number and meaning of every exit code, in order.
pub fn table() -> impl Iterator<Item = (u8, &'static str)> {
    TABLE.iter().map(|row| (row.1, row.2))
}

/// The table as `--help` shows it.
pub fn help() -> String {
    use std::fmt::Write;
    let mut text = String::from("Exit status:\n");
    for (code, meaning) in table() {
        let _ = writeln!(text, "  {code}  {meaning}");
    }
    text
}

/// An error of the command line itself, with the exit code that it asks for.
#[derive(Debug)]
pub struct Failure {
    /// How the process ends.
    pub exit: Exit,
    /// What went wrong and what to do.
    pub message: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

/// An error that ends the process with `exit`.
pub fn failure(exit: Exit, message: impl Into<String>) -> anyhow::Error {
    anyhow::Error::new(Failure {
        exit,
        message: message.into(),
    })
}

/// Wrong usage, exit code 2.
pub fn usage(message: impl Into<String>) -> anyhow::Error {
    failure(Exit::Usage, message)
}

/// The exit that a command line asks for which is not understood (or which asks for help): `kms`
/// has the code of the AWS command line.
pub fn of_command_line(error: &clap::Error, words: impl Iterator<Item = OsString>) -> Exit {
    if error.exit_code() == 0 {
        return Exit::Ok;
    }
    let mut words = words.skip_while(|word| word.to_string_lossy().starts_with('-'));
    // An option of the keystore may stand before the command, with its value.
    let is_kms = words.by_ref().take(3).any(|word| word == "kms");
    if is_kms { Exit::AwsUsage } else { Exit::Usage }
}

/// The exit that an error asks for: the first cause in the chain that has a code of its own.
pub fn of(error: &anyhow::Error) -> Exit {
    error.chain().find_map(of_cause).unwrap_or(Exit::Failure)
}

fn of_cause(cause: &(dyn std::error::Error + 'static)) -> Option<Exit> {
    if let Some(failure) = cause.downcast_ref::<Failure>() {
        return Some(failure.exit);
    }
    if let Some(error) = cause.downcast_ref::<KmsError>() {
        return of_kms(error);
    }
    if let Some(error) = cause.downcast_ref::<VolumeError>() {
        return of_volume(error);
    }
    if let Some(error) = cause.downcast_ref::<FuseError>() {
        return of_fuse(error);
    }
    if let Some(error) = cause.downcast_ref::<FormatError>() {
        return of_format(error);
    }
    if let Some(error) = cause.downcast_ref::<ServeError>() {
        return of_serve(error);
    }
    if let Some(io) = cause.downcast_ref::<std::io::Error>() {
        return of_io(io);
    }
    if let Some(errno) = cause.downcast_ref::<rustix::io::Errno>() {
        return of_io(&std::io::Error::from(*errno));
    }
    None
}

fn of_kms(error: &KmsError) -> Option<Exit> {
    Some(match error {
        error if error.is_material_missing() => Exit::NoSuchKey,
        KmsError::NotFound(_) => Exit::NoSuchKey,
        KmsError::Disabled { .. } => Exit::KeyDisabled,
        KmsError::WrongPassphrase { .. } | KmsError::Locked { .. } => Exit::WrongPassphrase,
        KmsError::Busy => Exit::Busy,
        KmsError::UnsupportedOperation(_) | KmsError::Version { .. } => Exit::NotSupported,
        KmsError::Damaged(_) | KmsError::InvalidCiphertext => Exit::Damage,
        KmsError::InvalidAliasName(_)
        | KmsError::InvalidArn(_)
        | KmsError::InvalidMarker
        | KmsError::Validation(_)
        | KmsError::BadProtector(_) => Exit::Usage,
        _ => return None,
    })
}

fn of_volume(error: &VolumeError) -> Option<Exit> {
    match error {
        VolumeError::Damaged { .. } => Some(Exit::Damage),
        VolumeError::Record { error, .. } => of_format(error),
        VolumeError::Key(error)
        | VolumeError::RecoveryKey(error)
        | VolumeError::Keys { main: error, .. } => of_kms(error),
        VolumeError::Busy { .. } => Some(Exit::Busy),
        VolumeError::Refused(_) => Some(Exit::Usage),
        VolumeError::NotSupported(_) => Some(Exit::NotSupported),
        VolumeError::Io(error) => of_io(error),
        _ => None,
    }
}

fn of_fuse(error: &FuseError) -> Option<Exit> {
    match error {
        FuseError::Busy { .. } | FuseError::Covered { .. } | FuseError::StillRunning { .. } => {
            Some(Exit::Busy)
        }
        FuseError::Device { .. } | FuseError::NoHelper { .. } => Some(Exit::NotSupported),
        FuseError::Option { .. } => Some(Exit::Usage),
        _ => None,
    }
}

fn of_serve(error: &ServeError) -> Option<Exit> {
    match error {
        ServeError::Nowhere | ServeError::NeedsTls(_) | ServeError::Certificate { .. } => {
            Some(Exit::Usage)
        }
        ServeError::NoTls => Some(Exit::NotSupported),
        ServeError::InUse(_) => Some(Exit::Busy),
        ServeError::Io { source, .. } => of_io(source),
    }
}

fn of_format(error: &FormatError) -> Option<Exit> {
    match error {
        // Not one of our files at all: nothing says that it was damaged.
        FormatError::Magic => None,
        FormatError::Version(_) | FormatError::Suite(_) | FormatError::Flags(_) => {
            Some(Exit::NotSupported)
        }
        FormatError::Short | FormatError::Malformed(_) | FormatError::Unauthentic => {
            Some(Exit::Damage)
        }
    }
}

fn of_io(error: &std::io::Error) -> Option<Exit> {
    match error.kind() {
        std::io::ErrorKind::Unsupported => Some(Exit::NotSupported),
        std::io::ErrorKind::ResourceBusy => Some(Exit::Busy),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
