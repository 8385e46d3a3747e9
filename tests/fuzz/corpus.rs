//! The checked-in corpus, `tests/fuzz/corpus/TARGET/NAME`, and how it is made: of the golden volumes.
//! What a fuzzer found is kept beside what is made here.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use envelopefs::format::journal::{
    JournalHeader, JournalKey, RECORD_TAIL, RecordBuilder, RecordKind, Resize,
};
use envelopefs::format::{FileId, KeyRole, Mark, SLOT_LEN, STATIC_LEN, Slot, VolumeId, WrappedKey};
use envelopefs::names::{DirId, NameMode, Names, Stored};
use envelopefs::secret::Key256;

use crate::targets::World;

fn folder(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fuzz/corpus")
        .join(target)
}

/// The inputs of a target by name.
pub fn load(target: &str) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(folder(target))
        .unwrap_or_else(|error| panic!("the corpus of {target}: {error}"));
    entries
        .map(|entry| {
            let path = entry.expect("an entry").path();
            let name = path.file_name().expect("a name").to_string_lossy();
            (name.into_owned(), fs::read(&path).expect("an input"))
        })
        .collect()
}

/// Writes an input.
pub fn store(target: &str, name: &str, data: &[u8]) {
    fs::create_dir_all(folder(target)).expect("a folder");
    fs::write(folder(target).join(name), data).expect("an input");
}

/// A piece behind its length, as the targets take them off.
fn piece(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u16).to_le_bytes(), bytes].concat()
}

fn pieces(all: &[&[u8]]) -> Vec<u8> {
    all.iter().flat_map(|bytes| piece(bytes)).collect()
}

/// A header, records and a mark, without their tags.
fn journal() -> Vec<(&'static str, u8, Vec<u8>)> {
    let secret = |byte: u8| Key256::init(|key| key.fill(byte));
    let volume = VolumeId([0x76; 16]);
    let keys = JournalKey::derive(&secret(12), &volume, 5);
    let header = JournalHeader {
        volume,
        epoch: 5,
        generation: 2,
        tail: 4096,
        sequence: 7,
        length: 1 << 20,
        previous: 3,
    };
    let record = |kind, resize, bodies: &[(u64, &[u8])]| {
        let of = (&FileId([1; 16]), 99, &b"AAAA/BBBB"[..]);
        let mut record = RecordBuilder::new(Vec::new(), kind, of, resize, bodies.len());
        for (offset, body) in bodies {
            record.extent(*offset, body);
        }
        let mut bytes = record.seal(&keys, 5, 7);
        bytes.truncate(bytes.len() - RECORD_TAIL);
        bytes
    };
    let entry = [&[7; 28][..], &[0, 0, 1, 0]].concat();
    let offered = [&entry[..], &100_u32.to_le_bytes()].concat();
    let change: [(u64, &[u8]); 2] = [(4096, &[5; 300]), (1024, &entry)];
    let mark = Mark {
        in_use: true,
        epoch: 5,
        generation: 4,
        journal: true,
        crashed: vec![3, 4],
    };
    let mark = mark.seal(&secret(13));
    vec![
        ("header", 4, header.seal(&keys)[..80].to_vec()),
        (
            "change",
            5 + 8,
            record(RecordKind::Change, Resize::AtLeast(8192), &change),
        ),
        (
            "cut",
            5 + 8,
            record(RecordKind::Change, Resize::Exactly(5000), &change[1..]),
        ),
        ("done", 5 + 8, record(RecordKind::Done, Resize::Keep, &[])),
        (
            "offer",
            5 + 8,
            record(RecordKind::Offer, Resize::Keep, &[(8192, &offered)]),
        ),
        ("mark", 6, mark[..mark.len() - 32].to_vec()),
    ]
}

