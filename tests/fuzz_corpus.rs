//! The fuzz targets over their corpus, and over some thousand mutations of it: the short form of
//! `scripts/fuzz`, deterministic, for every run of the tests.
//!
//! `ENVELOPEFS_FUZZ_RUNS` sets how many mutations of each target's corpus, `ENVELOPEFS_FUZZ_SEED`
//! which ones. An input that fails is kept as `target/tmp/fuzz-TARGET`.
#![allow(missing_docs)]

#[path = "fuzz/corpus.rs"]
mod corpus;
#[path = "fuzz/targets/mod.rs"]
mod targets;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use targets::{Target, World};

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| {
        text.parse()
            .unwrap_or_else(|_| panic!("{name} is no number"))
    })
}

/// Runs a target on one input; keeps the input when it fails.
fn check(name: &str, target: Target, world: &World, data: &[u8]) {
    let run = catch_unwind(AssertUnwindSafe(|| target(world, data)));
    if let Err(panic) = run {
        let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("fuzz-{name}"));
        std::fs::write(&kept, data).expect("the input is kept");
        eprintln!("the input is in {}", kept.display());
        resume_unwind(panic);
    }
}

/// Numbers at the edges of what the records hold.
const EDGES: [u64; 14] = [
    0,
    1,
    0x7f,
    0xff,
    0x0fff,
    0x1000,
    0xffff,
    1056,
    3040,
    397_312,
    528_384,
    i64::MAX as u64,
    u64::MAX - 1,
    u64::MAX,
];

/// Changes an input a little; `other` is one more to take pieces from.
fn mutate(data: &mut Vec<u8>, other: &[u8], rng: &mut SmallRng) {
    for _ in 0..rng.random_range(1..=6) {
        // Anywhere, and as often in each of the first 16 bytes, the first 32, the first 64 ...
        let most = data.len().min(1 << rng.random_range(4..16));
        let at = rng.random_range(0..most.max(1)).min(data.len());
        let upto = rng.random_range(at..=data.len().min(at + 64));
        match rng.random_range(0..10) {
            0 if !data.is_empty() => data[at] ^= 1 << rng.random_range(0..8),
            1 if !data.is_empty() => data[at] = rng.random(),
            9 if !data.is_empty() => data[at] = rng.random_range(0..5),
            2 => data.truncate(at),
            3 => data.resize(data.len() + rng.random_range(1..100), rng.random()),
            4 => data[at..upto].fill(0),
            5 => {
                let edge = EDGES[rng.random_range(0..EDGES.len())].to_le_bytes();
                let width = (1 << rng.random_range(0..4)).min(data.len() - at);
                data[at..at + width].copy_from_slice(&edge[..width]);
            }
            6 => {
                let piece = data[at..upto].to_vec();
                data.splice(at..at, piece);
            }
            7 => {
                data.drain(at..upto);
            }
            _ => {
                // A piece of another input in the same place.
                let end = other.len().min(at + rng.random_range(1..1100));
                if let Some(piece) = other.get(at..end) {
                    data.splice(at..end.min(data.len()), piece.iter().copied());
                }
            }
        }
    }
}

fn fuzz(name: &str, runs: u64) {
    let (_, target) = targets::ALL
        .into_iter()
        .find(|(target, _)| *target == name)
        .unwrap();
    let world = World::new();
    let seeds: Vec<Vec<u8>> = corpus::load(name).into_values().collect();
    assert!(!seeds.is_empty(), "no corpus for {name}");
    for seed in &seeds {
        check(name, target, &world, seed);
    }
    check(name, target, &world, &[]);
    let seed = number("ENVELOPEFS_FUZZ_SEED").unwrap_or(1);
    let mut rng = SmallRng::seed_from_u64(seed);
    for _ in 0..number("ENVELOPEFS_FUZZ_RUNS").unwrap_or(runs) {
        let mut data = seeds[rng.random_range(0..seeds.len())].clone();
        let other = &seeds[rng.random_range(0..seeds.len())];
        mutate(&mut data, other, &mut rng);
        check(name, target, &world, &data);
    }
}

/// Each byte that decides much, changed in each way that its seals can be: an input of this target
/// is a mode (the low bits: which seals are made anew), 8 bytes, and a patch (which byte, how).
#[test]
fn every_patch_of_every_cipher_file() {
    let world = World::new();
    for mut data in corpus::load("volume_file").into_values() {
        let mode = data[0] & !7;
        for which in 0..84 {
            for (how, seals) in [
                (1, 0),
                (1, 2),
                (1, 7),
                (2, 3),
                (0x80, 7),
                (0xff, 1),
                (0xff, 7),
            ] {
                data[0] = mode | seals;
                (data[9], data[10]) = (which, how);
                check("volume_file", targets::file, &world, &data);
            }
        }
    }
}

/// The corpus is that of the golden volumes; `ENVELOPEFS_MAKE_CORPUS=1` makes it so.
#[test]
fn the_corpus_is_fresh() {
    let world = World::new();
    let make = std::env::var_os("ENVELOPEFS_MAKE_CORPUS").is_some();
    for (target, name, data) in corpus::made(&world) {
        if make {
            corpus::store(target, &name, &data);
        }
        assert!(
            corpus::load(target).get(&name) == Some(&data),
            "{target}/{name}"
        );
    }
}

macro_rules! tests {
    ($($name:ident: $runs:literal),* $(,)?) => {
        $(
            #[test]
            fn $name() {
                fuzz(stringify!($name), $runs);
            }
        )*

        #[test]
        fn every_target_is_tested() {
            let names = targets::ALL.map(|(name, _)| name);
            assert_eq!(names, [$(stringify!($name)),*]);
        }
    };
}

tests! {
    header: 200_000,
    entries: 100_000,
    record: 500_000,
    journal: 300_000,
    blob: 200_000,
    names: 100_000,
    words: 500_000,
    volume_control: 20_000,
    volume_tree: 20_000,
    volume_file: 100_000,
    sigv4: 200_000,
    request: 20_000,
    policy: 200_000,
}
