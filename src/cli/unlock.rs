//! Where the keystore lies and what opens it.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::exit::usage;
use super::terminal::Terminal;
use crate::kms::{Kms, KmsError, ProtectorInput};

/// Names the keystore's folder.
pub const ENV_KEYSTORE: &str = "ENVELOPEFS_KEYSTORE";
/// Names a file with the passphrase.
pub const ENV_PASSPHRASE_FILE: &str = "ENVELOPEFS_PASSPHRASE_FILE";
/// Names a key file.
pub const ENV_KEY_FILE: &str = "ENVELOPEFS_KEY_FILE";
/// The folder where systemd puts a service's credentials.
const ENV_CREDENTIALS: &str = "CREDENTIALS_DIRECTORY";
/// The credential that is read from that folder.
pub const CREDENTIAL: &str = "envelopefs.passphrase";
/// The keystore of the system's mounts.
const SYSTEM_KEYSTORE: &str = "/var/lib/envelopefs";

/// Where the keystore lies and what opens it; the same for every command.
#[derive(Debug, Clone, Default, PartialEq, Eq, clap::Args)]
#[command(next_help_heading = "Keystore options")]
pub struct KeystoreArgs {
    /// The keystore's folder [env: ENVELOPEFS_KEYSTORE]
    ///
    /// Without it: the folder that the environment variable ENVELOPEFS_KEYSTORE names; else
    /// /var/lib/envelopefs for root, and $XDG_DATA_HOME/envelopefs (~/.local/share/envelopefs) for
    /// others.
    #[arg(long, global = true, value_name = "PATH")]
    pub keystore: Option<PathBuf>,

    /// Read the keystore's passphrase from a file [env: ENVELOPEFS_PASSPHRASE_FILE]
    ///
    /// One newline at the end of the file is not part of the passphrase.
    #[arg(long, global = true, value_name = "FILE")]
    pub passphrase_file: Option<PathBuf>,

    /// Open the keystore with a key file [env: ENVELOPEFS_KEY_FILE]
    ///
    /// Every byte of the file counts.
    #[arg(long, global = true, value_name = "FILE")]
    pub key_file: Option<PathBuf>,
}

/// What the process's surroundings say; read once, given by hand in tests.
pub struct Environment<'a> {
    /// Looks up an environment variable.
    pub var: &'a dyn Fn(&str) -> Option<OsString>,
    /// True for the superuser.
    pub root: bool,
}

impl Environment<'static> {
    /// The real one.
    pub fn real() -> Self {
        Self {
            var: &|name| std::env::var_os(name),
            root: rustix::process::geteuid().is_root(),
        }
    }
}

impl Environment<'_> {
    /// A variable that is set and not empty.
    fn get(&self, name: &str) -> Option<OsString> {
        (self.var)(name).filter(|value| !value.is_empty())
    }

    fn path(&self, name: &str) -> Option<PathBuf> {
        self.get(name).map(PathBuf::from)
    }
}

/// One place that an unlocking secret comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A file whose content, less a newline at its end, is the passphrase.
    PassphraseFile(PathBuf),
    /// A file whose whole content is the key.
    KeyFile(PathBuf),
    /// A systemd credential with the passphrase.
    Credential(PathBuf),
    /// The person at the terminal.
    Terminal,
}

/// The folder of the keystore.
pub fn keystore_path(args: &KeystoreArgs, env: &Environment<'_>) -> Result<PathBuf> {
    if let Some(path) = args.keystore.clone().or_else(|| env.path(ENV_KEYSTORE)) {
        return Ok(path);
    }
    if env.root {
        return Ok(PathBuf::from(SYSTEM_KEYSTORE));
    }
    // The XDG rules: a relative path in the variable is to be ignored.
    if let Some(data) = env.path("XDG_DATA_HOME").filter(|path| path.is_absolute()) {
        return Ok(data.join("envelopefs"));
    }
    let home = env.path("HOME").ok_or_else(|| {
        usage(format!(
            "no keystore: HOME is not set; give --keystore or set {ENV_KEYSTORE}"
        ))
    })?;
    Ok(home.join(".local/share/envelopefs"))
}

