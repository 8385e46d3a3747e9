//! What a power cut may leave of the calls that were recorded, by the rules of a filesystem.
//!
//! A [`Disk`] that is surely durable grows along the log; calls that no sync has covered yet are
//! pending, and a state is that disk and a part of them. Which parts there may be:
//!
//! | mode | metadata (names, truncation, holes, attributes) | size of an extending write | data |
//! |---|---|---|---|
//! | [`Mode::Prefix`] | in the order of the calls | with the data | in order; the last write torn |
//! | [`Mode::Ext4`] | a journal: some first part of it; a sync of an inode with pending metadata commits all of it | on its own, before or after the data | any pages, sectors torn where old data was; new pages whole or zero; a file renamed over another has its new pages first (`auto_da_alloc`) |
//! | [`Mode::Xfs`] | a log: some first part of it; a sync forces it up to the inode's last change | after the data | as ext4, without `auto_da_alloc` |
//! | [`Mode::Btrfs`] | some first part; a sync adds this inode, its names and the directories they are in | with the data | any pages, never torn (copy on write) |
//! | [`Mode::Posix`] | each call on its own, but for what it needs: calls on the same entry or for the same inode's names; a sync of a file covers the file, a sync of a directory its entries | on its own | any pages, any sectors torn |
//!
//! btrfs's sync of a directory covers the new directories in it with all that is in them. In all
//! modes fdatasync leaves attributes, xattrs and renames pending; pages are 4 KiB, and of each the
//! disk has what it was after any of the writes to it.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::ops::Range;
use std::sync::Arc;

use rand::RngExt;
use rand::rngs::SmallRng;

use super::disk::{Disk, FileBody, Ino, PAGE, pieces};
use super::log::Op;

/// What a disk writes whole.
pub const SECTOR: usize = 512;

/// Whose rules.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    Prefix,
    Ext4,
    Xfs,
    Btrfs,
    Posix,
}

impl Mode {
    pub const ALL: [Self; 5] = [
        Self::Prefix,
        Self::Ext4,
        Self::Xfs,
        Self::Btrfs,
        Self::Posix,
    ];

    /// Whether a sync of a file makes its names durable too.
    pub fn sync_keeps_names(self) -> bool {
        self != Self::Posix
    }
}

impl std::str::FromStr for Mode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|mode| format!("{mode:?}").eq_ignore_ascii_case(text))
            .ok_or_else(|| format!("no mode {text}: one of {:?}", Self::ALL))
    }
}

/// A call, or a part of one, that isn't surely durable.
#[derive(Clone)]
enum Pending {
    Meta(Op),
    /// The part of a write that lies in one page.
    Piece {
        ino: Ino,
        page: u64,
        from: usize,
        data: Arc<[u8]>,
        part: Range<usize>,
    },
    /// A write's new size.
    Extend {
        ino: Ino,
        to: u64,
    },
}

impl Pending {
    fn ino(&self) -> Option<Ino> {
        match self {
            Self::Meta(op) => op.ino(),
            Self::Piece { ino, .. } | Self::Extend { ino, .. } => Some(*ino),
        }
    }

    fn end(page: u64, from: usize, part: &Range<usize>) -> u64 {
        page * PAGE as u64 + (from + part.len()) as u64
    }
}

/// Follows a log and makes states of it.
pub struct Power {
    mode: Mode,
    durable: Disk,
    pending: Vec<Pending>,
    /// Sizes as the calls left them, where one is pending.
    sizes: HashMap<Ino, u64>,
}

/// How much of what is pending survives.
#[derive(Clone, Copy)]
enum Share {
    Nothing,
    Everything,
    Some(f64),
}

impl Share {
    fn pick(rng: &mut SmallRng) -> Self {
        match rng.random_range(0..8) {
            0 => Self::Nothing,
            1 => Self::Everything,
            2 => Self::Some(0.1),
            3 => Self::Some(0.9),
            _ => Self::Some(0.5),
        }
    }

    fn take(self, rng: &mut SmallRng) -> bool {
        match self {
            Self::Nothing => false,
            Self::Everything => true,
            Self::Some(p) => rng.random_bool(p),
        }
    }

