//! Decides what the two processes are told: `[guard]`, `[proxy]` and `[timeouts]`, and the configuration as a whole.

use std::{num::NonZero, ops::RangeInclusive, path::Path, thread, time::Duration};

use gateway_common::source::Source;
use toml::de::{DeTable, DeValue};

use super::{
    Config, Document, Errors, Files, cors, policy, route, safety, service,
    table::{Reader, Table},
    tls, upstream,
    value::{self, Wrong},
};
use crate::{
    fault::Fault,
    settings::{
        guard::{Mode, Safety, Scope, Settings as Guard, SourceLimit, SynCookies},
        proxy::{ClientHeader, HeadLimits, Settings as Proxy, Trust},
        timeouts::Timeouts,
        validate::Formats,
    },
};

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3_600);

/// The default of `guard.state_dir`.
pub(super) const STATE_DIR: &str = "/var/lib/gateway";

/// The default of `guard.control_socket`.
pub(super) const CONTROL_SOCKET: &str = "/run/gateway/control.sock";

/// The default of `guard.pin_dir`.
pub(super) const PIN_DIR: &str = "/sys/fs/bpf/gateway";

/// The longest ban that ends, ten years of 365 days: sums of it and any clock stay far from overflowing.
pub(super) const LONGEST_BAN: Duration = Duration::from_secs(3_650 * 86_400);

/// Where the kernel's map file system is mounted on every distribution.
const BPFFS: &str = "/sys/fs/bpf";

/// Reads the whole configuration.
pub(super) fn read(document: &Document, files: &dyn Files) -> Result<Config, Errors> {
    let parsed = DeTable::parse(document.text()).map_err(|error| {
        Errors::from_faults(document, vec![Fault::new("", format!("not TOML: {}", error.message()))])
    })?;
    let reader = Reader::new(document, files);
    let mut root = Table::root(&reader, parsed.get_ref());

    let mut guard = guard(root.table("guard"), &reader);
    guard.feeds = policy::feeds(root.tables("feed"));
    let proxy = proxy(&mut root, &guard, &reader);
    guard.trusted_proxies.clone_from(&proxy.trust.proxies);
    guard.shadow_address_limit = proxy.address_limit.is_some_and(|limit| limit.shadow);
    policy::guessing(&proxy, &reader);
    root.finish();

    let (faults, warnings) = reader.finish();
    if !faults.is_empty() {
        return Err(Errors::new(document.clone(), faults));
    }
    Ok(Config { guard, proxy, document: document.clone(), warnings })
}

