//! The key manager's behaviour, on real keystores in temporary directories.

mod aliases;
mod blobs;
mod deletion;
mod grants;
#[cfg(feature = "aws-lc")]
mod imports;
#[cfg(feature = "aws-lc")]
mod key_pairs;
mod migration;
mod names;
mod needs;
#[cfg(not(feature = "aws-lc"))]
mod no_key_pairs;
mod processes;
mod regions;
#[cfg(feature = "aws-lc")]
mod replica;
mod rotation;
mod sharing;
mod short;
mod state_table;
mod states;
mod store;
mod wire;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use tempfile::TempDir;
use zeroize::Zeroizing;

use short::{CreateKey, Via};

use super::*;

/// Milliseconds in a day.
const DAY: i64 = 86_400_000;

/// A clock that stands still until it is moved.
struct HandClock(AtomicI64);

impl HandClock {
    fn pass_days(&self, days: i64) {
        self.0.fetch_add(days * DAY, Ordering::Relaxed);
    }
}

impl Clock for HandClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.0.load(Ordering::Relaxed))
    }
}

/// A keystore of its own for a test.
struct Fixture {
    kms: Kms,
    clock: Arc<HandClock>,
    dir: TempDir,
}

impl Fixture {
    fn new() -> Self {
        let dir = TempDir::new().unwrap();
        // 2024-02-14T18:14:33.587Z
        let clock = Arc::new(HandClock(AtomicI64::new(1_707_934_473_587)));
        let kms = Kms::create_with_clock(
            &dir.path().join("ks"),
            &key_input(1),
            &CreateOptions::default(),
            Arc::clone(&clock) as Arc<dyn Clock>,
        )
        .unwrap();
        Self { kms, clock, dir }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("ks")
    }

    /// Another process's view: its own connections and caches.
    fn another(&self) -> Kms {
        let clock = Arc::clone(&self.clock) as Arc<dyn Clock>;
        Kms::open_with_clock(&self.path(), &[key_input(1)], clock).unwrap()
    }

    /// Where a key of the default Region is.
    fn place(&self, id: &KeyId) -> Place {
        self.kms.default_place(id)
    }

    fn key(&self) -> KeyId {
        self.kms.create_key(&CreateKey::default()).unwrap().key_id
    }
}

/// The contents of a key file: `n` over and over.
fn key_input(n: u8) -> ProtectorInput {
    ProtectorInput::key(Zeroizing::new(vec![n; 32])).unwrap()
}

fn passphrase(text: &str) -> ProtectorInput {
    ProtectorInput::passphrase(Zeroizing::new(text.as_bytes().to_vec())).unwrap()
}

fn context() -> EncryptionContext {
    EncryptionContext::new()
        .with("envelopefs:volume-id", short::volume().to_string())
        .with("envelopefs:file-id", "f")
}

fn alias(text: &str) -> AliasName {
    text.parse().unwrap()
}

fn reference(text: &str) -> KeyRef {
    text.parse().unwrap()
}

/// The AWS name of the error that must come.
fn refused<T>(result: Result<T>) -> &'static str {
    result.err().expect("it is refused").code()
}
