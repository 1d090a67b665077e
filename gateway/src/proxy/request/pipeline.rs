//! Decides what becomes of a request. Cheapest question first: no cryptography before the address is counted, no byte
//! of the body before the permit.

use std::{net::SocketAddr, rc::Rc, sync::Arc};

use http::{HeaderValue, Response, StatusCode, Version, header, request::Parts, response};

use super::{exchange::Record, grpc, local_reply::Own, problem, response_body::ResponseBody};
use crate::{
    auth::{self, Identity, certificate::ClientCertificate},
    clock::Now,
    path::PathRules,
    proxy::{
        body::{self, Incoming, RequestBody, Upload},
        connection::Connection,
        framing,
        raw_head::HeadFormat,
        tunnel::{
            Tunnel, token,
            upgrade::{self, Wanted},
        },
        upstream::{
            self, AttemptTimeouts, ForwardError, ForwardJob, ServerGroup, UpstreamRequest, UpstreamResponse, headers,
        },
        worker::Worker,
    },
    refusal::{Refusal, Reject},
    route::{cors, target::Target},
    snapshot::{Served, Snapshot},
};

/// Why a request gets no response of an upstream.
enum Unserved {
    /// The client left: nobody reads a response.
    ClientLeft,
    /// The gateway answers by itself.
    LocalReply(Box<Own>),
    Refused(Refusal),
}

