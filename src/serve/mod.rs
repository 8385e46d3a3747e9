//! The AWS KMS wire protocol over HTTP: the operations of [`crate::kms::api`] for the AWS command
//! line, its SDKs, and mounts that hold no keystore themselves.
//!
//! - `sigv4`: whether a request is from who it says; `answer`: what goes back, refusals included;
//! - `service`: one request, from its bytes to its answer; `listen`: sockets, TLS, time limits.
//!
//! `client` is the other end, for a volume that uses the keys of another process.
//!
//! A network client is the user whose access key signs its requests. A client of the Unix socket is
//! the local user that the kernel says it is, and signs nothing. Every request costs a bounded
//! amount of memory and time, whoever sends it.

mod answer;
mod client;
mod listen;
mod service;
pub mod sigv4;
#[cfg(feature = "aws-lc")]
mod tls;

use std::net::SocketAddr;
use std::path::PathBuf;

pub use client::RemoteKeys;
pub use listen::{Bound, Server};

/// What a server is told.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Where network clients connect. An address that is not the machine's own needs TLS.
    pub listen: Option<SocketAddr>,
    /// Where local clients connect: the path of a Unix socket, which is made.
    pub socket: Option<PathBuf>,
    /// The certificate chain and its private key, both PEM.
    pub tls: Option<(PathBuf, PathBuf)>,
    /// Limits other than the usual ones.
    pub limits: Limits,
}

/// What a server spends on its clients.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections at once, for each of the two sockets; more are closed at once.
    pub connections: usize,
    /// Bytes of bodies at once; a request beyond waits for one that ends.
    pub bodies: usize,
    /// Seconds for a request's head, for its body, and between requests.
    pub idle_seconds: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 1024,
            bodies: 16 << 20,
            idle_seconds: 60,
        }
    }
}

/// Why a server does not serve.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// There is nothing to listen on.
    #[error("nothing to listen on: give --listen ADDRESS:PORT or --socket PATH")]
    Nowhere,
    /// The network would see keys in the clear.
    #[error("{0} is not this machine's own: it needs a certificate (--tls-cert and --tls-key)")]
    NeedsTls(SocketAddr),
    /// This build has no TLS.
    #[error("this build has no TLS: use the build with the aws-lc backend")]
    NoTls,
    /// The certificate or its key can't be used.
    #[error("{}: {reason}", .path.display())]
    Certificate {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// Another server has the socket.
    #[error("{} is in use by another server", .0.display())]
    InUse(PathBuf),
    /// A system call failed.
    #[error("{what}: {source}")]
    Io {
        /// What was being done.
        what: String,
        /// What the system said.
        source: std::io::Error,
    },
}

impl ServeError {
    fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }
}

#[cfg(test)]
mod tests;
