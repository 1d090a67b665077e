//! Writes the protobuf form of Prometheus (`io.prometheus.client.MetricFamily`, each with its length before it), the only
//! form that has native histograms.
//!
//! The numbers are those of `metrics.proto` in github.com/prometheus/client_model.

use crate::{
    message::telemetry::{Histogram, Metric, MetricKind, MetricRow, SeriesValue},
    observer::{
        protobuf::{Message, varint},
        store::Sums,
    },
};

/// All metrics.
pub(super) fn write(sums: &Sums) -> Vec<u8> {
    let mut out = Vec::new();
    let mut sums = sums.iter().peekable();
    while let Some((series, _)) = sums.peek() {
        let metric = series.metric;
        let mut family = head(metric);
        while let Some((series, value)) = sums.next_if(|(series, _)| series.metric == metric) {
            let mut row = Message::default();
            for (name, value) in metric.row().labels.iter().zip(&series.labels) {
                let mut pair = Message::default();
                pair.text(1, name);
                pair.text(2, value);
                row.message(1, &pair);
            }
            match value {
                #[expect(clippy::cast_precision_loss, reason = "numbers in metrics are floats")]
                SeriesValue::Count(count) => row.message(3, &number(*count as f64)),
                SeriesValue::Level(level) => row.message(2, &number(*level)),
                SeriesValue::Histogram(it) => row.message(7, &histogram(it)),
            }
            family.message(4, &row);
        }
        varint(&mut out, family.0.len());
        out.extend(family.0);
    }
    out
}

fn head(metric: Metric) -> Message {
    let MetricRow { name, kind, help, .. } = metric.row();
    let mut family = Message::default();
    family.text(1, name);
    family.text(2, help);
    let kind = match kind {
        MetricKind::Counter => 0,
        MetricKind::Current | MetricKind::Gauge => 1,
        MetricKind::Histogram => 4,
    };
    family.number(3, kind);
    family
}

/// `Counter` or `Gauge`.
fn number(value: f64) -> Message {
    let mut message = Message::default();
    message.double(1, value);
    message
}

/// `Histogram`, in both forms.
fn histogram(histogram: &Histogram) -> Message {
    let mut message = Message::default();
    message.number(1, histogram.count());
    message.double(2, histogram.seconds());
    for (bound, count) in histogram.classic() {
        let mut bucket = Message::default();
        bucket.number(1, count);
        bucket.double(2, bound);
        message.message(3, &bucket);
    }
    message.signed(5, Histogram::SCHEMA.into());
    // Times that are shorter than the first bound are one bucket: the zero bucket.
    message.double(6, f64::powi(2.0, Histogram::index(0) / 8));
    let zero = histogram.buckets.first().filter(|(place, _)| *place == 0);
    message.number(7, zero.map_or(0, |(_, count)| *count));
    let (mut next, mut last) = (0, 0_i64);
    let mut deltas = Vec::new();
    for (place, count) in histogram.buckets.iter().skip(usize::from(zero.is_some())) {
        // A span for each bucket: simple, and not larger than one bucket between two spans.
        let index = Histogram::index(*place);
        let mut span = Message::default();
        span.signed(1, (index - next).into());
        span.number(2, 1);
        message.message(12, &span);
        next = index + 1;
        let count = i64::try_from(*count).unwrap_or(i64::MAX);
        deltas.push(count - last);
        last = count;
    }
    for delta in deltas {
        message.signed(13, delta);
    }
    message
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::telemetry::Series;

    #[test]
    fn bytes_are_those_of_the_format() {
        let sums = [(Series::new(Metric::Lost, &["shed"]), SeriesValue::Count(300))].into();
        let help = Metric::Lost.row().help;
        let mut expect = vec![0x0a, 18];
        expect.extend(b"gateway_lost_total");
        expect.extend([0x12, u8::try_from(help.len()).unwrap()]);
        expect.extend(help.as_bytes());
        expect.extend([0x18, 0, 0x22, 25, 0x0a, 12, 0x0a, 4]);
        expect.extend(b"what");
        expect.extend([0x12, 4]);
        expect.extend(b"shed");
        expect.extend([0x1a, 9, 9, 0, 0, 0, 0, 0, 0xc0, 0x72, 0x40]);
        expect.insert(0, u8::try_from(expect.len()).unwrap());
        assert_eq!(write(&sums), expect);
        let mut message = Message::default();
        message.signed(1, -2);
        message.number(2, 300);
        assert_eq!(message.0, [8, 3, 16, 0xac, 2]);
    }
}
