use super::*;

#[test]
fn roff_text_is_escaped() {
    assert_eq!(escape("--a \\ ~"), "\\-\\-a \\e \\(ti");
    assert_eq!(escape(".envelopefs"), "\\&.envelopefs");
    assert_eq!(escape("'a'"), "\\&'a'");
}

#[test]
fn every_page_has_its_sections() {
    let dir = tempfile::tempdir().unwrap();
    run(&ManArgs {
        dir: dir.path().to_owned(),
    })
    .unwrap();
    let mut pages = 0;
    for entry in std::fs::read_dir(dir.path()).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        pages += 1;
        for title in [
            "NAME",
            "\"SYNOPSIS\"",
            "DESCRIPTION",
            "\"EXIT STATUS\"",
            "\"SEE ALSO\"",
        ] {
            assert!(
                text.contains(&format!(".SH {title}")),
                "{}: {title}",
                path.display()
            );
        }
        assert!(!text.contains("EXTRA"), "{}", path.display());
    }
    assert!(pages > 10);
    assert!(
        !dir.path().join("envelopefs-man.1").exists(),
        "hidden commands have no page"
    );
    let mount = std::fs::read_to_string(dir.path().join("envelopefs-mount.1")).unwrap();
    assert!(mount.contains("allow_other") && mount.contains("fuse.envelopefs"));
}
