//! How it is with the store, as its thread says and others ask.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicU64, Ordering},
};

use super::{connection::Failure, store::StoreAddress};
use crate::{os::clock::Now, policy::limit::BudgetQueue, settings::cluster};

/// What the thread has to do: with which store, and for which limits.
#[derive(Clone)]
pub(super) struct StoreJob {
    /// What `place` was made of.
    pub(super) settings: cluster::Settings,
    pub(super) place: Arc<StoreAddress>,
    pub(super) asks: Option<Arc<BudgetQueue>>,
}

impl StoreJob {
    /// Whether it is the same for the thread: the connections stay then.
    pub(super) fn is(&self, settings: &cluster::Settings, asks: Option<&Arc<BudgetQueue>>) -> bool {
        let same_asks = match (&self.asks, asks) {
            (Some(own), Some(asks)) => Arc::ptr_eq(own, asks),
            (None, None) => true,
            _ => false,
        };
        same_asks && self.settings == *settings
    }
}

/// How it is with the store.
#[derive(Default)]
pub(in crate::proxy) struct State {
    pub(super) calls: AtomicU64,
    pub(super) failures: AtomicU64,
    /// Answers that answered nothing that was asked.
    pub(super) malformed: AtomicU64,
    /// Of the last call that was answered, in microseconds.
    pub(super) latency: AtomicU64,
    now: Mutex<StoreStatus>,
}

/// How it is with the store at this moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::proxy) struct StoreStatus {
    /// Whether there is one.
    pub(in crate::proxy) is_configured: bool,
    /// Whether it answers.
    pub(in crate::proxy) is_reachable: bool,
    /// Since when: milliseconds since the Unix epoch.
    pub(in crate::proxy) since: u64,
    /// Why it does not.
    pub(in crate::proxy) why: String,
    /// Why letters between guards are not carried; empty: they are.
    pub(in crate::proxy) letters: String,
}

impl State {
    pub(in crate::proxy) fn told(&self) -> StoreStatus {
        self.now.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Calls, those of them that failed, and how long the last took that was answered, in microseconds.
    pub(in crate::proxy) fn counts(&self) -> (u64, u64, u64) {
        let load = |number: &AtomicU64| number.load(Ordering::Relaxed);
        (load(&self.calls), load(&self.failures), load(&self.latency))
    }

    /// Answers that answered nothing that was asked.
    pub(in crate::proxy) fn malformed(&self) -> u64 {
        self.malformed.load(Ordering::Relaxed)
    }

    pub(super) fn count_malformed(&self, failure: &Failure) {
        self.malformed.fetch_add(u64::from(failure.is_malformed), Ordering::Relaxed);
    }

    pub(super) fn change(&self, change: impl FnOnce(&mut StoreStatus)) {
        change(&mut self.now.lock().unwrap_or_else(PoisonError::into_inner));
    }

    pub(super) fn reached(&self) {
        self.change(|told| {
            if !told.is_reachable {
                *told = StoreStatus {
                    is_configured: true,
                    is_reachable: true,
                    since: Now::read().unix_millis,
                    why: String::new(),
                    letters: std::mem::take(&mut told.letters),
                };
                tracing::info!("the store of the cluster answers");
            }
        });
    }

    pub(super) fn failed(&self, failure: &Failure) {
        self.change(|told| {
            let why = failure.to_string();
            if told.is_reachable || told.since == 0 {
                tracing::warn!(
                    "the store of the cluster is away, shared limits are enforced by this machine's share: {why}"
                );
                *told = StoreStatus {
                    is_configured: true,
                    is_reachable: false,
                    since: Now::read().unix_millis,
                    why,
                    letters: std::mem::take(&mut told.letters),
                };
            } else if told.why != why {
                told.why = why;
            }
        });
    }
}
