//! The command line of rotation: recovery keys, the census, schedules; on a volume and on a mount.

mod cli_support;

use std::fs;
use std::process::Command;

use cli_support::{
    BINARY, Done, KEY_DISABLED, NO_SUCH_KEY, NOT_SUPPORTED, Place, USAGE, eventually,
};

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

#[test]
fn status_has_the_census_of_a_dry_run() {
    let place = Place::with_volume();
    place.mount(&[]);
    for n in 0..30 {
        fs::write(place.path(&format!("m/{n}")), "x").unwrap();
    }
    place.ok(["rotate", "m"]);
    for n in 30..35 {
        fs::write(place.path(&format!("m/{n}")), "x").unwrap();
    }
    fs::hard_link(place.path("m/1"), place.path("m/one")).unwrap();
    fs::write(place.path("m/empty"), "").unwrap();
    let dry = place.json(["rewrap", "m", "--dry-run", "--json"]);
    let mut counts: Vec<u64> = dry["before"]
        .as_object()
        .unwrap()
        .values()
        .map(|n| n.as_u64().unwrap())
        .collect();
    counts.sort_unstable();
    assert_eq!(counts, [5, 30]);
    let check = |target: &str| {
        let census = place.json(["status", target, "--json"])["census"].clone();
        assert_eq!(
            (&census["files"], &census["empty"]),
            (&36.into(), &1.into())
        );
        assert_eq!(census["files_by_material"], dry["before"]);
        assert_eq!(census["volume_keys"], dry["volume_keys_before"]);
        let text = place.ok(["status", target]);
        for (material, files) in dry["before"].as_object().unwrap() {
            assert!(text.contains(&format!("  {material}  {files}\n")), "{text}");
        }
        assert!(text.contains("the volume's own key"), "{text}");
        let none = place.json(["status", target, "--json", "--no-census"]);
        assert_eq!(none["census"], serde_json::Value::Null);
    };
    check("m");
    // Without what opens the keystore.
    fs::rename(place.path("keystore"), place.path("away")).unwrap();
    check("m");
    place.ok(["umount", "m"]);
    check("c");
}

#[test]
fn rotate_when_it_is_due() {
    let place = Place::with_volume();
    let young = place.json(["rotate", "c", "--if-older", "1h", "--json"]);
    assert_eq!(young["rotated"], false);
    assert_eq!(young["material_id"], young["previous_material_id"]);
    assert!(
        place
            .ok(["rotate", "c", "--if-older", "1h"])
            .contains("not old enough")
    );
    place.mount(&[]);
    let young = place.json(["rotate", "m", "--if-older", "2w", "--json"]);
    assert_eq!(young["rotated"], false);
    assert_eq!(place.json(["rotate", "m", "--json"])["rotated"], true);
    place.ok(["umount", "m"]);
    place
        .run(["rotate", "c", "--if-older", "soon"])
        .fails(USAGE, "a time is expected");
    place
        .run(["rotate", "c", "--every", "1h"])
        .fails(USAGE, "a day or more");
    place
        .run(["rotate", "c", "--print"])
        .fails(USAGE, "--every");
}

#[test]
fn a_schedule_is_shown_written_and_removed() {
    let place = Place::with_volume();
    let id = place.json(["status", "c", "--json"])["volume_id"]
        .as_str()
        .unwrap()
        .to_owned();
    let name = format!("envelopefs-rotate-{id}");
    let cipher_dir = place.path("c").display().to_string();
    let printed = place.ok(["rotate", "c", "--every", "90d", "--print"]);
    assert!(
        printed.starts_with(&format!("# {name}.service\n[Unit]\n")),
        "{printed}"
    );
    assert!(printed.contains(&format!("# {name}.timer\n")), "{printed}");
    for part in [
        format!(
            " rotate --if-older 2160h --keystore={} ",
            place.path("keystore").display()
        ),
        format!(
            " --key-file={} -- {cipher_dir}\n",
            place.path("key").display()
        ),
        "Persistent=true".to_owned(),
    ] {
        assert!(printed.contains(&part), "{part} in {printed}");
    }
    let written = |args: &[&str]| {
        let fixed = ["rotate", "c", "--every"];
        place.ok(fixed.iter().chain(args).chain(&["--units", "units"]))
    };
    let units = || {
        let entries = fs::read_dir(place.path("units")).unwrap();
        let mut names: Vec<String> = entries
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    };
    let both = [format!("{name}.service"), format!("{name}.timer")];
    written(&["90d", "--max-rate", "100"]);
    assert_eq!(units(), both);
    let service = fs::read_to_string(place.path("units").join(&both[0])).unwrap();
    assert!(
        service.contains(" rewrap --if-needed --max-rate 100 "),
        "{service}"
    );
    written(&["2w"]);
    assert_eq!(units(), both, "named by the volume: replaced");
    let service = fs::read_to_string(place.path("units").join(&both[0])).unwrap();
    assert!(service.contains(" --if-older 336h "), "{service}");
    // What the units say does it: nothing is due, and all is rewrapped.
    for line in service
        .lines()
        .filter_map(|line| line.strip_prefix("ExecStart="))
    {
        let words: Vec<&str> = line.split(' ').collect();
        let status = Command::new(words[0]).args(&words[1..]).status();
        assert!(status.unwrap().success(), "{line}");
    }
    assert!(written(&["never"]).contains("removed"));
    assert!(units().is_empty());
    assert!(written(&["never"]).contains("there is no schedule"));
}

