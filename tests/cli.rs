//! The command line without a mount: what it prints, and its exit codes.

mod cli_support;

use std::fs;
use std::process::Command;

use cli_support::{
    DAMAGE, FAILURE, KEY_DISABLED, NO_SUCH_KEY, NOT_SUPPORTED, Place, USAGE, WRONG_PASSPHRASE,
};

#[test]
fn init_makes_keystore_and_directory() {
    let place = Place::new();
    let said = place.ok(["init", "c"]);
    assert!(said.starts_with("made volume "), "{said}");
    assert!(place.path("keystore").is_dir() && place.path("c/.envelopefs").is_dir());
    let status = place.json(["status", "c", "--json"]);
    assert_eq!(status["mounted"], false);
    assert_eq!(status["names"], "encrypted");
    assert_eq!(status["key_ids"].as_array().unwrap().len(), 1);
    assert!(said.contains(status["volume_id"].as_str().unwrap()));
    assert!(place.ok(["fsck", "c"]).starts_with("clean: 0 files"));
}

#[test]
fn init_refuses_what_holds_anything() {
    let place = Place::new();
    fs::create_dir(place.path("full")).unwrap();
    fs::write(place.path("full/file"), "x").unwrap();
    place
        .run(["init", "full"])
        .fails(FAILURE, "full is not empty");
    assert!(
        !place.path("keystore").exists(),
        "a refusal leaves nothing behind"
    );
    place.ok(["init", "c", "--plaintext-names"]);
    assert_eq!(place.json(["status", "c", "--json"])["names"], "plain");
    place
        .run(["init", "c"])
        .fails(FAILURE, "c is an envelopefs volume already");
    place
        .run(["init", "no/such/parent"])
        .fails(FAILURE, "no/such/parent");
    place.run(["init", "key"]).fails(FAILURE, "key");
}

#[test]
fn init_takes_a_key_of_the_user() {
    let place = Place::new();
    place
        .run(["init", "c", "--key", "alias/mine"])
        .fails(FAILURE, "no keystore");
    place.ok(["keystore", "init"]);
    place
        .run(["init", "c", "--key", "alias/mine"])
        .fails(NO_SUCH_KEY, "alias/mine");
    assert!(!place.path("c").exists());
    let key = create_key(&place);
    place.ok([
        "kms",
        "create-alias",
        "--alias-name",
        "alias/mine",
        "--target-key-id",
        &key,
    ]);
    place.ok(["init", "c", "--key", "alias/mine"]);
    assert_eq!(
        place.json(["status", "c", "--json"])["key_ids"][0],
        key.as_str()
    );
}

fn create_key(place: &Place) -> String {
    let made = place.json(["kms", "create-key"]);
    made["KeyMetadata"]["KeyId"].as_str().unwrap().to_owned()
}

#[test]
fn a_disabled_key_and_a_missing_one_have_codes_of_their_own() {
    let place = Place::new();
    place.ok(["keystore", "init"]);
    let key = create_key(&place);
    place.ok(["init", "c", "--key", &key]);
    place.ok(["kms", "disable-key", "--key-id", &key]);
    for words in [
        &["ls", "c"][..],
        &["fsck", "c"],
        &["rewrap", "c"],
        &["mount", "c", "m"],
    ] {
        place.run(words).fails(KEY_DISABLED, "disabled");
    }
    place
        .run(["init", "d", "--key", &key])
        .fails(KEY_DISABLED, "disabled");
    place.ok(["kms", "enable-key", "--key-id", &key]);
    place.ok(["ls", "c"]);
    place
        .run(["rewrap", "c", "--to-key", "alias/none"])
        .fails(NO_SUCH_KEY, "alias/none");
    // Another keystore doesn't have the key.
    place.ok(["keystore", "init", "--keystore", "other"]);
    place
        .run(["ls", "c", "--keystore", "other"])
        .fails(NO_SUCH_KEY, &key);
}

