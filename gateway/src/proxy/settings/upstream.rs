//! Decides what an upstream's part of the configuration holds once it is valid.

use std::time::Duration;

use http::HeaderName;

use crate::proxy::tls;

/// One group of interchangeable servers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    /// The NAME of `[upstream.NAME]`.
    pub name: String,
    /// At least one, at most [`MAX_SERVERS`]. `upstream.NAME.servers`.
    pub servers: Vec<Server>,
    /// Which of them a request goes to. `upstream.NAME.balance`.
    pub balance: Balance,
    /// Connections begin with this version of the PROXY protocol, and carry one request each.
    /// `upstream.NAME.proxy_protocol`.
    pub proxy_protocol: Option<ProxyProtocol>,
    /// The most idle connections kept per server and worker. `upstream.NAME.max_idle`.
    pub max_idle: usize,
    /// How long a connection is kept without a request. `upstream.NAME.idle`.
    pub idle: Duration,
    /// `None`: its servers are reached without TLS. `upstream.NAME.tls`.
    pub tls: Option<tls::settings::Client>,
}

/// The most servers of one upstream: the ones that may be used are one word of bits.
pub const MAX_SERVERS: usize = 64;

/// The largest weight of a server.
pub const MAX_WEIGHT: u32 = 100;

/// One server of an upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// `host:port`.
    pub address: String,
    /// Its share, 1 to [`MAX_WEIGHT`].
    pub weight: u32,
}

/// A version of the PROXY protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyProtocol {
    /// A line of text.
    V1,
    /// Binary.
    V2,
}

/// How a server is chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Balance {
    /// What is alike goes to the same server, as long as that has not much more to do than others.
    Hash(HashBy),
    /// Two are drawn, the one with fewer requests in flight is taken.
    LeastRequests,
    /// In turn, by weight.
    RoundRobin,
}

/// What makes requests alike. `upstream.NAME.hash_by`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HashBy {
    /// The value of a header; without it, the source.
    Header(HeaderName),
    /// The canonical path.
    Path,
    /// The client.
    Source,
}
