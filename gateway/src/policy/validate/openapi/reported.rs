//! Counts what requests break of a document that only reports.
//!
//! *Invariant:* series are as many as there are rules: nothing of a client becomes a name.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use super::Contract;
use crate::refusal::Refusal;

/// How often requests broke each rule.
#[derive(Debug, Default)]
pub(super) struct ReportedViolations(Mutex<BTreeMap<&'static str, u64>>);

impl Contract {
    /// Counts what a request would have been refused for: each rule that it breaks, or how it would have been refused.
    pub fn note_reported(&self, refusal: &Refusal) {
        let own = refusal.violations.is_empty().then(|| refusal.row().label);
        let mut counts = self.reported.0.lock().unwrap_or_else(PoisonError::into_inner);
        for rule in refusal.violations.iter().map(|violation| violation.rule).chain(own) {
            let count = counts.entry(rule).or_default();
            *count = count.saturating_add(1);
        }
    }

    /// The rules that requests broke which passed all the same, and how often.
    #[must_use]
    pub fn reported_violations(&self) -> Vec<(&'static str, u64)> {
        let counts = self.reported.0.lock().unwrap_or_else(PoisonError::into_inner);
        counts.iter().map(|(rule, count)| (*rule, *count)).collect()
    }
}
