//! The PROXY protocol, read from clients and written to upstreams: versions 1 and 2 of HAProxy's `proxy-protocol.txt`.
//!
//! *Invariant:* not a byte behind the header is read, and never more than [`MAX_V2`] bytes of it (T06).

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use tokio::{io::AsyncReadExt as _, net::TcpStream};

use crate::settings::upstream::ProxyProtocol;

/// What version 2 begins with.
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

/// The longest line of version 1, with its end.
const MAX_V1: usize = 107;

/// The most that version 2 may carry: addresses, and TLVs, which are ignored.
const MAX_V2: usize = 4_096;

/// Why no header was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::proxy) enum ReadError {
    /// Nothing came.
    Gone,
    /// The sender left in the middle of it.
    Left,
    Malformed,
}

/// Whoever has sent the first byte has begun a header.
impl From<io::Error> for ReadError {
    fn from(_gone: io::Error) -> Self {
        Self::Left
    }
}

/// Reads the header. `Ok(None)`: the sender speaks for itself (`LOCAL`, `UNKNOWN`).
pub(in crate::proxy) async fn read(stream: &mut TcpStream) -> Result<Option<SocketAddr>, ReadError> {
    let malformed = || ReadError::Malformed;
    let mut start = [0; SIGNATURE.len()];
    let Ok(begun @ 1..) = stream.read(&mut start).await else { return Err(ReadError::Gone) };
    stream.read_exact(start.get_mut(begun..).unwrap_or_default()).await?;
    if start == *SIGNATURE {
        let mut head = [0; 4];
        stream.read_exact(&mut head).await?;
        let [version, family, high, low] = head;
        let length = usize::from(u16::from_be_bytes([high, low]));
        if length > MAX_V2 {
            return Err(malformed());
        }
        let mut rest = vec![0; length];
        stream.read_exact(&mut rest).await?;
        return v2(version, family, &rest).ok_or_else(malformed);
    }
    if !start.starts_with(b"PROXY ") {
        return Err(malformed());
    }
    let mut line = start.to_vec();
    while !line.ends_with(b"\r\n") {
        let mut space = [0; MAX_V1];
        let room = space.get_mut(..MAX_V1.saturating_sub(line.len())).filter(|room| !room.is_empty());
        let room = room.ok_or_else(malformed)?;
        // Peek first: what follows the line must stay in the socket.
        let seen = stream.peek(room).await?;
        let end = room.iter().take(seen).position(|byte| *byte == b'\n').map_or(seen, |end| end + 1);
        let taken = stream.read(room.get_mut(..end).unwrap_or_default()).await?;
        if taken == 0 {
            return Err(ReadError::Left);
        }
        line.extend_from_slice(room.get(..taken).unwrap_or_default());
        if line.contains(&b'\n') && !line.ends_with(b"\r\n") {
            return Err(malformed());
        }
    }
    v1(line.strip_suffix(b"\r\n").unwrap_or_default()).ok_or_else(malformed)
}

/// `PROXY TCP4 192.0.2.7 10.0.0.1 40000 443`, without its end. `None`: malformed.
fn v1(line: &[u8]) -> Option<Option<SocketAddr>> {
    let mut words = std::str::from_utf8(line).ok()?.split(' ');
    let (proxy, family) = (words.next()?, words.next()?);
    if proxy != "PROXY" {
        return None;
    }
    if family == "UNKNOWN" {
        return Some(None);
    }
    let addresses: [IpAddr; 2] = [words.next()?.parse().ok()?, words.next()?.parse().ok()?];
    let ports = [port(words.next()?)?, port(words.next()?)?];
    let fits = match family {
        "TCP4" => addresses.iter().all(IpAddr::is_ipv4),
        "TCP6" => addresses.iter().all(IpAddr::is_ipv6),
        _ => false,
    };
    let ([source, _], [from, _]) = (addresses, ports);
    (fits && words.next().is_none()).then_some(Some(SocketAddr::new(source, from)))
}

