//! Where a volume's keys come from: the keystore opened in this process, or a key manager in
//! another, which this process asks.

use std::borrow::Cow;
use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use super::Kms;
use super::cache::Look;
use super::caller::{Caller, Source};
use super::context::EncryptionContext;
use super::error::Result;
use super::id::{KeyId, MaterialId, RunId};
use super::reference::KeyRef;
use super::registry::VolumeNote;
use super::volumes::DataKey;
use crate::format::VolumeId;
use crate::secret::Key256;

/// Something that volumes get their keys from.
pub trait KeySource: Send + Sync {
    /// What one volume does with keys: all of it is done, and recorded, as the volume's.
    fn for_volume(self: Arc<Self>, volume: &VolumeId) -> Arc<dyn VolumeKeys>;
}

/// Who made a volume use a key: the user and the process that opened a file. For the record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Requester {
    /// The user.
    pub uid: Option<u32>,
    /// The process.
    pub pid: Option<u32>,
}

thread_local! {
    /// The run that this thread works for.
    static RUN: Cell<Option<RunId>> = const { Cell::new(None) };
}

/// Has what this thread asks of the key manager recorded as part of a run over all files of a volume,
/// for as long as it lives.
pub struct InRun(Option<RunId>);

impl InRun {
    /// Part of this run, from now on.
    #[must_use]
    pub fn of(run: RunId) -> Self {
        Self(RUN.replace(Some(run)))
    }

    /// The run that this thread works for.
    pub fn current() -> Option<RunId> {
        RUN.get()
    }
}

impl Drop for InRun {
    fn drop(&mut self) {
        RUN.set(self.0);
    }
}

/// The operations of a volume. Errors are those of the AWS operation that each is.
pub trait VolumeKeys: Send + Sync {
    /// GenerateDataKey: 32 bytes, wrapped under the current material of `key`.
    fn generate(
        &self,
        requester: Requester,
        key: &KeyId,
        context: &EncryptionContext,
    ) -> Result<DataKey>;

    /// Decrypt, of a wrapped data key.
    fn decrypt(
        &self,
        requester: Requester,
        blob: &[u8],
        context: &EncryptionContext,
    ) -> Result<Key256>;

    /// ReEncrypt, of a wrapped data key: the same one under the current material of `to_key`.
    fn re_encrypt(
        &self,
        blob: &[u8],
        context: &EncryptionContext,
        to_key: &KeyId,
    ) -> Result<Vec<u8>>;

    /// Both, of one wrapped data key: in the clear, and under the current material of `to_key`.
    fn decrypt_and_re_encrypt(
        &self,
        requester: Requester,
        blob: &[u8],
        context: &EncryptionContext,
        to_key: &KeyId,
    ) -> Result<(Key256, Vec<u8>)> {
        let plaintext = self.decrypt(requester, blob, context)?;
        Ok((plaintext, self.re_encrypt(blob, context, to_key)?))
    }

    /// While the answer lives, all that its thread asks is answered as of one moment: what opens a
    /// file asks more than once. `None`: each time as of then.
    fn look(&self) -> Option<Look> {
        None
    }

    /// Whether the volume may decrypt under a key at this moment.
    fn check_usable(&self, key: &KeyId) -> Result<()>;

    /// The material that a key wraps with now.
    fn current_material(&self, key: &KeyId) -> Result<MaterialId>;

    /// How long that material has been the current one.
    fn material_age(&self, key: &KeyId) -> Result<Duration>;

    /// The key that a user means.
    fn resolve(&self, key: &KeyRef) -> Result<KeyId>;

    /// RotateKeyOnDemand: new material for the volume's key.
    fn rotate(&self, key: &KeyId) -> Result<()>;

    /// A key's ARN.
    fn arn(&self, key: &KeyId) -> Result<String>;

    /// Tells the key manager of the volume itself: where it is, what is done with all of its files.
    fn note(&self, requester: Requester, note: &VolumeNote) -> Result<()>;

    /// What has to be done from time to time: what is due is rotated and deleted.
    fn maintain(&self) -> Result<()>;

    /// Where the keys are, for a person: a directory, or a socket.
    fn place(&self) -> String;
}

/// The keystore opened in this process.
struct Embedded {
    kms: Arc<Kms>,
    caller: Caller,
}

impl KeySource for Kms {
    fn for_volume(self: Arc<Self>, volume: &VolumeId) -> Arc<dyn VolumeKeys> {
        Arc::new(Embedded {
            caller: self.volume_caller(volume),
            kms: self,
        })
    }
}

impl Embedded {
    /// The volume, as asked by `requester`.
    fn asked_by(&self, requester: Requester) -> Cow<'_, Caller> {
        if requester == Requester::default() && InRun::current().is_none() {
            return Cow::Borrowed(&self.caller);
        }
        let source = Source {
            uid: requester.uid,
            pid: requester.pid,
            ..Source::default()
        };
        Cow::Owned(self.caller.clone().with_source(source).in_this_run())
    }
}

impl VolumeKeys for Embedded {
    fn generate(
        &self,
        requester: Requester,
        key: &KeyId,
        context: &EncryptionContext,
    ) -> Result<DataKey> {
        self.kms
            .client(&self.asked_by(requester))
            .generate_data_key_for_volume(key, context)
    }

    fn decrypt(
        &self,
        requester: Requester,
        blob: &[u8],
        context: &EncryptionContext,
    ) -> Result<Key256> {
        self.kms
            .client(&self.asked_by(requester))
            .decrypt_data_key(blob, context)
    }

    fn re_encrypt(
        &self,
        blob: &[u8],
        context: &EncryptionContext,
        to_key: &KeyId,
    ) -> Result<Vec<u8>> {
        self.kms
            .client(&self.asked_by(Requester::default()))
            .re_encrypt_data_key(blob, context, to_key, context)
    }

    fn decrypt_and_re_encrypt(
        &self,
        requester: Requester,
        blob: &[u8],
        context: &EncryptionContext,
        to_key: &KeyId,
    ) -> Result<(Key256, Vec<u8>)> {
        self.kms
            .client(&self.asked_by(requester))
            .open_and_re_encrypt_data_key(blob, context, to_key)
    }

    fn look(&self) -> Option<Look> {
        Some(self.kms.cache.look())
    }

    fn check_usable(&self, key: &KeyId) -> Result<()> {
        self.kms.client(&self.caller).check_usable(key)
    }

    fn current_material(&self, key: &KeyId) -> Result<MaterialId> {
        self.kms.current_material(key)
    }

    fn material_age(&self, key: &KeyId) -> Result<Duration> {
        self.kms.material_age(key)
    }

    fn resolve(&self, key: &KeyRef) -> Result<KeyId> {
        self.kms.resolve(key)
    }

    fn rotate(&self, key: &KeyId) -> Result<()> {
        let super::Principal::Volume(volume) = self.caller.principal() else {
            return Ok(());
        };
        self.kms.rotate_volume_key(volume, key)
    }

    fn arn(&self, key: &KeyId) -> Result<String> {
        Ok(self.kms.key_arn(key))
    }

    fn note(&self, requester: Requester, note: &VolumeNote) -> Result<()> {
        self.kms.note_volume(&self.asked_by(requester), note)
    }

    fn maintain(&self) -> Result<()> {
        self.kms.maintain().map(drop)
    }

    fn place(&self) -> String {
        self.kms.dir().to_string_lossy().into_owned()
    }
}
