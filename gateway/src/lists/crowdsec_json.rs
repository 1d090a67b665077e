//! Reads a CrowdSec export as JSON: an array of alerts that hold decisions, or of decisions.

use std::borrow::Cow;

use serde::Deserialize;

use super::{
    crowdsec_csv::decision,
    line::{Each, SIMULATED, Unreadable},
};

#[derive(Deserialize)]
struct Item<'a> {
    /// `cscli` writes `null` for none.
    #[serde(borrow, default)]
    decisions: Option<Vec<Decision<'a>>>,
    #[serde(flatten, borrow)]
    own: Decision<'a>,
}

#[derive(Deserialize)]
struct Decision<'a> {
    #[serde(borrow, default)]
    value: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    scope: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    duration: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    scenario: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    reason: Option<Cow<'a, str>>,
    #[serde(borrow, default, rename = "type")]
    kind: Option<Cow<'a, str>>,
    #[serde(default)]
    simulated: Option<bool>,
    /// What `block export` writes.
    #[serde(borrow, default)]
    mode: Option<Cow<'a, str>>,
}

pub(super) fn read(bytes: &[u8], each: &mut Each<'_>) -> Result<(), Unreadable> {
    let wrong = |error: serde_json::Error| Unreadable(format!("is no JSON of decisions: {error}"));
    if bytes.trim_ascii() == b"null" {
        // What `cscli` writes when there are none.
        return Ok(());
    }
    let items: Vec<Item<'_>> = if bytes.trim_ascii_start().starts_with(b"{") {
        vec![serde_json::from_slice(bytes).map_err(wrong)?]
    } else {
        serde_json::from_slice(bytes).map_err(wrong)?
    };
    let mut number = 0_u32;
    for item in items {
        let is_simulated = item.own.simulated == Some(true);
        let all = match item.decisions {
            Some(decisions) => decisions,
            None => vec![item.own],
        };
        for one in all {
            number = number.saturating_add(1);
            let Some(value) = one.value.as_deref() else {
                each(number, Err("there is no \"value\"".to_owned()));
                continue;
            };
            // What a decision says of itself goes before what its alert says.
            if one.simulated.unwrap_or(is_simulated) || one.mode.as_deref() == Some("shadow") {
                each(number, Err(SIMULATED.to_owned()));
                continue;
            }
            let why = one.scenario.as_deref().or(one.reason.as_deref());
            let scope = one.scope.as_deref().unwrap_or("ip");
            let read = decision(scope, value, one.duration.as_deref(), why, one.kind.as_deref(), &mut |listed| {
                each(number, Ok(listed));
            });
            if let Err(message) = read {
                each(number, Err(message));
            }
        }
    }
    Ok(())
}
