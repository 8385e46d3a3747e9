//! envelopefs-format(5) says what the code does: its tables, numbers and labels are held against it.
#![allow(missing_docs)]

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use envelopefs::content::{
    BlockIndex, FileKeys, GROUP_BLOCKS, GroupIndex, HEAD_BLOCKS, InlineBytes, Layout, MAX_SIZE,
};
use envelopefs::crypto::{AeadKey, Sealed};
use envelopefs::format::blob::{self, BlobHeader};
use envelopefs::format::journal::{
    self, JournalHeader, JournalKey, RecordBuilder, RecordKind, Resize,
};
use envelopefs::format::{
    ENTRIES_AT, ENTRY_LEN, EPOCHS_MOST, Entry, EntryFlags, FileId, HEADER_LEN, INLINE_AT,
    INLINE_MAX, KEPT_CTIME_LEN, KeptCtime, KeyRole, Mark, NameEncoding, PAGE, RECORD_MAX,
    SLOT_A_AT, SLOT_B_AT, SLOT_LEN, SLOT_MAC_AT, STATE_AT, STATE_LEN, STATIC_LEN, Slot, State,
    StateFlags, StaticPart, Suite, VolumeId, VolumeRecord, WRAPPED_KEYS_MAX, WrappedKey,
};
use envelopefs::names::{MAX_NAME, MAX_SHORT};
use envelopefs::secret::Key256;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn page() -> String {
    std::fs::read_to_string(root().join("man/envelopefs-format.5")).unwrap()
}

/// A row of a table: where, how long (as written), what.
struct Field {
    at: String,
    bytes: String,
    what: String,
}

/// The tables of the page by name.
fn tables() -> BTreeMap<String, Vec<Field>> {
    let page = page();
    let mut tables = BTreeMap::new();
    let mut lines = page.lines().peekable();
    let mut name = String::new();
    while let Some(line) = lines.next() {
        if line == "Table" {
            let quoted = lines.next().and_then(|line| line.strip_prefix(".Dq "));
            name = quoted.unwrap().trim_end_matches([' ', ':', ',']).into();
        }
        if line != "offset  bytes  field" {
            continue;
        }
        let mut fields = Vec::new();
        while let Some(row) = lines.next_if(|line| !line.starts_with('.')) {
            let mut words = row.split_whitespace();
            let mut word = || words.next().unwrap().to_owned();
            fields.push(Field {
                at: word(),
                bytes: word(),
                what: words.collect::<Vec<_>>().join(" "),
            });
        }
        assert!(tables.insert(name.clone(), fields).is_none(), "{name}");
    }
    tables
}

/// The number before `n`, and how many `n`: "16+n", "n", "32".
fn number(text: &str) -> (usize, usize) {
    text.split('+').fold((0, 0), |(fixed, n), part| match part {
        "n" => (fixed, n + 1),
        digits => (fixed + digits.parse::<usize>().unwrap(), n),
    })
}

/// How long a table's record is, `n` left out.
fn total(table: &[Field]) -> usize {
    table.iter().map(|field| number(&field.bytes).0).sum()
}

/// Where the field whose description starts so stands in a record whose variable part has `n` bytes.
fn place(table: &[Field], what: &str, n: usize) -> std::ops::Range<usize> {
    let mut found = table.iter().filter(|field| field.what.starts_with(what));
    let field = found.next().unwrap_or_else(|| panic!("no field {what}"));
    assert!(found.next().is_none(), "two fields {what}");
    let (at, bytes) = (number(&field.at), number(&field.bytes));
    let at = at.0 + at.1 * n;
    at..at + bytes.0 + bytes.1 * n
}

fn key(byte: u8) -> Key256 {
    Key256::init(|key| key.fill(byte))
}

#[test]
fn the_tables_have_no_gaps() {
    let tables = tables();
    for (name, fields) in &tables {
        let mut at = (0, 0);
        for field in fields {
            assert_eq!(number(&field.at), at, "{name}: {}", field.what);
            let bytes = number(&field.bytes);
            at = (at.0 + bytes.0, at.1 + bytes.1);
        }
    }
    let totals: Vec<(&str, usize)> = tables
        .iter()
        .map(|(name, fields)| (name.as_str(), total(fields)))
        .collect();
    let expected = [
        ("blob", blob::OVERHEAD),
        ("entry", ENTRY_LEN),
        ("extent", journal::EXTENT_LEN),
        ("file that is through", 64),
        ("journal header", journal::JOURNAL_HEADER_LEN),
        (
            "journal record",
            journal::RECORD_HEAD + journal::RECORD_TAIL,
        ),
        ("kept ctime", KEPT_CTIME_LEN),
        ("mark", 64),
        ("page 0", PAGE),
        ("pointer", 41),
        ("sealed", 28),
        ("slot", SLOT_LEN),
        ("state", STATE_LEN),
        ("static part", STATIC_LEN),
        ("volume record", 48),
        ("wrapped key", 4),
    ];
    assert_eq!(totals, expected);
}

