//! Reads the tables of a `gateway.toml`, one file per table: `[guard]` in `guard.rs`, `[[route]]` in `route.rs`.

use super::{
    reader::{Keys, Reader},
    table::Table,
};
use crate::settings::{
    admin::Settings as Admin, guard::Settings as Guard, proxy::Settings as Proxy, traces::Settings as Traces,
};

mod access_log;
mod admin;
mod audit;
mod certificate;
mod client_certificates;
mod cors;
mod detect;
mod feed;
pub(super) mod guard;
mod issuer;
mod jwt;
mod limit;
mod listener;
mod operator;
mod proxy;
mod roles;
mod route;
mod rule;
mod timeouts;
mod traces;
mod upstream;
mod validate;

/// The tables of a configuration, in the order of the reference.
pub(super) const KEYS: Keys = &[
    ("guard", "The privileged process: it loads the kernel program and decides every ban."),
    (
        "operator",
        "Who may do what with the running gateway, besides root. Each group or user has its own `[[operator]]`.",
    ),
    ("audit", "The record of all decisions: its files, how often it is signed, and where its checkpoints are sent."),
    ("proxy", "The process that serves requests. It has no privileges."),
    ("admin", "The admin listener: metrics, `/healthz` and `/readyz`. Without this table there is none."),
    ("access_log", "What the log of requests says, and where it goes."),
    ("traces", "Which requests are traced, and where. Without this table none is."),
    ("timeouts", "How long each part of a request may take."),
    ("listener", "An address where clients connect. At least one is required; each has its own `[[listener]]`."),
    ("certificate", "A certificate that every TLS listener shows to clients that ask for one of its names."),
    ("client_certificates", "A group of client certificates (mutual TLS). `NAME` is any name."),
    ("upstream", "A group of servers that answer requests. Routes refer to it by its name."),
    ("jwt", "Which tokens prove who a client is. Without this table, no route can ask for a token."),
    ("issuer", "A further issuer of tokens. `NAME` is any name; principals are `NAME:` and the token's subject."),
    ("roles", "What each role may do. Tokens and client certificates name roles; routes require permissions."),
    ("limit", "Limits on requests."),
    ("cors", "A group of rules for pages of other origins (CORS). Routes that name no group use `[cors.default]`."),
    ("route", "Which requests are served, for whom, and by what. The most specific route wins."),
    ("detect", "Memory of the rules below."),
    ("rule", "Bans a source after a number of signals within a time."),
    ("feed", "A list of sources in a file. It is loaded, followed, and swapped as a whole."),
    ("validate", "How request bodies are checked against the schemas of routes."),
];

/// What a configuration says.
pub(super) struct Contents {
    pub(super) admin: Option<Admin>,
    pub(super) traces: Option<Traces>,
    pub(super) guard: Guard,
    pub(super) proxy: Proxy,
}

/// Reads all tables, from `root`.
pub(super) fn read(root: Table<'_>, reader: &Reader<'_>) -> Contents {
    let mut guard = guard::read(root.table("guard", guard::KEYS), reader);
    guard.operators = operator::read(root.tables("operator", operator::KEYS), guard.control_mode, reader);
    guard.audit = audit::read(root.table("audit", audit::KEYS), root.has("admin"));
    guard.feeds = feed::read(root.tables("feed", feed::KEYS));
    let proxy = proxy(&root, &guard, reader);
    guard.trusted_proxies.clone_from(&proxy.trust.proxies);
    guard.shadow_address_limit = proxy.address_limit.is_some_and(|limit| limit.shadow);
    jwt::warn_of_guessing(&proxy, reader);
    let admin = admin::read(root.table("admin", admin::KEYS), &proxy.listeners, reader);
    let traces = traces::read(root.table("traces", traces::KEYS), admin.is_some());
    root.finish();
    Contents { admin, traces, guard, proxy }
}

/// Every table that the proxy is built from: first what others refer to.
fn proxy(root: &Table<'_>, guard: &Guard, reader: &Reader<'_>) -> Proxy {
    // `[proxy]` stands first among the keys that a misspelt table is compared with.
    let table = root.table("proxy", proxy::KEYS);
    let timeouts = timeouts::read(root.table("timeouts", timeouts::KEYS));
    let has_short_log = table.has("access_log");
    let mut proxy = proxy::read(table, timeouts, guard.ipv6_prefix);
    let short = access_log::Short { outputs: std::mem::take(&mut proxy.access_log.outputs), is_written: has_short_log };
    let access_log = root.table("access_log", access_log::KEYS);
    proxy.roles = roles::read(root.table("roles", roles::KEYS), reader);
    proxy.certificates = certificate::read(root.tables("certificate", certificate::KEYS), reader);
    proxy.client_certificates = client_certificates::read(
        root.named_tables("client_certificates", client_certificates::KEYS),
        &proxy.roles,
        reader,
    );
    let known =
        listener::tls::Known { client_certificates: &proxy.client_certificates, certificates: root.has("certificate") };
    proxy.listeners = listener::read(root.tables("listener", listener::KEYS), root, &known, &proxy.trust, reader);
    certificate::warn_of_unused(&proxy.certificates, &proxy.listeners, reader);
    client_certificates::warn_of_unused(&proxy.client_certificates, &proxy.listeners, reader);
    let upstreams = upstream::read(root.named_tables("upstream", upstream::KEYS), reader);
    proxy.jwt = jwt::read(root.table("jwt", jwt::KEYS), root.named_tables("issuer", issuer::KEYS), reader);
    issuer::judge_roles(proxy.jwt.as_ref().map_or(&[], |jwt| &jwt.issuers), &proxy.roles, reader);
    proxy.address_limit = limit::read(root.table("limit", limit::KEYS));
    proxy.cors = cors::read(root.named_tables("cors", cors::KEYS), reader);
    let known = route::Known {
        upstreams: &upstreams,
        roles: &proxy.roles,
        jwt: proxy.jwt.is_some(),
        timeouts: &proxy.timeouts,
        certificates: !proxy.client_certificates.is_empty(),
        cors: &proxy.cors,
    };
    proxy.routes = route::read(root.tables("route", route::KEYS), &known, reader);
    if let Some(jwt) = &mut proxy.jwt {
        let conditions = proxy.routes.iter().flat_map(|route| &route.claims);
        jwt.keep(&conditions.map(|condition| &condition.path).collect::<Vec<_>>());
    }
    proxy.access_log = access_log::read(access_log, short, &proxy.routes, reader);
    proxy.upstreams = upstreams.into_iter().map(|upstream| upstream.settings).collect();
    let detect = root.table("detect", detect::KEYS);
    proxy.detect = detect::read(detect, rule::read(root.tables("rule", rule::KEYS), reader));
    proxy.formats = validate::read(root.table("validate", validate::KEYS));
    proxy
}
