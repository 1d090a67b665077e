//! The alerts that the program brings: what operators lose sleep over.

use std::time::Duration;

use super::{Aggregation, AlertComparison, AlertCondition, AlertRule, Match, Severity};
use crate::metric::Metric;

/// One of them, as it stands in the table.
struct Row {
    name: &'static str,
    severity: Severity,
    metric: Metric,
    measure: Aggregation,
    filter: &'static [(&'static str, &'static str)],
    by: &'static [&'static str],
    condition: (AlertComparison, f64),
    hold: u64,
    recover_after: u64,
    window: u64,
    summary: &'static str,
}

/// Usual values: a gauge that is not 0 for as long as nothing else is said.
const fn row(name: &'static str, severity: Severity, metric: Metric, summary: &'static str) -> Row {
    Row {
        name,
        severity,
        metric,
        measure: Aggregation::Value,
        filter: &[],
        by: &[],
        condition: (AlertComparison::Above, 0.0),
        hold: 0,
        recover_after: 60,
        window: 300,
        summary,
    }
}

const DAY: f64 = 86_400.0;

/// All of them, in the order of their names.
#[must_use]
pub fn rules() -> Vec<AlertRule> {
    rows().into_iter().map(rule).collect()
}

fn rule(row: Row) -> AlertRule {
    let (comparison, bound) = row.condition;
    AlertRule {
        name: row.name.to_owned(),
        severity: row.severity,
        metric: row.metric,
        measure: row.measure,
        filter: row.filter.iter().map(|(label, pattern)| Match::new(label, pattern)).collect(),
        by: row.by.iter().map(|label| (*label).to_owned()).collect(),
        condition: AlertCondition { comparison, bound },
        hold: Duration::from_secs(row.hold),
        recover_after: Duration::from_secs(row.recover_after),
        window: Duration::from_secs(row.window),
        at_least: 0,
        labels: Vec::new(),
        summary: row.summary.to_owned(),
        runbook: None,
        is_builtin: true,
    }
}

fn rows() -> Vec<Row> {
    use AlertComparison::{Above, Below};
    use Severity::{Critical, Info, Warning};
    let increases = |row: Row| Row { measure: Aggregation::Increase, ..row };
    vec![
        row(
            "alert_receiver_failing",
            Warning,
            Metric::AlertReceiverFailing,
            "alerts cannot be sent to the receiver {receiver}; `gateway alert list` says why",
        )
        .by(&["receiver"])
        .hold(300),
        row(
            "alert_state_unsaved",
            Warning,
            Metric::AlertStateSaved,
            "alerts and what waits to be sent cannot be written to the disk",
        )
        .when(Below, 1.0)
        .hold(60),
        row(
            "audit_anchor_failing",
            Warning,
            Metric::AnchorFailing,
            "checkpoints of the audit chain do not reach the anchor {anchor}",
        )
        .by(&["anchor"])
        .hold(300),
        row(
            "audit_failing",
            Critical,
            Metric::AuditFailing,
            "decisions cannot be recorded: nobody is banned, and what an operator lifts is recorded later",
        ),
        row("anomaly", Warning, Metric::Anomalies, "{sentence}")
            .only(&[
                ("measure", "!request*"),
                ("measure", "!response*"),
                ("measure", "!sources"),
                ("measure", "!principals"),
            ])
            .by(&["of", "measure"]),
        row("anomaly_of_traffic", Info, Metric::Anomalies, "{sentence}")
            .only(&[("measure", "!failures"), ("measure", "!error_share"), ("measure", "!latency")])
            .by(&["of", "measure"]),
        increases(row(
            "access_log_dropped",
            Warning,
            Metric::AccessLogDropped,
            "lines of the access log that were lost within 5 minutes: {value} ({reason})",
        ))
        .by(&["reason"]),
        Row {
            measure: Aggregation::DividedBy(Metric::BlocksMax),
            ..row(
                "blocks_nearly_full",
                Warning,
                Metric::Blocks,
                "{value} of the room for blocks is taken (guard.max_bans)",
            )
        }
        .when(Above, 0.9)
        .hold(60),
        Row {
            measure: Aggregation::Left,
            ..row("certificate_ends", Warning, Metric::CertificateEnd, "the certificate {file} expires in {value}")
        }
        .by(&["certificate", "file"])
        .when(Below, 14.0 * DAY),
        Row {
            measure: Aggregation::Left,
            ..row(
                "certificate_ends_now",
                Critical,
                Metric::CertificateEnd,
                "the certificate {file} expires in {value}, or has expired",
            )
        }
        .by(&["certificate", "file"])
        .when(Below, 2.0 * DAY),
        row("cluster_store_down", Warning, Metric::ClusterStoreUp, "the store of shared limits does not answer")
            .when(Below, 1.0)
            .hold(30),
        row(
            "config_refused",
            Warning,
            Metric::ReloadSuccessful,
            "the last reload was refused: the configuration before it is in force",
        )
        .when(Below, 1.0)
        .ends_at_once(),
        row(
            "crowdsec_down",
            Warning,
            Metric::CrowdsecUp,
            "CrowdSec does not answer: its decisions stay in force until they expire, and bans wait to be told",
        )
        .when(Below, 1.0)
        .hold(60),
        Row {
            measure: Aggregation::DividedBy(Metric::DiskSize),
            ..row("disk_full", Critical, Metric::DiskAvailable, "{value} of the disk of {folder} is left")
        }
        .by(&["folder"])
        .when(Below, 0.05)
        .hold(60),
        increases(row(
            "drift",
            Warning,
            Metric::Repairs,
            "entries or attachments that the kernel lost within 5 minutes, and that were put right: {value}",
        )),
        Row {
            measure: Aggregation::LessThan(Metric::InterfacesWanted),
            ..row(
                "enforcement_lost",
                Critical,
                Metric::Interfaces,
                "XDP is missing on interfaces, where the kernel enforces no bans: {value}",
            )
        }
        .hold(10),
        row(
            "files_refused",
            Warning,
            Metric::FilesRefused,
            "files have changed and cannot be used; those before are in force",
        )
        .hold(60)
        .ends_at_once(),
        row(
            "good_clients_fail",
            Critical,
            Metric::GoodClientsFail,
            "{value} good clients fail together by {signal} on the route {route}: it is no fault of theirs",
        )
        .by(&["signal", "route"]),
        row("guard_silent", Critical, Metric::Silence, "the guard has said nothing for {value}: no ban is decided")
            .only(&[("role", "guard")])
            .when(Above, 15.0),
        row(
            "introspection_paused",
            Warning,
            Metric::IntrospectionPaused,
            "the introspection server {server} failed and is not asked",
        )
        .by(&["server"])
        .hold(60),
        row(
            "keys_stale",
            Warning,
            Metric::KeysStale,
            "the keys of the issuer {issuer} get old, as they cannot be fetched; `gateway status` says why",
        )
        .by(&["issuer"])
        .hold(60),
        row(
            "keys_unusable",
            Critical,
            Metric::KeysUsable,
            "the keys of the issuer {issuer} are missing or too old: its tokens are refused",
        )
        .by(&["issuer"])
        .when(Below, 1.0)
        .hold(60),
        row(
            "list_refused",
            Warning,
            Metric::ListRefused,
            "what was fetched of the list {list} is not taken, and the list before stays in force; `gateway feed list` says why",
        )
        .by(&["list"]),
        row(
            "list_stale",
            Warning,
            Metric::ListStale,
            "the file of the list {list} was not written for longer than its stale_after",
        )
        .by(&["list"])
        .only(&[("origin", "file")]),
        row(
            "list_unconfirmed",
            Warning,
            Metric::ListStale,
            "the list {list} could not be fetched for longer than its stale_after; `gateway feed list` says why",
        )
        .by(&["list"])
        .only(&[("origin", "url")]),
        row(
            "mass_ban_breaker",
            Critical,
            Metric::RulesPaused,
            "the breaker keeps rules from banning: too many clients would be banned at once; see `gateway status`",
        ),
        increases(row("process_restarted", Warning, Metric::ProcessRestarts, "the {role} died and was started again"))
            .by(&["role"]),
        row("proxy_silent", Critical, Metric::Silence, "no proxy that serves has said anything for {value}")
            .only(&[("role", "proxy")])
            .when(Above, 15.0)
            // A gateway that is told to stop drains for so long.
            .hold(30),
        increases(row(
            "proxy_standstill",
            Critical,
            Metric::ProxyStandstills,
            "a proxy answered nothing any more and was replaced",
        )),
        row("quota_store_down", Warning, Metric::QuotaStoreUp, "what was used up of quotas cannot be written")
            .when(Below, 1.0)
            .hold(60),
        increases(row("telemetry_lost", Info, Metric::Lost, "{what} lost within 5 minutes: {value}"))
            .by(&["what"]),
        row(
            "upstream_server_down",
            Warning,
            Metric::UpstreamServer,
            "the server {server} of the upstream {upstream} is down",
        )
        .only(&[("state", "down")])
        .by(&["upstream", "server"])
        .hold(10),
        increases(row(
            "upstream_without_server",
            Critical,
            Metric::UpstreamWithoutServer,
            "the upstream {upstream} has no server to use; requests that failed within a minute: {value}",
        ))
        .by(&["upstream"])
        .within(60),
    ]
}

