//! Volumes that the keystore knows: where they were seen, which keys they use, what was counted in
//! them; and the record of what went over all of their files.

use serde::{Deserialize, Serialize};

use super::Kms;
use super::audit::{Event, Parameters};
use super::caller::{Caller, Principal};
use super::clock::Timestamp;
use super::error::{KmsError, Result};
use super::id::KeyId;
use super::store::{Count, Counted, VolumeRow, admitted_volumes, admitting_keys};
use super::words::words;
use crate::format::{VolumeId, random_uuid};

/// A volume that was seen is not noted again for so many milliseconds.
const SEEN_AGAIN: i64 = 60 * 60 * 1000;

words! {
    /// What goes over all files of a volume.
    RunKind {
        /// Data keys are wrapped anew.
        Rewrap = "Rewrap",
        /// Data keys are replaced.
        ReEncrypt = "ReEncrypt",
    }
}

impl RunKind {
    fn started(self) -> &'static str {
        match self {
            Self::Rewrap => "StartRewrap",
            Self::ReEncrypt => "StartReEncrypt",
        }
    }

    fn ended(self) -> &'static str {
        match self {
            Self::Rewrap => "EndRewrap",
            Self::ReEncrypt => "EndReEncrypt",
        }
    }
}

/// What a volume tells the key manager of itself.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub enum VolumeNote {
    /// It was opened.
    Seen {
        /// Its cipher directory.
        place: String,
        /// The keys that it wraps new data keys under.
        keys: Vec<KeyId>,
    },
    /// A run over its files begins.
    Started(RunStart),
    /// It is over.
    Ended(RunEnd),
}

/// The beginning of a run.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RunStart {
    /// What it does.
    pub kind: RunKind,
    /// The volume's cipher directory.
    pub place: String,
    /// The keys that new data keys are wrapped under from now on.
    pub keys: Vec<KeyId>,
    /// Whether it only counts.
    pub dry_run: bool,
}

/// The end of a run.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RunEnd {
    /// What it did.
    pub kind: RunKind,
    /// The volume's cipher directory.
    pub place: String,
    /// Whether it only counted.
    pub dry_run: bool,
    /// How far it came.
    #[serde(flatten)]
    pub outcome: Outcome,
    /// What was counted on the way.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub census: Option<Census>,
}

/// How far a run came.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Outcome {
    /// Files seen.
    pub files: u64,
    /// Files whose header was written anew; in a dry run, would be.
    pub changed: u64,
    /// Files that could not be done.
    pub failed: u64,
    /// Bytes of content sealed anew.
    pub bytes: u64,
    /// Whether nothing is left to do.
    pub complete: bool,
    /// Whether it was stopped before its end.
    pub cancelled: bool,
    /// The error that ended it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// A count of all wrapped keys of a volume.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Census {
    /// When it began.
    pub began: Timestamp,
    /// The keys that new data keys were wrapped under, and the start of the id of the material that
    /// was current, when it began.
    pub current: Vec<(KeyId, [u8; 8])>,
    /// What was found.
    pub counts: Vec<CensusEntry>,
    /// Whether nothing was left out.
    pub whole: bool,
}

/// What is wrapped under one key material.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct CensusEntry {
    /// The key.
    pub key: KeyId,
    /// The start of the material's id.
    pub material: [u8; 8],
    /// So many data keys of files.
    pub files: u64,
    /// Whether the volume's own key is too.
    pub volume_key: bool,
}

/// A volume in one cipher directory, as the keystore knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegisteredVolume {
    /// Its id.
    pub volume: VolumeId,
    /// The cipher directory; none where all that is known is that it was given a grant.
    pub place: Option<String>,
    /// When it was last seen.
    pub seen: Option<Timestamp>,
    /// When its last whole count began.
    pub counted: Option<Timestamp>,
    /// The keys that it wraps new data keys under, or did so since.
    pub keys: Vec<KeyId>,
    /// What was counted.
    pub counts: Vec<CensusEntry>,
}

/// Where a volume was forgotten.
#[derive(Serialize)]
struct Places<'a> {
    places: &'a [String],
}

/// The record of a run's start or end, or of a volume that is forgotten.
struct Shown<'a, T> {
    volume: &'a VolumeId,
    rest: &'a T,
}

impl<T: Serialize> Parameters for Shown<'_, T> {
    fn write_json(&self, out: &mut Vec<u8>) -> Result<()> {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct All<'a, T> {
            volume_id: String,
            #[serde(flatten)]
            rest: &'a T,
        }
        let all = All {
            volume_id: self.volume.to_string(),
            rest: self.rest,
        };
        serde_json::to_writer(out, &all).map_err(|error| KmsError::Unrecorded(error.to_string()))
    }
}

impl Kms {
    /// Takes what a volume tells of itself; `caller` is the volume.
    ///
    /// # Errors
    /// [`KmsError::AccessDenied`] when the caller is no volume; [`KmsError::Unrecorded`];
    /// [`KmsError::Busy`], [`KmsError::Database`].
    pub fn note_volume(&self, caller: &Caller, note: &VolumeNote) -> Result<()> {
        let Principal::Volume(volume) = caller.principal() else {
            return Err(KmsError::AccessDenied(format!(
                "{} is no volume",
                caller.arn()
            )));
        };
        match note {
            VolumeNote::Seen { place, keys } => self.see_volume(volume, place, keys),
            VolumeNote::Started(start) => {
                self.record_run(caller, start.kind.started(), start.dry_run, volume, start)?;
                self.see_volume(volume, &start.place, &start.keys)
            }
            VolumeNote::Ended(end) => {
                if let Some(census) = &end.census {
                    self.put_census(volume, &end.place, census)?;
                }
                self.record_run(caller, end.kind.ended(), end.dry_run, volume, end)
            }
        }
    }

