//! The plaintext twin: mounts a plain directory through the very front end that a volume has.
//!
//!     cargo build --release --example passthrough
//!     target/release/examples/passthrough [-o transport=auto|uring|dev] LOWER MOUNTPOINT
//!
//! `src/fuse` is compiled here as it stands (both transports, `ops`, the mount itself), over a
//! `volume` that passes everything through: the same options, threads, lifetimes and kernel flags, and
//! below it the same thin layer of system calls, `backing::Os`. What `scripts/bench` finds between the
//! two is what encryption costs: cipher, format, journal, keys.
//!
//! It stays in the foreground until it is unmounted. It is for measuring: set-id bits survive writes,
//! default ACLs are not inherited, `copy_file_range` is left to the kernel.

use std::error::Error;
use std::path::PathBuf;
use std::sync::Arc;

use envelopefs::backing::Os;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

#[path = "../../../src/fuse/mod.rs"]
#[allow(dead_code, unused_imports)] // control calls and error cases that a passthrough hasn't
mod fuse;
mod volume;

use fuse::{Mount, MountOptions, Transport};

const USAGE: &str = "usage: passthrough [-o allow_other,transport=auto|uring|dev] LOWER MOUNTPOINT";

fn main() -> Result<(), Box<dyn Error>> {
    let mut options = MountOptions::new();
    options.let_in(false);
    let mut places = Vec::new();
    let mut words = std::env::args_os().skip(1);
    while let Some(word) = words.next() {
        if word != "-o" {
            places.push(PathBuf::from(word));
            continue;
        }
        let list = words.next().ok_or(USAGE)?;
        for option in list.to_str().ok_or(USAGE)?.split(',') {
            match option {
                "allow_other" => options.let_in(true),
                "transport=auto" => options.transport = Transport::Auto,
                "transport=uring" => options.transport = Transport::Uring,
                "transport=dev" => options.transport = Transport::Dev,
                _ => return Err(USAGE.into()),
            }
        }
    }
    let [lower, mountpoint] = <[PathBuf; 2]>::try_from(places).map_err(|_| USAGE)?;
    tracing_subscriber::fmt()
        .with_max_level(tracing::Level::WARN)
        .with_writer(std::io::stderr)
        .init();
    let limit = getrlimit(Resource::Nofile);
    let all = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    setrlimit(Resource::Nofile, all)?;
    options.fsname = lower.to_str().map(str::to_owned);
    options.subtype = Some("passthrough".to_owned());
    let volume = Arc::new(volume::Volume::new(Os::open(&lower)?)?);
    Mount::start(volume, &mountpoint, &options, None)?.wait()?;
    Ok(())
}
