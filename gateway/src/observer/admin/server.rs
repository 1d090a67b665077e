//! Accepts connections of the admin listener and serves each one request.
//!
//! *Invariant:* connections are few, short, and one request each: whoever reads slowly holds a place for a while, and
//! nobody else waits for it.

use std::{convert::Infallible, io, rc::Rc, time::Duration};

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

/// How many connections there may be; more are closed.
const MOST: usize = 32;

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
            Socket::Tcp(listener) => listener.accept().await.map(|(stream, _)| begin(stream, &admin)),
            Socket::Unix(listener) => listener.accept().await.map(|(stream, _)| begin(ByteStream::new(stream), &admin)),
        };
        if let Err(error) = accepted {
            // Out of descriptors: wait for some to come back.
            tracing::warn!(%error, "a client of the admin listener could not be accepted");
            sleep(Duration::from_millis(100)).await;
        }
    }
}

/// Counts a connection while it is open.
struct Place(Rc<Admin>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.connections.set(self.0.connections.get().saturating_sub(1));
    }
}

fn begin(stream: impl AsyncRead + AsyncWrite + Unpin + 'static, admin: &Rc<Admin>) {
    let connections = admin.connections.get();
    if connections >= MOST {
        return;
    }
    admin.connections.set(connections + 1);
    let place = Place(Rc::clone(admin));
    tokio::task::spawn_local(async move {
        let served = timeout(WHOLE, connection(stream, &place.0)).await;
        if !matches!(served, Ok(Ok(()))) {
            tracing::debug!(?served, "a client of the admin listener went away");
        }
        drop(place);
    });
}

async fn connection(stream: impl AsyncRead + AsyncWrite + Unpin, admin: &Rc<Admin>) -> io::Result<()> {
    let tls = admin.tls.borrow().clone();
    match tls {
        None => exchange(stream, admin).await,
        Some(config) => {
            let stream = timeout(ASKS_WITHIN, TlsAcceptor::from(config).accept(stream)).await??;
            exchange(stream, admin).await
        }
    }
}

/// One request, one response.
async fn exchange(stream: impl AsyncRead + AsyncWrite + Unpin, admin: &Rc<Admin>) -> io::Result<()> {
    let service = service_fn(|request| {
        let answered = admin.answer(&request);
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
