//! `cp`: copies files out of a volume that is not mounted.
//!
//! A rescue: what can be read is copied. A damaged stretch of a file stays a hole in the copy, is
//! named, and makes the command end with the exit code for damage.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rustix::fs::{
    AtFlags, CWD, FileType, Mode, Timespec, Timestamps, XattrFlags, chownat, lsetxattr, mknodat,
    utimensat,
};
use rustix::process::{Gid, Uid};

use super::args::CpArgs;
use super::exit::{self, Exit, failure, usage};
use super::output::error_line;
use super::reader::{OpenFile, Reader};
use super::unlock::KeystoreArgs;
use crate::backing::{Kind, Seek};
use crate::volume::{Attr, NodeId, VolumeError};

/// Bytes that are read at once.
const CHUNK: usize = 1 << 20;
/// Bytes that are tried alone where a larger read met damage: one block.
const BLOCK: u64 = 4096;

/// Copies.
pub fn run(args: &CpArgs, keystore: &KeystoreArgs) -> Result<Exit> {
    let Some((dest, sources)) = args.paths.split_last() else {
        return Err(usage("cp needs a path and a destination"));
    };
    let into = dest.is_dir();
    if sources.len() > 1 && !into {
        return Err(usage(format!("{}: not a directory", dest.display())));
    }
    let reader = Reader::open(&args.cipher_dir, keystore, "cp")?;
    let mut run = Copier {
        reader: &reader,
        recursive: args.recursive,
        preserve: args.preserve,
        links: HashMap::new(),
        worst: Exit::Ok,
        buf: vec![0; CHUNK],
    };
    for source in sources {
        let target = match (into, source.file_name()) {
            (true, Some(name)) => dest.join(name),
            _ => dest.clone(),
        };
        // A symlink that is named is followed, one that is found on the way is copied.
        let copied = reader
            .find(source, !args.recursive)
            .and_then(|attr| run.copy(source, &attr, &target));
        run.note(copied);
    }
    Ok(run.worst)
}

struct Copier<'a> {
    reader: &'a Reader,
    recursive: bool,
    preserve: bool,
    /// Where inodes with several names were copied to.
    links: HashMap<NodeId, PathBuf>,
    worst: Exit,
    buf: Vec<u8>,
}

