//! Decides which connections are taken and how one is led from accept to its end.

use std::{
    error::Error as _,
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};

use hyper::{
    body::Incoming,
    rt::Executor,
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};

use super::{
    connection::{Close, Connection, Why},
    deadline::within,
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

/// The smallest buffer that hyper takes, and what one read may bring.
const LEAST_BUFFER: usize = 64 * 1_024;

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
    let ended = loop {
        let io = TokioIo::new(Io(Rc::clone(&wire)));
        let (sharer, shared) = (Rc::clone(&worker), Rc::clone(connection));
        // Boxed, the future is moved through hyper and its tasks as one pointer.
        let service =
            service_fn(move |request| Box::pin(pipeline::serve(Rc::clone(&sharer), Rc::clone(&shared), request)));
        let settings = &worker.shared.snapshot.settings;
        if multiplexed {
            break drive(Box::pin(http2(settings).serve_connection(io, service)).as_mut(), connection, &wire).await;
        }
        let mut served = Box::new(http1(settings).serve_connection(io, service));
        let ended = drive(Pin::new(&mut *served), connection, &wire).await;
        if !matches!(ended, Driven::Rests) {
            match (&ended, connection.tunnel.take()) {
                (Driven::Ended(Ok(())), Some(tunnel)) => {
                    Box::pin(tunnel.run(served.into_parts().read_buf, &wire)).await;
                }
                // Whoever asked for it is gone.
                (_, tunnel) => drop(tunnel),
            }
            break ended;
        }
        // hyper takes 20 KiB for a connection that may be silent for a minute. It begins anew when something comes.
        wire.put_back(&served.into_parts().read_buf);
        match rest(connection, &wire).await {
            Close::No => {}
            Close::Graceful => break Driven::Ended(Ok(())),
            Close::Now => break Driven::Cut,
        }
    };
    match ended {
        Driven::Ended(ended) => {
            if let Err(error) = &ended {
                complain(&worker, connection, error, multiplexed);
            }
            leave(connection, &wire, ended.is_err()).await;
        }
        _ if connection.why() == Some(Why::Slow) => {
            Record::observe(
                &worker,
                connection,
                Signal::SlowClient,
                "too slow with a request or with taking an answer",
            );
        }
        _ if connection.why() == Some(Why::Flood) => {
            Record::observe(&worker, connection, Signal::BadRequest, "flood of HTTP/2 frames");
        }
        Driven::Cut | Driven::Rests => {}
    }
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
    match connection.unless_closed(Box::pin(tls::accept(&tls, connection.listener, socket))).await {
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

fn http1(settings: &Settings) -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        // Heads and small bodies leave in one write (measured: cheaper than gathering).
        .writev(false)
        // Whether a client left is looked at by its wire.
        .half_close(true)
        .max_header_size(settings.max_header_bytes)
        .max_buf_size(LEAST_BUFFER.max(settings.max_header_bytes))
        // At most 100 headers is its default, and naming it costs a little. Connections are watched by their worker.
        .header_read_timeout(None);
    builder
}

fn http2(settings: &Settings) -> http2::Builder<Local> {
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

/// What both kinds of connections can do.
trait Served: Future<Output = hyper::Result<()>> {
    fn finish(self: Pin<&mut Self>);
}

impl<I, S, B> Served for http1::Connection<I, S>
where
    I: hyper::rt::Read + hyper::rt::Write + Unpin,
    S: hyper::service::HttpService<Incoming, ResBody = B>,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    B: http_body::Body + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    fn finish(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

impl<I, S, B> Served for http2::Connection<I, S, Local>
where
    I: hyper::rt::Read + hyper::rt::Write + Unpin,
    S: hyper::service::HttpService<Incoming, ResBody = B>,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    S::Future: 'static,
    B: http_body::Body + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    fn finish(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

/// How far a connection was driven.
enum Driven {
    /// It was cut off.
    Cut,
    Ended(hyper::Result<()>),
    /// Nothing has happened on it for a while, and nothing is under way.
    Rests,
}

/// Drives a connection until it ends or rests.
async fn drive(mut served: Pin<&mut impl Served>, connection: &Connection, wire: &Wire) -> Driven {
    let mut finishing = false;
    std::future::poll_fn(|cx| {
        match connection.closing(cx) {
            Close::No => {}
            Close::Graceful if finishing => {}
            // What comes is answered with `Connection: close`.
            Close::Graceful if connection.may_be_asked() => {}
            Close::Graceful => {
                finishing = true;
                if connection.why() == Some(Why::Banned) {
                    wire.give_up_after(BANNED_PATIENCE);
                }
                served.as_mut().finish();
            }
            Close::Now => return Poll::Ready(Driven::Cut),
        }
        let polled = served.as_mut().poll(cx);
        // Everything that was written in this turn leaves in one go.
        if wire.is_deferred() && matches!(wire.push(cx), Poll::Ready(Err(_))) && polled.is_pending() {
            return Poll::Ready(Driven::Cut);
        }
        if polled.is_pending() && connection.is_busy() && wire.poll_left(cx).is_ready() {
            return Poll::Ready(Driven::Cut);
        }
        if polled.is_pending() && connection.rests() {
            wire.shrink();
            if wire.may_rest() {
                return Poll::Ready(Driven::Rests);
            }
        }
        polled.map(Driven::Ended)
    })
    .await
}

/// Waits for something to come, or for a reason to close the connection, which is then said goodbye to. What came is
/// read whatever else there is: [`Close::No`].
async fn rest(connection: &Connection, wire: &Wire) -> Close {
    let woken = std::future::poll_fn(|cx| match connection.closing(cx) {
        Close::No => wire.poll_readable(cx).map(|()| Close::No),
        Close::Graceful if connection.may_be_asked() => wire.poll_readable(cx).map(|()| Close::No),
        close => Poll::Ready(close),
    });
    let close = woken.await;
    if close == Close::Graceful {
        if connection.why() == Some(Why::Banned) {
            wire.give_up_after(BANNED_PATIENCE);
        }
        let goodbye = within(LINGER.0, std::future::poll_fn(|cx| wire.poll_goodbye(cx))).await;
        // A client that is gone, or takes nothing, needs none.
        goodbye.unwrap_or(Ok(())).unwrap_or_default();
    }
    close
}

/// Sends what is still to be sent, and listens a little longer where a client is still sending what nobody reads.
async fn leave(connection: &Connection, wire: &Wire, failed: bool) {
    let (patience, mut left) = LINGER;
    let pushed = within(patience, std::future::poll_fn(|cx| wire.push(cx))).await;
    if !matches!(pushed, Some(Ok(()))) || connection.why() == Some(Why::Banned) {
        return;
    }
    if failed || connection.unread.get() {
        // Whatever comes, or nothing: the connection is over.
        let discarded = within(patience, std::future::poll_fn(|cx: &mut Context<'_>| wire.poll_discard(cx, &mut left)));
        discarded.await.unwrap_or(Ok(())).unwrap_or_default();
    }
}

/// Notes what hyper refused before there was a request. It has answered already, in HTTP/1.1.
fn complain(worker: &Rc<Worker>, connection: &Rc<Connection>, error: &hyper::Error, multiplexed: bool) {
    if multiplexed {
        let broken = error.source().and_then(|source| source.downcast_ref::<h2::Error>());
        if broken.is_some_and(|error| !error.is_io() && !error.is_remote()) {
            Record::fault(worker, connection, Refusal::new(Reject::BadRequest, "breaks HTTP/2"), false);
        }
        return;
    }
    if error.is_parse_too_large() {
        let reject = if error.is_parse_status() { Reject::BadRequest } else { Reject::HeadersTooLarge };
        return Record::fault(worker, connection, Refusal::new(reject, "head too large"), true);
    }
    if error.is_parse() {
        Record::fault(worker, connection, Refusal::new(Reject::BadRequest, error.to_string()), true);
    }
}
