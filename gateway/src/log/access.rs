//! One line of the access log: one JSON object, written by hand into a buffer.
//!
//! *Invariant:* whatever a client sent stands in it escaped; query strings, tokens and bodies never do.

use std::{
    cell::Cell,
    io::Write as _,
    net::{IpAddr, SocketAddr},
};

use jiff::Timestamp;

use crate::request_id::RequestId;

/// The longest text of a client that a line takes over, in bytes.
const MAX_TEXT: usize = 2_048;

/// What one request, or one connection that never came to one, was.
#[derive(Clone, Copy, Debug)]
pub struct Line<'a> {
    /// When it began, milliseconds since the Unix epoch.
    pub unix_millis: u64,
    /// Its name in every log.
    pub id: RequestId,
    /// Who.
    pub client: SocketAddr,
    /// The trusted proxy that named the client.
    pub relay: Option<IpAddr>,
    /// Where it came in.
    pub listener: SocketAddr,
    /// `HTTP/1.1`, `HTTP/2.0`.
    pub protocol: Option<&'a str>,
    /// `TLSv1.3`, `TLSv1.2`.
    pub tls: Option<&'a str>,
    /// The JA4 fingerprint of the client's hello.
    pub ja4: Option<&'a str>,
    /// The host, as the target has it.
    pub host: Option<&'a str>,
    /// The method.
    pub method: Option<&'a str>,
    /// The path, without its query.
    pub path: Option<&'a str>,
    /// The id that a trusted proxy gave the request.
    pub request_id: Option<&'a str>,
    /// What was answered; 0: nothing.
    pub status: u16,
    /// The label of the refusal.
    pub reject: Option<&'a str>,
    /// Why it was refused.
    pub detail: Option<&'a str>,
    /// What it says about the source.
    pub signal: Option<&'a str>,
    /// Who it was, if a token said so.
    pub principal: Option<&'a str>,
    /// The template of the route.
    pub route: Option<&'a str>,
    /// Who answered.
    pub upstream: Option<&'a str>,
    /// Bytes of the body that were received.
    pub bytes_in: u64,
    /// Bytes of the body that were sent.
    pub bytes_out: u64,
    /// How long it took, in microseconds.
    pub duration_us: u64,
}

impl Line<'_> {
    /// Appends the line.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"time\":\"");
        time(self.unix_millis, out);
        out.extend_from_slice(b"\",\"id\":\"");
        id(self.id, out);
        out.extend_from_slice(b"\",\"client\":\"");
        address(self.client.ip().to_canonical(), out);
        out.extend_from_slice(b"\",\"client_port\":");
        number(u64::from(self.client.port()), out);
        if let Some(relay) = self.relay {
            out.extend_from_slice(b",\"relay\":\"");
            put(format_args!("{relay}"), out);
            out.push(b'"');
        }
        out.extend_from_slice(b",\"listener\":\"");
        match self.listener {
            SocketAddr::V4(listener) => {
                address(IpAddr::V4(*listener.ip()), out);
                out.push(b':');
                number(u64::from(listener.port()), out);
            }
            SocketAddr::V6(listener) => put(format_args!("{listener}"), out),
        }
        out.push(b'"');
        ours(",\"protocol\":\"", self.protocol, out);
        ours(",\"tls\":\"", self.tls, out);
        ours(",\"ja4\":\"", self.ja4, out);
        member(",\"host\":\"", self.host, out);
        member(",\"method\":\"", self.method, out);
        member(",\"path\":\"", self.path, out);
        member(",\"request_id\":\"", self.request_id, out);
        out.extend_from_slice(b",\"status\":");
        number(u64::from(self.status), out);
        ours(",\"reject\":\"", self.reject, out);
        member(",\"detail\":\"", self.detail, out);
        ours(",\"signal\":\"", self.signal, out);
        member(",\"principal\":\"", self.principal, out);
        member(",\"route\":\"", self.route, out);
        member(",\"upstream\":\"", self.upstream, out);
        out.extend_from_slice(b",\"bytes_in\":");
        number(self.bytes_in, out);
        out.extend_from_slice(b",\"bytes_out\":");
        number(self.bytes_out, out);
        out.extend_from_slice(b",\"duration_us\":");
        number(self.duration_us, out);
        out.extend_from_slice(b"}\n");
    }
}

