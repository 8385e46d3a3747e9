//! Short stories with a step that needs care, cut at each of their calls by the rules of each
//! filesystem.

use envelopefs::backing::Rename;
use envelopefs::format::journal::JOURNAL_HEADER_LEN;
use envelopefs::volume::Volume;

use super::disk::{Disk, ROOT as ROOT_INO};
use super::kit::Kit;
use super::log::Op;
use super::mem::Mem;
use super::model::{ROOT, Thing};
use super::options;
use super::power::Mode;
use super::sim::{Plan, explore, tell};
use super::world::{Outcome, World};

type Step = fn(&mut World, Thing) -> Outcome<()>;

/// States at each place of the record.
const STATES: usize = 40;

/// Nothing is lost wherever the story is cut; `states` at each place. Whether a fault was met.
fn survives_each_cut(kit: &Kit, story: impl Fn(&mut World), states: usize) -> bool {
    let mut world = World::new(&kit.kms, options);
    story(&mut world);
    let met = !world.mem().no_faults();
    let recording = world.finish(None);
    let modes = Mode::ALL.map(|mode| (mode, false));
    for (mode, killed) in modes.into_iter().chain([(Mode::Prefix, true)]) {
        let plan = Plan {
            mode,
            killed,
            states: states * (recording.log.len() + 1),
            seed: 1,
            at: None,
        };
        let found = explore(&recording, &plan);
        if let Some(failure) = found.failures.first() {
            panic!(
                "{mode:?}, killed {killed}: {}",
                tell(&recording, failure, "-")
            );
        }
    }
    met
}

fn file(world: &mut World, name: &[u8], size: usize) -> Thing {
    let thing = world.create(ROOT, name).unwrap();
    world.write(thing, 0, &vec![1; size]).unwrap();
    world.fsync(thing, false).unwrap();
    world.fsync_dir(ROOT).unwrap();
    thing
}

/// The first pass over the journal is written as zeros before, once, by whoever syncs.
#[test]
fn the_journal_is_written_ahead() {
    let kit = Kit::new();
    let mut world = World::new(&kit.kms, options);
    let thing = file(&mut world, b"a", 9000);
    let zeros = |world: &mut World| {
        let log = world.mem().take_log();
        let ahead = log.iter().filter(|op| match op {
            Op::Write { data, .. } => data.len() > 9000 && data.iter().all(|&byte| byte == 0),
            _ => false,
        });
        ahead.count()
    };
    for (round, expected) in [(0, 1), (1, 0), (2, 0)] {
        world.write(thing, 0, &[round; 100]).unwrap();
        assert_eq!(zeros(&mut world), 0, "nobody asked for a sync");
        world.fsync(thing, true).unwrap();
        assert_eq!(zeros(&mut world), expected, "round {round}");
    }
}

/// Epoch and generation of the journal's header that counts.
fn newest_header(disk: &Disk) -> (u64, u64) {
    let control = disk.entry(ROOT_INO, b".envelopefs").unwrap();
    let journal = disk.entry(control, b"journal").unwrap();
    let mut page = [0; 2 * JOURNAL_HEADER_LEN];
    disk.file(journal).unwrap().read(0, &mut page);
    let number = |header: &[u8], at| u64::from_le_bytes(header[at..at + 8].try_into().unwrap());
    page.chunks(JOURNAL_HEADER_LEN)
        .map(|header| (number(header, 32), number(header, 40)))
        .max_by_key(|&(_, generation)| generation)
        .unwrap()
}

/// A recovery that is cut off anywhere leaves the journal's newest header or a new one: what an older
/// header frees was overwritten by later records, perhaps in part.
#[test]
fn a_recovery_never_falls_back_to_an_older_header() {
    let kit = Kit::new();
    for rounds in [3, 4] {
        let mut world = World::new(&kit.kms, options);
        let thing = file(&mut world, b"a", 9000);
        for round in 0..rounds {
            world.write(thing, 0, &[round; 5000]).unwrap();
            world.fsync(thing, true).unwrap();
            world.write_back().unwrap();
        }
        let cut = world.mem().disk();
        let (epoch, generation) = newest_header(&cut);
        assert!(generation > 3, "the tail has moved");

        let mem = Mem::of(cut.clone(), true);
        drop(Volume::open(mem.clone(), kit.kms.clone(), options()).unwrap());
        let mut disk = cut;
        let mut replaced = false;
        for op in mem.take_log() {
            op.apply(&mut disk);
            let now = newest_header(&disk);
            replaced |= now.0 != epoch;
            assert!(
                if replaced {
                    now.0 != epoch
                } else {
                    now == (epoch, generation)
                },
                "{now:?} counts, after {:?}",
                (epoch, generation)
            );
        }
        assert!(replaced, "a new epoch has begun");
    }
}

/// What the journal has of a file is needed until it is durable that the file was cut to nothing.
#[test]
fn a_file_that_is_cut_to_nothing() {
    let kit = Kit::new();
    for again in [0, 50, 5000] {
        let story = |world: &mut World| {
            let thing = file(world, b"a", 9000);
            world.write(thing, 100, &[2; 6000]).unwrap();
            world.fsync(thing, true).unwrap();
            world.truncate(thing, 0).unwrap();
            if again > 0 {
                world.write(thing, 0, &vec![3; again]).unwrap();
            }
            world.write_back().unwrap();
            world.write_back().unwrap();
        };
        survives_each_cut(&kit, story, STATES);
    }
}

