//! The reference of all metrics, as Markdown.

use std::fmt::Write as _;

use crate::message::telemetry::{Metric, MetricKind, MetricRole, MetricRow};

const HEAD: &str = "\
# Metrics reference

<!-- Written by `cargo xtask reference` from the code. Change the code instead. -->

Every metric of `/metrics`. [Metrics and health](../metrics.md) says how to read them. *Counters* and *histograms* add up
over all proxies since the observer started, those that have ended included. *Gauges* tell how it is now.

| Metric | Type | Labels | Measured by | Meaning |
|---|---|---|---|---|
";

/// The whole page.
#[must_use]
pub fn reference() -> String {
    let mut page = HEAD.to_owned();
    for metric in Metric::ALL {
        let MetricRow { name, kind, role, labels, help } = metric.row();
        let kind = match kind {
            MetricKind::Counter => "counter",
            MetricKind::Current | MetricKind::Gauge => "gauge",
            MetricKind::Histogram => "histogram",
        };
        let role = match role {
            MetricRole::Guard => "guard",
            MetricRole::Proxy => "proxy",
            MetricRole::Observer => "observer",
            MetricRole::Every => "each process",
        };
        let labels: Vec<String> = labels.iter().map(|label| format!("`{label}`")).collect();
        // Writing to a text cannot fail.
        writeln!(page, "| `{name}` | {kind} | {} | {role} | {help} |", labels.join(", ")).unwrap_or_default();
    }
    page
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// The metrics that a text names.
    fn named(text: &str) -> BTreeSet<&str> {
        let words = text.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_' && letter != ':');
        // Recorded series are named by their rules.
        let names = words.filter(|word| word.starts_with("gateway_") && !word.contains(':'));
        names.map(|name| name.trim_end_matches("_bucket")).collect()
    }

    #[test]
    fn rules_and_dashboard_name_metrics_that_there_are() {
        let known: BTreeSet<&str> = Metric::ALL.iter().map(|metric| metric.row().name).collect();
        let rules = include_str!("../../../packaging/prometheus/gateway-rules.yml");
        let tests = include_str!("../../../packaging/prometheus/gateway-rules.test.yml");
        let dashboard = include_str!("../../../packaging/grafana/gateway.json");
        for (text, least) in [(rules, 20), (tests, 15), (dashboard, 25)] {
            let named = named(text);
            assert!(named.len() >= least, "{named:?}");
            assert!(named.is_subset(&known), "{:?}", named.difference(&known));
        }
    }

    #[test]
    fn the_dashboard_is_one() {
        let dashboard: serde_json::Value =
            serde_json::from_str(include_str!("../../../packaging/grafana/gateway.json")).unwrap();
        let panels = dashboard["panels"].as_array().unwrap();
        let ids: BTreeSet<u64> = panels.iter().map(|panel| panel["id"].as_u64().unwrap()).collect();
        assert_eq!(ids.len(), panels.len());
        let asks = |panel: &serde_json::Value| {
            panel["targets"].as_array().is_some_and(|targets| targets.iter().all(|target| target["expr"].is_string()))
        };
        assert!(panels.iter().all(|panel| panel["type"] == "row" || asks(panel)));
    }
}