#[test]
fn the_numbers_are_those_of_the_code() {
    let expected: BTreeMap<&str, usize> = BTreeMap::from([
        ("PAGE", PAGE),
        ("HEADER_LEN", HEADER_LEN),
        ("STATIC_LEN", STATIC_LEN),
        ("SLOT_A_AT", SLOT_A_AT),
        ("SLOT_B_AT", SLOT_B_AT),
        ("SLOT_LEN", SLOT_LEN),
        ("SLOT_MAC_AT", SLOT_MAC_AT),
        ("WRAPPED_KEYS_MAX", WRAPPED_KEYS_MAX),
        ("STATE_AT", STATE_AT),
        ("STATE_LEN", STATE_LEN),
        ("ENTRIES_AT", ENTRIES_AT),
        ("ENTRY_LEN", ENTRY_LEN),
        ("INLINE_AT", INLINE_AT),
        ("INLINE_MAX", INLINE_MAX),
        ("HEAD_BLOCKS", HEAD_BLOCKS as usize),
        ("GROUP_BLOCKS", GROUP_BLOCKS as usize),
        ("MAX_NAME", MAX_NAME),
        ("MAX_SHORT", MAX_SHORT),
        ("RECORD_MAX", RECORD_MAX),
        ("EPOCHS_MOST", EPOCHS_MOST),
        ("JOURNAL_RECORD_MAX", journal::JOURNAL_RECORD_MAX),
        ("BLOB_LEN", blob::DATA_KEY_LEN),
    ]);
    let page = page();
    let (_, limits) = page.split_once("\n.Sh LIMITS\n").unwrap();
    let (_, list) = limits.split_once(".Bd -literal\n").unwrap();
    let (list, _) = list.split_once(".Ed\n").unwrap();
    let found: BTreeMap<&str, usize> = list
        .lines()
        .map(|line| {
            let mut words = line.split_whitespace();
            let name = words.next().unwrap();
            (name, words.next().unwrap().parse().unwrap())
        })
        .collect();
    assert_eq!(found, expected);

    let first = GroupIndex(1).page_at().0;
    let group = GroupIndex(2).page_at().0 - first;
    for text in [
        format!("e = {first} + {group} g"),
        format!("entry at  {ENTRIES_AT} + {ENTRY_LEN} i"),
        format!("block at  {PAGE} (1 + i)"),
        format!("entry at  e + {ENTRY_LEN} p"),
        format!("block at  e + {PAGE} (1 + p)"),
        format!("c <= {first}       c - {PAGE}"),
        format!("r = c - {first}"),
        format!("{PAGE} ({HEAD_BLOCKS} + {GROUP_BLOCKS} (r / {group}))"),
        format!("max(0, r mod {group} - {PAGE})"),
        format!("largest file has {MAX_SIZE} bytes"),
        format!("is {INLINE_AT} bytes longer"),
        format!("A file of up to {INLINE_MAX} bytes"),
        format!("name of up to {MAX_SHORT} bytes"),
        format!("has at most {RECORD_MAX} bytes"),
    ] {
        assert!(page.contains(&text), "the page doesn't say: {text}");
    }
}

