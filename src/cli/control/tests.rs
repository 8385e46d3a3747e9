use std::num::NonZeroU32;

use super::*;

#[test]
fn requests_have_a_settled_form() {
    let cases = [
        (Request::Status, r#"{"op":"status"}"#),
        (Request::Rotate { if_older: None }, r#"{"op":"rotate"}"#),
        (
            Request::Rewrap(Wanted {
                to_key: Some("alias/x".into()),
                dry_run: true,
                ..Wanted::default()
            }),
            r#"{"op":"rewrap","to_key":"alias/x","dry_run":true}"#,
        ),
        (
            Request::Rewrap(Wanted {
                max_rate: NonZeroU32::new(5),
                add_recovery_key: Some("b".into()),
                remove_recovery_key: Some("a".into()),
                ..Wanted::default()
            }),
            r#"{"op":"rewrap","to_key":null,"dry_run":false,"max_rate":5,"add_recovery_key":"b","remove_recovery_key":"a"}"#,
        ),
        (
            Request::ReEncrypt {
                paths: vec!["a/b".into()],
                exclude: Vec::new(),
                resume: true,
                max_rate: NonZeroU64::new(1 << 40),
            },
            r#"{"op":"re-encrypt","paths":["a/b"],"resume":true,"max_rate":1099511627776}"#,
        ),
        (Request::Job, r#"{"op":"job"}"#),
        (
            Request::Report { from: 1900 },
            r#"{"op":"report","from":1900}"#,
        ),
    ];
    for (request, text) in cases {
        assert_eq!(serde_json::to_string(&request).unwrap(), text);
        assert_eq!(serde_json::from_str::<Request>(text).unwrap(), request);
    }
    let short = Request::Rewrap(Wanted::default());
    assert_eq!(
        serde_json::from_str::<Request>(r#"{"op":"rewrap"}"#).unwrap(),
        short
    );
    assert!(serde_json::from_str::<Request>(r#"{"op":"format"}"#).is_err());
    assert!(serde_json::from_str::<Request>(r#"{"op":"rewrap","to":"x"}"#).is_err());
}

#[test]
fn a_piece_of_a_report_fits_in_an_answer() {
    // At worst each byte of JSON text is a quote or a backslash, and takes two in the answer.
    for worst in ["\"", "\\"] {
        assert!(
            encode(&Piece {
                text: worst.repeat(PIECE)
            })
            .is_ok()
        );
    }
    let long = encode(&"x".repeat(LONGEST_MESSAGE)).unwrap_err();
    assert!(long.to_string().contains("too long"));
}

#[test]
fn an_error_keeps_its_exit_code_on_the_way() {
    let answer = Answer::<()>::Error {
        code: Exit::KeyDisabled.code(),
        message: "off".into(),
    };
    let text = serde_json::to_string(&answer).unwrap();
    assert_eq!(text, r#"{"error":{"code":6,"message":"off"}}"#);
    let Answer::Error { code, .. } = serde_json::from_str::<Answer<Piece>>(&text).unwrap() else {
        panic!("an error")
    };
    assert_eq!(Exit::from_code(code), Exit::KeyDisabled);
}
