use super::*;

#[test]
fn codes_are_distinct_and_come_back() {
    for (exit, code, _) in TABLE {
        assert_eq!(exit.code(), code);
        assert_eq!(Exit::from_code(code), exit);
    }
    let mut codes: Vec<u8> = table().map(|row| row.0).collect();
    codes.dedup();
    assert_eq!(codes.len(), TABLE.len());
    assert_eq!(
        codes,
        (0..9).chain([252, 254]).collect::<Vec<u8>>(),
        "the numbers are an interface: they never change"
    );
    assert_eq!(Exit::from_code(200), Exit::Failure);
}

#[test]
fn a_failure_keeps_its_code_under_context() {
    let error = failure(Exit::Busy, "held by 12")
        .context("mounting /a")
        .context("outer");
    assert_eq!(of(&error), Exit::Busy);
    assert_eq!(format!("{error:#}"), "outer: mounting /a: held by 12");
}

#[test]
fn the_outermost_code_wins_and_unknown_errors_are_failures() {
    assert_eq!(of(&anyhow::anyhow!("x")), Exit::Failure);
    let unsupported = std::io::Error::from(std::io::ErrorKind::Unsupported);
    assert_eq!(
        of(&anyhow::Error::new(unsupported).context("c")),
        Exit::NotSupported
    );
    assert_eq!(of(&anyhow::Error::new(rustix::io::Errno::BUSY)), Exit::Busy);
    assert_eq!(
        of(&anyhow::Error::new(rustix::io::Errno::NOENT)),
        Exit::Failure
    );
}

#[test]
fn help_lists_every_code() {
    let help = help();
    for (code, meaning) in table() {
        assert!(help.contains(&format!("  {code}  {meaning}\n")));
    }
}

#[test]
fn errors_of_the_key_manager_have_their_codes() {
    let dir = std::path::PathBuf::from("/ks");
    let cases = [
        (KmsError::NotFound("no such key".into()), Exit::NoSuchKey),
        (KmsError::Disabled { arn: "arn".into() }, Exit::KeyDisabled),
        (
            KmsError::WrongPassphrase { dir: dir.clone() },
            Exit::WrongPassphrase,
        ),
        (KmsError::Busy, Exit::Busy),
        (
            KmsError::UnsupportedOperation("x".into()),
            Exit::NotSupported,
        ),
        (KmsError::InvalidCiphertext, Exit::Damage),
        (KmsError::Validation("x".into()), Exit::Usage),
        (KmsError::NoKeystore { dir }, Exit::Failure),
    ];
    for (error, exit) in cases {
        let error = anyhow::Error::new(error).context("opening");
        assert_eq!(of(&error), exit, "{error:#}");
    }
}

#[test]
fn errors_of_the_other_rooms_have_their_codes() {
    let damaged = || VolumeError::Damaged {
        what: "a".into(),
        why: "b".into(),
    };
    let record = |error| VolumeError::Record {
        volume: "v".into(),
        error,
    };
    let disabled = KmsError::Disabled { arn: "arn".into() };
    let cases = [
        (anyhow::Error::new(damaged()), Exit::Damage),
        (VolumeError::Busy { holder: "x".into() }.into(), Exit::Busy),
        (VolumeError::Key(disabled).into(), Exit::KeyDisabled),
        (record(FormatError::Version(9)).into(), Exit::NotSupported),
        (record(FormatError::Unauthentic).into(), Exit::Damage),
        (VolumeError::NoVolume("d".into()).into(), Exit::Failure),
        (VolumeError::NotSupported("x").into(), Exit::NotSupported),
        (
            VolumeError::Io(std::io::ErrorKind::StorageFull.into()).into(),
            Exit::Failure,
        ),
        (FormatError::Magic.into(), Exit::Failure),
        (FuseError::Busy { path: "/m".into() }.into(), Exit::Busy),
        (
            FuseError::NotDirectory { path: "/m".into() }.into(),
            Exit::Failure,
        ),
    ];
    for (error, exit) in cases {
        let error = error.context("c");
        assert_eq!(of(&error), exit, "{error:#}");
    }
}
