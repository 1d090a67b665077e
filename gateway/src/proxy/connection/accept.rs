//! Accepts connections, and leads each from PROXY protocol and TLS over HTTP to its end.

use std::{borrow::Cow, io, net::SocketAddr, rc::Rc, task::Poll, time::Duration};

use tokio::{
    io::AsyncReadExt as _,
    net::{TcpListener, TcpStream},
};

use super::{
    Close, CloseReason, Connection,
    handshake::{self, FailedHandshake, HandshakeError},
    proxy_protocol,
};
use crate::{
    os::clock,
    proxy::{
        connection::client_io::{ClientIo, Stream},
        generation::ListenerRef,
        http1::{self, Ended},
        http2,
        request::{exchange::Exchange, requests::ConnectionRequests},
        timing::deadline::{Alarm, within},
        worker::{Admitted, NotAdmitted, Worker, measures::Handshake},
    },
    signal::Signal,
};

/// How long accepting pauses when no descriptors are left (D03), or nobody listens.
const OUT_OF_DESCRIPTORS: Duration = Duration::from_millis(50);

const OVER_PER_SOURCE: &str = "over proxy.max_connections_per_source";

/// How long a client may take to read our last bytes.
const GOODBYE: Duration = Duration::from_secs(1);

/// How long we still read from a client that was answered and may be sending, so that a reset does not take the
/// response with it (RFC 9112 9.6): while the client pauses, and in all.
const PAUSE: Duration = Duration::from_secs(5);
const LINGER: Duration = Duration::from_secs(30);

/// Accepts connections of the listener that is configured as `address` until it is aborted.
pub(in crate::proxy) async fn accept(worker: Rc<Worker>, address: SocketAddr, mut listener: TcpListener) {
    loop {
        let (socket, peer) = match listener.accept().await {
            Ok(taken) => taken,
            Err(error) if is_shut(&error) => match listens_again(listener).await {
                Ok(again) => {
                    listener = again;
                    continue;
                }
                Err(error) => {
                    tracing::error!(%address, %error, "a worker cannot accept the connections of a listener");
                    return;
                }
            },
            Err(error) => {
                if is_exhaustion(&error) {
                    tokio::time::sleep(OUT_OF_DESCRIPTORS).await;
                }
                continue;
            }
        };
        let Some(configured) = worker.generation().listener(address) else { continue };
        // Over the limit new connections are closed, and existing ones stay.
        match worker.admit(peer, address) {
            Ok(admitted) => {
                tokio::task::spawn_local(serve(Rc::clone(&worker), admitted, configured, socket));
            }
            Err(NotAdmitted::OverPerSource(connection)) => {
                Exchange::observe(&worker, &connection, configured, Signal::OverLimit, OVER_PER_SOURCE);
            }
            Err(NotAdmitted::OverLimit(connection, over)) => {
                reset(socket);
                Exchange::observe(&worker, &connection, configured, Signal::HandshakeAbuse, over);
            }
            Err(NotAdmitted::Banned | NotAdmitted::Full) => {}
        }
    }
}

/// Waits until the launcher listens again, and registers the socket anew. The runtime never forgets that a socket was
/// closed: `accept` would then be tried again and again without a pause.
async fn listens_again(listener: TcpListener) -> io::Result<TcpListener> {
    let listener = listener.into_std()?;
    while !socket2::SockRef::from(&listener).is_listener()? {
        tokio::time::sleep(OUT_OF_DESCRIPTORS).await;
    }
    TcpListener::from_std(listener)
}

/// Closes with a reset: nothing is left of the connection, on neither side.
fn reset(socket: TcpStream) {
    // If that fails, the client sees a normal end.
    socket2::SockRef::from(&socket).set_linger(Some(Duration::ZERO)).unwrap_or_default();
    drop(socket);
}

/// EMFILE, ENFILE, ENOBUFS, ENOMEM: the same call would fail again at once.
fn is_exhaustion(error: &io::Error) -> bool {
    use rustix::io::Errno as E;
    let code = error.raw_os_error().map(E::from_raw_os_error);
    code.is_some_and(|code| matches!(code, E::MFILE | E::NFILE | E::NOBUFS | E::NOMEM))
}

