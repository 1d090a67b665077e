//! TLS 1.3 and 1.2 (RFC 8446, RFC 5246) on every side. To clients: the certificate chosen by server name, client
//! certificates where a host asks for them, no early data. To upstreams and other servers, and of the admin listener: one
//! file each.
//!
//! *Invariant:* a session of a host that asks for client certificates is never resumed: whoever comes back shows the
//! certificate again, and it is judged again (L02).

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{
    ClientConfig, ServerConfig,
    crypto::{CryptoProvider, aws_lc_rs},
    server::{NoServerSessionStorage, WebPkiClientVerifier},
    sign::CertifiedKey,
};

use crate::{
    diagnostic::Diagnostic,
    os::clock::Now,
    settings::{self, proxy},
};

mod admin;
mod certificate;
mod client;
mod demands;
mod failure;
pub(crate) mod hello;
mod hsts;
mod names;
mod ocsp;
mod outgoing;
mod server_name;
mod session;
mod tickets;
mod upstream;

pub use admin::admin;
pub(crate) use certificate::{chain, private_key};
pub(crate) use client::roots;
pub use demands::Demands;
pub(crate) use failure::describe;
pub use hsts::HstsHosts;
use names::Names;
pub use outgoing::outgoing;
pub(crate) use server_name::server_name;
pub(crate) use session::Secured;
pub use tickets::{Chain, TicketKeys, Tickets};

/// How the gateway speaks to a server that is not behind it: as to the servers of an upstream.
///
/// # Errors
/// As for `upstream.NAME.tls`.
pub(crate) fn client_config(settings: &settings::tls::UpstreamTls) -> Result<Arc<ClientConfig>, Vec<Diagnostic>> {
    upstream::config(settings, &Arc::new(aws_lc_rs::default_provider()))
}

/// How many tickets a TLS 1.3 handshake gives: browsers open a second connection at most.
const TICKETS: usize = 2;

/// How TLS is spoken by the files of one moment.
pub struct Tls {
    listeners: Box<[Option<TlsListener>]>,
    trusts: Box<[client::TrustAnchors]>,
    demands: Demands,
    /// How the gateway speaks to the servers of each upstream; `None`: without TLS.
    upstreams: Box<[Option<Arc<ClientConfig>>]>,
    /// What it was made from.
    settings: proxy::Settings,
}

/// One listener.
pub(crate) struct TlsListener {
    /// Who asks for no client certificate, then one for each of `[client_certificates]`.
    configs: Box<[Arc<ServerConfig>]>,
    choice: Arc<certificate::CertificateResolver>,
    /// What browsers are told.
    pub(crate) hsts: Option<Arc<HstsHosts>>,
    /// Whether hellos are fingerprinted.
    pub(crate) ja4: bool,
}

