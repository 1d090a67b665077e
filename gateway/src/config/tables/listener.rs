//! Reads `[[listener]]`: where clients connect.

use std::net::SocketAddr;

use toml::de::DeValue;

use crate::{
    config::{
        reader::{Keys, Reader},
        table::Table,
        value::{self, form::described},
    },
    diagnostic::Diagnostic,
    settings::{listener::Listener, proxy::Trust},
};

pub(super) mod tls;

/// The keys of `[[listener]]`.
pub(super) const KEYS: Keys = &[
    (
        "address",
        "The address and port to listen on. `[::]:443` is IPv6 alone: IPv4 has a listener of its own, `0.0.0.0:443`.",
    ),
    (
        "proxy_protocol",
        "`true`: connections begin with the PROXY protocol, v1 or v2. Only trusted proxies may connect.",
    ),
    ("redirect", "For plain HTTP: requests are redirected (308) to the same host by HTTPS on this port."),
    ("tls", "`true`: the listener speaks TLS without a certificate of its own and shows those of `[[certificate]]`."),
    (
        "certificate",
        "The certificate chain in PEM, leaf first. Without a certificate and a key the listener speaks plain HTTP.",
    ),
    ("private_key", "The private key of `certificate`, in PEM."),
    ("ocsp", "The OCSP response to staple, in DER."),
    ("protocols", "The protocols that are offered by ALPN, the best first."),
    ("min_tls", "The oldest TLS version that is accepted."),
    (
        "client_certificates",
        "The group of `[client_certificates.NAME]` that hosts without a group of their own ask for.",
    ),
    ("ja4", "Whether the JA4 fingerprint of the client's hello is in the access log."),
    ("hsts", "Tells browsers to come by HTTPS only. Without this table nothing is told."),
    ("access_log", "`false`: only refused requests are logged."),
    (
        "health",
        "The path where the gateway answers health checks itself: 200, and 503 once it is about to stop. It comes before routes.",
    ),
];

pub(super) fn read(
    tables: Vec<Table<'_>>,
    root: &Table<'_>,
    known: &tls::TlsReferences<'_>,
    trust: &Trust,
    reader: &Reader<'_>,
) -> Vec<Listener> {
    if tables.is_empty() && !root.has("listener") {
        let hint = "write `[[listener]]` and below it `address = \"0.0.0.0:443\"`, `certificate` and `private_key`";
        root.report("listener", Diagnostic::bare("is missing: there is no address to listen on").hint(hint));
    }
    let mut listeners: Vec<Listener> = Vec::new();
    for table in tables {
        let hint = "write an address and a port: \"0.0.0.0:443\", \"[::]:443\"";
        let address = table.required(
            "address",
            "\"0.0.0.0:443\"",
            described("address and port", |value| {
                let address: SocketAddr = value::parsed(hint)(value)?;
                if address.port() == 0 {
                    return Err(Diagnostic::bare("has port 0").hint("name a port from 1 to 65535"));
                }
                Ok(address)
            }),
        );
        let proxy_protocol = table.or("proxy_protocol", false, value::boolean());
        if proxy_protocol && trust.proxies.is_empty() {
            let wrong = Diagnostic::bare("needs trusted proxies, and there are none");
            table.report("proxy_protocol", wrong.hint("add `trusted_proxies = [\"10.0.0.2\"]` to [proxy]"));
        }
        let redirect = table.optional("redirect", value::integer(1..=u16::MAX));
        let (tls, hsts) = tls::read(&table, known, trust, reader);
        let access_log = table.or("access_log", true, value::boolean());
        let health = table.optional("health", described("path, such as `\"/healthz\"`", health));
        let Some(address) = address else {
            table.finish();
            continue;
        };
        if let Some(earlier) = listeners.iter().position(|listener| listener.address == address) {
            let wrong = Diagnostic::bare(format!("{address} is already used by listener[{earlier}]"));
            table.report("address", wrong.hint("give each listener an address of its own"));
        }
        if redirect.is_some() && tls.is_some() {
            let wrong = Diagnostic::bare("is for plain HTTP, and this listener speaks TLS");
            table.report("redirect", wrong.hint("give plain HTTP a [[listener]] of its own"));
        }
        let is_plain = tls.is_none() && redirect.is_none() && !table.has("certificate");
        if is_plain && !address.ip().is_loopback() {
            let warning = Diagnostic::new(
                table.key("address"),
                "serves plain HTTP to other machines: tokens can be read on the way",
            );
            reader.warn(warning.hint("add `certificate` and `private_key`"));
        }
        table.finish();
        listeners.push(Listener { address, proxy_protocol, access_log, health, tls, hsts, redirect });
    }
    listeners
}

/// A path that requests can have word for word: it is the canonical reading of itself.
fn health(value: &DeValue<'_>) -> Result<String, Diagnostic> {
    plain_path(value, "write a plain path: \"/healthz\"")
}

/// A path that is read in one way; `hint`: what would be right.
pub(super) fn plain_path(value: &DeValue<'_>, hint: &str) -> Result<String, Diagnostic> {
    let path = value::line(value)?;
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~');
    let is_segment = |part: &str| !matches!(part, "" | "." | "..") && part.bytes().all(is_plain);
    match path.strip_prefix('/') {
        Some(rest) if path.len() <= 200 && rest.split('/').all(is_segment) => Ok(path),
        _ => Err(Diagnostic::bare(format!("{path:?} is not a plain path")).hint(hint)),
    }
}
