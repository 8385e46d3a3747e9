//! Opening a file's header, and making a new one.

use std::io::IoSlice;

use super::Volume;
use super::error::{Result, VolumeError};
use super::keys::Unwrapped;
use super::open_file::{Core, Head, OpenFile, Pages};
use super::privileges::Privileges;
use super::types::NodeId;
use crate::backing::{Backing, Stat};
use crate::content::{EntryPage, GroupIndex, Layout};
use crate::format::{
    ENTRIES_AT, FileId, HEADER_LEN, INLINE_MAX, PAGE, SLOT_A_AT, SLOT_B_AT, SLOT_LEN, STATE_AT,
    STATIC_LEN, Slot, State, StateFlags, StaticPart, Suite,
};

/// A file of this size is fetched whole when it is opened: most are then read whole. A smaller one
/// comes with its first page: the kernel reads no less ahead.
const SMALL: std::ops::RangeInclusive<u64> = 16 * 1024 + 1..=256 * 1024;

/// The envelope slots of a header and where they stand, the newest first; unauthenticated.
pub(super) fn slots(page: &[u8]) -> Vec<(usize, Slot)> {
    let mut slots: Vec<(usize, Slot)> = [SLOT_A_AT, SLOT_B_AT]
        .into_iter()
        .filter_map(|at| Some((at, Slot::parse(page.get(at..)?).ok().flatten()?)))
        .collect();
    slots.sort_by_key(|(_, slot)| std::cmp::Reverse(slot.generation));
    slots
}

/// Whether bytes were never written: all of them are zero.
fn is_unwritten(bytes: &[u8]) -> bool {
    bytes.iter().all(|&byte| byte == 0)
}

impl<B: Backing> Volume<B> {
    /// Understands a cipher file that was opened just now, with these attributes; after a crash, brings it in order.
    pub(super) fn read_file(
        &self,
        node: NodeId,
        file: B::File,
        stat: &Stat,
        writable: bool,
    ) -> Result<OpenFile<B>> {
        let what = || self.cipher_path(node);
        let mut open = OpenFile::new(
            node,
            file,
            writable,
            Core::empty(),
            Pages::default(),
            Privileges::new(false),
            stat.ino,
        );
        open.replay = self.replay_of(&open)?;
        let size = open
            .replay
            .as_ref()
            .map_or(stat.size, |replay| replay.size(stat.size));
        if size == 0 {
            return Ok(open);
        }
        if SMALL.contains(&size) {
            // Header and blocks in one go, if they are on a disk.
            self.backing.will_need(open.file(), 0, size);
        }
        let mut page = Box::new([0; PAGE]);
        // No more than there is: the end of the file needs no look of its own then.
        let there = size.min(PAGE as u64) as usize;
        let read = self.read_home(&open, &mut page[..there], 0)?;
        if self.in_doubt() && is_unwritten(&page[..SLOT_B_AT.min(read)]) {
            // Its first write never reached the disk: nothing of it can be read, or was promised.
            if !self.read_only {
                self.backing.truncate(open.file(), 0)?;
            }
            return Ok(open);
        }
        let mut layout = match Layout::of_cipher_size(size) {
            Ok(layout) => layout,
            // Its first write reached the disk in part, with no byte of its contents.
            Err(_) if self.was_begun(&page[..read], &what) => {
                if !self.read_only {
                    self.backing.truncate(open.file(), 0)?;
                }
                return Ok(open);
            }
            Err(_) => return Err(VolumeError::damaged(what(), "it is cut inside its header")),
        };
        if (read as u64) < size.min(PAGE as u64) {
            return Err(VolumeError::damaged(what(), "it was cut while being read"));
        }
        let (mut head, doubtful) = self.open_head(&page[..read], layout, &what)?;
        let offered = self.offers.contains_key(&head.static_part.file_id);
        if doubtful || offered || (self.in_doubt() && head.state.size != layout.size()) {
            layout = self.recover_file(&open, &page[..read], &mut head, layout, doubtful)?;
        } else if head.state.size != layout.size() {
            let (right, is) = (head.state.size, layout.size());
            let why = format!("it should have {right} bytes and has {is}");
            return Err(VolumeError::damaged(what(), why));
        } else if let Layout::Inline { .. } = layout {
            head.inline = head
                .unwrapped
                .keys
                .open_inline(&page[ENTRIES_AT..read])
                .map_err(|error| VolumeError::damaged(what(), error))?;
        }
        if let (Layout::Blocks { .. }, None) = (layout, open.pages.get(GroupIndex(0))) {
            open.pages.put(EntryPage::from_bytes(GroupIndex(0), &page));
        }
        if layout != Layout::Empty {
            *open.core.get_mut() = Core {
                durable: layout.size(),
                covered: layout.size(),
                cuts: 0,
                fresh: self.engine.is_none(),
                layout,
                head: Some(head),
            };
        }
        Ok(open)
    }

