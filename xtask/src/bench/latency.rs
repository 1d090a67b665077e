//! Measures latency: one client asks every millisecond, over one connection, and waits for the answer. What a proxy
//! adds is what it takes longer than asking the upstream itself.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};

/// How often is asked.
const EVERY: Duration = Duration::from_millis(1);

/// Microseconds that each answer took from whoever listens on `port`, for so many seconds.
pub(super) fn sample(port: u16, seconds: u32) -> anyhow::Result<Vec<f64>> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).context("latency")?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let request = format!("GET /items/7?limit=10 HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n");
    let (start, mut took) = (Instant::now(), Vec::new());
    let mut next = start;
    while start.elapsed() < Duration::from_secs(seconds.into()) {
        let asked = Instant::now();
        stream.write_all(request.as_bytes())?;
        answer(&mut stream)?;
        took.push(asked.elapsed().as_secs_f64() * 1e6);
        next += EVERY;
        thread::sleep(next.saturating_duration_since(Instant::now()));
    }
    Ok(took)
}

/// Reads one answer to its end.
fn answer(stream: &mut TcpStream) -> anyhow::Result<()> {
    let (mut read, mut space) = (Vec::new(), [0; 4_096]);
    loop {
        let count = stream.read(&mut space)?;
        if count == 0 {
            bail!("latency: the connection ended");
        }
        read.extend_from_slice(space.get(..count).unwrap_or_default());
        let text = String::from_utf8_lossy(&read);
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        if !head.starts_with("HTTP/1.1 200") {
            bail!("latency: {}", head.lines().next().unwrap_or_default());
        }
        let length = head.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            value.trim().parse::<usize>().ok().filter(|_| name.eq_ignore_ascii_case("content-length"))
        });
        if length.is_some_and(|length| body.len() >= length) {
            return Ok(());
        }
    }
}

/// The value that so many of a hundred do not exceed.
pub(super) fn percentile(sample: &[f64], percent: usize) -> Option<f64> {
    let mut sorted = sample.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len().saturating_sub(1) * percent / 100).copied()
}
