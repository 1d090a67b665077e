//! One line of an access log, whatever wrote it: JSON lines of the gateway, the Elastic Common Schema, JSON of nginx's
//! variables, or the combined format of Apache and nginx.

use std::net::IpAddr;

use serde_json::{Map, Value};

use crate::{signal::Signal, text::digits, web::request_id::RequestId};

/// What is known of one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    /// When it began: milliseconds since the Unix epoch.
    pub(super) time: u64,
    pub(super) client: IpAddr,
    pub(super) path: Option<String>,
    pub(super) agent: Option<String>,
    pub(super) ja4: Option<String>,
    /// Who proved to have sent it.
    pub(super) principal: Option<String>,
    pub(super) route: Option<String>,
    pub(super) upstream: Option<String>,
    pub(super) limit: Option<String>,
    pub(super) status: u16,
    pub(super) id: Option<RequestId>,
    /// A gateway wrote it: it says what it refused, and why.
    pub(super) is_ours: bool,
    pub(super) what: What,
}

/// What the line says about its source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    /// An upstream has answered: the status tells.
    Answered,
    /// Nothing: the gateway refused it for no fault of the client, or its client had left.
    Nothing,
    /// The gateway's own word.
    Signal(Signal),
}

/// Reads a line; `None`: it is none of an access log.
pub(super) fn read(line: &str) -> Option<Record> {
    if line.trim_start().starts_with('{') { json(&serde_json::from_str(line).ok()?) } else { combined(line) }
}

// Names of members: the gateway's own first, then those of the Elastic Common Schema, then nginx's variables.
const AGENT: &[&str] = &["user_agent", "user_agent.original", "user-agent", "header_user_agent", "http_user_agent"];
const CLIENT: &[&str] = &["client", "source.ip", "client.ip", "source.address", "remote_addr"];
const PATH: &[&str] = &["path", "url.path"];
const PRINCIPAL: &[&str] = &["principal", "user.name", "user.hash", "remote_user"];
const STATUS: &[&str] = &["status", "http.response.status_code"];
const TARGET: &[&str] = &["uri", "url.original", "request_uri"];
const TIME: &[&str] = &["time", "@timestamp", "time_iso8601", "timestamp"];

