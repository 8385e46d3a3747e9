//! Operations of the key manager a second through a server, over the Unix socket and over HTTP with
//! SigV4: `cargo bench --bench serve [-- SECONDS [CLIENTS]]`.
//!
//! Server and clients share the machine: a figure is what both together take. Each client has one
//! connection and waits for each answer.

use std::env::args;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use envelopefs::kms::{CreateOptions, Kms, ProtectorInput, api};
use envelopefs::serve::sigv4::{Request, Signer, basic};
use envelopefs::serve::{Options, Server};
use serde_json::{Value, json};

/// Asks once, and reads the answer: its body.
fn ask(stream: &mut BufReader<impl Read + Write>, head: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    let request = format!("{head}Host: kms\r\nContent-Length: {length}\r\n\r\n{body}");
    stream
        .get_mut()
        .write_all(request.as_bytes())
        .expect("a request");
    let mut line = String::new();
    let mut length = 0;
    let mut first = true;
    loop {
        line.clear();
        stream.read_line(&mut line).expect("an answer");
        assert!(!first || line.starts_with("HTTP/1.1 200"), "{line}");
        first = false;
        if line == "\r\n" {
            break;
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().expect("a length");
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).expect("a body");
    body
}

fn target(operation: &str) -> String {
    format!("POST / HTTP/1.1\r\nX-Amz-Target: TrentService.{operation}\r\n")
}

fn signed(signer: &Signer<'_>, kms: &Kms, operation: &str, body: &str) -> String {
    let time = basic(kms.now());
    let target_value = format!("TrentService.{operation}");
    let headers: [(&str, &[u8]); 3] = [
        ("host", b"kms"),
        ("x-amz-date", time.as_bytes()),
        ("x-amz-target", target_value.as_bytes()),
    ];
    let request = Request {
        method: "POST",
        path: "/",
        query: "",
        headers: &headers,
        body: body.as_bytes(),
    };
    let authorization = signer.sign(&request, &time).expect("a signature");
    format!(
        "{}X-Amz-Date: {time}\r\nAuthorization: {authorization}\r\n",
        target(operation)
    )
}

#[allow(clippy::cast_precision_loss)] // figures to print
fn measure(name: &str, seconds: f64, clients: usize, client: &(dyn Fn(&dyn Fn() -> bool) + Sync)) {
    let (stop, done) = (AtomicBool::new(false), AtomicU64::new(0));
    let started = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..clients {
            scope.spawn(|| {
                client(&|| {
                    done.fetch_add(1, Ordering::Relaxed);
                    !stop.load(Ordering::Relaxed)
                });
            });
        }
        std::thread::sleep(Duration::from_secs_f64(seconds));
        stop.store(true, Ordering::Relaxed);
    });
    let count = done.into_inner() as f64;
    println!(
        "{name:<36} {clients:>7} {:>12.0}",
        count / started.elapsed().as_secs_f64()
    );
}

fn main() {
    // Cargo gives benchmarks a `--bench` of its own.
    let words: Vec<String> = args().skip(1).filter(|word| word != "--bench").collect();
    let word = |at: usize| words.get(at).map(String::as_str);
    let seconds = word(0).map_or(2.0, |text| text.parse().expect("SECONDS is a number"));
    let clients = word(1).map_or(8, |text| text.parse().expect("CLIENTS is a number"));

    let dir = tempfile::tempdir().expect("a directory");
    let protector = ProtectorInput::key(vec![7; 32].into()).expect("a key file");
    let kms = Kms::create(
        &dir.path().join("ks"),
        &protector,
        &CreateOptions::default(),
    );
    let kms = Arc::new(kms.expect("a keystore"));
    let call = |operation: &str, body: &Value| -> Value {
        let answer = api::call(&kms.owner(), operation, body.to_string().as_bytes());
        serde_json::from_slice(&answer.expect(operation)).expect("JSON")
    };
    let key = call("CreateKey", &json!({}))["KeyMetadata"]["KeyId"].clone();
    let encrypt =
        json!({"KeyId": key, "Plaintext": "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="});
    let blob = call("Encrypt", &encrypt)["CiphertextBlob"].clone();
    let bodies = [
        ("Encrypt", encrypt.to_string()),
        ("Decrypt", json!({ "CiphertextBlob": blob }).to_string()),
        (
            "GenerateDataKey",
            json!({"KeyId": key, "KeySpec": "AES_256"}).to_string(),
        ),
    ];
    let access_key = kms.create_access_key(None).expect("an access key");
    let signer = Signer {
        access_key: &access_key.info.access_key_id,
        secret: access_key.secret.as_bytes(),
        region: "us-east-1",
        service: "kms",
    };

    let options = Options {
        listen: Some("127.0.0.1:0".parse().expect("an address")),
        socket: Some(dir.path().join("kms.sock")),
        ..Options::default()
    };
    let server = Server::bind(Arc::clone(&kms), &options).expect("a server");
    let bound = server.bound();
    let (socket, address) = (
        bound.socket.expect("a socket"),
        bound.address.expect("an address"),
    );
    let (stop, stopped) = mpsc::channel::<()>();
    let serving = std::thread::spawn(move || {
        server.run(move || {
            let _ = stopped.recv();
        });
    });
    println!("{:<36} {:>7} {:>12}", "operation", "clients", "per second");
    for (operation, body) in &bodies {
        let head = target(operation);
        measure(
            &format!("{operation}, Unix socket"),
            seconds,
            clients,
            &|goes_on| {
                let mut stream =
                    BufReader::new(UnixStream::connect(&socket).expect("a connection"));
                while goes_on() {
                    ask(&mut stream, &head, body);
                }
            },
        );
    }
    for (operation, body) in &bodies {
        measure(
            &format!("{operation}, HTTP with SigV4"),
            seconds,
            clients,
            &|goes_on| {
                let stream = TcpStream::connect(address).expect("a connection");
                stream.set_nodelay(true).expect("an option");
                let mut stream = BufReader::new(stream);
                while goes_on() {
                    let head = signed(&signer, &kms, operation, body);
                    ask(&mut stream, &head, body);
                }
            },
        );
    }
    drop(stop);
    serving.join().expect("the server ends");
}
