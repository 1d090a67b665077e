//! A configuration as the proxy serves it: compiled once, with upstream pools for each worker. A request keeps the one that
//! it began with, a reload puts another in the place of the one in force.
//!
//! *Invariant:* a worker counts its references by `Rc`: no request touches a count that other workers touch.

use std::{net::SocketAddr, rc::Rc, sync::Arc};

use anyhow::Context as _;

use super::{
    upstream::{ServerGroup, SharedUpstream},
    validators::Validators,
    worker::measures::Measures,
};
use crate::{
    clock::Now,
    config::{self, Config},
    message::Bundle,
    settings::{self, listener::Listener},
    snapshot::Snapshot,
};

/// What of the process limits a configuration.
#[derive(Clone, Copy, Debug)]
pub(super) struct ProcessLimits {
    /// Open files.
    pub(super) descriptors: usize,
    pub(super) workers: usize,
}

/// A compiled configuration, as all workers share it.
pub(super) struct Compiled {
    pub(super) snapshot: Snapshot,
    /// Whether there is an admin listener, so that requests are measured.
    is_observed: bool,
    /// Which requests are traced; `None`: none is.
    traces: Option<settings::traces::Settings>,
    /// What is known of the servers of each upstream, in the order of the configuration.
    pub(super) upstreams: Box<[Arc<SharedUpstream>]>,
    /// The threads that validate large bodies.
    pub(super) validators: Arc<Validators>,
    /// The most connections: as configured, or fewer if there are not enough descriptors for upstream connections as
    /// well (D03).
    pub(super) max_connections: usize,
}

impl Compiled {
    /// Compiles what the guard sent. What has not changed since `before` is shared with it. Nothing of what is served
    /// changes until [`Self::put_in_force`].
    pub(super) fn new(bundle: &Bundle, before: Option<&Self>, limits: ProcessLimits) -> anyhow::Result<Self> {
        let config = Config::load(&bundle.path, bundle).map_err(|diagnostics| anyhow::anyhow!("{diagnostics}"))?;
        let (is_observed, traces) = (config.admin.is_some(), config.traces);
        let snapshot = match before {
            Some(before) => before.snapshot.succeeded_by(config.proxy),
            None => Snapshot::new(config.proxy),
        };
        let mut snapshot = snapshot
            .map_err(|faults| anyhow::anyhow!("{}", config::Diagnostics::from_diagnostics(&config.document, faults)))?;
        snapshot.access_log.adopt(&bundle.log_key);
        let known = before.map_or(&[][..], |before| &before.upstreams);
        let upstreams = snapshot.settings.upstreams.iter();
        let upstreams: Box<[_]> =
            upstreams.map(|upstream| SharedUpstream::new(upstream, find(known, &upstream.name))).collect();
        let validates = snapshot.served.iter().any(|route| route.schema.is_some());
        let validators = match before.map(|before| &before.validators) {
            Some(known) if known.are_started() || !validates => Arc::clone(known),
            _ if validates => {
                // One thread for two workers, as they share the machine's cores.
                let started = Validators::start(limits.workers / 2);
                Arc::new(started.context("cannot start the threads that validate bodies")?)
            }
            _ => Arc::new(Validators::none()),
        };
        let max_connections = snapshot.settings.connections_within(limits.descriptors);
        Ok(Self { snapshot, is_observed, traces, upstreams, validators, max_connections })
    }

    /// Goes on with what is known of clients and servers. To be called once, at the moment from which this one serves.
    pub(super) fn put_in_force(&self, before: Option<&Self>) {
        self.renew_upstream_tls();
        let Some(before) = before else { return };
        self.snapshot.put_in_force(&before.snapshot, Now::read());
        for upstream in &self.upstreams {
            if let Some(before) = find(&before.upstreams, upstream.name()) {
                upstream.put_in_force(before);
            }
        }
    }

    /// New connections to servers speak TLS by the files of this moment.
    pub(super) fn renew_upstream_tls(&self) {
        let tls = self.snapshot.tls.load();
        for (index, upstream) in self.upstreams.iter().enumerate() {
            upstream.speaks(tls.upstream(index));
        }
    }
}

fn find<'a>(upstreams: &'a [Arc<SharedUpstream>], name: &str) -> Option<&'a Arc<SharedUpstream>> {
    upstreams.iter().find(|upstream| upstream.name() == name)
}

/// A compiled configuration, as one worker has it.
pub(super) struct Generation {
    compiled: Arc<Compiled>,
    pub(super) upstreams: Box<[Rc<ServerGroup>]>,
    /// `None`: there is no admin listener.
    measures: Option<Measures>,
}

impl Generation {
    /// `before` is the one in force until now, `seed` a random number.
    pub(super) fn new(compiled: &Arc<Compiled>, before: Option<&Self>, seed: u64) -> Rc<Self> {
        let group = |shared: &Arc<SharedUpstream>| {
            let before = before.and_then(|before| before.group(shared.name()));
            ServerGroup::new(shared, seed, before)
        };
        let upstreams = compiled.upstreams.iter().map(group).collect();
        let measures = compiled.is_observed.then(|| Measures::new(&compiled.snapshot));
        Rc::new(Self { compiled: Arc::clone(compiled), upstreams, measures })
    }

    pub(super) fn snapshot(&self) -> &Snapshot {
        &self.compiled.snapshot
    }

    /// Which requests are traced; `None`: none is.
    pub(super) fn traces(&self) -> Option<&settings::traces::Settings> {
        self.compiled.traces.as_ref()
    }

    /// Where its requests are measured, if they are.
    pub(super) const fn measures(&self) -> Option<&Measures> {
        self.measures.as_ref()
    }

    pub(super) fn validators(&self) -> &Validators {
        &self.compiled.validators
    }

    pub(super) fn max_connections(&self) -> usize {
        self.compiled.max_connections
    }

    /// The group of an upstream.
    pub(super) fn group(&self, upstream: &str) -> Option<&Rc<ServerGroup>> {
        self.upstreams.iter().find(|group| group.name() == upstream)
    }

    /// The listener of an address.
    pub(super) fn listener(self: &Rc<Self>, address: SocketAddr) -> Option<ListenerRef> {
        let index = self.snapshot().settings.listeners.iter().position(|listener| listener.address == address)?;
        Some(ListenerRef { generation: Rc::clone(self), index })
    }
}

/// A listener of a configuration, which is kept as long as this is.
#[derive(Clone)]
pub(super) struct ListenerRef {
    pub(super) generation: Rc<Generation>,
    /// Its position in the configuration.
    pub(super) index: usize,
}

impl ListenerRef {
    pub(super) fn snapshot(&self) -> &Snapshot {
        self.generation.snapshot()
    }

    pub(super) fn settings(&self) -> Option<&Listener> {
        self.snapshot().settings.listeners.get(self.index)
    }

    /// The same listener in the configuration `current`, if its connections go on there. They do not where what begins
    /// a connection has changed, or the listener is gone.
    pub(super) fn at(&self, current: &Rc<Generation>) -> Option<Self> {
        if Rc::ptr_eq(&self.generation, current) {
            return Some(self.clone());
        }
        let begins = |listener: &Listener| (listener.tls.is_some(), listener.proxy_protocol);
        let next = current.listener(self.settings()?.address)?;
        (next.settings().map(begins) == self.settings().map(begins)).then_some(next)
    }
}
