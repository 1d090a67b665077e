//! What browsers are told of a host that is reached by HTTPS alone (RFC 6797).

use http::HeaderValue;

use super::names::Names;
use crate::settings;

/// What browsers are told, and by which hosts.
pub struct HstsHosts {
    value: HeaderValue,
    /// Empty: all.
    hosts: Names<()>,
}

impl HstsHosts {
    pub(crate) fn new(settings: &settings::tls::Hsts) -> Option<Self> {
        let below = if settings.include_subdomains { "; includeSubDomains" } else { "" };
        let value = HeaderValue::try_from(format!("max-age={}{below}", settings.max_age.as_secs())).ok()?;
        let mut hosts = Names::default();
        for host in &settings.hosts {
            hosts.enter(host, ());
        }
        Some(Self { value, hosts })
    }

    /// The header of answers by `host`; `None`: it was not understood which.
    pub(crate) fn of(&self, host: Option<&str>) -> Option<&HeaderValue> {
        let tells = self.hosts.is_empty() || host.is_some_and(|host| self.hosts.find(host).is_some());
        tells.then_some(&self.value)
    }
}
