//! What is to be asked of the store, and what its answers change.

use std::{sync::Arc, time::Duration};

use super::{
    lease::Granted,
    queue::{BudgetQueue, PendingKey, SharedBudget},
};
use crate::policy::limit::quota::QuotaAsk;

/// The least time that a key is refused for once its budget is spent: so that a flood asks the store seldom.
const LEAST_REFUSED: Duration = Duration::from_millis(5);

/// How long this machine's share decides for a key that the store cannot count, until it is asked again.
const ALONE: Duration = Duration::from_secs(1);

/// One key of one limit, whose budget is being asked for. If it is dropped without an answer, the key is asked for again:
/// the store may have charged the call, and then refuses too much, never too little. A reset waits again itself.
#[derive(Debug)]
pub struct BudgetRequest {
    /// `None`: it is over.
    waiting: Option<PendingKey>,
    asks: Arc<BudgetQueue>,
}

/// What the store is asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoreCall {
    /// The budget: the name of the limit, of the plan if it is a plan's, and the key.
    pub name: String,
    /// The rate: so many units...
    pub units: u64,
    /// ... in so many nanoseconds, ...
    pub period: u64,
    /// ... and so many at once.
    pub burst: u64,
    /// Units that were spent already, to be charged however few are left.
    pub charge: u64,
    /// Units that are asked for. Fewer may be granted.
    pub want: u64,
    /// If none is granted: the store tells when so many are there.
    pub least: u64,
    /// Units that may be owed at most besides the burst; more is a clock that was set back.
    pub debt: u64,
    /// The budget is to be forgotten, and nothing else.
    pub is_reset: bool,
}

impl BudgetQueue {
    /// Takes what waits, at most so many.
    pub fn take(self: &Arc<Self>, most: usize) -> Vec<BudgetRequest> {
        let waiting = self.take_waiting(most).into_iter();
        waiting.map(|waiting| BudgetRequest { waiting: Some(waiting), asks: Arc::clone(self) }).collect()
    }

    /// The same of quotas.
    pub fn take_quotas(&self, most: usize) -> Vec<QuotaAsk> {
        self.take_waiting_quotas(most).into_iter().map(QuotaAsk::new).collect()
    }

    /// Both; waits for the first.
    pub async fn next(self: &Arc<Self>, most: usize) -> (Vec<BudgetRequest>, Vec<QuotaAsk>) {
        self.wait().await;
        (self.take(most), self.take_quotas(most))
    }
}

impl BudgetRequest {
    /// What the store is to be asked now.
    #[must_use]
    pub fn call(&self) -> StoreCall {
        self.waiting.as_ref().map(PendingKey::call).unwrap_or_default()
    }

    /// The store has answered a call.
    pub fn answered(mut self, call: &StoreCall, granted: Granted, now: u64) {
        let Some(PendingKey { budget, key, is_reset }) = self.waiting.take() else { return };
        let mut part = budget.leases.part(key);
        // Forgotten meanwhile: what was granted is lost, which refuses too much and never too little.
        let Some(lease) = part.keys.find(key, &key) else { return };
        lease.left = granted.left;
        lease.refused_until = if granted.wait > 0 { now.saturating_add(granted.wait) } else { 0 };
        (lease.is_known, lease.is_alone) = (true, false);
        // What was spent since a reset is still to be charged.
        if !is_reset {
            let gained = i64::try_from(call.charge.saturating_add(granted.units)).unwrap_or(i64::MAX);
            lease.balance = lease.balance.saturating_add(gained);
            lease.is_asked = false;
        }
    }

    /// The store answers, and cannot count this key: this machine's share decides for some time.
    pub fn failed(mut self, now: u64) {
        let Some(PendingKey { budget, key, is_reset }) = self.waiting.take() else { return };
        if is_reset {
            tracing::warn!("the store of the cluster refuses to make a budget of {} full again", budget.name);
            return;
        }
        if let Some(lease) = budget.leases.part(key).keys.find(key, &key) {
            lease.refused_until = now.saturating_add(nanoseconds(ALONE));
            (lease.is_alone, lease.is_asked) = (true, false);
        }
    }
}

impl PendingKey {
    fn call(&self) -> StoreCall {
        let Self { budget, key, is_reset } = self;
        let SharedBudget { name, rate, portion, nodes, is_later, leases, .. } = &**budget;
        let balance = leases.part(*key).keys.find(*key, key).map_or(0, |lease| lease.balance);
        let charge = u64::try_from(balance.saturating_neg()).unwrap_or(0);
        let held = u64::try_from(balance).unwrap_or(0);
        let period = nanoseconds(rate.per);
        let soon = u128::from(rate.units) * LEAST_REFUSED.as_nanos() / u128::from(period.max(1));
        StoreCall {
            name: format!("{name}:{key:016x}"),
            units: rate.units,
            period,
            burst: rate.burst,
            charge,
            want: portion.saturating_sub(held).max(1),
            least: u64::try_from(soon).unwrap_or(u64::MAX).clamp(1, *portion),
            debt: if *is_later { u64::MAX >> 16 } else { nodes.saturating_mul(*portion).saturating_mul(2) },
            is_reset: *is_reset,
        }
    }
}

impl Drop for BudgetRequest {
    fn drop(&mut self) {
        let Some(waiting) = self.waiting.take() else { return };
        if waiting.is_reset {
            // An operator was told that it is made.
            let budget = Arc::clone(&waiting.budget);
            if !self.asks.push(waiting) {
                tracing::warn!("too much waits for the store of the cluster: a reset of {} is lost", budget.name);
            }
            return;
        }
        let PendingKey { budget, key, .. } = &waiting;
        if let Some(lease) = budget.leases.part(*key).keys.find(*key, key) {
            lease.is_asked = false;
        }
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
