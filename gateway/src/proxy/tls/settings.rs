//! Decides what is configured of TLS, to clients and to upstreams.

use std::{fmt, time::Duration};

use data_encoding::{BASE64, HEXLOWER};

use super::super::settings::{NamedFile, Settings};

/// How one listener speaks TLS.
#[derive(Clone, Debug)]
pub struct Tls {
    /// What is shown to whoever asks for no name, or for one that no `[[certificate]]` has. `None`: they are refused.
    /// `listener.certificate`, `listener.private_key` and `listener.ocsp`.
    pub default: Option<Certificate>,
    /// What ALPN offers (RFC 7301), the best first. `listener.protocols`.
    pub protocols: Vec<Protocol>,
    /// Whether TLS 1.2 is left out. `listener.min_tls = "1.3"`.
    pub only_tls13: bool,
    /// Which clients have to show certificates: an index into [`Settings::client_certificates`]. For every host that no
    /// `client_certificates.NAME.hosts` names. `listener.client_certificates`.
    pub client_certificates: Option<usize>,
    /// What is told to browsers (RFC 6797). `[listener.hsts]`.
    pub hsts: Option<Hsts>,
    /// Whether clients' hellos are fingerprinted for the access log. `listener.ja4`.
    pub ja4: bool,
}

/// An application protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2.
    Http2,
}

impl Protocol {
    /// Its name in ALPN.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Http1 => "http/1.1",
            Self::Http2 => "h2",
        }
    }
}

/// A certificate chain and its key, PEM.
#[derive(Clone, Debug)]
pub struct Certificate {
    /// The chain, leaf first.
    pub certificate: NamedFile,
    /// PKCS#8, SEC1 or PKCS#1.
    pub private_key: NamedFile,
    /// What the authority says of it (RFC 6960), DER, stapled to handshakes.
    pub ocsp: Option<NamedFile>,
}

/// `[listener.hsts]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hsts {
    /// How long browsers come by HTTPS alone. `listener.hsts.max_age`.
    pub max_age: Duration,
    /// To every name below, too. `listener.hsts.include_subdomains`.
    pub include_subdomains: bool,
    /// By which hosts alone: exact, or `*.` and a name. Empty: by all. `listener.hsts.hosts`.
    pub hosts: Vec<String>,
}

/// Whose certificates clients may show: `[client_certificates.NAME]`.
#[derive(Clone, Debug)]
pub struct ClientCertificates {
    /// The NAME.
    pub name: String,
    /// The authorities, PEM. `ca`.
    pub ca: NamedFile,
    /// What they revoked (RFC 5280 5), PEM or DER. `crl`.
    pub crl: Option<NamedFile>,
    /// Whether nobody gets in without. `required`.
    pub required: bool,
    /// For which hosts: exact, or `*.` and a name. `hosts`.
    pub hosts: Vec<String>,
    /// What roles whoever shows one has. `roles`.
    pub roles: Vec<String>,
}

/// TLS to the servers of an upstream: `upstream.NAME.tls`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Client {
    /// Whom to believe, PEM; `tls.ca`, or what the system trusts; without a path: nobody.
    pub ca: NamedFile,
    /// The name that its certificate must have, where it is not the server's own. `tls.server_name`.
    pub server_name: Option<String>,
    /// What the gateway shows of itself: `tls.certificate` and `tls.private_key`.
    pub certificate: Option<(NamedFile, NamedFile)>,
    /// Whether any certificate will do: `tls.dangerous_accept_any_certificate`.
    pub accepts_any: bool,
    /// Of which its certificate or key must be one, instead of [`Self::ca`] or besides: `tls.pins`. Empty: any.
    pub pins: Vec<Pin>,
}

/// A fingerprint of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pin {
    /// SHA-256 of its certificate.
    Certificate([u8; 32]),
    /// SHA-256 of its public key, as its certificate has it (`SubjectPublicKeyInfo`).
    PublicKey([u8; 32]),
}

impl fmt::Display for Pin {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Certificate(hash) => write!(out, "sha256:{}", HEXLOWER.encode(hash)),
            Self::PublicKey(hash) => write!(out, "sha256//{}", BASE64.encode(hash)),
        }
    }
}

impl Client {
    /// Whether authorities judge the certificate.
    #[must_use]
    pub fn has_authorities(&self) -> bool {
        !self.accepts_any && !self.ca.path.as_os_str().is_empty()
    }
}

impl Settings {
    /// Every file that TLS is made from and that is read again when it changes.
    pub fn tls_files(&self) -> impl Iterator<Item = &NamedFile> {
        self.tls_certificates()
            .flat_map(|(_, pair)| [Some(&pair.certificate), Some(&pair.private_key), pair.ocsp.as_ref()])
            .chain(self.client_certificates.iter().flat_map(|trust| [Some(&trust.ca), trust.crl.as_ref()]))
            .chain(self.upstreams.iter().filter_map(|upstream| upstream.tls.as_ref()).flat_map(|tls| {
                let (certificate, key) = tls.certificate.as_ref().map(|(certificate, key)| (certificate, key)).unzip();
                [tls.has_authorities().then_some(&tls.ca), certificate, key]
            }))
            .flatten()
    }

    /// As [`Self::tls_files`], to be changed.
    pub fn tls_files_mut(&mut self) -> impl Iterator<Item = &mut NamedFile> {
        let defaults = self.listeners.iter_mut().filter_map(|listener| listener.tls.as_mut()?.default.as_mut());
        defaults
            .chain(&mut self.certificates)
            .flat_map(|pair| [Some(&mut pair.certificate), Some(&mut pair.private_key), pair.ocsp.as_mut()])
            .chain(self.client_certificates.iter_mut().flat_map(|trust| [Some(&mut trust.ca), trust.crl.as_mut()]))
            .chain(self.upstreams.iter_mut().filter_map(|upstream| upstream.tls.as_mut()).flat_map(|tls| {
                let has_authorities = tls.has_authorities();
                let (certificate, key) = tls.certificate.as_mut().map(|(certificate, key)| (certificate, key)).unzip();
                [has_authorities.then_some(&mut tls.ca), certificate, key]
            }))
            .flatten()
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
