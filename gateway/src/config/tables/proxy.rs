//! Reads `[proxy]`: the process that serves requests.

use std::{collections::BTreeMap, num::NonZero, thread, time::Duration};

use gateway_common::source::Source;
use toml::de::DeValue;

use crate::{
    config::{
        reader::Keys,
        table::Table,
        value::{self, form::described},
    },
    diagnostic::Diagnostic,
    net::geo::Geo,
    settings::{
        access_log::{self, LogFile, Output},
        auth, authz, crawlers, detect,
        proxy::{self, ClientHeader, HeadLimits, Trust},
        timeouts::Timeouts,
        validate::{Details, Formats},
    },
};

/// The keys of `[proxy]`.
pub(super) const KEYS: Keys = &[
    ("user", "The user that the proxy runs as: a name, or a number as a string. Not root."),
    ("workers", "The number of worker threads. `0` means one per core."),
    ("pin_workers", "Whether each worker is bound to a core. Faster on a machine that does nothing else."),
    ("access_log", "Short for one `[[access_log.output]]` that is this file and that the gateway does not rotate."),
    ("drain", "How long requests in flight may take when the gateway stops or reloads."),
    (
        "stop_delay",
        "How long the gateway goes on serving when it stops, while `listener.health` and `/readyz` already answer 503.",
    ),
    ("max_connections", "The most client connections at once, over all workers."),
    ("max_connections_per_source", "The most connections of one source. Allowlisted sources may have any number."),
    (
        "max_memory",
        "The proxy's memory. Above it, idle connections are closed, then new ones, and requests are answered 503.",
    ),
    ("max_body", "The largest request body, where the route does not set its own."),
    ("max_header_bytes", "The largest request head in bytes."),
    ("max_headers", "The most header lines of a request, cookie crumbs of HTTP/2 included."),
    ("max_target", "The longest path and query. At most `max_header_bytes`."),
    (
        "trusted_proxies",
        "Load balancers in front of the gateway. Their word about the client's address is taken, and they are allowlisted.",
    ),
    ("client_header", "The header of trusted proxies that names the client. `none`: only the PROXY protocol names it."),
];

const SECOND: Duration = Duration::from_secs(1);

const HOUR: Duration = Duration::from_secs(3_600);

/// No body may be larger: it is measured in memory where a schema reads it.
pub(super) const LARGEST_BODY: u64 = 1 << 30;

/// The keys of `[proxy]`; what other tables say is filled in by [`super::read`].
pub(super) fn read(table: Table<'_>, timeouts: Timeouts, ipv6_prefix: u8) -> proxy::Settings {
    let user = table.or("user", "gateway".to_owned(), described("string", user).written(|user| format!("{user:?}")));
    let workers = table.or("workers", 0, value::count(0..=1_024));
    let workers = if workers == 0 { thread::available_parallelism().map_or(1, NonZero::get) } else { workers };
    let pin_workers = table.or("pin_workers", false, value::boolean());
    let access_log = short_access_log(&table);
    let drain = table.or("drain", 30 * SECOND, value::duration_in(Duration::ZERO..=HOUR));
    let stop_delay = table.or("stop_delay", Duration::ZERO, value::duration_in(Duration::ZERO..=HOUR));
    let max_connections = table.or("max_connections", 20_000, value::count(1..=10_000_000));
    let max_connections_per_source = table.or("max_connections_per_source", 1_000, value::count(1..=10_000_000));
    let max_memory = table.or("max_memory", 2 << 30, value::size_in((64 << 20)..=(1 << 50)));
    let max_body = table.or("max_body", 1 << 20, value::size_in(0..=LARGEST_BODY));
    let head = head_limits(&table);
    let trust = trust(&table);
    table.finish();
    proxy::Settings {
        user,
        workers,
        pin_workers,
        access_log,
        drain,
        stop_delay,
        max_connections,
        max_connections_per_source,
        max_memory,
        max_body,
        head,
        trust,
        ipv6_prefix,
        timeouts,
        listeners: Vec::new(),
        certificates: Vec::new(),
        client_certificates: Vec::new(),
        upstreams: Vec::new(),
        cors: Vec::new(),
        routes: Vec::new(),
        auth: auth::Settings::default(),
        identity_headers: Vec::new(),
        internal_token: None,
        geo: Geo::default(),
        sources: BTreeMap::new(),
        roles: authz::Settings::new(),
        limits: Default::default(),
        cluster: None,
        bandwidth: Default::default(),
        connection_limits: Default::default(),
        priority: Default::default(),
        formats: Formats::default(),
        details: Details::default(),
        schema_files: Vec::new(),
        apis: Vec::new(),
        wafs: Vec::new(),
        fast_lane: None,
        detect: detect::Settings::default(),
        crawlers: crawlers::Settings::default(),
    }
}

