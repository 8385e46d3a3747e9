//! The AWS KMS wire protocol.

mod client;

pub use client::RemoteKeys;
