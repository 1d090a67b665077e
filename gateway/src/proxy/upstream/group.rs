//! The servers of one upstream, as one worker sees them: which of them gets a request, and by which connection.

use std::{cell::Cell, net::SocketAddr, rc::Rc, sync::Arc, time::Duration};

use gateway_common::source::Source;
use http::{HeaderMap, HeaderValue};

use super::{
    balance::{Balancer, bit, hash},
    connection::pool::{LeaseOptions, Pool, PooledConnection},
    gate::{self, Passage},
    retry::COST,
    server::{ServerPool, SharedUpstream, health, state::asker},
    slots::{InFlight, PendingSlot, RequestSlot, StateHandle},
};
use crate::{
    client::Client,
    os::clock::Now,
    policy::admission::Class,
    proxy::{connection::proxy_protocol, timing::deadline},
    refusal::{Refusal, Reject},
    settings::upstream::{Balance, HashBy, HostHeader, Protocol, ProxyProtocol, Retry, Upstream},
};

/// The servers of one upstream, seen from one worker.
pub(in crate::proxy) struct ServerGroup {
    shared: Arc<SharedUpstream>,
    servers: Box<[ServerPool]>,
    pub(super) state: Rc<StateHandle>,
    balancer: Balancer,
    hash_by: Option<HashBy>,
    proxy_protocol: Option<ProxyProtocol>,
    /// The `Host` header for each server. Empty: the client's is passed on.
    hosts: Box<[HeaderValue]>,
    /// The retry budget that is left, in hundredths of an attempt.
    budget: Cell<u32>,
    /// Idle connections at the last sweep, and those that carried requests.
    connections: Cell<(u64, u64)>,
}

/// A server for one attempt, and a connection to it.
pub(super) struct Attempt {
    pub(super) lease: PooledConnection,
    pub(super) in_flight: Option<InFlight>,
    /// Which server: an index.
    pub(super) server: usize,
}

/// What load balancing has to know of a request.
pub(in crate::proxy) struct LbContext {
    /// The hash of what requests to the same server have in common.
    key: u64,
    /// A PROXY protocol header: the connection begins with it and carries this request only. Empty: any connection
    /// will do.
    introduction: Vec<u8>,
    /// Whether its connection may become a tunnel.
    tunnel: bool,
    /// Which client failures are counted for.
    asker: u64,
}

impl LbContext {
    /// The same, on a connection that may become a tunnel.
    pub(in crate::proxy) fn for_tunnel(self, tunnel: bool) -> Self {
        Self { tunnel, ..self }
    }
}

impl ServerGroup {
    /// `seed` is a random number. `before`: the group of the same name in the configuration before. Connections to
    /// servers that keep their address are kept.
    pub(in crate::proxy) fn new(shared: &Arc<SharedUpstream>, seed: u64, before: Option<&Rc<Self>>) -> Rc<Self> {
        if let Some(before) = before.filter(|before| Arc::ptr_eq(&before.shared, shared)) {
            return Rc::clone(before);
        }
        let state = Rc::new(StateHandle(Arc::clone(&shared.state)));
        let settings = &state.settings;
        let before = before.filter(|before| before.state.settings.connects_like(settings));
        let servers = shared.servers(|address| before?.pool(address).map(Rc::clone));
        let balancer = Balancer::new(&settings.balance, &settings.servers, seed);
        let hash_by = match &settings.balance {
            Balance::Hash(by) => Some(by.clone()),
            Balance::LeastRequests | Balance::RoundRobin => None,
        };
        let (proxy_protocol, budget) = (settings.proxy_protocol, Cell::new(settings.retry.reserve * COST));
        let hosts = hosts(settings);
        let (shared, connections) = (Arc::clone(shared), Cell::new((0, 0)));
        Rc::new(Self { shared, servers, state, balancer, hash_by, proxy_protocol, hosts, budget, connections })
    }

    /// The name of the upstream.
    pub(in crate::proxy) fn name(&self) -> &str {
        &self.state.settings.name
    }

    fn pool(&self, address: &str) -> Option<&Rc<Pool>> {
        let mut servers = self.state.settings.servers.iter().zip(&self.servers);
        servers.find(|(server, _)| server.address == address).map(|(_, server)| &server.pool)
    }

