//! TLS to a server that somebody named here vouches for: what the observer delivers to.

use std::sync::Arc;

use rustls::{ClientConfig, crypto::aws_lc_rs};

use super::roots;
use crate::diagnostic::Diagnostic;

/// How TLS is spoken to servers whose certificate `ca` (PEM) vouches for: 1.3 and 1.2.
///
/// # Errors
/// `ca` holds no certificate that can be used.
pub fn outgoing(ca: &[u8]) -> Result<Arc<ClientConfig>, Diagnostic> {
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .map_err(|error| Diagnostic::new("ca", format!("cannot be used: {error}")))?;
    let roots = roots(ca).map_err(|fault| fault.at("ca"))?;
    Ok(Arc::new(builder.with_root_certificates(roots).with_no_client_auth()))
}
