//! One request, from its bytes to its answer.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http_body_util::{BodyExt, Limited};
use hyper::body::{Body, Incoming};
use hyper::header::{HeaderMap, USER_AGENT};
use hyper::{Method, Request};
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use zeroize::Zeroizing;

use super::Limits;
use super::answer::{self, Answer};
use super::client::{NOTE_VOLUME, REQUESTER_HEADER, RUN_HEADER, VOLUME_HEADER};
use super::sigv4::{self, AuthError, Authorization};
use crate::format::{random_uuid, uuid};
use crate::kms::api;
use crate::kms::{Caller, Kms, KmsError, Principal, Region, Source};

/// Bytes of a request's body: a policy of 32 KiB with every character escaped, and room.
const BODY_MOST: usize = 256 << 10;
/// What one permit of the memory for bodies stands for.
const PERMIT: usize = 1024;
/// Calls into the keystore at once.
const JOBS: usize = 32;
/// How long the health of the keystore is taken as known.
const HEALTH_KNOWN: Duration = Duration::from_secs(1);

/// Who is at the other end.
#[derive(Clone, Copy, Debug)]
pub(super) enum Peer {
    /// A network client.
    Network {
        /// Its address.
        address: IpAddr,
    },
    /// A local client, as the kernel knows it.
    Local {
        /// Its user.
        uid: u32,
        /// Its process.
        pid: Option<u32>,
    },
}

/// What all connections share.
pub(super) struct Service {
    kms: Arc<Kms>,
    owner: u32,
    bodies: Arc<Semaphore>,
    jobs: Arc<Semaphore>,
    time_limit: Duration,
    health: Mutex<Option<(Instant, bool)>>,
}

/// A request without its body.
struct Head {
    method: String,
    path: String,
    query: String,
    headers: HeaderMap,
}

impl Service {
    pub(super) fn new(kms: Arc<Kms>, owner: u32, limits: Limits) -> Self {
        Self {
            kms,
            owner,
            bodies: Arc::new(Semaphore::new(
                (limits.bodies / PERMIT).max(BODY_MOST / PERMIT),
            )),
            jobs: Arc::new(Semaphore::new(JOBS)),
            time_limit: Duration::from_secs(limits.idle_seconds),
            health: Mutex::default(),
        }
    }

    /// Answers a request.
    pub(super) async fn handle(self: Arc<Self>, peer: Peer, request: Request<Incoming>) -> Answer {
        let id = uuid(&random_uuid());
        match (request.method(), request.uri().path()) {
            (&Method::GET | &Method::HEAD, "/health") => self.health(&id).await,
            (&Method::POST, "/") => self.operation(peer, request, id).await,
            (_, "/" | "/health") => {
                answer::refused(405, "UnknownOperationException", "No such method.", &id)
            }
            _ => answer::refused(404, "UnknownOperationException", "No such page.", &id),
        }
    }

    async fn health(self: Arc<Self>, id: &str) -> Answer {
        let known = self
            .health
            .lock()
            .filter(|(when, _)| when.elapsed() < HEALTH_KNOWN);
        let healthy = match known {
            Some((_, healthy)) => healthy,
            None => {
                let service = Arc::clone(&self);
                let healthy = self
                    .blocking(move || Kms::status(service.kms.dir()).is_ok())
                    .await
                    .unwrap_or(false);
                *self.health.lock() = Some((Instant::now(), healthy));
                healthy
            }
        };
        answer::health(healthy, id)
    }

