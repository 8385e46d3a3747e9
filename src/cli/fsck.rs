//! `fsck`: reads and verifies everything in a volume, and mends what can be mended.

use std::collections::HashSet;
use std::fmt::Write;
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, BufWriter, Write as _};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};
use parking_lot::Mutex;

use super::args::FsckArgs;
use super::exit::{Exit, failure};
use super::open::{Opening, only_readable};
use super::output;
use super::progress::Bar;
use super::target::{self, Target};
use super::unlock::{self, KeystoreArgs};
use crate::kms::Kms;
use crate::maintain::Progress;
use crate::maintain::fsck::{self, Damage, FsckOptions, FsckReport, Memory, Sound};

/// Verifies.
pub fn run(args: &FsckArgs, keystore: &KeystoreArgs) -> Result<Exit> {
    let cipher_dir = match target::resolve(&args.cipher_dir)? {
        Target::Unmounted(cipher_dir) => cipher_dir,
        Target::Mounted(mountpoint) => {
            let message = format!(
                "the volume is mounted at {}; unmount it first: files that change while they are \
                 read look damaged",
                mountpoint.display()
            );
            return Err(failure(Exit::Busy, message));
        }
    };
    let notes = match &args.resume {
        Some(path) => Some(Notes::open(path)?),
        None => None,
    };
    let kms = Arc::new(unlock::open(keystore)?);
    let report = check(&cipher_dir, kms, args, notes.as_ref())?;
    if let Some(notes) = &notes {
        notes.save()?;
    }
    if args.json {
        output::json(&report)?;
    } else {
        output::text_out(&words(&report))?;
    }
    Ok(if !report.is_clean() {
        Exit::Damage
    } else if report.stopped {
        Exit::Failure
    } else {
        Exit::Ok
    })
}

fn check(
    cipher_dir: &Path,
    kms: Arc<Kms>,
    args: &FsckArgs,
    notes: Option<&Notes>,
) -> Result<FsckReport> {
    // With the lock, so that nobody mounts it meanwhile; without, where it can only be read.
    let volume = if args.repair {
        Opening::writing(cipher_dir, "fsck").open(kms)?
    } else {
        let mut opening = Opening::reading(cipher_dir, "fsck");
        opening.exclusive = true;
        match opening.open(Arc::clone(&kms)) {
            Err(error) if only_readable(&error) => {
                Opening::reading(cipher_dir, "fsck").open(kms)?
            }
            opened => opened?,
        }
    };
    let mut options = FsckOptions {
        repair: args.repair,
        memory: notes.map(|notes| notes as &dyn Memory),
        ..FsckOptions::default()
    };
    if let Some(threads) = args.threads {
        options.threads = usize::from(threads);
    }
    let progress = Stoppable::new("checking")?;
    let report = fsck::run_with(&volume, &options, &progress)?;
    volume.close()?;
    Ok(report)
}

/// A progress bar, and an interrupt key that stops before the next file: what was found until then
/// is told, and noted.
struct Stoppable {
    bar: Bar,
    stop: Arc<AtomicBool>,
}

impl Stoppable {
    fn new(doing: &'static str) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
            signal_hook::flag::register(signal, Arc::clone(&stop))
                .context("watching for signals")?;
        }
        Ok(Self {
            bar: Bar::new(doing),
            stop,
        })
    }
}

impl Progress for Stoppable {
    fn advanced(&self, files: u64, bytes: u64) {
        self.bar.advanced(files, bytes);
    }

    fn expected(&self, files: u64) {
        self.bar.expected(files);
    }

    fn cancelled(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

/// What was found sound, in a file of lines: inode, seconds, nanoseconds, size.
struct Notes {
    known: HashSet<Sound>,
    file: Mutex<BufWriter<File>>,
}

impl Notes {
    fn open(path: &Path) -> Result<Self> {
        let place = || path.display().to_string();
        let file = OpenOptions::new()
            .create(true)
            .read(true)
            .append(true)
            .open(path)
            .with_context(place)?;
        let mut known = HashSet::new();
        for line in BufReader::new(&file).lines() {
            known.extend(parse(&line.with_context(place)?));
        }
        Ok(Self {
            known,
            file: Mutex::new(BufWriter::new(file)),
        })
    }

    fn save(&self) -> Result<()> {
        self.file.lock().flush().context("noting what is sound")
    }
}

/// One line of the notes; a torn last one says nothing.
fn parse(line: &str) -> Option<Sound> {
    let mut words = line.split(' ');
    let sound = Sound {
        inode: words.next()?.parse().ok()?,
        secs: words.next()?.parse().ok()?,
        nanos: words.next()?.parse().ok()?,
        size: words.next()?.parse().ok()?,
    };
    (words.next() == Some(".") && words.next().is_none()).then_some(sound)
}

impl Memory for Notes {
    fn knows(&self, sound: &Sound) -> bool {
        self.known.contains(sound)
    }

    fn note(&self, sound: &Sound) {
        let Sound {
            inode,
            secs,
            nanos,
            size,
        } = sound;
        // What can't be noted is read again; `save` tells of it.
        let _ = writeln!(self.file.lock(), "{inode} {secs} {nanos} {size} .");
    }
}

fn words(report: &FsckReport) -> String {
    let mut text = String::new();
    for repair in &report.repaired {
        let path = output::printable(repair.path.as_bytes());
        let _ = writeln!(text, "{path}: repaired: {}", repair.done);
    }
    for damage in &report.damaged {
        text.push_str(&line(damage));
    }
    if report.unclean {
        text.push_str(
            "the volume was not unmounted cleanly; mount it, or run fsck --repair, to bring in \
             order what was being written\n",
        );
    }
    let verdict = match report.damaged.len() {
        0 if report.stopped => "stopped; clean so far".to_owned(),
        0 => "clean".to_owned(),
        1 => "1 damaged place".to_owned(),
        count => format!("{count} damaged places"),
    };
    let _ = writeln!(
        text,
        "{verdict}: {} files, {} directories, {} symlinks, {} others, {} extended attributes, \
         {} read",
        report.files,
        report.directories,
        report.symlinks,
        report.others,
        report.xattrs,
        output::human_bytes(report.bytes)
    );
    if report.skipped > 0 {
        let _ = writeln!(
            text,
            "{} files were sound before and have not changed",
            report.skipped
        );
    }
    text
}

fn line(damage: &Damage) -> String {
    let path = output::printable(damage.path.as_bytes());
    match damage.block {
        Some(block) => format!("{path}: block {block}: {}\n", damage.why),
        None => format!("{path}: {}\n", damage.why),
    }
}

#[cfg(test)]
mod tests;
