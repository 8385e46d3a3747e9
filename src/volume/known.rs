//! What the key manager is told of a volume: where it is, and which keys it uses.

use super::Volume;
use super::error::{Result, VolumeError};
use super::keys::key_of;
use super::record_io::Control;
use crate::backing::Backing;
use crate::format::VolumeRecord;
use crate::kms::{KeyId, Requester, VolumeNote};

impl<B: Backing> Volume<B> {
    /// Whether nobody else can write to the volume.
    pub fn is_exclusive(&self) -> bool {
        self.lock.lock().is_some()
    }

    /// The volume key as it is wrapped now, under one CMK or more.
    ///
    /// # Errors
    /// [`VolumeError::NoVolume`] when the volume record is no more; what the cipher directory says.
    pub fn wrapped_volume_keys(&self) -> Result<Vec<Vec<u8>>> {
        let control = Control::open(&*self.backing, &self.root.dir)?;
        Ok(self.own_record(&control)?.volume_keys)
    }

    /// The volume record, as this volume's own key authenticates it.
    pub(super) fn own_record(&self, control: &Control<'_, B>) -> Result<VolumeRecord> {
        let authentic = |(bytes, record): &(Vec<u8>, VolumeRecord)| {
            record.volume_id == self.record.volume_id
                && VolumeRecord::authentic(bytes, &self.secrets.record)
        };
        let mut records = control.records()?.into_iter();
        records
            .find(authentic)
            .map(|(_, record)| record)
            .ok_or_else(|| VolumeError::NoVolume("the directory".into()))
    }

    /// Tells the key manager that the volume is here, so that it keeps what the volume needs. One that
    /// can't be told knows the volume from its making.
    pub(super) fn tell_seen(&self) {
        let place = self.backing.place();
        if place.is_empty() {
            return;
        }
        let keys = self.record.volume_keys.iter().map(|blob| key_of(blob));
        let told = keys.collect::<Result<Vec<KeyId>>>().and_then(|keys| {
            let note = VolumeNote::Seen { place, keys };
            Ok(self.keys.source().note(Requester::default(), &note)?)
        });
        if let Err(error) = told {
            tracing::warn!(%error, "the key manager could not note where the volume is");
        }
    }
}
