//! The `-o` options of `mount`, as mount(8) users type them.
//!
//! Options are separated by commas; `\,` is a comma in a value and `\\` a backslash. A later option
//! overrides an earlier one. `x-*` and the options that only mount(8) acts on are passed over; any
//! other unknown option is an error that names it.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;

use super::exit::usage;
use crate::fuse::Transport;

/// Longest time that `idle=` and `key-ttl=` take: a year.
const TIME_MAX: u64 = 365 * 24 * 3600;

/// What the `-o` options say. `None`: not said.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
// As mount(8) has them: each is a word on its own.
#[allow(clippy::struct_excessive_bools)]
pub struct MountOptions {
    /// `ro` and `rw`.
    pub read_only: Option<bool>,
    /// Change the flags of a mount that is there.
    pub remount: bool,
    /// Users other than the one who mounts may look in.
    pub allow_other: bool,
    /// The kernel checks permissions.
    pub default_permissions: bool,
    /// `dev` and `nodev`.
    pub dev: Option<bool>,
    /// `exec` and `noexec`.
    pub exec: Option<bool>,
    /// `suid` and `nosuid`.
    pub suid: Option<bool>,
    /// `atime` and `noatime`.
    pub atime: Option<bool>,
    /// `xattr` and `noxattr`.
    pub xattr: Option<bool>,
    /// The source that `mount` and `df` show.
    pub fsname: Option<OsString>,
    /// The kernel's type is `fuse.SUBTYPE`; empty: plain `fuse`.
    pub subtype: Option<OsString>,
    /// Every file is shown with this owner.
    pub uid: Option<u32>,
    /// Every file is shown with this group.
    pub gid: Option<u32>,
    /// These permission bits are taken away from what is shown.
    pub umask: Option<u16>,
    /// Unmount after so long without use; zero is never.
    pub idle: Option<Duration>,
    /// How long an open file may go on after its key was disabled.
    pub key_ttl: Option<Duration>,
    /// Rewrap when the CMK has been rotated.
    pub auto_rewrap: bool,
    /// Another process has the keys.
    pub kms: Option<KmsAddress>,
    /// Overwrite in place. Unsafe.
    pub no_journal: bool,
    /// The keystore's folder.
    pub keystore: Option<PathBuf>,
    /// A file with the keystore's passphrase.
    pub passphrase_file: Option<PathBuf>,
    /// A key file that opens the keystore.
    pub key_file: Option<PathBuf>,
    /// The log goes to this file.
    pub log: Option<PathBuf>,
    /// Which way the kernel's requests come.
    pub transport: Option<Transport>,
}

/// Where the key manager is, when it isn't in the mount's own process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KmsAddress {
    /// A Unix socket, on which `envelopefs serve` answers.
    Unix(PathBuf),
}

impl KmsAddress {
    fn parse(value: &[u8]) -> Result<Self> {
        match value.strip_prefix(b"unix:") {
            Some(path) if !path.is_empty() => Ok(Self::Unix(PathBuf::from(os(path)))),
            _ => Err(bad("kms", value, "wanted is unix:PATH")),
        }
    }

    fn to_text(&self) -> OsString {
        let Self::Unix(path) = self;
        let mut text = OsString::from("unix:");
        text.push(path);
        text
    }
}

/// The values of `transport=`.
const TRANSPORTS: [(&str, Transport); 3] = [
    ("auto", Transport::Auto),
    ("uring", Transport::Uring),
    ("dev", Transport::Dev),
];

