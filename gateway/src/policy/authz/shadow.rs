//! Requirements in shadow: what they would deny is counted, and the request goes on.
//!
//! *Invariant:* the state is bounded. Of each requirement at most [`MOST_KNOWN`] principals are told apart; requests of
//! whoever comes later are counted alone. A route that has nothing in shadow has no such state.

use std::{
    collections::HashSet,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use crate::{refusal::Refusal, settings::authz::RequirementPart};

/// So many principals of one requirement are told apart.
pub const MOST_KNOWN: usize = 4_096;

/// The most principals that are told of at once.
pub const MOST_TOLD: usize = 500;

/// What one requirement in shadow would have denied since the last time it was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShadowDenials {
    /// What promotes it: `route.NAME.allow_if`.
    pub what: Arc<str>,
    /// How many requests.
    pub requests: u64,
    /// Hashes of those whose they were, as far as they were not told of before; at most [`MOST_TOLD`].
    pub principals: Vec<u64>,
}

/// The requirements of one route that are in shadow. They outlive configurations, as a route's name does.
#[derive(Debug)]
pub struct ShadowParts(Box<[ShadowPart]>);

/// One of them.
#[derive(Debug)]
struct ShadowPart {
    part: RequirementPart,
    what: Arc<str>,
    /// An operator ended shadow mode.
    is_promoted: AtomicBool,
    would_deny: AtomicU64,
    told: Mutex<ToldPrincipals>,
}

#[derive(Debug, Default)]
struct ToldPrincipals {
    known: HashSet<u64>,
    fresh: Vec<u64>,
}

/// What a request would have been denied for.
#[derive(Debug, Default)]
pub struct WouldDeny(Vec<(RequirementPart, Refusal)>);

impl WouldDeny {
    /// The first requirement, if there is one, and why.
    #[must_use]
    pub fn into_first(self) -> Option<(RequirementPart, Refusal)> {
        self.0.into_iter().next()
    }

    /// Notes one. A requirement that denies a request twice counts once: why it did first is what is told.
    pub fn note(&mut self, part: RequirementPart, refusal: Refusal) {
        if self.0.iter().all(|(noted, _)| *noted != part) {
            self.0.push((part, refusal));
        }
    }

    /// How many there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is nothing.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl ShadowParts {
    /// The parts of the route `name` that are in shadow, with what `before` has counted of them.
    #[must_use]
    pub fn new(name: &str, parts: &[RequirementPart]) -> Self {
        let part = |part: &RequirementPart| ShadowPart {
            part: *part,
            what: format!("route.{name}.{}", part.name()).into(),
            is_promoted: AtomicBool::new(false),
            would_deny: AtomicU64::new(0),
            told: Mutex::default(),
        };
        Self(parts.iter().map(part).collect())
    }

    /// Goes on with what `before` has counted, and with what was promoted.
    pub fn go_on(&self, before: &Self) {
        for part in &self.0 {
            let Some(old) = before.0.iter().find(|old| old.what == part.what) else { continue };
            part.is_promoted.store(old.is_promoted.load(Ordering::Relaxed), Ordering::Relaxed);
            let mut told = old.told.lock().unwrap_or_else(PoisonError::into_inner);
            let mut own = part.told.lock().unwrap_or_else(PoisonError::into_inner);
            own.known.extend(told.known.drain().take(MOST_KNOWN));
            own.fresh.append(&mut told.fresh);
            part.would_deny.fetch_add(old.would_deny.swap(0, Ordering::Relaxed), Ordering::Relaxed);
        }
    }

    /// Whether `part` only counts.
    #[must_use]
    pub fn has(&self, part: RequirementPart) -> bool {
        self.0.iter().any(|it| it.part == part && !it.is_promoted.load(Ordering::Relaxed))
    }

    /// Ends shadow mode for `what`: an operator says so.
    pub fn enforce(&self, what: &str) {
        if let Some(part) = self.0.iter().find(|part| *part.what == *what) {
            part.is_promoted.store(true, Ordering::Relaxed);
        }
    }