impl Tls {
    /// Compiles everything at `now`.
    ///
    /// # Errors
    /// Every fault: files that are not what they should be, keys that are not their certificates', two certificates for
    /// one name.
    pub fn new(settings: &proxy::Settings, tickets: &Arc<Tickets>, now: Now) -> Result<Self, Vec<Diagnostic>> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let now = i64::try_from(now.unix_seconds()).unwrap_or(i64::MAX);
        let mut diagnostics = Vec::new();
        let names = Arc::new(shared(&settings.certificates, &provider, now, &mut diagnostics));
        let mut trusts = Vec::new();
        for trust in &settings.client_certificates {
            let made = client::TrustAnchors::new(trust, &provider);
            trusts.extend(under(made, &format!("client_certificates.{}", trust.name), &mut diagnostics));
        }
        let mut listeners = Vec::new();
        for (index, listener) in settings.listeners.iter().enumerate() {
            let key = format!("listener[{index}]");
            let made = listener.tls.as_ref().map(|tls| TlsListener::new(tls, &names, &trusts, tickets, &provider, now));
            listeners.push(under(made.transpose(), &key, &mut diagnostics).flatten());
        }
        let mut upstreams = Vec::new();
        for upstream in &settings.upstreams {
            let made = upstream.tls.as_ref().map(|tls| upstream::config(tls, &provider)).transpose();
            upstreams.push(under(made, &format!("upstream.{}.tls", upstream.name), &mut diagnostics).flatten());
        }
        let store = settings.cluster.as_ref().and_then(|cluster| cluster.store.tls.as_ref());
        under(store.map(|tls| upstream::config(tls, &provider)).transpose(), "cluster.store.tls", &mut diagnostics);
        if !diagnostics.is_empty() {
            return Err(diagnostics);
        }
        Ok(Self {
            upstreams: upstreams.into(),
            listeners: listeners.into(),
            trusts: trusts.into(),
            demands: Demands::new(settings),
            settings: settings.clone(),
        })
    }

    /// The same with files that have changed, and whether any of them says whose client certificates are good.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub(crate) fn with(
        &self,
        files: Vec<(PathBuf, Vec<u8>)>,
        tickets: &Arc<Tickets>,
        now: Now,
    ) -> Result<(Self, bool), Vec<Diagnostic>> {
        let files: HashMap<PathBuf, Arc<[u8]>> =
            files.into_iter().map(|(path, bytes)| (path, Arc::from(bytes))).collect();
        let mut settings = self.settings.clone();
        for file in settings.tls_files_mut() {
            if let Some(bytes) = files.get(&file.path) {
                file.bytes = Arc::clone(bytes);
            }
        }
        let made = Self::new(&settings, tickets, now)?;
        let others = !made.judges_as(self);
        Ok((made, others))
    }

    /// Whether client certificates are good for the same reasons as there.
    pub(crate) fn judges_as(&self, other: &Self) -> bool {
        self.settings.client_certificates == other.settings.client_certificates
    }

    /// How a listener speaks TLS; `None`: not at all.
    pub(crate) fn listener(&self, index: usize) -> Option<&TlsListener> {
        self.listeners.get(index)?.as_ref()
    }

    /// Which certificates a client that asks a listener for `name` has to show: an index into the settings.
    pub(crate) fn asked(&self, listener: usize, name: Option<&str>) -> Option<usize> {
        self.demands.of(listener, name)
    }

    /// Whose certificates these are.
    pub(crate) fn trust(&self, asked: usize) -> Option<&client::TrustAnchors> {
        self.trusts.get(asked)
    }

    /// How the gateway speaks to the servers of an upstream.
    pub(crate) fn upstream(&self, index: usize) -> Option<Arc<ClientConfig>> {
        self.upstreams.get(index).cloned().flatten()
    }

    /// The cluster, with the files of its store.
    pub(crate) const fn cluster(&self) -> Option<&settings::cluster::Settings> {
        self.settings.cluster.as_ref()
    }

    /// Whether a certificate names `host`, in lower case: whether it can be reached by HTTPS at all.
    #[must_use]
    pub fn names(&self, host: &str) -> bool {
        self.listeners.iter().flatten().any(|listener| {
            let default = || listener.choice.default_hosts.find(host).is_some();
            listener.choice.names.find(host).is_some() || default()
        })
    }
}

/// What is wrong with certificates and lists at `now`, or will be soon.
#[must_use]
pub fn outdated(settings: &proxy::Settings, now: Now) -> Vec<Diagnostic> {
    let now = i64::try_from(now.unix_seconds()).unwrap_or(i64::MAX);
    let certificates = settings.tls_certificates().flat_map(|(key, pair)| {
        certificate::outdated(pair, now).into_iter().map(move |diagnostic| diagnostic.under(&key))
    });
    let trusts = settings.client_certificates.iter().flat_map(|trust| {
        let key = format!("client_certificates.{}", trust.name);
        client::outdated(trust, now).into_iter().map(move |diagnostic| diagnostic.under(&key))
    });
    let own = settings.upstreams.iter().filter_map(|upstream| {
        let (certificate, _key) = upstream.tls.as_ref()?.certificate.as_ref()?;
        let message = certificate::ending(certificate, now)?;
        let diagnostic = Diagnostic::new(format!("upstream.{}.tls.certificate", upstream.name), message);
        Some(diagnostic.hint("renew it: the new files are read within seconds"))
    });
    certificates.chain(trusts).chain(own).collect()
}

/// The certificates that listeners show: key in the configuration, file, and when it ends, in seconds since 1970.
pub fn ends(settings: &proxy::Settings) -> impl Iterator<Item = (String, &Path, i64)> {
    settings
        .tls_certificates()
        .filter_map(|(key, pair)| Some((key, pair.certificate.path.as_path(), certificate::end(&pair.certificate)?)))
}

/// The certificates that no client takes at `now`, because their time is over or has not come.
#[must_use]
pub fn over(settings: &proxy::Settings, now: Now) -> Vec<Diagnostic> {
    let now = i64::try_from(now.unix_seconds()).unwrap_or(i64::MAX);
    let over = |(key, pair): (String, &settings::tls::Certificate)| Some(certificate::over(pair, now)?.under(&key));
    settings.tls_certificates().filter_map(over).collect()
}

