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