    /// Whether a file that is too short for its header was new at a crash, or too short to tell.
    fn was_begun(&self, page: &[u8], what: &dyn Fn() -> String) -> bool {
        self.in_doubt()
            && (page.len() < HEADER_LEN
                || self
                    .open_head(page, Layout::Empty, what)
                    .is_ok_and(|(_, doubtful)| doubtful))
    }

    /// Understands the first page (or what there is of it) of a cipher file. The bytes of an inline
    /// file are left alone. Also whether the file was new at a crash.
    fn open_head(
        &self,
        page: &[u8],
        layout: Layout,
        what: &dyn Fn() -> String,
    ) -> Result<(Head, bool)> {
        let damaged = |why: &dyn ToString| VolumeError::damaged(what(), why.to_string());
        let static_part = StaticPart::parse(page).map_err(|error| damaged(&error))?;
        let unwrapped = self.unwrap_header(page, &static_part, what)?;
        let keys = &unwrapped.keys;
        let (state, doubtful) = match keys.open_state(&page[STATE_AT..HEADER_LEN]) {
            Ok(state) => (state, self.is_doubtful(state.epoch)),
            // The second sector of its first write never reached the disk.
            Err(_) if self.in_doubt() && is_unwritten(&page[SLOT_B_AT..HEADER_LEN]) => {
                let state = State {
                    size: layout.size(),
                    flags: StateFlags::default(),
                    seals: 0,
                    epoch: 0,
                };
                (state, true)
            }
            Err(_) => return Err(damaged(&"its state fails authentication")),
        };
        let head = Head {
            static_part,
            unwrapped,
            holes: state.flags.sparse,
            home_size: state.size,
            state,
            lost: Vec::new(),
            inline: Vec::new(),
        };
        Ok((head, doubtful))
    }

    /// The data key of the valid envelope slot with the higher generation, and the one before it while
    /// a re-encrypt is under way.
    fn unwrap_header(
        &self,
        page: &[u8],
        static_part: &StaticPart,
        what: &dyn Fn() -> String,
    ) -> Result<Unwrapped> {
        let mut failure = None;
        for (at, slot) in slots(page) {
            match self.keys.unwrap(&static_part.file_id, slot.current()) {
                Ok(mut unwrapped) if self.is_authentic(page, at, static_part, &unwrapped) => {
                    if slot.previous().next().is_some() {
                        let previous = slot.previous();
                        let previous = self.keys.unwrap(&static_part.file_id, previous)?;
                        unwrapped.set_previous(&previous);
                    }
                    return Ok(unwrapped);
                }
                Ok(_) => {}
                Err(error) => failure = failure.or(Some(error)),
            }
        }
        // A key that can't be used is the user's to mend; anything else is damage.
        Err(match failure {
            Some(error) if error.is_of_key() => error,
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
        let (unwrapped, keys) = self.keys.generate(&self.cmks(), &file_id, 0)?;
        let slot = Slot {
            generation: 1,
            keys,
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
            epoch: self.epoch,
        };
        let head = Head {
            static_part,
            unwrapped,
            state,
            home_size: 0,
            lost: Vec::new(),
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
            ..head.state
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

    /// Writes the state alone, of a file that is new.
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
