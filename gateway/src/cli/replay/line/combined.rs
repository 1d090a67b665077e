//! Reads lines of the combined format, as Apache and nginx write them.

use std::net::IpAddr;

use crate::{cli::replay::record::Record, text::digits};

/// `192.0.2.1 - ada [10/Oct/2000:13:55:36 -0700] "GET /a?b HTTP/1.1" 200 123 "referrer" "agent"`, or the same behind the name
/// of a virtual host.
pub(super) fn read(line: &str) -> Option<Record> {
    let (first, rest) = line.split_once(' ')?;
    let (second, behind) = rest.split_once(' ')?;
    let (client, rest) = match (first.parse::<IpAddr>(), second.parse::<IpAddr>()) {
        (_, Ok(client)) => (client, behind.split_once(' ')?.1),
        (Ok(client), Err(_ident)) => (client, behind),
        (Err(_), Err(_)) => return None,
    };
    let (user, rest) = rest.split_once(" [")?;
    let (time, rest) = rest.split_once("] \"")?;
    let time = moment(time)?;
    let (request, rest) = quoted(rest)?;
    let mut words = rest.trim_start().split(' ');
    let status: u16 = digits::decimal(words.next()?)?;
    // Behind the bytes: the referrer, then the agent.
    let agent = rest.split_once(" \"").and_then(|(_, rest)| quoted(rest)).and_then(|(_referrer, rest)| {
        let (agent, _) = quoted(rest.trim_start().strip_prefix('"')?)?;
        Some(agent.to_owned())
    });
    Some(Record {
        agent: agent.filter(|agent| agent != "-"),
        principal: Some(user).filter(|user| *user != "-").map(str::to_owned),
        ..Record::of_text(time, client, request, status)?
    })
}

/// `10/Oct/2000:13:55:36 -0700`.
pub(super) fn moment(text: &str) -> Option<jiff::Timestamp> {
    jiff::fmt::strtime::parse("%d/%b/%Y:%H:%M:%S %z", text).ok()?.to_timestamp().ok()
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
