//! Replay: what a journal holds goes home, or, where nothing can be written, over what is read.

use std::collections::{HashMap, HashSet};
use std::io::{self, IoSlice, IoSliceMut};
use std::sync::Arc;

use crate::backing::{At, Backing, EntryName, Kind, OpenFile as How, SetTime};
use crate::content::BlockIndex;
use crate::format::journal::{
    JOURNAL_HEADER_LEN, JOURNAL_RECORD_MAX, JournalHeader, JournalKey, JournalRecord, RECORD_HEAD,
    RING_AT, RecordKind, Resize, parse_offer,
};
use crate::format::{Entry, FileId, STATIC_LEN, StaticPart, VolumeId};
use crate::secret::Key256;
use crate::volume::record_io::CONTROL_DIR;

/// Files that are kept open while they are written to.
const OPEN_MOST: usize = 64;

/// A journal that was found.
pub(in crate::volume) struct Found<B: Backing> {
    file: B::File,
    header: JournalHeader,
    key: JournalKey,
}

/// The entries and lengths that each block was offered: whichever fits what is there is right, since
/// a write that failed is taken back by one more.
pub(in crate::volume) type Offers = HashMap<BlockIndex, Vec<(Entry, usize)>>;

/// What is overlaid on files.
pub(in crate::volume) type Replays = HashMap<FileId, Arc<FileReplay>>;

/// What became of a journal.
#[derive(Debug, Default)]
pub(in crate::volume) struct Replayed {
    /// Records that were replayed.
    pub(in crate::volume) records: u64,
    /// Files that were written to.
    pub(in crate::volume) files: u64,
    /// Files that are no more.
    pub(in crate::volume) gone: u64,
    /// What was offered; and the stored paths of those files.
    pub(in crate::volume) offers: HashMap<FileId, Offers>,
    pub(in crate::volume) offered: Vec<Vec<u8>>,
}

/// What is overlaid on one file that can't be written to.
#[derive(Default)]
pub(in crate::volume) struct FileReplay {
    extents: Vec<(u64, Vec<u8>)>,
    exactly: Option<u64>,
    at_least: u64,
    /// Its inode below.
    pub(in crate::volume) inode: u64,
}

impl FileReplay {
    /// The size of the cipher file, which is `size` below.
    pub(in crate::volume) fn size(&self, size: u64) -> u64 {
        self.exactly.unwrap_or(size).max(self.at_least)
    }

    fn resize(&mut self, resize: Resize) {
        match resize {
            Resize::Keep => {}
            Resize::AtLeast(size) => self.at_least = self.at_least.max(size),
            Resize::Exactly(size) => {
                self.exactly = Some(size);
                self.at_least = 0;
                self.extents.retain_mut(|(offset, bytes)| {
                    bytes.truncate(size.saturating_sub(*offset).min(bytes.len() as u64) as usize);
                    !bytes.is_empty()
                });
            }
        }
    }

    /// Puts the newest bytes over what was read at `offset`.
    pub(in crate::volume) fn patch(&self, offset: u64, out: &mut [u8]) {
        let end = offset + out.len() as u64;
        for (at, bytes) in &self.extents {
            let (from, to) = ((*at).max(offset), (at + bytes.len() as u64).min(end));
            if from < to {
                out[(from - offset) as usize..(to - offset) as usize]
                    .copy_from_slice(&bytes[(from - at) as usize..(to - at) as usize]);
            }
        }
    }
}

impl<B: Backing> Found<B> {
    /// Reads the headers of a journal file; None when none is authentic.
    pub(in crate::volume) fn open(
        backing: &B,
        file: B::File,
        journal: &Key256,
        volume: &VolumeId,
    ) -> io::Result<Option<Self>> {
        let mut page = [0; 2 * JOURNAL_HEADER_LEN];
        let read = backing.read_at(&file, &mut [IoSliceMut::new(&mut page)], 0)?;
        let newest = page[..read]
            .chunks(JOURNAL_HEADER_LEN)
            .filter_map(|bytes| JournalHeader::open(bytes, journal, volume).ok())
            .max_by_key(|(header, _)| header.generation);
        Ok(newest.map(|(header, key)| Self { file, header, key }))
    }

