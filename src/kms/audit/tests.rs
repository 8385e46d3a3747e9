//! Records in their shape, segments, readers.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

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
pub(super) struct World {
    dir: tempfile::TempDir,
    pub(super) store: Store,
    unlock: ProtectorInput,
}

pub(super) fn at(seconds: i64) -> Timestamp {
    Timestamp::from_millis((1_760_000_000 + seconds) * 1000 + 7)
}

impl World {
    pub(super) fn new() -> Self {
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

    pub(super) fn log(&self) -> Log {
        self.log_at(at(0), Limits::default())
    }

    pub(super) fn log_at(&self, now: Timestamp, limits: Limits) -> Log {
        Log::open(&self.store, now, limits).unwrap()
    }

    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join("keystore").join(DIR).join(name)
    }

    pub(super) fn verify(&self) -> Report {
        verify(
            &self.file(""),
            &self.store.connect().unwrap(),
            self.store.sealer(),
        )
        .unwrap()
    }

    pub(super) fn lines(&self, name: &str) -> Vec<String> {
        fs::read_to_string(self.file(name))
            .unwrap()
            .lines()
            .map(str::to_owned)
            .collect()
    }

    pub(super) fn write_lines(&self, name: &str, lines: &[String]) {
        fs::write(
            self.file(name),
            lines
                .iter()
                .map(|line| line.clone() + "\n")
                .collect::<String>(),
        )
        .unwrap();
    }

    /// As if the log's process had been killed before it wrote its last head: nothing is anchored, the
    /// first segment's head is still `head`, and of its records there is this.
    pub(super) fn killed(&self, log: Log, head: &[u8], records: &[u8]) {
        std::mem::forget(log);
        fs::write(self.file("00000001.head"), head).unwrap();
        // The lock is this process's, which is not gone: the file under another name is free.
        fs::write(self.file("copy"), records).unwrap();
        fs::rename(self.file("copy"), self.file("00000001.jsonl")).unwrap();
    }

    /// The records, all segments together.
    pub(super) fn records(&self) -> Vec<Record> {
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

pub(super) fn alice() -> Caller {
    Caller::new(
        Principal::User("alice".to_owned()),
        "000000000000",
        "us-east-1".parse::<Region>().unwrap(),
    )
}

pub(super) fn event<'a>(caller: &'a Caller, keys: &'a [KeyUse], time: Timestamp) -> Event<'a> {
    Event {
        time,
        caller,
        operation: "Encrypt",
        read_only: true,
        keys,
        parameters: None,
        error: None,
        forced: None,
        event_id: [3; 16],
        may_wait: false,
    }
}

pub(super) fn add(log: &Log, count: i64) {
    let caller = alice();
    for second in 0..count {
        log.record(&event(&caller, &[], at(second))).unwrap();
    }
}

pub(super) fn clean(report: &Report) -> bool {
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
        run: Some("5f0f5f0f-1111-4111-8111-0123456789ab".parse().unwrap()),
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
        forced: Some("lose \"it\""),
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
            "additionalEventData": {
                "keyMaterialId": "ab".repeat(32), "forced": "lose \"it\"",
                "runId": "5f0f5f0f-1111-4111-8111-0123456789ab",
            },
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
    let stopped = AtomicBool::new(false);
    let recorded = std::thread::scope(|scope| {
        let recording = scope.spawn(|| {
            let mut count = 0;
            while !stopped.load(Ordering::Relaxed) {
                world
                    .store
                    .change(|_| {
                        add(&log, 1);
                        Ok(())
                    })
                    .unwrap();
                count += 1;
                std::thread::sleep(Duration::from_micros(100));
            }
            count
        });
        // Each ends a segment, if 20,000 bytes have come since the one before.
        for _ in 0..100 {
            log.anchor(&world.store, at(0)).unwrap();
            std::thread::sleep(Duration::from_millis(2));
        }
        stopped.store(true, Ordering::Relaxed);
        recording.join().unwrap()
    });
    assert!(
        begin.elapsed() < Duration::from_secs(20),
        "somebody waited for the end of patience"
    );
    let report = world.verify();
    assert!(
        clean(&report) && report.records == recorded && report.segments > 2,
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
