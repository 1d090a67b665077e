//! What all workers share: the compiled configuration, the bans in force, the counts of connections.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
};

use anyhow::Context as _;
use gateway_common::source::Source;

use super::validators::Validators;
use crate::{
    clock,
    config::{self, Config},
    message::{ADDRESS_LIMIT, Bundle, channel::Sender},
    proxy::{bans::enforced::EnforcedBans, upstream::SharedUpstream},
    snapshot::Snapshot,
};

/// What all workers share.
pub(in crate::proxy) struct Shared {
    pub(in crate::proxy) snapshot: Arc<Snapshot>,
    /// Whether there is an admin listener, so that requests are measured.
    pub(in crate::proxy) is_observed: bool,
    pub(in crate::proxy) bans: EnforcedBans,
    /// The most connections: as configured, or fewer if there are not enough descriptors for upstream connections as
    /// well (D03).
    pub(in crate::proxy) max_connections: usize,
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
    /// What is known of the servers of each upstream, in the order of the configuration.
    pub(in crate::proxy) backends: Box<[SharedUpstream]>,
    /// The threads that validate large bodies.
    pub(in crate::proxy) validators: Validators,
}

impl Shared {
    /// Compiles what the guard sent. There are at most as many connections as `descriptors` allow.
    pub(in crate::proxy) fn new(bundle: Bundle, descriptors: usize, workers: usize) -> anyhow::Result<Self> {
        let config = Config::load(&bundle.path, &bundle).map_err(|errors| anyhow::anyhow!("{errors}"))?;
        let (document, settings, is_observed) = (config.document, config.proxy, config.admin.is_some());
        let bans = EnforcedBans::new(settings.ipv6_prefix, &bundle.bans, &bundle.allows, clock::monotonic());
        let mut snapshot = Snapshot::new(settings).map_err(|diagnostics| {
            anyhow::anyhow!("{}", config::Diagnostics::from_diagnostics(&document, diagnostics))
        })?;
        snapshot.access_log.adopt(&bundle.log_key);
        if let Some(chain) = bundle.tickets {
            snapshot.tickets.adopt(chain);
        }
        for probation in &bundle.probations {
            snapshot.detector.watch(probation.source, probation.until, clock::monotonic());
        }
        let upstreams = snapshot.settings.upstreams.iter().enumerate();
        let backends = upstreams.map(|(index, upstream)| SharedUpstream::new(upstream, index, &snapshot.tls)).collect();
        if let Some(limit) = &snapshot.address_limit
            && bundle.promoted.iter().any(|what| what == ADDRESS_LIMIT)
        {
            limit.enforce();
        }
        let validators = if snapshot.served.iter().any(|route| route.schema.is_some()) {
            // One thread for two workers, as they share the machine's cores.
            Validators::start(workers / 2).context("cannot start the threads that validate bodies")?
        } else {
            Validators::none()
        };
        Ok(Self {
            max_connections: snapshot.settings.connections_within(descriptors),
            snapshot: Arc::new(snapshot),
            is_observed,
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
            backends,
            validators,
        })
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
