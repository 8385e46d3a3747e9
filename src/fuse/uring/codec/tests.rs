use std::time::Duration;

use super::*;
use crate::volume::NodeId;

fn attr() -> Attr {
    let time = |secs| Time {
        secs,
        nanos: 999_999_999,
    };
    Attr {
        ino: NodeId(7),
        generation: 3,
        kind: Kind::File,
        perm: 0o4755,
        nlink: 2,
        uid: 11,
        gid: 12,
        rdev: 0x1_0000_0001,
        size: 5000,
        blocks: 16,
        blksize: 4096,
        atime: time(-2),
        mtime: time(1),
        ctime: time(i64::MAX),
    }
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_ne_bytes(bytes[at..at + 8].try_into().unwrap())
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes(bytes[at..at + 4].try_into().unwrap())
}

/// What `fill` writes, and how long it is.
fn written(fill: impl FnOnce(&mut Out<'_>)) -> Vec<u8> {
    let mut buffer = vec![0xff; 512];
    let mut out = Out::new(&mut buffer);
    fill(&mut out);
    let len = out.finish().unwrap();
    buffer.truncate(len);
    buffer
}

#[test]
fn answers_have_the_kernel_s_sizes() {
    let second = Duration::from_secs(1);
    assert_eq!(written(|out| out.entry(&attr(), second)).len(), 128);
    assert_eq!(written(|out| out.no_entry(second)).len(), 128);
    assert_eq!(written(|out| out.attributes(&attr(), second)).len(), 104);
    assert_eq!(written(|out| out.opened(1, 0)).len(), 16);
    let stat = StatFs {
        block_size: 4096,
        blocks: 1,
        blocks_free: 2,
        blocks_available: 3,
        files: 4,
        files_free: 5,
        name_max: 255,
    };
    assert_eq!(written(|out| out.statfs(&stat, 4096, 255)).len(), 80);
}

#[test]
fn an_entry_has_its_fields_where_the_kernel_looks() {
    let bytes = written(|out| out.entry(&attr(), Duration::new(9, 8)));
    let at = |at| u64_at(&bytes, at);
    assert_eq!((at(0), at(8), at(16), at(24)), (7, 3, 9, 9));
    assert_eq!((u32_at(&bytes, 32), u32_at(&bytes, 36)), (8, 8));
    // struct fuse_attr at 40
    assert_eq!((at(40), at(48), at(56)), (7, 5000, 16));
    assert_eq!(at(64).cast_signed(), -2);
    assert_eq!((at(72), at(80)), (1, i64::MAX.cast_unsigned()));
    let words: Vec<u32> = (88..128).step_by(4).map(|at| u32_at(&bytes, at)).collect();
    let nanos = 999_999_999;
    assert_eq!(
        words,
        [nanos, nanos, nanos, 0o104_755, 2, 11, 12, 1, 4096, 0]
    );
}

#[test]
fn a_name_that_is_not_there_is_node_0_with_a_lifetime() {
    let bytes = written(|out| out.no_entry(Duration::from_secs(9)));
    assert_eq!((u64_at(&bytes, 0), u64_at(&bytes, 16)), (0, 9));
    assert!(bytes[40..].iter().all(|byte| *byte == 0));
}

#[test]
fn directory_entries_go_in_while_there_is_room() {
    let entry = |name| DirEntry {
        name,
        ino: NodeId(7),
        kind: Kind::Dir,
        next: 5,
    };
    let mut buffer = [0xff; 64];
    let mut out = Out::new(&mut buffer);
    assert!(out.dir_entry(&entry(b"12345678"), None));
    assert!(out.dir_entry(&entry(b"1"), None));
    assert!(!out.dir_entry(&entry(b""), None));
    assert_eq!(out.finish(), Some(64));
    assert_eq!((u64_at(&buffer, 0), u64_at(&buffer, 8)), (7, 5));
    assert_eq!((u32_at(&buffer, 16), u32_at(&buffer, 20)), (8, 4));
    assert_eq!(&buffer[24..32], b"12345678");
    assert_eq!(&buffer[56..64], b"1\0\0\0\0\0\0\0");

    let mut buffer = [0; 160];
    let mut out = Out::new(&mut buffer);
    let plus = Some((&attr(), Duration::from_secs(1)));
    assert!(out.dir_entry(&entry(b"a"), plus));
    assert!(!out.dir_entry(&entry(b"b"), plus));
    assert_eq!(out.finish(), Some(160));
    assert_eq!((u64_at(&buffer, 0), u64_at(&buffer, 128)), (7, 7));
    assert_eq!(buffer[152], b'a');
}

#[test]
fn an_answer_without_room_is_none() {
    let mut buffer = [0; 10];
    let mut out = Out::new(&mut buffer);
    out.u64(1);
    out.u64(2);
    assert_eq!(out.finish(), None);
}

#[test]
fn a_short_request_is_none() {
    let whole: Vec<u8> = (0..64).collect();
    for len in 0..InHeader::SIZE - 4 {
        assert!(InHeader::parse(&whole[..len]).is_none(), "{len}");
    }
    assert!(InHeader::parse(&whole[..InHeader::SIZE]).is_some());
    assert!(InitIn::parse(&whole[..12]).is_none());
    assert_eq!(Fields(b"no end").text(), None);
    assert_eq!(Fields(b"ab").bytes(3), None);
    let mut fields = Fields(b"a\0\0rest");
    assert_eq!(fields.text(), Some(&b"a"[..]));
    assert_eq!(fields.text(), Some(&b""[..]));
    assert_eq!(fields.bytes(4), Some(&b"rest"[..]));
}

#[test]
fn init_has_a_second_word_of_flags_only_where_the_first_says_so() {
    let init = |flags: u32| {
        let mut bytes = Vec::new();
        for word in [7u32, 45, 131_072, flags, 1 << 9] {
            bytes.extend_from_slice(&word.to_ne_bytes());
        }
        InitIn::parse(&bytes).unwrap()
    };
    assert_eq!(init(1).flags, 1);
    let both = init(1 | 1 << 30);
    assert_eq!(both.flags, 1 | 1 << 30 | OVER_IO_URING);
    assert!(both.is_our_version());
    let answer = InitOut {
        max_readahead: 1,
        flags: OVER_IO_URING | 1,
        max_background: 64,
        max_write: 1 << 20,
        max_pages: 256,
    }
    .answer(5);
    assert_eq!((u32_at(&answer, 0), u64_at(&answer, 8)), (80, 5));
    assert_eq!((u32_at(&answer, 16), u32_at(&answer, 20)), (7, 42));
    assert_eq!(u32_at(&answer, 28), 1 | 1 << 30);
    assert_eq!(u32_at(&answer, 32), 64 | 48 << 16);
    assert_eq!((u32_at(&answer, 36), u32_at(&answer, 44)), (1 << 20, 256));
    assert_eq!(u32_at(&answer, 48), 1 << 9);
}

#[test]
fn a_command_names_its_queue_and_request() {
    let bytes = command(3, 0x1122);
    assert_eq!((u64_at(&bytes, 0), u64_at(&bytes, 8)), (0, 0x1122));
    assert_eq!(u64_at(&bytes, 16), 3);
    assert!(bytes[24..].iter().all(|byte| *byte == 0));
}
