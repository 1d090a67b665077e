//! The proxy's settings, valid.

use std::{collections::BTreeMap, time::Duration};

use gateway_common::source::Source;
use http::HeaderName;

use super::{
    access_log,
    auth::{self, Method},
    authz, bandwidth, cluster, connection_limit,
    cors::Cors,
    crawlers, detect, identity_headers, internal_token,
    jwt::KeySource,
    limit,
    listener::Listener,
    priority,
    route::Route,
    timeouts::Timeouts,
    tls::{self, Certificate, ClientCertificates},
    upstream::Upstream,
    validate::{Api, Details, Formats},
    waf,
};
use crate::{net::geo::Geo, os::file::NamedFile, web::path::MAX_LENGTH};

/// Everything the proxy is told.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The user that the proxy runs as: a name or a number. `proxy.user`.
    pub user: String,
    /// Threads, each with its own sockets, connections and pools. `proxy.workers`; 0 in the file means one per core.
    pub workers: usize,
    /// Whether each worker stays on a core of its own. `proxy.pin_workers`.
    pub pin_workers: bool,
    /// What the access log says, and where it goes. `[access_log]`.
    pub access_log: access_log::Settings,
    /// How long requests in flight may take once the proxy stops. `proxy.drain`.
    pub drain: Duration,
    /// How long connections are still accepted once the gateway is to stop, while health checks are told. `proxy.stop_delay`.
    pub stop_delay: Duration,
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
    pub certificates: Vec<Certificate>,
    /// Whose certificates clients may show. `[client_certificates.NAME]`.
    pub client_certificates: Vec<ClientCertificates>,
    /// Servers behind the proxy. `[upstream.NAME]`, in the order of their names.
    pub upstreams: Vec<Upstream>,
    /// What pages of other origins may do. `[cors.NAME]`, in the order of their names.
    pub cors: Vec<Cors>,
    /// What is served. `[[route]]`.
    pub routes: Vec<Route>,
    /// How clients prove who they are, besides by client certificates.
    pub auth: auth::Settings,
    /// What upstreams are told of who a client is. `[identity_headers]`.
    pub identity_headers: identity_headers::Settings,
    /// The token that is made for upstreams; `None`: none is. `[internal_token]`.
    pub internal_token: Option<internal_token::Settings>,
    /// Where addresses are, as far as it is known. `[geo]`.
    pub geo: Geo,
    /// Networks with a name, which routes refer to. `[sources]`.
    pub sources: BTreeMap<String, Vec<Source>>,
    /// Which role may do what. `[roles]`.
    pub roles: authz::Settings,
    /// How many requests whoever they count may make. `[limit.NAME]` and `[plan.NAME]`.
    pub limits: limit::Settings,
    /// The machines that share limits; `None`: there are no others. `[cluster]`.
    pub cluster: Option<cluster::Settings>,
    /// How many bytes of bodies pass in a second. `[bandwidth.NAME]`.
    pub bandwidth: bandwidth::Settings,
    /// How many connections and handshakes a source may make. `[connection_limit.NAME]`.
    pub connection_limits: connection_limit::Settings,
    /// Who is served first when something runs short. `[priority.NAME]` and `[overload]`.
    pub priority: priority::Settings,
    /// What becomes of formats in schemas that nobody knows. `validate.formats`.
    pub formats: Formats,
    /// What clients are told of what they break. `validate.details`.
    pub details: Details,
    /// What schemas and documents may refer to. `validate.files`.
    pub schema_files: Vec<NamedFile>,
    /// The documents that requests are held against. `[api.NAME]`, in the order of their names.
    pub apis: Vec<Api>,
    /// Which rules look for attacks. `[waf.NAME]`, in the order of their names.
    pub wafs: Vec<waf::Settings>,
    /// How many connections of one principal use the kernel's fast lane; `None`: there is none. From `guard.total_limit`.
    pub fast_lane: Option<u32>,
    /// When signals become bans. `[[rule]]` and `[detect]`.
    pub detect: detect::Settings,
    /// Which crawlers are known. `[crawler.NAME]` and `[crawlers]`.
    pub crawlers: crawlers::Settings,
}

