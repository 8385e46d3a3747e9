//! `audit`: what the audit log says, and whether it is whole.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;
use clap::{Args, Subcommand};
use serde::Serialize;

use super::exit::{Exit, usage};
use super::output;
use crate::kms::audit::{Filter, Reader, Record, Report, SETTLED_AFTER};
use crate::kms::{KeyRef, Kms, Timestamp, iso8601};

/// How often `tail -f` looks for more.
const POLL: Duration = Duration::from_millis(200);

/// What can be done with the audit log.
#[derive(Debug, Subcommand)]
pub enum AuditCommand {
    /// Show records: who used which key for what, and what was refused
    ///
    /// Reads the log's files alone: needs no passphrase, except to look up an alias.
    Query(QueryArgs),
    /// Show the last records, and with -f those to come
    Tail(TailArgs),
    /// Verify that no record was changed, removed, inserted, reordered or cut off
    ///
    /// Exit status 0: the log is whole; 1: it is not, and each place is named.
    Verify(VerifyArgs),
}

/// Which records are wanted.
#[derive(Debug, Args)]
pub struct FilterArgs {
    /// Only uses of this key: its id, ARN or alias; may be given more than once
    #[arg(long, value_name = "KEY")]
    key: Vec<String>,

    /// Only of this user: a name, an ARN, a uid, or root
    #[arg(long, value_name = "USER")]
    user: Option<String>,

    /// Only this operation, such as Decrypt
    #[arg(long, value_name = "OPERATION")]
    event: Option<String>,

    /// Only from then on: a time such as 2026-05-01T12:00:00Z, or so long ago, such as 90s, 15m, 2h, 7d
    #[arg(long, value_name = "TIME")]
    since: Option<String>,

    /// Only before then
    #[arg(long, value_name = "TIME")]
    until: Option<String>,

    /// Only of the file of this id, which `envelopefs inspect` shows
    #[arg(long, value_name = "FILE-ID")]
    file: Option<String>,

    /// Only of the volume of this id
    #[arg(long, value_name = "VOLUME-ID")]
    volume: Option<String>,

    /// Only of the run of this id: a rewrap or re-encrypt, from its start to its end
    ///
    /// A rewrap opens each data key and wraps it anew in one ReEncrypt, whose record says `decrypted`.
    #[arg(long, value_name = "RUN-ID")]
    run: Option<String>,

    /// Only refusals
    #[arg(long)]
    refused: bool,

    /// Show each record as the line of JSON that it is
    #[arg(long)]
    json: bool,
}

/// `query`
#[derive(Debug, Args)]
pub struct QueryArgs {
    #[command(flatten)]
    filter: FilterArgs,

    /// Only of this file, in a mount or in a cipher directory
    #[arg(long, value_name = "FILE", conflicts_with = "file")]
    path: Option<PathBuf>,

    /// Show so many at most: the newest
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
}

/// `tail`
#[derive(Debug, Args)]
pub struct TailArgs {
    #[command(flatten)]
    filter: FilterArgs,

    /// Go on: show records as they come
    #[arg(short, long)]
    follow: bool,

    /// Show so many of the records that there are
    #[arg(short = 'n', long, value_name = "N", default_value_t = 10)]
    lines: usize,
}

/// `verify`
#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// Answer in JSON
    #[arg(long)]
    json: bool,
}

/// What the commands need from their surroundings.
pub struct Access<'a> {
    /// The keystore's directory.
    pub keystore: &'a Path,
    /// Opens the keystore.
    pub open: &'a dyn Fn() -> Result<Kms>,
    /// The id of a file, from its path.
    pub file_id: &'a dyn Fn(&Path) -> Result<String>,
    /// The time.
    pub now: Timestamp,
}

/// Runs a command.
pub fn run(command: AuditCommand, access: &Access<'_>) -> Result<Exit> {
    // So that all that was done before this was called is shown.
    std::thread::sleep(SETTLED_AFTER);
    match command {
        AuditCommand::Query(args) => query(args, access),
        AuditCommand::Tail(args) => tail(args, access),
        AuditCommand::Verify(args) => verify(&args, access),
    }
}

fn filter(args: &FilterArgs, access: &Access<'_>) -> Result<Filter> {
    let time = |text: &Option<String>| {
        text.as_deref()
            .map(|text| time(text, access.now))
            .transpose()
    };
    let mut keys = Vec::with_capacity(args.key.len());
    for key in &args.key {
        keys.push(match key.parse()? {
            KeyRef::Id(id) => id.to_string(),
            other => {
                let kms = (access.open)()?;
                kms.resolve(&other)?.to_string()
            }
        });
    }
    Ok(Filter {
        keys,
        user: args.user.clone(),
        event: args.event.clone(),
        since: time(&args.since)?,
        until: time(&args.until)?,
        file: args.file.clone(),
        volume: args.volume.clone(),
        run: args.run.clone(),
        refused: args.refused,
    })
}

