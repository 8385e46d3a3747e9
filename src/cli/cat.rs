//! `cat`: writes files of a volume that is not mounted to the standard output.

use std::io::{self, Write};
use std::path::Path;

use anyhow::{Context, Result};

use super::args::CatArgs;
use super::exit::{Exit, failure};
use super::output::STDOUT;
use super::reader::Reader;
use super::unlock::KeystoreArgs;
use crate::backing::Kind;

/// Bytes that are read at once.
const CHUNK: usize = 1 << 20;

/// Writes the files out, up to the first that fails.
pub fn run(args: &CatArgs, keystore: &KeystoreArgs) -> Result<Exit> {
    let reader = Reader::open(&args.cipher_dir, keystore, "cat")?;
    let mut out = io::stdout().lock();
    for path in &args.paths {
        cat(&reader, path, &mut out)?;
    }
    out.flush().context(STDOUT)?;
    Ok(Exit::Ok)
}

fn cat(reader: &Reader, path: &Path, out: &mut impl Write) -> Result<()> {
    let place = || path.display().to_string();
    let attr = reader.find(path, true)?;
    if attr.kind != Kind::File {
        return Err(failure(
            Exit::Failure,
            format!("{}: not a regular file", path.display()),
        ));
    }
    let file = reader.open_file(&attr).with_context(place)?;
    let mut buf = vec![0; CHUNK];
    let mut offset = 0u64;
    loop {
        let got = file.read(offset, &mut buf).with_context(place)?;
        if got == 0 {
            return Ok(());
        }
        out.write_all(&buf[..got]).context(STDOUT)?;
        offset = offset.saturating_add(got as u64);
    }
}
