//! `scripts/install` puts everything in place, and takes exactly that away.

use std::path::{Path, PathBuf};
use std::process::Command;

fn install(destination: &Path, arguments: &[&str]) {
    let output = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/install"))
        .args(arguments)
        .env("DESTDIR", destination)
        .env("BINARY", env!("CARGO_BIN_EXE_envelopefs"))
        .env_remove("PREFIX")
        .env_remove("SBINDIR")
        .output()
        .expect("the script runs");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let entry = entry.expect("an entry");
        if entry.file_type().expect("a type").is_dir() {
            files(&entry.path(), found);
        } else {
            found.push(entry.path());
        }
    }
}

#[test]
fn what_is_installed_is_complete_and_goes_away_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let root = folder.path();
    std::fs::create_dir_all(root.join("sbin")).expect("a folder");
    std::fs::write(root.join("sbin/mount.other"), "not ours").expect("a file");
    install(root, &[]);
    // Again, over what is there.
    install(root, &[]);
    let share = root.join("usr/local/share");
    for path in [
        root.join("usr/local/bin/envelopefs"),
        share.join("man/man1/envelopefs.1"),
        share.join("man/man1/envelopefs-kms-create-key.1"),
        share.join("man/man5/envelopefs-format.5"),
        share.join("man/man7/envelopefs-threats.7"),
        share.join("bash-completion/completions/envelopefs"),
        share.join("zsh/site-functions/_envelopefs"),
        share.join("fish/vendor_completions.d/envelopefs.fish"),
    ] {
        let len = std::fs::metadata(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        assert!(len.len() > 0, "{}", path.display());
    }
    for helper in ["mount.envelopefs", "mount.fuse.envelopefs"] {
        let target = std::fs::read_link(root.join("sbin").join(helper)).expect("a symlink");
        assert_eq!(target, Path::new("/usr/local/bin/envelopefs"));
    }
    install(root, &["--uninstall"]);
    let mut left = Vec::new();
    files(root, &mut left);
    assert_eq!(left, [root.join("sbin/mount.other")]);
}