/// The inputs that come of the golden volumes: target, name, bytes.
pub fn made(world: &World) -> Vec<(&'static str, String, Vec<u8>)> {
    let mut all = Vec::new();
    let mut add = |target, name: &str, data: Vec<u8>| all.push((target, name.to_owned(), data));
    let plain = &world.strict.dir;
    let read = |name: &str| fs::read(plain.join(name)).expect("a golden file");
    let number = |number: usize| (number as u64).to_le_bytes();

    for name in ["small.txt", "block-shortest", "sparse"] {
        let cipher = read(name);
        let page = &cipher[..cipher.len().min(4096)];
        add("header", name, [&number(cipher.len())[..], page].concat());
    }
    let page = [&read("small.txt")[..64], &four_keys(), &[0; 512]].concat();
    add("header", "four-keys", [&number(5000)[..], &page].concat());
    for (name, group, at) in [("sparse", 0, 0), ("sparse", 1, 97), ("grown", 1, 97)] {
        let cipher = read(name);
        let page = &cipher[at * 4096..][..4096];
        let numbers = [number(group), number(cipher.len()), number(at * 4096)].concat();
        add(
            "entries",
            &format!("{name}-{group}"),
            [&numbers[..], page].concat(),
        );
    }
    let full = [number(3), number(1 << 30), number(1 << 29)].concat();
    let entry = &read("grown")[97 * 4096..][..32];
    add("entries", "full", [&full[..], &entry.repeat(128)].concat());

    let control = |volume: &str, name: &str| {
        let path = world.dir.path().join(volume).join(".envelopefs").join(name);
        fs::read(path).expect("a control file")
    };
    for volume in ["plain", "control"] {
        let record = control(volume, "volume.a");
        add("record", volume, [&[0], &record[..]].concat());
        let body = &record[16..record.len() - 32];
        add("record", &format!("{volume}-body"), [&[1], body].concat());
    }
    for (name, mode, bytes) in journal() {
        add("journal", name, [&[mode], &bytes[..]].concat());
    }
    for (blob, _) in world.known_blobs() {
        add("blob", "volume-key", blob.to_vec());
    }
    add("blob", "data-key", read("small.txt")[532..622].to_vec());

    let record = control("control", "volume.a");
    let body = &record[16..record.len() - 32];
    let lock = control("control", "lock");
    // As it was when the golden volume was closed; it has been opened since.
    let mark = control("control", "mark");
    for mode in [0, 4, 12] {
        let parts = pieces(&[&record, &record, &mark]);
        let name = format!("mode-{mode}");
        add(
            "volume_control",
            &name,
            [&[mode], &parts[..], &lock].concat(),
        );
    }
    let parts = pieces(&[body, &record, b"in use\n"]);
    add("volume_control", "mode-1", [&[1], &parts[..]].concat());

    for (name, mode) in [
        ("small.txt", 0),
        ("small.txt", 7),
        ("small.txt", 16),
        ("small.txt", 23),
        ("inline-longest", 0),
        ("inline-longest", 2),
        ("inline-longest", 23),
        ("block-shortest", 0),
        ("block-shortest", 3),
        ("block-shortest", 8),
        ("block-shortest", 19),
        ("blocks", 16),
        ("overwritten", 0),
        ("empty", 16),
    ] {
        let data = [&[mode], &number(5000)[..], &[0; 4], &read(name)].concat();
        add("volume_file", &format!("{name}-{mode}"), data);
    }
    for mode in [32, 35, 48, 51] {
        // Its first pages alone, extended to its length: the rest is holes.
        let cipher = read("sparse");
        let length = number(cipher.len() * 2);
        let data = [&[mode], &length[..], &[0; 4], &cipher[..8192]].concat();
        add("volume_file", &format!("sparse-{mode}"), data);
    }
    names(world, &mut add);
    words(&mut add);
    serving(&mut add);
    all
}

/// A slot with as many wrapped keys as there can be.
fn four_keys() -> [u8; SLOT_LEN] {
    let keys = (0..4).map(|number| WrappedKey {
        key_generation: number / 2,
        role: if number < 2 {
            KeyRole::Previous
        } else {
            KeyRole::Current
        },
        blob: vec![number; 90],
    });
    let slot = Slot {
        generation: 9,
        keys: keys.collect(),
    };
    let key = Key256::init(|key| key.fill(3));
    slot.seal(&key, &VolumeId([0x76; 16]), &[0; STATIC_LEN])
        .expect("it fits")
}