    async fn operation(
        self: Arc<Self>,
        peer: Peer,
        request: Request<Incoming>,
        id: String,
    ) -> Answer {
        let is_query = !request.headers().contains_key("x-amz-target");
        let refuse = |status, code: &str, message: &str| {
            if is_query {
                answer::query_refused(status, code, message, &id)
            } else {
                answer::refused(status, code, message, &id)
            }
        };
        let (parts, body) = request.into_parts();
        let hint = body.size_hint();
        if hint.lower() > BODY_MOST as u64 {
            return refuse(
                413,
                "RequestEntityTooLargeException",
                "The request is too large.",
            );
        }
        // A body without a length may be as long as any.
        let room = hint
            .exact()
            .map_or(BODY_MOST, |len| len as usize)
            .div_ceil(PERMIT)
            .max(1);
        let reading = async {
            let permits = Arc::clone(&self.bodies)
                .acquire_many_owned(room as u32)
                .await
                .ok()?;
            let body = Limited::new(body, BODY_MOST).collect().await.ok()?;
            Some((permits, body.to_bytes()))
        };
        let (permits, body) = match tokio::time::timeout(self.time_limit, reading).await {
            Ok(Some(read)) => read,
            Ok(None) => {
                return refuse(
                    413,
                    "RequestEntityTooLargeException",
                    "The request is too large or was cut off.",
                );
            }
            Err(_) => return refuse(408, "RequestTimeoutException", "The request took too long."),
        };
        let head = Head {
            method: parts.method.as_str().to_owned(),
            path: parts.uri.path().to_owned(),
            query: parts.uri.query().unwrap_or_default().to_owned(),
            headers: parts.headers,
        };
        let service = Arc::clone(&self);
        let job = move || {
            // A request may carry a plaintext or key material.
            let body = Zeroizing::new(Vec::from(body));
            let answer = service.answer(peer, &head, &body, &id);
            drop(permits);
            answer
        };
        match self.blocking(job).await {
            Some(answer) => answer,
            None => answer::refused(
                500,
                "KMSInternalException",
                "The request failed because of an internal error.",
                "",
            ),
        }
    }