    /// A number from 0 to `most`.
    fn of(self, rng: &mut SmallRng, most: usize) -> usize {
        match self {
            Self::Nothing => 0,
            Self::Everything => most,
            Self::Some(p) if rng.random_bool(0.5) => {
                if rng.random_bool(p) {
                    most
                } else {
                    0
                }
            }
            Self::Some(_) => rng.random_range(0..=most),
        }
    }
}

/// What the disk has of one page: all of the first `whole` pieces, and in the sectors of the mask
/// those up to `torn` as well.
struct Version {
    whole: usize,
    torn: usize,
    sectors: u8,
}

impl Power {
    pub fn new(mode: Mode, disk: Disk) -> Self {
        Self {
            mode,
            durable: disk,
            pending: Vec::new(),
            sizes: HashMap::new(),
        }
    }

    /// The next call of the log was made, and it came back.
    pub fn advance(&mut self, op: &Op) {
        if self.mode == Mode::Prefix {
            op.apply(&mut self.durable);
            return;
        }
        match op {
            Op::SyncAll => {
                let all = vec![true; self.pending.len()];
                self.settle(&all);
            }
            Op::SyncFile { ino, data_only } => {
                let covered = self.covered_by_file(*ino, *data_only);
                self.settle(&covered);
            }
            Op::SyncDir { ino } => {
                let covered = self.covered_by_dir(*ino);
                self.settle(&covered);
            }
            Op::Write { ino, at, data } => {
                pieces(*at, data.len(), |page, from, place, len| {
                    self.pending.push(Pending::Piece {
                        ino: *ino,
                        page,
                        from,
                        data: Arc::clone(data),
                        part: place..place + len,
                    });
                });
                let to = at + data.len() as u64;
                if self.size(*ino) < to {
                    self.sizes.insert(*ino, to);
                    self.pending.push(Pending::Extend { ino: *ino, to });
                }
            }
            Op::Create { ino, inode, .. } => {
                // The inode alone is nowhere to be seen.
                self.durable.insert_new(*ino, inode);
                self.pending.push(Pending::Meta(op.clone()));
            }
            _ => {
                match op {
                    Op::Truncate { ino, size } => {
                        self.sizes.insert(*ino, *size);
                    }
                    Op::Reserve {
                        ino,
                        at,
                        len,
                        keep_size: false,
                    } => {
                        let size = self.size(*ino).max(at + len);
                        self.sizes.insert(*ino, size);
                    }
                    _ => {}
                }
                self.pending.push(Pending::Meta(op.clone()));
            }
        }
    }

    fn size(&self, ino: Ino) -> u64 {
        self.sizes
            .get(&ino)
            .copied()
            .unwrap_or_else(|| self.durable.file(ino).map_or(0, |file| file.size))
    }

    /// The write that was under way, of which only a part came to the disk: its first bytes, up to
    /// a place that `grain` divides.
    pub fn torn(&self, op: &Op, grain: usize, rng: &mut SmallRng) -> Option<Disk> {
        let Op::Write { ino, at, data } = op else {
            return None;
        };
        let first = grain - (*at as usize % grain);
        let more = data.len().saturating_sub(first).div_ceil(grain);
        let upto = first + grain * rng.random_range(0..=more);
        let mut disk = self.durable.clone();
        let part = Op::Write {
            ino: *ino,
            at: *at,
            data: data[..upto.min(data.len())].into(),
        };
        part.apply(&mut disk);
        // A size goes up by whole pages, whatever of the page is there.
        let page = (at + upto as u64).next_multiple_of(PAGE as u64);
        if let Some(file) = disk.file_mut(*ino) {
            file.size = file.size.max(page.min(at + data.len() as u64));
        }
        Some(disk)
    }

