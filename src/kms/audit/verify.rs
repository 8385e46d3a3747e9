//! Verifying the log: every record in its place, and none missing at the end.

use std::collections::BTreeSet;
use std::fmt;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;

use rusqlite::Connection;

use super::super::error::{KmsError, Result};
use super::super::store::{Anchor, Sealer, audit_key};
use super::chain::{self, HEAD_LEN, Head};
use super::log::{head_path, records_path};
use crate::crypto::MacKey;

/// What is wrong with the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The file.
    pub file: String,
    /// The line in it, from 1; `None`: the file as a whole.
    pub line: Option<u64>,
    /// What is wrong.
    pub what: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "{} line {line}: {}", self.file, self.what),
            None => write!(f, "{}: {}", self.file, self.what),
        }
    }
}

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Segments of the log.
    pub segments: u64,
    /// Records that are as they were written.
    pub records: u64,
    /// What is not.
    pub problems: Vec<Problem>,
}

/// Problems of one segment that are told; the rest of them adds nothing.
const MOST_PROBLEMS: usize = 100;

/// Verifies the log in `dir` against the keystore. Records may come meanwhile.
pub(in crate::kms) fn verify(dir: &Path, sql: &Connection, sealer: &Sealer) -> Result<Report> {
    let mut report = Report::default();
    let Some(key) = audit_key(sql, sealer)? else {
        return Ok(report); // nothing has ever been recorded
    };
    // The keystore first: the files may be further than it, and not the other way.
    let anchors = Anchor::list(sql)?;
    let mut before = crate::crypto::sha256(&[b"envelopefs audit log v1"]);
    for (expected, anchor) in (1..).zip(&anchors) {
        let mut segment = Checked {
            dir,
            key: &key,
            anchor,
            report: &mut report,
        };
        if anchor.number != expected || anchor.genesis != chain::genesis(anchor.number, &before) {
            segment.problem(None, "the segment before it is missing in the keystore");
        }
        if !anchor.is_authentic(&key) {
            segment.problem(None, "what the keystore says of it was changed");
        }
        segment.check()?;
        before = anchor.genesis;
        report.segments += 1;
    }
    foreign_files(dir, &anchors, &mut report)?;
    Ok(report)
}

/// Files that the keystore does not know.
fn foreign_files(dir: &Path, anchors: &[Anchor], report: &mut Report) -> Result<()> {
    let known: BTreeSet<_> = anchors
        .iter()
        .flat_map(|anchor| {
            [
                records_path(dir, anchor.number),
                head_path(dir, anchor.number),
            ]
        })
        .collect();
    let entries = fs::read_dir(dir).map_err(KmsError::io("read", dir))?;
    for entry in entries {
        let entry = entry.map_err(KmsError::io("read", dir))?;
        let is_empty = || entry.metadata().is_ok_and(|meta| meta.len() == 0);
        let is_records = entry.path().extension().is_some_and(|x| x == "jsonl");
        // One that is just being made is empty.
        if is_records && !known.contains(&entry.path()) && !is_empty() {
            report.problems.push(Problem {
                file: entry.file_name().to_string_lossy().into_owned(),
                line: None,
                what: "not a file of this log".to_owned(),
            });
        }
    }
    Ok(())
}

struct Checked<'a> {
    dir: &'a Path,
    key: &'a MacKey,
    anchor: &'a Anchor,
    report: &'a mut Report,
}

/// Where the check of a segment stands.
struct Progress {
    /// The number of the last record.
    seq: i64,
    /// What the next record must name as the one before; `None` after one that is not authentic.
    hash: Option<[u8; 32]>,
    /// Lines that are not authentic since then.
    bad: i64,
}

