//! The JSON line that is written where the configuration chooses nothing, by hand: most lines are this one, and it takes
//! a third of the time. What it says is what the list of its fields says; a test compares both.

use std::net::{IpAddr, SocketAddr};

use super::placeholder::PlaceholderReader;
use crate::{log::text, text::digits::append_decimal};

impl PlaceholderReader<'_> {
    /// Appends the line.
    pub(super) fn write_standard(&self, out: &mut Vec<u8>) {
        let line = self.line;
        out.extend_from_slice(b"{\"time\":\"");
        text::time(line.unix_millis, out);
        out.extend_from_slice(b"\",\"id\":\"");
        out.extend_from_slice(&text::hexadecimal(line.id));
        out.extend_from_slice(b"\",\"client\":\"");
        text::address(line.client.ip().to_canonical(), out);
        out.extend_from_slice(b"\",\"client_port\":");
        append_decimal(line.client.port().into(), out);
        if let Some(relay) = line.relay {
            out.extend_from_slice(b",\"relay\":\"");
            text::address(relay, out);
            out.push(b'"');
        }
        out.extend_from_slice(b",\"listener\":\"");
        match line.listener {
            SocketAddr::V4(listener) => {
                text::address(IpAddr::V4(*listener.ip()), out);
                out.push(b':');
                append_decimal(listener.port().into(), out);
            }
            SocketAddr::V6(listener) => text::put(format_args!("{listener}"), out),
        }
        out.push(b'"');
        ours(",\"protocol\":\"", line.protocol, out);
        ours(",\"tls\":\"", line.tls, out);
        ours(",\"ja4\":\"", line.ja4, out);
        theirs(",\"host\":\"", line.host, out);
        theirs(",\"method\":\"", line.method, out);
        theirs(",\"path\":\"", line.path.map(|path| self.redact.path(path)).as_deref(), out);
        theirs(",\"request_id\":\"", line.request_id, out);
        out.extend_from_slice(b",\"status\":");
        append_decimal(line.status.into(), out);
        ours(",\"reject\":\"", line.reject, out);
        theirs(",\"limit\":\"", line.limit, out);
        theirs(",\"detail\":\"", line.detail, out);
        theirs(",\"would_deny\":\"", line.would_deny, out);
        ours(",\"signal\":\"", line.signal, out);
        theirs(",\"rule\":\"", line.rule, out);
        match self.hash {
            Some(hash) => ours(",\"principal\":\"", line.principal.map(|name| hash.of(name)).as_deref(), out),
            None => theirs(",\"principal\":\"", line.principal, out),
        }
        theirs(",\"route\":\"", line.route, out);
        theirs(",\"upstream\":\"", line.upstream, out);
        theirs(",\"server\":\"", line.server, out);
        if let Some(status) = line.grpc_status {
            out.extend_from_slice(b",\"grpc_status\":");
            append_decimal(status.into(), out);
        }
        out.extend_from_slice(b",\"bytes_in\":");
        append_decimal(line.bytes_in, out);
        out.extend_from_slice(b",\"bytes_out\":");
        append_decimal(line.bytes_out, out);
        out.extend_from_slice(b",\"duration_us\":");
        append_decimal(line.duration_us, out);
        out.push(b'}');
    }
}

/// Appends a member, which `begins` up to its value.
fn theirs(begins: &str, value: Option<&str>, out: &mut Vec<u8>) {
    let Some(value) = value else { return };
    out.extend_from_slice(begins.as_bytes());
    text::escape(value, out);
    out.push(b'"');
}

/// As [`theirs`], for values that we wrote ourselves: none has anything to escape.
fn ours(begins: &str, value: Option<&str>, out: &mut Vec<u8>) {
    let Some(value) = value else { return };
    out.extend_from_slice(begins.as_bytes());
    out.extend_from_slice(value.as_bytes());
    out.push(b'"');
}
