use super::*;

const MIB: u64 = 1 << 20;

/// Reads `from..to` in pieces of 1 MiB, as if nothing but data lay in the cipher file; what was asked
/// for.
fn read(stream: &Stream, from: u64, to: u64) -> Vec<Range> {
    let pieces = (from..to).step_by(MIB as usize);
    pieces
        .filter_map(|at| stream.note(at, at + MIB, at + MIB))
        .collect()
}

#[test]
fn a_stream_is_fetched_once_and_given_up_once() {
    let stream = Stream::default();
    let asked = read(&stream, 0, 64 * MIB);
    for pair in asked.windows(2) {
        assert_eq!(pair[0].0 + pair[0].1, pair[1].0, "{asked:?}");
    }
    let (at, len) = asked[asked.len() - 1];
    assert!((64 * MIB..=68 * MIB).contains(&(at + len)));
    assert!(stream.ends() && !stream.ends());
}

#[test]
fn a_small_file_is_kept() {
    let stream = Stream::default();
    read(&stream, 0, 7 * MIB);
    assert!(!stream.ends());
}

#[test]
fn who_jumps_about_fetches_and_gives_up_nothing() {
    let stream = Stream::default();
    for at in [500, 20, 300, 100, 900, 0, 700, 30, 800] {
        assert_eq!(read(&stream, at * MIB, (at + 1) * MIB), []);
    }
    assert!(!stream.ends());
}
