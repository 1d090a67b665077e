//! Whether a proxy answers its pings.
//!
//! Looks are counted and not seconds: a machine that stood still as a whole, or a guard that did, counts as one.

use crate::message::ToProxy;

/// A proxy that has answered none of so many pings, one a second, has come to a standstill.
pub(super) const STANDSTILL: u32 = 15;

/// What is known of how a proxy answers.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Pulse {
    /// The last ping.
    pinged: u64,
    /// The last that was answered.
    answered: u64,
    /// How many looks ago that was.
    unanswered: u32,
    /// It was found to have come to a standstill: for good, whatever it says afterwards.
    pub(super) stands_still: bool,
}

impl Pulse {
    /// Another look, once a second: what is to be said. With `is_late` a missing answer is the proxy's own doing, and
    /// counts.
    pub(super) fn look(&mut self, is_late: bool) -> ToProxy {
        self.pinged += 1;
        self.unanswered = self.unanswered.saturating_add(u32::from(is_late));
        ToProxy::Ping { number: self.pinged, heard: self.answered }
    }

    /// It has answered. What it was not asked is no answer.
    pub(super) fn hear(&mut self, number: u64) {
        if (self.answered + 1..=self.pinged).contains(&number) {
            (self.answered, self.unanswered) = (number, 0);
        }
    }

    /// The number of the last ping.
    #[cfg(test)]
    pub(super) const fn last(&self) -> u64 {
        self.pinged
    }

    /// Whether it has left so many unanswered that it stands still.
    pub(super) const fn is_missing(&self) -> bool {
        self.unanswered >= STANDSTILL
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_answers_lives_and_lies_are_no_answers() {
        let mut pulse = Pulse::default();
        let look = |pulse: &mut Pulse, expect| assert_eq!(pulse.look(true), expect);
        look(&mut pulse, ToProxy::Ping { number: 1, heard: 0 });
        for lie in [0, 2, u64::MAX] {
            pulse.hear(lie);
            assert_eq!((pulse.answered, pulse.unanswered), (0, 1), "{lie}");
        }
        pulse.hear(1);
        assert_eq!((pulse.answered, pulse.unanswered), (1, 0));
        look(&mut pulse, ToProxy::Ping { number: 2, heard: 1 });
        pulse.hear(1);
        assert_eq!(pulse.unanswered, 1, "it has said that before");
        look(&mut pulse, ToProxy::Ping { number: 3, heard: 1 });
        // A late answer is one.
        pulse.hear(2);
        assert_eq!((pulse.answered, pulse.unanswered), (2, 0));
        assert_eq!(pulse.look(false), ToProxy::Ping { number: 4, heard: 2 });
        assert_eq!(pulse.unanswered, 0, "the guard has not heard all yet");
    }
}
