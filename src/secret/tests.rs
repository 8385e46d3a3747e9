use super::*;

#[test]
fn a_secret_keeps_its_bytes_and_wipes_its_source() {
    let mut plain = [7u8; 32];
    let secret = Key256::take_from(&mut plain);
    assert_eq!(secret.expose(), &[7u8; 32]);
    assert_eq!(plain, [0u8; 32]);
}

#[test]
fn a_slot_is_wiped_when_its_secret_is_dropped() {
    // Drop many, take many: each new slot must read as zeros before it is filled.
    let many: Vec<_> = (0..3000).map(|_| Key256::init(|b| b.fill(0xAA))).collect();
    drop(many);
    for _ in 0..3000 {
        let seen = Key256::init(|b| assert_eq!(b, &[0u8; 32]));
        assert_eq!(seen.expose(), &[0u8; 32]);
    }
}

#[test]
fn a_failed_init_gives_the_error() {
    let result = Secret::<16>::try_init(|_| Err("no randomness"));
    assert_eq!(result.err(), Some("no randomness"));
}

#[test]
fn comparison_sees_one_bit() {
    let a = Secret::<64>::init(|b| b.fill(1));
    let b = Secret::<64>::init(|b| b.fill(1));
    let c = Secret::<64>::init(|b| {
        b.fill(1);
        b[63] = 0;
    });
    assert!(a.same_as(&b));
    assert!(!a.same_as(&c));
}

#[test]
fn long_secrets_keep_their_bytes_and_are_wiped() {
    let bytes: Vec<u8> = (0..SecretBytes::MAX).map(|i| i as u8 | 1).collect();
    for len in [0, 1, 64, 65, 2400, SecretBytes::MAX] {
        let secret = SecretBytes::copy_of(&bytes[..len]).unwrap();
        assert_eq!(secret.expose(), &bytes[..len]);
        assert!(secret.same_as(&SecretBytes::copy_of(&bytes[..len]).unwrap()));
    }
    let mut changed = bytes.clone();
    changed[SecretBytes::MAX - 1] ^= 1;
    let one = SecretBytes::copy_of(&bytes).unwrap();
    assert!(!one.same_as(&SecretBytes::copy_of(&changed).unwrap()));
    assert!(!one.same_as(&SecretBytes::copy_of(&bytes[1..]).unwrap()));
    assert!(SecretBytes::copy_of(&[bytes, vec![0]].concat()).is_none());
    // A slot that held a long secret is all zeros for the next.
    drop(one);
    let slots: Vec<_> = (0..100)
        .map(|_| arena::Slot::<{ arena::LONG }>::take())
        .collect();
    assert!(
        slots
            .iter()
            .all(|slot| slot.bytes().iter().all(|byte| *byte == 0))
    );
}

#[test]
fn secrets_are_locked_and_left_out_of_dumps() {
    let secret = Key256::init(|b| b.fill(3));
    locked_and_not_dumped(std::ptr::from_ref(secret.expose()) as usize);
    let long = SecretBytes::copy_of(&[3; 2400]).unwrap();
    locked_and_not_dumped(long.expose().as_ptr() as usize);
}

fn locked_and_not_dumped(address: usize) {
    let smaps = std::fs::read_to_string("/proc/self/smaps").unwrap();
    let mut inside = false;
    let mut flags = None;
    for line in smaps.lines() {
        if let Some((range, _)) = line.split_once(' ')
            && let Some((from, to)) = range.split_once('-')
            && let (Ok(from), Ok(to)) = (
                usize::from_str_radix(from, 16),
                usize::from_str_radix(to, 16),
            )
        {
            inside = (from..to).contains(&address);
        } else if inside && line.starts_with("VmFlags:") {
            flags = Some(line.to_owned());
        }
    }
    let flags = flags.expect("the secret's mapping is listed");
    assert!(flags.contains(" dd"), "not dumped: {flags}");
    if all_locked() {
        assert!(flags.contains(" lo"), "locked: {flags}");
    }
}
