//! What all workers share, whatever the configuration is: the bans in force, the counts of connections.

use std::{
    collections::HashMap,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
};

use gateway_common::source::Source;

use super::asks::BanRequests;
use crate::proxy::{
    bans::enforced::EnforcedBans, cluster::Cluster, connection::fast_lane::MarkedConnections, lookup::Lookups,
};

/// What all workers share.
pub(in crate::proxy) struct WorkersShared {
    /// Traces for which there was no room.
    pub(in crate::proxy) lost_traces: AtomicU64,
    pub(in crate::proxy) bans: EnforcedBans,
    /// Finds out what only others know.
    pub(in crate::proxy) lookups: Lookups,
    /// What other machines know.
    pub(in crate::proxy) cluster: Cluster,
    /// Connections of all workers.
    pub(in crate::proxy) connections: AtomicUsize,
    /// Connections of each source, over all workers. At most as many sources as connections.
    pub(in crate::proxy) sources: Mutex<HashMap<Source, usize>>,
    /// Connections that the kernel serves before unknown clients.
    pub(in crate::proxy) fast_lane: MarkedConnections,
    /// Requests for bans.
    pub(in crate::proxy) asks: BanRequests,
    /// What was lost because the queue to the control thread was full: requests for bans among it.
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

impl WorkersShared {
    pub(in crate::proxy) fn new(bans: EnforcedBans) -> Self {
        Self {
            lost_traces: AtomicU64::new(0),
            bans,
            lookups: Lookups::default(),
            cluster: Cluster::default(),
            connections: AtomicUsize::new(0),
            sources: Mutex::default(),
            fast_lane: MarkedConnections::default(),
            asks: BanRequests::new(),
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

    /// Whether new connections and requests are refused because the proxy is too large.
    pub(in crate::proxy) fn is_over_memory(&self) -> bool {
        self.sheds.load(Ordering::Relaxed)
    }

    /// A connection or request was refused for that.
    pub(in crate::proxy) fn note_shed(&self) {
        self.shed.fetch_add(1, Ordering::Relaxed);
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
