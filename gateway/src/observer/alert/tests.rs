//! What is known outlives reloads, restarts and guards, and reaches everybody.

use super::{dispatch::tests::receiver, *};
use crate::{
    message::telemetry::{Series, SeriesValue},
    settings::alert::{AlertComparison, AlertCondition, builtin},
};

mod every_builtin;

fn at(second: u64) -> Now {
    Now { monotonic: second * SECOND, unix_millis: 1_000_000_000_000 + second * 1_000 }
}

/// Two files in memory that keep this.
fn files(kept: &SavedState) -> [OwnedFd; 2] {
    let files = ["a", "b"].map(|name| rustix::fs::memfd_create(name, rustix::fs::MemfdFlags::CLOEXEC).unwrap());
    let copies = files.each_ref().map(|file| file.try_clone().unwrap());
    AlternatingFiles::open::<SavedState>(copies).0.write(kept).unwrap();
    files
}

fn rule() -> AlertRule {
    let condition = AlertCondition { comparison: AlertComparison::Above, bound: 0.0 };
    let severity = Severity::Warning;
    AlertRule { by: Vec::new(), condition, hold: Duration::ZERO, severity, ..builtin::rules().remove(0) }
}

fn settings(receivers: &[&Receiver]) -> alert::Settings {
    alert::Settings { rules: vec![rule()], receivers: receivers.iter().copied().cloned().collect() }
}

/// One alert begins.
fn begin(alerts: &Alerts, second: u64) {
    let sentences = Sentences::new();
    let words = Words { instance: "host", sentences: &sentences };
    let changes = alerts.tracker.borrow_mut().observe(&rule(), &[(Vec::new(), 1.0)], words, at(second));
    assert_eq!(changes.len(), 1);
    alerts.hear(&changes, at(second));
}

/// Whether something waits for this receiver.
fn waits(alerts: &Alerts, receiver: &Receiver, second: u64) -> bool {
    let outboxes = alerts.outboxes.borrow();
    outboxes[&receiver.name].waiting(receiver, &Silences::default(), at(second)) > 0
}

/// Sends what is due, and counts it: what goes on, and what has ended.
fn sent(alerts: &Alerts, receiver: &Receiver, second: u64) -> (usize, usize) {
    let mut outboxes = alerts.outboxes.borrow_mut();
    let outbox = outboxes.get_mut(&receiver.name).unwrap();
    let next = outbox.next(receiver, &Silences::default(), at(second));
    outbox.done(&NotificationOutcome::Sent, receiver.resolved, at(second));
    next.map_or((0, 0), |it| (it.firing.len(), it.ended.len()))
}

fn kept(alerts: &Alerts) -> SavedState {
    SavedState {
        version: VERSION,
        alerts: alerts.tracker.borrow().firing().cloned().collect(),
        silences: Silences::default(),
        outboxes: alerts.outboxes.borrow().clone(),
    }
}

#[test]
fn reloads_reach_what_goes_on() {
    let (ops, worse) = (receiver(), Receiver { severity: Severity::Critical, ..receiver() });
    let alerts = Alerts::new(at(0));
    alerts.configure(&settings(&[&ops]), at(0));
    begin(&alerts, 1);
    assert_eq!(sent(&alerts, &ops, 20), (1, 0));
    alerts.configure(&settings(&[&worse]), at(400));
    assert_eq!(sent(&alerts, &worse, 420), (0, 1), "it is no longer for this receiver");
    assert!(!waits(&alerts, &worse, 90_000));
    // The rule is worse now, and the receiver wants to know of it.
    let mut settings = settings(&[&worse]);
    settings.rules[0].severity = Severity::Critical;
    alerts.configure(&settings, at(800));
    assert_eq!(sent(&alerts, &worse, 820), (1, 0));
}

/// A wrong key loses no page: what was refused is due once the key is another, and after a restart.
#[test]
fn what_was_refused_is_tried_with_other_settings() {
    let url = crate::settings::outbound::SecretUrl { text: "https://events.example/".to_owned(), file: None };
    let pager = |key: &str| {
        let key = crate::os::file::NamedFile { path: "/key".into(), bytes: key.as_bytes().into() };
        let kind = alert::ReceiverKind::PagerDuty { url: url.clone(), key };
        Receiver { kind, repeat: Duration::ZERO, ..receiver() }
    };
    let alerts = Alerts::new(at(0));
    alerts.configure(&settings(&[&pager("wrong")]), at(0));
    begin(&alerts, 1);
    let refuse = |alerts: &Alerts, second| {
        let mut outboxes = alerts.outboxes.borrow_mut();
        let outbox = outboxes.get_mut("ops").unwrap();
        assert!(outbox.next(&pager("wrong"), &Silences::default(), at(second)).is_some());
        outbox.done(&NotificationOutcome::refused("400".to_owned()), true, at(second));
    };
    refuse(&alerts, 20);
    alerts.configure(&settings(&[&pager("wrong")]), at(30));
    assert!(!waits(&alerts, &pager("wrong"), 30), "nothing is other than before");
    alerts.configure(&settings(&[&pager("right")]), at(40));
    assert!(waits(&alerts, &pager("right"), 40));
    refuse(&alerts, 50);
    let next = Alerts::new(at(60));
    next.configure(&settings(&[&pager("right")]), at(60));
    next.restore(files(&kept(&alerts)), at(61));
    assert_eq!(sent(&next, &pager("right"), 62), (1, 0));
    assert_eq!(sent(&next, &pager("right"), 90_000), (0, 0));
}

