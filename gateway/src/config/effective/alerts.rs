//! Shows `[[alert]]`, `[alerts]` and `[receiver.NAME]` in force.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::{Sensitive, tls::file};
use crate::{
    config::value::show_duration,
    settings::{
        alert::{self, Aggregation, AlertRule, MailSecurity, Match, Receiver, ReceiverKind, builtin::rules as brought},
        anomalies::Settings as Anomalies,
        audit::AnchorTarget,
        outbound::{Dial, SecretUrl},
    },
};

/// Adds all of these tables.
pub(super) fn add(root: &mut Value, alerts: &alert::Settings, anomalies: Option<&Anomalies>, sensitive: Sensitive) {
    let Some(root) = root.as_object_mut() else { return };
    let rules = rules(alerts);
    root.insert("alert".to_owned(), (!rules.is_empty()).then_some(rules).into());
    root.insert("alerts".to_owned(), (!alerts.rules.is_empty()).then(|| builtin(alerts)).into());
    root.insert("anomalies".to_owned(), anomalies.map(self::anomalies).into());
    root.insert("receiver".to_owned(), (!alerts.receivers.is_empty()).then(|| receivers(alerts, sensitive)).into());
}

/// Alerts of the operator.
fn rules(alerts: &alert::Settings) -> Vec<Value> {
    alerts.rules.iter().filter(|rule| !rule.is_builtin).map(rule).collect()
}

/// Which built-in alerts are on.
fn builtin(alerts: &alert::Settings) -> Value {
    let is_on = alerts.rules.iter().any(|rule| rule.is_builtin);
    let is_there = |name: &str| alerts.rules.iter().any(|rule| rule.name == name);
    let off: Vec<String> =
        brought().into_iter().map(|rule| rule.name).filter(|name| is_on && !is_there(name)).collect();
    json!({ "builtin": is_on, "except": off })
}

fn rule(rule: &AlertRule) -> Value {
    let measure = match &rule.measure {
        Aggregation::Age => "age",
        Aggregation::Increase => "increase",
        Aggregation::Left => "left",
        Aggregation::Quantile(_) => "quantile",
        Aggregation::Rate => "rate",
        Aggregation::Value => "value",
        Aggregation::DividedBy(_) | Aggregation::LessThan(_) | Aggregation::Share(_) => "",
    };
    let divided_by = if let Aggregation::DividedBy(metric) = &rule.measure { Some(metric.row().name) } else { None };
    let quantile =
        if let Aggregation::Quantile(millionths) = &rule.measure { Some(f64::from(*millionths) / 1e6) } else { None };
    let share = if let Aggregation::Share(matches) = &rule.measure { Some(self::matches(matches)) } else { None };
    json!({
        "name": rule.name,
        "metric": rule.metric.row().name,
        "where": (!rule.filter.is_empty()).then(|| matches(&rule.filter)),
        "by": rule.by,
        "measure": (!measure.is_empty()).then_some(measure),
        "share": share,
        "divided_by": divided_by,
        "quantile": quantile,
        "condition": format!("{} {}", rule.condition.comparison, rule.condition.bound),
        "for": show_duration(rule.hold),
        "recover_after": show_duration(rule.recover_after),
        "window": show_duration(rule.window),
        "at_least": rule.at_least,
        "severity": rule.severity.name(),
        "labels": (!rule.labels.is_empty()).then(|| rule.labels.iter().cloned().collect::<BTreeMap<_, _>>()),
        "summary": rule.summary,
        "runbook": rule.runbook,
    })
}

fn matches(matches: &[Match]) -> BTreeMap<&str, String> {
    matches.iter().map(|one| (&*one.label, one.written())).collect()
}

/// `[anomalies]`.
fn anomalies(anomalies: &Anomalies) -> Value {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "it was a whole number, and is not large"
    )]
    let sensitivity = anomalies.sensitivity as u32;
    let actions = &anomalies.actions;
    json!({
        "sensitivity": sensitivity,
        "minutes": anomalies.minutes,
        "time_zone": anomalies.zone,
        "for": show_duration(actions.lasts),
        "per_minute": actions.per_minute,
        "divide": actions.divide,
        "capacity": anomalies.capacity,
        "actions": { "failures": actions.failures.name(), "requests": actions.requests.name() },
    })
}

/// Every receiver.
fn receivers(alerts: &alert::Settings, sensitive: Sensitive) -> Value {
    Value::Object(alerts.receivers.iter().map(|one| (one.name.clone(), receiver(one, sensitive))).collect())
}

fn receiver(receiver: &Receiver, sensitive: Sensitive) -> Value {
    let mut table = Map::new();
    let mut put = |key: &str, value: Value| drop(table.insert(key.to_owned(), value));
    put("type", receiver.kind.name().into());
    let address = |url: &SecretUrl| match &url.file {
        Some(path) => ("url_file", file(path).into()),
        None => ("url", sensitive.show(url.text.clone())),
    };
    match &receiver.kind {
        ReceiverKind::Alertmanager { url, token } => {
            let (key, value) = address(url);
            put(key, value);
            put("token_file", token.as_ref().map(file).into());
        }
        ReceiverKind::Email(mail) => {
            let scheme = MailSecurity::SCHEMES.into_iter().find(|(_, security)| *security == mail.security);
            let host = if mail.host.contains(':') { format!("[{}]", mail.host) } else { mail.host.clone() };
            put("server", format!("{}://{host}:{}", scheme.map_or("", |(name, _)| name), mail.port).into());
            put("user", mail.user.clone().into());
            put("password_file", mail.password.as_ref().map(file).into());
            put("from", mail.from.clone().into());
            put("to", mail.to.clone().into());
        }
        ReceiverKind::Opsgenie { url, key } | ReceiverKind::PagerDuty { url, key } => {
            let (name, value) = address(url);
            put(name, value);
            put("key_file", file(key).into());
        }
        ReceiverKind::Slack { url } | ReceiverKind::Teams { url } => {
            let (key, value) = address(url);
            put(key, value);
        }
        ReceiverKind::Syslog(server) => put("server", AnchorTarget::Syslog(server.clone()).text().into()),
        ReceiverKind::Webhook { url, secret, token } => {
            let (key, value) = address(url);
            put(key, value);
            put("secret_file", secret.as_ref().map(file).into());
            put("token_file", token.as_ref().map(file).into());
        }
    }
    if !matches!(receiver.kind, ReceiverKind::Syslog(_)) {
        dial(&receiver.dial, &mut put);
    }
    put("severity", receiver.severity.name().into());
    put("match", (!receiver.filter.is_empty()).then(|| json!(matches(&receiver.filter))).into());
    put("group_by", receiver.group_by.clone().into());
    put("group_wait", show_duration(receiver.group_wait).into());
    put("group_interval", show_duration(receiver.group_interval).into());
    put("repeat", show_duration(receiver.repeat).into());
    put("max_per_hour", receiver.max_per_hour.into());
    put("resolved", receiver.resolved.into());
    put("heartbeat", receiver.heartbeat.map(show_duration).into());
    Value::Object(table)
}

/// How a server that the observer asks is connected to.
pub(super) fn dial(dial: &Dial, mut put: impl FnMut(&'static str, Value)) {
    put("ca", Some(&dial.ca).filter(|ca| !ca.path.as_os_str().is_empty()).map(file).into());
    put("certificate", dial.certificate.as_ref().map(file).into());
    put("private_key", dial.private_key.as_ref().map(file).into());
    put("allow_private", dial.allow_private.into());
    put("allow_http", dial.allow_http.into());
    put("timeout", show_duration(dial.timeout).into());
}