fn guard(mut table: Table<'_>, reader: &Reader<'_>) -> Guard {
    let interfaces = table.list("interfaces", interface);
    for (index, (key, name)) in interfaces.iter().enumerate() {
        if interfaces.iter().take(index).any(|(_, earlier)| earlier == name) {
            reader.report(Fault::new(key, format!("{name:?} is there already")).hint("name each interface once"));
        }
    }
    let hint = "write an address or a prefix: \"192.0.2.7\", \"192.0.2.0/24\", \"2001:db8::/32\"";
    let allow = table.list("allow", value::parsed::<Source>(hint));
    let mut guard = Guard {
        interfaces: interfaces.into_iter().map(|(_, name)| name).collect(),
        mode: table.or(
            "mode",
            Mode::Auto,
            value::choice(&[("auto", Mode::Auto), ("generic", Mode::Generic), ("native", Mode::Native)]),
        ),
        scope: table.or(
            "scope",
            Scope::Listeners,
            value::choice(&[("host", Scope::Host), ("listeners", Scope::Listeners)]),
        ),
        state_dir: table.path("state_dir").unwrap_or_else(|| STATE_DIR.into()),
        control_socket: table.path("control_socket").unwrap_or_else(|| CONTROL_SOCKET.into()),
        pin_dir: table.path("pin_dir").unwrap_or_else(|| PIN_DIR.into()),
        allow: allow.into_iter().map(|(_, source)| source).collect(),
        trusted_proxies: Vec::new(),
        ipv6_prefix: table.or("ipv6_prefix", gateway_common::source::IPV6_PREFIX, value::integer(1..=64)),
        widest_ipv4: table.or("widest_ipv4", 16, value::integer(1..=32)),
        widest_ipv6: table.or("widest_ipv6", 32, value::integer(1..=128)),
        max_bans: table.or("max_bans", 1_000_000, value::integer(1..=16_777_216)),
        // Longest-prefix tries of more than two million prefixes stall the kernel while they are freed.
        max_rules: table.or("max_rules", 131_072, value::integer(1..=2_000_000)),
        max_sources: table.or("max_sources", 131_072, value::integer(1_024..=16_777_216)),
        max_bans_per_minute: table.or("max_bans_per_minute", 60, value::integer(1..=1_000_000)),
        pass_malformed: table.or("pass_malformed", false, value::boolean),
        packet_limit: source_limit(table.table("packet_limit"), "packets", "20000", value::integer(UNITS), 1),
        byte_limit: source_limit(table.table("byte_limit"), "bytes", "\"10MiB\"", value::size_in(BYTES), FRAME),
        syn_limit: source_limit(table.table("syn_limit"), "syns", "100", value::integer(UNITS), 1),
        syn_cookies: syn_cookies(table.table("syn_cookies")),
        default_ban: table.or("default_ban", HOUR, value::duration_in(SECOND..=LONGEST_BAN)),
        safety: Safety::default(),
        feeds: Vec::new(),
        shadow_address_limit: false,
    };
    guard.safety = safety::read(&mut table, guard.ipv6_prefix, guard.widest_ipv6);
    if guard.widest_ipv6 > guard.ipv6_prefix {
        let message = format!("{} leaves no IPv6 client that could be banned", guard.widest_ipv6);
        let hint = format!("write at most {}, which is `guard.ipv6_prefix`", guard.ipv6_prefix);
        table.report("widest_ipv6", Wrong::new(message).hint(hint));
    }
    // `sun_path` holds 108 bytes, the last of which is zero.
    if guard.control_socket.as_os_str().len() > 107 {
        table.report(
            "control_socket",
            Wrong::new("is longer than the 107 bytes that a socket's path may have").hint("choose a shorter path"),
        );
    }
    pin_dir(&guard.pin_dir, &table, reader);
    table.finish();
    guard
}

fn pin_dir(path: &Path, table: &Table<'_>, reader: &Reader<'_>) {
    let Ok(below) = path.strip_prefix(BPFFS) else {
        let warning = Fault::new(table.key("pin_dir"), format!("is not below {BPFFS}"));
        reader.warn(warning.hint("make sure that a file system of type bpf is mounted there"));
        return;
    };
    if below.as_os_str().is_empty() {
        let wrong = Wrong::new("is the root of bpffs, which other programs share");
        table.report("pin_dir", wrong.hint(format!("write a folder of its own: \"{BPFFS}/gateway\"")));
    } else if below.as_os_str().to_string_lossy().contains('.') {
        let wrong = Wrong::new("has a dot in it, which bpffs refuses in names");
        table.report("pin_dir", wrong.hint(format!("write a name without dots: \"{BPFFS}/gateway\"")));
    }
}

/// How many of anything a second's limit may be.
const UNITS: RangeInclusive<u64> = 1..=1_000_000_000;
/// As [`UNITS`], of bytes: up to a terabit.
const BYTES: RangeInclusive<u64> = 1..=1 << 37;
/// The largest packet that the kernel program is given: a smaller burst would never let it pass.
const FRAME: u64 = 65_536;