    /// One of the states that a power cut may leave now.
    pub fn state(&self, rng: &mut SmallRng) -> Disk {
        let mut disk = self.durable.clone();
        if self.pending.is_empty() {
            return disk;
        }
        let tear_sectors = self.mode != Mode::Btrfs && rng.random_bool(0.5);
        let meta = self.surviving_meta(rng);
        let forced = self.forced(&meta);
        let share = Share::pick(rng);
        let versions = self.versions(share, tear_sectors, &forced, rng);
        let extends = self.extends(&forced, rng);

        let mut seen: HashMap<(Ino, u64), usize> = HashMap::new();
        let mut blocked: Vec<(Ino, Range<u64>)> = Vec::new();
        let mut touched = BTreeSet::new();
        for (at, pending) in self.pending.iter().enumerate() {
            match pending {
                Pending::Meta(op) if meta[at] => op.apply(&mut disk),
                Pending::Meta(op) => blocked.extend(Self::blocks(op, &disk)),
                Pending::Extend { ino, to } => {
                    if extends.contains(&at)
                        && let Some(file) = disk.file_mut(*ino)
                    {
                        file.size = file.size.max(*to);
                    }
                    touched.insert(*ino);
                }
                Pending::Piece {
                    ino,
                    page,
                    from,
                    data,
                    part,
                } => {
                    touched.insert(*ino);
                    let number = seen.entry((*ino, *page)).or_default();
                    *number += 1;
                    let version = &versions[&(*ino, *page)];
                    if *number > version.torn
                        || blocked
                            .iter()
                            .any(|(blocked, pages)| blocked == ino && pages.contains(page))
                    {
                        continue;
                    }
                    let sectors = if *number <= version.whole {
                        0xFF
                    } else {
                        version.sectors
                    };
                    let Some(file) = disk.file_mut(*ino) else {
                        continue;
                    };
                    put_sectors(file, *page, *from, &data[part.clone()], sectors);
                    if matches!(self.mode, Mode::Btrfs | Mode::Xfs) && sectors != 0 {
                        file.size = file.size.max(Pending::end(*page, *from, part));
                    }
                }
            }
        }
        for ino in touched {
            if let Some(file) = disk.file_mut(ino) {
                file.resize(file.size);
            }
        }
        disk
    }

    /// Which metadata comes to the disk.
    fn surviving_meta(&self, rng: &mut SmallRng) -> Vec<bool> {
        let share = Share::pick(rng);
        let is_meta = |pending: &Pending| matches!(pending, Pending::Meta(_));
        if self.mode == Mode::Posix {
            let mut lost = Lost::default();
            return self
                .pending
                .iter()
                .map(|pending| {
                    let Pending::Meta(op) = pending else {
                        return false;
                    };
                    let there = share.take(rng) && !lost.needs(op);
                    if !there {
                        lost.add(op);
                    }
                    there
                })
                .collect();
        }
        let count = self.pending.iter().filter(|p| is_meta(p)).count();
        let mut left = share.of(rng, count);
        self.pending
            .iter()
            .map(|pending| {
                let there = is_meta(pending) && left > 0;
                left -= usize::from(there);
                there
            })
            .collect()
    }

    /// ext4's `auto_da_alloc`: of files renamed over others, up to which call their new pages are
    /// there if the rename is.
    fn forced(&self, meta: &[bool]) -> HashMap<Ino, usize> {
        let mut forced = HashMap::new();
        if self.mode == Mode::Ext4 {
            for (at, pending) in self.pending.iter().enumerate() {
                if let Pending::Meta(Op::Rename {
                    ino,
                    replaced: Some(_),
                    swapped: false,
                    ..
                }) = pending
                    && meta[at]
                {
                    forced.insert(*ino, at);
                }
            }
        }
        forced
    }

    fn is_fresh(&self, ino: Ino, page: u64) -> bool {
        self.durable
            .file(ino)
            .is_none_or(|file| !matches!(file.pages.get(&page), Some(Some(_))))
    }

