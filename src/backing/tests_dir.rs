use std::collections::BTreeMap;

use super::tests::{errno, everywhere, make, name};
use super::*;

/// Lists on from `from`, at most `most` entries; the names and the position after them.
fn some(os: &Os, listing: &mut OsListing, from: u64, most: usize) -> (Vec<String>, u64) {
    let (mut names, mut next) = (Vec::new(), from);
    os.next_entries(listing, from, &mut |entry| {
        if names.len() == most {
            return false;
        }
        names.push(String::from_utf8(entry.name.to_vec()).unwrap());
        next = entry.next;
        true
    })
    .unwrap();
    (names, next)
}

fn fill(os: &Os, root: &OsDir, count: usize) {
    for i in 0..count {
        make(os, root, &format!("a-file-with-a-longer-name-{i:04}"), b"");
    }
}

#[test]
fn a_listing_gives_names_kinds_and_inodes() {
    everywhere(|os, root| {
        make(os, root, "f", b"");
        os.mkdir(root, &name("d"), 0o700).unwrap();
        os.symlink(root, &name("s"), b"x").unwrap();
        os.mknod(root, &name("p"), Kind::Fifo.mode_bits() | 0o600, 0)
            .unwrap();
        let mut seen = BTreeMap::new();
        let mut listing = os.list(root).unwrap();
        os.next_entries(&mut listing, 0, &mut |entry| {
            let old = seen.insert(entry.name.to_vec(), (entry.ino, entry.kind));
            assert!(old.is_none());
            true
        })
        .unwrap();
        assert_eq!(seen.len(), 6);
        assert_eq!(
            seen[&b"."[..]],
            (os.stat_dir(root).unwrap().ino, Some(Kind::Dir))
        );
        assert_eq!(seen[&b".."[..]].1, Some(Kind::Dir));
        let kinds = [
            ("f", Kind::File),
            ("d", Kind::Dir),
            ("s", Kind::Symlink),
            ("p", Kind::Fifo),
        ];
        for (text, kind) in kinds {
            let ino = os.stat(root, &name(text)).unwrap().ino;
            assert_eq!(seen[text.as_bytes()], (ino, Some(kind)));
        }
    });
}

#[test]
fn a_listing_goes_on_in_steps_of_any_size_and_from_any_position() {
    everywhere(|os, root| {
        fill(os, root, 2000); // several reads of 32 KiB
        let mut listing = os.list(root).unwrap();
        let (all, end) = some(os, &mut listing, 0, usize::MAX);
        assert_eq!(all.len(), 2002);
        assert_eq!(some(os, &mut listing, end, 10).0.len(), 0);
        for step in [1, 7, 100, 1999] {
            let (mut steps, mut at, mut positions) = (Vec::new(), 0, Vec::new());
            loop {
                let (names, next) = some(os, &mut listing, at, step);
                if names.is_empty() {
                    break;
                }
                steps.extend(names);
                at = next;
                positions.push((steps.len(), at));
            }
            assert_eq!(steps, all);
            // Back to earlier positions, in this listing and in a new one.
            for &(count, at) in positions.iter().rev().step_by(1 + positions.len() / 20) {
                let rest = &all[count..(count + 3).min(all.len())];
                assert_eq!(some(os, &mut listing, at, 3).0, rest);
                assert_eq!(some(os, &mut os.list(root).unwrap(), at, 3).0, rest);
            }
        }
    });
}

#[test]
fn a_refused_entry_can_be_passed_over() {
    everywhere(|os, root| {
        fill(os, root, 20);
        let mut listing = os.list(root).unwrap();
        let (all, _) = some(os, &mut listing, 0, usize::MAX);
        // The sink notes the position after the entry that it refuses.
        let (mut after, mut count) = (0, 0);
        os.next_entries(&mut listing, 0, &mut |entry| {
            (after, count) = (entry.next, count + 1);
            count < 5
        })
        .unwrap();
        assert_eq!(some(os, &mut listing, after, usize::MAX).0, all[5..]);
    });
}

#[test]
fn entries_that_stay_are_listed_once_whatever_comes_and_goes() {
    everywhere(|os, root| {
        fill(os, root, 1500);
        for step in [1, 50] {
            let mut listing = os.list(root).unwrap();
            let (mut seen, mut at, mut round) = (BTreeMap::new(), 0, 0);
            loop {
                let (names, next) = some(os, &mut listing, at, step);
                if names.is_empty() {
                    break;
                }
                for listed in names {
                    *seen.entry(listed.clone()).or_insert(0) += 1;
                    // What has been listed goes, as in `rm -r`.
                    if listed.starts_with('a') && round % 2 == 0 {
                        os.unlink(root, &name(&listed)).unwrap();
                    }
                }
                at = next;
                round += 1;
                if round < 200 {
                    make(os, root, &format!("new-{step}-{round}"), b"");
                }
            }
            assert!(seen.values().all(|&times| times == 1));
            let (left, _) = some(os, &mut os.list(root).unwrap(), 0, usize::MAX);
            for stayed in left.iter().filter(|left| left.starts_with('a')) {
                assert!(seen.contains_key(stayed), "{stayed} was skipped");
            }
        }
    });
}