/// The certificates that all listeners have, by name.
fn shared(
    certificates: &[settings::tls::Certificate],
    provider: &CryptoProvider,
    now: i64,
    diagnostics: &mut Vec<Diagnostic>,
) -> Names<Arc<CertifiedKey>> {
    let mut names = Names::default();
    let mut owners = Names::default();
    for (index, settings) in certificates.iter().enumerate() {
        let key = format!("certificate[{index}]");
        let made = certificate::read(settings, provider, now);
        let Some(pair) = under(made, &key, diagnostics) else { continue };
        if pair.hosts.is_empty() {
            let diagnostic = Diagnostic::new(format!("{key}.certificate"), "names no host, so nobody is ever shown it");
            diagnostics.push(diagnostic.hint("names belong into its subject alternative names (RFC 9525)"));
        }
        for host in &pair.hosts {
            names.enter(host, Arc::clone(&pair.shown));
            if let Some(other) = owners.enter(host, index).filter(|other| **other != index) {
                let message = format!("is for {host:?}, and so is certificate[{other}]");
                let diagnostic = Diagnostic::new(format!("{key}.certificate"), message);
                diagnostics.push(diagnostic.hint("show each name by one certificate"));
            }
        }
    }
    names
}

fn under<T>(made: Result<T, Vec<Diagnostic>>, key: &str, diagnostics: &mut Vec<Diagnostic>) -> Option<T> {
    made.map_err(|found| diagnostics.extend(found.into_iter().map(|diagnostic| diagnostic.under(key)))).ok()
}

impl TlsListener {
    fn new(
        settings: &settings::tls::ListenerTls,
        names: &Arc<Names<Arc<CertifiedKey>>>,
        trusts: &[client::TrustAnchors],
        tickets: &Arc<Tickets>,
        provider: &Arc<CryptoProvider>,
        now: i64,
    ) -> Result<Self, Vec<Diagnostic>> {
        let default = settings.default.as_ref().map(|pair| certificate::read(pair, provider, now)).transpose()?;
        let mut default_hosts = Names::default();
        for host in default.iter().flat_map(|pair| &pair.hosts) {
            default_hosts.enter(host, ());
        }
        let default = default.map(|pair| pair.shown);
        let choice = Arc::new(certificate::CertificateResolver { names: Arc::clone(names), default, default_hosts });
        let open = [None].into_iter().chain(trusts.iter().map(Some));
        let configs = open.map(|trust| config(settings, trust, &choice, tickets, provider));
        let configs = configs.collect::<Result<_, _>>();
        let configs = configs.map_err(|error| vec![Diagnostic::new("certificate", error.to_string())])?;
        Ok(Self {
            configs,
            choice,
            hsts: settings.hsts.as_ref().and_then(HstsHosts::new).map(Arc::new),
            ja4: settings.ja4,
        })
    }

    /// Whether there is a certificate for `name`; `None`: for whoever asks for no name.
    pub(crate) fn serves(&self, name: Option<&str>) -> bool {
        self.choice.has(name)
    }

    /// How a handshake goes on with a client that was `asked` for certificates, or was not.
    pub(crate) fn config(&self, asked: Option<usize>) -> Option<&Arc<ServerConfig>> {
        self.configs.get(asked.map_or(0, |asked| asked.saturating_add(1)))
    }
}

fn config(
    settings: &settings::tls::ListenerTls,
    trust: Option<&client::TrustAnchors>,
    choice: &Arc<certificate::CertificateResolver>,
    tickets: &Arc<Tickets>,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<ServerConfig>, rustls::Error> {
    let versions: &[_] = if settings.only_tls13 { &[&rustls::version::TLS13] } else { rustls::ALL_VERSIONS };
    let builder = ServerConfig::builder_with_provider(Arc::clone(provider)).with_protocol_versions(versions)?;
    let verifier = trust.map_or_else(WebPkiClientVerifier::no_client_auth, |trust| Arc::clone(&trust.verifier));
    let chosen = Arc::<certificate::CertificateResolver>::clone(choice);
    let mut config = builder.with_client_cert_verifier(verifier).with_cert_resolver(chosen);
    config.alpn_protocols =
        settings.protocols.iter().flat_map(|protocol| protocol.offers()).map(|name| name.as_bytes().to_vec()).collect();
    // Early data can be replayed (RFC 8446 8): never accepted.
    config.max_early_data_size = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    if trust.is_none() {
        config.ticketer = Arc::<Tickets>::clone(tickets);
        config.send_tls13_tickets = TICKETS;
    } else {
        // Without it TLS 1.2 does not tie the client's certificate to one session (RFC 7627).
        config.require_ems = true;
    }
    Ok(Arc::new(config))
}

#[cfg(test)]
mod tests;
