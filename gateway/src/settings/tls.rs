//! The settings of TLS, to clients and to upstreams.

use std::{fmt, time::Duration};

use data_encoding::{BASE64, HEXLOWER};

use crate::os::file::NamedFile;

/// How one listener speaks TLS.
#[derive(Clone, Debug)]
pub struct ListenerTls {
    /// What is shown to whoever asks for no name, or for one that no `[[certificate]]` has. `None`: they are refused.
    /// `listener.certificate`, `listener.private_key` and `listener.ocsp`.
    pub default: Option<Certificate>,
    /// What ALPN offers (RFC 7301), the best first. `listener.protocols`.
    pub protocols: Vec<AlpnProtocol>,
    /// Whether TLS 1.2 is left out. `listener.min_tls = "1.3"`.
    pub only_tls13: bool,
    /// Which clients have to show certificates: an index into [`Settings::client_certificates`](super::proxy::Settings::client_certificates). For every host that no
    /// `client_certificates.NAME.hosts` names. `listener.client_certificates`.
    pub client_certificates: Option<usize>,
    /// What is told to browsers (RFC 6797). `[listener.hsts]`.
    pub hsts: Option<Hsts>,
    /// Whether clients' hellos are fingerprinted for the access log. `listener.ja4`.
    pub ja4: bool,
}

/// An application protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AlpnProtocol {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2.
    Http2,
}

impl AlpnProtocol {
    /// Its name in ALPN, and in the configuration.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Http1 => "http/1.1",
            Self::Http2 => "h2",
        }
    }

    /// Its names in ALPN, the best first. HTTP/1.0 has a name of its own, which some clients that speak it offer alone.
    #[must_use]
    pub const fn offers(self) -> &'static [&'static str] {
        match self {
            Self::Http1 => &["http/1.1", "http/1.0"],
            Self::Http2 => &["h2"],
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
#[derive(Clone, Debug, PartialEq, Eq)]
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
    /// Which of its names is the principal, the best kind first; empty: any. `principal`.
    pub principal: Vec<NameKind>,
    /// Whose SPIFFE ids count; `None`: anybody's. `trust_domain`.
    pub trust_domain: Option<String>,
    /// What names stand for. `[[client_certificates.NAME.map]]`.
    pub map: Vec<CertificateMapping>,
    /// Whether who is not mapped is nobody. `only_mapped`.
    pub only_mapped: bool,
}

/// What the names of some client certificates stand for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateMapping {
    /// Which names are looked at.
    pub kind: NameKind,
    /// What one of them must be: `*` is anything within a part of it, `**` anything.
    pub pattern: String,
    /// Roles that such a client has besides those of the group. `map.roles`.
    pub roles: Vec<String>,
    /// What it is called instead. `map.name`.
    pub name: Option<String>,
}

/// A kind of name in a client certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameKind {
    /// The last common name of the subject.
    CommonName,
    /// A host name.
    Dns,
    /// A mail address.
    Email,
    /// SHA-256 of the certificate, in hexadecimal digits.
    Fingerprint,
    /// An address.
    Ip,
    /// The serial number, in hexadecimal digits.
    Serial,
    /// The SPIFFE id.
    Spiffe,
    /// The whole subject, as RFC 4514 writes it: `CN=billing,O=Acme`.
    Subject,
    /// A URI.
    Uri,
}

impl NameKind {
    /// Every one, with its name in the configuration.
    pub const NAMES: [(&str, Self); 9] = [
        ("common_name", Self::CommonName),
        ("dns", Self::Dns),
        ("email", Self::Email),
        ("fingerprint", Self::Fingerprint),
        ("ip", Self::Ip),
        ("serial", Self::Serial),
        ("spiffe", Self::Spiffe),
        ("subject", Self::Subject),
        ("uri", Self::Uri),
    ];

    /// Its name in the configuration.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(_, kind)| *kind == self).map_or("", |(name, _)| name)
    }
}

/// TLS to the servers of an upstream: `upstream.NAME.tls`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamTls {
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

impl UpstreamTls {
    /// Whether authorities judge the certificate.
    #[must_use]
    pub fn has_authorities(&self) -> bool {
        !self.accepts_any && !self.ca.path.as_os_str().is_empty()
    }
}
