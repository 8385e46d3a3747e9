//! format

pub mod blob;
