//! TLS to the servers of upstreams, compiled: whom to believe, and what the gateway shows of itself.

use std::sync::Arc;

use rustls::{ClientConfig, Error, crypto::CryptoProvider};

use self::trust::CertificateVerifier;
use super::{chain, private_key, roots};
use crate::{diagnostic::Diagnostic, settings::tls::UpstreamTls};

mod trust;

/// How the gateway speaks TLS to the servers of an upstream.
///
/// # Errors
/// `ca`, `certificate` or `private_key`: not what it should be.
pub(crate) fn config(
    settings: &UpstreamTls,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<ClientConfig>, Vec<Diagnostic>> {
    let diagnostic = |key: &str, message: String| vec![Diagnostic::new(key, message)];
    let builder = ClientConfig::builder_with_provider(Arc::clone(provider))
        .with_protocol_versions(rustls::ALL_VERSIONS)
        .map_err(|error| diagnostic("ca", error.to_string()))?;
    let authorities = if settings.has_authorities() {
        let diagnostic = |found: Diagnostic| vec![Diagnostic { key: "ca".to_owned(), ..found }];
        let roots = roots(&settings.ca.bytes).map_err(diagnostic)?;
        Some((roots, chain(&settings.ca.bytes).map_err(diagnostic)?))
    } else {
        None
    };
    let trust = CertificateVerifier::new(provider, authorities, &settings.pins);
    let trust = trust.map_err(|error| diagnostic("ca", format!("cannot be used: {error}")))?;
    let builder = builder.dangerous().with_custom_certificate_verifier(Arc::new(trust));
    let config = match &settings.certificate {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => {
            let chain = chain(&certificate.bytes).map_err(|diagnostic| vec![diagnostic])?;
            let key = private_key(&key.bytes).map_err(|diagnostic| vec![diagnostic])?;
            builder.with_client_auth_cert(chain, key).map_err(|error| match error {
                Error::InconsistentKeys(_) => diagnostic("private_key", "is not the key of the certificate".to_owned()),
                error => diagnostic("certificate", format!("cannot be used: {error}")),
            })?
        }
    };
    Ok(Arc::new(config))
}