impl From<Refusal> for Unserved {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<ForwardError> for Unserved {
    fn from(error: ForwardError) -> Self {
        match error {
            ForwardError::ClientLeft => Self::ClientLeft,
            ForwardError::Refused(refusal) => Self::Refused(refusal),
        }
    }
}

/// Answers one request.
pub(in crate::proxy) async fn serve(
    worker: Rc<Worker>,
    connection: Rc<Connection>,
    head: Box<Parts>,
    incoming: Incoming,
) -> Response<ResponseBody> {
    let now = Now::read();
    let line = (head.method.clone(), head.version, head.uri.path_and_query().cloned());
    let expects = head.headers.contains_key(header::EXPECT);
    let mut record = Record::begin(&worker, &connection, Some(line), now);
    record.is_grpc = grpc::is(&head);
    let mut unread = Some(incoming);
    let origin = if worker.shared.snapshot.cors.is_empty() { None } else { cors::origin(&head.headers) };
    let may_be_last = head.version != Version::HTTP_2;
    let answered = answer(&worker, &connection, &mut record, head, &mut unread, now).await;
    let secured = connection.secured.get();
    let hsts = match secured {
        Some(secured) => secured.hsts.as_deref(),
        None => worker.shared.snapshot.hsts.get(connection.listener).and_then(Option::as_ref),
    };
    // RFC 6797 7.2: never to a client that came without TLS.
    let hsts = hsts.filter(|_| record.scheme() == "https");
    let hsts = hsts.and_then(|hsts| hsts.of(record.target.as_ref().map(Target::host)));
    let group = record.served().map_or(record.cors, |served| served.cors);
    let (group, relayed) = (group.and_then(|group| worker.shared.snapshot.cors.get(group)), answered.is_ok());
    let mut answer = match answered {
        Ok((head, response)) if head.status == StatusCode::SWITCHING_PROTOCOLS => switch(record, head, response),
        Ok((head, response)) => relay(record, head, response),
        Err(Unserved::Refused(refusal)) => {
            let close = settle(&worker, &connection, unread, expects, Some(refusal.reject));
            problem::refuse(record, refusal, close)
        }
        Err(Unserved::LocalReply(own)) => {
            let close = settle(&worker, &connection, unread, expects, None);
            own.answer(record, close)
        }
        Err(Unserved::ClientLeft) => {
            connection.unread.set(true);
            let mut nobody = Response::new(ResponseBody::whole(bytes::Bytes::new(), record));
            *nobody.status_mut() = StatusCode::BAD_REQUEST;
            nobody
        }
    };
    if let Some(hsts) = hsts {
        answer.headers_mut().insert(header::STRICT_TRANSPORT_SECURITY, hsts.clone());
    }
    if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
        return answer;
    }
    if let Some(group) = group {
        group.tell(origin.as_ref(), relayed, answer.headers_mut());
    }
    if may_be_last && worker.draining.get() {
        answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    answer
}

/// The way of a request, one question a line.
async fn answer(
    worker: &Rc<Worker>,
    connection: &Rc<Connection>,
    record: &mut Record,
    head: Box<Parts>,
    incoming: &mut Option<Incoming>,
    now: Now,
) -> Result<(response::Parts, UpstreamResponse), Unserved> {
    let snapshot = &worker.shared.snapshot;
    let (route, shown) = match find(worker, connection, record, &head, now) {
        Ok(found) => found,
        Err(failure) => {
            if record.route.is_none() && record.cors.is_none() {
                let local = listened_at(snapshot, connection, record);
                record.cors = snapshot.cors_of_refused(record.target.as_ref(), local, &head);
            }
            return Err(failure);
        }
    };
    let served = snapshot.served.get(route).ok_or_else(|| Refusal::new(Reject::NotFound, "no such route"))?;
    let target = record.target.as_ref().ok_or_else(|| Refusal::new(Reject::BadRequest, "no target"))?;
    if served.access.needs_identity() {
        let jwt = snapshot.jwt.as_ref().filter(|_| !served.access.needs_certificate());
        let carried = served.upgrade.as_ref().map(|upgrade| token::find(&head, upgrade)).transpose()?.flatten();
        record.identity = Some(auth::identify(jwt, shown, &head.headers, carried.as_deref(), now)?);
    }
    let permit = served.access.authorize(record.identity.as_deref())?;
    let Some(upstream) = served.then.upstream() else {
        return Err(match Own::of(&served.then, target)? {
            Some(own) => Unserved::LocalReply(Box::new(own)),
            None => Refusal::new(Reject::UpstreamFailed, "no such upstream").into(),
        });
    };
    let has_body = incoming.as_ref().is_some_and(|body| !body.is_end_stream());
    let wanted = upgrade::wanted(&head, has_body, served.upgrade.as_ref())?;
    let caller = if record.is_grpc { grpc::timeout(&head.headers)? } else { None };
    let upload = admit(worker, served, &head, incoming, record).await?;
    let group =
        worker.upstreams.get(upstream).ok_or_else(|| Refusal::new(Reject::UpstreamFailed, "no such upstream"))?;
    let timeouts = AttemptTimeouts::new(&served.timeouts, caller);
    let mut job = job(group, served, head, upload, wanted, record, shown, timeouts)?;
    record.forwarded();
    let answer = upstream::forward(permit, &mut job).await;
    job.request.recycle();
    if record.is_banned() {
        return Err(Refusal::new(Reject::Banned, "banned while it was served").into());
    }
    Ok(answer?)
}

/// The way of a request to its route: nothing of it waits.
fn find<'a>(
    worker: &'a Worker,
    connection: &'a Connection,
    record: &mut Record,
    head: &Parts,
    now: Now,
) -> Result<(usize, Option<&'a ClientCertificate>), Unserved> {
    let snapshot = &worker.shared.snapshot;
    if record.client.is_trusted {
        (record.client, record.info) = snapshot.trusted.read(record.client, &head.headers)?;
    }
    if record.is_banned() {
        return Err(Refusal::new(Reject::Banned, "banned").into());
    }
    if let Some(limit) = &snapshot.address_limit {
        limit.spend(record.client.source, now.monotonic)?;
    }
    if worker.shared.sheds() {
        let refusal = Refusal::new(Reject::Unavailable, "over proxy.max_memory");
        return Err(Refusal { retry_after: Some(1), ..refusal }.into());
    }
    framing::check(head)?;
    let secured = connection.secured.get();
    let local = listened_at(snapshot, connection, record);
    let is_https = record.scheme() == "https";
    let target = record.target.insert(Target::read(head, local, snapshot.settings.head.target)?);
    if let Some(preflight) = snapshot.preflight(target, head) {
        let group = preflight.group.filter(|_| preflight.is_permitted).and_then(|group| snapshot.cors.get(group));
        let permissions = cors::permissions(group, &head.headers);
        (record.route, record.cors) = (preflight.route, preflight.group);
        return Err(Unserved::LocalReply(Box::new(Own::preflight(permissions))));
    }
    let redirect = snapshot.settings.listeners.get(connection.listener).and_then(|listener| listener.redirect);
    if let Some(port) = redirect.filter(|_| !is_https) {
        // What no route takes is not sent on either.
        if target.odd() != PathRules::default() {
            snapshot.routes.find(target, &head.method, &head.headers).map_err(|miss| miss.refusal)?;
        }
        return Err(Unserved::LocalReply(Box::new(Own::elsewhere(elsewhere(snapshot, target, port)?))));
    }
    if connection.is_stale() {
        // On another connection it is judged anew.
        return Err(Refusal::new(Reject::Misdirected, "client certificate judged by older trust").into());
    }
    let shown = snapshot.demands.judge(connection.listener, target.host(), secured.map(AsRef::as_ref))?;
    let route = match snapshot.routes.find(target, &head.method, &head.headers) {
        Ok(route) => route,
        Err(miss) => {
            record.allow = miss.allow;
            return Err(miss.refusal.into());
        }
    };
    record.route = Some(route);
    let group = snapshot.served.get(route).and_then(|served| snapshot.cors.get(served.cors?));
    if group.is_some_and(|group| group.refuses(&head.headers, target)) {
        return Err(Refusal::new(Reject::ForeignOrigin, "foreign Origin").into());
    }
    Ok((route, shown))
}

