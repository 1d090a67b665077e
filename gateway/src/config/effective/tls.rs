//! Shows how servers are spoken to, and files by their paths.

use serde_json::{Value, json};

use crate::{
    config::value::show_duration,
    os::file::NamedFile,
    settings::{outbound, tls::UpstreamTls},
};

/// `upstream.NAME.tls`, and `tls` of other tables that speak to servers.
pub(super) fn client(tls: &UpstreamTls) -> Value {
    json!({
        "ca": tls.has_authorities().then(|| file(&tls.ca)),
        "pins": (!tls.pins.is_empty()).then(|| tls.pins.iter().map(ToString::to_string).collect::<Vec<_>>()),
        "server_name": tls.server_name,
        "certificate": tls.certificate.as_ref().map(|pair| file(&pair.0)),
        "private_key": tls.certificate.as_ref().map(|pair| file(&pair.1)),
        "dangerous_accept_any_certificate": tls.accepts_any,
    })
}

/// `fetch` of tables that name a server outside of the gateway.
pub(super) fn outbound(server: &outbound::OutboundServer) -> Value {
    let tls = &server.tls;
    json!({
        "ca": tls.has_authorities().then(|| file(&tls.ca)),
        "certificate": tls.certificate.as_ref().map(|pair| file(&pair.0)),
        "private_key": tls.certificate.as_ref().map(|pair| file(&pair.1)),
        "allow_private": server.allow_private,
        "allow_http": server.allow_http,
        "timeout": show_duration(server.timeout),
    })
}

/// The path alone: the content may be a secret.
pub(super) fn file(file: &NamedFile) -> String {
    file.path.display().to_string()
}
