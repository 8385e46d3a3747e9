//! Mounting, control calls, panics, unmounting.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::process::Stdio;
use std::thread;

use rustix::fs::StatVfsMountFlags as Flags;

use super::*;
use crate::fuse::mountpoint::Unmount;
use crate::fuse::{FuseError, control, device};

fn fs_type(m: &Mounted) -> String {
    mountpoint::find(&m.point).unwrap().unwrap().fs_type
}

fn named(subtype: &str) -> MountOptions {
    MountOptions {
        subtype: Some(subtype.to_owned()),
        ..chosen()
    }
}

#[test]
fn the_mount_table_shows_what_was_asked_for() {
    assert_eq!(fs_type(&Mounted::new()), "fuse.envelopefs");
    assert_eq!(fs_type(&Mounted::with(&named(""))), "fuse");
    assert_eq!(fs_type(&Mounted::with(&named("other"))), "fuse.other");
    let options = MountOptions {
        fsname: Some("a, name".to_owned()),
        noexec: true,
        ..chosen()
    };
    let m = Mounted::with(&options);
    assert_eq!(
        mountpoint::find(&m.point).unwrap().unwrap().source,
        "a, name"
    );
    let flags = rustix::fs::statvfs(&m.point).unwrap().f_flag;
    assert!(flags.contains(Flags::NOEXEC | Flags::NODEV | Flags::NOSUID));
    assert!(!flags.contains(Flags::RDONLY));
}

#[test]
fn a_read_only_mount_refuses_writes() {
    let m = Mounted::with(&MountOptions {
        read_only: true,
        ..chosen()
    });
    assert_eq!(errno(fs::write(m.path("f"), "")), libc::EROFS);
    assert_eq!(errno(fs::create_dir(m.path("d"))), libc::EROFS);
}

#[test]
fn waiting_ends_when_all_is_let_go() {
    let mut m = Mounted::new();
    let mount = m.mount.take().unwrap();
    let unmounter = mount.unmounter();
    let file = File::create(m.path("f")).unwrap();
    assert!(matches!(
        unmounter.unmount(Unmount::IfIdle),
        Err(FuseError::Busy { .. })
    ));
    let waiter = thread::spawn(move || mount.wait());
    drop(file);
    unmounter.unmount(Unmount::IfIdle).unwrap();
    waiter.join().unwrap().unwrap();
    unmounter.unmount(Unmount::IfIdle).unwrap();
    assert!(!mountpoint::is_mount_point(&m.point).unwrap());
}

#[test]
fn nothing_holds_the_volume_after_the_end() {
    let dir = TempDir::new().unwrap();
    let (cipher, point) = (dir.path().join("cipher"), dir.path().join("mnt"));
    fs::create_dir(&cipher).unwrap();
    fs::create_dir(&point).unwrap();
    let volume = volume(&cipher);
    for _ in 0..5 {
        let options = chosen();
        let mount = Mount::start(Arc::clone(&volume), &point, &options, None).unwrap();
        // Closed, but perhaps not yet said so when the mount goes.
        fs::write(point.join("f"), "x").unwrap();
        rustix::mount::unmount(&point, UnmountFlags::empty()).unwrap();
        mount.wait().unwrap();
        assert_eq!(Arc::strong_count(&volume), 1);
    }
}

#[test]
fn a_lazily_unmounted_mount_serves_to_the_last() {
    let mut m = Mounted::new();
    let mount = m.mount.take().unwrap();
    fs::write(m.path("f"), "text").unwrap();
    let file = File::open(m.path("f")).unwrap();
    mount.unmounter().unmount(Unmount::Lazily).unwrap();
    assert!(!m.path("f").exists());
    assert_eq!(io::read_to_string(&file).unwrap(), "text");
    drop(file);
    mount.wait().unwrap();
}

/// `fuser` by itself unmounts what is at the mount point once more when a session has ended.
#[test]
fn the_end_of_a_mount_leaves_others_at_its_place_alone() {
    let mut m = Mounted::new();
    let mount = m.mount.take().unwrap();
    mount.unmounter().unmount(Unmount::IfIdle).unwrap();
    mount.wait().unwrap();

    rustix::mount::mount("below", &m.point, "tmpfs", MountFlags::empty(), None).unwrap();
    let cipher = m.point.parent().unwrap().join("cipher");
    let mount = Mount::start(volume(&cipher), &m.point, &chosen(), None).unwrap();
    assert_eq!(fs_type(&m), "fuse.envelopefs");
    rustix::mount::unmount(&m.point, UnmountFlags::empty()).unwrap();
    mount.wait().unwrap();
    assert_eq!(fs_type(&m), "tmpfs");

    let mount = Mount::start(volume(&cipher), &m.point, &chosen(), None).unwrap();
    rustix::mount::mount("above", &m.point, "tmpfs", MountFlags::empty(), None).unwrap();
    let covered = mount.unmounter().unmount(Unmount::IfIdle);
    assert!(
        matches!(covered, Err(FuseError::Covered { .. })),
        "{covered:?}"
    );
    rustix::mount::unmount(&m.point, UnmountFlags::empty()).unwrap();
    drop(mount);
    assert_eq!(fs_type(&m), "tmpfs");
    rustix::mount::unmount(&m.point, UnmountFlags::empty()).unwrap();
}

