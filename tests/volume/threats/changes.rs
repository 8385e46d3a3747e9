//! What somebody who can write to the cipher directory can do there.

use std::ffi::CString;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use rand::RngExt;

use super::scene::{Case, copy};

/// A change: a row of the table.
pub struct Change {
    /// As the page names it.
    pub name: &'static str,
    /// In how many places it is tried.
    pub instances: usize,
    /// The volume was not left cleanly: what was synced last is in its journal only.
    pub crashed: bool,
    pub make: fn(&mut Case<'_>),
}

const fn change(name: &'static str, instances: usize, make: fn(&mut Case<'_>)) -> Change {
    Change {
        name,
        instances,
        crashed: false,
        make,
    }
}

const fn after_a_crash(name: &'static str, instances: usize, make: fn(&mut Case<'_>)) -> Change {
    Change {
        crashed: true,
        ..change(name, instances, make)
    }
}

/// A file in blocks whose first block was overwritten since the older copy, with the same size.
const BLOCKS: &str = "/dir1/file6";
/// Another of the same form, elsewhere.
const OTHER: &str = "/dir1/dir3/file78";
/// Files that are inline.
const INLINE: &str = "/dir1/dir3/file3";
const INLINE_OTHER: &str = "/dir1/file11";
/// One that had another size in the older copy.
const RESIZED: &str = "/dir1/dir3/dir4/file14";
const SPARSE: &str = "/dir2/sparse";

/// Files of all forms that have bytes.
const ANY: [&str; 6] = [
    BLOCKS,
    INLINE,
    RESIZED,
    "/dir2/file7",
    "/dir1/dir3/dir4/file4",
    "/dir1/file1",
];

fn any(case: &Case<'_>) -> PathBuf {
    case.at(ANY[case.instance % ANY.len()])
}

/// Flips a bit somewhere in a range of a file.
fn flip(case: &mut Case<'_>, path: &Path, from: u64, to: u64) {
    let at = case.rng.random_range(from..to);
    let bit = case.rng.random_range(0..8);
    let file = fs::File::options()
        .read(true)
        .write(true)
        .open(path)
        .unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ (1 << bit)], at).unwrap();
}

fn put(path: &Path, at: u64, bytes: &[u8]) {
    let file = fs::File::options().write(true).open(path).unwrap();
    file.write_all_at(bytes, at).unwrap();
}

fn get(path: &Path, at: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    fs::File::open(path)
        .unwrap()
        .read_exact_at(&mut bytes, at)
        .unwrap();
    bytes
}

/// Exchanges the same range of two files.
fn exchange(a: &Path, b: &Path, ranges: &[(u64, usize)]) {
    for &(at, len) in ranges {
        let (one, two) = (get(a, at, len), get(b, at, len));
        put(a, at, &two);
        put(b, at, &one);
    }
}

/// Exchanges two names.
fn exchange_names(a: &Path, b: &Path) {
    let aside = a.with_file_name("aside");
    fs::rename(a, &aside).unwrap();
    fs::rename(b, a).unwrap();
    fs::rename(&aside, b).unwrap();
}

fn resize(path: &Path, len: u64) {
    let file = fs::File::options().write(true).open(path).unwrap();
    file.set_len(len).unwrap();
}

fn len(path: &Path) -> u64 {
    fs::metadata(path).unwrap().len()
}

/// A file's bytes from the older copy, into the file that is there.
fn put_back(case: &Case<'_>, plain: &str) {
    fs::write(case.at(plain), fs::read(case.old(plain)).unwrap()).unwrap();
}

/// The entries of a directory that begin so.
fn own(dir: &Path, prefix: &str) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            let name = path.file_name().unwrap_or_default();
            name.as_bytes().starts_with(prefix.as_bytes())
        })
        .collect();
    found.sort();
    found
}

fn relink(path: &Path, target: &Path) {
    fs::remove_file(path).unwrap();
    symlink(target, path).unwrap();
}

fn long_targets(case: &Case<'_>) -> Vec<PathBuf> {
    own(&case.control("targets"), "")
}

fn xattrs(path: &Path) -> Vec<(CString, Vec<u8>)> {
    let mut list = vec![0; 4096];
    let len = rustix::fs::llistxattr(path, &mut list).unwrap();
    let mut found: Vec<(CString, Vec<u8>)> = list[..len]
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty())
        .map(|name| {
            let name = CString::new(name).unwrap();
            let mut value = vec![0; 4096];
            let len = rustix::fs::lgetxattr(path, &name, &mut value).unwrap();
            value.truncate(len);
            (name, value)
        })
        .collect();
    found.sort();
    found
}