fn source_limit(
    mut table: Table<'_>,
    unit: &'static str,
    example: &str,
    read: impl Fn(&DeValue<'_>) -> Result<u64, Wrong>,
    least_burst: u64,
) -> Option<SourceLimit> {
    if !table.is_present() {
        return None;
    }
    let per_second = table.required(unit, example, &read);
    let burst = table.optional("burst", &read);
    let shadow = table.or("shadow", false, value::boolean);
    let limit = per_second.map(|per_second| SourceLimit {
        per_second,
        burst: burst.unwrap_or_else(|| per_second.max(least_burst)),
        shadow,
    });
    if let Some(limit) = limit
        && limit.burst < least_burst
    {
        let message = format!("{} is less than one packet may have", limit.burst);
        table.report("burst", Wrong::new(message).hint(format!("write at least {least_burst}, or leave it out")));
    }
    table.finish();
    limit
}

fn syn_cookies(mut table: Table<'_>) -> Option<SynCookies> {
    if !table.is_present() {
        return None;
    }
    let per_second = table.required("per_second", "1000", value::integer(UNITS));
    let burst = table.optional("burst", value::integer(UNITS));
    table.finish();
    let per_second = per_second?;
    Some(SynCookies { per_second, burst: burst.unwrap_or(per_second) })
}

/// What the kernel takes as the name of an interface (`dev_valid_name`).
fn interface(value: &DeValue<'_>) -> Result<String, Wrong> {
    let name = value::line(value)?;
    let bad = name.len() > 15 || matches!(name.as_str(), "." | "..");
    if bad || name.contains(|letter: char| letter == '/' || letter == ':' || letter.is_whitespace()) {
        return Err(Wrong::new(format!("{name:?} is no interface")).hint("`ip link` lists the interfaces' names"));
    }
    Ok(name)
}

fn proxy(root: &mut Table<'_>, guard: &Guard, reader: &Reader<'_>) -> Proxy {
    let mut table = root.table("proxy");
    let user = table.or("user", "gateway".to_owned(), user);
    let workers = table.or("workers", 0, value::count(0..=1_024));
    let workers = if workers == 0 { thread::available_parallelism().map_or(1, NonZero::get) } else { workers };
    let pin_workers = table.or("pin_workers", false, value::boolean);
    let access_log = table.path("access_log");
    let drain = table.or("drain", 30 * SECOND, value::duration_in(Duration::ZERO..=HOUR));
    let max_connections = table.or("max_connections", 20_000, value::count(1..=10_000_000));
    let max_connections_per_source = table.or("max_connections_per_source", 1_000, value::count(1..=10_000_000));
    let max_memory = table.or("max_memory", 2 << 30, value::size_in((64 << 20)..=(1 << 50)));
    let max_body = table.or("max_body", 1 << 20, value::size_in(0..=route::LARGEST_BODY));
    let head = head_limits(&mut table);
    let trust = trust(&mut table);
    table.finish();

    let timeouts = timeouts(root.table("timeouts"));
    let roles = policy::roles(root.table("roles"), reader);
    let certificates = tls::certificates(root.tables("certificate"), reader);
    let client_certificates = tls::client_certificates(root.named_tables("client_certificates"), &roles, reader);
    let known = tls::Known { client_certificates: &client_certificates, certificates: root.has("certificate") };
    let listeners = service::listeners(root.tables("listener"), root, &known, &trust, reader);
    tls::warn(&listeners, &client_certificates, !certificates.is_empty(), reader);
    let upstreams = upstream::upstreams(root.named_tables("upstream"), reader);
    let jwt = policy::jwt(root.table("jwt"));
    let address_limit = policy::address_limit(root.table("limit"));
    let cors = cors::groups(root.named_tables("cors"), reader);
    let routes = root.tables("route");
    let known = route::Known {
        upstreams: &upstreams,
        roles: &roles,
        jwt: jwt.is_some(),
        timeouts: &timeouts,
        certificates: !client_certificates.is_empty(),
        cors: &cors,
    };
    let routes = route::routes(routes, &known, reader);
    let detect = policy::detect(root.table("detect"), root.tables("rule"), reader);
    let mut validate = root.table("validate");
    let known = [("annotate", Formats::Annotate), ("strict", Formats::Strict)];
    let formats = validate.or("formats", Formats::default(), value::choice(&known));
    validate.finish();
    Proxy {
        user,
        workers,
        pin_workers,
        access_log,
        drain,
        max_connections,
        max_connections_per_source,
        max_memory,
        max_body,
        head,
        trust,
        ipv6_prefix: guard.ipv6_prefix,
        timeouts,
        listeners,
        certificates,
        client_certificates,
        upstreams: upstreams.into_iter().map(|upstream| upstream.settings).collect(),
        cors,
        routes,
        jwt,
        roles,
        address_limit,
        formats,
        detect,
    }
}

/// How large a request's head may be.
fn head_limits(table: &mut Table<'_>) -> HeadLimits {
    // Fewer would refuse what browsers send with their cookies.
    let bytes = table.or("max_header_bytes", 16 << 10, value::size_in((8 << 10)..=(1 << 20)));
    let headers = table.or("max_headers", 100, value::count(20..=HeadLimits::MOST_HEADERS));
    let longest = u64::try_from(HeadLimits::LONGEST_TARGET).unwrap_or(u64::MAX);
    let target = table.or("max_target", 8 << 10, value::size_in((1 << 10)..=longest));
    if target > bytes {
        let wrong = Wrong::new("is more than the whole head may have");
        table.report("max_target", wrong.hint("raise `max_header_bytes`, too, or write less"));
    }
    let size = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
    HeadLimits { bytes: size(bytes), headers, target: size(target) }
}

/// Whose word about clients is taken.
fn trust(table: &mut Table<'_>) -> Trust {
    let hint = "write an address or a prefix: \"10.0.0.2\", \"10.0.0.0/24\", \"2001:db8::/48\"";
    let proxies = table.list("trusted_proxies", |value| {
        let source: Source = value::parsed(hint)(value)?;
        let least = if source.address().is_ipv4() { 8 } else { 16 };
        if source.length() < least {
            let wrong = Wrong::new(format!("{source} is about everybody, and whoever is trusted says who they are"));
            return Err(wrong.hint("name the addresses of your load balancers alone"));
        }
        Ok(source)
    });
    let headers = [
        ("x-forwarded-for", Some(ClientHeader::XForwardedFor)),
        ("forwarded", Some(ClientHeader::Forwarded)),
        ("none", None),
    ];
    let header = table.or("client_header", Some(ClientHeader::XForwardedFor), value::choice(&headers));
    if proxies.is_empty() && table.has("client_header") {
        let wrong = Wrong::new("is read of trusted proxies alone, and there are none");
        table.report("client_header", wrong.hint("add `trusted_proxies = [\"10.0.0.2\"]`, or leave it out"));
    }
    Trust { proxies: proxies.into_iter().map(|(_, source)| source).collect(), header }
}

fn timeouts(mut table: Table<'_>) -> Timeouts {
    let mut seconds =
        |name, default: u32| table.or(name, default * SECOND, value::duration_in(Duration::from_millis(10)..=HOUR));
    let defaults = Timeouts {
        handshake: seconds("handshake", 10),
        headers: seconds("headers", 10),
        idle: seconds("idle", 75),
        body: 30 * SECOND,
        least_rate: 240,
        connect: 5 * SECOND,
        response: 60 * SECOND,
        tunnel_idle: 300 * SECOND,
        tunnel: 24 * HOUR,
    };
    let timeouts = request_timeouts(&mut table, defaults);
    table.finish();
    timeouts
}

/// Those of a request, which a route can have of its own.
pub(super) fn request_timeouts(table: &mut Table<'_>, defaults: Timeouts) -> Timeouts {
    let least_rate = table.or("least_rate", defaults.least_rate, value::size_in(0..=(1 << 20)));
    let mut one = |name, default| table.or(name, default, value::duration_in(Duration::from_millis(10)..=HOUR));
    Timeouts {
        body: one("body", defaults.body),
        least_rate,
        connect: one("connect", defaults.connect),
        response: one("response", defaults.response),
        tunnel_idle: one("tunnel_idle", defaults.tunnel_idle),
        tunnel: table.or("tunnel", defaults.tunnel, value::duration_in(SECOND..=168 * HOUR)),
        ..defaults
    }
}

/// A user that is not root.
fn user(value: &DeValue<'_>) -> Result<String, Wrong> {
    const HINT: &str = "write the name or the number of a user without rights, as a string: \"gateway\"";
    let user = value::line(value).map_err(|wrong| wrong.hint(HINT))?;
    if user == "root" || user.parse::<u32>().is_ok_and(|number| number == 0) {
        return Err(Wrong::new("is root; the proxy reads bytes from the network and gets no rights").hint(HINT));
    }
    if user.contains([':', '/', ' ']) {
        return Err(Wrong::new(format!("{user:?} is no user")).hint(HINT));
    }
    Ok(user)
}