type Add<'a> = dyn FnMut(&'static str, &str, Vec<u8>) + 'a;

fn names(world: &World, add: &mut Add<'_>) {
    let names = Names::new(&world.secrets.names, NameMode::Encrypted);
    let root = DirId::ROOT;
    let dir_id = DirId([0x42; 16]).to_text();
    let Ok(Stored::Short(short)) = names.encode(&root, b"another.txt") else {
        unreachable!("a short name")
    };
    let Ok(Stored::Long { entry, full, .. }) = names.encode(&root, &[b'l'; 190]) else {
        unreachable!("a long name")
    };
    add("names", "short", pieces(&[&short, b""]));
    add("names", "long", pieces(&[&entry, &full]));
    add("names", "plain", pieces(&[b"caf\xe9.txt", b"value"]));
    add("names", "plain-long", pieces(&[&[b'p'; 255], b"value"]));
    add("names", "reserved", pieces(&[b".envelopefs.u.x", b""]));
    add("names", "dir-id", pieces(&[dir_id.as_bytes(), b""]));
    add("names", "slash", pieces(&[b"a/b", b"\0"]));
    let xattr = names.xattr_name(b"user.comment").expect("a name");
    add("names", "xattr", pieces(&[&xattr.stored, &[7; 40]]));

    let target = fs::read_link(world.strict.dir.join("link")).expect("a symlink");
    let target = target.as_os_str().as_encoded_bytes();
    let pointer = fs::read_link(world.strict.dir.join("link-longest")).expect("a symlink");
    let pointer = pointer.as_os_str().as_encoded_bytes();
    let dangling = format!("@{}{:08}", "ab".repeat(16), 3000);
    let tree = |mode: u8, entries: &[(u8, &[u8], &[u8])]| {
        let mut data = vec![mode];
        for (kind, name, contents) in entries {
            data.push(*kind);
            data.extend(pieces(&[name, contents]));
        }
        data
    };
    let file: &[u8] = &[0; 1056];
    let entries: [(u8, &[u8], &[u8]); 5] = [
        (0, &short, file),
        (3, &entry, &full),
        (1, &short, dir_id.as_bytes()),
        (2, &short, target),
        (0, b".envelopefs.x", b""),
    ];
    add("volume_tree", "file", tree(0, &entries[..1]));
    add("volume_tree", "long", tree(0, &entries[1..2]));
    add("volume_tree", "dir", tree(0, &entries[2..3]));
    add("volume_tree", "link", tree(0, &entries[3..4]));
    add(
        "volume_tree",
        "foreign",
        tree(0, &[(0, b"foreign", b"x"), entries[4], entries[1]]),
    );
    let entries: [(u8, &[u8], &[u8]); 6] = [
        (0, b"name", file),
        (0, b".envelopefs.u.name", file),
        (1, b"folder", b""),
        (2, b"to", target),
        (2, b"far", pointer),
        (2, b"nowhere", dangling.as_bytes()),
    ];
    add("volume_tree", "plain", tree(1, &entries));
}

fn words(add: &mut Add<'_>) {
    let texts: [(&str, &[u8]); 12] = [
        (
            "options",
            b"ro,allow_other,nodev,idle=10m,key-ttl=60s,umask=022,uid=0",
        ),
        (
            "options-escapes",
            b"fsname=a\\,b\\\\c,subtype=,x-systemd.automount,log=/x",
        ),
        (
            "options-two",
            b"rw,suid\0keystore=/k,passphrase-file=/p,key-file=/f,gid=5",
        ),
        ("id", b"1234abcd-12ab-34cd-56ef-1234567890ab"),
        ("id-multi-region", b"mrk-1234abcd12ab34cd56ef1234567890ab"),
        ("alias", b"alias/envelopefs/volume"),
        (
            "arn",
            b"arn:aws:kms:us-east-1:000000000000:key/1234abcd-12ab-34cd-56ef-1234567890ab",
        ),
        (
            "arn-alias",
            b"arn:aws-cn:kms:eu-west-2:123456789012:alias/my_key-1",
        ),
        ("file-id", b"0123456789abcdefABCDEF9876543210"),
        ("sign", b"+123456789abcdef0123456789abcdef"),
        ("context", b"\x03\0key\x05\0value\x01\0a\x01\0b"),
        ("context-empty", b"\0\0\0\0"),
    ];
    for (name, text) in texts {
        add("words", name, text.to_vec());
    }
}