/// The page's formulas, written down in their words.
#[test]
fn the_formulas_are_those_of_the_code() {
    for i in (0..2000).chain([1 << 20, 1 << 40]) {
        let (entry, block) = if i < 96 {
            (1024 + 32 * i, 4096 * (1 + i))
        } else {
            let (g, p) = ((i - 96) / 128, (i - 96) % 128);
            let e = 397_312 + 528_384 * g;
            (e + 32 * p, e + 4096 * (1 + p))
        };
        let (group, place) = BlockIndex(i).place();
        assert_eq!(group.entry_at(place).0, entry);
        assert_eq!(BlockIndex(i).data_at().0, block);
    }
    for c in (1..1_200_000)
        .step_by(13)
        .chain([0, 1055, 1056, 4096, 4097, 397_312, 397_313])
    {
        let size = match c {
            0 => Some(0),
            1..1056 => None,
            1056..=4096 => Some(c - 1056),
            4097..=397_312 => Some(c - 4096),
            _ => {
                let r = c - 397_312;
                let rest = u64::saturating_sub(r % 528_384, 4096);
                Some(4096 * (96 + 128 * (r / 528_384)) + rest)
            }
        };
        assert_eq!(
            Layout::of_cipher_size(c).ok().map(Layout::size),
            size,
            "{c}"
        );
    }
}

#[test]
fn the_fields_stand_where_the_page_says() {
    let tables = tables();
    let part = StaticPart {
        suite: Suite::Aes256GcmHkdfSha256,
        file_id: FileId([0xf1; 16]),
    };
    let bytes = part.encode();
    let at = |what| place(&tables["static part"], what, 0);
    assert_eq!(bytes[at("magic")], *b"ENVLPFS\0");
    assert_eq!(bytes[at("format version: 1")], [1, 0]);
    assert_eq!(bytes[at("suite: 1")], [1, 0]);
    assert_eq!(bytes[at("flags: 0")], [0; 4]);
    assert_eq!(bytes[at("file id")], [0xf1; 16]);

    let wrapped = |role, byte: u8| WrappedKey {
        key_generation: byte,
        role,
        blob: vec![byte; 90],
    };
    let slot = Slot {
        generation: 0x0102_0304,
        keys: vec![wrapped(KeyRole::Current, 5), wrapped(KeyRole::Previous, 6)],
    };
    let sealed = slot.seal(&key(1), &VolumeId([2; 16]), &bytes).unwrap();
    let at = |what| place(&tables["slot"], what, 0);
    assert_eq!(sealed[at("generation")], [4, 3, 2, 1, 0, 0, 0, 0]);
    assert_eq!(sealed[at("number of wrapped keys")], [2]);
    let mut keys = &sealed[at("the wrapped keys")];
    for (byte, role) in [(5, 1), (6, 2)] {
        let at = |what| place(&tables["wrapped key"], what, 90);
        assert_eq!(keys[at("key generation")], [byte]);
        assert_eq!(keys[at("role: 1 current, 2 previous")], [role]);
        assert_eq!(keys[at("n")], [90, 0]);
        assert_eq!(keys[at("the key manager's blob")], [byte; 90]);
        keys = &keys[94..];
    }
    assert_eq!(at("MAC"), SLOT_MAC_AT..SLOT_LEN);

    let state = State {
        size: 0x0a0b_0c0d_0e0f,
        flags: StateFlags { sparse: true },
        seals: 0x1234_5678,
        epoch: 0x0102_0304_0506_0708,
    };
    let sealed = state.seal(&AeadKey::new(&key(3)));
    let at = |what| place(&tables["state"], what, 0);
    assert_eq!(sealed[at("size")], 0x0a0b_0c0d_0e0f_u64.to_le_bytes());
    assert_eq!(sealed[at("flags: bit 0, sparse")], [1, 0, 0, 0]);
    assert_eq!(sealed[at("seals")], 0x1234_5678_u32.to_le_bytes());
    assert_eq!(sealed[at("epoch")], 0x0102_0304_0506_0708_u64.to_le_bytes());
    let (nonce, tag) = (at("nonce"), at("tag"));
    assert_eq!((nonce, tag), (36..48, 48..64));

    let entry = Entry {
        sealed: Sealed {
            nonce: [7; 12],
            tag: [8; 16],
        },
        key_generation: 9,
        flags: EntryFlags::Inline,
        sequence: 0x0a0b,
    };
    let bytes = entry.encode();
    let at = |what| place(&tables["entry"], what, 0);
    assert_eq!(bytes[at("nonce")], [7; 12]);
    assert_eq!(bytes[at("tag")], [8; 16]);
    assert_eq!(bytes[at("key generation")], [9]);
    assert_eq!(bytes[at("flags: 0 a block, 1 inline")], [1]);
    assert_eq!(bytes[at("sequence")], [0x0b, 0x0a]);

    let kept = KeptCtime {
        ino: 0x0a0b_0c0d_0e0f_1011,
        after: (0x0102_0304, 0x0506_0708),
        before: (-2, 9),
    };
    let bytes = kept.seal(&key(6), &VolumeId([5; 16]));
    let at = |what| place(&tables["kept ctime"], what, 0);
    assert_eq!(bytes[at("inode number")], kept.ino.to_le_bytes());
    let after = at("ctime after: seconds since 1970-01-01 UTC, signed");
    assert_eq!(bytes[after], [4, 3, 2, 1, 0, 0, 0, 0]);
    let before = at("ctime before: seconds, signed");
    assert_eq!(bytes[before], (-2_i64).to_le_bytes());
    assert_eq!(bytes[at("ctime after: nanoseconds")], [8, 7, 6, 5]);
    assert_eq!(bytes[at("ctime before: nanoseconds")], [9, 0, 0, 0]);

    let keys = FileKeys::derive(&key(4), &VolumeId([5; 16]), &FileId([6; 16]), 0);
    let InlineBytes(inline) = keys.seal_inline(b"x");
    let start = place(&tables["page 0"], "entries of the head group", 0).start;
    assert_eq!((start, start + inline.len() - 1), (ENTRIES_AT, INLINE_AT));
    for (what, start) in [
        ("static part", 0),
        ("envelope slot A", SLOT_A_AT),
        ("envelope slot B", SLOT_B_AT),
        ("state", STATE_AT),
    ] {
        assert_eq!(place(&tables["page 0"], what, 0).start, start);
    }
}

