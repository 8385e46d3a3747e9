use super::*;

fn take(privileges: &Privileges, none_left: bool) {
    let taken: std::result::Result<(), ()> = privileges.take(|| Ok(none_left));
    taken.unwrap();
}

#[test]
fn what_was_taken_is_known_until_the_next_change() {
    let privileges = Privileges::new(false);
    assert!(!privileges.are_none());
    take(&privileges, false);
    assert!(!privileges.are_none(), "some were left");
    take(&privileges, true);
    assert!(privileges.are_none());
    let again: std::result::Result<(), ()> = privileges.take(|| panic!("there are none"));
    again.unwrap();
    for _ in 0..3 {
        privileges.changed();
        assert!(!privileges.are_none());
    }
    assert!(Privileges::new(true).are_none());
}

/// Given while they are taken away: nobody knows what is left.
#[test]
fn what_is_given_meanwhile_counts() {
    let privileges = Privileges::new(false);
    let taken: std::result::Result<(), ()> = privileges.take(|| {
        privileges.changed();
        Ok(true)
    });
    taken.unwrap();
    assert!(!privileges.are_none());
}

#[test]
fn a_failure_takes_nothing() {
    let privileges = Privileges::new(false);
    assert_eq!(privileges.take(|| Err("no")), Err("no"));
    assert!(!privileges.are_none());
}
