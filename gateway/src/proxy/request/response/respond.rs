//! How a request is answered: with an upstream's response, with a tunnel, or without an upstream; and the headers that
//! every response bears.

use http::{HeaderValue, Response, StatusCode, header, response};

use super::{grpc_status, response_body::ResponseBody, response_copy::ResponseCopy};
use crate::{
    policy::limit::{Limits, RateLimitHeaders},
    proxy::{
        body,
        connection::Connection,
        generation::ListenerRef,
        request::exchange::Exchange,
        tunnel::{Tunnel, upgrade},
        upstream::{UpstreamResponse, headers},
    },
    refusal::Reject,
    route::{cors, target::Target},
    tls,
};

/// Passes the upstream's response on.
pub(in crate::proxy::request) fn relay(
    mut exchange: Box<Exchange>,
    mut head: response::Parts,
    mut response: UpstreamResponse,
) -> Response<ResponseBody> {
    exchange.request.body = None;
    exchange.outcome.status = head.status.as_u16();
    exchange.note_cost(&head.headers);
    let copy = ResponseCopy::begin(&exchange, &head, !response.is_over());
    let ends_early = response.ends_early();
    let lines = response.lines();
    if exchange.request.is_grpc {
        // A call that failed at once has its status among the headers.
        exchange.outcome.grpc_status = grpc_status::status(&head.headers);
    }
    if lines.is_none() {
        headers::response(&mut head.headers, exchange.told_id());
        if let Some(edits) = exchange.compiled_route().and_then(|route| route.response_headers.as_ref()) {
            edits.apply(&mut head.headers);
        }
    }
    if ends_early {
        // The server may take no more of the body: the client is told as the server tells us.
        head.headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    match lines {
        Some(mut lines) => {
            headers::lines(&mut lines, exchange.id, exchange.info.as_deref());
            Response::from_parts(head, ResponseBody::relayed(response, exchange).copied(copy).with(lines))
        }
        None => Response::from_parts(head, ResponseBody::relayed(response, exchange).copied(copy)),
    }
}

/// Lets the connection become a tunnel.
pub(in crate::proxy::request) fn switch(
    mut exchange: Box<Exchange>,
    mut head: response::Parts,
    response: UpstreamResponse,
) -> Response<ResponseBody> {
    exchange.request.body = None;
    let protocol = head.headers.get(header::UPGRADE).cloned();
    headers::response(&mut head.headers, exchange.told_id());
    let route = exchange.compiled_route();
    if let Some(edits) = route.and_then(|route| route.response_headers.as_ref()) {
        edits.apply(&mut head.headers);
    }
    if let Some(protocol) = protocol {
        upgrade::tell(&mut head.headers, protocol);
    }
    let outlives_token = route.and_then(|route| route.upgrade.as_ref()).is_some_and(|upgrade| upgrade.outlives_token);
    exchange.outcome.status = head.status.as_u16();
    Response::from_parts(head, ResponseBody::switched(Box::new(Tunnel::new(response, exchange, outlives_token))))
}

/// Deals with a body that no upstream gets: the request is refused (F14), or answered without an upstream. `true`: the
/// connection ends with the response.
pub(in crate::proxy::request) fn settle(
    exchange: &mut Exchange,
    expects_continue: bool,
    reject: Option<Reject>,
) -> bool {
    match exchange.request.body.take() {
        _ if reject == Some(Reject::BadRequest) => true,
        Some(body) if body.is_end_stream() => false,
        // A client that waits for 100 (Continue) may send the body or not: what follows could be either (F15).
        Some(_) if expects_continue => true,
        Some(body) if body::is_forgettable(&body) => {
            let timeouts = exchange.snapshot().settings.timeouts;
            tokio::task::spawn_local(body::forget(body, timeouts));
            false
        }
        Some(_) => true,
        // It was validated whole, so it was read to its end.
        None if matches!(reject, Some(Reject::BodyTooComplex | Reject::InvalidBody | Reject::UnsupportedMediaType)) => {
            false
        }
        None => true,
    }
}

/// Notes the headers that a response goes out with, where the access log has some of them.
pub(in crate::proxy::request) fn note(
    listener: &ListenerRef,
    response: Response<ResponseBody>,
) -> Response<ResponseBody> {
    if listener.snapshot().access_log.response_headers.is_empty() {
        return response;
    }
    let (head, mut body) = response.into_parts();
    body.note(&head.headers);
    Response::from_parts(head, body)
}

/// The headers that every response bears, whoever makes it: HSTS, CORS and what is left of limits.
pub(in crate::proxy::request) struct CommonHeaders<'a> {
    hsts: Option<&'a HeaderValue>,
    /// What pages may read, and the page that asks.
    cors: Option<(&'a cors::CorsPolicy, Option<HeaderValue>)>,
    limit: Option<(&'a Limits, RateLimitHeaders)>,
    /// The response is an upstream's.
    is_relayed: bool,
}

impl<'a> CommonHeaders<'a> {
    pub(in crate::proxy::request) fn of(
        listener: &'a ListenerRef,
        connection: &'a Connection,
        exchange: &Exchange,
        is_relayed: bool,
    ) -> Self {
        let hsts: Option<&tls::HstsHosts> = match connection.secured.get() {
            Some(secured) => secured.hsts.as_deref(),
            None => listener.snapshot().hsts.get(listener.index).and_then(Option::as_ref),
        };
        // RFC 6797 7.2: never to a client that came without TLS.
        let hsts = hsts.filter(|_| exchange.scheme() == "https");
        let hsts = hsts.and_then(|hsts| hsts.of(exchange.request.target.as_ref().map(Target::host)));
        let group = exchange.compiled_route().map_or(exchange.routing.cors, |route| route.cors);
        let limit = listener.snapshot().limits.as_ref().zip(exchange.told_limit());
        let cors = group.and_then(|group| listener.snapshot().cors.get(group));
        Self { hsts, cors: cors.map(|group| (group, exchange.request.origin.clone())), limit, is_relayed }
    }

    /// Writes them.
    pub(in crate::proxy::request) fn write(self, response: &mut Response<ResponseBody>) {
        if let Some(hsts) = self.hsts {
            response.headers_mut().insert(header::STRICT_TRANSPORT_SECURITY, hsts.clone());
        }
        if let Some((limits, told)) = &self.limit {
            // Without a map, where it would be made for nothing else.
            let raw = response.body_mut().raw_head();
            let is_told = raw.and_then(|lines| limits.tell_each(told, |name, value| lines.add(name, value)));
            if is_told.is_none() {
                limits.tell(told, response.headers_mut());
            }
        }
        // No page reads the answer to an upgrade.
        if let Some((group, origin)) = self.cors.filter(|_| response.status() != StatusCode::SWITCHING_PROTOCOLS) {
            group.tell(origin.as_ref(), self.is_relayed, response.headers_mut());
        }
    }
}
