//! The scheduling policy of a worker's thread. A worker with little to do preempts other threads, for low latency. A busy
//! worker is scheduled in batches: it finds more to do in each turn, and does more with the same core.

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::os::{self, SchedulingPolicy};

/// A worker that uses more than a quarter of a core is busy.
const BUSY: u64 = 4;

/// A busy worker stays busy until it uses less than an eighth.
const CALM: u64 = 8;

/// How much of a core a worker uses.
pub(in crate::proxy) struct Scheduling {
    is_busy: bool,
    /// CPU time in nanoseconds at the last look.
    used: u64,
    /// When the last look was: `CLOCK_MONOTONIC`, nanoseconds.
    at: u64,
}

impl Scheduling {
    pub(in crate::proxy) const fn new(now: u64, used: u64) -> Self {
        Self { is_busy: false, used, at: now }
    }

    /// Chooses the scheduling of the calling thread by the CPU time that it has `used` since the last call.
    pub(in crate::proxy) fn adapt(&mut self, now: u64, used: u64) {
        let is_busy = is_busy(self.is_busy, used.saturating_sub(self.used), now.saturating_sub(self.at));
        (self.used, self.at) = (used, now);
        if is_busy != self.is_busy {
            self.is_busy = is_busy;
            let policy = if is_busy { SchedulingPolicy::Batch } else { SchedulingPolicy::Normal };
            if let Err(error) = os::schedule(policy) {
                tracing::debug!("the kernel refuses {policy:?} scheduling: {error}");
            }
        }
    }
}

/// Whether a worker is busy that has used so much of the time that has passed. `already`: it was busy before.
const fn is_busy(already: bool, used: u64, passed: u64) -> bool {
    used.saturating_mul(if already { CALM } else { BUSY }) > passed
}

/// The cores that this process may use.
pub(in crate::proxy) fn cores() -> Vec<usize> {
    let Ok(allowed) = sched_getaffinity(None) else { return Vec::new() };
    (0..CpuSet::MAX_CPU).filter(|core| allowed.is_set(*core)).collect()
}

/// Keeps the calling thread, the `index`th worker, on one of `cores`.
pub(in crate::proxy) fn pin(index: usize, cores: &[usize]) {
    let Some(core) = index.checked_rem(cores.len()).and_then(|place| cores.get(place)) else { return };
    let mut only = CpuSet::new();
    only.set(*core);
    if let Err(error) = sched_setaffinity(None, &only) {
        tracing::warn!(core, "proxy.pin_workers: cannot pin a worker to its core: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_is_busy_over_a_quarter_of_a_core_until_below_an_eighth() {
        for (already, used, expect) in [
            (false, 0, false),
            (false, 250, false),
            (false, 251, true),
            (true, 251, true),
            (true, 126, true),
            (true, 125, false),
            (true, u64::MAX, true),
        ] {
            assert_eq!(is_busy(already, used, 1_000), expect, "{already} {used}");
        }
    }

    /// `SCHED_OTHER` is 0, `SCHED_BATCH` 3 (sched(7)).
    fn policy() -> String {
        let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
        let (_, fields) = stat.rsplit_once(") ").unwrap();
        // The 41st field (proc_pid_stat(5)); the first two, number and name, are cut off.
        fields.split(' ').nth(38).unwrap().to_owned()
    }

    #[test]
    fn a_worker_is_scheduled_by_what_it_uses() {
        let mut scheduling = Scheduling::new(1_000, 500);
        for (now, used, expect) in [(2_000, 600, "0"), (3_000, 900, "3"), (4_000, 1_100, "3"), (5_000, 1_150, "0")] {
            scheduling.adapt(now, used);
            assert_eq!(policy(), expect, "{now} {used}");
        }
    }

    #[test]
    fn a_pinned_worker_has_one_core() {
        let before = cores();
        assert!(!before.is_empty());
        let has = |index| {
            let cores = before.clone();
            std::thread::spawn(move || (pin(index, &cores), self::cores()).1).join().unwrap()
        };
        for index in 0..before.len() * 2 {
            assert_eq!(has(index), [before[index % before.len()]], "{index}");
        }
        pin(0, &[]);
        assert_eq!(cores(), before);
    }
}
