//! Whole volumes: control files, names, and the contents of a file, as somebody else may have left
//! them. Everything goes by the operations that a mount uses.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use envelopefs::backing::{Kind, Os, Seek};
use envelopefs::crypto::mac;
use envelopefs::format::{
    ENTRIES_AT, FileId, HEADER_LEN, INLINE_AT, PAGE, SLOT_A_AT, SLOT_B_AT, SLOT_LEN, SLOT_MAC_AT,
    STATE_AT, STATIC_LEN, StaticPart,
};
use envelopefs::volume::{
    Cmks, FallocateMode, HandleId, NodeId, OpenMode, OpenOptions, SetAttr, Volume, VolumeError,
};

use super::world::{Known, ME, Place};
use super::{Input, World};

/// A mode, then the two volume records, the mark, and the rest is the lock: each piece behind its
/// length. Modes: 1 and 2, the record is a body that gets its head and its MAC here; 4, opened for
/// writing; 8, moved to another CMK then.
pub fn control(world: &World, data: &[u8]) {
    let mut input = Input(data);
    let mode = input.byte();
    let dir = world.control.join(".envelopefs");
    for (bit, name) in [(1, "volume.a"), (2, "volume.b")] {
        let piece = input.piece();
        let bytes = if mode & bit == 0 {
            piece.to_vec()
        } else {
            World::framed_record(piece, &world.secrets.record)
        };
        fs::write(dir.join(name), bytes).expect("a record");
    }
    fs::write(dir.join("mark"), input.piece()).expect("a mark");
    fs::write(dir.join("lock"), input.rest()).expect("a lock");
    let os = || Os::open(&world.control).expect("a folder");
    let _ = Volume::peek(&os());
    let _ = Volume::holder(&os());
    let options = OpenOptions {
        read_only: mode & 4 == 0,
        ..OpenOptions::default()
    };
    let Ok(volume) = Volume::open(os(), Arc::clone(&world.kms), options) else {
        return;
    };
    // Only the record that was there before, unless it was authenticated here.
    let authenticated_here = mode & 1 != 0 || mode & 2 != 0;
    if !authenticated_here {
        assert_eq!(volume.id(), world.record.volume_id);
        assert_eq!(volume.volume_key_id(), world.key);
    }
    list(&volume, NodeId::ROOT, 0);
    let _ = volume.statfs();
    let to = Cmks {
        main: world.other_key,
        recovery: None,
    };
    if mode & 8 != 0 && volume.rewrap_volume_key(&to).is_ok() && !authenticated_here {
        // The new record says what the authentic one said.
        let found = Volume::peek(&os()).expect("a volume record");
        let right = &world.record;
        assert_eq!(
            (found.volume_id, found.names, found.created),
            (right.volume_id, right.names, right.created)
        );
    }
    let _ = volume.close();
}

/// Lists a directory and looks at all that is in it.
fn list(volume: &Volume<Os>, dir: NodeId, depth: u8) {
    let mut names = Vec::new();
    let listed = volume.readdir_plus(dir, 0, &mut |entry, attr| {
        if !matches!(entry.name, b"." | b"..") {
            names.push((entry.name.to_vec(), *attr));
        }
        true
    });
    if listed.is_err() {
        return;
    }
    for (name, listed) in names {
        match volume.lookup(dir, &name) {
            Ok(attr) => assert_eq!((attr.ino, attr.size), (listed.ino, listed.size)),
            Err(error) => panic!("{} is listed, but: {error}", name.escape_ascii()),
        }
        if listed.kind == Kind::Symlink {
            let _ = volume.readlink(listed.ino);
        }
        if listed.kind == Kind::Dir && depth < 3 {
            list(volume, listed.ino, depth + 1);
        }
        if let Ok(names) = volume.list_xattr(listed.ino) {
            for name in names {
                let _ = volume.get_xattr(listed.ino, &name);
            }
        }
        volume.forget(listed.ino, 2);
    }
}

/// A mode, then entries: a kind and two pieces each, name and contents or target. They are put into
/// the root of a volume (mode 1: with plain names), which is listed.
pub fn tree(world: &World, data: &[u8]) {
    let mut input = Input(data);
    let place = if input.byte() & 1 == 0 {
        &world.encrypted
    } else {
        &world.lax
    };
    let mut made = Vec::new();
    while !input.is_empty() && made.len() < 32 {
        let (kind, name, contents) = (input.byte(), input.piece(), input.piece());
        // What is there already stays.
        let path = place.dir.join(OsStr::from_bytes(name));
        if !name.contains(&b'/') && path.symlink_metadata().is_err() {
            put(&path, kind, contents, &mut made);
        }
    }
    list(&place.volume, NodeId::ROOT, 2);
    for path in made.into_iter().rev() {
        let removed = if path.is_dir() && !path.is_symlink() {
            fs::remove_dir(path)
        } else {
            fs::remove_file(path)
        };
        removed.expect("it was made");
    }
}

