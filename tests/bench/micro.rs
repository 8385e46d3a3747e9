//! What single steps cost: `cargo bench --bench micro [-- FILTER]`.
//!
//! Blocks sealed and opened, a header built and read, a name encrypted and decrypted, a data key
//! generated and unwrapped by the key manager (policy, state and audit record included).

use std::sync::Arc;

use divan::counter::BytesCount;
use divan::{Bencher, black_box};

use envelopefs::content::{BlockIndex, FileKeys};
use envelopefs::format::{
    Entry, FileId, KeyRole, PAGE, SLOT_LEN, STATE_LEN, STATIC_LEN, Slot, State, StateFlags,
    StaticPart, Suite, VolumeId, WrappedKey,
};
use envelopefs::kms::{
    CreateOptions, DataKey, EncryptionContext, KeyId, KeySource, Kms, ProtectorInput, Requester,
    VolumeKeys, volume_context,
};
use envelopefs::names::{DirId, NameMode, Names};
use envelopefs::secret::Key256;

/// A block, and requests as the kernel sends them, in bytes.
const RUNS: [usize; 3] = [4 << 10, 128 << 10, 1 << 20];

fn main() {
    divan::main();
}

fn key(seed: u8) -> Key256 {
    Key256::init(|bytes| bytes.fill(seed))
}

fn volume() -> VolumeId {
    VolumeId([3; 16])
}

fn file_keys() -> FileKeys {
    FileKeys::derive(&key(1), &volume(), &FileId([4; 16]), 1)
}

fn seal(keys: &FileKeys, plain: &[u8], cipher: &mut [u8], entries: &mut Vec<Entry>) {
    entries.clear();
    for (index, (from, to)) in plain.chunks(PAGE).zip(cipher.chunks_mut(PAGE)).enumerate() {
        let block = BlockIndex(index as u64);
        entries.push(keys.seal_block(block, None, from, to));
    }
}

#[divan::bench(args = RUNS)]
fn seal_run(bencher: Bencher<'_, '_>, len: usize) {
    let (keys, plain) = (file_keys(), vec![7; len]);
    let (mut cipher, mut entries) = (vec![0; len], Vec::with_capacity(len / PAGE));
    bencher
        .counter(BytesCount::new(len))
        .bench_local(|| seal(&keys, black_box(&plain), &mut cipher, &mut entries));
}

/// In place, as a read does; the copy of the ciphertext beforehand is not counted.
#[divan::bench(args = RUNS)]
fn open_run(bencher: Bencher<'_, '_>, len: usize) {
    let (keys, mut cipher, mut entries) = (file_keys(), vec![0; len], Vec::new());
    seal(&keys, &vec![7; len], &mut cipher, &mut entries);
    bencher
        .counter(BytesCount::new(len))
        .with_inputs(|| cipher.clone())
        .bench_local_values(|mut data| {
            for (index, (entry, block)) in entries.iter().zip(data.chunks_mut(PAGE)).enumerate() {
                let opened = keys.open_block(BlockIndex(index as u64), entry, block);
                opened.expect("what was sealed opens");
            }
            data
        });
}

/// The keys of a file, from its data key.
#[divan::bench]
fn derive_file_keys() -> FileKeys {
    file_keys()
}

/// The first 1024 bytes of a file: static part, slot, state.
struct Header {
    static_part: [u8; STATIC_LEN],
    slot: [u8; SLOT_LEN],
    state: [u8; STATE_LEN],
}

fn slot(blob: &[u8]) -> Slot {
    Slot {
        generation: 1,
        keys: vec![WrappedKey {
            key_generation: 1,
            role: KeyRole::Current,
            blob: blob.to_vec(),
        }],
    }
}

fn build(keys: &FileKeys, blob: &[u8]) -> Header {
    let static_part = StaticPart {
        suite: Suite::Aes256GcmHkdfSha256,
        file_id: FileId([4; 16]),
    }
    .encode();
    let state = State {
        size: 1 << 20,
        flags: StateFlags { sparse: false },
        seals: 0,
        epoch: 0,
    };
    Header {
        static_part,
        slot: slot(blob)
            .seal(keys.header(), &volume(), &static_part)
            .expect("it fits"),
        state: state.seal(keys.content()),
    }
}

