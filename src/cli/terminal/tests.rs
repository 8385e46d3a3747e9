use super::*;

fn typed(keys: &[u8]) -> io::Result<Vec<u8>> {
    read_secret_line(&mut &keys[..]).map(|line| line.to_vec())
}

#[test]
fn a_line_ends_at_return_or_at_the_end_of_input() {
    assert_eq!(typed(b"abc\ndef").unwrap(), b"abc");
    assert_eq!(typed(b"abc\r").unwrap(), b"abc");
    assert_eq!(typed(b"abc").unwrap(), b"abc");
    assert_eq!(typed(b"\x04xyz\n").unwrap(), b"");
    assert_eq!(typed(b"\n").unwrap(), b"");
}

#[test]
fn editing_keys_work() {
    assert_eq!(typed(b"abx\x7fc\n").unwrap(), b"abc");
    assert_eq!(typed("a\u{20ac}\x08b\n".as_bytes()).unwrap(), b"ab");
    assert_eq!(typed(b"\x7f\x7fok\n").unwrap(), b"ok");
    assert_eq!(typed(b"wrong\x15right\n").unwrap(), b"right");
}

#[test]
fn ctrl_c_cancels_and_a_long_line_is_refused() {
    assert_eq!(
        typed(b"ab\x03").unwrap_err().kind(),
        io::ErrorKind::Interrupted
    );
    assert_eq!(typed(&[b'a'; LINE_MAX]).unwrap().len(), LINE_MAX);
    assert_eq!(
        typed(&[b'a'; LINE_MAX + 1]).unwrap_err().kind(),
        io::ErrorKind::InvalidInput
    );
}