#[test]
fn what_does_not_open_the_keystore() {
    let place = Place::with_volume();
    fs::write(place.path("wrong"), [b'w'; 64]).unwrap();
    let wrong = |words: &[&str]| {
        let mut command = place.command(words);
        command.env("ENVELOPEFS_KEY_FILE", place.path("wrong"));
        cli_support::Done(command.output().unwrap())
    };
    for words in [
        &["ls", "c"][..],
        &["mount", "c", "m"],
        &["kms", "list-keys"],
    ] {
        wrong(words).fails(WRONG_PASSPHRASE, "wrong passphrase or key file");
    }
    // All sources are tried.
    assert_eq!(wrong(&["ls", "c", "--key-file", "key"]).code(), Some(0));
    let mut nothing = place.command(["ls", "c"]);
    nothing.env_remove("ENVELOPEFS_KEY_FILE");
    cli_support::Done(nothing.output().unwrap()).fails(USAGE, "no terminal to ask on");
    place
        .run(["ls", "c", "--keystore", "none"])
        .fails(FAILURE, "no keystore in none");
    place
        .run(["ls", "c", "--passphrase-file", "none"])
        .fails(FAILURE, "none");
}

#[test]
fn a_systemd_credential_opens_the_keystore() {
    let place = Place::new();
    fs::create_dir(place.path("credentials")).unwrap();
    fs::write(place.path("credentials/envelopefs.passphrase"), "word\n").unwrap();
    let run = |words: &[&str]| {
        let mut command = place.command(words);
        command
            .env_remove("ENVELOPEFS_KEY_FILE")
            .env("CREDENTIALS_DIRECTORY", place.path("credentials"));
        cli_support::Done(command.output().unwrap())
    };
    run(&["init", "c"]).success();
    run(&["ls", "c"]).success();
    fs::write(place.path("p"), "word").unwrap();
    place.ok(["ls", "c", "--passphrase-file", "p"]);
}

#[test]
fn the_terminal_is_asked_with_the_echo_off() {
    let place = Place::new();
    let ask = |words: &str, typed: &str| {
        let mut command = Command::new("script");
        let line = format!("{} {words}", cli_support::BINARY);
        command.args(["-qec", &line, "/dev/null"]);
        place.surround(&mut command);
        command
            .env_remove("ENVELOPEFS_KEY_FILE")
            .stdin(std::process::Stdio::piped());
        command
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped());
        let mut child = command.spawn().unwrap();
        // What is typed before the prompt is echoed by the terminal itself.
        std::thread::sleep(std::time::Duration::from_millis(300));
        let mut keys = child.stdin.take().unwrap();
        for line in typed.split_inclusive('\n') {
            std::io::Write::write_all(&mut keys, line.as_bytes()).unwrap();
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
        // The terminal stays until the program has ended.
        let done = std::thread::spawn(move || child.wait_with_output().unwrap());
        let done = done.join().unwrap();
        drop(keys);
        cli_support::Done(done)
    };
    let differ = ask("init c", "one\ntwo\n");
    assert_eq!(differ.code(), Some(USAGE));
    assert!(
        differ.stdout().contains("the two passphrases differ"),
        "{}",
        differ.stdout()
    );
    assert!(!place.path("c").exists() && !place.path("keystore").exists());

    let made = ask("init c", "opensesame\nopensesame\n");
    assert_eq!(made.code(), Some(0), "{}", made.stdout());
    assert!(made.stdout().contains("New passphrase for the keystore"));
    assert!(
        !made.stdout().contains("opensesame"),
        "it was shown: {}",
        made.stdout()
    );
    assert_eq!(ask("ls c", "opensesame\n").code(), Some(0));
    assert_eq!(ask("ls c", "closesesame\n").code(), Some(WRONG_PASSPHRASE));
    assert_eq!(ask("ls c", "\n").code(), Some(USAGE));
    let cancelled = ask("ls c", "open\x03");
    assert_eq!(cancelled.code(), Some(FAILURE), "{}", cancelled.stdout());
    assert!(cancelled.stdout().contains("cancelled"));
}

