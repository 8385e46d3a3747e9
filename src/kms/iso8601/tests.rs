use proptest::prelude::*;

use super::super::clock::Timestamp;
use super::parse;

#[test]
fn known_times() {
    for (text, millis) in [
        ("1970-01-01", 0),
        ("1970-01-01T00:00:00Z", 0),
        ("2015-08-30T12:36:00Z", 1_440_938_160_000),
        ("20150830T123600Z", 1_440_938_160_000),
        ("2015-08-30T14:36:00+02:00", 1_440_938_160_000),
        ("2015-08-30T14:36+0200", 1_440_938_160_000),
        ("2024-02-29T23:59:59.9876Z", 1_709_251_199_987),
        ("1969-12-31T23:59:59.999Z", -1),
    ] {
        assert_eq!(parse(text).map(Timestamp::millis), Some(millis), "{text}");
    }
}

#[test]
fn no_times() {
    for text in [
        "",
        "1",
        "2015-13-01",
        "2015-02-29",
        "2015-08-30T24:00:00Z",
        "2015-08-30T12:60Z",
        "2015-08-30T12",
        "2015-08-30T12:36:00.Z",
        "2015-08-30Q12:36:00Z",
        "+015-08-30",
        "2015-08-30T12:36:00+2:00",
        "20150830T1236Z",
        "2015-08-30T12:36:00é",
        "20150830T999999Z",
    ] {
        assert_eq!(parse(text), None, "{text}");
    }
}

proptest! {
    #[test]
    fn what_is_shown_is_read(millis in -62_135_596_800_000_i64..253_402_300_800_000) {
        let time = Timestamp::from_millis(millis);
        prop_assert_eq!(parse(&time.to_string()), Some(time));
    }

    #[test]
    fn any_text(text in "\\PC*") {
        let _ = parse(&text);
    }
}
