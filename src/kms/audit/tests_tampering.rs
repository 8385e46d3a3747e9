//! Every way to tamper with a log, and what only looks like it.

use std::fs;

use proptest::prelude::*;

use super::tests::{World, add, clean};

/// The tampering that a verification must find; on a log of six records, anchored and closed.
fn tampered(tamper: impl FnOnce(&World, &mut Vec<String>)) -> Vec<String> {
    let world = World::new();
    add(&world.log(), 6);
    let mut lines = world.lines("00000001.jsonl");
    assert!(clean(&world.verify()));
    tamper(&world, &mut lines);
    world.write_lines("00000001.jsonl", &lines);
    world
        .verify()
        .problems
        .iter()
        .map(ToString::to_string)
        .collect()
}

#[test]
fn a_change_is_found() {
    let found = tampered(|_, lines| lines[2] = lines[2].replace("alice", "mallo"));
    assert_eq!(
        found,
        ["00000001.jsonl line 3: the record was changed, or does not belong here"]
    );
    // Without a member of the chain, too.
    let found = tampered(|_, lines| lines[5] = lines[5].replace("\"seq\":6", "\"seq\":7"));
    assert!(
        found.len() == 2 && found[1].contains("6 to 6 are cut off"),
        "{found:?}"
    );
}

#[test]
fn a_removal_is_found() {
    let found = tampered(|_, lines| drop(lines.drain(1..3)));
    assert_eq!(
        found,
        ["00000001.jsonl line 2: records 2 to 3 are missing before it"]
    );
    assert_eq!(
        tampered(|_, lines| drop(lines.remove(0))),
        ["00000001.jsonl line 1: records 1 to 1 are missing before it"]
    );
}

#[test]
fn an_insertion_is_found() {
    let copied = tampered(|_, lines| lines.insert(3, lines[1].clone()));
    assert!(
        copied[0].contains("line 4: record 2 stands behind record 3"),
        "{copied:?}"
    );
    let invented = tampered(|_, lines| lines.insert(3, "{}".to_owned()));
    assert_eq!(
        invented,
        ["00000001.jsonl line 4: the record was changed, or does not belong here"]
    );
    assert!(!tampered(|_, lines| lines.push(lines[5].clone())).is_empty());
    assert!(!tampered(|_, lines| lines.push("{}".to_owned())).is_empty());
}

#[test]
fn another_order_is_found() {
    assert!(!tampered(|_, lines| lines.swap(1, 2)).is_empty());
    assert!(!tampered(|_, lines| lines.swap(4, 5)).is_empty());
}

#[test]
fn a_cut_is_found() {
    assert_eq!(
        tampered(|_, lines| drop(lines.pop())),
        ["00000001.jsonl: records 6 to 6 are cut off at the end"]
    );
    assert_eq!(
        tampered(|_, lines| lines.clear()),
        ["00000001.jsonl: records 1 to 6 are cut off at the end"]
    );
}

/// Files of an older state: what the keystore knows tells.
#[test]
fn an_older_log_is_found() {
    let world = World::new();
    add(&world.log(), 3);
    let files = ["00000001.jsonl", "00000001.head"]
        .map(|name| (world.file(name), fs::read(world.file(name)).unwrap()));
    add(&world.log(), 1);
    for (path, bytes) in files {
        fs::write(path, bytes).unwrap();
    }
    let found: Vec<String> = world
        .verify()
        .problems
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(
        found[0],
        "00000001.jsonl: records 4 to 4 are cut off at the end"
    );
    // It is not gone on with: the damage stays to be seen.
    add(&world.log(), 1);
    assert_eq!(world.lines("00000001.jsonl").len(), 3);
    assert!(!clean(&world.verify()));
    assert_eq!(world.lines("00000002.jsonl").len(), 1);
}

