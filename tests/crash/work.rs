//! Workloads: what is done to the volume while the power may fail.

use std::sync::Arc;

use envelopefs::backing::Rename;
use envelopefs::kms::Kms;
use envelopefs::maintain::{self, Silent, rewrap::RewrapOptions};
use envelopefs::volume::{OpenOptions, VolumeError};
use rand::rngs::SmallRng;
use rand::{Rng, RngExt, SeedableRng};

use super::model::{ROOT, Thing};
use super::world::{Outcome, Recording, World};

/// What there is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Work {
    /// Any operations on files and directories, with fsyncs.
    Random,
    /// Few files, overwritten in place again and again, with fsyncs.
    Overwrite,
    /// Many small files, written beside and renamed over.
    RenameOver,
    /// Overwrites while the keys are wrapped anew.
    Rewrap,
    /// Any changes of few files while they get new data keys, bit by bit.
    Reencrypt,
    /// Any operations while there is hardly any space.
    FullDisk,
    /// Any operations on a disk of which a call fails now and then.
    FailingDisk,
    /// SQLite with a write-ahead log.
    SqliteWal,
    /// SQLite with a rollback journal.
    SqliteRollback,
}

impl Work {
    pub const ALL: [Self; 9] = [
        Self::Random,
        Self::Overwrite,
        Self::RenameOver,
        Self::Rewrap,
        Self::Reencrypt,
        Self::FullDisk,
        Self::FailingDisk,
        Self::SqliteWal,
        Self::SqliteRollback,
    ];
}

impl std::str::FromStr for Work {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|work| format!("{work:?}").eq_ignore_ascii_case(text))
            .ok_or_else(|| format!("no workload {text}: one of {:?}", Self::ALL))
    }
}

/// Runs a workload.
pub fn record(work: Work, seed: u64, kms: &Arc<Kms>, options: fn() -> OpenOptions) -> Recording {
    let mut rng = SmallRng::seed_from_u64(seed);
    let mut world = World::new(kms, options);
    match work {
        Work::Random => random(&mut world, &mut rng, 90),
        Work::Overwrite => overwrite(&mut world, &mut rng, 60, None),
        Work::RenameOver => rename_over(&mut world, &mut rng),
        Work::Rewrap => overwrite(&mut world, &mut rng, 40, Some(kms)),
        Work::Reencrypt => reencrypt(&mut world, &mut rng),
        Work::FullDisk => full_disk(&mut world, &mut rng),
        Work::FailingDisk => failing_disk(&mut world, &mut rng),
        Work::SqliteWal => return super::sqlite::record(world, seed, "wal"),
        Work::SqliteRollback => {
            let modes = ["delete", "truncate", "persist"];
            return super::sqlite::record(world, seed, modes[seed as usize % 3]);
        }
    }
    world.finish(None)
}

fn bytes(rng: &mut SmallRng, len: usize) -> Vec<u8> {
    let mut data = vec![0; len];
    rng.fill_bytes(&mut data);
    data
}

fn length(rng: &mut SmallRng) -> usize {
    match rng.random_range(0..8) {
        0 => rng.random_range(1..50),
        1 => rng.random_range(2900..3200),
        2 => 4096 * rng.random_range(1..4),
        3 => rng.random_range(1..14_000),
        _ => rng.random_range(1..5000),
    }
}

fn place(rng: &mut SmallRng, size: usize) -> usize {
    match rng.random_range(0..8) {
        0 => size,
        1 => 0,
        2 => rng.random_range(0..=size),
        3 => size + rng.random_range(0..9000),
        4 => 4096 * rng.random_range(0..5),
        5 if rng.random_bool(0.1) => 96 * 4096 - rng.random_range(0..5000),
        _ => rng.random_range(0..=size.min(16_000)),
    }
}

/// The files and directories that a workload knows.
struct Known {
    dirs: Vec<Thing>,
    files: Vec<Thing>,
}

impl Known {
    fn dir(&self, rng: &mut SmallRng) -> Thing {
        self.dirs[rng.random_range(0..self.dirs.len())]
    }
}

fn name(rng: &mut SmallRng) -> Vec<u8> {
    match rng.random_range(0..12) {
        0 => vec![b'a' + rng.random_range(0..2); 250],
        _ => format!("n{}", rng.random_range(0..8)).into_bytes(),
    }
}