/// A user's own manager, by way of a systemctl that notes what it is told.
#[test]
fn a_users_schedule_is_enabled_and_disabled() {
    use std::os::unix::fs::PermissionsExt;
    let place = Place::with_volume();
    let id = place.json(["status", "c", "--json"])["volume_id"]
        .as_str()
        .unwrap()
        .to_owned();
    fs::create_dir(place.path("bin")).unwrap();
    let program = place.path("bin/systemctl");
    fs::write(&program, "#!/bin/sh\necho \"$@\" >> told\n").unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    fs::copy(BINARY, place.path("program")).unwrap();
    let root = place.path("");
    let owned = Command::new("chown")
        .args(["-R", "65534:65534"])
        .arg(&root)
        .status();
    assert!(owned.unwrap().success());
    let as_nobody = |path: &str, words: &[&str]| {
        let mut command = Command::new("/usr/bin/setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--"]);
        command.arg(place.path("program")).args(words);
        place.surround(&mut command);
        command
            .env("XDG_CONFIG_HOME", place.path("config"))
            .env("PATH", path);
        Done(command.output().unwrap())
    };
    let timer = format!("envelopefs-rotate-{id}.timer");
    let units = place.path("config/systemd/user");
    let bin = place.path("bin").display().to_string() + ":/usr/bin:/bin";
    as_nobody(&bin, &["rotate", "c", "--every", "30d"]).success();
    assert!(units.join(&timer).exists());
    as_nobody(&bin, &["rotate", "c", "--every", "never"]).success();
    assert!(!units.join(&timer).exists());
    let told = fs::read_to_string(place.path("told")).unwrap();
    let expected = format!(
        "--user daemon-reload\n--user enable --now {timer}\n--user disable --now {timer}\n--user daemon-reload\n"
    );
    assert_eq!(told, expected);
    // Without systemd the units are there, and what to do is said.
    let no_systemd = as_nobody("/nowhere", &["rotate", "c", "--every", "30d"]);
    assert!(
        no_systemd.stderr().contains("cron"),
        "{}",
        no_systemd.stderr()
    );
    no_systemd.fails(NOT_SUPPORTED, "no systemctl");
    assert!(units.join(&timer).exists());
}

/// The one key material that all files and the volume's own key are under, when there is one.
fn only_material(place: &Place, target: &str) -> Option<String> {
    let census = place.json(["status", target, "--json"])["census"].clone();
    let materials: Vec<&String> = census["files_by_material"].as_object()?.keys().collect();
    let is_only = materials.len() == 1 && census["volume_keys"] == serde_json::json!(materials);
    is_only.then(|| materials[0].clone())
}

