//! What an upstream is sent of a request: its body, as it comes or whole, and its head.

use std::rc::Rc;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Version, header, request::Parts};

use super::{
    checks::{
        contract,
        encoded::Readers,
        inspect::{self, Inspection},
    },
    exchange::Exchange,
    grpc,
    unserved::Unserved,
};
use crate::{
    policy::{
        admission::Class,
        auth::{self, certificate::ClientCertificate},
        limit::Limits,
    },
    proxy::{
        body::{RequestBody, Upload, WholeBody},
        generation::Generation,
        raw_head::HeadFormat,
        tunnel::{token, upgrade::UpgradeRequest},
        upstream::{AttemptTimeouts, Attempts, ForwardError, ForwardJob, ServerGroup, UpstreamRequest, headers},
    },
    refusal::{Refusal, Reject},
    settings::{auth::Method, validate::ContentEncoding},
    snapshot::CompiledRoute,
};

/// Takes the body of a request: as it comes, or whole where the route judges it. Where the route looks for attacks, the
/// request is judged here.
pub(super) async fn upload(
    generation: &Generation,
    (group, route): (&ServerGroup, &CompiledRoute),
    head: &Parts,
    exchange: &mut Exchange,
) -> Result<Upload, Unserved> {
    let length = exchange.request.body.as_ref().map_or(Some(0), |body| body.size_hint().exact());
    if length.is_some_and(|length| length > route.max_body) {
        return Err(Refusal::new(Reject::BodyTooLarge, "Content-Length over the limit").into());
    }
    let rule = contract::judge_head(route, exchange, head, length)?;
    let nothing = Bytes::new();
    let Some(body) = exchange.request.body.as_ref() else {
        inspect::judge(generation, route, head, (&nothing, &nothing), exchange).await?;
        return Ok(Upload::Empty);
    };
    let inspection = inspect::plan(route, head, length)?;
    if body.is_end_stream() && rule.is_none() && route.graphql.is_none() {
        inspect::judge(generation, route, head, (&nothing, &nothing), exchange).await?;
        return Ok(Upload::Empty);
    }
    // What is judged must be what the upstream reads (B05).
    let mut readers = Readers { rule, inspection };
    let coding = readers.coding(route, head, exchange)?;
    let Some(body) = exchange.request.body.take() else { return Ok(Upload::Empty) };
    let received = Rc::clone(exchange.outcome.bytes_in.get_or_insert_default());
    let largest = if let Inspection::Whole { largest, .. } = readers.inspection { largest } else { route.max_body };
    let body = RequestBody::new(body, largest, &route.timeouts, received);
    let body = body.without(route.withheld_trailers.as_ref());
    let body = match exchange.throttles.upload.take() {
        Some(throttle) => body.held_back(throttle),
        None => body,
    };
    // A call that comes by HTTP/1.1 is one to a server of HTTP/2 all the same.
    let mut body = if exchange.request.is_grpc || group.takes_trailers() && grpc::is_in_body(&head.headers) {
        body.of_messages(Rc::clone(exchange.outcome.messages_in.get_or_insert_default()))
    } else {
        body
    };
    if coding.is_none() && readers.are_none(route) {
        inspect::judge(generation, route, head, (&nothing, &nothing), exchange).await?;
        return Ok(Upload::Streaming(Box::new(body)));
    }
    // What nothing else asks for is not held in memory.
    let reads_all = coding.is_some() || readers.rule.is_some() || route.graphql.is_some();
    let bytes = match readers.inspection.ahead().filter(|_| !reads_all) {
        Some(most) => match Box::pin(body.read_ahead(most)).await.map_err(ForwardError::from)? {
            Some(bytes) => bytes,
            None => {
                inspect::judge(generation, route, head, (&nothing, &nothing), exchange).await?;
                return Ok(Upload::Streaming(Box::new(body)));
            }
        },
        // Boxed, as most requests do without it.
        None => Box::pin(body.whole()).await.map_err(ForwardError::from)?,
    };
    let decoded = match coding.filter(|_| !bytes.is_empty()) {
        Some(coding) => readers.decode((generation, route), (coding, &bytes, largest), exchange).await?,
        None => None,
    };
    let judged = decoded.as_ref().unwrap_or(&bytes);
    let inspected = readers.inspection.part_of(judged);
    inspect::judge(generation, route, head, (&inspected, judged), exchange).await?;
    if let Some(rule) = readers.rule {
        match contract::judge_body(generation, rule, &head.headers, judged).await {
            Err(refusal) if route.is_report_only => contract::report(route, refusal, exchange),
            judged => judged?,
        }
    }
    let is_sent_decoded = route.content_encoding == Some(ContentEncoding::Decode);
    let bytes = decoded.filter(|_| is_sent_decoded).unwrap_or(bytes);
    Ok(Upload::Whole(WholeBody { bytes, trailers: body.take_trailers() }))
}

