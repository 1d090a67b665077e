//! Silences: alerts that nobody is told of for a while.

use serde::{Deserialize, Serialize};

use super::tracker::{TrackedAlert, fixed_labels};
use crate::{
    config::value::closest,
    message::observer::alert::NewSilence,
    settings::alert::{AlertRule, Match},
};

/// The most silences at once.
const MOST: usize = 200;

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ActiveSilence {
    pub(super) number: u64,
    /// What alerts must match, all of it.
    pub(super) matches: Vec<Match>,
    /// Milliseconds since 1970.
    pub(super) until: u64,
    /// How long it was to last: milliseconds. `None`: an earlier program did not note it.
    #[serde(default)]
    lasts: Option<u64>,
    pub(super) reason: String,
    pub(super) by: String,
}

/// All of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Silences {
    pub(super) list: Vec<ActiveSilence>,
    last: u64,
}

impl Silences {
    /// Adds one; its number.
    ///
    /// # Errors
    /// There are too many.
    pub(super) fn add(&mut self, new: NewSilence, now_unix: u64) -> Result<u64, String> {
        self.expire(now_unix);
        if self.list.len() >= MOST {
            return Err(format!("there are {MOST} silences: end one with `gateway alert unsilence`"));
        }
        self.last += 1;
        let matches = new.labels.iter().map(|(label, pattern)| Match::new(label, pattern)).collect();
        let lasts = new.seconds.saturating_mul(1_000);
        let until = now_unix.saturating_add(lasts);
        let (number, lasts) = (self.last, Some(lasts));
        self.list.push(ActiveSilence { number, matches, until, lasts, reason: new.reason, by: new.by });
        Ok(self.last)
    }

    /// Ends one; whether there was one.
    pub(super) fn remove(&mut self, number: u64) -> bool {
        let before = self.list.len();
        self.list.retain(|silence| silence.number != number);
        self.list.len() < before
    }

    /// Forgets those that are over. A clock that was set back makes none longer than it was to be.
    pub(super) fn expire(&mut self, now_unix: u64) {
        self.list.retain(|silence| silence.until > now_unix);
        for silence in &mut self.list {
            let latest = silence.lasts.map(|lasts| now_unix.saturating_add(lasts));
            silence.until = latest.map_or(silence.until, |latest| silence.until.min(latest));
        }
    }

    /// Whether nobody is told of an alert.
    pub(super) fn cover(&self, alert: &TrackedAlert, now_unix: u64) -> bool {
        self.list.iter().any(|silence| silence.until > now_unix && matches(&silence.matches, alert))
    }
}

/// Whether the labels of an alert match. A label that it does not have is empty.
pub(super) fn matches(matches: &[Match], alert: &TrackedAlert) -> bool {
    matches.iter().all(|one| one.is_met(alert.labels.get(&one.label).map_or("", String::as_str)))
}

