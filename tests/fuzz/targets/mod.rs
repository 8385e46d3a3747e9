//! What is fuzzed: one function for each target, which takes any bytes and must not panic.
//!
//! The functions also assert what has to hold for every input: what parses is written back as the
//! same bytes, what was forged does not open. `tests/fuzz_corpus.rs` runs them over the checked-in
//! corpus and mutations of it; the cargo-fuzz binaries in `fuzz_targets` run them without end.

mod naming;
mod records;
mod serving;
mod volumes;
mod world;

#[allow(unused_imports)] // one of the two users
pub use volumes::file;
pub use world::World;

/// A target: the world that it may use, and the input.
pub type Target = fn(&World, &[u8]);

/// All targets by name.
pub const ALL: [(&str, Target); 13] = [
    ("header", |_, data| records::header(data)),
    ("entries", |_, data| records::entries(data)),
    ("record", |_, data| records::record(data)),
    ("journal", |_, data| records::journal(data)),
    ("blob", records::blob),
    ("names", |_, data| naming::names(data)),
    ("words", |_, data| naming::words(data)),
    ("volume_control", volumes::control),
    ("volume_tree", volumes::tree),
    ("volume_file", file),
    ("sigv4", |_, data| serving::sigv4(data)),
    ("request", |_, data| serving::request(data)),
    ("policy", |_, data| serving::policy(data)),
];

/// Runs a target, for the cargo-fuzz binaries.
#[allow(dead_code)] // one of the two users
pub fn run(name: &str, data: &[u8]) {
    static WORLD: std::sync::OnceLock<World> = std::sync::OnceLock::new();
    let (_, target) = ALL
        .into_iter()
        .find(|(target, _)| *target == name)
        .expect("a target of this name");
    target(WORLD.get_or_init(World::new), data);
}

/// Takes numbers and pieces off the front of an input; what is missing is zero or empty.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn bytes(&mut self, len: usize) -> &'a [u8] {
        let (head, rest) = self.0.split_at(len.min(self.0.len()));
        self.0 = rest;
        head
    }

    fn byte(&mut self) -> u8 {
        self.bytes(1).first().copied().unwrap_or(0)
    }

    fn number(&mut self) -> u64 {
        let mut bytes = [0; 8];
        let found = self.bytes(8);
        bytes[..found.len()].copy_from_slice(found);
        u64::from_le_bytes(bytes)
    }

    /// A piece behind its length of two bytes.
    fn piece(&mut self) -> &'a [u8] {
        let len = usize::from(self.byte()) | usize::from(self.byte()) << 8;
        self.bytes(len)
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn rest(self) -> &'a [u8] {
        self.0
    }
}
