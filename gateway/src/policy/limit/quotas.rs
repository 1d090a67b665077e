//! All quotas of a configuration, as whoever keeps and shares their counts sees them: what was used up here goes out by
//! [`Limits::untold`], and what was used up elsewhere comes in by [`Limits::take`] and [`Limits::restore`]. Where that is
//! kept and by which way it comes is no matter here.
//!
//! *Invariant:* whatever comes in is for a quota of the same name that counts the same in the same period. All else is
//! ignored.

use serde::{Deserialize, Serialize};

use super::{
    CompiledLimit, Limits,
    quota::{MAX_ROWS_TOLD, QuotaCounts, QuotaSpan, UsedRow, Warned},
    report::Warnings,
};
use crate::os::clock::Now;

/// How many rows are told at once, of all quotas. The rest waits in the tables, where nothing of it is lost.
const MOST_UNTOLD: usize = 50 * MAX_ROWS_TOLD;

/// The longest text of what a quota counts, in bytes.
pub const LONGEST_COUNTS: usize = 2_048;

/// What was used up of one quota since the last report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuotaReport {
    /// Its name.
    pub quota: String,
    /// What it counts, and until when.
    pub counts: String,
    /// In which period.
    pub span: QuotaSpan,
    /// At most [`MAX_ROWS_TOLD`].
    pub rows: Vec<UsedRow>,
    /// Who has used up so much that it is to be told.
    pub warned: Vec<Warned>,
    /// Keys, and the numbers of the last words of operators about them; at most [`MAX_ROWS_TOLD`], and in a report that has
    /// no rows: behind what the words have changed.
    pub words: Vec<(u64, u64)>,
}

/// What was used up of one quota so far, for a process that starts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuotaState {
    /// Its name.
    pub quota: String,
    /// What it counts, and until when.
    pub counts: String,
    /// In which period.
    pub span: QuotaSpan,
    /// Keys, and the units of each.
    pub rows: Vec<(u64, u64)>,
    /// Keys, and the numbers of the last words of operators about them.
    pub words: Vec<(u64, u64)>,
}

impl Limits {
    fn quotas(&self) -> impl Iterator<Item = (&CompiledLimit, &QuotaCounts)> {
        self.limits.iter().filter_map(|limit| Some((limit, &**limit.counts_of_quota()?)))
    }

    fn quota(&self, name: &str, counts: &str) -> Option<&QuotaCounts> {
        let mut found = self.quotas().filter(|(limit, _)| &*limit.name == name);
        found.find(|(limit, _)| limit.quota.as_deref() == Some(counts)).map(|(_, quota)| quota)
    }

    /// Whether there is any quota.
    #[must_use]
    pub fn has_quotas(&self) -> bool {
        self.quotas().next().is_some()
    }

    /// Looks at both clocks: to be called every second, and before the first request. Returns by how many seconds the wall
    /// clock was set, if it was by more than a minute.
    pub fn tick(&self, now: Now) -> Option<i64> {
        self.quotas().filter_map(|(limit, _)| limit.shared_quota()).for_each(|shared| shared.retell(now.monotonic));
        self.quotas().fold(None, |stepped, (_, quota)| quota.tick(now).or(stepped))
    }

    /// What was used up since the last call, in pieces that fit a message: as much as a guard hears without delay. To be
    /// called until there is nothing.
    #[must_use]
    pub fn untold(&self, now: u64) -> Vec<QuotaReport> {
        let mut reports = Vec::new();
        // A share for each: one whose keys are busy keeps no other waiting.
        let share = (MOST_UNTOLD / self.quotas().count().max(1)).max(MAX_ROWS_TOLD);
        for (limit, quota) in self.quotas() {
            let mut untold = quota.untold(share, now);
            // What the guard is told of is told to the other machines, too.
            if let Some(shared) = limit.shared_quota() {
                untold.rows.iter().for_each(|row| shared.tell(row.key, now));
            }
            let report = |rows, warned, words| QuotaReport {
                quota: limit.name.to_string(),
                counts: limit.quota.as_deref().unwrap_or_default().to_owned(),
                span: untold.span,
                rows,
                warned,
                words,
            };
            while !untold.rows.is_empty() || !untold.warned.is_empty() {
                let (rows, warned) = (untold.rows.len().min(MAX_ROWS_TOLD), untold.warned.len().min(MAX_ROWS_TOLD));
                let (rows, warned) = (untold.rows.drain(..rows).collect(), untold.warned.drain(..warned).collect());
                reports.push(report(rows, warned, Vec::new()));
            }
            let words = untold.words.chunks(MAX_ROWS_TOLD);
            reports.extend(words.map(|words| report(Vec::new(), Vec::new(), words.to_vec())));
        }
        reports
    }

    /// Everything is to be told again: there is a guard that may know nothing of it.
    pub fn retell(&self) {
        self.quotas().for_each(|(_, quota)| quota.retell());
    }

    /// Another process has used up this.
    pub fn take(&self, report: &QuotaReport, now: u64) {
        self.asks().into_iter().for_each(|asks| asks.set_first(false));
        if let Some(quota) = self.quota(&report.quota, &report.counts) {
            quota.take(&report.span, &report.rows, now);
            quota.know_words(&report.span, &report.words, now);
        }
    }

    /// So much was used up in the period that lasts: at least as much counts from now on.
    pub fn restore(&self, state: &QuotaState, now: u64) {
        if let Some(quota) = self.quota(&state.quota, &state.counts) {
            quota.restore(state.span, &state.rows, now);
            quota.know_words(&state.span, &state.words, now);
        }
    }

    /// How often keys have crossed a threshold of each quota.
    #[must_use]
    pub fn warnings(&self) -> Vec<Warnings> {
        let warnings = |(limit, quota): (&CompiledLimit, &QuotaCounts)| Warnings {
            name: std::sync::Arc::clone(&limit.name),
            crossings: quota.crossings(),
            end: quota.end(),
        };
        self.quotas().map(warnings).collect()
    }
}
