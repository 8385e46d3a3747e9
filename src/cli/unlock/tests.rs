use std::collections::HashMap;
use std::fs;

use super::super::exit::{self, Exit};
use super::*;
use crate::kms::ProtectorKind;

fn with_env<T>(vars: &[(&str, &str)], root: bool, run: impl FnOnce(&Environment<'_>) -> T) -> T {
    let vars: HashMap<String, OsString> = vars
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).into()))
        .collect();
    run(&Environment {
        var: &|name| vars.get(name).cloned(),
        root,
    })
}

fn path_for(keystore: Option<&str>, vars: &[(&str, &str)], root: bool) -> Result<PathBuf> {
    let args = KeystoreArgs {
        keystore: keystore.map(PathBuf::from),
        ..KeystoreArgs::default()
    };
    with_env(vars, root, |env| keystore_path(&args, env))
}

#[test]
fn the_keystore_is_found_in_the_documented_order() {
    let all = [
        (ENV_KEYSTORE, "/env"),
        ("XDG_DATA_HOME", "/xdg"),
        ("HOME", "/home/me"),
    ];
    assert_eq!(
        path_for(Some("/flag"), &all, true).unwrap(),
        Path::new("/flag")
    );
    assert_eq!(path_for(None, &all, true).unwrap(), Path::new("/env"));
    assert_eq!(
        path_for(None, &all[1..], true).unwrap(),
        Path::new("/var/lib/envelopefs")
    );
    assert_eq!(
        path_for(None, &all[1..], false).unwrap(),
        Path::new("/xdg/envelopefs")
    );
    let home = Path::new("/home/me/.local/share/envelopefs");
    assert_eq!(path_for(None, &all[2..], false).unwrap(), home);
    assert_eq!(
        path_for(None, &[("XDG_DATA_HOME", "rel"), all[2]], false).unwrap(),
        home
    );
    assert_eq!(
        path_for(None, &[(ENV_KEYSTORE, ""), all[2]], false).unwrap(),
        home
    );
    assert_eq!(
        exit::of(&path_for(None, &[], false).unwrap_err()),
        Exit::Usage
    );
}

#[test]
fn the_sources_come_in_the_documented_order() {
    let credentials = tempfile::tempdir().unwrap();
    let folder = credentials.path().to_str().unwrap().to_owned();
    let args = KeystoreArgs {
        keystore: None,
        passphrase_file: Some("/p".into()),
        key_file: Some("/k".into()),
    };
    let vars = [
        (ENV_PASSPHRASE_FILE, "/ep"),
        (ENV_KEY_FILE, "/ek"),
        (ENV_CREDENTIALS, folder.as_str()),
    ];
    let without_credential = with_env(&vars, false, |env| sources(&args, env));
    fs::write(credentials.path().join(CREDENTIAL), "x").unwrap();
    let all = with_env(&vars, false, |env| sources(&args, env));
    assert_eq!(
        all,
        [
            Source::PassphraseFile("/p".into()),
            Source::PassphraseFile("/ep".into()),
            Source::KeyFile("/k".into()),
            Source::KeyFile("/ek".into()),
            Source::Credential(credentials.path().join(CREDENTIAL)),
        ]
    );
    assert_eq!(without_credential, all[..4]);
}

#[test]
fn the_terminal_is_asked_only_when_nothing_is_named() {
    let none = KeystoreArgs::default();
    assert_eq!(
        with_env(&[], false, |env| sources(&none, env)),
        [Source::Terminal]
    );
    let key = with_env(&[(ENV_KEY_FILE, "/k")], false, |env| sources(&none, env));
    assert_eq!(key, [Source::KeyFile("/k".into())]);
    let absent = with_env(&[(ENV_CREDENTIALS, "/nowhere")], false, |env| {
        sources(&none, env)
    });
    assert_eq!(absent, [Source::Terminal]);
}

#[test]
fn what_a_source_gives_is_of_its_kind() {
    let folder = tempfile::tempdir().unwrap();
    let (keystore, file) = (Path::new("/ks"), folder.path().join("secret"));
    fs::write(&file, [b'k'; 64]).unwrap();
    let key = read(&Source::KeyFile(file.clone()), keystore).unwrap();
    assert_eq!(key.kind(), ProtectorKind::KeyFile);
    for source in [
        Source::PassphraseFile(file.clone()),
        Source::Credential(file.clone()),
    ] {
        assert_eq!(
            read(&source, keystore).unwrap().kind(),
            ProtectorKind::Passphrase
        );
        assert_eq!(
            read_new(&source, keystore).unwrap().kind(),
            ProtectorKind::Passphrase
        );
    }
}

#[test]
fn unusable_sources_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let (keystore, file) = (Path::new("/ks"), folder.path().join("secret"));
    fs::write(&file, b"\n").unwrap();
    let empty = read(&Source::PassphraseFile(file.clone()), keystore)
        .err()
        .unwrap();
    assert_eq!(exit::of(&empty), Exit::Usage);
    assert!(
        format!("{empty:#}").contains("secret is empty"),
        "{empty:#}"
    );
    let short = read(&Source::KeyFile(file), keystore).err().unwrap();
    assert_eq!(exit::of(&short), Exit::Usage);
    let gone = read(&Source::PassphraseFile("/no/such/file".into()), keystore)
        .err()
        .unwrap();
    assert!(format!("{gone:#}").contains("/no/such/file"), "{gone:#}");
}

#[test]
fn a_missing_keystore_is_said_before_a_passphrase_is_asked_for() {
    let args = KeystoreArgs {
        keystore: Some("/no/such/keystore".into()),
        ..Default::default()
    };
    let error = open(&args).err().unwrap();
    assert!(
        format!("{error:#}").contains("no keystore in /no/such/keystore"),
        "{error:#}"
    );
}