/// A decimal number without leading zeros.
fn port(text: &str) -> Option<u16> {
    let plain = text.bytes().all(|digit| digit.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    plain.then(|| text.parse().ok()).flatten()
}

/// Reads version and family, the bytes after the signature, and what follows the length. `None`: malformed.
fn v2(version: u8, family: u8, rest: &[u8]) -> Option<Option<SocketAddr>> {
    match version {
        // LOCAL: a health check of the sender's own.
        0x20 => return Some(None),
        0x21 => {}
        _ => return None,
    }
    let address = match family {
        0x11 => {
            let (source, ports) = (rest.first_chunk::<4>()?, rest.get(8..12)?.first_chunk::<2>()?);
            SocketAddr::new(Ipv4Addr::from(*source).into(), u16::from_be_bytes(*ports))
        }
        0x21 => {
            let (source, ports) = (rest.first_chunk::<16>()?, rest.get(32..36)?.first_chunk::<2>()?);
            SocketAddr::new(Ipv6Addr::from(*source).into(), u16::from_be_bytes(*ports))
        }
        // Not TCP: no client of ours uses it.
        _ => return None,
    };
    Some(Some(address))
}

/// The header that tells an upstream of `client`, who reached us at `local`.
pub(in crate::proxy) fn write(version: ProxyProtocol, client: SocketAddr, local: SocketAddr) -> Vec<u8> {
    let (source, target) = (client.ip().to_canonical(), local.ip().to_canonical());
    // One family for both: an IPv4 client behind an IPv6 relay is written as a mapped IPv6 address.
    let (source, target) = match (source, target) {
        (IpAddr::V4(_), IpAddr::V4(_)) | (IpAddr::V6(_), IpAddr::V6(_)) => (source, target),
        (source, target) => (IpAddr::V6(mapped(source)), IpAddr::V6(mapped(target))),
    };
    match version {
        ProxyProtocol::V1 => {
            let family = if source.is_ipv4() { "TCP4" } else { "TCP6" };
            format!("PROXY {family} {source} {target} {} {}\r\n", client.port(), local.port()).into_bytes()
        }
        ProxyProtocol::V2 => {
            let mut header = SIGNATURE.to_vec();
            match (source, target) {
                (IpAddr::V4(source), IpAddr::V4(target)) => {
                    header.extend_from_slice(&[0x21, 0x11, 0, 12]);
                    header.extend_from_slice(&source.octets());
                    header.extend_from_slice(&target.octets());
                }
                (source, target) => {
                    header.extend_from_slice(&[0x21, 0x21, 0, 36]);
                    header.extend_from_slice(&mapped(source).octets());
                    header.extend_from_slice(&mapped(target).octets());
                }
            }
            header.extend_from_slice(&client.port().to_be_bytes());
            header.extend_from_slice(&local.port().to_be_bytes());
            header
        }
    }
}

const fn mapped(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt as _;

    use super::*;

    /// What is read of `bytes`, and what is left behind it.
    fn received(bytes: &[u8]) -> Result<(Option<String>, Vec<u8>), ReadError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let mut sender = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
            let (mut stream, _) = listener.accept().await.unwrap();
            sender.write_all(bytes).await.unwrap();
            drop(sender);
            let read = read(&mut stream).await?;
            let mut rest = Vec::new();
            stream.read_to_end(&mut rest).await.unwrap();
            Ok((read.map(|address| address.to_string()), rest))
        })
    }

    #[track_caller]
    fn check(header: &[u8], expect: Option<Option<&str>>) {
        let bytes = [header, b"GET / HTTP/1.1\r\n"].concat();
        let expect = expect.map(|address| (address.map(str::to_owned), b"GET / HTTP/1.1\r\n".to_vec()));
        assert_eq!(received(&bytes), expect.ok_or(ReadError::Malformed), "{:?}", header.escape_ascii().to_string());
    }

    #[test]
    fn t06_lines() {
        check(b"PROXY TCP4 203.0.113.7 10.0.0.1 40000 443\r\n", Some(Some("203.0.113.7:40000")));
        check(b"PROXY TCP6 2001:db8::7 ::1 40000 443\r\n", Some(Some("[2001:db8::7]:40000")));
        check(b"PROXY UNKNOWN\r\n", Some(None));
        check(b"PROXY UNKNOWN ffff::1 ffff::2 65535 65535\r\n", Some(None));
        for wrong in [
            "PROXY TCP4 203.0.113.7 10.0.0.1 40000 443\n",
            "PROXY TCP4 203.0.113.7 10.0.0.1 40000\r\n",
            "PROXY TCP4 203.0.113.7 10.0.0.1 40000 443 1\r\n",
            "PROXY TCP4 203.0.113.7 10.0.0.1 +4000 443\r\n",
            "PROXY TCP4 203.0.113.7 10.0.0.1 04000 443\r\n",
            "PROXY TCP4 203.0.113.7 10.0.0.1 70000 443\r\n",
            "PROXY TCP4  203.0.113.7 10.0.0.1 40000 443\r\n",
            "PROXY TCP4 2001:db8::7 ::1 40000 443\r\n",
            "PROXY TCP6 203.0.113.7 10.0.0.1 40000 443\r\n",
            "PROXY UDP4 203.0.113.7 10.0.0.1 40000 443\r\n",
            "proxy TCP4 203.0.113.7 10.0.0.1 40000 443\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        ] {
            check(wrong.as_bytes(), None);
        }
        check(format!("PROXY UNKNOWN {}\r\n", "x".repeat(200)).as_bytes(), None);
        for (sent, expect) in [
            (&b""[..], ReadError::Gone),
            (b"\r\n\r\n", ReadError::Left),
            (b"PROXY TCP4 203.0.113.7 10", ReadError::Left),
            (b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\x01", ReadError::Left),
        ] {
            assert_eq!(received(sent), Err(expect), "{:?}", sent.escape_ascii().to_string());
        }
    }

    #[test]
    fn t06_binary() {
        let client = "203.0.113.7:40000".parse().unwrap();
        let good = write(ProxyProtocol::V2, client, "10.0.0.1:443".parse().unwrap());
        check(&good, Some(Some("203.0.113.7:40000")));
        check(
            &write(ProxyProtocol::V2, client, "[::1]:443".parse().unwrap()),
            Some(Some("[::ffff:203.0.113.7]:40000")),
        );
        check(&write(ProxyProtocol::V1, client, "10.0.0.1:443".parse().unwrap()), Some(Some("203.0.113.7:40000")));
        let with = |at: usize, byte: u8| {
            let mut bytes = good.clone();
            bytes[at] = byte;
            bytes
        };
        check(&[&SIGNATURE[..], &[0x20, 0, 0, 0]].concat(), Some(None));
        // TLVs are skipped.
        check(&[with(15, 15), vec![4, 0, 0]].concat(), Some(Some("203.0.113.7:40000")));
        check(&with(12, 0x11), None);
        check(&with(12, 0x22), None);
        check(&with(13, 0x12), None);
        check(&with(13, 0x31), None);
        check(&[&SIGNATURE[..], &[0x21, 0x11, 0, 8], &[0; 8]].concat(), None);
        check(&[&SIGNATURE[..], &[0x21, 0x11, 0xff, 0xff], &[0; 70_000]].concat(), None);
    }
}
