//! Mounting: how to come by a connection to the kernel.
//!
//! `fuser` can mount by itself, but it passes no subtype, hides the system's error number, and at
//! the end unmounts what is at the mount point a second time: whatever lies there by then, be it
//! another mount.

use std::ffi::CString;
use std::fmt::Write as _;
use std::io::{self, IoSliceMut, Read};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::fs::{Mode, OFlags};
use rustix::mount::MountFlags;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};

use super::error::FuseError;
use super::mountpoint;
use super::options::MountOptions;

/// Where the helper is told which descriptor to answer on.
const HELPER_SOCKET: &str = "_FUSE_COMMFD";

/// Mounts, and gives the connection to the kernel.
pub(super) fn mount(point: &Path, options: &MountOptions) -> Result<OwnedFd, FuseError> {
    check(options)?;
    if rustix::process::geteuid().is_root() {
        match mount_directly(point, options) {
            // Root of a container without the right to mount: perhaps the helper has it.
            Err(FuseError::Mount { source, .. }) if source.raw_os_error() == Some(libc::EPERM) => {}
            result => return result,
        }
    }
    mount_by_helper(point, options)
}

fn check(options: &MountOptions) -> Result<(), FuseError> {
    let names = [
        ("fsname", options.fsname.as_deref()),
        ("subtype", options.subtype.as_deref()),
    ];
    for (option, value) in names {
        if value.is_some_and(|value| value.contains(['\0', '\n'])) {
            return Err(FuseError::Option {
                option,
                reason: "it has a NUL or a line break in it",
            });
        }
    }
    if options
        .subtype
        .as_deref()
        .is_some_and(|subtype| subtype.contains(','))
    {
        return Err(FuseError::Option {
            option: "subtype",
            reason: "it has a comma in it",
        });
    }
    Ok(())
}

fn mount_directly(point: &Path, options: &MountOptions) -> Result<OwnedFd, FuseError> {
    let device = rustix::fs::open("/dev/fuse", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
        .map_err(|error| FuseError::Device {
            source: error.into(),
        })?;
    let mut data = format!(
        "fd={},rootmode=40000,user_id={},group_id={}",
        device.as_raw_fd(),
        rustix::process::getuid().as_raw(),
        rustix::process::getgid().as_raw()
    );
    if options.default_permissions {
        data.push_str(",default_permissions");
    }
    if options.allow_other {
        data.push_str(",allow_other");
    }
    if let Some(subtype) = options.effective_subtype() {
        let _ = write!(data, ",subtype={subtype}");
    }
    let failed = |source| FuseError::Mount {
        path: point.to_path_buf(),
        source,
    };
    let data = CString::new(data).map_err(|error| failed(error.into()))?;
    rustix::mount::mount(
        source(options),
        point,
        "fuse",
        flags(options),
        data.as_c_str(),
    )
    .map_err(|error| failed(error.into()))?;
    Ok(device)
}

/// What the mount table shows as the source.
pub(super) fn source(options: &MountOptions) -> &str {
    options.fsname.as_deref().unwrap_or("envelopefs")
}

fn flags(options: &MountOptions) -> MountFlags {
    let mut flags = MountFlags::empty();
    for (wanted, flag) in [
        (options.read_only, MountFlags::RDONLY),
        (options.nodev, MountFlags::NODEV),
        (options.noexec, MountFlags::NOEXEC),
        (options.nosuid, MountFlags::NOSUID),
        (options.noatime, MountFlags::NOATIME),
    ] {
        if wanted {
            flags |= flag;
        }
    }
    flags
}

/// `fusermount3` is set-user-id root: it mounts and sends the connection over a socket.
fn mount_by_helper(point: &Path, options: &MountOptions) -> Result<OwnedFd, FuseError> {
    let failed = |source| FuseError::Mount {
        path: point.to_path_buf(),
        source,
    };
    let (ours, theirs) = UnixStream::pair().map_err(failed)?;
    let mut child = mountpoint::first_helper(|helper| {
        let mut command = Command::new(helper);
        command
            .args(["-o", &helper_options(options), "--"])
            .arg(point)
            // As its standard input: a descriptor that needs no clearing of close-on-exec.
            .stdin(Stdio::from(OwnedFd::from(theirs.try_clone()?)))
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .env(HELPER_SOCKET, "0");
        command.spawn()
    })?;
    // So that the end of the helper is the end of the stream.
    drop(theirs);
    let received = receive(&ours);
    let mut message = String::new();
    if let Some(mut stderr) = child.stderr.take() {
        let _ = stderr.read_to_string(&mut message);
    }
    child.wait().map_err(failed)?;
    received
        .map_err(failed)?
        .ok_or_else(|| FuseError::HelperRefused {
            path: point.to_path_buf(),
            message: message.trim().to_owned(),
        })
}

fn helper_options(options: &MountOptions) -> String {
    let escape = |text: &str| text.replace('\\', "\\\\").replace(',', "\\,");
    let mut list = vec![format!("fsname={}", escape(source(options)))];
    if let Some(subtype) = options.effective_subtype() {
        list.push(format!("subtype={}", escape(subtype)));
    }
    for (wanted, name) in [
        (options.default_permissions, "default_permissions"),
        (options.allow_other, "allow_other"),
        (options.read_only, "ro"),
        (options.nodev, "nodev"),
        (options.noexec, "noexec"),
        (options.nosuid, "nosuid"),
        (options.noatime, "noatime"),
    ] {
        if wanted {
            list.push(name.to_owned());
        }
    }
    list.join(",")
}

/// One descriptor, sent beside one byte; None when the other side closed instead.
fn receive(socket: &UnixStream) -> io::Result<Option<OwnedFd>> {
    let mut byte = [0];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    loop {
        let mut into = [IoSliceMut::new(&mut byte)];
        match rustix::net::recvmsg(socket, &mut into, &mut ancillary, RecvFlags::CMSG_CLOEXEC) {
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
            Ok(_) => break,
        }
    }
    let mut descriptors = ancillary.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    });
    Ok(descriptors.next())
}

#[cfg(test)]
mod tests;
