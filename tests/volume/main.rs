//! Volumes without a mount: what stands in them after each kind of operation, fault and maintenance.
//!
//! One program, since each that uses [`envelopefs::volume::Volume`] compiles it anew.
#![allow(missing_docs)]

#[path = "../cli_support/mod.rs"]
mod cli_support;
#[path = "../crash/disk.rs"]
mod disk;
#[path = "../kit/mod.rs"]
mod kit;
#[path = "../crash/log.rs"]
mod log;
#[path = "../crash/mem.rs"]
mod mem;

mod calls;
mod faults;
mod journal;
mod model;
mod recovery;
mod reencrypt;
mod repair;
mod retire;
mod rotation;
mod threats;
