//! Traces as `ExportTraceServiceRequest` of OpenTelemetry (github.com/open-telemetry/opentelemetry-proto), by the semantic
//! conventions for HTTP.

use crate::{
    message::telemetry::{Step, Trace},
    observer::protobuf::Message,
};

const INTERNAL: u64 = 1;
const SERVER: u64 = 2;
const CLIENT: u64 = 3;

/// `STATUS_CODE_ERROR`.
const ERROR: u64 = 2;

/// All spans of these traces.
pub(super) fn encode(service: &str, traces: &[Trace]) -> Vec<u8> {
    let mut scope = Message::default();
    scope.text(1, "gateway");
    scope.text(2, env!("CARGO_PKG_VERSION"));
    let mut scoped = Message::default();
    scoped.message(1, &scope);
    for trace in traces {
        scoped.message(2, &request(trace));
        for step in &trace.steps {
            let kind = if step.step == Step::Upstream { CLIENT } else { INTERNAL };
            let began = trace.began.saturating_add(step.after);
            let mut span = span(trace.id, step.span, Some(trace.span), step.step.name(), kind, (began, step.took));
            if let Some(upstream) = trace.upstream.as_deref().filter(|_| step.step == Step::Upstream) {
                attribute(&mut span, "gateway.upstream", upstream);
                attribute(&mut span, "http.request.method", &trace.method);
            }
            scoped.message(2, &span);
        }
    }
    let mut resource = Message::default();
    for (key, value) in [("service.name", service), ("service.version", env!("CARGO_PKG_VERSION"))] {
        resource.message(1, &pair(key, value));
    }
    let mut spans = Message::default();
    spans.message(1, &resource);
    spans.message(2, &scoped);
    let mut whole = Message::default();
    whole.message(1, &spans);
    whole.0
}

/// The span of the request itself.
fn request(trace: &Trace) -> Message {
    let name = match &trace.route {
        Some(route) => format!("{} {route}", trace.method),
        None => trace.method.clone(),
    };
    let mut span = span(trace.id, trace.span, trace.parent, &name, SERVER, (trace.began, trace.took));
    attribute(&mut span, "http.request.method", &trace.method);
    attribute(&mut span, "url.scheme", &trace.scheme);
    attribute(&mut span, "network.protocol.version", &trace.version);
    attribute(&mut span, "gateway.request_id", &format!("{:032x}", trace.request_id));
    if let Some(route) = &trace.route {
        attribute(&mut span, "http.route", route);
    }
    let mut status = Message::default();
    status.number(3, trace.status.into());
    let mut code = Message::default();
    code.text(1, "http.response.status_code");
    code.message(2, &status);
    span.message(9, &code);
    if let Some(refusal) = &trace.refusal {
        attribute(&mut span, "gateway.refusal", refusal);
    }
    if trace.status >= 500 {
        attribute(&mut span, "error.type", trace.refusal.as_deref().unwrap_or(&trace.status.to_string()));
        let mut status = Message::default();
        status.number(3, ERROR);
        span.message(15, &status);
    }
    span
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
    span.message(9, &pair(key, value));
}

fn pair(key: &str, value: &str) -> Message {
    let mut text = Message::default();
    text.text(1, value);
    let mut pair = Message::default();
    pair.text(1, key);
    pair.message(2, &text);
    pair
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
            upstream: Some("items".to_owned()),
            request_id: 9,
            steps: vec![StepSpan { step: Step::Upstream, span: 4, after: 100, took: 300 }],
        }
    }

    #[test]
    fn all_of_a_trace_is_told() {
        let bytes = encode("edge", &[trace()]);
        let text = String::from_utf8_lossy(&bytes);
        for part in ["edge", "GET /items/{id}", "upstream_failed", "gateway.upstream", "items", "error.type"] {
            assert!(text.contains(part), "{part}: {text}");
        }
        // `1_100` as fixed64 in field 7.
        assert!(bytes.windows(9).any(|nine| nine == [57, 76, 4, 0, 0, 0, 0, 0, 0]));
    }
}
