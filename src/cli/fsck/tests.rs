use super::*;
use crate::volume::VolumeError;

fn damage(path: &str, block: Option<u64>) -> Damage {
    Damage {
        path: path.to_owned(),
        block,
        why: "it was changed".to_owned(),
    }
}

#[test]
fn every_damaged_path_is_named() {
    let mut report = FsckReport {
        files: 3,
        bytes: 4096,
        ..FsckReport::default()
    };
    assert!(words(&report).starts_with("clean: 3 files, "));
    report.damaged.push(damage("a/b", Some(7)));
    assert!(words(&report).starts_with("a/b: block 7: it was changed\n1 damaged place: "));
    report.damaged.push(damage("evil\n\x1bname", None));
    assert!(words(&report).contains("evil??name: it was changed\n2 damaged places: "));
}

#[test]
fn a_medium_that_only_reads_is_told_from_other_trouble() {
    let io = |errno| anyhow::Error::new(VolumeError::Io(std::io::Error::from_raw_os_error(errno)));
    assert!(only_readable(&io(libc::EROFS).context("/c")));
    assert!(!only_readable(&io(libc::EIO)));
    assert!(!only_readable(&anyhow::Error::new(VolumeError::NotFound)));
}