#[test]
fn the_fields_of_blob_and_volume_record_stand_where_the_page_says() {
    let tables = tables();
    let header = BlobHeader {
        key_id: [1; 16],
        multi_region: true,
        material: [2; 8],
        salt: [3; 16],
    };
    let bytes = header.encode();
    let at = |what| place(&tables["blob"], what, 32);
    assert_eq!(bytes[at("version: 1")], [1]);
    assert_eq!(bytes[at("flags: bit 0")], [1]);
    assert_eq!(bytes[at("id of the CMK")], [1; 16]);
    assert_eq!(bytes[at("the first bytes")], [2; 8]);
    assert_eq!(bytes[at("salt")], [3; 16]);
    assert_eq!(at("ciphertext").start, blob::HEADER_LEN);
    assert_eq!(at("tag").end, blob::DATA_KEY_LEN);

    let record = VolumeRecord {
        generation: 300,
        volume_id: VolumeId([4; 16]),
        features: 0,
        names: NameEncoding::Plain,
        created: -2,
        volume_keys: vec![vec![5; 90], vec![6; 260]],
    };
    let bytes = record.seal(&key(7)).unwrap();
    let n = bytes.len() - total(&tables["volume record"]);
    let at = |what| place(&tables["volume record"], what, n);
    assert_eq!(bytes[at("magic")], *b"ENVLPVOL");
    assert_eq!(bytes[at("format version: 1")], [1, 0]);
    assert_eq!(bytes[at("n")], (n as u32).to_le_bytes());
    assert_eq!(at("MAC").end, bytes.len());
    // The body by the page's words: 300 is 251 and two bytes, -2 is 3.
    let mut body = vec![251, 44, 1];
    body.extend([4; 16]);
    body.extend([0, 1, 3, 2, 90]);
    body.extend([5; 90]);
    body.extend([251, 4, 1]);
    body.extend([6; 260]);
    assert_eq!(bytes[at("body")], body);
}

