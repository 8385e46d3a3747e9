//! The adapter on real mounts. They need root: it may mount, and act as other users.

mod attributes;
mod files;
mod mounting;
mod names;
mod transports;
mod units;

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::mount::{MountFlags, UnmountFlags};
use tempfile::TempDir;

use super::mountpoint;
use super::{Control, Mount, MountOptions, Transport};
use crate::format::NameEncoding;
use crate::kms::api::CreateKeyRequest;
use crate::kms::{self, KeyRef, Kms, ProtectorInput};
use crate::volume::{CreateOptions, OpenOptions, Os, Volume};

/// A user who is not root.
const SOMEBODY: u32 = 12_345;
/// Another one, and a group.
const ELSE: u32 = 23_456;

/// The one place that makes the volume under test, of an empty directory.
pub(super) fn volume(cipher: &Path) -> Arc<Volume<Os>> {
    open_volume(cipher, false)
}

fn open_volume(cipher: &Path, read_only: bool) -> Arc<Volume<Os>> {
    let options = OpenOptions {
        read_only,
        ..OpenOptions::default()
    };
    open_with(cipher, options).0
}

/// Its CMK, a customer-managed one, and the key manager come with it.
fn open_with(cipher: &Path, options: OpenOptions) -> (Arc<Volume<Os>>, Arc<Kms>, KeyRef) {
    let protector = ProtectorInput::key(vec![7; 32].into()).unwrap();
    let keystore = cipher.with_file_name("keystore");
    if !Kms::exists(&keystore) {
        let kms = Kms::create(&keystore, &protector, &kms::CreateOptions::default()).unwrap();
        let key = kms.owner().create_key(&CreateKeyRequest::default());
        let key = key.unwrap().key_metadata.key_id;
        let options = CreateOptions {
            key,
            names: NameEncoding::Encrypted,
        };
        Volume::init(&Os::open(cipher).unwrap(), &kms, &options).unwrap();
    }
    let kms = Arc::new(Kms::open(&keystore, &[protector]).unwrap());
    let volume = Volume::open(Os::open(cipher).unwrap(), Arc::clone(&kms), options).unwrap();
    let key = KeyRef::Id(volume.volume_key_id());
    (Arc::new(volume), kms, key)
}

/// What nobody chose otherwise; `$ENVELOPEFS_TEST_TRANSPORT` says which way requests come.
fn chosen() -> MountOptions {
    let transport = match std::env::var("ENVELOPEFS_TEST_TRANSPORT").as_deref() {
        Ok("uring") => Transport::Uring,
        Ok("dev") => Transport::Dev,
        _ => Transport::Auto,
    };
    MountOptions {
        transport,
        ..MountOptions::new()
    }
}

/// Answers "panic" by panicking, everything else with itself.
struct Echo;

impl Control for Echo {
    fn call(&self, _caller_uid: u32, request: &[u8]) -> Vec<u8> {
        assert_ne!(request, b"panic", "as asked");
        request.to_vec()
    }
}

/// A mount in a directory of its own.
struct Mounted {
    mount: Option<Mount>,
    point: PathBuf,
    _dir: TempDir,
}

impl Mounted {
    fn new() -> Self {
        Self::with(&chosen())
    }

    fn with(options: &MountOptions) -> Self {
        let dir = TempDir::new().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let (cipher, point) = (dir.path().join("cipher"), dir.path().join("mnt"));
        fs::create_dir(&cipher).unwrap();
        fs::create_dir(&point).unwrap();
        fs::set_permissions(&cipher, fs::Permissions::from_mode(0o777)).unwrap();
        let mount = Mount::start(volume(&cipher), &point, options, Some(Arc::new(Echo))).unwrap();
        Self {
            mount: Some(mount),
            point,
            _dir: dir,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.point.join(name)
    }

    fn requests(&self, operation: &str) -> usize {
        self.mount.as_ref().unwrap().requests(operation)
    }

    /// Makes a file with these bytes and this mode, owned by `uid` and its group.
    fn file(&self, name: &str, bytes: &[u8], mode: u32, uid: u32) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, bytes).unwrap();
        std::os::unix::fs::chown(&path, Some(uid), Some(uid)).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path
    }

    /// Runs a shell script as somebody, in the mount.
    fn shell_as(&self, uid: u32, script: &str) -> Output {
        Command::new("sh")
            .args(["-ec", &format!("cd '{}'; {script}", self.point.display())])
            .uid(uid)
            .gid(uid)
            .output()
            .unwrap()
    }

    /// The same, which has to work; what it prints.
    fn run_as(&self, uid: u32, script: &str) -> String {
        let output = self.shell_as(uid, script);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{script}: {errors}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        drop(self.mount.take());
    }
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777
}

fn errno<T: std::fmt::Debug>(result: io::Result<T>) -> i32 {
    result.unwrap_err().raw_os_error().unwrap()
}

/// Waits until something is so.
/// Breaks the connection of a mount off.
fn abort(point: &Path) {
    let (_, minor) = mountpoint::find(point).unwrap().unwrap().device;
    let control = "/sys/fs/fuse/connections";
    let own = !mountpoint::is_mount_point(Path::new(control)).unwrap();
    if own {
        rustix::mount::mount("x", control, "fusectl", MountFlags::empty(), None).unwrap();
    }
    fs::write(format!("{control}/{minor}/abort"), "1").unwrap();
    if own {
        rustix::mount::unmount(control, UnmountFlags::DETACH).unwrap();
    }
}

fn eventually(what: &str, mut so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !so() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
