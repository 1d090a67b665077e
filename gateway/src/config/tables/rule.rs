//! Reads `[[rule]]`: which signals, and how many of them, get a source banned.

use std::time::Duration;

use crate::{
    config::{
        reader::{Keys, Reader},
        table::Table,
        value::{
            self,
            form::{Form as _, described},
            word::simple_name,
        },
    },
    diagnostic::Diagnostic,
    settings::{
        detect::{MAX_EVIDENCE, Rule},
        guard::LONGEST_BAN,
    },
    signal::{FORMER, Signal},
};

/// The keys of `[[rule]]`.
pub(super) const KEYS: Keys = &[
    ("name", "The rule's name, in logs and as the actor of its bans."),
    ("signals", "The signals that count."),
    ("count", "This many signals lead to a ban."),
    ("within", "The time in which they must come."),
    ("ban", "How long the first ban lasts. `[guard.ladder]` makes later ones longer."),
    ("shadow", "`true` records the ban and drops nothing."),
];

const SECOND: Duration = Duration::from_secs(1);

const DAY: Duration = Duration::from_secs(86_400);

pub(super) fn read(tables: Vec<Table<'_>>, reader: &Reader<'_>) -> Vec<Rule> {
    let mut read: Vec<Rule> = Vec::new();
    for table in tables {
        let name = table.required(
            "name",
            "\"bad-tokens\"",
            described("name", |value| {
                let name = value::text(value)?;
                simple_name(name).map(|()| name.to_owned())
            }),
        );
        if let Some(earlier) = read.iter().position(|rule| Some(&rule.name) == name.as_ref()) {
            let wrong = Diagnostic::bare(format!("the name is already used by rule[{earlier}]"));
            table.report("name", wrong.hint("give each rule a name of its own"));
        }
        let rule = Rule {
            name: name.unwrap_or_default(),
            signals: signals(&table, reader),
            count: table.required("count", "10", value::integer(1..=EVIDENCE)).unwrap_or(1),
            within: table.required("within", "\"60s\"", value::duration_in(SECOND..=DAY)).unwrap_or(SECOND),
            ban: table.required("ban", "\"10m\"", value::duration_in(SECOND..=LONGEST_BAN)).unwrap_or(SECOND),
            shadow: table.or("shadow", false, value::boolean()),
        };
        table.finish();
        read.push(rule);
    }
    read
}

/// Every signal that fills a rule's bucket is evidence, and a ban names at most this many.
#[expect(clippy::cast_possible_truncation, reason = "64")]
const EVIDENCE: u32 = MAX_EVIDENCE as u32;

fn signals(table: &Table<'_>, reader: &Reader<'_>) -> Vec<Signal> {
    let words = Signal::ALL.map(|signal| (signal.name(), signal));
    let example = format!("[{}]", words.map(|(name, _)| format!("{name:?}")).join(", "));
    let is_former = std::cell::Cell::new(false);
    let known = value::choice(&words);
    let read = |value: &toml::de::DeValue<'_>| {
        if value::text(value).is_ok_and(|name| name == FORMER.0) {
            is_former.set(true);
            return Ok(FORMER.1);
        }
        known.read(value)
    };
    let signals = table.required_list("signals", &example, described(known.takes(), read));
    if let Some((key, _)) = signals.first().filter(|_| is_former.get()) {
        let key = key.rsplit_once('[').map_or(key.as_str(), |(list, _)| list);
        let warning = Diagnostic::new(
            key,
            format!("{:?} is now called {:?}: only forged tokens count", FORMER.0, FORMER.1.name()),
        );
        let others = "expired_token, not_yet_valid, unknown_key, unfit_token, wrong_audience, wrong_issuer";
        reader.warn(
            warning.hint(format!("write the new name; other invalid tokens have signals of their own: {others}")),
        );
    }
    for (index, (key, signal)) in signals.iter().enumerate() {
        if signals.iter().take(index).any(|(_, earlier)| earlier == signal) {
            let diagnostic = Diagnostic::new(key, format!("{:?} is listed twice", signal.name()));
            reader.report(diagnostic.hint("name each signal once"));
        }
    }
    signals.into_iter().map(|(_, signal)| signal).collect()
}
