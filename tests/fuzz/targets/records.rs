//! The records of the format room, and the arithmetic of content.

use envelopefs::content::{
    BlockIndex, EntryPage, FileKeys, GroupIndex, Layout, MAX_SIZE, PlainOffset,
};
use envelopefs::crypto::{AeadKey, mac};
use envelopefs::format::blob::{Blob, BlobHeader};
use envelopefs::format::journal::{
    JournalHeader, JournalKey, JournalRecord, RECORD_HEAD, RECORD_TAIL, parse_offer,
};
use envelopefs::format::{
    ENTRIES_AT, FileId, FormatError, HEADER_LEN, Mark, PAGE, SLOT_A_AT, SLOT_B_AT, SLOT_LEN,
    SLOT_MAC_AT, STATE_AT, STATE_LEN, STATIC_LEN, Slot, State, StaticPart, VolumeId, VolumeRecord,
};
use envelopefs::kms::KeyId;
use envelopefs::secret::Key256;
use envelopefs::volume::inspect;

use super::{Input, World};

const VOLUME: VolumeId = VolumeId([0x76; 16]);

fn key(byte: u8) -> Key256 {
    Key256::init(|key| key.fill(byte))
}

/// A cipher size (8 bytes), then a page 0 or what there is of it.
pub fn header(data: &[u8]) {
    let mut input = Input(data);
    let size = input.number();
    let page = input.rest();
    if let Ok(part) = StaticPart::parse(page) {
        assert_eq!(part.encode()[..], page[..STATIC_LEN]);
    }
    let mut static_part = [0; STATIC_LEN];
    let len = page.len().min(STATIC_LEN);
    static_part[..len].copy_from_slice(&page[..len]);
    for at in [SLOT_A_AT, SLOT_B_AT] {
        let bytes = page.get(at..).unwrap_or_default();
        slot(bytes, &static_part);
    }
    state(page.get(STATE_AT..HEADER_LEN).unwrap_or_default());
    let keys = FileKeys::derive(&key(1), &VOLUME, &FileId([2; 16]), 0);
    let inline = page.get(ENTRIES_AT..).unwrap_or_default();
    assert!(keys.open_inline(inline).is_err(), "forged inline bytes");
    if let Ok(found) = inspect(page, size) {
        assert_eq!(found.cipher_size, size);
        assert!(found.slots.iter().filter(|slot| slot.newest).count() <= 1);
    }
}

fn slot(bytes: &[u8], static_part: &[u8; STATIC_LEN]) {
    let parsed = Slot::parse(bytes);
    assert!(parsed.is_err() || bytes.len() >= SLOT_LEN);
    let Ok(Some(slot)) = parsed else { return };
    let bytes: &[u8; SLOT_LEN] = bytes.first_chunk().expect("it parsed");
    let sealed = slot
        .seal(&key(3), &VOLUME, static_part)
        .expect("what parses can be written");
    assert_eq!(sealed[..SLOT_MAC_AT], bytes[..SLOT_MAC_AT]);
    assert!(Slot::authentic(&sealed, &key(3), &VOLUME, static_part));
    assert!(!Slot::authentic(bytes, &key(4), &VOLUME, static_part));
    for wrapped in slot.current() {
        let _ = BlobHeader::parse(&wrapped.blob);
    }
}

/// The state as it stands is forged; sealed anew, its fields are parsed.
fn state(bytes: &[u8]) {
    let aead = AeadKey::new(&key(5));
    let expected = if bytes.len() == STATE_LEN {
        FormatError::Unauthentic
    } else {
        FormatError::Short
    };
    assert_eq!(State::open(bytes, &aead), Err(expected));
    let Some(head) = bytes.first_chunk::<36>() else {
        return;
    };
    let sealed = aead.seal(&[b"state", head.as_slice()].concat(), &[], &mut []);
    let whole = [head.as_slice(), &sealed.nonce, &sealed.tag].concat();
    match State::open(&whole, &aead) {
        Ok(state) => assert_eq!(state.seal(&aead)[..36], *head),
        Err(error) => assert_ne!(error, FormatError::Unauthentic),
    }
}

/// A group, a size and an offset (8 bytes each), then a page of entries.
pub fn entries(data: &[u8]) {
    let mut input = Input(data);
    let (group, size, offset) = (input.number(), input.number(), input.number());
    if let Ok(layout) = Layout::of_cipher_size(size)
        && let Ok(plain) = PlainOffset::new(layout.size())
        && let Layout::Blocks { .. } = layout
    {
        // An entry page without data behind it adds nothing, so the size is at most this one.
        assert!(Layout::cipher_size(plain).0 <= size);
        let again = Layout::of_cipher_size(Layout::cipher_size(plain).0);
        assert_eq!(again, Ok(layout));
    }
    if let Ok(offset) = PlainOffset::new(offset) {
        let (block, skip) = offset.block();
        assert_eq!(block.plain_start() + skip as u64, offset.get());
        let (group, place) = block.place();
        assert!(place < group.blocks());
        assert_eq!(group.first_block().0 + place as u64, block.0);
        assert_eq!(GroupIndex::at(block.data_at().0), group);
        assert_eq!(GroupIndex::at(group.entry_at(place).0), group);
        let _ = offset.plus(size);
        assert!(block.len_in(size) <= PAGE);
        assert!(i64::try_from(Layout::cipher_size(offset).0).is_ok());
    }
    let group = GroupIndex(group % (MAX_SIZE / PAGE as u64 / 128));
    let mut page = Box::new([0; PAGE]);
    let bytes = input.rest();
    let len = bytes.len().min(PAGE);
    page[..len].copy_from_slice(&bytes[..len]);
    entry_page(group, &page);
}

