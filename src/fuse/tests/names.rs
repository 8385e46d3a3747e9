//! Directories and names.

use std::collections::BTreeSet;
use std::os::unix::fs::{MetadataExt, symlink};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;

use super::*;

fn listed(path: &Path) -> BTreeSet<String> {
    fs::read_dir(path)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect()
}

fn rename(m: &Mounted, from: &str, to: &str, flags: RenameFlags) -> Result<(), Errno> {
    renameat_with(CWD, m.path(from), CWD, m.path(to), flags)
}

#[test]
fn renaming_takes_all_flags() {
    let m = Mounted::new();
    for name in ["a", "b", "c"] {
        fs::write(m.path(name), name).unwrap();
    }
    let read = |name: &str| fs::read_to_string(m.path(name)).unwrap();
    assert_eq!(
        rename(&m, "a", "b", RenameFlags::NOREPLACE),
        Err(Errno::EXIST)
    );
    rename(&m, "a", "d", RenameFlags::NOREPLACE).unwrap();
    rename(&m, "b", "d", RenameFlags::EXCHANGE).unwrap();
    assert_eq!((read("b"), read("d")), ("a".to_owned(), "b".to_owned()));
    assert_eq!(
        rename(&m, "b", "nothing", RenameFlags::EXCHANGE),
        Err(Errno::NOENT)
    );
    rename(&m, "c", "b", RenameFlags::empty()).unwrap();
    assert_eq!(read("b"), "c");
    assert_eq!(
        rename(&m, "b", "e", RenameFlags::WHITEOUT),
        Err(Errno::INVAL)
    );
    assert_eq!(listed(&m.point), ["b", "d"].map(String::from).into());
    fs::create_dir_all(m.path("x/y")).unwrap();
    assert_eq!(
        rename(&m, "x", "x/y/z", RenameFlags::empty()),
        Err(Errno::INVAL)
    );
    rename(&m, "x/y", "y", RenameFlags::empty()).unwrap();
    rename(&m, "b", "y/b", RenameFlags::empty()).unwrap();
    assert_eq!(read("y/b"), "c");
}

#[test]
fn names_of_all_lengths_and_bytes_work() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    let m = Mounted::new();
    let longest = "n".repeat(255);
    fs::write(m.path(&longest), "x").unwrap();
    assert_eq!(fs::read(m.path(&longest)).unwrap(), b"x");
    assert_eq!(
        errno(fs::write(m.path(&"n".repeat(256)), "x")),
        libc::ENAMETOOLONG
    );
    let odd: Vec<u8> = (1..=255u8).filter(|b| *b != b'/').collect();
    fs::write(m.point.join(OsStr::from_bytes(&odd)), "odd").unwrap();
    let names: BTreeSet<_> = fs::read_dir(&m.point)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().as_bytes().to_vec())
        .collect();
    assert_eq!(names, [odd, longest.into_bytes()].into());
}

#[test]
fn a_large_directory_is_listed_whole_while_it_changes() {
    let m = Mounted::new();
    let stay = 3000;
    for i in 0..stay {
        fs::write(
            m.path(&format!("stays-{i:05}-with-a-name-of-some-length")),
            "",
        )
        .unwrap();
    }
    fs::write(m.path("other"), "").unwrap();
    let mut seen = BTreeSet::new();
    for (i, entry) in fs::read_dir(&m.point).unwrap().enumerate() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(seen.insert(name.clone()), "{name} twice");
        if i % 100 == 0 {
            fs::write(m.path(&format!("new-{i}")), "").unwrap();
            let _ = fs::remove_file(m.path("other"));
        }
    }
    assert_eq!(
        seen.iter().filter(|name| name.starts_with("stays")).count(),
        stay
    );
    assert_ne!(m.requests("readdirplus"), 0);
}

