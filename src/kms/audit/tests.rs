//! Records in their shape, and every way to tamper with a log.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::kms::caller::{Principal, Source};
use crate::kms::store::Store;
use crate::kms::{Kms, ProtectorInput, Region};

struct Given(&'static str);

impl Parameters for Given {
    fn write_json(&self, out: &mut Vec<u8>) -> Result<()> {
        out.extend_from_slice(self.0.as_bytes());
        Ok(())
    }
}

/// A keystore of its own, closed; its log is opened apart.
struct World {
    dir: tempfile::TempDir,
    store: Store,
    unlock: ProtectorInput,
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_millis((1_760_000_000 + seconds) * 1000 + 7)
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let key_file = dir.path().join("key-file");
        fs::write(&key_file, [7; 32]).unwrap();
        let unlock = ProtectorInput::key_file(&key_file).unwrap();
        let keystore = dir.path().join("keystore");
        let store = Store::create(
            &keystore,
            &unlock,
            &[("account-id", "000000000000"), ("region", "us-east-1")],
            at(0),
        )
        .unwrap();
        Self { dir, store, unlock }
    }

    fn log(&self) -> Log {
        self.log_at(at(0), Limits::default())
    }

    fn log_at(&self, now: Timestamp, limits: Limits) -> Log {
        Log::open(&self.store, now, limits).unwrap()
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join("keystore").join(DIR).join(name)
    }

    fn verify(&self) -> Report {
        verify(
            &self.file(""),
            &self.store.connect().unwrap(),
            self.store.sealer(),
        )
        .unwrap()
    }

    fn lines(&self, name: &str) -> Vec<String> {
        fs::read_to_string(self.file(name))
            .unwrap()
            .lines()
            .map(str::to_owned)
            .collect()
    }

    fn write_lines(&self, name: &str, lines: &[String]) {
        fs::write(
            self.file(name),
            lines
                .iter()
                .map(|line| line.clone() + "\n")
                .collect::<String>(),
        )
        .unwrap();
    }

    /// The records, all segments together.
    fn records(&self) -> Vec<Record> {
        let mut found = Vec::new();
        let mut reader = Reader::new(self.store.dir(), false).unwrap();
        reader
            .read(|record| {
                found.push(record);
                Ok::<_, KmsError>(true)
            })
            .unwrap();
        found
    }
}

fn alice() -> Caller {
    Caller::new(
        Principal::User("alice".to_owned()),
        "000000000000",
        "us-east-1".parse::<Region>().unwrap(),
    )
}

fn event<'a>(caller: &'a Caller, keys: &'a [KeyUse], time: Timestamp) -> Event<'a> {
    Event {
        time,
        caller,
        operation: "Encrypt",
        read_only: true,
        keys,
        parameters: None,
        error: None,
        event_id: [3; 16],
    }
}

fn add(log: &Log, count: i64) {
    let caller = alice();
    for second in 0..count {
        log.record(&event(&caller, &[], at(second))).unwrap();
    }
}

fn clean(report: &Report) -> bool {
    report.problems.is_empty()
}

