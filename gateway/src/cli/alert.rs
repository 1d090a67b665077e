//! `gateway alert`: alerts that fire, whether receivers get them, and silences.

use std::{collections::BTreeMap, time::Duration};

use clap::{Args, Subcommand};

use super::{
    arguments,
    context::Context,
    exit::Exit,
    table::{Table, seconds},
};
use crate::{
    config::value,
    guard::control::{ControlAnswer, ControlRequest},
    message::observer::alert::AlertReport,
    os::clock::Now,
    settings::alert::LONGEST_SILENCE,
    text::counted::counted,
};

#[derive(Debug, Subcommand)]
#[command(after_help = "\
A silence names labels of alerts. `alertname` is the alert's name; a value may
end in `*`, and begin with `!` for whatever is not that.

Examples:
  gateway alert list
  gateway alert test
  gateway alert test --receiver pager
  gateway alert silence upstream_server_down upstream=items --for 2h \\
    --reason 'new servers'
  gateway alert unsilence 3")]
pub(super) enum AlertCommand {
    /// List alerts, silences, and how each receiver is
    List,
    /// Send a test to all receivers, and show which of them got it
    Test {
        /// To this receiver alone
        #[arg(long, value_name = "NAME")]
        receiver: Option<String>,
    },
    /// Tell nobody of some alerts for a while
    Silence(Silence),
    /// End a silence
    Unsilence {
        /// Its number, as `list` shows it
        #[arg(value_parser = arguments::id)]
        id: u64,
    },
}

#[derive(Debug, Args)]
pub(super) struct Silence {
    /// The alert's name, and LABEL=VALUE for each further label
    #[arg(required = true, value_name = "NAME|LABEL=VALUE", value_parser = label)]
    labels: Vec<(String, String)>,
    /// For so long: at most 365d
    #[arg(long = "for", value_name = "DURATION", value_parser = duration)]
    lasts: Duration,
    /// Why, for whoever asks where the alerts are
    #[arg(long, default_value = "")]
    reason: String,
}

impl AlertCommand {
    pub(super) fn execute(self, context: &Context) -> Exit {
        let request = match self {
            Self::List => ControlRequest::AlertList,
            Self::Test { receiver } => ControlRequest::AlertTest { receiver },
            Self::Silence(silence) => {
                let labels = match labels(silence.labels) {
                    Ok(labels) => labels,
                    Err(wrong) => return context.out.fail(&wrong, Exit::Usage),
                };
                ControlRequest::AlertSilence { labels, seconds: silence.lasts.as_secs(), reason: silence.reason }
            }
            Self::Unsilence { id } => ControlRequest::AlertUnsilence { id },
        };
        let is_test = matches!(request, ControlRequest::AlertTest { .. });
        context.ask(&request, |answer| match answer {
            ControlAnswer::Alerts(report) if is_test => Some(tests(report)),
            ControlAnswer::Alerts(report) => Some(list(report)),
            _ => None,
        })
    }
}

/// `NAME`, or `LABEL=VALUE`.
fn label(word: &str) -> Result<(String, String), String> {
    let (name, value) = word.split_once('=').unwrap_or(("alertname", word));
    if name.is_empty() || value.is_empty() {
        return Err("write an alert's name, or LABEL=VALUE with both; `*` is any value".to_owned());
    }
    Ok((name.to_owned(), value.to_owned()))
}

/// All labels that an alert must have. It has each of them once.
fn labels(words: Vec<(String, String)>) -> Result<BTreeMap<String, String>, String> {
    let mut labels = BTreeMap::new();
    for (name, value) in words {
        if let Some(first) = labels.insert(name.clone(), value.clone()) {
            let hint = "make a silence for each, or end a pattern in `*`";
            let what = match name.as_str() {
                "alertname" => format!("no alert is both {first} and {value}"),
                label => format!("no alert has {label}={first} and {label}={value}"),
            };
            return Err(format!("{what}: {hint}"));
        }
    }
    Ok(labels)
}

pub(super) fn tests(report: &AlertReport) -> String {
    let mut table = Table::new(["RECEIVER", "TYPE", "TEST"]);
    for receiver in &report.receivers {
        let result = match (&receiver.why, receiver.tested) {
            (_, Some(true)) => "sent".to_owned(),
            (why, _) => format!("failed: {}", why.as_deref().unwrap_or("no answer")),
        };
        table.row([receiver.name.clone(), receiver.kind.clone(), result]);
    }
    table.render()
}

pub(super) fn list(report: &AlertReport) -> String {
    let now = Now::read().unix_seconds();
    let mut parts = Vec::new();
    if report.alerts.is_empty() {
        parts.push(match report.rules {
            0 => "there are no rules: add `[receiver.NAME]` or `[[alert]]`".to_owned(),
            rules => format!("nothing is wrong by {}", counted(rules, "rule", "rules")),
        });
    } else {
        let mut table = Table::new(["STATE", "SEVERITY", "ALERT", "FOR", "SUMMARY"]);
        for alert in &report.alerts {
            let since =
                alert.since.parse::<jiff::Timestamp>().ok().and_then(|since| u64::try_from(since.as_second()).ok());
            let since = since.map_or_else(|| "-".to_owned(), |since| seconds(now.saturating_sub(since)));
            table.row([alert.state.clone(), alert.severity.clone(), alert.name.clone(), since, alert.summary.clone()]);
        }
        parts.push(table.render());
        if report.more > 0 {
            parts.push(format!("and {} more", report.more));
        }
    }
    if !report.silences.is_empty() {
        let mut table = Table::new(["SILENCE", "OF", "UNTIL", "BY", "REASON"]);
        for silence in &report.silences {
            let of: Vec<String> = silence.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
            table.row([
                silence.id.to_string(),
                of.join(" "),
                silence.until.replace(".000Z", "Z").replace('T', " "),
                silence.by.clone(),
                silence.reason.clone(),
            ]);
        }
        parts.push(table.render());
    }
    if !report.receivers.is_empty() {
        let mut table = Table::new(["RECEIVER", "TYPE", "WAITING", "STATE"]);
        for receiver in &report.receivers {
            let state = match &receiver.why {
                Some(why) => format!("failing ({} in a row): {why}", receiver.failures),
                None => "ok".to_owned(),
            };
            table.row([receiver.name.clone(), receiver.kind.clone(), receiver.waiting.to_string(), state]);
        }
        parts.push(table.render());
    }
    parts.join("\n\n")
}

fn duration(text: &str) -> Result<Duration, String> {
    let duration = value::duration(text).map_err(|wrong| wrong.hint.unwrap_or(wrong.message))?;
    let is_fine = duration.subsec_nanos() == 0 && (1..=LONGEST_SILENCE.as_secs()).contains(&duration.as_secs());
    is_fine.then_some(duration).ok_or_else(|| "write 1s to 365d, in whole seconds".to_owned())
}
