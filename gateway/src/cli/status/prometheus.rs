//! Writes `gateway status --prometheus`: the text exposition format of Prometheus, version 0.0.4.
//!
//! *Invariant:* no label is a client's word. Names come from the configuration, everything else from closed lists.

use std::fmt::Write as _;

use crate::{guard::control::Status, message::ServerState};

/// The text; every line ends.
pub(super) fn text(status: &Status) -> String {
    let mut out = Exposition::default();
    let is_up = status.guard_pid != 0;
    out.gauge("gateway_up", "Whether the guard runs.").row(&[], u64::from(is_up));
    out.gauge("gateway_info", "The version.").row(&[("version", &status.version)], 1);
    out.gauge("gateway_uptime_seconds", "Since the guard started.").row(&[], status.uptime_seconds);
    out.gauge("gateway_proxy_up", "Whether a proxy serves.").row(&[], u64::from(status.proxy_pid.is_some()));
    out.counter("gateway_proxy_restarts_total", "How often a proxy was lost.").row(&[], status.proxy_restarts);
    let attached = count(status.interfaces.len());
    out.gauge("gateway_interfaces_attached", "Interfaces with XDP.").row(&[], attached);
    out.gauge("gateway_interfaces_wanted", "Interfaces in the configuration.").row(&[], status.interfaces_wanted);
    let refused = u64::from(status.reload_refused.is_some());
    out.gauge("gateway_reload_refused", "Whether the last reload was refused.").row(&[], refused);
    out.gauge("gateway_warnings", "Warnings of `gateway status`.").row(&[], count(status.warnings.len()));
    let failing = u64::from(status.audit_failing);
    out.gauge("gateway_audit_failing", "Whether decisions cannot be recorded, so that none are made.")
        .row(&[], failing);
    let paused = u64::from(status.paused.is_some());
    out.gauge("gateway_rules_paused", "Whether rules may not ban at the moment.").row(&[], paused);

    out.gauge("gateway_blocks", "Blocks in force, without lists.").row(&[], status.blocks);
    out.gauge("gateway_blocks_max", "How many entries there may be: guard.max_bans.").row(&[], status.max_blocks);
    out.gauge("gateway_allows", "Allowlisted sources.").row(&[], status.allows);
    let mut rows = out.gauge("gateway_list_entries", "Sources that a list names.");
    for feed in &status.feeds {
        rows.row(&[("list", &feed.name)], feed.entries);
    }
    let mut rows = out.counter("gateway_packets_total", "Packets by verdict.");
    for counted in &status.verdicts {
        rows.row(&[("verdict", &counted.verdict)], counted.packets);
    }
    let mut rows = out.counter("gateway_packet_bytes_total", "Bytes of packets by verdict.");
    for counted in &status.verdicts {
        rows.row(&[("verdict", &counted.verdict)], counted.bytes);
    }

    out.gauge("gateway_connections", "Connections of clients.").row(&[], status.requests.connections);
    for (name, help, label, counts) in [
        ("gateway_answers_total", "Answers by the class of their status.", "class", &status.requests.answers),
        ("gateway_refused_total", "Requests that the gateway refused.", "reason", &status.requests.refused),
        ("gateway_signals_total", "Observations about sources.", "signal", &status.requests.signals),
    ] {
        let mut rows = out.counter(name, help);
        for (value, count) in counts {
            rows.row(&[(label, value)], *count);
        }
    }
    let mut rows = out.gauge("gateway_upstream_server", "The state that a server is in is 1.");
    for upstream in &status.upstreams {
        for (server, now) in &upstream.servers {
            for (state, name) in [
                (ServerState::Up, "up"),
                (ServerState::Slow, "slow"),
                (ServerState::Ejected, "ejected"),
                (ServerState::Down, "down"),
            ] {
                let labels = [("upstream", upstream.name.as_str()), ("server", server), ("state", name)];
                rows.row(&labels, u64::from(state == *now));
            }
        }
    }
    let mut rows = out.counter("gateway_upstream_events_total", "What happened to requests, since the last reload.");
    for upstream in &status.upstreams {
        for (event, count) in [
            ("retry", upstream.retries),
            ("over_limit", upstream.over_limit),
            ("without_server", upstream.without_server),
        ] {
            rows.row(&[("upstream", &upstream.name), ("event", event)], count);
        }
    }

    let mut rows = out.gauge("gateway_certificate_not_after_seconds", "When a certificate ends, since 1970.");
    for certificate in &status.certificates {
        rows.row(&[("certificate", &certificate.key), ("file", &certificate.path)], certificate.not_after);
    }
    let mut rows = out.counter("gateway_lost_total", "What there was no room or no time for.");
    let lost = &status.lost;
    for (what, count) in [
        ("asks", lost.asks),
        ("at_accept", lost.at_accept),
        ("connections", lost.connections),
        ("log_lines", lost.log_lines),
        ("samples", lost.samples),
        ("shed", lost.shed),
    ] {
        rows.row(&[("what", what)], count);
    }
    out.0
}

fn count(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

#[derive(Default)]
struct Exposition(String);

/// The rows of one metric.
struct Rows<'a> {
    out: &'a mut String,
    name: &'static str,
}

impl Exposition {
    fn gauge(&mut self, name: &'static str, help: &str) -> Rows<'_> {
        self.begin(name, "gauge", help)
    }

    fn counter(&mut self, name: &'static str, help: &str) -> Rows<'_> {
        self.begin(name, "counter", help)
    }

    fn begin(&mut self, name: &'static str, kind: &str, help: &str) -> Rows<'_> {
        // Writing to a text cannot fail.
        writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}").unwrap_or_default();
        Rows { out: &mut self.0, name }
    }
}

impl Rows<'_> {
    fn row(&mut self, labels: &[(&str, &str)], value: impl std::fmt::Display) {
        self.out.push_str(self.name);
        for (place, (label, text)) in labels.iter().enumerate() {
            let open = if place == 0 { '{' } else { ',' };
            let text = text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            write!(self.out, "{open}{label}=\"{text}\"").unwrap_or_default();
        }
        let close = if labels.is_empty() { "" } else { "}" };
        writeln!(self.out, "{close} {value}").unwrap_or_default();
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::guard::control::CertificateEnd;

    #[test]
    fn labels_are_escaped() {
        let certificate = CertificateEnd { key: "a\"b\\c\nd".into(), path: "x".into(), not_after: -1 };
        let text = text(&Status { certificates: vec![certificate], ..Status::default() });
        let row = r#"gateway_certificate_not_after_seconds{certificate="a\"b\\c\nd",file="x"} -1"#;
        assert!(text.lines().any(|line| line == row), "{text}");
        assert!(text.ends_with('\n'));
    }

    /// The rules of the example name metrics that are there.
    #[test]
    fn the_alerts_know_the_metrics() {
        let text = text(&Status::default());
        let known: BTreeSet<&str> =
            text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
        let rules = include_str!("../../../../examples/alerts.yml");
        let words = rules.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
        let named: BTreeSet<&str> = words.filter(|word| word.starts_with("gateway_")).collect();
        assert!(named.len() > 8 && named.is_subset(&known), "{:?}", named.difference(&known));
    }
}
