//! Writes the text forms: Prometheus 0.0.4, and OpenMetrics 1.0, which names counters without their suffix and has units
//! and an end.

use std::fmt::Write as _;

use crate::{
    message::telemetry::{Metric, MetricKind, MetricRow, SeriesValue},
    observer::store::Sums,
};

/// All metrics; every line ends.
pub(super) fn write(sums: &Sums, is_open: bool) -> String {
    let mut out = String::new();
    let mut last = None;
    for (series, value) in sums {
        let MetricRow { name, labels, .. } = series.metric.row();
        if last.replace(series.metric) != Some(series.metric) {
            head(&mut out, series.metric, is_open);
        }
        let labels = labels.iter().copied().zip(&series.labels);
        let labels: Vec<String> = labels.map(|(label, value)| format!("{label}=\"{}\"", escaped(value))).collect();
        let labels = labels.join(",");
        // Writing to a text cannot fail.
        match value {
            SeriesValue::Count(count) => row(&mut out, name, &labels, "", *count),
            SeriesValue::Level(level) => row(&mut out, name, &labels, "", *level),
            SeriesValue::Histogram(histogram) => {
                let bucket = format!("{name}_bucket");
                for (bound, count) in histogram.classic() {
                    row(&mut out, &bucket, &labels, &format!("le=\"{bound:?}\""), count);
                }
                row(&mut out, &bucket, &labels, "le=\"+Inf\"", histogram.count());
                row(&mut out, &format!("{name}_sum"), &labels, "", histogram.seconds());
                row(&mut out, &format!("{name}_count"), &labels, "", histogram.count());
            }
        }
    }
    if is_open {
        out.push_str("# EOF\n");
    }
    out
}

fn head(out: &mut String, metric: Metric, is_open: bool) {
    let MetricRow { name, kind, help, .. } = metric.row();
    let name = if is_open { name.trim_end_matches("_total") } else { name };
    let kind = match kind {
        MetricKind::Counter => "counter",
        MetricKind::Current | MetricKind::Gauge => "gauge",
        MetricKind::Histogram => "histogram",
    };
    writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}").unwrap_or_default();
    let unit = ["seconds", "bytes"].into_iter().find(|unit| name.ends_with(unit));
    if let Some(unit) = unit.filter(|_| is_open) {
        writeln!(out, "# UNIT {name} {unit}").unwrap_or_default();
    }
}

fn row(out: &mut String, name: &str, labels: &str, bound: &str, value: impl std::fmt::Display) {
    let comma = if labels.is_empty() || bound.is_empty() { "" } else { "," };
    let (open, close) = if labels.is_empty() && bound.is_empty() { ("", "") } else { ("{", "}") };
    writeln!(out, "{name}{open}{labels}{comma}{bound}{close} {value}").unwrap_or_default();
}

fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::telemetry::{Histogram, Series};

    fn sums() -> Sums {
        let place = u8::try_from(Histogram::place(1_000_000)).unwrap();
        let histogram = Histogram { sum: 3_000_000, buckets: vec![(place, 3)] };
        [
            (Series::new(Metric::Connections, &[]), SeriesValue::Level(2.0)),
            (Series::new(Metric::Requests, &["/\"\\\n<b>", "2xx"]), SeriesValue::Count(3)),
            (Series::new(Metric::RequestDuration, &["/"]), SeriesValue::Histogram(histogram)),
        ]
        .into()
    }

    #[test]
    fn both_forms() {
        let text = write(&sums(), false);
        for line in [
            "# TYPE gateway_http_requests_total counter",
            "gateway_http_connections 2",
            r#"gateway_http_requests_total{route="/\"\\\n<b>",status="2xx"} 3"#,
            r#"gateway_http_request_duration_seconds_bucket{route="/",le="0.0009765625"} 0"#,
            r#"gateway_http_request_duration_seconds_bucket{route="/",le="1.0"} 3"#,
            r#"gateway_http_request_duration_seconds_bucket{route="/",le="+Inf"} 3"#,
            r#"gateway_http_request_duration_seconds_sum{route="/"} 0.003"#,
            r#"gateway_http_request_duration_seconds_count{route="/"} 3"#,
        ] {
            assert!(text.lines().any(|own| own == line), "{line} is not in\n{text}");
        }
        assert!(text.ends_with('\n') && !text.contains("# EOF"));
        let open = write(&sums(), true);
        for line in [
            "# TYPE gateway_http_requests counter",
            "# UNIT gateway_http_request_duration_seconds seconds",
            r#"gateway_http_requests_total{route="/\"\\\n<b>",status="2xx"} 3"#,
        ] {
            assert!(open.lines().any(|own| own == line), "{line} is not in\n{open}");
        }
        assert!(open.ends_with("# EOF\n"));
    }
}
