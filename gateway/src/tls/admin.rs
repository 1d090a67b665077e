//! TLS of the admin listener, compiled: its certificate, and whose client certificates are accepted.

use std::sync::Arc;

use rustls::{
    ServerConfig,
    crypto::aws_lc_rs,
    server::{NoServerSessionStorage, WebPkiClientVerifier},
};

use super::{chain, private_key, roots};
use crate::{diagnostic::Diagnostic, settings::tls::AlpnProtocol};

/// How the admin listener speaks TLS: 1.3 alone, without resumption. All three are PEM.
///
/// # Errors
/// `certificate`, `private_key` or `client_ca`: not what it should be.
pub fn admin(certificate: &[u8], key: &[u8], client_ca: Option<&[u8]>) -> Result<Arc<ServerConfig>, Diagnostic> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let (chain, key) = (chain(certificate)?, private_key(key)?);
    let verifier = match client_ca {
        None => WebPkiClientVerifier::no_client_auth(),
        Some(authorities) => {
            let roots = roots(authorities).map_err(|fault| fault.at("client_ca"))?;
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
                .build()
                .map_err(|error| Diagnostic::new("client_ca", format!("cannot be used: {error}")))?
        }
    };
    let unusable = |error: rustls::Error| match error {
        rustls::Error::InconsistentKeys(_) => Diagnostic::new("private_key", "is not the key of the certificate")
            .hint("the first certificate must be the leaf"),
        error => Diagnostic::new("certificate", format!("cannot be used: {error}")),
    };
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(unusable)?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)
        .map_err(unusable)?;
    config.alpn_protocols = AlpnProtocol::Http1.offers().iter().map(|name| name.as_bytes().to_vec()).collect();
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}
