//! The command line around a mount: start, errors of the start, control calls, end.

mod cli_support;

use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::process::{Command, Stdio};

use cli_support::{
    BINARY, BUSY, DAMAGE, Done, FAILURE, Place, USAGE, eventually, flip, is_alive, signal,
};

#[test]
fn the_daemon_serves_when_mount_returns_and_is_gone_after_umount() {
    let place = Place::with_volume();
    let pid = place.mount(&[]);
    fs::write(place.path("m/a"), "hello").unwrap();

    let proc = |name: &str| fs::read_link(format!("/proc/{pid}/{name}")).unwrap();
    assert_eq!(proc("cwd"), std::path::Path::new("/"));
    for descriptor in ["fd/0", "fd/1", "fd/2"] {
        assert_eq!(proc(descriptor), std::path::Path::new("/dev/null"));
    }
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let after_name: Vec<&str> = stat
        .rsplit(')')
        .next()
        .unwrap()
        .split_whitespace()
        .collect();
    assert_eq!(
        after_name[3],
        pid.to_string(),
        "it leads a session of its own"
    );

    place.ok(["umount", "m"]);
    assert!(!is_alive(pid), "umount returned before the daemon was gone");
    assert!(!place.is_mounted());
    assert_eq!(place.ok(["cat", "c", "a"]), "hello");
    let log = fs::read_to_string(place.path("log")).unwrap();
    assert!(
        log.contains(" mounted ") && log.contains("unmounted"),
        "{log}"
    );
}

#[test]
fn errors_of_the_start_are_the_commands_own() {
    let place = Place::with_volume();
    place.mount(&[]);
    fs::create_dir(place.path("m2")).unwrap();
    let held = format!("mount at {}", place.path("m").display());
    place.run(["mount", "c", "m2"]).fails(BUSY, &held);
    place.run(["fsck", "c"]).fails(BUSY, "mounted at");
    place.run(["mount", "c", "none"]).fails(FAILURE, "none");
    place
        .run(["mount", "c", "key"])
        .fails(FAILURE, "not a directory");
    place
        .run(["mount", "c", "m2", "--log", "/no/such/log"])
        .fails(FAILURE, "/no/such/log");
    place
        .run(["mount", "c", "c"])
        .fails(USAGE, "lies in the cipher directory");
    place.ok(["umount", "m"]);
}

#[test]
fn a_reader_may_join_a_writer() {
    let place = Place::with_volume();
    place.mount(&[]);
    fs::write(place.path("m/a"), "one").unwrap();
    fs::create_dir(place.path("m2")).unwrap();
    place.ok(["mount", "c", "m2", "--read-only", "--log", "log2"]);
    assert_eq!(fs::read_to_string(place.path("m2/a")).unwrap(), "one");
    assert!(fs::write(place.path("m2/b"), "x").is_err());
    let both = place.json(["status", "--json"]);
    let ours = |name: &str| {
        let path = place.path(name);
        let found = both
            .as_array()
            .unwrap()
            .iter()
            .find(|s| s["mountpoint"] == *path.to_str().unwrap());
        found.unwrap()["read_only"].clone()
    };
    assert_eq!((ours("m"), ours("m2")), (false.into(), true.into()));
    place.ok(["umount", "m2"]);
    place.ok(["umount", "m"]);
}

#[test]
fn status_tells_of_a_mount_by_either_path() {
    let place = Place::with_volume();
    let pid = place.mount(&[]);
    for path in ["c", "m"] {
        let status = place.json(["status", path, "--json"]);
        assert_eq!(status["mounted"], true);
        assert_eq!(status["pid"], pid);
        assert_eq!(status["key_state"], "usable");
        assert_eq!(status["cipher_dir"], *place.path("c").to_str().unwrap());
        assert_eq!(status["hidden_names"], 0);
    }
    assert!(place.ok(["status", "c"]).contains("mounted at"));
    place.ok(["umount", "m"]);
}

