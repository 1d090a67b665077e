//! Reads `condition` of `[[alert]]`: a comparison and a bound, which has to be of the kind that the numbers are.

use toml::de::DeValue;

use crate::{
    config::value::{self, kind},
    diagnostic::Diagnostic,
    metric::Metric,
    settings::alert::{Aggregation, AlertComparison, AlertCondition, NumberUnit},
};

/// A condition as it is written.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct WrittenCondition {
    pub(super) condition: AlertCondition,
    text: String,
    bound: WrittenBound,
}

/// How the bound is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum WrittenBound {
    Duration,
    Number,
    Percent,
    Size,
}

/// `> 5 %`.
pub(super) fn condition(value: &DeValue<'_>) -> Result<WrittenCondition, Diagnostic> {
    let text = match value {
        DeValue::String(_) => value::line(value)?,
        _ => {
            let wrong = Diagnostic::bare(format!("expected a string, found {}", kind(value)));
            return Err(wrong.hint("write a comparison and a number: \"> 5 %\""));
        }
    };
    let wrong = || {
        Diagnostic::bare(format!("{text:?} is no condition"))
            .hint("write a comparison and a number: \"> 5 %\", \">= 10\", \"< 500ms\", \"< 1GiB\", \"== 0\"")
    };
    let (sign, comparison) =
        AlertComparison::SIGNS.into_iter().find(|(sign, _)| text.starts_with(sign)).ok_or_else(wrong)?;
    let number = text.get(sign.len()..).unwrap_or_default().trim();
    let (bound, written) = if let Some(percent) = number.strip_suffix('%') {
        (percent.trim().parse::<f64>().map_err(|_no_number| wrong())? / 100.0, WrittenBound::Percent)
    } else if let Ok(bound) = number.parse::<f64>() {
        (bound, WrittenBound::Number)
    } else if let Ok(duration) = value::duration(number) {
        (duration.as_secs_f64(), WrittenBound::Duration)
    } else {
        #[expect(clippy::cast_precision_loss, reason = "bounds are no exact numbers of bytes")]
        let bytes = value::size(number).map_err(|_no_size| wrong())? as f64;
        (bytes, WrittenBound::Size)
    };
    let is_number = bound.is_finite();
    let read = WrittenCondition { condition: AlertCondition { comparison, bound }, text: text.clone(), bound: written };
    if is_number { Ok(read) } else { Err(wrong()) }
}

