//! What the key manager is told of a run over all files of a volume: its start, its end, what was
//! counted. The run's id stands in the record of each use of a key in between.

use std::collections::HashMap;

use super::Progress;
use crate::backing::Backing;
use crate::format::WrappedKey;
use crate::kms::{
    Census, CensusEntry, Clock, InRun, KeyId, Outcome, Requester, RunEnd, RunId, RunKind, RunStart,
    SystemClock, Timestamp, VolumeNote,
};
use crate::volume::{Material, Volume, VolumeError};

/// A run that the key manager knows of.
pub(super) struct Recorded<'a, B: Backing> {
    volume: &'a Volume<B>,
    kind: RunKind,
    dry_run: bool,
    id: RunId,
    began: Timestamp,
    _of_run: InRun,
}

/// Wrapped keys by their CMK and material.
#[derive(Default)]
pub(super) struct Tally(HashMap<Material, u64>);

/// The CMKs of a volume with their current materials, when a count began.
pub(super) struct CountStart(Vec<(KeyId, [u8; 8])>);

impl Tally {
    pub(super) fn add(&mut self, keys: &[WrappedKey]) {
        for material in keys.iter().filter_map(|key| Material::of(&key.blob)) {
            *self.0.entry(material).or_default() += 1;
        }
    }
}

impl<'a, B: Backing> Recorded<'a, B> {
    /// Begins a run; `to` is the CMK that it moves data keys to.
    ///
    /// # Errors
    /// [`VolumeError::Key`] when it can't be recorded: then it must not begin.
    pub(super) fn begin(
        volume: &'a Volume<B>,
        kind: RunKind,
        dry_run: bool,
        to: &[KeyId],
        progress: &dyn Progress,
    ) -> Result<Self, VolumeError> {
        let id = RunId::random();
        let run = Self {
            volume,
            kind,
            dry_run,
            id,
            began: SystemClock.now(),
            _of_run: InRun::of(id),
        };
        let mut keys: Vec<KeyId> = run.volume_keys()?.iter().map(|own| own.key).collect();
        keys.extend(to);
        keys.sort_unstable();
        keys.dedup();
        run.note(&VolumeNote::Started(RunStart {
            kind,
            place: volume.backing().place(),
            keys,
            dry_run,
        }))?;
        progress.began(&id);
        Ok(run)
    }

    pub(super) fn id(&self) -> RunId {
        self.id
    }

    fn note(&self, note: &VolumeNote) -> Result<(), VolumeError> {
        let own = Requester {
            uid: Some(rustix::process::geteuid().as_raw()),
            pid: Some(std::process::id()),
        };
        Ok(self.volume.key_source().note(own, note)?)
    }

    fn volume_keys(&self) -> Result<Vec<Material>, VolumeError> {
        let blobs = self.volume.wrapped_volume_keys()?;
        Ok(blobs.iter().filter_map(|blob| Material::of(blob)).collect())
    }

    /// What files that are made during a count, and later, are wrapped under. Before anything is
    /// counted, and once the volume key is where it is to be.
    ///
    /// # Errors
    /// [`VolumeError::Key`] when a CMK can't be used.
    pub(super) fn start_count(&self) -> Result<CountStart, VolumeError> {
        let source = self.volume.key_source();
        let mut current = Vec::new();
        for Material { key, prefix } in self.volume_keys()? {
            // A dry run finds a key that can't be used as it is.
            let prefix = match source.current_material(&key) {
                Ok(current) => current.prefix(),
                Err(_) if self.dry_run => prefix,
                Err(error) => return Err(error.into()),
            };
            current.push((key, prefix));
        }
        Ok(CountStart(current))
    }

    /// A count that is over; `whole` when every file was looked at, and none could get past.
    pub(super) fn census(
        &self,
        start: CountStart,
        tally: Tally,
        whole: bool,
    ) -> Result<Census, VolumeError> {
        let mut counts: Vec<CensusEntry> = tally
            .0
            .into_iter()
            .map(|(Material { key, prefix }, files)| CensusEntry {
                key,
                material: prefix,
                files,
                volume_key: false,
            })
            .collect();
        for Material { key, prefix } in self.volume_keys()? {
            match counts
                .iter_mut()
                .find(|count| (count.key, count.material) == (key, prefix))
            {
                Some(count) => count.volume_key = true,
                None => counts.push(CensusEntry {
                    key,
                    material: prefix,
                    files: 0,
                    volume_key: true,
                }),
            }
        }
        Ok(Census {
            began: self.began,
            current: start.0,
            counts,
            whole: whole && self.volume.is_exclusive(),
        })
    }

    /// Ends the run. What it did stays done when that can't be recorded.
    pub(super) fn end(self, outcome: Outcome, census: Option<Census>) {
        let note = VolumeNote::Ended(RunEnd {
            kind: self.kind,
            place: self.volume.backing().place(),
            dry_run: self.dry_run,
            outcome,
            census,
        });
        if let Err(error) = self.note(&note) {
            tracing::error!(run = %self.id, %error, "the end of the run could not be recorded");
        }
    }
}
