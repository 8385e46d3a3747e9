//! What a read and a write allocate below the FUSE seam, once the path is warm.
//!
//! The allocations of the calling thread are counted: those of the journal's own thread, which brings
//! home what was overwritten, are nobody's wait.
#![allow(unsafe_code)] // a global allocator is `unsafe` to implement

mod kit;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::Arc;

use envelopefs::backing::Os;
use envelopefs::content::{EntryPage, GroupIndex};
use envelopefs::crypto::Sealed;
use envelopefs::format::{Entry, EntryFlags};
use envelopefs::volume::{HandleId, JournalMode, OpenMode, OpenOptions, Volume};
use kit::{Kit, ME, make, pattern};

/// The system's allocator, which counts.
struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

fn count() {
    // A thread that ends has no counter any more.
    let _ = ALLOCATIONS.try_with(|allocations| allocations.set(allocations.get() + 1));
}

// SAFETY: every call is handed on to the system's allocator as it came; counting touches a thread's
// own `Cell` and allocates nothing (it is initialised in a constant, and has nothing to drop).
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promise about `layout` is the one that is asked for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: as above; `pointer` came from `System`, as all that this hands out.
        unsafe { System.realloc(pointer, layout, size) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// How often `work` allocates, in this thread.
fn allocations(work: impl FnOnce()) -> usize {
    let before = ALLOCATIONS.get();
    work();
    ALLOCATIONS.get() - before
}

const KIB: usize = 1024;
/// The plaintext of the head group and of three groups behind it.
const SIZE: usize = (96 + 3 * 128) * 4 * KIB;
/// Where the first group behind the head group begins.
const GROUP: u64 = 96 * 4096;

/// The kinds of request that an aligned one can be: its offset and length in bytes.
const WITHIN_A_GROUP: [(u64, usize); 4] = [
    (0, 4 * KIB),
    (GROUP + 8 * 4096, 4 * KIB),
    (0, 128 * KIB),
    (GROUP, 128 * KIB),
];
const ACROSS_GROUPS: [(u64, usize); 2] = [(GROUP - 16 * 4096, 128 * KIB), (0, 1024 * KIB)];

fn open(kit: &Kit, journal: JournalMode) -> Volume<Os> {
    let options = OpenOptions {
        journal,
        ..OpenOptions::default()
    };
    Volume::open(kit.os(), Arc::clone(&kit.kms), options).unwrap()
}

/// A volume with a file that was closed, and is open again for reading and writing.
fn closed_and_open(kit: &Kit, journal: JournalMode) -> (Volume<Os>, HandleId) {
    let volume = open(kit, journal);
    let (attr, handle) = make(&volume, "file");
    volume.write(handle, 0, &pattern(SIZE, 1), false).unwrap();
    volume.release(handle).unwrap();
    let handle = volume
        .open_file(&ME, attr.ino, OpenMode::READ_WRITE)
        .unwrap();
    (volume, handle)
}

/// The most that one call allocates in the steady state: after `warm` calls of each kind.
fn most(kinds: &[(u64, usize)], warm: usize, mut call: impl FnMut(u64, usize)) -> usize {
    for (offset, len) in kinds.repeat(warm) {
        call(offset, len);
    }
    let counted = kinds.repeat(4).into_iter().map(|(offset, len)| {
        let found = allocations(|| call(offset, len));
        println!("{len:>8} bytes at {offset:>8}: {found} allocations");
        found
    });
    counted.max().unwrap()
}

#[test]
fn the_counter_counts() {
    assert_eq!(allocations(|| drop(std::hint::black_box(Box::new(7)))), 1);
    let array = || assert_eq!(std::hint::black_box([0; 4096])[7], 0);
    assert_eq!(allocations(array), 0);
}

fn most_of_reads(kinds: &[(u64, usize)]) -> usize {
    let kit = Kit::new();
    let (volume, handle) = closed_and_open(&kit, JournalMode::Background);
    let mut buffer = vec![0; 1024 * KIB];
    let expected = pattern(SIZE, 1);
    most(kinds, 2, |offset, len| {
        let read = volume.read(handle, offset, &mut buffer[..len]).unwrap();
        let at = offset as usize;
        assert!(
            buffer[..read] == expected[at..at + len],
            "wrong bytes at {offset}"
        );
    })
}

#[test]
fn an_aligned_read_allocates_nothing() {
    assert_eq!(most_of_reads(&WITHIN_A_GROUP), 0);
    assert_eq!(most_of_reads(&ACROSS_GROUPS), 0);
}

/// Overwrites, in a file that was closed before.
fn most_of_overwrites(kinds: &[(u64, usize)], journal: JournalMode) -> usize {
    let kit = Kit::new();
    let (volume, handle) = closed_and_open(&kit, journal);
    let data = pattern(1024 * KIB, 2);
    most(kinds, 4, |offset, len| {
        volume.write(handle, offset, &data[..len], false).unwrap();
    })
}

/// By hand, so that nothing goes home between two calls: what is pending is a map that grows with new
/// blocks, a node for several of them.
#[test]
fn an_aligned_overwrite_through_the_journal_allocates_nothing() {
    assert_eq!(most_of_overwrites(&WITHIN_A_GROUP, JournalMode::Manual), 0);
    assert_eq!(
        most_of_overwrites(&ACROSS_GROUPS[..1], JournalMode::Manual),
        0
    );
}

#[test]
fn an_aligned_overwrite_without_a_journal_allocates_nothing() {
    assert_eq!(most_of_overwrites(&WITHIN_A_GROUP, JournalMode::Off), 0);
    assert_eq!(most_of_overwrites(&ACROSS_GROUPS[..1], JournalMode::Off), 0);
}

/// What a request of 1 MiB notes of its blocks is longer than what has its place on the stack: it
/// allocates once or twice, whatever it holds.
#[test]
fn a_large_overwrite_allocates_little() {
    for journal in [JournalMode::Manual, JournalMode::Off] {
        let most = most_of_overwrites(&ACROSS_GROUPS[1..], journal);
        assert!(most <= 8, "{most} allocations");
    }
}

/// What entry pages owe to this: a clone shares its bytes, a change makes them its own, in memory that
/// another page gave up, and nothing of that other page is left in it.
#[test]
fn an_entry_page_is_changed_alone_and_without_allocating() {
    let entry = |number: u8| Entry {
        sealed: Sealed {
            nonce: [number; 12],
            tag: [number; 16],
        },
        key_generation: 1,
        flags: EntryFlags::Block,
        sequence: 1,
    };
    let group = GroupIndex(3);
    let mut first = EntryPage::empty(group);
    first.set(0, Some(&entry(1)));
    let mut given_up = EntryPage::empty(group);
    given_up.set(5, Some(&entry(2)));
    drop(given_up);
    let counted = allocations(|| {
        let mut second = first.clone();
        second.set(1, Some(&entry(3)));
        assert_eq!(second.get(0), Ok(Some(entry(1))));
        assert_eq!(second.get(1), Ok(Some(entry(3))));
        assert_eq!(second.get(5), Ok(None), "what another page held");
        assert_eq!(first.get(1), Ok(None), "changed with its clone");
    });
    assert_eq!(counted, 0);
    assert_eq!(EntryPage::empty(group).bytes(), &[0; 4096]);
}

/// A new file: its first write makes a key and a header; from then on a group's entries take a page
/// that the file remembers, and that is all.
#[test]
fn an_append_allocates_a_page_for_each_group() {
    let kit = Kit::new();
    let volume = open(&kit, JournalMode::Background);
    let mut data = pattern(128 * KIB, 3);
    let mut append = |name: &str, in_place: bool| {
        let (_, handle) = make(&volume, name);
        let counted: Vec<usize> = (0..16u64)
            .map(|turn| {
                let offset = turn * data.len() as u64;
                allocations(|| {
                    let written = if in_place {
                        volume.write_in_place(handle, offset, &mut data, false)
                    } else {
                        volume.write(handle, offset, &data, false)
                    };
                    written.unwrap();
                })
            })
            .collect();
        volume.release(handle).unwrap();
        counted
    };
    append("warm", false);
    for (name, in_place) in [("copied", false), ("in place", true)] {
        let counted = append(name, in_place);
        println!("{name}: {counted:?}");
        // 2 MiB: the head group and four behind it.
        assert!(counted[1..].iter().sum::<usize>() <= 5, "{counted:?}");
    }
}
