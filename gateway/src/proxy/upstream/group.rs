//! Decides which server of an upstream carries a request.

use std::{net::SocketAddr, rc::Rc, time::Duration};

use gateway_common::source::Source;
use http::HeaderMap;

use super::{
    Failure,
    balance::{Balancer, bit, hash},
    pool::Lease,
    server::{Place, Server, Standing},
};
use crate::proxy::{
    client::Client,
    proxy_protocol,
    reject::{Refusal, Reject},
    settings::upstream::{Balance, HashBy, ProxyProtocol, Upstream},
};

/// The servers of one upstream, seen from one worker.
pub(in crate::proxy) struct Group {
    servers: Box<[Rc<Server>]>,
    balancer: Balancer,
    /// The bits of all servers.
    all: u64,
    alike: Option<HashBy>,
    proxy_protocol: Option<ProxyProtocol>,
}

/// What choosing a server and a connection takes to know of a request.
pub(in crate::proxy) struct Wish {
    /// What it is alike by to others that go to the same server.
    key: u64,
    /// What a connection of its own begins with; empty: any connection will do.
    introduction: Vec<u8>,
}

impl Group {
    /// `seed` is a random number.
    pub(in crate::proxy) fn new(settings: &Upstream, standing: &Standing, seed: u64) -> Self {
        let servers = standing.servers(settings);
        let all = (0..servers.len()).map(bit).fold(0, |all, bit| all | bit);
        let balancer = Balancer::new(&settings.balance, &settings.servers, seed);
        let alike = match &settings.balance {
            Balance::Hash(by) => Some(by.clone()),
            Balance::LeastRequests | Balance::RoundRobin => None,
        };
        Self { servers, balancer, all, alike, proxy_protocol: settings.proxy_protocol }
    }

    /// What `client`, who was accepted at `local`, asks for.
    pub(in crate::proxy) fn wish(&self, client: &Client, local: SocketAddr, path: &str, headers: &HeaderMap) -> Wish {
        let introduction = self.proxy_protocol.map(|version| proxy_protocol::write(version, client.address, local));
        Wish { key: self.key(client.source, path, headers), introduction: introduction.unwrap_or_default() }
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

    /// A connection that is ready for a request; a new one if it has to be `fresh`.
    pub(super) async fn lease(
        &self,
        wish: &Wish,
        fresh: bool,
        patience: Duration,
    ) -> Result<(Lease, Option<Place>), Failure> {
        let mut refusal = Refusal::new(Reject::UpstreamFailed, "no server");
        let mut left = self.all;
        let load = |server: usize| self.servers.get(server).map_or(0, |server| server.load());
        while let Some((chosen, server)) =
            self.balancer.choose(left, wish.key, load).and_then(|chosen| Some((chosen, self.servers.get(chosen)?)))
        {
            let place = self.balancer.needs_load().then(|| server.enter());
            match server.pool.lease(fresh, &wish.introduction, patience).await {
                Ok(lease) => return Ok((lease, place)),
                Err(refused) => refusal = refused,
            }
            left &= !bit(chosen);
        }
        Err(refusal.into())
    }
}
