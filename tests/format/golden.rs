//! The golden volumes: cipher directories and a keystore that an earlier run of this program wrote,
//! checked in. Whatever changes, they must stay readable, by this program and by an independent
//! reader that follows envelopefs-format(5) alone (`tests/format_reader.py`).
//!
//! `tests/format_golden/golden.tar.gz` holds `keystore`, `key-file`, `encrypted` and `plain` (the
//! cipher directories); `expected.json` beside it says what is in them, `keys.json` what the keystore
//! holds. They are made once. For when the format gains something,
//! `ENVELOPEFS_MAKE_GOLDEN=DIR cargo test --test format make_golden` makes new ones in DIR, which is
//! there and empty; the old ones must stay readable.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use crate::kit::{self, ALIAS, ME, pattern};
use envelopefs::backing::{Kind, Os, XattrMode};
use envelopefs::crypto::sha256;
use envelopefs::format::{NameEncoding, SLOT_A_AT, SLOT_B_AT, Slot};
use envelopefs::kms::{self, Kms, ProtectorInput};
use envelopefs::maintain::reencrypt::ReencryptOptions;
use envelopefs::maintain::rewrap::RewrapOptions;
use envelopefs::maintain::{self, Silent};
use envelopefs::volume::{
    CreateOptions, Holder, JOURNAL_SIZE_LEAST, NodeId, OpenMode, OpenOptions, SetAttr, Volume,
};
use serde::{Deserialize, Serialize};

/// One entry of a golden volume, in plaintext.
#[derive(Serialize, Deserialize, PartialEq, Eq, Debug)]
struct Expected {
    kind: String,
    size: u64,
    /// Of a file's bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sha256: Option<String>,
    /// Of a symlink.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    target: Option<String>,
    /// Hexadecimal values by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    xattrs: BTreeMap<String, String>,
}

/// Entries by path; a character is a byte (Latin-1), since names need not be UTF-8.
type Tree = BTreeMap<String, Expected>;

fn latin1(bytes: &[u8]) -> String {
    bytes.iter().map(|&byte| char::from(byte)).collect()
}

fn hex_sha256(bytes: &[u8]) -> String {
    hex::encode(sha256(&[bytes]))
}

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/format_golden")
}

/// Unpacks the golden volumes. On disk: not every tmpfs has extended attributes.
fn unpack() -> tempfile::TempDir {
    let dir = tempfile::TempDir::with_prefix_in("golden-", env!("CARGO_TARGET_TMPDIR")).unwrap();
    run(Command::new("tar")
        .args(["--extract", "--xattrs", "--xattrs-include=user.*"])
        .args(["--no-same-owner", "--preserve-permissions", "--file"])
        .arg(golden().join("golden.tar.gz"))
        .arg("--directory")
        .arg(dir.path()));
    dir
}

fn open_kms(dir: &Path) -> Arc<Kms> {
    let input = ProtectorInput::key_file(&dir.join("key-file")).unwrap();
    Arc::new(Kms::open(&dir.join("keystore"), &[input]).unwrap())
}

fn open(dir: &Path, name: &str, kms: &Arc<Kms>) -> Volume<Os> {
    let os = Os::open(&dir.join(name)).unwrap();
    let options = OpenOptions {
        // Stays in the lock file, which is checked in.
        holder: Holder {
            pid: 1,
            host: "golden".into(),
            purpose: "test".into(),
            mountpoint: None,
        },
        ..OpenOptions::default()
    };
    Volume::open(os, Arc::clone(kms), options).unwrap()
}