#[test]
fn listing_gives_types_and_numbers() {
    let m = Mounted::new();
    m.run_as(0, "echo > f; mkdir d; ln -s f l; mkfifo p; ln f h");
    for entry in fs::read_dir(&m.point).unwrap() {
        let entry = entry.unwrap();
        let meta = fs::symlink_metadata(entry.path()).unwrap();
        assert_eq!(entry.file_type().unwrap(), meta.file_type());
        assert_eq!(std::os::unix::fs::DirEntryExt::ino(&entry), meta.ino());
    }
    let ino = |name: &str| fs::symlink_metadata(m.path(name)).unwrap().ino();
    assert_eq!(ino("f"), ino("h"));
    assert_eq!((ino("."), ino("d/..")), (1, 1));
    assert_eq!(fs::metadata(m.path("f")).unwrap().nlink(), 2);
    fs::remove_file(m.path("h")).unwrap();
    assert_eq!(fs::metadata(m.path("f")).unwrap().nlink(), 1);
}

#[test]
fn a_listing_that_is_kept_sees_changes() {
    let m = Mounted::new();
    fs::create_dir(m.path("d")).unwrap();
    let dir = m.path("d");
    assert_eq!(listed(&dir).len(), 0);
    for round in 0..5 {
        fs::write(dir.join(format!("{round}")), "").unwrap();
        assert_eq!(listed(&dir).len(), round + 1);
        assert_eq!(listed(&dir).len(), round + 1);
    }
    fs::rename(dir.join("0"), m.path("moved")).unwrap();
    fs::remove_file(dir.join("1")).unwrap();
    assert_eq!(listed(&dir), ["2", "3", "4"].map(String::from).into());
}

#[test]
fn what_was_not_there_is_seen_when_it_comes() {
    let m = Mounted::new();
    let (file, dir, link, moved) = (m.path("f"), m.path("d"), m.path("l"), m.path("r"));
    for path in [&file, &dir, &link, &moved] {
        assert!(fs::symlink_metadata(path).is_err());
    }
    fs::write(&file, "x").unwrap();
    fs::create_dir(&dir).unwrap();
    symlink("f", &link).unwrap();
    assert!(file.exists() && dir.exists() && link.exists());
    fs::rename(&file, &moved).unwrap();
    assert!(moved.exists() && !file.exists() && !link.exists());
    fs::hard_link(&moved, &file).unwrap();
    assert!(file.exists() && link.exists());
    fs::remove_file(&file).unwrap();
    assert!(!file.exists());
    fs::remove_dir(&dir).unwrap();
    assert!(!dir.exists());
}

#[test]
fn symlinks_keep_their_targets() {
    let m = Mounted::new();
    let long = "t".repeat(4000);
    for target in ["x", "../up/and/away", &long] {
        let path = m.path("l");
        symlink(target, &path).unwrap();
        assert_eq!(fs::read_link(&path).unwrap(), Path::new(target));
        assert_eq!(
            fs::symlink_metadata(&path).unwrap().len(),
            target.len() as u64
        );
        fs::remove_file(&path).unwrap();
    }
    assert_eq!(errno(fs::read_link(&m.point)), libc::EINVAL);
}

#[test]
fn errors_are_those_of_a_local_filesystem() {
    let m = Mounted::new();
    fs::create_dir_all(m.path("d/e")).unwrap();
    fs::write(m.path("f"), "").unwrap();
    assert_eq!(errno(fs::remove_dir(m.path("d"))), libc::ENOTEMPTY);
    assert_eq!(errno(fs::remove_dir(m.path("f"))), libc::ENOTDIR);
    assert_eq!(errno(fs::remove_file(m.path("d"))), libc::EISDIR);
    assert_eq!(errno(fs::create_dir(m.path("d"))), libc::EEXIST);
    assert_eq!(errno(fs::read(m.path("nothing"))), libc::ENOENT);
    assert_eq!(errno(fs::read(m.path("f/x"))), libc::ENOTDIR);
    assert_eq!(errno(fs::rename(m.path("f"), m.path("d"))), libc::EISDIR);
    assert_eq!(errno(fs::write(m.path("d"), "")), libc::EISDIR);
}

#[test]
fn the_space_below_is_shown() {
    let m = Mounted::new();
    let here = rustix::fs::statvfs(&m.point).unwrap();
    let below = rustix::fs::statvfs(m.point.parent().unwrap()).unwrap();
    assert_eq!(here.f_namemax, 255);
    assert_eq!(
        here.f_blocks * here.f_frsize,
        below.f_blocks * below.f_frsize
    );
    assert_eq!(here.f_files, below.f_files);
}
