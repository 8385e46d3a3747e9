//! The key manager of another process, for a volume: AWS JSON 1.1 over a Unix socket.
//!
//! Several threads ask at once; each takes a connection of its own and puts it back. A connection
//! that the server closed is made anew, once for each request.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::net::UnixStream;
use tokio::runtime::Runtime;
use zeroize::Zeroizing;

use crate::format::VolumeId;
use crate::kms::{
    DataKey, EncryptionContext, InRun, KeyId, KeyRef, KeySource, KmsError, MaterialId, Requester,
    Result, VolumeKeys, VolumeNote,
};
use crate::secret::Key256;

/// Names the volume that asks, on a Unix socket, from a peer who may say so.
pub(super) const VOLUME_HEADER: &str = "x-envelopefs-volume";
/// The user and the process that made the volume ask: `UID/PID`, `-` for one that is not known.
pub(super) const REQUESTER_HEADER: &str = "x-envelopefs-requester";
/// The run of a rewrap or re-encrypt that a request is part of.
pub(super) const RUN_HEADER: &str = "x-envelopefs-run";
/// What a volume tells of itself; no operation of AWS KMS.
pub(super) const NOTE_VOLUME: &str = "EnvelopefsNoteVolume";
/// Connections that are kept.
const KEPT: usize = 16;
/// An answer is far shorter.
const ANSWER_MOST: usize = 1 << 20;
/// How long one request may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// A connection, and the runtime that drives it.
struct Connection {
    runtime: Runtime,
    sender: SendRequest<Full<Bytes>>,
}

/// A key manager that answers on a Unix socket.
pub struct RemoteKeys {
    path: PathBuf,
    idle: Mutex<Vec<Connection>>,
}

/// What one volume does with the keys of another process.
struct Remote {
    keys: Arc<RemoteKeys>,
    volume: VolumeId,
}

/// Why a request has no answer.
enum Failure {
    /// There is no connection, or no more.
    Connection(String),
    /// The key manager said no.
    Refused(KmsError),
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::Connection(error.to_string())
    }
}

impl From<hyper::Error> for Failure {
    fn from(error: hyper::Error) -> Self {
        Self::Connection(error.to_string())
    }
}

impl RemoteKeys {
    /// The key manager on a socket; it must answer.
    ///
    /// # Errors
    /// [`KmsError::Unreachable`].
    pub fn new(path: &Path) -> Result<Self> {
        let keys = Self {
            path: path.to_owned(),
            idle: Mutex::new(Vec::new()),
        };
        let connection = keys.connect().map_err(|failure| keys.error(failure))?;
        keys.idle.lock().push(connection);
        Ok(keys)
    }

    fn error(&self, failure: Failure) -> KmsError {
        match failure {
            Failure::Refused(error) => error,
            Failure::Connection(why) => KmsError::Unreachable {
                place: self.path.clone(),
                why,
            },
        }
    }

    fn connect(&self) -> std::result::Result<Connection, Failure> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let sender = runtime.block_on(async {
            let stream = TokioIo::new(UnixStream::connect(&self.path).await?);
            let (sender, connection) = http1::handshake(stream).await?;
            tokio::spawn(connection);
            Ok::<_, Failure>(sender)
        })?;
        Ok(Connection { runtime, sender })
    }

    /// Asks for an operation; the answer's body.
    fn call(
        &self,
        operation: &str,
        volume: Option<&VolumeId>,
        requester: Requester,
        parameters: &Value,
    ) -> Result<Zeroizing<Vec<u8>>> {
        let body = Zeroizing::new(
            serde_json::to_vec(parameters)
                .map_err(|error| KmsError::Serialization(error.to_string()))?,
        );
        let mut kept = self.idle.lock().pop();
        loop {
            let fresh = kept.is_none();
            let mut connection = match kept.take() {
                Some(connection) => connection,
                None => self.connect().map_err(|failure| self.error(failure))?,
            };
            match connection.ask(operation, volume, requester, &body) {
                Err(Failure::Connection(_)) if !fresh => {}
                Err(failure @ Failure::Connection(_)) => return Err(self.error(failure)),
                answer => {
                    let mut idle = self.idle.lock();
                    if idle.len() < KEPT {
                        idle.push(connection);
                    }
                    drop(idle);
                    return answer.map_err(|failure| self.error(failure));
                }
            }
        }
    }
}

