//! A server in this process, asked over its Unix socket and over the network.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::{Arc, mpsc};

use serde_json::Value;

use super::*;
use crate::kms::{CreateOptions, Kms, ProtectorInput};

struct Running {
    dir: tempfile::TempDir,
    kms: Arc<Kms>,
    bound: Bound,
    stop: Option<mpsc::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

fn keystore(dir: &tempfile::TempDir) -> Arc<Kms> {
    let input = ProtectorInput::key(vec![1; 32].into()).unwrap();
    Arc::new(Kms::create(&dir.path().join("ks"), &input, &CreateOptions::default()).unwrap())
}

fn loopback() -> SocketAddr {
    "127.0.0.1:0".parse().unwrap()
}

impl Running {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let kms = keystore(&dir);
        let options = Options {
            listen: Some(loopback()),
            socket: Some(dir.path().join("kms.sock")),
            ..Options::default()
        };
        let server = Server::bind(Arc::clone(&kms), &options).unwrap();
        let bound = server.bound();
        let (stop, stopped) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            server.run(move || {
                let _ = stopped.recv();
            });
        });
        Self {
            dir,
            kms,
            bound,
            stop: Some(stop),
            thread: Some(thread),
        }
    }

    fn socket(&self) -> PathBuf {
        self.bound.socket.clone().unwrap()
    }

    fn local(&self, head: &str, body: &str) -> (u16, Value) {
        exchange(UnixStream::connect(self.socket()).unwrap(), head, body)
    }

    fn network(&self, head: &str, body: &str) -> (u16, Value) {
        exchange(
            TcpStream::connect(self.bound.address.unwrap()).unwrap(),
            head,
            body,
        )
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.stop.take());
        self.thread.take().unwrap().join().unwrap();
    }
}

/// Status and JSON of an answer.
fn exchange(mut stream: impl Read + Write, head: &str, body: &str) -> (u16, Value) {
    let length = body.len();
    write!(
        stream,
        "{head}Connection: close\r\nContent-Length: {length}\r\n\r\n{body}"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, serde_json::from_str(body).unwrap_or(Value::Null))
}

fn target(operation: &str) -> String {
    format!("POST / HTTP/1.1\r\nHost: kms\r\nX-Amz-Target: TrentService.{operation}\r\n")
}

#[test]
fn the_owner_of_the_process_is_the_root_on_the_socket() {
    let running = Running::new();
    let (status, made) = running.local(&target("CreateKey"), "{}");
    assert_eq!(
        (status, &made["KeyMetadata"]["KeyState"]),
        (200, &Value::from("Enabled"))
    );
    let (status, refused) = running.local(&target("DescribeKey"), r#"{"KeyId": "alias/none"}"#);
    assert_eq!(
        (status, &refused["__type"]),
        (400, &Value::from("NotFoundException"))
    );
    let (status, refused) = running.local(&target("Nothing"), "{}");
    assert_eq!(
        (status, &refused["__type"]),
        (400, &Value::from("UnknownOperationException"))
    );
    let mode = std::fs::metadata(running.socket())
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o666);
}

#[test]
fn the_network_must_sign() {
    let running = Running::new();
    let (status, refused) = running.network(&target("ListKeys"), "{}");
    assert_eq!(
        (status, &refused["__type"]),
        (400, &Value::from("MissingAuthenticationTokenException"))
    );
    let key = running.kms.create_access_key(None).unwrap();
    let time = sigv4::basic(running.kms.now());
    let body = "{}";
    let headers: [(&str, &[u8]); 3] = [
        ("host", b"kms"),
        ("x-amz-date", time.as_bytes()),
        ("x-amz-target", b"TrentService.ListKeys"),
    ];
    let request = sigv4::Request {
        method: "POST",
        path: "/",
        query: "",
        headers: &headers,
        body: body.as_bytes(),
    };
    let signer = sigv4::Signer {
        access_key: &key.info.access_key_id,
        secret: key.secret.as_bytes(),
        region: "eu-west-1",
        service: "kms",
    };
    let authorization = signer.sign(&request, &time).unwrap();
    let head = format!(
        "{}X-Amz-Date: {time}\r\nAuthorization: {authorization}\r\n",
        target("ListKeys")
    );
    assert_eq!(running.network(&head, body).0, 200);
    assert_eq!(
        running.network(&head, "{ }").1["__type"],
        "InvalidSignatureException"
    );
    running
        .kms
        .delete_access_key(&key.info.access_key_id)
        .unwrap();
    assert_eq!(
        running.network(&head, body).1["__type"],
        "UnrecognizedClientException"
    );
}

#[test]
fn health() {
    let running = Running::new();
    let (status, page) = running.network("GET /health HTTP/1.1\r\nHost: kms\r\n", "");
    assert_eq!((status, &page["status"]), (200, &Value::from("ok")));
    assert_eq!(
        running.network("GET / HTTP/1.1\r\nHost: kms\r\n", "").0,
        405
    );
}

