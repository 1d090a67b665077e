//! What a process measures, as it tells the observer.
//!
//! Numbers are cumulative: a message that is late, or that finds the observer's queue full, loses nothing, because the
//! next one tells more. *Invariant:* whoever measures never waits for the observer.

use serde::{Deserialize, Serialize};

pub use histogram::Histogram;
pub use limits::{MAX_LABEL, MAX_NAMES, MAX_TRACES, MAX_WEIGHT, OTHER, label};
pub use report::Report;
pub use trace::{StepSpan, Trace, TraceStep};

pub use crate::metric::{Metric, MetricKind, MetricRole, MetricRow};
use crate::os::sandbox;

mod histogram;
mod limits;
mod report;
mod trace;

/// What a process tells at once. It says something every second, be it only that it is there.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Telemetry {
    /// Whether it serves clients.
    pub serves: bool,
    /// Series that have changed since they were told last.
    pub changed: Vec<(Series, SeriesValue)>,
    /// Series that are no more.
    pub gone: Vec<Series>,
    /// Requests that were traced, at most [`MAX_TRACES`].
    pub traces: Vec<Trace>,
}

/// One series of numbers.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Series {
    /// What is measured.
    pub metric: Metric,
    /// The values of the metric's labels, in their order.
    pub labels: Vec<String>,
}

impl Series {
    /// The series of a metric with these labels.
    #[must_use]
    pub fn new(metric: Metric, labels: &[&str]) -> Self {
        Self { metric, labels: labels.iter().map(|text| label(text)).collect() }
    }

    /// Whether it is what a series of its metric must be.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        self.labels.len() == self.metric.row().labels.len() && self.labels.iter().all(|label| label.len() <= MAX_LABEL)
    }
}

/// What a series says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum SeriesValue {
    /// Of a counter, since the process began.
    Count(u64),
    /// Of a gauge, now.
    Level(f64),
    /// Of a histogram, since the process began.
    Histogram(Histogram),
}

impl SeriesValue {
    /// How much of [`MAX_WEIGHT`] it takes.
    #[must_use]
    pub fn weight(&self) -> usize {
        if let Self::Histogram(histogram) = self { 1 + histogram.buckets.len() / 8 } else { 1 }
    }

    /// Whether it is what a value of this metric must be.
    #[must_use]
    pub fn is_valid(&self, metric: Metric) -> bool {
        match (self, metric.row().kind) {
            (Self::Count(_), MetricKind::Counter) => true,
            (Self::Level(level), MetricKind::Gauge | MetricKind::Current) => level.is_finite(),
            (Self::Histogram(histogram), MetricKind::Histogram) => histogram.is_valid(),
            _ => false,
        }
    }
}

/// What is measured at one moment.
#[derive(Debug, Default)]
pub struct Samples(Vec<(Series, SeriesValue)>);

impl Samples {
    /// A counter.
    pub fn count(&mut self, metric: Metric, labels: &[&str], count: u64) {
        self.0.push((Series::new(metric, labels), SeriesValue::Count(count)));
    }

    /// A gauge.
    #[expect(clippy::cast_precision_loss, reason = "numbers in metrics are floats")]
    pub fn level(&mut self, metric: Metric, labels: &[&str], level: u64) {
        self.0.push((Series::new(metric, labels), SeriesValue::Level(level as f64)));
    }

    /// A gauge of a time, from nanoseconds.
    #[expect(clippy::cast_precision_loss, reason = "numbers in metrics are floats")]
    pub fn seconds(&mut self, metric: Metric, labels: &[&str], nanos: u64) {
        self.0.push((Series::new(metric, labels), SeriesValue::Level(nanos as f64 / 1e9)));
    }

    /// A gauge of any number.
    pub fn number(&mut self, metric: Metric, labels: &[&str], number: f64) {
        self.0.push((Series::new(metric, labels), SeriesValue::Level(number)));
    }

    /// A gauge that is 1 or 0.
    pub fn is(&mut self, metric: Metric, labels: &[&str], is: bool) {
        self.level(metric, labels, u64::from(is));
    }

    /// A moment in seconds since 1970.
    #[expect(clippy::cast_precision_loss, reason = "numbers in metrics are floats")]
    pub fn moment(&mut self, metric: Metric, labels: &[&str], seconds: i64) {
        self.0.push((Series::new(metric, labels), SeriesValue::Level(seconds as f64)));
    }

    /// What is left to a process of this role.
    pub fn sandbox(&mut self, role: &str, report: &sandbox::SandboxReport) {
        let count = |length: usize| u64::try_from(length).unwrap_or(u64::MAX);
        self.level(Metric::SandboxCapabilities, &[role], count(report.capabilities.len()));
        self.is(Metric::SandboxLandlock, &[role], report.landlock.starts_with("enforced"));
        self.level(Metric::SandboxCalls, &[role], count(report.seccomp));
    }

    /// A histogram.
    pub fn histogram(&mut self, metric: Metric, labels: &[&str], histogram: Histogram) {
        self.0.push((Series::new(metric, labels), SeriesValue::Histogram(histogram)));
    }

    /// All of them.
    #[must_use]
    pub fn into_inner(self) -> Vec<(Series, SeriesValue)> {
        self.0
    }
}