impl Checked<'_> {
    fn problem(&mut self, line: Option<u64>, what: impl Into<String>) {
        if self.report.problems.len() < MOST_PROBLEMS {
            self.report.problems.push(Problem {
                file: format!("{:08}.jsonl", self.anchor.number),
                line,
                what: what.into(),
            });
        }
    }

    fn check(&mut self) -> Result<()> {
        let path = records_path(self.dir, self.anchor.number);
        // The head before the records, for the same reason as the keystore before both.
        let head = self.head();
        if head.is_none() {
            self.problem(None, "its head is missing or was changed");
        }
        let records = match File::open(&path) {
            Ok(records) => records,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                self.problem(
                    None,
                    format!("missing, with {} records or more", self.anchor.seq),
                );
                return Ok(());
            }
            Err(error) => return Err(KmsError::io("read", path)(error)),
        };
        let mut records = BufReader::with_capacity(1 << 16, records);
        let mut progress = Progress {
            seq: 0,
            hash: Some(self.anchor.genesis),
            bad: 0,
        };
        let mut line = Vec::new();
        for number in 1.. {
            line.clear();
            // A file without line feeds is not read whole into memory.
            let read = (&mut records)
                .take(super::log::LONGEST + 1)
                .read_until(b'\n', &mut line)
                .map_err(KmsError::io("read", &path))?;
            if read == 0 {
                break;
            }
            let whole = line.pop_if(|b| *b == b'\n').is_some();
            if !whole {
                // Part of a record that is being written, or that a killed process left: none that
                // anybody was told of, unless the head says so.
                line.push(b' ');
            }
            self.line(number, &line, &mut progress, head.as_ref());
            if !whole && read as u64 <= super::log::LONGEST {
                break; // the end of the file; what may have come since is the rest of that record
            }
        }
        self.end(&progress, head.as_ref());
        Ok(())
    }

    /// Reads the head; more than once while it is being written.
    fn head(&self) -> Option<Head> {
        for _ in 0..100 {
            let mut bytes = [0; HEAD_LEN];
            let file = File::open(head_path(self.dir, self.anchor.number)).ok()?;
            file.read_exact_at(&mut bytes, 0).ok()?;
            if let Some(head) = Head::parse(self.key, &bytes) {
                return Some(head).filter(|head| head.segment == self.anchor.number);
            }
            std::thread::yield_now();
        }
        None
    }

    fn line(&mut self, number: u64, line: &[u8], progress: &mut Progress, head: Option<&Head>) {
        let Some(link) = chain::open(self.key, line) else {
            let unfinished = line.last() == Some(&b' ');
            if unfinished && head.is_some_and(|head| progress.seq >= head.seq) {
                return;
            }
            self.problem(
                Some(number),
                "the record was changed, or does not belong here",
            );
            progress.bad += 1;
            progress.hash = None;
            return;
        };
        if link.segment != self.anchor.number {
            self.problem(
                Some(number),
                format!(
                    "record {} of {:08}.jsonl does not belong here",
                    link.seq, link.segment
                ),
            );
            progress.bad += 1;
            progress.hash = None;
            return;
        }
        let expected = progress.seq + 1;
        // Each line that is not authentic may stand for one that is missing.
        if link.seq < expected {
            self.problem(
                Some(number),
                format!("record {} stands behind record {}", link.seq, progress.seq),
            );
        } else if link.seq - expected > progress.bad {
            let (first, last) = (expected + progress.bad, link.seq - 1);
            self.problem(
                Some(number),
                format!("records {first} to {last} are missing before it"),
            );
        } else if progress.hash.is_some_and(|hash| hash != link.previous) {
            self.problem(Some(number), "it does not follow the record before it");
        }
        if link.seq == self.anchor.seq && link.hash != self.anchor.head {
            self.problem(
                Some(number),
                "not the record that the keystore knows under its number",
            );
        }
        self.report.records += 1;
        *progress = Progress {
            seq: link.seq,
            hash: Some(link.hash),
            bad: 0,
        };
    }

    fn end(&mut self, progress: &Progress, head: Option<&Head>) {
        let last = progress.seq;
        let known = head.map_or(0, |head| head.seq).max(self.anchor.seq);
        if last < known {
            self.problem(
                None,
                format!("records {} to {known} are cut off at the end", last + 1),
            );
        }
        if head.is_some_and(|head| head.seq < self.anchor.seq) {
            self.problem(None, "its head is older than what the keystore knows");
        }
        if !self.anchor.open && last > self.anchor.seq {
            self.problem(
                None,
                format!(
                    "it was ended with record {}, but there are {last}",
                    self.anchor.seq
                ),
            );
        }
    }
}
