//! Reads `[[alert]]` and `[alerts]`: when somebody is told of something.

use std::time::Duration;

use toml::de::DeValue;

use crate::{
    config::{
        reader::{Keys, Reader},
        table::{Table, values},
        value::{
            self,
            form::{Form as _, described},
            word::simple_name,
        },
    },
    diagnostic::Diagnostic,
    metric::{Metric, MetricKind},
    settings::alert::{
        self, Aggregation, AlertCondition, AlertRule, LONGEST_WINDOW, Match, OF_EVERY_ALERT, Receiver, Severity,
        builtin,
    },
};

mod bound;
mod possible;
mod unheard;

/// The keys of `[[alert]]`.
pub(super) const KEYS: Keys = &[
    ("name", "The alert's name. The name of a built-in alert puts this one in its place."),
    (
        "metric",
        "What is looked at: a metric of `/metrics`, or `error_share`, `upstream_error_share`, `failed_logins`, `requests` \
         or `latency`. See `docs/alerts.md`.",
    ),
    (
        "where",
        "Which series count, by label: `{ route = \"/login\" }`. `*` at the end: any end. `!` before: any other.",
    ),
    ("by", "Labels whose values are told apart, each with an alert of its own. Without it: all series together."),
    (
        "measure",
        "How a number is made: of counters `rate` (per second) or `increase`, of gauges `value`, `age` or `left`, of \
         histograms `quantile`. Without it: the first of these.",
    ),
    ("share", "Of counters instead: the share of the series that match, too, as `{ status = \"5xx\" }`."),
    ("divided_by", "Of gauges instead: divided by another gauge that has the same labels."),
    ("quantile", "Of histograms: the time that this share of all was not over."),
    ("condition", "When there is an alert: a comparison and a number, as `> 5 %`, `>= 10`, `< 500ms`, `< 1GiB`."),
    ("for", "How long the condition must hold."),
    ("recover_after", "How long it must not hold for the alert to end."),
    ("window", "Over which time counters and histograms are looked at."),
    ("at_least", "With fewer samples than this within the window there is no alert. For `share` and `quantile`."),
    ("severity", "How bad it is. Receivers choose by it."),
    ("labels", "Labels of the alert besides those of `by`. Receivers choose by them."),
    ("summary", "What the alert says. `{value}` and `{LABEL}` stand for values. Without it: the condition in words."),
    ("runbook", "A URL where it is written what to do."),
];

/// The keys of `[alerts]`.
pub(super) const ALERTS_KEYS: Keys = &[
    ("builtin", "Whether the built-in alerts are on."),
    ("except", "Built-in alerts that are off, by name. `docs/alerts.md` lists all."),
];

/// What stands for the keys of `where`, `share` and `labels`.
const LABELS: Keys = &[("LABEL", "The value of the label `LABEL`.")];

const SECOND: Duration = Duration::from_secs(1);

const DAY: Duration = Duration::from_secs(86_400);

/// More rules than this nobody understands.
const MOST: usize = 200;

