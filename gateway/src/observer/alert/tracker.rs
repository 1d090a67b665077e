//! Which alerts there are: a condition that has held for its time begins one, and one that has not held for its time ends
//! it.

use std::collections::{BTreeMap, BTreeSet};

use aws_lc_rs::digest;
use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};

use super::sampler::LabelValues;
use crate::{
    os::clock::Now,
    settings::alert::{AlertRule, Severity},
};

/// The most alerts at once. What is beyond them is left out.
pub(super) const MAX_ALERTS: usize = 2_000;

/// The most alerts beyond those that are told apart, so that each is counted once.
const MAX_LEFT_OUT: usize = 10_000;

/// An alert.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct TrackedAlert {
    /// Of its name and labels: the same alert has the same one, always.
    pub(super) fingerprint: String,
    pub(super) severity: Severity,
    /// With `alertname`, `severity` and `instance`.
    pub(super) labels: BTreeMap<String, String>,
    pub(super) summary: String,
    pub(super) runbook: Option<String>,
    /// When it began: milliseconds since 1970.
    pub(super) began: u64,
    /// When it ended.
    pub(super) ended: Option<u64>,
}

impl TrackedAlert {
    pub(super) fn name(&self) -> &str {
        self.labels.get("alertname").map_or("", String::as_str)
    }
}

/// What is said of anomalies, by the labels `of` and `measure`.
pub(in crate::observer) type Sentences = BTreeMap<(String, String), String>;

/// What alerts are put into words with.
#[derive(Clone, Copy, Debug)]
pub(super) struct Words<'a> {
    /// The name of this host.
    pub(super) instance: &'a str,
    pub(super) sentences: &'a Sentences,
}

/// Something has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum AlertChange {
    Began(TrackedAlert),
    Ended(TrackedAlert),
}

/// What is known of one condition that holds or held.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Tracked {
    pub(super) rule: String,
    pub(super) alert: TrackedAlert,
    /// Whether the alert has begun.
    pub(super) is_firing: bool,
    /// What it says of now: the alert itself says what was when it began. Not kept, as it changes with every look.
    #[serde(skip)]
    latest: Option<String>,
    /// Since when the condition holds.
    #[serde(skip)]
    holds_since: u64,
    /// Since when it does not.
    #[serde(skip)]
    fails_since: Option<u64>,
}

impl Tracked {
    /// The alert, with what was measured last while its condition held.
    pub(super) fn of_now(&self) -> TrackedAlert {
        let summary = self.latest.as_ref().unwrap_or(&self.alert.summary).clone();
        TrackedAlert { summary, ..self.alert.clone() }
    }
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Tracker {
    tracked: BTreeMap<String, Tracked>,
    /// Those that there is no room for while their condition holds: their fingerprints, and whose rules they are of.
    beyond: BTreeMap<String, String>,
    /// How many alerts there was no room for.
    pub(super) left_out: u64,
}

impl Tracker {
    /// Goes on with what an earlier observer knew.
    pub(super) fn restore(&mut self, tracked: Vec<Tracked>, now: Now) {
        for mut one in tracked.into_iter().filter(|one| one.is_firing).take(MAX_ALERTS) {
            (one.holds_since, one.fails_since) = (now.monotonic, None);
            self.tracked.insert(one.alert.fingerprint.clone(), one);
        }
    }

    /// What is to be kept.
    pub(super) fn firing(&self) -> impl Iterator<Item = &Tracked> {
        self.tracked.values().filter(|one| one.is_firing)
    }

    /// All, pending ones too.
    pub(super) fn all(&self) -> impl Iterator<Item = &Tracked> {
        self.tracked.values()
    }

    /// Has alerts that go on say what is measured now: a receiver that is told again wants to know how it is.
    pub(super) fn refresh(&self, alerts: &mut [TrackedAlert]) {
        for alert in alerts {
            if let Some(latest) = self.tracked.get(&alert.fingerprint).and_then(|one| one.latest.as_ref()) {
                alert.summary.clone_from(latest);
            }
        }
    }

    /// The rules are others: alerts of those that are gone end, and those of the others are as bad as they say now.
    pub(super) fn keep_rules(&mut self, rules: &[AlertRule], now: Now) -> Vec<AlertChange> {
        let rules: BTreeMap<&str, &AlertRule> = rules.iter().map(|rule| (&*rule.name, rule)).collect();
        let mut changes = Vec::new();
        self.beyond.retain(|_, rule| rules.contains_key(&**rule));
        self.tracked.retain(|_, one| {
            if let Some(rule) = rules.get(&*one.rule) {
                (one.alert.severity, one.alert.runbook) = (rule.severity, rule.runbook.clone());
                one.alert.labels.insert("severity".to_owned(), rule.severity.name().to_owned());
                return true;
            }
            if one.is_firing {
                changes.push(AlertChange::Ended(TrackedAlert { ended: Some(now.unix_millis), ..one.alert.clone() }));
            }
            false
        });
        changes
    }

