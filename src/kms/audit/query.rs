//! Reading the log: the records of all segments in the order of time, without the keystore's key.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::super::clock::Timestamp;
use super::super::error::{KmsError, Result};
use super::super::iso8601;
use super::log::LONGEST;

/// Which records are wanted. What is not given is not asked for.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Of these keys: ids or ARNs.
    pub keys: Vec<String>,
    /// Of this user: a name, an ARN, a uid, or `root`.
    pub user: Option<String>,
    /// Of this operation; case does not matter.
    pub event: Option<String>,
    /// From then on.
    pub since: Option<Timestamp>,
    /// Before then.
    pub until: Option<Timestamp>,
    /// Of the file of this id.
    pub file: Option<String>,
    /// Of the volume of this id.
    pub volume: Option<String>,
    /// Of this run of a rewrap or re-encrypt, by its id.
    pub run: Option<String>,
    /// Refusals only.
    pub refused: bool,
}

/// A record: its line, and what it says that a reader sorts and shows.
#[derive(Clone, Debug)]
pub struct Record {
    /// The line, without its line feed.
    pub line: String,
    /// When.
    pub time: Timestamp,
    /// Its file's number.
    pub segment: u64,
    /// The rest.
    pub parts: Parts,
}

/// The members of a record that are filtered by and shown.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Parts {
    #[serde(rename = "eventTime")]
    time: String,
    /// The operation.
    pub event_name: String,
    /// Why it was refused.
    #[serde(default)]
    pub error_code: Option<String>,
    user_identity: Identity,
    #[serde(default)]
    request_parameters: Option<Parameters>,
    #[serde(default, rename = "additionalEventData")]
    additional: Option<Additional>,
    #[serde(default)]
    resources: Vec<Resource>,
    #[serde(rename = "envelopefs")]
    own: Own,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Identity {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    arn: Option<String>,
    #[serde(default)]
    user_name: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
struct Parameters {
    #[serde(default, rename = "volumeId")]
    volume: Option<String>,
    #[serde(default, rename = "encryptionContext")]
    context: Option<BTreeMap<String, String>>,
    #[serde(default, rename = "sourceEncryptionContext")]
    source: Option<BTreeMap<String, String>>,
    #[serde(default, rename = "destinationEncryptionContext")]
    destination: Option<BTreeMap<String, String>>,
}

#[derive(Clone, Debug, Deserialize)]
struct Additional {
    #[serde(default, rename = "runId")]
    run: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
struct Resource {
    #[serde(rename = "ARN")]
    arn: String,
}

#[derive(Clone, Copy, Debug, Deserialize)]
struct Own {
    uid: Option<u32>,
    pid: Option<u32>,
    seq: i64,
}

impl Parts {
    /// The ARNs of its keys.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.resources.iter().map(|resource| resource.arn.as_str())
    }

    /// Who: the user's name, or the kind of identity.
    pub fn user(&self) -> &str {
        self.user_identity
            .user_name
            .as_deref()
            .unwrap_or(&self.user_identity.kind)
    }

    /// The local user that asked.
    pub fn uid(&self) -> Option<u32> {
        self.own.uid
    }

    /// The process that asked.
    pub fn pid(&self) -> Option<u32> {
        self.own.pid
    }

    /// The number in its segment.
    pub fn seq(&self) -> i64 {
        self.own.seq
    }

    /// The run of a rewrap or re-encrypt that it was part of.
    pub fn run(&self) -> Option<&str> {
        self.additional.as_ref()?.run.as_deref()
    }

    /// The volume that it was for.
    pub fn volume(&self) -> Option<&str> {
        let told = || self.request_parameters.as_ref()?.volume.as_deref();
        self.context("envelopefs:volume-id").or_else(told)
    }

    /// A value of an encryption context.
    pub fn context(&self, name: &str) -> Option<&str> {
        let parameters = self.request_parameters.as_ref()?;
        [
            &parameters.context,
            &parameters.source,
            &parameters.destination,
        ]
        .into_iter()
        .flatten()
        .find_map(|context| context.get(name))
        .map(String::as_str)
    }
}

impl Filter {
    /// Whether a record is wanted.
    pub fn wants(&self, record: &Record) -> bool {
        let parts = &record.parts;
        let is = |wanted: &Option<String>, found: Option<&str>| {
            wanted.as_deref().is_none_or(|wanted| found == Some(wanted))
        };
        self.since.is_none_or(|since| record.time >= since)
            && self.until.is_none_or(|until| record.time < until)
            && (!self.refused || parts.error_code.is_some())
            && self
                .event
                .as_ref()
                .is_none_or(|event| event.eq_ignore_ascii_case(&parts.event_name))
            && (self.keys.is_empty()
                || parts
                    .keys()
                    .any(|arn| self.keys.iter().any(|key| names(key, arn))))
            && self.user.as_ref().is_none_or(|user| is_user(user, parts))
            && is(&self.file, parts.context("envelopefs:file-id"))
            && is(&self.volume, parts.volume())
            && is(&self.run, parts.run())
    }
}

/// Whether an id or an ARN is the one of a key's ARN.
fn names(key: &str, arn: &str) -> bool {
    arn == key || arn.rsplit('/').next() == Some(key)
}

fn is_user(user: &str, parts: &Parts) -> bool {
    let identity = &parts.user_identity;
    identity.user_name.as_deref() == Some(user)
        || identity.arn.as_deref() == Some(user)
        || (user == "root" && identity.kind == "Root")
        || (parts.uid().is_some() && user.parse().ok() == parts.uid())
}

/// Reads what a log's files hold, again and again as they grow.
pub struct Reader {
    dir: PathBuf,
    files: BTreeMap<u64, Segment>,
}

struct Segment {
    lines: BufReader<File>,
    /// The line begun.
    begun: Vec<u8>,
    /// Where the next one begins.
    at: u64,
}

impl Reader {
    /// A reader of the log of the keystore in `keystore`; `from_end`: of what comes from now on.
    ///
    /// # Errors
    /// [`KmsError::Io`].
    pub fn new(keystore: &Path, from_end: bool) -> Result<Self> {
        let mut reader = Self {
            dir: keystore.join(super::DIR),
            files: BTreeMap::new(),
        };
        reader.find(from_end)?;
        Ok(reader)
    }

    fn find(&mut self, from_end: bool) -> Result<()> {
        let entries = match fs::read_dir(&self.dir) {
            Ok(entries) => entries,
            // Nothing has ever been recorded.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(KmsError::io("read", &self.dir)(error)),
        };
        for entry in entries {
            let path = entry.map_err(KmsError::io("read", &self.dir))?.path();
            let number = path
                .file_name()
                .and_then(|name| name.to_str()?.strip_suffix(".jsonl")?.parse().ok());
            let Some(number) = number else { continue };
            if self.files.contains_key(&number) {
                continue;
            }
            let mut file = File::open(&path).map_err(KmsError::io("open", &path))?;
            let at = if from_end {
                file.seek(SeekFrom::End(0))
                    .map_err(KmsError::io("read", &path))?
            } else {
                0
            };
            self.files.insert(
                number,
                Segment {
                    lines: BufReader::new(file),
                    begun: Vec::new(),
                    at,
                },
            );
        }
        Ok(())
    }

    /// The records that came since the last call, in the order of time; `each` says false to end.
    /// Lines that are no records are passed over: verification tells of them.
    ///
    /// # Errors
    /// [`KmsError::Io`], or the caller's.
    pub fn read<E: From<KmsError>>(
        &mut self,
        mut each: impl FnMut(Record) -> std::result::Result<bool, E>,
    ) -> std::result::Result<(), E> {
        self.find(false)?;
        let mut next = Vec::new();
        for (number, segment) in &mut self.files {
            if let Some(record) = segment
                .next(*number)
                .map_err(KmsError::io("read", &self.dir))?
            {
                next.push(record);
            }
        }
        // There are as many segments as processes at once, and one for some months each.
        while let Some(first) = (0..next.len()).min_by_key(|&at| (next[at].time, next[at].segment))
        {
            let number = next[first].segment;
            let segment = self.files.get_mut(&number);
            let more = segment.map_or(Ok(None), |segment| segment.next(number));
            let record = match more.map_err(KmsError::io("read", &self.dir))? {
                Some(more) => std::mem::replace(&mut next[first], more),
                None => next.swap_remove(first),
            };
            if !each(record)? {
                break;
            }
        }
        Ok(())
    }
}

impl Segment {
    fn next(&mut self, number: u64) -> std::io::Result<Option<Record>> {
        loop {
            // A record that was not finished may have been written over since.
            self.begun.clear();
            seek_to(&mut self.lines, self.at)?;
            let read = (&mut self.lines)
                .take(LONGEST)
                .read_until(b'\n', &mut self.begun)?;
            if self.begun.pop_if(|b| *b == b'\n').is_none() {
                return Ok(None);
            }
            self.at += read as u64;
            if let Some(record) = parse(std::mem::take(&mut self.begun), number) {
                return Ok(Some(record));
            }
        }
    }
}

fn parse(line: Vec<u8>, segment: u64) -> Option<Record> {
    let line = String::from_utf8(line).ok()?;
    let parts: Parts = serde_json::from_str(&line).ok()?;
    Some(Record {
        time: iso8601::parse(&parts.time)?,
        line,
        segment,
        parts,
    })
}

/// Moves a reader without losing what it has buffered.
fn seek_to(lines: &mut BufReader<File>, at: u64) -> std::io::Result<()> {
    let here = lines.stream_position()?;
    let away = at.cast_signed().wrapping_sub(here.cast_signed());
    lines.seek_relative(away)
}
