use super::*;

#[test]
fn a_line_of_the_mount_table_is_read() {
    let line = b"36 35 0:98 / /mnt/a\\040b\\134 rw,nosuid shared:1 master:2 - fuse.x \\040s rw";
    let entry = parse_line(line).unwrap();
    assert_eq!(entry.id, 36);
    assert_eq!(entry.device, (0, 98));
    assert_eq!(entry.point, Path::new("/mnt/a b\\"));
    assert_eq!(entry.fs_type, "fuse.x");
    assert_eq!(entry.source, " s");
    let bare = parse_line(b"1 2 8:1 / / rw - ext4 /dev/sda1 rw").unwrap();
    assert_eq!((bare.fs_type.as_str(), bare.device), ("ext4", (8, 1)));
    assert_eq!(parse_line(b""), None);
    assert_eq!(parse_line(b"1 2 8:1 / /"), None);
}

#[test]
fn what_is_mounted_is_found() {
    let proc = find(Path::new("/proc")).unwrap().unwrap();
    assert_eq!(proc.fs_type, "proc");
    assert_eq!(find(Path::new("/proc/self")).unwrap(), None);
    assert!(is_mount_point(Path::new("/")).unwrap());
    assert!(find(Path::new("/no/such/path")).is_err());
}