#[test]
fn going_on_makes_no_seek_and_starting_anew_sees_what_is_new() {
    everywhere(|os, root| {
        fill(os, root, 100);
        let mut listing = os.list(root).unwrap();
        let (first, at) = some(os, &mut listing, 0, 10);
        // All 102 entries have been read: the one that goes now is still listed from the buffer,
        // as POSIX allows; after a rewind it isn't.
        let (rest, _) = some(os, &mut os.list(root).unwrap(), at, usize::MAX);
        let gone = rest.iter().find(|name| name.starts_with('a')).unwrap();
        os.unlink(root, &name(gone)).unwrap();
        assert_eq!(some(os, &mut listing, at, usize::MAX).0, rest);
        let (again, _) = some(os, &mut listing, 0, usize::MAX);
        assert_eq!(again.len(), first.len() + rest.len() - 1);

        // A sink that takes nothing, then the start again.
        assert_eq!(some(os, &mut listing, 0, 0).0.len(), 0);
        make(os, root, "new", b"");
        assert!(
            some(os, &mut listing, 0, usize::MAX)
                .0
                .contains(&"new".to_owned())
        );
    });
}

#[test]
fn listings_of_one_directory_are_independent() {
    everywhere(|os, root| {
        fill(os, root, 10);
        let (mut one, mut two) = (os.list(root).unwrap(), os.list(root).unwrap());
        let (head, at) = some(os, &mut one, 0, 4);
        assert_eq!(some(os, &mut two, 0, 12).0.len(), 12);
        let (tail, _) = some(os, &mut one, at, 12);
        assert_eq!(head.len() + tail.len(), 12);
    });
}

#[test]
fn a_directory_that_may_only_be_searched() {
    if !rustix::process::geteuid().is_root() {
        return; // Needs root, to become someone else in one thread.
    }
    everywhere(|os, root| {
        os.set_mode(At::Dir(root), 0o777).unwrap();
        let user = rustix::process::Uid::from_raw(65534);
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                rustix::thread::set_thread_res_uid(None, user, None).unwrap();
                os.mkdir(root, &name("d"), 0o300).unwrap();
                let dir = os.open_dir(root, &name("d")).unwrap();
                let file = make(os, &dir, "f", b"abc");
                os.open_file(&dir, &name("f"), OpenFile::READ).unwrap();
                assert_eq!(errno(os.list(&dir)), libc::EACCES);
                assert_eq!(errno(os.sync_dir(&dir)), libc::EACCES);
                let at = At::Dir(&dir);
                let time = Time { secs: 3, nanos: 4 };
                os.set_times(at, SetTime::Omit, SetTime::At(time)).unwrap();
                os.set_owner(at, Some(user.as_raw()), None).unwrap();
                assert_eq!(os.stat_dir(&dir).unwrap().mtime, time);
                os.set_xattr(At::Entry(&dir, &name("f")), b"user.a", b"b", XattrMode::Any)
                    .unwrap();
                let value = os.get_xattr(At::File(&file), b"user.a").unwrap();
                assert_eq!(value.unwrap(), b"b");
                assert_eq!(errno(os.get_xattr(at, b"user.a")), libc::EACCES);
                os.set_mode(at, 0o700).unwrap();
                os.set_xattr(at, b"user.a", b"b", XattrMode::Any).unwrap();
                assert_eq!(os.get_xattr(at, b"user.a").unwrap().unwrap(), b"b");
                assert_eq!(os.list_xattr(at).unwrap(), [b"user.a"]);
                os.remove_xattr(at, b"user.a").unwrap();
                os.list(&dir).unwrap();
                os.unlink(&dir, &name("f")).unwrap();
                // Another's file: the access time can't be spared, the open works all the same.
                let other = rustix::fs::stat("/etc/passwd").unwrap();
                assert_ne!(other.st_uid, user.as_raw());
                let etc = Os::open(std::path::Path::new("/etc")).unwrap();
                etc.open_file(&etc.root().unwrap(), &name("passwd"), OpenFile::READ)
                    .unwrap();
                etc.list(&etc.root().unwrap()).unwrap();
            });
            thread.join().unwrap();
        });
    });
}