#[test]
fn auto_rewrap_follows_a_rotation_by_others() {
    let (place, main, _) = with_two_keys(&[]);
    let rotate = || {
        place.ok(["kms", "rotate-key-on-demand", "--key-id", &main]);
    };
    let pid = place.mount(&["-o", "auto-rewrap,key-ttl=1s"]);
    for n in 0..100 {
        fs::write(place.path(&format!("m/{n}")), "x").unwrap();
    }
    let first = only_material(&place, "m").unwrap();
    let job = || place.json(["status", "m", "--json", "--no-census"])["job"].clone();
    std::thread::sleep(std::time::Duration::from_millis(1500));
    assert!(job().is_null(), "nothing is old: {}", job());
    // It lets all others go first.
    let tasks = fs::read_dir(format!("/proc/{pid}/task"))
        .unwrap()
        .map(|task| task.unwrap().path());
    let comm = |task: &std::path::PathBuf| fs::read_to_string(task.join("comm")).unwrap();
    let thread = tasks
        .into_iter()
        .find(|task| comm(task).trim() == "auto-rewrap")
        .unwrap();
    let stat = fs::read_to_string(thread.join("stat")).unwrap();
    let fields: Vec<&str> = stat
        .rsplit(')')
        .next()
        .unwrap()
        .split_whitespace()
        .collect();
    assert_eq!(fields[16], "19", "{stat}");

    rotate();
    eventually("all is under the new material", || {
        only_material(&place, "m").is_some_and(|now| now != first)
    });
    eventually("the job ends", || job()["phase"] == "done");
    let state = job();
    assert_eq!(
        (&state["automatic"], &state["task"]),
        (&true.into(), &"rewrap".into())
    );
    assert_eq!(state["files"], 100);
    let text = place.ok(["status", "m"]);
    assert!(
        text.contains("rewrap           done (by itself), 100 files"),
        "{text}"
    );
    place.ok(["umount", "m"]);

    // Rotated and half-way through before the mount.
    let second = only_material(&place, "c").unwrap();
    rotate();
    let half = place.json(["rewrap", "c", "--exclude", "*5", "--json"]);
    assert_eq!(
        (&half["rewrapped"], &half["limited"]),
        (&90.into(), &true.into())
    );
    assert_eq!(only_material(&place, "c"), None);
    place.mount(&["-o", "auto-rewrap,key-ttl=1s"]);
    eventually("the rest is under the new material", || {
        only_material(&place, "m").is_some_and(|now| now != second)
    });
    for n in 0..100 {
        assert_eq!(
            fs::read_to_string(place.path(&format!("m/{n}"))).unwrap(),
            "x"
        );
    }
    place.ok(["umount", "m"]);

    // Not unless it was asked for.
    rotate();
    place.mount(&["-o", "key-ttl=1s"]);
    fs::write(place.path("m/new"), "x").unwrap();
    std::thread::sleep(std::time::Duration::from_millis(2500));
    assert!(job().is_null() && only_material(&place, "m").is_none());
    place.ok(["umount", "m"]);
}

#[test]
fn rewrap_is_limited_by_path_and_pattern() {
    let place = Place::with_volume();
    place.mount(&[]);
    for dir in ["a", "b", "a/cache"] {
        fs::create_dir(place.path("m").join(dir)).unwrap();
        for name in ["1", "2.tmp"] {
            fs::write(place.path("m").join(dir).join(name), "x").unwrap();
        }
    }
    place.ok(["rotate", "m"]);
    let in_mount = place.path("m/a").display().to_string();
    let limited = place.json([
        "rewrap",
        "m",
        &in_mount,
        "--exclude",
        "*.tmp",
        "--exclude",
        "a/cache/",
        "--json",
    ]);
    assert_eq!(
        (&limited["files"], &limited["rewrapped"]),
        (&1.into(), &1.into())
    );
    assert_eq!(
        (&limited["limited"], &limited["complete"]),
        (&true.into(), &false.into())
    );
    assert_eq!(limited["volume_key"], false);
    place
        .run([
            "rewrap",
            "m",
            "b",
            "--remove-recovery-key",
            "alias/envelopefs/volume",
        ])
        .fails(USAGE, "whole volume");
    let sealed = place.json(["re-encrypt", "m", "b", "--exclude", "2*", "--json"]);
    assert_eq!(sealed["reencrypted"], 1);
    place.ok(["umount", "m"]);
    let text = place.ok(["rewrap", "c", "/b", "a/cache/2.tmp"]);
    assert!(
        text.starts_with("3 files: 2 wrapped anew, 1 were current"),
        "{text}"
    );
    assert!(text.contains("limited"), "{text}");
    let all = place.json(["rewrap", "c", "--json"]);
    assert_eq!((&all["files"], &all["rewrapped"]), (&6.into(), &2.into()));
    assert_eq!(
        (&all["complete"], &all["volume_key"]),
        (&true.into(), &true.into())
    );
}

#[test]
fn a_rewrap_that_is_not_needed_uses_no_data_key() {
    let place = Place::with_volume();
    place.mount(&[]);
    for n in 0..20 {
        fs::write(place.path(&format!("m/{n}")), "x").unwrap();
    }
    place.ok(["umount", "m"]);
    let uses = || {
        let events = place.ok(["audit", "query", "--event", "Decrypt", "--json"]);
        events.lines().count()
    };
    let before = uses();
    let idle = place.json(["rewrap", "c", "--if-needed", "--json"]);
    let counts = |report: &serde_json::Value| {
        ["files", "rewrapped", "current"].map(|name| report[name].as_u64().unwrap())
    };
    assert_eq!(counts(&idle), [20, 0, 20]);
    assert_eq!(
        (&idle["complete"], &idle["dry_run"]),
        (&true.into(), &false.into())
    );
    assert_eq!(uses(), before + 1, "the volume's own key alone");
    place.ok(["rewrap", "c"]);
    assert!(uses() > before + 20, "each header is authenticated");
    place.ok(["rotate", "c"]);
    let done = place.json(["rewrap", "c", "--if-needed", "--json"]);
    assert_eq!(counts(&done), [20, 20, 0]);
    assert!(done["volume_key"] == true && done["complete"] == true);
}
