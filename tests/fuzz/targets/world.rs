//! What the targets with a volume work on: copies of the golden volumes, on a filesystem in memory.

use std::collections::HashMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use envelopefs::backing::Os;
use envelopefs::content::{FileKeys, Layout};
use envelopefs::crypto::mac;
use envelopefs::format::{
    FileId, Mark, SLOT_A_AT, SLOT_B_AT, Slot, StaticPart, VolumeId, VolumeRecord, VolumeSecrets,
};
use envelopefs::kms::api::CreateKeyRequest;
use envelopefs::kms::{EncryptionContext, KeyId, Kms, ProtectorInput};
use envelopefs::secret::Key256;
use envelopefs::volume::{Caller, NodeId, OpenMode, OpenOptions, Volume};

/// `tests/format/golden.rs` tells what is in it.
const GOLDEN: &[u8] = include_bytes!("../../format_golden/golden.tar.gz");

pub const ME: Caller = Caller {
    uid: 0,
    gid: 0,
    pid: 1,
};

/// A file of the golden volume with plain names.
pub struct Known {
    pub plain: Vec<u8>,
    pub sparse: bool,
    pub keys: FileKeys,
    pub cipher: Vec<u8>,
}

/// A volume, and its cipher directory.
pub struct Place {
    pub volume: Volume<Os>,
    pub dir: PathBuf,
}

/// An open keystore and its volumes.
pub struct World {
    pub kms: Arc<Kms>,
    /// The CMK of the volumes.
    pub key: KeyId,
    /// Another CMK.
    pub other_key: KeyId,
    /// Names as they are; marked clean when it was opened.
    pub strict: Place,
    /// The same, marked in use when it was opened.
    pub lax: Place,
    /// Encrypted names.
    pub encrypted: Place,
    /// Encrypted names; opened by the target.
    pub control: PathBuf,
    /// The volume record of `control`, and what derives from its volume key.
    pub record: VolumeRecord,
    pub secrets: VolumeSecrets,
    pub files: HashMap<FileId, Known>,
    pub dir: tempfile::TempDir,
}

fn copy(from: &Path, to: &Path) {
    let status = Command::new("cp").arg("-a").args([from, to]).status();
    assert!(status.expect("cp is installed").success());
}

fn unpack(dir: &Path) {
    let mut tar = Command::new("tar")
        .args(["--extract", "--gzip", "--no-same-owner", "--file=-"])
        .arg("--directory")
        .arg(dir)
        .stdin(Stdio::piped())
        .spawn()
        .expect("tar is installed");
    tar.stdin
        .take()
        .expect("a pipe")
        .write_all(GOLDEN)
        .expect("tar reads");
    assert!(tar.wait().expect("tar ends").success());
}

fn open(dir: PathBuf, kms: &Arc<Kms>) -> Place {
    let os = Os::open(&dir).expect("the cipher directory");
    let volume =
        Volume::open(os, Arc::clone(kms), OpenOptions::default()).expect("the volume opens");
    Place { volume, dir }
}

pub fn context(volume: &VolumeId) -> EncryptionContext {
    EncryptionContext::new().with("envelopefs:volume-id", volume.to_string())
}