impl Copier<'_> {
    /// An error of one entry is printed; the others are copied all the same.
    fn note(&mut self, result: Result<()>) {
        if let Err(error) = result {
            eprintln!("envelopefs: {}", error_line(&error));
            let exit = exit::of(&error);
            // Damage is what a rescue is about: it isn't hidden by a lesser failure.
            if self.worst == Exit::Ok || exit == Exit::Damage {
                self.worst = exit;
            }
        }
    }

    fn copy(&mut self, from: &Path, attr: &Attr, to: &Path) -> Result<()> {
        let linked = attr.kind != Kind::Dir && attr.nlink > 1 && self.preserve;
        if linked && let Some(first) = self.links.get(&attr.ino) {
            return std::fs::hard_link(first, to).with_context(|| to.display().to_string());
        }
        match attr.kind {
            Kind::Dir => return self.directory(from, attr, to),
            Kind::File => self.file(from, attr, to)?,
            Kind::Symlink => {
                let target = self.reader.volume().readlink(attr.ino);
                let target = target.with_context(|| from.display().to_string())?;
                std::os::unix::fs::symlink(OsString::from_vec(target), to)
                    .with_context(|| to.display().to_string())?;
            }
            Kind::Fifo | Kind::Socket | Kind::CharDevice | Kind::BlockDevice => {
                special(attr, to).with_context(|| to.display().to_string())?;
            }
        }
        if linked {
            self.links.insert(attr.ino, to.to_owned());
        }
        self.attributes(from, attr, to)
    }

    fn directory(&mut self, from: &Path, attr: &Attr, to: &Path) -> Result<()> {
        if !self.recursive {
            let message = format!("{}: a directory; -r copies it", from.display());
            return Err(failure(Exit::Failure, message));
        }
        let place = || to.display().to_string();
        match DirBuilder::new().mode(0o700).create(to) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                // Not through a symlink: it may lead anywhere.
                if !std::fs::symlink_metadata(to).with_context(place)?.is_dir() {
                    return Err(error).with_context(place);
                }
            }
            made => made.with_context(place)?,
        }
        let mut failures = Vec::new();
        let entries = self.reader.list(attr.ino, &mut |name, error| {
            failures.push(anyhow::Error::new(error).context(from.join(name).display().to_string()));
        });
        for error in failures {
            self.note(Err(error));
        }
        let entries = entries.with_context(|| from.display().to_string())?;
        for entry in &entries {
            let name = one_component(&entry.name)?;
            let copied = self.copy(&from.join(name), &entry.attr, &to.join(name));
            self.note(copied);
        }
        self.reader.forget(&entries);
        if !self.preserve {
            let mode = std::fs::Permissions::from_mode(u32::from(attr.perm & 0o777));
            std::fs::set_permissions(to, mode).with_context(place)?;
        }
        self.attributes(from, attr, to)
    }

    fn file(&mut self, from: &Path, attr: &Attr, to: &Path) -> Result<()> {
        let source = self
            .reader
            .open_file(attr)
            .with_context(|| from.display().to_string())?;
        let target = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(u32::from(attr.perm & 0o777))
            .custom_flags(libc::O_NOFOLLOW)
            .open(to)
            .with_context(|| to.display().to_string())?;
        let mut offset = 0;
        while let Some((start, end)) = self.stretch(&source, offset) {
            self.copy_stretch(from, &source, &target, start, end)
                .with_context(|| to.display().to_string())?;
            offset = end;
        }
        target
            .set_len(source.size)
            .with_context(|| to.display().to_string())
    }

    /// The next stretch of data from `offset` on; holes are left out.
    fn stretch(&self, source: &OpenFile<'_>, offset: u64) -> Option<(u64, u64)> {
        if offset >= source.size {
            return None;
        }
        let volume = self.reader.volume();
        let start = match volume.seek(source.handle, Seek::Data, offset) {
            Ok(start) => start,
            Err(VolumeError::NoData) => return None,
            // Where data lies can't be told: all of it is read, and damage shows itself there.
            Err(_) => return Some((offset, source.size)),
        };
        let end = volume
            .seek(source.handle, Seek::Hole, start)
            .unwrap_or(source.size);
        let end = end.clamp(start, source.size);
        (start < end).then_some((start, end))
    }

    fn copy_stretch(
        &mut self,
        from: &Path,
        source: &OpenFile<'_>,
        target: &File,
        start: u64,
        end: u64,
    ) -> Result<()> {
        let mut offset = start;
        let mut bad: Option<(u64, VolumeError)> = None;
        // After damage in a large piece, its blocks are tried one by one up to here.
        let mut careful_until = 0;
        while offset < end {
            let want = if offset < careful_until {
                (BLOCK - offset % BLOCK).min(end - offset)
            } else {
                (end - offset).min(CHUNK as u64)
            };
            match source.read(offset, &mut self.buf[..want as usize]) {
                Ok(0) => break,
                Ok(got) => {
                    self.lost(from, bad.take(), offset);
                    target.write_all_at(&self.buf[..got], offset)?;
                    offset += got as u64;
                }
                Err(VolumeError::Damaged { .. }) if want > BLOCK => careful_until = offset + want,
                Err(error @ VolumeError::Damaged { .. }) => {
                    bad.get_or_insert((offset, error));
                    offset += want;
                }
                Err(error) => return Err(error).with_context(|| from.display().to_string()),
            }
        }
        self.lost(from, bad, offset.min(end));
        Ok(())
    }

    /// Names a stretch that could not be read.
    fn lost(&mut self, from: &Path, bad: Option<(u64, VolumeError)>, end: u64) {
        if let Some((start, error)) = bad {
            let place = format!(
                "{}: bytes {start} to {end} are left as zeros",
                from.display()
            );
            self.note(Err(anyhow::Error::new(error).context(place)));
        }
    }

    /// Owner, mode, extended attributes and times, in the order in which they don't undo each other.
    fn attributes(&mut self, from: &Path, attr: &Attr, to: &Path) -> Result<()> {
        if !self.preserve {
            return Ok(());
        }
        let place = || to.display().to_string();
        let (uid, gid) = (Uid::from_raw(attr.uid), Gid::from_raw(attr.gid));
        match chownat(CWD, to, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW) {
            // Who is not root keeps what he may: the files become his.
            Ok(()) | Err(rustix::io::Errno::PERM) => {}
            Err(error) => return Err(error).with_context(place),
        }
        if attr.kind != Kind::Symlink {
            let mode = std::fs::Permissions::from_mode(u32::from(attr.perm));
            std::fs::set_permissions(to, mode).with_context(place)?;
        }
        let copied = self.xattrs(from, attr, to);
        self.note(copied);
        let time = |time: crate::backing::Time| Timespec {
            tv_sec: time.secs,
            tv_nsec: time.nanos.into(),
        };
        let times = Timestamps {
            last_access: time(attr.atime),
            last_modification: time(attr.mtime),
        };
        utimensat(CWD, to, &times, AtFlags::SYMLINK_NOFOLLOW).with_context(place)
    }

    fn xattrs(&self, from: &Path, attr: &Attr, to: &Path) -> Result<()> {
        let volume = self.reader.volume();
        let names = match volume.list_xattr(attr.ino) {
            Ok(names) => names,
            Err(VolumeError::NotSupported(_)) => return Ok(()),
            Err(error) => return Err(error).with_context(|| from.display().to_string()),
        };
        for name in names {
            let shown = String::from_utf8_lossy(&name).into_owned();
            let value = match volume.get_xattr(attr.ino, &name) {
                Ok(value) => value,
                Err(VolumeError::NoXattr) => continue,
                Err(error) => {
                    return Err(error).with_context(|| format!("{}: {shown}", from.display()));
                }
            };
            lsetxattr(to, name.as_slice(), &value, XattrFlags::empty())
                .with_context(|| format!("{}: {shown}", to.display()))?;
        }
        Ok(())
    }
}

fn special(attr: &Attr, to: &Path) -> rustix::io::Result<()> {
    let kind = FileType::from_raw_mode(attr.kind.mode_bits());
    mknodat(
        CWD,
        to,
        kind,
        Mode::from_raw_mode(u32::from(attr.perm & 0o777)),
        attr.rdev,
    )
}

/// A name that stays in the directory that it is joined to. The volume gives no others; but a copy
/// must not be led out of its destination by anything.
fn one_component(name: &OsStr) -> Result<&OsStr> {
    match name.as_bytes() {
        b"" | b"." | b".." => Err(failure(Exit::Damage, "an entry without a proper name")),
        bytes if bytes.contains(&b'/') => {
            Err(failure(Exit::Damage, "an entry with a slash in its name"))
        }
        _ => Ok(name),
    }
}
