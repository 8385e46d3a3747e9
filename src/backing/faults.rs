//! The counters and controls of a [`super::Faulty`].

use std::io;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};

macro_rules! calls {
    ($($(#[$doc:meta])* $name:ident $(($change:ident))?,)*) => {
        /// The calls of [`super::Backing`], one by one.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Call {
            $(#[doc = concat!("`", stringify!($name), "`")] $name,)*
        }

        impl Call {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// Those that change something on the disk, or make it durable.
            pub const CHANGES: &'static [Self] = &[$($(Self::$change,)?)*];
        }
    };
}

// A call that changes something is named a second time, in brackets.
calls! {
    Root,
    OpenDir,
    Stat,
    StatDir,
    StatFile,
    OpenFile,
    CreateFile(CreateFile),
    ReadAt,
    WriteAt(WriteAt),
    Truncate(Truncate),
    Allocate(Allocate),
    Seek,
    SyncFile(SyncFile),
    SyncDir(SyncDir),
    SyncAll(SyncAll),
    Mkdir(Mkdir),
    Rmdir(Rmdir),
    Unlink(Unlink),
    Symlink(Symlink),
    Readlink,
    Link(Link),
    Rename(Rename),
    Mknod(Mknod),
    SetMode(SetMode),
    SetOwner(SetOwner),
    SetTimes(SetTimes),
    GetXattr,
    SetXattr(SetXattr),
    ListXattr,
    RemoveXattr(RemoveXattr),
    List,
    NextEntries,
    StatFs,
    Lock,
}

const KINDS: usize = Call::ALL.len();

/// A set of calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Calls(u64);

impl Calls {
    /// Every call.
    pub const ANY: Self = Self::of(Call::ALL);
    /// Those that change something on the disk, or make it durable.
    pub const CHANGES: Self = Self::of(Call::CHANGES);

    /// These calls.
    pub const fn of(calls: &[Call]) -> Self {
        let mut set = 0;
        let mut at = 0;
        while at < calls.len() {
            set |= 1 << calls[at] as u32;
            at += 1;
        }
        Self(set)
    }

    /// Whether `call` is among them.
    pub const fn contains(self, call: Call) -> bool {
        self.0 & (1 << call as u32) != 0
    }
}

impl From<Call> for Calls {
    fn from(call: Call) -> Self {
        Self::of(&[call])
    }
}

/// Whether a fault goes away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repeat {
    /// One call fails.
    Once,
    /// That call and all later ones of the set fail.
    FromThenOn,
}

/// Nothing is armed, or what was armed is over.
const OFF: u64 = u64::MAX;

/// The counters and controls of a [`super::Faulty`].
pub struct Faults {
    counts: [AtomicU64; KINDS],
    /// The errno with which all calls of a kind fail; 0: none.
    kinds: [AtomicI32; KINDS],
    /// Calls of `set` to go until one fails; 0: it has come and the fault stays.
    countdown: AtomicU64,
    set: AtomicU64,
    errno: AtomicI32,
    stays: AtomicBool,
    /// Calls that were made to fail.
    failed: AtomicU64,
    /// Bytes that a failing write still writes.
    torn: AtomicU64,
    /// How often memory was advised to fetch something.
    advised: AtomicU64,
}

impl Default for Faults {
    fn default() -> Self {
        Self {
            counts: [const { AtomicU64::new(0) }; KINDS],
            kinds: [const { AtomicI32::new(0) }; KINDS],
            countdown: AtomicU64::new(OFF),
            set: AtomicU64::new(0),
            errno: AtomicI32::new(0),
            stays: AtomicBool::new(false),
            failed: AtomicU64::new(0),
            torn: AtomicU64::new(0),
            advised: AtomicU64::new(0),
        }
    }
}

impl Faults {
    /// How often `call` has been made, failed ones included.
    pub fn count(&self, call: Call) -> u64 {
        self.counts[call as usize].load(Ordering::Relaxed)
    }

    /// How often the calls of a set have been made, failed ones included.
    pub fn total(&self, calls: Calls) -> u64 {
        Call::ALL
            .iter()
            .filter(|&&call| calls.contains(call))
            .map(|&call| self.count(call))
            .sum()
    }

    /// How often memory was advised to fetch something (`will_need`): advice can't fail, and is no [`Call`].
    pub fn advised(&self) -> u64 {
        self.advised.load(Ordering::Relaxed)
    }

    pub(super) fn note_advice(&self) {
        self.advised.fetch_add(1, Ordering::Relaxed);
    }

    /// How many calls were made to fail.
    pub fn failed(&self) -> u64 {
        self.failed.load(Ordering::Relaxed)
    }

    /// Sets all counts to 0.
    pub fn reset_counts(&self) {
        self.counts
            .iter()
            .chain([&self.failed, &self.advised])
            .for_each(|n| n.store(0, Ordering::Relaxed));
    }

    /// Makes the `nth` call of a set from now (1: the next one) fail with `errno`. Takes the place
    /// of an earlier one that hasn't come yet; `nth` 0 arms nothing.
    pub fn fail_nth(&self, calls: impl Into<Calls>, nth: u64, errno: i32, repeat: Repeat) {
        self.countdown.store(OFF, Ordering::SeqCst);
        self.set.store(calls.into().0, Ordering::SeqCst);
        self.errno.store(errno, Ordering::SeqCst);
        self.stays
            .store(repeat == Repeat::FromThenOn, Ordering::SeqCst);
        self.countdown
            .store(if nth == 0 { OFF } else { nth }, Ordering::SeqCst);
    }

    /// Makes every call of a set fail with `errno`, until [`Faults::clear`] or until it is set
    /// again with `errno` 0.
    pub fn fail_all(&self, calls: impl Into<Calls>, errno: i32) {
        let calls = calls.into();
        for &call in Call::ALL.iter().filter(|&&call| calls.contains(call)) {
            self.kinds[call as usize].store(errno, Ordering::SeqCst);
        }
    }

    /// Lets each [`super::Backing::write_at`] that is made to fail write its first `bytes` bytes, as a
    /// full disk or a power cut does. 0, as at the start: none.
    pub fn tear_writes(&self, bytes: u64) {
        self.torn.store(bytes, Ordering::SeqCst);
    }

    /// Takes all faults away; the counts stay.
    pub fn clear(&self) {
        self.countdown.store(OFF, Ordering::SeqCst);
        self.kinds
            .iter()
            .for_each(|errno| errno.store(0, Ordering::SeqCst));
        self.torn.store(0, Ordering::SeqCst);
    }

    /// Counts a call; the error with which it is to fail.
    pub(super) fn check(&self, call: Call) -> io::Result<()> {
        self.counts[call as usize].fetch_add(1, Ordering::Relaxed);
        let errno = match self.kinds[call as usize].load(Ordering::Acquire) {
            0 if self.is_due(call) => self.errno.load(Ordering::Acquire),
            0 => return Ok(()),
            errno => errno,
        };
        self.failed.fetch_add(1, Ordering::Relaxed);
        Err(io::Error::from_raw_os_error(errno))
    }

    /// How many bytes a failing write writes.
    pub(super) fn torn(&self) -> u64 {
        self.torn.load(Ordering::Acquire)
    }

    fn is_due(&self, call: Call) -> bool {
        let armed = self.countdown.load(Ordering::Acquire) != OFF;
        if !armed || !Calls(self.set.load(Ordering::Acquire)).contains(call) {
            return false;
        }
        let stays = self.stays.load(Ordering::Acquire);
        let counted = self
            .countdown
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |left| match left {
                OFF => None,
                0 | 1 if stays => Some(0),
                0 | 1 => Some(OFF),
                _ => Some(left - 1),
            });
        matches!(counted, Ok(0 | 1))
    }
}
