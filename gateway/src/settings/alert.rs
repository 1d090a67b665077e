//! `[[alert]]` and `[receiver.NAME]`: what somebody is told of, and how.

use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use condition::{Aggregation, AlertComparison, AlertCondition, Match, NumberUnit};
pub use receiver::{Mail, MailSecurity, Receiver, ReceiverKind};
pub use severity::Severity;

use crate::metric::Metric;

pub mod builtin;
mod condition;
mod receiver;
mod severity;

/// The longest window of a rule.
pub const LONGEST_WINDOW: Duration = Duration::from_secs(3_600);

/// The longest silence.
pub const LONGEST_SILENCE: Duration = Duration::from_secs(365 * 86_400);

/// The labels that the gateway gives every alert.
pub const OF_EVERY_ALERT: [&str; 3] = ["alertname", "severity", "instance"];

/// What somebody is told of, and how.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// Those of the operator, then those built in that are in force.
    pub rules: Vec<AlertRule>,
    /// In the order of their names.
    pub receivers: Vec<Receiver>,
}

/// `[[alert]]`: when there is an alert.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AlertRule {
    /// `name`.
    pub name: String,
    /// `severity`.
    pub severity: Severity,
    /// `metric`: what is looked at.
    pub metric: Metric,
    /// How a number is made of it.
    pub measure: Aggregation,
    /// `where`: the series that count.
    pub filter: Vec<Match>,
    /// `by`: the labels whose values are told apart, each with an alert of its own.
    pub by: Vec<String>,
    /// `condition`.
    pub condition: AlertCondition,
    /// `for`: how long the condition must hold.
    pub hold: Duration,
    /// `recover_after`: how long it must not hold for the alert to end.
    pub recover_after: Duration,
    /// `window`: over which time counters and histograms are looked at.
    pub window: Duration,
    /// `at_least`: fewer samples within the window say nothing.
    pub at_least: u64,
    /// `labels`: labels of the alert besides those of `by`.
    pub labels: Vec<(String, String)>,
    /// `summary`: what it says; `{value}` and `{LABEL}` stand for the value and the values of labels.
    pub summary: String,
    /// `runbook`: where it is written what to do.
    pub runbook: Option<String>,
    /// Whether the program brought it.
    pub is_builtin: bool,
}

impl AlertRule {
    /// Whether another rule makes its numbers in the same way.
    #[must_use]
    pub fn is_measured_as(&self, other: &Self) -> bool {
        let made = |rule: &Self| (rule.metric, rule.measure.clone(), rule.filter.clone(), rule.by.clone(), rule.window);
        made(self) == made(other)
    }

    /// Whether its alerts have such a label.
    #[must_use]
    pub fn has_label(&self, label: &str) -> bool {
        OF_EVERY_ALERT.contains(&label)
            || self.by.iter().any(|own| own == label)
            || self.labels.iter().any(|(own, _)| own == label)
    }

    /// Whether one of its alerts may have a label as it is wanted. A label that alerts lack is empty.
    #[must_use]
    pub fn may_meet(&self, wanted: &Match) -> bool {
        let label = wanted.label.as_str();
        match label {
            // What is measured tells, and which host this is.
            _ if label == "instance" || self.by.iter().any(|own| own == label) => true,
            "alertname" => wanted.is_met(&self.name),
            "severity" => wanted.is_met(self.severity.name()),
            _ => wanted.is_met(self.labels.iter().find(|(own, _)| own == label).map_or("", |(_, value)| value)),
        }
    }
}