fn entry_page(group: GroupIndex, bytes: &[u8; PAGE]) {
    let page = EntryPage::from_bytes(group, bytes);
    let mut again = EntryPage::empty(group);
    let keys = FileKeys::derive(&key(6), &VOLUME, &FileId([7; 16]), 0);
    for place in 0..group.blocks() {
        let block = BlockIndex(group.first_block().0 + place as u64);
        assert!(page.holds(block));
        let (at, stored) = page.span(place..place + 1);
        assert_eq!(at, group.entry_at(place).0);
        match page.get(place) {
            Ok(entry) => {
                again.set(place, entry.as_ref());
                assert_eq!(again.span(place..place + 1).1, stored);
                if let Some(entry) = entry {
                    let mut data = [8; 20];
                    assert!(keys.open_block(block, &entry, &mut data).is_err());
                    assert_eq!(data, [0; 20]);
                }
            }
            Err(_) => assert!(stored[29] > 1),
        }
    }
}

/// A mode, then a volume record; or its body, which gets a head and a MAC here.
pub fn record(data: &[u8]) {
    let mut input = Input(data);
    let framed = input.byte() & 1 == 1;
    let rest = input.rest();
    let bytes = if framed {
        World::framed_record(rest, &key(9))
    } else {
        rest.to_vec()
    };
    assert_eq!(VolumeRecord::authentic(&bytes, &key(9)), framed);
    let Ok(record) = VolumeRecord::parse(&bytes) else {
        return;
    };
    assert!(!record.volume_keys.is_empty());
    match record.seal(&key(10)) {
        Ok(sealed) => {
            assert_eq!(VolumeRecord::parse(&sealed), Ok(record));
            assert!(VolumeRecord::authentic(&sealed, &key(10)));
            assert!(!VolumeRecord::authentic(&sealed, &key(11)));
        }
        // Numbers can be written longer than they need be, but not shorter.
        Err(error) => panic!("what parses can be written: {error}"),
    }
}

/// A mode, then a journal header, a record or a mark, which get their tags here (or don't).
pub fn journal(data: &[u8]) {
    let mut input = Input(data);
    let mode = input.byte();
    let rest = input.rest();
    let keys = JournalKey::derive(&key(12), &VOLUME, 5);
    let framed = |bytes: &[u8]| match mode & 4 {
        0 => bytes.to_vec(),
        _ => [bytes, &keys.tag(bytes)].concat(),
    };
    match mode & 3 {
        0 => {
            let bytes = framed(&rest[..rest.len().min(80)]);
            if let Ok((header, _)) = JournalHeader::open(&bytes, &key(12), &VOLUME) {
                assert_eq!((mode & 4, header.volume, header.epoch), (4, VOLUME, 5));
                let sealed = header.seal(&keys);
                assert_eq!(sealed[..80], bytes[..80]);
            }
        }
        1 => {
            // The length and what names the place, so that the rest is reached.
            let mut bytes = rest.to_vec();
            if bytes.len() >= RECORD_HEAD && mode & 8 == 8 {
                bytes.truncate(bytes.len() / 4 * 4);
                let len = (bytes.len() + RECORD_TAIL) as u32;
                bytes[8..12].copy_from_slice(&len.to_le_bytes());
            }
            let bytes = framed(&bytes);
            if let Ok(record) = JournalRecord::open(&bytes, &keys, 5, 7) {
                assert_eq!(mode & 4, 4);
                assert_eq!(JournalRecord::peek(&bytes, 5, 7), Ok(record.len));
                for (offset, at, len) in record.extents {
                    assert!(offset.checked_add(len as u64).is_some());
                    let _ = parse_offer(&bytes[at..at + len]);
                }
                assert!(JournalRecord::open(&bytes, &keys, 5, 8).is_err());
            }
        }
        _ => {
            let mut bytes = rest.to_vec();
            if mode & 4 == 4 {
                bytes.extend(mac(&key(13), &[b"mark", rest]));
            }
            if let Ok(mark) = Mark::open(&bytes, &key(13)) {
                assert_eq!(mode & 4, 4);
                let sealed = mark.seal(&key(13));
                assert_eq!(Mark::open(&sealed, &key(13)), Ok(mark));
            }
            let _ = Mark::open_file(&bytes, &key(13));
        }
    }
}

/// A wrapped key.
pub fn blob(world: &World, data: &[u8]) {
    if let Ok(blob) = Blob::parse(data) {
        assert_eq!(blob.header.encode(), *blob.header_bytes);
        let whole = [blob.header_bytes, blob.ciphertext, blob.tag.as_slice()].concat();
        assert_eq!(whole, data);
        let id = KeyId::new(blob.header.key_id, blob.header.multi_region);
        assert_eq!(id.to_string().parse::<KeyId>().ok(), Some(id));
    }
    for (known, context) in world.known_blobs() {
        let volume = context.iter().next().expect("the volume's id").1;
        let caller = world.kms.volume_caller(&volume.parse().expect("an id"));
        let client = world.kms.client(&caller);
        let opened = client.decrypt_data_key(data, context);
        assert_eq!(opened.is_ok(), data == known, "a forged blob opens");
        let key = world.key;
        let moved = client.re_encrypt_data_key(data, context, &key, context);
        assert_eq!(moved.is_ok(), data == known);
    }
}
