//! Decides which server of an upstream carries a request.

use std::{cell::Cell, net::SocketAddr, rc::Rc, sync::Arc, time::Duration};

use gateway_common::source::Source;
use http::{HeaderMap, HeaderValue};

use super::{
    ForwardError,
    balance::{Balancer, bit, hash},
    health,
    pool::{Lease, LeaseOptions},
    server::{InFlight, PendingSlot, RequestSlot, Server, SharedUpstream, StateHandle},
    state::asker,
};
use crate::{
    client::Client,
    proxy::{connection::proxy_protocol, timing::deadline},
    refusal::{Refusal, Reject},
    settings::upstream::{Balance, HashBy, HostHeader, Protocol, ProxyProtocol, Retry, Upstream},
};

/// The servers of one upstream, seen from one worker.
pub(in crate::proxy) struct ServerGroup {
    servers: Box<[Server]>,
    pub(super) state: Rc<StateHandle>,
    balancer: Balancer,
    alike: Option<HashBy>,
    proxy_protocol: Option<ProxyProtocol>,
    /// What each server is told as `Host`; empty: what the client said.
    hosts: Box<[HeaderValue]>,
    /// What may be spent on trying again, in hundredths of a try.
    credit: Cell<u32>,
}

/// A connection for one try.
pub(super) struct Attempt {
    pub(super) lease: Lease,
    pub(super) in_flight: Option<InFlight>,
    /// Which server: an index.
    pub(super) server: usize,
}

/// What choosing a server and a connection takes to know of a request.
pub(in crate::proxy) struct LbContext {
    /// What it is alike by to others that go to the same server.
    key: u64,
    /// What a connection of its own begins with; empty: any connection will do.
    introduction: Vec<u8>,
    /// Whether its connection may become a tunnel.
    tunnel: bool,
    /// What failures are put down to.
    asker: u64,
}

impl LbContext {
    /// As this, on a connection that may become a tunnel.
    pub(in crate::proxy) fn for_tunnel(self, tunnel: bool) -> Self {
        Self { tunnel, ..self }
    }
}

impl ServerGroup {
    /// `seed` is a random number.
    pub(in crate::proxy) fn new(upstream: &SharedUpstream, seed: u64) -> Self {
        let state = Rc::new(StateHandle(Arc::clone(&upstream.state)));
        let (servers, settings) = (upstream.servers(), &state.settings);
        let balancer = Balancer::new(&settings.balance, &settings.servers, seed);
        let alike = match &settings.balance {
            Balance::Hash(by) => Some(by.clone()),
            Balance::LeastRequests | Balance::RoundRobin => None,
        };
        let (proxy_protocol, credit) = (settings.proxy_protocol, Cell::new(settings.retry.reserve * 100));
        let hosts = hosts(settings);
        Self { servers, state, balancer, alike, proxy_protocol, hosts, credit }
    }

    /// What this server is told as `Host`; `None`: what the client said.
    pub(super) fn host(&self, server: usize) -> Option<&HeaderValue> {
        self.hosts.get(server)
    }

    /// What `client`, who was accepted at `local`, asks for.
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

    /// Whether its servers may be sent trailers, and asked for them.
    pub(in crate::proxy) fn takes_trailers(&self) -> bool {
        self.state.settings.protocol != Protocol::Http1
    }

    fn key(&self, source: Source, path: &str, headers: &HeaderMap) -> u64 {
        match &self.alike {
            None => 0,
            Some(HashBy::Path) => hash(path.as_bytes()),
            Some(HashBy::Header(name)) if let Some(value) = headers.get(name) => hash(value.as_bytes()),
            Some(HashBy::Header(_) | HashBy::Source) => match source.address() {
                std::net::IpAddr::V4(address) => hash(&address.octets()),
                std::net::IpAddr::V6(address) => hash(&address.octets()),
            },
        }
    }

    /// Closes connections that were kept for long enough by `now`, or that the upstream has closed.
    pub(in crate::proxy) fn sweep(&self, now: u64) {
        self.servers.iter().for_each(|server| server.pool.sweep(now));
    }

    /// Lets a request in. `Ok(None)`: nobody counts them.
    ///
    /// # Errors
    /// As many are in flight as may be.
    pub(super) fn admit(&self) -> Result<Option<RequestSlot>, Refusal> {
        let Retry { budget, reserve, .. } = self.state.settings.retry;
        // What is saved up is worth the reserve at most.
        self.credit.set((self.credit.get() + budget).min(reserve.max(1) * 100));
        if self.state.settings.max_requests == u32::MAX {
            return Ok(None);
        }
        RequestSlot::take(&self.state).map(Some).ok_or_else(|| busy("over upstream.max_requests"))
    }

    /// Whether a request that failed at all of `tried` may be tried once more, which is then paid for.
    pub(super) fn may_retry(&self, tries: u32, tried: u64) -> bool {
        let credit = self.credit.get();
        let retry = &self.state.settings.retry;
        if tries >= retry.tries || credit < 100 || self.state.usable() & !tried == 0 {
            return false;
        }
        self.credit.set(credit - 100);
        self.state.retried();
        true
    }

    /// A connection that is ready for a request, to none of the servers `tried`; a new one if it has to be `fresh`.
    /// Servers that cannot be reached are added to those.
    pub(super) async fn lease(
        &self,
        context: &LbContext,
        fresh: bool,
        tried: &mut u64,
        timeout: Duration,
    ) -> Result<Attempt, ForwardError> {
        let usable = self.state.usable();
        if usable == 0 {
            return Err(busy("no server is up").into());
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
                Ok(lease) => return Ok(Attempt { lease, in_flight, server: index }),
                Err(refused) => refusal = refused,
            }
            // One that is busy has not failed, nor has one that we cannot reach for want of something of our own.
            if refusal.reject != Reject::Unavailable {
                self.state.unreachable(index, deadline::now());
            }
            *tried |= bit(index);
        }
        Err(refusal.into())
    }

    /// `server` broke off, or took too long.
    pub(super) fn failed(&self, server: usize) {
        if self.state.failed(server, deadline::now()) {
            self.ask(server);
        }
    }

    /// `server` answered that it is broken.
    pub(super) fn answered(&self, server: usize, context: &LbContext) {
        if self.state.answered(server, context.asker, deadline::now()) {
            self.ask(server);
        }
    }

    /// Asks a server itself whether it is broken.
    fn ask(&self, server: usize) {
        let Some(pool) = self.servers.get(server).map(|server| Rc::clone(&server.pool)) else { return };
        let state = Rc::clone(&self.state);
        tokio::task::spawn_local(async move {
            let answers = health::answers(pool.dialer(), &state.settings).await;
            state.asked(server, answers, deadline::now());
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

/// Nothing is wrong with the request: it may come again.
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
