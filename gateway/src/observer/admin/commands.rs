//! Commands of operators: `POST /v1/NAME` with a token and JSON. They are handed to the guard, which answers.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body::Body;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};

use super::{
    access,
    places::PeerAddress,
    responses::{ResponseBody, response, text},
};
use crate::{
    message::observer::relay::{LONGEST_ARGUMENTS, LONGEST_NAME, LONGEST_TOKEN, Relayed},
    observer::relay::{NoAnswer, RelayedAnswer},
};

/// Before the name of a command.
const PREFIX: &str = "/v1/";

/// Whether a path is that of a command, or would be one.
pub(super) fn is_command(path: &str) -> bool {
    path.starts_with(PREFIX)
}

/// The command of a request, without its arguments.
///
/// # Errors
/// The response to what is none.
pub(super) fn read<B>(
    request: &Request<B>,
    peer: PeerAddress,
    is_tls: bool,
) -> Result<Relayed, Box<Response<ResponseBody>>> {
    let name = request.uri().path().strip_prefix(PREFIX).unwrap_or_default();
    let is_name = |name: &str| name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
    if name.is_empty() || name.len() > LONGEST_NAME || !is_name(name) {
        return Err(text(StatusCode::NOT_FOUND, "there is no such command: see docs/admin-api.md\n").into());
    }
    if request.method() != Method::POST {
        let mut refused = text(StatusCode::METHOD_NOT_ALLOWED, "POST is allowed\n");
        refused.headers_mut().insert(header::ALLOW, HeaderValue::from_static("POST"));
        return Err(refused.into());
    }
    let token = caller(request, peer, is_tls)?;
    Ok(Relayed { number: 0, address: peer, token, name: name.to_owned(), arguments: Vec::new() })
}

/// The token that a request shows.
///
/// # Errors
/// The response to one that shows none, or should not.
pub(super) fn caller<B>(
    request: &Request<B>,
    peer: PeerAddress,
    is_tls: bool,
) -> Result<String, Box<Response<ResponseBody>>> {
    // Beside the check of the configuration: no token goes over a network as it is.
    if !is_tls && peer.is_some_and(|address| !address.to_canonical().is_loopback()) {
        return Err(text(StatusCode::FORBIDDEN, "commands from other machines take TLS\n").into());
    }
    token(request.headers()).ok_or_else(|| {
        let mut refused = text(StatusCode::UNAUTHORIZED, "a token is needed: `gateway admin-token new` makes one\n");
        refused.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        Box::new(refused)
    })
}

fn token(headers: &HeaderMap) -> Option<String> {
    let token = std::str::from_utf8(access::bearer(headers)?).ok()?;
    (token.len() <= LONGEST_TOKEN).then(|| token.to_owned())
}

/// Reads the arguments of a command.
///
/// # Errors
/// The response to what are none.
pub(super) async fn arguments<B>(body: B) -> Result<Vec<u8>, Box<Response<ResponseBody>>>
where
    B: Body<Error: Into<Box<dyn std::error::Error + Send + Sync>>>,
{
    match Limited::new(body, LONGEST_ARGUMENTS).collect().await {
        Ok(body) => Ok(body.to_bytes().to_vec()),
        Err(error) if error.is::<LengthLimitError>() => {
            Err(text(StatusCode::PAYLOAD_TOO_LARGE, "a command has at most 48 KiB\n").into())
        }
        Err(_left) => Err(text(StatusCode::BAD_REQUEST, "the body cannot be read\n").into()),
    }
}

/// The response to a command, by what the guard has answered.
pub(super) fn answered(answer: Result<RelayedAnswer, NoAnswer>) -> Response<ResponseBody> {
    match answer {
        Ok((status, body)) => {
            let status = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY);
            let mut answered = response(status, "application/json", Bytes::from(body));
            if status == StatusCode::UNAUTHORIZED {
                let invalid = HeaderValue::from_static("Bearer error=\"invalid_token\"");
                answered.headers_mut().insert(header::WWW_AUTHENTICATE, invalid);
            }
            answered
        }
        Err(NoAnswer::Busy) => text(StatusCode::SERVICE_UNAVAILABLE, "other commands are under way: try again\n"),
        Err(NoAnswer::Gone) => text(StatusCode::SERVICE_UNAVAILABLE, "the guard is not there: try again\n"),
        Err(NoAnswer::Late) => {
            text(StatusCode::GATEWAY_TIMEOUT, "the guard takes long: it may still do what was asked\n")
        }
    }
}
