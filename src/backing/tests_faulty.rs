use super::tests::{content as content_of, errno, make, name};
use super::*;

fn faulty() -> (tempfile::TempDir, Faulty<Os>) {
    let dir = tempfile::Builder::new()
        .prefix("backing-")
        .tempdir()
        .unwrap();
    let os = Os::open(dir.path()).unwrap();
    (dir, Faulty::new(os))
}

#[test]
fn calls_pass_through_and_are_counted() {
    let (_dir, faulty) = faulty();
    let control = faulty.faults();
    let root = faulty.root().unwrap();
    let file = faulty.create_file(&root, &name("f"), 0o600).unwrap();
    faulty
        .write_at(&file, &mut [IoSlice::new(b"abc")], 0)
        .unwrap();
    faulty.set_mode(At::File(&file), 0o640).unwrap();
    faulty
        .set_xattr(
            At::Entry(&root, &name("f")),
            b"user.a",
            b"b",
            XattrMode::Any,
        )
        .unwrap();
    assert_eq!(
        faulty
            .get_xattr(At::File(&file), b"user.a")
            .unwrap()
            .unwrap(),
        b"b"
    );
    errno(faulty.stat(&root, &name("no")));
    assert_eq!(control.count(Call::Root), 1);
    assert_eq!(control.count(Call::Stat), 1);
    assert_eq!(control.count(Call::Unlink), 0);
    assert_eq!(control.total(Calls::CHANGES), 4);
    assert_eq!(control.total(Calls::ANY), 7);
    assert_eq!(control.failed(), 0);
    control.reset_counts();
    assert_eq!(control.total(Calls::ANY), 0);
}

#[test]
fn the_nth_call_fails_once_or_from_then_on() {
    let (_dir, faulty) = faulty();
    let control = faulty.faults();
    let root = faulty.root().unwrap();
    let mkdir = |text: &str| faulty.mkdir(&root, &name(text), 0o700);
    let outcome = |texts: [&str; 4]| texts.map(|text| mkdir(text).is_ok());

    control.fail_nth(Calls::CHANGES, 2, libc::ENOSPC, Repeat::Once);
    faulty.stat_dir(&root).unwrap(); // not one of the set
    assert_eq!(outcome(["a", "b", "c", "d"]), [true, false, true, true]);
    control.fail_nth(Call::Mkdir, 3, libc::ENOSPC, Repeat::FromThenOn);
    assert_eq!(outcome(["e", "f", "g", "h"]), [true, true, false, false]);
    assert_eq!(errno(mkdir("i")), libc::ENOSPC);
    faulty.rmdir(&root, &name("a")).unwrap();
    assert_eq!(control.failed(), 4);
    assert_eq!(control.count(Call::Mkdir), 9);
    control.clear();
    mkdir("i").unwrap();
    control.fail_nth(Calls::ANY, 1, libc::EIO, Repeat::Once);
    assert_eq!(errno(faulty.stat_dir(&root)), libc::EIO);
    control.fail_nth(Calls::ANY, 0, libc::EIO, Repeat::FromThenOn);
    faulty.stat_dir(&root).unwrap();
}

#[test]
fn all_calls_of_a_kind_fail() {
    let (_dir, faulty) = faulty();
    let control = faulty.faults();
    let root = faulty.root().unwrap();
    control.fail_all(Call::Mkdir, libc::EROFS);
    control.fail_all(Calls::of(&[Call::Mkdir, Call::StatFs]), libc::EDQUOT);
    assert_eq!(errno(faulty.mkdir(&root, &name("a"), 0o700)), libc::EDQUOT);
    assert_eq!(errno(faulty.statfs()), libc::EDQUOT);
    faulty.stat_dir(&root).unwrap();
    control.fail_all(Calls::ANY, 0);
    faulty.mkdir(&root, &name("a"), 0o700).unwrap();
    for &call in Call::ALL {
        assert!(Calls::ANY.contains(call));
        assert_eq!(Calls::CHANGES.contains(call), Call::CHANGES.contains(&call));
    }
}

#[test]
fn a_failing_write_leaves_its_first_bytes() {
    let (_dir, faulty) = faulty();
    let control = faulty.faults();
    let root = faulty.inner().root().unwrap();
    let file = make(faulty.inner(), &root, "f", &[0; 20]);
    let write = || {
        let mut bufs = [
            IoSlice::new(&[1; 6]),
            IoSlice::new(&[2; 6]),
            IoSlice::new(&[3; 6]),
        ];
        faulty.write_at(&file, &mut bufs, 1)
    };
    let content = || content_of(faulty.inner(), &file);
    control.fail_nth(Call::WriteAt, 1, libc::EIO, Repeat::Once);
    assert_eq!(errno(write()), libc::EIO);
    assert_eq!(content(), [0; 20]);
    control.tear_writes(8);
    control.fail_nth(Call::WriteAt, 1, libc::EIO, Repeat::Once);
    assert_eq!(errno(write()), libc::EIO);
    assert_eq!(
        content(),
        [0, 1, 1, 1, 1, 1, 1, 2, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
    );
    write().unwrap();
    assert_eq!(content()[18], 3);
}

#[test]
fn one_call_of_many_threads_fails() {
    let (_dir, faulty) = faulty();
    let control = faulty.faults();
    let root = faulty.root().unwrap();
    control.fail_nth(Call::StatDir, 500, libc::EIO, Repeat::Once);
    let failures: usize = std::thread::scope(|scope| {
        let work = || (0..500).filter(|_| faulty.stat_dir(&root).is_err()).count();
        let threads = [0; 4].map(|_| scope.spawn(work));
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .sum()
    });
    assert_eq!(
        (failures, control.failed(), control.count(Call::StatDir)),
        (1, 1, 2000)
    );
}
