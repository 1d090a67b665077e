//! What an upstream is sent of a request: its body, as it comes or whole, and its head.

use std::{rc::Rc, sync::Arc};

use http::{HeaderValue, Version, header, request::Parts};

use super::{exchange::Exchange, unserved::Unserved};
use crate::{
    auth::{Identity, certificate::ClientCertificate},
    proxy::{
        body::{RequestBody, Upload},
        generation::Generation,
        raw_head::HeadFormat,
        tunnel::{token, upgrade::UpgradeRequest},
        upstream::{AttemptTimeouts, Attempts, ForwardError, ForwardJob, ServerGroup, UpstreamRequest, headers},
    },
    refusal::{Refusal, Reject},
    snapshot::CompiledRoute,
};

/// Takes the body of a request: as it comes, or whole where the route has a schema for it.
pub(super) async fn upload(
    generation: &Generation,
    route: &CompiledRoute,
    head: &Parts,
    exchange: &mut Exchange,
) -> Result<Upload, Unserved> {
    let Some(body) = exchange.request.body.as_ref() else { return Ok(Upload::Empty) };
    if body.size_hint().exact().is_some_and(|length| length > route.max_body) {
        return Err(Refusal::new(Reject::BodyTooLarge, "Content-Length over the limit").into());
    }
    if body.is_end_stream() && route.schema.is_none() {
        return Ok(Upload::Empty);
    }
    // What is validated must be what the upstream reads (B05): nothing is decoded here.
    if route.schema.is_some() && head.headers.contains_key(header::CONTENT_ENCODING) {
        return Err(Refusal::new(Reject::UnsupportedMediaType, "Content-Encoding").into());
    }
    let Some(body) = exchange.request.body.take() else { return Ok(Upload::Empty) };
    let received = Rc::clone(exchange.outcome.bytes_in.get_or_insert_default());
    let body = RequestBody::new(body, route.max_body, &route.timeouts, received);
    let body = if exchange.request.is_grpc { body.of_messages() } else { body };
    let Some(schema) = &route.schema else { return Ok(Upload::Streaming(Box::new(body))) };
    // Boxed, as most requests do without it.
    let bytes = Box::pin(body.whole()).await.map_err(ForwardError::from)?;
    match schema.validate_at_once(head.headers.get(header::CONTENT_TYPE), &bytes) {
        Some(judged) => judged?,
        None => generation.validators().validate(Arc::clone(schema), bytes.clone()).await?,
    }
    Ok(Upload::Whole(bytes))
}

/// How a request is forwarded.
pub(super) struct Plan<'a> {
    pub(super) group: &'a ServerGroup,
    pub(super) route: &'a CompiledRoute,
    /// The certificate that the client has shown.
    pub(super) certificate: Option<&'a ClientCertificate>,
    /// The protocol that the connection is to change to.
    pub(super) upgrade: Option<Box<UpgradeRequest>>,
    pub(super) timeouts: AttemptTimeouts,
}

impl<'a> Plan<'a> {
    /// What a server of the group is sent, and how its answer is read.
    pub(super) fn job(
        self,
        mut head: Box<Parts>,
        upload: Upload,
        exchange: &Exchange,
    ) -> Result<ForwardJob<'a>, Refusal> {
        let Self { group, route, certificate, upgrade: wanted, timeouts } = self;
        let target = exchange.target()?;
        let local = exchange.connection.listener;
        let context = group.context(&exchange.client, local, target.path(), &head.headers).for_tunnel(wanted.is_some());
        let takes_trailers = group.takes_trailers() && headers::takes_trailers(&head.headers);
        // A head that nobody changes passes as it came.
        let is_logged = !exchange.snapshot().access_log.response_headers.is_empty();
        let is_plain = wanted.is_none() && route.response_headers.is_none() && route.cors.is_none() && !is_logged;
        let form = match head.version {
            Version::HTTP_11 if is_plain => HeadFormat::Lines,
            Version::HTTP_2 if is_plain => HeadFormat::Fields,
            _ => HeadFormat::Map,
        };
        let ours = headers::ForwardedHeaders {
            client: exchange.client.address.ip(),
            scheme: exchange.connection.scheme(),
            forwarded: exchange.info.as_deref(),
            authority: target.authority(),
            id: exchange.id,
            principal: exchange.identity.as_deref().map(Identity::principal),
            certificate,
            passing: &route.pass_headers,
        };
        if let Some(upgrade) = &route.upgrade {
            token::hide(&mut head.headers, upgrade);
        }
        // Headers that only a server of HTTP/1.1 gets, and that no route edits, are written as lines at once.
        let lines = if group.takes_trailers() || route.request_headers.is_some() {
            headers::request(&mut head.headers, &ours);
            Vec::new()
        } else {
            headers::request_by_lines(&mut head.headers, &ours)
        };
        if let Some(edits) = &route.request_headers {
            edits.apply(&mut head.headers);
        }
        if let Some(trace) = &exchange.trace {
            trace.tell(&mut head.headers);
        }
        if takes_trailers {
            head.headers.insert(header::TE, HeaderValue::from_static("trailers"));
        }
        if let Some(wanted) = &wanted {
            wanted.ask(&mut head.headers);
        }
        head.uri = match &route.rewrite {
            Some(rewrite) => target.with_path(rewrite.apply(target.path(), route.allow_in_path)?)?.into(),
            None => target.origin().clone().into(),
        };
        let request = UpstreamRequest::new(head, upload, lines);
        let attempts = Attempts { is_timed: exchange.is_timed(), ..Attempts::none() };
        Ok(ForwardJob { group, context, request, wanted, form, timeouts, attempts })
    }
}