impl Settings {
    /// The methods of authentication that are configured.
    #[must_use]
    pub fn methods(&self) -> Vec<Method> {
        let is_configured = |method: &Method| match method {
            Method::ApiKey => self.auth.api_keys.is_some(),
            Method::Certificate => !self.client_certificates.is_empty(),
            Method::Jwt => self.auth.jwt.is_some(),
            Method::Basic => self.auth.basic.is_some(),
            Method::Introspection => !self.auth.introspection.is_empty(),
        };
        Method::ALL.into_iter().filter(is_configured).collect()
    }

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
    pub const LONGEST_TARGET: usize = MAX_LENGTH;
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

impl Settings {
    /// The names of headers that only the gateway sets, by its configuration.
    pub fn own_headers(&self) -> Vec<HeaderName> {
        let told = self.identity_headers.iter().map(|header| header.name.clone());
        told.chain(self.internal_token.iter().map(|token| token.header.clone())).collect()
    }

    /// Every file that TLS is made from and that is read again when it changes.
    pub fn tls_files(&self) -> impl Iterator<Item = &NamedFile> {
        self.tls_certificates()
            .flat_map(|(_, pair)| [Some(&pair.certificate), Some(&pair.private_key), pair.ocsp.as_ref()])
            .chain(self.client_certificates.iter().flat_map(|trust| [Some(&trust.ca), trust.crl.as_ref()]))
            .chain(self.tls_clients().flat_map(|tls| {
                let (certificate, key) = tls.certificate.as_ref().map(|(certificate, key)| (certificate, key)).unzip();
                [tls.has_authorities().then_some(&tls.ca), certificate, key]
            }))
            .flatten()
    }

    /// How TLS is spoken to others: to upstreams, and to the store of the cluster.
    fn tls_clients(&self) -> impl Iterator<Item = &tls::UpstreamTls> {
        let store = self.cluster.as_ref().and_then(|cluster| cluster.store.tls.as_ref());
        self.upstreams.iter().filter_map(|upstream| upstream.tls.as_ref()).chain(store)
    }

    /// As [`Self::tls_files`], to be changed.
    pub fn tls_files_mut(&mut self) -> impl Iterator<Item = &mut NamedFile> {
        let defaults = self.listeners.iter_mut().filter_map(|listener| listener.tls.as_mut()?.default.as_mut());
        let store = self.cluster.as_mut().and_then(|cluster| cluster.store.tls.as_mut());
        let clients = self.upstreams.iter_mut().filter_map(|upstream| upstream.tls.as_mut()).chain(store);
        defaults
            .chain(&mut self.certificates)
            .flat_map(|pair| [Some(&mut pair.certificate), Some(&mut pair.private_key), pair.ocsp.as_mut()])
            .chain(self.client_certificates.iter_mut().flat_map(|trust| [Some(&mut trust.ca), trust.crl.as_mut()]))
            .chain(clients.flat_map(|tls| {
                let has_authorities = tls.has_authorities();
                let (certificate, key) = tls.certificate.as_mut().map(|(certificate, key)| (certificate, key)).unzip();
                [has_authorities.then_some(&mut tls.ca), certificate, key]
            }))
            .flatten()
    }

    /// The key sets of issuers, which are read again when they change, too.
    pub fn key_files(&self) -> impl Iterator<Item = &NamedFile> {
        let issuers = self.auth.jwt.iter().flat_map(|jwt| &jwt.issuers);
        issuers.filter_map(|issuer| issuer.keys.key_set_file())
    }

    /// As [`Self::key_files`], to be changed.
    pub fn key_files_mut(&mut self) -> impl Iterator<Item = &mut NamedFile> {
        let issuers = self.auth.jwt.iter_mut().flat_map(|jwt| &mut jwt.issuers);
        issuers.filter_map(|issuer| match &mut issuer.keys {
            KeySource::Jwks(file) => Some(file),
            KeySource::Discovery(_) | KeySource::Secret(_) | KeySource::Url(_) => None,
        })
    }

    /// Every certificate that is shown to clients, with the key of its table.
    pub fn tls_certificates(&self) -> impl Iterator<Item = (String, &Certificate)> {
        let defaults = self.listeners.iter().enumerate().filter_map(|(index, listener)| {
            Some((format!("listener[{index}]"), listener.tls.as_ref()?.default.as_ref()?))
        });
        let more = self.certificates.iter().enumerate().map(|(index, pair)| (format!("certificate[{index}]"), pair));
        defaults.chain(more)
    }
}
