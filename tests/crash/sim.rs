//! Cuts the power at places of a record, and looks at what is left.

use std::fmt::Write as _;
use std::sync::Arc;

use envelopefs::maintain::fsck::FsckOptions;
use envelopefs::maintain::reencrypt::ReencryptOptions;
use envelopefs::maintain::{self, Silent};
use envelopefs::volume::Volume;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use super::disk::{Disk, PAGE};
use super::mem::Mem;
use super::model::{Finding, Findings, Model};
use super::power::{Mode, Power, SECTOR};
use super::world::{Moment, Recording};

/// One in so many states is cut again while it recovers.
const CUT_AGAIN: u32 = 4;
/// One in so many states is unmounted cleanly after recovery and looked at again.
const REMOUNT: u32 = 8;

/// What to do.
#[derive(Clone, Copy)]
pub struct Plan {
    pub mode: Mode,
    /// Everything that came back to the caller counts as durable: a killed process.
    pub killed: bool,
    pub states: usize,
    pub seed: u64,
    /// Only this place of the record.
    pub at: Option<usize>,
}

/// What came out.
#[derive(Default)]
pub struct Report {
    pub states: usize,
    /// States in which something that was never durable can't be read.
    pub alarms: usize,
    pub failures: Vec<Failure>,
    pub failed: usize,
    /// The first of the alarms, in words.
    pub alarm: Option<String>,
}

/// A state in which something is lost or wrong.
pub struct Failure {
    pub at: usize,
    pub number: usize,
    pub findings: Vec<Finding>,
}

/// How many failures are kept.
const KEPT: usize = 3;

struct Seen {
    model: Model,
    committed: u64,
    next: usize,
}

impl Seen {
    /// Goes on to the state of the model when `at` calls have been made.
    fn advance(&mut self, recording: &Recording, at: usize, plan: &Plan) {
        while let Some((when, moment)) = recording.timeline.get(self.next)
            && *when <= at
        {
            match moment {
                Moment::Change(change) => change(&mut self.model, plan.mode.sync_keeps_names()),
                Moment::Acknowledged if plan.killed => self.model.synced_all(),
                Moment::Acknowledged => {}
                Moment::Committed(number) => self.committed = *number,
            }
            self.next += 1;
        }
    }
}

/// Runs over a record.
pub fn explore(recording: &Recording, plan: &Plan) -> Report {
    let mut report = Report::default();
    let mut power = Power::new(plan.mode, recording.start.clone());
    let mut seen = Seen {
        model: Model::new(),
        committed: 0,
        next: 0,
    };
    let places = recording.log.len() + 1;
    let mut pick = SmallRng::seed_from_u64(plan.seed ^ 0x9E37_79B9_7F4A_7C15);
    for at in 0..places {
        if at > 0 {
            power.advance(&recording.log[at - 1]);
        }
        seen.advance(recording, at, plan);
        // Evenly over the record; the remainder at random places.
        let mut states = plan.states / places;
        if pick.random_range(0..places) < plan.states % places {
            states += 1;
        }
        if plan.at.is_some_and(|only| only != at) {
            continue;
        }
        if plan.at.is_some() {
            states = states.max(plan.states);
        }
        for number in 0..states {
            let mut rng = rng_of(plan.seed, at, number);
            let disk = match recording.log.get(at) {
                // In order, the call that was under way may have been done in part.
                Some(op) if plan.mode == Mode::Prefix && number > 0 => {
                    // A killed process leaves whole pages.
                    let grain = if plan.killed { PAGE } else { SECTOR };
                    match power.torn(op, grain, &mut rng) {
                        Some(disk) => disk,
                        None => break,
                    }
                }
                _ if plan.mode == Mode::Prefix && number > 0 => break,
                _ => power.state(&mut rng),
            };
            report.states += 1;
            look(
                recording,
                plan,
                &disk,
                &seen,
                &mut rng,
                (at, number),
                &mut report,
            );
        }
    }
    report
}

/// The generator of one state.
fn rng_of(seed: u64, at: usize, number: usize) -> SmallRng {
    SmallRng::seed_from_u64(
        seed.wrapping_mul(0x9E37_79B9_7F4A_7C15)
            ^ (at as u64) << 24
            ^ (number as u64).wrapping_mul(0xBF58_476D_1CE4_E5B9),
    )
}

fn look(
    recording: &Recording,
    plan: &Plan,
    disk: &Disk,
    seen: &Seen,
    rng: &mut SmallRng,
    (at, number): (usize, usize),
    report: &mut Report,
) {
    let mut cuts = 0;
    let mut disk = disk.clone();
    let findings = loop {
        let again = !plan.killed && cuts < 2 && rng.random_ratio(1, CUT_AGAIN);
        let mem = Mem::of(disk.clone(), again);
        let findings = check(recording, &mem, seen, rng.random_ratio(1, REMOUNT), !again);
        if !findings.list.is_empty() || !again {
            break findings;
        }
        // While it recovered, the power failed once more.
        let log = mem.take_log();
        let mut power = Power::new(plan.mode, disk);
        for op in &log[..rng.random_range(0..=log.len())] {
            power.advance(op);
        }
        disk = power.state(rng);
        cuts += 1;
    };
    if findings.failed() {
        report.failed += 1;
        if report.failures.len() < KEPT {
            report.failures.push(Failure {
                at,
                number,
                findings: findings.list,
            });
        }
    } else if let Some(Finding::Alarm(what)) = findings.list.first() {
        report.alarms += 1;
        report
            .alarm
            .get_or_insert_with(|| format!("cut at {at}, state {number}: {what}"));
    }
}

