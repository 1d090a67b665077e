//! What waits to be asked of the store, and the budgets and quotas that machines share, of which it is asked.

use std::{
    fmt,
    future::poll_fn,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Poll, Waker},
};

use super::lease::Leases;
use crate::{
    policy::limit::quota::{QuotaCounts, Seal},
    settings::limit::Rate,
};

/// The most asks that wait. Each key waits once, so that only a flood of keys comes here.
const MOST_ASKS: usize = 65_536;

/// So many resets have room besides: an operator does not wait for a flood.
const MOST_RESETS: usize = 1_024;

/// A budget that machines share.
pub(in crate::policy::limit) struct SharedBudget {
    /// The limit, and the plan if it is a plan's.
    pub(in crate::policy::limit) name: Box<str>,
    pub(in crate::policy::limit) rate: Rate,
    /// How many units a machine may hold of each key.
    pub(in crate::policy::limit) portion: u64,
    pub(in crate::policy::limit) nodes: u64,
    /// Tells the secret that its keys are made by from others.
    pub(in crate::policy::limit) secret: u64,
    /// What requests cost is known only once they are over, so that debts have no bound.
    pub(in crate::policy::limit) is_later: bool,
    pub(in crate::policy::limit) leases: Arc<Leases>,
}

/// What machines share of a quota that everybody has, or the members of one plan.
pub(in crate::policy::limit) struct SharedQuota {
    /// As the store knows it.
    pub(in crate::policy::limit) name: Box<str>,
    pub(in crate::policy::limit) nodes: u64,
    /// Which of them this machine is.
    pub(in crate::policy::limit) place: u64,
    pub(in crate::policy::limit) most: u64,
    pub(in crate::policy::limit) portion: u64,
    pub(in crate::policy::limit) asks: Arc<BudgetQueue>,
    /// Tells operators' words from what the store makes up.
    pub(in crate::policy::limit) seal: Arc<Seal>,
    pub(in crate::policy::limit) counts: Arc<QuotaCounts>,
}

/// One key of a quota, which the store is to be asked about.
#[derive(Debug)]
pub(in crate::policy::limit) struct WaitingQuota {
    pub(in crate::policy::limit) shared: Arc<SharedQuota>,
    pub(in crate::policy::limit) key: u64,
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
    /// Answers of the store that would have given back what was used up of a quota, without an operator's word.
    disbelieved: AtomicU64,
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
pub(in crate::policy::limit) struct PendingKey {
    pub(in crate::policy::limit) budget: Arc<SharedBudget>,
    pub(in crate::policy::limit) key: u64,
    /// An operator makes the budget full again.
    pub(in crate::policy::limit) is_reset: bool,
}

impl BudgetQueue {
    /// Takes what waits, at most so many.
    pub(in crate::policy::limit) fn take_waiting(&self, most: usize) -> Vec<PendingKey> {
        let mut queue = lock(&self.queue);
        let count = queue.waiting.len().min(most);
        queue.waiting.drain(..count).collect()
    }

    /// The same of quotas.
    pub(in crate::policy::limit) fn take_waiting_quotas(&self, most: usize) -> Vec<WaitingQuota> {
        let mut queue = lock(&self.queue);
        let count = queue.quotas.len().min(most);
        queue.quotas.drain(..count).collect()
    }

    /// Waits until anything is to be asked.
    pub(in crate::policy::limit) async fn wait(&self) {
        poll_fn(|context| {
            let mut queue = lock(&self.queue);
            if queue.waiting.is_empty() && queue.quotas.is_empty() {
                queue.waker = Some(context.waker().clone());
                return Poll::Pending;
            }
            Poll::Ready(())
        })
        .await;
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
    pub(in crate::policy::limit) fn is_first(&self) -> bool {
        self.is_first.load(Ordering::Relaxed)
    }

    /// How often the store has come back: it may have lost what it knew.
    pub(in crate::policy::limit) fn sessions(&self) -> u64 {
        self.sessions.load(Ordering::Relaxed)
    }

    /// Whether the store answers.
    pub fn is_reachable(&self) -> bool {
        self.is_reachable.load(Ordering::Relaxed)
    }

    /// The store is away, and one more request is judged without it.
    pub(in crate::policy::limit) fn count_alone(&self) {
        self.alone.fetch_add(1, Ordering::Relaxed);
    }

    /// Requests that were judged by this machine's share alone.
    pub fn alone(&self) -> u64 {
        self.alone.load(Ordering::Relaxed)
    }

    /// The store says that less of a quota was used up than this machine knows, and shows no operator's word for it.
    pub(in crate::policy::limit) fn disbelieve(&self) {
        if self.disbelieved.fetch_add(1, Ordering::Relaxed) == 0 {
            tracing::error!(
                "the store of the cluster gives back what was used up of a quota, and no operator has said so: it is not \
                 believed; see who can write to it"
            );
        }
    }

    /// How often the store was not believed.
    pub fn disbelieved(&self) -> u64 {
        self.disbelieved.load(Ordering::Relaxed)
    }

    /// `false`: there is no room.
    pub(in crate::policy::limit) fn push(&self, ask: PendingKey) -> bool {
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
    pub(in crate::policy::limit) fn push_quota(&self, ask: WaitingQuota) -> bool {
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

impl fmt::Debug for SharedQuota {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "SharedQuota({}, portions of {})", self.name, self.portion)
    }
}
