//! What commands say to the daemon of a mounted volume, and what it answers.
//!
//! JSON both ways, over [`crate::fuse::control`]: a request and its answer are at most
//! [`LONGEST_MESSAGE`] bytes. Long work is a job: one call starts it, others ask how it goes.

use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result};
use parking_lot::Mutex;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::exit::{self, Exit, failure};
use super::job::{Job, JobState, Phase, Task};
use super::output::{cut, error_line};
use super::rewrap::{Wanted, threads};
use super::rotate;
use crate::backing::Os;
use crate::fuse::Control;
use crate::fuse::control::{self, LONGEST_MESSAGE};
use crate::kms::KeyId;
use crate::maintain::reencrypt::ReencryptOptions;
use crate::maintain::{Exclude, Progress};
use crate::volume::{Volume, VolumeStatus};

/// What a command asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Request {
    /// How the mount is.
    Status,
    /// New key material for the volume's CMK.
    Rotate {
        /// Only when the current one is so many seconds old.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        if_older: Option<u64>,
    },
    /// Start to wrap every data key anew.
    Rewrap(Wanted),
    /// Start to give files new data keys.
    ReEncrypt {
        /// Which, by their paths in the volume; all when there is none.
        #[serde(default)]
        paths: Vec<String>,
        /// Patterns of what is left out.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        exclude: Vec<String>,
        /// Leave alone what the run that was stopped had finished.
        #[serde(default)]
        resume: bool,
        /// Bytes a second at the most.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        max_rate: Option<NonZeroU64>,
    },
    /// How the last job goes, or how it ended.
    Job,
    /// A piece of the last job's report.
    Report {
        /// Where the piece begins, in bytes.
        from: usize,
    },
}

/// Bytes of a report that fit in one answer: at worst each takes two there.
const PIECE: usize = 1900;

/// A piece of a report.
#[derive(Debug, Serialize, Deserialize)]
pub struct Piece {
    /// JSON text; empty behind the end.
    pub text: String,
}

/// How a request ended.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Answer<T> {
    Ok(T),
    Error { code: u8, message: String },
}

/// The state of a mounted volume.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct MountStatus {
    /// True.
    pub mounted: bool,
    /// Where.
    pub mountpoint: String,
    /// The cipher directory.
    pub cipher_dir: String,
    /// The keystore that the keys come from.
    pub keystore: String,
    /// The daemon.
    pub pid: u32,
    /// `usable`, or why the volume's CMK can't be used.
    pub key_state: String,
    /// The same of its recovery CMK, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recovery_key_state: Option<String>,
    /// The volume.
    #[serde(flatten)]
    pub volume: VolumeStatus,
    /// The job that runs, or ran last.
    pub job: Option<JobState>,
}

/// Sends a request to the daemon of a mount.
///
/// # Errors
/// What the daemon answered, with the exit code that it asks for; or why it could not be reached.
pub fn call<T: DeserializeOwned>(mountpoint: &Path, request: &Request) -> Result<T> {
    let place = || format!("asking the daemon of {}", mountpoint.display());
    let request = serde_json::to_vec(request).with_context(place)?;
    let answer = control::call(mountpoint, &request).with_context(place)?;
    match serde_json::from_slice(&answer).with_context(place)? {
        Answer::Ok(answer) => Ok(answer),
        Answer::Error { code, message } => Err(failure(Exit::from_code(code), message)),
    }
}

/// How often the daemon is asked how far it is.
const ASK_EVERY: Duration = Duration::from_millis(100);

/// Has the daemon of a mount do a job, and waits for its report. It goes on when this command is ended.
///
/// # Errors
/// As [`call`]; the error that the job ended with; when an unmount stopped it.
pub fn follow<R: DeserializeOwned>(
    mountpoint: &Path,
    request: &Request,
    progress: &dyn Progress,
) -> Result<R> {
    let mut job: JobState = call(mountpoint, request)?;
    let mut begun = false;
    while job.phase == Phase::Running {
        if let Some(run) = job.run_id.as_ref().filter(|_| !begun) {
            progress.began(run);
            begun = true;
        }
        progress.expected(job.expected);
        progress.advanced(job.files, job.bytes);
        sleep(ASK_EVERY);
        job = call(mountpoint, &Request::Job)?;
    }
    match job.phase {
        Phase::Running | Phase::Done => {}
        Phase::Stopped => {
            let message = "it was stopped by an unmount; run it again for what is left";
            return Err(failure(Exit::Failure, message));
        }
        Phase::Failed => {
            let message = job.message.unwrap_or_default();
            return Err(failure(Exit::from_code(job.code), message));
        }
    }
    let mut text = String::new();
    while text.len() < job.report_len {
        let piece: Piece = call(mountpoint, &Request::Report { from: text.len() })?;
        if piece.text.is_empty() {
            break;
        }
        text.push_str(&piece.text);
    }
    serde_json::from_str(&text).context("reading the daemon's report")
}

/// The daemon's side.
pub struct Service {
    volume: Arc<Volume<Os>>,
    mountpoint: PathBuf,
    cipher_dir: PathBuf,
    /// Who may ask for more than the status, root aside.
    owner: u32,
    job: Mutex<Option<Arc<Job>>>,
}

