//! Exceptions: which rules do not look at which parameters.

use super::request::Collection;
use crate::settings::waf::{ExceptionParameter, Exclusion, RuleMatch};

/// The exceptions of one route.
#[derive(Debug, Default)]
pub(super) struct Exclusions(Box<[Exclusion]>);

impl Exclusions {
    pub(super) fn new(exclusions: Vec<Exclusion>) -> Self {
        Self(exclusions.into())
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether `rule` does not look at this parameter.
    pub(super) fn excludes(&self, rule: &str, tags: &[&str], place: Collection, name: &[u8]) -> bool {
        self.0.iter().any(|exclusion| {
            exclusion.rules.iter().any(|known| names(known, rule, tags))
                && (exclusion.parameters.is_empty()
                    || exclusion.parameters.iter().any(|parameter| is_parameter(parameter, place, name)))
        })
    }
}

fn names(known: &RuleMatch, rule: &str, tags: &[&str]) -> bool {
    match known {
        RuleMatch::All => true,
        RuleMatch::Name(name) => name == rule,
        RuleMatch::Range(first, last) => rule.parse().is_ok_and(|id: u32| (*first..=*last).contains(&id)),
        RuleMatch::Tag(wanted) => {
            let short = wanted.strip_prefix("attack-").unwrap_or(wanted);
            tags.iter().any(|tag| tag == wanted || tag.strip_prefix("attack-").unwrap_or(tag) == short)
        }
    }
}

fn is_parameter(parameter: &ExceptionParameter, place: Collection, name: &[u8]) -> bool {
    let wanted = parameter.name.as_bytes();
    let is_named = match wanted.strip_suffix(b"*") {
        Some(start) => name.get(..start.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(start)),
        None => name.eq_ignore_ascii_case(wanted),
    };
    is_named && parameter.place.as_deref().is_none_or(|known| known == place.name())
}
