//! How many calls below a read costs.

use crate::kit::{Kit, ME, make_with, pattern};
use envelopefs::backing::Call;
use envelopefs::volume::{NodeId, OpenMode};

const KIB: usize = 1 << 10;
/// As much as the kernel asks for at once.
const REQUEST: usize = 128 * KIB;
/// The end of the first of a file's groups of blocks is at 384 KiB, then there is one each 512 KiB.
const GROUPS: usize = 60;
const LEN: usize = 384 * KIB + GROUPS * 512 * KIB;

/// Who reads a file that nobody read before, from its start to its end, pays one call a request: the
/// entries of a group come with its first blocks, and the kernel is left to read ahead. Advice to fetch
/// pages by themselves cost a third of the throughput of a disk.
#[test]
fn a_cold_file_is_read_in_sequence_with_one_call_a_request() {
    let kit = Kit::new();
    let content = pattern(LEN, 7);
    let volume = kit.open();
    make_with(&volume, "file", &content);
    volume.close().unwrap();
    drop(volume);
    for request in [REQUEST, 1024 * KIB] {
        let (volume, faults) = kit.open_faulty();
        let attr = volume.lookup(NodeId::ROOT, b"file").unwrap();
        let handle = volume.open_file(&ME, attr.ino, OpenMode::READ).unwrap();
        let mut buf = vec![0; request];
        faults.reset_counts();
        for at in (0..LEN).step_by(request) {
            let read = volume.read(handle, at as u64, &mut buf).unwrap();
            assert!(buf[..read] == content[at..LEN.min(at + request)], "at {at}");
        }
        let requests = LEN.div_ceil(request) as u64;
        assert_eq!(
            faults.count(Call::ReadAt),
            requests,
            "{request} bytes a request"
        );
        assert_eq!(faults.advised(), 0, "{request} bytes a request");
        volume.release(handle).unwrap();
        volume.close().unwrap();
    }
}

/// Who jumps about in it waits for entries and data together, and soon for data alone.
#[test]
fn a_cold_file_is_read_here_and_there_with_advice() {
    let kit = Kit::new();
    let content = pattern(LEN, 8);
    let volume = kit.open();
    make_with(&volume, "file", &content);
    volume.close().unwrap();
    drop(volume);
    let (volume, faults) = kit.open_faulty();
    let attr = volume.lookup(NodeId::ROOT, b"file").unwrap();
    let handle = volume.open_file(&ME, attr.ino, OpenMode::READ).unwrap();
    let mut buf = [0; 4 * KIB];
    faults.reset_counts();
    // Each group once, 23 groups from the one before it.
    for step in 1..GROUPS {
        let at = 384 * KIB + (step * 23 % GROUPS) * 512 * KIB + 12 * KIB;
        volume.read(handle, at as u64, &mut buf).unwrap();
        assert!(buf == content[at..at + buf.len()], "at {at}");
    }
    let misses = (GROUPS - 1) as u64;
    assert_eq!(faults.count(Call::ReadAt), 2 * misses);
    assert!(faults.advised() > misses, "{}", faults.advised());
    volume.release(handle).unwrap();
    volume.close().unwrap();
}
