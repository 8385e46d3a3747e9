//! Several instances on one keystore, as several processes are.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::sync::Barrier;
use std::sync::atomic::AtomicBool;

use super::api::Page;
use super::*;

#[test]
fn a_change_is_seen_at_once_by_others() {
    let fixture = Fixture::new();
    let other = fixture.another();
    let id = fixture.key();
    for _ in 0..200 {
        other.check_usable(Via::Volume, &id).unwrap();
        fixture.kms.disable_key(&id.into()).unwrap();
        assert_eq!(
            refused(other.check_usable(Via::Volume, &id)),
            "DisabledException"
        );
        other.enable_key(&id.into()).unwrap();
        fixture.kms.check_usable(Via::Volume, &id).unwrap();
        let material = fixture.kms.current_material(&id).unwrap();
        assert_eq!(other.current_material(&id).unwrap(), material);
    }
    other.rotate_key_on_demand(Via::User, &id.into()).unwrap();
    assert_eq!(
        fixture.kms.current_material(&id).unwrap(),
        other.current_material(&id).unwrap()
    );
    other.create_alias(&alias("alias/x"), &id.into()).unwrap();
    assert_eq!(fixture.kms.resolve(&reference("alias/x")).unwrap(), id);
}

#[test]
fn one_look_serves_what_follows_on_its_thread() {
    let fixture = Fixture::new();
    let (other, id) = (fixture.another(), fixture.key());
    // On another thread, as by another process.
    let elsewhere = |enabled: bool| {
        let change = || {
            if enabled {
                fixture.kms.enable_key(&id.into()).unwrap();
            } else {
                fixture.kms.disable_key(&id.into()).unwrap();
            }
        };
        std::thread::scope(|scope| scope.spawn(change).join().unwrap());
    };
    let usable = || other.check_usable(Via::Volume, &id).is_ok();
    assert!(usable());
    // It is taken when a key is first asked for.
    let look = other.cache.look();
    elsewhere(false);
    assert!(!usable());
    drop(look);
    elsewhere(true);
    assert!(usable());

    let look = other.cache.look();
    assert!(usable());
    elsewhere(false);
    drop(other.cache.look());
    assert!(usable(), "one within it is the same and does not end it");
    drop(fixture.kms.cache.look());
    assert!(!usable(), "one at another keystore ends it");
    elsewhere(true);
    drop(look);
    assert!(usable());

    let look = other.cache.look();
    assert!(usable());
    elsewhere(false);
    Cache::look_again();
    assert!(!usable(), "what follows a change sees it");
    drop(look);
}

#[test]
fn changes_are_seen_with_and_without_the_index_of_the_log() {
    let fixture = Fixture::new();
    let (mut other, id) = (fixture.another(), fixture.key());
    other.check_usable(Via::Volume, &id).unwrap();
    assert!(other.cache.is_fast());
    fixture.kms.disable_key(&id.into()).unwrap();
    assert!(!other.cache.is_fast());
    assert!(other.check_usable(Via::Volume, &id).is_err());
    assert!(other.cache.is_fast());
    // What moves the log or begins it anew leaves nothing unseen.
    let sql = fixture.kms.store.connect().unwrap();
    for mode in ["PASSIVE", "FULL", "RESTART", "TRUNCATE"] {
        fixture.kms.enable_key(&id.into()).unwrap();
        sql.query_row(&format!("PRAGMA wal_checkpoint({mode})"), [], |_| Ok(()))
            .unwrap();
        other.check_usable(Via::Volume, &id).unwrap();
        fixture.kms.disable_key(&id.into()).unwrap();
        assert!(other.check_usable(Via::Volume, &id).is_err(), "{mode}");
        sql.query_row(&format!("PRAGMA wal_checkpoint({mode})"), [], |_| Ok(()))
            .unwrap();
        assert!(other.check_usable(Via::Volume, &id).is_err(), "{mode}");
    }
    // Other instances of this process come and go.
    drop(fixture.another());
    other.cache = Cache::without_index(&other.store, &other.account_id, &other.usage).unwrap();
    assert!(!other.cache.is_fast());
    fixture.kms.enable_key(&id.into()).unwrap();
    other.check_usable(Via::Volume, &id).unwrap();
    fixture.kms.disable_key(&id.into()).unwrap();
    assert!(other.check_usable(Via::Volume, &id).is_err());
}

#[test]
fn a_change_is_seen_at_once_while_others_work() {
    // The readers load the log's index and the cache while the changes go on.
    let fixture = Fixture::new();
    let (id, busy) = (fixture.key(), fixture.key());
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let other = fixture.another();
                while !stop.load(Ordering::Relaxed) {
                    other.check_usable(Via::Volume, &busy).unwrap();
                    let key = other
                        .generate_data_key(Via::Volume, &busy, &context())
                        .unwrap();
                    let opened = other.decrypt_data_key(Via::Volume, &key.blob, &context());
                    assert!(opened.unwrap().same_as(&key.plaintext));
                }
            });
        }
        let other = fixture.another();
        for _ in 0..100 {
            fixture.kms.disable_key(&id.into()).unwrap();
            assert!(other.check_usable(Via::Volume, &id).is_err());
            fixture.kms.enable_key(&id.into()).unwrap();
            other.check_usable(Via::Volume, &id).unwrap();
        }
        stop.store(true, Ordering::Relaxed);
    });
}

