//! The settings of an upstream, valid.

use std::{sync::Arc, time::Duration};

use http::{HeaderName, HeaderValue};

use super::tls;

/// One group of interchangeable servers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Upstream {
    /// The NAME of `[upstream.NAME]`.
    pub name: String,
    /// At least one, at most [`MAX_SERVERS`]. `upstream.NAME.servers`.
    pub servers: Vec<UpstreamServer>,
    /// What they are told as `Host`. `upstream.NAME.host_header`.
    pub host_header: HostHeader,
    /// Which of them a request goes to. `upstream.NAME.balance`.
    pub balance: Balance,
    /// How servers are asked whether they are healthy; `None`: they are not. `[upstream.NAME.health]`.
    pub health: Option<HealthCheck>,
    /// When servers that fail requests are left out; `None`: never. `[upstream.NAME.ejection]`.
    pub ejection: Option<Ejection>,
    /// How long a server that comes back gets less than its share. `upstream.NAME.slow_start`.
    pub slow_start: Duration,
    /// Without any server that may be used, all are used; else requests are refused. `upstream.NAME.when_down`.
    pub try_when_down: bool,
    /// How often names of servers are resolved again. `upstream.NAME.resolve`.
    pub resolve: Duration,
    /// When requests are tried again. `[upstream.NAME.retry]`.
    pub retry: Retry,
    /// The most requests in flight, over all workers; [`u32::MAX`]: any number. `upstream.NAME.max_requests`.
    pub max_requests: u32,
    /// The most requests that wait for a connection, over all workers; [`u32::MAX`]: any number.
    /// `upstream.NAME.max_pending`.
    pub max_pending: u32,
    /// How many requests at once wait for a response, and how others wait for that; `None`: any number.
    /// `[upstream.NAME.concurrency]`.
    pub concurrency: Option<Concurrency>,
    /// Connections begin with this version of the PROXY protocol, and carry one request each.
    /// `upstream.NAME.proxy_protocol`.
    pub proxy_protocol: Option<ProxyProtocol>,
    /// The most idle connections kept per server and worker. `upstream.NAME.max_idle`.
    pub max_idle: usize,
    /// How long a connection is kept without a request. `upstream.NAME.idle`.
    pub idle: Duration,
    /// What its servers are spoken to by. `upstream.NAME.protocol`.
    pub protocol: Protocol,
    /// How HTTP/2 is spoken, where it is. `[upstream.NAME.http2]`.
    pub http2: Http2,
    /// Which clients get its interim responses. `upstream.NAME.interim_responses`.
    pub interim_responses: InterimResponses,
    /// `None`: its servers are reached without TLS. `upstream.NAME.tls`.
    pub tls: Option<tls::UpstreamTls>,
}

impl Upstream {
    /// Whether nothing differs but what is in files: that is taken over without anything else.
    #[must_use]
    pub fn is_like(&self, other: &Self) -> bool {
        self.without_files() == other.without_files()
    }

    /// Whether connections to its servers are made and kept in the same way as there.
    #[must_use]
    pub fn connects_like(&self, other: &Self) -> bool {
        self.connecting() == other.connecting()
    }

    /// What its connections depend on.
    fn connecting(&self) -> Self {
        let Self { resolve, proxy_protocol, max_idle, idle, protocol, http2, .. } = *self;
        let tls = self.without_files().tls;
        Self { resolve, proxy_protocol, max_idle, idle, protocol, http2, tls, ..Self::default() }
    }

    fn without_files(&self) -> Self {
        let mut blank = self.clone();
        if let Some(tls) = &mut blank.tls {
            let pair = tls.certificate.as_mut().map(|(certificate, key)| [certificate, key]);
            for file in pair.into_iter().flatten().chain([&mut tls.ca]) {
                file.bytes = Arc::default();
            }
        }
        blank
    }
}

/// What servers are spoken to by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protocol {
    /// What they choose in the TLS handshake (ALPN): HTTP/2 if they can.
    Auto,
    /// HTTP/1.1.
    #[default]
    Http1,
    /// HTTP/2: demanded in the TLS handshake, or known to be theirs without TLS (RFC 9113 3.3).
    Http2,
}

