//! Verifies clients' certificates: one verifier per `[client_certificates.NAME]`, with its authorities and revocation
//! lists.
//!
//! *Invariant:* a certificate whose revocation cannot be judged, by lists that are missing or over, is not good.

use std::sync::Arc;

use rustls::{
    RootCertStore,
    crypto::CryptoProvider,
    server::{VerifierBuilderError, WebPkiClientVerifier, danger::ClientCertVerifier},
};
use rustls_pki_types::{CertificateRevocationListDer, pem::PemObject as _};

use super::certificate;
use crate::{
    diagnostic::Diagnostic,
    policy::auth::certificate::CertificateNames,
    settings::tls::ClientCertificates,
    x509::{self, Der},
};

/// Who is believed.
pub(crate) struct TrustAnchors {
    /// Whom its certificates name.
    pub(crate) names: CertificateNames,
    pub(super) verifier: Arc<dyn ClientCertVerifier>,
}

impl TrustAnchors {
    /// Reads authorities and lists.
    ///
    /// # Errors
    /// `ca` or `crl`.
    pub(super) fn new(settings: &ClientCertificates, provider: &Arc<CryptoProvider>) -> Result<Self, Vec<Diagnostic>> {
        let roots =
            roots(&settings.ca.bytes).map_err(|diagnostic| vec![Diagnostic { key: "ca".to_owned(), ..diagnostic }])?;
        let mut builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
        if let Some(file) = &settings.crl {
            let lists = lists(&file.bytes);
            if lists.is_empty() {
                let hint = "PEM or DER; `openssl crl -in FILE -text` shows one";
                return Err(vec![Diagnostic::new("crl", "holds no revocation list").hint(hint)]);
            }
            builder = builder.with_crls(lists).enforce_revocation_expiration();
        }
        if !settings.required {
            builder = builder.allow_unauthenticated();
        }
        let verifier = builder.build().map_err(|error| {
            vec![match error {
                VerifierBuilderError::InvalidCrl(error) => Diagnostic::new("crl", format!("cannot be used: {error:?}")),
                error => Diagnostic::new("ca", format!("cannot be used: {error}")),
            }]
        })?;
        let names = CertificateNames::new(settings).map_err(|diagnostic| vec![diagnostic])?;
        Ok(Self { names, verifier })
    }
}

/// What is wrong with authorities and lists at `now`, or will be soon.
pub(super) fn outdated(settings: &ClientCertificates, now: i64) -> Vec<Diagnostic> {
    let mut diagnostics = Vec::new();
    for authority in certificate::chain(&settings.ca.bytes).unwrap_or_default() {
        let read = x509::X509Certificate::read(&authority);
        if let Some(message) = read.and_then(|read| certificate::lifetime(read.first, read.last, now)) {
            diagnostics.push(Diagnostic::new("ca", message).hint("then no certificate below it is good: replace it"));
        }
    }
    for list in settings.crl.iter().flat_map(|file| lists(&file.bytes)) {
        let Some((this, next)) = updates(&list) else { continue };
        if let Some(message) = certificate::lifetime(this, next, now) {
            diagnostics
                .push(Diagnostic::new("crl", message).hint("then no client certificate is good: fetch the list anew"));
        }
    }
    diagnostics
}

/// The authorities of a PEM file. The fault's key is `certificate`.
pub(crate) fn roots(pem: &[u8]) -> Result<RootCertStore, Diagnostic> {
    let diagnostic =
        |message: String| Diagnostic::new("certificate", message).hint("a PEM file with the authorities' certificates");
    let chain = certificate::chain(pem).map_err(|it| diagnostic(it.message))?;
    let mut roots = RootCertStore::empty();
    let (added, ignored) = roots.add_parsable_certificates(chain);
    if added == 0 {
        return Err(diagnostic(format!("holds {ignored} certificates, and none can be used")));
    }
    Ok(roots)
}

fn lists(bytes: &[u8]) -> Vec<CertificateRevocationListDer<'static>> {
    let pem: Result<Vec<_>, _> = CertificateRevocationListDer::pem_slice_iter(bytes).collect();
    match pem {
        Ok(lists) if !lists.is_empty() => lists,
        // A file in DER is one list, whole.
        _ if bytes.first() == Some(&0x30) => vec![CertificateRevocationListDer::from(bytes.to_vec())],
        _ => Vec::new(),
    }
}

/// When a list was made and when the next is due (RFC 5280 5.1.2), in seconds since the Unix epoch.
fn updates(list: &[u8]) -> Option<(i64, i64)> {
    let mut fields = Der(Der(Der(list).expect(0x30)?).expect(0x30)?);
    fields.optional(0x02)?;
    let (_algorithm, _issuer) = (fields.expect(0x30)?, fields.expect(0x30)?);
    Some((fields.time()?, fields.time()?))
}
