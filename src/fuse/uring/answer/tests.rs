use std::sync::Arc;

use rand::{RngExt as _, SeedableRng as _, rngs::SmallRng};
use tempfile::TempDir;

use super::*;
use crate::fuse::MountOptions;
use crate::fuse::ops::Activity;
use crate::fuse::tests::volume;
use crate::volume::{Caller, Os};

const PAYLOAD: usize = 1 << 16;

fn ops(dir: &TempDir) -> Ops<Os> {
    let cipher = dir.path().join("cipher");
    std::fs::create_dir(&cipher).unwrap();
    let activity = Arc::new(Activity::default());
    Ops::new(volume(&cipher), &MountOptions::new(), activity, None)
}

fn head(opcode: u32, node: u64) -> InHeader {
    let caller = Caller {
        uid: 0,
        gid: 0,
        pid: 0,
    };
    InHeader {
        opcode,
        unique: 2,
        node,
        caller,
    }
}

/// As the kernel would, with `args` and `names` one behind the other; the answer's bytes.
fn ask(ops: &Ops<Os>, opcode: u32, node: u64, args: &[u8], names: &[u8]) -> Result<Vec<u8>, Errno> {
    let mut payload = vec![0; PAYLOAD];
    payload[..names.len()].copy_from_slice(names);
    let len = answer(ops, &head(opcode, node), args, &mut payload, names.len())?;
    payload.truncate(len);
    Ok(payload)
}

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

fn handle_of(opened: &[u8]) -> [u8; 8] {
    opened[opened.len() - 16..opened.len() - 8]
        .try_into()
        .unwrap()
}

#[test]
fn a_file_s_life_in_requests() {
    let dir = TempDir::new().unwrap();
    let ops = ops(&dir);
    let flags = (libc::O_RDWR | libc::O_CREAT).cast_unsigned();
    let create = words(&[flags, libc::S_IFREG | 0o644, 0, 0]);
    let created = ask(&ops, opcode::CREATE, 1, &create, b"name\0").unwrap();
    assert_eq!(created.len(), 128 + 16);
    let node = u64::from_ne_bytes(created[..8].try_into().unwrap());
    let file = handle_of(&created);

    let mut write = file.to_vec();
    write.extend(words(&[3, 0, 5, 0, 0, 0, 0, 0]));
    assert_eq!(
        ask(&ops, opcode::WRITE, node, &write, b"hello").unwrap(),
        words(&[5, 0])
    );
    let mut read = file.to_vec();
    read.extend(words(&[0, 0, 100, 0, 0, 0, 0, 0]));
    assert_eq!(
        ask(&ops, opcode::READ, node, &read, b"").unwrap(),
        b"\0\0\0hello"
    );
    let found = ask(&ops, opcode::LOOKUP, 1, b"", b"name\0").unwrap();
    assert_eq!(found[..8], node.to_ne_bytes());
    assert_eq!(found[48..56], 8u64.to_ne_bytes());
    let none = ask(&ops, opcode::LOOKUP, 1, b"", b"other\0").unwrap();
    assert_eq!(none[..8], [0; 8]);

    let mut list = vec![0; 16];
    list.extend(words(&[4096, 0]));
    let listed = ask(&ops, opcode::READDIR, 1, &list, b"").unwrap();
    assert!(listed.windows(4).any(|text| text == b"name"));
    assert_eq!(listed.len() % 8, 0);

    let rename = words(&[1, 0, 0, 0]);
    ask(&ops, opcode::RENAME2, 1, &rename, b"name\0new\0").unwrap();
    assert!(
        ask(&ops, opcode::RELEASE, node, &file, b"")
            .unwrap()
            .is_empty()
    );
    ask(&ops, opcode::UNLINK, 1, b"", b"new\0").unwrap();
    assert_eq!(ask(&ops, 38, 1, b"", b""), Err(Errno::NOSYS));
}

/// Whatever comes, an answer goes back that fits.
#[test]
fn no_request_is_a_panic() {
    let dir = TempDir::new().unwrap();
    let ops = ops(&dir);
    let seed = rand::random();
    let mut rng = SmallRng::seed_from_u64(seed);
    let mut payload = vec![0; PAYLOAD];
    for _ in 0..20_000 {
        let opcode = rng.random_range(0..60);
        let mut args = [0; 128];
        // Small numbers make more sense of it than any.
        for word in args.chunks_exact_mut(8) {
            let value: u64 = match rng.random_range(0..4) {
                0 => rng.random(),
                1 => rng.random_range(0..8),
                2 => rng.random_range(0..PAYLOAD as u64),
                _ => 0,
            };
            word.copy_from_slice(&value.to_ne_bytes());
        }
        let len = rng.random_range(0..=args.len());
        let given = match rng.random_range(0..3) {
            0 => 0,
            1 => rng.random_range(0..40),
            _ => rng.random_range(0..PAYLOAD + 10),
        };
        for byte in payload.iter_mut().take(64) {
            *byte = *b"\0\0ab./".get(rng.random_range(0..8)).unwrap_or(&b'x');
        }
        let head = head(opcode, rng.random_range(0..4));
        let result = answer(&ops, &head, &args[..len], &mut payload, given);
        assert!(
            result.is_ok_and(|len| len <= PAYLOAD) || result.is_err(),
            "seed {seed}"
        );
    }
}