fn set_xattr(path: &Path, name: &CString, value: &[u8]) {
    rustix::fs::lsetxattr(path, name, value, rustix::fs::XattrFlags::empty()).unwrap();
}

/// All of them, in the order of the page.
pub const ALL: &[Change] = &[
    // One file.
    change("a bit of a header's static part flipped", 12, |case| {
        let path = any(case);
        flip(case, &path, 0, 64);
    }),
    change("a bit of the envelope slot in use flipped", 12, |case| {
        let path = any(case);
        // Rewrapped once: slot B counts, and A is what a torn write of B would leave.
        flip(case, &path, 512, 960);
        flip(case, &path, 64, 512);
    }),
    change("a bit of the other envelope slot flipped", 6, |case| {
        let path = any(case);
        flip(case, &path, 64, 512);
    }),
    change("a bit of a header's state flipped", 12, |case| {
        let path = any(case);
        flip(case, &path, 960, 1024);
    }),
    change("a bit of a block's entry flipped", 12, |case| {
        let path = any(case);
        flip(case, &path, 1024, 1056);
    }),
    change("a bit of an entry behind the end flipped", 4, |case| {
        let path = case.at(BLOCKS);
        flip(case, &path, 1024 + 32 * 20, 4096);
    }),
    change("a bit of a block or of inline bytes flipped", 24, |case| {
        let path = any(case);
        let from = if len(&path) > 4096 { 4096 } else { 1056 };
        let to = len(&path).min(397_312);
        flip(case, &path, from, to);
    }),
    change("a block zeroed", 3, |case| {
        put(
            &case.at(BLOCKS),
            4096 * (1 + case.instance as u64),
            &[0; 4096],
        );
    }),
    change("an entry zeroed", 3, |case| {
        put(&case.at(BLOCKS), 1024 + 32 * case.instance as u64, &[0; 32]);
    }),
    change("an entry zeroed in a file that has holes", 1, |case| {
        put(&case.at(SPARSE), 1024 + 32 * 3, &[0; 32]);
    }),
    change("a header zeroed", 6, |case| put(&any(case), 0, &[0; 1024])),
    change("a whole file zeroed", 6, |case| {
        let path = any(case);
        put(&path, 0, &vec![0; len(&path) as usize]);
    }),
    change("a file cut short", 12, |case| {
        let path = any(case);
        let by = if case.instance < 6 { 1 } else { len(&path) / 2 };
        resize(&path, len(&path) - by);
    }),
    change("a file cut to nothing", 2, |case| resize(&any(case), 0)),
    change("a file extended", 12, |case| {
        let path = any(case);
        let by = if case.instance < 6 { 1 } else { 4096 };
        resize(&path, len(&path) + by);
    }),
    change("a file removed", 1, |case| {
        fs::remove_file(case.at(BLOCKS)).unwrap();
    }),
    // Parts that change places.
    change(
        "two blocks of a file exchanged, with their entries",
        3,
        |case| {
            let (path, i) = (case.at(BLOCKS), 1 + case.instance as u64);
            let (block, entry) = (get(&path, 4096, 4096), get(&path, 1024, 32));
            let (other, other_entry) = (
                get(&path, 4096 * (1 + i), 4096),
                get(&path, 1024 + 32 * i, 32),
            );
            put(&path, 4096, &other);
            put(&path, 1024, &other_entry);
            put(&path, 4096 * (1 + i), &block);
            put(&path, 1024 + 32 * i, &entry);
        },
    ),
    change(
        "a block of two files exchanged, with its entry",
        1,
        |case| {
            exchange(
                &case.at(BLOCKS),
                &case.at(OTHER),
                &[(4096, 4096), (1024, 32)],
            );
        },
    ),
    change("the entries of two files exchanged", 1, |case| {
        exchange(&case.at(BLOCKS), &case.at(OTHER), &[(1024, 3072)]);
    }),
    change("the states of two files exchanged", 2, |case| {
        let pair = [(BLOCKS, OTHER), (INLINE, INLINE_OTHER)][case.instance];
        exchange(&case.at(pair.0), &case.at(pair.1), &[(960, 64)]);
    }),
    change("the envelope slots of two files exchanged", 2, |case| {
        let pair = [(BLOCKS, OTHER), (INLINE, INLINE_OTHER)][case.instance];
        exchange(&case.at(pair.0), &case.at(pair.1), &[(64, 896)]);
    }),
    change("the headers of two files exchanged", 2, |case| {
        let pair = [(BLOCKS, OTHER), (INLINE, INLINE_OTHER)][case.instance];
        exchange(&case.at(pair.0), &case.at(pair.1), &[(0, 1024)]);
    }),
    change("two whole files exchanged", 2, |case| {
        let pair = [(BLOCKS, OTHER), (INLINE, INLINE_OTHER)][case.instance];
        let (a, b) = (case.at(pair.0), case.at(pair.1));
        let (one, two) = (fs::read(&a).unwrap(), fs::read(&b).unwrap());
        fs::write(a, two).unwrap();
        fs::write(b, one).unwrap();
    }),
    change(
        "a file of another volume put in a file's place",
        4,
        |case| {
            let files: Vec<PathBuf> = fs::read_dir(&case.scene.other)
                .unwrap()
                .map(|entry| entry.unwrap().path())
                .filter(|path| path.is_file())
                .collect();
            let other = &files[case.instance % files.len()];
            fs::write(any(case), fs::read(other).unwrap()).unwrap();
        },
    ),
    // Back to an older copy.
    change("a block from an older copy of the file", 1, |case| {
        let block = get(&case.old(BLOCKS), 4096, 4096);
        put(&case.at(BLOCKS), 4096, &block);
    }),
    change("an entry from an older copy of the file", 1, |case| {
        let entry = get(&case.old(BLOCKS), 1024, 32);
        put(&case.at(BLOCKS), 1024, &entry);
    }),
    change(
        "a block with its entry from an older copy of the file",
        1,
        |case| {
            let old = case.old(BLOCKS);
            let (block, entry) = (get(&old, 4096, 4096), get(&old, 1024, 32));
            put(&case.at(BLOCKS), 4096, &block);
            put(&case.at(BLOCKS), 1024, &entry);
        },
    ),
    change("the state from when the file had another size", 1, |case| {
        let state = get(&case.old(RESIZED), 960, 64);
        put(&case.at(RESIZED), 960, &state);
    }),
    change("the envelope slots from before a rewrap", 6, |case| {
        let plain = ANY[case.instance];
        let slots = get(&case.old(plain), 64, 896);
        put(&case.at(plain), 64, &slots);
    }),
    change("a whole file from an older copy", 3, |case| {
        put_back(case, [BLOCKS, INLINE, RESIZED][case.instance]);
    }),
    change("a file that was removed put back", 1, |case| {
        let plain = "/dir2/removed later";
        fs::copy(case.old(plain), case.at(plain)).unwrap();
    }),
    change("the whole directory from an older copy", 1, |case| {
        fs::remove_dir_all(&case.dir).unwrap();
        copy(&case.scene.old, &case.dir);
    }),
    // Names and directories.
    change(
        "the names of two files of a directory exchanged",
        1,
        |case| {
            exchange_names(&case.at("/dir1/file6"), &case.at("/dir1/file1"));
        },
    ),
    change(
        "the names of two directories of a directory exchanged",
        1,
        |case| {
            exchange_names(&case.at("/dir1"), &case.at("/dir2"));
        },
    ),
    change("a file moved to another directory", 1, |case| {
        let (from, to) = (case.at(BLOCKS), case.at("/dir2"));
        fs::rename(&from, to.join(from.file_name().unwrap())).unwrap();
    }),
    change("a directory moved to another directory", 1, |case| {
        let (from, to) = (case.at("/dir1/dir3"), case.at("/dir2"));
        fs::rename(&from, to.join(from.file_name().unwrap())).unwrap();
    }),
    change("a bit of a name flipped", 4, |case| {
        let path = case.at(ANY[case.instance]);
        let name = path.file_name().unwrap().as_bytes();
        let at = case.rng.random_range(0..name.len() - 1);
        let mut changed = name.to_vec();
        changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
        let to = path.with_file_name(std::ffi::OsStr::from_bytes(&changed));
        fs::rename(&path, to).unwrap();
    }),
    change("a file planted under a name of its own", 1, |case| {
        fs::copy(case.at(INLINE), case.at("/dir2").join("planted")).unwrap();
    }),
    change("a second link made to a file", 1, |case| {
        let to = case.at("/dir1").join(".envelopefs.tmp.x");
        fs::hard_link(case.at(BLOCKS), to).unwrap();
    }),
    change("the ids of two directories exchanged", 1, |case| {
        exchange_names(
            &case.at("/dir1").join(".envelopefs.dir"),
            &case.at("/dir2").join(".envelopefs.dir"),
        );
    }),
    change("a directory's id removed", 1, |case| {
        fs::remove_file(case.at("/dir1").join(".envelopefs.dir")).unwrap();
    }),
    change("a directory's id changed", 1, |case| {
        relink(
            &case.at("/dir1").join(".envelopefs.dir"),
            Path::new("AAAAAAAAAAAAAAAAAAAAAA"),
        );
    }),
    change("the full forms of two long names exchanged", 1, |case| {
        let names = own(&case.at("/dir1"), ".envelopefs.n.");
        exchange_names(&names[0], &names[1]);
    }),
    change("the full form of a long name removed", 1, |case| {
        fs::remove_file(&own(&case.at("/dir1"), ".envelopefs.n.")[0]).unwrap();
    }),
    change("a file replaced by a FIFO", 1, |case| {
        let path = case.at(BLOCKS);
        fs::remove_file(&path).unwrap();
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &path,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::from_raw_mode(0o644),
            0,
        )
        .unwrap();
    }),
    change("a file replaced by a symlink", 1, |case| {
        relink(&case.at(BLOCKS), Path::new("/etc/passwd"));
    }),
    change("mode, owner or times changed", 2, |case| {
        let path = case.at(BLOCKS);
        if case.instance == 0 {
            fs::set_permissions(path, fs::Permissions::from_mode(0o777)).unwrap();
        } else {
            let file = fs::File::options().write(true).open(path).unwrap();
            file.set_modified(std::time::UNIX_EPOCH).unwrap();
        }
    }),
    // Symlinks.
    change("a bit of a symlink's target flipped", 2, |case| {
        let path = case.at("/dir2/link0");
        let mut target = fs::read_link(&path)
            .unwrap()
            .as_os_str()
            .as_bytes()
            .to_vec();
        target[30 * case.instance] ^= 1;
        relink(&path, Path::new(std::ffi::OsStr::from_bytes(&target)));
    }),
    change("the targets of two symlinks exchanged", 1, |case| {
        exchange_names(&case.at("/dir2/link0"), &case.at("/dir2/link1"));
    }),
    change("a bit of a long target flipped", 2, |case| {
        let path = long_targets(case)[case.instance].clone();
        flip(case, &path, 0, 5000);
    }),
    change("two long targets exchanged", 1, |case| {
        let targets = long_targets(case);
        exchange_names(&targets[0], &targets[1]);
    }),
    change("a long target removed", 1, |case| {
        fs::remove_file(&long_targets(case)[0]).unwrap();
    }),
    // Extended attributes.
    change("a bit of an attribute's value flipped", 2, |case| {
        let path = case.at(INLINE);
        let (name, mut value) = xattrs(&path)[case.instance].clone();
        value[5] ^= 1;
        set_xattr(&path, &name, &value);
    }),
    change(
        "the values of two attributes of a file exchanged",
        1,
        |case| {
            let path = case.at(INLINE);
            let found = xattrs(&path);
            set_xattr(&path, &found[0].0, &found[1].1);
            set_xattr(&path, &found[1].0, &found[0].1);
        },
    ),
    change(
        "the values of an attribute of two files exchanged",
        1,
        |case| {
            let (a, b) = (case.at(INLINE), case.at(BLOCKS));
            for ((name, one), (_, two)) in xattrs(&a).iter().zip(xattrs(&b)) {
                set_xattr(&a, name, &two);
                set_xattr(&b, name, one);
            }
        },
    ),
    change("an attribute renamed", 1, |case| {
        let path = case.at(INLINE);
        let (name, value) = xattrs(&path).remove(0);
        rustix::fs::lremovexattr(&path, &name).unwrap();
        let mut changed = name.into_bytes();
        let at = changed.len() - 4;
        changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
        set_xattr(&path, &CString::new(changed).unwrap(), &value);
    }),
    change("an attribute removed", 1, |case| {
        let path = case.at(INLINE);
        let (name, _) = xattrs(&path).remove(0);
        rustix::fs::lremovexattr(&path, &name).unwrap();
    }),
    // The volume's own files.
    change(
        "a bit of one copy of the volume record flipped",
        6,
        |case| {
            let path = case.control(["volume.a", "volume.b"][case.instance % 2]);
            let to = len(&path);
            flip(case, &path, 0, to);
        },
    ),
    change("both copies of the volume record damaged", 6, |case| {
        for name in ["volume.a", "volume.b"] {
            let path = case.control(name);
            let to = len(&path);
            flip(case, &path, 0, to);
        }
    }),
    change("the volume record from before a rewrap", 1, |case| {
        for name in ["volume.a", "volume.b"] {
            let old = case.scene.old.join(".envelopefs").join(name);
            fs::copy(old, case.control(name)).unwrap();
        }
    }),
    change("the volume record of another volume", 1, |case| {
        for name in ["volume.a", "volume.b"] {
            let other = case.scene.other.join(".envelopefs").join(name);
            fs::copy(other, case.control(name)).unwrap();
        }
    }),
    change("the mark removed or forged", 2, |case| {
        let path = case.control("mark");
        if case.instance == 0 {
            fs::remove_file(path).unwrap();
        } else {
            // It stands in one of two places by turns.
            flip(case, &path, 0, 30);
            flip(case, &path, 512, 542);
        }
    }),
    change(
        "the mark removed and a file cut at the end of a block",
        1,
        |case| {
            fs::remove_file(case.control("mark")).unwrap();
            resize(&case.at(BLOCKS), 4096 * 5);
        },
    ),
    change("the mark removed and an entry zeroed", 1, |case| {
        fs::remove_file(case.control("mark")).unwrap();
        put(&case.at(BLOCKS), 1024 + 32, &[0; 32]);
    }),
    change("the mark removed and a block zeroed", 1, |case| {
        fs::remove_file(case.control("mark")).unwrap();
        put(&case.at(BLOCKS), 4096 * 2, &[0; 4096]);
    }),
    change("the journal removed", 1, |case| {
        fs::remove_file(case.control("journal")).unwrap();
    }),
    change("a bit of the journal's header flipped", 6, |case| {
        let path = case.control("journal");
        flip(case, &path, 0, 1024);
    }),
    change("the journal filled with random bytes", 1, |case| {
        let mut bytes = vec![0; 256 << 10];
        rand::Rng::fill_bytes(&mut case.rng, &mut bytes);
        fs::write(case.control("journal"), bytes).unwrap();
    }),
    change("the journal from an older copy", 1, |case| {
        let old = case.scene.old.join(".envelopefs/journal");
        fs::copy(old, case.control("journal")).unwrap();
    }),
    change("the journal of another volume", 1, |case| {
        let other = case.scene.other.join(".envelopefs/journal");
        fs::copy(other, case.control("journal")).unwrap();
    }),
    change("journal and mark from an older copy", 1, |case| {
        for name in ["journal", "mark"] {
            let old = case.scene.old.join(".envelopefs").join(name);
            fs::copy(old, case.control(name)).unwrap();
        }
    }),
    change("the lock file changed", 1, |case| {
        fs::write(case.control("lock"), b"{\"pid\": 1}").unwrap();
    }),
    // A volume that was not left cleanly.
    after_a_crash("after a crash: nothing", 1, |_| {}),
    after_a_crash("after a crash: the journal removed", 1, |case| {
        fs::remove_file(case.control("journal")).unwrap();
    }),
    after_a_crash("after a crash: the journal's header changed", 1, |case| {
        let path = case.control("journal");
        put(&path, 0, &[0x55; 1024]);
    }),
    after_a_crash(
        "after a crash: a record of the journal changed",
        6,
        |case| {
            let path = case.control("journal");
            flip(case, &path, 4096 + 100, 4096 + 3000);
        },
    ),
    after_a_crash(
        "after a crash: the journal filled with random bytes",
        1,
        |case| {
            let path = case.control("journal");
            let mut bytes = vec![0; len(&path) as usize];
            rand::Rng::fill_bytes(&mut case.rng, &mut bytes);
            fs::write(path, bytes).unwrap();
        },
    ),
    after_a_crash("after a crash: the journal from an older copy", 1, |case| {
        let old = case.scene.old.join(".envelopefs/journal");
        fs::copy(old, case.control("journal")).unwrap();
    }),
    after_a_crash("after a crash: the mark from before", 1, |case| {
        let old = case.scene.now.join(".envelopefs/mark");
        fs::copy(old, case.control("mark")).unwrap();
    }),
    after_a_crash("after a crash: the mark removed", 1, |case| {
        fs::remove_file(case.control("mark")).unwrap();
    }),
    after_a_crash(
        "after a crash: a file that was not open cut short",
        1,
        |case| {
            let path = case.at(INLINE);
            resize(&path, len(&path) - 1);
        },
    ),
    after_a_crash("after a crash: an entry zeroed", 1, |case| {
        put(&case.at("/dir1/dir3/file38"), 1024 + 32, &[0; 32]);
    }),
];
