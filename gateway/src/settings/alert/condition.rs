//! What a rule compares: a number made of a metric, and the bound.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::metric::Metric;

/// How a number is made of the series that count.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Aggregation {
    /// Of a gauge that is a moment: seconds since then. 0 is no moment.
    Age,
    /// Of a gauge: divided by the sum of another, of the same labels.
    DividedBy(Metric),
    /// Of a counter: how many more within the window.
    Increase,
    /// Of a gauge that is a moment: seconds until then.
    Left,
    /// Of a gauge: the sum of another less this one.
    LessThan(Metric),
    /// Of a histogram: the time that so many millionths were not over.
    Quantile(u32),
    /// Of a counter: how many in a second.
    Rate,
    /// Of a counter: the share of those that match in addition.
    Share(Vec<Match>),
    /// Of a gauge: its sum.
    Value,
}

impl Aggregation {
    /// What its numbers are, for people. `metric`: of which it is made.
    #[must_use]
    pub fn unit(&self, metric: Metric) -> NumberUnit {
        let name = metric.row().name;
        match self {
            Self::Age | Self::Left | Self::Quantile(_) => NumberUnit::Seconds,
            Self::DividedBy(_) | Self::Share(_) => NumberUnit::Share,
            Self::Rate => NumberUnit::PerSecond,
            Self::Value | Self::LessThan(_) if name.ends_with("_seconds") => NumberUnit::Seconds,
            Self::Value | Self::LessThan(_) if name.ends_with("_bytes") => NumberUnit::Bytes,
            Self::Increase | Self::LessThan(_) | Self::Value => NumberUnit::Count,
        }
    }

    /// Whether it looks back.
    #[must_use]
    pub const fn has_window(&self) -> bool {
        matches!(self, Self::Increase | Self::Quantile(_) | Self::Rate | Self::Share(_))
    }
}

/// What a number is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NumberUnit {
    /// Bytes.
    Bytes,
    /// Things.
    Count,
    /// Things in a second.
    PerSecond,
    /// Seconds.
    Seconds,
    /// A part of one.
    Share,
}

impl NumberUnit {
    /// A number of this unit as people read it.
    #[must_use]
    pub fn show(self, value: f64) -> String {
        match self {
            Self::Bytes if value >= 1_073_741_824.0 => format!("{} GiB", short(value / 1_073_741_824.0)),
            Self::Bytes if value >= 1_048_576.0 => format!("{} MiB", short(value / 1_048_576.0)),
            Self::Bytes => format!("{} bytes", short(value)),
            Self::Count => short(value),
            Self::PerSecond => format!("{}/s", short(value)),
            Self::Seconds if value.abs() >= 172_800.0 => format!("{} days", short((value / 86_400.0).floor())),
            Self::Seconds if value.abs() >= 7_200.0 => format!("{} hours", short((value / 3_600.0).floor())),
            Self::Seconds if value.abs() >= 120.0 => format!("{} minutes", short((value / 60.0).floor())),
            Self::Seconds if value.abs() < 1.0 && value != 0.0 => format!("{} ms", short(value * 1_000.0)),
            Self::Seconds => format!("{} s", short(value)),
            Self::Share => format!("{} %", short(value * 100.0)),
        }
    }
}

/// At most three digits that say something.
fn short(value: f64) -> String {
    let digits = match value.abs() {
        size if size >= 100.0 || size == size.trunc() => 0,
        size if size >= 10.0 => 1,
        _ => 2,
    };
    let text = format!("{value:.digits$}");
    if digits == 0 { text } else { text.trim_end_matches('0').trim_end_matches('.').to_owned() }
}

/// `LABEL = "PATTERN"`: a value, `PREFIX*`, or either after `!` for whatever is not that.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Match {
    /// The label.
    pub label: String,
    /// The pattern, without `!`.
    pub pattern: String,
    /// Whether it must not match.
    pub is_not: bool,
}