/// One operation; those that can't be done now are left out.
fn step(world: &mut World, known: &mut Known, rng: &mut SmallRng) -> Outcome<()> {
    let dir = known.dir(rng);
    let name = name(rng);
    let there = world.model().at(dir, &name);
    let is_file = there.is_some_and(|thing| known.files.contains(&thing));
    let is_dir = there.is_some_and(|thing| known.dirs.contains(&thing));
    match rng.random_range(0..100) {
        0..14 if there.is_none() => {
            let thing = world.create(dir, &name)?;
            known.files.push(thing);
            let data = {
                let len = length(rng);
                bytes(rng, len)
            };
            world.write(thing, 0, &data)
        }
        14..18 if there.is_none() && known.dirs.len() < 5 => {
            let thing = world.mkdir(dir, &name)?;
            known.dirs.push(thing);
            Ok(())
        }
        18..20 if there.is_none() => {
            let long = rng.random_bool(0.2);
            let target = vec![b't'; if long { 3900 } else { 40 }];
            world.symlink(dir, &name, &target).map(drop)
        }
        20..26 if there.is_some() && !is_dir => world.unlink(dir, &name),
        26..29 if is_dir && world.model().is_empty(there.unwrap_or_default()) => {
            world.rmdir(dir, &name)?;
            known.dirs.retain(|dir| Some(*dir) != there);
            Ok(())
        }
        29..38 if is_file => {
            let to = self::name(rng);
            let to_dir = known.dir(rng);
            let other = world.model().at(to_dir, &to);
            if other.is_some_and(|other| known.dirs.contains(&other)) {
                return Ok(());
            }
            let how = if other.is_some() && rng.random_bool(0.3) {
                Rename::Exchange
            } else {
                Rename::Plain
            };
            world.rename((dir, &name), (to_dir, &to), how)
        }
        38..41 if is_file => {
            let to = self::name(rng);
            let to_dir = known.dir(rng);
            if world.model().at(to_dir, &to).is_some() {
                return Ok(());
            }
            world.link(there.unwrap_or_default(), to_dir, &to)
        }
        41..43 => world.fsync_dir(dir),
        43 => {
            world.remount();
            Ok(())
        }
        44 => {
            world.killed();
            Ok(())
        }
        45..48 => world.write_back(),
        _ => on_file(world, known, rng),
    }
}

/// An operation on the bytes of a file.
fn on_file(world: &mut World, known: &Known, rng: &mut SmallRng) -> Outcome<()> {
    let files = world.model().linked(&known.files);
    let Some(thing) = (!files.is_empty()).then(|| files[rng.random_range(0..files.len())]) else {
        return Ok(());
    };
    let size = world.model().bytes(thing).len();
    match rng.random_range(0..20) {
        0..9 => {
            let (at, len) = (place(rng, size), length(rng));
            let data = bytes(rng, len);
            world.write(thing, at, &data)
        }
        9..11 => {
            let to = place(rng, size);
            world.truncate(thing, to)
        }
        11 => world.punch(thing, place(rng, size), length(rng)),
        12 => world.close(thing),
        13 => {
            let value = bytes(rng, 30);
            world.set_xattr(thing, b"user.note", Some(&value))
        }
        _ => world.fsync(thing, rng.random_bool(0.5)),
    }
}

fn random(world: &mut World, rng: &mut SmallRng, steps: usize) {
    let mut known = Known {
        dirs: vec![ROOT],
        files: Vec::new(),
    };
    for _ in 0..steps {
        step(world, &mut known, rng).unwrap();
    }
}

fn overwrite(world: &mut World, rng: &mut SmallRng, steps: usize, rewrap: Option<&Arc<Kms>>) {
    let sizes = [300, 3000, 9000, 30_000];
    let files: Vec<Thing> = sizes
        .iter()
        .enumerate()
        .map(|(i, size)| {
            let thing = world.create(ROOT, format!("file{i}").as_bytes()).unwrap();
            let data = bytes(rng, *size);
            world.write(thing, 0, &data).unwrap();
            if rng.random_bool(0.7) {
                world.fsync(thing, false).unwrap();
            }
            thing
        })
        .collect();
    for step in 0..steps {
        let thing = files[rng.random_range(0..files.len())];
        let size = world.model().bytes(thing).len();
        if let Some(kms) = rewrap
            && step % 10 == 5
        {
            let key = world.volume.volume_key_id();
            let _ = kms.rotate_volume_key(&world.volume.id(), &key);
            maintain::rewrap::run(&world.volume, &RewrapOptions::default(), &Silent).unwrap();
            world.acknowledged();
            continue;
        }
        match rng.random_range(0..11) {
            0..5 => {
                let at = rng.random_range(0..size);
                let len = length(rng).min(size - at).max(1);
                let data = bytes(rng, len);
                world.write(thing, at, &data).unwrap();
            }
            5 => {
                // The end of a log: a few bytes more in the last block.
                let len = rng.random_range(1..300);
                let data = bytes(rng, len);
                world.write(thing, size, &data).unwrap();
            }
            6 => world.write_back().unwrap(),
            _ => world.fsync(thing, rng.random_bool(0.5)).unwrap(),
        }
    }
}

