//! Keystores of older versions.

use rusqlite::Connection;

use super::*;
use crate::kms::store::MaterialRow;

/// The tables as version 1 made them.
const SCHEMA_1: &str = include_str!("keystore-v1.sql");

/// Turns the keystore at `path` into one of version 1: what that version knew of its keys.
fn downgrade(path: &Path) {
    let sql = Connection::open(path.join("keystore.db")).unwrap();
    let schema = SCHEMA_1
        .split("CREATE TABLE keys")
        .nth(1)
        .map(|rest| format!("CREATE TABLE keys{rest}"))
        .unwrap();
    sql.pragma_update(None, "foreign_keys", "OFF").unwrap();
    sql.execute_batch(
        "CREATE TEMP TABLE k AS SELECT * FROM keys JOIN key_sets USING (id);
         CREATE TEMP TABLE m AS SELECT * FROM materials;
         CREATE TEMP TABLE a AS SELECT * FROM aliases;",
    )
    .unwrap();
    for table in [
        "registered_counts",
        "registered_keys",
        "registered_volumes",
        "aliases",
        "tags",
        "grants",
        "volumes",
        "materials",
        "keys",
        "key_sets",
        "destroyed",
        "access_keys",
        "transfer_key",
        "audit_key",
        "audit_segments",
    ] {
        sql.execute_batch(&format!("DROP TABLE IF EXISTS {table}"))
            .unwrap();
    }
    sql.execute_batch(&schema).unwrap();
    sql.execute_batch(
        "INSERT INTO keys SELECT number, id, spec, usage, origin, manager, state, description,
             created, rotation_enabled, rotation_period_days, rotation_since, changed FROM k;
         INSERT INTO materials SELECT key, generation, id, sealed, created, rotation_type FROM m;
         INSERT INTO aliases SELECT name, key, created, updated FROM a;
         PRAGMA user_version = 1;",
    )
    .unwrap();
    std::fs::remove_dir_all(path.join("audit")).unwrap();
}

#[test]
fn a_keystore_of_version_1_is_brought_up_to_date() {
    let Fixture { kms, clock, dir } = Fixture::new();
    let path = dir.path().join("ks");
    let service = kms.service_key("alias/envelopefs/volume").unwrap();
    let made = kms.create_key(&CreateKey {
        description: "mine".to_owned(),
    });
    let id = made.unwrap().key_id;
    kms.create_alias(&alias("alias/mine"), &id.into()).unwrap();
    let old = kms.encrypt(&id.into(), b"old", &context()).unwrap().blob;
    clock.pass_days(10);
    kms.rotate_key_on_demand(Via::User, &id.into()).unwrap();
    let new = kms.encrypt(&id.into(), b"new", &context()).unwrap().blob;
    kms.enable_key_rotation(&id.into(), Some(100)).unwrap();
    let rotations = |kms: &Kms| {
        let include = api::IncludeKeyMaterial::All;
        let listed = kms.list_key_rotations(&id.into(), include, &api::Page::default());
        listed.unwrap().rotations
    };
    let (status, listed) = (
        kms.get_key_rotation_status(&id.into()).unwrap(),
        rotations(&kms),
    );
    let data_key = kms
        .generate_data_key(Via::Volume, &service, &context())
        .unwrap();
    drop(kms);
    downgrade(&path);
    let seen = Kms::status(&path).unwrap();
    assert_eq!((seen.keys, seen.aliases), (2, 2));

    // Several processes at once find it old.
    let open = || {
        let clock = Arc::clone(&clock) as Arc<dyn Clock>;
        Kms::open_with_clock(&path, &[key_input(1)], clock).unwrap()
    };
    let opened: Vec<Kms> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(open)).collect();
        threads.into_iter().map(|t| t.join().unwrap()).collect()
    });
    for kms in &opened {
        assert_eq!(
            *kms.decrypt(&old, &context(), None).unwrap().plaintext,
            b"old"
        );
        assert_eq!(
            *kms.decrypt(&new, &context(), None).unwrap().plaintext,
            b"new"
        );
        assert_eq!(kms.resolve(&reference("alias/mine")).unwrap(), id);
        let described = kms.describe_key(&id.into()).unwrap();
        assert_eq!(described.description, "mine");
        assert_eq!(described.key_state, KeyState::Enabled);
        assert!(!described.multi_region);
        assert_eq!(kms.get_key_rotation_status(&id.into()).unwrap(), status);
        assert_eq!(rotations(kms), listed);
        assert_eq!(kms.service_key("alias/envelopefs/volume").unwrap(), service);
        // The volumes of before are given their grants as they come.
        let key = kms.decrypt_data_key(Via::Volume, &data_key.blob, &context());
        assert!(key.unwrap().same_as(&data_key.plaintext));
    }
    let kms = &opened[0];
    let place = kms.default_place(&id);
    let rows = kms
        .store
        .read(|sql| MaterialRow::list(sql, &place))
        .unwrap();
    let states: Vec<_> = rows.iter().map(|row| row.state).collect();
    assert_eq!(states, [MaterialState::NonCurrent, MaterialState::Current]);
    kms.rotate_key_on_demand(Via::User, &id.into()).unwrap();
    clock.pass_days(100);
    assert_eq!(kms.maintain().unwrap().rotated, [id]);
}

#[test]
fn a_migration_that_fails_leaves_the_keystore_as_it_was() {
    let Fixture { kms, clock, dir } = Fixture::new();
    let path = dir.path().join("ks");
    let id = kms.create_key(&CreateKey::default()).unwrap().key_id;
    drop(kms);
    downgrade(&path);
    let sql = Connection::open(path.join("keystore.db")).unwrap();
    sql.pragma_update(None, "foreign_keys", "OFF").unwrap();
    sql.execute(
        "INSERT INTO aliases VALUES ('alias/lost', 'none', 0, 0)",
        [],
    )
    .unwrap();
    let clock = || Arc::clone(&clock) as Arc<dyn Clock>;
    let refused = Kms::open_with_clock(&path, &[key_input(1)], clock());
    assert!(matches!(refused.err(), Some(KmsError::Damaged(_))));
    sql.execute("DELETE FROM aliases WHERE key = 'none'", [])
        .unwrap();
    let kms = Kms::open_with_clock(&path, &[key_input(1)], clock()).unwrap();
    kms.describe_key(&id.into()).unwrap();
}
