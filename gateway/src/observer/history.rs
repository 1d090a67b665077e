//! The last hour in numbers, for charts: a point every ten seconds, made from the sums of all metrics.
//!
//! *Invariant:* there are at most [`POINTS`] points, of a fixed size each, and none where nobody may see them.

use std::collections::VecDeque;

use serde::Serialize;

use super::store::Sums;
use crate::{
    message::telemetry::{Histogram, Metric, Series, SeriesValue},
    os::clock::{Now, SECOND},
};

/// How many seconds a point is about.
pub(super) const STEP: u64 = 10;

/// How many points are kept: an hour.
const POINTS: usize = 360;

/// Until then, processes tell what they have counted before.
const WARM_UP: u64 = 10 * SECOND;

/// What happened within a step.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(super) struct Point {
    /// When it was over, in seconds since 1970.
    pub(super) at: u64,
    /// Requests by the class of their response: 2xx and 1xx, 3xx, 4xx, 5xx, and those that nobody waited for.
    ok: u64,
    redirected: u64,
    client_errors: u64,
    server_errors: u64,
    left: u64,
    /// Those of them that the gateway refused.
    refused: u64,
    /// The time that half of the requests, and 95 of 100, were not over, in milliseconds; absent: there were none.
    #[serde(skip_serializing_if = "Option::is_none")]
    p50: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    p95: Option<f64>,
    /// Packets that the kernel program let through, dropped, and would have dropped.
    passed: u64,
    dropped: u64,
    would_drop: u64,
    /// Bans that began, and those in force.
    begun: u64,
    bans: u64,
    /// Open connections of clients.
    connections: u64,
}

/// The points, the oldest first.
#[derive(Debug, Default)]
pub(super) struct History {
    points: VecDeque<Point>,
    before: Option<Totals>,
    began: Option<u64>,
    step: u64,
}

/// Sums since the start.
#[derive(Clone, Debug, Default)]
struct Totals {
    /// In the order of [`Point`].
    answers: [u64; 5],
    refused: u64,
    packets: [u64; 3],
    begun: u64,
    durations: Histogram,
}

impl History {
    /// Looks at the clock, and at the sums when a step is over.
    pub(super) fn tick(&mut self, is_on: bool, sums: impl FnOnce() -> Sums, now: Now) {
        if !is_on {
            // What was counted meanwhile is of no step.
            *self = Self::default();
            return;
        }
        let began = *self.began.get_or_insert(now.monotonic);
        let step = now.unix_millis / (STEP * 1_000);
        if std::mem::replace(&mut self.step, step) == step || now.monotonic.saturating_sub(began) < WARM_UP {
            return;
        }
        let sums = sums();
        let totals = Totals::of(&sums);
        if let Some(before) = self.before.replace(totals.clone()) {
            let mut point = totals.since(&before);
            point.at = step * STEP;
            point.bans = level(&sums, Metric::Blocks);
            point.connections = level(&sums, Metric::Connections);
            if self.points.len() >= POINTS {
                self.points.pop_front();
            }
            self.points.push_back(point);
        }
    }

    /// The points after this moment.
    pub(super) fn after(&self, at: u64) -> Vec<&Point> {
        self.points.iter().filter(|point| point.at > at).collect()
    }
}

impl Totals {
    fn of(sums: &Sums) -> Self {
        let mut totals = Self::default();
        let mut each = |metric: Metric, add: &mut dyn FnMut(&mut Self, &Series, &SeriesValue)| {
            let first = Series { metric, labels: Vec::new() };
            for (series, value) in sums.range(first..).take_while(|(series, _)| series.metric == metric) {
                add(&mut totals, series, value);
            }
        };
        each(Metric::Requests, &mut |totals, series, value| {
            let [ok, redirected, client_errors, server_errors, left] = &mut totals.answers;
            let class = match series.labels.get(1).map(String::as_str) {
                Some("1xx" | "2xx") => ok,
                Some("3xx") => redirected,
                Some("4xx") => client_errors,
                Some("5xx") => server_errors,
                _ => left,
            };
            *class = class.saturating_add(count(value));
        });
        each(Metric::Refusals, &mut |totals, _, value| {
            totals.refused = totals.refused.saturating_add(count(value));
        });
        each(Metric::RequestDuration, &mut |totals, _, value| {
            if let SeriesValue::Histogram(histogram) = value {
                totals.durations.add(histogram);
            }
        });
        each(Metric::Packets, &mut |totals, series, value| {
            let name = series.labels.first().map_or("", String::as_str);
            let [passed, dropped, would_drop] = &mut totals.packets;
            let verdict = match name {
                "blocked" | "clamped" | "malformed" => dropped,
                name if name.starts_with("over_") => dropped,
                name if name.starts_with("shadow_") => would_drop,
                _ => passed,
            };
            *verdict = verdict.saturating_add(count(value));
        });
        each(Metric::BansBegun, &mut |totals, _, value| {
            totals.begun = totals.begun.saturating_add(count(value));
        });
        totals
    }

