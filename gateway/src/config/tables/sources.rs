//! Reads `[sources]`: networks with a name, which routes refer to.

use std::collections::BTreeMap;

use gateway_common::source::Source;
use toml::de::DeValue;

use crate::{
    config::{
        reader::{Keys, Reader},
        table::Table,
        value::{
            form::{Form as _, described},
            kind, parsed,
            word::simple_name,
        },
    },
    diagnostic::Diagnostic,
    settings::route::Route,
};

/// What stands for the keys of `[sources]`, which are the operator's own.
pub(super) const KEYS: Keys = &[("NAME", "The networks of the set `NAME`, as addresses and prefixes.")];

/// The most networks in one set.
const MAX_NETWORKS: usize = 10_000;

/// What a network is written as.
pub(super) const HINT: &str = "write addresses and prefixes: [\"192.0.2.0/24\", \"2001:db8::/32\"]";

pub(super) fn read(table: Table<'_>, reader: &Reader<'_>) -> BTreeMap<String, Vec<Source>> {
    let mut sources = BTreeMap::new();
    for (key, name, networks) in table.named_values(described("array of addresses and prefixes", networks)) {
        let wrong = simple_name(&name).err().or_else(|| {
            // In `source in NAME` it would be a network.
            let is_network = name.parse::<Source>().is_ok();
            is_network.then(|| {
                Diagnostic::bare(format!("{name:?} is a network, and names a set")).hint("choose another name")
            })
        });
        if let Some(wrong) = wrong {
            reader.report(wrong.at(&key));
        }
        match networks {
            Ok(networks) => {
                sources.insert(name, networks);
            }
            Err(wrong) => {
                reader.report(wrong.at(key));
                // Routes that name it have no fault.
                sources.insert(name, Vec::new());
            }
        }
    }
    sources
}

fn networks(value: &DeValue<'_>) -> Result<Vec<Source>, Diagnostic> {
    let DeValue::Array(elements) = value else {
        return Err(Diagnostic::bare(format!("expected an array, found {}", kind(value))).hint(HINT));
    };
    if elements.is_empty() {
        return Err(Diagnostic::bare("is empty: nobody is in it").hint(HINT));
    }
    if elements.len() > MAX_NETWORKS {
        return Err(Diagnostic::bare(format!("has over {MAX_NETWORKS} networks")).hint("split it into several sets"));
    }
    elements.iter().map(|element| parsed::<Source>(HINT).read(element.get_ref())).collect()
}

/// Warns of sets that no route refers to.
pub(super) fn warn_of_unused(sources: &BTreeMap<String, Vec<Source>>, routes: &[Route], reader: &Reader<'_>) {
    let is_used = |name: &String| {
        let in_condition = |text: &str| text.split(|letter: char| !is_of_name(letter)).any(|word| word == name);
        routes.iter().any(|route| {
            route.sources.iter().flat_map(|sources| &sources.texts).any(|text| text == name)
                || route.allow_if.iter().any(|condition| in_condition(&condition.text))
        })
    };
    for name in sources.keys().filter(|name| !is_used(name)) {
        let warning = Diagnostic::new(format!("sources.{name}"), "is not used by any route");
        reader.warn(warning.hint("remove it, or name it in a route's `sources`"));
    }
}

const fn is_of_name(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_')
}
