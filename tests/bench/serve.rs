//! Operations of the key manager a second through `serve`: over the Unix socket, and over HTTP with
//! signatures (SigV4). `cargo bench --bench serve [-- SECONDS [CONNECTIONS]]`.
//!
//! Server and clients are in one process, and the last column is by the processor time of both: it is
//! less than what the server alone would do. Clients keep their connections; a signed request is signed
//! once and sent again, and is verified each time.

use std::env::args;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use envelopefs::crypto::{hmac_sha256, sha256};
use envelopefs::kms::{CreateOptions, Kms, ProtectorInput, api};
use envelopefs::serve::{Options, Server};
use rustix::time::{ClockId, clock_gettime};
use serde_json::{Value, json};

/// A connection of either kind.
trait Stream: Read + Write + Send {}
impl<T: Read + Write + Send> Stream for T {}
type Connect<'a> = &'a (dyn Fn() -> Box<dyn Stream> + Sync);

/// Processor time of the process, in seconds.
#[allow(clippy::cast_precision_loss)] // a figure to print
fn processor() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// Hands bytes of a request out over and over, on so many connections.
#[allow(clippy::cast_precision_loss)] // figures to print
fn measure(name: &str, seconds: f64, connections: usize, connect: Connect<'_>, request: &[u8]) {
    let (stop, done) = (AtomicBool::new(false), AtomicU64::new(0));
    let (started, used) = (Instant::now(), processor());
    std::thread::scope(|scope| {
        for _ in 0..connections {
            scope.spawn(|| {
                let mut stream = connect();
                let (mut count, mut answer) = (0, Vec::with_capacity(4096));
                while !stop.load(Ordering::Relaxed) {
                    stream.write_all(request).expect("a request is taken");
                    read_answer(&mut *stream, &mut answer);
                    count += 1;
                }
                done.fetch_add(count, Ordering::Relaxed);
            });
        }
        std::thread::sleep(Duration::from_secs_f64(seconds));
        stop.store(true, Ordering::Relaxed);
    });
    let count = done.into_inner() as f64;
    println!(
        "{name:<28} {connections:>11} {:>12.0} {:>12.0}",
        count / started.elapsed().as_secs_f64(),
        count / (processor() - used)
    );
}

/// Reads one answer, which must be a good one.
fn read_answer(stream: &mut dyn Stream, answer: &mut Vec<u8>) {
    answer.clear();
    let mut part = [0; 4096];
    let (head, length) = loop {
        let count = stream.read(&mut part).expect("an answer");
        assert!(count > 0, "the server hung up");
        answer.extend_from_slice(&part[..count]);
        if let Some(end) = answer.windows(4).position(|four| four == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&answer[..end]).to_ascii_lowercase();
            assert!(head.starts_with("http/1.1 200 "), "{head}");
            let length = head
                .lines()
                .find_map(|line| line.strip_prefix("content-length:"));
            let length: usize = length.expect("a length").trim().parse().expect("a number");
            break (end + 4, length);
        }
    };
    while answer.len() < head + length {
        let count = stream.read(&mut part).expect("the rest of an answer");
        assert!(count > 0, "the server hung up");
        answer.extend_from_slice(&part[..count]);
    }
}

