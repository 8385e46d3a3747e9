//! [`Mem`] against [`Os`]: the same calls give the same answers.

use std::io::{self, IoSlice, IoSliceMut};

use envelopefs::backing::{
    Allocate, At, Backing, EntryName, OpenFile, Os, Rename, Seek, SetTime, Time, XattrMode,
};
use rand::rngs::SmallRng;
use rand::{Rng, RngExt, SeedableRng};

use super::disk::Disk;
use super::mem::Mem;

/// A call's answer, as far as it can be compared: its numbers, or its errno.
type Answer = Result<Vec<u64>, i32>;

fn answer<T>(result: io::Result<T>, numbers: impl FnOnce(T) -> Vec<u64>) -> Answer {
    match result {
        Ok(value) => Ok(numbers(value)),
        Err(error) => Err(error.raw_os_error().expect("an errno")),
    }
}

fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(bytes.len() as u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01B3)
    })
}

fn name(rng: &mut SmallRng) -> EntryName {
    EntryName::new(format!("n{}", rng.random_range(0..7)).as_bytes()).unwrap()
}

fn open_path<B: Backing>(backing: &B, path: &[EntryName]) -> io::Result<B::Dir> {
    let mut dir = backing.root()?;
    for name in path {
        dir = backing.open_dir(&dir, name)?;
    }
    Ok(dir)
}

fn listing<B: Backing>(backing: &B, dir: &B::Dir) -> io::Result<Vec<Vec<u8>>> {
    let mut names = Vec::new();
    let mut listing = backing.list(dir)?;
    backing.next_entries(&mut listing, 0, &mut |entry| {
        names.push(entry.name.to_vec());
        true
    })?;
    names.sort();
    Ok(names)
}

/// One call, chosen by the generator: two that are seeded alike choose the same.
#[allow(clippy::too_many_lines)] // one arm for each call
fn call<B: Backing>(backing: &B, rng: &mut SmallRng) -> (String, Answer) {
    let path: Vec<EntryName> = (0..rng.random_range(0..3)).map(|_| name(rng)).collect();
    let to_path: Vec<EntryName> = (0..rng.random_range(0..3)).map(|_| name(rng)).collect();
    let (entry, to) = (name(rng), name(rng));
    let kind = rng.random_range(0..24);
    let at = rng.random_range(0..6) * 4096 + rng.random_range(0..2) * rng.random_range(0..4096);
    let len = rng.random_range(1..3) * 4096 - rng.random_range(0..2) * rng.random_range(0..4096);
    let mut data = vec![0; len as usize];
    rng.fill_bytes(&mut data);
    let shown = format!("call {kind} in {path:?}, {entry:?}, to {to_path:?}, {to:?}, {at}+{len}");
    let act = || -> io::Result<Vec<u64>> {
        let dir = open_path(backing, &path)?;
        let open = |how| backing.open_file(&dir, &entry, how);
        match kind {
            0 | 1 => backing.create_file(&dir, &entry, 0o640).map(|_| vec![]),
            2 | 3 => backing.mkdir(&dir, &entry, 0o750).map(|()| vec![]),
            4 => {
                let target: Vec<u8> = data.iter().take(100).map(|byte| byte | 1).collect();
                backing.symlink(&dir, &entry, &target).map(|()| vec![])
            }
            5 => backing.unlink(&dir, &entry).map(|()| vec![]),
            6 => backing.rmdir(&dir, &entry).map(|()| vec![]),
            7 | 8 => {
                let to_dir = open_path(backing, &to_path)?;
                let how = [Rename::Plain, Rename::NoReplace, Rename::Exchange];
                let how = how[rng.random_range(0..3)];
                backing
                    .rename(&dir, &entry, &to_dir, &to, how)
                    .map(|()| vec![])
            }
            9 => {
                let to_dir = open_path(backing, &to_path)?;
                backing.link(&dir, &entry, &to_dir, &to).map(|()| vec![])
            }
            10 | 11 => {
                let (one, two) = data.split_at(data.len() / 3);
                let mut bufs = [IoSlice::new(one), IoSlice::new(two)];
                backing
                    .write_at(&open(OpenFile::READ_WRITE)?, &mut bufs, at)
                    .map(|()| vec![])
            }
            12 => backing
                .truncate(&open(OpenFile::READ_WRITE)?, at)
                .map(|()| vec![]),
            13 => {
                let how = [
                    Allocate::Punch,
                    Allocate::Reserve,
                    Allocate::ReserveKeepSize,
                ];
                let how = how[rng.random_range(0..3)];
                backing
                    .allocate(&open(OpenFile::READ_WRITE)?, how, at, len)
                    .map(|()| vec![])
            }
            14 | 15 => {
                let file = open(OpenFile::READ)?;
                let mut out = vec![0xEE; len as usize];
                let (one, two) = out.split_at_mut(len as usize / 2);
                let mut bufs = [IoSliceMut::new(one), IoSliceMut::new(two)];
                let read = backing.read_at(&file, &mut bufs, at)?;
                Ok(vec![read as u64, hash(&out[..read])])
            }
            16 => {
                let file = open(OpenFile::READ)?;
                let size = backing.stat_file(&file)?.size;
                // Where data ends is the filesystem's own affair; where the file ends is not.
                let data = backing.seek(&file, Seek::Data, size)?;
                let hole = backing.seek(&file, Seek::Hole, size)?;
                Ok(vec![size, data.unwrap_or(1), hole.unwrap_or(1)])
            }
            17 => {
                let stat = backing.stat(&dir, &entry)?;
                let links = u64::from(stat.nlink);
                let size = if stat.mode & libc::S_IFMT == libc::S_IFDIR {
                    0
                } else {
                    stat.size
                };
                Ok(vec![u64::from(stat.mode), links, size])
            }
            18 => backing
                .readlink(&dir, &entry)
                .map(|target| vec![hash(&target)]),
            19 => Ok(listing(backing, &dir)?
                .iter()
                .map(|name| hash(name))
                .collect()),
            20 => backing
                .set_mode(At::Entry(&dir, &entry), 0o600)
                .map(|()| vec![]),
            21 => {
                let time = Time {
                    secs: 5,
                    nanos: 1000,
                };
                backing.set_times(At::Entry(&dir, &entry), SetTime::Omit, SetTime::At(time))?;
                let got = backing.stat(&dir, &entry)?.mtime;
                Ok(vec![got.secs.cast_unsigned(), u64::from(got.nanos)])
            }
            22 => {
                let how = [XattrMode::Any, XattrMode::Create, XattrMode::Replace];
                let how = how[rng.random_range(0..3)];
                let name = [b"user.a", b"user.b"][rng.random_range(0..2)];
                backing
                    .set_xattr(
                        At::Entry(&dir, &entry),
                        name,
                        &data[..data.len().min(20)],
                        how,
                    )
                    .map(|()| vec![])
            }
            _ => {
                let at = At::Entry(&dir, &entry);
                let value = backing.get_xattr(at, b"user.a")?;
                let mut names = backing.list_xattr(at)?;
                names.retain(|name| name.starts_with(b"user."));
                names.sort();
                backing.remove_xattr(at, b"user.a")?;
                Ok(vec![value.map_or(0, |v| hash(&v)), hash(&names.concat())])
            }
        }
    };
    let mut act = act;
    let result = act();
    (shown, answer(result, |numbers| numbers))
}