#[test]
fn missing_and_foreign_files_are_found() {
    let world = World::new();
    add(&world.log(), 3);
    fs::copy(world.file("00000001.jsonl"), world.file("00000007.jsonl")).unwrap();
    assert!(
        world.verify().problems[0]
            .to_string()
            .contains("00000007.jsonl: not a file of this log")
    );
    fs::remove_file(world.file("00000007.jsonl")).unwrap();
    fs::remove_file(world.file("00000001.head")).unwrap();
    assert!(world.verify().problems[0].what.contains("head is missing"));
    fs::remove_file(world.file("00000001.jsonl")).unwrap();
    assert!(
        world
            .verify()
            .problems
            .iter()
            .any(|problem| problem.what.contains("with 3 records"))
    );
    add(&world.log(), 1); // the log goes on all the same
    assert!(!clean(&world.verify()));
}

/// A keystore that was set back to an older state: the records that it does not know are kept.
#[test]
fn records_that_the_keystore_does_not_know_are_kept() {
    let world = World::new();
    let both = (world.log(), world.log());
    add(&both.1, 2);
    drop(both);
    let lines = world.lines("00000002.jsonl");
    let sql = world.store.connect().unwrap();
    sql.execute("DELETE FROM audit_segments WHERE number = 2", [])
        .unwrap();
    let both = (world.log(), world.log());
    add(&both.1, 1);
    assert_eq!(world.lines("00000002.jsonl").len(), 1);
    let kept = world.verify().problems.pop().unwrap();
    assert!(kept.what.contains("not a file of this log"), "{kept}");
    assert_eq!(world.lines(&kept.file), lines);
}

#[test]
fn a_row_that_was_changed_is_found() {
    for change in [
        "UPDATE audit_segments SET seq = 1",
        "UPDATE audit_segments SET open = 0",
        "DELETE FROM audit_segments WHERE number = 1",
    ] {
        let world = World::new();
        let both = (world.log(), world.log());
        add(&both.0, 2);
        add(&both.1, 2);
        drop(both);
        assert!(clean(&world.verify()));
        world.store.connect().unwrap().execute(change, []).unwrap();
        assert!(!clean(&world.verify()), "{change}");
    }
}

/// What a killed process leaves: a record without its head, or a part of one.
#[test]
fn a_killed_process_leaves_no_damage() {
    for cut in [0, 1, 100, usize::MAX] {
        let world = World::new();
        add(&world.log(), 2);
        let head = fs::read(world.file("00000001.head")).unwrap();
        let log = world.log();
        add(&log, 1);
        let records = fs::read(world.file("00000001.jsonl")).unwrap();
        let third = world.lines("00000001.jsonl")[2].len() + 1;
        let len = records.len() - third + cut.min(third);
        world.killed(log, &head, &records[..len]);
        let report = world.verify();
        assert!(clean(&report), "cut {cut}: {:?}", report.problems);
        add(&world.log(), 1);
        let report = world.verify();
        assert!(clean(&report), "cut {cut}: {:?}", report.problems);
        assert_eq!(report.records, if cut < third { 3 } else { 4 }, "cut {cut}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    /// Any byte of any record, changed in any way, is found.
    #[test]
    fn any_changed_byte_is_found(at in 0usize..10_000, to: u8) {
        thread_local! {
            static WORLD: (World, Vec<u8>) = {
                let world = World::new();
                add(&world.log(), 6);
                let bytes = fs::read(world.file("00000001.jsonl")).unwrap();
                (world, bytes)
            };
        }
        WORLD.with(|(world, bytes)| {
            let mut changed = bytes.clone();
            let at = at % bytes.len();
            prop_assume!(changed[at] != to);
            changed[at] = to;
            fs::write(world.file("00000001.jsonl"), changed).unwrap();
            prop_assert!(!clean(&world.verify()));
            fs::write(world.file("00000001.jsonl"), bytes).unwrap();
            prop_assert!(clean(&world.verify()));
            Ok(())
        })?;
    }
}
