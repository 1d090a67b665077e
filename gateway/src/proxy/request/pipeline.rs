//! The life of a request, from its head to its response. The cheapest question comes first: no cryptography before the
//! address is counted, no byte of the body before the permit.

use std::rc::Rc;

use http::{HeaderValue, Response, StatusCode, Version, header, request::Parts, response};

use super::{
    checks::lookup,
    exchange::Exchange,
    forward::{self, ForwardPlan},
    grpc,
    response::{
        interim::InterimRelay,
        local_reply::LocalReply,
        problem,
        respond::{self, CommonHeaders},
        response_body::{self, REVOKED},
    },
    routing::{self, RouteMatch},
    trace::Recorder,
    unserved::Unserved,
};
use crate::{
    log::line::Timings,
    message::telemetry::TraceStep,
    os::clock::{self, Now},
    policy::{
        auth::{AuthOutcome, Presented},
        authz::{RequestFacts, WouldDeny},
        limit::When,
    },
    proxy::{
        body::Incoming,
        connection::Connection,
        generation::ListenerRef,
        tunnel::{token, upgrade},
        upstream::{self, AttemptTimeouts, Attempts, ClientSide, UpstreamResponse},
        worker::Worker,
    },
    refusal::{Refusal, Reject, TokenFault},
    route::cors,
};