/// The listener does not listen: a process that has a copy of it has shut it down. The launcher listens again.
fn is_shut(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::InvalidInput
}

/// Serves one connection. Its handshake goes by the configuration that it began with.
async fn serve(worker: Rc<Worker>, admitted: Admitted, listener: ListenerRef, socket: TcpStream) {
    let connection = &admitted.connection;
    // Without it the socket is slower, and still works.
    socket.set_nodelay(true).unwrap_or_default();
    let Some(socket) = introduce(&worker, connection, &listener, socket).await else { return };
    let Some(stream) = secure(&worker, connection, &listener, socket).await else { return };
    let multiplexed = connection.secured.get().is_some_and(|secured| secured.is_http2);
    connection.established(multiplexed);
    let io = ClientIo::new(stream, Rc::clone(connection));
    let requests = ConnectionRequests::new(&worker, connection, listener);
    let ended = if multiplexed { http2(&requests, &io).await } else { http1(&requests, &io).await };
    if io.is_tls_broken() {
        return leave_broken(connection, &io).await;
    }
    if let Some(lingers) = ended {
        return leave(connection, &io, lingers).await;
    }
    if connection.close_reason() == Some(CloseReason::Slow) {
        let what = "too slow with a request or with taking an answer";
        requests.observe(Signal::SlowClient, what);
    }
}

/// Serves a connection of HTTP/1 to its end: whether the client may still be sending. `None`: it was cut off.
async fn http1(requests: &ConnectionRequests, io: &Rc<ClientIo>) -> Option<bool> {
    let connection = &requests.connection;
    let mut served = Box::pin(http1::serve(requests.clone(), connection, io));
    let mut finishing = false;
    let ended = std::future::poll_fn(|cx| {
        match connection.closing(cx) {
            Close::Now => return Poll::Ready(None),
            Close::Graceful if !finishing && connection.close_reason() == Some(CloseReason::Banned) => {
                finishing = true;
                io.give_up_soon();
            }
            // The next request is answered with `Connection: close`.
            Close::Graceful | Close::No => {}
        }
        served.as_mut().poll(cx).map(Some)
    });
    let ended = ended.await?;
    drop(served);
    let lingers = match ended {
        Ended::Cut => return None,
        Ended::Done => false,
        Ended::Refused => true,
        Ended::Switched(tunnel, early) => {
            Box::pin(tunnel.run(early, io)).await;
            return Some(false);
        }
    };
    goodbye(io).await.then_some(lingers)
}

/// Tells the client that nothing more comes. `false`: it is gone.
async fn goodbye(io: &ClientIo) -> bool {
    let goodbye = within(GOODBYE, std::future::poll_fn(|cx| io.poll_goodbye(cx))).await;
    goodbye.is_some_and(|goodbye| goodbye.is_ok())
}

/// Serves a connection of HTTP/2 to its end: whether the client may still be sending. `None`: it was cut off.
async fn http2(requests: &ConnectionRequests, io: &Rc<ClientIo>) -> Option<bool> {
    match http2::serve(requests.clone(), &requests.connection, io).await {
        http2::Ended::Cut => None,
        http2::Ended::Done { unread } => Some(unread),
        http2::Ended::Broken(detail) => {
            requests.fault(detail);
            Some(true)
        }
        http2::Ended::Flood(detail) => {
            requests.observe(Signal::BadRequest, detail);
            Some(true)
        }
    }
}