impl Row {
    fn by(self, by: &'static [&'static str]) -> Self {
        Self { by, ..self }
    }

    fn hold(self, hold: u64) -> Self {
        Self { hold, ..self }
    }

    /// Somebody puts it right by one act, such as a reload. It does not come and go, so nobody waits for it to stay right.
    fn ends_at_once(self) -> Self {
        Self { recover_after: 0, ..self }
    }

    fn only(self, filter: &'static [(&'static str, &'static str)]) -> Self {
        Self { filter, ..self }
    }

    fn when(self, comparison: AlertComparison, bound: f64) -> Self {
        Self { condition: (comparison, bound), ..self }
    }

    fn within(self, window: u64) -> Self {
        Self { window, ..self }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::metric::MetricKind;

    #[test]
    fn what_a_reload_puts_right_ends_with_it() {
        let rules = rules();
        let at_once = rules.iter().filter(|rule| rule.recover_after.is_zero());
        let names: Vec<&str> = at_once.map(|rule| &*rule.name).collect();
        assert_eq!(names, ["config_refused", "files_refused"]);
    }

    #[test]
    fn each_can_be_evaluated_and_told() {
        let rules = rules();
        let names: BTreeSet<&str> = rules.iter().map(|rule| &*rule.name).collect();
        assert_eq!(names.len(), rules.len());
        for rule in &rules {
            let row = rule.metric.row();
            assert_eq!(rule.measure.has_window(), row.kind == MetricKind::Counter, "{}", rule.name);
            let known = |label: &str| row.labels.contains(&label);
            assert!(rule.by.iter().all(|label| known(label)), "{}", rule.name);
            assert!(rule.filter.iter().all(|filter| known(&filter.label)), "{}", rule.name);
            for part in rule.summary.split('{').skip(1) {
                let (name, _) = part.split_once('}').unwrap();
                assert!(
                    ["value", "sentence"].contains(&name) || rule.by.iter().any(|label| label == name),
                    "{}: {name}",
                    rule.name
                );
            }
        }
    }
}