    fn see_volume(&self, volume: &VolumeId, place: &str, keys: &[KeyId]) -> Result<()> {
        let now = self.now();
        let known = self
            .store
            .read(|sql| VolumeRow::load(sql, volume, place))?
            .filter(|row| {
                let has = |key: &KeyId| row.keys.iter().any(|(known, _)| known == key);
                row.forgotten.is_none()
                    && keys.iter().all(has)
                    && now.millis().saturating_sub(row.seen.millis()) < SEEN_AGAIN
            });
        if known.is_some() {
            return Ok(());
        }
        self.store
            .change(|change| change.see_volume(volume, place, keys, now))
    }

    /// Notes a new volume: it has no files, and its own key under the current material of `key`.
    ///
    /// # Errors
    /// [`KmsError::Busy`], [`KmsError::Database`]; when there is no such key.
    pub fn note_new_volume(&self, volume: &VolumeId, place: &str, key: &KeyId) -> Result<()> {
        let material = self.current_material(key)?.prefix();
        let census = Census {
            began: self.now(),
            current: vec![(*key, material)],
            counts: vec![CensusEntry {
                key: *key,
                material,
                files: 0,
                volume_key: true,
            }],
            whole: true,
        };
        self.put_census(volume, place, &census)
    }

    fn put_census(&self, volume: &VolumeId, place: &str, census: &Census) -> Result<()> {
        let counts: Vec<Counted> = census
            .counts
            .iter()
            .map(|entry| Counted {
                key: entry.key,
                material: entry.material,
                files: entry.files,
                volume_key: entry.volume_key,
            })
            .collect();
        let keys: Vec<KeyId> = census.current.iter().map(|(key, _)| *key).collect();
        self.store.change(|change| {
            change.see_volume(volume, place, &keys, self.now())?;
            let count = Count {
                began: census.began,
                current: &census.current,
                counts: &counts,
                whole: census.whole,
            };
            change.put_count(volume, place, &count)
        })
    }

    fn record_run(
        &self,
        caller: &Caller,
        operation: &'static str,
        read_only: bool,
        volume: &VolumeId,
        rest: &impl Serialize,
    ) -> Result<()> {
        self.recorder().record(&Event {
            time: self.now(),
            caller,
            operation,
            read_only,
            keys: &[],
            parameters: Some(&Shown { volume, rest }),
            error: None,
            forced: None,
            event_id: random_uuid(),
            may_wait: false,
        })
    }

    /// The volumes that the keystore knows, by id and place; those that were forgotten are not among
    /// them.
    ///
    /// # Errors
    /// [`KmsError::Database`], [`KmsError::Damaged`].
    pub fn registered_volumes(&self) -> Result<Vec<RegisteredVolume>> {
        self.store.read(|sql| {
            let rows = VolumeRow::all(sql)?;
            let mut unknown = Vec::<RegisteredVolume>::new();
            for key in admitting_keys(sql)? {
                for volume in admitted_volumes(sql, &key)? {
                    if rows.iter().any(|row| row.volume == volume) {
                        continue;
                    }
                    match unknown.iter_mut().find(|known| known.volume == volume) {
                        Some(known) => known.keys.push(key),
                        None => unknown.push(RegisteredVolume {
                            volume,
                            place: None,
                            seen: None,
                            counted: None,
                            keys: vec![key],
                            counts: Vec::new(),
                        }),
                    }
                }
            }
            let known = rows
                .into_iter()
                .filter(|row| row.forgotten.is_none())
                .map(RegisteredVolume::from);
            Ok(known.chain(unknown).collect())
        })
    }

    /// Forgets a volume, at one place or everywhere: what it needs may be destroyed from then on. It
    /// is known again when it is seen. Says how many places those were.
    ///
    /// # Errors
    /// [`KmsError::NotFound`]; [`KmsError::AccessDenied`] when it is not the account root who asks.
    pub fn forget_volume(
        &self,
        caller: &Caller,
        volume: &VolumeId,
        place: Option<&str>,
    ) -> Result<usize> {
        if !matches!(caller.principal(), Principal::Root) {
            return Err(KmsError::AccessDenied(format!(
                "{} may not forget a volume: it is not the account root",
                caller.arn()
            )));
        }
        let mut known = self.registered_volumes()?;
        known.retain(|row| {
            row.volume == *volume && place.is_none_or(|place| row.place.as_deref() == Some(place))
        });
        if known.is_empty() {
            let at = place.map_or_else(String::new, |place| format!(" in {place}"));
            return Err(KmsError::NotFound(format!(
                "the keystore knows no volume {volume}{at}"
            )));
        }
        let places: Vec<String> = known
            .iter()
            .map(|row| row.place.clone().unwrap_or_default())
            .collect();
        self.store.change(|change| {
            for place in &places {
                change.forget_volume(volume, place, self.now())?;
            }
            let shown = Places { places: &places };
            self.record_run(caller, "ForgetVolume", false, volume, &shown)
        })?;
        Ok(places.len())
    }
}

impl From<VolumeRow> for RegisteredVolume {
    fn from(row: VolumeRow) -> Self {
        Self {
            volume: row.volume,
            place: Some(row.place),
            seen: Some(row.seen),
            counted: row.counted,
            keys: row.keys.into_iter().map(|(key, _)| key).collect(),
            counts: row
                .counts
                .into_iter()
                .map(|count| CensusEntry {
                    key: count.key,
                    material: count.material,
                    files: count.files,
                    volume_key: count.volume_key,
                })
                .collect(),
        }
    }
}
