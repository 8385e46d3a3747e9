//! Opening a file's header, and making a new one.

use std::io::{IoSlice, IoSliceMut};
use std::sync::Arc;

use super::error::{Result, VolumeError};
use super::keys::Unwrapped;
use super::open_file::{Core, Head, OpenFile, Pages};
use super::types::NodeId;
use super::{Strictness, Volume};
use crate::backing::Backing;
use crate::content::{EntryPage, GroupIndex, Layout};
use crate::format::{
    ENTRIES_AT, FileId, HEADER_LEN, INLINE_MAX, PAGE, SLOT_A_AT, SLOT_B_AT, SLOT_LEN, STATE_AT,
    STATIC_LEN, Slot, State, StateFlags, StaticPart, Suite, WrappedKey,
};
use crate::kms::KmsError;

/// Up to this size a file is fetched whole when it is opened: most are then read whole.
const SMALL: u64 = 256 * 1024;

/// The envelope slots of a header and where they stand, the newest first; unauthenticated.
pub(super) fn slots(page: &[u8]) -> Vec<(usize, Slot)> {
    let mut slots: Vec<(usize, Slot)> = [SLOT_A_AT, SLOT_B_AT]
        .into_iter()
        .filter_map(|at| Some((at, Slot::parse(page.get(at..)?).ok().flatten()?)))
        .collect();
    slots.sort_by_key(|(_, slot)| std::cmp::Reverse(slot.generation));
    slots
}

impl<B: Backing> Volume<B> {
    /// Understands an opened cipher file.
    pub(super) fn read_file(
        &self,
        node: NodeId,
        file: B::File,
        writable: bool,
    ) -> Result<OpenFile<B>> {
        let size = self.backing.stat_file(&file)?.size;
        let what = || self.cipher_path(node);
        let layout = Layout::of_cipher_size(size)
            .map_err(|_| VolumeError::damaged(what(), "it is cut inside its header"))?;
        let pages = Pages::default();
        let head = if layout == Layout::Empty {
            None
        } else {
            if size > PAGE as u64 && size <= SMALL {
                // Header and blocks in one go, if they are on a disk.
                self.backing.will_need(&file, 0, size);
            }
            let mut page = Box::new([0; PAGE]);
            let read =
                self.backing
                    .read_at(&file, &mut [IoSliceMut::new(page.as_mut_slice())], 0)?;
            if (read as u64) < size.min(PAGE as u64) {
                return Err(VolumeError::damaged(what(), "it was cut while being read"));
            }
            let head = self.open_head(&page[..read], layout, &what)?;
            if let Layout::Blocks { .. } = layout {
                pages.put(Arc::new(EntryPage::from_bytes(GroupIndex(0), page)));
            }
            Some(head)
        };
        let core = Core { layout, head };
        Ok(OpenFile::new(node, file, writable, core, pages, false))
    }

    /// Understands the first page (or what there is of it) of a cipher file.
    fn open_head(&self, page: &[u8], layout: Layout, what: &dyn Fn() -> String) -> Result<Head> {
        let damaged = |why: &dyn ToString| VolumeError::damaged(what(), why.to_string());
        let static_part = StaticPart::parse(page).map_err(|error| damaged(&error))?;
        let unwrapped = self.unwrap_header(page, &static_part, what)?;
        let keys = &unwrapped.keys;
        let state = State::open(&page[STATE_AT..HEADER_LEN], keys.content())
            .map_err(|_| damaged(&"its state fails authentication"))?;
        if state.size != layout.size() && self.strictness() == Strictness::Full {
            let why = format!(
                "it should have {} bytes and has {}",
                state.size,
                layout.size()
            );
            return Err(damaged(&why));
        }
        let inline = if let Layout::Inline { .. } = layout {
            keys.open_inline(&page[ENTRIES_AT..])
                .map_err(|error| damaged(&error))?
        } else {
            Vec::new()
        };
        let holes = state.flags.sparse || self.strictness() == Strictness::AfterCrash;
        Ok(Head {
            static_part,
            unwrapped,
            state,
            holes,
            inline,
        })
    }

