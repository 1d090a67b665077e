//! A certificate with its key and OCSP staple: checks that they belong together, and reads the names.

use std::sync::Arc;

use rustls::{
    crypto::CryptoProvider,
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};

use super::{names::Names, ocsp::Staple};
use crate::{diagnostic::Diagnostic, os::file::NamedFile, settings::tls, x509};

/// A certificate with its key, ready to be shown.
pub(super) struct Pair {
    pub(super) shown: Arc<CertifiedKey>,
    /// The hosts that it is for; their first label may be `*`.
    pub(super) hosts: Vec<String>,
}

/// Reads a certificate and its key at `now`, in seconds since the Unix epoch.
///
/// # Errors
/// `certificate`, `private_key` or `ocsp`: not what it should be, or not of the others.
pub(super) fn read(settings: &tls::Certificate, provider: &CryptoProvider, now: i64) -> Result<Pair, Vec<Diagnostic>> {
    let chain = chain(&settings.certificate.bytes);
    let key = private_key(&settings.private_key.bytes);
    let (chain, key) = match (chain, key) {
        (Ok(chain), Ok(key)) => (chain, key),
        (chain, key) => return Err([chain.err(), key.err()].into_iter().flatten().collect()),
    };
    let unreadable = || vec![Diagnostic::new("certificate", "has fields that cannot be read").hint("see RFC 5280")];
    let leaf = chain.first().and_then(|leaf| x509::X509Certificate::read(leaf)).ok_or_else(unreadable)?;
    let mut shown = CertifiedKey::from_der(chain, key, provider).map_err(|error| {
        vec![match error {
            rustls::Error::InconsistentKeys(_) => Diagnostic::new("private_key", "is not the key of the certificate")
                .hint("the first certificate must be the leaf"),
            error => Diagnostic::new("certificate", format!("cannot be used: {error}")),
        }]
    })?;
    if let Some(file) = &settings.ocsp {
        let staple = Staple::read(&file.bytes).and_then(|staple| staple.of(&leaf.serial));
        let staple = staple.map_err(|message| {
            vec![Diagnostic::new("ocsp", message).hint("`openssl ocsp -respout FILE ...` fetches one in DER")]
        })?;
        // Browsers take a staple that is over for an attack, and do well without.
        shown.ocsp = staple.is_current(now).then(|| file.bytes.to_vec());
    }
    Ok(Pair { shown: Arc::new(shown), hosts: leaf.hosts().collect() })
}

/// What is wrong with a pair at `now`, or will be soon: clients refuse it, we cannot.
pub(super) fn outdated(settings: &tls::Certificate, now: i64) -> Vec<Diagnostic> {
    let leaf = chain(&settings.certificate.bytes).ok();
    let leaf = leaf.and_then(|chain| x509::X509Certificate::read(chain.first()?));
    let mut diagnostics = Vec::new();
    if let Some(leaf) = leaf {
        if let Some(message) = lifetime(leaf.first, leaf.last, now) {
            diagnostics
                .push(Diagnostic::new("certificate", message).hint("renew it: the new files are read within seconds"));
        }
        if leaf.hosts().next().is_none() {
            let diagnostic = Diagnostic::new("certificate", "names no host: every client refuses it");
            diagnostics.push(diagnostic.hint("names belong into its subject alternative names (RFC 9525)"));
        }
    }
    if let Some(staple) = settings.ocsp.as_ref().and_then(|file| Staple::read(&file.bytes).ok())
        && !staple.is_current(now)
    {
        diagnostics.push(Diagnostic::new("ocsp", "is over, and is not stapled any more").hint("fetch a new one"));
    }
    diagnostics
}

/// What is to be said of the time that the first certificate of a file has left.
pub(super) fn ending(file: &NamedFile, now: i64) -> Option<String> {
    let leaf = x509::X509Certificate::read(chain(&file.bytes).ok()?.first()?)?;
    lifetime(leaf.first, leaf.last, now)
}

/// When the first certificate of a file ends, in seconds since 1970.
pub(super) fn end(file: &NamedFile) -> Option<i64> {
    Some(x509::X509Certificate::read(chain(&file.bytes).ok()?.first()?)?.last)
}

/// What keeps every client from taking a certificate at `now`.
pub(super) fn over(settings: &tls::Certificate, now: i64) -> Option<Diagnostic> {
    let leaf = x509::X509Certificate::read(chain(&settings.certificate.bytes).ok()?.first()?)?;
    let message = lifetime(leaf.first, leaf.last, now).filter(|_| now < leaf.first || now > leaf.last)?;
    Some(Diagnostic::new("certificate", message))
}

/// What a lifetime in seconds since the Unix epoch says at `now`. Warned of are the last three weeks, or the last third
/// of one that is short.
pub(super) fn lifetime(first: i64, last: i64, now: i64) -> Option<String> {
    const SOON: i64 = 21 * 86_400;
    let at = |moment| jiff::Timestamp::from_second(moment).map(|moment| moment.to_string()).unwrap_or_default();
    if now < first {
        return Some(format!("is not valid before {}", at(first)));
    }
    if now > last {
        return Some(format!("expired at {}", at(last)));
    }
    let left = last.saturating_sub(now);
    if left >= SOON.min(last.saturating_sub(first) / 3) {
        return None;
    }
    let days = left / 86_400;
    let unit = if days == 1 { "day" } else { "days" };
    Some(format!("expires in {days} {unit}, at {}", at(last)))
}

/// The certificates of a PEM file.
pub(crate) fn chain(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, Diagnostic> {
    let diagnostic =
        |message: String| Diagnostic::new("certificate", message).hint("a PEM file, the server's certificate first");
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let chain = chain.map_err(|error| diagnostic(format!("is not PEM: {error}")))?;
    if chain.is_empty() { Err(diagnostic("holds no certificate".into())) } else { Ok(chain) }
}

/// The private key of a PEM file.
pub(crate) fn private_key(pem: &[u8]) -> Result<PrivateKeyDer<'static>, Diagnostic> {
    // The parser's own text could quote the file, which is a secret.
    PrivateKeyDer::from_pem_slice(pem).map_err(|_secret| {
        Diagnostic::new("private_key", "holds no private key")
            .hint("a PEM file with PKCS#8, SEC1 or PKCS#1, not encrypted")
    })
}

/// Chooses the certificate for the name that a client asks for.
#[derive(Debug)]
pub(super) struct CertificateResolver {
    pub(super) names: Arc<Names<Arc<CertifiedKey>>>,
    /// For whoever asks for none, or for one that is not there.
    pub(super) default: Option<Arc<CertifiedKey>>,
    /// The hosts that the default is for.
    pub(super) default_hosts: Names<()>,
}

impl CertificateResolver {
    /// Whether there is a certificate for a client that asks for this name.
    pub(super) fn has(&self, name: Option<&str>) -> bool {
        self.default.is_some() || name.is_some_and(|name| self.names.find(name).is_some())
    }
}

impl ResolvesServerCert for CertificateResolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let named = hello.server_name().and_then(|name| self.names.find(&name.to_ascii_lowercase()));
        named.or(self.default.as_ref()).cloned()
    }
}
