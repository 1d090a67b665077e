//! The reference of all metrics, as Markdown.

use std::fmt::Write as _;

use crate::message::telemetry::{Kind, Metric, Role, Row};

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
        let Row { name, kind, role, labels, help } = metric.row();
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Current | Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        let role = match role {
            Role::Guard => "guard",
            Role::Proxy => "proxy",
            Role::Observer => "observer",
            Role::Every => "each process",
        };
        let labels: Vec<String> = labels.iter().map(|label| format!("`{label}`")).collect();
        // Writing to a text cannot fail.
        writeln!(page, "| `{name}` | {kind} | {} | {role} | {help} |", labels.join(", ")).unwrap_or_default();
    }
    page
}
