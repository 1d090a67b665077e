//! Health checks: each server is asked at an interval, once per process. A server that is suspected because requests
//! failed is probed, too.
//!
//! *Invariant:* a check resolves and connects as requests do ([`Dialer`]): a name that cannot be resolved any more does not
//! make servers unhealthy that requests still reach.

use std::{io, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    task::JoinSet,
    time::{MissedTickBehavior, interval, timeout},
};

use crate::{
    os::clock,
    proxy::{
        timing::deadline,
        upstream::{
            connection::{
                dial::{Dialer, is_ours},
                tls::{Alpn, describe},
            },
            http2,
            server::SharedUpstream,
        },
    },
    settings::upstream::{HealthCheck, Protocol, ProxyProtocol, Upstream},
};

/// The most bytes that are read for a status line, with the interim responses before it.
const MOST: usize = 16 * 1_024;

/// `User-Agent` of health checks.
const AGENT: &str = "gateway-health";

/// The timeout of a probe, without a configured health check.
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);

/// How often ejections are looked at: whether one is over.
const TICK: Duration = Duration::from_millis(100);

/// Starts the health checks and the ends of ejections for one upstream. They stop with what is returned. Health checks stay
/// on this thread.
#[must_use]
pub(in crate::proxy) fn watch(upstream: &SharedUpstream) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    let state = &upstream.state;
    let settings = &state.settings;
    if settings.ejection.is_some() || !settings.slow_start.is_zero() {
        let state = Arc::clone(state);
        tasks.spawn(async move {
            let mut tick = interval(TICK);
            tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                tick.tick().await;
                state.tick(clock::monotonic());
            }
        });
    }
    let Some(check) = &settings.health else { return tasks };
    for (index, server) in settings.servers.iter().enumerate() {
        let (state, check, address) = (Arc::clone(state), check.clone(), server.address.clone());
        let dialer = upstream.dialer(&address);
        tasks.spawn_local(async move {
            let mut tick = interval(check.interval);
            tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
            // A server is healthy until checks say otherwise; those before may have.
            let (mut healthy, mut against) = (!state.is_down(index), 0);
            loop {
                tick.tick().await;
                // Nothing else tells the time here, by which addresses grow old.
                let now = clock::monotonic();
                deadline::tick(now);
                // A name may have moved since the last check. A name server that is slow fails none.
                let _late = timeout(check.timeout / 2, dialer.refreshed(now)).await;
                let asked = ask(&check, &dialer, &state.settings);
                let answer =
                    timeout(check.timeout, asked).await.unwrap_or_else(|_late| Err(io::ErrorKind::TimedOut.into()));
                let found = matches!(&answer, Ok(status) if check.expects(*status));
                against = if found == healthy { 0 } else { against + 1 };
                if against < if healthy { check.unhealthy } else { check.healthy } {
                    continue;
                }
                (healthy, against) = (found, 0);
                state.judge(index, healthy, clock::monotonic());
                let upstream = &state.settings.name;
                match answer {
                    Ok(status) if healthy => {
                        tracing::info!(upstream, server = address, status, "server is healthy again")
                    }
                    Ok(status) => tracing::warn!(upstream, server = address, status, "server is unhealthy"),
                    Err(error) => {
                        let error = describe(&error);
                        tracing::warn!(upstream, server = address, %error, "server is unhealthy");
                    }
                }
            }
        });
    }
    tasks
}

/// Whether a server answers a probe after requests to it failed.
pub(in crate::proxy::upstream) async fn answers(dialer: &Dialer, settings: &Upstream) -> bool {
    let usual = || HealthCheck {
        path: "/".to_owned(),
        host: None,
        expect: Vec::new(),
        interval: Duration::ZERO,
        timeout: PROBE_TIMEOUT,
        healthy: 1,
        unhealthy: 1,
    };
    let check = settings.health.clone().unwrap_or_else(usual);
    match timeout(check.timeout, ask(&check, dialer, settings)).await {
        // Nobody configured this path, so any status will do that does not say that the server is broken.
        Ok(Ok(status)) if settings.health.is_none() => !matches!(status, 500 | 502..=504),
        Ok(Ok(status)) => check.expects(status),
        Ok(Err(error)) => is_ours(&error),
        Err(_late) => false,
    }
}

