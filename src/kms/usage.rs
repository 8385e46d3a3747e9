//! The last use of each key, for GetKeyLastUsage.
//!
//! A use costs a few nanoseconds in memory; it is written to the keystore from time to time and
//! when the keystore is closed. A process that is killed loses its last minutes.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

use super::clock::Timestamp;
use super::error::Result;
use super::state::Operation;
use super::store::{Place, Store};

/// The last use of one key in this process.
#[derive(Default)]
pub(super) struct LastUse(Mutex<Option<Used>>);

/// A use of a key.
#[derive(Clone, Copy)]
pub(super) struct Used {
    pub(super) operation: Operation,
    pub(super) time: Timestamp,
    /// The id of its record.
    pub(super) event: [u8; 16],
    /// Whether it stands in the keystore.
    written: bool,
}

impl LastUse {
    pub(super) fn set(&self, operation: Operation, time: Timestamp, event: [u8; 16]) {
        *self.0.lock() = Some(Used {
            operation,
            time,
            event,
            written: false,
        });
    }

    pub(super) fn get(&self) -> Option<Used> {
        *self.0.lock()
    }
}

/// The last uses of all keys that this process has used.
#[derive(Default)]
pub(super) struct Usage(Mutex<HashMap<Place, Arc<LastUse>>>);

impl Usage {
    /// That of a key.
    pub(super) fn of(&self, place: &Place) -> Arc<LastUse> {
        Arc::clone(self.0.lock().entry(*place).or_default())
    }

    /// Writes what is new to the keystore.
    pub(super) fn write(&self, store: &Store) -> Result<()> {
        let keys: Vec<(Place, Arc<LastUse>)> = self
            .0
            .lock()
            .iter()
            .map(|(place, last)| (*place, Arc::clone(last)))
            .collect();
        let new: Vec<(Place, Used)> = keys
            .iter()
            .filter_map(|(place, last)| Some((*place, last.get()?)))
            .filter(|(_, used)| !used.written)
            .collect();
        if new.is_empty() {
            return Ok(());
        }
        store.change(|change| {
            for (place, used) in &new {
                change.set_used(place, used.operation.as_str(), used.time, &used.event)?;
            }
            Ok(())
        })?;
        for (place, used) in new {
            let last = self.of(&place);
            let mut last = last.0.lock();
            if let Some(now) = last.as_mut().filter(|now| now.event == used.event) {
                now.written = true;
            }
        }
        Ok(())
    }
}
