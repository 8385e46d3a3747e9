//! What a filesystem holds: inodes, by copy on write, so that a state costs little to branch off.
#![allow(dead_code)] // each test uses a part

use std::collections::BTreeMap;
use std::sync::Arc;

use envelopefs::backing::Time;

/// Bytes of a page: what a disk is given at a time.
pub const PAGE: usize = 4096;

/// An inode's number.
pub type Ino = u64;

/// The root directory.
pub const ROOT: Ino = 2;

/// The name of an entry.
pub type Name = Arc<[u8]>;

/// The bytes of one page.
pub type Page = Arc<[u8; PAGE]>;

/// All of a filesystem. A clone shares everything until it is changed.
#[derive(Clone)]
pub struct Disk {
    /// By number; None: no such inode.
    inodes: Vec<Option<Arc<Inode>>>,
}

/// A file, directory or other inode.
#[derive(Clone)]
pub struct Inode {
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub rdev: u64,
    pub atime: Time,
    pub mtime: Time,
    pub ctime: Time,
    pub btime: Time,
    /// Number of entries that name it; a directory's `.` and its children's `..` aside.
    pub names: u32,
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    pub body: Body,
}

/// What an inode holds.
#[derive(Clone)]
pub enum Body {
    File(FileBody),
    Dir(DirBody),
    Symlink(Vec<u8>),
    Special,
}

/// A file's bytes.
#[derive(Clone, Default)]
pub struct FileBody {
    pub size: u64,
    /// What is not there is a hole; None: reserved, and reads as zeros.
    pub pages: BTreeMap<u64, Option<Page>>,
}

/// A directory's entries.
#[derive(Clone)]
pub struct DirBody {
    pub parent: Ino,
    /// The place in the listing, and the inode.
    pub entries: BTreeMap<Name, (u64, Ino)>,
    /// By place in the listing: in the order of their making, which is the same in each run.
    pub order: BTreeMap<u64, Name>,
    next: u64,
}

impl DirBody {
    pub fn new(parent: Ino) -> Self {
        Self {
            parent,
            entries: BTreeMap::new(),
            order: BTreeMap::new(),
            next: 3, // `.` and `..` come first
        }
    }
}

impl FileBody {
    /// Writes inside one page; the size is another matter.
    pub fn put(&mut self, page: u64, from: usize, data: &[u8]) {
        let slot = self.pages.entry(page).or_default();
        let bytes = slot.get_or_insert_with(|| Arc::new([0; PAGE]));
        Arc::make_mut(bytes)[from..from + data.len()].copy_from_slice(data);
    }

    /// Sets the size; what lies behind it is gone.
    pub fn resize(&mut self, size: u64) {
        self.size = size;
        let keep = size.div_ceil(PAGE as u64);
        self.pages.split_off(&keep);
        let tail = (size % PAGE as u64) as usize;
        if tail > 0
            && let Some(Some(page)) = self.pages.get_mut(&(size / PAGE as u64))
            && page[tail..].iter().any(|&byte| byte != 0)
        {
            Arc::make_mut(page)[tail..].fill(0);
        }
    }

    /// Makes a hole.
    pub fn punch(&mut self, at: u64, len: u64) {
        let (page, end) = (PAGE as u64, at.saturating_add(len));
        let (first, after) = (at.div_ceil(page), end / page);
        if first < after {
            let mut tail = self.pages.split_off(&first);
            let mut rest = tail.split_off(&after);
            self.pages.append(&mut rest);
        }
        for (from, to) in [
            (at, end.min(first.saturating_mul(page))),
            (at.max(after.saturating_mul(page)), end),
        ] {
            if from < to
                && from / page == (to - 1) / page
                && let Some(Some(bytes)) = self.pages.get_mut(&(from / page))
            {
                let start = (from % page) as usize;
                Arc::make_mut(bytes)[start..start + (to - from) as usize].fill(0);
            }
        }
    }

    /// Reserves space.
    pub fn reserve(&mut self, at: u64, len: u64) {
        for page in at / PAGE as u64..(at + len).div_ceil(PAGE as u64) {
            self.pages.entry(page).or_insert(None);
        }
    }

    /// Pages that take space.
    pub fn used(&self) -> u64 {
        self.pages.len() as u64
    }

    /// Fills `out` from `at` on; how many bytes there were.
    pub fn read(&self, at: u64, out: &mut [u8]) -> usize {
        let len = self.size.saturating_sub(at).min(out.len() as u64) as usize;
        let mut done = 0;
        while done < len {
            let place = at + done as u64;
            let from = (place % PAGE as u64) as usize;
            let piece = (PAGE - from).min(len - done);
            match self.pages.get(&(place / PAGE as u64)) {
                Some(Some(page)) => {
                    out[done..done + piece].copy_from_slice(&page[from..from + piece]);
                }
                _ => out[done..done + piece].fill(0),
            }
            done += piece;
        }
        len
    }
}

