//! The hash tables that every request goes through.

use std::collections::HashMap;

/// A table by numbers and ids that the filesystem below or this process gave out. Nobody chooses them,
/// so a quick hash does: SipHash was half a percent of an untar.
pub(super) type Table<K, V> = HashMap<K, V, foldhash::fast::RandomState>;