#[test]
fn control_calls_reach_the_server() {
    let m = Mounted::new();
    fs::write(m.path("f"), "").unwrap();
    let long = vec![b'x'; control::LONGEST_MESSAGE];
    for request in [b"".as_slice(), b"{\"what\":\"status\"}", &long] {
        assert_eq!(control::call(&m.point, request).unwrap(), request);
        assert_eq!(control::call(&m.path("f"), request).unwrap(), request);
    }
    assert_eq!(control::server_pid(&m.point).unwrap(), std::process::id());
    let too_long = vec![b'x'; control::LONGEST_MESSAGE + 1];
    assert_eq!(errno(control::call(&m.point, &too_long)), libc::EMSGSIZE);
    let elsewhere = m.point.parent().unwrap();
    assert_eq!(errno(control::call(elsewhere, b"x")), libc::ENOTTY);
    assert_eq!(
        errno(control::call(Path::new("/dev/null"), b"x")),
        libc::ENOTTY
    );
    let foreign = rustix::termios::tcgetattr(File::open(m.path("f")).unwrap());
    assert_eq!(foreign.map(drop), Err(rustix::io::Errno::NOTTY));
}

#[test]
fn a_panic_costs_one_request() {
    let m = Mounted::new();
    let file = File::create(m.path("f")).unwrap();
    for _ in 0..20 {
        assert_eq!(errno(control::call(&m.point, b"panic")), libc::EIO);
    }
    thread::scope(|scope| {
        for i in 0..8 {
            let path = m.path(&format!("{i}"));
            scope.spawn(move || fs::write(path, "all threads answer").unwrap());
        }
    });
    drop(file);
}

#[test]
fn a_dead_mount_of_ours_is_cleared_away() {
    let mut m = Mounted::new();
    let mount = m.mount.take().unwrap();
    mount.unmounter().unmount(Unmount::IfIdle).unwrap();
    mount.wait().unwrap();
    let cipher = m.point.parent().unwrap().join("cipher");

    for subtype in ["envelopefs", ""] {
        // As a killed server leaves it: mounted, and the connection closed.
        drop(device::mount(&m.point, &named(subtype)).unwrap());
        assert!(mountpoint::is_stale(&m.point));
        let mount = Mount::start(volume(&cipher), &m.point, &named(subtype), None).unwrap();
        fs::write(m.path("f"), "alive").unwrap();
        drop(mount);
        assert!(!mountpoint::is_mount_point(&m.point).unwrap());
    }

    drop(device::mount(&m.point, &named("somebody-elses")).unwrap());
    let refused = Mount::start(volume(&cipher), &m.point, &chosen(), None).map(drop);
    assert!(
        matches!(refused, Err(FuseError::ForeignStale { .. })),
        "{refused:?}"
    );
    mountpoint::unmount_and_wait(&m.point, Duration::from_secs(1)).unwrap();
    assert!(!mountpoint::is_mount_point(&m.point).unwrap());
}

/// Its kernel side still answers what it remembers.
#[test]
fn a_killed_server_s_mount_is_cleared_away() {
    const INSIDE: &str = "ENVELOPEFS_TEST_TO_BE_KILLED";
    let start = |dir: &Path| {
        let options = chosen();
        Mount::start(
            volume(&dir.join("cipher")),
            &dir.join("mnt"),
            &options,
            None,
        )
        .unwrap()
    };
    if let Some(dir) = std::env::var_os(INSIDE) {
        start(Path::new(&dir)).wait().unwrap();
        return;
    }
    let dir = TempDir::new().unwrap();
    fs::create_dir(dir.path().join("cipher")).unwrap();
    let point = dir.path().join("mnt");
    fs::create_dir(&point).unwrap();
    let mut server = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "fuse::tests::mounting::a_killed_server_s_mount_is_cleared_away",
        ])
        .env(INSIDE, dir.path())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    eventually("mounted", || mountpoint::is_mount_point(&point).unwrap());
    fs::write(point.join("f"), "kept").unwrap();
    assert_eq!(control::server_pid(&point).unwrap(), server.id());
    assert!(!mountpoint::is_stale(&point));
    assert!(fs::metadata(&point).is_ok());
    server.kill().unwrap();
    server.wait().unwrap();
    assert!(fs::metadata(&point).is_ok(), "remembered");
    assert!(mountpoint::is_stale(&point));
    let mount = start(dir.path());
    assert_eq!(fs::read(point.join("f")).unwrap(), b"kept");
    drop(mount);
    assert!(!mountpoint::is_mount_point(&point).unwrap());
}