/// What clients of the key manager send.
fn serving(add: &mut Add<'_>) {
    let signed = "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/kms/aws4_request, \
                  SignedHeaders=host;x-amz-date, Signature=";
    let signed = format!("{signed}{}", "5d".repeat(32));
    let target: &[u8] = b"TrentService.Encrypt";
    let name: &[u8] = b"x-amz-target";
    let all = signed.replace("x-amz-date,", "x-amz-date;x-amz-target,");
    let parts = [all.as_bytes(), name, target, b"/", b"", b"{}"];
    add(
        "sigv4",
        "kms",
        [&pieces(&parts[..5])[..], parts[5]].concat(),
    );
    let parts = [
        signed.as_bytes(),
        b"user-agent".as_slice(),
        b"x y",
        b"/a/../b%20c",
        b"b=%31&a=2",
    ];
    add("sigv4", "path-and-query", pieces(&parts));
    let member = |members: &str| format!("{{\"KeyId\":\"KEY\"{members}}}").into_bytes();
    for (operation, members) in [
        (
            "Encrypt",
            r#","Plaintext":"aGk=","EncryptionContext":{"a":"b"},"GrantTokens":["t"],"DryRun":false"#,
        ),
        (
            "Decrypt",
            r#","CiphertextBlob":"aGk=","EncryptionAlgorithm":"SYMMETRIC_DEFAULT""#,
        ),
        ("GenerateDataKey", r#","KeySpec":"AES_256""#),
        (
            "CreateGrant",
            r#","GranteePrincipal":"arn:aws:iam::000000000000:user/a","Operations":["Encrypt"],"Constraints":{"EncryptionContextSubset":{"a":"b"}}"#,
        ),
        ("TagResource", r#","Tags":[{"TagKey":"a","TagValue":"b"}]"#),
        ("ListGrants", r#","Limit":5,"Marker":"x""#),
        (
            "PutKeyPolicy",
            r#","Policy":"{\"Version\":\"2012-10-17\",\"Statement\":[]}""#,
        ),
        (
            "GetParametersForImport",
            r#","WrappingAlgorithm":"RSAES_OAEP_SHA_256","WrappingKeySpec":"RSA_2048""#,
        ),
    ] {
        let number = envelopefs::kms::api::OPERATIONS
            .iter()
            .position(|name| *name == operation);
        let number = number.expect("an operation") as u8;
        add(
            "request",
            operation,
            [&[number][..], &member(members)].concat(),
        );
    }
    let default = envelopefs::kms::policy::default_policy("111122223333");
    add("policy", "default", default.into_bytes());
    let conditions = r#"{"Version":"2012-10-17","Statement":[{"Sid":"s","Effect":"Deny","NotPrincipal":{"AWS":["arn:aws:iam::111122223333:user/alice","111122223333"]},"NotAction":"kms:De*","Resource":["*","arn:aws:kms:*:111122223333:key/${aws:username}*"],"Condition":{"StringLike":{"kms:EncryptionContext:app":["o?e","${aws:username, 'x'}"]},"ForAllValues:StringEquals":{"kms:EncryptionContextKeys":["a","app"]},"NumericLessThanIfExists":{"kms:RotationPeriodInDays":"365"},"DateGreaterThan":{"aws:CurrentTime":"2015-01-01T00:00:00Z"},"IpAddress":{"aws:SourceIp":["192.0.2.0/24","2001:db8::/32"]},"ArnLike":{"aws:PrincipalArn":"arn:aws:iam::*:user/*"},"Bool":{"kms:MultiRegion":false},"Null":{"kms:ViaService":"true"}}},{"Effect":"Allow","Principal":"*","Action":["kms:*"],"Resource":"*"}]}"#;
    add("policy", "conditions", conditions.as_bytes().to_vec());
}