/// Runs are stopped after a few steps, and go on after writes, cuts, holes, rewraps, remounts, kills.
fn reencrypt(world: &mut World, rng: &mut SmallRng) {
    let sizes = [200, 3000, 9000, 70_000];
    let files: Vec<Thing> = sizes
        .iter()
        .enumerate()
        .map(|(i, size)| {
            let thing = world.create(ROOT, format!("file{i}").as_bytes()).unwrap();
            let data = bytes(rng, *size);
            world.write(thing, 0, &data).unwrap();
            if rng.random_bool(0.7) {
                world.fsync(thing, false).unwrap();
            }
            thing
        })
        .collect();
    for _ in 0..30 {
        let thing = files[rng.random_range(0..files.len())];
        let size = world.model().bytes(thing).len();
        match rng.random_range(0..20) {
            0..7 => {
                let steps = [1, 2, 3, 5, 8, 1000][rng.random_range(0..6)];
                world.reencrypt(steps).unwrap();
            }
            7..10 => {
                let (at, len) = (place(rng, size), length(rng));
                let data = bytes(rng, len);
                world.write(thing, at, &data).unwrap();
            }
            10 => {
                let to = place(rng, size);
                world.truncate(thing, to).unwrap();
            }
            11 => world.punch(thing, place(rng, size), length(rng)).unwrap(),
            12 => {
                let (id, key) = (world.volume.id(), world.volume.volume_key_id());
                world.kms.rotate_volume_key(&id, &key).unwrap();
                maintain::rewrap::run(&world.volume, &RewrapOptions::default(), &Silent).unwrap();
                world.acknowledged();
            }
            13 => world.write_back().unwrap(),
            14 => world.remount(),
            15 => world.killed(),
            16 => world.close(thing).unwrap(),
            _ => world.fsync(thing, rng.random_bool(0.5)).unwrap(),
        }
    }
}

fn rename_over(world: &mut World, rng: &mut SmallRng) {
    let dir = world.mkdir(ROOT, b"config").unwrap();
    for step in 0..40 {
        let name = format!("file{}", rng.random_range(0..8));
        let new = format!(".new{step}");
        let thing = world.create(dir, new.as_bytes()).unwrap();
        let len = length(rng);
        let data = bytes(rng, len);
        world.write(thing, 0, &data).unwrap();
        if rng.random_bool(0.6) {
            world.fsync(thing, rng.random_bool(0.3)).unwrap();
        }
        world.close(thing).unwrap();
        world
            .rename((dir, new.as_bytes()), (dir, name.as_bytes()), Rename::Plain)
            .unwrap();
        if rng.random_bool(0.4) {
            world.fsync_dir(dir).unwrap();
        }
    }
}

fn full_disk(world: &mut World, rng: &mut SmallRng) {
    let mut known = Known {
        dirs: vec![ROOT],
        files: Vec::new(),
    };
    random_some(world, rng, &mut known, 25, &[]);
    let free = rng.random_range(3..40);
    world.mem().set_free(free);
    random_some(world, rng, &mut known, 60, &[libc::ENOSPC]);
    // And it can be cleaned up.
    for thing in &known.files {
        world.close(*thing).unwrap();
    }
    for (dir, name, thing) in world.model().tree() {
        if known.files.contains(&thing) {
            world.unlink(dir, &name).unwrap();
        }
    }
    world.write_back().unwrap(); // lets go of the files
    let (thing, data) = (world.create(ROOT, b"again").unwrap(), bytes(rng, 3000));
    world.write(thing, 0, &data).unwrap();
}

fn failing_disk(world: &mut World, rng: &mut SmallRng) {
    let mut known = Known {
        dirs: vec![ROOT],
        files: Vec::new(),
    };
    let errors = [libc::EIO, libc::ENOSPC, libc::EDQUOT];
    for _ in 0..25 {
        let (nth, errno) = (rng.random_range(1..12), errors[rng.random_range(0..3)]);
        world.mem().fail_nth(nth, errno);
        random_some(world, rng, &mut known, 4, &errors);
    }
    world.mem().no_faults();
}

/// Steps that may fail with these errors.
fn random_some(
    world: &mut World,
    rng: &mut SmallRng,
    known: &mut Known,
    steps: usize,
    errors: &[i32],
) {
    for _ in 0..steps {
        match step(world, known, rng) {
            Ok(()) => {}
            Err(VolumeError::Io(error))
                if errors.iter().any(|e| error.raw_os_error() == Some(*e)) => {}
            Err(error) => panic!("{error}: {:?}", world.story.last()),
        }
    }
}