impl Service {
    /// Answers for a volume that is about to be mounted.
    pub fn new(volume: Arc<Volume<Os>>, cipher_dir: PathBuf, mountpoint: PathBuf) -> Self {
        let owner = rustix::process::geteuid().as_raw();
        Self {
            volume,
            mountpoint,
            cipher_dir,
            owner,
            job: Mutex::new(None),
        }
    }

    /// Ends the job that runs, and waits for it: it may be run again later.
    pub fn stop(&self) {
        if let Some(job) = self.job.lock().take() {
            job.stop();
        }
    }

    fn answer(&self, caller_uid: u32, request: &[u8]) -> Result<Vec<u8>> {
        let request: Request = serde_json::from_slice(request).map_err(|error| {
            failure(
                Exit::NotSupported,
                format!("the daemon doesn't know this request: {error}"),
            )
        })?;
        if request != Request::Status && caller_uid != 0 && caller_uid != self.owner {
            let message = "only root and the user who mounted the volume may do this";
            return Err(failure(Exit::Failure, message));
        }
        match request {
            Request::Status => encode(&self.status()),
            Request::Rotate { if_older } => {
                let if_older = if_older.map(Duration::from_secs);
                encode(&rotate::rotate(&self.volume, if_older)?)
            }
            Request::Rewrap(wanted) => {
                self.start(|| Ok(Task::Rewrap(wanted.options(&self.volume)?)))?;
                encode(&self.job()?.state())
            }
            Request::ReEncrypt {
                paths,
                exclude,
                resume,
                max_rate,
            } => {
                let options = ReencryptOptions {
                    paths: paths.into_iter().map(String::into_bytes).collect(),
                    exclude: Exclude::new(exclude),
                    resume,
                    threads: threads(),
                    max_rate,
                };
                self.start(|| Ok(Task::ReEncrypt(options)))?;
                encode(&self.job()?.state())
            }
            Request::Job => encode(&self.job()?.state()),
            Request::Report { from } => encode(&Piece {
                text: self.job()?.report_piece(from, PIECE),
            }),
        }
    }

    fn status(&self) -> MountStatus {
        let state = |key: &KeyId| {
            let usable = self.volume.key_source().check_usable(key);
            usable
                .err()
                .map_or_else(|| "usable".to_owned(), |error| error.to_string())
        };
        let cmks = self.volume.cmks();
        MountStatus {
            mounted: true,
            mountpoint: shown(&self.mountpoint),
            cipher_dir: shown(&self.cipher_dir),
            keystore: self.volume.key_source().place(),
            pid: std::process::id(),
            key_state: state(&cmks.main),
            recovery_key_state: cmks.recovery.as_ref().map(state),
            volume: self.volume.status(),
            job: self.job.lock().as_ref().map(|job| job.state()),
        }
    }

    /// Starts a job, unless there is one at work that somebody asked for.
    fn start(&self, task: impl FnOnce() -> Result<Task>) -> Result<()> {
        let mut slot = self.job.lock();
        if let Some(job) = slot.as_ref().filter(|job| job.is_running()) {
            if !job.is_automatic() {
                return Err(failure(
                    Exit::Busy,
                    "a rewrap or re-encrypt of this volume is under way already",
                ));
            }
            // It goes on afterwards.
            job.stop();
        }
        let job = Job::start(Arc::clone(&self.volume), task()?, false)?;
        *slot = Some(Arc::new(job));
        Ok(())
    }

    /// The volume.
    pub(super) fn volume(&self) -> &Volume<Os> {
        &self.volume
    }

    /// Starts a job of its own accord. None while there is another one.
    pub(super) fn start_automatic(&self, task: Task) -> Result<Option<Arc<Job>>> {
        let mut slot = self.job.lock();
        if slot.as_ref().is_some_and(|job| job.is_running()) {
            return Ok(None);
        }
        let job = Arc::new(Job::start(Arc::clone(&self.volume), task, true)?);
        *slot = Some(Arc::clone(&job));
        Ok(Some(job))
    }

    fn job(&self) -> Result<Arc<Job>> {
        let slot = self.job.lock();
        slot.clone()
            .ok_or_else(|| failure(Exit::Failure, "no job was started"))
    }
}

/// JSON has no place for bytes that are no UTF-8.
fn shown(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

fn encode<T: Serialize>(answer: &T) -> Result<Vec<u8>> {
    let bytes = serde_json::to_vec(&Answer::Ok(answer)).context("writing the answer")?;
    if bytes.len() > LONGEST_MESSAGE {
        return Err(failure(
            Exit::Failure,
            "the answer is too long for a control call",
        ));
    }
    Ok(bytes)
}

impl Control for Service {
    fn call(&self, caller_uid: u32, request: &[u8]) -> Vec<u8> {
        self.answer(caller_uid, request).unwrap_or_else(|error| {
            let mut message = error_line(&error);
            message.truncate(cut(&message, LONGEST_MESSAGE / 8).len());
            let code = exit::of(&error).code();
            serde_json::to_vec(&Answer::<()>::Error { code, message }).unwrap_or_default()
        })
    }
}

#[cfg(test)]
mod tests;
