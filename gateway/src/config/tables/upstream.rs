//! Reads `[upstream.NAME]`: the servers that answer.

use std::time::Duration;

use http::{HeaderName, HeaderValue};
use toml::de::DeValue;

use crate::{
    config::{
        reader::{Keys, Reader},
        table::Table,
        value::{
            self, address, closest,
            form::{Form, described},
            word::simple_name,
        },
    },
    diagnostic::Diagnostic,
    settings::upstream::{
        Balance, HashBy, HostHeader, Http2, InterimResponses, MAX_SERVERS, MAX_WEIGHT, Protocol, ProxyProtocol,
        Upstream, UpstreamServer,
    },
};

mod concurrency;
mod ejection;
mod health;
mod retry;
pub(super) mod tls;

/// The keys of `[upstream.NAME]`.
pub(super) const KEYS: Keys = &[
    ("servers", "The servers: `\"host:port\"`, or `{ address = \"host:port\", weight = 3 }`. At most 64."),
    ("balance", "How a server is chosen: in turn, the less busy of two, or the same server for the same `hash_by`."),
    ("hash_by", "With `balance = \"hash\"`: what decides the server."),
    ("host_header", "The `Host` that servers see: the client's, their own address, or this name."),
    ("max_idle", "The most idle connections that are kept, per server and worker."),
    ("idle", "How long an idle connection is kept. It should be shorter than the server's own idle timeout."),
    (
        "proxy_protocol",
        "The PROXY protocol version by which servers learn the client's address. Each connection then carries one request.",
    ),
    ("health", "Active health checks. Without this table servers are not checked."),
    ("ejection", "Passive health checks: servers that fail requests are left out for a while."),
    ("retry", "Which failed requests are tried again on another server."),
    ("slow_start", "A server that comes back gets a growing share of requests for this long."),
    ("when_down", "When no server is up: `refuse` answers 503, `try` uses all servers."),
    ("resolve", "How often host names are resolved again."),
    ("max_requests", "The most requests in flight, over all workers. More are answered 503. Without it: no limit."),
    ("max_pending", "The most requests that wait for a connection. More are answered 503. Without it: no limit."),
    (
        "concurrency",
        "The requests that wait for a response at once. `true`: found by how long responses take. Others wait for their \
         turn, by priority, and are answered 503 if it does not come.",
    ),
    ("tls", "`true`: TLS with the authorities that this system trusts. A table: TLS with these settings."),
    (
        "protocol",
        "The HTTP version that servers speak. `auto` needs TLS and takes what the server chooses, HTTP/2 first.",
    ),
    ("http2", "Connections by HTTP/2, for `protocol = \"http2\"` and `\"auto\"`."),
    (
        "interim_responses",
        "Interim responses such as 103 (Early Hints): `forward` sends them to clients of HTTP/1.1 and HTTP/2, `http2` to \
         clients of HTTP/2 only, `drop` to none.",
    ),
];

/// The keys of `[upstream.NAME.http2]`.
const HTTP2_KEYS: Keys = &[
    ("connections", "The most connections per server and worker. When all are full, requests wait."),
    ("streams", "The most requests at once on one connection, unless the server allows fewer."),
    ("ping", "How often an idle connection is checked with a PING. Without it: only when in doubt."),
    ("ping_timeout", "A connection without an answer to a PING is closed after this time."),
];

/// An upstream and the key of its table.
pub(super) struct NamedUpstream {
    pub(super) key: String,
    pub(super) settings: Upstream,
}