/// Appends a member, which `begins` up to its value.
fn member(begins: &str, value: Option<&str>, out: &mut Vec<u8>) {
    let Some(value) = value else { return };
    out.extend_from_slice(begins.as_bytes());
    escape(value, out);
    out.push(b'"');
}

/// As [`member`], for values that we wrote ourselves: none has anything to escape.
fn ours(begins: &str, value: Option<&str>, out: &mut Vec<u8>) {
    let Some(value) = value else { return };
    out.extend_from_slice(begins.as_bytes());
    out.extend_from_slice(value.as_bytes());
    out.push(b'"');
}

/// Appends `text` as the inside of a JSON string, at most [`MAX_TEXT`] bytes of it. Control characters of both sets
/// are escaped: some terminals obey the upper set too.
pub fn escape(text: &str, out: &mut Vec<u8>) {
    let text =
        if text.len() > MAX_TEXT { text.get(..text.floor_char_boundary(MAX_TEXT)).unwrap_or_default() } else { text };
    // All of it, however it begins: what never stops early is done many bytes at a time.
    let is_plain = |byte: u8| (b' '..=b'~').contains(&byte) & (byte != b'"') & (byte != b'\\');
    if text.bytes().fold(true, |all, byte| all & is_plain(byte)) {
        return out.extend_from_slice(text.as_bytes());
    }
    for letter in text.chars() {
        match letter {
            '"' | '\\' => out.extend([b'\\', letter as u8]),
            // U+2028 and U+2029 end lines where JSON is read as JavaScript.
            '\u{2028}' | '\u{2029}' => put(format_args!("\\u{:04x}", u32::from(letter)), out),
            _ if letter.is_control() => put(format_args!("\\u{:04x}", u32::from(letter)), out),
            _ => out.extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
}

/// Appends `address` as it is written: IPv4 by hand, as it is what most are.
pub fn address(address: IpAddr, out: &mut Vec<u8>) {
    match address {
        IpAddr::V4(address) => {
            for (place, octet) in address.octets().into_iter().enumerate() {
                if place > 0 {
                    out.push(b'.');
                }
                number(u64::from(octet), out);
            }
        }
        IpAddr::V6(address) => put(format_args!("{address}"), out),
    }
}

fn put(text: std::fmt::Arguments<'_>, out: &mut Vec<u8>) {
    // Writing into memory does not fail.
    out.write_fmt(text).unwrap_or_default();
}

/// Appends `value` in decimal.
fn number(value: u64, out: &mut Vec<u8>) {
    let mut digits = [0_u8; 20];
    let mut rest = value;
    let mut length = 0;
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + u8::try_from(rest % 10).unwrap_or_default();
        rest /= 10;
        length += 1;
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(digits.get(digits.len() - length..).unwrap_or_default());
}

fn id(id: RequestId, out: &mut Vec<u8>) {
    out.extend(hexadecimal(id));
}

/// The 32 digits of a request id.
#[must_use]
pub fn hexadecimal(id: RequestId) -> [u8; 32] {
    const DIGITS: [u8; 16] = *b"0123456789abcdef";
    let mut text = [0; 32];
    for (pair, byte) in text.chunks_exact_mut(2).zip(id.0.to_be_bytes()) {
        let digit = |nibble: u8| DIGITS.get(usize::from(nibble)).copied().unwrap_or_default();
        if let [high, low] = pair {
            (*high, *low) = (digit(byte >> 4), digit(byte & 15));
        }
    }
    text
}

thread_local! {
    /// The last second that was written, and how.
    static SECOND: Cell<(u64, [u8; 20])> = const { Cell::new((u64::MAX, [0; 20])) };
}

/// Appends a moment as RFC 3339 has it, UTC, with milliseconds.
fn time(unix_millis: u64, out: &mut Vec<u8>) {
    let (seconds, millis) = (unix_millis / 1_000, unix_millis % 1_000);
    let (known, mut text) = SECOND.get();
    if known != seconds {
        text = second(seconds);
        SECOND.set((seconds, text));
    }
    out.extend_from_slice(&text);
    let digit = |value: u64| b'0' + u8::try_from(value % 10).unwrap_or_default();
    out.extend_from_slice(&[digit(millis / 100), digit(millis / 10), digit(millis), b'Z']);
}

/// A second up to the dot before its parts.
fn second(seconds: u64) -> [u8; 20] {
    let moment = i64::try_from(seconds).ok().and_then(|seconds| Timestamp::from_second(seconds).ok());
    let mut text = *b"0000-00-00T00:00:00.";
    let written = format!("{:.0}", moment.unwrap_or(Timestamp::MAX));
    for (place, byte) in text.iter_mut().zip(written.trim_end_matches('Z').bytes()) {
        *place = byte;
    }
    text
}

/// An address without its port.
#[must_use]
pub fn client(address: &SocketAddr) -> IpAddr {
    address.ip().to_canonical()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line<'a>() -> Line<'a> {
        Line {
            unix_millis: 1_764_000_000_123,
            id: RequestId(0x0123_4567_89ab_cdef_0011_2233_4455_6677),
            relay: None,
            client: "[::ffff:203.0.113.7]:40000".parse().unwrap(),
            listener: "0.0.0.0:443".parse().unwrap(),
            protocol: Some("HTTP/1.1"),
            tls: None,
            ja4: None,
            host: None,
            method: Some("GET"),
            path: None,
            status: 200,
            reject: None,
            detail: None,
            signal: None,
            request_id: None,
            principal: None,
            route: None,
            upstream: None,
            bytes_in: 0,
            bytes_out: u64::MAX,
            duration_us: 15,
        }
    }

    #[test]
    fn a_line() {
        let mut out = Vec::new();
        line().write(&mut out);
        let expect = "{\"time\":\"2025-11-24T16:00:00.123Z\",\"id\":\"0123456789abcdef0011223344556677\",\
            \"client\":\"203.0.113.7\",\"client_port\":40000,\"listener\":\"0.0.0.0:443\",\"protocol\":\"HTTP/1.1\",\
            \"method\":\"GET\",\"status\":200,\"bytes_in\":0,\"bytes_out\":18446744073709551615,\"duration_us\":15}\n";
        assert_eq!(String::from_utf8(out).unwrap(), expect);
    }

    #[test]
    fn times() {
        for (millis, expect) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_399_999, "2000-02-28T23:59:59.999Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_709_251_200_001, "2024-03-01T00:00:00.001Z"),
            (4_102_444_799_000, "2099-12-31T23:59:59.000Z"),
        ] {
            let mut out = Vec::new();
            time(millis, &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), expect);
        }
    }

    #[test]
    fn t08_hostile_text_stays_in_its_string() {
        for text in [
            "plain",
            "quote\" back\\slash",
            "line\r\nbreak\ttab",
            "\u{1b}[31mred\u{9b}31m",
            "nul\0del\u{7f}",
            "separators\u{2028}\u{2029}",
            "caf\u{e9} \u{20ac} \u{1f600}",
            "\",\"status\":200,\"x\":\"",
        ] {
            let mut out = Vec::new();
            Line { path: Some(text), principal: Some(text), ..line() }.write(&mut out);
            let (last, rest) = out.split_last().unwrap();
            assert_eq!(*last, b'\n');
            let letters: Vec<char> = std::str::from_utf8(rest).unwrap().chars().collect();
            assert!(!letters.iter().any(|letter| letter.is_control() || *letter == '\u{2028}'), "{text:?}");
            let read: serde_json::Value = serde_json::from_slice(&out).unwrap();
            assert_eq!((&read["path"], &read["principal"]), (&text.into(), &text.into()));
            assert_eq!(read["status"], 200);
        }
        let mut out = Vec::new();
        escape(&"\u{20ac}".repeat(MAX_TEXT), &mut out);
        assert!(out.len() <= MAX_TEXT && std::str::from_utf8(&out).is_ok());
    }
}