/// Whether these rules can make alerts that have all of these labels.
///
/// # Errors
/// Which label no alert has, or not with this value.
pub(super) fn judge(labels: &[(String, String)], rules: &[&AlertRule], instance: &str) -> Result<(), String> {
    if rules.is_empty() {
        return Err("there are no alerts: add `[receiver.NAME]` or `[[alert]]`".to_owned());
    }
    let mut left = rules.to_vec();
    // The name first: what is wrong with the others is said of the alerts of this name.
    let (names, others): (Vec<_>, Vec<_>) = labels.iter().partition(|(label, _)| label == "alertname");
    for (label, pattern) in names.into_iter().chain(others) {
        let wanted = Match::new(label, pattern);
        let is_known = |rule: &&AlertRule| rule.by.contains(label) || fixed_labels(rule, instance).contains_key(label);
        let may_be = |rule: &&AlertRule| match fixed_labels(rule, instance).get(label) {
            Some(value) => wanted.is_met(value),
            None => rule.by.contains(label) || wanted.is_not,
        };
        let next: Vec<&AlertRule> = left.iter().copied().filter(may_be).collect();
        if !next.is_empty() && left.iter().any(is_known) {
            left = next;
            continue;
        }
        let meant = |near: Option<&str>| near.map_or_else(String::new, |near| format!(": did you mean {near:?}?"));
        if label == "alertname" {
            let near = closest(pattern, rules.iter().map(|rule| rule.name.as_str()));
            return Err(format!("there is no alert {pattern:?}{}", meant(near)));
        }
        let whose = match left.as_slice() {
            [one] => format!("the alert {} never has", one.name),
            _ => "no such alert has".to_owned(),
        };
        if left.iter().any(is_known) {
            return Err(format!("{whose} {label}={pattern}"));
        }
        let known =
            left.iter().flat_map(|rule| rule.by.iter().cloned().chain(fixed_labels(rule, instance).into_keys()));
        let known: Vec<String> = known.collect();
        let near = closest(label, known.iter().map(String::as_str));
        return Err(format!("{whose} the label {label:?}{}", meant(near)));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::alert::builtin;

    #[test]
    fn a_clock_that_is_set_back_makes_no_silence_longer() {
        const HOUR: u64 = 3_600_000;
        let new = |seconds| NewSilence { labels: Vec::new(), seconds, reason: String::new(), by: String::new() };
        for (now, expect) in [(100, 101), (1, 2), (101, 0), (1_000, 0)] {
            let mut silences = Silences::default();
            silences.add(new(3_600), 100 * HOUR).unwrap();
            silences.expire(now * HOUR);
            assert_eq!(silences.list.first().map_or(0, |silence| silence.until), expect * HOUR, "{now}");
        }
        let kept = r#"{"number":1,"matches":[],"until":5,"reason":"","by":""}"#;
        assert_eq!(serde_json::from_str::<ActiveSilence>(kept).unwrap().until, 5, "as an earlier program kept it");
    }

    #[test]
    fn a_silence_is_of_alerts_that_there_can_be() {
        let mut rules = builtin::rules();
        let mut own = rules[0].clone();
        (own.name, own.by, own.labels) = ("own".to_owned(), Vec::new(), vec![("team".to_owned(), "edge".to_owned())]);
        rules.push(own);
        let rules: Vec<&AlertRule> = rules.iter().collect();
        for (labels, expect) in [
            (vec!["alertname=own"], Ok(())),
            (vec!["alertname=own", "team=e*"], Ok(())),
            (vec!["alertname=!own"], Ok(())),
            (vec!["alertname=upstream*", "upstream=items"], Ok(())),
            (vec!["team=!shop"], Ok(())),
            (vec!["severity=critical", "instance=here"], Ok(())),
            (vec!["alertname=upstream_server_down", "severity=!critical"], Ok(())),
            (vec!["alertname=disk_ful"], Err("there is no alert \"disk_ful\": did you mean \"disk_full\"?")),
            (vec!["alertname=x"], Err("there is no alert \"x\"")),
            (vec!["alertname=own", "team=shop"], Err("the alert own never has team=shop")),
            (vec!["alertname=own", "upstream=a"], Err("the alert own never has the label \"upstream\"")),
            (vec!["upstraem=items"], Err("no such alert has the label \"upstraem\": did you mean \"upstream\"?")),
            (vec!["tem=!shop"], Err("no such alert has the label \"tem\": did you mean \"team\"?")),
            (vec!["severity=bad"], Err("no such alert has severity=bad")),
            (vec!["instance=there"], Err("no such alert has instance=there")),
        ] {
            let split = |text: &&str| {
                let (label, value) = text.split_once('=').unwrap();
                (label.to_owned(), value.to_owned())
            };
            let read: Vec<_> = labels.iter().map(split).collect();
            assert_eq!(judge(&read, &rules, "here"), expect.map_err(str::to_owned), "{labels:?}");
        }
        assert!(judge(&[], &[], "here").is_err());
    }
}