#[test]
fn a_body_too_large_is_not_read() {
    let running = Running::new();
    let mut stream = TcpStream::connect(running.bound.address.unwrap()).unwrap();
    write!(
        stream,
        "{}Content-Length: {}\r\n\r\n",
        target("Encrypt"),
        1u64 << 40
    )
    .unwrap();
    let mut begin = [0; 12];
    stream.read_exact(&mut begin).unwrap();
    assert_eq!(&begin, b"HTTP/1.1 413");
}

#[test]
fn where_it_listens_and_where_not() {
    let running = Running::new();
    let refused = |options: &Options| {
        Server::bind(Arc::clone(&running.kms), options)
            .err()
            .unwrap()
    };
    assert!(matches!(refused(&Options::default()), ServeError::Nowhere));
    let outside = Options {
        listen: Some("0.0.0.0:0".parse().unwrap()),
        ..Options::default()
    };
    assert!(matches!(refused(&outside), ServeError::NeedsTls(_)));
    let taken = Options {
        socket: running.bound.socket.clone(),
        ..Options::default()
    };
    assert!(matches!(refused(&taken), ServeError::InUse(_)));
    let pem = running.dir.path().join("no.pem");
    let tls = Options {
        listen: Some(loopback()),
        tls: Some((pem.clone(), pem)),
        ..Options::default()
    };
    assert!(matches!(
        refused(&tls),
        ServeError::Certificate { .. } | ServeError::NoTls
    ));
    let socket = running.socket();
    drop(running);
    assert!(!socket.exists(), "the socket goes with the server");
}

/// Volumes whose keys come over the socket are known, and their runs recorded, as those beside the
/// keystore.
#[test]
fn a_volume_tells_of_itself_over_the_socket() {
    use crate::format::VolumeId;
    use crate::kms::{
        Census, CensusEntry, InRun, KeySource, Outcome, Requester, RunEnd, RunId, RunKind,
        VolumeNote, volume_context,
    };
    let running = Running::new();
    let kms = &running.kms;
    let key = kms.service_key("alias/envelopefs/volume").unwrap();
    let volume = VolumeId([4; 16]);
    let remote = Arc::new(RemoteKeys::new(&running.socket()).unwrap());
    let keys = remote.for_volume(&volume);
    let nobody = Requester::default();
    let place = "/srv/data".to_owned();
    let material = keys.current_material(&key).unwrap().prefix();
    let seen = VolumeNote::Seen {
        place: place.clone(),
        keys: vec![key],
    };
    keys.note(nobody, &seen).unwrap();
    let known = &kms.registered_volumes().unwrap()[0];
    assert_eq!(
        (known.volume, known.place.as_deref(), known.counted),
        (volume, Some("/srv/data"), None)
    );
    let run = RunId::random();
    {
        let _in_run = InRun::of(run);
        let context = volume_context(&volume);
        let made = keys.generate(nobody, &key, &context).unwrap();
        keys.re_encrypt(&made.blob, &context, &key).unwrap();
        let end = VolumeNote::Ended(RunEnd {
            kind: RunKind::Rewrap,
            place,
            dry_run: false,
            outcome: Outcome::default(),
            census: Some(Census {
                began: kms.now(),
                current: vec![(key, material)],
                counts: vec![CensusEntry {
                    key,
                    material,
                    files: 5,
                    volume_key: false,
                }],
                whole: true,
            }),
        });
        keys.note(nobody, &end).unwrap();
    }
    keys.check_usable(&key).unwrap();
    let known = &kms.registered_volumes().unwrap()[0];
    assert_eq!((known.counts.len(), known.counts[0].files), (1, 5));
    let log = running.dir.path().join("ks/audit/00000001.jsonl");
    let log = std::fs::read_to_string(log).unwrap();
    let of_run: Vec<Value> = log
        .lines()
        .filter(|line| line.contains(&run.to_string()))
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let names: Vec<&str> = of_run
        .iter()
        .map(|record| record["eventName"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["GenerateDataKey", "ReEncrypt", "EndRewrap"]);

    // Nobody but a volume tells of one.
    let body = serde_json::to_string(&seen).unwrap();
    let ask = |operation: &str, body: &str| running.local(&target(operation), body);
    let (status, answer) = ask("EnvelopefsNoteVolume", &body);
    assert_eq!(
        (status, answer["__type"].as_str()),
        (400, Some("UnknownOperationException"))
    );
    // What a volume needs is refused to clients, in words that tell what to do.
    let made = kms
        .owner()
        .create_key(&crate::kms::api::CreateKeyRequest::default());
    let own = made.unwrap().key_metadata.key_id;
    kms.note_new_volume(&volume, "/srv/own", &own).unwrap();
    let body =
        serde_json::json!({ "KeyId": own.to_string(), "Force": "lose everything in /srv/own" });
    let (status, answer) = ask("ScheduleKeyDeletion", &body.to_string());
    assert_eq!(
        (status, answer["__type"].as_str()),
        (400, Some("KMSInvalidStateException"))
    );
    let message = answer["message"].as_str().unwrap();
    assert!(
        message.contains("/srv/own") && message.contains("envelopefs rewrap"),
        "{message}"
    );
}
