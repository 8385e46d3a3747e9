use super::*;

fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds)
}

#[test]
fn dates_are_right() {
    assert_eq!(civil_from_days(0), (1970, 1, 1));
    assert_eq!(civil_from_days(59), (1970, 3, 1));
    assert_eq!(civil_from_days(11_016), (2000, 2, 29));
    assert_eq!(civil_from_days(11_017), (2000, 3, 1));
    assert_eq!(civil_from_days(19_722), (2023, 12, 31));
    assert_eq!(civil_from_days(47_540), (2100, 2, 28));
    assert_eq!(civil_from_days(47_541), (2100, 3, 1));
    assert_eq!(timestamp(at(1_700_000_000)), "Nov 14 22:13:20");
    assert_eq!(timestamp(at(0)), "Jan  1 00:00:00");
}

#[test]
fn syslog_messages_have_the_form_of_rfc_3164() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log");
    let syslog = Syslog::new(&path).unwrap();
    syslog.send(3, b"nobody listens yet", at(0));

    let server = UnixDatagram::bind(&path).unwrap();
    server
        .set_read_timeout(Some(Duration::from_secs(5)))
        .unwrap();
    let mut buf = vec![0; 2 * MESSAGE_MAX];
    syslog.send(
        severity(Level::ERROR),
        b"block 3 is damaged\nfake line\n",
        at(1_700_000_000),
    );
    let len = server.recv(&mut buf).unwrap();
    let pid = std::process::id();
    let expected = format!("<27>Nov 14 22:13:20 envelopefs[{pid}]: block 3 is damaged fake line");
    assert_eq!(String::from_utf8_lossy(&buf[..len]), expected);

    syslog.send(6, &vec![b'x'; 2 * MESSAGE_MAX], at(0));
    assert_eq!(server.recv(&mut buf).unwrap(), MESSAGE_MAX);

    drop(server);
    std::fs::remove_file(&path).unwrap();
    let server = UnixDatagram::bind(&path).unwrap();
    server
        .set_read_timeout(Some(Duration::from_secs(5)))
        .unwrap();
    let mut writer = syslog.make_writer();
    writer.write_all(b"after a restart of the log\n").unwrap();
    let len = server.recv(&mut buf).unwrap();
    assert!(String::from_utf8_lossy(&buf[..len]).ends_with("]: after a restart of the log"));
}

#[test]
fn severities_follow_the_levels() {
    let levels = [
        Level::ERROR,
        Level::WARN,
        Level::INFO,
        Level::DEBUG,
        Level::TRACE,
    ];
    assert_eq!(levels.map(severity), [3, 4, 6, 7, 7]);
}

#[test]
fn a_log_file_that_cannot_be_opened_is_named() {
    let error = start(&LogTarget::File("/no/such/folder/log".into())).unwrap_err();
    assert!(format!("{error:#}").contains("/no/such/folder/log"));
}