/// Where a connection came in.
fn listened_at(snapshot: &Snapshot, connection: &Connection, record: &Record) -> SocketAddr {
    let listener = snapshot.settings.listeners.get(connection.listener);
    listener.map_or(record.client.address, |listener| listener.address)
}

/// Where a request by plain HTTP belongs: to the same host and target by HTTPS, if that is served (no open redirect).
fn elsewhere(snapshot: &Snapshot, target: &Target, port: u16) -> Result<HeaderValue, Refusal> {
    let host = target.host();
    if !snapshot.routes.serves(host) || !snapshot.tls.load().names(host) {
        return Err(Refusal::new(Reject::Misdirected, "host not served by HTTPS"));
    }
    let origin = if target.path() == "*" { "" } else { target.origin().as_str() };
    let location =
        if port == 443 { format!("https://{host}{origin}") } else { format!("https://{host}:{port}{origin}") };
    HeaderValue::try_from(location).map_err(|_no_header| Refusal::new(Reject::BadRequest, "target fits no header"))
}

/// Takes the body, whole where it must match a schema.
async fn admit(
    worker: &Worker,
    served: &Served,
    head: &Parts,
    incoming: &mut Option<Incoming>,
    record: &mut Record,
) -> Result<Upload, Unserved> {
    let Some(body) = incoming.as_ref() else { return Ok(Upload::Empty) };
    if body.size_hint().exact().is_some_and(|length| length > served.max_body) {
        return Err(Refusal::new(Reject::BodyTooLarge, "Content-Length over the limit").into());
    }
    if body.is_end_stream() && served.schema.is_none() {
        return Ok(Upload::Empty);
    }
    // What is judged must be what the upstream reads (B05): nothing is decoded here.
    if served.schema.is_some() && head.headers.contains_key(header::CONTENT_ENCODING) {
        return Err(Refusal::new(Reject::UnsupportedMediaType, "Content-Encoding").into());
    }
    let Some(body) = incoming.take() else { return Ok(Upload::Empty) };
    let received = Rc::clone(record.bytes_in.get_or_insert_default());
    let request_body = RequestBody::new(body, served.max_body, &served.timeouts, received);
    let request_body = if record.is_grpc { request_body.of_messages() } else { request_body };
    let Some(schema) = &served.schema else { return Ok(Upload::Streaming(Box::new(request_body))) };
    // Boxed, as most requests do without it.
    let bytes = Box::pin(request_body.whole()).await.map_err(ForwardError::from)?;
    match schema.validate_at_once(head.headers.get(header::CONTENT_TYPE), &bytes) {
        Some(judged) => judged?,
        None => worker.shared.validators.validate(Arc::clone(schema), bytes.clone()).await?,
    }
    Ok(Upload::Whole(bytes))
}

