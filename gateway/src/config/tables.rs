//! Reads the tables of a `gateway.toml`, one file per table: `[guard]` in `guard.rs`, `[[route]]` in `route.rs`.

use super::{
    reader::{Keys, Reader},
    table::Table,
};
use crate::{
    identity::expression::Expression,
    settings::{
        admin::Settings as Admin, alert::Settings as Alerts, anomalies::Settings as Anomalies,
        guard::Settings as Guard, identity_headers::IdentityHeader, limit::Sharing, otlp::Settings as Otlp,
        proxy::Settings as Proxy, route::Route, traces::Settings as Traces,
    },
};

mod access_log;
mod admin;
mod alert;
mod anomalies;
mod api;
mod api_keys;
mod audit;
mod bandwidth;
mod basic;
mod certificate;
mod client_certificates;
mod cluster;
mod connection_limit;
mod cors;
mod crawlers;
mod crowdsec;
mod detect;
mod feed;
mod geo;
pub(super) mod guard;
mod identity_headers;
mod internal_token;
mod introspection;
mod issuer;
mod jwt;
mod limit;
mod listener;
mod operator;
mod otlp;
mod outbound;
mod overload;
mod plan;
mod priority;
mod proxy;
mod quota;
mod receiver;
mod revocation;
mod roles;
mod route;
mod rule;
mod sources;
mod timeouts;
mod traces;
mod upstream;
mod validate;
mod waf;

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
    ("otlp_metrics", "Where metrics are sent by OTLP, besides `/metrics` of the admin listener."),
    ("otlp_logs", "Where decisions of the guard are sent by OTLP, as log records."),
    ("alert", "When somebody is told of something. Each alert has its own `[[alert]]`."),
    ("alerts", "The built-in alerts, which are on where there is a receiver or an `[[alert]]`."),
    ("anomalies", "Learns what is usual, and tells what is not. Without this table nothing is learned."),
    ("receiver", "Where alerts are sent. `NAME` is any name."),
    ("timeouts", "How long each part of a request may take."),
    ("listener", "An address where clients connect. At least one is required; each has its own `[[listener]]`."),
    ("certificate", "A certificate that every TLS listener shows to clients that ask for one of its names."),
    ("client_certificates", "A group of client certificates (mutual TLS). `NAME` is any name."),
    ("upstream", "A group of servers that answer requests. Routes refer to it by its name."),
    ("jwt", "Which tokens prove who a client is. Without this table, no route can ask for a token."),
    ("issuer", "A further issuer of tokens. `NAME` is any name; principals are `NAME:` and the token's subject."),
    (
        "introspection",
        "A server that is asked about opaque tokens (RFC 7662). `NAME` is any name; principals begin with it.",
    ),
    ("api_keys", "API keys, which `gateway key` makes. Without this table there are none."),
    (
        "revocation",
        "Where revocations come from besides `gateway token revoke`, and what counts while they cannot be read.",
    ),
    ("basic", "Users with passwords (HTTP Basic). Without this table, nobody can use a password."),
    (
        "identity_headers",
        "What upstreams are told of who the client is. Clients can set none of these headers, on no route.",
    ),
    (
        "internal_token",
        "A short-lived token that the gateway makes for upstreams: who the client is, how, and which roles.",
    ),
    ("roles", "What each role may do. Tokens, users and client certificates have roles; routes require permissions."),
    (
        "geo",
        "Databases that say in which country and autonomous system an address is. Without this table, nothing is looked up.",
    ),
    ("sources", "Networks with a name, which `sources` and `allow_if` of routes refer to."),
    ("cors", "A group of rules for pages of other origins (CORS). Routes that name no group use `[cors.default]`."),
    ("route", "Which requests are served, for whom, and by what. The most specific route wins."),
    ("api", "An OpenAPI document that routes hold requests against. `NAME` is any name."),
    ("cluster", "The machines that share limits. Without this table there are no others."),
    ("limit", "A limit on requests: how many whoever it counts may make. `NAME` is any name."),
    (
        "quota",
        "What whoever it counts may use up in an hour, a day, a week or a month of the calendar. `NAME` is any name.",
    ),
    ("plan", "What limits and quotas allow some principals instead of what they allow everybody. `NAME` is any name."),
    ("bandwidth", "How many bytes of bodies pass in a second. What is over it waits. `NAME` is any name."),
    ("connection_limit", "A limit on connections or TLS handshakes of a source. `NAME` is any name."),
    (
        "priority",
        "A class of requests that are served earlier or later than others when something runs short. `NAME` is any name.",
    ),
    (
        "overload",
        "What is refused while the gateway itself has too much to do. Without this table: nothing because of that.",
    ),
    (
        "crawler",
        "A well-known crawler: how it is told from who only says that it is one. Rules about scanning do not ban it. `NAME` is \
         any name.",
    ),
    ("crawlers", "How crawlers are verified."),
    ("detect", "Memory of the rules below."),
    ("rule", "Bans a source after a number of signals within a time."),
    ("feed", "A list of sources in a file, or fetched by URL. It is loaded, followed, and swapped as a whole."),
    ("crowdsec", "CrowdSec, whose decisions are put in force, and which is told of bans. Without this table: neither."),
    ("validate", "How requests are checked against the schemas and documents of routes."),
    ("waf", "Rules that look for attacks in requests. Routes name it by `waf`. `NAME` is any name."),
];