/// Options that take effect, with the words of the manual.
const KNOWN: [(&str, &str); 31] = [
    ("ro", "read only"),
    ("rw", "read and write (the default)"),
    (
        "remount",
        "change ro, dev, suid, exec and atime of a mount that is there",
    ),
    (
        "allow_other",
        "let other users in, each with the permissions of their own",
    ),
    (
        "default_permissions",
        "let the kernel check permissions (the default, but for root without allow_other)",
    ),
    ("dev", "honour device files; root only"),
    ("nodev", "do not honour device files (the default)"),
    (
        "suid",
        "honour set-user-id and set-group-id bits; root only",
    ),
    ("nosuid", "do not honour them (the default)"),
    ("exec", "allow programs to run (the default)"),
    ("noexec", "do not allow programs to run"),
    ("atime", "keep access times (the default)"),
    ("noatime", "do not keep access times"),
    (
        "xattr",
        "extended attributes and ACLs are there (the default)",
    ),
    (
        "noxattr",
        "they are not: what files have of them is neither seen nor obeyed. The kernel stops asking, \
         twice a file in ls(1): ls -lR takes a third of the time",
    ),
    (
        "fsname=NAME",
        "the source that mount(8) and df(1) show; the cipher directory by default",
    ),
    (
        "subtype=NAME",
        "show the type as fuse.NAME; empty: plain fuse (envelopefs by default)",
    ),
    ("uid=N", "show every file as owned by this user"),
    ("gid=N", "show every file as owned by this group"),
    (
        "umask=OCTAL",
        "take these permission bits away from every file",
    ),
    (
        "idle=TIME",
        "unmount after so long without use (10m, 2h, 90s; 0: never, the default)",
    ),
    (
        "key-ttl=TIME",
        "open files fail this long after their key was disabled (60s by default)",
    ),
    (
        "auto-rewrap",
        "when the key has new material, whoever rotated it, rewrap the volume in the background, at the \
         lowest priority; an unmount stops it, and the next mount with this option goes on",
    ),
    (
        "kms=unix:PATH",
        "use the keys of the `envelopefs serve` on this socket, and open no keystore",
    ),
    (
        "nojournal",
        "UNSAFE, for measurements: overwrite in place; a power cut can destroy blocks that were \
         synced long before",
    ),
    ("keystore=PATH", "as --keystore"),
    ("passphrase-file=FILE", "as --passphrase-file"),
    ("key-file=FILE", "as --key-file"),
    ("log=FILE", "as --log"),
    (
        "transport=WAY",
        "how the kernel's requests come: dev (/dev/fuse), uring (faster; Linux 6.14, and only where /sys/module/fuse/parameters/enable_uring is Y), or auto, the faster there is (the default)",
    ),
    (
        "x-*",
        "passed over, as are the options that only mount(8) acts on (nofail, _netdev ...)",
    ),
];

/// Options that mount(8), systemd and fstab(5) act on, and defaults that need no act.
const PASSED_OVER: [&str; 15] = [
    "_netdev", "auto", "noauto", "defaults", "nofail", "user", "nouser", "users", "nousers",
    "group", "nogroup", "owner", "noowner", "relatime", "async",
];

/// Name and meaning of each option that takes effect.
pub fn table() -> impl Iterator<Item = (&'static str, &'static str)> {
    KNOWN.into_iter()
}

/// The options as `mount --help` shows them.
pub fn help() -> String {
    use std::fmt::Write;
    let mut text = String::from("Mount options (-o):\n");
    for (name, meaning) in KNOWN {
        let _ = writeln!(text, "  {name:21} {meaning}");
    }
    text.push_str(
        "\nIn a value, \\, is a comma and \\\\ a backslash. A later option overrides.\n\n",
    );
    text
}

impl MountOptions {
    /// Reads the values of all `-o` flags, in order.
    pub fn parse<S: AsRef<OsStr>>(values: &[S]) -> Result<Self> {
        Self::parse_with(values, |_| false)
    }

    /// As [`MountOptions::parse`]; unknown options that `pass` accepts are passed over.
    pub fn parse_with<S: AsRef<OsStr>>(values: &[S], pass: impl Fn(&[u8]) -> bool) -> Result<Self> {
        let mut options = Self::default();
        for value in values {
            for option in split(value.as_ref().as_bytes()) {
                options.set(&option, &pass)?;
            }
        }
        Ok(options)
    }

