//! How much a worker refuses because it has too much to do: the lowest class first, one part of it after the other.
//!
//! A worker is as late as its queue is long. Where it is late all the time, not just once, more is refused; where it is
//! in time for a while, less. What is refused is a share of clients, not of requests: whoever is served stays served.
//!
//! *Invariant:* the highest class is never refused.

use std::time::Duration;

use super::class::Class;
use crate::{collections::mix::mix, os::clock::SECOND};

/// A class is refused in so many parts.
const PARTS: u32 = 100;

/// The worker is judged once in this time, in nanoseconds.
const WINDOW: u64 = SECOND / 5;

/// So many good windows in a row come before less is refused.
const CALM: u32 = 5;

/// The least and the most that one window adds, in parts of a class.
const STEP: (u64, u64) = (10, 50);

/// What one good window takes away.
const BACK: u32 = 5;

/// Other clients are refused after this time, in nanoseconds.
const TURN: u64 = 60 * SECOND;

/// How much one worker refuses.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pressure {
    /// In parts, the lowest class first.
    level: u32,
    calm: u32,
    window: Option<Window>,
}

#[derive(Clone, Copy, Debug)]
struct Window {
    began: u64,
    /// The least that it was late.
    least: u64,
}

impl Pressure {
    /// The worker came `late` nanoseconds late to what it had to do at `now`. `delay`: how late it may always be.
    /// `classes`: how many there are.
    pub fn note(&mut self, late: u64, delay: Duration, classes: usize, now: u64) {
        let window = self.window.get_or_insert(Window { began: now, least: late });
        window.least = window.least.min(late);
        if now.saturating_sub(window.began) < WINDOW {
            return;
        }
        let least = window.least;
        self.window = None;
        let delay = u64::try_from(delay.as_nanos()).unwrap_or(u64::MAX).max(1);
        if least > delay {
            self.calm = 0;
            let step = (STEP.0.saturating_mul(least) / delay).clamp(STEP.0, STEP.1);
            let most = u32::try_from(classes.saturating_sub(1)).unwrap_or(0).saturating_mul(PARTS);
            self.level = self.level.saturating_add(u32::try_from(step).unwrap_or(PARTS)).min(most);
        } else if least < delay / 2 {
            self.calm = self.calm.saturating_add(1);
            if self.calm > CALM {
                self.level = self.level.saturating_sub(BACK);
            }
        } else {
            self.calm = 0;
        }
    }

    /// Whether anything is refused.
    #[must_use]
    pub const fn is_on(&self) -> bool {
        self.level > 0
    }

    /// How much is refused, in hundredths of a class.
    #[must_use]
    pub const fn level(&self) -> u32 {
        self.level
    }

    /// Whether a request of this class of so many `classes` is refused. `client` is a number of its client.
    #[must_use]
    pub fn sheds(&self, class: Class, classes: usize, client: u64, now: u64) -> bool {
        let place = class.place();
        if self.level == 0 || place == 0 {
            return false;
        }
        let above = u32::try_from(classes.saturating_sub(1).saturating_sub(place)).unwrap_or(0).saturating_mul(PARTS);
        let share = self.level.saturating_sub(above);
        mix(client ^ mix(now / TURN)) % u64::from(PARTS) < u64::from(share)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLI: u64 = SECOND / 1_000;
    const DELAY: Duration = Duration::from_millis(20);

    /// The worker is so late for so many milliseconds.
    fn play(pressure: &mut Pressure, from: &mut u64, late: u64, millis: u64) {
        for _ in 0..millis / 50 {
            *from += 50 * MILLI;
            pressure.note(late * MILLI, DELAY, 3, *from);
        }
    }

    /// How many of a hundred clients of each class are refused, the highest first.
    fn shed(pressure: &Pressure) -> [usize; 3] {
        [0, 1, 2].map(|place| (0..1_000).filter(|client| pressure.sheds(Class::at(place), 3, *client, 0)).count() / 10)
    }

    #[test]
    fn the_lowest_class_goes_first_and_the_highest_stays() {
        let (mut pressure, mut now) = (Pressure::default(), 0);
        play(&mut pressure, &mut now, 5, 10_000);
        assert_eq!(shed(&pressure), [0, 0, 0]);
        play(&mut pressure, &mut now, 25, 500);
        let [high, middle, low] = shed(&pressure);
        assert!(high == 0 && middle == 0 && (10..50).contains(&low), "{low}");
        play(&mut pressure, &mut now, 25, 3_000);
        let [high, middle, low] = shed(&pressure);
        assert!(high == 0 && middle > 10 && low == 100, "{middle} {low}");
        play(&mut pressure, &mut now, 1_000, 60_000);
        assert_eq!(shed(&pressure), [0, 100, 100], "never the highest");
        // It takes a while until it begins to take back, and goes slowly.
        play(&mut pressure, &mut now, 1, 900);
        assert_eq!(shed(&pressure), [0, 100, 100]);
        play(&mut pressure, &mut now, 1, 3_000);
        let [_, middle, low] = shed(&pressure);
        assert!((10..90).contains(&middle) && low == 100, "{middle} {low}");
        // Between both nothing changes.
        play(&mut pressure, &mut now, 15, 500);
        let level = pressure.level();
        play(&mut pressure, &mut now, 15, 10_000);
        assert_eq!(pressure.level(), level);
        play(&mut pressure, &mut now, 1, 30_000);
        assert!(!pressure.is_on());
    }

    #[test]
    fn being_late_once_is_nothing() {
        let (mut pressure, mut now) = (Pressure::default(), 0);
        for _ in 0..100 {
            play(&mut pressure, &mut now, 500, 50);
            play(&mut pressure, &mut now, 1, 150);
        }
        assert!(!pressure.is_on());
    }

    #[test]
    fn other_clients_are_refused_after_a_while() {
        let pressure = Pressure { level: 50, ..Pressure::default() };
        let refused =
            |now| (0..1_000).filter(|client| pressure.sheds(Class::at(2), 3, *client, now)).collect::<Vec<_>>();
        let (first, later) = (refused(0), refused(TURN));
        assert_eq!(first, refused(TURN - 1), "the same ones meanwhile");
        let both = first.iter().filter(|client| later.contains(client)).count();
        assert!((400..600).contains(&first.len()) && both < first.len() * 3 / 4, "{} {both}", first.len());
    }
}
