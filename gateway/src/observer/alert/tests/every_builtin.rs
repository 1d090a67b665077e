//! Every built-in alert, from what processes measure to what fires: samples of which it does, and samples of which it
//! does not, as near to the bound as they get.

use std::collections::BTreeSet;

use super::*;
use crate::message::telemetry::{MetricKind, MetricRole, Telemetry};

/// A number that is measured. Moments are in seconds from now. Counters were at 5 before.
type MeasuredSample = (Metric, &'static [&'static str], f64);

/// A built-in alert: its severity and name, after how many seconds it fires, the labels of all that fire then, the
/// samples of which it does, and those of which it does not.
type BuiltinCase = (&'static str, u64, &'static [&'static str], &'static [MeasuredSample], &'static [MeasuredSample]);

const DAY: f64 = 86_400.0;

/// When the samples come.
const START: u64 = 21;

const CASES: &[BuiltinCase] = &[
    (
        "warning alert_receiver_failing",
        300,
        &["receiver=ops"],
        &[(Metric::AlertReceiverFailing, &["ops"], 1.0), (Metric::AlertReceiverFailing, &["night"], 0.0)],
        &[(Metric::AlertReceiverFailing, &["ops"], 0.0)],
    ),
    (
        "warning alert_state_unsaved",
        60,
        &[""],
        &[(Metric::AlertStateSaved, &[], 0.0)],
        &[(Metric::AlertStateSaved, &[], 1.0)],
    ),
    (
        "warning audit_anchor_failing",
        300,
        &["anchor=rekor"],
        &[(Metric::AnchorFailing, &["rekor"], 1.0), (Metric::AnchorFailing, &["hook"], 0.0)],
        &[(Metric::AnchorFailing, &["rekor"], 0.0)],
    ),
    ("critical audit_failing", 0, &[""], &[(Metric::AuditFailing, &[], 1.0)], &[(Metric::AuditFailing, &[], 0.0)]),
    (
        "warning anomaly",
        0,
        &["of=/a measure=error_share", "of=/a measure=failures", "of=/a measure=latency"],
        &[
            (Metric::Anomalies, &["/a", "error_share"], 1.0),
            (Metric::Anomalies, &["/a", "failures"], 1.0),
            (Metric::Anomalies, &["/a", "latency"], 1.0),
        ],
        &[
            (Metric::Anomalies, &["/a", "principals"], 1.0),
            (Metric::Anomalies, &["/a", "request_size"], 1.0),
            (Metric::Anomalies, &["/a", "requests"], 1.0),
            (Metric::Anomalies, &["/a", "response_size"], 1.0),
            (Metric::Anomalies, &["/a", "sources"], 1.0),
        ],
    ),
    (
        "info anomaly_of_traffic",
        0,
        &[
            "of=/a measure=principals",
            "of=/a measure=request_size",
            "of=/a measure=requests",
            "of=/a measure=response_size",
            "of=/a measure=sources",
        ],
        &[
            (Metric::Anomalies, &["/a", "principals"], 1.0),
            (Metric::Anomalies, &["/a", "request_size"], 1.0),
            (Metric::Anomalies, &["/a", "requests"], 1.0),
            (Metric::Anomalies, &["/a", "response_size"], 1.0),
            (Metric::Anomalies, &["/a", "sources"], 1.0),
        ],
        &[
            (Metric::Anomalies, &["/a", "error_share"], 1.0),
            (Metric::Anomalies, &["/a", "failures"], 1.0),
            (Metric::Anomalies, &["/a", "latency"], 1.0),
        ],
    ),
    (
        "warning access_log_dropped",
        0,
        &["reason=full"],
        &[(Metric::AccessLogDropped, &["full"], 6.0), (Metric::AccessLogDropped, &["failed"], 5.0)],
        &[(Metric::AccessLogDropped, &["full"], 5.0)],
    ),
    (
        "warning blocks_nearly_full",
        60,
        &[""],
        &[(Metric::Blocks, &[], 91.0), (Metric::BlocksMax, &[], 100.0)],
        &[(Metric::Blocks, &[], 90.0), (Metric::BlocksMax, &[], 100.0)],
    ),
    (
        "warning certificate_ends",
        0,
        &["certificate=shop file=/a.pem"],
        &[(Metric::CertificateEnd, &["shop", "/a.pem"], 14.0 * DAY - 1.0)],
        &[(Metric::CertificateEnd, &["shop", "/a.pem"], 14.0 * DAY)],
    ),
    (
        "critical certificate_ends_now",
        0,
        &["certificate=old file=/c.pem", "certificate=shop file=/a.pem"],
        &[
            (Metric::CertificateEnd, &["shop", "/a.pem"], 2.0 * DAY - 1.0),
            (Metric::CertificateEnd, &["other", "/b.pem"], 2.0 * DAY),
            (Metric::CertificateEnd, &["old", "/c.pem"], -DAY),
        ],
        &[(Metric::CertificateEnd, &["shop", "/a.pem"], 2.0 * DAY)],
    ),
    (
        "warning cluster_store_down",
        30,
        &[""],
        &[(Metric::ClusterStoreUp, &[], 0.0)],
        &[(Metric::ClusterStoreUp, &[], 1.0)],
    ),
    (
        "warning config_refused",
        0,
        &[""],
        &[(Metric::ReloadSuccessful, &[], 0.0)],
        &[(Metric::ReloadSuccessful, &[], 1.0)],
    ),
    ("warning crowdsec_down", 60, &[""], &[(Metric::CrowdsecUp, &[], 0.0)], &[(Metric::CrowdsecUp, &[], 1.0)]),
    (
        "critical disk_full",
        60,
        &["folder=/state"],
        &[
            (Metric::DiskAvailable, &["/state"], 49.0),
            (Metric::DiskSize, &["/state"], 1_000.0),
            (Metric::DiskAvailable, &["/log"], 49.0),
            (Metric::DiskSize, &["/log"], 100.0),
        ],
        &[(Metric::DiskAvailable, &["/state"], 50.0), (Metric::DiskSize, &["/state"], 1_000.0)],
    ),
    ("warning drift", 0, &[""], &[(Metric::Repairs, &[], 6.0)], &[(Metric::Repairs, &[], 5.0)]),
    (
        "critical enforcement_lost",
        10,
        &[""],
        &[(Metric::Interfaces, &[], 1.0), (Metric::InterfacesWanted, &[], 2.0)],
        &[(Metric::Interfaces, &[], 2.0), (Metric::InterfacesWanted, &[], 2.0)],
    ),
    ("warning files_refused", 60, &[""], &[(Metric::FilesRefused, &[], 1.0)], &[(Metric::FilesRefused, &[], 0.0)]),
    (
        "critical good_clients_fail",
        0,
        &["signal=upstream_error route=/items"],
        &[(Metric::GoodClientsFail, &["upstream_error", "/items"], 3.0)],
        &[(Metric::GoodClientsFail, &["upstream_error", "/items"], 0.0)],
    ),
    (
        "critical guard_silent",
        0,
        &[""],
        &[(Metric::Silence, &["guard"], 15.5), (Metric::Silence, &["proxy"], 0.0)],
        &[(Metric::Silence, &["guard"], 15.0), (Metric::Silence, &["proxy"], 100.0)],
    ),
    (
        "warning introspection_paused",
        60,
        &["server=idp"],
        &[(Metric::IntrospectionPaused, &["idp"], 1.0), (Metric::IntrospectionPaused, &["other"], 0.0)],
        &[(Metric::IntrospectionPaused, &["idp"], 0.0)],
    ),
    (
        "warning keys_stale",
        60,
        &["issuer=issuer.staff"],
        &[(Metric::KeysStale, &["issuer.staff"], 1.0), (Metric::KeysStale, &["jwt"], 0.0)],
        &[(Metric::KeysStale, &["issuer.staff"], 0.0)],
    ),
    (
        "critical keys_unusable",
        60,
        &["issuer=issuer.staff"],
        &[(Metric::KeysUsable, &["issuer.staff"], 0.0), (Metric::KeysUsable, &["jwt"], 1.0)],
        &[(Metric::KeysUsable, &["issuer.staff"], 1.0)],
    ),
    (
        "warning list_refused",
        0,
        &["list=drop"],
        &[(Metric::ListRefused, &["drop"], 1.0), (Metric::ListRefused, &["other"], 0.0)],
        &[(Metric::ListRefused, &["drop"], 0.0)],
    ),
    (
        "warning list_stale",
        0,
        &["list=drop"],
        &[(Metric::ListStale, &["drop", "file"], 1.0)],
        &[(Metric::ListStale, &["drop", "file"], 0.0), (Metric::ListStale, &["other", "url"], 1.0)],
    ),
    (
        "warning list_unconfirmed",
        0,
        &["list=drop"],
        &[(Metric::ListStale, &["drop", "url"], 1.0)],
        &[(Metric::ListStale, &["drop", "url"], 0.0), (Metric::ListStale, &["other", "file"], 1.0)],
    ),
    ("critical mass_ban_breaker", 0, &[""], &[(Metric::RulesPaused, &[], 1.0)], &[(Metric::RulesPaused, &[], 0.0)]),
    (
        "warning process_restarted",
        0,
        &["role=guard"],
        &[(Metric::ProcessRestarts, &["guard"], 6.0), (Metric::ProcessRestarts, &["proxy"], 5.0)],
        &[(Metric::ProcessRestarts, &["guard"], 5.0)],
    ),
    (
        "critical proxy_silent",
        30,
        &[""],
        &[(Metric::Silence, &["proxy"], 15.5), (Metric::Silence, &["guard"], 0.0)],
        &[(Metric::Silence, &["proxy"], 15.0), (Metric::Silence, &["guard"], 100.0)],
    ),
    (
        "critical proxy_standstill",
        0,
        &[""],
        &[(Metric::ProxyStandstills, &[], 6.0)],
        &[(Metric::ProxyStandstills, &[], 5.0)],
    ),
    ("warning quota_store_down", 60, &[""], &[(Metric::QuotaStoreUp, &[], 0.0)], &[(Metric::QuotaStoreUp, &[], 1.0)]),
    (
        "info telemetry_lost",
        0,
        &["what=shed"],
        &[(Metric::Lost, &["shed"], 6.0), (Metric::Lost, &["traces"], 5.0)],
        &[(Metric::Lost, &["shed"], 5.0)],
    ),
    (
        "warning upstream_server_down",
        10,
        &["upstream=items server=a:1"],
        &[
            (Metric::UpstreamServer, &["items", "a:1", "down"], 1.0),
            (Metric::UpstreamServer, &["items", "b:1", "up"], 1.0),
        ],
        &[
            (Metric::UpstreamServer, &["items", "a:1", "down"], 0.0),
            (Metric::UpstreamServer, &["items", "a:1", "ejected"], 1.0),
            (Metric::UpstreamServer, &["items", "b:1", "failing"], 1.0),
            (Metric::UpstreamServer, &["items", "c:1", "slow"], 1.0),
        ],
    ),
    (
        "critical upstream_without_server",
        0,
        &["upstream=items"],
        &[(Metric::UpstreamWithoutServer, &["items"], 6.0), (Metric::UpstreamWithoutServer, &["other"], 5.0)],
        &[(Metric::UpstreamWithoutServer, &["items"], 5.0)],
    ),
];

/// Tells the store of samples as processes do. `is_before`: only what counters said before.
#[track_caller]
fn tell(store: &mut Store, samples: &[MeasuredSample], is_before: bool) {
    for (metric, labels, number) in samples {
        let (row, mut told) = (metric.row(), Samples::default());
        match row.kind {
            MetricKind::Counter if is_before => told.count(*metric, labels, 5),
            _ if is_before => continue,
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "5 or 6")]
            MetricKind::Counter => told.count(*metric, labels, *number as u64),
            #[expect(clippy::cast_precision_loss, reason = "seconds of a test")]
            _ if row.name.ends_with("_timestamp_seconds") => {
                told.number(*metric, labels, number + (at(START).unix_millis / 1_000) as f64);
            }
            _ => told.number(*metric, labels, *number),
        }
        let role = if row.role == MetricRole::Every { MetricRole::Proxy } else { row.role };
        store.receive((role, 0), Telemetry { serves: true, changed: told.into_inner(), ..Telemetry::default() });
    }
    assert_eq!(store.refused(), 0, "{samples:?}");
}

