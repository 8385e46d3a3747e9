//! What is on disk: the golden volumes, and that nothing but what was written is read. These run with
//! each crypto backend.
#![allow(missing_docs)]

#[path = "../kit/mod.rs"]
mod kit;

mod golden;
mod keys;
mod tamper;
