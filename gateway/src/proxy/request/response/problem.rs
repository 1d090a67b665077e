//! The response to a refused request: `application/problem+json` (RFC 9457). It tells no internals.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Response, Version, header};
use serde_json::{Map, Value};

use super::response_body::ResponseBody;
use crate::{
    proxy::request::{exchange::Exchange, grpc},
    refusal::{
        Refusal, RefusalRow, Reject,
        violation::{RequestPart, Violation},
    },
    settings::validate::Details,
};

/// The response to a refused request. `close`: nothing more can be read from this connection.
pub(in crate::proxy) fn refuse(mut exchange: Box<Exchange>, refusal: Refusal, close: bool) -> Response<ResponseBody> {
    let (reject, retry_after) = (refusal.reject, refusal.retry_after);
    let challenges: Vec<_> =
        exchange.compiled_route().map_or_else(Vec::new, |route| route.challenges.of(&refusal).to_vec());
    let row = exchange.refuse(refusal);
    let mut exchange = match grpc::refuse(reject, exchange) {
        Ok(answer) => return answer,
        Err(exchange) => exchange,
    };
    let id = exchange.told_id();
    let details = exchange.snapshot().settings.details;
    let outcome = &exchange.outcome;
    let body = text(row, id.as_bytes(), &outcome.policies, (&outcome.violations, details));
    let allow = exchange.routing.allow.take();
    let http1 = matches!(&exchange.request.line, Some((_, Version::HTTP_10 | Version::HTTP_11, _)));
    let body = if is_head(&exchange) { Bytes::new() } else { body };
    let mut response = Response::new(ResponseBody::whole(body, exchange));
    *response.status_mut() = row.status;
    let headers = response.headers_mut();
    head(headers, id);
    match reject {
        // RFC 6455 4.4.
        Reject::UpgradeRequired => {
            headers.insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
            headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        }
        Reject::TooManyRequests | Reject::Unavailable => {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(retry_after.unwrap_or(1)));
        }
        _ => {}
    }
    for challenge in challenges {
        headers.append(header::WWW_AUTHENTICATE, challenge);
    }
    if let Some(allow) = allow {
        headers.insert(header::ALLOW, allow);
    }
    // In HTTP/2 a refused stream says nothing about the others.
    if close && http1 {
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// The response to a client that ended in the middle of its request (RFC 9112 8). Most have left, and nobody reads it: that
/// is no fault, and is told to nobody else. Some have ended their own side alone.
pub(in crate::proxy::request) fn incomplete(mut exchange: Box<Exchange>) -> Response<ResponseBody> {
    exchange.request.body = None;
    let (row, id) = (Reject::BadRequest.row(), exchange.told_id());
    let details = exchange.snapshot().settings.details;
    let body = if is_head(&exchange) { Bytes::new() } else { text(row, id.as_bytes(), &[], (&[], details)) };
    let http1 = !matches!(&exchange.request.line, Some((_, Version::HTTP_2, _)));
    let mut response = Response::new(ResponseBody::whole(body, exchange));
    *response.status_mut() = row.status;
    head(response.headers_mut(), id);
    if http1 {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// The headers that every problem has.
fn head(headers: &mut HeaderMap, id: HeaderValue) {
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert("x-request-id", id);
}

/// Whether the response must not have a body (RFC 9110 9.3.2). HTTP/1 drops it by itself, HTTP/2 does not.
pub(in crate::proxy) fn is_head(exchange: &Exchange) -> bool {
    matches!(&exchange.request.line, Some((Method::HEAD, Version::HTTP_2, _)))
}

fn text(row: RefusalRow, id: &[u8], policies: &[Arc<str>], (violations, details): (&[Violation], Details)) -> Bytes {
    let id = std::str::from_utf8(id).unwrap_or_default();
    let (label, title, status) = (row.label, row.title, row.status.as_str());
    let parts = [
        "{\"type\":\"urn:gateway:problem:",
        label,
        "\",\"title\":\"",
        title,
        "\",\"status\":",
        status,
        ",\"request_id\":\"",
        id,
        "\"",
    ];
    let mut text = parts.concat();
    // As draft-ietf-httpapi-ratelimit-headers names them; names have nothing to escape.
    for (at, policy) in policies.iter().enumerate() {
        text.push_str(if at == 0 { ",\"violated-policies\":[\"" } else { ",\"" });
        text.push_str(policy);
        text.push('"');
    }
    text.push_str(if policies.is_empty() { "" } else { "]" });
    if !violations.is_empty() && details != Details::None {
        let told: Vec<Value> = violations.iter().map(|violation| told(violation, details)).collect();
        text.push_str(",\"errors\":");
        text.push_str(&Value::from(told).to_string());
    }
    text.push('}');
    Bytes::from(text)
}

/// One violation: where, by a JSON pointer or a parameter's name, and what is expected there.
fn told(violation: &Violation, details: Details) -> Value {
    let mut told = Map::new();
    told.insert("in".to_owned(), violation.part.name().into());
    if !violation.name.is_empty() {
        told.insert("name".to_owned(), (*violation.name).into());
    }
    if violation.part == RequestPart::Body || !violation.pointer.is_empty() {
        told.insert("pointer".to_owned(), (*violation.pointer).into());
    }
    if details == Details::All {
        told.insert("detail".to_owned(), (*violation.expected).into());
    }
    Value::Object(told)
}