/// Reads the PROXY protocol, if the listener speaks it: it names the client behind a trusted proxy (T06). `None`: the
/// connection ends.
async fn introduce(
    worker: &Rc<Worker>,
    connection: &Rc<Connection>,
    listener: &ListenerRef,
    mut socket: TcpStream,
) -> Option<TcpStream> {
    if !listener.settings()?.proxy_protocol {
        return Some(socket);
    }
    let observe = |connection: &Rc<Connection>, signal: Signal, what: &'static str| {
        Exchange::observe(worker, connection, listener.clone(), signal, what);
    };
    let relay = connection.client.get();
    if !relay.is_trusted {
        observe(connection, Signal::BadHandshake, "PROXY protocol expected of trusted proxies alone");
        return None;
    }
    match connection.unless_closed(Box::pin(proxy_protocol::read(&mut socket))).await {
        Some(Ok(None)) => Some(socket),
        Some(Ok(Some(address))) => {
            let client = listener.snapshot().trusted.relayed(address, relay);
            match worker.rename(connection, client) {
                Ok(()) => return Some(socket),
                Err(NotAdmitted::OverPerSource(connection)) => {
                    // The signal is about the client that was named.
                    let before = connection.client.replace(client);
                    observe(&connection, Signal::OverLimit, OVER_PER_SOURCE);
                    connection.client.set(before);
                }
                Err(NotAdmitted::OverLimit(connection, over)) => {
                    let before = connection.client.replace(client);
                    Exchange::observe(worker, &connection, listener.clone(), Signal::HandshakeAbuse, over);
                    connection.client.set(before);
                    reset(socket);
                }
                Err(NotAdmitted::Banned | NotAdmitted::Full) => {}
            }
            None
        }
        Some(Err(proxy_protocol::ReadError::Malformed)) => {
            observe(connection, Signal::BadHandshake, "malformed PROXY protocol");
            None
        }
        Some(Err(proxy_protocol::ReadError::Left)) => {
            let why = "the proxy left within its PROXY protocol header";
            Exchange::failed_handshake(worker, connection, listener.clone(), why.into());
            None
        }
        // Load balancers check our health by connections without a byte.
        Some(Err(proxy_protocol::ReadError::Gone)) | None => None,
    }
}

/// Does the TLS handshake, if the listener speaks TLS. `None`: it failed.
async fn secure(
    worker: &Rc<Worker>,
    connection: &Rc<Connection>,
    listener: &ListenerRef,
    socket: TcpStream,
) -> Option<Stream> {
    if listener.settings()?.tls.is_none() {
        return Some(Stream::Plain(socket));
    }
    if let Err(over) = worker.count_handshake(connection.client.get()) {
        reset(socket);
        Exchange::observe(worker, connection, listener.clone(), Signal::HandshakeAbuse, over);
        return None;
    }
    let tls = listener.snapshot().tls.load();
    let is_timed = listener.snapshot().access_log.is_timed || listener.generation.traces().is_some();
    let before = is_timed.then(clock::monotonic);
    // Boxed, neither half takes room in the connection once it is done.
    let hello = connection.unless_closed(Box::pin(handshake::hello(&tls, listener.index, socket))).await;
    let shaken = match hello {
        Some(Ok(hello)) => {
            connection.note_ja4(hello.ja4);
            connection.unless_closed(Box::pin(hello.finish(&tls, listener.index))).await
        }
        Some(Err(failure)) => Some(Err(failure)),
        None => None,
    };
    match shaken {
        Some(Ok((stream, secured))) => {
            note(listener, if secured.version == "TLSv1.2" { Handshake::Tls12 } else { Handshake::Tls13 });
            connection.secured.set(Box::new(secured)).unwrap_or_default();
            connection.shook.set(before.map_or(0, |before| clock::monotonic().saturating_sub(before)));
            // The trust may have changed during the handshake.
            if connection.is_certified() && !worker.generation().snapshot().tls.load().judges_as(&tls) {
                connection.reverify();
            }
            return Some(Stream::Tls(Box::new(stream)));
        }
        Some(Err(failure)) => give_up(worker, connection, listener, failure).await,
        None if connection.close_reason() == Some(CloseReason::Slow) => {
            note(listener, Handshake::Slow);
            let what = "TLS handshake took too long";
            Exchange::observe(worker, connection, listener.clone(), Signal::SlowClient, what);
        }
        None => {}
    }
    None
}

fn note(listener: &ListenerRef, handshake: Handshake) {
    listener.generation.measures().iter().for_each(|measures| measures.note_handshake(handshake));
}

