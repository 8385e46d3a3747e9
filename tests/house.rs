//! The order of the house: which room may use which, and what belongs in one room only.
//!
//! The table is the one in `src/lib.rs`: it is read from there, so that there is one truth.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// A file beyond this many lines is two files.
const LONGEST: usize = 800;

/// Words that belong in some rooms only, and which.
const ONLY_IN: [(&str, &[&str]); 4] = [
    ("fuser", &["fuse"]),
    ("io_uring", &["fuse"]),
    ("anyhow", &["cli"]),
    // fuse: the ioctl of a control call, and the memory that the kernel writes requests to
    ("unsafe", &["secret", "backing", "fuse"]),
];

fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// Room → the rooms that it may use, from the table in `src/lib.rs`.
fn table() -> BTreeMap<String, BTreeSet<String>> {
    let text = fs::read_to_string(source().join("lib.rs")).expect("src/lib.rs");
    let rows: Vec<(String, String)> = text
        .lines()
        .filter_map(|line| line.strip_prefix("//! | [`"))
        .map(|row| {
            let (room, rest) = row.split_once("`]").expect("a room's name in [`...`]");
            let uses = rest
                .trim_end_matches(" |")
                .rsplit('|')
                .next()
                .expect("a last column");
            (room.to_owned(), uses.to_owned())
        })
        .collect();
    let rooms: BTreeSet<String> = rows.iter().map(|(room, _)| room.clone()).collect();
    assert!(
        rooms.len() > 8,
        "the table in src/lib.rs was not understood: {rooms:?}"
    );
    rows.into_iter()
        .map(|(room, uses)| {
            let words: BTreeSet<String> = words(&uses).map(str::to_owned).collect();
            let may = if words.contains("all") {
                rooms.clone()
            } else {
                let unknown: Vec<_> = words
                    .iter()
                    .filter(|word| !rooms.contains(*word) && *word != "and")
                    .collect();
                assert!(
                    unknown.is_empty(),
                    "{room} may use {unknown:?}, which are no rooms"
                );
                words.intersection(&rooms).cloned().collect()
            };
            (room, may)
        })
        .collect()
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
        .filter(|word| !word.is_empty())
}

/// Every Rust file of a room, by its path relative to `src`.
fn files(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display())) {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            files(&path, found);
        } else if path.extension().is_some_and(|x| x == "rs") {
            found.push(path);
        }
    }
}

fn rust_files() -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    files(&source(), &mut found);
    found.sort();
    found
        .into_iter()
        .map(|path| {
            let text =
                fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
            (
                path.strip_prefix(source()).expect("below src").to_owned(),
                text,
            )
        })
        .collect()
}

/// The first component of a path below `src`: the room, or the file's stem for `lib.rs`, `main.rs`.
fn room_of(path: &Path) -> String {
    let first = path
        .components()
        .next()
        .expect("a component")
        .as_os_str()
        .to_string_lossy();
    first.trim_end_matches(".rs").to_owned()
}

fn is_test(path: &Path) -> bool {
    path.components().any(|part| {
        let part = part.as_os_str().to_string_lossy();
        part == "tests" || part.starts_with("tests.") || part.starts_with("tests_")
    })
}

/// The code of a line: without its comment. (A `//` in a string only shortens what is looked at.)
fn code(line: &str) -> &str {
    line.split("//").next().unwrap_or_default()
}

