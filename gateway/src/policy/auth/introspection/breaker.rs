//! The circuit breaker of a server that is asked: after some failures in a row it is left alone for a while, then one
//! question finds out whether it is well again.

use crate::settings::introspection::IntrospectionBreaker as Settings;

/// Whether a server is asked. Times are `CLOCK_MONOTONIC`, in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Breaker {
    /// It is. So many failures in a row came before.
    Closed {
        /// How many.
        failures: u32,
    },
    /// It is not.
    Open {
        /// Until then.
        until: u64,
    },
    /// One question is under way, which decides.
    Probing {
        /// When it is given up: another is asked then.
        until: u64,
    },
}

impl Breaker {
    /// Of a server that nobody has asked yet.
    pub(super) const NEW: Self = Self::Closed { failures: 0 };

    /// Whether a question may be asked now, which takes `timeout` nanoseconds at most.
    ///
    /// # Errors
    /// How many nanoseconds to wait.
    pub(super) const fn admit(&mut self, timeout: u64, now: u64) -> Result<(), u64> {
        match *self {
            Self::Closed { .. } => Ok(()),
            Self::Open { until } | Self::Probing { until } if now < until => Err(until - now),
            Self::Open { .. } | Self::Probing { .. } => {
                *self = Self::Probing { until: now.saturating_add(timeout) };
                Ok(())
            }
        }
    }

    /// The server answered.
    pub(super) const fn succeeded(&mut self) {
        *self = Self::NEW;
    }

    /// The server did not answer, or not as it should. Whether it is left alone from now on.
    pub(super) fn failed(&mut self, settings: &Settings, now: u64) -> bool {
        let open_for = u64::try_from(settings.open_for.as_nanos()).unwrap_or(u64::MAX);
        match *self {
            Self::Closed { failures } if failures + 1 < settings.failures => {
                *self = Self::Closed { failures: failures + 1 };
                false
            }
            // Questions that were asked before it opened do not lengthen it.
            Self::Open { .. } => false,
            Self::Closed { .. } | Self::Probing { .. } => {
                *self = Self::Open { until: now.saturating_add(open_for) };
                true
            }
        }
    }

    /// A question came to nothing that says how the server is: the next one may find out.
    pub(super) const fn undecided(&mut self) {
        if matches!(*self, Self::Probing { .. }) {
            *self = Self::Open { until: 0 };
        }
    }

    /// Whether the server is left alone.
    pub(super) const fn is_open(&self) -> bool {
        !matches!(self, Self::Closed { .. })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::os::clock::SECOND;

    const SETTINGS: Settings = Settings { failures: 3, open_for: Duration::from_secs(10) };

    /// At each second: what happens, and whether a question is admitted (`+`) or has to wait so many seconds.
    #[track_caller]
    fn check(name: &str, steps: &[(u64, &str, Result<(), u64>)]) {
        let mut breaker = Breaker::NEW;
        for (at, what, expect) in steps {
            let now = (1_000 + at) * SECOND;
            for event in what.split_whitespace() {
                match event {
                    "ok" => breaker.succeeded(),
                    "nothing" => breaker.undecided(),
                    "fail" => drop(breaker.failed(&SETTINGS, now)),
                    other => unreachable!("{other}"),
                }
            }
            let found = breaker.admit(2 * SECOND, now).map_err(|wait| wait / SECOND);
            assert_eq!(found, *expect, "{name}, at {at} s: {breaker:?}");
        }
    }

    #[test]
    fn it_opens_and_closes() {
        let ok = Ok(());
        check("well", &[(0, "", ok), (1, "ok", ok), (2, "fail ok fail ok fail", ok)]);
        check("two failures are not enough", &[(0, "fail", ok), (1, "fail", ok), (2, "ok fail fail", ok)]);
        check("three are", &[(0, "fail fail fail", Err(10)), (4, "", Err(6)), (9, "", Err(1))]);
        check("late failures do not lengthen it", &[(0, "fail fail fail", Err(10)), (5, "fail fail", Err(5))]);
        check("one probe", &[(0, "fail fail fail", Err(10)), (10, "", ok), (10, "", Err(2)), (11, "", Err(1))]);
        check("the probe succeeds", &[(0, "fail fail fail", Err(10)), (10, "", ok), (11, "ok", ok), (11, "", ok)]);
        check("the probe fails", &[(0, "fail fail fail", Err(10)), (10, "", ok), (11, "fail", Err(10))]);
        check("the probe says nothing", &[(0, "fail fail fail", Err(10)), (10, "", ok), (10, "nothing", ok)]);
        check("nothing is not asked early", &[(0, "fail fail fail nothing", Err(10)), (0, "nothing", Err(10))]);
        check("the probe is lost", &[(0, "fail fail fail", Err(10)), (10, "", ok), (12, "", ok), (12, "", Err(2))]);
        check("an answer that comes late closes it", &[(0, "fail fail fail", Err(10)), (1, "ok", ok)]);
    }
}