impl Connection {
    fn ask(
        &mut self,
        operation: &str,
        volume: Option<&VolumeId>,
        requester: Requester,
        body: &[u8],
    ) -> std::result::Result<Zeroizing<Vec<u8>>, Failure> {
        let number = |n: Option<u32>| n.map_or_else(|| "-".to_owned(), |n| n.to_string());
        let mut request = hyper::Request::post("/")
            .header("host", "localhost")
            .header("content-type", "application/x-amz-json-1.1")
            .header("x-amz-target", format!("TrentService.{operation}"));
        if let Some(volume) = volume {
            let by = format!("{}/{}", number(requester.uid), number(requester.pid));
            request = request
                .header(VOLUME_HEADER, volume.to_string())
                .header(REQUESTER_HEADER, by);
            if let Some(run) = InRun::current() {
                request = request.header(RUN_HEADER, run.to_string());
            }
        }
        let request = request
            .body(Full::new(Bytes::copy_from_slice(body)))
            .map_err(|error| Failure::Connection(error.to_string()))?;
        let sender = &mut self.sender;
        let exchange = async {
            sender.ready().await?;
            let response = sender.send_request(request).await?;
            let status = response.status();
            let body = Limited::new(response.into_body(), ANSWER_MOST)
                .collect()
                .await
                .map_err(|error| Failure::Connection(error.to_string()))?;
            Ok::<_, Failure>((status, Zeroizing::new(body.to_bytes().to_vec())))
        };
        let answered = self
            .runtime
            .block_on(async { tokio::time::timeout(PATIENCE, exchange).await });
        let (status, body) =
            answered.map_err(|_| Failure::Connection("no answer in time".to_owned()))??;
        if status.is_success() {
            return Ok(body);
        }
        Err(Failure::Refused(refusal(&body)))
    }
}

/// An exception, as the wire has it.
#[derive(Deserialize)]
struct Exception {
    #[serde(rename = "__type")]
    code: String,
    #[serde(alias = "Message", default)]
    message: String,
}

fn refusal(body: &[u8]) -> KmsError {
    match serde_json::from_slice::<Exception>(body) {
        Ok(exception) => KmsError::from_wire(&exception.code, exception.message),
        Err(_) => KmsError::Serialization("the key manager's answer is no JSON 1.1".to_owned()),
    }
}

/// A member of an answer.
fn member<'a>(answer: &'a Value, name: &str) -> Result<&'a str> {
    answer[name]
        .as_str()
        .ok_or_else(|| KmsError::Serialization(format!("the key manager's answer has no {name}")))
}

fn json_of(body: &[u8]) -> Result<Value> {
    serde_json::from_slice(body).map_err(|error| KmsError::Serialization(error.to_string()))
}

fn blob_of(answer: &Value) -> Result<Vec<u8>> {
    STANDARD
        .decode(member(answer, "CiphertextBlob")?)
        .map_err(|error| KmsError::Serialization(error.to_string()))
}

/// The wrapped data key in an answer.
#[derive(Deserialize)]
struct Wrapped<'a> {
    #[serde(rename = "CiphertextBlob", borrow)]
    blob: &'a str,
}

/// The data key in an answer. Borrowed from its body, so that no copy of it stays behind.
fn plaintext_of(body: &[u8]) -> Result<Key256> {
    #[derive(Deserialize)]
    struct Answer<'a> {
        #[serde(rename = "Plaintext", borrow)]
        plaintext: &'a str,
    }
    let answer: Answer<'_> =
        serde_json::from_slice(body).map_err(|error| KmsError::Serialization(error.to_string()))?;
    Key256::try_init(|key| {
        // Base64 of 32 bytes is 44 characters, and its decoder wants room for 33.
        let mut bytes = Zeroizing::new([0; 33]);
        let len = STANDARD
            .decode_slice(answer.plaintext, &mut *bytes)
            .map_err(|error| KmsError::Serialization(error.to_string()))?;
        if len != key.len() {
            return Err(KmsError::InvalidCiphertext);
        }
        key.copy_from_slice(&bytes[..len]);
        Ok(())
    })
}

impl KeySource for RemoteKeys {
    fn for_volume(self: Arc<Self>, volume: &VolumeId) -> Arc<dyn VolumeKeys> {
        Arc::new(Remote {
            keys: self,
            volume: *volume,
        })
    }
}

impl Remote {
    fn call(
        &self,
        operation: &str,
        requester: Requester,
        parameters: &Value,
    ) -> Result<Zeroizing<Vec<u8>>> {
        self.keys
            .call(operation, Some(&self.volume), requester, parameters)
    }

    fn describe(&self, key: &str) -> Result<Value> {
        let body = self.call("DescribeKey", Requester::default(), &json!({"KeyId": key}))?;
        Ok(json_of(&body)?["KeyMetadata"].take())
    }
}