fn open(recording: &Recording, mem: &Mem) -> Result<Volume<Mem>, Finding> {
    Volume::open(
        mem.clone(),
        Arc::clone(&recording.kms),
        (recording.options)(),
    )
    .map_err(|error| Finding::Lost(format!("the volume can't be opened: {error}")))
}

/// Mounts what is left, and compares.
fn check(
    recording: &Recording,
    mem: &Mem,
    seen: &Seen,
    remount: bool,
    look_into_database: bool,
) -> Findings {
    let mut findings = Findings::default();
    let volume = match open(recording, mem) {
        Ok(volume) => volume,
        Err(finding) => {
            findings.list.push(finding);
            return findings;
        }
    };
    findings = seen.model.check(&volume);
    if findings.list.is_empty() {
        fsck(&volume, &mut findings);
    }
    // It would go on writing, which is no recovery.
    if let Some(database) = recording.database
        && look_into_database
        && !findings.failed()
    {
        let volume = Arc::new(volume);
        if let Err(what) = super::sqlite::check(&volume, database, seen.committed) {
            findings.list.push(Finding::Lost(what));
        }
        return findings;
    }
    if remount && findings.list.is_empty() && recording.reencrypts {
        let options = ReencryptOptions::default();
        match maintain::reencrypt::run(&volume, &options, &Silent) {
            Ok(report) if report.failed.is_empty() => {}
            // About entries with long names that were never synced, as fsck's below.
            Ok(report) if report.failed.iter().all(|failed| is_hidden(&failed.path)) => {}
            ended => findings
                .list
                .push(Finding::Lost(format!("re-encrypt: {ended:?}"))),
        }
    }
    if remount && findings.list.is_empty() {
        if let Err(error) = volume.close() {
            findings
                .list
                .push(Finding::Lost(format!("unmounting: {error}")));
        }
        drop(volume);
        match open(recording, mem) {
            Ok(volume) => {
                findings = seen.model.check(&volume);
                if findings.list.is_empty() {
                    fsck(&volume, &mut findings);
                }
            }
            Err(finding) => findings.list.push(finding),
        }
        for finding in &mut findings.list {
            let (Finding::Lost(what) | Finding::Wrong(what) | Finding::Alarm(what)) = finding;
            what.insert_str(0, "after one more clean mount: ");
        }
    }
    findings
}

/// Whether a path of fsck's leads to, or through, a name that can't be read.
fn is_hidden(path: &str) -> bool {
    path.contains("/?")
}

/// A thread costs more than a look at the few files that there are.
const ON_ONE_THREAD: FsckOptions<'static> = FsckOptions {
    threads: 1,
    repair: false,
    memory: None,
};

/// Everything reads as it should: fsck must say so too.
fn fsck(volume: &Volume<Mem>, findings: &mut Findings) {
    match maintain::fsck::run_with(volume, &ON_ONE_THREAD, &Silent) {
        Ok(report) if report.is_clean() => {}
        // All that should be there is: this is about an entry with a long name that was never synced.
        Ok(report) if report.damaged.iter().all(|damage| is_hidden(&damage.path)) => {
            let what = format!("fsck: {:?}", report.damaged);
            findings.list.push(Finding::Alarm(what));
        }
        Ok(report) => findings
            .list
            .push(Finding::Wrong(format!("fsck: {:?}", report.damaged))),
        Err(error) => findings.list.push(Finding::Lost(format!("fsck: {error}"))),
    }
}

impl Report {
    pub fn add(&mut self, other: Self) {
        self.states += other.states;
        self.alarms += other.alarms;
        self.failed += other.failed;
        self.alarm = self.alarm.take().or(other.alarm);
        let room = KEPT.saturating_sub(self.failures.len());
        self.failures.extend(other.failures.into_iter().take(room));
    }
}

/// A failure in words: what was done before, the calls that were pending, how to see it again.
pub fn tell(recording: &Recording, failure: &Failure, how: &str) -> String {
    let mut text = String::new();
    let _ = writeln!(
        text,
        "the power failed after {} calls (state {}):",
        failure.at, failure.number
    );
    for finding in failure.findings.iter().take(8) {
        let _ = writeln!(text, "  {finding:?}");
    }
    let _ = writeln!(text, "  what was done, and the calls below:");
    let from = failure.at.saturating_sub(40);
    let mut story = recording
        .story
        .iter()
        .skip_while(|(when, _)| *when < from)
        .peekable();
    for (at, op) in recording.log.iter().enumerate().take(failure.at).skip(from) {
        while let Some((_, what)) = story.next_if(|(when, _)| *when <= at) {
            let _ = writeln!(text, "  {what}");
        }
        let _ = writeln!(text, "    {at}: {op}");
    }
    let _ = writeln!(text, "  again: {how} --at {}", failure.at);
    text
}
