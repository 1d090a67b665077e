//! Shows `[waf.NAME]` as it is in force.

use serde_json::{Value, json};

use crate::{
    config::value::show_size,
    settings::waf::{self, ExceptionParameter, Exclusion, RuleMatch},
};

pub(super) fn waf(waf: &waf::Settings) -> (String, Value) {
    let members = json!({
        "mode": waf.mode.name(),
        "builtin": waf.has_builtin,
        "rules": (!waf.roots.is_empty()).then_some(&waf.roots),
        "threshold": waf.threshold,
        "paranoia": waf.paranoia,
        "inspect_body": waf.inspect_body.map(show_size),
        "exclude": (!waf.exclude.is_empty()).then(|| waf.exclude.iter().map(exclusion).collect::<Vec<_>>()),
    });
    (waf.name.clone(), members)
}

fn exclusion(exclusion: &Exclusion) -> Value {
    let rule = |rule: &RuleMatch| match rule {
        RuleMatch::All => "*".to_owned(),
        RuleMatch::Name(name) => name.clone(),
        RuleMatch::Range(first, last) => format!("{first}-{last}"),
        RuleMatch::Tag(tag) => format!("tag:{tag}"),
    };
    let parameter = |parameter: &ExceptionParameter| match &parameter.place {
        Some(place) => format!("{place}:{}", parameter.name),
        None if parameter.name.contains(':') => format!("*:{}", parameter.name),
        None => parameter.name.clone(),
    };
    json!({
        "rules": exclusion.rules.iter().map(rule).collect::<Vec<_>>(),
        "parameters": exclusion.parameters.iter().map(parameter).collect::<Vec<_>>(),
        "routes": exclusion.routes,
    })
}
