//! What the rules of one `[waf.NAME]` have found in all requests so far.
//!
//! *Invariant:* series are as many as there are rules: nothing of a client becomes a name.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use super::finding::WafVerdict;

/// The most rules that are counted by name.
const MOST_RULES: usize = 1_500;

/// The counts of one table. They outlive configurations, as its name does.
#[derive(Debug, Default)]
pub(super) struct Counts {
    not_inspected: AtomicU64,
    passed: AtomicU64,
    refused: AtomicU64,
    reported: AtomicU64,
    rules: Mutex<BTreeMap<Box<str>, u64>>,
}

/// What was counted since the process began.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WafSum {
    /// The name of the table.
    pub name: Box<str>,
    /// Requests by what became of them.
    pub requests: [(&'static str, u64); 4],
    /// How many parameters each rule has matched.
    pub rules: Vec<(Box<str>, u64)>,
}

impl Counts {
    /// Counts a request. `is_refused`: it was, and not only reported.
    pub(super) fn count(&self, verdict: &WafVerdict, is_refused: bool) {
        let result = match (verdict.is_attack, is_refused) {
            (true, true) => &self.refused,
            (true, false) => &self.reported,
            (false, _) => &self.passed,
        };
        result.fetch_add(1, Ordering::Relaxed);
        if verdict.findings.is_empty() {
            return;
        }
        let mut rules = self.rules.lock().unwrap_or_else(PoisonError::into_inner);
        for finding in &verdict.findings {
            let has_room = rules.len() < MOST_RULES;
            match rules.get_mut(&finding.rule) {
                Some(count) => *count = count.saturating_add(1),
                None if has_room => drop(rules.insert(finding.rule.clone(), 1)),
                None => {}
            }
        }
    }

    /// Counts a request that passed without being looked at.
    pub(super) fn count_not_inspected(&self) {
        self.not_inspected.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn sum(&self, name: &str) -> WafSum {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let rules = self.rules.lock().unwrap_or_else(PoisonError::into_inner);
        WafSum {
            name: name.into(),
            requests: [
                ("not_inspected", read(&self.not_inspected)),
                ("passed", read(&self.passed)),
                ("refused", read(&self.refused)),
                ("reported", read(&self.reported)),
            ],
            rules: rules.iter().map(|(rule, count)| (rule.clone(), *count)).collect(),
        }
    }
}
