//! `[[listener]]`: where the proxy listens, and how.

use std::net::SocketAddr;

use super::tls;

/// One listening address.
#[derive(Clone, Debug)]
pub struct Listener {
    /// `listener.address`.
    pub address: SocketAddr,
    /// Connections begin with a header of the PROXY protocol, from trusted proxies alone. `listener.proxy_protocol`.
    pub proxy_protocol: bool,
    /// Whether requests that were served are in the access log. `listener.access_log`.
    pub access_log: bool,
    /// The path where the proxy itself says whether it goes on serving. `listener.health`.
    pub health: Option<String>,
    /// `None`: plain HTTP/1.1.
    pub tls: Option<tls::ListenerTls>,
    /// What browsers are told whom a trusted proxy serves by HTTPS, without TLS here. `[listener.hsts]`.
    pub hsts: Option<tls::Hsts>,
    /// Every request is sent to this port by HTTPS instead. `listener.redirect`.
    pub redirect: Option<u16>,
}