/// Makes an entry, and what belongs beside or inside it; notes what could be made.
fn put(path: &Path, kind: u8, contents: &[u8], made: &mut Vec<PathBuf>) {
    let target = OsStr::from_bytes(contents);
    let mut note = |result: io::Result<()>, path: &Path| {
        if result.is_ok() {
            made.push(path.to_owned());
        }
    };
    match kind % 4 {
        0 => note(fs::write(path, contents), path),
        1 => {
            note(fs::create_dir(path), path);
            let id = path.join(".envelopefs.dir");
            note(symlink(target, &id), &id);
        }
        2 => note(symlink(target, path), path),
        // The full form of a long name beside its entry.
        _ => {
            note(fs::write(path, []), path);
            let name = path.file_name().unwrap_or_default().as_bytes();
            if let Some(hash) = name.strip_prefix(b".envelopefs.l.") {
                let name = [b".envelopefs.n.", hash].concat();
                let sidecar = path.with_file_name(OsStr::from_bytes(&name));
                note(symlink(target, &sidecar), &sidecar);
            }
        }
    }
}

/// What the first byte of an input of [`file`] asks for.
mod mode {
    /// Authenticate both slots anew.
    pub const SLOTS: u8 = 1;
    /// Seal the state anew.
    pub const STATE: u8 = 2;
    /// Seal the inline bytes anew.
    pub const INLINE: u8 = 4;
    /// In the volume that was not left cleanly.
    pub const LAX: u8 = 8;
    /// Change the file after reading it.
    pub const WRITE: u8 = 16;
    /// Cut or extend the cipher file to the given size.
    pub const RESIZE: u8 = 32;
    /// All that puts new seals on what was changed.
    pub const FORGED: u8 = SLOTS | STATE | INLINE;
}

/// Where single bytes decide most: static part, heads of the slots and of their first wrapped key,
/// state, the end of entry 0.
const PATCHES: [Range<usize>; 5] = [8..20, 64..86, 512..534, STATE_AT..980, 1052..1060];

/// Changes a byte in one of [`PATCHES`]: two bytes say which and how.
fn patch(cipher: &mut [u8], which: u8, how: u8) {
    let mut places = PATCHES.into_iter().flatten().cycle();
    let place = places.nth(usize::from(which)).unwrap_or(0);
    if let Some(byte) = cipher.get_mut(place) {
        *byte ^= how;
    }
}

/// A mode (see [`mode`]), a number (8 bytes), two patches (2 bytes each), then a cipher file. What is
/// read of it is an error, or the right bytes of the golden file that it was made of.
pub fn file(world: &World, data: &[u8]) {
    let mut input = Input(data);
    let (mode, number) = (input.byte(), input.number());
    let patches = [(input.byte(), input.byte()), (input.byte(), input.byte())];
    let mut cipher = input.rest().to_vec();
    for (which, how) in patches {
        patch(&mut cipher, which, how);
    }
    let place = if mode & mode::LAX == 0 {
        &world.strict
    } else {
        &world.lax
    };
    let known = StaticPart::parse(&cipher).ok().and_then(|part| {
        world
            .files
            .get(&part.file_id)
            .map(|known| (part.file_id, known))
    });
    if let Some((id, known)) = known {
        reseal(&mut cipher, mode, place, id, known);
    }
    let path = place.dir.join("victim");
    fs::write(&path, &cipher).expect("a file");
    if mode & mode::RESIZE != 0 {
        let file = fs::File::options().write(true).open(&path).expect("a file");
        // Too large for the filesystem: then it stays as it is.
        let _ = file.set_len(number >> 1);
    }
    let volume = &place.volume;
    let attr = volume.lookup(NodeId::ROOT, b"victim").expect("it is there");
    let write = mode & mode::WRITE != 0;
    let open = if write {
        OpenMode::READ_WRITE
    } else {
        OpenMode::READ
    };
    if let Ok(handle) = volume.open_file(&ME, attr.ino, open) {
        let genuine = mode & mode::FORGED == 0;
        let lax = mode & mode::LAX != 0;
        read_all(volume, handle, attr.size, number, &|at, bytes| {
            if genuine {
                right(known.map(|(_, known)| known), lax, at, bytes);
            }
        });
        if write {
            change(volume, handle, attr.ino, number);
            read_all(volume, handle, attr.size, number, &|_, _| {});
        }
        volume.release(handle).expect("it is open");
    }
    volume.forget(attr.ino, 1);
    fs::remove_file(path).expect("a file");
}

