//! Hosts that ask clients for certificates, and the check that a connection may be used for a host. Browsers send
//! requests for one host over a connection that was made to another (RFC 9113 9.1.1), attackers do it on purpose.

use super::{names::Names, session::Secured};
use crate::{
    policy::auth::certificate::ClientCertificate,
    refusal::{Refusal, Reject},
    settings::{listener::Listener, proxy},
};

/// Who asks for what. The same for as long as the configuration is.
#[derive(Default)]
pub struct Demands {
    /// An index into [`proxy::Settings::client_certificates`] for each host that is named.
    hosts: Names<usize>,
    /// And for every other host, by listener.
    listeners: Box<[Option<usize>]>,
    /// Whether a certificate must be shown, by index.
    required: Box<[bool]>,
}

impl Demands {
    pub(crate) fn new(settings: &proxy::Settings) -> Self {
        let mut hosts = Names::default();
        for (index, trust) in settings.client_certificates.iter().enumerate() {
            for host in &trust.hosts {
                hosts.enter(host, index);
            }
        }
        let of = |listener: &Listener| listener.tls.as_ref().and_then(|tls| tls.client_certificates);
        Self {
            hosts,
            listeners: settings.listeners.iter().map(of).collect(),
            required: settings.client_certificates.iter().map(|trust| trust.required).collect(),
        }
    }

    /// Which certificates are asked for on `listener` where the client asks for `host`, in lower case.
    pub(super) fn of(&self, listener: usize, host: Option<&str>) -> Option<usize> {
        let named = host.filter(|_| !self.hosts.is_empty()).and_then(|host| self.hosts.find(host));
        named.copied().or_else(|| self.listeners.get(listener).copied().flatten())
    }

    /// Judges a request for `host` on a connection that came in by `listener`, and by this handshake if it is TLS. The
    /// client certificate that speaks for the request: none that was shown for another host's sake does.
    ///
    /// # Errors
    /// [`Reject::Misdirected`] where the host wants certificates that this connection was not asked for.
    pub(crate) fn judge<'a>(
        &self,
        listener: usize,
        host: &str,
        secured: Option<&'a Secured>,
    ) -> Result<Option<&'a ClientCertificate>, Refusal> {
        if self.required.is_empty() {
            return Ok(None);
        }
        let Some(wanted) = self.of(listener, Some(host)) else { return Ok(None) };
        match secured {
            Some(secured) if secured.asked == Some(wanted) => Ok(secured.shown.as_ref()),
            // Without TLS no other connection would be better: who need not show a certificate, does not.
            None if self.required.get(wanted) == Some(&false) => Ok(None),
            _ => Err(Refusal::new(
                Reject::Misdirected,
                "the host wants a client certificate, and this connection was not asked for it",
            )),
        }
    }
}
