//! A crash simulator: records what a volume asks of the filesystem below, builds the states that a
//! power cut may leave by the rules of ext4, XFS, btrfs and a looser POSIX, and mounts each.
//!
//! `scripts/crash` runs any number of states by hand; see there.
#![allow(missing_docs)]

mod alike;
mod busy;
mod disk;
#[path = "../kit/mod.rs"]
mod kit;
mod log;
mod mem;
mod model;
mod power;
mod scenes;
mod sim;
mod sqlite;
mod work;
mod world;

use std::time::Instant;

use envelopefs::volume::{JOURNAL_SIZE_LEAST, JournalMode, OpenOptions};
use kit::Kit;
use power::Mode;
use sim::{Plan, Report, explore, tell};
use work::Work;

/// A small journal, so that its end and its write-back are met; and no thread beside.
fn options() -> OpenOptions {
    OpenOptions {
        journal: JournalMode::Manual,
        journal_size: JOURNAL_SIZE_LEAST,
        ..OpenOptions::default()
    }
}

fn without_journal() -> OpenOptions {
    OpenOptions {
        journal: JournalMode::Off,
        ..OpenOptions::default()
    }
}

/// States of one workload by one filesystem's rules, over several seeds.
fn run(
    work: Work,
    plan: Plan,
    seeds: std::ops::Range<u64>,
    options: fn() -> OpenOptions,
) -> (Report, String) {
    let kit = Kit::new();
    let mut report = Report::default();
    let mut told = String::new();
    let count = (seeds.end - seeds.start) as usize;
    for seed in seeds {
        let recording = work::record(work, seed, &kit.kms, options);
        let plan = Plan {
            seed,
            states: plan.states / count,
            ..plan
        };
        let found = explore(&recording, &plan);
        let killed = if plan.killed { " --killed" } else { "" };
        let how = format!(
            "scripts/crash --states {} --seed {seed} --mode {:?} --workload {work:?}{killed}",
            plan.states, plan.mode
        );
        for failure in &found.failures {
            told.push_str(&tell(&recording, failure, &how));
        }
        report.add(found);
    }
    (report, told)
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name)
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(default)
}

#[test]
#[ignore = "any number of states by hand: scripts/crash"]
fn by_hand() {
    let word = |name: &str| std::env::var(name).ok();
    let modes: Vec<Mode> = match word("CRASH_MODE") {
        Some(mode) => vec![mode.parse().unwrap()],
        None => Mode::ALL.to_vec(),
    };
    let works: Vec<Work> = match word("CRASH_WORKLOAD") {
        Some(work) => vec![work.parse().unwrap()],
        None => Work::ALL.to_vec(),
    };
    let states = number("CRASH_STATES", 1000) as usize;
    let first = number("CRASH_SEED", 1);
    let seeds = first..first + number("CRASH_SEEDS", 1);
    let options = if word("CRASH_NO_JOURNAL").is_some() {
        without_journal
    } else {
        options
    };
    let mut failed = 0;
    for work in works {
        for mode in &modes {
            let begin = Instant::now();
            let plan = Plan {
                mode: *mode,
                killed: word("CRASH_KILLED").is_some(),
                states,
                seed: 0,
                at: word("CRASH_AT").map(|at| at.parse().unwrap()),
            };
            let (report, told) = run(work, plan, seeds.clone(), options);
            let took = begin.elapsed();
            println!(
                "{work:?} {mode:?}: {} states, {} failed, {} with an alarm about what was never durable, {:.1} s, {:.2} ms a state",
                report.states,
                report.failed,
                report.alarms,
                took.as_secs_f64(),
                (took / u32::try_from(report.states.max(1)).unwrap()).as_secs_f64() * 1000.0
            );
            if let Some(alarm) = report.alarm {
                println!("  first alarm: {alarm}");
            }
            print!("{told}");
            failed += report.failed;
        }
    }
    assert_eq!(failed, 0, "states in which something durable is lost");
}

/// States of each workload in each mode that the suite looks at.
const STATES: usize = 3600;