#[test]
fn the_shape_is_that_of_cloudtrail() {
    let world = World::new();
    let log = world.log();
    let caller = alice().with_source(Source {
        address: Some("192.0.2.1".parse().unwrap()),
        user_agent: Some("aws-cli/2 \"q\" \\ \n".to_owned()),
        access_key: Some("AKIAEXAMPLE".to_owned()),
        uid: Some(1000),
        pid: Some(42),
        request_id: Some("0f0f".to_owned()),
    });
    let material = MaterialId([0xab; 32]);
    let arn: Arc<str> = "arn:aws:kms:us-east-1:000000000000:key/k".into();
    let keys = [KeyUse {
        arn,
        material: Some(material),
    }];
    let given = Given(r#"{"keyId":"k","encryptionContext":{"a":"b"}}"#);
    let error = KmsError::AccessDenied("no".to_owned());
    let event = Event {
        parameters: Some(&given),
        error: Some(&error),
        ..event(&caller, &keys, at(0))
    };
    log.record(&event).unwrap();
    let line = &world.lines("00000001.jsonl")[0];
    let mut found: Value = serde_json::from_str(line).unwrap();
    let own = found["envelopefs"].as_object_mut().unwrap();
    assert_eq!(own.remove("mac").unwrap().as_str().unwrap().len(), 64);
    assert_eq!(own.remove("previous").unwrap().as_str().unwrap().len(), 64);
    assert_eq!(
        found,
        json!({
            "eventVersion": "1.11",
            "userIdentity": {
                "type": "IAMUser", "principalId": "alice", "userName": "alice", "arn": "arn:aws:iam::000000000000:user/alice",
                "accountId": "000000000000", "accessKeyId": "AKIAEXAMPLE",
            },
            "eventTime": "2025-10-09T08:53:20.007Z",
            "eventSource": "kms.amazonaws.com",
            "eventName": "Encrypt",
            "awsRegion": "us-east-1",
            "sourceIPAddress": "192.0.2.1",
            "userAgent": "aws-cli/2 \"q\" \\ \n",
            "errorCode": "AccessDenied",
            "errorMessage": "no",
            "requestParameters": {"keyId": "k", "encryptionContext": {"a": "b"}},
            "responseElements": null,
            "additionalEventData": {"keyMaterialId": "ab".repeat(32)},
            "requestID": "0f0f",
            "eventID": "03030303-0303-4303-8303-030303030303",
            "readOnly": true,
            "resources": [{"accountId": "000000000000", "type": "AWS::KMS::Key", "ARN": "arn:aws:kms:us-east-1:000000000000:key/k"}],
            "eventType": "AwsApiCall",
            "managementEvent": true,
            "recipientAccountId": "000000000000",
            "eventCategory": "Management",
            "envelopefs": {"uid": 1000, "pid": 42, "segment": 1, "seq": 1},
        })
    );
    drop(log);
    assert!(clean(&world.verify()));
}

#[test]
fn other_identities_and_two_keys() {
    let world = World::new();
    let log = world.log();
    let material = |byte| Some(MaterialId([byte; 32]));
    let keys = [
        KeyUse {
            arn: "a".into(),
            material: material(1),
        },
        KeyUse {
            arn: "b".into(),
            material: material(2),
        },
    ];
    let region: Region = "us-east-1".parse().unwrap();
    for principal in [
        Principal::Root,
        Principal::Service,
        Principal::Volume(crate::format::VolumeId([5; 16])),
    ] {
        let caller = Caller::new(principal, "000000000000", region);
        log.record(&event(&caller, &keys, at(0))).unwrap();
    }
    let kinds: Vec<(Value, Value)> = world
        .lines("00000001.jsonl")
        .iter()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .inspect(|record| {
            assert_eq!(
                record["additionalEventData"]["sourceKeyMaterialId"],
                "01".repeat(32)
            );
            assert_eq!(
                record["additionalEventData"]["destinationKeyMaterialId"],
                "02".repeat(32)
            );
            assert_eq!(record["resources"].as_array().unwrap().len(), 2);
            assert_eq!(
                (&record["requestParameters"], &record["sourceIPAddress"]),
                (&Value::Null, &json!("local"))
            );
        })
        .map(|record| {
            (
                record["userIdentity"]["type"].clone(),
                record["eventType"].clone(),
            )
        })
        .collect();
    assert_eq!(
        kinds,
        [
            ("Root", "AwsApiCall"),
            ("AWSService", "AwsServiceEvent"),
            ("AssumedRole", "AwsApiCall")
        ]
        .map(|(kind, event)| (json!(kind), json!(event)))
    );
}

#[test]
fn a_process_goes_on_where_the_last_one_ended() {
    let world = World::new();
    for _ in 0..3 {
        add(&world.log(), 2);
    }
    assert_eq!(world.lines("00000001.jsonl").len(), 6);
    assert!(!world.file("00000002.jsonl").exists());
    let report = world.verify();
    assert!(clean(&report), "{:?}", report.problems);
    assert_eq!((report.segments, report.records), (1, 6));
}

#[test]
fn two_processes_have_two_segments() {
    let world = World::new();
    let (one, two) = (world.log(), world.log());
    add(&one, 3);
    add(&two, 2);
    let report = world.verify();
    assert!(clean(&report), "while they run: {:?}", report.problems);
    assert_eq!((report.segments, report.records), (2, 5));
    drop((one, two));
    add(&world.log(), 1);
    assert!(!world.file("00000003.jsonl").exists());
    assert!(clean(&world.verify()));
    let times: Vec<Timestamp> = world.records().iter().map(|record| record.time).collect();
    assert!(times.len() == 6 && times[..3].is_sorted());
}

#[test]
fn threads_share_a_segment() {
    let world = World::new();
    let log = world.log();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| add(&log, 200));
        }
        for _ in 0..20 {
            let report = world.verify();
            assert!(clean(&report), "{:?}", report.problems);
            log.anchor(&world.store, at(0)).unwrap();
        }
    });
    assert_eq!(world.verify().records, 800);
}

