//! Records that wait for each other, to be written in one piece.

use std::fs;
use std::time::Instant;

use super::tests::{World, add, alice, at, clean, event};
use super::*;

const FILE: &str = "00000001.jsonl";
const HEAD: &str = "00000001.head";

/// The record of second `second`, which may wait.
fn offer(log: &Log, second: i64) -> Result<()> {
    log.record(&Event {
        may_wait: true,
        ..event(&alice(), &[], at(second))
    })
}

fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !done() {
        assert!(begin.elapsed() < Duration::from_secs(20), "never: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn they_are_written_in_time_without_anybody_asking() {
    let world = World::new();
    let log = world.log();
    for second in 0..100 {
        offer(&log, second).unwrap();
    }
    eventually("100 records", || world.lines(FILE).len() == 100);
    offer(&log, 100).unwrap();
    eventually("one more", || world.lines(FILE).len() == 101);
    assert!(clean(&world.verify()));
}

#[test]
fn one_that_may_not_wait_comes_behind_those_that_do() {
    let world = World::new();
    let log = world.log();
    for round in 0..50_i64 {
        for second in 0..9 {
            offer(&log, round * 10 + second).unwrap();
        }
        log.record(&event(&alice(), &[], at(round * 10 + 9)))
            .unwrap();
        assert_eq!(i64::try_from(world.lines(FILE).len()), Ok((round + 1) * 10));
    }
    let times: Vec<Timestamp> = world.records().iter().map(|record| record.time).collect();
    assert!(times.is_sorted(), "{times:?}");
    assert!(clean(&world.verify()));
}

#[test]
fn none_is_lost_at_the_end_of_a_process_or_a_segment() {
    let world = World::new();
    let limits = Limits {
        bytes: 1000,
        days: 30,
    };
    let log = world.log_at(at(0), limits);
    for second in 0..20 {
        offer(&log, second).unwrap();
        if second % 5 == 4 {
            log.anchor(&world.store, at(0)).unwrap();
        }
    }
    drop(log);
    let report = world.verify();
    assert!(clean(&report), "{:?}", report.problems);
    assert!(
        report.records == 20 && report.segments > 1,
        "{} records in {} segments",
        report.records,
        report.segments
    );
}

/// More than may wait, by several threads: who comes too late writes.
#[test]
fn a_bounded_number_waits() {
    let world = World::new();
    let log = world.log();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for second in 0..2000 {
                    offer(&log, second).unwrap();
                }
            });
        }
    });
    drop(log);
    let report = world.verify();
    assert!(clean(&report), "{:?}", report.problems);
    assert_eq!(report.records, 8000);
}

/// What could not be written is kept; until it is written, nothing may be done with a key.
#[test]
fn no_record_no_use_of_a_key() {
    let world = World::new();
    let log = world.log();
    add(&log, 1);
    let records = log.break_it();
    let mut taken = 1;
    eventually("a refusal", || match offer(&log, taken) {
        Ok(()) => {
            taken += 1;
            false
        }
        Err(error) => matches!(error, KmsError::Unrecorded(_)),
    });
    assert!(taken > 1, "none could wait");
    let now = || log.record(&event(&alice(), &[], at(taken)));
    assert!(matches!(now(), Err(KmsError::Unrecorded(_))));
    drop(log.mend(records));
    eventually("a record", || now().is_ok());
    drop(log);
    assert_eq!(i64::try_from(world.records().len()), Ok(taken + 1));
    assert!(clean(&world.verify()));
}

/// A process that was killed between records and head, or within the records.
#[test]
fn a_killed_process_s_records_count() {
    for (cut, whole) in [(0, 12), (700, 11), (1, 11), (2500, 9)] {
        let world = World::new();
        add(&world.log(), 2);
        let head = fs::read(world.file(HEAD)).unwrap();
        let log = world.log();
        for second in 0..10 {
            offer(&log, second).unwrap();
        }
        // Head last: the thread that writes is done with both then.
        eventually("12 records and their head", || {
            world.lines(FILE).len() == 12 && fs::read(world.file(HEAD)).unwrap() != head
        });
        let records = fs::read(world.file(FILE)).unwrap();
        let length = world.lines(FILE)[11].len() + 1;
        assert!((834..1250).contains(&length), "{length}");
        world.killed(log, &head, &records[..records.len() - cut]);
        assert!(clean(&world.verify()), "cut {cut}");
        add(&world.log(), 1);
        let report = world.verify();
        assert!(clean(&report), "cut {cut}: {:?}", report.problems);
        assert_eq!(report.records, whole + 1, "cut {cut}");
    }
}
