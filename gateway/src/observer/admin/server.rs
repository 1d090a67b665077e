//! Accepts connections of the admin listener and serves each one request.
//!
//! *Invariant:* connections are few, short, and one request each: whoever reads slowly holds a place for a while, and
//! nobody else waits for it. Whoever has not asked yet gives way.

use std::{convert::Infallible, io, net::IpAddr, rc::Rc, time::Duration};

use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, UnixListener},
    time::{sleep, timeout},
};
use tokio_rustls::TlsAcceptor;

use super::Admin;
use crate::message::byte_stream::ByteStream;

/// How long a client may take to shake hands and to ask.
const ASKS_WITHIN: Duration = Duration::from_secs(5);

/// How long all of it may take.
const WHOLE: Duration = Duration::from_secs(30);

/// The listening socket.
pub(in crate::observer) enum Socket {
    /// `admin.address`.
    Tcp(TcpListener),
    /// `admin.socket`.
    Unix(UnixListener),
}

/// Serves until the process ends.
pub(in crate::observer) async fn serve(socket: Socket, admin: Rc<Admin>) {
    loop {
        let accepted = match &socket {
            Socket::Tcp(listener) => {
                listener.accept().await.map(|(stream, peer)| begin(stream, Some(peer.ip()), &admin))
            }
            Socket::Unix(listener) => {
                listener.accept().await.map(|(stream, _)| begin(ByteStream::new(stream), None, &admin))
            }
        };
        if let Err(error) = accepted {
            // Out of descriptors: wait for some to come back.
            tracing::warn!(%error, "a client of the admin listener could not be accepted");
            sleep(Duration::from_millis(100)).await;
        }
    }
}

/// The place of a connection while it is open.
struct Place {
    id: u64,
    admin: Rc<Admin>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.admin.connections.borrow_mut().leave(self.id);
    }
}

fn begin(stream: impl AsyncRead + AsyncWrite + Unpin + 'static, peer: Option<IpAddr>, admin: &Rc<Admin>) {
    let Some(id) = admin.connections.borrow_mut().admit(peer) else { return };
    let place = Place { id, admin: Rc::clone(admin) };
    let task = tokio::task::spawn_local(async move {
        let served = timeout(WHOLE, connection(stream, &place)).await;
        if !matches!(served, Ok(Ok(()))) {
            tracing::debug!(?served, "a client of the admin listener went away");
        }
        drop(place);
    });
    admin.connections.borrow_mut().serves(id, task.abort_handle());
}

async fn connection(stream: impl AsyncRead + AsyncWrite + Unpin, place: &Place) -> io::Result<()> {
    let tls = place.admin.tls.borrow().clone();
    match tls {
        None => exchange(stream, place).await,
        Some(config) => {
            let stream = timeout(ASKS_WITHIN, TlsAcceptor::from(config).accept(stream)).await??;
            exchange(stream, place).await
        }
    }
}

/// One request, one response.
async fn exchange(stream: impl AsyncRead + AsyncWrite + Unpin, place: &Place) -> io::Result<()> {
    let service = service_fn(|request| {
        place.admin.connections.borrow_mut().asks(place.id);
        let answered = place.admin.answer(&request);
        async { Ok::<_, Infallible>(answered) }
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
