use super::*;

fn plan() -> Plan {
    Plan {
        program: "/usr/bin/envelopefs".into(),
        cipher_dir: "/srv/ci pher/100%\"$x".into(),
        every: Duration::from_secs(90 * 24 * 3600),
        max_rate: NonZeroU32::new(500),
        keystore: "/var/lib/envelopefs".into(),
        unlock: vec![
            Unlock::Credential("/etc/pass phrase%".into()),
            Unlock::KeyFile("/etc/key".into()),
        ],
        system: true,
    }
}

#[test]
fn times_are_read() {
    let days = |days: u64| Duration::from_secs(days * 24 * 3600);
    assert_eq!(every("90d"), Ok(Every::Time(days(90))));
    assert_eq!(every("2w"), Ok(Every::Time(days(14))));
    assert_eq!(every("never"), Ok(Every::Never));
    assert_eq!(age("36h"), Ok(Duration::from_secs(36 * 3600)));
    for wrong in [
        "",
        "90",
        "d",
        "-1d",
        "90days",
        "0d",
        "99999999999999999999d",
        "36501d",
    ] {
        assert!(age(wrong).is_err(), "{wrong}");
        assert!(every(wrong).is_err(), "{wrong}");
    }
    assert!(every("23h").is_err(), "the timer looks once a day");
}

#[test]
fn the_service_rotates_then_rewraps_with_what_opens_the_keystore() {
    let [(_, service), (_, timer)] = plan().units().unwrap();
    let lines: Vec<&str> = service.lines().collect();
    let place = r#""/srv/ci pher/100%%\"$$x""#;
    let common = "--keystore=/var/lib/envelopefs --key-file=/etc/key --";
    let commands: Vec<&&str> = lines
        .iter()
        .filter(|line| line.starts_with("ExecStart="))
        .collect();
    assert_eq!(
        commands,
        [
            &format!("ExecStart=/usr/bin/envelopefs rotate --if-older 2160h {common} {place}")
                .as_str(),
            &format!(
                "ExecStart=/usr/bin/envelopefs rewrap --if-needed --max-rate 500 {common} {place}"
            )
            .as_str(),
        ]
    );
    for line in [
        "LoadCredential=envelopefs.passphrase:/etc/pass phrase%%",
        r#"RequiresMountsFor="/srv/ci pher/100%%\"$x""#,
        r#"ReadWritePaths="/srv/ci pher/100%%\"$x" -/var/lib/envelopefs"#,
        "Type=oneshot",
        "Nice=19",
        "IOSchedulingClass=idle",
        "ProtectSystem=strict",
        "NoNewPrivileges=yes",
    ] {
        assert!(lines.contains(&line), "{line} in\n{service}");
    }
    for line in [
        "OnCalendar=daily",
        "Persistent=true",
        "WantedBy=timers.target",
    ] {
        assert!(
            timer.lines().any(|found| found == line),
            "{line} in\n{timer}"
        );
    }
    // A user's manager has no say over the system.
    let user = Plan {
        system: false,
        max_rate: None,
        unlock: Vec::new(),
        ..plan()
    };
    let service = user.service().unwrap();
    assert!(service.contains("NoNewPrivileges=yes"));
    assert!(!service.contains("ProtectSystem") && !service.contains("LoadCredential"));
    assert!(service.contains("envelopefs rewrap --if-needed --keystore="));
}

#[test]
fn what_no_unit_can_name_is_refused() {
    for bad in ["/srv/a\nb", "/srv/a\u{7f}b"] {
        let plan = Plan {
            cipher_dir: bad.into(),
            ..plan()
        };
        assert!(plan.units().is_err(), "{bad:?}");
    }
}

#[test]
fn units_go_where_the_manager_looks() {
    let dir = |root, vars: &'static [(&str, &str)]| {
        let var = move |name: &str| {
            let found = vars.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| OsString::from(value))
        };
        units_dir(&Environment { var: &var, root }).ok()
    };
    let path = |path: &str| Some(PathBuf::from(path));
    assert_eq!(dir(true, &[("HOME", "/root")]), path("/etc/systemd/system"));
    assert_eq!(
        dir(false, &[("HOME", "/home/a")]),
        path("/home/a/.config/systemd/user")
    );
    let both = &[("HOME", "/home/a"), ("XDG_CONFIG_HOME", "/conf")];
    assert_eq!(dir(false, both), path("/conf/systemd/user"));
    let relative = &[("HOME", "/home/a"), ("XDG_CONFIG_HOME", "conf")];
    assert_eq!(dir(false, relative), path("/home/a/.config/systemd/user"));
    assert_eq!(dir(false, &[]), None);
}

/// `systemd-analyze verify` finds nothing, where there is one.
#[test]
fn systemd_takes_the_units() {
    let folder = tempfile::tempdir().unwrap();
    for (system, cipher) in [(true, "plain"), (false, "with a space %n $HOME")] {
        let cipher_dir = folder.path().join(cipher);
        std::fs::create_dir(&cipher_dir).unwrap();
        let plan = Plan {
            program: std::env::current_exe().unwrap(),
            cipher_dir,
            system,
            ..plan()
        };
        let mut paths = Vec::new();
        for (suffix, text) in plan.units().unwrap() {
            let path = folder
                .path()
                .join(format!("envelopefs-rotate-test.{suffix}"));
            std::fs::write(&path, text).unwrap();
            paths.push(path);
        }
        let checked = Command::new("systemd-analyze")
            .args(["verify", "--man=no", "--recursive-errors=no"])
            .args(if system { None } else { Some("--user") })
            .args(&paths)
            .output();
        let Ok(checked) = checked else {
            return; // no systemd
        };
        let said = String::from_utf8_lossy(&checked.stderr).into_owned();
        let ours = said
            .lines()
            .any(|line| line.contains("envelopefs-rotate-test"));
        assert!(!ours, "{said}");
    }
}