/// Calls `each` for the part of every page that a range touches: page, place in it, place in the
/// data, length.
pub fn pieces(at: u64, len: usize, mut each: impl FnMut(u64, usize, usize, usize)) {
    let mut done = 0;
    while done < len {
        let place = at + done as u64;
        let from = (place % PAGE as u64) as usize;
        let piece = (PAGE - from).min(len - done);
        each(place / PAGE as u64, from, done, piece);
        done += piece;
    }
}

impl Disk {
    /// A filesystem with nothing but its root.
    pub fn new() -> Self {
        let root = Inode {
            names: 1,
            ..Inode::new(libc::S_IFDIR | 0o755, Body::Dir(DirBody::new(ROOT)), 0)
        };
        Self {
            inodes: vec![None, None, Some(Arc::new(root))],
        }
    }

    pub fn get(&self, ino: Ino) -> Option<&Inode> {
        self.inodes.get(ino as usize)?.as_deref()
    }

    pub fn get_mut(&mut self, ino: Ino) -> Option<&mut Inode> {
        self.inodes
            .get_mut(ino as usize)?
            .as_mut()
            .map(Arc::make_mut)
    }

    /// The number that the next new inode gets.
    pub fn next_ino(&self) -> Ino {
        self.inodes.len() as Ino
    }

    /// Adds an inode, without a name; one that is there stays.
    pub fn insert_new(&mut self, ino: Ino, inode: &Arc<Inode>) {
        if self.inodes.len() <= ino as usize {
            self.inodes.resize(ino as usize + 1, None);
        }
        self.inodes[ino as usize].get_or_insert_with(|| Arc::clone(inode));
    }

    pub fn remove(&mut self, ino: Ino) {
        if let Some(slot) = self.inodes.get_mut(ino as usize) {
            *slot = None;
        }
    }

    pub fn dir(&self, ino: Ino) -> Option<&DirBody> {
        match &self.get(ino)?.body {
            Body::Dir(dir) => Some(dir),
            _ => None,
        }
    }

    pub fn dir_mut(&mut self, ino: Ino) -> Option<&mut DirBody> {
        match &mut self.get_mut(ino)?.body {
            Body::Dir(dir) => Some(dir),
            _ => None,
        }
    }

    pub fn file(&self, ino: Ino) -> Option<&FileBody> {
        match &self.get(ino)?.body {
            Body::File(file) => Some(file),
            _ => None,
        }
    }

    pub fn file_mut(&mut self, ino: Ino) -> Option<&mut FileBody> {
        match &mut self.get_mut(ino)?.body {
            Body::File(file) => Some(file),
            _ => None,
        }
    }

    /// What an entry names.
    pub fn entry(&self, dir: Ino, name: &[u8]) -> Option<Ino> {
        self.dir(dir)?.entries.get(name).map(|&(_, ino)| ino)
    }

    /// Makes an entry name `ino`, or nothing. What it named before has a name less.
    pub fn set_entry(&mut self, dir: Ino, name: &Name, ino: Option<Ino>) {
        let Some(body) = self.dir_mut(dir) else {
            return;
        };
        let before = body.entries.get(name).copied();
        match (before, ino) {
            (Some((place, _)), Some(ino)) => {
                body.entries.insert(Arc::clone(name), (place, ino));
            }
            (None, Some(ino)) => {
                let place = body.next;
                body.next += 1;
                body.entries.insert(Arc::clone(name), (place, ino));
                body.order.insert(place, Arc::clone(name));
            }
            (Some((place, _)), None) => {
                body.entries.remove(name);
                body.order.remove(&place);
            }
            (None, None) => {}
        }
        if let Some((_, old)) = before
            && let Some(inode) = self.get_mut(old)
        {
            inode.names = inode.names.saturating_sub(1);
        }
        if let Some(ino) = ino
            && let Some(inode) = self.get_mut(ino)
        {
            inode.names += 1;
            if let Body::Dir(body) = &mut inode.body {
                body.parent = dir;
            }
        }
    }

    /// Pages in use: those of files, and one for each inode.
    pub fn used(&self) -> u64 {
        self.inodes
            .iter()
            .flatten()
            .map(|inode| match &inode.body {
                Body::File(file) => 1 + file.used(),
                _ => 1,
            })
            .sum()
    }
}

impl Inode {
    /// A new one, at a time in nanoseconds of the simulator's own clock.
    pub fn new(mode: u32, body: Body, now: u64) -> Self {
        let time = time_of(now);
        Self {
            mode,
            uid: 0,
            gid: 0,
            rdev: 0,
            atime: time,
            mtime: time,
            ctime: time,
            btime: time,
            names: 0,
            xattrs: BTreeMap::new(),
            body,
        }
    }
}

/// A time of the simulator's clock.
pub fn time_of(nanos: u64) -> Time {
    Time {
        secs: 1_700_000_000 + (nanos / 1_000_000_000).cast_signed(),
        nanos: (nanos % 1_000_000_000) as u32,
    }
}
