//! Makes the numbers that rules compare: of the sums of now, and for counters and histograms of those a window ago.
//!
//! *Invariant:* a counter that goes back, or that the observer has just come to know, is no increase: nobody is told of
//! what happened before it looked.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::{
    message::telemetry::{Histogram, Metric, Series, SeriesValue},
    observer::store::Sums,
    os::clock::{Now, SECOND},
    settings::alert::{Aggregation, AlertRule, Match},
};

/// The most alerts that one rule tells apart. What is beyond them is left out, in the order of the labels.
pub(super) const MAX_GROUPS: usize = 200;

/// The most of what is beyond them that is told apart, so that each is counted once.
const MAX_LEFT_OUT: usize = 1_000;

/// How many states are kept of a window.
const POINTS: u64 = 60;

/// Values of the labels that a rule tells apart.
pub(super) type LabelValues = Vec<String>;

/// What one rule has seen.
#[derive(Debug, Default)]
pub(super) struct Sampler {
    groups: BTreeMap<LabelValues, VecDeque<Point>>,
    /// When sums were looked at before.
    last: Option<u64>,
    /// What was beyond [`MAX_GROUPS`] at the last look.
    beyond: BTreeSet<LabelValues>,
    /// How many groups have come to be beyond it since somebody has asked.
    left_out: u64,
}

/// Sums at one moment.
#[derive(Clone, Debug)]
struct Point {
    at: u64,
    sum: Sum,
}

#[derive(Clone, Debug, Default, PartialEq)]
struct Sum {
    /// Of counters: all that count, and those of them that a share matches. Of gauges: the sum.
    whole: f64,
    part: f64,
    histogram: Histogram,
    /// A moment, the earliest or the latest.
    earliest: Option<f64>,
}

impl Sampler {
    /// The number of each group that has one.
    pub(super) fn values(&mut self, rule: &AlertRule, sums: &Sums, now: Now) -> Vec<(LabelValues, f64)> {
        let mut beyond = BTreeSet::new();
        let current = gather(rule, sums, &mut beyond);
        let values = match rule.measure.has_window() {
            true => self.over_window(rule, current, &mut beyond, now),
            false => current.into_iter().filter_map(|(group, sum)| Some((group, level(rule, &sum, now)?))).collect(),
        };
        let new = beyond.difference(&self.beyond).count();
        self.left_out = self.left_out.saturating_add(u64::try_from(new).unwrap_or(u64::MAX));
        self.beyond = beyond;
        values
    }

    /// How many groups there was no room for since the last time that this was asked. Each counts once while it is there.
    pub(super) const fn take_left_out(&mut self) -> u64 {
        std::mem::replace(&mut self.left_out, 0)
    }

    /// The numbers of what is looked at over a window.
    fn over_window(
        &mut self,
        rule: &AlertRule,
        current: BTreeMap<LabelValues, Sum>,
        beyond: &mut BTreeSet<LabelValues>,
        now: Now,
    ) -> Vec<(LabelValues, f64)> {
        let window = u64::try_from(rule.window.as_nanos()).unwrap_or(u64::MAX);
        let before = self.last.replace(now.monotonic);
        // Whoever has not looked for a whole window begins anew.
        let before = before.filter(|before| now.monotonic.saturating_sub(*before) <= window);
        if before.is_none() {
            self.groups.clear();
        }
        self.groups
            .retain(|_, points| points.back().is_some_and(|last| now.monotonic.saturating_sub(last.at) <= window));
        let mut values = Vec::new();
        for (group, sum) in current {
            if !self.groups.contains_key(&group) && self.groups.len() >= MAX_GROUPS {
                leave_out(group, beyond);
                continue;
            }
            let points = self.groups.entry(group.clone()).or_insert_with(|| {
                // What is new began at nothing, unless everything is new.
                before.map(|at| Point { at, sum: Sum::default() }).into_iter().collect()
            });
            if points.back().is_some_and(|last| has_gone_back(&last.sum, &sum)) {
                points.clear();
            }
            let value = points.front().and_then(|_| {
                let start = now.monotonic.saturating_sub(window);
                let from = points.iter().rev().find(|point| point.at <= start).or_else(|| points.front())?;
                difference(rule, from, &sum, now.monotonic)
            });
            let is_due = points.back().is_none_or(|last| now.monotonic.saturating_sub(last.at) >= window / POINTS);
            if is_due {
                points.push_back(Point { at: now.monotonic, sum });
            }
            // One is older than the window, so that there is always one to compare with.
            while points.get(1).is_some_and(|second| now.monotonic.saturating_sub(second.at) >= window) {
                points.pop_front();
            }
            values.extend(value.map(|value| (group, value)));
        }
        values
    }
}

fn leave_out(group: LabelValues, beyond: &mut BTreeSet<LabelValues>) {
    if beyond.len() < MAX_LEFT_OUT {
        beyond.insert(group);
    }
}

