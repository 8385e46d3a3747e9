//! `ls`: lists directories of a volume that is not mounted.

use std::ffi::OsStr;
use std::io::{self, IsTerminal, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::args::LsArgs;
use super::exit::{self, Exit};
use super::output::{STDOUT, error_line, printable};
use super::reader::{Entry, Reader};
use super::unlock::KeystoreArgs;
use crate::backing::{Kind, Time};
use crate::volume::Attr;

/// Lists.
pub fn run(args: &LsArgs, keystore: &KeystoreArgs) -> Result<Exit> {
    let reader = Reader::open(&args.cipher_dir, keystore, "ls")?;
    let out = io::stdout();
    let terminal = out.is_terminal();
    let mut lister = Lister {
        reader: &reader,
        args,
        out: io::BufWriter::new(out.lock()),
        terminal,
        worst: Exit::Ok,
    };
    let root = [PathBuf::from("/")];
    let paths = if args.paths.is_empty() {
        &root[..]
    } else {
        &args.paths
    };
    let titled = paths.len() > 1 || args.recursive;
    for path in paths {
        lister.path(path, titled)?;
    }
    lister.out.flush().context(STDOUT)?;
    Ok(lister.worst)
}

struct Lister<'a, W: Write> {
    reader: &'a Reader,
    args: &'a LsArgs,
    out: W,
    terminal: bool,
    worst: Exit,
}

impl<W: Write> Lister<'_, W> {
    fn path(&mut self, path: &Path, titled: bool) -> Result<()> {
        let attr = match self.reader.find(path, true) {
            Ok(attr) => attr,
            Err(error) => {
                self.fail(&error);
                return Ok(());
            }
        };
        if attr.kind == Kind::Dir {
            return self.directory(path, &attr, titled);
        }
        let attr = self.reader.find(path, false)?;
        self.line(path.as_os_str(), &attr).context(STDOUT)
    }

    fn directory(&mut self, path: &Path, attr: &Attr, titled: bool) -> Result<()> {
        if titled {
            self.name(path.as_os_str()).context(STDOUT)?;
            self.out.write_all(b":\n").context(STDOUT)?;
        }
        let mut failures = Vec::new();
        let listed = self.reader.list(attr.ino, &mut |name, error| {
            failures.push(anyhow::Error::new(error).context(path.join(name).display().to_string()));
        });
        for failure in failures {
            self.fail(&failure);
        }
        let entries = match listed.with_context(|| path.display().to_string()) {
            Ok(entries) => entries,
            Err(error) => {
                self.fail(&error);
                return Ok(());
            }
        };
        let shown = |entry: &&Entry| self.args.all || !entry.name.as_bytes().starts_with(b".");
        let shown: Vec<&Entry> = entries.iter().filter(shown).collect();
        for entry in &shown {
            self.line(&entry.name, &entry.attr).context(STDOUT)?;
        }
        if self.args.recursive {
            for entry in shown.iter().filter(|entry| entry.attr.kind == Kind::Dir) {
                self.out.write_all(b"\n").context(STDOUT)?;
                self.directory(&path.join(&entry.name), &entry.attr, true)?;
            }
        }
        self.reader.forget(&entries);
        Ok(())
    }

    fn line(&mut self, name: &OsStr, attr: &Attr) -> io::Result<()> {
        if self.args.long {
            write!(self.out, "{} ", long(attr))?;
        }
        self.name(name)?;
        if self.args.long && attr.kind == Kind::Symlink {
            match self.reader.volume().readlink(attr.ino) {
                Ok(target) => {
                    self.out.write_all(b" -> ")?;
                    self.name(OsStr::from_bytes(&target))?;
                }
                Err(error) => {
                    let place = printable(name.as_bytes());
                    self.fail(&anyhow::Error::new(error).context(place));
                }
            }
        }
        self.out.write_all(b"\n")
    }

    /// A name as it is, but for a terminal, which it shall not steer.
    fn name(&mut self, name: &OsStr) -> io::Result<()> {
        if self.terminal {
            self.out.write_all(printable(name.as_bytes()).as_bytes())
        } else {
            self.out.write_all(name.as_bytes())
        }
    }

    fn fail(&mut self, error: &anyhow::Error) {
        eprintln!("envelopefs: {}", error_line(error));
        if self.worst == Exit::Ok {
            self.worst = exit::of(error);
        }
    }
}

/// Mode, links, owner, group, size (or device) and time of modification in UTC.
fn long(attr: &Attr) -> String {
    let size = match attr.kind {
        Kind::CharDevice | Kind::BlockDevice => {
            format!(
                "{},{}",
                rustix::fs::major(attr.rdev),
                rustix::fs::minor(attr.rdev)
            )
        }
        _ => attr.size.to_string(),
    };
    format!(
        "{} {:3} {:5} {:5} {:>12} {}",
        mode(attr),
        attr.nlink,
        attr.uid,
        attr.gid,
        size,
        date(attr.mtime)
    )
}

/// As `ls -l` writes it.
fn mode(attr: &Attr) -> String {
    let kind = match attr.kind {
        Kind::Dir => 'd',
        Kind::Symlink => 'l',
        Kind::Fifo => 'p',
        Kind::Socket => 's',
        Kind::CharDevice => 'c',
        Kind::BlockDevice => 'b',
        Kind::File => '-',
    };
    let perm = attr.perm;
    let mut text = String::with_capacity(10);
    text.push(kind);
    for (shift, special, set, unset) in [
        (6, 0o4000, 's', 'S'),
        (3, 0o2000, 's', 'S'),
        (0, 0o1000, 't', 'T'),
    ] {
        let bits = perm >> shift;
        text.push(if bits & 4 != 0 { 'r' } else { '-' });
        text.push(if bits & 2 != 0 { 'w' } else { '-' });
        text.push(match (perm & special != 0, bits & 1 != 0) {
            (false, false) => '-',
            (false, true) => 'x',
            (true, true) => set,
            (true, false) => unset,
        });
    }
    text
}

fn date(time: Time) -> String {
    let Ok(seconds) = u64::try_from(time.secs) else {
        return format!("@{}", time.secs);
    };
    let (year, month, day) = super::logging::civil_from_days(seconds / 86_400);
    let second = seconds % 86_400;
    let (hour, minute) = (second / 3600, second / 60 % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}")
}

#[cfg(test)]
mod tests;
