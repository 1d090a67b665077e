//! Reads lines of HAProxy's format for HTTP (`option httplog`).

use std::net::IpAddr;

use crate::{cli::replay::record::Record, text::digits};

/// How many times an HTTP request has: `Tq/Tw/Tc/Tr/Tt`. Connections without HTTP have three.
const TIMES: usize = 5;

/// `10.0.1.2:33317 [06/Feb/2009:12:14:14.655] http-in static/srv1 10/0/30/69/109 200 2750 - - ---- 1/1/1/1/0 0/0
/// {1wt.eu} {} "GET /index.html HTTP/1.1"`, or the same behind what syslog puts in front. HAProxy cuts a long line, and the
/// closing quote with it.
pub(super) fn read(line: &str) -> Option<Record> {
    let (before, rest) = line.split_once(" [")?;
    let (time, rest) = rest.split_once("] ")?;
    let (address, port) = before.rsplit(' ').next()?.rsplit_once(':')?;
    let _port: u16 = digits::decimal(port)?;
    let client: IpAddr = address.trim_start_matches('[').trim_end_matches(']').parse().ok()?;
    // It has no zone. Times of one log are of one zone, so that they are as far from each other in any.
    let time = jiff::fmt::strtime::parse("%d/%b/%Y:%H:%M:%S%.f", time).ok()?.to_datetime().ok()?;
    let time = jiff::tz::TimeZone::UTC.to_timestamp(time).ok()?;
    let mut words = rest.split(' ');
    let (_frontend, _server, times) = (words.next()?, words.next()?, words.next()?);
    if times.split('/').count() != TIMES {
        return None;
    }
    // The client left before there was an answer.
    let status = words.next().map(|status| if status == "-1" { "0" } else { status });
    let (_, request) = rest.split_once(" \"")?;
    let request = request.split('"').next().unwrap_or_default();
    Record::of_text(time, client, request, digits::decimal(status?)?)
}
