use super::*;

/// The number of tries of what has room from the `n`th on, and how it ended.
fn tries(removals: &Removals, n: usize, error: Errno) -> (usize, Result<(), Errno>) {
    let mut tries = 0;
    let result = removals.retry(|| {
        tries += 1;
        if tries < n { Err(error) } else { Ok(()) }
    });
    (tries, result)
}

#[test]
fn after_a_removal_room_is_waited_for() {
    let removals = Removals::default();
    assert_eq!(tries(&removals, 1, Errno::NOSPC), (1, Ok(())));
    assert_eq!(tries(&removals, 2, Errno::NOSPC), (1, Err(Errno::NOSPC)));
    removals.note();
    assert_eq!(tries(&removals, 4, Errno::NOSPC), (4, Ok(())));
    assert_eq!(tries(&removals, 4, Errno::DQUOT), (4, Ok(())));
    assert_eq!(tries(&removals, 2, Errno::IO), (1, Err(Errno::IO)));
}

#[test]
fn not_for_ever() {
    let removals = Removals::default();
    removals.note();
    let begin = Instant::now();
    let (tries, result) = tries(&removals, usize::MAX, Errno::NOSPC);
    assert_eq!(result, Err(Errno::NOSPC));
    assert!(tries > 1 && begin.elapsed() >= PATIENCE);
}