    /// What has come since. What has begun anew meanwhile counts as nothing.
    fn since(&self, before: &Self) -> Point {
        let more = |now: u64, then: u64| now.saturating_sub(then);
        let [ok, redirected, client_errors, server_errors, left] = std::array::from_fn(|index| {
            let of = |totals: &Self| totals.answers.get(index).copied().unwrap_or(0);
            more(of(self), of(before))
        });
        let [passed, dropped, would_drop] = std::array::from_fn(|index| {
            let of = |totals: &Self| totals.packets.get(index).copied().unwrap_or(0);
            more(of(self), of(before))
        });
        let durations = self.durations.since(&before.durations).filter(|durations| durations.count() > 0);
        let quantile = |millionths| {
            let seconds = durations.as_ref()?.quantile(millionths)?;
            Some((seconds * 1e5).round() / 100.0)
        };
        Point {
            ok,
            redirected,
            client_errors,
            server_errors,
            left,
            refused: more(self.refused, before.refused),
            p50: quantile(500_000),
            p95: quantile(950_000),
            passed,
            dropped,
            would_drop,
            begun: more(self.begun, before.begun),
            ..Point::default()
        }
    }
}

fn count(value: &SeriesValue) -> u64 {
    if let SeriesValue::Count(count) = value { *count } else { 0 }
}

/// A gauge without labels.
fn level(sums: &Sums, metric: Metric) -> u64 {
    match sums.get(&Series { metric, labels: Vec::new() }) {
        #[expect(clippy::cast_possible_truncation, reason = "a number of things; `as` saturates")]
        Some(SeriesValue::Level(level)) => *level as u64,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use gateway_common::verdict::Verdict;

    use super::*;
    use crate::message::telemetry::Samples;

    fn sums(fill: impl FnOnce(&mut Samples)) -> Sums {
        let mut samples = Samples::default();
        fill(&mut samples);
        samples.into_inner().into_iter().collect()
    }

    fn at(seconds: u64) -> Now {
        Now { monotonic: seconds * SECOND, unix_millis: (1_000_000 + seconds) * 1_000 }
    }

    fn requests(served: u64, refused: u64, blocks: u64) -> Sums {
        sums(|samples| {
            samples.count(Metric::Requests, &["/a", "2xx"], served);
            samples.count(Metric::Requests, &["/b", "2xx"], 1);
            samples.count(Metric::Requests, &["/a", "4xx"], refused);
            samples.count(Metric::Refusals, &["no_token"], refused);
            samples.count(Metric::Packets, &["blocked"], 10 * refused);
            samples.level(Metric::Blocks, &[], blocks);
            samples.histogram(Metric::RequestDuration, &["/a"], Histogram::new(served, [served]));
        })
    }

    #[test]
    fn a_point_is_what_came_since_the_last() {
        let mut history = History::default();
        // What processes say of the time before is no point.
        history.tick(true, || panic!("nobody asks while it warms up"), at(0));
        history.tick(true, || requests(1_000, 50, 1), at(11));
        assert!(history.after(0).is_empty());
        history.tick(true, || panic!("the step is not over"), at(12));
        history.tick(true, || requests(1_030, 55, 2), at(20));
        let point = history.points.back().unwrap();
        assert_eq!((point.at, point.ok, point.client_errors, point.refused), (1_000_020, 30, 5, 5), "{point:?}");
        assert_eq!((point.dropped, point.bans, point.left), (50, 2, 0), "{point:?}");
        assert!(point.p50.is_some() && point.p95.is_some(), "{point:?}");
        // A guard that starts counts anew.
        history.tick(true, || requests(1_031, 0, 0), at(30));
        let point = history.points.back().unwrap();
        assert_eq!((point.ok, point.client_errors, point.dropped), (1, 0, 0), "{point:?}");
        assert_eq!(history.after(1_000_020).len(), 1);
        // Whoever turns it off keeps nothing.
        history.tick(false, || panic!("nobody asks"), at(40));
        assert!(history.after(0).is_empty());
    }

    #[test]
    fn it_holds_an_hour() {
        let mut history = History::default();
        for step in 0..1_000 {
            history.tick(true, || requests(step, step, step), at(step * STEP));
        }
        assert_eq!(history.points.len(), POINTS);
        assert_eq!(history.after(0).first().map(|point| point.at), Some(1_000_000 + 6_400));
    }

    #[test]
    fn every_verdict_counts_as_what_becomes_of_the_packet() {
        for verdict in Verdict::ALL {
            let sums = sums(|samples| samples.count(Metric::Packets, &[verdict.name()], 1));
            let [passed, dropped, would_drop] = Totals::of(&sums).packets;
            assert_eq!(dropped, u64::from(verdict.drops()), "{verdict:?}");
            assert_eq!(passed + would_drop, u64::from(!verdict.drops()), "{verdict:?}");
            assert_eq!(would_drop, u64::from(verdict.name().starts_with("shadow_")), "{verdict:?}");
        }
    }
}
