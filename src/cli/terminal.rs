//! Asks on the terminal, with the echo off for secrets.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::AsFd;

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use zeroize::{Zeroize, Zeroizing};

use crate::secret::SecretText;

/// Longest passphrase that can be typed, in bytes.
const LINE_MAX: usize = 1024;

const CTRL_C: u8 = 3;
const CTRL_D: u8 = 4;
const BACKSPACE: u8 = 8;
const CTRL_U: u8 = 21;
const DELETE: u8 = 127;

/// The controlling terminal, whatever the standard streams are.
pub struct Terminal {
    tty: File,
}

/// Puts the terminal's modes back, on each way out.
struct Quiet<'a> {
    tty: &'a File,
    before: Termios,
}

impl Drop for Quiet<'_> {
    fn drop(&mut self) {
        // Nothing is left to try when the terminal has gone away.
        let _ = tcsetattr(self.tty.as_fd(), OptionalActions::Drain, &self.before);
    }
}

impl Terminal {
    /// Opens the controlling terminal; `None` when the process has none.
    pub fn open() -> Option<Self> {
        let tty = OpenOptions::new()
            .read(true)
            .write(true)
            .open("/dev/tty")
            .ok()?;
        Some(Self { tty })
    }

    /// Asks for one line with the echo off. The line is returned without its end, and may be empty.
    ///
    /// Keys that send signals are read as bytes while it waits, so that Ctrl-C can't leave the
    /// terminal without echo: it gives `Interrupted`.
    pub fn ask_secret(&mut self, prompt: &str) -> io::Result<SecretText> {
        let before = tcgetattr(self.tty.as_fd())?;
        let mut modes = before.clone();
        modes
            .local_modes
            .remove(LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG);
        let line = {
            let guard = Quiet {
                tty: &self.tty,
                before,
            };
            tcsetattr(guard.tty.as_fd(), OptionalActions::Drain, &modes)?;
            let mut tty = guard.tty;
            tty.write_all(prompt.as_bytes())?;
            read_secret_line(&mut tty)
        };
        (&self.tty).write_all(b"\n")?;
        line
    }
}

/// Reads up to the end of the line, with the editing keys that a terminal offers.
pub(super) fn read_secret_line(from: &mut impl Read) -> io::Result<SecretText> {
    // Full size from the start: a growing vector would leave copies behind.
    let mut line: SecretText = Zeroizing::new(Vec::with_capacity(LINE_MAX));
    let mut byte = [0u8; 1];
    loop {
        let got = match from.read(&mut byte) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            other => other?,
        };
        match byte[0] {
            _ if got == 0 => break,
            b'\n' | b'\r' => break,
            CTRL_D if line.is_empty() => break,
            CTRL_C => return Err(io::Error::new(io::ErrorKind::Interrupted, "cancelled")),
            CTRL_U => line.clear(),
            BACKSPACE | DELETE => erase_char(&mut line),
            other if line.len() < LINE_MAX => line.push(other),
            _ => {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidInput,
                    "the line is too long",
                ));
            }
        }
    }
    byte.zeroize();
    Ok(line)
}

/// Takes back the last character, all bytes of it in UTF-8.
fn erase_char(line: &mut Vec<u8>) {
    while line.pop().is_some_and(|byte| byte & 0xC0 == 0x80) {}
}

#[cfg(test)]
mod tests;
