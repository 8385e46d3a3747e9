//! A volume on a temporary directory, without a mount.
#![allow(dead_code)] // each test uses a part
#![allow(missing_docs)]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use envelopefs::backing::{Backing, Faults, Faulty, Os};
use envelopefs::format::NameEncoding;
use envelopefs::kms::{self, Kms, ProtectorInput};
use envelopefs::maintain::Progress;
use envelopefs::volume::{
    Attr, Caller, CreateOptions, HandleId, NodeId, OpenMode, OpenOptions, Volume, VolumeError,
};
use tempfile::TempDir;

pub const ALIAS: &str = "alias/envelopefs/volume";
pub const ME: Caller = Caller {
    uid: 0,
    gid: 0,
    pid: 1,
};

/// A keystore and a cipher directory.
pub struct Kit {
    pub dir: TempDir,
    pub kms: Arc<Kms>,
}

impl Kit {
    /// A fresh volume, its names encrypted.
    pub fn new() -> Self {
        Self::with(NameEncoding::Encrypted)
    }

    pub fn with(names: NameEncoding) -> Self {
        let shm = Path::new("/dev/shm");
        let base = if shm.is_dir() {
            shm.to_path_buf()
        } else {
            std::env::temp_dir()
        };
        let dir = TempDir::with_prefix_in("envelopefs-kit-", base).unwrap();
        std::fs::create_dir(dir.path().join("cipher")).unwrap();
        let protector = ProtectorInput::key(vec![7; 32].into()).unwrap();
        let kms = Kms::create(
            &dir.path().join("keystore"),
            &protector,
            &kms::CreateOptions::default(),
        )
        .unwrap();
        let kit = Self {
            dir,
            kms: Arc::new(kms),
        };
        let key = kit.kms.service_key(ALIAS).unwrap();
        Volume::init(&kit.os(), &kit.kms, &CreateOptions { key, names }).unwrap();
        kit
    }

    pub fn cipher(&self) -> PathBuf {
        self.dir.path().join("cipher")
    }

    pub fn os(&self) -> Os {
        Os::open(&self.cipher()).unwrap()
    }

    pub fn open(&self) -> Volume<Os> {
        Volume::open(self.os(), Arc::clone(&self.kms), OpenOptions::default()).unwrap()
    }

    pub fn open_read_only(&self) -> Volume<Os> {
        let options = OpenOptions {
            read_only: true,
            ..OpenOptions::default()
        };
        Volume::open(self.os(), Arc::clone(&self.kms), options).unwrap()
    }

    /// A volume whose calls below can be made to fail.
    pub fn open_faulty(&self) -> (Volume<Faulty<Os>>, Arc<Faults>) {
        let faulty = Faulty::new(self.os());
        let faults = faulty.faults();
        let volume = Volume::open(faulty, Arc::clone(&self.kms), OpenOptions::default()).unwrap();
        (volume, faults)
    }

    /// The one regular cipher file in the root.
    pub fn only_file(&self) -> PathBuf {
        let mut files: Vec<_> = std::fs::read_dir(self.cipher())
            .unwrap()
            .map(|entry| entry.unwrap())
            .filter(|entry| entry.file_type().unwrap().is_file())
            .map(|entry| entry.path())
            .collect();
        assert_eq!(files.len(), 1, "{files:?}");
        files.remove(0)
    }
}

/// Stops a walk that re-encrypts after so many steps.
pub struct Budget {
    steps: AtomicU64,
    bytes: AtomicU64,
}

impl Budget {
    pub fn of(steps: u64) -> Self {
        Self {
            steps: AtomicU64::new(steps),
            bytes: AtomicU64::new(0),
        }
    }
}

impl Progress for Budget {
    fn advanced(&self, _files: u64, bytes: u64) {
        // A file that is through is no step of its own.
        if self.bytes.swap(bytes, Ordering::Relaxed) != bytes {
            let left = self.steps.load(Ordering::Relaxed);
            self.steps.store(left.saturating_sub(1), Ordering::Relaxed);
        }
    }

    fn cancelled(&self) -> bool {
        self.steps.load(Ordering::Relaxed) == 0
    }
}

/// Makes a file in the root and opens it.
pub fn make<B: Backing>(volume: &Volume<B>, name: &str) -> (Attr, HandleId) {
    volume
        .create(
            &ME,
            NodeId::ROOT,
            name.as_bytes(),
            0o644,
            0o022,
            OpenMode::READ_WRITE,
        )
        .unwrap()
}

/// Makes a file in the root with these bytes.
pub fn make_with<B: Backing>(volume: &Volume<B>, name: &str, bytes: &[u8]) -> NodeId {
    let (attr, handle) = make(volume, name);
    volume.write(handle, 0, bytes, false).unwrap();
    volume.release(handle).unwrap();
    attr.ino
}

/// Reads a whole file of the root by its name.
pub fn read_all<B: Backing>(volume: &Volume<B>, name: &str) -> Result<Vec<u8>, VolumeError> {
    let attr = volume.lookup(NodeId::ROOT, name.as_bytes())?;
    let handle = volume.open_file(&ME, attr.ino, OpenMode::READ)?;
    let mut bytes = vec![0; attr.size as usize];
    let result = volume.read(handle, 0, &mut bytes);
    volume.release(handle).unwrap();
    let read = result?;
    bytes.truncate(read);
    Ok(bytes)
}

/// Bytes that tell where they belong.
pub fn pattern(len: usize, seed: u8) -> Vec<u8> {
    (0..len)
        .map(|i| (i as u8).wrapping_mul(31).wrapping_add((i >> 8) as u8) ^ seed)
        .collect()
}

/// The names in a directory, sorted, without `.` and `..`.
pub fn names<B: Backing>(volume: &Volume<B>, node: NodeId) -> Vec<Vec<u8>> {
    let mut names = Vec::new();
    volume
        .readdir(node, 0, &mut |entry| {
            if !matches!(entry.name, b"." | b"..") {
                names.push(entry.name.to_vec());
            }
            true
        })
        .unwrap();
    names.sort();
    names
}