    fn set(&mut self, option: &[u8], pass: &dyn Fn(&[u8]) -> bool) -> Result<()> {
        let mut parts = option.splitn(2, |byte| *byte == b'=');
        let name = parts.next().unwrap_or_default();
        let value = parts.next();
        let text = String::from_utf8_lossy(name);
        if is_passed_over(&text) {
            return Ok(());
        }
        match (text.as_ref(), value) {
            ("ro", None) => self.read_only = Some(true),
            ("rw", None) => self.read_only = Some(false),
            ("remount", None) => self.remount = true,
            ("allow_other", None) => self.allow_other = true,
            ("default_permissions", None) => self.default_permissions = true,
            ("dev", None) => self.dev = Some(true),
            ("nodev", None) => self.dev = Some(false),
            ("exec", None) => self.exec = Some(true),
            ("noexec", None) => self.exec = Some(false),
            ("suid", None) => self.suid = Some(true),
            ("nosuid", None) => self.suid = Some(false),
            ("atime", None) => self.atime = Some(true),
            ("noatime", None) => self.atime = Some(false),
            ("xattr", None) => self.xattr = Some(true),
            ("noxattr", None) => self.xattr = Some(false),
            ("fsname", Some(value)) => self.fsname = Some(os(not_empty(&text, value)?)),
            ("subtype", Some(value)) => self.subtype = Some(os(value)),
            ("uid", Some(value)) => self.uid = Some(id(&text, value)?),
            ("gid", Some(value)) => self.gid = Some(id(&text, value)?),
            ("umask", Some(value)) => self.umask = Some(umask(value)?),
            ("idle", Some(value)) => self.idle = Some(time(&text, value)?),
            ("key-ttl", Some(value)) => self.key_ttl = Some(time(&text, value)?),
            ("kms", Some(value)) => self.kms = Some(KmsAddress::parse(value)?),
            ("auto-rewrap", None) => self.auto_rewrap = true,
            ("nojournal", None) => self.no_journal = true,
            ("keystore", Some(value)) => self.keystore = Some(path(&text, value)?),
            ("passphrase-file", Some(value)) => self.passphrase_file = Some(path(&text, value)?),
            ("key-file", Some(value)) => self.key_file = Some(path(&text, value)?),
            ("log", Some(value)) => self.log = Some(path(&text, value)?),
            ("transport", Some(value)) => self.transport = Some(transport(value)?),
            _ if pass(option) => {}
            (name, value) => return Err(unknown(name, value)),
        }
        Ok(())
    }

    /// The options in the `-o` form, such that parsing gives them back.
    pub fn to_text(&self) -> OsString {
        let mut text = Vec::new();
        let mut add = |name: &str, value: Option<&[u8]>| {
            if !text.is_empty() {
                text.push(b',');
            }
            text.extend_from_slice(name.as_bytes());
            if let Some(value) = value {
                text.push(b'=');
                for byte in value {
                    if matches!(byte, b',' | b'\\') {
                        text.push(b'\\');
                    }
                    text.push(*byte);
                }
            }
        };
        let flags = [
            (self.read_only, "ro", "rw"),
            (self.remount.then_some(true), "remount", ""),
            (self.allow_other.then_some(true), "allow_other", ""),
            (
                self.default_permissions.then_some(true),
                "default_permissions",
                "",
            ),
            (self.dev, "dev", "nodev"),
            (self.exec, "exec", "noexec"),
            (self.suid, "suid", "nosuid"),
            (self.atime, "atime", "noatime"),
            (self.xattr, "xattr", "noxattr"),
            (self.auto_rewrap.then_some(true), "auto-rewrap", ""),
            (self.no_journal.then_some(true), "nojournal", ""),
        ];
        for (flag, yes, no) in flags {
            if let Some(flag) = flag {
                add(if flag { yes } else { no }, None);
            }
        }
        let numbers = [
            ("uid", self.uid.map(|id| id.to_string())),
            ("gid", self.gid.map(|id| id.to_string())),
            ("umask", self.umask.map(|mask| format!("{mask:o}"))),
            ("idle", self.idle.map(|time| format!("{}s", time.as_secs()))),
            (
                "key-ttl",
                self.key_ttl.map(|time| format!("{}s", time.as_secs())),
            ),
        ];
        for (name, number) in numbers {
            if let Some(number) = number {
                add(name, Some(number.as_bytes()));
            }
        }
        let kms = self.kms.as_ref().map(KmsAddress::to_text);
        let texts = [
            ("kms", kms.as_deref()),
            ("fsname", self.fsname.as_deref()),
            ("subtype", self.subtype.as_deref()),
            (
                "keystore",
                self.keystore.as_ref().map(|path| path.as_os_str()),
            ),
            (
                "passphrase-file",
                self.passphrase_file.as_ref().map(|path| path.as_os_str()),
            ),
            (
                "key-file",
                self.key_file.as_ref().map(|path| path.as_os_str()),
            ),
            ("log", self.log.as_ref().map(|path| path.as_os_str())),
            ("transport", self.transport.map(|way| OsStr::new(word(way)))),
        ];
        for (name, value) in texts {
            if let Some(value) = value {
                add(name, Some(value.as_bytes()));
            }
        }
        OsString::from_vec(text)
    }
}

