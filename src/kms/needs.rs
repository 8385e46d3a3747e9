//! What volumes would lose with key material: the check before any of it is destroyed.
//!
//! A volume needs a key material when its last whole count found something wrapped under it, or when
//! it may have wrapped something under it since: the material was current when that count began, or
//! later; or the volume has come to use the key since; or there was no whole count at all.

use std::fmt;

use rusqlite::Connection;

use super::client::Call;
use super::clock::Timestamp;
use super::error::{KmsError, Result};
use super::id::KeyId;
use super::reference::key_arn;
use super::state::KeyState;
use super::store::{Change, KeyRow, MaterialRow, VolumeRow, admitted_volumes};
use crate::format::VolumeId;

/// A path on one line.
fn printable(place: &str) -> String {
    let shown = |c: char| {
        let escaped = c.is_control().then(|| c.escape_default());
        escaped.map_or_else(|| c.to_string(), |escaped| escaped.to_string())
    };
    place.chars().map(shown).collect()
}

/// So many volumes are named in a refusal.
const NAMED_MOST: usize = 8;

/// How much of a volume is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Extent {
    /// Its own key.
    Everything,
    /// So many files.
    Files(u64),
    /// So many files, and those that were made since.
    AtLeast(u64),
    /// It was never counted.
    Unknown,
}

/// What a volume loses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Loss {
    volume: VolumeId,
    /// The cipher directory; empty where it is not known.
    place: String,
    extent: Extent,
    counted: Option<Timestamp>,
}

/// A number of files, in words.
struct Files(u64);

impl fmt::Display for Files {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            1 => f.write_str("1 file"),
            count => write!(f, "{count} files"),
        }
    }
}

impl Loss {
    /// The volume, as far as one line tells it.
    fn subject(&self) -> String {
        format!("{} {}", self.volume, printable(&self.place))
    }

    /// Where the volume is, in words.
    fn shown_place(&self) -> String {
        if self.place.is_empty() {
            format!("volume {}", self.volume)
        } else {
            printable(&self.place)
        }
    }

    /// `1234 files in /srv/data`
    fn words(&self) -> String {
        let place = self.shown_place();
        match self.extent {
            Extent::Everything => format!("everything in {place}"),
            Extent::Files(count) => format!("{} in {place}", Files(count)),
            Extent::AtLeast(count) => format!("at least {} in {place}", Files(count)),
            Extent::Unknown => format!("files never counted in {place}"),
        }
    }
}

/// The words that have it done all the same.
fn words(losses: &[Loss]) -> String {
    if losses.len() > NAMED_MOST {
        return format!("lose data in {} volumes", losses.len());
    }
    let parts: Vec<String> = losses.iter().map(Loss::words).collect();
    format!("lose {}", parts.join(" and "))
}

/// The refusal to destroy `what`. With `current` material lost, a rewrap under the same key is no way
/// out.
fn refusal(what: &str, losses: &[Loss], current: bool) -> String {
    let volumes: Vec<String> = losses
        .iter()
        .take(NAMED_MOST)
        .map(|loss| {
            let counted = match loss.counted {
                Some(date) => format!("counted {date}"),
                None => "never counted".to_owned(),
            };
            format!("{} (volume {}, {counted})", loss.words(), loss.volume)
        })
        .collect();
    let more = match losses.len().saturating_sub(NAMED_MOST) {
        0 => String::new(),
        more => format!("; and {more} volumes more"),
    };
    let to_key = if current { " --to-key OTHER-KEY" } else { "" };
    let example = losses
        .iter()
        .find(|loss| !loss.place.is_empty())
        .map_or_else(|| "CIPHERDIR".to_owned(), |loss| printable(&loss.place));
    format!(
        "{what} is still needed: {}{more}. Wrap what is left anew first: 'envelopefs rewrap{to_key} \
         {example}'; a volume that is no more is forgotten with 'envelopefs keystore volume forget'. \
         To destroy it all the same, on the command line: --force \"{}\"",
        volumes.join("; "),
        words(losses)
    )
}

/// What volumes lose when of a key's materials `lost` is destroyed; `all` are those that there are or
/// were, oldest first.
pub(super) fn losses(
    sql: &Connection,
    key: &KeyId,
    all: &[MaterialRow],
    lost: &[MaterialRow],
) -> Result<Vec<Loss>> {
    if lost.is_empty() {
        return Ok(Vec::new());
    }
    let rows = VolumeRow::all(sql)?;
    let admitted = admitted_volumes(sql, key)?;
    let mut losses: Vec<Loss> = rows
        .iter()
        .filter(|row| row.forgotten.is_none())
        .filter_map(|row| {
            let extent = extent(row, key, all, lost, &admitted)?;
            Some(Loss {
                volume: row.volume,
                place: row.place.clone(),
                extent,
                counted: row.counted,
            })
        })
        .collect();
    // Volumes of which nothing is known but that they were given a grant.
    let unknown = admitted
        .into_iter()
        .filter(|volume| rows.iter().all(|row| row.volume != *volume));
    losses.extend(unknown.map(|volume| Loss {
        volume,
        place: String::new(),
        extent: Extent::Unknown,
        counted: None,
    }));
    Ok(losses)
}