#[divan::bench]
fn header_build(bencher: Bencher<'_, '_>) {
    let (keys, scene) = (file_keys(), Scene::new());
    bencher.bench_local(|| build(&keys, black_box(&scene.wrapped.blob)));
}

/// Parsed and authenticated, as an open does; its keys are at hand.
#[divan::bench]
fn header_parse(bencher: Bencher<'_, '_>) {
    let (keys, scene) = (file_keys(), Scene::new());
    let header = build(&keys, &scene.wrapped.blob);
    bencher.bench_local(|| {
        let header = black_box(&header);
        let static_part = StaticPart::parse(&header.static_part).expect("a static part");
        let slot = Slot::parse(&header.slot).expect("a slot");
        let authentic =
            Slot::authentic(&header.slot, keys.header(), &volume(), &header.static_part);
        assert!(authentic, "the slot is authentic");
        let state = State::open(&header.state, keys.content()).expect("a state");
        (static_part, slot, state)
    });
}

/// A name of a source tree, and the longest that has one entry.
const NAMES: [&str; 2] = [
    "scheduler-policy.c",
    "a-name-that-is-as-long-as-they-come-before-a-second-entry-has-to-hold-their-full-form-\
     which-takes-one-hundred-and-seventy-bytes-or-so-in-base64-after-the-synthetic-iv",
];

#[divan::bench(args = NAMES.map(str::len))]
fn name_encrypt(bencher: Bencher<'_, '_>, len: usize) {
    let (names, dir) = (Names::new(&key(2), NameMode::Encrypted), DirId([5; 16]));
    let name = NAMES.iter().find(|name| name.len() == len).expect("a name");
    bencher.bench_local(|| {
        names
            .encode(&dir, black_box(name.as_bytes()))
            .expect("a valid name")
    });
}

#[divan::bench(args = NAMES.map(str::len))]
fn name_decrypt(bencher: Bencher<'_, '_>, len: usize) {
    let (names, dir) = (Names::new(&key(2), NameMode::Encrypted), DirId([5; 16]));
    let name = NAMES.iter().find(|name| name.len() == len).expect("a name");
    let stored = names.encode(&dir, name.as_bytes()).expect("a valid name");
    bencher.bench_local(|| {
        names
            .decode(&dir, black_box(stored.entry().as_bytes()))
            .expect("what was encrypted decrypts")
    });
}

/// A volume's way to its key manager, and a data key.
struct Scene {
    keys: Arc<dyn VolumeKeys>,
    cmk: KeyId,
    context: EncryptionContext,
    wrapped: DataKey,
    _dir: tempfile::TempDir,
}

/// A user's process, whose access the audit record names.
const REQUESTER: Requester = Requester {
    uid: Some(1000),
    pid: Some(1),
};

impl Scene {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let protector = ProtectorInput::key(vec![7; 32].into()).expect("a key file");
        let options = CreateOptions::default();
        let kms = Kms::create(&dir.path().join("ks"), &protector, &options).expect("a keystore");
        let cmk = kms
            .service_key("alias/envelopefs/volume")
            .expect("a service-managed key");
        let keys = Arc::new(kms).for_volume(&volume());
        let context = volume_context(&volume());
        let wrapped = keys
            .generate(REQUESTER, &cmk, &context)
            .expect("a data key");
        Self {
            keys,
            cmk,
            context,
            wrapped,
            _dir: dir,
        }
    }
}

#[divan::bench]
fn data_key_generate(bencher: Bencher<'_, '_>) {
    let scene = Scene::new();
    bencher.bench_local(|| {
        scene
            .keys
            .generate(REQUESTER, &scene.cmk, black_box(&scene.context))
            .expect("a data key")
    });
}

#[divan::bench]
fn data_key_unwrap(bencher: Bencher<'_, '_>) {
    let scene = Scene::new();
    bencher.bench_local(|| {
        scene
            .keys
            .decrypt(REQUESTER, black_box(&scene.wrapped.blob), &scene.context)
            .expect("what was wrapped unwraps")
    });
}
