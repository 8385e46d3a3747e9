use std::collections::HashMap;
use std::fs;

use super::super::exit;
use super::*;

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
fn one_newline_at_the_end_of_a_passphrase_file_is_stripped() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("p");
    let cases: [(&[u8], &[u8]); 5] = [
        (b"word", b"word"),
        (b"word\n", b"word"),
        (b"word\r\n", b"word"),
        (b"word\n\n", b"word\n"),
        (b" w\xff\0 \n", b" w\xff\0 "),
    ];
    for (content, expected) in cases {
        fs::write(&file, content).unwrap();
        assert_eq!(passphrase_file(&file).unwrap().as_slice(), expected);
    }
}

#[test]
fn empty_and_oversized_secrets_are_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("secret");
    let keystore = Path::new("/ks");
    for content in [&b""[..], b"\n", b"\r\n"] {
        fs::write(&file, content).unwrap();
        let error = passphrase_file(&file).unwrap_err();
        assert_eq!(exit::of(&error), Exit::Usage);
        assert!(
            format!("{error:#}").contains("secret: the passphrase is empty"),
            "{error:#}"
        );
    }
    fs::write(&file, b"").unwrap();
    assert!(read(&Source::KeyFile(file.clone()), keystore).is_err());
    fs::write(&file, vec![b'a'; SECRET_FILE_MAX + 1]).unwrap();
    assert!(read(&Source::KeyFile(file.clone()), keystore).is_err());
    fs::write(&file, vec![b'a'; SECRET_FILE_MAX]).unwrap();
    assert!(read(&Source::KeyFile(file.clone()), keystore).is_ok());
    let gone = read(&Source::PassphraseFile("/no/such/file".into()), keystore)
        .err()
        .unwrap();
    assert!(format!("{gone:#}").contains("/no/such/file"), "{gone:#}");
}

#[test]
fn a_key_file_counts_to_the_last_byte() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("key");
    fs::write(&file, b"\x01\x02\n").unwrap();
    let secret = read(&Source::KeyFile(file), Path::new("/ks")).unwrap();
    let UnlockSecret::KeyFile(bytes) = secret else {
        panic!("a key file gives a key")
    };
    assert_eq!(bytes.as_slice(), b"\x01\x02\n");
}