    /// Runs what may wait for the keystore where it holds up no other connection.
    async fn blocking<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        let permit = Arc::clone(&self.jobs).acquire_owned().await.ok()?;
        let done = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            job()
        });
        done.await.ok()
    }

    fn answer(&self, peer: Peer, head: &Head, body: &[u8], id: &str) -> Answer {
        let Some(target) = head.headers.get("x-amz-target") else {
            return self.query(peer, head, body, id);
        };
        let caller = match self.caller(peer, head, body, "kms", id) {
            Ok(caller) => caller,
            Err(error) => return answer::not_believed(&error, id),
        };
        let operation = target
            .to_str()
            .ok()
            .and_then(|text| text.strip_prefix("TrentService."));
        let Some(operation) = operation else {
            return answer::refused(400, "UnknownOperationException", "", id);
        };
        if operation == NOTE_VOLUME && matches!(caller.principal(), Principal::Volume(_)) {
            let noted = serde_json::from_slice(body)
                .map_err(|error| KmsError::Serialization(error.to_string()))
                .and_then(|note| self.kms.note_volume(&caller, &note));
            return match noted {
                Ok(()) => answer::done(Zeroizing::default(), id),
                Err(error) => answer::failed(&error, id),
            };
        }
        match api::call(&self.kms.client(&caller), operation, body) {
            Ok(done) => answer::done(done, id),
            Err(error) => answer::failed(&error, id),
        }
    }

    /// AWS STS, as far as clients of AWS KMS ask it.
    fn query(&self, peer: Peer, head: &Head, body: &[u8], id: &str) -> Answer {
        let caller = match self.caller(peer, head, body, "sts", id) {
            Ok(caller) => caller,
            Err(error) => {
                return answer::query_refused(403, error.query_code(), &error.to_string(), id);
            }
        };
        let text = String::from_utf8_lossy(body);
        let action = text
            .split('&')
            .filter_map(|pair| pair.split_once('='))
            .find(|(name, _)| *name == "Action")
            .map(|(_, value)| sigv4::decoded(value));
        if action.as_deref() != Some(b"GetCallerIdentity") {
            return answer::query_refused(
                400,
                "InvalidAction",
                "Could not find the operation: there is GetCallerIdentity alone.",
                id,
            );
        }
        let user_id = match caller.principal() {
            Principal::User(name) => name.clone(),
            _ => caller.account().to_owned(),
        };
        answer::identity(caller.arn(), &user_id, caller.account(), id)
    }

    /// On whose behalf a request is.
    fn caller(
        &self,
        peer: Peer,
        head: &Head,
        body: &[u8],
        service: &str,
        id: &str,
    ) -> Result<Caller, AuthError> {
        let headers: Vec<(&str, &[u8])> = head
            .headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_bytes()))
            .collect();
        let request = sigv4::Request {
            method: &head.method,
            path: &head.path,
            query: &head.query,
            headers: &headers,
            body,
        };
        let authorization = Authorization::of(&request);
        let user_agent = head
            .headers
            .get(USER_AGENT)
            .and_then(|value| value.to_str().ok())
            .map(|text| text.chars().take(256).collect());
        let source = Source {
            user_agent,
            request_id: Some(id.to_owned()),
            ..Source::default()
        };
        let (caller, region, source) = match peer {
            Peer::Local { uid, pid } => {
                // The kernel says who it is; only the Region is taken from a signature.
                let region = authorization.ok().map(|given| region(&given)).transpose()?;
                let source = Source {
                    uid: Some(uid),
                    pid,
                    ..source
                };
                let principal = Principal::of_uid(uid, self.owner);
                let (caller, source) = self.on_behalf(principal, source, &head.headers)?;
                (caller, region, source)
            }
            Peer::Network { address } => {
                let given = authorization?;
                let principal = self.signer(&given, &request, service)?;
                let source = Source {
                    address: Some(address),
                    access_key: Some(given.access_key.to_owned()),
                    ..source
                };
                (self.kms.caller(principal), Some(region(&given)?), source)
            }
        };
        let caller = caller.with_source(source);
        Ok(match region {
            Some(region) => caller.in_region(region),
            None => caller,
        })
    }

    /// A local client, or the volume that it speaks for: a mount says which one it is, and who made
    /// it ask. Only the account root may, as no mount of anybody else holds keys.
    fn on_behalf(
        &self,
        principal: Principal,
        source: Source,
        headers: &HeaderMap,
    ) -> Result<(Caller, Source), AuthError> {
        let Some(volume) = headers.get(VOLUME_HEADER) else {
            return Ok((self.kms.caller(principal), source));
        };
        if principal != Principal::Root {
            return Err(AuthError::NotAllowed(format!(
                "{} may not ask on behalf of a volume",
                principal.arn(self.kms.account_id())
            )));
        }
        let wrong =
            |name: &str| AuthError::Incomplete(format!("The header '{name}' can't be read."));
        let volume = volume.to_str().ok().and_then(|text| text.parse().ok());
        let volume = volume.ok_or_else(|| wrong(VOLUME_HEADER))?;
        let source = match headers.get(REQUESTER_HEADER) {
            None => source,
            Some(value) => {
                let (uid, pid) = value
                    .to_str()
                    .ok()
                    .and_then(requester)
                    .ok_or_else(|| wrong(REQUESTER_HEADER))?;
                Source { uid, pid, ..source }
            }
        };
        let run = match headers.get(RUN_HEADER) {
            None => None,
            Some(value) => {
                let run = value.to_str().ok().and_then(|text| text.parse().ok());
                Some(run.ok_or_else(|| wrong(RUN_HEADER))?)
            }
        };
        let source = Source { run, ..source };
        Ok((self.kms.volume_caller(&volume), source))
    }

    /// Who signed a request for a service.
    fn signer(
        &self,
        given: &Authorization<'_>,
        request: &sigv4::Request<'_>,
        service: &str,
    ) -> Result<Principal, AuthError> {
        if given.service != service {
            return Err(AuthError::Scope(format!(
                "Credential should be scoped to correct service: '{service}'."
            )));
        }
        // There are no temporary credentials here.
        if request
            .headers
            .iter()
            .any(|(name, _)| name.eq_ignore_ascii_case("x-amz-security-token"))
        {
            return Err(AuthError::UnknownKey);
        }
        let key = self.kms.access_key(given.access_key).map_err(|error| {
            tracing::error!(%error, "an access key could not be read");
            AuthError::UnknownKey
        })?;
        let key = key.ok_or(AuthError::UnknownKey)?;
        given.verify(request, &key.secret, self.kms.now())?;
        Ok(key.principal)
    }
}

/// `UID/PID`, `-` for one that is not known.
fn requester(text: &str) -> Option<(Option<u32>, Option<u32>)> {
    let number = |text: &str| match text {
        "-" => Some(None),
        number => number.parse().ok().map(Some),
    };
    let (uid, pid) = text.split_once('/')?;
    Some((number(uid)?, number(pid)?))
}

fn region(given: &Authorization<'_>) -> Result<Region, AuthError> {
    given
        .region
        .parse()
        .map_err(|_| AuthError::Scope("Credential should be scoped to a valid region.".to_owned()))
}
