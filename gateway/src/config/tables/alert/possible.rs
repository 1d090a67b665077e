//! Which values a label of a metric can have, where that is known: an alert about another one could never fire.

use gateway_common::verdict::Verdict;

use crate::{metric::Metric, refusal::Reject, settings::alert::Match, signal::Signal};

const MODES: &[&str] = &["enforce", "shadow"];

/// What anomalies are found of.
const MEASURES: &[&str] =
    &["error_share", "failures", "latency", "principals", "request_size", "requests", "response_size", "sources"];

/// Every value that the label can have; `None`: names of the configuration, versions and the like.
pub(in crate::config) fn values(metric: Metric, label: &str) -> Option<Vec<&'static str>> {
    let some: &[&str] = match (metric, label) {
        (Metric::AccessLogDropped, "reason") => &["disk_full", "too_long", "too_slow", "unreachable", "unwritable"],
        (Metric::Alerts, "severity") => &["info", "warning", "critical"],
        (Metric::Alerts, "state") => &["pending", "firing", "silenced"],
        (Metric::AlertNotifications, "result") => &["sent", "heartbeat", "failed", "refused", "dropped"],
        (Metric::Anomalies | Metric::UsualRatio, "measure") => MEASURES,
        (Metric::AnomalyActions, "action") => &["limit", "clamp", "ban"],
        (Metric::AnomalyActions, "result") => &["done", "goes_on", "refused"],
        (Metric::Authentications, "result") => {
            let refused = Reject::ALL.iter().filter(|reject| reject.is_unauthenticated());
            return Some(["accepted"].into_iter().chain(refused.map(|reject| reject.row().label)).collect());
        }
        (Metric::BandwidthBytes | Metric::BandwidthWaits, "direction") => &["upload", "download"],
        (Metric::Bans | Metric::BansBegun | Metric::Clamps, "mode") => MODES,
        (Metric::Bans | Metric::BansBegun, "origin") => &["rule", "operator", "token", "guard", "cluster"],
        (Metric::ClusterCalls, "result") => &["answered", "failed"],
        (Metric::CrawlerLookups, "result") => &["verified", "false", "failed", "busy"],
        (Metric::CrawlerRequests, "result") => &["false", "unknown", "verified"],
        (Metric::CrowdsecPulls, "result") => &["ok", "failed"],
        (Metric::CrowdsecSkipped, "reason") => &["own", "other", "simulated"],
        (Metric::CrowdsecTold, "result") => &["ok", "lifted", "failed", "dropped"],
        (Metric::DistinctClients, "what") => &["sources", "principals"],
        (Metric::FileChanges | Metric::Reloads, "result") => &["ok", "refused"],
        (Metric::Introspections, "result") => &["active", "inactive", "failed", "credentials", "paused", "over_limit"],
        (Metric::LimitRequests, "result") => &["admitted", "refused", "shadow"],
        (Metric::ListFetches, "result") => &["changed", "unchanged", "failed", "refused"],
        (Metric::Packets | Metric::PacketBytes, "verdict") => {
            return Some(Verdict::ALL.iter().map(|verdict| verdict.name()).collect());
        }
        (Metric::PriorityRequests, "result") => &["served", "cpu", "memory", "upstream"],
        (Metric::ProcessRestarts, "role") => &["guard", "proxy", "observer"],
        (Metric::ProcessUp, "role") => &["launcher", "guard", "proxy", "observer"],
        (Metric::Refusals, "reason") => {
            return Some(Reject::ALL.iter().map(|reject| reject.row().label).collect());
        }
        (Metric::Requests, "status") => &["1xx", "2xx", "3xx", "4xx", "5xx", "client_left"],
        (Metric::Signals, "signal") => return Some(Signal::ALL.iter().map(|signal| signal.name()).collect()),
        (Metric::Silence, "role") => &["guard", "proxy"],
        (Metric::TlsHandshakes, "version") => &["1.2", "1.3"],
        (Metric::TlsFailures, "reason") => {
            &["bad_handshake", "client_gone", "no_certificate", "no_client_certificate", "slow"]
        }
        (Metric::UpstreamConcurrent, "state") => &["in_flight", "waiting"],
        (Metric::UpstreamRequests, "status") => &["1xx", "2xx", "3xx", "4xx", "5xx", "error"],
        (Metric::UpstreamServer, "state") => &["up", "slow", "failing", "ejected", "down"],
        (Metric::WafRequests, "result") => &["passed", "refused", "reported", "not_inspected"],
        _ => return None,
    };
    Some(some.to_vec())
}

/// What is wrong with a pattern that can match nothing, or leaves nothing out: what, and what would be right.
pub(in crate::config) fn judge(metric: Metric, one: &Match) -> Result<(), (String, String)> {
    let Some(values) = values(metric, &one.label) else { return Ok(()) };
    let hint = format!("it can be: {}", values.join(", "));
    let (label, name) = (&one.label, metric.row().name);
    let names = Match { is_not: false, ..one.clone() };
    if !values.iter().any(|value| names.is_met(value)) {
        return Err((format!("{label} of {name} is never {:?}", one.pattern), hint));
    }
    if !values.iter().any(|value| one.is_met(value)) {
        return Err((format!("{label} of {name} is always {:?}: nothing is left", one.pattern), hint));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{log::drops::DropReason, message::ANSWERS, settings::alert::builtin};

    /// What is written out here is what is counted.
    #[test]
    fn values_are_those_that_are_counted() {
        assert_eq!(values(Metric::Requests, "status").unwrap(), ANSWERS);
        let classes = crate::policy::admission::Shed::ALL.iter().map(|(_, name)| *name);
        let expect: Vec<&str> = ["served"].into_iter().chain(classes).collect();
        assert_eq!(values(Metric::PriorityRequests, "result").unwrap(), expect);
        assert_eq!(values(Metric::Introspections, "result").unwrap(), crate::policy::auth::introspection::RESULTS);
        let unauthorized = Reject::ALL.iter().filter(|reject| reject.row().status == http::StatusCode::UNAUTHORIZED);
        let expect: Vec<&str> = ["accepted"].into_iter().chain(unauthorized.map(|it| it.row().label)).collect();
        assert_eq!(values(Metric::Authentications, "result").unwrap(), expect);
        let reasons: Vec<&str> = DropReason::ALL.iter().map(|reason| reason.name()).collect();
        assert_eq!(values(Metric::AccessLogDropped, "reason").unwrap(), reasons);
        for metric in Metric::ALL {
            for label in metric.row().labels {
                assert_ne!(values(*metric, label), Some(Vec::new()), "{metric:?} {label}");
            }
        }
        for rule in builtin::rules() {
            for one in &rule.filter {
                assert_eq!(judge(rule.metric, one), Ok(()), "{}: {one:?}", rule.name);
            }
        }
    }
}