    /// Takes the numbers of one rule.
    pub(super) fn observe(
        &mut self,
        rule: &AlertRule,
        values: &[(LabelValues, f64)],
        words: Words<'_>,
        now: Now,
    ) -> Vec<AlertChange> {
        let mut changes = Vec::new();
        let mut holding = BTreeSet::new();
        for (group, value) in values.iter().filter(|(_, value)| rule.condition.holds(*value)) {
            let labels = labels(rule, group, words.instance);
            let fingerprint = fingerprint(&labels);
            holding.insert(fingerprint.clone());
            let summary = summary(rule, &labels, *value, words.sentences);
            if let Some(known) = self.tracked.get_mut(&fingerprint) {
                known.fails_since = None;
                if !known.is_firing && is_over(known.holds_since, rule.hold, now) {
                    (known.is_firing, known.alert.began) = (true, now.unix_millis);
                    known.alert.summary.clone_from(&summary);
                    changes.push(AlertChange::Began(known.alert.clone()));
                }
                known.latest = Some(summary);
                continue;
            }
            if self.tracked.len() >= MAX_ALERTS {
                if self.beyond.len() < MAX_LEFT_OUT && self.beyond.insert(fingerprint, rule.name.clone()).is_none() {
                    self.left_out = self.left_out.saturating_add(1);
                }
                continue;
            }
            self.beyond.remove(&fingerprint);
            let is_firing = rule.hold.is_zero();
            let alert = TrackedAlert {
                fingerprint: fingerprint.clone(),
                severity: rule.severity,
                labels,
                summary,
                runbook: rule.runbook.clone(),
                began: now.unix_millis,
                ended: None,
            };
            if is_firing {
                changes.push(AlertChange::Began(alert.clone()));
            }
            let rule = rule.name.clone();
            let one = Tracked { rule, alert, is_firing, latest: None, holds_since: now.monotonic, fails_since: None };
            self.tracked.insert(fingerprint, one);
        }
        self.beyond.retain(|fingerprint, of| *of != rule.name || holding.contains(fingerprint));
        // Where there is nothing to compare with any more, the condition does not hold.
        self.tracked.retain(|fingerprint, one| {
            if one.rule != rule.name || holding.contains(fingerprint) {
                return true;
            }
            if !one.is_firing {
                return false;
            }
            let fails_since = *one.fails_since.get_or_insert(now.monotonic);
            let has_ended = is_over(fails_since, rule.recover_after, now);
            if has_ended {
                changes.push(AlertChange::Ended(TrackedAlert { ended: Some(now.unix_millis), ..one.of_now() }));
            }
            !has_ended
        });
        changes
    }
}

fn is_over(since: u64, time: std::time::Duration, now: Now) -> bool {
    u128::from(now.monotonic.saturating_sub(since)) >= time.as_nanos()
}

fn labels(rule: &AlertRule, group: &LabelValues, instance: &str) -> BTreeMap<String, String> {
    let mut labels: BTreeMap<String, String> = rule.by.iter().cloned().zip(group.iter().cloned()).collect();
    labels.extend(fixed_labels(rule, instance));
    labels
}

/// The labels that all alerts of a rule have alike.
pub(super) fn fixed_labels(rule: &AlertRule, instance: &str) -> BTreeMap<String, String> {
    let mut labels: BTreeMap<String, String> = rule.labels.iter().cloned().collect();
    labels.insert("alertname".to_owned(), rule.name.clone());
    labels.insert("severity".to_owned(), rule.severity.name().to_owned());
    labels.insert("instance".to_owned(), instance.to_owned());
    labels
}

/// What tells alerts apart: all labels but the severity, which a reload may change.
pub(super) fn fingerprint(labels: &BTreeMap<String, String>) -> String {
    let mut text = Vec::new();
    for (name, value) in labels.iter().filter(|(name, _)| *name != "severity") {
        for part in [name, value] {
            text.extend_from_slice(part.as_bytes());
            // No label holds it.
            text.push(0);
        }
    }
    let digest = digest::digest(&digest::SHA256, &text);
    HEXLOWER.encode(digest.as_ref().get(..8).unwrap_or_default())
}

fn summary(rule: &AlertRule, labels: &BTreeMap<String, String>, value: f64, sentences: &Sentences) -> String {
    let label = |name: &str| labels.get(name).cloned().unwrap_or_default();
    let mut text = String::new();
    let mut rest = rule.summary.as_str();
    while let Some((before, name, after)) = rest
        .split_once('{')
        .and_then(|(before, behind)| behind.split_once('}').map(|(name, after)| (before, name, after)))
    {
        text.push_str(before);
        match labels.get(name) {
            _ if name == "value" => text.push_str(&rule.measure.unit(rule.metric).show(value)),
            None if name == "sentence" => {
                text.push_str(
                    sentences.get(&(label("of"), label("measure"))).map_or("something is not usual", String::as_str),
                );
            }
            Some(value) => text.push_str(value),
            None => text.push_str(name),
        }
        rest = after;
    }
    text.push_str(rest);
    text
}

#[cfg(test)]
mod tests;
