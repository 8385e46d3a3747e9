//! The daemon behind a mount: how it is started, how it tells that it serves, how it detaches.
//!
//! The command runs its own executable again (`mount --daemon-child`) and waits for word on a pipe,
//! which is the child's standard output. Until that word the child has the command's standard
//! error and terminal: it can ask for a passphrase, and its errors are the command's errors. A new
//! program instead of a fork: nothing is shared with a half-copied process.

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io::{Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

use super::exit::{Exit, failure};

/// The word on the pipe: the mount serves, and the child needs the terminal no more.
const READY: &[u8] = b"ready\n";
/// This program, whatever happened to its file.
const SELF: &str = "/proc/self/exe";
/// The name by which ps(1) shows it; not that of a mount helper, which would take other arguments.
const NAME: &str = "envelopefs";

/// Starts the daemon with these arguments and returns when its mount serves.
///
/// Otherwise the daemon has printed its error, and its exit is returned.
pub fn start(arguments: &[OsString]) -> Result<Exit> {
    let mut command = Command::new(SELF);
    command.arg0(NAME).args(arguments);
    wait_for(command)
}

fn wait_for(mut command: Command) -> Result<Exit> {
    let mut child = command
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("starting the daemon ({SELF})"))?;
    let mut word = Vec::new();
    if let Some(pipe) = child.stdout.take() {
        pipe.take(READY.len() as u64)
            .read_to_end(&mut word)
            .context("waiting for the daemon")?;
    }
    if word == READY {
        return Ok(Exit::Ok);
    }
    let status = child.wait().context("waiting for the daemon")?;
    match (status.code(), status.signal()) {
        // It left before it served and said nothing: no success for the one who waits.
        (Some(0), _) => Err(failure(
            Exit::Failure,
            "the daemon ended before the mount served",
        )),
        (Some(code), _) => Ok(u8::try_from(code).map_or(Exit::Failure, Exit::from_code)),
        (None, signal) => {
            let signal = signal
                .map(|number| format!(" by signal {number}"))
                .unwrap_or_default();
            Err(failure(
                Exit::Failure,
                format!("the daemon was killed{signal} at its start"),
            ))
        }
    }
}

/// The daemon's side: cuts every tie to the command that started it, then tells it to return.
///
/// # Errors
/// When the command has gone meanwhile; nobody knows of the mount then, and it is to be undone.
pub fn detach() -> Result<()> {
    // Fails only when this process leads a group already; then it has its own session to begin with.
    let _ = rustix::process::setsid();
    rustix::process::chdir(Path::new("/")).context("leaving the current directory")?;
    let null = OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/null")
        .context("opening /dev/null")?;
    rustix::stdio::dup2_stdin(&null).context("closing the standard input")?;
    rustix::stdio::dup2_stderr(&null).context("closing the standard error")?;
    let mut pipe = std::io::stdout();
    pipe.write_all(READY)
        .and_then(|()| pipe.flush())
        .context("telling that the mount serves")?;
    rustix::stdio::dup2_stdout(&null).context("closing the standard output")?;
    Ok(())
}

#[cfg(test)]
mod tests;
