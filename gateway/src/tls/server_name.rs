//! The name that a server's certificate must have.

use std::net::IpAddr;

use rustls_pki_types::ServerName;

use crate::settings::tls::UpstreamTls;

/// The name for the server at `address`, which is `host:port`. `None`: no certificate can have it.
pub(crate) fn server_name(settings: &UpstreamTls, address: &str) -> Option<ServerName<'static>> {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    let host = settings.server_name.as_deref().unwrap_or(host);
    let plain = host.trim_start_matches('[').trim_end_matches(']');
    match plain.parse::<IpAddr>() {
        Ok(address) => Some(ServerName::from(address)),
        Err(_name) => ServerName::try_from(plain.to_owned()).ok(),
    }
}
