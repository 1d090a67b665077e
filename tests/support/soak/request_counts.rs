//! Counts failures in a soak: whatever is neither served nor refused by design.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::Instant,
};

use serde_json::{Value, json};

use crate::report;

/// So many failures are told in words.
const TOLD: usize = 20;

/// What became of everything that clients did.
pub(super) struct RequestCounts {
    started: Instant,
    counts: Mutex<Counts>,
}

#[derive(Default)]
struct Counts {
    /// By client, then by what became of it.
    served: BTreeMap<&'static str, u64>,
    /// Refused, or ended, as the configuration has it.
    by_design: BTreeMap<&'static str, BTreeMap<String, u64>>,
    failed: BTreeMap<&'static str, u64>,
    told: Vec<String>,
}

impl RequestCounts {
    pub(super) fn new() -> Self {
        Self { started: Instant::now(), counts: Mutex::default() }
    }

    fn with<T>(&self, change: impl FnOnce(&mut Counts) -> T) -> T {
        change(&mut self.counts.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn served(&self, client: &'static str) {
        self.with(|counts| *counts.served.entry(client).or_default() += 1);
    }

    /// Not served, and rightly so.
    pub(super) fn by_design(&self, client: &'static str, label: impl Into<String>) {
        self.with(|counts| *counts.by_design.entry(client).or_default().entry(label.into()).or_default() += 1);
    }

    pub(super) fn failed(&self, client: &'static str, how: &str) {
        let second = self.started.elapsed().as_secs_f64();
        self.with(|counts| {
            *counts.failed.entry(client).or_default() += 1;
            if counts.told.len() < TOLD {
                report::note(&format!("failed after {second:.1} s: {client}: {how}"));
                counts.told.push(format!("{second:.1} s: {client}: {how}"));
            }
        });
    }

    /// Served, not served by design, failed.
    pub(super) fn totals(&self) -> [u64; 3] {
        self.with(|counts| {
            let by_design = counts.by_design.values().flat_map(BTreeMap::values).sum();
            [counts.served.values().sum(), by_design, counts.failed.values().sum()]
        })
    }

    /// How often, and the first ones in words.
    pub(super) fn failures(&self) -> Vec<String> {
        self.with(|counts| counts.told.clone())
    }

    pub(super) fn json(&self) -> Value {
        self.with(|counts| {
            json!({
                "served": counts.served,
                "not_served_by_design": counts.by_design,
                "failed": counts.failed,
                "failures": counts.told,
            })
        })
    }
}