    /// Counts a request of `who` that went on although it `would` have been denied.
    pub fn count(&self, would: &WouldDeny, who: &str) {
        let mut hasher = DefaultHasher::new();
        who.hash(&mut hasher);
        let who = hasher.finish();
        for (part, _) in &would.0 {
            let Some(it) = self.0.iter().find(|it| it.part == *part) else { continue };
            it.would_deny.fetch_add(1, Ordering::Relaxed);
            let mut told = it.told.lock().unwrap_or_else(PoisonError::into_inner);
            if told.fresh.len() < MOST_TOLD && told.known.len() < MOST_KNOWN && told.known.insert(who) {
                told.fresh.push(who);
            }
        }
    }

    /// What would have been denied since the last call.
    pub fn take(&self) -> impl Iterator<Item = ShadowDenials> {
        self.0.iter().filter_map(|part| {
            let requests = part.would_deny.swap(0, Ordering::Relaxed);
            if requests == 0 {
                return None;
            }
            let mut told = part.told.lock().unwrap_or_else(PoisonError::into_inner);
            let principals = std::mem::take(&mut told.fresh);
            Some(ShadowDenials { what: Arc::clone(&part.what), requests, principals })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::refusal::Reject;

    fn would(parts: &[RequirementPart]) -> WouldDeny {
        let mut would = WouldDeny::default();
        parts.iter().for_each(|part| would.note(*part, Refusal::new(Reject::Forbidden, "")));
        would
    }

    #[track_caller]
    fn taken(shadow: &ShadowParts, expect: &[(&str, u64, usize)]) {
        let taken: Vec<_> = shadow.take().map(|it| (it.what.to_string(), it.requests, it.principals.len())).collect();
        let expect: Vec<_> = expect.iter().map(|(what, requests, who)| ((*what).to_owned(), *requests, *who)).collect();
        assert_eq!(taken, expect);
    }

    #[test]
    fn what_would_be_denied_is_counted() {
        let shadow = ShadowParts::new("items", &[RequirementPart::Sources, RequirementPart::AllowIf]);
        taken(&shadow, &[]);
        for who in ["ada", "bob", "ada"] {
            shadow.count(&would(&[RequirementPart::AllowIf]), who);
        }
        shadow.count(&would(&[RequirementPart::Sources, RequirementPart::AllowIf, RequirementPart::Claims]), "cay");
        taken(&shadow, &[("route.items.sources", 1, 1), ("route.items.allow_if", 4, 3)]);
        shadow.count(&would(&[RequirementPart::AllowIf]), "ada");
        taken(&shadow, &[("route.items.allow_if", 1, 0)]);
        assert!(shadow.has(RequirementPart::AllowIf) && !shadow.has(RequirementPart::Require));
        shadow.enforce("route.items.allow_if");
        assert!(!shadow.has(RequirementPart::AllowIf) && shadow.has(RequirementPart::Sources));
        shadow.count(&would(&[RequirementPart::Sources]), "ada");
        let next = ShadowParts::new("items", &[RequirementPart::AllowIf, RequirementPart::Sources]);
        next.go_on(&shadow);
        assert!(!next.has(RequirementPart::AllowIf) && next.has(RequirementPart::Sources));
        next.count(&would(&[RequirementPart::Sources]), "cay");
        taken(&next, &[("route.items.sources", 2, 1)]);
    }

    #[test]
    fn memory_is_bounded() {
        let shadow = ShadowParts::new("items", &[RequirementPart::Require]);
        let mut told = 0;
        for number in 0..10_000 {
            shadow.count(&would(&[RequirementPart::Require]), &number.to_string());
            if number % 100 == 0 {
                told += shadow.take().map(|it| it.principals.len()).sum::<usize>();
            }
        }
        told += shadow.take().map(|it| it.principals.len()).sum::<usize>();
        assert_eq!(told, MOST_KNOWN);
    }
}