#[test]
fn wrong_usage_is_code_2() {
    let place = Place::with_volume();
    for words in [
        &[][..],
        &["frobnicate"],
        &["mount", "c"],
        &["mount", "c", "m", "-o", "colour=red"],
        &["mount", "c", "m", "-o", "idle=soon"],
        &["mount", "c", "c"],
        &["init", "d", "--key", "alias/not allowed"],
    ] {
        let done = place.run(words);
        assert_eq!(done.code(), Some(USAGE), "{words:?}: {}", done.stderr());
    }
    place
        .run(["mount", "c", "m", "-o", "colour=red"])
        .fails(USAGE, "colour=red");
}

#[test]
fn what_is_no_volume_is_said_by_name() {
    let place = Place::with_volume();
    fs::create_dir(place.path("plain")).unwrap();
    for words in [
        &["status", "plain"][..],
        &["ls", "plain"],
        &["fsck", "plain"],
        &["rotate", "plain"],
        &["rewrap", "plain"],
        &["mount", "plain", "m"],
    ] {
        place.run(words).fails(FAILURE, "plain");
    }
    place
        .run(["umount", "m"])
        .fails(FAILURE, "nothing is mounted here");
    place
        .run(["umount", "/proc"])
        .fails(FAILURE, "not one of envelopefs");
    place.run(["status", "none"]).fails(FAILURE, "none");
    fs::write(
        place.path("text"),
        "no cipher file, but long enough to be one ".repeat(50),
    )
    .unwrap();
    place.run(["inspect", "text"]).fails(FAILURE, "text");
    place
        .run(["inspect", "plain"])
        .fails(FAILURE, "not a regular file");
}

#[test]
fn a_volume_of_the_future_is_not_supported() {
    let place = Place::with_volume();
    for name in ["c/.envelopefs/volume.a", "c/.envelopefs/volume.b"] {
        let mut bytes = fs::read(place.path(name)).unwrap();
        bytes[8] = 0x63;
        fs::write(place.path(name), bytes).unwrap();
    }
    for words in [
        &["ls", "c"][..],
        &["status", "c"],
        &["mount", "c", "m"],
        &["fsck", "c"],
    ] {
        let done = place.run(words);
        assert_eq!(
            done.code(),
            Some(NOT_SUPPORTED),
            "{words:?}: {}",
            done.stderr()
        );
    }
}

#[test]
fn a_damaged_record_is_damage() {
    let place = Place::with_volume();
    for name in ["c/.envelopefs/volume.a", "c/.envelopefs/volume.b"] {
        let len = fs::metadata(place.path(name)).unwrap().len();
        cli_support::flip(&place.path(name), len - 1);
    }
    place.run(["fsck", "c"]).fails(DAMAGE, "authentication");
}

#[test]
fn completions_are_made_for_every_shell() {
    let place = Place::new();
    for shell in ["bash", "zsh", "fish"] {
        let text = place.ok(["completions", shell]);
        assert!(text.contains("plaintext-names"), "{shell}");
        assert!(text.contains("rotate-key-on-demand"), "{shell}");
    }
}

#[test]
fn rotation_without_a_mount() {
    let place = Place::with_volume();
    let first = place.json(["rotate", "c", "--json"]);
    let second = place.json(["rotate", "c", "--json"]);
    assert_eq!(first["material_id"], second["previous_material_id"]);
    assert_ne!(first["material_id"], second["material_id"]);
    let dry = place.json(["rewrap", "c", "--dry-run", "--json"]);
    assert_eq!(
        (&dry["dry_run"], &dry["volume_key"]),
        (&true.into(), &true.into()),
        "what would be done"
    );
    assert_eq!(place.json(["rewrap", "c", "--json"])["volume_key"], true);
    assert_eq!(place.json(["rewrap", "c", "--json"])["volume_key"], false);
    place.ok(["ls", "c"]);
}