/// The places to look for a secret, best first. The terminal only when nothing else is named.
pub fn sources(args: &KeystoreArgs, env: &Environment<'_>) -> Vec<Source> {
    let mut found = Vec::new();
    let passphrase = [args.passphrase_file.clone(), env.path(ENV_PASSPHRASE_FILE)];
    found.extend(passphrase.into_iter().flatten().map(Source::PassphraseFile));
    let key = [args.key_file.clone(), env.path(ENV_KEY_FILE)];
    found.extend(key.into_iter().flatten().map(Source::KeyFile));
    let credential = env
        .path(ENV_CREDENTIALS)
        .map(|folder| folder.join(CREDENTIAL));
    found.extend(
        credential
            .filter(|path| path.exists())
            .map(Source::Credential),
    );
    if found.is_empty() {
        found.push(Source::Terminal);
    }
    found
}

/// Reads the secret of one source, to open the keystore at `keystore`.
pub fn read(source: &Source, keystore: &Path) -> Result<ProtectorInput> {
    match source {
        Source::PassphraseFile(path) | Source::Credential(path) => {
            Ok(ProtectorInput::passphrase_file(path)?)
        }
        Source::KeyFile(path) => Ok(ProtectorInput::key_file(path)?),
        Source::Terminal => {
            let prompt = format!("Passphrase of the keystore {}: ", keystore.display());
            let line = terminal()?
                .ask_secret(&prompt)
                .context("reading the passphrase")?;
            Ok(ProtectorInput::passphrase(line)?)
        }
    }
}

/// Reads the secret that a keystore at `keystore` shall open with from now on; a typed one is asked
/// for twice.
pub fn read_new(source: &Source, keystore: &Path) -> Result<ProtectorInput> {
    if !matches!(source, Source::Terminal) {
        return read(source, keystore);
    }
    let mut terminal = terminal()?;
    let context = "reading the new passphrase";
    let prompt = format!("New passphrase for the keystore {}: ", keystore.display());
    let first = terminal.ask_secret(&prompt).context(context)?;
    if first.is_empty() {
        return Err(usage("the passphrase is empty"));
    }
    let second = terminal.ask_secret("Once more: ").context(context)?;
    if first != second {
        return Err(usage("the two passphrases differ; nothing was changed"));
    }
    Ok(ProtectorInput::passphrase(first)?)
}

/// Opens the keystore that the flags and the surroundings name, with all that they offer.
pub fn open(args: &KeystoreArgs) -> Result<Kms> {
    open_by(args, Kms::open)
}

/// As [`open`], for what the keystore still holds: it is left as it is.
pub fn open_older(args: &KeystoreArgs) -> Result<Kms> {
    open_by(args, Kms::open_older)
}

fn open_by(
    args: &KeystoreArgs,
    open: fn(&Path, &[ProtectorInput]) -> crate::kms::Result<Kms>,
) -> Result<Kms> {
    let env = Environment::real();
    let path = keystore_path(args, &env)?;
    if !Kms::exists(&path) {
        // Before anybody is asked for a passphrase.
        return Err(KmsError::NoKeystore { dir: path }.into());
    }
    let secrets = sources(args, &env)
        .iter()
        .map(|source| read(source, &path))
        .collect::<Result<Vec<_>>>()?;
    Ok(open(&path, &secrets)?)
}

fn terminal() -> Result<Terminal> {
    Terminal::open().ok_or_else(|| {
        usage(format!(
            "no passphrase: there is no terminal to ask on; give --passphrase-file or --key-file, \
             or set {ENV_PASSPHRASE_FILE} or {ENV_KEY_FILE}"
        ))
    })
}

#[cfg(test)]
mod tests;
