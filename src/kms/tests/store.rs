//! The keystore itself: protectors, files, what is damaged or foreign.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Command;

use super::*;

/// A copy as a crash would leave it: database and log of a keystore that is in use. By another
/// process, since closing the database's file here would drop SQLite's locks.
fn crash_copy(from: &Path, to: &Path) {
    let status = Command::new("cp")
        .arg("-r")
        .arg(from)
        .arg(to)
        .status()
        .unwrap();
    assert!(status.success());
    let index = to.join("keystore.db-shm");
    if index.exists() {
        fs::remove_file(index).unwrap();
    }
}

fn open(dir: &Path, input: ProtectorInput) -> Result<Kms> {
    Kms::open(dir, &[input])
}

#[test]
fn the_files_are_private_and_a_second_keystore_is_refused() {
    let fixture = Fixture::new();
    let dir = fixture.path();
    let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o7777;
    assert_eq!(mode(&dir), 0o700);
    let mut names = Vec::new();
    for entry in fs::read_dir(&dir).unwrap() {
        let entry = entry.unwrap();
        let private = if entry.path().is_dir() { 0o700 } else { 0o600 };
        assert_eq!(mode(&entry.path()), private, "{:?}", entry.path());
        names.push(entry.file_name().into_string().unwrap());
    }
    names.sort();
    assert_eq!(
        names,
        ["audit", "keystore.db", "keystore.db-shm", "keystore.db-wal"]
    );
    let again = Kms::create(&dir, &key_input(1), &CreateOptions::default());
    assert!(matches!(again.err(), Some(KmsError::KeystoreExists { .. })));
    assert!(Kms::exists(&dir) && !Kms::exists(fixture.dir.path()));
}

#[test]
fn a_directory_that_others_can_write_is_refused() {
    let dir = TempDir::new().unwrap();
    let create = || Kms::create(dir.path(), &key_input(1), &CreateOptions::default());
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).unwrap();
    fs::write(dir.path().join("other"), b"").unwrap();
    assert!(matches!(
        create().err(),
        Some(KmsError::NotPrivate { mode: 0o777, .. })
    ));
    fs::remove_file(dir.path().join("other")).unwrap();
    create().unwrap();
    assert_eq!(fs::metadata(dir.path()).unwrap().mode() & 0o777, 0o700);
}

#[test]
fn several_at_once_make_one_keystore() {
    let dir = TempDir::new().unwrap();
    let made: usize = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|_| {
                scope.spawn(|| {
                    let made = Kms::create(dir.path(), &key_input(1), &CreateOptions::default());
                    match made {
                        Ok(_) => 1,
                        Err(KmsError::KeystoreExists { .. }) => 0,
                        Err(other) => panic!("{other}"),
                    }
                })
            })
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .sum()
    });
    assert_eq!(made, 1);
    open(dir.path(), key_input(1)).unwrap();
    let left = fs::read_dir(dir.path()).unwrap().count();
    assert_eq!(
        left, 2,
        "no unfinished database is left beside the audit log"
    );
}

#[test]
fn protectors_open_and_others_do_not() {
    let fixture = Fixture::new();
    let (kms, dir) = (&fixture.kms, fixture.path());
    let id = fixture.key();
    assert!(!Kms::needs_passphrase(&dir).unwrap());
    let wrong = |input| {
        matches!(
            open(&dir, input).err(),
            Some(KmsError::WrongPassphrase { .. })
        )
    };
    assert!(wrong(key_input(2)));
    assert!(wrong(passphrase("secret")));
    assert!(matches!(
        Kms::open(&dir, &[]).err(),
        Some(KmsError::Locked { .. })
    ));

    let first = kms.protectors().unwrap();
    assert_eq!(first.len(), 1);
    assert!(matches!(
        kms.remove_protector(&first[0].id),
        Err(KmsError::LastProtector)
    ));
    let added = kms.add_protector(&passphrase("secret")).unwrap();
    assert_eq!(added.kind, ProtectorKind::Passphrase);
    assert!(Kms::needs_passphrase(&dir).unwrap());
    assert!(wrong(passphrase("secret ")));
    let opened = open(&dir, passphrase("secret")).unwrap();
    opened.check_usable(Via::User, &id).unwrap();
    // Several inputs: one that fits is enough.
    Kms::open(&dir, &[key_input(9), key_input(1)]).unwrap();

    kms.remove_protector(&first[0].id).unwrap();
    assert!(wrong(key_input(1)));
    assert!(matches!(
        kms.remove_protector("00000000"),
        Err(KmsError::NotFound(_))
    ));
    assert_eq!(kms.protectors().unwrap(), [added]);
    open(&dir, passphrase("secret")).unwrap();
}

#[test]
fn passphrases_and_key_files_are_read_from_files() {
    let dir = TempDir::new().unwrap();
    let file = |name: &str, content: &[u8]| {
        let path = dir.path().join(name);
        fs::write(&path, content).unwrap();
        path
    };
    let keystore = dir.path().join("ks");
    let options = CreateOptions::default();
    let input = ProtectorInput::passphrase_file(&file("p", b"  with spaces \n")).unwrap();
    Kms::create(&keystore, &input, &options).unwrap();
    open(&keystore, passphrase("  with spaces ")).unwrap();
    let windows = ProtectorInput::passphrase_file(&file("w", b"  with spaces \r\n")).unwrap();
    open(&keystore, windows).unwrap();

    let bad = |result: Result<ProtectorInput>| {
        assert!(matches!(result.err(), Some(KmsError::BadProtector(_))));
    };
    bad(ProtectorInput::passphrase_file(&file("e", b"\n")));
    bad(ProtectorInput::key_file(&file("short", &[1; 31])));
    bad(ProtectorInput::key_file(&file(
        "long",
        &vec![1; (1 << 20) + 1],
    )));
    let missing = ProtectorInput::key_file(&dir.path().join("none"));
    assert!(matches!(missing.err(), Some(KmsError::Io { .. })));
    // All of a key file counts.
    let mut content = vec![3; 5000];
    let long = ProtectorInput::key_file(&file("k", &content)).unwrap();
    open(&keystore, passphrase("  with spaces "))
        .unwrap()
        .add_protector(&long)
        .unwrap();
    open(
        &keystore,
        ProtectorInput::key_file(&file("k", &content)).unwrap(),
    )
    .unwrap();
    content[4999] = 4;
    let other = ProtectorInput::key_file(&file("k", &content)).unwrap();
    assert!(open(&keystore, other).is_err());
}

