//! The way of a request to its route: client, ban, limits, target, preflight, redirect, certificate, route. Nothing of it
//! waits, and nothing of it reads the body.

use std::sync::atomic::Ordering;

use http::{HeaderValue, Method, request::Parts};

use super::{exchange::Exchange, local_reply::LocalReply, unserved::Unserved};
use crate::{
    auth::certificate::ClientCertificate,
    clock::Now,
    path::PathRules,
    proxy::{connection::Connection, framing, generation::ListenerRef, worker::Worker},
    refusal::{Refusal, Reject},
    route::{cors, target::Target},
    snapshot::{CompiledRoute, Snapshot},
};

/// The route of a request.
pub(super) struct Found<'a> {
    pub(super) route: &'a CompiledRoute,
    /// The certificate that its client has shown.
    pub(super) certificate: Option<&'a ClientCertificate>,
}

/// Finds the route of a request, or says why it gets none.
pub(super) fn find<'a>(
    worker: &Worker,
    connection: &'a Connection,
    listener: &'a ListenerRef,
    exchange: &mut Exchange,
    head: &Parts,
    now: Now,
) -> Result<Found<'a>, Unserved> {
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
) -> Result<Found<'a>, Unserved> {
    let snapshot = listener.snapshot();
    if exchange.client.is_trusted {
        (exchange.client, exchange.info) = snapshot.trusted.read(exchange.client, &head.headers)?;
    }
    if exchange.is_banned() {
        return Err(Refusal::new(Reject::Banned, "banned").into());
    }
    if let Some(limit) = &snapshot.address_limit {
        limit.spend(exchange.client.source, now.monotonic)?;
    }
    if worker.shared.sheds() {
        let refusal = Refusal::new(Reject::Unavailable, "over proxy.max_memory");
        return Err(Refusal { retry_after: Some(1), ..refusal }.into());
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
            exchange.routing.allow = miss.allow;
            return Err(miss.refusal.into());
        }
    };
    exchange.routing.route = Some(index);
    let route = snapshot.served.get(index).ok_or_else(|| Refusal::new(Reject::NotFound, "no such route"))?;
    let group = route.cors.and_then(|group| snapshot.cors.get(group));
    if group.is_some_and(|group| group.refuses(&head.headers, target)) {
        return Err(Refusal::new(Reject::ForeignOrigin, "foreign Origin").into());
    }
    Ok(Found { route, certificate })
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