#[test]
fn an_aborted_connection_leaves_no_dead_mount() {
    let mut m = Mounted::new();
    let mount = m.mount.take().unwrap();
    abort(&m.point);
    mount.wait().unwrap();
    assert!(!mountpoint::is_mount_point(&m.point).unwrap());
}

#[test]
fn mount_points_that_will_not_do_are_refused() {
    let dir = TempDir::new().unwrap();
    let cipher = dir.path().join("cipher");
    fs::create_dir(&cipher).unwrap();
    let options = chosen();
    let start = |point: &Path| Mount::start(volume(&cipher), point, &options, None).map(drop);
    let missing = start(&dir.path().join("missing"));
    assert!(
        matches!(missing, Err(FuseError::MountPoint { .. })),
        "{missing:?}"
    );
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    assert!(matches!(start(&file), Err(FuseError::NotDirectory { .. })));
    let not_mounted = mountpoint::unmount_and_wait(&cipher, Duration::from_secs(1));
    assert!(
        matches!(not_mounted, Err(FuseError::NotMounted { .. })),
        "{not_mounted:?}"
    );
}

#[test]
fn an_idle_mount_goes_by_itself() {
    let period = Duration::from_millis(300);
    let options = MountOptions {
        idle: Some(period),
        ..chosen()
    };
    let mut m = Mounted::with(&options);
    let gone = |m: &Mounted| !mountpoint::is_mount_point(&m.point).unwrap();

    let file = File::create(m.path("f")).unwrap();
    thread::sleep(3 * period);
    assert!(!gone(&m), "a file is open");
    drop(file);

    let mut worker = Command::new("sleep")
        .arg("100")
        .current_dir(&m.point)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    thread::sleep(3 * period);
    assert!(!gone(&m), "somebody works there");
    worker.kill().unwrap();
    worker.wait().unwrap();

    for _ in 0..6 {
        // Asking for its status is no use of it.
        let _ = control::call(&m.point, b"status");
        thread::sleep(period / 3);
    }
    eventually("idle", || gone(&m));
    m.mount.take().unwrap().wait().unwrap();
}

#[test]
fn a_mount_in_use_is_not_idle() {
    let period = Duration::from_millis(500);
    let m = Mounted::with(&MountOptions {
        idle: Some(period),
        ..chosen()
    });
    let start = Instant::now();
    let (mut last, mut longest) = (start, Duration::ZERO);
    for i in 0.. {
        fs::write(m.path(&format!("{i}")), "").unwrap();
        longest = longest.max(last.elapsed());
        last = Instant::now();
        if start.elapsed() > 3 * period {
            break;
        }
        thread::sleep(period / 10);
    }
    let mounted = mountpoint::is_mount_point(&m.point).unwrap();
    // On a machine that is busy otherwise this test itself may pause for too long.
    assert!(mounted || longest >= period / 2, "{longest:?}");
}

/// Beside a process that writes to the volume, the kernel is not to believe what it knows.
#[test]
fn a_shared_mount_sees_what_others_write() {
    let options = MountOptions {
        shared: true,
        read_only: true,
        attribute_lifetime: Duration::from_millis(50),
        ..chosen()
    };
    let writer = Mounted::new();
    let cipher = writer.point.parent().unwrap().join("cipher");
    let point = writer.point.parent().unwrap().join("reader");
    fs::create_dir(&point).unwrap();
    fs::write(writer.path("f"), "old text").unwrap();
    let reader = Mount::start(open_volume(&cipher, true), &point, &options, None).unwrap();
    assert_eq!(fs::read(point.join("f")).unwrap(), b"old text");
    assert!(!point.join("g").exists());
    assert_eq!(fs::read_dir(&point).unwrap().count(), 1);

    fs::write(writer.path("f"), "new, longer text").unwrap();
    fs::write(writer.path("g"), "").unwrap();
    assert!(point.join("g").exists(), "no memory of what is not there");
    thread::sleep(Duration::from_millis(60));
    assert_eq!(fs::read(point.join("f")).unwrap(), b"new, longer text");
    assert_eq!(fs::read_dir(&point).unwrap().count(), 2);
    assert!(fs::write(point.join("f"), "").is_err());
    drop(reader);
}

