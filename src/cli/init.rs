//! `init`: makes a volume, and the keystore when there is none.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use anyhow::{Context, Result};

use super::args::InitArgs;
use super::exit::{Exit, failure};
use super::output;
use super::target::named;
use super::unlock::{self, Environment, KeystoreArgs};
use crate::backing::Os;
use crate::format::NameEncoding;
use crate::kms::{self, KeyId, KeyRef, Kms};
use crate::volume::{CreateOptions, Volume};

/// The service-managed key of volumes that name no other.
const SERVICE_KEY: &str = "alias/envelopefs/volume";
/// What marks a directory as a volume.
const CONTROL_DIR: &str = ".envelopefs";

/// Makes a volume.
pub fn run(args: &InitArgs, keystore: &KeystoreArgs) -> Result<Exit> {
    // The directory first: a refusal must not leave a keystore behind, nor ask for a passphrase.
    let missing = check_directory(&args.cipher_dir)?;
    let kms = open_or_make_keystore(keystore, args.key.is_none())?;
    let key = choose_key(&kms, args.key.as_deref())?;
    if missing {
        DirBuilder::new()
            .mode(0o700)
            .create(&args.cipher_dir)
            .with_context(|| format!("making the directory {}", args.cipher_dir.display()))?;
    }
    let names = if args.plaintext_names {
        NameEncoding::Plain
    } else {
        NameEncoding::Encrypted
    };
    let made = make(&args.cipher_dir, &kms, &CreateOptions { key, names });
    let id = match made {
        Ok(id) => id,
        Err(error) => {
            if missing {
                // It is empty or it stays; the error that counts is the first.
                let _ = std::fs::remove_dir(&args.cipher_dir);
            }
            return Err(error);
        }
    };
    let text = format!(
        "made volume {id} in {}, key {key}\n",
        args.cipher_dir.display()
    );
    output::text_out(&text)?;
    Ok(Exit::Ok)
}

fn make(cipher_dir: &Path, kms: &Kms, options: &CreateOptions) -> Result<crate::format::VolumeId> {
    let place = || cipher_dir.display().to_string();
    let backing = Os::open(cipher_dir).with_context(place)?;
    Volume::init(&backing, kms, options).map_err(|error| named(error, cipher_dir))
}

/// True when the directory is missing.
fn check_directory(path: &Path) -> Result<bool> {
    let shown = path.display();
    let mut entries = match std::fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
        Err(error) => return Err(error).with_context(|| shown.to_string()),
    };
    if std::fs::symlink_metadata(path.join(CONTROL_DIR)).is_ok() {
        return Err(failure(
            Exit::Failure,
            format!("{shown} is an envelopefs volume already"),
        ));
    }
    match entries.next() {
        None => Ok(false),
        Some(_) => Err(failure(
            Exit::Failure,
            format!("{shown} is not empty; a volume needs a directory of its own"),
        )),
    }
}

fn open_or_make_keystore(args: &KeystoreArgs, may_make: bool) -> Result<Kms> {
    let env = Environment::real();
    let path = unlock::keystore_path(args, &env)?;
    if Kms::exists(&path) || !may_make {
        // A key that is named can't be in a keystore that isn't there.
        return unlock::open(args);
    }
    let source = unlock::sources(args, &env).swap_remove(0);
    let secret = unlock::read_new(&source, &path)?;
    let kms = Kms::create(&path, &secret, &kms::CreateOptions::default())?;
    eprintln!("envelopefs: made the keystore {}", path.display());
    Ok(kms)
}

fn choose_key(kms: &Kms, name: Option<&str>) -> Result<KeyId> {
    let Some(name) = name else {
        return Ok(kms.service_key(SERVICE_KEY)?);
    };
    let key = kms.resolve(&name.parse::<KeyRef>()?)?;
    kms.check_volume_key(&key)?;
    Ok(key)
}
