//! gRPC: the caller's timeout, and the form of refusals. Messages are counted with the body. All else is HTTP/2.

use std::time::Duration;

use http::{HeaderMap, HeaderValue, Response, StatusCode, header, request::Parts};

use super::{exchange::Exchange, response::response_body};
use crate::refusal::{Refusal, Reject};

const MEDIA_TYPE: &[u8] = b"application/grpc";

/// Whether the request is a gRPC call.
pub(in crate::proxy) fn is(head: &Parts) -> bool {
    head.version == http::Version::HTTP_2 && is_in_body(&head.headers)
}

/// Whether the body holds messages of gRPC, by its media type: in any case, as servers take it (RFC 9110 8.3.1).
pub(in crate::proxy) fn is_in_body(headers: &HeaderMap) -> bool {
    let media_type = headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
    let Some((start, rest)) = media_type.split_at_checked(MEDIA_TYPE.len()) else { return false };
    start.eq_ignore_ascii_case(MEDIA_TYPE) && matches!(rest.first(), None | Some(b'+' | b';' | b' ' | b'\t'))
}

/// The caller's timeout, `grpc-timeout`; `None`: it gives none (G03).
///
/// # Errors
/// [`Reject::BadRequest`]: it is no valid time.
pub(in crate::proxy) fn timeout(headers: &HeaderMap) -> Result<Option<Duration>, Refusal> {
    let mut lines = headers.get_all("grpc-timeout").iter();
    let Some(line) = lines.next() else { return Ok(None) };
    let time = if lines.next().is_none() { time(line.as_bytes()) } else { None };
    time.map(Some).ok_or_else(|| Refusal::new(Reject::BadRequest, "grpc-timeout is no time"))
}

/// One to eight digits and a unit.
fn time(text: &[u8]) -> Option<Duration> {
    let (unit, digits) = text.split_last()?;
    if !matches!(digits.len(), 1..=8) || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let count: u64 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    Some(match unit {
        b'H' => Duration::from_secs(count * 3_600),
        b'M' => Duration::from_secs(count * 60),
        b'S' => Duration::from_secs(count),
        b'm' => Duration::from_millis(count),
        b'u' => Duration::from_micros(count),
        b'n' => Duration::from_nanos(count),
        _ => return None,
    })
}

/// The status code of a refusal (<https://grpc.io/docs/guides/status-codes/>). `None`: the request breaks HTTP, and is
/// answered in HTTP.
const fn code(reject: Reject) -> Option<&'static str> {
    Some(match reject {
        Reject::BadRequest
        | Reject::ExpectationFailed
        | Reject::HeadersTooLarge
        | Reject::Misdirected
        | Reject::UpgradeRequired
        | Reject::UriTooLong => return None,
        Reject::InvalidBody | Reject::InvalidParameter | Reject::UnsupportedMediaType => "3",
        Reject::RequestTimeout | Reject::UpstreamTimeout => "4",
        Reject::Banned | Reject::Forbidden | Reject::ForeignOrigin | Reject::Injection | Reject::SourceNotAllowed => {
            "7"
        }
        Reject::BodyTooComplex | Reject::BodyTooLarge | Reject::TooManyRequests => "8",
        Reject::MethodNotAllowed | Reject::NotFound => "12",
        Reject::Unavailable | Reject::UpstreamFailed => "14",
        Reject::InvalidCredentials | Reject::InvalidToken | Reject::MissingToken => "16",
    })
}

/// The response to a refused call: the status alone, as trailers. Returns the exchange if it is to be answered in HTTP.
pub(in crate::proxy) fn refuse(
    reject: Reject,
    mut exchange: Box<Exchange>,
) -> Result<Response<response_body::ResponseBody>, Box<Exchange>> {
    let Some(code) = code(reject).filter(|_| exchange.request.is_grpc) else { return Err(exchange) };
    exchange.outcome.grpc_status = code.parse().ok();
    let id = exchange.told_id();
    let mut response = Response::new(response_body::ResponseBody::whole(bytes::Bytes::new(), exchange));
    *response.status_mut() = StatusCode::OK;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert("grpc-status", HeaderValue::from_static(code));
    headers.insert("grpc-message", HeaderValue::from_static(reject.row().title));
    headers.insert("x-request-id", id);
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn media_types() {
        for (text, expect) in [
            ("application/grpc", true),
            ("Application/gRPC", true),
            ("APPLICATION/GRPC+proto", true),
            ("application/grpc;charset=utf-8", true),
            ("application/grpc ; charset=utf-8", true),
            ("application/grpc-web", false),
            ("application/grp", false),
            ("application/json", false),
            ("", false),
        ] {
            for version in [http::Version::HTTP_2, http::Version::HTTP_11] {
                let request = http::Request::builder().version(version).header(header::CONTENT_TYPE, text);
                let (head, ()) = request.body(()).unwrap().into_parts();
                assert_eq!(is_in_body(&head.headers), expect, "{text:?}");
                assert_eq!(is(&head), expect && version == http::Version::HTTP_2, "{text:?}");
            }
        }
    }

    #[test]
    fn g03_times() {
        for (text, expect) in [
            ("1H", Some(Duration::from_secs(3_600))),
            ("99999999H", Some(Duration::from_secs(99_999_999 * 3_600))),
            ("2M", Some(Duration::from_secs(120))),
            ("3S", Some(Duration::from_secs(3))),
            ("100m", Some(Duration::from_millis(100))),
            ("5u", Some(Duration::from_micros(5))),
            ("00000007n", Some(Duration::from_nanos(7))),
            ("", None),
            ("S", None),
            ("1", None),
            ("123456789S", None),
            ("-1S", None),
            ("+1S", None),
            ("1.5S", None),
            ("1 S", None),
            ("1s", None),
        ] {
            assert_eq!(time(text.as_bytes()), expect, "{text:?}");
        }
        let mut headers = HeaderMap::new();
        assert_eq!(timeout(&headers), Ok(None));
        headers.append("grpc-timeout", HeaderValue::from_static("1S"));
        assert_eq!(timeout(&headers), Ok(Some(Duration::from_secs(1))));
        headers.append("grpc-timeout", HeaderValue::from_static("2S"));
        assert!(timeout(&headers).is_err());
    }
}
