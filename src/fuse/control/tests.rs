use super::*;

struct Echo;
impl Control for Echo {
    fn call(&self, caller_uid: u32, request: &[u8]) -> Vec<u8> {
        [request, caller_uid.to_string().as_bytes()].concat()
    }
}

fn frame(text: &[u8]) -> Frame {
    let mut frame = [0; FRAME];
    fill(&mut frame, text).unwrap();
    frame
}

#[test]
fn a_call_is_answered_in_a_frame() {
    let out = answer(Some(&Echo), 7, CALL, &frame(b"who ")).unwrap();
    assert_eq!(message(&out).unwrap(), b"who 7");
}

#[test]
fn malformed_and_foreign_calls_are_refused() {
    let mut bad = frame(b"x");
    bad[..4].copy_from_slice(&u32::MAX.to_le_bytes());
    assert_eq!(answer(Some(&Echo), 0, CALL, &bad), Err(Errno::INVAL));
    assert_eq!(answer(Some(&Echo), 0, CALL, &[1, 2]), Err(Errno::INVAL));
    assert_eq!(answer(None, 0, CALL, &frame(b"x")), Err(Errno::NOTTY));
    assert_eq!(
        answer(Some(&Echo), 0, 0x5401, &frame(b"x")),
        Err(Errno::NOTTY)
    );
}

#[test]
fn messages_that_do_not_fit_are_refused() {
    let longest = vec![b'x'; LONGEST_MESSAGE];
    let out = answer(Some(&Echo), 0, CALL, &frame(&longest));
    assert_eq!(out, Err(Errno::MSGSIZE), "the echo is one byte longer");
    assert!(fill(&mut [0; FRAME], &[0; LONGEST_MESSAGE + 1]).is_none());
}