pub(super) fn read(tables: Vec<(String, Table<'_>)>, reader: &Reader<'_>) -> Vec<NamedUpstream> {
    let mut upstreams = Vec::new();
    for (name, table) in tables {
        let key = table.own_key().to_owned();
        if let Err(wrong) = simple_name(&name) {
            reader.report(wrong.at(&key));
        }
        let servers = servers(&table, reader);
        let balance = balance(&table);
        let host_header = table.or(
            "host_header",
            HostHeader::Client,
            described("`\"client\"`, `\"server\"`, or a name", host_header).written(|_| "\"client\"".to_owned()),
        );
        let max_idle = table.or("max_idle", 64, value::count(0..=10_000));
        let (shortest, longest) = (Duration::from_millis(10), Duration::from_secs(3_600));
        let idle = table.or("idle", Duration::from_secs(30), value::duration_in(shortest..=longest));
        let versions = [("v1", ProxyProtocol::V1), ("v2", ProxyProtocol::V2)];
        let proxy_protocol = table.optional("proxy_protocol", value::choice(&versions));
        let health = health::read(table.table("health", health::KEYS));
        let ejection = ejection::read(table.table("ejection", ejection::KEYS));
        let retry = retry::read(table.table("retry", retry::KEYS));
        let slow_start = table.or("slow_start", Duration::ZERO, value::duration_in(Duration::ZERO..=longest));
        let try_when_down = table.or("when_down", false, value::choice(&[("refuse", false), ("try", true)]));
        let resolve =
            table.or("resolve", Duration::from_secs(5), value::duration_in(Duration::from_millis(100)..=longest));
        let max_requests = table.optional("max_requests", value::integer(1..=1_000_000)).unwrap_or(u32::MAX);
        let max_pending = table.optional("max_pending", value::integer(1..=1_000_000)).unwrap_or(u32::MAX);
        let concurrency = concurrency::read(&table);
        let tls = tls::read(&table, reader);
        let protocol = protocol(&table, tls.is_some());
        let http2 = http2(&table, protocol);
        let interim_responses = interim_responses(&table);
        table.finish();
        let settings = Upstream {
            name,
            servers,
            host_header,
            balance,
            health,
            ejection,
            slow_start,
            try_when_down,
            resolve,
            retry,
            max_requests,
            max_pending,
            concurrency,
            proxy_protocol,
            max_idle,
            idle,
            protocol,
            http2,
            interim_responses,
            tls,
        };
        upstreams.push(NamedUpstream { key, settings });
    }
    upstreams
}

/// What servers are spoken to by; `tls`: whether by TLS.
fn protocol(table: &Table<'_>, tls: bool) -> Protocol {
    let known = [("auto", Protocol::Auto), ("http1", Protocol::Http1), ("http2", Protocol::Http2)];
    let protocol = table.or("protocol", Protocol::Http1, value::choice(&known));
    if protocol == Protocol::Auto && !tls && !table.has("tls") {
        let wrong = Diagnostic::bare("is \"auto\", which needs TLS");
        table.report("protocol", wrong.hint("write \"http1\" or \"http2\", or `tls = true` beside it"));
    }
    protocol
}

fn interim_responses(table: &Table<'_>) -> InterimResponses {
    let known =
        [("forward", InterimResponses::Forward), ("http2", InterimResponses::Http2), ("drop", InterimResponses::Drop)];
    table.or("interim_responses", InterimResponses::Forward, value::choice(&known))
}

fn http2(table: &Table<'_>, protocol: Protocol) -> Http2 {
    let default = Http2::default();
    let http2 = table.table("http2", HTTP2_KEYS);
    if http2.is_present() && protocol == Protocol::Http1 {
        let wrong = Diagnostic::bare("has no effect without HTTP/2");
        table.report("http2", wrong.hint("write `protocol = \"http2\"` or \"auto\" beside it, or leave it out"));
    }
    let (second, hour) = (Duration::from_secs(1), Duration::from_secs(3_600));
    let connections = http2.or("connections", default.connections, value::count(1..=1_000));
    let streams = http2.or("streams", default.streams, value::integer(1..=1_000));
    let ping = http2.optional("ping", value::duration_in(second..=hour));
    let ping_timeout =
        http2.or("ping_timeout", default.ping_timeout, value::duration_in(Duration::from_millis(100)..=hour));
    http2.finish();
    Http2 { connections, streams, ping, ping_timeout }
}

/// `"client"`, `"server"`, or a host with or without a port.
fn host_header(value: &DeValue<'_>) -> Result<HostHeader, Diagnostic> {
    const HINT: &str = "write \"client\", \"server\", or a name: \"items.internal\", \"items.internal:9000\"";
    let text = value::text(value)?;
    match text {
        "client" => return Ok(HostHeader::Client),
        "server" => return Ok(HostHeader::Server),
        _ => {}
    }
    let has_port = text.rsplit_once(':').is_some_and(|(host, _)| !text.ends_with(']') && !host.contains("://"));
    let host = if has_port { address::server(text) } else { address::host(text) };
    let host = host.map_err(|wrong| wrong.hint(HINT))?;
    HeaderValue::try_from(host)
        .map(HostHeader::Literal)
        .map_err(|_no_value| Diagnostic::bare("is not a host name").hint(HINT))
}

fn servers(table: &Table<'_>, reader: &Reader<'_>) -> Vec<UpstreamServer> {
    let servers = table.required_list("servers", "[\"127.0.0.1:9000\"]", described("`\"host:port\"` or table", server));
    for (index, (key, server)) in servers.iter().enumerate() {
        let address = &server.address;
        if servers.iter().take(index).any(|(_, earlier)| earlier.address == *address) {
            reader.report(Diagnostic::new(key, format!("{address:?} is listed twice")).hint("name each server once"));
        }
        if index == MAX_SERVERS {
            let diagnostic = Diagnostic::new(key, format!("there are more than {MAX_SERVERS} servers"));
            reader.report(diagnostic.hint("give their name in DNS several addresses, or use another upstream"));
        }
    }
    servers.into_iter().map(|(_, server)| server).collect()
}

/// `"host:port"`, or `{ address = "host:port", weight = 3 }`.
fn server(value: &DeValue<'_>) -> Result<UpstreamServer, Diagnostic> {
    const KEYS: [&str; 2] = ["address", "weight"];
    let DeValue::Table(table) = value else {
        return Ok(UpstreamServer { address: address::server(value::text(value)?)?, weight: 1 });
    };
    if let Some(unknown) = table.keys().map(|key| &**key.get_ref()).find(|key| !KEYS.contains(key)) {
        let wrong = Diagnostic::bare(format!("`{unknown}` is unknown"));
        return Err(match closest(unknown, KEYS) {
            Some(near) => wrong.hint(format!("did you mean `{near}`?")),
            None => wrong.hint("known here: address, weight"),
        });
    }
    let Some(address) = table.get("address") else {
        return Err(Diagnostic::bare("has no `address`").hint("write { address = \"127.0.0.1:9000\", weight = 3 }"));
    };
    let weight = table.get("weight").map(|weight| value::integer(1..=MAX_WEIGHT).read(weight.get_ref())).transpose();
    let weight = weight.map_err(|wrong| Diagnostic { message: format!("weight: {}", wrong.message), ..wrong })?;
    Ok(UpstreamServer { address: address::server(value::text(address.get_ref())?)?, weight: weight.unwrap_or(1) })
}

fn balance(table: &Table<'_>) -> Balance {
    let known = [("round_robin", 0), ("least_requests", 1), ("hash", 2)];
    let chosen = table.or("balance", 0, value::choice(&known));
    if chosen != 2 && table.has("hash_by") {
        let hint = "write `balance = \"hash\"` beside it, or leave it out";
        table.report("hash_by", Diagnostic::bare("has no effect without balance = \"hash\"").hint(hint));
    }
    let by = table.or(
        "hash_by",
        HashBy::Source,
        described("`\"source\"`, `\"path\"` or `\"header:NAME\"`", hash_by).written(|_| "\"source\"".to_owned()),
    );
    match chosen {
        0 => Balance::RoundRobin,
        1 => Balance::LeastRequests,
        _ => Balance::Hash(by),
    }
}

fn hash_by(value: &DeValue<'_>) -> Result<HashBy, Diagnostic> {
    let text = value::text(value)?;
    let wrong =
        || Diagnostic::bare(format!("{text:?} is unknown")).hint("write \"source\", \"path\" or \"header:x-tenant\"");
    match text {
        "source" => Ok(HashBy::Source),
        "path" => Ok(HashBy::Path),
        _ => {
            let name = text.strip_prefix("header:").ok_or_else(wrong)?;
            HeaderName::try_from(name).map(HashBy::Header).map_err(|_no_name| wrong())
        }
    }
}
