//! Which sources an anomaly may be blamed on: few enough, each of them more than is usual of all together, while others are
//! served.
//!
//! *Invariant:* whoever stays within what is usual is never blamed, however many there are: a crowd is no attack. Nor is
//! anybody blamed for what fails for everybody, or by our own errors.

use super::client_stats::Counts;
use crate::settings::anomalies::ClientMeasure;

/// So few sources are no crowd.
const FEW: usize = 3;

/// A source, as it is judged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct ClientRow {
    /// How many it has of what deviates.
    pub(super) count: u32,
    /// How it fared in that minute: on the same route, or on any where there is none.
    pub(super) fares: Counts,
    /// It was served there before the deviation began.
    pub(super) was_served: bool,
    /// The verdict.
    pub(super) stands_out: bool,
}

/// Marks those that stand out. `alone`: so many of one source would not be usual of all.
pub(super) fn judge(measure: ClientMeasure, alone: u64, mut rows: Vec<&mut ClientRow>) {
    if measure == ClientMeasure::Errors {
        return;
    }
    let is_candidate = |row: &ClientRow| u64::from(row.count) >= alone.max(1);
    let is_served = |counts: Counts| counts.served().saturating_mul(2) >= counts.requests;
    let others: Vec<Counts> =
        rows.iter().filter(|row| !is_candidate(row) && row.fares.requests > 0).map(|row| row.fares).collect();
    let served = others.iter().filter(|fares| is_served(**fares)).count();
    let is_anybody = others.len() >= FEW;
    let works = is_anybody && served * 2 >= others.len();
    let is_crowd = rows.iter().filter(|row| is_candidate(row)).count() > FEW;
    for row in rows.iter_mut().filter(|row| is_candidate(row)) {
        let is_by_errors = row.fares.errors.saturating_mul(2) >= row.fares.requests;
        let fares_well = measure == ClientMeasure::Requests && is_served(row.fares);
        let is_to_blame = match (works, is_anybody) {
            // Some clients fail and others do not: a few of them, or such as nobody knows and that do not fare well.
            (true, _) => !is_crowd || !row.was_served && !fares_well,
            // Nobody fares well, or there is nobody else who could show that the route works.
            (false, true) => false,
            (false, false) => !is_crowd && (!row.was_served || fares_well),
        };
        row.stands_out = is_to_blame && !is_by_errors;
    }
}
