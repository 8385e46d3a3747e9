//! A crash simulator: records what a volume asks of the filesystem below, builds the states that a
//! power cut may leave by the rules of ext4, XFS, btrfs and a looser POSIX, and mounts each.
//!
//! `scripts/crash` runs any number of states by hand; see there.
#![allow(missing_docs)]

mod alike;
mod disk;
#[path = "../kit/mod.rs"]
mod kit;
mod log;
mod mem;
mod model;
mod power;
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
