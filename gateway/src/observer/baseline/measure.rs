//! What is watched of routes, upstreams and the whole: the numbers of a minute, from sums before and after it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    message::telemetry::{Histogram, Metric, Series, SeriesValue},
    observer::store::Sums,
    policy::detect::ALL_ROUTES,
    settings::anomalies::ClientMeasure,
};

/// The most routes and upstreams that are watched. What is beyond them is left out, in the order of the names.
pub(super) const MAX_SCOPES: usize = 250;

/// Shares, times and sizes of fewer requests say nothing.
const LEAST: f64 = 20.0;

/// What the numbers are of.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(super) enum Scope {
    Whole,
    Route(String),
    Upstream(String),
}

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(super) enum Measure {
    /// The share of requests that were answered 5xx, or not at all.
    Errors,
    /// Requests that were refused, in a minute: 4xx but 429. What limits refuse is nobody's failure, and limits see to it.
    Failures,
    /// The time in seconds that 95 of 100 requests were not over.
    Latency,
    /// Different principals in a minute.
    Principals,
    /// Requests in a minute.
    Requests,
    /// Bytes of a request's body.
    RequestSize,
    /// Bytes of a response's body.
    ResponseSize,
    /// Different sources in a minute.
    Sources,
}

impl Measure {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Errors => "error_share",
            Self::Failures => "failures",
            Self::Latency => "latency",
            Self::Principals => "principals",
            Self::RequestSize => "request_size",
            Self::Requests => "requests",
            Self::ResponseSize => "response_size",
            Self::Sources => "sources",
        }
    }

    /// What is no difference, where so much is usual.
    pub(super) fn floor(self, usual: f64) -> f64 {
        match self {
            Self::Errors => 0.01_f64.max(usual * 0.1),
            // What comes by chance varies by the root of its number.
            Self::Failures | Self::Principals | Self::Requests | Self::Sources => {
                usual.max(0.0).sqrt().max(usual * 0.1).max(2.0)
            }
            Self::Latency => (usual * 0.2).max(0.02),
            Self::RequestSize | Self::ResponseSize => (usual * 0.2).max(512.0),
        }
    }

    /// Whether it is worth a word if it is less than usual.
    pub(super) const fn may_lack(self) -> bool {
        matches!(self, Self::Requests)
    }

    /// Whether a few minutes of each hour may have more: jobs do that recur. Whoever attacks a few minutes each hour is told of.
    pub(super) const fn may_peak(self) -> bool {
        !matches!(self, Self::Errors | Self::Failures)
    }

    /// By what of it single clients are counted, where they are.
    pub(super) const fn of_clients(self) -> Option<ClientMeasure> {
        match self {
            Self::Errors => Some(ClientMeasure::Errors),
            Self::Failures => Some(ClientMeasure::Failures),
            Self::Requests => Some(ClientMeasure::Requests),
            Self::Latency | Self::Principals | Self::RequestSize | Self::ResponseSize | Self::Sources => None,
        }
    }
}

/// Sums of one scope, cumulative.
#[derive(Clone, Debug, Default, PartialEq)]
struct ScopeTotals {
    requests: f64,
    failures: f64,
    limited: f64,
    errors: f64,
    sent: f64,
    received: f64,
    sources: f64,
    principals: f64,
    histogram: Histogram,
}

/// Makes the numbers of minutes.
#[derive(Debug, Default)]
pub(super) struct Minutes {
    before: Option<BTreeMap<Scope, ScopeTotals>>,
}

impl Minutes {
    /// The numbers since the last time. None the first time.
    pub(super) fn next(&mut self, sums: &Sums) -> Vec<((Scope, Measure), f64)> {
        let totals = gather(sums);
        let before = self.before.replace(totals.clone());
        let Some(before) = before else { return Vec::new() };
        let none = ScopeTotals::default();
        let mut numbers = Vec::new();
        for (scope, now) in totals {
            let then = before.get(&scope).unwrap_or(&none);
            let Some(histogram) = now.histogram.since(&then.histogram) else { continue };
            let requests = now.requests - then.requests;
            if requests < 0.0 {
                continue;
            }
            let mut put = |measure, number: f64| numbers.push(((scope.clone(), measure), number));
            put(Measure::Requests, requests);
            if !matches!(scope, Scope::Upstream(_)) {
                let failures = |totals: &ScopeTotals| totals.failures - totals.limited;
                put(Measure::Failures, (failures(&now) - failures(then)).max(0.0));
            }
            // Of what nobody has counted there is no number.
            for (measure, now, then) in
                [(Measure::Sources, now.sources, then.sources), (Measure::Principals, now.principals, then.principals)]
            {
                if now > 0.0 {
                    put(measure, (now - then).max(0.0));
                }
            }
            if requests < LEAST {
                continue;
            }
            put(Measure::Errors, (now.errors - then.errors).max(0.0) / requests);
            if let Some(seconds) = histogram.quantile(950_000) {
                put(Measure::Latency, seconds);
            }
            if !matches!(scope, Scope::Upstream(_)) {
                put(Measure::RequestSize, (now.received - then.received).max(0.0) / requests);
                put(Measure::ResponseSize, (now.sent - then.sent).max(0.0) / requests);
            }
        }
        numbers
    }
}

