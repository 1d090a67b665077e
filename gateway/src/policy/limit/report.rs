//! What an operator is told of limits: what each has counted, whom it refused, and what is left of one budget.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{
    CompiledLimit, Limits,
    budget::{Allowed, Budgets},
    counter::Counts,
    key::{Key, Written, shown},
    shadow::ShadowRefusals,
    shared::queue::BudgetQueue,
};
use crate::os::clock::SECOND;

/// The most rows of one answer.
pub const MAX_ROWS: usize = 100;

pub use super::key::LONGEST_KEY;

pub mod asked_key;
pub(super) mod offenders;

/// What an operator asks of limits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LimitQuestion {
    /// What each has counted.
    List,
    /// What each quota has counted.
    Quotas,
    /// Make the budgets of a key full again. Quotas stay.
    Reset(Vec<(String, String)>),
    /// From now on a key has used up so much of its quota.
    SetQuota {
        /// Of which quota; `None`: of each that has such keys.
        quota: Option<String>,
        /// The parts of the key by their names.
        key: Vec<(String, String)>,
        /// In units of the quota.
        used: u64,
    },
    /// What is left for a key: its parts by their names.
    Show(Vec<(String, String)>),
    /// What is left of quotas for a key.
    ShowQuota(Vec<(String, String)>),
    /// Whom they refused most often.
    Top,
}

/// One line of an answer: a limit, or one of its keys.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LimitRow {
    /// The limit.
    pub limit: String,
    /// The plan that has an allowance of its own in this limit.
    pub plan: Option<String>,
    /// The key; absent: the row is about all of them.
    pub key: Option<String>,
    /// `enforce` or `shadow`.
    pub mode: String,
    /// Requests that were let through.
    pub admitted: Option<u64>,
    /// Requests that were refused, or would have been.
    pub refused: Option<u64>,
    /// Budgets that made room for others.
    pub evicted: Option<u64>,
    /// Requests that shared a budget, as there was no room for one of their own.
    pub shared: Option<u64>,
    /// Keys that are known.
    pub keys: Option<u64>,
    /// Keys that there is room for.
    pub capacity: Option<u64>,
    /// What is left of the key's budget: units, or requests at once.
    pub left: Option<u64>,
    /// Requests of the key in flight.
    pub in_flight: Option<u64>,
    /// In so many seconds the budget is full again.
    pub full_in_seconds: Option<u64>,
    /// So many seconds ago the key was refused last.
    pub last_seconds: Option<u64>,
    /// Of a quota: `hour`, `day`, `week` or `month`.
    pub per: Option<String>,
    /// Of a quota: how much there is for each key.
    pub quota: Option<u64>,
    /// Of a quota: what the key has used up.
    pub used: Option<u64>,
    /// Of a quota: when it begins anew, in seconds since the Unix epoch.
    pub resets: Option<u64>,
    /// Of a shared quota: how many machines count together.
    pub machines: Option<u64>,
    /// Of a shared quota: what the key has used up on other machines, as far as this one knows.
    pub elsewhere: Option<u64>,
}

/// What the metrics say of a limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimitSum {
    /// Its name.
    pub name: Arc<str>,
    /// Over all plans.
    pub counts: Counts,
    /// Keys that are known.
    pub keys: u64,
    /// Keys that there is room for.
    pub capacity: u64,
}

/// What the metrics say of a quota besides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warnings {
    /// Its name.
    pub name: Arc<str>,
    /// How often a key has crossed a threshold.
    pub crossings: u64,
    /// When the period ends by the calendar, in seconds since the Unix epoch.
    pub end: u64,
}

/// As many of these rows as one answer has room for, and how many there are besides.
#[must_use]
pub fn first(mut rows: Vec<LimitRow>) -> (Vec<LimitRow>, u64) {
    let more = rows.len().saturating_sub(MAX_ROWS);
    rows.truncate(MAX_ROWS);
    (rows, wide(more))
}

/// Answers an operator.
#[must_use]
pub fn answer(limits: Option<&Limits>, question: &LimitQuestion, now: u64) -> Vec<LimitRow> {
    limits.map(|limits| limits.answer(question, now)).unwrap_or_default()
}