#[test]
fn rotate_and_rewrap_through_the_daemon_need_no_keystore() {
    let place = Place::with_volume();
    place.mount(&[]);
    for n in 0..50 {
        fs::write(place.path(&format!("m/{n}")), format!("file {n}")).unwrap();
    }
    let without_keystore = |words: &[&str]| {
        let mut command = place.command(words);
        command.env("ENVELOPEFS_KEYSTORE", "/no/such/keystore");
        let text = Done(command.output().unwrap()).success();
        serde_json::from_str::<serde_json::Value>(&text).unwrap()
    };
    let rotated = without_keystore(&["rotate", "m", "--json"]);
    assert_ne!(rotated["material_id"], rotated["previous_material_id"]);
    let dry = without_keystore(&["rewrap", "c", "--dry-run", "--json"]);
    assert_eq!((&dry["files"], &dry["rewrapped"]), (&50.into(), &50.into()));
    let done = without_keystore(&["rewrap", "c", "--json"]);
    assert_eq!(
        (&done["rewrapped"], &done["current"]),
        (&50.into(), &0.into())
    );
    let again = without_keystore(&["rewrap", "m", "--json"]);
    assert_eq!(
        (&again["rewrapped"], &again["current"]),
        (&0.into(), &50.into())
    );
    assert_eq!(
        place.json(["status", "m", "--json"])["job"]["phase"],
        "done"
    );
    for n in 0..50 {
        let text = fs::read_to_string(place.path(&format!("m/{n}"))).unwrap();
        assert_eq!(text, format!("file {n}"));
    }
    place.ok(["umount", "m"]);
    assert!(place.ok(["fsck", "c"]).starts_with("clean: 50 files"));
}

#[test]
fn re_encrypt_through_the_daemon_and_without() {
    let place = Place::with_volume();
    place.mount(&[]);
    fs::create_dir(place.path("m/d")).unwrap();
    let text = |n: usize| format!("file {n} ").repeat(n * 100);
    for n in 0..20 {
        let dir = if n % 2 == 0 { "m" } else { "m/d" };
        fs::write(place.path(&format!("{dir}/{n}")), text(n)).unwrap();
    }
    fs::write(place.path("m/empty"), "").unwrap();
    let times = |place: &Place| {
        use std::os::unix::fs::MetadataExt;
        let paths = (0..20).map(|n| format!("{}/{n}", if n % 2 == 0 { "m" } else { "m/d" }));
        paths
            .map(|path| fs::metadata(place.path(&path)).unwrap())
            .map(|stat| {
                (
                    stat.ino(),
                    stat.mtime_nsec(),
                    stat.ctime(),
                    stat.ctime_nsec(),
                )
            })
            .collect::<Vec<_>>()
    };
    place.ok(["umount", "m"]);
    place.mount(&[]);
    let before = times(&place);
    // One of them is open, and written to afterwards.
    let mut open = fs::File::options()
        .append(true)
        .open(place.path("m/18"))
        .unwrap();
    let done = place.json(["re-encrypt", "m", "--json"]);
    assert_eq!(
        (&done["complete"], &done["reencrypted"]),
        (&true.into(), &19.into())
    );
    assert_eq!(done["empty"], 2, "0 is empty too");
    let mounted = place.path("m/d");
    let done = place.json([
        "re-encrypt",
        "c",
        mounted.to_str().unwrap(),
        "d/1",
        "--json",
    ]);
    assert_eq!(done["reencrypted"], 10);
    place
        .run(["re-encrypt", "m", "none"])
        .fails(FAILURE, "no such file");
    assert!(times(&place) == before);
    assert_eq!(
        place.json(["status", "m", "--json"])["job"]["phase"],
        "done"
    );
    std::io::Write::write_all(&mut open, b"more").unwrap();
    drop(open);
    place.ok(["umount", "m"]);
    let said = place.ok(["re-encrypt", "c", "--max-rate", "100M"]);
    assert!(said.contains("19 with a new data key"), "{said}");
    assert!(said.contains("no file needs its old data key"), "{said}");
    assert!(place.ok(["fsck", "c"]).starts_with("clean: 21 files"));
    place.mount(&[]);
    for n in 0..20 {
        let dir = if n % 2 == 0 { "m" } else { "m/d" };
        let read = fs::read_to_string(place.path(&format!("{dir}/{n}"))).unwrap();
        let more = if n == 18 { "more" } else { "" };
        assert!(read == text(n) + more, "file {n}");
    }
    let now = times(&place);
    assert!(
        now.iter()
            .zip(&before)
            .enumerate()
            .all(|(n, (now, then))| now == then || n == 18)
    );
    place.ok(["umount", "m"]);
}

