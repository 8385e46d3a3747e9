//! The journal: what was once durable is readable after a power cut at any instant.
//!
//! A block that is sealed and torn can't be opened, so a block that someone was promised is never
//! overwritten in place before its new ciphertext and entry are durable elsewhere. Blocks that
//! nobody was promised need none of this: they go straight home.
//!
//! # Who was promised what
//!
//! Each open file keeps a size, [`Core::durable`](super::open_file::Core): blocks that begin below
//! it may have been promised (they were there when the file was opened, or an fsync covered them);
//! the others are *fresh*. A new file has none of the first kind until its first fsync, so making
//! files costs nothing. A hole below that size is old data too: zeros.
//!
//! # The way of an overwrite
//!
//! write → one record (ciphertext, entries, state where it changes) appended to the ring, under a
//! GMAC of this epoch's key → the open file's [`Overlay`](overlay::Overlay) notes where each block is
//! now. Readers look there first; the map is empty in the common case. fsync → one fdatasync of the
//! journal, shared by those who arrive together. Later `write_back` copies the blocks home, syncs
//! their files, and moves the ring's tail. What can't be deferred because users see it below (a cut
//! inside old blocks, an inline file that outgrows its page) is appended, synced and sent home at
//! once, and closed by a "done" record, so that no replay repeats the cut over later writes.
//!
//! Users write on meanwhile: `write_back` sends what the records before its start hold, in pieces, and
//! leaves alone what is overwritten since. A block that was overwritten is at home in an older form
//! or none, so the records behind the new tail are synced before the tail moves. Only who changes the
//! cipher file by another way than this (a cut, a step at once) waits for the piece that is under way:
//! [`OpenFile::home`](super::open_file::OpenFile).
//!
//! A record is physical: bytes and their offsets in the cipher file. So replaying needs no data key:
//! it checks the tag, finds the file (by its path, else by one walk), checks the file id in its
//! header, and writes, in the order of the sequence numbers. A torn record ends the replay; appends
//! are one after the other, so there is nothing acknowledged behind it.
//!
//! # What needs no list of open files
//!
//! After a crash, what was being written is half there. Which files that concerns is told by their
//! own state: the state of a file that is new in this epoch names the epoch (and its size may be
//! ahead of its blocks); the state of any other file is written only when what it covers is durable,
//! so below its size everything is checked strictly at once, and behind it whatever authenticates is
//! kept and the rest cut off (`recover`). The mark lists, authenticated, the epochs that ended in
//! a crash. So there are no notes to make when a file is opened, no sync before a first write, and
//! removing the mark makes nothing lenient.
//!
//! # Full disks
//!
//! The journal's space is allocated when the volume is opened. A block that fills a hole reserves its
//! home before it is journaled. So an overwrite can fail, with the old content in place, but what was
//! acknowledged always has room at home.

pub(super) mod overlay;
pub(super) mod replay;
pub(super) mod ring;
pub(super) mod write_back;

pub(super) use overlay::Overlay;
pub(super) use ring::Journal;
pub(super) use write_back::Engine;

/// What is done with overwritten blocks.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum JournalMode {
    /// They go through the journal, and home by a thread in the background.
    #[default]
    Background,
    /// They go through the journal, and home when [`super::Volume::write_back`] is called, when the
    /// journal is full, and when the volume is closed. For tests that must be repeatable.
    Manual,
    /// They are overwritten in place. Unsafe: a power cut can destroy blocks that were synced long
    /// before. For measuring, and for seeing that a test of crashes finds that.
    Off,
}

/// How long the journal is, unless told otherwise: 128 MiB.
///
/// While a pass of the write-back is under way, users fill the rest; with 64 MiB those who overwrite
/// 4 KiB blocks at random on a disk stood still for a fifth of the time.
pub const JOURNAL_SIZE: u64 = 128 << 20;
/// The least length of a journal, in bytes.
pub const JOURNAL_SIZE_LEAST: u64 = 256 << 10;
