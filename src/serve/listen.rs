//! Sockets, TLS and time limits: what stands between the network and a request.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{Semaphore, watch};

use super::service::{Peer, Service};
use super::{Options, ServeError};
use crate::kms::Kms;

type Result<T> = std::result::Result<T, ServeError>;

/// Bytes of a request's head, and of the buffer that it is read to.
const HEAD_MOST: usize = 16 << 10;
/// Headers of a request.
const HEADERS_MOST: usize = 64;
/// How long requests may go on when the server ends.
const GRACE: Duration = Duration::from_secs(5);
/// How often the audit log is anchored and due rotations and deletions are done.
const MAINTENANCE: Duration = Duration::from_secs(5);

/// Where a server listens.
#[derive(Clone, Debug)]
pub struct Bound {
    /// For network clients; the port is the real one.
    pub address: Option<SocketAddr>,
    /// For local clients.
    pub socket: Option<PathBuf>,
}

#[cfg(feature = "aws-lc")]
type Tls = Option<tokio_rustls::TlsAcceptor>;
#[cfg(not(feature = "aws-lc"))]
type Tls = Option<Infallible>;

/// A server whose sockets are open.
pub struct Server {
    runtime: tokio::runtime::Runtime,
    service: Arc<Service>,
    kms: Arc<Kms>,
    tcp: Option<TcpListener>,
    tls: Tls,
    unix: Option<UnixSocket>,
    connections: usize,
    idle: Duration,
}

/// A Unix socket that goes with its server.
struct UnixSocket {
    listener: UnixListener,
    path: PathBuf,
}

impl Drop for UnixSocket {
    fn drop(&mut self) {
        // Best effort: a socket that nobody listens on is taken over.
        let _ = std::fs::remove_file(&self.path);
    }
}

impl Server {
    /// Opens the sockets.
    ///
    /// # Errors
    /// [`ServeError`]
    pub fn bind(kms: Arc<Kms>, options: &Options) -> Result<Self> {
        if options.listen.is_none() && options.socket.is_none() {
            return Err(ServeError::Nowhere);
        }
        let tls = tls(options)?;
        if let Some(address) = options.listen.filter(|address| !address.ip().is_loopback())
            && tls.is_none()
        {
            return Err(ServeError::NeedsTls(address));
        }
        let owner = kms.owner_uid().map_err(|error| {
            ServeError::io("the keystore's owner")(std::io::Error::other(error))
        })?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .thread_name("serve")
            .max_blocking_threads(64)
            .build()
            .map_err(ServeError::io("starting threads"))?;
        let (tcp, unix) = {
            // Sockets belong to the runtime.
            let _entered = runtime.enter();
            let tcp = options
                .listen
                .map(|address| bind_tcp(&runtime, address))
                .transpose()?;
            let unix = options.socket.as_deref().map(bind_unix).transpose()?;
            (tcp, unix)
        };
        let limits = options.limits;
        Ok(Self {
            service: Arc::new(Service::new(Arc::clone(&kms), owner, limits)),
            runtime,
            kms,
            tcp,
            tls,
            unix,
            connections: limits.connections,
            idle: Duration::from_secs(limits.idle_seconds),
        })
    }

    /// Where it listens.
    pub fn bound(&self) -> Bound {
        Bound {
            address: self.tcp.as_ref().and_then(|tcp| tcp.local_addr().ok()),
            socket: self.unix.as_ref().map(|unix| unix.path.clone()),
        }
    }

