//! Reads the metadata of an issuer (OpenID Connect Discovery 1.0, RFC 8414): where it is asked for what.

use http::{HeaderMap, StatusCode, header};

use super::client::{FailureKind, OutboundClient, OutboundFailure, OutboundRequest};
use crate::{outbound::Server, policy::auth::jwt::discovery, web::url::Url};

/// Where the metadata of `issuer`, which is at `url`, says that it is asked: the URL that it has as `member`.
///
/// # Errors
/// There is no metadata, or it does not say so.
pub(super) async fn discover(
    client: &OutboundClient,
    server: &Server,
    url: &Url,
    issuer: &str,
    member: &str,
) -> Result<Url, OutboundFailure> {
    let mut status = StatusCode::NOT_FOUND;
    for place in discovery::places(url) {
        let answer = client.ask(server, OutboundRequest::get(place, discovery::MAX_DOCUMENT)).await?;
        status = answer.status;
        match status {
            StatusCode::OK => {
                expect_json(&answer.headers)?;
                let found = discovery::endpoint(&answer.body, issuer, url.is_https(), member);
                return found.map_err(|wrong| OutboundFailure::new(FailureKind::Content, wrong));
            }
            StatusCode::NOT_FOUND => {}
            _ => break,
        }
    }
    Err(OutboundFailure::new(FailureKind::Status, format!("its metadata is answered with the status {status}")))
}

/// Types of what may be JSON: that of a file whose server does not know better, too.
const JSON: [&str; 5] =
    ["application/json", "application/octet-stream", "binary/octet-stream", "text/json", "text/plain"];

/// What is a page for people is not looked at.
///
/// # Errors
/// It is one, or something else that is no JSON.
pub(super) fn expect_json(headers: &HeaderMap) -> Result<(), OutboundFailure> {
    let Some(kind) = headers.get(header::CONTENT_TYPE) else { return Ok(()) };
    let kind = kind.to_str().unwrap_or_default().split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    if JSON.contains(&kind.as_str()) || kind.starts_with("application/") && kind.ends_with("+json") {
        return Ok(());
    }
    Err(OutboundFailure::new(FailureKind::Content, format!("its answer is {kind:.50}, not JSON")))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn types_of_documents() {
        for (kind, expect) in [
            ("application/json", true),
            ("Application/JSON; charset=utf-8", true),
            ("application/jwk-set+json", true),
            // What S3 and servers of plain files say.
            ("binary/octet-stream", true),
            ("application/octet-stream", true),
            ("text/plain; charset=utf-8", true),
            ("text/html", false),
            ("text/html; charset=utf-8", false),
            ("application/xml", false),
            ("image/svg+json", false),
            ("", false),
        ] {
            let headers = HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static(kind))]);
            assert_eq!(expect_json(&headers).is_ok(), expect, "{kind}");
        }
        assert!(expect_json(&HeaderMap::new()).is_ok());
    }
}