/// The sums of each group that there is room for. The others are put into `beyond`.
fn gather(rule: &AlertRule, sums: &Sums, beyond: &mut BTreeSet<LabelValues>) -> BTreeMap<LabelValues, Sum> {
    let labels = rule.metric.row().labels;
    let places: Vec<Option<usize>> = rule.by.iter().map(|label| labels.iter().position(|own| own == label)).collect();
    let group = |series: &Series| -> LabelValues {
        places.iter().map(|at| at.and_then(|at| series.labels.get(at)).cloned().unwrap_or_default()).collect()
    };
    let mut groups: BTreeMap<LabelValues, Sum> = BTreeMap::new();
    for (series, value) in of_metric(sums, rule.metric).filter(|(series, _)| matches(series, labels, &rule.filter)) {
        let group = group(series);
        if !groups.contains_key(&group) && groups.len() >= MAX_GROUPS {
            leave_out(group, beyond);
            continue;
        }
        let sum = groups.entry(group).or_default();
        match value {
            SeriesValue::Count(count) => {
                #[expect(clippy::cast_precision_loss, reason = "nobody's bound is so exact")]
                let count = *count as f64;
                sum.whole += count;
                if let Aggregation::Share(share) = &rule.measure
                    && matches(series, labels, share)
                {
                    sum.part += count;
                }
            }
            SeriesValue::Level(level) => {
                sum.whole += level;
                if *level != 0.0 {
                    sum.earliest = Some(sum.earliest.map_or(*level, |earliest| earliest.min(*level)));
                }
            }
            SeriesValue::Histogram(histogram) => sum.histogram.add(histogram),
        }
    }
    if let Aggregation::DividedBy(other) | Aggregation::LessThan(other) = rule.measure {
        let own = other.row().labels;
        for (series, value) in of_metric(sums, other) {
            let SeriesValue::Level(level) = value else { continue };
            let group: LabelValues = rule
                .by
                .iter()
                .map(|label| {
                    let at = own.iter().position(|own| own == label);
                    at.and_then(|at| series.labels.get(at)).cloned().unwrap_or_default()
                })
                .collect();
            if let Some(sum) = groups.get_mut(&group) {
                sum.part += level;
            }
        }
    }
    groups
}

fn of_metric(sums: &Sums, metric: Metric) -> impl Iterator<Item = (&Series, &SeriesValue)> {
    let first = Series { metric, labels: Vec::new() };
    sums.range(first..).take_while(move |(series, _)| series.metric == metric)
}

fn matches(series: &Series, labels: &[&str], filter: &[Match]) -> bool {
    filter.iter().all(|one| {
        let at = labels.iter().position(|label| *label == one.label);
        at.and_then(|at| series.labels.get(at)).is_some_and(|value| one.is_met(value))
    })
}

/// The number of a gauge.
fn level(rule: &AlertRule, sum: &Sum, now: Now) -> Option<f64> {
    #[expect(clippy::cast_precision_loss, reason = "milliseconds of today are exact")]
    let seconds = now.unix_millis as f64 / 1_000.0;
    match rule.measure {
        Aggregation::Age => Some((seconds - sum.earliest?).max(0.0)),
        Aggregation::Left => Some(sum.earliest? - seconds),
        Aggregation::DividedBy(_) => (sum.part > 0.0).then(|| sum.whole / sum.part),
        Aggregation::LessThan(_) => Some((sum.part - sum.whole).max(0.0)),
        _ => Some(sum.whole),
    }
}

fn has_gone_back(before: &Sum, now: &Sum) -> bool {
    now.whole < before.whole || now.part < before.part || now.histogram.since(&before.histogram).is_none()
}

/// The number of a counter or a histogram.
fn difference(rule: &AlertRule, from: &Point, sum: &Sum, now: u64) -> Option<f64> {
    let whole = sum.whole - from.sum.whole;
    #[expect(clippy::cast_precision_loss, reason = "a few samples")]
    let least = rule.at_least as f64;
    match &rule.measure {
        Aggregation::Increase => Some(whole),
        Aggregation::Rate => {
            let elapsed = now.saturating_sub(from.at);
            #[expect(clippy::cast_precision_loss, reason = "a time of an hour at most")]
            let seconds = elapsed as f64 / 1e9;
            // Of less than that nobody can tell a rate.
            (elapsed >= 2 * SECOND).then(|| whole / seconds)
        }
        Aggregation::Share(_) => (whole > 0.0 && whole >= least).then(|| (sum.part - from.sum.part) / whole),
        Aggregation::Quantile(millionths) => {
            let more = sum.histogram.since(&from.sum.histogram)?;
            if more.count() < rule.at_least {
                return None;
            }
            more.quantile(*millionths)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests;
