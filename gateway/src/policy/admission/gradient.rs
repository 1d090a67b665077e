//! How many requests at once an upstream gets, found by how long it takes to respond.
//!
//! While more requests at once are answered in the same time, the limit grows. Once responses take longer than without a
//! queue (the *base*), requests only wait there instead of here: the limit shrinks by the ratio of both. What it keeps is
//! room for a short queue, the square root of the limit, so that the upstream never runs dry.
//!
//! The base is the least median time of a window. As upstreams change, and an upstream that was busy from the start has
//! shown no such window, it is measured anew from time to time: for one window with half the limit.
//!
//! *Invariant:* a request that began before the limit changed says nothing about the limit, and is not looked at. One
//! time counts as much as another: a client that causes slow responses has to have half of all requests to be heard.

use crate::os::clock::SECOND;

/// The limit is kept in thousandths.
const ONE: u64 = 1_000;

/// A window is this long at least, in nanoseconds.
const WINDOW: u64 = SECOND / 10;

/// So many responses make a window.
const LEAST: usize = 10;

/// With fewer, it ends after this time.
const LONGEST: u64 = SECOND;

/// So many times of one window are kept, the last ones.
const KEPT: usize = 64;

/// The limit at the start, if it may be that.
const START: u32 = 20;

/// How much longer than the base responses may take, in thousandths.
const TOLERANCE: u64 = 1_250;

/// When the base is looked for again: at the start and after one that was off by much, and otherwise.
const SOON: u64 = 2 * SECOND;
const LATER: u64 = 30 * SECOND;

/// What a response says about the upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sample {
    /// Its head came after so many nanoseconds.
    Answered(u64),
    /// The upstream says that it is overloaded, or did not answer in time.
    Overloaded,
}

/// The limit of one upstream.
#[derive(Debug)]
pub(super) struct Gradient {
    min: u64,
    max: u64,
    /// In thousandths.
    limit: u64,
    /// How long a response takes without a queue, in nanoseconds; 0: that is not known.
    base: u64,
    phase: Phase,
    window: Window,
    /// When the base is looked for again.
    next_probe: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The limit was halved to find the base; before it was this.
    Probe {
        before: u64,
    },
    /// It doubles until responses take longer.
    Start,
    Steady,
}

#[derive(Debug)]
struct Window {
    began: u64,
    times: [u64; KEPT],
    answered: usize,
    overloaded: usize,
    /// The most requests in flight.
    peak: u32,
}

impl Gradient {
    /// A limit of at least `min` and at most `max`.
    pub(super) fn new(min: u32, max: u32, now: u64) -> Self {
        let (min, max) = (u64::from(min.max(1)) * ONE, u64::from(max.max(min).max(1)) * ONE);
        let limit = (u64::from(START) * ONE).clamp(min, max);
        let window = Window::new(now);
        Self { min, max, limit, base: 0, phase: Phase::Start, window, next_probe: now.saturating_add(SOON) }
    }

    /// How many requests there may be at once.
    pub(super) fn limit(&self) -> u32 {
        whole(self.limit)
    }

    /// The same for requests that even the search for the base does not hold back.
    pub(super) fn full_limit(&self) -> u32 {
        match self.phase {
            Phase::Probe { before } => whole(before),
            Phase::Start | Phase::Steady => self.limit(),
        }
    }

    /// How long a response takes without a queue, in nanoseconds; 0: that is not known.
    pub(super) const fn base(&self) -> u64 {
        self.base
    }

    /// Goes on between other bounds.
    pub(super) fn bound(&mut self, min: u32, max: u32) {
        let (min, max) = (u64::from(min.max(1)) * ONE, u64::from(max.max(min).max(1)) * ONE);
        (self.min, self.max) = (min, max);
        self.limit = self.limit.clamp(min, max);
        if let Phase::Probe { before } = &mut self.phase {
            *before = (*before).clamp(min, max);
        }
    }

    /// A request that began at `began` got a response. `in_flight`: how many there were at once, it included.
    pub(super) fn note(&mut self, sample: Sample, began: u64, in_flight: u32, now: u64) {
        let window = &mut self.window;
        window.peak = window.peak.max(in_flight);
        if began < window.began {
            return;
        }
        match sample {
            Sample::Answered(time) => {
                let place = window.answered % KEPT;
                if let Some(slot) = window.times.get_mut(place) {
                    *slot = time.max(1);
                }
                window.answered += 1;
            }
            Sample::Overloaded => window.overloaded += 1,
        }
        let (took, seen) = (now.saturating_sub(window.began), window.answered + window.overloaded);
        if took >= LONGEST || took >= WINDOW && seen >= LEAST {
            self.judge(now);
        }
    }

    /// A window is over.
    fn judge(&mut self, now: u64) {
        let window = std::mem::replace(&mut self.window, Window::new(now));
        let median = window.median();
        let is_overloaded = window.overloaded * 4 >= window.answered + window.overloaded;
        if let Phase::Probe { before } = self.phase {
            (self.limit, self.phase) = (before, Phase::Steady);
            let is_far = median.abs_diff(self.base) > self.base / 10;
            self.next_probe = now.saturating_add(if is_far { SOON } else { LATER });
            if median > 0 {
                self.base = median;
            }
            return;
        }
        if median > 0 && (self.base == 0 || median < self.base) {
            self.base = median;
        }
        if is_overloaded {
            self.limit = (self.limit / 10 * 9).clamp(self.min, self.max);
            self.phase = Phase::Steady;
            return;
        }
        let gradient = (self.base.saturating_mul(TOLERANCE) / median.max(1)).clamp(ONE / 2, ONE);
        let used = u64::from(window.peak).saturating_mul(2 * ONE);
        if used <= self.limit {
            // Nothing says that more would be served. A limit that is much higher than what is used does not protect.
            if gradient < ONE {
                let least = used.max(u64::from(START) * ONE).min(self.limit);
                self.limit = (self.limit * gradient / ONE).max(least).clamp(self.min, self.max);
            }
            return;
        }
        let next = match self.phase {
            Phase::Start if gradient == ONE => self.limit * 2,
            _ => {
                self.phase = Phase::Steady;
                self.limit * gradient / ONE + (self.limit * ONE).isqrt()
            }
        };
        self.limit = next.clamp(self.min, self.max);
        if now >= self.next_probe && self.limit > self.min {
            self.phase = Phase::Probe { before: self.limit };
            self.limit = (self.limit / 2).max(self.min);
            // What waits at the upstream is served first.
            self.window.began = now.saturating_add(median.saturating_mul(2));
        }
    }
}

impl Window {
    const fn new(began: u64) -> Self {
        Self { began, times: [0; KEPT], answered: 0, overloaded: 0, peak: 0 }
    }

    /// The median time; 0: there is none.
    fn median(&self) -> u64 {
        let mut times = self.times;
        let Some(times) = times.get_mut(..self.answered.min(KEPT)).filter(|times| !times.is_empty()) else { return 0 };
        let middle = times.len() / 2;
        *times.select_nth_unstable(middle).1
    }
}

/// Whole requests.
fn whole(limit: u64) -> u32 {
    u32::try_from(limit / ONE).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
