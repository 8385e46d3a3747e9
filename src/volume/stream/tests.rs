use super::*;

const MIB: u64 = 1 << 20;

/// Reads `from..to` in pieces of 1 MiB.
fn read(stream: &Stream, from: u64, to: u64) {
    for at in (from..to).step_by(MIB as usize) {
        stream.note(at, at + MIB);
    }
}

#[test]
fn a_stream_is_given_up_once() {
    let stream = Stream::default();
    read(&stream, 0, 64 * MIB);
    assert!(stream.ends() && !stream.ends());
}

#[test]
fn a_small_file_is_kept() {
    let stream = Stream::default();
    read(&stream, 0, 7 * MIB);
    assert!(!stream.ends());
}

#[test]
fn who_jumps_about_gives_up_nothing() {
    let stream = Stream::default();
    for at in [500, 20, 300, 100, 900, 0, 700, 30, 800] {
        read(&stream, at * MIB, (at + 1) * MIB);
    }
    assert!(!stream.ends());
}