    /// What the disk has of each page that was written to.
    fn versions(
        &self,
        share: Share,
        tear_sectors: bool,
        forced: &HashMap<Ino, usize>,
        rng: &mut SmallRng,
    ) -> HashMap<(Ino, u64), Version> {
        // In the order of the log, so that a seed gives the same state.
        let mut order = Vec::new();
        let mut counts: HashMap<(Ino, u64), (usize, usize)> = HashMap::new();
        for (at, pending) in self.pending.iter().enumerate() {
            if let Pending::Piece { ino, page, .. } = pending {
                let (count, least) = counts.entry((*ino, *page)).or_insert_with(|| {
                    order.push((*ino, *page));
                    (0, 0)
                });
                *count += 1;
                if forced.get(ino).is_some_and(|upto| at < *upto) && self.is_fresh(*ino, *page) {
                    *least += 1;
                }
            }
        }
        order
            .into_iter()
            .map(|place| {
                let (count, least) = counts[&place];
                let whole = share.of(rng, count).max(least);
                // A page that is new to the file comes to light when all of it is written.
                let may_tear = tear_sectors
                    && whole < count
                    && (whole > 0 || self.mode == Mode::Posix || !self.is_fresh(place.0, place.1));
                let version = if may_tear && rng.random_bool(0.6) {
                    Version {
                        whole,
                        torn: rng.random_range(whole + 1..=count),
                        sectors: rng.random(),
                    }
                } else {
                    Version {
                        whole,
                        torn: whole,
                        sectors: 0,
                    }
                };
                (place, version)
            })
            .collect()
    }

    /// Which sizes of extending writes come to the disk, apart from the data.
    fn extends(&self, forced: &HashMap<Ino, usize>, rng: &mut SmallRng) -> HashSet<usize> {
        let mut taken = HashSet::new();
        if !matches!(self.mode, Mode::Ext4 | Mode::Posix) {
            return taken;
        }
        let mut order = Vec::new();
        let mut of_inode: HashMap<Ino, Vec<usize>> = HashMap::new();
        for (at, pending) in self.pending.iter().enumerate() {
            if let Pending::Extend { ino, .. } = pending {
                of_inode
                    .entry(*ino)
                    .or_insert_with(|| {
                        order.push(*ino);
                        Vec::new()
                    })
                    .push(at);
            }
        }
        for ino in order {
            let all = &of_inode[&ino];
            let least = forced
                .get(&ino)
                .map_or(0, |upto| all.iter().filter(|at| *at < upto).count());
            let count = Share::pick(rng).of(rng, all.len()).max(least);
            taken.extend(&all[..count]);
        }
        taken
    }

    /// The pages in which later writes need a call that did not come to the disk.
    fn blocks(op: &Op, disk: &Disk) -> Option<(Ino, Range<u64>)> {
        match op {
            Op::Truncate { ino, size } if disk.file(*ino).is_some_and(|f| f.size > *size) => {
                Some((*ino, size.div_ceil(PAGE as u64)..u64::MAX))
            }
            Op::Punch { ino, at, len } => {
                let page = PAGE as u64;
                Some((*ino, at.div_ceil(page)..(at + len) / page))
            }
            _ => None,
        }
    }

    fn covered_by_file(&self, ino: Ino, data_only: bool) -> Vec<bool> {
        let own = |pending: &Pending| match pending {
            Pending::Meta(Op::Rename {
                replaced: Some(other),
                swapped: true,
                ..
            }) if *other == ino => true,
            _ => pending.ino() == Some(ino),
        };
        let counts = |op: &Op| match op {
            Op::Attr { .. }
            | Op::Xattr { .. }
            | Op::Rename { .. }
            | Op::Link { .. }
            | Op::Unlink { .. } => !data_only,
            _ => true,
        };
        match self.mode {
            Mode::Posix => self
                .pending
                .iter()
                .map(|pending| {
                    own(pending)
                        && match pending {
                            Pending::Meta(op) => !op.is_naming() && counts(op),
                            _ => true,
                        }
                })
                .collect(),
            Mode::Btrfs => {
                let mut covered: Vec<bool> = self
                    .pending
                    .iter()
                    .map(|pending| {
                        own(pending)
                            && match pending {
                                Pending::Meta(op) => op.is_naming() || counts(op),
                                _ => true,
                            }
                    })
                    .collect();
                self.close(&mut covered, true);
                covered
            }
            Mode::Ext4 | Mode::Xfs | Mode::Prefix => {
                // Writing sets the time of modification; and a new page or size is metadata too.
                let last = self.pending.iter().rposition(|pending| {
                    own(pending)
                        && match pending {
                            Pending::Meta(op) => counts(op),
                            Pending::Extend { .. } => true,
                            Pending::Piece { page, .. } => !data_only || self.is_fresh(ino, *page),
                        }
                });
                let upto = last.map_or(0, |last| match self.mode {
                    Mode::Xfs => last + 1,
                    _ => self.pending.len(),
                });
                self.pending
                    .iter()
                    .enumerate()
                    .map(|(at, pending)| match pending {
                        Pending::Meta(_) => at < upto,
                        _ => own(pending),
                    })
                    .collect()
            }
        }
    }

