//! What all workers share, whatever the configuration is: the bans in force, the counts of connections.

use std::{
    collections::HashMap,
    sync::{
        Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
};

use gateway_common::source::Source;

use crate::{message::channel::Sender, proxy::bans::enforced::EnforcedBans};

/// What all workers share.
pub(in crate::proxy) struct Shared {
    /// Traces for which there was no room.
    pub(in crate::proxy) lost_traces: AtomicU64,
    pub(in crate::proxy) bans: EnforcedBans,
    /// Connections of all workers.
    pub(in crate::proxy) connections: AtomicUsize,
    /// Connections of each source, over all workers. At most as many sources as connections.
    pub(in crate::proxy) sources: Mutex<HashMap<Source, usize>>,
    /// The direct way to the guard for requests for bans.
    pub(in crate::proxy) asks: OnceLock<Sender>,
    /// Requests for bans that were lost because the queue to the guard was full.
    pub(in crate::proxy) lost_asks: AtomicU64,
    /// Whether the gateway is about to stop: clients are still served, and health checks are told.
    pub(in crate::proxy) is_stopping: AtomicBool,
    /// Whether idle connections are closed because the proxy is over `proxy.max_memory`.
    pub(in crate::proxy) is_tight: AtomicBool,
    /// Whether new connections and requests are refused as well.
    pub(in crate::proxy) sheds: AtomicBool,
    /// How many connections and requests were refused for that.
    pub(in crate::proxy) shed: AtomicU64,
    /// Connections that were closed because there were too many.
    pub(in crate::proxy) lost_connections: AtomicU64,
}

impl Shared {
    pub(in crate::proxy) fn new(bans: EnforcedBans) -> Self {
        Self {
            lost_traces: AtomicU64::new(0),
            bans,
            connections: AtomicUsize::new(0),
            sources: Mutex::default(),
            asks: OnceLock::new(),
            lost_asks: AtomicU64::new(0),
            lost_connections: AtomicU64::new(0),
            is_stopping: AtomicBool::new(false),
            is_tight: AtomicBool::new(false),
            sheds: AtomicBool::new(false),
            shed: AtomicU64::new(0),
        }
    }

    /// Counts a connection of `source`. `false`: it already has `most`.
    pub(super) fn enter(&self, source: Source, most: usize) -> bool {
        let mut sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        let count = sources.entry(source).or_default();
        let enters = *count < most;
        *count += usize::from(enters);
        enters
    }

    /// Whether to refuse a connection or request because the proxy is too large. Counts what is refused.
    pub(in crate::proxy) fn sheds(&self) -> bool {
        let sheds = self.sheds.load(Ordering::Relaxed);
        if sheds {
            self.shed.fetch_add(1, Ordering::Relaxed);
        }
        sheds
    }

    pub(super) fn leave(&self, source: Source) {
        self.forget(source);
        self.connections.fetch_sub(1, Ordering::Relaxed);
    }

    pub(super) fn forget(&self, source: Source) {
        let mut sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = sources.get_mut(&source) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                sources.remove(&source);
            }
        }
    }
}
