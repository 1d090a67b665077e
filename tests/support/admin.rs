//! A client of the admin listener: one connection for each request, over TCP, TLS or a Unix socket.

use std::{
    io::{self, Read, Write},
    net::TcpStream,
    os::unix::net::UnixStream,
    path::Path,
};

use crate::{http1::TIMEOUT, world::World};

/// Where the admin listener of most tests is.
pub const ADDRESS: &str = "127.0.0.1:9901";

/// `[admin]` at [`ADDRESS`].
pub const TABLE: &str = "[admin]\naddress = \"127.0.0.1:9901\"\n";

/// One answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The head, with its first line.
    pub head: String,
    /// The body.
    pub body: Vec<u8>,
}

impl Answer {
    /// The body as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// Asks for `path` with more lines of the head, which end with `\r\n`.
///
/// # Errors
/// As the connection; `InvalidData` if what comes is no answer.
pub fn ask(stream: impl Read + Write, path: &str, more: &str) -> io::Result<Answer> {
    exchange(stream, &format!("GET {path}"), more, "")
}

/// Has a command carried out by whoever has `token`: `POST /v1/NAME` with JSON.
///
/// # Errors
/// As [`ask`].
pub fn command(stream: impl Read + Write, name: &str, token: &str, arguments: &str) -> io::Result<Answer> {
    let more = format!("Authorization: Bearer {token}\r\nContent-Length: {}\r\n", arguments.len());
    exchange(stream, &format!("POST /v1/{name}"), &more, arguments)
}

fn exchange(mut stream: impl Read + Write, line: &str, more: &str, body: &str) -> io::Result<Answer> {
    let host = if more.to_lowercase().contains("host:") { "" } else { "Host: localhost\r\n" };
    stream.write_all(format!("{line} HTTP/1.1\r\n{host}Connection: close\r\n{more}\r\n{body}").as_bytes())?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes)?;
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").ok_or(io::ErrorKind::InvalidData)?;
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or(io::ErrorKind::InvalidData)?;
    Ok(Answer { status, head, body: bytes[end + 4..].to_vec() })
}

/// Asks at [`ADDRESS`], from the gateway's own host.
///
/// # Errors
/// As [`ask`].
pub fn get(world: &World, path: &str, more: &str) -> io::Result<Answer> {
    ask(connect(world)?, path, more)
}

/// A connection to [`ADDRESS`] from the gateway's own host.
///
/// # Errors
/// Nobody listens.
pub fn connect(world: &World) -> io::Result<TcpStream> {
    let stream = world.gate.enter(|| TcpStream::connect(ADDRESS))?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    Ok(stream)
}

/// Asks at a Unix socket.
///
/// # Errors
/// As [`ask`].
pub fn at_socket(socket: &Path, path: &str) -> io::Result<Answer> {
    let stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    ask(stream, path, "")
}

/// The value of a row of a text of metrics, labels and all.
#[must_use]
pub fn value(text: &str, row: &str) -> Option<f64> {
    text.lines().find_map(|line| line.strip_prefix(row)?.strip_prefix(' ')?.parse().ok())
}