    fn covered_by_dir(&self, dir: Ino) -> Vec<bool> {
        // btrfs goes on into the directories that are new.
        let mut dirs = HashSet::from([dir]);
        if self.mode == Mode::Btrfs {
            for pending in &self.pending {
                if let Pending::Meta(Op::Create { dir, ino, .. }) = pending
                    && dirs.contains(dir)
                    && self.durable.dir(*ino).is_some()
                {
                    dirs.insert(*ino);
                }
            }
        }
        let about = |pending: &Pending| match pending {
            Pending::Meta(op) => {
                op.entries().any(|(dir, _)| dirs.contains(&dir))
                    || (op.ino() == Some(dir) && (op.is_naming() || self.mode != Mode::Posix))
            }
            _ => false,
        };
        if matches!(self.mode, Mode::Posix | Mode::Btrfs) {
            let mut covered: Vec<bool> = self.pending.iter().map(about).collect();
            self.close(&mut covered, true);
            return covered;
        }
        let upto = self
            .pending
            .iter()
            .rposition(about)
            .map_or(0, |last| match self.mode {
                Mode::Xfs => last + 1,
                _ => self.pending.len(),
            });
        self.pending
            .iter()
            .enumerate()
            .map(|(at, pending)| at < upto && matches!(pending, Pending::Meta(_)))
            .collect()
    }

    /// Adds what the covered calls need: earlier calls on the same entries, for the names of the
    /// same inodes, and for the names of the directories that they are in.
    fn close(&self, covered: &mut [bool], with_places: bool) {
        let mut needed = Needed::default();
        for (at, pending) in self.pending.iter().enumerate().rev() {
            let Pending::Meta(op) = pending else {
                continue;
            };
            if covered[at] || needed.needs(op) {
                covered[at] = true;
                needed.add(op, with_places);
            }
        }
    }

    /// Moves what is covered to the durable disk.
    fn settle(&mut self, covered: &[bool]) {
        let pending = std::mem::take(&mut self.pending);
        let mut touched = BTreeSet::new();
        for (item, covered) in pending.into_iter().zip(covered) {
            if !covered {
                self.pending.push(item);
                continue;
            }
            match &item {
                Pending::Meta(op) => {
                    op.apply(&mut self.durable);
                    self.cut_pending(op);
                }
                Pending::Piece {
                    ino,
                    page,
                    from,
                    data,
                    part,
                } => {
                    touched.insert(*ino);
                    if let Some(file) = self.durable.file_mut(*ino) {
                        file.put(*page, *from, &data[part.clone()]);
                    }
                }
                Pending::Extend { ino, to } => {
                    if let Some(file) = self.durable.file_mut(*ino) {
                        file.size = file.size.max(*to);
                    }
                }
            }
        }
        for ino in touched {
            if let Some(file) = self.durable.file_mut(ino) {
                file.resize(file.size);
            }
        }
    }