/// Records within transactions of the keystore, and anchors meanwhile: nobody waits for whom waits.
#[test]
fn records_within_transactions_and_anchors() {
    let world = World::new();
    let limits = Limits {
        bytes: 20_000,
        days: 30,
    };
    let log = world.log_at(at(0), limits);
    let begin = std::time::Instant::now();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..100 {
                world
                    .store
                    .change(|_| {
                        add(&log, 1);
                        std::thread::yield_now();
                        Ok(())
                    })
                    .unwrap();
            }
        });
        for _ in 0..100 {
            log.anchor(&world.store, at(0)).unwrap();
        }
    });
    assert!(
        begin.elapsed() < std::time::Duration::from_secs(20),
        "somebody waited for the end of patience"
    );
    let report = world.verify();
    assert!(
        clean(&report) && report.records == 100 && report.segments > 2,
        "{report:?}"
    );
}

#[test]
fn segments_end_by_size_and_age() {
    let world = World::new();
    let limits = Limits {
        bytes: 2000,
        days: 30,
    };
    let log = world.log_at(at(0), limits);
    for _ in 0..3 {
        add(&log, 5);
        log.anchor(&world.store, at(0)).unwrap();
    }
    assert!(world.file("00000004.jsonl").exists());
    drop(log);
    add(&world.log_at(at(0), limits), 1);
    drop(world.log_at(at(40 * 86_400), limits));
    assert!(
        world.file("00000005.jsonl").exists(),
        "the one that is old was ended"
    );
    let report = world.verify();
    assert!(clean(&report), "{:?}", report.problems);
    assert_eq!((report.segments, report.records), (5, 16));
}

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
        // As if killed: nothing is anchored, the head is that of two records.
        std::mem::forget(log);
        let third = world.lines("00000001.jsonl")[2].len() + 1;
        let len = records.len() - third + cut.min(third);
        fs::write(world.file("00000001.jsonl"), &records[..len]).unwrap();
        fs::write(world.file("00000001.head"), head).unwrap();
        let report = world.verify();
        assert!(clean(&report), "cut {cut}: {:?}", report.problems);
        // The lock is this process's, which is not gone: the file under another name is free.
        let path = world.file("00000001.jsonl");
        fs::write(world.file("copy"), fs::read(&path).unwrap()).unwrap();
        fs::rename(world.file("copy"), &path).unwrap();
        add(&world.log(), 1);
        let report = world.verify();
        assert!(clean(&report), "cut {cut}: {:?}", report.problems);
        assert_eq!(report.records, if cut < third { 3 } else { 4 }, "cut {cut}");
    }
}

/// A log whose file is gone bad refuses, and so does every operation that would be recorded in it.
#[test]
fn no_record_no_operation() {
    let World { dir, store, unlock } = World::new();
    let keystore = store.dir().to_owned();
    drop(store);
    let kms = Kms::open(&keystore, &[unlock]).unwrap();
    let request = |text: Value| text.to_string().into_bytes();
    let made = crate::kms::api::call(&kms.owner(), "CreateKey", b"{}").unwrap();
    let made: Value = serde_json::from_slice(&made).unwrap();
    let encrypt = request(json!({"KeyId": made["KeyMetadata"]["KeyId"], "Plaintext": "aGk="}));
    let encrypt = || crate::kms::api::call(&kms.owner(), "Encrypt", &encrypt);
    encrypt().unwrap();
    kms.break_audit();
    assert!(matches!(encrypt().err(), Some(KmsError::Unrecorded(_))));
    drop(dir);
}

