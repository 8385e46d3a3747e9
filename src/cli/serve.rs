//! `serve`: the key manager over HTTP and a Unix socket.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use clap::Args;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::exit::{Exit, usage};
use super::output;
use crate::kms::Kms;
use crate::serve::{Limits, Options, Server};

/// The folder of the socket, where root serves.
const SYSTEM_FOLDER: &str = "/run/envelopefs";
/// The socket's name when no path is given.
const SOCKET: &str = "kms.sock";

/// `serve`
#[derive(Debug, Args)]
pub struct ServeArgs {
    /// Listen for network clients, who sign their requests with access keys (AWS Signature Version 4)
    ///
    /// Port 0 takes a free one. An address that is not the machine's own, such as 0.0.0.0:8443, needs
    /// --tls-cert and --tls-key.
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub listen: Option<SocketAddr>,

    /// Listen for local clients on a Unix socket; the kernel says who they are
    ///
    /// Without --listen and --socket: /run/envelopefs/kms.sock for root, and
    /// $XDG_RUNTIME_DIR/envelopefs/kms.sock for others.
    #[arg(long, value_name = "PATH")]
    pub socket: Option<PathBuf>,

    /// Cut off a client that is slow or silent for so many seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub idle_seconds: u64,

    /// The certificate chain for network clients, in PEM
    #[arg(long, value_name = "FILE", requires_all = ["tls_key", "listen"])]
    pub tls_cert: Option<PathBuf>,

    /// The private key of the certificate, in PEM
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,
}

/// What the man page says beyond the options.
pub const MANUAL: [(&str, &str); 5] = [
    (
        "CLIENTS",
        "The server speaks the protocol of AWS KMS, so the AWS command line and the AWS SDKs work with \
         it: aws kms list-keys --endpoint-url http://127.0.0.1:PORT, with an access key from envelopefs \
         keystore access-key create in AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY. The Region is the \
         client's; one server has the keys of all Regions. sts get-caller-identity is answered too, and \
         /health says whether the keystore can be read.",
    ),
    (
        "WHO A CLIENT IS",
        "A network client is the user whose access key signed the request: \
         arn:aws:iam::ACCOUNT:user/NAME, or the account root. A signature holds for five minutes. A client \
         of the Unix socket signs nothing: it is the local user that the kernel names. The superuser and \
         the owner of the keystore are the account root there.",
    ),
    (
        "WHAT POLICIES CANNOT DO",
        "Key policies and grants bind everyone who goes through the server, and nobody else. Whoever has \
         the keystore's files and what opens them (its passphrase, key file or credential) has every key \
         in it: no policy stops him from reading key material with a program of his own, nor from writing \
         an audit log to his liking. The same holds for the superuser of the machine that the server runs \
         on. So let the server's account alone read the keystore and its passphrase; others, mounts \
         included (mount -o kms=unix:PATH), reach keys through the socket.",
    ),
    (
        "LIMITS",
        "Bodies have at most 256 KiB, heads 16 KiB; a client that is slow or silent for a minute (--idle-seconds) \
         is cut off; 1024 connections are open at once on each socket, and further ones are closed at once. What \
         a client sends is never written to the log.",
    ),
    (
        "SIGNALS",
        "SIGTERM, SIGINT and SIGHUP end the server: requests under way are answered first.",
    ),
];

/// Serves until a signal comes.
pub fn run(args: ServeArgs, open: &dyn Fn() -> Result<Kms>) -> Result<Exit> {
    let socket = match (&args.listen, args.socket) {
        (_, Some(path)) => Some(path),
        (Some(_), None) => None,
        (None, None) => Some(default_socket()?),
    };
    let options = Options {
        listen: args.listen,
        socket,
        tls: args.tls_cert.zip(args.tls_key),
        limits: Limits {
            idle_seconds: args.idle_seconds,
            ..Limits::default()
        },
    };
    // From here on a signal ends the server and nothing else.
    let mut signals = Signals::new([SIGHUP, SIGINT, SIGTERM]).context("handling signals")?;
    let server = Server::bind(Arc::new(open()?), &options)?;
    let bound = server.bound();
    let scheme = if options.tls.is_some() {
        "https"
    } else {
        "http"
    };
    let places: Vec<String> = bound
        .address
        .map(|address| format!("{scheme}://{address}"))
        .into_iter()
        .chain(bound.socket.map(|path| format!("unix:{}", path.display())))
        .collect();
    output::text_out(&format!("serving on {}\n", places.join(" and ")))?;
    server.run(move || {
        signals.forever().next();
    });
    Ok(Exit::Ok)
}

fn default_socket() -> Result<PathBuf> {
    let folder = if rustix::process::geteuid().is_root() {
        PathBuf::from(SYSTEM_FOLDER)
    } else {
        let runtime = std::env::var_os("XDG_RUNTIME_DIR").filter(|dir| !dir.is_empty());
        let runtime = runtime.ok_or_else(|| {
            usage("XDG_RUNTIME_DIR is not set: say where to serve with --socket or --listen")
        })?;
        Path::new(&runtime).join("envelopefs")
    };
    std::fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
    Ok(folder.join(SOCKET))
}
