//! Operations of the key manager a second, embedded: `cargo bench --bench kms [-- SECONDS [THREADS]]`.
//!
//! Each line is one operation: how many a second of wall-clock time, and how many a second of
//! processor time of the whole process (all its threads, so that what is done for an operation in
//! the background counts). The second one is the operations a second a core, whatever else runs.

use std::env::args;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use envelopefs::kms::api::{
    self, DecryptRequest, EncryptRequest, GenerateDataKeyRequest, GenerateMacRequest, SignRequest,
};
use envelopefs::kms::{Client, CreateOptions, Kms, ProtectorInput, Result};
use rustix::time::{ClockId, clock_gettime};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

type Run<'a> = &'a (dyn Fn(&Client<'_>) -> Result<()> + Sync);

/// Processor time of the process, in seconds.
#[allow(clippy::cast_precision_loss)] // a figure to print
fn processor() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

#[allow(clippy::cast_precision_loss)] // figures to print
fn measure(kms: &Kms, name: &str, seconds: f64, threads: usize, run: Run<'_>) {
    let (stop, done) = (AtomicBool::new(false), AtomicU64::new(0));
    let (started, used) = (Instant::now(), processor());
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let mut count = 0;
                while !stop.load(Ordering::Relaxed) {
                    run(&kms.owner()).expect(name);
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
        "{name:<28} {threads:>7} {:>12.0} {:>12.0}",
        count / started.elapsed().as_secs_f64(),
        count / (processor() - used)
    );
}

/// A new key: its ARN.
fn key(kms: &Kms, body: &Value) -> String {
    let made = api::call(&kms.owner(), "CreateKey", body.to_string().as_bytes()).expect("a key");
    let made: Value = serde_json::from_slice(&made).expect("JSON");
    let arn = made["KeyMetadata"]["Arn"].as_str();
    arn.expect("an ARN").to_owned()
}

fn request<T: DeserializeOwned>(body: &Value) -> T {
    serde_json::from_str(&body.to_string()).expect("a request")
}

fn main() {
    // Cargo gives benchmarks a `--bench` of its own.
    let words: Vec<String> = args().skip(1).filter(|word| word != "--bench").collect();
    let word = |at: usize| words.get(at).map(String::as_str);
    let seconds = word(0).map_or(2.0, |text| text.parse().expect("SECONDS is a number"));
    let threads = word(1).map_or(1, |text| text.parse().expect("THREADS is a number"));

    let dir = tempfile::tempdir().expect("a directory");
    let protector = ProtectorInput::key(vec![7; 32].into()).expect("a key file");
    let kms = Kms::create(
        &dir.path().join("ks"),
        &protector,
        &CreateOptions::default(),
    )
    .expect("a keystore");
    let cmk = key(&kms, &json!({}));
    let context = json!({"envelopefs:volume-id": "v", "envelopefs:file-id": "f"});

    let encrypt: EncryptRequest = request(&json!({
        "KeyId": cmk, "EncryptionContext": context,
        "Plaintext": "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
    }));
    let blob = kms
        .owner()
        .encrypt(&encrypt)
        .expect("a blob")
        .ciphertext_blob;
    let decrypt: DecryptRequest =
        request(&json!({"CiphertextBlob": blob, "EncryptionContext": context}));
    let generate: GenerateDataKeyRequest =
        request(&json!({"KeyId": cmk, "KeySpec": "AES_256", "EncryptionContext": context}));

    println!(
        "{:<28} {:>7} {:>12} {:>12}",
        "operation", "threads", "per second", "a core"
    );
    let line = |name: &str, run: Run<'_>| measure(&kms, name, seconds, threads, run);
    line("Encrypt", &|client| client.encrypt(&encrypt).map(|_| ()));
    line("Decrypt", &|client| client.decrypt(&decrypt).map(|_| ()));
    line("GenerateDataKey", &|client| {
        client.generate_data_key(&generate).map(|_| ())
    });

    let hmac = key(
        &kms,
        &json!({"KeySpec": "HMAC_256", "KeyUsage": "GENERATE_VERIFY_MAC"}),
    );
    let mac: GenerateMacRequest =
        request(&json!({"KeyId": hmac, "Message": "AAAA", "MacAlgorithm": "HMAC_SHA_256"}));
    line("GenerateMac", &|client| {
        client.generate_mac(&mac).map(|_| ())
    });
    for (spec, algorithm) in [
        ("ECC_NIST_P256", "ECDSA_SHA_256"),
        ("ECC_NIST_EDWARDS25519", "ED25519_SHA_512"),
        ("ML_DSA_65", "ML_DSA_SHAKE_256"),
        ("RSA_2048", "RSASSA_PSS_SHA_256"),
    ] {
        let signer = key(&kms, &json!({"KeySpec": spec, "KeyUsage": "SIGN_VERIFY"}));
        let sign: SignRequest =
            request(&json!({"KeyId": signer, "Message": "AAAA", "SigningAlgorithm": algorithm}));
        line(&format!("Sign {spec}"), &|client| {
            client.sign(&sign).map(|_| ())
        });
    }
}
