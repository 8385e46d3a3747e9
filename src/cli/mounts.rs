//! What the kernel's table of mounts says about us.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// The type of our mounts, unless `subtype=` says otherwise.
pub const FILESYSTEM_TYPE: &str = "fuse.envelopefs";

/// One line of `/proc/self/mountinfo`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Where it is mounted.
    pub mountpoint: PathBuf,
    /// The kernel's name of the type.
    pub kind: String,
    /// The source: our cipher directory, unless `fsname=` says otherwise.
    pub source: OsString,
    /// The mount's own options.
    pub options: String,
}

impl Mount {
    /// True when it may be one of ours; a `subtype=` can hide it, so any FUSE mount may.
    pub fn is_fuse(&self) -> bool {
        self.kind == "fuse" || self.kind.starts_with("fuse.")
    }
}

/// All mounts that this process sees, in the order in which they cover each other.
pub fn all() -> io::Result<Vec<Mount>> {
    let table = std::fs::read("/proc/self/mountinfo")?;
    Ok(table
        .split(|byte| *byte == b'\n')
        .filter_map(parse)
        .collect())
}

/// The topmost mount at `path`, if it is the root of one.
pub fn at(path: &Path) -> io::Result<Option<Mount>> {
    let mounts = all()?;
    // The mount's own root is not touched first: it may be dead, or closed to us.
    for candidate in [by_parent(path), path.canonicalize()].into_iter().flatten() {
        if let Some(mount) = mounts
            .iter()
            .rev()
            .find(|mount| mount.mountpoint == candidate)
        {
            return Ok(Some(mount.clone()));
        }
    }
    Ok(None)
}

/// The path with everything but its last component resolved.
pub fn by_parent(path: &Path) -> io::Result<PathBuf> {
    let absolute = std::path::absolute(path)?;
    match (absolute.parent(), absolute.file_name()) {
        (Some(parent), Some(name)) => Ok(parent.canonicalize()?.join(name)),
        _ => absolute.canonicalize(),
    }
}

/// proc(5): `ID PARENT MAJ:MIN ROOT MOUNTPOINT OPTIONS [TAG...] - TYPE SOURCE SUPER`.
fn parse(line: &[u8]) -> Option<Mount> {
    let mut fields = line.split(|byte| *byte == b' ');
    let mountpoint = unescape(fields.nth(4)?);
    let options = String::from_utf8_lossy(fields.next()?).into_owned();
    let mut rest = fields.skip_while(|field| *field != b"-");
    let kind = String::from_utf8_lossy(rest.nth(1)?).into_owned();
    let source = unescape(rest.next()?);
    Some(Mount {
        mountpoint: mountpoint.into(),
        kind,
        source,
        options,
    })
}

/// The kernel writes space, tab, newline, backslash and `#` as `\` and three octal digits.
fn unescape(text: &[u8]) -> OsString {
    let mut plain = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, tail)) = rest.split_first() {
        match (first, tail) {
            (b'\\', [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', tail @ ..]) => {
                plain.push((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'));
                rest = tail;
            }
            _ => {
                plain.push(*first);
                rest = tail;
            }
        }
    }
    OsString::from_vec(plain)
}

/// A source as a path, when it looks like one.
pub fn source_path(source: &OsStr) -> Option<&Path> {
    source
        .as_bytes()
        .starts_with(b"/")
        .then(|| Path::new(source))
}

#[cfg(test)]
mod tests;
