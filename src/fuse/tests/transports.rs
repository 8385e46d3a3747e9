//! What a transport has to see to by itself. `$ENVELOPEFS_TEST_TRANSPORT` says which one it is.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use parking_lot::Mutex;
use rustix::thread::CpuSet;

use super::*;
use crate::fuse::control;
use crate::fuse::transport::{Way, ways};
use crate::fuse::uring;

#[test]
fn there_is_always_a_way_but_not_always_the_one_that_was_asked_for() {
    assert_eq!(ways(Transport::Dev), Ok(&[Way::Dev][..]));
    let missing = uring::missing();
    match ways(Transport::Uring) {
        Ok(ways) => assert_eq!((ways, missing.is_none()), (&[Way::Uring][..], true)),
        Err(reason) => assert_eq!(Some(reason), missing),
    }
    assert_eq!(ways(Transport::Auto).unwrap().last(), Some(&Way::Dev));
}

/// The kernel sends requests as soon as each queue has one entry, while others are still being handed
/// over.
#[test]
fn a_request_that_comes_while_a_mount_starts_is_answered() {
    const ASKING: usize = 4;
    for _ in 0..20 {
        let dir = TempDir::new().unwrap();
        let (cipher, point) = (dir.path().join("cipher"), dir.path().join("mnt"));
        fs::create_dir(&cipher).unwrap();
        fs::create_dir(&point).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let answers: Arc<[AtomicU64]> = (0..ASKING).map(|_| AtomicU64::new(0)).collect();
        let asking = |i: usize| {
            let (stop, answers) = (Arc::clone(&stop), Arc::clone(&answers));
            let name = point.join(format!("none-{i}"));
            thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    assert!(fs::metadata(&name).is_err());
                    answers[i].fetch_add(1, Ordering::Relaxed);
                }
            })
        };
        let threads: Vec<_> = (0..ASKING).map(asking).collect();
        let now = || answers.iter().map(|count| count.load(Ordering::Relaxed));
        let volume = volume(&cipher);
        let mount = Mount::start(volume, &point, &chosen(), None).unwrap();
        let before: Vec<u64> = now().collect();
        let all = || now().zip(&before).all(|(now, before)| now > before + 1);
        let deadline = Instant::now() + Duration::from_secs(10);
        while !all() && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(1));
        }
        if !all() {
            // Who waits for an answer in vain can't even be killed.
            abort(&point);
            panic!("a request was lost");
        }
        stop.store(true, Ordering::Relaxed);
        for thread in threads {
            thread.join().unwrap();
        }
        drop(mount);
    }
}

/// Says that it was called, and answers when it may.
struct Held {
    called: Mutex<Sender<()>>,
    release: Mutex<Receiver<()>>,
}

impl Control for Held {
    fn call(&self, _caller_uid: u32, request: &[u8]) -> Vec<u8> {
        self.called.lock().send(()).unwrap();
        let _ = self.release.lock().recv();
        request.to_vec()
    }
}

/// All of them on one processor, which is one queue of the rings.
#[test]
fn a_few_operations_that_hang_hold_up_no_other() {
    const HANGING: usize = 3;
    let dir = TempDir::new().unwrap();
    let (cipher, point) = (dir.path().join("cipher"), dir.path().join("mnt"));
    fs::create_dir(&cipher).unwrap();
    fs::create_dir(&point).unwrap();
    let (called, calls) = channel();
    let (release, released) = channel();
    let held = Held {
        called: Mutex::new(called),
        release: Mutex::new(released),
    };
    let options = MountOptions {
        threads: HANGING + 1,
        ..chosen()
    };
    let mount = Mount::start(volume(&cipher), &point, &options, Some(Arc::new(held))).unwrap();
    let mut first = CpuSet::new();
    let all = rustix::thread::sched_getaffinity(None).unwrap();
    first.set((0..CpuSet::MAX_CPU).find(|cpu| all.is_set(*cpu)).unwrap());
    rustix::thread::sched_setaffinity(None, &first).unwrap();
    let hanging: Vec<_> = (0..HANGING)
        .map(|_| {
            let point = point.clone();
            thread::spawn(move || control::call(&point, b"wait").unwrap())
        })
        .collect();
    for _ in 0..HANGING {
        calls.recv_timeout(Duration::from_secs(10)).unwrap();
    }
    let others = thread::spawn(move || {
        for number in 0..50 {
            let path = point.join(format!("f{number}"));
            fs::write(&path, "more").unwrap();
            assert_eq!(fs::read(&path).unwrap(), b"more");
        }
    });
    eventually("others go on", || others.is_finished());
    others.join().unwrap();
    drop(release);
    for call in hanging {
        assert_eq!(call.join().unwrap(), b"wait");
    }
    drop(mount);
}

#[test]
fn what_the_kernel_forgets_is_forgotten() {
    let dir = TempDir::new().unwrap();
    let (cipher, point) = (dir.path().join("cipher"), dir.path().join("mnt"));
    fs::create_dir(&cipher).unwrap();
    fs::create_dir(&point).unwrap();
    let volume = volume(&cipher);
    let mount = Mount::start(Arc::clone(&volume), &point, &chosen(), None).unwrap();
    let before = volume.status().known_inodes;
    for number in 0..500 {
        fs::write(point.join(number.to_string()), "x").unwrap();
    }
    assert!(volume.status().known_inodes >= before + 500);
    for number in 0..500 {
        fs::remove_file(point.join(number.to_string())).unwrap();
    }
    eventually("forgotten", || volume.status().known_inodes <= before);
    drop(mount);
}

#[test]
fn mounting_again_and_again_leaves_nothing_behind() {
    const INSIDE: &str = "ENVELOPEFS_TEST_AGAIN";
    if let Some(dir) = std::env::var_os(INSIDE) {
        return again_and_again(Path::new(&dir));
    }
    let dir = TempDir::new().unwrap();
    // A process of its own: other tests have threads and descriptors too.
    let output = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "fuse::tests::transports::mounting_again_and_again_leaves_nothing_behind",
            "--nocapture",
        ])
        .env(INSIDE, dir.path())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("1 passed"));
}

fn again_and_again(dir: &Path) {
    let (cipher, point) = (dir.join("cipher"), dir.join("mnt"));
    fs::create_dir(&cipher).unwrap();
    fs::create_dir(&point).unwrap();
    let volume = volume(&cipher);
    let count = |what: &str| fs::read_dir(what).unwrap().count();
    let all = || (count("/proc/self/task"), count("/proc/self/fd"));
    let turn = |number: u32| {
        let mount = Mount::start(Arc::clone(&volume), &point, &chosen(), None).unwrap();
        let path = point.join("f");
        fs::write(&path, number.to_string()).unwrap();
        assert_eq!(fs::read(&path).unwrap(), number.to_string().as_bytes());
        drop(mount);
    };
    turn(0);
    // The kernel takes a ring's descriptors back a moment after it is closed.
    let (threads, files) = all();
    for number in 1..10 {
        turn(number);
    }
    eventually("threads and descriptors are given back", || {
        let (threads_now, files_now) = all();
        threads_now <= threads && files_now <= files
    });
}