/// A durable file can be read by one of its names at any time, however long they are.
#[test]
fn renaming_to_and_from_long_names() {
    let kit = Kit::new();
    let long = [b'a'; 250];
    let other = [b'b'; 250];
    let story = |world: &mut World| {
        let thing = file(world, b"short", 9000);
        world.symlink(ROOT, &other, b"in the way").unwrap();
        for (from, to) in [
            (&b"short"[..], &long[..]),
            (&long[..], &other[..]),
            (&other[..], &b"short"[..]),
        ] {
            world
                .rename((ROOT, from), (ROOT, to), Rename::Plain)
                .unwrap();
            // Syncs the file on its own account.
            let size = world.model().bytes(thing).len() - 1000;
            world.truncate(thing, size).unwrap();
        }
    };
    survives_each_cut(&kit, story, STATES);
}

/// A symlink whose target is too long for one below has it in a file of its own, which must outlive it.
#[test]
fn a_symlink_with_a_long_target_is_replaced_or_removed() {
    let kit = Kit::new();
    let target = [b't'; 3900];
    let story = |world: &mut World| {
        file(world, b"file", 9000);
        world.symlink(ROOT, b"link", &target).unwrap();
        world.fsync_dir(ROOT).unwrap();
        world
            .rename((ROOT, b"file"), (ROOT, b"link"), Rename::Plain)
            .unwrap();
        world.symlink(ROOT, b"other", &target).unwrap();
        world.fsync_dir(ROOT).unwrap();
        world.unlink(ROOT, b"other").unwrap();
        file(world, b"last", 100);
    };
    survives_each_cut(&kit, story, STATES);
}

/// A new data key, cut at each of the calls that it takes: with blocks in the journal from before, a
/// hole, a size that is not durable, a rewrap in between.
#[test]
fn a_new_data_key() {
    let kit = Kit::new();
    for (size, steps) in [(300, 1000), (9000, 1000), (60_000, 2), (60_000, 1000)] {
        let story = |world: &mut World| {
            let thing = file(world, b"a", size);
            world.write(thing, size / 3, &vec![2; size / 3]).unwrap();
            world.fsync(thing, true).unwrap();
            world.write(thing, size + 10_000, &vec![4; 6000]).unwrap();
            world.reencrypt(steps).unwrap();
            world.write(thing, size / 2, &vec![5; size / 4]).unwrap();
            let (id, key) = (world.volume.id(), world.volume.volume_key_id());
            world.kms.rotate_volume_key(&id, &key).unwrap();
            let options = envelopefs::maintain::rewrap::RewrapOptions::default();
            envelopefs::maintain::rewrap::run(
                &world.volume,
                &options,
                &envelopefs::maintain::Silent,
            )
            .unwrap();
            world.reencrypt(1001).unwrap();
        };
        survives_each_cut(&kit, story, STATES / 4);
    }
}

/// An fsync after two files changed names makes the new name durable, of either.
#[test]
fn exchanging_names() {
    let kit = Kit::new();
    for first in [true, false] {
        let story = |world: &mut World| {
            let (a, b) = (file(world, b"a", 100), file(world, b"b", 5000));
            world
                .rename((ROOT, b"a"), (ROOT, b"b"), Rename::Exchange)
                .unwrap();
            world.fsync(if first { a } else { b }, false).unwrap();
        };
        survives_each_cut(&kit, story, STATES);
    }
}

/// Whichever call fails below: the file is old or new, what is written and synced afterwards stays.
#[test]
fn a_call_that_fails_in_each_step() {
    let kit = Kit::new();
    let steps: [(usize, Step); 9] = [
        (500, |world, _| world.reencrypt(u64::MAX)),
        (9000, |world, _| world.reencrypt(u64::MAX)),
        // An inline file that outgrows its page.
        (500, |world, thing| world.write(thing, 400, &[2; 9000])),
        (3000, |world, thing| world.truncate(thing, 100)),
        // Inside of what is durable, and behind it.
        (9000, |world, thing| world.write(thing, 8000, &[2; 9000])),
        (9000, |world, thing| world.write(thing, 20_000, &[2; 3000])),
        (9000, |world, thing| world.truncate(thing, 5000)),
        (9000, |world, thing| world.truncate(thing, 30_000)),
        (9000, |world, thing| world.punch(thing, 1000, 7500)),
    ];
    for (size, step) in steps {
        // With and without fresh blocks behind the durable ones.
        for fresh in [0, 6000] {
            for nth in 1.. {
                let story = |world: &mut World| {
                    let thing = file(world, b"a", size);
                    if fresh > 0 {
                        world.write(thing, size, &vec![4; fresh]).unwrap();
                    }
                    world.mem().fail_nth(nth, libc::EIO);
                    let _ = step(world, thing);
                    let _ = world.write(thing, 10, &[5; 3000]);
                    let end = world.model().bytes(thing).len();
                    let _ = world.write(thing, end, &[6; 9000]);
                    if world.fsync(thing, true).is_err() {
                        world.fsync(thing, true).unwrap();
                    }
                };
                if !survives_each_cut(&kit, story, 1) {
                    break;
                }
            }
        }
    }
}
