//! What is to be asked of the store, and what its answers change.

use std::{
    fmt,
    future::poll_fn,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Poll, Waker},
    time::Duration,
};

use super::{
    lease::{Granted, Leases},
    quota::{QuotaAsk, WaitingQuota},
};
use crate::settings::limit::Rate;

/// The least time that a key is refused for once its budget is spent: so that a flood asks the store seldom.
const LEAST_REFUSED: Duration = Duration::from_millis(5);

/// How long this machine's share decides for a key that the store cannot count, until it is asked again.
const ALONE: Duration = Duration::from_secs(1);

/// The most asks that wait. Each key waits once, so that only a flood of keys comes here.
const MOST_ASKS: usize = 65_536;

/// So many resets have room besides: an operator does not wait for a flood.
const MOST_RESETS: usize = 1_024;

/// A budget that machines share.
pub(super) struct SharedBudget {
    /// The limit, and the plan if it is a plan's.
    pub(super) name: Box<str>,
    pub(super) rate: Rate,
    /// How many units a machine may hold of each key.
    pub(super) portion: u64,
    pub(super) nodes: u64,
    /// Tells the secret that its keys are made by from others.
    pub(super) secret: u64,
    /// What requests cost is known only once they are over, so that debts have no bound.
    pub(super) is_later: bool,
    pub(super) leases: Arc<Leases>,
}

/// What waits to be asked of the store.
#[derive(Default)]
pub struct BudgetQueue {
    queue: Mutex<Queue>,
    /// Whether the store answers.
    is_reachable: AtomicBool,
    /// How often it has come back, its first coming included.
    sessions: AtomicU64,
    /// No other process of this machine counts: what the store knows more of it was lost here.
    is_first: AtomicBool,
    /// Requests that were judged by this machine's share alone, as the store was away.
    alone: AtomicU64,
}

/// What waits, and whoever waits for it.
#[derive(Default)]
struct Queue {
    waiting: Vec<PendingKey>,
    quotas: Vec<WaitingQuota>,
    waker: Option<Waker>,
}

/// One key of one limit, whose budget is to be asked for.
#[derive(Debug)]
pub(super) struct PendingKey {
    pub(super) budget: Arc<SharedBudget>,
    pub(super) key: u64,
    /// An operator makes the budget full again.
    pub(super) is_reset: bool,
}

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
        let waiting = lock(&self.queue).take(most);
        waiting.into_iter().map(|waiting| BudgetRequest { waiting: Some(waiting), asks: Arc::clone(self) }).collect()
    }

    /// The same of quotas.
    pub fn take_quotas(&self, most: usize) -> Vec<QuotaAsk> {
        let mut queue = lock(&self.queue);
        let count = queue.quotas.len().min(most);
        let waiting: Vec<WaitingQuota> = queue.quotas.drain(..count).collect();
        drop(queue);
        waiting.into_iter().map(QuotaAsk::new).collect()
    }

    /// Both; waits for the first.
    pub async fn next(self: &Arc<Self>, most: usize) -> (Vec<BudgetRequest>, Vec<QuotaAsk>) {
        poll_fn(|context| {
            let mut queue = lock(&self.queue);
            if queue.waiting.is_empty() && queue.quotas.is_empty() {
                queue.waker = Some(context.waker().clone());
                return Poll::Pending;
            }
            Poll::Ready(())
        })
        .await;
        (self.take(most), self.take_quotas(most))
    }

    /// The store answers, or does not any more. As long as it does not, each machine counts by its own share.
    pub fn set_reachable(&self, is_reachable: bool) {
        if !self.is_reachable.swap(is_reachable, Ordering::Relaxed) && is_reachable {
            self.sessions.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// No other process of this machine counts, or another one does.
    pub fn set_first(&self, is_first: bool) {
        self.is_first.store(is_first, Ordering::Relaxed);
    }

    /// Whether no other process of this machine counts.
    pub(super) fn is_first(&self) -> bool {
        self.is_first.load(Ordering::Relaxed)
    }

    /// How often the store has come back: it may have lost what it knew.
    pub(super) fn sessions(&self) -> u64 {
        self.sessions.load(Ordering::Relaxed)
    }

    /// Whether the store answers.
    pub fn is_reachable(&self) -> bool {
        self.is_reachable.load(Ordering::Relaxed)
    }

    /// The store is away, and one more request is judged without it.
    pub(super) fn count_alone(&self) {
        self.alone.fetch_add(1, Ordering::Relaxed);
    }

    /// Requests that were judged by this machine's share alone.
    pub fn alone(&self) -> u64 {
        self.alone.load(Ordering::Relaxed)
    }

    /// `false`: there is no room.
    pub(super) fn push(&self, ask: PendingKey) -> bool {
        let mut queue = lock(&self.queue);
        let room = if ask.is_reset { MOST_ASKS + MOST_RESETS } else { MOST_ASKS };
        if queue.waiting.len() >= room {
            return false;
        }
        queue.waiting.push(ask);
        wake(queue);
        true
    }

    /// The same of a quota.
    pub(super) fn push_quota(&self, ask: WaitingQuota) -> bool {
        let mut queue = lock(&self.queue);
        if queue.quotas.len() >= MOST_ASKS {
            return false;
        }
        queue.quotas.push(ask);
        wake(queue);
        true
    }
}

fn wake(mut queue: MutexGuard<'_, Queue>) {
    let waker = queue.waker.take();
    drop(queue);
    waker.into_iter().for_each(Waker::wake);
}

impl Queue {
    fn take(&mut self, most: usize) -> Vec<PendingKey> {
        let count = self.waiting.len().min(most);
        self.waiting.drain(..count).collect()
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

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic while the lock was held left at worst a count behind; the daemon goes on.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Debug for SharedBudget {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "SharedBudget({}, portions of {})", self.name, self.portion)
    }
}

impl fmt::Debug for BudgetQueue {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Asks({} wait)", lock(&self.queue).waiting.len())
    }
}