/// Cuts the power in a workload: nothing that was durable is lost, and nothing else is an error.
fn survives(work: Work, mode: Mode, killed: bool) {
    let plan = Plan {
        mode,
        killed,
        states: STATES + 200, // they are spread over the record, with a remainder
        seed: 0,
        at: None,
    };
    let (report, told) = run(work, plan, 1..9, options);
    println!("{} states", report.states);
    assert_eq!(report.failed, 0, "{} states\n{told}", report.states);
    // What was never durable may be gone there without a trace, and its directory's id with it.
    if mode != Mode::Posix {
        assert_eq!(report.alarms, 0, "{:?}", report.alarm);
    }
    // In order there are only so many.
    let least = if mode == Mode::Prefix { 1000 } else { STATES };
    assert!(report.states >= least, "{} states", report.states);
}

macro_rules! power_cuts {
    ($($name:ident: $work:ident, $mode:ident;)*) => {
        $(#[test]
        fn $name() {
            survives(Work::$work, Mode::$mode, false);
        })*

        /// All that the suite looks at, those in order aside.
        const ALL_STATES: usize = STATES * [$(Mode::$mode as usize),*].len();
    };
}

power_cuts! {
    random_operations_on_ext4: Random, Ext4;
    random_operations_on_xfs: Random, Xfs;
    random_operations_on_btrfs: Random, Btrfs;
    random_operations_on_posix: Random, Posix;
    overwrites_on_ext4: Overwrite, Ext4;
    overwrites_on_xfs: Overwrite, Xfs;
    overwrites_on_btrfs: Overwrite, Btrfs;
    overwrites_on_posix: Overwrite, Posix;
    renaming_over_on_ext4: RenameOver, Ext4;
    renaming_over_on_xfs: RenameOver, Xfs;
    renaming_over_on_btrfs: RenameOver, Btrfs;
    renaming_over_on_posix: RenameOver, Posix;
    rewrap_on_ext4: Rewrap, Ext4;
    rewrap_on_xfs: Rewrap, Xfs;
    rewrap_on_btrfs: Rewrap, Btrfs;
    rewrap_on_posix: Rewrap, Posix;
    reencrypt_on_ext4: Reencrypt, Ext4;
    reencrypt_on_xfs: Reencrypt, Xfs;
    reencrypt_on_btrfs: Reencrypt, Btrfs;
    reencrypt_on_posix: Reencrypt, Posix;
    a_full_disk_of_ext4: FullDisk, Ext4;
    a_full_disk_of_xfs: FullDisk, Xfs;
    a_full_disk_of_btrfs: FullDisk, Btrfs;
    a_full_disk_of_posix: FullDisk, Posix;
    a_failing_disk_of_ext4: FailingDisk, Ext4;
    a_failing_disk_of_xfs: FailingDisk, Xfs;
    a_failing_disk_of_btrfs: FailingDisk, Btrfs;
    a_failing_disk_of_posix: FailingDisk, Posix;
    sqlite_with_wal_on_ext4: SqliteWal, Ext4;
    sqlite_with_wal_on_xfs: SqliteWal, Xfs;
    sqlite_with_wal_on_btrfs: SqliteWal, Btrfs;
    sqlite_with_wal_on_posix: SqliteWal, Posix;
    sqlite_with_rollback_on_ext4: SqliteRollback, Ext4;
    sqlite_with_rollback_on_xfs: SqliteRollback, Xfs;
    sqlite_with_rollback_on_btrfs: SqliteRollback, Btrfs;
    sqlite_with_rollback_on_posix: SqliteRollback, Posix;
}

const _: () = assert!(ALL_STATES >= 100_000);

/// Every first part of what was written, the last call torn.
#[test]
fn each_prefix_of_each_workload() {
    for work in Work::ALL {
        survives(work, Mode::Prefix, false);
    }
}

/// SIGKILL: everything that came back to the caller is there, synced or not.
#[test]
fn a_process_killed_after_each_call() {
    for work in Work::ALL {
        survives(work, Mode::Prefix, true);
    }
}

/// Without a journal a block that is overwritten in place can be torn: the simulator must see that.
fn losses_are_found(work: Work, mode: Mode, killed: bool) {
    let plan = Plan {
        mode,
        killed,
        states: 1200,
        seed: 0,
        at: None,
    };
    let (report, _) = run(work, plan, 1..4, without_journal);
    assert!(report.failed > 0, "{work:?}, {mode:?}: nothing was lost");
}

#[test]
fn without_a_journal_losses_are_found() {
    for mode in Mode::ALL {
        losses_are_found(Work::Overwrite, mode, false);
        losses_are_found(Work::SqliteWal, mode, false);
        losses_are_found(Work::SqliteRollback, mode, false);
    }
    losses_are_found(Work::Overwrite, Mode::Prefix, true);
}