    /// A truncation or a hole that is durable undoes the pending writes before it.
    fn cut_pending(&mut self, op: &Op) {
        let (ino, at, end) = match op {
            Op::Truncate { ino, size } => (*ino, *size, u64::MAX),
            Op::Punch { ino, at, len } => (*ino, *at, at + len),
            _ => return,
        };
        self.pending.retain_mut(|pending| match pending {
            Pending::Piece {
                ino: of,
                page,
                from,
                part,
                ..
            } if *of == ino => {
                let start = *page * PAGE as u64 + *from as u64;
                let stop = start + part.len() as u64;
                if at <= start && stop <= end {
                    return false;
                }
                if at > start && at < stop && stop <= end {
                    part.end -= (stop - at) as usize;
                }
                true
            }
            Pending::Extend { ino: of, to } if *of == ino && end == u64::MAX => {
                *to = (*to).min(at);
                true
            }
            _ => true,
        });
    }
}

/// Writes the sectors of a page that a mask names.
fn put_sectors(file: &mut FileBody, page: u64, from: usize, data: &[u8], sectors: u8) {
    if sectors == 0xFF {
        file.put(page, from, data);
        return;
    }
    let end = from + data.len();
    for sector in from / SECTOR..end.div_ceil(SECTOR) {
        if sectors & (1 << sector) != 0 {
            let (first, last) = (from.max(sector * SECTOR), end.min((sector + 1) * SECTOR));
            file.put(page, first, &data[first - from..last - from]);
        }
    }
}

/// What later calls can't do without, since it is lost (read forwards).
#[derive(Default)]
struct Lost {
    entries: HashSet<(Ino, Arc<[u8]>)>,
    inodes: HashSet<Ino>,
    truncated: HashSet<Ino>,
    directory_moved: bool,
}

impl Lost {
    fn needs(&self, op: &Op) -> bool {
        if !op.is_naming() {
            // Sizes and holes of one file stay in order.
            return op.ino().is_some_and(|ino| self.truncated.contains(&ino))
                && matches!(
                    op,
                    Op::Truncate { .. } | Op::Punch { .. } | Op::Reserve { .. }
                );
        }
        op.ino().is_some_and(|ino| self.inodes.contains(&ino))
            || op.entries().any(|(dir, name)| {
                self.inodes.contains(&dir) || self.entries.contains(&(dir, Arc::clone(name)))
            })
            || (self.directory_moved && is_directory_move(op))
    }

    fn add(&mut self, op: &Op) {
        if !op.is_naming() {
            if matches!(
                op,
                Op::Truncate { .. } | Op::Punch { .. } | Op::Reserve { .. }
            ) {
                self.truncated.extend(op.ino());
            }
            return;
        }
        self.inodes.extend(op.ino());
        if let Op::Rename { replaced, .. } = op {
            self.inodes.extend(replaced);
        }
        for (dir, name) in op.entries() {
            self.entries.insert((dir, Arc::clone(name)));
        }
        self.directory_moved |= is_directory_move(op);
    }
}

fn is_directory_move(op: &Op) -> bool {
    matches!(
        op,
        Op::Rename {
            directory: true,
            ..
        } | Op::Rename { swapped: true, .. }
    )
}

/// What calls that are there need of earlier ones (read backwards).
#[derive(Default)]
struct Needed {
    entries: HashSet<(Ino, Arc<[u8]>)>,
    inodes: HashSet<Ino>,
    directory_moved: bool,
}

impl Needed {
    fn needs(&self, op: &Op) -> bool {
        if !op.is_naming() {
            return false;
        }
        let swapped = match op {
            Op::Rename { replaced, .. } => *replaced,
            _ => None,
        };
        op.ino()
            .into_iter()
            .chain(swapped)
            .any(|ino| self.inodes.contains(&ino))
            || op
                .entries()
                .any(|(dir, name)| self.entries.contains(&(dir, Arc::clone(name))))
            || (self.directory_moved && is_directory_move(op))
    }

    fn add(&mut self, op: &Op, with_places: bool) {
        if !op.is_naming() {
            return;
        }
        self.inodes.extend(op.ino());
        for (dir, name) in op.entries() {
            self.entries.insert((dir, Arc::clone(name)));
            if with_places {
                self.inodes.insert(dir);
            }
        }
        if let Op::Rename { replaced, .. } = op {
            self.inodes.extend(replaced);
        }
        self.directory_moved |= is_directory_move(op);
    }
}