    /// Another group has taken its place, or none has: pools that are not in `next` keep no idle connections.
    pub(in crate::proxy) fn retire(&self, next: Option<&Self>) {
        for server in &self.servers {
            let is_kept = next.is_some_and(|next| next.servers.iter().any(|it| Rc::ptr_eq(&it.pool, &server.pool)));
            if !is_kept {
                server.pool.retire();
            }
        }
    }

    /// The `Host` header for this server. `None`: the client's is passed on.
    pub(super) fn host(&self, server: usize) -> Option<&HeaderValue> {
        self.hosts.get(server)
    }

    /// The context of a request by `client`, who was accepted at `local`.
    pub(in crate::proxy) fn context(
        &self,
        client: &Client,
        local: SocketAddr,
        path: &str,
        headers: &HeaderMap,
    ) -> LbContext {
        let introduction = self.proxy_protocol.map(|version| proxy_protocol::write(version, client.address, local));
        let (key, introduction) = (self.key(client.source, path, headers), introduction.unwrap_or_default());
        let asker = self.state.settings.ejection.as_ref().map_or(0, |_| asker(client.source));
        LbContext { key, introduction, tunnel: false, asker }
    }

    /// Whether its servers may speak HTTP/2, so that trailers can be passed on.
    pub(in crate::proxy) fn takes_trailers(&self) -> bool {
        self.state.settings.protocol != Protocol::Http1
    }

    fn key(&self, source: Source, path: &str, headers: &HeaderMap) -> u64 {
        match &self.hash_by {
            None => 0,
            Some(HashBy::Path) => hash(path.as_bytes()),
            Some(HashBy::Header(name)) if let Some(value) = headers.get(name) => hash(value.as_bytes()),
            Some(HashBy::Header(_) | HashBy::Source) => match source.address() {
                std::net::IpAddr::V4(address) => hash(&address.octets()),
                std::net::IpAddr::V6(address) => hash(&address.octets()),
            },
        }
    }

    /// Closes connections that have been idle for too long at `now`, or that the server has closed.
    pub(in crate::proxy) fn sweep(&self, now: u64) {
        self.servers.iter().for_each(|server| server.pool.sweep(now));
        let count = |many: fn(&Pool) -> usize| {
            let sum = self.servers.iter().map(|server| many(&server.pool)).sum::<usize>();
            u64::try_from(sum).unwrap_or(u64::MAX)
        };
        let now = (count(Pool::idle), count(Pool::busy));
        self.state.note_connections(self.connections.replace(now), now);
    }

    /// Admits a request. `Ok(None)`: there is no limit.
    ///
    /// # Errors
    /// `max_requests` are in flight.
    pub(super) fn admit(&self) -> Result<Option<RequestSlot>, Refusal> {
        let Retry { budget, reserve, .. } = self.state.settings.retry;
        // Each request adds to the budget, up to the reserve.
        self.budget.set((self.budget.get() + budget).min(reserve.max(1) * COST));
        if self.state.settings.max_requests == u32::MAX {
            return Ok(None);
        }
        RequestSlot::take(&self.state).map(Some).ok_or_else(|| busy("over upstream.max_requests"))
    }

    /// Lets a request of this class and client pass, at once or when its turn comes. `Ok(None)`: their number is not limited.
    /// `left`: how long its client waits; `None`: it did not say.
    ///
    /// # Errors
    /// There is no room, and its turn did not come in time.
    pub(super) async fn pass(
        &self,
        class: Class,
        client: u64,
        left: Option<Duration>,
    ) -> Result<Option<Passage>, Refusal> {
        let (Some(gate), Some(settings)) = (&self.state.gate, &self.state.settings.concurrency) else {
            return Ok(None);
        };
        let wait = left.map_or(settings.wait, |left| left.min(settings.wait));
        match gate::pass(gate, class, client, wait).await {
            Some(passage) => Ok(Some(passage)),
            None => {
                self.state.over_concurrency();
                Err(busy("over upstream.concurrency"))
            }
        }
    }

