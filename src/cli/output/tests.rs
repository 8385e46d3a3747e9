use super::*;

#[test]
fn a_cause_that_is_quoted_already_is_said_once() {
    let cause = io::Error::from(io::ErrorKind::NotFound);
    let text = cause.to_string();
    let quoting = crate::kms::KmsError::Io {
        action: "open",
        path: "/f".into(),
        source: cause,
    };
    let error = anyhow::Error::new(quoting).context("mounting");
    assert_eq!(error_line(&error), format!("mounting: open /f: {text}"));
    assert_eq!(error_line(&anyhow::anyhow!("a").context("b")), "b: a");
}

#[test]
fn a_text_is_cut_between_characters() {
    assert_eq!(cut("abc", 2), "ab");
    assert_eq!(cut("abc", 9), "abc");
    assert_eq!(cut("a\u{20ac}", 3), "a");
    assert_eq!(cut("a\u{20ac}", 4), "a\u{20ac}");
}

#[test]
fn names_cannot_steer_a_terminal() {
    assert_eq!(printable(b"a\x1b[31m\n\xff"), "a?[31m?\u{fffd}");
    assert_eq!(printable("\u{e9}t\u{e9}".as_bytes()), "\u{e9}t\u{e9}");
}

#[test]
fn a_closed_pipe_is_told_from_other_errors() {
    let closed = anyhow::Error::new(io::Error::from(io::ErrorKind::BrokenPipe)).context(STDOUT);
    assert!(is_broken_pipe(&closed));
    assert!(!is_broken_pipe(&anyhow::anyhow!("broken pipe")));
}
