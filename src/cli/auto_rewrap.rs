//! `-o auto-rewrap`: a mount that rewraps its volume when the CMK has new material.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::control::Service;
use super::job::{Job, Phase, Task, lowest_priority};
use crate::kms::{KmsError, MaterialId};
use crate::maintain::rewrap::RewrapOptions;
use crate::volume::{Census, Cmks, Material, Volume};

/// How often the key manager is asked at the least. More often where `key-ttl` is shorter.
const LONGEST_STEP: Duration = Duration::from_secs(60);
const SHORTEST_STEP: Duration = Duration::from_millis(100);
/// A rewrap that left something undone is tried again after this time, or at the next mount.
const TRY_AGAIN: Duration = Duration::from_secs(3600);

/// A thread that looks whether the CMKs of a mounted volume have new material.
pub struct AutoRewrap {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl AutoRewrap {
    /// Starts it. None where there can be no more threads: then nothing is done by itself.
    pub fn start(service: Arc<Service>) -> Option<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let started = std::thread::Builder::new()
            .name("auto-rewrap".to_owned())
            .spawn(move || {
                lowest_priority();
                Watch::new(&service, &stopped).run();
            });
        match started {
            Ok(thread) => Some(Self { stop, thread }),
            Err(error) => {
                tracing::warn!(%error, "no thread for auto-rewrap");
                None
            }
        }
    }

    /// Ends it, and waits for that. A rewrap that it began is the service's to end.
    pub fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.thread().unpark();
        // A panic was logged by the thread itself.
        let _ = self.thread.join();
    }
}

/// What everything is to be wrapped under: CMKs and their current materials.
type Goal = (Cmks, Vec<MaterialId>);

struct Watch<'a> {
    service: &'a Service,
    stop: &'a AtomicBool,
    step: Duration,
    /// What everything is known to be wrapped under.
    reached: Option<Goal>,
    /// The rewrap under way, and what it is for.
    job: Option<(Arc<Job>, Goal)>,
    /// What the last rewrap that came to its end was for.
    tried: Option<Goal>,
    not_before: Option<Instant>,
}

/// Whether all that was counted is under a goal's materials, each file under all of them.
fn is_reached(census: &Census, (cmks, materials): &Goal) -> bool {
    let goal: Vec<Material> = cmks
        .all()
        .zip(materials)
        .map(|(key, material)| Material {
            key,
            prefix: material.prefix(),
        })
        .collect();
    let with_key = census.files - census.empty - census.unreadable.min(census.files - census.empty);
    let count = |material| census.by_material.get(material).copied().unwrap_or(0);
    census.volume_keys == goal
        && census.by_material.keys().all(|found| goal.contains(found))
        && goal.iter().all(|material| count(material) >= with_key)
}

impl<'a> Watch<'a> {
    fn new(service: &'a Service, stop: &'a AtomicBool) -> Self {
        let step = service.volume().key_ttl();
        Self {
            service,
            stop,
            step: step.clamp(SHORTEST_STEP, LONGEST_STEP),
            reached: None,
            job: None,
            tried: None,
            not_before: None,
        }
    }

    fn run(&mut self) {
        while !self.stop.load(Ordering::Relaxed) {
            if let Err(error) = self.look() {
                tracing::debug!("auto-rewrap: {error}");
            }
            std::thread::park_timeout(self.step);
        }
    }

    fn goal(&self) -> Result<Goal, KmsError> {
        let cmks = self.service.volume().cmks();
        let keys = self.service.volume().key_source();
        let materials = cmks.all().map(|key| keys.current_material(&key));
        Ok((cmks, materials.collect::<Result<_, _>>()?))
    }

    fn look(&mut self) -> anyhow::Result<()> {
        if let Some((job, goal)) = self.job.take() {
            let state = job.state();
            match state.phase {
                Phase::Running => {
                    self.job = Some((job, goal));
                    return Ok(());
                }
                // Whether something is left shows below.
                Phase::Done => self.tried = Some(goal),
                // Somebody asked for another job; it goes on behind that.
                Phase::Stopped => {}
                Phase::Failed => self.not_before = Some(Instant::now() + TRY_AGAIN),
            }
        }
        let goal = self.goal()?;
        let is_early = self.not_before.is_some_and(|time| Instant::now() < time);
        if self.reached.as_ref() == Some(&goal) || is_early {
            return Ok(());
        }
        // Looking at the headers needs no key, and holds up nobody: most often, as when it is mounted,
        // nothing is to be done.
        let goes_on = |_| !self.stop.load(Ordering::Relaxed);
        let census = Volume::census(self.service.volume().backing(), 1, &goes_on)?;
        if self.stop.load(Ordering::Relaxed) {
            return Ok(());
        }
        if is_reached(&census, &goal) {
            self.reached = Some(goal);
            return Ok(());
        }
        if self.tried.take().as_ref() == Some(&goal) {
            tracing::warn!(
                "some files can't be rewrapped: `envelopefs rewrap` names them; tried again in an hour"
            );
            self.not_before = Some(Instant::now() + TRY_AGAIN);
            return Ok(());
        }
        let task = Task::Rewrap(RewrapOptions::default());
        if let Some(job) = self.service.start_automatic(task)? {
            tracing::info!("the key has new material: rewrapping");
            self.job = Some((job, goal));
        }
        Ok(())
    }
}
