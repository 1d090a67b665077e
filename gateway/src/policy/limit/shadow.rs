//! What a limit in shadow mode would have refused, and whether it is enforced.

use std::{
    collections::HashSet,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use gateway_common::source::Source;

/// Requests that a limit in shadow mode would have refused, since the last time it was asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ShadowRefusals {
    /// How many.
    pub requests: u64,
    /// Whose, as far as they were not told of before; at most [`MOST_TOLD`].
    pub sources: Vec<Source>,
}

/// So many sources are known to have been told of. Over that, their requests are counted alone.
pub(super) const MOST_KNOWN: usize = 16_384;

/// The most sources that are told of at once.
pub const MOST_TOLD: usize = 500;

/// Whether a limit is enforced, and what it would have refused.
#[derive(Debug)]
pub(super) struct Mode {
    enforces: AtomicBool,
    /// An operator ended shadow mode.
    is_promoted: AtomicBool,
    would_refuse: AtomicU64,
    told: Mutex<ReportedSources>,
}

#[derive(Debug, Default)]
struct ReportedSources {
    known: HashSet<Source>,
    fresh: Vec<Source>,
}

impl Mode {
    pub(super) fn new(shadow: bool) -> Self {
        Self {
            enforces: AtomicBool::new(!shadow),
            is_promoted: AtomicBool::new(false),
            would_refuse: AtomicU64::new(0),
            told: Mutex::default(),
        }
    }

    pub(super) fn enforces(&self) -> bool {
        self.enforces.load(Ordering::Relaxed)
    }

    /// Ends shadow mode: an operator says so.
    pub(super) fn promote(&self) {
        self.is_promoted.store(true, Ordering::Relaxed);
        self.enforces.store(true, Ordering::Relaxed);
    }

    /// Goes on as another configuration says. Once that enforces the limit, the promotion is over.
    pub(super) fn change(&self, shadow: bool) {
        let is_promoted = self.is_promoted.fetch_and(shadow, Ordering::Relaxed);
        self.enforces.store(!shadow || is_promoted, Ordering::Relaxed);
    }

    /// A request of `source` would have been refused.
    pub(super) fn note(&self, source: Source) {
        self.would_refuse.fetch_add(1, Ordering::Relaxed);
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.fresh.len() < MOST_TOLD && told.known.len() < MOST_KNOWN && told.known.insert(source) {
            told.fresh.push(source);
        }
    }

    /// What would have been refused since the last call; `None`: nothing.
    pub(super) fn would_refuse(&self) -> Option<ShadowRefusals> {
        let requests = self.would_refuse.swap(0, Ordering::Relaxed);
        if requests == 0 {
            return None;
        }
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        Some(ShadowRefusals { requests, sources: std::mem::take(&mut told.fresh) })
    }

    #[cfg(test)]
    pub(super) fn known(&self) -> usize {
        self.told.lock().unwrap_or_else(PoisonError::into_inner).known.len()
    }
}