    /// Whether only so many requests may wait for a response at once.
    pub(in crate::proxy) fn limits_requests_at_once(&self) -> bool {
        self.state.gate.is_some()
    }

    /// What may be spent on retries now, in hundredths of an attempt.
    pub(super) fn budget(&self) -> u32 {
        self.budget.get()
    }

    /// Pays for one retry.
    pub(super) fn pay_retry(&self) {
        self.budget.set(self.budget.get().saturating_sub(COST));
        self.state.retried();
    }

    /// Chooses a server that is not in `tried`, and gets a connection to it: a new one if it has to be `fresh`. Servers
    /// that cannot be reached are added to `tried`.
    pub(super) async fn lease(
        &self,
        context: &LbContext,
        fresh: bool,
        tried: &mut u64,
        timeout: Duration,
    ) -> Result<Attempt, Refusal> {
        let usable = self.state.usable();
        if usable == 0 {
            return Err(busy("no server is up"));
        }
        let mut refusal = Refusal::new(Reject::UpstreamFailed, "no server");
        while let Some(index) = self.choose(usable & !*tried, context.key) {
            let Some(server) = self.servers.get(index) else { break };
            let in_flight = self.balancer.needs_load().then(|| InFlight::new(&self.state, index));
            let pending = if self.state.settings.max_pending == u32::MAX {
                None
            } else {
                Some(PendingSlot::take(&self.state).ok_or_else(|| busy("over upstream.max_pending"))?)
            };
            let need = LeaseOptions { fresh, introduction: &context.introduction, tunnel: context.tunnel };
            let leased = server.pool.lease(&need, timeout).await;
            drop(pending);
            match leased {
                Ok(lease) => {
                    if !lease.is_kept() {
                        self.state.connected(index);
                    }
                    return Ok(Attempt { lease, in_flight, server: index });
                }
                Err(refused) => refusal = refused,
            }
            // A server without a free stream has not failed, nor has one that the gateway lacks the means to reach.
            if refusal.reject != Reject::Unavailable {
                self.state.cannot_connect(index, &refusal.detail, Now::read().unix_millis);
                self.state.unreachable(index, deadline::now());
            }
            *tried |= bit(index);
        }
        Err(refusal)
    }

    /// `server` closed the connection, or took too long.
    pub(super) fn failed(&self, server: usize) {
        if self.state.failed(server, deadline::now()) {
            self.probe(server);
        }
    }

    /// `server` responded with a status that counts as a failure.
    pub(super) fn answered(&self, server: usize, context: &LbContext) {
        if self.state.answered(server, context.asker, deadline::now()) {
            self.probe(server);
        }
    }

    /// Probes a server that is suspected to be broken.
    fn probe(&self, server: usize) {
        let Some(pool) = self.servers.get(server).map(|server| Rc::clone(&server.pool)) else { return };
        let state = Rc::clone(&self.state);
        tokio::task::spawn_local(async move {
            let answers = health::answers(pool.dialer(), &state.settings).await;
            state.probed(server, answers, deadline::now());
        });
    }

    fn choose(&self, usable: u64, key: u64) -> Option<usize> {
        let load = |server: usize| self.state.load(server);
        let chosen = self.balancer.choose(usable, key, load)?;
        if self.state.takes(chosen, self.balancer.random(), deadline::now()) {
            return Some(chosen);
        }
        self.balancer.choose(usable & !bit(chosen), key, load).or(Some(chosen))
    }
}

/// The request is fine, and may be repeated later.
fn busy(detail: &'static str) -> Refusal {
    Refusal { retry_after: Some(1), ..Refusal::new(Reject::Unavailable, detail) }
}

fn hosts(settings: &Upstream) -> Box<[HeaderValue]> {
    let usual = if settings.tls.is_some() { ":443" } else { ":80" };
    let host = |address: &str| match &settings.host_header {
        HostHeader::Client => None,
        HostHeader::Literal(host) => Some(host.clone()),
        HostHeader::Server => HeaderValue::from_str(address.strip_suffix(usual).unwrap_or(address)).ok(),
    };
    settings.servers.iter().filter_map(|server| host(&server.address)).collect()
}