/// How a request is forwarded.
pub(super) struct ForwardPlan<'a> {
    pub(super) group: &'a ServerGroup,
    pub(super) route: &'a CompiledRoute,
    /// The certificate that the client has shown.
    pub(super) certificate: Option<&'a ClientCertificate>,
    /// The protocol that the connection is to change to.
    pub(super) upgrade: Option<Box<UpgradeRequest>>,
    pub(super) timeouts: AttemptTimeouts,
    pub(super) class: Class,
}

impl<'a> ForwardPlan<'a> {
    /// What a server of the group is sent, and how its answer is read.
    pub(super) fn job(
        self,
        mut head: Box<Parts>,
        upload: Upload,
        exchange: &Exchange,
    ) -> Result<ForwardJob<'a>, Refusal> {
        let Self { group, route, certificate, upgrade: wanted, timeouts, class } = self;
        let target = exchange.target()?;
        let local = exchange.connection.listener;
        let context = group.context(&exchange.client, local, target.path(), &head.headers).for_tunnel(wanted.is_some());
        let takes_trailers = group.takes_trailers() && headers::takes_trailers(&head.headers);
        // A head that nobody changes passes as it came.
        let is_logged = !exchange.snapshot().access_log.response_headers.is_empty();
        let is_plain = wanted.is_none()
            && route.response_headers.is_none()
            && route.cors.is_none()
            && !is_logged
            && !route.contract.as_ref().is_some_and(|contract| contract.judges_responses())
            && !exchange.snapshot().limits.as_ref().is_some_and(Limits::reads_responses);
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
            identity: exchange.identity.as_deref(),
            identity_headers: &exchange.snapshot().identity_headers,
            token: internal_token(exchange, group)?,
            own: &exchange.snapshot().own_headers,
            certificate,
            passing: &route.pass_headers,
        };
        if route.content_encoding == Some(ContentEncoding::Decode) {
            head.headers.remove(header::CONTENT_ENCODING);
        }
        hide_password(&mut head.headers, route, exchange);
        if let Some(upgrade) = &route.upgrade {
            token::hide(&mut head.headers, upgrade);
        }
        // A key is the gateway's to know, and no upstream's.
        if let Some(keys) = &exchange.snapshot().settings.auth.api_keys
            && route.accepted.methods.has(Method::ApiKey)
        {
            head.headers.remove(&keys.header);
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
        let attempts = Attempts { is_timed: exchange.is_timed() || exchange.trace.is_some(), ..Attempts::none() };
        let client = if group.limits_requests_at_once() { exchange.number_of_caller() } else { 0 };
        Ok(ForwardJob { group, context, request, wanted, form, timeouts, attempts, class, client })
    }
}

/// The token that tells the upstream who the client is, and its header.
fn internal_token<'a>(
    exchange: &'a Exchange,
    group: &ServerGroup,
) -> Result<Option<(&'a HeaderName, HeaderValue)>, Refusal> {
    let Some((tokens, identity)) = exchange.snapshot().internal_tokens.as_ref().zip(exchange.identity.as_ref()) else {
        return Ok(None);
    };
    let token = tokens.token(identity, group.name(), exchange.began);
    let token = token.ok_or_else(|| Refusal::new(Reject::Unavailable, "no internal token can be made"))?;
    Ok(Some((tokens.header(), token)))
}

/// Removes the password that the route has asked for: it is the gateway's to know, and no upstream's. A wrong one as well,
/// which a requirement in shadow lets through: it is often right but for a letter.
fn hide_password(headers: &mut HeaderMap, route: &CompiledRoute, exchange: &Exchange) {
    let accepts = route.access.needs_identity() && route.accepted.methods.has(Method::Basic);
    let forwards = || exchange.snapshot().settings.auth.basic.as_ref().is_some_and(|basic| basic.forward);
    if accepts && auth::holds_password(headers) && !forwards() {
        headers.remove(header::AUTHORIZATION);
    }
}