impl Match {
    /// Reads a pattern.
    #[must_use]
    pub fn new(label: &str, pattern: &str) -> Self {
        let (is_not, pattern) = pattern.strip_prefix('!').map_or((false, pattern), |pattern| (true, pattern));
        Self { label: label.to_owned(), pattern: pattern.to_owned(), is_not }
    }

    /// Whether the value of the label matches.
    #[must_use]
    pub fn is_met(&self, value: &str) -> bool {
        let matches = match self.pattern.strip_suffix('*') {
            Some(prefix) => value.starts_with(prefix),
            None => value == self.pattern,
        };
        matches != self.is_not
    }

    /// As it is written.
    #[must_use]
    pub fn written(&self) -> String {
        format!("{}{}", if self.is_not { "!" } else { "" }, self.pattern)
    }
}

/// `condition`: a comparison and a bound.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AlertCondition {
    /// How.
    pub comparison: AlertComparison,
    /// A finite number.
    pub bound: f64,
}

/// The bound is a finite number, which equals itself.
impl Eq for AlertCondition {}

/// How a number compares with the bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AlertComparison {
    /// `>`.
    Above,
    /// `>=`.
    AtLeast,
    /// `<=`.
    AtMost,
    /// `<`.
    Below,
    /// `==`.
    Equal,
    /// `!=`.
    Other,
}

impl AlertComparison {
    /// By sign, the longer ones first.
    pub const SIGNS: [(&str, Self); 6] = [
        (">=", Self::AtLeast),
        ("<=", Self::AtMost),
        ("==", Self::Equal),
        ("!=", Self::Other),
        (">", Self::Above),
        ("<", Self::Below),
    ];
}

impl AlertCondition {
    /// Whether it holds of a number.
    #[must_use]
    pub fn holds(&self, value: f64) -> bool {
        // Whole numbers, and shares of them: what is as good as equal is equal.
        let equals = (value - self.bound).abs() <= f64::EPSILON * self.bound.abs().max(1.0);
        match self.comparison {
            AlertComparison::Above => value > self.bound,
            AlertComparison::AtLeast => value >= self.bound,
            AlertComparison::AtMost => value <= self.bound,
            AlertComparison::Below => value < self.bound,
            AlertComparison::Equal => equals,
            AlertComparison::Other => !equals,
        }
    }

    /// As people read it.
    #[must_use]
    pub fn show(&self, unit: NumberUnit) -> String {
        format!("{} {}", self.comparison, unit.show(self.bound))
    }
}

impl fmt::Display for AlertComparison {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = Self::SIGNS.iter().find(|(_, comparison)| comparison == self).map_or("", |(sign, _)| sign);
        out.write_str(sign)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_for_people() {
        for (unit, value, expect) in [
            (NumberUnit::Share, 0.073_2, "7.32 %"),
            (NumberUnit::Share, 0.05, "5 %"),
            (NumberUnit::Share, 1.0, "100 %"),
            (NumberUnit::Seconds, 0.012, "12 ms"),
            (NumberUnit::Seconds, 0.0, "0 s"),
            (NumberUnit::Seconds, 15.0, "15 s"),
            (NumberUnit::Seconds, 400.0, "6 minutes"),
            (NumberUnit::Seconds, 1_209_599.0, "13 days"),
            (NumberUnit::Seconds, -90_000.0, "-25 hours"),
            (NumberUnit::Bytes, 3_221_225_472.0, "3 GiB"),
            (NumberUnit::PerSecond, 12.345, "12.3/s"),
            (NumberUnit::Count, 41.0, "41"),
        ] {
            assert_eq!(unit.show(value), expect);
        }
    }

    #[test]
    fn patterns() {
        for (pattern, value, expect) in [
            ("5xx", "5xx", true),
            ("5xx", "4xx", false),
            ("!5xx", "4xx", true),
            ("/api/*", "/api/a", true),
            ("!/api/*", "/api/a", false),
            ("*", "", true),
            ("", "", true),
        ] {
            assert_eq!(Match::new("x", pattern).is_met(value), expect, "{pattern} {value}");
            assert_eq!(Match::new("x", pattern).written(), pattern);
        }
    }
}
