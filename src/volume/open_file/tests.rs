use super::*;
use crate::content::PlainOffset;

#[test]
fn whoever_misses_many_entry_pages_gets_each_one_once() {
    let pages = Pages::default();
    for _ in 0..PATIENCE {
        assert_eq!(pages.miss(), None);
    }
    let mut next = 0;
    while let Some(groups) = pages.miss() {
        assert_eq!(groups, next..next + PAGES_AHEAD);
        next = groups.end;
    }
    assert!((PAGES_MOST as u64..PAGES_MOST as u64 + PAGES_AHEAD).contains(&next));
    assert_eq!(pages.miss(), None, "not from the start again");
}

#[test]
fn all_entry_pages_of_a_gigabyte_are_kept() {
    let (last, _) = PlainOffset::new((1 << 30) - 1).unwrap().block();
    assert!(last.place().0.0 < PAGES_MOST as u64);
    let pages = Pages::default();
    for group in 0..=last.place().0.0 {
        pages.put(EntryPage::empty(GroupIndex(group)));
    }
    assert!((0..=last.place().0.0).all(|group| pages.get(GroupIndex(group)).is_some()));
}