/// The rooms that follow `crate::` in a text without comments: `crate::a`, `crate::{a::b, c}`.
fn rooms_named(text: &str) -> Vec<String> {
    let mut named = Vec::new();
    for (at, _) in text.match_indices("crate::") {
        if text[..at].ends_with('$')
            || text[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_')
        {
            continue;
        }
        let rest = &text[at + "crate::".len()..];
        match rest.strip_prefix('{') {
            None => named.extend(words(rest).next().map(str::to_owned)),
            Some(group) => {
                let (mut depth, mut item) = (0, String::new());
                for c in group.chars() {
                    match c {
                        '{' => depth += 1,
                        '}' if depth == 0 => break,
                        '}' => depth -= 1,
                        ',' if depth == 0 => named
                            .extend(words(&std::mem::take(&mut item)).next().map(str::to_owned)),
                        _ => {}
                    }
                    if depth == 0 && c != ',' {
                        item.push(c);
                    }
                }
                named.extend(words(&item).next().map(str::to_owned));
            }
        }
    }
    named
}

#[test]
fn rooms_use_what_the_table_allows() {
    let table = table();
    let mut wrong = Vec::new();
    for (path, text) in rust_files() {
        if is_test(&path) {
            continue; // a test builds the world around its room
        }
        let room = room_of(&path);
        let Some(may) = table.get(&room) else {
            assert!(
                room == "lib" || room == "main",
                "{} is in no room of the table",
                path.display()
            );
            continue;
        };
        let code: String = text.lines().flat_map(|line| [code(line), "\n"]).collect();
        for used in rooms_named(&code) {
            let is_room = table.contains_key(&used);
            if is_room && used != room && !may.contains(&used) {
                wrong.push(format!("src/{}: {room} uses {used}", path.display()));
            }
        }
    }
    wrong.dedup();
    assert!(
        wrong.is_empty(),
        "against the table in src/lib.rs:\n{}",
        wrong.join("\n")
    );
}

#[test]
fn every_room_is_in_the_table() {
    let table = table();
    for entry in fs::read_dir(source()).expect("src") {
        let entry = entry.expect("an entry");
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.path().is_dir() {
            assert!(
                table.contains_key(&name),
                "src/{name} is not in the table of src/lib.rs"
            );
        } else {
            assert!(
                name == "lib.rs" || name == "main.rs",
                "src/{name} belongs in a room"
            );
        }
    }
    for room in table.keys() {
        assert!(
            source().join(room).is_dir(),
            "the table names {room}, but there is no src/{room}"
        );
    }
}

#[test]
fn some_words_belong_in_some_rooms() {
    let mut wrong = Vec::new();
    for (path, text) in rust_files() {
        let room = room_of(&path);
        for (number, line) in text.lines().enumerate() {
            for (word, rooms) in ONLY_IN {
                let named = words(code(line)).any(|w| w == word);
                if named && !rooms.contains(&room.as_str()) && !line.contains(&format!("\"{word}"))
                {
                    wrong.push(format!(
                        "src/{}:{}: `{word}`: {}",
                        path.display(),
                        number + 1,
                        line.trim()
                    ));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_unsafe_block_has_its_reason() {
    let mut wrong = Vec::new();
    for (path, text) in rust_files() {
        let lines: Vec<&str> = text.lines().collect();
        for (number, line) in lines.iter().enumerate() {
            let opens = code(line).contains("unsafe {") || code(line).contains("unsafe impl");
            let reasoned = lines[number.saturating_sub(8)..=number]
                .iter()
                .any(|l| l.contains("SAFETY"));
            if opens && !reasoned {
                wrong.push(format!(
                    "src/{}:{}: {}",
                    path.display(),
                    number + 1,
                    line.trim()
                ));
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "no SAFETY comment above:\n{}",
        wrong.join("\n")
    );
}

#[test]
fn files_stay_short() {
    let long: Vec<String> = rust_files()
        .iter()
        .filter(|(_, text)| text.lines().count() > LONGEST)
        .map(|(path, text)| format!("src/{}: {} lines", path.display(), text.lines().count()))
        .collect();
    assert!(
        long.is_empty(),
        "longer than {LONGEST} lines:\n{}",
        long.join("\n")
    );
}

#[test]
fn tests_stand_in_files_of_their_own() {
    let mut wrong = Vec::new();
    for (path, text) in rust_files() {
        let inline = text
            .lines()
            .any(|line| code(line).trim_start().starts_with("mod tests {"));
        if inline && !is_test(&path) {
            wrong.push(format!("src/{}", path.display()));
        }
    }
    assert!(
        wrong.is_empty(),
        "tests inside of the code's file:\n{}",
        wrong.join("\n")
    );
}

#[test]
fn this_test_understands_paths() {
    let named = rooms_named(
        "use crate::kms::Kms;\nuse crate::{format::{a, b}, content, names::X};\nlet x = crate::secret::f();",
    );
    assert_eq!(named, ["kms", "format", "content", "names", "secret"]);
    assert!(rooms_named("use other_crate::volume; $crate::volume").is_empty());
}
