//! Shows `[detect]` and `[[rule]]`, default rules among them.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::{
    config::value::show_duration,
    settings::detect::{self, Defaults, Distinct, GroupBy, Rule},
};

pub(super) fn detect(detect: &detect::Settings) -> Value {
    let defaults = Defaults::NAMES.iter().find(|(_, it)| *it == detect.defaults).map(|(name, _)| name);
    json!({
        "capacity": detect.capacity,
        "defaults": defaults,
        "profiles": detect.profiles,
        "unusual_after": show_duration(detect.unusual_after),
    })
}

pub(super) fn rule(rule: &Rule) -> Value {
    let weights = || rule.weights.iter().map(|(signal, weight)| (signal.name(), weight)).collect::<BTreeMap<_, _>>();
    let names = |signals: &[_]| signals.iter().map(|signal: &crate::signal::Signal| signal.name()).collect::<Vec<_>>();
    json!({
        "name": rule.name,
        "signals": names(&rule.signals),
        "count": rule.count,
        "weights": (!rule.weights.is_empty()).then(weights),
        "distinct": Distinct::NAMES.iter().find(|(_, it)| Some(*it) == rule.distinct).map(|(name, _)| name),
        "by": GroupBy::NAMES.iter().find(|(_, it)| *it == rule.by && rule.by != GroupBy::Source).map(|(name, _)| name),
        "share": rule.share,
        "after": (!rule.after.is_empty()).then(|| names(&rule.after)),
        "within": show_duration(rule.within),
        "ban": show_duration(rule.ban),
        "shadow": rule.shadow,
    })
}
