//! A file's keys, and the one seal and the one open of its blocks.

use std::sync::Arc;

use super::{BlockIndex, ContentError};
use crate::crypto::{AeadKey, hkdf_sha256};
use crate::format::{ENTRY_LEN, Entry, EntryFlags, FileId, FormatError, State, VolumeId};
use crate::secret::{Key256, Secret};

/// What derives from a file's data key, in 64 bytes: the content key, then the header key.
///
/// HKDF-SHA-256 (RFC 5869) of the data key with salt = volume id ‖ file id and info =
/// "envelopefs file 1".
pub struct FileSecret(Secret<64>);

impl FileSecret {
    /// Derives it.
    pub fn derive(data_key: &Key256, volume: &VolumeId, file: &FileId) -> Self {
        let mut salt = [0; 32];
        salt[..16].copy_from_slice(&volume.0);
        salt[16..].copy_from_slice(&file.0);
        Self(hkdf_sha256(data_key, &salt, &[b"envelopefs file 1"]))
    }
}

/// The keys of a file, ready for use.
pub struct FileKeys {
    content: AeadKey,
    header: Key256,
    generation: u8,
}

/// The sealed bytes of an inline file, as they stand behind its header: entry 0, then ciphertext.
pub struct InlineBytes(pub Vec<u8>);

impl FileKeys {
    /// Derives the keys. `generation` is the data key's number in block entries.
    pub fn derive(data_key: &Key256, volume: &VolumeId, file: &FileId, generation: u8) -> Self {
        Self::new(&FileSecret::derive(data_key, volume, file), generation)
    }

    /// Makes the keys ready for use. `generation` is the data key's number in block entries.
    pub fn new(secret: &FileSecret, generation: u8) -> Self {
        let (content, header) = secret.0.expose().split_at(32);
        let content = Key256::init(|key| key.copy_from_slice(content));
        let header = Key256::init(|key| key.copy_from_slice(header));
        Self {
            content: AeadKey::new(&content),
            header,
            generation,
        }
    }

    /// The data key's number in block entries.
    pub fn generation(&self) -> u8 {
        self.generation
    }

    /// The key that authenticates envelope slots.
    pub fn header(&self) -> &Key256 {
        &self.header
    }

    /// The key that seals the state.
    pub fn content(&self) -> &AeadKey {
        &self.content
    }

    /// A block's associated data: its index (8 bytes), and the entry's last four bytes.
    fn aad(index: BlockIndex, tail: [u8; 4]) -> [u8; 12] {
        let mut aad = [0; 12];
        aad[..8].copy_from_slice(&index.0.to_le_bytes());
        aad[8..].copy_from_slice(&tail);
        aad
    }

    fn seal(
        &self,
        index: BlockIndex,
        flags: EntryFlags,
        sequence: u16,
        plain: &[u8],
        cipher: &mut [u8],
    ) -> Entry {
        let tail = Entry::authenticated(self.generation, flags, sequence);
        let sealed = self.content.seal(&Self::aad(index, tail), plain, cipher);
        Entry {
            sealed,
            key_generation: self.generation,
            flags,
            sequence,
        }
    }

    fn open(
        &self,
        index: BlockIndex,
        flags: EntryFlags,
        entry: &Entry,
        data: &mut [u8],
    ) -> Result<(), ContentError> {
        let opened = if entry.key_generation != self.generation {
            Err(ContentError::OtherKey)
        } else if entry.flags == flags {
            let tail = Entry::authenticated(entry.key_generation, entry.flags, entry.sequence);
            self.content
                .open_in_place(&entry.sealed, &Self::aad(index, tail), data)
                .map_err(|_| ContentError::Unauthentic)
        } else {
            Err(ContentError::Unauthentic)
        };
        if opened.is_err() {
            data.fill(0);
        }
        opened
    }

    /// Seals one block of up to 4096 bytes into `cipher` (of the same length). `before` is the
    /// block's entry so far.
    pub fn seal_block(
        &self,
        index: BlockIndex,
        before: Option<&Entry>,
        plain: &[u8],
        cipher: &mut [u8],
    ) -> Entry {
        let sequence = before.map_or(1, |entry| entry.sequence.wrapping_add(1));
        self.seal(index, EntryFlags::Block, sequence, plain, cipher)
    }

    /// Seals one new block of up to 4096 bytes where it lies.
    pub fn seal_new_block(&self, index: BlockIndex, data: &mut [u8]) -> Entry {
        let (flags, sequence) = (EntryFlags::Block, 1);
        let tail = Entry::authenticated(self.generation, flags, sequence);
        Entry {
            sealed: self.content.seal_in_place(&Self::aad(index, tail), data),
            key_generation: self.generation,
            flags,
            sequence,
        }
    }

    /// Opens one block in place.
    ///
    /// # Errors
    /// [`ContentError`]; `data` is then zeros.
    pub fn open_block(
        &self,
        index: BlockIndex,
        entry: &Entry,
        data: &mut [u8],
    ) -> Result<(), ContentError> {
        self.open(index, EntryFlags::Block, entry, data)
    }

