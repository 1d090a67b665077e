//! Reads the metadata of an issuer (OpenID Connect Discovery 1.0, RFC 8414): where it is asked for what.

use http::{HeaderMap, StatusCode, header};

use super::client::{Client, Failure, FailureKind, OutboundRequest};
use crate::{auth::jwt::discovery, outbound::Server, url::Url};

/// Where the metadata of `issuer`, which is at `url`, says that it is asked: the URL that it has as `member`.
///
/// # Errors
/// There is no metadata, or it does not say so.
pub(super) async fn discover(
    client: &Client,
    server: &Server,
    url: &Url,
    issuer: &str,
    member: &str,
) -> Result<Url, Failure> {
    let mut status = StatusCode::NOT_FOUND;
    for place in discovery::places(url) {
        let answer = client.ask(server, OutboundRequest::get(place, discovery::MAX_DOCUMENT)).await?;
        status = answer.status;
        match status {
            StatusCode::OK => {
                expect_json(&answer.headers)?;
                let found = discovery::endpoint(&answer.body, issuer, url.is_https(), member);
                return found.map_err(|wrong| Failure::new(FailureKind::Content, wrong));
            }
            StatusCode::NOT_FOUND => {}
            _ => break,
        }
    }
    Err(Failure::new(FailureKind::Status, format!("its metadata is answered with the status {status}")))
}

/// What is a page for people is not looked at.
///
/// # Errors
/// It is one, or something else that is no JSON.
pub(super) fn expect_json(headers: &HeaderMap) -> Result<(), Failure> {
    let Some(kind) = headers.get(header::CONTENT_TYPE) else { return Ok(()) };
    let kind = kind.to_str().unwrap_or_default().split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    if kind == "application/json" || kind.starts_with("application/") && kind.ends_with("+json") {
        return Ok(());
    }
    Err(Failure::new(FailureKind::Content, format!("its answer is {kind:.50}, not JSON")))
}
