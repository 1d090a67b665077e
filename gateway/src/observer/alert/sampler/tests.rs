//! Numbers of sums, as they come second by second.

use std::time::Duration;

use super::*;
use crate::settings::alert::{AlertComparison, AlertCondition, Severity};

fn rule(metric: Metric, measure: Aggregation, by: &[&str], filter: &[(&str, &str)]) -> AlertRule {
    AlertRule {
        name: "test".to_owned(),
        severity: Severity::Warning,
        metric,
        measure,
        filter: filter.iter().map(|(label, pattern)| Match::new(label, pattern)).collect(),
        by: by.iter().map(|label| (*label).to_owned()).collect(),
        condition: AlertCondition { comparison: AlertComparison::Above, bound: 0.0 },
        hold: Duration::ZERO,
        recover_after: Duration::ZERO,
        window: Duration::from_secs(60),
        at_least: 10,
        labels: Vec::new(),
        summary: String::new(),
        runbook: None,
        is_builtin: false,
    }
}

fn at(second: u64) -> Now {
    Now { monotonic: second * SECOND, unix_millis: (1_000_000 + second) * 1_000 }
}

fn counts(metric: Metric, counts: &[(&[&str], u64)]) -> Sums {
    counts.iter().map(|(labels, count)| (Series::new(metric, labels), SeriesValue::Count(*count))).collect()
}

fn levels(levels: &[(Metric, &[&str], f64)]) -> Sums {
    levels.iter().map(|(metric, labels, level)| (Series::new(*metric, labels), SeriesValue::Level(*level))).collect()
}

fn group(values: &[&str]) -> LabelValues {
    values.iter().map(|value| (*value).to_owned()).collect()
}

#[test]
fn gauges() {
    let check = |rule: &AlertRule, sums: &Sums, expect: &[(&[&str], f64)]| {
        let expect: Vec<_> = expect.iter().map(|(labels, value)| (group(labels), *value)).collect();
        assert_eq!(Sampler::default().values(rule, sums, at(0)), expect);
    };
    let servers = levels(&[
        (Metric::UpstreamServer, &["a", "a:1", "down"], 1.0),
        (Metric::UpstreamServer, &["a", "a:2", "up"], 1.0),
        (Metric::UpstreamServer, &["b", "b:1", "down"], 1.0),
    ]);
    let down = [("state", "down")];
    check(&rule(Metric::UpstreamServer, Aggregation::Value, &[], &down), &servers, &[(&[], 2.0)]);
    let by_upstream = rule(Metric::UpstreamServer, Aggregation::Value, &["upstream"], &down);
    check(&by_upstream, &servers, &[(&["a"], 1.0), (&["b"], 1.0)]);
    check(&rule(Metric::UpstreamServer, Aggregation::Value, &[], &[("state", "slow")]), &servers, &[]);

    let disks = levels(&[
        (Metric::DiskAvailable, &["/a"], 4.0),
        (Metric::DiskAvailable, &["/b"], 50.0),
        (Metric::DiskSize, &["/a"], 100.0),
        (Metric::DiskSize, &["/b"], 0.0),
    ]);
    let left = rule(Metric::DiskAvailable, Aggregation::DividedBy(Metric::DiskSize), &["folder"], &[]);
    check(&left, &disks, &[(&["/a"], 0.04)]);

    let attached = levels(&[(Metric::Interfaces, &[], 1.0), (Metric::InterfacesWanted, &[], 3.0)]);
    check(
        &rule(Metric::Interfaces, Aggregation::LessThan(Metric::InterfacesWanted), &[], &[]),
        &attached,
        &[(&[], 2.0)],
    );

    let ends = levels(&[(Metric::CertificateEnd, &["a", "/a"], 1_000_500.0), (Metric::ListLoaded, &["l"], 999_000.0)]);
    check(&rule(Metric::CertificateEnd, Aggregation::Left, &["file"], &[]), &ends, &[(&["/a"], 500.0)]);
    check(&rule(Metric::ListLoaded, Aggregation::Age, &["list"], &[]), &ends, &[(&["l"], 1_000.0)]);
    let never = levels(&[(Metric::ListLoaded, &["l"], 0.0)]);
    check(&rule(Metric::ListLoaded, Aggregation::Age, &["list"], &[]), &never, &[]);
}

#[test]
fn counters_over_a_window() {
    let increase = rule(Metric::Requests, Aggregation::Increase, &["route"], &[("status", "5xx")]);
    let mut sampler = Sampler::default();
    let mut told = |second, sums: &[(&[&str], u64)]| {
        let values = sampler.values(&increase, &counts(Metric::Requests, sums), at(second));
        values.into_iter().map(|(group, value)| (group.join(","), value)).collect::<Vec<_>>()
    };
    let a: &[&str] = &["/a", "5xx"];
    let b: &[&str] = &["/b", "5xx"];
    // What there was before says nothing.
    assert_eq!(told(0, &[(a, 1_000)]), []);
    assert_eq!(told(1, &[(a, 1_003)]), [("/a".to_owned(), 3.0)]);
    // What is new began at nothing.
    assert_eq!(told(30, &[(a, 1_003), (b, 7)]), [("/a".to_owned(), 3.0), ("/b".to_owned(), 7.0)]);
    // The window moves on.
    assert_eq!(told(62, &[(a, 1_004), (b, 7)]), [("/a".to_owned(), 1.0), ("/b".to_owned(), 7.0)]);
    assert_eq!(told(95, &[(a, 1_004), (b, 7)]), [("/a".to_owned(), 1.0), ("/b".to_owned(), 0.0)]);
    // A guard that starts anew counts from zero: that is no increase, and nothing negative.
    assert_eq!(told(96, &[(a, 2), (b, 7)]), [("/b".to_owned(), 0.0)]);
    assert_eq!(told(97, &[(a, 5), (b, 7)]), [("/a".to_owned(), 3.0), ("/b".to_owned(), 0.0)]);
}

