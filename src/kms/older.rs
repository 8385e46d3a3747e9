//! A keystore with an older copy of it beside: what was wrapped under key material that is gone here
//! is unwrapped with the copy's, and wrapped anew under what is here.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::cache::Look;
use super::caller::Caller;
use super::client::Client;
use super::context::EncryptionContext;
use super::error::{KmsError, Result};
use super::id::{KeyId, MaterialId};
use super::policy::Facts;
use super::reference::KeyRef;
use super::registry::VolumeNote;
use super::source::{KeySource, Requester, VolumeKeys};
use super::state::Operation;
use super::store::{ProtectorInput, Store};
use super::volumes::{DataKey, seal_under};
use super::{Kms, SystemClock};
use crate::format::VolumeId;
use crate::secret::Key256;

/// A keystore and an older copy.
pub struct WithOlder {
    kms: Arc<Kms>,
    older: Arc<Kms>,
}

/// What a volume does with both.
struct Both {
    kms: Arc<Kms>,
    caller: Caller,
    keys: Arc<dyn VolumeKeys>,
    older: Arc<dyn VolumeKeys>,
}

impl Kms {
    /// Opens a keystore for the sake of what it still holds: nothing is rotated, deleted or destroyed
    /// in it, however long that has been due, and keys that wait for their deletion can be used.
    ///
    /// # Errors
    /// As [`Kms::open`].
    pub fn open_older(dir: &Path, unlock: &[ProtectorInput]) -> Result<Self> {
        let mut kms = Self::with_store(Store::open(dir, unlock)?, Arc::new(SystemClock))?;
        kms.preserved = true;
        kms.cache.keep_deleted();
        Ok(kms)
    }
}

impl WithOlder {
    /// Keys from `kms`, and from `older` what is gone there.
    pub fn new(kms: Arc<Kms>, older: Arc<Kms>) -> Self {
        Self { kms, older }
    }
}

impl KeySource for WithOlder {
    fn for_volume(self: Arc<Self>, volume: &VolumeId) -> Arc<dyn VolumeKeys> {
        Arc::new(Both {
            caller: self.kms.volume_caller(volume),
            keys: Arc::clone(&self.kms).for_volume(volume),
            older: Arc::clone(&self.older).for_volume(volume),
            kms: Arc::clone(&self.kms),
        })
    }
}

impl Client<'_> {
    /// The second half of ReEncrypt for a volume, where another keystore did the first: wraps a data
    /// key under the current material of `to_key`. Recorded as ReEncrypt.
    fn take_over_data_key(
        &self,
        plaintext: &Key256,
        context: &EncryptionContext,
        to_key: &KeyId,
        from_keystore: &str,
    ) -> Result<Vec<u8>> {
        #[derive(serde::Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Shown<'a> {
            destination_key_id: &'a KeyId,
            encryption_context: &'a EncryptionContext,
            source_keystore: &'a str,
        }
        let shown = Shown {
            destination_key_id: to_key,
            encryption_context: context,
            source_keystore: from_keystore,
        };
        let name = Operation::ReEncrypt.as_str();
        self.perform_as(name, Operation::ReEncryptTo, &shown, |call| {
            let facts = Facts {
                encryption_context: Some(context),
                ..Facts::default()
            };
            let key = call.use_id(to_key, Operation::ReEncryptTo, &facts)?;
            let (blob, material) = seal_under(&key, context, plaintext.expose())?;
            call.used(&key, &material);
            Ok(blob)
        })
    }
}

/// What the first says, unless it lacks the key material.
fn or_older<T>(found: Result<T>, older: impl FnOnce() -> Result<T>) -> Result<T> {
    match found {
        // Of what the older one lacks too, the first one's word counts.
        Err(error) if error.is_material_missing() => older().map_err(|other| {
            if other.is_material_missing() {
                error
            } else {
                other
            }
        }),
        other => other,
    }
}

impl VolumeKeys for Both {
    fn generate(
        &self,
        requester: Requester,
        key: &KeyId,
        context: &EncryptionContext,
    ) -> Result<DataKey> {
        self.keys.generate(requester, key, context)
    }

    fn decrypt(
        &self,
        requester: Requester,
        blob: &[u8],
        context: &EncryptionContext,
    ) -> Result<Key256> {
        or_older(self.keys.decrypt(requester, blob, context), || {
            self.older.decrypt(requester, blob, context)
        })
    }

    fn re_encrypt(
        &self,
        blob: &[u8],
        context: &EncryptionContext,
        to_key: &KeyId,
    ) -> Result<Vec<u8>> {
        or_older(self.keys.re_encrypt(blob, context, to_key), || {
            let plaintext = self.older.decrypt(Requester::default(), blob, context)?;
            let caller = self.caller.clone().in_this_run();
            self.kms.client(&caller).take_over_data_key(
                &plaintext,
                context,
                to_key,
                &self.older.place(),
            )
        })
    }

    fn look(&self) -> Option<Look> {
        self.keys.look()
    }

    fn check_usable(&self, key: &KeyId) -> Result<()> {
        match self.keys.check_usable(key) {
            Err(KmsError::NotFound(_)) => self.older.check_usable(key),
            other => other,
        }
    }

    fn current_material(&self, key: &KeyId) -> Result<MaterialId> {
        self.keys.current_material(key)
    }

    fn material_age(&self, key: &KeyId) -> Result<Duration> {
        self.keys.material_age(key)
    }

    fn resolve(&self, key: &KeyRef) -> Result<KeyId> {
        self.keys.resolve(key)
    }

    fn rotate(&self, key: &KeyId) -> Result<()> {
        self.keys.rotate(key)
    }

    fn arn(&self, key: &KeyId) -> Result<String> {
        self.keys.arn(key)
    }

    fn note(&self, requester: Requester, note: &VolumeNote) -> Result<()> {
        self.keys.note(requester, note)
    }

    fn maintain(&self) -> Result<()> {
        self.keys.maintain()
    }

    fn place(&self) -> String {
        self.keys.place()
    }
}
