//! Decides what the proxy's part of the configuration holds once it is valid.

use std::{fmt, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use gateway_common::source::Source;

use super::tls;
use crate::{auth, authz, detect, limit, validate::schema::Formats};

pub mod cors;
pub mod route;
pub mod upstream;

pub use cors::Cors;
pub use route::{Route, Upgrade};
pub use upstream::Upstream;

/// A file that the configuration names, and what was in it when the configuration was read.
#[derive(Clone, PartialEq, Eq)]
pub struct NamedFile {
    /// As the configuration names it, relative paths resolved against the configuration's folder.
    pub path: PathBuf,
    /// Its content. May be a secret: never printed.
    pub bytes: Arc<[u8]>,
}

impl fmt::Debug for NamedFile {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{:?} ({} bytes)", self.path, self.bytes.len())
    }
}

/// Everything the proxy is told.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The user that the proxy runs as: a name or a number. `proxy.user`.
    pub user: String,
    /// Threads, each with its own sockets, connections and pools. `proxy.workers`; 0 in the file means one per core.
    pub workers: usize,
    /// Whether each worker stays on a core of its own. `proxy.pin_workers`.
    pub pin_workers: bool,
    /// Where the access log goes; `None`: standard output. `proxy.access_log`.
    pub access_log: Option<PathBuf>,
    /// How long requests in flight may take once the proxy stops. `proxy.drain`.
    pub drain: Duration,
    /// The most connections at once, over all workers. `proxy.max_connections`.
    pub max_connections: usize,
    /// The most connections of one source at once, over all workers. `proxy.max_connections_per_source`.
    pub max_connections_per_source: usize,
    /// How many bytes the proxy may have in memory before it takes nothing on. `proxy.max_memory`.
    pub max_memory: u64,
    /// The largest request body, in bytes, where the route says nothing else. `proxy.max_body`.
    pub max_body: u64,
    /// How large a request's head may be.
    pub head: HeadLimits,
    /// Whose word about clients is taken. `proxy.trusted_proxies`, `proxy.client_header`.
    pub trust: Trust,
    /// How many bits of an IPv6 address tell clients apart. From `guard.ipv6_prefix`.
    pub ipv6_prefix: u8,
    /// Deadlines. `[timeouts]`.
    pub timeouts: Timeouts,
    /// Where to listen. `[[listener]]`.
    pub listeners: Vec<Listener>,
    /// What every listener that speaks TLS shows to whoever asks for their names. `[[certificate]]`.
    pub certificates: Vec<tls::settings::Certificate>,
    /// Whose certificates clients may show. `[client_certificates.NAME]`.
    pub client_certificates: Vec<tls::settings::ClientCertificates>,
    /// Servers behind the proxy. `[upstream.NAME]`, in the order of their names.
    pub upstreams: Vec<Upstream>,
    /// What pages of other origins may do. `[cors.NAME]`, in the order of their names.
    pub cors: Vec<Cors>,
    /// What is served. `[[route]]`.
    pub routes: Vec<Route>,
    /// Tokens. `[jwt]`; `None`: no route can ask for authentication.
    pub jwt: Option<auth::jwt::Settings>,
    /// Which role may do what. `[roles]`.
    pub roles: authz::Settings,
    /// Requests per address. `[limit.address]`; `None`: not limited.
    pub address_limit: Option<limit::Settings>,
    /// What becomes of formats in schemas that nobody knows. `validate.formats`.
    pub formats: Formats,
    /// When signals become bans. `[[rule]]` and `[detect]`.
    pub detect: detect::Settings,
}

impl Settings {
    /// How many connections there may be with so many descriptors: some are kept for servers, files and ourselves, so
    /// that who is connected is still served when no more can be accepted (D03).
    #[must_use]
    pub fn connections_within(&self, descriptors: usize) -> usize {
        let kept = (descriptors / 8).max(64);
        self.max_connections.min(descriptors.saturating_sub(kept)).max(1)
    }
}

/// How large a request's head may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadLimits {
    /// In bytes, with its first line. `proxy.max_header_bytes`.
    pub bytes: usize,
    /// Header lines, cookie crumbs of HTTP/2 included. `proxy.max_headers`.
    pub headers: usize,
    /// The path with its query, in bytes. `proxy.max_target`.
    pub target: usize,
}

impl HeadLimits {
    /// The most that `headers` may be.
    pub const MOST_HEADERS: usize = 500;
    /// The most that `target` may be.
    pub const LONGEST_TARGET: usize = 32 * 1_024;
}

/// Whose word about clients is taken, and where it stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trust {
    /// Load balancers and the like. `proxy.trusted_proxies`.
    pub proxies: Vec<Source>,
    /// The one header that is read of them; `None`: none is. `proxy.client_header`.
    pub header: Option<ClientHeader>,
}

/// A header that names clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientHeader {
    /// RFC 7239.
    Forwarded,
    /// `X-Forwarded-For`.
    XForwardedFor,
}

/// Deadlines of a connection and of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// From accept to the end of the TLS handshake. `timeouts.handshake`.
    pub handshake: Duration,
    /// From a request's first byte (or accept) to the end of its head. `timeouts.headers`.
    pub headers: Duration,
    /// A kept-alive connection without a request. `timeouts.idle`.
    pub idle: Duration,
    /// Between two pieces of a request's body. `timeouts.body`.
    pub body: Duration,
    /// What a client has to send or take while it is waited for, in bytes a second over windows of `body`; 0: nothing.
    /// `timeouts.least_rate`.
    pub least_rate: u64,
    /// Connecting to an upstream. `timeouts.connect`.
    pub connect: Duration,
    /// From the request's end to the head of the upstream's answer. `timeouts.response`.
    pub response: Duration,
    /// A tunnel that carries nothing. `timeouts.tunnel_idle`.
    pub tunnel_idle: Duration,
    /// A tunnel, however busy. `timeouts.tunnel`.
    pub tunnel: Duration,
}

/// One listening address.
#[derive(Clone, Debug)]
pub struct Listener {
    /// `listener.address`.
    pub address: SocketAddr,
    /// Connections begin with a header of the PROXY protocol, from trusted proxies alone. `listener.proxy_protocol`.
    pub proxy_protocol: bool,
    /// Whether requests that were served are in the access log. `listener.access_log`.
    pub access_log: bool,
    /// `None`: plain HTTP/1.1.
    pub tls: Option<tls::settings::Tls>,
    /// What browsers are told whom a trusted proxy serves by HTTPS, without TLS here. `[listener.hsts]`.
    pub hsts: Option<tls::settings::Hsts>,
    /// Every request is sent to this port by HTTPS instead. `listener.redirect`.
    pub redirect: Option<u16>,
}
