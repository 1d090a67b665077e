//! Traces as `ExportTraceServiceRequest` of OpenTelemetry (github.com/open-telemetry/opentelemetry-proto), by the semantic
//! conventions for HTTP.

use super::wire;
use crate::{
    message::telemetry::{StepSpan, Trace, TraceStep},
    observer::protobuf::Message,
};

const INTERNAL: u64 = 1;
const SERVER: u64 = 2;
const CLIENT: u64 = 3;

/// `STATUS_CODE_ERROR`.
const ERROR: u64 = 2;

/// What stands for methods that are none of the known ones.
const OTHER: &str = "_OTHER";

/// All spans of these traces.
pub(super) fn encode(service: &str, traces: &[Trace]) -> Vec<u8> {
    let spans = traces.iter().flat_map(|trace| {
        let steps = trace.steps.iter().map(|step| step_span(trace, step));
        [request(trace)].into_iter().chain(steps)
    });
    wire::request(service, spans)
}

/// The span of the request itself.
fn request(trace: &Trace) -> Message {
    let method = method(trace);
    let name = match &trace.route {
        Some(route) => format!("{method} {route}"),
        None => method.to_owned(),
    };
    let mut span = span(trace.id, trace.span, trace.parent, &name, SERVER, (trace.began, trace.took));
    attribute(&mut span, "http.request.method", &trace.method);
    attribute(&mut span, "url.scheme", &trace.scheme);
    attribute(&mut span, "network.protocol.version", &trace.version);
    attribute(&mut span, "gateway.request_id", &format!("{:032x}", trace.request_id));
    if let Some(route) = &trace.route {
        attribute(&mut span, "http.route", route);
    }
    // A client that left was answered by nobody, whatever the log calls that.
    let has_left = trace.status == CLIENT_LEFT && trace.upstream_status != Some(CLIENT_LEFT);
    if !has_left {
        status_code(&mut span, trace.status);
    }
    if let Some(refusal) = &trace.refusal {
        attribute(&mut span, "gateway.refusal", refusal);
    }
    if has_left {
        fail(&mut span, "client_left");
    } else if trace.status >= 500 {
        fail(&mut span, trace.refusal.as_deref().unwrap_or(&trace.status.to_string()));
    }
    span
}

/// The status of a request whose client has left.
const CLIENT_LEFT: u16 = 499;

fn step_span(trace: &Trace, step: &StepSpan) -> Message {
    let upstream = trace.steps.iter().find(|step| step.step == TraceStep::Upstream).map(|step| step.span);
    let (kind, name, parent) = match step.step {
        TraceStep::Upstream => (CLIENT, method(trace), trace.span),
        TraceStep::Connect => (INTERNAL, step.step.name(), upstream.unwrap_or(trace.span)),
        _ => (INTERNAL, step.step.name(), trace.span),
    };
    let began = match step.step {
        TraceStep::Handshake => trace.began.saturating_sub(step.took),
        _ => trace.began.saturating_add(step.after),
    };
    let mut span = span(trace.id, step.span, Some(parent), name, kind, (began, step.took));
    match step.step {
        TraceStep::Upstream => {
            attribute(&mut span, "http.request.method", &trace.method);
            if let Some(upstream) = &trace.upstream {
                attribute(&mut span, "gateway.upstream", upstream);
            }
            server(&mut span, trace);
            if trace.retries > 0 {
                span.message(9, &wire::number("http.request.resend_count", trace.retries.into()));
            }
            match trace.upstream_status {
                Some(status) => {
                    status_code(&mut span, status);
                    if status >= 400 {
                        fail(&mut span, &status.to_string());
                    }
                }
                None => fail(&mut span, trace.refusal.as_deref().unwrap_or("no_response")),
            }
        }
        TraceStep::Connect => server(&mut span, trace),
        TraceStep::Handshake => {
            attribute(&mut span, "tls.protocol.name", "tls");
            if let Some(version) = trace.tls.as_deref().and_then(|version| version.strip_prefix("TLSv")) {
                attribute(&mut span, "tls.protocol.version", version);
            }
        }
        _ => {}
    }
    span
}

/// The server that was asked.
fn server(span: &mut Message, trace: &Trace) {
    let Some((host, port)) = trace.server.as_deref().and_then(|server| server.rsplit_once(':')) else { return };
    attribute(span, "server.address", host.trim_start_matches('[').trim_end_matches(']'));
    if let Ok(port) = port.parse() {
        span.message(9, &wire::number("server.port", port));
    }
}

/// The method in the name of a span.
fn method(trace: &Trace) -> &str {
    if trace.method == OTHER { "HTTP" } else { &trace.method }
}

fn status_code(span: &mut Message, status: u16) {
    span.message(9, &wire::number("http.response.status_code", status.into()));
}

/// It has failed: why, in a word.
fn fail(span: &mut Message, why: &str) {
    attribute(span, "error.type", why);
    let mut status = Message::default();
    status.number(3, ERROR);
    span.message(15, &status);
}

fn span(trace: u128, span: u64, parent: Option<u64>, name: &str, kind: u64, (began, took): (u64, u64)) -> Message {
    let mut message = Message::default();
    message.bytes(1, &trace.to_be_bytes());
    message.bytes(2, &span.to_be_bytes());
    if let Some(parent) = parent {
        message.bytes(4, &parent.to_be_bytes());
    }
    message.text(5, name);
    message.number(6, kind);
    message.fixed(7, began);
    message.fixed(8, began.saturating_add(took));
    message
}

fn attribute(span: &mut Message, key: &str, value: &str) {
    span.message(9, &wire::text(key, value));
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::message::telemetry::StepSpan;

    pub(in crate::observer) fn trace() -> Trace {
        Trace {
            id: 1,
            span: 2,
            parent: Some(3),
            began: 1_000,
            took: 500,
            method: "GET".to_owned(),
            route: Some("/items/{id}".to_owned()),
            status: 502,
            scheme: "https".to_owned(),
            version: "1.1".to_owned(),
            refusal: Some("upstream_failed".to_owned()),
            tls: Some("TLSv1.3".to_owned()),
            upstream: Some("items".to_owned()),
            server: Some("[2001:db8::1]:9000".to_owned()),
            upstream_status: None,
            retries: 2,
            request_id: 9,
            steps: vec![
                StepSpan { step: TraceStep::Handshake, span: 6, after: 0, took: 400 },
                StepSpan { step: TraceStep::Upstream, span: 4, after: 100, took: 300 },
                StepSpan { step: TraceStep::Connect, span: 5, after: 110, took: 20 },
            ],
        }
    }

    #[test]
    fn all_of_a_trace_is_told() {
        let bytes = encode("edge", &[trace()]);
        let text = String::from_utf8_lossy(&bytes);
        for part in [
            "edge",
            "GET /items/{id}",
            "upstream_failed",
            "gateway.upstream",
            "items",
            "error.type",
            "server.address",
            "2001:db8::1",
            "http.request.resend_count",
            "connect",
            "tls.protocol.version",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        // `1_100` as fixed64 in field 7; the handshake was over when the request began.
        assert!(bytes.windows(9).any(|nine| nine == [57, 76, 4, 0, 0, 0, 0, 0, 0]));
        assert!(bytes.windows(9).any(|nine| nine == [57, 88, 2, 0, 0, 0, 0, 0, 0]));
        let other = Trace { method: OTHER.to_owned(), route: None, ..trace() };
        assert!(String::from_utf8_lossy(&encode("edge", &[other])).contains("HTTP"));
    }
}
