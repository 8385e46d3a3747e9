//! A rewrap or re-encrypt that the daemon of a mounted volume does while it serves.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

use anyhow::{Context, Result};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::exit;
use super::output::{cut, error_line};
use crate::backing::Os;
use crate::kms::RunId;
use crate::maintain::Progress;
use crate::maintain::reencrypt::{self, ReencryptOptions};
use crate::maintain::rewrap::{self, RewrapOptions};
use crate::volume::{Volume, VolumeError};

/// What a job does.
pub enum Task {
    /// Wraps data keys anew.
    Rewrap(RewrapOptions),
    /// Replaces data keys.
    ReEncrypt(ReencryptOptions),
}

impl Task {
    fn name(&self) -> &'static str {
        match self {
            Self::Rewrap(_) => "rewrap",
            Self::ReEncrypt(_) => "re-encrypt",
        }
    }
}

/// How far a job is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// At work.
    Running,
    /// Through; there is a report.
    Done,
    /// Stopped before its end; what is left is done when it is run again.
    Stopped,
    /// Ended by an error.
    Failed,
}

/// How a job goes, or how it ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobState {
    /// How far it is.
    pub phase: Phase,
    /// What it does: "rewrap" or "re-encrypt".
    #[serde(default)]
    pub task: String,
    /// Whether nobody asked for it: `-o auto-rewrap` did.
    #[serde(default)]
    pub automatic: bool,
    /// The run's id, once it has begun.
    #[serde(default)]
    pub run_id: Option<RunId>,
    /// Files done so far.
    pub files: u64,
    /// Bytes done so far, where content is.
    #[serde(default)]
    pub bytes: u64,
    /// Files there are, about; 0 while that is not known.
    #[serde(default)]
    pub expected: u64,
    /// Bytes of the report, which is fetched in pieces.
    pub report_len: usize,
    /// The exit code that its error asks for.
    pub code: u8,
    /// Its error.
    pub message: Option<String>,
}

#[derive(Default)]
struct Shared {
    files: AtomicU64,
    bytes: AtomicU64,
    expected: AtomicU64,
    cancelled: AtomicBool,
    run_id: Mutex<Option<RunId>>,
    outcome: Mutex<Option<Outcome>>,
}

enum Outcome {
    /// The report as JSON text, and whether the walk was stopped.
    Report(String, bool),
    Error(u8, String),
}

impl Progress for Shared {
    fn advanced(&self, files: u64, bytes: u64) {
        self.files.store(files, Ordering::Relaxed);
        self.bytes.store(bytes, Ordering::Relaxed);
    }

    fn began(&self, run: &RunId) {
        *self.run_id.lock() = Some(*run);
    }

    fn expected(&self, files: u64) {
        self.expected.store(files, Ordering::Relaxed);
    }

    fn cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }
}

/// A task in a thread of its own.
pub struct Job {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
    task: &'static str,
    automatic: bool,
}

impl Job {
    /// Starts it; one that nobody asked for at the lowest priority.
    pub fn start(volume: Arc<Volume<Os>>, task: Task, automatic: bool) -> Result<Self> {
        let shared = Arc::new(Shared::default());
        let worker = Arc::clone(&shared);
        let name = task.name();
        let thread = std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || {
                if automatic {
                    lowest_priority();
                }
                // Says so also when the work panics.
                let mut end = EndNote {
                    shared: &worker,
                    outcome: None,
                };
                end.outcome = Some(work(&volume, &task, &worker));
            })
            .context("starting a thread for the job")?;
        Ok(Self {
            shared,
            thread: Mutex::new(Some(thread)),
            task: name,
            automatic,
        })
    }

    /// Whether nobody asked for it.
    pub fn is_automatic(&self) -> bool {
        self.automatic
    }

    /// Whether it is at work.
    pub fn is_running(&self) -> bool {
        self.shared.outcome.lock().is_none()
    }

    /// Ends it before the next step, and waits for that.
    pub fn stop(&self) {
        self.shared.cancelled.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.lock().take() {
            // A panic was noted by the thread itself.
            let _ = thread.join();
        }
    }

    /// How it goes.
    pub fn state(&self) -> JobState {
        let files = self.shared.files.load(Ordering::Relaxed);
        let state = |phase| JobState {
            phase,
            task: self.task.to_owned(),
            automatic: self.automatic,
            run_id: *self.shared.run_id.lock(),
            files,
            bytes: self.shared.bytes.load(Ordering::Relaxed),
            expected: self.shared.expected.load(Ordering::Relaxed),
            report_len: 0,
            code: 0,
            message: None,
        };
        match &*self.shared.outcome.lock() {
            None => state(Phase::Running),
            Some(Outcome::Report(text, stopped)) => {
                let phase = if *stopped {
                    Phase::Stopped
                } else {
                    Phase::Done
                };
                JobState {
                    report_len: text.len(),
                    ..state(phase)
                }
            }
            Some(Outcome::Error(code, message)) => JobState {
                code: *code,
                message: Some(message.clone()),
                ..state(Phase::Failed)
            },
        }
    }

    /// A piece of the report's JSON text, of at most `most` bytes; empty behind its end.
    pub fn report_piece(&self, from: usize, most: usize) -> String {
        match &*self.shared.outcome.lock() {
            Some(Outcome::Report(text, _)) if text.is_char_boundary(from) => {
                cut(&text[from..], most).to_owned()
            }
            _ => String::new(),
        }
    }
}

/// Lets all others on this machine go before this thread. Its reads and writes too: where no class was
/// set for them, the kernel derives it from this (ioprio_set(2)).
pub fn lowest_priority() {
    // No process is named: on Linux that is the calling thread alone.
    if let Err(error) = rustix::process::setpriority_process(None, 19) {
        tracing::debug!(%error, "a background thread keeps its priority");
    }
}

fn work(volume: &Volume<Os>, task: &Task, shared: &Shared) -> Outcome {
    let report = match task {
        Task::Rewrap(options) => report(rewrap::run(volume, options, shared)),
        Task::ReEncrypt(options) => report(reencrypt::run(volume, options, shared)),
    };
    match report {
        Ok(report) => Outcome::Report(report, shared.cancelled()),
        Err(error) => {
            let line = error_line(&error);
            tracing::error!("{}: {line}", task.name());
            Outcome::Error(exit::of(&error).code(), line)
        }
    }
}

fn report<R: Serialize>(done: Result<R, VolumeError>) -> Result<String> {
    serde_json::to_string(&done?).context("writing the report")
}

struct EndNote<'a> {
    shared: &'a Shared,
    outcome: Option<Outcome>,
}

impl Drop for EndNote<'_> {
    fn drop(&mut self) {
        let outcome = self.outcome.take().unwrap_or_else(|| {
            Outcome::Error(
                exit::Exit::Failure.code(),
                "an internal error; see the log".to_owned(),
            )
        });
        *self.shared.outcome.lock() = Some(outcome);
    }
}
