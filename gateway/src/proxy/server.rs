//! Decides which connections are taken and how one is led from accept to its end.

use std::{
    error::Error as _,
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};

use http::Request;
use hyper::{body::Incoming, rt::Executor, server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};

use super::{
    body::Received,
    connection::{Close, Connection, Why},
    deadline::within,
    http1::{self, Ended},
    pipeline, proxy_protocol,
    record::Record,
    reject::{Refusal, Reject},
    settings::Settings,
    tls::{self, Failed},
    wire::{Io, Stream, Wire},
    worker::{Admitted, Worker},
};
use crate::detect::signal::Signal;

/// How long accepting rests when there are no descriptors left (D03).
const OUT_OF_DESCRIPTORS: Duration = Duration::from_millis(50);

/// How long a connection whose last request was not read to its end is listened to, so that the answer is not lost to
/// a reset, and for how many bytes.
const LINGER: (Duration, usize) = (Duration::from_secs(1), 256 * 1_024);

/// How long the kernel keeps trying to reach a banned client.
const BANNED_PATIENCE: Duration = Duration::from_secs(1);

/// The most streams of one HTTP/2 connection.
const MAX_STREAMS: u32 = 128;

/// How many resets, by us for the client's fault and by the client before we answered, end an HTTP/2 connection (H01,
/// H02).
const MAX_RESETS: usize = 64;

/// What is sent to one stream before the client has to take some, in bytes.
const MAX_SEND_BUFFER: usize = 128 * 1_024;

/// Takes connections from `listener` until it is aborted.
pub(super) async fn accept(worker: Rc<Worker>, index: usize, listener: TcpListener) {
    loop {
        let (socket, peer) = match listener.accept().await {
            Ok(taken) => taken,
            Err(error) => {
                if is_exhaustion(&error) {
                    tokio::time::sleep(OUT_OF_DESCRIPTORS).await;
                }
                continue;
            }
        };
        if worker.shared.banned.refuses(peer.ip(), crate::clock::monotonic()) {
            continue;
        }
        // Over the limit new connections are closed: those who are here keep their place.
        if let Some(admitted) = worker.admit(peer, index) {
            tokio::task::spawn_local(serve(Rc::clone(&worker), admitted, socket));
        }
    }
}

/// EMFILE, ENFILE, ENOBUFS, ENOMEM: the same call would fail again at once.
fn is_exhaustion(error: &io::Error) -> bool {
    use rustix::io::Errno as E;
    let code = error.raw_os_error().map(E::from_raw_os_error);
    code.is_some_and(|code| matches!(code, E::MFILE | E::NFILE | E::NOBUFS | E::NOMEM))
}

async fn serve(worker: Rc<Worker>, admitted: Admitted, socket: TcpStream) {
    let connection = &admitted.connection;
    // A socket without it is slower, not wrong.
    socket.set_nodelay(true).unwrap_or_default();
    let Some(socket) = introduce(&worker, connection, socket).await else { return };
    let Some(stream) = secure(&worker, connection, socket).await else { return };
    let multiplexed = connection.secured.get().is_some_and(|secured| secured.is_http2);
    connection.established(multiplexed);
    let wire = Wire::new(stream, Rc::clone(connection), multiplexed);
    let ended =
        if multiplexed { http2(&worker, connection, &wire).await } else { http1(&worker, connection, &wire).await };
    if let Some(lingers) = ended {
        return leave(connection, &wire, lingers).await;
    }
    match connection.why() {
        Some(Why::Slow) => {
            let what = "too slow with a request or with taking an answer";
            Record::observe(&worker, connection, Signal::SlowClient, what);
        }
        Some(Why::Flood) => {
            Record::observe(&worker, connection, Signal::BadRequest, "flood of HTTP/2 frames");
        }
        _ => {}
    }
}