#[test]
fn the_filesystem_in_memory_answers_as_the_real_one() {
    for seed in 0..30 {
        let folder = tempfile::tempdir().unwrap();
        let os = Os::open(folder.path()).unwrap();
        let mem = Mem::of(Disk::new(), true);
        let (mut one, mut two) = (SmallRng::seed_from_u64(seed), SmallRng::seed_from_u64(seed));
        for step in 0..600 {
            let (shown, right) = call(&os, &mut one);
            let (_, ours) = call(&mem, &mut two);
            assert_eq!(ours, right, "seed {seed}, step {step}: {shown}");
        }
        // And the record leads to the same disk.
        let mut again = Disk::new();
        for op in mem.take_log() {
            op.apply(&mut again);
        }
        assert!(
            same(&mem, &Mem::of(again, false), &mem.root().unwrap()),
            "seed {seed}: the record"
        );
    }
}

/// Whether two filesystems hold the same names and bytes, in the inodes of the same numbers.
fn same(one: &Mem, two: &Mem, dir: &<Mem as Backing>::Dir) -> bool {
    let names = listing(one, dir).unwrap();
    names == listing(two, dir).unwrap()
        && names.iter().all(|name| {
            let Ok(name) = EntryName::new(name) else {
                return true; // . and ..
            };
            let (a, b) = (one.stat(dir, &name).unwrap(), two.stat(dir, &name).unwrap());
            let read = |mem: &Mem| {
                let file = mem.open_file(dir, &name, OpenFile::READ).ok()?;
                let mut bytes = vec![0; a.size as usize];
                mem.read_at(&file, &mut [IoSliceMut::new(&mut bytes)], 0)
                    .ok()?;
                Some(bytes)
            };
            let inner = one.open_dir(dir, &name);
            (a.ino, a.mode, a.size, a.nlink) == (b.ino, b.mode, b.size, b.nlink)
                && read(one) == read(two)
                && inner.map_or(true, |inner| same(one, two, &inner))
        })
}