#[test]
fn a_copy_of_a_keystore_in_use_opens_with_everything_acknowledged() {
    let fixture = Fixture::new();
    let mut ids = Vec::new();
    for round in 0..10 {
        ids.push(fixture.key());
        if round % 3 == 0 {
            fixture
                .kms
                .rotate_key_on_demand(Via::User, &ids[0].into())
                .unwrap();
        }
        let blob = fixture
            .kms
            .encrypt(&ids[0].into(), b"x", &context())
            .unwrap()
            .blob;
        let copy = fixture.dir.path().join(format!("copy{round}"));
        crash_copy(&fixture.path(), &copy);
        let copied = open(&copy, key_input(1)).unwrap();
        for id in &ids {
            copied.check_usable(Via::User, id).unwrap();
        }
        copied.decrypt(&blob, &context(), None).unwrap();
    }
}

#[test]
fn a_torn_log_loses_only_what_was_not_acknowledged() {
    let fixture = Fixture::new();
    let first = fixture.key();
    let before = fixture.dir.path().join("before");
    crash_copy(&fixture.path(), &before);
    let second = fixture.key();
    let log = fs::metadata(before.join("keystore.db-wal")).unwrap().len();
    let after = fixture.dir.path().join("after");
    crash_copy(&fixture.path(), &after);
    let whole = fs::read(after.join("keystore.db-wal")).unwrap();
    assert!(whole.len() as u64 > log);
    for (n, cut) in (log as usize..whole.len()).step_by(1013).enumerate() {
        let copy = fixture.dir.path().join(format!("cut{n}"));
        crash_copy(&after, &copy);
        fs::write(copy.join("keystore.db-wal"), &whole[..cut]).unwrap();
        let opened = open(&copy, key_input(1)).unwrap();
        opened.check_usable(Via::User, &first).unwrap();
        assert_eq!(
            refused(opened.check_usable(Via::User, &second)),
            "NotFoundException"
        );
    }
}

#[test]
fn damaged_and_foreign_databases_are_refused() {
    let fixture = Fixture::new();
    let missing = open(&fixture.dir.path().join("none"), key_input(1));
    assert!(matches!(missing.err(), Some(KmsError::NoKeystore { .. })));

    let dir = fixture.dir.path().join("noise");
    fs::create_dir(&dir).unwrap();
    fs::write(dir.join("keystore.db"), vec![0xa5; 8192]).unwrap();
    assert!(matches!(
        open(&dir, key_input(1)).err(),
        Some(KmsError::Version { .. })
    ));
    fs::write(dir.join("keystore.db"), b"").unwrap();
    assert!(matches!(
        open(&dir, key_input(1)).err(),
        Some(KmsError::Version { .. })
    ));

    let id = fixture.key();
    let sql = fixture.kms.store.connect().unwrap();
    sql.execute(
        "UPDATE materials SET sealed = CAST(substr(sealed, 1, 59) ||
         CASE substr(sealed, 60) WHEN x'00' THEN x'01' ELSE x'00' END AS BLOB)",
        [],
    )
    .unwrap();
    let other = fixture.another();
    let error = other.check_usable(Via::User, &id).err().unwrap();
    assert!(matches!(error, KmsError::Damaged(_)), "{error}");
    sql.pragma_update(None, "user_version", 4).unwrap();
    let error = open(&fixture.path(), key_input(1)).err().unwrap();
    assert!(error.to_string().contains("version 4"), "{error}");
}

#[test]
fn a_sealed_value_can_not_be_moved() {
    let fixture = Fixture::new();
    let (one, two) = (fixture.key(), fixture.key());
    let sql = fixture.kms.store.connect().unwrap();
    let moved = "UPDATE materials SET sealed = (SELECT sealed FROM materials WHERE key = ?1) WHERE key = ?2";
    sql.execute(moved, [one.to_string(), two.to_string()])
        .unwrap();
    let other = fixture.another();
    other.check_usable(Via::User, &one).unwrap();
    assert!(matches!(
        other.check_usable(Via::User, &two),
        Err(KmsError::Damaged(_))
    ));
}

#[test]
fn no_secret_stands_in_the_files() {
    let fixture = Fixture::new();
    let id = fixture.key();
    fixture
        .kms
        .add_protector(&passphrase("correct horse battery staple"))
        .unwrap();
    let key = fixture.kms.cached_anywhere(&id).unwrap();
    let copy = fixture.dir.path().join("copy");
    crash_copy(&fixture.path(), &copy);
    for entry in fs::read_dir(&copy).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            continue; // the audit log, which its own tests look at
        }
        let bytes = fs::read(path).unwrap();
        let holds = |secret: &[u8]| bytes.windows(secret.len()).any(|window| window == secret);
        assert!(!holds(&key.current().unwrap().1.expose()[..8]));
        assert!(!holds(&[1; 32]) && !holds(b"correct horse"));
    }
}