/// Cuts at the commas that no backslash escapes, and takes the escapes away. Empty parts are left
/// out, as mount(8) does.
fn split(text: &[u8]) -> Vec<Vec<u8>> {
    let mut options = vec![Vec::new()];
    let mut bytes = text.iter().copied().peekable();
    while let Some(byte) = bytes.next() {
        let last = options.len() - 1;
        match byte {
            b',' => options.push(Vec::new()),
            b'\\' => {
                let escaped = bytes.next_if(|next| matches!(next, b',' | b'\\'));
                options[last].push(escaped.unwrap_or(b'\\'));
            }
            other => options[last].push(other),
        }
    }
    options.retain(|option| !option.is_empty());
    options
}

fn is_passed_over(name: &str) -> bool {
    name.starts_with("x-")
        || name.starts_with("X-")
        || matches!(name, "comment" | "helper" | "uhelper")
        || PASSED_OVER.contains(&name)
}

fn unknown(name: &str, value: Option<&[u8]>) -> anyhow::Error {
    let known = KNOWN.iter().map(|row| {
        row.0
            .split_once('=')
            .map_or((row.0, false), |p| (p.0, true))
    });
    for (known, takes_value) in known {
        if known == name {
            let rule = if takes_value {
                "needs a value"
            } else {
                "takes no value"
            };
            return usage(format!("mount option '{name}' {rule}"));
        }
    }
    let value = value.map(|value| format!("={}", String::from_utf8_lossy(value)));
    usage(format!(
        "unknown mount option '{name}{}'",
        value.unwrap_or_default()
    ))
}

fn bad(name: &str, value: &[u8], wanted: &str) -> anyhow::Error {
    let value = String::from_utf8_lossy(value);
    usage(format!("mount option '{name}={value}': {wanted}"))
}

fn not_empty<'a>(name: &str, value: &'a [u8]) -> Result<&'a [u8]> {
    if value.is_empty() {
        Err(bad(name, value, "the value is empty"))
    } else {
        Ok(value)
    }
}

fn path(name: &str, value: &[u8]) -> Result<PathBuf> {
    Ok(PathBuf::from(os(not_empty(name, value)?)))
}

fn os(value: &[u8]) -> OsString {
    OsString::from_vec(value.to_vec())
}

fn transport(value: &[u8]) -> Result<Transport> {
    let found = TRANSPORTS.iter().find(|(word, _)| word.as_bytes() == value);
    found
        .map(|(_, way)| *way)
        .ok_or_else(|| bad("transport", value, "auto, uring or dev is wanted"))
}

fn word(transport: Transport) -> &'static str {
    let found = TRANSPORTS.iter().find(|(_, way)| *way == transport);
    found.map_or("auto", |(word, _)| word)
}

/// A number written in digits alone: no sign, no space.
fn number(value: &[u8], radix: u32) -> Option<u64> {
    let text = std::str::from_utf8(value).ok()?;
    if text.is_empty() || !text.chars().all(|digit| digit.is_digit(radix)) {
        return None;
    }
    u64::from_str_radix(text, radix).ok()
}

fn id(name: &str, value: &[u8]) -> Result<u32> {
    // The largest value is the kernel's word for "no id".
    number(value, 10)
        .and_then(|id| u32::try_from(id).ok())
        .filter(|id| *id != u32::MAX)
        .ok_or_else(|| bad(name, value, "a numeric id is wanted"))
}

fn umask(value: &[u8]) -> Result<u16> {
    number(value, 8)
        .and_then(|mask| u16::try_from(mask).ok())
        .filter(|mask| *mask <= 0o777)
        .ok_or_else(|| bad("umask", value, "an octal mask up to 777 is wanted"))
}

/// A time: digits and a unit of `s` (also when there is none), `m` or `h`.
fn time(name: &str, value: &[u8]) -> Result<Duration> {
    let (digits, unit) = match value.split_last() {
        Some((b's', digits)) => (digits, 1),
        Some((b'm', digits)) => (digits, 60),
        Some((b'h', digits)) => (digits, 3600),
        _ => (value, 1),
    };
    number(digits, 10)
        .and_then(|count| count.checked_mul(unit))
        .filter(|seconds| *seconds <= TIME_MAX)
        .map(Duration::from_secs)
        .ok_or_else(|| {
            bad(
                name,
                value,
                "a time such as 90s, 10m or 2h is wanted (a year at most)",
            )
        })
}

#[cfg(test)]
mod tests;