impl Limits {
    /// Ends the shadow mode of a limit: an operator says so. `what` is `limit.NAME`.
    pub fn promote(&self, what: &str) {
        let Some((table, name)) = what.split_once('.') else { return };
        if let Some(limit) = self.limits.iter().find(|limit| (limit.table(), &*limit.name) == (table, name)) {
            limit.mode.promote();
        }
    }

    /// What limits in shadow mode would have refused since the last call, each with its name.
    pub fn would_refuse(&self) -> impl Iterator<Item = (Arc<str>, ShadowRefusals)> {
        self.limits.iter().filter_map(|limit| Some((Arc::clone(&limit.name), limit.mode.would_refuse()?)))
    }

    /// What waits to be asked of the store that machines share; `None`: no limit is shared.
    #[must_use]
    pub fn asks(&self) -> Option<&Arc<BudgetQueue>> {
        self.circle.as_ref().map(|circle| &circle.asks)
    }

    /// What each limit has counted so far.
    #[must_use]
    pub fn sums(&self) -> Vec<LimitSum> {
        let sum = |limit: &CompiledLimit| {
            let start = LimitSum { name: Arc::clone(&limit.name), counts: Counts::default(), keys: 0, capacity: 0 };
            limit.counted().fold(start, |sum, allowed| {
                let (counts, keys) = allowed.counts();
                LimitSum {
                    counts: sum.counts.and(counts),
                    keys: sum.keys.saturating_add(wide(keys)),
                    capacity: sum.capacity.saturating_add(wide(allowed.budgets.capacity())),
                    ..sum
                }
            })
        };
        self.limits.iter().map(sum).collect()
    }

    fn answer(&self, question: &LimitQuestion, now: u64) -> Vec<LimitRow> {
        match question {
            LimitQuestion::List => self.each().map(|(limit, allowed)| list(limit, allowed)).collect(),
            LimitQuestion::Quotas => {
                let quotas = self.each().filter(|(limit, _)| limit.quota.is_some());
                quotas.map(|(limit, allowed)| list(limit, allowed)).collect()
            }
            LimitQuestion::ShowQuota(parts) => self.written(parts, |limit, allowed, key, text| {
                limit.quota.as_ref()?;
                show(limit, allowed, key, now).map(|row| LimitRow { key: Some(text), ..row })
            }),
            LimitQuestion::SetQuota { quota, key, used } => self.written(key, |limit, allowed, key, text| {
                let is_meant = quota.as_ref().is_none_or(|quota| **quota == *limit.name);
                let Budgets::Quota(counts, rules) = &allowed.budgets else { return None };
                // Plans share their counts: once is enough.
                if !is_meant || allowed.plan.is_some() {
                    return None;
                }
                limit.offenders.forget(key.own);
                counts.set(key.own, *used, rules, now)?;
                let left = rules.most.saturating_sub(*used);
                Some(LimitRow { key: Some(text), used: Some(*used), left: Some(left), ..row(limit, allowed) })
            }),
            LimitQuestion::Reset(parts) => self.written(parts, |limit, allowed, key, text| {
                limit.offenders.forget(key.own);
                allowed.reset(key).then(|| LimitRow { key: Some(text), ..row(limit, allowed) })
            }),
            LimitQuestion::Show(parts) => self.written(parts, |limit, allowed, key, text| {
                show(limit, allowed, key, now).map(|row| LimitRow { key: Some(text), ..row })
            }),
            LimitQuestion::Top => self.top(now),
        }
    }

    fn each(&self) -> impl Iterator<Item = (&CompiledLimit, &Allowed)> {
        self.limits.iter().flat_map(|limit| limit.allowed.iter().map(move |allowed| (limit, allowed)))
    }