/// Tells of a handshake that failed.
async fn give_up(worker: &Rc<Worker>, connection: &Rc<Connection>, listener: &ListenerRef, failure: FailedHandshake) {
    let observe = |signal: Signal, why: Cow<'static, str>| {
        Exchange::observe(worker, connection, listener.clone(), signal, why);
    };
    connection.note_ja4(failure.ja4);
    note(
        listener,
        match failure.why {
            HandshakeError::Gone | HandshakeError::Left(_) => Handshake::Gone,
            HandshakeError::NoOffence(_) => Handshake::NoCertificate,
            HandshakeError::NoCertificate => Handshake::NoClientCertificate,
            HandshakeError::Offence(_) => Handshake::Bad,
        },
    );
    match failure.why {
        HandshakeError::Gone => {}
        HandshakeError::Left(why) => Exchange::failed_handshake(worker, connection, listener.clone(), why.into()),
        HandshakeError::NoOffence(why) => Exchange::failed_handshake(worker, connection, listener.clone(), why),
        HandshakeError::NoCertificate => observe(Signal::MissingToken, "no client certificate".into()),
        HandshakeError::Offence(why) => observe(Signal::BadHandshake, why),
    }
    if let Some(socket) = failure.socket {
        connection.lingers();
        let _closed = connection.unless_closed(Box::pin(within(GOODBYE, forget(socket)))).await;
    }
}

/// Reads and discards what comes from a client that got a TLS alert.
async fn forget(mut socket: TcpStream) {
    let mut space = vec![0; 4 * 1_024];
    while matches!(socket.read(&mut space).await, Ok(1..)) {}
}

/// Sends what is left to send, and reads a little longer from a client that is still sending.
async fn leave(connection: &Connection, io: &ClientIo, lingers: bool) {
    let pushed = within(GOODBYE, std::future::poll_fn(|cx| io.push(cx))).await;
    if !matches!(pushed, Some(Ok(()))) || connection.close_reason() == Some(CloseReason::Banned) {
        return;
    }
    let is_http2 = connection.secured.get().is_some_and(|secured| secured.is_http2);
    let timeout = match lingers {
        true => LINGER,
        // Frames that are on their way, such as WINDOW_UPDATE, would be answered by a reset.
        false if is_http2 => GOODBYE,
        false => return,
    };
    if !is_http2 || goodbye(io).await {
        connection.lingers();
        // Whatever this reads, the connection is over.
        let _closed = connection.unless_closed(Box::pin(within(timeout, discard(io)))).await;
    }
}

/// Gives a client that was told what is wrong with its TLS the time to read that: a reset would take the alert with it.
async fn leave_broken(connection: &Connection, io: &ClientIo) {
    if connection.close_reason() != Some(CloseReason::Banned) && goodbye(io).await {
        connection.lingers();
        let _closed = connection.unless_closed(Box::pin(within(GOODBYE, discard(io)))).await;
    }
}

/// Reads and discards what the client sends until it closes, or has sent nothing for a while.
async fn discard(io: &ClientIo) {
    let mut pause = Alarm::default();
    std::future::poll_fn(|cx| {
        loop {
            match io.poll_discard(cx) {
                Poll::Ready(Ok(1..)) => pause.rest(),
                Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(()),
                Poll::Pending => return pause.poll(PAUSE, cx),
            }
        }
    })
    .await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_listener_that_was_shut_down_accepts_again_and_waits_in_between() {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        socket.set_nonblocking(true).unwrap();
        let copy = socket.try_clone().unwrap();
        let listener = TcpListener::from_std(socket).unwrap();
        socket2::SockRef::from(&copy).shutdown(std::net::Shutdown::Read).unwrap();
        assert!(is_shut(&listener.accept().await.unwrap_err()));
        socket2::SockRef::from(&copy).listen(1).unwrap();
        let listener = listens_again(listener).await.unwrap();
        // Nobody knocks: other tasks of this thread go on.
        assert!(tokio::time::timeout(Duration::from_millis(100), listener.accept()).await.is_err());
        // A port that the kernel chose is another one by now.
        let _client = TcpStream::connect(copy.local_addr().unwrap()).await.unwrap();
        listener.accept().await.unwrap();
    }
}