/// Reads all of a volume through the operations that a mount uses.
fn read_tree(volume: &Volume<Os>) -> Tree {
    let mut tree = Tree::new();
    let mut left = vec![(NodeId::ROOT, String::new())];
    while let Some((dir, path)) = left.pop() {
        let mut names = Vec::new();
        volume
            .readdir(dir, 0, &mut |entry| {
                names.push(entry.name.to_vec());
                true
            })
            .unwrap();
        for name in names
            .into_iter()
            .filter(|name| name != b"." && name != b"..")
        {
            let attr = volume.lookup(dir, &name).unwrap();
            let path = format!("{path}{}", latin1(&name));
            let mut entry = Expected {
                kind: format!("{:?}", attr.kind).to_lowercase(),
                size: 0,
                sha256: None,
                target: None,
                xattrs: BTreeMap::new(),
            };
            match attr.kind {
                Kind::Dir => left.push((attr.ino, format!("{path}/"))),
                Kind::File => {
                    let handle = volume.open_file(&ME, attr.ino, OpenMode::READ).unwrap();
                    let mut bytes = vec![0; attr.size as usize + 1];
                    let len = volume.read(handle, 0, &mut bytes).unwrap();
                    assert_eq!(len as u64, attr.size, "{path}");
                    volume.release(handle).unwrap();
                    entry.size = attr.size;
                    entry.sha256 = Some(hex_sha256(&bytes[..len]));
                }
                Kind::Symlink => {
                    entry.size = attr.size;
                    entry.target = Some(latin1(&volume.readlink(attr.ino).unwrap()));
                }
                _ => {}
            }
            for name in volume.list_xattr(attr.ino).unwrap() {
                let value = volume.get_xattr(attr.ino, &name).unwrap();
                entry.xattrs.insert(latin1(&name), hex::encode(value));
            }
            assert!(tree.insert(path, entry).is_none());
        }
    }
    tree
}