fn extent(
    row: &VolumeRow,
    key: &KeyId,
    all: &[MaterialRow],
    lost: &[MaterialRow],
    admitted: &[VolumeId],
) -> Option<Extent> {
    let counted = row
        .counts
        .iter()
        .filter(|count| count.key == *key)
        .filter(|count| lost.iter().any(|row| row.id.prefix() == count.material));
    let (mut files, mut volume_key) = (0_u64, false);
    for count in counted {
        files = files.saturating_add(count.files);
        volume_key |= count.volume_key;
    }
    let used = row.keys.iter().find(|(used, _)| used == key);
    let used_since = match used {
        None => row.counted.is_none() && admitted.contains(&row.volume),
        Some((_, None)) => true,
        // By their places, not their numbers: imported materials have numbers of each Region's own.
        Some((_, Some(since))) => match all.iter().position(|row| row.id.prefix() == *since) {
            None => true,
            Some(from) => all[from..]
                .iter()
                .any(|row| lost.iter().any(|lost| lost.id == row.id)),
        },
    };
    match (volume_key, used_since, files) {
        (true, _, _) => Some(Extent::Everything),
        (false, true, 0) if row.counted.is_none() => Some(Extent::Unknown),
        (false, true, files) => Some(Extent::AtLeast(files)),
        (false, false, 0) => None,
        (false, false, files) => Some(Extent::Files(files)),
    }
}

/// The materials that go with a key for good: those that no other Region's key of its id has here.
pub(super) fn lost_with(sql: &Connection, key: &KeyRow) -> Result<Vec<MaterialRow>> {
    let mut lost = MaterialRow::list(sql, &key.place())?;
    lost.retain(|row| row.present);
    let stays = |other: &KeyRow| {
        let pending = [KeyState::PendingDeletion, KeyState::PendingReplicaDeletion];
        other.region != key.region && !pending.contains(&other.state)
    };
    for other in KeyRow::of_set(sql, &key.id)?
        .iter()
        .filter(|key| stays(key))
    {
        let theirs = MaterialRow::list(sql, &other.place())?;
        lost.retain(|row| {
            !theirs
                .iter()
                .any(|their| their.present && their.id == row.id)
        });
    }
    Ok(lost)
}

/// The end of a deletion: what it costs beyond what it was said to when it was asked for.
pub(super) fn unforeseen(
    change: &Change<'_>,
    key: &KeyRow,
    foreseen: Option<&str>,
    account: &str,
) -> Result<Option<KmsError>> {
    let all = MaterialRow::list(change.sql, &key.place())?;
    let lost = lost_with(change.sql, key)?;
    let mut losses = losses(change.sql, &key.id, &all, &lost)?;
    losses.retain(|loss| {
        let subject = loss.subject();
        !foreseen.is_some_and(|foreseen| foreseen.lines().any(|line| line == subject))
    });
    Ok((!losses.is_empty()).then(|| {
        let arn = key_arn(&key.place(), account);
        KmsError::StillNeeded(refusal(&arn, &losses, true))
    }))
}

impl Call<'_> {
    /// Refuses to destroy materials of a key that volumes need, unless what will be lost was said in
    /// so many words. Then it gives the volumes, one a line.
    ///
    /// # Errors
    /// [`KmsError::StillNeeded`].
    pub(super) fn check_needed(
        &self,
        change: &Change<'_>,
        key: &KeyRow,
        lost: &[MaterialRow],
        what: &str,
    ) -> Result<Option<String>> {
        let all = MaterialRow::list(change.sql, &key.place())?;
        let losses = losses(change.sql, &key.id, &all, lost)?;
        if losses.is_empty() {
            return Ok(None);
        }
        let words = words(&losses);
        if self.force() != Some(words.as_str()) {
            let current = lost
                .iter()
                .any(|row| row.state == super::MaterialState::Current);
            return Err(KmsError::StillNeeded(refusal(what, &losses, current)));
        }
        self.was_forced();
        let subjects: Vec<String> = losses.iter().map(Loss::subject).collect();
        Ok(Some(subjects.join("\n")))
    }
}