#[test]
fn filters() {
    let world = World::new();
    let log = world.log();
    let region: Region = "us-east-1".parse().unwrap();
    let root = Caller::new(Principal::Root, "000000000000", region).with_source(Source {
        uid: Some(0),
        ..Source::default()
    });
    let user = alice().with_source(Source {
        uid: Some(1000),
        ..Source::default()
    });
    let keys = [KeyUse {
        arn: "arn:aws:kms:us-east-1:000000000000:key/one".into(),
        material: None,
    }];
    let file =
        Given(r#"{"encryptionContext":{"envelopefs:file-id":"f1","envelopefs:volume-id":"v1"}}"#);
    let moved =
        Given(r#"{"sourceEncryptionContext":{"envelopefs:file-id":"f2"},"ciphertextBlob":null}"#);
    let error = KmsError::Disabled {
        arn: "x".to_owned(),
    };
    log.record(&Event {
        parameters: Some(&file),
        ..event(&root, &keys, at(1))
    })
    .unwrap();
    log.record(&Event {
        operation: "ReEncrypt",
        parameters: Some(&moved),
        ..event(&user, &keys, at(2))
    })
    .unwrap();
    log.record(&Event {
        operation: "Decrypt",
        error: Some(&error),
        ..event(&user, &[], at(3))
    })
    .unwrap();
    filtered(&world.records(), &keys[0].arn);
}

fn filtered(records: &[Record], arn: &str) {
    let count = |filter: Filter| records.iter().filter(|record| filter.wants(record)).count();
    let text = |text: &str| Some(text.to_owned());
    assert_eq!(count(Filter::default()), 3);
    assert_eq!(
        count(Filter {
            keys: vec!["one".to_owned()],
            ..Filter::default()
        }),
        2
    );
    assert_eq!(
        count(Filter {
            keys: vec![arn.to_owned()],
            ..Filter::default()
        }),
        2
    );
    assert_eq!(
        count(Filter {
            keys: vec!["two".to_owned()],
            ..Filter::default()
        }),
        0
    );
    for (who, times) in [
        ("alice", 2),
        ("1000", 2),
        ("root", 1),
        ("0", 1),
        ("arn:aws:iam::000000000000:user/alice", 2),
        ("bob", 0),
    ] {
        assert_eq!(
            count(Filter {
                user: text(who),
                ..Filter::default()
            }),
            times,
            "{who}"
        );
    }
    assert_eq!(
        count(Filter {
            event: text("reencrypt"),
            ..Filter::default()
        }),
        1
    );
    assert_eq!(
        count(Filter {
            since: Some(at(2)),
            ..Filter::default()
        }),
        2
    );
    assert_eq!(
        count(Filter {
            since: Some(at(2)),
            until: Some(at(3)),
            ..Filter::default()
        }),
        1
    );
    assert_eq!(
        count(Filter {
            refused: true,
            ..Filter::default()
        }),
        1
    );
    assert_eq!(
        count(Filter {
            file: text("f1"),
            ..Filter::default()
        }),
        1
    );
    assert_eq!(
        count(Filter {
            file: text("f2"),
            ..Filter::default()
        }),
        1
    );
    assert_eq!(
        count(Filter {
            volume: text("v1"),
            ..Filter::default()
        }),
        1
    );
}

#[test]
fn a_reader_follows() {
    let world = World::new();
    let log = world.log();
    add(&log, 2);
    let mut reader = Reader::new(world.store.dir(), true).unwrap();
    let mut read = || {
        let mut count = 0;
        reader
            .read(|_| {
                count += 1;
                Ok::<_, KmsError>(true)
            })
            .unwrap();
        count
    };
    assert_eq!(read(), 0);
    add(&log, 3);
    assert_eq!(read(), 3);
    let other = world.log();
    add(&other, 1);
    add(&log, 1);
    assert_eq!((read(), read()), (2, 0));
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

    #[test]
    fn any_text_is_a_json_string(text in "\\PC*|[\\x00-\\x7f]*") {
        let mut out = Vec::new();
        shape::text(&mut out, &text);
        prop_assert_eq!(serde_json::from_slice::<String>(&out).unwrap(), text);
    }
}

/// Nanoseconds that this thread has worked, as others run beside it.
fn worked() -> i64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    time.tv_sec * 1_000_000_000 + time.tv_nsec
}

/// What a record costs; `cargo nextest run --release audit::tests::speed --run-ignored only`.
#[test]
#[ignore = "a measurement"]
fn speed() {
    let world = World::new();
    let log = world.log();
    let caller = alice().with_source(Source {
        uid: Some(1000),
        pid: Some(42),
        ..Source::default()
    });
    let arn = "arn:aws:kms:us-east-1:000000000000:key/1234abcd-12ab-34cd-56ef-1234567890ab";
    let keys = [KeyUse {
        arn: arn.into(),
        material: Some(MaterialId([1; 32])),
    }];
    let given =
        Given(r#"{"keyId":"1234abcd-12ab-34cd-56ef-1234567890ab","encryptionContext":{"a":"b"}}"#);
    for _ in 0..3 {
        let begin = worked();
        for second in 0..200_000 {
            let event = Event {
                parameters: Some(&given),
                ..event(&caller, &keys, at(second / 100_000))
            };
            log.record(&event).unwrap();
        }
        println!("{} ns a record", (worked() - begin) / 200_000);
    }
}