fn json(members: &Map<String, Value>) -> Option<Record> {
    let text = |names: &[&str]| names.iter().find_map(|name| member(members, name)?.as_str());
    let owned = |names: &[&str]| text(names).filter(|text| !matches!(*text, "" | "-")).map(str::to_owned);
    let time: jiff::Timestamp = match text(TIME) {
        Some(time) => time.parse().ok()?,
        None => combined_time(text(&["time_local"])?)?,
    };
    // A line without a status says nothing of how the request ended.
    let status = STATUS.iter().find_map(|name| number(member(members, name)?))?;
    let signal = text(&["signal", "gateway.signal"]).and_then(named);
    let was_refused = text(&["reject", "gateway.reject"]).is_some();
    let id = text(&["id", "http.request.id"]).and_then(digits::hexadecimal).map(RequestId);
    // Other servers write ids of requests, too.
    let own = ["verdict", "gateway.verdict", "gateway.route", "gateway.upstream", "duration_us", "gateway.ja4"];
    let is_ours = was_refused || signal.is_some() || own.iter().any(|name| member(members, name).is_some());
    let target = text(TARGET).or_else(|| Some(text(&["request"])?.split(' ').nth(1).unwrap_or_default()));
    let path = owned(PATH).or_else(|| target.and_then(path_of));
    let answered = match () {
        () if was_refused => What::Nothing,
        () if is_ours && !matches!(status, 0 | 499) => What::Answered,
        () => of_others(status, path.is_some() || target.is_none()),
    };
    Some(Record {
        time: u64::try_from(time.as_millisecond()).ok()?,
        client: text(CLIENT)?.parse().ok()?,
        path,
        agent: owned(AGENT),
        ja4: owned(&["ja4", "gateway.ja4"]),
        principal: owned(PRINCIPAL),
        route: owned(&["route", "gateway.route"]),
        upstream: owned(&["upstream", "gateway.upstream"]),
        limit: owned(&["limit", "gateway.limit"]),
        status,
        id,
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

/// A status, as a number or as digits in a string.
fn number(value: &Value) -> Option<u16> {
    value.as_u64().map_or_else(|| digits::decimal(value.as_str()?), |number| u16::try_from(number).ok())
}

/// The path of a request target or URL, without its query.
fn path_of(target: &str) -> Option<String> {
    let from = match target.split_once("://") {
        Some((_, rest)) if !target.starts_with('/') => rest.get(rest.find('/')?..)?,
        _ => target,
    };
    let path = from.split(['?', '#']).next().unwrap_or(from);
    path.starts_with('/').then(|| path.to_owned())
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

/// What a status says where it is not said who answered. These are the server's own, by their meaning. `has_path`: the
/// request has one, or it is not known.
const fn of_others(status: u16, has_path: bool) -> What {
    match status {
        408 => What::Signal(Signal::SlowClient),
        413 | 414 | 431 => What::Signal(Signal::TooLarge),
        429 => What::Signal(Signal::OverLimit),
        400 if !has_path => What::Signal(Signal::BadRequest),
        0 | 499 => What::Nothing,
        _ => What::Answered,
    }
}

/// `10/Oct/2000:13:55:36 -0700`.
fn combined_time(text: &str) -> Option<jiff::Timestamp> {
    jiff::fmt::strtime::parse("%d/%b/%Y:%H:%M:%S %z", text).ok()?.to_timestamp().ok()
}

/// `192.0.2.1 - ada [10/Oct/2000:13:55:36 -0700] "GET /a?b HTTP/1.1" 200 123 "referrer" "agent"`, or the same behind the name
/// of a virtual host.
fn combined(line: &str) -> Option<Record> {
    let (first, rest) = line.split_once(' ')?;
    let (second, behind) = rest.split_once(' ')?;
    let (client, rest) = match (first.parse::<IpAddr>(), second.parse::<IpAddr>()) {
        (_, Ok(client)) => (client, behind.split_once(' ')?.1),
        (Ok(client), Err(_ident)) => (client, behind),
        (Err(_), Err(_)) => return None,
    };
    let (user, rest) = rest.split_once(" [")?;
    let (time, rest) = rest.split_once("] \"")?;
    let time = combined_time(time)?;
    let (request, rest) = quoted(rest)?;
    let mut words = rest.trim_start().split(' ');
    let status: u16 = digits::decimal(words.next()?)?;
    // Behind the bytes: the referrer, then the agent.
    let agent = rest.split_once(" \"").and_then(|(_, rest)| quoted(rest)).and_then(|(_referrer, rest)| {
        let (agent, _) = quoted(rest.trim_start().strip_prefix('"')?)?;
        Some(agent.to_owned())
    });
    let path = path_of(request.split(' ').nth(1).unwrap_or_default());
    Some(Record {
        time: u64::try_from(time.as_millisecond()).ok()?,
        client,
        what: of_others(status, path.is_some()),
        path,
        agent: agent.filter(|agent| agent != "-"),
        ja4: None,
        principal: Some(user).filter(|user| *user != "-").map(str::to_owned),
        route: None,
        upstream: None,
        limit: None,
        status,
        id: None,
        is_ours: false,
    })
}

/// What stands before the next quote that is not escaped, and what stands behind it.
fn quoted(text: &str) -> Option<(&str, &str)> {
    let mut is_escaped = false;
    let end = text.bytes().position(|byte| {
        let is_end = byte == b'"' && !is_escaped;
        is_escaped = byte == b'\\' && !is_escaped;
        is_end
    })?;
    Some((text.get(..end)?, text.get(end + 1..)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The time, the client, the path, the user agent, the principal, the status, and what it says.
    type Expected<'a> = (u64, &'a str, Option<&'a str>, Option<&'a str>, Option<&'a str>, u16, What);

    #[track_caller]
    fn check(line: &str, expect: Option<Expected<'_>>) {
        let read = read(line);
        let found = read.as_ref().map(|it| {
            let texts = (it.path.as_deref(), it.agent.as_deref(), it.principal.as_deref());
            (it.time, it.client.to_string(), texts, it.status, it.what)
        });
        let expect = expect.map(|(time, client, path, agent, principal, status, what)| {
            (time, client.to_owned(), (path, agent, principal), status, what)
        });
        assert_eq!(found, expect, "{line}");
    }

    #[test]
    fn each_format() {
        let of = |signal| What::Signal(signal);
        check(
            r#"{"time":"2025-11-24T16:00:00.123Z","id":"0a","client":"203.0.113.7","status":404,"path":"/a","principal":"ada"}"#,
            Some((1_764_000_000_123, "203.0.113.7", Some("/a"), None, Some("ada"), 404, What::Answered)),
        );
        check(
            r#"{"time":"2025-11-24T16:00:00.123Z","client":"2001:db8::7","status":401,"reject":"invalid_token","signal":"forged_token"}"#,
            Some((1_764_000_000_123, "2001:db8::7", None, None, None, 401, of(Signal::ForgedToken))),
        );
        check(
            r#"{"time":"2025-11-24T16:00:00.123Z","client":"203.0.113.7","status":503,"reject":"unavailable"}"#,
            Some((1_764_000_000_123, "203.0.113.7", None, None, None, 503, What::Nothing)),
        );
        check(
            r#"{"time":"2025-11-24T16:00:00.123Z","client":"203.0.113.7","status":404,"signal":"upstream_not_found"}"#,
            Some((1_764_000_000_123, "203.0.113.7", None, None, None, 404, What::Answered)),
        );
        check(
            r#"{"@timestamp":"2025-11-24T16:00:00.123Z","source.ip":"203.0.113.7","http.response.status_code":403,"url.path":"/b","user.name":"bob","user_agent.original":"curl","gateway.signal":"forbidden","gateway.reject":"forbidden"}"#,
            Some((1_764_000_000_123, "203.0.113.7", Some("/b"), Some("curl"), Some("bob"), 403, of(Signal::Forbidden))),
        );
        check(
            r#"203.0.113.7 - - [24/Nov/2025:17:00:00 +0100] "GET /a/b?c=d HTTP/1.1" 404 12 "-" "Mozilla \"5\" (x)""#,
            Some((
                1_764_000_000_000,
                "203.0.113.7",
                Some("/a/b"),
                Some("Mozilla \\\"5\\\" (x)"),
                None,
                404,
                What::Answered,
            )),
        );
        check(
            r#"::1 - ada [24/Nov/2025:16:00:00 +0000] "\x16\x03\x01" 400 0 "-" "-""#,
            Some((1_764_000_000_000, "::1", None, None, Some("ada"), 400, of(Signal::BadRequest))),
        );
        check(
            r#"10.0.0.1 - - [24/Nov/2025:16:00:00 +0000] "GET / HTTP/1.0" 429 0"#,
            Some((1_764_000_000_000, "10.0.0.1", Some("/"), None, None, 429, of(Signal::OverLimit))),
        );
        check(
            r#"www.example.com:443 203.0.113.7 - ada [24/Nov/2025:16:00:00 +0000] "GET /a HTTP/1.1" 404 12 "-" "x""#,
            Some((1_764_000_000_000, "203.0.113.7", Some("/a"), Some("x"), Some("ada"), 404, What::Answered)),
        );
        check(
            r#"10.0.0.1 203.0.113.7 - - [24/Nov/2025:16:00:00 +0000] "GET http://h/a?b HTTP/1.1" 404 12 "-" "x""#,
            Some((1_764_000_000_000, "203.0.113.7", Some("/a"), Some("x"), None, 404, What::Answered)),
        );
        for nonsense in ["", "{", "{}", "hello world", "a - - [x] \"GET\" 1", "\u{0}\u{1}", "1.1.1.1 - - [24/Nov/2025"]
        {
            check(nonsense, None);
        }
    }

    /// JSON of others: a status for each of these lines.
    #[test]
    fn json_of_others() {
        const TIME: u64 = 1_764_000_000_123;
        let of = |signal| What::Signal(signal);
        for (members, path, agent, status, what) in [
            // Filebeat and Elastic Agent.
            (
                r#""source":{"ip":"203.0.113.7"},"http":{"response":{"status_code":404}},"url":{"path":"/b"},"user_agent":{"original":"curl"}"#,
                Some("/b"),
                Some("curl"),
                404,
                What::Answered,
            ),
            (
                r#""source":{"address":"203.0.113.7"},"http":{"response.status_code":429},"url":{"original":"https://h/b?c"}"#,
                Some("/b"),
                None,
                429,
                of(Signal::OverLimit),
            ),
            (
                r#""source.ip":"203.0.113.7","http.response":{"status_code":"404"},"url.original":"/b?c""#,
                Some("/b"),
                None,
                404,
                What::Answered,
            ),
            (
                r#""client":{"ip":"203.0.113.7"},"http":{"response":{"status_code":401}},"gateway":{"signal":"forged_token"}"#,
                None,
                None,
                401,
                of(Signal::ForgedToken),
            ),
            // nginx, with strings alone.
            (
                r#""remote_addr":"203.0.113.7","remote_user":"","request":"GET /b?c HTTP/1.1","status":"408","http_user_agent":"-""#,
                Some("/b"),
                None,
                408,
                of(Signal::SlowClient),
            ),
            (
                r#""remote_addr":"203.0.113.7","request":"\\x16\\x03","status":400"#,
                None,
                None,
                400,
                of(Signal::BadRequest),
            ),
            (r#""remote_addr":"203.0.113.7","request_uri":"/b","status":499"#, Some("/b"), None, 499, What::Nothing),
        ] {
            let expect = Some((TIME, "203.0.113.7", path, agent, None, status, what));
            check(&format!("{{\"@timestamp\":\"2025-11-24T16:00:00.123Z\",{members}}}"), expect);
        }
        let local = r#"{"time_local":"24/Nov/2025:17:00:00 +0100","remote_addr":"203.0.113.7","status":"200"}"#;
        let read = (1_764_000_000_000, "203.0.113.7", None, None, None, 200, What::Answered);
        check(local, Some(read));
        // What has no status, or none that is one, says nothing of how a request ended.
        for status in ["", ",\"status\":null", ",\"status\":\"\"", ",\"status\":\"4x4\"", ",\"status\":70000"] {
            check(&format!("{{\"time\":\"2025-11-24T16:00:00Z\",\"client\":\"203.0.113.7\"{status}}}"), None);
        }
    }
}