impl World {
    /// Unpacks and opens everything, below `$ENVELOPEFS_FUZZ_DIR` or in /dev/shm. Goes away when it
    /// is dropped.
    pub fn new() -> Self {
        let base = std::env::var_os("ENVELOPEFS_FUZZ_DIR")
            .map(PathBuf::from)
            .or_else(|| Some(PathBuf::from("/dev/shm")).filter(|dir| dir.is_dir()))
            .unwrap_or_else(std::env::temp_dir);
        let dir = tempfile::TempDir::with_prefix_in("envelopefs-fuzz-", base).expect("a folder");
        let path = dir.path();
        unpack(path);
        for (from, to) in [("plain", "lax"), ("encrypted", "control")] {
            copy(&path.join(from), &path.join(to));
        }
        let input = ProtectorInput::key_file(&path.join("key-file")).expect("a key file");
        let kms = Arc::new(Kms::open(&path.join("keystore"), &[input]).expect("a keystore"));
        let control = path.join("control");
        let record = Volume::peek(&Os::open(&control).expect("a folder")).expect("a volume record");
        let id = record.volume_id;
        let volume_key = kms
            .client(&kms.volume_caller(&id))
            .decrypt_data_key(&record.volume_keys[0], &context(&id))
            .expect("the volume key unwraps");
        let secrets = VolumeSecrets::derive(&volume_key, &id);
        // As after a crash: what was being written may be half there.
        let mark = Mark {
            in_use: true,
            epoch: 1,
            ..Mark::default()
        };
        let mark = mark.seal(&secrets.record);
        std::fs::write(path.join("lax/.envelopefs/mark"), mark).expect("a mark");
        let strict = open(path.join("plain"), &kms);
        let other = kms.owner().create_key(&CreateKeyRequest::default());
        let other = other.expect("one more CMK").key_metadata;
        Self {
            files: known_files(&strict, &kms),
            key: strict.volume.volume_key_id(),
            other_key: other.key_id,
            lax: open(path.join("lax"), &kms),
            encrypted: open(path.join("encrypted"), &kms),
            secrets,
            strict,
            control,
            record,
            kms,
            dir,
        }
    }

    /// A volume record with this body.
    pub fn framed_record(body: &[u8], key: &Key256) -> Vec<u8> {
        let mut bytes = b"ENVLPVOL\x01\0\0\0".to_vec();
        bytes.extend((body.len() as u32).to_le_bytes());
        bytes.extend(body);
        let tag = mac(key, &[&bytes]);
        bytes.extend(tag);
        bytes
    }

    /// A genuine wrapped key and its encryption context.
    pub fn known_blobs(&self) -> impl Iterator<Item = (&[u8], &EncryptionContext)> {
        static CONTEXT: std::sync::OnceLock<EncryptionContext> = std::sync::OnceLock::new();
        let context = CONTEXT.get_or_init(|| context(&self.record.volume_id));
        let blobs = self.record.volume_keys.iter();
        blobs.map(move |blob| (blob.as_slice(), context))
    }
}

/// The regular files in the root of a volume with plain names.
fn known_files(place: &Place, kms: &Kms) -> HashMap<FileId, Known> {
    let mut files = HashMap::new();
    for entry in std::fs::read_dir(&place.dir).expect("a folder") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().and_then(|name| name.to_str());
        let Some(name) = name.filter(|name| path.is_file() && !name.starts_with(".env")) else {
            continue;
        };
        let cipher = std::fs::read(&path).expect("a file");
        if cipher.is_empty() || path.is_symlink() {
            continue;
        }
        let volume = &place.volume;
        let attr = volume
            .lookup(NodeId::ROOT, name.as_bytes())
            .expect("a golden file");
        let handle = volume
            .open_file(&ME, attr.ino, OpenMode::READ)
            .expect("it opens");
        let mut plain = vec![0; attr.size as usize];
        assert_eq!(volume.read(handle, 0, &mut plain).ok(), Some(plain.len()));
        volume.release(handle).expect("a handle");
        volume.forget(attr.ino, 1);
        let part = StaticPart::parse(&cipher).expect("a header");
        let slots = [SLOT_A_AT, SLOT_B_AT].map(|at| Slot::parse(&cipher[at..]).expect("a slot"));
        let newest = slots
            .into_iter()
            .flatten()
            .max_by_key(|slot| slot.generation)
            .expect("a slot");
        let context = context(&volume.id()).with("envelopefs:file-id", part.file_id.to_string());
        let key = kms
            .client(&kms.volume_caller(&volume.id()))
            .decrypt_data_key(&newest.keys[0].blob, &context)
            .expect("it unwraps");
        let layout = Layout::of_cipher_size(cipher.len() as u64).expect("a size");
        assert_eq!(layout.size(), attr.size);
        let known = Known {
            sparse: cipher[968] & 1 == 1,
            keys: FileKeys::derive(&key, &volume.id(), &part.file_id, 0),
            plain,
            cipher,
        };
        files.insert(part.file_id, known);
    }
    assert!(files.len() > 8);
    files
}