/// What a configuration says.
pub(super) struct Contents {
    pub(super) admin: Option<Admin>,
    pub(super) traces: Option<Traces>,
    pub(super) otlp: Otlp,
    pub(super) alerts: Alerts,
    pub(super) anomalies: Option<Anomalies>,
    pub(super) guard: Guard,
    pub(super) proxy: Proxy,
}

/// Reads all tables, from `root`.
pub(super) fn read(root: Table<'_>, reader: &Reader<'_>) -> Contents {
    let mut guard = guard::read(root.table("guard", guard::KEYS), reader);
    guard.operators = operator::read(root.tables("operator", operator::KEYS), guard.control_mode, reader);
    guard.audit = audit::read(root.table("audit", audit::KEYS), root.has("admin"));
    guard.feeds = feed::read(root.tables("feed", feed::KEYS), root.has("admin"), reader);
    guard.crowdsec = crowdsec::read(root.table("crowdsec", crowdsec::KEYS), root.has("admin"), &guard.feeds, reader);
    guard.revocation = revocation::read(root.table("revocation", revocation::KEYS));
    let mut proxy = proxy(&root, &guard, reader);
    proxy.auth.without_revocations = guard.revocation.unavailable;
    revocation::warn_of_no_effect(&guard.revocation, &proxy.auth, reader);
    proxy.fast_lane = fast_lane(&guard);
    guard.trusted_proxies.clone_from(&proxy.trust.proxies);
    guard.plan_budgets = proxy.limits.plan_budgets().collect();
    guard.clamps = proxy.limits.clamps().collect();
    guard.shadow_limits = proxy.limits.in_shadow().chain(proxy.connection_limits.in_shadow()).collect();
    guard.shadow_routes = proxy.routes.iter().flat_map(Route::in_shadow).collect();
    feed::warn_without_xdp(&guard, &proxy.routes, reader);
    jwt::warn_of_guessing(&proxy, reader);
    let admin = admin::read(root.table("admin", admin::KEYS), &proxy.listeners, reader);
    let traces = traces::read(root.table("traces", traces::KEYS), admin.is_some(), reader);
    let metrics = root.table("otlp_metrics", otlp::METRICS_KEYS);
    let otlp = otlp::read(metrics, root.table("otlp_logs", otlp::LOGS_KEYS), admin.is_some(), reader);
    let receivers = receiver::read(root.named_tables("receiver", receiver::KEYS), admin.is_some(), reader);
    let alerts = root.table("alerts", alert::ALERTS_KEYS);
    let alerts = alert::read(root.tables("alert", alert::KEYS), alerts, receivers, admin.is_some(), reader);
    let anomalies = root.table("anomalies", anomalies::KEYS);
    let anomalies = anomalies::read(anomalies, admin.is_some(), limit::clamp::PacketLimits::of(&guard), reader);
    if let Some(anomalies) = &anomalies {
        guard.anomalies = anomalies.actions;
        guard.clamps.extend(anomalies.actions.clamps());
        proxy.detect.contributors = anomalies.capacity;
    }
    root.finish();
    Contents { admin, traces, otlp, alerts, anomalies, guard, proxy }
}

