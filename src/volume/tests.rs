//! What can only be seen from inside.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::lookup::Place;
use super::*;
use crate::format::NameEncoding;
use crate::kms::{self, Kms, ProtectorInput};

/// A volume on a temporary directory.
fn volume(dir: &Path) -> Volume<Os> {
    volume_with(dir, OpenOptions::default())
}

/// The same, opened in another way.
pub(super) fn volume_with(dir: &Path, options: OpenOptions) -> Volume<Os> {
    let cipher = dir.join("cipher");
    std::fs::create_dir(&cipher).unwrap();
    let protector = ProtectorInput::key(vec![7; 32].into()).unwrap();
    let create = kms::CreateOptions::default();
    let kms = Arc::new(Kms::create(&dir.join("keystore"), &protector, &create).unwrap());
    let key = kms.service_key("alias/envelopefs/volume").unwrap();
    let names = NameEncoding::Encrypted;
    let os = || Os::open(&cipher).unwrap();
    Volume::init(&os(), &kms, &CreateOptions { key, names }).unwrap();
    Volume::open(os(), kms, options).unwrap()
}

/// When a file is re-encrypted, nothing in memory holds its old data key any more: neither the open
/// file nor the cache. Until then both are there.
#[test]
fn an_old_data_key_is_gone_from_memory() {
    let caller = Caller {
        uid: 0,
        gid: 0,
        pid: 1,
    };
    for len in [100, 10_000] {
        let dir = tempfile::tempdir().unwrap();
        let volume = volume(dir.path());
        let name = format!("f{len}");
        let made = volume.create(
            &caller,
            NodeId::ROOT,
            name.as_bytes(),
            0o644,
            0,
            OpenMode::READ_WRITE,
        );
        let (attr, handle) = made.unwrap();
        volume.write(handle, 0, &vec![1; len], false).unwrap();
        volume.release(handle).unwrap();
        volume.write_back().unwrap();
        // Its key was made for a user, so that the cache has it.
        let handle = volume.open_file(&caller, attr.ino, OpenMode::READ).unwrap();
        let file = volume.acquire(attr.ino, true).unwrap();
        let keys = || {
            let core = file.core.read();
            core.head.as_ref().unwrap().unwrapped.keys.clone()
        };
        let old = Arc::downgrade(keys().current());
        let cached = || volume.keys.cached(&file.core.read().file_id().unwrap());
        assert_eq!(cached(), 1);
        let seen = AtomicBool::new(false);
        let done = volume.renew(&file, &|bytes| {
            if bytes > 0 {
                assert!(old.upgrade().is_some() && keys().previous().is_some());
                seen.store(true, Ordering::Relaxed);
            }
            true
        });
        assert!(matches!(done.unwrap(), Reencrypted::Done(_)) && seen.into_inner());
        assert!(old.upgrade().is_none(), "{len} bytes");
        assert_eq!(cached(), 0, "{len} bytes");
        assert!(keys().previous().is_none());
        volume.done_with(&file);
        volume.release(handle).unwrap();
    }
}

/// Who opens a file that another one is opening just now waits and shares it: it may be written to
/// already, and its header be behind its size.
#[test]
fn two_that_open_a_file_at_once_open_it_once() {
    let caller = Caller {
        uid: 0,
        gid: 0,
        pid: 1,
    };
    let dir = tempfile::tempdir().unwrap();
    let volume = volume(dir.path());
    let open = OpenMode::READ_WRITE;
    let made = volume.create(&caller, NodeId::ROOT, b"file", 0o644, 0, open);
    let (attr, handle) = made.unwrap();
    volume.write(handle, 0, &[1; 5000], false).unwrap();
    volume.release(handle).unwrap();
    volume.write_back().unwrap();
    let node = attr.ino;
    assert!(volume.files.of_node(node).is_none());

    let (tell, told) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        let files = &volume.files;
        let (file, is_new) = files
            .acquire(node, true, || {
                scope.spawn(move || {
                    let second = files.acquire(node, true, || panic!("opened a second time"));
                    tell.send(second.unwrap()).unwrap();
                });
                let early = told.recv_timeout(std::time::Duration::from_millis(200));
                assert!(early.is_err(), "did not wait");
                let Place::Entry(dir, name) = volume.place(node)? else {
                    unreachable!("a file")
                };
                volume.open_below(node, &dir.dir, &name, true)
            })
            .unwrap();
        let (second, second_is_new) = told.recv().unwrap();
        assert!(is_new && !second_is_new && Arc::ptr_eq(&file, &second));
        volume.done_with(&second);
        volume.done_with(&file);
    });
    assert!(volume.files.of_node(node).is_none());
}
