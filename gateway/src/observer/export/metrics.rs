//! Metrics as `ExportMetricsServiceRequest`: the same names, labels and numbers as `/metrics` tells, cumulative.

use super::wire;
use crate::{
    message::telemetry::{Histogram, Metric, MetricKind, MetricRow, Series, SeriesValue},
    observer::{protobuf::Message, store::Sums},
};

/// How many series one request has.
const PART: usize = 2_000;

/// `AGGREGATION_TEMPORALITY_CUMULATIVE`.
const CUMULATIVE: u64 = 2;

/// All series, in as many requests as it takes. `began` and `now`: nanoseconds since 1970.
pub(super) fn encode(service: &str, sums: &Sums, began: u64, now: u64) -> Vec<Vec<u8>> {
    let all: Vec<(&Series, &SeriesValue)> = sums.iter().collect();
    let request = |part: &[(&Series, &SeriesValue)]| {
        let metrics = part.chunk_by(|(one, _), (other, _)| one.metric == other.metric);
        wire::request(service, metrics.filter_map(|series| metric(series, began, now)))
    };
    all.chunks(PART).map(request).collect()
}

/// Series of one metric.
fn metric(series: &[(&Series, &SeriesValue)], began: u64, now: u64) -> Option<Message> {
    let metric = series.first()?.0.metric;
    let MetricRow { name, kind, help, .. } = metric.row();
    let mut points = Message::default();
    for (series, value) in series {
        points.message(1, &point(series, value, began, now));
    }
    let mut message = Message::default();
    message.text(1, name);
    message.text(2, help);
    message.text(3, unit(metric));
    match kind {
        MetricKind::Current | MetricKind::Gauge => message.message(5, &points),
        MetricKind::Counter => {
            points.number(2, CUMULATIVE);
            points.number(3, 1);
            message.message(7, &points);
        }
        MetricKind::Histogram => {
            points.number(2, CUMULATIVE);
            message.message(9, &points);
        }
    }
    Some(message)
}

fn point(series: &Series, value: &SeriesValue, began: u64, now: u64) -> Message {
    let mut point = Message::default();
    let attributes = series.metric.row().labels.iter().zip(&series.labels);
    let is_sum = !matches!(value, SeriesValue::Level(_));
    if is_sum {
        point.fixed(2, began);
    }
    point.fixed(3, now);
    let field = if matches!(value, SeriesValue::Histogram(_)) { 9 } else { 7 };
    for (name, label) in attributes {
        point.message(field, &wire::text(name, label));
    }
    match value {
        SeriesValue::Count(count) => point.fixed(6, *count),
        SeriesValue::Level(level) => point.double(4, *level),
        SeriesValue::Histogram(it) => histogram(&mut point, it),
    }
    point
}

fn histogram(point: &mut Message, histogram: &Histogram) {
    let (mut bounds, mut counts, mut below) = (Vec::new(), Vec::new(), 0);
    for (bound, count) in histogram.classic() {
        bounds.extend(bound.to_bits().to_le_bytes());
        counts.extend(count.saturating_sub(below).to_le_bytes());
        below = count;
    }
    counts.extend(histogram.count().saturating_sub(below).to_le_bytes());
    point.fixed(4, histogram.count());
    point.double(5, histogram.seconds());
    // Packed: `fixed64` and `double`.
    point.bytes(6, &counts);
    point.bytes(7, &bounds);
}

/// The unit of a metric, as UCUM writes it.
fn unit(metric: Metric) -> &'static str {
    let name = metric.row().name.trim_end_matches("_total");
    match name {
        _ if name.ends_with("_seconds") => "s",
        _ if name.ends_with("_bytes") => "By",
        _ => "1",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_series_are_told_in_parts() {
        let mut sums = Sums::new();
        for number in 0..PART * 2 + 1 {
            sums.insert(Series::new(Metric::Lost, &[&format!("{number:05}")]), SeriesValue::Count(7));
        }
        let parts = encode("edge", &sums, 1, 2);
        assert_eq!(parts.len(), 3);
        for part in &parts {
            let text = String::from_utf8_lossy(part);
            assert!(text.contains("gateway_lost_total") && text.contains("edge"), "{text}");
        }
        assert!(encode("edge", &Sums::new(), 1, 2).is_empty());
        assert_eq!(
            (unit(Metric::RequestDuration), unit(Metric::RequestBytes), unit(Metric::Requests)),
            ("s", "By", "1")
        );
    }
}