/// How many connections of one principal are marked for the kernel, where it looks at marks.
fn fast_lane(guard: &Guard) -> Option<u32> {
    let total = guard.total_limit.filter(|total| total.fast_lane > 0 && !guard.interfaces.is_empty())?;
    Some(total.fast_lane_connections)
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
    proxy.geo = geo::read(root.table("geo", geo::KEYS), root.has("geo"), reader);
    proxy.sources = sources::read(root.table("sources", sources::KEYS), reader);
    proxy.roles = roles::read(root.table("roles", roles::KEYS), reader);
    listeners(&mut proxy, root, reader);
    let upstreams = upstream::read(root.named_tables("upstream", upstream::KEYS), reader);
    authentication(&mut proxy, root, reader);
    routes(&mut proxy, &upstreams, (root, guard), reader);
    keep_claims(&mut proxy);
    limits(&mut proxy, (root, guard), reader);
    proxy.access_log = access_log::read(access_log, short, &proxy.routes, reader);
    proxy.access_log.locate(&proxy.geo);
    api_keys::keep_out_of_log(proxy.auth.api_keys.as_ref(), &mut proxy.access_log, reader);
    proxy.upstreams = upstreams.into_iter().map(|upstream| upstream.settings).collect();
    proxy.detect = detect::read(root.table("detect", detect::KEYS));
    let known = rule::RuleReferences {
        defaults: proxy.detect.defaults,
        with_keys: proxy.auth.api_keys.is_some(),
        with_ja4: has_ja4(&proxy),
    };
    let crawlers = root.named_tables("crawler", crawlers::KEYS);
    let all = root.table("crawlers", crawlers::ALL_KEYS);
    proxy.crawlers = crawlers::read(crawlers, all, &guard.feeds, reader);
    proxy.detect.rules = rule::read(root.tables("rule", rule::KEYS), known, reader);
    proxy.detect.clamps = proxy.limits.clamps().map(|(limit, clamp)| limit::clamp::rule(&limit, clamp)).collect();
    validate::read(root.table("validate", validate::KEYS), &mut proxy);
    proxy
}

/// Where clients connect, and the certificates of both sides.
fn listeners(proxy: &mut Proxy, root: &Table<'_>, reader: &Reader<'_>) {
    proxy.certificates = certificate::read(root.tables("certificate", certificate::KEYS), reader);
    proxy.client_certificates = client_certificates::read(
        root.named_tables("client_certificates", client_certificates::KEYS),
        &proxy.roles,
        reader,
    );
    let known = listener::tls::TlsReferences {
        client_certificates: &proxy.client_certificates,
        certificates: root.has("certificate"),
    };
    proxy.listeners = listener::read(root.tables("listener", listener::KEYS), root, &known, &proxy.trust, reader);
    certificate::warn_of_unused(&proxy.certificates, &proxy.listeners, reader);
    client_certificates::warn_of_unused(&proxy.client_certificates, &proxy.listeners, reader);
}

/// How clients prove who they are.
fn authentication(proxy: &mut Proxy, root: &Table<'_>, reader: &Reader<'_>) {
    proxy.auth.jwt = jwt::read(root.table("jwt", jwt::KEYS), root.named_tables("issuer", issuer::KEYS), reader);
    let introspection = root.named_tables("introspection", introspection::KEYS);
    proxy.auth.introspection = introspection::read(introspection, proxy.auth.jwt.as_ref(), reader);
    if let Some(jwt) = &mut proxy.auth.jwt {
        jwt.others = proxy.auth.introspection.iter().map(|server| server.name.clone()).collect();
    }
    let issuers = proxy.auth.jwt.as_ref().map_or(&[][..], |jwt| &jwt.issuers);
    issuer::judge_roles(issuers, &proxy.roles, reader);
    issuer::judge_binding(issuers, !proxy.client_certificates.is_empty(), reader);
    introspection::judge_roles(&proxy.auth.introspection, issuers.len(), &proxy.roles, reader);
    proxy.auth.basic = basic::read(root.table("basic", basic::KEYS), &proxy.roles, reader);
    proxy.auth.api_keys = api_keys::read(root.table("api_keys", api_keys::KEYS));
}

