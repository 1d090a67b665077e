//! Reads the tables of a `gateway.toml`, one file per table: `[guard]` in `guard.rs`, `[[route]]` in `route.rs`.

use toml::de::DeTable;

use super::{
    document::Document,
    errors::Errors,
    files::Files,
    reader::{Reader, Table},
};
use crate::{diagnostic::Diagnostic, settings::guard::Settings as Guard, settings::proxy::Settings as Proxy};

mod certificate;
mod client_certificates;
mod cors;
mod detect;
mod feed;
pub(super) mod guard;
mod jwt;
mod limit;
mod listener;
mod proxy;
mod roles;
mod route;
mod rule;
mod timeouts;
mod upstream;
mod validate;

/// What a valid configuration says, and what is unwise in it.
pub(super) struct Contents {
    pub(super) guard: Guard,
    pub(super) proxy: Proxy,
    pub(super) warnings: Vec<Diagnostic>,
}

/// Reads the whole configuration.
pub(super) fn read(document: &Document, files: &dyn Files) -> Result<Contents, Errors> {
    let parsed = DeTable::parse(document.text()).map_err(|error| {
        Errors::from_faults(document, vec![Diagnostic::new("", format!("not TOML: {}", error.message()))])
    })?;
    let reader = Reader::new(document, files);
    let mut root = Table::root(&reader, parsed.get_ref());

    let mut guard = guard::read(root.table("guard"), &reader);
    guard.feeds = feed::read(root.tables("feed"));
    let proxy = proxy(&mut root, &guard, &reader);
    guard.trusted_proxies.clone_from(&proxy.trust.proxies);
    guard.shadow_address_limit = proxy.address_limit.is_some_and(|limit| limit.shadow);
    jwt::warn_of_guessing(&proxy, &reader);
    root.finish();

    let (faults, warnings) = reader.finish();
    if faults.is_empty() { Ok(Contents { guard, proxy, warnings }) } else { Err(Errors::new(document.clone(), faults)) }
}

/// Every table that the proxy is built from: first what others refer to.
fn proxy(root: &mut Table<'_>, guard: &Guard, reader: &Reader<'_>) -> Proxy {
    // `[proxy]` stands first among the keys that a misspelt table is compared with.
    let table = root.table("proxy");
    let timeouts = timeouts::read(root.table("timeouts"));
    let mut proxy = proxy::read(table, timeouts, guard.ipv6_prefix);
    proxy.roles = roles::read(root.table("roles"), reader);
    proxy.certificates = certificate::read(root.tables("certificate"), reader);
    proxy.client_certificates =
        client_certificates::read(root.named_tables("client_certificates"), &proxy.roles, reader);
    let known =
        listener::tls::Known { client_certificates: &proxy.client_certificates, certificates: root.has("certificate") };
    proxy.listeners = listener::read(root.tables("listener"), root, &known, &proxy.trust, reader);
    certificate::warn_of_unused(&proxy.certificates, &proxy.listeners, reader);
    client_certificates::warn_of_unused(&proxy.client_certificates, &proxy.listeners, reader);
    let upstreams = upstream::read(root.named_tables("upstream"), reader);
    proxy.jwt = jwt::read(root.table("jwt"));
    proxy.address_limit = limit::read(root.table("limit"));
    proxy.cors = cors::read(root.named_tables("cors"), reader);
    let known = route::Known {
        upstreams: &upstreams,
        roles: &proxy.roles,
        jwt: proxy.jwt.is_some(),
        timeouts: &proxy.timeouts,
        certificates: !proxy.client_certificates.is_empty(),
        cors: &proxy.cors,
    };
    proxy.routes = route::read(root.tables("route"), &known, reader);
    proxy.upstreams = upstreams.into_iter().map(|upstream| upstream.settings).collect();
    let detect = root.table("detect");
    proxy.detect = detect::read(detect, rule::read(root.tables("rule"), reader));
    proxy.formats = validate::read(root.table("validate"));
    proxy
}
