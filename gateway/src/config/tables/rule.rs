//! Reads `[[rule]]`: which signals, and how many of them, get a source banned. A rule without `signals` changes the default
//! rule of its name.

use std::{collections::BTreeMap, time::Duration};

use crate::{
    config::{
        reader::{Keys, Reader},
        table::Table,
        value::{
            self, closest,
            form::{Form as _, described},
            word::simple_name,
        },
    },
    diagnostic::Diagnostic,
    settings::{
        detect::{Defaults, Distinct, GroupBy, MAX_EVIDENCE, Rule},
        guard::LONGEST_BAN,
    },
    signal::{FORMER, Signal},
};

mod defaults;

/// The keys of `[[rule]]`.
pub(super) const KEYS: Keys = &[
    (
        "name",
        "The rule's name, in logs and as the actor of its bans. That of a default rule, without `signals`, changes it.",
    ),
    ("enabled", "`false` turns the rule off."),
    ("signals", "The signals that count."),
    ("count", "This many signals lead to a ban."),
    ("weights", "How much each signal counts. Without it: 1, and 0 for `unusual`."),
    (
        "distinct",
        "What is counted in place of signals. `principals`, `paths`, `objects`, `agents`: different ones of one source. \
         `paths` takes all ids for one, `objects` does not. `sources`: different sources of one principal.",
    ),
    (
        "by",
        "Whose signals are added up. `prefix`: an IPv4 /24 or IPv6 /48. `session`: one token of a principal. Where it is \
         not `source`, each source is banned that goes on once `count` is reached.",
    ),
    (
        "share",
        "The signals must be at least so many percent of the source's requests. The others are those that were served.",
    ),
    ("after", "The signals count only after one of these, which must have come `within` the time."),
    ("within", "The time in which they must come."),
    ("ban", "How long the first ban lasts. `[guard.ladder]` makes later ones longer."),
    ("shadow", "`true` records the ban and drops nothing. Of a default rule: as `detect.defaults` says, else `true`."),
];

/// What stands for the keys of `rule.weights`, which are the rule's signals.
const WEIGHTS: Keys = &[("SIGNAL", "How much the signal `SIGNAL` counts.")];

const SECOND: Duration = Duration::from_secs(1);

const DAY: Duration = Duration::from_secs(86_400);

/// What rules need to know of the rest of the configuration.
#[derive(Clone, Copy)]
pub(super) struct RuleReferences {
    pub(super) defaults: Defaults,
    /// There are API keys.
    pub(super) with_keys: bool,
    /// Fingerprints of TLS hellos are taken.
    pub(super) with_ja4: bool,
}

pub(super) fn read(tables: Vec<Table<'_>>, known: RuleReferences, reader: &Reader<'_>) -> Vec<Rule> {
    let (mut read, mut names): (Vec<Rule>, Vec<String>) = (Vec::new(), Vec::new());
    let defaults = defaults::all(known.defaults, known.with_keys);
    for table in tables {
        let name = table.required(
            "name",
            "\"bad-tokens\"",
            described("name", |value| {
                let name = value::text(value)?;
                simple_name(name).map(|()| name.to_owned())
            }),
        );
        let name = name.unwrap_or_default();
        if let Some(earlier) = names.iter().position(|other| *other == name && !name.is_empty()) {
            let wrong = Diagnostic::bare(format!("the name is already used by rule[{earlier}]"));
            table.report("name", wrong.hint("give each rule a name of its own"));
        }
        names.push(name.clone());
        let default = defaults.iter().find(|rule| rule.name == name);
        let default = default.filter(|_| !reader.is_reference() && !table.has("signals"));
        let is_enabled = table.or("enabled", true, value::boolean());
        let rule = match default {
            Some(default) => changed(&table, default, known, reader),
            None => {
                let rule = whole(&table, name, known, reader);
                judge_name(&table, &rule.name, &defaults, reader);
                rule
            }
        };
        table.finish();
        if is_enabled {
            read.push(rule);
        }
    }
    if known.defaults != Defaults::Off {
        let is_left = |rule: &Rule| !defaults::is_asked_for(rule) && !names.contains(&rule.name);
        read.extend(defaults.into_iter().filter(is_left));
    }
    read
}