/// Serves a connection of HTTP/1 to its end: whether the client may still be sending. `None`: it was cut off.
async fn http1(worker: &Rc<Worker>, connection: &Rc<Connection>, wire: &Rc<Wire>) -> Option<bool> {
    let mut served = Box::pin(http1::serve(worker, connection, wire));
    let mut finishing = false;
    let ended = std::future::poll_fn(|cx| {
        match connection.closing(cx) {
            Close::Now => return Poll::Ready(None),
            Close::Graceful if !finishing && connection.why() == Some(Why::Banned) => {
                finishing = true;
                wire.give_up_after(BANNED_PATIENCE);
            }
            // What comes is answered with `Connection: close`.
            Close::Graceful | Close::No => {}
        }
        served.as_mut().poll(cx).map(Some)
    });
    let ended = ended.await?;
    drop(served);
    let tunnel = connection.tunnel.take();
    let lingers = match ended {
        Ended::Cut => return None,
        Ended::Done => false,
        Ended::Refused => true,
        Ended::Switched(early) => {
            if let Some(tunnel) = tunnel {
                Box::pin(tunnel.run(early, wire)).await;
            }
            return Some(false);
        }
    };
    let goodbye = within(LINGER.0, std::future::poll_fn(|cx| wire.poll_goodbye(cx))).await;
    goodbye.is_some_and(|goodbye| goodbye.is_ok()).then_some(lingers)
}

/// Serves a connection of HTTP/2 to its end: whether the client may still be sending. `None`: it was cut off.
async fn http2(worker: &Rc<Worker>, connection: &Rc<Connection>, wire: &Rc<Wire>) -> Option<bool> {
    let io = TokioIo::new(Io(Rc::clone(wire)));
    // Boxed, the future is moved through hyper and its tasks as one pointer.
    let service = service_fn(|request: Request<Incoming>| {
        Box::pin(pipeline::serve(Rc::clone(worker), Rc::clone(connection), request.map(Received::Http2)))
    });
    let served = Box::pin(multiplexer(&worker.shared.snapshot.settings).serve_connection(io, service));
    let ended = drive(served, connection, wire).await?;
    if let Err(error) = &ended {
        complain(worker, connection, error);
    }
    Some(ended.is_err())
}

/// The PROXY protocol, where the listener speaks it: who is behind a trusted proxy (T06). `None`: the connection ends.
async fn introduce(worker: &Rc<Worker>, connection: &Rc<Connection>, mut socket: TcpStream) -> Option<TcpStream> {
    let snapshot = &worker.shared.snapshot;
    if !snapshot.settings.listeners.get(connection.listener)?.proxy_protocol {
        return Some(socket);
    }
    let relay = connection.client.get();
    if !relay.is_trusted {
        Record::observe(worker, connection, Signal::BadHandshake, "PROXY protocol expected of trusted proxies alone");
        return None;
    }
    match connection.unless_closed(Box::pin(proxy_protocol::read(&mut socket))).await {
        Some(Ok(None)) => Some(socket),
        Some(Ok(Some(address))) => {
            worker.rename(connection, snapshot.trusted.relayed(address, relay)).then_some(socket)
        }
        Some(Err(error)) => {
            // Connections without a byte are how load balancers look whether we live.
            if error.kind() == io::ErrorKind::InvalidData {
                Record::observe(worker, connection, Signal::BadHandshake, "malformed PROXY protocol");
            }
            None
        }
        None => None,
    }
}

