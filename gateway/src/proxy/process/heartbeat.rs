//! Whether every worker still runs. One that is in an endless loop serves nobody, while the control thread answers the
//! guard as if all were well.
//!
//! Looks are counted and not seconds: a machine that stood still as a whole, or the process, counts as one.

/// A worker that has not come to its next tick for so many looks, one a second, is told of.
const STALLED: u32 = 3;

/// After so many it has come to a standstill, as a proxy that answers nothing.
const STANDSTILL: u32 = 15;

/// What is known of the workers, in their order.
#[derive(Debug, Default)]
pub(super) struct Heartbeats {
    workers: Vec<Heartbeat>,
    stalls: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Heartbeat {
    /// How many ticks it had done.
    ticks: u64,
    /// How many looks ago.
    silent: u32,
}

impl Heartbeats {
    /// Another look, once a second: how many ticks each worker has done. Returns a worker that has come to a standstill. One
    /// that has done none yet is being started.
    pub(super) fn look(&mut self, ticks: impl Iterator<Item = u64>) -> Option<usize> {
        let mut stands_still = None;
        for (index, ticks) in ticks.enumerate() {
            if self.workers.len() <= index {
                self.workers.push(Heartbeat::default());
            }
            let Some(worker) = self.workers.get_mut(index) else { continue };
            if ticks == 0 || ticks != worker.ticks {
                *worker = Heartbeat { ticks, silent: 0 };
                continue;
            }
            worker.silent = worker.silent.saturating_add(1);
            if worker.silent == STALLED {
                self.stalls = self.stalls.saturating_add(1);
                tracing::error!(worker = index, seconds = STALLED, "a worker does not run: its connections wait");
            }
            if worker.silent >= STANDSTILL {
                stands_still = stands_still.or(Some(index));
            }
        }
        stands_still
    }

    /// How many workers do not run, and how often that began.
    pub(super) fn stalled(&self) -> (u64, u64) {
        let now = self.workers.iter().filter(|worker| worker.silent >= STALLED).count();
        (u64::try_from(now).unwrap_or(u64::MAX), self.stalls)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Looks at two workers, of which the second stops ticking after the first `alive` looks for `silent` ones, and goes on.
    /// Returns how many looks had found it standing still, and how it is then.
    #[track_caller]
    fn check(silent: u32, found: usize, during: (u64, u64), after: (u64, u64)) {
        let mut beats = Heartbeats::default();
        for ticks in 0..10 {
            assert_eq!((beats.look([ticks, ticks].into_iter()), beats.stalled()), (None, (0, 0)));
        }
        let stood: Vec<_> = (0..silent).map(|look| beats.look([10 + u64::from(look), 9].into_iter())).collect();
        assert_eq!(stood.iter().filter(|it| **it == Some(1)).count(), found, "{silent}: {stood:?}");
        assert_eq!(beats.stalled(), during, "{silent}");
        assert_eq!((beats.look([1_000, 10].into_iter()), beats.stalled()), (None, after), "{silent}");
    }

    #[test]
    fn who_does_not_tick_is_found() {
        check(1, 0, (0, 0), (0, 0));
        check(STALLED - 1, 0, (0, 0), (0, 0));
        check(STALLED, 0, (1, 1), (0, 1));
        check(STANDSTILL - 1, 0, (1, 1), (0, 1));
        check(STANDSTILL + 2, 3, (1, 1), (0, 1));
    }

    #[test]
    fn who_starts_slowly_is_not() {
        let mut beats = Heartbeats::default();
        assert!((0..100).all(|_| beats.look([0, 0].into_iter()).is_none()));
        assert_eq!(beats.stalled(), (0, 0));
    }
}