    /// The generation of its newest header.
    pub(in crate::volume) fn generation(&self) -> u64 {
        self.header.generation
    }

    /// Whether this is the journal of `epoch`, or was already emptied after its replay.
    pub(in crate::volume) fn is_of(&self, epoch: u64) -> bool {
        self.header.epoch == epoch
    }

    /// Whether the journal of `epoch` was here, and was replayed.
    pub(in crate::volume) fn replaced(&self, epoch: u64) -> bool {
        self.header.previous == epoch
    }

    /// Gives every record that counts, in order, to `sink`.
    fn each(
        &self,
        backing: &B,
        sink: &mut dyn FnMut(&JournalRecord, &[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        let (mut at, mut sequence) = (self.header.tail, self.header.sequence);
        let mut buffer = vec![0; RECORD_HEAD];
        loop {
            // Where it follows, else at the start of the ring.
            let mut found = None;
            for from in [at, RING_AT] {
                found = self.read_record(backing, &mut buffer, from, sequence)?;
                if found.is_some() {
                    at = from;
                    break;
                }
            }
            let Some(record) = found else { return Ok(()) };
            sink(&record, &buffer[..record.len])?;
            at += record.len as u64;
            sequence += 1;
        }
    }

    fn read_record(
        &self,
        backing: &B,
        buffer: &mut Vec<u8>,
        at: u64,
        sequence: u64,
    ) -> io::Result<Option<JournalRecord>> {
        let most = self.header.length.saturating_sub(at);
        let head_len = RECORD_HEAD.min(most as usize);
        let read =
            |buffer: &mut [u8], at| backing.read_at(&self.file, &mut [IoSliceMut::new(buffer)], at);
        let got = read(&mut buffer[..head_len], at)?;
        let Ok(len) = JournalRecord::peek(&buffer[..got], self.header.epoch, sequence) else {
            return Ok(None);
        };
        if len as u64 > most || len > JOURNAL_RECORD_MAX {
            return Ok(None);
        }
        if len > buffer.len() {
            buffer.resize(len, 0);
        }
        let got = read(&mut buffer[..len], at)?;
        Ok(JournalRecord::open(&buffer[..got], &self.key, self.header.epoch, sequence).ok())
    }

    /// The records that are not closed by a "done", given to `sink`.
    fn open_records(
        &self,
        backing: &B,
        sink: &mut dyn FnMut(&JournalRecord, &[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut done: HashMap<FileId, u64> = HashMap::new();
        self.each(backing, &mut |record, _| {
            if record.kind == RecordKind::Done {
                done.insert(record.file, record.sequence);
            }
            Ok(())
        })?;
        self.each(backing, &mut |record, bytes| {
            let closed = done
                .get(&record.file)
                .is_some_and(|&at| record.sequence <= at);
            if closed { Ok(()) } else { sink(record, bytes) }
        })
    }

    /// What the records say of each file, in memory.
    pub(in crate::volume) fn collect(
        &self,
        backing: &B,
    ) -> io::Result<(Replays, HashMap<FileId, Offers>)> {
        let mut files: HashMap<FileId, FileReplay> = HashMap::new();
        let mut offers = HashMap::new();
        self.open_records(backing, &mut |record, bytes| {
            if record.kind == RecordKind::Offer {
                take_offers(&mut offers, record, bytes);
                return Ok(());
            }
            let file = files.entry(record.file).or_default();
            file.inode = record.inode;
            for &(offset, at, len) in &record.extents {
                file.extents.push((offset, bytes[at..at + len].to_vec()));
            }
            file.resize(record.resize);
            Ok(())
        })?;
        let files = files
            .into_iter()
            .map(|(id, file)| (id, Arc::new(file)))
            .collect();
        Ok((files, offers))
    }

    /// Writes everything home. Durable when the caller has synced.
    pub(in crate::volume) fn apply(&self, backing: &B, root: &B::Dir) -> io::Result<Replayed> {
        let mut places: HashMap<FileId, Place> = HashMap::new();
        let mut offers = HashMap::new();
        let mut changed = HashSet::new();
        self.open_records(backing, &mut |record, bytes| {
            if record.kind == RecordKind::Offer {
                take_offers(&mut offers, record, bytes);
            } else {
                changed.insert(record.file);
            }
            let place = places.entry(record.file).or_default();
            place.inode = record.inode;
            if !record.path.is_empty() {
                place.path.clone_from(&record.path);
            }
            Ok(())
        })?;
        // After a kill the records may be in the page cache only: nothing durable is overwritten
        // before they are.
        backing.sync_file(&self.file, true)?;
        let mut homes = Homes::find(backing, root, places)?;
        let found = homes.places.keys();
        let mut report = Replayed {
            files: found.filter(|id| changed.contains(id)).count() as u64,
            gone: homes.gone,
            records: 0,
            offered: offers
                .keys()
                .filter_map(|id| Some(homes.places.get(id)?.path.clone()))
                .collect(),
            offers,
        };
        self.open_records(backing, &mut |record, bytes| {
            if record.kind == RecordKind::Offer {
                return Ok(());
            }
            let Some(file) = homes.open(backing, root, &record.file)? else {
                return Ok(());
            };
            for &(offset, at, len) in &record.extents {
                backing.write_at(file, &mut [IoSlice::new(&bytes[at..at + len])], offset)?;
            }
            match record.resize {
                Resize::Keep => {}
                Resize::AtLeast(size) if backing.stat_file(file)?.size >= size => {}
                Resize::AtLeast(size) | Resize::Exactly(size) => backing.truncate(file, size)?,
            }
            report.records += 1;
            Ok(())
        })?;
        homes.close(backing)?;
        Ok(report)
    }
}

fn take_offers(offers: &mut HashMap<FileId, Offers>, record: &JournalRecord, bytes: &[u8]) {
    let offers = offers.entry(record.file).or_default();
    for &(offset, at, len) in &record.extents {
        if let (Some(block), Ok(offer)) =
            (BlockIndex::at(offset), parse_offer(&bytes[at..at + len]))
        {
            offers.entry(block).or_default().push(offer);
        }
    }
}

#[derive(Default)]
struct Place {
    inode: u64,
    path: Vec<u8>,
}

/// An open file of a replay, and the modification time that it keeps.
struct Home<B: Backing> {
    file: B::File,
    mtime: crate::backing::Time,
}

/// The files that records are about.
struct Homes<B: Backing> {
    places: HashMap<FileId, Place>,
    open: HashMap<FileId, Home<B>>,
    gone: u64,
}

impl<B: Backing> Homes<B> {
    /// Finds the files: by their paths, what is left by one walk.
    fn find(backing: &B, root: &B::Dir, mut places: HashMap<FileId, Place>) -> io::Result<Self> {
        let mut missing: HashMap<u64, Vec<FileId>> = HashMap::new();
        for (id, place) in &places {
            if open_path(backing, root, &place.path, id)?.is_none() {
                missing.entry(place.inode).or_default().push(*id);
            }
        }
        let mut gone = 0;
        if !missing.is_empty() {
            let found = walk(backing, &missing)?;
            for id in missing.values().flatten() {
                match found.get(id) {
                    Some(path) => places.entry(*id).or_default().path.clone_from(path),
                    None => {
                        places.remove(id);
                        gone += 1;
                    }
                }
            }
        }
        Ok(Self {
            places,
            open: HashMap::new(),
            gone,
        })
    }

    fn open(&mut self, backing: &B, root: &B::Dir, id: &FileId) -> io::Result<Option<&B::File>> {
        if !self.open.contains_key(id) {
            let Some(place) = self.places.get(id) else {
                return Ok(None);
            };
            let Some(file) = open_path(backing, root, &place.path, id)? else {
                return Ok(None);
            };
            if self.open.len() >= OPEN_MOST {
                self.close(backing)?;
            }
            let mtime = backing.stat_file(&file)?.mtime;
            self.open.insert(*id, Home { file, mtime });
        }
        Ok(self.open.get(id).map(|home| &home.file))
    }

    fn close(&mut self, backing: &B) -> io::Result<()> {
        for (_, home) in self.open.drain() {
            let at = At::File(&home.file);
            backing.set_times(at, SetTime::Omit, SetTime::At(home.mtime))?;
        }
        Ok(())
    }
}

/// Whether an error says that a file isn't there, or not there any more.
fn is_gone(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::ENOENT | libc::ENOTDIR | libc::ELOOP | libc::EISDIR | libc::ENXIO | libc::EXDEV)
    )
}

/// Opens a file by its stored path, when it is the one with these contents.
fn open_path<B: Backing>(
    backing: &B,
    root: &B::Dir,
    path: &[u8],
    id: &FileId,
) -> io::Result<Option<B::File>> {
    let names: Result<Vec<EntryName>, _> = path
        .split(|&byte| byte == b'/')
        .map(EntryName::new)
        .collect();
    let Ok(names) = names else { return Ok(None) };
    let Some((last, dirs)) = names.split_last() else {
        return Ok(None);
    };
    let open = || {
        let mut dir: Option<B::Dir> = None;
        for name in dirs {
            dir = Some(backing.open_dir(dir.as_ref().unwrap_or(root), name)?);
        }
        open_writable(backing, dir.as_ref().unwrap_or(root), last)
    };
    let file = match open() {
        Ok(file) => file,
        Err(error) if is_gone(&error) => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut head = [0; STATIC_LEN];
    let read = backing.read_at(&file, &mut [IoSliceMut::new(&mut head)], 0)?;
    let same = StaticPart::parse(&head[..read]).is_ok_and(|head| head.file_id == *id);
    Ok(same.then_some(file))
}

/// Opens a file for reading and writing, also where its mode forbids that.
fn open_writable<B: Backing>(backing: &B, dir: &B::Dir, name: &EntryName) -> io::Result<B::File> {
    match backing.open_file(dir, name, How::READ_WRITE) {
        Err(error) if error.raw_os_error() == Some(libc::EACCES) => {
            let mode = backing.stat(dir, name)?.permissions();
            backing.set_mode(At::Entry(dir, name), mode | 0o600)?;
            let opened = backing.open_file(dir, name, How::READ_WRITE);
            backing.set_mode(At::Entry(dir, name), mode)?;
            opened
        }
        opened => opened,
    }
}

/// Looks for files by their inodes, over the whole cipher directory; their stored paths.
fn walk<B: Backing>(
    backing: &B,
    wanted: &HashMap<u64, Vec<FileId>>,
) -> io::Result<HashMap<FileId, Vec<u8>>> {
    let mut found = HashMap::new();
    let mut pending: Vec<(Arc<B::Dir>, EntryName, Vec<u8>)> = Vec::new();
    let mut seen = HashSet::new();
    let mut here = Some((Arc::new(backing.root()?), Vec::new()));
    while let Some((dir, path)) = here.take() {
        let mut candidates = Vec::new();
        let mut listing = backing.list(&dir)?;
        backing.next_entries(&mut listing, 0, &mut |raw| {
            let own = path.is_empty() && raw.name == CONTROL_DIR.as_bytes();
            let Ok(name) = EntryName::new(raw.name) else {
                return true;
            };
            if own || matches!(raw.name, b"." | b"..") {
                return true;
            }
            let mut full = path.clone();
            if !full.is_empty() {
                full.push(b'/');
            }
            full.extend_from_slice(raw.name);
            if matches!(raw.kind, Some(Kind::File) | None) && wanted.contains_key(&raw.ino) {
                candidates.push((raw.ino, full.clone()));
            }
            if matches!(raw.kind, Some(Kind::Dir) | None) {
                pending.push((Arc::clone(&dir), name, full));
            }
            true
        })?;
        drop(listing);
        for (inode, full) in candidates {
            if !seen.insert(inode) {
                continue; // another name of it
            }
            for id in &wanted[&inode] {
                if open_path(backing, &backing.root()?, &full, id)?.is_some() {
                    found.insert(*id, full.clone());
                }
            }
        }
        while let Some((parent, name, full)) = pending.pop() {
            match backing.open_dir(&parent, &name) {
                Ok(dir) => {
                    here = Some((Arc::new(dir), full));
                    break;
                }
                // Not a directory after all, or none of ours.
                Err(error) if is_gone(&error) || error.raw_os_error() == Some(libc::EACCES) => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(found)
}
