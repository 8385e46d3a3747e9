//! The command line of rotation: recovery keys, on a volume and on a mount.

mod cli_support;

use std::fs;

use cli_support::{KEY_DISABLED, NO_SUCH_KEY, Place, USAGE};

/// Makes a customer-managed key, and gives its id.
fn new_key(place: &Place, words: &[&str]) -> String {
    let made = place.json(["kms", "create-key"].iter().chain(words));
    made["KeyMetadata"]["KeyId"].as_str().unwrap().to_owned()
}

/// A keystore, a volume under a key of its own, and another key.
fn with_two_keys(words: &[&str]) -> (Place, String, String) {
    let place = Place::new();
    place.ok(["keystore", "init"]);
    let main = new_key(&place, &[]);
    place.ok(["init", "c", "--key", &main]);
    let other = new_key(&place, words);
    (place, main, other)
}

#[test]
fn a_recovery_key_opens_the_volume_when_its_own_key_does_not() {
    let (place, main, recovery) = with_two_keys(&["--multi-region"]);
    place.mount(&[]);
    fs::write(place.path("m/a"), "hello").unwrap();
    let report = place.json(["rewrap", "m", "--add-recovery-key", &recovery, "--json"]);
    assert_eq!(
        (&report["rewrapped"], &report["complete"]),
        (&1.into(), &true.into())
    );
    assert_eq!(report["recovery_key"], recovery.as_str());
    fs::write(place.path("m/b"), "later").unwrap();
    let status = place.json(["status", "m", "--json"]);
    assert_eq!(status["recovery_key_id"], recovery.as_str());
    assert_eq!(status["recovery_key_state"], "usable");
    let text = place.ok(["status", "m"]);
    assert!(
        text.contains(&format!("recovery key     {recovery} (usable)")),
        "{text}"
    );
    place.ok(["umount", "m"]);
    let text = place.ok(["status", "c"]);
    assert!(
        text.contains(&format!("recovery key     {recovery}")),
        "{text}"
    );

    place.ok(["kms", "disable-key", "--key-id", &main]);
    assert_eq!(place.ok(["cat", "c", "a", "b"]), "hellolater");
    place.ok(["cp", "c", "a", "copy"]);
    assert_eq!(fs::read_to_string(place.path("copy")).unwrap(), "hello");
    place.mount(&[]);
    assert_eq!(fs::read_to_string(place.path("m/b")).unwrap(), "later");
    let status = place.json(["status", "m", "--json"]);
    assert!(
        status["key_state"].as_str().unwrap().contains("disabled"),
        "{status}"
    );
    place.ok(["umount", "m"]);
    place
        .run(["rewrap", "c", "--remove-recovery-key", &recovery])
        .fails(KEY_DISABLED, &main);
    place.ok(["kms", "disable-key", "--key-id", &recovery]);
    let refused = place.run(["cat", "c", "a"]);
    assert!(refused.stderr().contains(&recovery), "{}", refused.stderr());
    refused.fails(KEY_DISABLED, &main);
    place.ok(["kms", "enable-key", "--key-id", &recovery]);

    // Whoever has a replica of it in another keystore, and nothing else.
    place.ok([
        "keystore",
        "init",
        "--keystore",
        "k2",
        "--region",
        "eu-west-1",
    ]);
    let public = |words: &[&str]| {
        let shown = place.json(
            ["keystore", "replica", "public-key", "--json"]
                .iter()
                .chain(words),
        );
        shown["publicKey"].as_str().unwrap().to_owned()
    };
    let (ours, theirs) = (public(&[]), public(&["--keystore", "k2"]));
    place
        .run(["cat", "c", "a", "--keystore", "k2"])
        .fails(NO_SUCH_KEY, &recovery);
    place.ok([
        "keystore", "replica", "export", "--key-id", &recovery, "--to", &theirs, "--out", "r",
    ]);
    place.ok([
        "keystore",
        "replica",
        "import",
        "r",
        "--from",
        &ours,
        "--keystore",
        "k2",
    ]);
    fs::rename(place.path("keystore"), place.path("lost")).unwrap();
    assert_eq!(place.ok(["cat", "c", "a", "--keystore", "k2"]), "hello");
    place.mount(&["--keystore", "k2"]);
    assert_eq!(fs::read_to_string(place.path("m/b")).unwrap(), "later");
    fs::write(place.path("m/c"), "from there").unwrap();
    // It becomes the volume's own.
    let report = place.json(["rewrap", "m", "--to-key", &recovery, "--json"]);
    assert_eq!(
        (&report["rewrapped"], &report["current"]),
        (&2.into(), &1.into())
    );
    assert_eq!(report["recovery_key"], serde_json::Value::Null);
    place.ok(["umount", "m"]);
    assert!(
        place
            .ok(["fsck", "c", "--keystore", "k2"])
            .starts_with("clean: 3 files")
    );
}

#[test]
fn a_removed_recovery_key_opens_nothing() {
    let (place, main, recovery) = with_two_keys(&[]);
    place.mount(&[]);
    fs::write(place.path("m/a"), "hello").unwrap();
    place.ok(["umount", "m"]);
    place
        .run(["rewrap", "c", "--add-recovery-key", &main])
        .fails(USAGE, "own key already");
    place
        .run(["rewrap", "c", "--add-recovery-key", "alias/none"])
        .fails(NO_SUCH_KEY, "alias/none");
    let dry = place.json([
        "rewrap",
        "c",
        "--add-recovery-key",
        &recovery,
        "--dry-run",
        "--json",
    ]);
    assert_eq!(dry["rewrapped"], 1);
    let text = place.ok(["rewrap", "c", "--add-recovery-key", &recovery]);
    assert!(
        text.contains(&format!("recovery key: {recovery}")),
        "{text}"
    );
    let file = &place.cipher_files()[0];
    let names = |key: &str| place.ok(["inspect", file.to_str().unwrap()]).contains(key);
    assert!(names(&recovery) && names(&main));
    place.mount(&[]);
    let removed = place.json(["rewrap", "m", "--remove-recovery-key", &recovery, "--json"]);
    assert_eq!(
        (&removed["rewrapped"], &removed["cleared"]),
        (&1.into(), &1.into())
    );
    place.ok(["umount", "m"]);
    assert!(!names(&recovery) && names(&main));
    place.ok(["kms", "disable-key", "--key-id", &main]);
    let refused = place.run(["cat", "c", "a"]);
    assert!(
        !refused.stderr().contains(&recovery),
        "{}",
        refused.stderr()
    );
    refused.fails(KEY_DISABLED, &main);
}