/// A request for the Unix socket.
fn plain(operation: &str, body: &str) -> Vec<u8> {
    format!(
        "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-amz-json-1.1\r\n\
         X-Amz-Target: TrentService.{operation}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// A request with its signature (AWS Signature Version 4). `key`: the access key's id and secret.
fn signed(kms: &Kms, key: (&str, &str), host: &str, operation: &str, body: &str) -> Vec<u8> {
    // 2024-02-14T18:14:33... as 20240214T181433Z.
    let mut date: String = kms.now().to_string();
    date.truncate(19);
    date.retain(|c| c != '-' && c != ':');
    date.push('Z');
    let (day, region) = (&date[..8], kms.region());
    let scope = format!("{day}/{region}/kms/aws4_request");
    let names = "content-type;host;x-amz-date;x-amz-target";
    let canonical = format!(
        "POST\n/\n\ncontent-type:application/x-amz-json-1.1\nhost:{host}\nx-amz-date:{date}\n\
         x-amz-target:TrentService.{operation}\n\n{names}\n{}",
        hex::encode(sha256(&[body.as_bytes()]))
    );
    let text = format!(
        "AWS4-HMAC-SHA256\n{date}\n{scope}\n{}",
        hex::encode(sha256(&[canonical.as_bytes()]))
    );
    let mut derived = format!("AWS4{}", key.1).into_bytes();
    for part in [day, &region.to_string(), "kms", "aws4_request"] {
        derived = hmac_sha256(&derived, &[part.as_bytes()]).to_vec();
    }
    let signature = hex::encode(hmac_sha256(&derived, &[text.as_bytes()]));
    format!(
        "POST / HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/x-amz-json-1.1\r\n\
         X-Amz-Date: {date}\r\nX-Amz-Target: TrentService.{operation}\r\n\
         Authorization: AWS4-HMAC-SHA256 Credential={}/{scope}, SignedHeaders={names}, \
         Signature={signature}\r\nContent-Length: {}\r\n\r\n{body}",
        key.0,
        body.len()
    )
    .into_bytes()
}

fn main() {
    // Cargo gives benchmarks a `--bench` of its own.
    let words: Vec<String> = args().skip(1).filter(|word| word != "--bench").collect();
    let word = |at: usize| words.get(at).map(String::as_str);
    let seconds = word(0).map_or(2.0, |text| text.parse().expect("SECONDS is a number"));
    let most = word(1).map_or(8, |text| text.parse().expect("CONNECTIONS is a number"));

    let dir = tempfile::tempdir().expect("a directory");
    let protector = ProtectorInput::key(vec![7; 32].into()).expect("a key file");
    let kms = Kms::create(
        &dir.path().join("ks"),
        &protector,
        &CreateOptions::default(),
    );
    let kms = Arc::new(kms.expect("a keystore"));
    let access = kms.create_access_key(None).expect("an access key");
    let made = api::call(&kms.owner(), "CreateKey", b"{}").expect("a key");
    let made: Value = serde_json::from_slice(&made).expect("JSON");
    let key = &made["KeyMetadata"]["Arn"];
    let context = json!({"purpose": "benchmark"});
    let encrypt = json!({"KeyId": key, "EncryptionContext": context, "Plaintext": "AAAAAAAAAAAAAAAAAAAAAA=="});
    let blob = api::call(&kms.owner(), "Encrypt", encrypt.to_string().as_bytes()).expect("a blob");
    let blob: Value = serde_json::from_slice(&blob).expect("JSON");
    let decrypt = json!({"CiphertextBlob": blob["CiphertextBlob"], "EncryptionContext": context});
    let generate = json!({"KeyId": key, "KeySpec": "AES_256", "EncryptionContext": context});

    let options = Options {
        listen: Some("127.0.0.1:0".parse().expect("an address")),
        socket: Some(dir.path().join("kms.sock")),
        ..Options::default()
    };
    let server = Server::bind(Arc::clone(&kms), &options).expect("a server");
    let bound = server.bound();
    let (address, socket) = (
        bound.address.expect("a port"),
        bound.socket.expect("a socket"),
    );
    let (end, ended) = channel::<()>();
    let running = std::thread::spawn(move || {
        server.run(move || {
            // An error is the sender's end.
            let _ = ended.recv();
        });
    });

    println!(
        "{:<28} {:>11} {:>12} {:>12}",
        "operation", "connections", "per second", "a core"
    );
    let host = address.to_string();
    let pair = (access.info.access_key_id.as_str(), access.secret.as_str());
    for (operation, body) in [
        ("Encrypt", &encrypt),
        ("Decrypt", &decrypt),
        ("GenerateDataKey", &generate),
    ] {
        let body = body.to_string();
        for connections in [1, most] {
            let connect: Connect<'_> =
                &|| Box::new(UnixStream::connect(&socket).expect("a server"));
            let request = plain(operation, &body);
            measure(
                &format!("socket {operation}"),
                seconds,
                connections,
                connect,
                &request,
            );
            let connect: Connect<'_> = &|| {
                let stream = TcpStream::connect(address).expect("a server");
                stream.set_nodelay(true).expect("a socket");
                Box::new(stream)
            };
            let request = signed(&kms, pair, &host, operation, &body);
            measure(
                &format!("HTTP {operation}"),
                seconds,
                connections,
                connect,
                &request,
            );
        }
    }
    drop(end);
    running.join().expect("the server ends");
}
