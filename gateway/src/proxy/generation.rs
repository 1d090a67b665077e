//! A configuration as the proxy serves it: compiled once, with upstream pools for each worker. A request keeps the one that
//! it began with, a reload puts another in the place of the one in force.
//!
//! *Invariant:* a worker counts its references by `Rc`: no request touches a count that other workers touch.

use std::{collections::HashMap, net::SocketAddr, path::PathBuf, rc::Rc, sync::Arc};

use anyhow::Context as _;
use gateway_common::source::Source;

use super::{
    bans::enforced::EnforcedBans,
    passwords::Passwords,
    upstream::{ServerGroup, SharedUpstream},
    validators::Validators,
    worker::measures::Measures,
};
use crate::{
    config::{self, Config},
    message::{Bundle, CrawlerRanges, InForce, bundle::file_digest},
    os::clock::{self, Now},
    policy::auth::PasswordCheck,
    refusal::{Refusal, Reject},
    settings::{self, limit::KeySeed, listener::Listener},
    snapshot::{CompiledRoute, Snapshot},
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
    /// By this number the guard knows it.
    pub(super) number: u64,
    /// The files that it was compiled from, and their digests.
    pub(super) files: HashMap<PathBuf, [u8; 32]>,
    pub(super) snapshot: Snapshot,
    /// Whether there is an admin listener, so that requests are measured.
    is_observed: bool,
    /// Which requests are traced; `None`: none is.
    traces: Option<settings::traces::Settings>,
    /// What is known of the servers of each upstream, in the order of the configuration.
    pub(super) upstreams: Box<[Arc<SharedUpstream>]>,
    /// The threads that validate large bodies.
    pub(super) validators: Arc<Validators>,
    /// The threads that compare passwords; `None`: there are none to compare.
    passwords: Option<Arc<Passwords>>,
    /// The most connections: as configured, or fewer if there are not enough descriptors for upstream connections as
    /// well (D03).
    pub(super) max_connections: usize,
}

impl Compiled {
    /// Compiles what the guard sent. What has not changed since `before` is shared with it. Nothing of what is served
    /// changes until [`Self::put_in_force`].
    pub(super) fn new(bundle: &Bundle, before: Option<&Self>, limits: ProcessLimits) -> anyhow::Result<Self> {
        let mut config = Config::load(&bundle.path, bundle).map_err(|diagnostics| anyhow::anyhow!("{diagnostics}"))?;
        let settings = &mut config.proxy;
        let (connections, bandwidth) = (&mut settings.connection_limits, &mut settings.bandwidth);
        let connections = [&mut connections.accepted, &mut connections.handshake];
        let all = connections.into_iter().chain([&mut bandwidth.upload, &mut bandwidth.download, &mut settings.limits]);
        all.for_each(|limits| limits.seed = bundle.seed.map(KeySeed));
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
        let validates = snapshot.served.iter().any(CompiledRoute::judges_bodies);
        let validators = match before.map(|before| &before.validators) {
            Some(known) if known.are_started() || !validates => Arc::clone(known),
            _ if validates => {
                // One thread for two workers, as they share the machine's cores.
                let started = Validators::start(limits.workers / 2);
                Arc::new(started.context("cannot start the threads that validate requests")?)
            }
            _ => Arc::new(Validators::none()),
        };
        let passwords = match before.and_then(|before| before.passwords.as_ref()) {
            _ if snapshot.settings.auth.basic.is_none() => None,
            Some(known) => Some(Arc::clone(known)),
            None => {
                let started = Passwords::start(limits.workers / 2);
                Some(Arc::new(started.context("cannot start the threads that compare passwords")?))
            }
        };
        let max_connections = snapshot.settings.connections_within(limits.descriptors);
        Ok(Self {
            number: bundle.number,
            files: bundle.files.iter().map(|(path, content)| (path.clone(), file_digest(content))).collect(),
            snapshot,
            is_observed,
            traces,
            upstreams,
            validators,
            passwords,
            max_connections,
        })
    }

    /// Goes on with what is known of clients and servers. To be called once, at the moment from which this one serves.
    pub(super) fn put_in_force(&self, before: Option<&Self>) {
        self.renew_upstream_tls();
        if let Some(limits) = &self.snapshot.limits {
            limits.tick(Now::read());
        }
        let Some(before) = before else { return };
        self.snapshot.put_in_force(&before.snapshot, Now::read());
        for upstream in &self.upstreams {
            if let Some(before) = find(&before.upstreams, upstream.name()) {
                upstream.put_in_force(before);
            }
        }
    }

    /// Takes what operators and rules have in force in the place of what was known before.
    pub(super) fn take_in_force(&self, in_force: &InForce, bans: &EnforcedBans) {
        let now = clock::monotonic();
        bans.replace(&in_force.bans, &in_force.allows, now);
        bans.slowed.replace(&in_force.slowed, now);
        for probation in &in_force.probations {
            self.snapshot.detector.watch(probation.source, probation.until, now);
        }
        in_force.promoted.iter().for_each(|what| self.snapshot.enforce(what));
        in_force.ranges.iter().for_each(|ranges| self.take_ranges(ranges));
    }

    /// Another list of the ranges of a crawler has come.
    pub(super) fn take_ranges(&self, ranges: &CrawlerRanges) {
        self.snapshot.crawlers.take_ranges(&ranges.list, ranges.sources().as_deref());
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

    /// Whether a password is the one of its hash, for a request of `source`.
    ///
    /// # Errors
    /// As [`Passwords::compare`].
    pub(super) async fn compare(&self, check: Box<PasswordCheck>, source: Source) -> Result<bool, Refusal> {
        match (&self.compiled.passwords, &self.snapshot().settings.auth.basic) {
            (Some(passwords), Some(settings)) => passwords.compare(check, source, settings).await,
            _ => Err(Refusal::new(Reject::Unavailable, "no thread compares passwords")),
        }
    }

    pub(super) fn max_connections(&self) -> usize {
        self.compiled.max_connections
    }

    /// The group of an upstream.
    pub(super) fn group(&self, upstream: &str) -> Option<&Rc<ServerGroup>> {
        self.upstreams.iter().find(|group| group.name() == upstream)
    }

    /// By this number the guard knows the configuration.
    pub(super) fn number(&self) -> u64 {
        self.compiled.number
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
