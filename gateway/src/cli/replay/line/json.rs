//! Reads JSON lines: members are known by the names that the servers give them.

use std::net::{IpAddr, SocketAddr};

use serde_json::{Map, Value};

use super::combined;
use crate::{
    cli::replay::record::{Record, What, of_others, path_of},
    refusal::Reject,
    signal::Signal,
    text::digits,
    web::request_id::RequestId,
};

// Names of members: the gateway's own first, then those of the Elastic Common Schema, of nginx's variables, of Caddy and of
// Envoy.
const AGENT: &[&str] = &[
    "user_agent",
    "user_agent.original",
    "user-agent",
    "header_user_agent",
    "http_user_agent",
    "request.headers.User-Agent",
];
const CLIENT: &[&str] = &[
    "client",
    "source.ip",
    "client.ip",
    "source.address",
    "remote_addr",
    "request.client_ip",
    "request.remote_ip",
    "downstream_remote_address",
];
const PATH: &[&str] = &["path", "url.path"];
const PRINCIPAL: &[&str] = &["principal", "user.name", "user.hash", "remote_user", "user_id"];
const STATUS: &[&str] = &["status", "http.response.status_code", "response_code"];
const TARGET: &[&str] = &["uri", "url.original", "request_uri", "request.uri"];
const TIME: &[&str] = &["time", "@timestamp", "time_iso8601", "timestamp", "ts", "start_time", "msec", "time_local"];

/// What the gateway alone writes.
const OURS: [&str; 7] = [
    "gateway.ja4",
    "gateway.listener",
    "gateway.reject",
    "gateway.route",
    "gateway.signal",
    "gateway.upstream",
    "gateway.verdict",
];

/// What it writes beside `time` and `client`. Others may have members of these names.
const OURS_AMONG: [&str; 4] = ["duration_us", "reject", "signal", "verdict"];

/// Reads an object; `None`: it is no line of an access log.
pub(super) fn read(members: &Map<String, Value>) -> Option<Record> {
    let text = |names: &[&str]| names.iter().find_map(|name| text(member(members, name)?));
    let owned = |names: &[&str]| text(names).filter(|text| !matches!(*text, "" | "-")).map(str::to_owned);
    let time = TIME.iter().find_map(|name| moment(member(members, name)?))?;
    // A line without a status says nothing of how the request ended.
    let status = STATUS.iter().find_map(|name| number(member(members, name)?))?;
    let signal = text(&["signal", "gateway.signal"]).and_then(named);
    let reject = text(&["reject", "gateway.reject"]);
    let has = |names: &[&str]| names.iter().any(|name| member(members, name).is_some());
    let is_ours = signal.is_some()
        || Reject::ALL.into_iter().any(|known| reject == Some(known.row().label))
        || has(&OURS)
        || members.contains_key("time") && members.contains_key("client") && has(&OURS_AMONG);
    // Other servers write ids of requests, too.
    let id = text(&["id", "http.request.id"]).filter(|_| is_ours);
    let target = text(TARGET).or_else(|| Some(text(&["request"])?.split(' ').nth(1).unwrap_or_default()));
    let path = owned(PATH).map(|path| path_of(&path).unwrap_or(path)).or_else(|| target.and_then(path_of));
    let answered = match () {
        () if is_ours && reject.is_some() => What::Nothing,
        () if is_ours && !matches!(status, 0 | 499) => What::Answered,
        () => of_others(status, path.is_some() || target.is_none()),
    };
    Some(Record {
        time: u64::try_from(time.as_millisecond()).ok()?,
        client: address(text(CLIENT)?)?.to_canonical(),
        path,
        agent: owned(AGENT),
        ja4: owned(&["ja4", "gateway.ja4"]),
        principal: owned(PRINCIPAL),
        route: owned(&["route", "gateway.route"]),
        upstream: owned(&["upstream", "gateway.upstream"]),
        limit: owned(&["limit", "gateway.limit"]),
        status,
        id: id.and_then(digits::hexadecimal).map(RequestId),
        is_ours,
        // What upstreams answer is judged again: whether it counts depends on the rules.
        what: match signal {
            Some(signal) if !is_of_upstream(signal) => What::Signal(signal),
            _ => answered,
        },
    })
}

/// The member of a dotted name: as it stands, or in objects within objects, as shippers of logs write it.
fn member<'a>(members: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    let within = |(at, _): (usize, &str)| {
        let (outer, inner) = (name.get(..at)?, name.get(at + 1..)?);
        member(members.get(outer)?.as_object()?, inner)
    };
    members.get(name).or_else(|| name.match_indices('.').find_map(within))
}

/// A text, or the first of several: a header may be there more than once.
fn text(value: &Value) -> Option<&str> {
    value.as_str().or_else(|| value.as_array()?.first()?.as_str())
}

/// A status, as a number or as digits in a string.
fn number(value: &Value) -> Option<u16> {
    value.as_u64().map_or_else(|| digits::decimal(value.as_str()?), |number| u16::try_from(number).ok())
}

/// A time: RFC 3339, as the combined format has it, or seconds or milliseconds since the Unix epoch.
fn moment(value: &Value) -> Option<jiff::Timestamp> {
    let said = text(value);
    if let Some(time) = said.and_then(|said| said.parse().ok().or_else(|| combined::moment(said))) {
        return Some(time);
    }
    let number = value.as_f64().or_else(|| said?.parse().ok()).filter(|number| number.is_finite())?;
    // As seconds, these would be thousands of years from now.
    let seconds = if number.abs() >= 1e11 { number / 1_000.0 } else { number };
    // A float of today is off by some ten-millionths: half a microsecond more, and no millisecond is lost.
    let since = jiff::SignedDuration::try_from_secs_f64(seconds + 5e-7).ok()?;
    jiff::Timestamp::from_duration(since).ok()
}

/// An address, with or without a port.
fn address(text: &str) -> Option<IpAddr> {
    text.parse().ok().or_else(|| Some(text.parse::<SocketAddr>().ok()?.ip()))
}

fn named(name: &str) -> Option<Signal> {
    Signal::ALL.into_iter().find(|signal| signal.name() == name)
}

const fn is_of_upstream(signal: Signal) -> bool {
    matches!(
        signal,
        Signal::Served
            | Signal::UpstreamError
            | Signal::UpstreamForbidden
            | Signal::UpstreamNotFound
            | Signal::UpstreamUnauthorized
    )
}