impl VolumeKeys for Remote {
    fn generate(
        &self,
        requester: Requester,
        key: &KeyId,
        context: &EncryptionContext,
    ) -> Result<DataKey> {
        let parameters = json!({
            "KeyId": key.to_string(), "KeySpec": "AES_256", "EncryptionContext": context,
        });
        let body = self.call("GenerateDataKey", requester, &parameters)?;
        let answer: Wrapped<'_> = serde_json::from_slice(&body)
            .map_err(|error| KmsError::Serialization(error.to_string()))?;
        Ok(DataKey {
            plaintext: plaintext_of(&body)?,
            blob: STANDARD
                .decode(answer.blob)
                .map_err(|error| KmsError::Serialization(error.to_string()))?,
        })
    }

    fn decrypt(
        &self,
        requester: Requester,
        blob: &[u8],
        context: &EncryptionContext,
    ) -> Result<Key256> {
        let parameters = json!({
            "CiphertextBlob": STANDARD.encode(blob), "EncryptionContext": context,
        });
        plaintext_of(&self.call("Decrypt", requester, &parameters)?)
    }

    fn re_encrypt(
        &self,
        blob: &[u8],
        context: &EncryptionContext,
        to_key: &KeyId,
    ) -> Result<Vec<u8>> {
        let parameters = json!({
            "CiphertextBlob": STANDARD.encode(blob),
            "SourceEncryptionContext": context,
            "DestinationKeyId": to_key.to_string(),
            "DestinationEncryptionContext": context,
        });
        blob_of(&json_of(&self.call(
            "ReEncrypt",
            Requester::default(),
            &parameters,
        )?)?)
    }

    fn check_usable(&self, key: &KeyId) -> Result<()> {
        // As in AWS, what a caller may do is found out by a dry run.
        let context = crate::kms::volume_context(&self.volume);
        let parameters = json!({
            "KeyId": key.to_string(), "KeySpec": "AES_256", "EncryptionContext": context,
            "DryRun": true,
        });
        match self.call("GenerateDataKey", Requester::default(), &parameters) {
            Ok(_) | Err(KmsError::DryRun) => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn current_material(&self, key: &KeyId) -> Result<MaterialId> {
        member(&self.describe(&key.to_string())?, "CurrentKeyMaterialId")?.parse()
    }

    fn material_age(&self, key: &KeyId) -> Result<Duration> {
        let seconds = |value: &Value| value.as_f64();
        let described = self.describe(&key.to_string())?;
        let mut since = seconds(&described["CreationDate"]).unwrap_or(0.0);
        let mut parameters = json!({"KeyId": key.to_string()});
        loop {
            let nobody = Requester::default();
            let body = self
                .keys
                .call("ListKeyRotations", None, nobody, &parameters)?;
            let listed = json_of(&body)?;
            for entry in listed["Rotations"].as_array().into_iter().flatten() {
                since = since.max(seconds(&entry["RotationDate"]).unwrap_or(0.0));
            }
            match listed["NextMarker"].as_str() {
                Some(marker) => parameters["Marker"] = marker.into(),
                None => break,
            }
        }
        let now = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
        let since = Duration::try_from_secs_f64(since).unwrap_or_default();
        Ok(now.saturating_sub(since))
    }

    fn resolve(&self, key: &KeyRef) -> Result<KeyId> {
        member(&self.describe(&key.to_string())?, "KeyId")?.parse()
    }

    fn rotate(&self, key: &KeyId) -> Result<()> {
        // A service-managed key is the volume's to rotate; any other that of who runs this process.
        let manager = self.describe(&key.to_string())?;
        let volume = (member(&manager, "KeyManager")? != "CUSTOMER").then_some(&self.volume);
        let parameters = json!({"KeyId": key.to_string()});
        self.keys
            .call(
                "RotateKeyOnDemand",
                volume,
                Requester::default(),
                &parameters,
            )
            .map(drop)
    }

    fn arn(&self, key: &KeyId) -> Result<String> {
        Ok(member(&self.describe(&key.to_string())?, "Arn")?.to_owned())
    }

    fn note(&self, requester: Requester, note: &VolumeNote) -> Result<()> {
        let parameters = serde_json::to_value(note)
            .map_err(|error| KmsError::Serialization(error.to_string()))?;
        self.call(NOTE_VOLUME, requester, &parameters).map(drop)
    }

    fn maintain(&self) -> Result<()> {
        Ok(()) // the key manager does this by itself
    }

    fn place(&self) -> String {
        format!("unix:{}", self.keys.path.display())
    }
}