/// A point in time, or a length of time before `now`.
fn time(text: &str, now: Timestamp) -> Result<Timestamp> {
    if let Some(time) = iso8601::parse(text) {
        return Ok(time);
    }
    let ago = || {
        let unit = match text.chars().last()? {
            's' => 1000,
            'm' => 60 * 1000,
            'h' => 60 * 60 * 1000,
            'd' => 24 * 60 * 60 * 1000,
            _ => return None,
        };
        let number: u32 = text[..text.len() - 1].parse().ok()?;
        now.millis()
            .checked_sub(i64::from(number).checked_mul(unit)?)
    };
    ago().map(Timestamp::from_millis).ok_or_else(|| {
        usage(format!(
            "'{text}' is no time: give one such as 2026-05-01T12:00:00Z, or 90s, 15m, 2h, 7d for so \
             long ago"
        ))
    })
}

fn query(args: QueryArgs, access: &Access<'_>) -> Result<Exit> {
    let mut filter = filter(&args.filter, access)?;
    if let Some(path) = &args.path {
        filter.file = Some((access.file_id)(path)?);
    }
    let mut reader = Reader::new(access.keystore, false)?;
    let show = |record: &Record| output::text_out(&shown(record, args.filter.json));
    match args.limit {
        None => reader.read(|record| -> Result<bool> {
            if filter.wants(&record) {
                show(&record)?;
            }
            Ok(true)
        })?,
        Some(limit) => {
            for record in last(&mut reader, &filter, limit)? {
                show(&record)?;
            }
        }
    }
    Ok(Exit::Ok)
}

/// The newest records that a filter wants.
fn last(
    reader: &mut Reader,
    filter: &Filter,
    limit: usize,
) -> Result<std::collections::VecDeque<Record>> {
    let mut kept = std::collections::VecDeque::new();
    reader.read(|record| -> Result<bool> {
        if filter.wants(&record) {
            kept.push_back(record);
            if kept.len() > limit {
                kept.pop_front();
            }
        }
        Ok(true)
    })?;
    Ok(kept)
}

fn tail(args: TailArgs, access: &Access<'_>) -> Result<Exit> {
    let filter = filter(&args.filter, access)?;
    let mut reader = Reader::new(access.keystore, false)?;
    for record in last(&mut reader, &filter, args.lines)? {
        output::text_out(&shown(&record, args.filter.json))?;
    }
    if !args.follow {
        return Ok(Exit::Ok);
    }
    loop {
        std::thread::sleep(POLL);
        reader.read(|record| -> Result<bool> {
            if filter.wants(&record) {
                output::text_out(&shown(&record, args.filter.json))?;
            }
            Ok(true)
        })?;
    }
}

fn shown(record: &Record, json: bool) -> String {
    if json {
        return format!("{}\n", record.line);
    }
    let parts = &record.parts;
    let mut line = format!("{}  {:32}  {}", record.time, parts.event_name, parts.user());
    // Writing to a String does not fail.
    if let Some(uid) = parts.uid() {
        let _ = write!(line, " uid={uid}");
    }
    if let Some(pid) = parts.pid() {
        let _ = write!(line, " pid={pid}");
    }
    for key in parts.keys() {
        let _ = write!(line, " key={}", key.rsplit('/').next().unwrap_or(key));
    }
    if let Some(volume) = parts.volume() {
        let _ = write!(line, " volume={volume}");
    }
    if let Some(file) = parts.context("envelopefs:file-id") {
        let _ = write!(line, " file={file}");
    }
    if let Some(run) = parts.run() {
        let _ = write!(line, " run={run}");
    }
    if let Some(code) = &parts.error_code {
        let _ = write!(line, " REFUSED {code}");
    }
    output::printable(line.as_bytes()) + "\n"
}

#[derive(Serialize)]
struct ReportJson {
    segments: u64,
    records: u64,
    problems: Vec<ProblemJson>,
}

#[derive(Serialize)]
struct ProblemJson {
    file: String,
    line: Option<u64>,
    what: String,
}

fn verify(args: &VerifyArgs, access: &Access<'_>) -> Result<Exit> {
    let Report {
        segments,
        records,
        problems,
    } = (access.open)()?.verify_audit()?;
    let exit = if problems.is_empty() {
        Exit::Ok
    } else {
        Exit::Damage
    };
    if args.json {
        let problems = problems.into_iter().map(|problem| ProblemJson {
            file: problem.file,
            line: problem.line,
            what: problem.what,
        });
        output::json(&ReportJson {
            segments,
            records,
            problems: problems.collect(),
        })?;
        return Ok(exit);
    }
    let mut text = String::new();
    for problem in &problems {
        let _ = writeln!(text, "{problem}");
    }
    let verdict = match problems.len() {
        0 => "the audit log is whole".to_owned(),
        count => format!("THE AUDIT LOG WAS TAMPERED WITH OR DAMAGED: {count} problems"),
    };
    let _ = writeln!(text, "{records} records in {segments} files: {verdict}");
    output::text_out(&text)?;
    Ok(exit)
}

#[cfg(test)]
mod tests;
