//! What is usual for one series, by the hour of the week: medians and median deviations of the minutes of an hour, and how far
//! its highest minutes go.
//!
//! *Invariant:* what is usual moves a little each time and never further, so that whoever is patient needs weeks to make an
//! attack usual. An hour counts as one observation, however much happened in it.

use serde::{Deserialize, Serialize};

use super::measure::Measure;

/// The hours of a week.
pub(super) const HOURS: usize = 168;

/// How many observations make an hour of the week known, an hour of the day, and the series.
const KNOWN: [u16; 3] = [2, 3, 6];

/// An hour with fewer minutes says nothing.
const LEAST_MINUTES: usize = 20;

/// Of a normal distribution, the standard deviation is so many median deviations.
const NORMAL: f32 = 1.482_6;

/// How much of the way to a new observation is gone at least.
const GAIN: f32 = 0.2;

/// After so many observations what is usual is settled.
const SETTLED: u16 = 4;

/// What is settled moves by such a part of itself at most, each time.
const MOST_STEP: f32 = 0.2;

/// And gets wider by such a part of that.
const MOST_WIDER: f32 = 0.3;

/// What is usual at one hour: the center, the spread, how many hours were observed, and the peak, which older files lack.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct HourStats(f32, f32, u16, #[serde(default)] f32);

/// When something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Hour {
    /// 0: Monday at 0 h, in the time zone of the configuration.
    pub(super) of_week: usize,
    /// When the hour of the clock began, in hours since 1970, which no clock change repeats.
    pub(super) stamp: i64,
}

/// Of which hours it is known what is usual.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Coverage {
    /// Of this hour of the week.
    Week,
    /// Of this hour of the day.
    Day,
    /// Of all together.
    All,
}

/// What is usual.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Usual {
    pub(super) center: f64,
    /// A standard deviation, or what comes near to it.
    pub(super) spread: f64,
    /// What at least two minutes of such an hour reach, as jobs do that recur.
    pub(super) peak: f64,
    pub(super) known: Coverage,
}

/// One series.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Model {
    week: Vec<HourStats>,
    day: Vec<HourStats>,
    all: HourStats,
    /// The hour that goes on, and its minutes.
    hour: Option<Hour>,
    minutes: Vec<f32>,
}

impl Model {
    /// What is usual at an hour. `None`: that is not known yet.
    pub(super) fn usual(&self, hour: Hour) -> Option<Usual> {
        let week = self.week.get(hour.of_week).copied().unwrap_or_default();
        let day = self.day.get(hour.of_week % 24).copied().unwrap_or_default();
        let of = [(week, Coverage::Week), (day, Coverage::Day), (self.all, Coverage::All)];
        let found = of.into_iter().zip(KNOWN).find(|((slot, _), least)| slot.2 >= *least);
        let ((HourStats(center, spread, _, peak), known), _) = found?;
        Some(Usual { center: center.into(), spread: (spread * NORMAL).into(), peak: peak.into(), known })
    }

    /// How many hours were observed.
    pub(super) const fn hours(&self) -> u16 {
        self.all.2
    }

    /// Takes the number of one minute.
    pub(super) fn learn(&mut self, value: f64, hour: Hour, measure: Measure) {
        if self.hour.is_some_and(|before| before != hour) {
            self.close(measure);
        }
        self.hour = Some(hour);
        #[expect(clippy::cast_possible_truncation, reason = "of what is usual six digits are plenty")]
        let value = value as f32;
        if self.minutes.len() < 60 && value.is_finite() {
            self.minutes.push(value);
        }
    }

    /// An hour is over.
    fn close(&mut self, measure: Measure) {
        let mut minutes = std::mem::take(&mut self.minutes);
        let Some(hour) = self.hour.take().filter(|_| minutes.len() >= LEAST_MINUTES) else { return };
        let center = median(&mut minutes);
        // One minute alone is no anomaly. They are in order now.
        let peak = minutes.get(minutes.len().saturating_sub(2)).copied().unwrap_or(center);
        let mut away: Vec<f32> = minutes.iter().map(|minute| (minute - center).abs()).collect();
        let spread = median(&mut away);
        self.week.resize(HOURS, HourStats::default());
        self.day.resize(24, HourStats::default());
        let slots = [self.week.get_mut(hour.of_week), self.day.get_mut(hour.of_week % 24), Some(&mut self.all)];
        for slot in slots.into_iter().flatten() {
            slot.observe([center, spread, peak], measure);
        }
    }
}

impl HourStats {
    /// Goes a part of the way to what one hour was like: its center, spread and peak.
    fn observe(&mut self, [center, spread, peak]: [f32; 3], measure: Measure) {
        let Self(own, own_spread, seen, own_peak) = *self;
        if seen == 0 {
            *self = Self(center, spread, 1, peak);
            return;
        }
        let gain = (1.0 / (f32::from(seen) + 1.0)).max(GAIN);
        // How far it goes at most, and how much wider it gets.
        let far = |from: f32| {
            #[expect(clippy::cast_possible_truncation, reason = "of what is usual six digits are plenty")]
            let floor = measure.floor(from.into()) as f32;
            if seen < SETTLED {
                (own_spread * NORMAL).max(from.abs() * 0.5).max(floor)
            } else {
                (from.abs() * MOST_STEP).max(floor * MOST_STEP) / gain
            }
        };
        let wide = if seen < SETTLED { far(own) / NORMAL } else { far(own) / NORMAL * MOST_WIDER };
        let step = |from: f32, to: f32| (to - from).clamp(-far(from), far(from)) * gain;
        let away = spread.max((center - own).abs() / NORMAL);
        let wider = (away - own_spread).clamp(-own_spread, wide);
        let own_peak = own_peak.max(own);
        *self = Self(
            own + step(own, center),
            (own_spread + wider * gain).max(0.0),
            seen.saturating_add(1),
            // While little is known, what one such hour did not reach is not reached in each: one burst is no job.
            if seen < SETTLED && peak < own_peak { peak.max(own) } else { own_peak + step(own_peak, peak) },
        );
    }
}

/// The median; sorts.
fn median(values: &mut [f32]) -> f32 {
    values.sort_by(f32::total_cmp);
    let middle = values.len() / 2;
    let at = |at: usize| values.get(at).copied().unwrap_or_default();
    if values.len().is_multiple_of(2) { f32::midpoint(at(middle.saturating_sub(1)), at(middle)) } else { at(middle) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_burst_is_no_job() {
        let mut slot = HourStats::default();
        slot.observe([100.0, 5.0, 100_000.0], Measure::Requests);
        slot.observe([100.0, 5.0, 130.0], Measure::Requests);
        assert!((slot.3 - 130.0).abs() < 1.0, "{}", slot.3);
    }
}
