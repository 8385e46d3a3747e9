//! Random operations of several processes on one keystore, some of which are killed.
//!
//! Each process works on keys of its own and on one that all share, keeps what the key manager has
//! acknowledged, and says it. Afterwards the keystore holds exactly that.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};

use super::*;

/// The keystore that [`worker`] works on, when it runs as a process of its own.
const WORKER_DIR: &str = "ENVELOPEFS_TEST_PROCESSES";
/// Its name and seed.
const WORKER_NAME: &str = "ENVELOPEFS_TEST_WORKER";

/// What a process has been acknowledged of a key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Known {
    state: String,
    description: String,
    aliases: u32,
    tags: BTreeMap<String, String>,
    grants: u32,
    rotations: u32,
}

fn call(kms: &Kms, operation: &str, body: &Value) -> Result<Value> {
    let answer = api::call(&kms.owner(), operation, body.to_string().as_bytes())?;
    Ok(serde_json::from_slice(&answer).unwrap_or(Value::Null))
}

/// Does something at random to a key, and changes what is known of it accordingly: before it is
/// asked for, in `maybe`, and once it was acknowledged.
fn step(kms: &Kms, rng: &mut StdRng, key: &str, known: &mut Known, name: &str) {
    let n: u32 = rng.random_range(0..1000);
    let pending = known.state == "PendingDeletion";
    let usable = known.state == "Enabled";
    let (operation, body) = match rng.random_range(0..9) {
        0 => ("DisableKey", json!({ "KeyId": key })),
        1 => ("EnableKey", json!({ "KeyId": key })),
        2 => (
            "UpdateKeyDescription",
            json!({ "KeyId": key, "Description": format!("d{n}") }),
        ),
        3 => (
            "CreateAlias",
            json!({ "TargetKeyId": key, "AliasName": format!("alias/{name}/{key}/{}", known.aliases) }),
        ),
        4 => (
            "TagResource",
            json!({ "KeyId": key, "Tags": [{ "TagKey": format!("t{}", n % 10), "TagValue": n.to_string() }] }),
        ),
        5 => (
            "CreateGrant",
            json!({ "KeyId": key, "Operations": ["Decrypt"],
                    "GranteePrincipal": "arn:aws:iam::000000000000:user/x" }),
        ),
        6 => ("RotateKeyOnDemand", json!({ "KeyId": key })),
        7 => ("ScheduleKeyDeletion", json!({ "KeyId": key })),
        _ => ("CancelKeyDeletion", json!({ "KeyId": key })),
    };
    let allowed = match operation {
        "CreateGrant" => usable,
        "RotateKeyOnDemand" => usable && known.rotations < 25,
        "CreateAlias" => !pending && known.aliases < 50,
        "CancelKeyDeletion" => pending,
        _ => !pending,
    };
    let result = call(kms, operation, &body);
    assert_eq!(
        result.is_ok(),
        allowed,
        "{operation} in {known:?}: {result:?}"
    );
    if !allowed {
        return;
    }
    match operation {
        "DisableKey" | "CancelKeyDeletion" => known.state = "Disabled".to_owned(),
        "EnableKey" => known.state = "Enabled".to_owned(),
        "UpdateKeyDescription" => known.description = format!("d{n}"),
        "CreateAlias" => known.aliases += 1,
        "TagResource" => {
            known.tags.insert(format!("t{}", n % 10), n.to_string());
        }
        "CreateGrant" => known.grants += 1,
        "RotateKeyOnDemand" => known.rotations += 1,
        _ => known.state = "PendingDeletion".to_owned(),
    }
}

/// What the keystore holds of a key.
fn held(kms: &Kms, key: &str) -> Known {
    let body = json!({ "KeyId": key });
    let described = call(kms, "DescribeKey", &body).unwrap();
    let text = |member: &str| {
        described["KeyMetadata"][member]
            .as_str()
            .unwrap()
            .to_owned()
    };
    let count = |operation: &str, body: &Value, list: &str| {
        let listed = call(kms, operation, body).unwrap();
        listed[list].as_array().unwrap().len() as u32
    };
    let tags = call(kms, "ListResourceTags", &body).unwrap();
    let limited = json!({ "KeyId": key, "Limit": 100 });
    Known {
        state: text("KeyState"),
        description: text("Description"),
        aliases: count("ListAliases", &limited, "Aliases"),
        tags: tags["Tags"]
            .as_array()
            .unwrap()
            .iter()
            .map(|tag| {
                let text = |member: &str| tag[member].as_str().unwrap().to_owned();
                (text("TagKey"), text("TagValue"))
            })
            .collect(),
        grants: count("ListGrants", &limited, "Grants"),
        rotations: count("ListKeyRotations", &body, "Rotations"),
    }
}

