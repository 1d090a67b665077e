//! One line of an access log, whatever wrote it: JSON lines of the gateway, the Elastic Common Schema, or the combined format
//! of Apache and nginx.

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

fn json(members: &Map<String, Value>) -> Option<Record> {
    let text = |names: [&str; 2]| names.iter().find_map(|name| members.get(*name)?.as_str());
    let owned = |names| text(names).map(str::to_owned);
    let time: jiff::Timestamp = text(["time", "@timestamp"])?.parse().ok()?;
    let status = ["status", "http.response.status_code"].iter().find_map(|name| members.get(*name)?.as_u64());
    let status = u16::try_from(status.unwrap_or(0)).ok()?;
    let signal = text(["signal", "gateway.signal"]).and_then(named);
    let was_refused = text(["reject", "gateway.reject"]).is_some();
    let answered = if was_refused || status == 0 || status == 499 { What::Nothing } else { What::Answered };
    let principal = owned(["principal", "user.name"]).or_else(|| owned(["user.hash", "user.hash"]));
    Some(Record {
        time: u64::try_from(time.as_millisecond()).ok()?,
        client: text(["client", "source.ip"])?.parse().ok()?,
        path: owned(["path", "url.path"]).or_else(|| {
            let uri = text(["uri", "url.original"])?;
            Some(uri.split('?').next().unwrap_or(uri).to_owned())
        }),
        agent: owned(["user_agent", "user_agent.original"]).or_else(|| owned(["user-agent", "header_user_agent"])),
        ja4: owned(["ja4", "gateway.ja4"]),
        principal,
        route: owned(["route", "gateway.route"]),
        upstream: owned(["upstream", "gateway.upstream"]),
        limit: owned(["limit", "gateway.limit"]),
        status,
        id: text(["id", "http.request.id"]).and_then(digits::hexadecimal).map(RequestId),
        // What upstreams answer is judged again: whether it counts depends on the rules.
        what: match signal {
            Some(signal) if !is_of_upstream(signal) => What::Signal(signal),
            _ => answered,
        },
    })
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

/// `192.0.2.1 - ada [10/Oct/2000:13:55:36 -0700] "GET /a?b HTTP/1.1" 200 123 "referrer" "agent"`.
fn combined(line: &str) -> Option<Record> {
    let (client, rest) = line.split_once(' ')?;
    let (_ident, rest) = rest.split_once(' ')?;
    let (user, rest) = rest.split_once(" [")?;
    let (time, rest) = rest.split_once("] \"")?;
    let time = jiff::fmt::strtime::parse("%d/%b/%Y:%H:%M:%S %z", time).ok()?.to_timestamp().ok()?;
    let (request, rest) = quoted(rest)?;
    let mut words = rest.trim_start().split(' ');
    let status: u16 = digits::decimal(words.next()?)?;
    // Behind the bytes: the referrer, then the agent.
    let agent = rest.split_once(" \"").and_then(|(_, rest)| quoted(rest)).and_then(|(_referrer, rest)| {
        let (agent, _) = quoted(rest.trim_start().strip_prefix('"')?)?;
        Some(agent.to_owned())
    });
    let target = request.split(' ').nth(1).unwrap_or_default();
    let path = target.split('?').next().unwrap_or_default();
    Some(Record {
        time: u64::try_from(time.as_millisecond()).ok()?,
        client: client.parse().ok()?,
        path: path.starts_with('/').then(|| path.to_owned()),
        agent: agent.filter(|agent| agent != "-"),
        ja4: None,
        principal: Some(user).filter(|user| *user != "-").map(str::to_owned),
        route: None,
        upstream: None,
        limit: None,
        status,
        id: None,
        // Who answered is not said. These are the server's own, by their meaning.
        what: match status {
            408 => What::Signal(Signal::SlowClient),
            413 | 414 | 431 => What::Signal(Signal::TooLarge),
            429 => What::Signal(Signal::OverLimit),
            400 if !target.starts_with('/') => What::Signal(Signal::BadRequest),
            0 | 499 => What::Nothing,
            _ => What::Answered,
        },
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
        for nonsense in ["", "{", "{}", "hello world", "a - - [x] \"GET\" 1", "\u{0}\u{1}", "1.1.1.1 - - [24/Nov/2025"]
        {
            check(nonsense, None);
        }
    }
}