/// Answers one request.
pub(in crate::proxy) async fn serve(
    worker: Rc<Worker>,
    connection: Rc<Connection>,
    listener: ListenerRef,
    head: Box<Parts>,
    body: Incoming,
) -> Response<response_body::ResponseBody> {
    let now = Now::read();
    let line = (head.method.clone(), head.version, head.uri.path_and_query().cloned());
    let mut exchange = Exchange::begin(&worker, &connection, listener.clone(), Some(line), now);
    exchange.request.is_grpc = grpc::is(&head);
    exchange.request.body = Some(body);
    exchange.trace = listener.generation.traces().map(|settings| {
        let is_trusted = exchange.client.is_trusted;
        let mut recorder = Recorder::begin(settings, &head.headers, is_trusted, exchange.id, now.monotonic);
        recorder.shook_hands(connection.handshake());
        Box::new(recorder)
    });
    exchange.note(&head.headers);
    exchange.look(&head.headers);
    if !listener.snapshot().cors.is_empty() {
        exchange.request.origin = cors::origin(&head.headers);
    }
    // The client waits for `100 (Continue)` before it sends its body.
    let expects_continue = head.headers.contains_key(header::EXPECT);
    let is_http1 = head.version != Version::HTTP_2;
    let answered = answer(&worker, &connection, &listener, &mut exchange, head, now).await;
    let common = CommonHeaders::of(&listener, &connection, &exchange, answered.is_ok());
    let mut response = match answered {
        Ok((head, response)) if head.status == StatusCode::SWITCHING_PROTOCOLS => {
            respond::switch(exchange, head, response)
        }
        Ok((head, response)) => respond::relay(exchange, head, response),
        Err(Unserved::Refused(refusal)) => {
            let close = respond::settle(&mut exchange, expects_continue, Some(refusal.reject));
            left_unread(problem::refuse(exchange, refusal, close), close)
        }
        Err(Unserved::LocalReply(reply)) => {
            let close = respond::settle(&mut exchange, expects_continue, None);
            left_unread(reply.answer(exchange, close), close)
        }
        Err(Unserved::ClientLeft) => left_unread(problem::incomplete(exchange), true),
    };
    common.write(&mut response);
    response = respond::note(&listener, response);
    if is_http1
        && (worker.draining.get() || connection.leaves())
        && response.status() != StatusCode::SWITCHING_PROTOCOLS
    {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// A response whose request may be `unread`: the client is told with it, and is listened to a little longer.
fn left_unread(
    mut response: Response<response_body::ResponseBody>,
    unread: bool,
) -> Response<response_body::ResponseBody> {
    if unread {
        response.body_mut().leave_unread();
    }
    response
}

/// The phases up to the upstream's answer, one question a line.
async fn answer(
    worker: &Rc<Worker>,
    connection: &Connection,
    listener: &ListenerRef,
    exchange: &mut Exchange,
    head: Box<Parts>,
    now: Now,
) -> Result<(response::Parts, UpstreamResponse), Unserved> {
    // Whoever is over a limit that delays waits before anything is done that the limit is to hold back.
    routing::admit(connection, listener, exchange, &head, now)?;
    let now = exchange.wait_for_turn(now).await?;
    let RouteMatch { route, certificate } = routing::find(worker, connection, listener, exchange, &head, now)?;
    let now = exchange.wait_for_turn(now).await?;
    exchange.ended(TraceStep::Route);
    let mut would = WouldDeny::default();
    route.access.admit(exchange.client.named(), &mut would)?;
    let authenticates = exchange.clock();
    if route.access.needs_identity() {
        exchange.epoch = listener.snapshot().authenticators.tables().epoch();
        let token = route.upgrade.as_ref().map(|upgrade| token::find(&head, upgrade)).transpose()?.flatten();
        let (headers, carried, source) = (&head.headers, token.as_deref(), exchange.client.source);
        let (client, host) = (exchange.client.named(), exchange.target()?.host());
        let presented = Presented { headers, carried, certificate, source, client, host, answers: &[] };
        let proved = match listener.snapshot().authenticators.identify(&presented, &route.accepted, now) {
            AuthOutcome::Decided(decided) => decided,
            // Boxed, as most requests do without it.
            AuthOutcome::Needs(lookup) => {
                Box::pin(lookup::identify(listener, route, exchange, presented, lookup)).await
            }
        };
        match proved.and_then(|identity| listener.snapshot().authenticators.admit(identity)) {
            Ok(identity) => {
                exchange.identity = Some(identity);
                exchange.look_for_unusual(&head.headers);
                listener.generation.measures().iter().for_each(|measures| measures.note_authenticated());
            }
            Err(refusal) => route.access.unproved(refusal, &mut would)?,
        }
        exchange.ended(TraceStep::Authenticate);
    }
    let target = exchange.target()?;
    let (path, is_odd, address) = (target.path(), target.is_odd(), exchange.client.named());
    let facts = RequestFacts { path, is_odd, method: &head.method, address };
    let permit = route.access.authorize(exchange.identity.as_deref(), &facts, &mut would)?;
    if !would.is_empty() {
        exchange.would_deny(&route.access, would);
    }
    exchange.limit(When::Authorized, &head.headers, now.monotonic)?;
    exchange.limit_operation(route, When::Authorized, &head.headers, now.monotonic)?;
    exchange.wait_for_turn(now).await?;
    exchange.tell_kernel_of_proof();
    let class = exchange.prioritize()?;
    exchange.throttle(&head.headers);
    if let Some((before, after)) = authenticates.zip(exchange.clock()) {
        exchange.time(|timings| timings.auth = Some(after.saturating_sub(before)));
    }
    let Some(upstream) = route.action.upstream() else {
        return Err(match LocalReply::of(&route.action, exchange.target()?)? {
            Some(reply) => Unserved::LocalReply(Box::new(reply)),
            None => no_upstream().into(),
        });
    };
    let has_body = exchange.request.body.as_ref().is_some_and(|body| !body.is_end_stream());
    let upgrade = upgrade::wanted(&head, has_body, route.upgrade.as_ref())?;
    let caller = if exchange.request.is_grpc { grpc::timeout(&head.headers)? } else { None };
    exchange.ended(TraceStep::Authorize);
    let group = listener.generation.upstreams.get(upstream).ok_or_else(no_upstream)?;
    let upload = forward::upload(&listener.generation, (group, route), &head, exchange).await?;
    if route.judges_bodies() {
        exchange.ended(TraceStep::Validate);
    }
    let timeouts = AttemptTimeouts::new(&route.timeouts, caller);
    let mut job = ForwardPlan { group, route, certificate, upgrade, timeouts, class }.job(head, upload, exchange)?;
    exchange.forwarded();
    let began = listener.generation.measures().map(|measures| (measures, clock::monotonic()));
    let interim = InterimRelay::new(exchange, connection);
    let client = ClientSide { write_batch: &connection.write_batch, interim: &interim };
    let answered = upstream::forward(permit, &mut job, &client).await;
    exchange.ended(TraceStep::Upstream);
    // For all that ask below. A slow request has begun long before others that were answered before it.
    let now = clock::monotonic();
    if let Some((measures, began)) = began {
        let status = answered.as_ref().ok().map(|(head, _)| head.status.as_u16());
        measures.note_upstream(upstream, status, now.saturating_sub(began));
    }
    job.request.recycle();
    exchange.served(class, job.attempts.is_shed);
    exchange.tried(job.attempts, answered.as_ref().ok().map(|(head, _)| head.status.as_u16()));
    if let Ok((head, _)) = &answered {
        exchange.look_at_answer(upstream, head.status.as_u16(), now);
    }
    if answered.is_ok() {
        let Attempts { queue, connect, .. } = exchange.outcome.attempts;
        let first_byte = Some(now.saturating_sub(exchange.began.monotonic));
        exchange.time(|timings| *timings = Timings { queue, connect, first_byte, ..*timings });
    }
    if exchange.is_banned() {
        return Err(Refusal::new(Reject::Banned, "banned while it was served").into());
    }
    if exchange.is_revoked() {
        return Err(Refusal::token(TokenFault::Revoked, REVOKED).into());
    }
    Ok(answered?)
}

fn no_upstream() -> Refusal {
    Refusal::new(Reject::UpstreamFailed, "no such upstream")
}
