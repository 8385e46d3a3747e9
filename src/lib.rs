//! envelopefs: a FUSE filesystem that encrypts a directory, with the key management of a cloud KMS.
//!
//! Each file has its own data key. The data key, wrapped by a CMK (customer master key), stands in
//! the file's header beside the ciphertext; an embedded key manager unwraps it.
//!
//! # The house
//!
//! Each room has one job and a short list of rooms that it may use. `tests/house.rs` reads the
//! `use crate::` lines and fails where one goes against this table.
//!
//! | room | its one job | may use |
//! |---|---|---|
//! | [`secret`] | key bytes: locked, not dumped, wiped on drop, never printed | – |
//! | [`crypto`] | AEAD, KDF, MAC, randomness; one face, two backends; no I/O | secret |
//! | [`format`] | bytes ⇄ typed records; no I/O | secret, crypto |
//! | [`kms`] | the key manager: who may use which key for what | secret, crypto, format |
//! | [`content`] | a plaintext range ⇄ ciphertext spans, open and seal of a run of blocks | secret, crypto, format |
//! | [`names`] | a plaintext name ⇄ its encrypted name | secret, crypto, format |
//! | [`backing`] | the only system calls on the cipher directory | – |
//! | [`volume`] | files, directories, locks, caches, in plaintext terms; no FUSE, no errno | secret, crypto, format, content, names, backing, kms |
//! | [`maintain`] | rewrap, re-encrypt, fsck: walks over a volume | format, names, backing, content, volume, kms |
//! | [`fuse`] | the kernel protocol ⇄ `volume`; the only user of `fuser` and `io_uring`; errors → errno | volume |
//! | [`serve`] | the AWS KMS wire protocol ⇄ `kms::api` | secret, crypto, format, kms |
//! | [`cli`] | words ⇄ calls; the only place with `anyhow`, prompts, progress bars | all |
//!
//! # How a read travels
//!
//! fuse → volume (shared lock, clamp to size) → content plans the spans → backing reads once
//! (scatter) → content opens each block in the reply buffer → fuse replies.

pub mod backing;
pub mod cli;
pub mod content;
pub mod crypto;
pub mod format;
pub mod fuse;
pub mod kms;
pub mod maintain;
pub mod names;
pub mod secret;
pub mod serve;
pub mod volume;