#[test]
fn a_mount_ends_a_renewal_of_an_open_file_by_itself() {
    let place = Place::with_volume();
    place.mount(&[]);
    let content = "as long as some groups ".repeat(200_000);
    fs::write(place.path("m/f"), &content).unwrap();
    let two_keys = |place: &Place| {
        let file = place.cipher_files().remove(0);
        let told = place.ok(["inspect", file.to_str().unwrap(), "--json"]);
        told.contains("previous")
    };
    let mut under_way = place
        .command(["re-encrypt", "m", "--max-rate", "1M"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    eventually("the re-encrypt is at work", || {
        let job = &place.json(["status", "m", "--json"])["job"];
        job["bytes"].as_u64().is_some_and(|bytes| bytes > 0)
    });
    place.ok(["umount", "m"]);
    assert!(!under_way.wait().unwrap().success());
    assert!(two_keys(&place));
    place.mount(&["-o", "key-ttl=1"]);
    let open = fs::File::open(place.path("m/f")).unwrap();
    eventually("the file has one data key", || !two_keys(&place));
    assert_eq!(fs::read_to_string(place.path("m/f")).unwrap(), content);
    drop(open);
    place.ok(["umount", "m"]);
    assert!(place.ok(["fsck", "c"]).starts_with("clean: 1 file"));
}

#[test]
fn a_long_report_of_a_rewrap_comes_whole() {
    let place = Place::with_volume();
    place.mount(&[]);
    for n in 0..60 {
        fs::write(
            place.path(&format!("m/{n:02}{}", "long name ".repeat(12))),
            "x",
        )
        .unwrap();
    }
    place.ok(["umount", "m"]);
    for file in place.cipher_files() {
        flip(&file, 0);
    }
    place.mount(&[]);
    let done = place.run(["rewrap", "m", "--json"]);
    assert_eq!(done.code(), Some(FAILURE));
    let report: serde_json::Value = serde_json::from_str(&done.stdout()).unwrap();
    let failed = report["failed"].as_array().unwrap();
    assert_eq!(failed.len(), 60);
    assert!(done.stdout().len() > 8192, "it takes more than one answer");
    let mut paths: Vec<&str> = failed.iter().map(|f| f["path"].as_str().unwrap()).collect();
    paths.sort_unstable();
    assert!(paths[0].starts_with("/00long name") && paths[59].starts_with("/59long name"));
    place.ok(["umount", "m"]);
}

#[test]
fn others_may_see_the_status_but_not_rewrap() {
    let place = Place::with_volume();
    place.mount(&["-o", "allow_other"]);
    for folder in [place.path(""), place.path("m")] {
        fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).unwrap();
    }
    // A copy that others may run, wherever the build is.
    fs::copy(BINARY, place.path("program")).unwrap();
    let as_nobody = |words: &[&str]| {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--"]);
        command.arg(place.path("program")).args(words);
        place.surround(&mut command);
        Done(command.output().unwrap())
    };
    assert!(
        as_nobody(&["status", "m"])
            .success()
            .contains("read and write")
    );
    as_nobody(&["rewrap", "m"]).fails(FAILURE, "only root and the user who mounted");
    as_nobody(&["rotate", "m"]).fails(FAILURE, "only root and the user who mounted");
    assert_ne!(as_nobody(&["umount", "m"]).code(), Some(0));
    assert!(place.is_mounted());
    place.ok(["umount", "m"]);
}

#[test]
fn a_mount_in_use_is_not_unmounted() {
    let place = Place::with_volume();
    place.mount(&[]);
    let file = fs::File::create(place.path("m/a")).unwrap();
    place.run(["umount", "m"]).fails(BUSY, "in use");
    file.write_all_at(b"still here", 0).unwrap();
    drop(file);
    place.ok(["umount", "m"]);
    assert_eq!(place.ok(["cat", "c", "a"]), "still here");
}

#[test]
fn a_dead_mount_is_taken_away() {
    let place = Place::with_volume();
    let pid = place.mount(&[]);
    signal(pid, "KILL");
    eventually("the daemon dies", || !is_alive(pid));
    place.ok(["umount", "m"]);
    assert!(!place.is_mounted());
    let pid = place.mount(&[]);
    signal(pid, "KILL");
    eventually("the daemon dies", || !is_alive(pid));
    place.mount(&[]);
    place.ok(["umount", "m"]);
}

#[test]
fn sigterm_unmounts_and_leaves_the_volume_clean() {
    let place = Place::with_volume();
    let pid = place.mount(&[]);
    fs::write(place.path("m/a"), "kept").unwrap();
    signal(pid, "TERM");
    eventually("the daemon ends", || !is_alive(pid));
    assert!(!place.is_mounted());
    place.mount(&[]);
    assert_eq!(place.json(["status", "m", "--json"])["clean"], true);
    place.ok(["umount", "m"]);

    // In use: it ends when the last file is closed.
    let pid = place.mount(&[]);
    let file = fs::File::open(place.path("m/a")).unwrap();
    signal(pid, "TERM");
    eventually("the mount goes out of sight", || !place.is_mounted());
    assert!(is_alive(pid));
    let mut text = [0; 4];
    file.read_exact_at(&mut text, 0).unwrap();
    assert_eq!(&text, b"kept");
    drop(file);
    eventually("the daemon ends", || !is_alive(pid));
}

#[test]
fn a_mount_in_the_foreground_logs_to_the_standard_error() {
    let place = Place::with_volume();
    let mut command = Command::new(BINARY);
    command.args(["mount", "c", "m", "--foreground"]);
    place.surround(&mut command);
    let child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    eventually("it is mounted", || place.is_mounted());
    fs::write(place.path("m/a"), "x").unwrap();
    signal(child.id(), "INT");
    let done = Done(child.wait_with_output().unwrap());
    assert_eq!(done.code(), Some(0), "{}", done.stderr());
    assert!(done.stderr().contains(" mounted "), "{}", done.stderr());
    assert!(!place.is_mounted());
}

#[test]
fn mount_options_reach_the_kernel() {
    let place = Place::with_volume();
    let line = || {
        let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let point = format!(" {} ", place.path("m").display());
        table
            .lines()
            .find(|line| line.contains(&point))
            .unwrap()
            .to_owned()
    };
    place.mount(&[]);
    assert!(line().contains(&format!("- fuse.envelopefs {} ", place.path("c").display())));
    assert!(line().contains("nosuid,nodev"), "{}", line());
    place.ok(["umount", "m"]);
    let options = "ro,noexec,noatime,suid,dev,subtype=,x-systemd.idle-timeout=5,nofail";
    place.mount(&["-o", options, "-o", r"fsname=a\,b"]);
    let line = line();
    assert!(line.contains(" ro,noexec,noatime "), "{line}");
    assert!(line.contains("- fuse a,b "), "{line}");
    place.ok(["umount", "m"]);
    place.mount(&["-o", "uid=12,gid=34,umask=027"]);
    let root = fs::metadata(place.path("m")).unwrap();
    assert_eq!(
        (root.uid(), root.gid(), root.mode() & 0o777),
        (12, 34, 0o750)
    );
    place.ok(["umount", "m"]);
}

#[test]
fn an_idle_mount_goes_away_by_itself() {
    let place = Place::with_volume();
    let pid = place.mount(&["-o", "idle=1s"]);
    eventually("the idle mount ends", || !is_alive(pid));
    assert!(!place.is_mounted());
}

#[test]
fn as_a_mount_helper() {
    let place = Place::with_volume();
    symlink(BINARY, place.path("mount.fuse.envelopefs")).unwrap();
    let helper = |words: &[&str]| {
        let mut command = Command::new("./mount.fuse.envelopefs");
        command.args(words);
        place.surround(&mut command);
        // All comes by the options, as from fstab.
        command
            .env_remove("ENVELOPEFS_KEYSTORE")
            .env_remove("ENVELOPEFS_KEY_FILE");
        Done(command.output().unwrap())
    };
    let options = format!(
        "rw,nofail,keystore={},key-file={}",
        place.path("keystore").display(),
        place.path("key").display()
    );
    helper(&["c", "m", "-f", "-o", &options]).success();
    assert!(!place.is_mounted(), "-f is a rehearsal");
    helper(&["c", "m", "-o", "colour=red"]).fails(USAGE, "colour=red");
    helper(&["c", "m", "-n", "-o", &options, "-t", "fuse.envelopefs"]).success();
    assert!(place.is_mounted());
    fs::write(place.path("m/a"), "by helper").unwrap();
    place.ok(["umount", "m"]);
    assert_eq!(place.ok(["cat", "c", "a"]), "by helper");
}

#[test]
fn what_the_commands_read_is_what_the_mount_wrote() {
    let place = Place::with_volume();
    place.mount(&[]);
    let big: Vec<u8> = (0..300_000u32).map(|n| (n * 7 % 251) as u8).collect();
    fs::create_dir_all(place.path("m/d/e")).unwrap();
    fs::write(place.path("m/d/big"), &big).unwrap();
    fs::write(place.path("m/d/e/.hidden"), "h").unwrap();
    fs::hard_link(place.path("m/d/big"), place.path("m/d/again")).unwrap();
    symlink("d/big", place.path("m/link")).unwrap();
    symlink("/etc/passwd", place.path("m/out")).unwrap();
    let sparse = fs::File::create(place.path("m/sparse")).unwrap();
    sparse.write_all_at(b"end", 1 << 30).unwrap();
    fs::set_permissions(place.path("m/d/big"), fs::Permissions::from_mode(0o640)).unwrap();
    let tag = ["-n", "user.tag", "-v", "value", "m/d/big"];
    assert!(
        Command::new("setfattr")
            .args(tag)
            .current_dir(place.path(""))
            .status()
            .unwrap()
            .success()
    );
    drop(sparse);
    place.ok(["umount", "m"]);

    assert_eq!(place.ok(["ls", "c"]), "d\nlink\nout\nsparse\n");
    assert_eq!(place.ok(["ls", "c", "d/e"]), "");
    assert_eq!(place.ok(["ls", "-a", "c", "/d/e/"]), ".hidden\n");
    let long = place.ok(["ls", "-l", "c", "d/.."]);
    assert!(
        long.contains("lrwxrwxrwx") && long.contains("link -> d/big"),
        "{long}"
    );
    assert!(place.ok(["ls", "-R", "c"]).contains("/d/e:\n"));
    place.run(["ls", "c", "none"]).fails(FAILURE, "none");
    let cat = place.run(["cat", "c", "link"]);
    assert!(cat.0.stdout == big, "cat follows a symlink");
    place
        .run(["cat", "c", "out"])
        .fails(FAILURE, "leads out of the volume");
    place
        .run(["cat", "c", "d"])
        .fails(FAILURE, "not a regular file");

    place
        .run(["cp", "c", "d", "copy"])
        .fails(FAILURE, "-r copies it");
    place.ok(["cp", "-rp", "c", "/", "copy"]);
    assert!(fs::read(place.path("copy/d/big")).unwrap() == big);
    let (one, two) = (place.path("copy/d/big"), place.path("copy/d/again"));
    assert_eq!(
        fs::metadata(&one).unwrap().ino(),
        fs::metadata(&two).unwrap().ino()
    );
    assert_eq!(fs::metadata(&one).unwrap().mode() & 0o7777, 0o640);
    let tag = ["--only-values", "-n", "user.tag", "copy/d/big"];
    let value = Command::new("getfattr")
        .args(tag)
        .current_dir(place.path(""))
        .output()
        .unwrap();
    assert_eq!(value.stdout, b"value");
    assert_eq!(
        fs::read_link(place.path("copy/out")).unwrap().to_str(),
        Some("/etc/passwd")
    );
    let sparse = fs::metadata(place.path("copy/sparse")).unwrap();
    assert_eq!(sparse.len(), (1 << 30) + 3);
    assert!(sparse.blocks() < 1000, "the holes are kept");
    place.ok(["cp", "c", "link", "d/e/.hidden", "m"]);
    assert!(
        fs::read(place.path("m/link")).unwrap() == big,
        "a named symlink is followed"
    );
}

#[test]
fn a_damaged_block_is_named_and_the_rest_is_rescued() {
    let place = Place::with_volume();
    place.mount(&[]);
    let text: Vec<u8> = (0..20 * 4096u32).map(|n| (n / 4096) as u8 + b'a').collect();
    fs::write(place.path("m/file"), &text).unwrap();
    fs::write(place.path("m/sound"), "sound").unwrap();
    place.ok(["umount", "m"]);
    let big = place
        .cipher_files()
        .into_iter()
        .max_by_key(|f| fs::metadata(f).unwrap().len());
    let big = big.unwrap();
    flip(&big, 4096 + 5 * 4096 + 17);

    let fsck = place.run(["fsck", "c"]);
    assert_eq!(fsck.code(), Some(DAMAGE));
    assert!(
        fsck.stdout().contains("file: block 5: "),
        "{}",
        fsck.stdout()
    );
    let report = place.run(["fsck", "c", "--json"]);
    assert_eq!(report.code(), Some(DAMAGE));
    let report: serde_json::Value = serde_json::from_str(&report.stdout()).unwrap();
    assert_eq!(report["damaged"][0]["path"], "/file");
    assert_eq!(report["damaged"][0]["block"], 5);

    place.run(["cat", "c", "file"]).fails(DAMAGE, "file");
    place
        .run(["cp", "-r", "c", "/", "copy"])
        .fails(DAMAGE, "bytes 20480 to 24576");
    let copy = fs::read(place.path("copy/file")).unwrap();
    assert_eq!(copy.len(), text.len());
    assert!(copy[..20480] == text[..20480] && copy[24576..] == text[24576..]);
    assert!(copy[20480..24576].iter().all(|byte| *byte == 0));
    assert_eq!(
        fs::read_to_string(place.path("copy/sound")).unwrap(),
        "sound"
    );
    let shown = place.ok(["inspect", big.to_str().unwrap()]);
    assert!(
        shown.contains("layout       blocks") && shown.contains("in use"),
        "{shown}"
    );
}

#[test]
fn a_remount_changes_flags_only() {
    let place = Place::with_volume();
    place.mount(&[]);
    fs::write(place.path("m/a"), "one").unwrap();
    place.ok(["mount", "c", "m", "-o", "remount,ro"]);
    assert!(fs::write(place.path("m/a"), "two").is_err());
    place.ok(["mount", "c", "m", "-o", "remount,rw"]);
    fs::write(place.path("m/a"), "three").unwrap();
    place.ok(["umount", "m"]);
    place.mount(&["--read-only"]);
    place
        .run(["mount", "c", "m", "-o", "remount,rw"])
        .fails(8, "for reading only");
    place.ok(["umount", "m"]);
    place
        .run(["mount", "c", "m", "-o", "remount,ro"])
        .fails(FAILURE, "nothing is mounted");
}
