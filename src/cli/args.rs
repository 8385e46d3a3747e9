//! The command line as one clap table: it gives the parser, the help, the man pages and the
//! completions.

use std::ffi::OsString;
use std::num::NonZeroU32;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use super::keystore::KeystoreCommand;
use super::kms::KmsCommand;
use super::unlock::KeystoreArgs;
use super::{exit, mount_opts};

/// A filesystem that encrypts a directory, with the key management of a cloud KMS
///
/// Each file has its own data key. The data key, wrapped by a customer master key (CMK), stands in
/// the file's header beside the ciphertext. CMKs live in a keystore, which a passphrase, a key file
/// or a systemd credential opens; they rotate without a byte of content being rewritten.
#[derive(Debug, Parser)]
#[command(
    name = "envelopefs",
    bin_name = "envelopefs",
    version,
    max_term_width = 100,
    propagate_version = true,
    after_long_help = exit::help()
)]
pub struct Cli {
    #[command(flatten)]
    pub keystore: KeystoreArgs,

    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make a volume in a directory
    ///
    /// Makes the directory and the keystore when they are missing. A directory that holds anything
    /// is refused.
    Init(InitArgs),

    /// Mount a volume
    ///
    /// Returns when the mount serves; a daemon stays behind it. Errors of the start are printed
    /// here, later ones go to the log.
    #[command(after_long_help = mount_opts::help())]
    Mount(MountArgs),

    /// Unmount a volume and wait until its daemon has written everything and is gone
    Umount(UmountArgs),

    /// Show the state of a volume, of a mount, or of all mounts
    Status(StatusArgs),

    /// Show what a cipher file says about itself: ids, format, keys, size, layout
    ///
    /// Needs no key: nothing is decrypted.
    Inspect(InspectArgs),

    /// Make new key material for the volume's CMK
    ///
    /// New files use the new material at once; older files stay readable with theirs. `envelopefs
    /// rewrap` moves them to the new one.
    Rotate(RotateArgs),

    /// Wrap the data key of every file anew, under the current material or another CMK
    ///
    /// Rewrites headers only, never content. It may be stopped at any time and run again.
    Rewrap(RewrapArgs),

    /// Read and verify everything in a volume
    ///
    /// Exit status 0: clean; 1: damage was found, and each damaged path is named.
    Fsck(FsckArgs),

    /// List a directory of a volume, without mounting it
    Ls(LsArgs),

    /// Write files of a volume to the standard output, without mounting it
    Cat(CatArgs),

    /// Copy files out of a volume, without mounting it
    #[command(override_usage = "envelopefs cp [OPTIONS] <CIPHERDIR> <PATH>... <DEST>")]
    Cp(CpArgs),

    /// Make and look after the keystore, where the CMKs live
    #[command(subcommand)]
    Keystore(KeystoreCommand),

    /// Manage and use CMKs: the operations of AWS KMS, with its flags and answers
    #[command(subcommand)]
    Kms(KmsCommand),

    /// Print the completions for a shell
    Completions(CompletionsArgs),

    /// Write the man pages into a directory
    #[command(hide = true)]
    Man(ManArgs),
}

#[derive(Debug, Args)]
pub struct InitArgs {
    /// The directory for the ciphertext: empty or missing
    #[arg(value_name = "CIPHERDIR")]
    pub cipher_dir: PathBuf,

    /// The CMK: a key id, an ARN or alias/NAME; without it the keystore's own key for volumes
    #[arg(long, value_name = "KEY")]
    pub key: Option<String>,

    /// Leave the names of files and directories in plaintext
    #[arg(long)]
    pub plaintext_names: bool,
}

#[derive(Debug, Args)]
pub struct MountArgs {
    /// The volume
    #[arg(value_name = "CIPHERDIR")]
    pub cipher_dir: PathBuf,

    /// Where its plaintext shall appear: a directory
    #[arg(value_name = "MOUNTPOINT")]
    pub mountpoint: PathBuf,

