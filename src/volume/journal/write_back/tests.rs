//! What can only be seen from inside: who waits for what.

use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use crate::backing::Os;
use crate::volume::journal::JournalMode;
use crate::volume::tests::volume_with;
use crate::volume::{Caller, HandleId, NodeId, OpenMode, OpenOptions, Volume};

const BLOCK: usize = 4096;
const BLOCKS: u64 = 512;

fn overwrite(volume: &Volume<Os>, handle: HandleId, block: u64) {
    let data = vec![block as u8; BLOCK];
    volume
        .write(handle, block % BLOCKS * BLOCK as u64, &data, false)
        .unwrap();
}

/// Who needs room while a pass is under way takes what that pass frees, and makes none of its own.
#[test]
fn room_is_what_the_pass_under_way_makes() {
    let dir = tempfile::tempdir().unwrap();
    let options = OpenOptions {
        journal: JournalMode::Manual,
        journal_size: 1 << 20,
        ..OpenOptions::default()
    };
    let volume = volume_with(dir.path(), options);
    let caller = Caller {
        uid: 0,
        gid: 0,
        pid: 1,
    };
    let made = volume.create(&caller, NodeId::ROOT, b"f", 0o644, 0, OpenMode::READ_WRITE);
    let (_, handle) = made.unwrap();
    let content = vec![1; BLOCK * BLOCKS as usize];
    volume.write(handle, 0, &content, false).unwrap();
    volume.fsync(handle, false).unwrap();

    let engine = Arc::clone(volume.engine().unwrap());
    let need = engine.journal.capacity() / 4;
    let mut block = 0;
    while engine.journal.reserve(need).is_some() {
        overwrite(&volume, handle, block);
        block += 1;
    }
    let pass = engine.pass.lock();
    std::thread::scope(|scope| {
        let (tell, told) = mpsc::channel();
        let waiter = Arc::clone(&engine);
        scope.spawn(move || {
            tell.send(waiter.room(need as usize).is_ok()).unwrap();
        });
        let early = told.recv_timeout(Duration::from_millis(50));
        assert_eq!(early, Err(RecvTimeoutError::Timeout), "there was room");
        engine.write_back_in(&pass, false).unwrap();
        assert_eq!(engine.journal.in_use(), 0);
        overwrite(&volume, handle, block);
        drop(pass);
        assert_eq!(told.recv_timeout(Duration::from_secs(20)), Ok(true));
    });
    assert_ne!(engine.journal.in_use(), 0, "written back a second time");
    volume.release(handle).unwrap();
}
