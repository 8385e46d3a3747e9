use super::*;

#[test]
fn only_what_is_asked_for_changes() {
    let now = StatVfsMountFlags::NODEV | StatVfsMountFlags::NOSUID;
    let after = |text| flags(now, &MountOptions::parse(&[text]).unwrap());
    let same = MountFlags::NODEV | MountFlags::NOSUID;
    assert_eq!(after("remount"), same);
    assert_eq!(after("remount,ro"), same | MountFlags::RDONLY);
    assert_eq!(
        after("remount,rw,dev,noexec"),
        MountFlags::NOSUID | MountFlags::NOEXEC
    );
}
