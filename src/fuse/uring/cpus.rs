//! The processors that queues are for.

use std::fs;

use rustix::thread::CpuSet;

/// A queue for each processor that there may ever be: the kernel wants them all.
pub(super) struct Cpus {
    /// How many queues there are.
    pub(super) queues: u16,
    /// The processors that are at work, in ascending order.
    pub(super) online: Vec<u16>,
}

impl Cpus {
    /// None when the system doesn't tell.
    pub(super) fn look() -> Option<Self> {
        let list = |which| {
            let text = fs::read_to_string(format!("/sys/devices/system/cpu/{which}")).ok()?;
            parse(&text)
        };
        let queues = u16::try_from(list("possible")?.len()).ok()?;
        let mut online = list("online")?;
        online.retain(|cpu| *cpu < queues);
        Some(Self { queues, online })
    }

    /// The queues of processors that are not at work.
    pub(super) fn offline(&self) -> Vec<u16> {
        (0..self.queues)
            .filter(|queue| !self.online.contains(queue))
            .collect()
    }
}

/// `0-3,8,10-11`
fn parse(list: &str) -> Option<Vec<u16>> {
    let mut all = Vec::new();
    for part in list.trim().split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (u16, u16) = (first.parse().ok()?, last.parse().ok()?);
        if first > last || usize::from(last) >= CpuSet::MAX_CPU {
            return None;
        }
        all.extend(first..=last);
    }
    Some(all)
}

#[cfg(test)]
mod tests;
