//! Alerts begin and end by the clock.

use std::time::Duration;

use super::*;
use crate::{
    message::telemetry::Metric,
    os::clock::SECOND,
    settings::alert::{Aggregation, AlertComparison, AlertCondition},
};

fn rule(hold: u64, recover_after: u64) -> AlertRule {
    AlertRule {
        name: "errors".to_owned(),
        severity: Severity::Critical,
        metric: Metric::Requests,
        measure: Aggregation::Share(Vec::new()),
        filter: Vec::new(),
        by: vec!["route".to_owned()],
        condition: AlertCondition { comparison: AlertComparison::Above, bound: 0.05 },
        hold: Duration::from_secs(hold),
        recover_after: Duration::from_secs(recover_after),
        window: Duration::from_secs(60),
        at_least: 0,
        labels: vec![("team".to_owned(), "shop".to_owned())],
        summary: "{route} of {team} has {value} errors".to_owned(),
        runbook: None,
        is_builtin: false,
    }
}

fn words() -> Words<'static> {
    static NONE: Sentences = Sentences::new();
    Words { instance: "host", sentences: &NONE }
}

fn at(second: u64) -> Now {
    Now { monotonic: second * SECOND, unix_millis: second * 1_000 }
}

/// What each second brings: the second, the share of errors, and what begins or ends then.
#[track_caller]
fn check(rule: &AlertRule, seconds: &[(u64, Option<f64>, &str)]) {
    let mut tracker = Tracker::default();
    for (second, share, expect) in seconds {
        let values: Vec<_> = share.iter().map(|share| (vec!["/a".to_owned()], *share)).collect();
        let changes = tracker.observe(rule, &values, words(), at(*second));
        let told: Vec<String> = changes
            .iter()
            .map(|change| match change {
                AlertChange::Began(alert) => format!("began: {}", alert.summary),
                AlertChange::Ended(alert) => format!("ended after {}", (alert.ended.unwrap() - alert.began) / 1_000),
            })
            .collect();
        assert_eq!(told.join("; "), *expect, "at {second}");
    }
}

#[test]
fn conditions_hold_for_their_time() {
    let began = "began: /a of shop has 10 % errors";
    check(&rule(0, 0), &[(0, Some(0.1), began), (1, Some(0.2), ""), (2, Some(0.05), "ended after 2"), (3, None, "")]);
    check(
        &rule(120, 0),
        &[(0, Some(0.3), ""), (119, Some(0.3), ""), (120, Some(0.1), began), (121, None, "ended after 1")],
    );
    // It did not hold in between.
    check(&rule(120, 0), &[(0, Some(0.3), ""), (60, Some(0.0), ""), (61, Some(0.3), ""), (130, Some(0.3), "")]);
    check(
        &rule(0, 60),
        &[
            (0, Some(0.1), began),
            (10, Some(0.0), ""),
            (30, Some(0.2), ""),
            (40, Some(0.0), ""),
            (99, None, ""),
            (100, None, "ended after 100"),
            (101, Some(0.1), began),
        ],
    );
}

#[test]
fn alerts_that_go_on_say_how_it_is_now() {
    let rule = rule(0, 60);
    let mut tracker = Tracker::default();
    let mut look = |second, share: f64| tracker.observe(&rule, &[(vec!["/a".to_owned()], share)], words(), at(second));
    let Some(AlertChange::Began(told)) = look(0, 0.1).pop() else { panic!("it does not begin") };
    assert_eq!(look(1, 0.2), []);
    // It recovers, for now: what was measured while the condition held counts.
    assert_eq!(look(2, 0.01), []);
    let mut again = [told.clone(), TrackedAlert { fingerprint: "another".to_owned(), ..told.clone() }];
    tracker.refresh(&mut again);
    let said = again.map(|alert| alert.summary);
    assert_eq!(said, ["/a of shop has 20 % errors", "/a of shop has 10 % errors"]);
    assert_eq!(tracker.firing().next().unwrap().alert, told, "what is kept does not change with every look");
    match &tracker.observe(&rule, &[], words(), at(62))[..] {
        [AlertChange::Ended(ended)] => assert_eq!(ended.summary, "/a of shop has 20 % errors"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn alerts_outlive_the_observer_and_end_with_their_rule() {
    let rule = rule(0, 60);
    let mut tracker = Tracker::default();
    tracker.observe(&rule, &[(vec!["/a".to_owned()], 0.5)], words(), at(0));
    let kept = serde_json::to_string(&tracker.firing().collect::<Vec<_>>()).unwrap();
    let mut next = Tracker::default();
    next.restore(serde_json::from_str(&kept).unwrap(), at(10));
    // It is known, and is not told again.
    assert_eq!(next.observe(&rule, &[(vec!["/a".to_owned()], 0.5)], words(), at(11)), []);
    assert_eq!(next.observe(&rule, &[], words(), at(12)), []);
    assert!(matches!(&next.observe(&rule, &[], words(), at(72))[..], [AlertChange::Ended(_)]));

    tracker.observe(&rule, &[(vec!["/b".to_owned()], 0.5)], words(), at(1));
    assert_eq!(tracker.keep_rules(&[rule], at(2)), []);
    assert_eq!(tracker.keep_rules(&[], at(2)).len(), 2);
    assert_eq!(tracker.all().count(), 0);
}

#[test]
fn alerts_are_as_bad_as_their_rule_says_now() {
    let worse = AlertRule { runbook: Some("https://wiki.example/".to_owned()), ..rule(0, 0) };
    let mut tracker = Tracker::default();
    let rule = AlertRule { severity: Severity::Warning, ..rule(0, 0) };
    tracker.observe(&rule, &[(vec!["/a".to_owned()], 0.5)], words(), at(0));
    assert_eq!(tracker.keep_rules(std::slice::from_ref(&worse), at(1)), []);
    let now = tracker.firing().next().unwrap().alert.clone();
    assert_eq!((now.severity, &*now.labels["severity"], now.runbook), (Severity::Critical, "critical", worse.runbook));
}

#[test]
fn there_are_not_too_many() {
    let rule = rule(0, 0);
    let many: Vec<_> = (0..MAX_ALERTS + 5).map(|route| (vec![format!("/{route}")], 1.0)).collect();
    let mut tracker = Tracker::default();
    assert_eq!(tracker.observe(&rule, &many, words(), at(0)).len(), MAX_ALERTS);
    assert_eq!((tracker.all().count(), tracker.left_out), (MAX_ALERTS, 5));
    // Each is counted once, as long as it goes on.
    for second in 1..10 {
        assert_eq!(tracker.observe(&rule, &many, words(), at(second)), []);
    }
    assert_eq!(tracker.left_out, 5);
    tracker.observe(&rule, &many[..MAX_ALERTS + 1], words(), at(10));
    tracker.observe(&rule, &many[..MAX_ALERTS + 2], words(), at(11));
    assert_eq!(tracker.left_out, 6, "one of them begins anew");
    // What is remembered of them is bounded.
    let many: Vec<_> = (0..MAX_ALERTS + MAX_LEFT_OUT + 5).map(|route| (vec![format!("/{route}")], 1.0)).collect();
    tracker.observe(&rule, &many, words(), at(12));
    assert_eq!((tracker.beyond.len(), tracker.left_out), (MAX_LEFT_OUT, 4 + u64::try_from(MAX_LEFT_OUT).unwrap()));
    tracker.keep_rules(&[], at(13));
    assert_eq!(tracker.beyond.len(), 0);
}
