use super::*;

#[test]
fn groups_are_read_from_the_status_file() {
    let status = "Name:\tx\nGroups:\t4 24 1000 \nNStgid:\t1\n";
    assert!(lists_group(status, 24));
    assert!(!lists_group(status, 2));
    assert!(!lists_group("Groups:\t\n", 0));
    assert!(!lists_group("", 0));
}

#[test]
fn a_caller_that_is_gone_is_in_its_own_group_only() {
    let caller = Caller {
        uid: 1,
        gid: 7,
        pid: u32::MAX,
    };
    assert!(in_group(&caller, 7));
    assert!(!in_group(&caller, 0));
}