    /// Serves until `stop` returns, which is called on a thread of its own; then ends what is under
    /// way and anchors the audit log.
    pub fn run(self, stop: impl FnOnce() + Send + 'static) {
        let Self {
            runtime,
            service,
            kms,
            tcp,
            tls,
            unix,
            connections,
            idle,
        } = self;
        let (stopping, stopped) = watch::channel(false);
        std::thread::spawn(move || {
            stop();
            // Nobody listens any more when the server has ended by itself.
            let _ = stopping.send(true);
        });
        let each = Each {
            service,
            stopped: stopped.clone(),
            idle,
        };
        runtime.block_on(async {
            let network = Arc::new(Semaphore::new(connections));
            let local = Arc::new(Semaphore::new(connections));
            if let Some(tcp) = tcp {
                tokio::spawn(accept_tcp(tcp, tls, each.clone(), Arc::clone(&network)));
            }
            if let Some(unix) = unix {
                tokio::spawn(accept_unix(unix, each.clone(), Arc::clone(&local)));
            }
            tokio::spawn(maintain(Arc::clone(&kms)));
            let mut stopped = stopped;
            // An error means that the thread that waits is gone: an end as well.
            let _ = stopped.wait_for(|stopped| *stopped).await;
            // All permits are back when all connections have ended.
            let ended = async {
                let _ = network.acquire_many(connections as u32).await;
                let _ = local.acquire_many(connections as u32).await;
            };
            if tokio::time::timeout(GRACE, ended).await.is_err() {
                tracing::warn!("connections were cut off");
            }
        });
        runtime.shutdown_timeout(GRACE);
        if let Err(error) = kms.anchor_audit() {
            tracing::warn!("could not anchor the audit log: {error}");
        }
    }
}

#[cfg(feature = "aws-lc")]
fn tls(options: &Options) -> Result<Tls> {
    options
        .tls
        .as_ref()
        .map(|(chain, key)| super::tls::acceptor(chain, key))
        .transpose()
}

#[cfg(not(feature = "aws-lc"))]
fn tls(options: &Options) -> Result<Tls> {
    match options.tls {
        Some(_) => Err(ServeError::NoTls),
        None => Ok(None),
    }
}

fn bind_tcp(runtime: &tokio::runtime::Runtime, address: SocketAddr) -> Result<TcpListener> {
    runtime
        .block_on(TcpListener::bind(address))
        .map_err(ServeError::io(format!("listening on {address}")))
}

/// Any local user may connect: what it may do is for the policies to say.
fn bind_unix(path: &Path) -> Result<UnixSocket> {
    let failed = || ServeError::io(format!("listening on {}", path.display()));
    if path
        .symlink_metadata()
        .is_ok_and(|meta| meta.file_type().is_socket())
    {
        if std::os::unix::net::UnixStream::connect(path).is_ok() {
            return Err(ServeError::InUse(path.to_owned()));
        }
        std::fs::remove_file(path).map_err(failed())?;
    }
    let listener = UnixListener::bind(path).map_err(failed())?;
    let socket = UnixSocket {
        listener,
        path: path.to_owned(),
    };
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o666)).map_err(failed())?;
    Ok(socket)
}

/// What each connection needs.
#[derive(Clone)]
struct Each {
    service: Arc<Service>,
    stopped: watch::Receiver<bool>,
    idle: Duration,
}

/// Waits a little where the system has no descriptor left, and goes on.
async fn accept_failed(error: std::io::Error) {
    tracing::warn!("a connection could not be accepted: {error}");
    tokio::time::sleep(Duration::from_millis(50)).await;
}

async fn accept_tcp(listener: TcpListener, tls: Tls, each: Each, room: Arc<Semaphore>) {
    let mut stopped = each.stopped.clone();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stopped.wait_for(|stopped| *stopped) => return,
        };
        let (stream, from) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                accept_failed(error).await;
                continue;
            }
        };
        // A connection too many is closed.
        let Ok(permit) = Arc::clone(&room).try_acquire_owned() else {
            continue;
        };
        // Requests and answers are small, and one waits for the other.
        let _ = stream.set_nodelay(true);
        let peer = Peer::Network {
            address: from.ip().to_canonical(),
        };
        let (each, tls) = (each.clone(), tls.clone());
        tokio::spawn(async move {
            let _permit = permit;
            encrypted(each, peer, stream, tls).await;
        });
    }
}