/// Names for what is asked for most.
enum Short {
    Metric(Metric),
    ShareOf(Metric, &'static [(&'static str, &'static str)]),
    Filtered(Metric, &'static [(&'static str, &'static str)]),
}

const SHORT: [(&str, Short); 5] = [
    ("error_share", Short::ShareOf(Metric::Requests, &[("status", "5xx")])),
    ("failed_logins", Short::Filtered(Metric::Authentications, &[("result", "!accepted")])),
    ("latency", Short::Metric(Metric::RequestDuration)),
    ("requests", Short::Metric(Metric::Requests)),
    (
        "upstream_error_share",
        Short::ShareOf(
            Metric::UpstreamRequests,
            &[("status", "!1xx"), ("status", "!2xx"), ("status", "!3xx"), ("status", "!4xx")],
        ),
    ),
];

/// `None` is read as: nothing is told to anybody. `receivers`: who is told.
pub(super) fn read(
    tables: Vec<Table<'_>>,
    alerts: Table<'_>,
    receivers: Vec<Receiver>,
    has_admin: bool,
    reader: &Reader<'_>,
) -> alert::Settings {
    let mut rules: Vec<AlertRule> = Vec::new();
    for (index, table) in tables.into_iter().enumerate() {
        if index == 0 && !has_admin && !reader.is_reference() {
            let wrong = Diagnostic::bare("needs the observer, which tells of alerts");
            table.report("name", wrong.hint("add `[admin]` with `address = \"127.0.0.1:9901\"`"));
        }
        if index == MOST {
            table.report("name", Diagnostic::bare(format!("there are more than {MOST} alerts")));
        }
        let rule = rule(&table, reader);
        if let Some(earlier) =
            rules.iter().position(|earlier| rule.as_ref().is_some_and(|rule| rule.name == earlier.name))
        {
            let wrong = Diagnostic::bare(format!("the name is already used by alert[{earlier}]"));
            table.report("name", wrong.hint("give each alert a name of its own"));
        }
        table.finish();
        rules.extend(rule);
    }
    let brought = builtin::rules();
    let names: Vec<(&str, &str)> = brought.iter().map(|rule| (&*rule.name, &*rule.name)).collect();
    let is_on = alerts.or("builtin", true, value::boolean());
    let except = values(alerts.list(
        "except",
        described("name of a built-in alert", |value| value::choice(&names).read(value).map(str::to_owned)),
    ));
    alerts.finish();
    // Who tells nobody and has asked for nothing is told nothing.
    let is_wanted = is_on && (!rules.is_empty() || !receivers.is_empty());
    let own: Vec<String> = rules.iter().map(|rule| rule.name.clone()).collect();
    rules.extend(
        brought.into_iter().filter(|rule| is_wanted && !own.contains(&rule.name) && !except.contains(&rule.name)),
    );
    unheard::warn(&receivers, &rules, reader);
    alert::Settings { rules, receivers }
}

fn rule(table: &Table<'_>, reader: &Reader<'_>) -> Option<AlertRule> {
    let name = table.required("name", "\"login-errors\"", described("name", simple));
    let found = table.required("metric", "\"error_share\"", described("name of a metric", metric));
    let filter = labels(table, "where", reader);
    let by = table.list("by", described("name of a label", value::line));
    let measured = table.optional("measure", value::choice(&MEASURES));
    let share = labels(table, "share", reader);
    let divided_by = table.optional("divided_by", described("name of a gauge", metric));
    let quantile =
        table.or("quantile", 990_000, described("number from 0 to 1", value::share).written(|_| "0.99".to_owned()));
    let condition = table.required("condition", "\"> 5 %\"", described("comparison", bound::condition));
    let hold = table.or("for", Duration::ZERO, value::duration_in(Duration::ZERO..=DAY));
    let recover_after = table.or("recover_after", 60 * SECOND, value::duration_in(Duration::ZERO..=DAY));
    let window = table.or("window", 60 * SECOND, value::duration_in(5 * SECOND..=LONGEST_WINDOW));
    let at_least = table.or("at_least", 20, value::integer(0..=1_000_000_u64));
    let severity = table.or("severity", Severity::Warning, value::choice(&Severity::NAMES));
    let own_labels = own_labels(table, reader);
    let summary = table.optional("summary", described("string", value::line));
    let runbook = table.optional("runbook", described("URL", value::line));
    let (name, (metric, preset), condition) = (name?, found?, condition?);
    let row = metric.row();
    let known = |key: &str, label: &str, report: &dyn Fn(Diagnostic)| {
        if !row.labels.contains(&label) {
            let wrong = Diagnostic::bare(format!("{} has no label {label:?}", row.name));
            let hint = match row.labels {
                [] => format!("leave `{key}` out: it has none"),
                labels => format!("it has: {}", labels.join(", ")),
            };
            report(wrong.hint(hint));
        }
    };
    for (key, label) in &by {
        known("by", label, &|wrong| reader.report(wrong.at(key)));
    }
    for (table_key, matches) in [("where", &filter), ("share", &share)] {
        for one in matches {
            known(table_key, &one.label, &|wrong| {
                reader.report(wrong.at(format!("{}.{}", table.key(table_key), one.label)))
            });
            if let Err((wrong, hint)) = possible::judge(metric, one) {
                let key = format!("{}.{}", table.key(table_key), one.label);
                reader.report(Diagnostic::new(key, wrong).hint(hint));
            }
        }
    }
    let by = values(by);
    let (mut filter, mut share) = (filter, share);
    match preset {
        Preset::Filter(more) => filter.extend(more),
        Preset::Share(more) => share.extend(more),
    }
    let measure = measure(table, metric, measured, share, divided_by.map(|(metric, _)| metric), quantile)?;
    if let Err(wrong) = condition.judge(&measure, metric) {
        table.report("condition", wrong);
    }
    let (condition, unit) = (condition.condition, measure.unit(metric));
    let summary = summary.unwrap_or_else(|| usual_summary(table, &by, &condition, unit));
    judge_summary(table, &summary, &by, &own_labels);
    Some(AlertRule {
        name,
        severity,
        metric,
        measure,
        filter,
        by,
        condition,
        hold,
        recover_after,
        window,
        at_least,
        labels: own_labels,
        summary,
        runbook,
        is_builtin: false,
    })
}

fn simple(value: &DeValue<'_>) -> Result<String, Diagnostic> {
    let name = value::text(value)?;
    simple_name(name).map(|()| name.to_owned())
}

/// What a name of [`SHORT`] adds.
enum Preset {
    Filter(Vec<Match>),
    Share(Vec<Match>),
}

fn metric(value: &DeValue<'_>) -> Result<(Metric, Preset), Diagnostic> {
    let text = value::text(value)?;
    let matches = |pairs: &[(&str, &str)]| pairs.iter().map(|(label, pattern)| Match::new(label, pattern)).collect();
    if let Some((_, short)) = SHORT.iter().find(|(name, _)| *name == text) {
        return Ok(match short {
            Short::Metric(metric) => (*metric, Preset::Filter(Vec::new())),
            Short::Filtered(metric, pairs) => (*metric, Preset::Filter(matches(pairs))),
            Short::ShareOf(metric, pairs) => (*metric, Preset::Share(matches(pairs))),
        });
    }
    if let Some(metric) = Metric::ALL.iter().find(|metric| metric.row().name == text) {
        return Ok((*metric, Preset::Filter(Vec::new())));
    }
    let names = SHORT.iter().map(|(name, _)| *name).chain(Metric::ALL.iter().map(|metric| metric.row().name));
    let wrong = Diagnostic::bare(format!("{text:?} is no metric of this gateway"));
    Err(match value::closest(text, names) {
        Some(name) => wrong.hint(format!("did you mean {name:?}?")),
        None => wrong.hint("docs/reference/metrics.md lists all metrics"),
    })
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Measured {
    Age,
    Increase,
    Left,
    Quantile,
    Rate,
    Value,
}

const MEASURES: [(&str, Measured); 6] = [
    ("age", Measured::Age),
    ("increase", Measured::Increase),
    ("left", Measured::Left),
    ("quantile", Measured::Quantile),
    ("rate", Measured::Rate),
    ("value", Measured::Value),
];

/// How the number is made; `None`: the keys contradict each other, which is reported.
fn measure(
    table: &Table<'_>,
    metric: Metric,
    measured: Option<Measured>,
    share: Vec<Match>,
    divided_by: Option<Metric>,
    quantile: u32,
) -> Option<Aggregation> {
    let row = metric.row();
    let (kind, is_gauge) = (row.kind, matches!(row.kind, MetricKind::Current | MetricKind::Gauge));
    let wrong = |key: &str, what: &str, hint: &str| {
        table.report(key, Diagnostic::bare(format!("{} is {what}", row.name)).hint(hint.to_owned()));
        None
    };
    let ways = [measured.is_some(), !share.is_empty(), divided_by.is_some()];
    if ways.into_iter().filter(|way| *way).count() > 1 {
        let key = if divided_by.is_some() { "divided_by" } else { "measure" };
        let hint = "write one of `measure`, `share` and `divided_by`";
        table.report(key, Diagnostic::bare("contradicts the rest: a number is made in one way").hint(hint));
        return None;
    }
    if !share.is_empty() {
        return match kind {
            MetricKind::Counter => Some(Aggregation::Share(share)),
            _ => wrong("share", "no counter", "only counters have shares: leave it out"),
        };
    }
    if let Some(other) = divided_by {
        let is_alike = matches!(other.row().kind, MetricKind::Current | MetricKind::Gauge) && is_gauge;
        return if is_alike {
            Some(Aggregation::DividedBy(other))
        } else {
            wrong("divided_by", "divided by what it cannot be", "name two gauges")
        };
    }
    let usual = match kind {
        MetricKind::Counter => Measured::Rate,
        MetricKind::Histogram => Measured::Quantile,
        MetricKind::Current | MetricKind::Gauge => Measured::Value,
    };
    let is_moment = row.name.ends_with("_timestamp_seconds");
    match (measured.unwrap_or(usual), kind) {
        (Measured::Rate, MetricKind::Counter) => Some(Aggregation::Rate),
        (Measured::Increase, MetricKind::Counter) => Some(Aggregation::Increase),
        (Measured::Quantile, MetricKind::Histogram) => Some(Aggregation::Quantile(quantile)),
        (Measured::Value, _) if is_gauge => Some(Aggregation::Value),
        (Measured::Age, _) if is_gauge && is_moment => Some(Aggregation::Age),
        (Measured::Left, _) if is_gauge && is_moment => Some(Aggregation::Left),
        (Measured::Age | Measured::Left, _) => {
            wrong("measure", "no moment", "name a metric that ends in _timestamp_seconds")
        }
        (_, MetricKind::Counter) => wrong("measure", "a counter", "write \"rate\" or \"increase\""),
        (_, MetricKind::Histogram) => wrong("measure", "a histogram", "write \"quantile\""),
        _ => wrong("measure", "a gauge", "write \"value\", \"age\" or \"left\""),
    }
}

/// The patterns of `where` or `share`.
fn labels(table: &Table<'_>, name: &'static str, reader: &Reader<'_>) -> Vec<Match> {
    let mut matches = Vec::new();
    for (key, label, pattern) in
        table.table(name, LABELS).named_values(described("string", |value| value::text(value).map(str::to_owned)))
    {
        match pattern {
            Ok(pattern) => matches.push(Match::new(&label, &pattern)),
            Err(wrong) => reader.report(wrong.at(key)),
        }
    }
    matches
}

fn own_labels(table: &Table<'_>, reader: &Reader<'_>) -> Vec<(String, String)> {
    let mut labels = Vec::new();
    for (key, label, value) in table.table("labels", LABELS).named_values(described("string", value::line)) {
        // What Alertmanager takes as a name.
        let is_name = label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
            && !label.bytes().next().is_none_or(|byte| byte.is_ascii_digit());
        let is_taken = OF_EVERY_ALERT.contains(&&*label);
        match value {
            Err(wrong) => reader.report(wrong.at(key)),
            Ok(_) if is_taken => {
                reader.report(
                    Diagnostic::new(key, "is a label that the gateway sets itself").hint("choose another name"),
                );
            }
            Ok(_) if !is_name => {
                let wrong = Diagnostic::new(key, format!("{label:?} is no name of a label"));
                reader.report(wrong.hint("write letters, digits and \"_\""));
            }
            Ok(value) => labels.push((label, value)),
        }
    }
    labels
}

/// The condition in words.
fn usual_summary(table: &Table<'_>, by: &[String], condition: &AlertCondition, unit: alert::NumberUnit) -> String {
    let what = table.optional("metric", described("name of a metric", value::line)).unwrap_or_default();
    let of: Vec<String> = by.iter().map(|label| format!("{label} {{{label}}}")).collect();
    let of = if of.is_empty() { String::new() } else { format!(" of {}", of.join(", ")) };
    format!("{what}{of} is {{value}} ({})", condition.show(unit))
}

/// Reports what a summary names that there is not.
fn judge_summary(table: &Table<'_>, summary: &str, by: &[String], labels: &[(String, String)]) {
    for part in summary.split('{').skip(1) {
        let name = part.split_once('}').map(|(name, _)| name);
        let is_known = |name: &str| {
            ["value", "sentence"].contains(&name)
                || by.iter().any(|label| label == name)
                || labels.iter().any(|(label, _)| label == name)
        };
        if !name.is_some_and(is_known) {
            let wrong =
                Diagnostic::bare(format!("{{{} is neither the value nor a label of this alert", name.unwrap_or(part)));
            table.report("summary", wrong.hint("write {value}, or a label that `by` or `labels` names"));
        }
    }
}