    /// Mount options, separated by commas; see below
    #[arg(short = 'o', value_name = "OPTIONS")]
    pub options: Vec<OsString>,

    /// Stay in the foreground and log to the standard error
    #[arg(short, long)]
    pub foreground: bool,

    /// Mount read only; may be done while another mount writes
    #[arg(short, long)]
    pub read_only: bool,

    /// Append the log to a file instead of sending it to syslog
    #[arg(long, value_name = "FILE")]
    pub log: Option<PathBuf>,

    /// Serve as the daemon that another `envelopefs mount` started
    #[arg(long, hide = true)]
    pub daemon_child: bool,
}

#[derive(Debug, Args)]
pub struct UmountArgs {
    /// The mount point
    #[arg(value_name = "MOUNTPOINT")]
    pub mountpoint: PathBuf,
}

#[derive(Debug, Args)]
pub struct StatusArgs {
    /// A volume or a mount point; without it all mounts are shown
    #[arg(value_name = "CIPHERDIR|MOUNTPOINT")]
    pub target: Option<PathBuf>,

    /// Answer in JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct InspectArgs {
    /// A file in a cipher directory
    #[arg(value_name = "FILE")]
    pub file: PathBuf,

    /// Answer in JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct RotateArgs {
    /// A volume or a mount point
    #[arg(value_name = "CIPHERDIR|MOUNTPOINT")]
    pub target: PathBuf,

    /// Answer in JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct RewrapArgs {
    /// A volume or a mount point
    #[arg(value_name = "CIPHERDIR|MOUNTPOINT")]
    pub target: PathBuf,

    /// Move the volume to this CMK: a key id, an ARN or alias/NAME
    #[arg(long, value_name = "KEY")]
    pub to_key: Option<String>,

    /// Count what would be done, and change nothing
    #[arg(long)]
    pub dry_run: bool,

    /// Rewrap at most this many files a second, so that others keep the disk
    #[arg(long, value_name = "FILES")]
    pub max_rate: Option<NonZeroU32>,

    /// Answer in JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct FsckArgs {
    /// The volume
    #[arg(value_name = "CIPHERDIR")]
    pub cipher_dir: PathBuf,

    /// Answer in JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct LsArgs {
    /// The volume
    #[arg(value_name = "CIPHERDIR")]
    pub cipher_dir: PathBuf,

    /// Paths in the volume; its root when none is given
    #[arg(value_name = "PATH")]
    pub paths: Vec<PathBuf>,

    /// Show mode, links, owner, size and time as well
    #[arg(short, long)]
    pub long: bool,

    /// Show names that begin with a dot as well
    #[arg(short, long)]
    pub all: bool,

    /// List subdirectories as well
    #[arg(short = 'R', long)]
    pub recursive: bool,
}

#[derive(Debug, Args)]
pub struct CatArgs {
    /// The volume
    #[arg(value_name = "CIPHERDIR")]
    pub cipher_dir: PathBuf,

    /// Files in the volume
    #[arg(value_name = "PATH", required = true)]
    pub paths: Vec<PathBuf>,
}

#[derive(Debug, Args)]
pub struct CpArgs {
    /// The volume
    #[arg(value_name = "CIPHERDIR")]
    pub cipher_dir: PathBuf,

    /// Paths in the volume, and last the destination outside it
    #[arg(value_name = "PATH", required = true, num_args = 2..)]
    pub paths: Vec<PathBuf>,

    /// Copy directories with all that is in them
    #[arg(short, long)]
    pub recursive: bool,

    /// Keep mode, owner, times and extended attributes
    #[arg(short, long)]
    pub preserve: bool,
}

#[derive(Debug, Args)]
pub struct CompletionsArgs {
    /// The shell
    #[arg(value_name = "SHELL", value_enum)]
    pub shell: clap_complete::Shell,
}

#[derive(Debug, Args)]
pub struct ManArgs {
    /// Where the pages go
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,
}

#[cfg(test)]
mod tests;
