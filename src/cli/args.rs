//! The command line as one clap table: it gives the parser, the help, the man pages and the
//! completions.

use std::ffi::OsString;
use std::num::{NonZeroU32, NonZeroU64};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use super::audit::AuditCommand;
use super::keystore::KeystoreCommand;
use super::kms::KmsCommand;
use super::schedule::{self, Every};
use super::serve::ServeArgs;
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
    ///
    /// Sizes and times stay as they were, of the cipher files too. So a copy of the cipher directory that
    /// rsync keeps gets the new headers with `rsync --ignore-times` (and no more than those with
    /// --no-whole-file): without it, the copy goes on needing the older key material.
    Rewrap(RewrapArgs),

    /// Give every file a new data key and encrypt its content anew, in place
    ///
    /// For data keys that may have leaked: afterwards neither the header nor any block of a file can be
    /// opened with its old data key. Files may be open and written to meanwhile; sizes and times stay as
    /// users and backup tools see them. No space for a second copy of a file is needed.
    ///
    /// It may be stopped at any time, also by a crash. A file that was half done goes on at the block where
    /// it was, by the next run; --resume leaves those alone that were done.
    ///
    /// Names, symlink targets and extended attributes are not under data keys but under the volume's own
    /// key, which can't be replaced in place: if that one may have leaked, copy the files to a new volume.
    /// Copies of the cipher directory that were made before, such as backups, keep their old keys.
    #[command(name = "re-encrypt")]
    ReEncrypt(ReEncryptArgs),

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

    /// Let others use the keys: the protocol of AWS KMS over HTTP and a Unix socket
    ///
    /// The AWS command line and the AWS SDKs work with it (--endpoint-url).
    Serve(ServeArgs),

    /// Show the audit log: who used which key for what; verify that it is whole
    ///
    /// An operation is in the log before it is answered. What a volume did with a file's data key is there within
    /// 20 milliseconds, which a mount that is killed may take with it; these commands wait for that long first.
    #[command(subcommand)]
    Audit(AuditCommand),

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

    /// Count no files by the key material that they need
    ///
    /// Without this, the headers of all files of the TARGET are looked at, in the cipher directory itself
    /// and with no key: some seconds for a million files. The counts are those of `envelopefs rewrap
    /// --dry-run`. For those who ask often.
    #[arg(long)]
    pub no_census: bool,

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

    /// Rotate only when the current key material is at least this old: a number and h, d or w
    #[arg(long, value_name = "AGE", value_parser = schedule::age, conflicts_with = "every")]
    pub if_older: Option<Duration>,

    /// Have systemd rotate the key and rewrap the volume from now on, each time that the material is this
    /// old: a number of days or weeks (90d, 12w), or never
    ///
    /// Writes a timer and a service, named after the volume, and enables the timer: in /etc/systemd/system
    /// for root, in $XDG_CONFIG_HOME/systemd/user for others (`loginctl enable-linger` lets those run while
    /// the user is not logged in). The timer looks once a day. The service runs `envelopefs rotate
    /// --if-older` and `envelopefs rewrap` at the lowest priority, by the daemon if the volume is mounted.
    ///
    /// When it is not, the service opens the keystore with what is given now: the file of --passphrase-file
    /// is handed over as a systemd credential, --key-file is written into the unit. Neither secret is
    /// copied. `never` disables and removes the units.
    ///
    /// As in AWS, a customer-managed key can be rotated on demand some times only. Let such a key rotate by
    /// itself (`envelopefs kms enable-key-rotation`), and mount the volume with -o auto-rewrap.
    #[arg(long, value_name = "AGE|never", value_parser = schedule::every, conflicts_with = "json")]
    pub every: Option<Every>,

    /// With --every: the service rewraps at most this many files a second
    #[arg(long, value_name = "FILES", requires = "every")]
    pub max_rate: Option<NonZeroU32>,

    /// With --every: show the units, and write nothing
    #[arg(long, requires = "every")]
    pub print: bool,

    /// With --every: write the units into DIR (or remove them there), and don't call systemctl
    #[arg(long, value_name = "DIR", requires = "every", conflicts_with = "print")]
    pub units: Option<PathBuf>,

    /// Answer in JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct RewrapArgs {
    /// A volume or a mount point
    #[arg(value_name = "CIPHERDIR|MOUNTPOINT")]
    pub target: PathBuf,

    /// Files and directories in the volume; everything when none is given
    #[arg(value_name = "PATH")]
    pub paths: Vec<PathBuf>,

    /// Leave out what matches, and what is below it; may be given several times
    ///
    /// In a PATTERN, * stands for any text within a name, ? for one byte, ** for any text with slashes. One
    /// with a slash in it is compared with the path from the volume's root, one without with each name in it.
    ///
    /// A run that is limited by PATH or --exclude leaves the volume's own key alone, and does not count as
    /// complete: older key material may still be needed afterwards.
    #[arg(long, value_name = "PATTERN")]
    pub exclude: Vec<String>,

    /// Move the volume to this CMK: a key id, an ARN or alias/NAME; its recovery key becomes its own by this, too
    #[arg(long, value_name = "KEY")]
    pub to_key: Option<String>,

    /// Wrap everything under this CMK as well
    ///
    /// The data key of each file and the volume's own key get a second wrapping, files made from then on
    /// too. Whoever has only the recovery key can open the volume with it: when the volume's own CMK is
    /// disabled, deleted or lost. A copy of the recovery key in another keystore opens it there
    /// (`envelopefs kms create-key --multi-region`, `envelopefs keystore replica`).
    ///
    /// While the recovery key is disabled, no file can be made: it could not be recovered. And whoever has
    /// the recovery key in the same keystore is not cut off by disabling the volume's own CMK: disable both.
    #[arg(long, value_name = "KEY")]
    pub add_recovery_key: Option<String>,

    /// Wrap nothing under this CMK any more, and take it out of every header
    ///
    /// A key that is gone from the keystore is named by its id.
    #[arg(long, value_name = "KEY")]
    pub remove_recovery_key: Option<String>,

    /// Count what would be done, and change nothing
    ///
    /// The keystore notes what was counted: it is the proof that older key material is not needed any more,
    /// when nobody else could write meanwhile (see `envelopefs keystore retire`).
    #[arg(long)]
    pub dry_run: bool,

    /// Count first, and do nothing when everything is under the current material by what the headers say
    ///
    /// No data key is unwrapped for that. For runs by a clock.
    #[arg(long, conflicts_with_all = ["dry_run", "remove_recovery_key"])]
    pub if_needed: bool,
    /// Unwrap with an older copy of the keystore what the keystore has no key material for any more
    ///
    /// For files that came back from an old backup of the cipher directory, after the material that they
    /// need was destroyed: their data keys are wrapped anew under the keystore's own. Nothing is rotated
    /// or deleted in the copy; its audit log gets a record of each use. The volume must not be mounted.
    ///
    /// With --to-key it moves a volume from one keystore to a CMK in another: the keystore that has the
    /// volume so far is named here.
    #[arg(long, value_name = "PATH", conflicts_with = "dry_run")]
    pub from_keystore: Option<PathBuf>,

    /// Read the older keystore's passphrase from a file; the keystore's own unless given
    #[arg(long, value_name = "FILE", requires = "from_keystore")]
    pub from_passphrase_file: Option<PathBuf>,

    /// Open the older keystore with a key file; the keystore's own unless given
    #[arg(long, value_name = "FILE", requires = "from_keystore")]
    pub from_key_file: Option<PathBuf>,

    /// Rewrap at most this many files a second, so that others keep the disk
    #[arg(long, value_name = "FILES")]
    pub max_rate: Option<NonZeroU32>,

    /// Answer in JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct ReEncryptArgs {
    /// A volume or a mount point
    #[arg(value_name = "CIPHERDIR|MOUNTPOINT")]
    pub target: PathBuf,

    /// Files and directories in the volume; everything when none is given
    #[arg(value_name = "PATH")]
    pub paths: Vec<PathBuf>,

    /// Leave out what matches, and what is below it, as for `envelopefs rewrap`
    #[arg(long, value_name = "PATTERN")]
    pub exclude: Vec<String>,

    /// Go on with the run that was stopped: leave alone what it had finished
    #[arg(long)]
    pub resume: bool,

    /// Encrypt at most this many bytes a second, so that others keep the disk; K, M, G may follow
    #[arg(long, value_name = "BYTES", value_parser = bytes)]
    pub max_rate: Option<NonZeroU64>,

    /// Answer in JSON
    #[arg(long)]
    pub json: bool,
}