/// What has no signals was to change a default rule: its name may be misspelt.
fn judge_name(table: &Table<'_>, name: &str, defaults: &[Rule], reader: &Reader<'_>) {
    if table.has("signals") || table.has_unknown() || reader.is_reference() {
        return;
    }
    let Some(near) = closest(name, defaults.iter().map(|rule| rule.name.as_str())) else { return };
    for key in ["signals", "count", "within", "ban"] {
        reader.withdraw_missing(&table.key(key));
    }
    let wrong = Diagnostic::bare(format!("{name:?} has no `signals`, and is no default rule"));
    table.report("name", wrong.hint(format!("did you mean {near:?}? A rule of your own names its `signals`")));
}

/// A rule of the operator's own.
fn whole(table: &Table<'_>, name: String, known: RuleReferences, reader: &Reader<'_>) -> Rule {
    let signals = signals(table, reader);
    let count = table.required("count", "10", value::integer(1..=EVIDENCE)).unwrap_or(1);
    let weights = weights(table, &signals, reader);
    if !reader.is_reference() && signals == [Signal::Unusual] && weights.is_empty() && !table.has("distinct") {
        let warning = Diagnostic::new(table.key("signals"), "counts 0, so that the rule bans nobody");
        reader.warn(warning.hint("to ban, add `weights = { unusual = 1 }`; to be told only, leave it so"));
    }
    let distinct = distinct(table, &signals, known.with_keys);
    let by = table.or("by", GroupBy::Source, value::choice(&GroupBy::NAMES));
    judge_by(table, by, distinct, &signals, known, reader);
    Rule {
        name,
        count,
        weights,
        distinct,
        by,
        share: share(table, by, distinct),
        after: after(table, &signals, reader),
        within: table.required("within", "\"60s\"", value::duration_in(SECOND..=DAY)).unwrap_or(SECOND),
        ban: table.required("ban", "\"10m\"", value::duration_in(SECOND..=LONGEST_BAN)).unwrap_or(SECOND),
        shadow: table.or("shadow", false, value::boolean()),
        signals,
    }
}

/// A default rule, as far as the table does not say something else.
fn changed(table: &Table<'_>, default: &Rule, known: RuleReferences, reader: &Reader<'_>) -> Rule {
    let rule = default.clone();
    let weights = weights(table, &rule.signals, reader);
    let distinct = if table.has("distinct") {
        distinct(table, &rule.signals, known.with_keys)
    } else {
        if table.has("weights") && rule.distinct.is_some() {
            table.report("weights", beside_distinct());
        }
        rule.distinct
    };
    let by = table.or("by", rule.by, value::choice(&GroupBy::NAMES));
    if table.has("by") || table.has("distinct") {
        judge_by(table, by, distinct, &rule.signals, known, reader);
    }
    Rule {
        count: table.or("count", rule.count, value::integer(1..=EVIDENCE)),
        weights: match (weights.is_empty(), distinct) {
            (true, None) => rule.weights,
            _ => weights,
        },
        distinct,
        by,
        share: share(table, by, distinct).or(rule.share).filter(|_| has_share(by, distinct)),
        after: if table.has("after") { after(table, &rule.signals, reader) } else { rule.after },
        within: table.or("within", rule.within, value::duration_in(SECOND..=DAY)),
        ban: table.or("ban", rule.ban, value::duration_in(SECOND..=LONGEST_BAN)),
        shadow: table.or("shadow", rule.shadow, value::boolean()),
        ..rule
    }
}