/// Not a test by itself: what the processes of the test below do. Works on keys of its own, and
/// says of each what was acknowledged, after each step and before the next.
#[test]
fn worker() {
    let (Some(dir), Ok(name)) = (std::env::var_os(WORKER_DIR), std::env::var(WORKER_NAME)) else {
        return;
    };
    let kms = Kms::open(dir.as_ref(), &[key_input(1)]).unwrap();
    let mut rng = StdRng::seed_from_u64(name.parse().unwrap());
    let mut out = std::io::stdout();
    loop {
        let made = call(&kms, "CreateKey", &json!({})).unwrap();
        let key = made["KeyMetadata"]["KeyId"].as_str().unwrap().to_owned();
        let mut known = Known {
            state: "Enabled".to_owned(),
            ..Known::default()
        };
        for _ in 0..rng.random_range(5..30) {
            step(&kms, &mut rng, &key, &mut known, &name);
            let said = json!({
                "key": key, "state": known.state, "description": known.description,
                "aliases": known.aliases, "tags": known.tags, "grants": known.grants,
                "rotations": known.rotations,
            });
            // In one write: a line is whole or missing.
            out.write_all(format!("\nacknowledged {said}\n").as_bytes())
                .unwrap();
            out.flush().unwrap();
        }
        call(
            &kms,
            "TagResource",
            &json!({
                "KeyId": "00000000-0000-4000-8000-000000000000",
                "Tags": [{ "TagKey": "x", "TagValue": "y" }],
            }),
        )
        .unwrap_err();
    }
}

fn spawn(fixture: &Fixture, seed: u64) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["kms::tests::processes::worker", "--exact", "--nocapture"])
        .env(WORKER_DIR, fixture.path())
        .env(WORKER_NAME, seed.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// The last that a process said of each key.
fn said(lines: impl Iterator<Item = String>) -> BTreeMap<String, Known> {
    let mut keys = BTreeMap::new();
    for line in lines {
        let Some(text) = line.strip_prefix("acknowledged ") else {
            continue;
        };
        // The last one may be cut off by the kill.
        let Ok(said) = serde_json::from_str::<Value>(text) else {
            continue;
        };
        let text = |member: &str| said[member].as_str().unwrap().to_owned();
        let number = |member: &str| said[member].as_u64().unwrap() as u32;
        let tags = said["tags"].as_object().unwrap().iter();
        let known = Known {
            state: text("state"),
            description: text("description"),
            aliases: number("aliases"),
            tags: tags
                .map(|(tag, value)| (tag.clone(), value.as_str().unwrap().to_owned()))
                .collect(),
            grants: number("grants"),
            rotations: number("rotations"),
        };
        keys.insert(text("key"), known);
    }
    keys
}

/// Whether what is held is what was acknowledged, or one step further: the one that a kill left
/// without an answer.
fn at_most_one_further(said: &Known, held: &Known) -> bool {
    let tags = held
        .tags
        .iter()
        .filter(|(tag, value)| said.tags.get(*tag) != Some(*value))
        .count();
    let further = u32::from(said.state != held.state)
        + u32::from(said.description != held.description)
        + held.aliases.abs_diff(said.aliases)
        + held.grants.abs_diff(said.grants)
        + held.rotations.abs_diff(said.rotations)
        + tags as u32;
    further <= 1
        && held.aliases >= said.aliases
        && held.grants >= said.grants
        && held.rotations >= said.rotations
        && said.tags.keys().all(|tag| held.tags.contains_key(tag))
}

#[test]
fn killed_at_any_moment_nothing_acknowledged_is_lost() {
    let fixture = Fixture::new();
    let mut rng = StdRng::seed_from_u64(20_240_214);
    for round in 0..4_u64 {
        let mut workers: Vec<Child> = (0..3).map(|n| spawn(&fixture, round * 10 + n)).collect();
        let readers: Vec<_> = workers
            .iter_mut()
            .map(|worker| {
                let out = BufReader::new(worker.stdout.take().unwrap());
                std::thread::spawn(move || {
                    out.lines()
                        .map_while(std::io::Result::ok)
                        .collect::<Vec<_>>()
                })
            })
            .collect();
        let until = rng.random_range(150..900);
        std::thread::sleep(std::time::Duration::from_millis(until));
        for worker in &mut workers {
            worker.kill().unwrap();
            worker.wait().unwrap();
        }
        let other = fixture.another();
        for reader in readers {
            for (key, said) in said(reader.join().unwrap().into_iter()) {
                for kms in [&fixture.kms, &other] {
                    let held = held(kms, &key);
                    assert!(at_most_one_further(&said, &held), "{said:?}\n{held:?}");
                }
            }
        }
        // Each change is in the record, and the record is whole.
        let report = other.verify_audit().unwrap();
        assert!(report.problems.is_empty(), "{:?}", report.problems);
    }
}
