//! What happens to keys by itself: rotation, deletion, expiry of imported material.
//!
//! It happens wherever a keystore is open: when it is opened, from time to time while it is, and
//! at the latest when a key is used for which something is due.

use super::Kms;
use super::audit::{Event, KeyUse};
use super::caller::Principal;
use super::clock::Timestamp;
use super::error::{KmsError, Result};
use super::id::KeyId;
use super::needs::unforeseen;
use super::reference::key_arn;
use super::spec::RotationType;
use super::state::KeyState;
use super::store::{Change, KeyRow, MaterialRow, MaterialState, Place, deletion_forced};
use crate::format::random_uuid;

/// So long the destruction of a key is put off while volumes need it.
const PUT_OFF_DAYS: u32 = 1;

/// What was done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Maintained {
    /// Keys that got new material.
    pub rotated: Vec<KeyId>,
    /// Keys that were destroyed.
    pub destroyed: Vec<KeyId>,
    /// Keys that were to be destroyed, and that volumes still need.
    pub kept: Vec<KeyId>,
    /// Keys whose imported material has expired.
    pub expired: Vec<KeyId>,
}

impl Kms {
    /// Does what is due: rotates keys, destroys those whose waiting period is over, deletes
    /// imported material that has expired. Also writes down the last uses of keys.
    ///
    /// # Errors
    /// [`KmsError::Busy`], [`KmsError::Database`], [`KmsError::Unrecorded`]; then nothing was done.
    pub fn maintain(&self) -> Result<Maintained> {
        self.anchor_audit()?;
        self.usage.write(&self.store)?;
        self.anchor_audit()?;
        if self.preserved {
            return Ok(Maintained::default());
        }
        let now = self.now();
        // Most of the time there is nothing to do, and no reason to lock out writers.
        let nothing = self.store.read(|sql| {
            Ok(KeyRow::due_rotation(sql, now)?.is_empty()
                && KeyRow::due_deletion(sql, now)?.is_empty()
                && MaterialRow::due_expiry(sql, now)?.is_empty())
        })?;
        if nothing {
            return Ok(Maintained::default());
        }
        // Asked again within: another process may have been faster.
        let done = self.store.change(|change| {
            let mut done = Maintained::default();
            for key in KeyRow::due_deletion(change.sql, now)? {
                if self.keep_needed(change, &key, now)? {
                    done.kept.push(key.id);
                } else {
                    self.destroy(change, &key, now)?;
                    done.destroyed.push(key.id);
                }
            }
            for place in MaterialRow::due_expiry(change.sql, now)? {
                if self.expire(change, &place, now)? {
                    done.expired.push(place.id);
                }
            }
            for key in KeyRow::due_rotation(change.sql, now)? {
                change.rotate(&key, RotationType::Automatic, now)?;
                self.record_service("RotateKey", &key.place(), now)?;
                done.rotated.push(key.id);
            }
            Ok(done)
        })?;
        if !done.destroyed.is_empty() || !done.expired.is_empty() {
            self.store.clean()?;
        }
        Ok(done)
    }

    /// Puts off the destruction of a key that volumes need, and that was not asked for in spite of
    /// that. True when it was put off.
    fn keep_needed(&self, change: &Change<'_>, key: &KeyRow, now: Timestamp) -> Result<bool> {
        let place = key.place();
        let foreseen = deletion_forced(change.sql, &place)?;
        let needed = unforeseen(change, key, foreseen.as_deref(), self.account_id())?;
        let Some(error) = needed else {
            return Ok(false);
        };
        tracing::warn!("a key was not destroyed at the end of its waiting period: {error}");
        let date = now.plus_days(PUT_OFF_DAYS);
        change.set_deletion(&place, key.state, key.deletion_window, Some(date))?;
        self.record_refused("DeleteKey", &place, now, Some(&error))?;
        Ok(true)
    }

    fn destroy(&self, change: &Change<'_>, key: &KeyRow, now: Timestamp) -> Result<()> {
        change.destroy(key)?;
        self.record_service("DeleteKey", &key.place(), now)?;
        // A primary key that only waited for its replicas: its own waiting period begins.
        let left = KeyRow::of_set(change.sql, &key.id)?;
        if let [primary] = &left[..]
            && primary.state == KeyState::PendingReplicaDeletion
            && let Some(days) = primary.deletion_window
        {
            let date = now.plus_days(days);
            change.set_deletion(
                &primary.place(),
                KeyState::PendingDeletion,
                Some(days),
                Some(date),
            )?;
        }
        Ok(())
    }

    /// Deletes the imported material of a key whose time is over. False when there was none.
    fn expire(&self, change: &Change<'_>, place: &Place, now: Timestamp) -> Result<bool> {
        let Some(key) = KeyRow::load(change.sql, place)? else {
            return Ok(false);
        };
        let due = |row: &MaterialRow| row.present && row.valid_to.is_some_and(|end| end <= now);
        for row in MaterialRow::list(change.sql, place)? {
            if due(&row) {
                change.lose_secret(&key, &row)?;
            }
        }
        self.record_service("DeleteExpiredKeyMaterial", place, now)?;
        Ok(true)
    }

    /// Leaves the record of what the key manager did by itself.
    fn record_service(&self, operation: &'static str, place: &Place, now: Timestamp) -> Result<()> {
        self.record_refused(operation, place, now, None)
    }

    /// The same, with the reason when it was not done.
    fn record_refused(
        &self,
        operation: &'static str,
        place: &Place,
        now: Timestamp,
        error: Option<&KmsError>,
    ) -> Result<()> {
        let caller = self.caller(Principal::Service).in_region(place.region);
        self.recorder().record(&Event {
            time: now,
            caller: &caller,
            operation,
            read_only: false,
            keys: &[KeyUse {
                arn: key_arn(place, self.account_id()).into(),
                material: None,
            }],
            parameters: None,
            error,
            forced: None,
            event_id: random_uuid(),
            may_wait: false,
        })
    }
}

impl Change<'_> {
    /// Destroys a secret that was imported. Without one that it decrypts with, a key waits for
    /// its import.
    pub(super) fn lose_secret(&self, key: &KeyRow, row: &MaterialRow) -> Result<()> {
        self.delete_secret(&key.id, row)?;
        let usable = matches!(key.state, KeyState::Enabled | KeyState::Disabled);
        if usable && row.state != MaterialState::PendingRotation {
            self.set_state(&key.place(), KeyState::PendingImport)?;
        }
        Ok(())
    }
}