/// Routes, what they refer to besides upstreams, and what upstreams are told of clients.
fn routes(
    proxy: &mut Proxy,
    upstreams: &[upstream::NamedUpstream],
    (root, guard): (&Table<'_>, &Guard),
    reader: &Reader<'_>,
) {
    proxy.cors = cors::read(root.named_tables("cors", cors::KEYS), reader);
    proxy.wafs = waf::read(root.named_tables("waf", waf::KEYS), reader);
    let methods = proxy.methods();
    proxy.apis = api::read(root.named_tables("api", api::KEYS), &methods);
    let known = route::RouteReferences {
        apis: &proxy.apis,
        upstreams,
        roles: &proxy.roles,
        methods: &methods,
        tokens: methods.iter().any(|method| method.is_token()),
        timeouts: &proxy.timeouts,
        certificates: !proxy.client_certificates.is_empty(),
        cors: &proxy.cors,
        wafs: &proxy.wafs,
        sources: &proxy.sources,
        feeds: &guard.feeds,
        geo: &proxy.geo,
        issuers: proxy.auth.jwt.as_ref().map_or(0, |jwt| jwt.issuers.len()),
        trusted_proxies: &proxy.trust.proxies,
    };
    proxy.routes = route::read(root.tables("route", route::KEYS), &known, reader);
    waf::judge(proxy, reader);
    api::warn_of_unused(&proxy.apis, |api| proxy.routes.iter().any(|route| route.api == Some(api)), reader);
    proxy.identity_headers =
        identity_headers::read(root.table("identity_headers", identity_headers::KEYS), &methods, reader);
    proxy.internal_token = internal_token::read(root.table("internal_token", internal_token::KEYS), &methods, reader);
    if let Some(token) = &proxy.internal_token {
        internal_token::judge(token, &proxy.identity_headers, &proxy.listeners, reader);
    }
    identity_headers::judge_routes(&proxy.own_headers(), &proxy.routes, reader);
    sources::warn_of_unused(&proxy.sources, &proxy.routes, reader);
}

/// Keeps of tokens what conditions of routes ask for, and what upstreams are told.
fn keep_claims(proxy: &mut Proxy) {
    let conditions = proxy.routes.iter().flat_map(|route| {
        let of_conditions = route.allow_if.iter().flat_map(Expression::claims);
        route.claims.iter().map(|condition| &condition.path).chain(of_conditions)
    });
    let told = proxy.identity_headers.iter().flat_map(IdentityHeader::claims);
    let told = told.chain(proxy.internal_token.iter().flat_map(|token| &token.claims));
    proxy.auth.keep(&conditions.chain(told).collect::<Vec<_>>());
}

/// How much clients may ask for, and who is served first.
fn limits(proxy: &mut Proxy, (root, guard): (&Table<'_>, &Guard), reader: &Reader<'_>) {
    proxy.cluster = cluster::read(root.table("cluster", cluster::KEYS), reader);
    proxy.limits.sharing = proxy.cluster.as_ref().map(|cluster| Sharing {
        nodes: u64::try_from(cluster.nodes.len()).unwrap_or(u64::MAX).max(1),
        place: (0..).zip(&cluster.nodes).find(|(_, node)| node.name == cluster.node).map_or(0, |(place, _)| place),
        secret: cluster.secret.clone(),
    });
    let known = limit::LimitReferences {
        is_in_cluster: root.has("cluster"),
        routes: &proxy.routes,
        geo: &proxy.geo,
        ja4: has_ja4(proxy),
        kernel: limit::clamp::PacketLimits::of(guard),
    };
    proxy.limits.limits = limit::read(root.named_or_listed_tables("limit", limit::KEYS), &known, reader);
    let quotas = quota::read(root.named_tables("quota", quota::KEYS), &proxy.limits.limits, &known, reader);
    proxy.limits.limits.extend(quotas);
    proxy.bandwidth = bandwidth::read(root.named_tables("bandwidth", bandwidth::KEYS), &known, reader);
    let plans = root.named_tables("plan", plan::KEYS);
    let known = plan::PlanReferences {
        limits: &proxy.limits.limits,
        bandwidth: &proxy.bandwidth,
        roles: &proxy.roles,
        packet_limit: guard.packet_limit,
        with_keys: proxy.auth.api_keys.is_some(),
    };
    proxy.limits.plans = plan::read(plans, &known, reader);
    proxy.bandwidth.follow(&proxy.limits.plans);
    let connection_limits = root.named_tables("connection_limit", connection_limit::KEYS);
    proxy.connection_limits = connection_limit::read(connection_limits, reader);
    let known = priority::PriorityReferences { plans: &proxy.limits.plans, roles: &proxy.roles, routes: &proxy.routes };
    proxy.priority.classes = priority::read(root.named_tables("priority", priority::KEYS), &known, reader);
    proxy.priority.overload = overload::read(root.table("overload", overload::KEYS));
    let bandwidth = [&proxy.bandwidth.upload, &proxy.bandwidth.download];
    let claims = proxy.limits.claims().chain(bandwidth.into_iter().flat_map(|it| it.claims()));
    proxy.auth.keep(&claims.collect::<Vec<_>>());
}

/// Whether a listener reads the fingerprint of TLS clients.
fn has_ja4(proxy: &Proxy) -> bool {
    proxy.listeners.iter().any(|listener| listener.tls.as_ref().is_some_and(|tls| tls.ja4))
}