/// Which clients get the interim responses (1xx) of servers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum InterimResponses {
    /// None.
    Drop,
    /// All that know them: those of HTTP/1.1 and HTTP/2 (RFC 9110 15.2).
    #[default]
    Forward,
    /// Those of HTTP/2. Some of HTTP/1.1 take them for the final response (RFC 8297 3).
    Http2,
}

/// How HTTP/2 is spoken to servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Http2 {
    /// The most connections that take requests, per server and worker.
    pub connections: usize,
    /// The most requests in flight on one, if its server does not want fewer.
    pub streams: u32,
    /// How often it is asked whether the other side still answers; `None`: only after an answer did not come in time.
    pub ping: Option<Duration>,
    /// How long that answer may take before the connection is given up.
    pub ping_timeout: Duration,
}

impl Default for Http2 {
    fn default() -> Self {
        Self { connections: 4, streams: 100, ping: None, ping_timeout: Duration::from_secs(5) }
    }
}

/// What servers are told as `Host`. As whom the client asked is in `X-Forwarded-Host` in any case.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum HostHeader {
    /// What the client said, in its canonical form.
    #[default]
    Client,
    /// This.
    Literal(HeaderValue),
    /// The server's own name, and its port where it is not the usual one.
    Server,
}

/// The most servers of one upstream: the ones that may be used are one word of bits.
pub const MAX_SERVERS: usize = 64;

/// The largest weight of a server.
pub const MAX_WEIGHT: u32 = 100;

/// One server of an upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamServer {
    /// `host:port`.
    pub address: String,
    /// Its share, 1 to [`MAX_WEIGHT`].
    pub weight: u32,
}

/// How servers are asked whether they are healthy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthCheck {
    /// What is asked for by GET.
    pub path: String,
    /// Of whom; `None`: the server's own address.
    pub host: Option<String>,
    /// The statuses of the healthy; empty: 200 to 299.
    pub expect: Vec<u16>,
    /// How often.
    pub interval: Duration,
    /// How long an answer may take.
    pub timeout: Duration,
    /// So many good answers in a row bring a server back.
    pub healthy: u32,
    /// So many bad ones, or none, take it out.
    pub unhealthy: u32,
}

impl HealthCheck {
    /// Whether this status is a healthy server's.
    #[must_use]
    pub fn expects(&self, status: u16) -> bool {
        if self.expect.is_empty() { (200..300).contains(&status) } else { self.expect.contains(&status) }
    }
}

/// When servers that fail requests are left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ejection {
    /// After so many failures in a row.
    pub failures: u32,
    /// Of requests of so many clients. Failures that fewer had are not believed before the server was asked.
    pub clients: u32,
    /// Answers that are failures.
    pub statuses: Vec<u16>,
    /// For so long the first time, twice as long the second, ...
    pub time: Duration,
    /// But no longer than this; so long without any is a fresh start.
    pub longest: Duration,
    /// At most so many of a hundred servers at once.
    pub share: u8,
}

/// How many requests at once an upstream is to respond to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Concurrency {
    /// The limit is found between both; if they are the same, it is fixed.
    pub min: u32,
    /// As above.
    pub max: u32,
    /// The most requests that wait for their turn; `None`: as many as the limit is.
    pub queue: Option<usize>,
    /// How long one waits.
    pub wait: Duration,
}

/// When requests are tried again, on another server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retry {
    /// Tries of one request, the first included; 1: none is tried again.
    pub tries: u32,
    /// So many of a hundred requests may be tried again.
    pub budget: u32,
    /// So many more, at once.
    pub reserve: u32,
    /// How long one try may wait for the head of its answer; `None`: as `timeouts.response` says.
    pub timeout: Option<Duration>,
    /// Answers of these statuses are not taken while another server may be tried.
    pub statuses: Vec<u16>,
}

impl Default for Retry {
    fn default() -> Self {
        Self { tries: 2, budget: 20, reserve: 10, timeout: None, statuses: Vec::new() }
    }
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
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Balance {
    /// What is alike goes to the same server, as long as that has not much more to do than others.
    Hash(HashBy),
    /// Two are drawn, the one with fewer requests in flight is taken.
    LeastRequests,
    /// In turn, by weight.
    #[default]
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
