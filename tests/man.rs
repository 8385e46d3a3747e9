//! The man pages in `man/` are those that the program writes.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

/// The pages of section 1 in a folder, by file name.
fn pages(folder: &Path) -> BTreeMap<String, String> {
    let mut pages = BTreeMap::new();
    for entry in std::fs::read_dir(folder).expect("the folder is there") {
        let path = entry.expect("an entry").path();
        if path.extension().is_some_and(|extension| extension == "1") {
            let name = path
                .file_name()
                .expect("a name")
                .to_string_lossy()
                .into_owned();
            pages.insert(name, std::fs::read_to_string(&path).expect("a page"));
        }
    }
    pages
}

#[test]
fn the_man_pages_are_fresh() {
    let made = tempfile::tempdir().expect("a folder");
    let status = Command::new(env!("CARGO_BIN_EXE_envelopefs"))
        .arg("man")
        .arg(made.path())
        .status()
        .expect("the program runs");
    assert!(status.success());
    let kept = pages(&Path::new(env!("CARGO_MANIFEST_DIR")).join("man"));
    let made = pages(made.path());
    let advice = "run `cargo run --release -- man man` and remove pages of commands that are gone";
    let names = |pages: &BTreeMap<String, String>| pages.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&kept), names(&made), "{advice}");
    for (name, text) in &made {
        assert!(kept[name] == *text, "man/{name} is stale: {advice}");
    }
}