/// A number of bytes: digits, then K, M, G or T for powers of 1024.
fn bytes(text: &str) -> Result<NonZeroU64, String> {
    let units = [('K', 10), ('M', 20), ('G', 30), ('T', 40)];
    let unit = units
        .into_iter()
        .find(|(unit, _)| text.to_ascii_uppercase().ends_with(*unit));
    let (digits, shift) = match unit {
        Some((_, shift)) => (&text[..text.len() - 1], shift),
        None => (text, 0),
    };
    let number: u64 = digits
        .parse()
        .map_err(|_| "a number of bytes is expected, such as 500000, 200K or 50M".to_owned())?;
    number
        .checked_mul(1 << shift)
        .and_then(NonZeroU64::new)
        .ok_or_else(|| "the number is out of range".to_owned())
}

#[derive(Debug, Args)]
pub struct FsckArgs {
    /// The volume
    #[arg(value_name = "CIPHERDIR")]
    pub cipher_dir: PathBuf,

    /// Mend what can be mended without guessing; nothing is deleted
    ///
    /// Replays the journal, seals files that were open at a crash, moves entries whose names do not
    /// decrypt to lost+found with their content, and restores a lost directory id from its copy.
    #[arg(long)]
    pub repair: bool,

    /// Note in FILE what was found sound, and skip what a run before this one noted there
    ///
    /// A run that was interrupted goes on where it was. A file that changed since is read again.
    /// Keep FILE where only you can write.
    #[arg(long, value_name = "FILE")]
    pub resume: Option<PathBuf>,

    /// Threads that read and decrypt; the number of processors by default
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub threads: Option<u16>,

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