/// The status of the answer.
async fn ask(check: &HealthCheck, dialer: &Dialer, settings: &Upstream) -> io::Result<u16> {
    let introduction: &[u8] = match settings.proxy_protocol {
        None => b"",
        Some(ProxyProtocol::V1) => b"PROXY UNKNOWN\r\n",
        Some(ProxyProtocol::V2) => b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0",
    };
    let host = check.host.as_deref().unwrap_or(&dialer.name);
    let offer = match settings.protocol {
        Protocol::Auto => Alpn::Any,
        Protocol::Http1 => Alpn::Http1,
        Protocol::Http2 => Alpn::Http2,
    };
    let (mut stream, _address) = dialer.dial(introduction, offer).await?;
    if stream.is_http2(offer) {
        let scheme = if dialer.is_secure() { "https" } else { "http" };
        let request = http::Request::get(format!("{scheme}://{host}{}", check.path)).header("user-agent", AGENT);
        return http2::check(stream, request.body(()).map_err(io::Error::other)?).await;
    }
    let request =
        format!("GET {} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: {AGENT}\r\nConnection: close\r\n\r\n", check.path);
    stream.write_all(request.as_bytes()).await?;
    stream.flush().await?;
    let mut read = Vec::new();
    while final_line(&read).is_none() && read.len() < MOST {
        if stream.read_buf(&mut read).await? == 0 {
            break;
        }
    }
    let line = final_line(&read).unwrap_or(&read);
    status(line).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "no HTTP/1.1 status line"))
}

/// The status line behind the interim responses (RFC 9110 15.2). `None`: not all of it has come.
fn final_line(mut read: &[u8]) -> Option<&[u8]> {
    loop {
        let (line, _) = read.split_at(read.iter().position(|&byte| byte == b'\n')? + 1);
        if !matches!(status(line), Some(100 | 102..200)) {
            return Some(line);
        }
        let end = read.windows(4).position(|end| end == b"\r\n\r\n")?;
        read = read.get(end + 4..)?;
    }
}

/// `HTTP/1.1 200 OK` (RFC 9112 4).
fn status(line: &[u8]) -> Option<u16> {
    let rest = line.strip_prefix(b"HTTP/1.1 ").or_else(|| line.strip_prefix(b"HTTP/1.0 "))?;
    let (code, after) = rest.split_at_checked(3)?;
    let ends = matches!(after.first(), Some(b' ' | b'\r' | b'\n'));
    if !ends || !code.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(code).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_lines() {
        for (line, expect) in [
            ("HTTP/1.1 200 OK\r\n", Some(200)),
            ("HTTP/1.0 503\r\n", Some(503)),
            ("HTTP/1.1 204 \r\n", Some(204)),
            ("HTTP/1.1 20\r\n", None),
            ("HTTP/1.1 2000 OK\r\n", None),
            ("HTTP/1.1 +20 OK\r\n", None),
            ("HTTP/2 200\r\n", None),
            ("", None),
        ] {
            assert_eq!(status(line.as_bytes()), expect, "{line:?}");
        }
    }

    #[test]
    fn interim_responses_are_passed_over() {
        let hints = "HTTP/1.1 103 Early Hints\r\nLink: </a>; rel=preload\r\n\r\n";
        let good = "HTTP/1.1 200 OK\r\n";
        for (read, expect) in [
            (String::new(), None),
            ("HTTP/1.1 2".to_owned(), None),
            (good.to_owned() + "Server: x\r\n", Some(good)),
            (hints.trim_end().to_owned(), None),
            (hints.to_owned(), None),
            (hints.repeat(2) + good, Some(good)),
            ("HTTP/1.1 101 \r\n".to_owned(), Some("HTTP/1.1 101 \r\n")),
            ("no\n".to_owned() + good, Some("no\n")),
        ] {
            assert_eq!(final_line(read.as_bytes()), expect.map(str::as_bytes), "{read:?}");
        }
    }
}
