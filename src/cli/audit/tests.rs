use super::*;

#[test]
fn times() {
    let now = iso8601::parse("2026-05-01T12:00:00Z").unwrap();
    let at = |text: &str| time(text, now).unwrap().to_string();
    assert_eq!(at("2026-04-30"), "2026-04-30T00:00:00+00:00");
    assert_eq!(at("90s"), "2026-05-01T11:58:30+00:00");
    assert_eq!(at("15m"), "2026-05-01T11:45:00+00:00");
    assert_eq!(at("2h"), "2026-05-01T10:00:00+00:00");
    assert_eq!(at("1d"), "2026-04-30T12:00:00+00:00");
    for wrong in ["", "s", "-1d", "1w", "yesterday", "é"] {
        assert!(time(wrong, now).is_err(), "{wrong}");
    }
}
