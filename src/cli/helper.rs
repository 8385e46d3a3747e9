//! The form in which mount(8) calls its helpers: `mount.fuse.envelopefs SPEC DIR [-sfnv] [-N NS]
//! [-o OPTS] [-t TYPE.SUBTYPE]`.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::exit::usage;
use super::mount_opts::MountOptions;

/// The names under which the program is a mount helper.
const NAMES: [&str; 2] = ["mount.envelopefs", "mount.fuse.envelopefs"];

/// What mount(8) asks for.
#[derive(Debug, PartialEq, Eq)]
pub struct HelperArgs {
    /// The first field of fstab: the cipher directory.
    pub spec: PathBuf,
    /// The mount point.
    pub dir: PathBuf,
    /// All `-o` options together.
    pub options: MountOptions,
    /// `-f`: check, but don't mount.
    pub fake: bool,
    /// `-N`: mount in this namespace.
    pub namespace: Option<PathBuf>,
}

/// True when `argv0` is the name of a mount helper.
pub fn is_helper(argv0: &OsStr) -> bool {
    let name = Path::new(argv0).file_name();
    NAMES.iter().any(|helper| name == Some(OsStr::new(helper)))
}

impl HelperArgs {
    /// Reads the arguments after the program's name.
    pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Self> {
        let mut reader = Reader::default();
        let mut args = args.into_iter();
        while let Some(arg) = args.next() {
            match arg.as_bytes() {
                b"--" => {
                    reader.places.extend(args.by_ref().map(PathBuf::from));
                }
                [b'-', letters @ ..] if !letters.is_empty() => {
                    reader.letters(letters, &mut args)?;
                }
                _ => reader.places.push(arg.into()),
            }
        }
        reader.finish()
    }
}

#[derive(Default)]
struct Reader {
    places: Vec<PathBuf>,
    options: Vec<OsString>,
    sloppy: bool,
    fake: bool,
    namespace: Option<PathBuf>,
}

impl Reader {
    /// A cluster such as `-nv` or `-vo OPTS`.
    fn letters(&mut self, letters: &[u8], rest: &mut impl Iterator<Item = OsString>) -> Result<()> {
        for (at, letter) in letters.iter().enumerate() {
            match letter {
                b's' => self.sloppy = true,
                b'f' => self.fake = true,
                b'n' | b'v' => {}
                b'o' | b'N' | b't' => {
                    let value = match &letters[at + 1..] {
                        [] => rest.next(),
                        joined => Some(OsString::from_vec(joined.to_vec())),
                    };
                    let name = char::from(*letter);
                    let value = value.ok_or_else(|| usage(format!("-{name} needs a value")))?;
                    match letter {
                        b'o' => self.options.push(value),
                        b'N' => self.namespace = Some(value.into()),
                        // The type was the way to find this program; it says nothing more.
                        _ => {}
                    }
                    return Ok(());
                }
                other => return Err(usage(format!("unknown flag '-{}'", char::from(*other)))),
            }
        }
        Ok(())
    }

    fn finish(self) -> Result<HelperArgs> {
        let [spec, dir] = <[PathBuf; 2]>::try_from(self.places).map_err(|_| {
            usage("usage: mount.fuse.envelopefs CIPHERDIR MOUNTPOINT [-sfnv] [-N NS] [-o OPTIONS]")
        })?;
        let remount = MountOptions::parse_with(&self.options, |_| true)?.remount;
        let pass = |option: &[u8]| self.sloppy || (remount && is_kernels(option));
        let options = MountOptions::parse_with(&self.options, pass)?;
        let namespace = self.namespace;
        Ok(HelperArgs {
            spec,
            dir,
            options,
            fake: self.fake,
            namespace,
        })
    }
}

/// The kernel's own words for a FUSE mount: mount(8) repeats them when it remounts.
fn is_kernels(option: &[u8]) -> bool {
    const WORDS: [&[u8]; 4] = [b"user_id=", b"group_id=", b"max_read=", b"blksize="];
    WORDS.iter().any(|word| option.starts_with(word))
}

/// Moves this process into the mount namespace that a file (`/proc/PID/ns/mnt`) stands for.
pub fn enter_namespace(path: &Path) -> Result<()> {
    let place = || format!("entering the mount namespace {}", path.display());
    let file = File::open(path).with_context(place)?;
    move_into_link_name_space(
        std::os::fd::AsFd::as_fd(&file),
        Some(LinkNameSpaceType::Mount),
    )
    .with_context(place)
}

#[cfg(test)]
mod tests;
