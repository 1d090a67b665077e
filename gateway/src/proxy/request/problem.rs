//! The response to a refused request: `application/problem+json` (RFC 9457). It tells no internals.

use bytes::Bytes;
use http::{HeaderValue, Method, Response, StatusCode, Version, header};

use super::{exchange::Exchange, grpc, response_body::ResponseBody};
use crate::refusal::{Refusal, Reject};

/// The response to a refused request. `close`: nothing more can be read from this connection.
pub(in crate::proxy) fn refuse(mut exchange: Box<Exchange>, refusal: Refusal, close: bool) -> Response<ResponseBody> {
    let (reject, retry_after) = (refusal.reject, refusal.retry_after);
    let row = exchange.refuse(refusal);
    let mut exchange = match grpc::refuse(reject, exchange) {
        Ok(answer) => return answer,
        Err(exchange) => exchange,
    };
    let id = exchange.told_id();
    let body = text(row.label, row.title, row.status, id.as_bytes());
    let allow = exchange.routing.allow.take();
    let http1 = matches!(&exchange.request.line, Some((_, Version::HTTP_10 | Version::HTTP_11, _)));
    let body = if is_head(&exchange) { Bytes::new() } else { body };
    let mut response = Response::new(ResponseBody::whole(body, exchange));
    *response.status_mut() = row.status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert("x-request-id", id);
    match reject {
        Reject::MissingToken => {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        Reject::InvalidToken => {
            let challenge = HeaderValue::from_static("Bearer error=\"invalid_token\"");
            headers.insert(header::WWW_AUTHENTICATE, challenge);
        }
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
    if let Some(allow) = allow {
        headers.insert(header::ALLOW, allow);
    }
    // In HTTP/2 a refused stream says nothing about the others.
    if close && http1 {
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// Whether the response must not have a body (RFC 9110 9.3.2). HTTP/1 drops it by itself, HTTP/2 does not.
pub(in crate::proxy) fn is_head(exchange: &Exchange) -> bool {
    matches!(&exchange.request.line, Some((Method::HEAD, Version::HTTP_2, _)))
}

fn text(label: &str, title: &str, status: StatusCode, id: &[u8]) -> Bytes {
    let id = std::str::from_utf8(id).unwrap_or_default();
    let status = status.as_str();
    let parts = [
        "{\"type\":\"urn:gateway:problem:",
        label,
        "\",\"title\":\"",
        title,
        "\",\"status\":",
        status,
        ",\"request_id\":\"",
        id,
        "\"}",
    ];
    Bytes::from(parts.concat())
}