    /// What `row` makes of a key in every limit that has such keys.
    fn written(
        &self,
        parts: &[(String, String)],
        row: impl Fn(&CompiledLimit, &Allowed, Key, String) -> Option<LimitRow>,
    ) -> Vec<LimitRow> {
        let written = Written { parts, ipv6_prefix: self.ipv6_prefix };
        let text = || parts.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" ");
        let rows = self.each().filter_map(|(limit, allowed)| {
            let own = || written.key(&limit.by, &self.parts, &self.hasher);
            let key = match &self.circle {
                Some(circle) if limit.is_shared => {
                    let common = written.key(&limit.by, &self.parts, &circle.hasher)?;
                    Key { own: if limit.quota.is_some() { common } else { own()? }, common }
                }
                _ => Key::of(own()?),
            };
            row(limit, allowed, key, text())
        });
        rows.collect()
    }

    fn top(&self, now: u64) -> Vec<LimitRow> {
        let mut rows: Vec<LimitRow> = Vec::new();
        for limit in &self.limits {
            let Some(first) = limit.allowed.first() else { continue };
            rows.extend(limit.offenders.top().into_iter().map(|offender| LimitRow {
                key: Some(shown(&offender.text)),
                refused: Some(offender.refused),
                last_seconds: Some(now.saturating_sub(offender.last) / SECOND),
                ..row(limit, first)
            }));
        }
        rows.sort_by_key(|row| std::cmp::Reverse(row.refused));
        rows
    }
}

fn row(limit: &CompiledLimit, allowed: &Allowed) -> LimitRow {
    let mode = if limit.mode.enforces() { "enforce" } else { "shadow" };
    let plan = allowed.plan.as_ref().map(ToString::to_string);
    let row = LimitRow { limit: limit.name.to_string(), plan, mode: mode.to_owned(), ..LimitRow::default() };
    match &allowed.budgets {
        Budgets::InFlight(_) | Budgets::Rate(..) => row,
        Budgets::Quota(counts, rules) => {
            let machines = rules.shared.as_ref().map(|shared| shared.nodes());
            LimitRow { per: limit.per.clone(), quota: Some(rules.most), resets: Some(counts.end()), machines, ..row }
        }
    }
}

fn list(limit: &CompiledLimit, allowed: &Allowed) -> LimitRow {
    if !limit.counted().any(|counted| std::ptr::eq(counted, allowed)) {
        return row(limit, allowed);
    }
    let (counts, keys) = allowed.counts();
    LimitRow {
        admitted: Some(counts.admitted),
        refused: Some(counts.refused.saturating_add(counts.shadow)),
        evicted: Some(counts.evicted),
        shared: Some(counts.shared),
        keys: Some(wide(keys)),
        capacity: Some(wide(allowed.budgets.capacity())),
        ..row(limit, allowed)
    }
}

fn show(limit: &CompiledLimit, allowed: &Allowed, key: Key, now: u64) -> Option<LimitRow> {
    let row = row(limit, allowed);
    if let Some((left, seconds)) = allowed.shared.as_ref().and_then(|shared| shared.find(key.common)) {
        return Some(LimitRow { left: Some(left), full_in_seconds: Some(seconds), ..row });
    }
    match &allowed.budgets {
        Budgets::InFlight(counter) => counter.find(key.own).map(|(count, most)| LimitRow {
            left: Some(most.saturating_sub(count)),
            in_flight: Some(count),
            ..row
        }),
        Budgets::Quota(counts, rules) => {
            let elsewhere = rules.shared.as_ref().and_then(|shared| shared.others(key.own, now));
            let used = counts.find(key.own, now).or_else(|| elsewhere.filter(|units| *units > 0).map(|_| 0))?;
            Some(LimitRow {
                left: Some(rules.most.saturating_sub(used).saturating_sub(elsewhere.unwrap_or(0))),
                used: Some(used),
                elsewhere,
                full_in_seconds: Some(counts.span(now).ends.saturating_sub(now).div_ceil(SECOND)),
                ..row
            })
        }
        Budgets::Rate(counter, _) => counter.find(key.own).map(|budget| LimitRow {
            left: Some(budget.pace.left(budget.arrival, now)),
            full_in_seconds: Some(budget.arrival.saturating_sub(now).div_ceil(SECOND)),
            ..row
        }),
    }
}

fn wide(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}
