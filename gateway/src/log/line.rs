//! What one line of the access log is made from: all that is known of a request once it is over.

use std::net::{IpAddr, SocketAddr};

use gateway_common::source::Source;
use http::{HeaderMap, HeaderName, HeaderValue};

use super::text::hexadecimal;
use crate::web::{request_id::RequestId, trace_context::TraceContext};

/// What one request, or one connection that never came to one, was.
#[derive(Clone, Copy, Debug)]
pub struct LogLine<'a> {
    /// When it began, milliseconds since the Unix epoch.
    pub unix_millis: u64,
    /// Its name in every log.
    pub id: RequestId,
    /// Who.
    pub client: SocketAddr,
    /// What bans and limits count the client by.
    pub source: Source,
    /// The trusted proxy that named the client.
    pub relay: Option<IpAddr>,
    /// Where it came in.
    pub listener: SocketAddr,
    /// `http`, `https`.
    pub scheme: &'a str,
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
    /// The query, as the client sent it.
    pub query: Option<&'a str>,
    /// The id that a trusted proxy gave the request.
    pub request_id: Option<&'a str>,
    /// What was answered; 0: nothing.
    pub status: u16,
    /// The label of the refusal.
    pub reject: Option<&'a str>,
    /// The limit that it is over.
    pub limit: Option<&'a str>,
    /// Why it was refused.
    pub detail: Option<&'a str>,
    /// The requirement in shadow that would have denied it.
    pub would_deny: Option<&'a str>,
    /// What it says about the source.
    pub signal: Option<&'a str>,
    /// The rule that asked for a ban because of it.
    pub rule: Option<&'a str>,
    /// Who it was, if a token said so.
    pub principal: Option<&'a str>,
    /// The template of the route.
    pub route: Option<&'a str>,
    /// Who answered.
    pub upstream: Option<&'a str>,
    /// Which server of it.
    pub server: Option<&'a str>,
    /// How often it was sent again; `None`: it was not sent.
    pub retries: Option<u32>,
    /// The status of a gRPC call.
    pub grpc_status: Option<u32>,
    /// Bytes of the body that were received.
    pub bytes_in: u64,
    /// Bytes of the body that were sent.
    pub bytes_out: u64,
    /// How long it took, in microseconds.
    pub duration_us: u64,
    /// What is noted only where lines say it.
    pub noted: Option<&'a Noted>,
}

/// What is noted of a request only where the format of lines asks for it.
#[derive(Clone, Debug, Default)]
pub struct Noted {
    /// Headers of the request, in the order of [`AccessLog::request_headers`](super::access::AccessLog).
    pub request: Box<[Option<HeaderValue>]>,
    /// The same of the response.
    pub response: Box<[Option<HeaderValue>]>,
    /// Of its `traceparent`.
    pub trace_id: Option<[u8; 32]>,
    /// `None`: no line says them, and no clock is read.
    pub timings: Option<Timings>,
}

/// How long steps of a request took, in nanoseconds; `None`: it did not come to that.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timings {
    /// The TLS handshake of the client, for the first request of a connection.
    pub tls: Option<u64>,
    /// Authentication and authorization.
    pub auth: Option<u64>,
    /// Waiting for a free connection or stream.
    pub queue: Option<u64>,
    /// Opening a connection to the server.
    pub connect: Option<u64>,
    /// From the beginning to the head of the server's response.
    pub first_byte: Option<u64>,
}

/// The first value of each of these headers.
#[must_use]
pub fn pick(names: &[HeaderName], headers: &HeaderMap) -> Box<[Option<HeaderValue>]> {
    names.iter().map(|name| headers.get(name).cloned()).collect()
}

/// The trace id of a W3C `traceparent` header; `None`: there is none that is valid.
#[must_use]
pub fn trace_id(headers: &HeaderMap) -> Option<[u8; 32]> {
    let context = TraceContext::parse(headers.get("traceparent")?.as_bytes())?;
    Some(hexadecimal(RequestId(context.id)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trace_ids() {
        const ID: &str = "0af7651916cd43dd8448eb211c80319c";
        const PARENT: &str = "b7ad6b7169203331";
        for (value, is_valid) in [
            (format!("00-{ID}-{PARENT}-01"), true),
            (format!("cc-{ID}-{PARENT}-01-what-the-future-will-be-like"), true),
            (format!("00-{ID}-{PARENT}-01-x"), false),
            (format!("ff-{ID}-{PARENT}-01"), false),
            (format!("0-{ID}-{PARENT}-01"), false),
            (format!("00-{}-{PARENT}-01", ID.to_uppercase()), false),
            (format!("00-{}-{PARENT}-01", "0".repeat(32)), false),
            (format!("00-{ID}-{}-01", "0".repeat(16)), false),
            (format!("00-{ID}\",-{PARENT}-01"), false),
            (format!("00-{ID}-{PARENT}"), false),
            (String::new(), false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert("traceparent", HeaderValue::try_from(&value).unwrap());
            assert_eq!(trace_id(&headers).as_ref().map(|id| &id[..]), is_valid.then_some(ID.as_bytes()), "{value}");
        }
    }
}