/// The labels of the alerts of this severity and name that fire, `hold` seconds after such samples have come.
#[track_caller]
fn firing(alert: &str, samples: &[MeasuredSample], hold: u64) -> Vec<String> {
    let alerts = Alerts::new(at(0));
    let rules = builtin::rules();
    alerts.configure(&alert::Settings { rules: rules.clone(), receivers: Vec::new() }, at(0));
    let mut store = Store::default();
    tell(&mut store, samples, true);
    alerts.evaluate(&store.sums(), &Sentences::new(), at(START - 1));
    tell(&mut store, samples, false);
    alerts.evaluate(&store.sums(), &Sentences::new(), at(START));
    alerts.evaluate(&store.sums(), &Sentences::new(), at(START + hold));
    let tracker = alerts.tracker.borrow();
    let is_it = |one: &&Tracked| format!("{} {}", one.alert.severity.name(), one.rule) == alert;
    let labels = |one: &Tracked| {
        let rule = rules.iter().find(|rule| rule.name == one.rule).unwrap();
        let labels = rule.by.iter().map(|label| format!("{label}={}", one.alert.labels[label]));
        assert!(!one.alert.summary.contains(['{', '}']), "{}", one.alert.summary);
        labels.collect::<Vec<_>>().join(" ")
    };
    let mut told: Vec<String> = tracker.firing().filter(is_it).map(labels).collect();
    told.sort();
    told
}

#[test]
fn every_built_in_alert_fires_when_it_should() {
    for (alert, hold, labels, fires, quiet) in CASES {
        assert_eq!(firing(alert, fires, *hold), *labels, "{alert}");
        assert_eq!(firing(alert, quiet, *hold), [] as [&str; 0], "{alert}: quiet");
        if *hold > 0 {
            assert_eq!(firing(alert, fires, hold - 1), [] as [&str; 0], "{alert}: too early");
        }
    }
}

#[test]
fn there_is_a_case_of_every_built_in_alert() {
    let cases: Vec<String> = CASES.iter().map(|(alert, ..)| (*alert).to_owned()).collect();
    let rules = builtin::rules();
    let known: BTreeSet<String> = rules.iter().map(|rule| format!("{} {}", rule.severity.name(), rule.name)).collect();
    assert_eq!(cases.len(), known.len());
    assert_eq!(cases.into_iter().collect::<BTreeSet<_>>(), known);
}