#[test]
fn rates_and_shares() {
    let rate = rule(Metric::Requests, Aggregation::Rate, &[], &[]);
    let mut sampler = Sampler::default();
    let a: &[&str] = &["/a", "2xx"];
    let bad: &[&str] = &["/a", "5xx"];
    let sums = |good, errors| counts(Metric::Requests, &[(a, good), (bad, errors)]);
    assert_eq!(sampler.values(&rate, &sums(0, 0), at(0)), []);
    assert_eq!(sampler.values(&rate, &sums(100, 0), at(1)), [], "too short a time");
    assert_eq!(sampler.values(&rate, &sums(100, 0), at(10)), [(group(&[]), 10.0)]);

    let share = rule(Metric::Requests, Aggregation::Share(vec![Match::new("status", "5xx")]), &["route"], &[]);
    let mut sampler = Sampler::default();
    assert_eq!(sampler.values(&share, &sums(100, 50), at(0)), []);
    assert_eq!(sampler.values(&share, &sums(104, 55), at(1)), [], "too few");
    assert_eq!(sampler.values(&share, &sums(115, 55), at(2)), [(group(&["/a"]), 0.25)]);
    // Nothing more: there is no share of nothing.
    assert_eq!(sampler.values(&share, &sums(115, 55), at(200)), []);
}

#[test]
fn quantiles_are_of_the_window() {
    let quantile = rule(Metric::RequestDuration, Aggregation::Quantile(990_000), &["route"], &[]);
    let sums = |fast: u64, slow: u64| -> Sums {
        let buckets = vec![(80, fast), (130, slow)];
        [(
            Series::new(Metric::RequestDuration, &["/a"]),
            SeriesValue::Histogram(Histogram { sum: fast + slow, buckets }),
        )]
        .into()
    };
    let mut sampler = Sampler::default();
    assert_eq!(sampler.values(&quantile, &sums(100, 100), at(0)), []);
    let fast = sampler.values(&quantile, &sums(200, 100), at(10));
    let slow = sampler.values(&quantile, &sums(300, 105), at(20));
    assert!(fast[0].1 < 0.1 && slow[0].1 > 4.0, "{fast:?} {slow:?}");
}

#[test]
fn memory_is_bounded() {
    let rule = rule(Metric::Requests, Aggregation::Rate, &["route"], &[]);
    let mut sampler = Sampler::default();
    for second in 0..400 {
        let sums = (0..500).map(|route| {
            (Series::new(Metric::Requests, &[&format!("/{second}/{route}"), "2xx"]), SeriesValue::Count(1))
        });
        sampler.values(&rule, &sums.collect(), at(second));
    }
    assert!(sampler.groups.len() <= MAX_GROUPS);
    let sums = counts(Metric::Requests, &[(&["/a", "2xx"], 1)]);
    for second in 500..1_000 {
        sampler.values(&rule, &sums, at(second));
    }
    assert_eq!(sampler.groups.len(), 1, "what is gone is forgotten");
    assert!(sampler.groups.values().all(|points| points.len() <= 62));
}

#[test]
fn what_there_is_no_room_for_is_counted_once() {
    let gauge = rule(Metric::Bans, Aggregation::Value, &["rule"], &[]);
    let counter = rule(Metric::Requests, Aggregation::Rate, &["route"], &[]);
    let sums = |many: usize| -> Sums {
        let names = (0..many).map(|number| format!("{number:04}"));
        let series = names.flat_map(|name| {
            let gauge = (Series::new(Metric::Bans, &["rule", &name, "enforce"]), SeriesValue::Level(1.0));
            [gauge, (Series::new(Metric::Requests, &[&name, "2xx"]), SeriesValue::Count(1))]
        });
        series.collect()
    };
    for rule in [gauge, counter] {
        let mut sampler = Sampler::default();
        for (second, many, expect) in [
            (0, MAX_GROUPS, 0),
            (1, MAX_GROUPS + 7, 7),
            (2, MAX_GROUPS + 7, 0),
            (3, MAX_GROUPS + 9, 2),
            (4, MAX_GROUPS + MAX_LEFT_OUT + 50, MAX_LEFT_OUT - 9),
            (5, MAX_GROUPS, 0),
            (6, MAX_GROUPS + 1, 1),
        ] {
            sampler.values(&rule, &sums(many), at(second));
            assert_eq!(sampler.take_left_out(), u64::try_from(expect).unwrap(), "{:?} at {second}", rule.metric);
        }
    }
}
