//! Accepts connections of the admin listener and serves each one request.
//!
//! *Invariant:* connections are few, short, and one request each: whoever reads slowly holds a place for a while, and
//! nobody else waits for it. Whoever has not shown that they may ask gives way.

use std::{
    convert::Infallible,
    io,
    pin::pin,
    rc::Rc,
    time::{Duration, Instant},
};

use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, UnixListener},
    time::{sleep, timeout},
};
use tokio_rustls::TlsAcceptor;

use super::{Admin, places::PeerAddress};
use crate::{
    message::channel::byte_stream::ByteStream,
    os::{clock, program_log::sparse::Sparse},
};

/// How long a client may take to shake hands and to ask.
const ASKS_WITHIN: Duration = Duration::from_secs(5);

/// How long a client whose handshake failed has to read why.
const GOODBYE: Duration = Duration::from_secs(1);

/// How often it is looked whether a connection has had its time.
const LOOK: Duration = Duration::from_millis(500);

/// The listening socket.
pub(in crate::observer) enum AdminSocket {
    /// `admin.address`.
    Tcp(TcpListener),
    /// `admin.socket`.
    Unix(UnixListener),
}

/// Serves until the process ends.
pub(in crate::observer) async fn serve(socket: AdminSocket, admin: Rc<Admin>) {
    let told = Sparse::default();
    loop {
        let accepted = match &socket {
            AdminSocket::Tcp(listener) => {
                listener.accept().await.map(|(stream, peer)| begin(stream, Some(peer.ip()), &admin))
            }
            AdminSocket::Unix(listener) => {
                listener.accept().await.map(|(stream, _)| begin(ByteStream::new(stream), None, &admin))
            }
        };
        if let Err(error) = accepted {
            // Out of descriptors: wait for some to come back.
            if let Some(others) = told.is_due(clock::monotonic()) {
                tracing::warn!(%error, others, "a client of the admin listener could not be accepted");
            }
            sleep(Duration::from_millis(100)).await;
        }
    }
}

/// The place of a connection while it is open.
struct ConnectionSlot {
    id: u64,
    peer: PeerAddress,
    admin: Rc<Admin>,
}

impl Drop for ConnectionSlot {
    fn drop(&mut self) {
        self.admin.connections.borrow_mut().leave(self.id);
    }
}

fn begin(stream: impl AsyncRead + AsyncWrite + Unpin + 'static, peer: PeerAddress, admin: &Rc<Admin>) {
    let id = admin.connections.borrow_mut().admit(peer, Instant::now());
    let place = ConnectionSlot { id, peer, admin: Rc::clone(admin) };
    let task = tokio::task::spawn_local(async move {
        let served = in_time(connection(stream, &place), &place).await;
        if !matches!(served, Some(Ok(()))) {
            tracing::debug!(?served, "a client of the admin listener went away");
        }
        drop(place);
    });
    admin.connections.borrow_mut().serves(id, task.abort_handle());
}

/// What comes of it within the time that the connection has. `None`: that is over.
async fn in_time<T>(served: impl Future<Output = T>, place: &ConnectionSlot) -> Option<T> {
    let mut served = pin!(served);
    loop {
        match timeout(LOOK, &mut served).await {
            Ok(served) => return Some(served),
            Err(_elapsed) if place.admin.connections.borrow().is_over(place.id, Instant::now()) => return None,
            Err(_elapsed) => {}
        }
    }
}

async fn connection(stream: impl AsyncRead + AsyncWrite + Unpin, place: &ConnectionSlot) -> io::Result<()> {
    let tls = place.admin.tls.borrow().clone();
    match tls {
        None => exchange(stream, place, false).await,
        Some(config) => {
            let shaking = TlsAcceptor::from(config).accept(stream).into_fallible();
            let stream = match timeout(ASKS_WITHIN, shaking).await? {
                Ok(stream) => stream,
                Err((error, stream)) => {
                    timeout(GOODBYE, forget(stream)).await.unwrap_or_default();
                    return Err(error);
                }
            };
            // Of a certificate that was asked for, and is good.
            if stream.get_ref().1.peer_certificates().is_some()
                && !place.admin.connections.borrow_mut().is_known(place.id)
            {
                return Err(io::Error::other("there are as many clients as there may be"));
            }
            exchange(stream, place, true).await
        }
    }
}

/// Reads and discards what comes from a client that got a TLS alert: a reset would take the alert with it.
async fn forget(mut stream: impl AsyncRead + AsyncWrite + Unpin) {
    stream.shutdown().await.unwrap_or_default();
    let mut space = vec![0; 1_024];
    while matches!(stream.read(&mut space).await, Ok(1..)) {}
}

/// One request, one response.
async fn exchange(stream: impl AsyncRead + AsyncWrite + Unpin, place: &ConnectionSlot, is_tls: bool) -> io::Result<()> {
    let service = service_fn(|request| async move {
        Ok::<_, Infallible>(place.admin.answer(request, (place.id, place.peer), is_tls).await)
    });
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(ASKS_WITHIN)
        .keep_alive(false)
        .max_buf_size(16 * 1_024)
        .serve_connection(TokioIo::new(stream), service)
        .await
        .map_err(io::Error::other)
}