/// Whether a block was handed out that nobody wrote there.
fn right(known: Option<&Known>, lax: bool, at: u64, bytes: &[u8]) {
    let known = known.expect("bytes of a file that nobody wrote");
    let zeros = bytes.iter().all(|&byte| byte == 0);
    if zeros && (lax || known.sparse) {
        return;
    }
    let at = usize::try_from(at).unwrap_or(usize::MAX);
    let expected = known.plain.get(at..).unwrap_or_default();
    let expected = &expected[..expected.len().min(PAGE)];
    assert!(expected == bytes, "wrong bytes were handed out at {at}");
}

/// Reads a file block by block, from its start and round `number`; `sink` gets what could be read.
fn read_all(
    volume: &Volume<Os>,
    handle: HandleId,
    size: u64,
    number: u64,
    sink: &dyn Fn(u64, &[u8]),
) {
    let page = PAGE as u64;
    let end = size.div_ceil(page);
    let starts = [
        0,
        number / page,
        (number % size.max(1)) / page,
        end.saturating_sub(3),
    ];
    for start in starts {
        for block in start..start.saturating_add(12).min(end) {
            let Some(at) = block.checked_mul(page) else {
                continue;
            };
            let mut buf = [0; PAGE];
            match volume.read(handle, at, &mut buf) {
                Ok(len) if len > 0 => sink(at, &buf[..len]),
                Ok(_)
                | Err(
                    VolumeError::Damaged { .. }
                    | VolumeError::FileTooLarge
                    | VolumeError::Invalid(_)
                    | VolumeError::Io(_),
                ) => {}
                Err(error) => panic!("reading: {error:?}"),
            }
        }
    }
    let mut long = vec![0; 3 * PAGE + 5];
    let _ = volume.read(handle, number, &mut long);
    for what in [Seek::Data, Seek::Hole] {
        for from in [0, number, number % size.max(1)] {
            let _ = volume.seek(handle, what, from);
        }
    }
}

/// Changes a file in every way, somewhere.
fn change(volume: &Volume<Os>, handle: HandleId, node: NodeId, number: u64) {
    let near = number % (400 * 4096);
    let _ = volume.write(handle, near, b"changed", false);
    let _ = volume.write(handle, number, b"far away", false);
    for mode in [
        FallocateMode::PunchHole,
        FallocateMode::ZeroRange,
        FallocateMode::ZeroRangeKeepSize,
        FallocateMode::AllocateKeepSize,
        FallocateMode::Allocate,
    ] {
        let _ = volume.fallocate(handle, mode, near, 1 + number % 9000);
    }
    for size in [near, near / 2, number, 3000, 0] {
        let change = SetAttr {
            size: Some(size),
            ..SetAttr::default()
        };
        let _ = volume.setattr(&ME, node, Some(handle), &change);
    }
    let _ = volume.write(handle, near % 5000, b"anew", false);
    let _ = volume.fsync(handle, true);
}

/// Puts the right seals on changed bytes, as only who has the keys could: so that what is behind
/// the seals is reached too.
fn reseal(cipher: &mut Vec<u8>, mode: u8, place: &Place, id: FileId, known: &Known) {
    if cipher.len() < HEADER_LEN {
        return;
    }
    debug_assert!(known.cipher.len() >= INLINE_AT);
    if mode & mode::STATE != 0 {
        let (head, tail) = (STATE_AT + 36, HEADER_LEN);
        let aad = [b"state", &cipher[STATE_AT..head]].concat();
        let sealed = known.keys.content().seal(&aad, &[], &mut []);
        cipher[head..tail].copy_from_slice(&[&sealed.nonce[..], &sealed.tag].concat());
    }
    if mode & mode::INLINE != 0 && (INLINE_AT..=PAGE).contains(&cipher.len()) {
        let tail = &cipher[ENTRIES_AT + 28..INLINE_AT];
        let aad = [&[0; 8], tail].concat();
        let plain = cipher.split_off(INLINE_AT);
        let mut sealed_bytes = vec![0; plain.len()];
        let sealed = known.keys.content().seal(&aad, &plain, &mut sealed_bytes);
        cipher[ENTRIES_AT..ENTRIES_AT + 28]
            .copy_from_slice(&[&sealed.nonce[..], &sealed.tag].concat());
        cipher.extend(sealed_bytes);
    }
    if mode & mode::SLOTS != 0 {
        let static_part = StaticPart::parse(&cipher[..STATIC_LEN]).map(|part| part.encode());
        let Ok(static_part) = static_part else { return };
        debug_assert_eq!(static_part[16..32], id.0);
        for at in [SLOT_A_AT, SLOT_B_AT] {
            let (head, tag) = cipher[at..at + SLOT_LEN].split_at_mut(SLOT_MAC_AT);
            let volume = place.volume.id();
            let parts: [&[u8]; 4] = [b"slot", &volume.0, &static_part, head];
            tag.copy_from_slice(&mac(known.keys.header(), &parts));
        }
    }
}
