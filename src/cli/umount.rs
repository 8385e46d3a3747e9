//! `umount`: unmounts, and waits until the daemon has written everything and is gone.

use std::io;
use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

use anyhow::{Context, Result};

use super::args::UmountArgs;
use super::exit::{Exit, failure};
use crate::fuse::control;
use crate::fuse::mountpoint::{self, MountEntry};

/// After so long a word is printed: the daemon may have much to write.
const WORD_AFTER: Duration = Duration::from_secs(5);
/// After so long the command gives up waiting; the daemon does not.
const PATIENCE: Duration = Duration::from_secs(3600);

/// Unmounts.
pub fn run(args: &UmountArgs) -> Result<Exit> {
    check_ours(&args.mountpoint)?;
    // Dropping the sender ends the thread's wait.
    let (done, waiting) = mpsc::channel::<()>();
    let word = std::thread::spawn(move || {
        if waiting.recv_timeout(WORD_AFTER) == Err(mpsc::RecvTimeoutError::Timeout) {
            eprintln!("envelopefs: waiting for the daemon to write everything to disk");
        }
    });
    let result = mountpoint::unmount_and_wait(&args.mountpoint, PATIENCE);
    drop(done);
    // It prints or it does not.
    let _ = word.join();
    result?;
    Ok(Exit::Ok)
}

/// Refuses what is no mount of this program: root could take away any mount with this command.
pub fn check_ours(path: &Path) -> Result<()> {
    let shown = path.display();
    let Some(entry) = mountpoint::find(path).with_context(|| shown.to_string())? else {
        let message = format!("{shown}: nothing is mounted here");
        return Err(failure(Exit::Failure, message));
    };
    if is_ours(&entry, path) {
        return Ok(());
    }
    let message = format!(
        "{shown}: a mount of type {}, not one of envelopefs",
        entry.fs_type
    );
    Err(failure(Exit::Failure, message))
}

/// Whether a mount is one of this program.
///
/// By its type, unless `subtype=` hides it; then its daemon has to answer.
pub fn is_ours(entry: &MountEntry, path: &Path) -> bool {
    match entry.fs_type.as_str() {
        OUR_TYPE => true,
        other if other == "fuse" || other.starts_with("fuse.") => answers(path),
        _ => false,
    }
}

/// The type of our mounts, unless `subtype=` says otherwise.
const OUR_TYPE: &str = "fuse.envelopefs";

fn answers(path: &Path) -> bool {
    match control::server_pid(path) {
        Ok(_) => true,
        // Dead: whose it was can't be told any more, but it is of no use to anybody.
        Err(error) => error.kind() == io::ErrorKind::NotConnected,
    }
}