/// What can be added up by what `by` says.
fn judge_by(
    table: &Table<'_>,
    by: GroupBy,
    distinct: Option<Distinct>,
    signals: &[Signal],
    known: RuleReferences,
    reader: &Reader<'_>,
) {
    if by != GroupBy::Source && distinct == Some(Distinct::Sources) {
        let wrong = Diagnostic::bare("cannot be beside `distinct = \"sources\"`, which adds up by principal");
        table.report("by", wrong.hint("leave it out"));
        return;
    }
    let nobody = signals.iter().find(|signal| !signal.is_about_somebody(known.with_keys));
    if let (GroupBy::Principal | GroupBy::Session, Some(signal)) = (by, nobody) {
        let wrong = Diagnostic::bare(format!("needs a principal, and {} have none", signal.plural()));
        table.report("by", wrong.hint("count them in a rule of their own, by source"));
    }
    if by == GroupBy::Ja4 && !known.with_ja4 {
        let warning = Diagnostic::new(table.key("by"), "counts nothing: no listener takes JA4 fingerprints");
        reader.warn(warning.hint("set `ja4 = true` in a [[listener]] with TLS"));
    }
}

/// Whether signals can be compared with the other requests: they are of one source.
const fn has_share(by: GroupBy, distinct: Option<Distinct>) -> bool {
    matches!(by, GroupBy::Source) && !matches!(distinct, Some(Distinct::Sources))
}

/// How many percent of a source's requests the signals must be.
fn share(table: &Table<'_>, by: GroupBy, distinct: Option<Distinct>) -> Option<u8> {
    let share = table.optional("share", value::integer(1..=100))?;
    if !has_share(by, distinct) {
        let wrong = Diagnostic::bare("is known of single sources only");
        table.report("share", wrong.hint("leave it out, or count by source"));
    }
    u8::try_from(share).ok()
}

/// What must come before the signals.
fn after(table: &Table<'_>, signals: &[Signal], reader: &Reader<'_>) -> Vec<Signal> {
    let words = Signal::ALL.map(|signal| (signal.name(), signal));
    let after = table.list("after", value::choice(&words));
    if let Some((key, signal)) = after.iter().find(|(_, signal)| signals.contains(signal)) {
        let wrong = Diagnostic::new(key, format!("{} is one of the rule's `signals`", signal.name()));
        reader.report(wrong.hint("a signal either counts or must come before: name it once"));
    }
    after.into_iter().map(|(_, signal)| signal).collect()
}

fn beside_distinct() -> Diagnostic {
    Diagnostic::bare("cannot be beside `distinct`, which counts each of what differs once")
        .hint("leave one of them out")
}

/// Every signal that fills a rule's bucket is evidence, and a ban names at most this many.
#[expect(clippy::cast_possible_truncation, reason = "64")]
const EVIDENCE: u32 = MAX_EVIDENCE as u32;

/// How much signals count that do not count 1.
fn weights(table: &Table<'_>, signals: &[Signal], reader: &Reader<'_>) -> BTreeMap<Signal, u32> {
    let mut weights = BTreeMap::new();
    for (key, name, weight) in table.table("weights", WEIGHTS).named_values(value::integer(1..=EVIDENCE)) {
        let found = signals.iter().find(|signal| signal.name() == name);
        match (found, weight) {
            (Some(signal), Ok(weight)) => {
                weights.insert(*signal, weight);
            }
            (_, Err(wrong)) => reader.report(wrong.at(key)),
            (None, Ok(_)) => {
                let wrong = Diagnostic::new(key, "is not one of the rule's `signals`");
                let names: Vec<&str> = signals.iter().map(|signal| signal.name()).collect();
                reader.report(wrong.hint(format!("write one of: {}", names.join(", "))));
            }
        }
    }
    weights
}

/// What is counted in the place of signals.
fn distinct(table: &Table<'_>, signals: &[Signal], with_keys: bool) -> Option<Distinct> {
    let distinct = table.optional("distinct", value::choice(&Distinct::NAMES))?;
    if table.has("weights") {
        table.report("weights", beside_distinct());
        return Some(distinct);
    }
    let nobody = signals.iter().find(|signal| !signal.is_about_somebody(with_keys));
    if let Some(signal) = nobody.filter(|_| distinct.needs_principal()) {
        let wrong = Diagnostic::bare(format!("needs a principal, and {} have none", signal.plural()));
        table.report(
            "distinct",
            wrong.hint("count them in a rule of their own: wrong_password, forbidden and others have one"),
        );
    }
    Some(distinct)
}

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
        let others = "expired_token, malformed_token, not_yet_valid, unknown_key, unfit_token, wrong_audience, ...";
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