    /// The data key of the valid envelope slot with the higher generation.
    fn unwrap_header(
        &self,
        page: &[u8],
        static_part: &StaticPart,
        what: &dyn Fn() -> String,
    ) -> Result<Unwrapped> {
        let mut failure = None;
        for (at, slot) in slots(page) {
            let wrapped: Vec<&WrappedKey> = slot.current().collect();
            match self.keys.unwrap(&static_part.file_id, &wrapped) {
                Ok(unwrapped) if self.is_authentic(page, at, static_part, &unwrapped) => {
                    return Ok(unwrapped);
                }
                Ok(_) => {}
                Err(error) => failure = failure.or(Some(error)),
            }
        }
        // A key that can't be used is the user's to mend; anything else is damage.
        Err(match failure {
            Some(VolumeError::Key(error)) if !matches!(error, KmsError::InvalidCiphertext) => {
                VolumeError::Key(error)
            }
            _ => VolumeError::damaged(what(), "no envelope slot of its header is authentic"),
        })
    }

    /// Whether the slot at `at` is what the holder of the data key wrote there.
    pub(super) fn is_authentic(
        &self,
        page: &[u8],
        at: usize,
        static_part: &StaticPart,
        unwrapped: &Unwrapped,
    ) -> bool {
        let bytes = page
            .get(at..at + SLOT_LEN)
            .and_then(|bytes| bytes.try_into().ok());
        bytes.is_some_and(|bytes| {
            Slot::authentic(
                bytes,
                unwrapped.keys.header(),
                &self.record.volume_id,
                &static_part.encode(),
            )
        })
    }

    /// A header for a file that gets its first bytes: a new file id, a new data key.
    pub(super) fn new_head(&self) -> Result<(Head, [u8; STATE_AT])> {
        let file_id = FileId::random();
        let static_part = StaticPart {
            suite: Suite::Aes256GcmHkdfSha256,
            file_id,
        };
        let (unwrapped, wrapped) = self.keys.generate(&self.volume_key_id(), &file_id)?;
        let slot = Slot {
            generation: 1,
            keys: vec![wrapped],
        };
        let static_bytes = static_part.encode();
        let slot_bytes = slot
            .seal(
                unwrapped.keys.header(),
                &self.record.volume_id,
                &static_bytes,
            )
            .map_err(|error| VolumeError::damaged("a new file header", error))?;
        let mut bytes = [0; STATE_AT];
        bytes[..STATIC_LEN].copy_from_slice(&static_bytes);
        bytes[SLOT_A_AT..SLOT_A_AT + SLOT_LEN].copy_from_slice(&slot_bytes);
        let state = State {
            size: 0,
            flags: StateFlags::default(),
            seals: 0,
        };
        let head = Head {
            static_part,
            unwrapped,
            state,
            holes: false,
            inline: Vec::new(),
        };
        Ok((head, bytes))
    }

    /// Writes the bytes of an inline file, and its state: one write, in one page.
    /// `fresh` is the header's start when the file has none on disk yet.
    pub(super) fn write_inline(
        &self,
        file: &OpenFile<B>,
        head: &mut Head,
        fresh: Option<&[u8; STATE_AT]>,
        plain: Vec<u8>,
    ) -> Result<()> {
        debug_assert!(plain.len() <= INLINE_MAX);
        let state = State {
            size: plain.len() as u64,
            flags: StateFlags::default(),
            seals: head.state.seals,
        };
        let keys = &head.unwrapped.keys;
        let state_bytes = state.seal(keys.content());
        let sealed = keys.seal_inline(&plain);
        let (start, at) = match fresh {
            Some(start) => (start.as_slice(), 0),
            None => (&[][..], STATE_AT as u64),
        };
        self.backing.write_at(
            file.file(),
            &mut [
                IoSlice::new(start),
                IoSlice::new(&state_bytes),
                IoSlice::new(&sealed.0),
            ],
            at,
        )?;
        head.state = state;
        head.holes = false;
        head.inline = plain;
        Ok(())
    }

    /// Writes the state alone.
    pub(super) fn write_state(
        &self,
        file: &OpenFile<B>,
        head: &mut Head,
        state: State,
    ) -> Result<()> {
        let bytes = state.seal(head.unwrapped.keys.content());
        self.backing
            .write_at(file.file(), &mut [IoSlice::new(&bytes)], STATE_AT as u64)?;
        head.state = state;
        head.holes |= state.flags.sparse;
        Ok(())
    }
}