/// The TLS handshake, where the listener has one. `None`: it failed.
async fn secure(worker: &Rc<Worker>, connection: &Rc<Connection>, socket: TcpStream) -> Option<Stream> {
    let snapshot = &worker.shared.snapshot;
    if snapshot.settings.listeners.get(connection.listener)?.tls.is_none() {
        return Some(Stream::Plain(socket));
    }
    let tls = snapshot.tls.load();
    // Boxed, it takes no room in every connection for as long as that lasts.
    match connection.unless_closed(Box::pin(tls::accept(&tls, connection.listener, socket, &connection.ja4))).await {
        Some(Ok((stream, secured))) => {
            connection.secured.set(Box::new(secured)).unwrap_or_default();
            return Some(Stream::Tls(Box::new(stream)));
        }
        Some(Err(Failed::Gone)) => {}
        Some(Err(Failed::NoCertificate)) => {
            Record::observe(worker, connection, Signal::MissingToken, "no client certificate");
        }
        Some(Err(Failed::Offence(why))) => Record::observe(worker, connection, Signal::BadHandshake, why),
        None if connection.why() == Some(Why::Slow) => {
            Record::observe(worker, connection, Signal::SlowClient, "TLS handshake took too long");
        }
        None => {}
    }
    None
}

fn multiplexer(settings: &Settings) -> http2::Builder<Local> {
    let mut builder = http2::Builder::new(Local);
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .max_local_error_reset_streams(MAX_RESETS)
        .max_pending_accept_reset_streams(MAX_RESETS)
        .max_header_list_size(u32::try_from(settings.max_header_bytes).unwrap_or(u32::MAX))
        .max_send_buf_size(MAX_SEND_BUFFER)
        .keep_alive_interval(settings.timeouts.idle)
        .keep_alive_timeout(settings.timeouts.headers);
    builder
}

/// Runs the tasks of HTTP/2 streams on their connection's thread.
#[derive(Clone, Copy)]
struct Local;

impl<F: Future<Output = ()> + 'static> Executor<F> for Local {
    fn execute(&self, future: F) {
        tokio::task::spawn_local(future);
    }
}

/// Drives a connection of HTTP/2 to its end. `None`: it was cut off.
async fn drive<S, B>(
    mut served: Pin<Box<http2::Connection<TokioIo<Io>, S, Local>>>,
    connection: &Connection,
    wire: &Wire,
) -> Option<hyper::Result<()>>
where
    S: hyper::service::HttpService<Incoming, ResBody = B>,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    S::Future: 'static,
    B: http_body::Body + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let mut finishing = false;
    std::future::poll_fn(|cx| {
        match connection.closing(cx) {
            Close::Graceful if !finishing => {
                finishing = true;
                if connection.why() == Some(Why::Banned) {
                    wire.give_up_after(BANNED_PATIENCE);
                }
                served.as_mut().graceful_shutdown();
            }
            Close::Graceful | Close::No => {}
            Close::Now => return Poll::Ready(None),
        }
        let polled = served.as_mut().poll(cx);
        // Everything that was written in this turn leaves in one go.
        if matches!(wire.push(cx), Poll::Ready(Err(_))) && polled.is_pending() {
            return Poll::Ready(None);
        }
        if polled.is_pending() && connection.rests() {
            wire.shrink();
        }
        polled.map(Some)
    })
    .await
}

/// Sends what is still to be sent, and listens a little longer where a client is still sending what nobody reads.
async fn leave(connection: &Connection, wire: &Wire, lingers: bool) {
    let (patience, mut left) = LINGER;
    let pushed = within(patience, std::future::poll_fn(|cx| wire.push(cx))).await;
    if !matches!(pushed, Some(Ok(()))) || connection.why() == Some(Why::Banned) {
        return;
    }
    if lingers || connection.unread.get() {
        // Whatever comes, or nothing: the connection is over.
        let discarded = within(patience, std::future::poll_fn(|cx: &mut Context<'_>| wire.poll_discard(cx, &mut left)));
        discarded.await.unwrap_or(Ok(())).unwrap_or_default();
    }
}

/// Notes how a client broke HTTP/2.
fn complain(worker: &Rc<Worker>, connection: &Rc<Connection>, error: &hyper::Error) {
    let broken = error.source().and_then(|source| source.downcast_ref::<h2::Error>());
    if broken.is_some_and(|error| !error.is_io() && !error.is_remote()) {
        Record::fault(worker, connection, Refusal::new(Reject::BadRequest, "breaks HTTP/2"));
    }
}