/// Neither from the volume nor from what the kernel has in memory of it.
#[test]
fn a_file_that_is_cut_off_from_its_key_is_not_read_on() {
    let dir = TempDir::new().unwrap();
    let (cipher, point) = (dir.path().join("cipher"), dir.path().join("mnt"));
    fs::create_dir(&cipher).unwrap();
    fs::create_dir(&point).unwrap();
    let options = OpenOptions {
        key_ttl: Duration::from_millis(300),
        ..OpenOptions::default()
    };
    let (volume, kms, key) = open_with(&cipher, options);
    let mount = Mount::start(volume, &point, &chosen(), None).unwrap();
    let path = point.join("f");
    fs::write(&path, vec![b'x'; 20_000]).unwrap();
    let file = File::open(&path).unwrap();
    let read = || {
        file.read_at(&mut [0; 100], 0)
            .map_err(|error| error.raw_os_error().unwrap())
    };
    assert_eq!(read(), Ok(100));
    let requests = mount.requests("read");
    assert_eq!(read(), Ok(100));
    assert_eq!(mount.requests("read"), requests, "from memory");

    kms.owner().disable_key(&(&key).into()).unwrap();
    assert_eq!(
        File::open(&path).unwrap_err().raw_os_error(),
        Some(libc::EKEYREVOKED)
    );
    eventually("cut off", || read().is_err());
    assert_eq!(read(), Err(libc::EKEYREVOKED));
    kms.owner().enable_key(&(&key).into()).unwrap();
    eventually("healed", || read() == Ok(100));
    assert_eq!(fs::read(&path).unwrap().len(), 20_000);
    drop(file);
    drop(mount);
}

/// By way of fusermount3, which opens the device with the user's own rights.
#[test]
fn a_user_mounts_for_himself() {
    const INSIDE: &str = "ENVELOPEFS_TEST_AS_USER";
    // The helper asks for a user with a name.
    const NOBODY: u32 = 65_534;
    if let Some(dir) = std::env::var_os(INSIDE) {
        return as_a_user(Path::new(&dir));
    }
    if fs::metadata("/dev/fuse").unwrap().permissions().mode() & 0o006 != 0o006 {
        // As on a system without udev, whose rules give it 0666.
        eprintln!("not tested: /dev/fuse is for root only here");
        return;
    }
    let dir = TempDir::new().unwrap();
    std::os::unix::fs::chown(dir.path(), Some(NOBODY), Some(NOBODY)).unwrap();
    // The test program may lie where only root may go.
    let program = dir.path().join("test");
    fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    let output = Command::new(&program)
        .args([
            "--exact",
            "fuse::tests::mounting::a_user_mounts_for_himself",
            "--nocapture",
        ])
        .env(INSIDE, dir.path())
        .current_dir(dir.path())
        .uid(NOBODY)
        .gid(NOBODY)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("1 passed"));
}

fn as_a_user(dir: &Path) {
    let (cipher, point) = (dir.join("cipher"), dir.join("mnt"));
    fs::create_dir(&cipher).unwrap();
    fs::create_dir(&point).unwrap();
    let options = MountOptions {
        fsname: Some("my,files".to_owned()),
        ..chosen()
    };
    assert!(!options.allow_other);
    let mount = Mount::start(volume(&cipher), &point, &options, Some(Arc::new(Echo))).unwrap();
    let entry = mountpoint::find(&point).unwrap().unwrap();
    assert_eq!(
        (entry.fs_type.as_str(), entry.source.to_str()),
        ("fuse.envelopefs", Some("my,files"))
    );
    let path = point.join("f");
    fs::write(&path, "mine").unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"mine");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o4755)).unwrap();
    let file = File::options().append(true).open(&path).unwrap();
    io::Write::write_all(&mut &file, b"more").unwrap();
    assert_eq!(mode(&path), 0o755);
    assert!(matches!(
        mount.unmounter().unmount(Unmount::IfIdle),
        Err(FuseError::Busy { .. })
    ));
    drop(file);
    assert_eq!(control::call(&point, b"x").unwrap(), b"x");
    mount.unmounter().unmount(Unmount::IfIdle).unwrap();
    mount.wait().unwrap();

    drop(device::mount(&point, &options).unwrap());
    assert!(mountpoint::is_stale(&point));
    let mount = Mount::start(volume(&cipher), &point, &options, None).unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"minemore");
    drop(mount);
    assert!(!mountpoint::is_mount_point(&point).unwrap());
}
