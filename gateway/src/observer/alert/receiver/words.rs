//! Alerts in words, for people.

use super::sending::{AlertSender, Sending};
use crate::{observer::alert::tracker::TrackedAlert, os::clock::rfc3339};

/// The most letters of a text that is sent to a chat or as mail.
const LONGEST: usize = 8_000;

/// One line that says what it is about.
pub(super) fn title(sending: &Sending, sender: AlertSender<'_>) -> String {
    let instance = sender.instance;
    match sending {
        Sending::Heartbeat => format!("{instance}: the gateway is well"),
        Sending::Test(_) => format!("{instance}: a test of this receiver"),
        Sending::Alerts(it) => {
            let worst = it.firing.iter().max_by_key(|alert| alert.severity);
            let first = worst.or_else(|| it.ended.first());
            let name = first.map_or("alerts", TrackedAlert::name);
            let others = (it.firing.len() + it.ended.len()).saturating_sub(1);
            let others = if others == 0 { String::new() } else { format!(" and {others} more") };
            match worst {
                Some(worst) => format!("{instance}: {} {name}{others}", worst.severity),
                None => format!("{instance}: ended: {name}{others}"),
            }
        }
    }
}

/// A line for each alert.
pub(super) fn lines(sending: &Sending) -> Vec<String> {
    match sending {
        Sending::Heartbeat => Vec::new(),
        Sending::Test(alert) => vec![line(alert)],
        Sending::Alerts(it) => it.firing.iter().chain(&it.ended).map(line).collect(),
    }
}

/// All of it, cut where it is very long.
pub(super) fn text(sending: &Sending) -> String {
    let mut text = lines(sending).join("\n");
    if text.len() > LONGEST {
        text.truncate(text.floor_char_boundary(LONGEST));
        text.push_str("\n...");
    }
    text
}

fn line(alert: &TrackedAlert) -> String {
    let began = rfc3339(alert.began);
    let since = match alert.ended {
        Some(ended) => format!("from {began} to {}", rfc3339(ended)),
        None => format!("since {began}"),
    };
    let what = if alert.ended.is_some() { "ended".to_owned() } else { alert.severity.to_string() };
    let labels: Vec<String> = alert
        .labels
        .iter()
        .filter(|(name, _)| !["alertname", "severity", "instance"].contains(&name.as_str()))
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    let labels = if labels.is_empty() { String::new() } else { format!(" [{}]", labels.join(", ")) };
    let runbook = alert.runbook.as_ref().map_or_else(String::new, |runbook| format!("; {runbook}"));
    format!("{what} {}: {}{labels} ({since}{runbook})", alert.name(), alert.summary)
}

/// A text without the URLs in it, which may be secrets.
pub(super) fn without_urls(text: &str) -> String {
    let words = text.split(' ').map(|word| if word.contains("://") { "the URL" } else { word });
    words.collect::<Vec<_>>().join(" ")
}