#[test]
fn the_fields_of_mark_and_journal_stand_where_the_page_says() {
    let tables = tables();
    let mark = Mark {
        in_use: true,
        epoch: 0x0807_0605_0403_0201,
        generation: 9,
        journal: true,
        crashed: vec![10, 11],
    };
    let bytes = mark.seal(&key(1));
    let at = |what| place(&tables["mark"], what, 16);
    assert_eq!(bytes[at("magic")], *b"ENVLPMRK");
    assert_eq!(bytes[at("in use")], [1]);
    assert_eq!(bytes[at("journal")], [1]);
    assert_eq!(bytes[at("number of crashed epochs")], [2, 0, 0, 0]);
    assert_eq!(bytes[at("epoch: ")], [1, 2, 3, 4, 5, 6, 7, 8]);
    assert_eq!(bytes[at("generation")], [9, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(bytes[at("crashed epochs")][..8], 10_u64.to_le_bytes());
    assert_eq!(at("MAC").end, bytes.len());

    let keys = JournalKey::derive(&key(2), &VolumeId([3; 16]), 4);
    let header = JournalHeader {
        volume: VolumeId([3; 16]),
        epoch: 4,
        generation: 5,
        tail: 6000,
        sequence: 7,
        length: 80_000,
        previous: 9,
    };
    let bytes = header.seal(&keys);
    let at = |what| place(&tables["journal header"], what, 0);
    assert_eq!(bytes[at("magic")], *b"ENVLPJNL");
    assert_eq!(bytes[at("volume id")], [3; 16]);
    for (what, number) in [
        ("epoch", 4_u64),
        ("generation", 5),
        ("tail", 6000),
        ("sequence", 7),
        ("length", 80_000),
        ("previous epoch", 9),
    ] {
        assert_eq!(bytes[at(what)], number.to_le_bytes(), "{what}");
    }

    let mut record = RecordBuilder::new(
        Vec::new(),
        RecordKind::Change,
        (&FileId([1; 16]), 2, b"ab/c"),
        Resize::Exactly(3),
        1,
    );
    record.extent(4096, b"body1");
    let bytes = record.seal(&keys, 4, 8);
    let n = bytes.len() - total(&tables["journal record"]);
    let at = |what| place(&tables["journal record"], what, n);
    assert_eq!(bytes[at("magic")], *b"EJR1");
    assert_eq!(bytes[at("kind")], [1]);
    assert_eq!(bytes[at("resize")], [2]);
    assert_eq!(bytes[at("number of extents")], [1, 0]);
    assert_eq!(
        bytes[at("length of the record")],
        (bytes.len() as u32).to_le_bytes()
    );
    assert_eq!(bytes[at("length of the path")], [4, 0]);
    assert_eq!(bytes[at("sequence")], 8_u64.to_le_bytes());
    assert_eq!(bytes[at("epoch")], 4_u64.to_le_bytes());
    assert_eq!(bytes[at("file id")], [1; 16]);
    assert_eq!(bytes[at("inode")], 2_u64.to_le_bytes());
    assert_eq!(bytes[at("cipher size")], 3_u64.to_le_bytes());
    assert_eq!(bytes[at("length of the body")], [5, 0, 0, 0]);
    let mut body = vec![0, 16, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0];
    body.extend(b"ab/cbody1\0\0\0");
    assert_eq!(bytes[at("extents, path, body")], body);
    assert_eq!(at("tag").end, bytes.len());
}

/// Every label that goes into a derivation or a tag, and every reserved name, is in the page.
#[test]
fn the_labels_are_those_of_the_code() {
    let page = page();
    let mut labels = Vec::new();
    for file in [
        "content/keys.rs",
        "format/journal.rs",
        "format/kept_ctime.rs",
        "format/mark.rs",
        "format/record.rs",
        "format/slot.rs",
        "format/state.rs",
        "kms/store/protector.rs",
        "kms/store/seal.rs",
        "kms/wrap.rs",
        "names/mod.rs",
        "names/stored.rs",
        "names/xattr.rs",
        "volume/record_io.rs",
        "volume/run_log.rs",
    ] {
        let source = std::fs::read_to_string(root().join("src").join(file)).unwrap();
        let code = source
            .lines()
            .filter(|line| !line.trim_start().starts_with("//"))
            .collect::<Vec<_>>()
            .join("\n");
        for (at, quote) in code.match_indices("b\"") {
            // Not the end of a string.
            if code[..at].ends_with([' ', '(', '[', '&', '\n']) {
                let label = code[at + quote.len()..].split('"').next().unwrap();
                labels.push((file, label.to_owned()));
            }
        }
    }
    assert!(labels.len() > 25, "{labels:?}");
    for (file, label) in labels {
        // Escapes stand in the page in words.
        let label = label.trim_end_matches("\\n").trim_end_matches("\\0");
        assert!(
            page.contains(label),
            "{file}: the page doesn't have {label:?}"
        );
    }
    for whole in ["envelopefs ctimes", "envelopefs names", "envelopefs record"] {
        assert!(page.contains(&format!("\"{whole}\"")));
    }
}

#[test]
fn mandoc_finds_no_fault() {
    let output = Command::new("mandoc")
        .args(["-T", "lint", "-W", "warning"])
        .arg(root().join("man/envelopefs-format.5"))
        .output()
        .expect("mandoc is installed (apt-get install mandoc)");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.is_empty(), "{text}");
}
