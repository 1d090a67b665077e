//! What was spent of rates, for the process that takes the place of this one: nobody gets another burst because the gateway
//! was upgraded. Where a process is killed, it is lost.
//!
//! *Invariant:* at most [`MOST_SPENT`] budgets of all limits together. Where more are not full, those that are spent most go
//! on, and the others begin full.

use std::{cmp::Reverse, collections::BinaryHeap};

use serde::{Deserialize, Serialize};

use super::{CompiledLimit, Limits, bandwidth::Bandwidth, budget::Budgets, connection::ConnectionLimits};

/// The most budgets that go on in another process.
pub const MOST_SPENT: usize = 65_536;

/// The most of them that are of connections accepted, of handshakes, of uploads and of downloads, each.
const MOST_OF_OTHERS: usize = 4_096;

/// The most of them that one message has.
pub const MAX_SPENT: usize = 2_500;

/// The longest text of what a limit counts by, in bytes. One that is longer begins anew.
pub const LONGEST_BY: usize = 2_048;

/// What a limit limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Limited {
    /// Connections that are accepted.
    Accepted,
    /// Bytes of responses.
    Downloads,
    /// TLS handshakes.
    Handshakes,
    /// What requests cost.
    Requests,
    /// Bytes of requests.
    Uploads,
}

/// All limits of a process.
#[derive(Clone, Copy, Debug)]
pub struct AllLimits<'a> {
    /// `[limit.NAME]`.
    pub requests: Option<&'a Limits>,
    /// `[bandwidth.NAME]`.
    pub bandwidth: &'a Bandwidth,
    /// `[connection_limit.NAME]`.
    pub connections: &'a ConnectionLimits,
}

impl AllLimits<'_> {
    fn of(&self, limited: Limited) -> Option<&Limits> {
        match limited {
            Limited::Accepted => self.connections.accepted.as_deref(),
            Limited::Downloads => self.bandwidth.download.as_ref(),
            Limited::Handshakes => self.connections.handshake.as_deref(),
            Limited::Requests => self.requests,
            Limited::Uploads => self.bandwidth.upload.as_ref(),
        }
    }

    /// What was spent of each budget that is not full, in pieces that fit a message.
    #[must_use]
    pub fn spent(&self, now: u64) -> Vec<SpentBudgets> {
        let others = [Limited::Accepted, Limited::Downloads, Limited::Handshakes, Limited::Uploads];
        let all = std::iter::once((Limited::Requests, MOST_SPENT - others.len() * MOST_OF_OTHERS))
            .chain(others.map(|limited| (limited, MOST_OF_OTHERS)));
        all.flat_map(|(limited, most)| {
            self.of(limited).map(|limits| limits.spent(limited, most, now)).unwrap_or_default()
        })
        .collect()
    }

    /// Another process has spent this: at least as much is spent here from now on.
    pub fn resume(&self, spent: &SpentBudgets, now: u64) {
        if let Some(limits) = self.of(spent.limited) {
            limits.resume(spent, now);
        }
    }
}

/// What was spent of the budgets of one limit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpentBudgets {
    /// Of what.
    pub limited: Limited,
    /// The limit.
    pub limit: String,
    /// The plan that has an allowance of its own in this limit.
    pub plan: Option<String>,
    /// What it counts by.
    pub by: String,
    /// What one unit costs, in nanoseconds.
    pub unit: u64,
    /// Keys, and when the budget of each is full again: `CLOCK_MONOTONIC`, nanoseconds.
    pub rows: Vec<(u64, u64)>,
}

impl Limits {
    fn spent(&self, limited: Limited, at_most: usize, now: u64) -> Vec<SpentBudgets> {
        let counters: Vec<_> = self
            .limits
            .iter()
            .flat_map(|limit| limit.allowed.iter().map(move |allowed| (limit, allowed)))
            .filter_map(|(limit, allowed)| match &allowed.budgets {
                Budgets::Rate(counter, pace) => Some((limit, allowed, counter, pace)),
                Budgets::InFlight(_) | Budgets::Quota(..) => None,
            })
            .collect();
        // Those that are spent least are on top.
        let mut most = BinaryHeap::new();
        for (at, (_, _, counter, pace)) in counters.iter().enumerate() {
            counter.each_arrival(|key, arrival| {
                let owed = arrival.saturating_sub(now);
                if owed == 0 {
                    return;
                }
                let share = u128::from(owed) * 65_536 / u128::from(pace.refill().max(1));
                most.push(Reverse((share, at, key, arrival)));
                if most.len() > at_most {
                    most.pop();
                }
            });
        }
        let mut rows: Vec<Vec<(u64, u64)>> = vec![Vec::new(); counters.len()];
        for Reverse((_, at, key, arrival)) in most {
            rows.get_mut(at).into_iter().for_each(|rows| rows.push((key, arrival)));
        }
        let pieces = counters.iter().zip(&rows).flat_map(|((limit, allowed, _, pace), rows)| {
            rows.chunks(MAX_SPENT).map(move |rows| SpentBudgets {
                limited,
                limit: limit.name.to_string(),
                plan: allowed.plan.as_deref().map(str::to_owned),
                by: by(limit),
                unit: pace.cost(1),
                rows: rows.to_vec(),
            })
        });
        pieces.filter(|piece| piece.by.len() <= LONGEST_BY).collect()
    }

    fn resume(&self, spent: &SpentBudgets, now: u64) {
        let Some(limit) = self.limits.iter().find(|limit| *limit.name == *spent.limit) else { return };
        let allowed = limit.allowed.iter().find(|allowed| allowed.plan.as_deref() == spent.plan.as_deref());
        if let Some(Budgets::Rate(counter, pace)) = allowed.map(|allowed| &allowed.budgets)
            && by(limit) == spent.by
        {
            let unit = pace.cost(1);
            for (key, arrival) in &spent.rows {
                let owed = u128::from(arrival.saturating_sub(now));
                // As many units are taken.
                let owed =
                    if unit == spent.unit { owed } else { owed * u128::from(unit) / u128::from(spent.unit.max(1)) };
                counter.owe(*key, u64::try_from(owed).unwrap_or(u64::MAX), now);
            }
        }
    }
}

fn by(limit: &CompiledLimit) -> String {
    let parts: Vec<String> = limit.by_text.iter().map(ToString::to_string).collect();
    parts.join(" ")
}