fn gather(sums: &Sums) -> BTreeMap<Scope, ScopeTotals> {
    let mut totals: BTreeMap<Scope, ScopeTotals> = BTreeMap::new();
    let metrics = [
        Metric::Requests,
        Metric::RequestsLimited,
        Metric::RequestDuration,
        Metric::RequestBytes,
        Metric::ResponseBytes,
        Metric::DistinctClients,
        Metric::UpstreamRequests,
        Metric::UpstreamDuration,
    ];
    for metric in metrics {
        let first = Series { metric, labels: Vec::new() };
        for (series, value) in sums.range(first..).take_while(|(series, _)| series.metric == metric) {
            let Some(name) = series.labels.first() else { continue };
            let is_upstream = matches!(metric, Metric::UpstreamRequests | Metric::UpstreamDuration);
            let own = if is_upstream { Scope::Upstream(name.clone()) } else { Scope::Route(name.clone()) };
            let of = match metric {
                // Whoever is on two routes is one.
                Metric::DistinctClients if name == ALL_ROUTES => vec![Scope::Whole],
                Metric::DistinctClients => vec![own],
                _ if is_upstream => vec![own],
                _ => vec![Scope::Whole, own],
            };
            for scope in of {
                if totals.len() < MAX_SCOPES || totals.contains_key(&scope) {
                    add(totals.entry(scope).or_default(), metric, series, value);
                }
            }
        }
    }
    totals
}

fn add(totals: &mut ScopeTotals, metric: Metric, series: &Series, value: &SeriesValue) {
    #[expect(clippy::cast_precision_loss, reason = "of what is usual six digits are plenty")]
    let count = if let SeriesValue::Count(count) = value { *count as f64 } else { 0.0 };
    match (metric, value) {
        (Metric::Requests | Metric::UpstreamRequests, _) => {
            totals.requests += count;
            match series.labels.get(1).map(String::as_str) {
                Some("4xx") => totals.failures += count,
                Some("5xx" | "error") => totals.errors += count,
                _ => {}
            }
        }
        (Metric::RequestsLimited, _) => totals.limited += count,
        (Metric::DistinctClients, _) => match series.labels.get(1).map(String::as_str) {
            Some("sources") => totals.sources += count,
            _ => totals.principals += count,
        },
        (Metric::RequestBytes, _) => totals.received += count,
        (Metric::ResponseBytes, _) => totals.sent += count,
        (_, SeriesValue::Histogram(histogram)) => totals.histogram.add(histogram),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whatever limits refuse, before a route was looked for or on one, is no failure: neither of the route, nor of the whole.
    #[test]
    fn what_limits_refuse_is_no_failure() {
        let row = |metric: Metric, labels: &[&str], count: u64| {
            let labels = labels.iter().map(|label| (*label).to_owned()).collect();
            (Series { metric, labels }, SeriesValue::Count(count))
        };
        let sums = |scale: u64| -> Sums {
            [
                row(Metric::Requests, &["/login", "2xx"], 100 * scale),
                row(Metric::Requests, &["/login", "4xx"], 30 * scale),
                row(Metric::RequestsLimited, &["/login"], 27 * scale),
                row(Metric::Requests, &["(limited)", "4xx"], 500 * scale),
                row(Metric::RequestsLimited, &["(limited)"], 500 * scale),
                row(Metric::Requests, &["(none)", "4xx"], 8 * scale),
                row(Metric::RequestsLimited, &["(none)"], 0),
            ]
            .into_iter()
            .collect()
        };
        let mut minutes = Minutes::default();
        assert!(minutes.next(&sums(1)).is_empty());
        let numbers: BTreeMap<(Scope, Measure), f64> = minutes.next(&sums(3)).into_iter().collect();
        let route = |name: &str| Scope::Route(name.to_owned());
        for (scope, requests, failures) in [
            (Scope::Whole, 1_276.0, 22.0),
            (route("/login"), 260.0, 6.0),
            (route("(limited)"), 1_000.0, 0.0),
            (route("(none)"), 16.0, 16.0),
        ] {
            let of = |measure| numbers.get(&(scope.clone(), measure)).copied();
            assert_eq!((of(Measure::Requests), of(Measure::Failures)), (Some(requests), Some(failures)), "{scope:?}");
        }
    }
}
