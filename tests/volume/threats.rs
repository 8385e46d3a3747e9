//! envelopefs-threats(7): every change to the cipher directory that its table names is made to a
//! volume of some hundred files, and must have the outcome that stands there.
//!
//! `THREATS_PRINT=1` prints the table as it comes out.

mod changes;
mod scene;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use scene::{Found, Scene};

fn page() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("man/envelopefs-threats.7")
}

/// The rows of the page's tables: the change, what reading says, what fsck says.
fn table() -> Vec<(String, Found)> {
    let text = std::fs::read_to_string(page()).unwrap();
    text.lines()
        .filter_map(|line| {
            let cells: Vec<&str> = line.strip_prefix(".It ")?.split(" Ta ").collect();
            let [change, read, fsck] = cells[..] else {
                return None;
            };
            let found = Found {
                read: read.trim().to_owned(),
                fsck: fsck.trim().to_owned(),
            };
            (!change.starts_with("Em ")).then(|| (change.trim().to_owned(), found))
        })
        .collect()
}

/// The changes that are explained under NOT DETECTED.
fn explained() -> Vec<String> {
    let text = std::fs::read_to_string(page()).unwrap();
    let (_, section) = text.split_once(".Sh WHAT IS NOT DETECTED").unwrap();
    let section = section.split("\n.Sh ").next().unwrap();
    section
        .lines()
        .filter_map(|line| line.strip_prefix(".It "))
        .map(str::to_owned)
        .collect()
}

#[test]
fn every_change_has_the_outcome_that_the_page_names() {
    let scene = Scene::new();
    let print = std::env::var_os("THREATS_PRINT").is_some();
    let table = table();
    let known: BTreeMap<&str, &Found> =
        table.iter().map(|(name, found)| (&**name, found)).collect();
    let mut wrong = Vec::new();
    for change in changes::ALL {
        let outcomes = scene.try_change(change);
        let first = &outcomes[0].1;
        if print {
            println!(".It {} Ta {} Ta {}", change.name, first.read, first.fsck);
        }
        for (instance, outcome) in &outcomes {
            match known.get(change.name) {
                Some(found) if *found == outcome => {}
                Some(found) => wrong.push(format!(
                    "{} ({instance}): {outcome:?}, and the page says {found:?}",
                    change.name
                )),
                None => wrong.push(format!("{}: not in the page; {outcome:?}", change.name)),
            }
        }
    }
    for (name, _) in &table {
        if !changes::ALL.iter().any(|change| change.name == name) {
            wrong.push(format!("{name}: in the page, but not tried"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(table.len() > 40, "{} rows", table.len());
}

#[test]
fn what_is_not_detected_is_explained() {
    let explained = explained();
    let table = table();
    for (name, found) in &table {
        let undetected = found.read == "no" && found.fsck == "no";
        assert_eq!(
            explained.iter().filter(|told| *told == name).count(),
            usize::from(undetected),
            "{name}: {found:?}"
        );
    }
    for name in &explained {
        assert!(table.iter().any(|(known, _)| known == name), "{name}");
    }
}

#[test]
fn mandoc_finds_no_fault() {
    let output = Command::new("mandoc")
        .args(["-Tlint", "-Wwarning"])
        .arg(page())
        .output()
        .expect("mandoc is installed (apt-get install mandoc)");
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && told.is_empty(), "{told}");
}