#[cfg(feature = "aws-lc")]
async fn encrypted(each: Each, peer: Peer, stream: tokio::net::TcpStream, tls: Tls) {
    match tls {
        None => each.connection(peer, stream).await,
        Some(tls) => {
            if let Ok(Ok(stream)) = tokio::time::timeout(each.idle, tls.accept(stream)).await {
                each.connection(peer, stream).await;
            }
        }
    }
}

#[cfg(not(feature = "aws-lc"))]
async fn encrypted(each: Each, peer: Peer, stream: tokio::net::TcpStream, _: Tls) {
    each.connection(peer, stream).await;
}

async fn accept_unix(socket: UnixSocket, each: Each, room: Arc<Semaphore>) {
    let mut stopped = each.stopped.clone();
    loop {
        let accepted = tokio::select! {
            accepted = socket.listener.accept() => accepted,
            _ = stopped.wait_for(|stopped| *stopped) => return,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                accept_failed(error).await;
                continue;
            }
        };
        let Ok(permit) = Arc::clone(&room).try_acquire_owned() else {
            continue;
        };
        // Without knowing who it is there is nothing to say.
        let Ok(credentials) = stream.peer_cred() else {
            continue;
        };
        let peer = Peer::Local {
            uid: credentials.uid(),
            pid: credentials.pid().and_then(|pid| pid.try_into().ok()),
        };
        let each = each.clone();
        tokio::spawn(async move {
            let _permit = permit;
            each.connection(peer, stream).await;
        });
    }
}

/// When a connection last did something.
struct Activity {
    begin: Instant,
    /// Milliseconds after `begin`.
    last: AtomicU64,
    busy: AtomicBool,
}

impl Activity {
    fn touch(&self, busy: bool) {
        self.busy.store(busy, Ordering::Relaxed);
        self.last
            .store(self.begin.elapsed().as_millis() as u64, Ordering::Relaxed);
    }

    /// Returns when nothing has happened for `limit`: no request, or an answer that is not read.
    async fn idle_for(&self, limit: Duration) {
        loop {
            let last = Duration::from_millis(self.last.load(Ordering::Relaxed));
            let idle = self.begin.elapsed().saturating_sub(last);
            let busy = self.busy.load(Ordering::Relaxed);
            if !busy && idle >= limit {
                return;
            }
            let rest = if busy {
                limit
            } else {
                limit.saturating_sub(idle)
            };
            tokio::time::sleep(rest.max(Duration::from_millis(10))).await;
        }
    }
}

impl Each {
    async fn connection(self, peer: Peer, stream: impl AsyncRead + AsyncWrite + Unpin) {
        let activity = Arc::new(Activity {
            begin: Instant::now(),
            last: AtomicU64::new(0),
            busy: AtomicBool::new(false),
        });
        let serve = service_fn(|request| {
            let (service, activity) = (Arc::clone(&self.service), Arc::clone(&activity));
            async move {
                activity.touch(true);
                let answer = service.handle(peer, request).await;
                activity.touch(false);
                Ok::<_, Infallible>(answer)
            }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.idle)
            .max_buf_size(HEAD_MOST)
            .max_headers(HEADERS_MOST)
            .serve_connection(TokioIo::new(stream), serve);
        let mut connection = std::pin::pin!(connection);
        let mut stopped = self.stopped.clone();
        // An error is the client's: it is gone, or spoke no HTTP and was told so.
        tokio::select! {
            _ = connection.as_mut() => return,
            () = activity.idle_for(self.idle) => return,
            _ = stopped.wait_for(|stopped| *stopped) => {}
        }
        connection.as_mut().graceful_shutdown();
        let _ = connection.await;
    }
}

async fn maintain(kms: Arc<Kms>) {
    loop {
        tokio::time::sleep(MAINTENANCE).await;
        let kms = Arc::clone(&kms);
        let job = tokio::task::spawn_blocking(move || {
            if let Err(error) = kms.maintain() {
                tracing::warn!("could not look after the keystore: {error}");
            }
        });
        // An error is a panic, which was told already; the next round tries again.
        let _ = job.await;
    }
}
