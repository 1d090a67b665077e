//! The way of a request to its route: client, ban, limits, target, preflight, redirect, certificate, route. Nothing of it
//! waits but for its turn, where a limit delays it, and nothing of it reads the body.

use std::sync::atomic::Ordering;

use http::{HeaderValue, Method, request::Parts};

use super::{checks::contract, exchange::Exchange, response::local_reply::LocalReply, unserved::Unserved};
use crate::{
    os::clock::Now,
    policy::{admission::Shed, auth::certificate::ClientCertificate, limit::When},
    proxy::{connection::Connection, framing, generation::ListenerRef, worker::Worker},
    refusal::{Refusal, Reject},
    route::{cors, target::Target},
    snapshot::{CompiledRoute, Snapshot},
    web::path::PathRules,
};

/// The route of a request.
pub(super) struct RouteMatch<'a> {
    pub(super) route: &'a CompiledRoute,
    /// The certificate that its client has shown.
    pub(super) certificate: Option<&'a ClientCertificate>,
}

/// Judges a request by its client and address alone, before anything else of it is looked at.
///
/// # Errors
/// Its client is banned, over a limit, or not to be told.
pub(super) fn admit(
    connection: &Connection,
    listener: &ListenerRef,
    exchange: &mut Exchange,
    head: &Parts,
    now: Now,
) -> Result<(), Unserved> {
    let snapshot = listener.snapshot();
    let mut judge = || {
        if exchange.client.is_trusted {
            (exchange.client, exchange.info) = snapshot.trusted.read(exchange.client, &head.headers)?;
        }
        if exchange.is_banned() {
            return Err(Refusal::new(Reject::Banned, "banned"));
        }
        exchange.look_for_crawler(&head.headers, now.monotonic);
        exchange.judge_slowed(now.monotonic)?;
        exchange.limit(When::Arrived, &head.headers, now.monotonic)
    };
    let judged = judge();
    if judged.is_err() {
        exchange.routing.cors = snapshot.cors_of_refused(None, connection.listener, head);
    }
    Ok(judged?)
}

/// Finds the route of a request, or says why it gets none.
pub(super) fn find<'a>(
    worker: &Worker,
    connection: &'a Connection,
    listener: &'a ListenerRef,
    exchange: &mut Exchange,
    head: &Parts,
    now: Now,
) -> Result<RouteMatch<'a>, Unserved> {
    let found = ask(worker, connection, listener, exchange, head, now);
    if found.is_err() && exchange.routing.route.is_none() && exchange.routing.cors.is_none() {
        let target = exchange.request.target.as_ref();
        exchange.routing.cors = listener.snapshot().cors_of_refused(target, connection.listener, head);
    }
    found
}

/// One question after the other, the cheapest first.
fn ask<'a>(
    worker: &Worker,
    connection: &'a Connection,
    listener: &'a ListenerRef,
    exchange: &mut Exchange,
    head: &Parts,
    now: Now,
) -> Result<RouteMatch<'a>, Unserved> {
    let snapshot = listener.snapshot();
    let sheds = snapshot.settings.priority.overload.is_some();
    if !sheds {
        refuse_over_memory(worker)?;
    }
    framing::check(head)?;
    let is_https = exchange.scheme() == "https";
    let local = connection.listener;
    let target = exchange.request.target.insert(Target::read(head, local, snapshot.settings.head.target)?);
    if let Some(health) = listener.settings().and_then(|it| it.health.as_deref())
        && target.path() == health
        && matches!(head.method, Method::GET | Method::HEAD)
    {
        exchange.routing.is_health = true;
        let stops = worker.draining.get() || worker.shared.is_stopping.load(Ordering::Relaxed);
        return Err(Unserved::LocalReply(Box::new(LocalReply::health(!stops))));
    }
    // Whoever proved to be of the highest class on this connection is judged once it is known who asks.
    if sheds && !connection.is_highest() {
        refuse_over_memory(worker).inspect_err(|_| {
            snapshot.classes.iter().for_each(|classes| classes.shed_unknown(Shed::Memory));
        })?;
    }
    if let Some(tokens) = &snapshot.internal_tokens
        && let Some(keys) = tokens.jwks(target.path())
        && matches!(head.method, Method::GET | Method::HEAD)
    {
        return Err(Unserved::LocalReply(Box::new(LocalReply::keys(keys.clone()))));
    }
    if let Some(preflight) = snapshot.preflight(target, head) {
        let group = preflight.group.filter(|_| preflight.is_permitted).and_then(|group| snapshot.cors.get(group));
        let permissions = cors::permissions(group, &head.headers);
        (exchange.routing.route, exchange.routing.cors) = (preflight.route, preflight.group);
        return Err(Unserved::LocalReply(Box::new(LocalReply::preflight(permissions))));
    }
    let redirect = listener.settings().and_then(|listener| listener.redirect);
    if let Some(port) = redirect.filter(|_| !is_https) {
        // A path that no route accepts is not redirected either.
        if target.odd() != PathRules::default() {
            snapshot.routes.find(target, &head.method, &head.headers).map_err(|miss| miss.refusal)?;
        }
        return Err(Unserved::LocalReply(Box::new(LocalReply::elsewhere(https(snapshot, target, port)?))));
    }
    if connection.is_stale() {
        // On another connection the certificate is verified anew.
        return Err(Refusal::new(Reject::Misdirected, "client certificate judged by older trust").into());
    }
    let secured = connection.secured.get().map(AsRef::as_ref);
    let certificate = snapshot.demands.judge(listener.index, target.host(), secured)?;
    let index = match snapshot.routes.find(target, &head.method, &head.headers) {
        Ok(index) => index,
        Err(miss) => {
            exchange.routing.allow = miss.allow.map(|allow| *allow);
            return Err(miss.refusal.into());
        }
    };
    exchange.routing.route = Some(index);
    let route = snapshot.served.get(index).ok_or_else(|| Refusal::new(Reject::NotFound, "no such route"))?;
    let group = route.cors.and_then(|group| snapshot.cors.get(group));
    if group.is_some_and(|group| group.refuses(&head.headers, target)) {
        return Err(Refusal::new(Reject::ForeignOrigin, "foreign Origin").into());
    }
    exchange.limit(When::Routed, &head.headers, now.monotonic)?;
    let route = contract::find(route, exchange, head)?;
    exchange.limit_operation(route, When::Routed, &head.headers, now.monotonic)?;
    Ok(RouteMatch { route, certificate })
}

/// Refuses a request while the proxy is too large.
fn refuse_over_memory(worker: &Worker) -> Result<(), Refusal> {
    if !worker.shared.is_over_memory() {
        return Ok(());
    }
    worker.shared.note_shed();
    Err(Refusal { retry_after: Some(1), ..Refusal::new(Reject::Unavailable, "over proxy.max_memory") })
}

/// Where a request by plain HTTP belongs: to the same host and target by HTTPS, if that is served (no open redirect).
fn https(snapshot: &Snapshot, target: &Target, port: u16) -> Result<HeaderValue, Refusal> {
    let host = target.host();
    if !snapshot.routes.serves(host) || !snapshot.tls.load().names(host) {
        return Err(Refusal::new(Reject::Misdirected, "host not served by HTTPS"));
    }
    let origin = if target.path() == "*" { "" } else { target.origin().as_str() };
    let location =
        if port == 443 { format!("https://{host}{origin}") } else { format!("https://{host}:{port}{origin}") };
    HeaderValue::try_from(location).map_err(|_no_header| Refusal::new(Reject::BadRequest, "target fits no header"))
}
