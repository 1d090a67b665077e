//! Responses of the gateway itself: redirects, fixed responses, preflights.
//!
//! *Invariant:* the host of a redirect comes from the configuration, or is the request's own: no redirect is open.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode, Version, header};

use super::{problem::is_head, response_body::ResponseBody};
use crate::{
    proxy::request::exchange::Exchange,
    refusal::{Refusal, Reject},
    route::target::Target,
    settings::route::Action,
    web::path::PathRules,
};

/// A response of the gateway itself.
pub(in crate::proxy) struct LocalReply {
    status: StatusCode,
    location: Option<HeaderValue>,
    content_type: Option<HeaderValue>,
    body: Bytes,
    /// Further headers.
    more: Option<Box<HeaderMap>>,
}

impl LocalReply {
    /// The response to a preflight.
    pub(in crate::proxy) fn preflight(permissions: HeaderMap) -> Self {
        Self {
            status: StatusCode::NO_CONTENT,
            location: None,
            content_type: None,
            body: Bytes::new(),
            more: Some(Box::new(permissions)),
        }
    }

    /// Whether the gateway goes on serving, for health checks.
    pub(in crate::proxy) const fn health(is_healthy: bool) -> Self {
        Self {
            status: if is_healthy { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE },
            location: None,
            content_type: Some(HeaderValue::from_static("text/plain; charset=utf-8")),
            body: Bytes::from_static(if is_healthy { b"ok\n" } else { b"stopping\n" }),
            more: None,
        }
    }

    /// The public keys of internal tokens.
    pub(in crate::proxy) fn keys(keys: Bytes) -> Self {
        let fresh = (header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=300"));
        Self {
            status: StatusCode::OK,
            location: None,
            content_type: Some(HeaderValue::from_static("application/jwk-set+json")),
            body: keys,
            more: Some(Box::new(HeaderMap::from_iter([fresh]))),
        }
    }

    /// A permanent redirect to `location`, with the same method and body (RFC 9110 15.4.9).
    pub(in crate::proxy) const fn elsewhere(location: HeaderValue) -> Self {
        Self {
            status: StatusCode::PERMANENT_REDIRECT,
            location: Some(location),
            content_type: None,
            body: Bytes::new(),
            more: None,
        }
    }

    /// The response of a route that has no upstream; `None`: it has one.
    pub(in crate::proxy) fn of(action: &Action, target: &Target) -> Result<Option<Self>, Refusal> {
        match action {
            Action::Forward(_) => Ok(None),
            Action::Redirect(redirect) => {
                let path = redirect.path.apply(target.path(), PathRules::default())?;
                let query = target.origin().query().map(|query| ["?", query]).unwrap_or_default();
                let location = [&redirect.origin, &*path, query[0], query[1]].concat();
                let location = HeaderValue::try_from(location)
                    .map_err(|_no_header| Refusal::new(Reject::BadRequest, "target fits no header"))?;
                Ok(Some(Self { status: redirect.status, ..Self::elsewhere(location) }))
            }
            Action::Respond(fixed) => Ok(Some(Self {
                status: fixed.status,
                location: None,
                content_type: fixed.content_type.clone(),
                body: fixed.body.clone(),
                more: None,
            })),
        }
    }

    /// Makes the response. `close`: nothing more can be read from this connection.
    pub(in crate::proxy) fn answer(self, mut exchange: Box<Exchange>, close: bool) -> Response<ResponseBody> {
        exchange.outcome.status = self.status.as_u16();
        let mut headers = HeaderMap::new();
        if let Some(content_type) = self.content_type {
            headers.insert(header::CONTENT_TYPE, content_type);
        }
        if let Some(edits) = exchange.compiled_route().and_then(|served| served.response_headers.as_ref()) {
            edits.apply(&mut headers);
        }
        if let Some(more) = self.more {
            headers.extend(*more);
        }
        if let Some(location) = self.location {
            headers.insert(header::LOCATION, location);
        }
        headers.insert("x-request-id", exchange.told_id());
        // In HTTP/2 one stream says nothing about the others.
        if close && matches!(&exchange.request.line, Some((_, Version::HTTP_10 | Version::HTTP_11, _))) {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        let body = if is_head(&exchange) { Bytes::new() } else { self.body };
        let mut response = Response::new(ResponseBody::whole(body, exchange));
        *response.status_mut() = self.status;
        *response.headers_mut() = headers;
        response
    }
}