    /// Seals the bytes of an inline file.
    pub fn seal_inline(&self, plain: &[u8]) -> InlineBytes {
        let mut out = vec![0; ENTRY_LEN + plain.len()];
        let (entry, cipher) = out.split_at_mut(ENTRY_LEN);
        let sealed = self.seal(BlockIndex(0), EntryFlags::Inline, 0, plain, cipher);
        entry.copy_from_slice(&sealed.encode());
        InlineBytes(out)
    }

    /// Opens the bytes of an inline file: entry 0 and the ciphertext behind it.
    ///
    /// # Errors
    /// [`ContentError`].
    pub fn open_inline(&self, bytes: &[u8]) -> Result<Vec<u8>, ContentError> {
        let (entry, cipher) = inline_parts(bytes)?;
        self.open_inline_parts(&entry, cipher)
    }

    fn open_inline_parts(&self, entry: &Entry, cipher: &[u8]) -> Result<Vec<u8>, ContentError> {
        let mut plain = cipher.to_vec();
        self.open(BlockIndex(0), EntryFlags::Inline, entry, &mut plain)?;
        Ok(plain)
    }
}

fn inline_parts(bytes: &[u8]) -> Result<(Entry, &[u8]), ContentError> {
    let (entry, cipher) = bytes
        .split_first_chunk::<ENTRY_LEN>()
        .ok_or(ContentError::Unauthentic)?;
    let entry = Entry::parse(entry).ok().flatten();
    Ok((entry.ok_or(ContentError::Unauthentic)?, cipher))
}

/// The keys of an open file: those of its data key, which seals, and while a re-encrypt is under way
/// those of the data key before it as well, which still opens what it sealed.
#[derive(Clone)]
pub struct KeyRing {
    current: Arc<FileKeys>,
    previous: Option<Arc<FileKeys>>,
}

impl KeyRing {
    /// The keys of one data key.
    pub fn new(current: Arc<FileKeys>) -> Self {
        Self {
            current,
            previous: None,
        }
    }

    /// Those of the current data key.
    pub fn current(&self) -> &Arc<FileKeys> {
        &self.current
    }

    /// Those of the data key before it, while they are needed.
    pub fn previous(&self) -> Option<&Arc<FileKeys>> {
        self.previous.as_ref()
    }

    /// Takes in the keys that still open blocks, or lets go of them.
    pub fn set_previous(&mut self, previous: Option<Arc<FileKeys>>) {
        self.previous = previous;
    }

    /// The keys that an entry names; the current ones when it names neither: they refuse it.
    fn of(&self, entry: &Entry) -> &FileKeys {
        match &self.previous {
            Some(previous) if previous.generation == entry.key_generation => previous,
            _ => &self.current,
        }
    }

    /// The key that authenticates envelope slots.
    pub fn header(&self) -> &Key256 {
        self.current.header()
    }

    /// The key that seals the state.
    pub fn content(&self) -> &AeadKey {
        self.current.content()
    }

    /// As [`FileKeys::seal_block`], under the current data key.
    pub fn seal_block(
        &self,
        index: BlockIndex,
        before: Option<&Entry>,
        plain: &[u8],
        cipher: &mut [u8],
    ) -> Entry {
        self.current.seal_block(index, before, plain, cipher)
    }

    /// As [`FileKeys::seal_new_block`], under the current data key.
    pub fn seal_new_block(&self, index: BlockIndex, data: &mut [u8]) -> Entry {
        self.current.seal_new_block(index, data)
    }

    /// As [`FileKeys::open_block`], under the data key that the entry names.
    ///
    /// # Errors
    /// [`ContentError`]; `data` is then zeros.
    pub fn open_block(
        &self,
        index: BlockIndex,
        entry: &Entry,
        data: &mut [u8],
    ) -> Result<(), ContentError> {
        self.of(entry).open_block(index, entry, data)
    }

    /// As [`FileKeys::seal_inline`], under the current data key.
    pub fn seal_inline(&self, plain: &[u8]) -> InlineBytes {
        self.current.seal_inline(plain)
    }

    /// As [`FileKeys::open_inline`], under the data key that entry 0 names.
    ///
    /// # Errors
    /// [`ContentError`].
    pub fn open_inline(&self, bytes: &[u8]) -> Result<Vec<u8>, ContentError> {
        let (entry, cipher) = inline_parts(bytes)?;
        self.of(&entry).open_inline_parts(&entry, cipher)
    }

    /// Opens the state, which is under the previous data key for a short while after there is a new
    /// one. What it counted then are that one's seals: the new one begins at none.
    ///
    /// # Errors
    /// [`FormatError`], as [`State::open`].
    pub fn open_state(&self, bytes: &[u8]) -> Result<State, FormatError> {
        match (State::open(bytes, self.content()), &self.previous) {
            (Err(_), Some(previous)) => Ok(State {
                seals: 0,
                ..State::open(bytes, previous.content())?
            }),
            (opened, _) => opened,
        }
    }
}