/// What a server of `group` is sent, and how its answer is read.
#[expect(clippy::too_many_arguments, reason = "all that is known of the request by then")]
fn job<'a>(
    group: &'a ServerGroup,
    served: &Served,
    mut head: Box<Parts>,
    upload: Upload,
    wanted: Option<Box<Wanted>>,
    record: &Record,
    shown: Option<&ClientCertificate>,
    timeouts: AttemptTimeouts,
) -> Result<ForwardJob<'a>, Refusal> {
    let target = record.target.as_ref().ok_or_else(|| Refusal::new(Reject::BadRequest, "no target"))?;
    let local = listened_at(&record.worker.shared.snapshot, &record.connection, record);
    let context = group.context(&record.client, local, target.path(), &head.headers).for_tunnel(wanted.is_some());
    let takes_trailers = group.takes_trailers() && headers::takes_trailers(&head.headers);
    // Nobody looks at what passes as it came.
    let is_plain = wanted.is_none() && served.response_headers.is_none() && served.cors.is_none();
    let form = match head.version {
        Version::HTTP_11 if is_plain => HeadFormat::Lines,
        Version::HTTP_2 if is_plain => HeadFormat::Fields,
        _ => HeadFormat::Map,
    };
    let told = headers::ForwardedHeaders {
        client: record.client.address.ip(),
        scheme: record.connection.scheme(),
        forwarded: record.info.as_deref(),
        authority: target.authority(),
        id: record.id,
        principal: record.identity.as_deref().map(Identity::principal),
        certificate: shown,
        passing: &served.pass_headers,
    };
    if let Some(upgrade) = &served.upgrade {
        token::hide(&mut head.headers, upgrade);
    }
    // Those that only a server of HTTP/1.1 gets, and that nobody edits, need not be headers first.
    let lines = if group.takes_trailers() || served.request_headers.is_some() {
        headers::request(&mut head.headers, &told);
        Vec::new()
    } else {
        headers::request_by_lines(&mut head.headers, &told)
    };
    if let Some(edits) = &served.request_headers {
        edits.apply(&mut head.headers);
    }
    if takes_trailers {
        head.headers.insert(header::TE, HeaderValue::from_static("trailers"));
    }
    if let Some(wanted) = &wanted {
        wanted.ask(&mut head.headers);
    }
    head.uri = match &served.rewrite {
        Some(rewrite) => target.with_path(rewrite.apply(target.path(), served.allow_in_path)?)?.into(),
        None => target.origin().clone().into(),
    };
    Ok(ForwardJob { group, context, request: UpstreamRequest::new(head, upload, lines), wanted, form, timeouts })
}

/// Passes the upstream's answer on.
fn relay(mut record: Box<Record>, mut head: response::Parts, mut response: UpstreamResponse) -> Response<ResponseBody> {
    record.status = head.status.as_u16();
    if response.leaves_unread() {
        // Said with the answer, and the client is listened to a little longer.
        record.connection.unread.set(true);
    }
    let ends_early = response.ends_early();
    let lines = response.lines();
    if lines.is_none() {
        headers::response(&mut head.headers, record.told_id());
        if let Some(edits) = record.served().and_then(|served| served.response_headers.as_ref()) {
            edits.apply(&mut head.headers);
        }
    }
    if ends_early {
        // It may take no more of the body: the client is told as the server tells us.
        head.headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    match lines {
        Some(mut lines) => {
            headers::lines(&mut lines, record.id, record.info.as_deref());
            Response::from_parts(head, ResponseBody::relayed(response, record).with(lines))
        }
        None => Response::from_parts(head, ResponseBody::relayed(response, record)),
    }
}

/// Lets the connection become a tunnel. What a client sent before it knew of one was meant for nobody (F12).
fn switch(mut record: Box<Record>, mut head: response::Parts, response: UpstreamResponse) -> Response<ResponseBody> {
    if !record.connection.waits.get() {
        record.connection.unread.set(true);
        return problem::refuse(record, Refusal::new(Reject::BadRequest, "bytes before the tunnel"), true);
    }
    let protocol = head.headers.get(header::UPGRADE).cloned();
    headers::response(&mut head.headers, record.told_id());
    if let Some(edits) = record.served().and_then(|served| served.response_headers.as_ref()) {
        edits.apply(&mut head.headers);
    }
    if let Some(protocol) = protocol {
        upgrade::tell(&mut head.headers, protocol);
    }
    record.status = head.status.as_u16();
    let outlives_token = record.served().and_then(|served| served.upgrade.as_ref()).is_some_and(|it| it.outlives_token);
    Response::from_parts(head, ResponseBody::switched(Box::new(Tunnel::new(response, record, outlives_token))))
}

/// Deals with the body of a request that nobody reads: it is refused (F14), or answered without one. `true`: the connection ends with the answer.
fn settle(
    worker: &Worker,
    connection: &Connection,
    unread: Option<Incoming>,
    expects: bool,
    reject: Option<Reject>,
) -> bool {
    let close = match unread {
        _ if reject == Some(Reject::BadRequest) => true,
        Some(body) if body.is_end_stream() => false,
        // Whoever asked first may leave the body out now, or may not: what follows could be either (F15).
        Some(_) if expects => true,
        Some(body) if body::is_forgettable(&body) => {
            let timeouts = worker.shared.snapshot.settings.timeouts;
            tokio::task::spawn_local(body::forget(body, timeouts));
            false
        }
        Some(_) => true,
        // Judged whole, so read to its end.
        None if matches!(reject, Some(Reject::BodyTooComplex | Reject::InvalidBody | Reject::UnsupportedMediaType)) => {
            false
        }
        None => true,
    };
    if close {
        connection.unread.set(true);
    }
    close
}
