//! Warns of receivers that a slip of the pen keeps from being told: no alert has what they ask for.

use crate::{
    config::{reader::Reader, value::closest},
    diagnostic::Diagnostic,
    settings::alert::{AlertRule, Match, OF_EVERY_ALERT, Receiver},
};

/// Warns of them. Who gets a heartbeat may want nothing else.
pub(super) fn warn(receivers: &[Receiver], rules: &[AlertRule], reader: &Reader<'_>) {
    for receiver in receivers.iter().filter(|receiver| receiver.heartbeat.is_none()) {
        judge(receiver, rules).into_iter().for_each(|warning| reader.warn(warning));
    }
}

fn judge(receiver: &Receiver, rules: &[AlertRule]) -> Vec<Diagnostic> {
    let own = format!("receiver.{}", receiver.name);
    let has = |label: &str| rules.iter().any(|rule| rule.has_label(label));
    let grouped = receiver.group_by.iter().enumerate().filter(|(_, label)| !rules.is_empty() && !has(label));
    let mut warnings: Vec<Diagnostic> = grouped
        .map(|(at, label)| {
            let warning = Diagnostic::new(format!("{own}.group_by[{at}]"), format!("no alert has the label {label:?}"));
            warning.hint(meant(label, &labels(rules)))
        })
        .collect();
    let meets = |rule: &AlertRule, wanted: &Match| rule.may_meet(wanted);
    let is_told = |rule: &&AlertRule| {
        rule.severity >= receiver.severity && receiver.filter.iter().all(|wanted| meets(rule, wanted))
    };
    // What no alert has at all is told of, whether it keeps the others out or is of no effect.
    let unknown = receiver.filter.iter().filter(|wanted| !rules.is_empty() && !has(&wanted.label));
    let unmet =
        receiver.filter.iter().find(|wanted| has(&wanted.label) && !rules.iter().any(|rule| meets(rule, wanted)));
    warnings.extend(unknown.map(|wanted| {
        let key = format!("{own}.match.{}", wanted.label);
        Diagnostic::new(key, format!("no alert has the label {:?}", wanted.label))
            .hint(meant(&wanted.label, &labels(rules)))
    }));
    if let Some(wanted) = unmet {
        let message = format!("no alert has {}={}: this receiver is told of nothing", wanted.label, wanted.written());
        let known: Vec<&str> = match wanted.label.as_str() {
            "alertname" => rules.iter().map(|rule| rule.name.as_str()).collect(),
            "severity" => rules.iter().map(|rule| rule.severity.name()).collect(),
            label => values(rules, label),
        };
        warnings.push(
            Diagnostic::new(format!("{own}.match.{}", wanted.label), message).hint(meant(&wanted.pattern, &known)),
        );
    } else if warnings.is_empty() && !rules.iter().any(|rule| is_told(&rule)) {
        let hint = match rules.is_empty() {
            true => "write an [[alert]], or leave the built-in ones on",
            false => "no alert has all that `match` and `severity` ask for",
        };
        warnings.push(Diagnostic::new(own, "is told of nothing").hint(hint));
    }
    warnings
}

fn labels(rules: &[AlertRule]) -> Vec<&str> {
    let own = rules.iter().flat_map(|rule| rule.labels.iter().map(|(label, _)| label).chain(&rule.by));
    let mut labels: Vec<&str> = own.map(String::as_str).chain(OF_EVERY_ALERT).collect();
    labels.sort_unstable();
    labels.dedup();
    labels
}

fn values<'r>(rules: &'r [AlertRule], label: &str) -> Vec<&'r str> {
    let own = rules.iter().flat_map(|rule| &rule.labels).filter(|(own, _)| own == label);
    own.map(|(_, value)| value.as_str()).collect()
}

fn meant(text: &str, known: &[&str]) -> String {
    match closest(text, known.iter().copied()) {
        Some(near) => format!("did you mean {near:?}?"),
        None => format!("there are: {}", known.join(", ")),
    }
}