fn expected() -> BTreeMap<String, Tree> {
    let text = std::fs::read_to_string(golden().join("expected.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

#[test]
fn this_program_reads_the_golden_volumes() {
    let dir = unpack();
    let kms = open_kms(dir.path());
    for (name, tree) in expected() {
        assert!(!tree.is_empty());
        let volume = open(dir.path(), &name, &kms);
        assert_eq!(read_tree(&volume), tree, "{name}");
        let report = maintain::fsck::run(&volume, &Silent).unwrap();
        assert!(report.is_clean(), "{name}: {:?}", report.damaged);
        // Still so after their keys went to new material.
        let (id, key) = (volume.id(), volume.volume_key_id());
        kms.rotate_volume_key(&id, &key).unwrap();
        let done = maintain::rewrap::run(&volume, &RewrapOptions::default(), &Silent).unwrap();
        assert!(done.failed.is_empty() && done.rewrapped > 0, "{done:?}");
        volume.close().unwrap();
        assert_eq!(read_tree(&open(dir.path(), &name, &kms)), tree, "{name}");
    }
}

#[test]
fn the_independent_reader_reads_the_golden_volumes() {
    reader_agrees(unpack().path());
}

fn reader_agrees(dir: &Path) {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let output = Command::new("python3")
        .arg(tests.join("format_reader.py"))
        .arg("check")
        .arg(dir)
        .arg(golden())
        .output()
        .expect("python3 is installed (apt-get install python3)");
    assert!(
        output.status.success(),
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Cipher files below a directory whose newest slot has a previous data key.
fn under_way(dir: &Path) -> usize {
    let newest_has_previous = |bytes: &[u8]| {
        let slots = [SLOT_A_AT, SLOT_B_AT].map(|at| Slot::parse(bytes.get(at..)?).ok()?);
        let newest = slots
            .into_iter()
            .flatten()
            .max_by_key(|slot| slot.generation);
        newest.is_some_and(|slot| slot.previous().next().is_some())
    };
    let mut count = 0;
    for entry in std::fs::read_dir(dir).unwrap().map(Result::unwrap) {
        let (path, kind) = (entry.path(), entry.file_type().unwrap());
        if kind.is_dir() && entry.file_name() != ".envelopefs" {
            count += under_way(&path);
        } else if kind.is_file() {
            count += usize::from(newest_has_previous(&std::fs::read(path).unwrap()));
        }
    }
    count
}

/// Files that are half under a new data key, and all of them when they are through: as the page says.
#[test]
fn the_independent_reader_reads_what_is_re_encrypted() {
    let dir = unpack();
    let kms = open_kms(dir.path());
    let trees = expected();
    for name in trees.keys() {
        let mut steps = 1;
        while under_way(&dir.path().join(name)) == 0 {
            let os = Os::open(&dir.path().join(name)).unwrap();
            let options = OpenOptions {
                journal_size: JOURNAL_SIZE_LEAST,
                ..OpenOptions::default()
            };
            let volume = Volume::open(os, Arc::clone(&kms), options).unwrap();
            let options = ReencryptOptions::default();
            let budget = kit::Budget::of(steps);
            let report = maintain::reencrypt::run(&volume, &options, &budget).unwrap();
            assert!(!report.complete, "{name}: no file takes more than a step");
            volume.close().unwrap();
            steps += 1;
        }
    }
    reader_agrees(dir.path());
    for (name, tree) in &trees {
        let volume = open(dir.path(), name, &kms);
        assert_eq!(read_tree(&volume), *tree, "{name}");
        let options = ReencryptOptions::default();
        let report = maintain::reencrypt::run(&volume, &options, &Silent).unwrap();
        assert!(report.complete && report.resumed == 1, "{name}: {report:?}");
        volume.close().unwrap();
        assert_eq!(under_way(&dir.path().join(name)), 0);
    }
    reader_agrees(dir.path());
}

/// Makes a file, writes pieces at their offsets, and sets its size when one is given.
fn make(
    volume: &Volume<Os>,
    dir: NodeId,
    name: &[u8],
    pieces: &[(u64, Vec<u8>)],
    size: Option<u64>,
) -> NodeId {
    let (attr, handle) = volume
        .create(&ME, dir, name, 0o644, 0o022, OpenMode::READ_WRITE)
        .unwrap();
    for (at, bytes) in pieces {
        volume.write(handle, *at, bytes, false).unwrap();
    }
    if size.is_some() {
        let change = SetAttr {
            size,
            ..SetAttr::default()
        };
        volume
            .setattr(&ME, attr.ino, Some(handle), &change)
            .unwrap();
    }
    volume.release(handle).unwrap();
    attr.ino
}

/// Writes everything that the format has into a fresh volume.
fn fill(volume: &Volume<Os>, kms: &Kms) {
    let make = |dir: NodeId, name: &[u8], pieces: &[(u64, Vec<u8>)], size: Option<u64>| {
        make(volume, dir, name, pieces, size)
    };
    let root = NodeId::ROOT;
    let block = |index: u64| index * 4096;
    make(root, b"empty", &[], None);
    let small = make(
        root,
        b"small.txt",
        &[(0, b"a small file, inline\n".to_vec())],
        None,
    );
    make(root, b"inline-longest", &[(0, pattern(3040, 1))], None);
    make(root, b"block-shortest", &[(0, pattern(3041, 2))], None);
    let blocks = make(root, b"blocks", &[(0, pattern(3 * 4096 + 17, 3))], None);
    // Written again in the middle: another sequence number.
    make(
        root,
        b"overwritten",
        &[
            (0, pattern(2 * 4096, 4)),
            (100, pattern(5000, 5)),
            (4096, pattern(10, 6)),
        ],
        None,
    );
    // In the head group's last block, the first ones of groups 1 and 2, and a hole at the end.
    make(
        root,
        b"sparse",
        &[
            (0, pattern(100, 7)),
            (block(95) + 4000, pattern(200, 8)),
            (block(224) - 10, pattern(20, 9)),
        ],
        Some(block(230) + 123),
    );
    // More than the head group, no holes but for two, near the seam.
    make(
        root,
        b"grown",
        &[
            (block(94), pattern(4 * 4096 + 1, 10)),
            (block(97) + 4096, pattern(77, 11)),
        ],
        None,
    );
    make(root, &[b'n'; 176], &[(0, pattern(50, 12))], None);
    make(root, &[b'n'; 255], &[(0, pattern(60, 13))], None);
    make(root, b"caf\xe9 \n", &[(0, pattern(70, 14))], None);
    make(root, b".envelopefs", &[(0, pattern(80, 15))], None);
    make(root, b".envelopefs.dir", &[(0, pattern(90, 16))], None);

    let dir = volume
        .mkdir(&ME, root, b"directory", 0o755, 0o022)
        .unwrap()
        .ino;
    make(
        dir,
        b"small.txt",
        &[(0, b"in a directory\n".to_vec())],
        None,
    );
    let long = volume
        .mkdir(&ME, dir, &[b'd'; 200], 0o755, 0o022)
        .unwrap()
        .ino;
    make(long, b"deep", &[(0, pattern(5000, 17))], None);
    volume
        .mkdir(&ME, root, b"empty-directory", 0o700, 0o022)
        .unwrap();
    volume.link(blocks, dir, b"hard-link").unwrap();
    volume
        .symlink(&ME, root, b"link", b"directory/small.txt")
        .unwrap();
    let far = b"../far/away/".repeat(330);
    volume.symlink(&ME, root, b"link-longest", &far).unwrap();
    volume
        .mknod(&ME, root, b"fifo", libc::S_IFIFO | 0o644, 0o022, 0)
        .unwrap();

    let long_name = [b"user.".as_slice(), &[b'x'; 200]].concat();
    for (node, name, value) in [
        (small, b"user.comment".as_slice(), b"a value".as_slice()),
        (small, &long_name, b"of a long name"),
        (dir, b"user.empty", b""),
        (blocks, b"user.bytes", &[0, 255, 10]),
    ] {
        volume.set_xattr(node, name, value, XattrMode::Any).unwrap();
    }

    // All so far goes to the second slot, under new material; what follows is under a third.
    let (id, key) = (volume.id(), volume.volume_key_id());
    kms.rotate_volume_key(&id, &key).unwrap();
    let done = maintain::rewrap::run(volume, &RewrapOptions::default(), &Silent).unwrap();
    assert!(done.failed.is_empty() && done.rewrapped > 10, "{done:?}");
    kms.rotate_volume_key(&id, &key).unwrap();
    make(dir, b"after-rotation", &[(0, pattern(6000, 18))], None);
}

/// Makes golden volumes, when asked to.
#[test]
fn make_golden() {
    let Ok(dir) = std::env::var("ENVELOPEFS_MAKE_GOLDEN") else {
        return;
    };
    let dir = Path::new(&dir);
    let key_file = dir.join("key-file");
    std::fs::write(
        &key_file,
        sha256(&[b"the golden key file: protects nothing"]),
    )
    .unwrap();
    std::fs::set_permissions(&key_file, std::fs::Permissions::from_mode(0o600)).unwrap();
    let input = ProtectorInput::key_file(&key_file).unwrap();
    let kms = Kms::create(
        &dir.join("keystore"),
        &input,
        &kms::CreateOptions::default(),
    )
    .unwrap();
    let kms = Arc::new(kms);
    let key = kms.service_key(ALIAS).unwrap();
    let mut trees = BTreeMap::new();
    for (name, names) in [
        ("encrypted", NameEncoding::Encrypted),
        ("plain", NameEncoding::Plain),
    ] {
        std::fs::create_dir(dir.join(name)).unwrap();
        let os = Os::open(&dir.join(name)).unwrap();
        Volume::init(&os, &kms, &CreateOptions { key, names }).unwrap();
        let volume = open(dir, name, &kms);
        fill(&volume, &kms);
        trees.insert(name, read_tree(&volume));
        volume.close().unwrap();
    }
    drop(kms);
    let text = serde_json::to_string_pretty(&trees).unwrap();
    std::fs::write(dir.join("expected.json"), text + "\n").unwrap();
    let keys = std::fs::File::create(dir.join("keys.json")).unwrap();
    let reader = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/format_reader.py");
    run(Command::new("python3")
        .arg(reader)
        .args(["keys", "keystore", "key-file"])
        .current_dir(dir)
        .stdout(keys));
    run(Command::new("tar")
        .args([
            "--create",
            "--gzip",
            "--format=posix",
            "--sparse",
            "--xattrs",
        ])
        .args(["--sort=name", "--owner=0", "--group=0", "--numeric-owner"])
        .args(["--mtime=@0", "--pax-option=delete=atime,delete=ctime"])
        .args(["--file", "golden.tar.gz"])
        .args(["encrypted", "key-file", "keystore", "plain"])
        .current_dir(dir));
}

fn run(command: &mut Command) {
    let status = command.status().expect("the program is installed");
    assert!(status.success(), "{command:?}");
}