/// The access log, where `[access_log]` says nothing of outputs.
fn short_access_log(table: &Table<'_>) -> access_log::Settings {
    let mut settings = access_log::Settings::default();
    if let Some(path) = table.path("access_log") {
        settings.outputs = vec![Output::File(LogFile { path, rotate: None })];
    }
    settings
}

/// How large a request's head may be.
fn head_limits(table: &Table<'_>) -> HeadLimits {
    // Fewer would refuse what browsers send with their cookies.
    let bytes = table.or("max_header_bytes", 16 << 10, value::size_in((8 << 10)..=(1 << 20)));
    let headers = table.or("max_headers", 100, value::count(20..=HeadLimits::MOST_HEADERS));
    let longest = u64::try_from(HeadLimits::LONGEST_TARGET).unwrap_or(u64::MAX);
    let target = table.or("max_target", 8 << 10, value::size_in((1 << 10)..=longest));
    if target > bytes {
        let wrong = Diagnostic::bare("is more than `max_header_bytes`");
        table.report("max_target", wrong.hint("raise `max_header_bytes`, or write less"));
    }
    let size = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
    HeadLimits { bytes: size(bytes), headers, target: size(target) }
}

/// Whose word about clients is taken.
fn trust(table: &Table<'_>) -> Trust {
    let hint = "write an address or a prefix: \"10.0.0.2\", \"10.0.0.0/24\", \"2001:db8::/48\"";
    let proxies = table.list(
        "trusted_proxies",
        described("address or prefix", |value| {
            let source: Source = value::parsed(hint)(value)?;
            let least = if source.address().is_ipv4() { 8 } else { 16 };
            if source.length() < least {
                let wrong =
                    Diagnostic::bare(format!("{source} is too wide: whoever is trusted can claim to be any client"));
                return Err(wrong.hint("name the addresses of your load balancers alone"));
            }
            Ok(source)
        }),
    );
    let headers = [
        ("x-forwarded-for", Some(ClientHeader::XForwardedFor)),
        ("forwarded", Some(ClientHeader::Forwarded)),
        ("none", None),
    ];
    let header = table.or("client_header", Some(ClientHeader::XForwardedFor), value::choice(&headers));
    if proxies.is_empty() && table.has("client_header") {
        let wrong = Diagnostic::bare("needs trusted proxies, and there are none");
        table.report("client_header", wrong.hint("add `trusted_proxies = [\"10.0.0.2\"]`, or leave it out"));
    }
    Trust { proxies: proxies.into_iter().map(|(_, source)| source).collect(), header }
}

/// A user that is not root.
fn user(value: &DeValue<'_>) -> Result<String, Diagnostic> {
    const HINT: &str = "write the name or the number of a user without rights, as a string: \"gateway\"";
    let user = value::line(value).map_err(|wrong| wrong.hint(HINT))?;
    if user == "root" || user.parse::<u32>().is_ok_and(|number| number == 0) {
        return Err(Diagnostic::bare("is root, and the proxy must have no privileges").hint(HINT));
    }
    if user.contains([':', '/', ' ']) {
        return Err(Diagnostic::bare(format!("{user:?} is not a user name")).hint(HINT));
    }
    Ok(user)
}
