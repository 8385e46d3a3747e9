use std::cell::Cell;

use clap::Parser;
use tempfile::TempDir;

use super::*;
use crate::kms::KmsError;

#[derive(Debug, Parser)]
struct Line {
    #[command(subcommand)]
    command: KeystoreCommand,
}

fn input(n: u8) -> ProtectorInput {
    ProtectorInput::key(vec![n; 32].into()).unwrap()
}

fn try_run(dir: &Path, open_with: u8, line: &str) -> Result<()> {
    let line = Line::try_parse_from(std::iter::once("keystore").chain(line.split(' ')))?;
    let access = Access {
        dir,
        open: &|| Ok(Kms::open(dir, &[input(open_with)])?),
        first_protector: &|| Ok(input(1)),
        ask_new_passphrase: &|| Ok(input(3)),
    };
    run(line.command, &access)
}

#[test]
fn a_keystore_is_made_once() {
    let temp = TempDir::new().unwrap();
    let dir = temp.path().join("ks");
    let status = try_run(&dir, 1, "status").unwrap_err();
    assert!(matches!(
        status.downcast_ref(),
        Some(KmsError::NoKeystore { .. })
    ));
    assert!(try_run(&dir, 1, "init --account-id 12").is_err());
    assert!(!dir.exists(), "nothing is left of an init that failed");
    try_run(
        &dir,
        1,
        "init --account-id 111122223333 --region eu-central-1",
    )
    .unwrap();
    try_run(&dir, 1, "status").unwrap();
    try_run(&dir, 1, "status --json").unwrap();
    let status = Kms::status(&dir).unwrap();
    assert_eq!(
        (&*status.account_id, &*status.region),
        ("111122223333", "eu-central-1")
    );
    assert_eq!(
        (status.keys, status.aliases, status.protectors.len()),
        (0, 0, 1)
    );
    let text = status_text(&status);
    assert!(
        text.contains("111122223333") && text.contains("key-file"),
        "{text}"
    );

    let line = Line::try_parse_from(["keystore", "init"]).unwrap();
    let asked = Cell::new(false);
    let ask = || {
        asked.set(true);
        Ok(input(1))
    };
    let open = || Ok(Kms::open(&dir, &[input(1)])?);
    let access = Access {
        dir: &dir,
        open: &open,
        first_protector: &ask,
        ask_new_passphrase: &ask,
    };
    let error = run(line.command, &access).unwrap_err();
    assert!(matches!(
        error.downcast_ref(),
        Some(KmsError::KeystoreExists { .. })
    ));
    assert!(!asked.get(), "no passphrase is asked for in vain");
}

#[test]
fn protectors_come_and_go() {
    let temp = TempDir::new().unwrap();
    let dir = temp.path().join("ks");
    try_run(&dir, 1, "init").unwrap();
    let key_file = temp.path().join("key");
    std::fs::write(&key_file, [2; 32]).unwrap();
    let add = format!("protector add --new-key-file {}", key_file.display());
    assert!(
        try_run(&dir, 2, &add).is_err(),
        "the keystore must be opened first"
    );
    try_run(&dir, 1, &add).unwrap();
    Kms::open(&dir, &[input(2)]).unwrap();
    try_run(&dir, 2, "protector add --json").unwrap();
    Kms::open(&dir, &[input(3)]).unwrap();
    let passphrase = temp.path().join("passphrase");
    std::fs::write(&passphrase, "secret\n").unwrap();
    try_run(
        &dir,
        2,
        &format!(
            "protector add --new-passphrase-file {}",
            passphrase.display()
        ),
    )
    .unwrap();
    assert!(Kms::needs_passphrase(&dir).unwrap());
    try_run(&dir, 1, "protector list").unwrap();
    try_run(&dir, 1, "protector list --json").unwrap();
    let both = format!("{add} --new-passphrase-file {}", passphrase.display());
    assert!(try_run(&dir, 1, &both).is_err());

    let protectors = Kms::status(&dir).unwrap().protectors;
    assert_eq!(protectors.len(), 4);
    for protector in &protectors[..3] {
        try_run(&dir, 3, &format!("protector remove {}", protector.id))
            .or_else(|_| {
                // The one that opened until now may be gone.
                let file = ProtectorInput::passphrase_file(&passphrase)?;
                Kms::open(&dir, &[file])?.remove_protector(&protector.id)
            })
            .unwrap();
    }
    let file = ProtectorInput::passphrase_file(&passphrase).unwrap();
    let kms = Kms::open(&dir, &[file]).unwrap();
    let last = kms.remove_protector(&protectors[3].id);
    assert!(matches!(last, Err(KmsError::LastProtector)));
}
