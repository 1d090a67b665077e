//! How bans grow longer for who comes back. Pure.

use super::pardons::millis;
use crate::{guard::store::Offence, settings::guard::Ladder};

impl Ladder {
    /// How many times as long as the rule says a ban is after `earlier` ones.
    pub(in crate::guard::bans) fn factor(&self, earlier: usize) -> u32 {
        let last = self.factors.last().copied();
        self.factors.get(earlier).copied().or(last).unwrap_or(1)
    }

    /// A rule's ban of so many seconds after `earlier` ones.
    pub(in crate::guard::bans) fn grown(&self, seconds: u64, earlier: usize) -> u64 {
        let grown = seconds.saturating_mul(u64::from(self.factor(earlier)));
        grown.min(self.longest.as_secs().max(seconds))
    }

    /// How many of the offences, oldest first, still count at `now`, in milliseconds since the Unix epoch.
    pub(in crate::guard::bans) fn earlier(&self, offences: &[Offence], now: u64) -> usize {
        let decay = millis(self.decay).max(1);
        let made_up = |from: u64, to: u64| usize::try_from(to.saturating_sub(from) / decay).unwrap_or(usize::MAX);
        let mut count: usize = 0;
        let mut free_since = now;
        for offence in offences {
            count = count.saturating_sub(made_up(free_since, offence.started)) + 1;
            free_since = offence.ended;
        }
        count.saturating_sub(made_up(free_since, now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bans from when to when, in hours; how many count at an hour, and how long the next of 10 minutes is, in minutes.
    #[track_caller]
    fn check(bans: &[(u64, u64)], at: u64, earlier: usize, minutes: u64) {
        const HOUR: u64 = 3_600_000;
        let source = "192.0.2.7".parse().unwrap();
        let offence = |(from, to): &(u64, u64)| Offence { source, started: from * HOUR, ended: to * HOUR };
        let offences: Vec<Offence> = bans.iter().map(offence).collect();
        let ladder = Ladder::default();
        assert_eq!(ladder.earlier(&offences, at * HOUR), earlier, "{bans:?} at {at}");
        assert_eq!(ladder.grown(600, earlier), minutes * 60, "{bans:?} at {at}");
    }

    #[test]
    fn who_comes_back_waits_longer_and_time_heals() {
        check(&[], 100, 0, 10);
        check(&[(100, 101)], 101, 1, 30);
        check(&[(100, 101)], 124, 1, 30);
        check(&[(100, 101)], 125, 0, 10);
        check(&[(100, 101), (102, 103)], 104, 2, 100);
        check(&[(100, 101), (102, 103)], 127, 1, 30);
        check(&[(100, 101), (102, 103)], 151, 0, 10);
        check(&[(100, 101), (130, 131)], 132, 1, 30);
        check(&[(1, 2), (2, 3), (3, 4)], 5, 3, 300);
        check(&[(1, 2); 60], 5, 60, 1_000);
        // The clock was set back.
        check(&[(100, 101)], 50, 1, 30);
        check(&[(100, 200), (150, 151)], 160, 2, 100);
    }

    #[test]
    fn nothing_grows_over_the_longest() {
        let ladder = Ladder { longest: std::time::Duration::from_secs(900), ..Ladder::default() };
        assert_eq!([0, 1, 9].map(|earlier| ladder.grown(600, earlier)), [600, 900, 900]);
        assert_eq!([0, 1].map(|earlier| ladder.grown(1_000, earlier)), [1_000, 1_000]);
        assert_eq!(ladder.grown(u64::MAX, 4), u64::MAX);
        assert_eq!(Ladder { factors: Vec::new(), ..ladder }.grown(600, 3), 600);
    }
}