#[test]
fn no_update_is_lost() {
    let fixture = Fixture::new();
    let shared = fixture.key();
    fixture.kms.set_on_demand_rotation_limit(1000).unwrap();
    let barrier = Barrier::new(6);
    std::thread::scope(|scope| {
        for thread in 0..6 {
            let (fixture, barrier) = (&fixture, &barrier);
            scope.spawn(move || {
                let kms = fixture.another();
                barrier.wait();
                for n in 0..10 {
                    let key = kms.create_key(&CreateKey::default()).unwrap().key_id;
                    let name = alias(&format!("alias/{thread}/{n}"));
                    kms.create_alias(&name, &key.into()).unwrap();
                    kms.rotate_key_on_demand(Via::User, &shared.into()).unwrap();
                    assert_eq!(kms.resolve(&name.into()).unwrap(), key);
                    kms.service_key("alias/envelopefs/volume").unwrap();
                }
            });
        }
    });
    let page = Page {
        limit: Some(1000),
        marker: None,
    };
    // One shared, one of the service.
    assert_eq!(fixture.kms.list_keys(&page).unwrap().keys.len(), 60 + 2);
    let page = Page {
        limit: Some(100),
        marker: None,
    };
    assert_eq!(
        fixture.kms.list_aliases(None, &page).unwrap().aliases.len(),
        60 + 1
    );
    let rotations = fixture
        .kms
        .store
        .change(|change| change.on_demand_rotations(&fixture.place(&shared)));
    assert_eq!(rotations.unwrap(), 60);
}

#[test]
fn several_processes_rotate_once_what_is_due() {
    let fixture = Fixture::new();
    let id = fixture.kms.service_key("alias/envelopefs/volume").unwrap();
    let others: Vec<Kms> = (0..4).map(|_| fixture.another()).collect();
    fixture.clock.pass_days(365);
    let barrier = Barrier::new(others.len());
    let rotated: usize = std::thread::scope(|scope| {
        let threads: Vec<_> = others
            .iter()
            .map(|kms| {
                scope.spawn(|| {
                    barrier.wait();
                    kms.rotate_due().unwrap().len()
                })
            })
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .sum()
    });
    assert_eq!(rotated, 1);
    assert_eq!(
        fixture
            .kms
            .store
            .read(|sql| { super::super::store::MaterialRow::list(sql, &fixture.place(&id)) })
            .unwrap()
            .len(),
        2
    );
}

/// The keystore that [`worker`] works on, when it runs as a process of its own.
const WORKER_DIR: &str = "ENVELOPEFS_TEST_KEYSTORE";

/// Not a test by itself: what the processes of the tests below do. Makes, rotates and disables
/// keys, and says each one's id once all of it was acknowledged.
#[test]
fn worker() {
    let Some(dir) = std::env::var_os(WORKER_DIR) else {
        return;
    };
    let kms = Kms::open(dir.as_ref(), &[key_input(1)]).unwrap();
    loop {
        let id = kms.create_key(&CreateKey::default()).unwrap().key_id;
        kms.rotate_key_on_demand(Via::User, &id.into()).unwrap();
        kms.disable_key(&id.into()).unwrap();
        println!("\nacknowledged {id}");
    }
}

#[test]
fn killed_processes_leave_everything_acknowledged() {
    let fixture = Fixture::new();
    let name = "kms::tests::sharing::worker";
    let mut acknowledged: Vec<KeyId> = Vec::new();
    for round in 1..=6 {
        let spawn = || {
            Command::new(std::env::current_exe().unwrap())
                .args([name, "--exact", "--nocapture"])
                .env(WORKER_DIR, fixture.path())
                .stdout(Stdio::piped())
                .spawn()
                .unwrap()
        };
        let mut workers = [spawn(), spawn()];
        let mut said = Vec::new();
        for worker in &mut workers {
            said.push(BufReader::new(worker.stdout.take().unwrap()).lines());
        }
        let id = |line: std::io::Result<String>| {
            line.unwrap()
                .strip_prefix("acknowledged ")
                .map(|id| id.parse::<KeyId>().unwrap())
        };
        for lines in &mut said {
            acknowledged.extend(lines.by_ref().filter_map(id).take(round));
        }
        for worker in &mut workers {
            worker.kill().unwrap();
        }
        for (worker, lines) in workers.iter_mut().zip(said) {
            worker.wait().unwrap();
            // A line cut off by the kill was acknowledged, but can't be read.
            let whole = lines.filter(|line| line.as_ref().is_ok_and(|line| line.len() == 49));
            acknowledged.extend(whole.filter_map(id));
        }
        for kms in [&fixture.kms, &fixture.another()] {
            for id in &acknowledged {
                let described = kms.describe_key(&(*id).into()).unwrap();
                assert_eq!(described.key_state, KeyState::Disabled);
                let place = fixture.place(id);
                let rows = kms
                    .store
                    .read(|sql| super::super::store::MaterialRow::list(sql, &place));
                assert_eq!(rows.unwrap().len(), 2);
            }
        }
    }
    assert!(acknowledged.len() >= 2 * (1 + 2 + 3 + 4 + 5 + 6));
}