#[test]
fn restarts_tell_who_is_new_or_wants_to_know_less() {
    let (ops, night) = (receiver(), Receiver { name: "night".to_owned(), ..receiver() });
    let before = Alerts::new(at(0));
    before.configure(&settings(&[&ops]), at(0));
    begin(&before, 1);
    assert_eq!(sent(&before, &ops, 20), (1, 0));
    let alerts = Alerts::new(at(30));
    let worse = Receiver { severity: Severity::Critical, ..receiver() };
    alerts.configure(&settings(&[&worse, &night]), at(30));
    alerts.restore(files(&kept(&before)), at(31));
    assert_eq!((sent(&alerts, &worse, 400), sent(&alerts, &night, 400)), ((0, 1), (1, 0)));
}

/// Whether `config_refused`, which an earlier observer knew, still goes on: at each second, what the guard has told of
/// the last reload.
#[track_caller]
fn goes_on(seconds: &[(u64, Option<f64>, bool)]) {
    let config_refused = builtin::rules().into_iter().find(|rule| rule.name == "config_refused").unwrap();
    let settings = alert::Settings { rules: vec![config_refused], receivers: Vec::new() };
    let sums = |level: Option<f64>| {
        let told = |level| (Series::new(Metric::ReloadSuccessful, &[]), SeriesValue::Level(level));
        level.map(told).into_iter().collect::<Sums>()
    };
    let before = Alerts::new(at(0));
    before.configure(&settings, at(0));
    before.evaluate(&sums(Some(0.0)), &Sentences::new(), at(1));
    let alerts = Alerts::new(at(30));
    alerts.configure(&settings, at(30));
    alerts.restore(files(&kept(&before)), at(30));
    for (second, level, expect) in seconds {
        alerts.evaluate(&sums(*level), &Sentences::new(), at(*second));
        assert_eq!(alerts.tracker.borrow().firing().count() == 1, *expect, "at {second}");
    }
}

#[test]
fn a_refused_reload_is_over_with_the_next_good_one() {
    goes_on(&[(31, Some(0.0), true), (32, Some(1.0), false), (33, Some(0.0), true)]);
    // A restart with a configuration that is good.
    goes_on(&[(31, None, true), (39, None, true), (40, Some(1.0), false)]);
    goes_on(&[(31, None, true), (32, Some(0.0), true), (50, Some(0.0), true)]);
    // Nobody says it any more.
    goes_on(&[(31, None, true), (41, None, false)]);
}

#[test]
fn other_files_bring_nothing_back() {
    let ops = receiver();
    let alerts = Alerts::new(at(0));
    alerts.configure(&settings(&[&ops]), at(0));
    let old = kept(&alerts);
    alerts.restore(files(&old), at(0));
    begin(&alerts, 1);
    // Another guard comes while something is being written.
    let writing = alerts.saved_files.borrow_mut().take();
    alerts.restore(files(&old), at(2));
    assert!(writing.is_some() && alerts.saved_files.borrow().is_some());
    assert_eq!(alerts.tracker.borrow().firing().count(), 1);
    assert_eq!(sent(&alerts, &ops, 20), (1, 0));
}

#[test]
fn heartbeats_that_do_not_arrive_are_told_of() {
    let server = crate::settings::audit::SyslogServer::Unix("/nonexistent/log".into());
    let kind = alert::ReceiverKind::Syslog(server);
    let ops = Receiver { kind, heartbeat: Some(Duration::from_secs(1)), ..receiver() };
    let alerts = Alerts::new(at(0));
    alerts.configure(&settings(&[&ops]), at(0));
    let is_failing = || {
        let mut samples = Samples::default();
        alerts.measure(&mut samples, at(1));
        let mut samples = samples.into_inner().into_iter();
        let found = samples.find(|(series, _)| series.metric == Metric::AlertReceiverFailing);
        matches!(found, Some((_, SeriesValue::Level(level))) if level > 0.5)
    };
    alerts.heartbeats.borrow_mut().insert(ops.name.clone(), Beat::default());
    assert!(!is_failing());
    let target = Rc::clone(&alerts.receivers.borrow()[0]);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(alerts.beat(&target));
    assert!(is_failing());
    // Who is not to be told any more fails no more.
    alerts.configure(&settings(&[&Receiver { heartbeat: None, ..ops }]), at(2));
    assert!(!is_failing());
}

/// A receiver that hangs is told no second time meanwhile that all is well: it would take room from its own alerts.
#[test]
fn one_heartbeat_is_on_its_way_at_a_time() {
    let server = crate::settings::audit::SyslogServer::Unix("/nonexistent/log".into());
    let kind = alert::ReceiverKind::Syslog(server);
    let ops = Receiver { kind, heartbeat: Some(Duration::from_secs(1)), ..receiver() };
    let alerts = Rc::new(Alerts::new(at(0)));
    alerts.configure(&settings(&[&ops]), at(0));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let target = Rc::clone(&alerts.receivers.borrow()[0]);
    let sent = || alerts.heartbeats.borrow()[&ops.name].sent / SECOND;
    tokio::task::LocalSet::new().block_on(&runtime, async {
        for (second, expect) in [(1, 1), (2, 1), (5, 1)] {
            alerts.send_due(true, at(second));
            assert_eq!(sent(), expect, "at {second}");
        }
        alerts.beat(&target).await;
        alerts.send_due(true, at(6));
        assert_eq!(sent(), 6);
    });
}