impl WrittenCondition {
    /// Whether the numbers of a measure can be compared with it: a share with percents, a time with a time. What holds
    /// always or never is a slip of the pen.
    pub(super) fn judge(&self, measure: &Aggregation, metric: Metric) -> Result<(), Diagnostic> {
        use WrittenBound::{Duration, Number, Percent, Size};
        let (unit, bound, sign) = (measure.unit(metric), self.condition.bound, self.condition.comparison);
        let (text, name) = (&self.text, metric.row().name);
        let is_of_bytes = name.contains("_bytes") && self.bound == Size;
        let (is_alike, what, example) = match unit {
            NumberUnit::PerSecond => (is_of_bytes, "a number a second", "10"),
            NumberUnit::Count => (is_of_bytes || name.ends_with("_ratio") && self.bound == Percent, "a number", "10"),
            NumberUnit::Bytes => (self.bound == Size, "a number of bytes", "1GiB"),
            NumberUnit::Seconds => (self.bound == Duration, "a time", "500ms"),
            NumberUnit::Share => (self.bound == Percent, "a share", "5 %"),
        };
        let is_alike = is_alike || self.bound == Number;
        if !is_alike {
            let wrong = Diagnostic::bare(format!("{text:?} compares {name} with something else than {what}"));
            return Err(wrong.hint(format!("write, for example, \"{sign} {example}\"")));
        }
        let is_share = (0.0..=1.0).contains(&bound);
        let is_open = match sign {
            AlertComparison::Above | AlertComparison::AtMost => is_share && bound < 1.0,
            AlertComparison::AtLeast | AlertComparison::Below => is_share && bound > 0.0,
            AlertComparison::Equal | AlertComparison::Other => is_share,
        };
        if matches!(measure, Aggregation::Share(_)) && !is_open {
            let wrong = Diagnostic::bare(format!("{text:?} holds always or never, as a share is from 0 to 1"));
            let percent = if self.bound == Number && (1.0..100.0).contains(&bound) { bound } else { 5.0 };
            return Err(wrong.hint(format!("write percents: \"{sign} {percent} %\"")));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Option<WrittenCondition> {
        condition(&DeValue::String(text.into())).ok()
    }

    #[test]
    fn conditions() {
        for (text, expect) in [
            ("> 5 %", Some((AlertComparison::Above, 0.05))),
            (">=10", Some((AlertComparison::AtLeast, 10.0))),
            ("< 500ms", Some((AlertComparison::Below, 0.5))),
            ("<= 1h30m", Some((AlertComparison::AtMost, 5_400.0))),
            ("< 1GiB", Some((AlertComparison::Below, 1_073_741_824.0))),
            ("== 0", Some((AlertComparison::Equal, 0.0))),
            ("!= -1.5", Some((AlertComparison::Other, -1.5))),
            ("5", None),
            ("> ", None),
            ("> inf", None),
            ("> five", None),
            ("=> 5", None),
        ] {
            let read = read(text).map(|read| (read.condition.comparison, read.condition.bound));
            assert_eq!(read, expect, "{text}");
        }
    }

    #[test]
    fn bounds_are_of_the_kind_that_the_numbers_are() {
        let share = || Aggregation::Share(Vec::new());
        let kind = "with something else than";
        for (measure, metric, text, expect) in [
            (share(), Metric::Requests, "> 5 %", ""),
            (share(), Metric::Requests, "> 0.05", ""),
            (share(), Metric::Requests, ">= 1", ""),
            (share(), Metric::Requests, "> 0", ""),
            (share(), Metric::Requests, "< 100 %", ""),
            (share(), Metric::Requests, "== 0", ""),
            (share(), Metric::Requests, "> 1", "from 0 to 1: \"> 1 %\""),
            (share(), Metric::Requests, "> 5", "from 0 to 1: \"> 5 %\""),
            (share(), Metric::Requests, "<= 99.9", "from 0 to 1: \"<= 99.9 %\""),
            (share(), Metric::Requests, "< -3", "from 0 to 1: \"< 5 %\""),
            (share(), Metric::Requests, ">= 0", "from 0 to 1: \">= 5 %\""),
            (share(), Metric::Requests, "> 500", "from 0 to 1: \"> 5 %\""),
            (share(), Metric::Requests, "> 120 %", "from 0 to 1: \"> 5 %\""),
            (share(), Metric::Requests, "> 500ms", kind),
            (share(), Metric::Requests, "> 1GiB", kind),
            (Aggregation::Rate, Metric::Requests, "> 10", ""),
            (Aggregation::Rate, Metric::Requests, "> 10MiB", kind),
            (Aggregation::Rate, Metric::Requests, "> 5 %", kind),
            (Aggregation::Rate, Metric::Requests, "> 5s", kind),
            (Aggregation::Increase, Metric::Requests, "> 10s", kind),
            (Aggregation::Quantile(990_000), Metric::RequestDuration, "> 800ms", ""),
            (Aggregation::Quantile(990_000), Metric::RequestDuration, "> 0.8", ""),
            (Aggregation::Quantile(990_000), Metric::RequestDuration, "> 5 %", kind),
            (Aggregation::Quantile(990_000), Metric::RequestDuration, "> 5MiB", kind),
            (Aggregation::Left, Metric::CertificateEnd, "< 14d", ""),
            (Aggregation::Left, Metric::CertificateEnd, "< 1GiB", kind),
            (Aggregation::Value, Metric::DiskAvailable, "< 1GiB", ""),
            (Aggregation::Value, Metric::DiskAvailable, "< 5 %", kind),
            (Aggregation::DividedBy(Metric::DiskSize), Metric::DiskAvailable, "< 5 %", ""),
            (Aggregation::DividedBy(Metric::DiskSize), Metric::DiskAvailable, "> 2", ""),
            (Aggregation::DividedBy(Metric::DiskSize), Metric::DiskAvailable, "< 1GiB", kind),
            (Aggregation::Value, Metric::UsualRatio, "> 300 %", ""),
            (Aggregation::Value, Metric::UsualRatio, "> 3", ""),
            (Aggregation::Value, Metric::Blocks, "> 90 %", kind),
        ] {
            let told = read(text).unwrap().judge(&measure, metric);
            let told = told.err().map(|wrong| format!("{}: {}", wrong.message, wrong.hint.unwrap_or_default()));
            let told = told.unwrap_or_default().replace("write percents: ", "");
            assert!(told.contains(expect) && told.is_empty() == expect.is_empty(), "{measure:?} {text}: {told}");
        }
    }
}
