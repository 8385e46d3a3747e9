//! One file that is overwritten, cut and synced while another thread brings its journal home: what a
//! power cut leaves at any place of that. Which steps meet is up to the two threads; the record tells.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use envelopefs::format::NameEncoding;
use envelopefs::format::journal::RING_AT;
use envelopefs::kms::Kms;
use envelopefs::volume::{
    CreateOptions, HandleId, JournalMode, NodeId, OpenMode, OpenOptions, SetAttr, Volume,
    VolumeError,
};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use super::disk::Disk;
use super::kit::{ALIAS, Kit, ME, make};
use super::log::Op;
use super::mem::{Mem, SLOW};
use super::power::{Mode, Power};

const BLOCK: usize = 4096;
/// More than write-back sends in one piece.
const BLOCKS: usize = 400;
/// Where cuts end.
const KEPT: usize = 250;
const WRITES: usize = 2000;
const STATES: usize = 60;
/// After a write to the journal's headers, or to a file's first page.
const STATES_OF_A_HEADER: usize = 3;

/// What was promised when so many calls had been made.
struct Promise {
    at: usize,
    versions: Vec<u32>,
}

struct Record {
    start: Disk,
    log: Vec<Op>,
    promises: Vec<Promise>,
    /// Where cuts began.
    cuts: Vec<usize>,
}

fn options() -> OpenOptions {
    OpenOptions {
        journal: JournalMode::Manual,
        journal_size: 3 << 20,
        ..OpenOptions::default()
    }
}

fn open(mem: Mem, kms: &Arc<Kms>) -> Volume<Mem> {
    Volume::open(mem, Arc::clone(kms), options()).unwrap()
}

fn block(index: usize, version: u32) -> Vec<u8> {
    let word = (index as u32) << 20 | version;
    word.to_le_bytes().repeat(BLOCK / 4)
}

/// The version of a block; 0 for zeros.
fn version(index: usize, bytes: &[u8]) -> u32 {
    let word = u32::from_le_bytes(*bytes.first_chunk().unwrap());
    assert_eq!(bytes, word.to_le_bytes().repeat(bytes.len() / 4), "{index}");
    assert!(word == 0 || (word >> 20) as usize == index, "{index}");
    word & 0xF_FFFF
}

fn cut(volume: &Volume<Mem>, node: NodeId, handle: HandleId, blocks: usize) {
    let size = SetAttr {
        size: Some((blocks * BLOCK) as u64),
        ..SetAttr::default()
    };
    volume.setattr(&ME, node, Some(handle), &size).unwrap();
}

/// Works on a new file of a volume, while a second thread writes back.
fn record(mem: &Mem, kms: &Arc<Kms>, seed: u64) -> Record {
    let volume = open(mem.clone(), kms);
    let (attr, handle) = make(&volume, "f");
    let mut versions = vec![1; BLOCKS];
    let write = |index: usize, version: u32| {
        volume
            .write(
                handle,
                (index * BLOCK) as u64,
                &block(index, version),
                false,
            )
            .unwrap();
    };
    let read = |index: usize| {
        let mut bytes = [0; BLOCK];
        let at = (index * BLOCK) as u64;
        assert_eq!(volume.read(handle, at, &mut bytes).unwrap(), BLOCK);
        version(index, &bytes)
    };
    (0..BLOCKS).for_each(|index| write(index, 1));
    volume.fsync(handle, false).unwrap();
    volume.fsync_dir(NodeId::ROOT).unwrap();
    let start = mem.disk();
    mem.take_log();

    let (mut promises, mut cuts) = (Vec::new(), Vec::new());
    let done = AtomicBool::new(false);
    let mut passes = 0;
    std::thread::scope(|threads| {
        threads.spawn(|| {
            SLOW.set([Duration::from_micros(20), Duration::ZERO]);
            while !done.load(Ordering::Acquire) {
                volume.write_back().unwrap();
                passes += 1;
            }
        });
        SLOW.set([Duration::ZERO, Duration::from_micros(300)]);
        let mut rng = SmallRng::seed_from_u64(seed);
        for number in 2..WRITES as u32 {
            if rng.random_ratio(1, 100) {
                cuts.push(mem.log_len());
                cut(&volume, attr.ino, handle, KEPT);
                for (index, kept) in versions.iter_mut().enumerate().skip(KEPT) {
                    write(index, number);
                    *kept = number;
                }
            }
            let index = rng.random_range(0..BLOCKS);
            write(index, number);
            versions[index] = number;
            let index = rng.random_range(0..BLOCKS);
            assert_eq!(read(index), versions[index], "block {index}");
            if rng.random_ratio(1, 40) {
                volume.fsync(handle, true).unwrap();
                promises.push(Promise {
                    at: mem.log_len(),
                    versions: versions.clone(),
                });
            }
        }
        done.store(true, Ordering::Release);
        SLOW.set(Default::default());
    });
    volume.write_back().unwrap();
    for (index, version) in versions.iter().enumerate() {
        assert_eq!(read(index), *version, "block {index}");
    }
    assert!(passes > 2, "the journal was brought home {passes} times");
    Record {
        start,
        log: mem.take_log(),
        promises,
        cuts,
    }
}

/// What is wrong with a disk as it was left when `at` calls had been made.
fn look(record: &Record, disk: Disk, at: usize, kms: &Arc<Kms>) -> Result<(), String> {
    let promised = record.promises.iter().rfind(|promise| promise.at <= at);
    let since = promised.map_or(0, |promise| promise.at);
    let was_cut = record.cuts.iter().any(|cut| (since..at).contains(cut));
    let said = |error: VolumeError| error.to_string();
    let volume = open(Mem::of(disk, false), kms);
    let attr = volume.lookup(NodeId::ROOT, b"f").map_err(said)?;
    let handle = volume
        .open_file(&ME, attr.ino, OpenMode::READ)
        .map_err(said)?;
    for index in 0..BLOCKS {
        let mut bytes = [0; BLOCK];
        let read = volume
            .read(handle, (index * BLOCK) as u64, &mut bytes)
            .map_err(said)?;
        let found = version(index, &bytes);
        let least = promised.map_or(1, |promise| promise.versions[index]);
        let gone = was_cut && index >= KEPT;
        if (read < BLOCK || found < least) && !gone {
            return Err(format!(
                "block {index} is of version {found}, and {least} was promised"
            ));
        }
    }
    volume.release(handle).map_err(said)
}

#[test]
fn a_file_that_is_written_while_its_journal_goes_home() {
    let kit = Kit::new();
    for (seed, mode) in (1..).zip(Mode::ALL) {
        let mem = Mem::of(Disk::new(), true);
        let (key, names) = (kit.kms.service_key(ALIAS).unwrap(), NameEncoding::Encrypted);
        Volume::init(&mem, &kit.kms, &CreateOptions { key, names }).unwrap();
        let record = record(&mem, &kit.kms, seed);
        let mut power = Power::new(mode, record.start.clone());
        let mut rng = SmallRng::seed_from_u64(seed);
        let places = record.log.len();
        for (at, op) in record.log.iter().enumerate() {
            power.advance(op);
            let mut states = usize::from(rng.random_range(0..places) < STATES);
            // What is freed counts from such a write on: there all must be right.
            if matches!(op, Op::Write { at, .. } if *at < RING_AT) {
                states += STATES_OF_A_HEADER;
            }
            for _ in 0..states {
                if let Err(what) = look(&record, power.state(&mut rng), at + 1, &kit.kms) {
                    panic!(
                        "{mode:?}, seed {seed}: the power failed after {} calls: {what}",
                        at + 1
                    );
                }
            }
        }
    }
}
